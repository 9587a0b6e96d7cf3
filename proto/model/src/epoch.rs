//! The term of one leader, which every act of it carries.
//!
//! Two may believe that they lead; only one can act, because whoever receives an act compares its epoch with
//! the highest it has accepted.

use std::fmt;
use std::sync::Arc;

use mezzo_wire::link;

/// A leader's term: the cluster it leads, and a counter that the registry raises at each election.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Epoch {
    /// Chosen at random when the cluster's registry is first written, and never again.
    pub cluster_id: Arc<str>,
    /// Grows at each election.
    pub counter: u64,
}

/// Why an act is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EpochRefusal {
    /// The sender leads another cluster.
    #[error(
        "this side belongs to cluster {ours}, the other to cluster {theirs}; to join it, end this agent's tasks, stop it, \
         and start it with an empty --work_dir (or point --master at the cluster it belongs to)"
    )]
    OtherCluster {
        /// The cluster of the receiver.
        ours: Arc<str>,
        /// The cluster of the sender.
        theirs: Arc<str>,
    },
    /// The sender was a leader once; a later one has acted since.
    #[error("a leader of epoch {highest} has acted here; epoch {got} no longer leads")]
    Stale {
        /// The highest counter that was accepted.
        highest: u64,
        /// The counter of the act.
        got: u64,
    },
}

impl Epoch {
    /// Whether a receiver that has accepted this epoch may accept an act of `other`.
    ///
    /// # Errors
    /// [`EpochRefusal::OtherCluster`] whatever the counters, [`EpochRefusal::Stale`] if `other` is older.
    pub fn accepts(&self, other: &Self) -> Result<(), EpochRefusal> {
        if self.cluster_id != other.cluster_id {
            return Err(EpochRefusal::OtherCluster {
                ours: self.cluster_id.clone(),
                theirs: other.cluster_id.clone(),
            });
        }
        if other.counter < self.counter {
            return Err(EpochRefusal::Stale {
                highest: self.counter,
                got: other.counter,
            });
        }
        Ok(())
    }

    /// The message that carries the epoch.
    pub fn to_wire(&self) -> link::Epoch {
        link::Epoch {
            cluster_id: self.cluster_id.to_string(),
            counter: self.counter,
        }
    }

    /// Takes the epoch out of its message.
    pub fn from_wire(wire: &link::Epoch) -> Self {
        Self {
            cluster_id: Arc::from(wire.cluster_id.as_str()),
            counter: wire.counter,
        }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.cluster_id, self.counter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_leader_and_another_cluster_are_refused() {
        let epoch = |cluster: &str, counter| Epoch {
            cluster_id: Arc::from(cluster),
            counter,
        };
        let highest = epoch("a", 5);
        assert_eq!(highest.accepts(&epoch("a", 5)), Ok(()));
        assert_eq!(highest.accepts(&epoch("a", 6)), Ok(()));
        assert_eq!(
            highest.accepts(&epoch("a", 4)),
            Err(EpochRefusal::Stale { highest: 5, got: 4 })
        );
        let other = highest
            .accepts(&epoch("b", 9))
            .expect_err("another cluster")
            .to_string();
        assert!(
            other.contains("cluster a") && other.contains("empty --work_dir"),
            "{other}"
        );
        assert_eq!(Epoch::from_wire(&highest.to_wire()), highest);
    }
}
