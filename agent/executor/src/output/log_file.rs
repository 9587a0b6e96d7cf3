//! One log file in a directory that somebody else may write to, with a bound on its size and on what is kept of it.
//!
//! A file that is full becomes `<name>.1`, the one that was `.1` becomes `.2`, and the last one goes. Invariant:
//! every file
//! opened here was made here in the same call; links and files that the payload put in the way are moved or removed.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, ftruncate, unlinkat};

use crate::plan::OutputLimits;

/// A bounded log.
#[derive(Debug)]
pub struct LogFile {
    directory: OwnedFd,
    name: &'static str,
    limits: OutputLimits,
    /// `None` when it could not be made; every write tries again.
    file: Option<File>,
    written: u64,
    dropped: Option<Dropped>,
}

/// Output that could not be kept.
#[derive(Debug)]
struct Dropped {
    bytes: u64,
    error: io::Error,
}

impl LogFile {
    /// Makes the file; what has its name already is moved out of the way like an old log.
    pub fn create(
        directory: OwnedFd,
        name: &'static str,
        limits: OutputLimits,
    ) -> io::Result<Self> {
        let mut log = Self {
            directory,
            name,
            limits,
            file: None,
            written: 0,
            dropped: None,
        };
        log.file = Some(log.make()?);
        Ok(log)
    }

    /// Writes all of `bytes`, or counts what was dropped. Never fails and never waits for space.
    pub fn write(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let now = self.fitting(rest);
            if now == 0 {
                self.turn_over();
                continue;
            }
            let (head, tail) = rest.split_at(now);
            self.append(head);
            rest = tail;
        }
    }

    /// Puts another file in the place of the current one, which is returned.
    #[cfg(test)]
    pub fn replace_file(&mut self, file: File) -> File {
        self.file.replace(file).expect("a log has a file")
    }

    /// How much of `bytes` goes into the current file: all, or up to the last line end within the bound.
    fn fitting(&self, bytes: &[u8]) -> usize {
        let max = self.limits.file_bytes_max;
        if max == 0 {
            return bytes.len();
        }
        let room = usize::try_from(max.saturating_sub(self.written)).unwrap_or(usize::MAX);
        let Some(head) = bytes.get(..room) else {
            return bytes.len();
        };
        match head.iter().rposition(|&byte| byte == b'\n') {
            Some(at) => at + 1,
            // A line that began in this file or fills a whole one is cut; one that fits in the next waits for it.
            None if self.written == 0 => room.max(1),
            None => 0,
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        if let Err(error) = self.try_append(bytes) {
            let dropped = self.dropped.get_or_insert_with(|| Dropped {
                bytes: 0,
                error: io::ErrorKind::Other.into(),
            });
            dropped.bytes = dropped.bytes.saturating_add(error.lost);
            dropped.error = error.source;
        }
    }

    fn try_append(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        let lost = |source| Lost {
            lost: bytes.len() as u64,
            source,
        };
        if self.file.is_none() {
            self.file = Some(self.make().map_err(lost)?);
            self.written = 0;
        }
        if let Some(dropped) = self.dropped.take() {
            let words = dropped.words();
            if let Err(again) = self.write_out(words.as_bytes()) {
                self.dropped = Some(dropped);
                return Err(lost(again.source));
            }
        }
        self.write_out(bytes)
    }

    /// Writes to the current file and counts what went in, also of a write that failed half-way.
    fn write_out(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let result = match &mut self.file {
                Some(file) => file.write(rest),
                None => Err(io::ErrorKind::NotFound.into()),
            };
            match result {
                Ok(count) if count > 0 => {
                    self.written += count as u64;
                    rest = rest.get(count..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => {
                    return Err(Lost {
                        lost: rest.len() as u64,
                        source: other.err().unwrap_or(io::ErrorKind::WriteZero.into()),
                    });
                }
            }
        }
        Ok(())
    }

    /// Makes the full file an old one and begins the next.
    fn turn_over(&mut self) {
        match self.make() {
            Ok(file) => self.file = Some(file),
            // The names are blocked: the bound is kept by beginning the same file anew.
            Err(_) => match &self.file {
                Some(file) if ftruncate(file, 0).is_ok() => {}
                _ => self.file = None,
            },
        }
        self.written = 0;
    }

    /// Makes a new file under the log's name and moves the older ones up.
    fn make(&self) -> io::Result<File> {
        let flags = OFlag::O_WRONLY
            | OFlag::O_CREAT
            | OFlag::O_EXCL
            | OFlag::O_APPEND
            | OFlag::O_NOFOLLOW
            | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(0o644);
        // Somebody may put something there between the moves and the creation, but not for ever.
        for _ in 0..3 {
            self.move_up();
            match openat(&self.directory, self.name, flags, mode) {
                Ok(file) => return Ok(file.into()),
                Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(Errno::EEXIST.into())
    }

    fn move_up(&self) {
        let old = self.limits.old_files_max;
        for number in (0..old).rev() {
            let (from, to) = (self.numbered(number), self.numbered(number + 1));
            match renameat(&self.directory, from.as_str(), &self.directory, to.as_str()) {
                Ok(()) | Err(Errno::ENOENT) => {}
                // A directory lies where a log should go, or the other way round.
                Err(_) => self.remove(&from),
            }
        }
        if old == 0 {
            self.remove(self.name);
        }
    }

    fn remove(&self, name: &str) {
        for flag in [UnlinkatFlags::NoRemoveDir, UnlinkatFlags::RemoveDir] {
            let _ = unlinkat(&self.directory, name, flag);
        }
    }

    fn numbered(&self, number: u32) -> String {
        match number {
            0 => self.name.to_owned(),
            number => format!("{}.{number}", self.name),
        }
    }
}

/// A write that failed: how much of it did not go in.
struct Lost {
    lost: u64,
    source: io::Error,
}

impl Dropped {
    fn words(&self) -> String {
        format!(
            "\n[mezzo: {} bytes of output were dropped here: {}]\n",
            self.bytes, self.error
        )
    }
}
