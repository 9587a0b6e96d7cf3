//! From the files of a directory to a ledger, and back into a snapshot.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::core::ledger::Ledger;

use super::{FrameError, OpenError, codec, frame};

/// What a directory holds.
pub(super) struct Found {
    pub ledger: Ledger,
    /// The highest number in use, 0 if none is.
    pub generation: u64,
    pub torn_bytes: u64,
}

pub(super) fn log_path(directory: &Path, generation: u64) -> PathBuf {
    directory.join(format!("{generation:06}.log"))
}

pub(super) fn snapshot_path(directory: &Path, generation: u64) -> PathBuf {
    directory.join(format!("{generation:06}.snapshot"))
}

fn io_error(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { act, path, source }
}

/// The numbers of the files that end so, ascending.
fn generations(directory: &Path, ending: &str) -> Result<Vec<u64>, OpenError> {
    let mut found = Vec::new();
    let entries = fs::read_dir(directory).map_err(io_error("list", directory))?;
    for entry in entries {
        let name = entry.map_err(io_error("list", directory))?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_suffix(ending))
            .and_then(|number| number.parse::<u64>().ok());
        found.extend(number);
    }
    found.sort_unstable();
    Ok(found)
}

/// Reads the newest snapshot and every log from its number on.
pub(super) fn recover(directory: &Path) -> Result<Found, OpenError> {
    fs::create_dir_all(directory).map_err(io_error("create", directory))?;
    recover_up_to(directory, u64::MAX)
}

/// The same of what came before the log of a number, while that one is being written.
pub(super) fn recover_before(directory: &Path, generation: u64) -> Result<Ledger, OpenError> {
    Ok(recover_up_to(directory, generation)?.ledger)
}

fn recover_up_to(directory: &Path, end: u64) -> Result<Found, OpenError> {
    let mut snapshots = generations(directory, ".snapshot")?;
    snapshots.retain(|number| *number < end);
    let snapshot = snapshots.pop();
    let mut logs = generations(directory, ".log")?;
    let more = logs.iter().any(|number| *number >= end);
    logs.retain(|number| *number < end);
    let mut found = Found {
        ledger: Ledger::default(),
        generation: 0,
        torn_bytes: 0,
    };
    if let Some(generation) = snapshot {
        let path = snapshot_path(directory, generation);
        read_file(&path, true, &mut found)?;
        found.generation = generation;
    }
    let logs: Vec<u64> = logs
        .into_iter()
        .filter(|number| snapshot.is_none_or(|snapshot| *number >= snapshot))
        .collect();
    let mut expected = snapshot.or(logs.first().copied());
    for (at, number) in logs.iter().enumerate() {
        if expected != Some(*number) {
            let missing = expected.unwrap_or(0);
            return Err(OpenError::Missing {
                path: log_path(directory, missing),
            });
        }
        let newest = at + 1 == logs.len() && !more;
        read_file(&log_path(directory, *number), !newest, &mut found)?;
        found.generation = *number;
        expected = Some(number + 1);
    }
    Ok(found)
}

/// Adds the records of a file; `whole` if all of it was flushed once.
fn read_file(path: &Path, whole: bool, found: &mut Found) -> Result<(), OpenError> {
    let bytes = fs::read(path).map_err(io_error("read", path))?;
    let frame_error = |source: FrameError| OpenError::Frame {
        path: path.to_owned(),
        source,
    };
    let frames = frame::read(&bytes, whole).map_err(frame_error)?;
    for payload in frames.payloads {
        let record = codec::decode(payload).map_err(|source| OpenError::Codec {
            path: path.to_owned(),
            source,
        })?;
        found.ledger.apply(&record);
    }
    found.torn_bytes += frames.torn_bytes;
    Ok(())
}

/// Writes a ledger as the snapshot of a number, flushed and in place when this returns.
pub(super) fn write_snapshot(
    directory: &Path,
    generation: u64,
    ledger: &Ledger,
) -> Result<(), OpenError> {
    let path = snapshot_path(directory, generation);
    let temporary = path.with_extension("new");
    let mut buffer = frame::header().to_vec();
    for record in ledger.to_records() {
        let flushed = buffer.len() as u64;
        frame::push(&mut buffer, flushed, |payload| {
            codec::encode(&record, payload)
        });
    }
    let mut file = create(&temporary).map_err(io_error("create", &temporary))?;
    file.write_all(&buffer)
        .and_then(|()| file.sync_data())
        .map_err(io_error("write", &temporary))?;
    fs::rename(&temporary, &path).map_err(io_error("rename", &temporary))?;
    sync_directory(directory).map_err(io_error("flush", directory))
}

/// Opens a new file for writing, readable by its owner alone.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

/// Makes the names in a directory survive a crash of the host.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Removes what a snapshot of this number has made superfluous. What cannot be removed now is at the next start.
pub(super) fn remove_before(directory: &Path, generation: u64) {
    for (ending, path_of) in [
        (".log", log_path as fn(&Path, u64) -> PathBuf),
        (".snapshot", snapshot_path),
    ] {
        for number in generations(directory, ending).unwrap_or_default() {
            if number < generation {
                let _ = fs::remove_file(path_of(directory, number));
            }
        }
    }
}
