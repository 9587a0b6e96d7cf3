//! The same asked of this master as was asked of Mesos.

use mezzo_model::attributes::Attributes;
use mezzo_model::resources::Resources;
use mezzo_wire::link::agent_message::Body as FromAgent;
use mezzo_wire::{link, v1};
use serde_json::{Value, json};

use crate::client::{Ask, Wire, ask};
use crate::recorded::{Differences, Exchange, exchanges};
use crate::rig::{Agent, Master, hello};
use crate::scheduler::{Scheduler, task, text};
use crate::{report, status};

/// Asks, and reads as much as was recorded.
async fn replay(master: &Master, exchange: &Exchange, found: &mut Differences) -> Wire {
    let mut wire = Wire::dial(master.running.addr).await;
    let recorded = exchange.answer["records"].as_array();
    let Some(recorded) = recorded else {
        let answer = wire.ask(&exchange.ask).await;
        found.compare(exchange, &answer);
        return wire;
    };
    wire.send(&exchange.ask).await;
    let head = wire.head().await;
    let ended = exchange.answer["ended"] == true;
    let mut records: Vec<Value> = Vec::new();
    while head.header("transfer-encoding").is_some() && (ended || records.len() < recorded.len()) {
        let Some(record) = wire.record().await else {
            break;
        };
        records.push(serde_json::from_slice(&record).expect("JSON"));
    }
    found.compare_stream(exchange, &head, &records, wire.ended);
    wire
}

async fn replay_all(master: &Master, lines: &str) {
    let mut found = Differences::default();
    for exchange in exchanges(lines) {
        replay(master, &exchange, &mut found).await;
    }
    found.settle();
}

#[tokio::test]
async fn strangers() {
    let dir = tempfile::tempdir().expect("a directory");
    let master = Master::leading(dir.path(), &[]).await;
    replay_all(&master, include_str!("recorded/scheduler.jsonl")).await;
    master.end().await;
}

#[tokio::test]
async fn operators_and_pages() {
    let dir = tempfile::tempdir().expect("a directory");
    let master = Master::leading(dir.path(), &[]).await;
    replay_all(&master, include_str!("recorded/operator.jsonl")).await;
    replay_all(&master, include_str!("recorded/pages.jsonl")).await;
    master.end().await;
}

#[tokio::test]
async fn weights() {
    let dir = tempfile::tempdir().expect("a directory");
    let master = Master::leading(dir.path(), &["--weights=eng=3"]).await;
    replay_all(&master, include_str!("recorded/weighted.jsonl")).await;
    master.end().await;
}

#[tokio::test]
async fn a_master_that_does_not_lead() {
    let dir = tempfile::tempdir().expect("a directory");
    let leader = Master::leading(dir.path(), &[]).await;
    let standby = Master::leading(dir.path(), &[]).await;
    let location = ask(standby.running.addr, &Ask::get("/state")).await;
    let there = format!("//{}/master/state", leader.running.addr);
    assert_eq!(location.header("location"), Some(there.as_str()));
    replay_all(&standby, include_str!("recorded/standby.jsonl")).await;
    standby.end().await;
    leader.end().await;
}

#[tokio::test]
async fn guarded() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("credentials");
    std::fs::write(&file, "p s\n").expect("writes");
    let flag = format!("--credentials={}", file.display());
    let master = Master::leading(dir.path(), &[&flag]).await;
    replay_all(&master, include_str!("recorded/guarded.jsonl")).await;
    master.end().await;
}

