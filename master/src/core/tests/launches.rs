//! ACCEPT: what is launched, what is refused, and in which words.

use mezzo_model::TaskState;
use mezzo_wire::link::master_message::Body as Order;
use mezzo_wire::v1;
use mezzo_wire::v1::offer::operation::Type as OpType;
use mezzo_wire::v1::scheduler::Call;
use mezzo_wire::v1::scheduler::call::Accept;
use mezzo_wire::v1::task_status::Reason;

use super::super::testing::*;
use super::super::*;

/// A world with one framework that holds one offer of one agent.
pub(super) fn ready(resources: &str) -> (World, Scheduler, TestAgent, v1::Offer) {
    let mut world = World::new();
    let scheduler = world.framework("a");
    let agent = world.agent("h1", resources);
    let offer = world.offer(&scheduler);
    (world, scheduler, agent, offer)
}

#[test]
fn a_launch_reaches_the_agent_and_the_rest_comes_back() {
    let (mut world, scheduler, agent, offer) = ready("cpus:4;mem:1024");
    world.launch(
        &scheduler,
        &[&offer],
        vec![task("t1", &agent.id, "cpus:1;mem:32")],
        2.0,
    );
    match world.orders(&agent).as_slice() {
        [Order::RunTask(run)] => {
            assert_eq!(run.framework.id.as_ref(), Some(&scheduler.id));
            let allocated = run
                .task
                .resources
                .iter()
                .all(|resource| resource.allocation_info.is_some());
            assert!(allocated, "{:?}", run.task.resources);
        }
        other => panic!("{other:?}"),
    }
    world.pass(1999);
    assert!(world.offers(&scheduler).is_empty());
    world.pass(1);
    assert_eq!(
        amounts(&world.offer(&scheduler).resources),
        "cpus:3; mem:992"
    );
    world.finish();
}

