//! A real ZooKeeper for tests: started on a free loopback port with its data in a scratch folder, and ended with the test.
//!
//! Needs Debian's package `zookeeper` (its jar and a Java). A server dies with the thread that serves this module, thus with
//! the process, however that ends.
//!
//! Invariant: only servers that were started here are ever stopped here.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::target::{Target, ZkTarget};

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
    /// Starts a server with a tick of 500 ms (sessions from 1 s to 20 s) and waits until it answers.
    ///
    /// # Errors
    /// If Java or the jar is missing, or the server does not answer within a minute.
    pub fn start() -> io::Result<Self> {
        Self::start_with_tick(Duration::from_millis(500))
    }

    /// Starts a server with a tick of its own: it grants sessions from 2 to 40 ticks.
    ///
    /// # Errors
    /// As [`ZooKeeper::start`].
    pub fn start_with_tick(tick: Duration) -> io::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("mezzo-zookeeper-")
            .tempdir()?;
        let mut last = io::Error::other("no port");
        // A port that was free a moment ago may be taken by now.
        for _ in 0..3 {
            let port = free_port()?;
            write_config(dir.path(), port, tick)?;
            match launch(dir.path(), port) {
                Ok(child) => {
                    return Ok(Self {
                        dir,
                        port,
                        child: Mutex::new(Some(child)),
                    });
                }
                Err(err) => last = err,
            }
        }
        Err(last)
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
        Target::ZooKeeper(ZkTarget {
            servers,
            path: path.to_owned(),
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
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut child) = child.take() {
            end(&mut child);
        }
    }

    /// Starts a killed server again, with its data and its port, and waits until it answers.
    ///
    /// # Errors
    /// As [`ZooKeeper::start`].
    pub fn start_again(&self) -> io::Result<()> {
        self.kill();
        let started = launch(self.dir.path(), self.port)?;
        *self.child.lock().unwrap_or_else(PoisonError::into_inner) = Some(started);
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
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

fn end(child: &mut Child) {
    // An error means that it ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

fn write_config(dir: &Path, port: u16, tick: Duration) -> io::Result<()> {
    let config = format!(
        "tickTime={}\ndataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\n\
         admin.enableServer=false\nmaxClientCnxns=0\n4lw.commands.whitelist=*\n",
        tick.as_millis(),
        dir.join("data").display()
    );
    std::fs::create_dir_all(dir.join("data"))?;
    std::fs::write(dir.join("zoo.cfg"), config)
}

fn launch(dir: &Path, port: u16) -> io::Result<Child> {
    let mut child = spawn(dir.to_owned())?;
    match wait_until_it_answers(&mut child, port) {
        Ok(()) => Ok(child),
        Err(err) => {
            end(&mut child);
            Err(err)
        }
    }
}

/// Asks the server whether it is well. It says nothing on its own, so it has to be asked until it answers.
fn wait_until_it_answers(child: &mut Child, port: u16) -> io::Result<()> {
    use std::io::{Read as _, Write as _};
    let deadline = Instant::now() + START_TIMEOUT;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    loop {
        if let Some(status) = child.try_wait()? {
            return Err(io::Error::other(format!(
                "ZooKeeper ended with {status} instead of starting"
            )));
        }
        if Instant::now() >= deadline {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "ZooKeeper did not start within a minute",
            ));
        }
        let asked =
            TcpStream::connect_timeout(&address, Duration::from_secs(5)).and_then(|mut s| {
                s.set_read_timeout(Some(Duration::from_secs(5)))?;
                s.write_all(b"ruok")?;
                let mut answer = String::new();
                s.read_to_string(&mut answer)?;
                Ok(answer)
            });
        if matches!(asked.as_deref(), Ok("imok")) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
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
            "-XX:TieredStopAtLevel=1",
        ])
        .args([
            "-Dzookeeper.nio.numWorkerThreads=2",
            "-cp",
            CLASS_PATH,
            MAIN,
        ])
        .arg(dir.join("zoo.cfg"))
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}
