//! The description of an instance's task: command, environment, checks, what discovery reads.
//!
//! Source: the environment that Marathon sets; scripts in the field rely on every one of these names.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use mezzo_model::ids::{AgentId, TaskId};
use mezzo_model::resources::Milli;
use mezzo_sdk::offers::Fit;
use mezzo_wire::v1;

use crate::core::app::{AppSpec, CheckProtocol, HealthCheck, PortDefinition};
use crate::core::io::Config;

/// A label is left out of the environment from this length of its name or its value on.
const MAX_LABEL_NAME: usize = 493;
const MAX_LABEL_VALUE: usize = 512;

/// The description of one task at a place.
pub fn task_info(
    spec: &AppSpec,
    task: &TaskId,
    agent: &AgentId,
    host: &str,
    fit: &Fit,
    config: &Config,
) -> v1::TaskInfo {
    let grace = spec
        .task_kill_grace_period_secs
        .or(config.default_kill_grace_secs);
    v1::TaskInfo {
        name: spec.id.host_name(),
        task_id: task.to_wire(),
        agent_id: agent.to_wire(),
        resources: fit.resources.to_wire(),
        command: Some(command(
            spec,
            environment(spec, task, host, &fit.ports, config),
        )),
        health_check: spec
            .health_checks
            .iter()
            .find(|check| check.protocol.by_executor())
            .map(|check| health_check(check, &fit.ports)),
        kill_policy: grace.map(kill_policy),
        labels: (!spec.labels.is_empty()).then(|| labels(&spec.labels)),
        discovery: Some(discovery(spec, &fit.ports)),
        ..Default::default()
    }
}

/// How long a task may take to end by itself.
pub fn kill_policy(grace_secs: u64) -> v1::KillPolicy {
    let nanoseconds = i64::try_from(grace_secs.saturating_mul(1_000_000_000)).unwrap_or(i64::MAX);
    v1::KillPolicy {
        grace_period: Some(v1::DurationInfo { nanoseconds }),
    }
}

fn command(spec: &AppSpec, environment: BTreeMap<String, String>) -> v1::CommandInfo {
    let variables = environment
        .into_iter()
        .map(|(name, value)| v1::environment::Variable {
            name,
            value: Some(value),
            ..Default::default()
        });
    let is_shell = spec.cmd.is_some();
    v1::CommandInfo {
        shell: Some(is_shell),
        value: spec.cmd.clone().or_else(|| spec.args.first().cloned()),
        arguments: if is_shell {
            Vec::new()
        } else {
            spec.args.clone()
        },
        user: spec.user.clone(),
        environment: Some(v1::Environment {
            variables: variables.collect(),
        }),
        ..Default::default()
    }
}

/// Everything in the environment; what the app says itself comes last and wins.
fn environment(
    spec: &AppSpec,
    task: &TaskId,
    host: &str,
    ports: &[u16],
    config: &Config,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let mut put = |name: &str, value: String| {
        env.insert(name.to_owned(), value);
    };
    put("MESOS_TASK_ID", task.to_string());
    put("MARATHON_APP_ID", spec.id.to_string());
    put("MARATHON_APP_VERSION", spec.version.to_string());
    put("MARATHON_APP_RESOURCE_CPUS", double(spec.cpus));
    put("MARATHON_APP_RESOURCE_MEM", double(spec.mem));
    put("MARATHON_APP_RESOURCE_DISK", double(spec.disk));
    put("MARATHON_APP_RESOURCE_GPUS", "0".to_owned());
    put("MARATHON_APP_ENFORCE_GROUP_ROLE", "FALSE".to_owned());
    label_variables(&spec.labels, &mut env);
    let prefix = &config.env_vars_prefix;
    for (name, value) in port_variables(&spec.port_definitions, ports) {
        env.insert(format!("{prefix}{name}"), value);
    }
    env.insert(format!("{prefix}HOST"), host.to_owned());
    env.extend(
        spec.env
            .iter()
            .map(|(name, value)| (name.clone(), value.clone())),
    );
    env
}

fn label_variables(labels: &BTreeMap<String, String>, env: &mut BTreeMap<String, String>) {
    let mut names = Vec::new();
    for (name, value) in labels {
        if name.len() >= MAX_LABEL_NAME || value.len() >= MAX_LABEL_VALUE || value.contains('\0') {
            continue;
        }
        let escaped = escape(name);
        env.insert(format!("MARATHON_APP_LABEL_{escaped}"), value.clone());
        names.push(escaped);
    }
    env.insert("MARATHON_APP_LABELS".to_owned(), names.join(" "));
}

