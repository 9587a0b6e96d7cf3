//! A driver on a bench: one input at a time, every output looked at.

use std::collections::VecDeque;

use mezzo_model::ids::{AgentId, FrameworkId, OfferId, StreamId, TaskId};
use mezzo_model::time::{Millis, Now, Wall};
use mezzo_wire::v1;
use mezzo_wire::v1::framework_info::{Capability, capability};
use mezzo_wire::v1::scheduler::{Call, Event, call, event};

use crate::scheduler::core::{
    CallError, CallId, CloseReason, ConnectionId, DriverCore, DriverInput, DriverOutput, Leader,
};
use crate::scheduler::{DriverConfig, SchedulerCommand, SchedulerEvent};

pub(super) fn task(id: &str) -> TaskId {
    TaskId::parse(id).expect("a good id")
}

pub(super) fn offer(id: &str) -> OfferId {
    OfferId::parse(id).expect("a good id")
}

pub(super) fn agent(id: &str) -> AgentId {
    AgentId::parse(id).expect("a good id")
}

pub(super) fn framework(id: &str) -> FrameworkId {
    FrameworkId::parse(id).expect("a good id")
}

pub(super) fn config() -> DriverConfig {
    let capabilities = [
        capability::Type::PartitionAware,
        capability::Type::MultiRole,
    ]
    .map(|kind| Capability {
        r#type: Some(kind as i32),
    });
    DriverConfig::new(v1::FrameworkInfo {
        user: "nobody".into(),
        name: "story".into(),
        roles: vec!["blue".into(), "red".into()],
        capabilities: capabilities.into(),
        ..Default::default()
    })
}

/// A launch of tasks on agent `a1`.
pub(super) fn launch(tasks: &[&str]) -> Vec<v1::offer::Operation> {
    let task_infos = tasks
        .iter()
        .map(|id| v1::TaskInfo {
            name: (*id).to_owned(),
            task_id: task(id).to_wire(),
            agent_id: agent("a1").to_wire(),
            ..Default::default()
        })
        .collect();
    vec![v1::offer::Operation {
        r#type: Some(v1::offer::operation::Type::Launch as i32),
        launch: Some(v1::offer::operation::Launch { task_infos }),
        ..Default::default()
    }]
}

pub(super) fn subscribed_event(id: &str, interval: Option<f64>) -> Event {
    Event {
        r#type: Some(event::Type::Subscribed as i32),
        subscribed: Some(event::Subscribed {
            framework_id: v1::FrameworkId {
                value: id.to_owned(),
            },
            heartbeat_interval_seconds: interval,
            master_info: None,
        }),
        ..Default::default()
    }
}

pub(super) fn heartbeat() -> Event {
    Event {
        r#type: Some(event::Type::Heartbeat as i32),
        ..Default::default()
    }
}

pub(super) fn offers_event(ids: &[&str]) -> Event {
    let offers = ids
        .iter()
        .map(|id| v1::Offer {
            id: v1::OfferId {
                value: (*id).to_owned(),
            },
            framework_id: framework("f1").to_wire(),
            agent_id: agent("a1").to_wire(),
            hostname: "h1".into(),
            ..Default::default()
        })
        .collect();
    Event {
        r#type: Some(event::Type::Offers as i32),
        offers: Some(event::Offers { offers }),
        ..Default::default()
    }
}

pub(super) fn rescind_event(id: &str) -> Event {
    Event {
        r#type: Some(event::Type::Rescind as i32),
        rescind: Some(event::Rescind {
            offer_id: v1::OfferId {
                value: id.to_owned(),
            },
        }),
        ..Default::default()
    }
}

pub(super) fn update_event(id: &str, state: v1::TaskState, uuid: Option<[u8; 16]>) -> Event {
    Event {
        r#type: Some(event::Type::Update as i32),
        update: Some(event::Update {
            status: v1::TaskStatus {
                task_id: v1::TaskId {
                    value: id.to_owned(),
                },
                state: state as i32,
                agent_id: Some(agent("a1").to_wire()),
                uuid: uuid.map(|uuid| uuid.to_vec().into()),
                ..Default::default()
            },
        }),
        ..Default::default()
    }
}

pub(super) fn error_event(words: &str) -> Event {
    Event {
        r#type: Some(event::Type::Error as i32),
        error: Some(event::Error {
            message: words.to_owned(),
        }),
        ..Default::default()
    }
}

pub(super) struct Env {
    pub(super) core: DriverCore,
    pub(super) now: Now,
    outputs: VecDeque<DriverOutput>,
    pub(super) connection: ConnectionId,
}

impl Env {
    pub(super) fn with(config: DriverConfig, stored: Option<&str>) -> Self {
        Self {
            core: DriverCore::new(config, stored.map(framework), 7),
            now: Now::new(Millis(1_000), Wall(1_700_000_000_000)),
            outputs: VecDeque::new(),
            connection: ConnectionId(0),
        }
    }

    /// A framework of old, subscribed as `f1` at master `m1:5050`.
    pub(super) fn subscribed() -> Self {
        Self::subscribed_with(config())
    }

