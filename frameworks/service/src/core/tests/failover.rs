//! A new leader in the middle of everything: whatever the moment, the story ends the same.

use mezzo_coordination::CommitError;
use proptest::prelude::*;
use serde_json::json;

use crate::core::request::{Answer, ApiCall};
use crate::core::testing::{World, app};

const BIG: &str = "cpus:64;mem:65536;disk:65536;ports:[31000-32000]";

#[test]
fn a_new_leader_finds_everything_and_touches_nothing() {
    let mut world = World::new();
    world
        .create(json!({"id": "/web", "cmd": "x", "instances": 5, "healthChecks": [{"path": "/"}]}))
        .expect("taken");
    world.calm();
    let before = world.live("/web");
    world.fail_over();
    assert!(world.killed().is_empty());
    world.offer("a1", BIG);
    world.calm();
    assert_eq!(world.live("/web"), before);
    let Ok(Answer::App(view)) = world.call(ApiCall::GetApp(app("/web"))) else {
        panic!()
    };
    assert_eq!((view.counts.running, view.counts.healthy), (5, 5));
}

#[test]
fn a_launch_that_was_written_and_never_sent_is_tried_again_under_another_name() {
    let mut world = World::new();
    world
        .create(json!({"id": "/web", "cmd": "x"}))
        .expect("taken");
    world.offer("a1", BIG);
    let lost = world.live("/web").remove(0);
    world.tasks.clear();
    world.fail_over();
    world.calm();
    assert_eq!(world.live("/web"), vec![lost.replace("._app.1", "._app.2")]);
}

#[test]
fn a_kill_survives_its_leader() {
    let mut world = World::new();
    world
        .create(json!({"id": "/web", "cmd": "x", "instances": 2}))
        .expect("taken");
    world.calm();
    world
        .put("/web", json!({"instances": 1}), false)
        .expect("taken");
    let doomed = world.killed();
    assert_eq!(doomed.len(), 1);
    world.fail_over();
    assert_eq!(world.killed(), doomed);
}

#[test]
fn a_record_of_a_newer_version_is_refused_in_words() {
    let mut world = World::new();
    world
        .create(json!({"id": "/web", "cmd": "x"}))
        .expect("taken");
    world.calm();
    for key in world.records.keys().cloned().collect::<Vec<_>>() {
        let text = String::from_utf8(world.records[&key].to_vec()).expect("JSON");
        let newer = text.replacen("\"format\":1", "\"format\":2", 1);
        assert_ne!(newer, text, "{key} carries its format");
        let record = |value: String| mezzo_coordination::Record {
            key: key.clone(),
            value: value.into(),
            version: 1,
        };
        let mut core = crate::core::Core::new(crate::core::Config::default(), 9);
        let words = core.load(&[record(newer)]).expect_err("newer").to_string();
        assert!(
            words.contains("has format 2, this version knows 1"),
            "{words}"
        );
        let words = core
            .load(&[record("{\"format\":1".to_owned())])
            .expect_err("broken")
            .to_string();
        assert!(
            words.contains(&key) && words.contains("cannot be read"),
            "{words}"
        );
    }
}

