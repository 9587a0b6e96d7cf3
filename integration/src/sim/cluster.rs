//! One run: a cluster from a seed, its faults, its workload, and the judgement.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use mezzo_agent::core::Config as AgentConfig;
use mezzo_coordination::election::core::Config as ElectionConfig;
use mezzo_coordination::election::{FRAMEWORK_PREFIX, MASTER_PREFIX};
use mezzo_model::ids::TaskId;
use mezzo_model::rng::Rng;
use mezzo_model::time::Millis;
use serde_json::json;

use super::agent::{Agent, Directory};
use super::bugs::Bugs;
use super::coord::Coord;
use super::faults::{self, Cast, Counts, Fault, Kind};
use super::framework::Framework;
use super::kinds::{Batch, Service};
use super::master::Master;
use super::net::Host;
use super::workload::{self, Step, Wanted, Wish};
use super::world::{Event, World};
use super::zk_host::ZkHost;

/// An agent has 4 processors and each task of the workload wants half of one.
const PAYLOADS_MAX: usize = 8;

/// The size of a run.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Masters.
    pub masters: u32,
    /// Agents.
    pub agents: u32,
    /// Processes of each framework.
    pub frameworks: u32,
    /// Faults.
    pub faults: usize,
    /// Until when faults strike, in milliseconds of virtual time.
    pub storm_ms: u64,
    /// How long the cluster may take to settle afterwards.
    pub settle_ms: u64,
    /// Print every step.
    pub echo: bool,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            masters: 3,
            agents: 5,
            frameworks: 2,
            faults: 24,
            storm_ms: 200_000,
            settle_ms: 400_000,
            echo: false,
        }
    }
}

/// What a run was.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The hash of every step.
    pub hash: u64,
    /// How many steps there were.
    pub steps: u64,
    /// How long it was, in milliseconds of virtual time.
    pub virtual_ms: u64,
    /// Faults that struck.
    pub faults: Counts,
    /// Payloads that were started.
    pub payloads: usize,
    /// What was broken, with the last steps.
    pub broken: Option<Broken>,
}

/// A broken promise.
#[derive(Clone, Debug)]
pub struct Broken {
    /// In words.
    pub words: String,
    /// When.
    pub at_ms: u64,
    /// The last steps before it.
    pub tail: Vec<String>,
}

/// A run under way.
pub struct Run {
    world: World,
    cast: Cast,
    faults: Vec<Fault>,
    steps: Vec<Step>,
    counts: Counts,
    wanted: Wanted,
    /// Calls that are not answered yet: the step, and whom it was put to.
    asked: BTreeMap<u64, (usize, Host)>,
    /// Steps that were answered.
    done: BTreeSet<usize>,
    next_request: u64,
    size: Size,
    healed: bool,
}

/// Runs a seed.
pub fn run(seed: u64, size: Size, bugs: Bugs) -> Report {
    let mut run = Run::new(seed, size, bugs);
    let broken = run.go().err().map(|words| Broken {
        words,
        at_ms: run.world.queue.now().0,
        tail: run.world.trace.tail().map(str::to_owned).collect(),
    });
    Report {
        seed,
        hash: run.world.trace.hash(),
        steps: run.world.trace.steps(),
        virtual_ms: run.world.queue.now().0,
        faults: run.counts,
        payloads: run.world.oracle.started(),
        broken,
    }
}

impl Run {
    fn new(seed: u64, size: Size, bugs: Bugs) -> Self {
        let rng = Rng::new(seed);
        let mut world = World::new(&rng, bugs);
        world.trace.echo = size.echo;
        let cast = populate(&mut world, &rng, size);
        let faults = faults::plan(&mut rng.split("faults"), size.faults, 5_000, size.storm_ms);
        let steps = workload::plan(&mut rng.split("workload"), size.storm_ms);
        for (n, fault) in faults.iter().enumerate() {
            world.queue.at(Millis(fault.at_ms), Event::Fault(n));
        }
        for (n, step) in steps.iter().enumerate() {
            world.queue.at(Millis(step.at_ms), Event::Work(n));
        }
        Self {
            world,
            cast,
            faults,
            steps,
            counts: Counts::default(),
            wanted: Wanted::default(),
            asked: BTreeMap::new(),
            done: BTreeSet::new(),
            next_request: 0,
            size,
            healed: false,
        }
    }

