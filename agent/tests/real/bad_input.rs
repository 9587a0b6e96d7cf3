//! What strangers and broken programs say at the executors' socket: each is answered in words or left alone, and
//! afterwards the agent still runs a task.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use mezzo_executor::frame::{self, FrameReader};
use mezzo_executor::hello::Hello;
use mezzo_executor::plan::Plan;
use mezzo_model::TaskState;
use mezzo_wire::v1;
use mezzo_wire::v1::executor::{Call, Event, call};
use prost::Message;

use super::bed::Bed;
use super::master::{PATIENCE, task};

fn socket(bed: &Bed) -> UnixStream {
    let stream = UnixStream::connect(bed.work_dir().join("run/agent.sock")).expect("connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("sets");
    stream
}

/// Says something and hears all that comes back until the other side closes.
fn say(bed: &Bed, bytes: &[u8]) -> String {
    let mut stream = socket(bed);
    // The other side may hang up before it has heard all.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut heard = Vec::new();
    let _ = stream.read_to_end(&mut heard);
    String::from_utf8_lossy(&heard).into_owned()
}

/// The agent runs a task as if nothing had been.
pub async fn still_works(bed: &mut Bed, id: &str) {
    bed.master.run(task(id, "true"));
    bed.master.until(id, TaskState::Finished).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hellos_that_are_none_are_sent_away_in_words() {
    let mut bed = Bed::new("process").await;
    bed.master.run(task("kept", "sleep 1000"));
    bed.master.until("kept", TaskState::Running).await;
    let plan = Plan::load(&bed.container().join("plan.json")).expect("a plan");
    let (c, t) = (plan.container_id.as_str(), plan.agent.token.as_str());
    let long = "x".repeat(300);
    let endless = "x".repeat(10_000);
    let wrong = t.replace(|digit: char| digit.is_ascii_digit(), "f");
    let rows: Vec<(String, &str)> = vec![
        (String::new(), "ended before a hello"),
        ("\n".to_owned(), "expected 'mezzo-executor"),
        ("hello".to_owned(), "ended before a hello"),
        ("hello\n".to_owned(), "expected 'mezzo-executor"),
        (
            "GET / HTTP/1.1\r\n\r\n".to_owned(),
            "expected 'mezzo-executor",
        ),
        ("mezzo-executor\n".to_owned(), "expected 'mezzo-executor"),
        ("mezzo-executor 1\n".to_owned(), "expected 'mezzo-executor"),
        (
            "mezzo-executor one fw kept c t\n".to_owned(),
            "expected 'mezzo-executor",
        ),
        (
            "mezzo-executor -1 fw kept c t\n".to_owned(),
            "expected 'mezzo-executor",
        ),
        (
            "mezzo-executor 2 fw kept c t\n".to_owned(),
            "speaks version 2",
        ),
        (
            "mezzo-executor 4294967295 fw kept c t\n".to_owned(),
            "speaks version 4294967295",
        ),
        (
            "mezzo-executor 4294967296 fw kept c t\n".to_owned(),
            "expected 'mezzo-executor",
        ),
        (
            "mezzo-executor 1 fw kept c\n".to_owned(),
            "expected 'mezzo-executor",
        ),
        (
            "mezzo-executor 1 fw kept c t more\n".to_owned(),
            "expected 'mezzo-executor",
        ),
        (
            "mezzo-executor 1 fw  c t\n".to_owned(),
            "expected 'mezzo-executor",
        ),
        (
            "mezzo-executor 1 fw %zz c t\n".to_owned(),
            "expected 'mezzo-executor",
        ),
        (
            format!("mezzo-executor 1 .. kept {c} {t}\n"),
            "the framework in the hello",
        ),
        (
            format!("mezzo-executor 1 a/b kept {c} {t}\n"),
            "the framework in the hello",
        ),
        (
            format!("mezzo-executor 1 fw a%0ab {c} {t}\n"),
            "the executor in the hello",
        ),
        (
            format!("mezzo-executor 1 fw {long} {c} {t}\n"),
            "the executor in the hello",
        ),
        (
            format!("mezzo-executor 1 fw kept ../../etc {t}\n"),
            "the container in the hello",
        ),
        (
            format!("mezzo-executor 1 fw kept {c} {wrong}\n"),
            "token is not that of container",
        ),
        (
            format!("mezzo-executor 1 fw kept {c} {}\n", &t[1..]),
            "token is not that of container",
        ),
        (
            format!("mezzo-executor 1 fw kept another {t}\n"),
            "token is not that of container",
        ),
        (
            format!("mezzo-executor 1 other kept {c} {t}\n"),
            "not one of framework other",
        ),
        (
            format!("mezzo-executor 1 fw other {c} {t}\n"),
            "not that of executor other",
        ),
        (endless, "longer than"),
    ];
    let count = rows.len();
    for (line, words) in rows {
        let heard = say(&bed, line.as_bytes());
        assert!(
            heard.starts_with("refused ") && heard.contains(words),
            "{line:?}: {heard}"
        );
    }
    let heard = say(&bed, b"mezzo-executor \xff\xfe fw kept c t\n");
    assert!(heard.contains("no text"), "{heard}");
    assert!(count + 1 >= 28);
    still_works(&mut bed, "after").await;
    bed.finish().await;
}

/// A framework's own executor, spoken by the test itself: the payload only waits.
struct Custom {
    stream: UnixStream,
    frames: FrameReader,
    plan: Plan,
}

fn custom_task(id: &str) -> v1::TaskInfo {
    let executor = v1::ExecutorInfo {
        executor_id: v1::ExecutorId {
            value: "custom".to_owned(),
        },
        r#type: Some(v1::executor_info::Type::Custom as i32),
        command: Some(v1::CommandInfo {
            value: Some("exec sleep 1000".to_owned()),
            ..Default::default()
        }),
        ..Default::default()
    };
    v1::TaskInfo {
        command: None,
        executor: Some(executor),
        ..task(id, "")
    }
}

async fn plan_of(directory: &Path) -> Plan {
    let path = directory.join("plan.json");
    let loaded = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Ok(plan) = Plan::load(&path) {
                return plan;
            }
            tokio::task::yield_now().await;
        }
    });
    loaded.await.expect("a plan")
}

