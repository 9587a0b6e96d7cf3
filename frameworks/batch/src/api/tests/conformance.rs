//! What Metronome's clients rely on, route by route.

use mezzo_coordination::store::memory::Memory;
use mezzo_model::ids::FrameworkId;
use mezzo_sdk::scheduler::{AckToken, SchedulerCommand, SchedulerEvent};
use mezzo_wire::v1;
use serde_json::{Value, json};

use super::{House, job};
use crate::core::Config;

impl House {
    async fn event(&self, event: SchedulerEvent) {
        self.events.send(event).await.expect("the core lives");
    }

    async fn subscribe(&mut self) {
        let framework_id = FrameworkId::parse("f-1").expect("good");
        self.event(SchedulerEvent::Subscribed {
            framework_id,
            resubscribed: false,
        })
        .await;
    }

    /// Offers enough for everything and gives the tasks that are launched.
    async fn launched(&mut self) -> Vec<v1::TaskInfo> {
        let resources =
            mezzo_model::resources::Resources::parse("cpus:8;mem:8000;disk:8000").expect("good");
        let offer = v1::Offer {
            id: v1::OfferId {
                value: "o-1".to_owned(),
            },
            framework_id: v1::FrameworkId {
                value: "f-1".to_owned(),
            },
            agent_id: v1::AgentId {
                value: "a-1".to_owned(),
            },
            hostname: "host-1".to_owned(),
            resources: resources.to_wire(),
            ..Default::default()
        };
        self.event(SchedulerEvent::Offers(vec![offer])).await;
        loop {
            match self.commands.recv().await.expect("the core lives") {
                SchedulerCommand::Accept { operations, .. } => {
                    return operations
                        .into_iter()
                        .filter_map(|one| one.launch)
                        .flat_map(|one| one.task_infos)
                        .collect();
                }
                SchedulerCommand::Decline { .. } => return Vec::new(),
                _ => {}
            }
        }
    }

    /// A status comes, and its acknowledgement is waited for.
    async fn update(&mut self, task: &v1::TaskInfo, state: v1::TaskState, uuid: u8) {
        let status = v1::TaskStatus {
            task_id: task.task_id.clone(),
            state: state as i32,
            agent_id: Some(task.agent_id.clone()),
            uuid: Some(bytes::Bytes::copy_from_slice(&[uuid; 16])),
            message: Some("because".to_owned()),
            ..Default::default()
        };
        let ack = AckToken::of(&status);
        self.event(SchedulerEvent::Update {
            status,
            ack: ack.clone(),
        })
        .await;
        while self.commands.recv().await.expect("the core lives")
            != SchedulerCommand::Acknowledge(ack.clone())
        {}
    }
}

#[tokio::test]
async fn a_job_is_shown_with_all_defaults_and_can_be_put_back_unchanged() {
    let house = House::new().await;
    let (status, made) = house.post("/v1/jobs", &job("reports.daily")).await;
    assert_eq!(status, 201);
    let expected = json!({
        "id": "reports.daily",
        "dependencies": [],
        "labels": {},
        "run": {
            "cpus": 0.1, "mem": 32, "disk": 0, "gpus": 0, "cmd": "true", "env": {}, "secrets": {},
            "placement": {"constraints": []}, "artifacts": [], "maxLaunchDelay": 3600, "volumes": [],
            "networks": [], "restart": {"policy": "NEVER"},
        },
        "schedules": [],
    });
    assert_eq!(made, expected);
    assert!(
        made.to_string().contains("\"mem\":32,"),
        "no fraction: {made}"
    );
    assert_eq!(
        house.get("/v1/jobs/reports.daily").await,
        (200, expected.clone())
    );
    assert_eq!(house.get("/v1/jobs").await, (200, json!([expected])));
    let again = house
        .ask("PUT", "/v1/jobs/reports.daily", made.to_string())
        .await;
    assert_eq!(again, (200, expected));
    let twice = house.post("/v1/jobs", &job("reports.daily")).await;
    assert_eq!(
        twice,
        (409, json!({"message": "Job with this id already exists"}))
    );
}

#[tokio::test]
async fn a_put_replaces_everything_and_takes_the_id_of_its_path() {
    let house = House::new().await;
    let mut first = job("a");
    first["description"] = json!("old");
    first["labels"] = json!({"x": "y"});
    house.post("/v1/jobs", &first).await;
    let (status, changed) = house.ask("PUT", "/v1/jobs/a", job("b").to_string()).await;
    assert_eq!(
        (status, &changed["id"], changed.get("description")),
        (200, &json!("a"), None)
    );
    assert_eq!(changed["labels"], json!({}));
    let (status, missing) = house.ask("PUT", "/v1/jobs/b", job("b").to_string()).await;
    assert_eq!(
        (status, missing),
        (404, json!({"id": "b", "message": "Job not found"}))
    );
}

