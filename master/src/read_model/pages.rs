//! Answers to operators' reads, made from the model.

use mezzo_model::resources::{Resources, WireFormat};
use mezzo_model::{Role, TaskState, Wall};
use mezzo_wire::v1;
use mezzo_wire::v1::master::Response;
use mezzo_wire::v1::master::response::{
    GetAgents, GetExecutors, GetFrameworks, GetMaster, GetOperations, GetState, GetTasks, Type,
    get_agents, get_executors, get_frameworks,
};

use super::change::{AgentView, FrameworkView};
use super::model::{FrameworkEntry, Model, OfferView, TaskView};
use crate::keys::{AgentKey, FrameworkKey};

/// What can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// Tasks, executors, frameworks and agents, of one moment.
    State,
    /// Agents.
    Agents,
    /// Frameworks.
    Frameworks,
    /// Tasks.
    Tasks,
    /// Executors.
    Executors,
    /// Operations with feedback; there are none yet.
    Operations,
    /// Who leads.
    Master,
}

pub(super) fn answer(model: &Model, page: Page, master: &GetMaster) -> Response {
    let of = |kind: Type| Response {
        r#type: Some(kind as i32),
        ..Default::default()
    };
    match page {
        Page::State => {
            let state = GetState {
                get_tasks: Some(tasks(model)),
                get_executors: Some(executors(model)),
                get_frameworks: Some(frameworks(model)),
                get_agents: Some(agents(model)),
            };
            Response {
                get_state: Some(state),
                ..of(Type::GetState)
            }
        }
        Page::Agents => Response {
            get_agents: Some(agents(model)),
            ..of(Type::GetAgents)
        },
        Page::Frameworks => Response {
            get_frameworks: Some(frameworks(model)),
            ..of(Type::GetFrameworks)
        },
        Page::Tasks => Response {
            get_tasks: Some(tasks(model)),
            ..of(Type::GetTasks)
        },
        Page::Executors => Response {
            get_executors: Some(executors(model)),
            ..of(Type::GetExecutors)
        },
        Page::Operations => {
            let none = GetOperations::default();
            Response {
                get_operations: Some(none),
                ..of(Type::GetOperations)
            }
        }
        Page::Master => Response {
            get_master: Some(master.clone()),
            ..of(Type::GetMaster)
        },
    }
}

fn time(at: Wall) -> v1::TimeInfo {
    v1::TimeInfo {
        nanoseconds: at.as_nanos(),
    }
}

fn wire(resources: &Resources) -> Vec<v1::Resource> {
    resources.to_wire_as(WireFormat::Both)
}

/// What is in use by whom and where, offers aside.
fn in_use(model: &Model) -> impl Iterator<Item = (FrameworkKey, AgentKey, Resources)> {
    let tasks = model.frameworks.iter().flat_map(|(key, framework)| {
        framework
            .tasks
            .values()
            .filter(|task| !task.state.is_terminal())
            .map(|task| {
                // What was checked when it was launched can be read again.
                let resources = Resources::from_wire(&task.info.resources).unwrap_or_default();
                (*key, task.agent, resources)
            })
    });
    let executors = model
        .executors
        .iter()
        .map(|((framework, agent, _), executor)| {
            (
                *framework,
                *agent,
                executor.resources.allocated_to(&executor.role),
            )
        });
    tasks.chain(executors)
}

fn offered(offer: &OfferView) -> Resources {
    offer.resources.allocated_to(&offer.role)
}

fn agents(model: &Model) -> GetAgents {
    let mut used: std::collections::BTreeMap<AgentKey, Resources> = Default::default();
    for (_, agent, resources) in in_use(model) {
        *used.entry(agent).or_default() += resources;
    }
    let mut open: std::collections::BTreeMap<AgentKey, Resources> = Default::default();
    for offer in model.offers.values() {
        *open.entry(offer.agent).or_default() += offered(offer);
    }
    let nothing = Resources::new();
    let agents = model.agents.values().map(|agent| {
        let used = used.get(&agent.key).unwrap_or(&nothing);
        let open = open.get(&agent.key).unwrap_or(&nothing);
        agent_page(agent, used, open)
    });
    let recovered = model.awaited.values().map(|info| (**info).clone());
    GetAgents {
        agents: agents.collect(),
        recovered_agents: recovered.collect(),
    }
}

