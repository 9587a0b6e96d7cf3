//! What operators read, for both doors: most of it from the read model, the rest from what this process was told at its
//! start.

mod numbers;
mod roles;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use mezzo_model::Role;
use mezzo_wire::v1;
use mezzo_wire::v1::master::call::Type;
use mezzo_wire::v1::master::response::{self, GetState};
use mezzo_wire::v1::master::{Response, response::Type as Kind};
use mezzo_wire::version::{MESOS_VERSION, MEZZO_VERSION};

use crate::flags::Flags;
use crate::front::Office;
use crate::read_model::{Ended, Page};
use crate::shell::metrics::Board;

pub(super) use roles::{RoleView, bag};

/// What does not change while this process runs.
#[derive(Debug)]
pub(crate) struct About {
    /// Versions, of Mesos for clients and ours.
    pub version: v1::VersionInfo,
    /// Flags that have a value, by name.
    pub flags: Vec<(&'static str, String)>,
    /// How others find this master.
    pub master: v1::MasterInfo,
    /// What people call the cluster.
    pub cluster: Option<String>,
    /// Weights that were configured, in thousandths.
    pub weights: BTreeMap<Role, u64>,
    /// The numbers of this moment.
    pub board: Board,
    /// When it started.
    pub started: Instant,
}

/// The versions that are told.
pub(crate) fn version() -> v1::VersionInfo {
    v1::VersionInfo {
        version: MESOS_VERSION.to_owned(),
        git_tag: Some(format!("mezzo-{MEZZO_VERSION}")),
        ..Default::default()
    }
}

/// Flags with their values, sorted by name. What stands between `//` and `@` of an address is a secret.
pub(crate) fn told_flags(flags: &Flags) -> Vec<(&'static str, String)> {
    let path = |path: &std::path::Path| path.display().to_string();
    let optional = [
        ("advertise_ip", flags.advertise_ip.map(|ip| ip.to_string())),
        (
            "advertise_port",
            flags.advertise_port.map(|port| port.to_string()),
        ),
        (
            "agent_removal_rate_limit",
            flags.agent_removal_rate_limit.clone(),
        ),
        ("cluster", flags.cluster.clone()),
        ("credentials", flags.credentials.as_deref().map(path)),
        (
            "fair_sharing_excluded_resource_names",
            flags.fair_sharing_excluded_resource_names.clone(),
        ),
        ("hostname", flags.hostname.clone()),
        ("roles", flags.roles.clone()),
        ("weights", flags.weights.clone()),
        ("zk", flags.zk.as_deref().map(without_secret)),
    ];
    let given = [
        ("agent_ping_timeout", flags.agent_ping_timeout.to_string()),
        (
            "agent_reregister_timeout",
            flags.agent_reregister_timeout.to_string(),
        ),
        (
            "filter_gpu_resources",
            flags.filter_gpu_resources.to_string(),
        ),
        ("insecure", flags.insecure.to_string()),
        ("ip", flags.ip.to_string()),
        (
            "max_agent_ping_timeouts",
            flags.max_agent_ping_timeouts.to_string(),
        ),
        (
            "max_completed_frameworks",
            flags.max_completed_frameworks.to_string(),
        ),
        (
            "max_completed_tasks_per_framework",
            flags.max_completed_tasks_per_framework.to_string(),
        ),
        (
            "max_unreachable_tasks_per_framework",
            flags.max_unreachable_tasks_per_framework.to_string(),
        ),
        (
            "min_allocatable_resources",
            flags.min_allocatable_resources.clone(),
        ),
        ("offer_timeout", flags.offer_timeout.to_string()),
        ("port", flags.port.to_string()),
        ("root_submissions", flags.root_submissions.to_string()),
        ("work_dir", path(&flags.work_dir)),
        ("zk_session_timeout", flags.zk_session_timeout.to_string()),
    ];
    let optional = optional
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    let mut told: Vec<_> = optional.chain(given).collect();
    told.sort_by_key(|(name, _)| *name);
    told
}

fn without_secret(address: &str) -> String {
    match (address.find("//"), address.find('@')) {
        (Some(from), Some(at)) if from + 2 <= at => {
            format!("{}***{}", &address[..from + 2], &address[at..])
        }
        _ => address.to_owned(),
    }
}

/// Answers reads.
#[derive(Clone, Debug)]
pub(crate) struct Reads {
    about: Arc<About>,
}

impl Reads {
    pub fn new(about: About) -> Self {
        Self {
            about: Arc::new(about),
        }
    }

