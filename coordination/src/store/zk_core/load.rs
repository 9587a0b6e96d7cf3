//! Reading records back: directories are listed, nodes are read with a window in flight, large values are put together.
//!
//! Invariant: a load sees every commit handed in before it and none handed in after. What it finds that no living
//! record refers to, and that an earlier term left, it removes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};

use super::{
    Answer, Ask, Body, Busy, Failure, Known, LoadError, Out, Record, Request, StoreCore,
    StoreOutput, ZkError,
};
use crate::store::path;
use crate::store::zk_ops::{Chunks, checksum, chunk_paths, chunk_term};

/// At most this many reads are in flight, so that the election's reads are not kept waiting behind them.
const READS_MAX: usize = 256;

/// One read of a load.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// The directories.
    Dirs,
    /// What is in a directory.
    Dir { dir: String },
    /// A record's node.
    Record { key: String },
    /// A chunk of its value.
    Chunk {
        key: String,
        at: usize,
        path: String,
    },
}

#[derive(Debug)]
pub(super) struct Load {
    pub(super) id: u64,
    prefix: String,
    /// What is still to be read.
    todo: VecDeque<Step>,
    in_flight: usize,
    records: BTreeMap<String, Record>,
    /// Large values, as far as they are here.
    parts: BTreeMap<String, (Chunks, Vec<Option<Bytes>>)>,
    /// Chunk nodes of earlier terms that were seen.
    old_chunks: BTreeSet<String>,
}

impl StoreCore {
    pub(super) fn start_load(&mut self, id: u64, prefix: String, out: &mut Out) {
        let first = match prefix.split_once('/') {
            None => Step::Dirs,
            Some((first, _)) => Step::Dir {
                dir: path::encode(first).0,
            },
        };
        self.busy = Busy::Loading(Load {
            id,
            prefix,
            todo: VecDeque::from([first]),
            in_flight: 0,
            records: BTreeMap::new(),
            parts: BTreeMap::new(),
            old_chunks: BTreeSet::new(),
        });
        self.read_on(out);
    }

    fn read_on(&mut self, out: &mut Out) {
        loop {
            let Busy::Loading(load) = &mut self.busy else {
                return;
            };
            if load.in_flight >= READS_MAX {
                return;
            }
            let Some(step) = load.todo.pop_front() else {
                break;
            };
            load.in_flight += 1;
            let children = |path| Request::Children {
                path,
                watch: false,
                sync: false,
            };
            let call = match &step {
                Step::Dirs => children(self.layout.records.clone()),
                Step::Dir { dir } => children(self.layout.dir(dir)),
                Step::Record { key } => Request::get(self.layout.record(key)),
                Step::Chunk { path, .. } => Request::get(path),
            };
            self.send(Ask::Load(step), call, out);
        }
        if matches!(&self.busy, Busy::Loading(Load { in_flight: 0, .. })) {
            self.finish_load(out);
        }
    }

    pub(super) fn on_loaded(&mut self, step: Step, result: Result<Answer, Failure>, out: &mut Out) {
        let Busy::Loading(load) = &mut self.busy else {
            return;
        };
        load.in_flight -= 1;
        match result {
            Ok(answer) => {
                if let Err(err) = self.on_step(step, answer, out) {
                    return self.fail_load(err, out);
                }
            }
            Err(Failure::Request(ZkError::ConnectionLoss)) => load.todo.push_front(step),
            Err(Failure::Request(ZkError::NoNode)) => {
                if let Step::Chunk { key, path, .. } = step {
                    let words = format!("a part of its value is missing ({path})");
                    return self.fail_load(LoadError::Corrupt { key, words }, out);
                }
                // A directory or a record that is not there holds nothing.
            }
            Err(Failure::Request(ZkError::SessionExpired)) => return self.finish(out),
            Err(failure) => {
                return self.fail_load(LoadError::Unavailable(failure.to_string()), out);
            }
        }
        self.read_on(out);
    }

