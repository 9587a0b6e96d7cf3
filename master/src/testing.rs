//! What tests of several rooms measure with.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Time that this thread has spent on a processor. What other processes of the machine do meanwhile does not count, so
/// that a bound on it says something about the code and not about the neighbours.
pub(crate) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("it never goes below nothing")
}
