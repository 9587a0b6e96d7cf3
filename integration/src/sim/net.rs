//! The network: connections between processes, as TCP gives them.
//!
//! Within one direction of a connection, order holds and nothing is lost or repeated. What can happen: a delay, a cut
//! link on which everything waits (one way or both), and a break, which each end learns of in its own time. A
//! connection whose link is cut for longer than [`KEEP_ALIVE_MS`] breaks at both ends, as keep-alives would make it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mezzo_model::rng::Rng;
use mezzo_model::time::Millis;

/// A cut that lasts longer breaks what runs over it.
pub const KEEP_ALIVE_MS: u64 = 20_000;

/// A process, by its place in the world.
pub type Host = u32;

/// One life of a process: after a crash the next one begins, and what was sent to the last is not its business.
pub type Life = u32;

/// A connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conn(pub u64);

/// Who opened the connection, and who was dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The end that dialled.
    Client,
    /// The end that was dialled.
    Server,
}

impl Side {
    /// The other end.
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// What the network asks the world's queue to deliver.
#[derive(Debug)]
pub enum Arrival<P> {
    /// A message at this end.
    Message {
        /// The connection.
        conn: Conn,
        /// The end at which it arrives.
        side: Side,
        /// What was sent.
        payload: P,
    },
    /// This end learns that the connection is gone.
    Broken {
        /// The connection.
        conn: Conn,
        /// The end that learns it.
        side: Side,
    },
    /// Time to see whether a cut has outlived the keep-alive.
    KeepAlive {
        /// The connection.
        conn: Conn,
        /// When the cut began, to tell it from a later one.
        since: Millis,
    },
}

#[derive(Debug)]
struct Connection<P> {
    ends: [(Host, Life); 2],
    /// Until when each direction is busy, so that order holds: `[to server, to client]`.
    busy: [Millis; 2],
    /// What waits for a cut to heal, in each direction.
    held: [VecDeque<P>; 2],
    /// Since when a cut holds the connection up.
    cut_since: Option<Millis>,
    /// Which ends still believe in it: `[client, server]`.
    alive: [bool; 2],
}

/// All connections and the state of all links.
#[derive(Debug)]
pub struct Net<P> {
    connections: BTreeMap<Conn, Connection<P>>,
    next: u64,
    /// Directions that are cut: (from, to).
    cut: BTreeSet<(Host, Host)>,
    /// Extra delay of each message from or to a host, in milliseconds at most.
    slow: BTreeMap<Host, u64>,
    rng: Rng,
}

/// A planned arrival: in how many milliseconds from now.
pub type Planned<P> = (Millis, Arrival<P>);

impl<P> Net<P> {
    /// A network in which everything works.
    pub fn new(rng: Rng) -> Self {
        Self {
            connections: BTreeMap::new(),
            next: 1,
            cut: BTreeSet::new(),
            slow: BTreeMap::new(),
            rng,
        }
    }

    /// Opens a connection. `None` if a cut lies between the two: the dial fails, as after a connect timeout.
    pub fn connect(&mut self, client: (Host, Life), server: (Host, Life)) -> Option<Conn> {
        let (from, to) = (client.0, server.0);
        if self.cut.contains(&(from, to)) || self.cut.contains(&(to, from)) {
            return None;
        }
        let conn = Conn(self.next);
        self.next += 1;
        let connection = Connection {
            ends: [client, server],
            busy: [Millis(0); 2],
            held: [VecDeque::new(), VecDeque::new()],
            cut_since: None,
            alive: [true; 2],
        };
        self.connections.insert(conn, connection);
        Some(conn)
    }

    /// The process at one end, in the life that opened the connection; `None` if that end no longer has it.
    pub fn end(&self, conn: Conn, side: Side) -> Option<(Host, Life)> {
        let connection = self.connections.get(&conn)?;
        let at = side as usize;
        connection.alive[at].then_some(connection.ends[at])
    }

