//! Ends of the process, of the subscription and of the store in the middle of things.

use mezzo_coordination::CommitError;
use mezzo_model::task_state::TaskState::{
    Dropped, Failed, Finished, Gone, Running, Staging, Starting, Unknown,
};
use mezzo_model::time::Millis;
use mezzo_sdk::scheduler::SchedulerEvent;
use serde_json::json;

use crate::core::testing::{Env, job_id};
use crate::core::{Call, Input, Reply, RunStatus};

impl Env {
    /// Subscribes, and one task is asked about.
    pub fn subscribe_asking(&mut self, task: &mezzo_model::ids::TaskId) {
        let framework_id = mezzo_model::ids::FrameworkId::parse("f-1").expect("good");
        let event = SchedulerEvent::Subscribed {
            framework_id,
            resubscribed: true,
        };
        self.input(Input::Scheduler(event));
        assert_eq!(self.reconciled(), [vec![task.clone()], vec![]]);
        self.expect_demand(self.core.totals().queued_runs > 0);
    }
}

#[test]
fn a_running_task_goes_on_over_a_restart() {
    let mut env = Env::new();
    env.job("j", json!({}));
    let (run, task) = env.running("j");
    env.restart();
    env.subscribe_asking(&task);
    env.answer(&task, Running);
    assert_eq!(env.run("j", &run).status, RunStatus::Active);
    env.told(&task, Finished);
    assert_eq!(env.run("j", &run).status, RunStatus::Success);
    env.finish();
}

#[test]
fn an_attempt_that_was_recorded_and_never_sent_is_made_again() {
    for answer in [Gone, Unknown, Dropped] {
        let mut env = Env::new();
        env.job("j", json!({"restart": {"policy": "NEVER"}}));
        let run = env.start_wanted("j");
        let lost = env.launch();
        env.restart();
        env.subscribe_asking(&lost);
        env.answer(&lost, answer);
        env.expect_demand(true);
        let task = env.launch();
        assert_ne!(task, lost, "a task id is used once");
        env.told(&task, Running);
        env.told(&task, Finished);
        let view = env.run("j", &run);
        assert_eq!((view.status, view.tasks.len()), (RunStatus::Success, 1));
        env.finish();
    }
}

#[test]
fn a_task_that_had_begun_and_is_gone_is_not_run_twice() {
    let mut env = Env::new();
    env.job("j", json!({"restart": {"policy": "NEVER"}}));
    let run = env.start_wanted("j");
    let task = env.launch();
    env.told(&task, Starting);
    env.restart();
    env.subscribe_asking(&task);
    env.answer(&task, Gone);
    assert_eq!(env.run("j", &run).status, RunStatus::Failed);
    env.finish();
}

#[test]
fn a_task_that_was_only_staged_and_is_gone_is_run_again() {
    let mut env = Env::new();
    env.job("j", json!({"restart": {"policy": "NEVER"}}));
    env.start_wanted("j");
    let task = env.launch();
    env.restart();
    env.subscribe_asking(&task);
    env.answer(&task, Staging);
    env.answer(&task, Gone);
    env.expect_demand(true);
    env.launch();
    env.finish();
}

#[test]
fn a_run_is_known_again_exactly_if_it_was_promised() {
    let mut env = Env::new();
    env.job("j", json!({}));
    env.slow = true;
    env.ask(Call::StartRun { job: job_id("j") });
    env.restart();
    env.slow = false;
    env.subscribe();
    assert_eq!(env.core.totals().active_runs, 0, "nobody was told of it");
    let run = env.start_wanted("j");
    env.restart();
    env.subscribe();
    assert_eq!(env.run("j", &run).status, RunStatus::Starting);
    env.launch();
    env.finish();
}

