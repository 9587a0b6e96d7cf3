//! Finding the leader: of a ZooKeeper election, an embedded one, or a fixed address.
//!
//! Invariant: a detector never contends and never writes.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::sync::DropGuard;

use crate::election::{self, MASTER_PREFIX};
use crate::target::Target;

pub mod info;

/// Who leads, as its contender told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// `host:port` to dial; an IPv6 host stands in brackets.
    pub address: String,
    /// What the contender wrote about itself: MasterInfo or a framework's own, as JSON. Empty for a fixed leader.
    pub info: Bytes,
}

/// Why a target cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The directory of an embedded target cannot be made or watched.
    #[error("cannot watch {dir}: {source}")]
    Directory {
        /// The directory.
        dir: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Watches one target for its leader, for as long as it lives.
///
/// While ZooKeeper cannot be reached the last known leader stays known: a cluster outlives an outage of
/// its coordination as long as nobody has to be elected.
#[derive(Debug)]
pub struct Detector {
    leader: watch::Receiver<Option<Leader>>,
    _stop: Option<DropGuard>,
}

/// The session timeout that a detector asks ZooKeeper for, as a Mesos agent does.
pub const DETECTOR_SESSION_TIMEOUT: Duration = Duration::from_secs(10);

impl Detector {
    /// Watches the masters' election at a target. Call it within a tokio runtime.
    ///
    /// # Errors
    /// `Directory` if the directory of an embedded target cannot be made or watched.
    pub fn watch(target: &Target) -> Result<Self, WatchError> {
        Self::watch_prefix(target, MASTER_PREFIX)
    }

    /// Watches the election of the contenders named `<prefix>NNNNNNNNNN` at a target.
    ///
    /// # Errors
    /// As [`Detector::watch`].
    pub fn watch_prefix(target: &Target, prefix: &str) -> Result<Self, WatchError> {
        match target {
            Target::Fixed(address) => {
                let leader = Leader {
                    address: address.clone(),
                    info: Bytes::new(),
                };
                let (_, leader) = watch::channel(Some(leader));
                Ok(Self {
                    leader,
                    _stop: None,
                })
            }
            Target::ZooKeeper(zk) => {
                let (leader, stop) =
                    election::zookeeper::detect(zk, prefix, DETECTOR_SESSION_TIMEOUT);
                Ok(Self {
                    leader,
                    _stop: Some(stop),
                })
            }
            Target::Embedded(dir) => {
                let (leader, stop) =
                    election::embedded::detect(dir).map_err(|source| WatchError::Directory {
                        dir: dir.display().to_string(),
                        source,
                    })?;
                Ok(Self {
                    leader,
                    _stop: Some(stop),
                })
            }
        }
    }

    /// The leader as known now; `None` while there is none, or its address cannot be read.
    pub fn current(&self) -> Option<Leader> {
        self.leader.borrow().clone()
    }

    /// Waits for the next change and returns the leader then. Changes between two calls are merged.
    /// For a fixed leader it never returns.
    pub async fn changed(&mut self) -> Option<Leader> {
        if self.leader.changed().await.is_err() {
            // Nobody will ever send again: a fixed leader, or a runtime that is being shut down.
            std::future::pending::<()>().await;
        }
        self.leader.borrow_and_update().clone()
    }

    /// Waits until a leader is known.
    pub async fn leader(&mut self) -> Leader {
        loop {
            if let Some(leader) = self.leader.borrow_and_update().clone() {
                return leader;
            }
            self.changed().await;
        }
    }

    /// A second handle on the same knowledge; it goes stale when the detector is dropped.
    pub fn subscribe(&self) -> watch::Receiver<Option<Leader>> {
        self.leader.clone()
    }
}
