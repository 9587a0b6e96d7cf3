//! What a scheduler can send that is wrong: refused with status and words, and nobody else feels it.

mod rows;

use mezzo_wire::link::master_message::Body as Order;
use mezzo_wire::v1;
use mezzo_wire::v1::scheduler::Call;
use mezzo_wire::v1::scheduler::call::Type;

use super::super::testing::*;
use super::super::*;
use rows::{ROWS, Scene, Seen, scene};

#[test]
fn every_wrong_call_is_answered_and_the_cluster_goes_on() {
    assert!(ROWS.len() >= 60, "{} rows", ROWS.len());
    for row in ROWS {
        let mut scene = scene();
        let mut call = Call {
            framework_id: Some(scene.attacker.id.clone()),
            r#type: Some(Type::Revive as i32),
            ..Default::default()
        };
        (row.change)(&mut call, &scene);
        let world = &mut scene.world;
        let is_subscribe = call.r#type == Some(Type::Subscribe as i32);
        let text = match row.seen {
            Seen::Status(status) if is_subscribe => {
                let conn = world.send_subscribe(call);
                let refusal = world.refused.remove(&conn).expect(row.name);
                assert_eq!(refusal.status, status, "{}: {refusal}", row.name);
                refusal.text
            }
            Seen::Status(status) => {
                let refusal = world
                    .call_raw(scene.attacker.stream.as_ref(), call)
                    .expect_err(row.name);
                assert_eq!(refusal.status, status, "{}: {refusal}", row.name);
                refusal.text
            }
            Seen::Error => {
                let conn = world.send_subscribe(call);
                let event = world.next_event(conn);
                assert!(world.closed.contains(&conn), "{}", row.name);
                event.error.expect(row.name).message
            }
            Seen::Update(state) => {
                assert_eq!(
                    world.call_raw(scene.attacker.stream.as_ref(), call),
                    Ok(()),
                    "{}",
                    row.name
                );
                let events = world.events(&scene.attacker);
                let again = events.iter().filter_map(|event| event.offers.as_ref());
                if let Some(offer) = again.flat_map(|offers| &offers.offers).last() {
                    // Given back and offered anew.
                    scene.offer = offer.clone();
                }
                let status = events
                    .iter()
                    .find_map(|e| e.update.clone())
                    .expect(row.name)
                    .status;
                assert_eq!(status.state, state.number(), "{}: {status:?}", row.name);
                status.message.unwrap_or_default()
            }
            Seen::Nothing => {
                assert_eq!(
                    world.call_raw(scene.attacker.stream.as_ref(), call),
                    Ok(()),
                    "{}",
                    row.name
                );
                assert!(world.events(&scene.attacker).is_empty(), "{}", row.name);
                String::new()
            }
        };
        assert!(
            text.contains(row.words),
            "{}: {text:?} does not say {:?}",
            row.name,
            row.words
        );
        assert!(text.len() < 5000, "{}: {} bytes", row.name, text.len());
        unharmed(scene, row.name);
    }
}

/// The victim's offer and task are as they were, and both can still launch.
fn unharmed(mut scene: Scene, name: &str) {
    let world = &mut scene.world;
    assert!(world.story(&scene.victim).is_empty(), "{name}");
    assert!(
        world.orders(&scene.agents[0]).is_empty() && world.orders(&scene.agents[1]).is_empty(),
        "{name}"
    );
    let more = vec![task("more", &scene.agents[0].id, "cpus:1;mem:32")];
    world.launch(&scene.victim, &[&scene.victims_offer], more, 1e9);
    assert!(
        matches!(
            world.orders(&scene.agents[0]).as_slice(),
            [Order::RunTask(_)]
        ),
        "{name}"
    );
    world.revive(&scene.attacker);
    world.pass(6000);
    let own = world
        .events(&scene.attacker)
        .into_iter()
        .filter_map(|event| event.offers);
    let own: Vec<v1::Offer> = own.flat_map(|offers| offers.offers).collect();
    let offer = own
        .iter()
        .find(|offer| offer.agent_id == scene.agents[1].id)
        .cloned()
        .unwrap_or_else(|| scene.offer.clone());
    let fine = vec![task("fine", &scene.agents[1].id, "cpus:1;mem:32")];
    world.launch(&scene.attacker, &[&offer], fine, 1e9);
    assert!(
        matches!(
            world.orders(&scene.agents[1]).as_slice(),
            [Order::RunTask(_)]
        ),
        "{name}"
    );
}

