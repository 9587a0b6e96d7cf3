//! A leash: a small process between the executor and one command, which lets nothing of that command get away.
//!
//! It is a fork of the executor, the subreaper of its command, and holds one end of a socket whose other end only the
//! executor has. When the executor says so, or dies in any way, everything below the leash is killed before it leaves;
//! when the leash dies, its orphans fall to the executor, a subreaper as well, which kills them. So no descendant of
//! a command
//! outlives it unless both are killed in the same moment, and then the container's marker in the environment remains.
//! Invariant: the leash decides nothing, allocates little and lives in [`keeper`]; this side never blocks.

mod keeper;
mod message;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use nix::unistd::{ForkResult, Pid};

use crate::probe::Probe;
use crate::start::{Failure, Program};
use crate::sys::{self, Alone};

pub use message::Told;
use message::{Message, Order};

/// What a leash is to run.
#[derive(Debug)]
pub enum Job {
    /// A program.
    Program(Program),
    /// A connection of our own, made in a process that can be killed.
    Probe(Probe),
}

/// What a leash does beyond running its job.
#[derive(Debug, Default)]
pub struct Options {
    /// Tell also of the ends of processes that the job left behind (an OCI runtime leaves the container).
    pub report_orphans: bool,
    /// What the leash runs at its end if the executor died.
    pub when_orphaned: Option<Program>,
}

/// The executor's end of a leash. Dropping it kills what it holds.
#[derive(Debug)]
pub struct Leash {
    pid: Pid,
    socket: OwnedFd,
}

impl Leash {
    /// Forks a leash and lets it run `job`, whose output goes to the two pipes.
    pub fn fork(
        alone: &Alone,
        job: &Job,
        options: &Options,
        stdout: BorrowedFd<'_>,
        stderr: BorrowedFd<'_>,
    ) -> nix::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        match sys::fork(alone)? {
            ForkResult::Child => {
                let mut keep = [theirs.as_raw_fd(), stdout.as_raw_fd(), stderr.as_raw_fd()];
                sys::close_all_but(&mut keep);
                keeper::keep(alone, job, options, &theirs, stdout, stderr)
            }
            ForkResult::Parent { child } => Ok(Self {
                pid: child,
                socket: ours,
            }),
        }
    }

    /// The leash's own process.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends a signal to everything below the leash.
    pub fn signal(&self, signal: Signal) {
        self.order(Order::Signal(signal));
    }

    /// Kills everything below the leash; [`Told::Gone`] says when nothing is left.
    pub fn finish(&self) {
        self.order(Order::Finish);
    }

    fn order(&self, order: Order) {
        // A leash that takes no orders is finishing already, or gone.
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let _ = send(self.socket.as_raw_fd(), &order.encode(), flags);
    }

    /// What the leash told, if anything is there. `Ok(None)`: not now. An error: it is gone.
    pub fn hear(&self) -> io::Result<Option<Told>> {
        let mut bytes = [0; message::BYTES];
        match recv(self.socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => Ok(Told::decode(bytes.get(..count).unwrap_or_default())),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for Leash {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Job {
    fn start(
        &self,
        alone: &Alone,
        stdout: BorrowedFd<'_>,
        stderr: BorrowedFd<'_>,
    ) -> Result<Pid, Failure> {
        match self {
            Self::Program(program) => program.start(alone, stdout, stderr),
            Self::Probe(probe) => probe.start(alone),
        }
    }
}
