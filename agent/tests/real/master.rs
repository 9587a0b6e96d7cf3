//! A master's end of the link: welcomes every agent, says what a test says, and acknowledges what it hears.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::Stream;
use mezzo_model::TaskState;
use mezzo_wire::link::agent_message::Body as Said;
use mezzo_wire::link::link_server::{Link, LinkServer};
use mezzo_wire::link::master_message::Body as Order;
use mezzo_wire::link::{self, AgentMessage, MasterMessage, SandboxChunk};
use mezzo_wire::v1;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

/// How long a test waits for what never comes before it fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

type Way = mpsc::UnboundedSender<Result<MasterMessage, Status>>;

#[derive(Clone)]
struct Door {
    way: Arc<Mutex<Option<Way>>>,
    heard: mpsc::UnboundedSender<Said>,
}

#[tonic::async_trait]
impl Link for Door {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<MasterMessage, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (way, messages) = mpsc::unbounded_channel();
        *self.way.lock().expect("no panic") = Some(way);
        let heard = self.heard.clone();
        let mut said = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(message)) = said.message().await {
                let _ = heard.send(message.body.expect("a body"));
            }
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(
            messages,
        ))))
    }
}

/// A master that a test speaks through.
pub struct Master {
    pub address: SocketAddr,
    way: Arc<Mutex<Option<Way>>>,
    heard: mpsc::UnboundedReceiver<Said>,
    /// Statuses that nobody has waited for yet.
    statuses: Vec<v1::TaskStatus>,
    pub other: Vec<Said>,
    chunks: BTreeMap<u64, Vec<SandboxChunk>>,
    pub epoch: u64,
    next_read: u64,
    pub acknowledges: bool,
    server: tokio::task::JoinHandle<()>,
}

