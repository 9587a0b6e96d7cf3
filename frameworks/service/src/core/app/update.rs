//! An app document as it was sent: every field optional. Laid over an existing definition, or over the defaults, it
//! gives a complete [`AppSpec`].

use std::collections::BTreeMap;

use mezzo_model::resources::Milli;
use serde_json::Value;

use super::checks::{HealthCheck, MAX_SECS};
use super::document::{Fields, Problems, Refused, object};
use super::unserved::{self, UNSERVED};
use super::{
    AppSpec, Backoff, Constraint, KillSelection, Operator, PortDefinition, UnreachableStrategy,
    UpgradeStrategy, VersionInfo,
};
use crate::core::app_id::AppId;
use crate::core::version::Version;

/// The most instances of one app: what one leader can look after.
pub const MAX_INSTANCES: u32 = 100_000;

/// What one document says. `None`: nothing.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)] // The fields are those of `AppSpec`.
pub struct AppUpdate {
    pub id: Option<String>,
    pub cmd: Option<String>,
    pub args: Option<Vec<String>>,
    pub user: Option<String>,
    pub env: Option<BTreeMap<String, String>>,
    pub instances: Option<u32>,
    pub cpus: Option<Milli>,
    pub mem: Option<Milli>,
    pub disk: Option<Milli>,
    pub constraints: Option<Vec<Constraint>>,
    pub accepted_resource_roles: Option<Vec<String>>,
    pub role: Option<String>,
    pub port_definitions: Option<Vec<PortDefinition>>,
    pub require_ports: Option<bool>,
    pub health_checks: Option<Vec<HealthCheck>>,
    pub backoff_secs: Option<u64>,
    pub backoff_factor: Option<f64>,
    pub max_launch_delay_secs: Option<u64>,
    pub upgrade_strategy: Option<UpgradeStrategy>,
    pub kill_selection: Option<KillSelection>,
    pub unreachable_strategy: Option<UnreachableStrategy>,
    pub task_kill_grace_period_secs: Option<u64>,
    pub labels: Option<BTreeMap<String, String>>,
    pub tty: Option<bool>,
    /// The document names nothing but a version: go back to it.
    pub rollback: Option<Version>,
    /// The document names a version beside fields that change something, which only a new app may.
    pub has_stray_version: bool,
}

const SERVED: [&str; 26] = [
    "id",
    "cmd",
    "args",
    "user",
    "env",
    "instances",
    "cpus",
    "mem",
    "disk",
    "constraints",
    "acceptedResourceRoles",
    "role",
    "ports",
    "portDefinitions",
    "requirePorts",
    "healthChecks",
    "backoffSeconds",
    "backoffFactor",
    "maxLaunchDelaySeconds",
    "upgradeStrategy",
    "killSelection",
    "unreachableStrategy",
    "taskKillGracePeriodSeconds",
    "labels",
    "version",
    "versionInfo",
];

/// What an answer adds to a definition; taken back without effect, so that every answer can be sent again.
const ECHOED: [&str; 9] = [
    "tasksStaged",
    "tasksRunning",
    "tasksHealthy",
    "tasksUnhealthy",
    "deployments",
    "tasks",
    "taskStats",
    "lastTaskFailure",
    "readinessCheckResults",
];

/// Every name that a document may hold.
fn known() -> Vec<&'static str> {
    let unserved = UNSERVED.iter().map(|(name, _)| *name);
    SERVED.into_iter().chain(ECHOED).chain(unserved).collect()
}

impl AppUpdate {
    /// Reads one document; `path` is where it stands in what was sent, empty for the whole.
    ///
    /// # Errors
    /// Every mistake of shape, or else every broken rule that can be judged without the existing app.
    pub fn read(value: &Value, path: &str) -> Result<Self, Refused> {
        let mut problems = Problems::default();
        let Some(fields) = object(value, path, &mut problems) else {
            return Err(problems
                .verdict()
                .err()
                .unwrap_or(Refused::Shape(Vec::new())));
        };
        fields.only(&known(), &mut problems);
        unserved::refuse(fields, &mut problems);
        let mut update = Self::default();
        update.read_command(fields, &mut problems);
        update.read_resources(fields, &mut problems);
        update.read_placement(fields, &mut problems);
        update.read_lifecycle(fields, &mut problems);
        let version = read_version(fields, &mut problems)?;
        problems.verdict()?;
        update.read_rollback(fields, version);
        if fields.has("ports") && fields.has("portDefinitions") && !ports_agree(fields) {
            return Err(Refused::Conflict(
                "You cannot specify both ports and port definitions".to_owned(),
            ));
        }
        Ok(update)
    }

