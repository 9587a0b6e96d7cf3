//! A framework's description: what is accepted becomes a [`Profile`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mezzo_model::constraint::{self, Constraint, Predicate, Selector};
use mezzo_model::ids::{FrameworkId, check};
use mezzo_model::resources::{Milli, Quantities};
use mezzo_model::{Millis, Role};
use mezzo_wire::v1;
use mezzo_wire::v1::framework_info::capability::Type as Capability;
use mezzo_wire::v1::scheduler::attribute_constraint;
use mezzo_wire::v1::scheduler::{AttributeConstraint, OfferConstraints};

use super::Invalid;
use crate::allocator::{Abilities, FrameworkSpec, RoleSpec};

/// Roles of one framework.
const MAX_ROLES: usize = 1000;
/// Attribute constraints of one framework, all roles together.
const MAX_CONSTRAINTS: usize = 1000;
/// The longest failover timeout: what a Mesos duration can hold (292 years).
const MAX_FAILOVER_SECS: f64 = 9_223_372_036.0;

/// What this cluster allows.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// If set, only these roles may be used.
    pub roles: Option<BTreeSet<Role>>,
    /// Whether frameworks whose user is root are refused.
    pub no_root: bool,
}

/// What a framework said that it can handle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// It knows what became of a task when its agent is partitioned away.
    pub partition_aware: bool,
    /// It has several roles.
    pub multi_role: bool,
    /// It knows TASK_KILLING.
    pub task_killing: bool,
    /// What matters for offers.
    pub abilities: Abilities,
}

/// A framework that was found in order.
#[derive(Clone, Debug)]
pub struct Profile {
    /// As it was sent.
    pub info: v1::FrameworkInfo,
    /// Its roles, in order; never twice the same.
    pub roles: Vec<Role>,
    /// The roles in which it wants no offers.
    pub suppressed: BTreeSet<Role>,
    /// What it can handle.
    pub capabilities: Capabilities,
    /// How long its tasks outlive its connection.
    pub failover_timeout: Millis,
    /// As they were sent.
    pub offer_constraints: Option<OfferConstraints>,
    min_allocatable: BTreeMap<Role, Vec<Quantities>>,
    constraints: BTreeMap<Role, Vec<Vec<Constraint>>>,
}

impl Profile {
    /// What the allocator is told.
    pub fn spec(&self, name: &FrameworkId) -> FrameworkSpec {
        let roles = self.roles.iter().map(|role| RoleSpec {
            role: role.clone(),
            suppressed: self.suppressed.contains(role),
            min_allocatable: self.min_allocatable.get(role).cloned(),
            constraints: self.constraints.get(role).cloned(),
        });
        FrameworkSpec {
            name: Arc::from(name.as_str()),
            roles: roles.collect(),
            abilities: self.capabilities.abilities,
        }
    }

    /// The profile of a framework that agents spoke of and that has not subscribed here: whatever is not in order is
    /// left out, because it was accepted once.
    pub fn recovered(info: v1::FrameworkInfo) -> Self {
        let capabilities = capabilities(&info);
        let mut roles = Vec::new();
        let named = if capabilities.multi_role {
            info.roles.clone()
        } else {
            vec![info.role.clone().unwrap_or_else(|| String::from("*"))]
        };
        for role in named
            .iter()
            .take(MAX_ROLES)
            .filter_map(|role| Role::parse(role).ok())
        {
            if !roles.contains(&role) {
                roles.push(role);
            }
        }
        let failover_timeout = failover_timeout(&info).unwrap_or(Millis::ZERO);
        Self {
            info,
            roles,
            suppressed: BTreeSet::new(),
            capabilities,
            failover_timeout,
            offer_constraints: None,
            min_allocatable: BTreeMap::new(),
            constraints: BTreeMap::new(),
        }
    }
}

fn capabilities(info: &v1::FrameworkInfo) -> Capabilities {
    let mut found = Capabilities::default();
    for capability in &info.capabilities {
        let kind = capability
            .r#type
            .and_then(|kind| Capability::try_from(kind).ok());
        match kind {
            Some(Capability::RevocableResources) => found.abilities.revocable = true,
            Some(Capability::TaskKillingState) => found.task_killing = true,
            Some(Capability::GpuResources) => found.abilities.gpus = true,
            Some(Capability::SharedResources) => found.abilities.shared = true,
            Some(Capability::PartitionAware) => found.partition_aware = true,
            Some(Capability::MultiRole) => found.multi_role = true,
            Some(Capability::ReservationRefinement) => found.abilities.refinement = true,
            Some(Capability::RegionAware) => found.abilities.regions = true,
            // Unknown ones are ignored, so that a newer framework can ask an older master.
            Some(Capability::Unknown) | None => {}
        }
    }
    found
}

