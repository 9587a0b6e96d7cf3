//! How a command is started, and how its end is told.

use std::fs;
use std::time::Instant;

use mezzo_executor::plan::{CommandLine, EndedHow, Rlimit, RlimitKind, User};
use mezzo_model::TaskState;
use mezzo_wire::v1::task_status::Reason;

use nix::unistd::{getegid, geteuid};

use super::bed::{Bed, is_root, message, state, task};

#[test]
fn a_command_runs_to_its_end_and_the_executor_leaves() {
    let mut bed = Bed::shell("echo to out; echo to err >&2; pwd");
    let mut agent = bed.running(task());
    let finished = agent.expect(TaskState::Finished);
    assert_eq!(message(&finished), "Command exited with status 0");
    assert_eq!(finished.reason, None);
    bed.expect_left();
    let sandbox = bed.plan.sandbox.display();
    assert_eq!(bed.read("stdout"), format!("to out\n{sandbox}\n"));
    assert_eq!(bed.read("stderr"), "to err\n");
    assert_eq!(bed.ended().how, EndedHow::Exited(0));
}

#[test]
fn ends_are_told_in_the_words_that_tools_know() {
    for (line, how, words) in [
        (
            "exit 3",
            EndedHow::Exited(3),
            "Command exited with status 3",
        ),
        (
            "nosuchcommand",
            EndedHow::Exited(127),
            "Command exited with status 127",
        ),
        (
            "kill -9 $$",
            EndedHow::Signaled(9),
            "Command terminated with signal Killed",
        ),
        (
            "kill -SEGV $$",
            EndedHow::Signaled(11),
            "Command terminated with signal Segmentation fault",
        ),
    ] {
        let mut bed = Bed::shell(line);
        let failed = bed.run(task());
        assert_eq!(state(&failed), TaskState::Failed, "{line}");
        assert_eq!(message(&failed), words, "{line}");
        assert_eq!(bed.ended().how, how, "{line}");
    }
}

#[test]
fn arguments_go_to_a_program_as_they_are() {
    let mut bed = Bed::new(CommandLine::Exec {
        program: "sh".into(),
        arguments: ["my shell", "-c", "echo \"$0|$1\"", "a b", "$HOME"]
            .map(String::from)
            .into(),
    });
    bed.run(task());
    assert_eq!(bed.read("stdout"), "a b|$HOME\n");
}

#[test]
fn the_environment_is_the_plans_and_nothing_else() {
    let mut bed = Bed::new(CommandLine::Exec {
        program: "env".into(),
        arguments: vec![],
    });
    bed.plan.environment = vec![("GREETING".into(), "hello world".into())];
    bed.run(task());
    let out = bed.read("stdout");
    let mut said: Vec<&str> = out.lines().collect();
    let expected = bed.plan.environment();
    let mut expected: Vec<String> = expected.iter().map(|(n, v)| format!("{n}={v}")).collect();
    said.sort_unstable();
    expected.sort_unstable();
    assert_eq!(said, expected);
    assert!(said.contains(&"GREETING=hello world"));
}

#[test]
fn a_payload_inherits_nothing_of_ours() {
    // No descriptors, no blocked or ignored signals, a session of its own, no input. The two signals of libc's own
    // (32 and 33) are left as they are: no program may touch them.
    let script = "ls -l /proc/self/fd | grep -c '^[lrwx-]*[ 0-9]* '; \
        grep -E '^Sig(Blk|Ign)' /proc/self/status | sed 's/00000001800/00000000000/'; umask; \
        [ $(cut -d' ' -f6 /proc/$$/stat) = $$ ] && echo leader; cat; echo no input";
    let mut bed = Bed::shell(script);
    bed.run(task());
    let out = bed.read("stdout");
    let lines: Vec<&str> = out.lines().collect();
    // ls has its three and the directory that it reads.
    assert_eq!(
        lines,
        [
            "4",
            "SigBlk:\t0000000000000000",
            "SigIgn:\t0000000000000000",
            "0022",
            "leader",
            "no input"
        ],
        "{out}"
    );
}

#[test]
fn a_program_that_cannot_run_is_named_with_the_reason() {
    let exec = |program: &str| CommandLine::Exec {
        program: program.into(),
        arguments: vec![],
    };
    for (program, words) in [
        (
            "/no/such/program",
            "Failed to run '/no/such/program': No such file or directory",
        ),
        (
            "no-such-program",
            "Failed to run 'no-such-program': No such file or directory",
        ),
        (
            "/etc/passwd",
            "Failed to run '/etc/passwd': Permission denied",
        ),
        ("/", "Failed to run '/': Permission denied"),
    ] {
        let mut bed = Bed::new(exec(program));
        let mut agent = bed.subscribed();
        agent.launch(task());
        agent.expect(TaskState::Starting);
        let failed = agent.expect(TaskState::Failed);
        assert_eq!(message(&failed), words);
        assert_eq!(failed.reason(), Reason::ContainerLaunchFailed);
        bed.expect_left();
        assert_eq!(bed.ended().how, EndedHow::NotStarted);
    }
}

