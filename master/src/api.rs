//! The doors: gRPC services and HTTP side by side on the master's port. Each turns a request into a knock and waits for
//! the answer; the words and numbers of refusals come from the core.

mod agents;
mod http;
mod operator;
pub(crate) mod reads;
mod sandbox;
mod scheduler;

use std::sync::Arc;

use axum::Router;
use mezzo_door::{Guard, Vitals};
use mezzo_model::credentials::Credentials;
use mezzo_wire::link::link_server::LinkServer;
use mezzo_wire::link::sandbox_server::SandboxServer;
use mezzo_wire::v1::master::operator_server::OperatorServer;
use mezzo_wire::v1::scheduler::scheduler_server::SchedulerServer;
use tonic::service::Routes;

use crate::front::Front;
use reads::{About, Reads};

/// The largest call of a scheduler or an operator, in bytes.
pub const MAX_CALL_BYTES: usize = 16 << 20;

/// The largest message of an agent, in bytes: a hello lists every task that it holds.
pub const MAX_AGENT_MESSAGE_BYTES: usize = 256 << 20;

/// Everything on the port: what no gRPC service takes is HTTP.
pub fn routes(
    vitals: &Vitals,
    front: &Front,
    about: About,
    credentials: Option<&Arc<Credentials>>,
) -> Router {
    let reads = Reads::new(about);
    let guard = |realm| Guard::new(credentials.cloned(), realm, &["/health"]);
    let pages = guard("mesos-master-readonly").protect(vitals.routes());
    let services = guard("mesos-master-readwrite").protect(services(front, &reads));
    let health = vitals.health.clone();
    let other = http::routes(front.clone(), reads, health, credentials);
    pages.merge(services).fallback_service(other)
}

/// All gRPC services, as routes.
fn services(front: &Front, reads: &Reads) -> Router {
    let scheduler = SchedulerServer::new(scheduler::Door::new(front.clone()))
        .max_decoding_message_size(MAX_CALL_BYTES)
        .max_encoding_message_size(usize::MAX);
    let operator = OperatorServer::new(operator::Door::new(front.clone(), reads.clone()))
        .max_decoding_message_size(MAX_CALL_BYTES)
        .max_encoding_message_size(usize::MAX);
    let link = LinkServer::new(agents::Door::new(front.clone()))
        .max_decoding_message_size(MAX_AGENT_MESSAGE_BYTES)
        .max_encoding_message_size(usize::MAX);
    let sandbox = SandboxServer::new(sandbox::Door::new(front.clone()))
        .max_decoding_message_size(MAX_CALL_BYTES);
    Routes::new(scheduler)
        .add_service(operator)
        .add_service(link)
        .add_service(sandbox)
        .into_axum_router()
        .reset_fallback()
}
