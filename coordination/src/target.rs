//! Where a cluster keeps its coordination: the value of `--zk` and `--master`.
//!
//! Invariant: parsing reaches for nothing; a name is resolved only when somebody connects to it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where an election is held, watched and its state kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A ZooKeeper ensemble: `zk://[user:password@]host[:port][,host[:port]]*/path`.
    ZooKeeper(ZkTarget),
    /// No server: a directory of this host, `file:///dir`. A lock in it elects.
    Embedded(PathBuf),
    /// One fixed leader, `host:port`. It can be watched, not contended for.
    Fixed(String),
}

/// The parts of a `zk://` target.
#[derive(Clone, PartialEq, Eq)]
pub struct ZkTarget {
    /// `host:port` of each server, in the order given; the port is 2181 where none was.
    pub servers: Vec<String>,
    /// The path under which everything lies: absolute, no trailing slash, never `/`.
    pub path: String,
    /// `user:password` of ZooKeeper's `digest` scheme.
    pub credentials: Option<String>,
}

/// Why a target could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Nothing was given.
    #[error("expected zk://host:port/path, file:///directory or host:port, but it is empty")]
    Empty,
    /// A scheme that is not known.
    #[error(
        "`{0}://` is not a known scheme; expected zk://host:port/path, file:///directory or host:port"
    )]
    Scheme(String),
    /// A `zk://` target without a path below the root.
    #[error("`zk://` needs a path after its servers, such as zk://{0}/mesos")]
    NoPath(String),
    /// A path that ZooKeeper would refuse.
    #[error(
        "`{0}` is not a ZooKeeper path: use /name[/name]* without empty, `.` or `..` parts or control characters"
    )]
    Path(String),
    /// A `host:port` that is not one.
    #[error(
        "`{0}` is not host:port (the port is a number from 1 to 65535; an IPv6 address stands in [])"
    )]
    HostPort(String),
    /// Credentials that are not `user:password`.
    #[error("the part before `@` must be user:password")]
    Credentials,
    /// A `file://` target that is not an absolute directory.
    #[error("`{0}` must be file:/// followed by an absolute directory")]
    Directory(String),
}

impl Target {
    /// Reads a target from its text.
    ///
    /// # Errors
    /// Says what was expected; the words never repeat credentials.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(TargetError::Empty);
        }
        match text.split_once("://") {
            Some(("zk", rest)) => parse_zk(rest).map(Self::ZooKeeper),
            Some(("file", rest)) => parse_file(rest).map(Self::Embedded),
            Some((scheme, _)) => Err(TargetError::Scheme(scheme.to_owned())),
            None => host_port(text, None).map(Self::Fixed),
        }
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        Self::parse(text)
    }
}

/// Prints the target as it was given, with the password left out.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZooKeeper(zk) => write!(f, "{zk}"),
            Self::Embedded(dir) => write!(f, "file://{}", dir.display()),
            Self::Fixed(address) => f.write_str(address),
        }
    }
}

impl ZkTarget {
    /// The connect string of the servers, without path: `host:port,host:port`.
    pub fn connect_string(&self) -> String {
        self.servers.join(",")
    }
}

impl fmt::Display for ZkTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self
            .credentials
            .as_deref()
            .and_then(|c| c.split(':').next());
        let user = user.map(|user| format!("{user}:***@")).unwrap_or_default();
        write!(f, "zk://{user}{}{}", self.connect_string(), self.path)
    }
}

impl fmt::Debug for ZkTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

fn parse_zk(rest: &str) -> Result<ZkTarget, TargetError> {
    // A password may hold `/` or `@`: the last `@` ends it, as the servers can hold neither.
    let (credentials, rest) = match rest.rsplit_once('@') {
        None => (None, rest),
        Some((credentials, rest)) => match credentials.split_once(':') {
            Some((user, _)) if !user.is_empty() => (Some(credentials.to_owned()), rest),
            _ => return Err(TargetError::Credentials),
        },
    };
    let (servers, path) = match rest.find('/') {
        Some(slash) => (&rest[..slash], rest[slash..].trim_end_matches('/')),
        None => (rest, ""),
    };
    let servers = servers
        .split(',')
        .map(|s| host_port(s.trim(), Some(2181)))
        .collect::<Result<Vec<_>, _>>()?;
    if path.is_empty() {
        return Err(TargetError::NoPath(servers.join(",")));
    }
    let good = path[1..]
        .split('/')
        .all(|part| !matches!(part, "" | "." | "..") && !part.chars().any(unfit_for_zookeeper));
    if !good || path == "/zookeeper" || path.starts_with("/zookeeper/") {
        return Err(TargetError::Path(path.to_owned()));
    }
    Ok(ZkTarget {
        servers,
        path: path.to_owned(),
        credentials,
    })
}

