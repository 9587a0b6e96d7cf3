//! One process per container: shim, subreaper, log keeper and built-in executor.
//!
//! `mezzo executor <plan.json>` is entered by [`enter_if_asked`] before anything else of the program starts. It runs one
//! payload as [`plan::Plan`] says, keeps its output and its exit status, ends every descendant of it, and speaks the
//! executor API with the agent through the SDK's driver. It outlives the agent.

pub mod plan;
#[cfg(test)]
mod testing;

/// Runs the executor if the program was called as `<program> executor <plan.json>`, and then never returns.
///
/// To be called first in `main`: before arguments are parsed, threads are started or a runtime exists.
pub fn enter_if_asked() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|word| word == ENTRY_WORD) {
        std::process::exit(2);
    }
}

/// The first argument that makes a program the executor.
pub const ENTRY_WORD: &str = "executor";
