//! Handing tasks to executors.
//!
//! Tasks wait in their executor's queue until it has subscribed and their records are written. Our own executor lists
//! every task that it holds when it subscribes again, so what it does not list and never spoke of is given to it again.
//! A framework's own executor is not trusted that far: its deliveries are written first, and a task that was delivered
//! and is not known to it is dropped, never started twice.

use mezzo_model::TaskState;
use mezzo_model::ids::{ContainerId, TaskId};
use mezzo_wire::v1;
use mezzo_wire::v1::task_status::Reason;

use super::io::{ConnId, Output};
use super::record::Record;
use super::report::{event_launch, event_launch_group};
use super::state::{After, Phase, Queued};
use super::{Core, Cx};

impl Core {
    /// The records of these tasks are written: they may be delivered.
    pub(super) fn on_queued(&mut self, cx: &mut Cx<'_>, container: &ContainerId, first: &TaskId) {
        if let Some(executor) = self.executors.get_mut(container)
            && let Some(queued) = executor
                .queue
                .iter_mut()
                .find(|queued| queued.tasks.first() == Some(first))
        {
            queued.logged = true;
        }
        self.resize(cx, container);
        self.deliver(cx, container);
    }

    /// Hands over what may be handed over, in order.
    pub(super) fn deliver(&mut self, cx: &mut Cx<'_>, container: &ContainerId) {
        let Some(entry) = self.ledger.containers.get(container) else {
            return;
        };
        let custom = entry.record.is_custom();
        let framework = entry.record.framework.clone();
        loop {
            let Some(executor) = self.executors.get_mut(container) else {
                return;
            };
            let (true, Some(conn), Phase::Starting | Phase::Alive) =
                (executor.subscribed, executor.conn, executor.phase)
            else {
                return;
            };
            if !executor.queue.front().is_some_and(|queued| queued.logged) {
                return;
            }
            let Some(queued) = executor.queue.pop_front() else {
                return;
            };
            if !custom {
                self.hand_over(cx, container, conn, &queued);
                continue;
            }
            executor.limbo.extend(queued.tasks.iter().cloned());
            let records = queued
                .tasks
                .iter()
                .map(|task| Record::Delivered {
                    task: (framework.clone(), task.clone()),
                })
                .collect();
            let after = vec![After::Deliver(container.clone(), conn, queued)];
            self.log(cx, records, false, after);
        }
    }

    pub(super) fn on_delivery_logged(
        &mut self,
        cx: &mut Cx<'_>,
        container: &ContainerId,
        conn: ConnId,
        queued: Queued,
    ) {
        let Some(executor) = self.executors.get_mut(container) else {
            return;
        };
        for task in &queued.tasks {
            executor.limbo.remove(task);
        }
        if executor.conn == Some(conn) && executor.subscribed {
            self.hand_over(cx, container, conn, &queued);
        } else {
            // Nothing was sent: it is as if it had never left the queue.
            executor.queue.push_front(queued);
            self.deliver(cx, container);
        }
    }

    fn hand_over(
        &mut self,
        cx: &mut Cx<'_>,
        container: &ContainerId,
        conn: ConnId,
        queued: &Queued,
    ) {
        let Some(entry) = self.ledger.containers.get(container) else {
            return;
        };
        let framework = &entry.record.framework;
        let mut infos: Vec<v1::TaskInfo> = queued
            .tasks
            .iter()
            .filter_map(|task| self.ledger.tasks.get(&(framework.clone(), task.clone())))
            .filter(|entry| !entry.state().is_terminal())
            .map(|entry| entry.record.info.clone())
            .collect();
        let event = match (queued.group, infos.len()) {
            (_, 0) => return,
            (true, _) => event_launch_group(infos),
            (false, _) => event_launch(infos.swap_remove(0)),
        };
        cx.push(Output::ToExecutor {
            conn,
            event: Box::new(event),
        });
    }

    /// After SUBSCRIBE: compares the tasks of the container with those that the executor lists.
    pub(super) fn settle_deliveries(
        &mut self,
        cx: &mut Cx<'_>,
        container: &ContainerId,
        listed: &[TaskId],
    ) {
        let (Some(entry), Some(executor)) = (
            self.ledger.containers.get(container),
            self.executors.get(container),
        ) else {
            return;
        };
        let custom = entry.record.is_custom();
        let framework = entry.record.framework.clone();
        let queued = |task: &TaskId| executor.queue.iter().any(|q| q.tasks.contains(task));
        let (mut again, mut lost) = (Vec::new(), Vec::new());
        for task in &entry.tasks {
            let key = (framework.clone(), task.clone());
            let Some(known) = self.ledger.tasks.get(&key) else {
                continue;
            };
            let spoken = known.latest.is_some() || listed.contains(task);
            if spoken || queued(task) || executor.limbo.contains(task) {
                continue;
            }
            if custom && known.delivered {
                lost.push(key);
            } else {
                again.push((known.record.group.clone(), task.clone()));
            }
        }
        let mut requeued: Vec<(Option<std::sync::Arc<str>>, Queued)> = Vec::new();
        for (group, task) in again {
            match requeued.last_mut() {
                Some((last, queued)) if group.is_some() && *last == group => {
                    queued.tasks.push(task);
                }
                _ => {
                    let queued = Queued {
                        tasks: vec![task],
                        group: group.is_some(),
                        logged: true,
                    };
                    requeued.push((group, queued));
                }
            }
        }
        if let Some(executor) = self.executors.get_mut(container) {
            for (_, queued) in requeued.into_iter().rev() {
                executor.queue.push_front(queued);
            }
        }
        for task in lost {
            self.end_task(
                cx,
                &task,
                TaskState::Dropped,
                Reason::AgentRestarted,
                "The launch was lost on its way to the executor",
            );
        }
    }
}
