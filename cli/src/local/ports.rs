//! The usual port if it is free, another one otherwise.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};

/// The port to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// What to ask the kernel for; 0: any.
    pub port: u16,
    /// The usual port is taken.
    pub taken: bool,
}

impl Port {
    /// Whichever is free.
    pub const ANY: Self = Self {
        port: 0,
        taken: false,
    };
}

/// Looks whether a port of the loopback interface is free at this moment.
pub fn usual(port: u16) -> Port {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Port { port, taken: false },
        Err(error) => Port {
            port: 0,
            taken: error.kind() == ErrorKind::AddrInUse,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_not_asked_for() {
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = held.local_addr().expect("an address").port();
        assert_eq!(
            usual(port),
            Port {
                port: 0,
                taken: true
            }
        );
        drop(held);
        assert_eq!(usual(port), Port { port, taken: false });
    }
}
