//! Tasks and groups of tasks that a framework wants to launch.

use std::collections::BTreeSet;

use mezzo_model::Role;
use mezzo_model::ids::{AgentId, ExecutorId, FrameworkId, TaskId};
use mezzo_model::resources::{Milli, Resources, Value};
use mezzo_wire::v1;
use mezzo_wire::v1::container_info::Type as ContainerType;
use mezzo_wire::v1::executor_info::Type as ExecutorType;
use mezzo_wire::v1::health_check::Type as HealthType;

use super::{Invalid, check};

/// Executors of groups have at least this.
const MIN_CPUS: Milli = Milli(10);
/// Executors of groups have at least this, in MB.
const MIN_MEM: Milli = Milli::whole(32);

/// What is known where the task shall run.
pub trait Surroundings {
    /// Whether the framework has a task of this id, and what kind.
    fn task_in_use(&self, id: &str) -> Option<InUse>;
    /// The framework's executor of this id on the agent.
    fn executor(&self, id: &str) -> Option<&v1::ExecutorInfo>;
}

/// Why an id cannot be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InUse {
    /// A task that has not ended, or whose end is not acknowledged.
    Live,
    /// A task on an agent that cannot be reached.
    Unreachable,
}

/// Where, for whom and out of what tasks are launched.
pub struct Place<'a> {
    /// For whom.
    pub framework: &'a FrameworkId,
    /// Where.
    pub agent: &'a AgentId,
    /// The role of the offers.
    pub role: &'a Role,
    /// What is left of the offers, without allocation.
    pub available: &'a Resources,
    /// What is known.
    pub known: &'a dyn Surroundings,
}

/// An executor that a task brings or uses.
#[derive(Clone, Debug)]
pub struct Executor {
    /// Its id.
    pub id: ExecutorId,
    /// Its description, with the framework's id and the allocation filled in.
    pub info: v1::ExecutorInfo,
    /// What it uses, without allocation.
    pub resources: Resources,
    /// It does not run there yet, so that its resources are charged.
    pub is_new: bool,
}

/// A task that was found in order.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Its id.
    pub id: TaskId,
    /// What it uses, without allocation.
    pub resources: Resources,
    /// The executor, unless the agent makes one for it.
    pub executor: Option<Executor>,
}

/// Checks one task of a LAUNCH and fills in what the agent expects (allocation, framework id, kind of health check).
///
/// # Errors
/// In Mesos' order and words.
pub fn launch(info: &mut v1::TaskInfo, place: &Place<'_>) -> Result<Launch, Invalid> {
    let (id, resources) = task(info, place)?;
    if info.executor.is_some() == info.command.is_some() {
        return Err(
            "Task should have at least one (but not both) of CommandInfo or ExecutorInfo \
                    present"
                .into(),
        );
    }
    let executor = match &mut info.executor {
        Some(executor) => Some(task_executor(executor, &resources, place)?),
        None => None,
    };
    let mut total = resources.clone();
    if let Some(executor) = executor.as_ref().filter(|executor| executor.is_new) {
        total += &executor.resources;
    }
    if !place.available.contains(&total) {
        return Err(Invalid::new(format!(
            "Total resources {} required by task and its executor is more than available {}",
            total.allocated_to(place.role),
            place.available.allocated_to(place.role)
        )));
    }
    if share_cgroups(info.container.as_ref()) == Some(false) {
        return Err("Only tasks in a task group may have 'share_cgroups' set to 'false'".into());
    }
    Ok(Launch {
        id,
        resources,
        executor,
    })
}

