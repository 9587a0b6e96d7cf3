//! A real Prometheus on a free loopback port, asked through its own API.
//!
//! Invariant: it ends with the test, however that ends.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use mezzo_coordination::testing::free_port;
use mezzo_integration::real::{Rest, eventually_async};
use serde_json::Value;

const BINARY: &str = "/usr/bin/prometheus";
const BOUND: Duration = Duration::from_secs(60);

/// Whether Debian's package is installed.
pub fn is_installed() -> bool {
    Path::new(BINARY).exists()
}

/// A running server.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    api: Rest,
    log: PathBuf,
}

/// One number of an instant query.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The `host:port` that was scraped; empty for a sum.
    pub instance: String,
    pub value: f64,
}

impl Prometheus {
    /// Starts a server that scrapes these jobs every second, and waits until it is ready.
    ///
    /// # Errors
    /// If it does not become ready; its log is in the words.
    pub async fn start(dir: &Path, jobs: &[(&str, Vec<SocketAddr>)]) -> anyhow::Result<Self> {
        let dir = dir.join("prometheus");
        fs::create_dir_all(&dir)?;
        let config = dir.join("prometheus.yml");
        fs::write(&config, configuration(jobs))?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let log = dir.join("log");
        let output = File::create(&log)?;
        // setpriv(1) sets the parent-death signal and then becomes the server.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", BINARY])
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                dir.join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("starting Prometheus")?;
        let server = Self {
            child,
            api: Rest::new(&address)?,
            log,
        };
        let ready = eventually_async("Prometheus is ready", BOUND, || async {
            server.api.get("/-/ready").await
        });
        ready.await.with_context(|| server.log())?;
        Ok(server)
    }

    /// An instant query. The expression is to have no character that a query string has a meaning for.
    ///
    /// # Errors
    /// What Prometheus says against it.
    pub async fn query(&self, expression: &str) -> Result<Vec<Sample>, String> {
        let path = format!("/api/v1/query?query={expression}");
        let answer = self.api.get(&path).await?;
        let rows = answer["data"]["result"].as_array();
        let rows = rows.ok_or_else(|| format!("no result: {answer}"))?;
        rows.iter().map(sample).collect()
    }

    /// The names of all metrics that it has taken in.
    ///
    /// # Errors
    /// What Prometheus says against it.
    pub async fn metric_names(&self) -> Result<Vec<String>, String> {
        let answer = self.api.get("/api/v1/label/__name__/values").await?;
        let names = answer["data"].as_array();
        let names = names.ok_or_else(|| format!("no names: {answer}"))?;
        Ok(names
            .iter()
            .filter_map(|name| Some(name.as_str()?.to_owned()))
            .collect())
    }

    /// Type and help of every family, by its name.
    ///
    /// # Errors
    /// What Prometheus says against it.
    pub async fn families(&self) -> Result<Value, String> {
        Ok(self.api.get("/api/v1/metadata").await?["data"].take())
    }

    /// What it says about its targets, for the words of a failure.
    pub async fn targets(&self) -> String {
        match self.api.get("/api/v1/targets").await {
            Ok(targets) => targets["data"]["activeTargets"].to_string(),
            Err(error) => error,
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

fn sample(row: &Value) -> Result<Sample, String> {
    let text = row["value"][1].as_str();
    let value = text.and_then(|text| text.parse().ok());
    Ok(Sample {
        instance: row["metric"]["instance"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        value: value.ok_or_else(|| format!("no number: {row}"))?,
    })
}

fn configuration(jobs: &[(&str, Vec<SocketAddr>)]) -> String {
    let mut text =
        String::from("global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n");
    for (job, addresses) in jobs {
        let targets: Vec<String> = addresses.iter().map(|at| format!("'{at}'")).collect();
        let targets = targets.join(", ");
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  - job_name: {job}\n    static_configs:\n      - targets: [{targets}]"
        );
    }
    text
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Our own child: an error means that it has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
