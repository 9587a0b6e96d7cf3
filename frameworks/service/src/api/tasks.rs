//! `/v2/tasks`, and tasks wherever they are shown.

use serde_json::{Map, Value, json};

use super::{Call, Response, apps, refusals};
use crate::core::app::document::{Problems, object};
use crate::core::health::CheckState;
use crate::core::instance::InstanceId;
use crate::core::request::{ApiCall, Refusal, TaskView};
use crate::core::version::Version;

/// The most tasks that one request may end.
const MAX_KILLS_AT_ONCE: usize = 10_000;

pub(super) fn read(call: &Call<'_>) -> Result<ApiCall, Response> {
    let rest: Vec<&str> = call.rest.iter().map(String::as_str).collect();
    match (call.method, rest.as_slice()) {
        ("GET", []) => {
            let asked = |state: &str| {
                call.query
                    .all("status")
                    .chain(call.query.all("status[]"))
                    .any(|one| one == state)
            };
            Ok(ApiCall::Tasks {
                running: asked("running"),
                staging: asked("staging"),
            })
        }
        ("POST", ["delete"]) => {
            let ids = ids(&call.json()?)?;
            Ok(ApiCall::KillTasks {
                ids,
                options: apps::options(&call.query),
            })
        }
        (_, [] | ["delete"]) => Err(call.method_not_allowed()),
        _ => Err(Response::message(404, "URI not found")),
    }
}

fn ids(document: &Value) -> Result<Vec<InstanceId>, Response> {
    let refuse = |refused: crate::core::app::Refused| refusals::refused(&refused.into());
    let mut problems = Problems::default();
    let texts = object(document, "", &mut problems).and_then(|fields| {
        fields.only(&["ids"], &mut problems);
        if !fields.has("ids") {
            problems.shape("/ids", "error.path.missing");
        }
        fields.strings("ids", &mut problems)
    });
    problems.verdict().map_err(refuse)?;
    let texts = texts.unwrap_or_default();
    if texts.len() > MAX_KILLS_AT_ONCE {
        let words = format!(
            "{} ids in one request, at most {MAX_KILLS_AT_ONCE} are taken",
            texts.len()
        );
        return Err(refusals::refused(&Refusal::rule("/ids", words)));
    }
    let read = |text: &String| {
        let instance = InstanceId::of_task(text)
            .map(|(id, _)| id)
            .or_else(|| InstanceId::parse(text));
        instance.ok_or_else(|| {
            let shown: String = text.chars().take(300).collect();
            let words = format!(
                "Invalid task id '{shown}'. [task ids look like app.instance-<uuid>._app.1]"
            );
            Response::message(400, words)
        })
    };
    texts.iter().map(read).collect()
}

/// One task.
pub(super) fn task(view: &TaskView, service_ports: bool) -> Value {
    let instance = &view.instance;
    let place = &instance.place;
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| {
        out.insert(name.to_owned(), value);
    };
    let id = instance
        .task()
        .map(|task| task.to_string())
        .unwrap_or_default();
    put("id", json!(id));
    put("appId", json!(instance.id.app().as_str()));
    put("host", json!(place.host));
    put("state", json!(instance.state().as_str()));
    put("ports", json!(place.ports));
    let shown = if service_ports {
        view.service_ports.as_slice()
    } else {
        &[]
    };
    put("servicePorts", json!(shown));
    put("version", json!(instance.spec.version.to_string()));
    put("role", json!(instance.spec.role));
    put("localVolumes", json!([]));
    let addresses = instance.addresses.iter().map(|address| {
        let protocol = if address.contains(':') {
            "IPv6"
        } else {
            "IPv4"
        };
        json!({ "ipAddress": address, "protocol": protocol })
    });
    put("ipAddresses", addresses.collect());
    let checks = view.checks.iter().map(|check| health(check, &instance.id));
    put("healthCheckResults", checks.collect());
    let texts = [
        ("slaveId", place.agent.as_ref().map(ToString::to_string)),
        ("stagedAt", instance.staged_at.map(|at| at.to_string())),
        ("startedAt", instance.started_at.map(|at| at.to_string())),
        ("region", place.region.clone()),
        ("zone", place.zone.clone()),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            put(name, json!(text));
        }
    }
    Value::Object(out)
}

fn health(check: &CheckState, instance: &InstanceId) -> Value {
    let mut out = json!({
        "alive": check.alive.unwrap_or(false),
        "consecutiveFailures": check.consecutive_failures,
        "instanceId": instance.to_string(),
    });
    let mut put = |name: &str, at: Option<Version>| {
        if let Some(at) = at {
            out[name] = json!(at.to_string());
        }
    };
    put("firstSuccess", check.first_success);
    put("lastSuccess", check.last_success);
    put("lastFailure", check.last_failure);
    if let Some(cause) = &check.last_failure_cause {
        out["lastFailureCause"] = json!(cause);
    }
    out
}
