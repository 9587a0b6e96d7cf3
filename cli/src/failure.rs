//! What can go wrong with a command, in words: what happened, and what to do next.

use std::path::PathBuf;

use http::StatusCode;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nobody answers.
    #[error("the {who} does not answer at {address}: {why}")]
    Unreachable {
        /// `master`, `service framework` or `batch framework`.
        who: &'static str,
        /// Where it was looked for.
        address: String,
        /// What the connection said.
        why: String,
    },
    /// There is a place to look for the master, and nobody leads there.
    #[error("no master leads at {target}")]
    NoLeader {
        /// Where it was looked for.
        target: String,
    },
    /// Whoever was asked said no.
    #[error("the {who} refused: {words}")]
    Refused {
        /// Who.
        who: &'static str,
        /// The HTTP status, or the one that stands for a gRPC status.
        status: StatusCode,
        /// Its words.
        words: String,
    },
    /// An answer that makes no sense.
    #[error("the {who} answered something else than was asked for: {words}")]
    Nonsense {
        /// Who.
        who: &'static str,
        /// What is wrong with it.
        words: String,
    },
    /// A file that cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that is not what was expected.
    #[error("{}: {words}", path.display())]
    Document {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        words: String,
    },
    /// No task has that name.
    #[error("no task is called {name}")]
    NoTask {
        /// What was asked for.
        name: String,
    },
    /// More than one task has that name.
    #[error("{name} may be any of {}", among.join(", "))]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// Some of the tasks.
        among: Vec<String>,
    },
    /// A flag that makes no sense.
    #[error("--{flag}: {words}")]
    Flag {
        /// Which.
        flag: &'static str,
        /// What is wrong with it.
        words: String,
    },
    /// Something took too long.
    #[error("{what} did not happen within {seconds} s")]
    Late {
        /// What.
        what: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// A run that was waited for ended badly.
    #[error("run {run} of {job} failed: {words}")]
    RunFailed {
        /// The job.
        job: String,
        /// The run.
        run: String,
        /// Its last words.
        words: String,
    },
    /// A daemon that did not start.
    #[error("{daemon}: {words}")]
    Start {
        /// Which.
        daemon: String,
        /// Why.
        words: String,
    },
    /// A local cluster that is there already.
    #[error("another mezzo local (process {pid}) uses {}", dir.display())]
    InUse {
        /// The process.
        pid: String,
        /// Its directory.
        dir: PathBuf,
    },
    /// Something on this machine.
    #[error("{what}: {source}")]
    Machine {
        /// What was tried.
        what: String,
        /// What the kernel said.
        source: std::io::Error,
    },
}

impl Failure {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Unreachable { who: "master", .. } => {
                "start a cluster with `mezzo local`, or say where the master is: --master=host:port or MEZZO_MASTER"
            }
            Self::Unreachable {
                who: "service framework",
                ..
            } => {
                "start it with `mezzo service`, or say where it is: --service=host:port or MEZZO_SERVICE"
            }
            Self::Unreachable { .. } => {
                "start it with `mezzo batch`, or say where it is: --batch=host:port or MEZZO_BATCH"
            }
            Self::NoLeader { .. } => {
                "start a master with `mezzo master --zk=...`, or wait until one is elected"
            }
            Self::Refused {
                status: StatusCode::UNAUTHORIZED,
                ..
            } => "say who you are: --credential=FILE, or --principal=NAME and --secret_file=FILE",
            Self::Refused {
                status: StatusCode::CONFLICT,
                ..
            } => "wait for what is under way, or add --force where the command has it",
            Self::Refused {
                status: StatusCode::NOT_FOUND,
                ..
            } => "see what there is with `mezzo app list`, `mezzo job list` and `mezzo tasks`",
            // Nobody leads at this moment, or who does is just being found.
            Self::Refused {
                status:
                    StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::GATEWAY_TIMEOUT,
                ..
            } => "try again in a moment",
            Self::NoTask { .. } => "see the tasks with `mezzo tasks --all`",
            Self::Ambiguous { .. } => "give more of its name",
            Self::InUse { dir, pid } => {
                let pid = if pid.is_empty() { "PID" } else { pid };
                return Some(format!(
                    "end it with `kill {pid}`, or give another directory than {}: --work_dir=DIR",
                    dir.display()
                ));
            }
            Self::Late { .. } => {
                "see what it waits for with `mezzo status` and `mezzo tasks --all`"
            }
            Self::RunFailed { run, .. } => {
                return Some(format!("see its output with `mezzo logs {run}`"));
            }
            Self::Refused { .. }
            | Self::Nonsense { .. }
            | Self::File { .. }
            | Self::Document { .. }
            | Self::Flag { .. }
            | Self::Start { .. }
            | Self::Machine { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_say_what_to_do_next() {
        let refused = |status| Failure::Refused {
            who: "master",
            status,
            words: "no".to_owned(),
        };
        let unreachable = |who| Failure::Unreachable {
            who,
            address: "127.0.0.1:5050".to_owned(),
            why: "connection refused".to_owned(),
        };
        for (failure, words) in [
            (unreachable("master"), "mezzo local"),
            (unreachable("service framework"), "--service"),
            (unreachable("batch framework"), "--batch"),
            (refused(StatusCode::UNAUTHORIZED), "--credential"),
            (refused(StatusCode::CONFLICT), "--force"),
            (refused(StatusCode::BAD_GATEWAY), "try again"),
            (
                Failure::NoTask {
                    name: "x".to_owned(),
                },
                "mezzo tasks",
            ),
            (
                Failure::InUse {
                    pid: "7".to_owned(),
                    dir: PathBuf::from("/x"),
                },
                "kill 7",
            ),
        ] {
            let hint = failure.hint().expect("a hint");
            assert!(hint.contains(words), "{failure}: {hint}");
        }
        assert!(refused(StatusCode::UNPROCESSABLE_ENTITY).hint().is_none());
    }
}
