//! The binary as people use it: real processes, real tasks, and what is left afterwards.

#[path = "binary/daemons.rs"]
mod daemons;
#[path = "binary/process.rs"]
mod process;

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use process::{Answer, Local, Program, free_ports, mezzo, processes_naming};
use serde_json::{Value, json};

/// An app and a job as the example has them, and jobs that fail and that write for a while.
fn documents(dir: &Path) -> String {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/hello.json");
    let mut documents: Vec<Value> =
        serde_json::from_str(&fs::read_to_string(example).expect("the example is there"))
            .expect("JSON");
    documents[0]["env"]["MEZZO_HELLO_NAME"] = json!("tester");
    let path = dir.join("deploy.json");
    fs::write(&path, json!(documents).to_string()).expect("writes");
    path.display().to_string()
}

fn job(dir: &Path, id: &str, cmd: &str) -> String {
    let job = json!({"id": id, "run": {"cpus": 0.1, "mem": 32, "disk": 0, "cmd": cmd}});
    let path = dir.join(format!("{id}.json"));
    fs::write(&path, job.to_string()).expect("writes");
    path.display().to_string()
}

#[test]
fn a_local_cluster_from_its_start_to_its_end() {
    let dir = tempfile::tempdir().expect("a directory");
    // Whether this succeeds or not, the usual port is taken now.
    let _held = TcpListener::bind(("127.0.0.1", 5050));
    let file = documents(dir.path());
    let mut local = Local::start(dir.path(), &[&file]);
    local.until("master     http://127.0.0.1:");
    assert!(local.said("(port 5050 is taken)"), "{}", local.text());
    local.until("/hello: 1 of 1 running, 1 healthy at http://127.0.0.1:");
    local.until(": SUCCESS");
    assert!(local.said("containers process"), "{}", local.text());
    opens(&local);

    let status = local.ask(&["status"]).good();
    assert!(
        status.contains("agents     1 active of 1") && status.contains("1 apps"),
        "{status}"
    );
    let status = local.ask(&["status", "-o", "json"]).json();
    assert_eq!(
        (&status["frameworks"], &status["tasks"]["TASK_RUNNING"]),
        (&json!(2), &json!(1))
    );
    let agents = local.ask(&["agents", "--output", "json"]).json();
    assert_eq!(
        (&agents[0]["state"], &agents[0]["tasks"]),
        (&json!("active"), &json!(1))
    );
    let names = local.ask(&["frameworks", "-o", "json"]).json();
    assert_eq!(
        (&names[0]["name"], &names[1]["name"]),
        (&json!("batch"), &json!("service"))
    );
    let frameworks = local.ask(&["frameworks"]).good();
    assert!(
        frameworks.contains("service") && frameworks.contains("batch"),
        "{frameworks}"
    );
    let tasks = local.ask(&["tasks"]).good();
    assert!(
        tasks.contains("hello.instance-") && !tasks.contains("hello-job"),
        "{tasks}"
    );
    let all = local.ask(&["tasks", "--all", "-o", "json"]).json();
    assert_eq!(all.as_array().map(Vec::len), Some(2), "{all}");

    apps(&local, &file);
    jobs(&local, dir.path());
    logs(&local, dir.path());

    let home = local.home();
    local.end();
    assert!(local.said("ended: no process is left"), "{}", local.text());
    assert_eq!(processes_naming(&home), Vec::<String>::new());
    assert!(
        !dir.path().join("cache/context.json").exists(),
        "nobody is sent there any more"
    );
}

/// Each address that is told can be opened as it stands there.
fn opens(local: &Local) {
    let text = local.text();
    let told = text.split("http://").skip(1);
    let mut pages = Vec::new();
    for rest in told {
        let addr = rest.split_whitespace().next().expect("an address");
        pages.push(process::get(addr, "/"));
    }
    assert!(pages.len() >= 5, "the daemons and the app: {text}");
    let app = pages.last().expect("there are some");
    assert!(app.contains("Hello, tester!"), "{app}");
    let tasks = local.ask(&["tasks", "-o", "json"]).json();
    assert_eq!(tasks[0]["hostname"], json!("127.0.0.1"), "{tasks}");
}

