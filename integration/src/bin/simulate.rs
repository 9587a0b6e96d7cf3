//! Runs any number of seeds of the simulator: the soak that `./test` is too short for.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use mezzo_integration::sim::bugs::{Bug, Bugs};
use mezzo_integration::sim::cluster::{Size, run};
use mezzo_integration::sim::faults::{Counts, Kind};

/// Runs seeds of the cluster simulator and prints the first that breaks a promise.
#[derive(Debug, Parser)]
#[command(name = "simulate")]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 500)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Print the last steps of a broken run.
    #[arg(long)]
    trace: bool,
    /// Print every step.
    #[arg(long)]
    echo: bool,
    /// Plant a bug, by its name, such as `EarlyFlush`.
    #[arg(long)]
    bug: Option<String>,
    /// Go on after a broken seed.
    #[arg(long)]
    keep_going: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let bugs = match arguments.bug.as_deref().map(named) {
        None => Bugs::NONE,
        Some(Some(bug)) => Bugs::plant(bug),
        Some(None) => {
            eprintln!("no such bug; one of {:?}", Bug::ALL);
            return ExitCode::FAILURE;
        }
    };
    let (start, mut counts, mut steps, mut virtual_ms, mut broken) =
        (Instant::now(), Counts::default(), 0, 0, 0);
    for seed in arguments.from..arguments.from + arguments.seeds {
        let report = run(
            seed,
            Size {
                echo: arguments.echo,
                ..Size::default()
            },
            bugs,
        );
        counts.add(&report.faults);
        steps += report.steps;
        virtual_ms += report.virtual_ms;
        if let Some(failure) = report.broken {
            broken += 1;
            println!("seed {seed} at {} ms: {}", failure.at_ms, failure.words);
            if arguments.trace {
                failure.tail.iter().for_each(|step| println!("    {step}"));
            }
            if !arguments.keep_going {
                break;
            }
        }
    }
    let took = start.elapsed();
    println!(
        "{} seeds, {broken} broken, {steps} steps, {} s of virtual time in {took:.1?}",
        arguments.seeds,
        virtual_ms / 1000
    );
    for kind in Kind::ALL {
        println!("  {kind:?}: {}", counts.of(kind));
    }
    if broken == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn named(name: &str) -> Option<Bug> {
    Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == name)
}
