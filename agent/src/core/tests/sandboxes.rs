//! Old sandboxes, and reads of new ones.

use mezzo_model::{Millis, TaskState};
use mezzo_wire::link;
use mezzo_wire::link::agent_message::Body as Said;
use mezzo_wire::link::master_message::Body as Order;
use mezzo_wire::v1;

use super::super::io::{Config, ContainerEnd, Input, Output};
use super::super::testing::{Env, scalar};

fn config(sandboxes_max: usize) -> Config {
    Config {
        sandboxes_max,
        gc_delay: Millis::from_secs(7_200),
        ..Config::new("host", vec![scalar("cpus", 1.0)])
    }
}

/// A task that ran to its end.
fn done(env: &mut Env, id: &str) {
    let (launch, conn) = env.running(id);
    let uuid = env.update(conn, &launch, id, TaskState::Finished);
    env.expect_reads_end();
    env.expect_acknowledged_and_sent(TaskState::Finished);
    env.acknowledge(id, uuid);
    env.ended(&launch, ContainerEnd::default());
}

fn quiet(env: &mut Env, span: Millis) {
    let mut left = span;
    while left > Millis::ZERO {
        let step = left.min(Millis::from_secs(60));
        env.pass(step);
        env.master(1, Order::Ping(link::Ping { sequence: 0 }));
        if env.core.is_up() {
            loop {
                match env.next("a pong") {
                    Output::ToMaster { .. } => break,
                    Output::RemoveSandbox { place } => {
                        env.input(Input::SandboxRemoved {
                            container: place.container,
                        });
                    }
                    other => panic!("unexpected {other:?}"),
                }
            }
        }
        left = left - step;
    }
}

#[test]
fn an_old_sandbox_is_removed() {
    let mut env = Env::with(config(100));
    env.register();
    done(&mut env, "a");
    quiet(&mut env, Millis::from_secs(7_000));
    assert_eq!(env.core.ledger().sandboxes().count(), 1);
    quiet(&mut env, Millis::from_secs(300));
    assert_eq!(env.core.ledger().sandboxes().count(), 0);
    env.finish();
}

#[test]
fn too_many_sandboxes_lose_the_oldest() {
    let mut env = Env::with(config(2));
    env.register();
    for id in ["a", "b"] {
        done(&mut env, id);
        env.pass(Millis(10));
    }
    env.finish();
    done(&mut env, "c");
    let place = match env.next("a removal") {
        Output::RemoveSandbox { place } => place,
        other => panic!("expected a removal, got {other:?}"),
    };
    assert_eq!(place.executor.as_str(), "a");
    env.input(Input::SandboxRemoved {
        container: place.container,
    });
    assert_eq!(env.core.ledger().sandboxes().count(), 2);
    env.finish();
}

fn read(id: &str, follow: bool) -> Order {
    Order::ReadSandbox(link::ReadSandbox {
        request_id: Some(7),
        framework_id: None,
        task_id: v1::TaskId {
            value: id.to_owned(),
        },
        path: "stdout".to_owned(),
        follow: Some(follow),
        ..Default::default()
    })
}

#[test]
fn a_read_finds_the_sandbox_of_a_task_that_lives_or_has_ended() {
    let mut env = Env::registered();
    let (launch, _) = env.running("t");
    env.master(1, read("t", true));
    match env.next("a read") {
        Output::Read(read) => assert!(read.follow && read.place == launch.place),
        other => panic!("expected a read, got {other:?}"),
    }
    done(&mut env, "u");
    env.master(1, read("u", true));
    match env.next("a read") {
        Output::Read(read) => assert!(!read.follow, "nothing more will come"),
        other => panic!("expected a read, got {other:?}"),
    }
    env.master(1, read("nobody", false));
    match env.said() {
        Said::SandboxChunk(chunk) => {
            assert_eq!((chunk.request_id, chunk.end), (Some(7), Some(true)));
            assert!(
                chunk
                    .error
                    .is_some_and(|words| words.contains("no sandbox"))
            );
        }
        other => panic!("expected words, got {other:?}"),
    }
    env.master(1, Order::CancelRead(link::CancelRead { request_id: 7 }));
    assert!(matches!(
        env.next("a cancel"),
        Output::CancelRead { request: 7, .. }
    ));
    env.finish();
}
