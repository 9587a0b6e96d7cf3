//! Writing tasks and operations down.

use mezzo_model::ids::{AgentId, TaskId};
use mezzo_model::resources::Milli;
use mezzo_wire::v1;

use super::{Fit, PortWish, Request};

/// What a task is, before it has an id and a place.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskSpec {
    /// The task's name, for people.
    pub name: String,
    /// What it needs.
    pub request: Request,
    /// What it runs, and all else that goes into its description. Id, agent and resources are filled in.
    pub template: v1::TaskInfo,
}

impl TaskSpec {
    /// A task that runs a line of shell.
    pub fn shell(name: &str, line: &str) -> Self {
        Self::running(
            name,
            v1::CommandInfo {
                shell: Some(true),
                value: Some(line.to_owned()),
                ..Default::default()
            },
        )
    }

    /// A task that runs a program with arguments, the program's own name among them.
    pub fn program(name: &str, program: &str, arguments: &[&str]) -> Self {
        Self::running(
            name,
            v1::CommandInfo {
                shell: Some(false),
                value: Some(program.to_owned()),
                arguments: arguments.iter().map(|one| (*one).to_owned()).collect(),
                ..Default::default()
            },
        )
    }

    fn running(name: &str, command: v1::CommandInfo) -> Self {
        let template = v1::TaskInfo {
            command: Some(command),
            ..Default::default()
        };
        Self {
            name: name.to_owned(),
            request: Request::new(),
            template,
        }
    }

    /// Adds an amount, such as `cpus` or `mem` (in MiB); what is no amount counts as nothing.
    #[must_use]
    pub fn needs(mut self, name: &str, amount: f64) -> Self {
        let amount = Milli::from_f64(amount).unwrap_or(Milli::ZERO);
        self.request = self.request.scalar(name, amount);
        self
    }

    /// Adds a port; the task finds its number in `PORT0`, `PORT1`, ... in the order of the wishes.
    #[must_use]
    pub fn port(mut self, wish: PortWish) -> Self {
        self.request = self.request.port(wish);
        self
    }

    /// Adds a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        set_env(&mut self.template, name, value);
        self
    }

    /// The description of one task of this kind, at a place.
    pub fn at(&self, id: &TaskId, agent: &AgentId, fit: &Fit) -> v1::TaskInfo {
        let mut task = v1::TaskInfo {
            name: self.name.clone(),
            task_id: id.to_wire(),
            agent_id: agent.to_wire(),
            resources: fit.resources.to_wire(),
            ..self.template.clone()
        };
        for (number, port) in fit.ports.iter().enumerate() {
            set_env(&mut task, &format!("PORT{number}"), &port.to_string());
        }
        task
    }
}

fn set_env(task: &mut v1::TaskInfo, name: &str, value: &str) {
    let command = task.command.get_or_insert_default();
    let variables = &mut command.environment.get_or_insert_default().variables;
    variables.retain(|variable| variable.name != name);
    variables.push(v1::environment::Variable {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        ..Default::default()
    });
}

/// The operation that launches tasks.
pub fn launch(task_infos: Vec<v1::TaskInfo>) -> v1::offer::Operation {
    v1::offer::Operation {
        r#type: Some(v1::offer::operation::Type::Launch as i32),
        launch: Some(v1::offer::operation::Launch { task_infos }),
        ..Default::default()
    }
}

/// The operation that launches tasks together under one executor: all or none.
pub fn launch_group(executor: v1::ExecutorInfo, tasks: Vec<v1::TaskInfo>) -> v1::offer::Operation {
    v1::offer::Operation {
        r#type: Some(v1::offer::operation::Type::LaunchGroup as i32),
        launch_group: Some(v1::offer::operation::LaunchGroup {
            executor,
            task_group: v1::TaskGroupInfo { tasks },
        }),
        ..Default::default()
    }
}

/// A filter: do not offer the rest again for so many seconds.
pub fn refuse_for(seconds: f64) -> v1::Filters {
    v1::Filters {
        refuse_seconds: Some(seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mezzo_model::resources::Resources;
    use mezzo_model::rng::Rng;

    #[test]
    fn a_task_is_written_down_with_its_place() {
        let spec = TaskSpec::shell("web", "serve $PORT0")
            .needs("cpus", 0.5)
            .needs("mem", f64::NAN)
            .port(PortWish::Any)
            .env("PORT0", "wrong")
            .env("A", "b");
        let offered = Resources::parse("cpus:1;ports:[8000-8000]").expect("good");
        let found = super::super::fit(&spec.request, &offered, &mut Rng::new(1)).expect("fits");
        let id = TaskId::parse("web.1").expect("good");
        let task = spec.at(&id, &AgentId::parse("a1").expect("good"), &found);
        assert_eq!(task.task_id.value, "web.1");
        assert_eq!(
            Resources::try_from_wire(&task.resources).expect("good"),
            found.resources
        );
        let variables = task
            .command
            .expect("a command")
            .environment
            .expect("some")
            .variables;
        let pairs: Vec<_> = variables
            .iter()
            .map(|one| (one.name.as_str(), one.value.as_deref()))
            .collect();
        assert_eq!(pairs, [("A", Some("b")), ("PORT0", Some("8000"))]);
    }
}
