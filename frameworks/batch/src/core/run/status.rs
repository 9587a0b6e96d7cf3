//! News of a task.
//!
//! News comes more than once, late, and of tasks that nobody here knows. What is not wanted is ended; what has ended is
//! acknowledged only when that is stored; everything else is remembered.

use mezzo_model::ids::TaskId;
use mezzo_model::task_state::TaskState;
use mezzo_model::time::{Millis, Now, Wall};
use mezzo_sdk::scheduler::{AckToken, SchedulerCommand};
use mezzo_wire::v1;
use mezzo_wire::v1::task_status::Reason;

use super::super::io::{Effect, NoteLevel, Output};
use super::super::timers::Timer;
use super::super::{Core, note, retry};
use super::end::{Closing, close};
use super::{Begun, RunKey};

/// A status came.
pub fn on_update(
    core: &mut Core,
    now: Now,
    status: &v1::TaskStatus,
    ack: AckToken,
    out: &mut Vec<Output>,
) {
    let named = TaskId::from_wire(&status.task_id)
        .ok()
        .zip(TaskState::from_number(status.state));
    let Some((task, state)) = named else {
        note(
            out,
            NoteLevel::Warn,
            "a status names no task or no state that we know; it is passed over",
        );
        acknowledge(ack, out);
        return;
    };
    if let Some(waiting) = core.ending.get_mut(&task) {
        // Its end is on the way to the store. The newest token is as good as the first.
        if state.is_terminal() && ack.needed() {
            *waiting = ack;
        }
        return;
    }
    let key = core.tasks.get(&task).cloned();
    let launched = key.filter(|key| core.run(key).is_some_and(|run| run.launched().is_some()));
    match launched {
        Some(key) => on_known(core, now, key, &task, state, status, ack, out),
        None => on_unknown(core, &task, state, status, ack, out),
    }
}

#[allow(clippy::too_many_arguments)] // what a status is made of, taken apart once
fn on_known(
    core: &mut Core,
    now: Now,
    key: RunKey,
    task: &TaskId,
    state: TaskState,
    status: &v1::TaskStatus,
    ack: AckToken,
    out: &mut Vec<Output>,
) {
    let Some(attempt) = core.run_mut(&key).and_then(super::Run::launched_mut) else {
        return;
    };
    let begun = attempt.begun != Begun::No;
    let asked = status.reason == Some(Reason::Reconciliation as i32);
    if let Some(ending) = retry::ending(state, begun, asked) {
        let at = told_at(status, now);
        let closing = Closing {
            state,
            ending,
            at,
            message: status.message.as_deref(),
            ack,
        };
        close(core, now, &key, closing, out);
        return;
    }
    attempt.state = Some(state);
    let begins = matches!(
        state,
        TaskState::Starting | TaskState::Running | TaskState::Killing
    );
    if state == TaskState::Running && attempt.started_at.is_none() {
        attempt.started_at = Some(told_at(status, now));
    }
    let before = attempt.begun;
    if begins && before == Begun::No {
        attempt.begun = Begun::Storing;
    }
    watch(core, now, &key, task, state);
    match before {
        Begun::No if begins => {
            let mut unit = core.record(&key);
            unit.effects.push(Effect::Begun {
                key,
                task: task.clone(),
                ack,
            });
            core.pending.push(unit);
        }
        Begun::Storing => {
            let effect = Effect::Begun {
                key,
                task: task.clone(),
                ack,
            };
            if let Some(Effect::Begun { ack, .. }) = core.pending.follow(effect) {
                acknowledge(ack, out);
            }
        }
        Begun::No | Begun::Stored => acknowledge(ack, out),
    }
}

/// It is stored that a task has begun.
pub fn on_begun(
    core: &mut Core,
    key: &RunKey,
    task: &TaskId,
    ack: AckToken,
    out: &mut Vec<Output>,
) {
    if let Some(attempt) = core.run_mut(key).and_then(super::Run::launched_mut)
        && attempt.task == *task
    {
        attempt.begun = Begun::Stored;
    }
    acknowledge(ack, out);
}

/// Keeps an eye on how long a task runs, and on how long it is out of reach.
fn watch(core: &mut Core, now: Now, key: &RunKey, task: &TaskId, state: TaskState) {
    if state == TaskState::Unreachable {
        let until = now.mono + core.config.unreachable_timeout;
        core.timers
            .set_if_unset(Timer::Unreachable(task.clone()), until);
        return;
    }
    core.timers.cancel(&Timer::Unreachable(task.clone()));
    let Some(run) = core.run(key) else { return };
    let Some(limit) = run.spec.beyond.max_run_s else {
        return;
    };
    let Some(attempt) = run.launched().filter(|attempt| !attempt.overdue) else {
        return;
    };
    let Some(started) = attempt.started_at else {
        return;
    };
    // The agent ends it by itself; this is for an agent that does not.
    let so_far = Millis(now.wall.0.saturating_sub(started.0));
    let due = now.mono + Millis::from_secs(limit).since(so_far) + super::end::OVERDUE_SLACK;
    core.timers.set_if_unset(Timer::Overdue(task.clone()), due);
}

fn on_unknown(
    core: &mut Core,
    task: &TaskId,
    state: TaskState,
    status: &v1::TaskStatus,
    ack: AckToken,
    out: &mut Vec<Output>,
) {
    if state.is_terminal() || state == TaskState::Unknown {
        core.doomed.remove(task);
    } else if state != TaskState::Unreachable && core.doomed.insert(task.clone()) {
        // Stopped before we were started anew, or given up while it was out of reach.
        note(
            out,
            NoteLevel::Info,
            format!("task {task} is {state} and belongs to no run: it is ended"),
        );
        let agent = status
            .agent_id
            .as_ref()
            .and_then(|id| mezzo_model::ids::AgentId::from_wire(id).ok());
        out.push(Output::Scheduler(SchedulerCommand::Kill {
            task: task.clone(),
            agent,
            policy: None,
        }));
    }
    // Its run may have been stopped a moment ago. If this process ends before that is stored, the run is there
    // again, and must hear of its task what it has not heard yet.
    if ack.needed()
        && let Some(Effect::Acknowledge(ack)) = core.pending.follow(Effect::Acknowledge(ack))
    {
        acknowledge(ack, out);
    }
}

/// Gives a token back if somebody waits for it.
pub fn acknowledge(ack: AckToken, out: &mut Vec<Output>) {
    if ack.needed() {
        out.push(Output::Scheduler(SchedulerCommand::Acknowledge(ack)));
    }
}

/// When what a status tells of happened, as whoever told it says.
fn told_at(status: &v1::TaskStatus, now: Now) -> Wall {
    let told = status
        .timestamp
        .and_then(Millis::from_secs_f64)
        .map(|since| Wall(since.0));
    told.filter(|told| told.0 > 0).unwrap_or(now.wall)
}
