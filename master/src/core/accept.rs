//! ACCEPT: offers are used up, operations are carried out in order on what they hold, and the rest goes back.
//!
//! One wrong task fails alone; a group fails whole. Operations that change what resources are (RESERVE,
//! CREATE and their kin) are refused in words in this version, never carried out by half.

use std::collections::BTreeSet;
use std::sync::Arc;

use mezzo_model::ids::ExecutorId;
use mezzo_model::resources::Resources;
use mezzo_model::{Role, TaskState};
use mezzo_wire::link;
use mezzo_wire::link::master_message::Body;
use mezzo_wire::v1;
use mezzo_wire::v1::offer::Operation;
use mezzo_wire::v1::offer::operation::Type;
use mezzo_wire::v1::scheduler::call::Accept;
use mezzo_wire::v1::scheduler::{Event, event};
use mezzo_wire::v1::task_status::Reason;

use super::agent::{self, Agent, Task};
use super::calls::refusal;
use super::framework::Framework;
use super::status;
use super::{Core, Cx};
use crate::keys::{AgentKey, FrameworkKey, OfferKey};
use crate::read_model::Change;
use crate::validate::task::{self, Executor, InUse, Launch, Place, Surroundings};

/// What one ACCEPT can use.
struct Pool {
    framework: FrameworkKey,
    agent: AgentKey,
    role: Role,
    /// Without allocation.
    left: Resources,
}

/// What validation may look at.
struct Known<'a> {
    framework: &'a Framework,
    agent: &'a Agent,
}

impl Surroundings for Known<'_> {
    fn task_in_use(&self, id: &str) -> Option<InUse> {
        if self.framework.tasks.contains_key(id) {
            Some(InUse::Live)
        } else {
            self.framework
                .unreachable
                .contains_key(id)
                .then_some(InUse::Unreachable)
        }
    }

    fn executor(&self, id: &str) -> Option<&v1::ExecutorInfo> {
        let id = ExecutorId::parse(id).ok()?;
        self.agent
            .executors
            .get(&(self.framework.key, id))
            .map(|executor| &*executor.info)
    }
}

impl Core {
    pub(super) fn on_accept(&mut self, cx: &mut Cx<'_>, key: FrameworkKey, accept: Accept) {
        let refuse = refusal(accept.filters.as_ref());
        let mut pool = match self.use_offers(cx, key, &accept.offer_ids) {
            Ok(pool) => pool,
            Err(words) => {
                for operation in &accept.operations {
                    self.refuse_operation(cx, key, operation, &words);
                }
                return;
            }
        };
        for operation in accept.operations {
            self.operate(cx, &mut pool, operation);
        }
        self.allocator.release(
            cx.now.mono,
            pool.agent,
            pool.framework,
            &pool.role,
            &pool.left,
            Some(refuse),
        );
    }

    /// Takes the offers out of the books, all or none.
    ///
    /// On failure the framework's own among them are given back without a filter; offers of others are left alone.
    fn use_offers(
        &mut self,
        cx: &mut Cx<'_>,
        key: FrameworkKey,
        ids: &[v1::OfferId],
    ) -> Result<Pool, String> {
        match self.check_offers(key, ids) {
            Ok((agent, role, offers)) => {
                let mut pool = Pool {
                    framework: key,
                    agent,
                    role,
                    left: Resources::new(),
                };
                for offer in offers {
                    if let Some(offer) = self.take_offer(cx, offer) {
                        pool.left += offer.resources;
                        self.counters.offers_accepted += 1;
                    }
                }
                Ok(pool)
            }
            Err(words) => {
                for id in ids {
                    let own = self
                        .offer_named(&id.value)
                        .filter(|(_, offer)| offer.framework == key)
                        .map(|(offer, _)| offer);
                    if let Some(offer) = own.and_then(|offer| self.take_offer(cx, offer)) {
                        let (agent, role) = (offer.agent, &offer.role);
                        self.allocator.release(
                            cx.now.mono,
                            agent,
                            key,
                            role,
                            &offer.resources,
                            None,
                        );
                    }
                }
                Err(words)
            }
        }
    }

