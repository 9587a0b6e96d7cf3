//! An agent's books are made to match what the agent says that it holds.
//!
//! A task in its list that the books do not hold is taken in; one in the books that the list does not hold was never
//! delivered, or is over, and the agent is asked to say which. A task id that the framework has elsewhere is ended
//! here.

use std::collections::BTreeSet;
use std::sync::Arc;

use mezzo_model::TaskState;
use mezzo_model::ids::{FrameworkId, TaskId};
use mezzo_model::resources::Resources;
use mezzo_wire::link;
use mezzo_wire::link::master_message::Body;
use mezzo_wire::v1;
use mezzo_wire::v1::task_status::Reason;

use super::agent::{Executor, Task};
use super::status::{self, made_here};
use super::{Core, Cx};
use crate::keys::{AgentKey, FrameworkKey};
use crate::read_model::Change;
use crate::validate;
use crate::validate::agent::{HeldTask, Report};

impl Core {
    /// Makes the books match what the agent holds.
    pub(super) fn absorb(&mut self, cx: &mut Cx<'_>, key: AgentKey, report: Report) {
        let infos = &report.hello.frameworks;
        let mut shut_down: BTreeSet<FrameworkId> = BTreeSet::new();
        let mut held: BTreeSet<(FrameworkKey, TaskId)> = BTreeSet::new();
        for task in report.tasks {
            if self.past_frameworks.contains(&task.framework) {
                shut_down.insert(task.framework);
                continue;
            }
            let of = self.framework_of_agent(cx, &task.framework, infos);
            held.insert((of, task.id.clone()));
            self.absorb_task(cx, key, of, task);
        }
        let mut executors = BTreeSet::new();
        for executor in report.executors {
            if self.past_frameworks.contains(&executor.framework) {
                shut_down.insert(executor.framework);
                continue;
            }
            let of = self.framework_of_agent(cx, &executor.framework, infos);
            executors.insert((of, executor.id.clone()));
            self.absorb_executor(cx, key, of, executor);
        }
        self.drop_executors(cx, key, &executors);
        self.reconcile_missing(cx, key, &held);
        for framework in shut_down {
            let order = link::ShutdownFramework {
                framework_id: framework.to_wire(),
            };
            self.order(cx, key, Body::ShutdownFramework(order));
        }
        self.repeat_kills(cx, key);
        self.settle_lost(cx, key, &held);
        let Some(agent) = self.agents.get_mut(&key) else {
            return;
        };
        let mut sum = Resources::new();
        for (_, _, resources) in agent.in_use() {
            sum += resources;
        }
        agent.is_overcommitted = !agent.spec.total.contains(&sum);
        if agent.is_overcommitted {
            let words = format!(
                "agent {} uses {sum} and has {}; it is offered once enough has ended",
                agent.id, agent.spec.total
            );
            cx.warn(words);
        }
    }

    fn absorb_task(&mut self, cx: &mut Cx<'_>, key: AgentKey, of: FrameworkKey, held: HeldTask) {
        let Some(agent) = self.agents.get_mut(&key) else {
            return;
        };
        let id = held.id.clone();
        if agent.tasks.contains_key(&(of, id.clone())) {
            // Its statuses follow by themselves; the newest state counts for resources now.
            self.set_state(cx, key, of, &id, held.state);
            return;
        }
        let Some(framework) = self.frameworks.get_mut(&of) else {
            return;
        };
        let elsewhere = framework.tasks.get(&id).is_some_and(|other| *other != key);
        let told = held
            .wire
            .status_update_state
            .and_then(TaskState::from_number);
        let mut info = held.wire;
        info.agent_id = agent.id.to_wire();
        let task = Task {
            role: held.role.clone(),
            resources: held.resources.clone(),
            state: held.state,
            told,
            uuid: info.status_update_uuid.clone(),
            status: info.statuses.last().cloned().map(Arc::new),
            kill: elsewhere.then_some(None),
            is_duplicate: elsewhere,
            info: Arc::new(info),
        };
        if held.state.is_terminal() {
            self.counters.tasks_ended += 1;
        } else {
            self.allocator.hold(key, of, &held.role, &held.resources);
        }
        if elsewhere {
            cx.warn(format!(
                "task {id} of framework {} came with agent {}, and the framework has it elsewhere; ended there",
                framework.id, agent.id
            ));
            agent.tasks.insert((of, id), task);
            return;
        }
        let was_lost = framework.find_again(&id);
        framework.tasks.insert(id.clone(), key);
        if was_lost {
            cx.change(Change::TaskForgotten {
                framework: of,
                id: id.clone(),
            });
        }
        cx.change(Change::Task {
            framework: of,
            agent: key,
            id: id.clone(),
            info: task.info.clone(),
            state: task.state,
        });
        if (was_lost || agent.was_unreachable) && !task.state.is_terminal() {
            let state = task.told.unwrap_or(task.state);
            let agent_id = agent.id.to_wire();
            let words = format!("Agent {} is reachable again", agent.info.hostname);
            let reason = Reason::AgentReregistered;
            let made = made_here(
                &id.to_wire(),
                Some(&agent_id),
                state,
                reason,
                words,
                cx.now.wall,
            );
            cx.tell(framework, status::update(made));
        }
        agent.tasks.insert((of, id), task);
    }

