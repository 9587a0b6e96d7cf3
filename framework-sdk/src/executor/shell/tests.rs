//! The whole executor side against an agent's end of the socket, in threads.

use super::*;
use crate::executor::frame::{self, FrameReader};
use crate::executor::hello::{Answer, Hello};
use mezzo_model::TaskState;
use mezzo_model::ids::TaskId;
use mezzo_wire::decode_checked;
use mezzo_wire::v1::executor::{Call, Event, call, event};
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

/// An agent's end of one connection.
struct Agent {
    reader: BufReader<UnixStream>,
    frames: FrameReader,
}

impl Agent {
    fn accept(listener: &UnixListener) -> Self {
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(PATIENCE).unwrap();
        assert_eq!(poll(&mut fds, patience), Ok(1), "no executor dials");
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert_eq!(Hello::parse(&line).unwrap(), settings(Path::new("")).hello);
        Self {
            reader,
            frames: FrameReader::default(),
        }
    }

    fn answer(&mut self, answer: &Answer) {
        let line = answer.line();
        self.reader.get_mut().write_all(line.as_bytes()).unwrap();
    }

    fn hear(&mut self) -> Call {
        loop {
            if let Some(frame) = self.frames.next_frame().unwrap() {
                return decode_checked(frame).unwrap();
            }
            let bytes = self.reader.fill_buf().unwrap().to_vec();
            assert!(!bytes.is_empty(), "the executor hung up");
            self.reader.consume(bytes.len());
            self.frames.push(&bytes);
        }
    }

    fn hear_update(&mut self) -> v1::TaskStatus {
        self.hear().update.expect("an update").status
    }

    fn say(&mut self, kind: event::Type, fill: impl FnOnce(&mut Event)) {
        let mut event = Event {
            r#type: Some(kind as i32),
            ..Default::default()
        };
        fill(&mut event);
        let mut bytes = Vec::new();
        frame::encode(&event, &mut bytes).unwrap();
        self.reader.get_mut().write_all(&bytes).unwrap();
    }

    fn subscribe(&mut self) -> call::Subscribe {
        self.answer(&Answer::Ok);
        let said = self.hear();
        self.say(event::Type::Subscribed, |e| {
            e.subscribed = Some(Default::default())
        });
        said.subscribe.expect("a subscribe")
    }

    fn launch(&mut self, task: &str) {
        let task_id = v1::TaskId { value: task.into() };
        let task = v1::TaskInfo {
            task_id,
            ..Default::default()
        };
        self.say(event::Type::Launch, |e| {
            e.launch = Some(event::Launch { task })
        });
    }

    fn acknowledge(&mut self, status: &v1::TaskStatus) {
        let acknowledged = event::Acknowledged {
            task_id: status.task_id.clone(),
            uuid: status.uuid.clone().unwrap(),
        };
        self.say(event::Type::Acknowledged, |e| {
            e.acknowledged = Some(acknowledged)
        });
    }
}

/// Reports RUNNING from a thread of its own, answers messages, and ends its tasks when told.
#[derive(Default)]
struct Echo {
    tasks: Vec<v1::TaskId>,
}

fn status(task_id: v1::TaskId, state: TaskState) -> v1::TaskStatus {
    v1::TaskStatus {
        task_id,
        state: state as i32,
        ..Default::default()
    }
}

impl Executor for Echo {
    fn launched(&mut self, context: &mut Context, task: v1::TaskInfo) {
        let handle = context.handle();
        self.tasks.push(task.task_id.clone());
        let running = status(task.task_id, TaskState::Running);
        std::thread::spawn(move || handle.update(running).unwrap());
    }

    fn kill(&mut self, context: &mut Context, task: &TaskId, grace: Option<Millis>) {
        let mut killed = status(task.to_wire(), TaskState::Killed);
        killed.message = grace.map(|grace| grace.to_string());
        context.update(killed);
    }

    fn message(&mut self, context: &mut Context, data: Bytes) {
        context.send_message(data);
    }

    fn shutdown(&mut self, context: &mut Context) {
        for task in self.tasks.drain(..) {
            context.update(status(task, TaskState::Finished));
        }
        context.stop();
    }
}

fn settings(socket: &Path) -> Settings {
    Settings {
        hello: Hello {
            framework_id: "f".into(),
            executor_id: "an executor".into(),
            container_id: "c".into(),
            token: "t".into(),
        },
        socket: socket.into(),
        recovery_timeout: Millis::from_secs(60),
        backoff_max: Millis::from_secs(2),
        linger: Millis::from_secs(20),
    }
}

