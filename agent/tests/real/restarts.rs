//! The agent goes away and comes back; its tasks do not notice.

use mezzo_agent::StartError;
use mezzo_door::Stop;
use mezzo_model::TaskState;
use mezzo_wire::link;
use mezzo_wire::link::master_message::Body as Order;
use mezzo_wire::v1::task_status::Reason;

use super::bed::{Bed, is_alive, kill_9, until_gone};
use super::master::task;

const COUNTING: &str = "echo up $$; while [ ! -e done ]; do sleep 0.02; done; echo finished";

async fn running(bed: &mut Bed, id: &str) -> i32 {
    bed.master.run(task(id, COUNTING));
    bed.master.until(id, TaskState::Running).await;
    let read = bed.master.read(id, "stdout", true);
    let out = bed.master.until_read(read, "up ").await;
    let pid = out
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("up "))
        .expect("a pid");
    pid.trim().parse().expect("a number")
}

fn sandbox(bed: &Bed, id: &str) -> std::path::PathBuf {
    bed.work_dir().join(format!(
        "agents/m-S0/frameworks/fw/executors/{id}/runs/latest"
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_task_is_adopted_and_its_updates_flow() {
    let mut bed = Bed::new("process").await;
    let pid = running(&mut bed, "t").await;
    bed.stop().await;
    assert!(is_alive(pid));
    bed.start().await;
    let hello = bed.master.welcome().await;
    assert_eq!(hello.agent.id.map(|id| id.value).as_deref(), Some("m-S0"));
    assert_eq!(
        hello.tasks.first().map(|task| task.state),
        Some(TaskState::Running.number())
    );
    assert!(is_alive(pid));
    std::fs::write(sandbox(&bed, "t").join("done"), "").expect("writes");
    bed.master.until("t", TaskState::Finished).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_ends_while_the_agent_is_away_is_reported_by_its_executor() {
    let mut bed = Bed::new("process").await;
    let pid = running(&mut bed, "t").await;
    bed.stop().await;
    std::fs::write(sandbox(&bed, "t").join("done"), "").expect("writes");
    until_gone(pid).await;
    bed.start().await;
    bed.master.welcome().await;
    let end = bed.master.until("t", TaskState::Finished).await;
    assert_eq!(end.message.as_deref(), Some("Command exited with status 0"));
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_dies_while_the_agent_is_away_is_cleaned_after() {
    let mut bed = Bed::new("process").await;
    let pid = running(&mut bed, "t").await;
    let executor = bed.executor_pid();
    bed.stop().await;
    kill_9(executor);
    until_gone(executor).await;
    bed.start().await;
    bed.master.welcome().await;
    let end = bed.master.until("t", TaskState::Failed).await;
    assert_eq!(
        end.reason,
        Some(Reason::ExecutorTerminated as i32),
        "{end:?}"
    );
    assert!(!is_alive(pid));
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_that_comes_after_the_restart_reaches_the_adopted_executor() {
    let mut bed = Bed::new("process").await;
    let pid = running(&mut bed, "t").await;
    bed.stop().await;
    bed.start().await;
    bed.master.welcome().await;
    bed.master.kill("t", None);
    bed.master.until("t", TaskState::Killed).await;
    assert!(!is_alive(pid));
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adopted_executor_that_is_killed_is_seen() {
    let mut bed = Bed::new("process").await;
    let pid = running(&mut bed, "t").await;
    bed.stop().await;
    bed.start().await;
    bed.master.welcome().await;
    kill_9(bed.executor_pid());
    bed.master.until("t", TaskState::Failed).await;
    assert!(!is_alive(pid));
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unacknowledged_end_is_said_again_by_the_next_agent() {
    let mut bed = Bed::new("process").await;
    bed.master.acknowledges = false;
    bed.master.run(task("t", "true"));
    let first = bed.master.status("t").await;
    assert_eq!(first.state, TaskState::Starting.number());
    // Its executor leaves when the agent has the end safe, which is told to nobody before STARTING is acknowledged.
    bed.stop().await;
    bed.start().await;
    bed.master.acknowledges = true;
    let hello = bed.master.welcome().await;
    assert_eq!(hello.tasks.len(), 1);
    let again = bed.master.status("t").await;
    assert_eq!(again.uuid, first.uuid);
    bed.master.until("t", TaskState::Finished).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_link_is_dialled_again_and_tasks_do_not_notice() {
    let mut bed = Bed::new("process").await;
    let pid = running(&mut bed, "t").await;
    for _ in 0..3 {
        bed.master.hang_up();
        let hello = bed.master.welcome().await;
        assert_eq!(hello.tasks.len(), 1);
    }
    assert!(is_alive(pid));
    // A new leader of a higher epoch is obeyed, and the old one no more.
    bed.master.epoch = 7;
    bed.master.run(task("u", "true"));
    bed.master.until("u", TaskState::Finished).await;
    bed.master.epoch = 3;
    bed.master.run(task("v", "true"));
    let refused = bed.master.hello().await;
    assert_eq!(refused.highest_epoch.map(|epoch| epoch.counter), Some(7));
    assert!(refused.tasks.iter().all(|task| task.task_id.value != "v"));
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_work_directory_has_one_agent() {
    let bed = Bed::new("process").await;
    let refused = mezzo_agent::start(bed.flags(), Stop::new())
        .await
        .expect_err("locked");
    assert!(matches!(refused, StartError::Locked { .. }), "{refused}");
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cleanup_ends_what_is_found_alive() {
    let mut bed = Bed::with("process", &["--recover=reconnect"]).await;
    let pid = running(&mut bed, "t").await;
    bed.stop().await;
    let mut flags = bed.flags();
    flags.recover = mezzo_agent::flags::Recover::Cleanup;
    let stop = Stop::new();
    let running = mezzo_agent::start(flags, stop.clone())
        .await
        .expect("starts");
    let hello = bed.master.welcome().await;
    assert_eq!(hello.tasks.len(), 1);
    bed.master.until("t", TaskState::Failed).await;
    assert!(!is_alive(pid));
    stop.stop();
    assert_eq!(running.ended().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_removed_ends_its_tasks_and_says_why_it_ends() {
    let mut bed = Bed::new("process").await;
    let pid = running(&mut bed, "t").await;
    let message = Some("marked gone by an operator".to_owned());
    bed.master.say(Order::Shutdown(link::Shutdown { message }));
    let words = bed.ended().await.expect("an error");
    assert!(words.contains("marked gone by an operator"), "{words}");
    assert!(!is_alive(pid));
    bed.start().await;
    let hello = bed.master.welcome().await;
    assert_eq!(
        (hello.agent.id, hello.tasks.len()),
        (None, 0),
        "it registers as a new one"
    );
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_damaged_or_is_newer_stops_the_start_in_words() {
    let mut bed = Bed::new("process").await;
    bed.master.run(task("t", "true"));
    bed.master.until("t", TaskState::Finished).await;
    bed.stop().await;
    // The next start puts what was logged into a snapshot.
    bed.start().await;
    bed.stop().await;
    let log = bed.work_dir().join("log");
    let newest = std::fs::read_dir(&log)
        .expect("is there")
        .map(|entry| entry.expect("an entry").path())
        .find(|path| {
            path.extension()
                .is_some_and(|extension| extension == "snapshot")
        })
        .expect("a snapshot");
    let good = std::fs::read(&newest).expect("reads");
    for (at, value, words) in [
        (8, 9, "version 9"),
        (0, 0, "does not begin"),
        (40, 0xff, "damaged"),
    ] {
        let mut bad = good.clone();
        bad[at] = value;
        std::fs::write(&newest, &bad).expect("writes");
        let refused = mezzo_agent::start(bed.flags(), Stop::new())
            .await
            .expect_err("refused")
            .to_string();
        assert!(refused.contains(words), "{refused}");
        assert!(refused.contains("start afresh"), "{refused}");
    }
    std::fs::write(&newest, &good).expect("writes");
    bed.start().await;
    bed.master.welcome().await;
    bed.finish().await;
}
