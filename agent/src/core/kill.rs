//! Ending tasks and executors on request.
//!
//! A kill is written before it is told, so that it sticks: a task that was not handed over is never started, and an
//! executor that was away is told when it is back. Our own executor that does not obey in time is destroyed.

use mezzo_model::ids::ContainerId;
use mezzo_model::{Millis, TaskState};
use mezzo_wire::v1::task_status::Reason;
use mezzo_wire::{link, v1};

use super::io::Output;
use super::launch::Refusal;
use super::orders::task_key;
use super::record::{Record, TaskKey};
use super::report::{event_kill, event_shutdown};
use super::state::{After, Ending, Phase};
use super::timers::Timer;
use super::{Core, Cx};

impl Core {
    pub(super) fn on_kill(&mut self, cx: &mut Cx<'_>, kill: &link::KillTask) {
        let Some(task) = task_key(&kill.framework_id, &kill.task_id) else {
            return;
        };
        let Some(entry) = self.ledger.tasks.get(&task) else {
            if self.ledger.completed(&task).is_none() {
                let refusal = Refusal {
                    state: TaskState::Dropped,
                    reason: Reason::ExecutorTerminated,
                    message: "The task to be killed is unknown to the agent".to_owned(),
                };
                self.answer_unknown(cx, &task, &refusal);
            }
            return;
        };
        if entry.state().is_terminal() {
            return;
        }
        let Some(container) = entry.record.container.clone() else {
            return;
        };
        let earlier = entry.kill.and_then(|kill| kill.policy);
        if let Some(group) = self.unqueue(&container, &task) {
            for task in group {
                self.end_task(
                    cx,
                    &task,
                    TaskState::Killed,
                    Reason::TaskKilledDuringLaunch,
                    "Killed before it was handed to its executor",
                );
            }
            self.end_if_never_used(cx, &container);
            return;
        }
        // A later kill without a policy does not take away what an earlier one said.
        let policy = kill.kill_policy.or(earlier);
        let record = Record::Kill {
            task: task.clone(),
            policy,
        };
        self.log(cx, vec![record], false, vec![After::Kill(task)]);
    }

    /// Takes a task, and its group, out of its executor's queue; `None` if it is not there.
    fn unqueue(&mut self, container: &ContainerId, task: &TaskKey) -> Option<Vec<TaskKey>> {
        let executor = self.executors.get_mut(container)?;
        let at = executor
            .queue
            .iter()
            .position(|queued| queued.tasks.contains(&task.1))?;
        let queued = executor.queue.remove(at)?;
        let keys = queued.tasks.into_iter().map(|id| (task.0.clone(), id));
        Some(keys.collect())
    }

    /// An executor whose tasks were all killed before it got one has nothing to live for.
    fn end_if_never_used(&mut self, cx: &mut Cx<'_>, container: &ContainerId) {
        let unused = self
            .ledger
            .containers
            .get(container)
            .is_some_and(|entry| entry.tasks.is_empty() && only_unstarted(entry, &self.ledger));
        if unused {
            self.stop_container(cx, container, None);
        }
    }

    /// The kill is written: tell the executor, if it is there.
    pub(super) fn tell_kill(&mut self, cx: &mut Cx<'_>, task: &TaskKey) {
        let Some(entry) = self.ledger.tasks.get(task) else {
            return;
        };
        let (Some(kill), Some(container)) = (entry.kill, entry.record.container.clone()) else {
            return;
        };
        if entry.state().is_terminal() {
            return;
        }
        let own = entry.record.info.kill_policy;
        let Some(executor) = self.executors.get(&container) else {
            return;
        };
        let (true, Some(conn)) = (executor.subscribed, executor.conn) else {
            return;
        };
        cx.push(Output::ToExecutor {
            conn,
            event: Box::new(event_kill(&task.1, kill.policy)),
        });
        let command = self
            .ledger
            .containers
            .get(&container)
            .is_some_and(|entry| !entry.record.is_custom());
        if command {
            let grace = kill
                .policy
                .and_then(|policy| policy.grace_period)
                .or(own.and_then(|policy| policy.grace_period))
                .map_or(self.config.kill_grace, |grace| millis_of(&grace));
            let at = cx.now.mono + grace + self.config.shutdown_grace + self.config.shutdown_grace;
            let timer = Timer::End(container);
            let at = self.timers.at(&timer).map_or(at, |known| known.min(at));
            self.timers.set(timer, at);
        }
    }

