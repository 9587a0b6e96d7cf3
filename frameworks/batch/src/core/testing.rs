//! A little world around a core: a store in memory, a driver that is written down, people who ask.
//!
//! Every output must be looked at: a command to the driver that a story did not expect fails it at the end.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use mezzo_coordination::{CommitError, Op, Record, Txn};
use mezzo_model::ids::{FrameworkId, OfferId, TaskId};
use mezzo_model::resources::Resources;
use mezzo_model::task_state::TaskState;
use mezzo_model::time::{Millis, Now, Wall};
use mezzo_sdk::scheduler::{AckToken, SchedulerCommand, SchedulerEvent};
use mezzo_wire::v1;
use serde_json::{Value, json};

use super::job::JobId;
use super::job::parse::{self, Dialect};
use super::{
    Call, Config, Core, Embed, HistoryView, Input, Output, Refusal, Reply, RequestId, RunId,
    RunView,
};

/// The world.
pub struct Env {
    /// The core.
    pub core: Core,
    /// The clock.
    pub now: Now,
    /// What is stored.
    pub stored: BTreeMap<String, Bytes>,
    /// Commands to the driver that were not looked at.
    pub commands: VecDeque<SchedulerCommand>,
    /// Answers that were not looked at.
    pub replies: VecDeque<(RequestId, Reply)>,
    /// Transactions that were not answered, when `slow`.
    pub under_way: VecDeque<(u64, Txn)>,
    /// Whether commits wait until [`Env::commit`].
    pub slow: bool,
    /// Why the core gave up.
    pub abdicated: Option<String>,
    config: Config,
    offers: u64,
    requests: u64,
    uuids: u8,
}

/// A task as it was launched.
#[derive(Clone, Debug, PartialEq)]
pub struct Launched {
    /// Its id.
    pub task: TaskId,
    /// The whole of it.
    pub info: v1::TaskInfo,
}

impl Default for Env {
    fn default() -> Self {
        Self::new()
    }
}

impl Env {
    /// A world in which the framework is subscribed and idle.
    pub fn new() -> Self {
        let mut env = Self::with(Config::default());
        env.subscribe();
        env
    }

    /// A world in which the framework is not subscribed yet.
    pub fn with(config: Config) -> Self {
        Self {
            core: Core::new(config.clone(), 1),
            now: Now::new(Millis::from_secs(1000), Wall(1_468_587_779_735)),
            stored: BTreeMap::new(),
            commands: VecDeque::new(),
            replies: VecDeque::new(),
            under_way: VecDeque::new(),
            slow: false,
            abdicated: None,
            config,
            offers: 0,
            requests: 0,
            uuids: 0,
        }
    }

