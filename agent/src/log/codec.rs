//! Records as bytes: one byte for the kind, then a protobuf message.
//!
//! The messages are this file's own, so that fields can be added; what frameworks said is kept as the bytes of the
//! Mesos message it came in. A kind that this build does not know belongs to a newer version, which the file's header
//! refuses before anything is decoded.

use std::sync::Arc;

use mezzo_model::ids::{AgentId, ContainerId, ExecutorId, FrameworkId, IdError, TaskId};
use mezzo_model::{Epoch, TaskState, Wall};
use mezzo_wire::v1;
use prost::Message;

use crate::core::record::{
    Completed, ContainerRecord, ExecutorKind, Process, Record, Sandbox, TaskKey, TaskRecord,
    UpdateId,
};

/// Why the payload of a whole frame is not a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// No bytes at all.
    #[error("an empty record")]
    Empty,
    /// A kind that this version does not write.
    #[error("a record of kind {0}, which this version does not know")]
    Kind(u8),
    /// Not the message it should be.
    #[error("a record of kind {kind} is not readable: {source}")]
    Message {
        /// The kind.
        kind: u8,
        /// What the decoder says.
        #[source]
        source: prost::DecodeError,
    },
    /// An id in it breaks the rule for ids.
    #[error("a record holds an id that is none: {0}")]
    Id(#[from] IdError),
    /// Something else that the format does not allow.
    #[error("a record holds no usable {0}")]
    Value(&'static str),
}

/// Everything that any record holds, as one message: absent fields cost nothing.
#[derive(Clone, PartialEq, Message)]
struct Body {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
    #[prost(uint64, optional, tag = "2")]
    number: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    second: Option<u64>,
    #[prost(string, optional, tag = "4")]
    framework: Option<String>,
    #[prost(string, optional, tag = "5")]
    executor: Option<String>,
    #[prost(string, optional, tag = "6")]
    container: Option<String>,
    #[prost(string, optional, tag = "7")]
    agent: Option<String>,
    #[prost(string, optional, tag = "8")]
    task: Option<String>,
    #[prost(bytes = "vec", optional, tag = "9")]
    message: Option<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "10")]
    uuids: Vec<Vec<u8>>,
    #[prost(string, repeated, tag = "11")]
    tasks: Vec<String>,
    #[prost(int32, optional, tag = "12")]
    state: Option<i32>,
    #[prost(string, optional, tag = "13")]
    user: Option<String>,
}

mod kind {
    pub const BOOT: u8 = 1;
    pub const AGENT: u8 = 2;
    pub const EPOCH: u8 = 3;
    pub const FRAMEWORK: u8 = 4;
    pub const FRAMEWORK_REMOVED: u8 = 5;
    pub const CONTAINER: u8 = 6;
    pub const STARTED: u8 = 7;
    pub const ENDED: u8 = 8;
    pub const SANDBOX_REMOVED: u8 = 9;
    pub const TASK: u8 = 10;
    pub const DELIVERED: u8 = 11;
    pub const KILL: u8 = 12;
    pub const UPDATE: u8 = 13;
    pub const ACKNOWLEDGED: u8 = 14;
    pub const SEEN: u8 = 15;
    pub const COMPLETED: u8 = 16;
    pub const SERVED: u8 = 17;
    pub const SANDBOX: u8 = 18;
}

/// Appends a record to a buffer.
pub(super) fn encode(record: &Record, buffer: &mut Vec<u8>) {
    let (kind, body) = body_of(record);
    buffer.push(kind);
    // Encoding into a vector cannot run out of room.
    let _ = body.encode(buffer);
}

