//! The door in front of a real core and a store in memory: what is asked, what is answered.

mod bad;
mod conformance;

use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use mezzo_coordination::store::memory::Memory;
use mezzo_coordination::{Leadership, Term};
use mezzo_door::{Metrics, Stop};
use mezzo_sdk::scheduler::{SchedulerCommand, SchedulerEvent};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tower::ServiceExt as _;

use super::desk::{Desk, Standing};
use super::{About, Api};
use crate::core::{Config, Core};
use crate::shell::leading::{Clock, Over, Wires, live};
use crate::shell::metrics::Gauges;

/// A leading process without a socket and a cluster that it is not connected to.
pub struct House {
    router: Router,
    pub standing: watch::Sender<Standing>,
    pub events: mpsc::Sender<SchedulerEvent>,
    pub commands: mpsc::Receiver<SchedulerCommand>,
    pub memory: Memory,
    stop: Stop,
    _leadership: watch::Sender<Leadership>,
}

impl House {
    pub async fn new() -> Self {
        Self::on(Memory::new("test"), Config::default()).await
    }

    pub async fn on(memory: Memory, config: Config) -> Self {
        let term: Term = memory.begin_term();
        let records = term.store().load("").await.expect("loads");
        let core = Core::load(config, 1, &records).expect("good");
        let (ask, questions) = mpsc::channel(64);
        let (events, from_driver) = mpsc::channel(64);
        let (to_driver, commands) = mpsc::channel(1024);
        let (leads, leadership) = watch::channel(Leadership::Leading { term: term.clone() });
        let stop = Stop::new();
        let wires = Wires {
            questions,
            events: from_driver,
            commands: to_driver,
            store: term.store(),
            leadership,
            stop: stop.clone(),
        };
        let gauges = Gauges::register(&Metrics::with_prefix("test"));
        tokio::spawn(async move { live(core, &term, Clock::new(), wires, gauges).await });
        let (standing, watched) = watch::channel(Standing::Leading(ask));
        let about = About {
            address: "me:9000".to_owned(),
            ..About::default()
        };
        let router = Api::new(Desk::new(watched), about).routes();
        Self {
            router,
            standing,
            events,
            commands,
            memory,
            stop,
            _leadership: leads,
        }
    }

    pub async fn send(&self, request: Request<Body>) -> (StatusCode, Value, http::HeaderMap) {
        let response = self
            .router
            .clone()
            .oneshot(request)
            .await
            .expect("the router does not fail");
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        let json = serde_json::from_str(&text).unwrap_or(Value::String(text));
        (parts.status, json, parts.headers)
    }

    pub async fn ask(&self, method: &str, path: &str, body: impl Into<Body>) -> (u16, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(body.into())
            .expect("good");
        let (status, json, _) = self.send(request).await;
        (status.as_u16(), json)
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.ask("GET", path, Body::empty()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.ask("POST", path, body.to_string()).await
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

/// A small job.
pub fn job(id: &str) -> Value {
    json!({"id": id, "run": {"cpus": 0.1, "mem": 32, "disk": 0, "cmd": "true"}})
}

#[tokio::test]
async fn a_core_lives_until_it_is_overtaken_or_told_to_stop() {
    let memory = Memory::new("test");
    let term = memory.begin_term();
    let wires = |leadership, stop| {
        let (_, questions) = mpsc::channel(1);
        let (events, from_driver) = mpsc::channel(1);
        let (to_driver, commands) = mpsc::channel(8);
        let wires = Wires {
            questions,
            events: from_driver,
            commands: to_driver,
            store: term.store(),
            leadership,
            stop,
        };
        (wires, events, commands)
    };
    let gauges = || Gauges::register(&Metrics::with_prefix("test"));
    let core = || Core::new(Config::default(), 1);
    let (leads, leadership) = watch::channel(Leadership::Leading { term: term.clone() });

    let (one, _events, _commands) = wires(leadership.clone(), Stop::new());
    leads.send_replace(Leadership::Suspended);
    let life = live(core(), &term, Clock::new(), one, gauges());
    tokio::pin!(life);
    let doubt = tokio::time::timeout(std::time::Duration::from_millis(50), life.as_mut()).await;
    assert!(doubt.is_err(), "in doubt it waits");
    leads.send_replace(Leadership::Leading {
        term: memory.begin_term(),
    });
    assert_eq!(life.await, Over::Overtaken);

    let stop = Stop::new();
    leads.send_replace(Leadership::Leading { term: term.clone() });
    let (two, _events, _commands) = wires(leads.subscribe(), stop.clone());
    stop.stop();
    assert_eq!(
        live(core(), &term, Clock::new(), two, gauges()).await,
        Over::Stopped
    );

    let (three, events, _commands) = wires(leads.subscribe(), Stop::new());
    drop(events);
    let over = live(core(), &term, Clock::new(), three, gauges()).await;
    assert!(
        matches!(over, Over::Abdicated { removed: false, .. }),
        "{over:?}"
    );
}
