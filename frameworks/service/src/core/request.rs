//! What people and tools ask of the framework, and what they are answered: the calls of `/v2` as values.
//!
//! The doors ([`crate::api`]) turn HTTP into an [`ApiCall`] and an [`Answer`] or a [`Refusal`] into HTTP; the core
//! knows neither. A simulator makes the same values by hand, or from documents through [`crate::api::read`].

use std::collections::BTreeSet;
use std::sync::Arc;

use mezzo_model::ids::FrameworkId;

use super::app::{AppSpec, AppUpdate, Problem, Refused};
use super::app_id::AppId;
use super::deployment::{Action, ActionKind};
use super::health::CheckState;
use super::instance::{Instance, InstanceId};
use super::placement::reasons::OfferStats;
use super::version::Version;

/// What is to happen to the tasks of a kill besides their end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KillOptions {
    /// Lower the wanted number by as many.
    pub scale: bool,
    /// Forget the instances: replacements have new ids.
    pub wipe: bool,
    /// Override running deployments.
    pub force: bool,
}

/// Which apps a list is to hold. All conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppFilter {
    /// A part of the command, in lower case. An app without command never matches.
    pub cmd: Option<String>,
    /// A part of the id, in lower case.
    pub id: Option<String>,
    /// Conditions on labels.
    pub labels: Vec<LabelTest>,
}

/// One condition on a label, which must exist in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelTest {
    /// It exists.
    Exists(String),
    /// It has one of the values.
    In(String, BTreeSet<String>),
    /// It has none of the values.
    NotIn(String, BTreeSet<String>),
}

/// One call.
#[derive(Clone, Debug, PartialEq)]
pub enum ApiCall {
    /// The apps that a filter leaves.
    ListApps {
        /// The filter.
        filter: AppFilter,
        /// With their tasks.
        tasks: bool,
        /// With their last failure.
        last_failure: bool,
    },
    /// A new app.
    CreateApp {
        /// Its document.
        update: Box<AppUpdate>,
        /// Override running deployments.
        force: bool,
    },
    /// Several apps in one deployment.
    PutApps {
        /// Their documents, each with an id.
        updates: Vec<AppUpdate>,
        /// Lay the documents over existing definitions rather than over the defaults.
        partial: bool,
        /// Create those that do not exist.
        create: bool,
        /// Override running deployments.
        force: bool,
    },
    /// One app with all that is known.
    GetApp(AppId),
    /// Every app below a path, `/` for all.
    GetAppsBelow(String),
    /// One app changed, or created.
    PutApp {
        /// Which.
        id: AppId,
        /// The document; its own id is passed over.
        update: Box<AppUpdate>,
        /// Lay the document over the existing definition rather than over the defaults.
        partial: bool,
        /// Create it if it does not exist.
        create: bool,
        /// Override running deployments.
        force: bool,
    },
    /// The end of an app.
    DeleteApp {
        /// Which.
        id: AppId,
        /// Override running deployments.
        force: bool,
    },
    /// All instances replaced by new ones of the same definition.
    RestartApp {
        /// Which.
        id: AppId,
        /// Override running deployments.
        force: bool,
    },
    /// The tasks of an app.
    AppTasks(AppId),
    /// The end of an app's tasks, all or those on one host.
    KillAppTasks {
        /// Which app.
        id: AppId,
        /// Only on this host.
        host: Option<String>,
        /// What else.
        options: KillOptions,
    },
    /// The end of one task of an app.
    KillAppTask {
        /// Which app.
        id: AppId,
        /// The task's id; any incarnation of the instance will do.
        task: String,
        /// What else.
        options: KillOptions,
    },
    /// The tasks of all apps.
    Tasks {
        /// Only those that run.
        running: bool,
        /// Only those that do not run yet. Neither of both: all.
        staging: bool,
    },
    /// The end of tasks by their ids.
    KillTasks {
        /// The ids.
        ids: Vec<InstanceId>,
        /// What else.
        options: KillOptions,
    },
    /// The versions of an app, newest first.
    Versions(AppId),
    /// One version of an app.
    AppVersion {
        /// Which app.
        id: AppId,
        /// Which version.
        version: Version,
    },
    /// The deployments under way.
    Deployments,
    /// The end of a deployment: reverted, or with force left as it is.
    DeleteDeployment {
        /// Which.
        id: String,
        /// Leave it as it is.
        force: bool,
    },
    /// What waits for offers.
    Queue {
        /// With the offers that were turned away last.
        last_unused_offers: bool,
    },
    /// The end of an app's launch delay.
    ResetDelay(AppId),
    /// Who the framework is.
    Info,
}

/// A task as answers show it.
#[derive(Clone, Debug)]
pub struct TaskView {
    /// The instance as it was when the call was handled.
    pub instance: Instance,
    /// The state of each check that this framework or the executor does.
    pub checks: Vec<CheckState>,
    /// The app's service ports.
    pub service_ports: Vec<u16>,
}

/// How many tasks of an app are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskCounts {
    /// Launched and not running yet.
    pub staged: u32,
    /// Running.
    pub running: u32,
    /// Running, and their checks say so.
    pub healthy: u32,
    /// Running, and their checks deny it.
    pub unhealthy: u32,
}

