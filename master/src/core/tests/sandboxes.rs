//! Reads of sandboxes, over the agent's link.

use mezzo_model::TaskState;
use mezzo_wire::link;
use mezzo_wire::link::agent_message::Body as FromAgent;
use mezzo_wire::link::master_message::Body as Order;

use super::super::testing::*;
use super::super::*;
use super::agents::launched;

#[test]
fn sandboxes_are_read_over_the_agents_link() {
    let mut world = World::new();
    let scheduler = world.framework("a");
    let agent = world.agent("h1", "cpus:4;mem:1024");
    launched(&mut world, &scheduler, &agent, "t1");
    let request = |task: &str| {
        let request = link::ReadSandbox {
            task_id: task.into(),
            path: "stdout".into(),
            ..Default::default()
        };
        Box::new(request)
    };
    let read = |world: &mut World, number: u64, task: &str| {
        world.input(Input::ReadSandbox {
            read: ReadId(number),
            request: request(task),
        });
    };
    read(&mut world, 1, "t1");
    let orders = world.orders(&agent);
    let Order::ReadSandbox(order) = &orders[0] else {
        panic!("{orders:?}")
    };
    assert_eq!(order.framework_id.as_ref(), Some(&scheduler.id));
    let chunk = |data: &'static str, end| link::SandboxChunk {
        request_id: order.request_id,
        data: Some(bytes::Bytes::from_static(data.as_bytes())),
        offset: Some(0),
        end: Some(end),
        error: None,
    };
    world.agent_says(agent.conn, FromAgent::SandboxChunk(chunk("hel", false)));
    world.agent_says(agent.conn, FromAgent::SandboxChunk(chunk("lo", true)));
    world.agent_says(agent.conn, FromAgent::SandboxChunk(chunk("late", false)));
    assert_eq!(world.chunks.len(), 2);
    read(&mut world, 2, "zzz");
    assert!(
        world.chunks[2]
            .1
            .error
            .as_deref()
            .unwrap_or_default()
            .contains("no task 'zzz'")
    );
    read(&mut world, 3, "t1");
    world.orders(&agent);
    world.input(Input::CancelRead { read: ReadId(3) });
    assert!(matches!(
        world.orders(&agent).as_slice(),
        [Order::CancelRead(_)]
    ));
    // A task that has ended can still be read; a cut link ends reads in words.
    world.status(&agent, &scheduler, "t1", TaskState::Finished);
    let events = world.events(&scheduler);
    let status = events
        .iter()
        .find_map(|event| event.update.clone())
        .expect("a status")
        .status;
    world.acknowledge(&scheduler, &status);
    world.orders(&agent);
    read(&mut world, 4, "t1");
    assert!(matches!(
        world.orders(&agent).as_slice(),
        [Order::ReadSandbox(_)]
    ));
    world.cut(&agent);
    assert!(
        world.chunks[3]
            .1
            .error
            .as_deref()
            .unwrap_or_default()
            .contains("disconnected")
    );
    world.events(&scheduler);
    world.finish();
}
