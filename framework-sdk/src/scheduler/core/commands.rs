//! What the framework asks, and the answers to its calls.

use mezzo_model::ids::{AgentId, OfferId, TaskId};
use mezzo_model::time::Now;
use mezzo_wire::v1;

use super::calls::{self, Dropped};
use super::link::{InFlight, Link};
use super::outbound::Queued;
use super::{
    CallError, CallId, CloseReason, ConnectionId, DriverCore, DriverOutput, KillWish, MAX_KILLS,
    MAX_QUEUED_CALLS, MAX_RECONCILED_TASKS, NoteLevel,
};
use crate::scheduler::SchedulerCommand;

impl DriverCore {
    pub(super) fn on_command(
        &mut self,
        now: Now,
        command: SchedulerCommand,
        out: &mut Vec<DriverOutput>,
    ) {
        match command {
            SchedulerCommand::Accept {
                offers,
                operations,
                filters,
            } => {
                self.on_accept(now, offers, operations, filters, out);
            }
            SchedulerCommand::Decline {
                mut offers,
                filters,
            } => {
                // Whatever is not held any more needs no giving back.
                offers.retain(|offer| self.offers.remove(offer));
                if !offers.is_empty() {
                    self.outbound.push(Queued::Decline { offers, filters });
                }
            }
            SchedulerCommand::Kill {
                task,
                agent,
                policy,
            } => {
                self.on_kill(now, task, agent, policy, out);
            }
            SchedulerCommand::Acknowledge(token) => {
                if let Some(ack) = token.into_inner() {
                    self.queue_ack(Queued::Acknowledge(ack), out);
                }
            }
            SchedulerCommand::Reconcile(tasks) => self.on_reconcile(now, tasks, out),
            SchedulerCommand::Revive { roles } => self.on_revive(roles, out),
            SchedulerCommand::Suppress { roles } => self.on_suppress(roles, out),
            SchedulerCommand::Message {
                agent,
                executor,
                data,
            } => {
                if self.is_subscribed() {
                    self.queue(
                        Queued::Message {
                            agent,
                            executor,
                            data,
                        },
                        out,
                    );
                } else {
                    let text = format!("a message to executor {executor} found no master");
                    Self::note(NoteLevel::Debug, text, out);
                }
            }
            SchedulerCommand::Shutdown { agent, executor } => {
                self.queue(Queued::Shutdown { agent, executor }, out);
            }
            SchedulerCommand::Teardown => self.on_teardown(out),
        }
    }

    fn on_accept(
        &mut self,
        now: Now,
        offers: Vec<OfferId>,
        operations: Vec<v1::offer::Operation>,
        filters: Option<v1::Filters>,
        out: &mut Vec<DriverOutput>,
    ) {
        if !self.is_subscribed() {
            self.drop_launches(now, &operations, Dropped::Disconnected, out);
            return;
        }
        let mut held = 0;
        for offer in &offers {
            held += usize::from(self.offers.remove(offer));
        }
        if held == 0 {
            self.drop_launches(now, &operations, Dropped::Void, out);
        } else {
            // If one of several is void the master drops the launch and takes the others back.
            self.outbound.push(Queued::Accept {
                offers,
                operations,
                filters,
            });
        }
    }

    fn on_kill(
        &mut self,
        now: Now,
        task: TaskId,
        agent: Option<AgentId>,
        policy: Option<v1::KillPolicy>,
        out: &mut Vec<DriverOutput>,
    ) {
        if self.kills.len() >= MAX_KILLS && !self.kills.contains(&task) {
            Self::refuse(
                format!("{MAX_KILLS} kills wait already; {task} is not added"),
                out,
            );
            return;
        }
        self.kills
            .insert(task, KillWish { agent, policy }, now.mono);
    }

    fn on_reconcile(
        &mut self,
        now: Now,
        tasks: Vec<(TaskId, Option<AgentId>)>,
        out: &mut Vec<DriverOutput>,
    ) {
        if tasks.is_empty() {
            // Without a subscription nothing needs remembering: each begins with this question.
            if self.is_subscribed() {
                self.next_implicit = Some(now.mono);
            }
            return;
        }
        let mut left = 0;
        for (task, agent) in tasks {
            if self.reconciling.len() < MAX_RECONCILED_TASKS || self.reconciling.contains(&task) {
                self.reconciling.insert(task, agent, now.mono);
            } else {
                left += 1;
            }
        }
        if left > 0 {
            let words = "tasks wait for reconciliation already";
            Self::refuse(
                format!("{MAX_RECONCILED_TASKS} {words}; {left} are not added"),
                out,
            );
        }
    }

    fn named_or_all(&self, roles: Vec<String>) -> Vec<String> {
        if roles.is_empty() {
            self.roles().into_iter().collect()
        } else {
            roles
        }
    }

    fn on_revive(&mut self, roles: Vec<String>, out: &mut Vec<DriverOutput>) {
        for role in self.named_or_all(roles.clone()) {
            self.suppressed.remove(&role);
        }
        if self.is_subscribed() {
            self.queue(Queued::Revive(roles), out);
        }
    }

