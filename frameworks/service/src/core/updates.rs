//! What the driver says: subscriptions, and the states of tasks.
//!
//! Policy for tasks that the records do not expect: an incarnation that was replaced, or an instance that was given
//! up, is killed, for the records say that it must not run. A task whose name is ours and of which no record is
//! left is put in quarantine: acknowledged, counted, shown in the log, and left alone. Nothing else is ever killed.
//!
//! Invariant: a status is acknowledged once what it changed is durable.

use mezzo_model::TaskState;
use mezzo_model::ids::{AgentId, FrameworkId};
use mezzo_sdk::scheduler::{AckToken, SchedulerCommand, SchedulerEvent};
use mezzo_wire::v1;

use super::Core;
use super::instance::{Goal, InstanceId, Phase};
use super::io::{NoteLevel, Output};
use super::request::TaskFailure;
use super::version::Version;
use crate::store::{failure_record, keys};

/// The most tasks in quarantine that are remembered by name.
const MAX_QUARANTINE: usize = 10_000;
/// The most of a status' message that is kept, in characters.
const MAX_MESSAGE: usize = 1024;

impl Core {
    /// The driver says something.
    pub(super) fn on_scheduler(&mut self, event: SchedulerEvent, out: &mut Vec<Output>) {
        match event {
            SchedulerEvent::Subscribed {
                framework_id,
                resubscribed,
            } => {
                self.on_subscribed(framework_id, resubscribed, out);
            }
            SchedulerEvent::Offers(offers) => self.on_offers(&offers, out),
            // Nothing is held back for later: an accept that is on its way to a void offer is answered by a status.
            SchedulerEvent::Rescind(_) | SchedulerEvent::Message { .. } => {}
            SchedulerEvent::Update { status, ack } => {
                self.counters.updates += 1;
                self.on_update(&status, out);
                if ack.needed() {
                    self.acknowledge(ack, out);
                }
            }
            SchedulerEvent::Failure {
                agent: Some(agent),
                executor: None,
                ..
            } => {
                self.note(NoteLevel::Info, format!("agent {agent} is lost"), out);
            }
            SchedulerEvent::Failure { .. } => {}
            SchedulerEvent::Disconnected => {
                self.connected = false;
                self.note(NoteLevel::Warn, "the subscription was lost", out);
            }
            SchedulerEvent::Refused { message, fatal } => {
                let level = if fatal {
                    NoteLevel::Error
                } else {
                    NoteLevel::Warn
                };
                self.note(level, format!("the master refuses: {message}"), out);
                if fatal {
                    out.push(Output::DriverEnded { words: message });
                }
            }
        }
    }

    fn acknowledge(&mut self, ack: AckToken, out: &mut Vec<Output>) {
        self.after(Output::Scheduler(SchedulerCommand::Acknowledge(ack)), out);
    }

    fn on_subscribed(&mut self, id: FrameworkId, resubscribed: bool, out: &mut Vec<Output>) {
        let again = if resubscribed { "again " } else { "" };
        self.note(
            NoteLevel::Info,
            format!("subscribed {again}as framework {id}"),
            out,
        );
        self.framework_id = Some(id);
        self.connected = true;
        self.demand.asked = None;
        self.reconcile(out);
    }

    fn on_update(&mut self, status: &v1::TaskStatus, out: &mut Vec<Output>) {
        let task = status.task_id.value.as_str();
        let Some(state) = TaskState::from_number(status.state) else {
            return self.note(
                NoteLevel::Warn,
                format!("task {task} has a state that is not known"),
                out,
            );
        };
        let Some((id, incarnation)) = InstanceId::of_task(task) else {
            return self.on_foreign(task, state, out);
        };
        let Some(instance) = self.instances.get(&id) else {
            return self.on_foreign(task, state, out);
        };
        if incarnation < instance.incarnation {
            return self.on_replaced(status, state, out);
        }
        if incarnation > instance.incarnation || instance.phase == Phase::Scheduled {
            return self.on_foreign(task, state, out);
        }
        match state {
            TaskState::Staging => self.on_progress(&id, Phase::Staging, status, out),
            TaskState::Starting => self.on_progress(&id, Phase::Starting, status, out),
            TaskState::Running => self.on_progress(&id, Phase::Running, status, out),
            TaskState::Killing => self.on_progress(&id, Phase::Killing, status, out),
            TaskState::Unreachable => self.on_unreachable(&id, status, out),
            TaskState::Lost if lost_for_now(status) => self.on_unreachable(&id, status, out),
            TaskState::Lost | TaskState::Unknown => self.on_ended(&id, state, false, status, out),
            TaskState::Finished
            | TaskState::Failed
            | TaskState::Killed
            | TaskState::Error
            | TaskState::Dropped
            | TaskState::Gone
            | TaskState::GoneByOperator => self.on_ended(&id, state, true, status, out),
        }
    }

