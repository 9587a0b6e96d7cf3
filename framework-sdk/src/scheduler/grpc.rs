//! The scheduler's door over gRPC: a stream of events, and calls one after another on the same connection.
//!
//! Each subscription has a connection of its own, owned by one task; when its stream ends the connection is closed, and
//! nothing reconnects by itself. Statuses are turned into what the core knows.
//!
//! Invariant: while the driver does not take what was read, nothing more is read.

use std::time::Duration;

use mezzo_model::credentials::basic_header;
use mezzo_model::ids::StreamId;
use mezzo_wire::grpc::{self, STREAM_ID};
use mezzo_wire::v1::scheduler::scheduler_client::SchedulerClient;
use mezzo_wire::v1::scheduler::{Call, Event};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use super::core::{CallError, CallId, CloseReason, ConnectionId, DriverInput};
use super::driver::Transport;

/// The largest message that is read, in bytes: offers of ten thousand agents fit in several times.
pub const MAX_MESSAGE_BYTES: usize = 256 * 1024 * 1024;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Events are read into a window of so many bytes, so that a large list of offers is not slowed by round trips.
const WINDOW_BYTES: u32 = 1024 * 1024;

/// Who a framework proves to be.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// The name.
    pub principal: String,
    /// The secret.
    pub secret: String,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential")
            .field("principal", &self.principal)
            .finish_non_exhaustive()
    }
}

/// A call on its way to the task that owns the connection.
struct Submission {
    id: CallId,
    stream: StreamId,
    call: Call,
}

struct Connection {
    id: ConnectionId,
    submissions: mpsc::Sender<Submission>,
    task: JoinHandle<()>,
}

/// The transport of a driver.
pub struct GrpcTransport {
    authorization: Option<MetadataValue<Ascii>>,
    inbox: mpsc::Sender<DriverInput>,
    connection: Option<Connection>,
}

impl GrpcTransport {
    /// A transport that reports to `inbox`.
    ///
    /// # Errors
    /// The principal, if its credential cannot be written in a header.
    pub fn new(
        credential: Option<Credential>,
        inbox: mpsc::Sender<DriverInput>,
    ) -> Result<Self, String> {
        let authorization = match credential {
            Some(Credential { principal, secret }) => {
                let header = basic_header(&principal, &secret).parse::<MetadataValue<Ascii>>();
                let mut header = header.map_err(|_| principal)?;
                header.set_sensitive(true);
                Some(header)
            }
            None => None,
        };
        Ok(Self {
            authorization,
            inbox,
            connection: None,
        })
    }
}

impl Transport for GrpcTransport {
    fn subscribe(&mut self, connection: ConnectionId, address: String, call: Call) {
        if let Some(old) = self.connection.take() {
            old.task.abort();
        }
        let (submissions, queue) = mpsc::channel(1);
        let worker = Worker {
            connection,
            authorization: self.authorization.clone(),
            inbox: self.inbox.clone(),
        };
        let task = tokio::spawn(worker.run(address, call, queue));
        self.connection = Some(Connection {
            id: connection,
            submissions,
            task,
        });
    }

    fn submit(&mut self, connection: ConnectionId, id: CallId, stream: StreamId, call: Call) {
        let Some(current) = self.connection.as_ref().filter(|one| one.id == connection) else {
            return;
        };
        // The core has one call under way at a time, so there is room. If the task has ended, `Closed` is on its way.
        let _ = current
            .submissions
            .try_send(Submission { id, stream, call });
    }

    fn close(&mut self, connection: ConnectionId) {
        // An older connection is gone already; closing a later one than there is closes what there is.
        if let Some(current) = self.connection.take_if(|current| current.id <= connection) {
            current.task.abort();
        }
    }
}

impl Drop for GrpcTransport {
    fn drop(&mut self) {
        self.close(ConnectionId(u64::MAX));
    }
}

/// The task of one connection.
struct Worker {
    connection: ConnectionId,
    authorization: Option<MetadataValue<Ascii>>,
    inbox: mpsc::Sender<DriverInput>,
}

impl Worker {
    async fn run(self, address: String, call: Call, queue: mpsc::Receiver<Submission>) {
        let reason = match self.open(&address, call).await {
            Ok((client, events)) => self.serve(client, events, queue).await,
            Err(reason) => reason,
        };
        self.tell(DriverInput::Closed {
            connection: self.connection,
            reason,
        })
        .await;
    }

    /// False once the driver is gone.
    async fn tell(&self, input: DriverInput) -> bool {
        self.inbox.send(input).await.is_ok()
    }

    fn request(&self, call: Call) -> Request<Call> {
        let mut request = Request::new(call);
        if let Some(authorization) = &self.authorization {
            request
                .metadata_mut()
                .insert("authorization", authorization.clone());
        }
        request
    }

