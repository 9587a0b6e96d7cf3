//! An app as it is wanted: the definition that Marathon's documents describe, complete and valid.
//!
//! [`AppSpec`] is what the rest of the core computes with. Documents become one through [`update`] (reading),
//! [`validate`] (rules) and are written by [`render`]; the store keeps the rendered form, so that what is stored,
//! shown and taken back is one thing.
//!
//! Invariant: a value here is independent of any instance; definitions are shared (`Arc`) and never changed in place.

use std::collections::BTreeMap;

use mezzo_model::resources::Milli;

use super::app_id::AppId;
use super::version::Version;

pub mod checks;
pub mod document;
pub mod render;
pub mod unserved;
pub mod update;
pub mod validate;

pub use checks::{CheckProtocol, HealthCheck};
pub use document::{Problem, Refused};
pub use update::AppUpdate;

/// One app's complete definition at one version.
#[derive(Clone, Debug, PartialEq)]
pub struct AppSpec {
    /// The path.
    pub id: AppId,
    /// A shell command; exclusive with `args`.
    pub cmd: Option<String>,
    /// A program and its arguments, run without a shell.
    pub args: Vec<String>,
    /// The user to run as; the framework's default if absent.
    pub user: Option<String>,
    /// Environment of the command.
    pub env: BTreeMap<String, String>,
    /// How many instances are wanted.
    pub instances: u32,
    /// Processors of one instance.
    pub cpus: Milli,
    /// Memory of one instance, MiB.
    pub mem: Milli,
    /// Disk of one instance, MiB.
    pub disk: Milli,
    /// Where instances may run.
    pub constraints: Vec<Constraint>,
    /// Which reservations may be used; absent: unreserved and the app's own role.
    pub accepted_resource_roles: Option<Vec<String>>,
    /// The role whose offers are used.
    pub role: String,
    /// One port of the host for each, in this order.
    pub port_definitions: Vec<PortDefinition>,
    /// Whether the numbers of `port_definitions` must be the host's ports.
    pub require_ports: bool,
    /// What tells a healthy instance from another.
    pub health_checks: Vec<HealthCheck>,
    /// Launch delay after failures.
    pub backoff: Backoff,
    /// How a new version replaces an old one.
    pub upgrade_strategy: UpgradeStrategy,
    /// Who ends first when there are too many.
    pub kill_selection: KillSelection,
    /// What to do about an instance whose agent cannot be reached.
    pub unreachable_strategy: UnreachableStrategy,
    /// Seconds between the polite and the hard end; the executor's default if absent.
    pub task_kill_grace_period_secs: Option<u64>,
    /// For people and tools; also in the environment.
    pub labels: BTreeMap<String, String>,
    /// Echo of a field that has no effect when false.
    pub tty: Option<bool>,
    /// When this definition was made.
    pub version: Version,
    /// What changed last.
    pub version_info: VersionInfo,
}

/// When an app was last scaled and last changed otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VersionInfo {
    /// Moves with every change.
    pub last_scaling_at: Version,
    /// Moves when anything but the instance count changes, and at a restart. Instances older than this are outdated.
    pub last_config_change_at: Version,
}

/// One port of an app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortDefinition {
    /// The service port, and with `requirePorts` the host's port too; 0: any.
    pub port: u16,
    /// `tcp`, `udp` or `udp,tcp`.
    pub protocol: String,
    /// A name for discovery.
    pub name: Option<String>,
    /// For discovery.
    pub labels: BTreeMap<String, String>,
}

/// One placement rule: field, operator, value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Constraint {
    /// `hostname`, `@region`, `@zone`, or an agent's attribute.
    pub field: String,
    /// What is asked of it.
    pub operator: Operator,
    /// The operand, as given.
    pub value: Option<String>,
}

/// The operators of constraints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    /// At most one instance for each value.
    Unique,
    /// All instances at one value.
    Cluster,
    /// Spread evenly over values.
    GroupBy,
    /// The value matches a regular expression.
    Like,
    /// The value does not match a regular expression.
    Unlike,
    /// At most n instances for each value.
    MaxPer,
    /// The value equals a text or a number.
    Is,
}

/// Launch delay: `seconds`, times `factor` at each further failure, at most `max_launch_delay_secs`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// After the first failure.
    pub secs: u64,
    /// At each further one; at least 1.
    pub factor: f64,
    /// The longest delay.
    pub max_launch_delay_secs: u64,
}

/// Capacity during a replacement, as shares of the instance count in `[0, 1]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpgradeStrategy {
    /// How much must stay healthy.
    pub minimum_health_capacity: f64,
    /// How much may run beyond the instance count.
    pub maximum_over_capacity: f64,
}

