//! Agents go: links break, pings stay unanswered, the wait after an election ends, an agent says goodbye.
//!
//! The registry is written first; only then are tasks declared unreachable. Declarations can be limited in rate, so
//! that the loss of a switch is not answered as the loss of a thousand machines.

use std::collections::{BTreeSet, VecDeque};

use mezzo_model::ids::AgentId;
use mezzo_model::{Millis, TaskState, Wall};
use mezzo_wire::link;
use mezzo_wire::link::master_message::Body;
use mezzo_wire::v1;
use mezzo_wire::v1::task_status::Reason;

use super::agent::{Agent, Transition};
use super::framework::LostTask;
use super::status::{self, made_here};
use super::timers::Timer;
use super::{Core, Cx, Peer};
use crate::keys::{AgentKey, ConnId};
use crate::read_model::{Change, Fate};
use crate::registry::Act;

/// Agents that wait to be declared unreachable.
#[derive(Debug, Default)]
pub(super) struct Removals {
    queue: VecDeque<AgentId>,
    queued: BTreeSet<AgentId>,
    /// Permits used in the running period.
    used: u32,
    period: Millis,
}

impl Core {
    /// An agent's link is closed.
    pub(super) fn on_agent_gone(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        match self.peers.get(&conn).cloned() {
            None | Some(Peer::Scheduler(_)) => {}
            Some(Peer::Admission(id)) => {
                self.peers.remove(&conn);
                self.admission_lost(&id, conn);
            }
            Some(Peer::Waiting(key)) => {
                self.peers.remove(&conn);
                if let Some(agent) = self.agents.get_mut(&key)
                    && agent
                        .waiting
                        .as_ref()
                        .is_some_and(|(waiting, _)| *waiting == conn)
                {
                    agent.waiting = None;
                }
            }
            Some(Peer::Agent(key)) => {
                self.peers.remove(&conn);
                self.detach(cx, key);
            }
        }
    }

    /// The link is down. The agent has as long to come back as if its pings stayed unanswered.
    fn detach(&mut self, cx: &mut Cx<'_>, key: AgentKey) {
        let Some(agent) = self.agents.get_mut(&key) else {
            return;
        };
        agent.link = None;
        cx.warn(format!("agent {} is disconnected", agent.id));
        self.allocator.set_agent_active(key, false);
        self.rescind_of_agent(cx, key);
        self.end_reads_of(cx, key, "the agent is disconnected");
        self.show_agent(cx, key);
    }

    pub(super) fn on_ping_timer(&mut self, cx: &mut Cx<'_>, key: AgentKey) {
        let most = self.config.max_agent_ping_timeouts;
        let again = cx.now.mono + self.config.agent_ping_timeout;
        let Some(agent) = self.agents.get_mut(&key) else {
            return;
        };
        if agent.missed_pings >= most {
            let id = agent.id.clone();
            if agent.transition.is_none() {
                self.queue_removal(cx, id);
            }
            self.timers.set(Timer::Ping(key), again);
            return;
        }
        agent.missed_pings += 1;
        agent.ping += 1;
        let sequence = agent.ping;
        self.order(cx, key, Body::Ping(link::Ping { sequence }));
        self.timers.set(Timer::Ping(key), again);
    }

    /// Nothing could be heard for a while: silence until now means nothing.
    pub(super) fn on_resumed(&mut self, cx: &mut Cx<'_>) {
        for (key, agent) in &mut self.agents {
            agent.missed_pings = 0;
            self.timers.set(Timer::Ping(*key), cx.now.mono);
        }
        if self.timers.is_set(Timer::Recovery) {
            self.await_agents(cx);
        }
    }

    /// Starts the wait for awaited agents anew.
    pub(super) fn await_agents(&mut self, cx: &mut Cx<'_>) {
        self.timers.set(
            Timer::Recovery,
            cx.now.mono + self.config.agent_reregister_timeout,
        );
    }

    /// The wait after an election is over.
    pub(super) fn on_recovery_timeout(&mut self, cx: &mut Cx<'_>) {
        let missing: Vec<AgentId> = self.awaited.keys().cloned().collect();
        if !missing.is_empty() {
            cx.warn(format!(
                "{} agents of the registry did not come back in time",
                missing.len()
            ));
        }
        for id in missing {
            self.queue_removal(cx, id);
        }
    }

    fn queue_removal(&mut self, cx: &mut Cx<'_>, id: AgentId) {
        if self.removals.queued.insert(id.clone()) {
            self.removals.queue.push_back(id);
        }
        self.on_removal_timer(cx);
    }

