//! What the doors know of this master: whether it leads, and where to knock if it does.
//!
//! Doors (gRPC here, HTTP later) are adapters: they turn a request into a [`Knock`] and wait for what comes back. They
//! decide nothing.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use futures_util::Stream;
use mezzo_door::{Principal, Stop};
use mezzo_model::ids::StreamId;
use mezzo_wire::v1::{master, scheduler};
use mezzo_wire::{grpc, link};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::{Request, Status};

use crate::core::{Answer, Question, Refusal};
use crate::keys::{ConnId, ReadId};
use crate::read_model::Reader;

/// Knocks that may wait for the core; whoever knocks then waits.
pub const MAX_KNOCKS: usize = 1024;

/// Messages that may wait for one reader (a scheduler or an agent); one that is slower is cut.
pub const MAX_UNREAD: usize = 65_536;

/// Where this master stands.
#[derive(Clone, Debug)]
pub enum Post {
    /// Another one leads, or nobody that is known.
    Standby {
        /// `host:port` of the leader.
        leader: Option<String>,
    },
    /// It leads and reads the registry.
    Loading,
    /// It leads.
    Leading(Arc<Office>),
}

/// The way to the core of one term.
#[derive(Debug)]
pub struct Office {
    knocks: mpsc::Sender<Knock>,
    gone: mpsc::UnboundedSender<ConnId>,
    next: AtomicU64,
    /// What readers see.
    pub reader: Reader,
}

/// Something for the core, with the way back.
#[derive(Debug)]
pub enum Knock {
    /// A scheduler opens a stream.
    Subscribe {
        /// The stream.
        conn: ConnId,
        /// Whom the door recognised.
        principal: Option<Arc<str>>,
        /// The stream id in the metadata.
        stream_id: Option<String>,
        /// The call.
        call: Box<scheduler::Call>,
        /// Whether it is taken.
        opened: oneshot::Sender<Result<StreamId, Refusal>>,
        /// Where its events go.
        events: Outbox<scheduler::Event>,
    },
    /// A scheduler's call beside its stream.
    Call {
        /// Whom the door recognised.
        principal: Option<Arc<str>>,
        /// The stream id in the metadata.
        stream_id: Option<String>,
        /// The call.
        call: Box<scheduler::Call>,
        /// The answer.
        answer: oneshot::Sender<Result<(), Refusal>>,
    },
    /// An agent opened its link.
    Link {
        /// The link.
        conn: ConnId,
        /// Where its orders go.
        orders: Outbox<link::MasterMessage>,
        /// Given when the link is closed from this side.
        closed: Stop,
    },
    /// An agent's message.
    Agent {
        /// The link.
        conn: ConnId,
        /// The message.
        message: Box<link::AgentMessage>,
    },
    /// An operator's call that changes something.
    Operator {
        /// The call.
        call: Box<master::Call>,
        /// The answer.
        answer: oneshot::Sender<Result<(), Refusal>>,
    },
    /// Somebody reads a sandbox.
    Read {
        /// Which read.
        read: ReadId,
        /// What.
        request: Box<link::ReadSandbox>,
        /// Where the pieces go.
        chunks: mpsc::Sender<link::SandboxChunk>,
    },
    /// The reader is gone.
    CancelRead(ReadId),
    /// Somebody asks why a framework has no offer.
    Explain {
        /// What is asked.
        question: Question,
        /// The answer.
        answer: oneshot::Sender<Result<Answer, Refusal>>,
    },
}

impl Office {
    /// The way to a core whose shell reads the other ends.
    pub fn new(
        reader: Reader,
    ) -> (
        Arc<Self>,
        mpsc::Receiver<Knock>,
        mpsc::UnboundedReceiver<ConnId>,
    ) {
        let (knocks, knocked) = mpsc::channel(MAX_KNOCKS);
        // Bounded by the number of connections, each of which ends once.
        let (gone, went) = mpsc::unbounded_channel();
        (
            Arc::new(Self {
                knocks,
                gone,
                next: AtomicU64::new(0),
                reader,
            }),
            knocked,
            went,
        )
    }

