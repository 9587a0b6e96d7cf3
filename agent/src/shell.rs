//! The process around the core: files, sockets, processes, clocks. It decides nothing.

mod containers;
mod door;
mod driver;
mod inbox;
mod link;
mod meters;
mod setup;
mod token;

use std::net::SocketAddr;
use std::sync::Arc;

use mezzo_coordination::Detector;
use mezzo_door::{Guard, Health, Stop, Vitals};
use mezzo_model::ids::ContainerId;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::core::{Core, Input};
use crate::flags::Flags;
use crate::log::{Log, LogEvent};
use crate::sandbox::watch::Watches;
use containers::Containers;
use door::Door;
use driver::{Clock, Driver, LogWord};
use inbox::Inbox;
use meters::Meters;

pub use setup::StartError;

/// Paths that need no name even where credentials are asked for: load balancers ask them.
const OPEN_PATHS: &[&str] = &["/health"];

/// An agent that runs.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub addr: SocketAddr,
    /// What `/health` says: good while a master has welcomed it.
    pub health: Health,
    /// How tasks are contained: `oci` or `process`.
    pub containerizer: &'static str,
    inbox: Inbox,
    driven: JoinHandle<Option<String>>,
    served: JoinHandle<()>,
}

impl Running {
    /// Ends every task, and then the agent: for somebody who wants nothing left on the machine.
    pub async fn end_tasks(&self) {
        // One that has ended has nothing left to end.
        let _ = self.inbox.put(Input::EndAll).await;
    }

    /// Completes when the agent has ended; in words why, if it did so by itself and that is an error.
    pub async fn ended(self) -> Option<String> {
        let words = match self.driven.await {
            Ok(words) => words,
            Err(error) => Some(format!("the agent fell over: {error}")),
        };
        // A task that panicked has said so already.
        let _ = self.served.await;
        words
    }
}

/// Prepares everything, opens the port and recovers what was running; the rest goes on by itself until `stop`, which
/// ends the agent and leaves its tasks alone.
///
/// # Errors
/// What a person has to put right: a flag, a file, a port that is taken, a log that cannot be read.
pub async fn start(flags: Flags, stop: Stop) -> Result<Running, StartError> {
    let setup = setup::prepare(flags).await?;
    let addr = setup.door.addr();
    let vitals = Vitals::new("mezzo_agent");
    let meters = Meters::register(&vitals.metrics);
    let (inbox, waiting) = Inbox::new();
    let (log, ledger, log_words) = open_log(&setup.common.layout.log(), &inbox).await?;
    if log.torn_bytes() > 0 {
        tracing::warn!(
            bytes = log.torn_bytes(),
            "the end of the log was torn off by a crash and is left out"
        );
    }
    let door = Door::new(inbox.clone(), setup.tokens.clone());
    let containerizer = setup.kinds.chosen.name();
    let containers = Containers::new(
        setup.common,
        setup.executor,
        setup.kinds,
        setup.tokens,
        inbox.clone(),
        door.clone(),
    );
    let known: Vec<ContainerId> = ledger.containers().map(|(id, _)| id.clone()).collect();
    let (cgroups, group_root) = (setup.cgroups, setup.group_root);
    sweep(
        &containers,
        known,
        cgroups.as_ref().map(|groups| groups.children(&group_root)),
    )
    .await;
    let watches = Arc::new(Watches::default());
    let over = CancellationToken::new();
    let guard = Guard::new(setup.credentials, "mezzo-agent", OPEN_PATHS);
    let router = guard.protect(vitals.routes());
    let doors = stop.child();
    let served = tokio::spawn(mezzo_door::serve(setup.door, router, doors.clone()));
    tokio::spawn(detect(setup.detector, inbox.clone(), over.clone()));
    let driver = Driver {
        core: Core::recover(setup.config, rand::random(), ledger),
        clock: Clock::new(),
        inbox: inbox.clone(),
        waiting,
        log,
        door,
        containers,
        watches,
        credential: setup.credential,
        health: vitals.health.clone(),
        meters,
        stop,
        over,
    };
    let lock = setup.lock;
    let driven = tokio::spawn(async move {
        let words = driver.run(log_words).await;
        doors.stop();
        if let Some(groups) = cgroups {
            groups.remove_empty(&group_root);
        }
        drop(lock);
        words
    });
    tracing::info!(address = %addr, containerizer, "the agent listens");
    Ok(Running {
        addr,
        health: vitals.health,
        containerizer,
        inbox,
        driven,
        served,
    })
}

/// Opens the log on a thread that may block; what it says later goes to the inbox, or as a word to the core's task.
async fn open_log(
    directory: &std::path::Path,
    inbox: &Inbox,
) -> Result<(Log, crate::core::Ledger, mpsc::UnboundedReceiver<LogWord>), StartError> {
    let (words, log_words) = mpsc::unbounded_channel();
    let (directory, inbox) = (directory.to_owned(), inbox.clone());
    let on_event = Box::new(move |event| {
        let word = match event {
            LogEvent::Logged { id } => {
                // A core that is gone waits for nothing.
                let _ = inbox.put_blocking(Input::Logged { id });
                return;
            }
            LogEvent::Stalled { words } => LogWord::Stalled(words),
            LogEvent::Resumed => LogWord::Resumed,
            LogEvent::Failed { words } => LogWord::Failed(words),
        };
        let _ = words.send(word);
    });
    let opened = tokio::task::spawn_blocking(move || Log::open(&directory, on_event)).await;
    let opened = opened.map_err(|error| StartError::System {
        act: "open the log",
        source: std::io::Error::other(error),
    })?;
    let (log, ledger) = opened?;
    Ok((log, ledger, log_words))
}

/// Cleans after containers that the log does not know.
async fn sweep(containers: &Arc<Containers>, known: Vec<ContainerId>, groups: Option<Vec<String>>) {
    let containers = containers.clone();
    let swept =
        tokio::task::spawn_blocking(move || containers.sweep(&known, &groups.unwrap_or_default()));
    // A panic in it has been reported; what is left is tried again at the next start.
    let _ = swept.await;
}

/// Tells the core who leads, as that changes.
async fn detect(mut detector: Detector, inbox: Inbox, over: CancellationToken) {
    let work = async {
        let mut leader = detector.current();
        loop {
            let address = leader.map(|leader| Arc::from(leader.address.as_str()));
            if inbox.put(Input::Leader(address)).await.is_err() {
                return;
            }
            leader = detector.changed().await;
        }
    };
    over.run_until_cancelled(work).await;
}
