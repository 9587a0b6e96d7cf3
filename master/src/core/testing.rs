//! A small world around a core, for tests that read like a story.
//!
//! Everything the core puts out is sorted by who gets it and must be looked at: [`World::finish`] fails if something
//! was not. After each input the books are walked.

use std::collections::{BTreeMap, VecDeque};

use mezzo_coordination::{CommitError, Op, Record, Txn};
use mezzo_model::ids::StreamId;
use mezzo_model::resources::Resources;
use mezzo_model::{Epoch, Millis, Now, TaskState, Wall};
use mezzo_wire::link;
use mezzo_wire::link::agent_message::Body as FromAgent;
use mezzo_wire::link::master_message::Body as Order;
use mezzo_wire::v1;
use mezzo_wire::v1::framework_info::capability::Type as Capability;
use mezzo_wire::v1::scheduler::call::{self, Type as CallType};
use mezzo_wire::v1::scheduler::{Call, Event, event};

use super::*;
use crate::keys::RequestId;

/// A scheduler as a test holds it.
#[derive(Clone, Debug)]
pub(super) struct Scheduler {
    pub conn: ConnId,
    pub stream: Option<StreamId>,
    pub id: v1::FrameworkId,
    pub info: v1::FrameworkInfo,
}

/// An agent as a test holds it.
#[derive(Clone, Debug)]
pub(super) struct TestAgent {
    pub conn: ConnId,
    pub id: v1::AgentId,
    pub hello: link::Hello,
}

/// The world.
pub(super) struct World {
    pub core: Core,
    pub now: Now,
    events: BTreeMap<ConnId, VecDeque<Event>>,
    orders: BTreeMap<ConnId, VecDeque<Order>>,
    pub opened: BTreeMap<ConnId, StreamId>,
    pub refused: BTreeMap<ConnId, Refusal>,
    pub closed: Vec<ConnId>,
    pub replies: BTreeMap<RequestId, Result<(), Refusal>>,
    pub chunks: Vec<(ReadId, link::SandboxChunk)>,
    pub commits: VecDeque<(u64, Txn)>,
    pub registry: BTreeMap<String, Record>,
    pub stepped_down: Option<(String, bool)>,
    pub notes: Vec<String>,
    pub changes: Vec<Change>,
    /// Commits are answered at once.
    pub auto_commit: bool,
    next: u64,
}

pub(super) fn bag(text: &str) -> Resources {
    Resources::parse(text).expect("reads")
}