#[test]
fn a_stopped_task_is_ended_even_if_the_process_ends_before_the_kill() {
    let mut env = Env::new();
    env.job("j", json!({}));
    let (run, task) = env.running("j");
    env.stop("j", &run);
    env.restart();
    env.subscribe();
    env.answer(&task, Running);
    env.expect_kill(&task);
    env.answer(&task, Running);
    assert!(
        env.commands.is_empty(),
        "the driver repeats a kill, we do not"
    );
    env.finish();
}

#[test]
fn a_result_that_was_not_stored_is_told_again() {
    let mut env = Env::new();
    env.job("j", json!({}));
    let (run, task) = env.running("j");
    env.slow = true;
    let end = env.status(&task, Finished);
    env.deliver(end.clone());
    env.restart();
    env.slow = false;
    env.subscribe_asking(&task);
    assert_eq!(env.run("j", &run).status, RunStatus::Active);
    let ack = env.deliver(end.clone());
    env.expect_ack(&ack);
    let again = env.deliver(end);
    env.expect_ack(&again);
    assert_eq!(env.history("j").success_count, 1);
    env.restart();
    env.subscribe();
    assert_eq!(env.history("j").success_count, 1);
    env.finish();
}

#[test]
fn a_lost_subscription_frees_what_was_set_aside() {
    let mut env = Env::new();
    env.job("j", json!({}));
    env.start_wanted("j");
    env.slow = true;
    env.offer("cpus:1;mem:32");
    env.expect_demand(false);
    env.input(Input::Scheduler(SchedulerEvent::Disconnected));
    env.commit();
    env.slow = false;
    assert!(env.commands.is_empty(), "the offer is void");
    env.subscribe();
    let task = env.launch();
    assert!(task.as_str().ends_with("._app.2"));
    env.finish();
}

#[test]
fn a_rescinded_offer_is_not_used() {
    let mut env = Env::new();
    env.job("j", json!({}));
    env.start_wanted("j");
    env.slow = true;
    let offer = env.offer("cpus:1;mem:32");
    env.expect_demand(false);
    env.input(Input::Scheduler(SchedulerEvent::Rescind(offer)));
    env.expect_demand(true);
    env.commit();
    env.slow = false;
    assert!(env.commands.is_empty());
    env.launch();
    env.finish();
}

#[test]
fn a_dropped_launch_is_made_again_for_free() {
    let mut env = Env::new();
    env.job("j", json!({"restart": {"policy": "NEVER"}}));
    let run = env.start_wanted("j");
    let task = env.launch();
    let mut status = env.status(&task, Dropped);
    status.uuid = None;
    env.deliver(status);
    env.expect_demand(true);
    let second = env.launch();
    env.told(&second, Running);
    env.told(&second, Finished);
    assert_eq!(env.run("j", &run).status, RunStatus::Success);
    env.finish();
}

#[test]
fn a_store_that_cannot_be_reached_is_asked_again() {
    let mut env = Env::new();
    env.slow = true;
    let spec = crate::core::testing::spec("j", json!({}));
    let asked = env.ask(Call::CreateJob { spec });
    env.fail_commit(CommitError::Unavailable, true);
    assert!(env.replies.is_empty() && env.under_way.is_empty());
    env.pass(Millis(199));
    assert!(env.under_way.is_empty(), "too early");
    env.pass(Millis(1));
    env.fail_commit(CommitError::Unavailable, false);
    env.pass(Millis(400));
    env.commit();
    assert!(matches!(env.reply(asked), Reply::Spec(_)));
    env.finish();
}

#[test]
fn a_core_whose_term_is_over_does_nothing_more() {
    let mut env = Env::new();
    env.job("j", json!({}));
    env.slow = true;
    env.ask(Call::StartRun { job: job_id("j") });
    env.expect_demand(true);
    env.fail_commit(CommitError::Fenced, false);
    assert!(
        env.abdicated
            .take()
            .is_some_and(|reason| reason.contains("over"))
    );
    env.offer("cpus:1;mem:32");
    assert_eq!(env.core.next_deadline(), None);
    assert!(env.commands.is_empty() && env.replies.is_empty() && env.under_way.is_empty());
}

