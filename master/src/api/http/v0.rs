//! The pages of the first API, written from operators' messages.
//!
//! Pure functions: what is there goes in, bytes come out. Names, their order and their spelling (`slave`, counts as
//! floats, text that is empty and not absent) are what tools of the last decade read.

mod agents;
mod frameworks;
mod json;
mod summary;
mod tasks;

use std::collections::BTreeMap;

use mezzo_model::resources::{Quantities, Resources, Value};
use mezzo_wire::v1;
use mezzo_wire::v1::master::response::{GetMaster, GetState};

use crate::api::reads::{About, RoleView};
use json::{Object, array, object};

pub(super) use summary::summary;
pub(super) use tasks::{TaskQuery, tasks};

/// `/version`: keys in alphabetical order.
pub(super) fn version(info: &v1::VersionInfo) -> Vec<u8> {
    page(|o| {
        o.text_if("build_date", info.build_date.as_deref());
        if let Some(time) = info.build_time {
            o.number("build_time", time);
        }
        o.text_if("build_user", info.build_user.as_deref());
        o.text_if("git_branch", info.git_branch.as_deref());
        o.text_if("git_sha", info.git_sha.as_deref());
        o.text_if("git_tag", info.git_tag.as_deref());
        o.text("version", &info.version);
    })
}

/// `/flags`.
pub(super) fn flags(flags: &[(&'static str, String)]) -> Vec<u8> {
    page(|o| put_flags(o, flags))
}

fn put_flags(o: &mut Object<'_>, flags: &[(&'static str, String)]) {
    o.object("flags", |o| {
        for (name, value) in flags {
            o.text(name, value);
        }
    });
}

/// `/metrics/snapshot`: keys in alphabetical order, every value a float.
pub(super) fn metrics(numbers: &BTreeMap<String, f64>) -> Vec<u8> {
    page(|o| {
        for (name, number) in numbers {
            o.number(name, *number);
        }
    })
}

/// `/weights`: a bare array.
pub(super) fn weights(weights: &[v1::WeightInfo]) -> Vec<u8> {
    let mut out = Vec::new();
    array(&mut out, weights, |out, info| {
        object(out, |o| {
            o.text("role", info.role.as_deref().unwrap_or("*"));
            o.number("weight", info.weight);
        });
    });
    out
}

/// `/roles`.
pub(super) fn roles(roles: &[RoleView]) -> Vec<u8> {
    page(|o| {
        o.array("roles", roles, |out, role| {
            object(out, |o| put_role(o, role));
        });
    })
}

fn put_role(o: &mut Object<'_>, role: &RoleView) {
    o.text("name", role.role.as_str());
    o.number("weight", role.weight);
    o.object("quota", |o| {
        o.text("role", role.role.as_str());
        o.object("guarantee", |_| {});
        o.object("limit", |_| {});
        o.object("consumed", |o| put_quantities(o, &role.consumed()));
    });
    o.object("resources", |o| put_quantities(o, &role.held()));
    o.object("allocated", |o| {
        put_quantities(o, &role.allocated.quantities())
    });
    o.object("offered", |o| put_quantities(o, &role.offered.quantities()));
    o.object("reserved", |o| {
        put_quantities(o, &role.reserved.quantities())
    });
    o.array("frameworks", &role.frameworks, |out, id| {
        json::text(out, &id.value);
    });
}

fn put_quantities(o: &mut Object<'_>, quantities: &Quantities) {
    for (name, amount) in quantities.iter() {
        o.number(name, amount.to_f64());
    }
}

