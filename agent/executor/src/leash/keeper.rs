//! The leash's own life: everything here runs in the forked process and never returns to the executor's code.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{MsgFlags, recv, send};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, getpid};

use super::message::{self, Message, Order, Told};
use super::{Job, Options};
use crate::core::How;
use crate::sys::{self, Alone};
use crate::tree;

struct Keeper<'a> {
    socket: &'a OwnedFd,
    options: &'a Options,
    job: Option<Pid>,
    children: SignalFd,
}

/// Runs the job and keeps it until nothing of it is left.
pub(super) fn keep(
    alone: &Alone,
    job: &Job,
    options: &Options,
    socket: &OwnedFd,
    stdout: BorrowedFd<'_>,
    stderr: BorrowedFd<'_>,
) -> ! {
    let _ = prctl::set_name(c"mezzo-leash");
    // Only SIGKILL ends a leash; the ends of children are read from a descriptor.
    let _ = SigSet::all().thread_set_mask();
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGCHLD);
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    let (Ok(()), Ok(children)) = (
        prctl::set_child_subreaper(true),
        SignalFd::with_flags(&ends, flags),
    ) else {
        sys::leave(1)
    };
    let mut keeper = Keeper {
        socket,
        options,
        job: None,
        children,
    };
    match job.start(alone, stdout, stderr) {
        Ok(pid) => {
            keeper.job = Some(pid);
            keeper.tell(Told::Started(pid.as_raw()));
            let orphaned = keeper.wait_for_the_end();
            keeper.finish(orphaned)
        }
        Err(failure) => {
            keeper.tell(Told::Failed(failure));
            keeper.finish(false)
        }
    }
}

impl Keeper<'_> {
    fn tell(&self, told: Told) {
        // To a dead executor nothing can be told.
        let bytes = told.encode();
        while send(self.socket.as_raw_fd(), &bytes, MsgFlags::MSG_NOSIGNAL) == Err(Errno::EINTR) {}
    }

    /// Reports ends and carries out orders until told to finish; true if because the executor is gone.
    fn wait_for_the_end(&self) -> bool {
        loop {
            let mut fds = [
                PollFd::new(self.children.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                // Without poll there is no way to wait: kill rather than let go.
                Err(_) => return false,
            }
            while let Ok(Some(_)) = self.children.read_signal() {}
            self.reap_ready();
            let mut bytes = [0; message::BYTES];
            match recv(self.socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return true,
                Ok(count) => match Order::decode(bytes.get(..count).unwrap_or_default()) {
                    Some(Order::Signal(signal)) => pass_on(signal),
                    Some(Order::Finish) => return false,
                    None => {}
                },
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(_) => return true,
            }
        }
    }

    /// Takes in every child that has ended.
    fn reap_ready(&self) {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                return;
            }
            self.report(status);
        }
    }

    fn report(&self, status: WaitStatus) {
        let (pid, how) = match status {
            WaitStatus::Exited(pid, status) => (pid, How::Exited(status)),
            WaitStatus::Signaled(pid, signal, _) => (pid, How::Signaled(signal as i32)),
            _ => return,
        };
        if self.options.report_orphans || self.job == Some(pid) {
            let pid = pid.as_raw();
            self.tell(Told::Ended { pid, how });
        }
    }

    /// Kills until nothing is left, then leaves. Each round waits for an end, so there is no spinning, and what was
    /// forked meanwhile falls to us and is killed in the next round.
    fn finish(&self, orphaned: bool) -> ! {
        loop {
            tree::signal(getpid().as_raw(), &[], Signal::SIGKILL);
            let wait = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            match waitid(Id::All, wait) {
                Ok(_) => self.reap_ready(),
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        self.tell(Told::Gone);
        if orphaned && let Some(program) = &self.options.when_orphaned {
            program.replace_this_process();
        }
        sys::leave(0)
    }
}

/// Sends a signal to everything below this process, and wakes what is stopped so that it hears it.
fn pass_on(signal: Signal) {
    let here = getpid().as_raw();
    tree::signal(here, &[], signal);
    tree::signal(here, &[], Signal::SIGCONT);
}
