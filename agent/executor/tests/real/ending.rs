//! Every way in which a payload is ended, and that nothing of it is left.

use std::time::{Duration, Instant};

use mezzo_executor::orphans;
use mezzo_executor::plan::EndedHow;
use mezzo_model::TaskState;
use mezzo_wire::v1::executor::event;
use mezzo_wire::v1::task_status::Reason;
use nix::sys::signal::Signal;

use super::bed::{
    Bed, assert_ended, children, is_alive, message, signal, state, task, wait_for_end, wait_until,
};

/// A shell that forks twice with a session of its own, clears its environment and outlives its parent; then one more
/// the
/// usual way. The process ids are said to `pids`.
const RUNAWAY: &str = "\
    setsid sh -c 'setsid env -i sh -c \"trap \\\"\\\" TERM HUP; echo \\$\\$ > pids; while :; do sleep 1000; done\" & exit' & \
    sh -c 'echo $$ > pids; sleep 1000' & ";

#[test]
fn a_kill_asks_the_whole_tree_first() {
    // The shell ignores the signal; its child, which only hears it because the whole tree does, ends the wait.
    let mut bed = Bed::shell(
        "trap 'echo asked' TERM; sh -c 'echo > said; exec sleep 1000'; echo child ended; exit 0",
    );
    let mut said = bed.ear("said");
    let mut agent = bed.running(task());
    said.hear(1);
    agent.kill(Some(Duration::from_secs(1_000)));
    agent.expect(TaskState::Killing);
    let end = agent.expect(TaskState::Killed);
    assert_eq!(message(&end), "Command exited with status 0");
    bed.expect_left();
    let mut out: Vec<_> = bed.read("stdout").lines().map(str::to_owned).collect();
    out.sort();
    assert_eq!(out, ["asked", "child ended"]);
}

#[test]
fn a_command_that_obeys_is_killed_and_one_that_does_not_is_forced() {
    let mut bed = Bed::shell("sleep 1000");
    let mut agent = bed.running(task());
    agent.kill(Some(Duration::from_secs(1_000)));
    agent.expect(TaskState::Killing);
    let killed = agent.expect(TaskState::Killed);
    assert_eq!(
        message(&killed),
        "Command terminated with signal Terminated"
    );
    bed.expect_left();
    assert!(bed.ended().killed);

    let mut bed = Bed::shell("trap '' TERM; echo > said; while :; do sleep 1000; done");
    let mut said = bed.ear("said");
    let mut agent = bed.running(task());
    said.hear(1);
    let grace = Duration::from_millis(300);
    let asked = Instant::now();
    agent.kill(Some(grace));
    agent.expect(TaskState::Killing);
    let killed = agent.expect(TaskState::Killed);
    assert!(asked.elapsed() >= grace);
    assert_eq!(message(&killed), "Command terminated with signal Killed");
    bed.expect_left();
}

#[test]
fn a_stopped_command_hears_a_kill() {
    let mut bed = Bed::shell("kill -STOP $$; exit 5");
    let mut agent = bed.running(task());
    let leash = children(bed.executor_pid())[0];
    let payload = children(leash)[0];
    wait_until("it stops", || {
        let stat = std::fs::read_to_string(format!("/proc/{payload}/stat")).unwrap();
        stat.contains(") T ")
    });
    agent.kill(Some(Duration::from_secs(1_000)));
    agent.expect(TaskState::Killing);
    agent.expect(TaskState::Killed);
    bed.expect_left();
}

#[test]
fn what_a_command_leaves_behind_ends_with_it() {
    let mut bed = Bed::shell(&format!("{RUNAWAY} read line < go; exit 4"));
    let (mut pids, go) = (bed.ear("pids"), bed.fifo("go"));
    let mut agent = bed.running(task());
    let left = pids.pids(2);
    assert!(left.iter().all(|&pid| is_alive(pid)));
    std::fs::write(go, "\n").unwrap();
    let failed = agent.hear_update();
    assert_eq!(message(&failed), "Command exited with status 4");
    assert_ended(&left);
    agent.acknowledge(&failed);
    bed.expect_left();
}

#[test]
fn the_end_is_told_when_nothing_is_left_and_not_before() {
    let mut bed = Bed::shell(&format!("{RUNAWAY} wait"));
    let mut pids = bed.ear("pids");
    let mut agent = bed.running(task());
    let left = pids.pids(2);
    agent.kill(Some(Duration::ZERO));
    agent.expect(TaskState::Killing);
    let killed = agent.hear_update();
    assert_ended(&left);
    agent.acknowledge(&killed);
    bed.expect_left();
}

