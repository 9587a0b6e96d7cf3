//! The rules of counting, with answers made by hand.

use serde_json::json;

use super::*;
use crate::core::app::AppUpdate;
use crate::core::app_id::AppId;

const WALL: Version = Version(5);

fn spec(check: serde_json::Value) -> Arc<AppSpec> {
    let document = json!({"cmd": "x", "healthChecks": [check]});
    let update = AppUpdate::read(&document, "").expect("good");
    Arc::new(update.apply(None, AppId::parse("/a").expect("good"), "*"))
}

fn id() -> InstanceId {
    InstanceId::new(
        AppId::parse("/a").expect("good"),
        "7a6f0c1e-0000-4000-8000-000000000001",
    )
}

/// Asks once and gives the answer; returns when the next is due.
fn answer(book: &mut HealthBook, result: ProbeResult) -> (Option<Verdict>, Millis) {
    let at = book.next_deadline().expect("watched");
    let (orders, lost) = book.due(at);
    assert_eq!((orders.len(), lost.len()), (1, 0));
    let verdict = book.answered(orders[0].0, result, at, WALL);
    (verdict, book.next_deadline().expect("watched"))
}

#[test]
fn the_fourth_counted_failure_kills() {
    let spec = spec(json!({"gracePeriodSeconds": 0, "intervalSeconds": 10, "path": "up"}));
    let mut book = HealthBook::default();
    book.watch(&id(), &spec, "h", &[31_000], Millis(0));
    for counted in 1..=3 {
        let (verdict, _) = answer(&mut book, ProbeResult::Status(500));
        let verdict = verdict.expect("watched");
        assert_eq!((verdict.changed, verdict.kill), (counted == 1, None));
    }
    let (verdict, _) = answer(&mut book, ProbeResult::Failed("refused".to_owned()));
    assert_eq!(verdict.expect("watched").kill.as_deref(), Some("refused"));
    assert_eq!(book.word(&id()), Some(false));
    assert_eq!(book.states(&id())[0].consecutive_failures, 4);
}

#[test]
fn grace_ends_with_the_first_success() {
    let spec =
        spec(json!({"gracePeriodSeconds": 100, "intervalSeconds": 1, "maxConsecutiveFailures": 1}));
    let mut book = HealthBook::default();
    book.watch(&id(), &spec, "h", &[1], Millis(0));
    for _ in 0..5 {
        let (verdict, _) = answer(&mut book, ProbeResult::Status(404));
        assert!(!verdict.expect("watched").changed);
        assert_eq!(book.word(&id()), None);
    }
    let (verdict, _) = answer(&mut book, ProbeResult::Status(302));
    assert!(verdict.expect("watched").changed);
    assert_eq!(book.word(&id()), Some(true));
    assert_eq!(
        answer(&mut book, ProbeResult::Status(404))
            .0
            .expect("watched")
            .kill,
        None
    );
    assert!(
        answer(&mut book, ProbeResult::Status(404))
            .0
            .expect("watched")
            .kill
            .is_some()
    );
}

#[test]
fn checks_begin_soon_and_slow_down_to_the_interval() {
    let spec = spec(json!({"protocol": "TCP", "intervalSeconds": 2}));
    let mut book = HealthBook::default();
    book.watch(&id(), &spec, "h", &[31_005], Millis(1000));
    let mut last = Millis(1000);
    for pause in [250, 500, 1000, 2000, 2000] {
        let at = book.next_deadline().expect("watched");
        assert_eq!(at.since(last), Millis(pause));
        last = at;
        answer(&mut book, ProbeResult::Failed("no".to_owned()));
    }
}

#[test]
fn from_the_first_success_on_the_interval_counts() {
    let spec = spec(json!({"intervalSeconds": 60}));
    let mut book = HealthBook::default();
    book.watch(&id(), &spec, "h", &[1], Millis(0));
    let (_, second) = answer(&mut book, ProbeResult::Failed("not yet".to_owned()));
    assert_eq!(second, FIRST_CHECK + FIRST_CHECK * 2);
    for answered in [
        ProbeResult::Status(200),
        ProbeResult::Status(200),
        ProbeResult::Status(500),
        ProbeResult::Status(200),
    ] {
        let at = book.next_deadline().expect("watched");
        let (_, next) = answer(&mut book, answered);
        assert_eq!(next.since(at), Millis::from_secs(60), "no early question");
    }
}

#[test]
fn never_killed_where_zero_failures_are_allowed_and_1xx_may_be_passed_over() {
    let spec =
        spec(json!({"maxConsecutiveFailures": 0, "gracePeriodSeconds": 0, "ignoreHttp1xx": true}));
    let mut book = HealthBook::default();
    book.watch(&id(), &spec, "h", &[1], Millis(0));
    assert!(
        !answer(&mut book, ProbeResult::Status(101))
            .0
            .expect("watched")
            .changed
    );
    for _ in 0..20 {
        assert_eq!(
            answer(&mut book, ProbeResult::Status(503))
                .0
                .expect("watched")
                .kill,
            None
        );
    }
}

#[test]
fn a_lost_answer_is_a_failure_and_one_for_nobody_is_passed_over() {
    let spec = spec(json!({"gracePeriodSeconds": 0, "timeoutSeconds": 5}));
    let mut book = HealthBook::default();
    book.watch(&id(), &spec, "::1", &[80], Millis(0));
    let (orders, _) = book.due(FIRST_CHECK);
    let target = ProbeTarget::Http {
        url: "http://[::1]:80/".to_owned(),
    };
    assert_eq!(
        orders[0].1,
        ProbeOrder {
            target,
            timeout: Millis(5000)
        }
    );
    let later = book.next_deadline().expect("the answer is awaited");
    assert_eq!(later, FIRST_CHECK + Millis(5000) + LOST_ANSWER);
    let (none, lost) = book.due(later);
    assert!(none.is_empty());
    let verdict = book.answered(lost[0], ProbeResult::Failed("lost".to_owned()), later, WALL);
    assert!(verdict.expect("watched").changed);
    book.unwatch(&id());
    assert_eq!(
        book.answered(lost[0], ProbeResult::Connected, later, WALL),
        None
    );
    assert_eq!(book.next_deadline(), None);
    assert_eq!(book.word(&id()), None);
}
