//! `POST /api/v1`: operators' calls.

use axum::extract::Request;
use axum::response::Response;
use mezzo_wire::v1::master::Call;
use mezzo_wire::v1::master::call::Type;
use tokio::sync::oneshot;

use super::Door;
use super::answer::{self, Refused};
use super::ladder;
use super::media::Media;
use super::scheduler::over;
use crate::core::Refusal;
use crate::front::{Knock, Office};

/// Answers a call.
pub(super) async fn serve(door: &Door, request: Request) -> Result<Response, Refused> {
    let climbed = ladder::climb::<Call>(door, request).await?;
    let kind = check(&climbed.call)
        .map_err(|reason| Refusal::bad(format!("Failed to validate master::Call: {reason}")))?;
    let media = Media::of_answer(&climbed.headers)?;
    match kind {
        Type::Unknown => {
            return Err(Refusal::new(501, "Received a call of type UNKNOWN").into());
        }
        Type::Subscribe => {
            let words =
                "the stream of events for operators is not served by this version of the master";
            return Err(Refusal::new(501, words).into());
        }
        _ => {}
    }
    let read = door.reads.answer(&climbed.office, kind).await;
    let Some(read) = read.map_err(|_| over())? else {
        submit(&climbed.office, climbed.call).await?;
        return Ok(answer::empty(200));
    };
    // Everything of a large cluster takes a while to write, and nobody else should wait for it.
    let body = tokio::task::spawn_blocking(move || media.write(&read));
    let body = body
        .await
        .map_err(|_| Refusal::new(500, "the answer could not be written"))?;
    Ok(answer::of_kind(media.name(), body))
}

/// Hands a call that changes something to the core.
pub(super) async fn submit(office: &Office, call: Call) -> Result<(), Refusal> {
    let (answer, answered) = oneshot::channel();
    let knock = Knock::Operator {
        call: Box::new(call),
        answer,
    };
    office.knock(knock).await.map_err(|_| over())?;
    answered.await.map_err(|_| over())?
}

/// The type of a call whose parts are there.
fn check(call: &Call) -> Result<Type, String> {
    let kind = call.r#type.and_then(|kind| Type::try_from(kind).ok());
    let Some(kind) = kind else {
        return Err(String::from("Expecting 'type' to be present"));
    };
    let (part, is_there) = match kind {
        Type::GetMetrics => ("get_metrics", call.get_metrics.is_some()),
        Type::SetLoggingLevel => ("set_logging_level", call.set_logging_level.is_some()),
        Type::ListFiles => ("list_files", call.list_files.is_some()),
        Type::ReadFile => ("read_file", call.read_file.is_some()),
        Type::UpdateWeights => ("update_weights", call.update_weights.is_some()),
        Type::ReserveResources => ("reserve_resources", call.reserve_resources.is_some()),
        Type::UnreserveResources => ("unreserve_resources", call.unreserve_resources.is_some()),
        Type::CreateVolumes => ("create_volumes", call.create_volumes.is_some()),
        Type::DestroyVolumes => ("destroy_volumes", call.destroy_volumes.is_some()),
        Type::GrowVolume => ("grow_volume", call.grow_volume.is_some()),
        Type::ShrinkVolume => ("shrink_volume", call.shrink_volume.is_some()),
        Type::UpdateMaintenanceSchedule => (
            "update_maintenance_schedule",
            call.update_maintenance_schedule.is_some(),
        ),
        Type::StartMaintenance => ("start_maintenance", call.start_maintenance.is_some()),
        Type::StopMaintenance => ("stop_maintenance", call.stop_maintenance.is_some()),
        Type::DrainAgent => ("drain_agent", call.drain_agent.is_some()),
        Type::DeactivateAgent => ("deactivate_agent", call.deactivate_agent.is_some()),
        Type::ReactivateAgent => ("reactivate_agent", call.reactivate_agent.is_some()),
        Type::UpdateQuota => ("update_quota", call.update_quota.is_some()),
        Type::SetQuota => ("set_quota", call.set_quota.is_some()),
        Type::RemoveQuota => ("remove_quota", call.remove_quota.is_some()),
        Type::Teardown => ("teardown", call.teardown.is_some()),
        Type::MarkAgentGone => ("mark_agent_gone", call.mark_agent_gone.is_some()),
        Type::Unknown
        | Type::GetHealth
        | Type::GetFlags
        | Type::GetVersion
        | Type::GetLoggingLevel
        | Type::GetState
        | Type::GetAgents
        | Type::GetFrameworks
        | Type::GetExecutors
        | Type::GetOperations
        | Type::GetTasks
        | Type::GetRoles
        | Type::GetWeights
        | Type::GetMaster
        | Type::Subscribe
        | Type::GetMaintenanceStatus
        | Type::GetMaintenanceSchedule
        | Type::GetQuota => return Ok(kind),
    };
    if is_there {
        Ok(kind)
    } else {
        Err(format!("Expecting '{part}' to be present"))
    }
}
