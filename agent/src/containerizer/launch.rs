//! From a launch to a plan on the disk: user, sandbox, environment, limits of the payload.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use mezzo_executor::plan::{
    AgentAddress, CommandLine, Containerizer as Contained, ExecutorRole, OutputLimits,
    PLAN_VERSION, Plan, Rlimit, RlimitKind, Timing,
};
use mezzo_model::Millis;
use mezzo_wire::v1;

use super::{LaunchError, Site, users};
use crate::core::Launch;
use crate::layout::Layout;

/// The name of the plan in a container's directory.
pub(crate) const PLAN_FILE: &str = "plan.json";

/// What all launches of an agent have in common.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    pub layout: Layout,
    /// `host:port` of the agent's door.
    pub endpoint: String,
    /// The name of the agent's own user.
    pub own_user: String,
    pub output: OutputLimits,
    pub kill_grace: Millis,
    /// How long an executor lives without its agent.
    pub recovery_timeout: Millis,
    /// The limit of open files that the agent found when it started: its payloads get that one, not its own.
    pub nofile: Option<Rlimit>,
}

impl Common {
    /// The places of a launch.
    pub fn site(&self, place: &crate::core::Place) -> Site {
        Site {
            container: place.container.clone(),
            directory: self.layout.container(&place.container),
            sandbox: self.layout.sandbox(place),
        }
    }

    /// The plan of a launch, as it is for a plain process.
    ///
    /// # Errors
    /// Refuses what cannot be run, in words.
    pub fn plan(&self, launch: &Launch, site: &Site, token: String) -> Result<Plan, LaunchError> {
        let refused =
            |error: mezzo_executor::plan::CommandError| LaunchError::Refused(error.to_string());
        let command = CommandLine::from_wire(&launch.command).map_err(refused)?;
        let user = match &*launch.user {
            own if own == self.own_user => None,
            other => Some(users::find(other)?),
        };
        let recovery = if launch.checkpoint {
            self.recovery_timeout
        } else {
            Millis::ZERO
        };
        Ok(Plan {
            version: PLAN_VERSION,
            framework_id: launch.place.framework.to_string(),
            executor_id: launch.place.executor.to_string(),
            container_id: launch.place.container.to_string(),
            agent_id: launch.place.agent.to_string(),
            role: if launch.custom {
                ExecutorRole::Custom
            } else {
                ExecutorRole::Command
            },
            containerizer: Contained::Process,
            command,
            environment: environment(&launch.command)?,
            user,
            sandbox: site.sandbox.clone(),
            sandbox_inside: None,
            working_directory: None,
            run_directory: site.directory.clone(),
            rlimits: self.rlimits(launch)?,
            output: self.output,
            agent: AgentAddress {
                socket: self.layout.socket().to_owned(),
                token,
                endpoint: self.endpoint.clone(),
            },
            timing: Timing {
                kill_grace_ms: self.kill_grace.0,
                shutdown_grace_ms: launch.shutdown_grace.0,
                recovery_timeout_ms: recovery.0,
                ..Timing::default()
            },
        })
    }

    fn rlimits(&self, launch: &Launch) -> Result<Vec<Rlimit>, LaunchError> {
        let asked = launch
            .container
            .as_ref()
            .and_then(|container| container.rlimit_info.as_ref());
        let mut limits: Vec<Rlimit> = match asked {
            Some(info) => info.rlimits.iter().map(rlimit).collect::<Result<_, _>>()?,
            None => Vec::new(),
        };
        if limits.iter().all(|limit| limit.kind != RlimitKind::Nofile) {
            limits.extend(self.nofile);
        }
        Ok(limits)
    }

    /// Makes the sandbox and the container's own directory.
    ///
    /// # Errors
    /// Says which cannot be made.
    pub fn make_directories(
        &self,
        launch: &Launch,
        site: &Site,
        plan: &Plan,
    ) -> Result<(), LaunchError> {
        let sandbox = &site.sandbox;
        self.layout
            .make_sandbox_parents(&launch.place)
            .map_err(LaunchError::io("create the directories above", sandbox))?;
        directory(sandbox, 0o750)?;
        if let Some(user) = &plan.user {
            std::os::unix::fs::chown(sandbox, Some(user.uid), Some(user.gid))
                .map_err(LaunchError::io("hand over", sandbox))?;
        }
        directory(&site.directory, 0o700)?;
        // Only people look at it.
        let _ = self.layout.point_latest(&launch.place);
        Ok(())
    }
}

