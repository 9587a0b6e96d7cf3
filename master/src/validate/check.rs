//! Commands, containers, checks and health checks: what tasks and executors are made of.

use mezzo_wire::v1;
use mezzo_wire::v1::container_info::Type as ContainerType;
use mezzo_wire::v1::environment::variable::Type as VariableType;
use mezzo_wire::v1::{check_info, health_check};

/// The environment of a command.
pub(super) fn command(command: &v1::CommandInfo) -> Result<(), String> {
    let Some(environment) = &command.environment else {
        return Ok(());
    };
    for variable in &environment.variables {
        let name = &variable.name;
        let kind = VariableType::try_from(variable.r#type.unwrap_or(VariableType::Value as i32));
        let words = match kind {
            Ok(VariableType::Secret) if variable.secret.is_none() => {
                "of type 'SECRET' must have a secret set"
            }
            Ok(VariableType::Secret) if variable.value.is_some() => {
                "of type 'SECRET' must not have a value set"
            }
            Ok(VariableType::Value) if variable.value.is_none() => {
                "of type 'VALUE' must have a value set"
            }
            Ok(VariableType::Value) if variable.secret.is_some() => {
                "of type 'VALUE' must not have a secret set"
            }
            Ok(VariableType::Unknown) | Err(_) => "of type 'UNKNOWN' is not allowed",
            Ok(VariableType::Secret | VariableType::Value) => continue,
        };
        return Err(format!("Environment variable '{name}' {words}"));
    }
    Ok(())
}

/// The kind of a container and the part that must come with it.
pub(super) fn container(container: &v1::ContainerInfo) -> Result<(), String> {
    match ContainerType::try_from(container.r#type) {
        Ok(ContainerType::Docker) if container.docker.is_none() => {
            Err("DockerInfo 'docker' is not set for DOCKER typed ContainerInfo".into())
        }
        Ok(_) => Ok(()),
        Err(_) => Err("ContainerInfo has an unknown type".into()),
    }
}

fn not_negative(field: &str, value: Option<f64>) -> Result<(), String> {
    match value {
        Some(value) if value.is_nan() || value < 0.0 => {
            Err(format!("Expecting '{field}' to be non-negative"))
        }
        _ => Ok(()),
    }
}

fn runnable(command: &v1::CommandInfo, what: &str) -> Result<(), String> {
    if command.value.as_ref().is_none_or(String::is_empty) {
        let needs = if command.shell.unwrap_or(true) {
            "shell command"
        } else {
            "executable path"
        };
        return Err(format!("{what} must contain '{needs}'"));
    }
    self::command(command).map_err(|why| format!("{what}'s `CommandInfo` is invalid: {why}"))
}

fn path(path: Option<&str>, what: &str) -> Result<(), String> {
    match path {
        Some(path) if !path.starts_with('/') => {
            Err(format!("The path '{path}' of {what} must start with '/'"))
        }
        _ => Ok(()),
    }
}

fn port(port: u32, what: &str) -> Result<(), String> {
    if (1..=65_535).contains(&port) {
        return Ok(());
    }
    Err(format!(
        "The port {port} of {what} is not between 1 and 65535"
    ))
}

/// A check.
pub(super) fn check(check: &v1::CheckInfo) -> Result<(), String> {
    let kind = check.r#type.map(check_info::Type::try_from);
    match (kind, &check.command, &check.http, &check.tcp) {
        (None, ..) => return Err("CheckInfo must specify 'type'".into()),
        (Some(Ok(check_info::Type::Command)), Some(command), ..) => {
            runnable(&command.command, "Command check")?;
        }
        (Some(Ok(check_info::Type::Command)), None, ..) => {
            return Err("Expecting 'command' to be set for COMMAND check".into());
        }
        (Some(Ok(check_info::Type::Http)), _, Some(http), _) => {
            path(http.path.as_deref(), "HTTP check")?;
            port(http.port, "HTTP check")?;
        }
        (Some(Ok(check_info::Type::Http)), _, None, _) => {
            return Err("Expecting 'http' to be set for HTTP check".into());
        }
        (Some(Ok(check_info::Type::Tcp)), .., Some(tcp)) => port(tcp.port, "TCP check")?,
        (Some(Ok(check_info::Type::Tcp)), .., None) => {
            return Err("Expecting 'tcp' to be set for TCP check".into());
        }
        (Some(Ok(check_info::Type::Unknown) | Err(_)), ..) => {
            return Err("'UNKNOWN' is not a valid check type".into());
        }
    }
    not_negative("delay_seconds", check.delay_seconds)?;
    not_negative("interval_seconds", check.interval_seconds)?;
    not_negative("timeout_seconds", check.timeout_seconds)
}

/// A health check without a type gets the one that its parts speak of, as older frameworks expect.
pub(super) fn infer_health_type(check: &mut v1::HealthCheck) {
    if check.r#type.is_none() {
        if check.command.is_some() && check.http.is_none() {
            check.r#type = Some(health_check::Type::Command as i32);
        } else if check.http.is_some() && check.command.is_none() {
            check.r#type = Some(health_check::Type::Http as i32);
        }
    }
}

/// A health check.
pub(super) fn health_check(check: &v1::HealthCheck) -> Result<(), String> {
    let kind = check.r#type.map(health_check::Type::try_from);
    match (kind, &check.command, &check.http, &check.tcp) {
        (None, ..) => return Err("HealthCheck must specify 'type'".into()),
        (Some(Ok(health_check::Type::Command)), Some(command), ..) => {
            runnable(command, "Command health check")?;
        }
        (Some(Ok(health_check::Type::Command)), None, ..) => {
            return Err("Expecting 'command' to be set for COMMAND health check".into());
        }
        (Some(Ok(health_check::Type::Http)), _, Some(http), _) => {
            match http.scheme.as_deref() {
                None | Some("http" | "https") => {}
                Some(scheme) => {
                    return Err(format!("Unsupported HTTP health check scheme: '{scheme}'"));
                }
            }
            path(http.path.as_deref(), "HTTP health check")?;
            port(http.port, "HTTP health check")?;
        }
        (Some(Ok(health_check::Type::Http)), _, None, _) => {
            return Err("Expecting 'http' to be set for HTTP health check".into());
        }
        (Some(Ok(health_check::Type::Tcp)), .., Some(tcp)) => port(tcp.port, "TCP health check")?,
        (Some(Ok(health_check::Type::Tcp)), .., None) => {
            return Err("Expecting 'tcp' to be set for TCP health check".into());
        }
        (Some(Ok(health_check::Type::Unknown) | Err(_)), ..) => {
            return Err("'UNKNOWN' is not a valid health check type".into());
        }
    }
    not_negative("delay_seconds", check.delay_seconds)?;
    not_negative("grace_period_seconds", check.grace_period_seconds)?;
    not_negative("interval_seconds", check.interval_seconds)?;
    not_negative("timeout_seconds", check.timeout_seconds)
}
