//! Which reason is told, and where instances go.

use serde_json::json;

use super::*;
use crate::core::app::AppUpdate;
use crate::core::app_id::AppId;
use crate::core::testing::offer;

fn spec(document: serde_json::Value) -> AppSpec {
    let update = AppUpdate::read(&document, "").expect("good");
    update.apply(None, AppId::parse("/a").expect("good"), "*")
}

fn judge(document: serde_json::Value, resources: &str, attributes: &str) -> Result<Fit, Reason> {
    let spec = spec(document);
    let rules = rules(&spec);
    let held = HeldOffer::read(&offer("o1", "a1", resources, attributes)).expect("good");
    let matcher = Matcher::new(&spec, &rules, std::iter::empty());
    matcher.judge(
        &OpenOffer::new(held),
        &Role::star(),
        Wall(0),
        &mut Rng::new(1),
    )
}

#[test]
fn the_first_reason_of_the_funnel_is_told() {
    let app = json!({"cmd": "x", "cpus": 2, "mem": 512, "disk": 10, "ports": [0]});
    for (resources, reason) in [
        ("cpus:1;mem:1;disk:1", Reason::InsufficientCpus),
        ("cpus:4;mem:511;disk:100", Reason::InsufficientMemory),
        ("cpus:4;mem:512;disk:9", Reason::InsufficientDisk),
        ("cpus:4;mem:512;disk:10", Reason::InsufficientPorts),
        (
            "cpus:4;mem:512;disk:10;gpus:1;ports:[1-9]",
            Reason::DeclinedScarceResources,
        ),
        (
            "cpus(eng):4;mem(eng):512;disk(eng):10;ports(eng):[1-9]",
            Reason::InsufficientCpus,
        ),
    ] {
        assert_eq!(
            judge(app.clone(), resources, ""),
            Err(reason),
            "{resources}"
        );
    }
    let constrained = json!({"cmd": "x", "cpus": 99, "constraints": [["rack", "LIKE", "r[0-9]"]]});
    assert_eq!(
        judge(constrained, "cpus:1", "rack:x"),
        Err(Reason::UnfulfilledConstraint)
    );
}

#[test]
fn required_ports_are_taken_as_they_are() {
    let app = json!({"cmd": "x", "requirePorts": true, "ports": [8080, 0]});
    let found = judge(app.clone(), "cpus:1;mem:128;ports:[8080-8081]", "").expect("fits");
    assert_eq!(found.ports, [8080, 8081]);
    assert_eq!(
        judge(app, "cpus:1;mem:128;ports:[31000-31009]", ""),
        Err(Reason::InsufficientPorts)
    );
}

#[test]
fn instances_spread_over_agents() {
    let spec = spec(json!({"cmd": "x", "cpus": 1, "ports": []}));
    let mut matcher = Matcher::new(&spec, &[], std::iter::empty());
    let open = |id: &str, agent: &str, resources: &str| {
        OpenOffer::new(HeldOffer::read(&offer(id, agent, resources, "")).expect("good"))
    };
    let (small, large) = (open("o1", "a1", "cpus:2"), open("o2", "a2", "cpus:8"));
    assert!(matcher.rank(&large) < matcher.rank(&small));
    matcher.placed(&large.place(vec![]));
    assert!(matcher.rank(&small) < matcher.rank(&large));
}
