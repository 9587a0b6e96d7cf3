//! Transactions: handed over one at a time, and what follows their answers.

use mezzo_coordination::CommitError;
use mezzo_model::time::{Millis, Now};

use super::io::{Effect, NoteLevel, Output};
use super::timers::Timer;
use super::{Core, note, offers, run};

/// The first pause before a transaction in doubt is tried again; it doubles.
const FIRST_PAUSE: Millis = Millis(200);

/// The longest such pause.
const LONGEST_PAUSE: Millis = Millis::from_secs(5);

/// Hands the next transaction over, if none is under way.
pub fn hand_over(core: &mut Core, out: &mut Vec<Output>) {
    if let Some((id, txn)) = core.pending.next() {
        core.totals.commits += 1;
        out.push(Output::Commit { id, txn });
    }
}

/// Hands the transaction that is in doubt over once more: it sets values whatever they were, so twice is as good as
/// once.
pub fn try_again(core: &mut Core, out: &mut Vec<Output>) {
    if let Some((id, txn)) = core.pending.again() {
        core.totals.commits += 1;
        out.push(Output::Commit { id, txn });
    }
}

/// The store answered.
pub fn on_committed(
    core: &mut Core,
    now: Now,
    id: u64,
    result: Result<(), CommitError>,
    out: &mut Vec<Output>,
) {
    match result {
        Ok(()) => {
            for effect in core.pending.committed(id).unwrap_or_default() {
                happen(core, now, effect, out);
            }
        }
        Err(CommitError::Unavailable) => {
            let Some(tries) = core.pending.in_doubt(id) else {
                return;
            };
            if tries == 1 {
                note(
                    out,
                    NoteLevel::Warn,
                    "the store cannot be reached: nothing new is begun until it can",
                );
            }
            let pause = FIRST_PAUSE * 2_u64.saturating_pow((tries - 1).min(16));
            core.timers
                .set(Timer::Commit, now.mono + pause.min(LONGEST_PAUSE));
        }
        Err(error @ CommitError::TooLarge { .. }) => {
            if !core.pending.too_large(id) {
                abdicate(core, error.to_string(), out);
            }
        }
        Err(
            error @ (CommitError::Fenced
            | CommitError::Conflict { .. }
            | CommitError::BadKey { .. }),
        ) => {
            abdicate(core, error.to_string(), out);
        }
    }
}

/// What is in memory is not what is stored, and never will be: somebody must load it anew.
fn abdicate(core: &mut Core, reason: String, out: &mut Vec<Output>) {
    core.retired = true;
    out.push(Output::Abdicate {
        reason,
        removed: false,
    });
}

fn happen(core: &mut Core, now: Now, effect: Effect, out: &mut Vec<Output>) {
    match effect {
        Effect::Reply { request, reply } => out.push(Output::Reply { request, reply }),
        Effect::Acknowledge(ack) => run::status::acknowledge(ack, out),
        Effect::Ended(task) => run::end::on_ended(core, &task, out),
        Effect::Begun { key, task, ack } => run::status::on_begun(core, &key, &task, ack, out),
        Effect::Intended { launch } => offers::on_intended(core, now, launch, out),
        Effect::Kill(task) => run::end::on_kill(core, &task, out),
    }
}
