//! The signal that ends a daemon.

use tokio_util::sync::CancellationToken;

/// Says "end now, cleanly" to everything that holds a clone of it.
///
/// A daemon that is stopped answers what it has begun, gives back what only it may give back (its leadership, its port)
/// and leaves tasks alone. Stopping twice is the same as once.
#[derive(Clone, Debug, Default)]
pub struct Stop(CancellationToken);

impl Stop {
    /// A signal that nobody has given yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the signal to this and to every clone and child.
    pub fn stop(&self) {
        self.0.cancel();
    }

    /// Whether the signal was given.
    pub fn is_stopped(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Completes when the signal is given; at once if it was given before.
    pub async fn stopped(&self) {
        self.0.cancelled().await;
    }

    /// A signal that is given with this one, and that may be given alone without touching this one.
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }
}
