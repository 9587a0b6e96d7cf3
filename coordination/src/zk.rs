//! What this crate says to ZooKeeper, as values: requests, answers and refusals.
//!
//! The pure parts (the election's rules, the store's mapping) speak this language; [`client`] carries it to a
//! real server, and a simulator answers it from a model. It is the part of ZooKeeper's protocol that is needed
//! here and no more.
//!
//! Invariant: requests of one session are executed and answered in the order in which they were sent.

use std::fmt;

use bytes::Bytes;

pub mod client;

/// How long a node lives and how it is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CreateMode {
    /// Until it is deleted.
    Persistent,
    /// Until its session ends.
    Ephemeral,
    /// Until its session ends; ten digits that grow with every child of the parent are added to its name.
    EphemeralSequential,
}

/// Who may do what with a node. Without credentials every node is open, whatever is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Everybody reads, only the credentials of its creator change it.
    Readable,
    /// Only the credentials of its creator read and change it.
    Private,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// A single change.
    Write(WriteOp),
    /// Changes that happen together or not at all.
    Multi(Vec<WriteOp>),
    /// A node's data.
    Get {
        /// Which node.
        path: String,
        /// Whether the server that answers first catches up with its leader.
        sync: bool,
    },
    /// Whether a node exists; the watch fires once, when it is created, changed or deleted.
    Exists {
        /// Which node.
        path: String,
        /// Whether to be told of the next change.
        watch: bool,
    },
    /// The names of a node's children; the watch fires once, when a child comes or goes, or the node goes.
    Children {
        /// Which node.
        path: String,
        /// Whether to be told of the next change.
        watch: bool,
        /// Whether the server that answers first catches up with its leader.
        sync: bool,
    },
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WriteOp {
    /// Creates a node.
    Create {
        /// Its path, up to the digits of a sequential one.
        path: String,
        /// Its data.
        data: Bytes,
        /// How long it lives.
        mode: CreateMode,
        /// Who may do what with it.
        access: Access,
    },
    /// Replaces a node's data.
    Set {
        /// Which node.
        path: String,
        /// Its new data.
        data: Bytes,
        /// The version it must have; `None` for any.
        version: Option<i32>,
    },
    /// Deletes a node without children.
    Delete {
        /// Which node.
        path: String,
        /// The version it must have; `None` for any.
        version: Option<i32>,
    },
    /// Changes nothing, but the node must exist. Only within [`Request::Multi`].
    Check {
        /// Which node.
        path: String,
        /// The version it must have; `None` for any.
        version: Option<i32>,
    },
}

/// What ZooKeeper keeps about a node beside its data. Zxids number all changes of an ensemble in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stat {
    /// The change that created it.
    pub czxid: i64,
    /// The change that last set its data.
    pub mzxid: i64,
    /// The change that last added or removed a child.
    pub pzxid: i64,
    /// How often its data was set since it was created.
    pub version: i32,
    /// How often a child came or went.
    pub cversion: i32,
    /// The session it ends with; 0 if it is persistent.
    pub ephemeral_owner: i64,
    /// How many children it has.
    pub num_children: i32,
}

/// What a successful request is answered with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// To [`Request::Write`].
    Written(Written),
    /// To [`Request::Multi`]: one for each of its changes.
    Multi(Vec<Written>),
    /// To [`Request::Get`].
    Data {
        /// The node's data.
        data: Bytes,
        /// What else is known about it.
        stat: Stat,
    },
    /// To [`Request::Exists`]: `None` if it does not.
    Exists(Option<Stat>),
    /// To [`Request::Children`].
    Children {
        /// Their names, without path, in no order.
        names: Vec<String>,
        /// The parent.
        stat: Stat,
    },
}

