//! A real master on a loopback port with the embedded store, spoken to over gRPC as schedulers, agents and
//! operators do.

#[path = "grpc/rig.rs"]
mod rig;

use clap::Parser as _;
use mezzo_door::Stop;
use mezzo_master::start;
use mezzo_wire::link::master_message::Body as Order;
use mezzo_wire::link::sandbox_client::SandboxClient;
use mezzo_wire::v1::master as operator;
use mezzo_wire::v1::master::operator_client::OperatorClient;
use mezzo_wire::v1::scheduler::scheduler_client::SchedulerClient;
use mezzo_wire::v1::scheduler::{Call, call};
use mezzo_wire::{grpc, link, v1};
use rig::{Agent, Line, Master, Scheduler, hello, info, soon, subscription, task};
use tonic::{Code, Request};

#[tokio::test]
async fn a_task_goes_the_whole_way_and_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let master = Master::leading(dir.path(), &[]).await;
    let mut scheduler = Scheduler::subscribe(&master, info("a")).await;
    let mut agent = Agent::dial(&master, hello("h1")).await;
    let offer = scheduler.offer().await;
    scheduler
        .launch(&offer, task("t1", &offer, "cpus:1;mem:32"))
        .await
        .expect("taken");
    assert!(matches!(agent.order().await, Order::RunTask(run) if run.task.task_id.value == "t1"));
    agent
        .report(&scheduler, "t1", v1::TaskState::TaskRunning)
        .await;
    let mut status = None;
    while status.is_none() {
        status = scheduler.next().await.update;
    }
    let status = status.expect("set").status;
    let acknowledge = call::Acknowledge {
        agent_id: agent.id.clone(),
        task_id: status.task_id,
        uuid: status.uuid.expect("a uuid"),
    };
    scheduler
        .submit(|call| {
            call.r#type = Some(call::Type::Acknowledge as i32);
            call.acknowledge = Some(acknowledge);
        })
        .await
        .expect("taken");
    assert!(matches!(agent.order().await, Order::Acknowledge(_)));
    let state = master
        .read(operator::call::Type::GetState)
        .await
        .expect("reads")
        .get_state
        .expect("set");
    let tasks = state.get_tasks.expect("tasks").tasks;
    assert_eq!(tasks[0].state, v1::TaskState::TaskRunning as i32);
    assert_eq!(state.get_agents.expect("agents").agents.len(), 1);
    assert_eq!(
        state.get_frameworks.expect("frameworks").frameworks[0]
            .framework_info
            .name,
        "a"
    );
    master.end().await;
}

#[tokio::test]
async fn reads_and_refusals_of_the_operators_door() {
    let dir = tempfile::tempdir().expect("a directory");
    let master = Master::leading(dir.path(), &[]).await;
    let read = |kind| master.read(kind);
    use operator::call::Type;
    assert!(
        read(Type::GetHealth)
            .await
            .expect("reads")
            .get_health
            .expect("set")
            .healthy
    );
    assert_eq!(
        read(Type::GetVersion)
            .await
            .expect("reads")
            .get_version
            .expect("set")
            .version_info
            .version,
        "1.11.0"
    );
    let told = read(Type::GetMaster)
        .await
        .expect("reads")
        .get_master
        .expect("set");
    assert_eq!(
        told.master_info.expect("set").port,
        u32::from(master.running.addr.port())
    );
    assert!(told.elected_time >= told.start_time);
    for kind in [
        Type::GetAgents,
        Type::GetFrameworks,
        Type::GetTasks,
        Type::GetExecutors,
        Type::GetOperations,
    ] {
        read(kind).await.expect("reads");
    }
    for (kind, code, words) in [
        (
            Type::Unknown,
            Code::InvalidArgument,
            "Expecting 'type' to be present",
        ),
        (
            Type::Teardown,
            Code::InvalidArgument,
            "Expecting 'teardown' to be present",
        ),
        (
            Type::UpdateWeights,
            Code::Unimplemented,
            "UPDATE_WEIGHTS is not supported",
        ),
        (
            Type::MarkAgentGone,
            Code::Unimplemented,
            "MARK_AGENT_GONE is not supported",
        ),
    ] {
        let refused = read(kind).await.expect_err(words);
        assert_eq!(refused.code(), code, "{refused}");
        assert!(refused.message().contains(words), "{refused}");
    }
    let mut scheduler = Scheduler::subscribe(&master, info("a")).await;
    let mut client = OperatorClient::new(master.channel.clone());
    let teardown = |id: v1::FrameworkId| operator::Call {
        r#type: Some(Type::Teardown as i32),
        teardown: Some(operator::call::Teardown { framework_id: id }),
        ..Default::default()
    };
    let refused = client
        .submit(teardown("nope".into()))
        .await
        .expect_err("unknown");
    assert_eq!(refused.message(), "No framework found with specified ID");
    client
        .submit(teardown(scheduler.id.clone()))
        .await
        .expect("taken");
    assert!(
        soon(scheduler.events.message())
            .await
            .expect("no error")
            .is_none(),
        "the stream just ends"
    );
    master.end().await;
}

