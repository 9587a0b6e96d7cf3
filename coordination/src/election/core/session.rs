//! Sessions: opened, prepared, lost, given up, and opened again.

use super::{
    BACKOFF_FIRST, BACKOFF_MAX, Change, Claim, Election, Kind, LEAVE_MAX, Millis, Open, Out,
    Output, Place, Session, Stage,
};
use crate::store::zk_ops::FORMAT;
use crate::zk::{Access, CreateMode, Request, WriteOp};

impl Election {
    pub(super) fn on_session_up(
        &mut self,
        now: Millis,
        wanted: u64,
        timeout: Millis,
        out: &mut Out,
    ) {
        match &self.session {
            Session::Opening { attempt } if *attempt == wanted => {}
            _ => return,
        }
        let contends = self.config.candidate.is_some();
        let stage = if contends {
            Stage::Preparing {
                step: 0,
                format_version: 0,
                cluster_id: None,
            }
        } else {
            Stage::Watching
        };
        self.session = Session::Open(Open {
            attempt: wanted,
            timeout,
            stage,
            retry_at: None,
            seen_pzxid: 0,
            armed: None,
            leader_name: None,
        });
        if contends {
            self.prepare(now, 0, out)
        } else {
            self.observe(now, out)
        }
    }

    pub(super) fn on_session_gone(&mut self, now: Millis, wanted: u64, words: &str, out: &mut Out) {
        match &self.session {
            Session::Opening { attempt } if *attempt == wanted => {
                let text = format!("no session with ZooKeeper yet: {words}; trying again");
                out.push(Output::Note { warn: true, text });
                self.without_session(now, out);
            }
            Session::Open(open) if open.attempt == wanted => {
                if matches!(open.stage, Stage::Leaving { .. }) {
                    self.session = Session::Over;
                    self.pending.clear();
                    out.push(Output::Resigned);
                    return;
                }
                let text =
                    format!("the session with ZooKeeper is over: {words}; opening a new one");
                out.push(Output::Note { warn: true, text });
                self.without_session(now, out);
            }
            _ => {}
        }
    }

    /// Gives the session up, with every node of it, and opens another after a while.
    pub(super) fn give_session_up(&mut self, now: Millis, words: &str, out: &mut Out) {
        if let Session::Open(open) = &self.session {
            let attempt = open.attempt;
            out.push(Output::Note {
                warn: true,
                text: format!("{words}; beginning anew"),
            });
            self.without_session(now, out);
            out.push(Output::CloseSession { attempt });
        }
    }

    fn without_session(&mut self, now: Millis, out: &mut Out) {
        self.remember_own_node();
        self.pending.clear();
        let contends = self.config.candidate.is_some();
        let retry_at = now + self.backoff + self.rng.jitter(Millis(self.backoff.0 / 4));
        self.backoff = (self.backoff + self.backoff).min(BACKOFF_MAX);
        self.session = Session::None { retry_at };
        // A term that was held is over. A detector keeps what it knows: the leader may be well without us.
        if contends {
            self.tell(Change::Standby { leader: None }, out);
        }
    }

    fn remember_own_node(&mut self) {
        if let Session::Open(Open {
            stage: Stage::Queued(place),
            ..
        }) = &self.session
        {
            let path = self.node(&place.name);
            self.stale.insert(path);
        }
    }

    pub(super) fn on_resign(&mut self, now: Millis, out: &mut Out) {
        let own = match &mut self.session {
            Session::Over => None,
            Session::None { .. } => {
                self.session = Session::Over;
                None
            }
            Session::Opening { attempt } => {
                out.push(Output::CloseSession { attempt: *attempt });
                self.session = Session::Over;
                None
            }
            Session::Open(open) => match &open.stage {
                Stage::Leaving { .. } => return,
                Stage::Queued(place) => Some((place.name.clone(), open.timeout)),
                _ => return self.finish(out),
            },
        };
        self.tell(Change::Standby { leader: None }, out);
        let Some((name, timeout)) = own else {
            return out.push(Output::Resigned);
        };
        if let Session::Open(open) = &mut self.session {
            open.stage = Stage::Leaving {
                until: now + timeout.min(LEAVE_MAX),
            };
            open.retry_at = None;
        }
        self.pending.clear();
        let call = Request::delete(self.node(&name));
        self.send(now, Kind::Leave, call, out);
    }

    /// Closes the session and is done.
    pub(super) fn finish(&mut self, out: &mut Out) {
        if let Session::Open(open) = &self.session {
            out.push(Output::CloseSession {
                attempt: open.attempt,
            });
        }
        self.session = Session::Over;
        self.pending.clear();
        self.tell(Change::Standby { leader: None }, out);
        out.push(Output::Resigned);
    }

