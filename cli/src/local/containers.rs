//! How tasks are contained: in OCI containers where that is possible, else as processes.

use std::fmt;
use std::process::{Command, Stdio};

use nix::unistd::Uid;

use crate::failure::Failure;

/// The OCI runtime that is looked for.
const RUNTIME: &str = "runc";

/// What was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Choice {
    /// OCI containers as root with a working runc, else processes.
    #[default]
    Auto,
    /// Processes.
    Process,
    /// OCI containers.
    Oci,
}

/// What is used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Containers {
    /// OCI containers, by this runtime.
    Oci {
        /// Its name and version.
        runtime: String,
    },
    /// Processes of this machine.
    Process {
        /// Why not containers.
        why: String,
    },
}

impl Containers {
    /// The name that the agent knows.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Oci { .. } => "oci",
            Self::Process { .. } => "process",
        }
    }
}

impl fmt::Display for Containers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Oci { runtime } => write!(f, "oci: each task in a container of {runtime}"),
            Self::Process { why } => {
                write!(f, "process: each task as processes of this machine ({why})")
            }
        }
    }
}

/// Looks at this machine and chooses.
///
/// # Errors
/// If what was asked for is not possible here.
pub fn choose(choice: Choice) -> Result<Containers, Failure> {
    decide(choice, Uid::effective().is_root(), runtime)
}

fn decide(
    choice: Choice,
    is_root: bool,
    runtime: impl FnOnce() -> Result<String, String>,
) -> Result<Containers, Failure> {
    if choice == Choice::Process {
        return Ok(Containers::Process {
            why: "as asked for".to_owned(),
        });
    }
    let found = if is_root {
        runtime()
    } else {
        Err("containers need root".to_owned())
    };
    match (found, choice) {
        (Ok(runtime), _) => Ok(Containers::Oci { runtime }),
        (Err(why), Choice::Auto | Choice::Process) => Ok(Containers::Process { why }),
        (Err(words), Choice::Oci) => Err(Failure::Flag {
            flag: "containerizer",
            words,
        }),
    }
}

/// The runtime's name and version, if it works.
fn runtime() -> Result<String, String> {
    let asked = Command::new(RUNTIME)
        .arg("--version")
        .stdin(Stdio::null())
        .output();
    match asked {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(format!(
            "there is no {RUNTIME}; install it with `apt-get install {RUNTIME}`"
        )),
        Err(error) => Err(format!("{RUNTIME} cannot be started: {error}")),
        Ok(output) if !output.status.success() => {
            Err(format!("{RUNTIME} does not work: {}", output.status))
        }
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            // `runc version 1.1.5+ds1`
            let first = text.lines().next().unwrap_or(RUNTIME);
            Ok(first.replace(" version ", " ").trim().to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_used_where_they_can_be() {
        let works = || Ok("runc 1.1.5".to_owned());
        let missing = || Err("there is no runc".to_owned());
        assert_eq!(
            decide(Choice::Auto, true, works).expect("oci").name(),
            "oci"
        );
        let as_root = decide(Choice::Auto, true, missing).expect("process");
        assert!(
            as_root.to_string().contains("there is no runc"),
            "{as_root}"
        );
        let as_user = decide(Choice::Auto, false, works).expect("process");
        assert!(as_user.to_string().contains("need root"), "{as_user}");
        assert_eq!(
            decide(Choice::Process, true, works)
                .expect("process")
                .name(),
            "process"
        );
        let refused = decide(Choice::Oci, false, works)
            .expect_err("no root")
            .to_string();
        assert!(refused.contains("need root"), "{refused}");
    }
}
