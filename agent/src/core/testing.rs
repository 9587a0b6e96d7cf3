//! A world of one agent for tests: a shell that writes at once, a master and executors that do what the test says.
//!
//! Every output must be looked at before the environment is finished; an unexpected one fails the test.

use std::collections::VecDeque;
use std::sync::Arc;

use mezzo_model::ids::{ContainerId, ExecutorId, FrameworkId, TaskId};
use mezzo_model::{Millis, Now, TaskState, Wall};
use mezzo_wire::link;
use mezzo_wire::link::agent_message::Body as Said;
use mezzo_wire::link::master_message::Body as Order;
use mezzo_wire::v1;
use mezzo_wire::v1::executor::{Call, Event, call, event};
use mezzo_wire::v1::task_status::Source;

use super::io::{Config, ConnId, ContainerEnd, Input, Launch, LinkId, Output};
use super::record::{Process, Record, TaskKey};
use super::{Core, Ledger};

/// The wall clock when the test begins.
const WALL_START: u64 = 1_700_000_000_000;

/// An agent and what it has put out.
pub(super) struct Env {
    pub core: Core,
    pub now: Now,
    outputs: VecDeque<Output>,
    /// Everything that was written, in order, and how much of it is flushed.
    pub records: Vec<Record>,
    pub flushed: usize,
    /// Writes that are not told yet, when the disk is slow.
    pub writes: VecDeque<(u64, bool)>,
    pub slow: bool,
    config: Config,
    next_conn: ConnId,
    next_uuid: u32,
    /// How long the master says that it may be silent.
    pub silence_ms: u64,
    lives: u64,
}

impl Env {
    /// An agent that has never run and was not started.
    pub fn new() -> Self {
        Self::with(Config::new(
            "host",
            vec![scalar("cpus", 4.0), scalar("mem", 1024.0)],
        ))
    }

    pub fn with(config: Config) -> Self {
        Self {
            core: Core::new(config.clone(), 1),
            now: Now::new(Millis(1_000), Wall(WALL_START)),
            outputs: VecDeque::new(),
            records: Vec::new(),
            flushed: 0,
            writes: VecDeque::new(),
            slow: false,
            config,
            next_conn: 1,
            next_uuid: 1,
            silence_ms: 1_000_000_000,
            lives: 1,
        }
    }

    /// An agent that a master of epoch 1 has welcomed.
    pub fn registered() -> Self {
        let mut env = Self::new();
        env.register();
        env
    }

    pub fn register(&mut self) {
        self.input(Input::Start);
        self.lead("m1:5050");
        self.connect();
        let hello = self.expect_hello();
        assert!(hello.tasks.is_empty());
        self.welcome(1);
    }

    pub fn lead(&mut self, address: &str) {
        self.input(Input::Leader(Some(Arc::from(address))));
    }

    /// The connection that was dialled stands.
    pub fn connect(&mut self) -> LinkId {
        let link = self.expect_dial();
        self.input(Input::LinkUp { link });
        link
    }

    pub fn expect_dial(&mut self) -> LinkId {
        match self.next("a dial") {
            Output::Dial { link, .. } => link,
            other => panic!("expected a dial, got {other:?}"),
        }
    }

    pub fn welcome(&mut self, epoch: u64) {
        let welcome = link::Welcome {
            agent_id: v1::AgentId {
                value: "m-S0".to_owned(),
            },
            ping_interval_ms: 15_000,
            silence_ms: self.silence_ms,
            master_version: "test".to_owned(),
        };
        self.master(epoch, Order::Welcome(welcome));
    }

    /// The master says something on the newest connection.
    pub fn master(&mut self, epoch: u64, order: Order) {
        self.master_of("c", epoch, order);
    }