fn agent_page(agent: &AgentView, used: &Resources, open: &Resources) -> get_agents::Agent {
    get_agents::Agent {
        agent_info: (*agent.info).clone(),
        active: agent.active,
        deactivated: Some(false),
        version: agent.version.to_string(),
        pid: Some(format!(
            "slave(1)@{}:{}",
            agent.info.hostname,
            agent.info.port.unwrap_or(5051)
        )),
        registered_time: Some(time(agent.registered)),
        reregistered_time: agent.reregistered.map(time),
        total_resources: wire(&agent.total),
        allocated_resources: wire(used),
        offered_resources: wire(open),
        ..Default::default()
    }
}

fn frameworks(model: &Model) -> GetFrameworks {
    let mut used: std::collections::BTreeMap<FrameworkKey, Resources> = Default::default();
    for (framework, _, resources) in in_use(model) {
        *used.entry(framework).or_default() += resources;
    }
    let live = model.frameworks.values().map(|framework| {
        let mut page = framework_page(&framework.view, false);
        page.allocated_resources = used.get(&framework.view.key).map(wire).unwrap_or_default();
        let mut open = Resources::new();
        for offer in model
            .offers
            .values()
            .filter(|o| o.framework == framework.view.key)
        {
            open += offered(offer);
            if let Some(agent) = model.agents.get(&offer.agent) {
                page.offers.push(offer_page(offer, &framework.view, agent));
            }
        }
        page.offered_resources = wire(&open);
        page
    });
    GetFrameworks {
        frameworks: live.collect(),
        completed_frameworks: model
            .completed
            .iter()
            .map(|framework| framework_page(&framework.view, true))
            .collect(),
        ..Default::default()
    }
}

/// Who never came back says the same time twice, and who is still known has no time of its end.
fn framework_page(view: &FrameworkView, is_gone: bool) -> get_frameworks::Framework {
    let constraints = view.offer_constraints.as_deref();
    get_frameworks::Framework {
        framework_info: (*view.info).clone(),
        active: view.active,
        connected: view.connected,
        recovered: view.recovered,
        registered_time: Some(time(view.registered)),
        reregistered_time: Some(time(view.reregistered.unwrap_or(view.registered))),
        unregistered_time: is_gone.then(|| time(view.unregistered.unwrap_or_default())),
        offer_constraints: Some(constraints.cloned().unwrap_or_default()),
        ..Default::default()
    }
}

/// The offer as operators see it: in the stack format, always with its allocation.
fn offer_page(offer: &OfferView, framework: &FrameworkView, agent: &AgentView) -> v1::Offer {
    v1::Offer {
        id: offer.id.to_wire(),
        framework_id: framework.id.to_wire(),
        agent_id: agent.id.to_wire(),
        hostname: agent.info.hostname.clone(),
        domain: agent.info.domain.clone(),
        resources: offered(offer).to_wire(),
        attributes: agent.info.attributes.clone(),
        allocation_info: Some(allocation(&offer.role)),
        ..Default::default()
    }
}

fn allocation(role: &Role) -> v1::resource::AllocationInfo {
    v1::resource::AllocationInfo {
        role: Some(role.to_string()),
    }
}

fn executors(model: &Model) -> GetExecutors {
    let executors = model
        .executors
        .iter()
        .filter_map(|((_, agent, _), executor)| {
            let agent = model.agents.get(agent)?;
            Some(get_executors::Executor {
                executor_info: (*executor.info).clone(),
                agent_id: agent.id.to_wire(),
            })
        });
    GetExecutors {
        executors: executors.collect(),
        ..Default::default()
    }
}

fn tasks(model: &Model) -> GetTasks {
    let all = || model.frameworks.values().chain(&model.completed);
    let live =
        |framework: &FrameworkEntry| framework.tasks.values().map(task_page).collect::<Vec<_>>();
    GetTasks {
        tasks: all().flat_map(live).collect(),
        unreachable_tasks: all()
            .flat_map(|f| f.unreachable.values().map(task_page))
            .collect(),
        completed_tasks: all()
            .flat_map(|f| f.completed.iter().map(task_page))
            .collect(),
        ..Default::default()
    }
}

fn task_page(task: &TaskView) -> v1::Task {
    let told = task.statuses.last();
    v1::Task {
        state: task.state.number(),
        statuses: task
            .statuses
            .iter()
            .map(|status| (**status).clone())
            .collect(),
        status_update_state: told
            .and_then(|status| TaskState::from_number(status.state))
            .map(TaskState::number),
        status_update_uuid: told.and_then(|status| status.uuid.clone()),
        ..(*task.info).clone()
    }
}
