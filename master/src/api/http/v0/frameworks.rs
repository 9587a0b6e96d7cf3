//! Frameworks, with what they run.

use std::collections::BTreeMap;

use mezzo_wire::v1;
use mezzo_wire::v1::framework_info::capability::Type as Capability;
use mezzo_wire::v1::master::response::get_executors::Executor;
use mezzo_wire::v1::master::response::get_frameworks::Framework;
use mezzo_wire::v1::master::response::{GetState, GetTasks};
use mezzo_wire::v1::scheduler::OfferConstraints;

use super::json::{self, Object, object};
use super::tasks;
use super::{put_amounts, put_labels, seconds};
use crate::api::reads::bag;

type ByFramework<'s, T> = BTreeMap<&'s str, Vec<&'s T>>;

/// Tasks and executors by framework.
pub(super) struct Books<'s> {
    pub tasks: ByFramework<'s, v1::Task>,
    pub unreachable: ByFramework<'s, v1::Task>,
    pub completed: ByFramework<'s, v1::Task>,
    executors: ByFramework<'s, Executor>,
}

impl<'s> Books<'s> {
    pub fn of(state: &'s GetState) -> Self {
        let by_framework = |list: fn(&GetTasks) -> &Vec<v1::Task>| {
            let mut by: ByFramework<'s, v1::Task> = BTreeMap::new();
            for task in state.get_tasks.iter().flat_map(list) {
                by.entry(&task.framework_id.value).or_default().push(task);
            }
            by
        };
        let mut executors: ByFramework<'s, Executor> = BTreeMap::new();
        for executor in state.get_executors.iter().flat_map(|all| &all.executors) {
            let framework = executor.executor_info.framework_id.as_ref();
            let id = framework.map_or("", |id| &id.value);
            executors.entry(id).or_default().push(executor);
        }
        Self {
            tasks: by_framework(|all| &all.tasks),
            unreachable: by_framework(|all| &all.unreachable_tasks),
            completed: by_framework(|all| &all.completed_tasks),
            executors,
        }
    }
}

/// The id of a framework.
pub(super) fn id(framework: &Framework) -> &str {
    let info = &framework.framework_info;
    info.id.as_ref().map_or("", |id| &id.value)
}

/// The arrays of those that are here and of those that are gone, or the one that is named.
pub(super) fn put_all(o: &mut Object<'_>, state: &GetState, only: Option<&str>) {
    let books = Books::of(state);
    let all = state.get_frameworks.as_ref();
    let is_asked = |framework: &&Framework| only.is_none_or(|only| id(framework) == only);
    let here = all.iter().flat_map(|all| &all.frameworks);
    o.array("frameworks", here.filter(is_asked), |out, framework| {
        object(out, |o| put(o, framework, &books, false));
    });
    let gone = all.iter().flat_map(|all| &all.completed_frameworks);
    o.array(
        "completed_frameworks",
        gone.filter(is_asked),
        |out, framework| {
            object(out, |o| put(o, framework, &books, true));
        },
    );
}

/// Frameworks always register with the master itself.
pub(super) fn put_unregistered(o: &mut Object<'_>) {
    o.array(
        "unregistered_frameworks",
        std::iter::empty::<()>(),
        |_, ()| {},
    );
}

