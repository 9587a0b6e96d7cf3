//! The ladder that every call beside a stream climbs, and what each call means.

use mezzo_model::Millis;
use mezzo_model::ids::{AgentId, ExecutorId};
use mezzo_wire::link;
use mezzo_wire::link::master_message::Body;
use mezzo_wire::v1::scheduler::Call;
use mezzo_wire::v1::scheduler::call::{self, Type};

use super::framework::Presence;
use super::{Core, Cx, Refusal};
use crate::keys::{AgentKey, FrameworkKey};
use crate::read_model::Change;
use crate::validate;

/// What a framework that says nothing about it does not want to see again for.
const DEFAULT_REFUSAL: Millis = Millis::from_secs(5);

/// How long resources are refused: `refuse_seconds`, or 5 s for what is absent or no time.
pub(super) fn refusal(filters: Option<&mezzo_wire::v1::Filters>) -> Millis {
    filters
        .and_then(|filters| filters.refuse_seconds)
        .and_then(Millis::from_secs_f64)
        .unwrap_or(DEFAULT_REFUSAL)
}

impl Core {
    pub(super) fn on_call(
        &mut self,
        cx: &mut Cx<'_>,
        principal: Option<&str>,
        stream_id: Option<&str>,
        call: Call,
    ) -> Result<(), Refusal> {
        let (key, kind) = self.climb(principal, stream_id, &call)?;
        match kind {
            Type::Unknown => return Err(Refusal::new(501, "Received a call of type UNKNOWN")),
            Type::Subscribe => {
                return Err(Refusal::bad(
                    "A call of type SUBSCRIBE opens a stream of its own",
                ));
            }
            Type::UpdateFramework => {
                let update = call.update_framework;
                return update.map_or(Ok(()), |update| self.on_update_framework(cx, key, update));
            }
            Type::Teardown => self.remove_framework(cx, key),
            Type::Accept => {
                if let Some(accept) = call.accept {
                    self.on_accept(cx, key, accept);
                }
            }
            Type::Decline => {
                if let Some(decline) = call.decline {
                    self.on_decline(cx, key, &decline);
                }
            }
            Type::Revive => self.on_revive(cx, key, &call.revive.unwrap_or_default()),
            Type::Suppress => self.on_suppress(cx, key, &call.suppress.unwrap_or_default()),
            Type::Kill => {
                if let Some(kill) = call.kill {
                    self.on_kill(cx, key, kill);
                }
            }
            Type::Shutdown => {
                if let Some(shutdown) = call.shutdown {
                    self.on_shutdown_executor(cx, key, shutdown);
                }
            }
            Type::Acknowledge => {
                if let Some(acknowledge) = call.acknowledge {
                    self.on_acknowledge(cx, key, acknowledge);
                }
            }
            Type::Reconcile => {
                if let Some(reconcile) = call.reconcile {
                    self.on_reconcile(cx, key, &reconcile);
                }
            }
            Type::ReconcileOperations => {
                if let Some(reconcile) = call.reconcile_operations {
                    self.on_reconcile_operations(cx, key, &reconcile);
                }
            }
            Type::Message => {
                if let Some(message) = call.message {
                    self.on_message(cx, key, message);
                }
            }
            // There are no inverse offers and no operations with feedback to answer yet, and requests steer nothing:
            // what names something unknown is dropped, as ever.
            Type::AcceptInverseOffers
            | Type::DeclineInverseOffers
            | Type::AcknowledgeOperationStatus
            | Type::Request => {}
        }
        Ok(())
    }

    /// Each rung in Mesos' order: recovery, shape, framework, principal, subscription, stream id.
    fn climb(
        &self,
        principal: Option<&str>,
        stream_id: Option<&str>,
        call: &Call,
    ) -> Result<(FrameworkKey, Type), Refusal> {
        if !self.recovered {
            return Err(Refusal::new(503, "Master has not finished recovery"));
        }
        let kind = validate::call::check(call, principal)
            .map_err(|invalid| Refusal::bad(invalid.words))?;
        let id = call
            .framework_id
            .as_ref()
            .map(|id| id.value.as_str())
            .unwrap_or_default();
        if kind == Type::Subscribe {
            return Err(Refusal::bad(
                "A call of type SUBSCRIBE opens a stream of its own",
            ));
        }
        let framework = self
            .framework_by_id(id)
            .and_then(|key| self.frameworks.get(&key))
            .ok_or_else(|| Refusal::bad("Framework cannot be found"))?;
        let owner = framework.profile.info.principal.as_deref();
        if let Some(proved) = principal
            && owner != Some(proved)
        {
            return Err(Refusal::bad(format!(
                "Authenticated principal '{proved}' does not match principal '{}' set in `FrameworkInfo`",
                owner.unwrap_or_default()
            )));
        }
        let Presence::Connected { stream, .. } = &framework.presence else {
            return Err(Refusal::new(403, "Framework is not subscribed"));
        };
        let Some(given) = stream_id else {
            return Err(Refusal::bad(
                "All non-subscribe calls should include the 'Mesos-Stream-Id' header",
            ));
        };
        if given != stream.as_str() {
            return Err(Refusal::bad(format!(
                "The stream ID '{}' included in this request didn't match the stream ID currently associated \
                 with framework ID {id}",
                given.chars().take(128).collect::<String>()
            )));
        }
        Ok((framework.key, kind))
    }