    fn go(&mut self) -> Result<(), String> {
        for host in 0..self.world.hosts() {
            self.world.start(host);
        }
        self.play(Millis(self.size.storm_ms))?;
        self.heal();
        let end = self.size.storm_ms + self.size.settle_ms;
        let mut calm = 0;
        let mut why = String::new();
        let mut now = self.size.storm_ms;
        // At least 240 s in all, however quickly things settle.
        while now < end && (calm < 5 || now < 240_000) {
            now += 1_000;
            self.play(Millis(now))?;
            match self.settled() {
                Ok(()) => calm += 1,
                Err(words) => {
                    calm = 0;
                    why = words;
                }
            }
        }
        if calm < 5 {
            return Err(format!(
                "not settled {} s after the last fault: {why}",
                self.size.settle_ms / 1000
            ));
        }
        self.check_runs()
    }

    /// Every run that was acknowledged has ended, and is in the history.
    fn check_runs(&mut self) -> Result<(), String> {
        let request = self.next_request;
        self.next_request += 1;
        let hosts = self.cast.batches.clone();
        let host = self
            .ask::<Batch>(&hosts, request, || Some(workload::count_ended_runs()))
            .ok_or("no batch leads")?;
        let answer = self
            .world
            .see::<Framework<Batch>>(host)
            .and_then(|batch| batch.answers.get(&request).cloned());
        let ended = match answer {
            Some(Ok(text)) => text.parse::<u64>().unwrap_or(0),
            other => return Err(format!("jobs cannot be listed: {other:?}")),
        };
        if ended < self.wanted.runs {
            let runs = self.wanted.runs;
            return Err(format!(
                "{runs} runs were acknowledged, and {ended} are in the history"
            ));
        }
        Ok(())
    }

    fn play(&mut self, until: Millis) -> Result<(), String> {
        while let Some(event) = self.world.queue.next(until) {
            match event {
                Event::Fault(n) => {
                    if !self.healed {
                        self.strike(self.faults[n]);
                    }
                }
                Event::Work(n) => self.work(n),
                Event::Again(n, request) => self.ask_again(n, request),
                Event::Resigned(host) => self.world.crash(host),
                event => self.world.step(event)?,
            }
            self.fetch_answers();
            self.world.oracle.verdict()?;
        }
        self.check_across()
    }

    /// Everything comes back and every cut heals.
    fn heal(&mut self) {
        self.healed = true;
        self.world.heal();
        for host in 0..self.world.hosts() {
            self.world.start(host);
        }
    }

    fn leading_master(&self) -> Option<Host> {
        let leads = |host: &&Host| self.world.see::<Master>(**host).is_some_and(Master::leads);
        self.cast.masters.iter().find(leads).copied()
    }