impl Master {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (heard_sender, heard) = mpsc::unbounded_channel();
        let way = Arc::new(Mutex::new(None));
        let door = Door {
            way: way.clone(),
            heard: heard_sender,
        };
        let server = tokio::spawn(async move {
            let serving = tonic::transport::Server::builder()
                .add_service(LinkServer::new(door))
                .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
            serving.await.expect("serves");
        });
        Self {
            address,
            way,
            heard,
            statuses: Vec::new(),
            other: Vec::new(),
            chunks: BTreeMap::new(),
            epoch: 1,
            next_read: 1,
            acknowledges: true,
            server,
        }
    }

    pub fn say(&self, order: Order) {
        let epoch = link::Epoch {
            cluster_id: "test".to_owned(),
            counter: self.epoch,
        };
        let message = MasterMessage {
            epoch,
            body: Some(order),
        };
        let way = self.way.lock().expect("no panic");
        let way = way.as_ref().expect("an agent is connected");
        way.send(Ok(message)).expect("the agent listens");
    }

    /// Breaks the connection.
    pub fn hang_up(&self) {
        *self.way.lock().expect("no panic") = None;
    }

    async fn hear(&mut self) {
        let said = tokio::time::timeout(PATIENCE, self.heard.recv()).await;
        let said = match said {
            Ok(said) => said.expect("the door lives"),
            Err(_) => panic!(
                "nothing was heard; not waited for: {:?} {:?}",
                self.statuses, self.other
            ),
        };
        match said {
            Said::Update(update) => {
                if self.acknowledges {
                    self.say(Order::Acknowledge(link::AcknowledgeUpdate {
                        framework_id: update.framework_id,
                        task_id: update.status.task_id.clone(),
                        uuid: update.status.uuid.clone().expect("a uuid"),
                    }));
                }
                self.statuses.push(update.status);
            }
            Said::SandboxChunk(chunk) => {
                let request = chunk.request_id.expect("a request");
                self.chunks.entry(request).or_default().push(chunk);
            }
            other => self.other.push(other),
        }
    }

    /// Waits for an agent's Hello and welcomes it.
    pub async fn welcome(&mut self) -> link::Hello {
        let hello = self.hello().await;
        self.say(Order::Welcome(link::Welcome {
            agent_id: v1::AgentId {
                value: "m-S0".to_owned(),
            },
            ping_interval_ms: 15_000,
            silence_ms: 3_600_000,
            master_version: "test".to_owned(),
        }));
        hello
    }

    pub async fn hello(&mut self) -> link::Hello {
        loop {
            let at = self
                .other
                .iter()
                .position(|said| matches!(said, Said::Hello(_)));
            if let Some(at) = at
                && let Said::Hello(hello) = self.other.remove(at)
            {
                return hello;
            }
            self.hear().await;
        }
    }

    pub fn run(&self, task: v1::TaskInfo) {
        self.run_as(framework(), task);
    }

    pub fn run_as(&self, framework: v1::FrameworkInfo, task: v1::TaskInfo) {
        self.say(Order::RunTask(link::RunTask { framework, task }));
    }

    pub fn kill(&self, task: &str, grace_ms: Option<i64>) {
        let grace = grace_ms.map(|ms| v1::DurationInfo {
            nanoseconds: ms * 1_000_000,
        });
        self.say(Order::KillTask(link::KillTask {
            framework_id: v1::FrameworkId {
                value: "fw".to_owned(),
            },
            task_id: v1::TaskId {
                value: task.to_owned(),
            },
            kill_policy: grace.map(|grace_period| v1::KillPolicy {
                grace_period: Some(grace_period),
            }),
        }));
    }

    /// The next status of a task.
    pub async fn status(&mut self, task: &str) -> v1::TaskStatus {
        loop {
            let at = self
                .statuses
                .iter()
                .position(|status| status.task_id.value == task);
            if let Some(at) = at {
                return self.statuses.remove(at);
            }
            self.hear().await;
        }
    }

    /// Waits until a task is in a state; another end than that one fails.
    pub async fn until(&mut self, task: &str, state: TaskState) -> v1::TaskStatus {
        loop {
            let status = self.status(task).await;
            let told = TaskState::from_number(status.state).expect("a state");
            if told == state {
                return status;
            }
            assert!(!told.is_terminal(), "{task} ended otherwise: {status:?}");
        }
    }

    /// Begins to read a file of a task's sandbox.
    pub fn read(&mut self, task: &str, path: &str, follow: bool) -> u64 {
        let request = self.next_read;
        self.next_read += 1;
        self.say(Order::ReadSandbox(link::ReadSandbox {
            request_id: Some(request),
            framework_id: None,
            task_id: v1::TaskId {
                value: task.to_owned(),
            },
            path: path.to_owned(),
            follow: Some(follow),
            ..Default::default()
        }));
        request
    }

    /// All that a read gives, to its end.
    pub async fn read_all(&mut self, request: u64) -> Result<String, String> {
        loop {
            let chunks = self.chunks.entry(request).or_default();
            if let Some(last) = chunks.last().filter(|chunk| chunk.end == Some(true)) {
                if let Some(error) = &last.error {
                    return Err(error.clone());
                }
                let bytes: Vec<u8> = chunks
                    .iter()
                    .filter_map(|chunk| chunk.data.as_deref())
                    .flatten()
                    .copied()
                    .collect();
                return Ok(String::from_utf8_lossy(&bytes).into_owned());
            }
            self.hear().await;
        }
    }

    /// The content of a file of a sandbox, now.
    pub async fn file(&mut self, task: &str, path: &str) -> Result<String, String> {
        let request = self.read(task, path, false);
        self.read_all(request).await
    }

    /// Waits until what a read has given so far holds a text.
    pub async fn until_read(&mut self, request: u64, text: &str) -> String {
        loop {
            let chunks = self.chunks.entry(request).or_default();
            let bytes: Vec<u8> = chunks
                .iter()
                .filter_map(|chunk| chunk.data.as_deref())
                .flatten()
                .copied()
                .collect();
            let read = String::from_utf8_lossy(&bytes).into_owned();
            if read.contains(text) {
                return read;
            }
            self.hear().await;
        }
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A framework whose tasks run as the user that runs the test.
pub fn framework() -> v1::FrameworkInfo {
    let aware = v1::framework_info::capability::Type::PartitionAware as i32;
    v1::FrameworkInfo {
        user: own_user(),
        name: "test".to_owned(),
        id: Some(v1::FrameworkId {
            value: "fw".to_owned(),
        }),
        capabilities: vec![v1::framework_info::Capability {
            r#type: Some(aware),
        }],
        ..Default::default()
    }
}

pub fn own_user() -> String {
    let uid = nix::unistd::geteuid();
    let user = nix::unistd::User::from_uid(uid).expect("a user database");
    user.map_or_else(|| uid.to_string(), |user| user.name)
}

pub fn resource(name: &str, value: f64) -> v1::Resource {
    v1::Resource {
        name: name.to_owned(),
        r#type: v1::value::Type::Scalar as i32,
        scalar: Some(v1::value::Scalar { value }),
        ..Default::default()
    }
}

/// A task with a shell line.
pub fn task(id: &str, line: &str) -> v1::TaskInfo {
    v1::TaskInfo {
        name: id.to_owned(),
        task_id: v1::TaskId {
            value: id.to_owned(),
        },
        agent_id: v1::AgentId {
            value: "m-S0".to_owned(),
        },
        resources: vec![resource("cpus", 0.1), resource("mem", 64.0)],
        command: Some(v1::CommandInfo {
            value: Some(line.to_owned()),
            ..Default::default()
        }),
        ..Default::default()
    }
}