/// The last failure of an app's tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskFailure {
    /// Which app.
    pub app: AppId,
    /// Where it ran.
    pub host: String,
    /// The executor's or master's words.
    pub message: String,
    /// The state that it ended in: `TASK_FAILED`.
    pub state: String,
    /// Which task.
    pub task: String,
    /// When.
    pub timestamp: Version,
    /// The version of the app.
    pub version: Version,
    /// On which agent.
    pub agent: Option<String>,
}

/// An app as answers show it.
#[derive(Clone, Debug)]
pub struct AppView {
    /// The definition.
    pub spec: Arc<AppSpec>,
    /// Its tasks by state.
    pub counts: TaskCounts,
    /// The deployment that holds it.
    pub deployments: Vec<String>,
    /// Its tasks, where asked for.
    pub tasks: Option<Vec<TaskView>>,
    /// Its last failure, where asked for and known.
    pub last_failure: Option<TaskFailure>,
}

/// A deployment as answers show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeploymentView {
    /// A UUID.
    pub id: String,
    /// When it was made.
    pub version: Version,
    /// What it changes.
    pub apps: Vec<AppId>,
    /// All steps.
    pub steps: Vec<Vec<Action>>,
    /// The step under way, from 1.
    pub current_step: usize,
    /// Its actions.
    pub current_actions: Vec<(ActionKind, AppId)>,
}

/// An app that waits for offers.
#[derive(Clone, Debug)]
pub struct QueueView {
    /// The definition.
    pub spec: Arc<AppSpec>,
    /// How many instances wait.
    pub count: u32,
    /// How long until they may be launched, in milliseconds; 0: now.
    pub delay_left_ms: u64,
    /// Since when it waits.
    pub since: Version,
    /// What became of the offers.
    pub stats: OfferStats,
    /// With the offers that were turned away last.
    pub last_unused_offers: bool,
}

/// The outcome of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployed {
    /// The deployment's id; made even when nothing had to be done.
    pub deployment: String,
    /// The version that the change got.
    pub version: Version,
}

/// What a call is answered.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Apps.
    Apps(Vec<AppView>),
    /// Apps below a path.
    AppsBelow(Vec<AppView>),
    /// One app.
    App(Box<AppView>),
    /// A new app.
    Created(Box<AppView>, Deployed),
    /// A change is on its way; names the app if it is new.
    Deployed(Deployed, Option<AppId>),
    /// Tasks. Without service ports where the old format has none.
    Tasks {
        /// The tasks.
        tasks: Vec<TaskView>,
        /// With the app's service ports.
        service_ports: bool,
    },
    /// One task that ends.
    Task(Box<TaskView>),
    /// Versions, newest first.
    Versions(Vec<Version>),
    /// One definition.
    Definition(Arc<AppSpec>),
    /// Deployments under way.
    Deployments(Vec<DeploymentView>),
    /// Taken, nothing to say.
    Accepted,
    /// Done, nothing to say.
    Done,
    /// What waits.
    Queue(Vec<QueueView>),
    /// The framework's id, once it has one.
    Info(Option<FrameworkId>),
}

/// Why a call is not carried out, by what the caller can do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The document cannot be taken.
    #[error(transparent)]
    Document(#[from] Refused),
    /// The request contradicts itself.
    #[error("{0}")]
    BadRequest(String),
    /// There is no such app.
    #[error("App '{0}' does not exist")]
    NoApp(String),
    /// There is no such version of the app.
    #[error("App '{app}' does not exist in version {version}")]
    NoVersion {
        /// Which app.
        app: AppId,
        /// Which version.
        version: Version,
    },
    /// There is no app below the path.
    #[error("Group '{0}' does not exist")]
    NoGroup(String),
    /// There is no such task.
    #[error("Task '{0}' does not exist")]
    NoTask(String),
    /// There is no such deployment.
    #[error("DeploymentPlan {0} does not exist")]
    NoDeployment(String),
    /// The app waits for nothing.
    #[error("Application {0} not found in tasks queue.")]
    NotQueued(AppId),
    /// The id is taken.
    #[error("An app with id [{0}] already exists.")]
    Exists(AppId),
    /// Deployments hold the app.
    #[error(
        "App is locked by one or more deployments. Override with the option '?force=true'. View details at \
         '/v2/deployments/<DEPLOYMENT_ID>'."
    )]
    Locked(Vec<String>),
    /// Too many deployments are under way.
    #[error(
        "Max number ({0}) of running deployments is achieved. Wait for existing deployments to complete or cancel one \
         using force=true parameter."
    )]
    TooManyDeployments(usize),
    /// No service port is left.
    #[error(
        "All ports in the range [{low}-{high}] are already in use; give the app's ports numbers of their own, or delete apps"
    )]
    NoServicePort {
        /// The first of the range.
        low: u16,
        /// The last.
        high: u16,
    },
    /// The store does not take what was asked for before.
    #[error(
        "the store does not answer, and too many changes wait for it already; try again when it is back"
    )]
    StoreBehind,
    /// This process does not lead (any more).
    #[error("this process does not lead; ask again")]
    NotLeading,
}

impl Refusal {
    /// One broken rule.
    pub fn rule(path: &str, words: impl Into<String>) -> Self {
        let problem = Problem {
            path: path.to_owned(),
            words: words.into(),
        };
        Self::Document(Refused::Rules(vec![problem]))
    }
}
