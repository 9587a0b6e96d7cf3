//! Random histories: whatever comes, in whatever order, the books stay right and nothing panics.

use mezzo_coordination::CommitError;
use mezzo_model::TaskState;
use mezzo_model::rng::Rng;
use mezzo_wire::link::agent_message::Body as FromAgent;
use mezzo_wire::link::master_message::Body as Order;
use mezzo_wire::v1;
use mezzo_wire::v1::scheduler::call::{self, Type as CallType};
use mezzo_wire::{link, v1::scheduler::Call};

use super::super::testing::*;

/// An agent that does roughly what it is told, and a scheduler that does roughly what it likes.
struct Chaos {
    world: World,
    rng: Rng,
    schedulers: Vec<(Scheduler, Vec<v1::Offer>, Vec<v1::TaskStatus>)>,
    agents: Vec<(TestAgent, Vec<v1::Task>, bool)>,
    tasks: u64,
}

const STATES: [TaskState; 6] = [
    TaskState::Starting,
    TaskState::Running,
    TaskState::Killing,
    TaskState::Finished,
    TaskState::Failed,
    TaskState::Killed,
];

impl Chaos {
    fn new(seed: u64) -> Self {
        let mut world = World::new();
        world.auto_commit = false;
        let (schedulers, agents) = (Vec::new(), Vec::new());
        Self {
            world,
            rng: Rng::new(seed),
            schedulers,
            agents,
            tasks: 0,
        }
    }

    fn step(&mut self) {
        match self.rng.below(16) {
            0 => self.subscribe(),
            1 => self.register(),
            2 | 3 => self.accept(),
            4 => self.decline(),
            5 | 6 => self.report(),
            7 => self.acknowledge(),
            8 => self.kill_or_reconcile(),
            9 => self.cut_agent(),
            10 => self.reconnect_agent(),
            11 => self.cut_scheduler(),
            12 => self.suppress_or_revive(),
            13 => self.commit(),
            14 => self.goodbye_or_teardown(),
            _ => {
                let millis = self.rng.below(20_000);
                self.world.pass(millis);
            }
        }
        self.gather();
    }

    /// Reads what came.
    fn gather(&mut self) {
        for (scheduler, offers, statuses) in &mut self.schedulers {
            for event in self.world.events(scheduler) {
                offers.extend(event.offers.map(|o| o.offers).unwrap_or_default());
                statuses.extend(event.update.map(|u| u.status));
            }
        }
        for (agent, tasks, _) in &mut self.agents {
            for order in self.world.orders(agent) {
                match order {
                    Order::RunTask(run) => tasks.push(v1::Task {
                        task_id: run.task.task_id,
                        framework_id: run.framework.id.expect("set"),
                        agent_id: agent.id.clone(),
                        state: TaskState::Staging.number(),
                        resources: run.task.resources,
                        ..Default::default()
                    }),
                    Order::ShutdownFramework(shutdown) => {
                        tasks.retain(|task| task.framework_id != shutdown.framework_id);
                    }
                    Order::Acknowledge(ack) => tasks.retain(|task| {
                        let state = TaskState::from_number(task.state).expect("known");
                        !(task.task_id == ack.task_id && state.is_terminal())
                    }),
                    _ => {}
                }
            }
        }
    }

    fn subscribe(&mut self) {
        let again = self
            .rng
            .chance(3)
            .then(|| self.rng.pick(&self.schedulers).cloned())
            .flatten();
        let mut info = match again {
            Some((scheduler, ..)) => scheduler.info,
            None => World::info(&format!("f{}", self.schedulers.len())),
        };
        info.failover_timeout = Some([0.0, 30.0, 1e6][self.rng.below(3) as usize]);
        if self.schedulers.len() > 6 {
            return;
        }
        let conn = self
            .world
            .send_subscribe(World::subscribe_call(info.clone()));
        let Some(stream) = self.world.opened.get(&conn).cloned() else {
            return;
        };
        let first = self.world.next_event(conn);
        if let Some(subscribed) = first.subscribed {
            let id = subscribed.framework_id;
            info.id = Some(id.clone());
            let scheduler = Scheduler {
                conn,
                stream: Some(stream),
                id,
                info,
            };
            self.schedulers.push((scheduler, Vec::new(), Vec::new()));
        }
    }

    fn register(&mut self) {
        if self.agents.len() < 4 {
            let name = format!("h{}", self.agents.len());
            let hello = World::hello(&name, "cpus:4;mem:1024;ports:[1-100]");
            self.hello(hello, Vec::new());
        }
    }

