//! The daemon on loopback with the embedded store; nobody plays the master.

use std::path::Path;

use clap::Parser;
use serde_json::{Value, json};

use super::*;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    flags: Flags,
}

fn flags(work_dir: &Path, more: &[&str]) -> Flags {
    let work_dir = format!("--work_dir={}", work_dir.display());
    let mut all = vec!["service", "--port=0", work_dir.as_str()];
    if !more.iter().any(|flag| flag.starts_with("--master")) {
        // Port 1 of the host: nobody listens there.
        all.push("--master=127.0.0.1:1");
    }
    Command::parse_from(all.into_iter().chain(more.iter().copied())).flags
}

/// Status, body and headers.
type Answered = (u16, Value, reqwest::header::HeaderMap);

struct Daemon {
    running: Running,
    stop: Stop,
    client: reqwest::Client,
}

impl Daemon {
    async fn start(work_dir: &Path, more: &[&str]) -> Self {
        let stop = Stop::new();
        let running = start(flags(work_dir, more), stop.clone())
            .await
            .expect("starts");
        let client = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client");
        Self {
            running,
            stop,
            client,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.running.addr)
    }

    /// Sends a request; again while no leader is known, for which each waits by itself, up to a bound for failures.
    async fn send(&self, method: &str, path: &str, body: Option<Value>) -> Answered {
        let until = std::time::Instant::now() + Duration::from_secs(60);
        loop {
            let answered = self.send_once(method, path, body.as_ref()).await;
            if answered.0 != 502 || std::time::Instant::now() > until {
                return answered;
            }
        }
    }

    async fn send_once(&self, method: &str, path: &str, body: Option<&Value>) -> Answered {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = self.client.request(method, self.url(path));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.expect("a body");
        (
            status,
            serde_json::from_str(&text).unwrap_or(Value::String(text)),
            headers,
        )
    }

    async fn end(self) {
        self.stop.stop();
        self.running.ended().await;
    }
}

#[tokio::test]
async fn apps_outlive_the_process() {
    let dir = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(dir.path(), &[]).await;
    daemon.running.health.until_good().await;
    let (status, body, headers) = daemon
        .send(
            "POST",
            "/v2/apps",
            Some(json!({"id": "/web", "cmd": "x", "instances": 3})),
        )
        .await;
    assert_eq!((status, &body["id"]), (201, &json!("/web")), "{body}");
    assert_eq!(headers["location"], "/web");
    assert_eq!(
        headers["cache-control"],
        "no-cache, no-store, must-revalidate"
    );
    assert_eq!(
        headers["x-marathon-leader"],
        format!("http://{}", daemon.running.addr).as_str()
    );
    let (status, body, _) = daemon
        .send("POST", "/v2/apps", Some(json!({"id": "/web", "cmd": "x"})))
        .await;
    assert_eq!(status, 409, "{body}");
    daemon.running.health.until_good().await;
    let (status, body, _) = daemon.send("GET", "/metrics", None).await;
    assert_eq!(status, 200);
    assert!(
        body.as_str()
            .is_some_and(|text| text.contains("mezzo_service_leading 1")),
        "{body}"
    );
    daemon.end().await;

    let again = Daemon::start(dir.path(), &[]).await;
    let (status, body, _) = again.send("GET", "/v2/apps/web", None).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["app"]["instances"], 3);
    let (_, deployments, _) = again.send("GET", "/v2/deployments", None).await;
    assert_eq!(
        deployments.as_array().map(Vec::len),
        Some(1),
        "still under way"
    );
    let (_, queue, _) = again.send("GET", "/v2/queue", None).await;
    assert_eq!(queue["queue"][0]["count"], 3);
    again.end().await;
}

