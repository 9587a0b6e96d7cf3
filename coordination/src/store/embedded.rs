//! The store in one local file, for a cluster without servers.
//!
//! One thread owns the file (redb). Commits that wait at the same time share one flush to the disk, which is nearly
//! all that a commit costs. The file is opened by the holder of the directory's lock only, and each opening begins a
//! new term, so an earlier term cannot write.
//!
//! Invariant: a commit is answered after it was flushed; after `kill -9` or a power cut it is there.

use std::collections::VecDeque;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use mezzo_model::Epoch;
use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition};
use tokio::sync::{mpsc, oneshot};

use super::{Backend, CommitError, LoadError, Op, Record, Store, StoreFuture, Txn};

const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");
const RECORDS: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("records");
/// The format of the file's tables.
const FORMAT: u32 = 1;
const FILE: &str = "store.redb";
/// At most this many commits share a flush, and no more are taken once they have this many bytes.
const GROUP_MAX: usize = 1024;
const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;
/// At most this many commits and loads wait; more are refused.
const JOBS_MAX: usize = 65_536;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// It was written by a newer version, or by something else. Waiting does not help.
    #[error("{0}")]
    Refused(String),
    /// The disk, or another process that has it open.
    #[error("cannot use {path}: {source}")]
    Storage {
        path: String,
        source: Box<redb::Error>,
    },
}

#[derive(Debug)]
enum Job {
    Commit {
        txn: Txn,
        done: oneshot::Sender<Result<(), CommitError>>,
    },
    Load {
        prefix: String,
        done: oneshot::Sender<Result<Vec<Record>, LoadError>>,
    },
    Close {
        done: oneshot::Sender<()>,
    },
}

/// A term's store and how it ends.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) epoch: Epoch,
    pub(crate) store: Store,
    jobs: mpsc::Sender<Job>,
}

impl Opened {
    /// Ends the term: commits handed in before are carried out, later ones are refused, the file is closed.
    pub(crate) async fn close(self) {
        let (done, closed) = oneshot::channel();
        if self.jobs.send(Job::Close { done }).await.is_ok() {
            // An error means that the thread has ended, and with it the file is closed.
            let _ = closed.await;
        }
    }
}

/// Opens the file in a directory and begins a term. Blocks on the disk.
pub(crate) fn open(dir: &Path, new_cluster_id: &str) -> Result<Opened, OpenError> {
    let path = dir.join(FILE);
    let db = open_file(&path)?;
    let epoch = begin_term(&db, new_cluster_id).map_err(|err| match err {
        Begin::Refused(words) => OpenError::Refused(format!("{}: {words}", path.display())),
        Begin::Storage(source) => storage(&path, *source),
    })?;
    let (jobs, inbox) = mpsc::channel(JOBS_MAX);
    let keeper = Keeper {
        path: path.clone(),
        db: Some(db),
    };
    let spawned = std::thread::Builder::new()
        .name("mezzo-store".into())
        .spawn(move || keeper.run(inbox));
    spawned.map_err(|err| storage(&path, redb::Error::Io(err)))?;
    let store = Store::new(Arc::new(Embedded { jobs: jobs.clone() }));
    Ok(Opened { epoch, store, jobs })
}

fn storage(path: &Path, source: redb::Error) -> OpenError {
    OpenError::Storage {
        path: path.display().to_string(),
        source: Box::new(source),
    }
}

fn open_file(path: &Path) -> Result<Database, OpenError> {
    // What a cluster knows is for its owner alone: environments of tasks hold secrets.
    let made = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path);
    made.map_err(|err| storage(path, redb::Error::Io(err)))?;
    match Database::create(path) {
        Ok(db) => Ok(db),
        Err(redb::DatabaseError::UpgradeRequired(version)) => Err(OpenError::Refused(format!(
            "{}: the file has version {version} of its storage format, which this version does not read",
            path.display()
        ))),
        Err(err) => Err(storage(path, err.into())),
    }
}

enum Begin {
    Refused(String),
    Storage(Box<redb::Error>),
}

impl<E: Into<redb::Error>> From<E> for Begin {
    fn from(err: E) -> Self {
        Self::Storage(Box::new(err.into()))
    }
}

