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

/// Directories that are watched. The instance is opened with the first of them: where the user has none left, following
/// a file is refused, and the agent works all the same. Dropping it ends the reading of the instance.
#[derive(Debug, Default)]
pub(crate) struct Watches(Mutex<Option<Opened>>);

#[derive(Debug)]
struct Opened {
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
    /// Watches a directory that is held open.
    ///
    /// # Errors
    /// The user watches too much, or has too many instances (`fs.inotify.max_user_instances`).
    pub fn watch(&self, directory: &OwnedFd) -> Result<Watch, ReadError> {
        let instance = self.instance().map_err(|source| ReadError::Io {
            path: "an inotify instance (sysctl fs.inotify.max_user_instances)".to_owned(),
            source,
        })?;
        let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
        let flags = inotify::WatchFlags::MODIFY
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::ONLYDIR;
        let mut watched = instance.watched();
        let number =
            inotify::add_watch(instance.inotify.get_ref(), path, flags).map_err(|errno| {
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
        drop(watched);
        Ok(Watch {
            instance,
            number,
            id,
            changed,
        })
    }
}

impl Watches {
    /// The one instance, opened and read in the background (within a tokio runtime) if it is not yet.
    fn instance(&self) -> io::Result<Arc<Instance>> {
        let mut opened = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = &*opened {
            return Ok(opened.instance.clone());
        }
        let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
        let instance = Arc::new(Instance {
            inotify: sys::watch(inotify::init(flags)?)?,
            watched: Mutex::default(),
        });
        let stop = CancellationToken::new();
        let listening = listen(instance.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(listening));
        *opened = Some(Opened {
            instance: instance.clone(),
            _listening: stop.drop_guard(),
        });
        Ok(instance)
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
