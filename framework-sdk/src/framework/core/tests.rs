//! Stories of what is stored before what, and of what waits for what.

use std::collections::BTreeMap;

use mezzo_model::Wall;
use mezzo_model::ids::{FrameworkId, OfferId};

use super::*;
use crate::framework::Decline;

/// Launches one task for each offer, and counts what it is told.
#[derive(Debug, Default)]
struct Simple {
    told: Vec<String>,
    timers: u32,
}

impl Scheduler for Simple {
    fn subscribed(&mut self, cx: &mut Context<'_>, _: &FrameworkId, _: bool) {
        cx.set_timer(1, Millis(5_000));
    }

    fn offers(&mut self, cx: &mut Context<'_>, offers: Vec<v1::Offer>) {
        for (nth, offer) in offers.iter().enumerate() {
            let task = v1::TaskInfo {
                name: "t".into(),
                task_id: v1::TaskId {
                    value: format!("t{nth}"),
                },
                agent_id: v1::AgentId { value: "a1".into() },
                ..Default::default()
            };
            let id = OfferId::from_wire(&offer.id).expect("good");
            cx.launch(vec![id], vec![task], Decline::DoesNotFit);
        }
    }

    fn update(&mut self, _: &mut Context<'_>, status: &v1::TaskStatus) {
        self.told.push(format!(
            "{} {}",
            status.task_id.value,
            status.state().as_str_name()
        ));
    }

    fn timer(&mut self, cx: &mut Context<'_>, _: u64) {
        self.timers += 1;
        if self.timers == 3 {
            cx.stop();
        }
        cx.set_timer(1, Millis(5_000));
    }
}

struct Bench {
    core: FrameworkCore<Simple>,
    now: Now,
    out: VecDeque<FrameworkOutput>,
}

impl Bench {
    fn new(durable: bool) -> Self {
        Self::with(Kept::default(), durable)
    }

    fn with(kept: Kept, durable: bool) -> Self {
        Self {
            core: FrameworkCore::new(Simple::default(), kept, durable, 1),
            now: Now::new(Millis(1_000), Wall(0)),
            out: VecDeque::new(),
        }
    }

    fn input(&mut self, input: FrameworkInput) {
        let mut out = Vec::new();
        self.core.handle(self.now, input, &mut out);
        self.out.extend(out);
    }

    fn offers(&mut self, count: usize) {
        let offer = |nth| v1::Offer {
            id: v1::OfferId {
                value: format!("o{nth}"),
            },
            agent_id: v1::AgentId { value: "a1".into() },
            ..Default::default()
        };
        let offers = (0..count).map(offer).collect();
        self.input(FrameworkInput::Event(SchedulerEvent::Offers(offers)));
    }

    fn update(&mut self, task: &str, state: v1::TaskState) {
        let status = v1::TaskStatus {
            task_id: v1::TaskId { value: task.into() },
            agent_id: Some(v1::AgentId { value: "a1".into() }),
            state: state as i32,
            uuid: Some(vec![1; 16].into()),
            ..Default::default()
        };
        let ack = AckToken::of(&status);
        self.input(FrameworkInput::Event(SchedulerEvent::Update {
            status,
            ack,
        }));
    }

    fn commit(&mut self) -> (u64, Txn) {
        match self.out.pop_front() {
            Some(FrameworkOutput::Commit { id, txn }) => (id, txn),
            other => panic!("expected a commit, got {other:?}"),
        }
    }

    fn command(&mut self) -> SchedulerCommand {
        match self.out.pop_front() {
            Some(FrameworkOutput::Command(command)) => command,
            other => panic!("expected a command, got {other:?}"),
        }
    }

    fn committed(&mut self, id: u64, result: Result<(), CommitError>) {
        self.input(FrameworkInput::Committed { id, result });
    }

    fn quiet(&self) {
        assert_eq!(self.out, []);
    }
}

fn task(id: &str) -> TaskId {
    TaskId::parse(id).expect("a good id")
}

