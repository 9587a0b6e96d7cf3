//! What a leading master says to a registered agent, one function for each order.

use mezzo_model::TaskState;
use mezzo_model::ids::{ExecutorId, FrameworkId, TaskId};
use mezzo_wire::link;
use mezzo_wire::link::master_message::Body as Order;
use mezzo_wire::v1::task_status::Reason;

use super::io::{NoteLevel, Output};
use super::launch::Refusal;
use super::record::{Record, TaskKey, update_id};
use super::report::event_message;
use super::state::{After, Leaving, Stage, Stream};
use super::timers::Timer;
use super::{Core, Cx};

impl Core {
    pub(super) fn on_order(&mut self, cx: &mut Cx<'_>, order: Order) {
        match order {
            Order::Welcome(_) | Order::Refused(_) => {
                cx.warn("the master greeted a second time; ignored");
            }
            Order::Ping(ping) => self.on_ping(cx, ping.sequence),
            Order::RunTask(run) => self.on_run_task(cx, run),
            Order::RunTaskGroup(run) => self.on_run_group(cx, run),
            Order::KillTask(kill) => self.on_kill(cx, &kill),
            Order::Acknowledge(ack) => self.on_acknowledge(cx, &ack),
            Order::FrameworkMessage(message) => self.on_framework_message(cx, message),
            Order::ShutdownExecutor(shutdown) => self.on_shutdown_executor(cx, &shutdown),
            Order::ShutdownFramework(shutdown) => self.on_shutdown_framework(cx, &shutdown),
            Order::UpdateFramework(update) => self.on_update_framework(cx, update),
            Order::ReconcileTasks(asked) => self.on_reconcile(cx, &asked),
            Order::ReadSandbox(read) => self.on_read(cx, &read),
            Order::CancelRead(cancel) => cx.push(Output::CancelRead {
                link: self.link.last,
                request: cancel.request_id,
            }),
            Order::Shutdown(shutdown) => self.on_shutdown(cx, shutdown.message.as_deref()),
        }
    }

    fn on_acknowledge(&mut self, cx: &mut Cx<'_>, ack: &link::AcknowledgeUpdate) {
        let Some(task) = task_key(&ack.framework_id, &ack.task_id) else {
            return;
        };
        let Ok(uuid) = ack.uuid.as_ref().try_into() else {
            cx.warn(format!(
                "an acknowledgement for task {} has no usable uuid",
                task.1
            ));
            return;
        };
        let head = self
            .ledger
            .tasks
            .get(&task)
            .and_then(|entry| entry.pending.front())
            .and_then(|head| update_id(head));
        let durable = self.streams.get(&task).map_or(0, |stream| stream.durable);
        if head != Some(uuid) || durable == 0 {
            // A repeated acknowledgement of a repeated update.
            return;
        }
        self.log(
            cx,
            vec![Record::Acknowledged {
                task: task.clone(),
                uuid,
            }],
            false,
            Vec::new(),
        );
        self.timers.clear(&Timer::Resend(task.clone()));
        if !self.ledger.tasks.contains_key(&task) {
            self.streams.remove(&task);
            return;
        }
        if let Some(stream) = self.streams.get_mut(&task) {
            *stream = Stream {
                durable: stream.durable - 1,
                state: stream.state,
                ..Stream::default()
            };
        }
        self.send_head(cx, &task);
    }

    fn on_framework_message(&mut self, cx: &mut Cx<'_>, message: link::FrameworkMessage) {
        let Some((framework, executor)) = executor_key(&message.framework_id, &message.executor_id)
        else {
            return;
        };
        // Messages are best effort: who is not there does not get them.
        match self.conn_of(&framework, &executor) {
            Some(conn) => cx.push(Output::ToExecutor {
                conn,
                event: Box::new(event_message(message.data)),
            }),
            None => cx.warn(format!(
                "a message for executor {executor} of {framework} was dropped: it is not subscribed"
            )),
        }
    }

    fn on_shutdown_executor(&mut self, cx: &mut Cx<'_>, shutdown: &link::ShutdownExecutor) {
        let Some((framework, executor)) =
            executor_key(&shutdown.framework_id, &shutdown.executor_id)
        else {
            return;
        };
        match self.container_of(&framework, &executor) {
            Some(container) => self.stop_container(cx, &container, None),
            None => cx.warn(format!(
                "executor {executor} of {framework} is to be shut down, and is not here"
            )),
        }
    }

    fn on_shutdown_framework(&mut self, cx: &mut Cx<'_>, shutdown: &link::ShutdownFramework) {
        let Ok(id) = FrameworkId::from_wire(&shutdown.framework_id) else {
            return;
        };
        if !self.ledger.frameworks.contains_key(&id) {
            return;
        }
        let over: Vec<TaskKey> = self
            .ledger
            .tasks_of(&id)
            .filter(|(_, entry)| entry.state().is_terminal())
            .map(|(key, _)| key.clone())
            .collect();
        self.log(
            cx,
            vec![Record::FrameworkRemoved { id: id.clone() }],
            false,
            Vec::new(),
        );
        for task in over {
            self.drop_stream(&task);
        }
        let containers: Vec<_> = self
            .ledger
            .containers
            .iter()
            .filter(|(_, entry)| entry.record.framework == id)
            .map(|(container, _)| container.clone())
            .collect();
        for container in containers {
            self.stop_container(cx, &container, None);
        }
    }

