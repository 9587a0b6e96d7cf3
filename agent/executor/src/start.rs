//! From fork to exec: how a payload becomes a process of its own, and which step failed if it did not.
//!
//! Order: session, output, signals, limits, user, leash, directory, program. The user is taken before the directory is
//! entered, so that permissions are the user's. Invariant: everything that can be wrong in a plan was turned into C
//! strings before the fork; the child only makes system calls.

use std::convert::Infallible;
use std::ffi::{CString, NulError};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::prctl;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    self, ForkResult, Gid, Pid, Uid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, getpid, getppid,
    pipe2, setgid, setgroups, setsid, setuid,
};

use crate::plan::{CommandLine, DEFAULT_PATH, Rlimit, RlimitKind, User};
use crate::sys::{self, Alone};

/// A program to be started, with all that its process is given.
#[derive(Debug, Clone)]
pub struct Program {
    /// Where it may be, in the order in which that is tried.
    candidates: Vec<CString>,
    argv: Vec<CString>,
    environment: Vec<CString>,
    directory: CString,
    user: Option<User>,
    rlimits: Vec<Rlimit>,
}

/// The step at which a start failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Step {
    /// No process could be made.
    Fork = 0,
    /// A session of its own.
    Session,
    /// Its output.
    Output,
    /// One of its resource limits.
    Limit,
    /// Its user and groups.
    User,
    /// The death signal.
    Leash,
    /// Its working directory.
    Directory,
    /// The program itself.
    Program,
}

impl Step {
    const ALL: [Self; 8] = [
        Self::Fork,
        Self::Session,
        Self::Output,
        Self::Limit,
        Self::User,
        Self::Leash,
        Self::Directory,
        Self::Program,
    ];

    /// The step with this number.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }
}

/// A start that failed, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Where.
    pub step: Step,
    /// The kernel's answer.
    pub errno: Errno,
}

impl From<(Step, Errno)> for Failure {
    fn from((step, errno): (Step, Errno)) -> Self {
        Self { step, errno }
    }
}

impl Program {
    /// Prepares a command. Fails if one of the texts holds a NUL byte.
    pub fn new(
        command: &CommandLine,
        environment: &[(String, String)],
        directory: &Path,
    ) -> Result<Self, NulError> {
        let path = environment.iter().rev().find(|(name, _)| name == "PATH");
        let path = path.map_or(DEFAULT_PATH, |(_, value)| value);
        let argv: Result<_, _> = command.argv().into_iter().map(CString::new).collect();
        let environment: Result<_, _> = environment
            .iter()
            .map(|(name, value)| CString::new(format!("{name}={value}")))
            .collect();
        Ok(Self {
            candidates: candidates(command.program(), path)?,
            argv: argv?,
            environment: environment?,
            directory: CString::new(directory.as_os_str().as_encoded_bytes())?,
            user: None,
            rlimits: Vec::new(),
        })
    }

    /// The same as another user; absent: as ours.
    pub fn with_user(mut self, user: Option<User>) -> Self {
        self.user = user;
        self
    }

    /// The same with resource limits.
    pub fn with_rlimits(mut self, rlimits: Vec<Rlimit>) -> Self {
        self.rlimits = rlimits;
        self
    }

    /// Starts it as a child of this process, which must be the one that keeps it: the child dies with it. Returns when
    /// the program runs or has failed to.
    pub fn start(
        &self,
        alone: &Alone,
        stdout: BorrowedFd<'_>,
        stderr: BorrowedFd<'_>,
    ) -> Result<Pid, Failure> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).map_err(|e| (Step::Fork, e))?;
        let keeper = getpid();
        match sys::fork(alone).map_err(|e| (Step::Fork, e))? {
            ForkResult::Child => {
                let Err(failure) = self.become_it(keeper, stdout, stderr);
                report(&writer, failure);
                sys::leave(127)
            }
            ForkResult::Parent { child } => {
                drop(writer);
                match read_report(reader) {
                    None => Ok(child),
                    Some(failure) => {
                        let _ = nix::sys::wait::waitpid(child, None);
                        Err(failure)
                    }
                }
            }
        }
    }

    /// Puts the program in the place of this process, as it is: no session, no user, no output of its own.
    pub fn replace_this_process(&self) -> Failure {
        sys::reset_signals();
        let Err(failure) = self.exec();
        failure
    }

    fn become_it(
        &self,
        keeper: Pid,
        stdout: BorrowedFd<'_>,
        stderr: BorrowedFd<'_>,
    ) -> Result<Infallible, Failure> {
        setsid().map_err(|e| (Step::Session, e))?;
        take_output(stdout, stderr).map_err(|e| (Step::Output, e))?;
        sys::reset_signals();
        for limit in &self.rlimits {
            set_limit(limit).map_err(|e| (Step::Limit, e))?;
        }
        if let Some(user) = &self.user {
            become_user(user).map_err(|e| (Step::User, e))?;
        }
        // After the user: a change of user takes the death signal away.
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(|e| (Step::Leash, e))?;
        if getppid() != keeper {
            // The keeper died before the signal was set.
            sys::leave(127);
        }
        umask(Mode::from_bits_truncate(0o022));
        chdir(self.directory.as_c_str()).map_err(|e| (Step::Directory, e))?;
        self.exec()
    }

    /// Tries the candidates as a shell does: a later one may be there where an earlier one is not, and a file of no
    /// known
    /// format is a shell script.
    fn exec(&self) -> Result<Infallible, Failure> {
        let mut errno = Errno::ENOENT;
        for candidate in &self.candidates {
            let Err(found) = unistd::execve(candidate, &self.argv, &self.environment);
            match found {
                Errno::ENOENT | Errno::ENOTDIR => {}
                Errno::EACCES => errno = found,
                Errno::ENOEXEC => return self.exec_script(candidate),
                _ => return Err((Step::Program, found).into()),
            }
        }
        Err((Step::Program, errno).into())
    }

    fn exec_script(&self, script: &CString) -> Result<Infallible, Failure> {
        let mut argv = vec![c"sh".to_owned(), script.clone()];
        argv.extend(self.argv.iter().skip(1).cloned());
        let Err(errno) = unistd::execve(c"/bin/sh", &argv, &self.environment);
        Err((Step::Program, errno).into())
    }
}

