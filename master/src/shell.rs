//! The process around the core: it opens the port, joins the election, and gives a core to each term that it leads.
//!
//! Invariant: nothing here decides who is offered what.

pub mod leading;
mod metrics;
mod setup;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mezzo_coordination::{Contender, Leadership, LoadError, Term};
use mezzo_door::{Guard, Health, Stop, Vitals};
use mezzo_wire::v1;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::api;
use crate::api::desk::{Desk, Standing};
use crate::core::Config;
use crate::flags::Flags;
use leading::{Clock, Over};
use metrics::Meters;
use setup::Settings;

pub use setup::StartError;

/// The pause before a term is begun anew that could not be gone on with.
const PAUSE: Duration = Duration::from_secs(1);

/// Paths that need no name even where credentials are asked for: load balancers ask them.
const OPEN_PATHS: &[&str] = &["/health"];

/// A master that runs.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub addr: SocketAddr,
    /// What `/health` says: good once it leads, or knows who does.
    pub health: Health,
    served: JoinHandle<()>,
    reigned: JoinHandle<()>,
}

impl Running {
    /// Completes when the master has ended: it was stopped, or what is stored was written by a newer version.
    pub async fn ended(self) {
        // A task that panicked has said so already.
        let _ = self.reigned.await;
        let _ = self.served.await;
    }
}

/// Opens the port and joins the election; everything else goes on by itself until `stop`.
///
/// # Errors
/// What a person has to put right: a flag, a file, a port that is taken.
pub async fn start(flags: Flags, stop: Stop) -> Result<Running, StartError> {
    let setup = setup::prepare(flags).await?;
    let addr = setup.door.addr();
    let vitals = Vitals::new("mezzo_master");
    let meters = Meters::register(&vitals.metrics);
    let (standing, watched) = watch::channel(Standing::Standby { leader: None });
    let desk = Desk::new(watched, setup.info.clone());
    let guard = Guard::new(setup.credentials, "mezzo-master", OPEN_PATHS);
    let router = guard.protect(vitals.routes().merge(api::routes(&desk)));
    let served = tokio::spawn(mezzo_door::serve(setup.door, router, stop.clone()));
    let reign = Reign {
        settings: setup.settings,
        info: setup.info,
        standing,
        health: vitals.health.clone(),
        meters,
        clock: Clock::new(),
        stop,
    };
    let reigned = tokio::spawn(reign.go_on(setup.contender));
    tracing::info!(address = %addr, "the master listens");
    Ok(Running { addr, health: vitals.health, served, reigned })
}

struct Reign {
    settings: Settings,
    info: Arc<v1::MasterInfo>,
    standing: watch::Sender<Standing>,
    health: Health,
    meters: Meters,
    clock: Clock,
    stop: Stop,
}

impl Reign {
    async fn go_on(self, contender: Contender) {
        let mut leadership = contender.subscribe();
        while !self.stop.is_stopped() {
            let now = leadership.borrow_and_update().clone();
            match now {
                Leadership::Leading { term } => {
                    let over = self.lead(&term, leadership.clone()).await;
                    self.meters.end();
                    self.standing.send_replace(Standing::InDoubt);
                    if !self.is_to_go_on(over).await {
                        break;
                    }
                    continue;
                }
                Leadership::Standby { leader } => {
                    match &leader {
                        Some(leader) => {
                            tracing::info!(leader = %leader.address, "standing by");
                            self.health.good();
                        }
                        None => self.health.bad("nobody leads yet"),
                    }
                    let leader = leader.map(|leader| leader.address);
                    self.standing.send_replace(Standing::Standby { leader });
                }
                Leadership::Suspended => {
                    self.health.bad("it is in doubt who leads");
                    self.standing.send_replace(Standing::InDoubt);
                }
                Leadership::Refused { words } => {
                    tracing::error!("the master ends: {words}");
                    self.health.bad(words);
                    self.stop.stop();
                }
            }
            tokio::select! {
                () = self.stop.stopped() => {}
                changed = leadership.changed() => {
                    if changed.is_err() {
                        break;
                    }
                }
            }
        }
        self.standing.send_replace(Standing::Standby { leader: None });
        contender.resign().await;
    }

    /// One term, from the registry to its end.
    async fn lead(&self, term: &Term, leadership: watch::Receiver<Leadership>) -> Over {
        self.standing.send_replace(Standing::Recovering);
        self.health.bad("reading the registry");
        let records = tokio::select! {
            records = term.store().load("") => records,
            () = self.stop.stopped() => return Over::Stopped,
        };
        let records = match records {
            Ok(records) => records,
            Err(LoadError::Fenced) => return Over::Overtaken,
            Err(error) => return Over::SteppedDown { reason: error.to_string(), fatal: false },
        };
        tracing::info!(epoch = term.epoch.counter, records = records.len(), "leading");
        let config = self.config(term);
        let wires = leading::Wires {
            standing: &self.standing,
            health: &self.health,
            meters: &self.meters,
            leadership,
            stop: self.stop.clone(),
            clock: self.clock,
        };
        leading::live(config, term, records, wires).await
    }

    fn config(&self, term: &Term) -> Config {
        // A master has a new id in each term: ids of frameworks, agents and offers begin with it.
        let mut info = (*self.info).clone();
        info.id = uuid::Uuid::new_v4().to_string();
        let mut config = Config::new(info, term.epoch.clone());
        self.settings.put_into(&mut config);
        config
    }

    async fn is_to_go_on(&self, over: Over) -> bool {
        match over {
            Over::Stopped => false,
            Over::Overtaken => {
                tracing::warn!("another master leads, or this one in a later term");
                true
            }
            Over::SteppedDown { reason, fatal: true } => {
                tracing::error!("the master ends: {reason}");
                self.health.bad(reason);
                self.stop.stop();
                false
            }
            Over::SteppedDown { reason, fatal: false } => {
                tracing::warn!("the term is begun anew: {reason}");
                self.health.bad(reason);
                tokio::select! {
                    () = self.stop.stopped() => {}
                    () = tokio::time::sleep(PAUSE) => {}
                }
                true
            }
        }
    }
}