    pub fn master_of(&mut self, cluster: &str, epoch: u64, order: Order) {
        let message = link::MasterMessage {
            epoch: link::Epoch {
                cluster_id: cluster.to_owned(),
                counter: epoch,
            },
            body: Some(order),
        };
        let link = self.core.link.last;
        self.input(Input::FromMaster {
            link,
            message: Box::new(message),
        });
    }

    pub fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        self.core.handle(self.now, input, &mut out);
        if let Err(broken) = self.core.check_invariants() {
            panic!("{broken}");
        }
        for output in out {
            match output {
                Output::Log { id, records, flush } => {
                    self.records.extend(records);
                    self.writes.push_back((id, flush));
                }
                // What people read is not part of a story unless a test asks for it.
                Output::Note { .. } | Output::Health(_) => {}
                other => self.outputs.push_back(other),
            }
        }
        if !self.slow {
            self.disk();
        }
    }

    /// The disk writes everything that waits.
    pub fn disk(&mut self) {
        while let Some((id, flush)) = self.writes.pop_front() {
            if flush {
                self.flushed = self.records.len();
            }
            self.input(Input::Logged { id });
        }
    }

    /// The kernel has put everything on the disk by itself.
    pub fn flush(&mut self) {
        self.flushed = self.records.len();
    }

    pub fn slow_disk(&mut self, slow: bool) {
        self.slow = slow;
        if !slow {
            self.disk();
        }
    }

    /// Time goes on, tick by tick.
    pub fn pass(&mut self, span: Millis) {
        let end = self.now.mono + span;
        while let Some(at) = self.core.next_deadline().filter(|at| *at <= end) {
            self.at(at);
            self.input(Input::Tick);
        }
        self.at(end);
    }

    fn at(&mut self, mono: Millis) {
        let passed = mono.since(self.now.mono);
        self.now = Now::new(self.now.mono + passed, Wall(self.now.wall.0 + passed.0));
    }

    /// The agent's process dies and is started again on the same disk; `boot` is that of the kernel. Whoever rebooted
    /// loses what was not flushed.
    pub fn restart(&mut self, boot: &str) {
        if *self.config.boot_id != *boot {
            self.records.truncate(self.flushed);
        }
        self.outputs.clear();
        self.writes.clear();
        self.config.boot_id = Arc::from(boot);
        self.lives += 1;
        let ledger = Ledger::replay(self.records.iter().cloned());
        self.core = Core::recover(self.config.clone(), self.lives, ledger);
        self.input(Input::Start);
    }

    pub fn next(&mut self, what: &str) -> Output {
        self.outputs
            .pop_front()
            .unwrap_or_else(|| panic!("expected {what}, got nothing"))
    }

    /// Fails if an output was not looked at.
    pub fn finish(&self) {
        assert!(self.outputs.is_empty(), "unexpected: {:?}", self.outputs);
    }

    pub fn said(&mut self) -> Said {
        match self.next("a message to the master") {
            Output::ToMaster { message, .. } => message.body.expect("a body"),
            other => panic!("expected a message to the master, got {other:?}"),
        }
    }

    pub fn expect_hello(&mut self) -> link::Hello {
        match self.said() {
            Said::Hello(hello) => hello,
            other => panic!("expected Hello, got {other:?}"),
        }
    }

    /// The next status for the master: its state, its uuid, and the latest state told with it.
    pub fn expect_status(&mut self) -> (v1::TaskStatus, TaskState) {
        match self.said() {
            Said::Update(update) => {
                let latest = TaskState::from_number(update.latest_state).expect("a state");
                (update.status, latest)
            }
            other => panic!("expected a status, got {other:?}"),
        }
    }

    pub fn run(&mut self, task: v1::TaskInfo) {
        let framework = framework();
        self.master(1, Order::RunTask(link::RunTask { framework, task }));
    }

    pub fn expect_launch(&mut self) -> Launch {
        match self.next("a launch") {
            Output::Launch(launch) => *launch,
            other => panic!("expected a launch, got {other:?}"),
        }
    }

    pub fn expect_destroy(&mut self) -> ContainerId {
        match self.next("a destroy") {
            Output::Destroy { container } => container,
            other => panic!("expected a destroy, got {other:?}"),
        }
    }

    pub fn expect_reads_end(&mut self) {
        match self.next("the end of reads") {
            Output::ReadsEnd { .. } => {}
            other => panic!("expected the end of reads, got {other:?}"),
        }
    }

    pub fn launched(&mut self, launch: &Launch) {
        self.input(Input::Launched {
            container: launch.place.container.clone(),
            process: Process { pid: 100, start: 7 },
        });
    }

    /// The executor of a container says hello and is let in.
    pub fn hello(&mut self, launch: &Launch) -> ConnId {
        let conn = self.next_conn;
        self.next_conn += 1;
        self.input(Input::ExecutorHello {
            conn,
            framework: launch.place.framework.clone(),
            executor: launch.place.executor.clone(),
            container: launch.place.container.clone(),
        });
        match self.next("an answer to hello") {
            Output::CloseExecutor { .. } => self.expect_let_in(),
            Output::AnswerHello { answer, .. } => assert_eq!(answer, Ok(())),
            other => panic!("expected an answer to hello, got {other:?}"),
        }
        conn
    }

    fn expect_let_in(&mut self) {
        match self.next("an answer to hello") {
            Output::AnswerHello { answer, .. } => assert_eq!(answer, Ok(())),
            other => panic!("expected an answer to hello, got {other:?}"),
        }
    }

    pub fn subscribe(&mut self, launch: &Launch, subscribe: call::Subscribe) -> ConnId {
        let conn = self.hello(launch);
        let mut call = call_of(launch, call::Type::Subscribe);
        call.subscribe = Some(subscribe);
        self.input(Input::ExecutorCall {
            conn,
            call: Box::new(call),
        });
        let subscribed = self.event(event::Type::Subscribed);
        assert!(subscribed.subscribed.is_some());
        conn
    }

    pub fn event(&mut self, kind: event::Type) -> Event {
        match self.next("an event") {
            Output::ToExecutor { event, .. } => {
                assert_eq!(event.r#type(), kind, "{event:?}");
                *event
            }
            other => panic!("expected {kind:?}, got {other:?}"),
        }
    }

    /// A command task that runs: launched, subscribed, handed over, and STARTING and RUNNING acknowledged by all.
    pub fn running(&mut self, id: &str) -> (Launch, ConnId) {
        self.run(command_task(id));
        let launch = self.expect_launch();
        self.launched(&launch);
        let conn = self.subscribe(&launch, call::Subscribe::default());
        self.event(event::Type::Launch);
        for state in [TaskState::Starting, TaskState::Running] {
            let uuid = self.update(conn, &launch, id, state);
            self.expect_acknowledged_and_sent(state);
            self.acknowledge(id, uuid);
        }
        (launch, conn)
    }

    pub fn expect_acknowledged_and_sent(&mut self, state: TaskState) {
        self.event(event::Type::Acknowledged);
        let (status, _) = self.expect_status();
        assert_eq!(status.state, state.number());
    }

    pub fn status(&mut self, id: &str, state: TaskState) -> v1::TaskStatus {
        let mut uuid = vec![0; 12];
        uuid.extend_from_slice(&self.next_uuid.to_be_bytes());
        self.next_uuid += 1;
        v1::TaskStatus {
            task_id: v1::TaskId {
                value: id.to_owned(),
            },
            state: state.number(),
            source: Some(Source::Executor as i32),
            uuid: Some(uuid.into()),
            ..Default::default()
        }
    }

    pub fn update(
        &mut self,
        conn: ConnId,
        launch: &Launch,
        id: &str,
        state: TaskState,
    ) -> [u8; 16] {
        let status = self.status(id, state);
        self.send_update(conn, launch, status)
    }

    pub fn send_update(
        &mut self,
        conn: ConnId,
        launch: &Launch,
        status: v1::TaskStatus,
    ) -> [u8; 16] {
        let uuid = status
            .uuid
            .as_ref()
            .map_or([0; 16], |uuid| uuid.as_ref().try_into().unwrap_or([0; 16]));
        let mut call = call_of(launch, call::Type::Update);
        call.update = Some(call::Update { status });
        self.input(Input::ExecutorCall {
            conn,
            call: Box::new(call),
        });
        uuid
    }

    pub fn acknowledge(&mut self, id: &str, uuid: [u8; 16]) {
        self.master(1, ack(id, uuid));
    }

    pub fn kill(&mut self, id: &str) {
        self.master(
            1,
            Order::KillTask(link::KillTask {
                framework_id: v1::FrameworkId {
                    value: "fw".to_owned(),
                },
                task_id: v1::TaskId {
                    value: id.to_owned(),
                },
                kill_policy: None,
            }),
        );
    }

    pub fn ended(&mut self, launch: &Launch, end: ContainerEnd) {
        self.input(Input::ContainerEnded {
            container: launch.place.container.clone(),
            end,
        });
    }

    pub fn state(&self, id: &str) -> Option<TaskState> {
        self.core.task_state(&key(id))
    }
}