fn directory(path: &Path, mode: u32) -> Result<(), LaunchError> {
    fs::DirBuilder::new()
        .mode(mode)
        .create(path)
        .map_err(LaunchError::io("create", path))
}

/// Where the plan of a container lies.
pub(crate) fn plan_path(site: &Site) -> PathBuf {
    site.directory.join(PLAN_FILE)
}

fn environment(command: &v1::CommandInfo) -> Result<Vec<(String, String)>, LaunchError> {
    let variables = command
        .environment
        .iter()
        .flat_map(|environment| &environment.variables);
    variables.map(variable).collect()
}

fn variable(variable: &v1::environment::Variable) -> Result<(String, String), LaunchError> {
    let name = &variable.name;
    let refuse = |words: &str| {
        let name = name.escape_debug();
        Err(LaunchError::Refused(format!(
            "environment variable '{name}' {words}"
        )))
    };
    if name.is_empty() || name.contains(['=', '\0']) {
        return refuse("has no usable name: it must not be empty and hold no '=' and no NUL byte");
    }
    let value = match (&variable.secret, variable.r#type()) {
        (Some(secret), v1::environment::variable::Type::Secret) => match &secret.value {
            Some(value) => String::from_utf8(value.data.to_vec()).ok(),
            None => {
                return refuse(
                    "is a reference to a secret, and this agent has no store of secrets to look in",
                );
            }
        },
        (None, v1::environment::variable::Type::Secret) => {
            return refuse("is a secret without a value");
        }
        _ => Some(variable.value.clone().unwrap_or_default()),
    };
    match value {
        Some(value) if !value.contains('\0') => Ok((name.clone(), value)),
        _ => refuse("has a value that no environment can hold"),
    }
}

