//! Asking until each task is answered.

use mezzo_model::time::Millis;
use mezzo_wire::v1::TaskState as State;
use mezzo_wire::v1::scheduler::{Call, call};

use super::env::{Env, agent, config, heartbeat, task, update_event};
use crate::scheduler::core::{CallError, RECONCILE_BATCH};
use crate::scheduler::{SchedulerCommand, SchedulerEvent};

fn asked(call: Call) -> Vec<String> {
    let tasks = call.reconcile.expect("a reconcile").tasks;
    tasks.into_iter().map(|task| task.task_id.value).collect()
}

fn reconcile(ids: &[&str]) -> SchedulerCommand {
    SchedulerCommand::Reconcile(ids.iter().map(|id| (task(id), Some(agent("a1")))).collect())
}

fn explicit_only() -> Env {
    let mut config = config();
    config.implicit_every = None;
    Env::subscribed_with(config)
}

/// Passes time until the next call, with a heartbeat every ten seconds.
fn next_reconcile(env: &mut Env, within: Millis) -> Option<(u64, Vec<String>)> {
    let start = env.now.mono;
    while env.now.mono.since(start) < within {
        env.pass(Millis(10_000));
        if let Some(output) = env.next() {
            let crate::scheduler::core::DriverOutput::Submit { id, call, .. } = output else {
                panic!("no call: {output:?}")
            };
            assert_eq!(call.r#type(), call::Type::Reconcile);
            env.done(id, Ok(()));
            return Some((env.now.mono.since(start).0, asked(*call)));
        }
        env.event(heartbeat());
    }
    None
}

#[test]
fn a_task_is_asked_about_until_it_is_answered() {
    let mut env = explicit_only();
    env.command(reconcile(&["t1", "t2", "t3"]));
    let call = env.expect_and_answer(call::Type::Reconcile);
    assert_eq!(
        call.reconcile.as_ref().expect("some").tasks[0].agent_id,
        Some(agent("a1").to_wire())
    );
    assert_eq!(asked(call), ["t1", "t2", "t3"]);
    env.event(update_event("t2", State::TaskRunning, None));
    env.expect_status();
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let (pause, mut tasks) = next_reconcile(&mut env, Millis(200_000)).expect("a question");
        // Each task has its own jitter; the other one follows.
        if tasks.len() == 1 {
            tasks.extend(
                next_reconcile(&mut env, Millis(200_000))
                    .expect("a question")
                    .1,
            );
            tasks.sort();
        }
        assert_eq!(tasks, ["t1", "t3"]);
        pauses.push(pause);
    }
    assert!(pauses[0] <= 2_000 && pauses[5] > 10_000, "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= 60_000), "{pauses:?}");
    for id in ["t1", "t3"] {
        env.event(update_event(id, State::TaskUnknown, None));
        env.expect_status();
    }
    assert_eq!(env.core.unanswered_tasks(), 0);
    assert_eq!(next_reconcile(&mut env, Millis(600_000)), None);
}

#[test]
fn a_new_master_is_asked_at_once_about_what_is_open() {
    let mut env = explicit_only();
    env.command(reconcile(&["t1"]));
    env.expect_and_answer(call::Type::Reconcile);
    env.leader("m2:5050");
    env.expect_close();
    env.expect_disconnected();
    env.command(reconcile(&["t2"]));
    env.expect_subscribe("m2:5050");
    env.accept_subscription("f1");
    env.expect_event(|event| matches!(event, SchedulerEvent::Subscribed { .. }));
    let call = env.expect_and_answer(call::Type::Reconcile);
    assert_eq!(asked(call), ["t1", "t2"]);
    env.quiet();
}

#[test]
fn many_tasks_are_asked_about_in_several_calls() {
    let mut env = explicit_only();
    let ids: Vec<String> = (0..RECONCILE_BATCH * 2 + 5)
        .map(|n| format!("t{n:05}"))
        .collect();
    let names: Vec<&str> = ids.iter().map(String::as_str).collect();
    env.command(reconcile(&names));
    let mut all = Vec::new();
    for size in [RECONCILE_BATCH, RECONCILE_BATCH, 5] {
        let tasks = asked(env.expect_and_answer(call::Type::Reconcile));
        assert_eq!(tasks.len(), size);
        all.extend(tasks);
    }
    assert_eq!(all, ids);
    env.quiet();
}

#[test]
fn all_tasks_are_asked_about_after_a_subscription_and_from_time_to_time() {
    let mut env = Env::subscribed();
    let (first, tasks) = next_reconcile(&mut env, Millis(60_000)).expect("a question");
    assert!(
        tasks.is_empty() && (2_000..=4_000).contains(&first),
        "{first} {tasks:?}"
    );
    let (second, tasks) = next_reconcile(&mut env, Millis(1_200_000)).expect("a question");
    assert!(
        tasks.is_empty() && (600_000..=660_000).contains(&second),
        "{second} {tasks:?}"
    );
    env.command(SchedulerCommand::Reconcile(Vec::new()));
    assert_eq!(
        asked(env.expect_and_answer(call::Type::Reconcile)),
        Vec::<String>::new()
    );
}

#[test]
fn a_refused_question_is_not_repeated() {
    let mut env = explicit_only();
    env.command(reconcile(&["t1"]));
    let (id, _) = env.expect_call();
    env.done(id, Err(CallError::Refused("bad".into())));
    env.expect_event(|event| matches!(event, SchedulerEvent::Refused { fatal: false, .. }));
    assert_eq!(next_reconcile(&mut env, Millis(600_000)), None);
}
