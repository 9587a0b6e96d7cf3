//! What is kept of jobs and runs, key by key, and how it is read back.
//!
//! | key | what |
//! |---|---|
//! | `format` | the version of all of it; a newer one is refused in words |
//! | `jobs/<job>` | a job's description and version |
//! | `specs/<job>/<version>` | an earlier description that active runs still follow |
//! | `counts/<job>` | how many runs ended how, and when last |
//! | `runs/<job>/<run>` | a run: queued, launched, or ended with its result |
//!
//! Values are JSON. Invariant: a run has one key, so it is either active or ended and never both.

pub mod load;
pub mod records;

pub use load::{LoadError, format_record};
pub use records::{
    counts_key, counts_record, ended_record, job_key, job_record, run_key, run_record, spec_key,
    spec_record,
};

/// Where all keys of the batch framework begin: the same store may hold the framework's id.
pub const PREFIX: &str = "batch-";
