//! Stories of checks.

use super::*;
use mezzo_wire::v1::check_info::Type as CheckType;
use mezzo_wire::v1::health_check::Type as HealthType;

fn command() -> v1::CommandInfo {
    v1::CommandInfo {
        value: Some("test -e ready".into()),
        ..Default::default()
    }
}

/// A health check each 10 s after 1 s, with 5 s of grace, three failures and a timeout of 2 s.
fn health_check() -> v1::HealthCheck {
    v1::HealthCheck {
        r#type: Some(HealthType::Command as i32),
        command: Some(command()),
        delay_seconds: Some(1.0),
        interval_seconds: Some(10.0),
        timeout_seconds: Some(2.0),
        grace_period_seconds: Some(5.0),
        ..Default::default()
    }
}

fn checks(
    check: Option<v1::CheckInfo>,
    health_check: Option<v1::HealthCheck>,
) -> Result<Checks, String> {
    Checks::of(&v1::TaskInfo {
        check,
        health_check,
        ..Default::default()
    })
}

fn healthy(health_check: v1::HealthCheck) -> Checks {
    let mut checks = checks(None, Some(health_check)).unwrap();
    checks.start(Millis::ZERO);
    checks
}

/// Lets time pass to the next run, and answers it after a second.
fn answer(checks: &mut Checks, kind: CheckKind, outcome: Outcome) -> (Millis, Verdict) {
    let due = checks.next_deadline().unwrap();
    let mut out = Vec::new();
    assert!(checks.on_time(due, &mut out).is_empty());
    let [
        Output::StartCheck {
            kind: asked, run, ..
        },
    ] = out.as_slice()
    else {
        panic!("no run was started: {out:?}");
    };
    assert_eq!(*asked, kind);
    let at = due + Millis::from_secs(1);
    (due, checks.on_outcome(at, kind, *run, outcome))
}

#[test]
fn defaults_are_those_of_mesos() {
    let bare = v1::HealthCheck {
        command: Some(command()),
        ..Default::default()
    };
    let mut checks = healthy(bare);
    assert_eq!(checks.next_deadline(), Some(Millis::from_secs(15)));
    // 10 s of grace are over by then; the third failure ends the task.
    let fail = |checks: &mut Checks| answer(checks, CheckKind::Health, Outcome::Exited(1));
    assert_eq!(fail(&mut checks).1, Verdict::Health { kill: false });
    assert_eq!(checks.next_deadline(), Some(Millis::from_secs(15 + 1 + 10)));
    assert_eq!(fail(&mut checks).1, Verdict::Health { kill: false });
    assert_eq!(fail(&mut checks).1, Verdict::Health { kill: true });
    assert_eq!(checks.healthy(), Some(false));
}

#[test]
fn failures_count_for_nothing_within_the_grace_and_start_again_after_a_success() {
    let mut checks = healthy(v1::HealthCheck {
        interval_seconds: Some(1.0),
        ..health_check()
    });
    let fail = Outcome::Exited(1);
    // Answers come at 2 and 4 s, within the grace of 5 s; then at 6.
    for _ in 0..2 {
        assert_eq!(
            answer(&mut checks, CheckKind::Health, fail).1,
            Verdict::Nothing
        );
        assert_eq!(checks.healthy(), None);
    }
    let mut next = |outcome| answer(&mut checks, CheckKind::Health, outcome).1;
    assert_eq!(next(fail), Verdict::Health { kill: false });
    assert_eq!(next(Outcome::Failed), Verdict::Health { kill: false });
    assert_eq!(next(Outcome::Exited(0)), Verdict::Health { kill: false });
    assert_eq!(next(Outcome::Exited(0)), Verdict::Nothing, "still healthy");
    assert_eq!(next(fail), Verdict::Health { kill: false });
    assert_eq!(next(fail), Verdict::Health { kill: false });
    assert_eq!(next(fail), Verdict::Health { kill: true });
}

#[test]
fn a_success_ends_the_grace() {
    let mut checks = healthy(v1::HealthCheck {
        interval_seconds: Some(0.1),
        ..health_check()
    });
    let mut next = |outcome| answer(&mut checks, CheckKind::Health, outcome).1;
    assert_eq!(next(Outcome::Exited(0)), Verdict::Health { kill: false });
    assert_eq!(next(Outcome::Exited(1)), Verdict::Health { kill: false });
}

#[test]
fn a_run_that_takes_too_long_is_a_failure_and_its_late_answer_nothing() {
    let mut checks = healthy(health_check());
    let mut out = Vec::new();
    checks.on_time(Millis::from_secs(6), &mut out);
    let [Output::StartCheck { run, .. }] = out.as_slice() else {
        panic!("{out:?}");
    };
    let run = *run;
    assert_eq!(checks.next_deadline(), Some(Millis::from_secs(8)));
    let mut out = Vec::new();
    let late = checks.on_time(Millis::from_secs(8), &mut out);
    assert_eq!(late, [Verdict::Health { kill: false }]);
    let kind = CheckKind::Health;
    assert_eq!(out, [Output::StopCheck { kind }]);
    let now = Millis::from_secs(9);
    assert_eq!(
        checks.on_outcome(now, kind, run, Outcome::Exited(0)),
        Verdict::Nothing
    );
    // The next run's answer is not confused with it.
    let mut out = Vec::new();
    checks.on_time(Millis::from_secs(18), &mut out);
    let now = Millis::from_secs(19);
    assert_eq!(
        checks.on_outcome(now, kind, run, Outcome::Exited(0)),
        Verdict::Nothing
    );
    let verdict = checks.on_outcome(now, kind, run + 1, Outcome::Exited(0));
    assert_eq!(verdict, Verdict::Health { kill: false });
}