fn run_in_a_thread(settings: Settings) -> JoinHandle<Result<(), RunError>> {
    std::thread::spawn(move || run_with(settings, Echo::default()))
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    (dir, path)
}

#[test]
fn an_executor_serves_its_tasks_and_leaves_when_all_is_acknowledged() {
    let (_dir, path) = place();
    let listener = UnixListener::bind(&path).unwrap();
    let executor = run_in_a_thread(settings(&path));
    let mut agent = Agent::accept(&listener);
    assert_eq!(agent.subscribe(), call::Subscribe::default());
    agent.launch("t1");
    let running = agent.hear_update();
    assert_eq!(running.state, TaskState::Running as i32);
    agent.acknowledge(&running);
    let data = Bytes::from_static(b"ping");
    agent.say(event::Type::Message, |e| {
        e.message = Some(event::Message { data })
    });
    assert_eq!(agent.hear().message.unwrap().data.as_ref(), b"ping");
    agent.launch("t2");
    let running = agent.hear_update();
    agent.acknowledge(&running);
    agent.say(event::Type::Kill, |e| {
        e.kill = Some(event::Kill {
            task_id: v1::TaskId { value: "t2".into() },
            kill_policy: Some(v1::KillPolicy {
                grace_period: Some(v1::DurationInfo {
                    nanoseconds: 1_500_000_000,
                }),
            }),
        });
    });
    let killed = agent.hear_update();
    assert_eq!(killed.message.as_deref(), Some("1500ms"));
    agent.acknowledge(&killed);
    agent.say(event::Type::Shutdown, |_| {});
    let first = agent.hear_update();
    let second = agent.hear_update();
    agent.acknowledge(&first);
    assert!(!executor.is_finished(), "one update is not acknowledged");
    agent.acknowledge(&second);
    executor.join().unwrap().unwrap();
}

#[test]
fn an_executor_finds_an_agent_that_comes_back_and_tells_it_what_it_missed() {
    let (_dir, path) = place();
    // Nobody is there yet, and nobody will be for a while: the socket's appearance wakes the executor.
    let executor = run_in_a_thread(settings(&path));
    let listener = UnixListener::bind(&path).unwrap();
    let mut agent = Agent::accept(&listener);
    agent.subscribe();
    agent.launch("t1");
    let running = agent.hear_update();
    drop((agent, listener));
    std::fs::remove_file(&path).unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    let mut agent = Agent::accept(&listener);
    let said = agent.subscribe();
    assert_eq!(said.unacknowledged_tasks.len(), 1);
    let updates: Vec<_> = said
        .unacknowledged_updates
        .into_iter()
        .map(|u| u.status)
        .collect();
    assert_eq!(updates, [running]);
    agent.acknowledge(&updates[0]);
    agent.say(event::Type::Shutdown, |_| {});
    let finished = agent.hear_update();
    agent.acknowledge(&finished);
    executor.join().unwrap().unwrap();
}

#[test]
fn a_socket_deep_down_is_reached() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("x".repeat(100)).join("y".repeat(100));
    std::fs::create_dir_all(&deep).unwrap();
    // Bind through a short path; dial through the long one.
    let short = dir.path().join("s");
    std::os::unix::fs::symlink(&deep, &short).unwrap();
    let listener = UnixListener::bind(short.join("agent.sock")).unwrap();
    let executor = run_in_a_thread(settings(&deep.join("agent.sock")));
    let mut agent = Agent::accept(&listener);
    agent.subscribe();
    agent.say(event::Type::Shutdown, |_| {});
    executor.join().unwrap().unwrap();
}

#[test]
fn a_refusal_is_told_in_the_agents_words() {
    let (_dir, path) = place();
    let listener = UnixListener::bind(&path).unwrap();
    let executor = run_in_a_thread(settings(&path));
    let mut agent = Agent::accept(&listener);
    agent.answer(&Answer::Refused("no such executor".into()));
    let error = executor.join().unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the agent refused this executor: no such executor"
    );
}

#[test]
fn nonsense_from_the_socket_leads_to_a_new_attempt_not_to_an_end() {
    let (_dir, path) = place();
    let listener = UnixListener::bind(&path).unwrap();
    let executor = run_in_a_thread(settings(&path));
    for nonsense in [
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        vec![b'x'; 5000],
        b"ok\n\xff\xff\xff\xff".to_vec(),
        b"ok\n\x00\x00\x00\x02\xff\xff".to_vec(),
    ] {
        let mut agent = Agent::accept(&listener);
        let _ = agent.reader.get_mut().write_all(&nonsense);
    }
    let mut agent = Agent::accept(&listener);
    agent.subscribe();
    agent.say(event::Type::Shutdown, |_| {});
    executor.join().unwrap().unwrap();
}
