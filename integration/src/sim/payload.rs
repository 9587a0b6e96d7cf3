//! What travels in a simulation, and what happens on a machine.

use mezzo_agent::core::Input as AgentInput;
use mezzo_coordination::Txn;
use mezzo_coordination::zk::{Answer, Failure, Request};
use mezzo_model::ids::{ContainerId, StreamId};
use mezzo_model::time::Millis;
use mezzo_sdk::scheduler::core::{CallError, CallId, CloseReason, ConnectionId};
use mezzo_wire::link::{AgentMessage, MasterMessage};
use mezzo_wire::v1::scheduler::{Call, Event};

/// A message between two processes.
#[derive(Debug)]
pub enum Payload {
    /// A client of ZooKeeper opens a session, or comes back to one.
    ZkHello {
        /// The session it had.
        session: Option<i64>,
        /// The timeout it wants.
        timeout: Millis,
    },
    /// The session stands.
    ZkWelcome {
        /// Its number.
        session: i64,
        /// The timeout that was granted.
        timeout: Millis,
    },
    /// The session is over.
    ZkExpired,
    /// The client lives.
    ZkPing,
    /// The server lives.
    ZkPong,
    /// A request.
    ZkRequest {
        /// Its number on this session.
        xid: u64,
        /// What is asked.
        call: Request,
    },
    /// Its answer.
    ZkReply {
        /// Which request.
        xid: u64,
        /// What came of it.
        result: Result<Answer, Failure>,
    },
    /// The watch that a request set has fired.
    ZkFired {
        /// Which request.
        xid: u64,
    },
    /// The client ends its session.
    ZkClose,
    /// From an agent to a master.
    Agent(Box<AgentMessage>),
    /// From a master to an agent.
    Master(Box<MasterMessage>),
    /// A scheduler subscribes.
    Subscribe(Box<Call>),
    /// The stream of its events stands.
    Accepted(StreamId),
    /// An event.
    Event(Box<Event>),
    /// The stream ends, or never began.
    Closed(CloseReason),
    /// Any other call of a scheduler.
    Submit {
        /// The driver's name for it.
        id: CallId,
        /// The stream that it belongs to.
        stream: StreamId,
        /// The call.
        call: Box<Call>,
    },
    /// The answer to a call.
    Done {
        /// Which.
        id: CallId,
        /// What came of it.
        result: Result<(), CallError>,
    },
}

/// What happens on one machine.
#[derive(Debug)]
pub enum Local {
    /// Records are on the agent's disk.
    Logged {
        /// Which write.
        id: u64,
    },
    /// Something about a container.
    Container(ContainerStep),
    /// The agent says something to an executor.
    ToExecutor {
        /// In which container.
        container: ContainerId,
        /// On which connection.
        conn: u64,
        /// What.
        event: Box<mezzo_wire::v1::executor::Event>,
    },
    /// The agent answers an executor's hello.
    HelloAnswered {
        /// The container.
        container: ContainerId,
        /// The connection.
        conn: u64,
        /// The answer.
        answer: Result<(), String>,
    },
    /// An input for the agent's core that takes time to come about.
    Agent(Box<AgentInput>),
    /// A dial found nobody.
    CannotConnect {
        /// The driver's attempt.
        connection: ConnectionId,
    },
    /// A call that was never sent is answered (a planted bug).
    Done {
        /// The driver's connection.
        connection: ConnectionId,
        /// The call.
        id: CallId,
    },
    /// A commit that was said to be done is really made (a planted bug).
    LateCommit {
        /// What.
        txn: Txn,
    },
    /// A framework that gave up its term, or could not read its records, has paused and begins anew if it still leads.
    BeginAnew,
    /// A probe of an instance came back well.
    Probed {
        /// Which.
        probe: u64,
    },
}

/// What a container does by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerStep {
    /// Which container.
    pub container: ContainerId,
    /// What.
    pub what: Step,
}

/// The steps of a container's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Its executor process is there and dials.
    Begin,
    /// The payload of its task starts.
    PayloadStarts,
    /// The payload ends by itself.
    PayloadEnds,
    /// The payload has been told to end and does.
    PayloadObeys,
    /// Its executor wants to be woken.
    Wake,
    /// Everything in it is gone.
    Gone,
}
