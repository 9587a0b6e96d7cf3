//! The executor's one thread: a poll loop that carries what happens to the core and does what the core says.
//!
//! Watched are: the agent's socket, the leashes of the payload and its checks, the payload's output, signals, the
//! clock.
//! Invariant: it decides nothing and never blocks but in poll; every buffer has a bound.

mod checks;
mod payload;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use mezzo_model::{Millis, Now, Wall};
use mezzo_sdk::executor::hello::Hello;
use mezzo_sdk::executor::link::Link;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::setsid;

use crate::core::{Core, Input, Output};
use crate::leash::{Leash, Told};
use crate::mounts;
use crate::output::Output as Logs;
use crate::plan::{ENDED_FILE, Ended, PLAN_VERSION, Plan};
use crate::sys::{self, Alone};
use checks::Checks;
use payload::Payload;

/// How long the last act of a container's runtime may take when everything else is done.
const LAST_ACTS_MS: Millis = Millis::from_secs(10);

/// Runs the executor of a plan; the exit status of the process.
pub fn run(plan_path: &Path) -> i32 {
    match Shell::new(plan_path) {
        Ok(mut shell) => shell.run(),
        Err(words) => {
            note(&words);
            2
        }
    }
}

/// A line on the error output, which the agent has pointed somewhere; a full disk there is no reason to end.
fn note(words: &str) {
    let _ = writeln!(io::stderr(), "executor: {words}");
}

/// What the whole process needs.
struct Shell {
    alone: Alone,
    plan: Plan,
    core: Core,
    link: Link,
    signals: SignalFd,
    /// `Err` if the payload's surroundings could not be made: why.
    logs: Result<Logs, String>,
    payload: Option<Payload>,
    checks: Checks,
    /// Acts of the container's runtime under way.
    acts: Vec<Leash>,
    /// The payload's leash is gone and its orphans are ours to end.
    sweeping: bool,
    leaving: Option<Millis>,
    started: Instant,
}

impl Shell {
    fn new(plan_path: &Path) -> Result<Self, String> {
        let words = |what: &str, error: io::Error| format!("cannot {what}: {error}");
        sys::close_inherited();
        let alone = Alone::prove().map_err(|e| words("start", e))?;
        let plan = Plan::load(plan_path).map_err(|error| error.to_string())?;
        let _ = prctl::set_name(c"mezzo-executor");
        // Already a leader if the agent made the session.
        let _ = setsid();
        umask(Mode::from_bits_truncate(0o022));
        std::env::set_current_dir("/").map_err(|e| words("enter /", e))?;
        prctl::set_child_subreaper(true).map_err(|e| words("become a subreaper", e.into()))?;
        // Everything is blocked, so that a full disk (SIGXFSZ) or a closed pipe is an error and not an end.
        let masked = SigSet::all().thread_set_mask();
        masked.map_err(|e| words("block signals", e.into()))?;
        let mut heard = SigSet::empty();
        heard.add(Signal::SIGCHLD);
        heard.add(Signal::SIGTERM);
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let signals = SignalFd::with_flags(&heard, flags);
        Ok(Self {
            alone,
            core: Core::new(&plan, seed().map_err(|e| words("read /dev/urandom", e))?),
            link: Link::new(plan.agent.socket.clone(), hello(&plan)),
            signals: signals.map_err(|e| words("listen for signals", e.into()))?,
            logs: surroundings(&plan),
            plan,
            payload: None,
            checks: Checks::default(),
            acts: Vec::new(),
            sweeping: false,
            leaving: None,
            started: Instant::now(),
        })
    }

    fn run(&mut self) -> i32 {
        self.turn(VecDeque::from([Input::Start]));
        while !self.is_done() {
            match self.wait() {
                Ok(mut inputs) => {
                    inputs.push_back(Input::Tick);
                    self.turn(inputs);
                }
                Err(error) => {
                    // Leaving closes the leashes, which end everything.
                    note(&format!("cannot poll: {error}"));
                    return 1;
                }
            }
        }
        0
    }

    fn is_done(&self) -> bool {
        let Some(until) = self.leaving else {
            return false;
        };
        !has_children() || until <= self.now().mono
    }

    /// Carries inputs to the core, and what it says out, until all is quiet.
    fn turn(&mut self, mut inputs: VecDeque<Input>) {
        let mut outputs = Vec::new();
        while let Some(input) = inputs.pop_front() {
            self.core.handle(self.now(), input, &mut outputs);
            for output in outputs.drain(..) {
                self.perform(output, &mut inputs);
            }
        }
    }

    fn perform(&mut self, output: Output, inputs: &mut VecDeque<Input>) {
        let mut heard = Vec::new();
        match output {
            Output::Connect => self.link.connect(&mut heard),
            Output::Send(call) => self.link.send(&call, &mut heard),
            Output::Start => self.start_payload(inputs),
            Output::Terminate => self.terminate_payload(),
            Output::Finish => {
                if let Some(payload) = &self.payload {
                    payload.leash.finish();
                }
            }
            Output::StartCheck {
                kind,
                run,
                question,
            } => self.start_check(kind, run, &question, inputs),
            Output::StopCheck { kind } => self.checks.stop(kind),
            Output::Record(end) => self.record(end),
            Output::Leave => self.leaving = Some(self.now().mono + LAST_ACTS_MS),
            Output::Note(words) => note(&words),
        }
        inputs.extend(heard.into_iter().map(Input::Driver));
    }

