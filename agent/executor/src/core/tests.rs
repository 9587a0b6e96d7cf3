//! Stories of the command executor and of the keeper.

use super::*;
use mezzo_model::{TaskState, Wall};
use mezzo_wire::v1;
use mezzo_wire::v1::executor::{Event, call, event};
use mezzo_wire::v1::task_status::Reason;

struct Env {
    core: Core,
    now: Millis,
    out: Vec<Output>,
}

fn seconds(seconds: u64) -> Millis {
    Millis::from_secs(seconds)
}

impl Env {
    fn with(role: ExecutorRole) -> Self {
        let mut plan = crate::testing::plan("/sandbox", "/run");
        plan.role = role;
        let mut env = Self {
            core: Core::new(&plan, 1),
            now: Millis(10_000),
            out: Vec::new(),
        };
        env.input(Input::Start);
        env
    }

    /// A subscribed executor whose framework has these capabilities.
    fn subscribed(killing: bool) -> Self {
        let mut env = Self::with(ExecutorRole::Command);
        assert_eq!(env.take(), [Output::Connect]);
        env.subscribe(killing);
        env.take();
        env
    }

    /// An executor whose task runs.
    fn running(fill: impl FnOnce(&mut v1::TaskInfo)) -> Self {
        let mut env = Self::subscribed(true);
        env.launch("t1", fill);
        env.payload(PayloadEvent::Started);
        env.acknowledge_all();
        env
    }

    fn input(&mut self, input: Input) {
        let now = Now::new(self.now, Wall(self.now.0));
        self.core.handle(now, input, &mut self.out);
    }

    fn payload(&mut self, event: PayloadEvent) {
        self.input(Input::Payload(event));
    }

