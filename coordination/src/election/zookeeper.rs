//! The shell of the election on ZooKeeper: one task for each member, which owns the rules and carries their
//! requests out.
//!
//! Invariant: it decides nothing. What a session that was given up still says is not heard.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use mezzo_model::{Millis, Now, Wall};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use zookeeper_client::{Client, SessionState, StateWatcher};

use super::core::{Change, Config, Election, Grant, Input, Output};
use super::{Candidate, Leadership, Term};
use crate::detector::Leader;
use crate::store;
use crate::target::ZkTarget;
use crate::zk::ZkError;
use crate::zk::client::{self, Reply};

/// Joins an election; the task ends when the contender has resigned or was dropped.
pub(crate) fn contend(
    target: &ZkTarget,
    candidate: Candidate,
    session_timeout: Duration,
    resigned: oneshot::Receiver<oneshot::Sender<()>>,
) -> watch::Receiver<Leadership> {
    let (tell, leadership) = watch::channel(Leadership::Standby { leader: None });
    let config = config(
        target,
        &candidate.prefix,
        Some(candidate.info),
        session_timeout,
    );
    let audience = Audience::Contender { tell, term: None };
    tokio::spawn(Member::new(target.clone(), config, audience).run(resigned));
    leadership
}

/// Watches an election until the guard is dropped.
pub(crate) fn detect(
    target: &ZkTarget,
    prefix: &str,
    session_timeout: Duration,
) -> (watch::Receiver<Option<Leader>>, DropGuard) {
    let (tell, leader) = watch::channel(None);
    let config = config(target, prefix, None, session_timeout);
    let member = Member::new(target.clone(), config, Audience::Detector { tell });
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        let (resign, resigned) = oneshot::channel();
        tokio::join!(member.run(resigned), async move {
            stopped.cancelled().await;
            drop(resign);
        });
    });
    (leader, stop.drop_guard())
}

fn config(
    target: &ZkTarget,
    prefix: &str,
    candidate: Option<bytes::Bytes>,
    session_timeout: Duration,
) -> Config {
    let chosen = uuid::Uuid::new_v4();
    Config {
        path: target.path.clone(),
        prefix: prefix.into(),
        candidate,
        session_timeout: Millis::from(session_timeout.max(Duration::from_millis(100))),
        cluster_id: chosen.to_string().into(),
        seed: uuid::Uuid::new_v4().as_u64_pair().0,
    }
}

enum Audience {
    Contender {
        tell: watch::Sender<Leadership>,
        term: Option<Held>,
    },
    Detector {
        tell: watch::Sender<Option<Leader>>,
    },
}

/// A term that lasts, and what ends its store.
struct Held {
    grant: Grant,
    term: Term,
    over: CancellationToken,
}

struct Live {
    attempt: u64,
    client: Client,
    state: StateWatcher,
    replies: FuturesUnordered<BoxFuture<'static, (u64, Reply)>>,
    watches: FuturesUnordered<BoxFuture<'static, u64>>,
}

type Opening = (
    u64,
    Pin<Box<dyn Future<Output = Result<Client, ZkError>> + Send>>,
);

struct Member {
    target: ZkTarget,
    election: Election,
    audience: Audience,
    opening: Option<Opening>,
    live: Option<Live>,
    began: Instant,
    ended: bool,
}

enum Event {
    Input(Input),
    Connected(u64, Result<Client, ZkError>),
    Replied(u64, u64, Reply),
}

impl Member {
    fn new(target: ZkTarget, config: Config, audience: Audience) -> Self {
        Self {
            target,
            election: Election::new(config),
            audience,
            opening: None,
            live: None,
            began: Instant::now(),
            ended: false,
        }
    }

    fn now(&self) -> Now {
        // The rules ask for no wall time.
        Now::new(Millis::from(self.began.elapsed()), Wall::default())
    }

    async fn run(mut self, resigned: oneshot::Receiver<oneshot::Sender<()>>) {
        let mut resigned = Some(resigned);
        let mut done = None;
        self.handle(Input::Tick);
        while !self.ended {
            let deadline = self.election.next_deadline();
            let event = tokio::select! {
                asked = wait(resigned.as_mut()), if resigned.is_some() => {
                    resigned = None;
                    // An error means that nobody waits: the contender or detector was dropped.
                    done = asked.ok();
                    Event::Input(Input::Resign)
                }
                event = next(&mut self.opening, &mut self.live) => event,
                () = until(self.began, deadline) => Event::Input(Input::Tick),
            };
            self.on_event(event);
        }
        self.end_term();
        if let Some(done) = done {
            // Whoever resigned may have stopped waiting.
            let _ = done.send(());
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Input(input) => self.handle(input),
            Event::Connected(attempt, connected) => {
                self.opening = None;
                match connected {
                    Ok(client) => self.on_connected(attempt, client),
                    Err(err) => {
                        self.handle(Input::SessionGone {
                            attempt,
                            words: err.to_string(),
                        });
                    }
                }
            }
            Event::Replied(attempt, request, reply) => {
                if let (Some(live), Some(watcher)) = (&self.live, reply.watch) {
                    live.watches.push(Box::pin(async move {
                        watcher.changed().await;
                        request
                    }));
                }
                self.handle(Input::Answered {
                    attempt,
                    request,
                    result: reply.result,
                });
            }
        }
    }

