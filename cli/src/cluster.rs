//! What the master knows, as lean rows: agents, frameworks, tasks.
//!
//! Invariant: pure; the clock and the answers are handed in.

mod rows;

use std::collections::BTreeMap;

use mezzo_wire::v1;
use mezzo_wire::v1::master::response::{GetState, GetTasks, get_agents, get_frameworks};
use serde::Serialize;

use crate::client::master::state_name;

pub use rows::SeenTask;

/// Amounts of the resources that everybody asks about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Amounts {
    /// Processors.
    pub cpus: f64,
    /// Memory in MiB.
    pub mem: f64,
    /// Disk in MiB.
    pub disk: f64,
}

impl Amounts {
    /// The sum of what is there.
    pub fn of(resources: &[v1::Resource]) -> Self {
        let sum = |name: &str| -> f64 {
            let named = resources.iter().filter(|resource| resource.name == name);
            let total: f64 = named
                .filter_map(|resource| Some(resource.scalar.as_ref()?.value))
                .sum();
            // An empty sum of floats is minus zero.
            (total * 1000.0).round() / 1000.0 + 0.0
        };
        Self {
            cpus: sum("cpus"),
            mem: sum("mem"),
            disk: sum("disk"),
        }
    }

    /// Adds another.
    pub fn add(&mut self, other: Self) {
        self.cpus += other.cpus;
        self.mem += other.mem;
        self.disk += other.disk;
    }
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Agent {
    /// Its id.
    pub id: String,
    /// Its name.
    pub hostname: String,
    /// `active`, `inactive`, `draining` or `recovered` (known from before, not back yet).
    pub state: &'static str,
    /// What it has.
    pub total: Amounts,
    /// What tasks have of it.
    pub used: Amounts,
    /// Its version.
    pub version: String,
    /// How many tasks it runs.
    pub tasks: usize,
}

/// A framework.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Framework {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `active`, `inactive`, `disconnected`, `recovered` or `completed`.
    pub state: &'static str,
    /// Its roles.
    pub roles: Vec<String>,
    /// Where it is to be seen.
    pub url: Option<String>,
    /// What its tasks have.
    pub used: Amounts,
    /// What it is offered.
    pub offered: Amounts,
    /// How many tasks it runs.
    pub tasks: usize,
}

/// A task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Task {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its state, such as `TASK_RUNNING`.
    pub state: &'static str,
    /// Whether its health check is content; `null` if it has none.
    pub healthy: Option<bool>,
    /// The id of its framework.
    pub framework_id: String,
    /// The name of its framework.
    pub framework: String,
    /// The id of its agent.
    pub agent_id: String,
    /// The name of its agent.
    pub hostname: String,
    /// What it has.
    pub resources: Amounts,
    /// Since when it is in this state, in seconds since the Unix epoch.
    pub since: Option<f64>,
    /// Why it is in this state, if somebody said so.
    pub message: Option<String>,
    /// Whether it has ended.
    #[serde(skip)]
    pub ended: bool,
}

/// Everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cluster {
    /// Agents, by name.
    pub agents: Vec<Agent>,
    /// Frameworks, by name; completed ones last.
    pub frameworks: Vec<Framework>,
    /// Tasks, live ones first, the newest last.
    pub tasks: Vec<Task>,
}

