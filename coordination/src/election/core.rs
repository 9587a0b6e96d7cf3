//! The rules of the ZooKeeper election, without ZooKeeper: what to ask, and what the answers mean.
//!
//! A contender is an ephemeral, sequential node `<path>/<prefix>NNNNNNNNNN`; the lowest number leads. To lead is
//! not yet to act: the lowest contender first raises the epoch's counter in a transaction that also checks its own
//! node, and gets a [`Grant`] whose fence every later write carries. An [`Election`] without a candidate is a
//! detector: it watches and never writes.
//!
//! What may go wrong decided the shape (each is a test):
//! - The lease counts from the moment when the read that was answered was *sent*: a late answer proves little.
//! - Who leads and that our own node lives come from one answer, and an answer older (by zxid) than one seen is
//!   dropped.
//! - Leadership names the session: only the node that this very session created is "we".
//! - A repeated answer, or one of an earlier session, changes nothing.
//! - When it is open whether our node was created, the session is given up, and any node of it with it.
//!
//! Invariant: pure. It knows neither clock nor socket, the same inputs give the same outputs, and no input panics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use mezzo_model::rng::Rng;
use mezzo_model::{Epoch, Millis, Now};

use crate::detector::Leader;
use crate::store::zk_ops::{Fence, Layout};
use crate::zk::{Answer, Failure, Request};

mod answers;
mod queue;
mod session;
#[cfg(test)]
mod tests;

pub use queue::sequence;

/// Which election, and who contends.
#[derive(Clone, Debug)]
pub struct Config {
    /// The election's path, such as `/mesos`.
    pub path: String,
    /// How contenders' names begin.
    pub prefix: Arc<str>,
    /// What this contender says about itself; `None` only watches.
    pub candidate: Option<Bytes>,
    /// The session timeout to ask for.
    pub session_timeout: Millis,
    /// Ends up as the cluster's id if this contender is the very first.
    pub cluster_id: Arc<str>,
    /// For the jitter of the back-off.
    pub seed: u64,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time passed; also the first input of all.
    Tick,
    /// The session that was asked for is there.
    SessionUp {
        /// Which [`Output::OpenSession`] it answers.
        attempt: u64,
        /// The timeout that the server granted.
        timeout: Millis,
    },
    /// The session is over, or could not be opened.
    SessionGone {
        /// Which [`Output::OpenSession`] it was.
        attempt: u64,
        /// Why, for the log.
        words: String,
    },
    /// The session's connection came back; it had broken.
    Reconnected {
        /// Which session.
        attempt: u64,
    },
    /// A request was answered.
    Answered {
        /// Which session.
        attempt: u64,
        /// Which [`Output::Send`].
        request: u64,
        /// The answer.
        result: Result<Answer, Failure>,
    },
    /// A watch fired.
    Fired {
        /// Which session.
        attempt: u64,
        /// The request that set it.
        request: u64,
    },
    /// Leave the election, for good.
    Resign,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Open a session.
    OpenSession {
        /// Its number here.
        attempt: u64,
        /// The timeout to ask for.
        timeout: Millis,
    },
    /// Close a session, or stop opening it. Nothing about it is listened to any more.
    CloseSession {
        /// Which.
        attempt: u64,
    },
    /// Send a request.
    Send {
        /// On which session.
        attempt: u64,
        /// Its number, for the answer.
        request: u64,
        /// The request.
        call: Request,
    },
    /// The leadership changed.
    Tell(Change),
    /// The election has been left; nothing follows.
    Resigned,
    /// A line for the log.
    Note {
        /// Whether somebody should look.
        warn: bool,
        /// The line.
        text: String,
    },
}

/// What a contender may believe from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Somebody else leads, or nobody known.
    Standby {
        /// Who, if it is known and can be read.
        leader: Option<Leader>,
    },
    /// This contender leads.
    Leading(Grant),
    /// This contender led a moment ago; whether it still does is open. Do not act.
    Suspended,
    /// This contender must not lead.
    Refused {
        /// Why, and what to do.
        words: String,
    },
}

/// The right to act, and what proves it to ZooKeeper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The term.
    pub epoch: Epoch,
    /// What every write checks.
    pub fence: Fence,
}

