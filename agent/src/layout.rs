//! Where everything lies under the work directory.
//!
//! - `log/`: the write-ahead log. `lock`: held by the agent that runs here. `secret`: the key of the executors' tokens.
//! - `run/agent.sock`: the executors' door, and nothing else, so that the directory may be shown to a container.
//! - `containers/<container>/`: one container's private files: plan, end, bundle, runtime state. Root or the agent
//!   alone.
//! - `agents/<agent>/frameworks/<framework>/executors/<executor>/runs/<container>/`: the sandbox; `latest` beside it.
//!
//! Invariant: ids hold no slash and are not `.` or `..`, so every path made here stays under the work directory.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::{fs, process};

use mezzo_model::ids::ContainerId;

use crate::core::Place;

/// The longest path of a unix socket, in bytes, with room for the closing zero.
const SOCKET_PATH_MAX: usize = 107;

/// The name of the executors' socket.
const SOCKET_NAME: &str = "agent.sock";

/// The paths of one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    work_dir: PathBuf,
    socket: PathBuf,
    tag: String,
}

/// Why the work directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The file system said no.
    #[error("cannot {act} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// With what.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The place for short names of long paths belongs to somebody else.
    #[error("{path} is not a directory of this user's own; remove it, or choose a shorter --work_dir", path = path.display())]
    Foreign {
        /// The place.
        path: PathBuf,
    },
}

impl Layout {
    /// Makes the directories that every agent needs.
    ///
    /// # Errors
    /// Says which directory cannot be made.
    pub fn prepare(work_dir: &Path) -> Result<Self, LayoutError> {
        make(work_dir, 0o711)?;
        let work_dir = work_dir.canonicalize().map_err(|source| LayoutError::Io {
            act: "find",
            path: work_dir.to_owned(),
            source,
        })?;
        let tag = tag_of(&work_dir);
        for (name, mode) in [
            ("log", 0o700),
            ("containers", 0o700),
            ("run", 0o711),
            ("agents", 0o711),
        ] {
            make(&work_dir.join(name), mode)?;
        }
        let socket = short_socket(&work_dir.join("run"), &tag)?;
        Ok(Self {
            work_dir,
            socket,
            tag,
        })
    }

    /// The work directory, without symbolic links in it.
    pub fn work_dir(&self) -> &Path {
        &self.work_dir
    }

    /// The directory of the write-ahead log.
    pub fn log(&self) -> PathBuf {
        self.work_dir.join("log")
    }

    /// The file that is locked while an agent runs here.
    pub fn lock(&self) -> PathBuf {
        self.work_dir.join("lock")
    }

    /// The key of the executors' tokens.
    pub fn secret(&self) -> PathBuf {
        self.work_dir.join("secret")
    }

    /// The executors' socket, by a path that is short enough for one.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// A short name of this work directory, unlike that of others on this host: 16 hexadecimal digits.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The directories of all containers.
    pub fn containers(&self) -> PathBuf {
        self.work_dir.join("containers")
    }

    /// The private files of one container.
    pub fn container(&self, id: &ContainerId) -> PathBuf {
        self.containers().join(id.as_str())
    }

    /// The sandbox of a container.
    pub fn sandbox(&self, place: &Place) -> PathBuf {
        self.runs(place).join(place.container.as_str())
    }

    fn runs(&self, place: &Place) -> PathBuf {
        let mut path = self.work_dir.join("agents");
        path.extend([
            place.agent.as_str(),
            "frameworks",
            place.framework.as_str(),
            "executors",
            place.executor.as_str(),
            "runs",
        ]);
        path
    }

    /// Makes the directories above a sandbox, through which every user may pass but not look.
    pub(crate) fn make_sandbox_parents(&self, place: &Place) -> io::Result<()> {
        let runs = self.runs(place);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(runs)
    }

    /// Points `latest` beside a sandbox to it.
    pub(crate) fn point_latest(&self, place: &Place) -> io::Result<()> {
        let runs = self.runs(place);
        let fresh = runs.join(format!(".latest-{}", place.container));
        symlink(place.container.as_str(), &fresh)?;
        fs::rename(&fresh, runs.join("latest"))
    }

    /// Removes a sandbox, and the directories above it that are empty then.
    pub(crate) fn remove_sandbox(&self, place: &Place) -> io::Result<()> {
        let sandbox = self.sandbox(place);
        match fs::remove_dir_all(&sandbox) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let runs = self.runs(place);
        let latest = runs.join("latest");
        if fs::read_link(&latest).is_ok_and(|target| target == Path::new(place.container.as_str()))
        {
            let _ = fs::remove_file(&latest);
        }
        // runs, the executor, executors, the framework: each only if empty; the first that is not ends it.
        for empty in runs.ancestors().take(4) {
            if fs::remove_dir(empty).is_err() {
                break;
            }
        }
        Ok(())
    }
}

