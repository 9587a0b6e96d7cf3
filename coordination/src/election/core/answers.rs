//! What each answer means.

use std::sync::Arc;

use bytes::Bytes;
use mezzo_model::Epoch;

use super::{
    Change, Claim, Election, Grant, Kind, Leader, Millis, Open, Out, Output, Pending, Place,
    RETRY_AFTER, Session, Stage, queue,
};
use crate::detector::info;
use crate::store::zk_ops::{FORMAT, Fence};
use crate::zk::{Answer, Failure, Request, Stat, WriteOp, Written, ZkError};

impl Election {
    pub(super) fn on_answer(
        &mut self,
        now: Millis,
        request: u64,
        pending: Pending,
        result: Result<Answer, Failure>,
        out: &mut Out,
    ) {
        let sent = pending.sent;
        match (pending.kind, result) {
            // The end of the session is told apart from its requests; what they could not do is then moot.
            (Kind::Leave, _) => self.finish(out),
            (_, Err(failure)) if *failure.error() == ZkError::SessionExpired => {}
            (Kind::Prepare { step }, result) => self.on_prepared(now, step, result, out),
            // A connection that broke leaves it open; any other answer says that no more can be done about it.
            (Kind::Sweep { .. }, Err(Failure::Request(ZkError::ConnectionLoss))) => {}
            (Kind::Sweep { path }, _) => drop(self.stale.remove(&path)),
            (Kind::Create, Ok(Answer::Written(Written::Created { path }))) => {
                self.on_created(now, &path, out);
            }
            (Kind::Create, Err(failure)) => self.on_create_failed(now, &failure, out),
            (Kind::List { watch }, Ok(Answer::Children { names, stat })) => {
                self.on_list(now, sent, watch.then_some(request), &names, &stat, out);
            }
            (Kind::List { .. }, Err(failure)) => self.on_list_failed(now, &failure, out),
            (Kind::Exists, Ok(Answer::Exists(None))) => {
                if let Session::Open(open) = &mut self.session {
                    open.armed = Some(request);
                }
            }
            (Kind::Exists, Ok(_)) => self.observe(now, out),
            (Kind::Describe { name }, Ok(Answer::Data { data, .. })) => {
                self.on_description(&name, data, out);
            }
            (Kind::Describe { .. }, Err(_)) => {
                // It has gone, or the connection has: the next list says who leads.
                if let Session::Open(open) = &mut self.session {
                    open.leader_name = None;
                }
                self.retry_in(now, RETRY_AFTER);
            }
            (Kind::ReadEpoch, Ok(Answer::Data { data, stat })) => {
                self.on_epoch(now, &data, &stat, out);
            }
            (Kind::Raise { counter }, Ok(Answer::Multi(written))) => {
                self.on_raised(now, sent, counter, &written, out);
            }
            (Kind::ReadEpoch | Kind::Raise { .. }, Err(failure)) => {
                self.on_claim_failed(now, &failure, out);
            }
            (Kind::Exists, Err(_)) => self.retry_in(now, RETRY_AFTER),
            (
                Kind::Create
                | Kind::List { .. }
                | Kind::Describe { .. }
                | Kind::ReadEpoch
                | Kind::Raise { .. },
                Ok(_),
            ) => {
                self.give_session_up(now, "ZooKeeper answered what was not asked", out);
            }
        }
    }

    fn on_prepared(
        &mut self,
        now: Millis,
        step: usize,
        result: Result<Answer, Failure>,
        out: &mut Out,
    ) {
        let last_but_one = step + 2 == self.preparations().len();
        let Session::Open(Open {
            stage:
                Stage::Preparing {
                    format_version,
                    cluster_id,
                    ..
                },
            ..
        }) = &mut self.session
        else {
            return;
        };
        match result {
            Ok(Answer::Data { data, stat }) => {
                // The two reads follow one upon the other; the format comes first.
                if last_but_one {
                    *format_version = stat.version;
                    if let Err(words) = check_format(&self.layout.format, &data) {
                        return self.refuse(words, out);
                    }
                } else {
                    match std::str::from_utf8(&data) {
                        Ok(id) if !id.is_empty() && id.len() <= 255 => {
                            *cluster_id = Some(Arc::from(id))
                        }
                        _ => {
                            let at = &self.layout.cluster;
                            let words = format!(
                                "{at} holds no cluster id; restore it or choose another path"
                            );
                            return self.refuse(words, out);
                        }
                    }
                }
                self.prepare(now, step + 1, out);
            }
            Ok(_) | Err(Failure::Request(ZkError::NodeExists)) => self.prepare(now, step + 1, out),
            Err(failure)
                if *failure.error() == ZkError::NoAuth && step + 2 < self.preparations().len() =>
            {
                // Who may not create a node may still find it there: the steps below it will tell.
                let text = format!("could not make sure of {}: {failure}", self.config.path);
                out.push(Output::Note { warn: false, text });
                self.prepare(now, step + 1, out);
            }
            Err(Failure::Request(ZkError::ConnectionLoss)) => self.retry_in(now, RETRY_AFTER),
            Err(failure) => {
                let words = format!("cannot prepare {}: {failure}", self.config.path);
                self.give_session_up(now, &words, out);
            }
        }
    }

