//! Examples of Marathon's arithmetic, and the laws that hold for every strategy and every order of events.

use proptest::prelude::*;

use super::*;
use crate::core::app_id::AppId;

fn id(n: usize) -> InstanceId {
    InstanceId::new(AppId::parse("/a").expect("good"), &format!("{n:08}"))
}

fn strategy(min: f64, over: f64) -> UpgradeStrategy {
    UpgradeStrategy {
        minimum_health_capacity: min,
        maximum_over_capacity: over,
    }
}

#[test]
fn the_first_step_is_marathons() {
    for (n, min, over, kill, launch) in [
        (4, 1.0, 1.0, 0, 4),
        (4, 0.5, 0.0, 2, 0),
        (4, 1.0, 0.0, 0, 1),
        (1, 0.0, 0.0, 1, 0),
        (3, 0.5, 0.2, 1, 0),
        (10, 0.8, 0.5, 2, 5),
        (1, 1.0, 1.0, 0, 1),
    ] {
        let old = (0..n).map(|i| (id(i), OldState::Healthy)).collect();
        let view = ReplaceView {
            target: n as u32,
            old,
            ..ReplaceView::default()
        };
        let step = plan_replace(&view, &strategy(min, over));
        assert_eq!(
            (step.kill.len(), step.launch),
            (kill, launch),
            "{n} {min} {over}"
        );
        assert!(!step.done);
    }
}

#[test]
fn what_does_not_serve_ends_first_and_what_is_in_doubt_stays() {
    let view = ReplaceView {
        target: 3,
        old: vec![
            (id(0), OldState::InDoubt),
            (id(1), OldState::Healthy),
            (id(2), OldState::Down),
        ],
        ..ReplaceView::default()
    };
    let step = plan_replace(&view, &strategy(1.0, 0.0));
    assert_eq!(step.kill, vec![id(2)]);
    assert_eq!(
        step.launch, 0,
        "the place of the one that ends is not free yet"
    );
}

#[test]
fn none_wanted_ends_all() {
    let old = vec![(id(0), OldState::InDoubt), (id(1), OldState::Healthy)];
    let view = ReplaceView {
        target: 0,
        old,
        ..ReplaceView::default()
    };
    assert_eq!(plan_replace(&view, &strategy(1.0, 1.0)).kill.len(), 2);
    assert!(plan_replace(&ReplaceView::default(), &strategy(1.0, 1.0)).done);
}

/// A world in which what is launched becomes healthy and what is killed ends, each in its own time.
#[derive(Debug)]
struct World {
    target: u32,
    old: Vec<(usize, OldState)>,
    old_ending: Vec<usize>,
    new: Vec<(usize, bool)>,
    new_ending: Vec<usize>,
    next: usize,
}

impl World {
    fn view(&self) -> ReplaceView {
        ReplaceView {
            target: self.target,
            old: self.old.iter().map(|(n, state)| (id(*n), *state)).collect(),
            old_ending: self.old_ending.len() as u32,
            new: self
                .new
                .iter()
                .map(|(n, healthy)| (id(*n), *healthy))
                .collect(),
            new_ending: self.new_ending.len() as u32,
        }
    }

    fn healthy_new(&self) -> u32 {
        self.new.iter().filter(|(_, healthy)| *healthy).count() as u32
    }

    fn healthy(&self) -> u32 {
        let old = self
            .old
            .iter()
            .filter(|(_, state)| *state == OldState::Healthy)
            .count() as u32;
        old + self.healthy_new()
    }

    fn there(&self) -> u32 {
        (self.old.len() + self.old_ending.len() + self.new.len() + self.new_ending.len()) as u32
    }

    fn carry_out(&mut self, step: &ReplaceStep) {
        for killed in &step.kill {
            if let Some(at) = self.old.iter().position(|(n, _)| id(*n) == *killed) {
                self.old_ending.push(self.old.remove(at).0);
            } else if let Some(at) = self.new.iter().position(|(n, _)| id(*n) == *killed) {
                self.new_ending.push(self.new.remove(at).0);
            }
        }
        for _ in 0..step.launch {
            self.new.push((self.next, false));
            self.next += 1;
        }
    }

    /// One thing happens by itself; `choice` says which.
    fn happen(&mut self, choice: usize) -> bool {
        let starting: Vec<usize> = (0..self.new.len()).filter(|at| !self.new[*at].1).collect();
        let doubts: Vec<usize> = (0..self.old.len())
            .filter(|at| self.old[*at].1 == OldState::InDoubt)
            .collect();
        let all = self.old_ending.len() + self.new_ending.len() + starting.len() + doubts.len();
        if all == 0 {
            return false;
        }
        let mut choice = choice % all;
        if choice < self.old_ending.len() {
            self.old_ending.remove(choice);
            return true;
        }
        choice -= self.old_ending.len();
        if choice < self.new_ending.len() {
            self.new_ending.remove(choice);
            return true;
        }
        choice -= self.new_ending.len();
        if choice < starting.len() {
            self.new[starting[choice]].1 = true;
            return true;
        }
        let state = if choice.is_multiple_of(2) {
            OldState::Healthy
        } else {
            OldState::Down
        };
        self.old[doubts[choice - starting.len()]].1 = state;
        true
    }
}

fn old_state() -> impl Strategy<Value = OldState> {
    prop_oneof![4 => Just(OldState::Healthy), 1 => Just(OldState::Down), 1 => Just(OldState::InDoubt)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn bounds_hold_at_every_step_and_it_always_ends(
        target in 0_u32..12,
        old in prop::collection::vec(old_state(), 0..14),
        started in 0_usize..6,
        min in 0.0_f64..=1.0,
        over in 0.0_f64..=1.0,
        extreme in 0_u8..4,
        choices in prop::collection::vec(0_usize..64, 1..40),
        trouble in prop::collection::vec(any::<bool>(), 1..40),
    ) {
        let strategy = match extreme {
            0 => strategy(0.0, 0.0),
            1 => strategy(1.0, 0.0),
            2 => strategy(1.0, 1.0),
            _ => strategy(min, over),
        };
        let old: Vec<(usize, OldState)> = old.into_iter().enumerate().collect();
        let new = (100..100 + started).map(|n| (n, n % 2 == 0)).collect();
        let mut world =
            World { target, old, old_ending: vec![], new, new_ending: vec![], next: 200 };
        let mut events = choices.iter().cycle();
        let mut troubles = trouble.iter();
        for round in 0.. {
            prop_assert!(round < 400, "does not end: {world:?}");
            let (healthy, there) = (world.healthy(), world.there());
            let (min, most) = bounds(&strategy, target, healthy);
            let step = plan_replace(&world.view(), &strategy);
            world.carry_out(&step);
            prop_assert!(world.healthy() >= healthy.min(min), "too few healthy: {world:?} {step:?}");
            prop_assert!(world.there() <= there.max(most), "too many there: {world:?} {step:?}");
            if step.done {
                prop_assert!(world.old.is_empty() && world.healthy_new() == target);
                break;
            }
            // While there is trouble to come, instances fall sick by themselves; then the world calms down.
            if let Some(true) = troubles.next()
                && let Some(sick) = world.new.first_mut()
            {
                sick.1 = false;
                continue;
            }
            let happened = world.happen(*events.next().unwrap_or(&0));
            prop_assert!(happened || !step.kill.is_empty() || step.launch > 0, "stuck: {world:?}");
        }
    }
}
