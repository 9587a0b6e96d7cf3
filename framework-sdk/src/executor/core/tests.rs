//! Stories of a driver and its agent.

use super::*;
use mezzo_model::Wall;

struct Env {
    core: DriverCore,
    now: Millis,
    out: Vec<DriverOutput>,
}

impl Env {
    fn new() -> Self {
        Self::with_recovery(Millis::from_secs(900))
    }

    fn with_recovery(recovery_timeout: Millis) -> Self {
        let mut env = Self {
            core: DriverCore::new(CoreSettings {
                framework_id: "f".into(),
                executor_id: "e".into(),
                recovery_timeout,
                backoff_max: Millis::from_secs(2),
                seed: 7,
            }),
            now: Millis(1_000),
            out: Vec::new(),
        };
        env.input(DriverInput::Start);
        assert_eq!(env.take(), [DriverOutput::Connect]);
        env
    }

    fn input(&mut self, input: DriverInput) {
        let now = Now::new(self.now, Wall(self.now.0));
        self.core.handle(now, input, &mut self.out);
    }

    fn take(&mut self) -> Vec<DriverOutput> {
        std::mem::take(&mut self.out)
    }

    /// Lets time pass to the driver's next deadline.
    fn wait(&mut self) -> Millis {
        let at = self.core.next_deadline().expect("a deadline");
        let waited = at.since(self.now);
        self.now = at;
        self.input(DriverInput::Tick);
        waited
    }

    fn event(&mut self, kind: event::Type, fill: impl FnOnce(&mut Event)) {
        let mut event = Event {
            r#type: Some(kind as i32),
            ..Default::default()
        };
        fill(&mut event);
        self.input(DriverInput::Event(Box::new(event)));
    }

