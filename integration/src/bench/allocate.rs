//! The allocator alone, in process: no socket, no message, no other part of the master.
//!
//! Agents and frameworks as in Mesos' own benchmark of declined offers: every agent runs sixteen tasks of a CPU and a
//! port each, all frameworks share one role, and whoever is offered something refuses it for good.

use std::sync::Arc;
use std::time::Instant;

use anyhow::ensure;
use mezzo_master::allocator::{
    Abilities, AgentSpec, Allocator, AllocatorConfig, FrameworkSpec, Grant, MAX_FILTER, RoleSpec,
};
use mezzo_master::keys::{AgentKey, FrameworkKey};
use mezzo_model::attributes::Attributes;
use mezzo_model::resources::Resources;
use mezzo_model::rng::Rng;
use mezzo_model::{Millis, Role};

use super::stats::Samples;

/// The grid that Mesos measured, with what it took there for one cycle in milliseconds, where that was published.
const GRID: [(u32, u32, Option<f64>); 3] = [
    (1_000, 100, None),
    (10_000, 1_000, Some(1060.0)),
    (50_000, 6_000, None),
];

/// Prints what cycles cost, over the whole grid or, if `short`, its first two sizes.
pub fn run(rounds: usize, short: bool) -> anyhow::Result<()> {
    println!("allocator: cycles in which every agent is offered, every offer declined for good");
    for (agents, frameworks, mesos) in GRID.into_iter().take(if short { 2 } else { 3 }) {
        let mut market = Market::new(agents, frameworks)?;
        let cycles = market.cycles(rounds)?;
        line(&format!("{agents} x {frameworks}, all dirty"), &cycles);
        if let Some(mesos) = mesos {
            println!("    Mesos {mesos:.0} ms; goal <= 10 ms");
        }
        let some = market.some_dirty(rounds * 10)?;
        line(&format!("{agents} x {frameworks}, 1 % dirty"), &some);
        let stuck = market.refused_by_all(rounds)?;
        line(
            &format!("{agents} x {frameworks}, {} dirty, all refuse", few(agents)),
            &stuck,
        );
        let other = market.decline_to_other(rounds * 50)?;
        line(
            &format!("{agents} x {frameworks}, decline to other"),
            &other,
        );
    }
    println!("  goals at 10000 x 1000: 1 % dirty <= 0.5 ms, decline to other <= 1 ms");
    println!(
        "  a real Mesos on such a machine, one framework: 37 to 54 ms for 1000 agents, 459 to 473 ms for 10000;"
    );
    println!("  its declined resources wait for the next tick, up to 1000 ms");
    println!(
        "  bounded by: one offer's resources copied three times (offered, held, given) and the order of fairness \
         kept; where all refuse, by one look at each framework's filter"
    );
    Ok(())
}

fn line(what: &str, samples: &Samples) {
    let us = |share| samples.at(share).as_secs_f64() * 1e6;
    println!(
        "  {what:38} median {:9.1} us, p99 {:9.1} us",
        us(0.5),
        us(0.99)
    );
}

/// One in a hundred, and no more than the memory for their filters allows.
fn few(agents: u32) -> u32 {
    (agents / 100).min(100)
}

struct Market {
    allocator: Allocator,
    agents: u32,
    frameworks: u32,
    now: Millis,
    /// What is offered now, by agent.
    offered: Vec<Option<Grant>>,
}

