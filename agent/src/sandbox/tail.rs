//! One file of a sandbox, read in order: its turned-over parts first, and on when it is turned over again.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};
use rustix::io::Errno;

/// The most that is read at once, in bytes.
pub const CHUNK_BYTES: usize = 64 * 1024;

/// More turned-over parts than this are not looked for.
const PARTS_MAX: u32 = 1_000;

/// Files of a sandbox that are turned over.
const LOGS: [&str; 2] = ["stdout", "stderr"];

/// Why a file is not read, in words for a person.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Nothing of that name.
    #[error("there is no file '{path}' in the sandbox")]
    None {
        /// What was asked for.
        path: String,
    },
    /// The name leads somewhere else.
    #[error("'{path}' leads out of the sandbox")]
    Outside {
        /// What was asked for.
        path: String,
    },
    /// A directory, a pipe, a device.
    #[error("'{path}' is not a regular file")]
    NotAFile {
        /// What was asked for.
        path: String,
    },
    /// The system said no.
    #[error("'{path}' cannot be read: {source}")]
    Io {
        /// What was asked for.
        path: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The agent is ending.
    #[error("the agent is ending")]
    Ended,
    /// Too many at once.
    #[error(
        "the agent is reading {0} files already; try again when some of these reads have ended"
    )]
    TooMany(usize),
}

/// What tells a file from another that takes its name.
type Identity = (u64, u64);

#[derive(Debug)]
struct Part {
    file: File,
    identity: Identity,
    bytes: u64,
}

/// A file that is being read.
#[derive(Debug)]
pub(super) struct Tail {
    sandbox: OwnedFd,
    path: String,
    /// Parts that are to be read, oldest first; the front one is being read.
    parts: VecDeque<Part>,
    /// Where in the front part.
    at: u64,
    /// Where in all of it.
    offset: u64,
    /// Read what is added after the start.
    growing: bool,
}

