//! Checks that are a connection rather than a command: TCP and plain HTTP to a port of this host.
//!
//! They run in a process of their own below a leash, so that they may block and can be killed. Rule: the checks of the
//! Mesos v1 `CheckInfo` and `HealthCheck`. Invariant: the answer is the exit status, as
//! [`crate::core::checks::Question`] reads it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, Pid};

use crate::core::checks::http_exit;
use crate::start::{Failure, Step};
use crate::sys::{self, Alone};

/// Longest status line of an HTTP answer, in bytes.
const STATUS_LINE_MAX: u64 = 1024;
/// What a probe leaves with when nobody answered.
const NO_ANSWER: i32 = 1;

/// A connection to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Connects, and that is all.
    Tcp(SocketAddr),
    /// Asks for a page and reads the status line.
    Http {
        /// Where.
        address: SocketAddr,
        /// Which page; begins with a slash.
        path: String,
    },
}

impl Probe {
    /// Makes the connection in a child of this process, which dies with it.
    pub fn start(&self, alone: &Alone) -> Result<Pid, Failure> {
        match sys::fork(alone) {
            Ok(ForkResult::Child) => {
                let _ = prctl::set_pdeathsig(Signal::SIGKILL);
                sys::leave(self.ask().unwrap_or(NO_ANSWER))
            }
            Ok(ForkResult::Parent { child }) => Ok(child),
            Err(errno) => Err((Step::Fork, errno).into()),
        }
    }

    /// Blocks until there is an answer; whoever waits kills this process when it takes too long.
    fn ask(&self) -> io::Result<i32> {
        match self {
            Self::Tcp(address) => TcpStream::connect(address).map(|_| 0),
            Self::Http { address, path } => {
                let mut stream = TcpStream::connect(address)?;
                let request = format!(
                    "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: mezzo-executor\r\nAccept: */*\r\nConnection: close\r\n\r\n"
                );
                stream.write_all(request.as_bytes())?;
                let mut line = String::new();
                BufReader::new(stream.take(STATUS_LINE_MAX)).read_line(&mut line)?;
                Ok(status_code(&line).map_or(NO_ANSWER, http_exit))
            }
        }
    }
}

/// The code in `HTTP/1.1 200 OK`.
fn status_code(line: &str) -> Option<u16> {
    let mut words = line.split_ascii_whitespace();
    words.next().filter(|word| word.starts_with("HTTP/"))?;
    let code: u16 = words.next()?.parse().ok()?;
    (100..600).contains(&code).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::checks::http_status;
    use std::net::TcpListener;

    #[test]
    fn status_lines_are_read_with_care() {
        assert_eq!(
            status_code("HTTP/1.1 503 Service Unavailable\r\n"),
            Some(503)
        );
        for bad in [
            "",
            "SSH-2.0-x",
            "HTTP/1.1",
            "HTTP/1.1 abc",
            "HTTP/1.1 99",
            "HTTP/1.1 600",
        ] {
            assert_eq!(status_code(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_page_and_a_port_are_asked() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let mut request = String::new();
            BufReader::new(&stream).read_line(&mut request).unwrap();
            stream.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n").unwrap();
            let _tcp = server.accept().unwrap();
            request
        });
        let path = "/health?a=b".to_owned();
        let exit = Probe::Http { address, path }.ask().unwrap();
        assert_eq!(http_status(exit), Some(404));
        assert_eq!(Probe::Tcp(address).ask().unwrap(), 0);
        assert_eq!(answering.join().unwrap(), "GET /health?a=b HTTP/1.1\r\n");
        assert!(Probe::Tcp(address).ask().is_err(), "the port is closed");
    }
}
