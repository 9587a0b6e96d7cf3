//! Everything that an earlier term left, read and joined.

use std::collections::BTreeMap;
use std::sync::Arc;

use mezzo_coordination::Record;

use super::{LoadError, deployments, instances, keys, specs};
use crate::core::app::AppSpec;
use crate::core::app_id::AppId;
use crate::core::deployment::Deployment;
use crate::core::instance::Instance;
use crate::core::request::TaskFailure;
use crate::core::version::Version;

/// The state of one framework as it was written.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Which definition of each app is wanted.
    pub apps: BTreeMap<AppId, Arc<AppSpec>>,
    /// All definitions that are kept.
    pub versions: BTreeMap<AppId, BTreeMap<Version, Arc<AppSpec>>>,
    /// All instances.
    pub instances: Vec<Instance>,
    /// Deployments under way.
    pub deployments: Vec<Deployment>,
    /// Last failures.
    pub failures: Vec<TaskFailure>,
}

impl Snapshot {
    /// Reads all records. Those of other rooms (the framework's id) are passed over.
    ///
    /// # Errors
    /// The first record that cannot be read; nothing may be decided on the rest alone.
    pub fn read(records: &[Record]) -> Result<Self, LoadError> {
        let mut snapshot = Self::default();
        let of = |prefix: &'static str| records.iter().filter(move |r| r.key.starts_with(prefix));
        for record in of(keys::VERSIONS) {
            let spec = specs::read_version(record)?;
            let versions = snapshot.versions.entry(spec.id.clone()).or_default();
            versions.insert(spec.version, Arc::new(spec));
        }
        for record in of(keys::APPS) {
            let (id, version) = specs::read_app(record)?;
            let spec = snapshot.spec(&id, version).ok_or_else(|| {
                LoadError::unreadable(&record.key, "the definition that it names is missing")
            })?;
            snapshot.apps.insert(id, spec);
        }
        for record in of(keys::INSTANCES) {
            let instance =
                instances::read_instance(record, |app, version| snapshot.spec(app, version))?;
            snapshot.instances.push(instance);
        }
        for record in of(keys::DEPLOYMENTS) {
            snapshot
                .deployments
                .push(deployments::read_deployment(record)?);
        }
        for record in of(keys::FAILURES) {
            snapshot.failures.push(specs::read_failure(record)?);
        }
        Ok(snapshot)
    }

    fn spec(&self, app: &AppId, version: Version) -> Option<Arc<AppSpec>> {
        self.versions.get(app)?.get(&version).cloned()
    }
}