/// Runs of anything but letters, digits and `_` become one `_`; upper case.
fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    let mut in_run = false;
    for c in name.chars() {
        if c.is_ascii_alphanumeric() || c == '_' {
            escaped.push(c.to_ascii_uppercase());
            in_run = false;
        } else if !in_run {
            escaped.push('_');
            in_run = true;
        }
    }
    escaped
}

fn port_variables(definitions: &[PortDefinition], ports: &[u16]) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    let Some(first) = ports.first() else {
        return variables;
    };
    for (index, (definition, port)) in definitions.iter().zip(ports).enumerate() {
        variables.push((format!("PORT{index}"), port.to_string()));
        let declared = if definition.port == 0 {
            *port
        } else {
            definition.port
        };
        variables.push((format!("PORT_{declared}"), port.to_string()));
        if let Some(name) = &definition.name {
            variables.push((format!("PORT_{}", name.to_uppercase()), port.to_string()));
        }
    }
    variables.push(("PORT".to_owned(), first.to_string()));
    let all: Vec<String> = ports.iter().map(u16::to_string).collect();
    variables.push(("PORTS".to_owned(), all.join(",")));
    variables
}

/// `0.1`, `32.0`: at least one digit after the point.
fn double(amount: Milli) -> String {
    let mut text = amount.to_string();
    if amount.is_whole() {
        // Writing to a String cannot fail.
        let _ = write!(text, ".0");
    }
    text
}

fn labels(labels: &BTreeMap<String, String>) -> v1::Labels {
    let label = |(key, value): (&String, &String)| v1::Label {
        key: key.clone(),
        value: Some(value.clone()),
    };
    v1::Labels {
        labels: labels.iter().map(label).collect(),
    }
}

fn discovery(spec: &AppSpec, ports: &[u16]) -> v1::DiscoveryInfo {
    let mut announced = Vec::new();
    for (definition, port) in spec.port_definitions.iter().zip(ports) {
        let mut own = definition.labels.clone();
        own.insert("network-scope".to_owned(), "host".to_owned());
        for protocol in definition.protocol.split(',') {
            announced.push(v1::Port {
                number: u32::from(*port),
                name: definition.name.clone(),
                protocol: Some(protocol.to_owned()),
                labels: Some(labels(&own)),
                ..Default::default()
            });
        }
    }
    v1::DiscoveryInfo {
        visibility: v1::discovery_info::Visibility::Framework as i32,
        name: Some(spec.id.host_name()),
        ports: Some(v1::Ports { ports: announced }),
        ..Default::default()
    }
}

fn health_check(check: &HealthCheck, ports: &[u16]) -> v1::HealthCheck {
    use v1::health_check::{HttpCheckInfo, TcpCheckInfo, Type};
    let by_index = check.port_index.and_then(|index| ports.get(index)).copied();
    let port = u32::from(check.port.or(by_index).unwrap_or(0));
    let mut wire = v1::HealthCheck {
        delay_seconds: Some(check.delay_secs as f64),
        interval_seconds: Some(check.interval_secs as f64),
        timeout_seconds: Some(check.timeout_secs as f64),
        // Zero means never here, and at once there.
        consecutive_failures: Some(match check.max_consecutive_failures {
            0 => u32::MAX,
            count => count,
        }),
        grace_period_seconds: Some(check.grace_secs as f64),
        ..Default::default()
    };
    let http = |scheme: &str| HttpCheckInfo {
        scheme: Some(scheme.to_owned()),
        port,
        path: check
            .path
            .as_ref()
            .map(|path| format!("/{}", path.trim_start_matches('/'))),
        ..Default::default()
    };
    let kind = match check.protocol {
        CheckProtocol::Command => {
            wire.command = Some(v1::CommandInfo {
                shell: Some(true),
                value: check.command.clone(),
                ..Default::default()
            });
            Type::Command
        }
        CheckProtocol::MesosHttp | CheckProtocol::Http => {
            wire.http = Some(http("http"));
            Type::Http
        }
        CheckProtocol::MesosHttps | CheckProtocol::Https => {
            wire.http = Some(http("https"));
            Type::Http
        }
        CheckProtocol::MesosTcp | CheckProtocol::Tcp => {
            wire.tcp = Some(TcpCheckInfo {
                port,
                ..Default::default()
            });
            Type::Tcp
        }
    };
    wire.r#type = Some(kind as i32);
    wire
}

