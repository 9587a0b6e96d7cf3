//! What a payload or a check runs: a shell line, or a program with its arguments.
//!
//! Rule: Mesos v1 `CommandInfo` (with `shell` unset or true, `value` goes to `/bin/sh -c`; else `value` is the program
//! and `arguments` its whole argv, the zeroth included).

use mezzo_wire::v1;
use serde::{Deserialize, Serialize};

/// A command, resolved so far that it can be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandLine {
    /// A line for `/bin/sh -c`.
    Shell(String),
    /// A program, looked for in `PATH` when its name has no slash, and its argv with the zeroth argument.
    Exec {
        /// The program's name or path.
        program: String,
        /// Its arguments, the zeroth first; empty: the program's name alone.
        arguments: Vec<String>,
    },
}

/// Why a `CommandInfo` cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// `value` is absent or empty.
    #[error("the command has no 'value': there is nothing to run")]
    Empty,
    /// A part of it has a NUL byte, which no process argument can hold.
    #[error("the command has a NUL byte in its {0}")]
    Nul(&'static str),
}

impl CommandLine {
    /// Reads the runnable part of a `CommandInfo`; environment, user and URIs are the agent's business.
    pub fn from_wire(info: &v1::CommandInfo) -> Result<Self, CommandError> {
        let value = info.value.clone().unwrap_or_default();
        if value.is_empty() {
            return Err(CommandError::Empty);
        }
        if value.contains('\0') {
            return Err(CommandError::Nul("'value'"));
        }
        if info.shell.unwrap_or(true) {
            return Ok(Self::Shell(value));
        }
        if info.arguments.iter().any(|a| a.contains('\0')) {
            return Err(CommandError::Nul("'arguments'"));
        }
        Ok(Self::Exec {
            program: value,
            arguments: info.arguments.clone(),
        })
    }

    /// The program to look for.
    pub fn program(&self) -> &str {
        match self {
            Self::Shell(_) => "/bin/sh",
            Self::Exec { program, .. } => program,
        }
    }

    /// The whole argv, the zeroth argument first; never empty.
    pub fn argv(&self) -> Vec<String> {
        match self {
            Self::Shell(line) => vec!["sh".to_owned(), "-c".to_owned(), line.clone()],
            Self::Exec { program, arguments } if arguments.is_empty() => vec![program.clone()],
            Self::Exec { arguments, .. } => arguments.clone(),
        }
    }
}
