//! Orders of a master that make no sense, tasks that cannot run here, and what strangers ask at the port: each ends in
//! words or in nothing, and afterwards the agent still runs a task.

use mezzo_model::TaskState;
use mezzo_wire::link;
use mezzo_wire::link::master_message::Body as Order;
use mezzo_wire::v1;

use super::bad_input::still_works;
use super::bed::Bed;
use super::master::{framework, task};

fn id(value: &str) -> v1::TaskId {
    v1::TaskId {
        value: value.to_owned(),
    }
}

fn fw(value: &str) -> v1::FrameworkId {
    v1::FrameworkId {
        value: value.to_owned(),
    }
}

fn run(framework: v1::FrameworkInfo, task: v1::TaskInfo) -> Order {
    Order::RunTask(link::RunTask { framework, task })
}

fn read(task: &str, path: &str, offset: i64) -> Order {
    Order::ReadSandbox(link::ReadSandbox {
        request_id: None,
        task_id: id(task),
        path: path.to_owned(),
        offset: Some(offset),
        ..Default::default()
    })
}

/// Orders that say nothing sensible, none of which may hurt.
fn senseless() -> Vec<Order> {
    let (t, f) = (id("t"), fw("fw"));
    let executor = |value: &str| v1::ExecutorId {
        value: value.to_owned(),
    };
    let nameless = v1::FrameworkInfo {
        id: None,
        ..framework()
    };
    let odd = v1::FrameworkInfo {
        id: Some(fw("a/b")),
        ..framework()
    };
    let long = "x".repeat(100_000);
    vec![
        run(nameless.clone(), task("t", "true")),
        run(odd.clone(), task("t", "true")),
        run(framework(), task("", "true")),
        run(framework(), task("..", "true")),
        run(framework(), task("a/b", "true")),
        run(framework(), task(&long, "true")),
        Order::RunTaskGroup(link::RunTaskGroup {
            framework: framework(),
            executor: v1::ExecutorInfo::default(),
            group: v1::TaskGroupInfo { tasks: Vec::new() },
        }),
        Order::KillTask(link::KillTask {
            framework_id: fw(""),
            task_id: t.clone(),
            kill_policy: None,
        }),
        Order::KillTask(link::KillTask {
            framework_id: f.clone(),
            task_id: id("a/b"),
            kill_policy: None,
        }),
        Order::Acknowledge(link::AcknowledgeUpdate {
            framework_id: f.clone(),
            task_id: t.clone(),
            uuid: vec![1; 3].into(),
        }),
        Order::Acknowledge(link::AcknowledgeUpdate {
            framework_id: f.clone(),
            task_id: t.clone(),
            uuid: vec![1; 16].into(),
        }),
        Order::Acknowledge(link::AcknowledgeUpdate {
            framework_id: fw("/"),
            task_id: t.clone(),
            uuid: vec![1; 16].into(),
        }),
        Order::FrameworkMessage(link::FrameworkMessage {
            framework_id: f.clone(),
            executor_id: executor("x"),
            data: vec![0; 100].into(),
        }),
        Order::FrameworkMessage(link::FrameworkMessage {
            framework_id: fw(""),
            executor_id: executor(""),
            data: Vec::new().into(),
        }),
        Order::ShutdownExecutor(link::ShutdownExecutor {
            framework_id: f.clone(),
            executor_id: executor("nobody"),
        }),
        Order::ShutdownExecutor(link::ShutdownExecutor {
            framework_id: fw("\0"),
            executor_id: executor("x"),
        }),
        Order::ShutdownFramework(link::ShutdownFramework {
            framework_id: fw("nobody"),
        }),
        Order::ShutdownFramework(link::ShutdownFramework {
            framework_id: fw("a\\b"),
        }),
        Order::UpdateFramework(link::UpdateFramework {
            framework: nameless,
        }),
        Order::UpdateFramework(link::UpdateFramework { framework: odd }),
        Order::ReconcileTasks(link::ReconcileTasks {
            framework_id: f.clone(),
            task_ids: Vec::new(),
        }),
        Order::ReconcileTasks(link::ReconcileTasks {
            framework_id: f,
            task_ids: vec![id(""), id("a/b"), id(&long)],
        }),
        read("t", "stdout", 0),
        read("t", &long, i64::MIN),
        Order::CancelRead(link::CancelRead {
            request_id: u64::MAX,
        }),
        Order::Refused(link::Refused {
            reason: "late".to_owned(),
            retry: None,
        }),
        Order::Ping(link::Ping { sequence: u64::MAX }),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_make_no_sense_hurt_nobody() {
    let mut bed = Bed::new("process").await;
    bed.master.run(task("kept", "sleep 1000"));
    bed.master.until("kept", TaskState::Running).await;
    let orders = senseless();
    assert!(orders.len() >= 25);
    for order in orders {
        bed.master.say(order);
    }
    still_works(&mut bed, "after").await;
    let containers = std::fs::read_dir(bed.work_dir().join("containers"))
        .expect("is there")
        .count();
    assert!(containers <= 2, "only what was sensible was started");
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_cannot_run_here_end_in_words() {
    let mut bed = Bed::new("process").await;
    let variable = |name: &str| v1::Environment {
        variables: vec![v1::environment::Variable {
            name: name.to_owned(),
            ..Default::default()
        }],
    };
    type Spoil = Box<dyn Fn(&mut v1::TaskInfo)>;
    let command = |change: fn(&mut v1::CommandInfo)| -> Spoil {
        Box::new(move |task| change(task.command.get_or_insert_default()))
    };
    let rows: Vec<(&str, Spoil)> = vec![
        (
            "at least one (but not both)",
            Box::new(|task| task.command = None),
        ),
        ("no 'value'", command(|command| command.value = None)),
        (
            "no 'value'",
            command(|command| command.value = Some(String::new())),
        ),
        (
            "NUL byte",
            command(|command| command.value = Some("a\0b".to_owned())),
        ),
        (
            "NUL byte",
            command(|command| {
                command.shell = Some(false);
                command.arguments = vec!["a\0".to_owned()];
            }),
        ),
        (
            "does not fetch",
            command(|command| command.uris.push(v1::command_info::Uri::default())),
        ),
        (
            "no usable name",
            Box::new(move |task| {
                task.command.get_or_insert_default().environment = Some(variable("A=B"))
            }),
        ),
        (
            "type DOCKER",
            Box::new(|task| {
                let r#type = v1::container_info::Type::Docker as i32;
                task.container = Some(v1::ContainerInfo {
                    r#type,
                    ..Default::default()
                });
            }),
        ),
        (
            "persistent volumes",
            Box::new(|task| {
                let persistence = v1::resource::disk_info::Persistence {
                    id: "v".to_owned(),
                    principal: None,
                };
                let disk = v1::resource::DiskInfo {
                    persistence: Some(persistence),
                    ..Default::default()
                };
                task.resources[0].disk = Some(disk.into());
            }),
        ),
        (
            "type DEFAULT",
            Box::new(|task| {
                let r#type = Some(v1::executor_info::Type::Default as i32);
                let executor_id = v1::ExecutorId {
                    value: "e".to_owned(),
                };
                task.executor = Some(v1::ExecutorInfo {
                    r#type,
                    executor_id,
                    ..Default::default()
                });
            }),
        ),
        (
            "needs a command",
            Box::new(|task| {
                let executor_id = v1::ExecutorId {
                    value: "e".to_owned(),
                };
                task.executor = Some(v1::ExecutorInfo {
                    executor_id,
                    ..Default::default()
                });
            }),
        ),
        (
            "invalid characters",
            Box::new(|task| {
                let executor_id = v1::ExecutorId {
                    value: "../e".to_owned(),
                };
                task.executor = Some(v1::ExecutorInfo {
                    executor_id,
                    ..Default::default()
                });
            }),
        ),
        (
            "both its soft and its hard",
            Box::new(|task| {
                let limit = v1::r_limit_info::RLimit {
                    r#type: Some(10),
                    soft: Some(1),
                    hard: None,
                };
                let rlimit_info = Some(v1::RLimitInfo {
                    rlimits: vec![limit],
                });
                let r#type = v1::container_info::Type::Mesos as i32;
                task.container = Some(v1::ContainerInfo {
                    r#type,
                    rlimit_info,
                    ..Default::default()
                });
            }),
        ),
    ];
    for (number, (words, spoil)) in rows.iter().enumerate() {
        let id = format!("bad{number}");
        let mut asked = task(&id, "true");
        spoil(&mut asked);
        bed.master.run(asked);
        let end = bed.master.until(&id, TaskState::Failed).await;
        let said = end.message.unwrap_or_default();
        assert!(said.contains(words), "{words}: {said}");
    }
    still_works(&mut bed, "after").await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_shows_health_and_numbers_and_nothing_else() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut bed = Bed::new("process").await;
    still_works(&mut bed, "t").await;
    for (path, status, words) in [
        ("/health", "200", ""),
        ("/metrics", "200", "mezzo_agent_tasks_finished_total 1"),
        ("/", "404", ""),
        ("/state", "404", ""),
        ("/../etc/passwd", "404", ""),
        ("/%00", "404", ""),
    ] {
        let mut stream = tokio::net::TcpStream::connect(bed.addr())
            .await
            .expect("connects");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("writes");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("reads");
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{path}: {answer}"
        );
        assert!(answer.contains(words), "{path}: {answer}");
    }
    bed.finish().await;
}
