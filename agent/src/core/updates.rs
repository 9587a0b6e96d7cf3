//! Status updates: taking them in, making them safe, sending them, sending them again.
//!
//! Each task has one stream. An update joins it, is written (a terminal one: flushed), is acknowledged to the executor,
//! and when it comes to the head it is sent to the master until the scheduler acknowledges it: at once, again after 10
//! s, then twice as late each time up to 10 min, and at once whenever a master welcomes the agent or a framework comes
//! back.

use std::sync::Arc;

use mezzo_model::ids::{ContainerId, FrameworkId, TaskId};
use mezzo_model::{TaskState, Wall};
use mezzo_wire::link;
use mezzo_wire::link::agent_message::Body as ToMaster;
use mezzo_wire::v1;
use mezzo_wire::v1::task_status::{Reason, Source};

use super::io::{ConnId, Output};
use super::record::{Record, TaskKey, UpdateId, state_of, update_id};
use super::report::event_acknowledged;
use super::state::{After, LINGER, NUDGE, RESEND_FIRST, RESEND_MAX};
use super::timers::Timer;
use super::{Core, Cx};

impl Core {
    /// An executor reports.
    pub(super) fn on_update(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnId,
        container: &ContainerId,
        status: v1::TaskStatus,
    ) {
        let Some(entry) = self.ledger.containers.get(container) else {
            return;
        };
        let record = entry.record.clone();
        let uuid = match check(&status, record.executor.as_str()) {
            Ok(uuid) => uuid,
            Err(words) => return self.refuse_call(cx, conn, &words),
        };
        let Ok(id) = TaskId::from_wire(&status.task_id) else {
            return self.refuse_call(cx, conn, "the update's task id is not a usable id");
        };
        let task = (record.framework.clone(), id);
        let state = state_of(&status);
        let known = self.ledger.tasks.get(&task);
        let ours = known.filter(|entry| entry.record.container.as_ref() == Some(container));
        let Some(entry) = ours else {
            // Its end was acknowledged long ago, or it never was: the executor is to be quiet about it.
            self.counters.updates_refused += 1;
            cx.warn(format!(
                "{state} for task {} was ignored: it is not known here",
                task.1
            ));
            return acknowledge(cx, conn, &task.1, uuid);
        };
        if entry.knows(&uuid) {
            let safe = !entry
                .pending
                .iter()
                .skip(self.streams.get(&task).map_or(0, |stream| stream.durable))
                .any(|status| update_id(status) == Some(uuid));
            if safe {
                acknowledge(cx, conn, &task.1, uuid);
            }
            return;
        }
        if entry.state().is_terminal() {
            self.counters.updates_refused += 1;
            cx.warn(format!(
                "{state} for task {} was ignored: it is {} already",
                task.1,
                entry.state()
            ));
            return acknowledge(cx, conn, &task.1, uuid);
        }
        let queued = self.executors.get(container).is_some_and(|executor| {
            executor
                .queue
                .iter()
                .any(|queued| queued.tasks.contains(&task.1))
        });
        if queued && !state.is_terminal() {
            self.counters.updates_refused += 1;
            cx.warn(format!(
                "{state} for task {} was ignored: it was not handed over yet",
                task.1
            ));
            return acknowledge(cx, conn, &task.1, uuid);
        }
        if queued && let Some(executor) = self.executors.get_mut(container) {
            for queued in &mut executor.queue {
                queued.tasks.retain(|id| *id != task.1);
            }
            executor.queue.retain(|queued| !queued.tasks.is_empty());
        }
        let status = self.complete_status(cx.now.wall, container, status);
        self.counters.updates_taken += 1;
        self.join_stream(cx, &task, status, uuid, Some(container.clone()));
    }

    /// Adds what the agent knows better than the executor.
    fn complete_status(
        &self,
        now: Wall,
        container: &ContainerId,
        mut status: v1::TaskStatus,
    ) -> v1::TaskStatus {
        status.agent_id = self.ledger.agent.as_ref().map(Into::into);
        status.timestamp.get_or_insert(now.as_secs_f64());
        if let Some(entry) = self.ledger.containers.get(container) {
            status.executor_id = Some(entry.record.executor.to_wire());
            let known = status.container_status.get_or_insert_default();
            known.container_id.get_or_insert(container.to_wire());
            if known.executor_pid.is_none() {
                known.executor_pid = entry.process.map(|process| process.pid);
            }
            if known.network_infos.is_empty() {
                let address = v1::network_info::IpAddress {
                    ip_address: Some(self.config.ip.to_string()),
                    ..Default::default()
                };
                known.network_infos.push(v1::NetworkInfo {
                    ip_addresses: vec![address],
                    ..Default::default()
                });
            }
        }
        status
    }

