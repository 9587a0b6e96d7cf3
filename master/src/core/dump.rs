//! Everything there is, as the records that readers would have got one by one: for a read model that fell behind.

use super::Core;
use crate::read_model::{Change, Fate};
use mezzo_model::TaskState;

impl Core {
    /// The records of everything in the books. What is past (tasks and frameworks that ended) is not in it.
    pub fn dump(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        for framework in self.frameworks.values() {
            changes.push(Change::Framework(Box::new(framework.view())));
        }
        for (id, info) in &self.awaited {
            changes.push(Change::AgentAwaited(id.clone(), info.clone().into()));
        }
        for (key, agent) in &self.agents {
            changes.push(Change::Agent(Box::new(agent.view(*key))));
            for ((framework, id), task) in agent.tasks.iter().filter(|(_, task)| !task.is_duplicate)
            {
                changes.push(Change::Task {
                    framework: *framework,
                    agent: *key,
                    id: id.clone(),
                    info: task.info.clone(),
                    state: task.state,
                });
                if let Some(status) = &task.status {
                    changes.push(Change::TaskUpdate {
                        framework: *framework,
                        id: id.clone(),
                        state: task.state,
                        status: status.clone(),
                    });
                }
            }
            for ((framework, id), executor) in &agent.executors {
                changes.push(Change::Executor {
                    framework: *framework,
                    agent: *key,
                    id: id.clone(),
                    resources: executor.resources.clone(),
                    role: executor.role.clone(),
                    info: executor.info.clone(),
                });
            }
        }
        for (key, offer) in &self.offers {
            changes.push(Change::Offer {
                key: *key,
                id: offer.id.clone(),
                framework: offer.framework,
                agent: offer.agent,
                role: offer.role.clone(),
                resources: offer.resources.clone(),
            });
        }
        self.dump_unreachable(&mut changes);
        changes
    }

    /// What is left of a task on an agent that cannot be reached is its name and where it ran.
    fn dump_unreachable(&self, changes: &mut Vec<Change>) {
        for (key, framework) in &self.frameworks {
            for (id, lost) in &framework.unreachable {
                let info = mezzo_wire::v1::Task {
                    task_id: id.to_wire(),
                    framework_id: framework.id.to_wire(),
                    agent_id: lost.agent.to_wire(),
                    state: TaskState::Unreachable.number(),
                    ..Default::default()
                };
                changes.push(Change::Task {
                    framework: *key,
                    agent: crate::keys::AgentKey(u32::MAX),
                    id: id.clone(),
                    info: info.into(),
                    state: TaskState::Unreachable,
                });
                changes.push(Change::TaskGone {
                    framework: *key,
                    id: id.clone(),
                    fate: Fate::Unreachable,
                    state: TaskState::Unreachable,
                });
            }
        }
    }
}
