//! Executors: what an author of a custom one implements, and the driver that the built-in ones run on too.
//!
//! An executor is started by an agent, tells it how its tasks fare, and outlives it: while the agent is away updates
//! are
//! kept, and said again when it is back. [`run`] is all that an author needs; [`core`], [`link`], [`hello`] and
//! [`frame`] are its
//! parts, for an executor with a loop of its own and for the agent's end of the socket.
//! Invariant: one thread, no runtime, little memory; thousands of executors run on one machine.
//!
//! A whole executor, which ends each task as soon as it got it:
//!
//! ```no_run
//! use mezzo_model::{Millis, TaskState, ids::TaskId};
//! use mezzo_sdk::executor::{Context, Executor, RunError, run};
//! use mezzo_wire::v1;
//!
//! struct Instant;
//!
//! impl Executor for Instant {
//!     fn launched(&mut self, context: &mut Context, task: v1::TaskInfo) {
//!         for state in [TaskState::Running, TaskState::Finished] {
//!             let (task_id, state) = (task.task_id.clone(), state as i32);
//!             context.update(v1::TaskStatus { task_id, state, ..Default::default() });
//!         }
//!     }
//!
//!     fn kill(&mut self, _: &mut Context, _: &TaskId, _: Option<Millis>) {}
//!
//!     fn shutdown(&mut self, context: &mut Context) {
//!         context.stop();
//!     }
//! }
//!
//! fn main() -> Result<(), RunError> {
//!     run(Instant)
//! }
//! ```

pub mod core;
pub mod frame;
pub mod hello;
pub mod link;
mod settings;
mod shell;

use std::io::Write;

use bytes::Bytes;
use mezzo_model::ids::TaskId;
use mezzo_model::{Millis, TaskState};
use mezzo_wire::v1;
use mezzo_wire::v1::executor::event;

pub use settings::{Settings, SettingsError};
pub use shell::{Context, Handle, HandleClosed, RunError, run, run_with};

/// A framework's own executor. All methods are called on one thread, one after another, and must not block for long:
/// while one runs nothing is heard from the agent. Work goes to threads or processes of the executor's own, which
/// report through a [`Handle`].
///
/// A task that was launched must be followed by updates up to a terminal one.
pub trait Executor {
    /// The agent took the executor. `again` if it was subscribed before and the agent came back.
    fn subscribed(&mut self, context: &mut Context, info: &event::Subscribed, again: bool) {
        let _ = (context, info, again);
    }

    /// Run this task. Called once for each task.
    fn launched(&mut self, context: &mut Context, task: v1::TaskInfo);

    /// Run these tasks together or not at all. Default: each is reported as failed, in words.
    fn launched_group(&mut self, context: &mut Context, group: v1::TaskGroupInfo) {
        for task in group.tasks {
            let words = "this executor does not run task groups".to_owned();
            context.update(v1::TaskStatus {
                task_id: task.task_id,
                state: TaskState::Failed as i32,
                message: Some(words),
                ..Default::default()
            });
        }
    }

    /// End this task; `grace` is what the kill asked for, if it did. The task may have ended already.
    fn kill(&mut self, context: &mut Context, task: &TaskId, grace: Option<Millis>);

    /// Bytes from the framework's scheduler.
    fn message(&mut self, context: &mut Context, data: Bytes) {
        let _ = (context, data);
    }

    /// End all tasks, report that, and call [`Context::stop`] when done. After this returns without a stop, the
    /// executor
    /// goes on until the agent's grace period is over.
    fn shutdown(&mut self, context: &mut Context);

    /// The agent is away; tasks go on, updates are kept.
    fn disconnected(&mut self, context: &mut Context) {
        let _ = context;
    }

    /// The agent complained. Default: it is printed to the error output, which is in the sandbox.
    fn error(&mut self, context: &mut Context, words: &str) {
        let _ = context;
        note(&format!("the agent says: {words}"));
    }
}

/// A line on the error output; that it cannot be written (a full disk) is no reason to end.
fn note(words: &str) {
    let _ = writeln!(std::io::stderr(), "executor: {words}");
}

/// The grace period of a kill policy; a negative one counts as none.
pub fn grace_period(policy: Option<&v1::KillPolicy>) -> Option<Millis> {
    let nanoseconds = policy?.grace_period.as_ref()?.nanoseconds;
    let nanoseconds = u64::try_from(nanoseconds).ok()?;
    // Rounded up: a grace of half a millisecond is not none.
    Some(Millis(nanoseconds.div_ceil(1_000_000)))
}
