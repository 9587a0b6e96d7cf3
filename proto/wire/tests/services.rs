//! The gRPC services end to end, without a network: a client whose channel is the server itself.

use std::collections::BTreeMap;
use std::pin::Pin;

use mezzo_wire::v1::scheduler::scheduler_client::SchedulerClient;
use mezzo_wire::v1::scheduler::scheduler_server::{Scheduler, SchedulerServer};
use mezzo_wire::v1::scheduler::{Ack, Call, Event, call, event};
use mezzo_wire::{grpc, v1};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Request, Response, Status};

/// A door that answers a subscription with two events and tells each other call back as a refusal.
struct Door;

#[tonic::async_trait]
impl Scheduler for Door {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<Event, Status>> + Send>>;

    async fn subscribe(
        &self,
        request: Request<Call>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let info = request
            .into_inner()
            .subscribe
            .map(|subscribe| subscribe.framework_info);
        let subscribed = event::Subscribed {
            framework_id: info.unwrap_or_default().name.into(),
            ..Default::default()
        };
        let subscribed = Event {
            r#type: Some(event::Type::Subscribed.into()),
            subscribed: Some(subscribed),
            ..Default::default()
        };
        let beat = Event {
            r#type: Some(event::Type::Heartbeat.into()),
            ..Default::default()
        };
        let events = tokio_stream::iter([Ok(subscribed), Ok(beat)]);
        let mut answer = Response::new(Box::pin(events) as Self::SubscribeStream);
        answer
            .metadata_mut()
            .insert(grpc::STREAM_ID, "stream-1".parse().expect("ASCII"));
        Ok(answer)
    }

    async fn submit(&self, request: Request<Call>) -> Result<Response<Ack>, Status> {
        let stream = request.metadata().get(grpc::STREAM_ID).is_some();
        let call = request.into_inner();
        match (stream, call.accept) {
            (false, _) => Err(grpc::refuse(403, "Framework is not subscribed")),
            (true, None) => Err(grpc::not_leading(Some("10.0.0.1:5050"))),
            (true, Some(accept)) => {
                let limits = &accept.operations[0]
                    .launch
                    .as_ref()
                    .expect("one")
                    .task_infos[0];
                assert_eq!(
                    limits.limits["cpus"].value, 0.0,
                    "a default in a map arrives"
                );
                Ok(Response::new(Ack {}))
            }
        }
    }
}

fn launch(resource: v1::Resource) -> Call {
    let task = v1::TaskInfo {
        name: "t".into(),
        resources: vec![resource],
        limits: BTreeMap::from([("cpus".into(), v1::value::Scalar { value: 0.0 })]),
        ..Default::default()
    };
    let launch = v1::offer::operation::Launch {
        task_infos: vec![task],
    };
    let operation = v1::offer::Operation {
        launch: Some(launch),
        ..Default::default()
    };
    let accept = call::Accept {
        operations: vec![operation],
        ..Default::default()
    };
    Call {
        r#type: Some(call::Type::Accept.into()),
        accept: Some(accept),
        ..Default::default()
    }
}

fn with_stream(call: Call) -> Request<Call> {
    let mut request = Request::new(call);
    request
        .metadata_mut()
        .insert(grpc::STREAM_ID, "stream-1".parse().expect("ASCII"));
    request
}

#[tokio::test]
async fn a_subscription_streams_events() {
    let mut client = SchedulerClient::new(SchedulerServer::new(Door));
    let info = v1::FrameworkInfo {
        name: "f".into(),
        ..Default::default()
    };
    let subscribe = call::Subscribe {
        framework_info: info,
        ..Default::default()
    };
    let call = Call {
        r#type: Some(call::Type::Subscribe.into()),
        subscribe: Some(subscribe),
        ..Default::default()
    };
    let answer = client.subscribe(call).await.expect("subscribed");
    let stream = answer.metadata().get(grpc::STREAM_ID).expect("an id");
    assert_eq!(stream.to_str().ok(), Some("stream-1"));
    let events: Vec<_> = answer.into_inner().collect().await;
    let kinds: Vec<_> = events.iter().flatten().map(Event::r#type).collect();
    assert_eq!(kinds, [event::Type::Subscribed, event::Type::Heartbeat]);
}

#[tokio::test]
async fn what_lacks_a_required_field_does_not_get_in() {
    let mut client = SchedulerClient::new(SchedulerServer::new(Door));
    client
        .submit(with_stream(launch(v1::Resource::scalar("cpus", 1.0))))
        .await
        .expect("taken");
    // A kind of resource that nobody knows counts as none.
    let strange = v1::Resource {
        r#type: 99,
        ..v1::Resource::scalar("cpus", 1.0)
    };
    let status = client
        .submit(with_stream(launch(strange)))
        .await
        .expect_err("refused");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(
        status.message(),
        "Failed to parse body into Call protobuf: Missing required fields: \
         accept.operations[0].launch.task_infos[0].resources[0].type"
    );
}

#[tokio::test]
async fn a_refusal_keeps_its_words_and_names_the_leader() {
    let mut client = SchedulerClient::new(SchedulerServer::new(Door));
    let status = client.submit(Call::default()).await.expect_err("refused");
    assert_eq!(
        (grpc::http(status.code()), status.message()),
        (403, "Framework is not subscribed")
    );
    let status = client
        .submit(with_stream(Call::default()))
        .await
        .expect_err("refused");
    assert_eq!(grpc::http(status.code()), 307);
    assert_eq!(grpc::leader(&status), Some("10.0.0.1:5050"));
}
