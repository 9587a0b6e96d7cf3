//! The four daemons as processes of their own, closed to strangers: the cluster of the README, on loopback.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use mezzo_model::credentials::basic_header;
use nix::unistd::{Uid, User};
use serde_json::{Value, json};

use super::process::{Answer, Program, end_leftovers, free_ports, processes_naming};

/// Nothing here takes long; a bound that is hit means that it never came.
const BOUND: Duration = Duration::from_secs(60);

const DAEMONS: [&str; 4] = ["master", "agent", "service", "batch"];

/// What no other process of the machine is called.
const PAYLOAD: &str = "sleep 54321.5";

struct Cluster<'a> {
    dir: &'a Path,
    credential: String,
    ports: [u16; 4],
    /// In the order of [`DAEMONS`].
    running: Vec<Program>,
}

impl<'a> Cluster<'a> {
    fn new(dir: &'a Path) -> Self {
        let file = dir.join("credentials");
        // The one line is a list of one for who is asked, and a credential for who asks.
        fs::write(&file, "mezzo 5ecret\n").expect("writes");
        Self {
            dir,
            credential: file.display().to_string(),
            ports: free_ports(),
            running: Vec::new(),
        }
    }

    fn flags(&self, daemon: &str) -> Vec<String> {
        let (dir, file) = (self.dir.display(), &self.credential);
        let mut flags = vec![
            daemon.to_owned(),
            format!("--work_dir={dir}/{daemon}"),
            format!("--credentials={file}"),
            "--log_format=json".to_owned(),
        ];
        if daemon != "master" {
            flags.push(format!("--master=file://{dir}/master/state"));
            flags.push(format!("--credential={file}"));
        }
        if daemon == "agent" {
            flags.push("--resources=cpus:2;mem:2048;disk:2048;ports:[31000-31009]".to_owned());
            flags.push("--containerizers=process".to_owned());
            let groups = mezzo_cli::local::leftovers::cgroups_root(self.dir);
            flags.push(format!("--cgroups_root={groups}"));
        } else if daemon != "master" && !Uid::effective().is_root() {
            // An agent without privileges runs tasks as its own user only.
            let own = User::from_uid(Uid::effective()).expect("asked");
            flags.push(format!("--mesos_user={}", own.expect("a user").name));
        }
        flags
    }

    fn start(&mut self) {
        for (daemon, port) in DAEMONS.into_iter().zip(self.ports) {
            let flags = self.flags(daemon);
            let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
            // One flag of each from the environment, under the daemon's own name.
            let name = format!("MEZZO_{}_PORT", daemon.to_ascii_uppercase());
            let env = [(name.as_str(), port.to_string())];
            let env = env.each_ref().map(|(name, port)| (*name, port.as_str()));
            self.running.push(Program::spawn(self.dir, &flags, &env));
        }
        for port in self.ports {
            until(&format!("health at port {port}"), || {
                let answer = get(port, "/health", None).map_err(|error| error.to_string())?;
                if answer.starts_with("HTTP/1.1 200") {
                    Ok(())
                } else {
                    Err(answer)
                }
            });
        }
    }

    /// SIGTERM for each, from the frameworks down; each must end well and have logged in JSON.
    fn terminate(&mut self) {
        while let Some(mut daemon) = self.running.pop() {
            daemon.terminate();
            assert!(daemon.ended(), "{}", daemon.text());
            for line in daemon.text().lines() {
                let entry: Value =
                    serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
                assert!(entry["level"].is_string(), "{line}");
            }
        }
    }

    /// A command that is told where everything is, with or without a name.
    fn ask(&self, line: &[&str], with_credential: bool) -> Answer {
        let [master, _, service, batch] = self.ports.map(|port| format!("127.0.0.1:{port}"));
        let mut line = line.to_vec();
        line.extend([
            "--master",
            &master,
            "--service",
            &service,
            "--batch",
            &batch,
        ]);
        if with_credential {
            line.extend(["--credential", &self.credential]);
        }
        Program::run(self.dir, &line)
    }

    /// The process ids of the app's payload, by the kernel's word.
    fn payload(&self) -> Vec<String> {
        let lines = processes_naming(&self.dir.display().to_string());
        let ours = lines
            .iter()
            .filter_map(|line| line.trim_end().split_once(' '))
            .filter(|(_, arguments)| *arguments == PAYLOAD);
        ours.map(|(pid, _)| pid.to_owned()).collect()
    }

