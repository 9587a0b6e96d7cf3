//! Containers while they live: made on threads that may block, watched through a pidfd, cleaned after.
//!
//! Invariant: of each container one of these is told to the core, once: it was launched and has ended, it could not be
//! launched, or (destroyed before it was there) it has ended. What a container leaves is cleaned before its end is
//! told.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mezzo_executor::plan::{Containerizer as Contained, Ended, EndedHow, Plan};
use mezzo_model::ids::ContainerId;
use rustix::process::{Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_send_signal, waitid};
use tokio::io::unix::AsyncFd;
use tokio::sync::Semaphore;

use super::door::Door;
use super::inbox::Inbox;
use super::token::Tokens;
use crate::containerizer::launch::{Common, plan_path};
use crate::containerizer::oci::remove_tree;
use crate::containerizer::{Containerizer, LaunchError, Remains, Site, procs, spawn};
use crate::core::{ContainerEnd, Input, Launch, Limits, PayloadEnd, Place, Process};
use crate::sys;

/// The containerizers of an agent.
#[derive(Debug)]
pub(crate) struct Kinds {
    /// For new containers.
    pub chosen: Arc<dyn Containerizer>,
    /// For containers of plain processes, of this run of the agent or an earlier one.
    pub process: Arc<dyn Containerizer>,
    /// For containers of an OCI runtime, if this agent may clean after them.
    pub oci: Option<Arc<dyn Containerizer>>,
}

/// All containers of an agent.
pub(crate) struct Containers {
    pub common: Common,
    pub executor: PathBuf,
    pub kinds: Kinds,
    tokens: Tokens,
    inbox: Inbox,
    door: Arc<Door>,
    /// Containers that are being made at once: more would only wait for the same processors.
    making: Arc<Semaphore>,
    slots: Mutex<BTreeMap<ContainerId, Slot>>,
}

/// What is known of a container that has not ended.
#[derive(Default)]
struct Slot {
    /// It is to end; whoever takes the next step ends it.
    destroyed: bool,
    /// Its executor, once there is one.
    pidfd: Option<Arc<AsyncFd<OwnedFd>>>,
}

