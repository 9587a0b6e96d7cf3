//! From a document to a running task, and what happens to offers on the way.

use mezzo_coordination::CommitError;
use mezzo_model::TaskState;
use mezzo_sdk::scheduler::SchedulerCommand;
use serde_json::json;

use crate::core::placement::reasons::Reason;
use crate::core::request::{Answer, ApiCall, KillOptions, Refusal};
use crate::core::testing::{World, app};
use crate::core::{Config, Input};

const BIG: &str = "cpus:64;mem:65536;disk:65536;ports:[31000-32000]";

fn is_suppress(command: &SchedulerCommand) -> bool {
    matches!(command, SchedulerCommand::Suppress { .. })
}

fn is_revive(command: &SchedulerCommand) -> bool {
    matches!(command, SchedulerCommand::Revive { .. })
}

#[test]
fn nothing_waits_nothing_is_asked_for() {
    let mut world = World::new();
    assert!(world.told.iter().any(is_suppress));
    world.told.clear();
    world.offer("a1", BIG);
    assert!(
        matches!(&world.told[..], [SchedulerCommand::Decline { offers, filters }]
        if offers.len() == 1 && filters.and_then(|f| f.refuse_seconds) == Some(120.0))
    );
}

#[test]
fn an_app_is_launched_and_offers_are_let_go() {
    let mut world = World::new();
    world.told.clear();
    let created = world
        .create(json!({"id": "/web", "cmd": "serve", "instances": 2}))
        .expect("taken");
    let Answer::Created(view, deployed) = created else {
        panic!("{created:?}")
    };
    assert_eq!(view.deployments, vec![deployed.deployment.clone()]);
    assert_eq!(view.spec.version, deployed.version);
    assert!(world.told.iter().any(is_revive), "{:?}", world.told);
    world.told.clear();
    world.offer("a1", BIG);
    let accepts: Vec<_> = world
        .told
        .iter()
        .filter(|c| matches!(c, SchedulerCommand::Accept { .. }))
        .collect();
    assert_eq!(accepts.len(), 1, "both go with one accept");
    assert!(world.told.iter().any(is_suppress), "nothing waits any more");
    assert_eq!(world.live("/web").len(), 2);
    world.all_run();
    let Ok(Answer::Deployments(left)) = world.call(ApiCall::Deployments) else {
        panic!()
    };
    assert!(left.is_empty());
    let Ok(Answer::App(view)) = world.call(ApiCall::GetApp(app("/web"))) else {
        panic!()
    };
    assert_eq!((view.counts.running, view.counts.staged), (2, 0));
    let tasks = view.tasks.expect("embedded");
    assert_eq!(tasks[0].instance.place.host, "host-of-a1");
    assert_eq!(tasks[0].instance.place.ports.len(), 1);
}

#[test]
fn nothing_happens_before_it_is_durable() {
    let mut world = World::new();
    world.told.clear();
    world.hold_commits = true;
    let update =
        crate::core::app::AppUpdate::read(&json!({"id": "/web", "cmd": "x"}), "").expect("good");
    let request = world.send(ApiCall::CreateApp {
        update: Box::new(update),
        force: false,
    });
    assert!(!world.replies.contains_key(&request), "not durable yet");
    world.let_commit();
    assert!(world.replies.get(&request).is_some_and(Result::is_ok));
    world.told.clear();
    world.offer("a1", BIG);
    assert!(
        world.live("/web").is_empty(),
        "the launch is not written down yet"
    );
    world.fail_commit(CommitError::Unavailable);
    assert!(world.live("/web").is_empty());
    world.pass(200);
    assert_eq!(world.held.len(), 1, "tried again");
    world.let_commit();
    assert_eq!(world.live("/web").len(), 1);
    world.update(&world.live("/web")[0].clone(), TaskState::Running);
    assert!(
        !world
            .told
            .iter()
            .any(|c| matches!(c, SchedulerCommand::Acknowledge(_)))
    );
    world.let_commit();
    assert!(
        world
            .told
            .iter()
            .any(|c| matches!(c, SchedulerCommand::Acknowledge(_)))
    );
}

