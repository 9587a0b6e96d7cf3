//! An instance: one place of an app, which a sequence of tasks fills.
//!
//! An instance keeps its id while its tasks come and go; each task is one incarnation. Source: Marathon's task ids,
//! `<path with _>.instance-<uuid>._app.<incarnation>`.
//!
//! Invariant: a task id is used once: the incarnation is raised in the record before another launch is tried.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use mezzo_model::ids::{AgentId, TaskId};
use mezzo_model::{Millis, TaskState};

use super::app::AppSpec;
use super::app_id::AppId;
use super::version::Version;

/// The name of one instance, for good.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId {
    app: AppId,
    uuid: Arc<str>,
}

impl InstanceId {
    /// The instance of an app with a UUID in text form.
    pub fn new(app: AppId, uuid: &str) -> Self {
        Self {
            app,
            uuid: Arc::from(uuid),
        }
    }

    /// The app it belongs to.
    pub fn app(&self) -> &AppId {
        &self.app
    }

    /// The UUID in text form.
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// Reads `<safe app>.instance-<uuid>`.
    pub fn parse(text: &str) -> Option<Self> {
        let (safe, uuid) = text.rsplit_once(".instance-")?;
        let is_good = uuid.len() == 36 && uuid.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
        is_good.then_some(())?;
        Some(Self::new(AppId::from_safe(safe).ok()?, uuid))
    }

    /// The id of the task of an incarnation.
    pub fn task(&self, incarnation: u32) -> Option<TaskId> {
        TaskId::parse(&format!("{self}._app.{incarnation}")).ok()
    }

    /// Reads a task id back into its instance and incarnation. `None`: not one of ours.
    pub fn of_task(task: &str) -> Option<(Self, u32)> {
        let (instance, incarnation) = task.rsplit_once("._app.")?;
        Some((Self::parse(instance)?, incarnation.parse().ok()?))
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.instance-{}", self.app.safe(), self.uuid)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InstanceId({self})")
    }
}

/// What is wanted of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// To run; a task that ends is followed by the next.
    Running,
    /// To end and be forgotten.
    Decommissioned,
}

/// Where the present task of an instance is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// There is no task; one is to be launched.
    Scheduled,
    /// The launch is written down; whether it happened is not known yet.
    Provisioned,
    /// Somebody on the way acknowledged the launch.
    Staging,
    /// Its executor prepares it.
    Starting,
    /// It runs.
    Running,
    /// It was asked to end, and says so.
    Killing,
    /// Its agent cannot be reached.
    Unreachable {
        /// It no longer counts: a replacement may run.
        inactive: bool,
    },
    /// It was given up. Should it come back, it is killed; until then only its record is left.
    Expunged,
}

/// Why an instance's task is being killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillReason {
    /// A deployment or scaling ends the instance.
    Decommissioned,
    /// A person asked for it; the next incarnation follows.
    Requested,
    /// It failed its health checks; the next incarnation follows.
    Unhealthy,
    /// It did not come up in time; the next incarnation follows.
    Overdue,
}

/// Where a task runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The agent.
    pub agent: Option<AgentId>,
    /// Its host's name.
    pub host: String,
    /// The host's ports, in the order of the app's definitions.
    pub ports: Vec<u16>,
    /// The agent's region, if it has one.
    pub region: Option<String>,
    /// The agent's zone, if it has one.
    pub zone: Option<String>,
    /// The agent's attributes as constraints read them.
    pub attributes: BTreeMap<String, String>,
}

