//! How runs begin, go on and end.

use mezzo_model::task_state::TaskState::{
    Error, Failed, Finished, Gone, Killed, Running, Starting, Unreachable,
};
use mezzo_model::time::Millis;
use serde_json::json;

use crate::core::testing::{Env, job_id, spec};
use crate::core::{Call, Config, Embed, Refusal, Reply, RunStatus};

#[test]
fn a_run_is_launched_and_succeeds() {
    let mut env = Env::new();
    env.job(
        "reports.daily",
        json!({"user": "ann", "env": {"A": "b"}, "taskKillGracePeriodSeconds": 7}),
    );
    let run = env.start_wanted("reports.daily");
    assert_eq!(env.run("reports.daily", &run).status, RunStatus::Starting);
    let offer = env.offer("cpus:2;mem:64;disk:5");
    env.expect_demand(false);
    let (launched, refuse) = env.expect_accept(&offer);
    assert_eq!((launched.len(), refuse), (1, 5.0));
    let info = &launched[0].info;
    let id = launched[0].task.as_str();
    assert!(
        id.starts_with(&format!("reports_daily_{run}.instance-")) && id.ends_with("._app.1"),
        "{id}"
    );
    let command = info.command.clone().expect("a command");
    assert_eq!(
        (command.shell, command.value.as_deref()),
        (Some(true), Some("true"))
    );
    assert_eq!(command.user.as_deref(), Some("ann"));
    let env_names: Vec<String> = command
        .environment
        .expect("set")
        .variables
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    assert_eq!(
        env_names,
        ["A", "MEZZO_ATTEMPT", "MEZZO_JOB_ID", "MEZZO_RUN_ID"]
    );
    let grace = info
        .kill_policy
        .and_then(|policy| policy.grace_period)
        .expect("a grace period");
    assert_eq!(grace.nanoseconds, 7_000_000_000);
    assert_eq!(
        info.resources.len(),
        2,
        "no disk is asked for: {:?}",
        info.resources
    );

    let task = launched[0].task.clone();
    env.told(&task, Starting);
    env.told(&task, Running);
    assert_eq!(env.run("reports.daily", &run).status, RunStatus::Active);
    env.told(&task, Finished);
    let view = env.run("reports.daily", &run);
    assert_eq!((view.status, view.tasks.len()), (RunStatus::Success, 1));
    assert!(view.completed_at.is_some());
    let history = env.history("reports.daily");
    assert_eq!((history.success_count, history.failure_count), (1, 0));
    assert_eq!(history.successful[0].id, run);
    env.finish();
}

#[test]
fn nothing_leaves_before_its_record_is_stored() {
    let mut env = Env::new();
    env.job("j", json!({}));
    env.slow = true;
    let asked = env.ask(Call::StartRun { job: job_id("j") });
    env.expect_demand(true);
    assert!(env.replies.is_empty(), "the run is not stored yet");
    let offer = env.offer("cpus:1;mem:32");
    env.expect_demand(false);
    assert!(env.commands.is_empty(), "the attempt is not stored yet");
    env.commit();
    assert!(matches!(env.reply(asked), Reply::Run(_)));
    assert!(env.commands.is_empty(), "the attempt is still not stored");
    env.commit();
    let (launched, _) = env.expect_accept(&offer);
    let task = launched[0].task.clone();
    let begun = env.update(&task, Starting);
    assert!(
        env.commands.is_empty(),
        "that it has begun is not stored yet"
    );
    env.commit();
    env.expect_ack(&begun);
    let end = env.update(&task, Finished);
    let again = env.update(&task, Finished);
    assert!(env.commands.is_empty(), "the end is not stored yet");
    env.commit();
    assert_ne!(end, again);
    env.expect_ack(&again);
    assert_eq!(
        env.history("j").success_count,
        1,
        "the repeat was not counted"
    );
    env.finish();
}

