//! One daemon as a child process.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use mezzo_coordination::testing::free_port;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::rest::http_client;
use super::wait::eventually_async;

/// A daemon of ours: `mezzo master`, `agent`, `service` or `batch`.
#[derive(Debug)]
pub struct Daemon {
    /// The name in logs and folders, such as `master-1`.
    pub name: String,
    /// Where it listens.
    pub addr: SocketAddr,
    binary: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

/// A daemon ended when it should not have.
#[derive(Debug, thiserror::Error)]
#[error("{name} is not running")]
pub struct DaemonError {
    name: String,
}

impl Daemon {
    /// Starts `mezzo KIND` with these arguments beside `--ip=127.0.0.1 --port=…`; the log goes to `dir/NAME.log`.
    ///
    /// # Errors
    /// If the process cannot be started.
    pub fn start(
        binary: &Path,
        dir: &Path,
        name: &str,
        kind: &str,
        arguments: &[String],
    ) -> anyhow::Result<Self> {
        let port = free_port()?;
        let mut all = vec![
            kind.to_owned(),
            "--ip=127.0.0.1".to_owned(),
            format!("--port={port}"),
        ];
        all.extend(arguments.iter().cloned());
        let mut daemon = Self {
            name: name.to_owned(),
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            binary: binary.to_owned(),
            arguments: all,
            log: dir.join(format!("{name}.log")),
            child: None,
        };
        daemon.spawn()?;
        Ok(daemon)
    }

    fn spawn(&mut self) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        // setpriv(1) sets the parent-death signal and then becomes the daemon: same pid, no wrapper left.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&self.binary)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {} as {}", self.binary.display(), self.name))?;
        self.child = Some(child);
        Ok(())
    }

    /// The process id.
    ///
    /// # Errors
    /// If it was killed and not started again.
    pub fn pid(&self) -> Result<u32, DaemonError> {
        self.child
            .as_ref()
            .map(Child::id)
            .ok_or_else(|| DaemonError {
                name: self.name.clone(),
            })
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// If the daemon is not running.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid()?)?);
        Ok(kill(pid, signal)?)
    }

    /// `kill -9`, and the end of it.
    ///
    /// # Errors
    /// If the daemon is not running.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::SIGKILL)?;
        if let Some(mut child) = self.child.take() {
            child.wait()?;
        }
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// If the daemon is not running.
    pub fn terminate(&mut self) -> anyhow::Result<std::process::ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        let mut child = self.child.take().ok_or_else(|| DaemonError {
            name: self.name.clone(),
        })?;
        Ok(child.wait()?)
    }

    /// Starts it again with the same arguments and folders.
    ///
    /// # Errors
    /// If the process cannot be started.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.spawn()
    }

    /// Waits until `/health` says 200.
    ///
    /// # Errors
    /// If it does not in time; the end of the log is in the words.
    pub async fn healthy(&self) -> anyhow::Result<()> {
        let url = format!("http://{}/health", self.addr);
        let client = http_client()?;
        let healthy = eventually_async(&url, Duration::from_secs(30), || async {
            let answer = client
                .get(&url)
                .send()
                .await
                .map_err(|error| error.to_string())?;
            if answer.status().is_success() {
                Ok(())
            } else {
                Err(answer.status().to_string())
            }
        });
        healthy
            .await
            .with_context(|| format!("{}:\n{}", self.name, self.log_tail()))
    }

    /// The last 4 KiB of the log.
    pub fn log_tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let from = text.len().saturating_sub(4096);
        String::from_utf8_lossy(&text[from..]).into_owned()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
