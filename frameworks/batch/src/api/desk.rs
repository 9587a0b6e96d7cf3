//! Where handlers hand questions to the core and wait for answers.
//!
//! Invariant: a question waits for a bounded time, and at most [`MAX_WAITING`] of them wait to be taken.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::core::{Call, Reply};

/// Most questions that wait to be taken by the core.
pub const MAX_WAITING: usize = 4096;

/// For how long an answer is waited for. A change is answered when it is stored.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A question on its way to the core.
#[derive(Debug)]
pub struct Question {
    /// What is asked.
    pub call: Call,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Reply>,
}

/// What this process is at the moment.
#[derive(Clone, Debug)]
pub enum Standing {
    /// It leads, and this is the way to its core.
    Leading(mpsc::Sender<Question>),
    /// Another process leads, if one does.
    Standby {
        /// How that is reached: `host:port`.
        leader: Option<String>,
    },
    /// It led, and does not know whether it still does.
    InDoubt,
}

/// Who leads, as far as this process knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leader {
    /// This process.
    Us,
    /// The process at `host:port`.
    At(String),
    /// Nobody, or nobody knows.
    Nobody,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// This process does not lead.
    #[error("No consistent leadership: this process does not lead; try again in a moment")]
    NotLeading,
    /// The core has more questions than it can take.
    #[error("too many requests wait already; try again in a moment")]
    Busy,
    /// The store did not take the change in time, or the leadership changed meanwhile.
    #[error(
        "there was no answer in time; whether the change will be stored is not known: look before trying again"
    )]
    NoAnswer,
}

/// A handle on the core of the moment.
#[derive(Clone, Debug)]
pub struct Desk {
    standing: watch::Receiver<Standing>,
}

impl Desk {
    /// A desk that follows the standing of this process.
    pub fn new(standing: watch::Receiver<Standing>) -> Self {
        Self { standing }
    }

    /// Who leads.
    pub fn leader(&self) -> Leader {
        match &*self.standing.borrow() {
            Standing::Leading(_) => Leader::Us,
            Standing::Standby {
                leader: Some(leader),
            } => Leader::At(leader.clone()),
            Standing::Standby { leader: None } | Standing::InDoubt => Leader::Nobody,
        }
    }

    /// Asks the core, and waits for its answer.
    ///
    /// # Errors
    /// If this process does not lead, too many wait, or no answer came in time.
    pub async fn ask(&self, call: Call) -> Result<Reply, AskError> {
        let core = match &*self.standing.borrow() {
            Standing::Leading(core) => core.clone(),
            Standing::Standby { .. } | Standing::InDoubt => return Err(AskError::NotLeading),
        };
        let (answer, wait) = oneshot::channel();
        core.try_send(Question { call, answer })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => AskError::Busy,
                mpsc::error::TrySendError::Closed(_) => AskError::NotLeading,
            })?;
        match tokio::time::timeout(ANSWER_TIMEOUT, wait).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) | Err(_) => Err(AskError::NoAnswer),
        }
    }
}