#[test]
fn policies_decide_what_follows_a_failure() {
    for state in [Failed, Killed, Gone] {
        let mut env = Env::new();
        env.job("never", json!({"restart": {"policy": "NEVER"}}));
        let (run, task) = env.running("never");
        env.told(&task, state);
        assert_eq!(env.run("never", &run).status, RunStatus::Failed);
        assert_eq!(env.history("never").failure_count, 1);
        env.finish();

        let mut env = Env::new();
        env.job("again", json!({"restart": {"policy": "ON_FAILURE"}}));
        let (run, first) = env.running("again");
        env.pass(Millis::from_secs(20));
        let ack = env.update(&first, state);
        env.expect_demand(true);
        env.expect_ack(&ack);
        assert_eq!(env.run("again", &run).status, RunStatus::Active);
        let second = env.launch();
        assert!(second.as_str().ends_with("._app.2"), "{second}");
        env.told(&second, Running);
        env.told(&second, Finished);
        let view = env.run("again", &run);
        assert_eq!(
            (view.status, view.attempts, view.tasks.len()),
            (RunStatus::Success, 2, 2)
        );
        assert_eq!(
            env.history("again").failure_count,
            0,
            "the run has one result"
        );
        env.finish();
    }
}

#[test]
fn what_is_refused_is_not_tried_again() {
    let mut env = Env::new();
    env.job("j", json!({"restart": {"policy": "ON_FAILURE"}}));
    let run = env.start_wanted("j");
    let task = env.launch();
    let mut status = env.status(&task, Error);
    status.uuid = None;
    status.message = Some("Task uses too much".to_owned());
    env.deliver(status);
    let view = env.run("j", &run);
    assert_eq!(view.status, RunStatus::Failed);
    assert_eq!(
        view.tasks[0].attempt.message.as_deref(),
        Some("Task uses too much")
    );
    env.finish();
}

#[test]
fn no_attempt_begins_after_the_deadline() {
    let mut env = Env::new();
    env.job(
        "j",
        json!({"restart": {"policy": "ON_FAILURE", "activeDeadlineSeconds": 30}}),
    );
    let (run, task) = env.running("j");
    env.pass(Millis::from_secs(31));
    env.told(&task, Failed);
    assert_eq!(env.run("j", &run).status, RunStatus::Failed);
    env.finish();
}

#[test]
fn retries_pause_and_are_counted() {
    let mut env = Env::new();
    env.job("j", json!({"retries": {"count": 2, "backoffSeconds": 10}}));
    let (run, mut task) = env.running("j");
    for pause in [10, 20] {
        env.told(&task, Failed);
        env.pass(Millis::from_secs(pause) - Millis(1));
        assert!(env.commands.is_empty(), "too early");
        env.pass(Millis(1));
        env.expect_demand(true);
        task = env.launch();
        env.told(&task, Running);
    }
    env.told(&task, Failed);
    let view = env.run("j", &run);
    assert_eq!(
        (view.status, view.attempts, view.tasks.len()),
        (RunStatus::Failed, 3, 3)
    );
    env.finish();
}

#[test]
fn a_job_that_cannot_work_is_tried_less_and_less_often() {
    let mut env = Env::new();
    env.job("j", json!({"restart": {"policy": "ON_FAILURE"}}));
    let (_, mut task) = env.running("j");
    let mut launches = 1;
    let end = env.now.mono + Millis::from_secs(600);
    while env.now.mono < end {
        let ack = env.update(&task, Failed);
        let wanted = env.commands.len() > 1;
        if wanted {
            env.expect_demand(true);
        }
        env.expect_ack(&ack);
        while env.commands.is_empty() && !wanted {
            let due = env.core.next_deadline().expect("another attempt is due");
            env.pass(due.since(env.now.mono));
        }
        if !wanted {
            env.expect_demand(true);
        }
        task = env.launch();
        env.told(&task, Running);
        launches += 1;
    }
    assert!(
        (20..=40).contains(&launches),
        "{launches} launches in ten minutes"
    );
    env.finish();
}

