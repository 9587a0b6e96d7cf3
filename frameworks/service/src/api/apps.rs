//! `/v2/apps`.

use serde_json::{Value, json};

use super::query::{self, Query};
use super::{Call, Response, refusals, tasks};
use crate::core::app::{AppUpdate, Refused, render};
use crate::core::app_id::AppId;
use crate::core::request::{ApiCall, AppFilter, AppView, KillOptions, Refusal, TaskFailure};
use crate::core::version::Version;

/// The most apps that one request may change: what fits into one transaction.
const MAX_APPS_AT_ONCE: usize = 1000;

pub(super) fn read(call: &Call<'_>) -> Result<ApiCall, Response> {
    let rest: Vec<&str> = call.rest.iter().map(String::as_str).collect();
    match call.method {
        "GET" => read_get(call, &rest),
        "DELETE" => read_delete(call, &rest),
        _ => read_change(call, &rest),
    }
}

fn read_get(call: &Call<'_>, rest: &[&str]) -> Result<ApiCall, Response> {
    match rest {
        [] => list(&call.query),
        ["*"] => Ok(ApiCall::GetAppsBelow("/".to_owned())),
        [below @ .., "*"] => Ok(ApiCall::GetAppsBelow(format!("/{}", below.join("/")))),
        [id @ .., "tasks"] if !id.is_empty() => Ok(ApiCall::AppTasks(known(id)?)),
        [id @ .., "versions"] if !id.is_empty() => Ok(ApiCall::Versions(known(id)?)),
        [id @ .., "versions", version] if !id.is_empty() => {
            let version = Version::parse(version)
                .map_err(|bad| refusals::refused(&Refused::Conflict(bad.to_string()).into()))?;
            Ok(ApiCall::AppVersion {
                id: known(id)?,
                version,
            })
        }
        id => Ok(ApiCall::GetApp(known(id)?)),
    }
}

fn read_delete(call: &Call<'_>, rest: &[&str]) -> Result<ApiCall, Response> {
    match rest {
        [id @ .., "tasks"] if !id.is_empty() => Ok(ApiCall::KillAppTasks {
            id: known(id)?,
            host: call.query.get("host").map(str::to_owned),
            options: options(&call.query),
        }),
        [id @ .., "tasks", task] if !id.is_empty() => Ok(ApiCall::KillAppTask {
            id: known(id)?,
            task: (*task).to_owned(),
            options: options(&call.query),
        }),
        [] => Err(call.method_not_allowed()),
        // A delete overrides running deployments unless it is told not to.
        id => Ok(ApiCall::DeleteApp {
            id: known(id)?,
            force: call.query.truth("force", true),
        }),
    }
}

fn read_change(call: &Call<'_>, rest: &[&str]) -> Result<ApiCall, Response> {
    let force = call.query.truth("force", false);
    let partial = call.query.truth("partialUpdate", true);
    match (call.method, rest) {
        ("POST", []) => {
            let update = Box::new(update(&call.json()?)?);
            Ok(ApiCall::CreateApp { update, force })
        }
        ("POST", [id @ .., "restart"]) if !id.is_empty() => Ok(ApiCall::RestartApp {
            id: known(id)?,
            force,
        }),
        ("PUT", []) => Ok(ApiCall::PutApps {
            updates: updates(call)?,
            partial,
            create: true,
            force,
        }),
        ("PATCH", []) => Ok(ApiCall::PutApps {
            updates: updates(call)?,
            partial: true,
            create: false,
            force,
        }),
        ("PUT", id) => {
            let (id, update) = (given(id)?, Box::new(update(&call.json()?)?));
            Ok(ApiCall::PutApp {
                id,
                update,
                partial,
                create: true,
                force,
            })
        }
        ("PATCH", id) => {
            let (id, update) = (given(id)?, Box::new(update(&call.json()?)?));
            Ok(ApiCall::PutApp {
                id,
                update,
                partial: true,
                create: false,
                force,
            })
        }
        _ => Err(call.method_not_allowed()),
    }
}