#[test]
fn what_a_newer_version_wrote_is_refused_in_words() {
    use mezzo_coordination::Record;
    let record = |key: &str, value: &str| Record {
        key: format!("batch-{key}"),
        value: bytes::Bytes::copy_from_slice(value.as_bytes()),
        version: 1,
    };
    let load =
        |record: Record| crate::core::Core::load(Default::default(), 1, &[record]).map(|_| ());
    let newer = load(record("format", "2")).expect_err("newer").to_string();
    assert!(
        newer.contains("format 2") && newer.contains("newer mezzo"),
        "{newer}"
    );
    let broken = load(record("jobs/j", "{}"))
        .expect_err("broken")
        .to_string();
    assert!(broken.contains("batch-jobs/j"), "{broken}");
    load(record("runs/gone/1", "{}")).expect("left by a deletion that did not come to its end");
    load(Record {
        key: "framework/id".into(),
        ..record("x", "f-1")
    })
    .expect("another's");
}

#[test]
fn an_attempt_that_failed_before_the_restart_counts() {
    let mut env = Env::new();
    env.job("j", json!({"retries": {"count": 1, "backoffSeconds": 1}}));
    let (run, task) = env.running("j");
    env.told(&task, Failed);
    env.restart();
    env.subscribe();
    let second = env.launch();
    env.told(&second, Running);
    env.told(&second, Failed);
    assert_eq!(env.run("j", &run).status, RunStatus::Failed);
    env.finish();
}

#[test]
fn news_of_a_task_whose_run_is_being_stopped_waits_for_that() {
    let mut env = Env::new();
    env.job("j", json!({}));
    env.start_wanted("j");
    let task = env.launch();
    let run = match env.call(Call::ListRuns { job: job_id("j") }) {
        Reply::Runs(runs) => runs[0].key.run.clone(),
        other => panic!("{other:?}"),
    };
    env.slow = true;
    env.ask(Call::StopRun {
        job: job_id("j"),
        run: run.clone(),
    });
    let begun = env.update(&task, Starting);
    assert!(
        env.commands.is_empty(),
        "the cluster must not forget it before we have"
    );
    env.restart();
    env.slow = false;
    env.subscribe_asking(&task);
    let again = env.update(&task, Starting);
    env.expect_ack(&again);
    env.answer(&task, Gone);
    assert_ne!(begun, again);
    assert_eq!(
        env.run("j", &run).status,
        RunStatus::Failed,
        "it had begun, so it is not run twice"
    );
    env.finish();
}

#[test]
fn an_answer_about_an_end_does_not_let_the_end_be_acknowledged_early() {
    let mut env = Env::new();
    env.job("j", json!({}));
    let (run, task) = env.running("j");
    let end = env.status(&task, Finished);
    env.slow = true;
    env.answer(&task, Finished);
    let ack = env.deliver(end);
    assert!(env.commands.is_empty(), "it is not stored yet");
    env.commit();
    env.expect_ack(&ack);
    assert_eq!(env.run("j", &run).status, RunStatus::Success);
    env.finish();
}

#[test]
fn a_framework_that_the_master_removed_begins_anew_and_one_that_was_overtaken_does_not() {
    for (message, removed_expected) in [
        ("Framework has been removed", true),
        ("Framework failed over", false),
    ] {
        let mut core = crate::core::Core::new(Default::default(), 1);
        let mut out = Vec::new();
        let event = SchedulerEvent::Refused {
            message: message.to_owned(),
            fatal: true,
        };
        let now = mezzo_model::time::Now::default();
        core.handle(now, Input::Scheduler(event), &mut out);
        let told = out.iter().find_map(|output| match output {
            crate::core::Output::Abdicate { reason, removed } => Some((reason, *removed)),
            _ => None,
        });
        let (reason, removed) = told.expect("it may not act any more");
        assert!(
            reason.contains(message) && removed == removed_expected,
            "{reason}"
        );
        assert_eq!(core.next_deadline(), None);
    }
}
