//! What the tests speak with: a master in this process, and the least of a scheduler and of an agent.

use std::path::Path;
use std::time::Duration;

use clap::Parser as _;
use mezzo_door::Stop;
use mezzo_master::{Flags, Running, start};
use mezzo_model::resources::Resources;
use mezzo_wire::link::agent_message::Body as FromAgent;
use mezzo_wire::link::link_client::LinkClient;
use mezzo_wire::link::master_message::Body as Order;
use mezzo_wire::v1::master as operator;
use mezzo_wire::v1::master::operator_client::OperatorClient;
use mezzo_wire::v1::scheduler::scheduler_client::SchedulerClient;
use mezzo_wire::v1::scheduler::{Call, Event, call, event};
use mezzo_wire::{grpc, link, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

/// Nothing in these tests takes so long; a test that waits longer has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

#[derive(clap::Parser)]
pub struct Line {
    #[command(flatten)]
    pub flags: Flags,
}

pub struct Master {
    pub running: Running,
    pub stop: Stop,
    pub channel: Channel,
}

impl Master {
    pub async fn start(dir: &Path, more: &[&str]) -> Self {
        let zk = format!("--zk=file://{}", dir.display());
        let work_dir = format!("--work_dir={}", dir.display());
        let words = [&["master", "--port=0", &zk, &work_dir], more].concat();
        let flags = Line::try_parse_from(words).expect("parses").flags;
        let stop = Stop::new();
        let running = start(flags, stop.clone()).await.expect("starts");
        let channel = Endpoint::from_shared(format!("http://{}", running.addr))
            .expect("an address")
            .connect()
            .await
            .expect("connects");
        Self {
            running,
            stop,
            channel,
        }
    }

    /// A master that leads.
    pub async fn leading(dir: &Path, more: &[&str]) -> Self {
        let master = Self::start(dir, more).await;
        soon(master.running.health.until_good()).await;
        master
    }

    pub async fn end(self) {
        self.stop.stop();
        soon(self.running.ended()).await;
    }

    pub async fn read(&self, kind: operator::call::Type) -> Result<operator::Response, Status> {
        let mut client = OperatorClient::new(self.channel.clone());
        let call = operator::Call {
            r#type: Some(kind as i32),
            ..Default::default()
        };
        Ok(client.submit(call).await?.into_inner())
    }
}

pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("in time")
}

pub struct Scheduler {
    pub client: SchedulerClient<Channel>,
    pub events: Streaming<Event>,
    pub stream_id: String,
    pub id: v1::FrameworkId,
    pub info: v1::FrameworkInfo,
}

pub fn info(name: &str) -> v1::FrameworkInfo {
    v1::FrameworkInfo {
        user: "nobody".into(),
        name: name.into(),
        failover_timeout: Some(3600.0),
        ..Default::default()
    }
}

pub fn subscription(info: v1::FrameworkInfo) -> Call {
    Call {
        framework_id: info.id.clone(),
        r#type: Some(call::Type::Subscribe as i32),
        subscribe: Some(call::Subscribe {
            framework_info: info,
            ..Default::default()
        }),
        ..Default::default()
    }
}

impl Scheduler {
    pub async fn subscribe(master: &Master, info: v1::FrameworkInfo) -> Self {
        let mut client = SchedulerClient::new(master.channel.clone());
        let answer = soon(client.subscribe(subscription(info.clone())))
            .await
            .expect("subscribes");
        let stream_id = answer.metadata().get(grpc::STREAM_ID).expect("a stream id");
        let stream_id = stream_id.to_str().expect("text").to_owned();
        let mut events = answer.into_inner();
        let first = soon(events.message())
            .await
            .expect("an event")
            .expect("an event");
        let id = first.subscribed.expect("SUBSCRIBED first").framework_id;
        let second = soon(events.message())
            .await
            .expect("an event")
            .expect("an event");
        assert_eq!(second.r#type, Some(event::Type::Heartbeat as i32));
        let info = v1::FrameworkInfo {
            id: Some(id.clone()),
            ..info
        };
        Self {
            client,
            events,
            stream_id,
            id,
            info,
        }
    }

    pub async fn submit(&mut self, change: impl FnOnce(&mut Call)) -> Result<(), Status> {
        let mut call = Call {
            framework_id: Some(self.id.clone()),
            r#type: Some(call::Type::Revive as i32),
            ..Default::default()
        };
        change(&mut call);
        let mut request = Request::new(call);
        let id = self.stream_id.parse().expect("ascii");
        request.metadata_mut().insert(grpc::STREAM_ID, id);
        soon(self.client.submit(request)).await.map(|_| ())
    }

    /// The next event that is no heartbeat.
    pub async fn next(&mut self) -> Event {
        loop {
            let event = soon(self.events.message())
                .await
                .expect("an event")
                .expect("an event");
            if event.r#type != Some(event::Type::Heartbeat as i32) {
                return event;
            }
        }
    }