#[tokio::test]
async fn a_run_is_shown_while_it_is_active_and_is_history_afterwards() {
    let mut house = House::new().await;
    house.subscribe().await;
    house.post("/v1/jobs", &job("a.b")).await;
    let (status, run) = house
        .post("/v1/jobs/a.b/runs", &json!({"ignored": true}))
        .await;
    assert_eq!(status, 201);
    let id = run["id"].as_str().expect("an id").to_owned();
    assert_eq!(
        (id.len(), id[..14].bytes().all(|b| b.is_ascii_digit())),
        (19, true),
        "{id}"
    );
    assert_eq!(
        (&run["jobId"], &run["status"]),
        (&json!("a.b"), &json!("STARTING"))
    );
    assert_eq!(
        (&run["completedAt"], &run["tasks"]),
        (&Value::Null, &json!([]))
    );
    let created = run["createdAt"].as_str().expect("a date");
    assert!(
        created.ends_with("+0000") && created.len() == "2016-07-15T13:02:59.735+0000".len(),
        "{created}"
    );
    let queue = house.get("/v1/queue").await;
    assert_eq!(
        queue,
        (200, json!([{"jobId": "a.b", "runs": [{"runId": id}]}]))
    );

    let tasks = house.launched().await;
    house.update(&tasks[0], v1::TaskState::TaskRunning, 1).await;
    let path = format!("/v1/jobs/a.b/runs/{id}");
    let (status, active) = house.get(&path).await;
    assert_eq!((status, &active["status"]), (200, &json!("ACTIVE")));
    let task = &active["tasks"][0];
    assert_eq!(
        (&task["id"], &task["status"]),
        (&json!(tasks[0].task_id.value), &json!("TASK_RUNNING"))
    );
    assert_eq!(
        (task["startedAt"].is_string(), task.get("completedAt")),
        (true, None)
    );
    let (_, listed) = house.get("/v1/jobs/a.b/runs").await;
    assert_eq!(listed, json!([active]));
    let (_, embedded) = house.get("/v1/jobs/a.b?embed=activeRuns").await;
    assert_eq!(embedded["activeRuns"], json!([active]));
    assert_eq!(house.get("/v1/queue").await, (200, json!([])));

    house
        .update(&tasks[0], v1::TaskState::TaskFinished, 2)
        .await;
    let gone = json!({"jobSpec": "a.b", "id": id, "message": "Job Run not found"});
    assert_eq!(house.get(&path).await, (404, gone));
    assert_eq!(house.get("/v1/jobs/a.b/runs").await, (200, json!([])));
    let (_, with) = house
        .get("/v1/jobs?embed=history,historySummary&embed=activeRuns")
        .await;
    let with = &with[0];
    assert_eq!(with["activeRuns"], json!([]));
    assert_eq!(with["history"]["successCount"], json!(1));
    let ended = &with["history"]["successfulFinishedRuns"][0];
    assert_eq!(
        (&ended["id"], &ended["tasks"]),
        (&json!(id), &json!([tasks[0].task_id.value]))
    );
    assert!(ended["createdAt"].is_string() && ended["finishedAt"].is_string());
    let summary = &with["historySummary"];
    assert_eq!(
        (
            summary.as_object().map(serde_json::Map::len),
            &summary["lastFailureAt"]
        ),
        (Some(4), &Value::Null)
    );
    let (_, kept) = house.get(&format!("/v2/jobs/a.b/runs/{id}")).await;
    assert_eq!(
        (&kept["status"], &kept["attempts"]),
        (&json!("SUCCESS"), &json!(1))
    );
    assert_eq!(
        (&kept["tasks"][0]["hostname"], &kept["tasks"][0]["message"]),
        (&json!("host-1"), &json!("because"))
    );
}

