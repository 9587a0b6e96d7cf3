//! Making statuses and events.

use mezzo_model::ids::AgentId;
use mezzo_model::{TaskState, Wall};
use mezzo_wire::v1;
use mezzo_wire::v1::scheduler::{Event, event};
use mezzo_wire::v1::task_status::{Reason, Source};

use super::framework::Framework;
use super::{Cx, Output};
use crate::keys::ConnId;

/// A status that the master makes: it has no uuid and is not acknowledged.
pub(super) fn made_here(
    task: &v1::TaskId,
    agent: Option<&v1::AgentId>,
    state: TaskState,
    reason: Reason,
    message: impl Into<String>,
    now: Wall,
) -> v1::TaskStatus {
    v1::TaskStatus {
        task_id: task.clone(),
        state: state.number(),
        message: Some(message.into()),
        source: Some(Source::Master as i32),
        reason: Some(reason as i32),
        agent_id: agent.cloned(),
        timestamp: Some(now.as_secs_f64()),
        ..Default::default()
    }
}

/// What a framework that is not partition-aware is told instead.
pub(super) fn as_known(framework: &Framework, state: TaskState) -> TaskState {
    match state {
        TaskState::Unreachable
        | TaskState::Dropped
        | TaskState::Gone
        | TaskState::GoneByOperator
        | TaskState::Unknown
            if !framework.is_partition_aware() =>
        {
            TaskState::Lost
        }
        other => other,
    }
}

pub(super) fn event(kind: event::Type) -> Event {
    Event {
        r#type: Some(kind as i32),
        ..Default::default()
    }
}

pub(super) fn update(status: v1::TaskStatus) -> Event {
    Event {
        update: Some(event::Update { status }),
        ..event(event::Type::Update)
    }
}

pub(super) fn error(message: impl Into<String>) -> Event {
    Event {
        error: Some(event::Error {
            message: message.into(),
        }),
        ..event(event::Type::Error)
    }
}

pub(super) fn failure(agent: &AgentId, executor: Option<(v1::ExecutorId, i32)>) -> Event {
    let (executor_id, status) = executor.unzip();
    Event {
        failure: Some(event::Failure {
            agent_id: Some(agent.to_wire()),
            executor_id,
            status,
        }),
        ..event(event::Type::Failure)
    }
}

impl Cx<'_> {
    pub(super) fn event(&mut self, conn: ConnId, event: Event) {
        self.push(Output::Event {
            conn,
            event: Box::new(event),
        });
    }

    /// Sends an event if the framework's stream is open; whether it is.
    pub(super) fn tell(&mut self, framework: &Framework, event: Event) -> bool {
        match framework.conn() {
            Some(conn) => {
                self.event(conn, event);
                true
            }
            None => false,
        }
    }
}