impl World {
    /// A master that leads, of an empty registry.
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::recovered(change, BTreeMap::new(), 1)
    }

    /// A master that leads for the n-th time, of this registry.
    pub fn recovered(
        change: impl FnOnce(&mut Config),
        registry: BTreeMap<String, Record>,
        counter: u64,
    ) -> Self {
        let epoch = Epoch {
            cluster_id: "test".into(),
            counter,
        };
        let master = v1::MasterInfo {
            id: "m".into(),
            port: 5050,
            ..Default::default()
        };
        let mut config = Config::new(master, epoch);
        change(&mut config);
        let mut world = Self {
            core: Core::new(config, 7),
            now: Now::new(Millis(5_000_000), Wall(1_700_000_000_000)),
            events: BTreeMap::new(),
            orders: BTreeMap::new(),
            opened: BTreeMap::new(),
            refused: BTreeMap::new(),
            closed: Vec::new(),
            replies: BTreeMap::new(),
            chunks: Vec::new(),
            commits: VecDeque::new(),
            registry: registry.clone(),
            stepped_down: None,
            notes: Vec::new(),
            changes: Vec::new(),
            auto_commit: true,
            next: 0,
        };
        world.input(Input::Recovered(registry.into_values().collect()));
        world
    }

    pub fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    // ---- time and inputs -----------------------------------------------------------------------------------------

    /// Hands one input in and sorts what comes out.
    pub fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        self.core.handle(self.now, input, &mut out);
        for output in out {
            self.sort(output);
        }
        self.core.check_invariants().expect("sound books");
        while self.auto_commit
            && let Some((id, txn)) = self.commits.pop_front()
        {
            self.commit(id, txn);
        }
    }

    fn sort(&mut self, output: Output) {
        match output {
            Output::Open { conn, stream_id } => {
                self.opened.insert(conn, stream_id);
            }
            Output::Refuse { conn, refusal } => {
                self.refused.insert(conn, refusal);
            }
            Output::Event { conn, event } => {
                assert!(
                    !self.closed.contains(&conn),
                    "an event on a closed stream: {event:?}"
                );
                self.events.entry(conn).or_default().push_back(*event);
            }
            Output::Close { conn } => self.closed.push(conn),
            Output::Reply { request, result } => {
                assert!(
                    self.replies.insert(request, result).is_none(),
                    "answered twice"
                );
            }
            Output::ToAgent { conn, message } => {
                assert!(
                    !self.closed.contains(&conn),
                    "an order on a closed link: {message:?}"
                );
                assert_eq!(message.epoch, self.core.config().epoch.to_wire());
                self.orders
                    .entry(conn)
                    .or_default()
                    .push_back(message.body.expect("an order"));
            }
            Output::Chunk { read, chunk } => self.chunks.push((read, *chunk)),
            Output::Commit { id, txn } => self.commits.push_back((id, txn)),
            Output::Change(change) => self.changes.push(change),
            Output::StepDown { reason, fatal } => self.stepped_down = Some((reason, fatal)),
            Output::Note(note) => self.notes.push(note.text),
        }
    }

    fn commit(&mut self, id: u64, txn: Txn) {
        txn.check_limits().expect("within limits");
        for op in txn.ops {
            match op {
                Op::Put { key, value, .. } => {
                    self.registry.insert(
                        key.clone(),
                        Record {
                            key,
                            value,
                            version: 1,
                        },
                    );
                }
                Op::Delete { key, .. } => {
                    self.registry.remove(&key);
                }
                Op::Check { .. } => {}
            }
        }
        self.input(Input::Committed { id, result: Ok(()) });
    }

    /// Answers the oldest commit.
    pub fn answer_commit(&mut self, result: Result<(), CommitError>) {
        let (id, txn) = self.commits.pop_front().expect("a commit is under way");
        match result {
            Ok(()) => self.commit(id, txn),
            Err(error) => self.input(Input::Committed {
                id,
                result: Err(error),
            }),
        }
    }

    /// Lets time pass, waking the core whenever it wants.
    pub fn pass(&mut self, millis: u64) {
        let end = self.now.mono + Millis(millis);
        while let Some(at) = self.core.next_deadline().filter(|at| *at <= end) {
            self.jump(at.max(self.now.mono));
            self.input(Input::Tick);
        }
        self.jump(end);
    }

    fn jump(&mut self, to: Millis) {
        self.now.wall.0 += to.since(self.now.mono).0;
        self.now.mono = to;
    }

    // ---- schedulers ----------------------------------------------------------------------------------------------

    /// A description with these capabilities beside MULTI_ROLE being left out.
    pub fn info(name: &str) -> v1::FrameworkInfo {
        v1::FrameworkInfo {
            user: "nobody".into(),
            name: name.into(),
            failover_timeout: Some(3600.0),
            capabilities: vec![v1::framework_info::Capability {
                r#type: Some(Capability::PartitionAware as i32),
            }],
            ..Default::default()
        }
    }

    pub fn subscribe_call(info: v1::FrameworkInfo) -> Call {
        Call {
            framework_id: info.id.clone(),
            r#type: Some(CallType::Subscribe as i32),
            subscribe: Some(call::Subscribe {
                framework_info: info,
                suppressed_roles: Vec::new(),
                offer_constraints: None,
            }),
            ..Default::default()
        }
    }

    pub fn send_subscribe(&mut self, call: Call) -> ConnId {
        let conn = ConnId(self.fresh());
        self.input(Input::Subscribe {
            conn,
            principal: None,
            stream_id: None,
            call: call.into(),
        });
        conn
    }

    /// Subscribes and takes SUBSCRIBED and HEARTBEAT.
    pub fn subscribe(&mut self, info: v1::FrameworkInfo) -> Scheduler {
        let conn = self.send_subscribe(Self::subscribe_call(info.clone()));
        let stream = self.opened.get(&conn).cloned();
        assert!(stream.is_some(), "refused: {:?}", self.refused);
        let subscribed = self.next_event(conn);
        let id = subscribed
            .subscribed
            .expect("SUBSCRIBED comes first")
            .framework_id;
        assert_eq!(
            self.next_event(conn).r#type,
            Some(event::Type::Heartbeat as i32)
        );
        let info = v1::FrameworkInfo {
            id: Some(id.clone()),
            ..info
        };
        Scheduler {
            conn,
            stream,
            id,
            info,
        }
    }

    pub fn framework(&mut self, name: &str) -> Scheduler {
        self.subscribe(Self::info(name))
    }

    pub fn disconnect(&mut self, scheduler: &Scheduler) {
        self.closed.push(scheduler.conn);
        self.input(Input::SchedulerGone {
            conn: scheduler.conn,
        });
    }

    pub fn call_raw(&mut self, stream: Option<&StreamId>, call: Call) -> Result<(), Refusal> {
        let request = RequestId(self.fresh());
        let stream_id = stream.map(ToString::to_string);
        self.input(Input::Call {
            request,
            principal: None,
            stream_id,
            call: call.into(),
        });
        self.replies
            .remove(&request)
            .expect("every call is answered")
    }

    /// A call that must be taken.
    pub fn call(&mut self, scheduler: &Scheduler, kind: CallType, change: impl FnOnce(&mut Call)) {
        let mut call = Call {
            framework_id: Some(scheduler.id.clone()),
            r#type: Some(kind as i32),
            ..Default::default()
        };
        change(&mut call);
        assert_eq!(self.call_raw(scheduler.stream.as_ref(), call), Ok(()));
    }

    pub fn accept(&mut self, scheduler: &Scheduler, accept: call::Accept) {
        self.call(scheduler, CallType::Accept, |call| {
            call.accept = Some(accept)
        });
    }

    pub fn launch(
        &mut self,
        scheduler: &Scheduler,
        offers: &[&v1::Offer],
        tasks: Vec<v1::TaskInfo>,
        refuse: f64,
    ) {
        self.accept(
            scheduler,
            call::Accept {
                offer_ids: offers.iter().map(|offer| offer.id.clone()).collect(),
                operations: vec![launch_operation(tasks)],
                filters: Some(v1::Filters {
                    refuse_seconds: Some(refuse),
                }),
            },
        );
    }

    pub fn decline(&mut self, scheduler: &Scheduler, offer: &v1::Offer, refuse: f64) {
        let decline = call::Decline {
            offer_ids: vec![offer.id.clone()],
            filters: Some(v1::Filters {
                refuse_seconds: Some(refuse),
            }),
        };
        self.call(scheduler, CallType::Decline, |call| {
            call.decline = Some(decline)
        });
    }

    pub fn revive(&mut self, scheduler: &Scheduler) {
        self.call(scheduler, CallType::Revive, |_| {});
    }

    pub fn suppress(&mut self, scheduler: &Scheduler) {
        self.call(scheduler, CallType::Suppress, |_| {});
    }

    pub fn kill(&mut self, scheduler: &Scheduler, task: &str) {
        let kill = call::Kill {
            task_id: task.into(),
            agent_id: None,
            kill_policy: None,
        };
        self.call(scheduler, CallType::Kill, |call| call.kill = Some(kill));
    }

    pub fn acknowledge(&mut self, scheduler: &Scheduler, status: &v1::TaskStatus) {
        let acknowledge = call::Acknowledge {
            agent_id: status.agent_id.clone().expect("an agent"),
            task_id: status.task_id.clone(),
            uuid: status.uuid.clone().expect("a uuid"),
        };
        self.call(scheduler, CallType::Acknowledge, |call| {
            call.acknowledge = Some(acknowledge)
        });
    }

    pub fn reconcile(&mut self, scheduler: &Scheduler, tasks: &[(&str, Option<&v1::AgentId>)]) {
        let tasks = tasks.iter().map(|(task, agent)| call::reconcile::Task {
            task_id: (*task).into(),
            agent_id: agent.cloned(),
        });
        let reconcile = call::Reconcile {
            tasks: tasks.collect(),
        };
        self.call(scheduler, CallType::Reconcile, |call| {
            call.reconcile = Some(reconcile)
        });
    }

    // ---- what schedulers get -------------------------------------------------------------------------------------

    pub fn next_event(&mut self, conn: ConnId) -> Event {
        self.events
            .get_mut(&conn)
            .and_then(VecDeque::pop_front)
            .expect("an event")
    }

    /// All events, heartbeats aside.
    pub fn events(&mut self, scheduler: &Scheduler) -> Vec<Event> {
        let all = self.events.remove(&scheduler.conn).unwrap_or_default();
        let beat = Some(event::Type::Heartbeat as i32);
        all.into_iter()
            .filter(|event| event.r#type != beat)
            .collect()
    }

    /// The offers that came; nothing else may have come.
    pub fn offers(&mut self, scheduler: &Scheduler) -> Vec<v1::Offer> {
        let mut offers = Vec::new();
        for event in self.events(scheduler) {
            offers.extend(
                event
                    .offers
                    .clone()
                    .unwrap_or_else(|| panic!("no offers: {event:?}"))
                    .offers,
            );
        }
        offers
    }

    /// The one offer that came, and nothing else.
    pub fn offer(&mut self, scheduler: &Scheduler) -> v1::Offer {
        let mut offers = self.offers(scheduler);
        assert_eq!(offers.len(), 1, "{offers:?}");
        offers.remove(0)
    }

    /// The statuses that came; nothing else may have come.
    pub fn updates(&mut self, scheduler: &Scheduler) -> Vec<v1::TaskStatus> {
        let events = self.events(scheduler);
        events
            .into_iter()
            .map(|event| {
                event
                    .update
                    .clone()
                    .unwrap_or_else(|| panic!("no status: {event:?}"))
                    .status
            })
            .collect()
    }

    /// The one status that came, and nothing else.
    pub fn update(&mut self, scheduler: &Scheduler) -> v1::TaskStatus {
        let mut updates = self.updates(scheduler);
        assert_eq!(updates.len(), 1, "{updates:?}");
        updates.remove(0)
    }

    /// The kinds of the events that came, with what they carry in short.
    pub fn story(&mut self, scheduler: &Scheduler) -> Vec<String> {
        self.events(scheduler).iter().map(brief).collect()
    }

    // ---- agents --------------------------------------------------------------------------------------------------

    pub fn hello(name: &str, resources: &str) -> link::Hello {
        link::Hello {
            link_version: 1,
            agent_version: "0.1.0".into(),
            agent: v1::AgentInfo {
                hostname: name.into(),
                resources: bag(resources).to_wire(),
                ..Default::default()
            },
            highest_epoch: None,
            boot_id: "boot".into(),
            tasks: Vec::new(),
            executors: Vec::new(),
            frameworks: Vec::new(),
            connection: 1,
            incarnation: format!("{name}-1"),
        }
    }

    pub fn send_hello(&mut self, hello: &link::Hello) -> ConnId {
        let conn = ConnId(self.fresh());
        self.from_agent(conn, FromAgent::Hello(hello.clone()));
        conn
    }

    pub fn from_agent(&mut self, conn: ConnId, body: FromAgent) {
        let message = link::AgentMessage { body: Some(body) };
        self.input(Input::Agent {
            conn,
            message: message.into(),
        });
    }

    /// Registers an agent and takes its welcome.
    pub fn register(&mut self, mut hello: link::Hello) -> TestAgent {
        let conn = self.send_hello(&hello);
        let id = match self.next_order(conn) {
            Order::Welcome(welcome) => welcome.agent_id,
            other => panic!("no welcome: {other:?}"),
        };
        hello.agent.id = Some(id.clone());
        TestAgent { conn, id, hello }
    }

    pub fn agent(&mut self, name: &str, resources: &str) -> TestAgent {
        self.register(Self::hello(name, resources))
    }

    /// The agent's link breaks.
    pub fn cut(&mut self, agent: &TestAgent) {
        self.closed.push(agent.conn);
        self.input(Input::AgentGone { conn: agent.conn });
    }

    /// The agent connects anew with these tasks.
    pub fn reconnect(
        &mut self,
        agent: &mut TestAgent,
        tasks: Vec<v1::Task>,
        frameworks: Vec<v1::FrameworkInfo>,
    ) {
        agent.hello.connection += 1;
        agent.hello.tasks = tasks;
        agent.hello.frameworks = frameworks;
        *agent = self.register(agent.hello.clone());
    }

    pub fn next_order(&mut self, conn: ConnId) -> Order {
        self.orders
            .get_mut(&conn)
            .and_then(VecDeque::pop_front)
            .expect("an order")
    }

    /// All orders, pings aside.
    pub fn orders(&mut self, agent: &TestAgent) -> Vec<Order> {
        let all = self.orders.remove(&agent.conn).unwrap_or_default();
        all.into_iter()
            .filter(|order| !matches!(order, Order::Ping(_)))
            .collect()
    }

    pub fn pong(&mut self, agent: &TestAgent) {
        self.from_agent(agent.conn, FromAgent::Pong(link::Pong { sequence: 0 }));
    }

    /// The agent reports a state of a task with a uuid made from the name of the state.
    pub fn status(
        &mut self,
        agent: &TestAgent,
        scheduler: &Scheduler,
        task: &str,
        state: TaskState,
    ) {
        self.status_ahead(agent, scheduler, task, state, state);
    }

    pub fn status_ahead(
        &mut self,
        agent: &TestAgent,
        scheduler: &Scheduler,
        task: &str,
        state: TaskState,
        latest: TaskState,
    ) {
        let status = v1::TaskStatus {
            task_id: task.into(),
            state: state.number(),
            agent_id: Some(agent.id.clone()),
            source: Some(v1::task_status::Source::Executor as i32),
            uuid: Some(uuid(task, state)),
            ..Default::default()
        };
        let update = link::StatusUpdate {
            framework_id: scheduler.id.clone(),
            status,
            latest_state: latest.number(),
        };
        self.from_agent(agent.conn, FromAgent::Update(update));
    }

    /// Fails if anything came that no test looked at.
    pub fn finish(mut self) {
        let beat = Some(event::Type::Heartbeat as i32);
        for (conn, events) in &mut self.events {
            events.retain(|event| event.r#type != beat);
            assert!(events.is_empty(), "{conn:?} got {events:?}");
        }
        for (conn, orders) in &mut self.orders {
            orders.retain(|order| !matches!(order, Order::Ping(_)));
            assert!(orders.is_empty(), "{conn:?} got {orders:?}");
        }
        assert!(self.commits.is_empty(), "{:?}", self.commits);
        assert_eq!(self.stepped_down, None);
    }
}

/// 16 bytes that name a status.
pub(super) fn uuid(task: &str, state: TaskState) -> bytes::Bytes {
    let text = format!("{task:>8.8}{:>8.8}", state.number());
    bytes::Bytes::from(text.into_bytes())
}

pub(super) fn launch_operation(tasks: Vec<v1::TaskInfo>) -> v1::offer::Operation {
    v1::offer::Operation {
        r#type: Some(v1::offer::operation::Type::Launch as i32),
        launch: Some(v1::offer::operation::Launch { task_infos: tasks }),
        ..Default::default()
    }
}

/// A command task.
pub(super) fn task(id: &str, agent: &v1::AgentId, resources: &str) -> v1::TaskInfo {
    v1::TaskInfo {
        name: id.into(),
        task_id: id.into(),
        agent_id: agent.clone(),
        resources: bag(resources).to_wire(),
        command: Some(v1::CommandInfo {
            value: Some("true".into()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A task as an agent lists it.
pub(super) fn held(
    id: &str,
    scheduler: &Scheduler,
    agent: &v1::AgentId,
    resources: &str,
    state: TaskState,
) -> v1::Task {
    v1::Task {
        name: id.into(),
        task_id: id.into(),
        framework_id: scheduler.id.clone(),
        agent_id: agent.clone(),
        state: state.number(),
        resources: bag(resources)
            .allocated_to(&mezzo_model::Role::star())
            .to_wire(),
        ..Default::default()
    }
}

pub(super) fn amounts(resources: &[v1::Resource]) -> String {
    Resources::from_wire(resources)
        .expect("valid")
        .unallocated()
        .to_string()
}

/// `UPDATE TASK_LOST t1`, `RESCIND`, `FAILURE`, `OFFERS cpus:1; mem:32`.
pub(super) fn brief(event: &Event) -> String {
    let kind = event
        .r#type
        .and_then(|kind| event::Type::try_from(kind).ok())
        .unwrap_or_default();
    let more = if let Some(update) = &event.update {
        let state = TaskState::from_number(update.status.state).map(TaskState::as_str);
        format!(" {} {}", state.unwrap_or("?"), update.status.task_id.value)
    } else if let Some(offers) = &event.offers {
        let all: Vec<String> = offers
            .offers
            .iter()
            .map(|offer| amounts(&offer.resources))
            .collect();
        format!(" {}", all.join(" | "))
    } else if let Some(error) = &event.error {
        format!(" {}", error.message)
    } else {
        String::new()
    };
    format!("{}{more}", kind.as_str_name())
}
