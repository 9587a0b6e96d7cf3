//! Failing tasks, lost agents, failing checks, tasks that nobody knows.

use mezzo_model::TaskState;
use mezzo_sdk::scheduler::{SchedulerCommand, SchedulerEvent};
use serde_json::json;

use crate::core::health::ProbeResult;
use crate::core::request::{Answer, ApiCall};
use crate::core::testing::{World, app};
use crate::core::{Config, Input};

const BIG: &str = "cpus:64;mem:65536;disk:65536;ports:[31000-32000]";

fn running(document: serde_json::Value) -> World {
    let mut world = World::new();
    world.create(document).expect("taken");
    world.calm();
    world.told.clear();
    world
}

#[test]
fn a_failing_app_is_launched_ever_more_slowly_and_recovers() {
    let mut world =
        running(json!({"id": "/web", "cmd": "x", "backoffSeconds": 10, "backoffFactor": 2}));
    for (round, delay) in [10_000, 20_000, 40_000].into_iter().enumerate() {
        let task = world.live("/web").remove(0);
        assert!(task.ends_with(&format!("._app.{}", round + 1)), "{task}");
        world.update(&task, TaskState::Failed);
        world.offer("a1", BIG);
        assert!(world.live("/web").is_empty(), "delayed");
        let Ok(Answer::Queue(queue)) = world.call(ApiCall::Queue {
            last_unused_offers: false,
        }) else {
            panic!()
        };
        assert!(queue[0].delay_left_ms > delay - 1000 && queue[0].delay_left_ms <= delay);
        assert_eq!(
            queue[0].stats.processed, 0,
            "an app that is delayed looks at no offer"
        );
        world.told.clear();
        world.pass(delay);
        assert!(
            world
                .told
                .iter()
                .any(|c| matches!(c, SchedulerCommand::Revive { .. }))
        );
        world.offer("a1", BIG);
        world.all_run();
    }
    let Ok(Answer::App(view)) = world.call(ApiCall::GetApp(app("/web"))) else {
        panic!()
    };
    let failure = view.last_failure.expect("told");
    assert_eq!(
        (failure.state.as_str(), failure.host.as_str()),
        ("TASK_FAILED", "host-of-a1")
    );
    assert!(failure.task.ends_with("._app.3"));
}

#[test]
fn a_delay_can_be_ended_by_hand() {
    let mut world = running(json!({"id": "/web", "cmd": "x", "backoffSeconds": 100}));
    assert!(
        world.call(ApiCall::ResetDelay(app("/web"))).is_err(),
        "nothing is queued"
    );
    let task = world.live("/web").remove(0);
    world.update(&task, TaskState::Finished);
    world.offer("a1", BIG);
    assert!(world.live("/web").is_empty());
    assert!(matches!(
        world.call(ApiCall::ResetDelay(app("/web"))),
        Ok(Answer::Done)
    ));
    world.offer("a1", BIG);
    assert_eq!(world.live("/web").len(), 1);
}

#[test]
fn a_lost_agents_instances_are_replaced_at_once_and_ended_when_they_come_back() {
    let mut world = running(json!({"id": "/web", "cmd": "x", "instances": 2}));
    let lost = world.live("/web").remove(0);
    let agent = world.tasks[&lost].clone();
    world.update(&lost, TaskState::Unreachable);
    let Ok(Answer::Tasks { tasks, .. }) = world.call(ApiCall::AppTasks(app("/web"))) else {
        panic!()
    };
    assert_eq!(tasks.len(), 1, "given up");
    world.offer("a2", BIG);
    world.all_run_but(&lost);
    assert_eq!(
        world.live("/web").len(),
        3,
        "the lost one still runs somewhere"
    );
    assert!(world.killed().is_empty());
    world.tasks.insert(lost.clone(), agent);
    world.update(&lost, TaskState::Running);
    assert_eq!(
        world
            .killed()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        vec![lost.clone()]
    );
    world.update(&lost, TaskState::Killed);
    let left = world
        .records
        .keys()
        .filter(|key| key.starts_with("instances-"))
        .count();
    assert_eq!(left, 2, "its record is gone");
}

