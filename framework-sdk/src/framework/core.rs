//! The machinery between a driver and a scheduler, as a pure machine.
//!
//! Events go to the scheduler's methods; what these ask for waits until the launches in it are stored, and everything
//! keeps its order. A status is acknowledged after what followed from it is stored, so a crash at any moment loses
//! nothing that somebody relies on.
//!
//! Invariant: without a store nothing is remembered over a crash, and nothing waits.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mezzo_coordination::{CommitError, Op, Txn};
use mezzo_model::TaskState;
use mezzo_model::ids::{AgentId, TaskId};
use mezzo_model::rng::Rng;
use mezzo_model::time::{Millis, Now};
use mezzo_wire::v1;

use super::Scheduler;
use super::context::{Context, Wishes};
use super::ledger::{Ledger, LedgerTask};
use crate::scheduler::{AckToken, SchedulerCommand, SchedulerEvent};
use crate::store::{self, Kept};

/// Steps that go into one transaction at most; a store's own limit lies above what 500 of the longest keys weigh.
const MAX_STEPS: usize = 500;
/// Batches that may wait for the store; a framework that gets so far behind stops.
pub const MAX_WAITING: usize = 1_000_000;
/// Tasks in the ledger; beyond, what nobody here launched is not entered.
pub const MAX_TASKS: usize = 1_000_000;
/// The pause before a transaction is tried again.
const COMMIT_AGAIN: Millis = Millis(500);

/// What the machinery is told.
#[allow(clippy::large_enum_variant)] // a status is by far the most frequent of them
#[derive(Clone, Debug, PartialEq)]
pub enum FrameworkInput {
    /// Time has passed.
    Tick,
    /// The driver says something.
    Event(SchedulerEvent),
    /// The answer of the store.
    Committed {
        /// To which transaction.
        id: u64,
        /// Whether it happened.
        result: Result<(), CommitError>,
    },
}

/// Why a framework stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// It asked to.
    #[error("stopped")]
    Asked,
    /// The master refused it for good.
    #[error("the master refused: {0}")]
    Refused(String),
    /// Another process writes its store now.
    #[error("another process writes this framework's store now")]
    Fenced,
    /// The store has been away for so long that too much waits for it.
    #[error("too much waits for the store")]
    Overrun,
}

/// What the machinery asks for; carried out in order.
#[derive(Clone, Debug, PartialEq)]
pub enum FrameworkOutput {
    /// For the driver.
    Command(SchedulerCommand),
    /// For the store; answered by `Committed`. There is one at a time.
    Commit {
        /// Its name.
        id: u64,
        /// The steps.
        txn: Txn,
    },
    /// The framework has stopped; no output follows.
    Stop(Stopped),
}

/// Commands that wait until their steps are stored.
#[derive(Debug)]
struct Batch {
    steps: Vec<Op>,
    commands: Vec<SchedulerCommand>,
}

#[derive(Debug)]
struct Commit {
    id: u64,
    batches: Vec<Batch>,
    /// When to ask again; `None` while the answer is awaited.
    again_at: Option<Millis>,
}

/// A scheduler with all that surrounds it.
#[derive(Debug)]
pub struct FrameworkCore<S> {
    scheduler: S,
    ledger: Ledger,
    rng: Rng,
    timers: BTreeMap<u64, Millis>,
    wants_offers: Option<bool>,
    durable: bool,
    waiting: VecDeque<Batch>,
    commit: Option<Commit>,
    last_commit: u64,
    stopped: bool,
}

impl<S: Scheduler> FrameworkCore<S> {
    /// Puts a scheduler to work. `kept` is what an earlier process left; `durable` says whether there is a store.
    pub fn new(scheduler: S, kept: Kept, durable: bool, seed: u64) -> Self {
        let mut ledger = Ledger::default();
        for (id, agent) in kept.launches {
            let task = LedgerTask {
                agent: Some(agent),
                state: TaskState::Staging,
                killed: false,
                stored: true,
            };
            ledger.insert(id, task);
        }
        Self {
            scheduler,
            ledger,
            rng: Rng::new(seed).split("framework"),
            timers: BTreeMap::new(),
            wants_offers: None,
            durable,
            waiting: VecDeque::new(),
            commit: None,
            last_commit: 0,
            stopped: false,
        }
    }

    /// The scheduler.
    pub fn scheduler(&self) -> &S {
        &self.scheduler
    }

    /// The tasks as far as they are known.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Takes one input; what is to be done is pushed to `out` in order.
    pub fn handle(&mut self, now: Now, input: FrameworkInput, out: &mut Vec<FrameworkOutput>) {
        if self.stopped {
            return;
        }
        match input {
            FrameworkInput::Tick => {}
            FrameworkInput::Event(event) => self.on_event(now, event, out),
            FrameworkInput::Committed { id, result } => self.on_committed(now, id, result, out),
        }
        self.run_timers(now, out);
        self.try_again(now, out);
    }

    /// When the machinery wants a `Tick` at the latest.
    pub fn next_deadline(&self) -> Option<Millis> {
        let again = self.commit.as_ref().and_then(|commit| commit.again_at);
        self.timers
            .values()
            .min()
            .copied()
            .into_iter()
            .chain(again)
            .min()
    }

