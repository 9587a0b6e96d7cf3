//! `mezzo master`, `agent`, `service` and `batch`: one daemon as a process of its own.
//!
//! SIGTERM or Ctrl-C ends it cleanly, without touching tasks.

use std::fmt::Display;
use std::future::Future;

use clap::Args;
use mezzo_door::Stop;

use crate::args::Daemon;
use crate::failure::Failure;
use crate::logs::{self, Sink};
use crate::signals::Ending;

/// Starts a daemon and waits for its end.
///
/// # Errors
/// If it does not start.
pub async fn run<F, R, E, S, W, O>(
    name: &str,
    daemon: Daemon<F>,
    start: impl FnOnce(F, Stop) -> S,
    ended: impl FnOnce(R) -> W,
) -> Result<(), Failure>
where
    F: Args,
    E: Display,
    S: Future<Output = Result<R, E>>,
    W: Future<Output = O>,
    O: Outcome,
{
    logs::begin(&daemon.logs, Sink::Stderr);
    let ending = Ending::listen().map_err(|source| Failure::Machine {
        what: "listening for signals".to_owned(),
        source,
    })?;
    let stop = Stop::new();
    ending.stops(stop.clone());
    let running = start(daemon.flags, stop.clone())
        .await
        .map_err(|error| Failure::Start {
            daemon: name.to_owned(),
            words: error.to_string(),
        })?;
    match ended(running).await.reason() {
        None if stop.is_stopped() => Ok(()),
        reason => {
            let words =
                reason.unwrap_or_else(|| "it has ended by itself; its log says why".to_owned());
            Err(Failure::Start {
                daemon: name.to_owned(),
                words,
            })
        }
    }
}

/// What a daemon says when it has ended.
pub trait Outcome {
    /// Why it ended by itself, if it did and says so.
    fn reason(self) -> Option<String>;
}

impl Outcome for () {
    fn reason(self) -> Option<String> {
        None
    }
}

impl Outcome for Option<String> {
    fn reason(self) -> Option<String> {
        self
    }
}
