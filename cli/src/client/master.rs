//! The leading master: what there is (the operators' door), and what tasks write (the sandbox door).

use std::time::Duration;

use http::StatusCode;
use mezzo_coordination::{Detector, Target};
use mezzo_wire::link::sandbox_client::SandboxClient;
use mezzo_wire::link::{ReadSandbox, SandboxChunk};
use mezzo_wire::v1::master::operator_client::OperatorClient;
use mezzo_wire::v1::master::{Call, Response, call, response};
use mezzo_wire::{grpc, v1};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

use crate::endpoints::Endpoints;
use crate::failure::Failure;

const WHO: &str = "master";

/// For how long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// For how long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// For how long a leader is looked for.
const LEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a master that does not lead may send us on.
const MOST_HOPS: usize = 3;

/// The largest answer that is read: the state of a large cluster.
const ANSWER_MAX_BYTES: usize = 1024 * 1024 * 1024;

/// A connection to the leading master.
#[derive(Clone, Debug)]
pub struct Master {
    channel: Channel,
    address: String,
    authorization: Option<MetadataValue<Ascii>>,
}

impl Master {
    /// Connects.
    ///
    /// # Errors
    /// If nobody leads or answers.
    pub async fn connect(endpoints: &Endpoints) -> Result<Self, Failure> {
        let address = find(&endpoints.master).await?;
        let authorization = match &endpoints.authorization {
            Some(header) => Some(header.parse().map_err(|_| Failure::Flag {
                flag: "principal",
                words: "holds characters that cannot be sent".to_owned(),
            })?),
            None => None,
        };
        let channel = channel(&address).await?;
        Ok(Self {
            channel,
            address,
            authorization,
        })
    }

    /// Where it is: `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Everything that the master knows.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn state(&mut self) -> Result<response::GetState, Failure> {
        let answer = self.ask(call::Type::GetState).await?;
        answer
            .get_state
            .ok_or_else(|| nonsense("there is no state in it"))
    }

    /// Who leads, and since when.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn leader(&mut self) -> Result<response::GetMaster, Failure> {
        let answer = self.ask(call::Type::GetMaster).await?;
        answer
            .get_master
            .ok_or_else(|| nonsense("there is no master in it"))
    }

    /// All tasks.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn tasks(&mut self) -> Result<response::GetTasks, Failure> {
        let answer = self.ask(call::Type::GetTasks).await?;
        answer
            .get_tasks
            .ok_or_else(|| nonsense("there are no tasks in it"))
    }

    async fn ask(&mut self, kind: call::Type) -> Result<Response, Failure> {
        let call = Call {
            r#type: Some(kind as i32),
            ..Default::default()
        };
        for _ in 0..MOST_HOPS {
            let mut client = OperatorClient::new(self.channel.clone())
                .max_decoding_message_size(ANSWER_MAX_BYTES);
            let mut request = self.request(call.clone());
            request.set_timeout(ANSWER_TIMEOUT);
            match client.submit(request).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => self.follow(&status).await?,
            }
        }
        Err(Failure::NoLeader {
            target: self.address.clone(),
        })
    }

    /// What a task wrote into a file of its sandbox, piece by piece.
    ///
    /// # Errors
    /// If the master does not answer or knows no such task.
    pub async fn read(&mut self, read: ReadSandbox) -> Result<Streaming<SandboxChunk>, Failure> {
        for _ in 0..MOST_HOPS {
            let mut client = SandboxClient::new(self.channel.clone());
            match client.read(self.request(read.clone())).await {
                Ok(chunks) => return Ok(chunks.into_inner()),
                Err(status) => self.follow(&status).await?,
            }
        }
        Err(Failure::NoLeader {
            target: self.address.clone(),
        })
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(authorization) = &self.authorization {
            request
                .metadata_mut()
                .insert("authorization", authorization.clone());
        }
        request
    }

    /// Goes to the leader that a master named, or gives up.
    async fn follow(&mut self, status: &Status) -> Result<(), Failure> {
        let Some(leader) = grpc::leader(status).map(str::to_owned) else {
            return Err(refused(status, &self.address));
        };
        self.channel = channel(&leader).await?;
        self.address = leader;
        Ok(())
    }
}

/// The words of a refusal, or that nobody answered.
pub fn refused(status: &Status, address: &str) -> Failure {
    let http = StatusCode::from_u16(grpc::http(status.code()));
    let status_code = http.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    // Statuses that no master sent: the connection broke, nothing came, or whoever answered speaks no gRPC.
    let unreachable = |why: &str| Failure::Unreachable {
        who: WHO,
        address: address.to_owned(),
        why: why.to_owned(),
    };
    match status.code() {
        tonic::Code::DeadlineExceeded | tonic::Code::Cancelled => {
            return unreachable("no answer in time");
        }
        tonic::Code::Unknown => return unreachable(status.message()),
        _ if status.message().contains("transport error") => {
            return unreachable("the connection broke");
        }
        _ => {}
    }
    Failure::Refused {
        who: WHO,
        status: status_code,
        words: status.message().to_owned(),
    }
}

fn nonsense(words: &str) -> Failure {
    Failure::Nonsense {
        who: WHO,
        words: words.to_owned(),
    }
}

async fn find(target: &str) -> Result<String, Failure> {
    let parsed = Target::parse(target).map_err(|error| Failure::Flag {
        flag: "master",
        words: error.to_string(),
    })?;
    if let Target::Fixed(address) = parsed {
        return Ok(address);
    }
    let mut detector = Detector::watch(&parsed).map_err(|error| Failure::Flag {
        flag: "master",
        words: error.to_string(),
    })?;
    let found = tokio::time::timeout(LEADER_TIMEOUT, detector.leader()).await;
    let leader = found.map_err(|_| Failure::NoLeader {
        target: parsed.to_string(),
    })?;
    Ok(leader.address)
}

async fn channel(address: &str) -> Result<Channel, Failure> {
    let unreachable = |why: String| Failure::Unreachable {
        who: WHO,
        address: address.to_owned(),
        why,
    };
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| unreachable(error.to_string()))?
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT);
    endpoint
        .connect()
        .await
        .map_err(|error| unreachable(root(&error)))
}

/// The innermost cause of an error: what the kernel said.
pub fn root(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// The state of a task on the wire as its name.
pub fn state_name(state: i32) -> &'static str {
    v1::TaskState::try_from(state).map_or("TASK_?", |state| state.as_str_name())
}
