//! What schedulers do in tests, and what they get.

use std::collections::VecDeque;

use mezzo_model::ids::StreamId;
use mezzo_wire::v1;
use mezzo_wire::v1::framework_info::capability::Type as Capability;
use mezzo_wire::v1::scheduler::call::{self, Type as CallType};
use mezzo_wire::v1::scheduler::{Call, Event, event};

use super::super::*;
use super::{Scheduler, World, brief, launch_operation};
use crate::keys::RequestId;

impl World {
    /// A description with these capabilities beside MULTI_ROLE being left out.
    pub fn info(name: &str) -> v1::FrameworkInfo {
        v1::FrameworkInfo {
            user: "nobody".into(),
            name: name.into(),
            failover_timeout: Some(3600.0),
            capabilities: vec![v1::framework_info::Capability {
                r#type: Some(Capability::PartitionAware as i32),
            }],
            ..Default::default()
        }
    }

    pub fn subscribe_call(info: v1::FrameworkInfo) -> Call {
        Call {
            framework_id: info.id.clone(),
            r#type: Some(CallType::Subscribe as i32),
            subscribe: Some(call::Subscribe {
                framework_info: info,
                suppressed_roles: Vec::new(),
                offer_constraints: None,
            }),
            ..Default::default()
        }
    }

    pub fn send_subscribe(&mut self, call: Call) -> ConnId {
        let conn = ConnId(self.fresh());
        self.input(Input::Subscribe {
            conn,
            principal: None,
            stream_id: None,
            call: call.into(),
        });
        conn
    }

    /// Subscribes and takes SUBSCRIBED and HEARTBEAT.
    pub fn subscribe(&mut self, info: v1::FrameworkInfo) -> Scheduler {
        let conn = self.send_subscribe(Self::subscribe_call(info.clone()));
        let stream = self.opened.get(&conn).cloned();
        assert!(stream.is_some(), "refused: {:?}", self.refused);
        let subscribed = self.next_event(conn);
        let id = subscribed
            .subscribed
            .expect("SUBSCRIBED comes first")
            .framework_id;
        assert_eq!(
            self.next_event(conn).r#type,
            Some(event::Type::Heartbeat as i32)
        );
        let info = v1::FrameworkInfo {
            id: Some(id.clone()),
            ..info
        };
        Scheduler {
            conn,
            stream,
            id,
            info,
        }
    }

    pub fn framework(&mut self, name: &str) -> Scheduler {
        self.subscribe(Self::info(name))
    }

    pub fn disconnect(&mut self, scheduler: &Scheduler) {
        self.closed.push(scheduler.conn);
        self.input(Input::SchedulerGone {
            conn: scheduler.conn,
        });
    }

    pub fn call_raw(&mut self, stream: Option<&StreamId>, call: Call) -> Result<(), Refusal> {
        let request = RequestId(self.fresh());
        let stream_id = stream.map(ToString::to_string);
        self.input(Input::Call {
            request,
            principal: None,
            stream_id,
            call: call.into(),
        });
        self.replies
            .remove(&request)
            .expect("every call is answered")
    }

    /// A call that must be taken.
    pub fn call(&mut self, scheduler: &Scheduler, kind: CallType, change: impl FnOnce(&mut Call)) {
        let mut call = Call {
            framework_id: Some(scheduler.id.clone()),
            r#type: Some(kind as i32),
            ..Default::default()
        };
        change(&mut call);
        assert_eq!(self.call_raw(scheduler.stream.as_ref(), call), Ok(()));
    }

    pub fn accept(&mut self, scheduler: &Scheduler, accept: call::Accept) {
        self.call(scheduler, CallType::Accept, |call| {
            call.accept = Some(accept)
        });
    }

    pub fn launch(
        &mut self,
        scheduler: &Scheduler,
        offers: &[&v1::Offer],
        tasks: Vec<v1::TaskInfo>,
        refuse: f64,
    ) {
        self.accept(
            scheduler,
            call::Accept {
                offer_ids: offers.iter().map(|offer| offer.id.clone()).collect(),
                operations: vec![launch_operation(tasks)],
                filters: Some(v1::Filters {
                    refuse_seconds: Some(refuse),
                }),
            },
        );
    }

