//! Containers of a real OCI runtime, with the host's own root file system read-only below.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mezzo_executor::plan::{CgroupWatch, Containerizer, EndedHow, Mount, OciContainer};
use mezzo_model::TaskState;
use mezzo_wire::v1;
use mezzo_wire::v1::task_status::Reason;
use serde_json::json;

use super::bed::{Bed, assert_ended, children, is_root, message, state, task, wait_for_end};

const RUNTIME: &str = "/usr/sbin/runc";

/// Whether containers can be run here. Where everything is required, a machine without them fails.
fn can_run_containers() -> bool {
    let can = is_root() && Path::new(RUNTIME).exists();
    assert!(
        can || std::env::var_os("MEZZO_REQUIRE_ALL").is_none(),
        "containers need root and {RUNTIME}"
    );
    if !can {
        println!("left out: containers need root and {RUNTIME}");
    }
    can
}

/// A bed whose payload is a container that runs `line` as its first process.
struct Ward {
    bed: Bed,
}

impl Ward {
    fn new(line: &str, memory_bytes: u64) -> Self {
        let mut bed = Bed::shell(line);
        let id = bed.plan.container_id.clone();
        let bundle = bed.dir.path().join("bundle");
        let root = bundle.join("rootfs");
        fs::create_dir_all(&root).unwrap();
        let group = format!("/mezzo-test-{id}");
        let config = config(
            line,
            &bed.plan.sandbox,
            &group,
            memory_bytes,
            &bed.plan.environment(),
        );
        fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        bed.plan.containerizer = Containerizer::Oci(OciContainer {
            runtime: RUNTIME.into(),
            runtime_arguments: vec![],
            root: bed.dir.path().join("runtime"),
            bundle,
            id,
            mounts: vec![Mount::Bind {
                source: "/".into(),
                target: root,
                recursive: false,
                read_only: true,
            }],
            cgroups: cgroups(&group),
            memory_limit_bytes: Some(memory_bytes),
        });
        Self { bed }
    }

    fn container(&self) -> &OciContainer {
        match &self.bed.plan.containerizer {
            Containerizer::Oci(container) => container,
            Containerizer::Process => panic!("not a container"),
        }
    }

    /// Nothing of the container is left: no state, no cgroup, no mount.
    fn assert_clean(&self) {
        let container = self.container();
        assert!(
            !container.root.join(&container.id).exists(),
            "the runtime's state is left"
        );
        for watch in &container.cgroups {
            let (CgroupWatch::V1Memory(path) | CgroupWatch::V2(path)) = watch;
            assert!(!path.exists(), "{} is left", path.display());
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let bundle = container.bundle.display().to_string();
        assert!(!mounts.contains(&bundle), "a mount is left");
    }
}

/// The directories in which the kernel counts this group's memory.
fn cgroups(group: &str) -> Vec<CgroupWatch> {
    let v1 = Path::new("/sys/fs/cgroup/memory");
    let group = group.trim_start_matches('/');
    if v1.is_dir() {
        vec![CgroupWatch::V1Memory(v1.join(group))]
    } else {
        vec![CgroupWatch::V2(Path::new("/sys/fs/cgroup").join(group))]
    }
}

fn config(
    line: &str,
    sandbox: &Path,
    group: &str,
    memory_bytes: u64,
    environment: &[(String, String)],
) -> serde_json::Value {
    let environment: Vec<String> = environment
        .iter()
        .map(|(n, v)| format!("{n}={v}"))
        .collect();
    let bind = |from: PathBuf, to: &str| {
        json!({
            "destination": to, "type": "bind", "source": from, "options": ["bind", "rw"]
        })
    };
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 65534, "gid": 65534},
            "args": ["/bin/sh", "-c", line],
            "env": environment,
            "cwd": "/mnt",
            "capabilities": {},
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "ward",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
            bind(sandbox.into(), "/mnt")
        ],
        "linux": {
            "cgroupsPath": group,
            "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}],
            "resources": {"memory": {"limit": memory_bytes, "swap": memory_bytes}}
        }
    })
}

const PLENTY: u64 = 256 << 20;

#[test]
fn a_container_runs_to_its_end_and_nothing_is_left() {
    if !can_run_containers() {
        return;
    }
    let mut ward = Ward::new(
        "id -u; hostname; echo $$; echo $MESOS_TASK_ID; exit 3",
        PLENTY,
    );
    let mut agent = ward.bed.running(task());
    let failed = agent.expect(TaskState::Failed);
    assert_eq!(message(&failed), "Command exited with status 3");
    ward.bed.expect_left();
    let task_id = &ward.bed.plan.executor_id;
    assert_eq!(
        ward.bed.read("stdout"),
        format!("65534\nward\n1\n{task_id}\n")
    );
    assert_eq!(ward.bed.ended().how, EndedHow::Exited(3));
    ward.assert_clean();
}

