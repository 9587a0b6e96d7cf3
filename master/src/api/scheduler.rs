//! The schedulers' door: `Subscribe` opens a stream of events, `Submit` takes every other call. The stream id
//! travels in the metadata `mesos-stream-id`, as a header does over HTTP.

use mezzo_wire::grpc;
use mezzo_wire::v1::scheduler::scheduler_server::Scheduler;
use mezzo_wire::v1::scheduler::{Ack, Call, Event};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status, async_trait};

use crate::front::{self, Front, Inbox, Knock};

/// The door.
#[derive(Clone, Debug)]
pub(super) struct Door {
    front: Front,
}

impl Door {
    pub fn new(front: Front) -> Self {
        Self { front }
    }
}

#[async_trait]
impl Scheduler for Door {
    type SubscribeStream = Inbox<Event>;

    async fn subscribe(&self, request: Request<Call>) -> Result<Response<Inbox<Event>>, Status> {
        let office = self.front.office()?;
        let (principal, stream_id) = (front::principal(&request), front::stream_id(&request));
        let connection = office.connection();
        let conn = connection.id;
        // Dropping the stream, now or later, tells the core that the scheduler is gone.
        let (events, stream) = front::stream(connection);
        let (opened, answer) = oneshot::channel();
        let call = Box::new(request.into_inner());
        office
            .knock(Knock::Subscribe {
                conn,
                principal,
                stream_id,
                call,
                opened,
                events,
            })
            .await?;
        let stream_id = answer
            .await
            .map_err(|_| front::over())?
            .map_err(|refusal| front::refused(&refusal))?;
        let mut response = Response::new(stream);
        let id = stream_id
            .as_str()
            .parse()
            .map_err(|_| grpc::refuse(500, "no stream id"))?;
        response.metadata_mut().insert(grpc::STREAM_ID, id);
        Ok(response)
    }

    async fn submit(&self, request: Request<Call>) -> Result<Response<Ack>, Status> {
        let office = self.front.office()?;
        let (principal, stream_id) = (front::principal(&request), front::stream_id(&request));
        let (answer, answered) = oneshot::channel();
        let call = Box::new(request.into_inner());
        office
            .knock(Knock::Call {
                principal,
                stream_id,
                call,
                answer,
            })
            .await?;
        answered
            .await
            .map_err(|_| front::over())?
            .map_err(|refusal| front::refused(&refusal))?;
        Ok(Response::new(Ack::default()))
    }
}
