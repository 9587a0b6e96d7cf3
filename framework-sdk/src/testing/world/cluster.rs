//! Masters and machines in the world: elections, registrations, orders, reports.

use super::*;

impl<S: Scheduler> World<'_, S> {
    pub(in crate::testing) fn add_machine(&mut self) {
        let number = u32::try_from(self.machines.len()).unwrap_or(u32::MAX);
        let total = Resources::parse("cpus:4;mem:4096;disk:10000;ports:[31000-31099]")
            .expect("the resources of a simulated machine");
        let machine = Machine::new(number, total, self.rng.split(&format!("machine {number}")));
        self.machines.insert(number, machine);
        let at = self.now + self.rng.below(200);
        self.queue.plan(at, Happening::Dial { machine: number });
    }

    pub(in crate::testing) fn elect(&mut self) {
        if self.master.is_some() {
            return;
        }
        self.reigns += 1;
        self.trace.line(
            self.now,
            format_args!("master of reign {} is elected", self.reigns),
        );
        self.master = Some(Master::new(self.reigns, self.now));
        self.spread_news();
    }

    pub(in crate::testing) fn spread_news(&mut self) {
        if let Some(process) = self.process.as_ref().map(|process| process.incarnation) {
            let at = self.now + self.rng.between(1, 500);
            self.queue.plan(at, Happening::News { process });
        }
    }

    pub(in crate::testing) fn dial(&mut self, number: u32) {
        let reign = self.reigns;
        let there = self.master.is_some();
        let later = self.now + self.rng.between(200, 1_500);
        let Some(machine) = self.machines.get_mut(&number) else {
            return;
        };
        if machine.link.is_some() || !machine.up {
            return;
        }
        if machine.partitioned || !there {
            self.queue.plan(later, Happening::Dial { machine: number });
            return;
        }
        self.connections += 1;
        let link = self.connections;
        machine.link = Some(link);
        let known = machine.known();
        let wire = Link {
            machine: number,
            reign,
            alive: true,
            last_up: 0,
            last_down: 0,
        };
        self.links.insert(link, wire);
        self.send_report(number, Report::Hello(known));
    }

    pub(in crate::testing) fn on_report(&mut self, link: u64, report: Report) {
        let Some(wire) = self.links.get(&link).filter(|wire| wire.alive) else {
            return;
        };
        let number = wire.machine;
        let Some(master) = self
            .master
            .as_mut()
            .filter(|master| master.reign == wire.reign)
        else {
            return;
        };
        match report {
            Report::Hello(known) => {
                let Some(machine) = self.machines.get_mut(&number) else {
                    return;
                };
                let agent = machine.agent.get_or_insert_with(|| {
                    self.registry.issued += 1;
                    AgentId::parse(&format!("sim-S{}", self.registry.issued)).expect("a good id")
                });
                let line = format_args!("agent {agent} registers with {} tasks", known.len());
                self.trace.line(self.now, line);
                master.register(
                    self.now,
                    number,
                    agent,
                    &machine.total,
                    known,
                    &mut self.registry,
                );
            }
            Report::Update(status) => master.agent_update(*status),
            Report::Forgotten(task) => master.forget(&task),
        }
    }

    pub(in crate::testing) fn on_order(&mut self, link: u64, order: Order) {
        let Some(wire) = self.links.get(&link).filter(|wire| wire.alive) else {
            return;
        };
        let number = wire.machine;
        let acked = match &order {
            Order::Ack { task, .. } => Some(task.clone()),
            _ => None,
        };
        let started = match &order {
            Order::Run(task) => TaskId::from_wire(&task.task_id).ok(),
            _ => None,
        };
        let mut ran = false;
        self.with_machine(number, |machine, now, out| {
            ran = machine.take(now, order, out)
        });
        if let Some(task) = started.filter(|_| ran) {
            self.trace
                .line(self.now, format_args!("machine {number} starts {task}"));
            let times = self.starts.entry(task.clone()).or_insert(0);
            *times += 1;
            if *times > 1 {
                self.violate(format!("{task} was started twice"));
            }
        }
        if let Some(task) = acked
            && self
                .machines
                .get(&number)
                .is_some_and(|machine| !machine.knows(&task))
        {
            self.send_report(number, Report::Forgotten(task));
        }
    }

    pub(in crate::testing) fn with_machine<T>(
        &mut self,
        number: u32,
        f: impl FnOnce(&mut Machine, u64, &mut Vec<v1::TaskStatus>) -> T,
    ) -> Option<T> {
        let machine = self.machines.get_mut(&number)?;
        let mut out = Vec::new();
        let result = f(machine, self.now, &mut out);
        let next = machine.next_deadline();
        for status in out {
            self.send_report(number, Report::Update(Box::new(status)));
        }
        if let Some(at) = next {
            self.plan_wake(at, Sleeper::Machine(number));
        }
        Some(result)
    }

    pub(in crate::testing) fn on_link_gone(&mut self, link: u64, number: u32, reign: u64) {
        self.links.remove(&link);
        if let Some(machine) = self.machines.get_mut(&number)
            && machine.link == Some(link)
        {
            machine.link = None;
            let at = self.now + self.rng.between(20, 1_000);
            self.queue.plan(at, Happening::Dial { machine: number });
            if let Some(master) = self.master.as_mut().filter(|master| master.reign == reign) {
                master.agent_away(self.now, number);
            }
        }
    }
}
