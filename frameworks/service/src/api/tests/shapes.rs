//! Bodies as clients index them.

use serde_json::{Value, json};

use super::*;
use crate::core::request::AppFilter;

fn full() -> Value {
    json!({
        "id": "/prod/web", "cmd": "serve --port $PORT0", "cpus": 0.25, "mem": 64.5, "disk": 1, "instances": 2,
        "user": "web", "env": {"A": "b", "EMPTY": ""}, "labels": {"HAPROXY_GROUP": "external", "tier": "1"},
        "portDefinitions": [
            {"port": 0, "protocol": "tcp", "name": "http", "labels": {"vip": "192.168.0.1:80"}},
            {"port": 9990, "protocol": "udp,tcp"}
        ],
        "constraints": [["hostname", "MAX_PER", "5"], ["rack", "like", "r.*"], ["@zone", "GROUP_BY"]],
        "acceptedResourceRoles": ["*"],
        "healthChecks": [
            {"protocol": "HTTP", "path": "/up", "portIndex": 1, "gracePeriodSeconds": 5, "intervalSeconds": 3,
             "timeoutSeconds": 2, "maxConsecutiveFailures": 4, "ignoreHttp1xx": true},
            {"protocol": "TCP", "port": 8123},
            {"protocol": "HTTPS"},
            {"protocol": "COMMAND", "command": {"value": "test -f up"}, "delaySeconds": 1}
        ],
        "backoffSeconds": 2, "backoffFactor": 1.5, "maxLaunchDelaySeconds": 60,
        "upgradeStrategy": {"minimumHealthCapacity": 0.5, "maximumOverCapacity": 0.25},
        "killSelection": "OLDEST_FIRST",
        "unreachableStrategy": {"inactiveAfterSeconds": 5, "expungeAfterSeconds": 10},
        "taskKillGracePeriodSeconds": 7, "requirePorts": false, "tty": false,
    })
}

#[test]
fn defaults_are_marathons() {
    let mut world = World::new();
    let created = post(&mut world, &json!({"id": "web", "cmd": "sleep 1"}));
    assert_eq!(created.status, 201);
    let header = |name: &str| {
        let found = created.headers.iter().find(|(own, _)| *own == name);
        found.map(|(_, value)| value.clone()).expect(name)
    };
    assert_eq!(header("Location"), "/web");
    let mut body = created.body.clone().expect("a body");
    assert_eq!(
        body["deployments"],
        json!([{ "id": header("Marathon-Deployment-Id") }])
    );
    let version = body["version"].clone();
    assert_eq!(
        body["versionInfo"],
        json!({"lastScalingAt": version, "lastConfigChangeAt": version})
    );
    for volatile in ["version", "versionInfo", "deployments"] {
        body.as_object_mut().expect("an object").remove(volatile);
    }
    assert_eq!(
        body,
        json!({
            "id": "/web", "cmd": "sleep 1", "instances": 1, "cpus": 1, "mem": 128, "disk": 0, "gpus": 0, "executor": "",
            "backoffSeconds": 1, "backoffFactor": 1.15, "maxLaunchDelaySeconds": 300, "labels": {},
            "networks": [{"mode": "host"}], "requirePorts": false, "role": "*",
            "portDefinitions": [{"port": 10000, "protocol": "tcp", "name": "default", "labels": {}}],
            "upgradeStrategy": {"minimumHealthCapacity": 1, "maximumOverCapacity": 1},
            "killSelection": "YOUNGEST_FIRST",
            "unreachableStrategy": {"inactiveAfterSeconds": 0, "expungeAfterSeconds": 0},
            "tasksStaged": 0, "tasksRunning": 0, "tasksHealthy": 0, "tasksUnhealthy": 0,
        })
    );
}

