//! Changes of apps: rolling replacement, scaling, conflicts, going back.

use mezzo_model::TaskState;
use serde_json::json;

use crate::core::request::{Answer, ApiCall, Refusal};
use crate::core::testing::{World, app};

const BIG: &str = "cpus:64;mem:65536;disk:65536;ports:[31000-32000]";

fn running(document: serde_json::Value) -> World {
    let mut world = World::new();
    world.create(document).expect("taken");
    world.calm();
    world.told.clear();
    world
}

fn deployments(world: &mut World) -> Vec<crate::core::request::DeploymentView> {
    let Ok(Answer::Deployments(views)) = world.call(ApiCall::Deployments) else {
        panic!()
    };
    views
}

fn counts(world: &mut World, id: &str) -> (u32, u32) {
    let Ok(Answer::App(view)) = world.call(ApiCall::GetApp(app(id))) else {
        panic!()
    };
    (view.spec.instances, view.counts.running)
}

#[test]
fn a_new_version_replaces_the_old_within_its_bounds() {
    for (min, over, first_kills, most) in [
        (1.0, 1.0, 0, 8),
        (0.5, 0.0, 2, 4),
        (1.0, 0.0, 0, 5),
        (0.0, 0.0, 4, 4),
    ] {
        let strategy = json!({"minimumHealthCapacity": min, "maximumOverCapacity": over});
        let mut world = running(
            json!({"id": "/web", "cmd": "one", "instances": 4, "upgradeStrategy": strategy}),
        );
        let old = world.live("/web");
        world
            .put("/web", json!({"cmd": "two"}), false)
            .expect("taken");
        assert_eq!(
            deployments(&mut world)[0].current_actions[0].0.as_str(),
            "RestartApplication"
        );
        let least = (4.0_f64 * min).ceil() as usize;
        let mut killed = world.killed();
        assert_eq!(killed.len(), first_kills, "{min} {over}");
        for _ in 0..60 {
            for task in killed {
                world.update(task.as_str(), TaskState::Killed);
            }
            world.offer("a1", BIG);
            assert!(
                world.live("/web").len() <= most,
                "{min} {over}: {:?}",
                world.live("/web")
            );
            world.all_run();
            killed = world.killed();
            assert!(
                world.live("/web").len() - killed.len() >= least,
                "{min} {over}"
            );
            world.pass(200);
        }
        assert!(deployments(&mut world).is_empty());
        let new = world.live("/web");
        assert_eq!(new.len(), 4);
        assert!(old.iter().all(|task| !new.contains(task)));
    }
}

#[test]
fn an_unhealthy_new_version_does_not_take_the_old_away() {
    let check = json!({"intervalSeconds": 1, "gracePeriodSeconds": 1, "maxConsecutiveFailures": 0});
    let mut world =
        running(json!({"id": "/web", "cmd": "one", "instances": 2, "healthChecks": [check]}));
    let old = world.live("/web");
    world
        .put("/web", json!({"cmd": "two"}), false)
        .expect("taken");
    world.offer("a1", BIG);
    world.all_run();
    for _ in 0..10 {
        world.pass(1000);
        while let Some((probe, _)) = world.probes.pop_front() {
            let result = crate::core::health::ProbeResult::Status(500);
            // The old ones are asked too; they stay well.
            let result = match probe {
                0..=3 => crate::core::health::ProbeResult::Status(200),
                _ => result,
            };
            world.input(crate::core::Input::Probed { probe, result });
        }
        if world.probes.is_empty() && world.now.0 > 20_000 {
            break;
        }
    }
    let left = deployments(&mut world);
    assert_eq!(left.len(), 1, "it waits for a person");
    let id = left[0].id.clone();
    world
        .call(ApiCall::DeleteDeployment { id, force: false })
        .expect("reverted");
    world.calm();
    let Ok(Answer::App(view)) = world.call(ApiCall::GetApp(app("/web"))) else {
        panic!()
    };
    assert_eq!(view.spec.cmd.as_deref(), Some("one"));
    assert_eq!(world.live("/web").len(), 2);
    drop(old);
}

#[test]
fn going_back_leaves_what_never_changed_alone() {
    let mut world = running(json!({"id": "/web", "cmd": "one", "instances": 3}));
    let old = world.live("/web");
    world
        .put("/web", json!({"cmd": "two"}), false)
        .expect("taken");
    let id = deployments(&mut world).remove(0).id;
    world
        .call(ApiCall::DeleteDeployment { id, force: false })
        .expect("reverted");
    world.calm();
    assert_eq!(
        world.live("/web"),
        old,
        "nothing was replaced, so nothing is"
    );
}