    /// A version alone asks for the past. Beside `versionInfo` it is the echo of an answer and says nothing.
    fn read_rollback(&mut self, fields: Fields<'_>, version: Option<Version>) {
        let others = fields
            .present()
            .any(|name| !matches!(name, "id" | "version"));
        if others {
            self.has_stray_version = version.is_some() && !fields.has("versionInfo");
        } else {
            self.rollback = version;
        }
    }

    fn read_command(&mut self, fields: Fields<'_>, problems: &mut Problems) {
        self.id = fields.string("id", problems);
        self.cmd = fields.string("cmd", problems);
        self.args = fields.strings("args", problems);
        self.user = fields.string("user", problems);
        self.tty = fields.bool("tty", problems);
        self.labels = fields.string_map("labels", problems);
        self.env = fields.nested("env", problems, |env, problems| {
            let mut map = BTreeMap::new();
            for (name, value) in env.entries() {
                match value {
                    Value::String(text) => {
                        map.insert(name.to_owned(), text.clone());
                    }
                    Value::Object(_) => problems.rule(
                        env.at(name),
                        "secrets in the environment are not served by this version of Mezzo",
                    ),
                    _ => problems.shape(env.at(name), "error.expected.jsstring"),
                }
            }
            Some(map)
        });
    }

    fn read_resources(&mut self, fields: Fields<'_>, problems: &mut Problems) {
        self.instances = fields
            .whole("instances", 0, u64::from(MAX_INSTANCES), problems)
            .map(|count| count as u32);
        self.cpus = read_amount(fields, "cpus", 0.001, 1e6, problems);
        self.mem = read_amount(fields, "mem", 0.0, 1e12, problems);
        self.disk = read_amount(fields, "disk", 0.0, 1e12, problems);
        self.require_ports = fields.bool("requirePorts", problems);
        self.port_definitions = fields.objects("portDefinitions", problems, read_port);
        if self.port_definitions.is_none() {
            self.port_definitions = read_ports(fields, problems);
        }
    }

    fn read_placement(&mut self, fields: Fields<'_>, problems: &mut Problems) {
        self.role = fields.string("role", problems);
        self.accepted_resource_roles = fields.strings("acceptedResourceRoles", problems);
        if let Some(items) = fields.list("constraints", problems) {
            let constraints = items.iter().enumerate().filter_map(|(index, item)| {
                let path = format!("{}({index})", fields.at("constraints"));
                read_constraint(item, &path, problems)
            });
            self.constraints = Some(constraints.collect());
        }
    }

    fn read_lifecycle(&mut self, fields: Fields<'_>, problems: &mut Problems) {
        self.health_checks = fields.objects("healthChecks", problems, HealthCheck::read);
        self.backoff_secs = fields.whole("backoffSeconds", 0, MAX_SECS, problems);
        self.max_launch_delay_secs = fields.whole("maxLaunchDelaySeconds", 0, MAX_SECS, problems);
        self.task_kill_grace_period_secs =
            fields.whole("taskKillGracePeriodSeconds", 0, MAX_SECS, problems);
        self.backoff_factor = fields.number("backoffFactor", problems);
        if let Some(factor) = self
            .backoff_factor
            .filter(|factor| !(1.0..=1e6).contains(factor))
        {
            problems.rule(
                fields.at("backoffFactor"),
                format!("got {factor}, expected between 1 and 1000000"),
            );
        }
        self.upgrade_strategy = fields.nested("upgradeStrategy", problems, |strategy, problems| {
            strategy.only(&["minimumHealthCapacity", "maximumOverCapacity"], problems);
            Some(UpgradeStrategy {
                minimum_health_capacity: read_share(strategy, "minimumHealthCapacity", problems)?,
                maximum_over_capacity: read_share(strategy, "maximumOverCapacity", problems)?,
            })
        });
        self.kill_selection = fields.string("killSelection", problems).and_then(|name| {
            let selection = match name.as_str() {
                "YOUNGEST_FIRST" => Some(KillSelection::YoungestFirst),
                "OLDEST_FIRST" => Some(KillSelection::OldestFirst),
                _ => None,
            };
            if selection.is_none() {
                problems.shape(fields.at("killSelection"), "error.unknown.enum.literal");
            }
            selection
        });
        self.unreachable_strategy = read_unreachable(fields, problems);
    }