    pub fn decline(&mut self, scheduler: &Scheduler, offer: &v1::Offer, refuse: f64) {
        let decline = call::Decline {
            offer_ids: vec![offer.id.clone()],
            filters: Some(v1::Filters {
                refuse_seconds: Some(refuse),
            }),
        };
        self.call(scheduler, CallType::Decline, |call| {
            call.decline = Some(decline)
        });
    }

    pub fn revive(&mut self, scheduler: &Scheduler) {
        self.call(scheduler, CallType::Revive, |_| {});
    }

    pub fn suppress(&mut self, scheduler: &Scheduler) {
        self.call(scheduler, CallType::Suppress, |_| {});
    }

    pub fn kill(&mut self, scheduler: &Scheduler, task: &str) {
        let kill = call::Kill {
            task_id: task.into(),
            agent_id: None,
            kill_policy: None,
        };
        self.call(scheduler, CallType::Kill, |call| call.kill = Some(kill));
    }

    pub fn acknowledge(&mut self, scheduler: &Scheduler, status: &v1::TaskStatus) {
        let acknowledge = call::Acknowledge {
            agent_id: status.agent_id.clone().expect("an agent"),
            task_id: status.task_id.clone(),
            uuid: status.uuid.clone().expect("a uuid"),
        };
        self.call(scheduler, CallType::Acknowledge, |call| {
            call.acknowledge = Some(acknowledge)
        });
    }

    pub fn reconcile(&mut self, scheduler: &Scheduler, tasks: &[(&str, Option<&v1::AgentId>)]) {
        let tasks = tasks.iter().map(|(task, agent)| call::reconcile::Task {
            task_id: (*task).into(),
            agent_id: agent.cloned(),
        });
        let reconcile = call::Reconcile {
            tasks: tasks.collect(),
        };
        self.call(scheduler, CallType::Reconcile, |call| {
            call.reconcile = Some(reconcile)
        });
    }

    // ---- what schedulers get -------------------------------------------------------------------------------------

    pub fn next_event(&mut self, conn: ConnId) -> Event {
        self.events
            .get_mut(&conn)
            .and_then(VecDeque::pop_front)
            .expect("an event")
    }

    /// All events, heartbeats aside.
    pub fn events(&mut self, scheduler: &Scheduler) -> Vec<Event> {
        let all = self.events.remove(&scheduler.conn).unwrap_or_default();
        let beat = Some(event::Type::Heartbeat as i32);
        all.into_iter()
            .filter(|event| event.r#type != beat)
            .collect()
    }

    /// The offers that came; nothing else may have come.
    pub fn offers(&mut self, scheduler: &Scheduler) -> Vec<v1::Offer> {
        let mut offers = Vec::new();
        for event in self.events(scheduler) {
            offers.extend(
                event
                    .offers
                    .clone()
                    .unwrap_or_else(|| panic!("no offers: {event:?}"))
                    .offers,
            );
        }
        offers
    }

    /// The one offer that came, and nothing else.
    pub fn offer(&mut self, scheduler: &Scheduler) -> v1::Offer {
        let mut offers = self.offers(scheduler);
        assert_eq!(offers.len(), 1, "{offers:?}");
        offers.remove(0)
    }

    /// The statuses that came; nothing else may have come.
    pub fn updates(&mut self, scheduler: &Scheduler) -> Vec<v1::TaskStatus> {
        let events = self.events(scheduler);
        events
            .into_iter()
            .map(|event| {
                event
                    .update
                    .clone()
                    .unwrap_or_else(|| panic!("no status: {event:?}"))
                    .status
            })
            .collect()
    }

    /// The one status that came, and nothing else.
    pub fn update(&mut self, scheduler: &Scheduler) -> v1::TaskStatus {
        let mut updates = self.updates(scheduler);
        assert_eq!(updates.len(), 1, "{updates:?}");
        updates.remove(0)
    }

    /// The kinds of the events that came, with what they carry in short.
    pub fn story(&mut self, scheduler: &Scheduler) -> Vec<String> {
        self.events(scheduler).iter().map(brief).collect()
    }
}