    /// Declares as many agents unreachable as the rate allows.
    pub(super) fn on_removal_timer(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        if let Some(limit) = self.config.agent_removal_rate_limit
            && now.since(self.removals.period) >= limit.per
        {
            self.removals.period = now;
            self.removals.used = 0;
        }
        while let Some(id) = self.removals.queue.front().cloned() {
            if let Some(limit) = self.config.agent_removal_rate_limit
                && self.removals.used >= limit.permits
            {
                self.timers
                    .set(Timer::Removal, self.removals.period + limit.per);
                return;
            }
            self.removals.queue.pop_front();
            self.removals.queued.remove(&id);
            if self.start_losing(cx, &id) {
                self.removals.used += 1;
            }
        }
    }

    /// Has the registry write that an agent is unreachable; whether it still is.
    fn start_losing(&mut self, cx: &mut Cx<'_>, id: &AgentId) -> bool {
        let since = cx.now.wall;
        if self.awaited.contains_key(id) {
            self.registrar.push(Act::MarkUnreachable(id.clone(), since));
            return true;
        }
        let Some(key) = self.agent_by_id(id.as_str()) else {
            return false;
        };
        let most = self.config.max_agent_ping_timeouts;
        let Some(agent) = self.agents.get_mut(&key) else {
            return false;
        };
        // A word of it that came while it waited in the queue saves it.
        if agent.missed_pings < most || agent.transition.is_some() {
            return false;
        }
        agent.transition = Some(Transition::Losing(since));
        cx.warn(format!(
            "agent {id} was not heard of for {}; it counts as unreachable",
            self.config.silence()
        ));
        self.allocator.set_agent_active(key, false);
        self.rescind_of_agent(cx, key);
        self.registrar.push(Act::MarkUnreachable(id.clone(), since));
        true
    }

    /// The registry holds the agent as unreachable: it and its tasks leave the books.
    pub(super) fn on_marked_unreachable(&mut self, cx: &mut Cx<'_>, id: &AgentId, since: Wall) {
        self.counters.agents_unreachable += 1;
        if self.awaited.remove(id).is_some() {
            cx.change(Change::AgentNotAwaited(id.clone()));
            self.unreachable.insert(id.clone(), since);
            self.tell_failure(cx, id);
            return;
        }
        let Some(key) = self.agent_by_id(id.as_str()) else {
            // It came back while this was written, which the admission that follows puts right.
            return;
        };
        self.unreachable.insert(id.clone(), since);
        let Some(agent) = self.forget_agent(cx, key) else {
            return;
        };
        let waiting = agent.waiting.is_some();
        let host = agent.info.hostname.clone();
        self.lose_tasks(cx, &agent, since, &format!("Agent {host} is unreachable"));
        cx.change(Change::AgentRemoved(key));
        self.tell_failure(cx, id);
        if waiting {
            self.take_waiting(cx, agent);
        }
    }

    /// Takes an agent out of every book but its tasks', which it still carries.
    fn forget_agent(&mut self, cx: &mut Cx<'_>, key: AgentKey) -> Option<Agent> {
        self.rescind_of_agent(cx, key);
        self.end_reads_of(cx, key, "the agent is gone");
        let agent = self.agents.remove(&key)?;
        self.agent_ids.remove(&agent.id);
        self.timers.clear(Timer::Ping(key));
        if let Some(conn) = agent.conn() {
            self.peers.remove(&conn);
            cx.push(super::Output::Close { conn });
        }
        self.allocator.remove_agent(key);
        for (of, id) in agent.executors.keys() {
            cx.change(Change::ExecutorGone {
                framework: *of,
                agent: key,
                id: id.clone(),
            });
        }
        Some(agent)
    }

