//! A small world around a core: a store that remembers, a master that offers and starts what it is told to.

use std::collections::{BTreeMap, VecDeque};

use mezzo_coordination::{CommitError, Op, Record, Txn};
use mezzo_model::ids::{FrameworkId, TaskId};
use mezzo_model::resources::Resources;
use mezzo_model::{Millis, Now, TaskState, Wall};
use mezzo_sdk::scheduler::{AckToken, SchedulerCommand, SchedulerEvent};
use mezzo_wire::v1;
use serde_json::Value;

use super::app::AppUpdate;
use super::app_id::AppId;
use super::request::{Answer, ApiCall, Refusal};
use super::{Config, Core, Input, Output};

/// An offer of everything named in the text forms.
pub fn offer(id: &str, agent: &str, resources: &str, attributes: &str) -> v1::Offer {
    let attributes =
        mezzo_model::attributes::Attributes::parse(attributes).expect("good attributes");
    v1::Offer {
        id: v1::OfferId {
            value: id.to_owned(),
        },
        agent_id: v1::AgentId {
            value: agent.to_owned(),
        },
        hostname: format!("host-of-{agent}"),
        resources: Resources::parse(resources)
            .expect("good resources")
            .to_wire(),
        attributes: attributes.to_wire(),
        ..Default::default()
    }
}

/// The world.
pub struct World {
    pub core: Core,
    pub records: BTreeMap<String, bytes::Bytes>,
    pub now: Millis,
    pub wall: u64,
    /// Commits wait until they are let go.
    pub hold_commits: bool,
    pub held: VecDeque<(u64, Txn)>,
    /// What the driver was told, in order, since it was looked at.
    pub told: Vec<SchedulerCommand>,
    pub replies: BTreeMap<u64, Result<Answer, Refusal>>,
    pub probes: VecDeque<(u64, super::health::ProbeOrder)>,
    pub notes: Vec<String>,
    pub deposed: bool,
    /// Live tasks by id, with their agents.
    pub tasks: BTreeMap<String, String>,
    next: u64,
    seed: u64,
}

impl World {
    pub fn new() -> Self {
        Self::with(Config::default())
    }

    pub fn with(config: Config) -> Self {
        let mut world = Self {
            core: Core::new(config, 1),
            records: BTreeMap::new(),
            now: Millis(1000),
            wall: 1_700_000_000_000,
            hold_commits: false,
            held: VecDeque::new(),
            told: Vec::new(),
            replies: BTreeMap::new(),
            probes: VecDeque::new(),
            notes: Vec::new(),
            deposed: false,
            tasks: BTreeMap::new(),
            next: 1,
            seed: 1,
        };
        world.subscribe();
        world
    }

    /// The same store and the same tasks under a new leader.
    pub fn fail_over(&mut self) {
        self.restart_unsubscribed();
        self.subscribe();
        self.answer_reconciliation();
    }

    /// A new leader that no master has taken yet.
    pub fn restart_unsubscribed(&mut self) {
        self.seed += 1;
        self.held.clear();
        self.probes.clear();
        self.told.clear();
        self.core = Core::new(self.core.config.clone(), self.seed);
        let record = |(key, value): (&String, &bytes::Bytes)| Record {
            key: key.clone(),
            value: value.clone(),
            version: 1,
        };
        let records: Vec<Record> = self.records.iter().map(record).collect();
        self.core.load(&records).expect("what was written is read");
        self.input(Input::Tick);
    }

    pub fn subscribe(&mut self) {
        let framework_id = FrameworkId::parse("f1").expect("good");
        self.input(Input::Scheduler(SchedulerEvent::Subscribed {
            framework_id,
            resubscribed: false,
        }));
    }