impl Market {
    fn new(agents: u32, frameworks: u32) -> anyhow::Result<Self> {
        let mut allocator = Allocator::new(AllocatorConfig::default(), Rng::new(7));
        for key in 0..frameworks {
            let spec = FrameworkSpec {
                name: Arc::from(format!("framework-{key:05}")),
                roles: vec![RoleSpec {
                    role: Role::star(),
                    suppressed: false,
                    min_allocatable: None,
                    constraints: None,
                }],
                abilities: Abilities::default(),
            };
            allocator.set_framework(FrameworkKey(key), spec);
            allocator.set_framework_active(FrameworkKey(key), true);
        }
        let total = Resources::parse("cpus:24;mem:4096;disk:4096;ports:[31000-32000]")?;
        let attributes = Arc::new(Attributes::parse("")?);
        // Every other port, so that what is left is in pieces.
        let ports: Vec<String> = (0..16).map(|i| (31_001 + 2 * i).to_string()).collect();
        let used = format!("cpus:16;ports:[{}]", ports.join(","));
        let used = Resources::parse(&used)?;
        for key in 0..agents {
            let spec = AgentSpec {
                total: total.clone(),
                hostname: Arc::from(format!("agent-{key:05}")),
                domain: None,
                attributes: attributes.clone(),
            };
            let held = (FrameworkKey(key % frameworks), Role::star(), used.clone());
            allocator.add_agent(AgentKey(key), spec, [held]);
        }
        Ok(Self {
            allocator,
            agents,
            frameworks,
            now: Millis::from_secs(1),
            offered: vec![None; agents as usize],
        })
    }

    /// One cycle; how many offers it made.
    fn cycle(&mut self, samples: &mut Samples) -> usize {
        let started = Instant::now();
        let grants = self.allocator.allocate(self.now);
        samples.push(started.elapsed());
        let made = grants.len();
        for grant in grants {
            let agent = grant.agent.0 as usize;
            self.offered[agent] = Some(grant);
        }
        made
    }

    /// Gives the offer of an agent back; whose it was.
    fn decline(&mut self, agent: u32) -> Option<FrameworkKey> {
        let grant = self.offered[agent as usize].take()?;
        let Grant {
            framework,
            role,
            agent,
            resources,
        } = grant;
        let refuse = Some(MAX_FILTER);
        self.allocator
            .release(self.now, agent, framework, &role, &resources, refuse);
        Some(framework)
    }

    /// Everything is offered, everything declined, again and again.
    fn cycles(&mut self, rounds: usize) -> anyhow::Result<Samples> {
        let mut samples = Samples::default();
        for _ in 0..rounds {
            let made = self.cycle(&mut samples);
            ensure!(made == self.agents as usize, "{made} offers");
            for agent in 0..self.agents {
                self.decline(agent);
            }
            self.now += Millis(50);
        }
        self.cycle(&mut Samples::default());
        Ok(samples)
    }

    /// One agent in a hundred is declined, and goes to somebody else.
    fn some_dirty(&mut self, rounds: usize) -> anyhow::Result<Samples> {
        let mut samples = Samples::default();
        let mut at = 0;
        for _ in 0..rounds {
            for _ in 0..self.agents / 100 {
                self.decline(at);
                at = (at + 37) % self.agents;
            }
            let made = self.cycle(&mut samples);
            ensure!(made == self.agents as usize / 100, "{made} offers");
            self.now += Millis(50);
        }
        Ok(samples)
    }

    /// A few agents are refused by everybody; then each gets nothing but a cycle that looks at it.
    fn refused_by_all(&mut self, rounds: usize) -> anyhow::Result<Samples> {
        let few = few(self.agents);
        for _ in 0..=self.frameworks {
            for agent in 0..few {
                self.decline(agent);
            }
            self.cycle(&mut Samples::default());
        }
        let mut samples = Samples::default();
        for _ in 0..rounds {
            for agent in 0..few {
                self.allocator.set_agent_active(AgentKey(agent), true);
            }
            let made = self.cycle(&mut samples);
            ensure!(made == 0, "{made} offers of what all refused");
        }
        Ok(samples)
    }

    /// From a decline to the offer at somebody else.
    fn decline_to_other(&mut self, rounds: usize) -> anyhow::Result<Samples> {
        let mut samples = Samples::default();
        let mut agent = self.agents / 2;
        for _ in 0..rounds {
            let started = Instant::now();
            let from = self.decline(agent);
            let grants = self.allocator.allocate(self.now);
            samples.push(started.elapsed());
            let [grant] = &grants[..] else {
                anyhow::bail!("{} offers after one decline", grants.len());
            };
            ensure!(from.is_some_and(|from| from != grant.framework), "the same");
            self.offered[agent as usize] = grants.into_iter().next();
            agent = self.agents / 2 + (agent + 1) % (self.agents / 2);
        }
        Ok(samples)
    }
}
