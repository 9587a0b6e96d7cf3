//! What agents do in tests, and what they are told.

use std::collections::VecDeque;

use mezzo_model::TaskState;
use mezzo_wire::link::agent_message::Body as FromAgent;
use mezzo_wire::link::master_message::Body as Order;
use mezzo_wire::{link, v1};

use super::super::*;
use super::{Scheduler, TestAgent, World, bag, uuid};

impl World {
    pub fn hello(name: &str, resources: &str) -> link::Hello {
        link::Hello {
            link_version: 1,
            agent_version: "0.1.0".into(),
            agent: v1::AgentInfo {
                hostname: name.into(),
                resources: bag(resources).to_wire(),
                ..Default::default()
            },
            highest_epoch: None,
            boot_id: "boot".into(),
            tasks: Vec::new(),
            executors: Vec::new(),
            frameworks: Vec::new(),
            connection: 1,
            incarnation: format!("{name}-1"),
        }
    }

    pub fn send_hello(&mut self, hello: &link::Hello) -> ConnId {
        let conn = ConnId(self.fresh());
        self.agent_says(conn, FromAgent::Hello(hello.clone()));
        conn
    }

    pub fn agent_says(&mut self, conn: ConnId, body: FromAgent) {
        let message = link::AgentMessage { body: Some(body) };
        self.input(Input::Agent {
            conn,
            message: message.into(),
        });
    }

    /// Registers an agent and takes its welcome.
    pub fn register(&mut self, mut hello: link::Hello) -> TestAgent {
        let conn = self.send_hello(&hello);
        let id = match self.next_order(conn) {
            Order::Welcome(welcome) => welcome.agent_id,
            other => panic!("no welcome: {other:?}"),
        };
        hello.agent.id = Some(id.clone());
        TestAgent { conn, id, hello }
    }

    pub fn agent(&mut self, name: &str, resources: &str) -> TestAgent {
        self.register(Self::hello(name, resources))
    }

    /// The agent's link breaks.
    pub fn cut(&mut self, agent: &TestAgent) {
        self.closed.push(agent.conn);
        self.input(Input::AgentGone { conn: agent.conn });
    }

    /// The agent connects anew with these tasks.
    pub fn reconnect(
        &mut self,
        agent: &mut TestAgent,
        tasks: Vec<v1::Task>,
        frameworks: Vec<v1::FrameworkInfo>,
    ) {
        agent.hello.connection += 1;
        agent.hello.tasks = tasks;
        agent.hello.frameworks = frameworks;
        *agent = self.register(agent.hello.clone());
    }

    pub fn next_order(&mut self, conn: ConnId) -> Order {
        self.orders
            .get_mut(&conn)
            .and_then(VecDeque::pop_front)
            .expect("an order")
    }

    /// All orders, pings aside.
    pub fn orders(&mut self, agent: &TestAgent) -> Vec<Order> {
        let all = self.orders.remove(&agent.conn).unwrap_or_default();
        all.into_iter()
            .filter(|order| !matches!(order, Order::Ping(_)))
            .collect()
    }

    pub fn pong(&mut self, agent: &TestAgent) {
        self.agent_says(agent.conn, FromAgent::Pong(link::Pong { sequence: 0 }));
    }

    /// The agent reports a state of a task with a uuid made from the name of the state.
    pub fn status(
        &mut self,
        agent: &TestAgent,
        scheduler: &Scheduler,
        task: &str,
        state: TaskState,
    ) {
        self.status_ahead(agent, scheduler, task, state, state);
    }

    pub fn status_ahead(
        &mut self,
        agent: &TestAgent,
        scheduler: &Scheduler,
        task: &str,
        state: TaskState,
        latest: TaskState,
    ) {
        let status = v1::TaskStatus {
            task_id: task.into(),
            state: state.number(),
            agent_id: Some(agent.id.clone()),
            source: Some(v1::task_status::Source::Executor as i32),
            uuid: Some(uuid(task, state)),
            ..Default::default()
        };
        let update = link::StatusUpdate {
            framework_id: scheduler.id.clone(),
            status,
            latest_state: latest.number(),
        };
        self.agent_says(agent.conn, FromAgent::Update(update));
    }
}
