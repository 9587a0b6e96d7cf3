//! A framework's process: its own election and store, the SDK's driver core, and the framework's core.
//!
//! The same for services and jobs; what differs is behind [`Kind`].

use std::collections::BTreeMap;

use mezzo_coordination::election::core::Change;
use mezzo_coordination::{CommitError, Expect, Record, Txn};
use mezzo_model::ids::{FrameworkId, TaskId};
use mezzo_model::rng::Rng;
use mezzo_model::time::{Millis, Now};
use mezzo_sdk::scheduler::core::{
    CloseReason, ConnectionId, DriverCore, DriverInput, DriverOutput, Leader, SaveError,
};
use mezzo_sdk::scheduler::{DriverConfig, SchedulerCommand, SchedulerEvent};
use mezzo_wire::v1;
use mezzo_wire::v1::scheduler::Call;

use super::agent::{Directory, MakeDetector};
use super::bugs::Bug;
use super::coord::{Coord, Told};
use super::net::{Conn, Side};
use super::payload::{Local, Payload};
use super::world::{Ctx, Process};

/// Where the framework's id lies in its store.
const ID_KEY: &str = "sim/framework-id";
/// Commits of the id are numbered from here, those of the core from 0.
const ID_COMMIT: u64 = 1 << 60;
/// Commits that nobody waits for any more (a planted bug).
const LATE_COMMIT: u64 = 1 << 61;

/// What a framework's core wants.
pub enum Wish {
    /// Tell the driver.
    Scheduler(SchedulerCommand),
    /// Make something durable.
    Commit {
        /// To be given back.
        id: u64,
        /// What.
        txn: Txn,
    },
    /// An answer to a call of the workload, in words; `Err` if it was refused.
    Reply {
        /// Which call.
        request: u64,
        /// What came of it.
        answer: Result<String, String>,
    },
    /// Come back with the result of a probe.
    Probe {
        /// Which.
        probe: u64,
    },
    /// The term is over.
    Deposed(String),
    /// Nothing that the simulation looks at.
    Nothing,
}

/// What a framework's core is told.
pub enum News {
    /// Time has passed.
    Tick,
    /// The driver says something.
    Scheduler(Box<SchedulerEvent>),
    /// A commit came back.
    Committed {
        /// Which.
        id: u64,
        /// How.
        result: Result<(), CommitError>,
    },
    /// A probe came back well.
    Probed(u64),
}

/// What differs between the frameworks.
pub trait Kind: 'static {
    /// Its core.
    type Core;
    /// What it may be asked by people.
    type Call;
    /// Its name, which is its path in ZooKeeper too.
    const NAME: &'static str;
    /// A core from its records.
    ///
    /// # Errors
    /// If the records cannot be read.
    fn load(seed: u64, records: &[Record], now: Now) -> Result<Self::Core, String>;
    /// Hands something to the core.
    fn handle(core: &mut Self::Core, now: Now, news: News) -> Vec<Wish>;
    /// Asks the core something.
    fn call(core: &mut Self::Core, now: Now, request: u64, call: Self::Call) -> Vec<Wish>;
    /// When the core wants to be woken.
    fn next_deadline(core: &Self::Core) -> Option<Millis>;
    /// What must hold inside it.
    ///
    /// # Errors
    /// What does not.
    fn check(core: &Self::Core) -> Result<(), String>;
    /// A task that the framework would know: the driver's configuration.
    fn driver() -> DriverConfig;
}

/// How long a process waits before it begins its term anew, as the shells of both frameworks do.
const PAUSE_MS: u64 = 2_000;

/// Makes a contender for one life of a process.
pub type MakeContender = Box<dyn Fn(u64) -> Coord>;

/// While it leads.
struct Reign<K: Kind> {
    core: K::Core,
    driver: DriverCore,
    connections: BTreeMap<ConnectionId, Conn>,
}

