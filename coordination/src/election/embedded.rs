//! Election without a server: whoever holds the lock of a directory leads.
//!
//! A standby waits in `flock` on a thread of its own, so the kernel tells it of the holder's death at once, `kill -9`
//! included. The leader's description stands in a file beside the lock; whoever wants to know the leader watches
//! it through inotify, and the leader's process through a pidfd.
//!
//! Invariant: the lock alone decides who leads; the description decides nothing. Invariant: nothing here polls.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::fs::{FlockOperation, flock, inotify};
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Candidate, INFO_MAX_BYTES, Leadership, Term};
use crate::detector::{Leader, info};
use crate::readiness::Watched;
use crate::store::embedded::{self, OpenError, Opened};

const LOCK: &str = "leader.lock";
const DESCRIPTION: &str = "leader.json";
const REOPEN_AFTER: Duration = Duration::from_secs(1);

/// What the leader writes beside the lock.
#[derive(Serialize, Deserialize)]
struct Description {
    /// The leader's process, and when it began in clock ticks since boot: the two together are never used twice.
    pid: i32,
    started: u64,
    /// `host:port`, for people; the rest is read by programs.
    address: String,
    /// What the contender says about itself: JSON as a text, byte for byte.
    info: String,
}

/// Joins the election of a directory; the task ends when the contender has resigned or was dropped.
pub(crate) fn contend(
    dir: &Path,
    candidate: Candidate,
    resigned: oneshot::Receiver<oneshot::Sender<()>>,
) -> io::Result<watch::Receiver<Leadership>> {
    std::fs::create_dir_all(dir)?;
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join(LOCK))?;
    let (leader, watching) = detect(dir)?;
    let (tell, leadership) = watch::channel(Leadership::Standby {
        leader: leader.borrow().clone(),
    });
    let contest = Contest {
        dir: Arc::from(dir),
        info: candidate.info,
        tell,
    };
    let locked = wait_for_lock(lock)?;
    tokio::spawn(contest.run(locked, leader, watching, resigned));
    Ok(leadership)
}

/// Waits for the lock on a thread: the kernel wakes it when the holder lets go or dies. When nobody listens any more it
/// lets go again at once.
fn wait_for_lock(lock: File) -> io::Result<oneshot::Receiver<io::Result<File>>> {
    let (tell, locked) = oneshot::channel();
    std::thread::Builder::new()
        .name("mezzo-election".into())
        .spawn(move || {
            let got = loop {
                match flock(&lock, FlockOperation::LockExclusive) {
                    Err(rustix::io::Errno::INTR) => {}
                    other => break other,
                }
            };
            // A failed send drops the file, and with it the lock.
            let _ = tell.send(got.map(|()| lock).map_err(io::Error::from));
        })?;
    Ok(locked)
}

struct Contest {
    dir: Arc<Path>,
    info: Bytes,
    tell: watch::Sender<Leadership>,
}

impl Contest {
    async fn run(
        self,
        locked: oneshot::Receiver<io::Result<File>>,
        mut leader: watch::Receiver<Option<Leader>>,
        watching: DropGuard,
        mut resigned: oneshot::Receiver<oneshot::Sender<()>>,
    ) {
        tokio::pin!(locked);
        let lock = loop {
            tokio::select! {
                done = &mut resigned => return finish(done),
                got = &mut locked => match got {
                    Ok(Ok(lock)) => break lock,
                    Ok(Err(err)) => {
                        let words = format!("cannot lock {}: {err}", self.dir.display());
                        return self.stay_out(words, resigned).await;
                    }
                    Err(_) => {
                        let words = "the thread that waits for the lock ended".into();
                        return self.stay_out(words, resigned).await;
                    }
                },
                Ok(()) = leader.changed() => {
                    let leader = leader.borrow_and_update().clone();
                    self.tell.send_replace(Leadership::Standby { leader });
                }
            }
        };
        drop(watching);
        let opened = tokio::select! {
            done = &mut resigned => return finish(done),
            opened = self.open() => opened,
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(words) => {
                drop(lock);
                return self.stay_out(words, resigned).await;
            }
        };
        if let Err(err) = describe(&self.dir, &self.info) {
            // The cluster is led all the same; those who watch the file will not find the leader.
            tracing::error!(
                "cannot write {DESCRIPTION} in {}: {err}",
                self.dir.display()
            );
        }
        let term = Term::new(opened.epoch.clone(), opened.store.clone());
        self.tell.send_replace(Leadership::Leading { term });
        let done = resigned.await;
        self.tell.send_replace(Leadership::Standby { leader: None });
        opened.close().await;
        // A file that is left behind names a process that has let go; the next leader replaces it.
        let _ = std::fs::remove_file(self.dir.join(DESCRIPTION));
        drop(lock);
        finish(done);
    }

