//! `mezzo app deploy`, `list`, `scale` and `kill`.

use std::path::PathBuf;
use std::time::Duration;

use http::{Method, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::answer;
use super::show::text;
use crate::client::rest::Rest;
use crate::deploy::{self, app_path, with_force};
use crate::endpoints::Where;
use crate::failure::Failure;
use crate::files::{self, Document};
use crate::output::{self, Format, Row, mebibytes, rows, short};

/// How often a deployment is looked at while it is waited for: the framework has no stream of events yet.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What to do with apps.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum AppCommand {
    /// Make apps, or replace them, and wait until they run
    Deploy {
        /// Files with apps, one or an array each; - is the standard input.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Do not wait until the apps run.
        #[arg(long = "no_wait", alias = "no-wait")]
        no_wait: bool,
        /// For how many seconds to wait.
        #[arg(long, default_value_t = 300, value_name = "SECONDS")]
        timeout: u64,
        /// Give up a deployment of the same app that is under way.
        #[arg(long)]
        force: bool,
        /// Where the cluster is.
        #[command(flatten)]
        place: Where,
    },
    /// Show all apps
    List {
        /// Where the cluster is.
        #[command(flatten)]
        place: Where,
    },
    /// Change how many instances of an app run
    Scale {
        /// The app.
        id: String,
        /// How many.
        instances: u32,
        /// Give up a deployment of the same app that is under way.
        #[arg(long)]
        force: bool,
        /// Where the cluster is.
        #[command(flatten)]
        place: Where,
    },
    /// End an app: all its instances, and the app itself
    Kill {
        /// The app.
        id: String,
        /// Give up a deployment of the same app that is under way.
        #[arg(long)]
        force: bool,
        /// Where the cluster is.
        #[command(flatten)]
        place: Where,
    },
}

/// Carries a command out.
///
/// # Errors
/// If the service framework does not answer or refuses, or an app does not run in time.
pub async fn run(command: AppCommand) -> Result<(), Failure> {
    match command {
        AppCommand::Deploy {
            files,
            no_wait,
            timeout,
            force,
            place,
        } => deploy_all(&files, (!no_wait).then_some(timeout), force, &place).await,
        AppCommand::List { place } => list(&place).await,
        AppCommand::Scale {
            id,
            instances,
            force,
            place,
        } => {
            let service = Rest::service(&place.endpoints()?);
            let path = with_force(&app_path(&id), force);
            let changed = json!({"instances": instances});
            let answered = service.ask(Method::PUT, &path, Some(&changed)).await?;
            tell(
                &answered,
                &format!("{id} goes to {instances} instances"),
                &place,
            )
        }
        AppCommand::Kill { id, force, place } => {
            let service = Rest::service(&place.endpoints()?);
            let path = with_force(&app_path(&id), force);
            let answered = service.ask(Method::DELETE, &path, None).await?;
            tell(&answered, &format!("{id} ends"), &place)
        }
    }
}

fn tell(answered: &Value, words: &str, place: &Where) -> Result<(), Failure> {
    match place.output {
        Format::Json => answer(&output::json(answered)),
        Format::Table => match deploy::deployments(answered).first() {
            Some(deployment) => answer(&format!("{words} (deployment {deployment})\n")),
            None => answer(&format!("{words}\n")),
        },
    }
}

#[derive(Debug, Serialize)]
struct Done {
    id: String,
    replaced: bool,
    deployments: Vec<String>,
    running: bool,
}

async fn deploy_all(
    files: &[PathBuf],
    wait: Option<u64>,
    force: bool,
    place: &Where,
) -> Result<(), Failure> {
    let mut apps = Vec::new();
    for file in files {
        for document in files::read(file)? {
            match document {
                Document::App(app) => apps.push(app),
                Document::Job(job) => {
                    let words = format!(
                        "{} is a job: run it with `mezzo job run {}`",
                        text(&job["id"]),
                        file.display()
                    );
                    return Err(Failure::Document {
                        path: file.clone(),
                        words,
                    });
                }
            }
        }
    }
    let service = Rest::service(&place.endpoints()?);
    let mut done = Vec::new();
    for app in &apps {
        let deployed = deploy::app(&service, app, force).await?;
        if place.output == Format::Table {
            let how = if deployed.replaced {
                "is being replaced"
            } else {
                "is being started"
            };
            answer(&format!("{} {how}\n", deployed.id))?;
        }
        done.push(deployed);
    }
    if let Some(seconds) = wait {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        for deployed in &done {
            wait_for(
                &service,
                &deployed.deployments,
                &deployed.id,
                deadline,
                seconds,
            )
            .await?;
            if place.output == Format::Table {
                answer(&format!("{} runs\n", deployed.id))?;
            }
        }
    }
    if place.output == Format::Json {
        let running = wait.is_some();
        let done: Vec<Done> = done
            .into_iter()
            .map(|one| Done {
                id: one.id,
                replaced: one.replaced,
                deployments: one.deployments,
                running,
            })
            .collect();
        answer(&output::json(&done))?;
    }
    Ok(())
}

