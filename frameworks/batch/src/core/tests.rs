//! Stories of jobs and runs.

mod lives;
mod parse;
mod properties;
mod restarts;
mod sharing;
