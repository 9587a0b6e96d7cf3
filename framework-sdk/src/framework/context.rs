//! What a scheduler may do while one of its methods runs.

use std::collections::BTreeMap;

use bytes::Bytes;
use mezzo_coordination::Op;
use mezzo_model::TaskState;
use mezzo_model::ids::{AgentId, ExecutorId, OfferId, TaskId};
use mezzo_model::rng::Rng;
use mezzo_model::time::{Millis, Now};
use mezzo_wire::v1;

use super::ledger::{Ledger, LedgerTask};
use crate::offers::{self, Demand, HeldOffer, Strategy, TaskSpec};
use crate::scheduler::SchedulerCommand;
use crate::store;

/// Why offers are given back; it decides how long they stay away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decline {
    /// There is nothing to run at present: two minutes. Suppress offers as well if that lasts.
    NothingToRun,
    /// What is to run does not fit: five seconds, in which the resources may come together elsewhere.
    DoesNotFit,
    /// A constraint forbids the place: thirty seconds.
    Constraint,
    /// It may be offered again at once.
    Free,
    /// For a time of one's own.
    For(Millis),
}

impl Decline {
    /// The filter that goes with the reason.
    pub fn filters(self) -> v1::Filters {
        let seconds = match self {
            Self::NothingToRun => 120.0,
            Self::DoesNotFit => 5.0,
            Self::Constraint => 30.0,
            Self::Free => 0.0,
            Self::For(span) => span.as_secs_f64(),
        };
        offers::task::refuse_for(seconds)
    }
}

/// What one call of a method asked for: steps for the store, and commands to be given once they are stored.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) steps: Vec<Op>,
    pub(crate) commands: Vec<SchedulerCommand>,
    pub(crate) stop: bool,
}

/// The scheduler's hands.
#[derive(Debug)]
pub struct Context<'a> {
    pub(crate) now: Now,
    pub(crate) ledger: &'a mut Ledger,
    pub(crate) rng: &'a mut Rng,
    pub(crate) timers: &'a mut BTreeMap<u64, Millis>,
    pub(crate) wants_offers: &'a mut Option<bool>,
    pub(crate) durable: bool,
    pub(crate) wishes: Wishes,
}

