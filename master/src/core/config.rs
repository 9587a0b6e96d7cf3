//! What a core is told once, at the start of its term.

use mezzo_model::{Epoch, Millis};
use mezzo_wire::v1;

use crate::allocator::AllocatorConfig;
use crate::validate::framework::Policy;

/// A heartbeat goes to each scheduler this often.
pub const HEARTBEAT_INTERVAL: Millis = Millis::from_secs(15);

/// An offer is taken back after so long whether or not somebody else wants it: its answer may have been lost.
pub const OFFER_MAX_AGE: Millis = Millis::from_secs(300);

/// After a commit whose fate is unknown it is tried again this much later.
pub const COMMIT_RETRY: Millis = Millis(500);

/// Acts that go into the registry with one commit.
pub const MAX_BATCH: usize = 256;

/// Ends of tasks, and where they ran, that are remembered for who wants to read their sandboxes.
pub const MAX_PAST_TASKS: usize = 20_000;

/// Ids of frameworks that are gone; one that comes back with such an id is refused.
pub const MAX_PAST_FRAMEWORKS: usize = 10_000;

/// Reads of sandboxes under way through one master.
pub const MAX_READS: usize = 1024;

/// How fast agents may be declared unreachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// So many ...
    pub permits: u32,
    /// ... in this time.
    pub per: Millis,
}

/// Settings of one term.
#[derive(Clone, Debug)]
pub struct Config {
    /// What schedulers are told of this master.
    pub master: v1::MasterInfo,
    /// The term; every message to an agent carries it.
    pub epoch: Epoch,
    /// Which frameworks may come.
    pub policy: Policy,
    /// Passed on to the allocator.
    pub allocator: AllocatorConfig,
    /// How old an offer may get before it is taken back if somebody else could use it.
    pub offer_timeout: Millis,
    /// How often agents are pinged.
    pub agent_ping_timeout: Millis,
    /// After so many unanswered pings an agent counts as unreachable.
    pub max_agent_ping_timeouts: u32,
    /// How long agents of the registry are waited for at the start of a term.
    pub agent_reregister_timeout: Millis,
    /// How fast agents may be declared unreachable; `None`: at once.
    pub agent_removal_rate_limit: Option<RateLimit>,
    /// Unreachable tasks that are remembered of one framework.
    pub max_unreachable_tasks_per_framework: usize,
}

impl Config {
    /// Mesos' defaults, but for `offer_timeout`, which Mesos leaves open.
    pub fn new(master: v1::MasterInfo, epoch: Epoch) -> Self {
        Self {
            master,
            epoch,
            policy: Policy::default(),
            allocator: AllocatorConfig::default(),
            offer_timeout: Millis::from_secs(30),
            agent_ping_timeout: Millis::from_secs(15),
            max_agent_ping_timeouts: 5,
            agent_reregister_timeout: Millis::from_secs(600),
            agent_removal_rate_limit: None,
            max_unreachable_tasks_per_framework: 1000,
        }
    }

    /// How long an agent may be silent before it counts as unreachable, and a master before an agent dials anew.
    pub fn silence(&self) -> Millis {
        self.agent_ping_timeout * u64::from(self.max_agent_ping_timeouts.max(1))
    }
}