fn make(path: &Path, mode: u32) -> Result<(), LayoutError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|source| LayoutError::Io {
            act: "create",
            path: path.to_owned(),
            source,
        })
}

/// FNV-1a of the path: names things of this agent among those of others on the host; nothing depends on it being
/// secret.
fn tag_of(work_dir: &Path) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in work_dir.as_os_str().as_bytes() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{hash:016x}")
}

/// The path of the socket; through a short symbolic link if the real one is too long for a socket.
fn short_socket(run: &Path, tag: &str) -> Result<PathBuf, LayoutError> {
    let direct = run.join(SOCKET_NAME);
    if direct.as_os_str().len() <= SOCKET_PATH_MAX {
        return Ok(direct);
    }
    let own = nix::unistd::geteuid();
    let base = match own.is_root() {
        true => PathBuf::from("/run/mezzo"),
        false => PathBuf::from(format!("/tmp/mezzo-{own}")),
    };
    make(&base, 0o711)?;
    // Somebody else could have made it first, where everybody may.
    let known = fs::symlink_metadata(&base).map_err(|source| LayoutError::Io {
        act: "look at",
        path: base.clone(),
        source,
    })?;
    let open_to_others = known.permissions().mode() & 0o022 != 0;
    if !known.is_dir() || known.uid() != own.as_raw() || open_to_others {
        return Err(LayoutError::Foreign { path: base });
    }
    let link = base.join(tag);
    let fresh = base.join(format!(".{tag}-{}", process::id()));
    let io_error = |act, path: &Path| {
        let path = path.to_owned();
        move |source| LayoutError::Io { act, path, source }
    };
    let _ = fs::remove_file(&fresh);
    symlink(run, &fresh).map_err(io_error("create", &fresh))?;
    fs::rename(&fresh, &link).map_err(io_error("create", &link))?;
    Ok(link.join(OsStr::new(SOCKET_NAME)))
}

#[cfg(test)]
mod tests {
    use mezzo_model::ids::{AgentId, ExecutorId, FrameworkId};

    use super::*;

    fn place(container: &str) -> Place {
        Place::new(
            AgentId::parse("m-S0").expect("an id"),
            FrameworkId::parse("fw").expect("an id"),
            ExecutorId::parse("e x").expect("an id"),
            ContainerId::parse(container).expect("an id"),
        )
    }

    #[test]
    fn a_long_work_directory_gets_a_short_socket() {
        let scratch = tempfile::tempdir().expect("a directory");
        let long = scratch.path().join("x".repeat(120)).join("y");
        let layout = Layout::prepare(&long).expect("prepares");
        assert!(layout.socket().as_os_str().len() <= SOCKET_PATH_MAX);
        let listener = std::os::unix::net::UnixListener::bind(layout.socket()).expect("binds");
        assert!(long.join("run").join(SOCKET_NAME).exists());
        drop(listener);
        fs::remove_file(layout.socket().parent().expect("a link")).expect("removes the link");
        let short = Layout::prepare(&scratch.path().join("w")).expect("prepares");
        assert!(short.socket().starts_with(short.work_dir()));
        assert_ne!(short.tag(), layout.tag());
    }

    #[test]
    fn a_sandbox_goes_with_the_directories_that_are_empty_then() {
        let scratch = tempfile::tempdir().expect("a directory");
        let layout = Layout::prepare(scratch.path()).expect("prepares");
        for container in ["c1", "c2"] {
            let place = place(container);
            layout.make_sandbox_parents(&place).expect("makes");
            fs::create_dir(layout.sandbox(&place)).expect("makes");
            layout.point_latest(&place).expect("points");
        }
        let runs = layout.runs(&place("c1"));
        assert_eq!(
            fs::read_link(runs.join("latest")).expect("a link"),
            Path::new("c2")
        );
        layout.remove_sandbox(&place("c1")).expect("removes");
        assert!(runs.join("latest").exists());
        layout.remove_sandbox(&place("c2")).expect("removes");
        assert!(
            !layout
                .work_dir()
                .join("agents/m-S0/frameworks")
                .join("fw")
                .exists()
        );
        layout
            .remove_sandbox(&place("c2"))
            .expect("is gone already");
    }
}