#[test]
fn every_app_that_is_returned_can_be_put_back_unchanged() {
    let mut world = World::new();
    let minimal = json!({"id": "/a", "cmd": "x"});
    let disabled =
        json!({"id": "/b", "args": ["run", "it"], "unreachableStrategy": "disabled", "ports": []});
    let old = json!({"id": "/c", "cmd": "x", "ports": [0, 8080], "requirePorts": true});
    let mut ids = Vec::new();
    for document in [full(), minimal, disabled, old] {
        assert_eq!(post(&mut world, &document).status, 201, "{document}");
        ids.push(document["id"].as_str().expect("an id").to_owned());
    }
    world.all_run();
    for partial in ["true", "false"] {
        for id in &ids {
            let before = get(&mut world, &format!("/v2/apps{id}"))["app"].clone();
            let target = format!("/v2/apps{id}?partialUpdate={partial}");
            let put = send(&mut world, "PUT", &target, &before.to_string());
            assert_eq!(put.status, 200, "{id}: {put:?}");
            let after = get(&mut world, &format!("/v2/apps{id}"))["app"].clone();
            assert_eq!(before, after);
        }
        let list = get(&mut world, "/v2/apps?embed=apps.tasks&embed=apps.failures")["apps"].clone();
        let target = format!("/v2/apps?partialUpdate={partial}");
        assert_eq!(
            send(&mut world, "PUT", &target, &list.to_string()).status,
            200
        );
    }
    let deployments = get(&mut world, "/v2/deployments");
    assert_eq!(
        deployments.as_array().map(Vec::len),
        Some(4),
        "those that created them, and no more"
    );
}

#[test]
fn what_was_sent_is_what_is_returned() {
    let mut world = World::new();
    assert_eq!(post(&mut world, &full()).status, 201);
    let app = get(&mut world, "/v2/apps/prod/web")["app"].clone();
    for name in [
        "cmd",
        "cpus",
        "mem",
        "env",
        "labels",
        "acceptedResourceRoles",
        "user",
        "upgradeStrategy",
        "killSelection",
        "unreachableStrategy",
        "backoffFactor",
        "taskKillGracePeriodSeconds",
        "tty",
    ] {
        assert_eq!(app[name], full()[name], "{name}");
    }
    assert_eq!(app["constraints"][1], json!(["rack", "LIKE", "r.*"]));
    assert_eq!(app["portDefinitions"][0]["labels"]["vip"], "192.168.0.1:80");
    assert_eq!(app["portDefinitions"][1]["port"], 9990);
    assert_eq!(app["healthChecks"][0]["portIndex"], 1);
    assert_eq!(app["healthChecks"][1]["port"], 8123);
    assert_eq!(app["healthChecks"][2]["portIndex"], 0, "filled in");
    assert_eq!(app["healthChecks"][3]["command"]["value"], "test -f up");
}

