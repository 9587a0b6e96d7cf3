//! Messages that a real Mesos sent and took: read, written again, and compared byte for byte.

use mezzo_wire::{Described, decode_checked, json, recordio, v1};

/// Reads each line as a message and expects the same line when it is written.
fn comes_back<T: Described>(lines: &str) {
    let mut count = 0;
    for line in lines.lines() {
        let message: T = json::from_slice(line.as_bytes()).expect(line);
        assert_eq!(json::to_string(&message), line);
        let binary = message.encode_to_vec();
        let again: T = decode_checked(&binary[..]).expect(line);
        assert_eq!(json::to_string(&again), line, "through the binary form");
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn what_mesos_writes_we_write_alike() {
    comes_back::<v1::scheduler::Event>(include_str!("data/scheduler_events.jsonl"));
    comes_back::<v1::executor::Event>(include_str!("data/executor_events.jsonl"));
    comes_back::<v1::master::Response>(include_str!("data/master_responses.jsonl"));
    comes_back::<v1::agent::Response>(include_str!("data/agent_responses.jsonl"));
    comes_back::<v1::agent::ProcessIo>(include_str!("data/agent_process_io.jsonl"));
}

#[test]
fn what_mesos_takes_we_take() {
    for line in include_str!("data/scheduler_calls.jsonl").lines() {
        let call: v1::scheduler::Call = json::from_slice(line.as_bytes()).expect(line);
        assert!(call.r#type.is_some(), "{line}");
        let again: v1::scheduler::Call = json::from_slice(&json::to_vec(&call)).expect(line);
        // Defaults are written out, and nothing else changes.
        assert_eq!(json::to_vec(&again), json::to_vec(&call));
    }
}

/// Cuts a stream into records as they come in chunks of `chunk` bytes, and expects each record to
/// have the same bytes when it is written.
fn stream_comes_back<T: Described + PartialEq>(stream: &[u8], chunk: usize) -> Vec<T> {
    let mut decoder = recordio::Decoder::new(1 << 16);
    let mut messages = Vec::new();
    let mut again = Vec::new();
    for part in stream.chunks(chunk) {
        decoder.push(part);
        while let Some(record) = decoder.next_record().expect("a good stream") {
            let message: T = decode_checked(record.clone()).expect("a good record");
            let text = json::to_vec(&message);
            let from_text: T = json::from_slice(&text).expect("our own");
            assert_eq!(json::to_vec(&from_text), text);
            recordio::encode_to(&message.encode_to_vec(), &mut again);
            messages.push(message);
        }
    }
    assert_eq!(decoder.finish(), Ok(()));
    assert_eq!(again, stream, "the bytes of the stream");
    messages
}

#[test]
fn a_scheduler_stream_in_the_binary_form() {
    let stream = include_bytes!("data/scheduler_events.recordio");
    for chunk in [1, 7, 4096] {
        let events = stream_comes_back::<v1::scheduler::Event>(stream, chunk);
        let kinds: Vec<_> = events
            .iter()
            .map(|event| event.r#type().as_str_name())
            .collect();
        assert_eq!(kinds[..3], ["SUBSCRIBED", "HEARTBEAT", "OFFERS"]);
        let states: Vec<_> = events
            .iter()
            .filter_map(|event| event.update.as_ref())
            .map(|update| update.status.state())
            .collect();
        use v1::TaskState::{TaskFinished, TaskRunning, TaskStarting};
        assert_eq!(states, [TaskStarting, TaskRunning, TaskFinished]);
    }
}

#[test]
fn one_state_in_both_forms() {
    let binary = include_bytes!("data/master_get_state.bin");
    let state: v1::master::Response = decode_checked(&binary[..]).expect("a good answer");
    let text = include_str!("data/master_get_state.json").trim_end();
    assert_eq!(json::to_string(&state), text);
    let from_text: v1::master::Response = json::from_slice(text.as_bytes()).expect("a good answer");
    assert_eq!(json::to_string(&from_text), text);
}

#[test]
fn what_mesos_refuses_we_refuse_in_its_words() {
    let near = "Failed to parse body into JSON: syntax error at line 1 near: ";
    let convert = "Failed to convert JSON into Call protobuf: ";
    let deep = "[".repeat(150) + &"]".repeat(150);
    for (body, words) in [
        ("{not json", format!("{near}not json")),
        ("", near.to_owned()),
        ("{", near.to_owned()),
        ("[1,2]", format!("{convert}Expecting a JSON object")),
        (&deep, format!("{convert}Expecting a JSON object")),
        (
            r#"{"type": "SUBSCRIBE", "subscribe": {"framework_info": {"name": "x"}}}"#,
            format!("{convert}Missing required fields: subscribe.framework_info.user"),
        ),
        (
            r#"{"type":5,"framework_id":{"value":"zz"}}"#,
            format!("{convert}Not expecting a JSON number for field 'type'"),
        ),
        (
            r#"{"type":"KILL","framework_id":{"value":{"a":1}},"kill":{"task_id":{"value":"t"}}}"#,
            format!("{convert}Not expecting a JSON object for field 'value'"),
        ),
        (
            r#"{"type":"REVIVE","framework_id":{"value":"zz"}} xyz"#,
            "Failed to parse body into JSON: Parsed JSON included non-whitespace trailing \
             characters:  xyz"
                .to_owned(),
        ),
    ] {
        let error = json::from_slice::<v1::scheduler::Call>(body.as_bytes()).expect_err(body);
        assert_eq!(error.to_string(), words);
    }
    let error = json::from_slice::<v1::executor::Call>(br#"{"type":"SUBSCRIBE"}"#)
        .expect_err("nobody subscribes");
    assert_eq!(
        error.to_string(),
        format!("{convert}Missing required fields: executor_id, framework_id")
    );
}

#[test]
fn what_mesos_passes_over_we_pass_over() {
    use v1::scheduler::{Call, call};
    let read = |body: &str| json::from_slice::<Call>(body.as_bytes()).expect(body);
    let call = read(r#"{"type":"REVIVE","framework_id":null}"#);
    assert_eq!(
        (call.r#type(), call.framework_id),
        (call::Type::Revive, None)
    );
    for no_type in [
        "{}",
        r#"{"type":"revive"}"#,
        r#"{"type":"FROB"}"#,
        r#"{"Type":"REVIVE"}"#,
    ] {
        assert_eq!(read(no_type), Call::default());
    }
    let call = read(r#"{"type":"REVIVE","frameworkId":{"value":"x"},"bogus":{"a":[1]}}"#);
    assert_eq!(call.framework_id, None);
    let call = read(
        r#"{"type":"KILL","kill":{"task_id":{"value":"t"},
            "kill_policy":{"grace_period":{"nanoseconds":1.5}}}}"#,
    );
    let policy = call
        .kill
        .and_then(|kill| kill.kill_policy)
        .expect("a policy");
    assert_eq!(policy.grace_period.map(|span| span.nanoseconds), Some(1));
}