/// One instance.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Its name.
    pub id: InstanceId,
    /// The definition that its task was launched with.
    pub spec: Arc<AppSpec>,
    /// The present task, or the next one while scheduled; begins at 1.
    pub incarnation: u32,
    /// What is wanted.
    pub goal: Goal,
    /// Where the task is.
    pub phase: Phase,
    /// The task is to be killed. Survives a change of leader.
    pub kill: Option<KillReason>,
    /// Where the task is, or was last.
    pub place: Place,
    /// When the launch was written down.
    pub staged_at: Option<Version>,
    /// When it began to run.
    pub started_at: Option<Version>,
    /// When its agent was lost.
    pub unreachable_since: Option<Version>,
    /// Addresses that the executor reported.
    pub addresses: Vec<String>,
    /// What the executor's own check said last. Not stored: reconciliation tells it again.
    pub healthy_by_executor: Option<bool>,
    /// When the phase began, on the monotonic clock of this process. Not stored.
    pub phase_since: Millis,
    /// The accept that launches the present task was handed to the driver, by this process or an earlier one.
    pub launched: bool,
    /// When this instance is looked at again. Not stored.
    pub timer: Option<Millis>,
}

impl Instance {
    /// An instance whose first task is to be launched.
    pub fn new(id: InstanceId, spec: Arc<AppSpec>, now: Millis) -> Self {
        Self {
            id,
            spec,
            incarnation: 1,
            goal: Goal::Running,
            phase: Phase::Scheduled,
            kill: None,
            place: Place::default(),
            staged_at: None,
            started_at: None,
            unreachable_since: None,
            addresses: Vec::new(),
            healthy_by_executor: None,
            phase_since: now,
            launched: false,
            timer: None,
        }
    }

    /// The id of the present task, `None` while there is none.
    pub fn task(&self) -> Option<TaskId> {
        match self.phase {
            Phase::Scheduled => None,
            _ => self.id.task(self.incarnation),
        }
    }

    /// Whether a task exists or may exist, and is not given up.
    pub fn has_task(&self) -> bool {
        !matches!(self.phase, Phase::Scheduled | Phase::Expunged)
    }

    /// Whether the instance counts against the wanted number.
    pub fn is_present(&self) -> bool {
        self.goal == Goal::Running
            && !matches!(
                self.phase,
                Phase::Unreachable { inactive: true } | Phase::Expunged
            )
    }

    /// Whether the instance was told to end for good and has not yet. One that cannot be reached is not waited for.
    pub fn is_ending(&self) -> bool {
        self.goal == Goal::Decommissioned
            && !matches!(self.phase, Phase::Unreachable { .. } | Phase::Expunged)
    }

    /// The state as the API shows it.
    pub fn state(&self) -> TaskState {
        match self.phase {
            Phase::Scheduled | Phase::Provisioned | Phase::Staging => TaskState::Staging,
            Phase::Starting => TaskState::Starting,
            Phase::Running => TaskState::Running,
            Phase::Killing => TaskState::Killing,
            Phase::Unreachable { .. } | Phase::Expunged => TaskState::Unreachable,
        }
    }

    /// Enters a phase.
    pub fn enter(&mut self, phase: Phase, now: Millis) {
        if self.phase != phase {
            self.phase = phase;
            self.phase_since = now;
        }
    }

    /// Makes room for the next task after the present one ended.
    pub fn reschedule(&mut self, now: Millis) {
        self.incarnation = self.incarnation.saturating_add(1);
        self.enter(Phase::Scheduled, now);
        self.kill = None;
        self.started_at = None;
        self.staged_at = None;
        self.unreachable_since = None;
        self.healthy_by_executor = None;
        self.addresses.clear();
        self.launched = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_ids_have_marathons_form_and_read_back() {
        let app = AppId::parse("/a/b.c").expect("good");
        let id = InstanceId::new(app, "7a6f0c1e-0000-4000-8000-000000000001");
        let task = id.task(3).expect("fits");
        assert_eq!(
            task.as_str(),
            "a_b.c.instance-7a6f0c1e-0000-4000-8000-000000000001._app.3"
        );
        assert_eq!(InstanceId::of_task(task.as_str()), Some((id.clone(), 3)));
        assert_eq!(InstanceId::parse(&id.to_string()), Some(id));
        for foreign in [
            "",
            "web",
            "web.1",
            "a.instance-x._app.1",
            "count_2024.abc",
            "a.instance-._app.y",
        ] {
            assert_eq!(InstanceId::of_task(foreign), None, "{foreign}");
        }
    }
}