    fn on_created(&mut self, now: Millis, path: &str, out: &mut Out) {
        let Session::Open(open) = &mut self.session else {
            return;
        };
        let Stage::Joining {
            format_version,
            cluster_id,
        } = &open.stage
        else {
            return;
        };
        let name = path.rsplit('/').next().unwrap_or(path).to_owned();
        open.stage = Stage::Queued(Place {
            name,
            format_version: *format_version,
            cluster_id: cluster_id.clone(),
            claim: Claim::None,
        });
        self.calm();
        self.observe(now, out);
    }

    fn on_create_failed(&mut self, now: Millis, failure: &Failure, out: &mut Out) {
        // Whether the node is there is open, or the way to it is gone: with the session every doubt ends.
        let words = format!("cannot contend at {}: {failure}", self.config.path);
        self.give_session_up(now, &words, out);
    }

    fn on_list(
        &mut self,
        now: Millis,
        sent: Millis,
        armed: Option<u64>,
        names: &[String],
        stat: &Stat,
        out: &mut Out,
    ) {
        let Session::Open(open) = &mut self.session else {
            return;
        };
        if armed.is_some() {
            open.armed = armed;
        }
        if stat.pzxid < open.seen_pzxid {
            // Older than what was seen: a server that lags. It proves nothing.
            return self.retry_in(now, RETRY_AFTER);
        }
        open.seen_pzxid = stat.pzxid;
        let head = queue::head(names, &self.config.prefix).map(str::to_owned);
        let Stage::Queued(place) = &mut open.stage else {
            self.calm();
            return self.on_head(now, head, out);
        };
        if !names.contains(&place.name) {
            return self.on_place_lost(now, out);
        }
        if head.as_ref() != Some(&place.name) {
            if matches!(place.claim, Claim::None) {
                return self.on_head(now, head, out);
            }
            // Numbers only grow, so the path was removed and made anew under us: its order is not ours.
            return self.give_session_up(now, "another contender stands before the leader", out);
        }
        let timeout = open.timeout;
        match &mut place.claim {
            Claim::None => {
                place.claim = Claim::Asking;
                self.ask_epoch(now, out);
            }
            Claim::Asking => {}
            Claim::Held {
                grant, lease_until, ..
            } => {
                *lease_until = (*lease_until).max(sent + lease(timeout));
                let change = if now < *lease_until {
                    Change::Leading(grant.clone())
                } else {
                    Change::Suspended
                };
                self.tell(change, out);
            }
        }
    }

    /// Our node is not in the list: somebody deleted it.
    fn on_place_lost(&mut self, now: Millis, out: &mut Out) {
        let Session::Open(open) = &mut self.session else {
            return;
        };
        let Stage::Queued(place) = &open.stage else {
            return;
        };
        let text = format!(
            "{} is gone though our session lives; contending again",
            place.name
        );
        open.stage = Stage::Joining {
            format_version: place.format_version,
            cluster_id: place.cluster_id.clone(),
        };
        open.leader_name = None;
        // What was asked for the lost place must not be taken for the next one's.
        self.pending.clear();
        open.armed = None;
        out.push(Output::Note { warn: true, text });
        self.tell(Change::Standby { leader: None }, out);
        self.retry_in(now, RETRY_AFTER);
    }

    /// Somebody else, or nobody, is at the head of the queue.
    fn on_head(&mut self, now: Millis, head: Option<String>, out: &mut Out) {
        let Session::Open(open) = &mut self.session else {
            return;
        };
        if open.leader_name == head && head.is_some() {
            return;
        }
        open.leader_name.clone_from(&head);
        match head {
            None => self.tell(Change::Standby { leader: None }, out),
            Some(name) => {
                let call = Request::get(self.node(&name));
                self.send(now, Kind::Describe { name }, call, out);
            }
        }
    }

    fn on_description(&mut self, name: &str, data: Bytes, out: &mut Out) {
        let Session::Open(open) = &self.session else {
            return;
        };
        // Only of whom we know to lead now; and we need no description of ourselves.
        if open.leader_name.as_deref() != Some(name) {
            return;
        }
        if matches!(&open.stage, Stage::Queued(place) if !matches!(place.claim, Claim::None)) {
            return;
        }
        let leader = match info::address(&data) {
            Ok(address) => Some(Leader {
                address,
                info: data,
            }),
            Err(err) => {
                let text = format!("{name} leads, but cannot be understood: {err}");
                out.push(Output::Note { warn: true, text });
                None
            }
        };
        self.tell(Change::Standby { leader }, out);
    }

