//! The task that owns the core: inputs in, outputs carried out, in their order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use mezzo_door::{Health, Stop};
use mezzo_model::{Millis, Now, Wall};
use mezzo_wire::link::{self, SandboxChunk};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::containers::Containers;
use super::door::Door;
use super::inbox::{Inbox, Waiting};
use super::link::{Credential, LinkHandle};
use super::meters::Meters;
use crate::core::{Core, Input, LinkId, NoteLevel, Output, Read};
use crate::log::Log;
use crate::sandbox::watch::Watches;
use crate::sandbox::{self, ReadError, Reading, Wanted};

/// Inputs that are handled before outputs are carried out.
const BATCH_MAX: usize = 256;

/// Files that may be read at once.
const READS_MAX: usize = 256;

/// Both clocks of this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub fn new() -> Self {
        Self(Instant::now())
    }

    fn now(self) -> Now {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Now::new(self.0.elapsed().into(), Wall(Millis::from(wall).0))
    }

    fn instant(self, at: Millis) -> tokio::time::Instant {
        (self.0 + at.to_std()).into()
    }
}

/// What the core's task works with.
pub(crate) struct Driver {
    pub core: Core,
    pub clock: Clock,
    pub inbox: Inbox,
    pub waiting: mpsc::Receiver<Waiting>,
    pub log: Log,
    pub door: Arc<Door>,
    pub containers: Arc<Containers>,
    pub watches: Arc<Watches>,
    pub credential: Credential,
    pub health: Health,
    pub meters: Meters,
    pub stop: Stop,
    /// Ends what belongs to this agent alone when its core has ended.
    pub over: CancellationToken,
}

/// What changes while it works.
#[derive(Default)]
struct State {
    link: Option<LinkHandle>,
    reads: BTreeMap<(LinkId, u64), (crate::core::TaskKey, Reading)>,
    /// Inputs that carrying out outputs has led to.
    own: Vec<Input>,
    /// What the link, and the log, say of the agent's health.
    link_health: Option<Result<(), String>>,
    log_stalled: Option<String>,
    ended: Option<Option<String>>,
    open: bool,
}

/// What the log's threads tell the core's task.
#[derive(Debug)]
pub(crate) enum LogWord {
    Stalled(String),
    Resumed,
    Failed(String),
}

impl Driver {
    /// Runs until the agent is stopped or has ended by itself; then in words why, if that is an error.
    pub async fn run(mut self, mut log_words: mpsc::UnboundedReceiver<LogWord>) -> Option<String> {
        let mut state = State::default();
        let mut out = Vec::new();
        self.handle(Input::Start, &mut state, &mut out);
        while state.ended.is_none() {
            self.open_when_ready(&mut state);
            let deadline = self.core.next_deadline().map(|at| self.clock.instant(at));
            let timer = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let input = tokio::select! {
                biased;
                () = self.stop.stopped() => break,
                Some(word) = log_words.recv() => {
                    self.on_log_word(word, &mut state);
                    continue;
                }
                waiting = self.waiting.recv() => match waiting {
                    Some(waiting) => waiting.input,
                    None => break,
                },
                () = timer => Input::Tick,
            };
            self.handle(input, &mut state, &mut out);
            for _ in 0..BATCH_MAX {
                let Ok(more) = self.waiting.try_recv() else {
                    break;
                };
                self.handle(more.input, &mut state, &mut out);
            }
            self.meters.set(self.core.counters(), self.core.gauges());
        }
        self.over.cancel();
        drop(state.link.take());
        let log = self.log;
        // What was appended is written before the process ends.
        let _ = tokio::task::spawn_blocking(move || log.close()).await;
        state.ended.flatten()
    }