/// `/state`.
pub(super) fn state(about: &About, master: &GetMaster, state: &GetState) -> Vec<u8> {
    let info = master.master_info.as_ref().unwrap_or(&about.master);
    let agents = state.get_agents.as_ref();
    let registered = || agents.iter().flat_map(|all| &all.agents);
    let active = registered().filter(|agent| agent.active).count();
    let unreachable = about.board.now().gauges.agents_unreachable;
    page(|o| {
        put_versions(o, &about.version);
        o.number("start_time", master.start_time.unwrap_or_default());
        o.number("elected_time", master.elected_time.unwrap_or_default());
        o.text("id", &info.id);
        o.text("pid", info.pid.as_deref().unwrap_or_default());
        o.text("hostname", info.hostname.as_deref().unwrap_or_default());
        o.array("capabilities", &info.capabilities, |out, ability| {
            json::text(out, ability.r#type().as_str_name());
        });
        o.number("activated_slaves", active as f64);
        o.number("deactivated_slaves", (registered().count() - active) as f64);
        o.number("unreachable_slaves", unreachable as f64);
        o.text("leader", info.pid.as_deref().unwrap_or_default());
        o.object("leader_info", |o| {
            o.text("id", &info.id);
            o.text("pid", info.pid.as_deref().unwrap_or_default());
            o.whole("port", i64::from(info.port));
            o.text("hostname", info.hostname.as_deref().unwrap_or_default());
        });
        o.text_if("cluster", about.cluster.as_deref());
        put_flags(o, &about.flags);
        o.array("slaves", registered(), |out, agent| {
            object(out, |o| agents::put(o, agent));
        });
        agents::put_recovered(o, agents);
        frameworks::put_all(o, state, None);
        o.array("orphan_tasks", std::iter::empty::<()>(), |_, ()| {});
        frameworks::put_unregistered(o);
    })
}

fn put_versions(o: &mut Object<'_>, info: &v1::VersionInfo) {
    o.text("version", &info.version);
    o.text_if("git_sha", info.git_sha.as_deref());
    o.text_if("git_branch", info.git_branch.as_deref());
    o.text_if("git_tag", info.git_tag.as_deref());
    o.text_if("build_date", info.build_date.as_deref());
    if let Some(time) = info.build_time {
        o.number("build_time", time);
    }
    o.text_if("build_user", info.build_user.as_deref());
}

/// `/slaves`, or the one that is named.
pub(super) fn all_agents(state: &GetState, only: Option<&str>) -> Vec<u8> {
    let agents = state.get_agents.as_ref();
    let asked = agents
        .iter()
        .flat_map(|all| &all.agents)
        .filter(|agent| only.is_none_or(|only| agents::id(agent) == only));
    page(|o| {
        o.array("slaves", asked, |out, agent| {
            object(out, |o| {
                agents::put(o, agent);
                agents::put_full(o, agent);
            });
        });
        agents::put_recovered(o, agents);
    })
}

/// `/frameworks`, or the one that is named.
pub(super) fn frameworks(state: &GetState, only: Option<&str>) -> Vec<u8> {
    page(|o| {
        frameworks::put_all(o, state, only);
        frameworks::put_unregistered(o);
    })
}

fn page(fill: impl FnOnce(&mut Object<'_>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    object(&mut out, fill);
    out
}

/// Amounts by name. The first four are always there; what may be taken back at any time stands apart.
fn put_amounts(o: &mut Object<'_>, name: &str, resources: &Resources) {
    o.object(name, |o| put_amounts_in(o, resources));
}

fn put_amounts_in(o: &mut Object<'_>, resources: &Resources) {
    const ALWAYS: [&str; 4] = ["disk", "mem", "gpus", "cpus"];
    let firm = resources.non_revocable();
    for name in ALWAYS {
        o.number(name, firm.scalar(name).to_f64());
    }
    put_others(o, &firm, "", &ALWAYS);
    put_others(o, &resources.revocable(), "_revocable", &[]);
}

fn put_others(o: &mut Object<'_>, resources: &Resources, ending: &str, but: &[&str]) {
    let mut seen: Vec<&str> = but.to_vec();
    for resource in resources.iter() {
        let name = &*resource.name;
        if seen.contains(&name) {
            continue;
        }
        seen.push(name);
        let key = format!("{name}{ending}");
        match &resource.value {
            Value::Scalar(_) => o.number(&key, resources.scalar(name).to_f64()),
            Value::Ranges(_) => o.text(&key, &resources.ranges(name).to_string()),
            Value::Set(_) => {
                let mut words = std::collections::BTreeSet::new();
                for other in resources.get(name).iter() {
                    if let Value::Set(set) = &other.value {
                        words.extend(set.iter().map(|word| &**word).map(str::to_owned));
                    }
                }
                let words: Vec<String> = words.into_iter().collect();
                o.text(&key, &format!("{{{}}}", words.join(", ")));
            }
        }
    }
}

fn seconds(time: Option<&v1::TimeInfo>) -> f64 {
    time.map_or(0.0, |time| time.nanoseconds as f64 / 1e9)
}

fn put_labels(o: &mut Object<'_>, labels: Option<&v1::Labels>) {
    if let Some(labels) = labels {
        o.messages("labels", &labels.labels);
    }
}
