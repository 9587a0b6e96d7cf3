//! Where a daemon listens, and the rule that it is closed by default.

use std::io;
use std::net::{IpAddr, SocketAddr};
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
}
