//! What the core says, as messages: Hello with the full truth, tasks, executors, and the events for executors.
//!
//! Nothing here changes anything. A task's state is told as far as it is safe (see the module of the core).

use mezzo_model::TaskState;
use mezzo_model::ids::{ContainerId, TaskId};
use mezzo_wire::link;
use mezzo_wire::v1;
use mezzo_wire::v1::executor::{Event, event};

use super::Core;
use super::ledger::{ContainerEntry, TaskEntry};
use super::record::{ExecutorKind, TaskKey, UpdateId};

/// A command longer than this is cut in the name of its executor.
const NAME_COMMAND_MAX: usize = 15;

impl Core {
    /// The agent as it describes itself.
    pub(crate) fn agent_info(&self) -> v1::AgentInfo {
        v1::AgentInfo {
            hostname: self.config.hostname.clone(),
            port: Some(i32::from(self.config.port)),
            resources: self.config.resources.clone(),
            attributes: self.config.attributes.clone(),
            id: self.ledger.agent.as_ref().map(Into::into),
            domain: None,
        }
    }

    pub(super) fn hello(&self) -> link::Hello {
        let custom = self.ledger.containers.values().filter_map(executor_info_of);
        link::Hello {
            link_version: mezzo_wire::version::LINK_VERSION,
            agent_version: self.config.version.clone(),
            agent: self.agent_info(),
            highest_epoch: self.ledger.epoch.as_ref().map(|epoch| epoch.to_wire()),
            boot_id: self.config.boot_id.to_string(),
            tasks: self
                .ledger
                .tasks
                .iter()
                .map(|(key, entry)| self.task(key, entry))
                .collect(),
            executors: custom.cloned().collect(),
            frameworks: self
                .ledger
                .frameworks
                .values()
                .map(|entry| entry.info.as_ref().clone())
                .collect(),
            connection: self.link.last,
            incarnation: self.incarnation.clone(),
        }
    }

    /// A task with its newest safe state, and the head of its stream.
    fn task(&self, key: &TaskKey, entry: &TaskEntry) -> v1::Task {
        let stream = self.streams.get(key);
        let durable = stream.map_or(0, |stream| stream.durable);
        let state = stream.map_or(TaskState::Staging, |stream| stream.state);
        // All that was acknowledged is safe; of what waits, as much as is durable.
        let newest = match durable.checked_sub(1) {
            Some(at) => entry.pending.get(at),
            None if entry.pending.is_empty() => entry.latest.as_ref(),
            None => None,
        };
        let head = entry.pending.front().filter(|_| durable > 0).or(newest);
        let info = &entry.record.info;
        let container = entry
            .record
            .container
            .as_ref()
            .and_then(|id| self.ledger.containers.get(id));
        v1::Task {
            name: info.name.clone(),
            task_id: key.1.to_wire(),
            framework_id: key.0.to_wire(),
            executor_id: info
                .executor
                .as_ref()
                .map(|executor| executor.executor_id.clone()),
            agent_id: info.agent_id.clone(),
            state: state.number(),
            resources: info.resources.clone(),
            statuses: newest
                .map(|status| status.as_ref().clone())
                .into_iter()
                .collect(),
            status_update_state: head.map(|status| status.state),
            status_update_uuid: head.and_then(|status| status.uuid.clone()),
            labels: info.labels.clone(),
            discovery: info.discovery.clone(),
            container: info.container.clone(),
            health_check: info.health_check.clone(),
            kill_policy: info.kill_policy,
            user: container.map(|entry| entry.record.user.to_string()),
            limits: info.limits.clone(),
        }
    }

    /// What an executor is told when it has subscribed.
    pub(super) fn subscribed_event(&self, container: &ContainerId) -> Option<event::Subscribed> {
        let entry = self.ledger.containers.get(container)?;
        let framework = self.ledger.frameworks.get(&entry.record.framework)?;
        let executor_info = match &entry.record.kind {
            ExecutorKind::Custom(info) => info.as_ref().clone(),
            ExecutorKind::Command => self.command_executor_info(entry),
        };
        Some(event::Subscribed {
            executor_info,
            framework_info: framework.info.as_ref().clone(),
            agent_info: self.agent_info(),
            container_id: Some(container.to_wire()),
        })
    }

