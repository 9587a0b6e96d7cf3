//! Volumes of a container: directories of the host or of the sandbox, bound to places inside.

use std::fs;
use std::path::{Component, Path, PathBuf};

use mezzo_wire::v1;

use crate::containerizer::{LaunchError, Site};

/// A directory or file and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    pub source: PathBuf,
    pub destination: PathBuf,
    pub read_only: bool,
}

/// Reads the volumes that a container asks for. Directories that are to lie in the sandbox are made.
///
/// # Errors
/// Refuses kinds of volumes that are not offered and paths that lead out of the sandbox, in words.
pub(super) fn bound(
    container: &v1::ContainerInfo,
    site: &Site,
    owner: Option<(u32, u32)>,
) -> Result<Vec<Bound>, LaunchError> {
    container
        .volumes
        .iter()
        .map(|volume| one(volume, site, owner))
        .collect()
}

fn one(volume: &v1::Volume, site: &Site, owner: Option<(u32, u32)>) -> Result<Bound, LaunchError> {
    use v1::volume::source::Type;
    let inside = &volume.container_path;
    let refuse = |words: &str| {
        Err(LaunchError::Refused(format!(
            "volume '{}' {words}",
            inside.escape_debug()
        )))
    };
    if inside.is_empty() || inside.contains('\0') || leads_out(Path::new(inside)) {
        return refuse("needs a path inside the container, without '..'");
    }
    if volume.image.is_some() {
        return refuse("is an image, which this agent does not offer as a volume");
    }
    let source = match (&volume.source, &volume.host_path) {
        (Some(source), None) => match (source.r#type(), &source.host_path, &source.sandbox_path) {
            (Type::HostPath, Some(host), _) => &host.path,
            (Type::SandboxPath, _, Some(sandbox)) => {
                if Path::new(&sandbox.path).is_absolute() {
                    return refuse("has a path in the sandbox that begins with '/'");
                }
                &sandbox.path
            }
            _ => {
                return refuse(
                    "is of a kind that this agent does not offer; use a path of the host or of the sandbox",
                );
            }
        },
        (None, Some(host)) => host,
        _ => return refuse("needs one source: 'host_path' or 'source'"),
    };
    if source.is_empty() || source.contains('\0') {
        return refuse("has an empty source");
    }
    let source = Path::new(source);
    let source = if source.is_absolute() {
        source.to_owned()
    } else {
        if leads_out(source) {
            return refuse("has a path that leads out of the sandbox");
        }
        in_sandbox(&site.sandbox, source, owner)?
    };
    let destination = match Path::new(inside) {
        absolute if absolute.is_absolute() => absolute.to_owned(),
        relative => Path::new(super::SANDBOX_INSIDE).join(relative),
    };
    let read_only = volume.mode == v1::volume::Mode::Ro as i32;
    Ok(Bound {
        source,
        destination,
        read_only,
    })
}

fn leads_out(path: &Path) -> bool {
    path.components()
        .any(|component| matches!(component, Component::ParentDir))
}

/// Makes a directory in a sandbox that is new, so that nobody could have put a symbolic link in the way.
fn in_sandbox(
    sandbox: &Path,
    path: &Path,
    owner: Option<(u32, u32)>,
) -> Result<PathBuf, LaunchError> {
    let mut at = sandbox.to_owned();
    for component in path.components() {
        at.push(component);
        match fs::create_dir(&at) {
            Ok(()) => {
                let (user, group) = owner.unzip();
                std::os::unix::fs::chown(&at, user, group)
                    .map_err(LaunchError::io("hand over", &at))?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(LaunchError::io("create", &at)(error)),
        }
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use mezzo_model::ids::ContainerId;

    use super::*;

    fn volume(inside: &str, host: Option<&str>) -> v1::Volume {
        v1::Volume {
            container_path: inside.to_owned(),
            host_path: host.map(str::to_owned),
            mode: v1::volume::Mode::Ro as i32,
            ..Default::default()
        }
    }

    fn sourced(kind: v1::volume::source::Type, path: &str) -> v1::Volume {
        let sandbox_path = v1::volume::source::SandboxPath {
            path: path.to_owned(),
            ..Default::default()
        };
        let host_path = v1::volume::source::HostPath {
            path: path.to_owned(),
            ..Default::default()
        };
        let source = v1::volume::Source {
            r#type: Some(kind as i32),
            sandbox_path: Some(sandbox_path),
            host_path: Some(host_path),
            ..Default::default()
        };
        v1::Volume {
            source: Some(source),
            ..volume("/in", None)
        }
    }

    #[test]
    fn volumes_are_bound_or_refused_in_words() {
        use v1::volume::source::Type;
        let scratch = tempfile::tempdir().expect("a directory");
        let site = Site {
            container: ContainerId::parse("c").expect("an id"),
            directory: scratch.path().join("c"),
            sandbox: scratch.path().to_owned(),
        };
        let take = |volume: v1::Volume| one(&volume, &site, None);
        let bound = take(volume("data", Some("/srv"))).expect("bound");
        assert_eq!(bound.destination, Path::new("/mnt/mesos/sandbox/data"));
        assert!(bound.read_only);
        let bound = take(sourced(Type::SandboxPath, "a/b")).expect("bound");
        assert_eq!(bound.source, scratch.path().join("a/b"));
        assert!(bound.source.is_dir());
        assert_eq!(
            take(sourced(Type::HostPath, "/srv")).expect("bound").source,
            Path::new("/srv")
        );
        for (bad, words) in [
            (volume("", Some("/srv")), "needs a path inside"),
            (volume("/a/../b", Some("/srv")), "needs a path inside"),
            (volume("/a", None), "needs one source"),
            (volume("/a", Some("")), "an empty source"),
            (volume("/a", Some("../x")), "leads out"),
            (sourced(Type::SandboxPath, "/x"), "begins with '/'"),
            (sourced(Type::SandboxPath, "x/../../y"), "leads out"),
            (sourced(Type::Secret, "x"), "does not offer"),
            (
                v1::Volume {
                    image: Some(Default::default()),
                    ..volume("/a", Some("/b"))
                },
                "is an image",
            ),
        ] {
            let refused = take(bad).expect_err(words).to_string();
            assert!(refused.contains(words), "{refused}");
        }
    }
}