    fn strike(&mut self, fault: Fault) {
        let leader = self.leading_master();
        let cast = self.cast.clone();
        let pick = |hosts: &[Host]| Cast::pick(hosts, fault.pick);
        let now = self.world.queue.now().0;
        self.world
            .trace
            .step(now, "fault", format_args!("{fault:?}"));
        let struck = match fault.kind {
            Kind::KillLeader => leader.map(|host| self.kill(host, fault.span_ms)),
            Kind::KillMaster => pick(&cast.masters).map(|host| self.kill(host, fault.span_ms)),
            Kind::ResignLeader => leader.map(|host| {
                self.world.with(host, |process, ctx| {
                    if let Some(master) = process.as_any().downcast_mut::<Master>() {
                        master.resign(ctx);
                    }
                });
                let delay = fault.span_ms + 500;
                self.world.queue.after(400, Event::Resigned(host));
                self.world.queue.after(delay, Event::Revive(host));
            }),
            Kind::KillAgent => pick(&cast.agents).map(|host| self.kill(host, fault.span_ms)),
            Kind::PowerCut => pick(&cast.agents).map(|host| {
                self.with_agent(host, |agent, _| agent.power_cut = true);
                self.kill(host, fault.span_ms);
            }),
            Kind::KillExecutor => pick(&cast.agents).and_then(|host| {
                self.with_agent(host, |agent, ctx| agent.kill_executor(ctx, fault.pick))
                    .then_some(())
            }),
            Kind::KillService => pick(&cast.services).map(|host| self.kill(host, fault.span_ms)),
            Kind::KillBatch => pick(&cast.batches).map(|host| self.kill(host, fault.span_ms)),
            Kind::RestartZooKeeper => {
                self.kill(cast.zookeeper, fault.span_ms.min(8_000));
                Some(())
            }
            Kind::CutFromZooKeeper => {
                pick(&cast.clients()).map(|host| self.cut(host, cast.zookeeper, fault))
            }
            Kind::CutAgent => match (leader, pick(&cast.agents)) {
                (Some(leader), Some(agent)) => {
                    self.cut(leader, agent, fault);
                    Some(())
                }
                _ => None,
            },
            Kind::IsolateLeader => leader.map(|leader| {
                for host in 0..self.world.hosts() {
                    if host != leader {
                        self.cut(leader, host, fault);
                    }
                }
            }),
            Kind::Slow => pick(&cast.clients())
                .map(|host| self.world.net.slow_down(host, 50 + fault.span_ms / 10)),
            Kind::StepClock => pick(&cast.clients()).map(|host| {
                let far = i64::try_from(fault.span_ms).unwrap_or(0) * 10;
                self.world
                    .step_clock(host, if fault.one_way { -far } else { far });
            }),
            Kind::Heal => {
                self.world.heal();
                Some(())
            }
        };
        if struck.is_some() {
            self.counts.count(fault.kind);
        }
    }