    fn on_step(&mut self, step: Step, answer: Answer, out: &mut Out) -> Result<(), LoadError> {
        let unasked = || LoadError::Unavailable("ZooKeeper answered what was not asked".into());
        let Busy::Loading(load) = &mut self.busy else {
            return Ok(());
        };
        match (step, answer) {
            (Step::Dirs, Answer::Children { names, .. }) => {
                if load.prefix.is_empty() {
                    self.index.set_all_dirs();
                }
                for dir in names {
                    // The prefix ends within the first part, so such keys lie in directories that begin with it.
                    match path::decode(&dir, "%") {
                        Some(first) if first.starts_with(load.prefix.as_str()) => {
                            load.todo.push_back(Step::Dir { dir });
                        }
                        Some(_) => {}
                        None => out.push(StoreOutput::Note {
                            text: format!("`{dir}` in the store is not ours"),
                        }),
                    }
                }
            }
            (Step::Dir { dir }, Answer::Children { names, .. }) => self.on_dir(&dir, names, out),
            (Step::Record { key }, Answer::Data { data, stat }) => {
                let corrupt = || LoadError::Corrupt {
                    key: key.clone(),
                    words: "it was not written by this program".into(),
                };
                let body = Body::decode(&data).ok_or_else(corrupt)?;
                let (value, chunks) = match body {
                    Body::Inline(value) => (value, None),
                    Body::Chunks(chunks) => (Bytes::new(), Some(chunks)),
                };
                let known = Known {
                    version: stat.version,
                    chunks,
                };
                if let Some(chunks) = chunks {
                    let node = self.layout.record(&key);
                    let paths = chunk_paths(&node, &chunks);
                    load.parts
                        .insert(key.clone(), (chunks, vec![None; paths.len()]));
                    for (at, path) in paths.into_iter().enumerate() {
                        load.old_chunks.remove(&path);
                        load.todo.push_back(Step::Chunk {
                            key: key.clone(),
                            at,
                            path,
                        });
                    }
                }
                let record = Record {
                    key: key.clone(),
                    value,
                    version: known.record_version(),
                };
                load.records.insert(key.clone(), record);
                self.index.set(&key, Some(known));
            }
            (Step::Chunk { key, at, .. }, Answer::Data { data, .. }) => {
                if let Some(part) = load
                    .parts
                    .get_mut(&key)
                    .and_then(|(_, parts)| parts.get_mut(at))
                {
                    *part = Some(data);
                }
            }
            _ => return Err(unasked()),
        }
        Ok(())
    }

    fn on_dir(&mut self, dir: &str, names: Vec<String>, out: &mut Out) {
        let Busy::Loading(load) = &mut self.busy else {
            return;
        };
        let mut complete = true;
        for name in names {
            if let Some((term, _)) = chunk_term(&name) {
                if term < self.fence.counter {
                    load.old_chunks
                        .insert(format!("{}/{name}", self.layout.dir(dir)));
                }
                continue;
            }
            match path::decode(dir, &name) {
                Some(key) if key.starts_with(load.prefix.as_str()) => {
                    load.todo.push_back(Step::Record { key });
                }
                Some(_) => complete = false,
                None => out.push(StoreOutput::Note {
                    text: format!("`{dir}/{name}` in the store is not ours"),
                }),
            }
        }
        if !complete {
            // The records that were not asked for may refer to any of them.
            let dir = format!("{}/", self.layout.dir(dir));
            load.old_chunks.retain(|path| !path.starts_with(&dir));
        }
        self.index.set_dir(dir, complete);
    }

    fn finish_load(&mut self, out: &mut Out) {
        let Busy::Loading(mut load) = std::mem::replace(&mut self.busy, Busy::Idle) else {
            return;
        };
        for (key, (chunks, parts)) in load.parts {
            let mut value = BytesMut::with_capacity(usize::try_from(chunks.bytes).unwrap_or(0));
            for part in parts.into_iter().flatten() {
                value.extend_from_slice(&part);
            }
            if value.len() as u64 != chunks.bytes || checksum(&value) != chunks.sum {
                let words = "the parts of its value do not belong together".to_owned();
                let result = Err(LoadError::Corrupt { key, words });
                return out.push(StoreOutput::Loaded {
                    id: load.id,
                    result,
                });
            }
            if let Some(record) = load.records.get_mut(&key) {
                record.value = value.freeze();
            }
        }
        for path in load.old_chunks {
            self.send(Ask::Garbage, Request::delete(path), out);
        }
        let records = load.records.into_values().collect();
        out.push(StoreOutput::Loaded {
            id: load.id,
            result: Ok(records),
        });
    }

    fn fail_load(&mut self, err: LoadError, out: &mut Out) {
        if let Busy::Loading(load) = std::mem::replace(&mut self.busy, Busy::Idle) {
            self.pending.retain(|_, ask| !matches!(ask, Ask::Load(_)));
            out.push(StoreOutput::Loaded {
                id: load.id,
                result: Err(err),
            });
        }
    }
}
