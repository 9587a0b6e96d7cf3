//! Service ports: numbers that are unique in the cluster, for discovery.
//!
//! Source: Marathon. A definition that leaves a number open (0) gets one; an app that is sent again with open
//! numbers keeps those it had. With `requirePorts` an open number stays open, for then it means any port of the
//! host.

use std::collections::{BTreeSet, VecDeque};

use crate::core::app::AppSpec;
use crate::core::request::Refusal;

/// Gives numbers to the ports that have none. `taken` grows by them.
///
/// # Errors
/// `NoServicePort` if the range is used up.
pub(super) fn assign(
    spec: &mut AppSpec,
    from: Option<&AppSpec>,
    taken: &mut BTreeSet<u16>,
    (low, high): (u16, u16),
) -> Result<(), Refusal> {
    if spec.require_ports || spec.service_ports().all(|port| port != 0) {
        return Ok(());
    }
    let named: BTreeSet<u16> = spec.service_ports().collect();
    let mut own: VecDeque<u16> = from
        .iter()
        .flat_map(|from| from.service_ports())
        .filter(|port| (low..=high).contains(port) && !named.contains(port))
        .collect();
    taken.extend(&named);
    for definition in spec.port_definitions.iter_mut().filter(|one| one.port == 0) {
        let port = match own.pop_front() {
            Some(port) => port,
            None => (low..=high)
                .find(|port| !taken.contains(port))
                .ok_or(Refusal::NoServicePort { low, high })?,
        };
        taken.insert(port);
        definition.port = port;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::app::AppUpdate;
    use crate::core::app_id::AppId;

    fn spec(ports: serde_json::Value, require: bool) -> AppSpec {
        let document = json!({"cmd": "x", "ports": ports, "requirePorts": require});
        let update = AppUpdate::read(&document, "").expect("good");
        update.apply(None, AppId::parse("/a").expect("good"), "*")
    }

    fn ports(spec: &AppSpec) -> Vec<u16> {
        spec.service_ports().collect()
    }

    #[test]
    fn open_numbers_are_filled_and_kept() {
        let mut taken = BTreeSet::from([10_000]);
        let mut first = spec(json!([0, 8080, 0]), false);
        assign(&mut first, None, &mut taken, (10_000, 10_003)).expect("room");
        assert_eq!(ports(&first), [10_001, 8080, 10_002]);
        let mut again = spec(json!([0, 0]), false);
        assign(&mut again, Some(&first), &mut taken, (10_000, 10_003)).expect("its own");
        assert_eq!(ports(&again), [10_001, 10_002]);
        let mut more = spec(json!([0, 0]), false);
        let refused = assign(&mut more, None, &mut taken, (10_000, 10_003)).expect_err("used up");
        assert!(refused.to_string().contains("[10000-10003]"), "{refused}");
        let mut host = spec(json!([0]), true);
        assign(&mut host, None, &mut taken, (10_000, 10_003)).expect("stays open");
        assert_eq!(ports(&host), [0]);
    }
}