#[test]
fn tasks_deployments_and_queue_have_their_shapes() {
    let mut world = World::new();
    post(
        &mut world,
        &json!({"id": "/web", "cmd": "x", "instances": 2}),
    );
    let deployments = get(&mut world, "/v2/deployments");
    let id = deployments[0]["id"].as_str().expect("an id").to_owned();
    let version = deployments[0]["version"].clone();
    assert_eq!(
        deployments,
        json!([{
            "id": id, "version": version, "affectedApps": ["/web"], "affectedPods": [],
            "steps": [
                {"actions": [{"action": "StartApplication", "app": "/web"}]},
                {"actions": [{"action": "ScaleApplication", "app": "/web"}]}
            ],
            "currentActions": [{"action": "ScaleApplication", "app": "/web", "readinessCheckResults": []}],
            "currentStep": 2, "totalSteps": 2
        }])
    );
    world.offer("a1", "cpus:1;mem:64;ports:[1-2]");
    let queue = get(&mut world, "/v2/queue?embed=lastUnusedOffers");
    let entry = &queue["queue"][0];
    assert_eq!(
        (&entry["count"], &entry["app"]["id"]),
        (&json!(2), &json!("/web"))
    );
    assert_eq!(
        entry["delay"],
        json!({"timeLeftSeconds": 0, "overdue": true})
    );
    let summary = &entry["processedOffersSummary"];
    assert_eq!(summary["processedOffersCount"], 1);
    let funnel = summary["rejectSummaryLastOffers"]
        .as_array()
        .expect("a list");
    assert_eq!(funnel.len(), 10);
    assert_eq!(
        funnel[5],
        json!({"reason": "InsufficientMemory", "declined": 1, "processed": 1})
    );
    assert_eq!(
        funnel[6],
        json!({"reason": "InsufficientDisk", "declined": 0, "processed": 0})
    );
    assert_eq!(
        entry["lastUnusedOffers"][0]["reason"],
        json!(["InsufficientMemory"])
    );
    assert_eq!(
        entry["lastUnusedOffers"][0]["offer"]["hostname"],
        "host-of-a1"
    );
    world.calm();
    let tasks = get(&mut world, "/v2/tasks")["tasks"].clone();
    let task = &tasks[0];
    assert_eq!(task["state"], "TASK_RUNNING");
    assert_eq!(
        (&task["appId"], &task["slaveId"]),
        (&json!("/web"), &json!("a1"))
    );
    assert_eq!(task["servicePorts"], json!([10000]));
    assert_eq!(task["ports"].as_array().map(Vec::len), Some(1));
    for name in ["healthCheckResults", "ipAddresses", "localVolumes"] {
        assert_eq!(task[name], json!([]), "{name}");
    }
    assert!(
        task["startedAt"]
            .as_str()
            .is_some_and(|at| at.ends_with('Z') && at.len() == 24)
    );
    assert_eq!(
        get(&mut world, "/v2/apps/web/tasks")["tasks"][0]["servicePorts"],
        json!([])
    );
    assert_eq!(
        get(&mut world, "/v2/tasks?status=staging")["tasks"],
        json!([])
    );
    assert_eq!(
        get(&mut world, "/v2/tasks?status[]=running")["tasks"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
    assert_eq!(get(&mut world, "/v2/deployments"), json!([]));
}

#[test]
fn routes_read_ids_as_clients_send_them() {
    let mut world = World::new();
    post(&mut world, &json!({"id": "/a/b", "cmd": "x"}));
    for target in [
        "/v2/apps/a/b",
        "/v2/apps//a/b",
        "/v2/apps/a/b/",
        "/v2/apps/%2Fa%2Fb",
        "/v2/apps///a//b",
    ] {
        assert_eq!(get(&mut world, target)["app"]["id"], "/a/b", "{target}");
    }
    for target in [
        "/v2/apps",
        "/v2/apps/",
        "/v2/apps?id=B",
        "/v2/apps?cmd=X&label=",
    ] {
        let response = send(&mut world, "GET", target, "");
        if target.ends_with("label=") {
            assert_eq!(response.status, 422);
        } else {
            assert_eq!(
                response.body.expect("a body")["apps"]
                    .as_array()
                    .map(Vec::len),
                Some(1),
                "{target}"
            );
        }
    }
    assert_eq!(get(&mut world, "/v2/apps?id=zzz")["apps"], json!([]));
    assert_eq!(get(&mut world, "/v2/apps/a/*")["*"][0]["id"], "/a/b");
    assert_eq!(
        get(&mut world, "/v2/apps/*")["*"].as_array().map(Vec::len),
        Some(1)
    );
    let restart = send(&mut world, "POST", "/v2/apps//a/b/restart?force=True", "");
    assert_eq!(restart.status, 200);
    assert!(
        restart
            .headers
            .iter()
            .any(|(name, _)| *name == "Marathon-Deployment-Id")
    );
    let versions = get(&mut world, "/v2/apps/a/b/versions")["versions"].clone();
    let first = versions[1].as_str().expect("two versions").to_owned();
    assert_eq!(
        get(&mut world, &format!("/v2/apps/a/b/versions/{first}"))["version"],
        first.as_str()
    );
    let put = send(
        &mut world,
        "PUT",
        "/v2/apps/new?force=true",
        r#"{"cmd": "y"}"#,
    );
    assert_eq!(put.status, 201);
    assert!(put.headers.contains(&("Location", "/new".to_owned())));
    let patch = send(
        &mut world,
        "PATCH",
        "/v2/apps/new?force=true",
        r#"{"instances": 0}"#,
    );
    assert_eq!(patch.status, 200);
    assert_eq!(
        send(
            &mut world,
            "PATCH",
            "/v2/apps",
            r#"[{"id": "/none", "instances": 0}]"#
        )
        .status,
        404
    );
    assert_eq!(send(&mut world, "HEAD", "/v2/apps", "").status, 200);
    assert_eq!(send(&mut world, "DELETE", "/v2/apps/new", "").status, 200);
}

#[test]
fn kills_by_ids() {
    let mut world = World::new();
    post(
        &mut world,
        &json!({"id": "/web", "cmd": "x", "instances": 3}),
    );
    world.calm();
    let task = world.live("/web").remove(0);
    let body =
        json!({ "ids": [task, "gone.instance-7a6f0c1e-0000-4000-8000-000000000001._app.1"] })
            .to_string();
    let killed = send(&mut world, "POST", "/v2/tasks/delete", &body)
        .body
        .expect("a body");
    assert_eq!(
        killed["tasks"].as_array().map(Vec::len),
        Some(1),
        "unknown ones are passed over"
    );
    world.calm();
    let task = world.live("/web").remove(0);
    let target = format!("/v2/apps/web/tasks/{task}?scale=true");
    let scaled = send(&mut world, "DELETE", &target, "")
        .body
        .expect("a body");
    assert!(scaled["deploymentId"].is_string());
    world.calm();
    assert_eq!(world.live("/web").len(), 2);
    let all = send(&mut world, "DELETE", "/v2/apps/web/tasks?host=*", "")
        .body
        .expect("a body");
    assert_eq!(all["tasks"].as_array().map(Vec::len), Some(2));
}

#[test]
fn info_has_every_key_that_clients_map() {
    let mut world = World::new();
    let info = get(&mut world, "/v2/info");
    assert_eq!(
        (&info["name"], &info["frameworkId"]),
        (&json!("marathon"), &json!("f1"))
    );
    assert_eq!(
        (&info["leader"], &info["elected"]),
        (&json!("here:8080"), &json!(true))
    );
    let config = info["marathon_config"].as_object().expect("an object");
    for name in [
        "checkpoint",
        "failover_timeout",
        "mesos_role",
        "webui_url",
        "maintenance_mode",
    ] {
        assert!(config.contains_key(name), "{name}");
    }
    assert_eq!(config.len(), 41);
    assert!(info["http_config"].get("https_port").is_some());
}

#[test]
fn filters_combine() {
    let mut world = World::new();
    for (id, cmd, tier) in [
        ("/a", "serve", "1"),
        ("/b", "serve", "2"),
        ("/c", "work", "1"),
    ] {
        post(
            &mut world,
            &json!({"id": id, "cmd": cmd, "labels": {"tier": tier}}),
        );
    }
    post(&mut world, &json!({"id": "/d", "args": ["serve"]}));
    let ids = |body: Value| -> Vec<String> {
        let apps = body["apps"].as_array().cloned().unwrap_or_default();
        apps.iter()
            .map(|app| app["id"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    for (query, expected) in [
        ("cmd=SERV", vec!["/a", "/b"]),
        ("label=tier%3D%3D1", vec!["/a", "/c"]),
        ("label=tier!%3D1", vec!["/b"]),
        ("label=tier%20in%20(1,2)&cmd=work", vec!["/c"]),
        ("label=nothing", vec![]),
    ] {
        assert_eq!(
            ids(get(&mut world, &format!("/v2/apps?{query}"))),
            expected,
            "{query}"
        );
    }
    assert_eq!(AppFilter::default().labels, []);
}
