//! Starts the daemons of a local cluster, one after another, each ready before the next.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use clap::builder::Resettable;
use clap::{Args, Command};
use mezzo_door::{Health, Stop};
use nix::unistd::{Uid, User};

use super::Flags;
use super::containers::Containers;
use super::home::Home;
use super::leftovers;
use super::ports::{self, Port};
use super::share;
use crate::endpoints::Endpoints;
use crate::failure::Failure;

/// For how long a daemon may take to be able to serve.
const READY: Duration = Duration::from_secs(30);

/// For how long everything may take to end: the grace period of tasks, and some more.
const END: Duration = Duration::from_secs(12);

/// The daemons that run.
#[derive(Debug)]
pub struct Parts {
    master: mezzo_master::Running,
    agents: Vec<mezzo_agent::Running>,
    service: mezzo_service::Running,
    batch: mezzo_batch::Running,
    stops: Stops,
    lines: Vec<String>,
}

/// What ends them.
#[derive(Debug)]
struct Stops {
    master: Stop,
    agents: Stop,
    frameworks: Stop,
}

impl Parts {
    /// Starts everything. `tell` says each line as it becomes true.
    ///
    /// # Errors
    /// If one does not start.
    pub async fn start(
        home: &Home,
        flags: &Flags,
        containers: &Containers,
        program: &Path,
        stop: &Stop,
        tell: fn(&str) -> Result<(), Failure>,
    ) -> Result<Self, Failure> {
        let shares = share::split(
            &share::total(flags.resources.as_deref(), home.dir())?,
            flags.agents,
        );
        let mut lines = vec![format!("containers {containers}")];
        let mut say = |line: String| {
            tell(&line)?;
            lines.push(line);
            Ok::<(), Failure>(())
        };

        let stops = Stops {
            master: stop.child(),
            agents: stop.child(),
            frameworks: stop.child(),
        };
        let dir = home.sub("master")?;
        let given = [
            format!("--zk=file://{}", dir.join("state").display()),
            format!("--work_dir={}", dir.display()),
            "--cluster=local".to_owned(),
        ];
        let start = |flags| mezzo_master::start(flags, stops.master.clone());
        let (port, master) = at_port("master", ports::usual(5050), &given, start).await?;
        ready("master", &master.health).await?;
        say(place("master", 5050, port, master.addr))?;

        let mut agents = Vec::new();
        for (index, share) in shares.iter().enumerate() {
            let name = format!("agent-{index}");
            let port = if index == 0 {
                ports::usual(5051)
            } else {
                Port::ANY
            };
            let dir = home.sub(&name)?;
            let given = [
                format!("--master={}", master.addr),
                format!("--work_dir={}", dir.display()),
                format!("--resources={share}"),
                format!("--containerizers={}", containers.name()),
                format!("--hostname={}", hostname(index)),
                format!("--attributes=agent:{name}"),
                format!("--cgroups_root={}", leftovers::cgroups_root(home.dir())),
                format!("--executor_program={}", program.display()),
                format!("--hidden_dirs={}", hidden(home, flags.agents).join(",")),
            ];
            let start = |flags| mezzo_agent::start(flags, stops.agents.clone());
            let (port, agent) = at_port(&name, port, &given, start).await?;
            ready(&name, &agent.health).await?;
            say(format!("{}  {share}", place(&name, 5051, port, agent.addr)))?;
            agents.push(agent);
        }

        let given = framework(home, "service", master.addr)?;
        let start = |flags| mezzo_service::start(flags, stops.frameworks.clone());
        let (port, service) = at_port("service", ports::usual(8080), &given, start).await?;
        ready("service", &service.health).await?;
        say(place("service", 8080, port, service.addr))?;

        let given = framework(home, "batch", master.addr)?;
        let start = |flags| mezzo_batch::start(flags, stops.frameworks.clone());
        let (port, batch) = at_port("batch", ports::usual(9000), &given, start).await?;
        ready("batch", &batch.health).await?;
        say(place("batch", 9000, port, batch.addr))?;
        say(format!("log        {}", home.log().display()))?;
        Ok(Self {
            master,
            agents,
            service,
            batch,
            stops,
            lines,
        })
    }

