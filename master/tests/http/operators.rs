//! Operators' calls and the pages that older tools poll.

use clap::Parser as _;
use mezzo_door::Stop;
use mezzo_master::start;
use mezzo_wire::v1::master as operator;
use mezzo_wire::v1::master::call::Type;
use mezzo_wire::{decode_checked, encode};
use serde_json::{Value, json};

use crate::client::{Ask, ask};
use crate::rig::{Agent, Line, Master, hello, soon};
use crate::scheduler::{Scheduler, task};

fn call(kind: &str) -> Ask {
    let mut call = json!({"type": kind});
    if kind == "GET_METRICS" {
        call["get_metrics"] = json!({});
    }
    Ask::json("/api/v1", &call)
}

#[tokio::test]
async fn reads_are_answered_in_both_forms() {
    let dir = tempfile::tempdir().expect("a directory");
    let master = Master::leading(dir.path(), &["--weights=eng=2.5"]).await;
    let addr = master.running.addr;
    let mut scheduler = Scheduler::subscribe(addr, &json!({"user": "nobody", "name": "a"})).await;
    let _agent = Agent::dial(&master, hello("h1")).await;
    scheduler.offer().await;
    for kind in [
        Type::GetHealth,
        Type::GetFlags,
        Type::GetVersion,
        Type::GetMetrics,
        Type::GetLoggingLevel,
        Type::GetState,
        Type::GetAgents,
        Type::GetFrameworks,
        Type::GetExecutors,
        Type::GetOperations,
        Type::GetTasks,
        Type::GetRoles,
        Type::GetWeights,
        Type::GetMaster,
    ] {
        let name = kind.as_str_name();
        let answer = ask(addr, &call(name)).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let shown = answer.json();
        assert_eq!(shown["type"], name);
        assert!(shown[name.to_ascii_lowercase()].is_object(), "{shown}");
        let binary = encode(&operator::Call {
            r#type: Some(kind as i32),
            get_metrics: (kind == Type::GetMetrics).then(Default::default),
            ..Default::default()
        });
        let answer = ask(addr, &Ask::protobuf("/api/v1", binary.clone())).await;
        assert_eq!(
            answer.header("content-type"),
            Some("application/x-protobuf")
        );
        let response: operator::Response =
            decode_checked(bytes::Bytes::from(answer.body)).expect("a response");
        assert_eq!(response.r#type().as_str_name(), name);
        // gRPC tells the same.
        let told = master.read(kind).await;
        if kind != Type::GetMetrics {
            assert_eq!(told.expect("reads"), response, "{name}");
        }
    }
    let roles = ask(addr, &call("GET_ROLES")).await.json();
    let roles = roles["get_roles"]["roles"]
        .as_array()
        .expect("roles")
        .clone();
    assert_eq!(roles[0]["name"], "*");
    assert_eq!(roles[0]["frameworks"][0]["value"], scheduler.id.as_str());
    assert_eq!(roles[0]["resources"][0]["scalar"]["value"], 4.0);
    assert_eq!(roles[1], json!({"name": "eng", "weight": 2.5}));
    let metrics = ask(addr, &call("GET_METRICS")).await.json();
    let metrics = metrics["get_metrics"]["metrics"]
        .as_array()
        .expect("metrics")
        .clone();
    let of = |name: &str| {
        let metric = metrics.iter().find(|metric| metric["name"] == name);
        metric.unwrap_or_else(|| panic!("no {name}"))["value"].clone()
    };
    assert_eq!(of("master/cpus_total"), 4.0);
    assert_eq!(of("master/slaves_active"), 1.0);
    assert_eq!(
        of("allocator/mesos/resources/cpus/offered_or_allocated"),
        4.0
    );
    master.end().await;
}

#[tokio::test]
async fn calls_that_are_not_served_are_refused_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let master = Master::leading(dir.path(), &[]).await;
    let addr = master.running.addr;
    for (body, status, words) in [
        (
            json!({"type": "SUBSCRIBE"}),
            501,
            "the stream of events for operators",
        ),
        (
            json!({"type": "UNKNOWN"}),
            501,
            "Received a call of type UNKNOWN",
        ),
        (
            json!({"type": "UPDATE_WEIGHTS"}),
            400,
            "Failed to validate master::Call: Expecting 'update_weights' to be present",
        ),
        (
            json!({"type": "UPDATE_WEIGHTS", "update_weights": {"weight_infos": [{"weight": 1.0, "role": "a"}]}}),
            501,
            "UPDATE_WEIGHTS is not supported",
        ),
        (
            json!({"type": "GET_QUOTA"}),
            501,
            "GET_QUOTA is not supported",
        ),
        (
            json!({"type": "MARK_AGENT_GONE"}),
            400,
            "Expecting 'mark_agent_gone' to be present",
        ),
    ] {
        let answer = ask(addr, &Ask::json("/api/v1", &body)).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
        assert!(answer.text().contains(words), "{}", answer.text());
    }
    master.end().await;
}

