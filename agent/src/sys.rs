//! The one call that Rust counts as unsafe: handing a descriptor to the runtime's reactor.
//!
//! Soundness. The reactor must find the same open file under the descriptor's number for as long as it is registered.
//! An [`OwnedFd`] is the only owner of its descriptor, gives the same number every time, and is closed when the
//! `AsyncFd` that holds it is dropped, which ends the registration first. Nobody in this crate takes a descriptor out
//! of one that is shared.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Has the runtime say when a descriptor can be read: a pidfd when its process has ended, inotify when something
/// changed.
///
/// # Errors
/// The kernel does not take it.
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: `fd` is owned and of a type that always gives the same descriptor; see above.
    let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    registered.map_err(io::Error::from)
}
