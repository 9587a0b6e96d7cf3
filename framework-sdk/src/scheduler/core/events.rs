//! What the master says, turned into what the framework is told. Whatever makes no sense is left out with a note: a
//! master cannot bring a framework down by talking nonsense.

use mezzo_model::ids::{AgentId, ExecutorId, FrameworkId, OfferId, TaskId};
use mezzo_model::time::Now;
use mezzo_wire::v1;
use mezzo_wire::v1::scheduler::{Event, event};

use super::link::{Link, believable_interval};
use super::outbound::Queued;
use super::{
    CloseReason, ConnectionId, DriverCore, DriverOutput, MAX_HELD_EVENTS, MAX_OFFERS, NoteLevel,
};
use crate::scheduler::{AckToken, SchedulerEvent};

impl DriverCore {
    pub(super) fn on_event(
        &mut self,
        now: Now,
        connection: ConnectionId,
        event: Event,
        out: &mut Vec<DriverOutput>,
    ) {
        if self.link.connection() != Some(connection) {
            return;
        }
        let kind = event.r#type();
        if kind == event::Type::Error {
            let message = event.error.map_or_else(String::new, |error| error.message);
            self.end(Some(message), out);
            return;
        }
        match &mut self.link {
            Link::Waiting { .. } | Link::Ended => {}
            Link::Subscribing(_) => match (kind, event.subscribed) {
                (event::Type::Subscribed, Some(subscribed)) => {
                    self.on_subscribed_event(now, &subscribed, out);
                }
                _ => Self::note(NoteLevel::Debug, "an event came before SUBSCRIBED", out),
            },
            Link::Saving(saving) => {
                saving.open.heard = now.mono;
                if saving.held.len() < MAX_HELD_EVENTS {
                    saving.held.push(event);
                } else {
                    let why = "too many events while the framework id was being stored";
                    self.lose(now, CloseReason::Lost(why.to_owned()), out);
                }
            }
            Link::Open(open) => {
                open.heard = now.mono;
                self.on_open_event(now, kind, event, out);
            }
        }
    }

    fn on_subscribed_event(
        &mut self,
        now: Now,
        subscribed: &event::Subscribed,
        out: &mut Vec<DriverOutput>,
    ) {
        let interval = believable_interval(subscribed.heartbeat_interval_seconds);
        match FrameworkId::from_wire(&subscribed.framework_id) {
            Ok(id) => self.on_subscribed(now, id, interval, out),
            Err(error) => {
                let why = format!("the master gave no usable framework id: {error}");
                self.lose(now, CloseReason::Refused(why), out);
            }
        }
    }

    fn on_open_event(
        &mut self,
        now: Now,
        kind: event::Type,
        event: Event,
        out: &mut Vec<DriverOutput>,
    ) {
        match kind {
            event::Type::Offers => {
                self.on_offers(now, event.offers.unwrap_or_default().offers, out);
            }
            event::Type::Rescind => {
                let offer = event
                    .rescind
                    .map(|rescind| OfferId::from_wire(&rescind.offer_id));
                // One that was accepted or declined already is of no interest any more.
                if let Some(Ok(offer)) = offer
                    && self.offers.remove(&offer)
                {
                    Self::deliver(SchedulerEvent::Rescind(offer), out);
                }
            }
            event::Type::Update => {
                if let Some(update) = event.update {
                    self.on_update(update.status, out);
                }
            }
            event::Type::Message => {
                if let Some(message) = event.message {
                    Self::on_message(message, out);
                }
            }
            event::Type::Failure => {
                let failure = event.failure.unwrap_or_default();
                let agent = failure.agent_id.and_then(|id| AgentId::from_wire(&id).ok());
                let executor = failure
                    .executor_id
                    .and_then(|id| ExecutorId::from_wire(&id).ok());
                let status = failure.status;
                Self::deliver(
                    SchedulerEvent::Failure {
                        agent,
                        executor,
                        status,
                    },
                    out,
                );
            }
            event::Type::Heartbeat => {}
            event::Type::Subscribed
            | event::Type::Error
            | event::Type::Unknown
            | event::Type::InverseOffers
            | event::Type::RescindInverseOffer
            | event::Type::UpdateOperationStatus => {
                let text = format!("an event of type {} is left out", kind.as_str_name());
                Self::note(NoteLevel::Debug, text, out);
            }
        }
    }

    fn on_offers(&mut self, now: Now, offers: Vec<v1::Offer>, out: &mut Vec<DriverOutput>) {
        if self.offers.len().saturating_add(offers.len()) > MAX_OFFERS {
            let why = format!("more than {MAX_OFFERS} offers are open");
            self.lose(now, CloseReason::Lost(why), out);
            return;
        }
        let told = offers.len();
        let usable: Vec<v1::Offer> = offers
            .into_iter()
            .filter(|offer| {
                AgentId::from_wire(&offer.agent_id).is_ok()
                    && OfferId::from_wire(&offer.id).is_ok_and(|id| self.offers.insert(id))
            })
            .collect();
        if usable.len() < told {
            let text = format!(
                "{} offers without usable ids are left out",
                told - usable.len()
            );
            Self::note(NoteLevel::Warn, text, out);
        }
        if !usable.is_empty() {
            Self::deliver(SchedulerEvent::Offers(usable), out);
        }
    }

    fn on_update(&mut self, status: v1::TaskStatus, out: &mut Vec<DriverOutput>) {
        let state = v1::TaskState::try_from(status.state);
        let (Ok(task), Ok(state)) = (TaskId::from_wire(&status.task_id), state) else {
            Self::note(
                NoteLevel::Warn,
                "a status without usable task or state is left out",
                out,
            );
            return;
        };
        self.reconciling.remove(&task);
        if ends_a_kill(state) {
            self.kills.remove(&task);
        }
        let ack = AckToken::of(&status);
        if self.config.automatic_acknowledgement {
            let event = SchedulerEvent::Update {
                status,
                ack: AckToken::none(),
            };
            Self::deliver(event, out);
            if let Some(ack) = ack.into_inner() {
                self.queue_ack(Queued::Acknowledge(ack), out);
            }
        } else {
            Self::deliver(SchedulerEvent::Update { status, ack }, out);
        }
    }

    fn on_message(message: event::Message, out: &mut Vec<DriverOutput>) {
        let agent = AgentId::from_wire(&message.agent_id);
        let executor = ExecutorId::from_wire(&message.executor_id);
        if let (Ok(agent), Ok(executor)) = (agent, executor) {
            let data = message.data;
            Self::deliver(
                SchedulerEvent::Message {
                    agent,
                    executor,
                    data,
                },
                out,
            );
        } else {
            Self::note(
                NoteLevel::Warn,
                "a message without usable ids is left out",
                out,
            );
        }
    }
}

/// Whether a kill need not be repeated after this state. A task that is unreachable may come back and must still end.
fn ends_a_kill(state: v1::TaskState) -> bool {
    use v1::TaskState as State;
    match state {
        State::TaskFinished
        | State::TaskFailed
        | State::TaskKilled
        | State::TaskError
        | State::TaskLost
        | State::TaskDropped
        | State::TaskGone
        | State::TaskGoneByOperator
        | State::TaskUnknown => true,
        State::TaskStaging
        | State::TaskStarting
        | State::TaskRunning
        | State::TaskKilling
        | State::TaskUnreachable => false,
    }
}
