//! The built-in executor of one command: LAUNCH starts it, its end is the task's.
//!
//! Rule: Mesos' command executor (states, messages, kill grace, health kills, maximal run time). Where it differs: it
//! waits for
//! the acknowledgement of the last update as long as its agent is away, not a minute, so that an end during an agent's
//! restart is not lost. Invariant: one task; updates go through the SDK's driver alone.

use mezzo_model::ids::TaskId;
use mezzo_model::{Millis, Now, TaskState};
use mezzo_sdk::executor::core::{
    CoreSettings, DriverCore, DriverInput, DriverOutput, ExecutorEvent, ShutdownReason,
};
use mezzo_sdk::executor::grace_period;
use mezzo_wire::v1;
use mezzo_wire::v1::executor::event;
use mezzo_wire::v1::task_status::Reason;

use super::checks::{CheckKind, Checks, Outcome, Verdict};
use super::keeper::{LEFTOVERS_WORDS, describe};
use super::life::{Ended, Life, Step};
use super::{End, How, Input, MemoryReport, Out, Output, words};
use crate::plan::{Plan, Timing};

/// The state of the command executor.
#[derive(Debug)]
pub struct CommandExecutor {
    driver: DriverCore,
    life: Life,
    timing: Timing,
    task: Option<Box<Task>>,
    /// The framework wants to hear TASK_KILLING.
    wants_killing: bool,
    /// The agent wants us to leave, or is gone.
    shutdown: Option<ShutdownReason>,
    /// The task has ended, or will never come: leave as soon as all is acknowledged, at the latest then.
    ended: bool,
    linger_until: Option<Millis>,
    left: bool,
}

/// The task, from LAUNCH on.
#[derive(Debug)]
struct Task {
    id: TaskId,
    /// What the task says on killing it.
    grace: Option<Millis>,
    checks: Checks,
    max_completion: Option<Millis>,
    complete_by: Option<Millis>,
    /// It is killed because it ran too long.
    overdue: bool,
    /// It is killed on request or because it is unhealthy.
    killed: bool,
    /// It is killed because it is unhealthy.
    unhealthy: bool,
}

impl CommandExecutor {
    /// An executor without a task.
    pub fn new(plan: &Plan, seed: u64) -> Self {
        Self {
            driver: DriverCore::new(CoreSettings {
                framework_id: plan.framework_id.clone(),
                executor_id: plan.executor_id.clone(),
                recovery_timeout: Millis(plan.timing.recovery_timeout_ms),
                backoff_max: Millis(plan.timing.subscribe_backoff_max_ms),
                seed,
            }),
            life: Life::new(),
            timing: plan.timing,
            task: None,
            wants_killing: false,
            shutdown: None,
            ended: false,
            linger_until: None,
            left: false,
        }
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Out) {
        match input {
            Input::Start => self.drive(now, DriverInput::Start, out),
            Input::Driver(input) => self.drive(now, input, out),
            Input::Payload(event) => {
                let step = self.life.on_event(now.mono, event, out);
                self.on_step(now, step, out);
            }
            Input::Check { kind, run, outcome } => self.on_check(now, kind, run, outcome, out),
            Input::Terminate => self.on_shutdown(now, ShutdownReason::Asked, out),
            Input::Tick => self.drive(now, DriverInput::Tick, out),
        }
        self.on_time(now, out);
    }

