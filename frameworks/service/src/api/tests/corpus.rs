//! Documents found in public repositories: what this version serves is taken, what it does not is refused by name.

use super::*;

/// File, status, and words of the refusal.
const DOCUMENTS: [(&str, u16, &[&str]); 24] = [
    (
        "BenWhitehead+finch-experimentation__marathon.json",
        422,
        &["/container", "/uris"],
    ),
    (
        "GeneralElectric+dcosb-cassandra__marathon.json",
        422,
        &["/container"],
    ),
    (
        "SmartEnergyPlatform+device-sim__marathon.json",
        400,
        &["Invalid JSON"],
    ),
    (
        "alanbover+grafana-dcos__marathon.json",
        422,
        &["/container"],
    ),
    (
        "allegro+marathon-consul__apps_testdata_app.RESPONSE.json",
        422,
        &["/app", "is not a known field"],
    ),
    (
        "crate+crate-mesos-framework__marathon_marathon.json",
        422,
        &["/fetch"],
    ),
    (
        "dcos+dcos-core-cli__marathon_apps_app_add_400.json",
        422,
        &["/container"],
    ),
    (
        "dcos+dcos-core-cli__marathon_apps_bad.json",
        400,
        &["Invalid JSON"],
    ),
    ("dcos+dcos-core-cli__marathon_apps_sleep.json", 201, &[]),
    (
        "dcos+examples__vamp_1.10_elasticsearch.json",
        422,
        &["/container"],
    ),
    (
        "mesosphere+marathon-lb__tests_marathon15_apps.RESPONSE.json",
        422,
        &["/apps", "is not a known field"],
    ),
    (
        "mesosphere+marathon-lb__tests_zdd_app_blue_marathon1.5.json",
        422,
        &["/apps"],
    ),
    (
        "mesosphere+marathon-lb__tests_zdd_apps.RESPONSE.json",
        422,
        &["/apps"],
    ),
    (
        "mesosphere+marathon__docs_v2_examples_app.json",
        422,
        &[
            "/container",
            "/dependencies",
            "/fetch",
            "/ipAddress",
            "/readinessChecks",
            "/secrets",
            "/tty",
            "/env/PASSWORD",
        ],
    ),
    (
        "mesosphere+marathon__docs_v2_examples_app_patch.json",
        422,
        &["one of 'cmd' or 'args'"],
    ),
    (
        "mesosphere+marathon__docs_v2_examples_apps_create.json",
        422,
        &["error.expected.jsobject"],
    ),
    (
        "mesosphere+marathon__tests_system_apps_app-with-https-readiness-checks.json",
        422,
        &["/container", "/readinessChecks"],
    ),
    (
        "mesosphere+marathon__tests_system_apps_external-volume-mesos-app.json",
        422,
        &["/container"],
    ),
    (
        "mesosphere+marathon__tests_system_apps_fake-framework.json",
        422,
        &["/readinessChecks"],
    ),
    (
        "mesosphere+marathon__tests_system_apps_healthcheck-and-volume.json",
        422,
        &["/container", "/ipAddress"],
    ),
    (
        "mesosphere+marathon__tests_system_apps_ipv6-healthcheck.json",
        422,
        &["/container", "/networks", "ipProtocol"],
    ),
    (
        "mesosphere+marathon__tests_system_apps_persistent-volume-app.json",
        422,
        &["/container"],
    ),
    (
        "mesosphere+marathon__tests_system_apps_pinger-container-app.json",
        422,
        &["/fetch", "/ipAddress"],
    ),
    (
        "mesosphere+marathon__tests_system_apps_sleep-app.json",
        201,
        &[],
    ),
];

fn document(name: &str) -> String {
    let path = format!("{}/tests/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).expect(&path)
}

#[test]
fn documents_of_the_field_are_taken_or_refused_by_name() {
    let mut world = World::new();
    for (name, status, words) in DOCUMENTS {
        let response = send(&mut world, "POST", "/v2/apps", &document(name));
        let body = response.body.clone().unwrap_or_default().to_string();
        assert_eq!(response.status, status, "{name}: {body}");
        for part in words {
            assert!(body.contains(part), "{name}: {part} is not in {body}");
        }
    }
    deploys(&mut world, "/after-the-corpus");
}

/// What is left of each document once the fields that are not served are left out is taken, and read back the same.
#[test]
fn the_served_part_of_each_document_goes_through() {
    let mut taken = 0;
    for (name, _, _) in DOCUMENTS {
        let Ok(mut document) = serde_json::from_str::<Value>(&document(name)) else {
            continue;
        };
        for wrapper in ["app", "apps"] {
            if let Some(inner) = document.get(wrapper).cloned() {
                document = if inner.is_array() {
                    inner[0].clone()
                } else {
                    inner
                };
            }
        }
        let documents = document
            .as_array()
            .cloned()
            .unwrap_or_else(|| vec![document.clone()]);
        for mut document in documents {
            let Some(fields) = document.as_object_mut() else {
                continue;
            };
            for (unserved, _) in crate::core::app::unserved::UNSERVED {
                fields.remove(unserved);
            }
            for field in ["acceptedResourceRoles", "user"] {
                fields.remove(field);
            }
            if fields.contains_key("portDefinitions") {
                fields.remove("ports");
            }
            if let Some(env) = fields.get_mut("env").and_then(Value::as_object_mut) {
                env.retain(|_, value| value.is_string());
            }
            if fields.get("cmd").is_none_or(Value::is_null) || fields.contains_key("args") {
                fields.insert("cmd".to_owned(), json!("sleep 1000"));
                fields.remove("args");
            }
            let checks = fields.get_mut("healthChecks").and_then(Value::as_array_mut);
            checks.into_iter().for_each(|checks| {
                checks.retain(|check| {
                    !check["protocol"]
                        .as_str()
                        .unwrap_or("")
                        .starts_with("MESOS")
                });
            });
            let mut world = World::new();
            let created = post(&mut world, &document);
            assert_eq!(created.status, 201, "{name}: {created:?}");
            let body = created.body.expect("a body");
            for field in [
                "cpus",
                "mem",
                "instances",
                "env",
                "labels",
                "backoffSeconds",
                "maxLaunchDelaySeconds",
            ] {
                if let Some(sent) = document
                    .get(field)
                    .filter(|sent| !sent.is_null() && **sent != json!({}))
                {
                    assert_eq!(body[field].as_f64(), sent.as_f64(), "{name} {field}");
                    if sent.is_object() {
                        assert_eq!(&body[field], sent, "{name} {field}");
                    }
                }
            }
            taken += 1;
        }
    }
    assert!(taken >= 20, "{taken}");
}
