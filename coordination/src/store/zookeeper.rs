//! The shell of the store on ZooKeeper: one task that owns the core and carries its requests to the term's session.
//!
//! Invariant: it decides nothing. When the term ends it lets what is in flight land, and lets go of the session.

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use zookeeper_client::Client;

use super::zk_core::{StoreCore, StoreInput, StoreOutput};
use super::zk_ops::{Fence, Layout};
use super::{Backend, CommitError, LoadError, Record, Store, StoreFuture, Txn};
use crate::zk::client::{self, Reply};

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
}

/// The door to the task. The core bounds how many jobs wait, so the channel needs no bound of its own.
#[derive(Debug)]
struct ZkStore {
    jobs: mpsc::UnboundedSender<Job>,
}

impl Backend for ZkStore {
    fn load(&self, prefix: String) -> StoreFuture<Result<Vec<Record>, LoadError>> {
        let (done, wait) = oneshot::channel();
        // A channel that is closed drops `done`, which `wait` then tells.
        let _ = self.jobs.send(Job::Load { prefix, done });
        Box::pin(async move { wait.await.unwrap_or(Err(LoadError::Fenced)) })
    }

    fn commit(&self, txn: Txn) -> StoreFuture<Result<(), CommitError>> {
        let (done, wait) = oneshot::channel();
        match self.jobs.send(Job::Commit { txn, done }) {
            // A job that is taken is always answered, unless the runtime is shut down under the task.
            Ok(()) => Box::pin(async move { wait.await.unwrap_or(Err(CommitError::Unavailable)) }),
            Err(_) => Box::pin(std::future::ready(Err(CommitError::Fenced))),
        }
    }
}

/// Starts the store of a term. It lets go of the session when `over` is cancelled.
pub(crate) fn start(
    client: Client,
    restricted: bool,
    path: &str,
    fence: Fence,
    over: CancellationToken,
) -> Store {
    let (jobs, inbox) = mpsc::unbounded_channel();
    let task = Task {
        core: StoreCore::new(Layout::new(path), fence),
        client,
        restricted,
        replies: FuturesUnordered::new(),
        commits: BTreeMap::new(),
        loads: BTreeMap::new(),
        ids: 0,
    };
    tokio::spawn(task.run(inbox, over));
    Store::new(Arc::new(ZkStore { jobs }))
}

struct Task {
    core: StoreCore,
    client: Client,
    restricted: bool,
    replies: FuturesUnordered<BoxFuture<'static, (u64, Reply)>>,
    commits: BTreeMap<u64, oneshot::Sender<Result<(), CommitError>>>,
    loads: BTreeMap<u64, oneshot::Sender<Result<Vec<Record>, LoadError>>>,
    ids: u64,
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Job>, over: CancellationToken) {
        let mut ending = false;
        while !self.core.is_over() {
            tokio::select! {
                biased;
                () = over.cancelled(), if !ending => {
                    ending = true;
                    self.handle(StoreInput::Ending);
                }
                Some((request, reply)) = self.replies.next() => {
                    self.handle(StoreInput::Answered { request, result: reply.result });
                }
                job = inbox.recv() => match job {
                    Some(job) => self.take(job),
                    // Every handle is gone; what was handed in is still carried out.
                    None if self.replies.is_empty() => return,
                    None => self.drain().await,
                },
            }
        }
        // Whoever comes from now on is told at the door; these came before it closed.
        inbox.close();
        while let Some(job) = inbox.recv().await {
            self.take(job);
        }
    }

    async fn drain(&mut self) {
        while let Some((request, reply)) = self.replies.next().await {
            self.handle(StoreInput::Answered {
                request,
                result: reply.result,
            });
        }
    }

    fn take(&mut self, job: Job) {
        self.ids += 1;
        let id = self.ids;
        match job {
            Job::Commit { txn, done } => {
                self.commits.insert(id, done);
                self.handle(StoreInput::Commit { id, txn });
            }
            Job::Load { prefix, done } => {
                self.loads.insert(id, done);
                self.handle(StoreInput::Load { id, prefix });
            }
        }
    }

    fn handle(&mut self, input: StoreInput) {
        let mut out = Vec::new();
        self.core.handle(input, &mut out);
        for output in out {
            match output {
                StoreOutput::Send { request, call } => {
                    let reply = client::send(&self.client, self.restricted, call);
                    self.replies
                        .push(Box::pin(async move { (request, reply.await) }));
                }
                // Who asked may have stopped waiting.
                StoreOutput::Committed { id, result } => {
                    let _ = self.commits.remove(&id).map(|done| done.send(result));
                }
                StoreOutput::Loaded { id, result } => {
                    let _ = self.loads.remove(&id).map(|done| done.send(result));
                }
                StoreOutput::Note { text } => tracing::warn!("{text}"),
            }
        }
    }
}
