//! ZooKeeper as a process of the simulation: the model behind the simulated network.

use mezzo_coordination::Epoch;
use mezzo_coordination::zk::{Request, WriteOp};
use mezzo_model::time::Millis;

use super::net::{Conn, Side};
use super::payload::{Local, Payload};
use super::world::{Ctx, Process};
use super::zookeeper::{FromClient, ToClient, ZkModel};

/// ZooKeeper's tick: sessions end on its multiples.
const TICK_MS: u64 = 500;

/// One server; its data outlive it.
pub struct ZkHost {
    model: ZkModel,
    up: bool,
}

impl ZkHost {
    /// An empty server.
    pub fn new() -> Self {
        Self {
            model: ZkModel::new(Millis(TICK_MS)),
            up: false,
        }
    }

    fn send(&mut self, ctx: &mut Ctx<'_>, out: Vec<(u64, ToClient)>) {
        for (conn, message) in out {
            let conn = Conn(conn);
            let last = message == ToClient::Expired;
            let payload = match message {
                ToClient::Welcome { session, timeout } => Payload::ZkWelcome { session, timeout },
                ToClient::Expired => Payload::ZkExpired,
                ToClient::Pong => Payload::ZkPong,
                ToClient::Reply { xid, result } => Payload::ZkReply { xid, result },
                ToClient::Fired { xid } => Payload::ZkFired { xid },
            };
            ctx.send(conn, Side::Server, payload);
            if last {
                ctx.close(conn, Side::Server);
            }
        }
    }

    /// A store's write that went through names its term: the one that set the epoch's node.
    fn judge(&self, ctx: &mut Ctx<'_>, writes: &[WriteOp]) {
        for write in writes {
            if let WriteOp::Set { path, data, .. } = write
                && let Some(store) = path.strip_suffix("/mezzo/epoch")
                && let Some(counter) = std::str::from_utf8(data)
                    .ok()
                    .and_then(|text| text.trim().parse().ok())
            {
                let epoch = Epoch {
                    cluster_id: "simulated".into(),
                    counter,
                };
                ctx.oracle.store_took(store, &epoch);
            }
        }
    }
}

impl Default for ZkHost {
    fn default() -> Self {
        Self::new()
    }
}

impl Process for ZkHost {
    fn name(&self) -> &str {
        "zookeeper"
    }

    fn start(&mut self, ctx: &mut Ctx<'_>) {
        self.up = true;
        self.model.elect(ctx.now.mono);
    }

    fn message(&mut self, ctx: &mut Ctx<'_>, conn: Conn, _side: Side, payload: Payload) {
        let mut writes = Vec::new();
        let message = match payload {
            Payload::ZkHello { session, timeout } => FromClient::Hello { session, timeout },
            Payload::ZkPing => FromClient::Ping,
            Payload::ZkRequest { xid, call } => {
                ctx.note("zookeeper", format_args!("{} {xid} {call}", conn.0));
                writes = match &call {
                    Request::Write(write) => vec![write.clone()],
                    Request::Multi(writes) => writes.clone(),
                    Request::Get { .. } | Request::Exists { .. } | Request::Children { .. } => {
                        Vec::new()
                    }
                };
                FromClient::Request { xid, call }
            }
            Payload::ZkClose => FromClient::Close,
            _ => return,
        };
        let mut out = Vec::new();
        self.model.handle(ctx.now.mono, conn.0, message, &mut out);
        let done = out.iter().any(|(to, message)| {
            *to == conn.0 && matches!(message, ToClient::Reply { result: Ok(_), .. })
        });
        if done {
            self.judge(ctx, &writes);
        }
        self.send(ctx, out);
    }

    fn broken(&mut self, _ctx: &mut Ctx<'_>, conn: Conn, _side: Side) {
        self.model.broken(conn.0);
    }

    fn wake(&mut self, ctx: &mut Ctx<'_>) {
        let mut out = Vec::new();
        self.model.tick(ctx.now.mono, &mut out);
        self.send(ctx, out);
    }

    fn local(&mut self, _ctx: &mut Ctx<'_>, _what: Local) {}

    fn crash(&mut self, _ctx: &mut Ctx<'_>) {
        self.up = false;
    }

    fn next_deadline(&self) -> Option<Millis> {
        self.up.then(|| self.model.next_deadline()).flatten()
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    fn as_any(&mut self) -> &mut dyn std::any::Any {
        self
    }

    fn as_any_ref(&self) -> &dyn std::any::Any {
        self
    }
}