    /// `from` is the container whose executor waits for the acknowledgement.
    fn join_stream(
        &mut self,
        cx: &mut Cx<'_>,
        task: &TaskKey,
        status: v1::TaskStatus,
        uuid: UpdateId,
        from: Option<ContainerId>,
    ) {
        let state = state_of(&status);
        let stream = self.streams.entry(task.clone()).or_default();
        // A full stream gives up the last update that waits behind the head, which may be safe already.
        stream.durable = stream.durable.min(super::ledger::PENDING_MAX - 1);
        let record = Record::Update {
            task: task.clone(),
            status: Arc::new(status),
        };
        let after = vec![After::Updated(task.clone(), uuid, from)];
        self.log(cx, vec![record], state.is_terminal(), after);
        if state.is_terminal() {
            self.count_end(state);
            self.after_end(cx, task);
        }
        if !self.ledger.tasks.contains_key(task) {
            // Its framework is gone: nobody is told.
            self.drop_stream(task);
        }
    }

    /// The agent itself says that a task has ended. A task that has ended already stays as it is.
    pub(super) fn end_task(
        &mut self,
        cx: &mut Cx<'_>,
        task: &TaskKey,
        state: TaskState,
        reason: Reason,
        message: &str,
    ) {
        let Some(entry) = self.ledger.tasks.get(task) else {
            return;
        };
        if entry.state().is_terminal() {
            return;
        }
        let container = entry.record.container.clone();
        let state = super::launch::told_state(state, self.is_aware(&task.0));
        let mut status = self.agent_status(cx.now.wall, &task.1, state, reason, message);
        status.executor_id = container
            .and_then(|id| self.ledger.containers.get(&id))
            .map(|entry| entry.record.executor.to_wire());
        if let Some(uuid) = update_id(&status) {
            self.join_stream(cx, task, status, uuid, None);
        }
    }

    fn is_aware(&self, framework: &FrameworkId) -> bool {
        let kind = v1::framework_info::capability::Type::PartitionAware;
        self.ledger
            .frameworks
            .get(framework)
            .is_none_or(|entry| super::report::has_capability(&entry.info, kind))
    }

    pub(super) fn agent_status(
        &mut self,
        now: Wall,
        task: &TaskId,
        state: TaskState,
        reason: Reason,
        message: &str,
    ) -> v1::TaskStatus {
        v1::TaskStatus {
            task_id: task.to_wire(),
            state: state.number(),
            message: Some(message.to_owned()),
            source: Some(Source::Agent as i32),
            reason: Some(reason as i32),
            agent_id: self.ledger.agent.as_ref().map(Into::into),
            timestamp: Some(now.as_secs_f64()),
            uuid: Some(self.ids.uuid_bytes().to_vec().into()),
            ..Default::default()
        }
    }

    /// The task needs nothing of its container any more.
    fn after_end(&mut self, cx: &mut Cx<'_>, task: &TaskKey) {
        cx.push(Output::ReadsEnd { task: task.clone() });
        let container = self
            .ledger
            .tasks
            .get(task)
            .and_then(|entry| entry.record.container.clone());
        if let Some(container) = container {
            self.resize(cx, &container);
        }
    }

    pub(super) fn count_end(&mut self, state: TaskState) {
        match state {
            TaskState::Finished => self.counters.tasks_finished += 1,
            TaskState::Killed => self.counters.tasks_killed += 1,
            _ => self.counters.tasks_failed += 1,
        }
    }

