//! Records of apps: which definition is wanted, the definitions themselves, the last failure.

use bytes::Bytes;
use mezzo_coordination::Record;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{FORMAT, LoadError, read, write};
use crate::core::app::{AppSpec, AppUpdate, VersionInfo, render};
use crate::core::app_id::AppId;
use crate::core::request::TaskFailure;
use crate::core::version::Version;

#[derive(Serialize, Deserialize)]
struct AppPointer {
    format: u32,
    id: String,
    version: u64,
}

/// The record of an app: which definition of it is wanted.
pub fn app_record(spec: &AppSpec) -> Bytes {
    write(&AppPointer {
        format: FORMAT,
        id: spec.id.to_string(),
        version: spec.version.0,
    })
}

pub(super) fn read_app(record: &Record) -> Result<(AppId, Version), LoadError> {
    let pointer: AppPointer = read(record)?;
    let id = AppId::parse(&pointer.id).map_err(|bad| LoadError::unreadable(&record.key, bad))?;
    Ok((id, Version(pointer.version)))
}

#[derive(Serialize, Deserialize)]
struct Definition {
    format: u32,
    app: Map<String, Value>,
}

/// The record of one definition: the document that answers show.
pub fn version_record(spec: &AppSpec) -> Bytes {
    write(&Definition {
        format: FORMAT,
        app: render::app(spec),
    })
}

pub(super) fn read_version(record: &Record) -> Result<AppSpec, LoadError> {
    let definition: Definition = read(record)?;
    let wrong = |words: String| LoadError::unreadable(&record.key, words);
    let document = Value::Object(definition.app);
    let update = AppUpdate::read(&document, "").map_err(|bad| wrong(bad.to_string()))?;
    let id = update
        .id
        .clone()
        .ok_or_else(|| wrong("the definition has no id".to_owned()))?;
    let id = AppId::parse(&id).map_err(|bad| wrong(bad.to_string()))?;
    let mut spec = update.apply(None, id, "*");
    let stamp = |value: &Value| {
        let text = value
            .as_str()
            .ok_or_else(|| wrong("a version is missing".to_owned()))?;
        Version::parse(text).map_err(|bad| wrong(bad.to_string()))
    };
    spec.version = stamp(&document["version"])?;
    let info = &document["versionInfo"];
    spec.version_info = VersionInfo {
        last_scaling_at: stamp(&info["lastScalingAt"])?,
        last_config_change_at: stamp(&info["lastConfigChangeAt"])?,
    };
    Ok(spec)
}

#[derive(Serialize, Deserialize)]
struct Failure {
    format: u32,
    app: String,
    host: String,
    message: String,
    state: String,
    task: String,
    timestamp: u64,
    version: u64,
    agent: Option<String>,
}

/// The record of an app's last failure.
pub fn failure_record(failure: &TaskFailure) -> Bytes {
    write(&Failure {
        format: FORMAT,
        app: failure.app.to_string(),
        host: failure.host.clone(),
        message: failure.message.clone(),
        state: failure.state.clone(),
        task: failure.task.clone(),
        timestamp: failure.timestamp.0,
        version: failure.version.0,
        agent: failure.agent.clone(),
    })
}

pub(super) fn read_failure(record: &Record) -> Result<TaskFailure, LoadError> {
    let failure: Failure = read(record)?;
    let app = AppId::parse(&failure.app).map_err(|bad| LoadError::unreadable(&record.key, bad))?;
    Ok(TaskFailure {
        app,
        host: failure.host,
        message: failure.message,
        state: failure.state,
        task: failure.task,
        timestamp: Version(failure.timestamp),
        version: Version(failure.version),
        agent: failure.agent,
    })
}