    /// A task of which there is no record.
    fn on_foreign(&mut self, task: &str, state: TaskState, out: &mut Vec<Output>) {
        if state.is_terminal() || state == TaskState::Unknown {
            self.quarantine.remove(task);
            return;
        }
        if self.quarantine.len() < MAX_QUARANTINE && self.quarantine.insert(task.to_owned()) {
            self.note(
                NoteLevel::Warn,
                format!(
                    "task {task} ({state}) is not in the records; it is left alone, in quarantine"
                ),
                out,
            );
        }
    }

    /// A task that was replaced by a later incarnation.
    fn on_replaced(&mut self, status: &v1::TaskStatus, state: TaskState, out: &mut Vec<Output>) {
        let is_there = matches!(
            state,
            TaskState::Staging | TaskState::Starting | TaskState::Running
        );
        let Ok(task) = mezzo_model::ids::TaskId::from_wire(&status.task_id) else {
            return;
        };
        if is_there {
            self.note(
                NoteLevel::Warn,
                format!("task {task} was replaced and is back; ending it"),
                out,
            );
            let agent = status
                .agent_id
                .as_ref()
                .and_then(|id| AgentId::from_wire(id).ok());
            self.counters.kills += 1;
            let command = SchedulerCommand::Kill {
                task,
                agent,
                policy: None,
            };
            self.after(Output::Scheduler(command), out);
        }
    }

    /// A task came a step further, or came back.
    fn on_progress(
        &mut self,
        id: &InstanceId,
        phase: Phase,
        status: &v1::TaskStatus,
        out: &mut Vec<Output>,
    ) {
        let now = self.now.mono;
        let wall = Version::from(self.now.wall);
        let Some(instance) = self.instances.get_mut(id) else {
            return;
        };
        let before = (
            instance.phase,
            instance.addresses.clone(),
            instance.healthy_by_executor,
        );
        let is_back = matches!(instance.phase, Phase::Unreachable { .. } | Phase::Expunged);
        let is_expunged = instance.phase == Phase::Expunged;
        // A late word of an earlier step does not undo a later one.
        let is_late = !is_back && rank(phase) < rank(instance.phase);
        if !is_late && !is_expunged {
            instance.enter(phase, now);
            instance.unreachable_since = None;
        }
        if let Some(healthy) = status.healthy {
            instance.healthy_by_executor = Some(healthy);
        }
        if phase == Phase::Running {
            instance.started_at.get_or_insert(wall);
            let addresses = addresses(status);
            if !addresses.is_empty() {
                instance.addresses = addresses;
            }
        }
        let changed = before
            != (
                instance.phase,
                instance.addresses.clone(),
                instance.healthy_by_executor,
            );
        let must_end = is_back && instance.kill.is_some();
        let spec = instance.spec.clone();
        if instance.phase == Phase::Running && instance.kill.is_none() {
            let (host, ports) = (instance.place.host.clone(), instance.place.ports.clone());
            self.health.watch(id, &spec, &host, &ports, now);
        }
        self.delays.progressed(&spec, now);
        if changed {
            self.put_instance(id);
            self.dirty.insert(id.app().clone());
            self.arm(id);
        }
        if must_end {
            self.note(
                NoteLevel::Info,
                format!("{id} is back and was given up; ending it"),
                out,
            );
            self.send_kill(id, out);
        }
    }

    fn on_unreachable(&mut self, id: &InstanceId, status: &v1::TaskStatus, out: &mut Vec<Output>) {
        let now = self.now.mono;
        let since = status
            .unreachable_time
            .as_ref()
            .map_or(self.now.wall, |time| {
                mezzo_model::Wall::from_nanos(time.nanoseconds)
            });
        let Some(instance) = self.instances.get_mut(id) else {
            return;
        };
        if matches!(instance.phase, Phase::Unreachable { .. } | Phase::Expunged) {
            return;
        }
        let phase = match instance.goal {
            Goal::Running => Phase::Unreachable { inactive: false },
            Goal::Decommissioned => Phase::Expunged,
        };
        instance.enter(phase, now);
        instance.unreachable_since = Some(Version::from(since));
        self.health.unwatch(id);
        self.note(NoteLevel::Warn, format!("{id} cannot be reached"), out);
        self.put_instance(id);
        self.arm(id);
        self.dirty.insert(id.app().clone());
    }

