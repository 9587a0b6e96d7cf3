//! The document of a definition: what is shown, and what the store keeps.
//!
//! Source: which fields are always there and which are left out when empty is what Marathon's clients rely on.

use mezzo_model::resources::Milli;
use serde_json::{Map, Number, Value, json};

use super::{AppSpec, KillSelection, PortDefinition, UnreachableStrategy, VersionInfo};

/// The document of a definition, complete.
pub fn app(spec: &AppSpec) -> Map<String, Value> {
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| {
        out.insert(name.to_owned(), value);
    };
    put("id", json!(spec.id.as_str()));
    put("instances", json!(spec.instances));
    put("cpus", amount(spec.cpus));
    put("mem", amount(spec.mem));
    put("disk", amount(spec.disk));
    put("gpus", json!(0));
    put("executor", json!(""));
    put("backoffSeconds", json!(spec.backoff.secs));
    put("backoffFactor", number(spec.backoff.factor));
    put(
        "maxLaunchDelaySeconds",
        json!(spec.backoff.max_launch_delay_secs),
    );
    put("labels", json!(spec.labels));
    put("networks", json!([{ "mode": "host" }]));
    put("requirePorts", json!(spec.require_ports));
    put(
        "portDefinitions",
        Value::Array(spec.port_definitions.iter().map(port).collect()),
    );
    put(
        "upgradeStrategy",
        json!({
            "minimumHealthCapacity": number(spec.upgrade_strategy.minimum_health_capacity),
            "maximumOverCapacity": number(spec.upgrade_strategy.maximum_over_capacity),
        }),
    );
    put("killSelection", json!(kill_selection(spec.kill_selection)));
    put(
        "unreachableStrategy",
        unreachable(spec.unreachable_strategy),
    );
    put("role", json!(spec.role));
    put("version", json!(spec.version.to_string()));
    put("versionInfo", version_info(spec.version_info));
    optional(spec, &mut out);
    out
}

/// What is left out when it says nothing.
fn optional(spec: &AppSpec, out: &mut Map<String, Value>) {
    let mut put = |name: &str, value: Value| {
        out.insert(name.to_owned(), value);
    };
    if let Some(cmd) = &spec.cmd {
        put("cmd", json!(cmd));
    }
    if !spec.args.is_empty() {
        put("args", json!(spec.args));
    }
    if let Some(user) = &spec.user {
        put("user", json!(user));
    }
    if !spec.env.is_empty() {
        put("env", json!(spec.env));
    }
    if !spec.constraints.is_empty() {
        let constraints = spec.constraints.iter().map(|constraint| {
            let mut parts = vec![json!(constraint.field), json!(constraint.operator.as_str())];
            parts.extend(constraint.value.as_ref().map(|value| json!(value)));
            Value::Array(parts)
        });
        put("constraints", constraints.collect());
    }
    if let Some(roles) = &spec.accepted_resource_roles {
        put("acceptedResourceRoles", json!(roles));
    }
    if !spec.health_checks.is_empty() {
        put(
            "healthChecks",
            spec.health_checks
                .iter()
                .map(super::HealthCheck::render)
                .collect(),
        );
    }
    if let Some(secs) = spec.task_kill_grace_period_secs {
        put("taskKillGracePeriodSeconds", json!(secs));
    }
    if let Some(tty) = spec.tty {
        put("tty", json!(tty));
    }
}

fn port(definition: &PortDefinition) -> Value {
    let mut out = Map::new();
    out.insert("port".to_owned(), json!(definition.port));
    out.insert("protocol".to_owned(), json!(definition.protocol));
    out.insert("labels".to_owned(), json!(definition.labels));
    if let Some(name) = &definition.name {
        out.insert("name".to_owned(), json!(name));
    }
    Value::Object(out)
}

fn kill_selection(selection: KillSelection) -> &'static str {
    match selection {
        KillSelection::YoungestFirst => "YOUNGEST_FIRST",
        KillSelection::OldestFirst => "OLDEST_FIRST",
    }
}

fn unreachable(strategy: UnreachableStrategy) -> Value {
    match strategy {
        UnreachableStrategy::Disabled => json!("disabled"),
        UnreachableStrategy::After {
            inactive_secs,
            expunge_secs,
        } => json!({
            "inactiveAfterSeconds": inactive_secs,
            "expungeAfterSeconds": expunge_secs,
        }),
    }
}

fn version_info(info: VersionInfo) -> Value {
    json!({
        "lastScalingAt": info.last_scaling_at.to_string(),
        "lastConfigChangeAt": info.last_config_change_at.to_string(),
    })
}

/// Thousandths as a number: whole ones without a point.
pub fn amount(milli: Milli) -> Value {
    number(milli.0 as f64 / 1000.0)
}

/// A finite number, whole ones without a point.
pub fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 {
        return json!(value as i64);
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}
