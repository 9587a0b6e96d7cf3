//! One inotify instance for all files that are followed: the kernel allows few of them to a user.

use std::collections::BTreeMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::ReadError;
use crate::sys;

/// Directories that are watched. Dropping it ends the reading of the instance.
#[derive(Debug)]
pub(crate) struct Watches {
    instance: Arc<Instance>,
    _listening: DropGuard,
}

#[derive(Debug)]
struct Instance {
    inotify: AsyncFd<OwnedFd>,
    watched: Mutex<Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    /// By the kernel's number of the watch.
    by_number: BTreeMap<i32, BTreeMap<u64, Arc<Notify>>>,
    next: u64,
}

/// Tells of changes in one directory, until it is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    instance: Arc<Instance>,
    number: i32,
    id: u64,
    changed: Arc<Notify>,
}

impl Watches {
    /// Opens an instance and reads it in the background, within a tokio runtime.
    ///
    /// # Errors
    /// The user has too many instances.
    pub fn new() -> io::Result<Arc<Self>> {
        let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
        let instance = Arc::new(Instance {
            inotify: sys::watch(inotify::init(flags)?)?,
            watched: Mutex::default(),
        });
        let stop = CancellationToken::new();
        let listening = listen(instance.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(listening));
        Ok(Arc::new(Self {
            instance,
            _listening: stop.drop_guard(),
        }))
    }

    /// Watches a directory that is held open.
    ///
    /// # Errors
    /// The user watches too much.
    pub fn watch(&self, directory: &OwnedFd) -> Result<Watch, ReadError> {
        let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
        let flags = inotify::WatchFlags::MODIFY
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::ONLYDIR;
        let mut watched = self.instance.watched();
        let number =
            inotify::add_watch(self.instance.inotify.get_ref(), path, flags).map_err(|errno| {
                ReadError::Io {
                    path: "the directory".to_owned(),
                    source: errno.into(),
                }
            })?;
        let id = watched.next;
        watched.next += 1;
        let changed = Arc::new(Notify::new());
        watched
            .by_number
            .entry(number)
            .or_default()
            .insert(id, changed.clone());
        Ok(Watch {
            instance: self.instance.clone(),
            number,
            id,
            changed,
        })
    }
}

impl Instance {
    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the kernel has to say and wakes who wants to know; a full queue wakes everybody.
    fn take(&self) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 4_096];
        let mut reader = inotify::Reader::new(self.inotify.get_ref(), &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let mut watched = self.watched();
            if event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW) {
                for wants in watched.by_number.values().flat_map(BTreeMap::values) {
                    wants.notify_one();
                }
            }
            for wants in watched
                .by_number
                .get(&event.wd())
                .into_iter()
                .flat_map(BTreeMap::values)
            {
                wants.notify_one();
            }
            if event.events().contains(inotify::ReadFlags::IGNORED) {
                // The directory is gone; nothing more will come of it.
                watched.by_number.remove(&event.wd());
            }
        }
    }
}

async fn listen(instance: Arc<Instance>) {
    while let Ok(mut ready) = instance.inotify.readable().await {
        match instance.take() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
            Err(error) => {
                tracing::warn!(%error, "changes in sandboxes are not seen any more");
                return;
            }
            Ok(()) => {}
        }
    }
}

impl Watch {
    /// Completes when something has changed since the last time.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = self.instance.watched();
        let Some(wanted) = watched.by_number.get_mut(&self.number) else {
            return;
        };
        wanted.remove(&self.id);
        if wanted.is_empty() {
            watched.by_number.remove(&self.number);
            // The kernel may have dropped it already, with its directory.
            let _ = inotify::remove_watch(self.instance.inotify.get_ref(), self.number);
        }
    }
}