#[test]
fn a_stopped_check_asks_and_says_nothing() {
    let mut checks = healthy(health_check());
    let mut out = Vec::new();
    checks.on_time(Millis::from_secs(1), &mut out);
    out.clear();
    checks.stop(&mut out);
    let kind = CheckKind::Health;
    assert_eq!(out, [Output::StopCheck { kind }]);
    assert_eq!(checks.next_deadline(), None);
    let now = Millis::from_secs(9);
    assert_eq!(
        checks.on_outcome(now, kind, 1, Outcome::Exited(1)),
        Verdict::Nothing
    );
    out.clear();
    checks.stop(&mut out);
    assert!(out.is_empty(), "nothing runs any more");
}

#[test]
fn a_check_reports_each_change_of_its_result() {
    let check = v1::CheckInfo {
        r#type: Some(CheckType::Command as i32),
        command: Some(v1::check_info::Command { command: command() }),
        delay_seconds: Some(0.0),
        interval_seconds: Some(0.0),
        timeout_seconds: Some(0.0),
        ..Default::default()
    };
    let mut checks = checks(Some(check), None).unwrap();
    let exit = |checks: &Checks| checks.check_status().unwrap().command.unwrap().exit_code;
    assert_eq!(exit(&checks), None, "known before the first answer");
    checks.start(Millis::ZERO);
    let mut last = Millis::ZERO;
    for (status, verdict) in [
        (0, Verdict::Check),
        (0, Verdict::Nothing),
        (7, Verdict::Check),
        (7, Verdict::Nothing),
    ] {
        let (at, found) = answer(&mut checks, CheckKind::Check, Outcome::Exited(status));
        assert_eq!(found, verdict);
        assert_eq!(exit(&checks), Some(status));
        assert!(
            last == Millis::ZERO || at > last,
            "an interval of 0 is no storm"
        );
        last = at;
    }
    let mut out = Vec::new();
    let due = checks.next_deadline().unwrap();
    checks.on_time(due, &mut out);
    assert_eq!(checks.next_deadline(), None, "a timeout of 0 is none");
}

#[test]
fn connections_are_read_by_their_kind() {
    let http = v1::HealthCheck {
        r#type: Some(HealthType::Http as i32),
        http: Some(v1::health_check::HttpCheckInfo {
            port: 8080,
            path: Some("/health".into()),
            ..Default::default()
        }),
        ..Default::default()
    };
    let question = Question::of_health_check(&http).unwrap();
    assert_eq!(
        question,
        Question::Http {
            address: "127.0.0.1:8080".parse().unwrap(),
            path: "/health".into()
        }
    );
    for (status, well) in [
        (200, true),
        (302, true),
        (404, false),
        (503, false),
        (100, false),
    ] {
        let outcome = Outcome::Exited(http_exit(status));
        assert_eq!(question.is_success(outcome), well, "{status}");
        let told = question.answer(outcome).http.unwrap().status_code;
        assert_eq!(told, Some(u32::from(status)));
    }
    assert!(!question.is_success(Outcome::Exited(1)));
    assert!(!question.is_success(Outcome::TimedOut));
    assert_eq!(question.answer(Outcome::TimedOut), question.no_answer());
    let tcp = Question::Tcp("[::1]:80".parse().unwrap());
    assert_eq!(
        tcp.answer(Outcome::Exited(1)).tcp.unwrap().succeeded,
        Some(false)
    );
}

#[test]
fn status_codes_fit_in_an_exit_status() {
    for code in [100, 200, 204, 301, 404, 418, 429, 500, 503, 511] {
        assert_eq!(http_status(http_exit(code)), Some(u32::from(code)));
        assert!((0..256).contains(&http_exit(code)));
    }
    assert_eq!(
        http_status(http_exit(451)),
        Some(400),
        "its hundred is kept"
    );
    for none in [http_exit(99), 0, 1, -1, 252, i32::MIN, i32::MAX] {
        assert_eq!(http_status(none), None);
    }
}

#[test]
fn what_cannot_be_served_is_refused_in_words() {
    let refused = |health_check: v1::HealthCheck| checks(None, Some(health_check)).unwrap_err();
    let http = |port, path: Option<&str>, scheme: Option<&str>| v1::HealthCheck {
        http: Some(v1::health_check::HttpCheckInfo {
            port,
            path: path.map(str::to_owned),
            scheme: scheme.map(str::to_owned),
            ..Default::default()
        }),
        ..Default::default()
    };
    for (bad, words) in [
        (v1::HealthCheck::default(), "type is not set"),
        (http(0, None, None), "between 1 and 65535"),
        (http(65_536, None, None), "between 1 and 65535"),
        (http(80, Some("x"), None), "begins with '/'"),
        (http(80, Some("/a\r\nHost: b"), None), "begins with '/'"),
        (http(80, None, Some("https")), "'https'"),
        (
            v1::HealthCheck {
                delay_seconds: Some(-1.0),
                ..health_check()
            },
            "delay_seconds is -1",
        ),
        (
            v1::HealthCheck {
                grace_period_seconds: Some(f64::NAN),
                ..health_check()
            },
            "grace_period_seconds is NaN",
        ),
        (
            v1::HealthCheck {
                command: None,
                ..health_check()
            },
            "'command' is not set",
        ),
    ] {
        let found = refused(bad);
        assert!(found.contains(words), "{found}");
        assert!(found.starts_with("the task's health check: "), "{found}");
    }
}