/// One process of a framework.
pub struct Framework<K: Kind> {
    name: String,
    directory: Directory,
    make_contender: MakeContender,
    make_detector: MakeDetector,
    seeds: Rng,
    contender: Option<Coord>,
    detector: Option<Coord>,
    leader: Option<Leader>,
    /// Whether the election says that this process may act.
    leads: bool,
    reign: Option<Reign<K>>,
    /// The id that is being stored.
    saving: Option<FrameworkId>,
    /// Updates handed to the core and not yet acknowledged, by uuid.
    updates: BTreeMap<Vec<u8>, v1::TaskStatus>,
    /// Answers to calls of the workload that were not fetched yet.
    pub answers: BTreeMap<u64, Result<String, String>>,
}

impl<K: Kind> Framework<K> {
    /// A process that has never run.
    pub fn new(
        name: &str,
        directory: Directory,
        make_contender: MakeContender,
        make_detector: MakeDetector,
        seeds: Rng,
    ) -> Self {
        Self {
            name: name.to_owned(),
            directory,
            make_contender,
            make_detector,
            seeds,
            contender: None,
            detector: None,
            leader: None,
            leads: false,
            reign: None,
            saving: None,
            updates: BTreeMap::new(),
            answers: BTreeMap::new(),
        }
    }

    /// The core, while this process leads.
    pub fn core(&self) -> Option<&K::Core> {
        self.reign.as_ref().map(|reign| &reign.core)
    }

    /// Whether the framework is subscribed.
    pub fn is_subscribed(&self) -> bool {
        self.reign
            .as_ref()
            .is_some_and(|reign| reign.driver.is_subscribed())
    }

    /// Somebody asks this process something; `false` if it does not lead.
    pub fn ask(&mut self, ctx: &mut Ctx<'_>, request: u64, call: K::Call) -> bool {
        let Some(reign) = &mut self.reign else {
            return false;
        };
        let wishes = K::call(&mut reign.core, ctx.now, request, call);
        self.fulfil(ctx, wishes);
        true
    }

    fn feed(&mut self, ctx: &mut Ctx<'_>, news: News) {
        let Some(reign) = &mut self.reign else { return };
        let wishes = K::handle(&mut reign.core, ctx.now, news);
        self.fulfil(ctx, wishes);
    }

    fn fulfil(&mut self, ctx: &mut Ctx<'_>, wishes: Vec<Wish>) {
        for wish in wishes {
            match wish {
                Wish::Scheduler(command) => {
                    ctx.note(&self.name, format_args!("-> {command:?}"));
                    self.drive(ctx, DriverInput::Command(command));
                }
                Wish::Commit { id, txn } if ctx.bugs.has(Bug::LazyFrameworkStore) => {
                    ctx.later(2_000, Local::LateCommit { txn });
                    self.feed(ctx, News::Committed { id, result: Ok(()) });
                }
                Wish::Commit { id, txn } => self.commit(ctx, id, txn),
                Wish::Reply { request, answer } => drop(self.answers.insert(request, answer)),
                Wish::Probe { probe } => ctx.later(5, Local::Probed { probe }),
                Wish::Deposed(words) => {
                    ctx.note(&self.name, format_args!("deposed: {words}"));
                    self.end_reign(ctx);
                    ctx.later(PAUSE_MS, Local::BeginAnew);
                }
                Wish::Nothing => {}
            }
        }
    }

    fn commit(&mut self, ctx: &mut Ctx<'_>, id: u64, txn: Txn) {
        if let Some(contender) = &mut self.contender {
            ctx.note(
                &self.name,
                format_args!("commit {id}: {} ops", txn.ops.len()),
            );
            let told = contender.commit(ctx, id, txn);
            self.told(ctx, told);
        }
    }

