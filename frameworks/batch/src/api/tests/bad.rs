//! What is refused: status and words. And afterwards the house still works.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use super::super::desk::Standing;
use super::{House, job};

/// A job with one field of `run` changed.
fn run(name: &str, value: Value) -> Value {
    let mut job = job("j");
    job["run"][name] = value;
    job
}

/// A job with one field changed.
fn top(name: &str, value: Value) -> Value {
    let mut job = job("j");
    job[name] = value;
    job
}

/// A job without one field of `run`.
fn without(name: &str) -> Value {
    let mut job = job("j");
    job["run"].as_object_mut().expect("an object").remove(name);
    job
}

/// A job with `cmd` replaced by `args`.
fn args(value: Value) -> Value {
    let mut job = without("cmd");
    job["run"]["args"] = value;
    job
}

/// Documents that are refused with 422, the place, and a part of the words.
fn documents() -> Vec<(Value, &'static str, &'static str)> {
    let long = "x".repeat(131_001);
    let many: Vec<String> = (0..3).map(|_| "x".repeat(100_000)).collect();
    vec![
        (json!([]), "/", "must be an object, not an array"),
        (json!("job"), "/", "must be an object, not a text"),
        (json!(null), "/", "must be an object, not null"),
        (json!({}), "/id", "is required"),
        (json!({"id": "j"}), "/run", "is required"),
        (top("id", json!(7)), "/id", "must be a text, not a number"),
        (top("id", json!("")), "/id", "lower-case letters"),
        (top("id", json!("Upper")), "/id", "lower-case letters"),
        (top("id", json!("a..b")), "/id", "lower-case letters"),
        (top("id", json!("a_b")), "/id", "lower-case letters"),
        (top("id", json!("../etc")), "/id", "lower-case letters"),
        (top("id", json!("-a")), "/id", "lower-case letters"),
        (top("id", json!("a".repeat(129))), "/id", "at most 128"),
        (
            top("description", json!(1)),
            "/description",
            "must be a text",
        ),
        (
            top("labels", json!([])),
            "/labels",
            "must be an object of texts",
        ),
        (
            top("labels", json!({"a": 1})),
            "/labels/a",
            "must be a text",
        ),
        (top("run", json!([])), "/run", "must be an object"),
        (top("unknown", json!(1)), "/unknown", "is no field here"),
        (
            top("activeRuns", json!([])),
            "/activeRuns",
            "is no field here",
        ),
        (
            top("schedules", json!([{"id": "s", "cron": "* * * * *"}])),
            "/schedules",
            "schedules is not served yet",
        ),
        (
            top("dependencies", json!([{"id": "x"}])),
            "/dependencies",
            "dependencies is not served yet",
        ),
        (without("cpus"), "/run/cpus", "is required"),
        (without("mem"), "/run/mem", "is required"),
        (without("disk"), "/run/disk", "is required"),
        (without("cmd"), "/run", "needs cmd"),
        (
            run("cpus", json!("1")),
            "/run/cpus",
            "must be a number, not a text",
        ),
        (run("cpus", json!(0)), "/run/cpus", "between 0.01 and"),
        (run("cpus", json!(-1)), "/run/cpus", "between 0.01 and"),
        (run("cpus", json!(1e300)), "/run/cpus", "between 0.01 and"),
        (run("cpus", json!(null)), "/run/cpus", "not null"),
        (run("mem", json!(31.9)), "/run/mem", "between 32 and"),
        (run("mem", json!(1e18)), "/run/mem", "between 32 and"),
        (run("mem", json!(true)), "/run/mem", "not a boolean"),
        (run("disk", json!(-0.001)), "/run/disk", "between 0 and"),
        (run("disk", json!({})), "/run/disk", "not an object"),
        (
            run("gpus", json!(1)),
            "/run/gpus",
            "gpus are not served yet",
        ),
        (
            run("gpus", json!("many")),
            "/run/gpus",
            "gpus are not served yet",
        ),
        (run("cmd", json!("")), "/run/cmd", "must not be empty"),
        (run("cmd", json!("  ")), "/run/cmd", "must not be empty"),
        (
            run("cmd", json!(["true"])),
            "/run/cmd",
            "must be a text, not an array",
        ),
        (run("cmd", json!("a\0b")), "/run/cmd", "NUL"),
        (run("cmd", json!(long)), "/run/cmd", "at most 131000"),
        (run("args", json!(["x"])), "/run/args", "not both"),
        (args(json!([])), "/run/args", "must not be empty"),
        (args(json!([""])), "/run/args/0", "it is the program"),
        (args(json!(["a", 1])), "/run/args/1", "must be a text"),
        (
            args(json!("ls -l")),
            "/run/args",
            "must be an array of texts",
        ),
        (args(json!(many)), "/", "at most 262144"),
        (run("user", json!("")), "/run/user", "the name of a user"),
        (run("user", json!("a b")), "/run/user", "the name of a user"),
        (
            run("user", json!("root:0")),
            "/run/user",
            "the name of a user",
        ),
        (
            run("env", json!([])),
            "/run/env",
            "must be an object of texts",
        ),
        (
            run("env", json!({"A": 1})),
            "/run/env/A",
            "must be a text, not a number",
        ),
        (run("env", json!({"": "x"})), "/run/env/", "is no name"),
        (
            run("env", json!({"A=B": "x"})),
            "/run/env/A=B",
            "is no name",
        ),
        (
            run("env", json!({"A": {"secret": "s"}})),
            "/run/env/A",
            "secrets are not served yet",
        ),
        (
            run("secrets", json!({"s": {"source": "/x"}})),
            "/run/secrets",
            "secrets is not served yet",
        ),
        (
            run("docker", json!({"image": "x"})),
            "/run/docker",
            "docker is not served yet",
        ),
        (
            run("ucr", json!({"image": {"id": "x"}})),
            "/run/ucr",
            "ucr is not served yet",
        ),
        (
            run("volumes", json!([{}])),
            "/run/volumes",
            "volumes is not served yet",
        ),
        (
            run("artifacts", json!([{"uri": "x"}])),
            "/run/artifacts",
            "artifacts is not served yet",
        ),
        (
            run("networks", json!([{"mode": "container"}])),
            "/run/networks",
            "networks is not served yet",
        ),
        (
            run("placement", json!(1)),
            "/run/placement",
            "must be an object",
        ),
        (
            run("placement", json!({"x": 1})),
            "/run/placement/x",
            "is no field here",
        ),
        (
            run(
                "placement",
                json!({"constraints": [{"attribute": "a", "operator": "EQ"}]}),
            ),
            "/run/placement/constraints",
            "constraints is not served yet",
        ),
        (
            run("maxLaunchDelay", json!(0)),
            "/run/maxLaunchDelay",
            "between 1 and",
        ),
        (
            run("maxLaunchDelay", json!(1.5)),
            "/run/maxLaunchDelay",
            "whole number",
        ),
        (
            run("maxLaunchDelay", json!("1h")),
            "/run/maxLaunchDelay",
            "whole number",
        ),
        (
            run("restart", json!({})),
            "/run/restart/policy",
            "is required",
        ),
        (
            run("restart", json!({"policy": "ALWAYS"})),
            "/run/restart/policy",
            "NEVER or ON_FAILURE",
        ),
        (
            run(
                "restart",
                json!({"policy": "NEVER", "activeDeadlineSeconds": 0}),
            ),
            "/run/restart/activeDeadlineSeconds",
            "between 1 and",
        ),
        (
            run("restart", json!({"policy": "NEVER", "x": 0})),
            "/run/restart/x",
            "is no field here",
        ),
        (
            run("taskKillGracePeriodSeconds", json!(-1)),
            "/run/taskKillGracePeriodSeconds",
            "between 0 and",
        ),
        (
            run("retries", json!({"count": 1})),
            "/run/retries",
            "is no field here",
        ),
        (run("a/b~c", json!(1)), "/run/a~1b~0c", "is no field here"),
    ]
}

