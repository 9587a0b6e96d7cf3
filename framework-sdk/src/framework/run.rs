//! Running a framework: election among its own processes, store, driver, scheduler.
//!
//! Invariant: it decides nothing; see [`super::core`].

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use mezzo_coordination::{Candidate, CommitError, Contender, JoinError, Leadership, Target, Txn};
use mezzo_model::Epoch;
use tokio::sync::mpsc;

use super::Scheduler;
use super::core::{FrameworkCore, FrameworkInput, FrameworkOutput, Stopped};
use crate::scheduler::driver::Clock;
use crate::scheduler::{
    Credential, Driver, DriverConfig, DriverHandle, DriverSettings, SchedulerEvent, StartError,
};
use crate::store::{FrameworkStore, Kept, ReadError};

/// Where a framework finds its masters, and where it keeps its state.
#[derive(Clone, Debug)]
pub struct RunConfig {
    /// How the driver behaves, and who subscribes.
    pub driver: DriverConfig,
    /// Where the masters are: `zk://...`, `file:///...` or `host:port`.
    pub masters: Target,
    /// Where the framework's id and launches are kept and its own leader is elected; `None`: nowhere, so that a restart
    /// is another framework.
    pub state: Option<Target>,
    /// `host:port` at which other processes of the framework may find this one while it leads.
    pub advertised: (String, u16),
    /// How long ZooKeeper waits before it believes that this process is dead.
    pub session_timeout: Duration,
    /// Who the framework proves to be.
    pub credential: Option<Credential>,
}

impl RunConfig {
    /// A framework without state of its own.
    pub fn new(driver: DriverConfig, masters: Target) -> Self {
        Self {
            driver,
            masters,
            state: None,
            advertised: ("localhost".to_owned(), 1),
            session_timeout: Duration::from_secs(10),
            credential: None,
        }
    }
}

/// Why a framework stopped that had not asked to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Its own election cannot be joined.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The election will not have it.
    #[error("{0}")]
    Election(String),
    /// Another process of the framework leads now.
    #[error("another process of this framework leads now")]
    Deposed,
    /// What is stored cannot be read.
    #[error("the framework's store: {0}")]
    Store(#[from] ReadError),
    /// The driver cannot be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It was made to stop.
    #[error(transparent)]
    Stopped(Stopped),
}

/// Runs a framework until it stops. With state it first waits until it leads among its own processes. Dropping the
/// future stops it as a crash would: tasks keep running.
///
/// # Errors
/// See [`RunError`]; `Ok` if the scheduler asked to stop or tore the framework down.
pub async fn run<S: Scheduler>(scheduler: S, config: RunConfig) -> Result<(), RunError> {
    let mut reign = match &config.state {
        Some(target) => Some(Reign::begin(target, &config).await?),
        None => None,
    };
    let store = reign.as_ref().map(|reign| reign.store.clone());
    let kept = match &store {
        Some(store) => store.load().await?,
        None => Kept::default(),
    };
    let settings = DriverSettings {
        config: config.driver,
        masters: config.masters,
        credential: config.credential,
    };
    let (handle, mut events) = Driver::start(settings, store.clone()).await?;
    let mut framework = Running {
        core: FrameworkCore::new(scheduler, kept, store.is_some(), rand::random()),
        clock: Clock::new(),
        handle,
        store,
        committing: None,
    };
    loop {
        let input = framework.wait(&mut events, reign.as_mut()).await?;
        let Some(input) = input else { return Ok(()) };
        match framework.take(input).await {
            None => {}
            Some(Stopped::Asked) => return Ok(()),
            Some(why) => return Err(RunError::Stopped(why)),
        }
    }
}

/// The time in which this process leads its framework.
struct Reign {
    contender: Contender,
    epoch: Epoch,
    store: FrameworkStore,
}

impl Reign {
    async fn begin(target: &Target, config: &RunConfig) -> Result<Self, RunError> {
        let (hostname, port) = &config.advertised;
        let info = serde_json::json!({ "address": { "hostname": hostname, "port": port } });
        let candidate = Candidate::framework(info.to_string());
        let mut contender = Contender::join(target, candidate, config.session_timeout)?;
        let mut leadership = contender.current();
        loop {
            match leadership {
                Leadership::Leading { term } => {
                    let store = FrameworkStore::new(term.store());
                    return Ok(Self {
                        contender,
                        epoch: term.epoch,
                        store,
                    });
                }
                Leadership::Refused { words } => return Err(RunError::Election(words)),
                Leadership::Standby { .. } | Leadership::Suspended => {}
            }
            leadership = contender.changed().await;
        }
    }

    /// Returns when the reign is over. A session in doubt changes nothing: the store refuses what must not be.
    async fn over(&mut self) -> RunError {
        loop {
            match self.contender.changed().await {
                Leadership::Leading { term } if term.epoch == self.epoch => {}
                Leadership::Suspended => {}
                Leadership::Leading { .. } | Leadership::Standby { .. } => {
                    return RunError::Deposed;
                }
                Leadership::Refused { words } => return RunError::Election(words),
            }
        }
    }
}

type Committing = Pin<Box<dyn Future<Output = (u64, Result<(), CommitError>)> + Send>>;

struct Running<S> {
    core: FrameworkCore<S>,
    clock: Clock,
    handle: DriverHandle,
    store: Option<FrameworkStore>,
    committing: Option<Committing>,
}

impl<S: Scheduler> Running<S> {
    /// The next input; `None` once the driver has ended.
    async fn wait(
        &mut self,
        events: &mut mpsc::Receiver<SchedulerEvent>,
        reign: Option<&mut Reign>,
    ) -> Result<Option<FrameworkInput>, RunError> {
        let over = async {
            match reign {
                Some(reign) => reign.over().await,
                None => std::future::pending().await,
            }
        };
        let committed = async {
            match &mut self.committing {
                Some(committing) => committing.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            why = over => Err(why),
            (id, result) = committed => {
                self.committing = None;
                Ok(Some(FrameworkInput::Committed { id, result }))
            }
            event = events.recv() => Ok(event.map(FrameworkInput::Event)),
            () = self.clock.until(self.core.next_deadline()) => Ok(Some(FrameworkInput::Tick)),
        }
    }

    async fn take(&mut self, input: FrameworkInput) -> Option<Stopped> {
        let mut out = Vec::new();
        self.core.handle(self.clock.now(), input, &mut out);
        for output in out {
            match output {
                // A driver that has stopped says why in its last event.
                FrameworkOutput::Command(command) => drop(self.handle.send(command).await),
                FrameworkOutput::Commit { id, txn } => self.commit(id, txn),
                FrameworkOutput::Stop(why) => return Some(why),
            }
        }
        None
    }

    fn commit(&mut self, id: u64, txn: Txn) {
        let store = self.store.clone();
        self.committing = Some(Box::pin(async move {
            match store {
                Some(store) => (id, store.commit(txn).await),
                None => (id, Ok(())),
            }
        }));
    }
}