    /// Mesos' order: none, twice, gone, not yours, another role, another agent.
    fn check_offers(
        &self,
        key: FrameworkKey,
        ids: &[v1::OfferId],
    ) -> Result<(AgentKey, Role, Vec<OfferKey>), String> {
        if ids.is_empty() {
            return Err(String::from("No offers specified"));
        }
        let mut seen = BTreeSet::new();
        for id in ids {
            if !seen.insert(&id.value) {
                return Err(format!(
                    "Duplicate offer {} in offer list",
                    shown(&id.value)
                ));
            }
        }
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            let (offer_key, offer) = self
                .offer_named(&id.value)
                .ok_or_else(|| format!("Offer {} is no longer valid", shown(&id.value)))?;
            found.push((offer_key, offer));
        }
        let Some((_, first)) = found.first() else {
            return Err(String::from("No offers specified"));
        };
        if let Some((_, other)) = found.iter().find(|(_, offer)| offer.framework != key) {
            // Nothing is said about who has it.
            return Err(format!(
                "Offer {} is not an offer of this framework",
                other.id
            ));
        }
        if let Some((_, other)) = found.iter().find(|(_, offer)| offer.role != first.role) {
            return Err(format!(
                "Aggregated offers must be allocated to the same role. Offer {} uses role '{}' but another is \
                 using role '{}'",
                other.id, other.role, first.role
            ));
        }
        if let Some((_, other)) = found.iter().find(|(_, offer)| offer.agent != first.agent) {
            let agent = |key| {
                self.agents
                    .get(&key)
                    .map(|agent| agent.id.to_string())
                    .unwrap_or_default()
            };
            return Err(format!(
                "Aggregated offers must belong to one single agent. Offer {} uses agent {} and agent {}",
                other.id,
                agent(other.agent),
                agent(first.agent)
            ));
        }
        let (agent, role) = (first.agent, first.role.clone());
        Ok((
            agent,
            role,
            found.into_iter().map(|(offer, _)| offer).collect(),
        ))
    }

    /// Answers an operation whose offers are not good.
    fn refuse_operation(
        &mut self,
        cx: &mut Cx<'_>,
        key: FrameworkKey,
        operation: &Operation,
        words: &str,
    ) {
        let launches = operation
            .launch
            .iter()
            .flat_map(|launch| &launch.task_infos);
        let groups = operation
            .launch_group
            .iter()
            .flat_map(|launch| &launch.task_group.tasks);
        let message = format!("Task launched with invalid offers: {words}");
        for task in launches.chain(groups) {
            let refused = (TaskState::Dropped, Reason::InvalidOffers);
            self.refuse_task(cx, key, &task.task_id, &task.agent_id, refused, &message);
        }
        self.fail_operation(
            cx,
            key,
            operation,
            &format!("Operation attempted with invalid offers: {words}"),
        );
    }

    /// Tells a framework that a task was not launched.
    fn refuse_task(
        &mut self,
        cx: &mut Cx<'_>,
        key: FrameworkKey,
        task: &v1::TaskId,
        agent: &v1::AgentId,
        (state, reason): (TaskState, Reason),
        message: &str,
    ) {
        let Some(framework) = self.frameworks.get(&key) else {
            return;
        };
        let state = status::as_known(framework, state);
        let made = status::made_here(task, Some(agent), state, reason, message, cx.now.wall);
        cx.tell(framework, status::update(made));
        self.counters.tasks_refused += 1;
    }

    /// Tells a framework that asked to know (by giving the operation an id) that an operation failed.
    fn fail_operation(
        &self,
        cx: &mut Cx<'_>,
        key: FrameworkKey,
        operation: &Operation,
        message: &str,
    ) {
        let (Some(id), Some(framework)) = (&operation.id, self.frameworks.get(&key)) else {
            return;
        };
        let status = v1::OperationStatus {
            operation_id: Some(id.clone()),
            state: v1::OperationState::OperationError as i32,
            message: Some(message.to_owned()),
            ..Default::default()
        };
        let event = Event {
            update_operation_status: Some(event::UpdateOperationStatus { status }),
            ..status::event(event::Type::UpdateOperationStatus)
        };
        cx.tell(framework, event);
    }

    fn operate(&mut self, cx: &mut Cx<'_>, pool: &mut Pool, operation: Operation) {
        let kind = operation
            .r#type
            .and_then(|kind| Type::try_from(kind).ok())
            .unwrap_or_default();
        match kind {
            Type::Launch if operation.id.is_none() => {
                for info in operation
                    .launch
                    .into_iter()
                    .flat_map(|launch| launch.task_infos)
                {
                    self.launch(cx, pool, info);
                }
            }
            Type::LaunchGroup if operation.id.is_none() => {
                if let Some(group) = operation.launch_group {
                    self.launch_group(cx, pool, group);
                }
            }
            Type::Launch | Type::LaunchGroup => {
                self.refuse_launch_with_id(cx, pool.framework, &operation, kind);
            }
            Type::Unknown => {
                let message = "Operation has no type that this master knows";
                self.fail_operation(cx, pool.framework, &operation, message);
            }
            Type::Reserve
            | Type::Unreserve
            | Type::Create
            | Type::Destroy
            | Type::GrowVolume
            | Type::ShrinkVolume
            | Type::CreateDisk
            | Type::DestroyDisk => {
                let message = format!(
                    "{} is not supported by this version of the master; nothing was changed",
                    kind.as_str_name()
                );
                if operation.id.is_none()
                    && let Some(framework) = self.frameworks.get(&pool.framework)
                {
                    cx.warn(format!(
                        "dropped an operation of framework {}: {message}",
                        framework.id
                    ));
                }
                self.fail_operation(cx, pool.framework, &operation, &message);
            }
        }
    }

    fn refuse_launch_with_id(
        &mut self,
        cx: &mut Cx<'_>,
        key: FrameworkKey,
        operation: &Operation,
        kind: Type,
    ) {
        let launches = operation
            .launch
            .iter()
            .flat_map(|launch| &launch.task_infos);
        let groups = operation
            .launch_group
            .iter()
            .flat_map(|launch| &launch.task_group.tasks);
        let message = format!(
            "Operation ID must not be set for {} operations",
            kind.as_str_name()
        );
        for task in launches.chain(groups) {
            let refused = (TaskState::Error, Reason::TaskInvalid);
            self.refuse_task(cx, key, &task.task_id, &task.agent_id, refused, &message);
        }
    }

    fn launch(&mut self, cx: &mut Cx<'_>, pool: &mut Pool, mut info: v1::TaskInfo) {
        let (Some(framework), Some(agent)) = (
            self.frameworks.get(&pool.framework),
            self.agents.get(&pool.agent),
        ) else {
            return;
        };
        let known = Known { framework, agent };
        let place = Place {
            framework: &framework.id,
            agent: &agent.id,
            role: &pool.role,
            available: &pool.left,
            known: &known,
        };
        match task::launch(&mut info, &place) {
            Ok(launch) => {
                let run = link::RunTask {
                    framework: (*framework.info).clone(),
                    task: info,
                };
                self.charge(cx, pool, launch, &run.task);
                self.order(cx, pool.agent, Body::RunTask(run));
            }
            Err(invalid) => {
                let refused = (TaskState::Error, Reason::TaskInvalid);
                let (task, agent) = (&info.task_id, &info.agent_id);
                self.refuse_task(cx, pool.framework, task, agent, refused, &invalid.words);
            }
        }
    }

    fn launch_group(
        &mut self,
        cx: &mut Cx<'_>,
        pool: &mut Pool,
        mut group: v1::offer::operation::LaunchGroup,
    ) {
        let (Some(framework), Some(agent)) = (
            self.frameworks.get(&pool.framework),
            self.agents.get(&pool.agent),
        ) else {
            return;
        };
        let known = Known { framework, agent };
        let place = Place {
            framework: &framework.id,
            agent: &agent.id,
            role: &pool.role,
            available: &pool.left,
            known: &known,
        };
        match task::group(&mut group.executor, &mut group.task_group, &place) {
            Ok((executor, launches)) => {
                let run = link::RunTaskGroup {
                    framework: (*framework.info).clone(),
                    executor: executor.info.clone(),
                    group: group.task_group,
                };
                self.charge_executor(cx, pool, &executor);
                for (launch, info) in launches.into_iter().zip(&run.group.tasks) {
                    self.charge(cx, pool, launch, info);
                }
                self.order(cx, pool.agent, Body::RunTaskGroup(run));
            }
            Err(invalid) => {
                for info in &group.task_group.tasks {
                    let refused = (TaskState::Error, Reason::TaskGroupInvalid);
                    let (task, agent) = (&info.task_id, &info.agent_id);
                    self.refuse_task(cx, pool.framework, task, agent, refused, &invalid.words);
                }
            }
        }
    }

    /// Books a task: what it uses moves from the offers to it. The allocator's books do not change.
    fn charge(&mut self, cx: &mut Cx<'_>, pool: &mut Pool, launch: Launch, info: &v1::TaskInfo) {
        if let Some(executor) = &launch.executor {
            self.charge_executor(cx, pool, executor);
        }
        pool.left.remove(&launch.resources);
        let (Some(framework), Some(agent)) = (
            self.frameworks.get_mut(&pool.framework),
            self.agents.get_mut(&pool.agent),
        ) else {
            return;
        };
        let executor = launch.executor.map(|executor| executor.id);
        let wire = Arc::new(wire_task(info, framework, executor.as_ref()));
        let task = Task {
            role: pool.role.clone(),
            resources: launch.resources,
            state: TaskState::Staging,
            told: None,
            uuid: None,
            status: None,
            kill: None,
            is_duplicate: false,
            info: wire.clone(),
        };
        framework.tasks.insert(launch.id.clone(), pool.agent);
        agent
            .tasks
            .insert((pool.framework, launch.id.clone()), task);
        self.counters.tasks_launched += 1;
        cx.change(Change::Task {
            framework: pool.framework,
            agent: pool.agent,
            id: launch.id,
            info: wire,
            state: TaskState::Staging,
        });
    }

    fn charge_executor(&mut self, cx: &mut Cx<'_>, pool: &mut Pool, executor: &Executor) {
        if !executor.is_new {
            return;
        }
        pool.left.remove(&executor.resources);
        let Some(agent) = self.agents.get_mut(&pool.agent) else {
            return;
        };
        let info = Arc::new(executor.info.clone());
        let entry = agent::Executor {
            role: pool.role.clone(),
            resources: executor.resources.clone(),
            info: info.clone(),
        };
        agent
            .executors
            .insert((pool.framework, executor.id.clone()), entry);
        cx.change(Change::Executor {
            framework: pool.framework,
            agent: pool.agent,
            id: executor.id.clone(),
            resources: executor.resources.clone(),
            role: pool.role.clone(),
            info,
        });
    }
}

/// What readers are shown of a task, apart from its state.
fn wire_task(
    info: &v1::TaskInfo,
    framework: &Framework,
    executor: Option<&ExecutorId>,
) -> v1::Task {
    let command = info.command.as_ref().or_else(|| {
        info.executor
            .as_ref()
            .and_then(|executor| executor.command.as_ref())
    });
    let user = command
        .and_then(|command| command.user.clone())
        .unwrap_or_else(|| framework.profile.info.user.clone());
    v1::Task {
        name: info.name.clone(),
        task_id: info.task_id.clone(),
        framework_id: framework.id.to_wire(),
        executor_id: executor.map(ExecutorId::to_wire),
        agent_id: info.agent_id.clone(),
        state: TaskState::Staging.number(),
        resources: info.resources.clone(),
        labels: info.labels.clone(),
        discovery: info.discovery.clone(),
        container: info.container.clone(),
        health_check: info.health_check.clone(),
        kill_policy: info.kill_policy,
        user: Some(user),
        limits: info.limits.clone(),
        ..Default::default()
    }
}

/// An id from outside in a message: cut, so that a long one does not come back whole.
fn shown(id: &str) -> String {
    id.chars().take(255).collect()
}
