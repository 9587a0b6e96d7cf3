//! The payload's process or container: started below a leash, heard through it, ended through it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid};

use super::{Shell, note};
use crate::core::{How, Input, PayloadEvent};
use crate::leash::{Job, Leash, Options, Told};
use crate::memory::{self, MemoryReport};
use crate::oci::Runtime;
use crate::plan::{CommandLine, Containerizer, DEFAULT_PATH, OciContainer, Plan};
use crate::start::{Failure, Program, Step};

/// Ends of orphans that are kept until the runtime has told which process is the container's first.
const EARLY_ENDS_MAX: usize = 64;

/// A payload below its leash.
#[derive(Debug)]
pub(super) struct Payload {
    pub(super) leash: Leash,
    stage: Stage,
}

/// Which process is the main one.
#[derive(Debug)]
enum Stage {
    /// The job of the leash, once it started.
    Process { main: Option<i32> },
    /// The runtime is the job, and leaves the container's first process to the leash.
    Launching {
        runtime: Option<i32>,
        early: Vec<(i32, How)>,
    },
    /// That process is known.
    Contained { init: i32 },
    /// It ended, or never was.
    Done,
}

impl Shell {
    pub(super) fn start_payload(&mut self, inputs: &mut VecDeque<Input>) {
        if let Err(words) = self.try_start_payload() {
            inputs.push_back(Input::Payload(PayloadEvent::NotStarted(words)));
            inputs.push_back(Input::Payload(PayloadEvent::Gone(MemoryReport::default())));
        }
    }

    fn try_start_payload(&mut self) -> Result<(), String> {
        let logs = self.logs.as_ref().map_err(Clone::clone)?;
        let (program, options, stage) = prepare(&self.plan)?;
        let leash = Leash::fork(
            &self.alone,
            &Job::Program(program),
            &options,
            logs.stdout.writer(),
            logs.stderr.writer(),
        );
        let leash = leash.map_err(|errno| format!("cannot make a process: {}", errno.desc()))?;
        self.payload = Some(Payload { leash, stage });
        Ok(())
    }

    /// SIGTERM for everything of the payload.
    pub(super) fn terminate_payload(&mut self) {
        let Some(payload) = &self.payload else {
            return;
        };
        match &self.plan.containerizer {
            Containerizer::Process => payload.leash.signal(Signal::SIGTERM),
            Containerizer::Oci(container) => {
                let runtime = Runtime::new(container, &self.plan.run_directory);
                let line = runtime.terminate();
                self.act(&line);
            }
        }
    }

    /// Lets the container's runtime do something of which only the end is waited for.
    fn act(&mut self, line: &CommandLine) {
        let job = runtime_program(line).map(Job::Program);
        let stderr = io::stderr();
        let leash = job.and_then(|job| {
            let (alone, fd) = (&self.alone, stderr.as_fd());
            let leash = Leash::fork(alone, &job, &Options::default(), fd, fd);
            leash.map_err(|errno| errno.desc().to_owned())
        });
        match leash {
            Ok(leash) => self.acts.push(leash),
            Err(words) => note(&format!("cannot run {}: {words}", line.program())),
        }
    }

    /// Takes in what the payload's leash said.
    pub(super) fn hear_payload(&mut self, inputs: &mut VecDeque<Input>) {
        while let Some(payload) = &mut self.payload {
            let Ok(Some(told)) = payload.leash.hear() else {
                return;
            };
            if told == Told::Gone {
                self.payload = None;
                self.on_payload_gone(inputs);
                return;
            }
            let events = payload.on_told(told, &self.plan);
            inputs.extend(events.into_iter().map(Input::Payload));
        }
    }

    /// Nothing of the payload is left: its last output, its cgroup's last words, and the end of its container.
    fn on_payload_gone(&mut self, inputs: &mut VecDeque<Input>) {
        if let Ok(logs) = &mut self.logs {
            logs.drain();
        }
        let mut report = MemoryReport::default();
        if let Containerizer::Oci(container) = &self.plan.containerizer {
            report = memory::report(&container.cgroups);
            report.limit_bytes = container.memory_limit_bytes.or(report.limit_bytes);
            let line = Runtime::new(container, &self.plan.run_directory).delete();
            self.act(&line);
        }
        inputs.push_back(Input::Payload(PayloadEvent::Gone(report)));
    }

    /// A child of this process ended: a leash, or an orphan of a leash that was killed.
    pub(super) fn on_child_ended(&mut self, pid: Pid, inputs: &mut VecDeque<Input>) {
        self.checks.on_leash_ended(pid, inputs);
        self.acts.retain(|leash| leash.pid() != pid);
        if self.payload.as_ref().is_some_and(|p| p.leash.pid() == pid) {
            // It did not say that nothing is left, so something may be.
            self.payload = None;
            self.sweeping = true;
            inputs.push_back(Input::Payload(PayloadEvent::Lost));
        }
    }

    /// Kills what a lost leash left to us. Called again at each end of a child, so it goes on until nothing is left.
    pub(super) fn sweep(&mut self, inputs: &mut VecDeque<Input>) {
        let leashes = self.checks.leashes().chain(&self.acts);
        let others: Vec<i32> = leashes.map(|leash| leash.pid().as_raw()).collect();
        if crate::tree::signal(getpid().as_raw(), &others, Signal::SIGKILL) == 0 {
            self.sweeping = false;
            self.on_payload_gone(inputs);
        }
    }
}

