//! Where the doors hand over what came in: the queue of the core while this master leads, a refusal otherwise.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mezzo_wire::link::{AgentMessage, MasterMessage, ReadSandbox, SandboxChunk};
use mezzo_wire::v1::{master, scheduler};
use mezzo_wire::{grpc, v1};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::Status;

use crate::core::Refusal;
use crate::keys::{ConnId, ReadId};
use crate::read_model::Reader;

/// Inputs that wait for the core at most; whoever brings one more waits.
pub const QUEUE_MAX: usize = 8192;

/// Events that wait for one scheduler at most; one that reads more slowly is cut, and subscribes again.
pub const EVENTS_MAX: usize = 4096;

/// Messages that wait for one agent at most; one that reads more slowly is cut, and dials again.
pub const ORDERS_MAX: usize = 8192;

/// Pieces of a sandbox that wait for one reader at most; one that reads more slowly is cut.
pub const CHUNKS_MAX: usize = 64;

/// What a door hands over.
#[derive(Debug)]
pub enum Brought {
    /// A scheduler opens a stream.
    Subscribe {
        /// The stream's number.
        conn: ConnId,
        /// Whom the door recognised.
        principal: Option<Arc<str>>,
        /// A stream id that came along, though none should.
        stream_id: Option<String>,
        /// The call.
        call: Box<scheduler::Call>,
        /// Told the stream's id once it is open, or why it is not.
        opened: oneshot::Sender<Result<String, Refusal>>,
        /// Where its events go.
        events: mpsc::Sender<scheduler::Event>,
    },
    /// Any other call of a scheduler.
    Call {
        /// Whom the door recognised.
        principal: Option<Arc<str>>,
        /// The stream id that came along.
        stream_id: Option<String>,
        /// The call.
        call: Box<scheduler::Call>,
        /// Told what came of it.
        answer: oneshot::Sender<Result<(), Refusal>>,
    },
    /// An agent opened its link.
    Link {
        /// The link's number.
        conn: ConnId,
        /// Where messages for it go.
        orders: mpsc::Sender<MasterMessage>,
    },
    /// An agent said something.
    Agent {
        /// On which link.
        conn: ConnId,
        /// What.
        message: Box<AgentMessage>,
    },
    /// An operator's call that changes something.
    Operator {
        /// The call.
        call: Box<master::Call>,
        /// Told what came of it.
        answer: oneshot::Sender<Result<(), Refusal>>,
    },
    /// Somebody reads a sandbox.
    Read {
        /// The read's number.
        read: ReadId,
        /// What.
        request: Box<ReadSandbox>,
        /// Where the pieces go.
        chunks: mpsc::Sender<SandboxChunk>,
    },
}

/// What is gone; never waits, and there is at most one for each thing that came.
#[derive(Clone, Copy, Debug)]
pub enum Gone {
    /// A scheduler's stream.
    Scheduler(ConnId),
    /// An agent's link.
    Agent(ConnId),
    /// The reader of a sandbox.
    Reader(ReadId),
}

/// The way to the core of a term.
#[derive(Clone, Debug)]
pub struct Way {
    /// What came.
    pub brought: mpsc::Sender<Brought>,
    /// What went.
    pub gone: mpsc::UnboundedSender<Gone>,
    /// What is, for who only wants to look.
    pub reader: Reader,
}

/// Where this master stands.
#[derive(Clone, Debug)]
pub enum Standing {
    /// It leads.
    Leading(Way),
    /// It leads, and reads the registry.
    Recovering,
    /// Another one leads: `host:port`, if known.
    Standby {
        /// Who.
        leader: Option<String>,
    },
    /// Nobody knows at the moment.
    InDoubt,
}

/// Handed to every door.
#[derive(Clone, Debug)]
pub struct Desk {
    standing: watch::Receiver<Standing>,
    numbers: Arc<AtomicU64>,
    /// Who this master is.
    pub info: Arc<v1::MasterInfo>,
}

impl Desk {
    /// A desk that follows the standing of this master.
    pub fn new(standing: watch::Receiver<Standing>, info: Arc<v1::MasterInfo>) -> Self {
        Self { standing, numbers: Arc::new(AtomicU64::new(1)), info }
    }

    /// A number that no stream, link or read has had.
    pub fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// The way to the core.
    ///
    /// # Errors
    /// What a caller is to be told by a master that does not lead.
    pub fn way(&self) -> Result<Way, Status> {
        match &*self.standing.borrow() {
            Standing::Leading(way) => Ok(way.clone()),
            Standing::Recovering => Err(grpc::refuse(503, "Master has not finished recovery")),
            Standing::Standby { leader: Some(leader) } => Err(grpc::not_leading(Some(leader))),
            Standing::Standby { leader: None } => Err(grpc::refuse(503, "No leader elected")),
            Standing::InDoubt => {
                Err(grpc::refuse(503, "Leadership is in doubt; ask again in a moment"))
            }
        }
    }
}

impl Way {
    /// Hands something over, and waits if the core has much to do.
    ///
    /// # Errors
    /// If the term has ended meanwhile.
    pub async fn bring(&self, brought: Brought) -> Result<(), Status> {
        self.brought.send(brought).await.map_err(|_| term_over())
    }

    /// Something is gone.
    pub fn tell_gone(&self, gone: Gone) {
        // A term that has ended has forgotten it anyway.
        let _ = self.gone.send(gone);
    }
}

/// What a caller is told whose master lost its leadership while it waited.
pub fn term_over() -> Status {
    grpc::refuse(503, "This master no longer leads")
}

/// A refusal of the core as a gRPC status.
pub fn status(refusal: &Refusal) -> Status {
    grpc::refuse(refusal.status, &refusal.text)
}