#[test]
fn a_run_that_takes_too_long_is_ended() {
    let mut env = Env::new();
    env.job(
        "j",
        json!({"maxRunSeconds": 60, "taskKillGracePeriodSeconds": 3}),
    );
    let run = env.start_wanted("j");
    let offer = env.offer("cpus:1;mem:32");
    env.expect_demand(false);
    let (launched, _) = env.expect_accept(&offer);
    let limit = launched[0]
        .info
        .max_completion_time
        .expect("the agent is told too");
    assert_eq!(limit.nanoseconds, 60_000_000_000);
    let task = launched[0].task.clone();
    env.told(&task, Running);
    env.pass(Millis::from_secs(64));
    assert!(env.commands.is_empty());
    env.pass(Millis::from_secs(2));
    env.expect_kill(&task);
    env.told(&task, Killed);
    assert_eq!(env.run("j", &run).status, RunStatus::Failed);
    env.finish();
}

#[test]
fn stopping_ends_the_run_at_once_and_the_task_after() {
    let mut env = Env::new();
    env.job("j", json!({"restart": {"policy": "ON_FAILURE"}}));
    let (run, task) = env.running("j");
    env.slow = true;
    let asked = env.ask(Call::StopRun {
        job: job_id("j"),
        run: run.clone(),
    });
    assert!(
        env.commands.is_empty() && env.replies.is_empty(),
        "not stored yet"
    );
    env.commit();
    env.slow = false;
    env.expect_kill(&task);
    match env.reply(asked) {
        Reply::Run(view) => assert_eq!(view.status, RunStatus::Failed),
        other => panic!("{other:?}"),
    }
    env.told(&task, Running);
    env.told(&task, Killed);
    assert_eq!(env.history("j").failure_count, 1);
    assert!(matches!(
        env.refused(Call::StopRun {
            job: job_id("j"),
            run
        }),
        Refusal::NoRun { .. }
    ));
    env.finish();
}

#[test]
fn a_stopped_run_is_not_launched() {
    let mut env = Env::new();
    env.job("j", json!({}));
    let run = env.start_wanted("j");
    assert!(
        matches!(env.stop("j", &run), Reply::Run(_)),
        "while it waits"
    );
    env.expect_demand(false);
    let run = env.start_wanted("j");
    env.slow = true;
    let offer = env.offer("cpus:1;mem:32");
    env.expect_demand(false);
    env.ask(Call::StopRun {
        job: job_id("j"),
        run,
    });
    env.commit();
    env.expect_decline(&offer);
    env.commit();
    env.replies.clear();
    env.finish();
}

#[test]
fn an_unreachable_task_is_waited_for_and_then_given_up() {
    let mut env = Env::new();
    env.job("j", json!({}));
    let (run, task) = env.running("j");
    env.told(&task, Unreachable);
    env.pass(Millis::from_secs(599));
    env.told(&task, Running);
    env.pass(Millis::from_secs(2000));
    assert_eq!(
        env.run("j", &run).status,
        RunStatus::Active,
        "it came back in time"
    );
    env.told(&task, Unreachable);
    env.pass(Millis::from_secs(601));
    assert_eq!(env.run("j", &run).status, RunStatus::Failed);
    let back = env.update(&task, Running);
    env.expect_kill(&task);
    env.expect_ack(&back);
    env.told(&task, Killed);
    assert_eq!(env.history("j").failure_count, 1);
    env.finish();
}

#[test]
fn jobs_are_kept_apart_and_changed_without_touching_their_runs() {
    let mut env = Env::new();
    env.job("j", json!({"retries": {"count": 1, "backoffSeconds": 0}}));
    assert_eq!(
        env.refused(Call::CreateJob {
            spec: spec("j", json!({}))
        }),
        Refusal::JobExists
    );
    let (run, task) = env.running("j");
    let changed = spec(
        "j",
        json!({"cmd": "other", "retries": {"count": 1, "backoffSeconds": 0}}),
    );
    let dialect = crate::core::job::parse::Dialect::Mezzo;
    env.call(Call::UpdateJob {
        spec: changed,
        dialect,
    });
    env.restart();
    env.subscribe_asking(&task);
    env.answer(&task, Running);
    let ack = env.update(&task, Failed);
    env.expect_demand(true);
    env.expect_ack(&ack);
    let offer = env.offer("cpus:1;mem:32");
    env.expect_demand(false);
    let (launched, _) = env.expect_accept(&offer);
    let command = launched[0]
        .info
        .command
        .clone()
        .and_then(|command| command.value);
    assert_eq!(
        command.as_deref(),
        Some("true"),
        "a run keeps the description it began with"
    );
    assert!(env.stored.keys().any(|key| key.contains("specs/")));
    env.told(&launched[0].task, Finished);
    assert!(
        !env.stored.keys().any(|key| key.contains("specs/")),
        "nobody follows it any more"
    );
    assert_eq!(env.run("j", &run).status, RunStatus::Success);
    env.finish();
}

