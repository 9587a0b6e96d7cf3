//! The registry's writer: acts wait in a queue, one commit is under way at a time and takes what has gathered. What
//! depends on an act happens when its commit came back.

use std::collections::{BTreeSet, VecDeque};

use mezzo_coordination::{CommitError, Record, Txn};

use super::config::COMMIT_RETRY;
use super::timers::Timer;
use super::{Core, Cx, MAX_BATCH, NoteLevel, Output};
use crate::read_model::Change;
use crate::registry::{self, Act, AgentState};
use mezzo_model::Role;

/// The queue.
#[derive(Debug)]
pub(super) struct Registrar {
    next: u64,
    queue: VecDeque<Act>,
    under_way: Option<(u64, Vec<Act>)>,
    /// A commit's fate was unknown; wait before the next.
    paused: bool,
    batch: usize,
}

impl Default for Registrar {
    fn default() -> Self {
        Self {
            next: 0,
            queue: VecDeque::new(),
            under_way: None,
            paused: false,
            batch: MAX_BATCH,
        }
    }
}

impl Registrar {
    pub fn push(&mut self, act: Act) {
        self.queue.push_back(act);
    }

    /// Takes back acts that are not under way yet; whether one that is wanted back is under way.
    pub fn withdraw(&mut self, mut unwanted: impl FnMut(&Act) -> bool) -> bool {
        self.queue.retain(|act| !unwanted(act));
        self.under_way
            .as_ref()
            .is_some_and(|(_, acts)| acts.iter().any(unwanted))
    }

    pub fn retry(&mut self) {
        self.paused = false;
    }

    /// The next commit, if one can start: a key stands in it at most once.
    fn start(&mut self) -> Option<(u64, Txn)> {
        if self.paused || self.under_way.is_some() || self.queue.is_empty() {
            return None;
        }
        let mut txn = Txn::new();
        let mut acts = Vec::new();
        let mut keys = BTreeSet::new();
        while acts.len() < self.batch {
            let Some(act) = self.queue.front() else { break };
            let op = act.op();
            if let Some(op) = &op
                && !keys.insert(op.key().to_owned())
            {
                break;
            }
            txn.ops.extend(op);
            acts.extend(self.queue.pop_front());
        }
        self.next += 1;
        self.under_way = Some((self.next, acts));
        Some((self.next, txn))
    }

    /// The commit under way failed and may be tried again.
    fn put_back(&mut self, acts: Vec<Act>) {
        for act in acts.into_iter().rev() {
            self.queue.push_front(act);
        }
    }
}

impl Core {
    /// The registry of the term: from here on calls are taken.
    pub(super) fn on_recovered(&mut self, cx: &mut Cx<'_>, records: &[Record]) {
        if self.recovered {
            return;
        }
        let content = match registry::decode(records) {
            Ok(content) => content,
            Err(error) => {
                self.step_down(cx, error.to_string(), true);
                return;
            }
        };
        self.recovered = true;
        self.recovered_at = cx.now.wall;
        for (id, state) in content.agents {
            match state {
                AgentState::Admitted(info) => {
                    cx.change(Change::AgentAwaited(id.clone(), info.clone().into()));
                    self.awaited.insert(id, info);
                }
                AgentState::Unreachable { since } => {
                    self.unreachable.insert(id, since);
                }
                AgentState::Gone { since } => {
                    self.gone.insert(id, since);
                }
            }
        }
        for (role, weight) in content.weights {
            self.set_weight(role, weight);
        }
        if !content.is_written {
            self.registrar.push(Act::Format);
        }
        if !self.awaited.is_empty() {
            let at = cx.now.mono + self.config.agent_reregister_timeout;
            self.timers.set(Timer::Recovery, at);
        }
        cx.info(format!(
            "leading as {} with epoch {}: {} agents are awaited, {} are unreachable",
            self.issuer,
            self.config.epoch,
            self.awaited.len(),
            self.unreachable.len()
        ));
    }

    fn set_weight(&mut self, role: Role, weight: u64) {
        self.allocator.set_weight(role.clone(), weight);
        self.weights.insert(role, weight);
    }

    pub(super) fn flush_registrar(&mut self, cx: &mut Cx<'_>) {
        if let Some((id, txn)) = self.registrar.start() {
            self.counters.commits += 1;
            cx.push(Output::Commit { id, txn });
        }
    }

    pub(super) fn on_committed(
        &mut self,
        cx: &mut Cx<'_>,
        id: u64,
        result: Result<(), CommitError>,
    ) {
        let Some((expected, acts)) = self.registrar.under_way.take() else {
            return;
        };
        if expected != id {
            self.registrar.under_way = Some((expected, acts));
            return;
        }
        let error = match result {
            Ok(()) => {
                self.registrar.batch = MAX_BATCH;
                for act in acts {
                    self.on_act(cx, act);
                }
                return;
            }
            Err(error) => error,
        };
        self.counters.commit_failures += 1;
        match error {
            CommitError::Fenced | CommitError::Conflict { .. } => {
                self.step_down(cx, format!("the registry was not written: {error}"), false);
            }
            CommitError::Unavailable => {
                cx.warn(format!(
                    "the registry was not written: {error}; trying again"
                ));
                self.registrar.put_back(acts);
                self.registrar.paused = true;
                self.timers.set(Timer::Retry, cx.now.mono + COMMIT_RETRY);
            }
            CommitError::TooLarge { .. } | CommitError::BadKey { .. } if acts.len() > 1 => {
                self.registrar.batch = 1;
                self.registrar.put_back(acts);
            }
            CommitError::TooLarge { .. } | CommitError::BadKey { .. } => {
                for act in acts {
                    cx.note(
                        NoteLevel::Error,
                        format!("the registry does not take {act:?}: {error}"),
                    );
                    self.on_act_refused(cx, act, &error.to_string());
                }
            }
        }
    }

    /// An act is written: what it stands for happens.
    fn on_act(&mut self, cx: &mut Cx<'_>, act: Act) {
        match act {
            Act::Admit(id, _) => self.on_admitted(cx, &id),
            Act::MarkUnreachable(id, since) => self.on_marked_unreachable(cx, &id, since),
            Act::Remove(id) => self.on_removed(cx, &id),
            Act::Format | Act::Weights(_) | Act::Probe => {}
        }
    }

    /// An act can never be written.
    fn on_act_refused(&mut self, cx: &mut Cx<'_>, act: Act, why: &str) {
        match act {
            Act::Admit(id, _) => self.on_admission_refused(cx, &id, why),
            // The agent stays as it is; the next silence tries again.
            Act::MarkUnreachable(id, _) | Act::Remove(id) => self.on_transition_refused(cx, &id),
            Act::Format | Act::Weights(_) | Act::Probe => {}
        }
    }
}