#[test]
fn a_container_is_asked_and_then_forced() {
    if !can_run_containers() {
        return;
    }
    // The first process hears SIGTERM only if it has a handler; its child dies of it.
    let mut ward = Ward::new(
        "trap 'echo asked' TERM; sh -c 'echo > said; exec sleep 1000'; exit 7",
        PLENTY,
    );
    let mut said = ward.bed.ear("said");
    let mut agent = ward.bed.running(task());
    said.hear(1);
    agent.kill(Some(Duration::from_secs(1_000)));
    agent.expect(TaskState::Killing);
    let killed = agent.expect(TaskState::Killed);
    assert_eq!(message(&killed), "Command exited with status 7");
    ward.bed.expect_left();
    assert_eq!(ward.bed.read("stdout"), "asked\n");
    ward.assert_clean();

    let mut ward = Ward::new(
        "trap '' TERM; echo > said; while :; do sleep 1000; done",
        PLENTY,
    );
    let mut said = ward.bed.ear("said");
    let mut agent = ward.bed.running(task());
    said.hear(1);
    agent.kill(Some(Duration::from_millis(200)));
    agent.expect(TaskState::Killing);
    let killed = agent.expect(TaskState::Killed);
    assert_eq!(message(&killed), "Command terminated with signal Killed");
    ward.bed.expect_left();
    ward.assert_clean();
}

#[test]
fn out_of_memory_is_told_as_such() {
    if !can_run_containers() {
        return;
    }
    // tail keeps a line without end in memory.
    let mut ward = Ward::new("tail /dev/zero", 32 << 20);
    let failed = ward.bed.run(task());
    assert_eq!(state(&failed), TaskState::Failed);
    assert_eq!(
        failed.reason(),
        Reason::ContainerLimitationMemory,
        "{failed:?}"
    );
    let words = message(&failed);
    assert!(
        words.starts_with("Memory limit exceeded: Requested: 32MB Maximum Used: 3"),
        "{words}"
    );
    let limitation = failed.limitation.clone().unwrap();
    assert_eq!(limitation.resources[0].scalar.unwrap().value, 32.0);
    assert!(ward.bed.ended().out_of_memory);
    ward.assert_clean();
}

#[test]
fn killing_the_executor_kills_the_container_and_takes_it_away() {
    if !can_run_containers() {
        return;
    }
    let mut ward = Ward::new("setsid sleep 1000 & echo > said; sleep 1000; true", PLENTY);
    let mut said = ward.bed.ear("said");
    let _agent = ward.bed.running(task());
    said.hear(1);
    let leash = children(ward.bed.executor_pid())[0];
    let init = children(leash)[0];
    let inside = children(init);
    assert!(!inside.is_empty());
    ward.bed.kill_executor();
    wait_for_end(init, || "the container outlives its executor".into());
    assert_ended(&inside);
    // The leash's last act is the runtime's delete.
    wait_for_end(leash, || "the leash stays".into());
    ward.assert_clean();
}

#[test]
fn a_command_that_is_not_in_the_image_is_named() {
    if !can_run_containers() {
        return;
    }
    let mut ward = Ward::new("true", PLENTY);
    let file = ward.container().bundle.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    config["process"]["args"] = json!(["/no/such/program"]);
    fs::write(&file, config.to_string()).unwrap();
    let mut agent = ward.bed.subscribed();
    agent.launch(task());
    agent.expect(TaskState::Starting);
    let failed = agent.expect(TaskState::Failed);
    assert_eq!(failed.reason(), Reason::ContainerLaunchFailed);
    assert!(message(&failed).contains("/no/such/program"), "{failed:?}");
    assert!(message(&failed).contains("no such file"), "{failed:?}");
    ward.bed.expect_left();
    ward.assert_clean();
}

#[test]
fn a_runtime_that_is_not_there_is_named() {
    if !can_run_containers() {
        return;
    }
    let mut ward = Ward::new("true", PLENTY);
    if let Containerizer::Oci(container) = &mut ward.bed.plan.containerizer {
        container.runtime = "/no/such/runtime".into();
    }
    let failed = ward.bed.run(task());
    assert_eq!(
        message(&failed),
        "Failed to run the container runtime '/no/such/runtime': No such file or directory"
    );
}

#[test]
fn a_health_check_runs_inside_the_container() {
    if !can_run_containers() {
        return;
    }
    let mut ward = Ward::new("echo ready; sleep 1000", PLENTY);
    let mut checked = task();
    let check = "[ $(hostname) = ward ] && [ $(id -u) = 65534 ] && [ $ANSWER = 42 ]";
    checked.health_check = Some(v1::HealthCheck {
        command: Some(v1::CommandInfo {
            value: Some(check.into()),
            environment: Some(v1::Environment {
                variables: vec![v1::environment::Variable {
                    name: "ANSWER".into(),
                    value: Some("42".into()),
                    ..Default::default()
                }],
            }),
            ..Default::default()
        }),
        delay_seconds: Some(0.0),
        ..Default::default()
    });
    let mut agent = ward.bed.running(checked);
    let well = agent.expect(TaskState::Running);
    assert_eq!(well.healthy, Some(true), "{}", ward.bed.read("stderr"));
    agent.kill(Some(Duration::ZERO));
    agent.expect_end();
    ward.bed.expect_left();
    ward.assert_clean();
}