impl Cluster {
    /// The rows of a state.
    pub fn of(state: &GetState) -> Self {
        let mut names = Names::default();
        let frameworks = state.get_frameworks.as_ref();
        for framework in frameworks
            .iter()
            .flat_map(|list| list.frameworks.iter().chain(&list.completed_frameworks))
        {
            names.framework(&framework.framework_info);
        }
        for framework in frameworks
            .iter()
            .flat_map(|list| &list.recovered_frameworks)
        {
            names.framework(framework);
        }
        let agents = state.get_agents.as_ref();
        for agent in agents.iter().flat_map(|list| &list.agents) {
            names.agent(&agent.agent_info);
        }
        for agent in agents.iter().flat_map(|list| &list.recovered_agents) {
            names.agent(agent);
        }
        let tasks = state
            .get_tasks
            .as_ref()
            .map(|tasks| rows_of(tasks, &names))
            .unwrap_or_default();
        let mut cluster = Self {
            agents: Vec::new(),
            frameworks: Vec::new(),
            tasks,
        };
        for agent in agents.iter().flat_map(|list| &list.agents) {
            cluster.agents.push(agent_row(agent));
        }
        for agent in agents.iter().flat_map(|list| &list.recovered_agents) {
            cluster.agents.push(recovered_agent(agent));
        }
        for framework in frameworks.iter().flat_map(|list| &list.frameworks) {
            cluster.frameworks.push(framework_row(framework, false));
        }
        for framework in frameworks
            .iter()
            .flat_map(|list| &list.recovered_frameworks)
        {
            cluster.frameworks.push(recovered_framework(framework));
        }
        for framework in frameworks
            .iter()
            .flat_map(|list| &list.completed_frameworks)
        {
            cluster.frameworks.push(framework_row(framework, true));
        }
        cluster.count();
        cluster
            .agents
            .sort_by(|a, b| (&a.hostname, &a.id).cmp(&(&b.hostname, &b.id)));
        cluster.frameworks.sort_by(|a, b| {
            (a.state == "completed", &a.name, &a.id).cmp(&(b.state == "completed", &b.name, &b.id))
        });
        cluster
    }

    fn count(&mut self) {
        for task in self.tasks.iter().filter(|task| !task.ended) {
            if let Some(agent) = self
                .agents
                .iter_mut()
                .find(|agent| agent.id == task.agent_id)
            {
                agent.tasks += 1;
            }
            let framework = self
                .frameworks
                .iter_mut()
                .find(|framework| framework.id == task.framework_id);
            if let Some(framework) = framework {
                framework.tasks += 1;
            }
        }
    }

    /// How many tasks are in each state.
    pub fn states(&self) -> BTreeMap<&'static str, usize> {
        let mut states = BTreeMap::new();
        for task in &self.tasks {
            *states.entry(task.state).or_default() += 1;
        }
        states
    }

    /// What all active agents have, and what tasks have of it.
    pub fn amounts(&self) -> (Amounts, Amounts) {
        let (mut total, mut used) = (Amounts::default(), Amounts::default());
        for agent in self.agents.iter().filter(|agent| agent.state == "active") {
            total.add(agent.total);
            used.add(agent.used);
        }
        (total, used)
    }
}

/// The rows of tasks whose agents and frameworks are not known by name.
pub fn tasks(tasks: &GetTasks) -> Vec<Task> {
    rows_of(tasks, &Names::default())
}

#[derive(Default)]
struct Names {
    frameworks: BTreeMap<String, String>,
    agents: BTreeMap<String, String>,
}

impl Names {
    fn framework(&mut self, info: &v1::FrameworkInfo) {
        if let Some(id) = &info.id {
            self.frameworks.insert(id.value.clone(), info.name.clone());
        }
    }

    fn agent(&mut self, info: &v1::AgentInfo) {
        if let Some(id) = &info.id {
            self.agents.insert(id.value.clone(), info.hostname.clone());
        }
    }
}

fn rows_of(tasks: &GetTasks, names: &Names) -> Vec<Task> {
    let live = tasks
        .tasks
        .iter()
        .chain(&tasks.unreachable_tasks)
        .chain(&tasks.pending_tasks);
    let mut rows: Vec<Task> = live.map(|task| task_row(task, names, false)).collect();
    rows.extend(
        tasks
            .completed_tasks
            .iter()
            .map(|task| task_row(task, names, true)),
    );
    // A task that has ended and is not acknowledged is among the live ones.
    for row in &mut rows {
        row.ended |= is_over(row.state);
    }
    let since = |task: &Task| task.since.unwrap_or(f64::MAX);
    rows.sort_by(|a, b| a.ended.cmp(&b.ended).then(since(a).total_cmp(&since(b))));
    rows
}