    /// Waits for a place and hands the knock over.
    ///
    /// # Errors
    /// If the term is over.
    pub async fn knock(&self, knock: Knock) -> Result<(), Status> {
        self.knocks.send(knock).await.map_err(|_| over())
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A connection that tells of its end when it is dropped.
    pub fn connection(self: &Arc<Self>) -> Connection {
        Connection {
            id: ConnId(self.number()),
            office: self.clone(),
        }
    }

    /// A new name for a read.
    pub fn read_id(&self) -> ReadId {
        ReadId(self.number())
    }
}

/// A term that ended while somebody waited.
pub fn over() -> Status {
    grpc::refuse(503, "this master stopped leading")
}

/// A refusal as gRPC has it.
pub fn refused(refusal: &Refusal) -> Status {
    grpc::refuse(refusal.status, &refusal.text)
}

/// A connection; dropping it tells the core that it is gone.
#[derive(Debug)]
pub struct Connection {
    /// Its name.
    pub id: ConnId,
    office: Arc<Office>,
}

impl Connection {
    /// For a connection whose two halves end apart: whichever is dropped first tells; telling twice is the
    /// same as once.
    pub fn both(self) -> (Self, Self) {
        let other = Self {
            id: self.id,
            office: self.office.clone(),
        };
        (self, other)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A term that is over needs no telling.
        let _ = self.office.gone.send(self.id);
    }
}

/// Where the doors look.
#[derive(Clone, Debug)]
pub struct Front {
    post: watch::Receiver<Post>,
}

impl Front {
    /// What the shell shows at the other end.
    pub fn new(post: watch::Receiver<Post>) -> Self {
        Self { post }
    }

    /// The way to the core.
    ///
    /// # Errors
    /// If this master does not lead: with the leader's address in the metadata, if it is known.
    pub fn office(&self) -> Result<Arc<Office>, Status> {
        match &*self.post.borrow() {
            Post::Leading(office) => Ok(office.clone()),
            Post::Loading => Err(grpc::refuse(503, "Master has not finished recovery")),
            Post::Standby { leader } => Err(grpc::not_leading(leader.as_deref())),
        }
    }
}

/// The writing end of a stream to a reader who may be slow.
pub struct Outbox<T> {
    messages: mpsc::Sender<T>,
    last_word: Arc<OnceLock<Status>>,
}

impl<T> fmt::Debug for Outbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outbox")
    }
}

/// The reading end: ends when the writing end is dropped, with a status if it was cut.
#[derive(Debug)]
pub struct Inbox<T> {
    messages: mpsc::Receiver<T>,
    last_word: Arc<OnceLock<Status>>,
    /// Kept until the stream is dropped.
    connection: Option<Connection>,
    done: bool,
}

/// Both ends.
pub fn stream<T>(connection: Connection) -> (Outbox<T>, Inbox<T>) {
    let (sender, receiver) = mpsc::channel(MAX_UNREAD);
    let last_word = Arc::new(OnceLock::new());
    let outbox = Outbox {
        messages: sender,
        last_word: last_word.clone(),
    };
    (
        outbox,
        Inbox {
            messages: receiver,
            last_word,
            connection: Some(connection),
            done: false,
        },
    )
}

impl<T> Outbox<T> {
    /// Whether nobody reads any more.
    pub fn is_deserted(&self) -> bool {
        self.messages.is_closed()
    }

    /// Puts a message in; `false` if the reader is gone or so slow that it must be cut.
    pub fn put(&self, message: T) -> bool {
        match self.messages.try_send(message) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                let words = format!("cut off: {MAX_UNREAD} messages were not read");
                let _ = self.last_word.set(grpc::refuse(429, words));
                false
            }
        }
    }
}

impl<T> Stream for Inbox<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.done {
            return Poll::Ready(None);
        }
        match self.messages.poll_recv(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(message)) => Poll::Ready(Some(Ok(message))),
            Poll::Ready(None) => {
                self.done = true;
                self.connection = None;
                Poll::Ready(self.last_word.get().cloned().map(Err))
            }
        }
    }
}

/// Whom the guard at the door recognised.
pub fn principal<T>(request: &Request<T>) -> Option<Arc<str>> {
    request
        .extensions()
        .get::<Principal>()
        .map(|Principal(name)| name.clone())
}

/// The stream id in the metadata; what is no text cannot be one.
pub fn stream_id<T>(request: &Request<T>) -> Option<String> {
    let value = request.metadata().get(grpc::STREAM_ID)?;
    Some(value.to_str().unwrap_or_default().to_owned())
}
