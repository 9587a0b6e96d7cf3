//! Tasks, and the page that lists them.

use std::cmp::Ordering;

use mezzo_wire::v1;
use mezzo_wire::v1::master::response::GetState;

use super::json::{Object, object};
use super::{page, put_amounts, put_labels};
use crate::api::http::query::Query;
use crate::api::reads::bag;

/// Tasks that `/tasks` shows when nobody says how many.
const LIMIT: usize = 100;

/// What `/tasks` is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::api::http) struct TaskQuery {
    limit: usize,
    offset: usize,
    is_ascending: bool,
    framework: Option<String>,
    task: Option<String>,
}

impl TaskQuery {
    /// Numbers that are none count as absent.
    pub fn of(query: &Query) -> Self {
        let number = |name| query.get(name).and_then(|text| text.parse().ok());
        Self {
            limit: number("limit").unwrap_or(LIMIT),
            offset: number("offset").unwrap_or(0),
            is_ascending: query.get("order") == Some("asc"),
            framework: query.get("framework_id").map(str::to_owned),
            task: query.get("task_id").map(str::to_owned),
        }
    }

    fn takes(&self, task: &v1::Task) -> bool {
        let is = |asked: &Option<String>, id: &str| asked.as_ref().is_none_or(|asked| asked == id);
        is(&self.framework, &task.framework_id.value) && is(&self.task, &task.task_id.value)
    }
}

/// `/tasks`: the newest first, unless asked otherwise. A task that nothing was told of is the newest.
pub(in crate::api::http) fn tasks(state: &GetState, query: &TaskQuery) -> Vec<u8> {
    let all = state.get_tasks.iter().flat_map(|all| {
        let live = all.tasks.iter().chain(&all.unreachable_tasks);
        live.chain(&all.completed_tasks)
    });
    let mut tasks: Vec<&v1::Task> = all.filter(|task| query.takes(task)).collect();
    tasks.sort_by(|left, right| {
        let order = by_age(left, right);
        if query.is_ascending {
            order
        } else {
            order.reverse()
        }
    });
    let shown = tasks.into_iter().skip(query.offset).take(query.limit);
    page(|o| {
        o.array("tasks", shown, |out, task| object(out, |o| put(o, task)));
    })
}

fn by_age(left: &v1::Task, right: &v1::Task) -> Ordering {
    let first = |task: &v1::Task| {
        let status = task.statuses.first()?;
        Some(status.timestamp.unwrap_or(0.0))
    };
    match (first(left), first(right)) {
        (Some(left), Some(right)) => left.total_cmp(&right),
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
    }
}

/// One task.
pub(super) fn put(o: &mut Object<'_>, task: &v1::Task) {
    let executor = task.executor_id.as_ref();
    let resources = bag(&task.resources);
    o.text("id", &task.task_id.value);
    o.text("name", &task.name);
    o.text("framework_id", &task.framework_id.value);
    o.text("executor_id", executor.map_or("", |id| &id.value));
    o.text("slave_id", &task.agent_id.value);
    o.text("state", task.state().as_str_name());
    put_amounts(o, "resources", &resources);
    if let Some(role) = resources.iter().find_map(|held| held.allocation.as_ref()) {
        o.text("role", role.as_str());
    }
    o.array("statuses", &task.statuses, |out, status| {
        object(out, |o| put_status(o, status));
    });
    o.text_if("user", task.user.as_deref());
    put_labels(o, task.labels.as_ref());
    o.message_if("discovery", task.discovery.as_ref());
    o.message_if("container", task.container.as_ref());
    o.message_if("health_check", task.health_check.as_ref());
}

fn put_status(o: &mut Object<'_>, status: &v1::TaskStatus) {
    o.text("state", status.state().as_str_name());
    o.number("timestamp", status.timestamp.unwrap_or(0.0));
    put_labels(o, status.labels.as_ref());
    if let Some(container) = &status.container_status {
        let mut container = container.clone();
        container.executor_pid = None;
        o.message("container_status", &container);
    }
    if let Some(healthy) = status.healthy {
        o.flag("healthy", healthy);
    }
}

#[cfg(test)]
mod tests {
    use mezzo_wire::v1::master::response::GetTasks;

    use super::*;

    fn task(id: &str, first: Option<f64>) -> v1::Task {
        let status = |timestamp| v1::TaskStatus {
            timestamp: Some(timestamp),
            ..Default::default()
        };
        v1::Task {
            task_id: id.into(),
            framework_id: "f".into(),
            statuses: first.map(status).into_iter().collect(),
            ..Default::default()
        }
    }

    fn shown(query: &str) -> Vec<String> {
        let state = GetState {
            get_tasks: Some(GetTasks {
                tasks: vec![task("b", Some(2.0)), task("new", None)],
                completed_tasks: vec![task("a", Some(1.0)), task("c", Some(3.0))],
                ..Default::default()
            }),
            ..Default::default()
        };
        let page = tasks(&state, &TaskQuery::of(&Query::parse(query)));
        let page: serde_json::Value = serde_json::from_slice(&page).unwrap();
        let tasks = page["tasks"].as_array().unwrap();
        tasks
            .iter()
            .map(|task| task["id"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn the_newest_first_unless_asked_otherwise() {
        assert_eq!(shown(""), ["new", "c", "b", "a"]);
        assert_eq!(shown("order=asc"), ["a", "b", "c", "new"]);
        assert_eq!(shown("limit=2&offset=1"), ["c", "b"]);
        assert_eq!(shown("limit=abc&offset=-1"), ["new", "c", "b", "a"]);
        assert_eq!(shown("limit=0"), Vec::<String>::new());
        assert_eq!(shown("task_id=b"), ["b"]);
        assert_eq!(shown("framework_id=g"), Vec::<String>::new());
    }
}
