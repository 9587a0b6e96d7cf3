//! Calls that wait for their turn. One call is under way at a time, so that they arrive in the order given.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use mezzo_model::ids::{AgentId, ExecutorId, OfferId, TaskId};
use mezzo_wire::v1;

use crate::scheduler::AckOf;

/// A call before it is written down for the wire.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Queued {
    Accept {
        offers: Vec<OfferId>,
        operations: Vec<v1::offer::Operation>,
        filters: Option<v1::Filters>,
    },
    Decline {
        offers: Vec<OfferId>,
        filters: Option<v1::Filters>,
    },
    /// The rest of the call is in the wish, which may have changed since.
    Kill(TaskId),
    Acknowledge(AckOf),
    /// No tasks: ask about all.
    Reconcile(Vec<(TaskId, Option<AgentId>)>),
    Revive(Vec<String>),
    Suppress(Vec<String>),
    Message {
        agent: AgentId,
        executor: ExecutorId,
        data: Bytes,
    },
    Shutdown {
        agent: AgentId,
        executor: ExecutorId,
    },
    Teardown,
}

/// The queue; kills and acknowledgements are in it at most once each.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    queue: VecDeque<Queued>,
    kills: BTreeSet<TaskId>,
    acks: BTreeSet<AckOf>,
    reconciles: usize,
}

impl Outbound {
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether a RECONCILE waits already.
    pub(super) fn holds_reconcile(&self) -> bool {
        self.reconciles > 0
    }

    pub(super) fn push(&mut self, call: Queued) {
        match &call {
            Queued::Kill(task) if !self.kills.insert(task.clone()) => return,
            Queued::Acknowledge(ack) if !self.acks.insert(ack.clone()) => return,
            Queued::Revive(_) | Queued::Suppress(_) if self.queue.back() == Some(&call) => return,
            Queued::Reconcile(_) => self.reconciles += 1,
            Queued::Teardown if self.queue.back() == Some(&call) => return,
            _ => {}
        }
        self.queue.push_back(call);
    }

    pub(super) fn push_kill(&mut self, task: TaskId) {
        self.push(Queued::Kill(task));
    }

    /// Puts a call back to where it was taken from.
    pub(super) fn push_front(&mut self, call: Queued) {
        match &call {
            Queued::Kill(task) if !self.kills.insert(task.clone()) => return,
            Queued::Acknowledge(ack) if !self.acks.insert(ack.clone()) => return,
            Queued::Reconcile(_) => self.reconciles += 1,
            _ => {}
        }
        self.queue.push_front(call);
    }

    pub(super) fn pop(&mut self) -> Option<Queued> {
        let call = self.queue.pop_front()?;
        match &call {
            Queued::Kill(task) => {
                self.kills.remove(task);
            }
            Queued::Acknowledge(ack) => {
                self.acks.remove(ack);
            }
            Queued::Reconcile(_) => self.reconciles -= 1,
            _ => {}
        }
        Some(call)
    }

    /// The subscription is gone: what makes no sense later is taken out. Returned are the accepts among it, in order.
    pub(super) fn keep_what_outlives_a_subscription(&mut self) -> Vec<Vec<v1::offer::Operation>> {
        let mut unsent = Vec::new();
        for call in std::mem::take(self).queue {
            match call {
                Queued::Accept { operations, .. } => unsent.push(operations),
                Queued::Acknowledge(_) | Queued::Shutdown { .. } | Queued::Teardown => {
                    self.push(call);
                }
                // Kills and questions are planned anew; suppression is part of the next SUBSCRIBE; messages are best
                // effort; a declined offer is gone with its subscription.
                Queued::Kill(_)
                | Queued::Reconcile(_)
                | Queued::Decline { .. }
                | Queued::Revive(_)
                | Queued::Suppress(_)
                | Queued::Message { .. } => {}
            }
        }
        unsent
    }
}
