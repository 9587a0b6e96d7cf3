//! A contender in a process of its own, so that it can be stopped and killed: this very test binary, told by its
//! environment to be one. It says what happens to it line by line, and does what it is told line by line.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use mezzo_coordination::{Candidate, Contender, Expect, Leadership, Target, Term, Txn};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const ROLE: &str = "MEZZO_COORDINATION_CHILD";
const MARK: &str = "child: ";
/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn info(port: u16) -> String {
    format!(r#"{{"address":{{"hostname":"localhost","ip":"127.0.0.1","port":{port}}}}}"#)
}

/// A contender's process.
pub struct Child {
    process: std::process::Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Child {
    /// Starts a contender for a target, which describes itself by a port.
    pub fn contend(target: &str, session_timeout: Duration, port: u16) -> Self {
        Self::contend_under(
            &["setpriv", "--pdeathsig", "KILL"],
            target,
            session_timeout,
            port,
        )
    }

    /// The same, started by another program that then becomes it.
    pub fn contend_under(by: &[&str], target: &str, session_timeout: Duration, port: u16) -> Self {
        let role = format!("{target}|{}|{port}", session_timeout.as_millis());
        let mut process = Command::new(by[0])
            .args(&by[1..])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "child::child_process", "--nocapture"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = process.stdin.take().unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if let Some(said) = line.split_once(MARK).map(|(_, said)| said.to_owned()) {
                    drop(tell.send(said));
                }
            }
        });
        Self {
            process,
            stdin,
            lines,
        }
    }

    /// Waits until it says a line that begins so; returns the rest of the line.
    pub fn says(&self, beginning: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line =
                line.unwrap_or_else(|err| panic!("the child never said `{beginning}`: {err}"));
            if let Some(rest) = line.strip_prefix(beginning) {
                return rest.trim().to_owned();
            }
        }
    }

    pub fn tell(&mut self, command: &str) {
        writeln!(self.stdin, "{command}").unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        kill(
            Pid::from_raw(i32::try_from(self.process.id()).unwrap()),
            signal,
        )
        .unwrap();
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{MARK}{line}").unwrap();
    out.flush().unwrap();
}

/// The child's side, which other tests start. Without its role in the environment there is nothing to do.
#[test]
fn child_process() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let parts: Vec<&str> = role.split('|').collect();
    let [target, timeout, port] = parts[..] else {
        panic!("{role}")
    };
    let target = Target::parse(target).unwrap();
    let timeout = Duration::from_millis(timeout.parse().unwrap());
    let port = port.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async move {
        let contender = Contender::join(&target, Candidate::master(info(port)), timeout).unwrap();
        live(contender).await;
    });
}

async fn live(mut contender: Contender) {
    let (tell_command, mut commands) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            drop(tell_command.send(line));
        }
    });
    let mut term: Option<Term> = None;
    tell(&contender.current(), &mut term);
    loop {
        tokio::select! {
            leadership = contender.changed() => tell(&leadership, &mut term),
            command = commands.recv() => match command.as_deref() {
                Some("resign") => {
                    contender.resign().await;
                    return say("resigned");
                }
                Some(put) => {
                    let (key, value) = put.split_once(' ').unwrap();
                    // The last term that was held: whether it lasts is for the store to say.
                    let store = term.as_ref().expect("a term").store();
                    let txn = Txn::new().put(key, value.to_owned(), Expect::Any);
                    match store.commit(txn).await {
                        Ok(()) => say(&format!("put {key}")),
                        Err(err) => say(&format!("refused {err:?}")),
                    }
                }
                None => return,
            }
        }
    }
}

fn tell(leadership: &Leadership, held: &mut Option<Term>) {
    match leadership {
        Leadership::Standby { leader } => {
            let address = leader
                .as_ref()
                .map_or("nobody", |leader| leader.address.as_str());
            say(&format!("standby {address}"));
        }
        Leadership::Leading { term } => {
            *held = Some(term.clone());
            say(&format!("leading {}", term.epoch.counter));
        }
        Leadership::Suspended => say("suspended"),
        Leadership::Refused { words } => say(&format!("refused {words}")),
    }
}
