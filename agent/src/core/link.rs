//! The way to the leading master: dialling, being welcomed, hearing it, and refusing who leads no more.
//!
//! A connection is dialled at once when a leader is named or an established connection breaks; only after a failure is
//! there a wait, random and growing. A message is acted upon only when the epoch it carries is on the disk.

use std::sync::Arc;

use mezzo_model::ids::AgentId;
use mezzo_model::{Epoch, EpochRefusal, Millis};
use mezzo_wire::link;
use mezzo_wire::link::agent_message::Body as ToMaster;
use mezzo_wire::link::master_message::Body as FromMaster;

use super::io::{LinkId, NoteLevel, Output};
use super::record::Record;
use super::state::{After, HELD_MAX, LinkState, Stage};
use super::timers::Timer;
use super::{Core, Cx};

/// How often in a row the word of one master about another is followed without a wait.
const HOPS_MAX: u32 = 3;

/// A master that says it wants to be heard more often than this is not taken at its word.
const SILENCE_MIN: Millis = Millis::from_secs(1);

impl Core {
    pub(super) fn is_up(&self) -> bool {
        self.link.state == LinkState::Up
    }

    pub(super) fn on_leader(&mut self, cx: &mut Cx<'_>, leader: Option<Arc<str>>) {
        let changed = self.link.leader != leader;
        self.link.leader = leader;
        if self.link.leader.is_none() {
            // The connection that stands may be good still; it is kept until it breaks.
            return;
        }
        if changed || self.link.state == LinkState::Idle {
            self.link.failures = 0;
            self.link.hops = 0;
            self.hang_up(cx);
            self.dial(cx);
        }
    }

    /// Dials the leader that the detector knows.
    pub(super) fn dial(&mut self, cx: &mut Cx<'_>) {
        match self.link.leader.clone() {
            Some(address) => self.dial_to(cx, address),
            None => self.link.state = LinkState::Idle,
        }
    }

    fn dial_to(&mut self, cx: &mut Cx<'_>, address: Arc<str>) {
        if matches!(self.stage, Stage::New | Stage::Probing | Stage::Stopped) {
            return;
        }
        self.timers.clear(&Timer::Dial);
        self.link.last += 1;
        self.link.state = LinkState::Dialling;
        self.timers
            .set(Timer::Greet, cx.now.mono + self.config.greet_timeout);
        cx.push(Output::Dial {
            link: self.link.last,
            address,
        });
    }

    /// Leaves the connection that stands, if one does; nothing more is read from it.
    pub(super) fn hang_up(&mut self, cx: &mut Cx<'_>) {
        match self.link.state {
            LinkState::Dialling | LinkState::Greeting | LinkState::Up => {
                cx.push(Output::HangUp {
                    link: self.link.last,
                });
            }
            LinkState::Idle | LinkState::Waiting => {}
        }
        self.forget_link();
    }

    fn forget_link(&mut self) {
        self.link.state = LinkState::Idle;
        self.link.held.clear();
        self.link.settling = false;
        for timer in [Timer::Dial, Timer::Greet, Timer::Silence] {
            self.timers.clear(&timer);
        }
        for stream in self.streams.values_mut() {
            stream.in_flight = false;
        }
    }

    /// After a failure: the next try has its time.
    fn back_off(&mut self, cx: &mut Cx<'_>) {
        let doublings = self.link.failures.min(20);
        let most = self.config.dial_backoff * (1 << doublings);
        let most = most.min(self.config.dial_backoff_max);
        self.link.failures = self.link.failures.saturating_add(1);
        self.link.state = LinkState::Waiting;
        let wait = self.jitter.jitter(most);
        self.timers.set(Timer::Dial, cx.now.mono + wait);
    }

    pub(super) fn on_link_up(&mut self, cx: &mut Cx<'_>, link: LinkId) {
        if link != self.link.last || self.link.state != LinkState::Dialling {
            return;
        }
        self.link.state = LinkState::Greeting;
        let hello = self.hello();
        self.send(cx, ToMaster::Hello(hello));
    }

