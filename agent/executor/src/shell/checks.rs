//! The checks under way: each run has a leash of its own, so that it can be killed with all it started.

use std::collections::VecDeque;

use nix::unistd::Pid;

use super::Shell;
use super::payload::{payload_program, runtime_program};
use crate::core::checks::{CheckKind, Outcome, Question};
use crate::core::{How, Input};
use crate::leash::{Job, Leash, Options, Told};
use crate::oci::Runtime;
use crate::plan::{Containerizer, set};
use crate::probe::Probe;

/// Runs of one kind that may hang (in the kernel, unkillable) before no new one is started.
const HANGING_MAX: usize = 4;

/// All runs that are not over.
#[derive(Debug, Default)]
pub(super) struct Checks {
    runs: Vec<Run>,
}

#[derive(Debug)]
struct Run {
    kind: CheckKind,
    run: u64,
    leash: Leash,
    main: Option<i32>,
    /// Its answer was given, or is not wanted any more.
    answered: bool,
}

impl Shell {
    pub(super) fn start_check(
        &mut self,
        kind: CheckKind,
        run: u64,
        question: &Question,
        inputs: &mut VecDeque<Input>,
    ) {
        match self.fork_check(kind, question) {
            Ok(leash) => self.checks.runs.push(Run {
                kind,
                run,
                leash,
                main: None,
                answered: false,
            }),
            Err(words) => {
                super::note(&format!("a check cannot be run: {words}"));
                let outcome = Outcome::Failed;
                inputs.push_back(Input::Check { kind, run, outcome });
            }
        }
    }

    fn fork_check(&self, kind: CheckKind, question: &Question) -> Result<Leash, String> {
        let hanging = self.checks.runs.iter().filter(|run| run.kind == kind);
        if hanging.count() >= HANGING_MAX {
            return Err("earlier runs of it hang and cannot be killed".to_owned());
        }
        let logs = self.logs.as_ref().map_err(Clone::clone)?;
        let job = self.check_job(question)?;
        // A check's words belong to the errors, as in Mesos: they would garble a task's output.
        let stderr = logs.stderr.writer();
        Leash::fork(&self.alone, &job, &Options::default(), stderr, stderr)
            .map_err(|errno| errno.desc().to_owned())
    }

    fn check_job(&self, question: &Question) -> Result<Job, String> {
        let (line, own) = match question {
            Question::Command { line, environment } => (line, environment),
            Question::Tcp(address) => return Ok(Job::Probe(Probe::Tcp(*address))),
            Question::Http { address, path } => {
                let (address, path) = (*address, path.clone());
                return Ok(Job::Probe(Probe::Http { address, path }));
            }
        };
        let program = match &self.plan.containerizer {
            Containerizer::Process => {
                let mut environment = self.plan.environment();
                for (name, value) in own {
                    set(&mut environment, name, value.clone());
                }
                payload_program(&self.plan, line, &environment)?
            }
            Containerizer::Oci(container) => {
                let runtime = Runtime::new(container, &self.plan.run_directory);
                runtime_program(&runtime.exec(line, own))?
            }
        };
        Ok(Job::Program(program))
    }
}

impl Checks {
    pub(super) fn leashes(&self) -> impl Iterator<Item = &Leash> {
        self.runs.iter().map(|run| &run.leash)
    }

    /// Kills the runs of a kind; their answers are not wanted.
    pub(super) fn stop(&mut self, kind: CheckKind) {
        for run in self.runs.iter_mut().filter(|run| run.kind == kind) {
            run.answered = true;
            run.leash.finish();
        }
    }

    /// Takes in what the leashes said.
    pub(super) fn hear(&mut self, inputs: &mut VecDeque<Input>) {
        self.runs.retain_mut(|run| run.hear(inputs));
    }

    /// A leash was killed by somebody: no answer is one too.
    pub(super) fn on_leash_ended(&mut self, pid: Pid, inputs: &mut VecDeque<Input>) {
        self.runs.retain_mut(|run| {
            let ended = run.leash.pid() == pid;
            if ended {
                run.answer(Outcome::Failed, inputs);
            }
            !ended
        });
    }
}

impl Run {
    /// Takes in what the leash said; false when it is over.
    fn hear(&mut self, inputs: &mut VecDeque<Input>) -> bool {
        while let Ok(Some(told)) = self.leash.hear() {
            match told {
                Told::Started(pid) => self.main = Some(pid),
                Told::Failed(_) => self.answer(Outcome::Failed, inputs),
                Told::Ended { pid, how } if self.main == Some(pid) => {
                    let outcome = match how {
                        How::Exited(status) => Outcome::Exited(status),
                        How::Signaled(_) => Outcome::Failed,
                    };
                    self.answer(outcome, inputs);
                    // What a check leaves running goes with it.
                    self.leash.finish();
                }
                Told::Ended { .. } => {}
                Told::Gone => {
                    self.answer(Outcome::Failed, inputs);
                    return false;
                }
            }
        }
        true
    }

    fn answer(&mut self, outcome: Outcome, inputs: &mut VecDeque<Input>) {
        if !std::mem::replace(&mut self.answered, true) {
            let (kind, run) = (self.kind, self.run);
            inputs.push_back(Input::Check { kind, run, outcome });
        }
    }
}
