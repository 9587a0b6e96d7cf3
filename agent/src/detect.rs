//! What this host can offer: processors, memory, disk and ports, unless an operator says otherwise.
//!
//! Rule: Mesos. Of memory one GB is left to the host, or half where there is little; of the disk under the work
//! directory five GB, or half; ports are 31000 to 32000. What the flag names is taken from it, everything else is
//! detected.

use std::fs;
use std::io;
use std::path::Path;

use mezzo_model::resources::{Milli, Ranges, Resource, Resources, TextError, Value};

const MB: u64 = 1 << 20;
const GB_IN_MB: u64 = 1 << 10;

/// The ports that are offered where nobody says otherwise.
const PORTS: (u64, u64) = (31_000, 32_000);

/// What was found on a host, in megabytes where it is an amount of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Processors that may be used.
    pub cpus: u64,
    /// Memory.
    pub mem_mb: u64,
    /// The file system under the work directory.
    pub disk_mb: u64,
}

/// Why resources cannot be known.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    /// The flag cannot be read.
    #[error("--resources: {0}")]
    Flag(#[from] TextError),
    /// The host does not say.
    #[error("cannot find out about {what} ({source}); give it in --resources")]
    Host {
        /// What.
        what: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Looks at this host.
///
/// # Errors
/// What the host does not say.
pub fn detect(work_dir: &Path) -> Result<Found, DetectError> {
    let host = |what| move |source| DetectError::Host { what, source };
    let cpus = std::thread::available_parallelism().map_err(host("processors"))?;
    let memory = memory_mb().map_err(host("memory"))?;
    let disk = rustix::fs::statvfs(work_dir).map_err(|errno| host("the disk")(errno.into()))?;
    Ok(Found {
        cpus: cpus.get() as u64,
        mem_mb: memory,
        disk_mb: disk.f_blocks.saturating_mul(disk.f_frsize) / MB,
    })
}

fn memory_mb() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let total = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse::<u64>().ok());
    total
        .map(|kilobytes| kilobytes / 1_024)
        .ok_or_else(|| io::Error::other("/proc/meminfo has no MemTotal"))
}

/// What is left to offer when the host keeps its part: `kept`, or half where there is less than twice that.
fn rest(total: u64, kept: u64) -> u64 {
    if total < 2 * kept {
        total / 2
    } else {
        total - kept
    }
}

/// Completes what the flag says with what was found.
///
/// # Errors
/// [`DetectError::Flag`] in words for a person.
pub fn complete(flag: &str, found: &Found) -> Result<Resources, DetectError> {
    let mut resources = Resources::parse(flag)?;
    let amounts = [
        ("cpus", found.cpus),
        ("mem", rest(found.mem_mb, GB_IN_MB)),
        ("disk", rest(found.disk_mb, 5 * GB_IN_MB)),
    ];
    for (name, amount) in amounts {
        if resources.iter().all(|resource| &*resource.name != name) {
            let milli = i64::try_from(amount)
                .unwrap_or(i64::MAX / 1_000)
                .saturating_mul(1_000);
            resources.insert(Resource::scalar(name, Milli(milli)));
        }
    }
    if resources.iter().all(|resource| &*resource.name != "ports") {
        let ports = Ranges::single(PORTS.0, PORTS.1);
        resources.insert(Resource::new("ports", Value::Ranges(ports)));
    }
    Ok(resources)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUND: Found = Found {
        cpus: 4,
        mem_mb: 16_384,
        disk_mb: 100_000,
    };

    fn amounts(flag: &str, found: &Found) -> Vec<(String, f64)> {
        let resources = complete(flag, found).expect("resources");
        ["cpus", "mem", "disk"]
            .iter()
            .map(|name| ((*name).to_owned(), resources.scalar(name).to_f64()))
            .collect()
    }

    #[test]
    fn the_host_keeps_its_part() {
        let all = amounts("", &FOUND);
        assert_eq!(all[0].1, 4.0);
        assert_eq!(all[1].1, 15_360.0);
        assert_eq!(all[2].1, 94_880.0);
        let small = Found {
            cpus: 1,
            mem_mb: 1_000,
            disk_mb: 8_000,
        };
        let all = amounts("", &small);
        assert_eq!((all[1].1, all[2].1), (500.0, 4_000.0));
        let ports = complete("", &FOUND).expect("resources").ranges("ports");
        assert_eq!(ports.intervals(), [(31_000, 32_000)]);
    }

    #[test]
    fn what_the_flag_names_is_not_detected() {
        let resources = complete("cpus(web):2;mem:100;ports:[1-2]", &FOUND).expect("resources");
        assert_eq!(resources.scalar("mem").to_f64(), 100.0);
        assert_eq!(resources.ranges("ports").intervals(), [(1, 2)]);
        assert_eq!(resources.unreserved().scalar("cpus").to_f64(), 0.0);
        assert_eq!(resources.scalar("disk").to_f64(), 94_880.0);
        let words = complete("cpus=4", &FOUND)
            .expect_err("no colon")
            .to_string();
        assert!(words.starts_with("--resources:"), "{words}");
    }

    #[test]
    fn this_host_has_something() {
        let found = detect(Path::new("/")).expect("detects");
        assert!(
            found.cpus > 0 && found.mem_mb > 0 && found.disk_mb > 0,
            "{found:?}"
        );
    }
}
