//! The doors of a master: what comes in over gRPC becomes an input of the core, and what the core puts out goes back.
//!
//! Invariant: a door has no behaviour of its own. It recognises who speaks, hands the very same value to the core that any
//! other door would, and maps a refusal's HTTP status by the table in `mezzo_wire::grpc`.

pub mod desk;
mod link;
mod operator;
mod sandbox;
mod scheduler;

use axum::Router;
use mezzo_wire::link::link_server::LinkServer;
use mezzo_wire::link::sandbox_server::SandboxServer;
use mezzo_wire::v1::master::operator_server::OperatorServer;
use mezzo_wire::v1::scheduler::scheduler_server::SchedulerServer;
use tonic::service::Routes;

use desk::Desk;

/// The largest message that is read: a greeting of an agent with all its tasks, or an accept with as many launches.
pub const MESSAGE_MAX_BYTES: usize = 64 * 1024 * 1024;

/// All gRPC services of a master.
pub fn routes(desk: &Desk) -> Router {
    let scheduler = SchedulerServer::new(scheduler::Door::new(desk.clone()))
        .max_decoding_message_size(MESSAGE_MAX_BYTES);
    let link = LinkServer::new(link::Door::new(desk.clone()))
        .max_decoding_message_size(MESSAGE_MAX_BYTES);
    let operator = OperatorServer::new(operator::Door::new(desk.clone()))
        .max_decoding_message_size(MESSAGE_MAX_BYTES);
    let sandbox = SandboxServer::new(sandbox::Door::new(desk.clone()));
    let mut routes = Routes::builder();
    routes.add_service(scheduler);
    routes.add_service(link);
    routes.add_service(operator);
    routes.add_service(sandbox);
    routes.routes().prepare().into_axum_router()
}
