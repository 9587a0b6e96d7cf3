//! Agents that go away and come back.

use std::time::Duration;

use mezzo_executor::hello::Answer;
use mezzo_executor::plan::{ENDED_FILE, EndedHow};
use mezzo_model::TaskState;

use super::bed::{Bed, state, task, wait_until};

#[test]
fn a_task_outlives_its_agent_and_its_updates_are_said_again() {
    let mut bed = Bed::shell("echo > said; read line < go; exit 6");
    let (mut said, go) = (bed.ear("said"), bed.fifo("go"));
    let mut agent = bed.subscribed();
    agent.launch(task());
    let starting = agent.expect(TaskState::Starting);
    let running = agent.hear_update();
    assert_ne!(starting.uuid, running.uuid);
    // The agent dies before it could acknowledge RUNNING.
    drop(agent);
    bed.stop_listening();
    said.hear(1);
    bed.listen();
    let mut agent = bed.accept();
    let again = agent.subscribe();
    assert!(
        again.unacknowledged_tasks.is_empty(),
        "STARTING was acknowledged"
    );
    let updates: Vec<_> = again
        .unacknowledged_updates
        .iter()
        .map(|u| &u.status)
        .collect();
    assert_eq!(updates, [&running]);
    agent.acknowledge(&running);
    std::fs::write(&go, "\n").unwrap();
    agent.expect(TaskState::Failed);
    bed.expect_left();
}

#[test]
fn an_end_while_the_agent_is_away_is_kept_for_it() {
    let mut bed = Bed::shell("read line < go; exit 6");
    let go = bed.fifo("go");
    let agent = bed.running(task());
    drop(agent);
    bed.stop_listening();
    std::fs::write(&go, "\n").unwrap();
    let record = bed.plan.run_directory.join(ENDED_FILE);
    wait_until("the end is recorded", || record.exists());
    assert_eq!(bed.ended().how, EndedHow::Exited(6));
    bed.listen();
    let mut agent = bed.accept();
    let said = agent.subscribe().unacknowledged_updates;
    assert_eq!(said.len(), 1);
    assert_eq!(state(&said[0].status), TaskState::Failed);
    agent.acknowledge(&said[0].status);
    bed.expect_left();
}

#[test]
fn a_launch_of_which_nothing_was_heard_is_named_again_and_not_run_twice() {
    let mut bed = Bed::shell("echo once >> runs; echo > said; sleep 1000");
    let mut said = bed.ear("said");
    let mut agent = bed.subscribed();
    agent.launch(task());
    agent.hear_update();
    drop(agent);
    let mut agent = bed.accept();
    let again = agent.subscribe();
    assert_eq!(again.unacknowledged_tasks, [task()]);
    assert!(!again.unacknowledged_updates.is_empty());
    agent.launch(task());
    said.hear(1);
    agent.kill(Some(Duration::ZERO));
    for update in &again.unacknowledged_updates {
        agent.acknowledge(&update.status);
    }
    assert_eq!(state(&agent.expect_end()), TaskState::Killed);
    bed.expect_left();
    assert_eq!(bed.read("runs"), "once\n");
}

#[test]
fn an_agent_that_stays_away_ends_the_task() {
    let mut bed = Bed::shell("echo > said; sleep 1000");
    let mut said = bed.ear("said");
    bed.plan.timing.recovery_timeout_ms = 300;
    let agent = bed.running(task());
    said.hear(1);
    drop(agent);
    bed.stop_listening();
    bed.expect_left();
    let ended = bed.ended();
    assert!(ended.killed);
    assert_eq!(ended.how, EndedHow::Signaled(15));
}

#[test]
fn an_agent_that_knows_no_such_executor_ends_it() {
    let mut bed = Bed::shell("echo > said; sleep 1000");
    let mut said = bed.ear("said");
    let agent = bed.running(task());
    said.hear(1);
    drop(agent);
    let mut agent = bed.accept();
    agent.answer(&Answer::Refused("the framework is gone".into()));
    bed.expect_left();
    assert!(bed.ended().killed);
    assert!(bed.log().contains("the framework is gone"), "{}", bed.log());
}

#[test]
fn an_executor_that_starts_before_its_agent_waits_for_it() {
    let mut bed = Bed::shell("true");
    bed.stop_listening();
    std::fs::remove_file(&bed.plan.agent.socket).unwrap();
    bed.start();
    bed.listen();
    let mut agent = bed.accept();
    agent.subscribe();
    agent.launch(task());
    assert_eq!(state(&agent.expect_end()), TaskState::Finished);
    bed.expect_left();
}
