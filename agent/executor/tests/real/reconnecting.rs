//! Agents that go away and come back.

use std::time::Duration;

use mezzo_executor::hello::Answer;
use mezzo_executor::plan::EndedHow;
use mezzo_model::TaskState;

use super::bed::{Bed, state, task, wait_for_end, wait_for_lines};

#[test]
fn a_task_outlives_its_agent_and_its_updates_are_said_again() {
    let mut bed = Bed::shell("echo running; read line < go; exit 6");
    let go = bed.fifo("go");
    let mut agent = bed.subscribed();
    agent.launch(task());
    let starting = agent.expect(TaskState::Starting);
    let running = agent.hear_update();
    assert_ne!(starting.uuid, running.uuid);
    // The agent dies before it could acknowledge RUNNING.
    drop(agent);
    bed.stop_listening();
    wait_for_lines(&bed.sandbox("stdout"), 1);
    bed.listen();
    let mut agent = bed.accept();
    let said = agent.subscribe();
    assert!(
        said.unacknowledged_tasks.is_empty(),
        "STARTING was acknowledged"
    );
    let updates: Vec<_> = said
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
    let mut bed = Bed::shell("echo $$; read line < go; exit 6");
    let go = bed.fifo("go");
    let agent = bed.running(task());
    let payload = super::bed::pids(&wait_for_lines(&bed.sandbox("stdout"), 1))[0];
    drop(agent);
    bed.stop_listening();
    std::fs::write(&go, "\n").unwrap();
    wait_for_end(payload, || "the command does not end".into());
    wait_for_lines_of_end(&bed);
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
    let mut bed = Bed::shell("echo once >> runs; echo running; sleep 1000");
    let mut agent = bed.subscribed();
    agent.launch(task());
    agent.hear_update();
    drop(agent);
    let mut agent = bed.accept();
    let said = agent.subscribe();
    assert_eq!(said.unacknowledged_tasks, [task()]);
    assert!(!said.unacknowledged_updates.is_empty());
    agent.launch(task());
    wait_for_lines(&bed.sandbox("stdout"), 1);
    agent.kill(Some(Duration::ZERO));
    for update in &said.unacknowledged_updates {
        agent.acknowledge(&update.status);
    }
    assert_eq!(state(&agent.expect_end()), TaskState::Killed);
    bed.expect_left();
    assert_eq!(bed.read("runs"), "once\n");
}

#[test]
fn an_agent_that_stays_away_ends_the_task() {
    let mut bed = Bed::shell("echo running; sleep 1000");
    bed.plan.timing.recovery_timeout_ms = 300;
    let agent = bed.running(task());
    wait_for_lines(&bed.sandbox("stdout"), 1);
    drop(agent);
    bed.stop_listening();
    bed.expect_left();
    let ended = bed.ended();
    assert!(ended.killed);
    assert_eq!(ended.how, EndedHow::Signaled(15));
}

#[test]
fn an_agent_that_knows_no_such_executor_ends_it() {
    let mut bed = Bed::shell("echo running; sleep 1000");
    let agent = bed.running(task());
    wait_for_lines(&bed.sandbox("stdout"), 1);
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

/// Waits until the end is recorded.
fn wait_for_lines_of_end(bed: &Bed) {
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
    let watch = Inotify::init(InitFlags::IN_CLOEXEC).unwrap();
    watch
        .add_watch(&bed.plan.run_directory, AddWatchFlags::IN_MOVED_TO)
        .unwrap();
    let file = bed
        .plan
        .run_directory
        .join(mezzo_executor::plan::ENDED_FILE);
    while !file.exists() {
        watch.read_events().unwrap();
    }
}
