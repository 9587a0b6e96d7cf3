//! From flags to what the process needs.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mezzo_coordination::{Candidate, Contender, JoinError, Target, TargetError};
use mezzo_door::{Bind, Door, OpenError};
use mezzo_model::Role;
use mezzo_model::credentials::{Credentials, CredentialsError};
use mezzo_sdk::scheduler::{Credential, DriverConfig, DriverSettings};
use mezzo_wire::v1;
use mezzo_wire::v1::framework_info::capability::Type as Capability;
use serde_json::{Map, Value, json};

use super::probes::Prober;
use crate::api::Facts;
use crate::core::Config;
use crate::flags::Flags;

/// Why the service framework did not start: what a person has to put right.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A flag that names where something is.
    #[error("--{flag}: {source}")]
    Target {
        /// Which.
        flag: &'static str,
        /// Why.
        source: TargetError,
    },
    /// A role that is none.
    #[error("--mesos_role: {0}")]
    Role(#[from] mezzo_model::role::RoleError),
    /// A range of ports that is empty.
    #[error("--local_port_min={low} lies above --local_port_max={high}")]
    Ports {
        /// The first.
        low: u16,
        /// The last.
        high: u16,
    },
    /// A file that cannot be read.
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
    /// A file with one credential that makes no sense.
    #[error(
        "{}: write one line `principal secret`, or {{\"principal\": \"...\", \"secret\": \"...\"}}",
        path.display()
    )]
    Credential {
        /// Which.
        path: PathBuf,
    },
    /// A principal without a secret, or the other way round.
    #[error(
        "--mesos_authentication_principal and --mesos_authentication_secret_file go together: give both or none, or --credential"
    )]
    HalfACredential,
    /// The port was not opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The election was not joined.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The client of health checks cannot be made.
    #[error("the client for health checks: {0}")]
    Probes(#[from] reqwest::Error),
}

/// Everything that the process needs.
#[derive(Debug)]
pub struct Setup {
    pub door: Door,
    pub contender: Contender,
    pub settings: DriverSettings,
    pub config: Config,
    pub credentials: Option<Arc<Credentials>>,
    pub facts: Facts,
    pub prober: Prober,
}

/// Checks the flags, opens the port and joins the election.
pub async fn prepare(flags: Flags) -> Result<Setup, StartError> {
    let masters = target("master", &flags.master)?;
    let home = match &flags.zk {
        Some(zk) => target("zk", zk)?,
        None => embedded(&flags.work_dir)?,
    };
    let role = Role::parse(&flags.mesos_role)?;
    if flags.local_port_min > flags.local_port_max {
        return Err(StartError::Ports {
            low: flags.local_port_min,
            high: flags.local_port_max,
        });
    }
    let credentials = flags.credentials.as_deref().map(credentials).transpose()?;
    let credential = credential(&flags)?;
    let prober = Prober::new()?;
    let bind = Bind {
        ip: flags.ip,
        port: flags.port,
        credentials: credentials.clone(),
        insecure: flags.insecure,
    };
    let door = bind.open().await?;
    let (hostname, ip) = names(&flags);
    let port = flags.advertise_port.unwrap_or(door.addr().port());
    let address = match hostname.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
        Ok(IpAddr::V4(_)) | Err(_) => format!("{hostname}:{port}"),
    };
    let candidate = Candidate::framework(description(&hostname, ip, port).to_string());
    let contender = Contender::join(&home, candidate, flags.zk_session_timeout.to_std())?;
    let principal = credential
        .as_ref()
        .map(|credential| credential.principal.clone());
    let webui = flags
        .webui_url
        .clone()
        .unwrap_or_else(|| format!("http://{address}"));
    let mut driver = DriverConfig::new(framework(&flags, &role, &hostname, &webui, principal));
    // Nothing is wanted until an instance waits.
    driver.suppressed_roles = vec![role.to_string()];
    let facts = Facts {
        leader: address,
        elected: true,
        config: known_config(&flags, &hostname, &webui),
        zk: flags.zk.as_ref().map(|_| home.to_string()),
        zk_session_timeout_ms: flags.zk_session_timeout.0,
        http_port: door.addr().port(),
    };
    Ok(Setup {
        door,
        contender,
        settings: DriverSettings {
            config: driver,
            masters,
            credential,
        },
        config: core_config(&flags),
        credentials,
        facts,
        prober,
    })
}