    fn absorb_executor(
        &mut self,
        cx: &mut Cx<'_>,
        key: AgentKey,
        of: FrameworkKey,
        held: validate::agent::HeldExecutor,
    ) {
        let Some(agent) = self.agents.get_mut(&key) else {
            return;
        };
        let place = (of, held.id.clone());
        if let Some(known) = agent.executors.get(&place) {
            if known.resources == held.resources && known.role == held.role {
                return;
            }
            self.remove_executor(cx, key, of, &held.id);
        }
        self.allocator.hold(key, of, &held.role, &held.resources);
        let info = Arc::new(held.wire);
        cx.change(Change::Executor {
            framework: of,
            agent: key,
            id: held.id,
            resources: held.resources.clone(),
            role: held.role.clone(),
            info: info.clone(),
        });
        let executor = Executor {
            role: held.role,
            resources: held.resources,
            info,
        };
        if let Some(agent) = self.agents.get_mut(&key) {
            agent.executors.insert(place, executor);
        }
    }

    /// Executors that the agent does not speak of are gone.
    fn drop_executors(
        &mut self,
        cx: &mut Cx<'_>,
        key: AgentKey,
        held: &BTreeSet<(FrameworkKey, mezzo_model::ids::ExecutorId)>,
    ) {
        let Some(agent) = self.agents.get(&key) else {
            return;
        };
        let gone: Vec<_> = agent
            .executors
            .keys()
            .filter(|place| !held.contains(place))
            .cloned()
            .collect();
        for (of, executor) in gone {
            self.remove_executor(cx, key, of, &executor);
        }
    }

    /// Tasks of the books that the agent does not speak of: it is asked for the end of each, unless that was told.
    fn reconcile_missing(
        &mut self,
        cx: &mut Cx<'_>,
        key: AgentKey,
        held: &BTreeSet<(FrameworkKey, TaskId)>,
    ) {
        let Some(agent) = self.agents.get(&key) else {
            return;
        };
        let mut over = Vec::new();
        let mut asked: Vec<(FrameworkKey, TaskId)> = Vec::new();
        for (place, task) in &agent.tasks {
            if held.contains(place) {
                continue;
            }
            if task.is_duplicate || task.told.is_some_and(TaskState::is_terminal) {
                over.push(place.clone());
            } else {
                asked.push(place.clone());
            }
        }
        for (of, task) in over {
            self.end_task(cx, key, of, &task);
        }
        let mut batch = asked.into_iter().peekable();
        while let Some((of, first)) = batch.next() {
            let mut task_ids: Vec<v1::TaskId> = vec![first.to_wire()];
            while let Some((_, task)) = batch.next_if(|(next, _)| *next == of) {
                task_ids.push(task.to_wire());
            }
            if let Some(framework) = self.frameworks.get(&of) {
                let order = link::ReconcileTasks {
                    framework_id: framework.id.to_wire(),
                    task_ids,
                };
                self.order(cx, key, Body::ReconcileTasks(order));
            }
        }
    }

    /// A kill is kept until the task has ended: the order may have been lost with the last link.
    fn repeat_kills(&mut self, cx: &mut Cx<'_>, key: AgentKey) {
        let Some(agent) = self.agents.get(&key) else {
            return;
        };
        for ((of, id), task) in &agent.tasks {
            let (Some(policy), true, Some(framework)) =
                (&task.kill, task.holds(), self.frameworks.get(of))
            else {
                continue;
            };
            let order = link::KillTask {
                framework_id: framework.id.to_wire(),
                task_id: id.to_wire(),
                kill_policy: *policy,
            };
            self.order(cx, key, Body::KillTask(order));
        }
    }

    /// Tasks that were lost with this agent and did not come back with it: now it is known that they are gone.
    fn settle_lost(
        &mut self,
        cx: &mut Cx<'_>,
        key: AgentKey,
        held: &BTreeSet<(FrameworkKey, TaskId)>,
    ) {
        let Some(agent) = self.agents.get(&key) else {
            return;
        };
        let agent_id = agent.id.clone();
        let keys: Vec<FrameworkKey> = self.frameworks.keys().copied().collect();
        for of in keys {
            let Some(framework) = self.frameworks.get_mut(&of) else {
                continue;
            };
            let lost: Vec<TaskId> = framework
                .unreachable
                .iter()
                .filter(|(id, lost)| lost.agent == agent_id && !held.contains(&(of, (*id).clone())))
                .map(|(id, _)| id.clone())
                .collect();
            for id in lost {
                framework.find_again(&id);
                cx.change(Change::TaskForgotten {
                    framework: of,
                    id: id.clone(),
                });
                // Who knows only TASK_LOST was told so when the agent was lost.
                if framework.is_partition_aware() {
                    let made = made_here(
                        &id.to_wire(),
                        Some(&agent_id.to_wire()),
                        TaskState::Gone,
                        Reason::AgentReregistered,
                        "The agent came back without this task",
                        cx.now.wall,
                    );
                    cx.tell(framework, status::update(made));
                }
            }
        }
    }
}
