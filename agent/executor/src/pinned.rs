//! A process that cannot be mistaken for another any more: a pidfd.
//!
//! Invariant: who pins a process by its number checks afterwards that it is the one that was meant; from then on the
//! number
//! may be reused without harm.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};

/// A pinned process.
#[derive(Debug)]
pub enum Pinned {
    /// By a descriptor, which is readable when it has ended.
    Descriptor(OwnedFd),
    /// By its number: on a kernel before 5.3 nothing better is to be had.
    Number(i32),
}

impl Pinned {
    /// Pins whoever has this number now; `None` if nobody has.
    pub fn new(number: i32) -> Option<Self> {
        let pid = rustix::process::Pid::from_raw(number)?;
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => Some(Self::Descriptor(descriptor)),
            Err(rustix::io::Errno::NOSYS) => Some(Self::Number(number)),
            Err(_) => None,
        }
    }

    /// Sends a signal. An error means that the process is gone, or not ours to signal.
    pub fn signal(&self, signal: Signal) {
        match self {
            Self::Descriptor(descriptor) => {
                if let Some(signal) = rustix::process::Signal::from_named_raw(signal as i32) {
                    let _ = pidfd_send_signal(descriptor, signal);
                }
            }
            Self::Number(number) => {
                let _ = kill(Pid::from_raw(*number), signal);
            }
        }
    }

    /// What is readable when the process has ended; `None` on an old kernel.
    pub fn end(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Descriptor(descriptor) => Some(descriptor.as_fd()),
            Self::Number(_) => None,
        }
    }
}
