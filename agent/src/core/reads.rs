//! Reads of sandboxes: which directory a task's files lie in, and whether more will come.

use mezzo_model::ids::{FrameworkId, TaskId};
use mezzo_wire::link;
use mezzo_wire::link::agent_message::Body as ToMaster;

use super::io::{Output, Read};
use super::record::{Place, TaskKey};
use super::{Core, Cx};

impl Core {
    pub(super) fn on_read(&mut self, cx: &mut Cx<'_>, read: &link::ReadSandbox) {
        let Some(request) = read.request_id else {
            return cx.warn("the master asked for a file without naming its request; ignored");
        };
        match self.find_sandbox(read) {
            Ok((task, place, live)) => cx.push(Output::Read(Box::new(Read {
                link: self.link.last,
                request,
                task,
                place,
                path: read.path.clone(),
                offset: read.offset.unwrap_or(0),
                length: read.length,
                follow: live && read.follow.unwrap_or(false),
            }))),
            Err(words) => {
                let chunk = link::SandboxChunk {
                    request_id: Some(request),
                    end: Some(true),
                    error: Some(words),
                    ..Default::default()
                };
                self.send(cx, ToMaster::SandboxChunk(chunk));
            }
        }
    }

    /// The sandbox of a task that lives, or the newest one of a task that has ended; and whether it lives.
    fn find_sandbox(&self, read: &link::ReadSandbox) -> Result<(TaskKey, Place, bool), String> {
        let task = TaskId::from_wire(&read.task_id).map_err(|error| error.to_string())?;
        let framework = match &read.framework_id {
            Some(id) => Some(FrameworkId::from_wire(id).map_err(|error| error.to_string())?),
            None => None,
        };
        let ours = |owner: &FrameworkId| framework.as_ref().is_none_or(|id| id == owner);
        let known = match &framework {
            Some(framework) => self
                .ledger
                .tasks
                .get_key_value(&(framework.clone(), task.clone())),
            None => self.ledger.tasks.iter().find(|((_, id), _)| *id == task),
        };
        if let Some((key, entry)) = known
            && let Some(container) = &entry.record.container
        {
            if let Some(live) = self.ledger.containers.get(container) {
                let writes = !entry.state().is_terminal();
                return Ok((key.clone(), live.record.place(), writes));
            }
            if let Some(sandbox) = self.ledger.sandboxes.get(container) {
                return Ok((key.clone(), sandbox.place(), false));
            }
        }
        // A framework's own executor may live on after the task.
        let served = self
            .ledger
            .containers
            .values()
            .find(|entry| ours(&entry.record.framework) && entry.ended_tasks.contains(&task));
        if let Some(entry) = served {
            let key = (entry.record.framework.clone(), task);
            return Ok((key, entry.record.place(), false));
        }
        let newest = self
            .ledger
            .sandboxes_by_age
            .iter()
            .rev()
            .filter_map(|(_, container)| self.ledger.sandboxes.get(container))
            .find(|sandbox| ours(&sandbox.framework) && sandbox.tasks.contains(&task));
        match newest {
            Some(sandbox) => {
                let key = (sandbox.framework.clone(), task);
                Ok((key, sandbox.place(), false))
            }
            None => Err(format!(
                "task {task} has no sandbox on this agent (it never ran here, or its files were removed with age)"
            )),
        }
    }
}
