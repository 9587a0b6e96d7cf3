//! Versioned JSON files of one container: written by rename with mode 0600, a newer version refused in words.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{PLAN_VERSION, Plan};

/// Longest file that is read, in bytes: a plan is some kilobytes, and an environment at most some megabytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Why a file of a container could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The file system said no.
    #[error("cannot {act} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// With which file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("{path} is not a file of this kind: {source}", path = path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Where it went wrong.
        #[source]
        source: serde_json::Error,
    },
    /// It is far longer than any such file.
    #[error("{path} has {bytes} bytes; at most {FILE_BYTES_MAX} are read", path = path.display())]
    TooLong {
        /// Which file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// A newer Mezzo wrote it.
    #[error(
        "{path} has version {found} and this mezzo reads up to {PLAN_VERSION}: start it with the mezzo that wrote it, or a newer one",
        path = path.display()
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

/// The one field that every version of a file has.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

impl Plan {
    /// Reads a plan; one of a newer version is [`PlanError::Newer`].
    pub fn load(path: &Path) -> Result<Self, PlanError> {
        load_versioned(path)?.ok_or_else(|| PlanError::Io {
            act: "read",
            path: path.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        })
    }

    /// Writes the plan by rename, readable by its owner alone.
    pub fn store(&self, path: &Path) -> Result<(), PlanError> {
        store(self, path)
    }
}

/// Reads a versioned file; `None` when there is none.
pub(super) fn load_versioned<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, PlanError> {
    let io = |source| PlanError::Io {
        act: "read",
        path: path.to_owned(),
        source,
    };
    let bytes = match fs::metadata(path) {
        Ok(meta) if meta.len() > FILE_BYTES_MAX => {
            return Err(PlanError::TooLong {
                path: path.to_owned(),
                bytes: meta.len(),
            });
        }
        Ok(_) => fs::read(path).map_err(io)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let malformed = |source| PlanError::Malformed {
        path: path.to_owned(),
        source,
    };
    let Version { version } = serde_json::from_slice(&bytes).map_err(malformed)?;
    if version > PLAN_VERSION {
        return Err(PlanError::Newer {
            path: path.to_owned(),
            found: version,
        });
    }
    serde_json::from_slice(&bytes).map(Some).map_err(malformed)
}

/// Writes `value` beside `path` and renames it there, so that a reader sees all of it or nothing.
pub(super) fn store<T: Serialize>(value: &T, path: &Path) -> Result<(), PlanError> {
    let io = |act| {
        move |source| PlanError::Io {
            act,
            path: path.to_owned(),
            source,
        }
    };
    let bytes = serde_json::to_vec(value).map_err(|source| PlanError::Malformed {
        path: path.to_owned(),
        source,
    })?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(io("create"))?;
    file.write_all(&bytes).map_err(io("write"))?;
    drop(file);
    fs::rename(&temporary, path).map_err(io("rename"))
}
