//! Tasks in OCI containers: only where the agent is root and a runtime works.

use std::path::{Path, PathBuf};

use mezzo_model::TaskState;
use mezzo_wire::v1;
use mezzo_wire::v1::task_status::Reason;

use super::bed::{Bed, is_alive, is_root, kill_9, mounts_below};
use super::master::{framework, task};

fn image(path: &Path) -> v1::ContainerInfo {
    let docker = v1::image::Docker {
        name: path.to_str().expect("text").to_owned(),
        ..Default::default()
    };
    let image = v1::Image {
        r#type: v1::image::Type::Docker as i32,
        docker: Some(docker),
        ..Default::default()
    };
    v1::ContainerInfo {
        r#type: v1::container_info::Type::Mesos as i32,
        mesos: Some(v1::container_info::MesosInfo { image: Some(image) }),
        ..Default::default()
    }
}

/// A root file system of one static program, under many names.
fn tiny_root(scratch: &Path) -> Option<PathBuf> {
    let busybox = Path::new("/bin/busybox");
    if !busybox.exists() {
        assert!(
            std::env::var_os("CI").is_none(),
            "this test needs busybox-static"
        );
        return None;
    }
    let root = scratch.join("image");
    std::fs::create_dir_all(root.join("bin")).expect("makes");
    std::fs::copy(busybox, root.join("bin/busybox")).expect("copies");
    for name in ["sh", "echo", "cat", "ls", "sleep", "id"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).expect("links");
    }
    std::fs::write(root.join("inside"), "an image\n").expect("writes");
    Some(root)
}

fn as_nobody() -> v1::FrameworkInfo {
    v1::FrameworkInfo {
        user: "nobody".to_owned(),
        ..framework()
    }
}

