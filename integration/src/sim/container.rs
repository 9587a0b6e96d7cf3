//! A container of the simulation: an executor process (the SDK's driver core and the least command executor around it)
//! and its payload. It outlives its agent, as a real one does.
//!
//! A payload's behaviour is written in the task's command: `forever`, `run:<ms>` or `fail:<ms>`.

use mezzo_model::ids::{ExecutorId, FrameworkId, TaskId};
use mezzo_model::rng::Rng;
use mezzo_model::time::{Millis, Now};
use mezzo_sdk::executor::core::{
    CoreSettings, DriverCore, DriverInput, DriverOutput, ExecutorEvent,
};
use mezzo_wire::v1::executor::{Call, Event};
use mezzo_wire::v1::{self, TaskState};

use super::payload::Step;

/// How long a payload that ignores SIGTERM lives after it: the kill grace period.
const GRACE_MS: u64 = 3_000;

/// What the machine is to do for a container.
#[derive(Debug)]
pub enum Act {
    /// Dial the agent's socket.
    Dial,
    /// Send a call to the agent.
    Send(Box<Call>),
    /// Come back to the container after so many milliseconds.
    Later(u64, Step),
    /// The payload of this task began.
    Began(TaskId),
    /// The payload of this task is gone.
    Over(TaskId),
}

#[derive(Debug, PartialEq, Eq)]
enum Payload {
    None,
    Starting,
    Runs,
    Ended,
}

/// One container.
#[derive(Debug)]
pub struct Container {
    /// Whose it is.
    pub framework: FrameworkId,
    /// The executor in it.
    pub executor: ExecutorId,
    driver: DriverCore,
    task: Option<v1::TaskInfo>,
    payload: Payload,
    killed: bool,
    /// Its last update is acknowledged, or nobody wants it any more.
    leaving: bool,
    /// The process is gone.
    pub dead: bool,
    armed: Option<Millis>,
}

impl Container {
    /// A container whose executor has just started.
    pub fn new(framework: FrameworkId, executor: ExecutorId, seed: u64) -> Self {
        let settings = CoreSettings {
            framework_id: framework.as_str().to_owned(),
            executor_id: executor.as_str().to_owned(),
            recovery_timeout: Millis::from_secs(15 * 60),
            backoff_max: Millis::from_secs(2),
            seed,
        };
        Self {
            framework,
            executor,
            driver: DriverCore::new(settings),
            task: None,
            payload: Payload::None,
            killed: false,
            leaving: false,
            dead: false,
            armed: None,
        }
    }

    /// The task whose payload lives in it.
    pub fn living_task(&self) -> Option<TaskId> {
        let lives = self.payload == Payload::Runs && !self.dead;
        self.task
            .as_ref()
            .filter(|_| lives)
            .and_then(|task| TaskId::from_wire(&task.task_id).ok())
    }

    /// Hands something to the executor's driver.
    pub fn drive(&mut self, now: Now, rng: &mut Rng, input: DriverInput, acts: &mut Vec<Act>) {
        if self.dead {
            return;
        }
        let mut out = Vec::new();
        self.driver.handle(now, input, &mut out);
        for output in out {
            match output {
                DriverOutput::Connect => acts.push(Act::Dial),
                DriverOutput::Send(call) => acts.push(Act::Send(call)),
                DriverOutput::Deliver(event) => self.on_event(now, rng, event, acts),
                DriverOutput::Note(_) => {}
            }
        }
        self.arm(now, acts);
    }

    /// An event from the agent.
    pub fn event(&mut self, now: Now, rng: &mut Rng, event: Box<Event>, acts: &mut Vec<Act>) {
        self.drive(now, rng, DriverInput::Event(event), acts);
    }

    /// Something it planned.
    pub fn step(&mut self, now: Now, rng: &mut Rng, step: Step, acts: &mut Vec<Act>) {
        if self.dead {
            return;
        }
        match step {
            Step::Begin => self.drive(now, rng, DriverInput::Start, acts),
            Step::PayloadStarts => self.on_starts(now, rng, acts),
            Step::PayloadEnds => self.on_ends(now, rng, acts),
            Step::PayloadObeys => {
                if self.payload == Payload::Runs {
                    self.payload = Payload::Ended;
                    self.over(acts);
                    self.report(now, rng, TaskState::TaskKilled, acts);
                }
            }
            Step::Wake => {
                self.armed = None;
                self.drive(now, rng, DriverInput::Tick, acts);
            }
            Step::Gone => {}
        }
    }

