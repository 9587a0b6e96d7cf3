//! The root of a container: an overlay over an image's directory or over the host's own root.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use mezzo_executor::plan;
use mezzo_wire::v1;

use super::Files;
use crate::containerizer::{LaunchError, Site};

/// Where the upper side lies in a sandbox.
const UPPER_NAME: &str = ".rootfs";

/// What a container's root is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lower {
    /// The root of the host.
    Host,
    /// A directory with a root file system.
    Image(PathBuf),
}

impl Lower {
    fn path(&self) -> &Path {
        match self {
            Self::Host => Path::new("/"),
            Self::Image(path) => path,
        }
    }
}

/// The directory in a sandbox that holds the upper side.
pub(crate) fn upper_directory(sandbox: &Path) -> PathBuf {
    sandbox.join(UPPER_NAME)
}

/// The same as the container would see it; it must not.
pub(crate) fn upper_inside() -> PathBuf {
    Path::new(super::SANDBOX_INSIDE).join(UPPER_NAME)
}

/// Finds out what a container's root is made from.
///
/// # Errors
/// Refuses an image that is not the path of a directory of this host.
pub(crate) fn lower(container: Option<&v1::ContainerInfo>) -> Result<Lower, LaunchError> {
    let image = container
        .and_then(|container| container.mesos.as_ref())
        .and_then(|mesos| mesos.image.as_ref());
    let Some(image) = image else {
        return Ok(Lower::Host);
    };
    let name = match (&image.docker, &image.appc) {
        (Some(docker), _) => &docker.name,
        (None, Some(appc)) => &appc.name,
        (None, None) => {
            return Err(LaunchError::Refused("the image has no name".to_owned()));
        }
    };
    let path = PathBuf::from(name.strip_prefix("file://").unwrap_or(name));
    if !path.is_absolute() {
        return Err(LaunchError::Refused(format!(
            "image '{name}' is not the absolute path of a directory; images from registries are not fetched by this agent"
        )));
    }
    let path = path
        .canonicalize()
        .map_err(LaunchError::io("find the image", &path))?;
    // What unpacks an image for OCI runtimes puts the root beside its configuration.
    let nested = path.join("rootfs");
    let root = if path.join("config.json").is_file() && nested.is_dir() {
        nested
    } else {
        path
    };
    if !root.is_dir() {
        return Err(LaunchError::Refused(format!(
            "image '{name}' is not a directory"
        )));
    }
    Ok(Lower::Image(root))
}

/// Makes the upper side and says how the overlay is mounted.
pub(super) fn overlay(
    lower: &Lower,
    files: &Files,
    site: &Site,
) -> Result<plan::Mount, LaunchError> {
    let base = upper_directory(&site.sandbox);
    // Its mode becomes that of the container's root; the directory above keeps everybody else out.
    for (path, mode) in [
        (base.clone(), 0o700),
        (base.join("upper"), 0o755),
        (base.join("work"), 0o755),
    ] {
        fs::DirBuilder::new()
            .mode(mode)
            .create(&path)
            .map_err(LaunchError::io("create", &path))?;
    }
    let through = files.sandbox_link.join(UPPER_NAME);
    let data = format!(
        "lowerdir={},upperdir={},workdir={}",
        option(lower.path())?,
        option(&through.join("upper"))?,
        option(&through.join("work"))?,
    );
    Ok(plan::Mount::FileSystem {
        kind: "overlay".to_owned(),
        source: "overlay".to_owned(),
        target: files.rootfs.clone(),
        data,
        read_only: false,
    })
}

/// A path as a mount option. Commas, colons and backslashes have a meaning there, which escaping takes away for some
/// kernels and not for others: such a path is refused.
fn option(path: &Path) -> Result<&str, LaunchError> {
    match path.to_str() {
        Some(text) if !text.contains([',', ':', '\\', '"']) => Ok(text),
        _ => Err(LaunchError::Refused(format!(
            "{} cannot be part of a container's root: its path holds ',', ':', a backslash, or bytes that are no text",
            path.display()
        ))),
    }
}

/// File systems of the host below these directories are part of what a container with the host's root expects there.
const SYSTEM_DIRECTORIES: [&str; 9] = [
    "/usr", "/opt", "/etc", "/bin", "/sbin", "/lib", "/lib64", "/nix", "/srv",
];

/// Mount points of the host that an overlay over its root would show empty.
pub(crate) fn system_mounts(mountinfo: &str) -> Vec<PathBuf> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    let mut found: Vec<PathBuf> = points
        .filter(|point| !point.contains('\\'))
        .map(PathBuf::from)
        .filter(|point| {
            SYSTEM_DIRECTORIES
                .iter()
                .any(|system| point.starts_with(system))
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    // What lies below another one comes with it.
    let all = found.clone();
    found.retain(|point| {
        !all.iter()
            .any(|other| other != point && point.starts_with(other))
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str) -> v1::ContainerInfo {
        let docker = v1::image::Docker {
            name: name.to_owned(),
            ..Default::default()
        };
        let image = v1::Image {
            docker: Some(docker),
            ..Default::default()
        };
        v1::ContainerInfo {
            mesos: Some(v1::container_info::MesosInfo { image: Some(image) }),
            ..Default::default()
        }
    }

    #[test]
    fn an_image_is_a_directory_of_this_host() {
        let scratch = tempfile::tempdir().expect("a directory");
        let root = scratch.path().canonicalize().expect("a path");
        let name = root.to_str().expect("text");
        assert_eq!(lower(None).expect("the host"), Lower::Host);
        assert_eq!(
            lower(Some(&image(name))).expect("an image"),
            Lower::Image(root.clone())
        );
        let url = format!("file://{name}");
        assert_eq!(
            lower(Some(&image(&url))).expect("an image"),
            Lower::Image(root.clone())
        );
        fs::create_dir(root.join("rootfs")).expect("makes");
        fs::write(root.join("config.json"), "{}").expect("writes");
        assert_eq!(
            lower(Some(&image(name))).expect("an image"),
            Lower::Image(root.join("rootfs"))
        );
        for (bad, words) in [
            ("busybox", "not fetched"),
            ("/no/such/directory", "find the image"),
            ("/etc/passwd", "not a directory"),
        ] {
            let refused = lower(Some(&image(bad))).expect_err(bad).to_string();
            assert!(refused.contains(words), "{refused}");
        }
        let nameless = v1::ContainerInfo {
            mesos: Some(v1::container_info::MesosInfo {
                image: Some(v1::Image::default()),
            }),
            ..Default::default()
        };
        assert!(lower(Some(&nameless)).is_err());
    }

    #[test]
    fn paths_with_a_meaning_in_options_are_refused() {
        for bad in ["/a,b", "/a:b", "/a\\b"] {
            assert!(option(Path::new(bad)).is_err(), "{bad}");
        }
        assert_eq!(option(Path::new("/a b")).ok(), Some("/a b"));
    }

    #[test]
    fn file_systems_of_the_system_are_found() {
        let mountinfo = "\
1 0 8:1 / / rw - ext4 /dev/a rw
2 1 8:2 / /usr ro - ext4 /dev/b ro
3 2 8:3 / /usr/local rw - ext4 /dev/c rw
4 1 0:1 / /run rw - tmpfs tmpfs rw
5 1 8:4 / /home rw - ext4 /dev/d rw
6 1 8:5 / /nix/store ro - ext4 /dev/e ro
7 1 8:6 / /usrlocal ro - ext4 /dev/f ro
";
        assert_eq!(
            system_mounts(mountinfo),
            [Path::new("/nix/store"), Path::new("/usr")]
        );
    }
}