    pub(super) fn on_link_down(
        &mut self,
        cx: &mut Cx<'_>,
        link: LinkId,
        reason: &str,
        leader: Option<Arc<str>>,
    ) {
        let was_up = self.is_up();
        if link != self.link.last || matches!(self.link.state, LinkState::Idle | LinkState::Waiting)
        {
            return;
        }
        self.forget_link();
        if was_up {
            cx.warn(format!("the connection to the master ended: {reason}"));
            self.link.failures = 0;
            self.dial(cx);
            return;
        }
        if let Some(leader) = leader
            && self.link.hops < HOPS_MAX
        {
            self.link.hops += 1;
            cx.info(format!("the master there does not lead; it names {leader}"));
            self.dial_to(cx, leader);
            return;
        }
        cx.warn(format!("the master could not be reached: {reason}"));
        self.link.hops = 0;
        self.back_off(cx);
    }

    pub(super) fn on_greet_timeout(&mut self, cx: &mut Cx<'_>) {
        if matches!(self.link.state, LinkState::Dialling | LinkState::Greeting) {
            cx.warn(format!(
                "the master said no welcome within {}",
                self.config.greet_timeout
            ));
            self.hang_up(cx);
            self.back_off(cx);
        }
    }

    pub(super) fn on_silence(&mut self, cx: &mut Cx<'_>) {
        if self.is_up() {
            cx.warn(format!(
                "nothing was heard from the master for {}; dialling anew",
                self.link.silence
            ));
            self.hang_up(cx);
            self.dial(cx);
        }
    }

    /// Sends on the connection that stands.
    pub(super) fn send(&mut self, cx: &mut Cx<'_>, body: ToMaster) {
        cx.push(Output::ToMaster {
            link: self.link.last,
            message: Box::new(link::AgentMessage { body: Some(body) }),
        });
    }

    pub(super) fn on_master(
        &mut self,
        cx: &mut Cx<'_>,
        link: LinkId,
        message: link::MasterMessage,
    ) {
        let stands = matches!(self.link.state, LinkState::Greeting | LinkState::Up);
        if link != self.link.last || !stands {
            return;
        }
        if self.is_up() {
            self.timers
                .set(Timer::Silence, cx.now.mono + self.link.silence);
        }
        if self.link.settling {
            if self.link.held.len() >= HELD_MAX {
                cx.warn("the master says more than the disk can take in; dialling anew");
                self.hang_up(cx);
                self.back_off(cx);
                return;
            }
            self.link.held.push_back(message);
            return;
        }
        self.take(cx, message);
    }

    pub(super) fn on_settled(&mut self, cx: &mut Cx<'_>, link: LinkId) {
        if link != self.link.last || !self.link.settling {
            return;
        }
        self.link.settling = false;
        while !self.link.settling
            && let Some(message) = self.link.held.pop_front()
        {
            self.take(cx, message);
        }
    }

    /// Takes one message of the connection that stands: its epoch first, then what it says.
    fn take(&mut self, cx: &mut Cx<'_>, message: link::MasterMessage) {
        let epoch = Epoch::from_wire(&message.epoch);
        if let Some(highest) = &self.ledger.epoch
            && let Err(refusal) = highest.accepts(&epoch)
        {
            self.refuse_epoch(cx, &refusal);
            return;
        }
        if self.ledger.epoch.as_ref() != Some(&epoch) {
            self.settle(cx, vec![Record::Epoch(epoch)], message);
            return;
        }
        let Some(body) = message.body.clone() else {
            cx.warn("the master said something that this version does not know; ignored");
            return;
        };
        match (self.link.state, body) {
            (LinkState::Greeting, FromMaster::Welcome(welcome)) => {
                self.on_welcome(cx, &welcome, message);
            }
            (LinkState::Greeting, FromMaster::Refused(refused)) => self.on_refused(cx, &refused),
            (LinkState::Up, body) => self.on_order(cx, body),
            (LinkState::Greeting, FromMaster::Shutdown(shutdown)) => {
                self.on_shutdown(cx, shutdown.message.as_deref());
            }
            _ => {
                cx.warn("the master gave an order before its welcome; dialling anew");
                self.hang_up(cx);
                self.back_off(cx);
            }
        }
    }

