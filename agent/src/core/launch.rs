//! Taking a task: who runs it, in which container, and what is refused.
//!
//! A task with a command gets a container with our own executor; a task with an executor joins that executor's
//! container or gets a new one. What cannot run here ends at once with a terminal update, in words.

use std::sync::Arc;

use mezzo_model::TaskState;
use mezzo_model::ids::{AgentId, ContainerId, ExecutorId, FrameworkId, TaskId};
use mezzo_wire::link;
use mezzo_wire::v1;
use mezzo_wire::v1::task_status::Reason;

use super::io::{Launch, Output};
use super::limits::limits_of;
use super::record::{ContainerRecord, ExecutorKind, Record, TaskKey, TaskRecord, update_id};
use super::report::has_capability;
use super::state::{After, Executor, Phase, Queued, Stage};
use super::{Core, Cx};

/// Why a task ends before it began.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refusal {
    pub state: TaskState,
    pub reason: Reason,
    pub message: String,
}

impl Refusal {
    fn failed(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            state: TaskState::Failed,
            reason,
            message: message.into(),
        }
    }

    fn dropped(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            state: TaskState::Dropped,
            reason,
            message: message.into(),
        }
    }
}

/// What is known of a launch once it is read.
struct Asked {
    framework: FrameworkId,
    info: v1::FrameworkInfo,
    agent: AgentId,
    /// Of a group, or one alone.
    tasks: Vec<(TaskId, v1::TaskInfo)>,
    group: bool,
    executor: Option<v1::ExecutorInfo>,
}

/// Where tasks are to run.
enum Spot {
    /// In a container that is there.
    Known(ContainerId),
    /// In one that is yet to be made.
    New(ContainerRecord),
}

impl Core {
    pub(super) fn on_run_task(&mut self, cx: &mut Cx<'_>, run: link::RunTask) {
        let executor = run.task.executor.clone();
        self.take_tasks(cx, run.framework, executor, vec![run.task], false);
    }

    pub(super) fn on_run_group(&mut self, cx: &mut Cx<'_>, run: link::RunTaskGroup) {
        self.take_tasks(cx, run.framework, Some(run.executor), run.group.tasks, true);
    }

    fn take_tasks(
        &mut self,
        cx: &mut Cx<'_>,
        info: v1::FrameworkInfo,
        executor: Option<v1::ExecutorInfo>,
        tasks: Vec<v1::TaskInfo>,
        group: bool,
    ) {
        let id = info.id.as_ref().map(FrameworkId::from_wire);
        let (Some(Ok(framework)), Some(agent)) = (id, self.ledger.agent.clone()) else {
            return cx.warn("the master sent a task of a framework without a usable id; ignored");
        };
        let mut fresh = Vec::new();
        for task in tasks {
            let Ok(id) = TaskId::from_wire(&task.task_id) else {
                return cx.warn("the master sent a task without a usable id; ignored");
            };
            if self
                .ledger
                .tasks
                .contains_key(&(framework.clone(), id.clone()))
            {
                // Orders may be repeated; a task is started once.
                return cx.warn(format!(
                    "task {id} of {framework} is here already; not started again"
                ));
            }
            if fresh.iter().all(|(known, _)| *known != id) {
                fresh.push((id, task));
            }
        }
        if fresh.is_empty() {
            return;
        }
        self.counters.tasks_taken += fresh.len() as u64;
        let asked = Asked {
            framework,
            info,
            agent,
            tasks: fresh,
            group,
            executor,
        };
        match self.place(&asked) {
            Ok(spot) => self.write_down(cx, asked, spot),
            Err(refusal) => self.refuse(cx, asked, &refusal),
        }
    }

    /// Finds the container that the tasks run in.
    fn place(&mut self, asked: &Asked) -> Result<Spot, Refusal> {
        if let Stage::Leaving(_) = self.stage {
            return Err(Refusal::dropped(
                Reason::AgentDisconnected,
                "the agent is ending and takes no task",
            ));
        }
        match (&asked.executor, asked.tasks.as_slice()) {
            (Some(executor), _) => self.place_custom(asked, executor),
            (None, [(id, task)]) => {
                let Some(command) = &task.command else {
                    return Err(Refusal::failed(
                        Reason::TaskInvalid,
                        "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present",
                    ));
                };
                let executor = ExecutorId::parse(id.as_str());
                let executor = executor
                    .map_err(|error| Refusal::failed(Reason::TaskInvalid, error.to_string()))?;
                let user = self.user_of(command, asked)?;
                Ok(Spot::New(self.new_container(
                    asked,
                    executor,
                    user,
                    ExecutorKind::Command,
                )))
            }
            (None, _) => Err(Refusal::failed(
                Reason::TaskGroupInvalid,
                "a group of tasks needs an executor",
            )),
        }
    }

