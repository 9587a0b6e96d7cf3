//! The door against the core: routes, bodies and statuses that clients rely on.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Facts, Request, Response, read, write};
use crate::core::request::Answer;
use crate::core::testing::World;

mod bad_input;
mod corpus;
mod shapes;

/// Sends a request through the door.
fn send(world: &mut World, method: &str, target: &str, body: &str) -> Response {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        content_type: (!body.is_empty()).then(|| "application/json".to_owned()),
        accept: None,
        body: Bytes::copy_from_slice(body.as_bytes()),
    };
    match read(&request) {
        Ok(call) => {
            let answer = world.call(call);
            if let Ok(Answer::Deployed(deployed, _)) = &answer {
                assert_eq!(deployed.deployment.len(), 36);
            }
            write(
                answer,
                &Facts {
                    leader: "here:8080".to_owned(),
                    elected: true,
                    ..Facts::default()
                },
            )
        }
        Err(response) => response,
    }
}

fn get(world: &mut World, target: &str) -> Value {
    let response = send(world, "GET", target, "");
    assert_eq!(response.status, 200, "{target}: {response:?}");
    response.body.expect("a body")
}

fn post(world: &mut World, document: &Value) -> Response {
    send(world, "POST", "/v2/apps", &document.to_string())
}

/// A normal app still deploys: the proof that nothing was harmed.
fn deploys(world: &mut World, id: &str) {
    let created = post(
        world,
        &json!({"id": id, "cmd": "sleep 1000", "cpus": 0.1, "mem": 16}),
    );
    assert_eq!(created.status, 201, "{created:?}");
    world.calm();
    assert_eq!(world.live(id).len(), 1);
}
