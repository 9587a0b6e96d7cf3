//! A machine with an agent: its core, a disk, containers, and the least shell between them.

mod spoil;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use mezzo_agent::core::{Config, ContainerEnd, Core, Input, Launch, Output, Process as Pid};
use mezzo_coordination::election::core::Change;
use mezzo_model::ids::ContainerId;
use mezzo_model::rng::Rng;
use mezzo_model::time::Millis;
use mezzo_sdk::executor::core::DriverInput;
use mezzo_sdk::scheduler::core::CloseReason;
use mezzo_wire::link;

use super::bugs::Bug;
use super::container::{Act, Container};
use super::coord::{Coord, Told};
use super::disk::Disk;
use super::net::{Conn, Host, Side};
use super::payload::{ContainerStep, Local, Payload, Step};
use super::world::{Ctx, Process};

/// Addresses by name, as DNS would have them.
pub type Directory = Rc<BTreeMap<String, Host>>;

/// Makes a detector for one life of a process.
pub type MakeDetector = Box<dyn Fn(u64) -> Coord>;

/// A machine with an agent.
pub struct Agent {
    name: String,
    config: Config,
    directory: Directory,
    make_detector: MakeDetector,
    seeds: Rng,
    // What survives the process.
    disk: Disk,
    containers: BTreeMap<ContainerId, Container>,
    boots: u32,
    pids: u32,
    /// The next crash takes the machine down, not the process alone.
    pub power_cut: bool,
    // What does not.
    core: Option<Core>,
    detector: Option<Coord>,
    links: BTreeMap<u64, Conn>,
    leaders: BTreeMap<u64, Arc<str>>,
    /// Of the master that spoke last.
    epoch: Option<link::Epoch>,
    sockets: BTreeMap<u64, ContainerId>,
    next_socket: u64,
    /// Writes under way that are to be flushed.
    flushes: BTreeSet<u64>,
    /// When the disk has done what it was last asked to do.
    flush_at: u64,
}

impl Agent {
    /// A machine whose agent has never run.
    pub fn new(
        config: Config,
        directory: Directory,
        make_detector: MakeDetector,
        seeds: Rng,
    ) -> Self {
        Self {
            name: config.hostname.clone(),
            config,
            directory,
            make_detector,
            seeds,
            disk: Disk::default(),
            containers: BTreeMap::new(),
            boots: 0,
            pids: 100,
            power_cut: false,
            core: None,
            detector: None,
            links: BTreeMap::new(),
            leaders: BTreeMap::new(),
            epoch: None,
            sockets: BTreeMap::new(),
            next_socket: 1,
            flushes: BTreeSet::new(),
            flush_at: 0,
        }
    }

    /// The core, while the process lives.
    pub fn core(&self) -> Option<&Core> {
        self.core.as_ref()
    }

    /// Payloads that live on the machine.
    pub fn payloads(&self) -> impl Iterator<Item = mezzo_model::ids::TaskId> {
        self.containers.values().filter_map(Container::living_task)
    }

    /// Containers whose executor process lives.
    pub fn living_containers(&self) -> usize {
        self.containers
            .values()
            .filter(|container| !container.dead)
            .count()
    }

    /// `kill -9` of the executor of one living container, if there is one.
    pub fn kill_executor(&mut self, ctx: &mut Ctx<'_>, pick: u64) -> bool {
        let living: Vec<ContainerId> = self
            .containers
            .iter()
            .filter(|(_, container)| !container.dead)
            .map(|(id, _)| id.clone())
            .collect();
        let at = usize::try_from(pick % (living.len().max(1) as u64)).unwrap_or(0);
        let Some(id) = living.get(at).cloned() else {
            return false;
        };
        self.destroy(ctx, &id);
        true
    }

    fn feed(&mut self, ctx: &mut Ctx<'_>, input: Input) {
        let Some(core) = &mut self.core else { return };
        let mut out = Vec::new();
        if !matches!(input, Input::Tick) {
            ctx.note(&self.name, format_args!("<- {input:?}"));
        }
        core.handle(ctx.now, input, &mut out);
        for output in out {
            self.carry_out(ctx, output);
        }
    }