/// Waits until none of the deployments is under way any more.
async fn wait_for(
    service: &Rest,
    deployments: &[String],
    id: &str,
    deadline: Instant,
    seconds: u64,
) -> Result<(), Failure> {
    loop {
        let under_way = service.list("/v2/deployments", None).await?;
        let ours = |one: &Value| deployments.iter().any(|id| one["id"] == id.as_str());
        if !under_way.iter().any(ours) {
            break;
        }
        if Instant::now() >= deadline {
            return Err(Failure::Late {
                what: format!("the deployment of {id}"),
                seconds,
            });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    // It may have ended because somebody gave it up.
    match service.send(Method::GET, &app_path(id), None).await? {
        (StatusCode::NOT_FOUND, _) => Err(Failure::Refused {
            who: "service framework",
            status: StatusCode::NOT_FOUND,
            words: format!("{id} was removed while it was being deployed"),
        }),
        _ => Ok(()),
    }
}

#[derive(Debug, Serialize)]
struct App {
    id: String,
    instances: u64,
    running: u64,
    healthy: u64,
    unhealthy: u64,
    staged: u64,
    cpus: f64,
    mem: f64,
    deploying: bool,
    command: String,
}

impl App {
    fn of(app: &Value) -> Self {
        let count = |name: &str| app[name].as_u64().unwrap_or(0);
        let command = match (&app["cmd"], app["args"].as_array()) {
            (Value::String(line), _) => line.clone(),
            (_, Some(words)) => words.iter().map(text).collect::<Vec<_>>().join(" "),
            (_, None) => String::new(),
        };
        Self {
            id: text(&app["id"]),
            instances: count("instances"),
            running: count("tasksRunning"),
            healthy: count("tasksHealthy"),
            unhealthy: count("tasksUnhealthy"),
            staged: count("tasksStaged"),
            cpus: app["cpus"].as_f64().unwrap_or(0.0),
            mem: app["mem"].as_f64().unwrap_or(0.0),
            deploying: app["deployments"]
                .as_array()
                .is_some_and(|list| !list.is_empty()),
            command,
        }
    }
}

impl Row for App {
    const TITLES: &'static [&'static str] = &[
        "ID",
        "RUNNING",
        "HEALTHY",
        "UNHEALTHY",
        "CPUS",
        "MEM",
        "DEPLOYING",
        "COMMAND",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            format!("{}/{}", self.running, self.instances),
            self.healthy.to_string(),
            self.unhealthy.to_string(),
            short(self.cpus),
            mebibytes(self.mem),
            if self.deploying { "yes" } else { "no" }.to_owned(),
            self.command.chars().take(60).collect(),
        ]
    }
}

async fn list(place: &Where) -> Result<(), Failure> {
    let service = Rest::service(&place.endpoints()?);
    let apps = service.list("/v2/apps", Some("apps")).await?;
    let apps: Vec<App> = apps.iter().map(App::of).collect();
    answer(&rows(&apps, place.output))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apps_are_rows() {
        let app = json!({
            "id": "/hello", "instances": 3, "tasksRunning": 2, "tasksHealthy": 1, "tasksUnhealthy": 0,
            "tasksStaged": 1, "cpus": 0.1, "mem": 64, "deployments": [{"id": "d"}], "cmd": "mezzo hello",
        });
        let expected = "ID      RUNNING  HEALTHY  UNHEALTHY  CPUS  MEM  DEPLOYING  COMMAND\n\
                        /hello  2/3      1        0          0.1   64M  yes        mezzo hello\n";
        assert_eq!(rows(&[App::of(&app)], Format::Table), expected);
        let args = App::of(&json!({"id": "/x", "args": ["/bin/echo", "a"]}));
        assert_eq!(
            (args.command.as_str(), args.deploying),
            ("/bin/echo a", false)
        );
    }
}