/// One framework, from its subscription to the time after its end. Ids of this run take the place of those of that one.
#[tokio::test]
async fn the_life_of_a_framework() {
    let dir = tempfile::tempdir().expect("a directory");
    let master = Master::leading(dir.path(), &[]).await;
    let mut found = Differences::default();
    let mut ours: Vec<(String, String)> = Vec::new();
    // Streams stay open until the end.
    let mut streams = Vec::new();
    for mut exchange in exchanges(include_str!("recorded/life.jsonl")) {
        let translate = |text: &str| {
            ours.iter().fold(text.to_owned(), |text, (theirs, ours)| {
                text.replace(theirs, ours)
            })
        };
        let body = String::from_utf8(exchange.ask.body).expect("text");
        exchange.ask.body = translate(&body).into_bytes();
        for (_, value) in &mut exchange.ask.headers {
            *value = translate(value);
        }
        let first = &exchange.answer["records"][0];
        if first["type"] != "SUBSCRIBED" {
            replay(&master, &exchange, &mut found).await;
            continue;
        }
        let mut wire = Wire::dial(master.running.addr).await;
        wire.send(&exchange.ask).await;
        let head = wire.head().await;
        let mut records: Vec<Value> = Vec::new();
        for _ in 0..2 {
            let record = wire.record().await.expect("a record");
            records.push(serde_json::from_slice(&record).expect("JSON"));
        }
        found.compare_stream(&exchange, &head, &records, false);
        let id = |event: &Value| text(&event["subscribed"]["framework_id"]["value"]);
        let headers = exchange.answer["headers"].as_array().expect("a list");
        let theirs = headers.iter().find(|pair| pair[0] == "Mesos-Stream-Id");
        let stream = head.header("mesos-stream-id").expect("an id").to_owned();
        ours.push((text(&theirs.expect("an id")[1]), stream));
        ours.push((id(first), id(&records[0])));
        streams.push(wire);
    }
    found.settle();
    master.end().await;
}

/// An agent as the recorded one was.
fn agent_info() -> link::Hello {
    let resources = "cpus:64;mem:65536;disk:100000;ports:[31000-32000]";
    link::Hello {
        agent: v1::AgentInfo {
            hostname: "127.0.0.1".into(),
            port: Some(5051),
            resources: Resources::parse(resources).expect("reads").to_wire(),
            attributes: Attributes::parse("rack:r1;level:3")
                .expect("reads")
                .to_wire(),
            ..Default::default()
        },
        ..hello("127.0.0.1")
    }
}

fn contained(agent: &Agent, task: &str, state: v1::TaskState) -> v1::TaskStatus {
    let address = v1::network_info::IpAddress {
        ip_address: Some("127.0.0.1".into()),
        ..Default::default()
    };
    v1::TaskStatus {
        container_status: Some(v1::ContainerStatus {
            container_id: Some("c".into()),
            network_infos: vec![v1::NetworkInfo {
                ip_addresses: vec![address],
                ..Default::default()
            }],
            executor_pid: Some(7),
            ..Default::default()
        }),
        ..status(agent, task, state)
    }
}

/// Tells a status, and waits until the framework has taken it.
async fn settle(agent: &mut Agent, scheduler: &mut Scheduler, status: v1::TaskStatus) {
    report(agent, &scheduler.id, status).await;
    let update = scheduler.next("UPDATE").await;
    scheduler.acknowledge(&update["update"]["status"]).await;
    agent.order().await;
}

/// An agent that came back, as the recorded one had.
async fn returned_agent(master: &Master) -> Agent {
    let first = Agent::dial(master, agent_info()).await;
    let mut again = agent_info();
    again.agent.id = Some(first.id.clone());
    again.connection = 2;
    let agent = Agent::dial(master, again).await;
    assert_eq!(agent.id, first.id);
    agent
}

fn labels() -> Value {
    json!({"labels": [{"key": "a", "value": "b"}]})
}

/// A framework that is gone: it came back once, ended one task and left another.
async fn past_framework(master: &Master, agent: &mut Agent) {
    let mut info = json!({"user": "root", "name": "golden-a", "failover_timeout": 30.0,
        "capabilities": [{"type": "PARTITION_AWARE"}]});
    let mut scheduler = Scheduler::subscribe(master.running.addr, &info).await;
    let offer = scheduler.offer().await;
    let mut healthy = task("t-health", &offer);
    healthy["kill_policy"] = json!({"grace_period": {"nanoseconds": 1}});
    healthy["labels"] = labels();
    healthy["health_check"] = json!({"type": "COMMAND", "command": {"value": "true"}});
    scheduler
        .launch(&offer, &[healthy, task("t-exit3", &offer)])
        .await;
    for _ in 0..2 {
        agent.order().await;
    }
    let told = v1::TaskStatus {
        healthy: Some(true),
        ..contained(agent, "t-health", v1::TaskState::TaskKilled)
    };
    settle(agent, &mut scheduler, told).await;
    info["id"] = json!({"value": scheduler.id});
    let mut scheduler = Scheduler::subscribe(master.running.addr, &info).await;
    agent.order().await;
    scheduler.submit("TEARDOWN", &json!(null)).await;
    while scheduler.event().await.is_some() {}
    agent.order().await;
}

