//! A real master on a loopback port, spoken to over HTTP/1.1 as schedulers, operators and old tools do; where the same
//! was asked of Mesos, the answers are compared with what it answered.

#[path = "http/client.rs"]
mod client;
#[path = "http/conformance.rs"]
mod conformance;
#[path = "http/operators.rs"]
mod operators;
#[path = "http/recorded.rs"]
mod recorded;
#[path = "grpc/rig.rs"]
#[allow(dead_code)] // the rig's scheduler speaks gRPC; here only its master and its agent are asked
mod rig;
#[path = "http/scheduler.rs"]
mod scheduler;
#[path = "http/shapes.rs"]
mod shapes;

use client::{Ask, Wire, ask};
use mezzo_wire::link::agent_message::Body as FromAgent;
use mezzo_wire::link::master_message::Body as Order;
use mezzo_wire::v1::scheduler::{Call, Event, call, event};
use mezzo_wire::{decode_checked, encode, link, v1};
use rig::{Agent, Master, hello, soon};
use scheduler::{PATH, Scheduler, subscription, task, text};
use serde_json::json;

/// A status as an agent tells it.
pub async fn report(agent: &Agent, framework: &str, status: v1::TaskStatus) {
    let latest_state = status.state;
    agent
        .say(FromAgent::Update(link::StatusUpdate {
            framework_id: framework.into(),
            status,
            latest_state,
        }))
        .await;
}

/// A status that an executor made.
pub fn status(agent: &Agent, task: &str, state: v1::TaskState) -> v1::TaskStatus {
    v1::TaskStatus {
        task_id: task.into(),
        state: state as i32,
        source: Some(v1::task_status::Source::Executor as i32),
        agent_id: Some(agent.id.clone()),
        executor_id: Some(task.into()),
        timestamp: Some(1_795_199_614.25),
        uuid: Some(bytes::Bytes::from_static(b"0123456789abcdef")),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_task_goes_the_whole_way_and_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let master = Master::leading(dir.path(), &[]).await;
    let addr = master.running.addr;
    let info = json!({"user": "nobody", "name": "a", "failover_timeout": 60.0});
    let mut scheduler = Scheduler::subscribe(addr, &info).await;
    let mut agent = Agent::dial(&master, hello("h1")).await;
    let offer = scheduler.offer().await;
    assert_eq!(offer["resources"][0]["role"], "*", "{offer}");
    scheduler.launch(&offer, &[task("t1", &offer)]).await;
    assert!(matches!(agent.order().await, Order::RunTask(run) if run.task.task_id.value == "t1"));
    let running = status(&agent, "t1", v1::TaskState::TaskRunning);
    report(&agent, &scheduler.id, running).await;
    let update = scheduler.next("UPDATE").await;
    let told = &update["update"]["status"];
    assert_eq!(told["state"], "TASK_RUNNING");
    assert_eq!(told["uuid"], "MDEyMzQ1Njc4OWFiY2RlZg==");
    scheduler.acknowledge(told).await;
    assert!(matches!(agent.order().await, Order::Acknowledge(_)));
    let reconcile = json!({"tasks": [{"task_id": {"value": "nope"}}]});
    scheduler.submit("RECONCILE", &reconcile).await;
    let lost = scheduler.next("UPDATE").await;
    assert_eq!(lost["update"]["status"]["reason"], "REASON_RECONCILIATION");
    scheduler.submit("TEARDOWN", &json!(null)).await;
    while let Some(event) = scheduler.event().await {
        assert_ne!(event["type"], "ERROR");
    }
    assert!(scheduler.stream.ended, "the closing chunk came");
    assert!(matches!(agent.order().await, Order::ShutdownFramework(_)));
    master.end().await;
}

#[tokio::test]
async fn protobuf_does_the_same() {
    let dir = tempfile::tempdir().expect("a directory");
    let master = Master::leading(dir.path(), &[]).await;
    let addr = master.running.addr;
    let mut stream = Wire::dial(addr).await;
    let subscribe = rig::subscription(rig::info("a"));
    stream.send(&Ask::protobuf(PATH, encode(&subscribe))).await;
    let head = stream.head().await;
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-type"), Some("application/x-protobuf"));
    let stream_id = head.header("mesos-stream-id").expect("an id").to_owned();
    let mut events = Vec::new();
    for _ in 0..2 {
        let record = stream.record().await.expect("a record");
        let event: Event = decode_checked(bytes::Bytes::from(record)).expect("an event");
        events.push(event);
    }
    let id = events[0].subscribed.as_ref().expect("SUBSCRIBED");
    assert_eq!(events[1].r#type(), event::Type::Heartbeat);
    let revive = Call {
        framework_id: Some(id.framework_id.clone()),
        r#type: Some(call::Type::Revive as i32),
        ..Default::default()
    };
    // The kind of a call's body has nothing to do with the kind of the stream.
    let revive_json = json!({"framework_id": {"value": id.framework_id.value}, "type": "REVIVE"});
    for call in [
        Ask::protobuf(PATH, encode(&revive)),
        Ask::json(PATH, &revive_json),
    ] {
        let answer = ask(addr, &call.header("Mesos-Stream-Id", &stream_id)).await;
        assert_eq!((answer.status, answer.body.len()), (202, 0));
    }
    let answer = ask(addr, &Ask::protobuf(PATH, b"\x08".to_vec())).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.text(), "Failed to parse body into Call protobuf");
    let unknown = Ask::protobuf(
        PATH,
        encode(&Call {
            framework_id: Some("x".into()),
            r#type: Some(call::Type::Unknown as i32),
            ..Default::default()
        }),
    );
    assert_eq!(ask(addr, &unknown).await.status, 501);
    master.end().await;
}

#[tokio::test]
async fn the_newest_stream_wins() {
    let dir = tempfile::tempdir().expect("a directory");
    let master = Master::leading(dir.path(), &[]).await;
    let addr = master.running.addr;
    let info = json!({"user": "nobody", "name": "a", "failover_timeout": 60.0});
    let mut old = Scheduler::subscribe(addr, &info).await;
    let again =
        json!({"user": "nobody", "name": "a", "failover_timeout": 60.0, "id": {"value": old.id}});
    let new = Scheduler::subscribe(addr, &again).await;
    assert_eq!(new.id, old.id);
    assert_ne!(new.stream_id, old.stream_id);
    let last = old.event().await.expect("an event");
    assert_eq!(
        last,
        json!({"type": "ERROR", "error": {"message": "Framework failed over"}})
    );
    assert_eq!(old.event().await, None);
    assert!(old.stream.ended, "the closing chunk came");
    let refused = old.call("REVIVE", &json!(null)).await;
    assert_eq!(refused.status, 400);
    assert!(
        refused.text().starts_with("The stream ID"),
        "{}",
        refused.text()
    );
    new.submit("REVIVE", &json!(null)).await;
    // The connection of the old stream is still good for calls.
    let health = Ask::json("/api/v1", &json!({"type": "GET_HEALTH"}));
    assert_eq!(old.stream.ask(&health).await.status, 200);
    master.end().await;
}

#[tokio::test]
async fn a_scheduler_that_goes_away_gives_its_offers_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let master = Master::leading(dir.path(), &[]).await;
    let addr = master.running.addr;
    let info = |name: &str| json!({"user": "nobody", "name": name, "failover_timeout": 60.0});
    let mut first = Scheduler::subscribe(addr, &info("first")).await;
    let _agent = Agent::dial(&master, hello("h1")).await;
    let offer = first.offer().await;
    let mut second = Scheduler::subscribe(addr, &info("second")).await;
    let stream_id = first.stream_id.clone();
    drop(first.stream);
    let again = second.offer().await;
    assert_eq!(again["agent_id"], offer["agent_id"]);
    let call = json!({"framework_id": {"value": first.id}, "type": "REVIVE"});
    let call = Ask::json(PATH, &call).header("Mesos-Stream-Id", &stream_id);
    let refused = ask(addr, &call).await;
    assert_eq!(
        (refused.status, refused.text()),
        (403, "Framework is not subscribed")
    );
    master.end().await;
}

