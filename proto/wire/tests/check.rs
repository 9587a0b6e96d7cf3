//! Reading the binary form from outside.

use mezzo_wire::check::missing;
use mezzo_wire::{DecodeCause, DecodeError, Described, Limits, decode_checked, decode_within, v1};
use proptest::prelude::*;
use prost::Message as _;

fn cause<T: Described + std::fmt::Debug>(bytes: &[u8]) -> String {
    decode_checked::<T>(bytes)
        .expect_err("refused")
        .cause
        .to_string()
}

#[test]
fn absent_required_fields_are_named() {
    let error = decode_checked::<v1::TaskId>(&b""[..]).expect_err("no value");
    assert_eq!(
        error.to_string(),
        "Failed to parse body into TaskID protobuf"
    );
    assert_eq!(error.cause.to_string(), "Missing required fields: value");
    assert_eq!(
        prost::Message::decode(&b""[..]).map(|id: v1::TaskId| id.value),
        Ok(String::new())
    );
    // Call { type: SUBSCRIBE, subscribe { framework_info { name: "x" } } }
    let subscribe = [0x10, 1, 0x1a, 5, 0x0a, 3, 0x12, 1, b'x'];
    assert_eq!(
        cause::<v1::scheduler::Call>(&subscribe),
        "Missing required fields: subscribe.framework_info.user"
    );
    // An empty string is there.
    assert_eq!(
        decode_checked(&[0x0a, 0][..])
            .map(|id: v1::TaskId| id.value)
            .ok(),
        Some("".into())
    );
}

#[test]
fn a_required_enum_of_a_later_version_counts_as_absent() {
    let known = v1::TaskStatus {
        state: 1,
        ..Default::default()
    };
    assert!(decode_checked::<v1::TaskStatus>(&known.encode_to_vec()[..]).is_ok());
    let later = v1::TaskStatus {
        state: 99,
        ..Default::default()
    };
    assert_eq!(missing(&later), ["state"]);
    assert_eq!(
        cause::<v1::TaskStatus>(&later.encode_to_vec()),
        "Missing required fields: state"
    );
}

#[test]
fn parts_of_one_message_are_merged_before_it_is_judged() {
    // TaskStatus { task_id, state } where the agent id comes in two parts, the first one empty.
    let mut bytes = v1::TaskStatus {
        state: 1,
        ..Default::default()
    }
    .encode_to_vec();
    bytes.extend([0x2a, 0]);
    assert_eq!(
        cause::<v1::TaskStatus>(&bytes),
        "Missing required fields: agent_id.value"
    );
    bytes.extend([0x2a, 3, 0x0a, 1, b'a']);
    let status: v1::TaskStatus = decode_checked(&bytes[..]).expect("whole");
    assert_eq!(status.agent_id, Some("a".into()));
}

#[test]
fn unknown_fields_are_passed_over() {
    // Fields 1000 (a varint), 1001 (a group) and 7 of wire type 5, which TaskID does not have.
    let bytes = [
        0xc0, 0x3e, 1, 0xcb, 0x3e, 0xcc, 0x3e, 0x3d, 1, 2, 3, 4, 0x0a, 1, b't',
    ];
    assert_eq!(
        decode_checked(&bytes[..])
            .map(|id: v1::TaskId| id.value)
            .ok(),
        Some("t".into())
    );
}

#[test]
fn what_is_not_the_binary_form_is_refused() {
    for bytes in [
        &b"\x0a"[..],
        b"\x0a\x05a",
        b"\x08\x01",
        b"\xff",
        b"{\"value\":\"x\"}",
        b"\x0a\x01\xff",
    ] {
        match decode_checked::<v1::TaskId>(bytes) {
            Err(DecodeError {
                cause: DecodeCause::Malformed(_),
                ..
            }) => {}
            other => panic!("{bytes:?}: {other:?}"),
        }
    }
}

#[test]
fn size_depth_and_memory_are_bounded() {
    let limits = Limits {
        bytes: 3,
        ..Limits::DEFAULT
    };
    let error = decode_within::<v1::TaskId>(&[0x0a, 2, b'a', b'b'][..], &limits);
    assert!(matches!(
        error.map_err(|error| error.cause),
        Err(DecodeCause::TooLarge { len: 4, limit: 3 })
    ));

    let nested = |depth: usize| {
        let mut id = v1::ContainerId::from("c");
        for _ in 0..depth {
            id = v1::ContainerId {
                value: "c".into(),
                parent: Some(Box::new(id)),
            };
        }
        id.encode_to_vec()
    };
    assert!(decode_checked::<v1::ContainerId>(&nested(100)[..]).is_ok());
    assert_eq!(
        cause::<v1::ContainerId>(&nested(101)),
        "messages are nested more than 100 deep"
    );

    // ACCEPT with two million empty operations: 4 MB that would become gigabytes.
    let mut accept = Vec::new();
    (0..2_000_000).for_each(|_| accept.extend([0x12, 0]));
    let mut call = vec![0x10, 3, 0x22];
    prost::encoding::encode_varint(accept.len() as u64, &mut call);
    call.extend(accept);
    assert!(cause::<v1::scheduler::Call>(&call).contains("bytes of memory"));
}

/// Ten thousand of the shortest tasks in one call stay below the bound on memory.
#[test]
fn honest_messages_are_cheap() {
    let task = |i: usize| v1::TaskInfo {
        name: format!("t{i}"),
        task_id: format!("t{i}").into(),
        agent_id: "S0".into(),
        resources: vec![
            v1::Resource::scalar("cpus", 0.1),
            v1::Resource::scalar("mem", 32.0),
        ],
        command: Some(v1::CommandInfo {
            value: Some("true".into()),
            ..Default::default()
        }),
        ..Default::default()
    };
    let launch = v1::offer::operation::Launch {
        task_infos: (0..10_000).map(task).collect(),
    };
    let bytes = launch.encode_to_vec();
    decode_checked::<v1::offer::operation::Launch>(&bytes[..]).expect("honest");
}

proptest! {
    #[test]
    fn any_bytes_end(bytes: Vec<u8>) {
        let _ = decode_checked::<v1::scheduler::Call>(&bytes[..]);
        let _ = decode_checked::<v1::master::Response>(&bytes[..]);
    }

    /// A good call with some bytes changed: refused or read, and what was read lacks nothing.
    #[test]
    fn damaged_calls_end(
        line in 0usize..40,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let calls = include_str!("data/scheduler_calls.jsonl");
        let line = calls.lines().nth(line).expect("40 calls");
        let call: v1::scheduler::Call = mezzo_wire::json::from_slice(line.as_bytes()).expect(line);
        let mut bytes = call.encode_to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(call) = decode_checked::<v1::scheduler::Call>(&bytes[..]) {
            prop_assert_eq!(missing(&call), Vec::<String>::new());
            mezzo_wire::json::to_vec(&call);
        }
    }
}
