//! Jobs and runs as JSON.

use mezzo_model::time::Wall;
use serde_json::{Map, Value, json};

use crate::core::job::parse::Dialect;
use crate::core::job::render;
use crate::core::{EndedRun, HistoryView, JobView, RunView, TaskView};

/// A job with what was asked for besides.
pub fn job(view: &JobView, dialect: Dialect) -> Value {
    let mut job = render::job(&view.spec, dialect);
    let Some(fields) = job.as_object_mut() else {
        return job;
    };
    if let Some(runs) = &view.active_runs {
        let runs: Vec<Value> = runs.iter().map(|view| run(view, dialect)).collect();
        fields.insert("activeRuns".into(), runs.into());
    }
    if let Some(history) = &view.history {
        if view.with_runs {
            fields.insert("history".into(), full_history(history));
        }
        if view.with_summary {
            fields.insert("historySummary".into(), Value::Object(summary(history)));
        }
    }
    job
}

/// A run. `/v2` tells of its attempts what `/v1` has no place for.
pub fn run(view: &RunView, dialect: Dialect) -> Value {
    let tasks: Vec<Value> = view.tasks.iter().map(|view| task(view, dialect)).collect();
    let mut run = json!({
        "id": view.key.run.as_str(),
        "jobId": view.key.job.as_str(),
        "status": view.status.as_str(),
        "createdAt": date(view.created_at),
        "completedAt": view.completed_at.map(date),
        "tasks": tasks,
    });
    if dialect == Dialect::Mezzo {
        run["attempts"] = view.attempts.into();
    }
    run
}

fn task(view: &TaskView, dialect: Dialect) -> Value {
    let attempt = &view.attempt;
    let mut task = json!({
        "id": attempt.task.as_str(),
        "startedAt": date(attempt.started_at),
        "status": attempt.state.as_str(),
    });
    if view.ended {
        task["completedAt"] = date(attempt.completed_at).into();
    }
    if dialect == Dialect::Mezzo {
        task["agentId"] = attempt.agent.as_str().into();
        task["hostname"] = (*attempt.hostname).into();
        if let Some(message) = &attempt.message {
            task["message"] = (**message).into();
        }
    }
    task
}

fn summary(history: &HistoryView) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("successCount".into(), history.success_count.into());
    fields.insert("failureCount".into(), history.failure_count.into());
    fields.insert(
        "lastSuccessAt".into(),
        json!(history.last_success_at.map(date)),
    );
    fields.insert(
        "lastFailureAt".into(),
        json!(history.last_failure_at.map(date)),
    );
    fields
}

fn full_history(history: &HistoryView) -> Value {
    let mut fields = summary(history);
    let list = |runs: &std::collections::VecDeque<std::sync::Arc<EndedRun>>| -> Value {
        runs.iter()
            .map(|run| ended(run))
            .collect::<Vec<Value>>()
            .into()
    };
    fields.insert("successfulFinishedRuns".into(), list(&history.successful));
    fields.insert("failedFinishedRuns".into(), list(&history.failed));
    Value::Object(fields)
}

fn ended(run: &EndedRun) -> Value {
    let tasks: Vec<&str> = run
        .tasks
        .iter()
        .map(|attempt| attempt.task.as_str())
        .collect();
    json!({
        "id": run.id.as_str(),
        "createdAt": date(run.created_at),
        "finishedAt": date(run.finished_at),
        "tasks": tasks,
    })
}

/// An instant as Metronome writes it: `2016-07-15T13:02:59.735+0000`.
pub fn date(at: Wall) -> String {
    let millis = i64::try_from(at.0).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
    let civil = time.to_zoned(jiff::tz::TimeZone::UTC).datetime();
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}+0000",
        civil.year(),
        civil.month(),
        civil.day(),
        civil.hour(),
        civil.minute(),
        civil.second(),
        civil.millisecond()
    )
}
