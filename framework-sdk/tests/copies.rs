//! The example framework in the simulated cluster.

#[allow(dead_code)]
#[path = "../examples/copies.rs"]
mod copies;

use copies::Copies;
use mezzo_sdk::testing::{self, Fault, Profile};

fn three<const RECONCILES: bool>() -> Copies<RECONCILES> {
    Copies { wanted: 3, command: "sleep 1000".to_owned() }
}

#[test]
fn the_example_survives_a_thousand_seeds() {
    let report = testing::check(0..1000, three::<true>);
    assert_eq!(report.seeds, 1000);
    for fault in Fault::ALL {
        let times = report.faults.get(&fault).copied().unwrap_or(0);
        assert!(times >= 500, "{fault} came only {times} times");
    }
    assert!(report.kills_per_minute.is_some_and(|rate| rate >= 4), "{report}");
}

#[test]
fn without_reconciliation_it_loses_count_within_a_hundred() {
    let failure = testing::try_check(0..100, three::<false>).expect_err("a hundred seeds passed");
    assert!(failure.rule.contains("3 tasks are wanted"), "{failure}");
    assert!(!failure.tail.is_empty());
    println!("seed {} of 100: {}", failure.seed, failure.rule);
}

#[test]
fn one_seed_is_one_history() {
    let profile = Profile::default();
    let run = |seed| testing::run_seed(seed, &profile, testing::config(), &three::<true>);
    for seed in 0..20 {
        let first = run(seed).expect("it survives");
        assert_eq!(first, run(seed).expect("it survives"));
        assert_ne!(first.trace_hash, run(seed + 1000).expect("it survives").trace_hash);
    }
}
