//! Health checks that this framework does itself: when to ask, and what the answers mean.
//!
//! The shell does the asking ([`ProbeOrder`]); each order is answered by one [`ProbeResult`]. The first check comes
//! soon after the task runs and is repeated ever more slowly until one succeeds or the interval is reached, so that
//! a deployment does not wait a minute for an app that was up after a second.
//!
//! Source: Marathon's counting. An instance is killed by the failure that comes when `maxConsecutiveFailures` were
//! counted before it; failures in the grace period count for nothing while there was no success.
//!
//! Invariant: at most one probe of a check is under way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mezzo_model::Millis;

use super::app::{AppSpec, CheckProtocol, HealthCheck};
use super::instance::InstanceId;
use super::version::Version;

/// The first check comes this long after the task runs, if the interval is not shorter.
const FIRST_CHECK: Millis = Millis(250);
/// An order that brought no answer this long after its timeout counts as failed.
const LOST_ANSWER: Millis = Millis::from_secs(600);

/// What to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeTarget {
    /// GET; an answer 200 to 399 is healthy. Redirects are not followed, certificates not verified.
    Http {
        /// `http://host:port/path` or `https://…`.
        url: String,
    },
    /// Connect.
    Tcp {
        /// The host.
        host: String,
        /// Its port.
        port: u16,
    },
}

/// One thing to ask, now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeOrder {
    /// What.
    pub target: ProbeTarget,
    /// An answer after this is a failure.
    pub timeout: Millis,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// An HTTP status.
    Status(u16),
    /// The connection was made.
    Connected,
    /// It did not work; in words.
    Failed(String),
}

/// The state of one check of one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckState {
    /// The last counted answer; `None` before the first.
    pub alive: Option<bool>,
    /// Counted failures since the last success.
    pub consecutive_failures: u32,
    /// When it succeeded first.
    pub first_success: Option<Version>,
    /// When it succeeded last.
    pub last_success: Option<Version>,
    /// When a counted failure was last seen.
    pub last_failure: Option<Version>,
    /// Why, in words.
    pub last_failure_cause: Option<String>,
}

#[derive(Clone, Debug)]
struct Watch {
    state: CheckState,
    under_way: Option<u64>,
    due: Millis,
    pause: Millis,
}

#[derive(Clone, Debug)]
struct Watched {
    spec: Arc<AppSpec>,
    host: String,
    ports: Vec<u16>,
    since: Millis,
    checks: BTreeMap<usize, Watch>,
}

/// What an answer changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Of whom.
    pub instance: InstanceId,
    /// Healthy became unhealthy, or the other way round, or the first word was said.
    pub changed: bool,
    /// The instance failed once too often: in these words.
    pub kill: Option<String>,
}

/// All checks that this framework does.
#[derive(Clone, Debug, Default)]
pub struct HealthBook {
    watched: BTreeMap<InstanceId, Watched>,
    due: BTreeSet<(Millis, InstanceId, usize)>,
    probes: BTreeMap<u64, (InstanceId, usize)>,
    next_probe: u64,
}

impl HealthBook {
    /// Begins to check a task that runs.
    pub fn watch(
        &mut self,
        id: &InstanceId,
        spec: &Arc<AppSpec>,
        host: &str,
        ports: &[u16],
        now: Millis,
    ) {
        if self.watched.contains_key(id) || !spec.is_probed() {
            return;
        }
        let mut checks = BTreeMap::new();
        for (index, check) in spec.health_checks.iter().enumerate() {
            if check.protocol.by_executor() {
                continue;
            }
            let pause = FIRST_CHECK.min(Millis::from_secs(check.interval_secs));
            let due = now + pause;
            self.due.insert((due, id.clone(), index));
            checks.insert(
                index,
                Watch {
                    state: CheckState::default(),
                    under_way: None,
                    due,
                    pause,
                },
            );
        }
        let (host, ports) = (host.to_owned(), ports.to_vec());
        self.watched.insert(
            id.clone(),
            Watched {
                spec: spec.clone(),
                host,
                ports,
                since: now,
                checks,
            },
        );
    }

    /// Ends the checks of a task. Answers that are still under way are passed over.
    pub fn unwatch(&mut self, id: &InstanceId) {
        let Some(watched) = self.watched.remove(id) else {
            return;
        };
        for (index, watch) in watched.checks {
            self.due.remove(&(watch.due, id.clone(), index));
            if let Some(probe) = watch.under_way {
                self.probes.remove(&probe);
            }
        }
    }

    /// The checks' states in the order of the definition; empty if the instance is not watched.
    pub fn states(&self, id: &InstanceId) -> Vec<&CheckState> {
        let watched = self.watched.get(id);
        watched
            .into_iter()
            .flat_map(|w| w.checks.values())
            .map(|watch| &watch.state)
            .collect()
    }

    /// The word of all checks: `Some(true)` if every one is alive, `Some(false)` if one is not, `None` if one has not
    /// spoken and none is dead.
    pub fn word(&self, id: &InstanceId) -> Option<bool> {
        let watched = self.watched.get(id)?;
        let mut all = Some(true);
        for watch in watched.checks.values() {
            match watch.state.alive {
                Some(false) => return Some(false),
                None => all = None,
                Some(true) => {}
            }
        }
        all
    }