/// Control groups of this process' tests that are left anywhere.
fn groups_left() -> Vec<PathBuf> {
    let root = super::bed::cgroups_root();
    let tag = std::fs::read_dir("/sys/fs/cgroup").expect("is there");
    let mounts = tag
        .filter_map(|entry| Some(entry.ok()?.path()))
        .chain([PathBuf::from("/sys/fs/cgroup")]);
    mounts
        .flat_map(|mount| std::fs::read_dir(mount.join(&root)).into_iter().flatten())
        .filter_map(|entry| Some(entry.ok()?.path()))
        .flat_map(|tag| std::fs::read_dir(tag).into_iter().flatten())
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_has_the_hosts_root_and_is_alone_in_it() {
    if !is_root() {
        return;
    }
    let mut bed = Bed::new("oci").await;
    assert_eq!(bed.agent().containerizer, "oci");
    let work_dir = bed.work_dir();
    let line = format!(
        "echo pid $$; id -un; ls -A {work} | wc -l; grep -E 'CapEff|NoNewPrivs' /proc/self/status; \
         touch /tmp/written-inside && echo writes; pwd; touch mine; ls -A {work}/../ | head -1; \
         ls -A /mnt/mesos/sandbox/.rootfs | wc -l; cat /proc/kcore 2>/dev/null | head -c 1 | wc -c",
        work = work_dir.display()
    );
    bed.master.run_as(as_nobody(), task("t", &line));
    let end = bed.master.until("t", TaskState::Finished).await;
    assert!(end.container_status.is_some());
    let out = bed.master.file("t", "stdout").await.expect("output");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..3], ["pid 1", "nobody", "0"], "{out}");
    assert!(
        out.contains("CapEff:\t0000000000000000") && out.contains("NoNewPrivs:\t1"),
        "{out}"
    );
    assert!(out.contains("writes\n/mnt/mesos/sandbox\n"), "{out}");
    assert!(
        !Path::new("/tmp/written-inside").exists(),
        "the host's root is not written to"
    );
    assert_eq!(
        bed.master.file("t", "mine").await.as_deref(),
        Ok(""),
        "the sandbox is"
    );
    bed.finish().await;
    assert_eq!(groups_left(), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_the_root_and_is_not_written_to() {
    if !is_root() {
        return;
    }
    let mut bed = Bed::new("oci").await;
    let Some(root) = tiny_root(bed.scratch.path()) else {
        return;
    };
    let mut asked = task(
        "t",
        "cat /inside; echo changed > /inside; cat /inside; ls /; id -u",
    );
    asked.container = Some(image(&root));
    bed.master.run_as(framework(), asked);
    bed.master.until("t", TaskState::Finished).await;
    let out = bed.master.file("t", "stdout").await.expect("output");
    assert!(out.starts_with("an image\nchanged\nbin\n"), "{out}");
    assert!(!out.contains("home"), "{out}");
    assert_eq!(
        std::fs::read_to_string(root.join("inside")).expect("reads"),
        "an image\n"
    );
    let mut missing = task("u", "true");
    missing.container = Some(image(Path::new("/no/such/image")));
    bed.master.run(missing);
    let end = bed.master.until("u", TaskState::Failed).await;
    assert_eq!(end.reason, Some(Reason::ContainerLaunchFailed as i32));
    assert!(
        end.message
            .is_some_and(|words| words.contains("find the image /no/such/image"))
    );
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_memory_is_reported_as_such() {
    if !is_root() {
        return;
    }
    let mut bed = Bed::new("oci").await;
    // A shell that doubles a string holds it all in memory.
    bed.master
        .run(task("t", "x=0123456789abcdef; while :; do x=$x$x; done"));
    let end = bed.master.until("t", TaskState::Failed).await;
    assert_eq!(
        end.reason,
        Some(Reason::ContainerLimitationMemory as i32),
        "{end:?}"
    );
    assert!(
        end.message
            .is_some_and(|words| words.contains("Memory limit exceeded"))
    );
    // With room enough the same task would be something else's problem.
    bed.master.run(task("u", "true"));
    bed.master.until("u", TaskState::Finished).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_container_is_left_whatever_dies_first() {
    if !is_root() {
        return;
    }
    let mut bed = Bed::new("oci").await;
    let line = "(setsid env -i sh -c 'sleep 1000' &) ; echo up; sleep 1000";
    bed.master.run_as(as_nobody(), task("t", line));
    bed.master.until("t", TaskState::Running).await;
    let read = bed.master.read("t", "stdout", true);
    bed.master.until_read(read, "up").await;
    assert!(
        !groups_left().is_empty(),
        "it has control groups while it runs"
    );
    let inside: Vec<i32> = groups_left()
        .iter()
        .flat_map(|group| {
            std::fs::read_to_string(group.join("cgroup.procs"))
                .unwrap_or_default()
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .filter_map(|pid| pid.parse().ok())
        .collect();
    assert!(inside.iter().all(|pid| is_alive(*pid)) && !inside.is_empty());
    kill_9(bed.executor_pid());
    let end = bed.master.until("t", TaskState::Failed).await;
    assert_eq!(
        end.reason,
        Some(Reason::ExecutorTerminated as i32),
        "{end:?}"
    );
    assert!(inside.iter().all(|pid| !is_alive(*pid)));
    assert_eq!(groups_left(), Vec::<PathBuf>::new());
    assert_eq!(mounts_below(bed.scratch.path()), Vec::<String>::new());
    bed.master.run_as(
        as_nobody(),
        task("u", "(setsid sleep 1000 &); echo up; sleep 1000"),
    );
    bed.master.until("u", TaskState::Running).await;
    bed.master.kill("u", Some(100));
    bed.master.until("u", TaskState::Killed).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_outlives_the_agent_and_its_leftovers_do_not() {
    if !is_root() {
        return;
    }
    let mut bed = Bed::new("oci").await;
    bed.master.run(task(
        "kept",
        "echo up; while [ ! -e done ]; do sleep 0.02; done",
    ));
    bed.master.until("kept", TaskState::Running).await;
    bed.stop().await;
    bed.start().await;
    let hello = bed.master.welcome().await;
    assert_eq!(
        hello.tasks.first().map(|task| task.state),
        Some(TaskState::Running.number())
    );
    let attributes: Vec<String> = hello
        .agent
        .attributes
        .iter()
        .map(|attribute| attribute.name.clone())
        .collect();
    assert!(
        attributes.contains(&"containerizer".to_owned())
            && attributes.contains(&"oci_runtime".to_owned()),
        "{attributes:?}"
    );
    bed.stop().await;
    bed.kill_executor_and_leash().await;
    assert!(!groups_left().is_empty(), "nobody has cleaned yet");
    bed.start().await;
    bed.master.welcome().await;
    bed.master.until("kept", TaskState::Failed).await;
    assert_eq!(groups_left(), Vec::<PathBuf>::new());
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_those_that_were_asked_for() {
    if !is_root() {
        return;
    }
    let mut bed = Bed::new("oci").await;
    let mut asked = task("t", "echo up; sleep 1000");
    asked
        .limits
        .insert("cpus".to_owned(), v1::value::Scalar { value: 0.5 });
    bed.master.run(asked);
    bed.master.until("t", TaskState::Running).await;
    let groups = groups_left();
    let read = |file: &str| {
        groups
            .iter()
            .find_map(|group| std::fs::read_to_string(group.join(file)).ok())
    };
    let memory = read("memory.limit_in_bytes")
        .or_else(|| read("memory.max"))
        .expect("a memory limit");
    assert_eq!(memory.trim(), (64 << 20).to_string());
    match read("cpu.shares") {
        Some(shares) => {
            assert_eq!(shares.trim(), "102");
            assert_eq!(
                read("cpu.cfs_quota_us").as_deref().map(str::trim),
                Some("50000")
            );
        }
        None => assert!(read("cpu.max").expect("version 2").starts_with("50000 ")),
    }
    bed.master.kill("t", Some(10));
    bed.master.until("t", TaskState::Killed).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_that_is_not_there_or_does_not_work_stops_the_start_in_words() {
    if !is_root() {
        return;
    }
    let bed = Bed::new("process").await;
    for (runtime, words) in [
        ("no-such-runtime", "there is no runtime 'no-such-runtime'"),
        ("/bin/false", "/bin/false does not work"),
        ("/bin/true", "did not run a container"),
    ] {
        let mut flags = bed.flags();
        flags.work_dir = bed.scratch.path().join("other");
        flags.containerizers = Some("oci".to_owned());
        flags.oci_runtime = Some(runtime.to_owned());
        let refused = mezzo_agent::start(flags, mezzo_door::Stop::new())
            .await
            .expect_err("refused")
            .to_string();
        assert!(refused.contains(words), "{refused}");
    }
    bed.finish().await;
    let root = format!(
        "/sys/fs/cgroup/freezer/mezzo-agent-test-{}",
        std::process::id()
    );
    assert!(
        !Path::new(&root).exists(),
        "an agent that does not start leaves no control group"
    );
}