/// Checks a framework's description.
///
/// # Errors
/// In Mesos' order and words: roles, id, offer filters, failover timeout, then what this cluster allows.
pub fn profile(
    info: &v1::FrameworkInfo,
    suppressed: &[String],
    offer_constraints: Option<&OfferConstraints>,
    policy: &Policy,
) -> Result<Profile, Invalid> {
    let capabilities = capabilities(info);
    let roles = roles(info, capabilities.multi_role)?;
    if let Some(id) = info.id.as_ref().filter(|id| !id.value.is_empty()) {
        check(&id.value)
            .map_err(|why| Invalid::new(format!("'FrameworkInfo.id' is invalid: {why}")))?;
    }
    let min_allocatable = offer_filters(info, &roles)?;
    let failover_timeout = failover_timeout(info)?;
    allowed(info, &roles, policy)?;
    let suppressed = suppressed_roles(suppressed, &roles)?;
    let constraints = match offer_constraints {
        Some(constraints) => role_constraints(constraints, &roles)?,
        None => BTreeMap::new(),
    };
    Ok(Profile {
        info: info.clone(),
        roles,
        suppressed,
        capabilities,
        failover_timeout,
        offer_constraints: offer_constraints.cloned(),
        min_allocatable,
        constraints,
    })
}

fn roles(info: &v1::FrameworkInfo, multi_role: bool) -> Result<Vec<Role>, Invalid> {
    if !multi_role {
        if !info.roles.is_empty() {
            return Err(
                "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE \
                        capable"
                    .into(),
            );
        }
        let role = info.role.as_deref().unwrap_or("*");
        let role = Role::parse(role).map_err(|why| {
            Invalid::new(format!("'FrameworkInfo.role' is not a valid role: {why}"))
        })?;
        return Ok(vec![role]);
    }
    if info.role.is_some() {
        return Err(
            "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable".into(),
        );
    }
    if info.roles.len() > MAX_ROLES {
        return Err(Invalid::new(format!(
            "'FrameworkInfo.roles' holds {} roles; at most {MAX_ROLES} are accepted",
            info.roles.len()
        )));
    }
    let mut twice = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for role in &info.roles {
        if !seen.insert(role) {
            twice.insert(role.as_str());
        }
    }
    if !twice.is_empty() {
        let twice: Vec<&str> = twice.into_iter().collect();
        return Err(Invalid::new(format!(
            "'FrameworkInfo.roles' contains duplicate items: {{ {} }}",
            twice.join(", ")
        )));
    }
    info.roles
        .iter()
        .map(|role| {
            Role::parse(role).map_err(|why| {
                Invalid::new(format!(
                    "'FrameworkInfo.roles' contains invalid role: {why}"
                ))
            })
        })
        .collect()
}

fn failover_timeout(info: &v1::FrameworkInfo) -> Result<Millis, Invalid> {
    let secs = info.failover_timeout.unwrap_or(0.0);
    match Millis::from_secs_f64(secs) {
        Some(timeout) if secs <= MAX_FAILOVER_SECS => Ok(timeout),
        _ => Err(Invalid::new(format!(
            "The framework failover_timeout ({secs}) is invalid: it must be between 0 and \
             {MAX_FAILOVER_SECS} seconds"
        ))),
    }
}

fn offer_filters(
    info: &v1::FrameworkInfo,
    roles: &[Role],
) -> Result<BTreeMap<Role, Vec<Quantities>>, Invalid> {
    let mut filters = BTreeMap::new();
    for (name, filter) in &info.offer_filters {
        let Some(role) = roles.iter().find(|role| role.as_str() == name) else {
            return Err(Invalid::new(format!(
                "'FrameworkInfo.offer_filters' holds an entry for role '{name}', which is not \
                 among the framework's roles"
            )));
        };
        let Some(least) = &filter.min_allocatable_resources else {
            continue;
        };
        let mut sets = Vec::new();
        for set in &least.quantities {
            let mut quantities = Quantities::new();
            for (resource, amount) in &set.quantities {
                match Milli::from_f64(amount.value) {
                    Some(milli) if milli > Milli::ZERO => {
                        quantities.add(&Arc::from(resource.as_str()), milli);
                    }
                    _ => {
                        return Err(Invalid::new(format!(
                            "'FrameworkInfo.offer_filters' for role '{name}': the amount {} of \
                             '{resource}' must be a positive number",
                            amount.value
                        )));
                    }
                }
            }
            sets.push(quantities);
        }
        filters.insert(role.clone(), sets);
    }
    Ok(filters)
}

