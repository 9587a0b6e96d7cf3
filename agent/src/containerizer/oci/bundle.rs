//! `config.json`: the runtime's own defaults, changed as little as a launch needs.
//!
//! Rule: the OCI runtime specification. Capabilities, masked and read-only paths and the usual mounts are those of
//! `<runtime> spec`; the inheritable and ambient sets are emptied, so that a user without privilege has none.

use std::fs;
use std::path::{Path, PathBuf};

use mezzo_executor::plan::{CommandLine, Plan, Rlimit, RlimitKind};
use oci_spec::OciSpecError;
use oci_spec::runtime::{
    LinuxCapabilitiesBuilder, LinuxCpuBuilder, LinuxMemoryBuilder, LinuxNamespace,
    LinuxNamespaceType, LinuxPidsBuilder, LinuxResources, Mount, MountBuilder, PosixRlimit,
    PosixRlimitBuilder, PosixRlimitType, Process, RootBuilder, Spec, User, UserBuilder,
};

use super::root::{self, Lower};
use super::{Host, SANDBOX_INSIDE, volumes};
use crate::containerizer::cgroup::{CPU_PERIOD_US, quota_us, shares};
use crate::containerizer::{LaunchError, Site};
use crate::core::{Launch, Limits};

/// More processes and threads than this a container does not get, so that one cannot take all of the host's.
const PIDS_MAX: i64 = 32_768;

/// Files of the host's network configuration that a container of the host's network needs.
const NETWORK_FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// Builds the configuration of a container.
///
/// # Errors
/// Refuses volumes that are not offered, in words.
pub(crate) fn spec(
    base: &Spec,
    host: &Host,
    launch: &Launch,
    site: &Site,
    plan: &Plan,
    lower: &Lower,
) -> Result<Spec, LaunchError> {
    let mut mounts = base.mounts().clone().unwrap_or_default();
    if let Some(bytes) = shm_bytes(launch) {
        resize_shm(&mut mounts, bytes);
    }
    match lower {
        Lower::Host => mounts.extend(host_mounts(host).map_err(bundle)?),
        Lower::Image(_) => mounts.extend(network_mounts().map_err(bundle)?),
    }
    mounts.push(bind(&site.sandbox, Path::new(SANDBOX_INSIDE), false).map_err(bundle)?);
    mounts.push(empty(&root::upper_inside()).map_err(bundle)?);
    if launch.custom {
        let door = &host.socket_directory;
        mounts.push(bind(door, door, false).map_err(bundle)?);
    }
    if let Some(container) = &launch.container {
        let owner = plan.user.as_ref().map(|user| (user.uid, user.gid));
        for volume in volumes::bound(container, site, owner)? {
            let mount = bind(&volume.source, &volume.destination, volume.read_only);
            mounts.push(mount.map_err(bundle)?);
        }
    }
    let asked_name = launch
        .container
        .as_ref()
        .and_then(|container| container.hostname.clone());
    let mut spec = base.clone();
    spec.set_root(Some(rootfs(site).map_err(bundle)?))
        .set_mounts(Some(mounts))
        .set_hostname(Some(asked_name.unwrap_or_else(|| host.hostname.clone())))
        .set_process(Some(process(base, plan).map_err(bundle)?));
    let mut linux = base.linux().clone().unwrap_or_default();
    let namespaces = namespaces(linux.namespaces().clone());
    let resources = resources(linux.resources().clone(), host, &launch.limits).map_err(bundle)?;
    linux
        .set_namespaces(Some(namespaces))
        .set_resources(Some(resources))
        .set_cgroups_path(Some(
            PathBuf::from("/").join(host.group(site.container.as_str())),
        ));
    spec.set_linux(Some(linux));
    Ok(spec)
}

fn bundle(error: OciSpecError) -> LaunchError {
    LaunchError::Bundle(error.to_string())
}

fn rootfs(site: &Site) -> Result<oci_spec::runtime::Root, OciSpecError> {
    let path = super::Files::of(&site.directory).rootfs;
    RootBuilder::default().path(path).readonly(false).build()
}

/// Those of the runtime but the network's, which stays the host's.
fn namespaces(known: Option<Vec<LinuxNamespace>>) -> Vec<LinuxNamespace> {
    let mut kept: Vec<LinuxNamespace> = known
        .unwrap_or_default()
        .into_iter()
        .filter(|namespace| namespace.typ() != LinuxNamespaceType::Network)
        .filter(|namespace| namespace.typ() != LinuxNamespaceType::User)
        .collect();
    for kind in [
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
    ] {
        if kept.iter().all(|namespace| namespace.typ() != kind) {
            let mut namespace = LinuxNamespace::default();
            namespace.set_typ(kind);
            kept.push(namespace);
        }
    }
    kept
}