    /// Where they are.
    pub fn endpoints(&self) -> Endpoints {
        Endpoints {
            master: self.master.addr.to_string(),
            service: self.service.addr.to_string(),
            batch: self.batch.addr.to_string(),
            authorization: None,
        }
    }

    /// What was told at the start.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Ends everything from the top: the frameworks, so that they start nothing more; all tasks with their agents; the
    /// master. For a bounded time: what is left then is killed by the cleaning that follows.
    pub async fn end(self) {
        let all = async {
            self.stops.frameworks.stop();
            self.batch.ended().await;
            self.service.ended().await;
            for agent in &self.agents {
                agent.end_tasks().await;
            }
            for agent in self.agents {
                if let Some(words) = agent.ended().await {
                    tracing::warn!("an agent ended with an error: {words}");
                }
            }
            self.stops.master.stop();
            self.master.ended().await;
        };
        if tokio::time::timeout(END, all).await.is_err() {
            tracing::warn!("not everything ended in time");
        }
    }
}

/// An address of the loopback interface for each agent, so that their names differ and can be opened.
fn hostname(index: usize) -> IpAddr {
    IpAddr::from([127, 0, 0, u8::try_from(index + 1).unwrap_or(1)])
}

/// What containers are not to see: the state of the other daemons. An agent hides its own directory by itself.
fn hidden(home: &Home, agents: u32) -> Vec<String> {
    let agents = (0..agents).map(|index| format!("agent-{index}"));
    let all = ["master", "service", "batch"]
        .map(str::to_owned)
        .into_iter()
        .chain(agents);
    all.map(|name| home.dir().join(name).display().to_string())
        .collect()
}

fn framework(home: &Home, name: &str, master: SocketAddr) -> Result<Vec<String>, Failure> {
    let dir = home.sub(name)?;
    let mut given = vec![
        format!("--master={master}"),
        format!("--zk=file://{}", dir.join("state").display()),
        format!("--work_dir={}", dir.display()),
        format!("--framework_name={name}"),
    ];
    // An agent without privileges runs tasks as its own user only.
    if let Some(user) = own_name() {
        given.push(format!("--mesos_user={user}"));
    }
    Ok(given)
}

/// The name of the user of this process, unless that is root.
fn own_name() -> Option<String> {
    let own = Uid::effective();
    if own.is_root() {
        return None;
    }
    let known = User::from_uid(own).ok().flatten();
    Some(known.map_or_else(|| own.to_string(), |user| user.name))
}

/// Starts a daemon at a port, and at any other if somebody took that one after it was looked at. Which it is, and the
/// daemon.
async fn at_port<F, R, E, S>(
    daemon: &str,
    mut port: Port,
    given: &[String],
    start: impl Fn(F) -> S,
) -> Result<(Port, R), Failure>
where
    F: Args,
    E: std::fmt::Display,
    S: Future<Output = Result<R, E>>,
{
    loop {
        let mut all = vec![format!("--port={}", port.port)];
        all.extend_from_slice(given);
        match start(read(&all)?).await {
            Ok(running) => return Ok((port, running)),
            Err(_) if port.port != 0 && ports::usual(port.port).taken => {
                port = Port {
                    port: 0,
                    taken: true,
                };
            }
            Err(error) => return Err(refused(daemon)(error)),
        }
    }
}

/// `master     http://127.0.0.1:5050`, and why not at the usual port.
fn place(name: &str, usual: u16, port: Port, addr: SocketAddr) -> String {
    let why = if port.taken {
        format!(" (port {usual} is taken)")
    } else {
        String::new()
    };
    format!("{name:<10} http://{addr}{why}")
}

