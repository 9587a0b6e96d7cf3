//! A bare v1 scheduler over gRPC, for benchmarks and for tests of the door itself.
//!
//! It has no opinion: no retry, no automatic acknowledgement. Frameworks use the SDK's driver instead.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use mezzo_wire::v1::scheduler::scheduler_client::SchedulerClient;
use mezzo_wire::v1::scheduler::{Call, Event, call, event};
use mezzo_wire::v1::{self, TaskState};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

const STREAM_ID: &str = "mesos-stream-id";

/// How long a client waits for an event before it says that none came.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A subscribed scheduler.
#[derive(Debug)]
pub struct Client {
    /// The id that the master gave.
    pub framework_id: v1::FrameworkId,
    client: SchedulerClient<Channel>,
    stream_id: MetadataValue<Ascii>,
    events: Streaming<Event>,
}

/// A framework of this name and role, with a failover timeout of a minute and the capabilities that all modern ones
/// have.
pub fn framework(name: &str, role: &str) -> v1::FrameworkInfo {
    use v1::framework_info::{Capability, capability::Type};
    let capability = |kind: Type| Capability {
        r#type: Some(kind as i32),
    };
    v1::FrameworkInfo {
        user: whoami(),
        name: name.to_owned(),
        failover_timeout: Some(60.0),
        checkpoint: Some(true),
        roles: vec![role.to_owned()],
        capabilities: vec![
            capability(Type::MultiRole),
            capability(Type::PartitionAware),
            capability(Type::ReservationRefinement),
        ],
        ..v1::FrameworkInfo::default()
    }
}

/// The user that this process runs as, by name.
pub fn whoami() -> String {
    nix::unistd::User::from_uid(nix::unistd::getuid())
        .ok()
        .flatten()
        .map_or_else(|| "root".to_owned(), |user| user.name)
}

/// A connection to `host:port`.
///
/// # Errors
/// If nobody answers there.
pub async fn channel(address: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .tcp_nodelay(true)
        .connect_timeout(Duration::from_secs(5));
    endpoint
        .connect()
        .await
        .with_context(|| format!("dialling {address}"))
}

impl Client {
    /// Subscribes and waits for SUBSCRIBED.
    ///
    /// # Errors
    /// The refusal, if there is one.
    pub async fn subscribe(address: &str, framework: v1::FrameworkInfo) -> anyhow::Result<Self> {
        let mut client = SchedulerClient::new(channel(address).await?)
            .max_decoding_message_size(64 * 1024 * 1024);
        let call = Call {
            framework_id: framework.id.clone(),
            r#type: Some(call::Type::Subscribe as i32),
            subscribe: Some(call::Subscribe {
                framework_info: framework,
                ..call::Subscribe::default()
            }),
            ..Call::default()
        };
        let answer = client.subscribe(call).await?;
        let stream_id = answer
            .metadata()
            .get(STREAM_ID)
            .context("the answer has no stream id")?
            .clone();
        let mut events = answer.into_inner();
        loop {
            let event = events
                .message()
                .await?
                .context("the stream ended at once")?;
            if let Some(subscribed) = event.subscribed {
                let framework_id = subscribed.framework_id;
                return Ok(Self {
                    framework_id,
                    client,
                    stream_id,
                    events,
                });
            }
            if let Some(error) = event.error {
                bail!("refused: {}", error.message);
            }
        }
    }

    /// Sends a call; framework id and stream id are filled in.
    ///
    /// # Errors
    /// The status, as the door gave it.
    pub async fn submit(&mut self, mut call: Call) -> Result<(), Status> {
        call.framework_id
            .get_or_insert_with(|| self.framework_id.clone());
        let mut request = Request::new(call);
        request
            .metadata_mut()
            .insert(STREAM_ID, self.stream_id.clone());
        self.client.submit(request).await.map(drop)
    }

    /// The next event.
    ///
    /// # Errors
    /// If the stream ended, or nothing came for [`PATIENCE`].
    pub async fn event(&mut self) -> anyhow::Result<Event> {
        let next = tokio::time::timeout(PATIENCE, self.events.message()).await;
        next.context("no event came")??.context("the stream ended")
    }

    /// Offers, as soon as there are any; other events are dropped, updates acknowledged.
    ///
    /// # Errors
    /// As [`Client::event`].
    pub async fn offers(&mut self) -> anyhow::Result<Vec<v1::Offer>> {
        loop {
            let event = self.event().await?;
            if let Some(offers) = event.offers {
                return Ok(offers.offers);
            }
            if let Some(update) = event.update {
                self.acknowledge(&update.status).await?;
            }
        }
    }

    /// The next update, acknowledged.
    ///
    /// # Errors
    /// As [`Client::event`].
    pub async fn update(&mut self) -> anyhow::Result<v1::TaskStatus> {
        loop {
            let event = self.event().await?;
            if let Some(update) = event.update {
                self.acknowledge(&update.status).await?;
                return Ok(update.status);
            }
        }
    }

    /// Waits until this task is in this state.
    ///
    /// # Errors
    /// If it ends in another one.
    pub async fn until(&mut self, task: &str, state: TaskState) -> anyhow::Result<Instant> {
        loop {
            let status = self.update().await?;
            if status.task_id.value != task {
                continue;
            }
            let seen = Instant::now();
            if status.state == state as i32 {
                return Ok(seen);
            }
            let name = TaskState::try_from(status.state)?;
            if crate::client::is_terminal(status.state) {
                bail!("{task} is {}: {}", name.as_str_name(), status.message());
            }
        }
    }

