//! The schedulers' door over gRPC: `Subscribe` opens a stream of events, `Submit` takes every other call.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;
use mezzo_door::Principal;
use mezzo_wire::grpc;
use mezzo_wire::v1::scheduler::scheduler_server::Scheduler;
use mezzo_wire::v1::scheduler::{Ack, Call, Event};
use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status};

use super::desk::{Brought, Desk, EVENTS_MAX, Gone, Way, status, term_over};
use crate::keys::ConnId;

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

/// The events of one scheduler. Dropped when its connection ends, which the core then learns.
#[derive(Debug)]
pub struct Events {
    events: mpsc::Receiver<Event>,
    conn: ConnId,
    way: Way,
}

impl Stream for Events {
    type Item = Result<Event, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.poll_recv(cx).map(|event| event.map(Ok))
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.way.tell_gone(Gone::Scheduler(self.conn));
    }
}

fn principal<T>(request: &Request<T>) -> Option<Arc<str>> {
    request.extensions().get::<Principal>().map(|principal| principal.0.clone())
}

/// The stream id in the metadata; what is no text is none that was ever given.
fn stream_id<T>(request: &Request<T>) -> Option<String> {
    let id = request.metadata().get(grpc::STREAM_ID)?;
    Some(id.to_str().unwrap_or("<unreadable>").to_owned())
}

#[tonic::async_trait]
impl Scheduler for Door {
    type SubscribeStream = Events;

    async fn subscribe(&self, request: Request<Call>) -> Result<Response<Events>, Status> {
        let way = self.desk.way()?;
        let conn = ConnId(self.desk.number());
        let (opened, is_open) = oneshot::channel();
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let subscribe = Brought::Subscribe {
            conn,
            principal: principal(&request),
            stream_id: stream_id(&request),
            call: Box::new(request.into_inner()),
            opened,
            events: sender,
        };
        way.bring(subscribe).await?;
        // From here on the core may know the stream: whatever ends this call tells it so.
        let events = Events { events, conn, way };
        let stream_id = is_open.await.map_err(|_| term_over())?.map_err(|why| status(&why))?;
        let mut response = Response::new(events);
        let id = stream_id.parse().map_err(|_| Status::internal("the stream id is no text"))?;
        response.metadata_mut().insert(grpc::STREAM_ID, id);
        Ok(response)
    }

    async fn submit(&self, request: Request<Call>) -> Result<Response<Ack>, Status> {
        let way = self.desk.way()?;
        let (answer, answered) = oneshot::channel();
        let call = Brought::Call {
            principal: principal(&request),
            stream_id: stream_id(&request),
            call: Box::new(request.into_inner()),
            answer,
        };
        way.bring(call).await?;
        answered.await.map_err(|_| term_over())?.map_err(|why| status(&why))?;
        Ok(Response::new(Ack {}))
    }
}