    /// The executor that stands behind a command task, as Mesos describes its own.
    fn command_executor_info(&self, entry: &ContainerEntry) -> v1::ExecutorInfo {
        let record = &entry.record;
        let id = record.executor.as_str();
        let task = TaskId::parse(id)
            .ok()
            .and_then(|task| self.ledger.tasks.get(&(record.framework.clone(), task)));
        let info = task.map(|task| &task.record.info);
        let command = info.and_then(|info| info.command.as_ref());
        let words = command.map(command_words).unwrap_or_default();
        v1::ExecutorInfo {
            executor_id: record.executor.to_wire(),
            framework_id: Some(record.framework.to_wire()),
            name: Some(format!("Command Executor (Task: {id}) (Command: {words})")),
            source: Some(id.to_owned()),
            labels: info.and_then(|info| info.labels.clone()),
            discovery: info.and_then(|info| info.discovery.clone()),
            ..Default::default()
        }
    }
}

fn executor_info_of(entry: &ContainerEntry) -> Option<&v1::ExecutorInfo> {
    match &entry.record.kind {
        ExecutorKind::Custom(info) => Some(info),
        ExecutorKind::Command => None,
    }
}

fn command_words(command: &v1::CommandInfo) -> String {
    let value = command.value.as_deref().unwrap_or_default();
    if command.shell.unwrap_or(true) {
        let short: String = match value.chars().count() {
            length if length > NAME_COMMAND_MAX => value
                .chars()
                .take(NAME_COMMAND_MAX - 3)
                .chain("...".chars())
                .collect(),
            _ => value.to_owned(),
        };
        format!("sh -c '{short}'")
    } else {
        value.to_owned()
    }
}

/// Whether a framework says that it understands something.
pub(super) fn has_capability(
    info: &v1::FrameworkInfo,
    kind: v1::framework_info::capability::Type,
) -> bool {
    info.capabilities
        .iter()
        .any(|capability| capability.r#type == Some(kind as i32))
}

pub(super) fn event_subscribed(subscribed: event::Subscribed) -> Event {
    Event {
        r#type: Some(event::Type::Subscribed as i32),
        subscribed: Some(subscribed),
        ..Default::default()
    }
}

pub(super) fn event_launch(task: v1::TaskInfo) -> Event {
    Event {
        r#type: Some(event::Type::Launch as i32),
        launch: Some(event::Launch { task }),
        ..Default::default()
    }
}

pub(super) fn event_launch_group(tasks: Vec<v1::TaskInfo>) -> Event {
    Event {
        r#type: Some(event::Type::LaunchGroup as i32),
        launch_group: Some(event::LaunchGroup {
            task_group: v1::TaskGroupInfo { tasks },
        }),
        ..Default::default()
    }
}

pub(super) fn event_kill(task: &TaskId, policy: Option<v1::KillPolicy>) -> Event {
    Event {
        r#type: Some(event::Type::Kill as i32),
        kill: Some(event::Kill {
            task_id: task.to_wire(),
            kill_policy: policy,
        }),
        ..Default::default()
    }
}

pub(super) fn event_acknowledged(task: &TaskId, uuid: UpdateId) -> Event {
    Event {
        r#type: Some(event::Type::Acknowledged as i32),
        acknowledged: Some(event::Acknowledged {
            task_id: task.to_wire(),
            uuid: uuid.to_vec().into(),
        }),
        ..Default::default()
    }
}

pub(super) fn event_message(data: prost::bytes::Bytes) -> Event {
    Event {
        r#type: Some(event::Type::Message as i32),
        message: Some(event::Message { data }),
        ..Default::default()
    }
}

pub(super) fn event_shutdown() -> Event {
    Event {
        r#type: Some(event::Type::Shutdown as i32),
        ..Default::default()
    }
}

pub(super) fn event_error(message: &str) -> Event {
    Event {
        r#type: Some(event::Type::Error as i32),
        error: Some(event::Error {
            message: message.to_owned(),
        }),
        ..Default::default()
    }
}