    fn on_list_failed(&mut self, now: Millis, failure: &Failure, out: &mut Out) {
        let contends = self.config.candidate.is_some();
        match failure.error() {
            ZkError::ConnectionLoss => self.retry_in(now, RETRY_AFTER),
            ZkError::NoNode if contends => {
                let words = format!("{} is gone", self.config.path);
                self.give_session_up(now, &words, out);
            }
            ZkError::NoNode => {
                // Nobody has ever contended here. Wait for the first.
                self.tell(Change::Standby { leader: None }, out);
                let path = self.config.path.clone();
                self.send(
                    now,
                    Kind::Exists,
                    Request::Exists { path, watch: true },
                    out,
                );
            }
            error => {
                let words = format!("cannot read {}: {error}", self.config.path);
                self.give_session_up(now, &words, out);
            }
        }
    }

    fn on_epoch(&mut self, now: Millis, data: &[u8], stat: &Stat, out: &mut Out) {
        let Session::Open(Open {
            stage: Stage::Queued(place),
            ..
        }) = &self.session
        else {
            return;
        };
        if !matches!(place.claim, Claim::Asking) {
            return;
        }
        let counter = std::str::from_utf8(data)
            .ok()
            .and_then(|text| text.parse::<u64>().ok());
        let Some(counter) = counter.and_then(|counter| counter.checked_add(1)) else {
            let at = &self.layout.epoch;
            let words = format!("{at} holds no counter; restore it or choose another path");
            return self.refuse(words, out);
        };
        let own = self.node(&place.name);
        let format_version = Some(place.format_version);
        let layout = &self.layout;
        let ops = vec![
            WriteOp::Check {
                path: own,
                version: None,
            },
            WriteOp::Check {
                path: layout.format.clone(),
                version: format_version,
            },
            WriteOp::Set {
                path: layout.epoch.clone(),
                data: counter.to_string().into(),
                version: Some(stat.version),
            },
        ];
        self.send(now, Kind::Raise { counter }, Request::Multi(ops), out);
    }

    fn on_raised(
        &mut self,
        now: Millis,
        sent: Millis,
        counter: u64,
        written: &[Written],
        out: &mut Out,
    ) {
        let Session::Open(open) = &mut self.session else {
            return;
        };
        let timeout = open.timeout;
        let Stage::Queued(place) = &mut open.stage else {
            return;
        };
        let Some(&Written::Set { version }) = written.get(2) else {
            return self.give_session_up(now, "ZooKeeper answered what was not asked", out);
        };
        let epoch = Epoch {
            cluster_id: place.cluster_id.clone(),
            counter,
        };
        let fence = Fence {
            contender: format!("{}/{}", self.config.path, place.name),
            epoch: self.layout.epoch.clone(),
            counter,
            version,
        };
        let grant = Grant { epoch, fence };
        let lease_until = sent + lease(timeout);
        let next_read = now + Millis((timeout.0 / 6).max(1));
        place.claim = Claim::Held {
            grant: grant.clone(),
            lease_until,
            next_read,
        };
        // The raise itself proved our session, as of its sending. If it took too long, a read must come first.
        let change = if now < lease_until {
            Change::Leading(grant)
        } else {
            Change::Suspended
        };
        self.tell(change, out);
        self.observe(now, out);
    }

    fn on_claim_failed(&mut self, now: Millis, failure: &Failure, out: &mut Out) {
        match failure {
            // Our node is gone; the list will say so.
            Failure::Op {
                index: 0,
                error: ZkError::NoNode,
            } => self.observe(now, out),
            // Somebody raised it between our read and our raise.
            Failure::Op {
                index: 2,
                error: ZkError::BadVersion,
            } => self.ask_epoch(now, out),
            Failure::Request(ZkError::ConnectionLoss) => self.retry_in(now, RETRY_AFTER),
            failure => {
                let words = format!("cannot take the lead at {}: {failure}", self.config.path);
                self.give_session_up(now, &words, out);
            }
        }
    }
}

/// How long a proof that the session lived lasts: two thirds of its timeout, counted from when it was asked for.
fn lease(timeout: Millis) -> Millis {
    Millis(timeout.0 / 3 * 2)
}

/// Checks that this version can read what lies in the store.
fn check_format(at: &str, data: &[u8]) -> Result<(), String> {
    let found = std::str::from_utf8(data)
        .ok()
        .and_then(|text| text.trim().parse::<u32>().ok());
    match found {
        Some(found) if found <= FORMAT => Ok(()),
        Some(found) => Err(format!(
            "{at} says that the state was written in format {found}; this version reads up to {FORMAT}: \
             run the newer version here"
        )),
        None => Err(format!(
            "{at} holds no format number; restore it or choose another path"
        )),
    }
}