    /// What does not change.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The answer to a call that only reads; `None` for any other.
    ///
    /// # Errors
    /// [`Ended`] if the term ended meanwhile.
    pub async fn answer(&self, office: &Office, kind: Type) -> Result<Option<Response>, Ended> {
        if let Some(page) = page(kind) {
            return office.reader.read(page).await.map(Some);
        }
        let answer = match kind {
            Type::GetHealth => Response {
                get_health: Some(response::GetHealth { healthy: true }),
                ..of(Kind::GetHealth)
            },
            Type::GetVersion => Response {
                get_version: Some(response::GetVersion {
                    version_info: self.about.version.clone(),
                }),
                ..of(Kind::GetVersion)
            },
            Type::GetFlags => Response {
                get_flags: Some(self.flags()),
                ..of(Kind::GetFlags)
            },
            // Only the level of the log in general can be asked for, and it has never been raised.
            Type::GetLoggingLevel => Response {
                get_logging_level: Some(response::GetLoggingLevel { level: 0 }),
                ..of(Kind::GetLoggingLevel)
            },
            Type::GetMetrics => {
                let metrics = self.metrics(Some(office)).await?;
                let metric = |(name, value)| v1::Metric {
                    name,
                    value: Some(value),
                };
                Response {
                    get_metrics: Some(response::GetMetrics {
                        metrics: metrics.into_iter().map(metric).collect(),
                    }),
                    ..of(Kind::GetMetrics)
                }
            }
            Type::GetRoles => {
                let state = self.state(office).await?;
                let roles = self.roles(&state);
                Response {
                    get_roles: Some(response::GetRoles {
                        roles: roles.iter().map(RoleView::to_wire).collect(),
                    }),
                    ..of(Kind::GetRoles)
                }
            }
            Type::GetWeights => Response {
                get_weights: Some(response::GetWeights {
                    weight_infos: self.weights(),
                }),
                ..of(Kind::GetWeights)
            },
            _ => return Ok(None),
        };
        Ok(Some(answer))
    }

    /// Everything, of one moment.
    ///
    /// # Errors
    /// [`Ended`] if the term ended meanwhile.
    pub async fn state(&self, office: &Office) -> Result<GetState, Ended> {
        let answer = office.reader.read(Page::State).await?;
        Ok(answer.get_state.unwrap_or_default())
    }

    /// Roles that somebody uses, by name.
    pub(super) fn roles(&self, state: &GetState) -> Vec<RoleView> {
        roles::views(state, &self.about.weights)
    }

    /// Weights that were configured, by role.
    pub fn weights(&self) -> Vec<v1::WeightInfo> {
        let weights = self.about.weights.iter();
        let weight = |(role, thousandths): (&Role, &u64)| v1::WeightInfo {
            weight: roles::weight(*thousandths),
            role: Some(role.to_string()),
        };
        weights.map(weight).collect()
    }

    /// Numbers by Mesos' names. Without an office: those of a master that does not lead.
    ///
    /// # Errors
    /// [`Ended`] if the term ended meanwhile.
    pub async fn metrics(&self, office: Option<&Office>) -> Result<BTreeMap<String, f64>, Ended> {
        let state = match office {
            Some(office) => self.state(office).await?,
            None => GetState::default(),
        };
        let mut numbers = numbers::of_master(&self.about, &state);
        numbers::of_system(&mut numbers).await;
        Ok(numbers)
    }

    fn flags(&self) -> response::GetFlags {
        let flag = |(name, value): &(&'static str, String)| v1::Flag {
            name: (*name).to_owned(),
            value: Some(value.clone()),
        };
        response::GetFlags {
            flags: self.about.flags.iter().map(flag).collect(),
        }
    }
}

fn of(kind: Kind) -> Response {
    Response {
        r#type: Some(kind as i32),
        ..Default::default()
    }
}

fn page(kind: Type) -> Option<Page> {
    Some(match kind {
        Type::GetState => Page::State,
        Type::GetAgents => Page::Agents,
        Type::GetFrameworks => Page::Frameworks,
        Type::GetTasks => Page::Tasks,
        Type::GetExecutors => Page::Executors,
        Type::GetOperations => Page::Operations,
        Type::GetMaster => Page::Master,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_their_secrets() {
        for (address, told) in [
            ("zk://user:pw@h:2181/m", "zk://***@h:2181/m"),
            ("zk://h:2181/m", "zk://h:2181/m"),
            ("file:///var/x@y", "file://***@y"),
            ("a@b//c", "a@b//c"),
        ] {
            assert_eq!(without_secret(address), told);
        }
    }
}
