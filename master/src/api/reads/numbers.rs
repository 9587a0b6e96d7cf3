//! The numbers of `/metrics/snapshot` under the names that Mesos gave them. A number that this master does not count is
//! absent; none is made up.

use std::collections::{BTreeMap, BTreeSet};

use mezzo_model::resources::Resources;
use mezzo_wire::v1::TaskState;
use mezzo_wire::v1::master::response::GetState;

use super::About;
use super::roles::bag;

type Numbers = BTreeMap<String, f64>;

fn put(numbers: &mut Numbers, name: impl Into<String>, value: f64) {
    numbers.insert(name.into(), value);
}

/// What this process counts, and what adds up from everything that is there.
pub(super) fn of_master(about: &About, state: &GetState) -> Numbers {
    let mut numbers = Numbers::new();
    counted(about, &mut numbers);
    frameworks(state, &mut numbers);
    agents(state, &mut numbers);
    tasks(state, &mut numbers);
    numbers
}

fn counted(about: &About, numbers: &mut Numbers) {
    let now = about.board.now();
    let (gauges, counters) = (now.gauges, now.counters);
    put(
        numbers,
        "master/elected",
        f64::from(u8::from(now.is_leading)),
    );
    put(
        numbers,
        "master/uptime_secs",
        about.started.elapsed().as_secs_f64(),
    );
    for (name, count) in [
        ("frameworks_connected", gauges.frameworks_connected),
        ("frameworks_disconnected", gauges.frameworks_disconnected),
        ("slaves_connected", gauges.agents_connected),
        ("slaves_disconnected", gauges.agents_disconnected),
        ("slaves_unreachable", gauges.agents_unreachable),
        ("outstanding_offers", gauges.offers),
    ] {
        put(numbers, format!("master/{name}"), count as f64);
    }
    for (name, count) in [
        ("slave_registrations", counters.agents_registered),
        ("slave_reregistrations", counters.agents_reregistered),
        (
            "slave_removals",
            counters.agents_removed + counters.agents_unreachable,
        ),
        ("slave_unreachable_completed", counters.agents_unreachable),
        ("messages_status_update", counters.updates_received),
        (
            "messages_status_update_acknowledgement",
            counters.acknowledgements,
        ),
        ("messages_reconcile_tasks", counters.reconciliations),
    ] {
        put(numbers, format!("master/{name}"), count as f64);
    }
}

fn frameworks(state: &GetState, numbers: &mut Numbers) {
    let all = state.get_frameworks.iter().flat_map(|all| &all.frameworks);
    let (active, inactive): (Vec<_>, Vec<_>) = all.partition(|framework| framework.active);
    put(numbers, "master/frameworks_active", active.len() as f64);
    put(numbers, "master/frameworks_inactive", inactive.len() as f64);
}

fn agents(state: &GetState, numbers: &mut Numbers) {
    let (mut total, mut used, mut offered) = (Resources::new(), Resources::new(), Resources::new());
    let (mut active, mut inactive) = (0u32, 0u32);
    for agent in state.get_agents.iter().flat_map(|all| &all.agents) {
        if agent.active {
            active += 1;
        } else {
            inactive += 1;
        }
        total += bag(&agent.total_resources);
        used += bag(&agent.allocated_resources);
        offered += bag(&agent.offered_resources);
    }
    put(numbers, "master/slaves_active", f64::from(active));
    put(numbers, "master/slaves_inactive", f64::from(inactive));
    for name in ["cpus", "mem", "disk", "gpus"] {
        let of = |resources: &Resources| resources.scalar(name).to_f64();
        for (kind, total, used) in [
            ("", total.non_revocable(), used.non_revocable()),
            ("_revocable", total.revocable(), used.revocable()),
        ] {
            let (total, used) = (of(&total), of(&used));
            let percent = if total > 0.0 { used / total } else { 0.0 };
            put(numbers, format!("master/{name}{kind}_total"), total);
            put(numbers, format!("master/{name}{kind}_used"), used);
            put(numbers, format!("master/{name}{kind}_percent"), percent);
        }
    }
    let mut names: BTreeSet<String> = ["cpus", "disk", "mem"].map(str::to_owned).into();
    let known = total.quantities();
    names.extend(known.iter().map(|(name, _)| name.to_string()));
    for name in names {
        let of = |resources: &Resources| resources.scalar(&name).to_f64();
        let held = of(&used) + of(&offered);
        let place = format!("allocator/mesos/resources/{name}");
        put(numbers, format!("{place}/total"), of(&total));
        put(numbers, format!("{place}/offered_or_allocated"), held);
    }
}

fn tasks(state: &GetState, numbers: &mut Numbers) {
    let tasks = state.get_tasks.as_ref();
    let live = || tasks.iter().flat_map(|all| &all.tasks);
    for (name, state) in [
        ("staging", TaskState::TaskStaging),
        ("starting", TaskState::TaskStarting),
        ("running", TaskState::TaskRunning),
        ("killing", TaskState::TaskKilling),
    ] {
        let count = live().filter(|task| task.state == state as i32).count();
        put(numbers, format!("master/tasks_{name}"), count as f64);
    }
    let unreachable = tasks.map_or(0, |all| all.unreachable_tasks.len());
    put(numbers, "master/tasks_unreachable", unreachable as f64);
}

/// What the kernel says of this machine; what it does not say is left out.
pub(super) async fn of_system(numbers: &mut Numbers) {
    if let Ok(count) = std::thread::available_parallelism() {
        put(numbers, "system/cpus_total", count.get() as f64);
    }
    if let Ok(load) = tokio::fs::read_to_string("/proc/loadavg").await {
        for (minutes, load) in ["1", "5", "15"].iter().zip(load.split_whitespace()) {
            if let Ok(load) = load.parse() {
                put(numbers, format!("system/load_{minutes}min"), load);
            }
        }
    }
    if let Ok(memory) = tokio::fs::read_to_string("/proc/meminfo").await {
        for (key, name) in [("MemTotal:", "total"), ("MemFree:", "free")] {
            let line = memory.lines().find_map(|line| line.strip_prefix(key));
            let kibibytes = line
                .and_then(|line| line.split_whitespace().next())
                .and_then(|number| number.parse::<f64>().ok());
            if let Some(kibibytes) = kibibytes {
                put(
                    numbers,
                    format!("system/mem_{name}_bytes"),
                    kibibytes * 1024.0,
                );
            }
        }
    }
}
