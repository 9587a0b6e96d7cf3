//! The simulated cluster keeps its promises under faults, is the same for the same seed, and finds planted bugs.

use std::thread;

use mezzo_integration::sim::bugs::{Bug, Bugs};
use mezzo_integration::sim::cluster::{Report, Size, run};
use mezzo_integration::sim::faults::{Counts, Kind};

/// Seeds that every run of the tests plays.
const SEEDS: u64 = 500;
/// A planted bug must be found within so many.
const SEEDS_FOR_A_BUG: u64 = 500;
/// A kind of fault that struck less often in all seeds together proves nothing.
const STRIKES_MIN: u64 = 50;

/// Seeds that once broke something; they stay for good.
const REGRESSIONS: &str = include_str!("../seeds.txt");

fn play(seeds: impl IntoIterator<Item = u64>) -> Vec<Report> {
    let seeds: Vec<u64> = seeds.into_iter().collect();
    let half = seeds.len().div_ceil(2).max(1);
    let threads: Vec<_> = seeds
        .chunks(half)
        .map(<[u64]>::to_vec)
        .map(|part| {
            thread::spawn(move || {
                part.into_iter()
                    .map(|seed| run(seed, Size::default(), Bugs::NONE))
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    threads
        .into_iter()
        .flat_map(|thread| thread.join().expect("no panic in a run"))
        .collect()
}

fn complain(report: &Report) {
    if let Some(broken) = &report.broken {
        let tail = broken.tail.join("\n    ");
        panic!(
            "seed {} broke at {} ms: {}\n    {tail}\nagain: cargo run --release -p mezzo-integration \
             --bin simulate -- --from {} --seeds 1 --trace",
            report.seed, broken.at_ms, broken.words, report.seed
        );
    }
}

#[test]
fn promises_hold_in_every_seed() {
    let reports = play(0..SEEDS);
    let mut counts = Counts::default();
    for report in &reports {
        counts.add(&report.faults);
        complain(report);
        assert!(
            report.virtual_ms >= 240_000,
            "seed {} was too short",
            report.seed
        );
        assert!(report.payloads > 0, "seed {} started nothing", report.seed);
    }
    for kind in Kind::ALL {
        println!("{kind:?} struck {} times", counts.of(kind));
        assert!(
            counts.of(kind) >= STRIKES_MIN,
            "{kind:?} struck only {} times",
            counts.of(kind)
        );
    }
    assert!(
        counts.sum() >= 20 * SEEDS,
        "{} faults are too few",
        counts.sum()
    );
}

#[test]
fn seeds_that_once_failed_hold() {
    let seeds = REGRESSIONS
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty())
        .map(|line| line.parse().expect("a seed"));
    play(seeds).iter().for_each(complain);
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [1, 77, 4_242] {
        let (first, second) = (
            run(seed, Size::default(), Bugs::NONE),
            run(seed, Size::default(), Bugs::NONE),
        );
        assert_eq!(
            (first.hash, first.steps),
            (second.hash, second.steps),
            "seed {seed}"
        );
    }
}

#[test]
fn every_planted_bug_is_found() {
    let threads: Vec<_> = Bug::ALL
        .chunks(Bug::ALL.len().div_ceil(2))
        .map(<[Bug]>::to_vec)
        .map(|bugs| {
            thread::spawn(move || {
                for bug in bugs {
                    let found = (0..SEEDS_FOR_A_BUG).find(|seed| {
                        run(*seed, Size::default(), Bugs::plant(bug))
                            .broken
                            .is_some()
                    });
                    match found {
                        Some(seed) => println!("{bug:?} is found by seed {seed}"),
                        None => panic!("{bug:?} is not found in {SEEDS_FOR_A_BUG} seeds"),
                    }
                }
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().expect("every bug is found"));
}