/// Where a program may be: its own path if it has a slash, else in the directories of `path`.
fn candidates(program: &str, path: &str) -> Result<Vec<CString>, NulError> {
    if program.contains('/') {
        return Ok(vec![CString::new(program)?]);
    }
    path.split(':')
        // An empty entry is the working directory.
        .map(|dir| if dir.is_empty() { "." } else { dir })
        .map(|dir| CString::new(format!("{dir}/{program}")))
        .collect()
}

fn take_output(stdout: BorrowedFd<'_>, stderr: BorrowedFd<'_>) -> nix::Result<()> {
    let null = File::open("/dev/null").map_err(|e| {
        let errno = e.raw_os_error().unwrap_or_default();
        Errno::from_raw(errno)
    })?;
    dup2_stdin(null.as_fd())?;
    dup2_stdout(stdout)?;
    dup2_stderr(stderr)
}

fn become_user(user: &User) -> nix::Result<()> {
    // Nothing to change: an unprivileged executor may not even try.
    if Uid::current().as_raw() == user.uid && Gid::current().as_raw() == user.gid && user.uid != 0 {
        return Ok(());
    }
    let groups: Vec<Gid> = user.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    setgroups(&groups)?;
    setgid(Gid::from_raw(user.gid))?;
    setuid(Uid::from_raw(user.uid))
}

fn set_limit(limit: &Rlimit) -> nix::Result<()> {
    let unlimited = RLIM_INFINITY;
    let soft = limit.soft.unwrap_or(unlimited);
    setrlimit(resource(limit.kind), soft, limit.hard.unwrap_or(unlimited))
}

fn resource(kind: RlimitKind) -> Resource {
    match kind {
        RlimitKind::As => Resource::RLIMIT_AS,
        RlimitKind::Core => Resource::RLIMIT_CORE,
        RlimitKind::Cpu => Resource::RLIMIT_CPU,
        RlimitKind::Data => Resource::RLIMIT_DATA,
        RlimitKind::Fsize => Resource::RLIMIT_FSIZE,
        RlimitKind::Locks => Resource::RLIMIT_LOCKS,
        RlimitKind::Memlock => Resource::RLIMIT_MEMLOCK,
        RlimitKind::Msgqueue => Resource::RLIMIT_MSGQUEUE,
        RlimitKind::Nice => Resource::RLIMIT_NICE,
        RlimitKind::Nofile => Resource::RLIMIT_NOFILE,
        RlimitKind::Nproc => Resource::RLIMIT_NPROC,
        RlimitKind::Rss => Resource::RLIMIT_RSS,
        RlimitKind::Rtprio => Resource::RLIMIT_RTPRIO,
        RlimitKind::Rttime => Resource::RLIMIT_RTTIME,
        RlimitKind::Sigpending => Resource::RLIMIT_SIGPENDING,
        RlimitKind::Stack => Resource::RLIMIT_STACK,
    }
}

/// Tells the parent what failed. The pipe closes without a word when exec succeeds.
fn report(writer: &OwnedFd, failure: Failure) {
    let mut bytes = [0; 8];
    let (step, errno) = bytes.split_at_mut(4);
    step.copy_from_slice(&(failure.step as i32).to_ne_bytes());
    errno.copy_from_slice(&(failure.errno as i32).to_ne_bytes());
    let _ = unistd::write(writer, &bytes);
}

fn read_report(reader: OwnedFd) -> Option<Failure> {
    let mut bytes = Vec::new();
    File::from(reader).take(8).read_to_end(&mut bytes).ok()?;
    let (step, errno) = bytes.split_first_chunk::<4>()?;
    Some(Failure {
        step: Step::from_number(i32::from_ne_bytes(*step))?,
        errno: Errno::from_raw(i32::from_ne_bytes(*errno.first_chunk()?)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_looked_for_where_a_shell_looks() {
        let names = |program, path| -> Vec<String> {
            let found = candidates(program, path).unwrap();
            found
                .into_iter()
                .map(|c| c.into_string().unwrap())
                .collect()
        };
        assert_eq!(names("/bin/true", "/usr/bin"), ["/bin/true"]);
        assert_eq!(names("./x", "/usr/bin"), ["./x"]);
        assert_eq!(names("true", "/a:/b:"), ["/a/true", "/b/true", "./true"]);
        assert!(candidates("tr\0ue", "/a").is_err());
    }

    #[test]
    fn failures_travel_through_the_pipe() {
        for step in Step::ALL {
            assert_eq!(Step::from_number(step as i32), Some(step));
            let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
            let failure = Failure::from((step, Errno::EACCES));
            report(&writer, failure);
            drop(writer);
            assert_eq!(read_report(reader), Some(failure));
        }
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
        drop(writer);
        assert_eq!(read_report(reader), None);
        assert_eq!(Step::from_number(-1), None);
    }
}
