//! The way to the leading master: whom to dial, when to dial again, when to give a connection up.

use std::collections::BTreeSet;

use mezzo_model::ids::{FrameworkId, StreamId};
use mezzo_model::time::{Millis, Now};
use mezzo_wire::v1::scheduler::Event;

use super::outbound::Queued;
use super::retry::pause;
use super::{
    CallId, CloseReason, ConnectionId, DriverCore, DriverOutput, FIRST_IMPLICIT, Leader, NoteLevel,
    SaveError, calls,
};
use crate::scheduler::SchedulerEvent;
use crate::scheduler::core::calls::Dropped;

/// A subscription that lasted this long was a good one: its loss is answered by an attempt at once.
const HELD: Millis = Millis(5_000);
/// Redirects that are followed without a pause.
const MAX_REDIRECTS: u32 = 3;
/// The pause before a framework id is offered to the store again.
const SAVE_AGAIN: Millis = Millis(500);
/// The interval of heartbeats when the master names none, or none that makes sense.
const USUAL_INTERVAL: Millis = Millis::from_secs(15);
/// The longest interval that is believed.
const LONGEST_INTERVAL: Millis = Millis::from_secs(600);

/// Where the driver stands with the leading master.
#[derive(Debug)]
pub(super) enum Link {
    /// Nothing is under way. Without a time: nobody leads.
    Waiting { until: Option<Millis> },
    /// A SUBSCRIBE is out.
    Subscribing(Attempt),
    /// The master gave an id and the store is taking it.
    Saving(Box<Saving>),
    /// Subscribed.
    Open(Box<Open>),
    /// For good.
    Ended,
}

#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) connection: ConnectionId,
    pub(super) target: Leader,
    pub(super) stream: Option<StreamId>,
    /// What the SUBSCRIBE said is suppressed.
    pub(super) suppressed: BTreeSet<String>,
    pub(super) deadline: Millis,
}

#[derive(Debug)]
pub(super) struct Saving {
    pub(super) open: Open,
    pub(super) id: FrameworkId,
    pub(super) held: Vec<Event>,
    /// When to ask the store again, once it failed.
    pub(super) again_at: Option<Millis>,
}

#[derive(Debug)]
pub(super) struct Open {
    pub(super) connection: ConnectionId,
    pub(super) target: Leader,
    pub(super) stream: StreamId,
    pub(super) suppressed: BTreeSet<String>,
    pub(super) interval: Millis,
    pub(super) since: Millis,
    pub(super) heard: Millis,
    pub(super) in_flight: Option<InFlight>,
}

/// The call that waits for its answer.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) id: CallId,
    pub(super) call: Queued,
    pub(super) deadline: Millis,
}

impl Open {
    fn silent_at(&self, missed: u32) -> Millis {
        self.heard + self.interval * u64::from(missed.max(1))
    }
}

impl Link {
    pub(super) fn connection(&self) -> Option<ConnectionId> {
        match self {
            Self::Waiting { .. } | Self::Ended => None,
            Self::Subscribing(attempt) => Some(attempt.connection),
            Self::Saving(saving) => Some(saving.open.connection),
            Self::Open(open) => Some(open.connection),
        }
    }

    fn target(&self) -> Option<&Leader> {
        match self {
            Self::Waiting { .. } | Self::Ended => None,
            Self::Subscribing(attempt) => Some(&attempt.target),
            Self::Saving(saving) => Some(&saving.open.target),
            Self::Open(open) => Some(&open.target),
        }
    }

    pub(super) fn next_deadline(&self, missed: u32) -> Option<Millis> {
        match self {
            Self::Waiting { until } => *until,
            Self::Subscribing(attempt) => Some(attempt.deadline),
            Self::Saving(saving) => [Some(saving.open.silent_at(missed)), saving.again_at]
                .into_iter()
                .flatten()
                .min(),
            Self::Open(open) => {
                let call = open.in_flight.as_ref().map(|call| call.deadline);
                [Some(open.silent_at(missed)), call]
                    .into_iter()
                    .flatten()
                    .min()
            }
            Self::Ended => None,
        }
    }
}

/// The interval that a master promised, if it makes sense.
pub(super) fn believable_interval(seconds: Option<f64>) -> Millis {
    seconds
        .and_then(Millis::from_secs_f64)
        .filter(|interval| interval.0 > 0)
        .map_or(USUAL_INTERVAL, |interval| {
            Millis(interval.0.clamp(100, LONGEST_INTERVAL.0))
        })
}

