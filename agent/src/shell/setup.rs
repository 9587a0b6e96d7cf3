//! Everything that must be right before an agent works: flags, files, the port, what this host can do.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mezzo_coordination::{Detector, Target, TargetError, WatchError};
use mezzo_door::{Bind, OpenError};
use mezzo_executor::plan::{OutputLimits, Rlimit, RlimitKind};
use mezzo_model::attributes::{AttributeError, Attributes};
use mezzo_model::credentials::{Credentials, CredentialsError, basic_header};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

use super::containers::Kinds;
use super::link::Credential;
use super::token::Tokens;
use crate::containerizer::Containerizer;
use crate::containerizer::cgroup::Cgroups;
use crate::containerizer::launch::Common;
use crate::containerizer::oci::probe::{ProbeError, probe};
use crate::containerizer::oci::{Host, Oci};
use crate::containerizer::process::Process;
use crate::containerizer::{procs, users};
use crate::core::Config;
use crate::detect::{self, DetectError};
use crate::flags::{Flags, Recover};
use crate::layout::{Layout, LayoutError};
use crate::log;

/// Why an agent does not start: something that a person has to put right.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// `--master` is not a target.
    #[error("--master: {0}")]
    Master(#[from] TargetError),
    /// The target cannot be watched.
    #[error("--master: {0}")]
    Watch(#[from] WatchError),
    /// The port.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The work directory.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Another agent runs there.
    #[error(
        "another agent runs in {work_dir}; end it, or give this one another --work_dir",
        work_dir = work_dir.display()
    )]
    Locked {
        /// The work directory.
        work_dir: PathBuf,
    },
    /// The log.
    #[error(transparent)]
    Log(#[from] log::OpenError),
    /// The resources.
    #[error(transparent)]
    Resources(#[from] DetectError),
    /// The attributes.
    #[error("--attributes: {0}")]
    Attributes(#[from] AttributeError),
    /// `--containerizers` names something else.
    #[error("--containerizers: '{name}' is neither 'process' nor 'oci'")]
    UnknownContainerizer {
        /// What was given.
        name: String,
    },
    /// The only containerizer that is wanted does not work here.
    #[error("--containerizers: 'oci' does not work here: {0}")]
    Oci(#[from] ProbeError),
    /// A file that a flag names.
    #[error("--{flag}: {path}: {source}", path = path.display())]
    File {
        /// The flag.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A file of credentials.
    #[error("--{flag}: {source}")]
    Credentials {
        /// The flag.
        flag: &'static str,
        /// What is wrong with it.
        #[source]
        source: CredentialsError,
    },
    /// The file of `--credential` holds another number of entries than one.
    #[error("--credential: {path} must hold exactly one principal with its secret", path = path.display())]
    OneCredential {
        /// The file.
        path: PathBuf,
    },
    /// The system itself.
    #[error("cannot {act}: {source}")]
    System {
        /// What was tried.
        act: &'static str,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

/// What is ready when an agent may start.
pub(super) struct Setup {
    pub config: Config,
    pub common: Common,
    pub executor: PathBuf,
    pub kinds: Kinds,
    pub tokens: Tokens,
    pub credential: Credential,
    pub credentials: Option<Arc<Credentials>>,
    pub door: mezzo_door::Door,
    pub detector: Detector,
    pub cgroups: Option<Cgroups>,
    pub group_root: String,
    pub lock: Flock<File>,
}

fn system(act: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::System { act, source }
}

/// Checks the flags, prepares the work directory, opens the port, and finds out what this host can do.
pub(super) async fn prepare(flags: Flags) -> Result<Setup, StartError> {
    let target = Target::parse(&flags.master)?;
    let attributes = Attributes::parse(&flags.attributes)?;
    let wanted = wanted_containerizers(flags.containerizers.as_deref())?;
    let credentials = credentials(&flags)?;
    let credential = credential(&flags)?;
    let bind = Bind {
        ip: flags.ip,
        port: flags.port,
        credentials: credentials.clone(),
        insecure: flags.insecure,
    };
    let door = bind.open().await?;
    let addr = door.addr();
    let detector = Detector::watch(&target)?;
    let blocking = tokio::task::spawn_blocking(move || {
        Machine::look(&flags, addr, &wanted).map(|machine| (flags, machine))
    });
    let (flags, machine) = blocking
        .await
        .map_err(|error| system("prepare the agent")(io::Error::other(error)))??;
    let mut told = attributes.to_wire();
    told.extend(machine.attributes());
    let config = Config {
        ip: machine.ip,
        port: flags.advertise_port.unwrap_or(addr.port()),
        attributes: told,
        boot_id: procs::boot_id()
            .map_err(system("read the kernel's boot id"))?
            .into(),
        user: machine.common.own_user.clone(),
        switch_user: flags.switch_user && nix::unistd::geteuid().is_root(),
        default_user: flags.default_user.clone(),
        registration_timeout: flags.executor_registration_timeout,
        reregistration_timeout: flags.executor_reregistration_timeout,
        shutdown_grace: flags.executor_shutdown_grace_period,
        gc_delay: flags.gc_delay,
        sandboxes_max: flags.gc_max_sandboxes,
        dial_backoff: flags.registration_backoff_factor,
        end_recovered: flags.recover == Recover::Cleanup,
        ..Config::new(&machine.hostname, machine.resources.clone())
    };
    Ok(Setup {
        config,
        common: machine.common,
        executor: machine.executor,
        kinds: machine.kinds,
        tokens: machine.tokens,
        credential,
        credentials,
        door,
        detector,
        cgroups: machine.cgroups,
        group_root: machine.group_root,
        lock: machine.lock,
    })
}

/// What was found out about this machine, by calls that block.
struct Machine {
    common: Common,
    executor: PathBuf,
    kinds: Kinds,
    tokens: Tokens,
    cgroups: Option<Cgroups>,
    group_root: String,
    lock: Flock<File>,
    hostname: String,
    ip: IpAddr,
    resources: Vec<mezzo_wire::v1::Resource>,
}

impl Machine {
    fn look(flags: &Flags, addr: SocketAddr, wanted: &Wanted) -> Result<Self, StartError> {
        let layout = Layout::prepare(&flags.work_dir)?;
        let lock = lock(&layout)?;
        let nofile = raise_open_files().map_err(system("raise the limit of open files"))?;
        let tokens = Tokens::load(&layout.secret()).map_err(|source| StartError::File {
            flag: "work_dir",
            path: layout.secret(),
            source,
        })?;
        let hostname = match &flags.hostname {
            Some(name) => name.clone(),
            None => nix::unistd::gethostname()
                .map(|name| name.to_string_lossy().into_owned())
                .map_err(|errno| system("find out this host's name")(errno.into()))?,
        };
        let ip = flags
            .advertise_ip
            .unwrap_or_else(|| mezzo_door::reachable(addr.ip()));
        let found = detect::detect(layout.work_dir())?;
        let resources = detect::complete(&flags.resources, &found)?.to_wire();
        let executor = match &flags.executor_program {
            Some(program) => program.clone(),
            None => std::env::current_exe().map_err(system("find this program"))?,
        };
        let port = flags.advertise_port.unwrap_or(addr.port());
        let common = Common {
            endpoint: SocketAddr::new(ip, port).to_string(),
            own_user: users::own_name(),
            output: OutputLimits {
                file_bytes_max: flags.log_rotate_size.0,
                old_files_max: flags.log_rotate_files,
            },
            kill_grace: Config::new("", Vec::new()).kill_grace,
            recovery_timeout: flags.recovery_timeout,
            nofile,
            layout,
        };
        let cgroups = Cgroups::detect();
        let group_root = format!(
            "{}/{}",
            flags.cgroups_root.trim_matches('/'),
            common.layout.tag()
        );
        let kinds = choose(
            flags,
            wanted,
            &common,
            cgroups.as_ref(),
            &group_root,
            &hostname,
            &executor,
        );
        if kinds.is_err()
            && let Some(cgroups) = &cgroups
        {
            cgroups.remove_empty(&group_root);
        }
        let kinds = kinds?;
        Ok(Self {
            common,
            executor,
            kinds,
            tokens,
            cgroups,
            group_root,
            lock,
            hostname,
            ip,
            resources,
        })
    }

    /// What the agent says about itself: which containerizer is used, and which runtime.
    fn attributes(&self) -> Vec<mezzo_wire::v1::Attribute> {
        let name = self.kinds.chosen.name();
        let mut said = format!("containerizer:{name}");
        let details = self.kinds.chosen.details();
        if name == "oci" && !details.is_empty() {
            said.push_str(&format!(";oci_runtime:{details}"));
        }
        Attributes::parse(&said)
            .map(|attributes| attributes.to_wire())
            .unwrap_or_default()
    }
}

/// Which containerizers are wanted, in order.
struct Wanted {
    names: Vec<&'static str>,
    /// A flag said so.
    asked: bool,
}

fn wanted_containerizers(flag: Option<&str>) -> Result<Wanted, StartError> {
    let Some(flag) = flag else {
        return Ok(Wanted {
            names: vec!["oci", "process"],
            asked: false,
        });
    };
    let names = flag
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    let names: Vec<&'static str> = names
        .map(|name| match name {
            "oci" => Ok("oci"),
            "process" => Ok("process"),
            other => Err(StartError::UnknownContainerizer {
                name: other.to_owned(),
            }),
        })
        .collect::<Result<_, _>>()?;
    if names.is_empty() {
        return Err(StartError::UnknownContainerizer {
            name: flag.to_owned(),
        });
    }
    Ok(Wanted { names, asked: true })
}

fn choose(
    flags: &Flags,
    wanted: &Wanted,
    common: &Common,
    cgroups: Option<&Cgroups>,
    group_root: &str,
    hostname: &str,
    executor: &Path,
) -> Result<Kinds, StartError> {
    let process: Arc<dyn Containerizer> = Arc::new(Process::new(cgroups, group_root));
    let mut hidden = vec![common.layout.work_dir().to_owned()];
    hidden.extend(
        flags
            .hidden_dirs
            .iter()
            .filter_map(|path| path.canonicalize().ok()),
    );
    let host = cgroups.map(|cgroups| Host {
        cgroups: cgroups.clone(),
        group_root: group_root.to_owned(),
        hidden,
        socket_directory: common.layout.work_dir().join("run"),
        hostname: hostname.to_owned(),
    });
    let mut failed = None;
    for name in &wanted.names {
        if *name == "process" {
            let oci = host
                .map(Oci::cleaner)
                .map(|oci| Arc::new(oci) as Arc<dyn Containerizer>);
            return Ok(Kinds {
                chosen: process.clone(),
                process,
                oci,
            });
        }
        let probed = match &host {
            Some(host) => probe(flags.oci_runtime.as_deref(), host, common, executor),
            None => Err(ProbeError::NoCgroups),
        };
        match probed {
            Ok(oci) => {
                tracing::info!(runtime = oci.details(), "tasks run in OCI containers");
                let oci: Arc<dyn Containerizer> = Arc::new(oci);
                return Ok(Kinds {
                    chosen: oci.clone(),
                    process,
                    oci: Some(oci),
                });
            }
            Err(error) => {
                if wanted.asked || nix::unistd::geteuid().is_root() {
                    tracing::warn!("containerizer 'oci' does not work here: {error}");
                } else {
                    tracing::info!("tasks run as plain processes: {error}");
                }
                failed = Some(error);
            }
        }
    }
    Err(failed.map_or_else(
        || StartError::UnknownContainerizer {
            name: String::new(),
        },
        StartError::Oci,
    ))
}

fn lock(layout: &Layout) -> Result<Flock<File>, StartError> {
    let path = layout.lock();
    let file = File::create(&path).map_err(|source| StartError::File {
        flag: "work_dir",
        path: path.clone(),
        source,
    })?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| StartError::Locked {
        work_dir: layout.work_dir().to_owned(),
    })
}

/// An agent holds two descriptors for each container. Gives the limits that were found, which are those of its
/// payloads.
fn raise_open_files() -> io::Result<Option<Rlimit>> {
    const WANTED: rlim_t = 1 << 20;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = hard.min(WANTED);
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)?;
    }
    Ok(Some(Rlimit {
        kind: RlimitKind::Nofile,
        soft: Some(soft),
        hard: Some(hard),
    }))
}

fn read(flag: &'static str, path: &Path) -> Result<String, StartError> {
    std::fs::read_to_string(path).map_err(|source| StartError::File {
        flag,
        path: path.to_owned(),
        source,
    })
}

fn credentials(flags: &Flags) -> Result<Option<Arc<Credentials>>, StartError> {
    let flag = "credentials";
    let Some(path) = &flags.credentials else {
        return Ok(None);
    };
    let known = Credentials::parse(&read(flag, path)?);
    let known = known.map_err(|source| StartError::Credentials { flag, source })?;
    Ok(Some(Arc::new(known)))
}

fn credential(flags: &Flags) -> Result<Credential, StartError> {
    let flag = "credential";
    let Some(path) = &flags.credential else {
        return Ok(None);
    };
    let one = || StartError::OneCredential { path: path.clone() };
    let pair = Credentials::only_pair(&read(flag, path)?);
    let pair = pair.map_err(|source| StartError::Credentials { flag, source })?;
    let (principal, secret) = pair.ok_or_else(one)?;
    basic_header(&principal, &secret)
        .parse()
        .map(Some)
        .map_err(|_| one())
}