#[tokio::test]
async fn frameworks_are_torn_down_in_both_ways() {
    let dir = tempfile::tempdir().expect("a directory");
    let master = Master::leading(dir.path(), &[]).await;
    let addr = master.running.addr;
    let info = json!({"user": "nobody", "name": "a", "failover_timeout": 60.0});
    for way in 0..2 {
        let mut scheduler = Scheduler::subscribe(addr, &info).await;
        let request = if way == 0 {
            let id = json!({"framework_id": {"value": scheduler.id}});
            Ask::json("/api/v1", &json!({"type": "TEARDOWN", "teardown": id}))
        } else {
            Ask {
                body: format!("frameworkId={}", scheduler.id).into_bytes(),
                ..Ask::new("POST", "/master/teardown")
            }
        };
        let answer = ask(addr, &request).await;
        assert_eq!((answer.status, answer.text()), (200, ""));
        while scheduler.event().await.is_some() {}
        assert!(scheduler.stream.ended);
        let answer = ask(addr, &request).await;
        assert_eq!(answer.status, 400);
        assert_eq!(answer.text(), "No framework found with specified ID");
    }
    let shown = ask(addr, &call("GET_FRAMEWORKS")).await.json();
    let gone = shown["get_frameworks"]["completed_frameworks"].as_array();
    assert_eq!(gone.map(Vec::len), Some(2));
    master.end().await;
}

#[tokio::test]
async fn pages_lie_where_tools_look_for_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let master = Master::leading(dir.path(), &["--cluster=c1"]).await;
    let addr = master.running.addr;
    let info = json!({"user": "nobody", "name": "a", "failover_timeout": 60.0});
    let mut scheduler = Scheduler::subscribe(addr, &info).await;
    let agent = Agent::dial(&master, hello("h1")).await;
    let offer = scheduler.offer().await;
    let tasks: Vec<Value> = ["t1", "t2", "t3"].map(|id| task(id, &offer)).to_vec();
    scheduler.launch(&offer, &tasks).await;
    for page in [
        "version",
        "state",
        "state-summary",
        "slaves",
        "frameworks",
        "tasks",
        "roles",
        "weights",
        "flags",
        "metrics/snapshot",
    ] {
        let mut bodies = Vec::new();
        for target in [
            format!("/{page}"),
            format!("/master/{page}"),
            format!("/{page}.json"),
            format!("/master/{page}.json"),
            format!("/{page}/below/it"),
        ] {
            let answer = ask(addr, &Ask::get(&target)).await;
            assert_eq!(answer.status, 200, "{target}");
            assert_eq!(answer.header("content-type"), Some("application/json"));
            answer.json();
            bodies.push(answer.body);
        }
        if page != "metrics/snapshot" {
            bodies.dedup();
            assert_eq!(bodies.len(), 1, "{page}");
        }
    }
    let get = async |target: &str| ask(addr, &Ask::get(target)).await.json();
    assert_eq!(get("/state").await["cluster"], "c1");
    let count = |page: &Value, list: &str| page[list].as_array().map(Vec::len);
    assert_eq!(count(&get("/tasks?limit=2").await, "tasks"), Some(2));
    assert_eq!(count(&get("/tasks?task_id=t3").await, "tasks"), Some(1));
    let named = format!("/frameworks?framework_id={}", scheduler.id);
    assert_eq!(count(&get(&named).await, "frameworks"), Some(1));
    assert_eq!(
        count(&get("/frameworks?framework_id=x").await, "frameworks"),
        Some(0)
    );
    let named = format!("/slaves?slave_id={}", agent.id.value);
    assert_eq!(count(&get(&named).await, "slaves"), Some(1));
    assert_eq!(count(&get("/slaves?slave_id=x").await, "slaves"), Some(0));
    let summary = get("/state-summary").await;
    assert_eq!(summary["slaves"][0]["TASK_STAGING"], 3);
    assert_eq!(
        summary["frameworks"][0]["slave_ids"][0],
        agent.id.value.as_str()
    );
    let roles = get("/roles").await;
    assert_eq!(
        roles["roles"][0]["allocated"],
        json!({"cpus": 0.3, "mem": 96.0})
    );
    let script = ask(addr, &Ask::get("/weights?jsonp=cb")).await;
    assert_eq!(script.header("content-type"), Some("text/javascript"));
    assert_eq!(script.text(), "cb([])");
    assert_eq!(ask(addr, &Ask::get("/weights?jsonp=a(b")).await.status, 400);
    for (method, target) in [
        ("GET", "/quota"),
        ("POST", "/master/reserve"),
        ("POST", "/machine/down"),
        ("GET", "/maintenance/status.json"),
        ("PUT", "/weights"),
    ] {
        let answer = ask(addr, &Ask::new(method, target)).await;
        assert_eq!(answer.status, 501, "{target}");
        assert!(
            answer.text().contains("by this version of the master"),
            "{}",
            answer.text()
        );
    }
    for lost in ["/", "/redirect/x", "/nothing", "/master"] {
        let answer = ask(addr, &Ask::get(lost)).await;
        assert_eq!(
            (answer.status, answer.text()),
            (404, "404 Not Found."),
            "{lost}"
        );
    }
    master.end().await;
}

