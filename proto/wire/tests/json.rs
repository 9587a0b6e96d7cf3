//! The JSON dialect, rule by rule.

use mezzo_wire::json::{self, ConvertError, JsonError, ParseError};
use mezzo_wire::{Described, Limits, v1};

fn read<T: Described>(body: &str) -> T {
    json::from_slice(body.as_bytes()).expect(body)
}

fn refusal<T: Described + std::fmt::Debug>(body: &str) -> String {
    json::from_slice::<T>(body.as_bytes())
        .expect_err(body)
        .to_string()
}

#[test]
fn absent_fields_with_a_default_are_written() {
    let framework = v1::FrameworkInfo {
        user: "u".into(),
        name: "n".into(),
        ..Default::default()
    };
    // `role` has a default too, but is deprecated.
    assert_eq!(
        json::to_string(&framework),
        r#"{"user":"u","name":"n","failover_timeout":0.0,"checkpoint":false}"#
    );
    assert_eq!(
        json::to_string(&v1::CommandInfo::default()),
        r#"{"shell":true}"#,
        "no empty list, no absent text"
    );
    assert_eq!(
        json::to_string(&v1::Filters::default()),
        r#"{"refuse_seconds":5.0}"#
    );
    let variable = v1::environment::Variable {
        name: "A".into(),
        ..Default::default()
    };
    assert_eq!(json::to_string(&variable), r#"{"name":"A","type":"VALUE"}"#);
    let master = v1::MasterInfo {
        id: "m".into(),
        ip: 16777343,
        ..Default::default()
    };
    assert_eq!(
        json::to_string(&master),
        r#"{"id":"m","ip":16777343,"port":5050}"#
    );
}

#[test]
fn a_few_lists_are_written_though_empty() {
    use v1::master::response;
    let tasks = response::GetTasks::default();
    let text = r#"{"tasks":[],"unreachable_tasks":[],"completed_tasks":[]}"#;
    assert_eq!(json::to_string(&tasks), text);
    let agents = response::GetAgents::default();
    assert_eq!(
        json::to_string(&agents),
        r#"{"agents":[],"recovered_agents":[]}"#
    );
    assert_eq!(json::to_string(&response::GetOperations::default()), "{}");
}

#[test]
fn fields_stand_in_the_order_of_declaration() {
    let resource = v1::Resource {
        role: Some("*".into()),
        shared: Some(v1::resource::SharedInfo {}),
        ..v1::Resource::scalar("cpus", 0.1)
    };
    assert_eq!(
        json::to_string(&resource),
        r#"{"name":"cpus","type":"SCALAR","scalar":{"value":0.1},"role":"*","shared":{}}"#
    );
    let weight = v1::WeightInfo {
        weight: 2.0,
        role: Some("a".into()),
    };
    assert_eq!(json::to_string(&weight), r#"{"weight":2.0,"role":"a"}"#);
}

#[test]
fn text_is_escaped_and_bytes_are_base64() {
    let label = v1::Label::new("a\"\\/\u{8}\u{c}\n\r\t\u{1}\u{1f}\u{7f}é😀", "");
    let escaped = r#"{"key":"a\"\\/\b\f\n\r\t\u0001\u001F"#;
    let text = format!("{escaped}\u{7f}é😀\",\"value\":\"\"}}");
    assert_eq!(json::to_string(&label), text);
    assert_eq!(read::<v1::Label>(&text), label);
    let uuid = v1::Uuid {
        value: vec![0xff; 16].into(),
    };
    assert_eq!(
        json::to_string(&uuid),
        r#"{"value":"/////////////////////w=="}"#
    );
    assert_eq!(read::<v1::Uuid>(&json::to_string(&uuid)), uuid);
    assert_eq!(
        refusal::<v1::Uuid>(r#"{"value":"a-b"}"#),
        "Failed to convert JSON into UUID protobuf: Failed to base64 decode bytes field 'value': \
         Invalid character '-'"
    );
}

#[test]
fn numbers_and_booleans_may_stand_in_strings() {
    let filters: v1::Filters = read(r#"{"refuse_seconds":"5"}"#);
    assert_eq!(filters.refuse_seconds, Some(5.0));
    let filters: v1::Filters = read(r#"{"refuse_seconds":7}"#);
    assert_eq!(filters.refuse_seconds, Some(7.0));
    let command: v1::CommandInfo = read(r#"{"shell":"false"}"#);
    assert_eq!(command.shell, Some(false));
    let time: v1::TimeInfo = read(r#"{"nanoseconds":"-9223372036854775808"}"#);
    assert_eq!(time.nanoseconds, i64::MIN);
    let begin: v1::value::Range = read(r#"{"begin":"18446744073709551615","end":0}"#);
    assert_eq!(begin.begin, u64::MAX);
    assert_eq!(
        json::to_string(&begin),
        r#"{"begin":18446744073709551615,"end":0}"#
    );
    for (text, number) in [
        ("Infinity", f64::INFINITY),
        ("-Infinity", f64::NEG_INFINITY),
    ] {
        let scalar: v1::value::Scalar = read(&format!(r#"{{"value":"{text}"}}"#));
        assert_eq!(scalar.value, number);
        assert_eq!(json::to_string(&scalar), format!(r#"{{"value":"{text}"}}"#));
    }
    let convert = "Failed to convert JSON into Filters protobuf: ";
    assert_eq!(
        refusal::<v1::Filters>(r#"{"refuse_seconds":"soon"}"#),
        format!(
            "{convert}Failed to parse 'soon' as a JSON number for field 'refuse_seconds': syntax \
             error at line 1 near: soon"
        )
    );
    assert_eq!(
        refusal::<v1::Filters>(r#"{"refuse_seconds":"true"}"#),
        format!(
            "{convert}Failed to parse 'true' as a JSON number for field 'refuse_seconds': \
             Unexpected JSON type parsed"
        )
    );
    assert_eq!(
        refusal::<v1::CommandInfo>(r#"{"shell":"1"}"#),
        "Failed to convert JSON into CommandInfo protobuf: Failed to parse '1' as a JSON boolean \
         for field 'shell': Unexpected JSON type parsed"
    );
}

#[test]
fn a_value_of_the_wrong_kind_is_named() {
    for (body, found) in [
        (r#"{"refuse_seconds":true}"#, "boolean"),
        (r#"{"refuse_seconds":[1]}"#, "array"),
        (r#"{"refuse_seconds":{}}"#, "object"),
    ] {
        assert_eq!(
            refusal::<v1::Filters>(body),
            format!(
                "Failed to convert JSON into Filters protobuf: Not expecting a JSON {found} for \
                 field 'refuse_seconds'"
            )
        );
    }
    assert_eq!(
        refusal::<v1::TaskInfo>(r#"{"task_id":"a"}"#),
        "Failed to convert JSON into TaskInfo protobuf: Not expecting a JSON string for field \
         'task_id'"
    );
    // Of several mistakes the one whose field comes first in the alphabet is told.
    assert_eq!(
        refusal::<v1::TaskInfo>(r#"{"task_id":1,"agent_id":true}"#),
        "Failed to convert JSON into TaskInfo protobuf: Not expecting a JSON boolean for field \
         'agent_id'"
    );
}

#[test]
fn a_whole_number_that_does_not_fit_is_refused() {
    let port = |number: &str| format!(r#"{{"number":{number}}}"#);
    for number in ["-1", "4294967296", "1e10", "-1.5", "\"-1\"", "1e30"] {
        assert_eq!(
            refusal::<v1::Port>(&port(number)),
            "Failed to convert JSON into Port protobuf: Value out of range for field 'number'",
            "{number}"
        );
    }
    assert_eq!(read::<v1::Port>(&port("4294967295")).number, u32::MAX);
    assert!(refusal::<v1::TimeInfo>(r#"{"nanoseconds":9223372036854775808}"#).contains("range"));
    assert!(refusal::<v1::Filters>(r#"{"refuse_seconds":1e400}"#).contains("Value out of range"));
}

#[test]
fn enums_go_by_name() {
    let status: v1::TaskStatus =
        read(r#"{"task_id":{"value":"t"},"state":"TASK_RUNNING","reason":"REASON_OF_TOMORROW"}"#);
    assert_eq!(
        (status.state(), status.reason),
        (v1::TaskState::TaskRunning, None)
    );
    assert_eq!(
        refusal::<v1::TaskStatus>(r#"{"task_id":{"value":"t"},"state":"TASK_DANCING"}"#),
        "Failed to convert JSON into TaskStatus protobuf: Failed to find enum for 'TASK_DANCING'"
    );
    // A number that has no name cannot be told.
    let status = v1::TaskStatus {
        reason: Some(77),
        ..status
    };
    assert!(!json::to_string(&status).contains("reason"));
}

#[test]
fn maps_are_objects() {
    let ids = r#""name":"n","task_id":{"value":"t"},"agent_id":{"value":"a"}"#;
    let limits = r#""limits":{"cpus":{"value":2.5},"mem":{"value":"Infinity"}}"#;
    let task: v1::TaskInfo = read(&format!("{{{limits},{ids}}}"));
    assert_eq!(task.limits.len(), 2);
    assert_eq!(json::to_string(&task), format!("{{{ids},{limits}}}"));
    assert_eq!(
        refusal::<v1::TaskInfo>(r#"{"name":"n","task_id":{"value":"t"},"limits":{"cpus":{}}}"#),
        "Failed to convert JSON into TaskInfo protobuf: Missing required fields: agent_id, \
         limits[0].value.value"
    );
    assert!(
        refusal::<v1::TaskInfo>(r#"{"limits":{"cpus":null}}"#).contains("limits[0].value.value")
    );
}

#[test]
fn lists_may_lack_their_brackets_and_hold_null() {
    let framework = r#"{"user":"u","name":"n","roles":"#;
    for (roles, expected) in [
        ("\"a\"", vec!["a"]),
        ("[\"a\",null,\"b\"]", vec!["a", "b"]),
        ("null", vec![]),
    ] {
        let framework: v1::FrameworkInfo = read(&format!("{framework}{roles}}}"));
        assert_eq!(framework.roles, expected);
    }
}

#[test]
fn of_two_members_with_one_name_the_later_counts() {
    let label: v1::Label = read(r#"{"key":"a","key":"b","key":"c"}"#);
    assert_eq!(label.key, "c");
}

#[test]
fn missing_fields_are_named_with_their_path() {
    let body = r#"{"type":"ACCEPT","accept":{"offer_ids":[{},{"value":"o"}],"operations":[
        {"type":"LAUNCH","launch":{"task_infos":[{"name":"a","task_id":{}}]}}]}}"#;
    assert_eq!(
        refusal::<v1::scheduler::Call>(body),
        "Failed to convert JSON into Call protobuf: Missing required fields: \
         accept.offer_ids[0].value, accept.operations[0].launch.task_infos[0].agent_id, \
         accept.operations[0].launch.task_infos[0].task_id.value"
    );
    let many = format!(r#"{{"offer_ids":[{}{{}}]}}"#, "{},".repeat(10_000));
    match json::from_slice::<v1::scheduler::call::Decline>(many.as_bytes()) {
        Err(JsonError::Convert {
            cause: ConvertError::Missing(paths),
            ..
        }) => {
            assert!(paths.len() < 100, "{} paths", paths.len());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn lists_of_messages_are_arrays() {
    let text = r#"[{"weight":2.0,"role":"a"},{"weight":1.5,"role":"b"}]"#;
    let weights: Vec<v1::WeightInfo> = json::list_from_slice(text.as_bytes()).expect(text);
    let mut out = Vec::new();
    json::write_list_to(&weights, &mut out);
    assert_eq!(String::from_utf8(out).as_deref(), Ok(text));
    let words = |body: &str| {
        json::list_from_slice::<v1::WeightInfo>(body.as_bytes())
            .expect_err(body)
            .to_string()
    };
    let convert = "Failed to convert JSON into WeightInfo protobuf: ";
    assert_eq!(words("{}"), format!("{convert}Expecting a JSON array"));
    assert_eq!(words("[1]"), format!("{convert}Expecting a JSON object"));
    assert_eq!(
        words("[{}]"),
        format!("{convert}Missing required fields: weight")
    );
}

#[test]
fn size_and_depth_are_bounded() {
    let limits = Limits {
        bytes: 10,
        ..Limits::DEFAULT
    };
    let long = br#"{"nanoseconds":1}"#;
    match json::from_slice_within::<v1::TimeInfo>(long, &limits) {
        Err(JsonError::Parse(ParseError::TooLarge { len: 17, limit: 10 })) => {}
        other => panic!("{other:?}"),
    }
    // 150 containers within each other are good JSON, and more than a message may have.
    let deep = r#"{"value":"c","parent":"#.repeat(150) + "null" + &"}".repeat(150);
    assert!(refusal::<v1::ContainerId>(&deep).contains("nested more than 100 deep"));
    let fine = r#"{"value":"c","parent":"#.repeat(100) + "null" + &"}".repeat(100);
    read::<v1::ContainerId>(&fine);
    // A million empty operations are 3 MB of text and would be a gigabyte.
    let many = format!(
        r#"{{"offer_ids":[],"operations":[{}{{}}]}}"#,
        "{},".repeat(500_000)
    );
    assert!(refusal::<v1::scheduler::call::Accept>(&many).contains("bytes of memory"));
}
