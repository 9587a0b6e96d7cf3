//! What this agent does not offer, refused by name rather than left out in silence.

use mezzo_wire::v1;

use super::LaunchError;
use crate::core::Launch;

/// What a containerizer can do beyond running a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Abilities {
    /// An image as the root.
    pub images: bool,
    /// Volumes of the host, a host name, a size of `/dev/shm`.
    pub mounts: bool,
}

/// Checks that a launch asks for nothing that would not be done.
///
/// # Errors
/// Names what is not offered and what would be.
pub(crate) fn check(launch: &Launch, abilities: Abilities) -> Result<(), LaunchError> {
    if launch.volumes_asked {
        return refuse("persistent volumes are not mounted by this agent");
    }
    if !launch.command.uris.is_empty() {
        return refuse(
            "this agent does not fetch URIs; let the command fetch what it needs, or put it on the agents",
        );
    }
    let Some(container) = &launch.container else {
        return Ok(());
    };
    check_kind(container, abilities)?;
    check_rest(container, abilities)
}

fn check_kind(container: &v1::ContainerInfo, abilities: Abilities) -> Result<(), LaunchError> {
    if container.r#type != v1::container_info::Type::Mesos as i32 {
        return refuse(
            "containers of type DOCKER are not offered by this agent; use type MESOS with the path of a root directory as image",
        );
    }
    let image = container
        .mesos
        .as_ref()
        .and_then(|mesos| mesos.image.as_ref());
    if image.is_some() && !abilities.images {
        return refuse(
            "an image needs the containerizer 'oci' (an agent that runs as root, with an OCI runtime such as runc)",
        );
    }
    Ok(())
}

fn check_rest(container: &v1::ContainerInfo, abilities: Abilities) -> Result<(), LaunchError> {
    if !abilities.mounts && !container.volumes.is_empty() {
        return refuse("volumes need the containerizer 'oci'");
    }
    if !abilities.mounts && container.hostname.is_some() {
        return refuse("a host name of its own needs the containerizer 'oci'");
    }
    if container.tty_info.is_some() {
        return refuse("terminals (tty_info) are not offered by this agent");
    }
    let own_network = container.network_infos.iter().any(|network| {
        network.name.as_deref().is_some_and(|name| name != "host")
            || !network.port_mappings.is_empty()
    });
    if own_network {
        return refuse("networks other than the host's are not offered by this agent");
    }
    let Some(linux) = &container.linux_info else {
        return Ok(());
    };
    if linux.effective_capabilities.is_some()
        || linux.bounding_capabilities.is_some()
        || linux.capability_info.is_some()
    {
        return refuse(
            "a choice of capabilities is not offered by this agent; containers have the runtime's default ones",
        );
    }
    if linux
        .seccomp
        .as_ref()
        .is_some_and(|seccomp| seccomp.profile_name.is_some())
    {
        return refuse("seccomp profiles are not offered by this agent");
    }
    if linux.share_pid_namespace.unwrap_or(false) && abilities.mounts {
        return refuse("sharing the agent's PID namespace is not offered by this agent");
    }
    let shares_ipc = linux.ipc_mode == Some(v1::linux_info::IpcMode::ShareParent as i32);
    if shares_ipc && abilities.mounts {
        return refuse("sharing the agent's IPC namespace is not offered by this agent");
    }
    if linux.shm_size.is_some() && !abilities.mounts {
        return refuse("a size of /dev/shm needs the containerizer 'oci'");
    }
    Ok(())
}

fn refuse(words: &str) -> Result<(), LaunchError> {
    Err(LaunchError::Refused(words.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containerizer::launch::testing::launch;

    type Ask = fn(&mut Launch, &mut v1::ContainerInfo);

    fn refused(ask: Ask, abilities: Abilities) -> Option<String> {
        let mut launch = launch("true");
        let mut container = v1::ContainerInfo {
            r#type: v1::container_info::Type::Mesos as i32,
            ..Default::default()
        };
        ask(&mut launch, &mut container);
        launch.container = Some(container);
        check(&launch, abilities)
            .err()
            .map(|error| error.to_string())
    }

    fn image(container: &mut v1::ContainerInfo) {
        let image = v1::Image {
            r#type: v1::image::Type::Docker as i32,
            ..Default::default()
        };
        container.mesos = Some(v1::container_info::MesosInfo { image: Some(image) });
    }

    #[test]
    fn what_is_not_offered_is_refused_by_name() {
        let rows: [(&str, Ask); 9] = [
            ("persistent volumes", |launch, _| {
                launch.volumes_asked = true
            }),
            ("does not fetch", |launch, _| {
                launch.command.uris.push(Default::default())
            }),
            ("type DOCKER", |_, container| {
                container.r#type = v1::container_info::Type::Docker as i32
            }),
            ("tty_info", |_, container| {
                container.tty_info = Some(Default::default())
            }),
            ("networks other", |_, container| {
                let name = Some("overlay".to_owned());
                container.network_infos.push(v1::NetworkInfo {
                    name,
                    ..Default::default()
                });
            }),
            ("choice of capabilities", |_, container| {
                let effective_capabilities = Some(Default::default());
                container.linux_info = Some(v1::LinuxInfo {
                    effective_capabilities,
                    ..Default::default()
                });
            }),
            ("seccomp", |_, container| {
                let seccomp = v1::SeccompInfo {
                    profile_name: Some("p".to_owned()),
                    unconfined: None,
                };
                container.linux_info = Some(v1::LinuxInfo {
                    seccomp: Some(seccomp),
                    ..Default::default()
                });
            }),
            ("PID namespace", |_, container| {
                container.linux_info = Some(v1::LinuxInfo {
                    share_pid_namespace: Some(true),
                    ..Default::default()
                });
            }),
            ("IPC namespace", |_, container| {
                let ipc_mode = Some(v1::linux_info::IpcMode::ShareParent as i32);
                container.linux_info = Some(v1::LinuxInfo {
                    ipc_mode,
                    ..Default::default()
                });
            }),
        ];
        let all = Abilities {
            images: true,
            mounts: true,
        };
        for (words, ask) in rows {
            let said = refused(ask, all).unwrap_or_else(|| panic!("{words} was not refused"));
            assert!(said.contains(words), "{said}");
        }
        assert_eq!(refused(|_, container| image(container), all), None);
    }

    #[test]
    fn a_plain_process_has_no_mounts() {
        let rows: [(&str, Ask); 4] = [
            ("an image needs", |_, container| image(container)),
            ("volumes need", |_, container| {
                container.volumes.push(Default::default())
            }),
            ("host name", |_, container| {
                container.hostname = Some("h".to_owned())
            }),
            ("/dev/shm", |_, container| {
                container.linux_info = Some(v1::LinuxInfo {
                    shm_size: Some(64),
                    ..Default::default()
                });
            }),
        ];
        let none = Abilities {
            images: false,
            mounts: false,
        };
        for (words, ask) in rows {
            let said = refused(ask, none).unwrap_or_else(|| panic!("{words} was not refused"));
            assert!(said.contains(words), "{said}");
        }
        assert_eq!(refused(|_, _| {}, none), None);
    }
}