/// One thing that happens in a random story.
#[derive(Clone, Debug)]
enum Step {
    Deploy(u8),
    Scale(u8),
    Restart,
    Offer(u8),
    Run,
    Die,
    Fail,
    Pass(u16),
    NewLeader,
    LoseUnsent,
    /// The store stops answering.
    Hold,
    /// It answers one commit.
    LetCommit,
    /// It says that it does not know.
    Doubt,
    /// It answers everything again.
    Release,
    /// The leader dies with a commit under way, which happened or did not.
    DieCommitting {
        happened: bool,
        subscribes: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3_u8).prop_map(Step::Deploy),
        (0..5_u8).prop_map(Step::Scale),
        Just(Step::Restart),
        (0..3_u8).prop_map(Step::Offer),
        Just(Step::Run),
        Just(Step::Run),
        Just(Step::Die),
        Just(Step::Die),
        Just(Step::Fail),
        (1..4000_u16).prop_map(Step::Pass),
        Just(Step::NewLeader),
        Just(Step::LoseUnsent),
        Just(Step::Hold),
        Just(Step::LetCommit),
        Just(Step::Doubt),
        Just(Step::Release),
        (any::<bool>(), any::<bool>()).prop_map(|(happened, subscribes)| Step::DieCommitting {
            happened,
            subscribes
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_story_ends_with_what_was_wanted(
        steps in prop::collection::vec(step(), 1..40),
        min in 0_u8..3,
        over in 0_u8..3,
    ) {
        let strategy = json!({
            "minimumHealthCapacity": f64::from(min) / 2.0,
            "maximumOverCapacity": f64::from(over) / 2.0,
        });
        let mut world = World::new();
        world.create(json!({"id": "/web", "cmd": "0", "instances": 3, "upgradeStrategy": strategy})).expect("taken");
        let (mut cmd, mut instances) = ("0".to_owned(), 3);
        for step in steps {
            match step {
                Step::Deploy(n) => {
                    cmd = n.to_string();
                    world.insist("/web", json!({"cmd": cmd}));
                }
                Step::Scale(n) => {
                    instances = u32::from(n);
                    world.insist("/web", json!({"instances": n}));
                }
                Step::Restart => {
                    world.send(ApiCall::RestartApp { id: app("/web"), force: true });
                }
                Step::Offer(agent) => world.offer(&format!("a{agent}"), "cpus:3;mem:65536;ports:[31000-32000]"),
                Step::Run => world.all_run(),
                Step::Die => drop(world.die()),
                Step::Fail => {
                    if let Some(task) = world.tasks.keys().next().cloned() {
                        world.update(&task, mezzo_model::TaskState::Failed);
                    }
                }
                Step::Pass(millis) => world.pass(u64::from(millis)),
                Step::NewLeader => world.fail_over(),
                Step::LoseUnsent => {
                    // The leader dies after its record was written and before its accept arrived.
                    if let Some(task) = world.tasks.keys().next_back().cloned() {
                        world.tasks.remove(&task);
                    }
                    world.fail_over();
                }
                Step::Hold => world.hold_commits = true,
                Step::LetCommit => world.let_commit(),
                Step::Doubt => world.fail_commit(CommitError::Unavailable),
                Step::Release => world.release(),
                Step::DieCommitting { happened, subscribes } => {
                    if happened {
                        world.write_held();
                    }
                    world.hold_commits = false;
                    if subscribes {
                        world.fail_over();
                    } else {
                        world.restart_unsubscribed();
                    }
                }
            }
        }
        world.release();
        world.fail_over();
        world.put("/web", json!({"cmd": cmd, "instances": instances}), true).expect("taken");
        world.pass(400_000);
        world.calm();
        prop_assert_eq!(world.live("/web").len() as u32, instances);
        let Ok(Answer::App(view)) = world.call(ApiCall::GetApp(app("/web"))) else { panic!() };
        prop_assert_eq!(view.spec.cmd.as_deref(), Some(cmd.as_str()));
        for task in view.tasks.expect("embedded") {
            prop_assert_eq!(task.instance.spec.cmd.as_deref(), Some(cmd.as_str()));
        }
        world.call(ApiCall::DeleteApp { id: app("/web"), force: true }).expect("taken");
        world.calm();
        prop_assert!(world.tasks.is_empty());
        prop_assert!(world.records.is_empty(), "{:?}", world.records.keys());
    }
}

#[test]
fn a_new_leader_overrides_a_deployment_that_it_did_not_begin() {
    for subscribed in [true, false] {
        let mut world = World::new();
        world
            .create(json!({"id": "/web", "cmd": "0"}))
            .expect("taken");
        world.calm();
        world
            .put("/web", json!({"cmd": "1"}), false)
            .expect("taken");
        if subscribed {
            world.fail_over();
        } else {
            world.restart_unsubscribed();
        }
        world.put("/web", json!({"cmd": "2"}), true).expect("taken");
        let held = world
            .records
            .keys()
            .filter(|key| key.starts_with("deployments/"))
            .count();
        assert_eq!(held, 1, "{:?}", world.records.keys());
    }
}