fn apps(local: &Local, file: &str) {
    let app = fs::read_to_string(file).expect("reads");
    let documents: Vec<Value> = serde_json::from_str(&app).expect("JSON");
    let one = Path::new(file).with_file_name("app.json");
    let mut app = documents[0].clone();
    app["env"]["MEZZO"] = json!(mezzo());
    fs::write(&one, app.to_string()).expect("writes");
    let one = one.display().to_string();
    let scaled = local.ask(&["app", "scale", "/hello", "2"]).good();
    assert!(
        scaled.contains("/hello goes to 2 instances (deployment "),
        "{scaled}"
    );
    let deployed = local.ask(&["app", "deploy", &one, "--force"]).good();
    assert!(
        deployed.contains("/hello is being replaced") && deployed.contains("/hello runs"),
        "{deployed}"
    );
    let listed = local.ask(&["app", "list", "-o", "json"]).json();
    assert_eq!(
        (&listed[0]["id"], &listed[0]["running"]),
        (&json!("/hello"), &json!(1))
    );
    let again = local.ask(&["app", "deploy", &one, "-o", "json"]).json();
    assert_eq!(
        (&again[0]["id"], &again[0]["replaced"], &again[0]["running"]),
        (&json!("/hello"), &json!(true), &json!(true))
    );
    let scaled = local.ask(&["app", "scale", "/hello", "1", "-o", "json"]);
    assert!(scaled.json()["deploymentId"].is_string());
    let mixed = local.ask(&["app", "deploy", file]);
    assert!(
        !mixed.success && mixed.err.contains("hello-job is a job"),
        "{mixed:?}"
    );
    let missing = local.ask(&["app", "scale", "/none", "2"]);
    assert!(
        !missing.success && missing.err.contains("refused"),
        "{missing:?}"
    );
    let killed = local.ask(&["app", "kill", "/hello", "-o", "json"]);
    assert!(killed.json()["deploymentId"].is_string());
}

fn jobs(local: &Local, dir: &Path) {
    let again = local.ask(&["job", "run", "hello-job", "--wait"]).good();
    assert!(
        again.contains("run ") && again.contains("of hello-job ended: SUCCESS"),
        "{again}"
    );
    let started = local.ask(&["job", "run", "hello-job", "-w", "-o", "json"]);
    assert_eq!(started.json()[0]["status"], json!("SUCCESS"));
    let failing = job(dir, "failing", "echo to-err >&2; exit 3");
    let failed = local.ask(&["job", "run", &failing, "--wait"]);
    assert!(
        !failed.success && failed.err.contains("Command exited with status 3"),
        "{failed:?}"
    );
    assert!(
        failed.err.contains("mezzo logs"),
        "it says what to do next: {failed:?}"
    );
    let listed = local.ask(&["job", "list", "-o", "json"]).json();
    let counts: Vec<(&Value, &Value, &Value)> = listed
        .as_array()
        .expect("a list")
        .iter()
        .map(|job| (&job["id"], &job["succeeded"], &job["failed"]))
        .collect();
    assert_eq!(
        counts,
        [
            (&json!("failing"), &json!(0), &json!(1)),
            (&json!("hello-job"), &json!(3), &json!(0))
        ]
    );
    let bad = job(dir, "bad", "");
    let refused = local.ask(&["job", "run", &bad]);
    assert!(
        !refused.success && refused.err.contains("/run/cmd: must not be empty"),
        "{refused:?}"
    );
    let missing = local.ask(&["job", "run", "none"]);
    assert!(
        !missing.success
            && missing.err.contains("Job not found")
            && missing.err.contains("mezzo job list")
    );
}