    /// Launches tasks from these offers of one agent in one ACCEPT.
    ///
    /// # Errors
    /// The status, as the door gave it.
    pub async fn launch(
        &mut self,
        offers: &[v1::Offer],
        tasks: Vec<v1::TaskInfo>,
        refuse_seconds: f64,
    ) -> Result<(), Status> {
        let operation = v1::offer::Operation {
            r#type: Some(v1::offer::operation::Type::Launch as i32),
            launch: Some(v1::offer::operation::Launch { task_infos: tasks }),
            ..v1::offer::Operation::default()
        };
        self.submit(Call {
            r#type: Some(call::Type::Accept as i32),
            accept: Some(call::Accept {
                offer_ids: offers.iter().map(|offer| offer.id.clone()).collect(),
                operations: vec![operation],
                filters: Some(v1::Filters {
                    refuse_seconds: Some(refuse_seconds),
                }),
            }),
            ..Call::default()
        })
        .await
    }

    /// Declines offers.
    ///
    /// # Errors
    /// The status, as the door gave it.
    pub async fn decline(
        &mut self,
        offers: &[v1::Offer],
        refuse_seconds: f64,
    ) -> Result<(), Status> {
        self.submit(Call {
            r#type: Some(call::Type::Decline as i32),
            decline: Some(call::Decline {
                offer_ids: offers.iter().map(|offer| offer.id.clone()).collect(),
                filters: Some(v1::Filters {
                    refuse_seconds: Some(refuse_seconds),
                }),
            }),
            ..Call::default()
        })
        .await
    }

    /// Asks for offers again, whatever was declined.
    ///
    /// # Errors
    /// The status, as the door gave it.
    pub async fn revive(&mut self) -> Result<(), Status> {
        self.submit(Call {
            r#type: Some(call::Type::Revive as i32),
            ..Call::default()
        })
        .await
    }

    /// Ends the framework and all its tasks.
    ///
    /// # Errors
    /// The status, as the door gave it.
    pub async fn teardown(&mut self) -> Result<(), Status> {
        self.submit(Call {
            r#type: Some(call::Type::Teardown as i32),
            ..Call::default()
        })
        .await
    }

    /// Asks for the end of a task.
    ///
    /// # Errors
    /// The status, as the door gave it.
    pub async fn kill(&mut self, task: &str) -> Result<(), Status> {
        self.submit(Call {
            r#type: Some(call::Type::Kill as i32),
            kill: Some(call::Kill {
                task_id: v1::TaskId {
                    value: task.to_owned(),
                },
                ..call::Kill::default()
            }),
            ..Call::default()
        })
        .await
    }

    /// Acknowledges an update that asks for it.
    ///
    /// # Errors
    /// The status, as the door gave it.
    pub async fn acknowledge(&mut self, status: &v1::TaskStatus) -> Result<(), Status> {
        let (Some(uuid), Some(agent_id)) = (status.uuid.clone(), status.agent_id.clone()) else {
            return Ok(());
        };
        self.submit(Call {
            r#type: Some(call::Type::Acknowledge as i32),
            acknowledge: Some(call::Acknowledge {
                agent_id,
                task_id: status.task_id.clone(),
                uuid,
            }),
            ..Call::default()
        })
        .await
    }

    /// The events that are there after a subscription that must fail.
    pub fn into_events(self) -> Streaming<Event> {
        self.events
    }
}

/// A command task on an offer's agent: a shell command, so many cpus, so much memory (MB).
pub fn task(offer: &v1::Offer, id: &str, command: &str, cpus: f64, mem: f64) -> v1::TaskInfo {
    let role = offer
        .allocation_info
        .as_ref()
        .and_then(|info| info.role.clone());
    v1::TaskInfo {
        name: id.to_owned(),
        task_id: v1::TaskId {
            value: id.to_owned(),
        },
        agent_id: offer.agent_id.clone(),
        resources: vec![
            scalar("cpus", cpus, role.as_deref()),
            scalar("mem", mem, role.as_deref()),
        ],
        command: Some(v1::CommandInfo {
            shell: Some(true),
            value: Some(command.to_owned()),
            ..v1::CommandInfo::default()
        }),
        ..v1::TaskInfo::default()
    }
}

/// A scalar resource, allocated to a role.
pub fn scalar(name: &str, value: f64, role: Option<&str>) -> v1::Resource {
    v1::Resource {
        name: name.to_owned(),
        r#type: v1::value::Type::Scalar as i32,
        scalar: Some(v1::value::Scalar { value }),
        allocation_info: role.map(|role| v1::resource::AllocationInfo {
            role: Some(role.to_owned()),
        }),
        ..v1::Resource::default()
    }
}

/// Whether an event says that something failed, in words; for logs of a test.
pub fn describe(event: &Event) -> String {
    let kind = event
        .r#type
        .and_then(|kind| event::Type::try_from(kind).ok());
    kind.map_or_else(
        || "an unknown event".to_owned(),
        |kind| kind.as_str_name().to_owned(),
    )
}

/// Whether a state number of the wire is one that a task does not leave.
pub fn is_terminal(state: i32) -> bool {
    mezzo_model::TaskState::from_number(state).is_some_and(mezzo_model::TaskState::is_terminal)
}
