//! A random walk: orders, executors, links, crashes and power cuts in any order, against a small model of the world.
//!
//! After every input the core's invariants hold; a task is never handed twice to an executor that keeps it; what the
//! scheduler acknowledged as the end is never followed by anything else; and what the log holds leads to the same
//! ledger.

use std::collections::{BTreeMap, BTreeSet};

use mezzo_model::ids::ContainerId;
use mezzo_model::rng::Rng;
use mezzo_model::{Millis, Now, TaskState, Wall};
use mezzo_wire::link;
use mezzo_wire::link::agent_message::Body as Said;
use mezzo_wire::link::master_message::Body as Order;
use mezzo_wire::v1;
use mezzo_wire::v1::executor::{Call, call, event};
use mezzo_wire::v1::task_status::Source;

use super::super::io::{Config, ConnId, ContainerEnd, Input, Launch, LinkId, Output};
use super::super::record::{Process, Record};
use super::super::testing::{ack, command_task, custom_task, framework, scalar};
use super::super::{Core, Ledger};

const STEPS: usize = 1_500;
const TASKS: u64 = 40;

/// An executor process in the world.
#[derive(Debug, Default)]
struct Body {
    conn: Option<ConnId>,
    subscribed: bool,
    /// Tasks it was given and their next update.
    tasks: BTreeMap<String, TaskState>,
    /// Updates it has not heard an acknowledgement for.
    unacknowledged: Vec<v1::TaskStatus>,
    /// Tasks of which no update was acknowledged.
    fresh: BTreeSet<String>,
}

struct World {
    rng: Rng,
    core: Core,
    config: Config,
    now: Now,
    records: Vec<Record>,
    flushed: usize,
    writes: Vec<(u64, bool, usize)>,
    boots: u64,
    lives: u64,
    link: Option<LinkId>,
    dialled: Option<LinkId>,
    launches: BTreeMap<ContainerId, Launch>,
    /// Executor processes that live.
    bodies: BTreeMap<ContainerId, Body>,
    probes: Vec<ContainerId>,
    destroys: Vec<ContainerId>,
    conns: u64,
    uuids: u64,
    /// What the scheduler heard last of each task, unacknowledged.
    heard: BTreeMap<String, v1::TaskStatus>,
    /// Ends that it has acknowledged.
    ends: BTreeMap<String, Vec<u8>>,
    started: BTreeMap<String, u32>,
    asked: u64,
}