    fn with_agent<R: Default>(
        &mut self,
        host: Host,
        act: impl FnOnce(&mut Agent, &mut super::world::Ctx<'_>) -> R,
    ) -> R {
        self.world.with(host, |process, ctx| {
            process
                .as_any()
                .downcast_mut::<Agent>()
                .map(|agent| act(agent, ctx))
                .unwrap_or_default()
        })
    }

    fn kill(&mut self, host: Host, away_ms: u64) {
        if self.world.is_up(host) {
            self.world.crash(host);
            self.world.queue.after(away_ms + 1, Event::Revive(host));
        }
    }

    fn cut(&mut self, a: Host, b: Host, fault: Fault) {
        self.world.cut(a, b);
        if !fault.one_way {
            self.world.cut(b, a);
        }
    }

    fn work(&mut self, n: usize) {
        let wish = self.steps[n].wish.clone();
        let request = self.next_request;
        self.next_request += 1;
        let host = match &wish {
            Wish::App { id, instances, .. } => {
                self.wanted.open.insert(id.clone(), *instances);
                self.ask::<Service>(&self.cast.services.clone(), request, || {
                    workload::service_call(&wish)
                })
            }
            Wish::NoApp { id } => {
                self.wanted.open.insert(id.clone(), 0);
                self.ask::<Service>(&self.cast.services.clone(), request, || {
                    workload::service_call(&wish)
                })
            }
            Wish::Job { .. } | Wish::Run { .. } => {
                self.ask::<Batch>(&self.cast.batches.clone(), request, || {
                    workload::batch_call(&wish)
                })
            }
        };
        if let Some(host) = host {
            self.asked.insert(request, (n, host));
        }
        // Whoever gets no answer asks again.
        self.world.queue.after(
            if host.is_some() { 5_000 } else { 500 },
            Event::Again(n, request),
        );
    }

    /// Whoever got no answer asks again; only a run may then have been started twice, which its acknowledgement tells.
    fn ask_again(&mut self, n: usize, request: u64) {
        if self.done.contains(&n) {
            return;
        }
        self.asked.remove(&request);
        self.work(n);
    }

    fn ask<K: super::framework::Kind>(
        &mut self,
        hosts: &[Host],
        request: u64,
        call: impl Fn() -> Option<K::Call>,
    ) -> Option<Host> {
        for host in hosts {
            if !self.world.is_up(*host) {
                continue;
            }
            let call = call()?;
            let took = self.world.with(*host, |process, ctx| {
                process
                    .as_any()
                    .downcast_mut::<Framework<K>>()
                    .is_some_and(|framework| framework.ask(ctx, request, call))
            });
            if took {
                return Some(*host);
            }
        }
        None
    }

    fn fetch_answers(&mut self) {
        if self.asked.is_empty() {
            return;
        }
        let asked: Vec<(u64, usize, Host)> = self
            .asked
            .iter()
            .map(|(request, (n, host))| (*request, *n, *host))
            .collect();
        for (request, n, host) in asked {
            let answer = self
                .world
                .see::<Framework<Service>>(host)
                .and_then(|it| it.answers.get(&request).cloned())
                .or_else(|| {
                    self.world
                        .see::<Framework<Batch>>(host)
                        .and_then(|it| it.answers.get(&request).cloned())
                });
            if let Some(answer) = answer {
                self.asked.remove(&request);
                self.answered(n, &answer);
            }
        }
    }

    fn answered(&mut self, n: usize, answer: &Result<String, String>) {
        let now = self.world.queue.now().0;
        self.world
            .trace
            .step(now, "workload", format_args!("step {n}: {answer:?}"));
        self.done.insert(n);
        match &self.steps[n].wish {
            Wish::App { id, instances, .. } if answer.is_ok() => {
                self.wanted.apps.insert(id.clone(), *instances);
                self.wanted.open.remove(id);
            }
            Wish::NoApp { id } => {
                self.wanted.apps.remove(id);
                self.wanted.open.remove(id);
            }
            Wish::Run { .. } if answer.is_ok() => self.wanted.runs += 1,
            Wish::App { .. } | Wish::Job { .. } | Wish::Run { .. } => {}
        }
    }

    /// What must hold between processes at any quiet moment.
    fn check_across(&self) -> Result<(), String> {
        // A payload lives on one machine only, and no machine runs more than it has: each core checks its own books.
        let mut seen: BTreeMap<TaskId, Host> = BTreeMap::new();
        for host in &self.cast.agents {
            let Some(agent) = self.world.see::<Agent>(*host) else {
                continue;
            };
            let count = agent.payloads().count();
            if count > PAYLOADS_MAX {
                return Err(format!(
                    "{count} payloads live on host {host}, which has room for {PAYLOADS_MAX}"
                ));
            }
            for task in agent.payloads() {
                if let Some(other) = seen.insert(task.clone(), *host) {
                    return Err(format!("task {task} lives on hosts {other} and {host}"));
                }
            }
        }
        Ok(())
    }

    /// Whether everything that was wanted is so, and nothing else.
    fn settled(&self) -> Result<(), String> {
        let leader = self.leading_master().ok_or("no master leads")?;
        let master = self.world.see::<Master>(leader).ok_or("no master leads")?;
        let registered = master.registered_agents();
        if registered != self.cast.agents.len() {
            return Err(format!("{registered} agents are registered"));
        }
        let service = self.leading::<Service>(&self.cast.services)?;
        let batch = self.leading::<Batch>(&self.cast.batches)?;
        for (name, subscribed) in [
            ("service", service.is_subscribed()),
            ("batch", batch.is_subscribed()),
        ] {
            if !subscribed {
                return Err(format!("{name} is not subscribed"));
            }
        }
        if !self.asked.is_empty() {
            return Err(format!("{} calls are not answered", self.asked.len()));
        }
        let mut alive: BTreeMap<String, u32> = BTreeMap::new();
        for task in self.world.oracle.alive() {
            let name = task
                .as_str()
                .split(['.', '_'])
                .next()
                .unwrap_or_default()
                .to_owned();
            *alive.entry(format!("/{name}")).or_default() += 1;
        }
        for (id, wanted) in &self.wanted.apps {
            let lives = alive.remove(id).unwrap_or(0);
            if lives != *wanted {
                let tasks: Vec<_> = self
                    .world
                    .oracle
                    .alive()
                    .iter()
                    .map(TaskId::as_str)
                    .collect();
                return Err(format!(
                    "{lives} instances of {id} live, {wanted} are wanted: {tasks:?}"
                ));
            }
        }
        if let Some((id, count)) = alive.into_iter().next() {
            return Err(format!(
                "{count} payloads of {id} live and nobody wants them"
            ));
        }
        let active = batch.core().map_or(0, |core| core.totals().active_runs);
        if active > 0
            || !batch
                .core()
                .is_some_and(mezzo_batch::core::Core::is_settled)
        {
            return Err(format!("{active} runs of jobs are under way"));
        }
        master.agrees_with(&self.world, &self.cast.agents)
    }

    fn leading<K: super::framework::Kind>(&self, hosts: &[Host]) -> Result<&Framework<K>, String> {
        let frameworks = hosts
            .iter()
            .filter_map(|host| self.world.see::<Framework<K>>(*host));
        frameworks
            .into_iter()
            .find(|framework| framework.core().is_some())
            .ok_or_else(|| format!("no {} leads", K::NAME))
    }
}

/// Adds every process to the world, in a fixed order.
fn populate(world: &mut World, rng: &Rng, size: Size) -> Cast {
    let mut cast = Cast {
        zookeeper: world.add(Box::new(ZkHost::new())),
        ..Cast::default()
    };
    let zk = cast.zookeeper;
    let mut directory = BTreeMap::new();
    let first = zk + 1;
    for n in 0..size.masters {
        directory.insert(
            format!("{}:5050", address(&format!("master-{n}"))),
            first + n,
        );
        directory.insert(format!("master-{n}:5050"), first + n);
    }
    let directory: Directory = Rc::new(directory);
    for n in 0..size.masters {
        let name = format!("master-{n}");
        let seeds = rng.split(&name);
        let master = Master::new(
            &name,
            contender(zk, &name, "/mezzo", MASTER_PREFIX, 5050),
            seeds,
        );
        cast.masters.push(world.add(Box::new(master)));
    }
    for n in 0..size.agents {
        let name = format!("agent-{n}");
        let resources = mezzo_model::resources::Resources::parse(
            "cpus:4;mem:4096;disk:4096;ports:[31000-31100]",
        )
        .map(|resources| resources.to_wire())
        .unwrap_or_default();
        let mut config = AgentConfig::new(&name, resources);
        config.reregistration_timeout = Millis::from_secs(10);
        let agent = Agent::new(
            config,
            directory.clone(),
            detector(zk, &name),
            rng.split(&name),
        );
        cast.agents.push(world.add(Box::new(agent)));
    }
    for n in 0..size.frameworks {
        let name = format!("service-{n}");
        let contender = contender(zk, &name, "/service", FRAMEWORK_PREFIX, 8080);
        let process = Framework::<Service>::new(
            &name,
            directory.clone(),
            contender,
            detector(zk, &name),
            rng.split(&name),
        );
        cast.services.push(world.add(Box::new(process)));
    }
    for n in 0..size.frameworks {
        let name = format!("batch-{n}");
        let contender = contender(zk, &name, "/batch", FRAMEWORK_PREFIX, 9000);
        let process = Framework::<Batch>::new(
            &name,
            directory.clone(),
            contender,
            detector(zk, &name),
            rng.split(&name),
        );
        cast.batches.push(world.add(Box::new(process)));
    }
    cast
}

fn contender(
    zk: Host,
    name: &str,
    path: &str,
    prefix: &str,
    port: u16,
) -> Box<dyn Fn(u64) -> Coord> {
    let (name, path, prefix) = (name.to_owned(), path.to_owned(), Arc::<str>::from(prefix));
    Box::new(move |seed| {
        let ip = address(&name);
        let info = json!({"address": {"hostname": name, "ip": ip, "port": port},
            "hostname": name, "id": format!("{name}-{seed:x}"), "port": port, "version": "1.11.0"});
        let config = ElectionConfig {
            path: path.clone(),
            prefix: prefix.clone(),
            candidate: Some(Bytes::from(info.to_string())),
            session_timeout: Millis::from_secs(6),
            cluster_id: Arc::from(format!("cluster-of{path}")),
            seed,
        };
        Coord::new(zk, &name, config)
    })
}

fn detector(zk: Host, name: &str) -> Box<dyn Fn(u64) -> Coord> {
    let name = name.to_owned();
    Box::new(move |seed| {
        let config = ElectionConfig {
            path: "/mezzo".to_owned(),
            prefix: Arc::from(MASTER_PREFIX),
            candidate: None,
            session_timeout: Millis::from_secs(6),
            cluster_id: Arc::from(""),
            seed,
        };
        Coord::new(zk, &name, config)
    })
}

/// An address of its own for each process, from the number in its name.
fn address(name: &str) -> String {
    let number: u8 = name
        .rsplit('-')
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    format!("10.0.0.{}", number + 1)
}