/// One framework that is here, with a task that runs, one that is over and one that had an executor.
async fn populate(master: &Master) -> (Scheduler, Agent) {
    let mut agent = returned_agent(master).await;
    past_framework(master, &mut agent).await;
    let abilities = ["MULTI_ROLE", "PARTITION_AWARE", "RESERVATION_REFINEMENT"];
    let abilities = abilities.map(|ability| json!({"type": ability}));
    let info = json!({"user": "root", "name": "golden-ops", "failover_timeout": 10.0, "checkpoint": true,
        "roles": ["eng"], "principal": "golden-principal", "capabilities": abilities, "labels": labels()});
    let mut scheduler = Scheduler::subscribe(master.running.addr, &info).await;
    let offer = scheduler.offer().await;
    let mut lasting = task("lasting", &offer);
    lasting["labels"] = labels();
    lasting["discovery"] = json!({"visibility": "FRAMEWORK", "name": "svc",
        "ports": {"ports": [{"number": 80, "protocol": "tcp"}]}});
    let mut nested = task("g1", &offer);
    let resources = nested["resources"].clone();
    nested.as_object_mut().expect("an object").remove("command");
    nested["executor"] = json!({"executor_id": {"value": "dex"}, "command": {"value": "true"},
        "resources": resources});
    scheduler
        .launch(&offer, &[lasting, nested, task("tv", &offer)])
        .await;
    for _ in 0..3 {
        agent.order().await;
    }
    let running = contained(&agent, "lasting", v1::TaskState::TaskRunning);
    settle(&mut agent, &mut scheduler, running).await;
    let over = contained(&agent, "tv", v1::TaskState::TaskFinished);
    settle(&mut agent, &mut scheduler, over).await;
    let mut failed = v1::TaskStatus {
        message: Some("said".into()),
        reason: Some(v1::task_status::Reason::ExecutorTerminated as i32),
        ..contained(&agent, "g1", v1::TaskState::TaskFailed)
    };
    failed.container_status.as_mut().expect("set").container_id = Some(v1::ContainerId {
        parent: Some(Box::new("p".into())),
        ..v1::ContainerId::from("c")
    });
    settle(&mut agent, &mut scheduler, failed).await;
    let exited = link::ExecutorExited {
        framework_id: scheduler.id.as_str().into(),
        executor_id: "dex".into(),
        status: 0,
    };
    agent.say(FromAgent::ExecutorExited(exited)).await;
    scheduler.next("FAILURE").await;
    // What is left is offered again.
    scheduler.submit("REVIVE", &json!(null)).await;
    scheduler.offer().await;
    (scheduler, agent)
}

#[tokio::test]
async fn long_pages() {
    let dir = tempfile::tempdir().expect("a directory");
    let master = Master::leading(dir.path(), &["--weights=eng=3"]).await;
    let (scheduler, _agent) = populate(&master).await;
    let addr = master.running.addr;
    let named = format!("/frameworks?framework_id={}", scheduler.id);
    let mut found = Differences::default();
    for (name, page) in [
        ("master-get-state", "/state"),
        ("master-get-state-summary", "/state-summary"),
        ("master-get-slaves-one", "/slaves"),
        ("master-get-frameworks-one", &named),
        ("master-get-tasks-limit", "/tasks?limit=1&task_id=tv"),
    ] {
        let answer = ask(addr, &Ask::get(page)).await;
        found.compare_shape(name, answer.text());
    }
    for (name, kind) in [
        ("operator-get-state", "GET_STATE"),
        ("operator-get-frameworks", "GET_FRAMEWORKS"),
        ("operator-get-tasks", "GET_TASKS"),
        ("operator-get-roles-after", "GET_ROLES"),
    ] {
        let answer = ask(addr, &Ask::json("/api/v1", &json!({"type": kind}))).await;
        found.compare_shape(name, answer.text());
    }
    found.settle();
    master.end().await;
}