    fn place_custom(
        &mut self,
        asked: &Asked,
        executor: &v1::ExecutorInfo,
    ) -> Result<Spot, Refusal> {
        let id = ExecutorId::from_wire(&executor.executor_id)
            .map_err(|error| Refusal::failed(Reason::TaskInvalid, error.to_string()))?;
        if executor.r#type() == v1::executor_info::Type::Default {
            return Err(Refusal::failed(
                Reason::ContainerLaunchFailed,
                "this agent has no built-in executor of type DEFAULT; give the executor type CUSTOM and a command",
            ));
        }
        let name = (asked.framework.clone(), id.clone());
        if let Some(container) = self.ledger.executors.get(&name) {
            let ends = self.executors.get(container).is_none_or(|executor| {
                matches!(executor.phase, Phase::Stopping | Phase::Destroying)
            });
            if ends {
                return Err(Refusal::dropped(
                    Reason::ExecutorTerminated,
                    format!("executor {id} is ending"),
                ));
            }
            return Ok(Spot::Known(container.clone()));
        }
        let Some(command) = &executor.command else {
            return Err(Refusal::failed(
                Reason::TaskInvalid,
                "an executor of type CUSTOM needs a command",
            ));
        };
        let user = self.user_of(command, asked)?;
        let mut info = executor.clone();
        info.framework_id = Some(asked.framework.to_wire());
        let kind = ExecutorKind::Custom(Box::new(info));
        Ok(Spot::New(self.new_container(asked, id, user, kind)))
    }

    /// The command's user, else the framework's, else the default one.
    fn user_of(&self, command: &v1::CommandInfo, asked: &Asked) -> Result<Arc<str>, Refusal> {
        let named = command
            .user
            .as_deref()
            .filter(|user| !user.is_empty())
            .or(Some(asked.info.user.as_str()).filter(|user| !user.is_empty()));
        let user = match named {
            Some(user) => user,
            None if self.config.switch_user => &self.config.default_user,
            None => &self.config.user,
        };
        if !self.config.switch_user && user != self.config.user {
            return Err(Refusal::failed(
                Reason::ContainerLaunchFailed,
                format!(
                    "this agent runs as '{ours}' and cannot run a task as '{user}'; ask for user '{ours}', or for none, \
                     or run the agent as root",
                    ours = self.config.user
                ),
            ));
        }
        Ok(Arc::from(user))
    }

    fn new_container(
        &mut self,
        asked: &Asked,
        executor: ExecutorId,
        user: Arc<str>,
        kind: ExecutorKind,
    ) -> ContainerRecord {
        ContainerRecord {
            id: self.new_container_id(),
            framework: asked.framework.clone(),
            executor,
            agent: asked.agent.clone(),
            user,
            kind,
        }
    }

    fn new_container_id(&mut self) -> ContainerId {
        loop {
            // A UUID keeps the rule for ids, so this ends at once.
            if let Ok(id) = ContainerId::parse(&self.ids.uuid()) {
                return id;
            }
        }
    }

    /// Writes the tasks down, and the container if it is new; the rest follows when they are written.
    fn write_down(&mut self, cx: &mut Cx<'_>, asked: Asked, spot: Spot) {
        let mut records = self.framework_record(&asked.framework, asked.info);
        let mut after = Vec::new();
        let id = match spot {
            Spot::Known(id) => id,
            Spot::New(record) => {
                let id = record.id.clone();
                records.push(Record::Container(Arc::new(record)));
                self.executors.insert(id.clone(), Executor::new());
                after.push(After::Launch(id.clone()));
                id
            }
        };
        let ids: Vec<TaskId> = asked.tasks.iter().map(|(id, _)| id.clone()).collect();
        let Some(first) = ids.first().cloned() else {
            return;
        };
        let group = asked.group.then(|| Arc::from(self.ids.uuid()));
        for (task, info) in asked.tasks {
            records.push(Record::Task(Arc::new(TaskRecord {
                framework: asked.framework.clone(),
                id: task,
                container: Some(id.clone()),
                group: group.clone(),
                info,
            })));
        }
        if let Some(executor) = self.executors.get_mut(&id) {
            executor.queue.push_back(Queued {
                tasks: ids,
                group: asked.group,
                logged: false,
            });
        }
        after.push(After::Queue(id, first));
        self.log(cx, records, false, after);
    }

    fn framework_record(&self, framework: &FrameworkId, info: v1::FrameworkInfo) -> Vec<Record> {
        match self.ledger.frameworks.get(framework) {
            Some(known) if *known.info == info => Vec::new(),
            _ => vec![Record::Framework(Arc::new(info))],
        }
    }

    /// Takes tasks only to say that they have ended.
    fn refuse(&mut self, cx: &mut Cx<'_>, asked: Asked, refusal: &Refusal) {
        let mut records = self.framework_record(&asked.framework, asked.info.clone());
        let mut after = Vec::new();
        let aware = has_capability(
            &asked.info,
            v1::framework_info::capability::Type::PartitionAware,
        );
        for (id, info) in asked.tasks {
            let key = (asked.framework.clone(), id.clone());
            let executor = asked
                .executor
                .as_ref()
                .map(|executor| executor.executor_id.clone());
            self.end_unstarted(
                &mut records,
                &mut after,
                &key,
                info,
                executor,
                refusal,
                aware,
                cx,
            );
        }
        self.log(cx, records, true, after);
    }

    /// Answers for a task that is not here: it has ended, whatever it was.
    pub(super) fn answer_unknown(&mut self, cx: &mut Cx<'_>, task: &TaskKey, refusal: &Refusal) {
        let Some(agent) = self.ledger.agent.clone() else {
            return;
        };
        let info = v1::TaskInfo {
            task_id: task.1.to_wire(),
            agent_id: agent.to_wire(),
            ..Default::default()
        };
        let aware = self.ledger.frameworks.get(&task.0).is_none_or(|entry| {
            has_capability(
                &entry.info,
                v1::framework_info::capability::Type::PartitionAware,
            )
        });
        let (mut records, mut after) = (Vec::new(), Vec::new());
        self.end_unstarted(
            &mut records,
            &mut after,
            task,
            info,
            None,
            refusal,
            aware,
            cx,
        );
        self.log(cx, records, true, after);
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one place that makes both records of a task"
    )]
    fn end_unstarted(
        &mut self,
        records: &mut Vec<Record>,
        after: &mut Vec<After>,
        task: &TaskKey,
        info: v1::TaskInfo,
        executor: Option<v1::ExecutorId>,
        refusal: &Refusal,
        aware: bool,
        cx: &mut Cx<'_>,
    ) {
        let state = told_state(refusal.state, aware);
        let mut status = self.agent_status(
            cx.now.wall,
            &task.1,
            state,
            refusal.reason,
            &refusal.message,
        );
        status.executor_id = executor;
        let uuid = update_id(&status);
        records.push(Record::Task(Arc::new(TaskRecord {
            framework: task.0.clone(),
            id: task.1.clone(),
            container: None,
            group: None,
            info,
        })));
        records.push(Record::Update {
            task: task.clone(),
            status: Arc::new(status),
        });
        self.streams
            .insert(task.clone(), super::state::Stream::default());
        after.extend(uuid.map(|uuid| After::Updated(task.clone(), uuid, None)));
        self.count_end(state);
    }

    /// The intent is written: make the container.
    pub(super) fn start_container(&mut self, cx: &mut Cx<'_>, container: &ContainerId) {
        let Some(entry) = self.ledger.containers.get(container) else {
            return;
        };
        match self.executors.get(container).map(|executor| executor.phase) {
            Some(Phase::Intended) => {}
            // It was given up while the intent was being written; `Destroy` is out already.
            _ => return,
        }
        let record = entry.record.clone();
        let Some(launch) = self.launch_of(&record) else {
            return;
        };
        if let Some(executor) = self.executors.get_mut(container) {
            executor.phase = Phase::Starting;
            executor.limits = launch.limits;
        }
        self.counters.containers_launched += 1;
        cx.push(Output::Launch(Box::new(launch)));
    }

    fn launch_of(&self, record: &ContainerRecord) -> Option<Launch> {
        let framework = self.ledger.frameworks.get(&record.framework)?;
        let entry = self.ledger.containers.get(&record.id)?;
        let tasks: Vec<&v1::TaskInfo> = entry
            .tasks
            .iter()
            .filter_map(|task| {
                let key = (record.framework.clone(), task.clone());
                self.ledger.tasks.get(&key).map(|entry| &entry.record.info)
            })
            .collect();
        let (command, container, own, grace) = match &record.kind {
            ExecutorKind::Command => {
                let task = tasks.first()?;
                (task.command.clone()?, task.container.clone(), &[][..], None)
            }
            ExecutorKind::Custom(info) => (
                info.command.clone()?,
                info.container.clone(),
                info.resources.as_slice(),
                info.shutdown_grace_period,
            ),
        };
        let has_volume = |resources: &[v1::Resource]| {
            resources.iter().any(|resource| {
                resource
                    .disk
                    .as_ref()
                    .is_some_and(|disk| disk.persistence.is_some())
            })
        };
        Some(Launch {
            place: record.place(),
            user: record.user.clone(),
            custom: record.is_custom(),
            command,
            container,
            volumes_asked: has_volume(own) || tasks.iter().any(|task| has_volume(&task.resources)),
            limits: limits_of(own, &tasks),
            checkpoint: !record.is_custom() || framework.info.checkpoint(),
            shutdown_grace: grace.map_or(self.config.shutdown_grace, |grace| {
                super::kill::millis_of(&grace)
            }),
        })
    }
}

/// Frameworks that do not know about partitions are told `TASK_LOST` for everything of that kind.
pub(super) fn told_state(state: TaskState, partition_aware: bool) -> TaskState {
    match state {
        TaskState::Dropped | TaskState::Gone | TaskState::GoneByOperator if !partition_aware => {
            TaskState::Lost
        }
        _ => state,
    }
}

impl Executor {
    /// An executor whose launch is being written.
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Intended,
            conn: None,
            subscribed: false,
            registered: false,
            queue: std::collections::VecDeque::new(),
            limbo: std::collections::BTreeSet::new(),
            ending: None,
            limits: super::io::Limits::default(),
        }
    }
}