/// What is wrong with a call, the status, and its words.
type Row = (fn(&mut Call), Code, &'static str);

const ROWS: &[Row] = &[
    (
        |c| c.r#type = None,
        Code::InvalidArgument,
        "Failed to validate scheduler::Call: Expecting 'type' to be present",
    ),
    (|c| c.r#type = Some(0), Code::Unimplemented, "UNKNOWN"),
    (
        |c| c.framework_id = None,
        Code::InvalidArgument,
        "Expecting 'framework_id' to be present",
    ),
    (
        |c| c.framework_id = Some("x".into()),
        Code::InvalidArgument,
        "Framework cannot be found",
    ),
    (
        |c| c.r#type = Some(call::Type::Accept as i32),
        Code::InvalidArgument,
        "Expecting 'accept' to be present",
    ),
    (
        |c| c.r#type = Some(call::Type::Decline as i32),
        Code::InvalidArgument,
        "Expecting 'decline' to be present",
    ),
    (
        |c| c.r#type = Some(call::Type::Kill as i32),
        Code::InvalidArgument,
        "Expecting 'kill' to be present",
    ),
    (
        |c| c.r#type = Some(call::Type::Shutdown as i32),
        Code::InvalidArgument,
        "Expecting 'shutdown' to be present",
    ),
    (
        |c| c.r#type = Some(call::Type::Acknowledge as i32),
        Code::InvalidArgument,
        "Expecting 'acknowledge' to be present",
    ),
    (
        |c| c.r#type = Some(call::Type::Reconcile as i32),
        Code::InvalidArgument,
        "Expecting 'reconcile' to be present",
    ),
    (
        |c| c.r#type = Some(call::Type::Message as i32),
        Code::InvalidArgument,
        "Expecting 'message' to be present",
    ),
    (
        |c| c.r#type = Some(call::Type::Request as i32),
        Code::InvalidArgument,
        "Expecting 'request' to be present",
    ),
    (
        |c| {
            c.r#type = Some(call::Type::Acknowledge as i32);
            c.acknowledge = Some(call::Acknowledge {
                agent_id: "a".into(),
                task_id: "t".into(),
                uuid: bytes::Bytes::from_static(b"abc"),
            });
        },
        Code::InvalidArgument,
        "Not a valid UUID",
    ),
    (
        |c| *c = subscription(info("b")),
        Code::InvalidArgument,
        "SUBSCRIBE opens a stream of its own",
    ),
    (
        |c| {
            c.r#type = Some(call::Type::UpdateFramework as i32);
            let mut changed = info("a");
            changed.id.clone_from(&c.framework_id);
            changed.user = "root".into();
            c.update_framework = Some(call::UpdateFramework {
                framework_info: changed,
                ..Default::default()
            });
        },
        Code::InvalidArgument,
        "Updating 'FrameworkInfo.user' is unsupported; attempted to update from 'nobody' to 'root'",
    ),
];

/// Afterwards the cluster still launches a task.
#[tokio::test]
async fn wrong_calls_are_refused_with_status_and_words() {
    let dir = tempfile::tempdir().expect("a directory");
    let master = Master::leading(dir.path(), &[]).await;
    let mut scheduler = Scheduler::subscribe(&master, info("a")).await;
    for (change, code, words) in ROWS {
        let refused = scheduler.submit(change).await.expect_err(words);
        assert_eq!(refused.code(), *code, "{words}: {refused}");
        assert!(
            refused.message().contains(words),
            "{refused} does not say {words}"
        );
    }
    // Without a stream id, with a wrong one, and with one where none belongs.
    let mut client = scheduler.client.clone();
    let plain = Call {
        framework_id: Some(scheduler.id.clone()),
        r#type: Some(call::Type::Revive as i32),
        ..Default::default()
    };
    let refused = client
        .submit(plain.clone())
        .await
        .expect_err("no stream id");
    assert!(
        refused
            .message()
            .contains("should include the 'Mesos-Stream-Id' header"),
        "{refused}"
    );
    let with = |id: &str, call: Call| {
        let mut request = Request::new(call);
        request
            .metadata_mut()
            .insert(grpc::STREAM_ID, id.parse().expect("ascii"));
        request
    };
    let refused = client
        .submit(with("other", plain))
        .await
        .expect_err("a wrong one");
    assert!(
        refused.message().contains("didn't match the stream ID"),
        "{refused}"
    );
    let refused = client
        .subscribe(with("x", subscription(info("b"))))
        .await
        .expect_err("none belongs");
    assert!(
        refused
            .message()
            .contains("should not include the 'Mesos-Stream-Id' header"),
        "{refused}"
    );
    // A message that lacks what is required does not reach the core.
    let broken = subscription(v1::FrameworkInfo {
        user: String::new(),
        ..info("c")
    });
    drop(broken);
    // A refused subscription is a stream of one ERROR.
    let mut bad = info("b");
    bad.role = Some("-bad".into());
    let mut events = client
        .subscribe(subscription(bad))
        .await
        .expect("opens")
        .into_inner();
    let error = soon(events.message())
        .await
        .expect("an event")
        .expect("an event")
        .error
        .expect("ERROR");
    assert!(
        error.message.contains("starts with a dash"),
        "{}",
        error.message
    );
    assert!(soon(events.message()).await.expect("no error").is_none());

    let mut agent = Agent::dial(&master, hello("h1")).await;
    let offer = scheduler.offer().await;
    scheduler
        .launch(&offer, task("t1", &offer, "cpus:1;mem:32"))
        .await
        .expect("taken");
    assert!(matches!(agent.order().await, Order::RunTask(_)));
    master.end().await;
}

#[tokio::test]
async fn a_newer_stream_ends_the_older_and_a_closed_one_frees_its_offers() {
    let dir = tempfile::tempdir().expect("a directory");
    let master = Master::leading(dir.path(), &[]).await;
    let mut first = Scheduler::subscribe(&master, info("a")).await;
    let _agent = Agent::dial(&master, hello("h1")).await;
    first.offer().await;
    let mut second = Scheduler::subscribe(&master, first.info.clone()).await;
    assert_eq!(
        first.next().await.error.expect("ERROR").message,
        "Framework failed over"
    );
    assert!(
        soon(first.events.message())
            .await
            .expect("no error")
            .is_none()
    );
    second.offer().await;
    let mut other = Scheduler::subscribe(&master, info("b")).await;
    drop(second);
    assert_eq!(other.offer().await.hostname, "h1");
    master.end().await;
}

#[tokio::test]
async fn a_standby_names_the_leader_and_takes_over_when_it_resigns() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = Master::leading(dir.path(), &[]).await;
    let second = Master::start(dir.path(), &[]).await;
    let mut agent = Agent::dial(&first, hello("h1")).await;
    soon(second.running.health.until_good()).await;
    let refused = second
        .read(operator::call::Type::GetHealth)
        .await
        .expect_err("does not lead");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(
        grpc::leader(&refused),
        Some(first.running.addr.to_string().as_str())
    );
    let mut client = SchedulerClient::new(second.channel.clone());
    let refused = client
        .subscribe(subscription(info("a")))
        .await
        .expect_err("does not lead");
    assert_eq!(
        grpc::leader(&refused),
        Some(first.running.addr.to_string().as_str())
    );

    let id = agent.id.clone();
    first.end().await;
    assert!(
        soon(agent.orders.message())
            .await
            .map_or(true, |order| order.is_none()),
        "the link is closed"
    );
    soon(second.running.until_leading()).await;
    // The registry outlived the first master: the agent is awaited, and comes back under its id.
    let awaited = second
        .read(operator::call::Type::GetAgents)
        .await
        .expect("reads")
        .get_agents
        .expect("set");
    assert_eq!(awaited.recovered_agents.len(), 1);
    let mut back = hello("h1");
    back.agent.id = Some(id.clone());
    back.connection = 2;
    assert_eq!(Agent::dial(&second, back).await.id, id);
    second.end().await;
}

#[tokio::test]
async fn agents_that_cannot_be_taken_are_told_why() {
    let dir = tempfile::tempdir().expect("a directory");
    let master = Master::leading(dir.path(), &[]).await;
    let mut newer = hello("h1");
    newer.link_version = 99;
    let mut agent = Agent::knock(&master, newer).await;
    match agent.order().await {
        Order::Refused(refused) => assert!(refused.reason.contains("version 99"), "{refused:?}"),
        other => panic!("{other:?}"),
    }
    assert!(
        soon(agent.orders.message())
            .await
            .expect("no error")
            .is_none(),
        "and the link is closed"
    );
    let mut stranger = hello("h1");
    stranger.highest_epoch = Some(link::Epoch {
        cluster_id: "elsewhere".into(),
        counter: 1,
    });
    let mut agent = Agent::knock(&master, stranger).await;
    assert!(
        matches!(agent.order().await, Order::Refused(refused) if refused.reason.contains("cluster elsewhere"))
    );
    master.end().await;
}

#[tokio::test]
async fn a_sandbox_is_read_through_the_master() {
    let dir = tempfile::tempdir().expect("a directory");
    let master = Master::leading(dir.path(), &[]).await;
    let mut scheduler = Scheduler::subscribe(&master, info("a")).await;
    let mut agent = Agent::dial(&master, hello("h1")).await;
    let offer = scheduler.offer().await;
    scheduler
        .launch(&offer, task("t1", &offer, "cpus:1;mem:32"))
        .await
        .expect("taken");
    agent.order().await;
    let mut client = SandboxClient::new(master.channel.clone());
    let read = |task: &str| link::ReadSandbox {
        task_id: task.into(),
        path: "stdout".into(),
        ..Default::default()
    };
    let mut unknown = client.read(read("zzz")).await.expect("opens").into_inner();
    let chunk = soon(unknown.message())
        .await
        .expect("a chunk")
        .expect("a chunk");
    assert!(chunk.error.expect("an error").contains("no task 'zzz'"));

    // More than one window, in pieces.
    let content: Vec<u8> = (0..3_000_000_u32)
        .map(|byte| byte.to_le_bytes()[0])
        .collect();
    let mut chunks = client.read(read("t1")).await.expect("opens").into_inner();
    let reader = tokio::spawn(async move {
        let mut got = Vec::new();
        while let Some(chunk) = chunks.message().await.expect("a chunk") {
            got.extend_from_slice(&chunk.data.unwrap_or_default());
            if chunk.end.unwrap_or(false) {
                break;
            }
        }
        got
    });
    let served = content.clone();
    let server = tokio::spawn(async move {
        loop {
            if let Order::ReadSandbox(read) = agent.order().await {
                agent.serve(&read, &served).await;
            }
        }
    });
    let got = soon(reader).await.expect("no panic");
    assert!(got == content, "{} of {} bytes", got.len(), content.len());
    server.abort();
    master.end().await;
}

#[tokio::test]
async fn credentials_close_the_door() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("credentials");
    std::fs::write(&file, "ann secret\n").expect("writes");
    let flag = format!("--credentials={}", file.display());
    let master = Master::leading(dir.path(), &[&flag]).await;
    let refused = master
        .read(operator::call::Type::GetHealth)
        .await
        .expect_err("a stranger");
    assert_eq!(refused.code(), Code::Unauthenticated);
    let mut client = SchedulerClient::new(master.channel.clone());
    let mut request = Request::new(subscription(info("a")));
    let header = mezzo_model::credentials::basic_header("ann", "secret");
    request
        .metadata_mut()
        .insert("authorization", header.parse().expect("ascii"));
    let mut events = client
        .subscribe(request)
        .await
        .expect("a friend")
        .into_inner();
    assert!(
        soon(events.message())
            .await
            .expect("an event")
            .expect("an event")
            .subscribed
            .is_some()
    );
    let mut request = Request::new(subscription(v1::FrameworkInfo {
        principal: Some("bob".into()),
        ..info("b")
    }));
    request
        .metadata_mut()
        .insert("authorization", header.parse().expect("ascii"));
    let refused = client.subscribe(request).await.expect_err("another's name");
    assert!(
        refused
            .message()
            .contains("'ann' does not match principal 'bob'"),
        "{refused}"
    );
    master.end().await;
}

