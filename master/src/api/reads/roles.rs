//! Roles as operators see them: who is in them, and what they hold, their subroles included.

use std::collections::{BTreeMap, BTreeSet};

use mezzo_model::Role;
use mezzo_model::resources::{Quantities, Resources};
use mezzo_wire::v1;
use mezzo_wire::v1::framework_info::capability::Type as Capability;
use mezzo_wire::v1::master::response::GetState;

/// One role.
#[derive(Debug)]
pub(in crate::api) struct RoleView {
    pub role: Role,
    pub weight: f64,
    pub frameworks: Vec<v1::FrameworkId>,
    pub allocated: Resources,
    pub offered: Resources,
    pub reserved: Resources,
}

/// A weight that is kept in thousandths.
pub(super) fn weight(thousandths: u64) -> f64 {
    thousandths as f64 / 1000.0
}

/// Resources of an operator's page. They are told in both formats at once, of which the stack says more.
pub(in crate::api) fn bag(wire: &[v1::Resource]) -> Resources {
    let lean: Vec<v1::Resource> = wire
        .iter()
        .map(|resource| {
            let mut resource = resource.clone();
            if !resource.reservations.is_empty() {
                resource.role = None;
                resource.reservation = None;
            }
            resource
        })
        .collect();
    // What the read model has written can be read.
    Resources::from_wire(&lean).unwrap_or_default()
}

fn roles_of(info: &v1::FrameworkInfo) -> Vec<&str> {
    let has_several = info
        .capabilities
        .iter()
        .any(|ability| ability.r#type == Some(Capability::MultiRole as i32));
    if has_several {
        info.roles.iter().map(String::as_str).collect()
    } else {
        vec![info.role.as_deref().unwrap_or("*")]
    }
}

fn allocations(resources: &Resources) -> BTreeSet<Role> {
    resources
        .iter()
        .filter_map(|resource| resource.allocation.clone())
        .collect()
}

/// Every role that a framework is in, that holds something, that something is reserved for, or that has a weight.
pub(super) fn views(state: &GetState, weights: &BTreeMap<Role, u64>) -> Vec<RoleView> {
    let frameworks = state.get_frameworks.as_ref();
    let agents = state.get_agents.as_ref();
    let (mut allocated, mut offered, mut reserved) =
        (Resources::new(), Resources::new(), Resources::new());
    let mut names: BTreeSet<Role> = weights.keys().cloned().collect();
    for agent in agents.iter().flat_map(|agents| &agents.agents) {
        allocated += bag(&agent.allocated_resources);
        offered += bag(&agent.offered_resources);
        reserved += bag(&agent.total_resources).reserved();
    }
    names.extend(allocations(&allocated));
    names.extend(allocations(&offered));
    let owners = reserved.iter().filter_map(|held| held.reservation_role());
    names.extend(owners.cloned());
    let mut members: BTreeMap<Role, Vec<v1::FrameworkId>> = BTreeMap::new();
    for framework in frameworks.iter().flat_map(|all| &all.frameworks) {
        let info = &framework.framework_info;
        for role in roles_of(info)
            .into_iter()
            .filter_map(|role| Role::parse(role).ok())
        {
            names.insert(role.clone());
            let id = info.id.clone().unwrap_or_default();
            members.entry(role).or_default().push(id);
        }
    }
    let view = |role: Role| RoleView {
        weight: weights
            .get(&role)
            .map_or(1.0, |thousandths| weight(*thousandths)),
        frameworks: members.get(&role).cloned().unwrap_or_default(),
        allocated: allocated.filter(|held| is_of(held.allocation.as_ref(), &role)),
        offered: offered.filter(|held| is_of(held.allocation.as_ref(), &role)),
        reserved: reserved.filter(|held| is_of(held.reservation_role(), &role)),
        role,
    };
    names.into_iter().map(view).collect()
}

fn is_of(owner: Option<&Role>, role: &Role) -> bool {
    owner.is_some_and(|owner| owner.is_within(role))
}

impl RoleView {
    /// What is in use and what is on offer.
    pub fn held(&self) -> Quantities {
        let mut held = self.allocated.quantities();
        held.add_all(&self.offered.quantities());
        held
    }

    /// What counts against a quota: what is in use, and what is reserved whether or not it is in use.
    pub fn consumed(&self) -> Quantities {
        let mut consumed = self.allocated.unreserved().quantities();
        consumed.add_all(&self.reserved.quantities());
        consumed
    }

    pub fn to_wire(&self) -> v1::Role {
        let resources = self.held();
        let resource =
            |(name, amount): (&std::sync::Arc<str>, mezzo_model::resources::Milli)| v1::Resource {
                name: name.to_string(),
                r#type: v1::value::Type::Scalar as i32,
                scalar: Some(v1::value::Scalar {
                    value: amount.to_f64(),
                }),
                ..Default::default()
            };
        v1::Role {
            name: self.role.to_string(),
            weight: self.weight,
            frameworks: self.frameworks.clone(),
            resources: resources.iter().map(resource).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use mezzo_model::resources::WireFormat;
    use mezzo_wire::v1::master::response::{GetAgents, GetFrameworks, get_agents, get_frameworks};

    use super::*;

    fn role(name: &str) -> Role {
        Role::parse(name).unwrap()
    }

    #[test]
    fn roles_hold_what_their_subroles_hold() {
        let used = Resources::parse("cpus:1;mem:32").unwrap();
        let agent = get_agents::Agent {
            total_resources: Resources::parse("cpus:4;cpus(eng/dev):2")
                .unwrap()
                .to_wire_as(WireFormat::Both),
            allocated_resources: used
                .allocated_to(&role("eng/dev"))
                .to_wire_as(WireFormat::Both),
            ..Default::default()
        };
        let framework = get_frameworks::Framework {
            framework_info: v1::FrameworkInfo {
                id: Some("f".into()),
                ..Default::default()
            },
            ..Default::default()
        };
        let state = GetState {
            get_agents: Some(GetAgents {
                agents: vec![agent],
                ..Default::default()
            }),
            get_frameworks: Some(GetFrameworks {
                frameworks: vec![framework],
                ..Default::default()
            }),
            ..Default::default()
        };
        let weights = BTreeMap::from([(role("eng"), 2500)]);
        let views = views(&state, &weights);
        let names: Vec<&str> = views.iter().map(|view| view.role.as_str()).collect();
        assert_eq!(names, ["*", "eng", "eng/dev"]);
        assert_eq!(views[0].frameworks, [v1::FrameworkId::from("f")]);
        assert!(views[0].held().is_empty());
        let eng = &views[1];
        assert_eq!((eng.weight, views[2].weight), (2.5, 1.0));
        assert_eq!(eng.held().get("cpus").to_f64(), 1.0);
        assert_eq!(eng.consumed().get("cpus").to_f64(), 3.0);
        assert_eq!(eng.to_wire().resources.len(), 2);
    }
}