    fn handle(&mut self, input: Input, state: &mut State, out: &mut Vec<Output>) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            self.core.handle(self.clock.now(), input, out);
            for output in out.drain(..) {
                self.carry_out(output, state);
            }
            inputs.append(&mut state.own);
        }
    }

    /// Executors are let in when the core knows who may be there: one that is sent away does not come back.
    fn open_when_ready(&self, state: &mut State) {
        if state.open || !self.core.is_ready() {
            return;
        }
        state.open = true;
        let path = self.containers.common.layout.socket().to_owned();
        let listener: std::io::Result<UnixListener> = Door::open(&path);
        match listener {
            Ok(listener) => {
                tokio::spawn(self.door.clone().serve(listener, path, self.over.clone()));
            }
            Err(error) => {
                let words = format!(
                    "the executors' socket {} cannot be opened: {error}",
                    path.display()
                );
                state.ended = Some(Some(words));
            }
        }
    }

    fn carry_out(&self, output: Output, state: &mut State) {
        match output {
            Output::Log { id, records, flush } => self.log.append(id, records, flush),
            Output::Dial { link, address } => {
                let credential = self.credential.clone();
                let handle = LinkHandle::dial(link, &address, credential, self.inbox.clone());
                state.link = Some(handle);
                state.reads.clear();
            }
            Output::ToMaster { link, message } => {
                let sent = state
                    .link
                    .as_ref()
                    .filter(|handle| handle.id == link)
                    .is_some_and(|handle| handle.send(*message));
                if !sent {
                    let reason = "the master does not take what it is sent".to_owned();
                    state.own.push(Input::LinkDown {
                        link,
                        reason,
                        leader: None,
                    });
                    state.link = None;
                }
            }
            Output::HangUp { link } => {
                if state.link.as_ref().is_some_and(|handle| handle.id == link) {
                    state.link = None;
                }
            }
            Output::AnswerHello { conn, answer } => self.door.answer(conn, answer),
            Output::ToExecutor { conn, event } => self.door.event(conn, event),
            Output::CloseExecutor { conn } => self.door.close(conn),
            Output::Launch(launch) => self.containers.launch(*launch),
            Output::Destroy { container } => self.containers.destroy(container),
            Output::Resize { container, limits } => self.containers.resize(container, limits),
            Output::Probe { containers } => self.containers.probe(containers),
            Output::RemoveSandbox { place } => self.containers.remove_sandbox(place),
            Output::Read(read) => self.read(*read, state),
            Output::CancelRead { link, request } => {
                if let Some((_, reading)) = state.reads.remove(&(link, request)) {
                    reading.cancelled.cancel();
                }
            }
            Output::ReadsEnd { task } => {
                for (of, reading) in state.reads.values() {
                    if *of == task {
                        reading.written.cancel();
                    }
                }
            }
            Output::Health(health) => {
                state.link_health = Some(health);
                self.tell_health(state);
            }
            Output::Note { level, text } => note(level, &text),
            Output::Stop { error } => state.ended = Some(error),
        }
    }

    fn read(&self, read: Read, state: &mut State) {
        let Some(handle) = state.link.as_ref().filter(|handle| handle.id == read.link) else {
            return;
        };
        // Reads that have come to their end by themselves are only dropped here.
        state
            .reads
            .retain(|_, (_, reading)| !reading.cancelled.is_cancelled());
        let chunks = handle.chunks();
        if state.reads.len() >= READS_MAX {
            let error = ReadError::TooMany(READS_MAX).to_string();
            let chunk = SandboxChunk {
                request_id: Some(read.request),
                end: Some(true),
                error: Some(error),
                ..Default::default()
            };
            let body = Some(link::agent_message::Body::SandboxChunk(chunk));
            handle.send(link::AgentMessage { body });
            return;
        }
        let reading = Reading {
            cancelled: handle.reads.child_token(),
            written: CancellationToken::new(),
        };
        let wanted = Wanted {
            request: read.request,
            sandbox: self.containers.common.layout.sandbox(&read.place),
            path: read.path,
            offset: read.offset,
            length: read.length,
            follow: read.follow,
        };
        let done = reading.cancelled.clone().drop_guard();
        let work = sandbox::read(wanted, reading.clone(), self.watches.clone(), chunks);
        tokio::spawn(async move {
            work.await;
            drop(done);
        });
        state
            .reads
            .insert((read.link, read.request), (read.task, reading));
    }

    fn on_log_word(&self, word: LogWord, state: &mut State) {
        match word {
            LogWord::Stalled(words) => {
                tracing::error!("{words}");
                state.log_stalled = Some(words);
            }
            LogWord::Resumed => {
                tracing::info!("the agent's log goes on");
                state.log_stalled = None;
            }
            LogWord::Failed(words) => {
                tracing::error!("{words}; the agent ends, its tasks go on");
                state.ended = Some(Some(words));
                return;
            }
        }
        self.tell_health(state);
    }

    fn tell_health(&self, state: &State) {
        match (&state.log_stalled, &state.link_health) {
            (Some(words), _) => self.health.bad(words.clone()),
            (None, Some(Err(words))) => self.health.bad(words.clone()),
            (None, Some(Ok(()))) => self.health.good(),
            (None, None) => {}
        }
    }
}

fn note(level: NoteLevel, text: &str) {
    match level {
        NoteLevel::Error => tracing::error!("{text}"),
        NoteLevel::Warning => tracing::warn!("{text}"),
        NoteLevel::Info => tracing::info!("{text}"),
    }
}