impl Containers {
    pub fn new(
        common: Common,
        executor: PathBuf,
        kinds: Kinds,
        tokens: Tokens,
        inbox: Inbox,
        door: Arc<Door>,
    ) -> Arc<Self> {
        let processors = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Arc::new(Self {
            common,
            executor,
            kinds,
            tokens,
            inbox,
            door,
            making: Arc::new(Semaphore::new(2 * processors)),
            slots: Mutex::default(),
        })
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a container and starts its executor.
    pub fn launch(self: &Arc<Self>, launch: Launch) {
        let container = launch.place.container.clone();
        self.slots().insert(container, Slot::default());
        tokio::spawn(self.clone().make(launch));
    }

    async fn make(self: Arc<Self>, launch: Launch) {
        let site = launch.place.clone();
        let container = site.container.clone();
        let place = self.making.clone().acquire_owned().await;
        if self.is_destroyed(&container) {
            drop(place);
            return self.finish(container, None).await;
        }
        let containers = self.clone();
        let made = tokio::task::spawn_blocking(move || containers.make_blocking(&launch)).await;
        drop(place);
        let spawned = match made {
            Ok(Ok(spawned)) => spawned,
            Ok(Err(error)) => return self.give_up(container, error.to_string()).await,
            Err(_) => {
                return self
                    .give_up(container, "the agent is ending".to_owned())
                    .await;
            }
        };
        let process = spawned.process;
        let pidfd = match sys::watch(spawned.pidfd) {
            Ok(pidfd) => Arc::new(pidfd),
            Err(error) => {
                let words = format!("its executor cannot be watched: {error}");
                return self.give_up(container, words).await;
            }
        };
        self.hold(&container, &pidfd);
        // The core is told first, so that its end cannot come before its start.
        let launched = Input::Launched {
            container: container.clone(),
            process,
        };
        if self.inbox.put(launched).await.is_ok() {
            self.hold_together(site, process, pidfd.clone());
            self.watch(container, pidfd).await;
        }
    }

    /// Remembers a container's executor, and ends it if that was wished meanwhile.
    fn hold(&self, container: &ContainerId, pidfd: &Arc<AsyncFd<OwnedFd>>) {
        let mut slots = self.slots();
        let slot = slots.entry(container.clone()).or_default();
        slot.pidfd = Some(pidfd.clone());
        if slot.destroyed {
            kill(pidfd);
        }
    }

    fn is_destroyed(&self, container: &ContainerId) -> bool {
        self.slots()
            .get(container)
            .is_some_and(|slot| slot.destroyed)
    }

    fn make_blocking(&self, launch: &Launch) -> Result<spawn::Spawned, LaunchError> {
        let site = self.common.site(&launch.place);
        let token = self.tokens.token(site.container.as_str());
        let mut plan = self.common.plan(launch, &site, token)?;
        self.common.make_directories(launch, &site, &plan)?;
        self.kinds.chosen.prepare(launch, &site, &mut plan)?;
        let path = plan_path(&site);
        plan.store(&path)?;
        let spawned = spawn::spawn(&self.executor, &path, site.container.as_str())
            .map_err(LaunchError::io("start", &self.executor))?;
        Ok(spawned)
    }

    /// Has the executor and all that comes of it held together, so that nothing escapes its end. The kernel may take
    /// tens of milliseconds for that, so it is done while the executor is already at work.
    fn hold_together(
        self: &Arc<Self>,
        place: Place,
        process: Process,
        pidfd: Arc<AsyncFd<OwnedFd>>,
    ) {
        let containers = self.clone();
        tokio::task::spawn_blocking(move || {
            let site = containers.common.site(&place);
            let held = containers.kinds.chosen.hold(&site, process.pid);
            let lives = procs::start_time(process.pid) == Some(process.start);
            if let Err(error) = held
                && lives
            {
                tracing::error!(container = %site.container, %error, "an executor that cannot be held is ended");
                kill(&pidfd);
            }
        });
    }

    /// Takes back what was made of a container that cannot be launched.
    async fn give_up(self: &Arc<Self>, container: ContainerId, message: String) {
        let (containers, id) = (self.clone(), container.clone());
        let _ = tokio::task::spawn_blocking(move || containers.clean(&id, false)).await;
        let destroyed = self
            .slots()
            .remove(&container)
            .is_some_and(|slot| slot.destroyed);
        let input = match destroyed {
            true => Input::ContainerEnded {
                container,
                end: ContainerEnd::default(),
            },
            false => Input::LaunchFailed { container, message },
        };
        let _ = self.inbox.put(input).await;
    }

    /// Waits for the end of an executor, cleans after it, and tells the core.
    async fn watch(self: Arc<Self>, container: ContainerId, pidfd: Arc<AsyncFd<OwnedFd>>) {
        // A pidfd is readable when its process has ended. It cannot fail while the runtime lives.
        let ended = tokio::select! {
            biased;
            // Nobody is left to be told; the next run of the agent cleans and tells.
            () = self.inbox.closed() => return,
            ended = pidfd.readable() => ended.map(|_| ()),
        };
        if ended.is_err() {
            return;
        }
        let status = reap(pidfd.get_ref());
        self.finish(container, status).await;
    }

    async fn finish(self: Arc<Self>, container: ContainerId, status: Option<i32>) {
        let (containers, id) = (self.clone(), container.clone());
        let cleaned =
            tokio::task::spawn_blocking(move || containers.clean(&id, status == Some(0))).await;
        let (ended, remains) = cleaned.unwrap_or_default();
        self.door.heard_all(&container).await;
        self.slots().remove(&container);
        let end = end_of(status, ended, remains);
        let _ = self
            .inbox
            .put(Input::ContainerEnded { container, end })
            .await;
    }

    /// Ends what is left of a container and removes all but its sandbox. `ordered` if its executor left by itself.
    fn clean(&self, container: &ContainerId, ordered: bool) -> (Option<Ended>, Remains) {
        let directory = self.common.layout.container(container);
        let plan = Plan::load(&directory.join(crate::containerizer::launch::PLAN_FILE));
        let sandbox = plan
            .as_ref()
            .map_or_else(|_| PathBuf::new(), |plan| plan.sandbox.clone());
        let site = Site {
            container: container.clone(),
            directory,
            sandbox,
        };
        let ended = Ended::load(&site.directory).unwrap_or_else(|error| {
            tracing::warn!(%container, %error, "how a payload ended cannot be read");
            None
        });
        let sure = ordered && ended.is_some();
        if !sure && let Some(words) = spawn::last_words(&site.directory) {
            tracing::warn!(%container, "its executor's last words: {words}");
        }
        let kind = match plan.as_ref().map(|plan| &plan.containerizer) {
            Ok(Contained::Process) => &self.kinds.process,
            Ok(Contained::Oci(_)) => self.kinds.oci.as_ref().unwrap_or(&self.kinds.process),
            // Nothing was written yet, or it cannot be read: the one that would have been used now.
            Err(_) => &self.kinds.chosen,
        };
        let remains = kind.clean(&site, plan.as_ref().ok(), sure);
        if remains.left > 0 {
            tracing::error!(%container, left = remains.left, "processes of an ended container could not be ended");
        }
        remove_tree(&site.directory);
        (ended, remains)
    }

    /// Ends a container in whatever state it is.
    pub fn destroy(self: &Arc<Self>, container: ContainerId) {
        let mut slots = self.slots();
        match slots.get_mut(&container) {
            Some(slot) => {
                slot.destroyed = true;
                if let Some(pidfd) = &slot.pidfd {
                    kill(pidfd);
                }
            }
            // Nobody watches it: there may be leftovers, and nothing else.
            None => {
                slots.insert(
                    container.clone(),
                    Slot {
                        destroyed: true,
                        pidfd: None,
                    },
                );
                tokio::spawn(self.clone().finish(container, None));
            }
        }
    }

    /// Changes the limits of a container.
    pub fn resize(self: &Arc<Self>, container: ContainerId, limits: Limits) {
        let containers = self.clone();
        tokio::task::spawn_blocking(move || {
            let directory = containers.common.layout.container(&container);
            let site = Site {
                container,
                directory,
                sandbox: PathBuf::new(),
            };
            if let Err(error) = containers.kinds.chosen.resize(&site, &limits) {
                tracing::warn!(container = %site.container, %error, "limits could not be changed");
            }
        });
    }

    /// Looks which executors of an earlier run live, and watches those.
    pub fn probe(self: &Arc<Self>, wanted: Vec<(Place, Option<Process>)>) {
        let containers = self.clone();
        tokio::spawn(async move {
            let found = tokio::task::spawn_blocking(move || look_for(wanted)).await;
            for (place, process, pidfd) in found.unwrap_or_default() {
                let container = place.container.clone();
                let watched = pidfd.and_then(|fd| sys::watch(fd).ok());
                if let (Some(process), Some(pidfd)) = (process, watched.map(Arc::new)) {
                    containers.hold(&container, &pidfd);
                    containers.hold_together(place, process, pidfd.clone());
                    let probed = Input::Probed {
                        container: container.clone(),
                        alive: Some(process),
                    };
                    let _ = containers.inbox.put(probed).await;
                    tokio::spawn(containers.clone().watch(container, pidfd));
                } else {
                    let _ = containers
                        .inbox
                        .put(Input::Probed {
                            container,
                            alive: None,
                        })
                        .await;
                }
            }
        });
    }

    /// Removes a sandbox.
    pub fn remove_sandbox(self: &Arc<Self>, place: Place) {
        let containers = self.clone();
        tokio::spawn(async move {
            let (layout, container) = (containers.common.layout.clone(), place.container.clone());
            let removed = tokio::task::spawn_blocking(move || layout.remove_sandbox(&place)).await;
            if let Ok(Err(error)) = removed {
                // It is forgotten all the same: trying for ever would not make it go.
                tracing::warn!(%container, %error, "a sandbox could not be removed");
            }
            let _ = containers
                .inbox
                .put(Input::SandboxRemoved { container })
                .await;
        });
    }

    /// Cleans after containers that the log does not know: a crash came between making and writing, or the log's end
    /// was lost with a power cut. Blocks.
    pub fn sweep(&self, known: &[ContainerId], groups: &[String]) {
        let directories = fs::read_dir(self.common.layout.containers());
        let names = directories
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .chain(groups.iter().cloned());
        let mut names: Vec<String> = names.collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let Ok(container) = ContainerId::parse(&name) else {
                continue;
            };
            if known.contains(&container) {
                continue;
            }
            tracing::info!(%container, "cleaning after a container that the log does not know");
            let executors = procs::executors();
            if let Some(process) = executors.get(&name) {
                let _ = procs::kill_quietly(process.pid);
            }
            self.clean(&container, false);
        }
    }
}

