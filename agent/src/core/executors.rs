//! What executors say: hello, SUBSCRIBE, updates, messages.
//!
//! Who may say hello was proved before (the token of the container). What breaks the rules of the executor API is
//! answered with an ERROR event in words, and the connection is closed.

use mezzo_model::ids::{ContainerId, ExecutorId, FrameworkId, TaskId};
use mezzo_wire::link;
use mezzo_wire::link::agent_message::Body as ToMaster;
use mezzo_wire::v1::executor::{Call, call};

use super::io::{ConnId, Output};
use super::record::Process;
use super::record::Record;
use super::report::{event_error, event_shutdown, event_subscribed};
use super::state::{Phase, Stage};
use super::timers::Timer;
use super::{Core, Cx};

impl Core {
    /// The connection of a subscribed executor that its framework may name.
    pub(super) fn conn_of(&self, framework: &FrameworkId, executor: &ExecutorId) -> Option<ConnId> {
        let container = self.container_of(framework, executor)?;
        let executor = self.executors.get(&container)?;
        executor.conn.filter(|_| executor.subscribed)
    }

    /// The newest container of an executor: that of a framework's own, or the one of a command task by the task's id.
    pub(super) fn container_of(
        &self,
        framework: &FrameworkId,
        executor: &ExecutorId,
    ) -> Option<ContainerId> {
        let name = (framework.clone(), executor.clone());
        if let Some(container) = self.ledger.executors.get(&name) {
            return Some(container.clone());
        }
        let task = TaskId::parse(executor.as_str()).ok()?;
        let entry = self.ledger.tasks.get(&(framework.clone(), task))?;
        let container = entry.record.container.as_ref()?;
        let known = self.ledger.containers.get(container)?;
        (known.record.executor == *executor).then(|| container.clone())
    }

    pub(super) fn on_launched(
        &mut self,
        cx: &mut Cx<'_>,
        container: &ContainerId,
        process: Process,
    ) {
        if !self.ledger.containers.contains_key(container) {
            return;
        }
        let record = Record::Started {
            container: container.clone(),
            process,
        };
        self.log(cx, vec![record], false, Vec::new());
        let Some(executor) = self.executors.get_mut(container) else {
            return;
        };
        if executor.phase == Phase::Starting {
            executor.phase = Phase::Alive;
            if !executor.registered {
                self.timers.set(
                    Timer::Subscribe(container.clone()),
                    cx.now.mono + self.config.registration_timeout,
                );
            }
        }
    }

    pub(super) fn on_hello(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnId,
        framework: &FrameworkId,
        executor: &ExecutorId,
        container: &ContainerId,
    ) {
        let refusal = match self.ledger.containers.get(container) {
            _ if matches!(self.stage, Stage::New | Stage::Probing) => {
                Some("the agent is still recovering; try again".to_owned())
            }
            None => Some(format!("container {container} is not known to this agent")),
            Some(entry) if entry.record.framework != *framework => Some(format!(
                "container {container} is not one of framework {framework}"
            )),
            Some(entry) if entry.record.executor != *executor => Some(format!(
                "container {container} is not that of executor {executor}"
            )),
            Some(_) => None,
        };
        let state = self.executors.get_mut(container);
        let (None, Some(state)) = (&refusal, state) else {
            let words = refusal.unwrap_or_else(|| "the executor has ended".to_owned());
            cx.push(Output::AnswerHello {
                conn,
                answer: Err(words),
            });
            return;
        };
        if state.phase == Phase::Destroying {
            cx.push(Output::AnswerHello {
                conn,
                answer: Err("the executor is being ended".to_owned()),
            });
            return;
        }
        state.subscribed = false;
        if let Some(old) = state.conn.replace(conn) {
            self.connections.remove(&old);
            cx.push(Output::CloseExecutor { conn: old });
        }
        self.connections.insert(conn, container.clone());
        cx.push(Output::AnswerHello {
            conn,
            answer: Ok(()),
        });
    }

    pub(super) fn on_executor_gone(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        let Some(container) = self.connections.remove(&conn) else {
            return;
        };
        let Some(executor) = self.executors.get_mut(&container) else {
            return;
        };
        if executor.conn != Some(conn) {
            return;
        }
        executor.conn = None;
        let was_subscribed = std::mem::take(&mut executor.subscribed);
        // Its process is most likely ending, which is seen by itself; one that lives on comes back in time.
        if was_subscribed && matches!(executor.phase, Phase::Starting | Phase::Alive) {
            self.timers.set(
                Timer::Subscribe(container),
                cx.now.mono + self.config.reregistration_timeout,
            );
        }
    }