#[test]
fn a_lost_term_ends_everything() {
    let mut world = World::new();
    world.hold_commits = true;
    let update =
        crate::core::app::AppUpdate::read(&json!({"id": "/web", "cmd": "x"}), "").expect("good");
    world.send(ApiCall::CreateApp {
        update: Box::new(update),
        force: false,
    });
    world.fail_commit(CommitError::Fenced);
    assert!(world.deposed);
    assert_eq!(
        world.call(ApiCall::Deployments).expect_err("over"),
        Refusal::NotLeading
    );
    world.told.clear();
    world.offer("a1", BIG);
    assert!(world.told.is_empty());
}

#[test]
fn what_does_not_fit_waits_and_says_why_and_others_go_on() {
    let mut world = World::new();
    world
        .create(json!({"id": "/huge", "cmd": "x", "cpus": 9999}))
        .expect("taken");
    world
        .create(json!({"id": "/picky", "cmd": "x", "constraints": [["rack", "CLUSTER", "r9"]]}))
        .expect("taken");
    world.told.clear();
    world.offer_with("a1", BIG, "rack:r1");
    world.offer_with("a2", BIG, "rack:r2");
    assert_eq!(
        world.told.len(),
        2,
        "declined at once, and not asked for again: {:?}",
        world.told
    );
    world
        .create(json!({"id": "/small", "cmd": "x"}))
        .expect("taken");
    world.offer_with("a1", BIG, "rack:r1");
    assert_eq!(world.live("/small").len(), 1);
    let Ok(Answer::Queue(queue)) = world.call(ApiCall::Queue {
        last_unused_offers: true,
    }) else {
        panic!()
    };
    let huge = queue
        .iter()
        .find(|view| view.spec.id == app("/huge"))
        .expect("queued");
    assert_eq!(
        (huge.count, huge.stats.processed, huge.stats.unused),
        (1, 3, 3)
    );
    assert_eq!(
        huge.stats.last_refusals().get(&Reason::InsufficientCpus),
        Some(&2),
        "two agents"
    );
    assert_eq!(huge.stats.last_offers.len(), 3);
    let picky = queue
        .iter()
        .find(|view| view.spec.id == app("/picky"))
        .expect("queued");
    assert_eq!(
        picky.stats.since_launch.get(&Reason::UnfulfilledConstraint),
        Some(&3)
    );
}

#[test]
fn rules_are_kept_over_agents() {
    let mut world = World::new();
    let document = json!({"id": "/one-per-host", "cmd": "x", "instances": 3, "constraints": [["hostname", "UNIQUE"]]});
    world.create(document).expect("taken");
    for agent in ["a1", "a1", "a2", "a1", "a3"] {
        world.offer(agent, BIG);
    }
    let agents: std::collections::BTreeSet<&String> = world.tasks.values().collect();
    assert_eq!((world.tasks.len(), agents.len()), (3, 3));
}

#[test]
fn an_offer_takes_no_more_than_allowed_and_the_rest_is_asked_for_again() {
    let mut world = World::with(Config {
        max_instances_per_offer: 2,
        ..Config::default()
    });
    world
        .create(json!({"id": "/web", "cmd": "x", "instances": 3}))
        .expect("taken");
    world.told.clear();
    world.offer("a1", BIG);
    assert_eq!(world.live("/web").len(), 2);
    world.pass(150);
    assert!(world.told.iter().any(is_revive));
    world.offer("a1", BIG);
    assert_eq!(world.live("/web").len(), 3);
}

#[test]
fn a_dropped_launch_is_tried_again_under_another_name_without_delay() {
    let mut world = World::new();
    world
        .create(json!({"id": "/web", "cmd": "x", "backoffSeconds": 100}))
        .expect("taken");
    world.offer("a1", BIG);
    let first = world.live("/web").remove(0);
    let status = mezzo_wire::v1::TaskStatus {
        task_id: mezzo_wire::v1::TaskId {
            value: first.clone(),
        },
        state: TaskState::Dropped.number(),
        reason: Some(mezzo_wire::v1::task_status::Reason::InvalidOffers as i32),
        ..Default::default()
    };
    world.status(status);
    world.offer("a1", BIG);
    let second = world.live("/web").remove(0);
    assert_eq!(second, first.replace("._app.1", "._app.2"));
}

