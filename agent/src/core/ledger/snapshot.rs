//! A ledger as the shortest row of records that leads to it.

use super::{Completed, ContainerEntry, Ledger, Record, TaskEntry, TaskKey, update_id};

impl Ledger {
    /// The records of a snapshot: replaying them gives a ledger that says the same.
    pub fn to_records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        if let Some(boot_id) = &self.boot_id {
            records.push(Record::Boot {
                boot_id: boot_id.clone(),
            });
        }
        if let Some(id) = &self.agent {
            records.push(Record::Agent {
                id: Some(id.clone()),
            });
        }
        records.extend(self.epoch.clone().map(Record::Epoch));
        for entry in self.frameworks.values() {
            records.push(Record::Framework(entry.info.clone()));
        }
        for entry in self.containers.values() {
            container_records(entry, &mut records);
        }
        for (key, entry) in &self.tasks {
            task_records(key, entry, &mut records);
        }
        for (id, entry) in &self.frameworks {
            if entry.removed {
                records.push(Record::FrameworkRemoved { id: id.clone() });
            }
        }
        for (order, task) in &self.completed_order {
            if let Some((known, state)) = self.completed.get(task)
                && known == order
            {
                records.push(Record::Completed(Completed {
                    task: task.clone(),
                    state: *state,
                }));
            }
        }
        records.extend(self.sandboxes.values().cloned().map(Record::Sandbox));
        records
    }
}

fn container_records(entry: &ContainerEntry, records: &mut Vec<Record>) {
    records.push(Record::Container(entry.record.clone()));
    if let Some(process) = entry.process {
        records.push(Record::Started {
            container: entry.record.id.clone(),
            process,
        });
    }
    if !entry.ended_tasks.is_empty() {
        records.push(Record::Served {
            container: entry.record.id.clone(),
            tasks: entry.ended_tasks.iter().cloned().collect(),
        });
    }
}

fn task_records(key: &TaskKey, entry: &TaskEntry, records: &mut Vec<Record>) {
    let task = key.clone();
    records.push(Record::Task(entry.record.clone()));
    if !entry.seen.is_empty() {
        records.push(Record::Seen {
            task: task.clone(),
            uuids: entry.seen.iter().copied().collect(),
        });
    }
    for status in &entry.pending {
        records.push(Record::Update {
            task: task.clone(),
            status: status.clone(),
        });
    }
    if entry.pending.is_empty()
        && let Some(status) = &entry.latest
        && let Some(uuid) = update_id(status)
    {
        records.push(Record::Update {
            task: task.clone(),
            status: status.clone(),
        });
        records.push(Record::Acknowledged {
            task: task.clone(),
            uuid,
        });
    }
    if let Some(kill) = entry.kill {
        records.push(Record::Kill {
            task: task.clone(),
            policy: kill.policy,
        });
    }
    if entry.delivered {
        records.push(Record::Delivered { task });
    }
}
