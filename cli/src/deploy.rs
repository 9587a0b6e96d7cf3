//! Brings apps and jobs to their frameworks: a new one is made, a known one is replaced.

use http::{Method, StatusCode};
use serde_json::Value;

use crate::client::rest::{Rest, escape};
use crate::failure::Failure;

/// What became of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployed {
    /// Its id, with the slash in front.
    pub id: String,
    /// The deployments that carry it out.
    pub deployments: Vec<String>,
    /// Whether it was there before.
    pub replaced: bool,
}

/// The path of an app.
pub fn app_path(id: &str) -> String {
    let steps: Vec<String> = id
        .split('/')
        .filter(|step| !step.is_empty())
        .map(escape)
        .collect();
    format!("/v2/apps/{}", steps.join("/"))
}

/// The path of a job, in our own dialect.
pub fn job_path(id: &str) -> String {
    format!("/v2/jobs/{}", escape(id))
}

/// Makes an app, or replaces the whole of it.
///
/// # Errors
/// If the service framework does not answer or refuses.
pub async fn app(service: &Rest, document: &Value, force: bool) -> Result<Deployed, Failure> {
    let id = document["id"].as_str().unwrap_or_default();
    let (status, _) = service.send(Method::GET, &app_path(id), None).await?;
    let (replaced, answer) = if status == StatusCode::NOT_FOUND {
        (
            false,
            service
                .ask(Method::POST, &with_force("/v2/apps", force), Some(document))
                .await?,
        )
    } else {
        // The file is the whole app: what is not in it any more is not to stay.
        let path = format!("{}?partialUpdate=false&force={force}", app_path(id));
        (true, service.ask(Method::PUT, &path, Some(document)).await?)
    };
    let id = if id.starts_with('/') {
        id.to_owned()
    } else {
        format!("/{id}")
    };
    Ok(Deployed {
        id,
        deployments: deployments(&answer),
        replaced,
    })
}

/// Makes a job, or replaces it.
///
/// # Errors
/// If the batch framework does not answer or refuses.
pub async fn job(batch: &Rest, document: &Value) -> Result<String, Failure> {
    let id = document["id"].as_str().unwrap_or_default();
    let (status, _) = batch.send(Method::GET, &job_path(id), None).await?;
    if status == StatusCode::NOT_FOUND {
        batch.ask(Method::POST, "/v2/jobs", Some(document)).await?;
    } else {
        batch
            .ask(Method::PUT, &job_path(id), Some(document))
            .await?;
    }
    Ok(id.to_owned())
}

/// Starts a run of a job; its id.
///
/// # Errors
/// If the batch framework does not answer or refuses.
pub async fn start_run(batch: &Rest, job: &str) -> Result<String, Failure> {
    let run = batch
        .ask(Method::POST, &format!("{}/runs", job_path(job)), None)
        .await?;
    match run["id"].as_str() {
        Some(id) => Ok(id.to_owned()),
        None => Err(Failure::Nonsense {
            who: "batch framework",
            words: run.to_string(),
        }),
    }
}

/// The path with `force=true` if wanted.
pub fn with_force(path: &str, force: bool) -> String {
    if force {
        format!("{path}?force=true")
    } else {
        path.to_owned()
    }
}

/// The deployments that an answer names, whichever of its shapes it has.
pub fn deployments(answer: &Value) -> Vec<String> {
    if let Some(id) = answer["deploymentId"].as_str() {
        return vec![id.to_owned()];
    }
    let listed = answer["deployments"].as_array().into_iter().flatten();
    listed
        .filter_map(|deployment| deployment["id"].as_str().map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use mezzo_door::Stop;
    use serde_json::json;

    use super::*;
    use crate::endpoints::Endpoints;

    #[derive(Parser)]
    struct Service {
        #[command(flatten)]
        flags: mezzo_service::Flags,
    }

    #[tokio::test]
    async fn what_is_left_out_of_the_file_is_left_out_of_the_app() {
        let dir = tempfile::tempdir().expect("a directory");
        let work = format!("--work_dir={}", dir.path().display());
        // Nobody plays the master: what is deployed waits for offers.
        let line = ["service", "--port=0", "--master=127.0.0.1:1", &work];
        let stop = Stop::new();
        let running = mezzo_service::start(Service::parse_from(line).flags, stop.clone())
            .await
            .expect("starts");
        running.health.until_good().await;
        let nobody = "127.0.0.1:1".to_owned();
        let service = Rest::service(&Endpoints {
            master: nobody.clone(),
            service: running.addr.to_string(),
            batch: nobody,
            authorization: None,
        });
        let first = json!({
            "id": "/web", "cmd": "x", "instances": 3, "labels": {"a": "b"}, "env": {"K": "v"},
        });
        let made = app(&service, &first, false).await.expect("is made");
        assert!(!made.replaced);
        let held = app(&service, &json!({"id": "web", "cmd": "y"}), false).await;
        assert!(
            matches!(&held, Err(Failure::Refused { status, .. }) if *status == StatusCode::CONFLICT),
            "the first deployment is under way: {held:?}"
        );
        let second = json!({"id": "web", "cmd": "y", "env": {"L": "w"}});
        let replaced = app(&service, &second, true).await.expect("is replaced");
        assert!(replaced.replaced && !replaced.deployments.is_empty());
        assert_eq!(replaced.id, "/web");
        let now = service.ask(Method::GET, "/v2/apps/web", None).await;
        let now = now.expect("is there")["app"].clone();
        assert_eq!(
            [&now["cmd"], &now["instances"], &now["labels"], &now["env"]],
            [&json!("y"), &json!(1), &json!({}), &json!({"L": "w"})],
            "{now}"
        );
        stop.stop();
        running.ended().await;
    }

    #[test]
    fn paths_and_deployments_are_found() {
        assert_eq!(app_path("/a/b c"), "/v2/apps/a/b%20c");
        assert_eq!(app_path("web"), "/v2/apps/web");
        assert_eq!(job_path("a.b"), "/v2/jobs/a.b");
        assert_eq!(
            deployments(&json!({"version": "x", "deploymentId": "d"})),
            ["d"]
        );
        assert_eq!(
            deployments(&json!({"deployments": [{"id": "e"}, {"id": "f"}]})),
            ["e", "f"]
        );
        assert!(deployments(&json!({})).is_empty());
    }
}
