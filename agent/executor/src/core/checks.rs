//! The checks of a task: when they run, what an answer means, and when the task is unhealthy for good.
//!
//! Rule: Mesos v1 `CheckInfo` (every change of its result is reported) and `HealthCheck` (every failure outside the
//! grace period
//! and the first success are reported; `consecutive_failures` of them end the task). Grace lasts until the first
//! success at most.
//! Invariant: one run of each check at a time; an answer of a run that was given up counts for nothing.

mod question;
mod timer;

use mezzo_model::Millis;
use mezzo_wire::v1;

use super::{Out, Output};
pub use question::{Question, http_exit, http_status};
use timer::{Schedule, Timer, Turn};

/// Which of a task's two checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckKind {
    /// `TaskInfo.check`.
    Check,
    /// `TaskInfo.health_check`.
    Health,
}

/// How one run of a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its process left with this status.
    Exited(i32),
    /// It was ended by a signal, or could not be started.
    Failed,
    /// It took longer than its timeout.
    TimedOut,
}

/// What an answer means for the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing to report.
    Nothing,
    /// The check has a new result.
    Check,
    /// There is something to say on the task's health.
    Health {
        /// And it is to be ended.
        kill: bool,
    },
}

/// Both checks of a task.
#[derive(Debug, Default)]
pub struct Checks {
    check: Option<Check>,
    health: Option<Health>,
}

#[derive(Debug)]
struct Check {
    question: Question,
    timer: Timer,
    /// The last result; at first without an answer.
    status: v1::CheckStatusInfo,
}

#[derive(Debug)]
struct Health {
    question: Question,
    timer: Timer,
    grace: Millis,
    failures_max: u32,
    grace_until: Millis,
    failures: u32,
    /// What was reported last.
    healthy: Option<bool>,
}

impl Checks {
    /// The checks of a task; an error says in words what cannot be served.
    pub fn of(task: &v1::TaskInfo) -> Result<Self, String> {
        let check = task.check.as_ref().map(Check::of).transpose();
        let health = task.health_check.as_ref().map(Health::of).transpose();
        Ok(Self {
            check: check.map_err(|words| format!("the task's check: {words}"))?,
            health: health.map_err(|words| format!("the task's health check: {words}"))?,
        })
    }

    /// The task runs: the first runs are due after their delays.
    pub fn start(&mut self, now: Millis) {
        if let Some(check) = &mut self.check {
            check.timer.start(now);
        }
        if let Some(health) = &mut self.health {
            health.grace_until = now + health.grace;
            health.timer.start(now);
        }
    }

    /// The task ends: nothing is asked or said any more.
    pub fn stop(&mut self, out: &mut Out) {
        let check = self.check.as_mut().map(|check| &mut check.timer);
        let health = self.health.as_mut().map(|health| &mut health.timer);
        for (kind, timer) in [(CheckKind::Check, check), (CheckKind::Health, health)] {
            if timer.is_some_and(Timer::stop) {
                out.push(Output::StopCheck { kind });
            }
        }
    }

    /// What was reported on the task's health last.
    pub fn healthy(&self) -> Option<bool> {
        self.health.as_ref()?.healthy
    }

    /// The last result of the check; without an answer before the first one.
    pub fn check_status(&self) -> Option<v1::CheckStatusInfo> {
        Some(self.check.as_ref()?.status)
    }

    /// When [`Checks::on_time`] has something to do.
    pub fn next_deadline(&self) -> Option<Millis> {
        let check = self.check.as_ref().and_then(|check| check.timer.deadline());
        let health = self
            .health
            .as_ref()
            .and_then(|health| health.timer.deadline());
        [check, health].into_iter().flatten().min()
    }

    /// Starts what is due and gives up what takes too long.
    pub fn on_time(&mut self, now: Millis, out: &mut Out) -> Vec<Verdict> {
        let mut late = Vec::new();
        let check = self.check.as_mut().map(|c| (&mut c.timer, &c.question));
        let health = self.health.as_mut().map(|h| (&mut h.timer, &h.question));
        for (kind, watched) in [(CheckKind::Check, check), (CheckKind::Health, health)] {
            let Some((timer, question)) = watched else {
                continue;
            };
            match timer.on_time(now) {
                None => {}
                Some(Turn::Run(run)) => out.push(Output::StartCheck {
                    kind,
                    run,
                    question: question.clone(),
                }),
                Some(Turn::GiveUp) => {
                    out.push(Output::StopCheck { kind });
                    late.push(kind);
                }
            }
        }
        late.into_iter()
            .map(|kind| self.judge(now, kind, Outcome::TimedOut))
            .collect()
    }

    /// Takes the answer of a run.
    pub fn on_outcome(
        &mut self,
        now: Millis,
        kind: CheckKind,
        run: u64,
        outcome: Outcome,
    ) -> Verdict {
        let timer = match kind {
            CheckKind::Check => self.check.as_mut().map(|check| &mut check.timer),
            CheckKind::Health => self.health.as_mut().map(|health| &mut health.timer),
        };
        if timer.is_some_and(|timer| timer.on_done(now, run)) {
            self.judge(now, kind, outcome)
        } else {
            Verdict::Nothing
        }
    }

    fn judge(&mut self, now: Millis, kind: CheckKind, outcome: Outcome) -> Verdict {
        match (kind, &mut self.check, &mut self.health) {
            (CheckKind::Check, Some(check), _) => check.judge(outcome),
            (CheckKind::Health, _, Some(health)) => health.judge(now, outcome),
            _ => Verdict::Nothing,
        }
    }
}

impl Check {
    fn of(info: &v1::CheckInfo) -> Result<Self, String> {
        let question = Question::of_check(info)?;
        let schedule = Schedule::new(
            info.delay_seconds(),
            info.interval_seconds(),
            info.timeout_seconds(),
        )?;
        Ok(Self {
            status: question.no_answer(),
            question,
            timer: Timer::new(schedule),
        })
    }

    fn judge(&mut self, outcome: Outcome) -> Verdict {
        let status = self.question.answer(outcome);
        if status == self.status {
            return Verdict::Nothing;
        }
        self.status = status;
        Verdict::Check
    }
}

impl Health {
    fn of(info: &v1::HealthCheck) -> Result<Self, String> {
        let schedule = Schedule::new(
            info.delay_seconds(),
            info.interval_seconds(),
            info.timeout_seconds(),
        )?;
        let grace = info.grace_period_seconds();
        let grace = Millis::from_secs_f64(grace)
            .ok_or_else(|| format!("grace_period_seconds is {grace}, which is no span of time"))?;
        Ok(Self {
            question: Question::of_health_check(info)?,
            timer: Timer::new(schedule),
            grace,
            failures_max: info.consecutive_failures(),
            grace_until: Millis::ZERO,
            failures: 0,
            healthy: None,
        })
    }

    fn judge(&mut self, now: Millis, outcome: Outcome) -> Verdict {
        if self.question.is_success(outcome) {
            self.failures = 0;
            if self.healthy == Some(true) {
                return Verdict::Nothing;
            }
            self.healthy = Some(true);
            return Verdict::Health { kill: false };
        }
        if self.healthy.is_none() && now <= self.grace_until {
            return Verdict::Nothing;
        }
        self.failures = self.failures.saturating_add(1);
        self.healthy = Some(false);
        Verdict::Health {
            kill: self.failures >= self.failures_max,
        }
    }
}

#[cfg(test)]
mod tests;
