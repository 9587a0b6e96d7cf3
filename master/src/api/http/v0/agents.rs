//! Agents.

use std::collections::BTreeMap;

use mezzo_model::attributes::{AttributeValue, Attributes};
use mezzo_model::resources::Resources;
use mezzo_wire::v1;
use mezzo_wire::v1::master::response::GetAgents;
use mezzo_wire::v1::master::response::get_agents::Agent;

use super::json::{self, Object, object};
use super::{put_amounts, seconds};
use crate::api::reads::bag;

/// The id of an agent.
pub(super) fn id(agent: &Agent) -> &str {
    agent.agent_info.id.as_ref().map_or("", |id| &id.value)
}

/// What `/state`, `/slaves` and `/state-summary` have in common.
pub(super) fn put(o: &mut Object<'_>, agent: &Agent) {
    let info = &agent.agent_info;
    let total = bag(&agent.total_resources);
    o.text("id", id(agent));
    o.text("hostname", &info.hostname);
    o.whole("port", i64::from(info.port.unwrap_or(5051)));
    put_attributes(o, info);
    o.text("pid", agent.pid.as_deref().unwrap_or_default());
    o.number("registered_time", seconds(agent.registered_time.as_ref()));
    if let Some(time) = &agent.reregistered_time {
        o.number("reregistered_time", seconds(Some(time)));
    }
    put_amounts(o, "resources", &total);
    put_amounts(o, "used_resources", &bag(&agent.allocated_resources));
    put_amounts(o, "offered_resources", &bag(&agent.offered_resources));
    o.object("reserved_resources", |o| {
        let mut by_role: BTreeMap<&str, Resources> = BTreeMap::new();
        for resource in total.iter() {
            if let Some(role) = resource.reservation_role() {
                let held = by_role.entry(role.as_str()).or_default();
                held.insert(resource.clone());
            }
        }
        for (role, resources) in &by_role {
            put_amounts(o, role, resources);
        }
    });
    put_amounts(o, "unreserved_resources", &total.unreserved());
    o.flag("active", agent.active);
    o.flag("deactivated", agent.deactivated.unwrap_or(false));
    o.text("version", &agent.version);
    o.array("capabilities", &agent.capabilities, |out, ability| {
        json::text(out, ability.r#type().as_str_name());
    });
    if let Some(drain) = &agent.drain_info {
        o.message("drain_info", drain);
    }
    if let Some(time) = &agent.estimated_drain_start_time {
        o.number("estimated_drain_start_time_seconds", seconds(Some(time)));
    }
}

fn put_attributes(o: &mut Object<'_>, info: &v1::AgentInfo) {
    // What an agent could not be registered with is not shown.
    let attributes = Attributes::from_wire(&info.attributes).unwrap_or_default();
    o.object("attributes", |o| {
        for attribute in attributes.iter() {
            match &attribute.value {
                AttributeValue::Scalar(amount) => o.number(&attribute.name, amount.to_f64()),
                AttributeValue::Ranges(ranges) => o.text(&attribute.name, &ranges.to_string()),
                AttributeValue::Text(text) => o.text(&attribute.name, text),
            }
        }
    });
}

/// What only `/slaves` has: resources in full.
pub(super) fn put_full(o: &mut Object<'_>, agent: &Agent) {
    let (reserved, unreserved): (Vec<_>, Vec<_>) = agent
        .total_resources
        .iter()
        .partition(|resource| !resource.reservations.is_empty());
    o.object("reserved_resources_full", |o| {
        let mut by_role: BTreeMap<&str, Vec<&v1::Resource>> = BTreeMap::new();
        for resource in reserved {
            let owner = resource.reservations.last();
            let role = owner.and_then(|owner| owner.role.as_deref());
            by_role
                .entry(role.unwrap_or("*"))
                .or_default()
                .push(resource);
        }
        for (role, resources) in by_role {
            o.messages(role, resources);
        }
    });
    o.messages("unreserved_resources_full", unreserved);
    o.messages("used_resources_full", &agent.allocated_resources);
    o.messages("offered_resources_full", &agent.offered_resources);
}

/// Agents of the registry that are waited for.
pub(super) fn put_recovered(o: &mut Object<'_>, agents: Option<&GetAgents>) {
    let recovered = agents.iter().flat_map(|all| &all.recovered_agents);
    o.array("recovered_slaves", recovered, |out, info| {
        object(out, |o| {
            o.text("id", info.id.as_ref().map_or("", |id| &id.value));
            o.text("hostname", &info.hostname);
            o.whole("port", i64::from(info.port.unwrap_or(5051)));
            put_attributes(o, info);
            put_amounts(o, "resources", &bag(&info.resources));
        });
    });
}
