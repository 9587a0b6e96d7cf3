//! `/v2/queue`: what waits, and why.

use std::collections::BTreeMap;

use mezzo_model::resources::{Resource, Value as Amount};
use serde_json::{Value, json};

use super::{Call, Response, refusals};
use crate::core::app::render;
use crate::core::app_id::AppId;
use crate::core::placement::reasons::{OfferStats, Reason, UnusedOffer};
use crate::core::request::{ApiCall, QueueView, Refusal};

pub(super) fn read(call: &Call<'_>) -> Result<ApiCall, Response> {
    let rest: Vec<&str> = call.rest.iter().map(String::as_str).collect();
    match (call.method, rest.as_slice()) {
        ("GET", []) => Ok(ApiCall::Queue {
            last_unused_offers: call
                .query
                .all("embed")
                .any(|embed| embed == "lastUnusedOffers"),
        }),
        ("DELETE", [id @ .., "delay"]) if !id.is_empty() => {
            let raw = format!("/{}", id.join("/"));
            let id = AppId::parse(&raw).map_err(|_| refusals::refused(&Refusal::NoApp(raw)))?;
            Ok(ApiCall::ResetDelay(id))
        }
        (_, [] | [.., "delay"]) => Err(call.method_not_allowed()),
        _ => Err(Response::message(404, "URI not found")),
    }
}

/// The queue.
pub(super) fn queue(views: &[QueueView]) -> Value {
    json!({ "queue": views.iter().map(entry).collect::<Vec<_>>() })
}

fn entry(view: &QueueView) -> Value {
    let stats = &view.stats;
    let mut summary = json!({
        "processedOffersCount": stats.processed,
        "unusedOffersCount": stats.unused,
        "rejectSummaryLastOffers": funnel(&stats.last_refusals(), None),
        "rejectSummaryLaunchAttempt": funnel(&stats.since_launch, Some(stats)),
    });
    if let Some(at) = stats.last_unused_at {
        summary["lastUnusedOfferAt"] = json!(at.to_string());
    }
    if let Some(at) = stats.last_used_at {
        summary["lastUsedOfferAt"] = json!(at.to_string());
    }
    let mut entry = json!({
        "app": Value::Object(render::app(&view.spec)),
        "count": view.count,
        "role": view.spec.role,
        "since": view.since.to_string(),
        "delay": {
            "timeLeftSeconds": view.delay_left_ms.div_ceil(1000),
            "overdue": view.delay_left_ms == 0,
        },
        "processedOffersSummary": summary,
    });
    if view.last_unused_offers {
        entry["lastUnusedOffers"] = stats.last_offers.iter().map(unused).collect();
    }
    entry
}

/// All reasons in the order of the funnel, each with how many offers came so far.
fn funnel(declined: &BTreeMap<Reason, u64>, stats: Option<&OfferStats>) -> Value {
    let all: u64 = declined.values().sum();
    let mut left = stats.map_or(all, |stats| stats.processed);
    let steps = Reason::FUNNEL.iter().map(|(reason, name)| {
        let here = declined.get(reason).copied().unwrap_or(0);
        let step = json!({ "reason": name, "declined": here, "processed": left });
        left = left.saturating_sub(here);
        step
    });
    steps.collect()
}

fn unused(offer: &UnusedOffer) -> Value {
    let attributes: Vec<Value> = offer
        .attributes
        .iter()
        .map(|(name, text)| json!({ "name": name, "text": text }))
        .collect();
    json!({
        "offer": {
            "id": offer.id,
            "hostname": offer.host,
            "agentId": offer.agent,
            "resources": offer.resources.iter().map(resource).collect::<Vec<_>>(),
            "attributes": attributes,
        },
        "reason": [offer.reason.as_str()],
        "timestamp": offer.at.to_string(),
    })
}

fn resource(resource: &Resource) -> Value {
    let role = resource
        .reservation_role()
        .map_or("*", |role| role.as_str());
    let mut out = json!({ "name": &*resource.name, "role": role });
    match &resource.value {
        Amount::Scalar(amount) => out["scalar"] = render::amount(*amount),
        Amount::Ranges(ranges) => {
            let pairs = ranges.intervals().iter();
            out["ranges"] = pairs
                .map(|(begin, end)| json!({ "begin": begin, "end": end }))
                .collect();
        }
        Amount::Set(words) => out["set"] = words.iter().map(|word| json!(&**word)).collect(),
    }
    out
}