    /// Opens the store, for as long as it takes: a full disk is no reason to give up.
    async fn open(&self) -> Result<Opened, String> {
        loop {
            let dir = self.dir.clone();
            let cluster_id = uuid::Uuid::new_v4().to_string();
            let opening = tokio::task::spawn_blocking(move || embedded::open(&dir, &cluster_id));
            match opening.await {
                Ok(Ok(opened)) => return Ok(opened),
                Ok(Err(OpenError::Refused(words))) => return Err(words),
                Ok(Err(err)) => tracing::error!("{err}; trying again"),
                Err(_) => return Err("the thread that opens the store ended".into()),
            }
            tokio::time::sleep(REOPEN_AFTER).await;
        }
    }

    async fn stay_out(self, words: String, resigned: oneshot::Receiver<oneshot::Sender<()>>) {
        tracing::error!("{words}");
        self.tell.send_replace(Leadership::Refused { words });
        finish(resigned.await);
    }
}

fn finish(done: Result<oneshot::Sender<()>, oneshot::error::RecvError>) {
    if let Ok(done) = done {
        // Whoever resigned may have stopped waiting.
        let _ = done.send(());
    }
}

/// Writes the leader's description, whole or not at all.
fn describe(dir: &Path, info: &[u8]) -> io::Result<()> {
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let description = Description {
        pid,
        started: started(pid).unwrap_or(0),
        address: info::address(info).map_err(io::Error::other)?,
        info: String::from_utf8(info.to_vec()).map_err(io::Error::other)?,
    };
    // Only the holder of the lock writes here, so one name will do.
    let draft = dir.join(format!("{DESCRIPTION}.draft"));
    std::fs::write(&draft, serde_json::to_vec(&description)?)?;
    std::fs::rename(&draft, dir.join(DESCRIPTION))
}

/// When a process began, in clock ticks since boot (field 22 of `/proc/<pid>/stat`).
fn started(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; the fields after it are counted from its end.
    stat.rsplit_once(')')?
        .1
        .split_ascii_whitespace()
        .nth(19)?
        .parse()
        .ok()
}

/// Watches who leads in a directory until the guard is dropped.
pub(crate) fn detect(dir: &Path) -> io::Result<(watch::Receiver<Option<Leader>>, DropGuard)> {
    std::fs::create_dir_all(dir)?;
    let changes = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
    let wanted = inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::DELETE;
    inotify::add_watch(&changes, dir, wanted)?;
    let changes = Watched::new(changes)?;
    let (found, process) = look(dir);
    let (tell, leader) = watch::channel(found);
    let stop = CancellationToken::new();
    tokio::spawn(follow(dir.to_owned(), changes, process, tell, stop.clone()));
    Ok((leader, stop.drop_guard()))
}

async fn follow(
    dir: PathBuf,
    changes: Watched,
    mut process: Option<Watched>,
    tell: watch::Sender<Option<Leader>>,
    stop: CancellationToken,
) {
    loop {
        let found;
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.read(drain) => {
                if !changed {
                    return;
                }
                (found, process) = look(&dir);
            }
            () = death(process.as_ref()) => (found, process) = (None, None),
        }
        tell.send_if_modified(|before| {
            let changed = *before != found;
            *before = found;
            changed
        });
    }
}

/// Reads away what inotify has to say; false if it was nothing.
fn drain(changes: &OwnedFd) -> bool {
    let mut buffer = [0; 4096];
    let mut any = false;
    while matches!(rustix::io::read(changes, &mut buffer), Ok(bytes) if bytes > 0) {
        any = true;
    }
    any
}

async fn death(process: Option<&Watched>) {
    let ended = match process {
        Some(process) => process.readable().await,
        None => false,
    };
    if !ended {
        std::future::pending().await
    }
}

/// Who leads by the description, and a handle on its process. A description of a process that is gone counts as none.
fn look(dir: &Path) -> (Option<Leader>, Option<Watched>) {
    let path = dir.join(DESCRIPTION);
    let text = match std::fs::metadata(&path) {
        Ok(meta) if meta.len() <= 2 * INFO_MAX_BYTES as u64 => {
            std::fs::read(&path).unwrap_or_default()
        }
        _ => return (None, None),
    };
    let found = serde_json::from_slice::<Description>(&text).map_err(info::InfoError::from);
    let found = found.and_then(|d| info::address(d.info.as_bytes()).map(|address| (d, address)));
    let (description, address) = match found {
        Ok(found) => found,
        Err(err) => {
            tracing::warn!("{} cannot be understood: {err}", path.display());
            return (None, None);
        }
    };
    let leader = Leader {
        address,
        info: Bytes::from(description.info),
    };
    let pid = rustix::process::Pid::from_raw(description.pid);
    let process = pid.and_then(|pid| {
        rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::NONBLOCK).ok()
    });
    // The order matters: the handle is on whoever has the number now, and only then is it asked who that is.
    let same = started(description.pid) == Some(description.started);
    match process {
        Some(process) if same => (Some(leader), Watched::new(process).ok()),
        _ => (None, None),
    }
}