    fn carry_out(&mut self, ctx: &mut Ctx<'_>, output: Output) {
        if !matches!(output, Output::Note { .. } | Output::Health(_)) {
            ctx.note(&self.name, format_args!("-> {output:?}"));
        }
        match output {
            Output::Log { id, records, flush } => self.log(ctx, id, records, flush),
            Output::Dial { link, address } => self.dial(ctx, link, &address),
            Output::ToMaster { link, message } => {
                if let Some(conn) = self.links.get(&link).copied()
                    && let Some(message) = self.spoil(ctx, link, message)
                {
                    ctx.send(conn, Side::Client, Payload::Agent(message));
                }
            }
            Output::HangUp { link } => {
                if let Some(conn) = self.links.remove(&link) {
                    ctx.close(conn, Side::Client);
                }
            }
            Output::AnswerHello { conn, answer } => {
                if let Some(container) = self.sockets.get(&conn).cloned() {
                    ctx.on_machine(
                        0,
                        Local::HelloAnswered {
                            container,
                            conn,
                            answer,
                        },
                    );
                }
            }
            Output::ToExecutor { conn, event } => {
                if let Some(container) = self.sockets.get(&conn).cloned() {
                    ctx.on_machine(
                        0,
                        Local::ToExecutor {
                            container,
                            conn,
                            event,
                        },
                    );
                }
            }
            Output::CloseExecutor { conn } => {
                if let Some(container) = self.sockets.remove(&conn) {
                    self.drive(
                        ctx,
                        &container,
                        DriverInput::Disconnected("closed".to_owned()),
                    );
                }
            }
            Output::Launch(launch) => self.launch(ctx, &launch),
            Output::Destroy { container } => self.destroy(ctx, &container),
            Output::Probe { containers } => {
                for (place, last) in containers {
                    let lives = self
                        .containers
                        .get(&place.container)
                        .is_some_and(|it| !it.dead);
                    let alive = if lives {
                        last.or(Some(Pid { pid: 1, start: 1 }))
                    } else {
                        None
                    };
                    let probed = Input::Probed {
                        container: place.container,
                        alive,
                    };
                    ctx.later(1, Local::Agent(Box::new(probed)));
                }
            }
            Output::RemoveSandbox { place } => {
                let removed = Input::SandboxRemoved {
                    container: place.container,
                };
                ctx.later(1, Local::Agent(Box::new(removed)));
            }
            Output::Stop { error } => {
                ctx.note(&self.name, format_args!("stops: {error:?}"));
                self.core = None;
            }
            Output::Resize { .. }
            | Output::Read(_)
            | Output::CancelRead { .. }
            | Output::ReadsEnd { .. }
            | Output::Health(_)
            | Output::Note { .. } => {}
        }
    }

    /// A write is answered at once, a flush after the disk's turn; both in order.
    fn log(
        &mut self,
        ctx: &mut Ctx<'_>,
        id: u64,
        records: Vec<mezzo_agent::core::Record>,
        flush: bool,
    ) {
        self.disk.append(id, records);
        let early = ctx.bugs.has(Bug::EarlyFlush);
        let wait = if flush && !early {
            3 + ctx.rng.below(6)
        } else {
            0
        };
        self.flush_at = (ctx.now.mono.0 + wait).max(self.flush_at);
        ctx.later(self.flush_at - ctx.now.mono.0, Local::Logged { id });
        if flush && !early {
            // The platter has it when the answer is given; a crash before finds some part of it.
            self.flushes.insert(id);
        }
    }

    fn dial(&mut self, ctx: &mut Ctx<'_>, link: u64, address: &str) {
        let conn = self
            .directory
            .get(address)
            .copied()
            .and_then(|host| ctx.connect(host));
        let input = match conn {
            Some(conn) => {
                self.links.insert(link, conn);
                Input::LinkUp { link }
            }
            None => Input::LinkDown {
                link,
                reason: "cannot connect".to_owned(),
                leader: None,
            },
        };
        let wait = 1 + ctx.rng.below(3);
        ctx.later(wait, Local::Agent(Box::new(input)));
    }