    /// Everything in it is killed at once.
    pub fn kill(&mut self, acts: &mut Vec<Act>) {
        if self.payload == Payload::Runs {
            self.over(acts);
        }
        self.payload = Payload::Ended;
        self.dead = true;
    }

    /// Whether the executor process has nothing left to do.
    pub fn wants_to_leave(&self) -> bool {
        self.leaving && !self.dead
    }

    fn arm(&mut self, now: Now, acts: &mut Vec<Act>) {
        if let Some(due) = self.driver.next_deadline() {
            let due = due.max(Millis(now.mono.0 + 1));
            if self.armed.is_none_or(|armed| due < armed) {
                self.armed = Some(due);
                acts.push(Act::Later(due.0 - now.mono.0, Step::Wake));
            }
        }
    }

    fn over(&self, acts: &mut Vec<Act>) {
        if let Some(id) = self.task_id() {
            acts.push(Act::Over(id));
        }
    }

    fn task_id(&self) -> Option<TaskId> {
        TaskId::from_wire(&self.task.as_ref()?.task_id).ok()
    }

    fn report(&mut self, now: Now, rng: &mut Rng, state: TaskState, acts: &mut Vec<Act>) {
        let Some(task) = &self.task else { return };
        let status = v1::TaskStatus {
            task_id: task.task_id.clone(),
            state: state as i32,
            ..v1::TaskStatus::default()
        };
        self.drive(now, rng, DriverInput::Update(Box::new(status)), acts);
    }

    fn on_event(&mut self, now: Now, rng: &mut Rng, event: ExecutorEvent, acts: &mut Vec<Act>) {
        match event {
            ExecutorEvent::Launch(task) => {
                self.task = Some(*task);
                self.payload = Payload::Starting;
                self.report(now, rng, TaskState::TaskStarting, acts);
                acts.push(Act::Later(1 + rng.below(10), Step::PayloadStarts));
            }
            ExecutorEvent::Kill { .. } => self.on_kill(now, rng, acts),
            ExecutorEvent::Acknowledged { state, .. } => {
                self.leaving |= state.is_terminal();
            }
            ExecutorEvent::Shutdown(_) => {
                if self.payload == Payload::Runs {
                    self.over(acts);
                    self.payload = Payload::Ended;
                }
                self.leaving = true;
            }
            ExecutorEvent::Subscribed { .. }
            | ExecutorEvent::Disconnected
            | ExecutorEvent::LaunchGroup(_)
            | ExecutorEvent::Message(_)
            | ExecutorEvent::Error(_) => {}
        }
    }

    fn on_kill(&mut self, now: Now, rng: &mut Rng, acts: &mut Vec<Act>) {
        match self.payload {
            Payload::Starting => {
                self.killed = true;
                self.payload = Payload::Ended;
                self.report(now, rng, TaskState::TaskKilled, acts);
            }
            Payload::Runs if !self.killed => {
                self.killed = true;
                // One payload in ten ignores SIGTERM.
                let wait = if rng.below(10) == 0 {
                    GRACE_MS
                } else {
                    rng.below(500)
                };
                acts.push(Act::Later(wait, Step::PayloadObeys));
            }
            Payload::Runs | Payload::None | Payload::Ended => {}
        }
    }

    fn on_starts(&mut self, now: Now, rng: &mut Rng, acts: &mut Vec<Act>) {
        if self.payload != Payload::Starting {
            return;
        }
        self.payload = Payload::Runs;
        acts.extend(self.task_id().map(Act::Began));
        let (behaviour, ms) = behaviour(self.task.as_ref());
        if behaviour != "forever" {
            acts.push(Act::Later(ms, Step::PayloadEnds));
        }
        self.report(now, rng, TaskState::TaskRunning, acts);
    }

    fn on_ends(&mut self, now: Now, rng: &mut Rng, acts: &mut Vec<Act>) {
        if self.payload != Payload::Runs {
            return;
        }
        self.payload = Payload::Ended;
        self.over(acts);
        let failed = behaviour(self.task.as_ref()).0 == "fail";
        let state = match (self.killed, failed) {
            (true, _) => TaskState::TaskKilled,
            (false, true) => TaskState::TaskFailed,
            (false, false) => TaskState::TaskFinished,
        };
        self.report(now, rng, state, acts);
    }
}

/// What a task's command asks for: a verb and milliseconds.
fn behaviour(task: Option<&v1::TaskInfo>) -> (&str, u64) {
    let command = task
        .and_then(|task| task.command.as_ref())
        .and_then(|command| command.value.as_deref())
        .unwrap_or("forever");
    let (verb, ms) = command.split_once(':').unwrap_or((command, "0"));
    (verb, ms.parse().unwrap_or(1_000))
}