#[test]
fn scaling_keeps_tasks_and_suspending_ends_them() {
    let mut world = running(json!({"id": "/web", "cmd": "x", "instances": 2}));
    let before = world.live("/web");
    let Ok(Answer::App(view)) = world.call(ApiCall::GetApp(app("/web"))) else {
        panic!()
    };
    world
        .put("/web", json!({"instances": 5}), false)
        .expect("taken");
    assert_eq!(
        deployments(&mut world)[0].steps[0][0].kind.as_str(),
        "ScaleApplication"
    );
    world.calm();
    assert!(before.iter().all(|task| world.live("/web").contains(task)));
    let Ok(Answer::App(scaled)) = world.call(ApiCall::GetApp(app("/web"))) else {
        panic!()
    };
    let (was, is) = (view.spec.version_info, scaled.spec.version_info);
    assert_eq!(was.last_config_change_at, is.last_config_change_at);
    assert!(was.last_scaling_at < is.last_scaling_at);
    world
        .put("/web", json!({"instances": 0}), false)
        .expect("taken");
    world.calm();
    assert_eq!(counts(&mut world, "/web"), (0, 0));
    assert!(world.live("/web").is_empty());
}

#[test]
fn the_youngest_end_first_or_the_oldest() {
    for (selection, survivor) in [("YOUNGEST_FIRST", 0), ("OLDEST_FIRST", 2)] {
        let mut world =
            running(json!({"id": "/web", "cmd": "x", "instances": 0, "killSelection": selection}));
        let mut order = Vec::new();
        for instances in 1..=3 {
            world
                .put("/web", json!({"instances": instances}), false)
                .expect("taken");
            world.calm();
            order.extend(
                world
                    .live("/web")
                    .into_iter()
                    .filter(|task| !order.contains(task))
                    .collect::<Vec<_>>(),
            );
        }
        world
            .put("/web", json!({"instances": 1}), false)
            .expect("taken");
        world.calm();
        assert_eq!(
            world.live("/web"),
            vec![order[survivor].clone()],
            "{selection}"
        );
    }
}

#[test]
fn a_deleted_app_ends_and_leaves_nothing() {
    let mut world = running(json!({"id": "/web", "cmd": "x", "instances": 3}));
    let deleted = world.call(ApiCall::DeleteApp {
        id: app("/web"),
        force: true,
    });
    assert!(matches!(deleted, Ok(Answer::Deployed(..))));
    assert!(matches!(
        world.call(ApiCall::GetApp(app("/web"))),
        Err(Refusal::NoApp(_))
    ));
    assert_eq!(
        deployments(&mut world)[0].steps[0][0].kind.as_str(),
        "StopApplication"
    );
    world.calm();
    assert!(world.tasks.is_empty());
    assert!(world.records.is_empty(), "{:?}", world.records.keys());
    let again = world.call(ApiCall::DeleteApp {
        id: app("/web"),
        force: true,
    });
    assert_eq!(again.expect_err("gone"), Refusal::NoApp("/web".to_owned()));
}

#[test]
fn a_deployment_holds_its_apps() {
    let mut world = World::new();
    world
        .create(json!({"id": "/web", "cmd": "x"}))
        .expect("taken");
    let id = deployments(&mut world).remove(0).id;
    let refused = world
        .put("/web", json!({"instances": 3}), false)
        .expect_err("locked");
    assert_eq!(refused, Refusal::Locked(vec![id.clone()]));
    assert_eq!(counts(&mut world, "/web"), (1, 0), "nothing was stored");
    let restart = ApiCall::RestartApp {
        id: app("/web"),
        force: false,
    };
    assert!(matches!(world.call(restart), Err(Refusal::Locked(_))));
    world
        .create(json!({"id": "/other", "cmd": "x"}))
        .expect("others are free");
    world
        .put("/web", json!({"instances": 3}), true)
        .expect("forced");
    let left = deployments(&mut world);
    assert_eq!(left.len(), 2);
    assert!(left.iter().all(|one| one.id != id));
    world.calm();
    assert_eq!(counts(&mut world, "/web"), (3, 3));
}

#[test]
fn what_a_forced_change_left_behind_is_cleared_by_the_next() {
    let mut world = running(json!({"id": "/web", "cmd": "one", "instances": 2}));
    let old = world.live("/web");
    world
        .put("/web", json!({"cmd": "two"}), false)
        .expect("taken");
    let id = deployments(&mut world).remove(0).id;
    world
        .call(ApiCall::DeleteDeployment {
            id: id.clone(),
            force: true,
        })
        .expect("stopped");
    world.calm();
    assert_eq!(world.live("/web"), old, "left as it was");
    world
        .put("/web", json!({"instances": 3}), false)
        .expect("taken");
    assert_eq!(
        deployments(&mut world)[0].steps[0][0].kind.as_str(),
        "RestartApplication"
    );
    world.calm();
    assert!(old.iter().all(|task| !world.live("/web").contains(task)));
    let unknown = world.call(ApiCall::DeleteDeployment { id, force: true });
    assert!(matches!(unknown, Err(Refusal::NoDeployment(_))));
}