#[tokio::test]
async fn a_port_beyond_loopback_needs_credentials_and_a_taken_one_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let flags = |more: &str| {
        let work_dir = format!("--work_dir={}", dir.path().display());
        Line::try_parse_from(["master", "--port=0", &work_dir, more])
            .expect("parses")
            .flags
    };
    let refused = start(flags("--ip=0.0.0.0"), Stop::new())
        .await
        .expect_err("open to the world");
    assert!(refused.to_string().contains("--credentials"), "{refused}");
    let refused = start(flags("--zk=zk://"), Stop::new())
        .await
        .expect_err("no target");
    assert!(refused.to_string().starts_with("--zk: "), "{refused}");
    let refused = start(flags("--zk=127.0.0.1:5050"), Stop::new())
        .await
        .expect_err("not an election");
    assert!(refused.to_string().contains("fixed leader"), "{refused}");
    let refused = start(flags("--credentials=/does/not/exist"), Stop::new())
        .await
        .expect_err("no file");
    assert!(refused.to_string().contains("/does/not/exist"), "{refused}");
}

#[tokio::test]
async fn metrics_and_health_are_served() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let dir = tempfile::tempdir().expect("a directory");
    let master = Master::leading(dir.path(), &[]).await;
    let ask = async |path: &str| {
        let mut stream = tokio::net::TcpStream::connect(master.running.addr)
            .await
            .expect("connects");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("writes");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("reads");
        answer
    };
    assert!(soon(ask("/health")).await.starts_with("HTTP/1.1 200"));
    let metrics = soon(ask("/metrics")).await;
    assert!(metrics.contains("mezzo_master_elected 1"), "{metrics}");
    assert!(
        metrics.contains("mezzo_master_offers_made_total 0"),
        "{metrics}"
    );
    master.end().await;
}

#[tokio::test]
async fn a_master_restarted_on_its_directory_leads_a_later_epoch_of_the_same_cluster() {
    let dir = tempfile::tempdir().expect("a directory");
    let epoch = async || {
        let master = Master::leading(dir.path(), &[]).await;
        let mut agent = Agent::knock(&master, hello("h1")).await;
        let message = soon(agent.orders.message())
            .await
            .expect("an order")
            .expect("an order");
        master.end().await;
        message.epoch
    };
    let (first, second) = (epoch().await, epoch().await);
    assert_eq!(first.cluster_id, second.cluster_id);
    assert!(second.counter > first.counter);
}