#[tokio::test]
async fn hostile_bodies_are_refused_in_words() {
    let dir = tempfile::tempdir().expect("a directory");
    let master = Master::leading(dir.path(), &[]).await;
    let addr = master.running.addr;
    let json_of = |body: Vec<u8>| Ask {
        body,
        ..Ask::json(PATH, &json!(null))
    };
    for (call, status, words) in [
        (
            json_of(vec![b' '; (16 << 20) + 1]),
            413,
            "longer than the limit",
        ),
        (json_of(vec![b'['; 100_000]), 400, "syntax error at line 1"),
        (
            json_of(b"{\"type\":\"\xff\"}".to_vec()),
            400,
            "is not UTF-8",
        ),
        (
            json_of([b"{\"a\":[".as_slice(), &b"0,".repeat(1 << 20), b"0]}"].concat()),
            400,
            "more than 1048576 values",
        ),
        (
            Ask::protobuf(PATH, b"\x1a\x02\x0a".to_vec()),
            400,
            "Failed to parse body into Call protobuf",
        ),
        (
            Ask::protobuf(PATH, vec![0xff; 1 << 20]),
            400,
            "Failed to parse body into Call protobuf",
        ),
    ] {
        let answer = ask(addr, &call).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.text().contains(words), "{}", answer.text());
    }
    // Many that begin a long body and do not end it keep nobody from a short call.
    let mut begun = Vec::new();
    for _ in 0..40 {
        let mut wire = Wire::dial(addr).await;
        let begin = Ask::json(PATH, &json!(null)).header("Transfer-Encoding", "chunked");
        wire.begin(&begin).await;
        begun.push(wire);
    }
    let kept = Scheduler::subscribe(addr, &json!({"user": "nobody", "name": "a"})).await;
    kept.submit("REVIVE", &json!(null)).await;
    master.end().await;
}

