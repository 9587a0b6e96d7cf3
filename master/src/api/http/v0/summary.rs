//! `/state-summary`: agents and frameworks with counts of tasks in place of the tasks.

use std::collections::{BTreeMap, BTreeSet};

use mezzo_wire::v1::TaskState;
use mezzo_wire::v1::master::response::GetState;

use super::frameworks::{self, Books};
use super::json::{self, Object, object};
use super::{agents, page};
use crate::api::reads::About;

/// The states that are counted.
const COUNTED: [TaskState; 10] = [
    TaskState::TaskStaging,
    TaskState::TaskStarting,
    TaskState::TaskRunning,
    TaskState::TaskKilling,
    TaskState::TaskFinished,
    TaskState::TaskKilled,
    TaskState::TaskFailed,
    TaskState::TaskLost,
    TaskState::TaskError,
    TaskState::TaskUnreachable,
];

/// Tasks by state, and who they belong to on the other side.
#[derive(Default)]
struct Tally<'s> {
    by_state: BTreeMap<i32, i64>,
    others: BTreeSet<&'s str>,
}

impl<'s> Tally<'s> {
    fn add(&mut self, state: i32, other: &'s str) {
        *self.by_state.entry(state).or_default() += 1;
        self.others.insert(other);
    }

    fn put(&self, o: &mut Object<'_>, others: &str) {
        for state in COUNTED {
            let count = self.by_state.get(&(state as i32)).copied();
            o.whole(state.as_str_name(), count.unwrap_or(0));
        }
        o.array(others, &self.others, |out, id| json::text(out, id));
    }
}

/// The page. Frameworks that are gone do not count.
pub(in crate::api::http) fn summary(about: &About, state: &GetState) -> Vec<u8> {
    let books = Books::of(state);
    let here = || {
        let all = state.get_frameworks.iter();
        all.flat_map(|all| &all.frameworks)
    };
    let mut by_agent: BTreeMap<&str, Tally<'_>> = BTreeMap::new();
    let mut by_framework: BTreeMap<&str, Tally<'_>> = BTreeMap::new();
    for framework in here() {
        let id = frameworks::id(framework);
        for list in [&books.tasks, &books.unreachable, &books.completed] {
            for task in list.get(id).into_iter().flatten() {
                let agent = &*task.agent_id.value;
                by_agent.entry(agent).or_default().add(task.state, id);
                by_framework.entry(id).or_default().add(task.state, agent);
            }
        }
    }
    let nothing = Tally::default();
    let info = &about.master;
    page(|o| {
        o.text("hostname", info.hostname.as_deref().unwrap_or_default());
        o.text_if("cluster", about.cluster.as_deref());
        let registered = state.get_agents.iter().flat_map(|all| &all.agents);
        o.array("slaves", registered, |out, agent| {
            object(out, |o| {
                agents::put(o, agent);
                let tally = by_agent.get(agents::id(agent)).unwrap_or(&nothing);
                tally.put(o, "framework_ids");
            });
        });
        o.array("frameworks", here(), |out, framework| {
            object(out, |o| {
                frameworks::put_head(o, framework);
                let id = frameworks::id(framework);
                let tally = by_framework.get(id).unwrap_or(&nothing);
                tally.put(o, "slave_ids");
            });
        });
    })
}
