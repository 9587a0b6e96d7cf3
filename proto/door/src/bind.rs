//! Where a daemon listens, and the rule that it is closed by default.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use mezzo_model::credentials::Credentials;
use tokio::net::TcpListener;

/// What a daemon was told about its port.
#[derive(Clone, Debug)]
pub struct Bind {
    /// The address to listen on. Anything but loopback needs `credentials` or `insecure`.
    pub ip: IpAddr,
    /// The port; 0 lets the kernel choose.
    pub port: u16,
    /// Who may come in. `None`: everybody who reaches the port.
    pub credentials: Option<Arc<Credentials>>,
    /// Listen beyond loopback without credentials all the same.
    pub insecure: bool,
}

/// A port that is open and not yet served.
#[derive(Debug)]
pub struct Door {
    pub(crate) listener: TcpListener,
    addr: SocketAddr,
}

/// Why a port was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address is reachable from other machines and nothing guards it.
    #[error(
        "refusing to listen on {ip}: it can be reached from other machines and no --credentials are given; \
         give --credentials=FILE, or listen on 127.0.0.1, or say --insecure if the network is closed"
    )]
    Unguarded {
        /// The address that was asked for.
        ip: IpAddr,
    },
    /// Another process holds the port.
    #[error(
        "{addr} is taken by another process; choose another with --port, or end the process that holds it"
    )]
    Taken {
        /// The address that was asked for.
        addr: SocketAddr,
    },
    /// The kernel refused for another reason.
    #[error("cannot listen on {addr}: {source}")]
    Io {
        /// The address that was asked for.
        addr: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Bind {
    /// Loopback at a port, open to every local process: the default of every daemon.
    pub fn loopback(port: u16) -> Self {
        Self {
            ip: IpAddr::from([127, 0, 0, 1]),
            port,
            credentials: None,
            insecure: false,
        }
    }

    /// Checks the closed-by-default rule and opens the port.
    ///
    /// # Errors
    /// [`OpenError::Unguarded`] beyond loopback without credentials, [`OpenError::Taken`] if another process listens
    /// there.
    pub async fn open(&self) -> Result<Door, OpenError> {
        if !self.ip.is_loopback() && self.credentials.is_none() && !self.insecure {
            return Err(OpenError::Unguarded { ip: self.ip });
        }
        let asked = SocketAddr::new(self.ip, self.port);
        let listener = TcpListener::bind(asked)
            .await
            .map_err(|source| match source.kind() {
                io::ErrorKind::AddrInUse => OpenError::Taken { addr: asked },
                _ => OpenError::Io {
                    addr: asked,
                    source,
                },
            })?;
        let addr = listener.local_addr().map_err(|source| OpenError::Io {
            addr: asked,
            source,
        })?;
        Ok(Door { listener, addr })
    }
}

impl Door {
    /// The address that the kernel gave, with the real port.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// The address at which others reach what listens on `bound`.
///
/// Nobody can dial "every address", so for that one it is the address from which this machine would reach the rest of
/// the world, and loopback if it reaches nobody. Nothing is sent to find it out.
pub fn reachable(bound: IpAddr) -> IpAddr {
    // Addresses that are set apart for documentation: they stand for anybody beyond the local networks.
    let (from, to) = match bound {
        IpAddr::V4(ip) if ip.is_unspecified() => (bound, IpAddr::from([192, 0, 2, 1])),
        IpAddr::V6(ip) if ip.is_unspecified() => {
            (bound, IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]))
        }
        ip => return ip,
    };
    let source = || {
        let socket = std::net::UdpSocket::bind((from, 0)).ok()?;
        // For a datagram socket this only chooses a route, and with it a source address.
        socket.connect((to, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let found = source().filter(|ip| !ip.is_unspecified());
    found.unwrap_or(match bound {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn beyond_loopback_needs_credentials_or_a_word() {
        let mut bind = Bind {
            ip: IpAddr::from([0, 0, 0, 0]),
            ..Bind::loopback(0)
        };
        let refused = bind.open().await.expect_err("open to the world");
        assert!(refused.to_string().contains("--credentials"), "{refused}");
        bind.insecure = true;
        bind.open().await.expect("said --insecure");
    }

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let first = Bind::loopback(0).open().await.expect("a free port");
        let again = Bind::loopback(first.addr().port())
            .open()
            .await
            .expect_err("taken");
        assert!(matches!(again, OpenError::Taken { addr } if addr == first.addr()));
    }

    #[tokio::test]
    async fn what_listens_everywhere_is_reached_at_an_address_of_this_machine() {
        for any in ["0.0.0.0", "::"] {
            let any: IpAddr = any.parse().expect("an address");
            let ip = reachable(any);
            assert!(!ip.is_unspecified(), "{ip}");
            let Ok(listener) = TcpListener::bind((any, 0)).await else {
                continue; // This machine has no such addresses.
            };
            let port = listener.local_addr().expect("bound").port();
            let dialled = tokio::net::TcpStream::connect((ip, port)).await;
            dialled.expect("it is reached there");
        }
        let other = IpAddr::from([10, 1, 2, 3]);
        assert_eq!(reachable(other), other);
    }
}