#[test]
fn killing_the_executor_kills_everything() {
    let mut bed = Bed::shell(&format!("{RUNAWAY} echo $$ > pids; sleep 1000; true"));
    let mut pids = bed.ear("pids");
    let _agent = bed.running(task());
    let mut all = pids.pids(3);
    let leash = children(bed.executor_pid())[0];
    all.push(leash);
    assert!(all.iter().all(|&pid| is_alive(pid)));
    bed.kill_executor();
    for &pid in &all {
        wait_for_end(pid, || format!("process {pid} outlives its executor"));
    }
}

#[test]
fn killing_the_leash_kills_everything_and_is_told() {
    let mut bed = Bed::shell(&format!("{RUNAWAY} echo $$ > pids; sleep 1000; true"));
    let mut pids = bed.ear("pids");
    let mut agent = bed.running(task());
    let all = pids.pids(3);
    let leash = children(bed.executor_pid())[0];
    signal(leash, Signal::SIGKILL);
    let failed = agent.hear_update();
    assert_eq!(state(&failed), TaskState::Failed);
    assert_eq!(failed.reason(), Reason::ExecutorTerminated);
    assert!(message(&failed).contains("was killed"), "{failed:?}");
    assert_ended(&all);
    agent.acknowledge(&failed);
    bed.expect_left();
}

#[test]
fn a_shutdown_and_a_sigterm_end_the_task_in_order() {
    type Ask = fn(&Bed, &mut super::bed::Agent);
    let asks: [Ask; 2] = [
        |_, agent| agent.say(event::Type::Shutdown, |_| {}),
        |bed, _| signal(bed.executor_pid(), Signal::SIGTERM),
    ];
    for ask in asks {
        let mut bed =
            Bed::shell("trap 'echo bye; exit 1' TERM; echo > said; while :; do sleep 0.01; done");
        let mut said = bed.ear("said");
        let mut agent = bed.running(task());
        said.hear(1);
        ask(&bed, &mut agent);
        agent.expect(TaskState::Killing);
        agent.expect(TaskState::Killed);
        bed.expect_left();
        assert_eq!(bed.read("stdout"), "bye\n");
        assert_eq!(bed.ended().how, EndedHow::Exited(1));
    }
}

#[test]
fn an_executor_without_a_task_leaves_when_told() {
    let mut bed = Bed::shell("true");
    let mut agent = bed.subscribed();
    agent.say(event::Type::Shutdown, |_| {});
    bed.expect_left();
}

#[test]
fn a_storm_of_forks_is_ended() {
    // Each of these forks another and leaves, for ever: there is always one that no list has seen yet.
    let mut bed = Bed::shell("f() { echo x; f & }; f > /dev/null; echo > said; sleep 1000");
    let mut said = bed.ear("said");
    let mut agent = bed.running(task());
    said.hear(1);
    agent.kill(Some(Duration::ZERO));
    agent.expect(TaskState::Killing);
    agent.expect(TaskState::Killed);
    bed.expect_left();
    let left = orphans::marked().remove(&bed.plan.container_id);
    assert_eq!(left, None);
}

#[test]
fn what_outlives_both_its_keepers_is_found_by_its_mark() {
    let script =
        "setsid sh -c 'echo $$ > pids; sleep 1000; true' & echo $$ > pids; sleep 1000; true";
    let mut bed = Bed::shell(script);
    let mut pids = bed.ear("pids");
    let _agent = bed.running(task());
    pids.hear(2);
    let leash = children(bed.executor_pid())[0];
    // Neither may notice that the other is gone.
    signal(bed.executor_pid(), Signal::SIGSTOP);
    signal(leash, Signal::SIGSTOP);
    signal(leash, Signal::SIGKILL);
    bed.kill_executor();
    let marked = orphans::marked()
        .remove(&bed.plan.container_id)
        .unwrap_or_default();
    assert!(!marked.is_empty(), "something is left to be found");
    assert_eq!(
        orphans::end(&bed.plan.container_id, super::bed::PATIENCE),
        0
    );
    assert_ended(&marked);
    assert_eq!(orphans::marked().get(&bed.plan.container_id), None);
    assert_eq!(orphans::end("no such container", super::bed::PATIENCE), 0);
}