#[tokio::test]
async fn long_bodies_may_be_packed_both_ways() {
    let dir = tempfile::tempdir().expect("a directory");
    let master = Master::leading(dir.path(), &[]).await;
    let addr = master.running.addr;
    let plain = ask(addr, &Ask::get("/state")).await;
    assert!(plain.body.len() > 1024 && plain.header("content-encoding").is_none());
    for wanted in ["gzip", "deflate, GZIP;q=0.5", "*"] {
        let packed = ask(addr, &Ask::get("/state").header("Accept-Encoding", wanted)).await;
        assert_eq!(packed.header("content-encoding"), Some("gzip"), "{wanted}");
        assert_eq!(packed.header("content-type"), Some("application/json"));
        let mut unpacked = Vec::new();
        std::io::Read::read_to_end(
            &mut flate2::read::GzDecoder::new(&*packed.body),
            &mut unpacked,
        )
        .expect("unpacks");
        assert_eq!(unpacked, plain.body);
    }
    for (target, wanted) in [
        ("/state", "gzip;q=0"),
        ("/state", "br"),
        ("/weights", "gzip"),
    ] {
        let answer = ask(addr, &Ask::get(target).header("Accept-Encoding", wanted)).await;
        assert_eq!(
            (answer.status, answer.header("content-encoding")),
            (200, None),
            "{wanted}"
        );
    }
    let stream = crate::scheduler::subscription(&json!({"user": "nobody", "name": "a"}))
        .header("Accept-Encoding", "gzip");
    Scheduler::subscribe_with(addr, stream).await;
    let pack = |plain: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, plain).expect("packs");
        encoder.finish().expect("packs")
    };
    for (body, status, words) in [
        (pack(b"{\"type\":\"GET_HEALTH\"}"), 200, "healthy"),
        (pack(&vec![b' '; 17 << 20]), 413, "longer than the limit"),
        (b"not packed".to_vec(), 400, "Failed to unpack the body"),
        (pack(b"{}")[..8].to_vec(), 400, "Failed to unpack the body"),
    ] {
        let call = Ask {
            body,
            ..call("GET_HEALTH").header("Content-Encoding", "gzip")
        };
        let answer = ask(addr, &call).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.text().contains(words), "{}", answer.text());
    }
    master.end().await;
}

#[tokio::test]
async fn while_nobody_leads_everybody_is_told_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let work_dir = format!("--work_dir={}", dir.path().display());
    // Nothing listens there, and the election is waited for.
    let words = [
        "master",
        "--port=0",
        "--zk=zk://127.0.0.1:9/mezzo",
        &work_dir,
    ];
    let flags = Line::try_parse_from(words).expect("parses").flags;
    let stop = Stop::new();
    let running = start(flags, stop.clone()).await.expect("starts");
    for target in [
        "/state",
        "/api/v1",
        "/api/v1/scheduler",
        "/redirect",
        "/quota",
        "/teardown",
    ] {
        let answer = ask(running.addr, &Ask::get(target)).await;
        assert_eq!(
            (answer.status, answer.text()),
            (503, "No leader elected"),
            "{target}"
        );
    }
    for (target, status) in [
        ("/version", 200),
        ("/flags", 200),
        ("/metrics/snapshot", 200),
        ("/health", 503),
        ("/master/health", 503),
    ] {
        assert_eq!(
            ask(running.addr, &Ask::get(target)).await.status,
            status,
            "{target}"
        );
    }
    stop.stop();
    soon(running.ended()).await;
}