impl Context<'_> {
    /// What the clocks say.
    pub fn now(&self) -> Now {
        self.now
    }

    /// The tasks as far as they are known.
    pub fn tasks(&self) -> &Ledger {
        self.ledger
    }

    /// Random numbers, which repeat in a simulation.
    pub fn rng(&mut self) -> &mut Rng {
        self.rng
    }

    /// A task id that was not used before: `<prefix>.<16 digits>`. A prefix that cannot be part of an id is left out.
    pub fn new_task_id(&mut self, prefix: &str) -> TaskId {
        loop {
            let number = self.rng.next_u64();
            let id = TaskId::parse(&format!("{prefix}.{number:016x}"))
                .or_else(|_| TaskId::parse(&format!("{number:016x}")))
                .expect("sixteen digits are a good id");
            if self.ledger.get(&id).is_none() {
                return id;
            }
        }
    }

    /// Launches tasks on offers of one agent; the rest of the offers stays away for the time that `rest` says. Each
    /// launch is stored before it is asked for.
    pub fn launch(&mut self, offers: Vec<OfferId>, tasks: Vec<v1::TaskInfo>, rest: Decline) {
        for task in &tasks {
            let ids = (
                TaskId::from_wire(&task.task_id),
                AgentId::from_wire(&task.agent_id),
            );
            // An unusable id is the master's to refuse.
            let (Ok(id), Ok(agent)) = ids else { continue };
            if self.durable {
                self.wishes.steps.push(store::remember_launch(&id, &agent));
            }
            let task = LedgerTask {
                agent: Some(agent),
                state: TaskState::Staging,
                killed: false,
                stored: self.durable,
            };
            self.ledger.insert(id, task);
        }
        self.wishes.commands.push(SchedulerCommand::Accept {
            offers,
            operations: vec![offers::launch(tasks)],
            filters: Some(rest.filters()),
        });
    }

    /// Launches up to `count` tasks of a kind on the offers, spread over agents, and gives the rest back.
    /// Returns the ids.
    pub fn launch_up_to(
        &mut self,
        count: usize,
        spec: &TaskSpec,
        offers: &[v1::Offer],
    ) -> Vec<TaskId> {
        let (held, odd): (Vec<_>, Vec<_>) = offers
            .iter()
            .map(|offer| (offer, HeldOffer::read(offer)))
            .partition(|(_, held)| held.is_ok());
        let odd: Vec<v1::Offer> = odd.into_iter().map(|(offer, _)| offer.clone()).collect();
        self.decline(&odd, Decline::DoesNotFit);
        let held: Vec<HeldOffer> = held.into_iter().filter_map(|(_, held)| held.ok()).collect();
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let demand = Demand {
            request: &spec.request,
            count,
            role: None,
            constraints: Vec::new(),
            wanted: count,
        };
        let packing = offers::pack(&[demand], &held, Strategy::Spread, self.rng);
        let mut launched = Vec::new();
        for accept in packing.accepts {
            let mut tasks = Vec::new();
            for placement in &accept.placements {
                let id = self.new_task_id(&spec.name);
                tasks.push(spec.at(&id, &accept.agent, &placement.fit));
                launched.push(id);
            }
            self.launch(accept.offers, tasks, Decline::DoesNotFit);
        }
        let reason = if count == 0 {
            Decline::NothingToRun
        } else {
            Decline::DoesNotFit
        };
        self.decline_ids(packing.unused, reason);
        launched
    }

    /// Gives offers back.
    pub fn decline(&mut self, offers: &[v1::Offer], reason: Decline) {
        let ids = offers
            .iter()
            .filter_map(|offer| OfferId::from_wire(&offer.id).ok());
        self.decline_ids(ids.collect(), reason);
    }

    /// Gives offers back by their ids.
    pub fn decline_ids(&mut self, offers: Vec<OfferId>, reason: Decline) {
        if !offers.is_empty() {
            let filters = Some(reason.filters());
            self.wishes
                .commands
                .push(SchedulerCommand::Decline { offers, filters });
        }
    }

    /// Ends a task. It no longer counts as alive; the driver repeats the call until it has ended.
    pub fn kill(&mut self, task: &TaskId) {
        let known = self.ledger.get_mut(task);
        let agent = known.and_then(|known| {
            known.killed = true;
            known.agent.clone()
        });
        self.wishes.commands.push(SchedulerCommand::Kill {
            task: task.clone(),
            agent,
            policy: None,
        });
    }

    /// Says whether offers are wanted in all roles; only a change is sent.
    pub fn want_offers(&mut self, wanted: bool) {
        if *self.wants_offers == Some(wanted) {
            return;
        }
        *self.wants_offers = Some(wanted);
        if wanted {
            self.revive(Vec::new());
        } else {
            self.suppress(Vec::new());
        }
    }

    /// Clears filters and suppression of roles; no roles means all.
    pub fn revive(&mut self, roles: Vec<String>) {
        self.wishes
            .commands
            .push(SchedulerCommand::Revive { roles });
    }

    /// No more offers for roles; no roles means all.
    pub fn suppress(&mut self, roles: Vec<String>) {
        self.wishes
            .commands
            .push(SchedulerCommand::Suppress { roles });
    }

    /// Asks about tasks until each is answered; about all that the master knows if none are named.
    pub fn reconcile(&mut self, tasks: Vec<(TaskId, Option<AgentId>)>) {
        self.wishes
            .commands
            .push(SchedulerCommand::Reconcile(tasks));
    }

    /// Sends bytes to an executor; best effort.
    pub fn message(&mut self, agent: &AgentId, executor: &ExecutorId, data: Bytes) {
        let (agent, executor) = (agent.clone(), executor.clone());
        self.wishes.commands.push(SchedulerCommand::Message {
            agent,
            executor,
            data,
        });
    }

    /// Ends an executor and its tasks.
    pub fn shutdown(&mut self, agent: &AgentId, executor: &ExecutorId) {
        let (agent, executor) = (agent.clone(), executor.clone());
        self.wishes
            .commands
            .push(SchedulerCommand::Shutdown { agent, executor });
    }

    /// Asks for a call of `timer` after a span; a timer of the same number is set anew.
    pub fn set_timer(&mut self, timer: u64, after: Millis) {
        self.timers.insert(timer, self.now.mono + after);
    }

    /// Calls a timer off.
    pub fn cancel_timer(&mut self, timer: u64) {
        self.timers.remove(&timer);
    }

    /// Removes the framework and all its tasks from the cluster, and stops.
    pub fn teardown(&mut self) {
        self.wishes.commands.push(SchedulerCommand::Teardown);
    }

    /// Stops this process's part; tasks keep running, and the next process takes over.
    pub fn stop(&mut self) {
        self.wishes.stop = true;
    }
}
