//! Documents: real ones, and what is refused with which words.

use serde_json::{Value, json};

use crate::core::job::parse::{self, Dialect};
use crate::core::job::{FieldError, JobId, JobSpec};

fn read(document: &Value, dialect: Dialect) -> Result<JobSpec, Vec<FieldError>> {
    parse::job(document, dialect, None)
}

fn sample() -> Value {
    json!({"id": "j", "run": {"cpus": 1, "mem": 32, "disk": 0, "cmd": "true"}})
}

#[test]
fn a_documents_neutral_fields_are_accepted() {
    let mut document = sample();
    document["schedules"] = json!([]);
    document["dependencies"] = json!([]);
    for (name, value) in [
        ("gpus", json!(0)),
        ("placement", json!({"constraints": []})),
        ("placement", json!({})),
        ("artifacts", json!([])),
        ("volumes", json!([])),
        ("networks", json!([])),
        ("networks", json!([{"mode": "host"}])),
        ("secrets", json!({})),
        ("maxLaunchDelay", json!(3600.0)),
        ("restart", json!({"policy": "NEVER"})),
    ] {
        document["run"][name] = value;
        read(&document, Dialect::Metronome).expect(name);
    }
}

#[test]
fn the_path_gives_the_id_but_the_document_must_have_one() {
    let id = JobId::parse("other").expect("good");
    let spec = parse::job(&sample(), Dialect::Metronome, Some(&id)).expect("good");
    assert_eq!(spec.id, id);
    let mut without = sample();
    without.as_object_mut().expect("an object").remove("id");
    let errors = parse::job(&without, Dialect::Metronome, Some(&id)).expect_err("no id");
    assert_eq!(
        (errors[0].path.as_str(), errors[0].message.as_str()),
        ("/id", "is required")
    );
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let document =
        json!({"id": "B", "run": {"cpus": 0, "mem": "x", "gpus": 1, "env": {"A": 1}}, "more": 1});
    let errors = read(&document, Dialect::Metronome).expect_err("much is wrong");
    let paths: Vec<&str> = errors.iter().map(|error| error.path.as_str()).collect();
    let expected = [
        "/id",
        "/run/disk",
        "/run/cpus",
        "/run/mem",
        "/run/gpus",
        "/run",
        "/run/env/A",
        "/more",
    ];
    assert_eq!(paths, expected);
}

#[test]
fn documents_from_elsewhere_are_served_or_refused_by_name() {
    // (document, the paths that are refused): shapes that people really use.
    let backup = json!({
        "id": "zk-backup", "description": "Backup", "labels": {},
        "run": {
            "cpus": 0.01, "mem": 128, "disk": 0, "env": {"ZOOKEEPER_ZNODE": "/", "KEY": ""},
            "placement": {"constraints": []}, "artifacts": [], "maxLaunchDelay": 3600,
            "docker": {"image": "someone/backup:build"}, "volumes": [], "restart": {"policy": "NEVER"},
        },
        "schedules": [{
            "id": "default", "enabled": true, "cron": "0 0 * * *", "timezone": "Asia/Seoul",
            "concurrencyPolicy": "ALLOW", "startingDeadlineSeconds": 900,
        }],
    });
    let secrets = json!({
        "id": "job-env-secret", "description": "job example with env based secrets", "labels": {},
        "run": {
            "cpus": 0.01, "mem": 32, "disk": 0, "cmd": "sleep 5",
            "env": {"SECRET_ENV": {"secret": "secret1"}}, "secrets": {"secret1": {"source": "/mysecret"}},
        },
    });
    let artifacts = json!({
        "id": "test-nginx", "description": "Installs NGINX and tests it",
        "run": {
            "cpus": 0.5, "mem": 100, "disk": 0, "cmd": "./install-nginx.sh",
            "artifacts": [{"uri": "https://x/y.sh", "executable": true, "extract": false, "cache": false}],
            "env": {"DCOS_URL": "MY_CLUSTER_URL"}, "restart": {"policy": "NEVER"},
        },
    });
    let docker = json!({
        "id": "docker-param", "run": {
            "cmd": "sleep inf", "cpus": 0.2, "mem": 32,
            "docker": {"image": "ubuntu", "parameters": [{"key": "cap-drop", "value": "ALL"}]},
        },
    });
    for (document, refused) in [
        (backup, &["/schedules", "/run/docker"][..]),
        (secrets, &["/run/env/SECRET_ENV", "/run/secrets"]),
        (artifacts, &["/run/artifacts"]),
        (docker, &["/run/disk", "/run/docker"]),
    ] {
        let errors = read(&document, Dialect::Metronome).expect_err("not served in full");
        let paths: Vec<&str> = errors
            .iter()
            .map(|error| error.path.as_str())
            .filter(|path| *path != "/run" || refused.contains(path))
            .collect();
        assert_eq!(paths, refused, "{document}");
        for error in &errors {
            let words = &error.message;
            assert!(
                words.contains("not served yet")
                    || words.contains("required")
                    || words.contains("needs"),
                "{words}"
            );
        }
    }
}
