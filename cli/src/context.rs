//! The file by which `mezzo local` tells other commands of the same user where its daemons are, when they are not
//! at the usual ports.
//!
//! Invariant: a file that a dead process left behind is passed over: it names its process and when that was started.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::Uid;
use serde::{Deserialize, Serialize};

/// The version of the file.
const VERSION: u32 = 1;

/// Where a local cluster is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    version: u32,
    /// The process of `mezzo local`.
    pub pid: u32,
    /// When it was started, in the kernel's clock ticks since boot: a process number is used again.
    started: u64,
    /// `host:port` of the master.
    pub master: String,
    /// `host:port` of the service framework.
    pub service: String,
    /// `host:port` of the batch framework.
    pub batch: String,
}

impl Context {
    /// The context of this process.
    pub fn of_this_process(master: String, service: String, batch: String) -> Self {
        let pid = std::process::id();
        let started = start_time(pid).unwrap_or(0);
        Self {
            version: VERSION,
            pid,
            started,
            master,
            service,
            batch,
        }
    }

    /// Writes the file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(dir) = path.parent() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(dir)?;
        }
        // Made anew beside it and renamed, so that a reader finds either all of it or the one before.
        let fresh = path.with_extension(format!("{}.new", self.pid));
        let _ = fs::remove_file(&fresh);
        let file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&fresh)?;
        serde_json::to_writer_pretty(file, self)?;
        fs::rename(&fresh, path)
    }

    /// Removes the file if it is that of this process.
    pub fn remove(&self, path: &Path) {
        if read_file(path).is_some_and(|found| found == *self) {
            let _ = fs::remove_file(path);
        }
    }

    /// The context of a local cluster of this user that runs now.
    pub fn read(path: &Path) -> Option<Self> {
        read_file(path).filter(|context| start_time(context.pid) == Some(context.started))
    }
}

fn read_file(path: &Path) -> Option<Context> {
    // Somebody else's file must not send our commands elsewhere.
    let ours = fs::metadata(path).is_ok_and(|file| file.uid() == Uid::effective().as_raw());
    let context: Context = serde_json::from_slice(&fs::read(path).ok().filter(|_| ours)?).ok()?;
    (context.version <= VERSION).then_some(context)
}

/// When a process was started, in clock ticks since boot (field 22 of proc(5)'s stat).
pub fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in brackets, which may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(19)?.parse().ok()
}

/// Where the file is: a place of this user.
pub fn path() -> PathBuf {
    cache().join("context.json")
}

/// A directory of this user for things that may be lost: that of the machine for root, whose home others cannot enter.
pub fn cache() -> PathBuf {
    if let Some(dir) = absolute("MEZZO_CACHE") {
        return dir;
    }
    if Uid::effective().is_root() {
        return PathBuf::from("/var/cache/mezzo");
    }
    let home = || absolute("HOME").map(|home| home.join(".cache"));
    match absolute("XDG_CACHE_HOME").or_else(home) {
        Some(dir) => dir.join("mezzo"),
        None => std::env::temp_dir().join(format!("mezzo-{}", Uid::effective())),
    }
}

fn absolute(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Context {
        Context::of_this_process("a:1".to_owned(), "b:2".to_owned(), "c:3".to_owned())
    }

    #[test]
    fn a_context_is_read_while_its_process_lives() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("deep/context.json");
        assert_eq!(Context::read(&path), None);
        context().write(&path).expect("writes");
        assert_eq!(Context::read(&path), Some(context()));
        let dead = Context {
            started: 1,
            ..context()
        };
        dead.write(&path).expect("writes");
        assert_eq!(
            Context::read(&path),
            None,
            "another process has the number now"
        );
        context().remove(&path);
        assert!(path.exists(), "it is not ours");
        dead.remove(&path);
        assert!(!path.exists());
        fs::write(&path, "nonsense").expect("writes");
        assert_eq!(Context::read(&path), None);
    }
}
