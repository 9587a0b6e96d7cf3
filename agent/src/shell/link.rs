//! The connection to a master: one bidirectional gRPC stream, with keep-alive on the transport below it.
//!
//! Invariant: this decides nothing. What is dialled, said and left comes from the core; what happens goes to it. Chunks
//! of files have a small queue of their own, so that they neither delay what matters nor fill the memory.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use mezzo_wire::grpc;
use mezzo_wire::link::agent_message::Body;
use mezzo_wire::link::link_client::LinkClient;
use mezzo_wire::link::{AgentMessage, SandboxChunk};
use prost::Message;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::inbox::Inbox;
use crate::core::{Input, LinkId};

/// Messages that may wait for a master. There is at most one update of each task among them.
const MESSAGES_MAX: usize = 65_536;

/// Messages of executors may wait in so many bytes; more are dropped, as they may be.
const EXECUTOR_BYTES_MAX: usize = 16 << 20;

/// Chunks of files that may wait.
const CHUNKS_MAX: usize = 16;

/// The longest message of a master that is read: what it reconciles can name many tasks.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// How long a connection that is left may take to bring out what was said.
const FAREWELL: Duration = Duration::from_secs(1);

/// The end of a connection that the core speaks into.
#[derive(Debug)]
pub(crate) struct LinkHandle {
    pub id: LinkId,
    messages: mpsc::Sender<AgentMessage>,
    chunks: mpsc::Sender<SandboxChunk>,
    /// Bytes of executors' messages that wait.
    executor_bytes: Arc<AtomicUsize>,
    leave: CancellationToken,
    /// Ends the reads that were asked for on it.
    pub reads: CancellationToken,
}

/// What is proved to a master.
pub(crate) type Credential = Option<MetadataValue<Ascii>>;

impl LinkHandle {
    /// Dials; what comes of it is told to the inbox.
    pub fn dial(id: LinkId, address: &str, credential: Credential, inbox: Inbox) -> Self {
        let (messages, message_queue) = mpsc::channel(MESSAGES_MAX);
        let (chunks, chunk_queue) = mpsc::channel(CHUNKS_MAX);
        let executor_bytes = Arc::new(AtomicUsize::new(0));
        let outbound = Outbound {
            messages: message_queue,
            chunks: chunk_queue,
            executor_bytes: executor_bytes.clone(),
        };
        let leave = CancellationToken::new();
        let address = address.to_owned();
        tokio::spawn(run(id, address, credential, outbound, inbox, leave.clone()));
        Self {
            id,
            messages,
            chunks,
            executor_bytes,
            leave,
            reads: CancellationToken::new(),
        }
    }

    /// Says something; false if nobody takes what is said, so that the connection is of no use.
    pub fn send(&self, message: AgentMessage) -> bool {
        if let Some(Body::ExecutorMessage(_)) = &message.body {
            let bytes = message.encoded_len();
            let waiting = self.executor_bytes.load(Ordering::Relaxed);
            if waiting + bytes > EXECUTOR_BYTES_MAX {
                tracing::warn!(
                    "a message of an executor was dropped: the master takes them too slowly"
                );
                return true;
            }
            self.executor_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        self.messages.try_send(message).is_ok()
    }

    /// Where chunks of files go.
    pub fn chunks(&self) -> mpsc::Sender<SandboxChunk> {
        self.chunks.clone()
    }
}

impl Drop for LinkHandle {
    fn drop(&mut self) {
        // What was said goes out: the queues end when their senders are gone.
        self.reads.cancel();
        self.leave.cancel();
    }
}

/// What goes out: messages before chunks.
#[derive(Debug)]
struct Outbound {
    messages: mpsc::Receiver<AgentMessage>,
    chunks: mpsc::Receiver<SandboxChunk>,
    executor_bytes: Arc<AtomicUsize>,
}

impl Stream for Outbound {
    type Item = AgentMessage;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<AgentMessage>> {
        match self.messages.poll_recv(cx) {
            Poll::Ready(Some(message)) => {
                if let Some(Body::ExecutorMessage(_)) = &message.body {
                    self.executor_bytes
                        .fetch_sub(message.encoded_len(), Ordering::Relaxed);
                }
                return Poll::Ready(Some(message));
            }
            // The core has left this connection.
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => {}
        }
        match self.chunks.poll_recv(cx) {
            Poll::Ready(Some(chunk)) => Poll::Ready(Some(AgentMessage {
                body: Some(Body::SandboxChunk(chunk)),
            })),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

/// Why a connection ended, and who leads if that was said.
struct Down {
    reason: String,
    leader: Option<Arc<str>>,
}

impl From<Status> for Down {
    fn from(status: Status) -> Self {
        let leader = grpc::leader(&status).map(Arc::from);
        let words = match status.message() {
            "" => status.code().description().to_owned(),
            words => words.to_owned(),
        };
        Self {
            reason: words,
            leader,
        }
    }
}

async fn run(
    id: LinkId,
    address: String,
    credential: Credential,
    outbound: Outbound,
    inbox: Inbox,
    leave: CancellationToken,
) {
    let connection = connection(id, &address, credential, outbound, &inbox, &leave);
    let down = tokio::select! {
        down = connection => down,
        () = farewell(&leave) => return,
    };
    if !leave.is_cancelled() {
        let input = Input::LinkDown {
            link: id,
            reason: format!("{address}: {}", down.reason),
            leader: down.leader,
        };
        let _ = inbox.put(input).await;
    }
}

/// Completes some time after the core has left.
async fn farewell(leave: &CancellationToken) {
    leave.cancelled().await;
    tokio::time::sleep(FAREWELL).await;
}

async fn connection(
    id: LinkId,
    address: &str,
    credential: Credential,
    outbound: Outbound,
    inbox: &Inbox,
    leave: &CancellationToken,
) -> Down {
    let words = |reason: String| Down {
        reason,
        leader: None,
    };
    let endpoint = match Endpoint::from_shared(format!("http://{address}")) {
        Ok(endpoint) => endpoint,
        Err(error) => return words(format!("not an address: {error}")),
    };
    let channel = endpoint
        .connect_timeout(CONNECT_PATIENCE)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .connect()
        .await;
    let channel: Channel = match channel {
        Ok(channel) => channel,
        Err(error) => return words(causes(&error)),
    };
    let mut client = LinkClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let mut request = Request::new(outbound);
    if let Some(credential) = credential {
        request.metadata_mut().insert("authorization", credential);
    }
    let mut messages = match client.connect(request).await {
        Ok(response) => response.into_inner(),
        Err(status) => return status.into(),
    };
    if inbox.put(Input::LinkUp { link: id }).await.is_err() {
        return words("the agent is ending".to_owned());
    }
    loop {
        match messages.message().await {
            // After the core has left, only what it said is brought out.
            Ok(Some(_)) if leave.is_cancelled() => {}
            Ok(Some(message)) => {
                let input = Input::FromMaster {
                    link: id,
                    message: Box::new(message),
                };
                if inbox.put(input).await.is_err() {
                    return words("the agent is ending".to_owned());
                }
            }
            Ok(None) => return words("the master closed the connection".to_owned()),
            Err(status) => return status.into(),
        }
    }
}

/// An error with what lies below it, down to the kernel's words.
fn causes(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        let more = cause.to_string();
        if !words.contains(&more) {
            words.push_str(": ");
            words.push_str(&more);
        }
        below = cause.source();
    }
    words
}