    fn subscribe(&mut self, killing: bool) {
        self.input(Input::Driver(DriverInput::Connected));
        let mut info = event::Subscribed::default();
        if killing {
            use v1::framework_info::{Capability, capability::Type};
            let kind = Some(Type::TaskKillingState as i32);
            info.framework_info.capabilities = vec![Capability { r#type: kind }];
        }
        self.event(event::Type::Subscribed, |e| e.subscribed = Some(info));
    }

    fn event(&mut self, kind: event::Type, fill: impl FnOnce(&mut Event)) {
        let mut event = Event {
            r#type: Some(kind as i32),
            ..Default::default()
        };
        fill(&mut event);
        self.input(Input::Driver(DriverInput::Event(Box::new(event))));
    }

    fn launch(&mut self, id: &str, fill: impl FnOnce(&mut v1::TaskInfo)) {
        let mut task = v1::TaskInfo::default();
        task.task_id.value = id.to_owned();
        fill(&mut task);
        self.event(event::Type::Launch, |e| {
            e.launch = Some(event::Launch { task })
        });
    }

    fn kill(&mut self, grace: Option<Millis>) {
        let policy = grace.map(policy);
        self.event(event::Type::Kill, |e| {
            e.kill = Some(event::Kill {
                task_id: v1::TaskId { value: "t1".into() },
                kill_policy: policy,
            });
        });
    }

    fn wait(&mut self, span: Millis) {
        let end = self.now + span;
        while let Some(at) = self.core.next_deadline().filter(|&at| at <= end) {
            assert!(at >= self.now, "a deadline stays in the past");
            self.now = self.now.max(at);
            self.input(Input::Tick);
        }
        self.now = end;
        self.input(Input::Tick);
    }

    fn take(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.out)
    }

    /// Acknowledges every update that was sent and returns all other outputs and the updates.
    fn acknowledge_all(&mut self) -> (Vec<Output>, Vec<v1::TaskStatus>) {
        let (mut others, mut updates) = (Vec::new(), Vec::new());
        loop {
            let out = self.take();
            if out.is_empty() {
                return (others, updates);
            }
            for output in out {
                let update = match &output {
                    Output::Send(call) => call.update.clone(),
                    _ => None,
                };
                let Some(call::Update { status }) = update else {
                    others.push(output);
                    continue;
                };
                let acknowledged = event::Acknowledged {
                    task_id: status.task_id.clone(),
                    uuid: status.uuid.clone().unwrap(),
                };
                updates.push(status);
                self.event(event::Type::Acknowledged, |e| {
                    e.acknowledged = Some(acknowledged);
                });
            }
        }
    }

    /// The one terminal update after the payload ended like this.
    fn end(&mut self, how: How, memory: MemoryReport) -> v1::TaskStatus {
        self.payload(PayloadEvent::Exited(how));
        self.payload(PayloadEvent::Gone(memory));
        let (others, updates) = self.acknowledge_all();
        assert_eq!(others.last(), Some(&Output::Leave), "{others:?}");
        assert!(others.iter().any(|o| matches!(o, Output::Record(_))));
        updates.into_iter().next_back().expect("an update")
    }
}

fn policy(grace: Millis) -> v1::KillPolicy {
    v1::KillPolicy {
        grace_period: Some(v1::DurationInfo {
            nanoseconds: i64::try_from(grace.0).unwrap() * 1_000_000,
        }),
    }
}

fn state(status: &v1::TaskStatus) -> TaskState {
    TaskState::from_number(status.state).unwrap()
}

fn states(updates: &[v1::TaskStatus]) -> Vec<TaskState> {
    updates.iter().map(state).collect()
}

#[test]
fn a_command_starts_runs_and_finishes() {
    let mut env = Env::subscribed(false);
    env.launch("t1", |_| {});
    let (others, updates) = env.acknowledge_all();
    assert_eq!(others, [Output::Start]);
    assert_eq!(states(&updates), [TaskState::Starting]);
    env.payload(PayloadEvent::Started);
    let (others, updates) = env.acknowledge_all();
    assert_eq!(others, []);
    assert_eq!(states(&updates), [TaskState::Running]);
    assert_eq!(updates[0].message, None);
    assert_eq!(updates[0].reason, None);
    env.payload(PayloadEvent::Exited(How::Exited(0)));
    assert_eq!(
        env.take(),
        [Output::Finish],
        "what it left behind is ended first"
    );
    env.payload(PayloadEvent::Gone(MemoryReport::default()));
    let (others, updates) = env.acknowledge_all();
    assert_eq!(states(&updates), [TaskState::Finished]);
    assert_eq!(
        updates[0].message.as_deref(),
        Some("Command exited with status 0")
    );
    let [Output::Record(end), Output::Leave] = others.as_slice() else {
        panic!("{others:?}");
    };
    assert_eq!(end.how, EndedHow::Exited(0));
    assert!(!end.killed);
}

#[test]
fn ends_are_told_apart() {
    let oom = MemoryReport {
        kills: 1,
        limit_bytes: Some(64 << 20),
        peak_bytes: Some(64 << 20),
    };
    let none = MemoryReport::default();
    let end = |how, memory| Env::running(|_| {}).end(how, memory);
    let failed = end(How::Exited(3), none);
    assert_eq!(state(&failed), TaskState::Failed);
    assert_eq!(
        failed.message.as_deref(),
        Some("Command exited with status 3")
    );
    assert_eq!(failed.reason, None);
    let killed = end(How::Signaled(9), none);
    assert_eq!(state(&killed), TaskState::Failed, "killed by somebody else");
    let starved = end(How::Signaled(9), oom);
    assert_eq!(starved.reason(), Reason::ContainerLimitationMemory);
    assert!(starved.message.unwrap().contains("Requested: 64MB"));
    let limits = starved.limitation.unwrap().resources;
    assert_eq!(limits[0].name, "mem");
    assert_eq!(limits[0].scalar.unwrap().value, 64.0);
    // A child was killed for want of memory, and the command coped.
    assert_eq!(state(&end(How::Exited(0), oom)), TaskState::Finished);
}

#[test]
fn a_command_that_cannot_start_says_why() {
    let mut env = Env::subscribed(true);
    env.launch("t1", |_| {});
    env.acknowledge_all();
    env.payload(PayloadEvent::NotStarted("no such file".into()));
    env.payload(PayloadEvent::Gone(MemoryReport::default()));
    let (_, updates) = env.acknowledge_all();
    assert_eq!(states(&updates), [TaskState::Failed], "it never ran");
    assert_eq!(updates[0].message.as_deref(), Some("no such file"));
    assert_eq!(updates[0].reason(), Reason::ContainerLaunchFailed);
}

#[test]
fn a_kill_asks_first_and_forces_after_the_grace() {
    for (kill, task, grace) in [
        (None, None, seconds(3)),
        (None, Some(seconds(7)), seconds(7)),
        (Some(seconds(1)), Some(seconds(7)), seconds(1)),
    ] {
        let mut env = Env::running(|t| t.kill_policy = task.map(policy));
        env.kill(kill);
        let (others, updates) = env.acknowledge_all();
        assert_eq!(others, [Output::Terminate]);
        assert_eq!(states(&updates), [TaskState::Killing]);
        env.wait(grace - Millis(1));
        assert_eq!(env.take(), []);
        env.wait(Millis(1));
        assert_eq!(env.take(), [Output::Finish]);
        let killed = env.end(How::Signaled(9), MemoryReport::default());
        assert_eq!(state(&killed), TaskState::Killed);
        assert_eq!(
            killed.message.as_deref(),
            Some("Command terminated with signal Killed")
        );
    }
}

#[test]
fn a_second_kill_can_only_shorten_the_grace() {
    let mut env = Env::running(|_| {});
    env.kill(Some(seconds(100)));
    env.acknowledge_all();
    env.wait(seconds(10));
    env.kill(Some(seconds(1_000)));
    env.kill(Some(seconds(5)));
    assert_eq!(env.take(), [], "no second SIGTERM, no second KILLING");
    env.wait(seconds(5));
    assert_eq!(env.take(), [Output::Finish]);
    env.kill(Some(seconds(0)));
    assert_eq!(env.take(), []);
}

#[test]
fn a_kill_without_grace_does_not_ask() {
    let mut env = Env::running(|_| {});
    env.kill(Some(Millis::ZERO));
    let (others, _) = env.acknowledge_all();
    assert_eq!(others, [Output::Finish]);
}

#[test]
fn a_kill_while_starting_is_passed_on_when_it_runs() {
    let mut env = Env::subscribed(false);
    env.launch("t1", |_| {});
    env.kill(None);
    env.acknowledge_all();
    env.payload(PayloadEvent::Started);
    let (others, updates) = env.acknowledge_all();
    assert_eq!(others, [Output::Terminate]);
    assert_eq!(
        states(&updates),
        [TaskState::Running],
        "KILLING is not wanted"
    );
}

#[test]
fn a_killed_task_is_killed_however_it_ends() {
    for how in [How::Exited(0), How::Exited(143), How::Signaled(15)] {
        let mut env = Env::running(|_| {});
        env.kill(None);
        let killed = env.end(how, MemoryReport::default());
        assert_eq!(state(&killed), TaskState::Killed);
        assert_eq!(killed.message, Some(words::ended(how)));
    }
}

#[test]
fn a_kill_after_the_end_changes_nothing() {
    let mut env = Env::running(|_| {});
    env.payload(PayloadEvent::Exited(How::Exited(0)));
    env.kill(None);
    env.payload(PayloadEvent::Gone(MemoryReport::default()));
    let (_, updates) = env.acknowledge_all();
    assert_eq!(states(&updates), [TaskState::Finished]);
}

#[test]
fn what_cannot_be_killed_is_reported_all_the_same() {
    let mut env = Env::running(|_| {});
    env.kill(Some(Millis::ZERO));
    env.wait(seconds(31));
    let (others, updates) = env.acknowledge_all();
    assert_eq!(state(updates.last().unwrap()), TaskState::Killed);
    let message = updates.last().unwrap().message.as_deref().unwrap();
    assert!(message.contains("could not be ended"), "{message}");
    assert_eq!(others.last(), Some(&Output::Leave));
    // And when only what it left behind hangs.
    let mut env = Env::running(|_| {});
    env.payload(PayloadEvent::Exited(How::Exited(0)));
    env.wait(seconds(31));
    let (_, updates) = env.acknowledge_all();
    assert_eq!(state(updates.last().unwrap()), TaskState::Finished);
    env.payload(PayloadEvent::Gone(MemoryReport::default()));
    assert_eq!(env.take(), [], "the end is told once");
}

#[test]
fn a_task_that_runs_too_long_fails_without_grace() {
    let mut env = Env::running(|task| {
        task.max_completion_time = Some(v1::DurationInfo {
            nanoseconds: 5_000_000_000,
        });
        task.kill_policy = Some(policy(seconds(60)));
    });
    env.wait(seconds(5) - Millis(1));
    assert_eq!(env.take(), []);
    env.wait(Millis(1));
    let (others, updates) = env.acknowledge_all();
    assert_eq!(others, [Output::Finish]);
    assert_eq!(states(&updates), [], "KILLING is for those who are asked");
    let failed = env.end(How::Signaled(9), MemoryReport::default());
    assert_eq!(state(&failed), TaskState::Failed);
    assert_eq!(failed.reason(), Reason::MaxCompletionTimeReached);
}

#[test]
fn one_executor_runs_one_command() {
    let mut env = Env::running(|_| {});
    env.launch("t2", |_| {});
    let (others, updates) = env.acknowledge_all();
    assert_eq!(others, []);
    assert_eq!(updates[0].task_id.value, "t2");
    assert_eq!(state(&updates[0]), TaskState::Failed);
    env.event(event::Type::LaunchGroup, |e| {
        let mut member = v1::TaskInfo::default();
        member.task_id.value = "m1".into();
        let task_group = v1::TaskGroupInfo {
            tasks: vec![member],
        };
        e.launch_group = Some(event::LaunchGroup { task_group });
    });
    let (_, updates) = env.acknowledge_all();
    assert!(
        updates[0]
            .message
            .as_deref()
            .unwrap()
            .contains("task groups")
    );
    env.event(event::Type::Kill, |e| {
        let task_id = v1::TaskId { value: "t9".into() };
        e.kill = Some(event::Kill {
            task_id,
            kill_policy: None,
        });
    });
    assert!(matches!(env.take().as_slice(), [Output::Note(_)]));
}

#[test]
fn a_task_with_an_impossible_check_is_refused_and_the_executor_leaves() {
    let mut env = Env::subscribed(false);
    env.launch("t1", |task| task.health_check = Some(Default::default()));
    let (others, updates) = env.acknowledge_all();
    assert_eq!(others, [Output::Leave]);
    assert_eq!(updates[0].reason(), Reason::TaskInvalid);
}

#[test]
fn health_travels_with_the_updates_and_an_unhealthy_task_is_ended() {
    let mut env = Env::running(|task| {
        task.health_check = Some(v1::HealthCheck {
            command: Some(v1::CommandInfo {
                value: Some("false".into()),
                ..Default::default()
            }),
            delay_seconds: Some(0.0),
            grace_period_seconds: Some(0.0),
            consecutive_failures: Some(2),
            ..Default::default()
        });
    });
    let kind = CheckKind::Health;
    for (run, outcome, healthy) in [(1, 0, true), (2, 1, false), (3, 1, false)] {
        env.wait(seconds(10));
        let out = env.take();
        if run > 1 {
            assert!(matches!(out[0], Output::StartCheck { .. }), "{out:?}");
        }
        let outcome = Outcome::Exited(outcome);
        env.input(Input::Check { kind, run, outcome });
        let (others, updates) = env.acknowledge_all();
        assert_eq!(state(&updates[0]), TaskState::Running);
        assert_eq!(updates[0].healthy, Some(healthy));
        assert_eq!(updates[0].reason(), Reason::TaskHealthCheckStatusUpdated);
        if run == 3 {
            assert_eq!(others, [Output::Terminate]);
            assert_eq!(state(&updates[1]), TaskState::Killing);
            assert_eq!(updates[1].healthy, None);
        }
    }
    let killed = env.end(How::Signaled(15), MemoryReport::default());
    assert_eq!(state(&killed), TaskState::Killed);
    assert_eq!(killed.healthy, Some(false));
}

#[test]
fn the_last_word_waits_for_the_agent() {
    let mut env = Env::running(|_| {});
    env.input(Input::Driver(DriverInput::Disconnected("gone".into())));
    env.payload(PayloadEvent::Exited(How::Exited(0)));
    env.payload(PayloadEvent::Gone(MemoryReport::default()));
    env.input(Input::Driver(DriverInput::Unreachable { watched: true }));
    env.wait(seconds(600));
    assert!(
        !env.take().contains(&Output::Leave),
        "ten minutes are not too long"
    );
    env.subscribe(true);
    let out = env.take();
    let Some(Output::Send(call)) = out.first() else {
        panic!("{out:?}");
    };
    let said = &call.subscribe.as_ref().unwrap().unacknowledged_updates;
    assert_eq!(state(&said[0].status), TaskState::Finished);
    env.wait(seconds(60));
    assert!(
        env.take().contains(&Output::Leave),
        "an agent that listens has a minute"
    );
}

#[test]
fn an_agent_that_stays_away_ends_the_task() {
    let mut env = Env::running(|_| {});
    env.input(Input::Driver(DriverInput::Disconnected("gone".into())));
    env.input(Input::Driver(DriverInput::Unreachable { watched: true }));
    env.wait(seconds(899));
    assert!(!env.take().contains(&Output::Terminate));
    env.wait(seconds(1));
    assert!(env.take().contains(&Output::Terminate));
    env.payload(PayloadEvent::Exited(How::Signaled(15)));
    env.payload(PayloadEvent::Gone(MemoryReport::default()));
    assert!(env.take().contains(&Output::Leave));
}

#[test]
fn shutdown_ends_the_task_and_the_executor() {
    let mut env = Env::running(|_| {});
    env.event(event::Type::Shutdown, |_| {});
    let (others, updates) = env.acknowledge_all();
    assert!(others.contains(&Output::Terminate));
    assert_eq!(states(&updates), [TaskState::Killing]);
    env.wait(seconds(5));
    assert!(
        env.take().contains(&Output::Finish),
        "the shutdown grace is over"
    );
    let killed = env.end(How::Signaled(9), MemoryReport::default());
    assert_eq!(state(&killed), TaskState::Killed);
}

#[test]
fn a_dead_agent_after_a_shutdown_holds_nobody() {
    let mut env = Env::running(|_| {});
    env.event(event::Type::Shutdown, |_| {});
    env.input(Input::Driver(DriverInput::Disconnected("gone".into())));
    env.input(Input::Driver(DriverInput::Unreachable { watched: true }));
    env.payload(PayloadEvent::Exited(How::Signaled(15)));
    env.payload(PayloadEvent::Gone(MemoryReport::default()));
    assert!(!env.take().contains(&Output::Leave));
    env.wait(seconds(60));
    assert!(env.take().contains(&Output::Leave));
}

#[test]
fn without_a_task_a_shutdown_is_the_end() {
    for shutdown in [
        Input::Terminate,
        Input::Driver(DriverInput::Refused("who are you".into())),
    ] {
        let mut env = Env::with(ExecutorRole::Command);
        env.input(shutdown);
        assert!(env.take().contains(&Output::Leave));
    }
    let mut env = Env::subscribed(false);
    env.event(event::Type::Shutdown, |_| {});
    assert!(env.take().contains(&Output::Leave));
}

#[test]
fn a_lost_leash_is_a_failure_with_a_reason() {
    let mut env = Env::running(|_| {});
    env.payload(PayloadEvent::Lost);
    env.payload(PayloadEvent::Gone(MemoryReport::default()));
    let (_, updates) = env.acknowledge_all();
    assert_eq!(state(&updates[0]), TaskState::Failed);
    assert_eq!(updates[0].reason(), Reason::ExecutorTerminated);
}

#[test]
fn a_keeper_starts_keeps_and_records() {
    let mut env = Env::with(ExecutorRole::Custom);
    assert_eq!(env.take(), [Output::Start], "it dials nobody");
    env.payload(PayloadEvent::Started);
    env.input(Input::Terminate);
    assert_eq!(env.take(), [Output::Terminate]);
    env.wait(seconds(5));
    assert_eq!(env.take(), [Output::Finish]);
    env.payload(PayloadEvent::Exited(How::Signaled(9)));
    env.payload(PayloadEvent::Gone(MemoryReport::default()));
    let out = env.take();
    let [Output::Finish, Output::Record(end), Output::Leave] = out.as_slice() else {
        panic!("{out:?}");
    };
    assert_eq!(end.how, EndedHow::Signaled(9));
    assert!(end.killed);
}
