//! Dialling a unix socket without ever blocking, and watching for one to appear.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect as connect_to, socket,
};

/// Longest path that fits in a `sockaddr_un` with its closing NUL.
const SOCKET_PATH_MAX: usize = 107;

/// One attempt. `WouldBlock` means that someone listens and its backlog is full.
pub(super) fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    if path.as_os_str().len() <= SOCKET_PATH_MAX {
        connect_to(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
        return Ok(fd.into());
    }
    // A deep work directory: the kernel finds the socket through a descriptor of its directory.
    let directory = File::open(parent(path))?;
    let mut short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    short.push(path.file_name().unwrap_or_default());
    connect_to(fd.as_raw_fd(), &UnixAddr::new(&short)?)?;
    Ok(fd.into())
}

/// Watches the directory of a socket for anything that could mean that it is back. Fails where the directory is not
/// there or the host's inotify instances are used up.
pub(super) fn watch(path: &Path) -> io::Result<Inotify> {
    let watch = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    let changes = AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_ONLYDIR;
    watch.add_watch(parent(path), changes)?;
    Ok(watch)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