/// Checks a LAUNCH_GROUP: all of it, or none.
///
/// # Errors
/// In Mesos' order and words: what is wrong with the first member, or with the group.
pub fn group(
    executor: &mut v1::ExecutorInfo,
    tasks: &mut v1::TaskGroupInfo,
    place: &Place<'_>,
) -> Result<(Executor, Vec<Launch>), Invalid> {
    if tasks.tasks.is_empty() {
        return Err("Task group cannot be empty".into());
    }
    let mut launches: Vec<Launch> = Vec::with_capacity(tasks.tasks.len());
    let mut ids = BTreeSet::new();
    // Members carry their executor as sent, so they are compared before anything is filled in.
    let differs = tasks
        .tasks
        .iter()
        .find(|task| task.executor.as_ref().is_some_and(|own| own != executor))
        .map(|task| task.task_id.value.clone());
    for info in &mut tasks.tasks {
        info.executor.get_or_insert_with(|| executor.clone());
        let (id, resources) = task(info, place)?;
        if !ids.insert(id.clone()) {
            return Err(Invalid::new(format!("Task has duplicate ID: {id}")));
        }
        member(info)?;
        launches.push(Launch {
            id,
            resources,
            executor: None,
        });
    }
    if let Some(task) = differs {
        return Err(Invalid::new(format!(
            "The `ExecutorInfo` of task '{task}' is different from executor '{}'",
            executor.executor_id.value
        )));
    }
    let checked = executor_info(executor, place)?;
    group_executor(&checked)?;
    let mut total = Resources::new();
    let mut parts: Vec<&Resources> = launches.iter().map(|launch| &launch.resources).collect();
    parts.push(&checked.resources);
    if overlap(&parts) {
        return Err(
            "There are overlapping resources in the task group's task resources and/or \
                    executor resources"
                .into(),
        );
    }
    for launch in &launches {
        total += &launch.resources;
    }
    if checked.is_new {
        total += &checked.resources;
    }
    if !place.available.contains(&total) {
        return Err(Invalid::new(format!(
            "Total resources {} required by task group and its executor are more than available {}",
            total.allocated_to(place.role),
            place.available.allocated_to(place.role)
        )));
    }
    for (info, launch) in tasks.tasks.iter_mut().zip(&mut launches) {
        info.executor = Some(checked.info.clone());
        // Charged once, with the group.
        launch.executor = Some(Executor {
            is_new: false,
            ..checked.clone()
        });
    }
    Ok((checked, launches))
}

/// What LAUNCH and LAUNCH_GROUP check alike, executor aside.
fn task(info: &mut v1::TaskInfo, place: &Place<'_>) -> Result<(TaskId, Resources), Invalid> {
    // Mesos looks at the resources of a whole operation before it looks at tasks.
    let resources = resources(&mut info.resources, "task", place)?;
    let id = TaskId::from_wire(&info.task_id).map_err(|why| Invalid::new(why.to_string()))?;
    match place.known.task_in_use(id.as_str()) {
        None => {}
        Some(InUse::Live) => return Err(Invalid::new(format!("Task has duplicate ID: {id}"))),
        Some(InUse::Unreachable) => {
            return Err(Invalid::new(format!(
                "Task reuses the ID of an unreachable task: {id}"
            )));
        }
    }
    if info.agent_id.value != place.agent.as_str() {
        return Err(Invalid::new(format!(
            "Task uses invalid agent {} while agent {} is expected",
            info.agent_id.value, place.agent
        )));
    }
    let grace = info
        .kill_policy
        .as_ref()
        .and_then(|policy| policy.grace_period.as_ref());
    if grace.is_some_and(|grace| grace.nanoseconds < 0) {
        return Err("Task's 'kill_policy.grace_period' must be non-negative".into());
    }
    if info
        .max_completion_time
        .as_ref()
        .is_some_and(|time| time.nanoseconds < 0)
    {
        return Err("Task's `max_completion_time` must be non-negative".into());
    }
    if let Some(of) = &info.check {
        check::check(of).map_err(|why| Invalid::new(format!("Task uses invalid check: {why}")))?;
    }
    if let Some(of) = &mut info.health_check {
        check::infer_health_type(of);
        check::health_check(of)
            .map_err(|why| Invalid::new(format!("Task uses invalid health check: {why}")))?;
    }
    if resources.is_empty() {
        return Err("Task uses no resources".into());
    }
    mixed_revocable(&resources).map_err(|why| {
        Invalid::new(format!(
            "Task mixes revocable and non-revocable resources: {why}"
        ))
    })?;
    unique_volumes(&resources)
        .map_err(|why| Invalid::new(format!("Task uses duplicate persistence ID: {why}")))?;
    if let Some(command) = &info.command {
        check::command(command)
            .map_err(|why| Invalid::new(format!("Task's `CommandInfo` is invalid: {why}")))?;
    }
    if let Some(container) = &info.container {
        check::container(container)
            .map_err(|why| Invalid::new(format!("Task's `ContainerInfo` is invalid: {why}")))?;
    }
    limits(info, &resources)?;
    Ok((id, resources))
}

/// Checks resources that are to be used and writes them back with their allocation.
fn resources(
    wire: &mut Vec<v1::Resource>,
    whose: &str,
    place: &Place<'_>,
) -> Result<Resources, Invalid> {
    let resources = Resources::from_wire(wire).map_err(|why| Invalid::new(why.to_string()))?;
    for resource in &resources {
        if let Some(role) = resource
            .allocation
            .as_ref()
            .filter(|role| *role != place.role)
        {
            return Err(Invalid::new(format!(
                "Invalid {whose} resources: The resources have multiple allocation roles ('{}' and \
                 '{role}') but only one allocation role is allowed",
                place.role
            )));
        }
        if &*resource.name == "gpus" && resource.as_scalar().is_some_and(|gpus| !gpus.is_whole()) {
            return Err(Invalid::new(
                "Invalid 'gpus' resource: The 'gpus' resource must be an unsigned integer",
            ));
        }
    }
    let resources = resources.unallocated();
    *wire = resources.allocated_to(place.role).to_wire();
    Ok(resources)
}