    /// Goes through to SUBSCRIBED and returns what SUBSCRIBE said.
    fn subscribe(&mut self) -> call::Subscribe {
        self.input(DriverInput::Connected);
        let said = calls(&self.take());
        assert_eq!(said.len(), 1);
        assert_eq!(said[0].r#type(), call::Type::Subscribe);
        self.event(event::Type::Subscribed, |e| {
            e.subscribed = Some(Default::default())
        });
        said[0].subscribe.clone().expect("a subscribe message")
    }

    fn launch(&mut self, task: &str) {
        self.event(event::Type::Launch, |event| {
            event.launch = Some(event::Launch {
                task: v1::TaskInfo {
                    task_id: id(task),
                    ..Default::default()
                },
            });
        });
    }

    fn update(&mut self, task: &str, state: TaskState) {
        self.input(DriverInput::Update(Box::new(v1::TaskStatus {
            task_id: id(task),
            state: state as i32,
            ..Default::default()
        })));
    }

    fn acknowledge(&mut self, status: &v1::TaskStatus) {
        let acknowledged = event::Acknowledged {
            task_id: status.task_id.clone(),
            uuid: status.uuid.clone().expect("a uuid"),
        };
        self.event(event::Type::Acknowledged, |e| {
            e.acknowledged = Some(acknowledged)
        });
    }
}

fn id(task: &str) -> v1::TaskId {
    v1::TaskId {
        value: task.to_owned(),
    }
}

fn calls(out: &[DriverOutput]) -> Vec<Call> {
    let sent = out.iter().filter_map(|output| match output {
        DriverOutput::Send(call) => Some((**call).clone()),
        _ => None,
    });
    sent.collect()
}

fn statuses(out: &[DriverOutput]) -> Vec<v1::TaskStatus> {
    let updates = calls(out).into_iter().filter_map(|call| call.update);
    updates.map(|update| update.status).collect()
}

fn shutdown(out: &[DriverOutput]) -> Option<&ShutdownReason> {
    out.iter().find_map(|output| match output {
        DriverOutput::Deliver(ExecutorEvent::Shutdown(reason)) => Some(reason),
        _ => None,
    })
}

#[test]
fn an_update_is_complete_and_forgotten_once_acknowledged() {
    let mut env = Env::new();
    env.subscribe();
    env.launch("t");
    env.take();
    env.update("t", TaskState::Running);
    let said = statuses(&env.take());
    let status = &said[0];
    assert_eq!(status.uuid.as_ref().map(Bytes::len), Some(16));
    assert_eq!(status.timestamp, Some(1.0));
    assert_eq!(status.source(), v1::task_status::Source::Executor);
    assert_eq!(
        status.executor_id.as_ref().map(|e| e.value.as_str()),
        Some("e")
    );
    assert_eq!(env.core.unacknowledged(), 1);
    env.acknowledge(status);
    assert_eq!(
        env.take(),
        [DriverOutput::Deliver(ExecutorEvent::Acknowledged {
            task_id: TaskId::parse("t").unwrap(),
            state: TaskState::Running,
        })]
    );
    assert_eq!(env.core.unacknowledged(), 0);
    env.acknowledge(status);
    assert_eq!(env.take(), [], "a second acknowledgement says nothing");
}

#[test]
fn what_the_agent_did_not_acknowledge_is_said_again_in_order() {
    let mut env = Env::new();
    env.subscribe();
    env.launch("t");
    env.update("t", TaskState::Starting);
    env.update("t", TaskState::Running);
    let said = statuses(&env.take());
    env.acknowledge(&said[0]);
    env.input(DriverInput::Disconnected("gone".into()));
    assert!(env.take().contains(&DriverOutput::Connect));
    env.update("t", TaskState::Finished);
    assert!(statuses(&env.take()).is_empty(), "nobody listens");
    let again = env.subscribe();
    let states: Vec<_> = again
        .unacknowledged_updates
        .iter()
        .map(|u| u.status.state)
        .collect();
    assert_eq!(
        states,
        [TaskState::Running as i32, TaskState::Finished as i32]
    );
    assert_eq!(
        again.unacknowledged_updates[0].status, said[1],
        "the same uuid and time"
    );
    assert!(
        again.unacknowledged_tasks.is_empty(),
        "STARTING was acknowledged"
    );
    assert!(statuses(&env.take()).is_empty(), "SUBSCRIBE has said them");
}

#[test]
fn a_task_of_which_nothing_was_acknowledged_is_named_again_and_not_run_twice() {
    let mut env = Env::new();
    env.subscribe();
    env.launch("t");
    env.take();
    env.input(DriverInput::Disconnected("gone".into()));
    env.take();
    let again = env.subscribe();
    assert_eq!(again.unacknowledged_tasks.len(), 1);
    env.take();
    env.launch("t");
    let out = env.take();
    assert!(matches!(out.as_slice(), [DriverOutput::Note(_)]), "{out:?}");
}

#[test]
fn an_id_may_be_used_again_after_its_end_is_acknowledged() {
    let mut env = Env::new();
    env.subscribe();
    env.launch("t");
    env.update("t", TaskState::Finished);
    let said = statuses(&env.take());
    env.acknowledge(&said[0]);
    env.take();
    env.launch("t");
    assert!(matches!(
        env.take().as_slice(),
        [DriverOutput::Deliver(ExecutorEvent::Launch(_))]
    ));
}

#[test]
fn an_update_between_subscribe_and_subscribed_is_said_once() {
    let mut env = Env::new();
    env.input(DriverInput::Connected);
    env.take();
    env.update("t", TaskState::Running);
    assert!(env.take().is_empty());
    env.event(event::Type::Subscribed, |e| {
        e.subscribed = Some(Default::default())
    });
    assert_eq!(statuses(&env.take()).len(), 1);
}

#[test]
fn a_gone_agent_ends_the_executor_after_the_recovery_timeout() {
    let mut env = Env::with_recovery(Millis::from_secs(100));
    env.subscribe();
    env.take();
    env.input(DriverInput::Disconnected("gone".into()));
    env.input(DriverInput::Unreachable { watched: true });
    env.take();
    // A handful of attempts, then silence until the end.
    let mut told_at = Millis::ZERO;
    let mut attempts = 0;
    while told_at == Millis::ZERO {
        env.wait();
        let out = env.take();
        if out.contains(&DriverOutput::Connect) {
            attempts += 1;
            env.input(DriverInput::Unreachable { watched: true });
        }
        if let Some(reason) = shutdown(&out) {
            assert_eq!(*reason, ShutdownReason::AgentGone);
            told_at = env.now;
        }
    }
    assert_eq!(told_at.since(Millis(1_000)), Millis::from_secs(100));
    assert_eq!(attempts, TRIES_MAX - 1);
    assert_eq!(env.core.next_deadline(), None, "the wait is over");
    // It can still deliver what it knows if the agent comes back.
    env.input(DriverInput::Appeared);
    assert!(env.take().contains(&DriverOutput::Connect));
}

#[test]
fn an_executor_without_recovery_ends_at_once_but_is_given_time_to_register() {
    let mut env = Env::with_recovery(Millis::ZERO);
    env.input(DriverInput::Unreachable { watched: true });
    assert_eq!(shutdown(&env.take()), None);
    env.subscribe();
    env.take();
    env.input(DriverInput::Disconnected("gone".into()));
    assert_eq!(shutdown(&env.take()), Some(&ShutdownReason::AgentGone));
}

#[test]
fn without_a_watch_attempts_go_on_with_growing_pauses() {
    let mut env = Env::new();
    let mut last = Millis::ZERO;
    for _ in 0..40 {
        env.input(DriverInput::Unreachable { watched: false });
        last = env.wait();
        assert!(env.take().contains(&DriverOutput::Connect));
        assert!(last <= Millis::from_secs(2));
    }
    assert!(last >= Millis::from_secs(1), "{last:?}");
    env.input(DriverInput::Appeared);
    assert_eq!(
        env.take(),
        [DriverOutput::Connect],
        "an event ends the wait"
    );
}

#[test]
fn an_agent_that_hangs_up_before_subscribed_is_not_stormed() {
    let mut env = Env::new();
    let mut waits = Vec::new();
    for _ in 0..12 {
        env.input(DriverInput::Connected);
        env.input(DriverInput::Disconnected("closed".into()));
        let out = env.take();
        assert!(!out.contains(&DriverOutput::Connect), "a pause first");
        waits.push(env.wait());
        assert!(env.take().contains(&DriverOutput::Connect));
    }
    assert!(waits[11] >= Millis(1_000), "{waits:?}");
}

#[test]
fn a_refused_executor_leaves_and_dials_no_more() {
    let mut env = Env::new();
    env.input(DriverInput::Refused("unknown executor".into()));
    let reason = ShutdownReason::Refused("unknown executor".into());
    assert_eq!(shutdown(&env.take()), Some(&reason));
    assert!(env.core.is_over());
    env.update("t", TaskState::Killed);
    env.input(DriverInput::Appeared);
    env.input(DriverInput::Tick);
    assert_eq!(env.take(), []);
    assert_eq!(env.core.next_deadline(), None);
}

#[test]
fn shutdown_is_heard_even_instead_of_subscribed_and_only_once() {
    let mut env = Env::new();
    env.input(DriverInput::Connected);
    env.take();
    env.event(event::Type::Shutdown, |_| {});
    env.event(event::Type::Shutdown, |_| {});
    assert_eq!(
        env.take(),
        [DriverOutput::Deliver(ExecutorEvent::Shutdown(
            ShutdownReason::Asked
        ))]
    );
}

#[test]
fn both_sides_beat_a_heart() {
    let mut env = Env::new();
    env.subscribe();
    env.take();
    assert_eq!(env.wait(), HEARTBEAT_MS);
    let said = calls(&env.take());
    assert_eq!(said[0].r#type(), call::Type::Heartbeat);
    assert_eq!(env.wait(), HEARTBEAT_MS);
}

#[test]
fn odd_events_change_nothing() {
    let mut env = Env::new();
    env.event(event::Type::Kill, |_| {});
    assert_eq!(env.take(), [], "nothing is heard before the hello");
    env.subscribe();
    env.take();
    for kind in [
        event::Type::Kill,
        event::Type::Launch,
        event::Type::LaunchGroup,
        event::Type::Acknowledged,
        event::Type::Message,
        event::Type::Subscribed,
    ] {
        env.event(kind, |_| {});
        assert_eq!(env.take(), [], "{kind:?} without its message");
    }
    env.launch("../etc");
    assert!(matches!(env.take().as_slice(), [DriverOutput::Note(_)]));
    env.update("t", TaskState::Staging);
    assert!(matches!(env.take().as_slice(), [DriverOutput::Note(_)]));
    assert_eq!(env.core.unacknowledged(), 0);
}

#[test]
fn stale_updates_give_way_when_too_many_wait() {
    let mut env = Env::new();
    env.update("a", TaskState::Running);
    for _ in 0..1_500 {
        env.update("t", TaskState::Running);
    }
    env.update("t", TaskState::Finished);
    assert_eq!(env.core.unacknowledged(), 1_000);
    let said = env.subscribe().unacknowledged_updates;
    assert_eq!(
        said[0].status.task_id.value, "a",
        "the only word on that task"
    );
    let last = said.last().map(|update| update.status.state);
    assert_eq!(last, Some(TaskState::Finished as i32));
}