    pub async fn offer(&mut self) -> v1::Offer {
        self.next().await.offers.expect("offers").offers.remove(0)
    }

    pub async fn launch(&mut self, offer: &v1::Offer, task: v1::TaskInfo) -> Result<(), Status> {
        let operation = v1::offer::Operation {
            r#type: Some(v1::offer::operation::Type::Launch as i32),
            launch: Some(v1::offer::operation::Launch {
                task_infos: vec![task],
            }),
            ..Default::default()
        };
        let accept = call::Accept {
            offer_ids: vec![offer.id.clone()],
            operations: vec![operation],
            filters: Some(v1::Filters {
                refuse_seconds: Some(1.0),
            }),
        };
        self.submit(|call| {
            call.r#type = Some(call::Type::Accept as i32);
            call.accept = Some(accept);
        })
        .await
    }
}

pub fn task(id: &str, offer: &v1::Offer, resources: &str) -> v1::TaskInfo {
    v1::TaskInfo {
        name: id.into(),
        task_id: id.into(),
        agent_id: offer.agent_id.clone(),
        resources: Resources::parse(resources).expect("reads").to_wire(),
        command: Some(v1::CommandInfo {
            value: Some("true".into()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub struct Agent {
    pub messages: mpsc::Sender<link::AgentMessage>,
    pub orders: Streaming<link::MasterMessage>,
    pub id: v1::AgentId,
}

pub fn hello(name: &str) -> link::Hello {
    link::Hello {
        link_version: 1,
        agent_version: "test".into(),
        agent: v1::AgentInfo {
            hostname: name.into(),
            resources: Resources::parse("cpus:4;mem:1024")
                .expect("reads")
                .to_wire(),
            ..Default::default()
        },
        highest_epoch: None,
        boot_id: "b".into(),
        tasks: Vec::new(),
        executors: Vec::new(),
        frameworks: Vec::new(),
        connection: 1,
        incarnation: format!("{name}-1"),
    }
}

impl Agent {
    pub async fn dial(master: &Master, hello: link::Hello) -> Self {
        let mut agent = Self::knock(master, hello).await;
        agent.id = match agent.order().await {
            Order::Welcome(welcome) => welcome.agent_id,
            other => panic!("no welcome: {other:?}"),
        };
        agent
    }

    pub async fn knock(master: &Master, hello: link::Hello) -> Self {
        let (messages, receiver) = mpsc::channel(64);
        let hello = link::AgentMessage {
            body: Some(FromAgent::Hello(hello)),
        };
        messages.send(hello).await.expect("open");
        let mut client = LinkClient::new(master.channel.clone());
        let orders = soon(client.connect(ReceiverStream::new(receiver)))
            .await
            .expect("connects");
        Self {
            messages,
            orders: orders.into_inner(),
            id: "?".into(),
        }
    }

    pub async fn order(&mut self) -> Order {
        let message = soon(self.orders.message())
            .await
            .expect("an order")
            .expect("an order");
        assert!(message.epoch.counter > 0 && !message.epoch.cluster_id.is_empty());
        message.body.expect("an order")
    }

    pub async fn say(&self, body: FromAgent) {
        self.messages
            .send(link::AgentMessage { body: Some(body) })
            .await
            .expect("open");
    }

    /// Answers a read from this content, as an agent would.
    pub async fn serve(&self, read: &link::ReadSandbox, content: &[u8]) {
        const PIECE: usize = 64 * 1024;
        let from = usize::try_from(read.offset.unwrap_or(0)).expect("positive");
        let window = usize::try_from(read.length.expect("a window")).expect("fits");
        let part = &content[from..(from + window).min(content.len())];
        for (index, piece) in part.chunks(PIECE).enumerate() {
            self.say(FromAgent::SandboxChunk(link::SandboxChunk {
                request_id: read.request_id,
                data: Some(bytes::Bytes::copy_from_slice(piece)),
                offset: Some((from + index * PIECE) as u64),
                ..Default::default()
            }))
            .await;
        }
        let request_id = read.request_id;
        let end = link::SandboxChunk {
            request_id,
            end: Some(true),
            ..Default::default()
        };
        self.say(FromAgent::SandboxChunk(end)).await;
    }

    pub async fn report(&self, scheduler: &Scheduler, task: &str, state: v1::TaskState) {
        let status = v1::TaskStatus {
            task_id: task.into(),
            state: state as i32,
            agent_id: Some(self.id.clone()),
            uuid: Some(bytes::Bytes::from_static(b"0123456789abcdef")),
            ..Default::default()
        };
        let framework_id = scheduler.id.clone();
        let update = link::StatusUpdate {
            framework_id,
            status,
            latest_state: state as i32,
        };
        self.say(FromAgent::Update(update)).await;
    }
}
