//! A gRPC server whose every answer the test gives.

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mezzo_wire::grpc::STREAM_ID;
use mezzo_wire::v1;
use mezzo_wire::v1::scheduler::scheduler_server::{Scheduler, SchedulerServer};
use mezzo_wire::v1::scheduler::{Ack, Call, Event, event::Type};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status};

const DEADLINE: Duration = Duration::from_secs(20);

type EventStream = mpsc::Receiver<Result<Event, Status>>;

/// A SUBSCRIBE that waits for its answer.
pub struct Subscription {
    pub call: Call,
    pub authorization: Option<String>,
    pub stream_id: Option<String>,
    reply: oneshot::Sender<Result<(String, EventStream), Status>>,
}

impl Subscription {
    pub async fn accept(self, stream_id: &str) -> mpsc::Sender<Result<Event, Status>> {
        let (events, stream) = mpsc::channel(1);
        self.reply
            .send(Ok((stream_id.to_owned(), stream)))
            .expect("a caller");
        events
    }

    pub fn refuse(self, status: Status) {
        drop(self.reply.send(Err(status)));
    }
}

/// Another call that waits for its answer.
pub struct Submitted {
    pub call: Call,
    pub authorization: Option<String>,
    pub stream_id: Option<String>,
    reply: oneshot::Sender<Result<(), Status>>,
}

impl Submitted {
    pub fn answer(self, result: Result<(), Status>) {
        drop(self.reply.send(result));
    }
}

struct Door {
    subscriptions: mpsc::Sender<Subscription>,
    calls: mpsc::Sender<Submitted>,
}

fn metadata(request: &Request<Call>, key: &str) -> Option<String> {
    request
        .metadata()
        .get(key)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned)
}

#[tonic::async_trait]
impl Scheduler for Door {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<Event, Status>> + Send>>;

    async fn subscribe(
        &self,
        request: Request<Call>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let (reply, answer) = oneshot::channel();
        let subscription = Subscription {
            authorization: metadata(&request, "authorization"),
            stream_id: metadata(&request, STREAM_ID),
            call: request.into_inner(),
            reply,
        };
        let gone = || Status::unavailable("the test is over");
        self.subscriptions
            .send(subscription)
            .await
            .map_err(|_| gone())?;
        let (stream_id, events) = answer.await.map_err(|_| gone())??;
        let stream: Self::SubscribeStream = Box::pin(ReceiverStream::new(events));
        let mut response = Response::new(stream);
        let stream_id = stream_id
            .parse()
            .map_err(|_| Status::internal("no header"))?;
        response.metadata_mut().insert(STREAM_ID, stream_id);
        Ok(response)
    }

    async fn submit(&self, request: Request<Call>) -> Result<Response<Ack>, Status> {
        let (reply, answer) = oneshot::channel();
        let submitted = Submitted {
            authorization: metadata(&request, "authorization"),
            stream_id: metadata(&request, STREAM_ID),
            call: request.into_inner(),
            reply,
        };
        let gone = || Status::unavailable("the test is over");
        self.calls.send(submitted).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())??;
        Ok(Response::new(Ack {}))
    }
}

/// The server.
pub struct Master {
    address: String,
    subscriptions: mpsc::Receiver<Subscription>,
    calls: mpsc::Receiver<Submitted>,
    server: JoinHandle<()>,
}

impl Drop for Master {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Master {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("bound").to_string();
        let (to_test, subscriptions) = mpsc::channel(16);
        let (calls_to_test, calls) = mpsc::channel(16);
        let door = Door {
            subscriptions: to_test,
            calls: calls_to_test,
        };
        let server = tokio::spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            let service = SchedulerServer::new(door).max_encoding_message_size(usize::MAX);
            let served = tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming);
            served.await.expect("serves");
        });
        Self {
            address,
            subscriptions,
            calls,
            server,
        }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub async fn subscription(&mut self) -> Subscription {
        let asked = tokio::time::timeout(DEADLINE, self.subscriptions.recv()).await;
        asked.expect("a subscription in time").expect("a server")
    }

    pub async fn call(&mut self) -> Submitted {
        let asked = tokio::time::timeout(DEADLINE, self.calls.recv()).await;
        asked.expect("a call in time").expect("a server")
    }

    /// No further call has come while one waits for its answer.
    pub fn is_idle(&mut self) {
        assert!(self.calls.try_recv().is_err(), "two calls under way");
    }
}

/// An HTTP/2 server that answers every request with the same bytes; tells of each request.
pub async fn serve_bytes(
    with_stream: bool,
    body: Bytes,
) -> (String, mpsc::Receiver<()>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("bound").to_string();
    let (asked, told) = mpsc::channel(16);
    let server = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (asked, body) = (asked.clone(), body.clone());
            let answer = hyper::service::service_fn(move |_| {
                let (asked, body) = (asked.clone(), body.clone());
                async move {
                    // The test may have seen enough.
                    let _ = asked.send(()).await;
                    let mut response =
                        http::Response::builder().header("content-type", "application/grpc");
                    if with_stream {
                        response = response.header(STREAM_ID, "s1");
                    }
                    let response = response.body(Full::new(body)).expect("a response");
                    Ok::<_, Infallible>(response)
                }
            });
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(socket), answer),
            );
        }
    });
    (address, told, server)
}

pub fn event(kind: Type) -> Event {
    Event {
        r#type: Some(kind as i32),
        ..Default::default()
    }
}

pub fn subscribed(id: &str) -> Event {
    let mut told = event(Type::Subscribed);
    told.subscribed = Some(v1::scheduler::event::Subscribed {
        framework_id: v1::FrameworkId {
            value: id.to_owned(),
        },
        heartbeat_interval_seconds: Some(15.0),
        master_info: None,
    });
    told
}

pub fn offer(id: &str) -> Event {
    let mut told = event(Type::Offers);
    let offer = v1::Offer {
        id: v1::OfferId {
            value: id.to_owned(),
        },
        framework_id: v1::FrameworkId {
            value: "f1".to_owned(),
        },
        agent_id: v1::AgentId {
            value: "a1".to_owned(),
        },
        hostname: "h1".to_owned(),
        resources: vec![
            v1::Resource::scalar("cpus", 4.0),
            v1::Resource::scalar("mem", 1024.0),
        ],
        ..Default::default()
    };
    told.offers = Some(v1::scheduler::event::Offers {
        offers: vec![offer],
    });
    told
}

pub fn update(task: &str, state: v1::TaskState) -> Event {
    let mut told = event(Type::Update);
    told.update = Some(v1::scheduler::event::Update {
        status: v1::TaskStatus {
            task_id: v1::TaskId {
                value: task.to_owned(),
            },
            agent_id: Some(v1::AgentId {
                value: "a1".to_owned(),
            }),
            state: state as i32,
            uuid: Some(Bytes::from_static(&[9; 16])),
            ..Default::default()
        },
    });
    told
}
