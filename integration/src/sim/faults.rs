//! The plan of faults of one seed: what happens to which process, and when.
//!
//! Each seed switches a random part of the kinds on (swarm testing), so that some runs are storms of one kind and
//! others a bit of everything.

use std::collections::BTreeMap;

use mezzo_model::rng::Rng;

use super::net::Host;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `kill -9` of the master that leads; it comes back.
    KillLeader,
    /// `kill -9` of any master; it comes back.
    KillMaster,
    /// The leading master is told to stop, and started again.
    ResignLeader,
    /// `kill -9` of an agent's process; its containers live on.
    KillAgent,
    /// An agent's machine loses power.
    PowerCut,
    /// `kill -9` of the executor of a container.
    KillExecutor,
    /// `kill -9` of a process of the service framework.
    KillService,
    /// `kill -9` of a process of the batch framework.
    KillBatch,
    /// ZooKeeper restarts.
    RestartZooKeeper,
    /// A process and ZooKeeper no longer reach each other, in one or both directions.
    CutFromZooKeeper,
    /// The leading master and an agent no longer reach each other, in one or both directions.
    CutAgent,
    /// The leading master is alone.
    IsolateLeader,
    /// Everything from and to a process is slow.
    Slow,
    /// The wall clock of a machine jumps.
    StepClock,
    /// All cuts heal.
    Heal,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::KillLeader,
        Self::KillMaster,
        Self::ResignLeader,
        Self::KillAgent,
        Self::PowerCut,
        Self::KillExecutor,
        Self::KillService,
        Self::KillBatch,
        Self::RestartZooKeeper,
        Self::CutFromZooKeeper,
        Self::CutAgent,
        Self::IsolateLeader,
        Self::Slow,
        Self::StepClock,
        Self::Heal,
    ];
}

/// One fault.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// When, in milliseconds of virtual time.
    pub at_ms: u64,
    /// What.
    pub kind: Kind,
    /// Whom, among those that the kind may hit.
    pub pick: u64,
    /// For how long a process stays away, or how far a clock jumps.
    pub span_ms: u64,
    /// One direction only, for cuts.
    pub one_way: bool,
}

/// The faults of a seed, in the order of their times.
pub fn plan(rng: &mut Rng, count: usize, from_ms: u64, until_ms: u64) -> Vec<Fault> {
    let mut kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|_| rng.below(3) > 0).collect();
    if kinds.len() < 4 {
        kinds = Kind::ALL.to_vec();
    }
    // What is cut must be able to heal before the end too.
    if !kinds.contains(&Kind::Heal) {
        kinds.push(Kind::Heal);
    }
    let mut faults: Vec<Fault> = (0..count)
        .map(|_| {
            let kind = *rng.pick(&kinds).unwrap_or(&Kind::Heal);
            let short = rng.below(2) == 0;
            let span_ms = if short {
                rng.below(800)
            } else {
                rng.below(25_000)
            };
            Fault {
                at_ms: rng.between(from_ms, until_ms),
                kind,
                pick: rng.next_u64(),
                span_ms,
                one_way: rng.below(2) == 0,
            }
        })
        .collect();
    faults.sort_by_key(|fault| fault.at_ms);
    faults
}

/// How often each kind really struck.
#[derive(Clone, Debug, Default)]
pub struct Counts(BTreeMap<Kind, u64>);

impl Counts {
    /// One more.
    pub fn count(&mut self, kind: Kind) {
        *self.0.entry(kind).or_default() += 1;
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        for (kind, count) in &other.0 {
            *self.0.entry(*kind).or_default() += count;
        }
    }

    /// How often a kind struck.
    pub fn of(&self, kind: Kind) -> u64 {
        self.0.get(&kind).copied().unwrap_or(0)
    }

    /// All faults together.
    pub fn sum(&self) -> u64 {
        self.0.values().sum()
    }
}

/// Who is who in a cluster.
#[derive(Clone, Debug, Default)]
pub struct Cast {
    /// ZooKeeper.
    pub zookeeper: Host,
    /// Masters.
    pub masters: Vec<Host>,
    /// Agents.
    pub agents: Vec<Host>,
    /// Processes of the service framework.
    pub services: Vec<Host>,
    /// Processes of the batch framework.
    pub batches: Vec<Host>,
}

impl Cast {
    /// One of these, by the fault's own choice.
    pub fn pick(hosts: &[Host], pick: u64) -> Option<Host> {
        let at = usize::try_from(pick % (hosts.len().max(1) as u64)).ok()?;
        hosts.get(at).copied()
    }

    /// Everybody who talks to ZooKeeper.
    pub fn clients(&self) -> Vec<Host> {
        let frameworks = self.services.iter().chain(&self.batches);
        self.masters
            .iter()
            .chain(&self.agents)
            .chain(frameworks)
            .copied()
            .collect()
    }
}
