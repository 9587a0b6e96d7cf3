//! Connections of drivers and links of agents: order within one, delay, breaking, silence.

use super::*;

impl<S: Scheduler> World<'_, S> {
    pub(in crate::testing) fn latency(&mut self) -> u64 {
        if self.rng.chance(100) {
            self.rng.between(50, 400)
        } else {
            self.rng.between(1, 12)
        }
    }

    pub(in crate::testing) fn send_down(&mut self, channel: u64, message: Down) {
        let at = self.now + self.latency();
        let Some(wire) = self.channels.get_mut(&channel) else {
            return;
        };
        wire.last_down = wire.last_down.max(at);
        self.queue
            .plan(wire.last_down, Happening::Down { channel, message });
    }

    pub(in crate::testing) fn send_up(&mut self, channel: u64, message: Up) {
        let at = self.now + self.latency();
        let Some(wire) = self.channels.get_mut(&channel) else {
            return;
        };
        wire.last_up = wire.last_up.max(at);
        self.queue
            .plan(wire.last_up, Happening::Up { channel, message });
    }

    pub(in crate::testing) fn send_report(&mut self, machine: u32, report: Report) {
        let at = self.now + self.latency();
        let Some(link) = self.machines.get(&machine).and_then(|machine| machine.link) else {
            return;
        };
        if let Some(wire) = self.links.get_mut(&link).filter(|wire| wire.alive) {
            wire.last_up = wire.last_up.max(at);
            self.queue
                .plan(wire.last_up, Happening::Report { link, report });
        }
    }

    pub(in crate::testing) fn send_order(&mut self, machine: u32, order: Order) {
        let at = self.now + self.latency();
        let Some(link) = self.machines.get(&machine).and_then(|machine| machine.link) else {
            return;
        };
        let reign = self.reigns;
        let usable = |wire: &&mut Link| wire.alive && wire.reign == reign;
        let Some(wire) = self.links.get_mut(&link).filter(usable) else {
            return;
        };
        wire.last_down = wire.last_down.max(at);
        let at = wire.last_down;
        if matches!(order, Order::Run(_)) && self.springs(Fault::DropLaunch) {
            self.trace.line(
                self.now,
                format_args!("the launch is lost on its way to {machine}"),
            );
            self.break_link(link, 1, 50);
            return;
        }
        self.queue.plan(at, Happening::Order { link, order });
    }

    /// Breaks a link; both ends learn of it after a while.
    pub(in crate::testing) fn break_link(&mut self, link: u64, soonest: u64, latest: u64) {
        let Some(wire) = self.links.get_mut(&link).filter(|wire| wire.alive) else {
            return;
        };
        wire.alive = false;
        let (machine, reign) = (wire.machine, wire.reign);
        let at = self.now + self.rng.between(soonest, latest);
        self.queue.plan(
            at,
            Happening::LinkGone {
                link,
                machine,
                reign,
            },
        );
    }

    pub(in crate::testing) fn open_channel(
        &mut self,
        process: u64,
        connection: ConnectionId,
        address: &str,
        call: Box<Call>,
    ) {
        self.connections += 1;
        let channel = self.connections;
        let there = self
            .leader()
            .is_some_and(|leader| leader.address == address);
        let reign = self.reigns;
        self.channels.insert(
            channel,
            Channel {
                process,
                connection,
                reign,
                below: true,
                above: there,
                silent: false,
                last_up: 0,
                last_down: 0,
            },
        );
        self.trace.line(
            self.now,
            format_args!("driver subscribes at {address} (channel {channel})"),
        );
        if there {
            self.send_up(channel, Up::Subscribe(call));
        } else {
            self.send_down(channel, Down::Closed);
        }
    }

    pub(in crate::testing) fn submit(
        &mut self,
        process: u64,
        connection: ConnectionId,
        id: CallId,
        call: Box<Call>,
    ) {
        let found = self
            .channels
            .iter()
            .find(|(_, one)| one.below && one.process == process && one.connection == connection);
        let Some(channel) = found.map(|(channel, _)| *channel) else {
            return;
        };
        self.trace
            .line(self.now, format_args!("framework calls {}", asked(&call)));
        let is_accept = call.r#type() == call::Type::Accept;
        self.send_up(channel, Up::Call { id, call });
        if is_accept && self.springs(Fault::KillFrameworkAfterAccept) {
            self.kill_framework();
        }
    }

    /// The driver's ends of channels close.
    pub(in crate::testing) fn close_channels(&mut self, which: impl Fn(&Channel) -> bool) {
        let open: Vec<u64> = self
            .channels
            .iter()
            .filter(|(_, one)| one.below && which(one))
            .map(|(channel, _)| *channel)
            .collect();
        for channel in open {
            if let Some(wire) = self.channels.get_mut(&channel) {
                wire.below = false;
            }
            self.send_up(channel, Up::Hangup);
        }
        self.channels.retain(|_, one| one.below || one.above);
    }

    pub(in crate::testing) fn on_down(&mut self, channel: u64, message: Down) {
        let Some(wire) = self.channels.get_mut(&channel).filter(|wire| wire.below) else {
            return;
        };
        if wire.silent && !matches!(message, Down::Closed) {
            return;
        }
        let (process, connection) = (wire.process, wire.connection);
        if matches!(message, Down::Closed) {
            wire.below = false;
            wire.above = false;
        }
        if !self.is_current(process) {
            return;
        }
        let input = match message {
            Down::Accepted => {
                let stream = StreamId::parse(&format!("stream-{channel}"));
                DriverInput::Accepted {
                    connection,
                    stream: stream.expect("a good id"),
                }
            }
            Down::Event(event) => DriverInput::Event { connection, event },
            Down::CallDone { call, result } => DriverInput::CallDone {
                connection,
                call,
                result,
            },
            Down::Closed => {
                let reason = CloseReason::Lost("closed".to_owned());
                DriverInput::Closed { connection, reason }
            }
        };
        self.driver_takes(input);
    }

    pub(in crate::testing) fn on_up(&mut self, channel: u64, message: Up) {
        let Some(wire) = self.channels.get_mut(&channel).filter(|wire| wire.above) else {
            return;
        };
        let Some(master) = self
            .master
            .as_mut()
            .filter(|master| master.reign == wire.reign)
        else {
            return;
        };
        if wire.silent {
            return;
        }
        match message {
            Up::Subscribe(call) => {
                if call.framework_id.is_none() && !self.starts.is_empty() {
                    self.violate("the framework registered anew and left its tasks behind".into());
                }
                self.send_down(channel, Down::Accepted);
                if let Some(master) = &mut self.master {
                    master.subscribe(self.now, channel, &call, &mut self.registry);
                }
            }
            Up::Call { id, call } if master.knows(channel) => {
                let is_accept = call.r#type() == call::Type::Accept;
                master.call(self.now, *call, &self.registry);
                if is_accept && self.springs(Fault::KillMasterAfterAccept) {
                    // Half of the time its orders were out already.
                    if self.rng.chance(2) {
                        self.after();
                    }
                    self.kill_master();
                    return;
                }
                self.send_down(
                    channel,
                    Down::CallDone {
                        call: id,
                        result: Ok(()),
                    },
                );
            }
            Up::Call { id, .. } => {
                let error = CallError::NotSubscribed("Framework is not subscribed".to_owned());
                self.send_down(
                    channel,
                    Down::CallDone {
                        call: id,
                        result: Err(error),
                    },
                );
            }
            Up::Hangup => {
                master.hung_up(channel);
                wire.above = false;
            }
        }
    }
}