#[test]
fn a_launch_is_stored_before_it_is_asked_for() {
    let mut bench = Bench::new(true);
    bench.offers(2);
    let (id, txn) = bench.commit();
    let keys: Vec<&str> = txn.ops.iter().map(Op::key).collect();
    assert_eq!(keys, ["launches/t0", "launches/t1"]);
    bench.quiet();
    bench.committed(id + 1, Ok(()));
    bench.quiet();
    bench.committed(id, Ok(()));
    assert!(matches!(bench.command(), SchedulerCommand::Accept { .. }));
    assert!(matches!(bench.command(), SchedulerCommand::Accept { .. }));
    bench.quiet();
}

#[test]
fn without_a_store_nothing_waits() {
    let mut bench = Bench::new(false);
    bench.offers(1);
    assert!(matches!(bench.command(), SchedulerCommand::Accept { .. }));
    bench.update("t0", v1::TaskState::TaskFinished);
    assert!(matches!(bench.command(), SchedulerCommand::Acknowledge(_)));
    bench.quiet();
}

#[test]
fn an_end_is_stored_before_it_is_acknowledged_and_order_holds() {
    let mut bench = Bench::new(true);
    bench.offers(1);
    let (launch, _) = bench.commit();
    // It waits behind the launch, though it needs nothing stored.
    bench.update("other", v1::TaskState::TaskRunning);
    bench.quiet();
    bench.committed(launch, Ok(()));
    assert!(matches!(bench.command(), SchedulerCommand::Accept { .. }));
    assert!(matches!(bench.command(), SchedulerCommand::Acknowledge(_)));
    bench.update("t0", v1::TaskState::TaskFailed);
    let (end, txn) = bench.commit();
    assert!(matches!(&txn.ops[..], [Op::Delete { key, .. }] if key == "launches/t0"));
    bench.quiet();
    bench.committed(end, Ok(()));
    assert!(matches!(bench.command(), SchedulerCommand::Acknowledge(_)));
    // Nothing of it lies in the store any more.
    bench.update("t0", v1::TaskState::TaskFailed);
    assert!(matches!(bench.command(), SchedulerCommand::Acknowledge(_)));
    assert_eq!(
        bench.core.ledger().len(),
        1,
        "only the one that was reported"
    );
}

#[test]
fn a_key_stands_in_a_transaction_once() {
    let mut bench = Bench::new(true);
    bench.offers(1);
    let (first, _) = bench.commit();
    bench.update("t0", v1::TaskState::TaskFailed);
    bench.offers(1);
    bench.committed(first, Ok(()));
    assert!(matches!(bench.command(), SchedulerCommand::Accept { .. }));
    let (second, txn) = bench.commit();
    assert!(matches!(&txn.ops[..], [Op::Delete { .. }]));
    bench.committed(second, Ok(()));
    assert!(matches!(bench.command(), SchedulerCommand::Acknowledge(_)));
    let (_, txn) = bench.commit();
    assert!(matches!(&txn.ops[..], [Op::Put { .. }]));
}

#[test]
fn a_commit_in_doubt_is_made_again() {
    let mut bench = Bench::new(true);
    bench.offers(1);
    let (first, txn) = bench.commit();
    bench.committed(first, Err(CommitError::Unavailable));
    bench.quiet();
    bench.now.mono = bench.core.next_deadline().expect("another try");
    bench.input(FrameworkInput::Tick);
    let (again, same) = bench.commit();
    assert_eq!(txn, same);
    bench.committed(first, Ok(()));
    bench.quiet();
    bench.committed(again, Ok(()));
    assert!(matches!(bench.command(), SchedulerCommand::Accept { .. }));
}

#[test]
fn a_fenced_process_stops_at_once() {
    let mut bench = Bench::new(true);
    bench.offers(1);
    let (id, _) = bench.commit();
    bench.committed(id, Err(CommitError::Fenced));
    assert_eq!(
        bench.out.pop_front(),
        Some(FrameworkOutput::Stop(Stopped::Fenced))
    );
    bench.offers(1);
    bench.quiet();
}