#[tokio::test]
async fn documents_are_refused_with_the_place_and_the_reason() {
    let house = House::new().await;
    let rows = documents();
    assert!(rows.len() >= 60, "{} rows", rows.len());
    for (document, path, words) in rows {
        let (status, body) = house.post("/v1/jobs", &document).await;
        assert_eq!(status, 422, "{document} {body}");
        assert_eq!(body["message"], "Object is not valid", "{body}");
        let details = body["details"].as_array().expect("details");
        let told = details.iter().any(|detail| {
            let errors = detail["errors"].as_array().into_iter().flatten();
            detail["path"] == path
                && errors
                    .filter_map(Value::as_str)
                    .any(|error| error.contains(words))
        });
        assert!(told, "{path} {words}: {body}");
    }
    assert_eq!(
        house.get("/v1/jobs").await,
        (200, json!([])),
        "nothing of it was kept"
    );
    assert_eq!(
        house.post("/v1/jobs", &job("j")).await.0,
        201,
        "and the house still works"
    );
}

#[tokio::test]
async fn our_own_fields_are_checked_too() {
    let house = House::new().await;
    for (document, words) in [
        (run("retries", json!(3)), "must be an object"),
        (run("retries", json!({})), "is required"),
        (run("retries", json!({"count": -1})), "between 0 and 10000"),
        (
            run("retries", json!({"count": 1, "backoffFactor": 0.5})),
            "between 1 and 100",
        ),
        (
            run("retries", json!({"count": 1, "backoffSeconds": "1s"})),
            "whole number",
        ),
        (
            run("retries", json!({"count": 1, "more": 1})),
            "is no field here",
        ),
        (run("maxRunSeconds", json!(0)), "between 1 and"),
    ] {
        let (status, body) = house.post("/v2/jobs", &document).await;
        assert_eq!(status, 422);
        assert!(body.to_string().contains(words), "{words}: {body}");
    }
}

