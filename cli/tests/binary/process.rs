//! Processes of the binary under test, whose lines are waited for.
//!
//! Invariant: every wait has a limit, and whatever was started is ended when its handle is dropped.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// For how long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// The path of the binary under test.
pub fn mezzo() -> &'static str {
    env!("CARGO_BIN_EXE_mezzo")
}

/// What a command said when it had ended.
#[derive(Debug)]
pub struct Answer {
    /// Whether it succeeded.
    pub success: bool,
    /// Its output.
    pub out: String,
    /// Its error output.
    pub err: String,
}

impl Answer {
    /// The output of a command that must succeed.
    pub fn good(self) -> String {
        assert!(self.success, "{self:?}");
        self.out
    }

    /// The output of a command that must succeed, as JSON.
    pub fn json(self) -> Value {
        let out = self.good();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        Self {
            success: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A command with a cache of its own, so that it finds no cluster but that of its test.
fn command(dir: &Path, line: &[&str]) -> Command {
    let mut command = Command::new(mezzo());
    command
        .args(line)
        .env("MEZZO_CACHE", dir.join("cache"))
        .stdin(Stdio::null());
    for name in [
        "MEZZO_MASTER",
        "MEZZO_SERVICE",
        "MEZZO_BATCH",
        "MEZZO_CREDENTIAL",
        "HOST",
        "PORT",
    ] {
        command.env_remove(name);
    }
    command
}

/// A process that goes on.
pub struct Program {
    child: Child,
    lines: Receiver<String>,
    seen: String,
}

impl Program {
    /// Runs a command to its end.
    pub fn run(dir: &Path, line: &[&str]) -> Answer {
        command(dir, line).output().expect("starts").into()
    }

    /// Starts a command whose lines, of both outputs, can be waited for.
    pub fn spawn(dir: &Path, line: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = command(dir, line);
        command
            .envs(env.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("starts");
        let (sender, lines) = channel();
        let pipe = |pipe: Box<dyn Read + Send>, sender: Sender<String>| {
            std::thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            })
        };
        pipe(
            Box::new(child.stdout.take().expect("piped")),
            sender.clone(),
        );
        pipe(Box::new(child.stderr.take().expect("piped")), sender);
        Self {
            child,
            lines,
            seen: String::new(),
        }
    }

    /// Everything that was read so far.
    pub fn text(&self) -> String {
        self.seen.clone()
    }

    /// Whether a line that was read has this in it.
    pub fn said(&self, words: &str) -> bool {
        self.seen.lines().any(|line| line.contains(words))
    }

    /// Reads until a line has this in it.
    pub fn until(&mut self, words: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.said(words) {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => self.take(&line),
                Err(error) => panic!("waiting for {words:?}: {error}:\n{}", self.seen),
            }
        }
    }

    /// Reads to the end; whether the process succeeded.
    pub fn ended(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => self.take(&line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end:\n{}", self.seen),
            }
        }
        self.child.wait().expect("it was started").success()
    }

    fn take(&mut self, line: &str) {
        self.seen.push_str(line);
        self.seen.push('\n');
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("small"));
        kill(pid, Signal::SIGTERM).expect("it runs");
    }

    /// SIGKILL, and the end of it.
    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it was started");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `mezzo local` of a test.
pub struct Local {
    program: Program,
    dir: std::path::PathBuf,
}

impl Local {
    /// Starts one with processes for containers and ports of its own.
    pub fn start(dir: &Path, more: &[&str]) -> Self {
        Self::start_with(dir, "process", more)
    }

    /// Starts one with containers of a kind and ports of its own.
    pub fn start_with(dir: &Path, containerizer: &str, more: &[&str]) -> Self {
        let ports = free_ports().map(|port| format!("{port}-{port}")).join(",");
        let resources = format!("cpus:2;mem:2048;disk:2048;ports:[{ports}]");
        let home = dir.join("home").display().to_string();
        let mut line = vec![
            "local",
            "--work_dir",
            &home,
            "--containerizer",
            containerizer,
            "--resources",
            &resources,
        ];
        line.extend(more);
        Self {
            // What daemons of their own are told is nothing to a local cluster.
            program: Program::spawn(
                dir,
                &line,
                &[
                    ("MEZZO_MASTER_CREDENTIALS", "/does/not/exist"),
                    ("MEZZO_AGENT_RECOVERY_TIMEOUT", "nonsense"),
                ],
            ),
            dir: dir.to_owned(),
        }
    }

    /// Its directory.
    pub fn home(&self) -> String {
        self.dir.join("home").display().to_string()
    }

    /// Another command, which finds this cluster by itself.
    pub fn ask(&self, line: &[&str]) -> Answer {
        Program::run(&self.dir, line)
    }

    /// Another command that goes on.
    pub fn spawn(&self, line: &[&str]) -> Program {
        Program::spawn(&self.dir, line, &[])
    }

    /// SIGTERM, and the end, which must be a good one.
    pub fn end(&mut self) {
        self.program.terminate();
        assert!(self.program.ended(), "{}", self.program.text());
    }
}

impl std::ops::Deref for Local {
    type Target = Program;
    fn deref(&self) -> &Program {
        &self.program
    }
}

impl std::ops::DerefMut for Local {
    fn deref_mut(&mut self) -> &mut Program {
        &mut self.program
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        // A test that failed in the middle leaves tasks, which its process would have ended.
        let _ = self.program.child.kill();
        let _ = self.program.child.wait();
        end_leftovers(Path::new(&self.home()));
    }
}

/// Ends what daemons that were killed left below their directory: tasks, which outlive them on purpose, and groups.
pub fn end_leftovers(dir: &Path) {
    kill_processes_naming(&dir.display().to_string());
    if let Err(error) = mezzo_cli::local::leftovers::end(dir) {
        eprintln!("{} is not clean: {error}", dir.display());
    }
}

/// Ports that nobody listens on at this moment, below those that the kernel gives to connections.
pub fn free_ports() -> [u16; 4] {
    let free = || {
        (0..100).find_map(|_| {
            // Every value of this type hashes in another way.
            let random = RandomState::new().hash_one(0);
            let port = u16::try_from(10_000 + random % 20_000).ok()?;
            TcpListener::bind(("127.0.0.1", port)).ok()
        })
    };
    let held: [TcpListener; 4] = std::array::from_fn(|_| free().expect("a port"));
    held.map(|held| held.local_addr().expect("an address").port())
}

/// Living processes whose arguments or environment name a directory: `pid arguments`.
pub fn processes_naming(dir: &str) -> Vec<String> {
    let own = std::process::id();
    let entries = fs::read_dir("/proc").expect("it is there").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != own)
        .filter_map(|pid| {
            let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let (arguments, environment) = (read("cmdline"), read("environ"));
            let names = |text: &[u8]| {
                text.windows(dir.len())
                    .any(|window| window == dir.as_bytes())
            };
            (names(&arguments) || names(&environment)).then(|| {
                format!(
                    "{pid} {}",
                    String::from_utf8_lossy(&arguments).replace('\0', " ")
                )
            })
        })
        .collect()
}

fn kill_processes_naming(dir: &str) {
    for line in processes_naming(dir) {
        let pid = line.split(' ').next().and_then(|pid| pid.parse().ok());
        if let Some(pid) = pid {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// The answer to a GET, head and body.
pub fn get(addr: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).expect("connects");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("writes");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("reads");
    answer
}