    /// Says what was wrong, and closes the connection.
    pub(super) fn refuse_call(&mut self, cx: &mut Cx<'_>, conn: ConnId, words: &str) {
        self.counters.updates_refused += 1;
        cx.push(Output::ToExecutor {
            conn,
            event: Box::new(event_error(words)),
        });
        cx.push(Output::CloseExecutor { conn });
        self.on_executor_gone(cx, conn);
    }

    pub(super) fn on_call(&mut self, cx: &mut Cx<'_>, conn: ConnId, call: Call) {
        let Some(container) = self.connections.get(&conn).cloned() else {
            return;
        };
        let (Some(entry), Some(executor)) = (
            self.ledger.containers.get(&container),
            self.executors.get(&container),
        ) else {
            return;
        };
        let record = &entry.record;
        if call.framework_id.value != record.framework.as_str() {
            return self.refuse_call(cx, conn, "Framework cannot be found");
        }
        if call.executor_id.value != record.executor.as_str() {
            return self.refuse_call(cx, conn, "Executor cannot be found");
        }
        let kind = call.r#type();
        let subscribed = executor.subscribed;
        match (kind, call.subscribe, call.update, call.message) {
            (call::Type::Subscribe, Some(subscribe), ..) => {
                self.on_subscribe(cx, conn, &container, subscribe);
            }
            (call::Type::Subscribe, None, ..) => {
                self.refuse_call(cx, conn, "Expecting 'subscribe' to be present");
            }
            (call::Type::Unknown, ..) => {
                self.refuse_call(cx, conn, "Expecting 'type' to be present");
            }
            (call::Type::Heartbeat, ..) => {}
            _ if !subscribed => self.refuse_call(cx, conn, "Executor is not subscribed"),
            (call::Type::Update, _, Some(update), _) => {
                self.on_update(cx, conn, &container, update.status);
            }
            (call::Type::Update, ..) => {
                self.refuse_call(cx, conn, "Expecting 'update' to be present");
            }
            (call::Type::Message, _, _, Some(message)) => {
                self.on_executor_message(cx, &container, message);
            }
            (call::Type::Message, ..) => {
                self.refuse_call(cx, conn, "Expecting 'message' to be present");
            }
        }
    }

    fn on_executor_message(
        &mut self,
        cx: &mut Cx<'_>,
        container: &ContainerId,
        message: call::Message,
    ) {
        let Some(entry) = self.ledger.containers.get(container) else {
            return;
        };
        if !self.is_up() {
            // Messages are best effort.
            return;
        }
        let body = ToMaster::ExecutorMessage(link::ExecutorMessage {
            framework_id: entry.record.framework.to_wire(),
            executor_id: entry.record.executor.to_wire(),
            data: message.data,
        });
        self.send(cx, body);
    }

    fn on_subscribe(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnId,
        container: &ContainerId,
        subscribe: call::Subscribe,
    ) {
        let Some(subscribed) = self.subscribed_event(container) else {
            return self.refuse_call(cx, conn, "Executor cannot be found");
        };
        let Some(executor) = self.executors.get_mut(container) else {
            return;
        };
        executor.subscribed = true;
        executor.registered = true;
        let phase = executor.phase;
        self.timers.clear(&Timer::Subscribe(container.clone()));
        cx.push(Output::ToExecutor {
            conn,
            event: Box::new(event_subscribed(subscribed)),
        });
        for update in subscribe.unacknowledged_updates {
            if !self.connections.contains_key(&conn) {
                return;
            }
            self.on_update(cx, conn, container, update.status);
        }
        let listed: Vec<TaskId> = subscribe
            .unacknowledged_tasks
            .iter()
            .filter_map(|task| TaskId::from_wire(&task.task_id).ok())
            .collect();
        if phase == Phase::Stopping {
            cx.push(Output::ToExecutor {
                conn,
                event: Box::new(event_shutdown()),
            });
            return;
        }
        self.settle_deliveries(cx, container, &listed);
        self.deliver(cx, container);
        self.tell_kills(cx, container);
    }

    /// Wishes that the executor may have missed.
    fn tell_kills(&mut self, cx: &mut Cx<'_>, container: &ContainerId) {
        let Some(entry) = self.ledger.containers.get(container) else {
            return;
        };
        let framework = entry.record.framework.clone();
        let wished: Vec<_> = entry
            .tasks
            .iter()
            .map(|task| (framework.clone(), task.clone()))
            .filter(|key| {
                self.ledger
                    .tasks
                    .get(key)
                    .is_some_and(|entry| entry.kill.is_some())
            })
            .collect();
        for task in wished {
            self.tell_kill(cx, &task);
        }
    }
}
