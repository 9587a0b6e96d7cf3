//! `/v2/deployments`.

use serde_json::{Value, json};

use super::{Call, Response};
use crate::core::deployment::Action;
use crate::core::request::{ApiCall, DeploymentView};

pub(super) fn read(call: &Call<'_>) -> Result<ApiCall, Response> {
    match (call.method, call.rest.as_slice()) {
        ("GET", []) => Ok(ApiCall::Deployments),
        ("DELETE", [id]) => Ok(ApiCall::DeleteDeployment {
            id: id.clone(),
            force: call.query.truth("force", false),
        }),
        (_, [] | [_]) => Err(call.method_not_allowed()),
        _ => Err(Response::message(404, "URI not found")),
    }
}

/// One deployment.
pub(super) fn deployment(view: &DeploymentView) -> Value {
    let action =
        |action: &Action| json!({ "action": action.kind.as_str(), "app": action.app.as_str() });
    let steps: Vec<Value> = view
        .steps
        .iter()
        .map(|step| json!({ "actions": step.iter().map(action).collect::<Vec<_>>() }))
        .collect();
    let current: Vec<Value> = view
        .current_actions
        .iter()
        .map(|(kind, app)| {
            json!({ "action": kind.as_str(), "app": app.as_str(), "readinessCheckResults": [] })
        })
        .collect();
    json!({
        "id": view.id,
        "version": view.version.to_string(),
        "affectedApps": view.apps.iter().map(|id| id.as_str()).collect::<Vec<_>>(),
        "affectedPods": [],
        "steps": steps,
        "currentActions": current,
        "currentStep": view.current_step,
        "totalSteps": view.steps.len(),
    })
}
