//! What goes into the core and what comes out of it.
//!
//! Outputs are to be carried out in their order. The shell decides nothing; what fails comes back as an input.

use std::net::IpAddr;
use std::sync::Arc;

use mezzo_model::Millis;
use mezzo_model::ids::{AgentId, ContainerId, ExecutorId, FrameworkId};
use mezzo_wire::{link, v1};

use super::record::{Place, Process, Record, TaskKey};

/// One connection to a master; grows by one at each dial of this process.
pub type LinkId = u64;

/// One connection of an executor; chosen by the shell, never used again.
pub type ConnId = u64;

/// What the agent is, and how long it waits.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The name that people and other machines know the host by.
    pub hostname: String,
    /// The address at which tasks of this agent are reached: told in the status of their containers.
    pub ip: IpAddr,
    /// The port of the agent's door.
    pub port: u16,
    /// All that can be offered.
    pub resources: Vec<v1::Resource>,
    /// What operators say about the agent, and which containerizer is used.
    pub attributes: Vec<v1::Attribute>,
    /// Mezzo's version.
    pub version: String,
    /// The kernel's boot id.
    pub boot_id: Arc<str>,
    /// The name of the user that the agent runs as.
    pub user: String,
    /// Whether the agent may run tasks as another user than its own.
    pub switch_user: bool,
    /// The user of a task for which nobody named one, where the agent may switch users.
    pub default_user: String,
    /// How long a new executor may take to subscribe.
    pub registration_timeout: Millis,
    /// How long an executor that lives may take to subscribe again.
    pub reregistration_timeout: Millis,
    /// How long an executor may take to shut down, unless its framework says otherwise.
    pub shutdown_grace: Millis,
    /// How long a task of our own executor may take to end after a kill, unless its framework says otherwise.
    pub kill_grace: Millis,
    /// How old the sandbox of an ended container grows.
    pub gc_delay: Millis,
    /// How many such sandboxes are kept at most.
    pub sandboxes_max: usize,
    /// The most that the first wait before dialling again may be; it doubles with each failure.
    pub dial_backoff: Millis,
    /// The most that any such wait may be.
    pub dial_backoff_max: Millis,
    /// How long it may take from dialling to being welcomed.
    pub greet_timeout: Millis,
    /// End what is found alive at the start instead of adopting it.
    pub end_recovered: bool,
}