fn process(base: &Spec, plan: &Plan) -> Result<Process, OciSpecError> {
    let mut process = base.process().clone().unwrap_or_default();
    let environment = plan.environment();
    let known = process.capabilities().clone().unwrap_or_default();
    let mut capabilities = LinuxCapabilitiesBuilder::default();
    if let Some(bounding) = known.bounding() {
        capabilities = capabilities.bounding(bounding.clone());
    }
    if let Some(effective) = known.effective() {
        capabilities = capabilities.effective(effective.clone());
    }
    if let Some(permitted) = known.permitted() {
        capabilities = capabilities.permitted(permitted.clone());
    }
    let mut capabilities = capabilities.build()?;
    capabilities.set_inheritable(None).set_ambient(None);
    process
        .set_terminal(None)
        .set_user(user(plan)?)
        .set_args(Some(arguments(&plan.command)))
        .set_env(Some(
            environment
                .into_iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
        ))
        .set_cwd(PathBuf::from(SANDBOX_INSIDE))
        .set_capabilities(Some(capabilities))
        .set_rlimits(Some(
            plan.rlimits.iter().map(rlimit).collect::<Result<_, _>>()?,
        ))
        .set_no_new_privileges(Some(true));
    Ok(process)
}

/// A runtime finds the program by the zeroth argument, so a program called by another name is not possible here.
fn arguments(command: &CommandLine) -> Vec<String> {
    let mut arguments = command.argv();
    if let Some(first) = arguments.first_mut() {
        command.program().clone_into(first);
    }
    arguments
}

fn user(plan: &Plan) -> Result<User, OciSpecError> {
    let own = || {
        let (uid, gid) = (
            nix::unistd::geteuid().as_raw(),
            nix::unistd::getegid().as_raw(),
        );
        UserBuilder::default().uid(uid).gid(gid).build()
    };
    match &plan.user {
        None => own(),
        Some(user) => UserBuilder::default()
            .uid(user.uid)
            .gid(user.gid)
            .additional_gids(user.groups.clone())
            .build(),
    }
}

fn rlimit(limit: &Rlimit) -> Result<PosixRlimit, OciSpecError> {
    let kind = match limit.kind {
        RlimitKind::As => PosixRlimitType::RlimitAs,
        RlimitKind::Core => PosixRlimitType::RlimitCore,
        RlimitKind::Cpu => PosixRlimitType::RlimitCpu,
        RlimitKind::Data => PosixRlimitType::RlimitData,
        RlimitKind::Fsize => PosixRlimitType::RlimitFsize,
        RlimitKind::Locks => PosixRlimitType::RlimitLocks,
        RlimitKind::Memlock => PosixRlimitType::RlimitMemlock,
        RlimitKind::Msgqueue => PosixRlimitType::RlimitMsgqueue,
        RlimitKind::Nice => PosixRlimitType::RlimitNice,
        RlimitKind::Nofile => PosixRlimitType::RlimitNofile,
        RlimitKind::Nproc => PosixRlimitType::RlimitNproc,
        RlimitKind::Rss => PosixRlimitType::RlimitRss,
        RlimitKind::Rtprio => PosixRlimitType::RlimitRtprio,
        RlimitKind::Rttime => PosixRlimitType::RlimitRttime,
        RlimitKind::Sigpending => PosixRlimitType::RlimitSigpending,
        RlimitKind::Stack => PosixRlimitType::RlimitStack,
    };
    PosixRlimitBuilder::default()
        .typ(kind)
        .soft(limit.soft.unwrap_or(u64::MAX))
        .hard(limit.hard.unwrap_or(u64::MAX))
        .build()
}

fn resources(
    known: Option<LinuxResources>,
    host: &Host,
    limits: &Limits,
) -> Result<LinuxResources, OciSpecError> {
    let mut resources = known.unwrap_or_default();
    let mut cpu = LinuxCpuBuilder::default().shares(shares(limits));
    if let Some(quota) = quota_us(limits) {
        cpu = cpu
            .quota(i64::try_from(quota).unwrap_or(i64::MAX))
            .period(CPU_PERIOD_US);
    }
    resources.set_cpu(Some(cpu.build()?));
    if let Some(bytes) = limits.memory_bytes {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let mut memory = LinuxMemoryBuilder::default().limit(bytes);
        if host.cgroups.counts_swap() {
            memory = memory.swap(bytes);
        }
        resources.set_memory(Some(memory.build()?));
    }
    resources.set_pids(Some(LinuxPidsBuilder::default().limit(PIDS_MAX).build()?));
    Ok(resources)
}