#[test]
fn stream_ids_are_asked_for() {
    let mut scene = scene();
    let call = Call {
        framework_id: Some(scene.attacker.id.clone()),
        r#type: Some(Type::Revive as i32),
        ..Default::default()
    };
    let refused = scene
        .world
        .call_raw(None, call.clone())
        .expect_err("no stream id");
    assert_eq!(
        (refused.status, refused.text.as_str()),
        (
            400,
            "All non-subscribe calls should include the 'Mesos-Stream-Id' header"
        )
    );
    let conn = ConnId(scene.world.fresh());
    let subscribe = World::subscribe_call(World::info("x"));
    let stream_id = Some("x".to_owned());
    scene.world.input(Input::Subscribe {
        conn,
        principal: None,
        stream_id,
        call: subscribe.into(),
    });
    let refusal = scene.world.refused.remove(&conn).expect("refused");
    assert_eq!(
        refusal.text,
        "Subscribe calls should not include the 'Mesos-Stream-Id' header"
    );
    scene.world.disconnect(&scene.attacker);
    let refused = scene
        .world
        .call_raw(scene.attacker.stream.as_ref(), call)
        .expect_err("gone");
    assert_eq!(
        (refused.status, refused.text.as_str()),
        (403, "Framework is not subscribed")
    );
}

#[test]
fn principals_are_held_to() {
    let mut world = World::new();
    let conn = ConnId(world.fresh());
    let mut info = World::info("a");
    info.principal = Some("bob".into());
    let call = World::subscribe_call(info);
    let principal = Some("ann".into());
    world.input(Input::Subscribe {
        conn,
        principal,
        stream_id: None,
        call: call.into(),
    });
    assert_eq!(
        world
            .refused
            .remove(&conn)
            .map(|refusal| refusal.text)
            .as_deref(),
        Some(
            "Failed to validate scheduler::Call: Authenticated principal 'ann' does not match principal 'bob' set in \
             `FrameworkInfo`"
        )
    );
    // One that is not named is filled in, and others cannot speak for it.
    let conn = ConnId(world.fresh());
    let call = World::subscribe_call(World::info("a"));
    let principal = Some("ann".into());
    world.input(Input::Subscribe {
        conn,
        principal,
        stream_id: None,
        call: call.into(),
    });
    let stream = world.opened.get(&conn).cloned().expect("open");
    let id = world
        .next_event(conn)
        .subscribed
        .expect("subscribed")
        .framework_id;
    let call = Call {
        framework_id: Some(id),
        r#type: Some(Type::Revive as i32),
        ..Default::default()
    };
    let request = crate::keys::RequestId(world.fresh());
    world.input(Input::Call {
        request,
        principal: Some("eve".into()),
        stream_id: Some(stream.to_string()),
        call: call.into(),
    });
    let refused = world
        .replies
        .remove(&request)
        .expect("answered")
        .expect_err("eve");
    assert!(
        refused
            .text
            .contains("'eve' does not match principal 'ann'"),
        "{refused}"
    );
}

#[test]
fn roles_and_users_can_be_closed() {
    let role = mezzo_model::Role::parse("eng").expect("a role");
    let mut world = World::with(|config| {
        config.policy.roles = Some([role].into());
        config.policy.no_root = true;
    });
    let mut info = World::info("a");
    info.role = Some("ops".into());
    let conn = world.send_subscribe(World::subscribe_call(info));
    assert!(
        brief(&world.next_event(conn)).contains("{ ops } are not present in the master's --roles")
    );
    let mut info = World::info("a");
    info.user = "root".into();
    let conn = world.send_subscribe(World::subscribe_call(info));
    assert!(brief(&world.next_event(conn)).contains("User 'root' is not allowed"));
    let mut info = World::info("a");
    info.role = Some("eng".into());
    world.subscribe(info);
    world.finish();
}
