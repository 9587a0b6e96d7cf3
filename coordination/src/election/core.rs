//! The rules of the ZooKeeper election, without ZooKeeper: what to ask, and what the answers mean.
