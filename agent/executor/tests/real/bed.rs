//! A place for one container, and the agent's end of the socket. What is started here is ended here.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use mezzo_executor::frame::{self, FrameReader};
use mezzo_executor::hello::{Answer, Hello};
use mezzo_executor::plan::{
    AgentAddress, CommandLine, Containerizer, Ended, ExecutorRole, OutputLimits, PLAN_VERSION,
    Plan, Timing,
};
use mezzo_model::TaskState;
use mezzo_wire::v1;
use mezzo_wire::v1::executor::{Call, Event, call, event};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, Uid, mkfifo};

/// How long a test waits for an event that never comes before it fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const TASK: &str = "web.1 of a test";

/// A container's directories, its plan, its agent and, once started, its executor.
pub struct Bed {
    pub dir: tempfile::TempDir,
    pub plan: Plan,
    listener: Option<UnixListener>,
    executor: Option<Child>,
}

/// One connection of an executor.
pub struct Agent {
    reader: BufReader<UnixStream>,
    frames: FrameReader,
}

impl Bed {
    /// A bed for a command of the shell.
    pub fn shell(line: &str) -> Self {
        Self::new(CommandLine::Shell(line.to_owned()))
    }

    pub fn new(command: CommandLine) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["sandbox", "run", "agent"] {
            fs::create_dir(path(name)).unwrap();
        }
        let plan = Plan {
            version: PLAN_VERSION,
            framework_id: "f-0001".into(),
            executor_id: TASK.into(),
            container_id: format!("c-{}", dir.path().file_name().unwrap().to_str().unwrap()),
            agent_id: "m-S1".into(),
            role: ExecutorRole::Command,
            containerizer: Containerizer::Process,
            command,
            environment: Vec::new(),
            user: None,
            sandbox: path("sandbox"),
            sandbox_inside: None,
            working_directory: None,
            run_directory: path("run"),
            rlimits: Vec::new(),
            output: OutputLimits::default(),
            agent: AgentAddress {
                socket: path("agent").join("agent.sock"),
                token: "a secret".into(),
                endpoint: "127.0.0.1:5051".into(),
            },
            timing: Timing::default(),
        };
        let mut bed = Self {
            dir,
            plan,
            listener: None,
            executor: None,
        };
        bed.listen();
        bed
    }

    /// The agent (again) listens.
    pub fn listen(&mut self) {
        let _ = fs::remove_file(&self.plan.agent.socket);
        self.listener = Some(UnixListener::bind(&self.plan.agent.socket).unwrap());
    }

    /// The agent is gone.
    pub fn stop_listening(&mut self) {
        self.listener = None;
    }

    /// Starts the executor, and lets `change` change how.
    pub fn start_with(&mut self, change: impl FnOnce(&mut Command)) {
        self.plan.store(&self.plan_file()).unwrap();
        self.start_as_written(change);
    }

    pub fn plan_file(&self) -> PathBuf {
        self.plan.run_directory.join("plan.json")
    }

    /// Starts the executor with the plan file as it is.
    pub fn start_as_written(&mut self, change: impl FnOnce(&mut Command)) {
        let log = fs::File::create(self.plan.run_directory.join("executor.log")).unwrap();
        let mut command = Command::new(example("executor_alone"));
        command
            .arg(mezzo_executor::ENTRY_WORD)
            .arg(self.plan_file());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        change(&mut command);
        self.executor = Some(command.spawn().unwrap());
    }

    pub fn start(&mut self) {
        self.start_with(|_| {});
    }

    /// The executor dials.
    pub fn accept(&self) -> Agent {
        let listener = self.listener.as_ref().expect("the agent listens");
        wait_readable(listener, || format!("no executor dials: {}", self.log()));
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let hello = Hello::parse(&line).unwrap();
        assert_eq!(hello.executor_id, self.plan.executor_id);
        assert_eq!(hello.container_id, self.plan.container_id);
        assert_eq!(hello.token, self.plan.agent.token);
        Agent {
            reader,
            frames: FrameReader::default(),
        }
    }

    /// Starts the executor and takes its subscription.
    pub fn subscribed(&mut self) -> Agent {
        self.start();
        let mut agent = self.accept();
        assert_eq!(agent.subscribe(), call::Subscribe::default());
        agent
    }

    /// Starts the executor and its task, and waits until that runs.
    pub fn running(&mut self, task: v1::TaskInfo) -> Agent {
        let mut agent = self.subscribed();
        agent.launch(task);
        agent.expect(TaskState::Starting);
        agent.expect(TaskState::Running);
        agent
    }

    /// Runs the command to its end and returns its terminal status.
    pub fn run(&mut self, task: v1::TaskInfo) -> v1::TaskStatus {
        let mut agent = self.subscribed();
        agent.launch(task);
        let last = agent.expect_end();
        self.expect_left();
        last
    }

    pub fn executor_pid(&self) -> i32 {
        self.executor.as_ref().expect("it was started").id() as i32
    }

    /// Kills the executor as nobody should.
    pub fn kill_executor(&mut self) {
        let mut executor = self.executor.take().expect("it was started");
        executor.kill().unwrap();
        executor.wait().unwrap();
    }

    /// Waits until the executor has left with status 0.
    pub fn expect_left(&mut self) {
        let status = self.left();
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// Waits until the executor has left.
    pub fn left(&mut self) -> ExitStatus {
        let mut executor = self.executor.take().expect("it was started");
        let pid = executor.id() as i32;
        wait_for_end(pid, || {
            format!("the executor does not leave: {}", self.log())
        });
        executor.wait().unwrap()
    }

    /// The executor's own notes.
    pub fn log(&self) -> String {
        fs::read_to_string(self.plan.run_directory.join("executor.log")).unwrap_or_default()
    }

    pub fn sandbox(&self, name: &str) -> PathBuf {
        self.plan.sandbox.join(name)
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.sandbox(name)).unwrap_or_default()
    }

    /// The record of the end, once there is one.
    pub fn ended(&self) -> Ended {
        Ended::load(&self.plan.run_directory)
            .unwrap()
            .expect("a record")
    }

    /// A FIFO in the sandbox that a payload reads, to be told to go on.
    pub fn fifo(&self, name: &str) -> PathBuf {
        let path = self.sandbox(name);
        mkfifo(&path, Mode::empty()).unwrap();
        // Not through the umask: the payload may be another user.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        path
    }

    /// A FIFO in the sandbox to which a payload says lines.
    pub fn ear(&self, name: &str) -> Ear {
        let path = self.fifo(name);
        // With a writer of our own it never ends, and nobody waits to open it.
        let file = fs::File::options()
            .read(true)
            .write(true)
            .open(path)
            .unwrap();
        Ear {
            reader: BufReader::new(file),
        }
    }
}