/// What a successful change did.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Written {
    /// Created, under this path.
    Created {
        /// The path, with the digits of a sequential node.
        path: String,
    },
    /// Set; the version that the node has now.
    Set {
        /// How often it was set since it was created.
        version: i32,
    },
    /// Deleted.
    Deleted,
    /// Checked.
    Checked,
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ZkError {
    /// No such node, or no such parent.
    #[error("no such node")]
    NoNode,
    /// There is such a node already.
    #[error("the node exists")]
    NodeExists,
    /// The node has another version.
    #[error("the node has another version")]
    BadVersion,
    /// The node has children.
    #[error("the node has children")]
    NotEmpty,
    /// An ephemeral node can have no children.
    #[error("an ephemeral node can have no children")]
    NoChildrenForEphemerals,
    /// These credentials may not do that.
    #[error("the credentials given (zk://user:password@...) may not do that")]
    NoAuth,
    /// The connection broke; the request happened or it did not.
    #[error("the connection was lost")]
    ConnectionLoss,
    /// The session is over; its ephemeral nodes go.
    #[error("the session is over")]
    SessionExpired,
    /// Anything else, in the server's or the client's words.
    #[error("{0}")]
    Unexpected(String),
}

/// Which part of a request failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Failure {
    /// The request as a whole.
    #[error("{0}")]
    Request(#[from] ZkError),
    /// One change of a [`Request::Multi`]; none of them happened.
    #[error("change {index}: {error}")]
    Op {
        /// Which change, counted from 0.
        index: usize,
        /// Why it failed.
        error: ZkError,
    },
}

impl Failure {
    /// The error, whichever part failed.
    pub fn error(&self) -> &ZkError {
        match self {
            Self::Request(error) | Self::Op { error, .. } => error,
        }
    }

    /// Whether the request may have happened all the same.
    pub fn in_doubt(&self) -> bool {
        matches!(
            self,
            Self::Request(
                ZkError::ConnectionLoss | ZkError::Unexpected(_) | ZkError::SessionExpired
            )
        )
    }
}

impl Request {
    /// Creates a persistent node.
    pub fn create(path: impl Into<String>, data: impl Into<Bytes>, access: Access) -> Self {
        let (path, data) = (path.into(), data.into());
        Self::Write(WriteOp::Create {
            path,
            data,
            mode: CreateMode::Persistent,
            access,
        })
    }

    /// Deletes a node of any version.
    pub fn delete(path: impl Into<String>) -> Self {
        Self::Write(WriteOp::Delete {
            path: path.into(),
            version: None,
        })
    }

    /// Reads a node's data.
    pub fn get(path: impl Into<String>) -> Self {
        Self::Get {
            path: path.into(),
            sync: false,
        }
    }
}

impl WriteOp {
    /// Which node is changed.
    pub fn path(&self) -> &str {
        match self {
            Self::Create { path, .. }
            | Self::Set { path, .. }
            | Self::Delete { path, .. }
            | Self::Check { path, .. } => path,
        }
    }

    /// About how many bytes of a request it takes.
    pub fn request_bytes(&self) -> usize {
        let data = match self {
            Self::Create { data, .. } | Self::Set { data, .. } => data.len(),
            Self::Delete { .. } | Self::Check { .. } => 0,
        };
        // Header, lengths, version or flags, and the access list of a create.
        self.path().len() + data + 80
    }
}

/// Prints what is asked for, not the data.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(op) => write!(f, "{op}"),
            Self::Multi(ops) => {
                f.write_str("multi")?;
                ops.iter().try_for_each(|op| write!(f, " [{op}]"))
            }
            Self::Get { path, .. } => write!(f, "get {path}"),
            Self::Exists { path, .. } => write!(f, "exists {path}"),
            Self::Children { path, .. } => write!(f, "list {path}"),
        }
    }
}

impl fmt::Display for WriteOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self {
            Self::Create { .. } => "create",
            Self::Set { .. } => "set",
            Self::Delete { .. } => "delete",
            Self::Check { .. } => "check",
        };
        write!(f, "{verb} {}", self.path())
    }
}