    /// When it wants a tick.
    pub fn next_deadline(&self) -> Option<Millis> {
        if self.left {
            return None;
        }
        let task = self.task.as_deref();
        [
            self.driver.next_deadline(),
            self.life.next_deadline(),
            self.linger_until,
            task.and_then(|task| task.checks.next_deadline()),
            task.and_then(|task| task.complete_by.filter(|_| !task.overdue)),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Hands one input to the driver and carries out what it says.
    fn drive(&mut self, now: Now, input: DriverInput, out: &mut Out) {
        let mut said = Vec::new();
        self.driver.handle(now, input, &mut said);
        for output in said {
            match output {
                DriverOutput::Connect => out.push(Output::Connect),
                DriverOutput::Send(call) => out.push(Output::Send(call)),
                DriverOutput::Note(words) => out.push(Output::Note(words)),
                DriverOutput::Deliver(event) => self.on_agent(now, event, out),
            }
        }
    }

    fn on_agent(&mut self, now: Now, event: ExecutorEvent, out: &mut Out) {
        match event {
            ExecutorEvent::Subscribed { info, .. } => self.on_subscribed(now, &info),
            ExecutorEvent::Disconnected => self.linger(now),
            ExecutorEvent::Launch(task) => self.on_launch(now, &task, out),
            ExecutorEvent::LaunchGroup(group) => {
                for task in group.tasks {
                    let words = "this executor runs one command; task groups are not served yet";
                    self.refuse(now, task.task_id, words.to_owned(), out);
                }
            }
            ExecutorEvent::Kill { task_id, policy } => {
                self.on_kill(now, &task_id, policy.as_ref(), out);
            }
            // Whether all is acknowledged is asked of the driver when it is time to leave.
            ExecutorEvent::Acknowledged { .. } => {}
            ExecutorEvent::Message(_) => out.push(Output::Note(
                "a message of the framework is dropped: a command hears none".to_owned(),
            )),
            ExecutorEvent::Error(words) => {
                out.push(Output::Note(format!("the agent complains: {words}")));
            }
            ExecutorEvent::Shutdown(reason) => self.on_shutdown(now, reason, out),
        }
    }

    fn on_subscribed(&mut self, now: Now, info: &event::Subscribed) {
        let killing = v1::framework_info::capability::Type::TaskKillingState as i32;
        let capabilities = &info.framework_info.capabilities;
        self.wants_killing = capabilities.iter().any(|c| c.r#type == Some(killing));
        self.linger(now);
    }

    /// How long an executor whose task has ended waits for the agent to hear of it: a minute for an agent that listens
    /// or that told us to leave, and as long as an agent may be away for one that is away.
    fn linger(&mut self, now: Now) {
        if self.ended {
            let hears = self.driver.is_subscribed() || self.shutdown.is_some();
            let wait_ms = if hears {
                self.timing.linger_ms
            } else {
                self.timing.recovery_timeout_ms
            };
            self.linger_until = Some(now.mono + Millis(wait_ms));
        }
    }

    fn on_launch(&mut self, now: Now, info: &v1::TaskInfo, out: &mut Out) {
        let id = match TaskId::from_wire(&info.task_id) {
            Ok(id) if self.task.is_none() && !self.ended => id,
            _ => {
                let words = "this executor runs one command and cannot run a second task";
                self.refuse(now, info.task_id.clone(), words.to_owned(), out);
                return;
            }
        };
        let checks = match Checks::of(info) {
            Ok(checks) => checks,
            Err(words) => {
                self.ended = true;
                self.refuse(now, info.task_id.clone(), words, out);
                return;
            }
        };
        let completion = info
            .max_completion_time
            .as_ref()
            .map(|span| span.nanoseconds);
        let completion = completion.and_then(|nanoseconds| u64::try_from(nanoseconds).ok());
        self.task = Some(Box::new(Task {
            id,
            grace: grace_period(info.kill_policy.as_ref()),
            checks,
            max_completion: completion.map(|n| Millis(n.div_ceil(1_000_000))),
            complete_by: None,
            overdue: false,
            killed: false,
            unhealthy: false,
        }));
        self.update(now, TaskState::Starting, |_| {}, out);
        self.life.start(out);
    }

    /// Reports a task that will not run.
    fn refuse(&mut self, now: Now, task_id: v1::TaskId, words: String, out: &mut Out) {
        let status = v1::TaskStatus {
            task_id,
            state: TaskState::Failed as i32,
            message: Some(words),
            reason: Some(Reason::TaskInvalid as i32),
            ..Default::default()
        };
        self.drive(now, DriverInput::Update(Box::new(status)), out);
    }

    fn on_kill(&mut self, now: Now, id: &TaskId, policy: Option<&v1::KillPolicy>, out: &mut Out) {
        let own = self.task.as_deref().filter(|task| task.id == *id);
        let Some(task) = own else {
            out.push(Output::Note(format!(
                "a kill is ignored: '{id}' is not the task of this executor"
            )));
            return;
        };
        let grace = grace_period(policy).or(task.grace);
        self.kill(now, grace.unwrap_or(Millis(self.timing.kill_grace_ms)), out);
    }

    fn on_shutdown(&mut self, now: Now, reason: ShutdownReason, out: &mut Out) {
        out.push(Output::Note(match &reason {
            ShutdownReason::Asked => "told to leave".to_owned(),
            ShutdownReason::AgentGone => {
                "the agent was away longer than the recovery timeout".to_owned()
            }
            ShutdownReason::Refused(words) => format!("the agent refused this executor: {words}"),
        }));
        if self.task.is_none() {
            self.ended = true;
        }
        self.shutdown = Some(reason);
        self.linger(now);
        self.kill(now, Millis(self.timing.shutdown_grace_ms), out);
    }

    /// Ends the task on request.
    fn kill(&mut self, now: Now, grace: Millis, out: &mut Out) {
        if !self.life.kill(now.mono, grace, out) {
            return;
        }
        if let Some(task) = &mut self.task {
            task.killed = true;
            task.checks.stop(out);
        }
        if self.wants_killing {
            self.update(now, TaskState::Killing, |_| {}, out);
        }
    }

    fn on_check(&mut self, now: Now, kind: CheckKind, run: u64, outcome: Outcome, out: &mut Out) {
        let Some(task) = &mut self.task else {
            return;
        };
        let verdict = task.checks.on_outcome(now.mono, kind, run, outcome);
        self.on_verdict(now, verdict, out);
    }

    fn on_verdict(&mut self, now: Now, verdict: Verdict, out: &mut Out) {
        let reason = match verdict {
            Verdict::Nothing => return,
            Verdict::Check => Reason::TaskCheckStatusUpdated,
            Verdict::Health { .. } => Reason::TaskHealthCheckStatusUpdated,
        };
        let state = TaskState::Running;
        self.update(now, state, |s| s.reason = Some(reason as i32), out);
        if verdict == (Verdict::Health { kill: true }) {
            if let Some(task) = &mut self.task {
                task.unhealthy = true;
            }
            let grace = self.task.as_ref().and_then(|task| task.grace);
            self.kill(now, grace.unwrap_or(Millis(self.timing.kill_grace_ms)), out);
        }
    }

    fn on_step(&mut self, now: Now, step: Option<Step>, out: &mut Out) {
        match step {
            None => {}
            Some(Step::Running) => self.on_running(now, out),
            Some(Step::Over {
                ended,
                memory,
                leftovers,
            }) => self.on_over(now, &ended, memory, leftovers, out),
        }
    }

    fn on_running(&mut self, now: Now, out: &mut Out) {
        self.update(now, TaskState::Running, |_| {}, out);
        if let Some(task) = &mut self.task {
            task.complete_by = task.max_completion.map(|span| now.mono + span);
            if !task.killed {
                task.checks.start(now.mono);
            }
        }
    }

    fn on_over(
        &mut self,
        now: Now,
        ended: &Ended,
        memory: MemoryReport,
        leftovers: bool,
        out: &mut Out,
    ) {
        let Some(task) = &mut self.task else {
            return;
        };
        task.checks.stop(out);
        let (killed, overdue, unhealthy) = (task.killed, task.overdue, task.unhealthy);
        let well = *ended == Ended::Process(How::Exited(0));
        let out_of_memory = memory.kills > 0 && !killed && !overdue && !well;
        let (how, mut message) = describe(ended);
        if out_of_memory {
            message = words::out_of_memory(memory.limit_bytes, memory.peak_bytes);
        }
        if leftovers {
            message.push_str(LEFTOVERS_WORDS);
        }
        let (state, reason) = match ended {
            _ if overdue => (TaskState::Failed, Some(Reason::MaxCompletionTimeReached)),
            // A service that ends well when asked was killed all the same: it would have gone on.
            _ if killed => (TaskState::Killed, None),
            _ if well => (TaskState::Finished, None),
            _ if out_of_memory => (TaskState::Failed, Some(Reason::ContainerLimitationMemory)),
            Ended::NotStarted(_) => (TaskState::Failed, Some(Reason::ContainerLaunchFailed)),
            Ended::Lost => (TaskState::Failed, Some(Reason::ExecutorTerminated)),
            Ended::Process(_) => (TaskState::Failed, None),
        };
        // First where it survives us, then to the agent.
        out.push(Output::Record(End {
            how,
            message: message.clone(),
            out_of_memory,
            killed: killed || overdue,
        }));
        let fill = |status: &mut v1::TaskStatus| {
            status.message = Some(message);
            status.reason = reason.map(|reason| reason as i32);
            if unhealthy {
                status.healthy = Some(false);
            }
            if out_of_memory {
                status.limitation = Some(memory_limitation(memory));
            }
        };
        self.ended = true;
        self.linger(now);
        self.update(now, state, fill, out);
    }

    /// Reports on the task. What checks found so far is said with each RUNNING.
    fn update(
        &mut self,
        now: Now,
        state: TaskState,
        fill: impl FnOnce(&mut v1::TaskStatus),
        out: &mut Out,
    ) {
        let Some(task) = &self.task else {
            return;
        };
        let mut status = v1::TaskStatus {
            task_id: task.id.to_wire(),
            state: state as i32,
            ..Default::default()
        };
        if state == TaskState::Running {
            status.healthy = task.checks.healthy();
        }
        if matches!(state, TaskState::Running | TaskState::Killing) || state.is_terminal() {
            status.check_status = task.checks.check_status();
        }
        fill(&mut status);
        self.drive(now, DriverInput::Update(Box::new(status)), out);
    }

    /// What is due by now.
    fn on_time(&mut self, now: Now, out: &mut Out) {
        self.on_overdue(now, out);
        let verdicts = match &mut self.task {
            Some(task) => task.checks.on_time(now.mono, out),
            None => Vec::new(),
        };
        for verdict in verdicts {
            self.on_verdict(now, verdict, out);
        }
        let step = self.life.on_time(now.mono, out);
        self.on_step(now, step, out);
        if self.may_leave(now) && !std::mem::replace(&mut self.left, true) {
            out.push(Output::Leave);
        }
    }

    fn on_overdue(&mut self, now: Now, out: &mut Out) {
        let Some(task) = &mut self.task else {
            return;
        };
        let due = task.complete_by.is_some_and(|at| at <= now.mono);
        if !due || task.overdue || !self.life.is_alive() {
            return;
        }
        task.overdue = true;
        task.checks.stop(out);
        // A task that had all its time gets no grace on top; one that is being killed already loses the rest of its.
        self.life.kill(now.mono, Millis::ZERO, out);
    }

    fn may_leave(&self, now: Now) -> bool {
        if !self.ended || self.life.is_alive() {
            return false;
        }
        let all_heard = self.driver.unacknowledged() == 0 || self.driver.is_over();
        let agent_gone = self.shutdown == Some(ShutdownReason::AgentGone);
        let waited = self.linger_until.is_some_and(|at| at <= now.mono);
        all_heard || agent_gone || waited
    }
}

/// The limit that was broken, as a resource.
fn memory_limitation(memory: MemoryReport) -> v1::TaskResourceLimitation {
    let mem = memory.limit_bytes.map(|bytes| v1::Resource {
        name: "mem".to_owned(),
        r#type: v1::value::Type::Scalar as i32,
        scalar: Some(v1::value::Scalar {
            value: (bytes >> 20) as f64,
        }),
        ..Default::default()
    });
    v1::TaskResourceLimitation {
        resources: mem.into_iter().collect(),
    }
}