fn mixed_revocable(resources: &Resources) -> Result<(), String> {
    for resource in resources {
        let both = resources
            .iter()
            .any(|other| other.name == resource.name && other.revocable != resource.revocable);
        if both {
            return Err(format!(
                "Cannot use both revocable and non-revocable '{}' at the same time",
                resource.name
            ));
        }
    }
    Ok(())
}

fn unique_volumes(resources: &Resources) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for resource in resources {
        if let Some(id) = resource.persistence_id()
            && !seen.insert((resource.reservation_role().cloned(), id))
        {
            return Err(format!("Persistence ID '{id}' is not unique"));
        }
    }
    Ok(())
}

fn limits(info: &v1::TaskInfo, resources: &Resources) -> Result<(), Invalid> {
    for (name, limit) in &info.limits {
        let (kind, what) = match name.as_str() {
            "cpus" => ("cpu", "CPU"),
            "mem" => ("memory", "memory"),
            _ => {
                return Err("Only cpus and mem may be included in a task's resource limits".into());
            }
        };
        let request = resources.scalar(name);
        if request == Milli::ZERO {
            return Err(Invalid::new(format!(
                "When a {what} limit is specified, a {what} request must also be specified"
            )));
        }
        if limit.value.is_nan() || limit.value < request.to_f64() {
            return Err(Invalid::new(format!(
                "The {kind} limit must be greater than or equal to the {kind} request"
            )));
        }
    }
    Ok(())
}

fn share_cgroups(container: Option<&v1::ContainerInfo>) -> Option<bool> {
    container?.linux_info.as_ref()?.share_cgroups
}

/// The executor of a single task.
fn task_executor(
    info: &mut v1::ExecutorInfo,
    task: &Resources,
    place: &Place<'_>,
) -> Result<Executor, Invalid> {
    let executor = executor_info(info, place)?;
    if info
        .r#type
        .is_some_and(|kind| kind != ExecutorType::Custom as i32)
    {
        return Err("'ExecutorInfo.type' must be 'CUSTOM'".into());
    }
    if info.command.is_none() {
        return Err("'ExecutorInfo.command' must be set".into());
    }
    if executor
        .resources
        .iter()
        .any(|resource| resource.shared.is_some())
    {
        return Err(Invalid::new(format!(
            "Executor resources {} should not contain any shared resources",
            executor.resources
        )));
    }
    if share_cgroups(info.container.as_ref()) == Some(true) {
        return Err(
            "The 'share_cgroups' field cannot be set to 'true' on executor containers".into(),
        );
    }
    if overlap(&[task, &executor.resources]) {
        return Err(Invalid::new(format!(
            "There are overlapping resources in the task resources {task} and executor resources {}",
            executor.resources
        )));
    }
    Ok(executor)
}

/// What holds for every executor.
fn executor_info(info: &mut v1::ExecutorInfo, place: &Place<'_>) -> Result<Executor, Invalid> {
    executor_type(info)?;
    let id =
        ExecutorId::from_wire(&info.executor_id).map_err(|why| Invalid::new(why.to_string()))?;
    if info
        .shutdown_grace_period
        .as_ref()
        .is_some_and(|grace| grace.nanoseconds < 0)
    {
        return Err("ExecutorInfo's 'shutdown_grace_period' must be non-negative".into());
    }
    if let Some(command) = &info.command {
        check::command(command)
            .map_err(|why| Invalid::new(format!("Executor's `CommandInfo` is invalid: {why}")))?;
    }
    if let Some(container) = &info.container {
        check::container(container)
            .map_err(|why| Invalid::new(format!("Executor's `ContainerInfo` is invalid: {why}")))?;
    }
    let framework = info
        .framework_id
        .get_or_insert_with(|| place.framework.to_wire());
    if framework.value != place.framework.as_str() {
        return Err(Invalid::new(format!(
            "ExecutorInfo has an invalid FrameworkID (Actual: {} vs Expected: {})",
            framework.value, place.framework
        )));
    }
    let resources = resources(&mut info.resources, "executor", place)?;
    unique_volumes(&resources)
        .map_err(|why| Invalid::new(format!("Executor uses duplicate persistence ID: {why}")))?;
    mixed_revocable(&resources).map_err(|why| {
        Invalid::new(format!(
            "Executor mixes revocable and non-revocable resources: {why}"
        ))
    })?;
    let existing = place.known.executor(id.as_str());
    if existing.is_some_and(|existing| existing != info) {
        return Err(
            "ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID."
                .into(),
        );
    }
    let is_new = existing.is_none();
    Ok(Executor {
        id,
        info: info.clone(),
        resources,
        is_new,
    })
}

