//! From flags to what the process needs.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mezzo_coordination::{Candidate, Contender, JoinError, Target, TargetError};
use mezzo_door::{Bind, Door, OpenError};
use mezzo_model::credentials::{Credentials, CredentialsError};
use mezzo_model::resources::{Quantities, Resources};
use mezzo_model::role::{Role, RoleError};
use mezzo_wire::v1;
use mezzo_wire::v1::master_info::capability::Type as Capability;
use mezzo_wire::version::MESOS_VERSION;
use serde_json::json;

use crate::core::Config;
use crate::flags::Flags;

/// Why a master did not start: what a person has to put right.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// `--zk` names nothing.
    #[error("--zk: {0}")]
    Target(#[from] TargetError),
    /// A role that is none.
    #[error("--{flag}: {source}")]
    Role {
        /// In which flag.
        flag: &'static str,
        /// Why.
        source: RoleError,
    },
    /// A weight that is none.
    #[error("--weights: '{0}' is no weight; write role=weight with a weight from 0.001 to 1000000, such as web=2,batch=0.5")]
    Weight(String),
    /// An amount that is none.
    #[error("--min_allocatable_resources: '{0}' is not of the form cpus:0.01|mem:32")]
    MinAllocatable(String),
    /// A file or directory that cannot be used.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of credentials that makes no sense.
    #[error("{}: {source}", path.display())]
    Credentials {
        /// Which.
        path: PathBuf,
        /// Why.
        source: CredentialsError,
    },
    /// The port was not opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The election was not joined.
    #[error(transparent)]
    Join(#[from] JoinError),
}

/// Everything that the process needs.
pub struct Setup {
    pub door: Door,
    pub contender: Contender,
    pub settings: Settings,
    pub info: Arc<v1::MasterInfo>,
    pub credentials: Option<Arc<Credentials>>,
}

/// What every term of this process is led with.
#[derive(Clone, Debug)]
pub struct Settings {
    flags: Flags,
    roles: Option<Vec<Role>>,
    /// In thousandths.
    weights: Vec<(Role, u64)>,
    min_allocatable: Vec<Quantities>,
}

impl Settings {
    fn read(flags: &Flags) -> Result<Self, StartError> {
        Ok(Self {
            roles: flags.roles.as_deref().map(roles).transpose()?,
            weights: flags.weights.as_deref().map(weights).transpose()?.unwrap_or_default(),
            min_allocatable: min_allocatable(&flags.min_allocatable_resources)?,
            flags: flags.clone(),
        })
    }

    /// Puts them into the configuration of a term.
    pub fn put_into(&self, config: &mut Config) {
        let flags = &self.flags;
        config.offer_timeout = flags.offer_timeout;
        config.agent_ping_timeout = flags.agent_ping_timeout;
        config.max_agent_ping_timeouts = flags.max_agent_ping_timeouts;
        config.agent_reregister_timeout = flags.agent_reregister_timeout;
        config.policy.roles = self.roles.clone().map(|roles| roles.into_iter().collect());
        config.allocator.weights = self.weights.iter().cloned().collect();
        config.allocator.min_allocatable = self.min_allocatable.clone();
    }
}

/// Checks the flags, opens the port and joins the election.
pub async fn prepare(flags: Flags) -> Result<Setup, StartError> {
    let settings = Settings::read(&flags)?;
    let home = match &flags.zk {
        Some(zk) => Target::parse(zk)?,
        None => Target::Embedded(absolute(&flags.work_dir.join("state"))?),
    };
    let credentials = flags.credentials.as_deref().map(credentials).transpose()?;
    let bind = Bind {
        ip: flags.ip,
        port: flags.port,
        credentials: credentials.clone(),
        insecure: flags.insecure,
    };
    let door = bind.open().await?;
    let info = master_info(&flags, door.addr().port());
    let candidate = Candidate::master(describe(&info));
    let contender = Contender::join(&home, candidate, flags.zk_session_timeout.to_std())?;
    Ok(Setup { door, contender, settings, info: Arc::new(info), credentials })
}

fn absolute(path: &Path) -> Result<PathBuf, StartError> {
    std::path::absolute(path)
        .map_err(|source| StartError::File { path: path.to_owned(), source })
}

fn credentials(path: &Path) -> Result<Arc<Credentials>, StartError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| StartError::File { path: path.to_owned(), source })?;
    Credentials::parse(&text)
        .map(Arc::new)
        .map_err(|source| StartError::Credentials { path: path.to_owned(), source })
}