#[tokio::test]
async fn who_does_not_read_is_cut_and_nobody_else_notices() {
    let dir = tempfile::tempdir().expect("a directory");
    let master = Master::leading(dir.path(), &[]).await;
    let addr = master.running.addr;
    let info = |name: &str| json!({"user": "nobody", "name": name, "failover_timeout": 60.0});
    let slow = Scheduler::subscribe(addr, &info("slow")).await;
    let mut other = Scheduler::subscribe(addr, &info("other")).await;
    let _agent = Agent::dial(&master, hello("h1")).await;
    // Each unknown task is answered by one event, which nobody takes out of the socket.
    let unknown = |index: u32| json!({"task_id": {"value": format!("t{index}")}});
    let tasks: Vec<_> = (0..10_000).map(unknown).collect();
    let ask_much = json!({"tasks": tasks});
    let mut calls = 0;
    let refused = loop {
        let answer = slow.call("RECONCILE", &ask_much).await;
        if answer.status != 202 {
            break answer;
        }
        calls += 1;
        assert!(calls < 100, "it is never cut");
    };
    assert_eq!(
        (refused.status, refused.text()),
        (403, "Framework is not subscribed")
    );
    other.offer().await;
    other.submit("REVIVE", &json!(null)).await;
    master.end().await;
}

#[tokio::test]
async fn drivers_of_the_first_api_are_told_what_to_use() {
    let dir = tempfile::tempdir().expect("a directory");
    let master = Master::leading(dir.path(), &[]).await;
    let message = Ask::new("POST", "/master/mesos.internal.RegisterFrameworkMessage")
        .header("Libprocess-From", "scheduler-1@127.0.0.1:4000");
    let answer = ask(master.running.addr, &message).await;
    assert_eq!(answer.status, 501);
    assert!(answer.text().contains("docs/differences-from-mesos.md"));
    master.end().await;
}

#[tokio::test]
async fn names_are_asked_for_at_the_door() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("credentials");
    std::fs::write(&file, "p s\nother t\n").expect("writes");
    let flag = format!("--credentials={}", file.display());
    let master = Master::leading(dir.path(), &[&flag]).await;
    let addr = master.running.addr;
    let (known, other) = ("Basic cDpz", "Basic b3RoZXI6dA==");
    for (target, realm) in [
        ("/state", "mesos-master-readonly"),
        ("/master/metrics/snapshot", "mesos-master-readonly"),
        ("/api/v1", "mesos-master-readwrite"),
        ("/teardown", "mesos-master-readwrite"),
        ("/api/v1/scheduler", "mesos-master-scheduler"),
        ("/metrics", "mesos-master-readonly"),
    ] {
        for wrong in [
            None,
            Some("Basic cDp4"),
            Some("Bearer x"),
            Some("Basic %%%"),
        ] {
            let mut request = Ask::get(target);
            if let Some(wrong) = wrong {
                request = request.header("Authorization", wrong);
            }
            let answer = ask(addr, &request).await;
            assert_eq!((answer.status, answer.text()), (401, "401 Unauthorized."));
            let challenge = format!("Basic realm=\"{realm}\"");
            assert_eq!(
                answer.header("www-authenticate"),
                Some(challenge.as_str()),
                "{target}"
            );
        }
    }
    // The principal is filled in, and nobody else may speak for the framework.
    let info = json!({"user": "nobody", "name": "a", "failover_timeout": 60.0});
    let call = subscription(&info).header("Authorization", known);
    let mut scheduler = Scheduler::subscribe_with(addr, call).await;
    scheduler.headers = vec![("Authorization".into(), known.into())];
    scheduler.submit("REVIVE", &json!(null)).await;
    scheduler.headers = vec![("Authorization".into(), other.into())];
    let refused = scheduler.call("REVIVE", &json!(null)).await;
    assert_eq!(refused.status, 400);
    assert!(
        refused
            .text()
            .contains("'other' does not match principal 'p'")
    );
    let info = json!({"user": "nobody", "name": "a", "principal": "p"});
    let refused = ask(addr, &subscription(&info).header("Authorization", other)).await;
    assert_eq!(refused.status, 400);
    assert!(
        refused.text().contains("Authenticated principal 'other'"),
        "{}",
        refused.text()
    );
    master.end().await;
}

#[tokio::test]
async fn an_update_of_a_framework_is_answered_when_it_is_done() {
    let dir = tempfile::tempdir().expect("a directory");
    let master = Master::leading(dir.path(), &[]).await;
    let info = json!({"user": "nobody", "name": "a", "failover_timeout": 60.0});
    let scheduler = Scheduler::subscribe(master.running.addr, &info).await;
    let update = json!({"framework_info": {
        "user": "nobody", "name": "a", "failover_timeout": 70.0, "id": {"value": scheduler.id},
        "webui_url": "http://x/",
    }});
    let answer = scheduler.call("UPDATE_FRAMEWORK", &update).await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    let call = Ask::json("/api/v1", &json!({"type": "GET_FRAMEWORKS"}));
    let shown = ask(master.running.addr, &call).await.json();
    let shown = &shown["get_frameworks"]["frameworks"][0]["framework_info"];
    assert_eq!(text(&shown["webui_url"]), "http://x/");
    soon(master.end()).await;
}