/// What a kill does besides.
pub(super) fn options(query: &Query) -> KillOptions {
    KillOptions {
        scale: query.truth("scale", false),
        wipe: query.truth("wipe", false),
        force: query.truth("force", false),
    }
}

/// The id of an app that should exist: one that cannot does not.
fn known(segments: &[&str]) -> Result<AppId, Response> {
    let raw = format!("/{}", segments.join("/"));
    AppId::parse(&raw)
        .map_err(|_| refusals::refused(&Refusal::NoApp(raw.chars().take(300).collect())))
}

/// The id of an app that may be made.
fn given(segments: &[&str]) -> Result<AppId, Response> {
    AppId::parse(&segments.join("/"))
        .map_err(|wrong| refusals::refused(&Refusal::rule("/id", wrong.to_string())))
}

fn update(document: &Value) -> Result<AppUpdate, Response> {
    AppUpdate::read(document, "").map_err(|refused| refusals::refused(&refused.into()))
}

fn updates(call: &Call<'_>) -> Result<Vec<AppUpdate>, Response> {
    let document = call.json()?;
    let Value::Array(items) = &document else {
        let problem = crate::core::app::Problem {
            path: "/".to_owned(),
            words: "error.expected.jsarray".to_owned(),
        };
        return Err(refusals::refused(&Refused::Shape(vec![problem]).into()));
    };
    if items.len() > MAX_APPS_AT_ONCE {
        let words = format!(
            "{} apps in one request, at most {MAX_APPS_AT_ONCE} are taken",
            items.len()
        );
        return Err(refusals::refused(&Refusal::rule("/", words)));
    }
    let read = items.iter().enumerate().map(|(index, item)| {
        AppUpdate::read(item, &format!("/({index})"))
            .map_err(|refused| refusals::refused(&refused.into()))
    });
    read.collect()
}

fn list(query: &Query) -> Result<ApiCall, Response> {
    let labels = match query.get("label") {
        None => Vec::new(),
        Some(text) => query::selector(text).map_err(|words| Response::message(422, words))?,
    };
    let filter = AppFilter {
        cmd: query.get("cmd").map(str::to_lowercase),
        id: query.get("id").map(str::to_lowercase),
        labels,
    };
    let embeds = |name: &str| {
        query.all("embed").any(|embed| {
            let bare = ["group.apps.", "apps.", "app."]
                .iter()
                .find_map(|prefix| embed.strip_prefix(prefix))
                .unwrap_or(embed);
            bare == name
        })
    };
    Ok(ApiCall::ListApps {
        filter,
        tasks: embeds("tasks") || embeds("failures"),
        last_failure: embeds("lastTaskFailure") || embeds("failures"),
    })
}

/// An app with what is known of it.
pub(super) fn app(view: &AppView) -> Value {
    let mut out = render::app(&view.spec);
    let mut put = |name: &str, value: Value| {
        out.insert(name.to_owned(), value);
    };
    put("tasksStaged", json!(view.counts.staged));
    put("tasksRunning", json!(view.counts.running));
    put("tasksHealthy", json!(view.counts.healthy));
    put("tasksUnhealthy", json!(view.counts.unhealthy));
    put(
        "deployments",
        view.deployments
            .iter()
            .map(|id| json!({ "id": id }))
            .collect(),
    );
    if let Some(views) = &view.tasks {
        put(
            "tasks",
            views.iter().map(|view| tasks::task(view, true)).collect(),
        );
    }
    if let Some(failure) = &view.last_failure {
        put("lastTaskFailure", last_failure(failure));
    }
    Value::Object(out)
}

fn last_failure(failure: &TaskFailure) -> Value {
    let mut out = json!({
        "appId": failure.app.as_str(),
        "host": failure.host,
        "message": failure.message,
        "state": failure.state,
        "taskId": failure.task,
        "timestamp": failure.timestamp.to_string(),
        "version": failure.version.to_string(),
    });
    if let Some(agent) = &failure.agent {
        out["slaveId"] = json!(agent);
    }
    out
}
