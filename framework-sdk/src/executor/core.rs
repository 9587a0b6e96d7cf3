//! The executor driver: subscription, acknowledgements and the way back to an agent that went away, as a pure core.
//!
//! It keeps every update until the agent acknowledged it and says it again at each subscription, so that no report on a
//! task is lost while the agent restarts. Rule: the executor half of the Mesos v1 executor API.
//! Invariant: no socket, clock or random source here. The shell dials when told and hands in what it hears; the driver
//! never decides about a task.

mod pending;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use mezzo_model::ids::TaskId;
use mezzo_model::rng::Rng;
use mezzo_model::{Millis, Now, TaskState};
use mezzo_wire::v1;
use mezzo_wire::v1::executor::{Call, Event, call, event};

use pending::Pending;

/// How long an executor that was never subscribed tries at least.
const REGISTRATION_MS: Millis = Millis::from_secs(60);
/// Both sides beat a heart at this pace, as Mesos does.
const HEARTBEAT_MS: Millis = Millis::from_secs(30 * 60);
/// First pause between two attempts; it doubles.
const PAUSE_FIRST: Millis = Millis(2);
/// Attempts after the socket appeared, before the driver waits for it to appear again.
const TRIES_MAX: u32 = 12;

/// Who the driver speaks for, and how patient it is.
#[derive(Debug, Clone)]
pub struct CoreSettings {
    /// The framework's id.
    pub framework_id: String,
    /// The executor's id.
    pub executor_id: String,
    /// How long to live without an agent before the executor is told to end; zero: not at all.
    pub recovery_timeout: Millis,
    /// Longest pause between two attempts to subscribe.
    pub backoff_max: Millis,
    /// For update ids and jitter; every executor process needs another one.
    pub seed: u64,
}

/// What happens to the driver.
#[derive(Debug, Clone, PartialEq)]
pub enum DriverInput {
    /// The process started.
    Start,
    /// The agent took the hello.
    Connected,
    /// The agent refused the hello: it knows no such executor.
    Refused(String),
    /// Nobody listens at the socket; if `watched`, [`DriverInput::Appeared`] will tell of a change.
    Unreachable {
        /// Whether the socket's directory is watched.
        watched: bool,
    },
    /// Something changed where the socket should be.
    Appeared,
    /// A connection broke: why.
    Disconnected(String),
    /// The agent said something.
    Event(Box<Event>),
    /// The executor reports on a task. The driver sets `uuid`, `timestamp`, `source` and `executor_id`.
    Update(Box<v1::TaskStatus>),
    /// The executor has bytes for its framework's scheduler.
    Message(Bytes),
    /// Time passed.
    Tick,
}

/// What the shell is to do, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum DriverOutput {
    /// Dial the agent's socket (again).
    Connect,
    /// Send a call on the open connection.
    Send(Box<Call>),
    /// Tell the executor.
    Deliver(ExecutorEvent),
    /// A line for the log.
    Note(String),
}

/// What an executor hears.
#[derive(Debug, Clone, PartialEq)]
pub enum ExecutorEvent {
    /// The agent took the executor, for the first time or again.
    Subscribed {
        /// The executor, its framework, the agent.
        info: Box<event::Subscribed>,
        /// It was subscribed before.
        again: bool,
    },
    /// The connection is gone; the driver is on its way back and keeps every update.
    Disconnected,
    /// Run a task. Each task is delivered once.
    Launch(Box<v1::TaskInfo>),
    /// Run tasks together.
    LaunchGroup(Box<v1::TaskGroupInfo>),
    /// End a task.
    Kill {
        /// Which.
        task_id: TaskId,
        /// What the kill itself says on how.
        policy: Option<v1::KillPolicy>,
    },
    /// The agent has an update safe; it is forgotten here.
    Acknowledged {
        /// Of which task.
        task_id: TaskId,
        /// The state it reported.
        state: TaskState,
    },
    /// Bytes from the framework's scheduler.
    Message(Bytes),
    /// The agent is not content.
    Error(String),
    /// End everything and leave.
    Shutdown(ShutdownReason),
}

/// Why an executor is told to leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShutdownReason {
    /// The agent says so.
    Asked,
    /// The agent was away longer than the recovery timeout.
    AgentGone,
    /// The agent does not know this executor (any more): its words.
    Refused(String),
}

/// Where the driver stands with the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contact {
    /// Not connected since then; the next attempt at `retry_at`, or when something appears.
    Away {
        since: Millis,
        retry_at: Option<Millis>,
    },
    /// SUBSCRIBE is sent, and not yet answered.
    Subscribing { since: Millis },
    /// Taken.
    Subscribed { beat_at: Millis },
    /// The agent refused us for good.
    Over,
}