    /// An update is written, or flushed if terminal: now others may hear of it.
    pub(super) fn on_update_safe(
        &mut self,
        cx: &mut Cx<'_>,
        task: &TaskKey,
        uuid: UpdateId,
        from: Option<ContainerId>,
    ) {
        if let Some(executor) = from.as_ref().and_then(|id| self.executors.get(id))
            && let (true, Some(conn)) = (executor.subscribed, executor.conn)
        {
            acknowledge(cx, conn, &task.1, uuid);
        }
        if let Some(container) = &from {
            self.expect_leaving(cx, container);
        }
        let Some(entry) = self.ledger.tasks.get(task) else {
            return;
        };
        let at = entry
            .pending
            .iter()
            .position(|status| update_id(status) == Some(uuid));
        let Some(at) = at else { return };
        let state = state_of(&entry.pending[at]);
        let stream = self.streams.entry(task.clone()).or_default();
        stream.durable = stream.durable.max(at + 1);
        stream.state = state;
        if !stream.in_flight {
            self.send_head(cx, task);
        } else if at > 0 && state.is_terminal() {
            let timer = Timer::Resend(task.clone());
            let soon = cx.now.mono + NUDGE;
            let at = self.timers.at(&timer).map_or(soon, |known| known.min(soon));
            self.timers.set(timer, at);
        }
    }

    /// Our own executor leaves when the end of its task is acknowledged to it; one that does not is ended.
    fn expect_leaving(&mut self, cx: &mut Cx<'_>, container: &ContainerId) {
        let over = self
            .ledger
            .containers
            .get(container)
            .is_some_and(|entry| entry.tasks.is_empty() && !entry.record.is_custom());
        let timer = Timer::End(container.clone());
        let by = cx.now.mono + LINGER;
        if over && self.timers.at(&timer).is_none_or(|at| at > by) {
            self.timers.set(timer, by);
        }
    }

    /// Sends the head of a stream, if there is one that is safe, nothing of the stream is in flight, and somebody
    /// hears.
    pub(super) fn send_head(&mut self, cx: &mut Cx<'_>, task: &TaskKey) {
        let up = self.is_up();
        let (Some(entry), Some(stream)) = (self.ledger.tasks.get(task), self.streams.get_mut(task))
        else {
            return;
        };
        let Some(head) = entry.pending.front().filter(|_| up && stream.durable > 0) else {
            return;
        };
        stream.in_flight = true;
        let update = link::StatusUpdate {
            framework_id: task.0.to_wire(),
            status: head.as_ref().clone(),
            latest_state: stream.state.number(),
        };
        let at = cx.now.mono + stream.interval;
        self.timers.set(Timer::Resend(task.clone()), at);
        self.send(cx, ToMaster::Update(update));
    }

    pub(super) fn on_resend(&mut self, cx: &mut Cx<'_>, task: &TaskKey) {
        let Some(stream) = self.streams.get_mut(task) else {
            return;
        };
        stream.interval = (stream.interval * 2).min(RESEND_MAX);
        self.send_head(cx, task);
    }

    /// Sends the heads of all streams, or of one framework's, at once.
    pub(super) fn send_heads(&mut self, cx: &mut Cx<'_>, framework: Option<&FrameworkId>) {
        let tasks: Vec<TaskKey> = self
            .streams
            .keys()
            .filter(|(owner, _)| framework.is_none_or(|framework| framework == owner))
            .cloned()
            .collect();
        for task in tasks {
            if let Some(stream) = self.streams.get_mut(&task) {
                stream.interval = RESEND_FIRST;
            }
            self.send_head(cx, &task);
        }
    }

    pub(super) fn drop_stream(&mut self, task: &TaskKey) {
        self.streams.remove(task);
        self.timers.clear(&Timer::Resend(task.clone()));
    }
}

/// Checks an update of an executor against the rules of the executor API.
fn check(status: &v1::TaskStatus, executor: &str) -> Result<UpdateId, String> {
    let Some(uuid) = update_id(status) else {
        return Err("Not a valid UUID: 'status.uuid' must have 16 bytes".to_owned());
    };
    if let Some(id) = &status.executor_id
        && id.value != executor
    {
        return Err("ExecutorID in Call does not match ExecutorID in TaskStatus".to_owned());
    }
    if status.source != Some(Source::Executor as i32) {
        return Err(
            "Received Call from executor with a source that is not SOURCE_EXECUTOR".to_owned(),
        );
    }
    match TaskState::from_number(status.state) {
        None => Err("the state of the update is not a known one".to_owned()),
        Some(TaskState::Staging) => {
            Err("Received TASK_STAGING from executor, which is not allowed".to_owned())
        }
        Some(_) => Ok(uuid),
    }
}

fn acknowledge(cx: &mut Cx<'_>, conn: ConnId, task: &TaskId, uuid: UpdateId) {
    cx.push(Output::ToExecutor {
        conn,
        event: Box::new(event_acknowledged(task, uuid)),
    });
}
