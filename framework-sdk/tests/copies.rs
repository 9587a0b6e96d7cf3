//! The example framework in the simulated cluster, and wrong ones that the cluster must find out.

#[allow(dead_code)]
#[path = "../examples/copies.rs"]
mod copies;

use copies::Copies;
use mezzo_model::ids::TaskId;
use mezzo_sdk::framework::{Context, Decline, Scheduler};
use mezzo_sdk::offers::HeldOffer;
use mezzo_sdk::testing::{self, Fault, Profile};
use mezzo_wire::v1;

fn six<const RECONCILES: bool>() -> Copies<RECONCILES> {
    Copies::new(6, "sleep 1000")
}

#[test]
fn the_example_survives_a_thousand_seeds() {
    let report = testing::check(0..1000, six::<true>);
    assert_eq!(report.seeds, 1000);
    for fault in Fault::ALL {
        let times = report.faults.get(&fault).copied().unwrap_or(0);
        assert!(times >= 500, "{fault} came only {times} times");
    }
    assert!(
        report.kills_per_minute.is_some_and(|rate| rate >= 4),
        "{report}"
    );
}

#[test]
fn without_reconciliation_it_loses_count_within_a_hundred() {
    let failure = testing::try_check(0..100, six::<false>).expect_err("a hundred seeds passed");
    assert!(failure.rule.contains("6 tasks are wanted"), "{failure}");
    assert!(!failure.tail.is_empty());
    println!("seed {} of 100: {}", failure.seed, failure.rule);
}

#[test]
fn one_seed_is_one_history() {
    let profile = Profile::default();
    let run = |seed| testing::run_seed(seed, &profile, testing::config(), &six::<true>);
    for seed in 0..20 {
        let first = run(seed).expect("it survives");
        assert_eq!(first, run(seed).expect("it survives"));
        assert_ne!(
            first.trace_hash,
            run(seed + 1000).expect("it survives").trace_hash
        );
    }
}

/// Ways to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    /// Tasks are numbered from one in each process.
    ReusesIds,
    /// What comes back after it was replaced is left running.
    KeepsSurplus,
    /// Offers are never wanted again once all ran.
    ForgetsToRevive,
    /// Offers that are not used are kept.
    HoardsOffers,
}

struct Odd {
    wrong: Wrong,
    inner: Copies<true>,
    launched: u64,
}

impl Scheduler for Odd {
    fn offers(&mut self, cx: &mut Context<'_>, offers: Vec<v1::Offer>) {
        let missing = self.inner.wanted.saturating_sub(cx.tasks().alive_count());
        match self.wrong {
            Wrong::ReusesIds => {
                for (nth, offer) in offers.iter().enumerate() {
                    let held = HeldOffer::read(offer).expect("a good offer");
                    let fit =
                        mezzo_sdk::offers::fit(&self.inner.copy.request, &held.resources, cx.rng());
                    let Ok(fit) = fit
                        .map_err(drop)
                        .and_then(|fit| (nth < missing).then_some(fit).ok_or(()))
                    else {
                        cx.decline(std::slice::from_ref(offer), Decline::DoesNotFit);
                        continue;
                    };
                    self.launched += 1;
                    let id = TaskId::parse(&format!("copy.{}", self.launched)).expect("a good id");
                    let task = self.inner.copy.at(&id, &held.agent, &fit);
                    cx.launch(vec![held.id], vec![task], Decline::DoesNotFit);
                }
            }
            Wrong::HoardsOffers if missing == 0 => {}
            _ => self.inner.offers(cx, offers),
        }
    }

    fn balance(&mut self, cx: &mut Context<'_>) {
        match self.wrong {
            Wrong::KeepsSurplus => cx.want_offers(cx.tasks().alive_count() < self.inner.wanted),
            Wrong::ForgetsToRevive if cx.tasks().alive_count() < self.inner.wanted => {}
            Wrong::HoardsOffers => {
                let surplus: Vec<TaskId> = cx
                    .tasks()
                    .alive()
                    .skip(self.inner.wanted)
                    .cloned()
                    .collect();
                surplus.iter().for_each(|task| cx.kill(task));
            }
            _ => self.inner.balance(cx),
        }
    }

    fn wanted(&self) -> Option<usize> {
        self.inner.wanted()
    }
}

#[test]
fn wrong_frameworks_are_found_out_within_a_hundred_seeds() {
    let cases = [
        (Wrong::ReusesIds, "started twice"),
        (Wrong::KeepsSurplus, "6 tasks are wanted"),
        (Wrong::ForgetsToRevive, "6 tasks are wanted"),
        (Wrong::HoardsOffers, "6 tasks are wanted"),
    ];
    for (wrong, rule) in cases {
        let make = || Odd {
            wrong,
            inner: six(),
            launched: 0,
        };
        let failure = testing::try_check(0..100, make).expect_err(rule);
        assert!(failure.rule.contains(rule), "{wrong:?}: {failure}");
        println!("{wrong:?}: seed {}: {}", failure.seed, failure.rule);
    }
}

#[test]
fn wrong_drivers_are_found_out_within_a_hundred_seeds() {
    let never = mezzo_model::Millis::from_secs(1_000_000_000);
    let mut deaf = testing::config();
    deaf.heartbeats_missed = u32::MAX;
    deaf.call_timeout = never;
    let mut asks_once = testing::config();
    asks_once.reconcile_initial = never;
    asks_once.reconcile_max = never;
    let mut gives_up = testing::config();
    gives_up.backoff_initial = never;
    gives_up.backoff_max = never;
    let wrong = [
        ("deaf", deaf),
        ("asks once", asks_once),
        ("gives up", gives_up),
    ];
    for (what, config) in wrong {
        let profile = Profile::default();
        let make = six::<true>;
        let failure = (0..100)
            .find_map(|seed| testing::run_seed(seed, &profile, config.clone(), &make).err())
            .unwrap_or_else(|| panic!("{what}: a hundred seeds passed"));
        println!("{what}: seed {}: {}", failure.seed, failure.rule);
    }
}