#[test]
fn what_cannot_be_stored_is_not_launched_and_the_scheduler_is_told() {
    let mut bench = Bench::new(true);
    bench.offers(1);
    let (id, _) = bench.commit();
    bench.committed(
        id,
        Err(CommitError::TooLarge {
            words: "too large".into(),
        }),
    );
    assert!(matches!(bench.command(), SchedulerCommand::Decline { .. }));
    bench.quiet();
    assert_eq!(bench.core.scheduler().told, ["t0 TASK_ERROR"]);
    assert!(bench.core.ledger().is_empty());
}

#[test]
fn many_launches_are_stored_in_several_transactions() {
    let mut bench = Bench::new(true);
    bench.offers(MAX_STEPS * 2 + 1);
    let mut sizes = Vec::new();
    for _ in 0..3 {
        let (id, txn) = bench.commit();
        sizes.push(txn.ops.len());
        assert_eq!(txn.check_limits(), Ok(()));
        bench.quiet();
        bench.committed(id, Ok(()));
    }
    assert_eq!(sizes, [MAX_STEPS, MAX_STEPS, 1]);
    assert_eq!(bench.out.len(), MAX_STEPS * 2 + 1);
}

#[test]
fn what_was_kept_is_believed_in_and_asked_about() {
    let agent = AgentId::parse("a1").expect("good");
    let launches = BTreeMap::from([(task("t8"), agent.clone()), (task("t9"), agent.clone())]);
    let mut bench = Bench::with(
        Kept {
            framework_id: None,
            launches,
        },
        true,
    );
    let framework_id = FrameworkId::parse("f1").expect("good");
    let event = SchedulerEvent::Subscribed {
        framework_id,
        resubscribed: true,
    };
    bench.input(FrameworkInput::Event(event));
    let asked = vec![(task("t8"), Some(agent.clone())), (task("t9"), Some(agent))];
    assert_eq!(bench.command(), SchedulerCommand::Reconcile(asked));
    bench.update("t8", v1::TaskState::TaskUnknown);
    let (_, txn) = bench.commit();
    assert!(matches!(&txn.ops[..], [Op::Delete { key, .. }] if key == "launches/t8"));
    bench.update("stray", v1::TaskState::TaskRunning);
    let known: Vec<&str> = bench
        .core
        .ledger()
        .iter()
        .map(|(id, _)| id.as_str())
        .collect();
    assert_eq!(known, ["stray", "t9"]);
}

#[test]
fn timers_come_once_each_and_a_stop_is_the_last_word() {
    let mut bench = Bench::new(false);
    let framework_id = FrameworkId::parse("f1").expect("good");
    let event = SchedulerEvent::Subscribed {
        framework_id,
        resubscribed: false,
    };
    bench.input(FrameworkInput::Event(event));
    for round in 1..=3 {
        assert_eq!(
            bench.core.next_deadline(),
            Some(Millis(1_000 + 5_000 * round))
        );
        bench.input(FrameworkInput::Tick);
        bench.quiet();
        bench.now.mono = Millis(1_000 + 5_000 * round);
        bench.input(FrameworkInput::Tick);
    }
    assert_eq!(
        bench.out.pop_front(),
        Some(FrameworkOutput::Stop(Stopped::Asked))
    );
    bench.now.mono = Millis(100_000);
    bench.input(FrameworkInput::Tick);
    bench.quiet();
    assert_eq!(bench.core.scheduler().timers, 3);
}

#[test]
fn a_fatal_refusal_stops_the_framework_and_another_does_not() {
    let mut bench = Bench::new(false);
    let refused = |fatal| SchedulerEvent::Refused {
        message: "no".into(),
        fatal,
    };
    bench.input(FrameworkInput::Event(refused(false)));
    bench.quiet();
    bench.input(FrameworkInput::Event(refused(true)));
    let stop = FrameworkOutput::Stop(Stopped::Refused("no".into()));
    assert_eq!(bench.out.pop_front(), Some(stop));
}