fn is_over(state: &str) -> bool {
    matches!(
        state,
        "TASK_FINISHED"
            | "TASK_FAILED"
            | "TASK_KILLED"
            | "TASK_LOST"
            | "TASK_ERROR"
            | "TASK_DROPPED"
            | "TASK_GONE"
            | "TASK_GONE_BY_OPERATOR"
    )
}

fn task_row(task: &v1::Task, names: &Names, completed: bool) -> Task {
    let of = |names: &BTreeMap<String, String>, id: &str| {
        names.get(id).cloned().unwrap_or_else(|| id.to_owned())
    };
    let last = task
        .statuses
        .iter()
        .rev()
        .find(|status| status.state == task.state);
    let message = last.and_then(|status| status.message.clone());
    Task {
        id: task.task_id.value.clone(),
        name: task.name.clone(),
        state: state_name(task.state),
        healthy: task.statuses.last().and_then(|status| status.healthy),
        framework_id: task.framework_id.value.clone(),
        framework: of(&names.frameworks, &task.framework_id.value),
        agent_id: task.agent_id.value.clone(),
        hostname: of(&names.agents, &task.agent_id.value),
        resources: Amounts::of(&task.resources),
        since: last.and_then(|status| status.timestamp),
        message: message.filter(|message| !message.is_empty()),
        ended: completed,
    }
}

fn agent_row(agent: &get_agents::Agent) -> Agent {
    let state = match (agent.active, agent.deactivated(), &agent.drain_info) {
        (_, _, Some(_)) => "draining",
        (_, true, None) | (false, _, None) => "inactive",
        (true, false, None) => "active",
    };
    Agent {
        id: agent
            .agent_info
            .id
            .as_ref()
            .map_or_else(String::new, |id| id.value.clone()),
        hostname: agent.agent_info.hostname.clone(),
        state,
        total: Amounts::of(&agent.total_resources),
        used: Amounts::of(&agent.allocated_resources),
        version: agent.version.clone(),
        tasks: 0,
    }
}

fn recovered_agent(agent: &v1::AgentInfo) -> Agent {
    Agent {
        id: agent
            .id
            .as_ref()
            .map_or_else(String::new, |id| id.value.clone()),
        hostname: agent.hostname.clone(),
        state: "recovered",
        total: Amounts::of(&agent.resources),
        used: Amounts::default(),
        version: String::new(),
        tasks: 0,
    }
}

fn framework_row(framework: &get_frameworks::Framework, completed: bool) -> Framework {
    let state = match (completed, framework.connected, framework.active) {
        (true, _, _) => "completed",
        (false, false, _) => "disconnected",
        (false, true, false) => "inactive",
        (false, true, true) => "active",
    };
    Framework {
        state,
        used: Amounts::of(&framework.allocated_resources),
        offered: Amounts::of(&framework.offered_resources),
        ..recovered_framework(&framework.framework_info)
    }
}

