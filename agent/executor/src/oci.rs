//! What is said to an OCI runtime, and what it says when it fails.
//!
//! Rule: the command line that runc, crun and their kind share. Invariant: command lines in, words out; nothing is
//! run here.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::plan::{CommandLine, OciContainer};

/// Bytes of the runtime's log that are looked at, from its end.
const LOG_TAIL_BYTES: u64 = 8 * 1024;
/// Longest reason that is passed on, in characters.
const REASON_MAX: usize = 1_000;

/// The files of one container's runtime, in a directory of the executor's own.
#[derive(Debug)]
pub struct Runtime<'a> {
    container: &'a OciContainer,
    directory: &'a Path,
}

impl<'a> Runtime<'a> {
    /// A container whose runtime keeps its log and process id in `directory`.
    pub fn new(container: &'a OciContainer, directory: &'a Path) -> Self {
        Self {
            container,
            directory,
        }
    }

    /// Starts the container and leaves it to us.
    pub fn run(&self) -> CommandLine {
        let bundle = self.container.bundle.to_string_lossy().into_owned();
        let pid_file = self.pid_file().to_string_lossy().into_owned();
        self.line(&[
            "run",
            "--detach",
            "--bundle",
            &bundle,
            "--pid-file",
            &pid_file,
            &self.container.id,
        ])
    }

    /// Asks every process of the container to end.
    pub fn terminate(&self) -> CommandLine {
        self.line(&["kill", "--all", &self.container.id, "TERM"])
    }

    /// Takes away what is left of the container.
    pub fn delete(&self) -> CommandLine {
        self.line(&["delete", "--force", &self.container.id])
    }

    /// Runs a command beside the container's own process, as its user and with its environment.
    pub fn exec(&self, line: &CommandLine, environment: &[(String, String)]) -> CommandLine {
        let mut words = vec!["exec".to_owned()];
        for (name, value) in environment {
            words.extend(["--env".to_owned(), format!("{name}={value}")]);
        }
        words.push(self.container.id.clone());
        words.push(line.program().to_owned());
        // The runtime takes the program's name as the zeroth argument.
        words.extend(line.argv().into_iter().skip(1));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.line(&words)
    }

    /// Where the runtime writes the process id of the container.
    pub fn pid_file(&self) -> PathBuf {
        self.directory.join("init.pid")
    }

    fn log(&self) -> PathBuf {
        self.directory.join("runtime.log")
    }

    /// The process id of the container's first process, on the host.
    pub fn init(&self) -> Option<i32> {
        let text = fs::read_to_string(self.pid_file()).ok()?;
        text.trim().parse().ok().filter(|&pid| pid > 1)
    }

    /// The last complaint in the runtime's log.
    pub fn complaint(&self) -> Option<String> {
        let mut file = fs::File::open(self.log()).ok()?;
        let length = file.metadata().ok()?.len();
        let start = length.saturating_sub(LOG_TAIL_BYTES);
        file.seek(SeekFrom::Start(start)).ok()?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes).ok()?;
        last_complaint(&String::from_utf8_lossy(&bytes))
    }

    fn line(&self, words: &[&str]) -> CommandLine {
        let program = self.container.runtime.to_string_lossy().into_owned();
        let mut arguments = vec![program.clone()];
        arguments.extend(self.container.runtime_arguments.iter().cloned());
        let root = self.container.root.to_string_lossy().into_owned();
        let log = self.log().to_string_lossy().into_owned();
        let global = ["--root", &root, "--log", &log, "--log-format", "json"];
        arguments.extend(global.iter().map(|&word| word.to_owned()));
        arguments.extend(words.iter().map(|&word| word.to_owned()));
        CommandLine::Exec { program, arguments }
    }
}

/// The `msg` of the last line of level error; runtimes write one JSON object a line.
fn last_complaint(log: &str) -> Option<String> {
    log.lines().rev().find_map(|line| {
        let entry: serde_json::Value = serde_json::from_str(line).ok()?;
        let level = entry.get("level").and_then(|level| level.as_str());
        if !matches!(level, Some("error" | "fatal")) {
            return None;
        }
        let words = entry.get("msg")?.as_str()?.trim();
        Some(words.chars().take(REASON_MAX).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container() -> OciContainer {
        OciContainer {
            runtime: "/usr/sbin/runc".into(),
            runtime_arguments: vec!["--systemd-cgroup".into()],
            root: "/run/m".into(),
            bundle: "/b".into(),
            id: "c1".into(),
            mounts: vec![],
            cgroups: vec![],
            memory_limit_bytes: None,
        }
    }

    #[test]
    fn the_runtime_is_spoken_to_in_its_own_way() {
        let container = container();
        let runtime = Runtime::new(&container, Path::new("/r"));
        let global =
            "/usr/sbin/runc --systemd-cgroup --root /run/m --log /r/runtime.log --log-format json";
        let said = |line: CommandLine| line.argv().join(" ");
        assert_eq!(
            said(runtime.run()),
            format!("{global} run --detach --bundle /b --pid-file /r/init.pid c1")
        );
        assert_eq!(
            said(runtime.terminate()),
            format!("{global} kill --all c1 TERM")
        );
        assert_eq!(
            said(runtime.delete()),
            format!("{global} delete --force c1")
        );
        let check = CommandLine::Shell("test -e /ready".into());
        let env = [("A".to_owned(), "b c".to_owned())];
        assert_eq!(
            runtime.exec(&check, &env).argv()[8..],
            [
                "exec",
                "--env",
                "A=b c",
                "c1",
                "/bin/sh",
                "-c",
                "test -e /ready"
            ]
            .map(String::from)
        );
    }

    #[test]
    fn the_last_error_of_a_log_is_found() {
        let log = r#"{"level":"warning","msg":"cgroup v1"}
{"level":"error","msg":"first"}
{"level":"error","msg":"exec: \"nope\": executable file not found in $PATH","time":"x"}
{"level":"info","msg":"bye"}
not json"#;
        let words = last_complaint(log).unwrap();
        assert_eq!(words, "exec: \"nope\": executable file not found in $PATH");
        assert_eq!(last_complaint("{\"level\":\"error\"}\n"), None);
        let long = format!(r#"{{"level":"error","msg":"{}"}}"#, "x".repeat(5_000));
        assert_eq!(
            last_complaint(&long).map(|words| words.len()),
            Some(REASON_MAX)
        );
    }
}
