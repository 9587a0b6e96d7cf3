//! The life of one payload: started, asked to end, killed, and over when no process of it is left.
//!
//! Invariant: it ends for its owner exactly once, and within a bound after its main process or a kill, even if the
//! kernel
//! cannot end one of its processes.

use mezzo_model::Millis;

use super::{How, MemoryReport, Out, Output, PayloadEvent};

/// How long the killing of what is left may take. A process that hangs in the kernel (a dead network disk) takes for
/// ever.
const LEFTOVERS_MS: Millis = Millis::from_secs(30);

/// The state of a payload.
#[derive(Debug)]
pub struct Life {
    stage: Stage,
    kill: Option<Kill>,
}

#[derive(Debug, Clone, PartialEq)]
enum Stage {
    /// Nothing was started.
    Idle,
    /// On its way.
    Starting,
    /// It runs.
    Running,
    /// It ended; what it left behind is being killed, at most until then.
    Ending { ended: Ended, until: Millis },
    /// Nothing of it is left, or nothing can be done about it.
    Over,
}

/// A kill under way.
#[derive(Debug, Clone, Copy)]
struct Kill {
    /// When SIGKILL comes.
    at: Millis,
    /// It came.
    forced: bool,
}

/// How the main process ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// It was never there: why.
    NotStarted(String),
    /// It ended.
    Process(How),
    /// What kept it was killed, so nobody saw how.
    Lost,
}

/// What a step of the life means to the owner.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// It runs now.
    Running,
    /// It is over.
    Over {
        /// How its main process ended.
        ended: Ended,
        /// What its cgroups said.
        memory: MemoryReport,
        /// Some of its processes could not be ended.
        leftovers: bool,
    },
}

impl Life {
    /// A payload that was not started.
    pub fn new() -> Self {
        Self {
            stage: Stage::Idle,
            kill: None,
        }
    }

    /// Starts it.
    pub fn start(&mut self, out: &mut Out) {
        if self.stage == Stage::Idle {
            self.stage = Stage::Starting;
            out.push(Output::Start);
        }
    }

    /// Whether it is started and its main process has not ended.
    pub fn is_alive(&self) -> bool {
        matches!(self.stage, Stage::Starting | Stage::Running)
    }

    /// Ends it: SIGTERM now, SIGKILL after `grace`. A second kill can only shorten the grace of the first. Returns
    /// whether this was the first.
    pub fn kill(&mut self, now: Millis, grace: Millis, out: &mut Out) -> bool {
        if !self.is_alive() {
            return false;
        }
        let at = now + grace;
        if let Some(kill) = &mut self.kill {
            // Once forced, the instant is when patience ends.
            if !kill.forced {
                kill.at = kill.at.min(at);
            }
            return false;
        }
        self.kill = Some(Kill { at, forced: false });
        // Without a grace the SIGKILL that comes next says all; to what is still starting there is nobody to ask.
        if grace > Millis::ZERO && self.stage == Stage::Running {
            out.push(Output::Terminate);
        }
        true
    }

    /// Takes what happened to it.
    pub fn on_event(&mut self, now: Millis, event: PayloadEvent, out: &mut Out) -> Option<Step> {
        match (event, &self.stage) {
            (PayloadEvent::Started, Stage::Starting) => {
                self.stage = Stage::Running;
                if self.kill.is_some_and(|kill| !kill.forced) {
                    out.push(Output::Terminate);
                }
                Some(Step::Running)
            }
            (PayloadEvent::NotStarted(words), Stage::Starting) => {
                self.end(now, Ended::NotStarted(words), out)
            }
            (PayloadEvent::Exited(how), Stage::Starting | Stage::Running) => {
                self.end(now, Ended::Process(how), out)
            }
            (PayloadEvent::Lost, Stage::Starting | Stage::Running) => {
                self.end(now, Ended::Lost, out)
            }
            (PayloadEvent::Gone(memory), Stage::Ending { ended, .. }) => {
                let ended = ended.clone();
                Some(self.over(ended, memory, false))
            }
            (PayloadEvent::Gone(memory), Stage::Starting | Stage::Running) => {
                Some(self.over(Ended::Lost, memory, false))
            }
            _ => None,
        }
    }

    fn end(&mut self, now: Millis, ended: Ended, out: &mut Out) -> Option<Step> {
        let until = now + LEFTOVERS_MS;
        self.stage = Stage::Ending { ended, until };
        out.push(Output::Finish);
        None
    }

    fn over(&mut self, ended: Ended, memory: MemoryReport, leftovers: bool) -> Step {
        self.stage = Stage::Over;
        Step::Over {
            ended,
            memory,
            leftovers,
        }
    }

    /// Takes the time.
    pub fn on_time(&mut self, now: Millis, out: &mut Out) -> Option<Step> {
        let alive = self.is_alive();
        if let Some(kill) = self.kill.as_mut().filter(|kill| alive && kill.at <= now) {
            if kill.forced {
                // SIGKILL did not end it within the bound.
                let how = Ended::Process(How::Signaled(9));
                return Some(self.over(how, MemoryReport::default(), true));
            }
            kill.forced = true;
            kill.at = now + LEFTOVERS_MS;
            out.push(Output::Finish);
        }
        match &self.stage {
            Stage::Ending { ended, until } if *until <= now => {
                let ended = ended.clone();
                Some(self.over(ended, MemoryReport::default(), true))
            }
            _ => None,
        }
    }

    /// When [`Life::on_time`] has something to do.
    pub fn next_deadline(&self) -> Option<Millis> {
        match &self.stage {
            Stage::Starting | Stage::Running => self.kill.map(|kill| kill.at),
            Stage::Ending { until, .. } => Some(*until),
            Stage::Idle | Stage::Over => None,
        }
    }
}
