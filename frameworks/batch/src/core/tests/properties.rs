//! Random histories: whatever is lost, repeated or late, each run has one result and each task is launched once.

use std::collections::{BTreeMap, BTreeSet};

use mezzo_coordination::CommitError;
use mezzo_model::ids::TaskId;
use mezzo_model::task_state::TaskState;
use mezzo_model::time::Millis;
use mezzo_sdk::scheduler::{AckToken, SchedulerCommand, SchedulerEvent};
use mezzo_wire::v1;
use proptest::prelude::*;
use serde_json::json;

use crate::core::testing::{Env, job_id};
use crate::core::{Call, Input, Reply, RunId, RunStatus};

#[derive(Clone, Debug)]
enum Step {
    Start,
    Stop(usize),
    Offer,
    Rescind,
    Disconnect,
    Restart,
    Commit,
    CommitInDoubt(bool),
    Progress(usize, bool),
    Repeat(usize),
    Pass(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Start),
        1 => any::<usize>().prop_map(Step::Stop),
        6 => Just(Step::Offer),
        1 => Just(Step::Rescind),
        1 => Just(Step::Disconnect),
        1 => Just(Step::Restart),
        12 => Just(Step::Commit),
        1 => any::<bool>().prop_map(Step::CommitInDoubt),
        12 => (any::<usize>(), any::<bool>()).prop_map(|(which, good)| Step::Progress(which, good)),
        4 => any::<usize>().prop_map(Step::Repeat),
        2 => any::<u16>().prop_map(Step::Pass),
    ]
}

/// The cluster as it really is: tasks with streams of statuses, each repeated until acknowledged.
#[derive(Default)]
struct World {
    states: BTreeMap<TaskId, TaskState>,
    heads: BTreeMap<TaskId, v1::TaskStatus>,
    launched: BTreeSet<TaskId>,
    begun_by_run: BTreeMap<String, usize>,
    promised: Vec<RunId>,
    stopped: BTreeSet<RunId>,
    finished: Vec<String>,
    connected: bool,
}

