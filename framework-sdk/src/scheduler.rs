//! The scheduler's side of the cluster: what a framework is told and what it may ask.
//!
//! [`SchedulerEvent`] and [`SchedulerCommand`] are the whole vocabulary between a framework and its driver. Its
//! core ([`core::DriverCore`]) does what every framework would have to do for itself: find the leader, subscribe and
//! subscribe again, keep calls in order, notice a silent connection, reconcile.
//!
//! Invariant: the core and its vocabulary do not know which transport carries the calls.

pub mod core;
pub mod driver;
pub mod grpc;

use std::fmt;

use bytes::Bytes;
use mezzo_model::ids::{AgentId, ExecutorId, FrameworkId, OfferId, TaskId};
use mezzo_model::time::Millis;
use mezzo_wire::v1;

pub use driver::{Driver, DriverHandle, DriverSettings, DriverStopped, StartError, Transport};
pub use grpc::Credential;

/// What a framework is told. Between two [`SchedulerEvent::Subscribed`] there is always one
/// [`SchedulerEvent::Disconnected`]; offers of the subscription before are void from then on.
#[allow(clippy::large_enum_variant)] // a status is by far the most frequent of them
#[derive(Clone, Debug, PartialEq)]
pub enum SchedulerEvent {
    /// The framework is subscribed and its id is stored. Whatever tasks it believes in it should now name in a
    /// [`SchedulerCommand::Reconcile`]: updates made by a master may have been lost.
    Subscribed {
        /// The id of the framework, for good.
        framework_id: FrameworkId,
        /// The id existed before this subscription: from an earlier process, an earlier connection, another master.
        resubscribed: bool,
    },
    /// Resources that only this framework may use until it answers or they are rescinded.
    Offers(Vec<v1::Offer>),
    /// An offer is void; using it would drop the launch.
    Rescind(OfferId),
    /// The state of a task. Repeats are normal.
    Update {
        /// What became of the task.
        status: v1::TaskStatus,
        /// To be given back in [`SchedulerCommand::Acknowledge`] once the framework has kept what it needs.
        ack: AckToken,
    },
    /// Bytes from an executor; best effort.
    Message {
        /// Where the executor runs.
        agent: AgentId,
        /// Who sent them.
        executor: ExecutorId,
        /// The bytes.
        data: Bytes,
    },
    /// An agent was lost (no executor), or an executor ended; best effort.
    Failure {
        /// The agent, if the master said which.
        agent: Option<AgentId>,
        /// The executor, if it was one.
        executor: Option<ExecutorId>,
        /// The executor's wait status.
        status: Option<i32>,
    },
    /// The subscription was lost; the driver is at work on the next one. Offers are void.
    Disconnected,
    /// Something was refused, in words.
    Refused {
        /// The words.
        message: String,
        /// The driver has stopped for good: the framework was removed, failed over, or is not acceptable as it is.
        fatal: bool,
    },
}

/// What a framework may ask. Commands are carried out in the order given.
#[derive(Clone, Debug, PartialEq)]
pub enum SchedulerCommand {
    /// Use offers of one agent. An accept whose offers all belong to an earlier subscription is not sent: each task in
    /// it gets a dropped (or lost) status from the driver.
    Accept {
        /// One or more offers, all of one agent and role.
        offers: Vec<OfferId>,
        /// What to do with them, in order; the rest is declined.
        operations: Vec<v1::offer::Operation>,
        /// How long not to offer the rest again; 5 seconds if absent.
        filters: Option<v1::Filters>,
    },
    /// Give offers back.
    Decline {
        /// Which.
        offers: Vec<OfferId>,
        /// How long not to offer them again; 5 seconds if absent.
        filters: Option<v1::Filters>,
    },
    /// End a task. The driver repeats the call until a terminal status of the task was seen, over every
    /// subscription of this process.
    Kill {
        /// Which.
        task: TaskId,
        /// Where, if known.
        agent: Option<AgentId>,
        /// How gently; the task's own policy if absent.
        policy: Option<v1::KillPolicy>,
    },
    /// The framework has kept what the status said.
    Acknowledge(AckToken),
    /// Ask about tasks until each has been answered; an empty list asks once about all that the master knows.
    Reconcile(Vec<(TaskId, Option<AgentId>)>),
    /// Clear filters and suppression of roles; no roles means all.
    Revive {
        /// Which roles.
        roles: Vec<String>,
    },
    /// No more offers for roles; no roles means all. Remembered over subscriptions until revived.
    Suppress {
        /// Which roles.
        roles: Vec<String>,
    },
    /// Bytes to an executor; best effort.
    Message {
        /// Where the executor runs.
        agent: AgentId,
        /// Which.
        executor: ExecutorId,
        /// The bytes.
        data: Bytes,
    },
    /// End an executor and its tasks.
    Shutdown {
        /// Where it runs.
        agent: AgentId,
        /// Which.
        executor: ExecutorId,
    },
    /// Remove the framework with all its tasks; the driver stops when the master took the call.
    Teardown,
}

