//! Waiting for what another process does.
//!
//! A process outside gives no event to wait on, so these look again in short steps until the thing is so. The bound is
//! for failures alone: no test passes because time went by.

use std::future::Future;
use std::time::{Duration, Instant};

const STEP: Duration = Duration::from_millis(20);

/// Looks until `look` says `Ok`, at most for `bound`.
///
/// # Errors
/// The last thing that `look` complained of, with `what` and the bound in front.
pub fn eventually<T>(
    what: &str,
    bound: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        match look() {
            Ok(seen) => return Ok(seen),
            Err(why) if start.elapsed() > bound => {
                anyhow::bail!("{what} did not come true in {bound:?}: {why}")
            }
            Err(_) => std::thread::sleep(STEP),
        }
    }
}

/// The same for a look that has to wait itself.
///
/// # Errors
/// As [`eventually`].
pub async fn eventually_async<T, F>(
    what: &str,
    bound: Duration,
    mut look: impl FnMut() -> F,
) -> anyhow::Result<T>
where
    F: Future<Output = Result<T, String>>,
{
    let start = Instant::now();
    loop {
        match look().await {
            Ok(seen) => return Ok(seen),
            Err(why) if start.elapsed() > bound => {
                anyhow::bail!("{what} did not come true in {bound:?}: {why}")
            }
            Err(_) => tokio::time::sleep(STEP).await,
        }
    }
}
