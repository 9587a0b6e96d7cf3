//! One step towards the wanted number of instances, whatever their versions.
//!
//! Used by the scaling action of a deployment and, all the time, for every app that no deployment holds.
//! A pure function of what is there, as [`replace`](super::replace) is.
//!
//! Invariant: a step never both ends and launches, and after it is carried out the count is right.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::core::app::KillSelection;
use crate::core::instance::InstanceId;

/// How little is lost with an instance: the lower, the sooner it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worth {
    /// Waits for an offer.
    Waiting,
    /// Its agent cannot be reached.
    Unreachable,
    /// On its way to an executor.
    Staging,
    /// Its executor prepares it.
    Starting,
    /// Runs.
    Running,
}

/// An instance that counts.
#[derive(Clone, Debug)]
pub struct Present {
    /// Which.
    pub id: InstanceId,
    /// What would be lost.
    pub worth: Worth,
    /// Since when it is there, milliseconds since the Unix epoch.
    pub since: u64,
    /// Its values of the fields that the app is spread over, in the order of the constraints.
    pub groups: Vec<Option<String>>,
    /// Runs and is healthy.
    pub ready: bool,
}

/// What is there.
#[derive(Clone, Debug, Default)]
pub struct ScaleView {
    /// How many instances are wanted.
    pub target: u32,
    /// Those that count.
    pub present: Vec<Present>,
    /// How many were told to end and have not yet.
    pub ending: u32,
    /// Named by a person to end.
    pub sentenced: BTreeSet<InstanceId>,
    /// Who ends first among equals.
    pub selection: KillSelection,
    /// Launch nothing before all that ends has ended.
    pub wait_for_ends: bool,
}

/// What to do now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScaleStep {
    /// End these.
    pub kill: Vec<InstanceId>,
    /// So many new instances may be waiting for an offer.
    pub launch: u32,
    /// As many as wanted are ready, and none is ending.
    pub done: bool,
}

/// Computes the step.
pub fn plan_scale(view: &ScaleView) -> ScaleStep {
    let present = view.present.len() as u32;
    let named = view
        .present
        .iter()
        .filter(|one| view.sentenced.contains(&one.id))
        .count() as u32;
    let surplus = present.saturating_sub(view.target).max(named);
    let kill = select(view, surplus as usize);
    let missing = (view.target + surplus).saturating_sub(present);
    let waits = view.wait_for_ends && (view.ending > 0 || !kill.is_empty());
    let launch = if waits { 0 } else { missing };
    let ready = view.present.iter().filter(|one| one.ready).count() as u32;
    let done = kill.is_empty()
        && view.ending == 0
        && present == view.target
        && (view.target == 0 || ready >= view.target);
    ScaleStep { kill, launch, done }
}

/// The `count` instances that end: those named, then those whose end keeps the groups even, then the least worth.
fn select(view: &ScaleView, count: usize) -> Vec<InstanceId> {
    if count == 0 {
        return Vec::new();
    }
    let mut left: Vec<&Present> = view.present.iter().collect();
    left.sort_by_key(|one| order(one, view));
    let mut kill = Vec::with_capacity(count);
    while kill.len() < count && !left.is_empty() {
        let at = next(&left, view);
        kill.push(left.remove(at).id.clone());
    }
    kill
}

type Order = (bool, Worth, Reverse<u64>, u64, InstanceId);

fn order(one: &Present, view: &ScaleView) -> Order {
    let (young, old) = match view.selection {
        KillSelection::YoungestFirst => (Reverse(one.since), 0),
        KillSelection::OldestFirst => (Reverse(0), one.since),
    };
    (
        !view.sentenced.contains(&one.id),
        one.worth,
        young,
        old,
        one.id.clone(),
    )
}

/// The place of the next one to end in a list that is in order.
fn next(left: &[&Present], view: &ScaleView) -> usize {
    let first = left[0];
    let is_spread = first.groups.iter().any(Option::is_some);
    // What was named, or does not run, ends whatever its group.
    if !is_spread || view.sentenced.contains(&first.id) || first.worth == Worth::Waiting {
        return 0;
    }
    let mut counts: BTreeMap<(usize, &str), usize> = BTreeMap::new();
    for one in left {
        for (field, value) in one.groups.iter().enumerate() {
            if let Some(value) = value {
                *counts.entry((field, value)).or_default() += 1;
            }
        }
    }
    let crowd = |one: &Present| -> usize {
        let of = |(field, value): (usize, &Option<String>)| {
            value
                .as_deref()
                .and_then(|value| counts.get(&(field, value)))
                .copied()
                .unwrap_or(0)
        };
        one.groups.iter().enumerate().map(of).sum()
    };
    let fullest = left.iter().map(|one| crowd(one)).max().unwrap_or(0);
    left.iter()
        .position(|one| crowd(one) == fullest)
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::app_id::AppId;

    fn id(n: u64) -> InstanceId {
        InstanceId::new(AppId::parse("/a").expect("good"), &format!("{n:08}"))
    }

    fn running(n: u64) -> Present {
        Present {
            id: id(n),
            worth: Worth::Running,
            since: n,
            groups: vec![],
            ready: true,
        }
    }

    fn view(target: u32, present: Vec<Present>) -> ScaleView {
        ScaleView {
            target,
            present,
            ..ScaleView::default()
        }
    }

    #[test]
    fn missing_ones_are_launched_and_surplus_ends() {
        let step = plan_scale(&view(3, vec![running(1)]));
        assert_eq!((step.kill.len(), step.launch, step.done), (0, 2, false));
        let step = plan_scale(&view(1, vec![running(1), running(2), running(3)]));
        assert_eq!((step.kill, step.launch), (vec![id(3), id(2)], 0));
        assert!(plan_scale(&view(1, vec![running(1)])).done);
        assert!(plan_scale(&view(0, vec![])).done);
    }

    #[test]
    fn selection_looks_at_worth_then_age() {
        let mut starting = running(1);
        starting.worth = Worth::Starting;
        let mut view = view(2, vec![running(5), starting, running(9)]);
        assert_eq!(plan_scale(&view).kill, vec![id(1)]);
        view.target = 1;
        view.selection = KillSelection::OldestFirst;
        assert_eq!(plan_scale(&view).kill, vec![id(1), id(5)]);
    }

    #[test]
    fn the_named_end_even_when_none_is_surplus_and_are_replaced_afterwards() {
        let mut view = view(2, vec![running(1), running(2)]);
        view.sentenced.insert(id(1));
        view.wait_for_ends = true;
        let step = plan_scale(&view);
        assert_eq!((step.kill, step.launch), (vec![id(1)], 0));
        view.present.remove(0);
        view.ending = 1;
        assert_eq!(plan_scale(&view).launch, 0);
        view.ending = 0;
        assert_eq!(plan_scale(&view).launch, 1);
    }

    #[test]
    fn groups_stay_even() {
        let placed = |n: u64, rack: &str| Present {
            groups: vec![Some(rack.to_owned())],
            ..running(n)
        };
        let present = vec![
            placed(1, "a"),
            placed(2, "a"),
            placed(3, "a"),
            placed(4, "b"),
            placed(5, "c"),
        ];
        assert_eq!(plan_scale(&view(3, present)).kill, vec![id(3), id(2)]);
    }

    #[test]
    fn not_ready_is_not_done() {
        let mut sick = running(1);
        sick.ready = false;
        assert!(!plan_scale(&view(1, vec![sick])).done);
    }
}
