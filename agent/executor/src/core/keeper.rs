//! The keeper of a framework's own executor: starts it, keeps its output and its end, and speaks with nobody.
//!
//! The executor itself subscribes with the agent. Invariant: one payload, one record of its end, then it leaves.

use mezzo_model::{Millis, Now};

use super::life::{Ended, Life, Step};
use super::{End, Input, Out, Output, words};
use crate::plan::{EndedHow, Timing};

/// The state of a keeper.
#[derive(Debug)]
pub struct Keeper {
    life: Life,
    grace: Millis,
    killed: bool,
}

impl Keeper {
    /// A keeper that has started nothing.
    pub fn new(timing: &Timing) -> Self {
        Self {
            life: Life::new(),
            grace: Millis(timing.shutdown_grace_ms),
            killed: false,
        }
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Out) {
        let step = match input {
            Input::Start => {
                self.life.start(out);
                None
            }
            Input::Terminate => {
                self.killed |= self.life.kill(now.mono, self.grace, out);
                None
            }
            Input::Payload(event) => self.life.on_event(now.mono, event, out),
            Input::Driver(_) | Input::Check { .. } | Input::Tick => None,
        };
        self.on_step(step, out);
        let step = self.life.on_time(now.mono, out);
        self.on_step(step, out);
    }

    /// When it wants a tick.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.life.next_deadline()
    }

    fn on_step(&mut self, step: Option<Step>, out: &mut Out) {
        let Some(Step::Over {
            ended,
            memory,
            leftovers,
        }) = step
        else {
            return;
        };
        let (how, mut message) = describe(&ended);
        let out_of_memory = memory.kills > 0 && !self.killed;
        if out_of_memory {
            message = words::out_of_memory(memory.limit_bytes, memory.peak_bytes);
        }
        if leftovers {
            message.push_str(LEFTOVERS_WORDS);
        }
        out.push(Output::Record(End {
            how,
            message,
            out_of_memory,
            killed: self.killed,
        }));
        out.push(Output::Leave);
    }
}

/// What is added to the words of an end that left processes behind.
pub(super) const LEFTOVERS_WORDS: &str =
    "; some of its processes could not be ended: they hang in the kernel or belong to another user";

/// An end for the record and in words.
pub(super) fn describe(ended: &Ended) -> (EndedHow, String) {
    match ended {
        Ended::NotStarted(words) => (EndedHow::NotStarted, words.clone()),
        Ended::Process(how) => {
            let kind = match *how {
                super::How::Exited(status) => EndedHow::Exited(status),
                super::How::Signaled(signal) => EndedHow::Signaled(signal),
            };
            (kind, words::ended(*how))
        }
        Ended::Lost => {
            let words = "the process that kept the command was killed, and the command with it";
            (EndedHow::Signaled(9), words.to_owned())
        }
    }
}
