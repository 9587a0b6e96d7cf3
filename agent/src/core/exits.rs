//! Containers that end: what becomes of their tasks.
//!
//! Whoever knows best speaks: what was already decided (a timeout, a kill), the kernel (out of memory), what the
//! executor
//! left in writing, and else only that the executor is gone.

use mezzo_model::TaskState;
use mezzo_model::ids::{ContainerId, TaskId};
use mezzo_wire::link;
use mezzo_wire::link::agent_message::Body as ToMaster;
use mezzo_wire::v1::task_status::Reason;

use super::io::{ContainerEnd, Output};
use super::record::Record;
use super::state::{Ending, Phase, Stage};
use super::timers::Timer;
use super::{Core, Cx};

/// No status of wait(2) is like this.
const UNKNOWN_STATUS: i32 = -1;

impl Core {
    pub(super) fn on_launch_failed(
        &mut self,
        cx: &mut Cx<'_>,
        container: &ContainerId,
        message: &str,
    ) {
        self.counters.containers_failed += 1;
        cx.warn(format!(
            "container {container} could not be launched: {message}"
        ));
        let ending = Ending {
            state: TaskState::Failed,
            reason: Reason::ContainerLaunchFailed,
            message: format!("Failed to launch container: {message}"),
        };
        self.close_container(cx, container, &ending, None);
    }

    pub(super) fn on_container_ended(
        &mut self,
        cx: &mut Cx<'_>,
        container: &ContainerId,
        end: &ContainerEnd,
    ) {
        let Some(entry) = self.ledger.containers.get(container) else {
            return;
        };
        let command = !entry.record.is_custom();
        // Its executor may have spoken before the record of its start was written.
        let spoke = |task: &TaskId| {
            let key = (entry.record.framework.clone(), task.clone());
            let known = self.ledger.tasks.get(&key);
            known.is_some_and(|known| known.latest.is_some())
        };
        let started = entry.process.is_some() || entry.tasks.iter().any(spoke);
        let decided = self
            .executors
            .get(container)
            .and_then(|executor| executor.ending.clone());
        let ending = match (decided, &end.out_of_memory, &end.payload) {
            (Some(ending), ..) => ending,
            (None, Some(words), _) => Ending {
                state: TaskState::Failed,
                reason: Reason::ContainerLimitationMemory,
                message: words.clone(),
            },
            (None, None, Some(payload)) if command => Ending {
                // As the executor itself would have told it.
                state: match (payload.killed, payload.success) {
                    (true, _) => TaskState::Killed,
                    (false, true) => TaskState::Finished,
                    (false, false) => TaskState::Failed,
                },
                reason: Reason::ExecutorTerminated,
                message: payload.message.clone(),
            },
            (None, None, None) if !started => Ending {
                state: TaskState::Dropped,
                reason: Reason::AgentRestarted,
                message: "The agent restarted before the container was made".to_owned(),
            },
            (None, None, _) => Ending {
                state: TaskState::Failed,
                reason: Reason::ExecutorTerminated,
                message: "Executor terminated".to_owned(),
            },
        };
        self.close_container(cx, container, &ending, end.status);
    }

    /// Ends what is left of a container's tasks, tells the master, and forgets the container.
    fn close_container(
        &mut self,
        cx: &mut Cx<'_>,
        container: &ContainerId,
        ending: &Ending,
        status: Option<i32>,
    ) {
        let Some(entry) = self.ledger.containers.get(container) else {
            return;
        };
        let record = entry.record.clone();
        let tasks: Vec<TaskId> = entry.tasks.iter().cloned().collect();
        if let Some(executor) = self.executors.get_mut(container) {
            executor.phase = Phase::Destroying;
        }
        if record.is_custom() && self.is_up() {
            // As wait(2) gives it; of an adopted executor it may be that only its end is known.
            let body = ToMaster::ExecutorExited(link::ExecutorExited {
                framework_id: record.framework.to_wire(),
                executor_id: record.executor.to_wire(),
                status: status.unwrap_or(UNKNOWN_STATUS),
            });
            self.send(cx, body);
        }
        for task in tasks {
            let key = (record.framework.clone(), task);
            if self
                .ledger
                .frameworks
                .get(&key.0)
                .is_some_and(|framework| framework.removed)
            {
                // Nobody is left who would hear; the record of the end forgets it.
                self.drop_stream(&key);
                cx.push(Output::ReadsEnd { task: key });
            } else {
                self.end_task(cx, &key, ending.state, ending.reason, &ending.message);
            }
        }
        self.forget_executor(container);
        let ended = Record::Ended {
            container: container.clone(),
            at: cx.now.wall,
        };
        self.log(cx, vec![ended], false, Vec::new());
        self.plan_collection(cx);
    }