    fn hello(&mut self, hello: link::Hello, tasks: Vec<v1::Task>) {
        let conn = self.world.send_hello(&hello);
        while let Some((id, txn)) = self.world.commits.pop_front() {
            self.world.commits.push_front((id, txn));
            self.world.answer_commit(Ok(()));
        }
        let id = hello.agent.id.clone().unwrap_or_else(|| "?".into());
        let mut agent = TestAgent { conn, id, hello };
        if let Some(Order::Welcome(welcome)) = self.world.orders(&agent).into_iter().next() {
            agent.id = welcome.agent_id.clone();
            agent.hello.agent.id = Some(welcome.agent_id);
            self.agents.push((agent, tasks, true));
        }
    }

    fn accept(&mut self) {
        if self.schedulers.is_empty() {
            return;
        }
        let which = self.rng.below(self.schedulers.len() as u64) as usize;
        // Now and then with somebody else's offers, with stale ones, or with too much.
        let from = if self.rng.chance(10) {
            self.rng.below(self.schedulers.len() as u64) as usize
        } else {
            which
        };
        let mut offers = self.schedulers[from].1.clone();
        self.rng.shuffle(&mut offers);
        offers.truncate(1 + self.rng.below(2) as usize);
        if !self.rng.chance(8) {
            self.schedulers[from]
                .1
                .retain(|offer| !offers.contains(offer));
        }
        let Some(agent) = offers.first().map(|offer| offer.agent_id.clone()) else {
            return;
        };
        let tasks: Vec<v1::TaskInfo> = (0..self.rng.below(4))
            .map(|_| {
                self.tasks += u64::from(!self.rng.chance(10));
                let amounts = [
                    "cpus:1;mem:32",
                    "cpus:0.5;mem:64;ports:[5-9]",
                    "cpus:100;mem:1",
                    "cpus:2;mem:500",
                ];
                task(
                    &format!("t{}", self.tasks),
                    &agent,
                    amounts[self.rng.below(4) as usize],
                )
            })
            .collect();
        let accept = call::Accept {
            offer_ids: offers.iter().map(|offer| offer.id.clone()).collect(),
            operations: vec![launch_operation(tasks)],
            filters: Some(v1::Filters {
                refuse_seconds: Some(self.rng.below(10) as f64),
            }),
        };
        self.send(which, CallType::Accept, |call| call.accept = Some(accept));
    }

    fn send(&mut self, which: usize, kind: CallType, change: impl FnOnce(&mut Call)) {
        let Some((scheduler, ..)) = self.schedulers.get(which) else {
            return;
        };
        let mut call = Call {
            framework_id: Some(scheduler.id.clone()),
            r#type: Some(kind as i32),
            ..Default::default()
        };
        change(&mut call);
        let stream = scheduler.stream.clone();
        let _ = self.world.call_raw(stream.as_ref(), call);
    }

    fn any(&mut self) -> usize {
        self.rng.below(self.schedulers.len() as u64) as usize
    }

    fn decline(&mut self) {
        let which = self.any();
        let Some((_, offers, _)) = self.schedulers.get_mut(which) else {
            return;
        };
        let Some(offer) = offers.pop() else { return };
        let filters = Some(v1::Filters {
            refuse_seconds: Some(self.rng.below(10) as f64),
        });
        let decline = call::Decline {
            offer_ids: vec![offer.id],
            filters,
        };
        self.send(which, CallType::Decline, |call| {
            call.decline = Some(decline)
        });
    }

    fn report(&mut self) {
        if self.agents.is_empty() {
            return;
        }
        let which = self.rng.below(self.agents.len() as u64) as usize;
        let (agent, tasks, is_up) = &mut self.agents[which];
        if !*is_up || tasks.is_empty() {
            return;
        }
        let at = self.rng.below(tasks.len() as u64) as usize;
        let before = TaskState::from_number(tasks[at].state).expect("known");
        let state = if before.is_terminal() {
            before
        } else {
            STATES[self.rng.below(6) as usize]
        };
        tasks[at].state = state.number();
        let name = tasks[at].task_id.value.clone();
        let status = v1::TaskStatus {
            task_id: tasks[at].task_id.clone(),
            state: state.number(),
            agent_id: Some(agent.id.clone()),
            uuid: (!self.rng.chance(10)).then(|| uuid(&name, state)),
            ..Default::default()
        };
        let update = link::StatusUpdate {
            framework_id: tasks[at].framework_id.clone(),
            status,
            latest_state: state.number(),
        };
        let conn = agent.conn;
        self.world.agent_says(conn, FromAgent::Update(update));
    }

