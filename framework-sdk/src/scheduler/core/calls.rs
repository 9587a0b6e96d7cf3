//! Writing calls for the wire, and statuses of tasks that were never launched.

use mezzo_model::ids::{AgentId, FrameworkId, OfferId, TaskId};
use mezzo_model::time::Now;
use mezzo_wire::v1;
use mezzo_wire::v1::scheduler::{Call, call};
use mezzo_wire::v1::task_status::{Reason, Source};

use super::outbound::Queued;
use super::{DriverCore, DriverOutput, KillWish};
use crate::scheduler::{AckOf, AckToken, SchedulerEvent};

/// Why tasks were never launched.
#[derive(Clone, Debug)]
pub(super) enum Dropped {
    /// There was no master to send the accept to.
    Disconnected,
    /// The offers belong to a subscription that has ended, or were rescinded.
    Void,
    /// The master refused the call, in these words.
    Refused(String),
}

/// The SUBSCRIBE call.
pub(super) fn subscribe(
    framework: &v1::FrameworkInfo,
    id: Option<&FrameworkId>,
    suppressed_roles: Vec<String>,
) -> Call {
    let id = id.map(FrameworkId::to_wire);
    let framework_info = v1::FrameworkInfo {
        id: id.clone(),
        ..framework.clone()
    };
    Call {
        framework_id: id,
        r#type: Some(call::Type::Subscribe as i32),
        subscribe: Some(call::Subscribe {
            framework_info,
            suppressed_roles,
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn offer_ids(offers: &[OfferId]) -> Vec<v1::OfferId> {
    offers.iter().map(OfferId::to_wire).collect()
}

/// Any other call. `wish` is what is known of the kill that `queued` may be.
pub(super) fn submit(framework: &FrameworkId, queued: &Queued, wish: Option<&KillWish>) -> Call {
    let mut call = Call {
        framework_id: Some(framework.to_wire()),
        ..Default::default()
    };
    let kind = match queued.clone() {
        Queued::Accept {
            offers,
            operations,
            filters,
        } => {
            let offer_ids = offer_ids(&offers);
            call.accept = Some(call::Accept {
                offer_ids,
                operations,
                filters,
            });
            call::Type::Accept
        }
        Queued::Decline { offers, filters } => {
            call.decline = Some(call::Decline {
                offer_ids: offer_ids(&offers),
                filters,
            });
            call::Type::Decline
        }
        Queued::Kill(task) => {
            call.kill = Some(kill(&task, wish));
            call::Type::Kill
        }
        Queued::Acknowledge(ack) => {
            call.acknowledge = Some(acknowledge(&ack));
            call::Type::Acknowledge
        }
        Queued::Reconcile(tasks) => {
            call.reconcile = Some(reconcile(&tasks));
            call::Type::Reconcile
        }
        Queued::Revive(roles) => {
            call.revive = Some(call::Revive { roles });
            call::Type::Revive
        }
        Queued::Suppress(roles) => {
            call.suppress = Some(call::Suppress { roles });
            call::Type::Suppress
        }
        Queued::Message {
            agent,
            executor,
            data,
        } => {
            call.message = Some(call::Message {
                agent_id: agent.to_wire(),
                executor_id: executor.to_wire(),
                data,
            });
            call::Type::Message
        }
        Queued::Shutdown { agent, executor } => {
            call.shutdown = Some(call::Shutdown {
                executor_id: executor.to_wire(),
                agent_id: agent.to_wire(),
            });
            call::Type::Shutdown
        }
        Queued::Teardown => call::Type::Teardown,
    };
    call.r#type = Some(kind as i32);
    call
}

fn kill(task: &TaskId, wish: Option<&KillWish>) -> call::Kill {
    call::Kill {
        task_id: task.to_wire(),
        agent_id: wish
            .and_then(|wish| wish.agent.as_ref())
            .map(AgentId::to_wire),
        kill_policy: wish.and_then(|wish| wish.policy),
    }
}

fn acknowledge(ack: &AckOf) -> call::Acknowledge {
    call::Acknowledge {
        agent_id: ack.agent.to_wire(),
        task_id: ack.task.to_wire(),
        uuid: ack.uuid.to_vec().into(),
    }
}

fn reconcile(tasks: &[(TaskId, Option<AgentId>)]) -> call::Reconcile {
    let asked = |(task, agent): &(TaskId, Option<AgentId>)| call::reconcile::Task {
        task_id: task.to_wire(),
        agent_id: agent.as_ref().map(AgentId::to_wire),
    };
    call::Reconcile {
        tasks: tasks.iter().map(asked).collect(),
    }
}

/// The tasks that operations would launch.
fn launches(operations: &[v1::offer::Operation]) -> impl Iterator<Item = &v1::TaskInfo> {
    operations.iter().flat_map(|operation| {
        let single = operation
            .launch
            .iter()
            .flat_map(|launch| &launch.task_infos);
        let group = operation
            .launch_group
            .iter()
            .flat_map(|launch| &launch.task_group.tasks);
        single.chain(group)
    })
}

impl DriverCore {
    /// Tells the framework that tasks were not launched, in the way a master would have told it.
    pub(super) fn drop_launches(
        &self,
        now: Now,
        operations: &[v1::offer::Operation],
        why: Dropped,
        out: &mut Vec<DriverOutput>,
    ) {
        let dropped = if self.partition_aware {
            v1::TaskState::TaskDropped
        } else {
            v1::TaskState::TaskLost
        };
        let (state, reason, message) = match why {
            Dropped::Disconnected => (
                dropped,
                Reason::MasterDisconnected,
                "No master was there to launch it".to_owned(),
            ),
            Dropped::Void => (
                dropped,
                Reason::InvalidOffers,
                "Its offers are no longer valid".to_owned(),
            ),
            Dropped::Refused(words) => (v1::TaskState::TaskError, Reason::TaskInvalid, words),
        };
        for task in launches(operations) {
            let status = v1::TaskStatus {
                task_id: task.task_id.clone(),
                state: state as i32,
                message: Some(message.clone()),
                source: Some(Source::Master as i32),
                reason: Some(reason as i32),
                agent_id: Some(task.agent_id.clone()),
                timestamp: Some(now.wall.as_secs_f64()),
                ..Default::default()
            };
            Self::deliver(
                SchedulerEvent::Update {
                    status,
                    ack: AckToken::none(),
                },
                out,
            );
        }
    }
}
