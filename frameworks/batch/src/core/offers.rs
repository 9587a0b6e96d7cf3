//! Offers: which runs go into which, and the accept once all their records are stored.
//!
//! An offer is used or declined in the step in which it comes. As many waiting runs as fit go into it with one accept;
//! while their records are on the way to the store it is set aside as a [`Launch`].

use std::sync::Arc;

use mezzo_model::ids::OfferId;
use mezzo_model::resources::Resources;
use mezzo_model::rng::Rng;
use mezzo_model::time::Now;
use mezzo_sdk::offers::{HeldOffer, Request, fit, launch};
use mezzo_sdk::scheduler::SchedulerCommand;
use mezzo_wire::v1;

use super::io::{Effect, NoteLevel, Output};
use super::job::Need;
use super::run::{Attempt, RunKey, Stage};
use super::{Core, note, session, task};

/// Most bytes of task descriptions in one accept: what a message may have, with room to spare.
const MAX_ACCEPT_BYTES: usize = 2 * 1024 * 1024;

/// An offer that is set aside for attempts whose records are on the way to the store.
#[derive(Debug)]
pub struct Launch {
    offer: OfferId,
    tasks: Vec<(RunKey, v1::TaskInfo)>,
    /// Records that are not stored yet.
    missing: usize,
    /// The offer had room for more, which is wanted at once.
    more: bool,
}

/// Offers came.
pub fn on_offers(core: &mut Core, now: Now, offers: Vec<v1::Offer>, out: &mut Vec<Output>) {
    let mut unused = Vec::new();
    for offer in offers {
        core.totals.offers += 1;
        let Ok(id) = OfferId::from_wire(&offer.id) else {
            note(
                out,
                NoteLevel::Warn,
                "an offer has an id that is none; it cannot even be declined",
            );
            continue;
        };
        if core.queue.is_empty() {
            unused.push(id);
            continue;
        }
        match HeldOffer::read(&offer) {
            Ok(held) => {
                if !fill(core, now, held) {
                    unused.push(id);
                }
            }
            Err(error) => {
                note(
                    out,
                    NoteLevel::Warn,
                    format!("offer {id} cannot be read, so it is declined: {error}"),
                );
                unused.push(id);
            }
        }
    }
    session::decline(core, now, unused, out);
}

/// An offer is void. What was meant for it waits again, first in the queue as before.
pub fn on_rescind(core: &mut Core, now: Now, offer: &OfferId) {
    let launch = core
        .launches
        .iter()
        .find(|(_, launch)| launch.offer == *offer)
        .map(|(id, _)| *id);
    if let Some(id) = launch {
        give_up(core, now, id);
    }
}

/// All offers are void.
pub fn drop_all(core: &mut Core, now: Now) {
    while let Some(id) = core.launches.keys().next().copied() {
        give_up(core, now, id);
    }
}

fn give_up(core: &mut Core, now: Now, id: u64) {
    let Some(launch) = core.launches.remove(&id) else {
        return;
    };
    for (key, _) in launch.tasks {
        let intended = core
            .run(&key)
            .filter(|run| session::is_intended(&run.stage, id));
        let Some(attempt) = intended.and_then(super::run::Run::attempt) else {
            continue;
        };
        // Its record may be stored and names a task that will never be. The next record replaces it; if this process
        // ends before, the cluster will say that it knows no such task.
        let task = attempt.task.clone();
        core.tasks.remove(&task);
        core.enqueue(now, &key);
    }
}

/// A record of a launch is stored; after the last one the offer is accepted.
pub fn on_intended(core: &mut Core, now: Now, id: u64, out: &mut Vec<Output>) {
    let Some(held) = core.launches.get_mut(&id) else {
        return;
    };
    held.missing = held.missing.saturating_sub(1);
    if held.missing > 0 {
        return;
    }
    let Some(held) = core.launches.remove(&id) else {
        return;
    };
    let mut task_infos = Vec::with_capacity(held.tasks.len());
    for (key, info) in held.tasks {
        // A run that was stopped meanwhile is not launched.
        let Some(run) = core
            .run_mut(&key)
            .filter(|run| session::is_intended(&run.stage, id))
        else {
            continue;
        };
        if let Stage::Intended { attempt, .. } = std::mem::replace(&mut run.stage, Stage::Queued) {
            run.stage = Stage::Launched(attempt);
            task_infos.push(info);
        }
    }
    if task_infos.is_empty() {
        session::decline(core, now, vec![held.offer], out);
        return;
    }
    core.totals.launched += task_infos.len() as u64;
    let seconds = if held.more {
        0.0
    } else {
        session::REFUSE_SECONDS
    };
    let filters = Some(session::refuse(core, now, seconds));
    out.push(Output::Scheduler(SchedulerCommand::Accept {
        offers: vec![held.offer],
        operations: vec![launch(task_infos)],
        filters,
    }));
}

/// Puts as many waiting runs as fit into an offer. `false` if none does.
fn fill(core: &mut Core, now: Now, mut held: HeldOffer) -> bool {
    let mut portions: Vec<Vec<v1::Resource>> = Vec::new();
    let mut bytes = 0;
    let mut full = false;
    let (jobs, rng) = (&core.jobs, &mut core.ports);
    let taken = core
        .queue
        .take(core.config.max_tasks_per_offer, |need, key| {
            let size = jobs
                .get(&key.job)
                .and_then(|job| job.runs.get(&key.run))
                .map_or(0, |run| task::size(&run.spec));
            if bytes + size > MAX_ACCEPT_BYTES {
                full = true;
                return false;
            }
            match portion(&mut held.resources, need, rng) {
                Some(portion) => {
                    bytes += size;
                    portions.push(portion);
                    true
                }
                None => false,
            }
        });
    if taken.is_empty() {
        return false;
    }
    let more = full || taken.len() >= core.config.max_tasks_per_offer;
    core.next_launch += 1;
    let id = core.next_launch;
    let hostname: Arc<str> = Arc::from(held.hostname.as_str());
    let mut set_aside = Launch {
        offer: held.id,
        tasks: Vec::new(),
        missing: 0,
        more,
    };
    for (key, resources) in taken.into_iter().zip(portions) {
        let Some(run) = core.run_mut(&key) else {
            continue;
        };
        let task = run.next_task_id();
        run.attempts = run.attempts.saturating_add(1);
        let attempt = Attempt {
            task: task.clone(),
            agent: held.agent.clone(),
            hostname: hostname.clone(),
            launched_at: now.wall,
            started_at: None,
            state: None,
            begun: super::run::Begun::No,
            overdue: false,
        };
        let info = task::info(run, &attempt, resources);
        run.stage = Stage::Intended {
            launch: id,
            attempt,
        };
        core.tasks.insert(task, key.clone());
        let mut unit = core.record(&key);
        unit.effects.push(Effect::Intended { launch: id });
        core.pending.push(unit);
        set_aside.tasks.push((key, info));
    }
    set_aside.missing = set_aside.tasks.len();
    core.launches.insert(id, set_aside);
    true
}

/// Takes what a task needs out of an offer. `None`, and nothing taken, if it is not there.
fn portion(free: &mut Resources, need: &Need, rng: &mut Rng) -> Option<Vec<v1::Resource>> {
    let request = Request::new()
        .scalar("cpus", need.cpus)
        .scalar("mem", need.mem)
        .scalar("disk", need.disk);
    let fit = fit(&request, free, rng).ok()?;
    free.try_remove(&fit.resources)
        .then(|| fit.resources.to_wire())
}
