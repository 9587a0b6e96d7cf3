//! Starting an executor: in a session of its own, with nothing of the agent's, so that it outlives it.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use mezzo_executor::ENTRY_WORD;
use mezzo_executor::plan::{DEFAULT_PATH, MARKER_VARIABLE};
use nix::fcntl::OFlag;
use nix::libc;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::Mode;
use rustix::process::{PidfdFlags, pidfd_open};

use super::procs;
use crate::core::Process;

/// What an executor says before it could speak with the agent, in a container's directory.
pub(crate) const STDERR_FILE: &str = "executor.log";

/// An executor process that was just started.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub process: Process,
    pub pidfd: OwnedFd,
}

/// Starts `<program> executor <plan>`.
///
/// # Errors
/// What the kernel says; nothing is left then.
pub(crate) fn spawn(program: &Path, plan: &Path, container: &str) -> io::Result<Spawned> {
    let c_string = |bytes: &[u8]| CString::new(bytes).map_err(io::Error::other);
    let program = c_string(program.as_os_str().as_bytes())?;
    let arguments = [
        program.clone(),
        c_string(ENTRY_WORD.as_bytes())?,
        c_string(plan.as_os_str().as_bytes())?,
    ];
    let environment = [
        c_string(format!("PATH={DEFAULT_PATH}").as_bytes())?,
        c_string(format!("{MARKER_VARIABLE}={container}").as_bytes())?,
    ];
    let mut attributes = PosixSpawnAttr::init()?;
    // The wrapper knows no name for the session flag, which the C library has.
    let session = PosixSpawnFlags::from_bits_retain(i32::from(libc::POSIX_SPAWN_SETSID));
    let flags =
        session | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK;
    attributes.set_flags(flags)?;
    let mut default = SigSet::empty();
    default.add(Signal::SIGPIPE);
    attributes.set_sigdefault(&default)?;
    attributes.set_sigmask(&SigSet::empty())?;
    let mut actions = PosixSpawnFileActions::init()?;
    actions.add_open(0, "/dev/null", OFlag::O_RDONLY, Mode::empty())?;
    actions.add_open(1, "/dev/null", OFlag::O_WRONLY, Mode::empty())?;
    let log = plan.with_file_name(STDERR_FILE);
    let append = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_APPEND;
    actions.add_open(2, log.as_path(), append, Mode::from_bits_truncate(0o600))?;
    let pid = posix_spawn(
        program.as_c_str(),
        &actions,
        &attributes,
        &arguments,
        &environment,
    )?;
    let held = || -> io::Result<Spawned> {
        let raw = pid.as_raw();
        let number = u32::try_from(raw).map_err(io::Error::other)?;
        let pidfd = open(number)?;
        let start =
            procs::start_time(number).ok_or_else(|| io::Error::other("it is gone already"))?;
        Ok(Spawned {
            process: Process { pid: number, start },
            pidfd,
        })
    };
    held().inspect_err(|_| {
        // It is ours and not reaped, so the number is still its own.
        let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
        let _ = nix::sys::wait::waitpid(pid, None);
    })
}

fn open(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    Ok(pidfd_open(pid, PidfdFlags::NONBLOCK)?)
}

/// Takes hold of a process that somebody started, if it is still that one.
pub(crate) fn hold(process: Process) -> Option<OwnedFd> {
    let pidfd = open(process.pid).ok()?;
    // The descriptor names whoever has the number now; that it is the right one is seen after it is held.
    (procs::start_time(process.pid) == Some(process.start)).then_some(pidfd)
}

/// Reads the last lines of what an executor said, for people.
pub(crate) fn last_words(directory: &Path) -> Option<String> {
    use std::io::{Read, Seek, SeekFrom};
    const TAIL_BYTES: u64 = 2_000;
    let path = directory.join(STDERR_FILE);
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))
        .ok()?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail).ok()?;
    let words = String::from_utf8_lossy(&tail).trim().to_owned();
    (!words.is_empty()).then_some(words)
}