/// Checks the format, names the cluster if it is new, and raises the epoch's counter.
fn begin_term(db: &Database, new_cluster_id: &str) -> Result<Epoch, Begin> {
    let txn = db.begin_write()?;
    let epoch = {
        let mut meta = txn.open_table(META)?;
        let format = meta.get("format")?.map(|found| found.value().to_owned());
        match format.as_deref().map(str::parse::<u32>) {
            None => drop(meta.insert("format", FORMAT.to_string().as_str())?),
            Some(Ok(found)) if found <= FORMAT => {}
            Some(Ok(found)) => {
                return Err(Begin::Refused(format!(
                    "the state was written in format {found}; this version reads up to {FORMAT}: \
                     run the newer version here"
                )));
            }
            Some(Err(_)) => return Err(Begin::Refused("it holds no format number".into())),
        }
        let cluster_id = meta.get("cluster")?.map(|found| found.value().to_owned());
        let cluster_id = match cluster_id {
            Some(id) => id,
            None => {
                meta.insert("cluster", new_cluster_id)?;
                new_cluster_id.to_owned()
            }
        };
        let counter = meta.get("epoch")?.map(|found| found.value().to_owned());
        let counter = counter.as_deref().unwrap_or("0").parse::<u64>();
        let Some(counter) = counter.ok().and_then(|counter| counter.checked_add(1)) else {
            return Err(Begin::Refused("it holds no epoch counter".into()));
        };
        meta.insert("epoch", counter.to_string().as_str())?;
        txn.open_table(RECORDS)?;
        Epoch {
            cluster_id: cluster_id.into(),
            counter,
        }
    };
    txn.commit()?;
    Ok(epoch)
}

#[derive(Debug)]
struct Embedded {
    jobs: mpsc::Sender<Job>,
}

impl Backend for Embedded {
    fn load(&self, prefix: String) -> StoreFuture<Result<Vec<Record>, LoadError>> {
        let (done, wait) = oneshot::channel();
        let refused = match self.jobs.try_send(Job::Load { prefix, done }) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => LoadError::Fenced,
            Err(mpsc::error::TrySendError::Full(_)) => {
                LoadError::Unavailable(format!("{JOBS_MAX} commits are waiting already"))
            }
        };
        // A job that was not taken drops `done`, as does a thread that has ended.
        Box::pin(async move { wait.await.unwrap_or(Err(refused)) })
    }

    fn commit(&self, txn: Txn) -> StoreFuture<Result<(), CommitError>> {
        let (done, wait) = oneshot::channel();
        let refused = match self.jobs.try_send(Job::Commit { txn, done }) {
            Ok(()) => None,
            Err(mpsc::error::TrySendError::Closed(_)) => Some(CommitError::Fenced),
            Err(mpsc::error::TrySendError::Full(_)) => {
                let words = format!("{JOBS_MAX} commits are waiting already");
                Some(CommitError::TooLarge { words })
            }
        };
        Box::pin(async move {
            match refused {
                Some(err) => Err(err),
                // A job that is taken is answered, unless the thread died with it.
                None => wait.await.unwrap_or(Err(CommitError::Unavailable)),
            }
        })
    }
}

/// What the thread owns.
struct Keeper {
    path: PathBuf,
    /// `None` after the disk failed; opened again for the next job.
    db: Option<Database>,
}

type Waiting = (Txn, oneshot::Sender<Result<(), CommitError>>);

