//! What must be true of the core between two inputs, whatever came in.

use std::fmt;

use super::Core;
use super::record::{state_of, update_id};
use super::state::{LinkState, Stage};
use super::timers::Timer;

/// Something that must never be is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(pub String);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Broken {}

macro_rules! must {
    ($holds:expr, $($words:tt)+) => {
        if !$holds {
            return Err(Broken(format!($($words)+)));
        }
    };
}

impl Core {
    /// Looks at the whole state. Costs a walk over everything; for tests and the simulator.
    ///
    /// # Errors
    /// The first thing that is not as it must be, in words.
    pub fn check_invariants(&self) -> Result<(), Broken> {
        self.check_tasks()?;
        self.check_streams()?;
        self.check_executors()?;
        self.check_timers()?;
        self.check_link()
    }

    fn check_tasks(&self) -> Result<(), Broken> {
        let live = self.ledger.tasks.values();
        let live = live.filter(|entry| !entry.state().is_terminal()).count();
        must!(
            live == self.ledger.live(),
            "{live} tasks live, {} are counted",
            self.ledger.live()
        );
        for (key, entry) in &self.ledger.tasks {
            let id = &key.1;
            let state = entry.state();
            match &entry.record.container {
                Some(container) if !state.is_terminal() => {
                    let holds = self
                        .ledger
                        .containers
                        .get(container)
                        .is_some_and(|entry| entry.tasks.contains(id));
                    must!(
                        holds,
                        "task {id} is {state} and its container does not hold it"
                    );
                }
                None => must!(
                    state.is_terminal(),
                    "task {id} is {state} and has no container"
                ),
                Some(_) => {}
            }
            for (at, status) in entry.pending.iter().enumerate() {
                let last = at + 1 == entry.pending.len();
                must!(
                    update_id(status).is_some(),
                    "an update of task {id} has no id"
                );
                must!(
                    last || !state_of(status).is_terminal(),
                    "task {id} has an update after its end"
                );
            }
            must!(
                !state.is_terminal() || !entry.pending.is_empty(),
                "task {id} has ended, acknowledged, and is not forgotten"
            );
            must!(
                entry.pending.is_empty()
                    || self.streams.contains_key(key)
                    || self.stage == Stage::New,
                "task {id} has updates and no stream"
            );
        }
        Ok(())
    }

    fn check_streams(&self) -> Result<(), Broken> {
        for (key, stream) in &self.streams {
            let id = &key.1;
            let Some(entry) = self.ledger.tasks.get(key) else {
                return Err(Broken(format!("task {id} is forgotten and has a stream")));
            };
            must!(
                stream.durable <= entry.pending.len(),
                "more of the stream of task {id} is safe than there is"
            );
            must!(
                !stream.in_flight || stream.durable > 0,
                "the head of task {id} was sent before it was safe"
            );
            let told = stream.state.is_terminal();
            must!(
                !told || stream.durable == entry.pending.len(),
                "task {id} is told to have ended and its end is not safe"
            );
        }
        Ok(())
    }

    fn check_executors(&self) -> Result<(), Broken> {
        if self.stage == Stage::New {
            return Ok(());
        }
        for id in self.ledger.containers.keys() {
            must!(
                self.executors.contains_key(id),
                "container {id} has no executor state"
            );
        }
        for (id, executor) in &self.executors {
            let Some(entry) = self.ledger.containers.get(id) else {
                return Err(Broken(format!(
                    "executor state of an unknown container {id}"
                )));
            };
            must!(
                !executor.subscribed || executor.conn.is_some(),
                "the executor in {id} is subscribed on no connection"
            );
            if let Some(conn) = executor.conn {
                must!(
                    self.connections.get(&conn) == Some(id),
                    "connection {conn} is not that of container {id}"
                );
            }
            for task in executor.queue.iter().flat_map(|queued| &queued.tasks) {
                must!(
                    entry.tasks.contains(task),
                    "task {task} waits for an executor and has ended"
                );
            }
        }
        for (name, container) in &self.ledger.executors {
            must!(
                self.ledger.containers.contains_key(container),
                "executor {} points to a container that is gone",
                name.1
            );
        }
        Ok(())
    }

    fn check_timers(&self) -> Result<(), Broken> {
        for timer in self.timers.iter() {
            let known = match timer {
                Timer::Subscribe(id) | Timer::End(id) => self.executors.contains_key(id),
                Timer::Resend(task) => self.streams.contains_key(task),
                Timer::Dial => self.link.state == LinkState::Waiting,
                Timer::Greet => {
                    matches!(self.link.state, LinkState::Dialling | LinkState::Greeting)
                }
                Timer::Silence => self.link.state == LinkState::Up,
                Timer::Collect => true,
            };
            must!(known, "a timer is set for nothing: {timer:?}");
        }
        Ok(())
    }

    fn check_link(&self) -> Result<(), Broken> {
        must!(
            self.link.settling || self.link.held.is_empty(),
            "messages of the master wait for nothing"
        );
        let up = self.is_up();
        must!(
            up || self.streams.values().all(|stream| !stream.in_flight),
            "updates are in flight and there is no connection"
        );
        must!(
            !up || self.ledger.agent.is_some(),
            "the agent is registered without an id"
        );
        Ok(())
    }
}
