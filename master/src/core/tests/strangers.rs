//! Agents that cannot be taken, and links that do not keep to the order of things.

use mezzo_wire::link::agent_message::Body as FromAgent;
use mezzo_wire::link::master_message::Body as Order;
use mezzo_wire::{link, v1};

use super::super::testing::*;
use super::super::*;
use super::agents::launched;

#[test]
fn strangers_are_refused_in_words() {
    type Change = fn(&mut link::Hello);
    let rows: &[(Change, &str, bool)] = &[
        (
            |h| h.link_version = 2,
            "speaks version 2 of the link, and this master",
            false,
        ),
        (
            |h| {
                h.highest_epoch = Some(link::Epoch {
                    cluster_id: "other".into(),
                    counter: 1,
                })
            },
            "belongs to cluster other, and this master leads cluster test; to let it join",
            false,
        ),
        (
            |h| {
                h.highest_epoch = Some(link::Epoch {
                    cluster_id: "test".into(),
                    counter: 9,
                })
            },
            "a leader of epoch 9 has acted",
            true,
        ),
        (|h| h.agent.hostname = String::new(), "host name", false),
        (
            |h| h.agent.resources[0].scalar = Some(v1::value::Scalar { value: -4.0 }),
            "Resource 'cpus:-4' is invalid",
            false,
        ),
        (
            |h| h.agent.id = Some("../x".into()),
            "the agent's id is not valid",
            false,
        ),
        (
            |h| h.tasks = vec![v1::Task::default()],
            "an agent without an id cannot hold tasks",
            false,
        ),
        (
            |h| {
                h.agent.id = Some("x".into());
                h.tasks = vec![v1::Task {
                    task_id: "a/b".into(),
                    framework_id: "f".into(),
                    ..Default::default()
                }];
            },
            "task 'a/b' is not valid",
            false,
        ),
        (
            |h| {
                h.agent.id = Some("x".into());
                let task = v1::Task {
                    task_id: "a".into(),
                    framework_id: "f".into(),
                    ..Default::default()
                };
                h.tasks = vec![task.clone(), task];
            },
            "it stands twice in the list",
            false,
        ),
        (
            |h| {
                h.agent.id = Some("x".into());
                h.executors = vec![v1::ExecutorInfo {
                    executor_id: "e".into(),
                    ..Default::default()
                }];
            },
            "its framework is not named",
            false,
        ),
        (
            |h| {
                h.agent.attributes = vec![v1::Attribute {
                    name: "rack".into(),
                    r#type: 2,
                    ..Default::default()
                }]
            },
            "attribute 'rack'",
            false,
        ),
    ];
    for (change, words, retry) in rows {
        let mut world = World::new();
        let mut hello = World::hello("h1", "cpus:4;mem:1024");
        change(&mut hello);
        let conn = world.send_hello(&hello);
        match world.next_order(conn) {
            Order::Refused(refused) => {
                assert!(
                    refused.reason.contains(words),
                    "{:?} does not say {words:?}",
                    refused.reason
                );
                assert_eq!(refused.retry, Some(*retry), "{words}");
            }
            other => panic!("{words}: {other:?}"),
        }
        assert!(world.closed.contains(&conn));
        let scheduler = world.framework("a");
        let agent = world.agent("h2", "cpus:4;mem:1024");
        launched(&mut world, &scheduler, &agent, "t1");
        world.finish();
    }
}

#[test]
fn a_link_that_speaks_before_its_hello_is_closed() {
    let mut world = World::new();
    let conn = ConnId(world.fresh());
    world.agent_says(conn, FromAgent::Pong(link::Pong { sequence: 1 }));
    assert_eq!(world.closed, [conn]);
    let agent = world.agent("h1", "cpus:4;mem:1024");
    world.agent_says(agent.conn, FromAgent::Hello(agent.hello.clone()));
    assert!(world.closed.contains(&agent.conn));
    world.finish();
}

#[test]
fn an_agents_word_about_epochs_is_checked_with_the_registry() {
    let mut world = World::new();
    let agent = world.agent("h1", "cpus:4;mem:1024");
    world.auto_commit = false;
    let highest = link::Epoch {
        cluster_id: "test".into(),
        counter: 99,
    };
    world.agent_says(
        agent.conn,
        FromAgent::EpochRefused(link::EpochRefused { highest }),
    );
    let (id, txn) = world.commits.pop_front().expect("asked");
    assert!(txn.ops.is_empty(), "nothing is written");
    assert_eq!(world.stepped_down, None);
    let result = Err(mezzo_coordination::CommitError::Fenced);
    world.input(Input::Committed { id, result });
    assert!(world.stepped_down.is_some());
}