    /// The orders that are due. Orders whose answer was lost are answered here, by a failure each.
    pub fn due(&mut self, now: Millis) -> (Vec<(u64, ProbeOrder)>, Vec<u64>) {
        let (mut orders, mut lost) = (Vec::new(), Vec::new());
        while let Some((due, id, index)) = self.due.first().cloned() {
            if due > now {
                break;
            }
            self.due.pop_first();
            let Some(watched) = self.watched.get_mut(&id) else {
                continue;
            };
            let Some(check) = watched.spec.health_checks.get(index).cloned() else {
                continue;
            };
            let order = order(&check, &watched.host, &watched.ports);
            let Some(watch) = watched.checks.get_mut(&index) else {
                continue;
            };
            if let Some(probe) = watch.under_way {
                lost.push(probe);
                continue;
            }
            let probe = self.next_probe;
            self.next_probe += 1;
            watch.under_way = Some(probe);
            watch.due = now + order.timeout + LOST_ANSWER;
            self.due.insert((watch.due, id.clone(), index));
            self.probes.insert(probe, (id, index));
            orders.push((probe, order));
        }
        (orders, lost)
    }

    /// Takes an answer. `None` if nobody waits for it any more.
    pub fn answered(
        &mut self,
        probe: u64,
        result: ProbeResult,
        now: Millis,
        wall: Version,
    ) -> Option<Verdict> {
        let (id, index) = self.probes.remove(&probe)?;
        let watched = self.watched.get_mut(&id)?;
        let check = watched.spec.health_checks.get(index)?.clone();
        let watch = watched.checks.get_mut(&index)?;
        self.due.remove(&(watch.due, id.clone(), index));
        watch.under_way = None;
        let before = watch.state.alive;
        let kill = match judge(&check, &result) {
            None => None,
            Some(Ok(())) => {
                succeed(&mut watch.state, wall);
                None
            }
            Some(Err(cause)) => {
                let in_grace = watch.state.first_success.is_none()
                    && now.since(watched.since) < Millis::from_secs(check.grace_secs);
                (!in_grace)
                    .then(|| fail(&mut watch.state, &check, cause, wall))
                    .flatten()
            }
        };
        let interval = Millis::from_secs(check.interval_secs);
        watch.pause = if watch.state.alive == Some(true) {
            interval
        } else {
            (watch.pause * 2).min(interval)
        };
        watch.due = now + watch.pause;
        self.due.insert((watch.due, id.clone(), index));
        let changed = watch.state.alive != before;
        Some(Verdict {
            instance: id,
            changed,
            kill,
        })
    }

    /// When something is due.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.due.first().map(|(due, ..)| *due)
    }
}

fn order(check: &HealthCheck, host: &str, ports: &[u16]) -> ProbeOrder {
    let by_index = check.port_index.and_then(|index| ports.get(index)).copied();
    let port = check.port.or(by_index).unwrap_or(0);
    let target = match check.protocol {
        CheckProtocol::Tcp => ProbeTarget::Tcp {
            host: host.to_owned(),
            port,
        },
        _ => {
            let scheme = if check.protocol == CheckProtocol::Https {
                "https"
            } else {
                "http"
            };
            let path = check.path.as_deref().unwrap_or("/");
            let slash = if path.starts_with('/') { "" } else { "/" };
            let host = if host.contains(':') {
                format!("[{host}]")
            } else {
                host.to_owned()
            };
            ProbeTarget::Http {
                url: format!("{scheme}://{host}:{port}{slash}{path}"),
            }
        }
    };
    ProbeOrder {
        target,
        timeout: Millis::from_secs(check.timeout_secs),
    }
}

/// `None`: says nothing either way.
fn judge(check: &HealthCheck, result: &ProbeResult) -> Option<Result<(), String>> {
    match result {
        ProbeResult::Connected => Some(Ok(())),
        ProbeResult::Status(200..=399) => Some(Ok(())),
        ProbeResult::Status(100..=199) if check.ignore_http_1xx => None,
        ProbeResult::Status(status) => Some(Err(format!("HTTP status {status}"))),
        ProbeResult::Failed(cause) => Some(Err(cause.clone())),
    }
}

fn succeed(state: &mut CheckState, wall: Version) {
    state.alive = Some(true);
    state.consecutive_failures = 0;
    state.first_success.get_or_insert(wall);
    state.last_success = Some(wall);
}

/// Counts a failure; gives the words of the kill if it is one too many.
fn fail(
    state: &mut CheckState,
    check: &HealthCheck,
    cause: String,
    wall: Version,
) -> Option<String> {
    let most = check.max_consecutive_failures;
    let kill = (most > 0 && state.consecutive_failures >= most).then(|| cause.clone());
    state.alive = Some(false);
    state.consecutive_failures = state.consecutive_failures.saturating_add(1);
    state.last_failure = Some(wall);
    state.last_failure_cause = Some(cause);
    kill
}

#[cfg(test)]
mod tests;
