//! Refusals as HTTP: the one place where statuses and bodies of errors are made.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Response;
use crate::core::app::{Problem, Refused};
use crate::core::request::Refusal;

/// The response to a call that is not carried out.
pub fn refused(refusal: &Refusal) -> Response {
    match refusal {
        Refusal::Document(Refused::Shape(problems)) => details("Invalid JSON", problems),
        Refusal::Document(Refused::Rules(problems)) => details("Object is not valid", problems),
        Refusal::Document(Refused::Conflict(words)) => Response::message(422, words.clone()),
        Refusal::BadRequest(words) => Response::message(400, words.clone()),
        Refusal::NoApp(_)
        | Refusal::NoVersion { .. }
        | Refusal::NoGroup(_)
        | Refusal::NoTask(_)
        | Refusal::NoDeployment(_)
        | Refusal::NotQueued(_) => Response::message(404, refusal.to_string()),
        Refusal::Exists(_) => Response::message(409, refusal.to_string()),
        Refusal::Locked(deployments) => {
            let ids: Vec<Value> = deployments.iter().map(|id| json!({ "id": id })).collect();
            let body = json!({ "message": refusal.to_string(), "deployments": ids });
            Response::json(409, body)
        }
        Refusal::TooManyDeployments(_) => Response::message(403, refusal.to_string()),
        Refusal::NoServicePort { .. } => Response::message(422, refusal.to_string()),
        Refusal::StoreBehind | Refusal::NotLeading => Response::message(503, refusal.to_string()),
    }
}

/// Several messages for one path stand together, in the order in which they were found.
fn details(message: &str, problems: &[Problem]) -> Response {
    let mut by_path: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for problem in problems {
        by_path
            .entry(&problem.path)
            .or_default()
            .push(&problem.words);
    }
    let details: Vec<Value> = by_path
        .into_iter()
        .map(|(path, errors)| json!({ "path": path, "errors": errors }))
        .collect();
    Response::json(422, json!({ "message": message, "details": details }))
}
