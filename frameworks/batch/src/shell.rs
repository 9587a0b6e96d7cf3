//! The process around the core: it opens the port, joins the election, and gives a core to each term that it leads.
//!
//! Invariant: nothing here decides what happens to a job.

pub mod leading;
pub mod metrics;
mod setup;

use std::net::SocketAddr;
use std::time::Duration;

use mezzo_coordination::{Contender, Expect, Leadership, LoadError, Term, Txn};
use mezzo_door::{Health, Stop};
use mezzo_sdk::scheduler::{Driver, DriverSettings};
use mezzo_sdk::store::{FRAMEWORK_ID_KEY, FrameworkStore};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::api::desk::{Desk, MAX_WAITING, Standing};
use crate::api::{About, Api};
use crate::core::{Config, Core};
use crate::flags::Flags;
use leading::{Clock, Over, Wires};
use metrics::Gauges;

pub use setup::StartError;

/// The pause before a term is begun anew that could not be gone on with.
const PAUSE: Duration = Duration::from_secs(2);

/// Paths that need no name even where credentials are asked for.
const OPEN_PATHS: &[&str] = &["/health", "/ping"];

/// A batch framework that runs.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub addr: SocketAddr,
    /// What `/health` says.
    pub health: Health,
    served: JoinHandle<()>,
    reigned: JoinHandle<()>,
}

impl Running {
    /// Completes when it has ended: it was stopped, or what is stored was written by a newer version.
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
    let vitals = mezzo_door::Vitals::new("mezzo_batch");
    let gauges = Gauges::register(&vitals.metrics);
    let (standing, watched) = watch::channel(Standing::Standby { leader: None });
    let about = About {
        framework_name: setup.settings.config.framework.name.clone(),
        role: setup.role.clone(),
        user: setup.settings.config.framework.user.clone(),
        address: setup.address.clone(),
    };
    let routes = Api::new(Desk::new(watched), about).routes();
    let guard = mezzo_door::Guard::new(setup.credentials, "mezzo-batch", OPEN_PATHS);
    let router = guard.protect(vitals.routes().merge(routes));
    let served = tokio::spawn(mezzo_door::serve(setup.door, router, stop.clone()));
    let reign = Reign {
        settings: setup.settings,
        config: setup.config,
        standing,
        health: vitals.health.clone(),
        gauges,
        clock: Clock::new(),
        stop,
    };
    let reigned = tokio::spawn(reign.go_on(setup.contender));
    tracing::info!(address = %addr, "the batch framework listens");
    Ok(Running {
        addr,
        health: vitals.health,
        served,
        reigned,
    })
}

struct Reign {
    settings: DriverSettings,
    config: Config,
    standing: watch::Sender<Standing>,
    health: Health,
    gauges: Gauges,
    clock: Clock,
    stop: Stop,
}

impl Reign {
    async fn go_on(mut self, contender: Contender) {
        let mut leadership = contender.subscribe();
        while !self.stop.is_stopped() {
            let now = leadership.borrow_and_update().clone();
            match now {
                Leadership::Leading { term } => {
                    let over = self.lead(&term, leadership.clone()).await;
                    self.gauges.end();
                    self.standing.send_replace(Standing::InDoubt);
                    if !self.is_to_go_on(over, &term, &mut leadership).await {
                        break;
                    }
                    continue;
                }
                Leadership::Standby { leader } => {
                    let leader = leader.map(|leader| leader.address);
                    let standing = Standing::Standby {
                        leader: leader.clone(),
                    };
                    // In this order: whoever sees a healthy process may ask it at once.
                    self.standing.send_replace(standing);
                    match leader {
                        Some(leader) => {
                            tracing::info!(%leader, "standing by");
                            self.health.good();
                        }
                        None => self.health.bad("nobody leads yet"),
                    }
                }
                Leadership::Suspended => {
                    self.health.bad("it is in doubt who leads");
                    self.standing.send_replace(Standing::InDoubt);
                }
                Leadership::Refused { words } => {
                    tracing::error!("the batch framework ends: {words}");
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
        self.standing
            .send_replace(Standing::Standby { leader: None });
        contender.resign().await;
    }

    /// After a term, or a part of one: whether to look at the leadership again.
    async fn is_to_go_on(
        &mut self,
        over: Over,
        term: &Term,
        leadership: &mut watch::Receiver<Leadership>,
    ) -> bool {
        match over {
            Over::Stopped => false,
            Over::Overtaken => {
                tracing::info!("another process leads now");
                true
            }
            Over::Abdicated { reason, removed } => {
                tracing::warn!("this term is begun anew: {reason}");
                self.health.bad(reason);
                if removed {
                    forget_framework_id(term).await;
                }
                tokio::select! {
                    () = self.stop.stopped() => {}
                    _ = leadership.changed() => leadership.mark_changed(),
                    () = tokio::time::sleep(PAUSE) => {}
                }
                true
            }
            Over::Unreadable(words) => {
                tracing::error!("the batch framework ends: {words}");
                self.health.bad(words);
                self.stop.stop();
                false
            }
        }
    }

    async fn lead(&mut self, term: &Term, leadership: watch::Receiver<Leadership>) -> Over {
        self.health.bad("reading the jobs from the store");
        self.standing.send_replace(Standing::InDoubt);
        let store = term.store();
        let records = match store.load("").await {
            Ok(records) => records,
            Err(error @ LoadError::Corrupt { .. }) => return Over::Unreadable(error.to_string()),
            Err(error @ (LoadError::Unavailable(_) | LoadError::Fenced)) => {
                return Over::Abdicated {
                    reason: error.to_string(),
                    removed: false,
                };
            }
        };
        let core = match Core::load(self.config.clone(), rand::random(), &records) {
            Ok(core) => core,
            Err(error) => return Over::Unreadable(error.to_string()),
        };
        drop(records);
        let framework = FrameworkStore::new(store.clone());
        let driver = Driver::start(self.settings.clone(), Some(framework)).await;
        let (commands, events) = match driver {
            Ok(driver) => driver,
            Err(error) => {
                return Over::Abdicated {
                    reason: error.to_string(),
                    removed: false,
                };
            }
        };
        let (ask, questions) = mpsc::channel(MAX_WAITING);
        let stop = self.stop.clone();
        let wires = Wires {
            questions,
            events,
            commands,
            store,
            leadership,
            stop,
        };
        tracing::info!(epoch = %term.epoch, "the batch framework leads");
        self.gauges.begin();
        // In this order: whoever sees a healthy process may ask it at once.
        self.standing.send_replace(Standing::Leading(ask));
        self.health.good();
        leading::live(core, term, self.clock, wires, self.gauges.clone()).await
    }
}

/// The master has removed the framework, with all its tasks: the next subscription is that of a new one.
async fn forget_framework_id(term: &Term) {
    let txn = Txn::new().delete(FRAMEWORK_ID_KEY, Expect::Any);
    if let Err(error) = term.store().commit(txn).await {
        tracing::warn!("the framework's id is still stored: {error}");
    }
}
