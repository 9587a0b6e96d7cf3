//! Keeps copies of a command running: `copies 127.0.0.1:5050 file:///tmp/copies 3 'sleep 1000'`.

use mezzo_model::ids::{AgentId, TaskId};
use mezzo_sdk::framework::{Context, Ledger, RunConfig, Scheduler};
use mezzo_sdk::{offers::TaskSpec, scheduler::DriverConfig};
use mezzo_wire::v1;

/// With `RECONCILES` false it never asks what became of its tasks: a test shows that it then loses count.
pub struct Copies<const RECONCILES: bool> {
    /// How many copies.
    pub wanted: usize,
    /// Of what.
    pub copy: TaskSpec,
}

impl<const RECONCILES: bool> Copies<RECONCILES> {
    /// So many copies of a line of shell.
    pub fn new(wanted: usize, command: &str) -> Self {
        let copy = TaskSpec::shell("copy", command)
            .needs("cpus", 0.1)
            .needs("mem", 32.0);
        Self { wanted, copy }
    }
}

impl<const RECONCILES: bool> Scheduler for Copies<RECONCILES> {
    fn offers(&mut self, cx: &mut Context<'_>, offers: Vec<v1::Offer>) {
        let missing = self.wanted.saturating_sub(cx.tasks().alive_count());
        cx.launch_up_to(missing, &self.copy, &offers);
    }

    fn balance(&mut self, cx: &mut Context<'_>) {
        let surplus: Vec<TaskId> = cx.tasks().alive().skip(self.wanted).cloned().collect();
        surplus.iter().for_each(|task| cx.kill(task));
        cx.want_offers(cx.tasks().alive_count() < self.wanted);
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
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [masters, state, wanted, command] = words.as_slice() else {
        return Err("say: copies MASTERS STATE COUNT COMMAND".into());
    };
    let mut config = RunConfig::new(DriverConfig::named("copies"), masters.parse()?);
    config.state = Some(state.parse()?);
    Ok(mezzo_sdk::run(Copies::<true>::new(wanted.parse()?, command), config).await?)
}
