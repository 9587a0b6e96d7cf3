//! From flags to what the process needs.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mezzo_coordination::{Candidate, Contender, JoinError, Target, TargetError};
use mezzo_door::{Bind, Door, OpenError};
use mezzo_model::credentials::{Credentials, CredentialsError};
use mezzo_model::resources::{Milli, Quantities, Resources, TextError};
use mezzo_model::rng::uuid_text;
use mezzo_model::role::RoleError;
use mezzo_model::{Epoch, Millis, Role};
use mezzo_wire::version::MESOS_VERSION;
use mezzo_wire::{json, v1};

use crate::core::{Config, RateLimit};
use crate::flags::Flags;
use crate::read_model::Limits;

/// Why a master did not start: what a person has to put right.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// `--zk` names nothing that masters can meet at.
    #[error("--zk: {0}")]
    Target(#[from] TargetError),
    /// `--work_dir` cannot be used.
    #[error("--work_dir={}: {source}", path.display())]
    WorkDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that cannot be read.
    #[error("--credentials={}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of credentials that makes no sense.
    #[error("--credentials={}: {source}", path.display())]
    Credentials {
        /// Which.
        path: PathBuf,
        /// Why.
        source: CredentialsError,
    },
    /// A role that is none.
    #[error("--{flag}: {source}")]
    Role {
        /// `roles` or `weights`.
        flag: &'static str,
        /// Why.
        source: RoleError,
    },
    /// A weight that is none.
    #[error(
        "--weights: '{pair}' is not role=weight with a weight from 0.001 up to 10^12, such as eng=2"
    )]
    Weight {
        /// The part between commas.
        pair: String,
    },
    /// Amounts that are none.
    #[error("--min_allocatable_resources: {0}")]
    MinAllocatable(#[from] TextError),
    /// A rate that is none.
    #[error("--agent_removal_rate_limit: '{text}' is not a number per time, such as 1/10mins")]
    RateLimit {
        /// What was given.
        text: String,
    },
    /// A time that is none.
    #[error("--{flag}: must be longer than nothing")]
    NoTime {
        /// Which.
        flag: &'static str,
    },
    /// The port was not opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The election was not joined.
    #[error(transparent)]
    Join(#[from] JoinError),
}

/// Everything that the process needs.
#[derive(Debug)]
pub(super) struct Setup {
    pub door: Door,
    pub target: Target,
    pub candidate: Candidate,
    pub session_timeout: std::time::Duration,
    pub contender: Contender,
    pub credentials: Option<Arc<Credentials>>,
    pub template: Template,
    pub limits: Limits,
}

/// What each term's configuration is made from.
#[derive(Clone, Debug)]
pub(super) struct Template {
    config: Config,
}

impl Template {
    /// The configuration of a term.
    pub fn config(&self, epoch: Epoch) -> Config {
        Config {
            epoch,
            ..self.config.clone()
        }
    }

    /// What is told of this master.
    pub fn master(&self) -> &v1::MasterInfo {
        &self.config.master
    }

    /// Weights that were configured, in thousandths.
    pub fn weights(&self) -> &BTreeMap<Role, u64> {
        &self.config.allocator.weights
    }
}

/// Checks the flags, opens the port and joins the election.
pub(super) async fn prepare(flags: Flags) -> Result<Setup, StartError> {
    let target = target(&flags)?;
    let credentials = credentials(flags.credentials.as_deref())?;
    let mut config = settings(&flags)?;
    let bind = Bind {
        ip: flags.ip,
        port: flags.port,
        credentials: credentials.clone(),
        insecure: flags.insecure,
    };
    let door = bind.open().await?;
    config.master = master_info(&flags, door.addr());
    let info = sorted_json(&config.master);
    let candidate = Candidate::master(info);
    let session_timeout = flags.zk_session_timeout.to_std();
    let contender = Contender::join(&target, candidate.clone(), session_timeout)?;
    let limits = Limits {
        completed_frameworks: flags.max_completed_frameworks,
        completed_tasks: flags.max_completed_tasks_per_framework,
    };
    let template = Template { config };
    Ok(Setup {
        door,
        target,
        candidate,
        session_timeout,
        contender,
        credentials,
        template,
        limits,
    })
}

fn target(flags: &Flags) -> Result<Target, StartError> {
    if let Some(zk) = &flags.zk {
        return Ok(Target::parse(zk)?);
    }
    let work_dir = |source| StartError::WorkDir {
        path: flags.work_dir.clone(),
        source,
    };
    let state = std::path::absolute(flags.work_dir.join("state")).map_err(work_dir)?;
    std::fs::create_dir_all(&state).map_err(work_dir)?;
    Ok(Target::Embedded(state))
}

fn credentials(path: Option<&Path>) -> Result<Option<Arc<Credentials>>, StartError> {
    let Some(path) = path else { return Ok(None) };
    // Mesos writes such paths as file:///path too.
    let plain = path
        .to_str()
        .and_then(|text| text.strip_prefix("file://"))
        .map_or(path, Path::new);
    let path = plain.to_owned();
    let content = std::fs::read_to_string(&path).map_err(|source| StartError::File {
        path: path.clone(),
        source,
    })?;
    let credentials =
        Credentials::parse(&content).map_err(|source| StartError::Credentials { path, source })?;
    Ok(Some(Arc::new(credentials)))
}

/// All settings but the term's.
fn settings(flags: &Flags) -> Result<Config, StartError> {
    let nobody = Epoch {
        cluster_id: Arc::from(""),
        counter: 0,
    };
    let mut config = Config::new(v1::MasterInfo::default(), nobody);
    for (flag, span) in [
        ("offer_timeout", flags.offer_timeout),
        ("agent_ping_timeout", flags.agent_ping_timeout),
        ("agent_reregister_timeout", flags.agent_reregister_timeout),
        ("zk_session_timeout", flags.zk_session_timeout),
    ] {
        if span == Millis::ZERO {
            return Err(StartError::NoTime { flag });
        }
    }
    config.policy.no_root = !flags.root_submissions;
    if let Some(roles) = &flags.roles {
        let role = |text: &str| {
            Role::parse(text).map_err(|source| StartError::Role {
                flag: "roles",
                source,
            })
        };
        config.policy.roles = Some(names(roles).map(role).collect::<Result<_, _>>()?);
    }
    config.allocator.weights = weights(flags.weights.as_deref().unwrap_or_default())?;
    config.allocator.min_allocatable = min_allocatable(&flags.min_allocatable_resources)?;
    config.allocator.filter_gpus = flags.filter_gpu_resources;
    let excluded = flags
        .fair_sharing_excluded_resource_names
        .as_deref()
        .unwrap_or_default();
    config.allocator.excluded = names(excluded).map(Arc::from).collect();
    config.offer_timeout = flags.offer_timeout;
    config.agent_ping_timeout = flags.agent_ping_timeout;
    config.max_agent_ping_timeouts = flags.max_agent_ping_timeouts;
    config.agent_reregister_timeout = flags.agent_reregister_timeout;
    config.agent_removal_rate_limit = flags
        .agent_removal_rate_limit
        .as_deref()
        .map(rate_limit)
        .transpose()?;
    config.max_unreachable_tasks_per_framework = flags.max_unreachable_tasks_per_framework;
    Ok(config)
}

fn names(list: &str) -> impl Iterator<Item = &str> {
    list.split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
}

fn weights(list: &str) -> Result<BTreeMap<Role, u64>, StartError> {
    let mut weights = BTreeMap::new();
    for pair in names(list) {
        let refuse = || StartError::Weight {
            pair: pair.to_owned(),
        };
        let (role, weight) = pair.split_once('=').ok_or_else(refuse)?;
        let role = Role::parse(role.trim()).map_err(|source| StartError::Role {
            flag: "weights",
            source,
        })?;
        let weight: f64 = weight.trim().parse().map_err(|_| refuse())?;
        let thousandths = Milli::from_f64(weight).filter(|milli| *milli > Milli::ZERO);
        weights.insert(role, thousandths.ok_or_else(refuse)?.0.unsigned_abs());
    }
    Ok(weights)
}

fn min_allocatable(text: &str) -> Result<Vec<Quantities>, StartError> {
    let sets = text.split('|').filter(|set| !set.trim().is_empty());
    sets.map(|set| Ok(Resources::parse(set)?.quantities()))
        .collect()
}

fn rate_limit(text: &str) -> Result<RateLimit, StartError> {
    let refuse = || StartError::RateLimit {
        text: text.to_owned(),
    };
    let (permits, per) = text.split_once('/').ok_or_else(refuse)?;
    let permits: u32 = permits.trim().parse().map_err(|_| refuse())?;
    let per: Millis = per.trim().parse().map_err(|_| refuse())?;
    if permits == 0 || per == Millis::ZERO {
        return Err(refuse());
    }
    Ok(RateLimit { permits, per })
}

/// What is told of this master: to schedulers, and in the election to everybody.
fn master_info(flags: &Flags, bound: SocketAddr) -> v1::MasterInfo {
    let ip = flags
        .advertise_ip
        .unwrap_or_else(|| mezzo_door::reachable(bound.ip()));
    let port = flags.advertise_port.unwrap_or(bound.port());
    let hostname = flags.hostname.clone().unwrap_or_else(|| ip.to_string());
    let address = SocketAddr::new(ip, port);
    let id: [u8; 16] = rand::random();
    v1::MasterInfo {
        id: uuid_text(&id),
        // The four bytes in network order, read as a little-endian number: so Mesos writes it.
        ip: match ip {
            IpAddr::V4(v4) => u32::from_le_bytes(v4.octets()),
            IpAddr::V6(_) => 0,
        },
        port: u32::from(port),
        pid: Some(format!("master@{address}")),
        hostname: Some(hostname.clone()),
        version: Some(MESOS_VERSION.to_owned()),
        address: Some(v1::Address {
            hostname: Some(hostname),
            ip: Some(ip.to_string()),
            port: i32::from(port),
        }),
        ..Default::default()
    }
}

/// JSON with keys in alphabetical order, as Mesos writes it into ZooKeeper.
fn sorted_json(info: &v1::MasterInfo) -> String {
    let text = json::to_string(info);
    // Generic objects keep their keys sorted.
    serde_json::from_str::<serde_json::Value>(&text).map_or(text, |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }

    fn flags(more: &[&str]) -> Flags {
        Line::try_parse_from([&["master"], more].concat())
            .expect("parses")
            .flags
    }

    #[test]
    fn flags_have_mesos_names_and_defaults() {
        let plain = flags(&[]);
        assert_eq!(
            (plain.port, plain.ip.to_string().as_str()),
            (5050, "127.0.0.1")
        );
        let config = settings(&plain).expect("good");
        let defaults = Config::new(Default::default(), config.epoch.clone());
        assert_eq!(config.silence(), Millis::from_secs(75));
        assert_eq!(
            config.allocator.min_allocatable,
            defaults.allocator.min_allocatable
        );
        let given = flags(&[
            "--work-dir=/tmp/x",
            "--agent_ping_timeout=2secs",
            "--max-agent-ping-timeouts=3",
            "--weights=eng=2,ops=0.5",
            "--roles=eng, ops",
            "--agent_removal_rate_limit=1/10mins",
            "--min_allocatable_resources=cpus:1;mem:64|gpus:1",
            "--root_submissions=false",
            "--offer_timeout=5",
            "--filter_gpu_resources=false",
        ]);
        let config = settings(&given).expect("good");
        assert_eq!(config.silence(), Millis::from_secs(6));
        assert_eq!(
            config.allocator.weights[&Role::parse("ops").expect("a role")],
            500
        );
        assert_eq!(
            config
                .policy
                .roles
                .as_ref()
                .map(std::collections::BTreeSet::len),
            Some(2)
        );
        assert_eq!(
            config.agent_removal_rate_limit.map(|limit| limit.per),
            Some(Millis(600_000))
        );
        assert_eq!(config.allocator.min_allocatable.len(), 2);
        assert_eq!(config.offer_timeout, Millis(5000));
        assert!(config.policy.no_root && !config.allocator.filter_gpus);
    }

    #[test]
    fn wrong_flags_are_refused_in_words() {
        for (flag, words) in [
            ("--weights=eng", "'eng' is not role=weight"),
            ("--weights=eng=-1", "'eng=-1' is not role=weight"),
            ("--weights=eng=nan", "'eng=nan' is not role=weight"),
            ("--weights=-x=1", "starts with a dash"),
            ("--roles=a//b", "two adjacent slashes"),
            (
                "--agent_removal_rate_limit=fast",
                "'fast' is not a number per time",
            ),
            (
                "--agent_removal_rate_limit=0/1secs",
                "is not a number per time",
            ),
            ("--min_allocatable_resources=cpus", "missing or extra ':'"),
            (
                "--offer_timeout=0secs",
                "--offer_timeout: must be longer than nothing",
            ),
        ] {
            let refused = settings(&flags(&[flag])).expect_err(flag).to_string();
            assert!(refused.contains(words), "{refused}");
        }
        for flag in [
            "--port=99999",
            "--offer_timeout=soon",
            "--max_agent_ping_timeouts=0",
            "--ip=nowhere",
        ] {
            assert!(Line::try_parse_from(["master", flag]).is_err(), "{flag}");
        }
    }

    #[test]
    fn what_is_told_of_a_master_can_be_read_by_mesos_tools() {
        let given = flags(&[
            "--hostname=m1",
            "--advertise_ip=10.0.0.7",
            "--advertise_port=15050",
        ]);
        let info = master_info(&given, "127.0.0.1:5050".parse().expect("an address"));
        assert_eq!(info.ip, u32::from_le_bytes([10, 0, 0, 7]));
        let told = sorted_json(&info);
        assert!(
            told.starts_with(
                "{\"address\":{\"hostname\":\"m1\",\"ip\":\"10.0.0.7\",\"port\":15050}"
            ),
            "{told}"
        );
        let loopback = master_info(&flags(&[]), "127.0.0.1:5050".parse().expect("an address"));
        assert_eq!(loopback.ip, 16_777_343);
        assert_eq!(loopback.pid.as_deref(), Some("master@127.0.0.1:5050"));
    }
}