#[cfg(test)]
mod tests {
    use mezzo_model::resources::Resources;
    use serde_json::json;

    use super::*;
    use crate::core::app::AppUpdate;
    use crate::core::app_id::AppId;

    fn info(document: serde_json::Value, ports: &[u16]) -> v1::TaskInfo {
        let update = AppUpdate::read(&document, "").expect("good");
        let mut spec = update.apply(None, AppId::parse("/grp/web").expect("good"), "*");
        spec.version = crate::core::version::Version(1_448_964_212_003);
        let fit = Fit {
            resources: Resources::new(),
            ports: ports.to_vec(),
        };
        let task = TaskId::parse("grp_web.instance-1._app.1").expect("good");
        let agent = AgentId::parse("a1").expect("good");
        task_info(&spec, &task, &agent, "host-1", &fit, &Config::default())
    }

    fn env(info: &v1::TaskInfo) -> BTreeMap<&str, &str> {
        let variables = info
            .command
            .as_ref()
            .and_then(|command| command.environment.as_ref());
        variables
            .expect("set")
            .variables
            .iter()
            .map(|one| (one.name.as_str(), one.value.as_deref().unwrap_or("")))
            .collect()
    }

    #[test]
    fn the_environment_is_marathons() {
        let info = info(
            json!({
                "cmd": "serve", "cpus": 0.1, "mem": 32, "env": {"A": "b", "PORT1": "mine"},
                "labels": {"HAPROXY_0_VHOST": "x.y", "some  thing": "z"},
                "portDefinitions": [{"port": 10005, "name": "http"}, {"port": 0, "protocol": "udp,tcp"}],
            }),
            &[31_001, 31_007],
        );
        let env = env(&info);
        for (name, value) in [
            ("MESOS_TASK_ID", "grp_web.instance-1._app.1"),
            ("MARATHON_APP_ID", "/grp/web"),
            ("MARATHON_APP_VERSION", "2015-12-01T10:03:32.003Z"),
            ("MARATHON_APP_RESOURCE_CPUS", "0.1"),
            ("MARATHON_APP_RESOURCE_MEM", "32.0"),
            ("MARATHON_APP_LABELS", "HAPROXY_0_VHOST SOME_THING"),
            ("MARATHON_APP_LABEL_SOME_THING", "z"),
            ("HOST", "host-1"),
            ("PORT", "31001"),
            ("PORT0", "31001"),
            ("PORTS", "31001,31007"),
            ("PORT_10005", "31001"),
            ("PORT_HTTP", "31001"),
            ("PORT_31007", "31007"),
            ("PORT1", "mine"),
            ("A", "b"),
        ] {
            assert_eq!(env.get(name), Some(&value), "{name}");
        }
        assert_eq!(info.name, "web.grp");
        let discovery = info.discovery.expect("set");
        assert_eq!(discovery.name.as_deref(), Some("web.grp"));
        let protocols: Vec<_> = discovery
            .ports
            .expect("set")
            .ports
            .into_iter()
            .map(|p| p.protocol)
            .collect();
        assert_eq!(
            protocols,
            [
                Some("tcp".to_owned()),
                Some("udp".to_owned()),
                Some("tcp".to_owned())
            ]
        );
    }

    #[test]
    fn no_ports_no_port_variables_and_arguments_run_without_a_shell() {
        let info = info(
            json!({"args": ["sleep", "5"], "ports": [], "user": "web"}),
            &[],
        );
        assert!(!env(&info).keys().any(|name| name.starts_with("PORT")));
        let command = info.command.expect("set");
        assert_eq!(command.shell, Some(false));
        assert_eq!(command.value.as_deref(), Some("sleep"));
        assert_eq!(command.arguments, ["sleep", "5"]);
        assert_eq!(command.user.as_deref(), Some("web"));
    }

    #[test]
    fn a_command_check_goes_to_the_executor() {
        let check = json!({"protocol": "COMMAND", "command": {"value": "true"}, "maxConsecutiveFailures": 0});
        let info = info(
            json!({"cmd": "x", "healthChecks": [{"path": "/"}, check], "taskKillGracePeriodSeconds": 7}),
            &[1],
        );
        let check = info.health_check.expect("set");
        assert_eq!(check.consecutive_failures, Some(u32::MAX));
        assert_eq!(
            check.command.and_then(|command| command.value).as_deref(),
            Some("true")
        );
        let grace = info
            .kill_policy
            .and_then(|policy| policy.grace_period)
            .expect("set");
        assert_eq!(grace.nanoseconds, 7_000_000_000);
    }
}