    /// Lays the document over a definition, or over the defaults if there is none. Versions are the caller's to set.
    pub fn apply(&self, base: Option<&AppSpec>, id: AppId, default_role: &str) -> AppSpec {
        let mut spec = match base {
            Some(base) => base.clone(),
            None => defaults(id, default_role),
        };
        match (&self.cmd, &self.args) {
            (Some(cmd), None) => (spec.cmd, spec.args) = (Some(cmd.clone()), Vec::new()),
            (None, Some(args)) => {
                spec.args.clone_from(args);
                if !args.is_empty() {
                    spec.cmd = None;
                }
            }
            (Some(cmd), Some(args)) => (spec.cmd, spec.args) = (Some(cmd.clone()), args.clone()),
            (None, None) => {}
        }
        fn lay<T: Clone>(place: &mut T, given: &Option<T>) {
            if let Some(value) = given {
                place.clone_from(value);
            }
        }
        lay(&mut spec.env, &self.env);
        lay(&mut spec.instances, &self.instances);
        lay(&mut spec.cpus, &self.cpus);
        lay(&mut spec.mem, &self.mem);
        lay(&mut spec.disk, &self.disk);
        lay(&mut spec.constraints, &self.constraints);
        lay(&mut spec.role, &self.role);
        lay(&mut spec.port_definitions, &self.port_definitions);
        lay(&mut spec.require_ports, &self.require_ports);
        lay(&mut spec.health_checks, &self.health_checks);
        lay(&mut spec.backoff.secs, &self.backoff_secs);
        lay(&mut spec.backoff.factor, &self.backoff_factor);
        lay(
            &mut spec.backoff.max_launch_delay_secs,
            &self.max_launch_delay_secs,
        );
        lay(&mut spec.upgrade_strategy, &self.upgrade_strategy);
        lay(&mut spec.kill_selection, &self.kill_selection);
        lay(&mut spec.unreachable_strategy, &self.unreachable_strategy);
        lay(&mut spec.labels, &self.labels);
        spec.user = self.user.clone().or(spec.user);
        spec.tty = self.tty.or(spec.tty);
        spec.task_kill_grace_period_secs = self
            .task_kill_grace_period_secs
            .or(spec.task_kill_grace_period_secs);
        spec.accepted_resource_roles = self
            .accepted_resource_roles
            .clone()
            .or(spec.accepted_resource_roles);
        for check in &mut spec.health_checks {
            let needs_port = check.protocol != super::CheckProtocol::Command;
            if needs_port && check.port.is_none() && check.port_index.is_none() {
                check.port_index = (!spec.port_definitions.is_empty()).then_some(0);
            }
        }
        spec
    }
}

/// An app of which nothing is said but its id: Marathon's defaults.
fn defaults(id: AppId, role: &str) -> AppSpec {
    AppSpec {
        id,
        cmd: None,
        args: Vec::new(),
        user: None,
        env: BTreeMap::new(),
        instances: 1,
        cpus: Milli(1000),
        mem: Milli(128_000),
        disk: Milli(0),
        constraints: Vec::new(),
        accepted_resource_roles: None,
        role: role.to_owned(),
        port_definitions: vec![PortDefinition {
            name: Some("default".to_owned()),
            protocol: "tcp".to_owned(),
            ..PortDefinition::default()
        }],
        require_ports: false,
        health_checks: Vec::new(),
        backoff: Backoff::default(),
        upgrade_strategy: UpgradeStrategy::default(),
        kill_selection: KillSelection::default(),
        unreachable_strategy: UnreachableStrategy::default(),
        task_kill_grace_period_secs: None,
        labels: BTreeMap::new(),
        tty: None,
        version: Version(0),
        version_info: VersionInfo::default(),
    }
}

fn read_version(fields: Fields<'_>, problems: &mut Problems) -> Result<Option<Version>, Refused> {
    match fields.string("version", problems) {
        Some(text) => Version::parse(&text)
            .map(Some)
            .map_err(|bad| Refused::Conflict(bad.to_string())),
        None => Ok(None),
    }
}

/// Answers of old versions carry both forms of the same numbers.
fn ports_agree(fields: Fields<'_>) -> bool {
    let numbers = |key: &str, inner: Option<&str>| -> Vec<Option<u64>> {
        let items = fields
            .get(key)
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        items
            .iter()
            .map(|item| {
                inner
                    .map_or(Some(item), |name| item.get(name))
                    .and_then(Value::as_u64)
            })
            .collect()
    };
    numbers("ports", None) == numbers("portDefinitions", Some("port"))
}