    fn on_connected(&mut self, attempt: u64, client: Client) {
        let timeout = Millis::from(client.session_timeout());
        tracing::info!(
            "session {} with {} granted for {timeout}",
            client.session_id(),
            self.target
        );
        let state = client.state_watcher();
        let (replies, watches) = (FuturesUnordered::new(), FuturesUnordered::new());
        self.live = Some(Live {
            attempt,
            client,
            state,
            replies,
            watches,
        });
        self.handle(Input::SessionUp { attempt, timeout });
    }

    fn handle(&mut self, input: Input) {
        let mut out = Vec::new();
        self.election.handle(self.now(), input, &mut out);
        for output in out {
            match output {
                Output::OpenSession { attempt, timeout } => {
                    let target = self.target.clone();
                    let connect = async move { client::connect(&target, timeout.to_std()).await };
                    self.opening = Some((attempt, Box::pin(connect)));
                }
                Output::CloseSession { attempt } => {
                    self.opening.take_if(|(opening, _)| *opening == attempt);
                    // The session closes when the last handle on its client goes; the store's goes with the term.
                    self.live.take_if(|live| live.attempt == attempt);
                }
                Output::Send {
                    attempt,
                    request,
                    call,
                } => {
                    let restricted = self.target.credentials.is_some();
                    if let Some(live) = self.live.as_ref().filter(|live| live.attempt == attempt) {
                        tracing::trace!("{call}");
                        let reply = client::send(&live.client, restricted, call);
                        live.replies
                            .push(Box::pin(async move { (request, reply.await) }));
                    }
                }
                Output::Tell(change) => self.tell(change),
                Output::Resigned => self.ended = true,
                Output::Note { warn: true, text } => tracing::warn!("{text}"),
                Output::Note { warn: false, text } => tracing::info!("{text}"),
            }
        }
    }

    fn tell(&mut self, change: Change) {
        if !matches!(change, Change::Leading(_) | Change::Suspended) {
            self.end_term();
        }
        let leadership = match change {
            Change::Standby { leader } => Leadership::Standby { leader },
            Change::Suspended => Leadership::Suspended,
            Change::Refused { words } => Leadership::Refused { words },
            Change::Leading(grant) => match self.term(grant) {
                Some(term) => Leadership::Leading { term },
                None => return,
            },
        };
        match &self.audience {
            Audience::Contender { tell, .. } => {
                tell.send_replace(leadership);
            }
            Audience::Detector { tell } => {
                if let Leadership::Standby { leader } = leadership {
                    tell.send_replace(leader);
                }
            }
        }
    }

    /// The term of a grant: the one that is held, or a new one with its store.
    fn term(&mut self, grant: Grant) -> Option<Term> {
        let live = self.live.as_ref()?;
        let Audience::Contender { term: held, .. } = &mut self.audience else {
            return None;
        };
        if let Some(held) = held.as_ref().filter(|held| held.grant == grant) {
            return Some(held.term.clone());
        }
        let over = CancellationToken::new();
        let restricted = self.target.credentials.is_some();
        let client = live.client.clone();
        let fence = grant.fence.clone();
        let store =
            store::zookeeper::start(client, restricted, &self.target.path, fence, over.clone());
        let term = Term::new(grant.epoch.clone(), store);
        if let Some(before) = held.replace(Held {
            grant,
            term: term.clone(),
            over,
        }) {
            before.over.cancel();
        }
        Some(term)
    }

    fn end_term(&mut self) {
        if let Audience::Contender { term, .. } = &mut self.audience
            && let Some(held) = term.take()
        {
            held.over.cancel();
        }
    }
}

async fn wait(
    resigned: Option<&mut oneshot::Receiver<oneshot::Sender<()>>>,
) -> Result<oneshot::Sender<()>, oneshot::error::RecvError> {
    match resigned {
        Some(resigned) => resigned.await,
        None => std::future::pending().await,
    }
}

async fn until(began: Instant, deadline: Option<Millis>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(began + at.to_std()).await,
        None => std::future::pending().await,
    }
}

/// The next thing that ZooKeeper says.
async fn next(opening: &mut Option<Opening>, live: &mut Option<Live>) -> Event {
    if let Some((attempt, connect)) = opening {
        let connected = connect.await;
        return Event::Connected(*attempt, connected);
    }
    let Some(live) = live else {
        return std::future::pending().await;
    };
    let attempt = live.attempt;
    tokio::select! {
        biased;
        Some((request, reply)) = live.replies.next() => Event::Replied(attempt, request, reply),
        Some(request) = live.watches.next() => Event::Input(Input::Fired { attempt, request }),
        state = live.state.changed() => match state {
            SessionState::SyncConnected => Event::Input(Input::Reconnected { attempt }),
            SessionState::Disconnected | SessionState::ConnectedReadOnly => {
                // The lease knows how long that may last; wait for what comes after.
                tracing::warn!("the connection to ZooKeeper broke");
                Event::Input(Input::Tick)
            }
            SessionState::Expired | SessionState::Closed | SessionState::AuthFailed => {
                let words = state.to_string();
                Event::Input(Input::SessionGone { attempt, words })
            }
        },
    }
}
