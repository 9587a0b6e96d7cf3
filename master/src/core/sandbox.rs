//! Reads of sandboxes: a reader asks the master, the agent answers over its own link, the master passes pieces on. It
//! reads only, and knows nothing of files.

use mezzo_model::ids::{FrameworkId, TaskId};
use mezzo_wire::link;
use mezzo_wire::link::master_message::Body;

use super::config::MAX_READS;
use super::{Core, Cx, Output};
use crate::keys::{AgentKey, ReadId};

/// A read under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read {
    agent: AgentKey,
    /// Its name on the link.
    request: u64,
}

impl Core {
    pub(super) fn on_read_sandbox(
        &mut self,
        cx: &mut Cx<'_>,
        read: ReadId,
        request: link::ReadSandbox,
    ) {
        match self.find_sandbox(&request) {
            Ok((agent, framework)) => {
                self.next_read += 1;
                let number = self.next_read;
                self.reads.insert(
                    read,
                    Read {
                        agent,
                        request: number,
                    },
                );
                let order = link::ReadSandbox {
                    request_id: Some(number),
                    framework_id: Some(framework.to_wire()),
                    ..request
                };
                self.order(cx, agent, Body::ReadSandbox(order));
            }
            Err(words) => fail(cx, read, words),
        }
    }

    fn find_sandbox(&self, request: &link::ReadSandbox) -> Result<(AgentKey, FrameworkId), String> {
        if !self.recovered {
            return Err(String::from(
                "the master has not finished recovery; try again",
            ));
        }
        if self.reads.len() >= MAX_READS {
            return Err(format!(
                "{MAX_READS} sandboxes are being read already; try again later"
            ));
        }
        let task = TaskId::from_wire(&request.task_id).map_err(|why| why.to_string())?;
        let wanted = match &request.framework_id {
            Some(id) => Some(FrameworkId::from_wire(id).map_err(|why| why.to_string())?),
            None => None,
        };
        let matches = |id: &FrameworkId| wanted.as_ref().is_none_or(|wanted| wanted == id);
        // Live tasks first, then those that ended.
        let mut found: Vec<(AgentKey, FrameworkId)> = self
            .frameworks
            .values()
            .filter(|framework| matches(&framework.id))
            .filter_map(|framework| Some((*framework.tasks.get(&task)?, framework.id.clone())))
            .collect();
        let mut away = None;
        if found.is_empty() {
            for ((framework, id), agent) in &self.past_tasks {
                if *id == task && matches(framework) {
                    match self.agent_by_id(agent.as_str()) {
                        Some(key) => found.push((key, framework.clone())),
                        None => away = Some(agent.clone()),
                    }
                }
            }
        }
        let lost = self
            .frameworks
            .values()
            .filter(|framework| matches(&framework.id));
        let lost = lost
            .filter_map(|framework| framework.unreachable.get(&task))
            .next();
        away = away.or_else(|| lost.map(|lost| lost.agent.clone()));
        match (found.as_slice(), away) {
            ([(agent, framework)], _) => {
                let is_up = self
                    .agents
                    .get(agent)
                    .is_some_and(|agent| agent.link.is_some());
                if is_up {
                    return Ok((*agent, framework.clone()));
                }
                Err(format!(
                    "the agent of task '{task}' is disconnected; try again when it is back"
                ))
            }
            ([], Some(agent)) => Err(format!(
                "task '{task}' ran on agent {agent}, which is not here now"
            )),
            ([], None) => Err(format!(
                "no task '{task}' is known here; list tasks to see which are"
            )),
            (several, _) => {
                let names: Vec<&str> = several.iter().map(|(_, id)| id.as_str()).collect();
                Err(format!(
                    "several frameworks have a task '{task}'; name one of {}",
                    names.join(", ")
                ))
            }
        }
    }

    pub(super) fn on_cancel_read(&mut self, cx: &mut Cx<'_>, read: ReadId) {
        if let Some(read) = self.reads.remove(&read) {
            let order = link::CancelRead {
                request_id: read.request,
            };
            self.order(cx, read.agent, Body::CancelRead(order));
        }
    }

    pub(super) fn on_chunk(
        &mut self,
        cx: &mut Cx<'_>,
        agent: AgentKey,
        mut chunk: link::SandboxChunk,
    ) {
        let found = self
            .reads
            .iter()
            .find(|(_, read)| read.agent == agent && Some(read.request) == chunk.request_id)
            .map(|(id, _)| *id);
        // The reader is gone, and the agent has not heard of it yet.
        let Some(read) = found else { return };
        chunk.request_id = None;
        if chunk.error.is_some() {
            chunk.end = Some(true);
        }
        if chunk.end.unwrap_or(false) {
            self.reads.remove(&read);
        }
        cx.push(Output::Chunk {
            read,
            chunk: Box::new(chunk),
        });
    }

    /// The agent's link broke: who reads there is told.
    pub(super) fn end_reads_of(&mut self, cx: &mut Cx<'_>, agent: AgentKey, words: &str) {
        let ended: Vec<ReadId> = self
            .reads
            .iter()
            .filter(|(_, read)| read.agent == agent)
            .map(|(id, _)| *id)
            .collect();
        for read in ended {
            self.reads.remove(&read);
            fail(cx, read, words.to_owned());
        }
    }
}

fn fail(cx: &mut Cx<'_>, read: ReadId, words: String) {
    let chunk = link::SandboxChunk {
        error: Some(words),
        end: Some(true),
        ..Default::default()
    };
    cx.push(Output::Chunk {
        read,
        chunk: Box::new(chunk),
    });
}