#[tokio::test]
async fn requests_are_refused_with_the_right_status() {
    let house = House::new().await;
    house.post("/v1/jobs", &job("j")).await;
    let rows: Vec<(&str, &str, Vec<u8>, u16, &str)> = vec![
        ("POST", "/v1/jobs", b"".to_vec(), 400, "Invalid JSON"),
        ("POST", "/v1/jobs", b"{".to_vec(), 400, "Invalid JSON"),
        (
            "POST",
            "/v1/jobs",
            b"{\"id\": \"a\",}".to_vec(),
            400,
            "Invalid JSON",
        ),
        ("POST", "/v1/jobs", b"{} {}".to_vec(), 400, "Invalid JSON"),
        (
            "POST",
            "/v1/jobs",
            b"\xff\xfe".to_vec(),
            400,
            "Invalid JSON",
        ),
        (
            "POST",
            "/v1/jobs",
            "[".repeat(100_000).into_bytes(),
            400,
            "Invalid JSON",
        ),
        (
            "POST",
            "/v1/jobs",
            vec![b' '; 3 * 1024 * 1024],
            413,
            "larger than 1048576 bytes",
        ),
        (
            "PUT",
            "/v1/jobs/j",
            b"nonsense".to_vec(),
            400,
            "Invalid JSON",
        ),
        (
            "PUT",
            "/v1/jobs/j",
            b"{}".to_vec(),
            422,
            "Object is not valid",
        ),
        (
            "PUT",
            "/v1/jobs/gone",
            job("gone").to_string().into_bytes(),
            404,
            "Job not found",
        ),
        ("GET", "/v1/jobs/gone", vec![], 404, "Job not found"),
        ("DELETE", "/v1/jobs/gone", vec![], 404, "Job not found"),
        (
            "GET",
            "/v1/jobs/Upper",
            vec![],
            400,
            "Not a valid id: Upper",
        ),
        ("GET", "/v1/jobs/a..b", vec![], 400, "Not a valid id: a..b"),
        ("GET", "/v1/jobs/%2e%2e", vec![], 400, "Not a valid id"),
        ("GET", "/v1/jobs/%ff", vec![], 400, "Not a valid id"),
        ("GET", "/v1/jobs/a%2fb", vec![], 400, "Not a valid id: a/b"),
        (
            "GET",
            "/v1/jobs/j?embed=nothing",
            vec![],
            400,
            "Unknown embed options. Valid options are",
        ),
        (
            "GET",
            "/v1/jobs?embed=history,runs",
            vec![],
            400,
            "Unknown embed options",
        ),
        (
            "GET",
            "/v1/jobs?embed=",
            vec![],
            400,
            "Unknown embed options",
        ),
        (
            "DELETE",
            "/v1/jobs/j?stopCurrentJobRuns=maybe",
            vec![],
            400,
            "must be true or false",
        ),
        ("GET", "/v1/jobs/gone/runs", vec![], 404, "Job not found"),
        ("POST", "/v1/jobs/gone/runs", vec![], 404, "Job not found"),
        ("POST", "/v1/jobs/-/runs", vec![], 400, "Not a valid id: -"),
        (
            "GET",
            "/v1/jobs/j/runs/none",
            vec![],
            404,
            "Job Run not found",
        ),
        (
            "GET",
            "/v1/jobs/j/runs/a%20b",
            vec![],
            404,
            "Job Run not found",
        ),
        (
            "GET",
            "/v1/jobs/gone/runs/a%20b",
            vec![],
            404,
            "Job not found",
        ),
        (
            "POST",
            "/v1/jobs/j/runs/none/actions/stop",
            vec![],
            404,
            "Job Run not found",
        ),
        (
            "POST",
            "/v1/jobs/gone/runs/none/actions/stop",
            vec![],
            404,
            "Job not found",
        ),
        (
            "POST",
            "/v1/jobs/j/schedules",
            b"{}".to_vec(),
            422,
            "schedules are not served yet",
        ),
        (
            "PUT",
            "/v1/jobs/j/schedules/s",
            b"{}".to_vec(),
            404,
            "Schedule not found",
        ),
        (
            "GET",
            "/v1/jobs/gone/schedules",
            vec![],
            404,
            "Job not found",
        ),
        ("GET", "/v1/nothing", vec![], 404, "Unknown route."),
        ("GET", "/", vec![], 404, "Unknown route."),
        ("PATCH", "/v1/jobs/j", vec![], 404, "Unknown route."),
        ("DELETE", "/v1/jobs", vec![], 404, "Unknown route."),
        (
            "GET",
            "/v1/jobs/j/runs/x/actions/stop",
            vec![],
            404,
            "Unknown route.",
        ),
        ("GET", "/v1/%3Cscript%3E", vec![], 404, "Unknown route."),
        ("GET", "/v3/jobs", vec![], 404, "Unknown route."),
    ];
    for (method, path, body, expected, words) in rows {
        let (status, answer) = house.ask(method, path, body).await;
        assert_eq!(status, expected, "{method} {path}: {answer}");
        assert!(answer["message"].is_string(), "{answer}");
        assert!(answer.to_string().contains(words), "{words}: {answer}");
    }
    let (_, answer) = house.get("/v1/a'b&c").await;
    assert_eq!(answer["requestPath"], "/v1/a&#39;b&amp;c");
    assert_eq!(
        house.get("/v1/jobs/j").await.0,
        200,
        "and the house still works"
    );
}

