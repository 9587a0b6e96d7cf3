//! A store that lives as long as the process: for tests and for simulated clusters.
//!
//! It fences and orders as the lasting ones do; what it does not do is outlive a crash.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use mezzo_model::Epoch;

use super::{Backend, CommitError, LoadError, Op, Record, Store, StoreFuture, Txn};
use crate::election::Term;

/// Keys with values and versions, changed by whole transactions. Pure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    records: BTreeMap<String, (Bytes, u64)>,
}

impl Table {
    /// All records whose key starts with a text, in the order of their keys.
    pub fn load(&self, prefix: &str) -> Vec<Record> {
        let from = self.records.range(prefix.to_owned()..);
        from.take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, (value, version))| Record {
                key: key.clone(),
                value: value.clone(),
                version: *version,
            })
            .collect()
    }

    /// Applies a transaction, whole or not at all.
    ///
    /// # Errors
    /// `Conflict` with the first operation whose expectation does not hold.
    pub fn apply(&mut self, txn: Txn) -> Result<(), CommitError> {
        let version = |key: &str| self.records.get(key).map(|(_, version)| *version);
        let failed = txn
            .ops
            .iter()
            .position(|op| !op.expect().holds(version(op.key())));
        if let Some(index) = failed {
            return Err(CommitError::Conflict { index });
        }
        for op in txn.ops {
            match op {
                Op::Put { key, value, .. } => {
                    let version = self.records.get(&key).map_or(1, |(_, version)| version + 1);
                    self.records.insert(key, (value, version));
                }
                Op::Delete { key, .. } => drop(self.records.remove(&key)),
                Op::Check { .. } => {}
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct State {
    cluster_id: Arc<str>,
    counter: u64,
    table: Table,
}

/// A cluster's state in memory, shared by all its terms.
#[derive(Clone, Debug)]
pub struct Memory {
    state: Arc<Mutex<State>>,
}

impl Memory {
    /// The empty state of a new cluster.
    pub fn new(cluster_id: &str) -> Self {
        let state = State {
            cluster_id: cluster_id.into(),
            counter: 0,
            table: Table::default(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Begins the next term; the store of the one before refuses from now on.
    pub fn begin_term(&self) -> Term {
        let mut state = lock(&self.state);
        state.counter += 1;
        let epoch = Epoch {
            cluster_id: state.cluster_id.clone(),
            counter: state.counter,
        };
        let fenced = Fenced {
            state: self.state.clone(),
            counter: state.counter,
        };
        Term::new(epoch, Store::new(Arc::new(fenced)))
    }

    /// Ends the current term without beginning another.
    pub fn end_term(&self) {
        lock(&self.state).counter += 1;
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Every transaction is applied whole, so a panicking holder leaves nothing half done.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The store of one term.
#[derive(Debug)]
struct Fenced {
    state: Arc<Mutex<State>>,
    counter: u64,
}

impl Backend for Fenced {
    fn load(&self, prefix: String) -> StoreFuture<Result<Vec<Record>, LoadError>> {
        let state = lock(&self.state);
        let fenced = state.counter != self.counter;
        let result = if fenced {
            Err(LoadError::Fenced)
        } else {
            Ok(state.table.load(&prefix))
        };
        Box::pin(std::future::ready(result))
    }

    fn commit(&self, txn: Txn) -> StoreFuture<Result<(), CommitError>> {
        let mut state = lock(&self.state);
        let result = if state.counter == self.counter {
            state.table.apply(txn)
        } else {
            Err(CommitError::Fenced)
        };
        Box::pin(std::future::ready(result))
    }
}
