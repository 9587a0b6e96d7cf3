//! The end of instances and tasks. The wish is durable before the kill is sent; the driver repeats a kill until the end
//! was seen.
//!
//! Invariant: only what this file marks is ever killed, and tasks of incarnations that were replaced.

use super::Core;
use super::instance::{Goal, InstanceId, KillReason, Phase};
use super::io::Output;

impl Core {
    /// Ends an instance for good.
    pub(super) fn decommission(&mut self, id: &InstanceId, out: &mut Vec<Output>) {
        let now = self.now.mono;
        let Some(instance) = self.instances.get_mut(id) else {
            return;
        };
        let was_marked = Self::is_sentenced(instance);
        match instance.phase {
            Phase::Expunged => return,
            Phase::Scheduled => return self.remove_instance(id),
            Phase::Unreachable { .. } => {
                // It cannot be waited for; its record stays, so that it is ended should it come back.
                instance.goal = Goal::Decommissioned;
                instance.kill = Some(KillReason::Decommissioned);
                instance.enter(Phase::Expunged, now);
            }
            Phase::Provisioned
            | Phase::Staging
            | Phase::Starting
            | Phase::Running
            | Phase::Killing => {
                if was_marked {
                    return;
                }
                instance.goal = Goal::Decommissioned;
                instance.kill = Some(KillReason::Decommissioned);
            }
        }
        let has_task = instance.has_task();
        // Rules no longer count it.
        self.demand.fresh = true;
        self.health.unwatch(id);
        self.put_instance(id);
        if has_task {
            self.send_kill(id, out);
        }
        self.arm(id);
        self.dirty.insert(id.app().clone());
    }

    /// Ends an instance's task; the next incarnation follows.
    pub(super) fn kill_task(&mut self, id: &InstanceId, reason: KillReason, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get_mut(id) else {
            return;
        };
        let out_of_reach = matches!(instance.phase, Phase::Unreachable { .. });
        if !instance.has_task() || instance.kill.is_some() || out_of_reach {
            return;
        }
        instance.kill = Some(reason);
        self.health.unwatch(id);
        self.put_instance(id);
        self.send_kill(id, out);
        self.arm(id);
        self.dirty.insert(id.app().clone());
    }
}
