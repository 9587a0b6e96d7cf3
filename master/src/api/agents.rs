//! The agents' door: one bidirectional stream for each agent.

use std::sync::Arc;

use mezzo_door::Stop;
use mezzo_wire::link::link_server::Link;
use mezzo_wire::link::{AgentMessage, MasterMessage};
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::front::{self, Connection, Front, Inbox, Knock, Office};

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
impl Link for Door {
    type ConnectStream = Inbox<MasterMessage>;

    async fn connect(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Inbox<MasterMessage>>, Status> {
        let office = self.front.office()?;
        let (reading, writing) = office.connection().both();
        let conn = reading.id;
        let (orders, stream) = front::stream(writing);
        let closed = Stop::new();
        office
            .knock(Knock::Link {
                conn,
                orders,
                closed: closed.clone(),
            })
            .await?;
        tokio::spawn(read(office, reading, request.into_inner(), closed));
        Ok(Response::new(stream))
    }
}

/// Hands over what the agent says until it ends, or until the link is closed from this side. The agent that says more
/// than the core takes waits.
async fn read(
    office: Arc<Office>,
    connection: Connection,
    mut messages: Streaming<AgentMessage>,
    closed: Stop,
) {
    loop {
        let message = tokio::select! {
            () = closed.stopped() => return,
            message = messages.message() => message,
        };
        match message {
            Ok(Some(message)) => {
                let message = Box::new(message);
                let knock = Knock::Agent {
                    conn: connection.id,
                    message,
                };
                if office.knock(knock).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(status) => {
                tracing::debug!(%status, "an agent's link broke");
                return;
            }
        }
    }
}