    fn record(&self, end: crate::core::End) {
        let ended = Ended {
            version: PLAN_VERSION,
            container_id: self.plan.container_id.clone(),
            how: end.how,
            message: end.message,
            out_of_memory: end.out_of_memory,
            killed: end.killed,
        };
        if let Err(error) = ended.store(&self.plan.run_directory.join(ENDED_FILE)) {
            note(&format!("the end is not recorded: {error}"));
        }
    }

    /// Sleeps until something happens, and takes it in.
    fn wait(&mut self) -> nix::Result<VecDeque<Input>> {
        let ready = self.poll()?;
        let mut inputs = VecDeque::new();
        if let Ok(logs) = &mut self.logs {
            if ready.stdout {
                logs.stdout.on_ready();
            }
            if ready.stderr {
                logs.stderr.on_ready();
            }
        }
        if ready.link {
            let mut heard = Vec::new();
            self.link.on_ready(&mut heard);
            inputs.extend(heard.into_iter().map(Input::Driver));
        }
        if ready.leashes {
            self.hear_leashes(&mut inputs);
        }
        if ready.signals {
            self.hear_signals(&mut inputs);
        }
        Ok(inputs)
    }

    fn poll(&self) -> nix::Result<Ready> {
        let deadline = [self.core.next_deadline(), self.leaving];
        let timeout = timeout(deadline.into_iter().flatten().min(), self.now().mono);
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let leashes = self.payload.iter().map(|payload| &payload.leash);
        let leashes = leashes.chain(self.checks.leashes()).chain(&self.acts);
        fds.extend(leashes.map(|leash| PollFd::new(leash.as_fd(), PollFlags::POLLIN)));
        let leashes_end = fds.len();
        if let Ok(logs) = &self.logs {
            fds.push(PollFd::new(logs.stdout.as_fd(), PollFlags::POLLIN));
            fds.push(PollFd::new(logs.stderr.as_fd(), PollFlags::POLLIN));
        }
        let logs_end = fds.len();
        fds.extend(
            self.link
                .interest()
                .map(|(fd, flags)| PollFd::new(fd, flags)),
        );
        match poll(&mut fds, timeout) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Ready::default()),
            Err(errno) => return Err(errno),
        }
        let any = |range: std::ops::Range<usize>| {
            let fds = fds.get(range).unwrap_or_default();
            fds.iter().any(|fd| fd.any().unwrap_or(true))
        };
        Ok(Ready {
            signals: any(0..1),
            leashes: any(1..leashes_end),
            stdout: any(leashes_end..(leashes_end + 1).min(logs_end)),
            stderr: any((leashes_end + 1).min(logs_end)..logs_end),
            link: any(logs_end..fds.len()),
        })
    }

    fn hear_leashes(&mut self, inputs: &mut VecDeque<Input>) {
        self.hear_payload(inputs);
        self.checks.hear(inputs);
        self.acts.retain(hear_act);
    }

    fn hear_signals(&mut self, inputs: &mut VecDeque<Input>) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            if signal.ssi_signo == Signal::SIGTERM as u32 {
                inputs.push_back(Input::Terminate);
            }
        }
        // What leashes said last comes before their ends.
        self.hear_leashes(inputs);
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            match (status, status.pid()) {
                (WaitStatus::StillAlive, _) | (_, None) => break,
                (_, Some(pid)) => self.on_child_ended(pid, inputs),
            }
        }
        if self.sweeping {
            self.sweep(inputs);
        }
    }

    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        Now::new(
            self.started.elapsed().into(),
            Wall(Millis::from(wall.unwrap_or_default()).0),
        )
    }
}

/// Whether a child is there that was not yet waited for: a leash on its way out, an act of the runtime.
fn has_children() -> bool {
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    waitid(Id::All, look) != Err(Errno::ECHILD)
}

/// Takes in what the leash of a runtime's act said; false when it is over. What it leaves behind goes with it.
fn hear_act(leash: &Leash) -> bool {
    loop {
        match leash.hear() {
            Ok(Some(Told::Ended { .. } | Told::Failed(_))) => leash.finish(),
            Ok(Some(Told::Started(_))) => {}
            Ok(Some(Told::Gone)) | Err(_) => return false,
            Ok(None) => return true,
        }
    }
}

/// Which of the watched are ready.
#[derive(Debug, Default)]
struct Ready {
    signals: bool,
    leashes: bool,
    stdout: bool,
    stderr: bool,
    link: bool,
}

fn hello(plan: &Plan) -> Hello {
    Hello {
        framework_id: plan.framework_id.clone(),
        executor_id: plan.executor_id.clone(),
        container_id: plan.container_id.clone(),
        token: plan.agent.token.clone(),
    }
}

/// Makes what a payload needs around it. A failure is the task's, to be told to the agent, not this process's.
fn surroundings(plan: &Plan) -> Result<Logs, String> {
    if let crate::plan::Containerizer::Oci(container) = &plan.containerizer {
        mounts::enter(&container.mounts).map_err(|error| error.to_string())?;
    }
    Logs::open(&plan.sandbox, plan.output, plan.user.as_ref()).map_err(|e| {
        format!(
            "cannot keep logs in the sandbox {}: {e}",
            plan.sandbox.display()
        )
    })
}

/// The seed of this process, so that no two executors draw the same update ids.
fn seed() -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// The timeout of a poll that must end at `deadline`, rounded up so that it does not end early.
fn timeout(deadline: Option<Millis>, now: Millis) -> PollTimeout {
    match deadline {
        None => PollTimeout::NONE,
        Some(at) if at <= now => PollTimeout::ZERO,
        Some(at) => {
            let wait = i32::try_from(at.since(now).0.saturating_add(1)).unwrap_or(i32::MAX);
            PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
        }
    }
}
