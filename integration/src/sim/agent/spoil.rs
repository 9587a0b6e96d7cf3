//! What planted bugs do to an agent's link.

use mezzo_agent::core::Input;
use mezzo_wire::link::{
    AcknowledgeUpdate, AgentMessage, MasterMessage, agent_message, master_message,
};

use super::Agent;
use crate::sim::bugs::Bug;
use crate::sim::payload::Local;
use crate::sim::world::Ctx;

impl Agent {
    /// Planted bugs of the link: what really goes out, if anything does.
    pub(super) fn spoil(
        &mut self,
        ctx: &mut Ctx<'_>,
        link: u64,
        mut message: Box<AgentMessage>,
    ) -> Option<Box<AgentMessage>> {
        match &mut message.body {
            Some(agent_message::Body::Hello(hello)) if ctx.bugs.has(Bug::ForgetfulHello) => {
                let mut keep = false;
                hello.tasks.retain(|_| {
                    keep = !keep;
                    keep
                });
            }
            Some(agent_message::Body::Update(update)) if ctx.bugs.has(Bug::LostTerminal) => {
                if crate::client::is_terminal(update.status.state)
                    && let (Some(uuid), Some(epoch)) = (&update.status.uuid, &self.epoch)
                {
                    let acknowledge = AcknowledgeUpdate {
                        framework_id: update.framework_id.clone(),
                        task_id: update.status.task_id.clone(),
                        uuid: uuid.clone(),
                    };
                    let forged = MasterMessage {
                        epoch: epoch.clone(),
                        body: Some(master_message::Body::Acknowledge(acknowledge)),
                    };
                    let input = Input::FromMaster {
                        link,
                        message: Box::new(forged),
                    };
                    ctx.later(1, Local::Agent(Box::new(input)));
                    return None;
                }
            }
            _ => {}
        }
        Some(message)
    }
}

/// Whether a master's message is an order to kill a task.
pub(super) fn is_kill(message: &MasterMessage) -> bool {
    matches!(message.body, Some(master_message::Body::KillTask(_)))
}