fn read_amount(
    fields: Fields<'_>,
    key: &str,
    low: f64,
    high: f64,
    problems: &mut Problems,
) -> Option<Milli> {
    let number = fields.number(key, problems)?;
    if !(low..=high).contains(&number) {
        problems.rule(
            fields.at(key),
            format!("got {number}, expected between {low} and {high}"),
        );
        return None;
    }
    // In range, so the cast is exact.
    Some(Milli((number * 1000.0).round() as i64))
}

fn read_share(fields: Fields<'_>, key: &str, problems: &mut Problems) -> Option<f64> {
    if !fields.has(key) {
        problems.shape(fields.at(key), "error.path.missing");
        return None;
    }
    let share = fields.number(key, problems)?;
    if !(0.0..=1.0).contains(&share) {
        problems.rule(
            fields.at(key),
            format!("got {share}, expected between 0.0 and 1.0"),
        );
        return None;
    }
    Some(share)
}

fn read_port(fields: Fields<'_>, problems: &mut Problems) -> Option<PortDefinition> {
    fields.only(&["port", "protocol", "name", "labels"], problems);
    let protocol = fields
        .string("protocol", problems)
        .unwrap_or_else(|| "tcp".to_owned());
    if !matches!(protocol.as_str(), "tcp" | "udp" | "udp,tcp" | "tcp,udp") {
        problems.shape(fields.at("protocol"), "error.unknown.enum.literal");
    }
    let protocol = if protocol == "tcp,udp" {
        "udp,tcp".to_owned()
    } else {
        protocol
    };
    Some(PortDefinition {
        port: fields.whole("port", 0, 65_535, problems).unwrap_or(0) as u16,
        protocol,
        name: fields.string("name", problems),
        labels: fields.string_map("labels", problems).unwrap_or_default(),
    })
}

fn read_ports(fields: Fields<'_>, problems: &mut Problems) -> Option<Vec<PortDefinition>> {
    let items = fields.list("ports", problems)?;
    let mut ports = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let path = format!("{}({index})", fields.at("ports"));
        match item.as_f64() {
            Some(port) if port.fract() == 0.0 && (0.0..=65_535.0).contains(&port) => {
                ports.push(PortDefinition {
                    port: port as u16,
                    protocol: "tcp".to_owned(),
                    ..PortDefinition::default()
                });
            }
            Some(port) => problems.rule(path, format!("got {port}, expected between 0 and 65535")),
            None => problems.shape(path, "error.expected.jsnumber"),
        }
    }
    Some(ports)
}

fn read_constraint(item: &Value, path: &str, problems: &mut Problems) -> Option<Constraint> {
    let Some(parts) = item.as_array() else {
        problems.shape(path, "error.expected.jsarray");
        return None;
    };
    if !(2..=3).contains(&parts.len()) {
        problems.shape(
            path,
            if parts.len() < 2 {
                "error.minLength"
            } else {
                "error.maxLength"
            },
        );
        return None;
    }
    let mut texts = Vec::with_capacity(3);
    for (index, part) in parts.iter().enumerate() {
        match part {
            Value::String(text) => texts.push(text.clone()),
            _ => problems.shape(format!("{path}({index})"), "error.expected.jsstring"),
        }
    }
    let mut texts = texts.into_iter();
    let (field, name, value) = (texts.next()?, texts.next()?, texts.next());
    let Some(operator) = Operator::parse(&name) else {
        let known: Vec<&str> = Operator::ALL.iter().map(|(_, name)| *name).collect();
        problems.rule(
            path,
            format!(
                "Operator must be one of the following: {}",
                known.join(", ")
            ),
        );
        return None;
    };
    Some(Constraint {
        field,
        operator,
        value,
    })
}

fn read_unreachable(fields: Fields<'_>, problems: &mut Problems) -> Option<UnreachableStrategy> {
    if fields.get("unreachableStrategy")? == "disabled" {
        return Some(UnreachableStrategy::Disabled);
    }
    fields.nested("unreachableStrategy", problems, |strategy, problems| {
        strategy.only(&["inactiveAfterSeconds", "expungeAfterSeconds"], problems);
        let inactive_secs = strategy
            .whole("inactiveAfterSeconds", 0, MAX_SECS, problems)
            .unwrap_or(0);
        let expunge_secs = strategy
            .whole("expungeAfterSeconds", 0, MAX_SECS, problems)
            .unwrap_or(0);
        if inactive_secs > expunge_secs {
            problems.rule(
                strategy.at("inactiveAfterSeconds"),
                format!(
                    "{inactive_secs} must not be more than expungeAfterSeconds, {expunge_secs}"
                ),
            );
        }
        Some(UnreachableStrategy::After {
            inactive_secs,
            expunge_secs,
        })
    })
}