/// The driver's state.
#[derive(Debug)]
pub struct DriverCore {
    settings: CoreSettings,
    uuids: Rng,
    jitter: Rng,
    contact: Contact,
    ever_subscribed: bool,
    shutdown_told: bool,
    pause: Millis,
    tries: u32,
    pending: Pending,
    /// Tasks of which the agent has acknowledged nothing yet.
    unacknowledged_tasks: BTreeMap<TaskId, v1::TaskInfo>,
    /// Tasks delivered and not ended, so that none is delivered twice.
    launched: BTreeSet<TaskId>,
}

type Out = Vec<DriverOutput>;

impl DriverCore {
    /// A driver that was not started.
    pub fn new(settings: CoreSettings) -> Self {
        let rng = Rng::new(settings.seed);
        Self {
            uuids: rng.split("updates"),
            jitter: rng.split("backoff"),
            settings,
            contact: Contact::Away {
                since: Millis::ZERO,
                retry_at: None,
            },
            ever_subscribed: false,
            shutdown_told: false,
            pause: PAUSE_FIRST,
            tries: 0,
            pending: Pending::default(),
            unacknowledged_tasks: BTreeMap::new(),
            launched: BTreeSet::new(),
        }
    }

    /// Whether the agent has taken the executor and listens.
    pub fn is_subscribed(&self) -> bool {
        matches!(self.contact, Contact::Subscribed { .. })
    }

    /// Whether the agent refused the executor for good: nothing more can be delivered to it.
    pub fn is_over(&self) -> bool {
        self.contact == Contact::Over
    }

