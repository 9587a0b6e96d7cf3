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
use serde_json::{Value, json};

use crate::core::Config;
use crate::flags::Flags;

/// Why the batch framework did not start: what a person has to put right.
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
}

/// Everything that the process needs.
#[derive(Debug)]
pub struct Setup {
    pub door: Door,
    pub contender: Contender,
    pub settings: DriverSettings,
    pub config: Config,
    pub credentials: Option<Arc<Credentials>>,
    pub address: String,
    pub role: String,
}

/// Checks the flags, opens the port and joins the election.
pub async fn prepare(flags: Flags) -> Result<Setup, StartError> {
    let masters = target("master", &flags.master)?;
    let home = match &flags.zk {
        Some(zk) => target("zk", zk)?,
        None => Target::Embedded(std::path::absolute(flags.work_dir.join("state")).map_err(
            |source| StartError::File {
                path: flags.work_dir.clone(),
                source,
            },
        )?),
    };
    let role = Role::parse(&flags.mesos_role)?;
    let credentials = flags.credentials.as_deref().map(credentials).transpose()?;
    let credential = credential(&flags)?;
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
    let framework = framework(&flags, &role, &hostname, &address, principal);
    let mut config = DriverConfig::new(framework);
    // Nothing is wanted until a run waits.
    config.suppressed_roles = vec![role.to_string()];
    Ok(Setup {
        door,
        contender,
        settings: DriverSettings {
            config,
            masters,
            credential,
        },
        config: core_config(&flags),
        credentials,
        address,
        role: role.to_string(),
    })
}

fn target(flag: &'static str, text: &str) -> Result<Target, StartError> {
    Target::parse(text).map_err(|source| StartError::Target { flag, source })
}

fn read(path: &Path) -> Result<String, StartError> {
    std::fs::read_to_string(path).map_err(|source| StartError::File {
        path: path.to_owned(),
        source,
    })
}

fn credentials(path: &Path) -> Result<Arc<Credentials>, StartError> {
    let parsed = Credentials::parse(&read(path)?);
    parsed
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
    address: &str,
    principal: Option<String>,
) -> v1::FrameworkInfo {
    let capabilities = [
        Capability::PartitionAware,
        Capability::MultiRole,
        Capability::TaskKillingState,
        Capability::ReservationRefinement,
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
        webui_url: Some(format!("http://{address}")),
        capabilities: capabilities.into_iter().map(capability).collect(),
        ..Default::default()
    }
}

fn core_config(flags: &Flags) -> Config {
    Config {
        history_per_job: flags.history_count,
        history_in_all: flags.history_total,
        max_jobs: flags.max_jobs,
        max_active_runs: flags.max_active_runs,
        unreachable_timeout: flags.task_unreachable_timeout,
        ..Config::default()
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