    fn launch(&mut self, ctx: &mut Ctx<'_>, launch: &Launch) {
        let id = launch.place.container.clone();
        // One launch in two hundred fails, as runtimes do.
        if ctx.rng.below(200) == 0 {
            let message = "the runtime is not in the mood".to_owned();
            let failed = Input::LaunchFailed {
                container: id,
                message,
            };
            ctx.later(2, Local::Agent(Box::new(failed)));
            return;
        }
        let place = &launch.place;
        let seed = self.seeds.next_u64();
        let container = Container::new(place.framework.clone(), place.executor.clone(), seed);
        self.containers.insert(id.clone(), container);
        self.pids += 1;
        let process = Pid {
            pid: self.pids,
            start: ctx.now.mono.0,
        };
        let launched = Input::Launched {
            container: id.clone(),
            process,
        };
        let wait = 1 + ctx.rng.below(3);
        ctx.later(wait, Local::Agent(Box::new(launched)));
        let begin = ContainerStep {
            container: id,
            what: Step::Begin,
        };
        let wait = 2 + ctx.rng.below(10);
        ctx.on_machine(wait, Local::Container(begin));
    }

    fn destroy(&mut self, ctx: &mut Ctx<'_>, id: &ContainerId) {
        let mut acts = Vec::new();
        if let Some(container) = self.containers.get_mut(id)
            && !ctx.bugs.has(Bug::Orphans)
        {
            container.kill(&mut acts);
        }
        self.act(ctx, id, acts);
        let gone = ContainerStep {
            container: id.clone(),
            what: Step::Gone,
        };
        let wait = 1 + ctx.rng.below(5);
        ctx.on_machine(wait, Local::Container(gone));
    }

    /// The last process of a container is gone: the agent learns it from the kernel if it is there.
    fn gone(&mut self, ctx: &mut Ctx<'_>, id: &ContainerId) {
        let killed = self
            .containers
            .remove(id)
            .is_none_or(|container| container.dead);
        let sockets: Vec<u64> = self
            .sockets
            .iter()
            .filter(|(_, at)| *at == id)
            .map(|(conn, _)| *conn)
            .collect();
        for conn in sockets {
            self.sockets.remove(&conn);
            self.feed(ctx, Input::ExecutorGone { conn });
        }
        let status = Some(if killed { 9 } else { 0 });
        let end = ContainerEnd {
            status,
            ..ContainerEnd::default()
        };
        self.feed(
            ctx,
            Input::ContainerEnded {
                container: id.clone(),
                end,
            },
        );
    }

    fn drive(&mut self, ctx: &mut Ctx<'_>, id: &ContainerId, input: DriverInput) {
        let mut acts = Vec::new();
        if let Some(container) = self.containers.get_mut(id) {
            container.drive(ctx.now, ctx.rng, input, &mut acts);
        }
        self.act(ctx, id, acts);
    }

    fn act(&mut self, ctx: &mut Ctx<'_>, id: &ContainerId, acts: Vec<Act>) {
        for act in acts {
            match act {
                Act::Dial => self.executor_dials(ctx, id),
                Act::Send(call) => {
                    let conn = self
                        .sockets
                        .iter()
                        .find(|(_, at)| *at == id)
                        .map(|(conn, _)| *conn);
                    if let Some(conn) = conn {
                        let call = Input::ExecutorCall { conn, call };
                        ctx.later(0, Local::Agent(Box::new(call)));
                    }
                }
                Act::Later(wait, what) => {
                    let step = ContainerStep {
                        container: id.clone(),
                        what,
                    };
                    ctx.on_machine(wait, Local::Container(step));
                }
                Act::Began(task) => {
                    ctx.oracle.payload_began(&self.name, &task);
                    if ctx.bugs.has(Bug::DoubleLaunch) && ctx.rng.below(20) == 0 {
                        ctx.oracle.payload_began(&self.name, &task);
                    }
                }
                Act::Over(task) => ctx.oracle.payload_over(&task),
            }
        }
        let leaves = self
            .containers
            .get(id)
            .is_some_and(Container::wants_to_leave);
        if leaves {
            let gone = ContainerStep {
                container: id.clone(),
                what: Step::Gone,
            };
            ctx.on_machine(1, Local::Container(gone));
        }
    }