#[tokio::test]
async fn pages_besides_the_apps() {
    let dir = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(dir.path(), &["--framework_name=svc"]).await;
    daemon.running.health.until_good().await;
    assert_eq!(daemon.send("GET", "/ping", None).await.1, "pong");
    let (_, info, _) = daemon.send("GET", "/v2/info", None).await;
    assert_eq!(info["marathon_config"]["framework_name"], "svc");
    assert_eq!(info["marathon_config"]["mesos_user"], "nobody");
    assert_eq!(info["http_config"]["http_port"], daemon.running.addr.port());
    let (_, leader, _) = daemon.send("GET", "/v2/leader", None).await;
    assert_eq!(leader["leader"], daemon.running.addr.to_string());
    let (status, body, _) = daemon.send("GET", "/nothing", None).await;
    assert_eq!((status, &body["message"]), (404, &json!("URI not found")));
    let large = json!({"id": "/large", "cmd": "x".repeat(2 * 1024 * 1024)});
    let (status, body, _) = daemon.send("POST", "/v2/apps", Some(large)).await;
    assert_eq!(status, 413, "{body}");
    let (status, body, _) = daemon.send("PUT", "/v2/leader", None).await;
    assert_eq!(status, 405, "{body}");
    daemon.end().await;
}

#[tokio::test]
async fn a_second_process_stands_by_passes_on_and_takes_over() {
    let dir = tempfile::tempdir().expect("a folder");
    let first = Daemon::start(dir.path(), &[]).await;
    first.running.health.until_good().await;
    let second = Daemon::start(dir.path(), &[]).await;
    second.running.health.until_good().await;
    let (status, body, headers) = second
        .send("POST", "/v2/apps", Some(json!({"id": "/web", "cmd": "x"})))
        .await;
    assert_eq!(status, 201, "{body}");
    assert_eq!(
        headers["x-marathon-leader"],
        format!("http://{}", first.running.addr).as_str()
    );
    assert_eq!(
        headers["x-marathon-via"],
        format!("1.1 {}", second.running.addr).as_str()
    );
    let (_, leader, _) = second.send("GET", "/v2/leader", None).await;
    assert_eq!(leader["leader"], first.running.addr.to_string());
    let looped = second
        .client
        .get(second.url("/v2/apps"))
        .header("x-marathon-via", format!("1.1 {}", second.running.addr))
        .send()
        .await
        .expect("an answer");
    assert_eq!(looped.status().as_u16(), 502);
    assert!(
        looped
            .text()
            .await
            .expect("a body")
            .contains("Detected proxying loop.")
    );
    first.end().await;
    // The one that ended may be named as the leader for a moment.
    let (status, body, headers) = second.send("GET", "/v2/apps/web", None).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(
        headers["x-marathon-leader"],
        format!("http://{}", second.running.addr).as_str()
    );
    second.end().await;
}

#[tokio::test]
async fn the_door_is_closed_to_strangers() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("credentials");
    std::fs::write(&file, "ann secret\n").expect("written");
    let daemon = Daemon::start(dir.path(), &[&format!("--credentials={}", file.display())]).await;
    assert_eq!(daemon.send("GET", "/v2/apps", None).await.0, 401);
    assert_eq!(daemon.send("GET", "/ping", None).await.0, 200);
    let known = daemon
        .client
        .get(daemon.url("/v2/apps"))
        .basic_auth("ann", Some("secret"));
    assert_eq!(
        known.send().await.expect("an answer").status().as_u16(),
        200
    );
    daemon.end().await;
}

#[tokio::test]
async fn bad_flags_are_refused_in_words() {
    let dir = tempfile::tempdir().expect("a folder");
    let missing = dir.path().join("missing");
    let empty = dir.path().join("empty");
    std::fs::write(&empty, "only-a-principal").expect("written");
    for (flag, words) in [
        (
            "--master=zk://nowhere".to_owned(),
            "--master: `zk://` needs a path",
        ),
        (
            "--zk=ftp://x/y".to_owned(),
            "--zk: `ftp://` is not a known scheme",
        ),
        ("--zk=host:2181".to_owned(), "names one fixed leader"),
        ("--mesos_role=a//b".to_owned(), "--mesos_role: Role 'a//b'"),
        (
            "--local_port_min=30000".to_owned(),
            "lies above --local_port_max=20000",
        ),
        ("--ip=0.0.0.0".to_owned(), "refusing to listen on 0.0.0.0"),
        (
            format!("--credentials={}", missing.display()),
            "No such file",
        ),
        (
            format!("--credential={}", empty.display()),
            "write one line `principal secret`",
        ),
        (
            "--mesos_authentication_principal=p".to_owned(),
            "go together",
        ),
    ] {
        let refused = start(flags(dir.path(), &[&flag]), Stop::new())
            .await
            .expect_err(&flag)
            .to_string();
        assert!(refused.contains(words), "{flag}: {refused}");
    }
}
