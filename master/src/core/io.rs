//! What goes into a core and what comes out of it.

use std::sync::Arc;

use mezzo_coordination::{CommitError, Record, Txn};
use mezzo_model::ids::StreamId;
use mezzo_wire::link;
use mezzo_wire::v1::{master, scheduler};

use crate::keys::{ConnId, ReadId, RequestId};
use crate::read_model::Change;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time has passed: [`super::Core::next_deadline`] was reached.
    Tick,
    /// The registry was loaded; comes first, once.
    Recovered(Vec<Record>),
    /// How a commit ended.
    Committed {
        /// Which.
        id: u64,
        /// How.
        result: Result<(), CommitError>,
    },
    /// Nothing was handed in for a while though much may have happened (leadership was in doubt, and is not lost).
    Resumed,
    /// A scheduler opened a stream with this call.
    Subscribe {
        /// The stream.
        conn: ConnId,
        /// Whom the door recognised.
        principal: Option<Arc<str>>,
        /// The stream id that came with the call; none should.
        stream_id: Option<String>,
        /// The call.
        call: Box<scheduler::Call>,
    },
    /// A scheduler's stream is closed.
    SchedulerGone {
        /// Which.
        conn: ConnId,
    },
    /// A scheduler's call beside its stream.
    Call {
        /// Where to answer.
        request: RequestId,
        /// Whom the door recognised.
        principal: Option<Arc<str>>,
        /// The stream id that came with the call.
        stream_id: Option<String>,
        /// The call.
        call: Box<scheduler::Call>,
    },
    /// Something came over an agent's link. The first message of a link is `Hello`.
    Agent {
        /// The link.
        conn: ConnId,
        /// The message.
        message: Box<link::AgentMessage>,
    },
    /// An agent's link is closed.
    AgentGone {
        /// Which.
        conn: ConnId,
    },
    /// An operator's call that changes something. Reads are answered by the read model.
    Operator {
        /// Where to answer.
        request: RequestId,
        /// The call.
        call: Box<master::Call>,
    },
    /// Somebody wants to read a sandbox.
    ReadSandbox {
        /// Where the chunks go.
        read: ReadId,
        /// What to read.
        request: Box<link::ReadSandbox>,
    },
    /// The reader is gone.
    CancelRead {
        /// Which.
        read: ReadId,
    },
}

/// Something to be done, in the order given.
#[derive(Clone, Debug)]
pub enum Output {
    /// The stream is accepted: its first answer carries the id.
    Open {
        /// Which.
        conn: ConnId,
        /// The id that calls beside it must carry.
        stream_id: StreamId,
    },
    /// The stream is refused before it is opened.
    Refuse {
        /// Which.
        conn: ConnId,
        /// Why.
        refusal: Refusal,
    },
    /// An event for a scheduler.
    Event {
        /// On which stream.
        conn: ConnId,
        /// The event.
        event: Box<scheduler::Event>,
    },
    /// Close a stream or a link after what was sent on it before.
    Close {
        /// Which.
        conn: ConnId,
    },
    /// The answer to a call.
    Reply {
        /// Which.
        request: RequestId,
        /// Accepted, or why not.
        result: Result<(), Refusal>,
    },
    /// A message for an agent.
    ToAgent {
        /// On which link.
        conn: ConnId,
        /// The message.
        message: Box<link::MasterMessage>,
    },
    /// A piece of a sandbox for who reads it; the last one has `end` set.
    Chunk {
        /// Which read.
        read: ReadId,
        /// The piece.
        chunk: Box<link::SandboxChunk>,
    },
    /// Write to the registry.
    Commit {
        /// To be named in [`Input::Committed`].
        id: u64,
        /// What.
        txn: Txn,
    },
    /// Something changed that readers see.
    Change(Change),
    /// This core must not lead any more; drop it.
    StepDown {
        /// Why, for people.
        reason: String,
        /// Whether trying again would end in the same way.
        fatal: bool,
    },
    /// A line for the log.
    Note(Note),
}

/// Why a call is not taken: the number of the HTTP door, which every door maps to its own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {text}")]
pub struct Refusal {
    /// An HTTP status.
    pub status: u16,
    /// In words.
    pub text: String,
}

impl Refusal {
    /// A refusal with a status.
    pub fn new(status: u16, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
        }
    }

    /// 400: the call itself is wrong.
    pub fn bad(text: impl Into<String>) -> Self {
        Self::new(400, text)
    }
}

/// A line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// How bad.
    pub level: NoteLevel,
    /// In words.
    pub text: String,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteLevel {
    /// As it should be.
    Info,
    /// Somebody should look at it.
    Warn,
    /// Somebody must look at it.
    Error,
}