/// Characters that ZooKeeper refuses in a path (its programmer's guide, "data model").
pub(crate) fn unfit_for_zookeeper(c: char) -> bool {
    matches!(u32::from(c), 0..=0x1f | 0x7f..=0x9f | 0xd800..=0xf8ff | 0xfff0..=0xffff)
}

fn parse_file(rest: &str) -> Result<PathBuf, TargetError> {
    if rest.len() < 2 || !rest.starts_with('/') || rest.contains('\0') {
        return Err(TargetError::Directory(format!("file://{rest}")));
    }
    Ok(PathBuf::from(rest))
}

/// Checks `host:port`; with `default_port`, the port may be left out.
fn host_port(text: &str, default_port: Option<u16>) -> Result<String, TargetError> {
    let bad = || TargetError::HostPort(text.to_owned());
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let host_is_good = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        }
    };
    let port = match (port, default_port) {
        (Some(port), _) => port
            .parse::<u16>()
            .ok()
            .filter(|p| *p != 0)
            .ok_or_else(bad)?,
        (None, Some(port)) => port,
        (None, None) => return Err(bad()),
    };
    if !host_is_good {
        return Err(bad());
    }
    Ok(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zookeeper_targets() {
        let Ok(Target::ZooKeeper(zk)) = Target::parse("zk://a:2181,b,[::1]:99/mesos/") else {
            panic!("a zk target");
        };
        assert_eq!(zk.servers, ["a:2181", "b:2181", "[::1]:99"]);
        assert_eq!((zk.path.as_str(), &zk.credentials), ("/mesos", &None));
        let Ok(Target::ZooKeeper(zk)) = Target::parse("zk://me:p@ss/w:d@h:1/a/b") else {
            panic!("a zk target");
        };
        assert_eq!(zk.credentials.as_deref(), Some("me:p@ss/w:d"));
        assert_eq!(
            (zk.servers, zk.path.as_str()),
            (vec!["h:1".to_owned()], "/a/b")
        );
    }

    #[test]
    fn a_password_is_never_printed() {
        let target = Target::parse("zk://me:secret@h:1/a").unwrap();
        assert_eq!(target.to_string(), "zk://me:***@h:1/a");
        assert!(!format!("{target:?}").contains("secret"));
    }

    #[test]
    fn other_targets() {
        assert_eq!(
            Target::parse("file:///var/x"),
            Ok(Target::Embedded("/var/x".into()))
        );
        assert_eq!(
            Target::parse(" h-1.x:5050 "),
            Ok(Target::Fixed("h-1.x:5050".into()))
        );
        assert_eq!(
            Target::parse("[::1]:5050"),
            Ok(Target::Fixed("[::1]:5050".into()))
        );
    }

    #[test]
    fn refusals_say_what_is_expected() {
        for (text, part) in [
            ("", "it is empty"),
            ("http://a/b", "`http://` is not a known scheme"),
            ("zk://a:2181", "needs a path"),
            ("zk://a:2181/", "zk://a:2181/mesos"),
            ("zk:///mesos", "not host:port"),
            ("zk://a,,b/mesos", "not host:port"),
            ("zk://a:0/mesos", "not host:port"),
            ("zk://a:2181/x//y", "not a ZooKeeper path"),
            ("zk://a:2181/x/../y", "not a ZooKeeper path"),
            ("zk://a:2181/zookeeper", "not a ZooKeeper path"),
            ("zk://me@a:2181/x", "user:password"),
            ("file://relative", "absolute directory"),
            ("file:///", "absolute directory"),
            ("host", "not host:port"),
            ("host:99999", "not host:port"),
            ("ho st:5050", "not host:port"),
        ] {
            let words = Target::parse(text).unwrap_err().to_string();
            assert!(words.contains(part), "{text}: {words}");
        }
    }
}
