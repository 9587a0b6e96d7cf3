//! Agents, frameworks and tasks as rows of a table.

use serde::Serialize;

use super::{Agent, Framework, Task};
use crate::output::{Row, ago, mebibytes, short};

impl Row for Agent {
    const TITLES: &'static [&'static str] =
        &["HOST", "STATE", "TASKS", "CPUS", "MEM", "DISK", "ID"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.hostname.clone(),
            self.state.to_owned(),
            self.tasks.to_string(),
            format!("{}/{}", short(self.used.cpus), short(self.total.cpus)),
            format!("{}/{}", mebibytes(self.used.mem), mebibytes(self.total.mem)),
            format!(
                "{}/{}",
                mebibytes(self.used.disk),
                mebibytes(self.total.disk)
            ),
            self.id.clone(),
        ]
    }
}

impl Row for Framework {
    const TITLES: &'static [&'static str] =
        &["NAME", "STATE", "ROLES", "TASKS", "CPUS", "MEM", "ID"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.state.to_owned(),
            self.roles.join(","),
            self.tasks.to_string(),
            short(self.used.cpus),
            mebibytes(self.used.mem),
            self.id.clone(),
        ]
    }
}

/// A task with the time at which it is looked at.
pub struct SeenTask<'a> {
    /// The task.
    pub task: &'a Task,
    /// The wall clock, in seconds since the Unix epoch.
    pub now: f64,
}

impl Serialize for SeenTask<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.task.serialize(serializer)
    }
}

impl Row for SeenTask<'_> {
    const TITLES: &'static [&'static str] = &[
        "ID",
        "STATE",
        "SINCE",
        "CPUS",
        "MEM",
        "HOST",
        "FRAMEWORK",
        "MESSAGE",
    ];

    fn cells(&self) -> Vec<String> {
        let task = self.task;
        let state = task.state.trim_start_matches("TASK_").to_ascii_lowercase();
        let health = match task.healthy {
            Some(true) => ", healthy",
            Some(false) => ", unhealthy",
            None => "",
        };
        vec![
            task.id.clone(),
            format!("{state}{health}"),
            task.since
                .map_or_else(String::new, |since| ago(self.now - since)),
            short(task.resources.cpus),
            mebibytes(task.resources.mem),
            task.hostname.clone(),
            task.framework.clone(),
            task.message
                .as_deref()
                .unwrap_or_default()
                .chars()
                .take(80)
                .collect(),
        ]
    }
}