    pub(super) fn subscribed_with(config: DriverConfig) -> Self {
        let mut env = Self::with(config, Some("f1"));
        env.leader("m1:5050");
        env.expect_subscribe("m1:5050");
        env.accept_subscription("f1");
        env.expect_event(|event| matches!(event, SchedulerEvent::Subscribed { .. }));
        env
    }

    pub(super) fn input(&mut self, input: DriverInput) {
        let mut out = Vec::new();
        self.core.handle(self.now, input, &mut out);
        self.outputs.extend(out);
    }

    pub(super) fn command(&mut self, command: SchedulerCommand) {
        self.input(DriverInput::Command(command));
    }

    pub(super) fn leader(&mut self, address: &str) {
        let leader = Leader {
            address: address.to_owned(),
            id: String::new(),
        };
        self.input(DriverInput::Leader(Some(leader)));
    }

    pub(super) fn event(&mut self, event: Event) {
        let connection = self.connection;
        self.input(DriverInput::Event {
            connection,
            event: Box::new(event),
        });
    }

    pub(super) fn close(&mut self, reason: CloseReason) {
        let connection = self.connection;
        self.input(DriverInput::Closed { connection, reason });
    }

    pub(super) fn lose(&mut self) {
        self.close(CloseReason::Lost("reset by peer".into()));
    }

    pub(super) fn accept_subscription(&mut self, id: &str) {
        let connection = self.connection;
        let stream = StreamId::parse(&format!("s{}", connection.0)).expect("a good id");
        self.input(DriverInput::Accepted { connection, stream });
        self.event(subscribed_event(id, Some(15.0)));
    }

    pub(super) fn done(&mut self, call: CallId, result: Result<(), CallError>) {
        let connection = self.connection;
        self.input(DriverInput::CallDone {
            connection,
            call,
            result,
        });
    }

    /// Lets time pass, with a tick at each deadline on the way; stops when something but a note came out.
    pub(super) fn pass(&mut self, span: Millis) {
        let end = self.now.mono + span;
        while let Some(due) = self.core.next_deadline().filter(|due| *due <= end) {
            self.now.mono = due.max(self.now.mono);
            self.input(DriverInput::Tick);
            self.outputs
                .retain(|output| !matches!(output, DriverOutput::Note { .. }));
            if !self.outputs.is_empty() {
                return;
            }
            let next = self.core.next_deadline();
            assert!(
                next.is_none_or(|next| next > self.now.mono),
                "a deadline that does nothing"
            );
        }
        self.now.mono = end;
    }

    /// The next output that is no note.
    pub(super) fn next(&mut self) -> Option<DriverOutput> {
        loop {
            match self.outputs.pop_front() {
                Some(DriverOutput::Note { .. }) => {}
                other => return other,
            }
        }
    }

    pub(super) fn expect_subscribe(&mut self, at: &str) -> call::Subscribe {
        match self.next() {
            Some(DriverOutput::Subscribe {
                connection,
                address,
                call,
            }) => {
                assert_eq!(address, at);
                assert_eq!(call.r#type(), call::Type::Subscribe);
                let subscribe = call.subscribe.expect("a subscribe");
                assert_eq!(call.framework_id, subscribe.framework_info.id);
                self.connection = connection;
                subscribe
            }
            other => panic!("expected SUBSCRIBE at {at}, got {other:?}"),
        }
    }

    pub(super) fn expect_close(&mut self) {
        let expected = DriverOutput::Close {
            connection: self.connection,
        };
        assert_eq!(self.next(), Some(expected));
    }

    pub(super) fn expect_event(
        &mut self,
        wanted: impl Fn(&SchedulerEvent) -> bool,
    ) -> SchedulerEvent {
        match self.next() {
            Some(DriverOutput::Deliver(event)) if wanted(&event) => event,
            other => panic!("another event was expected than {other:?}"),
        }
    }

    pub(super) fn expect_disconnected(&mut self) {
        self.expect_event(|event| matches!(event, SchedulerEvent::Disconnected));
    }

    /// The status that the framework is told next.
    pub(super) fn expect_status(&mut self) -> v1::TaskStatus {
        match self.expect_event(|event| matches!(event, SchedulerEvent::Update { .. })) {
            SchedulerEvent::Update { status, .. } => status,
            other => panic!("no update: {other:?}"),
        }
    }

    pub(super) fn expect_call(&mut self) -> (CallId, Call) {
        match self.next() {
            Some(DriverOutput::Submit {
                connection,
                id,
                stream,
                call,
            }) => {
                assert_eq!(connection, self.connection);
                assert_eq!(stream.as_str(), format!("s{}", connection.0));
                (id, *call)
            }
            other => panic!("expected a call, got {other:?}"),
        }
    }

    /// The next call, which succeeds.
    pub(super) fn expect_and_answer(&mut self, kind: call::Type) -> Call {
        let (id, call) = self.expect_call();
        assert_eq!(call.r#type(), kind, "{call:?}");
        self.done(id, Ok(()));
        call
    }

    /// Nothing is left to look at.
    pub(super) fn quiet(&mut self) {
        let left = self.next();
        assert_eq!(left, None, "an output nobody expected");
    }
}
