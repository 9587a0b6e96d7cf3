//! The shape of a scheduler's call: which parts must be there for its type.

use mezzo_wire::v1::scheduler::Call;
use mezzo_wire::v1::scheduler::call::Type;

use super::Invalid;

/// Checks a call and gives its type.
///
/// # Errors
/// In Mesos' words (`Failed to validate scheduler::Call: ...`).
pub fn check(call: &Call, principal: Option<&str>) -> Result<Type, Invalid> {
    shape(call, principal)
        .map_err(|reason| Invalid::new(format!("Failed to validate scheduler::Call: {reason}")))
}

fn present(part: &str, is: bool) -> Result<(), String> {
    if is {
        Ok(())
    } else {
        Err(format!("Expecting '{part}' to be present"))
    }
}

fn uuid(bytes: &[u8]) -> Result<(), String> {
    if bytes.len() == 16 {
        Ok(())
    } else {
        Err(String::from("Not a valid UUID"))
    }
}

fn shape(call: &Call, principal: Option<&str>) -> Result<Type, String> {
    let Some(kind) = call.r#type else {
        return Err(String::from("Expecting 'type' to be present"));
    };
    // A type that this version does not know reads as absent.
    let kind = Type::try_from(kind).map_err(|_| String::from("Expecting 'type' to be present"))?;
    if kind == Type::Subscribe {
        let Some(subscribe) = &call.subscribe else {
            return Err(String::from("Expecting 'subscribe' to be present"));
        };
        if subscribe.framework_info.id != call.framework_id {
            return Err(String::from(
                "'framework_id' differs from 'subscribe.framework_info.id'",
            ));
        }
        let named = subscribe.framework_info.principal.as_deref();
        if let (Some(proved), Some(named)) = (principal, named)
            && proved != named
        {
            return Err(format!(
                "Authenticated principal '{proved}' does not match principal '{named}' set in \
                 `FrameworkInfo`"
            ));
        }
        return Ok(kind);
    }
    present("framework_id", call.framework_id.is_some())?;
    parts(call, kind)?;
    Ok(kind)
}

fn parts(call: &Call, kind: Type) -> Result<(), String> {
    match kind {
        Type::Unknown | Type::Subscribe | Type::Teardown | Type::Revive | Type::Suppress => Ok(()),
        Type::Accept => present("accept", call.accept.is_some()),
        Type::Decline => present("decline", call.decline.is_some()),
        Type::AcceptInverseOffers => present(
            "accept_inverse_offers",
            call.accept_inverse_offers.is_some(),
        ),
        Type::DeclineInverseOffers => present(
            "decline_inverse_offers",
            call.decline_inverse_offers.is_some(),
        ),
        Type::Kill => present("kill", call.kill.is_some()),
        Type::Shutdown => present("shutdown", call.shutdown.is_some()),
        Type::Acknowledge => match &call.acknowledge {
            None => present("acknowledge", false),
            Some(acknowledge) => uuid(&acknowledge.uuid),
        },
        Type::AcknowledgeOperationStatus => match &call.acknowledge_operation_status {
            None => present("acknowledge_operation_status", false),
            Some(acknowledge) => {
                uuid(&acknowledge.uuid)?;
                present("agent_id", acknowledge.agent_id.is_some())
            }
        },
        Type::Reconcile => present("reconcile", call.reconcile.is_some()),
        Type::ReconcileOperations => {
            present("reconcile_operations", call.reconcile_operations.is_some())
        }
        Type::Message => present("message", call.message.is_some()),
        Type::Request => present("request", call.request.is_some()),
        Type::UpdateFramework => match &call.update_framework {
            None => present("update_framework", false),
            Some(update) if update.framework_info.id != call.framework_id => Err(String::from(
                "'framework_id' differs from 'update_framework.framework_info.id'",
            )),
            Some(_) => Ok(()),
        },
    }
}