    /// Flushes records before `message`, and what follows it, is acted upon.
    fn settle(&mut self, cx: &mut Cx<'_>, records: Vec<Record>, message: link::MasterMessage) {
        self.link.settling = true;
        self.link.held.push_front(message);
        let after = vec![After::Settled(self.link.last)];
        self.log(cx, records, true, after);
    }

    fn refuse_epoch(&mut self, cx: &mut Cx<'_>, refusal: &EpochRefusal) {
        self.counters.stale_orders += 1;
        if let Some(highest) = &self.ledger.epoch {
            let highest = highest.to_wire();
            self.send(cx, ToMaster::EpochRefused(link::EpochRefused { highest }));
        }
        match refusal {
            EpochRefusal::OtherCluster { .. } => {
                cx.note(NoteLevel::Error, refusal.to_string());
                cx.push(Output::Health(Err(refusal.to_string())));
                // Nothing changes here before a person acts.
                self.link.failures = u32::MAX;
            }
            EpochRefusal::Stale { .. } => cx.warn(refusal.to_string()),
        }
        self.hang_up(cx);
        self.back_off(cx);
    }

    fn on_welcome(
        &mut self,
        cx: &mut Cx<'_>,
        welcome: &link::Welcome,
        message: link::MasterMessage,
    ) {
        let id = match AgentId::from_wire(&welcome.agent_id) {
            Ok(id) => id,
            Err(error) => {
                cx.note(
                    NoteLevel::Error,
                    format!("the master gave no usable id: {error}"),
                );
                self.hang_up(cx);
                self.back_off(cx);
                return;
            }
        };
        match &self.ledger.agent {
            None => return self.settle(cx, vec![Record::Agent { id: Some(id) }], message),
            Some(ours) if *ours == id => {}
            Some(_) if self.ledger.containers.is_empty() && self.ledger.tasks.is_empty() => {
                return self.settle(cx, vec![Record::Agent { id: Some(id) }], message);
            }
            Some(ours) => {
                let words = format!(
                    "the master calls this agent {id}, but it is {ours} and holds tasks under that name; \
                     it stays away until one of the two changes"
                );
                cx.note(NoteLevel::Error, words.clone());
                cx.push(Output::Health(Err(words)));
                self.link.failures = u32::MAX;
                self.hang_up(cx);
                self.back_off(cx);
                return;
            }
        }
        self.link.state = LinkState::Up;
        self.link.failures = 0;
        self.link.hops = 0;
        self.link.silence = Millis(welcome.silence_ms).max(SILENCE_MIN);
        self.timers.clear(&Timer::Greet);
        self.timers
            .set(Timer::Silence, cx.now.mono + self.link.silence);
        self.counters.registrations += 1;
        cx.push(Output::Health(Ok(())));
        cx.info(format!("registered as {id}"));
        self.send_heads(cx, None);
    }

    fn on_refused(&mut self, cx: &mut Cx<'_>, refused: &link::Refused) {
        let words = format!("the master refused this agent: {}", refused.reason);
        cx.push(Output::Health(Err(words.clone())));
        self.hang_up(cx);
        if refused.retry.unwrap_or(false) {
            cx.warn(words);
            self.back_off(cx);
        } else {
            // Another leader may think otherwise; the same one is not asked again.
            cx.note(NoteLevel::Error, words);
        }
    }

    pub(super) fn on_ping(&mut self, cx: &mut Cx<'_>, sequence: u64) {
        self.send(cx, ToMaster::Pong(link::Pong { sequence }));
    }
}
