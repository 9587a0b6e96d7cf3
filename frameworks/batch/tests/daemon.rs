//! The daemon as `mezzo batch` starts it: its flags, its port, its election and its store, without a cluster.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use clap::Parser;
use mezzo_batch::{Flags, Running, StartError, start};
use mezzo_door::Stop;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
}

fn flags(work_dir: &Path, more: &[&str]) -> Flags {
    let work_dir = format!("--work_dir={}", work_dir.display());
    let given = ["batch", "--port=0", "--master=127.0.0.1:1", &work_dir];
    Cli::try_parse_from(given.iter().chain(more))
        .expect("good flags")
        .flags
}

async fn ask(addr: SocketAddr, method: &str, path: &str, body: &str, more: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(addr).await.expect("connects");
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}");
    let request = format!("{head}Content-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.expect("writes");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("reads");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .expect("a status");
    (
        status,
        serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned())),
    )
}

async fn healthy(running: &Running) {
    let healthy = tokio::time::timeout(Duration::from_secs(20), running.health.until_good());
    healthy.await.expect("the daemon can serve");
}

fn job(id: &str) -> String {
    json!({"id": id, "run": {"cpus": 1, "mem": 32, "disk": 0, "cmd": "true"}}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_promised_is_there_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let stop = Stop::new();
    let first = start(flags(dir.path(), &[]), stop.clone())
        .await
        .expect("starts");
    healthy(&first).await;
    assert_eq!(
        ask(first.addr, "POST", "/v1/jobs", &job("a"), "").await.0,
        201
    );
    assert_eq!(
        ask(first.addr, "POST", "/v1/jobs/a/runs", "", "").await.0,
        201
    );
    stop.stop();
    first.ended().await;
    let stop = Stop::new();
    let second = start(flags(dir.path(), &[]), stop.clone())
        .await
        .expect("starts");
    healthy(&second).await;
    let (status, runs) = ask(second.addr, "GET", "/v1/jobs/a/runs", "", "").await;
    assert_eq!((status, runs.as_array().map(Vec::len)), (200, Some(1)));
    let (status, metrics) = ask(second.addr, "GET", "/metrics", "", "").await;
    assert_eq!(status, 200);
    let metrics = metrics.to_string();
    assert!(
        metrics.contains("mezzo_batch_jobs 1") && metrics.contains("mezzo_batch_leading 1"),
        "{metrics}"
    );
    stop.stop();
    second.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_stands_by_passes_on_and_takes_over() {
    let dir = tempfile::tempdir().expect("a directory");
    let (stop_first, stop_second) = (Stop::new(), Stop::new());
    let first = start(flags(dir.path(), &[]), stop_first.clone())
        .await
        .expect("starts");
    healthy(&first).await;
    let second = start(flags(dir.path(), &[]), stop_second.clone())
        .await
        .expect("starts");
    healthy(&second).await;
    assert_eq!(
        ask(second.addr, "POST", "/v1/jobs", &job("a"), "").await.0,
        201
    );
    let (_, leader) = ask(second.addr, "GET", "/leader", "", "").await;
    assert_eq!(leader["leader"], first.addr.to_string());
    stop_first.stop();
    first.ended().await;
    let takes_over = async {
        // Each answer says who leads; between two leaders it says that nobody does.
        while ask(second.addr, "GET", "/leader", "", "").await.1["leader"]
            != second.addr.to_string()
        {
            tokio::task::yield_now().await;
        }
        healthy(&second).await;
    };
    tokio::time::timeout(Duration::from_secs(20), takes_over)
        .await
        .expect("it leads now");
    assert_eq!(ask(second.addr, "GET", "/v1/jobs/a", "", "").await.0, 200);
    stop_second.stop();
    second.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_guard_everything_but_health() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("credentials");
    std::fs::write(&file, "ann secret\n").expect("writes");
    let stop = Stop::new();
    let given = format!("--credentials={}", file.display());
    let running = start(flags(dir.path(), &[&given]), stop.clone())
        .await
        .expect("starts");
    healthy(&running).await;
    assert_eq!(ask(running.addr, "GET", "/v1/jobs", "", "").await.0, 401);
    assert_eq!(ask(running.addr, "GET", "/health", "", "").await.0, 200);
    let known = "Authorization: Basic YW5uOnNlY3JldA==\r\n";
    assert_eq!(
        ask(running.addr, "GET", "/v1/jobs", "", known).await,
        (200, json!([]))
    );
    stop.stop();
    running.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_start_is_refused_in_words() {
    let dir = tempfile::tempdir().expect("a directory");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = format!("--port={}", taken.local_addr().expect("an address").port());
    let rows: Vec<(Vec<&str>, &str)> = vec![
        (vec!["--master=ftp://x"], "--master"),
        (vec!["--zk=zk://host"], "needs a path"),
        (vec!["--zk=host:5050"], "zk://"),
        (vec!["--mesos_role=a b"], "--mesos_role"),
        (vec!["--credentials=/does/not/exist"], "/does/not/exist"),
        (vec!["--mesos_authentication_principal=ann"], "go together"),
        (vec!["--ip=0.0.0.0"], "--credentials"),
        (vec![&port], "taken"),
    ];
    for (more, words) in rows {
        let given = ["batch"].iter().chain(&more);
        let mut changed = Cli::try_parse_from(given).expect("clap takes them").flags;
        changed.work_dir = dir.path().to_owned();
        if !more.iter().any(|flag| flag.starts_with("--port")) {
            changed.port = 0;
        }
        let refused: StartError = start(changed, Stop::new())
            .await
            .map(|_| ())
            .expect_err(words);
        assert!(refused.to_string().contains(words), "{refused}");
    }
    assert!(Cli::try_parse_from(["batch", "--zk_session_timeout=soon"]).is_err());
    assert!(Cli::try_parse_from(["batch", "--work-dir=/x", "--mesos-user=me"]).is_ok());
}
