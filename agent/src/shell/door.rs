//! The executors' door: a unix socket, a hello with a token, then frames of the executor API both ways.
//!
//! Invariant: nobody without a valid token gets past the hello; what a connection may keep waiting is bounded in both
//! directions, and one that does not take its events is closed (an executor comes back and hears what it missed).

mod conn;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mezzo_model::ids::ContainerId;
use mezzo_wire::v1::executor::Event;
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::inbox::Inbox;
use super::token::Tokens;
use crate::core::ConnId;

/// Events that may wait for one executor.
const EVENTS_MAX: usize = 1_024;

/// Connections of strangers (of another user than the agent's) that may be at their hello at once.
const STRANGERS_MAX: usize = 64;

/// Connections of all that may be there at once.
const CONNECTIONS_MAX: usize = 65_536;

/// After the kernel refused a connection, so that the loop does not spin on the refusal.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long the end of an executor waits for the last words on its connection.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What goes to a connection.
#[derive(Debug)]
pub(super) enum ToConn {
    /// Let in, or sent away in words.
    Answer(Result<(), String>),
    /// An event.
    Event(Box<Event>),
}

#[derive(Debug)]
struct Known {
    sender: mpsc::Sender<ToConn>,
    /// Ends it when what was sent is out.
    close: CancellationToken,
    /// Ends it now: it does not take what it is sent.
    cut: CancellationToken,
}

/// The open connections, shared by the door and the core's task.
#[derive(Debug)]
pub(crate) struct Door {
    inbox: Inbox,
    tokens: Tokens,
    next: AtomicU64,
    known: Mutex<BTreeMap<ConnId, Known>>,
    /// Connections by container, each cancelled when everything it said is in the inbox.
    heard: Mutex<BTreeMap<ContainerId, Vec<CancellationToken>>>,
    strangers: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

impl Door {
    /// A door that is not open yet.
    pub fn new(inbox: Inbox, tokens: Tokens) -> Arc<Self> {
        Arc::new(Self {
            inbox,
            tokens,
            next: AtomicU64::new(1),
            known: Mutex::default(),
            heard: Mutex::default(),
            strangers: Arc::new(Semaphore::new(STRANGERS_MAX)),
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        })
    }

    /// Opens the socket. A file that is in its place is that of an agent that is gone: the work directory is locked.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn open(path: &Path) -> io::Result<UnixListener> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        // A framework's own executor may run as another user; it proves itself by its token, as everybody does. Where
        // the agent cannot switch users there is nobody else.
        let mode = if nix::unistd::geteuid().is_root() {
            0o666
        } else {
            0o600
        };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        Ok(listener)
    }

    /// Takes connections until the token is cancelled, and removes the socket then.
    pub async fn serve(
        self: Arc<Self>,
        listener: UnixListener,
        path: PathBuf,
        stop: CancellationToken,
    ) {
        loop {
            let Ok(place) = self.places.clone().acquire_owned().await else {
                break;
            };
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (door, stop) = (self.clone(), stop.clone());
                    tokio::spawn(async move {
                        tokio::select! {
                            () = stop.cancelled() => {}
                            () = conn::run(door, stream) => {}
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "an executor's connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        // Executors wait for it to appear again.
        let _ = fs::remove_file(path);
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<ConnId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Vec<CancellationToken>>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(
        &self,
    ) -> (
        ConnId,
        mpsc::Receiver<ToConn>,
        CancellationToken,
        CancellationToken,
    ) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel(EVENTS_MAX);
        let (close, cut) = (CancellationToken::new(), CancellationToken::new());
        let known = Known {
            sender,
            close: close.clone(),
            cut: cut.clone(),
        };
        self.known().insert(id, known);
        (id, receiver, close, cut)
    }

    fn forget(&self, conn: ConnId) {
        self.known().remove(&conn);
    }

    /// Sends something to a connection; one that is full of what it has not taken is cut.
    fn send(&self, conn: ConnId, what: ToConn) {
        let known = self.known();
        let Some(known) = known.get(&conn) else {
            return;
        };
        if known.sender.try_send(what).is_err() {
            tracing::warn!(
                conn,
                "an executor does not take its events; its connection is cut"
            );
            known.cut.cancel();
        }
    }

    /// The core's answer to a hello.
    pub fn answer(&self, conn: ConnId, answer: Result<(), String>) {
        self.send(conn, ToConn::Answer(answer));
    }

    /// An event for an executor.
    pub fn event(&self, conn: ConnId, event: Box<Event>) {
        self.send(conn, ToConn::Event(event));
    }

    /// Ends a connection when what was sent is out.
    pub fn close(&self, conn: ConnId) {
        if let Some(known) = self.known().get(&conn) {
            known.close.cancel();
        }
    }

    fn hears(&self, container: &ContainerId) -> CancellationToken {
        let token = CancellationToken::new();
        let mut heard = self.heard();
        let all = heard.entry(container.clone()).or_default();
        all.retain(|token| !token.is_cancelled());
        all.push(token.clone());
        token
    }

    /// Waits until everything that a container's executor said before it ended is in the inbox. Its process is gone, so
    /// its connections are at their end; one that somebody else still holds open is not waited for.
    pub async fn heard_all(&self, container: &ContainerId) {
        let tokens = self.heard().remove(container).unwrap_or_default();
        let all = async {
            for token in &tokens {
                token.cancelled().await;
            }
        };
        if tokio::time::timeout(LAST_WORDS, all).await.is_err() {
            tracing::warn!(%container, "a connection outlives its executor");
        }
    }
}
