//! Rules that a complete definition keeps, each with the words that a person needs.
//!
//! Invariant: pure; the same definition always gives the same verdict.

use std::collections::BTreeSet;

use mezzo_sdk::offers::Constraint;

use super::document::Problems;
use super::{AppSpec, CheckProtocol};

/// The protocols that the executor can ask with.
const EXECUTOR_CHECKS: [CheckProtocol; 3] = [
    CheckProtocol::Command,
    CheckProtocol::MesosHttp,
    CheckProtocol::MesosTcp,
];

/// Judges a definition whose id stands at `path`.
pub fn check(spec: &AppSpec, path: &str, own_role: &str, problems: &mut Problems) {
    command(spec, path, problems);
    environment(spec, path, problems);
    roles(spec, path, own_role, problems);
    ports(spec, path, problems);
    constraints(spec, path, problems);
    health_checks(spec, path, problems);
    single_instance(spec, path, problems);
}

fn command(spec: &AppSpec, path: &str, problems: &mut Problems) {
    match (&spec.cmd, spec.args.is_empty()) {
        (Some(_), false) => {
            problems.rule(
                root(path),
                "AppDefinition must not contain both 'cmd' and 'args'.",
            );
        }
        (None, true) => problems.rule(
            root(path),
            "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'.",
        ),
        (Some(cmd), true) if cmd.trim().is_empty() => {
            problems.rule(format!("{path}/cmd"), "must not be an empty string");
        }
        (Some(_), true) | (None, false) => {}
    }
    if spec.cmd.as_ref().is_some_and(|cmd| cmd.contains('\0')) {
        problems.rule(format!("{path}/cmd"), "must not contain a zero character");
    }
    if spec.args.first().is_some_and(|program| program.is_empty()) {
        problems.rule(
            format!("{path}/args(0)"),
            "the program must not be an empty string",
        );
    }
    if spec.args.iter().any(|arg| arg.contains('\0')) {
        problems.rule(format!("{path}/args"), "must not contain a zero character");
    }
    if let Some(user) = &spec.user {
        let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$');
        if user.is_empty() || user.len() > 64 || !user.chars().all(is_good) {
            problems.rule(
                format!("{path}/user"),
                "must be the name of a user of the agent's host",
            );
        }
    }
}

fn environment(spec: &AppSpec, path: &str, problems: &mut Problems) {
    for (name, value) in &spec.env {
        let shown: String = name.chars().take(80).collect();
        if name.is_empty() || name.contains(['=', '\0']) {
            let words = "a variable's name must not be empty nor contain '=' or a zero character";
            problems.rule(format!("{path}/env/{shown}"), words);
        }
        if value.contains('\0') {
            problems.rule(
                format!("{path}/env/{shown}"),
                "must not contain a zero character",
            );
        }
    }
}

fn roles(spec: &AppSpec, path: &str, own_role: &str, problems: &mut Problems) {
    if spec.role != own_role {
        problems.rule(
            format!("{path}/role"),
            format!("got {}, expected one of: [{own_role}]", spec.role),
        );
    }
    let Some(accepted) = &spec.accepted_resource_roles else {
        return;
    };
    let at = format!("{path}/acceptedResourceRoles");
    if accepted.is_empty() {
        problems.rule(at.clone(), "must not be empty");
    }
    if accepted.iter().collect::<BTreeSet<_>>().len() != accepted.len() {
        problems.rule(at.clone(), "Elements must be unique");
    }
    for (index, role) in accepted.iter().enumerate() {
        if role != "*" && role != own_role {
            problems.rule(
                format!("{at}({index})"),
                format!("got {role}, expected one of: [*, {own_role}]"),
            );
        }
    }
}

fn ports(spec: &AppSpec, path: &str, problems: &mut Problems) {
    let at = format!("{path}/portDefinitions");
    let mut names = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    for (index, definition) in spec.port_definitions.iter().enumerate() {
        if let Some(name) = &definition.name {
            let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            if name.is_empty() || name.len() > 63 || !name.chars().all(is_good) {
                problems.rule(
                    format!("{at}({index})/name"),
                    "must be letters, digits, '-', '_' and '.', at most 63 of them",
                );
            }
            if !names.insert(name.clone()) {
                problems.rule(at.clone(), "Port names must be unique.");
            }
        }
        if definition.port != 0 && !numbers.insert(definition.port) {
            problems.rule(at.clone(), "Ports must be unique.");
        }
    }
}

fn constraints(spec: &AppSpec, path: &str, problems: &mut Problems) {
    let at = format!("{path}/constraints");
    if spec.constraints.iter().collect::<BTreeSet<_>>().len() != spec.constraints.len() {
        problems.rule(at.clone(), "Elements must be unique");
    }
    for (index, constraint) in spec.constraints.iter().enumerate() {
        let value = constraint.value.as_deref();
        if let Err(wrong) =
            Constraint::parse(&constraint.field, constraint.operator.as_str(), value)
        {
            problems.rule(format!("{at}({index})"), wrong.to_string());
        }
    }
}

fn health_checks(spec: &AppSpec, path: &str, problems: &mut Problems) {
    let at = format!("{path}/healthChecks");
    for (index, check) in spec.health_checks.iter().enumerate() {
        if spec.health_checks[..index].contains(check) {
            problems.rule(at.clone(), "Elements must be unique");
        }
        if check.protocol.by_executor() && !EXECUTOR_CHECKS.contains(&check.protocol) {
            problems.rule(
                format!("{at}({index})/protocol"),
                format!(
                    "{} is not served by this version of Mezzo; use HTTPS, or a COMMAND that asks",
                    check.protocol.as_str()
                ),
            );
        }
        let by_index = check
            .port_index
            .is_some_and(|index| index >= spec.port_definitions.len());
        let nowhere = check.port.is_none()
            && check.port_index.is_none()
            && check.protocol != CheckProtocol::Command;
        if by_index || nowhere {
            problems.rule(
                format!("{at}({index})/portIndex"),
                "Health check port indices must address an element of the ports array or container port mappings.",
            );
        }
    }
    if spec
        .health_checks
        .iter()
        .filter(|check| check.protocol.by_executor())
        .count()
        > 1
    {
        problems.rule(
            at,
            "AppDefinition can contain at most one Mesos health check",
        );
    }
}

fn single_instance(spec: &AppSpec, path: &str, problems: &mut Problems) {
    let is_single = spec
        .labels
        .get("MARATHON_SINGLE_INSTANCE_APP")
        .is_some_and(|label| label == "true");
    if !is_single {
        return;
    }
    if spec.instances > 1 {
        problems.rule(
            format!("{path}/instances"),
            format!(
                "got {}, expected 0 or 1: the app is labelled a single-instance app",
                spec.instances
            ),
        );
    }
    if spec.upgrade_strategy.min_healthy(1) != 0 || spec.upgrade_strategy.max_capacity(1) != 1 {
        problems.rule(
            format!("{path}/upgradeStrategy"),
            "Single instance app must have both minimumHealthCapacity and maximumOverCapacity at 0",
        );
    }
}

fn root(path: &str) -> String {
    if path.is_empty() {
        "/".to_owned()
    } else {
        path.to_owned()
    }
}