    /// One input, and all that follows from it.
    pub fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        self.core.handle(self.now, input, &mut out);
        self.core.check_invariants().expect("invariants hold");
        for output in out {
            match output {
                Output::Scheduler(command) => self.commands.push_back(command),
                Output::Commit { id, txn } => self.under_way.push_back((id, txn)),
                Output::Reply { request, reply } => self.replies.push_back((request, reply)),
                Output::Abdicate { reason, .. } => self.abdicated = Some(reason),
                Output::Note { .. } => {}
            }
        }
        while !self.slow && !self.under_way.is_empty() {
            self.commit();
        }
    }

    /// The oldest transaction is stored.
    pub fn commit(&mut self) {
        let (id, txn) = self
            .under_way
            .pop_front()
            .expect("a transaction is under way");
        self.store(&txn);
        self.input(Input::Committed { id, result: Ok(()) });
    }

    /// The oldest transaction is answered by an error; `stored` says whether it happened all the same.
    pub fn fail_commit(&mut self, error: CommitError, stored: bool) {
        let (id, txn) = self
            .under_way
            .pop_front()
            .expect("a transaction is under way");
        if stored {
            self.store(&txn);
        }
        self.input(Input::Committed {
            id,
            result: Err(error),
        });
    }

    fn store(&mut self, txn: &Txn) {
        txn.check_limits()
            .expect("a transaction that every store takes");
        for op in &txn.ops {
            match op {
                Op::Put { key, value, .. } => drop(self.stored.insert(key.clone(), value.clone())),
                Op::Delete { key, .. } => drop(self.stored.remove(key)),
                Op::Check { .. } => {}
            }
        }
    }

    /// Time passes, and the core is called when it wants to be.
    pub fn pass(&mut self, span: Millis) {
        let end = self.now.mono + span;
        while let Some(due) = self.core.next_deadline().filter(|due| *due <= end) {
            self.advance(due.since(self.now.mono));
            self.input(Input::Tick);
        }
        self.advance(end.since(self.now.mono));
    }

    fn advance(&mut self, span: Millis) {
        self.now = Now::new(self.now.mono + span, Wall(self.now.wall.0 + span.0));
    }

    /// The process ends at once and another takes over with what is stored.
    pub fn restart(&mut self) {
        self.under_way.clear();
        self.commands.clear();
        self.replies.clear();
        let records: Vec<Record> = self
            .stored
            .iter()
            .map(|(key, value)| Record {
                key: key.clone(),
                value: value.clone(),
                version: 1,
            })
            .collect();
        let seed = self.now.wall.0;
        self.core =
            Core::load(self.config.clone(), seed, &records).expect("what was stored is good");
        self.core.check_invariants().expect("invariants hold");
    }

    /// The driver subscribed.
    pub fn subscribe(&mut self) {
        let framework_id = FrameworkId::parse("f-1").expect("good");
        self.input(Input::Scheduler(SchedulerEvent::Subscribed {
            framework_id,
            resubscribed: false,
        }));
        let asked = self.reconciled();
        assert_eq!(
            asked.last().map(Vec::len),
            Some(0),
            "and about everything that the master knows"
        );
        self.expect_demand(self.core.totals().queued_runs > 0);
    }

    /// The tasks that were asked about, call by call.
    pub fn reconciled(&mut self) -> Vec<Vec<TaskId>> {
        let mut asked = Vec::new();
        while let Some(SchedulerCommand::Reconcile(tasks)) = self.commands.front() {
            asked.push(tasks.iter().map(|(task, _)| task.clone()).collect());
            self.commands.pop_front();
        }
        asked
    }

    /// The next command asks for offers, or says that none are wanted.
    pub fn expect_demand(&mut self, wanted: bool) {
        match self.commands.pop_front() {
            Some(SchedulerCommand::Revive { .. }) if wanted => {}
            Some(SchedulerCommand::Suppress { .. }) if !wanted => {}
            other => panic!("wanted: {wanted}, but the command is {other:?}"),
        }
    }

    /// An offer comes.
    pub fn offer(&mut self, resources: &str) -> OfferId {
        self.offers += 1;
        let id = OfferId::parse(&format!("o-{}", self.offers)).expect("good");
        let resources = Resources::parse(resources).expect("good resources");
        let offer = v1::Offer {
            id: id.to_wire(),
            framework_id: v1::FrameworkId {
                value: "f-1".to_owned(),
            },
            agent_id: v1::AgentId {
                value: "a-1".to_owned(),
            },
            hostname: "host-1".to_owned(),
            resources: resources.to_wire(),
            ..Default::default()
        };
        self.input(Input::Scheduler(SchedulerEvent::Offers(vec![offer])));
        id
    }

    /// The newest offer.
    pub fn last_offer(&self) -> OfferId {
        OfferId::parse(&format!("o-{}", self.offers)).expect("good")
    }

    /// The next command accepts this offer.
    pub fn expect_accept(&mut self, id: &OfferId) -> (Vec<Launched>, f64) {
        match self.commands.pop_front() {
            Some(SchedulerCommand::Accept {
                offers,
                operations,
                filters,
            }) => {
                assert_eq!(offers, std::slice::from_ref(id));
                let [operation] = operations.as_slice() else {
                    panic!("one operation: {operations:?}")
                };
                let launch = operation.launch.clone().expect("a launch");
                let launched = launch.task_infos.into_iter().map(|info| Launched {
                    task: TaskId::from_wire(&info.task_id).expect("good"),
                    info,
                });
                let refuse = filters
                    .and_then(|filters| filters.refuse_seconds)
                    .expect("a filter");
                (launched.collect(), refuse)
            }
            other => panic!("an accept of {id} was expected, not {other:?}"),
        }
    }

    /// The next command declines this offer.
    pub fn expect_decline(&mut self, id: &OfferId) {
        match self.commands.pop_front() {
            Some(SchedulerCommand::Decline { offers, .. }) => {
                assert_eq!(offers, std::slice::from_ref(id))
            }
            other => panic!("a decline of {id} was expected, not {other:?}"),
        }
    }

    /// The next command ends this task.
    pub fn expect_kill(&mut self, wanted: &TaskId) {
        match self.commands.pop_front() {
            Some(SchedulerCommand::Kill { task, .. }) => assert_eq!(task, *wanted),
            other => panic!("a kill of {wanted} was expected, not {other:?}"),
        }
    }

    /// A status with a UUID of its own comes.
    pub fn update(&mut self, task: &TaskId, state: TaskState) -> AckToken {
        let status = self.status(task, state);
        self.deliver(status)
    }

    /// The same status may come more than once.
    pub fn deliver(&mut self, status: v1::TaskStatus) -> AckToken {
        let ack = AckToken::of(&status);
        self.input(Input::Scheduler(SchedulerEvent::Update {
            status,
            ack: ack.clone(),
        }));
        ack
    }

    /// A status with a UUID of its own.
    pub fn status(&mut self, task: &TaskId, state: TaskState) -> v1::TaskStatus {
        self.uuids = self.uuids.wrapping_add(1);
        v1::TaskStatus {
            task_id: task.to_wire(),
            state: state.number(),
            agent_id: Some(v1::AgentId {
                value: "a-1".to_owned(),
            }),
            uuid: Some(Bytes::copy_from_slice(&[self.uuids; 16])),
            source: Some(v1::task_status::Source::Executor as i32),
            ..Default::default()
        }
    }

    /// The answer of a master that was asked about a task.
    pub fn answer(&mut self, task: &TaskId, state: TaskState) {
        let mut status = self.status(task, state);
        status.uuid = None;
        status.source = Some(v1::task_status::Source::Master as i32);
        status.reason = Some(v1::task_status::Reason::Reconciliation as i32);
        let ack = self.deliver(status);
        assert!(!ack.needed());
    }

    /// The next command acknowledges this.
    pub fn expect_ack(&mut self, wanted: &AckToken) {
        match self.commands.pop_front() {
            Some(SchedulerCommand::Acknowledge(ack)) => assert_eq!(ack, *wanted),
            other => panic!("an acknowledgement was expected, not {other:?}"),
        }
    }

    /// A status comes and is acknowledged at once.
    pub fn told(&mut self, task: &TaskId, state: TaskState) {
        let ack = self.update(task, state);
        self.expect_ack(&ack);
    }

    /// Somebody asks; the answer may come later.
    pub fn ask(&mut self, call: Call) -> RequestId {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.input(Input::Api { request, call });
        request
    }

    /// The answer to a question.
    pub fn reply(&mut self, wanted: RequestId) -> Reply {
        let (request, reply) = self.replies.pop_front().expect("an answer");
        assert_eq!(request, wanted);
        reply
    }

    /// Somebody asks and is answered.
    pub fn call(&mut self, call: Call) -> Reply {
        let request = self.ask(call);
        self.reply(request)
    }

    /// A job with this `run` besides a small need.
    pub fn job(&mut self, id: &str, more: Value) {
        let spec = spec(id, more);
        match self.call(Call::CreateJob { spec }) {
            Reply::Spec(_) => {}
            other => panic!("{other:?}"),
        }
    }

    /// A new run of a job.
    pub fn start(&mut self, job: &str) -> RunId {
        match self.call(Call::StartRun { job: job_id(job) }) {
            Reply::Run(run) => run.key.run,
            other => panic!("{other:?}"),
        }
    }

    /// A new run of a job for which offers are asked.
    pub fn start_wanted(&mut self, job: &str) -> RunId {
        let run = self.start(job);
        self.expect_demand(true);
        run
    }

    /// A run of a job that is launched and running.
    pub fn running(&mut self, job: &str) -> (RunId, TaskId) {
        let run = self.start_wanted(job);
        let task = self.launch();
        self.told(&task, TaskState::Starting);
        self.told(&task, TaskState::Running);
        (run, task)
    }

    /// An offer comes for the one run that waits.
    pub fn launch(&mut self) -> TaskId {
        let offer = self.offer("cpus:1;mem:128;disk:100");
        self.expect_demand(false);
        let (launched, _) = self.expect_accept(&offer);
        let [one] = launched.as_slice() else {
            panic!("one task: {launched:?}")
        };
        one.task.clone()
    }

    /// Stops a run.
    pub fn stop(&mut self, job: &str, run: &RunId) -> Reply {
        self.call(Call::StopRun {
            job: job_id(job),
            run: run.clone(),
        })
    }

    /// A run as it is now, ended or not.
    pub fn run(&mut self, job: &str, run: &RunId) -> RunView {
        match self.call(Call::GetRun {
            job: job_id(job),
            run: run.clone(),
            ended: true,
        }) {
            Reply::Run(run) => *run,
            other => panic!("{other:?}"),
        }
    }

    /// What became of a job's runs.
    pub fn history(&mut self, job: &str) -> HistoryView {
        let embed = Embed {
            history: true,
            ..Embed::default()
        };
        match self.call(Call::GetJob {
            job: job_id(job),
            embed,
        }) {
            Reply::Job(view) => view.history.expect("asked for"),
            other => panic!("{other:?}"),
        }
    }

    /// A call that is refused.
    pub fn refused(&mut self, call: Call) -> Refusal {
        match self.call(call) {
            Reply::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }

    /// The end of a story: nothing happened that it did not tell of.
    pub fn finish(self) {
        assert!(
            self.commands.is_empty(),
            "commands that nobody expected: {:?}",
            self.commands
        );
        assert!(
            self.replies.is_empty(),
            "answers that nobody expected: {:?}",
            self.replies
        );
        assert_eq!(self.abdicated, None);
    }
}

/// A job id.
pub fn job_id(id: &str) -> JobId {
    JobId::parse(id).expect("a good id")
}

/// A job that needs 1 cpu and 32 MiB, with more fields of `run`.
pub fn spec(id: &str, more: Value) -> super::job::JobSpec {
    let mut run = json!({"cpus": 1, "mem": 32, "disk": 0});
    if more.get("args").is_none() {
        run["cmd"] = json!("true");
    }
    for (name, value) in more.as_object().into_iter().flatten() {
        run[name] = value.clone();
    }
    parse::job(&json!({"id": id, "run": run}), Dialect::Mezzo, None).expect("a good job")
}