/// Whether a redirect's words can be an address: `host:port`.
fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let fits =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '[' | ']' | ':');
    let port_fits = port.parse::<u16>().is_ok_and(|port| port != 0);
    !host.is_empty() && host.len() <= 255 && host.chars().all(fits) && port_fits
}

impl DriverCore {
    pub(super) fn on_leader(
        &mut self,
        now: Now,
        leader: Option<Leader>,
        out: &mut Vec<DriverOutput>,
    ) {
        self.leader = leader;
        self.hint = None;
        self.redirects = 0;
        let Some(leader) = &self.leader else {
            // A connection that works is kept: it may be the detector that cannot see.
            if let Link::Waiting { until } = &mut self.link {
                *until = None;
            }
            return;
        };
        let same = self.link.target().is_some_and(|target| {
            target.address == leader.address
                && (target.id == leader.id || target.id.is_empty() || leader.id.is_empty())
        });
        if same {
            return;
        }
        self.attempts = 0;
        if self.link.connection().is_some() {
            let text = format!("{} leads now", leader.address);
            Self::note(NoteLevel::Info, text, out);
            self.leave(now, out);
        }
        self.link = Link::Waiting {
            until: Some(now.mono),
        };
    }

    pub(super) fn on_accepted(&mut self, connection: ConnectionId, stream: StreamId) {
        if let Link::Subscribing(attempt) = &mut self.link
            && attempt.connection == connection
        {
            attempt.stream = Some(stream);
        }
    }

    pub(super) fn on_closed(
        &mut self,
        now: Now,
        connection: ConnectionId,
        reason: CloseReason,
        out: &mut Vec<DriverOutput>,
    ) {
        if self.link.connection() == Some(connection) {
            self.lose(now, reason, out);
        }
    }

    /// Gives the present connection up and plans the next attempt.
    pub(super) fn lose(&mut self, now: Now, reason: CloseReason, out: &mut Vec<DriverOutput>) {
        let address = self
            .link
            .target()
            .map_or_else(String::new, |target| target.address.clone());
        if let CloseReason::Unacceptable(message) = reason {
            self.end(Some(message), out);
            return;
        }
        self.leave(now, out);
        let (level, text, at_once) = match reason {
            CloseReason::NotLeader { leader } => {
                let at_once = self.follow(leader);
                (NoteLevel::Info, format!("{address} does not lead"), at_once)
            }
            CloseReason::Lost(why) => (
                NoteLevel::Warn,
                format!("lost the master at {address}: {why}"),
                false,
            ),
            CloseReason::Refused(why) | CloseReason::Unacceptable(why) => {
                Self::refuse(why.clone(), out);
                (
                    NoteLevel::Warn,
                    format!("the master at {address} refused: {why}"),
                    false,
                )
            }
        };
        Self::note(level, text, out);
        let until = if at_once {
            Some(now.mono)
        } else if self.leader.is_some() {
            Some(now.mono + self.wait_before_next_attempt())
        } else {
            None
        };
        self.link = Link::Waiting { until };
    }

    fn wait_before_next_attempt(&mut self) -> Millis {
        let (initial, max) = (self.config.backoff_initial, self.config.backoff_max);
        match self.attempts.checked_sub(1) {
            None => Millis::ZERO,
            Some(tries) => pause(initial, max, tries, &mut self.rng),
        }
    }

    /// Takes a redirect; true if it is followed without a pause.
    fn follow(&mut self, leader: Option<String>) -> bool {
        match leader {
            Some(address) if is_address(&address) && self.redirects < MAX_REDIRECTS => {
                self.redirects += 1;
                self.hint = Some(address);
                true
            }
            _ => false,
        }
    }