/// What `/state-summary` has of a framework.
pub(super) fn put_head(o: &mut Object<'_>, framework: &Framework) {
    let info = &framework.framework_info;
    o.text("id", id(framework));
    o.text("name", &info.name);
    put_amounts(o, "used_resources", &bag(&framework.allocated_resources));
    put_amounts(o, "offered_resources", &bag(&framework.offered_resources));
    o.array("capabilities", &info.capabilities, |out, ability| {
        json::text(out, ability.r#type().as_str_name());
    });
    o.text("hostname", info.hostname.as_deref().unwrap_or_default());
    o.text("webui_url", info.webui_url.as_deref().unwrap_or_default());
    o.flag("active", framework.active);
    o.flag("connected", framework.connected);
    o.flag("recovered", framework.recovered);
}

fn put(o: &mut Object<'_>, framework: &Framework, books: &Books<'_>, is_gone: bool) {
    let info = &framework.framework_info;
    put_head(o, framework);
    o.text("user", &info.user);
    o.number("failover_timeout", info.failover_timeout.unwrap_or(0.0));
    o.flag("checkpoint", info.checkpoint.unwrap_or(false));
    let registered = seconds(framework.registered_time.as_ref());
    o.number("registered_time", registered);
    let unregistered = framework.unregistered_time.as_ref().filter(|_| is_gone);
    o.number("unregistered_time", seconds(unregistered));
    o.text_if("principal", info.principal.as_deref());
    let mut held = bag(&framework.allocated_resources);
    held += bag(&framework.offered_resources);
    put_amounts(o, "resources", &held);
    let again = framework.reregistered_time.as_ref();
    if let Some(again) = again.map(|time| seconds(Some(time)))
        && again > registered
    {
        o.number("reregistered_time", again);
    }
    put_roles(o, info);
    put_work(o, framework, books);
    put_labels(o, info.labels.as_ref());
    let none = OfferConstraints::default();
    let constraints = framework.offer_constraints.as_ref();
    o.message("offer_constraints", constraints.unwrap_or(&none));
}

fn put_roles(o: &mut Object<'_>, info: &v1::FrameworkInfo) {
    let has_several = info
        .capabilities
        .iter()
        .any(|ability| ability.r#type() == Capability::MultiRole);
    if has_several {
        o.array("roles", &info.roles, |out, role| json::text(out, role));
    } else {
        o.text("role", info.role.as_deref().unwrap_or("*"));
    }
}

fn put_work(o: &mut Object<'_>, framework: &Framework, books: &Books<'_>) {
    let id = id(framework);
    for (name, by_framework) in [
        ("tasks", &books.tasks),
        ("unreachable_tasks", &books.unreachable),
        ("completed_tasks", &books.completed),
    ] {
        let list = by_framework.get(id).into_iter().flatten();
        o.array(name, list, |out, task| {
            object(out, |o| tasks::put(o, task));
        });
    }
    o.array("offers", &framework.offers, |out, offer| {
        object(out, |o| {
            o.text("id", &offer.id.value);
            o.text("framework_id", &offer.framework_id.value);
            o.message_if("allocation_info", offer.allocation_info.as_ref());
            o.text("slave_id", &offer.agent_id.value);
            put_amounts(o, "resources", &bag(&offer.resources));
        });
    });
    let executors = books.executors.get(id).into_iter().flatten();
    o.array("executors", executors, |out, executor| {
        object(out, |o| put_executor(o, executor));
    });
}

fn put_executor(o: &mut Object<'_>, executor: &Executor) {
    let info = &executor.executor_info;
    o.text("executor_id", &info.executor_id.value);
    o.text("name", info.name.as_deref().unwrap_or_default());
    let framework = info.framework_id.as_ref();
    o.text("framework_id", framework.map_or("", |id| &id.value));
    let none = v1::CommandInfo::default();
    put_command(o, info.command.as_ref().unwrap_or(&none));
    let resources = bag(&info.resources);
    put_amounts(o, "resources", &resources);
    if let Some(role) = resources.iter().find_map(|held| held.allocation.as_ref()) {
        o.text("role", role.as_str());
    }
    put_labels(o, info.labels.as_ref());
    if info.r#type.is_some() {
        o.text("type", info.r#type().as_str_name());
    }
    o.text("slave_id", &executor.agent_id.value);
}

fn put_command(o: &mut Object<'_>, command: &v1::CommandInfo) {
    o.object("command", |o| {
        o.flag("shell", command.shell.unwrap_or(true));
        o.text_if("value", command.value.as_deref());
        o.array("argv", &command.arguments, |out, word| {
            json::text(out, word)
        });
        o.message_if("environment", command.environment.as_ref());
        o.array("uris", &command.uris, |out, uri| {
            object(out, |o| {
                o.text("value", &uri.value);
                o.flag("executable", uri.executable.unwrap_or(false));
            });
        });
    });
}