/// What the master itself says of tasks: offers of this run take the place of those of that one.
#[tokio::test]
async fn words_of_the_master() {
    let dir = tempfile::tempdir().expect("a directory");
    let master = Master::leading(dir.path(), &[]).await;
    let mut agent = Agent::dial(&master, agent_info()).await;
    let mut found = Differences::default();
    for partition_aware in [true, false] {
        let abilities = if partition_aware {
            json!([{"type": "PARTITION_AWARE"}])
        } else {
            json!([])
        };
        let info = json!({"user": "root", "name": "a", "capabilities": abilities});
        let mut scheduler = Scheduler::subscribe(master.running.addr, &info).await;
        if partition_aware {
            let offer = scheduler.offer().await;
            scheduler.launch(&offer, &[task("t-long", &offer)]).await;
            agent.order().await;
            let mut running = contained(&agent, "t-long", v1::TaskState::TaskRunning);
            let container = running.container_status.as_mut().expect("set");
            container.executor_pid = Some(29059);
            container.container_id = Some("d2787c92-6ca1-443c-9084-ad994cd649c5".into());
            settle(&mut agent, &mut scheduler, running).await;
        }
        words_for(partition_aware, &mut scheduler, &agent, &mut found).await;
    }
    found.settle();
    master.end().await;
}

async fn words_for(
    partition_aware: bool,
    scheduler: &mut Scheduler,
    agent: &Agent,
    found: &mut Differences,
) {
    for line in include_str!("recorded/updates.jsonl").lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        if line["partition_aware"] != partition_aware {
            continue;
        }
        let name = text(&line["name"]);
        let kind = text(&line["call"]["type"]);
        let mut parts = line["call"][kind.to_ascii_lowercase()].clone();
        let is_stale = ["stale", "bool"].iter().any(|word| name.contains(word));
        if kind == "ACCEPT" && !is_stale {
            scheduler.submit("REVIVE", &json!(null)).await;
            parts["offer_ids"] = json!([scheduler.offer().await["id"]]);
        }
        if let Some(tasks) = parts.pointer_mut("/operations/0/launch/task_infos") {
            for task in tasks.as_array_mut().expect("a list") {
                task["agent_id"] = json!({"value": agent.id.value});
            }
        }
        for task in parts["tasks"].as_array_mut().into_iter().flatten() {
            if task.get("agent_id").is_some() {
                task["agent_id"] = json!({"value": agent.id.value});
            }
        }
        scheduler.submit(&kind, &parts).await;
        for recorded in line["updates"].as_array().expect("a list") {
            let ours = scheduler.next("UPDATE").await["update"]["status"].clone();
            let place = format!("update({})", text(&recorded["task_id"]["value"]));
            found.compare_value(&name, &place, recorded, &ours);
        }
    }
}

#[tokio::test]
async fn offers() {
    let dir = tempfile::tempdir().expect("a directory");
    let master = Master::leading(dir.path(), &[]).await;
    let _agent = Agent::dial(&master, agent_info()).await;
    let mut found = Differences::default();
    for line in include_str!("recorded/offers.jsonl").lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let mut scheduler =
            Scheduler::subscribe(master.running.addr, &line["framework_info"]).await;
        let ours = scheduler.next("OFFERS").await;
        found.compare_value(&text(&line["name"]), "event", &line["event"], &ours);
        scheduler.submit("TEARDOWN", &json!(null)).await;
    }
    found.settle();
    master.end().await;
}

#[test]
#[should_panic(expected = "no longer so: [\n    \"auth-007-version-none body.build_date absent\"")]
fn a_line_that_no_longer_occurs_fails() {
    let mut found = Differences::default();
    found.compare_value("auth-007-version-none", "body", &json!({}), &json!({}));
    found.settle();
}

#[test]
#[should_panic(expected = "not listed: [\n    \"nowhere body.a.b differs\"")]
fn a_difference_that_is_not_listed_fails() {
    let mut found = Differences::default();
    let (recorded, ours) = (json!({"a": {"b": 1}}), json!({"a": {"b": 2}}));
    found.compare_value("nowhere", "body", &recorded, &ours);
    found.settle();
}