/// Reads flags as the command line would. What the environment says is meant for daemons of their own, such as the
/// credentials of another cluster.
fn read<F: Args>(given: &[String]) -> Result<F, Failure> {
    let command = F::augment_args(Command::new("mezzo"))
        .no_binary_name(true)
        .mut_args(|flag| flag.env(Resettable::Reset));
    let matches = command.try_get_matches_from(
        std::iter::once("--ip=127.0.0.1").chain(given.iter().map(String::as_str)),
    );
    matches
        .and_then(|matches| F::from_arg_matches(&matches))
        .map_err(|error| Failure::Start {
            daemon: "local".to_owned(),
            words: error.to_string(),
        })
}

fn refused<E: std::fmt::Display>(daemon: &str) -> impl FnOnce(E) -> Failure {
    let daemon = daemon.to_owned();
    move |error| Failure::Start {
        daemon,
        words: error.to_string(),
    }
}

async fn ready(daemon: &str, health: &Health) -> Result<(), Failure> {
    match tokio::time::timeout(READY, health.until_good()).await {
        Ok(()) => Ok(()),
        Err(_) => {
            let why = health.now().err().unwrap_or_default();
            let words = format!("it is not ready after {} s: {why}", READY.as_secs());
            Err(Failure::Start {
                daemon: daemon.to_owned(),
                words,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_tells_of_a_taken_port() {
        let addr = SocketAddr::from(([127, 0, 0, 1], 40_123));
        let usual = place(
            "master",
            5050,
            Port {
                port: 5050,
                taken: false,
            },
            addr,
        );
        assert_eq!(usual, "master     http://127.0.0.1:40123");
        let other = place(
            "batch",
            9000,
            Port {
                port: 0,
                taken: true,
            },
            addr,
        );
        assert_eq!(
            other,
            "batch      http://127.0.0.1:40123 (port 9000 is taken)"
        );
    }

    #[tokio::test]
    async fn a_port_that_was_taken_after_the_look_is_no_end() {
        let other = std::cell::RefCell::new(None);
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let usual = free.local_addr().expect("an address").port();
        drop(free);
        let start = |flags: mezzo_batch::Flags| {
            // Somebody else is faster.
            if flags.port == usual {
                let held = std::net::TcpListener::bind(("127.0.0.1", usual));
                *other.borrow_mut() = Some(held.expect("it was free"));
            }
            let answer = match flags.port {
                0 => Ok(flags.master),
                port => Err(format!("{port} is taken")),
            };
            std::future::ready(answer)
        };
        let given = ["--master=h:1".to_owned()];
        let started = at_port("batch", ports::usual(usual), &given, start).await;
        let expected = Port {
            port: 0,
            taken: true,
        };
        assert_eq!(started.expect("at another"), (expected, "h:1".to_owned()));
        let broken = |_: mezzo_batch::Flags| std::future::ready(Err::<(), _>("no disk"));
        let refused = at_port("batch", Port::ANY, &given, broken).await;
        let words = refused.expect_err("not because of the port").to_string();
        assert_eq!(words, "batch: no disk");
    }

    #[test]
    fn agents_have_addresses_of_their_own() {
        assert_eq!(
            (hostname(0).to_string(), hostname(63).to_string()),
            ("127.0.0.1".into(), "127.0.0.64".into())
        );
        assert!(hostname(63).is_loopback());
    }

    #[test]
    fn flags_are_read_as_the_command_line_would() {
        let given = [
            "--port=0".to_owned(),
            "--work_dir=/x".to_owned(),
            "--master=h:1".to_owned(),
        ];
        let flags: mezzo_batch::Flags = read(&given).expect("good");
        assert_eq!((flags.port, flags.master.as_str()), (0, "h:1"));
        let bad = read::<mezzo_batch::Flags>(&["--no_such_flag".to_owned()])
            .expect_err("bad")
            .to_string();
        assert!(bad.contains("no_such_flag"), "{bad}");
    }
}
