//! Records of deployments: what changes, and the steps that were planned.

use std::collections::BTreeSet;

use bytes::Bytes;
use mezzo_coordination::Record;
use serde::{Deserialize, Serialize};

use super::{FORMAT, LoadError, read, write};
use crate::core::app_id::AppId;
use crate::core::deployment::{Action, ActionKind, Change, Deployment};
use crate::core::instance::InstanceId;
use crate::core::version::Version;

#[derive(Serialize, Deserialize)]
struct DeploymentRecord {
    format: u32,
    id: String,
    version: u64,
    changes: Vec<ChangeRecord>,
    steps: Vec<Vec<ActionRecord>>,
}

#[derive(Serialize, Deserialize)]
struct ChangeRecord {
    app: String,
    from: Option<u64>,
    to: Option<u64>,
    sentenced: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct ActionRecord {
    action: String,
    app: String,
}

/// The record of a deployment.
pub fn deployment_record(deployment: &Deployment) -> Bytes {
    let change = |change: &Change| ChangeRecord {
        app: change.app.to_string(),
        from: change.from.map(|version| version.0),
        to: change.to.map(|version| version.0),
        sentenced: change.sentenced.iter().map(ToString::to_string).collect(),
    };
    let action = |action: &Action| ActionRecord {
        action: action.kind.as_str().to_owned(),
        app: action.app.to_string(),
    };
    write(&DeploymentRecord {
        format: FORMAT,
        id: deployment.id.clone(),
        version: deployment.version.0,
        changes: deployment.changes.iter().map(change).collect(),
        steps: deployment
            .steps
            .iter()
            .map(|step| step.iter().map(action).collect())
            .collect(),
    })
}

pub(super) fn read_deployment(record: &Record) -> Result<Deployment, LoadError> {
    let stored: DeploymentRecord = read(record)?;
    let wrong = |words: String| LoadError::unreadable(&record.key, words);
    let app = |id: &str| AppId::parse(id).map_err(|bad| wrong(bad.to_string()));
    let mut changes = Vec::with_capacity(stored.changes.len());
    for change in stored.changes {
        let sentenced: Option<BTreeSet<InstanceId>> = change
            .sentenced
            .iter()
            .map(|id| InstanceId::parse(id))
            .collect();
        changes.push(Change {
            app: app(&change.app)?,
            from: change.from.map(Version),
            to: change.to.map(Version),
            sentenced: sentenced.ok_or_else(|| wrong("an instance id is no id".to_owned()))?,
        });
    }
    let mut steps = Vec::with_capacity(stored.steps.len());
    for step in stored.steps {
        let actions = step.iter().map(|action| {
            let kind = ActionKind::parse(&action.action)
                .ok_or_else(|| wrong(format!("'{}' is no action", action.action)))?;
            Ok(Action {
                kind,
                app: app(&action.app)?,
            })
        });
        steps.push(actions.collect::<Result<Vec<_>, LoadError>>()?);
    }
    Ok(Deployment {
        id: stored.id,
        version: Version(stored.version),
        changes,
        steps,
        step: 0,
    })
}
