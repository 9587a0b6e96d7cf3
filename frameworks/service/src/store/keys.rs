//! Where records lie. The first part of a key is a directory in ZooKeeper, so instances, of which there are most, are
//! spread over sixteen.

use crate::core::app_id::AppId;
use crate::core::instance::InstanceId;
use crate::core::version::Version;

/// Which definition of an app is wanted.
pub const APPS: &str = "apps/";
/// Definitions.
pub const VERSIONS: &str = "versions/";
/// Instances begin with this and a hexadecimal digit.
pub const INSTANCES: &str = "instances-";
/// Deployments.
pub const DEPLOYMENTS: &str = "deployments/";
/// Last failures.
pub const FAILURES: &str = "failures/";

/// The record of an app.
pub fn app(id: &AppId) -> String {
    format!("{APPS}{}", id.safe())
}

/// The record of one definition.
pub fn version(id: &AppId, version: Version) -> String {
    format!("{VERSIONS}{}/{}", id.safe(), version.0)
}

/// The record of an instance.
pub fn instance(id: &InstanceId) -> String {
    let shard = id
        .uuid()
        .chars()
        .next()
        .filter(char::is_ascii_hexdigit)
        .unwrap_or('0');
    format!("{INSTANCES}{shard}/{}/{}", id.app().safe(), id.uuid())
}

/// The record of a deployment.
pub fn deployment(id: &str) -> String {
    format!("{DEPLOYMENTS}{id}")
}

/// The record of an app's last failure.
pub fn failure(id: &AppId) -> String {
    format!("{FAILURES}{}", id.safe())
}
