//! A real ZooKeeper for tests: started on a free loopback port with its data in a scratch folder, and ended with
//! the test.
//!
//! Needs Debian's package `zookeeper` (its jar and a Java). A server dies with the thread that serves this
//! module, thus with the process, however that ends.
//!
//! Invariant: only servers that were started here are ever stopped here.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::target::{Target, ZkTarget};

mod ensemble;

pub use ensemble::Ensemble;

const CLASS_PATH: &str = "/usr/share/java/zookeeper.jar:/usr/share/java/log4j-1.2.jar";
const MAIN: &str = "org.apache.zookeeper.server.quorum.QuorumPeerMain";
/// A server that does not answer within this time has failed to start.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// One real ZooKeeper server. Dropping it kills it and removes its data.
#[derive(Debug)]
pub struct ZooKeeper {
    dir: TempDir,
    port: u16,
    child: Mutex<Option<Child>>,
}

impl ZooKeeper {
    /// Starts a server with a tick of 500 ms (sessions from 1 s to 10 s) and waits until it answers.
    ///
    /// # Errors
    /// If Java or the jar is missing, or the server does not answer within a minute.
    pub fn start() -> io::Result<Self> {
        Self::start_with_tick(Duration::from_millis(500))
    }

    /// Starts a server with a tick of its own: it grants sessions from 2 to 20 ticks.
    ///
    /// # Errors
    /// As [`ZooKeeper::start`].
    pub fn start_with_tick(tick: Duration) -> io::Result<Self> {
        let mut last = io::Error::other("no port");
        // A port that was free a moment ago may be taken by now.
        for _ in 0..3 {
            let server = Self::configured(free_port()?, tick, "")?;
            server.launch()?;
            match server.wait() {
                Ok(()) => return Ok(server),
                Err(err) => last = err,
            }
        }
        Err(last)
    }

    /// A server that is not started yet, with more lines for its configuration.
    fn configured(port: u16, tick: Duration, more: &str) -> io::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("mezzo-zookeeper-")
            .tempdir()?;
        write_config(dir.path(), port, tick, more)?;
        Ok(Self {
            dir,
            port,
            child: Mutex::new(None),
        })
    }

    /// Starts the server without waiting for it.
    fn launch(&self) -> io::Result<()> {
        *self.child() = Some(spawn(self.dir.path().to_owned())?);
        Ok(())
    }

    /// Waits until the server serves. It says nothing on its own, so it has to be asked until it answers.
    fn wait(&self) -> io::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(child) = &mut *self.child()
                && let Some(status) = child.try_wait()?
            {
                let words = format!("ZooKeeper ended with {status} instead of starting");
                return Err(io::Error::other(words));
            }
            if Instant::now() >= deadline {
                let words = "ZooKeeper did not start within a minute";
                return Err(io::Error::new(io::ErrorKind::TimedOut, words));
            }
            if self.mode().is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the server is in its ensemble, if it serves: `standalone`, `leader` or `follower`.
    fn mode(&self) -> Option<String> {
        use std::io::{Read as _, Write as _};
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let limit = Duration::from_secs(5);
        let asked = TcpStream::connect_timeout(&address, limit).and_then(|mut stream| {
            stream.set_read_timeout(Some(limit))?;
            stream.write_all(b"srvr")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        });
        let answer = asked.ok()?;
        let mode = answer
            .lines()
            .find_map(|line| line.strip_prefix("Mode: "))?;
        Some(mode.trim().to_owned())
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `zk://127.0.0.1:port<path>`.
    pub fn url(&self, path: &str) -> String {
        format!("zk://{}{path}", self.address())
    }

    /// A path on this server as a target.
    pub fn target(&self, path: &str) -> Target {
        let servers = vec![self.address()];
        let path = path.to_owned();
        Target::ZooKeeper(ZkTarget {
            servers,
            path,
            credentials: None,
        })
    }

    /// Stops the server from running, with its connections open, until [`ZooKeeper::resume`]: as a host that hangs.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets a paused server run on.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Kills the server as `kill -9` does. Its data stays.
    pub fn kill(&self) {
        if let Some(mut child) = self.child().take() {
            // An error means that it ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts the server again, with its data and its port, and waits until it serves. One that runs is killed first.
    ///
    /// # Errors
    /// As [`ZooKeeper::start`].
    pub fn start_again(&self) -> io::Result<()> {
        self.kill();
        self.launch()?;
        self.wait()
    }

    fn signal(&self, signal: Signal) {
        let child = self.child();
        if let Some(pid) = child
            .as_ref()
            .and_then(|child| i32::try_from(child.id()).ok())
        {
            // Our own child that was not waited for: the number is its own, and the signal arrives.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

impl Drop for ZooKeeper {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port on loopback that nobody listens on now.
///
/// It lies below those from which the kernel takes the near ends of connections (32768 and up, unless told otherwise),
/// so that none of them takes it while the server that was here is down, and below those that tasks are offered.
///
/// # Errors
/// If no port can be had.
pub fn free_port() -> io::Result<u16> {
    const FIRST: u64 = 10_000;
    const COUNT: u64 = 20_000;
    let mut last = io::Error::other("no port was tried");
    for _ in 0..100 {
        // Every value of this type hashes in another way, which is randomness enough for two tests not to meet.
        let random = RandomState::new().hash_one(0);
        let port = u16::try_from(FIRST + random % COUNT).unwrap_or_default();
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn write_config(dir: &Path, port: u16, tick: Duration, more: &str) -> io::Result<()> {
    let config = format!(
        "tickTime={}\ndataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\n\
         admin.enableServer=false\nmaxClientCnxns=0\n4lw.commands.whitelist=*\n{more}",
        tick.as_millis(),
        dir.join("data").display()
    );
    std::fs::create_dir_all(dir.join("data"))?;
    std::fs::write(dir.join("zoo.cfg"), config)
}

type Order = (PathBuf, mpsc::Sender<io::Result<Child>>);

/// Starts a server from a thread that lives as long as the process: the signal at the parent's death follows the
/// thread that forked, and a test's thread ends with the test.
fn spawn(dir: PathBuf) -> io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        let serve = move || {
            for (dir, done) in inbox {
                // Who ordered waits for the answer below.
                let _ = done.send(spawn_here(&dir));
            }
        };
        // Without the thread the send below fails, and says so.
        drop(
            std::thread::Builder::new()
                .name("zookeeper-spawner".into())
                .spawn(serve),
        );
        orders
    });
    let (done, wait) = mpsc::channel();
    let gone = || io::Error::other("the thread that starts ZooKeeper has ended");
    spawner.send((dir, done)).map_err(|_| gone())?;
    wait.recv().map_err(|_| gone())?
}

fn spawn_here(dir: &Path) -> io::Result<Child> {
    let log = std::fs::File::create(dir.join("output"))?;
    Command::new("setpriv")
        .args([
            "--pdeathsig",
            "KILL",
            "java",
            "-Xmx256m",
            "-XX:+UseSerialGC",
        ])
        .args(["-XX:TieredStopAtLevel=1", "-cp", CLASS_PATH, MAIN])
        .arg(dir.join("zoo.cfg"))
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}