#[tokio::test]
async fn a_process_that_does_not_lead_says_so_and_never_passes_a_request_on_twice() {
    let house = House::new().await;
    for standing in [Standing::InDoubt, Standing::Standby { leader: None }] {
        house.standing.send_replace(standing);
        let (status, body) = house.get("/v1/jobs").await;
        assert_eq!(status, 503, "{body}");
        assert!(
            body["message"]
                .as_str()
                .is_some_and(|words| words.contains("No consistent leadership"))
        );
        assert_eq!(house.get("/ping").await.0, 200);
        assert_eq!(house.get("/leader").await.0, 404);
    }
    let leader = "127.0.0.1:1".to_owned();
    house.standing.send_replace(Standing::Standby {
        leader: Some(leader.clone()),
    });
    assert_eq!(house.get("/leader").await, (200, json!({"leader": leader})));
    let (status, body) = house.get("/v1/jobs").await;
    assert_eq!(status, 502, "{body}");
    let request = Request::get("/v1/jobs")
        .header("X-VIA", "another:9000")
        .body(Body::empty());
    let (status, body, _) = house.send(request.expect("good")).await;
    assert_eq!(status, 400);
    assert_eq!(body["message"], "Prevent proxying already proxied request");
}

#[tokio::test]
async fn a_standby_passes_requests_on_and_says_to_whom() {
    let leader = House::new().await;
    leader.post("/v1/jobs", &job("there")).await;
    let door = mezzo_door::Bind::loopback(0).open().await.expect("a port");
    let addr = door.addr();
    let stop = mezzo_door::Stop::new();
    let served = tokio::spawn(mezzo_door::serve(door, leader.router.clone(), stop.clone()));
    let standby = House::new().await;
    standby.standing.send_replace(Standing::Standby {
        leader: Some(addr.to_string()),
    });
    assert_eq!(standby.get("/v1/jobs/there").await.0, 200);
    assert_eq!(standby.post("/v1/jobs", &job("new")).await.0, 201);
    assert_eq!(leader.get("/v1/jobs/new").await.0, 200);
    let request = Request::get("/v1/jobs/gone?embed=history")
        .body(Body::empty())
        .expect("good");
    let (status, body, headers) = standby.send(request).await;
    assert_eq!(
        (status.as_u16(), &body["message"]),
        (404, &json!("Job not found"))
    );
    assert_eq!(
        headers
            .get("x-leader")
            .and_then(|value| value.to_str().ok()),
        Some(&*addr.to_string())
    );
    stop.stop();
    served.await.expect("ends");
}