    /// Calls a method of the scheduler, lets it balance, and returns what it asked for.
    fn call(&mut self, now: Now, method: impl FnOnce(&mut S, &mut Context<'_>)) -> Wishes {
        let mut context = Context {
            now,
            ledger: &mut self.ledger,
            rng: &mut self.rng,
            timers: &mut self.timers,
            wants_offers: &mut self.wants_offers,
            durable: self.durable,
            wishes: Wishes::default(),
        };
        method(&mut self.scheduler, &mut context);
        self.scheduler.balance(&mut context);
        context.wishes
    }

    fn on_event(&mut self, now: Now, event: SchedulerEvent, out: &mut Vec<FrameworkOutput>) {
        let wishes = match event {
            SchedulerEvent::Subscribed {
                framework_id,
                resubscribed,
            } => {
                let mut wishes = self.call(now, |scheduler, cx| {
                    scheduler.subscribed(cx, &framework_id, resubscribed)
                });
                let believed = self.scheduler.believes(&self.ledger);
                if !believed.is_empty() {
                    wishes.commands.push(SchedulerCommand::Reconcile(believed));
                }
                wishes
            }
            SchedulerEvent::Offers(offers) => {
                self.call(now, |scheduler, cx| scheduler.offers(cx, offers))
            }
            SchedulerEvent::Rescind(offer) => {
                self.call(now, |scheduler, cx| scheduler.rescinded(cx, &offer))
            }
            SchedulerEvent::Update { status, ack } => self.on_update(now, &status, ack),
            SchedulerEvent::Message {
                agent,
                executor,
                data,
            } => self.call(now, |scheduler, cx| {
                scheduler.message(cx, &agent, &executor, &data)
            }),
            SchedulerEvent::Failure {
                agent,
                executor,
                status,
            } => self.call(now, |scheduler, cx| {
                scheduler.failure(cx, agent.as_ref(), executor.as_ref(), status);
            }),
            SchedulerEvent::Disconnected => {
                self.call(now, |scheduler, cx| scheduler.disconnected(cx))
            }
            SchedulerEvent::Refused { message, fatal } => {
                let wishes = self.call(now, |scheduler, cx| scheduler.refused(cx, &message, fatal));
                if fatal {
                    self.stop(Stopped::Refused(message), out);
                    return;
                }
                wishes
            }
        };
        self.carry_out(wishes, out);
    }

    fn on_update(&mut self, now: Now, status: &v1::TaskStatus, ack: AckToken) -> Wishes {
        let mut forget = None;
        if let (Ok(id), Some(state)) = (
            TaskId::from_wire(&status.task_id),
            TaskState::from_number(status.state),
        ) {
            forget = self.enter(id, state, status);
        }
        let mut wishes = self.call(now, |scheduler, cx| scheduler.update(cx, status));
        wishes.steps.extend(forget);
        if ack.needed() {
            wishes.commands.push(SchedulerCommand::Acknowledge(ack));
        }
        wishes
    }

    /// Enters a state into the ledger; the step that the store needs when the task has ended.
    fn enter(&mut self, id: TaskId, state: TaskState, status: &v1::TaskStatus) -> Option<Op> {
        let agent = status
            .agent_id
            .as_ref()
            .and_then(|agent| AgentId::from_wire(agent).ok());
        if state.is_terminal() || state == TaskState::Unknown {
            let known = self.ledger.remove(&id)?;
            return known.stored.then(|| store::forget_launch(&id));
        }
        let full = self.ledger.len() >= MAX_TASKS;
        match self.ledger.get_mut(&id) {
            Some(task) => {
                task.state = state;
                task.agent = agent.or(task.agent.take());
            }
            // A master that makes tasks up without end does not fill our memory with them.
            None if full => {}
            None => {
                let task = LedgerTask {
                    agent,
                    state,
                    killed: false,
                    stored: false,
                };
                self.ledger.insert(id, task);
            }
        }
        None
    }

    fn run_timers(&mut self, now: Now, out: &mut Vec<FrameworkOutput>) {
        // Each timer once: one that is set anew with no span waits for the next input.
        let due: Vec<u64> = self
            .timers
            .iter()
            .filter(|(_, at)| **at <= now.mono)
            .map(|(timer, _)| *timer)
            .collect();
        for timer in due {
            if self.stopped || self.timers.remove(&timer).is_none() {
                continue;
            }
            let wishes = self.call(now, |scheduler, cx| scheduler.timer(cx, timer));
            self.carry_out(wishes, out);
        }
    }

    fn stop(&mut self, why: Stopped, out: &mut Vec<FrameworkOutput>) {
        self.stopped = true;
        out.push(FrameworkOutput::Stop(why));
    }

    /// Gives commands to the driver, now or once the steps before them are stored.
    fn carry_out(&mut self, wishes: Wishes, out: &mut Vec<FrameworkOutput>) {
        let Wishes {
            steps,
            commands,
            stop,
        } = wishes;
        if steps.is_empty() && self.commit.is_none() && self.waiting.is_empty() {
            out.extend(commands.into_iter().map(FrameworkOutput::Command));
        } else if !steps.is_empty() || !commands.is_empty() {
            // A long list of steps goes in several transactions; the commands wait for the last.
            let mut steps = steps;
            while steps.len() > MAX_STEPS {
                let rest = steps.split_off(MAX_STEPS);
                let steps = std::mem::replace(&mut steps, rest);
                self.waiting.push_back(Batch {
                    steps,
                    commands: Vec::new(),
                });
            }
            self.waiting.push_back(Batch { steps, commands });
            self.begin_commit(out);
        }
        if stop {
            self.stop(Stopped::Asked, out);
        } else if self.waiting.len() > MAX_WAITING {
            self.stop(Stopped::Overrun, out);
        }
    }

    /// Joins what waits into one transaction, if none is under way.
    fn begin_commit(&mut self, out: &mut Vec<FrameworkOutput>) {
        if self.commit.is_some() {
            return;
        }
        let mut txn = Txn::new();
        let mut keys = BTreeSet::new();
        let mut batches = Vec::new();
        while let Some(batch) = self.waiting.front() {
            let first = txn.ops.is_empty();
            let many = txn.ops.len() + batch.steps.len() > MAX_STEPS;
            // One key may stand in a transaction once.
            let again = batch.steps.iter().any(|step| keys.contains(step.key()));
            if !first && (many || again) {
                break;
            }
            let Some(batch) = self.waiting.pop_front() else {
                break;
            };
            keys.extend(batch.steps.iter().map(|step| step.key().to_owned()));
            txn.ops.extend(batch.steps.iter().cloned());
            batches.push(batch);
        }
        if txn.ops.is_empty() {
            for batch in batches {
                out.extend(batch.commands.into_iter().map(FrameworkOutput::Command));
            }
            return;
        }
        self.last_commit += 1;
        let id = self.last_commit;
        self.commit = Some(Commit {
            id,
            batches,
            again_at: None,
        });
        out.push(FrameworkOutput::Commit { id, txn });
    }

    fn on_committed(
        &mut self,
        now: Now,
        id: u64,
        result: Result<(), CommitError>,
        out: &mut Vec<FrameworkOutput>,
    ) {
        let Some(commit) = self.commit.take_if(|commit| commit.id == id) else {
            return;
        };
        match result {
            Ok(()) => {
                for batch in commit.batches {
                    out.extend(batch.commands.into_iter().map(FrameworkOutput::Command));
                }
                self.begin_commit(out);
            }
            // The steps have no expectations: doing them twice does no harm.
            Err(CommitError::Unavailable) => {
                self.commit = Some(Commit {
                    again_at: Some(now.mono + COMMIT_AGAIN),
                    ..commit
                });
            }
            Err(CommitError::Fenced) => self.stop(Stopped::Fenced, out),
            Err(
                error @ (CommitError::Conflict { .. }
                | CommitError::TooLarge { .. }
                | CommitError::BadKey { .. }),
            ) => {
                self.on_unstorable(now, commit, &error, out);
                self.begin_commit(out);
            }
        }
    }

    /// The store will never take these steps: launches in them do not happen, and their tasks are told as refused.
    fn on_unstorable(
        &mut self,
        now: Now,
        commit: Commit,
        error: &CommitError,
        out: &mut Vec<FrameworkOutput>,
    ) {
        for command in commit.batches.into_iter().flat_map(|batch| batch.commands) {
            let SchedulerCommand::Accept {
                offers,
                operations,
                filters,
            } = command
            else {
                out.push(FrameworkOutput::Command(command));
                continue;
            };
            out.push(FrameworkOutput::Command(SchedulerCommand::Decline {
                offers,
                filters,
            }));
            let launches = operations.iter().flat_map(|operation| &operation.launch);
            for task in launches.flat_map(|launch| &launch.task_infos) {
                if let Ok(id) = TaskId::from_wire(&task.task_id) {
                    self.ledger.remove(&id);
                }
                let status = v1::TaskStatus {
                    task_id: task.task_id.clone(),
                    agent_id: Some(task.agent_id.clone()),
                    state: v1::TaskState::TaskError as i32,
                    message: Some(format!("the launch could not be stored: {error}")),
                    timestamp: Some(now.wall.as_secs_f64()),
                    ..Default::default()
                };
                let wishes = self.call(now, |scheduler, cx| scheduler.update(cx, &status));
                self.carry_out(wishes, out);
            }
        }
    }

    fn try_again(&mut self, now: Now, out: &mut Vec<FrameworkOutput>) {
        if self.stopped {
            return;
        }
        let Some(commit) = &mut self.commit else {
            return;
        };
        if commit.again_at.is_some_and(|at| at <= now.mono) {
            self.last_commit += 1;
            commit.id = self.last_commit;
            commit.again_at = None;
            let steps = commit
                .batches
                .iter()
                .flat_map(|batch| batch.steps.iter().cloned());
            out.push(FrameworkOutput::Commit {
                id: commit.id,
                txn: Txn {
                    ops: steps.collect(),
                },
            });
        }
    }
}
