//! What lasts: records in the term's store, and how they are read back.
//!
//! One record for each app, each definition in use, each instance, each deployment and each app's last failure.
//! Every record says its format; one that a newer version wrote is refused in words, for to act on half-understood
//! state is worse than not to act.
//!
//! Invariant: reading back what was written gives the same values. Invariant: no input or output here.

use bytes::Bytes;
use mezzo_coordination::Record;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

mod deployments;
mod instances;
pub mod keys;
mod snapshot;
mod specs;

pub use deployments::deployment_record;
pub use instances::instance_record;
pub use snapshot::Snapshot;
pub use specs::{app_record, failure_record, version_record};

/// The format of every record that this version writes.
pub const FORMAT: u32 = 1;

/// Why the state of an earlier term cannot be taken over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// A newer version has written here.
    #[error(
        "record `{key}` has format {format}, this version knows {FORMAT}: a newer mezzo has led here; start that version again, \
         or restore the state from before"
    )]
    Newer {
        /// Where.
        key: String,
        /// Its format.
        format: u32,
    },
    /// Something that no version writes.
    #[error(
        "record `{key}` cannot be read: {words}; restore the state, or delete the record if what it names may be lost"
    )]
    Unreadable {
        /// Where.
        key: String,
        /// What is wrong with it.
        words: String,
    },
}

impl LoadError {
    fn unreadable(key: &str, words: impl std::fmt::Display) -> Self {
        Self::Unreadable {
            key: key.to_owned(),
            words: words.to_string(),
        }
    }
}

#[derive(Deserialize)]
struct Formatted {
    format: u32,
}

/// Reads a record after a look at its format.
fn read<T: DeserializeOwned>(record: &Record) -> Result<T, LoadError> {
    let unreadable = |error: serde_json::Error| LoadError::unreadable(&record.key, error);
    let Formatted { format } = serde_json::from_slice(&record.value).map_err(unreadable)?;
    if format > FORMAT {
        return Err(LoadError::Newer {
            key: record.key.clone(),
            format,
        });
    }
    serde_json::from_slice(&record.value).map_err(unreadable)
}

/// Writes a record. The values here are maps with text keys, numbers and texts, which JSON always takes.
fn write<T: Serialize>(value: &T) -> Bytes {
    Bytes::from(serde_json::to_vec(value).expect("plain values are always written"))
}
