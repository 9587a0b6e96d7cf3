//! `/v2/info`. Clients map every key of its inner objects to a parameter of their own, so nothing is added to them.

use mezzo_model::ids::FrameworkId;
use serde_json::{Map, Value, json};

use super::{Call, Response};
use crate::core::request::ApiCall;

/// The version that clients gate their features on: what this API is like.
pub const MARATHON_VERSION: &str = "1.11.0";

/// What the process knows of itself, for `/v2/info`.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// `host:port` of the leader.
    pub leader: String,
    /// Whether this process leads.
    pub elected: bool,
    /// Values of the configuration by their names; `null` where there is none.
    pub config: Map<String, Value>,
    /// The election and state: `zk://…`, and the session timeout in milliseconds.
    pub zk: Option<String>,
    /// The session timeout in milliseconds.
    pub zk_session_timeout_ms: u64,
    /// The port of the API.
    pub http_port: u16,
}

pub(super) fn read(call: &Call<'_>) -> Result<ApiCall, Response> {
    match (call.method, call.rest.as_slice()) {
        ("GET", []) => Ok(ApiCall::Info),
        (_, []) => Err(call.method_not_allowed()),
        _ => Err(Response::message(404, "URI not found")),
    }
}

/// The names of `marathon_config`, all of which clients expect.
const CONFIG: [&str; 41] = [
    "access_control_allow_origin",
    "checkpoint",
    "decline_offer_duration",
    "default_network_name",
    "env_vars_prefix",
    "executor",
    "failover_timeout",
    "features",
    "framework_name",
    "ha",
    "hostname",
    "launch_token",
    "launch_token_refresh_interval",
    "leader_proxy_connection_timeout_ms",
    "leader_proxy_read_timeout_ms",
    "local_port_max",
    "local_port_min",
    "maintenance_mode",
    "master",
    "max_instances_per_offer",
    "mesos_bridge_name",
    "mesos_heartbeat_failure_threshold",
    "mesos_heartbeat_interval",
    "mesos_leader_ui_url",
    "mesos_role",
    "mesos_user",
    "min_revive_offers_interval",
    "new_group_enforce_role",
    "offer_matching_timeout",
    "on_elected_prepare_timeout",
    "reconciliation_initial_delay",
    "reconciliation_interval",
    "scale_apps_initial_delay",
    "scale_apps_interval",
    "store_cache",
    "task_launch_confirm_timeout",
    "task_launch_timeout",
    "task_lost_expunge_initial_delay",
    "task_lost_expunge_interval",
    "task_reservation_timeout",
    "webui_url",
];

/// The body.
pub(super) fn info(facts: &Facts, framework_id: Option<&FrameworkId>) -> Value {
    let mut config = Map::new();
    for name in CONFIG {
        config.insert(
            name.to_owned(),
            facts.config.get(name).cloned().unwrap_or(Value::Null),
        );
    }
    json!({
        "name": "marathon",
        "version": MARATHON_VERSION,
        "buildref": concat!("mezzo-", env!("CARGO_PKG_VERSION")),
        "elected": facts.elected,
        "leader": facts.leader,
        "frameworkId": framework_id.map(FrameworkId::as_str),
        "marathon_config": config,
        "zookeeper_config": {
            "zk": facts.zk,
            "zk_compression": false,
            "zk_compression_threshold": null,
            "zk_connection_timeout": null,
            "zk_max_node_size": null,
            "zk_max_versions": 50,
            "zk_session_timeout": facts.zk_session_timeout_ms,
            "zk_timeout": null,
        },
        "http_config": { "http_port": facts.http_port, "https_port": null },
    })
}