    fn on_revive(&mut self, cx: &mut Cx<'_>, key: FrameworkKey, revive: &call::Revive) {
        let Some(framework) = self.frameworks.get_mut(&key) else {
            return;
        };
        let Some(roles) = framework.roles_of_call(&revive.roles) else {
            cx.warn(format!(
                "REVIVE of {} names a role that it does not have; dropped",
                framework.id
            ));
            return;
        };
        for role in &roles {
            framework.profile.suppressed.remove(role);
        }
        self.allocator.revive(key, &roles);
    }

    fn on_suppress(&mut self, cx: &mut Cx<'_>, key: FrameworkKey, suppress: &call::Suppress) {
        let Some(framework) = self.frameworks.get_mut(&key) else {
            return;
        };
        let Some(roles) = framework.roles_of_call(&suppress.roles) else {
            cx.warn(format!(
                "SUPPRESS of {} names a role that it does not have; dropped",
                framework.id
            ));
            return;
        };
        framework.profile.suppressed.extend(roles.iter().cloned());
        self.allocator.suppress(key, &roles);
    }

    /// KILL: kept until the task has ended, and said again to an agent that comes back.
    fn on_kill(&mut self, cx: &mut Cx<'_>, key: FrameworkKey, kill: call::Kill) {
        let Some(framework) = self.frameworks.get(&key) else {
            return;
        };
        let Some((task, agent_key)) = framework.tasks.get_key_value(kill.task_id.value.as_str())
        else {
            self.reconcile_one(cx, key, &kill.task_id, kill.agent_id.as_ref());
            return;
        };
        let (task, agent_key) = (task.clone(), *agent_key);
        let Some(agent) = self.agents.get_mut(&agent_key) else {
            return;
        };
        if kill
            .agent_id
            .as_ref()
            .is_some_and(|id| id.value != agent.id.as_str())
        {
            cx.warn(format!(
                "KILL of task {task} names another agent than {}; dropped",
                agent.id
            ));
            return;
        }
        let Some(entry) = agent.tasks.get_mut(&(key, task.clone())) else {
            return;
        };
        entry.kill = Some(kill.kill_policy);
        let order = link::KillTask {
            framework_id: framework.id.to_wire(),
            task_id: task.to_wire(),
            kill_policy: kill.kill_policy,
        };
        self.order(cx, agent_key, Body::KillTask(order));
    }

    /// The agent and the framework's executor on it that a call names.
    fn executor_named(
        &self,
        key: FrameworkKey,
        agent: &mezzo_wire::v1::AgentId,
        executor: &mezzo_wire::v1::ExecutorId,
    ) -> Option<(AgentKey, ExecutorId)> {
        let agent_key = self.agent_by_id(&agent.value)?;
        let agent = self.agents.get(&agent_key)?;
        let id = ExecutorId::from_wire(executor).ok()?;
        // A task without an executor of its own has one that is named like it.
        let hidden = agent
            .tasks
            .keys()
            .any(|(of, task)| *of == key && task.as_str() == id.as_str());
        (hidden || agent.executors.contains_key(&(key, id.clone()))).then_some((agent_key, id))
    }

    fn on_shutdown_executor(
        &mut self,
        cx: &mut Cx<'_>,
        key: FrameworkKey,
        shutdown: call::Shutdown,
    ) {
        let found = self.executor_named(key, &shutdown.agent_id, &shutdown.executor_id);
        let (Some((agent, executor)), Some(framework)) = (found, self.frameworks.get(&key)) else {
            return;
        };
        let order = link::ShutdownExecutor {
            framework_id: framework.id.to_wire(),
            executor_id: executor.to_wire(),
        };
        self.order(cx, agent, Body::ShutdownExecutor(order));
    }

    fn on_message(&mut self, cx: &mut Cx<'_>, key: FrameworkKey, message: call::Message) {
        let found = self.executor_named(key, &message.agent_id, &message.executor_id);
        let (Some((agent, executor)), Some(framework)) = (found, self.frameworks.get(&key)) else {
            return;
        };
        let order = link::FrameworkMessage {
            framework_id: framework.id.to_wire(),
            executor_id: executor.to_wire(),
            data: message.data,
        };
        self.order(cx, agent, Body::FrameworkMessage(order));
    }

    /// Sends an order to an agent if its link is up; whether it is.
    pub(super) fn order(&self, cx: &mut Cx<'_>, agent: AgentKey, body: Body) -> bool {
        match self.agents.get(&agent).and_then(super::agent::Agent::conn) {
            Some(conn) => {
                self.send(cx, conn, body);
                true
            }
            None => false,
        }
    }

    /// Sends a message on a link, with the epoch.
    pub(super) fn send(&self, cx: &mut Cx<'_>, conn: crate::keys::ConnId, body: Body) {
        let message = link::MasterMessage {
            epoch: self.epoch.clone(),
            body: Some(body),
        };
        cx.push(super::Output::ToAgent {
            conn,
            message: Box::new(message),
        });
    }

    /// Tells readers about an agent.
    pub(super) fn show_agent(&self, cx: &mut Cx<'_>, key: AgentKey) {
        if let Some(agent) = self.agents.get(&key) {
            cx.change(Change::Agent(Box::new(agent.view(key))));
        }
    }

    /// An id that a message names, if it keeps the rule for ids.
    pub(super) fn named_agent(id: Option<&mezzo_wire::v1::AgentId>) -> Option<AgentId> {
        AgentId::from_wire(id?).ok()
    }
}
