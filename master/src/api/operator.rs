//! The operators' door over gRPC. What only looks is answered by the read model; the core never sees it.

use std::pin::Pin;

use futures_util::Stream;
use mezzo_wire::grpc;
use mezzo_wire::v1::master::operator_server::Operator;
use mezzo_wire::v1::master::{Call, Event, Response as Answer, call};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

use super::desk::{Brought, Desk, status, term_over};

/// The door.
#[derive(Debug)]
pub struct Door {
    desk: Desk,
}

impl Door {
    /// A door that hands over at this desk.
    pub fn new(desk: Desk) -> Self {
        Self { desk }
    }
}

/// Whether a call changes nothing.
fn only_looks(kind: call::Type) -> bool {
    kind.as_str_name().starts_with("GET_")
}

#[tonic::async_trait]
impl Operator for Door {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<Event, Status>> + Send>>;

    async fn submit(&self, request: Request<Call>) -> Result<Response<Answer>, Status> {
        let call = request.into_inner();
        let way = self.desk.way()?;
        if call.r#type.is_none() {
            let text = "Failed to validate master::Call: Expecting 'type' to be present";
            return Err(grpc::refuse(400, text));
        }
        if only_looks(call.r#type()) {
            let answer = way.reader.answer(call).await.map_err(|why| status(&why))?;
            return Ok(Response::new(answer));
        }
        let (answer, answered) = oneshot::channel();
        way.bring(Brought::Operator { call: Box::new(call), answer }).await?;
        answered.await.map_err(|_| term_over())?.map_err(|why| status(&why))?;
        Ok(Response::new(Answer::default()))
    }

    async fn subscribe(
        &self,
        _request: Request<Call>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        self.desk.way()?;
        Err(grpc::refuse(501, "The event stream of operators is not served by this version"))
    }
}