#[tokio::test]
async fn stopping_answers_with_a_failed_run_and_kills_its_task() {
    let mut house = House::new().await;
    house.subscribe().await;
    house.post("/v1/jobs", &job("a")).await;
    let (_, run) = house.post("/v1/jobs/a/runs", &json!({})).await;
    let id = run["id"].as_str().expect("an id").to_owned();
    let tasks = house.launched().await;
    house.update(&tasks[0], v1::TaskState::TaskRunning, 1).await;
    let refused = house.ask("DELETE", "/v1/jobs/a", "").await;
    let words = "There are active job runs. Override with stopCurrentJobRuns=true";
    assert_eq!(refused, (409, json!({"message": words})));
    let (status, stopped) = house
        .post(&format!("/v1/jobs/a/runs/{id}/actions/stop"), &json!({}))
        .await;
    assert_eq!((status, &stopped["status"]), (200, &json!("FAILED")));
    assert!(stopped["completedAt"].is_string());
    let kill = house.commands.recv().await.expect("the core lives");
    assert!(
        matches!(&kill, SchedulerCommand::Kill { task, .. } if task.as_str() == tasks[0].task_id.value),
        "{kill:?}"
    );
    let (_, with) = house.get("/v1/jobs/a?embed=history").await;
    assert_eq!(with["history"]["failureCount"], json!(1));
    assert_eq!(with["history"]["failedFinishedRuns"][0]["id"], json!(id));
    let (status, deleted) = house.ask("DELETE", "/v1/jobs/a", "").await;
    assert_eq!((status, &deleted["id"]), (200, &json!("a")));
    assert_eq!(house.get("/v1/jobs").await, (200, json!([])));
}

#[tokio::test]
async fn a_deletion_may_stop_what_runs() {
    let mut house = House::new().await;
    house.subscribe().await;
    house.post("/v1/jobs", &job("a")).await;
    house.post("/v1/jobs/a/runs", &json!({})).await;
    let (status, _) = house
        .ask("DELETE", "/v1/jobs/a?stopCurrentJobRuns=true", "")
        .await;
    assert_eq!(status, 200);
    assert_eq!(house.get("/v1/jobs/a").await.0, 404);
}

#[tokio::test]
async fn our_own_fields_are_on_v2_only() {
    let house = House::new().await;
    let mut ours = job("a");
    ours["run"]["retries"] = json!({"count": 2});
    ours["run"]["maxRunSeconds"] = json!(60);
    let (status, refused) = house.post("/v1/jobs", &ours).await;
    assert_eq!(
        (status, &refused["details"][0]["path"]),
        (422, &json!("/run/maxRunSeconds"))
    );
    let (status, made) = house.post("/v2/jobs", &ours).await;
    let retries =
        json!({"count": 2, "backoffSeconds": 1, "backoffFactor": 2, "maxBackoffSeconds": 300});
    assert_eq!((status, &made["run"]["retries"]), (201, &retries));
    let (_, old) = house.get("/v1/jobs/a").await;
    assert_eq!(
        (old["run"].get("retries"), old["run"].get("maxRunSeconds")),
        (None, None)
    );
    house.ask("PUT", "/v1/jobs/a", old.to_string()).await;
    let (_, kept) = house.get("/v2/jobs/a").await;
    assert_eq!(kept, made, "a document of /v1 cannot take it away");
    let back = house.ask("PUT", "/v2/jobs/a", made.to_string()).await;
    assert_eq!(back, (200, made));
}

#[tokio::test]
async fn pages_of_the_process_itself() {
    let house = House::new().await;
    assert_eq!(house.get("/ping").await, (200, json!("pong")));
    assert_eq!(
        house.get("/leader").await,
        (200, json!({"leader": "me:9000"}))
    );
    let (status, info) = house.get("/info").await;
    assert_eq!((status, info["version"].is_string()), (200, true));
    house.post("/v1/jobs", &job("a")).await;
    assert_eq!(house.get("/v1/jobs/a/schedules").await, (200, json!([])));
    let missing = json!({"id": "s1", "message": "Schedule not found"});
    assert_eq!(house.get("/v1/jobs/a/schedules/s1").await, (404, missing));
}

#[tokio::test]
async fn the_next_leader_knows_everything_that_was_promised() {
    let memory = Memory::new("test");
    let mut house = House::on(memory, Config::default()).await;
    house.subscribe().await;
    house.post("/v1/jobs", &job("a")).await;
    let (_, run) = house.post("/v1/jobs/a/runs", &json!({})).await;
    let tasks = house.launched().await;
    assert_eq!(tasks.len(), 1);
    let next = House::on(house.memory.clone(), Config::default()).await;
    let (_, runs) = next.get("/v1/jobs/a/runs").await;
    assert_eq!(runs[0]["id"], run["id"]);
    let (status, body) = house.post("/v1/jobs", &job("b")).await;
    assert_eq!(status, 503, "the term of the first is over: {body}");
    assert_eq!(next.get("/v1/jobs/b").await.0, 404);
}
