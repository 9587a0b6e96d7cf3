//! The subscription: what to ask after each new one, when to ask for offers and when not to.
//!
//! Offers are asked for exactly while runs wait. An offer that is not needed is declined in the same step, and
//! while nothing waits the role is suppressed, so that other frameworks get everything.

use mezzo_model::ids::{AgentId, OfferId, TaskId};
use mezzo_model::time::{Millis, Now};
use mezzo_sdk::scheduler::{SchedulerCommand, SchedulerEvent};

use super::io::{NoteLevel, Output};
use super::run::Stage;
use super::timers::Timer;
use super::{Core, note, offers, run};

/// For how long what does not fit is declined while runs wait, in seconds. A set that grew is offered at once all
/// the same.
pub const REFUSE_SECONDS: f64 = 5.0;

/// The least time between two calls that ask for declined offers again.
const REVIVE_INTERVAL: Millis = Millis(100);

/// How often attempts are asked about of which nothing was heard.
const RECONCILE_INTERVAL: Millis = Millis::from_secs(60);

/// What is known of the subscription.
#[derive(Debug, Default)]
pub struct Session {
    /// Whether there is one.
    pub connected: bool,
    /// Whether the master was told not to send offers; `None` if nothing was said on this subscription.
    suppressed: Option<bool>,
    last_revive: Option<Millis>,
    /// Until when offers that were declined are held back by the master.
    pub filters_until: Millis,
    /// A run came for which declined offers might do.
    pub revive_asked: bool,
}

/// The cluster said something.
pub fn on_event(core: &mut Core, now: Now, event: SchedulerEvent, out: &mut Vec<Output>) {
    match event {
        SchedulerEvent::Subscribed {
            framework_id,
            resubscribed,
        } => {
            let how = if resubscribed {
                "again"
            } else {
                "for the first time"
            };
            note(
                out,
                NoteLevel::Info,
                format!("subscribed {how} as {framework_id}"),
            );
            on_subscribed(core, now, out);
        }
        SchedulerEvent::Disconnected => {
            core.session = Session::default();
            core.timers.cancel(&Timer::Revive);
            offers::drop_all(core, now);
        }
        SchedulerEvent::Offers(offers) => offers::on_offers(core, now, offers, out),
        SchedulerEvent::Rescind(offer) => offers::on_rescind(core, now, &offer),
        SchedulerEvent::Update { status, ack } => {
            run::status::on_update(core, now, &status, ack, out);
        }
        SchedulerEvent::Message {
            agent, executor, ..
        } => {
            let text =
                format!("executor {executor} on agent {agent} sent a message; it is not used");
            note(out, NoteLevel::Debug, text);
        }
        SchedulerEvent::Failure { agent, .. } => {
            // The tasks' own statuses say what is to be done.
            let agent = agent.map_or_else(
                || String::from("an agent"),
                |agent| format!("agent {agent}"),
            );
            note(out, NoteLevel::Info, format!("{agent} reported a failure"));
        }
        SchedulerEvent::Refused { message, fatal } => {
            note(
                out,
                NoteLevel::Warn,
                format!("the master refused: {message}"),
            );
            if fatal {
                core.retired = true;
                // The protocol says it in words only: of a framework that was torn down, or away for too long.
                let removed = message.to_ascii_lowercase().contains("removed");
                let reason = format!("the master will not have this framework any more: {message}");
                out.push(Output::Abdicate { reason, removed });
            }
        }
    }
}

fn on_subscribed(core: &mut Core, now: Now, out: &mut Vec<Output>) {
    core.session = Session {
        connected: true,
        ..Session::default()
    };
    let mut asked: Vec<(TaskId, Option<AgentId>)> = Vec::new();
    for (task, key) in &core.tasks {
        if let Some(attempt) = core.run(key).and_then(super::run::Run::launched) {
            asked.push((task.clone(), Some(attempt.agent.clone())));
        }
    }
    if !asked.is_empty() {
        out.push(Output::Scheduler(SchedulerCommand::Reconcile(asked)));
    }
    // And whatever the master knows that we do not: it is ended.
    out.push(Output::Scheduler(SchedulerCommand::Reconcile(Vec::new())));
    core.timers
        .set(Timer::Reconcile, now.mono + RECONCILE_INTERVAL);
}

/// Asks about attempts of which nothing was ever heard; the driver goes on asking until each is answered.
pub fn on_reconcile_due(core: &mut Core, now: Now, out: &mut Vec<Output>) {
    if !core.session.connected {
        return;
    }
    let silent = core.tasks.iter().filter_map(|(task, key)| {
        let attempt = core.run(key)?.launched()?;
        let since = now.wall.0.saturating_sub(attempt.launched_at.0);
        let silent = attempt.state.is_none() && since >= RECONCILE_INTERVAL.0;
        silent.then(|| (task.clone(), Some(attempt.agent.clone())))
    });
    let silent: Vec<_> = silent.collect();
    if !silent.is_empty() {
        out.push(Output::Scheduler(SchedulerCommand::Reconcile(silent)));
    }
    core.timers
        .set(Timer::Reconcile, now.mono + RECONCILE_INTERVAL);
}

/// Asks for offers while runs wait, and only then.
pub fn settle_demand(core: &mut Core, now: Now, out: &mut Vec<Output>) {
    if !core.session.connected {
        return;
    }
    if core.queue.is_empty() {
        core.session.revive_asked = false;
        core.timers.cancel(&Timer::Revive);
        if core.session.suppressed != Some(true) {
            core.session.suppressed = Some(true);
            out.push(Output::Scheduler(SchedulerCommand::Suppress {
                roles: Vec::new(),
            }));
        }
        return;
    }
    if core.session.suppressed != Some(false) {
        revive(core, now, out);
    } else if core.session.revive_asked {
        let due = core
            .session
            .last_revive
            .map_or(Millis::ZERO, |last| last + REVIVE_INTERVAL);
        if due <= now.mono {
            revive(core, now, out);
        } else {
            core.timers.set_if_unset(Timer::Revive, due);
        }
    }
}

fn revive(core: &mut Core, now: Now, out: &mut Vec<Output>) {
    core.session.suppressed = Some(false);
    core.session.revive_asked = false;
    core.session.last_revive = Some(now.mono);
    core.session.filters_until = Millis::ZERO;
    core.timers.cancel(&Timer::Revive);
    out.push(Output::Scheduler(SchedulerCommand::Revive {
        roles: Vec::new(),
    }));
}

/// Gives offers back; while runs wait, such that they are not offered again at once.
pub fn decline(core: &mut Core, now: Now, offers: Vec<OfferId>, out: &mut Vec<Output>) {
    if offers.is_empty() {
        return;
    }
    let filters = Some(refuse(core, now, REFUSE_SECONDS));
    out.push(Output::Scheduler(SchedulerCommand::Decline {
        offers,
        filters,
    }));
}

/// A filter of so many seconds, remembered: a smaller run that comes meanwhile asks for offers again.
pub fn refuse(core: &mut Core, now: Now, seconds: f64) -> mezzo_wire::v1::Filters {
    // The master counts at least one second.
    let until = now.mono + Millis::from_secs_f64(seconds.max(1.0)).unwrap_or(Millis::ZERO);
    core.session.filters_until = core.session.filters_until.max(until);
    mezzo_sdk::offers::task::refuse_for(seconds)
}

/// Whether an attempt is on its way to the store with this launch.
pub fn is_intended(stage: &Stage, of: u64) -> bool {
    matches!(stage, Stage::Intended { launch, .. } if *launch == of)
}