    fn drive(&mut self, ctx: &mut Ctx<'_>, input: DriverInput) {
        let Some(reign) = &mut self.reign else { return };
        let mut out = Vec::new();
        reign.driver.handle(ctx.now, input, &mut out);
        for output in out {
            match output {
                DriverOutput::Subscribe {
                    connection,
                    address,
                    call,
                } => {
                    self.subscribe(ctx, connection, &address, call);
                }
                DriverOutput::Submit {
                    connection,
                    id,
                    stream,
                    call,
                } => {
                    self.watch_acknowledgement(ctx, &call);
                    if ctx.bugs.has(Bug::NoReconciliation) && call.reconcile.is_some() {
                        ctx.later(1, Local::Done { connection, id });
                        continue;
                    }
                    if let Some(conn) = self.conn(connection) {
                        ctx.send(conn, Side::Client, Payload::Submit { id, stream, call });
                    }
                }
                DriverOutput::Close { connection } => {
                    if let Some(conn) = self.forget(connection) {
                        ctx.close(conn, Side::Client);
                    }
                }
                DriverOutput::SaveFrameworkId(id) => self.save_id(ctx, &id),
                DriverOutput::Deliver(event) => {
                    ctx.note(&self.name, format_args!("<- {event:?}"));
                    if let SchedulerEvent::Update { status, .. } = &event
                        && let Some(uuid) = &status.uuid
                    {
                        self.updates.insert(uuid.to_vec(), status.clone());
                    }
                    self.feed(ctx, News::Scheduler(Box::new(event)));
                }
                DriverOutput::Note { text, .. } => {
                    ctx.note(&self.name, format_args!("driver: {text}"));
                }
                DriverOutput::Ended => {
                    ctx.note(&self.name, format_args!("the driver has ended"));
                    if self.reign.is_some() {
                        self.end_reign(ctx);
                        ctx.later(PAUSE_MS, Local::BeginAnew);
                    }
                    return;
                }
            }
        }
    }

    fn conn(&self, connection: ConnectionId) -> Option<Conn> {
        self.reign.as_ref()?.connections.get(&connection).copied()
    }

    fn forget(&mut self, connection: ConnectionId) -> Option<Conn> {
        self.reign.as_mut()?.connections.remove(&connection)
    }

    /// The framework binds itself to an update by acknowledging it.
    fn watch_acknowledgement(&mut self, ctx: &mut Ctx<'_>, call: &Call) {
        let Some(ack) = &call.acknowledge else { return };
        if let Some(status) = self.updates.remove(ack.uuid.as_ref())
            && let Ok(task) = TaskId::from_wire(&ack.task_id)
        {
            let state = v1::TaskState::try_from(status.state).unwrap_or(v1::TaskState::TaskUnknown);
            let is_terminal = crate::client::is_terminal(state as i32);
            ctx.oracle.acknowledged(&task, &status, is_terminal);
        }
    }

    fn subscribe(
        &mut self,
        ctx: &mut Ctx<'_>,
        connection: ConnectionId,
        address: &str,
        call: Box<Call>,
    ) {
        let conn = self
            .directory
            .get(address)
            .copied()
            .and_then(|host| ctx.connect(host));
        match (conn, &mut self.reign) {
            (Some(conn), Some(reign)) => {
                reign.connections.insert(connection, conn);
                ctx.send(conn, Side::Client, Payload::Subscribe(call));
            }
            _ => ctx.later(2, Local::CannotConnect { connection }),
        }
    }

    fn save_id(&mut self, ctx: &mut Ctx<'_>, id: &FrameworkId) {
        if ctx.bugs.has(Bug::ForgottenFrameworkId) {
            return self.drive(
                ctx,
                DriverInput::FrameworkIdSaved {
                    id: id.clone(),
                    result: Ok(()),
                },
            );
        }
        let value = id.as_str().to_owned();
        let txn = Txn::new().put(ID_KEY, value.clone(), Expect::Absent);
        self.saving = Some(id.clone());
        self.commit(ctx, ID_COMMIT, txn);
    }

    fn told(&mut self, ctx: &mut Ctx<'_>, told: Vec<Told>) {
        for told in told {
            match told {
                Told::Change(Change::Leading(_)) => {
                    self.leads = true;
                    self.load(ctx);
                }
                Told::Change(Change::Suspended) => {
                    self.leads = false;
                    // A framework in doubt about its session says nothing more until it knows.
                    if !ctx.bugs.has(Bug::DeafToSuspension) {
                        self.end_reign(ctx);
                    }
                }
                Told::Change(Change::Standby { .. } | Change::Refused { .. }) => {
                    self.leads = false;
                    self.end_reign(ctx);
                }
                Told::Committed {
                    id: ID_COMMIT,
                    result,
                } => self.id_saved(ctx, result),
                Told::Committed {
                    id: LATE_COMMIT, ..
                } => {}
                Told::Committed { id, result } => self.feed(ctx, News::Committed { id, result }),
                Told::Loaded {
                    result: Ok(records),
                } => self.begin_reign(ctx, &records),
                Told::Loaded { result: Err(error) } => {
                    ctx.note(&self.name, format_args!("cannot load: {error}"));
                    ctx.later(PAUSE_MS, Local::BeginAnew);
                }
                Told::Resigned => {}
            }
        }
    }