fn shm_bytes(launch: &Launch) -> Option<u64> {
    let linux = launch.container.as_ref()?.linux_info.as_ref()?;
    // The message counts in megabytes.
    Some(u64::from(linux.shm_size?) << 20)
}

fn resize_shm(mounts: &mut [Mount], bytes: u64) {
    let shm = mounts
        .iter_mut()
        .find(|mount| mount.destination() == Path::new("/dev/shm"));
    if let Some(mount) = shm {
        let mut options = mount.options().clone().unwrap_or_default();
        options.retain(|option| !option.starts_with("size="));
        options.push(format!("size={bytes}"));
        mount.set_options(Some(options));
    }
}

fn mount(
    kind: &str,
    source: &Path,
    destination: &Path,
    options: &[&str],
) -> Result<Mount, OciSpecError> {
    MountBuilder::default()
        .typ(kind)
        .source(source)
        .destination(destination)
        .options(
            options
                .iter()
                .map(|option| (*option).to_owned())
                .collect::<Vec<_>>(),
        )
        .build()
}

fn bind(source: &Path, destination: &Path, read_only: bool) -> Result<Mount, OciSpecError> {
    let way = if read_only { "ro" } else { "rw" };
    mount(
        "bind",
        source,
        destination,
        &["rbind", "nosuid", "nodev", way],
    )
}

/// An empty file system that hides what lies there.
fn empty(destination: &Path) -> Result<Mount, OciSpecError> {
    let options = ["nosuid", "nodev", "noexec", "mode=755", "size=64k"];
    mount("tmpfs", Path::new("tmpfs"), destination, &options)
}

/// What a container with the host's root gets beyond it, and what it must not see of it.
fn host_mounts(host: &Host) -> Result<Vec<Mount>, OciSpecError> {
    let mut mounts = Vec::new();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for point in root::system_mounts(&table) {
        mounts.push(bind(&point, &point, true)?);
    }
    let run = ["nosuid", "nodev", "mode=755", "size=16m"];
    mounts.push(mount("tmpfs", Path::new("tmpfs"), Path::new("/run"), &run)?);
    // Often it is a symbolic link into a file system that the overlay does not show.
    if let Ok(resolver) = fs::canonicalize("/etc/resolv.conf")
        && resolver.starts_with("/run")
    {
        mounts.push(bind(&resolver, &resolver, true)?);
    }
    for hidden in &host.hidden {
        mounts.push(empty(hidden)?);
    }
    Ok(mounts)
}

/// A container of the host's network finds names as the host does.
fn network_mounts() -> Result<Vec<Mount>, OciSpecError> {
    let files = NETWORK_FILES.iter().filter_map(|file| {
        let source = fs::canonicalize(file).ok()?;
        Some(bind(&source, Path::new(file), true))
    });
    files.collect()
}

#[cfg(test)]
mod tests {
    use mezzo_wire::v1;

    use super::*;
    use crate::containerizer::cgroup::Cgroups;
    use crate::containerizer::launch::testing::{common, launch};

    fn host() -> Host {
        Host {
            cgroups: Cgroups::V2 {
                root: "/sys/fs/cgroup".into(),
            },
            group_root: "mezzo/tag".to_owned(),
            hidden: vec!["/var/lib/mezzo".into()],
            socket_directory: "/var/lib/mezzo/run".into(),
            hostname: "host".to_owned(),
        }
    }

    fn json(change: impl FnOnce(&mut Launch, &mut Plan), lower: &Lower) -> serde_json::Value {
        let scratch = tempfile::tempdir().expect("a directory");
        let common = common(scratch.path());
        let mut launch = launch("echo hello");
        let site = common.site(&launch.place);
        let mut plan = common.plan(&launch, &site, "t".to_owned()).expect("a plan");
        plan.sandbox_inside = Some(SANDBOX_INSIDE.into());
        change(&mut launch, &mut plan);
        let spec = spec(&Spec::default(), &host(), &launch, &site, &plan, lower).expect("a spec");
        serde_json::to_value(spec).expect("is JSON")
    }

    fn mounts(json: &serde_json::Value) -> Vec<&str> {
        let mounts = json["mounts"].as_array().expect("mounts");
        mounts
            .iter()
            .filter_map(|mount| mount["destination"].as_str())
            .collect()
    }