    /// A task ended. `definite`: it will never come back.
    fn on_ended(
        &mut self,
        id: &InstanceId,
        state: TaskState,
        definite: bool,
        status: &v1::TaskStatus,
        out: &mut Vec<Output>,
    ) {
        let now = self.now.mono;
        self.health.unwatch(id);
        self.dirty.insert(id.app().clone());
        let Some(instance) = self.instances.get_mut(id) else {
            return;
        };
        let runs_on = instance.goal == Goal::Running && instance.phase != Phase::Expunged;
        if runs_on {
            let failure = failure(instance, state, status, Version::from(self.now.wall));
            let spec = instance.spec.clone();
            instance.reschedule(now);
            if delays_the_next(state, status) {
                self.delays.failed(&spec, now);
            }
            if is_failure(state) {
                self.remember_failure(failure, out);
            }
            self.put_instance(id);
            self.arm(id);
        } else if definite {
            self.remove_instance(id);
        } else if instance.phase != Phase::Expunged {
            instance
                .unreachable_since
                .get_or_insert(Version::from(self.now.wall));
            instance.enter(Phase::Expunged, now);
            self.put_instance(id);
            self.arm(id);
        }
        self.demand.fresh = true;
    }
}

impl Core {
    fn remember_failure(&mut self, failure: TaskFailure, out: &mut Vec<Output>) {
        let words = format!(
            "{} ended: {} {}",
            failure.task, failure.state, failure.message
        );
        self.note(NoteLevel::Warn, words, out);
        self.journal
            .put(keys::failure(&failure.app), failure_record(&failure));
        if let Some(app) = self.apps.get_mut(&failure.app) {
            app.last_failure = Some(failure);
        }
    }
}

/// The order of steps in a task's life.
fn rank(phase: Phase) -> u8 {
    match phase {
        Phase::Scheduled => 0,
        Phase::Provisioned => 1,
        Phase::Staging => 2,
        Phase::Starting => 3,
        Phase::Running => 4,
        Phase::Killing => 5,
        Phase::Unreachable { .. } | Phase::Expunged => 0,
    }
}

/// Reasons for TASK_LOST that mean what TASK_UNREACHABLE means.
fn lost_for_now(status: &v1::TaskStatus) -> bool {
    use v1::task_status::Reason;
    matches!(
        status
            .reason
            .and_then(|reason| Reason::try_from(reason).ok()),
        Some(Reason::Reconciliation | Reason::AgentDisconnected | Reason::AgentRemoved)
    )
}

/// Ends that an app's owner wants to hear of.
fn is_failure(state: TaskState) -> bool {
    !matches!(state, TaskState::Killed | TaskState::Finished)
}

/// Whether the next launch is delayed: every end but a kill, unless the app is not to blame, because the offer was
/// void or the agent is gone for reasons of its own.
fn delays_the_next(state: TaskState, status: &v1::TaskStatus) -> bool {
    use v1::task_status::Reason;
    let reason = status
        .reason
        .and_then(|reason| Reason::try_from(reason).ok());
    match state {
        TaskState::Dropped => !matches!(
            reason,
            Some(
                Reason::InvalidOffers
                    | Reason::MasterDisconnected
                    | Reason::Reconciliation
                    | Reason::AgentRemoved
                    | Reason::AgentDisconnected
            )
        ),
        TaskState::Gone | TaskState::GoneByOperator => false,
        TaskState::Killed | TaskState::Unknown | TaskState::Lost => false,
        _ => true,
    }
}

fn addresses(status: &v1::TaskStatus) -> Vec<String> {
    let infos = status
        .container_status
        .iter()
        .flat_map(|status| &status.network_infos);
    let found = infos
        .flat_map(|info| &info.ip_addresses)
        .filter_map(|ip| ip.ip_address.clone());
    found.take(16).collect()
}

fn failure(
    instance: &super::Instance,
    state: TaskState,
    status: &v1::TaskStatus,
    at: Version,
) -> TaskFailure {
    TaskFailure {
        app: instance.id.app().clone(),
        host: instance.place.host.clone(),
        message: status
            .message
            .as_deref()
            .unwrap_or_default()
            .chars()
            .take(MAX_MESSAGE)
            .collect(),
        state: state.as_str().to_owned(),
        task: status.task_id.value.clone(),
        timestamp: at,
        version: instance.spec.version,
        agent: instance.place.agent.as_ref().map(ToString::to_string),
    }
}
