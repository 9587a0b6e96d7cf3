//! The driver's shell: one task that owns the core and carries messages between it, a transport, a detector, a store
//! and the framework.
//!
//! Invariant: it decides nothing. All its queues are bounded: while the framework does not take its events, none are
//! read from the master; commands are always taken, so the two never wait for each other.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mezzo_coordination::{Detector, Target, WatchError};
use mezzo_model::ids::{FrameworkId, StreamId};
use mezzo_model::time::{Millis, Now, Wall};
use mezzo_wire::v1::scheduler::Call;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::core::{
    CallId, ConnectionId, DriverCore, DriverInput, DriverOutput, Leader, NoteLevel, SaveError,
};
use super::grpc::{Credential, GrpcTransport};
use super::{DriverConfig, SchedulerCommand, SchedulerEvent};
use crate::store::{FrameworkStore, ReadError};

/// Events that may wait for the framework before no more are read from the master.
const EVENTS: usize = 1024;
/// Commands that may wait for the driver.
const COMMANDS: usize = 1024;
/// What may wait between the transport and the driver.
const INBOX: usize = 256;
/// How long a closing driver waits for the calls given to it before, such as a last acknowledgement.
const LAST_CALLS: Duration = Duration::from_secs(2);

/// What carries calls and events. It reports by sending inputs into the inbox it was made with, and after
/// [`Transport::close`] nothing more of that connection.
pub trait Transport: Send + 'static {
    /// Begins a subscription: connect to `host:port` and send the call.
    fn subscribe(&mut self, connection: ConnectionId, address: String, call: Call);
    /// Sends another call. There is at most one unanswered call.
    fn submit(&mut self, connection: ConnectionId, id: CallId, stream: StreamId, call: Call);
    /// Gives a connection up.
    fn close(&mut self, connection: ConnectionId);
}

/// Where and as whom a driver connects.
#[derive(Clone, Debug)]
pub struct DriverSettings {
    /// How the driver behaves, and who subscribes.
    pub config: DriverConfig,
    /// Where the masters are: an election to watch, or one address.
    pub masters: Target,
    /// Who the framework proves to be.
    pub credential: Option<Credential>,
}

/// Why a driver cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The masters' election cannot be watched.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The stored framework id cannot be read.
    #[error("the framework's store: {0}")]
    Store(#[from] ReadError),
    /// The credential cannot be sent in a header.
    #[error(
        "the credential of {principal} cannot be sent: it holds characters that a header cannot"
    )]
    Credential {
        /// Whose.
        principal: String,
    },
}

/// The driver has stopped; its events tell why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the scheduler driver has stopped")]
pub struct DriverStopped;

/// A framework's end of its driver. The driver stops when all handles are dropped, or when nobody takes its events.
#[derive(Clone, Debug)]
pub struct DriverHandle {
    commands: mpsc::Sender<SchedulerCommand>,
}

impl DriverHandle {
    /// Gives a command, after all that were given before.
    ///
    /// # Errors
    /// If the driver has stopped.
    pub async fn send(&self, command: SchedulerCommand) -> Result<(), DriverStopped> {
        self.commands.send(command).await.map_err(|_| DriverStopped)
    }
}

/// The running driver.
#[derive(Debug)]
pub struct Driver;

impl Driver {
    /// Starts a driver over gRPC. With a store, the framework's id is read from it, and kept in it.
    ///
    /// # Errors
    /// See [`StartError`]. That no master can be reached is no error: the driver keeps trying.
    pub async fn start(
        settings: DriverSettings,
        store: Option<FrameworkStore>,
    ) -> Result<(DriverHandle, mpsc::Receiver<SchedulerEvent>), StartError> {
        let (inbox, inputs) = mpsc::channel(INBOX);
        let transport = GrpcTransport::new(settings.credential, inbox)
            .map_err(|principal| StartError::Credential { principal })?;
        Self::start_over(settings.config, &settings.masters, store, transport, inputs).await
    }

    /// Starts a driver over another transport, which sends its inputs into `inputs`.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start_over(
        config: DriverConfig,
        masters: &Target,
        store: Option<FrameworkStore>,
        transport: impl Transport,
        inputs: mpsc::Receiver<DriverInput>,
    ) -> Result<(DriverHandle, mpsc::Receiver<SchedulerEvent>), StartError> {
        let detector = Detector::watch(masters)?;
        let stored = match &store {
            Some(store) => store.load().await?.framework_id,
            None => None,
        };
        let (commands, from_framework) = mpsc::channel(COMMANDS);
        let (to_framework, events) = mpsc::channel(EVENTS);
        let shell = Shell {
            core: DriverCore::new(config, stored, rand::random()),
            transport,
            store,
            clock: Clock::new(),
            to_framework,
            undelivered: VecDeque::new(),
            saving: None,
            ended: false,
        };
        tokio::spawn(shell.run(detector, inputs, from_framework));
        Ok((DriverHandle { commands }, events))
    }
}

/// Both clocks, the monotonic one counted from its making.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Now {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Now::new(
            Millis::from(self.start.elapsed()),
            Wall(Millis::from(wall).0),
        )
    }

    /// Waits until an instant of this clock, for ever if there is none.
    pub(crate) async fn until(&self, deadline: Option<Millis>) {
        match deadline {
            // A millisecond more: the clock counts whole ones, and an early tick would come again at once.
            Some(at) => tokio::time::sleep_until(self.start + at.to_std() + TICK).await,
            None => std::future::pending().await,
        }
    }
}