fn target(flag: &'static str, text: &str) -> Result<Target, StartError> {
    Target::parse(text).map_err(|source| StartError::Target { flag, source })
}

fn embedded(work_dir: &Path) -> Result<Target, StartError> {
    std::path::absolute(work_dir.join("state"))
        .map(Target::Embedded)
        .map_err(|source| StartError::File {
            path: work_dir.to_owned(),
            source,
        })
}

fn read(path: &Path) -> Result<String, StartError> {
    std::fs::read_to_string(path).map_err(|source| StartError::File {
        path: path.to_owned(),
        source,
    })
}

fn credentials(path: &Path) -> Result<Arc<Credentials>, StartError> {
    Credentials::parse(&read(path)?)
        .map(Arc::new)
        .map_err(|source| StartError::Credentials {
            path: path.to_owned(),
            source,
        })
}

fn credential(flags: &Flags) -> Result<Option<Credential>, StartError> {
    let halves = (
        &flags.mesos_authentication_principal,
        &flags.mesos_authentication_secret_file,
    );
    match (halves, &flags.credential) {
        ((None, None), None) => Ok(None),
        ((None, None), Some(file)) => one_credential(file).map(Some),
        ((Some(principal), Some(file)), None) => {
            let secret = read(file)?.trim_end_matches(['\r', '\n']).to_owned();
            Ok(Some(Credential {
                principal: principal.clone(),
                secret,
            }))
        }
        _ => Err(StartError::HalfACredential),
    }
}