impl Tail {
    /// Opens a file at an offset, negative from the end. One that `may_come` need not be there yet.
    pub fn open(
        sandbox: &Path,
        path: &str,
        offset: i64,
        may_come: bool,
    ) -> Result<Self, ReadError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let none = |_| ReadError::None {
            path: path.to_owned(),
        };
        let sandbox = open(sandbox, flags, Mode::empty()).map_err(none)?;
        let mut tail = Self {
            sandbox,
            path: path.to_owned(),
            parts: VecDeque::new(),
            at: 0,
            offset: 0,
            growing: may_come,
        };
        tail.parts = tail.family()?.into();
        if tail.parts.is_empty() && !may_come {
            return Err(ReadError::None {
                path: path.to_owned(),
            });
        }
        tail.seek(offset);
        Ok(tail)
    }

    fn seek(&mut self, offset: i64) {
        let total: u64 = self.parts.iter().map(|part| part.bytes).sum();
        let distance = offset.unsigned_abs();
        let start = match offset {
            0.. => distance.min(total),
            _ => total.saturating_sub(distance),
        };
        self.offset = start;
        self.at = start;
        while self.parts.len() > 1
            && let Some(front) = self.parts.front()
            && self.at >= front.bytes
        {
            self.at -= front.bytes;
            self.parts.pop_front();
        }
    }

    /// The directory that the file lies in, to be watched.
    pub fn parent(&self) -> Result<OwnedFd, ReadError> {
        let parent = Path::new(&self.path).parent().unwrap_or(Path::new(""));
        let parent = if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        };
        self.open_below(parent, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// The next bytes, at most so many, and where they lie; `None` if there are no more for now.
    pub fn next(&mut self, most: usize) -> Result<Option<(u64, Vec<u8>)>, ReadError> {
        loop {
            let Some(front) = self.parts.front() else {
                // It was not there; perhaps it is now.
                self.parts = self.family()?.into();
                self.at = 0;
                if self.parts.is_empty() {
                    return Ok(None);
                }
                continue;
            };
            // What was turned over may have grown after it was looked at; the newest only counts if it is followed.
            let bounded = self.parts.len() == 1 && !self.growing;
            let left = front.bytes.saturating_sub(self.at);
            let most = if bounded {
                most.min(usize::try_from(left).unwrap_or(usize::MAX))
            } else {
                most
            };
            let mut data = vec![0; most];
            let read = front
                .file
                .read_at(&mut data, self.at)
                .map_err(|source| self.io(source))?;
            if read > 0 {
                data.truncate(read);
                let offset = self.offset;
                self.at += read as u64;
                self.offset += read as u64;
                return Ok(Some((offset, data)));
            }
            if self.parts.len() > 1 {
                self.parts.pop_front();
                self.at = 0;
                continue;
            }
            if !self.growing || !self.turn()? {
                return Ok(None);
            }
        }
    }

    /// Looks whether the file was turned over, and goes on with the part after the one that was read to its end.
    fn turn(&mut self) -> Result<bool, ReadError> {
        let Some(current) = self.parts.front() else {
            return Ok(false);
        };
        let known = current.identity;
        let family = self.family()?;
        let place = family.iter().position(|part| part.identity == known);
        match place {
            Some(place) if place + 1 == family.len() => Ok(false),
            // What it was is kept by another name; it may have grown before that happened.
            Some(place) => {
                let at = self.at;
                self.parts = family.into_iter().skip(place).collect();
                self.at = at;
                Ok(true)
            }
            None if family.is_empty() => Ok(false),
            // It is not kept any more: what came between is lost.
            None => {
                self.parts = family.into();
                self.at = 0;
                Ok(true)
            }
        }
    }

    /// The parts that are there now, oldest first. They are opened newest first, so that a turn meanwhile makes one
    /// appear twice, which is seen, rather than not at all.
    fn family(&self) -> Result<Vec<Part>, ReadError> {
        let mut found: Vec<Part> = Vec::new();
        let turned = LOGS.contains(&self.path.as_str());
        for number in 0..=PARTS_MAX {
            let mut name = OsString::from(&self.path);
            if number > 0 {
                name.push(format!(".{number}"));
            }
            match self.part(Path::new(&name)) {
                Ok(part) if found.iter().any(|known| known.identity == part.identity) => {}
                Ok(part) => found.push(part),
                // Between the two renames of a turn there is no newest part.
                Err(ReadError::None { .. }) if number == 0 && turned => {}
                Err(ReadError::None { .. }) => break,
                Err(error) => return Err(error),
            }
            if !turned {
                break;
            }
        }
        found.reverse();
        Ok(found)
    }

    fn part(&self, name: &Path) -> Result<Part, ReadError> {
        // Opening a pipe must not wait for somebody to write to it.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(self.open_below(name, flags)?);
        let known = file.metadata().map_err(|source| self.io(source))?;
        if !known.is_file() {
            return Err(ReadError::NotAFile {
                path: self.path.clone(),
            });
        }
        Ok(Part {
            identity: (known.dev(), known.ino()),
            bytes: known.len(),
            file,
        })
    }

    fn open_below(&self, name: &Path, flags: OFlags) -> Result<OwnedFd, ReadError> {
        let path = || self.path.clone();
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        loop {
            return match openat2(self.sandbox.as_fd(), name, flags, Mode::empty(), resolve) {
                Ok(fd) => Ok(fd),
                // A rename raced with the walk.
                Err(Errno::AGAIN) => continue,
                Err(Errno::XDEV | Errno::LOOP) => Err(ReadError::Outside { path: path() }),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::INVAL | Errno::NAMETOOLONG) => {
                    Err(ReadError::None { path: path() })
                }
                Err(Errno::NXIO) => Err(ReadError::NotAFile { path: path() }),
                Err(errno) => Err(self.io(errno.into())),
            };
        }
    }

    fn io(&self, source: io::Error) -> ReadError {
        ReadError::Io {
            path: self.path.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_shrinks_ends_rather_than_loops() {
        let scratch = tempfile::tempdir().expect("a directory");
        let path = scratch.path().join("f");
        std::fs::write(&path, "0123456789").expect("writes");
        let mut tail = Tail::open(scratch.path(), "f", 0, false).expect("opens");
        assert_eq!(tail.next(4).expect("reads").map(|(at, _)| at), Some(0));
        std::fs::write(&path, "").expect("writes");
        assert_eq!(tail.next(4).expect("reads"), None);
    }
}