    /// Closes the connection and settles what belonged to its subscription. The link is `Waiting` afterwards.
    fn leave(&mut self, now: Now, out: &mut Vec<DriverOutput>) {
        let link = std::mem::replace(&mut self.link, Link::Waiting { until: None });
        if let Some(connection) = link.connection() {
            out.push(DriverOutput::Close { connection });
        }
        let Link::Open(open) = link else { return };
        self.offers.clear();
        self.next_implicit = None;
        if now.mono.since(open.since) >= HELD {
            self.attempts = 0;
        }
        Self::deliver(SchedulerEvent::Disconnected, out);
        for operations in self.outbound.keep_what_outlives_a_subscription() {
            self.drop_launches(now, &operations, Dropped::Disconnected, out);
        }
        match open.in_flight.map(|in_flight| in_flight.call) {
            Some(call @ (Queued::Acknowledge(_) | Queued::Shutdown { .. } | Queued::Teardown)) => {
                self.outbound.push_front(call)
            }
            Some(Queued::Accept { .. }) => {
                let text = "the connection was lost while an accept was under way: only \
                            reconciliation can tell what became of it";
                Self::note(NoteLevel::Warn, text, out);
            }
            _ => {}
        }
    }

    /// Stops for good; with words if the framework is to hear them.
    pub(super) fn end(&mut self, message: Option<String>, out: &mut Vec<DriverOutput>) {
        if let Some(connection) = self.link.connection() {
            out.push(DriverOutput::Close { connection });
        }
        match message {
            Some(message) if !self.tearing_down => {
                Self::deliver(
                    SchedulerEvent::Refused {
                        message,
                        fatal: true,
                    },
                    out,
                );
            }
            _ if matches!(self.link, Link::Open(_)) => {
                Self::deliver(SchedulerEvent::Disconnected, out);
            }
            _ => {}
        }
        self.link = Link::Ended;
        out.push(DriverOutput::Ended);
    }

    /// Does what the clock asks of the connection.
    pub(super) fn run_link_timers(&mut self, now: Now, out: &mut Vec<DriverOutput>) {
        let missed = self.config.heartbeats_missed;
        let due = |at: Millis| at <= now.mono;
        let lost = match &mut self.link {
            Link::Waiting { until } => {
                if until.is_some_and(due) {
                    self.dial(now, out);
                }
                None
            }
            Link::Subscribing(attempt) if due(attempt.deadline) => {
                Some("no answer to SUBSCRIBE in time")
            }
            Link::Saving(saving) => {
                if saving.again_at.is_some_and(due) {
                    saving.again_at = None;
                    out.push(DriverOutput::SaveFrameworkId(saving.id.clone()));
                }
                due(saving.open.silent_at(missed)).then_some("no heartbeat in time")
            }
            Link::Open(open) => {
                if due(open.silent_at(missed)) {
                    Some("no heartbeat in time")
                } else if open
                    .in_flight
                    .as_ref()
                    .is_some_and(|call| due(call.deadline))
                {
                    Some("no answer to a call in time")
                } else {
                    None
                }
            }
            Link::Subscribing(_) | Link::Ended => None,
        };
        if let Some(why) = lost {
            self.lose(now, CloseReason::Lost(why.to_owned()), out);
            // The attempt that follows a good subscription is made at once.
            if matches!(self.link, Link::Waiting { until: Some(at) } if at <= now.mono) {
                self.dial(now, out);
            }
        }
    }

    fn dial(&mut self, now: Now, out: &mut Vec<DriverOutput>) {
        let hinted = self.hint.take().map(|address| Leader {
            address,
            id: String::new(),
        });
        let Some(target) = hinted.or_else(|| self.leader.clone()) else {
            self.link = Link::Waiting { until: None };
            return;
        };
        self.attempts = self.attempts.saturating_add(1);
        self.last_connection += 1;
        let connection = ConnectionId(self.last_connection);
        let roles = self.roles();
        let suppressed: BTreeSet<String> = self
            .suppressed
            .iter()
            .filter(|role| roles.contains(*role))
            .cloned()
            .collect();
        let call = calls::subscribe(
            &self.config.framework,
            self.framework_id.as_ref().or(self.claimed.as_ref()),
            suppressed.iter().cloned().collect(),
        );
        out.push(DriverOutput::Subscribe {
            connection,
            address: target.address.clone(),
            call: Box::new(call),
        });
        self.link = Link::Subscribing(Attempt {
            connection,
            target,
            stream: None,
            suppressed,
            deadline: now.mono + self.config.subscribe_timeout,
        });
    }

