//! The states of a task. The numbers are those of the wire.

use std::fmt;

/// Where a task is between launch and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i32)]
pub enum TaskState {
    /// Its executor took it and prepares.
    Starting = 0,
    /// It runs.
    Running = 1,
    /// It ended by itself, well.
    Finished = 2,
    /// It ended by itself, badly.
    Failed = 3,
    /// It was ended on request.
    Killed = 4,
    /// What became of it is unknown or was lost (told to frameworks that are not partition-aware).
    Lost = 5,
    /// Accepted by the master, on its way to an executor.
    Staging = 6,
    /// Its description was refused.
    Error = 7,
    /// It was asked to end and has not yet.
    Killing = 8,
    /// It was never started.
    Dropped = 9,
    /// Its agent cannot be reached; it may still run.
    Unreachable = 10,
    /// Its agent is known not to have it any more.
    Gone = 11,
    /// An operator declared its agent gone.
    GoneByOperator = 12,
    /// The master does not know it.
    Unknown = 13,
}

impl TaskState {
    /// Every state, by number.
    pub const ALL: [Self; 14] = [
        Self::Starting,
        Self::Running,
        Self::Finished,
        Self::Failed,
        Self::Killed,
        Self::Lost,
        Self::Staging,
        Self::Error,
        Self::Killing,
        Self::Dropped,
        Self::Unreachable,
        Self::Gone,
        Self::GoneByOperator,
        Self::Unknown,
    ];

    /// The state with this number on the wire.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// The number on the wire.
    pub const fn number(self) -> i32 {
        self as i32
    }

    /// Whether a task in this state has ended for good: its resources are free and nothing follows.
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Finished
            | Self::Failed
            | Self::Killed
            | Self::Lost
            | Self::Error
            | Self::Dropped
            | Self::Gone
            | Self::GoneByOperator => true,
            Self::Starting
            | Self::Running
            | Self::Staging
            | Self::Killing
            | Self::Unreachable
            | Self::Unknown => false,
        }
    }

    /// The name on the wire: `TASK_RUNNING`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "TASK_STARTING",
            Self::Running => "TASK_RUNNING",
            Self::Finished => "TASK_FINISHED",
            Self::Failed => "TASK_FAILED",
            Self::Killed => "TASK_KILLED",
            Self::Lost => "TASK_LOST",
            Self::Staging => "TASK_STAGING",
            Self::Error => "TASK_ERROR",
            Self::Killing => "TASK_KILLING",
            Self::Dropped => "TASK_DROPPED",
            Self::Unreachable => "TASK_UNREACHABLE",
            Self::Gone => "TASK_GONE",
            Self::GoneByOperator => "TASK_GONE_BY_OPERATOR",
            Self::Unknown => "TASK_UNKNOWN",
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use mezzo_wire::v1;

    use super::*;

    #[test]
    fn numbers_and_names_are_those_of_the_wire() {
        for state in TaskState::ALL {
            assert_eq!(TaskState::from_number(state.number()), Some(state));
            let wire = v1::TaskState::try_from(state.number()).expect("the wire has it");
            assert_eq!(wire.as_str_name(), state.as_str());
        }
        assert_eq!(TaskState::from_number(14), None);
        assert_eq!(TaskState::from_number(-1), None);
    }
}
