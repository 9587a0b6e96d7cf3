//! The driver over gRPC against a master that does what the test says, and against servers that talk nonsense.

#[path = "grpc/master.rs"]
mod master;

use std::time::Duration;

use bytes::Bytes;
use master::{Master, event, offer, serve_bytes, subscribed, update};
use mezzo_coordination::Target;
use mezzo_coordination::store::memory::Memory;
use mezzo_model::ids::{AgentId, OfferId, TaskId};
use mezzo_sdk::scheduler::{
    AckToken, Credential, Driver, DriverConfig, DriverHandle, DriverSettings, SchedulerCommand,
    SchedulerEvent,
};
use mezzo_sdk::store::FrameworkStore;
use mezzo_wire::grpc;
use mezzo_wire::v1;
use mezzo_wire::v1::scheduler::{call, event::Type};
use tokio::sync::mpsc;
use tonic::Status;

/// Only a bound on failure: everything below waits for something to happen.
const DEADLINE: Duration = Duration::from_secs(20);

type Events = mpsc::Receiver<SchedulerEvent>;

async fn next(events: &mut Events) -> SchedulerEvent {
    let event = tokio::time::timeout(DEADLINE, events.recv()).await;
    event.expect("an event in time").expect("a running driver")
}

async fn start_with(address: &str, store: Option<FrameworkStore>) -> (DriverHandle, Events) {
    let mut config = DriverConfig::named("story");
    config.implicit_every = None;
    config.backoff_initial = mezzo_model::Millis(20);
    config.backoff_max = mezzo_model::Millis(100);
    let settings = DriverSettings {
        config,
        masters: Target::parse(address).expect("an address"),
        credential: Some(Credential {
            principal: "ops".into(),
            secret: "s3cret".into(),
        }),
    };
    Driver::start(settings, store).await.expect("starts")
}

async fn start(address: &str) -> (DriverHandle, Events) {
    start_with(address, None).await
}

fn id(event: &SchedulerEvent) -> Option<(&str, bool)> {
    match event {
        SchedulerEvent::Subscribed {
            framework_id,
            resubscribed,
        } => Some((framework_id.as_str(), *resubscribed)),
        _ => None,
    }
}

