//! A framework as the core knows it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use mezzo_model::ids::{AgentId, FrameworkId, StreamId, TaskId};
use mezzo_model::{Role, Wall};
use mezzo_wire::v1;
use mezzo_wire::v1::scheduler::OfferConstraints;

use crate::keys::{AgentKey, ConnId, FrameworkKey, OfferKey};
use crate::read_model::FrameworkView;
use crate::validate::framework::Profile;

/// Whether a framework's scheduler is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// Its stream is open.
    Connected {
        /// The stream.
        conn: ConnId,
        /// The id that its calls must carry.
        stream: StreamId,
    },
    /// It was subscribed with this master, and may come back.
    Disconnected,
    /// Agents spoke of it; it has not subscribed with this master.
    Recovered,
}

/// A task on an agent that cannot be reached.
#[derive(Clone, Debug)]
pub(super) struct LostTask {
    pub agent: AgentId,
    pub since: Wall,
}

/// A framework.
#[derive(Debug)]
pub(super) struct Framework {
    pub key: FrameworkKey,
    pub id: FrameworkId,
    pub profile: Profile,
    /// The description with the id filled in, as agents and readers get it.
    pub info: Arc<v1::FrameworkInfo>,
    pub constraints: Option<Arc<OfferConstraints>>,
    pub presence: Presence,
    pub offers: BTreeSet<OfferKey>,
    /// Live tasks, terminal and unacknowledged ones included.
    pub tasks: BTreeMap<TaskId, AgentKey>,
    pub unreachable: BTreeMap<TaskId, LostTask>,
    unreachable_by_age: VecDeque<TaskId>,
    pub registered: Wall,
    pub reregistered: Option<Wall>,
    pub unregistered: Option<Wall>,
}

impl Framework {
    pub fn new(
        key: FrameworkKey,
        id: FrameworkId,
        profile: Profile,
        presence: Presence,
        now: Wall,
    ) -> Self {
        let mut framework = Self {
            key,
            info: Arc::default(),
            id,
            constraints: None,
            profile: profile.clone(),
            presence,
            offers: BTreeSet::new(),
            tasks: BTreeMap::new(),
            unreachable: BTreeMap::new(),
            unreachable_by_age: VecDeque::new(),
            registered: now,
            reregistered: None,
            unregistered: None,
        };
        framework.set_profile(profile);
        framework
    }

    /// Replaces the description.
    pub fn set_profile(&mut self, mut profile: Profile) {
        profile.info.id = Some(self.id.to_wire());
        self.info = Arc::new(profile.info.clone());
        self.constraints = profile.offer_constraints.clone().map(Arc::new);
        self.profile = profile;
    }

    /// The stream, if it is open.
    pub fn conn(&self) -> Option<ConnId> {
        match &self.presence {
            Presence::Connected { conn, .. } => Some(*conn),
            Presence::Disconnected | Presence::Recovered => None,
        }
    }

    pub fn is_partition_aware(&self) -> bool {
        self.profile.capabilities.partition_aware
    }

    /// The roles that a call means: those it names, or all.
    pub fn roles_of_call(&self, named: &[String]) -> Option<Vec<Role>> {
        if named.is_empty() {
            return Some(self.profile.roles.clone());
        }
        named
            .iter()
            .map(|name| {
                self.profile
                    .roles
                    .iter()
                    .find(|role| role.as_str() == name)
                    .cloned()
            })
            .collect()
    }

    /// Remembers a task as unreachable; gives back the one that is forgotten for it.
    pub fn lose(&mut self, task: TaskId, lost: LostTask, most: usize) -> Option<TaskId> {
        if self.unreachable.insert(task.clone(), lost).is_none() {
            self.unreachable_by_age.push_back(task);
        }
        if self.unreachable.len() <= most {
            return None;
        }
        let oldest = self.unreachable_by_age.pop_front()?;
        self.unreachable.remove(&oldest);
        Some(oldest)
    }

    /// Forgets that a task is unreachable; whether it was.
    pub fn find_again(&mut self, task: &TaskId) -> bool {
        let was = self.unreachable.remove(task).is_some();
        if was {
            self.unreachable_by_age.retain(|other| other != task);
        }
        was
    }

    pub fn view(&self) -> FrameworkView {
        let connected = self.conn().is_some();
        FrameworkView {
            key: self.key,
            id: self.id.clone(),
            info: self.info.clone(),
            active: connected,
            connected,
            recovered: self.presence == Presence::Recovered,
            registered: self.registered,
            reregistered: self.reregistered,
            unregistered: self.unregistered,
            offer_constraints: self.constraints.clone(),
        }
    }
}
