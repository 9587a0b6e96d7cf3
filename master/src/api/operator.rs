//! The operators' door: reads are answered by the read model, everything else by the core.

use mezzo_wire::grpc;
use mezzo_wire::v1;
use mezzo_wire::v1::master::call::Type;
use mezzo_wire::v1::master::operator_server::Operator;
use mezzo_wire::v1::master::{Call, Event, Response as Answer, response};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status, async_trait};

use crate::front::{self, Front, Inbox, Knock};
use crate::read_model::Page;

/// The door.
#[derive(Clone, Debug)]
pub(super) struct Door {
    front: Front,
    version: v1::VersionInfo,
}

impl Door {
    pub fn new(front: Front, version: v1::VersionInfo) -> Self {
        Self { front, version }
    }
}

fn page(kind: Type) -> Option<Page> {
    match kind {
        Type::GetState => Some(Page::State),
        Type::GetAgents => Some(Page::Agents),
        Type::GetFrameworks => Some(Page::Frameworks),
        Type::GetTasks => Some(Page::Tasks),
        Type::GetExecutors => Some(Page::Executors),
        Type::GetOperations => Some(Page::Operations),
        Type::GetMaster => Some(Page::Master),
        _ => None,
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
        if let Some(page) = page(kind) {
            let answer = office.reader.read(page).await.map_err(|_| front::over())?;
            return Ok(Response::new(answer));
        }
        if kind == Type::GetHealth {
            return Ok(Response::new(Answer {
                r#type: Some(response::Type::GetHealth as i32),
                get_health: Some(response::GetHealth { healthy: true }),
                ..Default::default()
            }));
        }
        if kind == Type::GetVersion {
            return Ok(Response::new(Answer {
                r#type: Some(response::Type::GetVersion as i32),
                get_version: Some(response::GetVersion {
                    version_info: self.version.clone(),
                }),
                ..Default::default()
            }));
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