impl Payload {
    /// What a word of the leash means for the payload.
    fn on_told(&mut self, told: Told, plan: &Plan) -> Vec<PayloadEvent> {
        match (told, &mut self.stage) {
            (Told::Started(pid), Stage::Process { main }) => {
                *main = Some(pid);
                vec![PayloadEvent::Started]
            }
            (Told::Started(pid), Stage::Launching { runtime, .. }) => {
                *runtime = Some(pid);
                Vec::new()
            }
            (Told::Failed(failure), _) => {
                self.stage = Stage::Done;
                vec![PayloadEvent::NotStarted(failure_words(failure, plan))]
            }
            (Told::Ended { pid, how }, Stage::Process { main }) if *main == Some(pid) => {
                self.stage = Stage::Done;
                vec![PayloadEvent::Exited(how)]
            }
            (Told::Ended { pid, how }, Stage::Contained { init }) if *init == pid => {
                self.stage = Stage::Done;
                vec![PayloadEvent::Exited(how)]
            }
            (Told::Ended { pid, how }, Stage::Launching { runtime, early }) => {
                if *runtime == Some(pid) {
                    let early = std::mem::take(early);
                    return self.on_launched(how, &early, plan);
                }
                if early.len() < EARLY_ENDS_MAX {
                    early.push((pid, how));
                }
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// The runtime is done: the container runs, has run already, or was not made.
    fn on_launched(&mut self, how: How, early: &[(i32, How)], plan: &Plan) -> Vec<PayloadEvent> {
        let Containerizer::Oci(container) = &plan.containerizer else {
            return Vec::new();
        };
        let runtime = Runtime::new(container, &plan.run_directory);
        let init = runtime.init().filter(|_| how == How::Exited(0));
        let Some(init) = init else {
            self.stage = Stage::Done;
            let words = launch_words(container, &runtime, how);
            return vec![PayloadEvent::NotStarted(words)];
        };
        let ended = early.iter().find(|(pid, _)| *pid == init);
        self.stage = match ended {
            Some(_) => Stage::Done,
            None => Stage::Contained { init },
        };
        let exited = ended.map(|&(_, how)| PayloadEvent::Exited(how));
        std::iter::once(PayloadEvent::Started)
            .chain(exited)
            .collect()
    }
}

/// What the leash is to run for a plan.
fn prepare(plan: &Plan) -> Result<(Program, Options, Stage), String> {
    match &plan.containerizer {
        Containerizer::Process => {
            let program = payload_program(plan, &plan.command, &plan.environment())?;
            let program = program.with_rlimits(plan.rlimits.clone());
            Ok((program, Options::default(), Stage::Process { main: None }))
        }
        Containerizer::Oci(container) => {
            let runtime = Runtime::new(container, &plan.run_directory);
            let options = Options {
                report_orphans: true,
                when_orphaned: Some(runtime_program(&runtime.delete())?),
            };
            let stage = Stage::Launching {
                runtime: None,
                early: Vec::new(),
            };
            Ok((runtime_program(&runtime.run())?, options, stage))
        }
    }
}

/// A command where the payload runs: its user, its directory.
pub(super) fn payload_program(
    plan: &Plan,
    line: &CommandLine,
    environment: &[(String, String)],
) -> Result<Program, String> {
    let directory = plan.working_directory.as_deref();
    let directory = directory.unwrap_or(plan.sandbox_inside());
    let program = Program::new(line, environment, directory);
    let program = program.map_err(|_| "the command or a variable has a NUL byte".to_owned())?;
    Ok(program.with_user(plan.user.clone()))
}

/// A call of the container's runtime, which runs as we do.
pub(super) fn runtime_program(line: &CommandLine) -> Result<Program, String> {
    let path = std::env::var("PATH").unwrap_or_else(|_| DEFAULT_PATH.to_owned());
    let environment = [("PATH".to_owned(), path)];
    Program::new(line, &environment, Path::new("/"))
        .map_err(|_| "the call of the runtime has a NUL byte".to_owned())
}

/// Why a payload was not started, as the person who wrote its command needs to hear it.
fn failure_words(failure: Failure, plan: &Plan) -> String {
    let why = failure.errno.desc();
    let user = plan.user.as_ref();
    let user = user.map_or_else(String::new, |user| format!(" as user '{}'", user.name));
    match (&plan.containerizer, failure.step) {
        (Containerizer::Oci(container), _) => {
            let runtime = container.runtime.display();
            format!("Failed to run the container runtime '{runtime}': {why}")
        }
        (_, Step::Program) => format!("Failed to run '{}'{user}: {why}", plan.command.program()),
        (_, Step::Directory) => {
            let directory = plan.working_directory.as_deref();
            let directory = directory.unwrap_or(plan.sandbox_inside()).display();
            format!("Failed to enter the directory '{directory}'{user}: {why}")
        }
        (_, Step::User) => format!("Failed to run the command{user}: {why}"),
        (_, Step::Limit) => format!("Failed to set the command's resource limits: {why}"),
        (_, Step::Fork | Step::Session | Step::Output | Step::Leash) => {
            format!("Failed to make a process for the command: {why}")
        }
    }
}

fn launch_words(container: &OciContainer, runtime: &Runtime<'_>, how: How) -> String {
    let why = runtime.complaint().unwrap_or_else(|| match how {
        How::Exited(status) => format!("it left with status {status} and said nothing"),
        How::Signaled(signal) => format!("it was ended by signal {signal}"),
    });
    let name = container.runtime.display();
    format!("Failed to run the container with '{name}': {why}")
}