#[test]
fn a_metronome_document_does_not_take_away_what_it_cannot_say() {
    let mut env = Env::new();
    env.job("j", json!({"maxRunSeconds": 60}));
    let dialect = crate::core::job::parse::Dialect::Metronome;
    match env.call(Call::UpdateJob {
        spec: spec("j", json!({"cmd": "other"})),
        dialect,
    }) {
        Reply::Spec(spec) => assert_eq!(spec.beyond.max_run_s, Some(60)),
        other => panic!("{other:?}"),
    }
    env.finish();
}

#[test]
fn a_deleted_job_leaves_nothing() {
    let mut env = Env::new();
    let format = env.stored.clone();
    env.job("j", json!({}));
    let (_, first) = env.running("j");
    env.told(&first, Finished);
    let (_, second) = env.running("j");
    let keep = Call::DeleteJob {
        job: job_id("j"),
        stop_runs: false,
    };
    assert_eq!(env.refused(keep), Refusal::ActiveRuns);
    let remove = Call::DeleteJob {
        job: job_id("j"),
        stop_runs: true,
    };
    assert!(matches!(env.call(remove.clone()), Reply::Spec(_)));
    env.expect_kill(&second);
    env.told(&second, Killed);
    assert_eq!(env.stored, format);
    assert!(matches!(env.refused(remove), Refusal::NoJob { .. }));
    env.job("j", json!({}));
    assert_eq!(env.history("j").success_count, 0);
    env.finish();
}

#[test]
fn history_is_bounded_for_each_job_and_in_all() {
    let config = Config {
        history_per_job: 2,
        history_in_all: 3,
        ..Config::default()
    };
    let mut env = Env::with(config);
    env.subscribe();
    env.job("a", json!({}));
    env.job("b", json!({}));
    for (job, state) in [
        ("a", Finished),
        ("a", Finished),
        ("a", Finished),
        ("a", Failed),
        ("b", Finished),
    ] {
        let (_, task) = env.running(job);
        env.told(&task, state);
        env.pass(Millis(10));
    }
    let history = env.history("a");
    assert_eq!((history.success_count, history.failure_count), (3, 1));
    assert_eq!((history.successful.len(), history.failed.len()), (1, 1));
    assert_eq!(
        env.stored
            .keys()
            .filter(|key| key.contains("runs/"))
            .count(),
        3
    );
    env.restart();
    env.subscribe();
    let again = env.history("a");
    assert_eq!(again, history, "and it is the same after a restart");
    env.finish();
}

#[test]
fn there_is_an_end_to_jobs_and_runs() {
    let mut env = Env::with(Config {
        max_jobs: 1,
        max_active_runs: 1,
        ..Config::default()
    });
    env.subscribe();
    env.job("a", json!({}));
    let more = Call::CreateJob {
        spec: spec("b", json!({})),
    };
    assert_eq!(env.refused(more), Refusal::TooManyJobs { limit: 1 });
    env.start_wanted("a");
    let more = Call::StartRun { job: job_id("a") };
    assert_eq!(env.refused(more), Refusal::TooManyRuns { limit: 1 });
    let embed = Embed {
        active_runs: true,
        ..Embed::default()
    };
    match env.call(Call::ListJobs { embed }) {
        Reply::Jobs(jobs) => assert_eq!(jobs[0].active_runs.as_ref().map(Vec::len), Some(1)),
        other => panic!("{other:?}"),
    }
    env.finish();
}