/// The right to acknowledge one status. Statuses that need none (made by a master, or acknowledged by the driver
/// itself) carry an empty one, which may be given back all the same.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AckToken(Option<AckOf>);

/// What an acknowledgement names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AckOf {
    pub(crate) task: TaskId,
    pub(crate) agent: AgentId,
    pub(crate) uuid: [u8; 16],
}

impl AckToken {
    /// A token for a status that needs no acknowledgement.
    pub const fn none() -> Self {
        Self(None)
    }

    /// The token of a status: empty unless it names a task, an agent and a UUID of 16 bytes.
    pub fn of(status: &v1::TaskStatus) -> Self {
        let named = || {
            let task = TaskId::from_wire(&status.task_id).ok()?;
            let agent = AgentId::from_wire(status.agent_id.as_ref()?).ok()?;
            let uuid = <[u8; 16]>::try_from(status.uuid.as_ref()?.as_ref()).ok()?;
            Some(AckOf { task, agent, uuid })
        };
        Self(named())
    }

    /// Whether somebody waits for the acknowledgement.
    pub const fn needed(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn into_inner(self) -> Option<AckOf> {
        self.0
    }
}

impl fmt::Debug for AckToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("AckToken(none)"),
            Some(ack) => {
                write!(
                    f,
                    "AckToken({} {})",
                    ack.task,
                    mezzo_model::rng::uuid_text(&ack.uuid)
                )
            }
        }
    }
}

/// How a driver behaves. [`DriverConfig::new`] gives the usual values.
#[derive(Clone, Debug, PartialEq)]
pub struct DriverConfig {
    /// Who subscribes. Its `id` is left out of account: the stored id is used.
    pub framework: v1::FrameworkInfo,
    /// Roles for which no offers are wanted until they are revived.
    pub suppressed_roles: Vec<String>,
    /// The driver acknowledges each status itself, right after it was delivered.
    pub automatic_acknowledgement: bool,
    /// The first pause between two attempts to subscribe; the first attempt is made at once.
    pub backoff_initial: Millis,
    /// The longest such pause.
    pub backoff_max: Millis,
    /// An attempt to subscribe that brought no answer by then has failed.
    pub subscribe_timeout: Millis,
    /// A call that brought no answer by then makes the connection a dead one.
    pub call_timeout: Millis,
    /// A connection silent for this many heartbeat intervals is a dead one.
    pub heartbeats_missed: u32,
    /// The first pause before an unanswered task is asked about again; it doubles.
    pub reconcile_initial: Millis,
    /// The longest such pause.
    pub reconcile_max: Millis,
    /// How often to ask about every task that the master knows, so that forgotten ones come to light; `None`: never.
    pub implicit_every: Option<Millis>,
    /// The first pause before a kill is repeated; it doubles up to five minutes.
    pub kill_retry: Millis,
}

impl DriverConfig {
    /// The usual behaviour for the usual framework: tasks run as `nobody` in role `*`, count as unreachable and not as
    /// lost when their agent is out of reach, and are kept for a week while the framework is away.
    pub fn named(name: &str) -> Self {
        let partition_aware = v1::framework_info::capability::Type::PartitionAware as i32;
        Self::new(v1::FrameworkInfo {
            user: "nobody".to_owned(),
            name: name.to_owned(),
            failover_timeout: Some(604_800.0),
            checkpoint: Some(true),
            capabilities: vec![v1::framework_info::Capability {
                r#type: Some(partition_aware),
            }],
            ..Default::default()
        })
    }

    /// The usual behaviour for a framework.
    pub fn new(framework: v1::FrameworkInfo) -> Self {
        Self {
            framework,
            suppressed_roles: Vec::new(),
            automatic_acknowledgement: false,
            backoff_initial: Millis(250),
            backoff_max: Millis::from_secs(10),
            subscribe_timeout: Millis::from_secs(15),
            call_timeout: Millis::from_secs(30),
            heartbeats_missed: 5,
            reconcile_initial: Millis::from_secs(2),
            reconcile_max: Millis::from_secs(60),
            implicit_every: Some(Millis::from_secs(600)),
            kill_retry: Millis::from_secs(10),
        }
    }
}
