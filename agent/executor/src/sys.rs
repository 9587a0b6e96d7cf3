//! The few calls into the kernel that Rust counts as unsafe: fork, and what only a process about to fork or exec does.
//!
//! Soundness. `fork` is unsafe because the child of a process with several threads has one of them and every lock as it
//! was: allocating could hang, and invariants of other threads' data are broken. This program has one thread: the
//! executor is entered before anything could start another, and starts none. [`Alone`] is the proof, made once by
//! counting
//! threads, and cannot be sent away. Closing descriptors by number breaks the rule that their owners close them; each
//! function here says why no owner is left to notice.

#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::marker::PhantomData;
use std::os::fd::RawFd;

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::ForkResult;

/// Proof that this process has one thread. Not `Send`: it stays on that thread.
#[derive(Debug)]
pub struct Alone(PhantomData<*const ()>);

impl Alone {
    /// Counts the threads; fails if there is more than one.
    pub fn prove() -> io::Result<Self> {
        let threads = fs::read_dir("/proc/self/task")?.count();
        if threads == 1 {
            Ok(Self(PhantomData))
        } else {
            Err(io::Error::other(format!(
                "the executor must start in a process with one thread, and this one has {threads}"
            )))
        }
    }
}

/// Forks. The child may do anything: it is a whole copy of a process with one thread.
pub fn fork(_alone: &Alone) -> nix::Result<ForkResult> {
    // SAFETY: there is one thread (`Alone`), so no lock is held by a thread that the child lacks.
    unsafe { nix::unistd::fork() }
}

/// Leaves at once, without destructors: the way out of a fork's child, whose copies of its parent's objects are not its
/// to tear down.
pub fn leave(code: i32) -> ! {
    // SAFETY: `_exit` takes any number and does not return.
    unsafe { libc::_exit(code) }
}

/// Closes what the process inherited beyond the standard three. To be called at the very start, before any other
/// descriptor is opened: none has an owner in this program yet.
pub fn close_inherited() {
    close_between(3, RawFd::MAX);
}

/// Closes every descriptor but the standard three and `keep`. Only for the child of a fork that never returns to its
/// caller: the owners of the others are copies that are never used or dropped again.
pub fn close_all_but(keep: &mut [RawFd]) {
    keep.sort_unstable();
    let mut next = 3;
    for &fd in keep.iter() {
        if fd > next {
            close_between(next, fd - 1);
        }
        next = next.max(fd.saturating_add(1));
    }
    close_between(next, RawFd::MAX);
}

/// Closes a range of descriptors, both ends included.
fn close_between(first: RawFd, last: RawFd) {
    // SAFETY: the call takes three numbers and reads no memory; who owns the descriptors is argued at the callers.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if result == 0 {
        return;
    }
    // A kernel before 5.9: one by one.
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return;
    };
    let open: Vec<RawFd> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for fd in open.into_iter().filter(|fd| (first..=last).contains(fd)) {
        // SAFETY: as above; a descriptor that is not open any more (the listing's own) gives an error, no harm.
        unsafe { libc::close(fd) };
    }
}

/// Gives every signal its default meaning and blocks none, as a program expects to be started. A handler or a mask of
/// ours must not reach a payload: Rust ignores SIGPIPE, and the agent may ignore others.
pub fn reset_signals() {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator() {
        // SAFETY: the default action runs no code of ours. SIGKILL and SIGSTOP refuse, which is right.
        let _ = unsafe { sigaction(signal, &default) };
    }
    for number in libc::SIGRTMIN()..=libc::SIGRTMAX() {
        // SAFETY: as above, for the real-time signals, which have no names.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    let _ = SigSet::empty().thread_set_mask();
}