    /// Tells an executor to shut down and destroys it when it does not in time; one that cannot hear is destroyed at
    /// once.
    pub(super) fn stop_container(
        &mut self,
        cx: &mut Cx<'_>,
        container: &ContainerId,
        ending: Option<Ending>,
    ) {
        let Some(executor) = self.executors.get_mut(container) else {
            return;
        };
        if executor.ending.is_none() {
            executor.ending = ending;
        }
        match (executor.phase, executor.subscribed, executor.conn) {
            (Phase::Stopping | Phase::Destroying, ..) => {}
            (Phase::Starting | Phase::Alive, true, Some(conn)) => {
                executor.phase = Phase::Stopping;
                cx.push(Output::ToExecutor {
                    conn,
                    event: Box::new(event_shutdown()),
                });
                let grace = self.shutdown_grace_of(container);
                self.timers
                    .set(Timer::End(container.clone()), cx.now.mono + grace);
                self.timers.clear(&Timer::Subscribe(container.clone()));
            }
            // What lives is not known yet; it is ended when it is.
            (Phase::Probing, ..) => {}
            _ => self.destroy(cx, container),
        }
    }

    pub(super) fn destroy(&mut self, cx: &mut Cx<'_>, container: &ContainerId) {
        let Some(executor) = self.executors.get_mut(container) else {
            return;
        };
        if executor.phase == Phase::Destroying {
            return;
        }
        executor.phase = Phase::Destroying;
        self.timers.clear(&Timer::End(container.clone()));
        self.timers.clear(&Timer::Subscribe(container.clone()));
        cx.push(Output::Destroy {
            container: container.clone(),
        });
    }

    pub(super) fn on_end_timeout(&mut self, cx: &mut Cx<'_>, container: &ContainerId) {
        let wished = self.ledger.containers.get(container).is_some_and(|entry| {
            entry.tasks.iter().any(|task| {
                let key = (entry.record.framework.clone(), task.clone());
                self.ledger
                    .tasks
                    .get(&key)
                    .is_some_and(|task| task.kill.is_some())
            })
        });
        if wished
            && let Some(executor) = self.executors.get_mut(container)
            && executor.ending.is_none()
        {
            executor.ending = Some(Ending {
                state: TaskState::Killed,
                reason: Reason::ExecutorTerminated,
                message: "Its executor did not end it in time and was destroyed".to_owned(),
            });
        }
        cx.warn(format!(
            "the executor in container {container} did not end in time; destroying it"
        ));
        self.destroy(cx, container);
    }

    fn shutdown_grace_of(&self, container: &ContainerId) -> Millis {
        let own =
            self.ledger
                .containers
                .get(container)
                .and_then(|entry| match &entry.record.kind {
                    super::record::ExecutorKind::Custom(info) => info.shutdown_grace_period,
                    super::record::ExecutorKind::Command => None,
                });
        match own {
            Some(grace) => millis_of(&grace),
            // Our own executor ends its task within the grace and needs a moment to say so.
            None => self.config.shutdown_grace + self.config.shutdown_grace,
        }
    }
}

/// A span of the wire; a negative one is none at all.
pub(super) fn millis_of(span: &v1::DurationInfo) -> Millis {
    Millis(u64::try_from(span.nanoseconds / 1_000_000).unwrap_or(0))
}

/// Whether every task that the container ever had ended before it was handed over.
fn only_unstarted(entry: &super::ledger::ContainerEntry, ledger: &super::Ledger) -> bool {
    entry.ended_tasks.iter().all(|task| {
        let key = (entry.record.framework.clone(), task.clone());
        ledger.tasks.get(&key).is_some_and(|entry| {
            let reason = entry.latest.as_ref().and_then(|status| status.reason);
            reason == Some(Reason::TaskKilledDuringLaunch as i32)
        })
    })
}
