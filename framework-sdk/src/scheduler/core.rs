//! The scheduler driver as a pure machine: inputs in, outputs out, time and randomness handed in.
//!
//! It finds the leading master (told by a detector or by a master that redirects), subscribes with a jittered
//! exponential pause between attempts (the first at once), notices a connection that fell silent, sends one call at a
//! time in the order given, repeats kills and reconciliation until they are answered, and remembers suppression.
//!
//! Invariant: it holds no task and decides nothing about placement; what the framework believes it must say
//! ([`SchedulerCommand::Reconcile`](super::SchedulerCommand::Reconcile)). Everything kept has a bound.

mod calls;
mod commands;
mod events;
mod io;
mod link;
mod outbound;
mod retry;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use mezzo_model::ids::{AgentId, FrameworkId, OfferId, TaskId};
use mezzo_model::rng::Rng;
use mezzo_model::time::{Millis, Now};
use mezzo_wire::v1;
use mezzo_wire::v1::framework_info::capability;

pub use io::{
    CallError, CallId, CloseReason, ConnectionId, DriverInput, DriverOutput, Leader, NoteLevel,
    SaveError,
};

use crate::scheduler::{DriverConfig, SchedulerEvent};
use link::Link;
use outbound::{Outbound, Queued};
use retry::Retries;

/// Calls that may wait for their turn; a command beyond is refused in words.
pub const MAX_QUEUED_CALLS: usize = 100_000;
/// Tasks that may wait for the answer to a reconciliation.
pub const MAX_RECONCILED_TASKS: usize = 1_000_000;
/// Kills that may wait for their task to end.
pub const MAX_KILLS: usize = 100_000;
/// Offers that one subscription may hold.
pub const MAX_OFFERS: usize = 1_000_000;
/// Events that may wait while the framework's id is being stored.
pub const MAX_HELD_EVENTS: usize = 10_000;
/// Tasks in one RECONCILE call.
pub const RECONCILE_BATCH: usize = 1000;

/// How long after a subscription the first question about all tasks is asked.
const FIRST_IMPLICIT: Millis = Millis(2_000);
/// The longest pause between two kills of one task.
const KILL_RETRY_MAX: Millis = Millis::from_secs(300);

/// A kill that has not been seen to work.
#[derive(Clone, Debug)]
struct KillWish {
    agent: Option<AgentId>,
    policy: Option<v1::KillPolicy>,
}

/// The driver of one framework.
#[derive(Debug)]
pub struct DriverCore {
    config: DriverConfig,
    partition_aware: bool,
    framework_id: Option<FrameworkId>,
    /// An id that a master gave and that is not stored yet.
    claimed: Option<FrameworkId>,
    /// The id is older than the subscription at hand.
    known_before: bool,
    rng: Rng,
    leader: Option<Leader>,
    /// Where a master sent us; used once.
    hint: Option<String>,
    redirects: u32,
    link: Link,
    /// Attempts made since a subscription last held.
    attempts: u32,
    last_connection: u64,
    last_call: u64,
    /// Offers of this subscription that are neither answered nor rescinded.
    offers: BTreeSet<OfferId>,
    suppressed: BTreeSet<String>,
    outbound: Outbound,
    reconciling: Retries<TaskId, Option<AgentId>>,
    next_implicit: Option<Millis>,
    kills: Retries<TaskId, KillWish>,
    tearing_down: bool,
}