fn one_credential(path: &Path) -> Result<Credential, StartError> {
    match Credentials::only_pair(&read(path)?) {
        Ok(Some((principal, secret))) => Ok(Credential { principal, secret }),
        Ok(None) | Err(_) => Err(StartError::Credential {
            path: path.to_owned(),
        }),
    }
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

/// What other processes of the election read. An address that stands for all of them cannot be dialled.
fn description(hostname: &str, ip: IpAddr, port: u16) -> Value {
    match ip.is_unspecified() {
        true => json!({"address": {"hostname": hostname, "port": port}}),
        false => json!({"address": {"hostname": hostname, "ip": ip.to_string(), "port": port}}),
    }
}

fn machine_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

fn framework(
    flags: &Flags,
    role: &Role,
    hostname: &str,
    webui: &str,
    principal: Option<String>,
) -> v1::FrameworkInfo {
    let capabilities = [
        Capability::PartitionAware,
        Capability::MultiRole,
        Capability::TaskKillingState,
        Capability::ReservationRefinement,
        Capability::RegionAware,
    ];
    let capability = |capability| v1::framework_info::Capability {
        r#type: Some(capability as i32),
    };
    v1::FrameworkInfo {
        user: flags.mesos_user.clone(),
        name: flags.framework_name.clone(),
        failover_timeout: Some(flags.failover_timeout.as_secs_f64()),
        checkpoint: Some(true),
        roles: vec![role.to_string()],
        hostname: Some(hostname.to_owned()),
        principal,
        webui_url: Some(webui.to_owned()),
        capabilities: capabilities.into_iter().map(capability).collect(),
        ..Default::default()
    }
}

fn core_config(flags: &Flags) -> Config {
    Config {
        role: flags.mesos_role.clone(),
        decline: flags.decline_offer_duration,
        min_revive_interval: flags.min_revive_offers_interval,
        max_instances_per_offer: flags.max_instances_per_offer.max(1),
        launch_confirm_timeout: flags.task_launch_confirm_timeout,
        launch_timeout: flags.task_launch_timeout,
        reconcile_interval: flags.reconciliation_interval,
        max_running_deployments: flags.max_running_deployments,
        max_apps: flags.max_apps,
        max_versions: flags.zk_max_versions.max(1),
        service_ports: (flags.local_port_min, flags.local_port_max),
        env_vars_prefix: flags.env_vars_prefix.clone(),
        default_kill_grace_secs: None,
    }
}

/// The values of `marathon_config` that have a meaning here.
fn known_config(flags: &Flags, hostname: &str, webui: &str) -> Map<String, Value> {
    let known = json!({
        "checkpoint": true,
        "decline_offer_duration": flags.decline_offer_duration.0,
        "env_vars_prefix": flags.env_vars_prefix,
        "executor": "//cmd",
        "failover_timeout": flags.failover_timeout.0 / 1000,
        "features": [],
        "framework_name": flags.framework_name,
        "ha": flags.zk.is_some(),
        "hostname": hostname,
        "local_port_max": flags.local_port_max,
        "local_port_min": flags.local_port_min,
        "maintenance_mode": true,
        "master": Target::parse(&flags.master).map(|target| target.to_string()).ok(),
        "max_instances_per_offer": flags.max_instances_per_offer,
        "mesos_role": flags.mesos_role,
        "mesos_user": flags.mesos_user,
        "min_revive_offers_interval": flags.min_revive_offers_interval.0,
        "reconciliation_interval": flags.reconciliation_interval.0,
        "task_launch_confirm_timeout": flags.task_launch_confirm_timeout.0,
        "task_launch_timeout": flags.task_launch_timeout.0,
        "webui_url": webui,
    });
    match known {
        Value::Object(known) => known,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        flags: Flags,
    }

    fn flags(given: &[&str]) -> Flags {
        Command::parse_from(std::iter::once(&"framework").chain(given)).flags
    }

    fn told(given: &[&str]) -> Value {
        let (hostname, ip) = names(&flags(given));
        description(&hostname, ip, 7)["address"].clone()
    }

    #[test]
    fn others_are_told_an_address_that_can_be_dialled() {
        let usual = json!({"hostname": "127.0.0.1", "ip": "127.0.0.1", "port": 7});
        assert_eq!(told(&[]), usual);
        let machine = machine_name().expect("every machine has a name");
        for everywhere in ["--ip=0.0.0.0", "--ip=::"] {
            assert_eq!(
                told(&[everywhere]),
                json!({"hostname": machine, "port": 7}),
                "{everywhere} is no address of anybody"
            );
            assert_eq!(
                told(&[everywhere, "--hostname=h"]),
                json!({"hostname": "h", "port": 7})
            );
            assert_eq!(
                told(&[everywhere, "--advertise_ip=10.0.0.7"]),
                json!({"hostname": "10.0.0.7", "ip": "10.0.0.7", "port": 7})
            );
        }
    }

    #[test]
    fn a_credential_is_read_in_each_of_its_forms() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("credential");
        let read = |text: &str| {
            std::fs::write(&file, text).expect("writes");
            let given = format!("--credential={}", file.display());
            credential(&flags(&[&given])).map(|found| {
                let found = found.expect("one was given");
                (found.principal, found.secret)
            })
        };
        for text in [
            "ann s\n",
            "# who we are\nann s",
            r#"{"principal": "ann", "secret": "s"}"#,
            r#"{"credentials": [{"principal": "ann", "secret": "s"}]}"#,
        ] {
            let pair = read(text).expect(text);
            assert_eq!((pair.0.as_str(), pair.1.as_str()), ("ann", "s"), "{text}");
        }
        for text in ["", "ann", "ann s\nbob t", "{\"principal\": \"ann\"}"] {
            let words = read(text).expect_err(text).to_string();
            assert!(words.contains("principal secret"), "{text}: {words}");
        }
    }
}
