//! The rhythm of one check: delay, run, at most its timeout, pause, run.

use mezzo_model::Millis;

/// Shortest pause between two runs: a check costs a process.
const INTERVAL_MIN: Millis = Millis(50);

/// The spans of a check.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    delay: Millis,
    /// From the end of one run to the next.
    interval: Millis,
    /// `None`: as long as it takes.
    timeout: Option<Millis>,
}

impl Schedule {
    /// From seconds, as they come over the wire.
    pub fn new(delay: f64, interval: f64, timeout: f64) -> Result<Self, String> {
        let span = |name: &str, seconds: f64| {
            let words = || format!("{name} is {seconds}, which is no span of time");
            Millis::from_secs_f64(seconds).ok_or_else(words)
        };
        let timeout = span("timeout_seconds", timeout)?;
        Ok(Self {
            delay: span("delay_seconds", delay)?,
            interval: span("interval_seconds", interval)?.max(INTERVAL_MIN),
            timeout: (timeout > Millis::ZERO).then_some(timeout),
        })
    }
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Begin this run.
    Run(u64),
    /// End the run that takes too long.
    GiveUp,
}

/// Where a check is in its rhythm.
#[derive(Debug)]
pub struct Timer {
    schedule: Schedule,
    state: State,
    runs: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Stopped,
    Waiting { until: Millis },
    Running { run: u64, until: Option<Millis> },
}

impl Timer {
    /// A check that was not started.
    pub fn new(schedule: Schedule) -> Self {
        Self {
            schedule,
            state: State::Stopped,
            runs: 0,
        }
    }

    /// Begins with the delay.
    pub fn start(&mut self, now: Millis) {
        let until = now + self.schedule.delay;
        self.state = State::Waiting { until };
    }

    /// Ends it; true if a run is under way.
    pub fn stop(&mut self) -> bool {
        let old = std::mem::replace(&mut self.state, State::Stopped);
        matches!(old, State::Running { .. })
    }

    /// When something is due.
    pub fn deadline(&self) -> Option<Millis> {
        match self.state {
            State::Stopped => None,
            State::Waiting { until } => Some(until),
            State::Running { until, .. } => until,
        }
    }

    /// Takes the time.
    pub fn on_time(&mut self, now: Millis) -> Option<Turn> {
        match self.state {
            State::Waiting { until } if until <= now => {
                self.runs += 1;
                let until = self.schedule.timeout.map(|timeout| now + timeout);
                let run = self.runs;
                self.state = State::Running { run, until };
                Some(Turn::Run(run))
            }
            State::Running {
                until: Some(until), ..
            } if until <= now => {
                self.rest(now);
                Some(Turn::GiveUp)
            }
            _ => None,
        }
    }

    /// Takes the end of a run; false if it is not the one that is waited for.
    pub fn on_done(&mut self, now: Millis, done: u64) -> bool {
        match self.state {
            State::Running { run, .. } if run == done => {
                self.rest(now);
                true
            }
            _ => false,
        }
    }

    fn rest(&mut self, now: Millis) {
        let until = now + self.schedule.interval;
        self.state = State::Waiting { until };
    }
}