    /// Reads the records, with which a reign begins.
    fn load(&mut self, ctx: &mut Ctx<'_>) {
        if self.reign.is_none()
            && self.leads
            && let Some(contender) = &mut self.contender
        {
            let told = contender.load(ctx);
            self.told(ctx, told);
        }
    }

    fn id_saved(&mut self, ctx: &mut Ctx<'_>, result: Result<(), CommitError>) {
        let Some(id) = self.saving.take() else { return };
        let result = match result {
            Ok(()) => Ok(()),
            Err(CommitError::Fenced) => Err(SaveError::Fenced),
            Err(error) => Err(SaveError::Unavailable(error.to_string())),
        };
        self.drive(ctx, DriverInput::FrameworkIdSaved { id, result });
    }

    fn begin_reign(&mut self, ctx: &mut Ctx<'_>, records: &[Record]) {
        if self.reign.is_some() {
            return;
        }
        let (ids, records): (Vec<_>, Vec<_>) = records
            .iter()
            .cloned()
            .partition(|record| record.key == ID_KEY);
        let stored = ids
            .first()
            .and_then(|record| std::str::from_utf8(&record.value).ok())
            .and_then(|id| FrameworkId::parse(id).ok());
        match K::load(self.seeds.next_u64(), &records, ctx.now) {
            Ok(core) => {
                let driver = DriverCore::new(K::driver(), stored, self.seeds.next_u64());
                ctx.note(
                    &self.name,
                    format_args!("leads with {} records", records.len()),
                );
                self.reign = Some(Reign {
                    core,
                    driver,
                    connections: BTreeMap::new(),
                });
                self.updates.clear();
                let leader = self.leader.clone();
                self.drive(ctx, DriverInput::Leader(leader));
                self.feed(ctx, News::Tick);
            }
            Err(words) => ctx
                .oracle
                .fail(format!("{} cannot read its records: {words}", self.name)),
        }
    }

    fn end_reign(&mut self, ctx: &mut Ctx<'_>) {
        if let Some(reign) = self.reign.take() {
            for conn in reign.connections.into_values() {
                ctx.close(conn, Side::Client);
            }
        }
    }

    fn detected(&mut self, ctx: &mut Ctx<'_>, told: Vec<Told>) {
        for told in told {
            if let Told::Change(Change::Standby { leader }) = told {
                if ctx.bugs.has(Bug::StuckDetector) && self.leader.is_some() {
                    continue;
                }
                self.leader = leader.map(|leader| Leader {
                    address: leader.address,
                    id: String::new(),
                });
                let leader = self.leader.clone();
                self.drive(ctx, DriverInput::Leader(leader));
            }
        }
    }

    fn connection_of(&self, conn: Conn) -> Option<ConnectionId> {
        let connections = &self.reign.as_ref()?.connections;
        connections
            .iter()
            .find(|(_, at)| **at == conn)
            .map(|(connection, _)| *connection)
    }

    fn hear_master(&mut self, ctx: &mut Ctx<'_>, conn: Conn, payload: Payload) {
        let Some(connection) = self.connection_of(conn) else {
            return;
        };
        let input = match payload {
            Payload::Accepted(stream) => DriverInput::Accepted { connection, stream },
            Payload::Event(event) => DriverInput::Event { connection, event },
            Payload::Closed(reason) => {
                self.forget(connection);
                ctx.close(conn, Side::Client);
                DriverInput::Closed { connection, reason }
            }
            Payload::Done { id, result } => DriverInput::CallDone {
                connection,
                call: id,
                result,
            },
            _ => return,
        };
        self.drive(ctx, input);
    }
}

