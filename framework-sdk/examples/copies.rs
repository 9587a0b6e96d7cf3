//! Keeps copies of a command running: `copies 127.0.0.1:5050 file:///tmp/copies 3 'sleep 1000'`.

use mezzo_model::ids::{AgentId, FrameworkId, TaskId};
use mezzo_sdk::framework::{Context, Ledger, RunConfig, Scheduler};
use mezzo_sdk::{offers::TaskSpec, scheduler::DriverConfig};
use mezzo_wire::v1;

/// With `RECONCILES` false it never asks what became of its tasks: a test shows that it then loses count.
pub struct Copies<const RECONCILES: bool> {
    /// How many copies.
    pub wanted: usize,
    /// Of what: a line of shell.
    pub command: String,
}

impl<const RECONCILES: bool> Copies<RECONCILES> {
    /// Ends what is too many; asks for offers while there are too few.
    fn balance(&self, cx: &mut Context<'_>) {
        let surplus: Vec<TaskId> = cx.tasks().alive().skip(self.wanted).cloned().collect();
        for task in &surplus {
            cx.kill(task);
        }
        cx.want_offers(cx.tasks().alive_count() < self.wanted);
    }
}

impl<const RECONCILES: bool> Scheduler for Copies<RECONCILES> {
    fn subscribed(&mut self, cx: &mut Context<'_>, _: &FrameworkId, _: bool) {
        self.balance(cx);
    }

    fn offers(&mut self, cx: &mut Context<'_>, offers: Vec<v1::Offer>) {
        let missing = self.wanted.saturating_sub(cx.tasks().alive_count());
        let copy = TaskSpec::shell("copy", &self.command)
            .needs("cpus", 0.1)
            .needs("mem", 32.0);
        cx.launch_up_to(missing, &copy, &offers);
        self.balance(cx);
    }

    fn update(&mut self, cx: &mut Context<'_>, _: &v1::TaskStatus) {
        self.balance(cx);
    }

    fn believes(&self, tasks: &Ledger) -> Vec<(TaskId, Option<AgentId>)> {
        if RECONCILES { tasks.named() } else { vec![] }
    }

    fn wanted(&self) -> Option<usize> {
        Some(self.wanted)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words = <[String; 4]>::try_from(std::env::args().skip(1).collect::<Vec<_>>());
    let [masters, state, wanted, command] =
        words.map_err(|_| "copies MASTERS STATE COUNT COMMAND")?;
    let mut config = RunConfig::new(DriverConfig::named("copies"), masters.parse()?);
    config.state = Some(state.parse()?);
    Ok(mezzo_sdk::run(
        Copies::<true> {
            wanted: wanted.parse()?,
            command,
        },
        config,
    )
    .await?)
}
