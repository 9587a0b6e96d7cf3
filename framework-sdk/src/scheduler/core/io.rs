//! What goes into the driver's core and what comes out of it.

use mezzo_model::ids::{FrameworkId, StreamId};
use mezzo_wire::v1::scheduler::{Call, Event};

use crate::scheduler::{SchedulerCommand, SchedulerEvent};

/// One attempt to subscribe and the connection that comes of it. Grows by one at each attempt of a core; an input for
/// an older one is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// One call handed to the transport; grows by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// The master that leads, as a detector or a redirecting master names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// `host:port` of its door.
    pub address: String,
    /// Tells one master's reign from the next at the same address; empty if not known.
    pub id: String,
}

/// Why a subscription ended, or never came to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The connection broke, was never made, or brought something unreadable.
    Lost(String),
    /// The master does not lead.
    NotLeader {
        /// Who does, if it said so: `host:port`.
        leader: Option<String>,
    },
    /// The master refused; trying again may help.
    Refused(String),
    /// The master refused, and trying the same again cannot help.
    Unacceptable(String),
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The master does not lead (any more).
    NotLeader {
        /// Who does, if it said so: `host:port`.
        leader: Option<String>,
    },
    /// The master does not know this subscription (any more).
    NotSubscribed(String),
    /// The call itself was refused; the subscription stands.
    Refused(String),
    /// Nobody knows whether the call arrived.
    Unknown(String),
}

/// Why the framework id was not stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SaveError {
    /// Another id is there already; the first one stays.
    #[error("the framework id {existing} is stored already")]
    Conflict {
        /// The stored one.
        existing: FrameworkId,
    },
    /// This process has lost the right to write.
    #[error("another process writes this store now")]
    Fenced,
    /// Unknown whether it happened; worth trying again.
    #[error("the store cannot be reached: {0}")]
    Unavailable(String),
}

/// What the core is told.
#[derive(Clone, Debug, PartialEq)]
pub enum DriverInput {
    /// Time has passed; see `next_deadline`.
    Tick,
    /// Who leads, whenever that changes; `None` while nobody does.
    Leader(Option<Leader>),
    /// The master opened the stream of events and gave it an id.
    Accepted {
        /// Of which attempt.
        connection: ConnectionId,
        /// To be sent with every call.
        stream: StreamId,
    },
    /// The master said something.
    Event {
        /// On which connection.
        connection: ConnectionId,
        /// What.
        event: Box<Event>,
    },
    /// The stream ended or never began.
    Closed {
        /// Which.
        connection: ConnectionId,
        /// Why.
        reason: CloseReason,
    },
    /// A call was answered, or never will be.
    CallDone {
        /// On which connection.
        connection: ConnectionId,
        /// Which.
        call: CallId,
        /// How.
        result: Result<(), CallError>,
    },
    /// The answer to [`DriverOutput::SaveFrameworkId`].
    FrameworkIdSaved {
        /// Which id.
        id: FrameworkId,
        /// Whether it is durable now.
        result: Result<(), SaveError>,
    },
    /// The framework asks for something.
    Command(SchedulerCommand),
}

/// How much a note matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoteLevel {
    /// For somebody who looks closely.
    Debug,
    /// A normal change.
    Info,
    /// Something is wrong, and is being handled.
    Warn,
}

/// What the core asks of its shell; carried out in order.
#[allow(clippy::large_enum_variant)] // a delivered status is by far the most frequent of them
#[derive(Clone, Debug, PartialEq)]
pub enum DriverOutput {
    /// Connect to a master and subscribe; answered by `Accepted` and events, or by `Closed`.
    Subscribe {
        /// The name of the attempt.
        connection: ConnectionId,
        /// `host:port`.
        address: String,
        /// The SUBSCRIBE call.
        call: Box<Call>,
    },
    /// Send a call on a connection; answered by `CallDone`. There is at most one unanswered call at a time.
    Submit {
        /// On which.
        connection: ConnectionId,
        /// The name of the call.
        id: CallId,
        /// The id of the subscription's stream.
        stream: StreamId,
        /// The call.
        call: Box<Call>,
    },
    /// Give a connection up; nothing more is heard of it.
    Close {
        /// Which.
        connection: ConnectionId,
    },
    /// Make the framework's id durable; answered by `FrameworkIdSaved`.
    SaveFrameworkId(FrameworkId),
    /// Tell the framework.
    Deliver(SchedulerEvent),
    /// A line for the log.
    Note {
        /// How much it matters.
        level: NoteLevel,
        /// The line.
        text: String,
    },
    /// The driver has ended for good; no output follows.
    Ended,
}
