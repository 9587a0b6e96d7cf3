//! What an agent says about itself when it registers.

use std::collections::BTreeSet;
use std::sync::Arc;

use mezzo_model::attributes::Attributes;
use mezzo_model::ids::{AgentId, ExecutorId, FrameworkId, TaskId};
use mezzo_model::resources::Resources;
use mezzo_model::{Role, TaskState};
use mezzo_wire::link::Hello;
use mezzo_wire::v1;

use super::Invalid;
use crate::allocator::AgentSpec;

/// The longest host name.
const MAX_HOSTNAME: usize = 255;

/// One task of a `Hello`.
#[derive(Clone, Debug)]
pub struct HeldTask {
    /// Whose.
    pub framework: FrameworkId,
    /// Its id.
    pub id: TaskId,
    /// Its executor, if frameworks may name it.
    pub executor: Option<ExecutorId>,
    /// In which role.
    pub role: Role,
    /// What it uses, without allocation.
    pub resources: Resources,
    /// The newest state that the agent knows.
    pub state: TaskState,
    /// The message.
    pub wire: v1::Task,
}

/// One executor of a `Hello`.
#[derive(Clone, Debug)]
pub struct HeldExecutor {
    /// Whose.
    pub framework: FrameworkId,
    /// Its id.
    pub id: ExecutorId,
    /// In which role.
    pub role: Role,
    /// What it uses, without allocation.
    pub resources: Resources,
    /// The message.
    pub wire: v1::ExecutorInfo,
}

/// A `Hello` that was found in order.
#[derive(Clone, Debug)]
pub struct Report {
    /// The id that the agent says it has.
    pub id: Option<AgentId>,
    /// What it is and has.
    pub spec: AgentSpec,
    /// Its tasks.
    pub tasks: Vec<HeldTask>,
    /// Its executors.
    pub executors: Vec<HeldExecutor>,
    /// The message.
    pub hello: Hello,
}

/// Checks a `Hello`.
///
/// # Errors
/// Names what is wrong; the agent has to be mended before it can join.
pub fn report(hello: Hello) -> Result<Report, Invalid> {
    let wrong = |what: &str, why: String| Invalid::new(format!("{what} is not valid: {why}"));
    let id = match &hello.agent.id {
        Some(id) => {
            Some(AgentId::from_wire(id).map_err(|why| wrong("the agent's id", why.to_string()))?)
        }
        None => None,
    };
    if id.is_none() && !(hello.tasks.is_empty() && hello.executors.is_empty()) {
        return Err("an agent without an id cannot hold tasks".into());
    }
    let spec = spec(&hello.agent)?;
    let mut seen = BTreeSet::new();
    let mut tasks = Vec::with_capacity(hello.tasks.len());
    for wire in &hello.tasks {
        let name = format!("task '{}'", wire.task_id.value.escape_debug());
        let task = held_task(wire).map_err(|why| wrong(&name, why))?;
        if !seen.insert((task.framework.clone(), task.id.clone())) {
            return Err(wrong(&name, "it stands twice in the list".into()));
        }
        tasks.push(task);
    }
    let mut seen = BTreeSet::new();
    let mut executors = Vec::with_capacity(hello.executors.len());
    for wire in &hello.executors {
        let name = format!("executor '{}'", wire.executor_id.value.escape_debug());
        let executor = held_executor(wire).map_err(|why| wrong(&name, why))?;
        if !seen.insert((executor.framework.clone(), executor.id.clone())) {
            return Err(wrong(&name, "it stands twice in the list".into()));
        }
        executors.push(executor);
    }
    Ok(Report {
        id,
        spec,
        tasks,
        executors,
        hello,
    })
}

/// Checks an agent's description.
///
/// # Errors
/// Names what is wrong.
pub fn spec(info: &v1::AgentInfo) -> Result<AgentSpec, Invalid> {
    let hostname = &info.hostname;
    if hostname.is_empty()
        || hostname.len() > MAX_HOSTNAME
        || hostname.chars().any(char::is_control)
    {
        return Err(Invalid::new(format!(
            "the agent's host name '{}' is not between 1 and {MAX_HOSTNAME} printable characters",
            hostname.escape_debug()
        )));
    }
    let total =
        Resources::from_wire(&info.resources).map_err(|why| Invalid::new(why.to_string()))?;
    let attributes =
        Attributes::from_wire(&info.attributes).map_err(|why| Invalid::new(why.to_string()))?;
    let domain = info
        .domain
        .as_ref()
        .and_then(|domain| domain.fault_domain.as_ref())
        .map(|domain| {
            (
                Arc::from(domain.region.name.as_str()),
                Arc::from(domain.zone.name.as_str()),
            )
        });
    Ok(AgentSpec {
        total: total.unallocated(),
        hostname: Arc::from(hostname.as_str()),
        domain,
        attributes: Arc::new(attributes),
    })
}

/// The resources of something that runs, and the role in which it does.
fn used(wire: &[v1::Resource]) -> Result<(Role, Resources), String> {
    let resources = Resources::from_wire(wire).map_err(|why| why.to_string())?;
    let mut role: Option<&Role> = None;
    for resource in &resources {
        match (role, &resource.allocation) {
            (None, Some(found)) => role = Some(found),
            (Some(role), Some(found)) if role != found => {
                return Err(format!(
                    "it is allocated to two roles, '{role}' and '{found}'"
                ));
            }
            _ => {}
        }
    }
    Ok((role.cloned().unwrap_or_default(), resources.unallocated()))
}

fn held_task(wire: &v1::Task) -> Result<HeldTask, String> {
    let (role, resources) = used(&wire.resources)?;
    Ok(HeldTask {
        framework: FrameworkId::from_wire(&wire.framework_id).map_err(|why| why.to_string())?,
        id: TaskId::from_wire(&wire.task_id).map_err(|why| why.to_string())?,
        executor: match &wire.executor_id {
            Some(id) => Some(ExecutorId::from_wire(id).map_err(|why| why.to_string())?),
            None => None,
        },
        role,
        resources,
        state: TaskState::from_number(wire.state).ok_or("its state is unknown")?,
        wire: wire.clone(),
    })
}

fn held_executor(wire: &v1::ExecutorInfo) -> Result<HeldExecutor, String> {
    let (role, resources) = used(&wire.resources)?;
    let framework = wire
        .framework_id
        .as_ref()
        .ok_or("its framework is not named")?;
    Ok(HeldExecutor {
        framework: FrameworkId::from_wire(framework).map_err(|why| why.to_string())?,
        id: ExecutorId::from_wire(&wire.executor_id).map_err(|why| why.to_string())?,
        role,
        resources,
        wire: wire.clone(),
    })
}
