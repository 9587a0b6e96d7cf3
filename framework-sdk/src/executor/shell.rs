//! The blocking shell around the driver: one poll loop that carries messages between the agent, the driver and an
//! [`Executor`].
//!
//! Invariant: it decides nothing; all it owns is a clock, a socket and a queue.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use mezzo_model::{Millis, Now, Wall};
use mezzo_wire::v1;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::core::{
    CoreSettings, DriverCore, DriverInput, DriverOutput, ExecutorEvent, ShutdownReason,
};
use super::link::Link;
use super::{Executor, Settings, SettingsError, grace_period};

/// Most requests of other threads that wait for the loop.
const REQUESTS_MAX: usize = 10_000;

/// Why an executor's loop ended badly.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The process was not started by an agent.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The kernel refused something that the loop cannot do without.
    #[error("the executor's loop cannot {act}: {source}")]
    Io {
        /// What.
        act: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The agent does not know this executor: its words.
    #[error("the agent refused this executor: {0}")]
    Refused(String),
}

/// What an [`Executor`] can do from within its methods.
#[derive(Debug)]
pub struct Context {
    requests: VecDeque<Request>,
    handle: Handle,
}

/// What an executor's other threads can do; cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

/// The executor's loop has ended, or [`Handle`]'s queue is full because it hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the executor's loop does not take requests any more")]
pub struct HandleClosed;

#[derive(Debug)]
struct Shared {
    /// `None` when the loop has ended.
    requests: Mutex<Option<VecDeque<Request>>>,
    wake: UnixStream,
}

#[derive(Debug)]
enum Request {
    Update(Box<v1::TaskStatus>),
    Message(Bytes),
    Stop,
}

impl Context {
    /// Reports on a task: `task_id` and `state`, and what else is to be said. The driver sets `uuid`, `timestamp`,
    /// `source` and `executor_id`, and keeps the update until the agent has it safe.
    pub fn update(&mut self, status: v1::TaskStatus) {
        self.requests.push_back(Request::Update(Box::new(status)));
    }

    /// Sends bytes to the framework's scheduler; lost if the agent is away.
    pub fn send_message(&mut self, data: impl Into<Bytes>) {
        self.requests.push_back(Request::Message(data.into()));
    }

    /// Ends the loop as soon as the agent has acknowledged every update, or after [`Settings::linger`].
    pub fn stop(&mut self) {
        self.requests.push_back(Request::Stop);
    }

    /// The same for other threads.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Handle {
    /// As [`Context::update`].
    pub fn update(&self, status: v1::TaskStatus) -> Result<(), HandleClosed> {
        self.push(Request::Update(Box::new(status)))
    }

    /// As [`Context::send_message`].
    pub fn send_message(&self, data: impl Into<Bytes>) -> Result<(), HandleClosed> {
        self.push(Request::Message(data.into()))
    }

    /// As [`Context::stop`].
    pub fn stop(&self) -> Result<(), HandleClosed> {
        self.push(Request::Stop)
    }