    /// Forgets the volatile half of a container.
    fn forget_executor(&mut self, container: &ContainerId) {
        if let Some(executor) = self.executors.remove(container)
            && let Some(conn) = executor.conn
        {
            self.connections.remove(&conn);
        }
        self.timers.clear(&Timer::Subscribe(container.clone()));
        self.timers.clear(&Timer::End(container.clone()));
    }

    /// An executor that lives did not subscribe in time.
    pub(super) fn on_subscribe_timeout(&mut self, cx: &mut Cx<'_>, container: &ContainerId) {
        let Some(executor) = self.executors.get_mut(container) else {
            return;
        };
        if executor.subscribed {
            return;
        }
        let (ending, words) = if executor.registered {
            let ending = Ending {
                state: TaskState::Gone,
                reason: Reason::ExecutorReregistrationTimeout,
                message: format!(
                    "Executor did not reregister within {}",
                    self.config.reregistration_timeout
                ),
            };
            (ending, "subscribe again")
        } else {
            let ending = Ending {
                state: TaskState::Failed,
                reason: Reason::ExecutorRegistrationTimeout,
                message: format!(
                    "Executor did not register within {}",
                    self.config.registration_timeout
                ),
            };
            (ending, "subscribe")
        };
        executor.ending.get_or_insert(ending);
        cx.warn(format!(
            "the executor in container {container} did not {words} in time; destroying it"
        ));
        self.destroy(cx, container);
    }

    /// Everything that was alive on another boot of the kernel is gone.
    pub(super) fn end_after_reboot(&mut self, cx: &mut Cx<'_>) {
        let containers: Vec<ContainerId> = self.ledger.containers.keys().cloned().collect();
        let ending = Ending {
            state: TaskState::Gone,
            reason: Reason::AgentRestarted,
            message: "The agent's host rebooted".to_owned(),
        };
        for container in containers {
            self.close_container(cx, &container, &ending, None);
        }
    }

    /// What the shell found of a container of before.
    pub(super) fn on_probed(
        &mut self,
        cx: &mut Cx<'_>,
        container: &ContainerId,
        alive: Option<super::record::Process>,
    ) {
        let known = self
            .ledger
            .containers
            .get(container)
            .map(|entry| entry.process);
        let Some(executor) = self
            .executors
            .get_mut(container)
            .filter(|executor| executor.phase == Phase::Probing)
        else {
            return;
        };
        match alive {
            Some(process) => {
                executor.phase = Phase::Alive;
                // It may have subscribed before; it has lived as long as that takes.
                executor.registered = true;
                self.timers.set(
                    Timer::Subscribe(container.clone()),
                    cx.now.mono + self.config.reregistration_timeout,
                );
                if known != Some(Some(process)) {
                    let record = Record::Started {
                        container: container.clone(),
                        process,
                    };
                    self.log(cx, vec![record], false, Vec::new());
                }
                if self.config.end_recovered {
                    self.destroy(cx, container);
                }
                // The change that its limits saw last may have been lost.
                self.resize(cx, container);
            }
            // Its leftovers are removed; then it is as if it had ended now.
            None => self.destroy(cx, container),
        }
        self.probing = self.probing.saturating_sub(1);
        if matches!(self.stage, Stage::Leaving(_)) {
            self.stop_container(cx, container, None);
        }
        self.ready(cx);
    }
}
