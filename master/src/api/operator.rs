//! The operators' door: reads are answered by the read model, everything else by the core.

use mezzo_wire::grpc;
use mezzo_wire::v1::master::call::Type;
use mezzo_wire::v1::master::operator_server::Operator;
use mezzo_wire::v1::master::{Call, Event, Response as Answer};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status, async_trait};

use super::reads::Reads;
use crate::front::{self, Front, Inbox, Knock};

/// The door.
#[derive(Clone, Debug)]
pub(super) struct Door {
    front: Front,
    reads: Reads,
}

impl Door {
    pub fn new(front: Front, reads: Reads) -> Self {
        Self { front, reads }
    }
}

#[async_trait]
impl Operator for Door {
    type SubscribeStream = Inbox<Event>;

    async fn submit(&self, request: Request<Call>) -> Result<Response<Answer>, Status> {
        let office = self.front.office()?;
        let call = request.into_inner();
        let kind = call
            .r#type
            .and_then(|kind| Type::try_from(kind).ok())
            .unwrap_or_default();
        let read = self.reads.answer(&office, kind).await;
        if let Some(answer) = read.map_err(|_| front::over())? {
            return Ok(Response::new(answer));
        }
        let (answer, answered) = oneshot::channel();
        office
            .knock(Knock::Operator {
                call: Box::new(call),
                answer,
            })
            .await?;
        answered
            .await
            .map_err(|_| front::over())?
            .map_err(|refusal| front::refused(&refusal))?;
        Ok(Response::new(Answer::default()))
    }

    async fn subscribe(&self, _request: Request<Call>) -> Result<Response<Inbox<Event>>, Status> {
        self.front.office()?;
        Err(grpc::refuse(
            501,
            "the stream of events for operators is not served by this version of the master",
        ))
    }
}
