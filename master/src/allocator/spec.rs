//! What the allocator is told of frameworks and agents, and what it answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use mezzo_model::attributes::Attributes;
use mezzo_model::constraint::Constraint;
use mezzo_model::resources::{Milli, Quantities, Resources};
use mezzo_model::{Millis, Role};

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

/// Why a framework is not offered an agent, in the order in which it is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Skip {
    /// There is no such agent.
    UnknownAgent,
    /// There is no such framework.
    UnknownFramework,
    /// The framework is not subscribed to the role.
    NotInRole,
    /// The framework is disconnected or was deactivated.
    FrameworkInactive,
    /// The framework wants no offers for the role.
    Suppressed,
    /// The agent is disconnected or was deactivated.
    AgentInactive,
    /// The framework's constraints exclude the agent.
    Constraints,
    /// The agent has GPUs and the framework does not know them.
    Gpus,
    /// The agent is in another region and the framework does not know regions.
    Region,
    /// All that the agent has is offered or in use.
    NothingFree,
    /// What is free is reserved to other roles.
    Reserved,
    /// What is free is revocable, shared or reserved in several levels, and the framework does not know such.
    Unable,
    /// Too little is free.
    TooSmall,
    /// The framework refused this, or more, not long ago.
    Filtered {
        /// When the last filter that blocks it ends.
        until: Millis,
    },
    /// Another one is served before it.
    Behind {
        /// Who gets it.
        framework: FrameworkKey,
        /// In which of its roles.
        role: Role,
    },
}

impl Skip {
    /// One word for programs.
    pub fn name(&self) -> &'static str {
        self.words().0
    }

    /// In words.
    pub fn text(&self) -> &'static str {
        self.words().1
    }

    /// What would change it.
    pub fn remedy(&self) -> &'static str {
        self.words().2
    }

    fn words(&self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::UnknownAgent => (
                "UNKNOWN_AGENT",
                "no such agent is registered",
                "the agent registers",
            ),
            Self::UnknownFramework => (
                "UNKNOWN_FRAMEWORK",
                "no such framework is subscribed",
                "the framework subscribes",
            ),
            Self::NotInRole => (
                "NOT_IN_ROLE",
                "the framework is not subscribed to the role",
                "it subscribes or updates itself with the role",
            ),
            Self::FrameworkInactive => (
                "FRAMEWORK_INACTIVE",
                "the framework is disconnected or deactivated",
                "it subscribes again",
            ),
            Self::Suppressed => (
                "SUPPRESSED",
                "the framework suppressed offers for the role",
                "it calls REVIVE",
            ),
            Self::AgentInactive => (
                "AGENT_INACTIVE",
                "the agent is disconnected or deactivated",
                "it connects again, or an operator reactivates it",
            ),
            Self::Constraints => (
                "CONSTRAINTS",
                "the framework's offer constraints exclude the agent",
                "it changes its constraints, or the agent its attributes",
            ),
            Self::Gpus => (
                "GPUS",
                "the agent has GPUs and the framework lacks the capability GPU_RESOURCES",
                "it subscribes with the capability, or the master runs with --filter_gpu_resources=false",
            ),
            Self::Region => (
                "REGION",
                "the agent is in another region and the framework lacks the capability REGION_AWARE",
                "it subscribes with the capability",
            ),
            Self::NothingFree => (
                "NOTHING_FREE",
                "all that the agent has is offered or in use",
                "an offer is declined or ends, or a task ends",
            ),
            Self::Reserved => (
                "RESERVED",
                "what is free is reserved to other roles",
                "unreserved resources become free, or a reservation is taken back",
            ),
            Self::Unable => (
                "UNABLE",
                "the framework lacks the capability for what is free",
                "it subscribes with REVOCABLE_RESOURCES, SHARED_RESOURCES or RESERVATION_REFINEMENT",
            ),
            Self::TooSmall => (
                "TOO_SMALL",
                "less is free than the least that is offered",
                "more becomes free, or the framework asks for less in its offer filters",
            ),
            Self::Filtered { .. } => (
                "FILTERED",
                "the framework refused this, or more, not long ago",
                "the filter ends, the framework calls REVIVE, or more becomes free than it refused",
            ),
            Self::Behind { .. } => (
                "BEHIND",
                "another framework is served before it",
                "that one declines, or this one's share becomes the lower",
            ),
        }
    }
}