const TICK: Duration = Duration::from_millis(1);

type Saving = Pin<Box<dyn Future<Output = (FrameworkId, Result<(), SaveError>)> + Send>>;

struct Shell<T> {
    core: DriverCore,
    transport: T,
    store: Option<FrameworkStore>,
    clock: Clock,
    to_framework: mpsc::Sender<SchedulerEvent>,
    undelivered: VecDeque<SchedulerEvent>,
    saving: Option<Saving>,
    ended: bool,
}

/// What the shell waited for.
enum Woken {
    Input(DriverInput),
    Delivered,
    /// The framework is gone.
    Alone,
}

impl<T: Transport> Shell<T> {
    async fn run(
        mut self,
        mut detector: Detector,
        mut inputs: mpsc::Receiver<DriverInput>,
        mut commands: mpsc::Receiver<SchedulerCommand>,
    ) {
        self.take(DriverInput::Leader(detector.current().map(leader)));
        while !self.ended {
            match self.wait(&mut detector, &mut inputs, &mut commands).await {
                Woken::Input(input) => self.take(input),
                Woken::Delivered => {}
                Woken::Alone => break,
            }
        }
        if !self.ended {
            self.finish_calls(&mut inputs).await;
        }
        self.transport.close(ConnectionId(u64::MAX));
        // What the framework has not heard yet, such as the reason of the end.
        for event in std::mem::take(&mut self.undelivered) {
            if self.to_framework.send(event).await.is_err() {
                return;
            }
        }
    }

    async fn wait(
        &mut self,
        detector: &mut Detector,
        inputs: &mut mpsc::Receiver<DriverInput>,
        commands: &mut mpsc::Receiver<SchedulerCommand>,
    ) -> Woken {
        let full = self.undelivered.len() >= EVENTS;
        let deadline = self.core.next_deadline();
        tokio::select! {
            // What the master said counts before what the clock says of its silence.
            biased;
            command = commands.recv() => match command {
                Some(command) => Woken::Input(DriverInput::Command(command)),
                None => Woken::Alone,
            },
            permit = self.to_framework.reserve(), if !self.undelivered.is_empty() => match permit {
                Ok(permit) => {
                    if let Some(event) = self.undelivered.pop_front() {
                        permit.send(event);
                    }
                    Woken::Delivered
                }
                Err(_) => Woken::Alone,
            },
            () = self.to_framework.closed() => Woken::Alone,
            (id, result) = saved(&mut self.saving), if self.saving.is_some() => {
                self.saving = None;
                Woken::Input(DriverInput::FrameworkIdSaved { id, result })
            }
            Some(input) = inputs.recv(), if !full => Woken::Input(input),
            changed = detector.changed() => Woken::Input(DriverInput::Leader(changed.map(leader))),
            () = self.clock.until(deadline) => Woken::Input(DriverInput::Tick),
        }
    }

    /// Lets the calls that wait go out before the connection is closed; events are heard no more.
    async fn finish_calls(&mut self, inputs: &mut mpsc::Receiver<DriverInput>) {
        self.undelivered.clear();
        let until = Instant::now() + LAST_CALLS;
        while self.core.is_subscribed() && self.core.has_calls() && !self.ended {
            match tokio::time::timeout_at(until, inputs.recv()).await {
                Ok(Some(input)) => self.take(input),
                Ok(None) | Err(_) => return,
            }
            self.undelivered.clear();
        }
    }

    fn take(&mut self, input: DriverInput) {
        let mut out = Vec::new();
        self.core.handle(self.clock.now(), input, &mut out);
        for output in out {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: DriverOutput) {
        match output {
            DriverOutput::Subscribe {
                connection,
                address,
                call,
            } => {
                self.transport.subscribe(connection, address, *call);
            }
            DriverOutput::Submit {
                connection,
                id,
                stream,
                call,
            } => {
                self.transport.submit(connection, id, stream, *call);
            }
            DriverOutput::Close { connection } => self.transport.close(connection),
            DriverOutput::SaveFrameworkId(id) => {
                let store = self.store.clone();
                self.saving = Some(Box::pin(async move {
                    let result = match store {
                        Some(store) => store.save_framework_id(&id).await,
                        None => Ok(()),
                    };
                    (id, result)
                }));
            }
            DriverOutput::Deliver(event) => self.undelivered.push_back(event),
            DriverOutput::Note { level, text } => match level {
                NoteLevel::Debug => tracing::debug!("{text}"),
                NoteLevel::Info => tracing::info!("{text}"),
                NoteLevel::Warn => tracing::warn!("{text}"),
            },
            DriverOutput::Ended => self.ended = true,
        }
    }
}

async fn saved(saving: &mut Option<Saving>) -> (FrameworkId, Result<(), SaveError>) {
    match saving {
        Some(saving) => saving.await,
        None => std::future::pending().await,
    }
}

/// A leader as the core knows it. The master's own id tells one reign from the next.
fn leader(found: mezzo_coordination::Leader) -> Leader {
    #[derive(serde::Deserialize)]
    struct Info {
        id: Option<String>,
    }
    let info = serde_json::from_slice::<Info>(&found.info).ok();
    Leader {
        address: found.address,
        id: info.and_then(|info| info.id).unwrap_or_default(),
    }
}
