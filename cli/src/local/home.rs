//! The directory of a local cluster: one process has it at a time, and it is cleaned before and after.
//!
//! Invariant: only what a local cluster made is ever removed: a directory with other things in it is refused.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use nix::unistd::Uid;

use super::leftovers;
use crate::failure::Failure;

/// The file that says whose directory it is; it is locked while a cluster runs, and holds its process number.
const MARKER: &str = "mezzo-local";

/// The log of the daemons.
const LOG: &str = "mezzo.log";

/// What else a local cluster makes; agents are `agent-0`, `agent-1` and so on.
const OURS: &[&str] = &["master", "service", "batch", "bin", LOG];

/// The directory, held by this process.
#[derive(Debug)]
pub struct Home {
    dir: PathBuf,
    /// Holds the lock for as long as this lives.
    _marker: File,
}

impl Home {
    /// Takes a directory; it is made if it is not there.
    ///
    /// # Errors
    /// If another local cluster has it, it holds other things, or belongs to somebody else.
    pub fn take(dir: PathBuf) -> Result<Self, Failure> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Failure::File { path, source }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&dir)
            .map_err(failed(&dir))?;
        let dir = dir.canonicalize().map_err(failed(&dir))?;
        let about = fs::metadata(&dir).map_err(failed(&dir))?;
        if about.uid() != Uid::effective().as_raw() {
            let words =
                "belongs to another user; give another directory: --work_dir=DIR".to_owned();
            return Err(Failure::Document { path: dir, words });
        }
        let foreign = foreign(&dir).map_err(failed(&dir))?;
        if let Some(foreign) = foreign {
            let words = format!(
                "holds {}, which no local cluster made; give an empty directory: --work_dir=DIR",
                foreign.display()
            );
            return Err(Failure::Document { path: dir, words });
        }
        let path = dir.join(MARKER);
        let marker = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(&path)
            .map_err(failed(&path))?;
        match marker.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let pid = fs::read_to_string(&path)
                    .unwrap_or_default()
                    .trim()
                    .to_owned();
                return Err(Failure::InUse { pid, dir });
            }
            Err(TryLockError::Error(source)) => return Err(Failure::File { path, source }),
        }
        fs::write(&path, format!("{}\n", std::process::id())).map_err(failed(&path))?;
        Ok(Self {
            dir,
            _marker: marker,
        })
    }

    /// The directory, without symbolic links in it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A directory in it, made if it is not there.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn sub(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.dir.join(name);
        // Tasks of other users pass through, to their sandboxes and to our program.
        let made = DirBuilder::new().recursive(true).mode(0o755).create(&path);
        made.map(|()| path.clone())
            .map_err(|source| Failure::File { path, source })
    }

    /// The log of the daemons, to be added to.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn log_file(&self) -> Result<File, Failure> {
        let path = self.log();
        let opened = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o644)
            .open(&path);
        opened.map_err(|source| Failure::File { path, source })
    }

    /// Where that log is.
    pub fn log(&self) -> PathBuf {
        self.dir.join(LOG)
    }

    /// This very program under a path that every user may run, and that is there inside of containers: their root
    /// shows the machine's, without the agents' directories.
    ///
    /// # Errors
    /// If it cannot be copied.
    pub fn program(&self) -> Result<PathBuf, Failure> {
        let running = std::env::current_exe().map_err(|source| Failure::Machine {
            what: "finding this program".to_owned(),
            source,
        })?;
        let copy = self.sub("bin")?.join("mezzo");
        let failed = |source| Failure::File {
            path: copy.clone(),
            source,
        };
        let _ = fs::remove_file(&copy);
        // A second name costs nothing, but needs the same file system and the right permissions.
        let others_may_run =
            fs::metadata(&running).is_ok_and(|file| file.permissions().mode() & 0o005 == 0o005);
        if !others_may_run || fs::hard_link(&running, &copy).is_err() {
            fs::copy(&running, &copy).map_err(failed)?;
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).map_err(failed)?;
        }
        Ok(copy)
    }

    /// Ends and removes what a cluster left here: processes, mounts, control groups, files. Gives a line for each kind
    /// of thing that was found.
    ///
    /// # Errors
    /// If something cannot be ended or removed.
    pub async fn clean(&self) -> Result<Vec<String>, Failure> {
        let dir = self.dir.clone();
        let cleaned = tokio::task::spawn_blocking(move || {
            let found = leftovers::end(&dir)?;
            // The log is that of the cluster that is about to run, or of the one that just has.
            remove(&dir, &[MARKER, LOG])?;
            Ok(found)
        });
        let cleaned: io::Result<Vec<String>> = match cleaned.await {
            Ok(cleaned) => cleaned,
            Err(error) => Err(io::Error::other(error)),
        };
        let what = || format!("cleaning {}", self.dir.display());
        cleaned.map_err(|source| Failure::Machine {
            what: what(),
            source,
        })
    }
}

fn is_ours(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    let agent = name
        .strip_prefix("agent-")
        .is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()));
    name == MARKER || OURS.contains(&name) || agent
}

/// Something in the directory that no local cluster made, if it was not one that made the directory.
fn foreign(dir: &Path) -> io::Result<Option<PathBuf>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir)? {
        entries.push(entry?.file_name());
    }
    let marked = entries.iter().any(|name| name == MARKER);
    // A directory that merely looks like ours was not made by us.
    let odd = entries.into_iter().find(|name| !marked || !is_ours(name));
    Ok(odd.map(PathBuf::from))
}

fn remove(dir: &Path, keep: &[&str]) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if !is_ours(&name) || keep.iter().any(|kept| name == *kept) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_home_is_held_by_one_and_cleaned() {
        let root = tempfile::tempdir().expect("a directory");
        let dir = root.path().join("deep/home");
        let home = Home::take(dir.clone()).expect("made");
        let again = Home::take(dir.clone()).expect_err("held");
        assert!(
            matches!(&again, Failure::InUse { pid, .. } if *pid == std::process::id().to_string()),
            "{again}"
        );
        home.sub("agent-0/containers").expect("made");
        let program = home.program().expect("copied");
        assert!(fs::metadata(&program).expect("there").permissions().mode() & 0o005 == 0o005);
        assert!(
            home.clean().await.expect("cleaned").is_empty(),
            "no process was left"
        );
        assert!(!dir.join("agent-0").exists() && !dir.join("bin").exists());
        drop(home);
        Home::take(dir).expect("free again");
    }

    #[test]
    fn a_directory_with_other_things_is_refused() {
        let root = tempfile::tempdir().expect("a directory");
        fs::write(root.path().join("thesis.txt"), "years of work").expect("writes");
        let refused = Home::take(root.path().to_owned())
            .expect_err("not ours")
            .to_string();
        assert!(
            refused.contains("thesis.txt") && refused.contains("--work_dir"),
            "{refused}"
        );
        assert!(root.path().join("thesis.txt").exists());
        let looks_like_ours = tempfile::tempdir().expect("a directory");
        fs::create_dir(looks_like_ours.path().join("bin")).expect("made");
        assert!(
            Home::take(looks_like_ours.path().to_owned()).is_err(),
            "somebody else's bin"
        );
    }
}