#[test]
fn tasks_of_one_launch_are_charged_one_after_another_and_fail_alone() {
    let (mut world, scheduler, agent, offer) = ready("cpus:0.3;mem:96");
    let tasks = vec![
        task("t1", &agent.id, "cpus:0.1;mem:32"),
        task("t1", &agent.id, "cpus:0.1;mem:32"),
        task("t2", &agent.id, "cpus:0.1;mem:32"),
        task("t3", &agent.id, "cpus:10000;mem:32"),
        task("t4", &agent.id, "cpus:0.1;mem:32"),
    ];
    world.launch(&scheduler, &[&offer], tasks, 600.0);
    let started: Vec<String> = world
        .orders(&agent)
        .into_iter()
        .map(|order| match order {
            Order::RunTask(run) => run.task.task_id.value,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(started, ["t1", "t2", "t4"]);
    let refused = world.updates(&scheduler);
    assert_eq!(
        refused[0].message.as_deref(),
        Some("Task has duplicate ID: t1")
    );
    assert_eq!(
        refused[1].message.as_deref(),
        Some(
            "Total resources cpus(allocated: *):10000; mem(allocated: *):32 required by task and its executor is \
             more than available cpus(allocated: *):0.1; mem(allocated: *):32"
        )
    );
    for status in &refused {
        assert_eq!(status.state, TaskState::Error.number());
        assert_eq!(status.reason, Some(Reason::TaskInvalid as i32));
        assert_eq!(status.source, Some(v1::task_status::Source::Master as i32));
        assert_eq!(status.agent_id.as_ref(), Some(&agent.id));
        assert!(status.uuid.is_none() && status.executor_id.is_none());
    }
    assert_eq!(refused.len(), 2);
    world.finish();
}

#[test]
fn an_offer_is_used_once() {
    let (mut world, scheduler, agent, offer) = ready("cpus:4;mem:1024");
    world.launch(
        &scheduler,
        &[&offer],
        vec![task("t1", &agent.id, "cpus:1;mem:32")],
        600.0,
    );
    world.launch(
        &scheduler,
        &[&offer],
        vec![task("t2", &agent.id, "cpus:1;mem:32")],
        600.0,
    );
    assert_eq!(world.orders(&agent).len(), 1);
    let status = world.update(&scheduler);
    assert_eq!(status.state, TaskState::Dropped.number());
    assert_eq!(status.reason, Some(Reason::InvalidOffers as i32));
    let words = format!(
        "Task launched with invalid offers: Offer {} is no longer valid",
        offer.id
    );
    assert_eq!(status.message, Some(words));
    world.finish();
}

#[test]
fn offers_are_aggregated_only_where_that_makes_sense() {
    let mut world = World::new();
    let scheduler = world.framework("a");
    let agent = world.agent("h1", "cpus:4;mem:1024");
    let other = world.agent("h2", "cpus:4;mem:1024");
    let offers = world.offers(&scheduler);
    let [first, second] = offers.as_slice() else {
        panic!("{offers:?}")
    };
    // Two agents.
    world.launch(
        &scheduler,
        &[first, second],
        vec![task("t1", &agent.id, "cpus:1;mem:32")],
        1.0,
    );
    let mut story = world.events(&scheduler);
    let status = story.remove(0).update.expect("a status").status;
    assert!(
        status
            .message
            .unwrap_or_default()
            .contains("must belong to one single agent")
    );
    // Both were given back without a filter, so they are there again.
    let again: Vec<_> = story
        .into_iter()
        .flat_map(|event| event.offers.expect("offers").offers)
        .collect();
    assert_eq!(again.len(), 2);
    // The same twice.
    world.launch(
        &scheduler,
        &[&again[0], &again[0]],
        vec![task("t1", &agent.id, "cpus:1;mem:32")],
        1.0,
    );
    let events = world.events(&scheduler);
    assert!(format!("{events:?}").contains("Duplicate offer"));
    // None.
    world.launch(
        &scheduler,
        &[],
        vec![task("t1", &agent.id, "cpus:1;mem:32")],
        1.0,
    );
    let status = world.update(&scheduler);
    assert!(
        status
            .message
            .unwrap_or_default()
            .ends_with("No offers specified")
    );
    assert!(world.orders(&agent).is_empty() && world.orders(&other).is_empty());
    world.finish();
}

#[test]
fn pieces_of_one_agent_are_joined() {
    let (mut world, scheduler, agent, offer) = ready("cpus:4;mem:1024");
    let tasks = vec![task("t1", &agent.id, "cpus:1;mem:32")];
    world.launch(&scheduler, &[&offer], tasks, 1.0);
    world.orders(&agent);
    world.pass(1000);
    let rest = world.offer(&scheduler);
    world.status(&agent, &scheduler, "t1", TaskState::Finished);
    let events = world.events(&scheduler);
    let freed = events
        .iter()
        .find_map(|event| event.offers.clone())
        .expect("offers")
        .offers;
    let both = task("t2", &agent.id, "cpus:4;mem:1024");
    world.launch(&scheduler, &[&rest, &freed[0]], vec![both], 1.0);
    assert!(matches!(
        world.orders(&agent).as_slice(),
        [Order::RunTask(_)]
    ));
    world.finish();
}

#[test]
fn a_custom_executor_is_charged_once_and_freed_when_it_exits() {
    let (mut world, scheduler, agent, offer) = ready("cpus:4;mem:1024");
    let with_executor = |id: &str| {
        let mut info = task(id, &agent.id, "cpus:1;mem:32");
        info.command = None;
        info.executor = Some(v1::ExecutorInfo {
            executor_id: "e".into(),
            command: Some(v1::CommandInfo {
                value: Some("x".into()),
                ..Default::default()
            }),
            resources: bag("cpus:0.5;mem:64").to_wire(),
            ..Default::default()
        });
        info
    };
    let mut different = with_executor("t3");
    different.executor.as_mut().expect("set").name = Some("other".into());
    let tasks = vec![with_executor("t1"), with_executor("t2"), different];
    world.launch(&scheduler, &[&offer], tasks, 1.0);
    assert_eq!(world.orders(&agent).len(), 2);
    let refused = world.update(&scheduler);
    assert!(
        refused
            .message
            .unwrap_or_default()
            .contains("not compatible with existing ExecutorInfo")
    );
    world.pass(1000);
    let offer = world.offer(&scheduler);
    assert_eq!(amounts(&offer.resources), "cpus:1.5; mem:896");
    assert_eq!(offer.executor_ids, ["e".into()]);
    let exited = mezzo_wire::link::ExecutorExited {
        framework_id: scheduler.id.clone(),
        executor_id: "e".into(),
        status: 256,
    };
    world.agent_says(
        agent.conn,
        mezzo_wire::link::agent_message::Body::ExecutorExited(exited),
    );
    assert_eq!(
        world.story(&scheduler),
        ["FAILURE", "OFFERS cpus:0.5; mem:64"]
    );
    world.finish();
}

#[test]
fn a_group_is_launched_whole_or_not_at_all() {
    let (mut world, scheduler, agent, offer) = ready("cpus:4;mem:1024;disk:1000");
    let executor = |cpus: &str| v1::ExecutorInfo {
        executor_id: "pod".into(),
        r#type: Some(v1::executor_info::Type::Default as i32),
        resources: bag(&format!("cpus:{cpus};mem:32;disk:10")).to_wire(),
        ..Default::default()
    };
    let group = |executor: v1::ExecutorInfo, tasks: Vec<v1::TaskInfo>| v1::offer::Operation {
        r#type: Some(OpType::LaunchGroup as i32),
        launch_group: Some(v1::offer::operation::LaunchGroup {
            executor,
            task_group: v1::TaskGroupInfo { tasks },
        }),
        ..Default::default()
    };
    let pair = |second: &str| {
        vec![
            task("t1", &agent.id, "cpus:1;mem:32"),
            task("t2", &agent.id, second),
        ]
    };
    let accept = |operations| Accept {
        offer_ids: vec![offer.id.clone()],
        operations,
        filters: Some(v1::Filters {
            refuse_seconds: Some(1.0),
        }),
    };
    let operations = vec![
        group(executor("0.1"), pair("cpus:100;mem:32")),
        group(executor("0.001"), pair("cpus:1;mem:32")),
        group(executor("0.1"), Vec::new()),
        group(executor("0.1"), pair("cpus:1;mem:32")),
    ];
    world.accept(&scheduler, accept(operations));
    match world.orders(&agent).as_slice() {
        [Order::RunTaskGroup(run)] => {
            assert_eq!(run.group.tasks.len(), 2);
            assert!(
                run.group
                    .tasks
                    .iter()
                    .all(|task| task.executor.as_ref() == Some(&run.executor))
            );
        }
        other => panic!("{other:?}"),
    }
    let refused = world.updates(&scheduler);
    assert_eq!(refused.len(), 4, "both members of both wrong groups");
    for status in &refused {
        assert_eq!(status.reason, Some(Reason::TaskGroupInvalid as i32));
    }
    assert!(
        refused[0]
            .message
            .as_deref()
            .unwrap_or_default()
            .contains("are more than available")
    );
    assert!(
        refused[2]
            .message
            .as_deref()
            .unwrap_or_default()
            .contains("uses less CPUs")
    );
    world.pass(1000);
    assert_eq!(
        amounts(&world.offer(&scheduler).resources),
        "cpus:1.9; mem:928; disk:990"
    );
    world.finish();
}

#[test]
fn operations_of_later_versions_are_refused_in_words_and_change_nothing() {
    let (mut world, scheduler, agent, offer) = ready("cpus:4;mem:1024");
    let operation = |kind: OpType, id: Option<&str>| v1::offer::Operation {
        r#type: Some(kind as i32),
        id: id.map(|id| v1::OperationId { value: id.into() }),
        reserve: Some(v1::offer::operation::Reserve {
            resources: bag("cpus(eng):1").to_wire(),
            source: Vec::new(),
        }),
        ..Default::default()
    };
    let mut with_id = launch_operation(vec![task("t9", &agent.id, "cpus:1;mem:32")]);
    with_id.id = Some(v1::OperationId { value: "l1".into() });
    let operations = vec![
        operation(OpType::Reserve, Some("r1")),
        operation(OpType::Create, None),
        operation(OpType::Unknown, Some("u1")),
        with_id,
        launch_operation(vec![task("t1", &agent.id, "cpus(eng):1;mem:32")]),
    ];
    let offer_ids = vec![offer.id.clone()];
    world.accept(
        &scheduler,
        Accept {
            offer_ids,
            operations,
            filters: None,
        },
    );
    let events = world.events(&scheduler);
    let statuses: Vec<_> = events
        .iter()
        .filter_map(|e| e.update_operation_status.as_ref().map(|u| &u.status))
        .collect();
    assert_eq!(statuses.len(), 2);
    for status in statuses {
        assert_eq!(status.state, v1::OperationState::OperationError as i32);
    }
    assert!(
        world
            .notes
            .iter()
            .any(|note| note.contains("CREATE is not supported")),
        "{:?}",
        world.notes
    );
    let updates: Vec<_> = events
        .iter()
        .filter_map(|e| e.update.as_ref().map(|u| &u.status))
        .collect();
    assert_eq!(updates.len(), 2);
    assert!(
        updates[0]
            .message
            .as_deref()
            .unwrap_or_default()
            .contains("must not be set for LAUNCH")
    );
    assert!(
        updates[1]
            .message
            .as_deref()
            .unwrap_or_default()
            .contains("more than available")
    );
    assert!(world.orders(&agent).is_empty());
    world.pass(5000);
    assert_eq!(
        amounts(&world.offer(&scheduler).resources),
        "cpus:4; mem:1024"
    );
    world.finish();
}

#[test]
fn an_accept_takes_microseconds() {
    let mut world = World::new();
    let scheduler = world.framework("a");
    let agent = world.agent("h1", "cpus:4000;mem:4000000;ports:[31000-65000]");
    let mut spent = std::time::Duration::ZERO;
    let mut now = world.now;
    let mut offers = world.offers(&scheduler);
    for round in 0..500 {
        let offer = offers.pop().expect("an offer");
        let info = task(
            &format!("t{round}"),
            &agent.id,
            "cpus:1;mem:32;ports:[31000-31000]",
        );
        let mut info = info;
        info.resources.pop();
        let call = Call {
            framework_id: Some(scheduler.id.clone()),
            r#type: Some(mezzo_wire::v1::scheduler::call::Type::Accept as i32),
            accept: Some(Accept {
                offer_ids: vec![offer.id.clone()],
                operations: vec![launch_operation(vec![info])],
                filters: Some(v1::Filters {
                    refuse_seconds: Some(0.0),
                }),
            }),
            ..Default::default()
        };
        let input = Input::Call {
            request: crate::keys::RequestId(10_000 + round),
            principal: None,
            stream_id: scheduler.stream.as_ref().map(ToString::to_string),
            call: call.into(),
        };
        let mut out = Vec::new();
        let started = crate::testing::cpu_time();
        world.core.handle(now, input, &mut out);
        spent += crate::testing::cpu_time() - started;
        now.mono += Millis(1000);
        out.clear();
        world.core.handle(now, Input::Tick, &mut out);
        for output in out {
            if let Output::Event { event, .. } = output {
                offers.extend(event.offers.map(|offers| offers.offers).unwrap_or_default());
            }
        }
        if round % 4 == 0 {
            let message = link::AgentMessage {
                body: Some(link::agent_message::Body::Pong(link::Pong { sequence: 1 })),
            };
            world.core.handle(
                now,
                Input::Agent {
                    conn: agent.conn,
                    message: message.into(),
                },
                &mut Vec::new(),
            );
        }
    }
    let each = spent / 500;
    assert!(
        each < std::time::Duration::from_micros(500),
        "{each:?} for an accept"
    );
    world.core.check_invariants().expect("sound");
}