    fn push(&self, request: Request) -> Result<(), HandleClosed> {
        let mut guard = self.shared.lock();
        let requests = guard.as_mut().ok_or(HandleClosed)?;
        if requests.len() >= REQUESTS_MAX {
            return Err(HandleClosed);
        }
        requests.push_back(request);
        // A full pipe means that the loop is awake already.
        let _ = (&self.shared.wake).write(&[1]);
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Option<VecDeque<Request>>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs an executor with what the environment says, until it stops or the agent is gone for good.
pub fn run(executor: impl Executor) -> Result<(), RunError> {
    run_with(Settings::from_environment()?, executor)
}

/// Runs an executor with given settings.
pub fn run_with(settings: Settings, executor: impl Executor) -> Result<(), RunError> {
    Shell::new(settings, executor)?.run()
}

/// The seed of this process: from the kernel's random source, so that no two executors draw the same update ids.
fn seed() -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

struct Shell<E> {
    executor: E,
    context: Context,
    core: DriverCore,
    link: Link,
    woken: UnixStream,
    started: Instant,
    linger: Millis,
    /// The executor wants to leave: the loop ends when nothing is left to acknowledge, at the latest then.
    leave_at: Option<Millis>,
    /// The agent wants it to leave: the loop ends then even if the executor never stops.
    shutdown_at: Option<Millis>,
    /// The agent does not know this executor.
    refused: Option<String>,
}

impl<E: Executor> Shell<E> {
    fn new(settings: Settings, executor: E) -> Result<Self, RunError> {
        let io = |act| move |source| RunError::Io { act, source };
        let (wake, woken) = UnixStream::pair().map_err(io("make a socket pair"))?;
        for end in [&wake, &woken] {
            end.set_nonblocking(true)
                .map_err(io("make a socket pair"))?;
        }
        let core = DriverCore::new(CoreSettings {
            framework_id: settings.hello.framework_id.clone(),
            executor_id: settings.hello.executor_id.clone(),
            recovery_timeout: settings.recovery_timeout,
            backoff_max: settings.backoff_max,
            seed: seed().map_err(io("read /dev/urandom"))?,
        });
        let requests = Mutex::new(Some(VecDeque::new()));
        let handle = Handle {
            shared: Arc::new(Shared { requests, wake }),
        };
        Ok(Self {
            executor,
            context: Context {
                requests: VecDeque::new(),
                handle,
            },
            core,
            link: Link::new(settings.socket, settings.hello),
            woken,
            started: Instant::now(),
            linger: settings.linger,
            leave_at: None,
            shutdown_at: None,
            refused: None,
        })
    }

    fn run(mut self) -> Result<(), RunError> {
        self.turn(VecDeque::from([DriverInput::Start]));
        while !self.is_done() {
            let mut inputs = self.wait()?;
            inputs.push_back(DriverInput::Tick);
            self.turn(inputs);
        }
        *self.context.handle.shared.lock() = None;
        match self.refused {
            Some(words) => Err(RunError::Refused(words)),
            None => Ok(()),
        }
    }

    fn is_done(&self) -> bool {
        let now = self.now().mono;
        let passed = |at: Option<Millis>| at.is_some_and(|at| at <= now);
        let nothing_left = self.core.unacknowledged() == 0 || self.core.is_over();
        let leaves = self.leave_at.is_some();
        (leaves && nothing_left) || passed(self.leave_at) || passed(self.shutdown_at)
    }

    /// Sleeps until the agent, another thread or the clock has something.
    fn wait(&mut self) -> Result<VecDeque<DriverInput>, RunError> {
        let mut inputs = Vec::new();
        let (link_ready, woken) = {
            let deadline = [self.core.next_deadline(), self.leave_at, self.shutdown_at];
            let timeout = timeout(deadline.into_iter().flatten().min(), self.now().mono);
            let mut fds = vec![PollFd::new(self.woken.as_fd(), PollFlags::POLLIN)];
            fds.extend(
                self.link
                    .interest()
                    .map(|(fd, flags)| PollFd::new(fd, flags)),
            );
            match poll(&mut fds, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => {
                    return Err(RunError::Io {
                        act: "poll",
                        source: errno.into(),
                    });
                }
            }
            let ready = |fd: Option<&PollFd<'_>>| fd.is_some_and(|fd| fd.any().unwrap_or(true));
            (ready(fds.get(1)), ready(fds.first()))
        };
        if link_ready {
            self.link.on_ready(&mut inputs);
        }
        if woken {
            let mut bytes = [0; 64];
            while (&self.woken).read(&mut bytes).is_ok_and(|count| count > 0) {}
            if let Some(requests) = self.context.handle.shared.lock().as_mut() {
                self.context.requests.append(requests);
            }
        }
        Ok(inputs.into())
    }

    /// Carries inputs to the driver, its outputs to the agent and the executor, and what those answer back to the
    /// driver, until all is quiet.
    fn turn(&mut self, mut inputs: VecDeque<DriverInput>) {
        loop {
            if let Some(input) = inputs.pop_front() {
                let mut outputs = Vec::new();
                let now = self.now();
                self.core.handle(now, input, &mut outputs);
                for output in outputs {
                    self.perform(output, &mut inputs);
                }
                continue;
            }
            match self.context.requests.pop_front() {
                Some(Request::Update(status)) => inputs.push_back(DriverInput::Update(status)),
                Some(Request::Message(data)) => inputs.push_back(DriverInput::Message(data)),
                Some(Request::Stop) => {
                    let leave_at = self.now().mono + self.linger;
                    self.leave_at.get_or_insert(leave_at);
                }
                None => return,
            }
        }
    }

    fn perform(&mut self, output: DriverOutput, inputs: &mut VecDeque<DriverInput>) {
        let mut heard = Vec::new();
        match output {
            DriverOutput::Connect => self.link.connect(&mut heard),
            DriverOutput::Send(call) => self.link.send(&call, &mut heard),
            DriverOutput::Deliver(event) => self.deliver(event),
            DriverOutput::Note(words) => super::note(&words),
        }
        inputs.extend(heard);
    }

    fn deliver(&mut self, event: ExecutorEvent) {
        let (executor, context) = (&mut self.executor, &mut self.context);
        match event {
            ExecutorEvent::Subscribed { info, again } => executor.subscribed(context, &info, again),
            ExecutorEvent::Disconnected => executor.disconnected(context),
            ExecutorEvent::Launch(task) => executor.launched(context, *task),
            ExecutorEvent::LaunchGroup(group) => executor.launched_group(context, *group),
            ExecutorEvent::Kill { task_id, policy } => {
                executor.kill(context, &task_id, grace_period(policy.as_ref()));
            }
            ExecutorEvent::Acknowledged { .. } => {}
            ExecutorEvent::Message(data) => executor.message(context, data),
            ExecutorEvent::Error(words) => executor.error(context, &words),
            ExecutorEvent::Shutdown(reason) => {
                executor.shutdown(context);
                if let ShutdownReason::Refused(words) = reason {
                    self.refused = Some(words);
                }
                let at = self.now().mono + self.linger;
                self.shutdown_at.get_or_insert(at);
            }
        }
    }

    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        Now::new(
            self.started.elapsed().into(),
            Wall(Millis::from(wall.unwrap_or_default()).0),
        )
    }
}

/// The timeout of a poll that must end at `deadline`, rounded up so that it does not end early.
fn timeout(deadline: Option<Millis>, now: Millis) -> PollTimeout {
    match deadline {
        None => PollTimeout::NONE,
        Some(at) => {
            let wait = i32::try_from(at.since(now).0.saturating_add(1)).unwrap_or(i32::MAX);
            PollTimeout::try_from(if at <= now { 0 } else { wait }).unwrap_or(PollTimeout::MAX)
        }
    }
}

#[cfg(test)]
mod tests;
