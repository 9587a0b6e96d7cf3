//! What people do during a simulation: apps deployed, scaled, restarted and deleted; jobs defined, run and stopped.
//!
//! A step is repeated until somebody who leads has answered it; only what was answered counts as wanted.

use std::collections::BTreeMap;

use mezzo_batch::core as batch;
use mezzo_model::rng::Rng;
use mezzo_service::core as service;
use serde_json::json;

/// One thing that somebody wants.
#[derive(Clone, Debug)]
pub enum Wish {
    /// This app with so many instances; a new `generation` replaces every instance.
    App {
        /// Which.
        id: String,
        /// How many.
        instances: u32,
        /// Grows with each replacement.
        generation: u32,
    },
    /// No such app.
    NoApp {
        /// Which.
        id: String,
    },
    /// This job.
    Job {
        /// Which.
        id: String,
        /// What its payload does.
        command: String,
    },
    /// One run of this job.
    Run {
        /// Which.
        job: String,
    },
}

/// A step of the workload.
#[derive(Clone, Debug)]
pub struct Step {
    /// When, in milliseconds of virtual time.
    pub at_ms: u64,
    /// What.
    pub wish: Wish,
}

/// What was asked for and answered.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Instances of each app.
    pub apps: BTreeMap<String, u32>,
    /// Apps of which a change is under way, unanswered: either count is right.
    pub open: BTreeMap<String, u32>,
    /// Runs that were acknowledged.
    pub runs: u64,
}

/// The steps of a seed, in the order of their times.
pub fn plan(rng: &mut Rng, until_ms: u64) -> Vec<Step> {
    let mut steps = Vec::new();
    for n in 0..rng.between(2, 4) {
        let id = format!("/app-{n}");
        let mut at_ms = rng.between(3_000, 20_000);
        let mut generation = 0;
        let instances = u32::try_from(rng.between(1, 6)).unwrap_or(1);
        steps.push(Step {
            at_ms,
            wish: Wish::App {
                id: id.clone(),
                instances,
                generation,
            },
        });
        for _ in 0..rng.below(4) {
            at_ms += rng.between(10_000, 60_000);
            if at_ms >= until_ms {
                break;
            }
            let gone = rng.below(6) == 0;
            generation += u32::from(rng.below(2) == 0);
            let instances = u32::try_from(rng.between(1, 7)).unwrap_or(1);
            let id = id.clone();
            let wish = if gone {
                Wish::NoApp { id }
            } else {
                Wish::App {
                    id,
                    instances,
                    generation,
                }
            };
            steps.push(Step { at_ms, wish });
        }
    }
    for n in 0..rng.between(1, 3) {
        let id = format!("job-{n}");
        let mut at_ms = rng.between(3_000, 15_000);
        let command = match rng.below(4) {
            0 => "fail:700".to_owned(),
            _ => format!("run:{}", rng.between(100, 9_000)),
        };
        steps.push(Step {
            at_ms,
            wish: Wish::Job {
                id: id.clone(),
                command,
            },
        });
        for _ in 0..rng.between(3, 12) {
            at_ms += rng.between(50, 25_000);
            if at_ms < until_ms {
                steps.push(Step {
                    at_ms,
                    wish: Wish::Run { job: id.clone() },
                });
            }
        }
    }
    steps.sort_by_key(|step| step.at_ms);
    steps
}

/// The call that a wish is, if it is one to the service framework.
pub fn service_call(wish: &Wish) -> Option<service::request::ApiCall> {
    match wish {
        Wish::App {
            id,
            instances,
            generation,
        } => {
            let document = json!({
                "id": id, "cmd": "forever", "cpus": 0.5, "mem": 64, "instances": instances,
                "env": {"GENERATION": generation.to_string()},
                "backoffSeconds": 1, "maxLaunchDelaySeconds": 5,
                "unreachableStrategy": {"inactiveAfterSeconds": 0, "expungeAfterSeconds": 0},
            });
            let update = service::app::AppUpdate::read(&document, "/").ok()?;
            Some(service::request::ApiCall::PutApp {
                id: service::app_id::AppId::parse(id).ok()?,
                update: Box::new(update),
                partial: true,
                create: true,
                force: true,
            })
        }
        Wish::NoApp { id } => Some(service::request::ApiCall::DeleteApp {
            id: service::app_id::AppId::parse(id).ok()?,
            force: true,
        }),
        Wish::Job { .. } | Wish::Run { .. } => None,
    }
}

/// The call that a wish is, if it is one to the batch framework.
pub fn batch_call(wish: &Wish) -> Option<batch::Call> {
    match wish {
        Wish::Job { id, command } => {
            let document = json!({
                "id": id,
                "run": {"cmd": command, "cpus": 0.5, "mem": 64, "disk": 0,
                         "restart": {"policy": "NEVER"}},
            });
            let dialect = batch::job::parse::Dialect::Metronome;
            let spec = batch::job::parse::job(&document, dialect, None).ok()?;
            Some(batch::Call::CreateJob { spec })
        }
        Wish::Run { job } => Some(batch::Call::StartRun {
            job: batch::job::JobId::parse(job).ok()?,
        }),
        Wish::App { .. } | Wish::NoApp { .. } => None,
    }
}

/// The call that tells how many runs have ended.
pub fn count_ended_runs() -> batch::Call {
    let embed = batch::Embed {
        history_summary: true,
        ..batch::Embed::default()
    };
    batch::Call::ListJobs { embed }
}