    /// How many updates the agent has not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.pending.len()
    }

    /// When the driver wants a [`DriverInput::Tick`], on the monotonic clock.
    pub fn next_deadline(&self) -> Option<Millis> {
        let gone_at = self.gone_at();
        match self.contact {
            Contact::Away { retry_at, .. } => [gone_at, retry_at].into_iter().flatten().min(),
            Contact::Subscribing { .. } => gone_at,
            Contact::Subscribed { beat_at } => Some(beat_at),
            Contact::Over => None,
        }
    }

    /// Takes one input and pushes what follows from it.
    pub fn handle(&mut self, now: Now, input: DriverInput, out: &mut Out) {
        match input {
            DriverInput::Start => self.on_start(now, out),
            DriverInput::Connected => self.on_connected(out),
            DriverInput::Refused(words) => self.on_refused(words, out),
            DriverInput::Unreachable { watched } => self.on_unreachable(now, watched),
            DriverInput::Appeared => self.on_appeared(out),
            DriverInput::Disconnected(words) => self.on_disconnected(now, &words, out),
            DriverInput::Event(event) => self.on_event(now, *event, out),
            DriverInput::Update(status) => self.on_update(now, *status, out),
            DriverInput::Message(data) => self.on_message(data, out),
            DriverInput::Tick => {}
        }
        self.on_time(now, out);
    }

    fn on_start(&mut self, now: Now, out: &mut Out) {
        self.contact = Contact::Away {
            since: now.mono,
            retry_at: None,
        };
        out.push(DriverOutput::Connect);
    }

    fn on_connected(&mut self, out: &mut Out) {
        let Contact::Away { since, .. } = self.contact else {
            return;
        };
        self.contact = Contact::Subscribing { since };
        let subscribe = call::Subscribe {
            unacknowledged_tasks: self.unacknowledged_tasks.values().cloned().collect(),
            unacknowledged_updates: self.pending.take_all_as_sent(),
        };
        let mut call = self.call(call::Type::Subscribe);
        call.subscribe = Some(subscribe);
        out.push(DriverOutput::Send(Box::new(call)));
    }

    fn on_refused(&mut self, words: String, out: &mut Out) {
        self.contact = Contact::Over;
        self.tell_shutdown(ShutdownReason::Refused(words), out);
    }

    fn on_unreachable(&mut self, now: Now, watched: bool) {
        if !matches!(self.contact, Contact::Away { .. }) {
            return;
        }
        self.tries += 1;
        // A watched directory tells of the next change. The few attempts before cover an agent that has bound its
        // socket and does not listen yet.
        let wait = (!watched || self.tries < TRIES_MAX).then(|| self.next_pause());
        if let Contact::Away { retry_at, .. } = &mut self.contact {
            *retry_at = wait.map(|pause| now.mono + pause);
        }
    }

    fn on_appeared(&mut self, out: &mut Out) {
        if let Contact::Away { retry_at, .. } = &mut self.contact {
            *retry_at = None;
            self.pause = PAUSE_FIRST;
            self.tries = 0;
            out.push(DriverOutput::Connect);
        }
    }

    fn on_disconnected(&mut self, now: Now, words: &str, out: &mut Out) {
        self.pending.forget_sent();
        match self.contact {
            Contact::Over | Contact::Away { .. } => {}
            Contact::Subscribed { .. } => {
                out.push(DriverOutput::Note(format!("the agent is gone: {words}")));
                self.contact = Contact::Away {
                    since: now.mono,
                    retry_at: None,
                };
                self.pause = PAUSE_FIRST;
                self.tries = 0;
                out.push(DriverOutput::Deliver(ExecutorEvent::Disconnected));
                out.push(DriverOutput::Connect);
            }
            Contact::Subscribing { since } => {
                out.push(DriverOutput::Note(format!(
                    "the agent hung up before it took us: {words}"
                )));
                let retry_at = Some(now.mono + self.next_pause());
                self.contact = Contact::Away { since, retry_at };
            }
        }
    }

    fn on_event(&mut self, now: Now, event: Event, out: &mut Out) {
        if matches!(self.contact, Contact::Away { .. } | Contact::Over) {
            return;
        }
        let kind = event.r#type();
        match kind {
            event::Type::Subscribed => self.on_subscribed(now, event.subscribed, out),
            event::Type::Launch => self.on_launch(event.launch, out),
            event::Type::LaunchGroup => self.on_launch_group(event.launch_group, out),
            event::Type::Kill => on_kill(event.kill, out),
            event::Type::Acknowledged => self.on_acknowledged(event.acknowledged, out),
            event::Type::Message => {
                if let Some(message) = event.message {
                    out.push(DriverOutput::Deliver(ExecutorEvent::Message(message.data)));
                }
            }
            event::Type::Error => {
                let words = event.error.map(|e| e.message).unwrap_or_default();
                out.push(DriverOutput::Deliver(ExecutorEvent::Error(words)));
            }
            event::Type::Shutdown => self.tell_shutdown(ShutdownReason::Asked, out),
            event::Type::Heartbeat => {}
            event::Type::Unknown => {
                out.push(DriverOutput::Note(
                    "the agent sent an event that this executor does not know".to_owned(),
                ));
            }
        }
    }

    fn on_subscribed(&mut self, now: Now, info: Option<event::Subscribed>, out: &mut Out) {
        let (Contact::Subscribing { .. }, Some(info)) = (self.contact, info) else {
            return;
        };
        self.contact = Contact::Subscribed {
            beat_at: now.mono + HEARTBEAT_MS,
        };
        self.pause = PAUSE_FIRST;
        self.tries = 0;
        let again = std::mem::replace(&mut self.ever_subscribed, true);
        out.push(DriverOutput::Deliver(ExecutorEvent::Subscribed {
            info: Box::new(info),
            again,
        }));
        // What was reported between SUBSCRIBE and SUBSCRIBED.
        for status in self.pending.take_unsent() {
            self.send_update(status, out);
        }
    }

    fn on_launch(&mut self, launch: Option<event::Launch>, out: &mut Out) {
        let Some(task) = launch.map(|launch| launch.task) else {
            return;
        };
        if self.take_launch(&task, out) {
            out.push(DriverOutput::Deliver(ExecutorEvent::Launch(Box::new(task))));
        }
    }

    fn on_launch_group(&mut self, launch: Option<event::LaunchGroup>, out: &mut Out) {
        let Some(mut group) = launch.map(|launch| launch.task_group) else {
            return;
        };
        group.tasks.retain(|task| self.take_launch(task, out));
        if !group.tasks.is_empty() {
            let group = Box::new(group);
            out.push(DriverOutput::Deliver(ExecutorEvent::LaunchGroup(group)));
        }
    }

    /// Whether the task is new; then it is remembered.
    fn take_launch(&mut self, task: &v1::TaskInfo, out: &mut Out) -> bool {
        match TaskId::from_wire(&task.task_id) {
            Err(error) => {
                out.push(DriverOutput::Note(format!("a launch is ignored: {error}")));
                false
            }
            Ok(id) if self.launched.contains(&id) => {
                out.push(DriverOutput::Note(format!(
                    "task '{id}' is launched already; the second launch is ignored"
                )));
                false
            }
            Ok(id) => {
                self.launched.insert(id.clone());
                self.unacknowledged_tasks.insert(id, task.clone());
                true
            }
        }
    }

    fn on_acknowledged(&mut self, acknowledged: Option<event::Acknowledged>, out: &mut Out) {
        let Some(event::Acknowledged { task_id, uuid }) = acknowledged else {
            return;
        };
        let Some(status) = self.pending.acknowledge(&task_id.value, &uuid) else {
            return;
        };
        let Ok(task_id) = TaskId::from_wire(&task_id) else {
            return;
        };
        self.unacknowledged_tasks.remove(&task_id);
        let state = pending::state(&status);
        if state.is_terminal() {
            self.launched.remove(&task_id);
        }
        out.push(DriverOutput::Deliver(ExecutorEvent::Acknowledged {
            task_id,
            state,
        }));
    }

    fn on_update(&mut self, now: Now, mut status: v1::TaskStatus, out: &mut Out) {
        if pending::state(&status) == TaskState::Staging {
            out.push(DriverOutput::Note(
                "an executor cannot report TASK_STAGING; the update is dropped".to_owned(),
            ));
            return;
        }
        status.uuid = Some(Bytes::copy_from_slice(&self.uuids.uuid_bytes()));
        status.timestamp = Some(now.wall.as_secs_f64());
        status.source = Some(v1::task_status::Source::Executor as i32);
        status.executor_id = Some(v1::ExecutorId {
            value: self.settings.executor_id.clone(),
        });
        let sent = self.is_subscribed();
        if let Some(dropped) = self.pending.push(status.clone(), sent) {
            out.push(DriverOutput::Note(format!(
                "too many unacknowledged updates: one of task '{}' is dropped for its successors",
                dropped.task_id.value
            )));
        }
        if sent {
            self.send_update(status, out);
        }
    }

    fn on_message(&mut self, data: Bytes, out: &mut Out) {
        if !self.is_subscribed() {
            out.push(DriverOutput::Note(
                "a message to the framework is dropped: the agent is away".to_owned(),
            ));
            return;
        }
        let mut call = self.call(call::Type::Message);
        call.message = Some(call::Message { data });
        out.push(DriverOutput::Send(Box::new(call)));
    }

    /// What is due by now, whatever the input was.
    fn on_time(&mut self, now: Now, out: &mut Out) {
        if self.gone_at().is_some_and(|at| at <= now.mono) {
            self.tell_shutdown(ShutdownReason::AgentGone, out);
        }
        match &mut self.contact {
            Contact::Away { retry_at, .. } if retry_at.is_some_and(|at| at <= now.mono) => {
                *retry_at = None;
                out.push(DriverOutput::Connect);
            }
            Contact::Subscribed { beat_at } if *beat_at <= now.mono => {
                *beat_at = now.mono + HEARTBEAT_MS;
                let call = self.call(call::Type::Heartbeat);
                out.push(DriverOutput::Send(Box::new(call)));
            }
            _ => {}
        }
    }

    /// When the agent counts as gone; `None` while it is there, or once the executor was told to leave.
    fn gone_at(&self) -> Option<Millis> {
        let (Contact::Away { since, .. } | Contact::Subscribing { since }) = self.contact else {
            return None;
        };
        let patience = if self.ever_subscribed {
            self.settings.recovery_timeout
        } else {
            self.settings.recovery_timeout.max(REGISTRATION_MS)
        };
        (!self.shutdown_told).then_some(since + patience)
    }

    fn tell_shutdown(&mut self, reason: ShutdownReason, out: &mut Out) {
        if !std::mem::replace(&mut self.shutdown_told, true) {
            out.push(DriverOutput::Deliver(ExecutorEvent::Shutdown(reason)));
        }
    }

    fn next_pause(&mut self) -> Millis {
        let pause = self.pause.min(self.settings.backoff_max.max(PAUSE_FIRST));
        self.pause = pause * 2;
        let half = Millis(pause.0 / 2);
        half + self.jitter.jitter(pause - half)
    }

    fn send_update(&self, status: v1::TaskStatus, out: &mut Out) {
        let mut call = self.call(call::Type::Update);
        call.update = Some(call::Update { status });
        out.push(DriverOutput::Send(Box::new(call)));
    }

    fn call(&self, kind: call::Type) -> Call {
        Call {
            executor_id: v1::ExecutorId {
                value: self.settings.executor_id.clone(),
            },
            framework_id: v1::FrameworkId {
                value: self.settings.framework_id.clone(),
            },
            r#type: Some(kind as i32),
            ..Default::default()
        }
    }
}

fn on_kill(kill: Option<event::Kill>, out: &mut Out) {
    let Some(event::Kill {
        task_id,
        kill_policy: policy,
    }) = kill
    else {
        return;
    };
    match TaskId::from_wire(&task_id) {
        Ok(task_id) => out.push(DriverOutput::Deliver(ExecutorEvent::Kill {
            task_id,
            policy,
        })),
        Err(error) => out.push(DriverOutput::Note(format!("a kill is ignored: {error}"))),
    }
}

#[cfg(test)]
mod tests;