fn rlimit(limit: &v1::r_limit_info::RLimit) -> Result<Rlimit, LaunchError> {
    use v1::r_limit_info::r_limit::Type;
    let kind = match limit.r#type() {
        Type::RlmtAs => RlimitKind::As,
        Type::RlmtCore => RlimitKind::Core,
        Type::RlmtCpu => RlimitKind::Cpu,
        Type::RlmtData => RlimitKind::Data,
        Type::RlmtFsize => RlimitKind::Fsize,
        Type::RlmtLocks => RlimitKind::Locks,
        Type::RlmtMemlock => RlimitKind::Memlock,
        Type::RlmtMsgqueue => RlimitKind::Msgqueue,
        Type::RlmtNice => RlimitKind::Nice,
        Type::RlmtNofile => RlimitKind::Nofile,
        Type::RlmtNproc => RlimitKind::Nproc,
        Type::RlmtRss => RlimitKind::Rss,
        Type::RlmtRtprio => RlimitKind::Rtprio,
        Type::RlmtRttime => RlimitKind::Rttime,
        Type::RlmtSigpending => RlimitKind::Sigpending,
        Type::RlmtStack => RlimitKind::Stack,
        Type::Unknown => {
            return Err(LaunchError::Refused(
                "a process limit has no known type".to_owned(),
            ));
        }
    };
    match (limit.soft, limit.hard) {
        (Some(soft), Some(hard)) if soft > hard => Err(LaunchError::Refused(format!(
            "a process limit has a soft value ({soft}) above its hard one ({hard})"
        ))),
        (Some(soft), Some(hard)) => Ok(Rlimit {
            kind,
            soft: Some(soft),
            hard: Some(hard),
        }),
        (None, None) => Ok(Rlimit {
            kind,
            soft: None,
            hard: None,
        }),
        _ => Err(LaunchError::Refused(
            "a process limit needs both its soft and its hard value, or neither for none"
                .to_owned(),
        )),
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use std::sync::Arc;

    use mezzo_model::ids::{AgentId, ContainerId, ExecutorId, FrameworkId};

    use super::*;
    use crate::core::{Limits, Place};

    /// A launch of a shell line as this user.
    pub(crate) fn launch(line: &str) -> Launch {
        Launch {
            place: Place::new(
                AgentId::parse("m-S0").expect("an id"),
                FrameworkId::parse("fw").expect("an id"),
                ExecutorId::parse("t").expect("an id"),
                ContainerId::parse("c1").expect("an id"),
            ),
            user: Arc::from(users::own_name()),
            custom: false,
            command: v1::CommandInfo {
                value: Some(line.to_owned()),
                ..Default::default()
            },
            container: None,
            volumes_asked: false,
            limits: Limits {
                cpu_milli: 500,
                cpu_max_milli: None,
                memory_bytes: Some(64 << 20),
            },
            checkpoint: true,
            shutdown_grace: Millis::from_secs(5),
        }
    }

    pub(crate) fn common(work_dir: &Path) -> Common {
        Common {
            layout: Layout::prepare(work_dir).expect("prepares"),
            endpoint: "127.0.0.1:5051".to_owned(),
            own_user: users::own_name(),
            output: OutputLimits::default(),
            kill_grace: Millis::from_secs(3),
            recovery_timeout: Millis::from_secs(900),
            nofile: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{common, launch};
    use super::*;

    fn set(name: &str, value: &str) -> v1::environment::Variable {
        v1::environment::Variable {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            ..Default::default()
        }
    }

    fn refused(change: impl FnOnce(&mut Launch)) -> String {
        let scratch = tempfile::tempdir().expect("a directory");
        let common = common(scratch.path());
        let mut launch = launch("true");
        change(&mut launch);
        let site = common.site(&launch.place);
        common
            .plan(&launch, &site, String::new())
            .expect_err("refused")
            .to_string()
    }

    fn with_variable(variable: v1::environment::Variable) -> String {
        refused(|launch| {
            let environment = v1::Environment {
                variables: vec![variable],
            };
            launch.command.environment = Some(environment);
        })
    }

    fn with_limit(kind: i32, soft: Option<u64>, hard: Option<u64>) -> String {
        refused(|launch| {
            let limit = v1::r_limit_info::RLimit {
                r#type: Some(kind),
                soft,
                hard,
            };
            let info = v1::RLimitInfo {
                rlimits: vec![limit],
            };
            launch.container = Some(v1::ContainerInfo {
                rlimit_info: Some(info),
                ..Default::default()
            });
        })
    }

    #[test]
    fn what_cannot_be_run_is_refused_in_words() {
        assert!(refused(|launch| launch.command.value = None).contains("no 'value'"));
        assert!(refused(|launch| launch.command.value = Some("a\0b".to_owned())).contains("NUL"));
        assert!(refused(|launch| launch.user = "no-such-user".into()).contains("No such user"));
        assert!(with_variable(set("", "x")).contains("no usable name"));
        assert!(with_variable(set("A=B", "x")).contains("no usable name"));
        assert!(with_variable(set("A", "x\0y")).contains("no environment can hold"));
        let secret = v1::environment::Variable {
            r#type: Some(v1::environment::variable::Type::Secret as i32),
            secret: Some(v1::Secret::default()),
            ..set("A", "x")
        };
        assert!(with_variable(secret.clone()).contains("reference to a secret"));
        let none = v1::environment::Variable {
            secret: None,
            ..secret
        };
        assert!(with_variable(none).contains("without a value"));
        assert!(with_limit(0, None, None).contains("no known type"));
        assert!(with_limit(10, Some(2), Some(1)).contains("above its hard one"));
        assert!(with_limit(10, Some(2), None).contains("both"));
    }

    #[test]
    fn a_plan_says_all_that_the_executor_must_know() {
        let scratch = tempfile::tempdir().expect("a directory");
        let mut common = common(scratch.path());
        common.nofile = Some(Rlimit {
            kind: RlimitKind::Nofile,
            soft: Some(1024),
            hard: Some(4096),
        });
        let mut launch = launch("echo hello");
        let environment = v1::Environment {
            variables: vec![set("A", "1")],
        };
        launch.command.environment = Some(environment);
        let site = common.site(&launch.place);
        let plan = common
            .plan(&launch, &site, "token".to_owned())
            .expect("a plan");
        common
            .make_directories(&launch, &site, &plan)
            .expect("directories");
        assert_eq!(plan.environment, [("A".to_owned(), "1".to_owned())]);
        assert_eq!(plan.rlimits.len(), 1);
        assert_eq!(plan.user, None, "its own user needs no change");
        assert!(plan.sandbox.is_dir() && plan.run_directory.is_dir());
        plan.store(&plan_path(&site)).expect("stores");
        assert_eq!(Plan::load(&plan_path(&site)).expect("loads"), plan);
        let again = common.make_directories(&launch, &site, &plan);
        assert!(again.is_err(), "a container is made once");
    }
}