fn config(boot: u64) -> Config {
    Config {
        boot_id: format!("boot {boot}").into(),
        sandboxes_max: 5,
        gc_delay: Millis::from_secs(300),
        ..Config::new("host", vec![scalar("cpus", 4.0)])
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            rng: Rng::new(seed),
            core: Core::new(config(0), seed),
            config: config(0),
            now: Now::new(Millis(1), Wall(1_700_000_000_000)),
            records: Vec::new(),
            flushed: 0,
            writes: Vec::new(),
            boots: 0,
            lives: seed << 20,
            link: None,
            dialled: None,
            launches: BTreeMap::new(),
            bodies: BTreeMap::new(),
            probes: Vec::new(),
            destroys: Vec::new(),
            conns: 0,
            uuids: 0,
            heard: BTreeMap::new(),
            ends: BTreeMap::new(),
            started: BTreeMap::new(),
            asked: 0,
        };
        world.input(Input::Start);
        world.input(Input::Leader(Some("m:5050".into())));
        world
    }

    fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        let shown = format!("{input:?}");
        self.core.handle(self.now, input, &mut out);
        if let Err(broken) = self.core.check_invariants() {
            panic!("{broken}\nafter {shown}");
        }
        for output in out {
            self.output(output);
        }
    }

    fn output(&mut self, output: Output) {
        match output {
            Output::Log { id, records, flush } => {
                self.records.extend(records);
                self.writes.push((id, flush, self.records.len()));
            }
            Output::Dial { link, .. } => self.dialled = Some(link),
            Output::HangUp { link } => {
                self.dialled = self.dialled.filter(|dialled| *dialled != link);
                self.link = self.link.filter(|known| *known != link);
            }
            Output::ToMaster { message, .. } => self.scheduler_hears(message.body),
            Output::AnswerHello { conn, answer } => {
                if answer.is_err() {
                    for body in self.bodies.values_mut() {
                        body.conn = body.conn.filter(|known| *known != conn);
                    }
                }
            }
            Output::ToExecutor { conn, event } => self.executor_hears(conn, &event),
            Output::CloseExecutor { conn } => {
                for body in self
                    .bodies
                    .values_mut()
                    .filter(|body| body.conn == Some(conn))
                {
                    body.conn = None;
                    body.subscribed = false;
                }
            }
            Output::Launch(launch) => {
                self.launches
                    .insert(launch.place.container.clone(), *launch);
            }
            Output::Destroy { container } => self.destroys.push(container),
            Output::Probe { containers } => {
                self.probes = containers
                    .into_iter()
                    .map(|(place, _)| place.container)
                    .collect();
            }
            Output::RemoveSandbox { place } => {
                self.input(Input::SandboxRemoved {
                    container: place.container,
                });
            }
            Output::Resize { .. }
            | Output::Read(_)
            | Output::CancelRead { .. }
            | Output::ReadsEnd { .. }
            | Output::Health(_)
            | Output::Note { .. } => {}
            Output::Stop { error } => panic!("nobody asked it to stop: {error:?}"),
        }
    }

    fn scheduler_hears(&mut self, said: Option<Said>) {
        let Some(Said::Update(update)) = said else {
            return;
        };
        let id = update.status.task_id.value.clone();
        let uuid = update.status.uuid.as_deref().unwrap_or_default().to_vec();
        let state = TaskState::from_number(update.status.state).expect("a state");
        if let Some(end) = self.ends.get(&id) {
            assert!(
                state.is_terminal(),
                "{state} of {id} after its end was acknowledged"
            );
            assert_eq!(*end, uuid, "two ends of task {id}");
        }
        let written = self.records.iter().position(|record| {
            matches!(record, Record::Update { status, .. } if status.uuid.as_deref() == Some(&uuid))
        });
        let at = written.expect("an update is written before it is told");
        assert!(
            !state.is_terminal() || at < self.flushed,
            "an end is flushed before it is told"
        );
        self.heard.insert(id, update.status);
    }

    fn executor_hears(&mut self, conn: ConnId, event: &v1::executor::Event) {
        let Some(body) = self
            .bodies
            .values_mut()
            .find(|body| body.conn == Some(conn))
        else {
            return;
        };
        match event.r#type() {
            event::Type::Launch => {
                let id = event
                    .launch
                    .as_ref()
                    .expect("a task")
                    .task
                    .task_id
                    .value
                    .clone();
                // An executor that knows the task already would be told twice.
                assert!(
                    !body.tasks.contains_key(&id),
                    "task {id} was handed over twice"
                );
                *self.started.entry(id.clone()).or_default() += 1;
                assert_eq!(self.started[&id], 1, "task {id} was started twice");
                body.fresh.insert(id.clone());
                body.tasks.insert(id, TaskState::Starting);
            }
            event::Type::Acknowledged => {
                let acknowledged = event.acknowledged.as_ref().expect("an acknowledgement");
                body.unacknowledged
                    .retain(|status| status.uuid.as_ref() != Some(&acknowledged.uuid));
                body.fresh.remove(&acknowledged.task_id.value);
            }
            event::Type::Kill => {
                let id = &event.kill.as_ref().expect("a kill").task_id.value;
                if let Some(state) = body.tasks.get_mut(id)
                    && !state.is_terminal()
                {
                    *state = TaskState::Killed;
                }
            }
            event::Type::Error => panic!("the executor was refused: {event:?}"),
            _ => {}
        }
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..30 => self.disk(),
            30..42 => self.master_speaks(),
            42..52 => self.containers(),
            52..75 => self.executor_acts(),
            75..85 => self.scheduler_acknowledges(),
            85..90 => self.time(),
            90..94 => self.network(),
            94..97 => self.executor_suffers(),
            97..99 => self.agent_dies(false),
            _ if self.rng.chance(4) => self.agent_dies(true),
            _ => {}
        }
    }

    /// The writer thread, or the flusher, is through with one write.
    fn disk(&mut self) {
        let flush = self.rng.chance(2);
        let Some(at) = self.writes.iter().position(|(_, of, _)| *of == flush) else {
            return;
        };
        let (id, flush, end) = self.writes.remove(at);
        if flush {
            self.flushed = self.flushed.max(end);
        }
        self.input(Input::Logged { id });
    }

    fn say(&mut self, order: Order) {
        let Some(link) = self.link else { return };
        let message = link::MasterMessage {
            epoch: link::Epoch {
                cluster_id: "c".to_owned(),
                counter: 1 + self.boots,
            },
            body: Some(order),
        };
        self.input(Input::FromMaster {
            link,
            message: Box::new(message),
        });
    }

    fn master_speaks(&mut self) {
        if !self.core.is_up() {
            return;
        }
        let number = self.rng.below(self.asked.max(1));
        let id = format!("t{number}");
        let framework_id = v1::FrameworkId {
            value: "fw".to_owned(),
        };
        match self.rng.below(8) {
            0..4 if self.asked < TASKS => {
                // A task id is used once.
                let id = format!("t{}", self.asked);
                self.asked += 1;
                let task = match self.asked % 3 {
                    0 => custom_task(&id, "e"),
                    _ => command_task(&id),
                };
                self.say(Order::RunTask(link::RunTask {
                    framework: framework(),
                    task,
                }));
            }
            4 if self.asked > 0 => self.say(Order::KillTask(link::KillTask {
                framework_id,
                task_id: v1::TaskId { value: id },
                kill_policy: None,
            })),
            5 => self.say(Order::Ping(link::Ping { sequence: number })),
            6 => self.say(Order::UpdateFramework(link::UpdateFramework {
                framework: framework(),
            })),
            _ => {}
        }
    }

    fn containers(&mut self) {
        if let Some(container) = self.probes.pop() {
            let alive = self
                .bodies
                .contains_key(&container)
                .then_some(Process { pid: 1, start: 1 });
            return self.input(Input::Probed { container, alive });
        }
        if let Some(container) = self.destroys.pop() {
            self.bodies.remove(&container);
            self.launches.remove(&container);
            return self.input(Input::ContainerEnded {
                container,
                end: ContainerEnd::default(),
            });
        }
        let made: Vec<ContainerId> = self
            .launches
            .keys()
            .filter(|id| !self.bodies.contains_key(*id))
            .cloned()
            .collect();
        if let Some(container) = self.rng.pick(&made).cloned() {
            if self.rng.chance(10) {
                self.launches.remove(&container);
                return self.input(Input::LaunchFailed {
                    container,
                    message: "no room".to_owned(),
                });
            }
            self.bodies.insert(container.clone(), Body::default());
            self.input(Input::Launched {
                container,
                process: Process { pid: 1, start: 1 },
            });
        }
    }

    fn some_body(&mut self) -> Option<ContainerId> {
        let all: Vec<ContainerId> = self.bodies.keys().cloned().collect();
        self.rng.pick(&all).cloned()
    }

    fn executor_acts(&mut self) {
        let Some(container) = self.some_body() else {
            return;
        };
        let Some(launch) = self.launches.get(&container).cloned() else {
            return;
        };
        let body = self.bodies.get_mut(&container).expect("it lives");
        let Some(conn) = body.conn else {
            if !self.probes.is_empty() || self.core.probing > 0 {
                return; // The door is not open yet.
            }
            self.conns += 1;
            body.conn = Some(self.conns);
            body.subscribed = false;
            return self.input(Input::ExecutorHello {
                conn: self.conns,
                framework: launch.place.framework,
                executor: launch.place.executor,
                container,
            });
        };
        if !body.subscribed {
            body.subscribed = true;
            let subscribe = call::Subscribe {
                unacknowledged_tasks: body.fresh.iter().map(|id| command_task(id)).collect(),
                unacknowledged_updates: body
                    .unacknowledged
                    .iter()
                    .map(|status| call::Update {
                        status: status.clone(),
                    })
                    .collect(),
            };
            let call = Call {
                subscribe: Some(subscribe),
                ..call_of(&launch, call::Type::Subscribe)
            };
            return self.input(Input::ExecutorCall {
                conn,
                call: Box::new(call),
            });
        }
        let next = body
            .tasks
            .iter()
            .map(|(id, state)| (id.clone(), *state))
            .collect::<Vec<_>>();
        let Some((id, state)) = self.rng.pick(&next).cloned() else {
            return;
        };
        self.uuids += 1;
        let mut uuid = vec![7; 8];
        uuid.extend_from_slice(&self.uuids.to_be_bytes());
        let status = v1::TaskStatus {
            task_id: v1::TaskId { value: id.clone() },
            state: state.number(),
            source: Some(Source::Executor as i32),
            uuid: Some(uuid.into()),
            ..Default::default()
        };
        let body = self.bodies.get_mut(&container).expect("it lives");
        if state.is_terminal() {
            body.tasks.remove(&id);
        } else {
            let after = if self.rng.chance(2) {
                TaskState::Running
            } else {
                TaskState::Finished
            };
            body.tasks.insert(id, after);
        }
        body.unacknowledged.push(status.clone());
        let call = Call {
            update: Some(call::Update { status }),
            ..call_of(&launch, call::Type::Update)
        };
        self.input(Input::ExecutorCall {
            conn,
            call: Box::new(call),
        });
    }

    fn scheduler_acknowledges(&mut self) {
        let known: Vec<String> = self.heard.keys().cloned().collect();
        let Some(id) = self.rng.pick(&known).cloned() else {
            return;
        };
        if self.link.is_none() || !self.core.is_up() {
            return;
        }
        let status = self.heard[&id].clone();
        let uuid = status.uuid.as_deref().unwrap_or_default().to_vec();
        if TaskState::from_number(status.state).is_some_and(TaskState::is_terminal) {
            self.ends.insert(id.clone(), uuid.clone());
        }
        if self.rng.chance(3) {
            self.heard.remove(&id);
        }
        self.say(ack(&id, uuid.as_slice().try_into().expect("16 bytes")));
    }

    fn time(&mut self) {
        let span = self.rng.between(1, 30_000);
        self.now = Now::new(self.now.mono + Millis(span), Wall(self.now.wall.0 + span));
        self.input(Input::Tick);
    }

    fn network(&mut self) {
        if let Some(link) = self.dialled.take() {
            if self.rng.chance(3) {
                let reason = "refused".to_owned();
                return self.input(Input::LinkDown {
                    link,
                    reason,
                    leader: None,
                });
            }
            self.link = Some(link);
            self.input(Input::LinkUp { link });
            let welcome = link::Welcome {
                agent_id: v1::AgentId {
                    value: "m-S0".to_owned(),
                },
                ping_interval_ms: 15_000,
                silence_ms: 75_000,
                master_version: String::new(),
            };
            return self.say(Order::Welcome(welcome));
        }
        if let Some(link) = self.link
            && self.rng.chance(2)
        {
            self.link = None;
            self.input(Input::LinkDown {
                link,
                reason: "reset".to_owned(),
                leader: None,
            });
        }
    }

    fn executor_suffers(&mut self) {
        let Some(container) = self.some_body() else {
            return;
        };
        let conn = self.bodies.get_mut(&container).and_then(|body| {
            body.subscribed = false;
            body.conn.take()
        });
        if let Some(conn) = conn {
            self.input(Input::ExecutorGone { conn });
        }
        if self.rng.chance(2) {
            self.bodies.remove(&container);
            self.launches.remove(&container);
            let end = ContainerEnd {
                status: Some(9),
                ..ContainerEnd::default()
            };
            self.input(Input::ContainerEnded { container, end });
        }
    }

    /// The agent dies; with a reboot everything that runs dies too, and what was not flushed may be lost.
    fn agent_dies(&mut self, reboot: bool) {
        if reboot {
            self.boots += 1;
            let kept = self
                .rng
                .between(self.flushed as u64, self.records.len() as u64);
            self.records.truncate(kept as usize);
            self.bodies.clear();
        }
        self.config = config(self.boots);
        self.writes.clear();
        self.probes.clear();
        self.destroys.clear();
        self.launches
            .retain(|container, _| self.bodies.contains_key(container));
        for body in self.bodies.values_mut() {
            body.conn = None;
            body.subscribed = false;
        }
        (self.link, self.dialled) = (None, None);
        let ledger = Ledger::replay(self.records.iter().cloned());
        let snapshot = ledger.to_records();
        assert_eq!(Ledger::replay(snapshot.clone()).to_records(), snapshot);
        self.lives += 1;
        self.core = Core::recover(self.config.clone(), self.lives, ledger);
        self.input(Input::Start);
        self.input(Input::Leader(Some("m:5050".into())));
    }
}

fn call_of(launch: &Launch, kind: call::Type) -> Call {
    super::super::testing::call_of(launch, kind)
}

#[test]
fn any_order_of_events_keeps_every_promise() {
    let mut steps = 0;
    let mut ends = 0;
    for seed in 0..150 {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
            steps += 1;
        }
        let replayed = Ledger::replay(world.records.iter().cloned());
        assert_eq!(
            replayed.to_records(),
            world.core.ledger().to_records(),
            "seed {seed}"
        );
        ends += world.ends.len();
    }
    assert!(ends > 500, "the walk reaches ends: {ends} in {steps} steps");
}
