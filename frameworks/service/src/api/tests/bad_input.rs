//! What is wrong is refused with the status and the words that help, and harms nothing.

use super::*;

/// One row: method, target, body, status, words.
type Row = (&'static str, &'static str, String, u16, &'static str);

fn app(fields: Value) -> String {
    let mut document = json!({"id": "/bad", "cmd": "x"});
    for (name, value) in fields.as_object().cloned().unwrap_or_default() {
        document[name] = value;
    }
    document.to_string()
}

fn create(fields: Value, status: u16, words: &'static str) -> Row {
    ("POST", "/v2/apps", app(fields), status, words)
}

fn documents() -> Vec<Row> {
    let text = |body: &str, words| ("POST", "/v2/apps", body.to_owned(), 400, words);
    vec![
        text("{", "Invalid JSON"),
        text("{\"id\": \"/a\",}", "trailing comma"),
        text("// comment\n{}", "Invalid JSON"),
        text("{\"id\": 1e999}", "number out of range"),
        text("{\"id\": \"\\ud800\"}", "Invalid JSON"),
        text("nonsense", "Invalid JSON"),
        text("{}{}", "trailing characters"),
        text(&"[".repeat(5000), "deeper than 64"),
        (
            "POST",
            "/v2/apps",
            "[]".to_owned(),
            422,
            "error.expected.jsobject",
        ),
        (
            "POST",
            "/v2/apps",
            "7".to_owned(),
            422,
            "error.expected.jsobject",
        ),
        (
            "POST",
            "/v2/apps",
            "null".to_owned(),
            422,
            "error.expected.jsobject",
        ),
        (
            "POST",
            "/v2/apps",
            "{}".to_owned(),
            422,
            "{\"errors\":[\"error.path.missing\"],\"path\":\"/id\"}",
        ),
        (
            "PUT",
            "/v2/apps",
            "{}".to_owned(),
            422,
            "error.expected.jsarray",
        ),
        (
            "PUT",
            "/v2/apps",
            "[{\"cmd\": \"x\"}]".to_owned(),
            422,
            "/(0)/id",
        ),
        (
            "PUT",
            "/v2/apps",
            "[{\"id\": \"/x\", \"cmd\": \"x\"}, {\"id\": \"/y\", \"cpus\": \"1\"}]".to_owned(),
            422,
            "/(1)/cpus",
        ),
        ("PUT", "/v2/apps", "[3]".to_owned(), 422, "/(0)"),
        (
            "PUT",
            "/v2/apps",
            format!("[{}1]", "1,".repeat(1000)),
            422,
            "at most 1000",
        ),
    ]
}

fn ids() -> Vec<Row> {
    let long = "x".repeat(300);
    vec![
        create(
            json!({"id": 7}),
            422,
            "{\"errors\":[\"error.expected.jsstring\"],\"path\":\"/id\"}",
        ),
        create(json!({"id": ""}), 422, "the root is not an app"),
        create(json!({"id": "/Upper"}), 422, "segment 'Upper'"),
        create(json!({"id": "/under_score"}), 422, "segment 'under_score'"),
        create(json!({"id": "/a/../b"}), 422, "segment '..'"),
        create(
            json!({"id": "/a/restart"}),
            422,
            "must not end with any of these",
        ),
        create(
            json!({"id": "/a/tasks"}),
            422,
            "must not end with any of these",
        ),
        create(
            json!({"id": long}),
            422,
            "must not be longer than 180 bytes",
        ),
        create(json!({"id": "/-x"}), 422, "neither"),
        create(json!({"id": "/\u{0}"}), 422, "segment"),
        create(
            json!({"id": "/there"}),
            409,
            "An app with id [/there] already exists.",
        ),
        create(
            json!({"id": "/there/below"}),
            422,
            "Groups and Applications may not have the same identifier",
        ),
        (
            "PUT",
            "/v2/apps/BAD",
            r#"{"cmd": "x"}"#.to_owned(),
            422,
            "segment 'BAD'",
        ),
    ]
}

fn types() -> Vec<Row> {
    vec![
        create(json!({"cmd": 5}), 422, "error.expected.jsstring"),
        create(json!({"args": "x"}), 422, "error.expected.jsarray"),
        create(json!({"args": ["x", 1]}), 422, "/args(1)"),
        create(json!({"instances": "2"}), 422, "error.expected.jsnumber"),
        create(json!({"instances": 1.5}), 422, "error.expected.int"),
        create(json!({"env": []}), 422, "error.expected.jsobject"),
        create(json!({"env": {"A": 1}}), 422, "/env/A"),
        create(json!({"labels": {"a": true}}), 422, "/labels/a"),
        create(
            json!({"requirePorts": "yes"}),
            422,
            "error.expected.jsboolean",
        ),
        create(
            json!({"portDefinitions": [{"port": "80"}]}),
            422,
            "/portDefinitions(0)/port",
        ),
        create(
            json!({"portDefinitions": [{"protocol": "sctp"}]}),
            422,
            "error.unknown.enum.literal",
        ),
        create(json!({"constraints": [["a"]]}), 422, "error.minLength"),
        create(
            json!({"constraints": [["a", "b", "c", "d"]]}),
            422,
            "error.maxLength",
        ),
        create(
            json!({"constraints": ["hostname:UNIQUE"]}),
            422,
            "/constraints(0)",
        ),
        create(json!({"healthChecks": {}}), 422, "error.expected.jsarray"),
        create(
            json!({"healthChecks": [{"protocol": "ICMP"}]}),
            422,
            "error.unknown.enum.literal",
        ),
        create(
            json!({"upgradeStrategy": {"minimumHealthCapacity": 1}}),
            422,
            "/upgradeStrategy/maximumOverCapacity",
        ),
        create(
            json!({"killSelection": "RANDOM"}),
            422,
            "error.unknown.enum.literal",
        ),
        create(
            json!({"unreachableStrategy": "enabled"}),
            422,
            "error.expected.jsobject",
        ),
        create(json!({"version": "yesterday"}), 422, "Expecting ISO-8601"),
    ]
}

fn rules() -> Vec<Row> {
    vec![
        create(json!({"cmd": ""}), 422, "must not be an empty string"),
        create(json!({"cmd": null}), 422, "one of 'cmd' or 'args'"),
        create(json!({"args": ["y"]}), 422, "both 'cmd' and 'args'"),
        create(json!({"cmd": "a\u{0}b"}), 422, "zero character"),
        create(json!({"cpus": 0}), 422, "expected between 0.001 and"),
        create(json!({"cpus": 1e300}), 422, "expected between"),
        create(json!({"mem": -1}), 422, "/mem"),
        create(json!({"disk": 1e15}), 422, "/disk"),
        create(
            json!({"instances": -1}),
            422,
            "expected between 0 and 100000",
        ),
        create(
            json!({"instances": 2_147_483_647}),
            422,
            "expected between 0 and 100000",
        ),
        create(json!({"backoffFactor": 0.5}), 422, "/backoffFactor"),
        create(json!({"backoffSeconds": -1}), 422, "/backoffSeconds"),
        create(
            json!({"upgradeStrategy": {"minimumHealthCapacity": 1.2, "maximumOverCapacity": 0}}),
            422,
            "got 1.2, expected between 0.0 and 1.0",
        ),
        create(
            json!({"unreachableStrategy": {"inactiveAfterSeconds": 9, "expungeAfterSeconds": 3}}),
            422,
            "must not be more than expungeAfterSeconds",
        ),
        create(json!({"env": {"A=B": "x"}}), 422, "a variable's name"),
        create(json!({"user": "no such;user"}), 422, "name of a user"),
        create(json!({"role": "other"}), 422, "expected one of: [*]"),
        create(
            json!({"acceptedResourceRoles": []}),
            422,
            "must not be empty",
        ),
        create(
            json!({"acceptedResourceRoles": ["slave_public"]}),
            422,
            "expected one of: [*, *]",
        ),
        create(json!({"ports": [80, 80]}), 422, "Ports must be unique."),
        create(
            json!({"ports": [70_000]}),
            422,
            "expected between 0 and 65535",
        ),
        create(
            json!({"ports": [1], "portDefinitions": [{"port": 2}]}),
            422,
            "both ports and port definitions",
        ),
        create(
            json!({"portDefinitions": [{"name": "a"}, {"name": "a"}]}),
            422,
            "Port names must be unique.",
        ),
        create(
            json!({"portDefinitions": [{"name": "sp ace"}]}),
            422,
            "/portDefinitions(0)/name",
        ),
        create(
            json!({"constraints": [["hostname", "NEAR", "x"]]}),
            422,
            "Operator must be one of",
        ),
        create(
            json!({"constraints": [["hostname", "UNIQUE", "x"]]}),
            422,
            "UNIQUE takes no value",
        ),
        create(
            json!({"constraints": [["rack", "LIKE", "("]]}),
            422,
            "regular expression",
        ),
        create(
            json!({"constraints": [["rack", "MAX_PER", "many"]]}),
            422,
            "whole number",
        ),
        create(
            json!({"constraints": [["hostname", "UNIQUE"], ["hostname", "UNIQUE"]]}),
            422,
            "Elements must be unique",
        ),
        create(
            json!({"healthChecks": [{"portIndex": 3}]}),
            422,
            "must address an element of the ports array",
        ),
        create(
            json!({"healthChecks": [{"port": 1, "portIndex": 0}]}),
            422,
            "either port or portIndex",
        ),
        create(
            json!({"healthChecks": [{"protocol": "COMMAND"}]}),
            422,
            "needs a command",
        ),
        create(
            json!({"healthChecks": [{"protocol": "MESOS_HTTPS"}]}),
            422,
            "MESOS_HTTPS is not served",
        ),
        create(
            json!({"healthChecks": [{"intervalSeconds": 0}]}),
            422,
            "intervalSeconds",
        ),
        create(json!({"healthChecks": [{"path": "/a b"}]}), 422, "URL path"),
        create(
            json!({"labels": {"MARATHON_SINGLE_INSTANCE_APP": "true"}, "instances": 2}),
            422,
            "expected 0 or 1",
        ),
        create(json!({"instnces": 2}), 422, "did you mean 'instances'?"),
        create(
            json!({"container": {"type": "DOCKER", "docker": {"image": "x"}}}),
            422,
            "'container' is not served",
        ),
        create(
            json!({"networks": [{"mode": "container"}]}),
            422,
            "'networks' is not served",
        ),
        create(json!({"gpus": 1}), 422, "'gpus' is not served"),
        create(
            json!({"fetch": [{"uri": "http://x"}]}),
            422,
            "'fetch' is not served",
        ),
        create(
            json!({"dependencies": ["/db"]}),
            422,
            "'dependencies' is not served",
        ),
        create(
            json!({"env": {"P": {"secret": "s"}}}),
            422,
            "secrets in the environment",
        ),
    ]
}

fn routes() -> Vec<Row> {
    let row = |method, target, status, words| (method, target, String::new(), status, words);
    vec![
        row("GET", "/v2/apps/none", 404, "App '/none' does not exist"),
        row("GET", "/v2/apps/BAD", 404, "App '/BAD' does not exist"),
        row(
            "GET",
            "/v2/apps/none/tasks",
            404,
            "App '/none' does not exist",
        ),
        row(
            "GET",
            "/v2/apps/none/*",
            404,
            "Group '/none' does not exist",
        ),
        row(
            "GET",
            "/v2/apps/there/versions/2001-01-01T00:00:00.000Z",
            404,
            "does not exist in version 2001",
        ),
        row(
            "GET",
            "/v2/apps/there/versions/never",
            422,
            "Expecting ISO-8601",
        ),
        row(
            "GET",
            "/v2/apps?label=a=b",
            422,
            "Couldn't parse label selector",
        ),
        row("GET", "/v2/apps?x=%ff", 400, "not UTF-8"),
        row("GET", "/v2/apps/%ff", 400, "not UTF-8"),
        row("DELETE", "/v2/apps/none", 404, "App '/none' does not exist"),
        row(
            "POST",
            "/v2/apps/none/restart",
            404,
            "App '/none' does not exist",
        ),
        row(
            "DELETE",
            "/v2/apps/there/tasks?scale=true&wipe=true",
            400,
            "scale and wipe at the same time",
        ),
        row(
            "DELETE",
            "/v2/apps/there/tasks/nonsense",
            404,
            "Task 'nonsense' does not exist",
        ),
        row(
            "DELETE",
            "/v2/deployments/none",
            404,
            "DeploymentPlan none does not exist",
        ),
        row(
            "DELETE",
            "/v2/queue/none/delay",
            404,
            "Application /none not found in tasks queue.",
        ),
        row("DELETE", "/v2/apps", 405, "Method Not Allowed"),
        row("POST", "/v2/apps/there", 405, "Method Not Allowed"),
        row("PUT", "/v2/info", 405, "Method Not Allowed"),
        row("POST", "/v2/queue", 405, "Method Not Allowed"),
        row("BREW", "/v2/deployments", 405, "Method Not Allowed"),
        row("GET", "/v2/nothing", 404, "URI not found"),
        row("GET", "/v1/apps", 404, "URI not found"),
        row("GET", "/v2", 404, "URI not found"),
        row("POST", "/v2/apps", 415, "application/json"),
        row("PUT", "/v2/apps/x", 415, "application/json"),
        (
            "PATCH",
            "/v2/apps/none",
            "{\"instances\": 1}".to_owned(),
            404,
            "App '/none' does not exist",
        ),
        ("POST", "/v2/tasks/delete", "{}".to_owned(), 422, "/ids"),
        (
            "POST",
            "/v2/tasks/delete",
            "{\"ids\": [\"x\"]}".to_owned(),
            400,
            "Invalid task id 'x'",
        ),
        (
            "POST",
            "/v2/tasks/delete",
            "{\"ids\": \"x\"}".to_owned(),
            422,
            "error.expected.jsarray",
        ),
        (
            "PUT",
            "/v2/apps/there",
            "{\"version\": \"2015-12-01T10:03:32.003Z\", \"cpus\": 1}".to_owned(),
            422,
            "may only be combined with the 'id' field",
        ),
        (
            "PUT",
            "/v2/apps/there",
            "{\"instances\": 3}".to_owned(),
            409,
            "App is locked by one or more deployments",
        ),
        (
            "PUT",
            "/v2/apps/there",
            "{\"version\": \"2001-01-01T00:00:00.000Z\"}".to_owned(),
            404,
            "does not exist in version",
        ),
    ]
}

#[test]
fn every_row_is_refused_with_its_words() {
    let mut world = World::new();
    assert_eq!(
        post(&mut world, &json!({"id": "/there", "cmd": "x"})).status,
        201
    );
    let rows: Vec<Row> = [documents(), ids(), types(), rules(), routes()]
        .into_iter()
        .flatten()
        .collect();
    assert!(rows.len() >= 60, "{}", rows.len());
    for (method, target, body, status, words) in &rows {
        let response = send(&mut world, method, target, body);
        let text = response.body.clone().unwrap_or_default().to_string();
        let sent: String = body.chars().take(200).collect();
        assert_eq!(response.status, *status, "{method} {target} {sent}: {text}");
        assert!(
            text.replace("\\\"", "\"").contains(words),
            "{method} {target} {sent}: {text}"
        );
        assert!(
            response.body.unwrap_or_default()["message"].is_string(),
            "{method} {target}"
        );
    }
    assert_eq!(
        get(&mut world, "/v2/apps")["apps"].as_array().map(Vec::len),
        Some(1)
    );
    deploys(&mut world, "/normal");
}

#[test]
fn large_bodies_and_other_types_are_refused() {
    let mut request = Request {
        method: "POST".to_owned(),
        path: "/v2/apps".to_owned(),
        content_type: Some("application/json".to_owned()),
        body: Bytes::from(vec![b' '; 2 * 1024 * 1024]),
        ..Request::default()
    };
    assert_eq!(read(&request).expect_err("too large").status, 413);
    request.body = Bytes::from_static(b"{}");
    request.content_type = Some("text/plain".to_owned());
    assert_eq!(read(&request).expect_err("not JSON").status, 415);
    request.content_type = Some("application/json; charset=utf-8".to_owned());
    request.accept = Some("text/plain".to_owned());
    assert_eq!(read(&request).expect_err("JSON only").status, 406);
    request.accept = Some("text/html, */*;q=0.1".to_owned());
    request.body = Bytes::from_static(b"[");
    assert_eq!(
        read(&request).expect_err("readable, and no JSON").status,
        400
    );
}

#[test]
fn several_mistakes_are_told_at_once() {
    let mut world = World::new();
    let body = app(json!({"cpus": -1, "backoffFactor": 0, "nonsense": 1}));
    let response = send(&mut world, "POST", "/v2/apps", &body)
        .body
        .expect("a body");
    let paths: Vec<&str> = response["details"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|detail| detail["path"].as_str())
        .collect();
    assert_eq!(paths, ["/backoffFactor", "/cpus", "/nonsense"]);
    assert_eq!(response["message"], "Object is not valid");
}