    /// The master took the subscription and gave (or confirmed) an id.
    pub(super) fn on_subscribed(
        &mut self,
        now: Now,
        id: FrameworkId,
        interval: Millis,
        out: &mut Vec<DriverOutput>,
    ) {
        let Link::Subscribing(attempt) =
            std::mem::replace(&mut self.link, Link::Waiting { until: None })
        else {
            return;
        };
        let Attempt {
            connection,
            target,
            stream,
            suppressed,
            ..
        } = attempt;
        let Some(stream) = stream else {
            out.push(DriverOutput::Close { connection });
            self.lose(
                now,
                CloseReason::Lost("the stream has no id".to_owned()),
                out,
            );
            return;
        };
        let open = Open {
            connection,
            target,
            stream,
            suppressed,
            interval,
            since: now.mono,
            heard: now.mono,
            in_flight: None,
        };
        if let Some(known) = self.framework_id.as_ref().or(self.claimed.as_ref())
            && *known != id
        {
            let address = &open.target.address;
            let why = format!("{address} calls the framework {id}, but it is {known}");
            out.push(DriverOutput::Close { connection });
            self.lose(now, CloseReason::Refused(why), out);
        } else if self.framework_id.is_some() {
            self.link = Link::Open(Box::new(open));
            self.announce(now, id, out);
        } else {
            self.claimed = Some(id.clone());
            out.push(DriverOutput::SaveFrameworkId(id.clone()));
            self.link = Link::Saving(Box::new(Saving {
                open,
                id,
                held: Vec::new(),
                again_at: None,
            }));
        }
    }

    /// Tells the framework and sets everything going that a subscription allows.
    fn announce(&mut self, now: Now, id: FrameworkId, out: &mut Vec<DriverOutput>) {
        let Link::Open(open) = &self.link else { return };
        let text = format!("subscribed at {} as {id}", open.target.address);
        // What changed since the SUBSCRIBE was written is said now.
        let roles = self.roles();
        let wanted: BTreeSet<String> = self
            .suppressed
            .iter()
            .filter(|role| roles.contains(*role))
            .cloned()
            .collect();
        let revived: Vec<String> = open.suppressed.difference(&wanted).cloned().collect();
        let suppressed: Vec<String> = wanted.difference(&open.suppressed).cloned().collect();
        Self::note(NoteLevel::Info, text, out);
        self.redirects = 0;
        self.offers.clear();
        if !revived.is_empty() {
            self.outbound.push(Queued::Revive(revived));
        }
        if !suppressed.is_empty() {
            self.outbound.push(Queued::Suppress(suppressed));
        }
        self.reconciling.restart(now.mono);
        self.kills.restart(now.mono);
        self.next_implicit = self
            .config
            .implicit_every
            .map(|_| now.mono + FIRST_IMPLICIT + self.rng.jitter(FIRST_IMPLICIT));
        let resubscribed = std::mem::replace(&mut self.known_before, true);
        Self::deliver(
            SchedulerEvent::Subscribed {
                framework_id: id,
                resubscribed,
            },
            out,
        );
    }

    pub(super) fn on_framework_id_saved(
        &mut self,
        now: Now,
        id: &FrameworkId,
        result: Result<(), SaveError>,
        out: &mut Vec<DriverOutput>,
    ) {
        // An answer that comes after the connection was gone counts all the same.
        if result.is_ok() && self.framework_id.is_none() && self.claimed.as_ref() == Some(id) {
            self.framework_id = self.claimed.take();
        }
        if !matches!(&self.link, Link::Saving(saving) if saving.id == *id) {
            return;
        }
        match result {
            Ok(()) => {
                let link = std::mem::replace(&mut self.link, Link::Waiting { until: None });
                let Link::Saving(saving) = link else { return };
                let Saving { open, id, held, .. } = *saving;
                let connection = open.connection;
                self.link = Link::Open(Box::new(open));
                self.announce(now, id, out);
                for event in held {
                    self.on_event(now, connection, event, out);
                }
            }
            Err(SaveError::Unavailable(why)) => {
                Self::note(
                    NoteLevel::Warn,
                    format!("framework id not stored yet: {why}"),
                    out,
                );
                if let Link::Saving(saving) = &mut self.link {
                    saving.again_at = Some(now.mono + SAVE_AGAIN);
                }
            }
            Err(error @ (SaveError::Conflict { .. } | SaveError::Fenced)) => {
                self.end(Some(error.to_string()), out);
            }
        }
    }
}