impl DriverCore {
    /// A driver that has said nothing yet. `stored` is the framework id kept from an earlier process; `seed` differs
    /// from process to process.
    pub fn new(config: DriverConfig, stored: Option<FrameworkId>, seed: u64) -> Self {
        let has = |wanted: capability::Type| {
            config
                .framework
                .capabilities
                .iter()
                .any(|capability| capability.r#type() == wanted)
        };
        let partition_aware = has(capability::Type::PartitionAware);
        let suppressed = config.suppressed_roles.iter().cloned().collect();
        Self {
            partition_aware,
            known_before: stored.is_some(),
            framework_id: stored,
            claimed: None,
            rng: Rng::new(seed).split("scheduler driver"),
            leader: None,
            hint: None,
            redirects: 0,
            link: Link::Waiting { until: None },
            attempts: 0,
            last_connection: 0,
            last_call: 0,
            offers: BTreeSet::new(),
            suppressed,
            outbound: Outbound::default(),
            reconciling: Retries::new(config.reconcile_initial, config.reconcile_max),
            next_implicit: None,
            kills: Retries::new(config.kill_retry, KILL_RETRY_MAX),
            tearing_down: false,
            config,
        }
    }

    /// Takes one input; what is to be done is pushed to `out` in order.
    pub fn handle(&mut self, now: Now, input: DriverInput, out: &mut Vec<DriverOutput>) {
        if matches!(self.link, Link::Ended) {
            return;
        }
        match input {
            DriverInput::Tick => {}
            DriverInput::Leader(leader) => self.on_leader(now, leader, out),
            DriverInput::Accepted { connection, stream } => self.on_accepted(connection, stream),
            DriverInput::Event { connection, event } => self.on_event(now, connection, *event, out),
            DriverInput::Closed { connection, reason } => {
                self.on_closed(now, connection, reason, out);
            }
            DriverInput::CallDone {
                connection,
                call,
                result,
            } => {
                self.on_call_done(now, connection, call, result, out);
            }
            DriverInput::FrameworkIdSaved { id, result } => {
                self.on_framework_id_saved(now, &id, result, out);
            }
            DriverInput::Command(command) => self.on_command(now, command, out),
        }
        self.settle(now, out);
    }

    /// When the core wants a `Tick` at the latest.
    pub fn next_deadline(&self) -> Option<Millis> {
        let link = self.link.next_deadline(self.config.heartbeats_missed);
        if !matches!(self.link, Link::Open(_)) {
            return link;
        }
        // While a question waits for its turn in the queue, time adds nothing to it.
        let reconcile = if self.outbound.holds_reconcile() {
            None
        } else {
            [self.reconciling.next_due(), self.next_implicit]
                .into_iter()
                .flatten()
                .min()
        };
        [link, reconcile, self.kills.next_due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The framework's id, once stored.
    pub fn framework_id(&self) -> Option<&FrameworkId> {
        self.framework_id.as_ref()
    }

    /// Whether the framework is subscribed at this moment.
    pub fn is_subscribed(&self) -> bool {
        matches!(self.link, Link::Open(_))
    }

    /// Whether the driver has stopped for good.
    pub fn has_ended(&self) -> bool {
        matches!(self.link, Link::Ended)
    }

    /// Whether a call waits for its turn or for its answer.
    pub fn has_calls(&self) -> bool {
        let under_way = matches!(&self.link, Link::Open(open) if open.in_flight.is_some());
        under_way || self.outbound.len() > 0
    }

    /// Calls that wait for their turn.
    pub fn queued_calls(&self) -> usize {
        self.outbound.len()
    }

    /// Tasks about which no answer came yet.
    pub fn unanswered_tasks(&self) -> usize {
        self.reconciling.len()
    }

    /// Does what time makes due and hands the next call to the transport.
    fn settle(&mut self, now: Now, out: &mut Vec<DriverOutput>) {
        self.run_link_timers(now, out);
        if !matches!(self.link, Link::Open(_)) {
            return;
        }
        for (task, _) in self.kills.take_due(now.mono, usize::MAX, &mut self.rng) {
            self.outbound.push_kill(task);
        }
        self.queue_reconciliation(now);
        self.pump(now, out);
    }

    fn queue_reconciliation(&mut self, now: Now) {
        if self.outbound.holds_reconcile() {
            return;
        }
        let asked = self
            .reconciling
            .take_due(now.mono, RECONCILE_BATCH, &mut self.rng);
        if !asked.is_empty() {
            self.outbound.push(Queued::Reconcile(asked));
        } else if self.next_implicit.is_some_and(|due| due <= now.mono) {
            self.outbound.push(Queued::Reconcile(Vec::new()));
            self.next_implicit = self
                .config
                .implicit_every
                .map(|every| now.mono + every + self.rng.jitter(Millis(every.0 / 10)));
        }
    }

    fn note(level: NoteLevel, text: impl Into<String>, out: &mut Vec<DriverOutput>) {
        out.push(DriverOutput::Note {
            level,
            text: text.into(),
        });
    }

    fn deliver(event: SchedulerEvent, out: &mut Vec<DriverOutput>) {
        out.push(DriverOutput::Deliver(event));
    }

    fn refuse(message: impl Into<String>, out: &mut Vec<DriverOutput>) {
        Self::deliver(
            SchedulerEvent::Refused {
                message: message.into(),
                fatal: false,
            },
            out,
        );
    }

    /// The roles the framework subscribes with.
    fn roles(&self) -> BTreeSet<String> {
        let framework = &self.config.framework;
        let multi_role = framework
            .capabilities
            .iter()
            .any(|capability| capability.r#type() == capability::Type::MultiRole);
        if multi_role {
            framework.roles.iter().cloned().collect()
        } else {
            BTreeSet::from([framework.role().to_owned()])
        }
    }
}
