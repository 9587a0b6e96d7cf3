//! Users by name: who they are for the kernel.

use mezzo_executor::plan;
use nix::unistd::{Gid, Uid, User, getgrouplist};

use super::LaunchError;

/// Looks a user up with all groups.
///
/// # Errors
/// Refuses in words if there is none of that name.
pub(crate) fn find(name: &str) -> Result<plan::User, LaunchError> {
    let words = |why: String| LaunchError::Refused(why);
    let user = User::from_name(name)
        .map_err(|errno| {
            words(format!(
                "user '{name}' cannot be looked up: {}",
                errno.desc()
            ))
        })?
        .ok_or_else(|| words(format!("No such user '{name}' on this agent")))?;
    let c_name = std::ffi::CString::new(name).map_err(|_| {
        words(format!(
            "No such user '{}' on this agent",
            name.escape_debug()
        ))
    })?;
    let groups = getgrouplist(&c_name, user.gid).map_err(|errno| {
        words(format!(
            "groups of '{name}' cannot be looked up: {}",
            errno.desc()
        ))
    })?;
    Ok(plan::User {
        name: user.name,
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        groups: groups.into_iter().map(Gid::as_raw).collect(),
    })
}

/// The name of the user that this process runs as; its number if it has no name.
pub(crate) fn own_name() -> String {
    let uid = Uid::effective();
    match User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name() {
        let root = find("root").expect("everybody has root");
        assert_eq!((root.uid, root.gid), (0, 0));
        let refused = find("no such user at all").expect_err("nobody").to_string();
        assert!(
            refused.contains("No such user 'no such user at all'"),
            "{refused}"
        );
        assert!(find("nul\0byte").is_err());
        assert!(!own_name().is_empty());
    }
}
