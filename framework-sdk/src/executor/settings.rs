//! What an executor's process is told by its environment.

use std::path::PathBuf;

use mezzo_model::Millis;

use super::hello::Hello;

/// Who this executor is and how it reaches its agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What it says first.
    pub hello: Hello,
    /// The agent's unix socket.
    pub socket: PathBuf,
    /// How long it lives without its agent.
    pub recovery_timeout: Millis,
    /// Longest pause between two attempts to subscribe.
    pub backoff_max: Millis,
    /// How long a stopping executor waits for the acknowledgement of its last updates.
    pub linger: Millis,
}

/// Why the environment is not that of an executor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A variable is not there.
    #[error("the variable {0} is not set: an executor is started by an agent, which sets it")]
    Missing(&'static str),
    /// A variable makes no sense.
    #[error("the variable {name} is '{value}': {words}")]
    Invalid {
        /// Which.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        words: String,
    },
}

impl Settings {
    /// Reads the variables that an agent sets: `MESOS_FRAMEWORK_ID`, `MESOS_EXECUTOR_ID`, `MEZZO_CONTAINER_ID`,
    /// `MESOS_EXECUTOR_AUTHENTICATION_TOKEN`, `MEZZO_AGENT_SOCKET`; and the waits, which have Mesos' defaults:
    /// `MESOS_RECOVERY_TIMEOUT` (15 min), `MESOS_SUBSCRIPTION_BACKOFF_MAX` (2 s),
    /// `MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD` (5 s, the longest wait at the end).
    pub fn from_environment() -> Result<Self, SettingsError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// The same from any source of variables.
    pub fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let text = |name| get(name).ok_or(SettingsError::Missing(name));
        let span = |name, default| match get(name) {
            None => Ok(default),
            Some(value) => match value.parse::<Millis>() {
                Ok(span) => Ok(span),
                Err(error) => Err(SettingsError::Invalid {
                    name,
                    value,
                    words: error.to_string(),
                }),
            },
        };
        let checkpointed = get("MESOS_CHECKPOINT").is_none_or(|value| value != "0");
        let recovery_default = if checkpointed {
            Millis::from_secs(15 * 60)
        } else {
            Millis::ZERO
        };
        Ok(Self {
            hello: Hello {
                framework_id: text("MESOS_FRAMEWORK_ID")?,
                executor_id: text("MESOS_EXECUTOR_ID")?,
                container_id: text("MEZZO_CONTAINER_ID")?,
                token: text("MESOS_EXECUTOR_AUTHENTICATION_TOKEN")?,
            },
            socket: text("MEZZO_AGENT_SOCKET")?.into(),
            recovery_timeout: span("MESOS_RECOVERY_TIMEOUT", recovery_default)?,
            backoff_max: span("MESOS_SUBSCRIPTION_BACKOFF_MAX", Millis::from_secs(2))?,
            linger: span("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", Millis::from_secs(5))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent_sets(name: &str) -> Option<String> {
        let value = match name {
            "MESOS_FRAMEWORK_ID" => "f",
            "MESOS_EXECUTOR_ID" => "e",
            "MEZZO_CONTAINER_ID" => "c",
            "MESOS_EXECUTOR_AUTHENTICATION_TOKEN" => "t",
            "MEZZO_AGENT_SOCKET" => "/run/agent.sock",
            "MESOS_SUBSCRIPTION_BACKOFF_MAX" => "500ms",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[test]
    fn the_environment_of_an_agent_is_enough() {
        let settings = Settings::from_variables(agent_sets).unwrap();
        assert_eq!(settings.socket, PathBuf::from("/run/agent.sock"));
        assert_eq!(settings.backoff_max, Millis(500));
        assert_eq!(settings.recovery_timeout, Millis::from_secs(900));
        assert_eq!(settings.linger, Millis::from_secs(5));
        assert!(
            !format!("{settings:?}").contains("\"t\""),
            "the token is logged"
        );
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let without = |name: &str| agent_sets(name).filter(|_| name != "MEZZO_AGENT_SOCKET");
        let error = Settings::from_variables(without).unwrap_err();
        assert_eq!(error, SettingsError::Missing("MEZZO_AGENT_SOCKET"));
        let odd = |name: &str| match name {
            "MESOS_RECOVERY_TIMEOUT" => Some("soon".to_owned()),
            _ => agent_sets(name),
        };
        let words = Settings::from_variables(odd).unwrap_err().to_string();
        assert!(
            words.contains("MESOS_RECOVERY_TIMEOUT is 'soon'"),
            "{words}"
        );
    }

    #[test]
    fn an_executor_without_checkpoint_ends_with_its_agent() {
        let fleeting = |name: &str| match name {
            "MESOS_CHECKPOINT" => Some("0".to_owned()),
            _ => agent_sets(name),
        };
        let settings = Settings::from_variables(fleeting).unwrap();
        assert_eq!(settings.recovery_timeout, Millis::ZERO);
    }
}
