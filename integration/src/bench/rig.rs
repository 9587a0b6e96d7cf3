//! The least cluster that a benchmark needs: one master with the embedded store, one agent.

use std::path::PathBuf;

use crate::client::Client;
use crate::real::Daemon;
use crate::real::remains;
use anyhow::Context;
use tempfile::TempDir;

/// A master and an agent.
pub struct Rig {
    /// The master.
    pub master: Daemon,
    /// The agent.
    pub agent: Daemon,
    /// Where all of it lives.
    pub dir: TempDir,
}

/// The binary that is being measured: this one, which is `mezzo` when its first argument is a command of it.
pub fn binary() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("the path of this program")
}

impl Rig {
    /// Starts both and waits until they are healthy.
    ///
    /// # Errors
    /// If one does not come up.
    pub async fn start(containerizer: &str) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("mezzo-bench-").tempdir()?;
        std::fs::set_permissions(
            dir.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )?;
        let (binary, root) = (binary()?, dir.path().to_owned());
        let work = |name: &str| format!("--work_dir={}", root.join(name).display());
        let master = Daemon::start(&binary, &root, "master", "master", &[work("m")])?;
        master.healthy().await?;
        let agent = Daemon::start(
            &binary,
            &root,
            "agent",
            "agent",
            &[
                work("a"),
                format!("--master={}", master.addr),
                "--resources=cpus:64;mem:65536;disk:65536;ports:[31000-32000]".to_owned(),
                format!("--containerizers={containerizer}"),
                format!("--cgroups_root={}", remains::cgroups_root(dir.path())),
            ],
        )?;
        agent.healthy().await?;
        Ok(Self { master, agent, dir })
    }

    /// A scheduler of its own.
    ///
    /// # Errors
    /// If it is refused.
    pub async fn client(&self) -> anyhow::Result<Client> {
        let framework = crate::client::framework("bench", "bench");
        Client::subscribe(&self.master.addr.to_string(), framework).await
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.master.kill();
        remains::end(self.dir.path());
    }
}