#[test]
fn with_patience_the_replacement_comes_later_and_the_surplus_goes() {
    let strategy = json!({"inactiveAfterSeconds": 60, "expungeAfterSeconds": 600});
    let mut world = running(json!({"id": "/web", "cmd": "x", "unreachableStrategy": strategy}));
    let lost = world.live("/web").remove(0);
    world.update(&lost, TaskState::Unreachable);
    world.offer("a2", BIG);
    world.pass(59_000);
    world.offer("a2", BIG);
    assert_eq!(world.live("/web"), vec![lost.clone()], "it is waited for");
    let Ok(Answer::Tasks { tasks, .. }) = world.call(ApiCall::AppTasks(app("/web"))) else {
        panic!()
    };
    assert_eq!(tasks[0].instance.state(), TaskState::Unreachable);
    world.pass(2000);
    world.offer("a2", BIG);
    world.all_run_but(&lost);
    assert_eq!(world.live("/web").len(), 2);
    world.update(&lost, TaskState::Running);
    assert_eq!(world.killed().len(), 1, "one is too many now");
    assert_eq!(world.live("/web").len(), 2);
}

#[test]
fn without_a_limit_it_is_waited_for() {
    let mut world = running(json!({"id": "/web", "cmd": "x", "unreachableStrategy": "disabled"}));
    let lost = world.live("/web").remove(0);
    world.update(&lost, TaskState::Unreachable);
    world.pass(40 * 24 * 3600 * 1000);
    world.offer("a2", BIG);
    assert_eq!(world.live("/web"), vec![lost.clone()]);
    world.update(&lost, TaskState::Running);
    assert!(world.killed().is_empty());
}

#[test]
fn an_unhealthy_instance_is_ended_and_replaced() {
    let check = json!({"path": "/up", "gracePeriodSeconds": 0, "intervalSeconds": 5, "maxConsecutiveFailures": 2});
    let mut world = running(json!({"id": "/web", "cmd": "x", "healthChecks": [check]}));
    let Ok(Answer::App(view)) = world.call(ApiCall::GetApp(app("/web"))) else {
        panic!()
    };
    assert_eq!((view.counts.healthy, view.counts.unhealthy), (1, 0));
    for failures in 1..=3 {
        world.pass(5000);
        let (probe, order) = world.probes.pop_front().expect("asked");
        assert!(
            format!("{:?}", order.target).contains("http://host-of-a1:31"),
            "{order:?}"
        );
        world.input(Input::Probed {
            probe,
            result: ProbeResult::Status(500),
        });
        assert_eq!(world.killed().len(), usize::from(failures == 3));
    }
    let Ok(Answer::App(view)) = world.call(ApiCall::GetApp(app("/web"))) else {
        panic!()
    };
    assert_eq!(
        view.tasks.expect("embedded")[0].checks.len(),
        0,
        "no longer asked"
    );
    let task = world.live("/web").remove(0);
    world.update(&task, TaskState::Killed);
    world.calm();
    assert!(world.live("/web")[0].ends_with("._app.2"));
}

#[test]
fn the_executors_word_counts_too() {
    let check = json!({"protocol": "COMMAND", "command": {"value": "true"}});
    let mut world = World::new();
    world
        .create(json!({"id": "/web", "cmd": "x", "healthChecks": [check]}))
        .expect("taken");
    world.offer("a1", BIG);
    world.all_run();
    let Ok(Answer::Deployments(left)) = world.call(ApiCall::Deployments) else {
        panic!()
    };
    assert_eq!(left.len(), 1, "running is not enough");
    let status = mezzo_wire::v1::TaskStatus {
        task_id: mezzo_wire::v1::TaskId {
            value: world.live("/web").remove(0),
        },
        state: TaskState::Running.number(),
        healthy: Some(true),
        ..Default::default()
    };
    world.status(status);
    let Ok(Answer::Deployments(left)) = world.call(ApiCall::Deployments) else {
        panic!()
    };
    assert!(left.is_empty());
}

