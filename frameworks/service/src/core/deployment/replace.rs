//! One step of replacing outdated instances by current ones, within the bounds of the upgrade strategy.
//!
//! The step is a pure function of what is there, not of how far an earlier step came: it gives the same answer
//! after a change of leader, and nothing about its progress needs to be stored.
//!
//! Source: Marathon's arithmetic. `min` = ceil(n * minimumHealthCapacity) instances stay healthy, at most `most` =
//! floor(n * (1 + maximumOverCapacity)) are there at once; where both are equal and reached, one more may run, or
//! nothing could ever be replaced.
//!
//! Invariant: a step never takes the healthy below `min`, and never launches beyond `most` (or `most + 1`, as said).

use crate::core::app::UpgradeStrategy;
use crate::core::instance::InstanceId;

/// How far an outdated instance is from serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OldState {
    /// Does not serve: unhealthy, not running yet, or out of reach. Ending it costs nothing.
    Down,
    /// Runs, and its checks have not said anything yet. It is neither counted as healthy nor ended.
    InDoubt,
    /// Serves.
    Healthy,
}

/// What is there. The order of `old` is the order in which instances of one state end.
#[derive(Clone, Debug, Default)]
pub struct ReplaceView {
    /// How many instances are wanted.
    pub target: u32,
    /// Outdated instances that are to run.
    pub old: Vec<(InstanceId, OldState)>,
    /// Outdated instances that were told to end and have not yet.
    pub old_ending: u32,
    /// Current instances that exist, and whether each is healthy. Of those in excess the unhealthy end first.
    pub new: Vec<(InstanceId, bool)>,
    /// Current instances that were told to end and have not yet.
    pub new_ending: u32,
}

/// What to do now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplaceStep {
    /// End these.
    pub kill: Vec<InstanceId>,
    /// So many current instances may be waiting for an offer.
    pub launch: u32,
    /// Nothing outdated is left, and all that is wanted is healthy.
    pub done: bool,
}

/// The bounds of a replacement at this moment: the least healthy, the most there at once.
pub fn bounds(strategy: &UpgradeStrategy, target: u32, healthy: u32) -> (u32, u32) {
    let min = strategy.min_healthy(target);
    let most = strategy.max_capacity(target);
    if min == most && healthy >= min {
        (min, most.saturating_add(1))
    } else {
        (min, most)
    }
}

/// Computes the step.
pub fn plan_replace(view: &ReplaceView, strategy: &UpgradeStrategy) -> ReplaceStep {
    let old_healthy = of_state(view, OldState::Healthy).count() as u32;
    let new_healthy = view.new.iter().filter(|(_, healthy)| *healthy).count() as u32;
    let have = view.new.len() as u32;
    let excess = have.saturating_sub(view.target);
    let new_kept_healthy = new_healthy - excess.saturating_sub(have - new_healthy);
    let healthy = old_healthy + new_kept_healthy;
    let (min, most) = bounds(strategy, view.target, old_healthy + new_healthy);
    let mut kill: Vec<InstanceId> = of_state(view, OldState::Down).collect();
    let spare = healthy.saturating_sub(min).min(old_healthy);
    kill.extend(of_state(view, OldState::Healthy).take(spare as usize));
    if view.target == 0 {
        kill.extend(of_state(view, OldState::InDoubt));
    }
    let (sick, well): (Vec<_>, Vec<_>) = view.new.iter().partition(|(_, healthy)| !healthy);
    kill.extend(
        sick.into_iter()
            .chain(well)
            .take(excess as usize)
            .map(|(id, _)| id.clone()),
    );
    // Those told to end still take their place until they are seen to have ended.
    let there = view.old.len() as u32 + view.old_ending + view.new_ending + have;
    let room = most.saturating_sub(there);
    let launch = view.target.saturating_sub(have).min(room);
    let done = view.old.is_empty()
        && view.old_ending == 0
        && view.new_ending == 0
        && have == view.target
        && new_healthy == have;
    ReplaceStep { kill, launch, done }
}

fn of_state(view: &ReplaceView, state: OldState) -> impl Iterator<Item = InstanceId> + '_ {
    view.old
        .iter()
        .filter(move |(_, own)| *own == state)
        .map(|(id, _)| id.clone())
}

#[cfg(test)]
mod tests;