    fn executor_dials(&mut self, ctx: &mut Ctx<'_>, id: &ContainerId) {
        if self.core.is_none() {
            self.drive(ctx, id, DriverInput::Unreachable { watched: true });
            return;
        }
        let Some((framework, executor)) = self.place_of(id) else {
            return;
        };
        let conn = self.next_socket;
        self.next_socket += 1;
        self.sockets.insert(conn, id.clone());
        let hello = Input::ExecutorHello {
            conn,
            framework,
            executor,
            container: id.clone(),
        };
        ctx.later(0, Local::Agent(Box::new(hello)));
    }

    fn place_of(
        &self,
        id: &ContainerId,
    ) -> Option<(mezzo_model::ids::FrameworkId, mezzo_model::ids::ExecutorId)> {
        let container = self.containers.get(id)?;
        Some((container.framework.clone(), container.executor.clone()))
    }

    fn told(&mut self, ctx: &mut Ctx<'_>, told: Vec<Told>) {
        for told in told {
            if let Told::Change(Change::Standby { leader }) = told {
                if ctx.bugs.has(Bug::StuckDetector) && !self.leaders.is_empty() {
                    continue;
                }
                let address = leader.map(|leader| Arc::from(leader.address.as_str()));
                self.leaders
                    .extend(address.clone().map(|address| (0, address)));
                self.feed(ctx, Input::Leader(address));
            }
        }
    }
}

impl Process for Agent {
    fn name(&self) -> &str {
        &self.name
    }

    fn start(&mut self, ctx: &mut Ctx<'_>) {
        let mut config = self.config.clone();
        config.boot_id = Arc::from(format!("boot-{}", self.boots));
        let ledger = self.disk.read();
        self.core = Some(Core::recover(config, self.seeds.next_u64(), ledger));
        self.flush_at = 0;
        self.feed(ctx, Input::Start);
        let mut detector = (self.make_detector)(self.seeds.next_u64());
        let told = detector.start(ctx);
        self.detector = Some(detector);
        self.told(ctx, told);
        // The socket is there again: whoever watched its directory dials.
        let waiting: Vec<ContainerId> = self.containers.keys().cloned().collect();
        for id in waiting {
            self.drive(ctx, &id, DriverInput::Appeared);
        }
    }

    fn message(&mut self, ctx: &mut Ctx<'_>, conn: Conn, _side: Side, payload: Payload) {
        if let Some(detector) = self
            .detector
            .as_mut()
            .filter(|detector| detector.owns(conn))
        {
            let told = detector.message(ctx, payload);
            return self.told(ctx, told);
        }
        let Some(link) = self
            .links
            .iter()
            .find(|(_, at)| **at == conn)
            .map(|(link, _)| *link)
        else {
            return;
        };
        match payload {
            Payload::Master(message) => {
                self.epoch = Some(message.epoch.clone());
                if ctx.bugs.has(Bug::LostKill) && spoil::is_kill(&message) {
                    return;
                }
                self.feed(ctx, Input::FromMaster { link, message });
                if let Some(epoch) = self.core.as_ref().and_then(|core| core.ledger().epoch()) {
                    ctx.oracle.agent_stands_at(&self.name, epoch);
                }
            }
            Payload::Closed(reason) => {
                self.links.remove(&link);
                ctx.close(conn, Side::Client);
                let leader = match &reason {
                    CloseReason::NotLeader { leader } => leader.as_deref().map(Arc::from),
                    _ => None,
                };
                let reason = format!("{reason:?}");
                self.feed(
                    ctx,
                    Input::LinkDown {
                        link,
                        reason,
                        leader,
                    },
                );
            }
            _ => {}
        }
    }

