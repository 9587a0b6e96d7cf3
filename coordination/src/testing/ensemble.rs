//! Several real ZooKeeper servers that are one.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use super::{ZooKeeper, free_port};
use crate::target::{Target, ZkTarget};

const TICK: Duration = Duration::from_millis(500);

/// An ensemble of real servers. Dropping it kills them and removes their data.
#[derive(Debug)]
pub struct Ensemble {
    servers: Vec<ZooKeeper>,
}

impl Ensemble {
    /// Starts an ensemble with a tick of 500 ms and waits until each of its servers serves.
    ///
    /// # Errors
    /// As [`ZooKeeper::start`].
    pub fn start(size: usize) -> io::Result<Self> {
        let mut lines = String::from("initLimit=20\nsyncLimit=4\n");
        for number in 1..=size {
            let (quorum, election) = (free_port()?, free_port()?);
            // Writing to a String cannot fail.
            let _ = writeln!(lines, "server.{number}=127.0.0.1:{quorum}:{election}");
        }
        let mut servers = Vec::with_capacity(size);
        for number in 1..=size {
            let server = ZooKeeper::configured(free_port()?, TICK, &lines)?;
            std::fs::write(server.dir.path().join("data/myid"), number.to_string())?;
            server.launch()?;
            servers.push(server);
        }
        servers.iter().try_for_each(ZooKeeper::wait)?;
        Ok(Self { servers })
    }

    /// The servers, to be paused, killed and started again.
    pub fn servers(&self) -> &[ZooKeeper] {
        &self.servers
    }

    /// The server that leads the ensemble now; `None` while they elect one.
    pub fn leader(&self) -> Option<&ZooKeeper> {
        self.servers
            .iter()
            .find(|server| server.mode().as_deref() == Some("leader"))
    }

    /// A path on this ensemble as a target.
    pub fn target(&self, path: &str) -> Target {
        let servers = self.servers.iter().map(ZooKeeper::address).collect();
        let path = path.to_owned();
        Target::ZooKeeper(ZkTarget {
            servers,
            path,
            credentials: None,
        })
    }
}