#[test]
fn a_script_without_a_first_line_is_run_by_the_shell() {
    use std::os::unix::fs::PermissionsExt;
    let mut bed = Bed::new(CommandLine::Exec {
        program: "./script".into(),
        arguments: ["script", "argument"].map(String::from).into(),
    });
    let script = bed.sandbox("script");
    fs::write(&script, "echo run with $1\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(state(&bed.run(task())), TaskState::Finished);
    assert_eq!(bed.read("stdout"), "run with argument\n");
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let mut bed = Bed::shell("true");
    bed.plan.working_directory = Some("/no/such/place".into());
    let failed = bed.run(task());
    assert_eq!(
        message(&failed),
        "Failed to enter the directory '/no/such/place': No such file or directory"
    );
}

#[test]
fn a_sandbox_that_is_not_there_fails_the_task_and_not_the_executor() {
    let mut bed = Bed::shell("true");
    fs::remove_dir(&bed.plan.sandbox).unwrap();
    let failed = bed.run(task());
    assert_eq!(state(&failed), TaskState::Failed);
    assert!(
        message(&failed).starts_with("cannot keep logs in the sandbox"),
        "{failed:?}"
    );
}

#[test]
fn limits_are_set_in_the_payload() {
    let mut bed = Bed::shell("ulimit -S -n; ulimit -H -n; ulimit -c");
    let limit = |kind, soft, hard| Rlimit {
        kind,
        soft: Some(soft),
        hard: Some(hard),
    };
    bed.plan.rlimits = vec![
        limit(RlimitKind::Nofile, 77, 99),
        limit(RlimitKind::Core, 0, 0),
    ];
    bed.run(task());
    assert_eq!(bed.read("stdout"), "77\n99\n0\n");
    let mut bed = Bed::shell("true");
    bed.plan.rlimits = vec![limit(RlimitKind::Nofile, 99, 77)];
    let failed = bed.run(task());
    assert_eq!(
        message(&failed),
        "Failed to set the command's resource limits: Invalid argument"
    );
}

#[test]
fn a_payload_runs_as_its_user() {
    use std::os::unix::fs::{PermissionsExt, chown};
    let (uid, gid) = if is_root() {
        (65_534, 65_534)
    } else {
        // Without privilege there is one user to be: one's own, which must not be refused.
        (geteuid().as_raw(), getegid().as_raw())
    };
    let user = Some(User {
        name: "nobody".into(),
        uid,
        gid,
        groups: vec![gid],
    });
    let mut bed = Bed::shell("id -u; id -g; echo through the name > /dev/stdout");
    bed.plan.user = user.clone();
    // As an agent does: the way to the sandbox is open, and the sandbox is the user's.
    fs::set_permissions(bed.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    chown(&bed.plan.sandbox, Some(uid), Some(gid)).unwrap();
    let finished = bed.run(task());
    assert_eq!(
        state(&finished),
        TaskState::Finished,
        "{}",
        bed.read("stderr")
    );
    assert_eq!(
        bed.read("stdout"),
        format!("{uid}\n{gid}\nthrough the name\n")
    );
    // What the user may not enter, its command may not.
    let mut bed = Bed::shell("true");
    fs::create_dir(bed.sandbox("closed")).unwrap();
    fs::set_permissions(bed.sandbox("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    bed.plan.working_directory = Some(bed.sandbox("closed"));
    bed.plan.user = user;
    let failed = bed.run(task());
    assert!(
        message(&failed).ends_with("as user 'nobody': Permission denied"),
        "{failed:?}"
    );
}

#[test]
fn the_groups_of_a_payload_are_those_of_its_user_alone() {
    let mut bed = Bed::shell("id -G");
    bed.plan.user = Some(User {
        name: "somebody".into(),
        uid: geteuid().as_raw() + 1_234,
        gid: 4_321,
        groups: vec![4_321, 4_322],
    });
    let end = bed.run(task());
    if is_root() {
        assert_eq!(bed.read("stdout"), "4321 4322\n", "{end:?}");
    } else {
        assert_eq!(
            message(&end),
            "Failed to run the command as user 'somebody': Operation not permitted"
        );
    }
}

#[test]
fn a_task_that_runs_too_long_fails_with_its_reason() {
    let mut bed = Bed::shell("trap '' TERM; sleep 1000");
    let mut long = task();
    long.max_completion_time = Some(mezzo_wire::v1::DurationInfo {
        nanoseconds: 200_000_000,
    });
    let failed = bed.run(long);
    assert_eq!(state(&failed), TaskState::Failed);
    assert_eq!(failed.reason(), Reason::MaxCompletionTimeReached);
}

#[test]
fn an_executor_that_cannot_start_says_why() {
    let mut bed = Bed::shell("true");
    bed.start_with(|command| {
        command.arg("one too many");
    });
    assert_eq!(bed.left().code(), Some(2));
    assert!(bed.log().starts_with("usage:"), "{}", bed.log());
    fs::write(bed.plan_file(), r#"{"version": 99}"#).unwrap();
    bed.start_as_written(|_| {});
    assert_eq!(bed.left().code(), Some(2));
    assert!(bed.log().contains("has version 99"), "{}", bed.log());
}

#[test]
fn running_is_told_soon_after_the_launch() {
    let mut bed = Bed::shell("sleep 1000");
    let mut agent = bed.subscribed();
    let launched = Instant::now();
    agent.launch(task());
    agent.expect(TaskState::Starting);
    agent.expect(TaskState::Running);
    let took = launched.elapsed();
    // The figure is for the reader; the bound only catches a wait that should not be there.
    println!("LAUNCH sent to TASK_RUNNING heard: {took:?}");
    assert!(took.as_millis() < 1_000, "{took:?}");
}