impl Config {
    /// A configuration with the usual waits, for a host of that name with those resources.
    pub fn new(hostname: &str, resources: Vec<v1::Resource>) -> Self {
        Self {
            hostname: hostname.to_owned(),
            ip: IpAddr::from([127, 0, 0, 1]),
            port: 5051,
            resources,
            attributes: Vec::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: Arc::from("boot"),
            user: "root".to_owned(),
            switch_user: true,
            default_user: "nobody".to_owned(),
            registration_timeout: Millis::from_secs(60),
            reregistration_timeout: Millis::from_secs(60),
            shutdown_grace: Millis::from_secs(5),
            kill_grace: Millis::from_secs(3),
            gc_delay: Millis::from_secs(7 * 24 * 3600),
            sandboxes_max: 1_000,
            dial_backoff: Millis(200),
            dial_backoff_max: Millis::from_secs(60),
            greet_timeout: Millis::from_secs(30),
            end_recovered: false,
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The first input of every core.
    Start,
    /// Time has passed; perhaps [`Core::next_deadline`](super::Core::next_deadline).
    Tick,
    /// What the detector knows: `host:port` of the leading master.
    Leader(Option<Arc<str>>),
    /// A dialled connection stands; nothing was said yet.
    LinkUp {
        /// Which.
        link: LinkId,
    },
    /// A connection could not be made, or ended.
    LinkDown {
        /// Which.
        link: LinkId,
        /// Why, in words.
        reason: String,
        /// Who leads, if the other side said so while refusing.
        leader: Option<Arc<str>>,
    },
    /// The master said something.
    FromMaster {
        /// On which connection.
        link: LinkId,
        /// What.
        message: Box<link::MasterMessage>,
    },
    /// Somebody who proved to be this executor wants to speak. Answered by [`Output::AnswerHello`].
    ExecutorHello {
        /// The connection.
        conn: ConnId,
        /// Whose executor.
        framework: FrameworkId,
        /// Which.
        executor: ExecutorId,
        /// In which container.
        container: ContainerId,
    },
    /// An executor said something.
    ExecutorCall {
        /// On which connection.
        conn: ConnId,
        /// What; required fields are there.
        call: Box<v1::executor::Call>,
    },
    /// A connection of an executor ended. Everything it said came before.
    ExecutorGone {
        /// Which.
        conn: ConnId,
    },
    /// The process of a container is there.
    Launched {
        /// Which container.
        container: ContainerId,
        /// Its executor process.
        process: Process,
    },
    /// A container could not be made; nothing is left of the attempt.
    LaunchFailed {
        /// Which container.
        container: ContainerId,
        /// Why, in words.
        message: String,
    },
    /// The executor process of a container is gone, all its processes are, and what was made for it is removed.
    ContainerEnded {
        /// Which container.
        container: ContainerId,
        /// How.
        end: ContainerEnd,
    },
    /// The answer to [`Output::Probe`], once for each container.
    Probed {
        /// Which container.
        container: ContainerId,
        /// Its executor process, if it lives; the shell watches it from now on.
        alive: Option<Process>,
    },
    /// The records of [`Output::Log`] are written, and flushed if that was asked for.
    Logged {
        /// Which write.
        id: u64,
    },
    /// A sandbox is gone.
    SandboxRemoved {
        /// Whose.
        container: ContainerId,
    },
    /// End every task and then stop, keeping the agent's id (somebody who sits before it wants an empty machine).
    EndAll,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerEnd {
    /// As wait(2) gave it, of the payload if known and else of the executor; `None` if nobody could know.
    pub status: Option<i32>,
    /// What its executor left in writing about the payload.
    pub payload: Option<PayloadEnd>,
    /// The kernel killed in the container for want of memory; the words for people.
    pub out_of_memory: Option<String>,
}

/// What an executor left in writing about its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadEnd {
    /// In words.
    pub message: String,
    /// It left with status 0.
    pub success: bool,
    /// Its executor was told to end it.
    pub killed: bool,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Write these records, in the order of the outputs; answer with [`Input::Logged`] when they are written, or with
    /// `flush` when they are on the disk. A write that fails for good ends the process.
    Log {
        /// Names the write; grows by one.
        id: u64,
        /// What is written.
        records: Vec<Record>,
        /// Somebody outside this host will rely on it.
        flush: bool,
    },
    /// Open a connection to a master.
    Dial {
        /// Its id.
        link: LinkId,
        /// `host:port`.
        address: Arc<str>,
    },
    /// Send on a connection.
    ToMaster {
        /// Which.
        link: LinkId,
        /// What.
        message: Box<link::AgentMessage>,
    },
    /// Close a connection once what was sent is out. No [`Input::LinkDown`] need follow.
    HangUp {
        /// Which.
        link: LinkId,
    },
    /// Let an executor in or send it away in words.
    AnswerHello {
        /// Its connection.
        conn: ConnId,
        /// The answer.
        answer: Result<(), String>,
    },
    /// Send an event to an executor.
    ToExecutor {
        /// Its connection.
        conn: ConnId,
        /// What.
        event: Box<v1::executor::Event>,
    },
    /// Close the connection of an executor once what was sent is out.
    CloseExecutor {
        /// Which.
        conn: ConnId,
    },
    /// Make a container and start its executor; answer with [`Input::Launched`] or [`Input::LaunchFailed`].
    Launch(Box<Launch>),
    /// End the executor of a container and everything in it, whatever state it is in (also one that is being made, or
    /// one of which only leftovers may be there); answer with [`Input::ContainerEnded`].
    Destroy {
        /// Which.
        container: ContainerId,
    },
    /// Change the limits of a container that runs.
    Resize {
        /// Which.
        container: ContainerId,
        /// The new limits.
        limits: Limits,
    },
    /// Look which of these live, of whom the log says that they may; answer with [`Input::Probed`] for each.
    Probe {
        /// The containers with the process last known.
        containers: Vec<(Place, Option<Process>)>,
    },
    /// Remove a sandbox; answer with [`Input::SandboxRemoved`] when it is gone.
    RemoveSandbox {
        /// Which.
        place: Place,
    },
    /// Read a file and send it as chunks on the link.
    Read(Box<Read>),
    /// Stop a read.
    CancelRead {
        /// On which link it was asked for.
        link: LinkId,
        /// Which.
        request: u64,
    },
    /// The task writes no more: reads that follow it end with what is there.
    ReadsEnd {
        /// Which task.
        task: TaskKey,
    },
    /// Whether the agent can do its work, for `/health`.
    Health(Result<(), String>),
    /// A line for the log of the process.
    Note {
        /// How loud.
        level: NoteLevel,
        /// What.
        text: String,
    },
    /// End the process. No output follows.
    Stop {
        /// Why, if that is worth an error.
        error: Option<String>,
    },
}

/// How loud a note is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteLevel {
    /// Something that should not happen or that a person must act upon.
    Error,
    /// Something odd that was dealt with.
    Warning,
    /// A step in the agent's life.
    Info,
}

/// A container to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// Where its sandbox lies, which names it too.
    pub place: Place,
    /// The user that the payload runs as.
    pub user: Arc<str>,
    /// Whether the executor is the framework's own.
    pub custom: bool,
    /// What is run: the task's command, or the framework's executor.
    pub command: v1::CommandInfo,
    /// How it is to be contained.
    pub container: Option<v1::ContainerInfo>,
    /// What the framework asked for in resources that the container cannot have yet (persistent volumes).
    pub volumes_asked: bool,
    /// Its limits.
    pub limits: Limits,
    /// Whether the framework wants its executors to outlive the agent; ours always do.
    pub checkpoint: bool,
    /// How long the executor may take to shut down.
    pub shutdown_grace: Millis,
}

/// What a container may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Its share of the processors, in thousandths of one.
    pub cpu_milli: u64,
    /// What it may use at most, in thousandths of one; `None`: whatever is free.
    pub cpu_max_milli: Option<u64>,
    /// What it may use of memory, in bytes; `None`: whatever is free.
    pub memory_bytes: Option<u64>,
}

/// A read of a sandbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// The connection that asked.
    pub link: LinkId,
    /// The master's name for it.
    pub request: u64,
    /// The task whose sandbox it is.
    pub task: TaskKey,
    /// Where the sandbox lies.
    pub place: Place,
    /// The file in it.
    pub path: String,
    /// Where to start; negative counts from the end.
    pub offset: i64,
    /// Most bytes in all.
    pub length: Option<u64>,
    /// Keep sending what is appended; false also when the task writes no more.
    pub follow: bool,
}

impl Place {
    /// The place of a container of this agent.
    pub fn new(
        agent: AgentId,
        framework: FrameworkId,
        executor: ExecutorId,
        container: ContainerId,
    ) -> Self {
        Self {
            agent,
            framework,
            executor,
            container,
        }
    }
}