    /// Stays out of the election for good: a newer version was here, or something that nobody should write over.
    pub(super) fn refuse(&mut self, words: String, out: &mut Out) {
        if let Session::Open(open) = &self.session {
            out.push(Output::CloseSession {
                attempt: open.attempt,
            });
        }
        self.session = Session::Over;
        self.pending.clear();
        out.push(Output::Note {
            warn: true,
            text: words.clone(),
        });
        self.tell(Change::Refused { words }, out);
    }

    /// Tries again what waits to be tried again.
    pub(super) fn retry(&mut self, now: Millis, out: &mut Out) {
        let Session::Open(open) = &mut self.session else {
            return;
        };
        open.retry_at = None;
        match &open.stage {
            Stage::Preparing { step, .. } => {
                let step = *step;
                if !self
                    .pending
                    .values()
                    .any(|p| matches!(p.kind, Kind::Prepare { .. }))
                {
                    self.prepare(now, step, out);
                }
            }
            Stage::Joining { .. } => {
                if !self
                    .pending
                    .values()
                    .any(|p| matches!(p.kind, Kind::Create))
                {
                    self.join(now, out);
                }
            }
            Stage::Queued(Place {
                claim: Claim::Asking,
                ..
            }) => {
                self.observe(now, out);
                self.ask_epoch(now, out);
            }
            Stage::Queued(_) | Stage::Watching => {
                // A description that was asked for and lost is asked for again by the answer to the list.
                open.leader_name = None;
                self.observe(now, out);
            }
            Stage::Leaving { .. } => {}
        }
    }

    /// The nodes that must be there before anybody contends, parents first, and what to read of them.
    pub(super) fn preparations(&self) -> Vec<Request> {
        let mut requests = Vec::new();
        for (at, _) in self.config.path.match_indices('/').skip(1) {
            requests.push(Request::create(
                &self.config.path[..at],
                "",
                Access::Readable,
            ));
        }
        let layout = &self.layout;
        requests.push(Request::create(&self.config.path, "", Access::Readable));
        requests.push(Request::create(&layout.root, "", Access::Private));
        requests.push(Request::create(&layout.records, "", Access::Private));
        requests.push(Request::create(
            &layout.format,
            FORMAT.to_string(),
            Access::Private,
        ));
        // The first to create it gives the cluster its name.
        requests.push(Request::create(
            &layout.cluster,
            self.config.cluster_id.to_string(),
            Access::Private,
        ));
        requests.push(Request::create(&layout.epoch, "0", Access::Private));
        requests.push(Request::get(&layout.format));
        requests.push(Request::get(&layout.cluster));
        requests
    }

    pub(super) fn prepare(&mut self, now: Millis, step: usize, out: &mut Out) {
        let mut requests = self.preparations();
        if step < requests.len() {
            let call = requests.swap_remove(step);
            if let Session::Open(Open {
                stage: Stage::Preparing { step: at, .. },
                ..
            }) = &mut self.session
            {
                *at = step;
            }
            return self.send(now, Kind::Prepare { step }, call, out);
        }
        let Session::Open(open) = &mut self.session else {
            return;
        };
        if let Stage::Preparing {
            format_version,
            cluster_id: Some(cluster_id),
            ..
        } = &open.stage
        {
            open.stage = Stage::Joining {
                format_version: *format_version,
                cluster_id: cluster_id.clone(),
            };
            self.join(now, out);
        } else {
            self.give_session_up(now, "the cluster's id could not be read", out);
        }
    }

    /// Takes a place in the queue. What our earlier sessions left there goes first: we know that nobody acts for it.
    pub(super) fn join(&mut self, now: Millis, out: &mut Out) {
        for path in self.stale.clone() {
            let call = Request::delete(&path);
            self.send(now, Kind::Sweep { path }, call, out);
        }
        let Some(data) = self.config.candidate.clone() else {
            return;
        };
        let path = self.node(&self.config.prefix.clone());
        let mode = CreateMode::EphemeralSequential;
        let call = Request::Write(WriteOp::Create {
            path,
            data,
            mode,
            access: Access::Readable,
        });
        self.send(now, Kind::Create, call, out);
    }

    pub(super) fn ask_epoch(&mut self, now: Millis, out: &mut Out) {
        let asking = |p: &super::Pending| matches!(p.kind, Kind::ReadEpoch | Kind::Raise { .. });
        if !self.pending.values().any(asking) {
            let call = Request::get(&self.layout.epoch);
            self.send(now, Kind::ReadEpoch, call, out);
        }
    }

    /// All is well: the next trouble begins with a short wait again.
    pub(super) fn calm(&mut self) {
        self.backoff = BACKOFF_FIRST;
    }
}
