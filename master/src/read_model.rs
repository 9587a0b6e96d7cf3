//! What readers see: a copy of the cluster that is kept up to date by a thread of its own, so that no read ever touches
//! the core.
//!
//! The core emits small ordered records ([`Change`]); the shell hands them over in batches ([`Feed`]); the thread
//! applies them and answers reads in between ([`Reader`]), so each answer is of one moment. If the thread falls far
//! behind, records are dropped and it starts over from a dump of the core.
//!
//! Invariant: readers cannot slow the core down; at most [`MAX_BATCHES`] batches and [`MAX_READS`] reads wait.

mod change;
mod model;
mod pages;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use mezzo_wire::v1;
use mezzo_wire::v1::master::Response;
use tokio::sync::{Semaphore, oneshot};

pub use change::{AgentView, Change, Fate, FrameworkView};
pub use model::{Limits, Model};
pub use pages::Page;

/// Batches of changes that may wait.
pub const MAX_BATCHES: usize = 65_536;

/// Reads that may wait.
pub const MAX_READS: usize = 64;

enum Message {
    Changes(Vec<Change>),
    /// Forget everything; this is what there is.
    Reset(Vec<Change>),
    Read(Page, oneshot::Sender<Response>),
}

/// The writing end.
#[derive(Debug)]
pub struct Feed {
    messages: mpsc::Sender<Message>,
    waiting: Arc<AtomicUsize>,
    is_behind: bool,
}

/// The reading end. A clone reads the same.
#[derive(Clone, Debug)]
pub struct Reader {
    messages: mpsc::Sender<Message>,
    places: Arc<Semaphore>,
}

/// Why a read was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the master stopped leading")]
pub struct Ended;

/// Starts the thread of one term; it ends when both ends are dropped.
///
/// # Errors
/// If the system has no more threads.
pub fn start(
    limits: Limits,
    master: v1::master::response::GetMaster,
) -> std::io::Result<(Feed, Reader)> {
    let (sender, receiver) = mpsc::channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let applied = waiting.clone();
    std::thread::Builder::new()
        .name(String::from("read-model"))
        .spawn(move || {
            run(&receiver, &applied, limits, &master);
        })?;
    let reader = Reader {
        messages: sender.clone(),
        places: Arc::new(Semaphore::new(MAX_READS)),
    };
    Ok((
        Feed {
            messages: sender,
            waiting,
            is_behind: false,
        },
        reader,
    ))
}

fn run(
    messages: &mpsc::Receiver<Message>,
    applied: &AtomicUsize,
    limits: Limits,
    master: &v1::master::response::GetMaster,
) {
    let mut model = Model::new(limits);
    while let Ok(message) = messages.recv() {
        match message {
            Message::Changes(changes) => {
                applied.fetch_sub(1, Ordering::Relaxed);
                for change in changes {
                    model.apply(change);
                }
            }
            Message::Reset(changes) => {
                applied.fetch_sub(1, Ordering::Relaxed);
                model = Model::new(limits);
                for change in changes {
                    model.apply(change);
                }
            }
            // Who does not wait any more is passed over.
            Message::Read(_, answer) if answer.is_closed() => {}
            Message::Read(page, answer) => {
                let _ = answer.send(pages::answer(&model, page, master));
            }
        }
    }
}

impl Feed {
    /// Hands changes over. `dump` makes the records of everything there is; it is only called after some were dropped.
    pub fn push(&mut self, changes: Vec<Change>, dump: impl FnOnce() -> Vec<Change>) {
        if self.is_behind {
            if self.waiting.load(Ordering::Relaxed) > 0 {
                return;
            }
            self.is_behind = false;
            self.send(Message::Reset(dump()));
        } else if self.waiting.load(Ordering::Relaxed) >= MAX_BATCHES {
            self.is_behind = true;
        } else if !changes.is_empty() {
            self.send(Message::Changes(changes));
        }
    }

    /// Whether changes were dropped and a dump is due once the thread has caught up.
    pub fn is_behind(&self) -> bool {
        self.is_behind
    }

    fn send(&self, message: Message) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // The thread ends with this feed; without it there is nobody to tell.
        let _ = self.messages.send(message);
    }
}

impl Reader {
    /// Reads a page, as of everything that was handed over before.
    ///
    /// # Errors
    /// [`Ended`] if the term is over.
    pub async fn read(&self, page: Page) -> Result<Response, Ended> {
        let _place = self.places.acquire().await.map_err(|_| Ended)?;
        let (answer, answered) = oneshot::channel();
        self.messages
            .send(Message::Read(page, answer))
            .map_err(|_| Ended)?;
        answered.await.map_err(|_| Ended)
    }
}