    fn on_update_framework(&mut self, cx: &mut Cx<'_>, update: link::UpdateFramework) {
        let id = update
            .framework
            .id
            .as_ref()
            .and_then(|id| FrameworkId::from_wire(id).ok());
        let Some(id) = id else { return };
        let Some(known) = self.ledger.frameworks.get(&id) else {
            return;
        };
        if *known.info != update.framework {
            let record = Record::Framework(update.framework.into());
            self.log(cx, vec![record], false, Vec::new());
        }
        self.send_heads(cx, Some(&id));
    }

    /// The master believes in tasks that our Hello did not hold: nothing of them is alive here. A task whose end was
    /// acknowledged is not among them, unless its id is used again and the second launch was lost on the way; so that
    /// is answered like any other.
    fn on_reconcile(&mut self, cx: &mut Cx<'_>, asked: &link::ReconcileTasks) {
        for id in &asked.task_ids {
            let Some(task) = task_key(&asked.framework_id, id) else {
                continue;
            };
            if self.ledger.tasks.contains_key(&task) {
                self.send_head(cx, &task);
                continue;
            }
            self.answer_unknown(
                cx,
                &task,
                &Refusal {
                    state: TaskState::Dropped,
                    reason: Reason::Reconciliation,
                    message: "Reconciliation: task unknown to the agent".to_owned(),
                },
            );
        }
    }

    pub(super) fn on_shutdown(&mut self, cx: &mut Cx<'_>, message: Option<&str>) {
        let message = message
            .unwrap_or("the master removed this agent")
            .to_owned();
        cx.note(
            NoteLevel::Error,
            format!("shut down by the master: {message}; ending all tasks"),
        );
        self.leave(cx, Leaving::Removed { message });
    }

    pub(super) fn on_end_all(&mut self, cx: &mut Cx<'_>) {
        cx.info("asked to end all tasks");
        self.leave(cx, Leaving::Asked);
    }

    fn leave(&mut self, cx: &mut Cx<'_>, why: Leaving) {
        if matches!(self.stage, Stage::Leaving(_)) && why == Leaving::Asked {
            return;
        }
        self.stage = Stage::Leaving(why);
        let containers: Vec<_> = self.ledger.containers.keys().cloned().collect();
        for container in containers {
            self.stop_container(cx, &container, None);
        }
    }

    /// Once nothing runs any more the agent that leaves may go.
    pub(super) fn leave_when_empty(&mut self, cx: &mut Cx<'_>) {
        let Stage::Leaving(why) = &self.stage else {
            return;
        };
        if !self.ledger.containers.is_empty() {
            return;
        }
        let unsafe_yet = self
            .writes
            .values()
            .flatten()
            .any(|after| matches!(after, After::Updated(..) | After::Forgotten));
        if unsafe_yet {
            return;
        }
        match why {
            Leaving::Asked => self.stop(cx, None),
            Leaving::Removed { .. } => {
                let record = Record::Agent { id: None };
                let tasks: Vec<TaskKey> = self.streams.keys().cloned().collect();
                for task in tasks {
                    self.drop_stream(&task);
                }
                self.hang_up(cx);
                self.log(cx, vec![record], true, vec![After::Forgotten]);
            }
        }
    }

    pub(super) fn on_forgotten(&mut self, cx: &mut Cx<'_>) {
        let error = match &self.stage {
            Stage::Leaving(Leaving::Removed { message }) => Some(format!(
                "the master removed this agent ({message}); started again it registers as a new one"
            )),
            _ => None,
        };
        self.stop(cx, error);
    }

    fn stop(&mut self, cx: &mut Cx<'_>, error: Option<String>) {
        self.stage = Stage::Stopped;
        cx.push(Output::Stop { error });
    }
}

/// The key of a task that a message names; ids that break the rule name nothing.
pub(super) fn task_key(
    framework: &mezzo_wire::v1::FrameworkId,
    task: &mezzo_wire::v1::TaskId,
) -> Option<TaskKey> {
    Some((
        FrameworkId::from_wire(framework).ok()?,
        TaskId::from_wire(task).ok()?,
    ))
}

fn executor_key(
    framework: &mezzo_wire::v1::FrameworkId,
    executor: &mezzo_wire::v1::ExecutorId,
) -> Option<(FrameworkId, ExecutorId)> {
    Some((
        FrameworkId::from_wire(framework).ok()?,
        ExecutorId::from_wire(executor).ok()?,
    ))
}