/// At most this many lease reads wait for their answers: two sessions' worth, so a connection that is down
/// gathers no more.
const READS_MAX: usize = 12;
const BACKOFF_FIRST: Millis = Millis(100);
const BACKOFF_MAX: Millis = Millis(5000);
const RETRY_AFTER: Millis = Millis(100);
/// A resignation that ZooKeeper does not confirm in this time ends without it: the session runs out by itself.
const LEAVE_MAX: Millis = Millis(2000);

/// One member of one election.
#[derive(Debug)]
pub struct Election {
    config: Config,
    layout: Layout,
    rng: Rng,
    session: Session,
    attempts: u64,
    requests: u64,
    pending: BTreeMap<u64, Pending>,
    told: Change,
    /// Nodes that this process created in earlier sessions, and that may still be there.
    stale: BTreeSet<String>,
    backoff: Millis,
}

#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one of it in a member, and it stays where it is"
)]
enum Session {
    /// None; the next is opened then.
    None {
        retry_at: Millis,
    },
    Opening {
        attempt: u64,
    },
    Open(Open),
    /// Resigned or refused: nothing follows.
    Over,
}

#[derive(Debug)]
struct Open {
    attempt: u64,
    timeout: Millis,
    stage: Stage,
    /// When to try again what failed.
    retry_at: Option<Millis>,
    /// The newest list of contenders seen.
    seen_pzxid: i64,
    /// The list request whose watch is set.
    armed: Option<u64>,
    /// Whose description was asked for last, or is known.
    leader_name: Option<String>,
}

#[derive(Debug)]
enum Stage {
    /// Making the directories, and reading what an earlier leader left: the step that is under way.
    Preparing {
        step: usize,
        format_version: i32,
        cluster_id: Option<Arc<str>>,
    },
    /// Our node is being created.
    Joining {
        format_version: i32,
        cluster_id: Arc<str>,
    },
    /// In the queue, or at its head.
    Queued(Place),
    /// Only watching.
    Watching,
    /// Our node is being deleted.
    Leaving { until: Millis },
}

#[derive(Debug)]
struct Place {
    /// Our node's name, without path.
    name: String,
    format_version: i32,
    cluster_id: Arc<str>,
    claim: Claim,
}

#[derive(Debug)]
enum Claim {
    /// Not at the head.
    None,
    /// At the head, getting the epoch.
    Asking,
    /// The epoch is ours.
    Held {
        grant: Grant,
        lease_until: Millis,
        next_read: Millis,
    },
}

#[derive(Debug)]
struct Pending {
    sent: Millis,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Prepare { step: usize },
    Sweep { path: String },
    Create,
    List { watch: bool },
    Exists,
    Describe { name: String },
    ReadEpoch,
    Raise { counter: u64 },
    Leave,
}

type Out = Vec<Output>;

impl Election {
    /// A member that has done nothing yet; its first input is [`Input::Tick`].
    pub fn new(config: Config) -> Self {
        Self {
            layout: Layout::new(&config.path),
            rng: Rng::new(config.seed).split("election"),
            session: Session::None {
                retry_at: Millis::ZERO,
            },
            attempts: 0,
            requests: 0,
            pending: BTreeMap::new(),
            told: Change::Standby { leader: None },
            stale: BTreeSet::new(),
            backoff: BACKOFF_FIRST,
            config,
        }
    }

    /// What was told last.
    pub fn current(&self) -> &Change {
        &self.told
    }

    /// When [`Input::Tick`] is due, on the clock of `now`.
    pub fn next_deadline(&self) -> Option<Millis> {
        let open = match &self.session {
            Session::None { retry_at } => return Some(*retry_at),
            Session::Opening { .. } | Session::Over => return None,
            Session::Open(open) => open,
        };
        let stage = match &open.stage {
            Stage::Leaving { until } => Some(*until),
            Stage::Queued(Place {
                claim:
                    Claim::Held {
                        lease_until,
                        next_read,
                        ..
                    },
                ..
            }) => {
                let leading = matches!(self.told, Change::Leading(_));
                Some(if leading {
                    *lease_until.min(next_read)
                } else {
                    *next_read
                })
            }
            _ => None,
        };
        [stage, open.retry_at].into_iter().flatten().min()
    }