fn recovered_framework(info: &v1::FrameworkInfo) -> Framework {
    let roles = if info.roles.is_empty() {
        vec![info.role().to_owned()]
    } else {
        info.roles.clone()
    };
    Framework {
        id: info
            .id
            .as_ref()
            .map_or_else(String::new, |id| id.value.clone()),
        name: info.name.clone(),
        state: "recovered",
        roles,
        url: info.webui_url.clone(),
        used: Amounts::default(),
        offered: Amounts::default(),
        tasks: 0,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use mezzo_model::resources::Resources;
    use mezzo_wire::v1::TaskState::{self, TaskFinished, TaskRunning};

    use super::*;
    use crate::output::{Format, rows};

    fn resources(text: &str) -> Vec<v1::Resource> {
        Resources::parse(text).expect("good").to_wire()
    }

    pub(crate) fn task(id: &str, state: TaskState, message: &str) -> v1::Task {
        let status = v1::TaskStatus {
            task_id: v1::TaskId {
                value: id.to_owned(),
            },
            state: state as i32,
            timestamp: Some(1000.0),
            message: Some(message.to_owned()),
            ..Default::default()
        };
        v1::Task {
            name: "hello".to_owned(),
            task_id: v1::TaskId {
                value: id.to_owned(),
            },
            framework_id: v1::FrameworkId {
                value: "f-1".to_owned(),
            },
            agent_id: v1::AgentId {
                value: "a-1".to_owned(),
            },
            state: state as i32,
            resources: resources("cpus:0.1;mem:32"),
            statuses: vec![status],
            ..Default::default()
        }
    }

    /// A master with one agent, one framework, a task that runs and one that has ended.
    pub(crate) fn state() -> GetState {
        use mezzo_wire::v1::master::response::{GetAgents, GetFrameworks};
        let agent = get_agents::Agent {
            agent_info: v1::AgentInfo {
                hostname: "host-1".to_owned(),
                id: Some(v1::AgentId {
                    value: "a-1".to_owned(),
                }),
                ..Default::default()
            },
            active: true,
            version: "0.1.0".to_owned(),
            total_resources: resources("cpus:4;mem:4096;disk:20480;ports:[31000-32000]"),
            allocated_resources: resources("cpus:0.1;mem:32"),
            ..Default::default()
        };
        let framework = get_frameworks::Framework {
            framework_info: v1::FrameworkInfo {
                name: "service".to_owned(),
                id: Some(v1::FrameworkId {
                    value: "f-1".to_owned(),
                }),
                roles: vec!["*".to_owned()],
                ..Default::default()
            },
            active: true,
            connected: true,
            allocated_resources: resources("cpus:0.1;mem:32"),
            ..Default::default()
        };
        GetState {
            get_tasks: Some(GetTasks {
                tasks: vec![task("t-1", TaskRunning, "")],
                completed_tasks: vec![task("t-0", TaskFinished, "Command exited with status 0")],
                ..Default::default()
            }),
            get_executors: None,
            get_frameworks: Some(GetFrameworks {
                frameworks: vec![framework],
                ..Default::default()
            }),
            get_agents: Some(GetAgents {
                agents: vec![agent],
                ..Default::default()
            }),
        }
    }

    #[test]
    fn agents_frameworks_and_tasks_are_rows() {
        let cluster = Cluster::of(&state());
        let agents = "HOST    STATE   TASKS  CPUS   MEM        DISK      ID\n\
                      host-1  active  1      0.1/4  32M/4096M  0M/20.0G  a-1\n";
        assert_eq!(rows(&cluster.agents, Format::Table), agents);
        let frameworks = "NAME     STATE   ROLES  TASKS  CPUS  MEM  ID\n\
                          service  active  *      1      0.1   32M  f-1\n";
        assert_eq!(rows(&cluster.frameworks, Format::Table), frameworks);
        let seen: Vec<SeenTask<'_>> = cluster
            .tasks
            .iter()
            .map(|task| SeenTask { task, now: 1060.0 })
            .collect();
        let tasks = "ID   STATE     SINCE  CPUS  MEM  HOST    FRAMEWORK  MESSAGE\n\
                     t-1  running   60s    0.1   32M  host-1  service\n\
                     t-0  finished  60s    0.1   32M  host-1  service    Command exited with status 0\n";
        assert_eq!(rows(&seen, Format::Table), tasks);
        let json: serde_json::Value =
            serde_json::from_str(&rows(&seen, Format::Json)).expect("JSON");
        assert_eq!(
            (&json[0]["id"], &json[0]["state"], &json[0]["agent_id"]),
            (&"t-1".into(), &"TASK_RUNNING".into(), &"a-1".into())
        );
        assert_eq!(
            cluster.states(),
            BTreeMap::from([("TASK_FINISHED", 1), ("TASK_RUNNING", 1)])
        );
        let (total, used) = cluster.amounts();
        assert_eq!((total.cpus, used.mem), (4.0, 32.0));
    }
}
