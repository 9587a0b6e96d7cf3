//! The plan as a file, and the environment that it makes.

use super::*;

fn plan() -> Plan {
    crate::testing::plan("/tmp/sandbox", "/tmp/run")
}

#[test]
fn a_plan_comes_back_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plan.json");
    let mut plan = plan();
    plan.containerizer = Containerizer::Oci(OciContainer {
        runtime: "/usr/sbin/runc".into(),
        runtime_arguments: vec![],
        root: "/run/mezzo".into(),
        bundle: "/b".into(),
        id: "c1".into(),
        mounts: vec![Mount::Unmount {
            target: "/sys/fs/cgroup/unified".into(),
        }],
        cgroups: vec![CgroupWatch::V2("/sys/fs/cgroup/mezzo/c1".into())],
        memory_limit_bytes: Some(64 << 20),
    });
    plan.store(&path).unwrap();
    assert_eq!(Plan::load(&path).unwrap(), plan);
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_newer_plan_is_refused_in_words_even_if_its_shape_changed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plan.json");
    std::fs::write(&path, r#"{"version": 2, "all": "different"}"#).unwrap();
    let words = Plan::load(&path).unwrap_err().to_string();
    assert!(words.contains("has version 2"), "{words}");
    assert!(words.contains("reads up to 1"), "{words}");
}

#[test]
fn broken_missing_and_huge_plans_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plan.json");
    let missing = Plan::load(&path).unwrap_err();
    assert!(matches!(missing, PlanError::Io { act: "read", .. }));
    std::fs::write(&path, "{").unwrap();
    assert!(matches!(
        Plan::load(&path).unwrap_err(),
        PlanError::Malformed { .. }
    ));
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(1 << 30).unwrap();
    assert!(matches!(
        Plan::load(&path).unwrap_err(),
        PlanError::TooLong { .. }
    ));
}

#[test]
fn our_own_variables_win_over_the_commands() {
    let mut plan = plan();
    plan.environment = vec![
        ("PATH".into(), "/opt/bin".into()),
        ("GREETING".into(), "a".into()),
        ("GREETING".into(), "b".into()),
        ("MESOS_SANDBOX".into(), "/etc".into()),
        (MARKER_VARIABLE.into(), "someone else".into()),
    ];
    plan.sandbox_inside = Some("/mnt/mesos/sandbox".into());
    let env = plan.environment();
    let get = |name: &str| {
        let mut found = env.iter().filter(|(n, _)| n == name);
        let value = found.next().map(|(_, v)| v.as_str());
        assert!(found.next().is_none(), "{name} stands twice");
        value
    };
    assert_eq!(get("PATH"), Some("/opt/bin"));
    assert_eq!(get("GREETING"), Some("b"));
    assert_eq!(get("MESOS_SANDBOX"), Some("/mnt/mesos/sandbox"));
    assert_eq!(get("MESOS_DIRECTORY"), Some("/tmp/sandbox"));
    assert_eq!(get(MARKER_VARIABLE), Some(plan.container_id.as_str()));
    assert_eq!(get("MESOS_TASK_ID"), Some(plan.executor_id.as_str()));
    assert_eq!(get("MEZZO_AGENT_SOCKET"), None, "a task is no executor");
}

#[test]
fn a_custom_executor_is_told_the_way_to_the_agent() {
    let mut plan = plan();
    plan.role = ExecutorRole::Custom;
    plan.timing.recovery_timeout_ms = 1_500;
    let env = plan.environment();
    let has = |name: &str, value: &str| env.contains(&(name.to_owned(), value.to_owned()));
    assert!(has("MESOS_EXECUTOR_AUTHENTICATION_TOKEN", "secret"));
    assert!(has("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", "5secs"));
    assert!(has("MESOS_RECOVERY_TIMEOUT", "1500ms"));
    assert!(has("MESOS_CHECKPOINT", "1"));
    assert!(!env.iter().any(|(name, _)| name == "MESOS_TASK_ID"));
}

#[test]
fn commands_follow_the_rule_of_shell_and_arguments() {
    use mezzo_wire::v1::CommandInfo;
    let info = |value: Option<&str>, shell: Option<bool>, arguments: &[&str]| CommandInfo {
        value: value.map(str::to_owned),
        shell,
        arguments: arguments.iter().map(|&a| a.to_owned()).collect(),
        ..Default::default()
    };
    let line = CommandLine::from_wire(&info(Some("echo $X"), None, &["ignored"])).unwrap();
    assert_eq!(line.argv(), ["sh", "-c", "echo $X"]);
    let exec = CommandLine::from_wire(&info(Some("/bin/echo"), Some(false), &["echo", "a b"]));
    let exec = exec.unwrap();
    assert_eq!(
        (exec.program(), exec.argv()),
        ("/bin/echo", vec!["echo".into(), "a b".into()])
    );
    let bare = CommandLine::from_wire(&info(Some("true"), Some(false), &[])).unwrap();
    assert_eq!(bare.argv(), ["true"]);
    let refused = |info: &CommandInfo| CommandLine::from_wire(info).unwrap_err();
    assert_eq!(refused(&info(None, None, &[])), CommandError::Empty);
    assert_eq!(
        refused(&info(Some("a\0b"), None, &[])),
        CommandError::Nul("'value'")
    );
    assert_eq!(
        refused(&info(Some("a"), Some(false), &["\0"])),
        CommandError::Nul("'arguments'")
    );
}
