//! What a leash and the executor say to each other: fixed records over a packet socket within one program.

use nix::errno::Errno;
use nix::sys::signal::Signal;

use crate::core::How;
use crate::start::{Failure, Step};

/// Bytes of every record: three numbers.
pub const BYTES: usize = 12;

/// A record, either way.
pub trait Message: Sized {
    /// Its three numbers.
    fn numbers(&self) -> [i32; 3];

    /// The record of three numbers; `None` if it is none.
    fn from_numbers(numbers: [i32; 3]) -> Option<Self>;

    /// As bytes.
    fn encode(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        for (place, number) in bytes.chunks_exact_mut(4).zip(self.numbers()) {
            place.copy_from_slice(&number.to_ne_bytes());
        }
        bytes
    }

    /// From bytes.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<4>();
        let words: &[[u8; 4]; 3] = words.try_into().ok()?;
        rest.is_empty()
            .then(|| Self::from_numbers(words.map(i32::from_ne_bytes)))?
    }
}

/// What a leash tells the executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The job runs as this process.
    Started(i32),
    /// The job could not be started.
    Failed(Failure),
    /// A process ended: the job's, or one that it left behind.
    Ended {
        /// Which.
        pid: i32,
        /// How.
        how: How,
    },
    /// Nothing is left below the leash, and it leaves.
    Gone,
}

/// What the executor tells a leash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Send this to everything below.
    Signal(Signal),
    /// Kill everything below and leave.
    Finish,
}

impl Message for Told {
    fn numbers(&self) -> [i32; 3] {
        match *self {
            Self::Started(pid) => [0, pid, 0],
            Self::Failed(failure) => [1, failure.step as i32, failure.errno as i32],
            Self::Ended {
                pid,
                how: How::Exited(status),
            } => [2, pid, status],
            Self::Ended {
                pid,
                how: How::Signaled(signal),
            } => [3, pid, signal],
            Self::Gone => [4, 0, 0],
        }
    }

    fn from_numbers(numbers: [i32; 3]) -> Option<Self> {
        Some(match numbers {
            [0, pid, _] => Self::Started(pid),
            [1, step, errno] => Self::Failed(Failure {
                step: Step::from_number(step)?,
                errno: Errno::from_raw(errno),
            }),
            [2, pid, status] => Self::Ended {
                pid,
                how: How::Exited(status),
            },
            [3, pid, signal] => Self::Ended {
                pid,
                how: How::Signaled(signal),
            },
            [4, ..] => Self::Gone,
            _ => return None,
        })
    }
}

impl Message for Order {
    fn numbers(&self) -> [i32; 3] {
        match *self {
            Self::Signal(signal) => [10, signal as i32, 0],
            Self::Finish => [11, 0, 0],
        }
    }

    fn from_numbers(numbers: [i32; 3]) -> Option<Self> {
        Some(match numbers {
            [10, signal, _] => Self::Signal(Signal::try_from(signal).ok()?),
            [11, ..] => Self::Finish,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_they_were_said() {
        let failure = Failure {
            step: Step::Directory,
            errno: Errno::ENOENT,
        };
        for told in [
            Told::Started(7),
            Told::Failed(failure),
            Told::Ended {
                pid: 8,
                how: How::Exited(3),
            },
            Told::Ended {
                pid: 9,
                how: How::Signaled(11),
            },
            Told::Gone,
        ] {
            assert_eq!(Told::decode(&told.encode()), Some(told));
        }
        for order in [Order::Signal(Signal::SIGTERM), Order::Finish] {
            assert_eq!(Order::decode(&order.encode()), Some(order));
            assert_eq!(Told::decode(&order.encode()), None);
        }
        assert_eq!(Told::decode(&[0; BYTES - 1]), None);
        assert_eq!(Told::decode(&[]), None);
    }
}