    /// Takes one input and appends what is to be done.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        let now = now.mono;
        match input {
            Input::Tick => self.on_tick(now, out),
            Input::SessionUp { attempt, timeout } => self.on_session_up(now, attempt, timeout, out),
            Input::SessionGone { attempt, words } => {
                self.on_session_gone(now, attempt, &words, out)
            }
            Input::Reconnected { attempt } => {
                if self.is_open(attempt) {
                    // Whatever waits for a better moment: this is it. And a lease wants to be renewed.
                    self.retry(now, out);
                }
            }
            Input::Answered {
                attempt,
                request,
                result,
            } => {
                if self.is_open(attempt)
                    && let Some(pending) = self.pending.remove(&request)
                {
                    self.on_answer(now, request, pending, result, out);
                }
            }
            Input::Fired { attempt, request } => {
                if let Session::Open(open) = &mut self.session
                    && open.attempt == attempt
                    && open.armed == Some(request)
                {
                    open.armed = None;
                    self.observe(now, out);
                }
            }
            Input::Resign => self.on_resign(now, out),
        }
    }

    fn is_open(&self, wanted: u64) -> bool {
        matches!(&self.session, Session::Open(open) if open.attempt == wanted)
    }

    fn on_tick(&mut self, now: Millis, out: &mut Out) {
        match &mut self.session {
            Session::None { retry_at } if *retry_at <= now => {
                self.attempts += 1;
                let attempt = self.attempts;
                self.session = Session::Opening { attempt };
                out.push(Output::OpenSession {
                    attempt,
                    timeout: self.config.session_timeout,
                });
            }
            Session::None { .. } | Session::Opening { .. } | Session::Over => {}
            Session::Open(open) => {
                if matches!(open.stage, Stage::Leaving { until } if until <= now) {
                    return self.finish(out);
                }
                let due = open.retry_at.is_some_and(|at| at <= now);
                self.check_lease(now, out);
                if due {
                    self.retry(now, out);
                }
            }
        }
    }

    /// Suspends a leader whose lease has run out, and sends the next read when it is time.
    fn check_lease(&mut self, now: Millis, out: &mut Out) {
        let Session::Open(Open {
            stage: Stage::Queued(place),
            timeout,
            ..
        }) = &mut self.session
        else {
            return;
        };
        let Claim::Held {
            lease_until,
            next_read,
            ..
        } = &mut place.claim
        else {
            return;
        };
        let lapsed = *lease_until <= now;
        let read = *next_read <= now;
        if read {
            *next_read = now + Millis((timeout.0 / 6).max(1));
        }
        if lapsed && matches!(self.told, Change::Leading(_)) {
            self.tell(Change::Suspended, out);
        }
        if read {
            self.observe(now, out);
        }
    }

    /// Tells a change, once.
    fn tell(&mut self, change: Change, out: &mut Out) {
        if self.told != change {
            self.told = change.clone();
            out.push(Output::Tell(change));
        }
    }

    fn send(&mut self, now: Millis, kind: Kind, call: Request, out: &mut Out) {
        let Session::Open(open) = &self.session else {
            return;
        };
        self.requests += 1;
        let request = self.requests;
        self.pending.insert(request, Pending { sent: now, kind });
        out.push(Output::Send {
            attempt: open.attempt,
            request,
            call,
        });
    }

    /// Reads who contends. One answer tells both who leads and whether our own node is there.
    fn observe(&mut self, now: Millis, out: &mut Out) {
        let Session::Open(open) = &self.session else {
            return;
        };
        if !matches!(open.stage, Stage::Queued(_) | Stage::Watching) {
            return;
        }
        let (mut lists, mut arming) = (0, open.armed.is_some());
        for pending in self.pending.values() {
            if let Kind::List { watch } = pending.kind {
                lists += 1;
                arming |= watch;
            }
        }
        if lists < READS_MAX {
            let watch = !arming;
            let path = self.config.path.clone();
            let call = Request::Children {
                path,
                watch,
                sync: true,
            };
            self.send(now, Kind::List { watch }, call, out);
        }
    }

    fn node(&self, name: &str) -> String {
        format!("{}/{name}", self.config.path)
    }

    fn retry_in(&mut self, now: Millis, span: Millis) {
        if let Session::Open(open) = &mut self.session {
            open.retry_at = Some(now + span);
        }
    }
}
