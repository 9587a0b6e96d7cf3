//! From a path to a page.
//!
//! Every page is served bare and under `/master`, with and without the ending `.json`. A path below a served one is
//! answered by the longest served prefix, as libprocess did (`/api/v1/operator` is `/api/v1`); only `/redirect` has
//! nothing below it, so that a client that follows redirects cannot run in circles.

use http::HeaderMap;

/// What is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// `POST /api/v1/scheduler`.
    Scheduler,
    /// `POST /api/v1`.
    Operator,
    /// `POST /teardown`.
    Teardown,
    /// Whether this process is there.
    Health,
    /// Who leads.
    Redirect,
    /// Versions.
    Version,
    /// Flags.
    Flags,
    /// Numbers.
    Metrics,
    /// Everything.
    State,
    /// Agents and frameworks with counts of tasks.
    Summary,
    /// Agents.
    Agents,
    /// Frameworks.
    Frameworks,
    /// Tasks.
    Tasks,
    /// Roles.
    Roles,
    /// Weights of roles.
    Weights,
    /// Why a framework has no offer.
    Explain,
    /// What Mesos serves and this master does not.
    Unserved,
}

/// Who is let in, by the names that Mesos gives in its challenges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Realm {
    /// Everybody.
    Open,
    /// `mesos-master-readonly`.
    ReadOnly,
    /// `mesos-master-readwrite`.
    ReadWrite,
    /// `mesos-master-scheduler`.
    Scheduler,
}

impl Page {
    pub fn realm(self) -> Realm {
        match self {
            Self::Health | Self::Version | Self::Redirect => Realm::Open,
            Self::Scheduler => Realm::Scheduler,
            Self::Operator | Self::Teardown | Self::Unserved => Realm::ReadWrite,
            Self::Flags
            | Self::Metrics
            | Self::State
            | Self::Summary
            | Self::Agents
            | Self::Frameworks
            | Self::Tasks
            | Self::Roles
            | Self::Explain
            | Self::Weights => Realm::ReadOnly,
        }
    }
}

fn named(path: &str) -> Option<Page> {
    Some(match path {
        "api/v1" => Page::Operator,
        "api/v1/scheduler" => Page::Scheduler,
        "teardown" => Page::Teardown,
        "health" => Page::Health,
        "redirect" => Page::Redirect,
        "version" => Page::Version,
        "flags" => Page::Flags,
        "metrics/snapshot" => Page::Metrics,
        "state" => Page::State,
        "state-summary" => Page::Summary,
        "slaves" => Page::Agents,
        "frameworks" => Page::Frameworks,
        "tasks" => Page::Tasks,
        "roles" => Page::Roles,
        "weights" => Page::Weights,
        "explain" => Page::Explain,
        "quota"
        | "maintenance/schedule"
        | "maintenance/status"
        | "machine/down"
        | "machine/up"
        | "reserve"
        | "unreserve"
        | "create-volumes"
        | "destroy-volumes" => Page::Unserved,
        _ => return None,
    })
}

/// The page that answers a path.
pub(super) fn find(path: &str) -> Option<Page> {
    let path = path.strip_prefix('/')?;
    let path = path.strip_prefix("master/").unwrap_or(path);
    let whole = path.strip_suffix(".json").unwrap_or(path);
    if let Some(page) = named(whole) {
        return Some(page);
    }
    let mut rest = path;
    while let Some((above, _)) = rest.rsplit_once('/') {
        rest = above;
        if let Some(page) = named(rest) {
            return (page != Page::Redirect).then_some(page);
        }
    }
    None
}

/// Whether this is a message of a driver of the first API: `/<actor>/mesos....`, from somebody who says so.
pub(super) fn is_libprocess(path: &str, headers: &HeaderMap) -> bool {
    let speaks = headers.contains_key("libprocess-from")
        || headers
            .get(http::header::USER_AGENT)
            .is_some_and(|agent| agent.as_bytes().starts_with(b"libprocess/"));
    let message = path.rsplit('/').next().unwrap_or_default();
    speaks || message.starts_with("mesos.internal.") || message.starts_with("mesos.scheduler.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_served_prefix_answers() {
        for (path, page) in [
            ("/api/v1", Some(Page::Operator)),
            ("/api/v1/", Some(Page::Operator)),
            ("/api/v1/operator", Some(Page::Operator)),
            ("/api/v1/scheduler", Some(Page::Scheduler)),
            ("/api/v1/scheduler/x/y", Some(Page::Scheduler)),
            ("/master/api/v1/scheduler", Some(Page::Scheduler)),
            ("/state", Some(Page::State)),
            ("/explain", Some(Page::Explain)),
            ("/state.json", Some(Page::State)),
            ("/master/state.json", Some(Page::State)),
            ("/master/state-summary", Some(Page::Summary)),
            ("/state-summary.json", Some(Page::Summary)),
            ("/metrics/snapshot", Some(Page::Metrics)),
            ("/metrics/snapshot.json", Some(Page::Metrics)),
            ("/metrics", None),
            ("/redirect", Some(Page::Redirect)),
            ("/master/redirect", Some(Page::Redirect)),
            ("/redirect/x", None),
            ("/quota/role", Some(Page::Unserved)),
            ("/master/maintenance/schedule", Some(Page::Unserved)),
            ("/maintenance", None),
            ("/master", None),
            ("/", None),
            ("", None),
            ("/nonexistent", None),
            ("/stateful", None),
            ("/master/master/state", None),
            ("/registrar(id)/registry", None),
        ] {
            assert_eq!(find(path), page, "{path}");
        }
    }

    #[test]
    fn messages_of_the_first_api_are_known() {
        let none = HeaderMap::new();
        assert!(is_libprocess(
            "/master/mesos.internal.RegisterFrameworkMessage",
            &none
        ));
        assert!(is_libprocess("/master/mesos.scheduler.Call", &none));
        assert!(!is_libprocess("/nonexistent", &none));
        let mut from = HeaderMap::new();
        from.insert(
            "libprocess-from",
            "scheduler-1@10.0.0.1:4000".parse().unwrap(),
        );
        assert!(is_libprocess("/master/whatever", &from));
    }
}
