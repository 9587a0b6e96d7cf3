//! Election without a server: a lock on a directory.

use std::io;
use std::path::Path;

use tokio::sync::{oneshot, watch};
use tokio_util::sync::DropGuard;

use super::{Candidate, Leadership};
use crate::detector::Leader;

pub(crate) fn contend(
    _dir: &Path,
    _candidate: Candidate,
    _resigned: oneshot::Receiver<oneshot::Sender<()>>,
) -> io::Result<watch::Receiver<Leadership>> {
    Ok(watch::channel(Leadership::Standby { leader: None }).1)
}

pub(crate) fn detect(_dir: &Path) -> io::Result<(watch::Receiver<Option<Leader>>, DropGuard)> {
    Ok((
        watch::channel(None).1,
        tokio_util::sync::CancellationToken::new().drop_guard(),
    ))
}
