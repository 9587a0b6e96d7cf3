//! The end of an attempt, and of a run.

use std::sync::Arc;

use bytes::Bytes;
use mezzo_model::ids::TaskId;
use mezzo_model::task_state::TaskState;
use mezzo_model::time::{Millis, Now, Wall};
use mezzo_sdk::scheduler::{AckToken, SchedulerCommand};

use super::super::io::{Effect, EndedRun, NoteLevel, Output};
use super::super::pending::Unit;
use super::super::retry::{self, Ending, Facts, Verdict};
use super::super::timers::Timer;
use super::super::{Core, note, task};
use super::{PastAttempt, RunKey, Stage};
use crate::store;

/// How much longer than allowed a task may run before we end it: the agent does so on time.
pub const OVERDUE_SLACK: Millis = Millis::from_secs(5);

/// How an attempt ended.
#[derive(Debug)]
pub struct Closing<'a> {
    /// Its last state.
    pub state: TaskState,
    /// What that means for the run.
    pub ending: Ending,
    /// When.
    pub at: Wall,
    /// Why, in the words of whoever told.
    pub message: Option<&'a str>,
    /// To be acknowledged once it is stored.
    pub ack: AckToken,
}

/// The launched attempt of a run has ended: there is another one, or the run ends.
pub fn close(core: &mut Core, now: Now, key: &RunKey, closing: Closing<'_>, out: &mut Vec<Output>) {
    let Closing {
        state,
        ending,
        at,
        message,
        ack,
    } = closing;
    let Some(run) = core.run_mut(key) else { return };
    let Stage::Launched(attempt) = std::mem::replace(&mut run.stage, Stage::Queued) else {
        return;
    };
    let task = attempt.task.clone();
    let began = attempt.started_at.unwrap_or(attempt.launched_at);
    let young = at.0.saturating_sub(began.0) < retry::YOUNG.0;
    run.hasty = if young || ending == Ending::NeverBegan {
        run.hasty.saturating_add(1)
    } else {
        0
    };
    if matches!(ending, Ending::Failed | Ending::Refused) {
        run.failures = run.failures.saturating_add(1);
    }
    if ending != Ending::NeverBegan {
        run.remember(attempt.ended(state, at, message));
    }
    let facts = Facts {
        spec: &run.spec,
        created_at: run.created_at,
        now: now.wall,
        failures: run.failures,
        hasty: run.hasty,
    };
    let verdict = retry::verdict(ending, &facts);
    let words = message.unwrap_or("no reason given");
    note(
        out,
        NoteLevel::Debug,
        format!("task {task} of run {key} ended as {state} ({words}): {verdict:?}"),
    );
    forget_task(core, &task);
    let mut unit = match verdict {
        Verdict::Success => finish(core, now, key, true),
        Verdict::Failure => finish(core, now, key, false),
        Verdict::Again { pause } => {
            again(core, now, key, pause);
            core.record(key)
        }
    };
    if ack.needed() {
        core.ending.insert(task.clone(), ack);
        unit.effects.push(Effect::Ended(task));
    }
    core.pending.push(unit);
}

fn again(core: &mut Core, now: Now, key: &RunKey, pause: Millis) {
    if pause == Millis::ZERO {
        core.enqueue(now, key);
        return;
    }
    let until = now.mono + pause;
    if let Some(run) = core.run_mut(key) {
        run.stage = Stage::Paused { until };
        core.timers.set(Timer::Retry(key.clone()), until);
    }
}

/// The end of a task is stored.
pub fn on_ended(core: &mut Core, task: &TaskId, out: &mut Vec<Output>) {
    if let Some(ack) = core.ending.remove(task) {
        super::status::acknowledge(ack, out);
    }
}

/// Somebody stops a run: it has failed, and its task, if it has one, is not wanted any more. Gives the changes and
/// effects; the task is in the list of those to be ended from now on.
pub fn stop(core: &mut Core, now: Now, key: &RunKey) -> Unit {
    let Some(run) = core.run_mut(key) else {
        return Unit::default();
    };
    let stage = std::mem::replace(&mut run.stage, Stage::Queued);
    let (need, order) = (run.spec.run.need, run.order);
    let mut effects = Vec::new();
    match stage {
        Stage::Queued => core.queue.remove(need, order),
        Stage::Paused { .. } => core.timers.cancel(&Timer::Retry(key.clone())),
        // The launch finds the run gone and leaves it out.
        Stage::Intended { attempt, .. } => forget_task(core, &attempt.task),
        Stage::Launched(attempt) => {
            let task = attempt.task.clone();
            forget_task(core, &task);
            if let Some(run) = core.run_mut(key) {
                run.remember(attempt.ended(
                    TaskState::Killing,
                    now.wall,
                    Some("the run was stopped"),
                ));
            }
            core.doomed.insert(task.clone());
            effects.push(Effect::Kill(task));
        }
    }
    let mut unit = finish(core, now, key, false);
    unit.effects.extend(effects);
    unit
}

