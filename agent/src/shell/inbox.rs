//! What waits for the core: inputs in order, and a bound on the bytes that executors may have waiting in it.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::core::Input;

/// Inputs that may wait.
const INPUTS_MAX: usize = 4_096;

/// Kilobytes of calls of all executors that may wait together.
const CALLS_KB_MAX: usize = 64 * 1_024;

/// An input, and the room that it takes until it was handled.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub input: Input,
    _room: Option<OwnedSemaphorePermit>,
}

/// Where inputs are put.
#[derive(Clone, Debug)]
pub(crate) struct Inbox {
    inputs: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
}

/// The core is gone: the agent is ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

impl Inbox {
    /// An inbox and its other end.
    pub fn new() -> (Self, mpsc::Receiver<Waiting>) {
        let (inputs, receiver) = mpsc::channel(INPUTS_MAX);
        let room = Arc::new(Semaphore::new(CALLS_KB_MAX));
        (Self { inputs, room }, receiver)
    }

    /// Puts an input in, when there is room.
    pub async fn put(&self, input: Input) -> Result<(), Closed> {
        let waiting = Waiting { input, _room: None };
        self.inputs.send(waiting).await.map_err(|_| Closed)
    }

    /// The same from a thread that may block.
    pub fn put_blocking(&self, input: Input) -> Result<(), Closed> {
        let waiting = Waiting { input, _room: None };
        self.inputs.blocking_send(waiting).map_err(|_| Closed)
    }

    /// Waits until the core is gone.
    pub async fn closed(&self) {
        self.inputs.closed().await;
    }

    /// Puts in what an executor said in so many bytes.
    pub async fn put_call(&self, input: Input, bytes: usize) -> Result<(), Closed> {
        let kilobytes = (bytes / 1_024 + 1).min(CALLS_KB_MAX);
        let wanted = u32::try_from(kilobytes).unwrap_or(u32::MAX);
        let room = self
            .room
            .clone()
            .acquire_many_owned(wanted)
            .await
            .map_err(|_| Closed)?;
        let waiting = Waiting {
            input,
            _room: Some(room),
        };
        self.inputs.send(waiting).await.map_err(|_| Closed)
    }
}