    /// Sends from one end to the other. What is sent into a broken connection is lost, as in life.
    pub fn send(&mut self, now: Millis, conn: Conn, from: Side, payload: P) -> Option<Planned<P>> {
        let delay = self.delay(conn, from)?;
        let cut = self.is_cut(conn, from);
        let connection = self.connections.get_mut(&conn)?;
        if !connection.alive[from as usize] {
            return None;
        }
        let direction = from as usize;
        if cut || !connection.held[direction].is_empty() {
            connection.held[direction].push_back(payload);
            return None;
        }
        let at = Millis((now.0 + delay).max(connection.busy[direction].0));
        connection.busy[direction] = at;
        Some((
            at,
            Arrival::Message {
                conn,
                side: from.other(),
                payload,
            },
        ))
    }

    /// One end closes: it forgets the connection at once, the other learns it after what was sent before.
    pub fn close(&mut self, now: Millis, conn: Conn, side: Side) -> Option<Planned<P>> {
        let delay = self.delay(conn, side)?;
        let cut = self.is_cut(conn, side);
        let connection = self.connections.get_mut(&conn)?;
        if !std::mem::replace(&mut connection.alive[side as usize], false) {
            return None;
        }
        if !connection.alive[side.other() as usize] {
            self.connections.remove(&conn);
            return None;
        }
        // Behind a cut the other end learns nothing until the keep-alive has run out.
        let wait = if cut { KEEP_ALIVE_MS } else { delay };
        let at = Millis((now.0 + wait).max(connection.busy[side as usize].0));
        Some((
            at,
            Arrival::Broken {
                conn,
                side: side.other(),
            },
        ))
    }

    /// One end has learnt that the connection is gone. Answers whether it still believed in it.
    pub fn learn_broken(&mut self, conn: Conn, side: Side) -> bool {
        let Some(connection) = self.connections.get_mut(&conn) else {
            return false;
        };
        let believed = std::mem::replace(&mut connection.alive[side as usize], false);
        if !connection.alive[side.other() as usize] {
            self.connections.remove(&conn);
        }
        believed
    }

    /// A process died: the kernel of its machine resets all its connections.
    pub fn crash(&mut self, now: Millis, host: Host) -> Vec<Planned<P>> {
        let mine: Vec<(Conn, Side)> = self
            .connections
            .iter()
            .flat_map(|(conn, connection)| {
                [Side::Client, Side::Server]
                    .into_iter()
                    .filter(|side| connection.ends[*side as usize].0 == host)
                    .map(|side| (*conn, side))
            })
            .collect();
        mine.into_iter()
            .filter_map(|(conn, side)| self.close(now, conn, side))
            .collect()
    }

    /// Cuts one direction between two hosts.
    pub fn cut(&mut self, now: Millis, from: Host, to: Host) -> Vec<Planned<P>> {
        self.cut.insert((from, to));
        let mut planned = Vec::new();
        for (conn, connection) in &mut self.connections {
            let hosts = [connection.ends[0].0, connection.ends[1].0];
            let touched = hosts == [from, to] || hosts == [to, from];
            if touched && connection.cut_since.is_none() {
                connection.cut_since = Some(now);
                let at = Millis(now.0 + KEEP_ALIVE_MS);
                planned.push((
                    at,
                    Arrival::KeepAlive {
                        conn: *conn,
                        since: now,
                    },
                ));
            }
        }
        planned
    }

    /// A keep-alive ran out: if the cut is still the same, both ends learn that the connection is gone.
    pub fn keep_alive(&mut self, now: Millis, conn: Conn, since: Millis) -> Vec<Planned<P>> {
        match self.connections.get(&conn) {
            Some(connection) if connection.cut_since == Some(since) => {
                let late = self.rng.below(2_000);
                vec![
                    (
                        now,
                        Arrival::Broken {
                            conn,
                            side: Side::Client,
                        },
                    ),
                    (
                        Millis(now.0 + late),
                        Arrival::Broken {
                            conn,
                            side: Side::Server,
                        },
                    ),
                ]
            }
            _ => Vec::new(),
        }
    }

