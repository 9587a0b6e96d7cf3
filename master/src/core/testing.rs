//! A small world around a core, for tests that read like a story.
//!
//! Everything the core puts out is sorted by who gets it and must be looked at: [`World::finish`] fails if something
//! was not. After each input the books are walked.

mod agents;
mod schedulers;

use std::collections::{BTreeMap, VecDeque};

use mezzo_coordination::{CommitError, Op, Record, Txn};
use mezzo_model::ids::StreamId;
use mezzo_model::resources::Resources;
use mezzo_model::{Epoch, Millis, Now, TaskState, Wall};
use mezzo_wire::link;
use mezzo_wire::link::master_message::Body as Order;
use mezzo_wire::v1;
use mezzo_wire::v1::scheduler::{Event, event};

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
