//! One process per container: shim, subreaper, log keeper and built-in executor.
//!
//! `mezzo executor <plan.json>` is entered by [`enter_if_asked`] before anything else of the program starts. It runs
//! one
//! payload as its [`plan::Plan`] says, keeps its output and its exit status, ends every descendant of it, and speaks
//! the
//! executor API with the agent through the SDK's driver. It outlives the agent. Killed itself, it takes its payload
//! along.
//!
//! [`core`] decides, [`shell`] does, below it [`leash`] holds processes, [`output`] keeps logs.
//! Invariant: one thread and no runtime; below two megabytes of memory of its own, since there is one for each task.

#![cfg(target_os = "linux")]

pub mod core;
mod leash;
pub mod memory;
mod mounts;
mod oci;
pub mod orphans;
mod output;
mod pinned;
pub mod plan;
mod probe;
mod shell;
mod start;
mod sys;
#[cfg(test)]
mod testing;
mod tree;

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

/// The agent's end of the executor socket, for the agent.
pub use mezzo_sdk::executor::{frame, hello};

/// The first argument that makes a program the executor.
pub const ENTRY_WORD: &str = "executor";

/// Runs the executor if the program was called as `<program> executor <plan.json>`, and then never returns.
///
/// To be called first in `main`: before arguments are parsed, threads are started or a runtime exists. Exit status: 0
/// when the task's end was told or recorded, 2 when the executor could not start (why is on the error output).
pub fn enter_if_asked() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|word| word == ENTRY_WORD) {
        enter(&arguments.collect::<Vec<_>>())
    }
}

/// Runs the executor with the arguments that follow [`ENTRY_WORD`].
fn enter(arguments: &[OsString]) -> ! {
    let code = match arguments {
        [plan] => shell::run(Path::new(plan)),
        _ => {
            let usage =
                "usage: executor <plan.json>: the agent starts this, with a plan of its own";
            let _ = writeln!(std::io::stderr(), "{usage}");
            2
        }
    };
    std::process::exit(code)
}
