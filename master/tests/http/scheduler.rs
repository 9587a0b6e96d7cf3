//! The least of a scheduler over HTTP, in JSON.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::client::{Answer, Ask, Wire, ask};

pub const PATH: &str = "/api/v1/scheduler";

/// A subscribed scheduler.
pub struct Scheduler {
    pub addr: SocketAddr,
    pub stream: Wire,
    pub stream_id: String,
    pub id: String,
    /// More headers for each call.
    pub headers: Vec<(String, String)>,
}

pub fn subscription(info: &Value) -> Ask {
    let mut call = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}});
    if let Some(id) = info.get("id") {
        call["framework_id"] = id.clone();
    }
    Ask::json(PATH, &call)
}

impl Scheduler {
    pub async fn subscribe(addr: SocketAddr, info: &Value) -> Self {
        Self::subscribe_with(addr, subscription(info)).await
    }

    pub async fn subscribe_with(addr: SocketAddr, call: Ask) -> Self {
        let mut stream = Wire::dial(addr).await;
        stream.send(&call).await;
        let head = stream.head().await;
        assert_eq!(head.status, 200);
        assert_eq!(head.header("content-type"), Some("application/json"));
        assert_eq!(head.header("transfer-encoding"), Some("chunked"));
        let stream_id = head
            .header("mesos-stream-id")
            .expect("a stream id")
            .to_owned();
        let mut scheduler = Self {
            addr,
            stream,
            stream_id,
            id: String::new(),
            headers: Vec::new(),
        };
        let first = scheduler.event().await.expect("SUBSCRIBED");
        assert_eq!(first["type"], "SUBSCRIBED", "{first}");
        scheduler.id = text(&first["subscribed"]["framework_id"]["value"]);
        assert_eq!(scheduler.event().await, Some(json!({"type": "HEARTBEAT"})));
        scheduler
    }

    /// The next event; `None` when the stream is over.
    pub async fn event(&mut self) -> Option<Value> {
        let record = self.stream.record().await?;
        Some(serde_json::from_slice(&record).expect("JSON"))
    }

    /// The next event of a type; what comes before it is passed over.
    pub async fn next(&mut self, kind: &str) -> Value {
        loop {
            let event = self.event().await.expect("an event");
            if event["type"] == kind {
                return event;
            }
        }
    }

    pub async fn offer(&mut self) -> Value {
        self.next("OFFERS").await["offers"]["offers"][0].clone()
    }

    /// A call with its parts.
    pub async fn call(&self, kind: &str, parts: &Value) -> Answer {
        let mut call = json!({"framework_id": {"value": self.id}, "type": kind});
        if !parts.is_null() {
            call[kind.to_ascii_lowercase()] = parts.clone();
        }
        let mut request = Ask::json(PATH, &call).header("Mesos-Stream-Id", &self.stream_id);
        request.headers.extend(self.headers.iter().cloned());
        ask(self.addr, &request).await
    }

    /// A call that is taken.
    pub async fn submit(&self, kind: &str, parts: &Value) {
        let answer = self.call(kind, parts).await;
        let told = (answer.status, answer.text(), answer.headers.as_slice());
        assert_eq!(told.0, 202, "{told:?}");
        let length = [("content-length".to_owned(), "0".to_owned())];
        assert_eq!((told.1, told.2), ("", &length[..]));
    }

    pub async fn launch(&self, offer: &Value, tasks: &[Value]) {
        let accept = json!({
            "offer_ids": [offer["id"]],
            "operations": [{"type": "LAUNCH", "launch": {"task_infos": tasks}}],
            "filters": {"refuse_seconds": 1.0},
        });
        self.submit("ACCEPT", &accept).await;
    }

    pub async fn acknowledge(&self, status: &Value) {
        let parts = json!({
            "agent_id": status["agent_id"],
            "task_id": status["task_id"],
            "uuid": status["uuid"],
        });
        self.submit("ACKNOWLEDGE", &parts).await;
    }
}

pub fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

pub fn task(id: &str, offer: &Value) -> Value {
    json!({
        "name": id,
        "task_id": {"value": id},
        "agent_id": offer["agent_id"],
        "resources": [
            {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
            {"name": "mem", "type": "SCALAR", "scalar": {"value": 32.0}},
        ],
        "command": {"value": "true"},
    })
}