impl World {
    fn carry_out(&mut self, env: &mut Env) {
        while let Some(command) = env.commands.pop_front() {
            match command {
                SchedulerCommand::Accept { operations, .. } => {
                    for operation in operations {
                        for info in operation
                            .launch
                            .into_iter()
                            .flat_map(|launch| launch.task_infos)
                        {
                            let task = TaskId::from_wire(&info.task_id).expect("good");
                            assert!(
                                self.launched.insert(task.clone()),
                                "{task} was launched twice"
                            );
                            self.states.insert(task, TaskState::Staging);
                        }
                    }
                }
                SchedulerCommand::Acknowledge(ack) => {
                    let acked = |head: &v1::TaskStatus| AckToken::of(head) == ack;
                    for (task, _) in self.heads.extract_if(.., |_, head| acked(head)) {
                        // A cluster forgets a task whose end was acknowledged.
                        if self
                            .states
                            .get(&task)
                            .is_some_and(|state| state.is_terminal())
                        {
                            self.states.remove(&task);
                        }
                    }
                }
                SchedulerCommand::Kill { task, .. } => self.end(env, &task, TaskState::Killed),
                SchedulerCommand::Reconcile(tasks) => {
                    let all: Vec<TaskId> = self.states.keys().cloned().collect();
                    let asked = tasks.into_iter().map(|(task, _)| task).collect::<Vec<_>>();
                    let asked = if asked.is_empty() { all } else { asked };
                    for task in asked {
                        let state = self.states.get(&task).copied().unwrap_or(TaskState::Gone);
                        env.answer(&task, state);
                    }
                }
                SchedulerCommand::Decline { .. }
                | SchedulerCommand::Revive { .. }
                | SchedulerCommand::Suppress { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn end(&mut self, env: &mut Env, task: &TaskId, state: TaskState) {
        let live = self
            .states
            .get(task)
            .is_some_and(|state| !state.is_terminal());
        if live {
            self.states.insert(task.clone(), state);
            let status = env.status(task, state);
            self.heads.insert(task.clone(), status);
        }
    }

    /// A task goes on by one state, unless its last status is not acknowledged.
    fn progress(&mut self, env: &mut Env, which: usize, good: bool) {
        let live: Vec<TaskId> = self
            .states
            .iter()
            .filter(|(task, state)| !state.is_terminal() && !self.heads.contains_key(*task))
            .map(|(task, _)| task.clone())
            .collect();
        let Some(task) = live.get(which % live.len().max(1)).cloned() else {
            return;
        };
        let next = match self.states[&task] {
            TaskState::Staging => TaskState::Starting,
            TaskState::Starting => TaskState::Running,
            _ if good => TaskState::Finished,
            _ => TaskState::Failed,
        };
        if next == TaskState::Running {
            let run = task
                .as_str()
                .split(".instance")
                .next()
                .unwrap_or_default()
                .to_owned();
            *self.begun_by_run.entry(run).or_default() += 1;
        }
        if next == TaskState::Finished {
            self.finished.push(task.as_str().to_owned());
        }
        self.states.insert(task.clone(), next);
        let status = env.status(&task, next);
        self.heads.insert(task, status.clone());
        if self.connected {
            env.deliver(status);
        }
    }

    fn repeat(&mut self, env: &mut Env, which: usize) {
        let heads: Vec<v1::TaskStatus> = self.heads.values().cloned().collect();
        if let Some(head) = heads
            .get(which % heads.len().max(1))
            .filter(|_| self.connected)
        {
            env.deliver(head.clone());
        }
    }

    fn connect(&mut self, env: &mut Env) {
        let framework_id = mezzo_model::ids::FrameworkId::parse("f-1").expect("good");
        let event = SchedulerEvent::Subscribed {
            framework_id,
            resubscribed: true,
        };
        env.input(Input::Scheduler(event));
        self.connected = true;
    }
}

fn play(steps: &[Step], restart: serde_json::Value) -> (Env, World) {
    let mut env = Env::new();
    env.job("j", json!({"restart": restart}));
    env.slow = true;
    let mut world = World {
        connected: true,
        ..World::default()
    };
    for step in steps {
        match step {
            Step::Start => drop(env.ask(Call::StartRun { job: job_id("j") })),
            Step::Stop(which) => {
                if let Some(run) = world
                    .promised
                    .get(which % world.promised.len().max(1))
                    .cloned()
                {
                    world.stopped.insert(run.clone());
                    env.ask(Call::StopRun {
                        job: job_id("j"),
                        run,
                    });
                }
            }
            Step::Offer if world.connected => drop(env.offer("cpus:2;mem:1000")),
            Step::Rescind => {
                let offer = env.last_offer();
                env.input(Input::Scheduler(SchedulerEvent::Rescind(offer)));
            }
            Step::Disconnect if world.connected => {
                env.input(Input::Scheduler(SchedulerEvent::Disconnected));
                world.connected = false;
            }
            Step::Offer | Step::Disconnect => world.connect(&mut env),
            Step::Restart => {
                env.restart();
                world.connect(&mut env);
            }
            Step::Commit if !env.under_way.is_empty() => env.commit(),
            Step::CommitInDoubt(stored) if !env.under_way.is_empty() => {
                env.fail_commit(CommitError::Unavailable, *stored);
            }
            Step::Commit | Step::CommitInDoubt(_) => {}
            Step::Progress(which, good) => world.progress(&mut env, *which, *good),
            Step::Repeat(which) => world.repeat(&mut env, *which),
            Step::Pass(millis) => env.pass(Millis(u64::from(*millis))),
        }
        world.carry_out(&mut env);
        while let Some((_, reply)) = env.replies.pop_front() {
            if let Reply::Run(run) = reply
                && run.status == RunStatus::Starting
            {
                world.promised.push(run.key.run);
            }
        }
    }
    (env, world)
}

/// Everything is healed; what was promised must come to its end.
fn heal(env: &mut Env, world: &mut World) {
    env.slow = false;
    while !env.under_way.is_empty() {
        env.commit();
    }
    if !world.connected {
        world.connect(env);
    }
    for _ in 0..20_000 {
        world.carry_out(env);
        env.replies.clear();
        let settled = env.core.is_settled() && env.under_way.is_empty();
        if settled && env.core.totals().active_runs == 0 && world.heads.is_empty() {
            return;
        }
        world.repeat(env, 0);
        world.progress(env, 0, true);
        if env.core.totals().queued_runs > 0 {
            env.offer("cpus:4;mem:1000");
        }
        env.pass(Millis(500));
    }
    panic!("{:?}: runs do not come to their end", env.core.totals());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    #[test]
    fn each_run_has_one_result(steps in proptest::collection::vec(step(), 1..120), again: bool) {
        let policy = if again { "ON_FAILURE" } else { "NEVER" };
        let (mut env, mut world) = play(&steps, json!({"policy": policy}));
        heal(&mut env, &mut world);
        let history = env.history("j");
        let mut ended: Vec<&RunId> =
            history.successful.iter().chain(&history.failed).map(|run| &run.id).collect();
        ended.sort_unstable();
        let before = ended.len();
        ended.dedup();
        prop_assert_eq!(ended.len(), before, "a run ended twice");
        prop_assert_eq!(history.success_count + history.failure_count, before as u64);
        for run in &world.promised {
            prop_assert!(ended.contains(&run), "{} was promised and is gone", run);
        }
        for run in history.failed.iter().filter(|run| !world.stopped.contains(&run.id)) {
            let finished = world.finished.iter().any(|task| task.contains(run.id.as_str()));
            prop_assert!(!finished, "{} failed, but its task finished", run.id);
        }
        if !again {
            for (run, times) in &world.begun_by_run {
                prop_assert!(*times <= 1, "{} ran {} times", run, times);
            }
        }
        // And it is all the same for the next process.
        env.restart();
        env.subscribe();
        prop_assert_eq!(env.history("j"), history);
    }
}
