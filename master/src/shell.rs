//! The process around the core: flags, port, election, and one task that owns the core of each term.
//!
//! While another master leads, every call is answered with where that one is. When this one is elected it reads the
//! registry, starts a core and opens the doors; when the term ends all connections are closed, the core is dropped, and
//! the process stands by again. While leadership is in doubt nothing is done and nothing is forgotten.
//!
//! Invariant: the shell never decides; a lost session is never a reason to exit.

pub(crate) mod metrics;
mod reign;
mod setup;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mezzo_coordination::{Contender, Leadership, LoadError, Record, Term};
use mezzo_door::{Health, Stop, Vitals};
use mezzo_wire::v1::master::response::GetMaster;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::api;
use crate::api::reads::About;
use crate::core::Core;
use crate::flags::Flags;
use crate::front::{Front, Office, Post};
use crate::read_model;
use metrics::Board;
use reign::{Clock, Ears, End, Reign};
use setup::Setup;

pub use setup::StartError;

/// The first wait before the registry is read again after a failure; it doubles up to [`LOAD_RETRY_MAX`].
const LOAD_RETRY: Duration = Duration::from_millis(100);
/// The longest.
const LOAD_RETRY_MAX: Duration = Duration::from_secs(2);

/// A master that runs.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub addr: SocketAddr,
    /// What `/health` says: good while this process leads, or knows who does.
    pub health: Health,
    post: watch::Receiver<Post>,
    served: JoinHandle<()>,
    reigned: JoinHandle<()>,
}

impl Running {
    /// Completes when this master leads and takes calls; never if it ends before.
    pub async fn until_leading(&self) {
        let mut post = self.post.clone();
        if post
            .wait_for(|post| matches!(post, Post::Leading(_)))
            .await
            .is_err()
        {
            std::future::pending().await
        }
    }

    /// Completes when it has ended: it was stopped, or the registry cannot be read by this version.
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
    let (told_flags, cluster) = (api::reads::told_flags(&flags), flags.cluster.clone());
    let setup = setup::prepare(flags).await?;
    let addr = setup.door.addr();
    let vitals = Vitals::new("mezzo_master");
    let health = vitals.health.clone();
    let board = Board::register(&vitals.metrics);
    let (post, shown) = watch::channel(Post::Standby { leader: None });
    let about = About {
        version: api::reads::version(),
        flags: told_flags,
        master: setup.template.master().clone(),
        cluster,
        weights: setup.template.weights().clone(),
        board: board.clone(),
        started: Instant::now(),
    };
    let credentials = setup.credentials.as_ref();
    let router = api::routes(&vitals, &Front::new(shown.clone()), about, credentials);
    let Setup {
        door,
        target,
        candidate,
        session_timeout,
        contender,
        template,
        limits,
        ..
    } = setup;
    tracing::info!(%addr, %target, "the master listens");
    // The port outlives the reign, so that whoever calls during the end is told in words.
    let port_stop = Stop::new();
    let served = tokio::spawn(mezzo_door::serve(door, router, port_stop.clone()));
    let life = Life {
        post,
        health: health.clone(),
        board,
        template,
        limits,
        started: Clock::new(),
    };
    let reigned = tokio::spawn(async move {
        let rejoin = move || Contender::join(&target, candidate.clone(), session_timeout);
        life.live(contender, rejoin, &stop).await;
        port_stop.stop();
    });
    Ok(Running {
        addr,
        health,
        post: shown,
        served,
        reigned,
    })
}

/// What lasts from term to term.
struct Life {
    post: watch::Sender<Post>,
    health: Health,
    board: Board,
    template: setup::Template,
    limits: read_model::Limits,
    started: Clock,
}