fn executor_type(info: &v1::ExecutorInfo) -> Result<(), Invalid> {
    let default = ExecutorType::Default as i32;
    if info.r#type == Some(default) {
        if info.command.is_some() {
            return Err("'ExecutorInfo.command' must not be set for 'DEFAULT' executor".into());
        }
        if let Some(container) = &info.container {
            if container.r#type != ContainerType::Mesos as i32 {
                return Err(
                    "'ExecutorInfo.container.type' must be 'MESOS' for 'DEFAULT' executor".into(),
                );
            }
            if container
                .mesos
                .as_ref()
                .is_some_and(|mesos| mesos.image.is_some())
            {
                return Err(
                    "'ExecutorInfo.container.mesos.image' must not be set for 'DEFAULT' \
                            executor"
                        .into(),
                );
            }
        }
    } else if info.r#type == Some(ExecutorType::Custom as i32) && info.command.is_none() {
        return Err("'ExecutorInfo.command' must be set for 'CUSTOM' executor".into());
    }
    Ok(())
}

/// What holds for the members of a group beyond what holds for every task.
fn member(info: &v1::TaskInfo) -> Result<(), Invalid> {
    if let Some(container) = &info.container {
        let network = info.health_check.as_ref().is_some_and(|check| {
            check.r#type == Some(HealthType::Http as i32)
                || check.r#type == Some(HealthType::Tcp as i32)
        });
        if network && !container.network_infos.is_empty() {
            return Err(
                "HTTP and TCP health checks are not supported for nested containers not \
                        joining parent's network"
                    .into(),
            );
        }
        if container.r#type == ContainerType::Docker as i32 {
            return Err("Docker ContainerInfo is not supported on the task".into());
        }
    }
    if !info.limits.is_empty() && share_cgroups(info.container.as_ref()) != Some(false) {
        return Err(
            "Resource limits may only be set for tasks within a task group when the \
                    'share_cgroups' field is set to 'false'."
                .into(),
        );
    }
    Ok(())
}

fn group_executor(executor: &Executor) -> Result<(), Invalid> {
    let (id, info) = (&executor.id, &executor.info);
    match info.r#type.map(ExecutorType::try_from) {
        None => return Err("'ExecutorInfo.type' must be set".into()),
        Some(Ok(ExecutorType::Unknown) | Err(_)) => return Err("Unknown executor type".into()),
        Some(Ok(ExecutorType::Default | ExecutorType::Custom)) => {}
    }
    if info
        .container
        .as_ref()
        .is_some_and(|c| c.r#type == ContainerType::Docker as i32)
    {
        return Err("Docker ContainerInfo is not supported on the executor".into());
    }
    if share_cgroups(info.container.as_ref()) == Some(true) {
        return Err(
            "The 'share_cgroups' field cannot be set to 'true' on executor containers".into(),
        );
    }
    let amount = |name: &str| match executor.resources.scalar(name) {
        Milli::ZERO => String::from("None"),
        amount => amount.to_string(),
    };
    if executor.resources.scalar("cpus") < MIN_CPUS {
        return Err(Invalid::new(format!(
            "Executor '{id}' uses less CPUs ({}) than the minimum required ({MIN_CPUS})",
            amount("cpus")
        )));
    }
    if executor.resources.scalar("mem") < MIN_MEM {
        return Err(Invalid::new(format!(
            "Executor '{id}' uses less memory ({}) than the minimum required ({MIN_MEM}MB)",
            amount("mem")
        )));
    }
    if executor.resources.scalar("disk") == Milli::ZERO {
        return Err(Invalid::new(format!("Executor '{id}' uses no disk")));
    }
    Ok(())
}

/// Whether the same number or word stands in two of them: their union would be less than their sum.
fn overlap(parts: &[&Resources]) -> bool {
    parts.iter().enumerate().any(|(index, part)| {
        parts[index + 1..].iter().any(|other| {
            part.iter().any(|one| {
                other.iter().filter(|two| two.name == one.name).any(|two| {
                    match (&one.value, &two.value) {
                        (Value::Ranges(a), Value::Ranges(b)) => a.overlaps(b),
                        (Value::Set(a), Value::Set(b)) => !a.is_disjoint(b),
                        _ => false,
                    }
                })
            })
        })
    })
}