impl Keeper {
    /// Serves until closed; returns how many groups of commits it made.
    fn run(mut self, mut inbox: mpsc::Receiver<Job>) -> u64 {
        let mut groups = 0;
        let mut next = inbox.blocking_recv();
        while let Some(job) = next.take() {
            match job {
                Job::Commit { txn, done } => {
                    let mut bytes = txn_bytes(&txn);
                    let mut group = VecDeque::from([(txn, done)]);
                    while group.len() < GROUP_MAX && bytes < GROUP_BYTES_MAX {
                        match inbox.try_recv() {
                            Ok(Job::Commit { txn, done }) => {
                                bytes += txn_bytes(&txn);
                                group.push_back((txn, done));
                            }
                            Ok(other) => {
                                next = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.commit(group);
                    groups += 1;
                }
                // Who asked may have stopped waiting.
                Job::Load { prefix, done } => drop(done.send(self.load(&prefix))),
                Job::Close { done } => {
                    inbox.close();
                    self.db = None;
                    while let Some(job) = inbox.blocking_recv() {
                        refuse(job);
                    }
                    let _ = done.send(());
                    return groups;
                }
            }
            if next.is_none() {
                next = inbox.blocking_recv();
            }
        }
        groups
    }

    fn db(&mut self) -> Option<&Database> {
        if self.db.is_none() {
            match open_file(&self.path) {
                Ok(db) => self.db = Some(db),
                Err(err) => tracing::error!("{err}"),
            }
        }
        self.db.as_ref()
    }

    fn load(&mut self, prefix: &str) -> Result<Vec<Record>, LoadError> {
        let Some(db) = self.db() else {
            return Err(LoadError::Unavailable("the file cannot be opened".into()));
        };
        read(db, prefix).map_err(|err| LoadError::Unavailable(err.to_string()))
    }

    /// Commits a group with one flush. Each transaction of it happens or not by itself.
    fn commit(&mut self, group: VecDeque<Waiting>) {
        let (txns, waiting): (Vec<Txn>, Vec<_>) = group.into_iter().unzip();
        let results = match self.db() {
            Some(db) => write(db, txns),
            None => Err(redb::Error::Io(std::io::Error::other(
                "the file cannot be opened",
            ))),
        };
        match results {
            Ok(results) => {
                for (done, result) in waiting.into_iter().zip(results) {
                    let _ = done.send(result);
                }
            }
            Err(err) => {
                tracing::error!("cannot write {}: {err}", self.path.display());
                // The file refuses everything after a failed write; opening it again recovers the last good state.
                self.db = None;
                for done in waiting {
                    let _ = done.send(Err(CommitError::Unavailable));
                }
            }
        }
    }
}

fn refuse(job: Job) {
    // Who asked may have stopped waiting.
    match job {
        Job::Commit { done, .. } => drop(done.send(Err(CommitError::Fenced))),
        Job::Load { done, .. } => {
            drop(done.send(Err(LoadError::Fenced)));
        }
        Job::Close { done } => drop(done.send(())),
    }
}

fn txn_bytes(txn: &Txn) -> usize {
    let bytes = |op: &Op| match op {
        Op::Put { key, value, .. } => key.len() + value.len(),
        Op::Delete { key, .. } | Op::Check { key, .. } => key.len(),
    };
    txn.ops.iter().map(bytes).sum()
}

fn read(db: &Database, prefix: &str) -> Result<Vec<Record>, redb::Error> {
    let txn = db.begin_read()?;
    let table = txn.open_table(RECORDS)?;
    let mut records = Vec::new();
    for entry in table.range(prefix..)? {
        let (key, value) = entry?;
        if !key.value().starts_with(prefix) {
            break;
        }
        let (version, bytes) = value.value();
        let value = Bytes::copy_from_slice(bytes);
        records.push(Record {
            key: key.value().to_owned(),
            value,
            version,
        });
    }
    Ok(records)
}

fn write(db: &Database, txns: Vec<Txn>) -> Result<Vec<Result<(), CommitError>>, redb::Error> {
    let write = db.begin_write()?;
    let mut results = Vec::with_capacity(txns.len());
    let mut changed = false;
    {
        let mut table = write.open_table(RECORDS)?;
        for txn in txns {
            let conflict = conflict(&table, &txn)?;
            results.push(match conflict {
                Some(index) => Err(CommitError::Conflict { index }),
                None => {
                    changed |= apply(&mut table, txn)?;
                    Ok(())
                }
            });
        }
    }
    if changed {
        write.commit()?
    } else {
        write.abort()?
    }
    Ok(results)
}

fn conflict(
    table: &Table<'_, &str, (u64, &[u8])>,
    txn: &Txn,
) -> Result<Option<usize>, redb::Error> {
    for (index, op) in txn.ops.iter().enumerate() {
        let version = table.get(op.key())?.map(|found| found.value().0);
        if !op.expect().holds(version) {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

fn apply(table: &mut Table<'_, &str, (u64, &[u8])>, txn: Txn) -> Result<bool, redb::Error> {
    let mut changed = false;
    for op in txn.ops {
        match op {
            Op::Put { key, value, .. } => {
                let version = table.get(key.as_str())?.map_or(0, |found| found.value().0);
                table.insert(key.as_str(), (version + 1, value.as_ref()))?;
                changed = true;
            }
            Op::Delete { key, .. } => changed |= table.remove(key.as_str())?.is_some(),
            Op::Check { .. } => {}
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Expect;

    #[test]
    fn commits_that_wait_together_share_a_flush_and_succeed_or_fail_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let db = open_file(&path).unwrap();
        assert!(begin_term(&db, "cluster").is_ok());
        let (jobs, inbox) = mpsc::channel(JOBS_MAX);
        let store = Embedded { jobs };
        let commits: Vec<_> = (0..500)
            .map(|n| {
                let expect = if n % 100 == 50 {
                    Expect::Absent
                } else {
                    Expect::Any
                };
                store.commit(Txn::new().put("a/b", n.to_string(), expect))
            })
            .collect();
        let load = store.load(String::new());
        drop(store);
        let keeper = Keeper {
            path: path.clone(),
            db: Some(db),
        };
        assert_eq!(keeper.run(inbox), 1);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        for (n, commit) in commits.into_iter().enumerate() {
            let conflict = Err(CommitError::Conflict { index: 0 });
            let expected = if n % 100 == 50 { conflict } else { Ok(()) };
            assert_eq!(runtime.block_on(commit), expected, "{n}");
        }
        let records = runtime.block_on(load).unwrap();
        assert_eq!(
            (records[0].value.as_ref(), records[0].version),
            (b"499".as_slice(), 495)
        );
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(path).unwrap());
        assert_eq!(mode & 0o777, 0o600);
    }
}