fn allowed(info: &v1::FrameworkInfo, roles: &[Role], policy: &Policy) -> Result<(), Invalid> {
    if let Some(allowed) = &policy.roles {
        let refused: Vec<&str> = roles
            .iter()
            .filter(|role| !role.is_star() && !allowed.contains(role))
            .map(Role::as_str)
            .collect();
        if !refused.is_empty() {
            return Err(Invalid::new(format!(
                "Roles {{ {} }} are not present in the master's --roles",
                refused.join(", ")
            )));
        }
    }
    if policy.no_root && info.user == "root" {
        return Err(
            "User 'root' is not allowed to run frameworks without --root_submissions set".into(),
        );
    }
    Ok(())
}

fn suppressed_roles(suppressed: &[String], roles: &[Role]) -> Result<BTreeSet<Role>, Invalid> {
    let mut unknown = BTreeSet::new();
    let mut found = BTreeSet::new();
    for name in suppressed {
        match roles.iter().find(|role| role.as_str() == name) {
            Some(role) => {
                found.insert(role.clone());
            }
            None => {
                unknown.insert(name.as_str());
            }
        }
    }
    if unknown.is_empty() {
        return Ok(found);
    }
    let unknown: Vec<&str> = unknown.into_iter().collect();
    Err(Invalid::new(format!(
        "Suppressed roles {{ {} }} are not contained in the set of roles",
        unknown.join(", ")
    )))
}

fn role_constraints(
    constraints: &OfferConstraints,
    roles: &[Role],
) -> Result<BTreeMap<Role, Vec<Vec<Constraint>>>, Invalid> {
    let mut count = 0;
    let mut found = BTreeMap::new();
    for (name, of_role) in &constraints.role_constraints {
        let Some(role) = roles.iter().find(|role| role.as_str() == name) else {
            return Err(Invalid::new(format!(
                "Offer constraints are given for role '{name}', which is not among the \
                 framework's roles"
            )));
        };
        let wrong =
            |why: String| Invalid::new(format!("Offer constraints for role '{name}': {why}"));
        if of_role.groups.is_empty() {
            return Err(wrong(
                "at least one group of constraints must be given".into(),
            ));
        }
        let mut groups = Vec::new();
        for group in &of_role.groups {
            if group.attribute_constraints.is_empty() {
                return Err(wrong("a group must hold at least one constraint".into()));
            }
            count += group.attribute_constraints.len();
            if count > MAX_CONSTRAINTS {
                return Err(wrong(format!("more than {MAX_CONSTRAINTS} constraints")));
            }
            let group: Result<Vec<_>, _> = group
                .attribute_constraints
                .iter()
                .map(attribute_constraint)
                .collect();
            groups.push(group.map_err(wrong)?);
        }
        found.insert(role.clone(), groups);
    }
    Ok(found)
}

fn attribute_constraint(wire: &AttributeConstraint) -> Result<Constraint, String> {
    use attribute_constraint::predicate::Predicate as Wire;
    use attribute_constraint::selector::{PseudoattributeType, Selector as WireSelector};
    let selector = match &wire.selector.selector {
        Some(WireSelector::AttributeName(name)) => Selector::Attribute(name.clone()),
        Some(WireSelector::PseudoattributeType(kind)) => match PseudoattributeType::try_from(*kind)
        {
            Ok(PseudoattributeType::Hostname) => Selector::Hostname,
            Ok(PseudoattributeType::Region) => Selector::Region,
            Ok(PseudoattributeType::Zone) => Selector::Zone,
            Ok(PseudoattributeType::Unknown) | Err(_) => {
                return Err("unknown pseudo-attribute".into());
            }
        },
        None => return Err("the selector of a constraint must be set".into()),
    };
    let pattern = |text: &str| constraint::whole_match(text).map_err(|why| why.to_string());
    let predicate = match &wire.predicate.predicate {
        Some(Wire::Exists(_)) => Predicate::Exists,
        Some(Wire::NotExists(_)) => Predicate::NotExists,
        Some(Wire::TextEquals(equals)) => Predicate::Equals(equals.value.clone()),
        Some(Wire::TextNotEquals(equals)) => Predicate::NotEquals(equals.value.clone()),
        Some(Wire::TextMatches(matches)) => Predicate::Matches(pattern(&matches.regex)?),
        Some(Wire::TextNotMatches(matches)) => Predicate::NotMatches(pattern(&matches.regex)?),
        None => return Err("the predicate of a constraint must be set".into()),
    };
    Ok(Constraint {
        selector,
        predicate,
    })
}
