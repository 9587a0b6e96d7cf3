//! Updates that the agent has not acknowledged, in the order in which they were reported.

use std::collections::VecDeque;

use mezzo_model::TaskState;
use mezzo_wire::v1::TaskStatus;
use mezzo_wire::v1::executor::call;

/// Most updates that wait; beyond it, one that a newer update of its task makes stale is dropped.
const PENDING_MAX: usize = 1_000;

/// The queue of unacknowledged updates.
#[derive(Debug, Default)]
pub(super) struct Pending {
    updates: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    status: TaskStatus,
    /// Said on the connection that is open now.
    sent: bool,
}

impl Pending {
    pub(super) fn len(&self) -> usize {
        self.updates.len()
    }

    /// Adds an update; returns the stale one that had to go for it.
    pub(super) fn push(&mut self, status: TaskStatus, sent: bool) -> Option<TaskStatus> {
        let full = self.updates.len() >= PENDING_MAX;
        self.updates.push_back(Waiting { status, sent });
        if !full {
            return None;
        }
        let stale = (0..self.updates.len()).find(|&index| self.is_stale(index))?;
        self.updates.remove(stale).map(|waiting| waiting.status)
    }

    /// Whether a later update says as much: one that is not terminal, with a newer one of its task behind it.
    fn is_stale(&self, index: usize) -> bool {
        let Some(this) = self.updates.get(index) else {
            return false;
        };
        let task = &this.status.task_id;
        let mut later = self.updates.iter().skip(index + 1);
        !state(&this.status).is_terminal() && later.any(|w| w.status.task_id == *task)
    }

    /// All of them for a SUBSCRIBE, which counts as saying them.
    pub(super) fn take_all_as_sent(&mut self) -> Vec<call::Update> {
        self.updates
            .iter_mut()
            .map(|waiting| {
                waiting.sent = true;
                call::Update {
                    status: waiting.status.clone(),
                }
            })
            .collect()
    }

    /// Those not said yet, which count as said now.
    pub(super) fn take_unsent(&mut self) -> Vec<TaskStatus> {
        self.updates
            .iter_mut()
            .filter(|waiting| !waiting.sent)
            .map(|waiting| {
                waiting.sent = true;
                waiting.status.clone()
            })
            .collect()
    }

    /// The connection is gone: nothing was said on the next one.
    pub(super) fn forget_sent(&mut self) {
        for waiting in &mut self.updates {
            waiting.sent = false;
        }
    }

    /// Takes the update out that an acknowledgement names.
    pub(super) fn acknowledge(&mut self, task_id: &str, uuid: &[u8]) -> Option<TaskStatus> {
        let index = self.updates.iter().position(|waiting| {
            waiting.status.task_id.value == task_id && waiting.status.uuid.as_deref() == Some(uuid)
        })?;
        self.updates.remove(index).map(|waiting| waiting.status)
    }
}

/// The state of a status; one with a number that nobody knows counts as unknown.
pub(super) fn state(status: &TaskStatus) -> TaskState {
    TaskState::from_number(status.state).unwrap_or(TaskState::Unknown)
}