#[test]
fn tasks_are_killed_by_request_and_replaced_or_not() {
    let mut world = World::new();
    world
        .create(json!({"id": "/web", "cmd": "x", "instances": 4}))
        .expect("taken");
    world.calm();
    let task = world.live("/web").remove(0);
    let kill = |options| ApiCall::KillAppTask {
        id: app("/web"),
        task: task.clone(),
        options,
    };
    assert!(matches!(
        world.call(kill(KillOptions::default())),
        Ok(Answer::Task(_))
    ));
    world.calm();
    let live = world.live("/web");
    assert_eq!(live.len(), 4);
    assert!(
        live.contains(&task.replace("._app.1", "._app.2")),
        "the same instance again: {live:?}"
    );
    let wipe = KillOptions {
        wipe: true,
        ..KillOptions::default()
    };
    let again = world
        .call(kill(wipe))
        .expect("an older incarnation names the instance");
    assert!(matches!(again, Answer::Task(_)));
    world.calm();
    let prefix = task.trim_end_matches("._app.1").to_owned();
    assert!(
        !world
            .live("/web")
            .iter()
            .any(|task| task.starts_with(&prefix)),
        "a new instance"
    );
    let scale = KillOptions {
        scale: true,
        ..KillOptions::default()
    };
    let doomed = world.live("/web").remove(1);
    let call = ApiCall::KillAppTask {
        id: app("/web"),
        task: doomed.clone(),
        options: scale,
    };
    assert!(matches!(world.call(call), Ok(Answer::Deployed(..))));
    world.calm();
    assert_eq!(world.live("/web").len(), 3);
    assert!(!world.live("/web").contains(&doomed));
    let both = KillOptions {
        scale: true,
        wipe: true,
        force: false,
    };
    let all = ApiCall::KillAppTasks {
        id: app("/web"),
        host: None,
        options: both,
    };
    assert!(matches!(world.call(all), Err(Refusal::BadRequest(_))));
    let gone = ApiCall::KillAppTask {
        id: app("/web"),
        task: doomed,
        options: scale,
    };
    assert!(matches!(world.call(gone), Err(Refusal::NoTask(_))));
}

#[test]
fn a_tick_without_news_changes_nothing() {
    let mut world = World::new();
    world
        .create(json!({"id": "/web", "cmd": "x"}))
        .expect("taken");
    world.calm();
    world.told.clear();
    let before = world.records.clone();
    for _ in 0..10 {
        world.input(Input::Tick);
    }
    assert!(world.told.is_empty());
    assert_eq!(world.records, before);
}

#[test]
fn changes_do_not_pile_up_before_a_store_that_is_away() {
    let mut world = World::new();
    world
        .create(json!({"id": "/web", "cmd": "x"}))
        .expect("taken");
    world.hold_commits = true;
    let mut refused = None;
    for n in 0..5000 {
        let document = json!({"env": {"N": n.to_string()}});
        let update = Box::new(crate::core::app::AppUpdate::read(&document, "").expect("good"));
        let id = app("/web");
        let request = world.send(ApiCall::PutApp {
            id,
            update,
            partial: true,
            create: true,
            force: true,
        });
        if let Some(Err(refusal)) = world.replies.remove(&request) {
            refused = Some(refusal);
            break;
        }
    }
    assert_eq!(refused, Some(Refusal::StoreBehind));
    let reads = world.call(ApiCall::GetApp(app("/web")));
    assert!(reads.is_ok(), "what is known can still be read");
    world.hold_commits = false;
    world.let_commit();
    assert!(world.put("/web", json!({"cmd": "y"}), true).is_ok());
}

#[test]
fn a_large_app_is_looked_at_a_moment_later_and_ends_up_the_same() {
    let mut world = World::with(Config {
        max_instances_per_offer: 1000,
        ..Config::default()
    });
    let document =
        json!({"id": "/web", "cmd": "x", "cpus": 0.01, "mem": 1, "instances": 600, "ports": []});
    world.create(document).expect("taken");
    world.offer("a1", BIG);
    assert_eq!(world.live("/web").len(), 600);
    world.all_run();
    world.pass(50);
    let Ok(Answer::Deployments(left)) = world.call(ApiCall::Deployments) else {
        panic!()
    };
    assert!(left.is_empty());
    for task in world.live("/web").into_iter().take(100) {
        world.update(&task, TaskState::Gone);
    }
    world.pass(50);
    world.offer("a1", BIG);
    assert_eq!(world.live("/web").len(), 600);
    world
        .put("/web", json!({"instances": 10}), false)
        .expect("taken");
    world.pass(50);
    assert_eq!(world.die(), 590);
    world.pass(50);
    let Ok(Answer::Deployments(left)) = world.call(ApiCall::Deployments) else {
        panic!()
    };
    assert!(left.is_empty());
}
