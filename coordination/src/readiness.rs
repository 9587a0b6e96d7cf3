//! Waiting until a descriptor that the kernel handed out can be read. The crate's only unsafe code.
//!
//! Invariant: a [`Watched`] owns its descriptor from before it is registered until after it is deregistered.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// A descriptor that the runtime watches.
#[derive(Debug)]
pub(crate) struct Watched {
    inner: AsyncFd<OwnedFd>,
}

impl Watched {
    /// Hands a descriptor to the runtime. Call it within a tokio runtime.
    pub(crate) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        // SAFETY: registration must not outlive the descriptor. `OwnedFd` is a valid open descriptor and returns
        // the same number for as long as it lives; it is moved into the `AsyncFd`, which deregisters before it
        // drops it, and the private field is never replaced, closed or handed out mutably.
        let inner = unsafe { AsyncFd::register(descriptor) }?;
        Ok(Self { inner })
    }

    /// Waits until it can be read; true if it can, false if the runtime is being shut down.
    pub(crate) async fn readable(&self) -> bool {
        self.inner.readable().await.is_ok()
    }

    /// Waits until it can be read and runs `read`, which returns whether there was anything.
    pub(crate) async fn read(&self, mut read: impl FnMut(&OwnedFd) -> bool) -> bool {
        loop {
            let Ok(mut ready) = self.inner.readable().await else {
                return false;
            };
            if read(self.inner.get_ref()) {
                return true;
            }
            ready.clear_ready();
        }
    }
}