impl Life {
    async fn live(
        self,
        mut contender: Contender,
        rejoin: impl Fn() -> Result<Contender, mezzo_coordination::JoinError>,
        stop: &Stop,
    ) {
        let mut leadership = contender.current();
        loop {
            let end = match leadership {
                Leadership::Leading { term } => self.lead(&term, &mut contender, stop).await,
                Leadership::Refused { words } => End::SteppedDown {
                    fatal: true,
                    reason: words,
                },
                Leadership::Standby { leader } => {
                    self.stand_by(leader.map(|leader| leader.address));
                    End::Deposed
                }
                Leadership::Suspended => {
                    self.stand_by(None);
                    End::Deposed
                }
            };
            match end {
                End::Deposed => {}
                End::Stopped => break,
                End::SteppedDown {
                    fatal: true,
                    reason,
                } => {
                    tracing::error!("{reason}");
                    self.stand_by(None);
                    self.health.bad(reason);
                    contender.resign().await;
                    return;
                }
                End::SteppedDown {
                    fatal: false,
                    reason,
                } => {
                    tracing::warn!("this term is over: {reason}");
                    self.stand_by(None);
                    // A place in the queue that another term has overtaken is worth nothing.
                    contender.resign().await;
                    contender = match rejoin() {
                        Ok(contender) => contender,
                        Err(error) => {
                            tracing::error!(%error, "the election cannot be joined again");
                            self.health.bad(error.to_string());
                            return;
                        }
                    };
                    leadership = contender.current();
                    continue;
                }
            }
            leadership = match contender.current() {
                // The term ended because another one of ours began meanwhile.
                leading @ Leadership::Leading { .. } => leading,
                _ => tokio::select! {
                    () = stop.stopped() => break,
                    changed = contender.changed() => changed,
                },
            };
        }
        self.stand_by(None);
        self.health.bad("stopping");
        contender.resign().await;
    }

    fn stand_by(&self, leader: Option<String>) {
        match &leader {
            Some(leader) => {
                tracing::info!(%leader, "standing by");
                self.health.good();
            }
            None => self.health.bad("no leader is known"),
        }
        self.board
            .change(|numbers| *numbers = metrics::Numbers::default());
        self.post.send_replace(Post::Standby { leader });
    }

    /// One term, from the registry to its end. Everything that belongs to it is dropped with it.
    async fn lead(&self, term: &Term, contender: &mut Contender, stop: &Stop) -> End {
        self.post.send_replace(Post::Loading);
        self.health.bad("reading the registry");
        let records = match self.load(term, contender, stop).await {
            Ok(records) => records,
            Err(end) => return end,
        };
        let elected = self.started.now().wall;
        let master = GetMaster {
            master_info: Some(self.template.master().clone()),
            start_time: Some(elected.as_secs_f64() - self.started.now().mono.as_secs_f64()),
            elected_time: Some(elected.as_secs_f64()),
        };
        let (feed, reader) = match read_model::start(self.limits, master) {
            Ok(ends) => ends,
            Err(error) => {
                let reason = format!("no thread for the read model: {error}");
                return End::SteppedDown {
                    fatal: false,
                    reason,
                };
            }
        };
        let core = Core::new(self.template.config(term.epoch.clone()), rand::random());
        let (office, knocks, gone) = Office::new(reader);
        let reign = Reign::new(core, term, self.started, feed, self.board.clone());
        let end = reign
            .run(records, contender, Ears { knocks, gone }, stop, || {
                self.post.send_replace(Post::Leading(office));
                self.health.good();
            })
            .await;
        if end == End::Deposed {
            tracing::warn!("this master leads no more");
        }
        // Nobody finds the old office any more; its connections were closed with the reign.
        self.stand_by(None);
        end
    }

    /// Reads the registry for as long as the term lasts and nothing comes.
    async fn load(
        &self,
        term: &Term,
        contender: &mut Contender,
        stop: &Stop,
    ) -> Result<Vec<Record>, End> {
        let mut wait = LOAD_RETRY;
        loop {
            let loaded = tokio::select! {
                () = stop.stopped() => return Err(End::Stopped),
                loaded = term.store().load("") => loaded,
            };
            match loaded {
                Ok(records) => return Ok(records),
                Err(LoadError::Corrupt { key, words }) => {
                    let reason = format!("the registry's record '{key}' cannot be read: {words}");
                    return Err(End::SteppedDown {
                        fatal: true,
                        reason,
                    });
                }
                Err(error @ LoadError::Fenced) => {
                    return Err(End::SteppedDown {
                        fatal: false,
                        reason: error.to_string(),
                    });
                }
                Err(error @ LoadError::Unavailable(_)) => {
                    tracing::warn!(%error, "the registry cannot be read yet");
                }
            }
            if !matches!(contender.current(), Leadership::Leading { term: now } if now.epoch == term.epoch)
            {
                return Err(End::Deposed);
            }
            tokio::select! {
                () = stop.stopped() => return Err(End::Stopped),
                _ = contender.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
            wait = (wait * 2).min(LOAD_RETRY_MAX);
        }
    }
}