    /// Heals every cut; what waited arrives in order.
    pub fn heal(&mut self, now: Millis) -> Vec<Planned<P>> {
        self.cut.clear();
        self.slow.clear();
        let mut planned = Vec::new();
        for (conn, connection) in &mut self.connections {
            connection.cut_since = None;
            for side in [Side::Client, Side::Server] {
                let direction = side as usize;
                for payload in connection.held[direction].drain(..) {
                    let at = Millis((now.0 + 1).max(connection.busy[direction].0));
                    connection.busy[direction] = at;
                    planned.push((
                        at,
                        Arrival::Message {
                            conn: *conn,
                            side: side.other(),
                            payload,
                        },
                    ));
                }
            }
        }
        planned
    }

    /// Makes every message from and to a host slow, by up to so many milliseconds.
    pub fn slow_down(&mut self, host: Host, up_to_ms: u64) {
        self.slow.insert(host, up_to_ms);
    }

    /// Whether any direction between the two hosts is cut.
    pub fn is_apart(&self, a: Host, b: Host) -> bool {
        self.cut.contains(&(a, b)) || self.cut.contains(&(b, a))
    }

    /// Connections that at least one end believes in.
    pub fn open(&self) -> usize {
        self.connections.len()
    }

    fn is_cut(&self, conn: Conn, from: Side) -> bool {
        self.connections.get(&conn).is_some_and(|connection| {
            let to = connection.ends[from.other() as usize].0;
            self.cut.contains(&(connection.ends[from as usize].0, to))
        })
    }

    fn delay(&mut self, conn: Conn, from: Side) -> Option<u64> {
        let connection = self.connections.get(&conn)?;
        let hosts = [
            connection.ends[from as usize].0,
            connection.ends[from.other() as usize].0,
        ];
        let extra = hosts
            .iter()
            .filter_map(|host| self.slow.get(host))
            .max()
            .copied()
            .unwrap_or(0);
        let usual = self.rng.below(3);
        // One message in a hundred is late, as after a retransmission.
        let late = if self.rng.below(100) == 0 {
            self.rng.below(400)
        } else {
            0
        };
        let slow = if extra > 0 { self.rng.below(extra) } else { 0 };
        Some(usual + late + slow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrives<P>(planned: Option<Planned<P>>) -> (Millis, P) {
        match planned {
            Some((at, Arrival::Message { payload, .. })) => (at, payload),
            _ => panic!("nothing arrives"),
        }
    }

    #[test]
    fn order_holds_in_each_direction() {
        let mut net = Net::new(Rng::new(7));
        let conn = net.connect((1, 0), (2, 0)).expect("no cut");
        let mut last = Millis(0);
        for n in 0..1000u32 {
            let (at, payload) = arrives(net.send(Millis(u64::from(n)), conn, Side::Client, n));
            assert!(at >= last, "message {n} overtook another");
            assert_eq!(payload, n);
            last = at;
        }
    }

    #[test]
    fn a_cut_holds_messages_and_a_heal_lets_them_through() {
        let mut net = Net::new(Rng::new(7));
        let conn = net.connect((1, 0), (2, 0)).expect("no cut");
        assert_eq!(net.cut(Millis(5), 1, 2).len(), 1, "a keep-alive is armed");
        assert!(net.send(Millis(6), conn, Side::Client, "held").is_none());
        assert!(
            net.send(Millis(6), conn, Side::Server, "the other way")
                .is_some()
        );
        assert!(
            net.connect((1, 0), (2, 0)).is_none(),
            "no dialling through a cut"
        );
        assert_eq!(net.heal(Millis(9)).len(), 1);
        assert!(
            net.keep_alive(Millis(30_000), conn, Millis(5)).is_empty(),
            "it healed in time"
        );
    }

    #[test]
    fn a_crash_is_learnt_by_the_other_end_alone() {
        let mut net = Net::<()>::new(Rng::new(7));
        let conn = net.connect((1, 0), (2, 0)).expect("no cut");
        let planned = net.crash(Millis(3), 2);
        assert!(matches!(
            planned[..],
            [(
                _,
                Arrival::Broken {
                    side: Side::Client,
                    ..
                }
            )]
        ));
        assert!(
            net.send(Millis(4), conn, Side::Client, ()).is_some(),
            "it does not know yet"
        );
        assert!(net.end(conn, Side::Server).is_none());
        assert!(net.learn_broken(conn, Side::Client));
        assert_eq!(net.open(), 0);
    }
}