fn logs(local: &Local, dir: &Path) {
    let out = local.ask(&["logs", "hello-job"]).good();
    assert!(out.starts_with("hello from run "), "{out}");
    let failed = local.ask(&["logs", "failing"]);
    assert!(
        failed.success && failed.err.contains("to-err"),
        "{failed:?}"
    );
    // It writes a line, waits until somebody has seen it, and writes another.
    let gate = dir.join("gate");
    let cmd = format!(
        "echo one; echo two; until [ -e {} ]; do sleep 0.05; done; echo three",
        gate.display()
    );
    let writer = job(dir, "writer", &cmd);
    local.ask(&["job", "run", &writer]).good();
    // A run is there before its task is.
    daemons::until("the task of the run", || {
        let tasks = local.ask(&["tasks", "writer", "-o", "json"]).json();
        let known = tasks[0]["state"] == "TASK_RUNNING";
        if known {
            Ok(())
        } else {
            Err(tasks.to_string())
        }
    });
    // Both lines are there once somebody has read them.
    local.spawn(&["logs", "--follow", "writer"]).until("two");
    let mut follower = local.spawn(&["logs", "--follow", "--tail", "1", "writer"]);
    follower.until("two");
    assert!(
        !follower.said("one"),
        "only the last line: {}",
        follower.text()
    );
    fs::write(&gate, "").expect("writes");
    follower.until("three");
    assert!(follower.ended(), "it ends with the task");
    let json = local
        .ask(&["logs", "writer", "-n", "1", "-o", "json"])
        .json();
    assert_eq!(json, json!({"file": "stdout", "data": "three\n"}));
    let missing = local.ask(&["logs", "nothing-of-that-name"]);
    assert!(
        !missing.success && missing.err.contains("no task is called"),
        "{missing:?}"
    );
    let file = local.ask(&["logs", "writer", "--file", "no/such/file"]);
    assert!(!file.success && !file.err.is_empty(), "{file:?}");
}

#[test]
fn what_a_killed_cluster_left_is_cleaned_at_the_next_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = job(dir.path(), "sleeper", "sleep 600 & sleep 600");
    let mut first = Local::start(dir.path(), &[&file]);
    first.until(": ACTIVE");
    let home = first.home();
    let second = Program::run(dir.path(), &["local", "--work_dir", &home]);
    assert!(
        !second.success && second.err.contains("another mezzo local"),
        "{second:?}"
    );
    assert!(
        second.err.contains("kill"),
        "it says what to do next: {second:?}"
    );
    first.kill();
    assert!(
        !processes_naming(&home).is_empty(),
        "tasks outlive the process of their agent"
    );
    let mut next = Local::start(dir.path(), &[]);
    next.until("press Ctrl-C to end");
    assert!(next.said("cleaned "), "{}", next.text());
    let left: Vec<String> = processes_naming(&home)
        .into_iter()
        .filter(|line| !line.contains(" local "))
        .collect();
    assert_eq!(left, Vec::<String>::new());
    assert!(
        next.ask(&["tasks", "--all", "-o", "json"])
            .json()
            .as_array()
            .is_some_and(Vec::is_empty)
    );
    next.end();
    assert_eq!(processes_naming(&home), Vec::<String>::new());
}

/// The first command of the README, killed in the middle and started again.
#[test]
fn the_example_runs_as_well_contained_as_it_can_be_here() {
    // Not in /tmp, which may be a file system of its own: containers see the root's only.
    let dir = tempfile::tempdir_in("/var/tmp").expect("a directory");
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/hello.json");
    let mut local = Local::start_with(dir.path(), "auto", &[example]);
    let ready = |local: &mut Local| {
        local.until("/hello: 1 of 1 running, 1 healthy at http://127.0.0.1:");
        local.until(": SUCCESS");
    };
    ready(&mut local);
    let works = |program: &str| {
        let asked = std::process::Command::new(program)
            .arg("--version")
            .output();
        asked.is_ok_and(|output| output.status.success())
    };
    let contained = nix::unistd::Uid::effective().is_root() && works("runc");
    let kind = if contained { "oci" } else { "process" };
    assert!(
        local.said(&format!("containers {kind}")),
        "{}",
        local.text()
    );
    let written = local.ask(&["logs", "hello-job"]).good();
    assert!(written.starts_with("hello from run "), "{written}");
    local.kill();
    let mut next = Local::start_with(dir.path(), "auto", &[example]);
    ready(&mut next);
    assert!(next.said("cleaned "), "{}", next.text());
    let home = next.home();
    next.end();
    assert_eq!(processes_naming(&home), Vec::<String>::new());
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("reads");
    assert!(!mounts.contains(&home), "{mounts}");
}

