//! Records of instances. The record of a launch is written before the launch: it is the intent.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use mezzo_coordination::Record;
use mezzo_model::Millis;
use mezzo_model::ids::AgentId;
use serde::{Deserialize, Serialize};

use super::{FORMAT, LoadError, read, write};
use crate::core::app::AppSpec;
use crate::core::app_id::AppId;
use crate::core::instance::{Goal, Instance, InstanceId, KillReason, Phase, Place};
use crate::core::version::Version;

#[derive(Serialize, Deserialize)]
struct InstanceRecord {
    format: u32,
    app: String,
    uuid: String,
    /// The definition that the task runs.
    version: u64,
    incarnation: u32,
    goal: String,
    phase: String,
    kill: Option<String>,
    agent: Option<String>,
    host: String,
    ports: Vec<u16>,
    region: Option<String>,
    zone: Option<String>,
    attributes: BTreeMap<String, String>,
    staged_at: Option<u64>,
    started_at: Option<u64>,
    unreachable_since: Option<u64>,
    addresses: Vec<String>,
}

const GOALS: [(Goal, &str); 2] = [
    (Goal::Running, "running"),
    (Goal::Decommissioned, "decommissioned"),
];

const PHASES: [(Phase, &str); 9] = [
    (Phase::Scheduled, "scheduled"),
    (Phase::Provisioned, "provisioned"),
    (Phase::Staging, "staging"),
    (Phase::Starting, "starting"),
    (Phase::Running, "running"),
    (Phase::Killing, "killing"),
    (Phase::Unreachable { inactive: false }, "unreachable"),
    (Phase::Unreachable { inactive: true }, "inactive"),
    (Phase::Expunged, "expunged"),
];

const KILLS: [(KillReason, &str); 4] = [
    (KillReason::Decommissioned, "decommissioned"),
    (KillReason::Requested, "requested"),
    (KillReason::Unhealthy, "unhealthy"),
    (KillReason::Overdue, "overdue"),
];

fn name_of<T: PartialEq>(value: &T, names: &[(T, &str)]) -> String {
    let found = names.iter().find(|(known, _)| known == value);
    found.map_or_else(String::new, |(_, name)| (*name).to_owned())
}

fn named<T: Copy>(name: &str, names: &[(T, &str)], key: &str) -> Result<T, LoadError> {
    let found = names.iter().find(|(_, known)| *known == name);
    found
        .map(|(value, _)| *value)
        .ok_or_else(|| LoadError::unreadable(key, format!("'{name}' is not known")))
}

/// The record of an instance.
pub fn instance_record(instance: &Instance) -> Bytes {
    let place = &instance.place;
    write(&InstanceRecord {
        format: FORMAT,
        app: instance.id.app().to_string(),
        uuid: instance.id.uuid().to_owned(),
        version: instance.spec.version.0,
        incarnation: instance.incarnation,
        goal: name_of(&instance.goal, &GOALS),
        phase: name_of(&instance.phase, &PHASES),
        kill: instance.kill.map(|reason| name_of(&reason, &KILLS)),
        agent: place.agent.as_ref().map(ToString::to_string),
        host: place.host.clone(),
        ports: place.ports.clone(),
        region: place.region.clone(),
        zone: place.zone.clone(),
        attributes: place.attributes.clone(),
        staged_at: instance.staged_at.map(|at| at.0),
        started_at: instance.started_at.map(|at| at.0),
        unreachable_since: instance.unreachable_since.map(|at| at.0),
        addresses: instance.addresses.clone(),
    })
}

/// Reads an instance; `spec` finds the definition of a version.
pub(super) fn read_instance(
    record: &Record,
    spec: impl FnOnce(&AppId, Version) -> Option<Arc<AppSpec>>,
) -> Result<Instance, LoadError> {
    let stored: InstanceRecord = read(record)?;
    let key = record.key.as_str();
    let app = AppId::parse(&stored.app).map_err(|bad| LoadError::unreadable(key, bad))?;
    let spec = spec(&app, Version(stored.version))
        .ok_or_else(|| LoadError::unreadable(key, "the definition that it names is missing"))?;
    let agent = stored.agent.as_deref().map(AgentId::parse).transpose();
    let place = Place {
        agent: agent.map_err(|bad| LoadError::unreadable(key, bad))?,
        host: stored.host,
        ports: stored.ports,
        region: stored.region,
        zone: stored.zone,
        attributes: stored.attributes,
    };
    let phase = named(&stored.phase, &PHASES, key)?;
    let kill = stored
        .kill
        .as_deref()
        .map(|name| named(name, &KILLS, key))
        .transpose()?;
    let mut instance = Instance::new(InstanceId::new(app, &stored.uuid), spec, Millis::ZERO);
    instance.incarnation = stored.incarnation;
    instance.goal = named(&stored.goal, &GOALS, key)?;
    instance.phase = phase;
    instance.kill = kill;
    instance.place = place;
    instance.staged_at = stored.staged_at.map(Version);
    instance.started_at = stored.started_at.map(Version);
    instance.unreachable_since = stored.unreachable_since.map(Version);
    instance.addresses = stored.addresses;
    // The intent was written; an earlier process may have carried it out.
    instance.launched = phase != Phase::Scheduled;
    Ok(instance)
}
