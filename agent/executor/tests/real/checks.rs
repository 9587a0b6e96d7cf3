//! Checks and health checks of a real task.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use mezzo_model::TaskState;
use mezzo_wire::v1;
use mezzo_wire::v1::task_status::Reason;

use super::bed::{Bed, assert_ended, message, task};

fn shell(line: &str) -> v1::CommandInfo {
    v1::CommandInfo {
        value: Some(line.to_owned()),
        ..Default::default()
    }
}

/// A health check as fast as allowed, without grace, that ends the task after two failures.
fn health_check(command: v1::CommandInfo) -> v1::HealthCheck {
    v1::HealthCheck {
        command: Some(command),
        delay_seconds: Some(0.0),
        interval_seconds: Some(0.0),
        grace_period_seconds: Some(0.0),
        consecutive_failures: Some(2),
        ..Default::default()
    }
}

#[test]
fn health_is_told_as_it_changes_and_an_unhealthy_task_is_ended() {
    let mut bed = Bed::shell("touch well; echo running > said; while :; do sleep 1000; done");
    let mut said = bed.ear("said");
    let mut checked = task();
    // Run where the task runs, with its environment and its own.
    let mut check = shell("[ \"$ANSWER:$GREETING\" = 42:hello ] && test -e well");
    check.environment = Some(v1::Environment {
        variables: vec![v1::environment::Variable {
            name: "ANSWER".into(),
            value: Some("42".into()),
            ..Default::default()
        }],
    });
    bed.plan.environment = vec![("GREETING".into(), "hello".into())];
    checked.health_check = Some(health_check(check));
    checked.health_check.as_mut().unwrap().delay_seconds = Some(0.1);
    let mut agent = bed.subscribed();
    agent.launch(checked);
    agent.expect(TaskState::Starting);
    assert_eq!(agent.expect(TaskState::Running).healthy, None);
    said.hear(1);
    let well = agent.expect(TaskState::Running);
    assert_eq!(well.healthy, Some(true));
    assert_eq!(well.reason(), Reason::TaskHealthCheckStatusUpdated);
    std::fs::remove_file(bed.sandbox("well")).unwrap();
    assert_eq!(agent.expect(TaskState::Running).healthy, Some(false));
    assert_eq!(agent.expect(TaskState::Running).healthy, Some(false));
    agent.expect(TaskState::Killing);
    let killed = agent.expect(TaskState::Killed);
    assert_eq!(killed.healthy, Some(false));
    assert_eq!(
        message(&killed),
        "Command terminated with signal Terminated"
    );
    bed.expect_left();
}

#[test]
fn a_check_that_hangs_is_a_failure_and_is_ended_with_all_it_started() {
    let mut bed = Bed::shell("sleep 1000");
    let mut pids = bed.ear("pids");
    let mut checked = task();
    let hang =
        "echo checking >&2; setsid sh -c 'echo $$ > pids; sleep 1000' & echo $$ > pids; sleep 1000";
    let mut check = health_check(shell(hang));
    check.timeout_seconds = Some(0.3);
    check.consecutive_failures = Some(1);
    checked.health_check = Some(check);
    let mut agent = bed.running(checked);
    let failed = agent.expect(TaskState::Running);
    assert_eq!(failed.healthy, Some(false));
    agent.expect(TaskState::Killing);
    agent.expect(TaskState::Killed);
    bed.expect_left();
    assert!(
        bed.read("stderr").starts_with("checking\n"),
        "a check's words are kept"
    );
    for pid in pids.pids(2) {
        super::bed::wait_for_end(pid, || format!("the check's process {pid} is left"));
        assert_ended(&[pid]);
    }
}

#[test]
fn a_check_reports_the_exit_status_of_its_command() {
    let mut bed = Bed::shell("sleep 1000");
    std::fs::write(bed.sandbox("answer"), "3").unwrap();
    let mut checked = task();
    checked.check = Some(v1::CheckInfo {
        r#type: Some(v1::check_info::Type::Command as i32),
        command: Some(v1::check_info::Command {
            command: shell("exit $(cat answer)"),
        }),
        delay_seconds: Some(0.0),
        interval_seconds: Some(0.0),
        ..Default::default()
    });
    let mut agent = bed.subscribed();
    agent.launch(checked);
    agent.expect(TaskState::Starting);
    let exit = |status: v1::TaskStatus| status.check_status.unwrap().command.unwrap().exit_code;
    assert_eq!(exit(agent.expect(TaskState::Running)), None);
    let first = agent.expect(TaskState::Running);
    assert_eq!(first.reason(), Reason::TaskCheckStatusUpdated);
    assert_eq!(exit(first), Some(3));
    // By rename, so that no check reads half of it.
    std::fs::write(bed.sandbox("new"), "0").unwrap();
    std::fs::rename(bed.sandbox("new"), bed.sandbox("answer")).unwrap();
    assert_eq!(exit(agent.expect(TaskState::Running)), Some(0));
    agent.kill(None);
    agent.expect_end();
    bed.expect_left();
}

#[test]
fn a_page_and_a_port_are_checked() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = u32::from(server.local_addr().unwrap().port());
    std::thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.unwrap();
            let mut request = String::new();
            let _ = BufReader::new(&stream).read_line(&mut request);
            let status = if request.starts_with("GET /well ") {
                200
            } else {
                500
            };
            let _ = write!(stream, "HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n");
        }
    });
    for (path, healthy) in [("/well", true), ("/ill", false)] {
        let mut bed = Bed::shell("sleep 1000");
        let mut checked = task();
        checked.health_check = Some(v1::HealthCheck {
            command: None,
            http: Some(v1::health_check::HttpCheckInfo {
                port,
                path: Some(path.into()),
                ..Default::default()
            }),
            ..health_check(shell(""))
        });
        checked.check = Some(v1::CheckInfo {
            r#type: Some(v1::check_info::Type::Tcp as i32),
            tcp: Some(v1::check_info::Tcp { port }),
            delay_seconds: Some(0.0),
            ..Default::default()
        });
        let mut agent = bed.running(checked);
        let mut seen = (None, None);
        while seen.0.is_none() || seen.1.is_none() {
            let status = agent.expect(TaskState::Running);
            seen.0 = status.healthy.or(seen.0);
            seen.1 = status
                .check_status
                .unwrap()
                .tcp
                .unwrap()
                .succeeded
                .or(seen.1);
        }
        assert_eq!(seen, (Some(healthy), Some(true)), "{path}");
        agent.kill(None);
        agent.expect_end();
        bed.expect_left();
    }
}