    /// Tasks that have not ended may still run: their frameworks are told that nobody knows.
    fn lose_tasks(&mut self, cx: &mut Cx<'_>, agent: &Agent, since: Wall, words: &str) {
        for ((of, id), task) in &agent.tasks {
            if task.is_duplicate {
                continue;
            }
            let Some(framework) = self.frameworks.get_mut(of) else {
                continue;
            };
            framework.tasks.remove(id);
            if task.state.is_terminal() {
                let (fate, state) = (Fate::Completed, task.state);
                cx.change(Change::TaskGone {
                    framework: *of,
                    id: id.clone(),
                    fate,
                    state,
                });
                let framework = framework.id.clone();
                self.remember_task(framework, id.clone(), agent.id.clone());
                continue;
            }
            let state = status::as_known(framework, TaskState::Unreachable);
            let (agent_id, reason) = (agent.id.to_wire(), Reason::AgentRemoved);
            let mut made = made_here(
                &id.to_wire(),
                Some(&agent_id),
                state,
                reason,
                words,
                cx.now.wall,
            );
            made.unreachable_time = Some(v1::TimeInfo {
                nanoseconds: since.as_nanos(),
            });
            cx.change(Change::TaskUpdate {
                framework: *of,
                id: id.clone(),
                state,
                status: made.clone().into(),
            });
            let fate = Fate::Unreachable;
            cx.change(Change::TaskGone {
                framework: *of,
                id: id.clone(),
                fate,
                state,
            });
            cx.tell(framework, status::update(made));
            let lost = LostTask {
                agent: agent.id.clone(),
                since,
            };
            let most = self.config.max_unreachable_tasks_per_framework;
            if let Some(forgotten) = framework.lose(id.clone(), lost, most) {
                cx.change(Change::TaskForgotten {
                    framework: *of,
                    id: forgotten,
                });
            }
        }
    }

    fn tell_failure(&self, cx: &mut Cx<'_>, id: &AgentId) {
        for framework in self.frameworks.values() {
            cx.tell(framework, status::failure(id, None));
        }
    }

    /// The hello that waited for the registry is taken now.
    fn take_waiting(&mut self, cx: &mut Cx<'_>, mut agent: Agent) {
        if let Some((conn, report)) = agent.waiting.take() {
            self.peers.remove(&conn);
            self.take_hello(cx, conn, report);
        }
    }

    /// The agent leaves for good.
    pub(super) fn on_goodbye(&mut self, cx: &mut Cx<'_>, key: AgentKey, message: Option<&str>) {
        let Some(agent) = self.agents.get_mut(&key) else {
            return;
        };
        if agent.transition.is_some() {
            return;
        }
        agent.transition = Some(Transition::Leaving);
        let id = agent.id.clone();
        cx.info(format!(
            "agent {id} leaves: {}",
            message.unwrap_or("no reason given")
        ));
        self.allocator.set_agent_active(key, false);
        self.rescind_of_agent(cx, key);
        self.registrar.push(Act::Remove(id));
    }

    /// The registry has forgotten the agent.
    pub(super) fn on_removed(&mut self, cx: &mut Cx<'_>, id: &AgentId) {
        let Some(key) = self.agent_by_id(id.as_str()) else {
            return;
        };
        self.counters.agents_removed += 1;
        let Some(agent) = self.forget_agent(cx, key) else {
            return;
        };
        for ((of, task_id), task) in &agent.tasks {
            if task.is_duplicate {
                continue;
            }
            let Some(framework) = self.frameworks.get_mut(of) else {
                continue;
            };
            framework.tasks.remove(task_id);
            let mut state = task.state;
            if task.holds() {
                state = status::as_known(framework, TaskState::Gone);
                let words = format!("Agent {} left the cluster", agent.info.hostname);
                let (agent_id, reason) = (agent.id.to_wire(), Reason::AgentRemoved);
                let made = made_here(
                    &task_id.to_wire(),
                    Some(&agent_id),
                    state,
                    reason,
                    words,
                    cx.now.wall,
                );
                cx.change(Change::TaskUpdate {
                    framework: *of,
                    id: task_id.clone(),
                    state,
                    status: made.clone().into(),
                });
                cx.tell(framework, status::update(made));
            }
            let fate = Fate::Completed;
            cx.change(Change::TaskGone {
                framework: *of,
                id: task_id.clone(),
                fate,
                state,
            });
        }
        cx.change(Change::AgentRemoved(key));
        self.tell_failure(cx, id);
        if agent.waiting.is_some() {
            self.take_waiting(cx, agent);
        }
    }

    pub(super) fn on_transition_refused(&mut self, cx: &mut Cx<'_>, id: &AgentId) {
        let Some(key) = self.agent_by_id(id.as_str()) else {
            return;
        };
        let Some(agent) = self.agents.get_mut(&key) else {
            return;
        };
        agent.transition = None;
        let is_linked = agent.link.is_some();
        if let Some((conn, report)) = agent.waiting.take() {
            self.peers.remove(&conn);
            self.take_hello(cx, conn, report);
        }
        self.allocator.set_agent_active(key, is_linked);
    }
}