    /// Hands one input in and carries out what comes of it.
    pub fn input(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut out = Vec::new();
            self.core
                .handle(Now::new(self.now, Wall(self.wall)), input, &mut out);
            self.core.check_invariants().expect("invariants");
            for output in out {
                match output {
                    Output::Scheduler(command) => self.command(command),
                    Output::Commit { id, txn } if self.hold_commits => {
                        self.held.push_back((id, txn))
                    }
                    Output::Commit { id, txn } => {
                        self.write(&txn);
                        inputs.push_back(Input::Committed { id, result: Ok(()) });
                    }
                    Output::Reply { request, answer } => {
                        self.replies.insert(request, *answer);
                    }
                    Output::Probe { probe, order } => self.probes.push_back((probe, order)),
                    Output::Note { text, .. } => self.notes.push(text),
                    Output::Deposed { .. } => self.deposed = true,
                    Output::DriverEnded { words } => self.notes.push(words),
                }
            }
        }
    }

    fn write(&mut self, txn: &Txn) {
        txn.check_limits().expect("the store takes it");
        for op in &txn.ops {
            match op {
                Op::Put { key, value, .. } => {
                    self.records.insert(key.clone(), value.clone());
                }
                Op::Delete { key, .. } => {
                    self.records.remove(key);
                }
                Op::Check { .. } => {}
            }
        }
    }

    /// Lets one held commit happen.
    pub fn let_commit(&mut self) {
        if let Some((id, txn)) = self.held.pop_front() {
            self.write(&txn);
            self.input(Input::Committed { id, result: Ok(()) });
        }
    }

    /// The store answers again.
    pub fn release(&mut self) {
        self.hold_commits = false;
        while !self.held.is_empty() {
            self.let_commit();
        }
        self.pass(10_000);
    }

    /// The commit under way happens, and nobody is told.
    pub fn write_held(&mut self) {
        if let Some((_, txn)) = self.held.pop_front() {
            self.write(&txn);
        }
    }

    /// A forced change whose answer is not waited for.
    pub fn insist(&mut self, id: &str, document: Value) {
        let update = Box::new(AppUpdate::read(&document, "").expect("good"));
        let id = app(id);
        self.send(ApiCall::PutApp {
            id,
            update,
            partial: true,
            create: true,
            force: true,
        });
    }

    /// Ends one held commit otherwise.
    pub fn fail_commit(&mut self, error: CommitError) {
        if let Some((id, _)) = self.held.pop_front() {
            self.input(Input::Committed {
                id,
                result: Err(error),
            });
        }
    }

    fn command(&mut self, command: SchedulerCommand) {
        if let SchedulerCommand::Accept { operations, .. } = &command {
            for operation in operations {
                for task in operation
                    .launch
                    .iter()
                    .flat_map(|launch| &launch.task_infos)
                {
                    let agent = task.agent_id.value.clone();
                    let before = self.tasks.insert(task.task_id.value.clone(), agent);
                    assert_eq!(before, None, "{} launched twice", task.task_id.value);
                    assert!(!self.records.is_empty(), "launched without a record");
                }
            }
        }
        self.told.push(command);
    }

    pub fn tick(&mut self) {
        self.input(Input::Tick);
    }

    /// Moves time on, with a tick at each deadline on the way.
    pub fn pass(&mut self, millis: u64) {
        let end = self.now + Millis(millis);
        while let Some(at) = self.core.next_deadline().filter(|at| *at <= end) {
            let at = at.max(self.now);
            self.wall += at.since(self.now).0;
            self.now = at;
            self.tick();
        }
        self.wall += end.since(self.now).0;
        self.now = end;
        self.tick();
    }

    pub fn call(&mut self, call: ApiCall) -> Result<Answer, Refusal> {
        let request = self.send(call);
        self.replies.remove(&request).expect("answered")
    }

    pub fn send(&mut self, call: ApiCall) -> u64 {
        let request = self.next;
        self.next += 1;
        // People are slower than a millisecond.
        self.wall += 5;
        self.now += Millis(5);
        self.input(Input::Api { request, call });
        request
    }

    pub fn create(&mut self, document: Value) -> Result<Answer, Refusal> {
        let update = Box::new(AppUpdate::read(&document, "")?);
        self.call(ApiCall::CreateApp {
            update,
            force: false,
        })
    }

    pub fn put(&mut self, id: &str, document: Value, force: bool) -> Result<Answer, Refusal> {
        let update = Box::new(AppUpdate::read(&document, "")?);
        let id = app(id);
        self.call(ApiCall::PutApp {
            id,
            update,
            partial: true,
            create: true,
            force,
        })
    }

    /// One agent's offer.
    pub fn offer(&mut self, agent: &str, resources: &str) {
        self.offer_with(agent, resources, "");
    }

    pub fn offer_with(&mut self, agent: &str, resources: &str, attributes: &str) {
        let id = format!("o{}", self.next);
        self.next += 1;
        let offers = vec![offer(&id, agent, resources, attributes)];
        self.input(Input::Scheduler(SchedulerEvent::Offers(offers)));
    }

    pub fn update(&mut self, task: &str, state: TaskState) {
        let agent = self.tasks.get(task).cloned();
        let status = v1::TaskStatus {
            task_id: v1::TaskId {
                value: task.to_owned(),
            },
            state: state.number(),
            agent_id: agent.map(|value| v1::AgentId { value }),
            uuid: Some(bytes::Bytes::from_static(&[7; 16])),
            ..Default::default()
        };
        self.status(status);
    }

    pub fn status(&mut self, status: v1::TaskStatus) {
        let state = TaskState::from_number(status.state).expect("a state");
        if state.is_terminal() {
            self.tasks.remove(&status.task_id.value);
        }
        let ack = AckToken::of(&status);
        self.input(Input::Scheduler(SchedulerEvent::Update { status, ack }));
    }

    /// Every live task says that it runs.
    pub fn all_run(&mut self) {
        self.all_run_but("");
    }

    /// Every live task but one says that it runs.
    pub fn all_run_but(&mut self, silent: &str) {
        for task in self.tasks.keys().cloned().collect::<Vec<_>>() {
            if task != silent {
                self.update(&task, TaskState::Running);
            }
        }
    }

    /// Kills that were sent since the last look, carried out.
    pub fn die(&mut self) -> usize {
        let killed = self.killed();
        let mut died = 0;
        for task in killed {
            if self.tasks.contains_key(task.as_str()) {
                self.update(task.as_str(), TaskState::Killed);
                died += 1;
            }
        }
        died
    }

    /// Tasks that were told to end since the last look.
    pub fn killed(&mut self) -> Vec<TaskId> {
        let mut killed = Vec::new();
        self.told.retain(|command| match command {
            SchedulerCommand::Kill { task, .. } => {
                killed.push(task.clone());
                false
            }
            _ => true,
        });
        killed
    }

    pub fn answer_reconciliation(&mut self) {
        for command in std::mem::take(&mut self.told) {
            let SchedulerCommand::Reconcile(tasks) = &command else {
                self.told.push(command);
                continue;
            };
            for (task, _) in tasks {
                let is_there = self.tasks.contains_key(task.as_str());
                let state = if is_there {
                    TaskState::Running
                } else {
                    TaskState::Gone
                };
                self.update(task.as_str(), state);
            }
        }
    }

    /// Offers, starts and ends until nothing is left to do; probes succeed.
    pub fn calm(&mut self) {
        self.calm_but("");
    }

    /// The same, with one task that nobody hears of.
    pub fn calm_but(&mut self, silent: &str) {
        for _ in 0..200 {
            let before = (self.records.clone(), self.tasks.clone());
            if !self.core.launchable().is_empty() {
                self.offer("a1", "cpus:64;mem:65536;disk:65536;ports:[31000-32000]");
            }
            self.all_run_but(silent);
            self.die();
            while let Some((probe, _)) = self.probes.pop_front() {
                let result = super::health::ProbeResult::Status(200);
                self.input(Input::Probed { probe, result });
            }
            self.pass(500);
            if before == (self.records.clone(), self.tasks.clone())
                && self.core.deployments.is_empty()
                && self.probes.is_empty()
            {
                return;
            }
        }
        panic!(
            "never calm: {:?} {:?}",
            self.notes.last(),
            self.core.deployments
        );
    }

    /// Live tasks of an app.
    pub fn live(&self, id: &str) -> Vec<String> {
        let prefix = format!("{}.", app(id).safe());
        self.tasks
            .keys()
            .filter(|task| task.starts_with(&prefix))
            .cloned()
            .collect()
    }
}

pub fn app(id: &str) -> AppId {
    AppId::parse(id).expect("a good id")
}