    fn broken(&mut self, ctx: &mut Ctx<'_>, conn: Conn, _side: Side) {
        if let Some(detector) = self
            .detector
            .as_mut()
            .filter(|detector| detector.owns(conn))
        {
            let told = detector.broken(ctx);
            return self.told(ctx, told);
        }
        if let Some(link) = self
            .links
            .iter()
            .find(|(_, at)| **at == conn)
            .map(|(link, _)| *link)
        {
            self.links.remove(&link);
            let reason = "the connection broke".to_owned();
            self.feed(
                ctx,
                Input::LinkDown {
                    link,
                    reason,
                    leader: None,
                },
            );
        }
    }

    fn wake(&mut self, ctx: &mut Ctx<'_>) {
        if let Some(detector) = &mut self.detector {
            let told = detector.wake(ctx);
            self.told(ctx, told);
        }
        self.feed(ctx, Input::Tick);
    }

    fn local(&mut self, ctx: &mut Ctx<'_>, what: Local) {
        match what {
            Local::Logged { id } => {
                if self.flushes.contains(&id) {
                    self.flushes.retain(|flush| *flush > id);
                    self.disk.flushed(id);
                } else {
                    self.disk.wrote(id);
                }
                self.feed(ctx, Input::Logged { id });
            }
            Local::Container(ContainerStep {
                container,
                what: Step::Gone,
            }) => {
                self.gone(ctx, &container);
            }
            Local::Container(ContainerStep { container, what }) => {
                let mut acts = Vec::new();
                if let Some(it) = self.containers.get_mut(&container) {
                    it.step(ctx.now, ctx.rng, what, &mut acts);
                }
                self.act(ctx, &container, acts);
            }
            Local::ToExecutor {
                container,
                conn,
                event,
            } => {
                if self.sockets.get(&conn) == Some(&container) {
                    let mut acts = Vec::new();
                    if let Some(it) = self.containers.get_mut(&container) {
                        it.event(ctx.now, ctx.rng, event, &mut acts);
                    }
                    self.act(ctx, &container, acts);
                }
            }
            Local::HelloAnswered {
                container,
                conn,
                answer,
            } => {
                if self.sockets.get(&conn) == Some(&container) {
                    let input = match answer {
                        Ok(()) => DriverInput::Connected,
                        Err(words) => DriverInput::Refused(words),
                    };
                    self.drive(ctx, &container, input);
                }
            }
            Local::Agent(input) => self.feed(ctx, *input),
            Local::CannotConnect { .. }
            | Local::Done { .. }
            | Local::LateCommit { .. }
            | Local::BeginAnew
            | Local::Probed { .. } => {}
        }
    }

    fn crash(&mut self, ctx: &mut Ctx<'_>) {
        self.core = None;
        self.detector = None;
        self.links.clear();
        self.leaders.clear();
        self.flushes.clear();
        let sockets = std::mem::take(&mut self.sockets);
        if std::mem::take(&mut self.power_cut) {
            self.boots += 1;
            self.disk.machine_died(ctx.rng);
            for task in self.containers.values().filter_map(Container::living_task) {
                ctx.oracle.payload_over(&task);
            }
            self.containers.clear();
        } else {
            self.disk
                .process_died(ctx.rng, ctx.bugs.has(Bug::LostWrites));
            for container in sockets.into_values() {
                let input = DriverInput::Disconnected("the agent died".to_owned());
                self.drive(ctx, &container, input);
            }
        }
    }

    fn next_deadline(&self) -> Option<Millis> {
        let core = self.core.as_ref().and_then(Core::next_deadline);
        let detector = self.detector.as_ref().and_then(Coord::next_deadline);
        [core, detector].into_iter().flatten().min()
    }

    fn check(&self) -> Result<(), String> {
        match &self.core {
            Some(core) => core.check_invariants().map_err(|broken| broken.to_string()),
            None => Ok(()),
        }
    }

    fn as_any(&mut self) -> &mut dyn std::any::Any {
        self
    }

    fn as_any_ref(&self) -> &dyn std::any::Any {
        self
    }
}
