//! What becomes of commits in flight: they land in their order, or it is found out how many did, and the others
//! wait again.
//!
//! Invariant: after a failure nothing is sent until every answer in flight is in and the epoch node has told how far
//! the term has come.

use super::{Busy, Flight, Job, Origin, Out, Outcome, StoreCore, StoreOutput, TRIES_MAX};
use crate::store::{CommitError, path};
use crate::zk::{Answer, Failure, Request, ZkError};

use super::Ask;

impl StoreCore {
    pub(super) fn on_landed(
        &mut self,
        request: u64,
        result: Result<Answer, Failure>,
        out: &mut Out,
    ) {
        let Some(flight) = self
            .flights
            .iter_mut()
            .find(|flight| flight.request == request)
        else {
            return;
        };
        flight.outcome = Some(match result {
            Ok(_) => Outcome::Done,
            Err(Failure::Op { index, error }) => Outcome::Refused {
                origin: flight.origins.get(index).cloned(),
                error,
            },
            Err(failure) if failure.in_doubt() => Outcome::Lost,
            Err(failure) => Outcome::Refused {
                origin: None,
                error: failure.error().clone(),
            },
        });
        while matches!(
            self.flights.front(),
            Some(Flight {
                outcome: Some(Outcome::Done),
                ..
            })
        ) {
            self.land_first(out);
        }
        let failed = |f: &Flight| !matches!(f.outcome, None | Some(Outcome::Done));
        if self.flights.iter().any(failed) {
            if matches!(self.busy, Busy::Idle) {
                self.busy = Busy::Resolving { asked: false };
            }
            self.resolve(out);
        }
    }

    /// The first commit in flight happened.
    fn land_first(&mut self, out: &mut Out) {
        let Some(flight) = self.flights.pop_front() else {
            return;
        };
        self.flight_bytes -= flight.bytes;
        for op in &flight.txn.ops {
            self.index.tidy(op.key());
        }
        for path in flight.garbage {
            self.send(Ask::Garbage, Request::delete(path), out);
        }
        out.push(StoreOutput::Committed {
            id: flight.id,
            result: Ok(()),
        });
    }

    /// Once everything in flight was answered, finds out what happened.
    fn resolve(&mut self, out: &mut Out) {
        let Busy::Resolving {
            asked: asked @ false,
        } = &mut self.busy
        else {
            return;
        };
        if self.flights.iter().any(|flight| flight.outcome.is_none()) {
            return;
        }
        let gone = Outcome::Refused {
            origin: Some(Origin::Contender),
            error: ZkError::NoNode,
        };
        if self
            .flights
            .iter()
            .any(|flight| flight.outcome.as_ref() == Some(&gone))
        {
            return self.fenced(out);
        }
        *asked = true;
        self.ask_sequence(out);
    }

    fn ask_sequence(&mut self, out: &mut Out) {
        // The sync makes the answer final: a commit sent before the connection broke comes before it, or never.
        let call = Request::Get {
            path: self.layout.epoch.clone(),
            sync: true,
        };
        self.send(Ask::Resolve, call, out);
    }

    pub(super) fn on_resolved(&mut self, result: Result<Answer, Failure>, out: &mut Out) {
        let (data, version) = match result {
            Ok(Answer::Data { data, stat }) => (data, stat.version),
            Err(Failure::Request(ZkError::NoNode | ZkError::NoAuth)) => return self.fenced(out),
            Err(Failure::Request(ZkError::SessionExpired)) => return self.finish(out),
            Ok(_) | Err(_) => return self.ask_sequence(out),
        };
        if data != self.fence.counter.to_string() {
            return self.fenced(out);
        }
        while self
            .flights
            .front()
            .is_some_and(|f| version.wrapping_sub(f.sequence) >= 1)
        {
            self.land_first(out);
        }
        self.sequence = version;
        self.busy = Busy::Idle;
        if self.ending {
            // What is left did not happen, and never will.
            for flight in self.flights.drain(..) {
                let result = Err(CommitError::Fenced);
                out.push(StoreOutput::Committed {
                    id: flight.id,
                    result,
                });
            }
            return;
        }
        // What did not happen is undone here, last first, and waits again in its old order.
        while let Some(flight) = self.flights.pop_back() {
            self.flight_bytes -= flight.bytes;
            self.call_back(flight, out);
        }
    }

    fn call_back(&mut self, mut flight: Flight, out: &mut Out) {
        for (key, before) in flight.undo {
            self.index.restore(&key, before);
        }
        for origin in &flight.origins {
            if let Origin::Dir(dir) = origin {
                self.index.unset_dir(dir);
            }
        }
        let mut conflict = None;
        if let Some(Outcome::Refused { origin, error }) = flight.outcome {
            match origin {
                Some(Origin::Dir(dir)) if error == ZkError::NodeExists => {
                    self.index.set_dir(&dir, false);
                    flight.tries += 1;
                }
                Some(Origin::Op(index)) => {
                    if let Some(op) = flight.txn.ops.get(index) {
                        let (dir, _) = path::encode(op.key());
                        self.index.forget(op.key());
                        if error == ZkError::NoNode {
                            self.index.forget_dir(&dir);
                        }
                    }
                    flight.tries += 1;
                    conflict = Some(index);
                }
                // Out of order because one before failed: nothing of its own is wrong.
                Some(Origin::Sequence) => {}
                Some(Origin::Contender | Origin::Dir(_)) | None => flight.tries += 1,
            }
        }
        let Flight { id, txn, tries, .. } = flight;
        if tries <= TRIES_MAX {
            return self.jobs.push_front(Job::Commit { id, txn, tries });
        }
        let result = match conflict {
            Some(index) => Err(CommitError::Conflict { index }),
            None => Err(CommitError::Unavailable),
        };
        let text = format!("a commit was refused {tries} times; it is given up");
        out.push(StoreOutput::Note { text });
        out.push(StoreOutput::Committed { id, result });
    }
}
