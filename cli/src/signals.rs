//! SIGTERM and Ctrl-C, as a [`Stop`].

use std::io;

use mezzo_door::Stop;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that end a process.
#[derive(Debug)]
pub struct Ending {
    terminate: Signal,
    interrupt: Signal,
}

impl Ending {
    /// Begins to listen; until now the signals would have ended the process at once.
    ///
    /// # Errors
    /// If the kernel does not let us.
    pub fn listen() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self {
            terminate,
            interrupt,
        })
    }

    /// Completes at the next of them.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Gives the signal to stop at the first of them.
    pub fn stops(mut self, stop: Stop) {
        tokio::spawn(async move {
            self.next().await;
            tracing::info!("told to end");
            stop.stop();
        });
    }
}