fn roles(text: &str) -> Result<Vec<Role>, StartError> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    names
        .map(|name| Role::parse(name).map_err(|source| StartError::Role { flag: "roles", source }))
        .collect()
}

/// The largest weight: far beyond use, and safe in sums.
const WEIGHT_MAX: f64 = 1_000_000.0;

fn weights(text: &str) -> Result<Vec<(Role, u64)>, StartError> {
    text.split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let refuse = || StartError::Weight(pair.to_owned());
            let (role, weight) = pair.split_once('=').ok_or_else(refuse)?;
            let role = Role::parse(role.trim())
                .map_err(|source| StartError::Role { flag: "weights", source })?;
            let weight: f64 = weight.trim().parse().map_err(|_| refuse())?;
            if !(0.001..=WEIGHT_MAX).contains(&weight) {
                return Err(refuse());
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 1 and 10^9 after the check above"
            )]
            let thousandths = (weight * 1000.0).round() as u64;
            Ok((role, thousandths))
        })
        .collect()
}

fn min_allocatable(text: &str) -> Result<Vec<Quantities>, StartError> {
    text.split('|')
        .map(str::trim)
        .filter(|amounts| !amounts.is_empty())
        .map(|amounts| {
            let resources = Resources::parse(amounts)
                .map_err(|_| StartError::MinAllocatable(amounts.to_owned()))?;
            Ok(resources.quantities())
        })
        .collect()
}

/// How others reach this process: a name or an address for people, and an address.
fn names(flags: &Flags) -> (String, IpAddr) {
    let ip = flags.advertise_ip.unwrap_or(flags.ip);
    let hostname = match &flags.hostname {
        Some(hostname) => hostname.clone(),
        // Listening everywhere is no address; the machine's own name is the best there is.
        None if ip.is_unspecified() => machine_name().unwrap_or_else(|| ip.to_string()),
        None => ip.to_string(),
    };
    (hostname, ip)
}

fn machine_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

fn master_info(flags: &Flags, port: u16) -> v1::MasterInfo {
    let (hostname, ip) = names(flags);
    let port = flags.advertise_port.unwrap_or(port);
    let capability = |kind: Capability| v1::master_info::Capability { r#type: Some(kind as i32) };
    v1::MasterInfo {
        id: uuid::Uuid::new_v4().to_string(),
        // Four bytes of the address, the first one lowest: so do Mesos' own tools read it.
        ip: match ip {
            IpAddr::V4(ip) => u32::from_le_bytes(ip.octets()),
            IpAddr::V6(_) => 0,
        },
        port: Some(u32::from(port)),
        pid: Some(format!("master@{ip}:{port}")),
        hostname: Some(hostname.clone()),
        version: Some(MESOS_VERSION.to_owned()),
        address: Some(v1::Address {
            hostname: Some(hostname),
            ip: Some(ip.to_string()),
            port: i32::from(port),
        }),
        capabilities: vec![capability(Capability::AgentUpdate)],
        ..v1::MasterInfo::default()
    }
}

/// What is written into the election: the JSON that Mesos' tools look for, with sorted keys.
fn describe(info: &v1::MasterInfo) -> String {
    let address = info.address.clone().unwrap_or_default();
    json!({
        "address": {"hostname": address.hostname, "ip": address.ip, "port": address.port},
        "capabilities": [{"type": "AGENT_UPDATE"}],
        "hostname": info.hostname,
        "id": info.id,
        "ip": info.ip,
        "pid": info.pid,
        "port": info.port,
        "version": info.version,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_read_or_refused_in_words() {
        let read = weights("web=2, batch=0.5").expect("two weights");
        assert_eq!(read.len(), 2);
        assert_eq!((read[1].0.as_str(), read[1].1), ("batch", 500));
        for wrong in ["web", "web=", "web=none", "web=0", "web=-1", "web=inf"] {
            let refused = weights(wrong).expect_err(wrong).to_string();
            assert!(refused.contains("role=weight"), "{refused}");
        }
        let refused = weights("-web=1").expect_err("a bad role").to_string();
        assert!(refused.starts_with("--weights: "), "{refused}");
    }
}
