//! What a check asks, and what an answer means.
//!
//! Invariant: an answer is the exit status of a process, also where the question is a connection: 0 and 1 for TCP,
//! and for
//! HTTP the status code through [`http_exit`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mezzo_wire::v1;
use mezzo_wire::v1::check_info::Type as CheckType;
use mezzo_wire::v1::health_check::Type as HealthType;
use mezzo_wire::v1::network_info::Protocol;

use super::Outcome;
use crate::plan::{CommandLine, set};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Does this command succeed? It runs where the task runs, as its user.
    Command {
        /// What to run.
        line: CommandLine,
        /// Its variables beyond those of the task.
        environment: Vec<(String, String)>,
    },
    /// Does somebody accept a connection?
    Tcp(SocketAddr),
    /// What is the status of a page?
    Http {
        /// Where.
        address: SocketAddr,
        /// Which page; begins with a slash.
        path: String,
    },
}

impl Question {
    /// The question of a check.
    pub fn of_check(info: &v1::CheckInfo) -> Result<Self, String> {
        let http = info.http.as_ref();
        match info.r#type() {
            CheckType::Command => {
                let command = info.command.as_ref().map(|check| &check.command);
                Self::command(command)
            }
            CheckType::Http => {
                let http = http.ok_or("its type is HTTP and 'http' is not set")?;
                Self::http(http.port, http.path.as_deref(), false)
            }
            CheckType::Tcp => {
                let tcp = info
                    .tcp
                    .as_ref()
                    .ok_or("its type is TCP and 'tcp' is not set")?;
                Ok(Self::Tcp(address(tcp.port, false)?))
            }
            CheckType::Unknown => Err("its type is not set or not known".to_owned()),
        }
    }

    /// The question of a health check; its type may be left out where it is clear.
    pub fn of_health_check(info: &v1::HealthCheck) -> Result<Self, String> {
        let kind = match (info.r#type(), &info.command, &info.http) {
            (HealthType::Unknown, Some(_), None) => HealthType::Command,
            (HealthType::Unknown, None, Some(_)) => HealthType::Http,
            (kind, ..) => kind,
        };
        match kind {
            HealthType::Command => Self::command(info.command.as_ref()),
            HealthType::Http => {
                let http = info.http.as_ref();
                let http = http.ok_or("its type is HTTP and 'http' is not set")?;
                let scheme = http.scheme.as_deref().unwrap_or("http");
                if scheme != "http" {
                    return Err(format!(
                        "its scheme is '{scheme}' and the executor asks 'http' only; a COMMAND check can ask otherwise"
                    ));
                }
                let v6 = http.protocol() == Protocol::IPv6;
                Self::http(http.port, http.path.as_deref(), v6)
            }
            HealthType::Tcp => {
                let tcp = info
                    .tcp
                    .as_ref()
                    .ok_or("its type is TCP and 'tcp' is not set")?;
                let v6 = tcp.protocol() == Protocol::IPv6;
                Ok(Self::Tcp(address(tcp.port, v6)?))
            }
            HealthType::Unknown => Err("its type is not set or not known".to_owned()),
        }
    }

    fn command(info: Option<&v1::CommandInfo>) -> Result<Self, String> {
        let info = info.ok_or("its type is COMMAND and 'command' is not set")?;
        let variables = info.environment.as_ref().map(|e| e.variables.as_slice());
        let mut environment = Vec::new();
        for variable in variables.unwrap_or_default() {
            let value = variable.value.clone().unwrap_or_default();
            if value.contains('\0') || variable.name.contains(['\0', '=']) {
                return Err(format!(
                    "its variable '{}' is not valid",
                    variable.name.escape_debug()
                ));
            }
            set(&mut environment, &variable.name, value);
        }
        Ok(Self::Command {
            line: CommandLine::from_wire(info).map_err(|error| error.to_string())?,
            environment,
        })
    }

    fn http(port: u32, path: Option<&str>, v6: bool) -> Result<Self, String> {
        let path = path.filter(|path| !path.is_empty()).unwrap_or("/");
        if !path.starts_with('/') || path.contains(|c: char| c.is_control() || c == ' ') {
            return Err(format!(
                "its path '{}' is not one of a URL; it begins with '/' and has no blanks",
                path.escape_debug()
            ));
        }
        Ok(Self::Http {
            address: address(port, v6)?,
            path: path.to_owned(),
        })
    }

    /// Whether an answer means health.
    pub fn is_success(&self, outcome: Outcome) -> bool {
        match (self, outcome) {
            (Self::Http { .. }, Outcome::Exited(exit)) => {
                http_status(exit).is_some_and(|status| (200..400).contains(&status))
            }
            (_, outcome) => outcome == Outcome::Exited(0),
        }
    }

    /// The result before the first answer, and after a timeout.
    pub fn no_answer(&self) -> v1::CheckStatusInfo {
        let mut status = v1::CheckStatusInfo::default();
        match self {
            Self::Command { .. } => {
                status.r#type = Some(CheckType::Command as i32);
                status.command = Some(Default::default());
            }
            Self::Tcp(_) => {
                status.r#type = Some(CheckType::Tcp as i32);
                status.tcp = Some(Default::default());
            }
            Self::Http { .. } => {
                status.r#type = Some(CheckType::Http as i32);
                status.http = Some(Default::default());
            }
        }
        status
    }

    /// The result of an answer.
    pub fn answer(&self, outcome: Outcome) -> v1::CheckStatusInfo {
        let mut status = self.no_answer();
        match (
            outcome,
            &mut status.command,
            &mut status.tcp,
            &mut status.http,
        ) {
            (Outcome::Exited(exit), Some(command), _, _) => command.exit_code = Some(exit),
            (Outcome::Exited(exit), _, Some(tcp), _) => tcp.succeeded = Some(exit == 0),
            (Outcome::Exited(exit), _, _, Some(http)) => http.status_code = http_status(exit),
            _ => {}
        }
        status
    }
}

fn address(port: u32, v6: bool) -> Result<SocketAddr, String> {
    let port = u16::try_from(port).ok().filter(|&port| port != 0);
    let port = port.ok_or("its port is not between 1 and 65535")?;
    let host: IpAddr = if v6 {
        Ipv6Addr::LOCALHOST.into()
    } else {
        Ipv4Addr::LOCALHOST.into()
    };
    Ok(SocketAddr::new(host, port))
}

/// The exit status of a question to which nobody answered.
const NO_ANSWER: i32 = 1;

/// The HTTP status code that an exit status stands for; `None`: nobody answered.
pub fn http_status(exit: i32) -> Option<u32> {
    let place = usize::try_from(exit.checked_sub(2)?).ok()?;
    STATUS_CODES.get(place).map(|&code| u32::from(code))
}

/// The exit status that stands for an HTTP status code. An exit status holds eight bits: each hundred has its first
/// fifty codes, and an odd one counts as its hundred.
pub fn http_exit(code: u16) -> i32 {
    let place = |wanted: u16| STATUS_CODES.iter().position(|&known| known == wanted);
    let found = place(code).or_else(|| place(code / 100 * 100));
    found.map_or(NO_ANSWER, |place| place as i32 + 2)
}

const STATUS_CODES: [u16; 250] = {
    let mut codes = [0; 250];
    let mut place = 0;
    while place < codes.len() {
        codes[place] = (place as u16 / 50 + 1) * 100 + place as u16 % 50;
        place += 1;
    }
    codes
};