/// The reading end of what a payload says.
pub struct Ear {
    reader: BufReader<fs::File>,
}

impl Ear {
    /// The next lines, as soon as they are said.
    pub fn hear(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.len() < count {
            if self.reader.buffer().is_empty() {
                wait_readable(self.reader.get_ref(), || format!("only {lines:?} was said"));
            }
            let mut line = String::new();
            self.reader.read_line(&mut line).unwrap();
            lines.push(line.trim_end().to_owned());
        }
        lines
    }

    /// The next lines as process ids.
    pub fn pids(&mut self, count: usize) -> Vec<i32> {
        let lines = self.hear(count);
        lines.iter().map(|line| line.parse().unwrap()).collect()
    }
}

impl Drop for Bed {
    /// A failed test leaves nothing running: the executor takes everything along.
    fn drop(&mut self) {
        if let Some(executor) = &mut self.executor {
            let _ = executor.kill();
            let _ = executor.wait();
        }
    }
}

impl Agent {
    pub fn answer(&mut self, answer: &Answer) {
        let line = answer.line();
        self.reader.get_mut().write_all(line.as_bytes()).unwrap();
    }

    pub fn hear(&mut self) -> Call {
        loop {
            if let Some(frame) = self.frames.next_frame().unwrap() {
                return mezzo_wire::decode_checked(frame).unwrap();
            }
            let bytes = self.reader.fill_buf().expect("a call in time").to_vec();
            assert!(!bytes.is_empty(), "the executor hung up");
            self.reader.consume(bytes.len());
            self.frames.push(&bytes);
        }
    }

    pub fn say(&mut self, kind: event::Type, fill: impl FnOnce(&mut Event)) {
        let mut event = Event {
            r#type: Some(kind as i32),
            ..Default::default()
        };
        fill(&mut event);
        let mut bytes = Vec::new();
        frame::encode(&event, &mut bytes).unwrap();
        self.reader.get_mut().write_all(&bytes).unwrap();
    }