    async fn open(
        &self,
        address: &str,
        call: Call,
    ) -> Result<(SchedulerClient<Channel>, Streaming<Event>), CloseReason> {
        let lost = |error: &dyn std::error::Error| CloseReason::Lost(words(error));
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| lost(&error))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .tcp_keepalive(Some(KEEP_ALIVE))
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES * 2);
        let channel = endpoint.connect().await.map_err(|error| lost(&error))?;
        let mut client = SchedulerClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let answer = client
            .subscribe(self.request(call))
            .await
            .map_err(|status| refused(&status))?;
        let stream = answer
            .metadata()
            .get(STREAM_ID)
            .and_then(|id| id.to_str().ok());
        let Some(Ok(stream)) = stream.map(StreamId::parse) else {
            let words = format!("the master's answer has no usable {STREAM_ID}");
            return Err(CloseReason::Lost(words));
        };
        let connection = self.connection;
        self.tell(DriverInput::Accepted { connection, stream })
            .await;
        Ok((client, answer.into_inner()))
    }

    /// Carries events in and calls out until the stream ends.
    async fn serve(
        &self,
        client: SchedulerClient<Channel>,
        mut events: Streaming<Event>,
        queue: mpsc::Receiver<Submission>,
    ) -> CloseReason {
        let calls = self.send_calls(client, queue);
        tokio::pin!(calls);
        loop {
            let event = tokio::select! {
                event = events.message() => event,
                // It ends when the driver gave the connection up.
                () = &mut calls => return CloseReason::Lost("given up".to_owned()),
            };
            match event {
                Ok(Some(event)) => {
                    let event = Box::new(event);
                    let input = DriverInput::Event {
                        connection: self.connection,
                        event,
                    };
                    // Calls go on while the driver is busy with earlier events.
                    let told = tokio::select! {
                        told = self.tell(input) => told,
                        () = &mut calls => false,
                    };
                    if !told {
                        return CloseReason::Lost("given up".to_owned());
                    }
                }
                Ok(None) => return CloseReason::Lost("the master ended the stream".to_owned()),
                // Something unreadable in it, or the connection: nothing that the framework can be blamed for.
                Err(status) if status.code() != Code::FailedPrecondition => {
                    return CloseReason::Lost(said(&status));
                }
                Err(status) => return refused(&status),
            }
        }
    }

    async fn send_calls(
        &self,
        mut client: SchedulerClient<Channel>,
        mut queue: mpsc::Receiver<Submission>,
    ) {
        while let Some(Submission { id, stream, call }) = queue.recv().await {
            let mut request = self.request(call);
            let result = match stream.as_str().parse::<MetadataValue<Ascii>>() {
                Ok(stream) => {
                    request.metadata_mut().insert(STREAM_ID, stream);
                    client
                        .submit(request)
                        .await
                        .map(drop)
                        .map_err(|status| not_done(&status))
                }
                Err(_) => Err(CallError::NotSubscribed(
                    "the stream's id is no header".to_owned(),
                )),
            };
            let connection = self.connection;
            if !self
                .tell(DriverInput::CallDone {
                    connection,
                    call: id,
                    result,
                })
                .await
            {
                return;
            }
        }
    }
}

/// An error with its causes, in one line.
fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

fn said(status: &Status) -> String {
    match status.message() {
        "" => words(status),
        message => message.to_owned(),
    }
}

/// Why a subscription was refused.
fn refused(status: &Status) -> CloseReason {
    match status.code() {
        Code::FailedPrecondition => CloseReason::NotLeader {
            leader: grpc::leader(status).map(str::to_owned),
        },
        Code::InvalidArgument => CloseReason::Unacceptable(said(status)),
        Code::Unauthenticated
        | Code::PermissionDenied
        | Code::NotFound
        | Code::Aborted
        | Code::AlreadyExists
        | Code::Unimplemented
        | Code::DataLoss => CloseReason::Refused(said(status)),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::OutOfRange
        | Code::Internal
        | Code::Unavailable => CloseReason::Lost(said(status)),
    }
}

/// Why a call was not carried out.
fn not_done(status: &Status) -> CallError {
    let text = said(status);
    // The words of the protocol for a subscription that the master does not know (any more).
    let unsubscribed = [
        "Framework cannot be found",
        "Framework is not subscribed",
        "The stream ID",
        "All non-subscribe calls",
    ];
    match status.code() {
        Code::FailedPrecondition => CallError::NotLeader {
            leader: grpc::leader(status).map(str::to_owned),
        },
        Code::InvalidArgument | Code::PermissionDenied | Code::NotFound
            if unsubscribed.iter().any(|words| text.starts_with(words)) =>
        {
            CallError::NotSubscribed(text)
        }
        Code::InvalidArgument
        | Code::PermissionDenied
        | Code::NotFound
        | Code::Aborted
        | Code::AlreadyExists
        | Code::Unauthenticated
        | Code::OutOfRange
        | Code::ResourceExhausted
        | Code::Unimplemented
        | Code::DataLoss => CallError::Refused(text),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Internal
        | Code::Unavailable => CallError::Unknown(text),
    }
}