/// For each container its executor's process, if it lives, held by a pidfd.
fn look_for(
    wanted: Vec<(Place, Option<Process>)>,
) -> Vec<(Place, Option<Process>, Option<OwnedFd>)> {
    // The scan is only needed for those whose start did not come to be written.
    let needs_scan = wanted.iter().any(|(_, known)| known.is_none());
    let scanned = if needs_scan {
        procs::executors()
    } else {
        BTreeMap::new()
    };
    wanted
        .into_iter()
        .map(|(place, known)| {
            let process = known.or_else(|| scanned.get(place.container.as_str()).copied());
            let pidfd = process.and_then(spawn::hold);
            (place, process, pidfd)
        })
        .collect()
}

fn kill(pidfd: &AsyncFd<OwnedFd>) {
    // One that has ended already needs no killing.
    let _ = pidfd_send_signal(pidfd.get_ref(), Signal::KILL);
}

/// The status of an executor that has ended, as wait(2) gives it; `None` if it was not started by this process.
fn reap(pidfd: &OwnedFd) -> Option<i32> {
    let status: WaitIdStatus =
        waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).ok()??;
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Some(code << 8),
        (None, Some(signal)) => Some(signal),
        (None, None) => None,
    }
}

fn end_of(status: Option<i32>, ended: Option<Ended>, remains: Remains) -> ContainerEnd {
    let payload_status = ended.as_ref().and_then(|ended| match ended.how {
        EndedHow::NotStarted => None,
        EndedHow::Exited(code) => Some((code & 0xff) << 8),
        EndedHow::Signaled(signal) => Some(signal),
    });
    let out_of_memory = match &ended {
        Some(ended) if ended.out_of_memory => Some(ended.message.clone()),
        _ => remains.out_of_memory,
    };
    ContainerEnd {
        status: payload_status.or(status),
        payload: ended.map(|ended| PayloadEnd {
            success: matches!(ended.how, EndedHow::Exited(0)),
            killed: ended.killed,
            message: ended.message,
        }),
        out_of_memory,
    }
}

impl std::fmt::Debug for Containers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Containers")
            .field("kinds", &self.kinds)
            .finish_non_exhaustive()
    }
}