    /// Takes the subscription; the framework wants to hear TASK_KILLING.
    pub fn subscribe(&mut self) -> call::Subscribe {
        use v1::framework_info::{Capability, capability::Type};
        self.answer(&Answer::Ok);
        let said = self.hear().subscribe.expect("a subscribe");
        let mut info = event::Subscribed::default();
        let kind = Some(Type::TaskKillingState as i32);
        info.framework_info.capabilities = vec![Capability { r#type: kind }];
        self.say(event::Type::Subscribed, |e| e.subscribed = Some(info));
        said
    }

    pub fn launch(&mut self, task: v1::TaskInfo) {
        self.say(event::Type::Launch, |e| {
            e.launch = Some(event::Launch { task })
        });
    }

    pub fn kill(&mut self, grace: Option<Duration>) {
        let kill_policy = grace.map(|grace| v1::KillPolicy {
            grace_period: Some(v1::DurationInfo {
                nanoseconds: grace.as_nanos() as i64,
            }),
        });
        self.say(event::Type::Kill, |e| {
            e.kill = Some(event::Kill {
                task_id: v1::TaskId { value: TASK.into() },
                kill_policy,
            });
        });
    }

    pub fn acknowledge(&mut self, status: &v1::TaskStatus) {
        let acknowledged = event::Acknowledged {
            task_id: status.task_id.clone(),
            uuid: status.uuid.clone().unwrap(),
        };
        self.say(event::Type::Acknowledged, |e| {
            e.acknowledged = Some(acknowledged)
        });
    }

    /// The next update, not acknowledged.
    pub fn hear_update(&mut self) -> v1::TaskStatus {
        self.hear().update.expect("an update").status
    }

    /// The next update, which must be of this state, acknowledged.
    pub fn expect(&mut self, expected: TaskState) -> v1::TaskStatus {
        let status = self.hear_update();
        assert_eq!(state(&status), expected, "{status:?}");
        self.acknowledge(&status);
        status
    }

    /// The terminal update, whatever comes before, all acknowledged.
    pub fn expect_end(&mut self) -> v1::TaskStatus {
        loop {
            let status = self.hear_update();
            self.acknowledge(&status);
            if state(&status).is_terminal() {
                return status;
            }
        }
    }
}

pub fn state(status: &v1::TaskStatus) -> TaskState {
    TaskState::from_number(status.state).expect("a known state")
}

pub fn message(status: &v1::TaskStatus) -> &str {
    status.message.as_deref().unwrap_or_default()
}

/// The task of a bed, with nothing said about it.
pub fn task() -> v1::TaskInfo {
    let mut task = v1::TaskInfo::default();
    task.task_id.value = TASK.to_owned();
    task
}

/// A program of this crate's examples, beside this test's directory.
pub fn example(name: &str) -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let profile = here
        .ancestors()
        .nth(2)
        .expect("target/<profile>/deps/<test>");
    let program = profile.join("examples").join(name);
    assert!(
        program.exists(),
        "{} is not built; `cargo test -p mezzo-executor` builds it",
        program.display()
    );
    program
}

fn wait_readable(fd: impl AsFd, words: impl Fn() -> String) {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    let patience = PollTimeout::try_from(PATIENCE).unwrap();
    assert_eq!(poll(&mut fds, patience), Ok(1), "{}", words());
}

/// Waits until a process has ended (it may be a zombie of somebody).
pub fn wait_for_end(pid: i32, words: impl Fn() -> String) {
    let Some(process) = rustix::process::Pid::from_raw(pid) else {
        return;
    };
    match rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty()) {
        Ok(pinned) => wait_readable(pinned, words),
        Err(rustix::io::Errno::SRCH) => {}
        Err(errno) => panic!("cannot watch process {pid}: {errno}"),
    }
}

/// Waits for what tells nobody when it comes true.
pub fn wait_until(words: &str, is_true: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_true() {
        assert!(Instant::now() < deadline, "in vain: {words}");
        std::thread::yield_now();
    }
}

/// Whether a process is there and not a zombie.
pub fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.trim().chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

/// Fails while one of these processes lives.
pub fn assert_ended(pids: &[i32]) {
    for &pid in pids {
        assert!(!is_alive(pid), "process {pid} is still there");
    }
}

/// The children of a process.
pub fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    text.split_ascii_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect()
}

pub fn is_root() -> bool {
    Uid::effective().is_root()
}

pub fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}