#[test]
fn agents_share_the_machine() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut local = Local::start(dir.path(), &["--agents", "3"]);
    local.until("press Ctrl-C to end");
    let agents = local.ask(&["agents", "-o", "json"]).json();
    let agents = agents.as_array().expect("a list");
    let names: Vec<&Value> = agents.iter().map(|agent| &agent["hostname"]).collect();
    assert_eq!(
        names,
        [
            &json!("127.0.0.1"),
            &json!("127.0.0.2"),
            &json!("127.0.0.3")
        ]
    );
    let cpus: f64 = agents
        .iter()
        .filter_map(|agent| agent["total"]["cpus"].as_f64())
        .sum();
    assert!((cpus - 2.0).abs() < 1e-6, "{cpus}");
    local.end();
}

#[test]
fn nothing_is_started_for_a_file_that_makes_no_sense() {
    let dir = tempfile::tempdir().expect("a directory");
    let bad = dir.path().join("bad.json");
    fs::write(&bad, "{\"id\": \"/a\",}").expect("writes");
    let home = dir.path().join("home").display().to_string();
    for (file, words) in [
        (bad.display().to_string(), "not valid JSON"),
        (
            dir.path().join("none.json").display().to_string(),
            "none.json",
        ),
    ] {
        let refused = Program::run(dir.path(), &["local", &file, "--work_dir", &home]);
        assert!(
            !refused.success && refused.err.contains(words),
            "{refused:?}"
        );
        assert!(!Path::new(&home).exists(), "nothing was made");
    }
    // What a framework refuses ends the cluster again.
    let file = job(dir.path(), "bad", " ");
    let mut local = Local::start(dir.path(), &[&file]);
    assert!(!local.ended(), "{}", local.text());
    assert!(local.said("ended: no process is left"), "{}", local.text());
}

#[test]
fn commands_without_a_cluster_say_what_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let [port, ..] = free_ports();
    let nobody = format!("127.0.0.1:{port}");
    for (line, words) in [
        (vec!["status", "--master", &nobody], "mezzo local"),
        (vec!["tasks", "--master", "zk://"], "--master"),
        (vec!["app", "list", "--service", &nobody], "mezzo service"),
        (vec!["job", "list", "--batch", &nobody], "mezzo batch"),
        (vec!["job", "run", "x.json", "--batch", &nobody], "x.json"),
        (vec!["logs", "x", "--master", &nobody], "mezzo local"),
    ] {
        let refused = Program::run(dir.path(), &line);
        assert!(
            !refused.success && refused.err.starts_with("error: "),
            "{line:?}: {refused:?}"
        );
        assert!(refused.err.contains(words), "{line:?}: {refused:?}");
    }
}

#[test]
fn the_little_web_server_serves_and_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut hello = Program::spawn(
        dir.path(),
        &["hello", "--port", "0"],
        &[("HOST", "127.0.0.1")],
    );
    hello.until("hello is at http://127.0.0.1:");
    let text = hello.text();
    let addr = text
        .split("http://")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    let addr = addr.expect("an address").to_owned();
    assert!(process::get(&addr, "/health").starts_with("HTTP/1.1 200"));
    assert!(process::get(&addr, "/").contains("Hello, world!"));
    hello.terminate();
    assert!(
        hello.ended() && hello.said("hello has ended"),
        "{}",
        hello.text()
    );
    let port = addr.split(':').nth(1).expect("a port").to_owned();
    let _held = TcpListener::bind(&addr).expect("it is free again");
    let taken = Program::run(dir.path(), &["hello", "--port", &port]);
    assert!(!taken.success && taken.err.contains("taken"), "{taken:?}");
}

#[test]
fn a_daemon_logs_as_asked_and_ends_cleanly() {
    let dir = tempfile::tempdir().expect("a directory");
    let work = format!("--work_dir={}", dir.path().join("master").display());
    let line = ["master", "--port=0", &work, "--log_format=json"];
    let mut master = Program::spawn(dir.path(), &line, &[]);
    master.until("the master listens");
    master.terminate();
    assert!(master.ended(), "{}", master.text());
    for line in master.text().lines() {
        let entry: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(
            entry["level"].is_string() && entry["timestamp"].is_string(),
            "{line}"
        );
    }
    let open = Program::run(dir.path(), &["master", "--port=0", &work, "--ip=0.0.0.0"]);
    assert!(
        !open.success && open.err.contains("--credentials"),
        "closed by default: {open:?}"
    );
    let Answer { success, out, .. } = Program::run(dir.path(), &["--version"]);
    assert!(success && out.starts_with("mezzo "), "{out}");
}
