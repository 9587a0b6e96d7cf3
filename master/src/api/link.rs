//! The agents' door: one stream in each direction for as long as the connection lasts.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use mezzo_door::Stop;
use mezzo_wire::link::link_server::Link;
use mezzo_wire::link::{AgentMessage, MasterMessage};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use super::desk::{Brought, Desk, Gone, ORDERS_MAX, Way};
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

/// What goes to one agent. Dropped when its connection ends, which the core then learns.
#[derive(Debug)]
pub struct Orders {
    orders: mpsc::Receiver<MasterMessage>,
    conn: ConnId,
    way: Way,
    /// Given when this is dropped: nobody listens on the other side any more.
    hung_up: Stop,
}

impl Stream for Orders {
    type Item = Result<MasterMessage, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.orders.poll_recv(cx).map(|order| order.map(Ok))
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        self.hung_up.stop();
        self.way.tell_gone(Gone::Agent(self.conn));
    }
}

#[tonic::async_trait]
impl Link for Door {
    type ConnectStream = Orders;

    async fn connect(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Orders>, Status> {
        let way = self.desk.way()?;
        let conn = ConnId(self.desk.number());
        let (sender, orders) = mpsc::channel(ORDERS_MAX);
        way.bring(Brought::Link { conn, orders: sender }).await?;
        let hung_up = Stop::new();
        tokio::spawn(listen(request.into_inner(), conn, way.clone(), hung_up.clone()));
        Ok(Response::new(Orders { orders, conn, way, hung_up }))
    }
}

/// Hands over what an agent says until either side of the connection ends.
async fn listen(
    mut messages: Streaming<AgentMessage>,
    conn: ConnId,
    way: Way,
    hung_up: Stop,
) {
    loop {
        let message = tokio::select! {
            message = messages.message() => message,
            () = hung_up.stopped() => break,
        };
        match message {
            Ok(Some(message)) => {
                let brought = Brought::Agent { conn, message: Box::new(message) };
                if way.bring(brought).await.is_err() {
                    break;
                }
            }
            Ok(None) => break,
            Err(status) => {
                tracing::debug!(%status, "an agent's link broke");
                break;
            }
        }
    }
    way.tell_gone(Gone::Agent(conn));
}
