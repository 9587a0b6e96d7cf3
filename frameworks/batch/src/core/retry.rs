//! What follows the end of an attempt: a pure decision.
//!
//! Metronome's ON_FAILURE repeats at once and for ever; ours does so the first time, and then pauses longer and
//! longer while attempts die young, so that a job that cannot work does not keep a cluster busy. `maxLaunchDelay`
//! bounds that pause.

use mezzo_model::task_state::TaskState;
use mezzo_model::time::{Millis, Wall};

use super::job::{JobSpec, RestartPolicy};

/// An attempt that ran for less than this long died young.
pub const YOUNG: Millis = Millis::from_secs(10);

/// The pause after the second attempt in a row that died young; it doubles.
const FIRST_PAUSE: Millis = Millis(100);

/// The longest such pause.
const LONGEST_PAUSE: Millis = Millis::from_secs(30);

/// How an attempt ended, as far as the run is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It did what it should.
    Succeeded,
    /// It failed, was killed, or was lost after it had begun.
    Failed,
    /// Its description was refused; another attempt would be refused as well.
    Refused,
    /// It never began.
    NeverBegan,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The run has succeeded.
    Success,
    /// The run has failed.
    Failure,
    /// Another attempt after a pause, which may be zero.
    Again {
        /// How long to pause.
        pause: Millis,
    },
}

/// What the decision is made from.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The job.
    pub spec: &'a JobSpec,
    /// When the run was created.
    pub created_at: Wall,
    /// The wall clock.
    pub now: Wall,
    /// How many attempts have failed, this one included.
    pub failures: u32,
    /// How many attempts in a row ended young or never began, this one included.
    pub hasty: u32,
}

/// How an attempt ended that was last told to be in this state. `begun` is whether any state was told before;
/// `from_reconciliation` whether this one answers a question. `None` if the attempt has not ended.
///
/// An attempt of which nothing was ever heard and that is unknown now was never launched: its terminal status would
/// have waited for our acknowledgement.
pub fn ending(state: TaskState, begun: bool, from_reconciliation: bool) -> Option<Ending> {
    match state {
        TaskState::Starting
        | TaskState::Running
        | TaskState::Staging
        | TaskState::Killing
        | TaskState::Unreachable => None,
        TaskState::Finished => Some(Ending::Succeeded),
        TaskState::Error => Some(Ending::Refused),
        TaskState::Dropped => Some(Ending::NeverBegan),
        TaskState::Lost | TaskState::Gone | TaskState::Unknown if !begun && from_reconciliation => {
            Some(Ending::NeverBegan)
        }
        TaskState::Failed
        | TaskState::Killed
        | TaskState::Lost
        | TaskState::Gone
        | TaskState::GoneByOperator
        | TaskState::Unknown => Some(Ending::Failed),
    }
}

/// Decides what follows.
pub fn verdict(ending: Ending, facts: &Facts<'_>) -> Verdict {
    match ending {
        Ending::Succeeded => Verdict::Success,
        Ending::Refused => Verdict::Failure,
        // Not the job's doing: never counted, never in vain.
        Ending::NeverBegan => Verdict::Again {
            pause: hasty_pause(facts),
        },
        Ending::Failed => after_failure(facts),
    }
}

fn after_failure(facts: &Facts<'_>) -> Verdict {
    let pause = match (&facts.spec.beyond.retries, facts.spec.run.restart.policy) {
        (Some(retries), _) if facts.failures > retries.count => return Verdict::Failure,
        (Some(_), _) => retry_pause(facts),
        (None, RestartPolicy::OnFailure) => hasty_pause(facts),
        (None, RestartPolicy::Never) => return Verdict::Failure,
    };
    let deadline = facts.spec.run.restart.active_deadline_s;
    let due = Wall(facts.now.0.saturating_add(pause.0));
    let in_time = deadline.is_none_or(|deadline| {
        due.0
            < facts
                .created_at
                .0
                .saturating_add(Millis::from_secs(deadline).0)
    });
    if in_time {
        Verdict::Again { pause }
    } else {
        Verdict::Failure
    }
}

/// Nothing after the first, then 0.1 s, doubled each time.
fn hasty_pause(facts: &Facts<'_>) -> Millis {
    if facts.hasty < 2 {
        return Millis::ZERO;
    }
    let doubled = FIRST_PAUSE * 2_u64.saturating_pow((facts.hasty - 2).min(32));
    doubled
        .min(LONGEST_PAUSE)
        .min(Millis::from_secs(facts.spec.run.max_launch_delay_s))
}