    fn write(&self, name: &str, document: &Value) -> String {
        let path = self.dir.join(name);
        fs::write(&path, document.to_string()).expect("writes");
        path.display().to_string()
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        self.running.clear();
        end_leftovers(self.dir);
    }
}

/// Looks until it is so: another process gives no event to wait for.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + BOUND;
    loop {
        match look() {
            Ok(seen) => return seen,
            Err(why) => assert!(Instant::now() < deadline, "{what}: {why}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn get(port: u16, path: &str, authorization: Option<&str>) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let proof =
        authorization.map_or_else(String::new, |proof| format!("Authorization: {proof}\r\n"));
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{proof}\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn a_closed_cluster_lets_its_own_in_and_its_end_touches_no_task() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut cluster = Cluster::new(dir.path());
    cluster.start();
    strangers_are_refused(&cluster);
    let app = json!({
        "id": "/keeper", "cmd": format!("exec {PAYLOAD}"), "cpus": 0.1, "mem": 32, "ports": [],
        "healthChecks": [{
            "protocol": "COMMAND", "command": {"value": "test -n \"$MESOS_TASK_ID\""},
            "intervalSeconds": 1, "timeoutSeconds": 5,
        }],
    });
    let file = cluster.write("app.json", &app);
    let deployed = cluster.ask(&["app", "deploy", &file, "-o", "json"], true);
    assert_eq!(deployed.json()[0]["running"], json!(true));
    let job = json!({"id": "one", "run": {"cpus": 0.1, "mem": 32, "disk": 0, "cmd": "echo from the job"}});
    let file = cluster.write("job.json", &job);
    cluster.ask(&["job", "run", "--wait", &file], true).good();
    let written = cluster.ask(&["logs", "one"], true).good();
    assert_eq!(written, "from the job\n");
    let listed = cluster.ask(&["app", "list", "-o", "json"], true).json();
    assert_eq!(
        [&listed[0]["running"], &listed[0]["healthy"]],
        [&json!(1), &json!(1)],
        "the executor's own check said so: {listed}"
    );
    let status = cluster.ask(&["status", "-o", "json"], true).json();
    assert_eq!(
        [&status["agents_active"], &status["frameworks"]],
        [&json!(1), &json!(2)],
        "{status}"
    );
    let payload = cluster.payload();
    assert_eq!(payload.len(), 1, "{payload:?}");

    cluster.terminate();
    assert_eq!(cluster.payload(), payload, "no task was touched");
    cluster.start();
    until("the task is known again", || {
        let tasks = cluster.ask(&["tasks", "-o", "json"], true).json();
        let healthy = tasks[0]["state"] == "TASK_RUNNING" && tasks[1].is_null();
        if healthy {
            Ok(())
        } else {
            Err(tasks.to_string())
        }
    });
    assert_eq!(cluster.payload(), payload, "it was adopted");
    let killed = cluster.ask(&["app", "kill", "/keeper"], true).good();
    assert!(killed.contains("/keeper ends"), "{killed}");
    until("the end of the task", || {
        let left = cluster.payload();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
    cluster.terminate();
}

fn strangers_are_refused(cluster: &Cluster<'_>) {
    for line in [
        &["status"][..],
        &["tasks"],
        &["app", "list"],
        &["job", "list"],
    ] {
        let refused = cluster.ask(line, false);
        assert!(
            !refused.success && refused.err.contains("--credential"),
            "it says what to do: {line:?}: {refused:?}"
        );
    }
    let proof = basic_header("mezzo", "5ecret");
    for (daemon, port) in DAEMONS.into_iter().zip(cluster.ports) {
        let asked = |proof| get(port, "/metrics", proof).expect("an answer");
        assert!(asked(None).starts_with("HTTP/1.1 401"), "{daemon}");
        let wrong = basic_header("mezzo", "guess");
        assert!(asked(Some(&wrong)).starts_with("HTTP/1.1 401"), "{daemon}");
        let told = asked(Some(&proof));
        assert!(
            told.starts_with("HTTP/1.1 200") && told.contains(&format!("mezzo_{daemon}_")),
            "{daemon}: {told}"
        );
    }
}
