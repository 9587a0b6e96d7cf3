//! The write-ahead log: what the agent must remember across its own death and that of the host.
//!
//! Files of one directory, numbered by generation: `000007.snapshot` is a ledger as records, `000007.log` the records
//! that came after it, `000008.log` those after that. Recovery takes the newest snapshot and every log from its number
//! on. One thread writes, another flushes: many appends share one fdatasync, and an append that needs none is through
//! as soon as write(2) has returned, also while a flush is under way. When a log has grown long, the next one is begun
//! and a third thread makes a snapshot of what came before.
//!
//! Invariant: `Logged` is told in the order of the appends among those without flush and among those with; a record is
//! never told to be flushed before every record appended earlier is flushed too.

mod codec;
mod frame;
mod recover;
mod write;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::{fmt, io};

use crate::core::ledger::Ledger;
use crate::core::record::Record;

pub use codec::CodecError;
pub use frame::{FrameError, LOG_VERSION};

/// A log longer than this is followed by a new one, in bytes.
pub const ROTATE_BYTES: u64 = 8 << 20;

/// Why the log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file system said no.
    #[error("cannot {act} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// With which file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A file is damaged, or of a newer version.
    #[error(
        "the agent's log {path} cannot be used: {source}. The agent does not start without knowing its tasks. To start \
         afresh, end the agent's tasks and move its --work_dir away; it then registers as a new agent",
        path = path.display()
    )]
    Frame {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: FrameError,
    },
    /// A whole frame holds no record.
    #[error("the agent's log {path} holds {source}", path = path.display())]
    Codec {
        /// Which file.
        path: PathBuf,
        /// What it holds.
        #[source]
        source: CodecError,
    },
    /// A log between the snapshot and the newest one is missing.
    #[error("the agent's log {path} is missing, and later ones are there", path = path.display())]
    Missing {
        /// Which file should be there.
        path: PathBuf,
    },
}

/// What the log says of itself while it works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEvent {
    /// An append is through: written, and flushed if that was asked for.
    Logged {
        /// Which.
        id: u64,
    },
    /// The disk is full; the log waits for room and goes on by itself.
    Stalled {
        /// In words.
        words: String,
    },
    /// It goes on.
    Resumed,
    /// It can never go on: what was written last may not be on the disk.
    Failed {
        /// In words.
        words: String,
    },
}

/// Where events of the log go; called on the log's own threads, may block them.
pub type OnEvent = Box<dyn Fn(LogEvent) + Send + Sync>;

/// An open log.
pub struct Log {
    requests: Option<mpsc::Sender<Append>>,
    writer: Option<JoinHandle<()>>,
    torn_bytes: u64,
}

struct Append {
    id: u64,
    records: Vec<Record>,
    flush: bool,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("torn_bytes", &self.torn_bytes)
            .finish()
    }
}

impl Log {
    /// Opens the log in a directory, makes it if there is none, and says what it adds up to. What it held is flushed
    /// and in one snapshot when this returns. Blocks on the disk.
    ///
    /// # Errors
    /// [`OpenError::Frame`] if a part that had been flushed is damaged or of a newer version; a torn tail is left out.
    pub fn open(directory: &Path, on_event: OnEvent) -> Result<(Self, Ledger), OpenError> {
        Self::open_with(directory, on_event, ROTATE_BYTES)
    }

    /// The same with another length after which a new log is begun, in bytes.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open_with(
        directory: &Path,
        on_event: OnEvent,
        rotate_bytes: u64,
    ) -> Result<(Self, Ledger), OpenError> {
        let found = recover::recover(directory)?;
        let generation = found.generation + 1;
        recover::write_snapshot(directory, generation, &found.ledger)?;
        let file = write::new_log(directory, generation).map_err(|source| OpenError::Io {
            act: "create",
            path: recover::log_path(directory, generation),
            source,
        })?;
        recover::remove_before(directory, generation);
        let (requests, receiver) = mpsc::channel();
        let writer = write::start(
            directory,
            generation,
            file,
            rotate_bytes,
            receiver,
            on_event,
        )
        .map_err(|source| OpenError::Io {
            act: "start a thread for",
            path: directory.to_owned(),
            source,
        })?;
        let log = Self {
            requests: Some(requests),
            writer: Some(writer),
            torn_bytes: found.torn_bytes,
        };
        Ok((log, found.ledger))
    }

    /// How many bytes at the end were torn off by a crash and left out.
    pub fn torn_bytes(&self) -> u64 {
        self.torn_bytes
    }

    /// Appends records; [`LogEvent::Logged`] follows. Never blocks. What waits is bounded by what its caller has not
    /// been told of.
    pub fn append(&self, id: u64, records: Vec<Record>, flush: bool) {
        if let Some(requests) = &self.requests {
            // The writer is only gone after it failed, and has said so.
            let _ = requests.send(Append { id, records, flush });
        }
    }

    /// Writes what was appended, and ends the threads. Blocks on the disk.
    pub fn close(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.requests = None;
        if let Some(writer) = self.writer.take() {
            // A panic of the writer has been seen as a missing event; there is nothing to add here.
            let _ = writer.join();
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.end();
    }
}