fn body_of(record: &Record) -> (u8, Body) {
    let empty = Body::default();
    match record {
        Record::Boot { boot_id } => (
            kind::BOOT,
            Body {
                text: Some(boot_id.to_string()),
                ..empty
            },
        ),
        Record::Agent { id } => (
            kind::AGENT,
            Body {
                agent: id.as_ref().map(text),
                ..empty
            },
        ),
        Record::Epoch(epoch) => {
            let cluster = epoch.cluster_id.to_string();
            (
                kind::EPOCH,
                Body {
                    text: Some(cluster),
                    number: Some(epoch.counter),
                    ..empty
                },
            )
        }
        Record::Framework(info) => (
            kind::FRAMEWORK,
            Body {
                message: bytes(&**info),
                ..empty
            },
        ),
        Record::FrameworkRemoved { id } => (
            kind::FRAMEWORK_REMOVED,
            Body {
                framework: Some(text(id)),
                ..empty
            },
        ),
        Record::Container(container) => (kind::CONTAINER, container_body(container)),
        Record::Started { container, process } => {
            let (pid, start) = (u64::from(process.pid), process.start);
            let container = Some(text(container));
            (
                kind::STARTED,
                Body {
                    container,
                    number: Some(pid),
                    second: Some(start),
                    ..empty
                },
            )
        }
        Record::Ended { container, at } => (
            kind::ENDED,
            Body {
                container: Some(text(container)),
                number: Some(at.0),
                ..empty
            },
        ),
        Record::SandboxRemoved { container } => (
            kind::SANDBOX_REMOVED,
            Body {
                container: Some(text(container)),
                ..empty
            },
        ),
        Record::Task(task) => (kind::TASK, task_body(task)),
        Record::Delivered { task } => (kind::DELIVERED, key_body(task)),
        Record::Kill { task, policy } => (
            kind::KILL,
            Body {
                message: policy.as_ref().and_then(bytes),
                ..key_body(task)
            },
        ),
        Record::Update { task, status } => (
            kind::UPDATE,
            Body {
                message: bytes(&**status),
                ..key_body(task)
            },
        ),
        Record::Acknowledged { task, uuid } => (
            kind::ACKNOWLEDGED,
            Body {
                uuids: vec![uuid.to_vec()],
                ..key_body(task)
            },
        ),
        Record::Seen { task, uuids } => {
            let uuids = uuids.iter().map(|uuid| uuid.to_vec()).collect();
            (
                kind::SEEN,
                Body {
                    uuids,
                    ..key_body(task)
                },
            )
        }
        Record::Completed(completed) => {
            let state = Some(completed.state.number());
            (
                kind::COMPLETED,
                Body {
                    state,
                    ..key_body(&completed.task)
                },
            )
        }
        Record::Served { container, tasks } => {
            let tasks = tasks.iter().map(text).collect();
            (
                kind::SERVED,
                Body {
                    container: Some(text(container)),
                    tasks,
                    ..empty
                },
            )
        }
        Record::Sandbox(sandbox) => (kind::SANDBOX, sandbox_body(sandbox)),
    }
}

fn text(id: impl AsRef<str>) -> String {
    id.as_ref().to_owned()
}

fn bytes(message: &impl Message) -> Option<Vec<u8>> {
    Some(message.encode_to_vec())
}

fn key_body(task: &TaskKey) -> Body {
    Body {
        framework: Some(text(&task.0)),
        task: Some(text(&task.1)),
        ..Body::default()
    }
}

fn container_body(record: &ContainerRecord) -> Body {
    Body {
        container: Some(text(&record.id)),
        framework: Some(text(&record.framework)),
        executor: Some(text(&record.executor)),
        agent: Some(text(&record.agent)),
        user: Some(record.user.to_string()),
        message: match &record.kind {
            ExecutorKind::Command => None,
            ExecutorKind::Custom(info) => bytes(&**info),
        },
        ..Body::default()
    }
}

fn task_body(record: &TaskRecord) -> Body {
    Body {
        container: record.container.as_ref().map(text),
        text: record.group.as_ref().map(|group| group.to_string()),
        message: bytes(&record.info),
        ..key_body(&record.key())
    }
}

fn sandbox_body(sandbox: &Sandbox) -> Body {
    Body {
        container: Some(text(&sandbox.container)),
        framework: Some(text(&sandbox.framework)),
        executor: Some(text(&sandbox.executor)),
        agent: Some(text(&sandbox.agent)),
        number: Some(sandbox.ended.0),
        tasks: sandbox.tasks.iter().map(text).collect(),
        ..Body::default()
    }
}

/// Reads the record in a payload.
pub(super) fn decode(payload: &[u8]) -> Result<Record, CodecError> {
    let (&kind, rest) = payload.split_first().ok_or(CodecError::Empty)?;
    let body = Body::decode(rest).map_err(|source| CodecError::Message { kind, source })?;
    Reader { kind, body }.record()
}

struct Reader {
    kind: u8,
    body: Body,
}

impl Reader {
    fn record(&mut self) -> Result<Record, CodecError> {
        Ok(match self.kind {
            kind::BOOT => Record::Boot {
                boot_id: self.text("boot id")?,
            },
            kind::AGENT => Record::Agent {
                id: self.body.agent.as_deref().map(AgentId::parse).transpose()?,
            },
            kind::EPOCH => Record::Epoch(Epoch {
                cluster_id: self.text("cluster id")?,
                counter: self.number("counter")?,
            }),
            kind::FRAMEWORK => Record::Framework(Arc::new(self.message()?)),
            kind::FRAMEWORK_REMOVED => Record::FrameworkRemoved {
                id: self.framework()?,
            },
            kind::CONTAINER => Record::Container(Arc::new(self.container_record()?)),
            kind::STARTED => Record::Started {
                container: self.container()?,
                process: Process {
                    pid: u32::try_from(self.number("pid")?)
                        .map_err(|_| CodecError::Value("pid"))?,
                    start: self.body.second.ok_or(CodecError::Value("start time"))?,
                },
            },
            kind::ENDED => Record::Ended {
                container: self.container()?,
                at: Wall(self.number("time")?),
            },
            kind::SANDBOX_REMOVED => Record::SandboxRemoved {
                container: self.container()?,
            },
            kind::TASK => Record::Task(Arc::new(self.task_record()?)),
            kind::DELIVERED => Record::Delivered { task: self.key()? },
            kind::KILL => Record::Kill {
                task: self.key()?,
                policy: match self.body.message {
                    Some(_) => Some(self.message::<v1::KillPolicy>()?),
                    None => None,
                },
            },
            kind::UPDATE => Record::Update {
                task: self.key()?,
                status: Arc::new(self.status()?),
            },
            kind::ACKNOWLEDGED => Record::Acknowledged {
                task: self.key()?,
                uuid: *self.uuids()?.first().ok_or(CodecError::Value("uuid"))?,
            },
            kind::SEEN => Record::Seen {
                task: self.key()?,
                uuids: self.uuids()?,
            },
            kind::COMPLETED => Record::Completed(Completed {
                task: self.key()?,
                state: self
                    .body
                    .state
                    .and_then(TaskState::from_number)
                    .ok_or(CodecError::Value("state"))?,
            }),
            kind::SERVED => Record::Served {
                container: self.container()?,
                tasks: self.tasks()?,
            },
            kind::SANDBOX => Record::Sandbox(Sandbox {
                container: self.container()?,
                framework: self.framework()?,
                executor: self.executor()?,
                agent: self.agent()?,
                ended: Wall(self.number("time")?),
                tasks: self.tasks()?,
            }),
            other => return Err(CodecError::Kind(other)),
        })
    }

