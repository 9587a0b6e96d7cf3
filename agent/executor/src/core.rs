//! What an executor decides, as a pure core: when to start, what to report, when to kill, when to leave.
//!
//! [`command`] is the built-in executor of one command; [`keeper`] only keeps a framework's own executor. Both stand on
//! [`life`], the life of one payload. Invariant: no clock, socket, process or file here; the shell hands in what
//! happened and carries out what is said.

pub mod checks;
mod command;
mod keeper;
mod life;
pub mod words;

use mezzo_model::{Millis, Now};
use mezzo_sdk::executor::core::DriverInput;
use mezzo_wire::v1::executor::Call;

use crate::plan::{EndedHow, ExecutorRole, Plan};
use checks::{CheckKind, Outcome, Question};
use command::CommandExecutor;
use keeper::Keeper;

/// What happens to an executor.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The process started.
    Start,
    /// Something on the way to the agent.
    Driver(DriverInput),
    /// Something with the payload.
    Payload(PayloadEvent),
    /// A check has its answer.
    Check {
        /// Which.
        kind: CheckKind,
        /// The run that [`Output::StartCheck`] named.
        run: u64,
        /// The answer.
        outcome: Outcome,
    },
    /// Somebody asks this process to end (SIGTERM).
    Terminate,
    /// Time passed.
    Tick,
}

/// What happens to a payload, in this order: `Started` or `NotStarted`, then `Exited` or `Lost` if it was started,
/// then `Gone`.
#[derive(Debug, Clone, PartialEq)]
pub enum PayloadEvent {
    /// It runs.
    Started,
    /// It could not be started: why, in words.
    NotStarted(String),
    /// Its main process ended.
    Exited(How),
    /// What kept it was killed; what is left of it is being killed.
    Lost,
    /// No process of it is left; what its cgroups said last.
    Gone(MemoryReport),
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// With this status.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

/// What the cgroups of a container say about memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryReport {
    /// How many processes the kernel killed for want of memory.
    pub kills: u64,
    /// The limit in bytes, if there is one.
    pub limit_bytes: Option<u64>,
    /// The most that was used, in bytes.
    pub peak_bytes: Option<u64>,
}

/// What the shell is to do, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Dial the agent's socket.
    Connect,
    /// Send a call to the agent.
    Send(Box<Call>),
    /// Start the payload.
    Start,
    /// Ask everything of the payload to end (SIGTERM).
    Terminate,
    /// Kill everything of the payload, whatever is left of it.
    Finish,
    /// Run a check.
    StartCheck {
        /// Which.
        kind: CheckKind,
        /// To be given back with the answer.
        run: u64,
        /// What to ask.
        question: Question,
    },
    /// Kill a check that takes too long or is not wanted any more.
    StopCheck {
        /// Which.
        kind: CheckKind,
    },
    /// Write down how the payload ended.
    Record(End),
    /// End this process.
    Leave,
    /// A line for the log.
    Note(String),
}

/// How a payload ended, to be recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    /// How.
    pub how: EndedHow,
    /// In words.
    pub message: String,
    /// The kernel killed for want of memory.
    pub out_of_memory: bool,
    /// The executor had told it to end.
    pub killed: bool,
}

type Out = Vec<Output>;

/// The core of one executor process.
#[derive(Debug)]
pub enum Core {
    /// The built-in executor of one command.
    Command(Box<CommandExecutor>),
    /// The keeper of a framework's own executor.
    Keeper(Keeper),
}

impl Core {
    /// The core that a plan asks for. `seed` must differ from executor to executor.
    pub fn new(plan: &Plan, seed: u64) -> Self {
        match plan.role {
            ExecutorRole::Command => Self::Command(Box::new(CommandExecutor::new(plan, seed))),
            ExecutorRole::Custom => Self::Keeper(Keeper::new(&plan.timing)),
        }
    }

    /// Takes one input and pushes what follows from it.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Out) {
        match self {
            Self::Command(command) => command.handle(now, input, out),
            Self::Keeper(keeper) => keeper.handle(now, input, out),
        }
    }

    /// When the core wants an [`Input::Tick`], on the monotonic clock.
    pub fn next_deadline(&self) -> Option<Millis> {
        match self {
            Self::Command(command) => command.next_deadline(),
            Self::Keeper(keeper) => keeper.next_deadline(),
        }
    }
}

#[cfg(test)]
mod tests;