/// As the job asks for: the first pause times the factor for each failure after the first.
fn retry_pause(facts: &Facts<'_>) -> Millis {
    let Some(retries) = &facts.spec.beyond.retries else {
        return Millis::ZERO;
    };
    let longest = Millis::from_secs(retries.max_backoff_s);
    let mut pause = Millis::from_secs(retries.backoff_s);
    let factor = u64::try_from(retries.backoff_factor.0).unwrap_or(1000);
    for _ in 1..facts.failures {
        if pause >= longest {
            break;
        }
        let grown = Millis(pause.0.saturating_mul(factor) / 1000);
        if grown == pause {
            break;
        }
        pause = grown;
    }
    pause.min(longest)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::job::parse::{self, Dialect};
    use super::*;

    fn spec(restart: Value, retries: Option<Value>) -> JobSpec {
        let mut run = json!({"cpus": 1, "mem": 32, "disk": 0, "cmd": "true", "restart": restart});
        if let Some(retries) = retries {
            run["retries"] = retries;
        }
        parse::job(&json!({"id": "j", "run": run}), Dialect::Mezzo, None).expect("good")
    }

    fn after(spec: &JobSpec, failures: u32, hasty: u32, age_s: u64) -> Verdict {
        let created_at = Wall(1_000_000);
        let now = Wall(created_at.0 + age_s * 1000);
        verdict(
            Ending::Failed,
            &Facts {
                spec,
                created_at,
                now,
                failures,
                hasty,
            },
        )
    }

    #[test]
    fn never_fails_at_once_and_on_failure_repeats_until_the_deadline() {
        assert_eq!(
            after(&spec(json!({"policy": "NEVER"}), None), 1, 1, 0),
            Verdict::Failure
        );
        let endless = spec(json!({"policy": "ON_FAILURE"}), None);
        assert_eq!(
            after(&endless, 1, 1, 0),
            Verdict::Again {
                pause: Millis::ZERO
            }
        );
        assert_eq!(
            after(&endless, 900, 0, 1_000_000),
            Verdict::Again {
                pause: Millis::ZERO
            }
        );
        let bound = spec(
            json!({"policy": "ON_FAILURE", "activeDeadlineSeconds": 60}),
            None,
        );
        assert_eq!(
            after(&bound, 1, 1, 59),
            Verdict::Again {
                pause: Millis::ZERO
            }
        );
        assert_eq!(after(&bound, 1, 1, 60), Verdict::Failure);
        assert_eq!(
            after(&bound, 9, 9, 59),
            Verdict::Failure,
            "the pause would pass the deadline"
        );
    }

    #[test]
    fn attempts_that_die_young_wait_longer_and_longer() {
        let endless = spec(json!({"policy": "ON_FAILURE"}), None);
        let pauses: Vec<Verdict> = [2, 3, 4, 12, 4_000_000_000]
            .iter()
            .map(|hasty| after(&endless, *hasty, *hasty, 0))
            .collect();
        let expected =
            [100, 200, 400, 30_000, 30_000].map(|ms| Verdict::Again { pause: Millis(ms) });
        assert_eq!(pauses, expected);
    }

    #[test]
    fn retries_are_counted_and_grow() {
        let retries =
            json!({"count": 3, "backoffSeconds": 2, "backoffFactor": 1.5, "maxBackoffSeconds": 4});
        let bound = spec(json!({"policy": "NEVER"}), Some(retries));
        let verdicts: Vec<Verdict> = (1..=4)
            .map(|failures| after(&bound, failures, 1, 0))
            .collect();
        let again = |ms| Verdict::Again { pause: Millis(ms) };
        assert_eq!(
            verdicts,
            [again(2000), again(3000), again(4000), Verdict::Failure]
        );
        let flat = json!({"count": 9999, "backoffSeconds": 0});
        let flat = spec(json!({"policy": "NEVER"}), Some(flat));
        assert_eq!(
            after(&flat, 9999, 1, 0),
            Verdict::Again {
                pause: Millis::ZERO
            }
        );
    }

    #[test]
    fn what_never_began_is_no_failure() {
        use TaskState as S;
        assert_eq!(ending(S::Dropped, true, false), Some(Ending::NeverBegan));
        for state in [S::Gone, S::Unknown, S::Lost] {
            assert_eq!(ending(state, false, true), Some(Ending::NeverBegan));
            assert_eq!(ending(state, true, true), Some(Ending::Failed));
            assert_eq!(ending(state, false, false), Some(Ending::Failed));
        }
        for state in S::ALL {
            let ended = ending(state, true, false).is_some();
            assert_eq!(ended, state.is_terminal() || state == S::Unknown, "{state}");
        }
        let never = spec(json!({"policy": "NEVER"}), None);
        let facts = Facts {
            spec: &never,
            created_at: Wall(0),
            now: Wall(9),
            failures: 0,
            hasty: 1,
        };
        assert_eq!(
            verdict(Ending::NeverBegan, &facts),
            Verdict::Again {
                pause: Millis::ZERO
            }
        );
    }
}