    fn text(&self, what: &'static str) -> Result<Arc<str>, CodecError> {
        self.body
            .text
            .as_deref()
            .map(Arc::from)
            .ok_or(CodecError::Value(what))
    }

    fn number(&self, what: &'static str) -> Result<u64, CodecError> {
        self.body.number.ok_or(CodecError::Value(what))
    }

    fn framework(&self) -> Result<FrameworkId, CodecError> {
        let id = self
            .body
            .framework
            .as_deref()
            .ok_or(CodecError::Value("framework id"))?;
        Ok(FrameworkId::parse(id)?)
    }

    fn executor(&self) -> Result<ExecutorId, CodecError> {
        let id = self
            .body
            .executor
            .as_deref()
            .ok_or(CodecError::Value("executor id"))?;
        Ok(ExecutorId::parse(id)?)
    }

    fn container(&self) -> Result<ContainerId, CodecError> {
        let id = self
            .body
            .container
            .as_deref()
            .ok_or(CodecError::Value("container id"))?;
        Ok(ContainerId::parse(id)?)
    }

    fn agent(&self) -> Result<AgentId, CodecError> {
        let id = self
            .body
            .agent
            .as_deref()
            .ok_or(CodecError::Value("agent id"))?;
        Ok(AgentId::parse(id)?)
    }

    fn task(&self) -> Result<TaskId, CodecError> {
        let id = self
            .body
            .task
            .as_deref()
            .ok_or(CodecError::Value("task id"))?;
        Ok(TaskId::parse(id)?)
    }

    fn key(&self) -> Result<TaskKey, CodecError> {
        Ok((self.framework()?, self.task()?))
    }

    fn tasks(&self) -> Result<Vec<TaskId>, CodecError> {
        let ids = self.body.tasks.iter().map(|id| TaskId::parse(id));
        Ok(ids.collect::<Result<_, _>>()?)
    }

    fn uuids(&self) -> Result<Vec<UpdateId>, CodecError> {
        let uuids = self
            .body
            .uuids
            .iter()
            .map(|uuid| UpdateId::try_from(uuid.as_slice()));
        uuids
            .collect::<Result<_, _>>()
            .map_err(|_| CodecError::Value("uuid"))
    }

    fn message<M: Message + Default>(&self) -> Result<M, CodecError> {
        let bytes = self
            .body
            .message
            .as_deref()
            .ok_or(CodecError::Value("message"))?;
        M::decode(bytes).map_err(|source| CodecError::Message {
            kind: self.kind,
            source,
        })
    }

    fn status(&self) -> Result<v1::TaskStatus, CodecError> {
        let status: v1::TaskStatus = self.message()?;
        match crate::core::record::update_id(&status) {
            Some(_) => Ok(status),
            None => Err(CodecError::Value("uuid")),
        }
    }

    fn container_record(&self) -> Result<ContainerRecord, CodecError> {
        Ok(ContainerRecord {
            id: self.container()?,
            framework: self.framework()?,
            executor: self.executor()?,
            agent: self.agent()?,
            user: Arc::from(self.body.user.as_deref().unwrap_or_default()),
            kind: match self.body.message {
                Some(_) => ExecutorKind::Custom(Box::new(self.message()?)),
                None => ExecutorKind::Command,
            },
        })
    }

    fn task_record(&self) -> Result<TaskRecord, CodecError> {
        Ok(TaskRecord {
            framework: self.framework()?,
            id: self.task()?,
            container: match self.body.container {
                Some(_) => Some(self.container()?),
                None => None,
            },
            group: self.body.text.as_deref().map(Arc::from),
            info: self.message()?,
        })
    }
}