impl<K: Kind> Process for Framework<K> {
    fn name(&self) -> &str {
        &self.name
    }

    fn start(&mut self, ctx: &mut Ctx<'_>) {
        let mut detector = (self.make_detector)(self.seeds.next_u64());
        let told = detector.start(ctx);
        self.detector = Some(detector);
        self.detected(ctx, told);
        let mut contender = (self.make_contender)(self.seeds.next_u64());
        let told = contender.start(ctx);
        self.contender = Some(contender);
        self.told(ctx, told);
    }

    fn message(&mut self, ctx: &mut Ctx<'_>, conn: Conn, _side: Side, payload: Payload) {
        if let Some(contender) = self.contender.as_mut().filter(|it| it.owns(conn)) {
            let told = contender.message(ctx, payload);
            self.told(ctx, told);
        } else if let Some(detector) = self.detector.as_mut().filter(|it| it.owns(conn)) {
            let told = detector.message(ctx, payload);
            self.detected(ctx, told);
        } else {
            self.hear_master(ctx, conn, payload);
        }
    }

    fn broken(&mut self, ctx: &mut Ctx<'_>, conn: Conn, _side: Side) {
        if let Some(contender) = self.contender.as_mut().filter(|it| it.owns(conn)) {
            let told = contender.broken(ctx);
            self.told(ctx, told);
        } else if let Some(detector) = self.detector.as_mut().filter(|it| it.owns(conn)) {
            let told = detector.broken(ctx);
            self.detected(ctx, told);
        } else if let Some(connection) = self.connection_of(conn) {
            self.forget(connection);
            let reason = CloseReason::Lost("the connection broke".to_owned());
            self.drive(ctx, DriverInput::Closed { connection, reason });
        }
    }

    fn wake(&mut self, ctx: &mut Ctx<'_>) {
        if let Some(contender) = &mut self.contender {
            let told = contender.wake(ctx);
            self.told(ctx, told);
        }
        if let Some(detector) = &mut self.detector {
            let told = detector.wake(ctx);
            self.detected(ctx, told);
        }
        self.drive(ctx, DriverInput::Tick);
        self.feed(ctx, News::Tick);
    }

    fn local(&mut self, ctx: &mut Ctx<'_>, what: Local) {
        match what {
            Local::CannotConnect { connection } => {
                let reason = CloseReason::Lost("cannot connect".to_owned());
                self.drive(ctx, DriverInput::Closed { connection, reason });
            }
            Local::Done { connection, id } => {
                self.drive(
                    ctx,
                    DriverInput::CallDone {
                        connection,
                        call: id,
                        result: Ok(()),
                    },
                );
            }
            Local::Probed { probe } => self.feed(ctx, News::Probed(probe)),
            Local::BeginAnew => self.load(ctx),
            Local::LateCommit { txn } => self.commit(ctx, LATE_COMMIT, txn),
            _ => {}
        }
    }

    fn crash(&mut self, _ctx: &mut Ctx<'_>) {
        self.contender = None;
        self.detector = None;
        self.leader = None;
        self.leads = false;
        self.reign = None;
        self.saving = None;
        self.updates.clear();
    }

    fn next_deadline(&self) -> Option<Millis> {
        let reign = self.reign.as_ref();
        let core = reign.and_then(|reign| K::next_deadline(&reign.core));
        let driver = reign.and_then(|reign| reign.driver.next_deadline());
        let contender = self.contender.as_ref().and_then(Coord::next_deadline);
        let detector = self.detector.as_ref().and_then(Coord::next_deadline);
        [core, driver, contender, detector]
            .into_iter()
            .flatten()
            .min()
    }

    fn check(&self) -> Result<(), String> {
        self.reign
            .as_ref()
            .map_or(Ok(()), |reign| K::check(&reign.core))
    }

    fn as_any(&mut self) -> &mut dyn std::any::Any {
        self
    }

    fn as_any_ref(&self) -> &dyn std::any::Any {
        self
    }
}