/// A task that is not wanted is ended, now that this is stored. The driver repeats it until it has worked.
pub fn on_kill(core: &Core, task: &TaskId, out: &mut Vec<Output>) {
    if core.doomed.contains(task) {
        let kill = SchedulerCommand::Kill {
            task: task.clone(),
            agent: None,
            policy: None,
        };
        out.push(Output::Scheduler(kill));
    }
}

/// A task runs for longer than its job allows.
pub fn on_overdue(core: &mut Core, id: &TaskId, out: &mut Vec<Output>) {
    let Some(key) = core.tasks.get(id).cloned() else {
        return;
    };
    let Some(run) = core.run_mut(&key) else {
        return;
    };
    let policy = task::kill_policy(&run.spec);
    let Some(attempt) = run.launched_mut() else {
        return;
    };
    attempt.overdue = true;
    let agent = Some(attempt.agent.clone());
    note(
        out,
        NoteLevel::Info,
        format!("task {id} of run {key} runs for longer than its job allows: it is ended"),
    );
    out.push(Output::Scheduler(SchedulerCommand::Kill {
        task: id.clone(),
        agent,
        policy,
    }));
}

/// A task was out of reach for as long as we wait. Should it come back, it is ended.
pub fn on_given_up(core: &mut Core, now: Now, id: &TaskId) {
    let Some(key) = core.tasks.get(id).cloned() else {
        return;
    };
    let closing = Closing {
        state: TaskState::Unreachable,
        ending: Ending::Failed,
        at: now.wall,
        message: Some("its agent could not be reached for too long"),
        ack: AckToken::none(),
    };
    close(core, now, &key, closing, &mut Vec::new());
}

fn forget_task(core: &mut Core, task: &TaskId) {
    core.tasks.remove(task);
    core.timers.cancel(&Timer::Overdue(task.clone()));
    core.timers.cancel(&Timer::Unreachable(task.clone()));
}

/// Ends a run: its result is recorded once, here. The run must be in no queue and have no timer.
pub fn finish(core: &mut Core, now: Now, key: &RunKey, success: bool) -> Unit {
    let Some(job) = core.jobs.get_mut(&key.job) else {
        return Unit::default();
    };
    let Some(run) = job.runs.remove(&key.run) else {
        return Unit::default();
    };
    core.active_runs = core.active_runs.saturating_sub(1);
    let ended = Arc::new(EndedRun {
        id: run.key.run.clone(),
        created_at: run.created_at,
        finished_at: now.wall.max(run.created_at),
        number: job.history.ended().saturating_add(1),
        success,
        attempts: run.attempts,
        tasks: run.past,
    });
    if success {
        core.totals.succeeded += 1;
    } else {
        core.totals.failed += 1;
    }
    let mut ops: Vec<(String, Option<Bytes>)> = vec![store::ended_record(&key.job, &ended)];
    if let Some((_, users)) = job.older.get_mut(&run.spec_version) {
        *users -= 1;
        if *users == 0 {
            job.older.remove(&run.spec_version);
            ops.push((store::spec_key(&key.job, run.spec_version), None));
        }
    }
    job.history.add(ended.clone());
    core.kept.insert(&key.job, &ended);
    while let Some(old) = job.history.trim(success, core.config.history_per_job) {
        core.kept.remove(&key.job, &old);
        ops.push((store::run_key(&key.job, &old.id), None));
    }
    ops.push(store::counts_record(&key.job, job.history.counts()));
    while let Some(old) = core.kept.trim(core.config.history_in_all) {
        if let Some(job) = core.jobs.get_mut(&old.job) {
            job.history.remove(&old.run);
        }
        ops.push((store::run_key(&old.job, &old.run), None));
    }
    Unit {
        ops,
        effects: Vec::new(),
    }
}

/// The run as the door shows it, with an attempt that goes on.
pub fn task_views(
    past: &[PastAttempt],
    current: Option<&super::Attempt>,
) -> Vec<super::super::TaskView> {
    let ended = past.iter().map(|attempt| super::super::TaskView {
        attempt: attempt.clone(),
        ended: true,
    });
    let current = current.map(|attempt| super::super::TaskView {
        attempt: PastAttempt {
            task: attempt.task.clone(),
            agent: attempt.agent.clone(),
            hostname: attempt.hostname.clone(),
            started_at: attempt.started_at.unwrap_or(attempt.launched_at),
            completed_at: attempt.launched_at,
            state: attempt.state.unwrap_or(TaskState::Staging),
            message: None,
        },
        ended: false,
    });
    ended.chain(current).collect()
}