pub(super) fn ack(id: &str, uuid: [u8; 16]) -> Order {
    Order::Acknowledge(link::AcknowledgeUpdate {
        framework_id: v1::FrameworkId {
            value: "fw".to_owned(),
        },
        task_id: v1::TaskId {
            value: id.to_owned(),
        },
        uuid: uuid.to_vec().into(),
    })
}

pub(super) fn key(id: &str) -> TaskKey {
    (
        FrameworkId::parse("fw").expect("an id"),
        TaskId::parse(id).expect("an id"),
    )
}

pub(super) fn executor_id(id: &str) -> ExecutorId {
    ExecutorId::parse(id).expect("an id")
}

pub(super) fn scalar(name: &str, value: f64) -> v1::Resource {
    v1::Resource {
        name: name.to_owned(),
        r#type: v1::value::Type::Scalar as i32,
        scalar: Some(v1::value::Scalar { value }),
        ..Default::default()
    }
}

pub(super) fn framework() -> v1::FrameworkInfo {
    let aware = v1::framework_info::capability::Type::PartitionAware as i32;
    v1::FrameworkInfo {
        user: "nobody".to_owned(),
        name: "framework".to_owned(),
        id: Some(v1::FrameworkId {
            value: "fw".to_owned(),
        }),
        capabilities: vec![v1::framework_info::Capability {
            r#type: Some(aware),
        }],
        ..Default::default()
    }
}

pub(super) fn command_task(id: &str) -> v1::TaskInfo {
    v1::TaskInfo {
        name: id.to_owned(),
        task_id: v1::TaskId {
            value: id.to_owned(),
        },
        agent_id: v1::AgentId {
            value: "m-S0".to_owned(),
        },
        resources: vec![scalar("cpus", 0.5), scalar("mem", 64.0)],
        command: Some(v1::CommandInfo {
            value: Some("sleep 1000".to_owned()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub(super) fn custom_task(id: &str, executor: &str) -> v1::TaskInfo {
    v1::TaskInfo {
        command: None,
        executor: Some(v1::ExecutorInfo {
            executor_id: v1::ExecutorId {
                value: executor.to_owned(),
            },
            r#type: Some(v1::executor_info::Type::Custom as i32),
            command: Some(v1::CommandInfo {
                value: Some("./executor".to_owned()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..command_task(id)
    }
}

pub(super) fn call_of(launch: &Launch, kind: call::Type) -> Call {
    Call {
        executor_id: launch.place.executor.to_wire(),
        framework_id: launch.place.framework.to_wire(),
        r#type: Some(kind as i32),
        ..Default::default()
    }
}