#[tokio::test]
async fn calls_arrive_one_after_another_in_the_order_given() {
    let mut master = Master::start().await;
    let (handle, mut events) = start(master.address()).await;
    let asked = master.subscription().await;
    assert_eq!(asked.call.r#type(), call::Type::Subscribe);
    assert_eq!(
        asked.authorization.as_deref(),
        Some("Basic b3BzOnMzY3JldA==")
    );
    assert_eq!(asked.stream_id, None);
    let stream = asked.accept("stream-1").await;
    stream.send(Ok(subscribed("f1"))).await.expect("a reader");
    assert_eq!(id(&next(&mut events).await), Some(("f1", false)));

    stream.send(Ok(offer("o1"))).await.expect("a reader");
    assert!(matches!(next(&mut events).await, SchedulerEvent::Offers(offers) if offers.len() == 1));
    let task = v1::TaskInfo {
        name: "t1".into(),
        task_id: v1::TaskId { value: "t1".into() },
        agent_id: v1::AgentId { value: "a1".into() },
        ..Default::default()
    };
    let accept = SchedulerCommand::Accept {
        offers: vec![OfferId::parse("o1").expect("good")],
        operations: vec![mezzo_sdk::offers::launch(vec![task])],
        filters: None,
    };
    // All at once: they arrive one after another, in this order.
    handle.send(accept).await.expect("running");
    let many = 50;
    for number in 0..many {
        let message = SchedulerCommand::Message {
            agent: AgentId::parse("a1").expect("good"),
            executor: mezzo_model::ids::ExecutorId::parse("e1").expect("good"),
            data: Bytes::from(format!("{number}")),
        };
        handle.send(message).await.expect("running");
    }
    let seen = master.call().await;
    assert_eq!(seen.call.r#type(), call::Type::Accept);
    assert_eq!(seen.stream_id.as_deref(), Some("stream-1"));
    assert_eq!(
        seen.authorization.as_deref(),
        Some("Basic b3BzOnMzY3JldA==")
    );
    assert_eq!(
        seen.call.framework_id.as_ref().map(|id| id.value.as_str()),
        Some("f1")
    );
    master.is_idle();
    seen.answer(Ok(()));
    for number in 0..many {
        let seen = master.call().await;
        let data = seen.call.message.as_ref().expect("a message").data.clone();
        assert_eq!(data, format!("{number}"));
        seen.answer(Ok(()));
    }
}

#[tokio::test]
async fn an_update_is_acknowledged_and_a_teardown_is_the_end() {
    let mut master = Master::start().await;
    let (handle, mut events) = start(master.address()).await;
    let stream = master.subscription().await.accept("stream-1").await;
    stream.send(Ok(subscribed("f1"))).await.expect("a reader");
    assert_eq!(id(&next(&mut events).await), Some(("f1", false)));
    stream
        .send(Ok(update("t1", v1::TaskState::TaskRunning)))
        .await
        .expect("a reader");
    let SchedulerEvent::Update { status, ack } = next(&mut events).await else {
        panic!("no update");
    };
    assert_eq!(AckToken::of(&status), ack);
    handle
        .send(SchedulerCommand::Acknowledge(ack))
        .await
        .expect("running");
    let seen = master.call().await;
    assert_eq!(seen.call.r#type(), call::Type::Acknowledge);
    seen.answer(Ok(()));

    handle
        .send(SchedulerCommand::Teardown)
        .await
        .expect("running");
    let seen = master.call().await;
    assert_eq!(seen.call.r#type(), call::Type::Teardown);
    seen.answer(Ok(()));
    assert_eq!(next(&mut events).await, SchedulerEvent::Disconnected);
    assert_eq!(
        tokio::time::timeout(DEADLINE, events.recv()).await,
        Ok(None)
    );
    tokio::time::timeout(DEADLINE, stream.closed())
        .await
        .expect("the driver hung up");
    assert!(handle.send(SchedulerCommand::Teardown).await.is_err());
}

#[tokio::test]
async fn a_master_that_does_not_lead_names_the_leader_at_subscribe_and_at_a_call() {
    let mut follower = Master::start().await;
    let mut leader = Master::start().await;
    let (handle, mut events) = start(follower.address()).await;
    follower
        .subscription()
        .await
        .refuse(grpc::not_leading(Some(leader.address())));
    let stream = leader.subscription().await.accept("s1").await;
    stream.send(Ok(subscribed("f1"))).await.expect("a reader");
    assert_eq!(id(&next(&mut events).await), Some(("f1", false)));

    handle
        .send(SchedulerCommand::Revive { roles: vec![] })
        .await
        .expect("running");
    leader
        .call()
        .await
        .answer(Err(grpc::not_leading(Some(follower.address()))));
    assert_eq!(next(&mut events).await, SchedulerEvent::Disconnected);
    let asked = follower.subscription().await;
    let framework = asked
        .call
        .subscribe
        .as_ref()
        .expect("a subscribe")
        .framework_info
        .clone();
    assert_eq!(framework.id.map(|id| id.value).as_deref(), Some("f1"));
    let stream = asked.accept("s2").await;
    stream.send(Ok(subscribed("f1"))).await.expect("a reader");
    assert_eq!(id(&next(&mut events).await), Some(("f1", true)));
}

#[tokio::test]
async fn refusals_keep_their_words() {
    let mut master = Master::start().await;
    let (handle, mut events) = start(master.address()).await;
    master
        .subscription()
        .await
        .refuse(Status::unauthenticated("who are you"));
    let refused = |message: &str, fatal| SchedulerEvent::Refused {
        message: message.into(),
        fatal,
    };
    assert_eq!(next(&mut events).await, refused("who are you", false));
    let stream = master.subscription().await.accept("s1").await;
    stream.send(Ok(subscribed("f1"))).await.expect("a reader");
    assert!(id(&next(&mut events).await).is_some());

    let kill = SchedulerCommand::Kill {
        task: TaskId::parse("t1").expect("good"),
        agent: None,
        policy: None,
    };
    handle.send(kill).await.expect("running");
    master.call().await.answer(Err(Status::invalid_argument(
        "Expecting 'task_id' to be liked",
    )));
    assert_eq!(
        next(&mut events).await,
        refused("Expecting 'task_id' to be liked", false)
    );

    // The words of the protocol for a subscription that is no more lead to another one.
    handle
        .send(SchedulerCommand::Revive { roles: vec![] })
        .await
        .expect("running");
    let gone = Status::permission_denied("Framework is not subscribed");
    master.call().await.answer(Err(gone));
    assert_eq!(next(&mut events).await, SchedulerEvent::Disconnected);
    let asked = master.subscription().await;
    asked.refuse(Status::invalid_argument(
        "'FrameworkInfo.role' is not a valid role",
    ));
    assert_eq!(
        next(&mut events).await,
        refused("'FrameworkInfo.role' is not a valid role", true)
    );
    assert_eq!(
        tokio::time::timeout(DEADLINE, events.recv()).await,
        Ok(None)
    );
}

#[tokio::test]
async fn the_id_outlives_the_process_and_another_process_is_fenced() {
    let memory = Memory::new("cluster");
    let store = || FrameworkStore::new(memory.begin_term().store());
    let mut master = Master::start().await;
    let (first, mut events) = start_with(master.address(), Some(store())).await;
    let stream = master.subscription().await.accept("s1").await;
    stream.send(Ok(subscribed("f1"))).await.expect("a reader");
    assert_eq!(id(&next(&mut events).await), Some(("f1", false)));
    drop((first, events));
    tokio::time::timeout(DEADLINE, stream.closed())
        .await
        .expect("the driver hung up");

    let (_second, mut events) = start_with(master.address(), Some(store())).await;
    let asked = master.subscription().await;
    assert_eq!(
        asked.call.framework_id.as_ref().map(|id| id.value.as_str()),
        Some("f1")
    );
    let stream = asked.accept("s2").await;
    stream.send(Ok(subscribed("f1"))).await.expect("a reader");
    assert_eq!(id(&next(&mut events).await), Some(("f1", true)));

    // A process without a term of its own learns it when it would store an id.
    let other = Memory::new("cluster");
    let late = FrameworkStore::new(other.begin_term().store());
    let mut elsewhere = Master::start().await;
    let (_third, mut events) = start_with(elsewhere.address(), Some(late)).await;
    let asked = elsewhere.subscription().await;
    other.end_term();
    let stream = asked.accept("s3").await;
    stream.send(Ok(subscribed("f9"))).await.expect("a reader");
    assert!(matches!(
        next(&mut events).await,
        SchedulerEvent::Refused { fatal: true, .. }
    ));
}

#[tokio::test]
async fn a_lost_stream_is_subscribed_again_and_a_last_acknowledgement_goes_out() {
    let mut master = Master::start().await;
    let (handle, mut events) = start(master.address()).await;
    let stream = master.subscription().await.accept("s1").await;
    stream.send(Ok(subscribed("f1"))).await.expect("a reader");
    assert!(id(&next(&mut events).await).is_some());
    drop(stream);
    assert_eq!(next(&mut events).await, SchedulerEvent::Disconnected);
    let stream = master.subscription().await.accept("s2").await;
    stream.send(Ok(subscribed("f1"))).await.expect("a reader");
    assert_eq!(id(&next(&mut events).await), Some(("f1", true)));
    stream
        .send(Ok(update("t1", v1::TaskState::TaskFinished)))
        .await
        .expect("a reader");
    let SchedulerEvent::Update { ack, .. } = next(&mut events).await else {
        panic!("no update")
    };
    handle
        .send(SchedulerCommand::Acknowledge(ack))
        .await
        .expect("running");
    drop(handle);
    let seen = master.call().await;
    assert_eq!(seen.call.r#type(), call::Type::Acknowledge);
    seen.answer(Ok(()));
    tokio::time::timeout(DEADLINE, stream.closed())
        .await
        .expect("the driver hung up");
    while events.recv().await.is_some() {}
}

#[tokio::test]
async fn a_framework_that_does_not_listen_stops_the_reading_and_not_the_calls() {
    let mut master = Master::start().await;
    let (handle, mut events) = start(master.address()).await;
    let stream = master.subscription().await.accept("s1").await;
    stream.send(Ok(subscribed("f1"))).await.expect("a reader");
    assert!(id(&next(&mut events).await).is_some());
    // Far more than all buffers on the way hold.
    let large = vec![7; 64 * 1024];
    let flood = tokio::spawn(async move {
        let mut sent = 0_u32;
        while sent < 4_000 {
            let mut message = event(Type::Message);
            message.message = Some(v1::scheduler::event::Message {
                agent_id: v1::AgentId { value: "a1".into() },
                executor_id: v1::ExecutorId { value: "e1".into() },
                data: Bytes::from(large.clone()),
            });
            tokio::select! {
                sent_one = stream.send(Ok(message)) => sent_one.expect("a reader"),
                // Nothing moves any more: everything on the way is full.
                () = tokio::time::sleep(Duration::from_millis(300)) => break,
            }
            sent += 1;
        }
        (sent, stream)
    });
    let (sent, stream) = tokio::time::timeout(DEADLINE, flood)
        .await
        .expect("ends")
        .expect("ends");
    assert!(sent < 4_000, "everything was read, and kept somewhere");
    // Commands are still taken and carried out.
    handle
        .send(SchedulerCommand::Revive { roles: vec![] })
        .await
        .expect("running");
    let seen = master.call().await;
    assert_eq!(seen.call.r#type(), call::Type::Revive);
    seen.answer(Ok(()));
    for _ in 0..sent {
        assert!(matches!(
            next(&mut events).await,
            SchedulerEvent::Message { .. }
        ));
    }
    drop(stream);
    assert_eq!(next(&mut events).await, SchedulerEvent::Disconnected);
}

#[tokio::test]
async fn a_list_of_ten_thousand_offers_is_read_in_one_piece() {
    let mut master = Master::start().await;
    let (_handle, mut events) = start(master.address()).await;
    let stream = master.subscription().await.accept("s1").await;
    stream.send(Ok(subscribed("f1"))).await.expect("a reader");
    assert!(id(&next(&mut events).await).is_some());
    let mut all = offer("o");
    let offers = &mut all.offers.as_mut().expect("offers").offers;
    offers[0].hostname = "h".repeat(2_000);
    let one = offers.remove(0);
    for number in 0..10_000 {
        let mut more = one.clone();
        more.id.value = format!("o{number}");
        offers.push(more);
    }
    stream.send(Ok(all)).await.expect("a reader");
    let SchedulerEvent::Offers(offers) = next(&mut events).await else {
        panic!("no offers")
    };
    assert_eq!(offers.len(), 10_000);
}

/// A message that is announced with a length and cut to what is there, in gRPC's framing.
fn framed(length: u32, message: &[u8]) -> Bytes {
    let mut frame = vec![0];
    frame.extend(length.to_be_bytes());
    frame.extend(message);
    frame.into()
}

#[tokio::test]
async fn nonsense_from_a_server_is_survived() {
    let error = b"\x08\x07\x42\x00"; // An ERROR without its message: a required field is missing.
    let cases: [(&str, bool, Bytes); 6] = [
        ("no body at all", true, Bytes::new()),
        ("no stream id", false, framed(2, b"\x08\x08")),
        (
            "a message of four gigabytes",
            true,
            framed(u32::MAX, b"\x08\x08"),
        ),
        ("no message", true, framed(5, b"\xff\xff\xff\xff\xff")),
        ("a required field is missing", true, framed(4, error)),
        (
            "a heartbeat and no subscription",
            true,
            framed(2, b"\x08\x08"),
        ),
    ];
    for (what, with_stream, body) in cases {
        let (address, mut asked, stop) = serve_bytes(with_stream, body).await;
        let (handle, mut events) = start(&address).await;
        for _ in 0..3 {
            let again = tokio::time::timeout(DEADLINE, asked.recv()).await;
            again
                .unwrap_or_else(|_| panic!("{what}: it gave up"))
                .expect("a server");
        }
        handle
            .send(SchedulerCommand::Revive { roles: vec![] })
            .await
            .expect("still running");
        assert!(
            events.try_recv().is_err(),
            "{what}: the framework was told something"
        );
        stop.abort();
    }
}

#[tokio::test]
async fn a_server_that_speaks_something_else_is_survived() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("binds");
    let address = listener.local_addr().expect("bound").to_string();
    let (handle, mut events) = start(&address).await;
    for words in [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "",
    ] {
        let accepted = tokio::time::timeout(DEADLINE, listener.accept()).await;
        let (mut socket, _) = accepted.expect("it dials again").expect("accepts");
        tokio::io::AsyncWriteExt::write_all(&mut socket, words.as_bytes())
            .await
            .expect("writes");
    }
    handle
        .send(SchedulerCommand::Revive { roles: vec![] })
        .await
        .expect("still running");
    assert!(events.try_recv().is_err());
}