/// Who ends first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KillSelection {
    /// The one that runs for the shortest time.
    #[default]
    YoungestFirst,
    /// The one that runs for the longest time.
    OldestFirst,
}

/// What to do about an instance whose agent cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnreachableStrategy {
    /// Wait for it, however long.
    Disabled,
    /// Replace it, then forget it.
    After {
        /// Seconds until a replacement is launched.
        inactive_secs: u64,
        /// Seconds until it is killed should it come back.
        expunge_secs: u64,
    },
}

impl Operator {
    /// Every operator with its name in documents.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Unique, "UNIQUE"),
        (Self::Cluster, "CLUSTER"),
        (Self::GroupBy, "GROUP_BY"),
        (Self::Like, "LIKE"),
        (Self::Unlike, "UNLIKE"),
        (Self::MaxPer, "MAX_PER"),
        (Self::Is, "IS"),
    ];

    /// The operator of a name, in any case of letters.
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.to_ascii_uppercase();
        Self::ALL
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(operator, _)| *operator)
    }

    /// The name in documents.
    pub fn as_str(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(operator, _)| *operator == self)
            .map_or("", |(_, name)| name)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            secs: 1,
            factor: 1.15,
            max_launch_delay_secs: 300,
        }
    }
}

impl Default for UpgradeStrategy {
    fn default() -> Self {
        Self {
            minimum_health_capacity: 1.0,
            maximum_over_capacity: 1.0,
        }
    }
}

impl Default for UnreachableStrategy {
    fn default() -> Self {
        Self::After {
            inactive_secs: 0,
            expunge_secs: 0,
        }
    }
}

/// A share in millionths, so that products with counts are exact.
fn millionths(share: f64) -> u64 {
    // The cast saturates; validation keeps shares in [0, 1].
    (share.clamp(0.0, 1.0) * 1_000_000.0).round() as u64
}

impl UpgradeStrategy {
    /// How many of `target` instances must stay healthy: rounded up.
    pub fn min_healthy(&self, target: u32) -> u32 {
        let product = u64::from(target) * millionths(self.minimum_health_capacity);
        u32::try_from(product.div_ceil(1_000_000)).unwrap_or(u32::MAX)
    }

    /// How many instances may be there at once: rounded down.
    pub fn max_capacity(&self, target: u32) -> u32 {
        let over = u64::from(target) * millionths(self.maximum_over_capacity) / 1_000_000;
        u32::try_from(u64::from(target) + over).unwrap_or(u32::MAX)
    }
}

impl AppSpec {
    /// Whether anything but the instance count and the versions differs, so that instances must be replaced.
    pub fn config_differs(&self, other: &Self) -> bool {
        let strip = |spec: &Self| Self {
            instances: 0,
            version: Version(0),
            version_info: VersionInfo::default(),
            ..spec.clone()
        };
        strip(self) != strip(other)
    }

    /// Whether an instance launched at `version` has the configuration of this definition.
    pub fn has_config_of(&self, version: Version) -> bool {
        version >= self.version_info.last_config_change_at
    }

    /// Whether some check is done by this framework.
    pub fn is_probed(&self) -> bool {
        self.health_checks
            .iter()
            .any(|check| !check.protocol.by_executor())
    }

    /// The numbers of the declared ports.
    pub fn service_ports(&self) -> impl Iterator<Item = u16> + '_ {
        self.port_definitions
            .iter()
            .map(|definition| definition.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacities_are_exact() {
        let strategy = |min, over| UpgradeStrategy {
            minimum_health_capacity: min,
            maximum_over_capacity: over,
        };
        for (n, min, over, healthy, most) in [
            (4, 1.0, 1.0, 4, 8),
            (4, 0.5, 0.0, 2, 4),
            (3, 0.5, 0.2, 2, 3),
            (100, 0.07, 0.29, 7, 129),
            (0, 1.0, 1.0, 0, 0),
            (1, 0.0, 0.0, 0, 1),
            (10, 0.333_333, 0.333_333, 4, 13),
        ] {
            assert_eq!(strategy(min, over).min_healthy(n), healthy, "{n} {min}");
            assert_eq!(strategy(min, over).max_capacity(n), most, "{n} {over}");
        }
    }

    #[test]
    fn operators_have_names() {
        for (operator, name) in Operator::ALL {
            assert_eq!(Operator::parse(&name.to_lowercase()), Some(operator));
            assert_eq!(operator.as_str(), name);
        }
        assert_eq!(Operator::parse("NEAR"), None);
    }
}