#[test]
fn restart_replaces_everything_and_versions_can_be_gone_back_to() {
    let mut world = running(json!({"id": "/web", "cmd": "one", "instances": 2}));
    let old = world.live("/web");
    world
        .call(ApiCall::RestartApp {
            id: app("/web"),
            force: false,
        })
        .expect("taken");
    world.calm();
    assert!(old.iter().all(|task| !world.live("/web").contains(task)));
    world
        .put("/web", json!({"cmd": "two"}), false)
        .expect("taken");
    world.calm();
    let Ok(Answer::Versions(versions)) = world.call(ApiCall::Versions(app("/web"))) else {
        panic!()
    };
    assert_eq!(versions.len(), 3);
    assert!(versions.is_sorted_by(|a, b| a > b), "newest first");
    let first = versions[2];
    world
        .put("/web", json!({"version": first.to_string()}), false)
        .expect("taken");
    world.calm();
    let Ok(Answer::App(view)) = world.call(ApiCall::GetApp(app("/web"))) else {
        panic!()
    };
    assert_eq!(view.spec.cmd.as_deref(), Some("one"));
    let unknown = world.put(
        "/web",
        json!({"version": "2001-01-01T00:00:00.000Z"}),
        false,
    );
    assert!(matches!(unknown, Err(Refusal::NoVersion { .. })));
}

#[test]
fn an_unchanged_app_is_no_change() {
    let mut world = running(json!({"id": "/web", "cmd": "x"}));
    let before = world.records.clone();
    let answer = world
        .put("/web", json!({"cmd": "x", "cpus": 1}), false)
        .expect("taken");
    assert!(matches!(answer, Answer::Deployed(_, None)));
    assert!(deployments(&mut world).is_empty());
    assert_eq!(world.records, before);
}

#[test]
fn several_apps_change_together_or_not_at_all() {
    let mut world = running(json!({"id": "/a", "cmd": "x"}));
    let updates = |documents: serde_json::Value| -> Vec<crate::core::app::AppUpdate> {
        let documents = documents.as_array().expect("a list").clone();
        documents
            .iter()
            .map(|one| crate::core::app::AppUpdate::read(one, "").expect("good"))
            .collect()
    };
    let call = |documents| ApiCall::PutApps {
        updates: updates(documents),
        partial: true,
        create: true,
        force: false,
    };
    let bad = world.call(call(json!([{"id": "/a", "instances": 2}, {"id": "/b"}])));
    assert!(bad.expect_err("no command").to_string().contains("/(1)"));
    assert_eq!(counts(&mut world, "/a"), (1, 1));
    for twisted in [
        json!([{"id": "/c", "cmd": "x"}, {"id": "c", "cmd": "x"}]),
        json!([{"id": "/c", "cmd": "x"}, {"id": "/c/d", "cmd": "x"}]),
    ] {
        assert!(world.call(call(twisted)).is_err());
    }
    world
        .call(call(
            json!([{"id": "/a", "instances": 2}, {"id": "/b", "cmd": "y"}]),
        ))
        .expect("taken");
    assert_eq!(deployments(&mut world)[0].apps.len(), 2);
    world.calm();
    assert_eq!((world.live("/a").len(), world.live("/b").len()), (2, 1));
}

#[test]
fn old_versions_do_not_pile_up() {
    let mut world = running(json!({"id": "/web", "cmd": "x"}));
    for n in 0..70 {
        world
            .put("/web", json!({"env": {"N": n.to_string()}}), true)
            .expect("taken");
    }
    world.calm();
    let kept = world
        .records
        .keys()
        .filter(|key| key.starts_with("versions/"))
        .count();
    assert!((50..=53).contains(&kept), "{kept}");
}

#[test]
fn service_ports_are_unique_and_kept() {
    let mut world = World::new();
    for id in ["/a", "/b"] {
        world
            .create(json!({"id": id, "cmd": "x", "ports": [0, 0]}))
            .expect("taken");
    }
    let ports = |world: &mut World, id: &str| -> Vec<u16> {
        let Ok(Answer::App(view)) = world.call(ApiCall::GetApp(app(id))) else {
            panic!()
        };
        view.spec.service_ports().collect()
    };
    assert_eq!(
        (ports(&mut world, "/a"), ports(&mut world, "/b")),
        (vec![10_000, 10_001], vec![10_002, 10_003])
    );
    world
        .put("/a", json!({"ports": [0, 0, 0]}), true)
        .expect("taken");
    assert_eq!(ports(&mut world, "/a"), [10_000, 10_001, 10_004]);
}
