//! What a container may use, from the resources of its executor and its tasks.
//!
//! A `cpus` resource is a share of the processors; only `TaskInfo.limits` makes it a hard limit. `mem` is a hard limit,
//! unless the limits say more. The floor is that of Mesos: nothing starts in less than 32 MB.

use mezzo_model::ids::ContainerId;
use mezzo_wire::v1;

use super::io::{Limits, Output};
use super::record::ExecutorKind;
use super::state::Phase;
use super::{Core, Cx};

/// The least memory limit of a container.
const MEMORY_MIN_BYTES: u64 = 32 << 20;

/// The least share of the processors, in thousandths of one.
const CPU_MIN_MILLI: u64 = 10;

const MIB: f64 = 1_048_576.0;

impl Core {
    /// Tells the containerizer if tasks that came or went have changed what a framework's own executor may use.
    pub(super) fn resize(&mut self, cx: &mut Cx<'_>, container: &ContainerId) {
        let Some(entry) = self.ledger.containers.get(container) else {
            return;
        };
        let ExecutorKind::Custom(info) = &entry.record.kind else {
            return;
        };
        let tasks: Vec<&v1::TaskInfo> = entry
            .tasks
            .iter()
            .filter_map(|task| {
                let key = (entry.record.framework.clone(), task.clone());
                self.ledger.tasks.get(&key).map(|task| &task.record.info)
            })
            .collect();
        let limits = limits_of(&info.resources, &tasks);
        if let Some(executor) = self.executors.get_mut(container)
            && matches!(executor.phase, Phase::Starting | Phase::Alive)
            && executor.limits != limits
        {
            executor.limits = limits;
            cx.push(Output::Resize {
                container: container.clone(),
                limits,
            });
        }
    }
}

/// Adds up what an executor and its tasks may use.
pub(super) fn limits_of(executor: &[v1::Resource], tasks: &[&v1::TaskInfo]) -> Limits {
    let mut share = scalar(executor, "cpus").unwrap_or(0.0);
    let mut most_cpus = (!tasks.is_empty()).then_some(share);
    let mut memory = scalar(executor, "mem");
    for task in tasks {
        let cpus = scalar(&task.resources, "cpus").unwrap_or(0.0);
        share += cpus;
        let limit = task.limits.get("cpus").map(|limit| limit.value);
        most_cpus = match (most_cpus, limit) {
            (Some(most), Some(limit)) if limit.is_finite() => Some(most + limit.max(cpus)),
            _ => None,
        };
        let asked = scalar(&task.resources, "mem");
        let limit = task.limits.get("mem").map(|limit| limit.value);
        memory = match (memory, asked, limit) {
            (_, _, Some(limit)) if !limit.is_finite() => Some(f64::INFINITY),
            (had, asked, Some(limit)) => Some(had.unwrap_or(0.0) + limit.max(asked.unwrap_or(0.0))),
            (None, None, None) => None,
            (had, asked, None) => Some(had.unwrap_or(0.0) + asked.unwrap_or(0.0)),
        };
    }
    Limits {
        cpu_milli: milli(share).max(CPU_MIN_MILLI),
        cpu_max_milli: most_cpus.map(|most| milli(most).max(CPU_MIN_MILLI)),
        memory_bytes: memory
            .filter(|memory| memory.is_finite() && *memory > 0.0)
            .map(|memory| ((memory * MIB) as u64).max(MEMORY_MIN_BYTES)),
    }
}

/// The sum of all resources of that name.
fn scalar(resources: &[v1::Resource], name: &str) -> Option<f64> {
    let amounts = resources
        .iter()
        .filter(|resource| resource.name == name)
        .filter_map(|resource| resource.scalar.as_ref())
        .map(|scalar| scalar.value)
        .filter(|value| value.is_finite() && *value >= 0.0);
    amounts.reduce(|sum, value| sum + value)
}

fn milli(amount: f64) -> u64 {
    // A float beyond u64 saturates in the cast.
    (amount * 1_000.0).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(name: &str, value: f64) -> v1::Resource {
        v1::Resource {
            name: name.to_owned(),
            r#type: v1::value::Type::Scalar as i32,
            scalar: Some(v1::value::Scalar { value }),
            ..Default::default()
        }
    }

    fn task(cpus: f64, mem: f64, limits: &[(&str, f64)]) -> v1::TaskInfo {
        v1::TaskInfo {
            resources: vec![resource("cpus", cpus), resource("mem", mem)],
            limits: limits
                .iter()
                .map(|(name, value)| ((*name).to_owned(), v1::value::Scalar { value: *value }))
                .collect(),
            ..Default::default()
        }
    }

    #[test]
    fn memory_is_a_limit_and_cpus_are_a_share() {
        let limits = limits_of(&[], &[&task(0.5, 64.0, &[])]);
        let expected = Limits {
            cpu_milli: 500,
            cpu_max_milli: None,
            memory_bytes: Some(64 << 20),
        };
        assert_eq!(limits, expected);
    }

    #[test]
    fn limits_of_the_task_say_more() {
        let limits = limits_of(&[], &[&task(0.5, 64.0, &[("cpus", 2.0), ("mem", 128.0)])]);
        assert_eq!(limits.cpu_max_milli, Some(2_000));
        assert_eq!(limits.memory_bytes, Some(128 << 20));
        let endless = [("cpus", f64::INFINITY), ("mem", f64::INFINITY)];
        let limits = limits_of(&[], &[&task(0.5, 64.0, &endless)]);
        assert_eq!((limits.cpu_max_milli, limits.memory_bytes), (None, None));
    }

    #[test]
    fn an_executor_and_its_tasks_add_up_and_nothing_starts_in_less_than_the_floor() {
        let own = [resource("cpus", 0.1), resource("mem", 32.0)];
        let (a, b) = (task(1.0, 16.0, &[]), task(1.0, 16.0, &[]));
        let limits = limits_of(&own, &[&a, &b]);
        assert_eq!(limits.cpu_milli, 2_100);
        assert_eq!(limits.memory_bytes, Some(64 << 20));
        let tiny = limits_of(&[], &[&task(0.001, 1.0, &[])]);
        assert_eq!((tiny.cpu_milli, tiny.memory_bytes), (10, Some(32 << 20)));
        let odd = limits_of(&[], &[&task(f64::NAN, -5.0, &[])]);
        assert_eq!((odd.cpu_milli, odd.memory_bytes), (10, None));
    }
}