    #[test]
    fn a_container_has_namespaces_of_its_own_and_no_new_privileges() {
        let json = json(|_, _| {}, &Lower::Host);
        let kinds: Vec<&str> = json["linux"]["namespaces"]
            .as_array()
            .expect("namespaces")
            .iter()
            .filter_map(|namespace| namespace["type"].as_str())
            .collect();
        for own in ["pid", "mount", "ipc", "uts"] {
            assert!(kinds.contains(&own), "{kinds:?}");
        }
        assert!(!kinds.contains(&"network"));
        assert_eq!(json["process"]["noNewPrivileges"], true);
        let capabilities = &json["process"]["capabilities"];
        assert!(
            capabilities["bounding"]
                .as_array()
                .is_some_and(|set| !set.is_empty())
        );
        assert!(capabilities["ambient"].is_null() && capabilities["inheritable"].is_null());
        assert_eq!(json["root"]["readonly"], false);
        assert_eq!(json["linux"]["cgroupsPath"], "/mezzo/tag/c1");
        assert!(
            json["linux"]["maskedPaths"]
                .as_array()
                .is_some_and(|paths| !paths.is_empty())
        );
    }

    #[test]
    fn limits_command_and_environment_are_those_of_the_launch() {
        let json = json(
            |launch, plan| {
                launch.limits.cpu_max_milli = Some(2_000);
                plan.user = Some(mezzo_executor::plan::User {
                    name: "nobody".to_owned(),
                    uid: 65_534,
                    gid: 65_533,
                    groups: vec![65_533, 7],
                });
                plan.rlimits = vec![Rlimit {
                    kind: RlimitKind::Nofile,
                    soft: Some(9),
                    hard: None,
                }];
            },
            &Lower::Host,
        );
        let resources = &json["linux"]["resources"];
        assert_eq!(resources["memory"]["limit"], 64 << 20);
        assert_eq!(resources["cpu"]["shares"], 512);
        assert_eq!(resources["cpu"]["quota"], 200_000);
        assert_eq!(resources["pids"]["limit"], PIDS_MAX);
        let process = &json["process"];
        assert_eq!(
            process["args"],
            serde_json::json!(["/bin/sh", "-c", "echo hello"])
        );
        assert_eq!(process["user"]["uid"], 65_534);
        assert_eq!(
            process["user"]["additionalGids"],
            serde_json::json!([65_533, 7])
        );
        assert_eq!(process["cwd"], SANDBOX_INSIDE);
        assert_eq!(process["rlimits"][0]["type"], "RLIMIT_NOFILE");
        assert_eq!(process["rlimits"][0]["hard"], u64::MAX);
        let environment = process["env"].as_array().expect("variables");
        assert!(environment.contains(&serde_json::json!("MEZZO_CONTAINER_ID=c1")));
        assert!(environment.contains(&serde_json::json!(format!(
            "MESOS_SANDBOX={SANDBOX_INSIDE}"
        ))));
    }

    #[test]
    fn the_host_is_hidden_where_it_must_be() {
        let plain = json(|_, _| {}, &Lower::Host);
        let points = mounts(&plain);
        for point in [
            "/var/lib/mezzo",
            "/run",
            SANDBOX_INSIDE,
            "/mnt/mesos/sandbox/.rootfs",
        ] {
            assert!(points.contains(&point), "{points:?}");
        }
        assert!(!points.contains(&"/var/lib/mezzo/run"));
        let custom = json(|launch, _| launch.custom = true, &Lower::Host);
        let points = mounts(&custom);
        let (hidden, door) = ("/var/lib/mezzo", "/var/lib/mezzo/run");
        let at = |point: &str| points.iter().position(|known| *known == point);
        assert!(
            at(hidden) < at(door),
            "the door is shown after everything was hidden: {points:?}"
        );
        let image = json(|_, _| {}, &Lower::Image("/images/x".into()));
        assert!(!mounts(&image).contains(&"/run"));
        assert!(mounts(&image).contains(&"/etc/hosts"));
    }

    #[test]
    fn what_a_container_asks_for_is_there() {
        let asked = v1::ContainerInfo {
            hostname: Some("inner".to_owned()),
            linux_info: Some(v1::LinuxInfo {
                shm_size: Some(8),
                ..Default::default()
            }),
            volumes: vec![v1::Volume {
                container_path: "/data".to_owned(),
                host_path: Some("/srv".to_owned()),
                mode: v1::volume::Mode::Ro as i32,
                ..Default::default()
            }],
            ..Default::default()
        };
        let json = json(|launch, _| launch.container = Some(asked), &Lower::Host);
        assert_eq!(json["hostname"], "inner");
        let mounts = json["mounts"].as_array().expect("mounts");
        let of = |point: &str| {
            mounts
                .iter()
                .find(|mount| mount["destination"] == point)
                .expect(point)
        };
        let options = of("/dev/shm")["options"].to_string();
        assert!(options.contains("size=8388608"), "{options}");
        assert!(of("/data")["options"].to_string().contains("\"ro\""));
        assert_eq!(of("/data")["source"], "/srv");
    }
}
