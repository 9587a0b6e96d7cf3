//! The two frameworks, as the simulation sees them.

use mezzo_batch::core as batch;
use mezzo_coordination::Record;
use mezzo_model::time::{Millis, Now};
use mezzo_sdk::scheduler::DriverConfig;
use mezzo_service::core as service;
use mezzo_wire::v1;

use super::framework::{Kind, News, Wish};

/// The batch framework.
pub enum Batch {}

/// The service framework.
pub enum Service {}

/// How a framework introduces itself in a simulation.
fn driver(name: &str) -> DriverConfig {
    use v1::framework_info::{Capability, capability::Type};
    let capability = |kind: Type| Capability {
        r#type: Some(kind as i32),
    };
    DriverConfig::new(v1::FrameworkInfo {
        user: "nobody".to_owned(),
        name: name.to_owned(),
        failover_timeout: Some(7.0 * 24.0 * 3600.0),
        checkpoint: Some(true),
        roles: vec![name.to_owned()],
        capabilities: vec![
            capability(Type::MultiRole),
            capability(Type::PartitionAware),
            capability(Type::ReservationRefinement),
            capability(Type::TaskKillingState),
        ],
        ..v1::FrameworkInfo::default()
    })
}

fn batch_wishes(out: Vec<batch::Output>) -> Vec<Wish> {
    out.into_iter()
        .map(|output| match output {
            batch::Output::Scheduler(command) => Wish::Scheduler(command),
            batch::Output::Commit { id, txn } => Wish::Commit { id, txn },
            batch::Output::Reply { request, reply } => {
                let answer = match reply {
                    batch::Reply::Refused(refusal) => Err(refusal.to_string()),
                    // How many runs have ended, which is all that a list of jobs is asked for here.
                    batch::Reply::Jobs(jobs) => {
                        let histories = jobs.iter().filter_map(|job| job.history.as_ref());
                        let ended = histories.map(|all| all.success_count + all.failure_count);
                        Ok(ended.sum::<u64>().to_string())
                    }
                    reply => Ok(format!("{reply:?}")),
                };
                Wish::Reply {
                    request: request.0,
                    answer,
                }
            }
            batch::Output::Abdicate { reason, .. } => Wish::Deposed(reason),
            batch::Output::Note { .. } => Wish::Nothing,
        })
        .collect()
}

impl Kind for Batch {
    type Core = batch::Core;
    type Call = batch::Call;
    const NAME: &'static str = "batch";

    fn load(seed: u64, records: &[Record], _now: Now) -> Result<Self::Core, String> {
        // A simulation is short: a run on an agent that is gone is given up sooner.
        let config = batch::Config {
            unreachable_timeout: Millis::from_secs(60),
            ..batch::Config::default()
        };
        batch::Core::load(config, seed, records).map_err(|error| error.to_string())
    }

    fn handle(core: &mut Self::Core, now: Now, news: News) -> Vec<Wish> {
        let input = match news {
            News::Tick | News::Probed(_) => batch::Input::Tick,
            News::Scheduler(event) => batch::Input::Scheduler(*event),
            News::Committed { id, result } => batch::Input::Committed { id, result },
        };
        let mut out = Vec::new();
        core.handle(now, input, &mut out);
        batch_wishes(out)
    }

    fn call(core: &mut Self::Core, now: Now, request: u64, call: Self::Call) -> Vec<Wish> {
        let mut out = Vec::new();
        core.handle(
            now,
            batch::Input::Api {
                request: batch::RequestId(request),
                call,
            },
            &mut out,
        );
        batch_wishes(out)
    }

    fn next_deadline(core: &Self::Core) -> Option<Millis> {
        core.next_deadline()
    }

    fn check(core: &Self::Core) -> Result<(), String> {
        core.check_invariants().map_err(|broken| broken.to_string())
    }

    fn driver() -> DriverConfig {
        driver(Self::NAME)
    }
}

fn service_wishes(out: Vec<service::Output>) -> Vec<Wish> {
    out.into_iter()
        .map(|output| match output {
            service::Output::Scheduler(command) => Wish::Scheduler(command),
            service::Output::Commit { id, txn } => Wish::Commit { id, txn },
            service::Output::Reply { request, answer } => {
                let answer = match *answer {
                    Ok(answer) => Ok(format!("{answer:?}")),
                    Err(refusal) => Err(refusal.to_string()),
                };
                Wish::Reply { request, answer }
            }
            service::Output::Probe { probe, .. } => Wish::Probe { probe },
            service::Output::Deposed { words } | service::Output::DriverEnded { words } => {
                Wish::Deposed(words)
            }
            service::Output::Note { .. } => Wish::Nothing,
        })
        .collect()
}

impl Kind for Service {
    type Core = service::Core;
    type Call = service::request::ApiCall;
    const NAME: &'static str = "service";

    fn load(seed: u64, records: &[Record], _now: Now) -> Result<Self::Core, String> {
        let config = service::Config {
            role: Self::NAME.to_owned(),
            ..service::Config::default()
        };
        let mut core = service::Core::new(config, seed);
        core.load(records).map_err(|error| error.to_string())?;
        Ok(core)
    }

    fn handle(core: &mut Self::Core, now: Now, news: News) -> Vec<Wish> {
        let input = match news {
            News::Tick => service::Input::Tick,
            News::Scheduler(event) => service::Input::Scheduler(*event),
            News::Committed { id, result } => service::Input::Committed { id, result },
            News::Probed(probe) => service::Input::Probed {
                probe,
                result: service::health::ProbeResult::Status(200),
            },
        };
        let mut out = Vec::new();
        core.handle(now, input, &mut out);
        service_wishes(out)
    }

    fn call(core: &mut Self::Core, now: Now, request: u64, call: Self::Call) -> Vec<Wish> {
        let mut out = Vec::new();
        core.handle(now, service::Input::Api { request, call }, &mut out);
        service_wishes(out)
    }

    fn next_deadline(core: &Self::Core) -> Option<Millis> {
        core.next_deadline()
    }

    fn check(core: &Self::Core) -> Result<(), String> {
        core.check_invariants().map_err(|broken| broken.to_string())
    }

    fn driver() -> DriverConfig {
        driver(Self::NAME)
    }
}
