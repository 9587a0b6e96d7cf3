//! A framework's own executor, whole: it answers each task with its data and ends it. The tests start it under the
//! keeper.

use bytes::Bytes;
use mezzo_model::ids::TaskId;
use mezzo_model::{Millis, TaskState};
use mezzo_sdk::executor::{Context, Executor, RunError, run};
use mezzo_wire::v1;

struct Echo;

impl Executor for Echo {
    fn launched(&mut self, context: &mut Context, task: v1::TaskInfo) {
        for state in [TaskState::Running, TaskState::Finished] {
            context.update(v1::TaskStatus {
                task_id: task.task_id.clone(),
                state: state as i32,
                data: task.data.clone(),
                ..Default::default()
            });
        }
    }

    fn kill(&mut self, _: &mut Context, _: &TaskId, _: Option<Millis>) {
        // Every task has ended before a kill can come.
    }

    fn message(&mut self, context: &mut Context, data: Bytes) {
        context.send_message(data);
    }

    fn shutdown(&mut self, context: &mut Context) {
        context.stop();
    }
}

fn main() -> Result<(), RunError> {
    println!("the executor is here");
    run(Echo)
}
