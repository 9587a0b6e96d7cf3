//! Tasks as plain processes.

use mezzo_model::TaskState;
use mezzo_wire::v1;
use mezzo_wire::v1::task_status::{Reason, Source};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::bed::{Bed, is_alive, is_root, kill_9, marked, until_gone};
use super::master::{framework, task};

fn pid_in(text: &str, name: &str) -> i32 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|pid| pid.trim().parse().ok())
        .unwrap_or_else(|| panic!("no {name} in {text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_runs_to_its_end_and_leaves_its_output() {
    let mut bed = Bed::new("process").await;
    let line = "echo hello; echo oops >&2; echo $MESOS_TASK_ID; pwd; exit 3";
    bed.master.run(task("t", line));
    for state in [TaskState::Starting, TaskState::Running] {
        let status = bed.master.status("t").await;
        assert_eq!(status.state, state.number(), "{status:?}");
        let known = status.container_status.expect("a container");
        assert!(known.container_id.is_some() && !known.network_infos.is_empty());
    }
    let end = bed.master.until("t", TaskState::Failed).await;
    assert_eq!(end.message.as_deref(), Some("Command exited with status 3"));
    assert_eq!(end.source, Some(Source::Executor as i32));
    let out = bed.master.file("t", "stdout").await.expect("output");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..2], ["hello", "t"]);
    assert!(
        lines[2].contains("/frameworks/fw/executors/t/runs/"),
        "{out}"
    );
    assert_eq!(
        bed.master.file("t", "stderr").await.as_deref(),
        Ok("oops\n")
    );
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_gives_a_payload_its_grace_and_no_more() {
    let mut bed = Bed::new("process").await;
    bed.master.run(task(
        "kind",
        "trap 'echo bye; exit 1' TERM; echo up; while :; do sleep 0.01; done",
    ));
    bed.master.run(task(
        "deaf",
        "trap '' TERM; echo up; sleep 1000 & wait; wait; sleep 1000",
    ));
    for id in ["kind", "deaf"] {
        bed.master.until(id, TaskState::Running).await;
        let read = bed.master.read(id, "stdout", true);
        bed.master.until_read(read, "up").await;
        bed.master.kill(id, Some(300));
    }
    let end = bed.master.until("kind", TaskState::Killed).await;
    assert_eq!(end.source, Some(Source::Executor as i32));
    bed.master.until("deaf", TaskState::Killed).await;
    assert_eq!(
        bed.master.file("kind", "stdout").await.as_deref(),
        Ok("up\nbye\n")
    );
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_descendant_outlives_its_task() {
    let mut bed = Bed::new("process").await;
    // It forks twice, leaves its session and wipes its environment.
    let line = "(setsid env -i sh -c 'echo daemon $$; exec sleep 1000' &) ; sleep 1000 & echo child $!; echo up; wait";
    bed.master.run(task("t", line));
    bed.master.until("t", TaskState::Running).await;
    let read = bed.master.read("t", "stdout", true);
    let out = bed.master.until_read(read, "up").await;
    let out = if out.contains("daemon") {
        out
    } else {
        bed.master.until_read(read, "daemon").await
    };
    let (daemon, child) = (pid_in(&out, "daemon "), pid_in(&out, "child "));
    assert!(is_alive(daemon) && is_alive(child));
    bed.master.kill("t", None);
    bed.master.until("t", TaskState::Killed).await;
    until_gone(daemon).await;
    until_gone(child).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_executor_takes_its_payload_along_and_that_is_reported() {
    let mut bed = Bed::new("process").await;
    let line =
        "(setsid env -i sh -c 'echo daemon $$; exec sleep 1000' &) ; echo payload $$; sleep 1000";
    bed.master.run(task("t", line));
    bed.master.until("t", TaskState::Running).await;
    let read = bed.master.read("t", "stdout", true);
    let out = bed.master.until_read(read, "daemon").await;
    let out = if out.contains("payload") {
        out
    } else {
        bed.master.until_read(read, "payload").await
    };
    let (daemon, payload) = (pid_in(&out, "daemon "), pid_in(&out, "payload "));
    kill_9(bed.executor_pid());
    let end = bed.master.until("t", TaskState::Failed).await;
    assert_eq!(
        end.reason,
        Some(Reason::ExecutorTerminated as i32),
        "{end:?}"
    );
    assert_eq!(end.source, Some(Source::Agent as i32));
    // It is reported when nothing is left.
    assert!(!is_alive(daemon) && !is_alive(payload));
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_of_a_container_killed_at_once_is_cleaned_all_the_same() {
    let mut bed = Bed::new("process").await;
    bed.master.run(task("t", "sleep 1000 & echo up; wait"));
    bed.master.until("t", TaskState::Running).await;
    let read = bed.master.read("t", "stdout", true);
    bed.master.until_read(read, "up").await;
    let container = bed.container();
    let name = container
        .file_name()
        .and_then(|name| name.to_str())
        .expect("a name")
        .to_owned();
    let all = marked(&name);
    assert!(
        all.len() >= 3,
        "an executor, its payload and a child: {all:?}"
    );
    // All but the last child: the executor and whatever holds its payload die in one moment.
    let child = *all.iter().max().expect("some");
    for pid in all.iter().filter(|pid| **pid != child) {
        // The first to die may have taken the next along already.
        let killed = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        assert!(matches!(killed, Ok(()) | Err(Errno::ESRCH)), "{killed:?}");
    }
    bed.master.until("t", TaskState::Failed).await;
    assert_eq!(marked(&name), Vec::<i32>::new());
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_runs_as_the_user_that_was_named() {
    if !is_root() {
        return;
    }
    let mut bed = Bed::new("process").await;
    let named = v1::FrameworkInfo {
        user: "nobody".to_owned(),
        ..framework()
    };
    bed.master.run_as(
        named.clone(),
        task("t", "id -un; touch mine && echo may write"),
    );
    bed.master.until("t", TaskState::Finished).await;
    assert_eq!(
        bed.master.file("t", "stdout").await.as_deref(),
        Ok("nobody\nmay write\n")
    );
    let mut other = task("u", "id -un");
    if let Some(command) = &mut other.command {
        command.user = Some("daemon".to_owned());
    }
    bed.master.run_as(named.clone(), other);
    bed.master.until("u", TaskState::Finished).await;
    assert_eq!(
        bed.master.file("u", "stdout").await.as_deref(),
        Ok("daemon\n")
    );
    let unknown = v1::FrameworkInfo {
        user: "no-such-user".to_owned(),
        ..named
    };
    bed.master.run_as(unknown, task("v", "true"));
    let end = bed.master.until("v", TaskState::Failed).await;
    assert_eq!(end.reason, Some(Reason::ContainerLaunchFailed as i32));
    assert!(
        end.message
            .is_some_and(|words| words.contains("No such user 'no-such-user'"))
    );
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tasks_at_once_all_run() {
    const TASKS: usize = 100;
    let mut bed = Bed::new("process").await;
    for number in 0..TASKS {
        bed.master.run(task(&format!("t{number}"), "true"));
    }
    for number in 0..TASKS {
        bed.master
            .until(&format!("t{number}"), TaskState::Finished)
            .await;
    }
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_followed_while_it_grows_and_ends_with_the_task() {
    let mut bed = Bed::with(
        "process",
        &["--log_rotate_size=1KB", "--log_rotate_files=50"],
    )
    .await;
    // Several turns of a kilobyte each.
    let line = "for i in 1 2 3 4 5 6 7 8; do seq 1 100; done; echo the end";
    bed.master.run(task("t", line));
    bed.master.until("t", TaskState::Running).await;
    let read = bed.master.read("t", "stdout", true);
    let all = bed.master.read_all(read).await.expect("reads");
    bed.master.until("t", TaskState::Finished).await;
    let expected: String = (0..8)
        .flat_map(|_| 1..=100)
        .map(|number| format!("{number}\n"))
        .collect();
    let whole = bed.master.file("t", "stdout").await.expect("reads");
    assert_eq!(whole, format!("{expected}the end\n"));
    assert!(
        whole.ends_with(&all),
        "what was followed is the end of what there is"
    );
    let refused = bed
        .master
        .file("t", "../../../../../../log")
        .await
        .expect_err("outside");
    assert!(refused.contains("out of the sandbox"), "{refused}");
    bed.finish().await;
}
