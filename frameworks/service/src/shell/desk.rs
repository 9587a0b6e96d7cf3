//! Where requests wait for the core: who leads, and the way to it.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::core::request::{Answer, ApiCall, Refusal};

/// Requests that may wait for the core at once.
pub const MAX_WAITING: usize = 1024;

/// For how long a request waits for a leader to be known.
const LEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// For how long a request waits for its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// One request on its way to the core.
#[derive(Debug)]
pub struct Question {
    /// What is asked.
    pub call: ApiCall,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<Answer, Refusal>>,
}

/// What this process is at the moment.
#[derive(Clone, Debug)]
pub enum Standing {
    /// Another process leads, or nobody that is known.
    Standby {
        /// Its `host:port`.
        leader: Option<String>,
    },
    /// A change is under way.
    InDoubt,
    /// This process leads; questions go here.
    Leading(mpsc::Sender<Question>),
}

/// Where a request is to go.
#[derive(Clone, Debug)]
pub enum Way {
    /// To the core of this process.
    Here(mpsc::Sender<Question>),
    /// To the process at `host:port`.
    There(String),
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The leadership changed while the request was under way.
    #[error(
        "the leadership changed while the request was under way; whether it was carried out is unknown, ask again"
    )]
    Gone,
    /// The store did not answer in time.
    #[error(
        "nothing came within 30 s: the store does not answer; whether the request will be carried out is unknown"
    )]
    Slow,
}

/// Finds the way, waiting a little while nobody is known to lead.
pub async fn way(standing: &mut watch::Receiver<Standing>) -> Option<Way> {
    let known = standing.wait_for(|standing| match standing {
        Standing::Leading(_) => true,
        Standing::Standby { leader } => leader.is_some(),
        Standing::InDoubt => false,
    });
    let found = tokio::time::timeout(LEADER_TIMEOUT, known)
        .await
        .ok()?
        .ok()?;
    match &*found {
        Standing::Leading(questions) => Some(Way::Here(questions.clone())),
        Standing::Standby { leader } => leader.clone().map(Way::There),
        Standing::InDoubt => None,
    }
}

/// Asks the core.
///
/// # Errors
/// See [`NoAnswer`].
pub async fn ask(
    questions: &mpsc::Sender<Question>,
    call: ApiCall,
) -> Result<Result<Answer, Refusal>, NoAnswer> {
    let (answer, answered) = oneshot::channel();
    let until = Instant::now() + ANSWER_TIMEOUT;
    match tokio::time::timeout_at(until, questions.send(Question { call, answer })).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) => return Err(NoAnswer::Gone),
        Err(_) => return Err(NoAnswer::Slow),
    }
    match tokio::time::timeout_at(until, answered).await {
        Ok(answer) => answer.map_err(|_| NoAnswer::Gone),
        Err(_) => Err(NoAnswer::Slow),
    }
}
