//! What the allocator is told of frameworks and agents, and what it answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use mezzo_model::Role;
use mezzo_model::attributes::Attributes;
use mezzo_model::constraint::Constraint;
use mezzo_model::resources::{Milli, Quantities, Resources};

use crate::keys::{AgentKey, FrameworkKey};

/// What an allocator is told once.
#[derive(Clone, Debug)]
pub struct AllocatorConfig {
    /// An offer holds at least one of these sets of amounts.
    pub min_allocatable: Vec<Quantities>,
    /// Agents with `gpus` go only to frameworks that know GPUs.
    pub filter_gpus: bool,
    /// The master's region: agents elsewhere go only to frameworks that know regions.
    pub region: Option<Arc<str>>,
    /// Resources that do not count for fairness.
    pub excluded: Vec<Arc<str>>,
    /// In thousandths; what is not listed has 1000.
    pub weights: BTreeMap<Role, u64>,
}

impl Default for AllocatorConfig {
    fn default() -> Self {
        let least = |name: &str, amount| {
            let mut least = Quantities::new();
            least.add(&Arc::from(name), amount);
            least
        };
        Self {
            min_allocatable: vec![least("cpus", Milli(10)), least("mem", Milli::whole(32))],
            filter_gpus: true,
            region: None,
            excluded: Vec::new(),
            weights: BTreeMap::new(),
        }
    }
}

/// What a framework can handle, as far as offers go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// Resources that may be taken back.
    pub revocable: bool,
    /// Shared volumes.
    pub shared: bool,
    /// Agents with GPUs.
    pub gpus: bool,
    /// Reservations of several levels.
    pub refinement: bool,
    /// Agents in another region.
    pub regions: bool,
}

/// A framework in one of its roles.
#[derive(Clone, Debug)]
pub struct RoleSpec {
    /// Which role.
    pub role: Role,
    /// It wants no offers.
    pub suppressed: bool,
    /// Instead of the allocator's own; an empty list takes anything.
    pub min_allocatable: Option<Vec<Quantities>>,
    /// Agents that it wants: one group must hold whole. `None` wants all.
    pub constraints: Option<Vec<Vec<Constraint>>>,
}

/// A framework as the allocator sees it.
#[derive(Clone, Debug)]
pub struct FrameworkSpec {
    /// Its id; breaks ties.
    pub name: Arc<str>,
    /// Its roles.
    pub roles: Vec<RoleSpec>,
    /// What it can handle.
    pub abilities: Abilities,
}

/// An agent as the allocator sees it.
#[derive(Clone, Debug)]
pub struct AgentSpec {
    /// All that it has.
    pub total: Resources,
    /// Its host name.
    pub hostname: Arc<str>,
    /// The region and zone of its fault domain.
    pub domain: Option<(Arc<str>, Arc<str>)>,
    /// Its attributes.
    pub attributes: Arc<Attributes>,
}

/// Resources that go to a framework.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// To whom.
    pub framework: FrameworkKey,
    /// In which of its roles.
    pub role: Role,
    /// From where.
    pub agent: AgentKey,
    /// What; the resources themselves carry no allocation.
    pub resources: Resources,
}

/// Why a framework is not offered an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// The agent or the framework takes no part now.
    Inactive,
    /// The framework's constraints exclude the agent.
    Constraints,
    /// Nothing is free, or nothing that the role may use and the framework can handle.
    Nothing,
    /// Too little is free.
    TooSmall,
    /// The agent has GPUs and the framework does not know them.
    Gpus,
    /// The agent is in another region and the framework does not know regions.
    Region,
    /// The framework refused this not long ago.
    Filtered,
}