    fn acknowledge(&mut self) {
        let which = self.any();
        let Some((_, _, statuses)) = self.schedulers.get_mut(which) else {
            return;
        };
        let Some(status) = statuses.pop() else { return };
        let (Some(agent_id), Some(uuid)) = (status.agent_id, status.uuid) else {
            return;
        };
        let acknowledge = call::Acknowledge {
            agent_id,
            task_id: status.task_id,
            uuid,
        };
        self.send(which, CallType::Acknowledge, |call| {
            call.acknowledge = Some(acknowledge)
        });
    }

    fn kill_or_reconcile(&mut self) {
        let which = self.any();
        let task_id: v1::TaskId = format!("t{}", self.rng.below(self.tasks + 2)).into();
        if self.rng.chance(2) {
            let kill = call::Kill {
                task_id,
                agent_id: None,
                kill_policy: None,
            };
            self.send(which, CallType::Kill, |call| call.kill = Some(kill));
        } else {
            let agent_id = self
                .rng
                .pick(&self.agents)
                .map(|(agent, ..)| agent.id.clone());
            let mut tasks = vec![call::reconcile::Task { task_id, agent_id }];
            tasks.truncate(self.rng.below(2) as usize);
            let reconcile = call::Reconcile { tasks };
            self.send(which, CallType::Reconcile, |call| {
                call.reconcile = Some(reconcile)
            });
        }
    }

    fn cut_agent(&mut self) {
        if let Some(which) = self.some_agent() {
            let (agent, _, is_up) = &mut self.agents[which];
            *is_up = false;
            let agent = agent.clone();
            self.world.cut(&agent);
        }
    }

    fn some_agent(&mut self) -> Option<usize> {
        (!self.agents.is_empty()).then(|| self.rng.below(self.agents.len() as u64) as usize)
    }

    fn reconnect_agent(&mut self) {
        let Some(which) = self.some_agent() else {
            return;
        };
        let (agent, mut tasks, _) = self.agents.swap_remove(which);
        let mut hello = agent.hello.clone();
        hello.connection += 1;
        // Some of what it was told got lost.
        if self.rng.chance(3) {
            tasks.pop();
        }
        if self.rng.chance(5) {
            hello.incarnation = format!("{}'", hello.incarnation);
        }
        hello.tasks.clone_from(&tasks);
        hello.frameworks = self
            .schedulers
            .iter()
            .map(|(scheduler, ..)| scheduler.info.clone())
            .collect();
        self.hello(hello, tasks);
    }

    fn cut_scheduler(&mut self) {
        if !self.schedulers.is_empty() && self.rng.chance(2) {
            let which = self.any();
            let (scheduler, ..) = self.schedulers.swap_remove(which);
            self.world.disconnect(&scheduler);
        }
    }

    fn suppress_or_revive(&mut self) {
        let which = self.any();
        let kind = if self.rng.chance(2) {
            CallType::Suppress
        } else {
            CallType::Revive
        };
        self.send(which, kind, |_| {});
    }

    fn commit(&mut self) {
        if !self.world.commits.is_empty() {
            let result = if self.rng.chance(4) {
                Err(CommitError::Unavailable)
            } else {
                Ok(())
            };
            self.world.answer_commit(result);
        }
    }

    fn goodbye_or_teardown(&mut self) {
        if self.rng.chance(3) && !self.schedulers.is_empty() {
            let which = self.any();
            self.send(which, CallType::Teardown, |_| {});
            self.schedulers.swap_remove(which);
        } else if self.rng.chance(3)
            && let Some(which) = self.some_agent()
        {
            let (agent, _, is_up) = self.agents.swap_remove(which);
            if is_up {
                self.world
                    .agent_says(agent.conn, FromAgent::Goodbye(link::Goodbye::default()));
            }
        }
    }
}

#[test]
fn the_books_are_right_after_any_history() {
    let mut launched = 0;
    let mut unreachable = 0;
    for seed in 0..120 {
        let mut chaos = Chaos::new(seed);
        for _ in 0..400 {
            chaos.step();
        }
        let counters = chaos.world.core.counters();
        launched += counters.tasks_launched;
        unreachable += counters.agents_unreachable;
        assert_eq!(chaos.world.stepped_down, None);
    }
    assert!(
        launched > 500,
        "only {launched} launches: the histories are tame"
    );
    assert!(unreachable > 50, "only {unreachable} agents were lost");
}
