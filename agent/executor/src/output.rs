//! The payload's output: two pipes, read here, kept in the sandbox as `stdout` and `stderr` within a bound.
//!
//! Invariant: the payload never waits for a disk. What cannot be written is dropped, counted, and noted in the file as
//! soon as it can be written again. The sandbox may belong to the payload's user, so nothing that already lies there
//! is ever
//! opened or followed.

mod log_file;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, fchown, pipe2};

use crate::plan::{OutputLimits, User};
use log_file::LogFile;

/// Bytes of one read.
const READ_BYTES: usize = 8 * 1024;
/// Most bytes taken from one stream before other work gets its turn.
const TURN_BYTES_MAX: usize = 64 * 1024;
/// Most bytes taken at the end, when every writer that we know of is gone.
const DRAIN_BYTES_MAX: usize = 4 << 20;

/// One stream: its pipe and its file.
#[derive(Debug)]
pub struct Stream {
    reader: File,
    /// Kept open, so that the pipe never reports its end; checks write here too.
    writer: OwnedFd,
    file: LogFile,
}

/// Both streams.
#[derive(Debug)]
pub struct Output {
    /// The standard output.
    pub stdout: Stream,
    /// The error output, of the checks as well.
    pub stderr: Stream,
}

impl Output {
    /// Opens both pipes and both files. The pipes are given to `user`, so that a payload may open `/dev/stdout`.
    pub fn open(sandbox: &Path, limits: OutputLimits, user: Option<&User>) -> io::Result<Self> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_RDONLY;
        let directory = open(sandbox, flags, Mode::empty())?;
        let stream = |name| {
            let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
            fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            if let Some(user) = user.filter(|_| Uid::effective().is_root()) {
                let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
                fchown(&writer, Some(uid), Some(gid))?;
            }
            let directory = directory.try_clone()?;
            io::Result::Ok(Stream {
                reader: reader.into(),
                writer,
                file: LogFile::create(directory, name, limits)?,
            })
        };
        Ok(Self {
            stdout: stream("stdout")?,
            stderr: stream("stderr")?,
        })
    }

    /// Takes what is left in the pipes when all writers are gone.
    pub fn drain(&mut self) {
        self.stdout.take(DRAIN_BYTES_MAX);
        self.stderr.take(DRAIN_BYTES_MAX);
    }
}

impl Stream {
    /// The end that the payload writes to.
    pub fn writer(&self) -> BorrowedFd<'_> {
        self.writer.as_fd()
    }

    /// Takes what is there, up to a bound.
    pub fn on_ready(&mut self) {
        self.take(TURN_BYTES_MAX);
    }

    fn take(&mut self, bytes_max: usize) {
        let mut bytes = [0; READ_BYTES];
        let mut taken = 0;
        while taken < bytes_max {
            match self.reader.read(&mut bytes) {
                Ok(0) => return,
                Ok(count) => {
                    taken += count;
                    self.file.write(bytes.get(..count).unwrap_or_default());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

impl AsFd for Stream {
    /// The end that is read, to be polled.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> i32 {
        self.reader.as_raw_fd()
    }
}

#[cfg(test)]
mod tests;
