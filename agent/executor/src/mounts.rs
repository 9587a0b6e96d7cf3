//! Mounts of one container in a namespace of the executor's own: they vanish with its last process, however it ends.
//!
//! Invariant: the host's mount table is never changed; the namespace takes mounts of the host over, and gives none
//! back.

use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::plan::Mount;

/// A mount that could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {act}: {}", errno.desc())]
pub struct MountError {
    /// What was tried.
    act: String,
    /// The kernel's answer.
    #[source]
    errno: Errno,
}

/// Enters a mount namespace of its own and makes the mounts in order. Nothing is done for none.
pub fn enter(mounts: &[Mount]) -> Result<(), MountError> {
    if mounts.is_empty() {
        return Ok(());
    }
    let fail = |act: &str| {
        let act = act.to_owned();
        move |errno| MountError { act, errno }
    };
    unshare(CloneFlags::CLONE_NEWNS).map_err(fail("make a mount namespace"))?;
    let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    bare("/", slave).map_err(fail("keep the mounts from the host"))?;
    for one in mounts {
        make(one)?;
    }
    Ok(())
}

fn make(one: &Mount) -> Result<(), MountError> {
    let (act, result) = match one {
        Mount::FileSystem {
            kind,
            source,
            target,
            data,
            read_only,
        } => {
            let mut flags = MsFlags::empty();
            flags.set(MsFlags::MS_RDONLY, *read_only);
            let data = Some(data.as_str()).filter(|data| !data.is_empty());
            let result = mount(
                Some(source.as_str()),
                target,
                Some(kind.as_str()),
                flags,
                data,
            );
            (format!("mount {kind} at {}", target.display()), result)
        }
        Mount::Bind {
            source,
            target,
            recursive,
            read_only,
        } => {
            let act = format!("bind {} to {}", source.display(), target.display());
            (act, bind(source, target, *recursive, *read_only))
        }
        Mount::Unmount { target } => {
            let result = match umount2(target, MntFlags::MNT_DETACH) {
                Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
                other => other,
            };
            (format!("unmount {}", target.display()), result)
        }
    };
    result.map_err(|errno| MountError { act, errno })
}

fn bind(source: &Path, target: &Path, recursive: bool, read_only: bool) -> nix::Result<()> {
    let mut flags = MsFlags::MS_BIND;
    flags.set(MsFlags::MS_REC, recursive);
    mount(Some(source), target, None::<&str>, flags, None::<&str>)?;
    if read_only {
        // A bind takes no other flags at first.
        bare(
            target,
            MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY,
        )?;
    }
    Ok(())
}

/// A mount call that only changes what is there.
fn bare(target: impl AsRef<Path>, flags: MsFlags) -> nix::Result<()> {
    mount(
        None::<&str>,
        target.as_ref(),
        None::<&str>,
        flags,
        None::<&str>,
    )
}