impl Custom {
    async fn new(bed: &mut Bed) -> Self {
        bed.master.run(custom_task("c"));
        let containers = bed.work_dir().join("containers");
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let entries = std::fs::read_dir(&containers).expect("is there");
                if let Some(Ok(entry)) = entries.into_iter().next() {
                    return entry.path();
                }
                tokio::task::yield_now().await;
            }
        });
        let plan = plan_of(&found.await.expect("a container")).await;
        Self::dial(bed, plan)
    }

    fn dial(bed: &Bed, plan: Plan) -> Self {
        let mut stream = socket(bed);
        let hello = Hello {
            framework_id: plan.framework_id.clone(),
            executor_id: plan.executor_id.clone(),
            container_id: plan.container_id.clone(),
            token: plan.agent.token.clone(),
        };
        stream
            .write_all(hello.line().as_bytes())
            .expect("says hello");
        let mut ok = [0; 3];
        stream.read_exact(&mut ok).expect("an answer");
        assert_eq!(&ok, b"ok\n");
        Self {
            stream,
            frames: FrameReader::default(),
            plan,
        }
    }

    fn call(&self, kind: call::Type) -> Call {
        Call {
            executor_id: v1::ExecutorId {
                value: self.plan.executor_id.clone(),
            },
            framework_id: v1::FrameworkId {
                value: self.plan.framework_id.clone(),
            },
            r#type: Some(kind as i32),
            ..Default::default()
        }
    }

    fn send(&mut self, call: &Call) {
        let mut bytes = Vec::new();
        frame::encode(call, &mut bytes).expect("fits");
        self.stream.write_all(&bytes).expect("sends");
    }

    fn subscribe(&mut self) {
        let mut call = self.call(call::Type::Subscribe);
        call.subscribe = Some(call::Subscribe::default());
        self.send(&call);
    }

    /// The next event; `None` if the agent has closed.
    fn event(&mut self) -> Option<Event> {
        loop {
            if let Some(frame) = self.frames.next_frame().expect("a frame") {
                return Some(Event::decode(frame).expect("an event"));
            }
            let mut bytes = [0; 4_096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(read) => self.frames.push(&bytes[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The words of the error that ends the connection.
    fn complaint(&mut self) -> String {
        let mut words = String::new();
        while let Some(event) = self.event() {
            if let Some(error) = event.error {
                words = error.message;
            }
        }
        words
    }
}

fn raw(bytes: &[u8]) -> Vec<u8> {
    let mut framed = u32::try_from(bytes.len())
        .expect("short")
        .to_be_bytes()
        .to_vec();
    framed.extend_from_slice(bytes);
    framed
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_and_calls_that_break_the_rules_end_the_connection_in_words() {
    let mut bed = Bed::new("process").await;
    let mut custom = Custom::new(&mut bed).await;
    let plan = custom.plan.clone();
    custom.subscribe();
    let frames: [(Vec<u8>, &str); 8] = [
        (
            u32::MAX.to_be_bytes().to_vec(),
            "a frame of 4294967295 bytes",
        ),
        (
            ((8 << 20) + 1_u32).to_be_bytes().to_vec(),
            "a frame of 8388609 bytes",
        ),
        (raw(b""), "Missing required fields"),
        (
            raw(b"\xff\xff\xff\xff"),
            "Failed to parse body into Call protobuf",
        ),
        (
            raw(b"\x0a\x03\x0a\x01e"),
            "Missing required fields: framework_id",
        ),
        (
            raw(b"{\"type\":\"SUBSCRIBE\"}"),
            "Failed to parse body into Call protobuf",
        ),
        (raw(&[0x0b; 300]), "Failed to parse body into Call protobuf"),
        (
            raw(&[0x0a, 0x7f]),
            "Failed to parse body into Call protobuf",
        ),
    ];
    for (bytes, words) in frames {
        let mut one = Custom::dial(&bed, plan.clone());
        one.subscribe();
        one.stream.write_all(&bytes).expect("sends");
        let said = one.complaint();
        assert!(said.contains(words), "{bytes:?}: {said}");
    }
    // A frame that never ends is only waited for; who hangs up in its middle is forgotten.
    let mut half = Custom::dial(&bed, plan.clone());
    half.stream
        .write_all(&[0, 0, 1, 0, 1, 2, 3])
        .expect("sends");
    drop(half);
    type Spoil = fn(&mut Call);
    let calls: [(&str, bool, Spoil); 14] = [
        ("Framework cannot be found", true, |call| {
            call.framework_id.value = "other".to_owned()
        }),
        ("Framework cannot be found", true, |call| {
            call.framework_id.value = String::new()
        }),
        ("Executor cannot be found", true, |call| {
            call.executor_id.value = "../x".to_owned()
        }),
        ("'type' to be present", true, |call| call.r#type = None),
        ("'type' to be present", true, |call| call.r#type = Some(99)),
        ("'subscribe' to be present", false, |call| {
            call.r#type = Some(1)
        }),
        ("not subscribed", false, |call| call.r#type = Some(2)),
        ("not subscribed", false, |call| call.r#type = Some(3)),
        ("'update' to be present", true, |call| call.r#type = Some(2)),
        ("'message' to be present", true, |call| {
            call.r#type = Some(3)
        }),
        ("Not a valid UUID", true, |call| {
            call.update = update(|status| status.uuid = None)
        }),
        ("SOURCE_EXECUTOR", true, |call| {
            call.update = update(|status| status.source = Some(0))
        }),
        ("TASK_STAGING", true, |call| {
            call.update = update(|status| status.state = 6)
        }),
        ("usable id", true, |call| {
            call.update = update(|status| status.task_id.value = "a/b".to_owned())
        }),
    ];
    for (words, subscribed, spoil) in calls {
        let mut one = Custom::dial(&bed, plan.clone());
        if subscribed {
            one.subscribe();
        }
        let mut call = one.call(call::Type::Update);
        spoil(&mut call);
        one.send(&call);
        let said = one.complaint();
        assert!(said.contains(words), "{call:?}: {said}");
    }
    // Updates for what is not there are acknowledged, so that the executor is quiet, and told to nobody.
    let mut last = Custom::dial(&bed, plan);
    last.subscribe();
    let mut call = last.call(call::Type::Update);
    call.update = update(|status| status.task_id.value = "unknown".to_owned());
    last.send(&call);
    let acknowledged = std::iter::from_fn(|| last.event()).find_map(|event| event.acknowledged);
    assert_eq!(
        acknowledged.expect("an acknowledgement").task_id.value,
        "unknown"
    );
    still_works(&mut bed, "after").await;
    bed.finish().await;
}

fn update(spoil: fn(&mut v1::TaskStatus)) -> Option<call::Update> {
    let mut status = v1::TaskStatus {
        task_id: v1::TaskId {
            value: "c".to_owned(),
        },
        state: TaskState::Running.number(),
        source: Some(v1::task_status::Source::Executor as i32),
        uuid: Some(vec![1; 16].into()),
        ..Default::default()
    };
    spoil(&mut status);
    Some(call::Update { status })
}
