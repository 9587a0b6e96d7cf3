//! The shell that carries the election's requests to ZooKeeper.

use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio_util::sync::DropGuard;

use super::{Candidate, Leadership};
use crate::detector::Leader;
use crate::target::ZkTarget;

pub(crate) fn contend(
    _target: &ZkTarget,
    _candidate: Candidate,
    _session_timeout: Duration,
    _resigned: oneshot::Receiver<oneshot::Sender<()>>,
) -> watch::Receiver<Leadership> {
    watch::channel(Leadership::Standby { leader: None }).1
}

pub(crate) fn detect(
    _target: &ZkTarget,
    _prefix: &str,
    _session_timeout: Duration,
) -> (watch::Receiver<Option<Leader>>, DropGuard) {
    (
        watch::channel(None).1,
        tokio_util::sync::CancellationToken::new().drop_guard(),
    )
}