    fn on_suppress(&mut self, roles: Vec<String>, out: &mut Vec<DriverOutput>) {
        let known = self.roles();
        let named = self.named_or_all(roles.clone());
        // A role that is not the framework's could never be part of a SUBSCRIBE, so it is not remembered.
        self.suppressed
            .extend(named.into_iter().filter(|role| known.contains(role)));
        if self.is_subscribed() {
            self.queue(Queued::Suppress(roles), out);
        }
    }

    fn on_teardown(&mut self, out: &mut Vec<DriverOutput>) {
        self.tearing_down = true;
        if self.framework_id.is_none() && self.claimed.is_none() {
            let nobody_knows = matches!(self.link, Link::Waiting { .. }) && self.attempts == 0;
            if nobody_knows {
                self.end(None, out);
                return;
            }
        }
        self.outbound.push(Queued::Teardown);
    }

    /// Queues a call, or refuses it in words when too many wait.
    fn queue(&mut self, call: Queued, out: &mut Vec<DriverOutput>) {
        if self.outbound.len() < MAX_QUEUED_CALLS {
            self.outbound.push(call);
        } else {
            Self::refuse(
                format!("{MAX_QUEUED_CALLS} calls wait already; one is not added"),
                out,
            );
        }
    }

    /// Queues an acknowledgement. One too many is left out: the agent will send its status again.
    pub(super) fn queue_ack(&mut self, call: Queued, out: &mut Vec<DriverOutput>) {
        if self.outbound.len() < MAX_QUEUED_CALLS {
            self.outbound.push(call);
        } else {
            let text = "too many calls wait: an acknowledgement is left to the next repeat";
            Self::note(NoteLevel::Warn, text, out);
        }
    }

    /// Hands the next call to the transport, if none is under way.
    pub(super) fn pump(&mut self, now: Now, out: &mut Vec<DriverOutput>) {
        let Some(framework) = &self.framework_id else {
            return;
        };
        let Link::Open(open) = &mut self.link else {
            return;
        };
        while open.in_flight.is_none() {
            let Some(queued) = self.outbound.pop() else {
                return;
            };
            let wish = match &queued {
                Queued::Kill(task) => match self.kills.get(task) {
                    Some(wish) => Some(wish),
                    // It ended in the meantime.
                    None => continue,
                },
                _ => None,
            };
            let call = calls::submit(framework, &queued, wish);
            self.last_call += 1;
            let id = CallId(self.last_call);
            out.push(DriverOutput::Submit {
                connection: open.connection,
                id,
                stream: open.stream.clone(),
                call: Box::new(call),
            });
            let deadline = now.mono + self.config.call_timeout;
            open.in_flight = Some(InFlight {
                id,
                call: queued,
                deadline,
            });
        }
    }

    pub(super) fn on_call_done(
        &mut self,
        now: Now,
        connection: ConnectionId,
        id: CallId,
        result: Result<(), CallError>,
        out: &mut Vec<DriverOutput>,
    ) {
        let Link::Open(open) = &mut self.link else {
            return;
        };
        let answered = open
            .in_flight
            .take_if(|call| open.connection == connection && call.id == id);
        let Some(in_flight) = answered else { return };
        match result {
            Ok(()) => {
                if in_flight.call == Queued::Teardown {
                    self.end(None, out);
                }
            }
            Err(CallError::Unknown(why)) => {
                open.in_flight = Some(in_flight);
                self.lose(now, CloseReason::Lost(why), out);
            }
            // These two were certainly not carried out: they wait like any other call that was not sent.
            Err(CallError::NotLeader { leader }) => {
                self.outbound.push_front(in_flight.call);
                self.lose(now, CloseReason::NotLeader { leader }, out);
            }
            Err(CallError::NotSubscribed(why)) => {
                self.outbound.push_front(in_flight.call);
                self.lose(now, CloseReason::Lost(why), out);
            }
            Err(CallError::Refused(why)) => self.on_call_refused(now, in_flight.call, why, out),
        }
    }

    fn on_call_refused(
        &mut self,
        now: Now,
        call: Queued,
        why: String,
        out: &mut Vec<DriverOutput>,
    ) {
        match call {
            Queued::Accept { operations, .. } => {
                self.drop_launches(now, &operations, Dropped::Refused(why.clone()), out);
            }
            Queued::Kill(task) => {
                self.kills.remove(&task);
            }
            Queued::Reconcile(tasks) => {
                for (task, _) in tasks {
                    self.reconciling.remove(&task);
                }
            }
            Queued::Teardown => self.tearing_down = false,
            Queued::Decline { .. }
            | Queued::Acknowledge(_)
            | Queued::Revive(_)
            | Queued::Suppress(_)
            | Queued::Message { .. }
            | Queued::Shutdown { .. } => {}
        }
        Self::refuse(why, out);
    }
}