#[test]
fn a_launch_that_nobody_confirms_is_ended_and_tried_again() {
    let mut world = World::new();
    world
        .create(json!({"id": "/web", "cmd": "x"}))
        .expect("taken");
    world.offer("a1", BIG);
    let first = world.live("/web").remove(0);
    world.pass(301_000);
    assert_eq!(
        world
            .killed()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        vec![first.clone()]
    );
    world.update(&first, TaskState::Gone);
    world.pass(2000);
    world.offer("a1", BIG);
    assert!(world.live("/web")[0].ends_with("._app.2"));
}

#[test]
fn unknown_tasks_are_left_alone_and_replaced_ones_are_not() {
    let mut world = running(json!({"id": "/web", "cmd": "x"}));
    let ours = "web.instance-7a6f0c1e-0000-4000-8000-000000000001._app.1".to_owned();
    let foreign = "count_2024.x".to_owned();
    for task in [&ours, &foreign] {
        world.tasks.insert(task.clone(), "a1".to_owned());
        world.update(task, TaskState::Running);
    }
    assert!(world.killed().is_empty());
    assert_eq!(world.core.counters().quarantined_tasks, 2);
    assert!(world.notes.iter().any(|note| note.contains("quarantine")));
    assert!(
        world
            .told
            .iter()
            .any(|c| matches!(c, SchedulerCommand::Acknowledge(_)))
    );
    world.update(&ours, TaskState::Finished);
    assert_eq!(world.core.counters().quarantined_tasks, 1);
    let first = world.live("/web").remove(0);
    world.update(&first, TaskState::Lost);
    world.calm();
    world.tasks.insert(first.clone(), "a1".to_owned());
    world.update(&first, TaskState::Running);
    assert_eq!(
        world
            .killed()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        [first]
    );
}

#[test]
fn every_known_task_is_asked_about_now_and_then() {
    let mut world = running(json!({"id": "/web", "cmd": "x", "instances": 3}));
    world.pass(600_000);
    let asked: Vec<usize> = world
        .told
        .iter()
        .filter_map(|command| match command {
            SchedulerCommand::Reconcile(tasks) => Some(tasks.len()),
            _ => None,
        })
        .collect();
    assert_eq!(asked, [3, 0]);
    world.told.clear();
    world.input(Input::Scheduler(SchedulerEvent::Disconnected));
    world.pass(1_300_000);
    assert!(world.told.is_empty(), "nobody to ask");
    world.subscribe();
    assert!(matches!(&world.told[0], SchedulerCommand::Reconcile(tasks) if tasks.len() == 3));
}

#[test]
fn an_end_of_the_driver_is_told() {
    let mut world = World::new();
    let message = "Framework has been removed".to_owned();
    world.input(Input::Scheduler(SchedulerEvent::Refused {
        message,
        fatal: true,
    }));
    assert!(
        world
            .notes
            .iter()
            .any(|note| note == "Framework has been removed")
    );
}

#[test]
fn given_up_records_do_not_grow_for_ever() {
    let mut world = World::with(Config::default());
    world
        .create(json!({"id": "/web", "cmd": "x"}))
        .expect("taken");
    world.calm();
    let lost = world.live("/web").remove(0);
    world.update(&lost, TaskState::Unreachable);
    world.calm_but(&lost);
    let count = |world: &World| {
        world
            .records
            .keys()
            .filter(|key| key.starts_with("instances-"))
            .count()
    };
    assert_eq!(count(&world), 2);
    world.wall += 15 * 24 * 3600 * 1000;
    world.pass(600_000);
    assert_eq!(count(&world), 1);
}
