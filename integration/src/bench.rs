//! The benchmarks: what they measure, and what bounds each figure.
//!
//! Real daemons on loopback, real ZooKeeper, one machine; `allocate` is the allocator alone. Nothing here asserts a
//! time: machines are shared and noisy. Each benchmark prints medians and tails, what bounds it, and, where one was
//! measured on such a machine, the figure of an Apache Mesos 1.12 development head beside it.

mod allocate;
mod failover;
mod hold;
mod latency;
mod memory;
mod oci;
mod rig;
mod stats;
mod throughput;

use clap::{Parser, Subcommand};

/// Prints what Mezzo costs on this machine.
#[derive(Debug, Parser)]
#[command(name = "bench", about = "Prints what Mezzo costs on this machine.")]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// All of the below, one after another.
    All,
    /// ACCEPT sent until TASK_RUNNING received, one task at a time, `process` containerizer.
    Latency {
        /// How many tasks.
        #[arg(long, default_value_t = 100)]
        count: usize,
    },
    /// ACCEPT sent until the first instruction of the payload, `oci` containerizer, beside a bare run of the same
    /// runtime.
    Oci {
        /// How many of each.
        #[arg(long, default_value_t = 30)]
        count: usize,
    },
    /// Tasks of `true` per second through one agent.
    Throughput {
        /// How many tasks in all.
        #[arg(long, default_value_t = 3000)]
        count: usize,
    },
    /// Tasks of `sleep` launched in one ACCEPT.
    Hold {
        /// How many tasks.
        #[arg(long, default_value_t = 1000)]
        count: usize,
    },
    /// Memory of master, agent and executors, idle and with tasks.
    Memory {
        /// How many tasks.
        #[arg(long, default_value_t = 1000)]
        count: usize,
    },
    /// Cycles of the allocator alone, in process.
    Allocate {
        /// How many cycles over all agents, of each size.
        #[arg(long, default_value_t = 20)]
        rounds: usize,
        /// Leave the largest size out.
        #[arg(long)]
        short: bool,
    },
    /// From the end of the leading master to the first offer of the next.
    Failover {
        /// How many times each.
        #[arg(long, default_value_t = 3)]
        count: usize,
    },
}

/// Runs what the command line asks for.
///
/// # Errors
/// If a daemon does not come up or a task does not do as it should.
pub async fn main() -> anyhow::Result<()> {
    match Arguments::parse().what {
        What::All => {
            latency::run(100).await?;
            oci::run(30).await?;
            throughput::run(3000).await?;
            hold::run(1000).await?;
            memory::run(1000).await?;
            failover::run(3).await?;
            allocate::run(20, true)
        }
        What::Latency { count } => latency::run(count).await,
        What::Oci { count } => oci::run(count).await,
        What::Throughput { count } => throughput::run(count).await,
        What::Hold { count } => hold::run(count).await,
        What::Memory { count } => memory::run(count).await,
        What::Allocate { rounds, short } => allocate::run(rounds, short),
        What::Failover { count } => failover::run(count).await,
    }
}
