//! `mezzo hello`: a little web server, so that a fresh machine has something to run.
//!
//! It listens where `PORT` says, as every app does that a framework starts, tells who it is, answers `/health`, and
//! ends in good order on SIGTERM.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::State;
use axum::response::Html;
use axum::routing::get;
use mezzo_door::{Bind, Stop};

use crate::failure::Failure;
use crate::output::say;
use crate::signals::Ending;

/// Flags of `mezzo hello`.
#[derive(Clone, Debug, clap::Args)]
pub struct Flags {
    /// The port to listen on; 0 lets the kernel choose.
    #[arg(long, env = "PORT", default_value_t = 8000)]
    pub port: u16,

    /// The address to listen on [default: HOST if that is an address, else 127.0.0.1]
    #[arg(long, env = "MEZZO_HELLO_IP")]
    pub ip: Option<IpAddr>,

    /// Whom to greet.
    #[arg(long, env = "MEZZO_HELLO_NAME", default_value = "world")]
    pub name: String,
}

#[derive(Debug)]
struct Page {
    name: String,
    task: String,
    host: String,
    visits: AtomicU64,
}

/// Serves until SIGTERM or Ctrl-C.
///
/// # Errors
/// If the port is taken.
pub async fn run(flags: Flags) -> Result<(), Failure> {
    let machine = |what: &str| {
        let what = what.to_owned();
        move |source| Failure::Machine { what, source }
    };
    let ending = Ending::listen().map_err(machine("listening for signals"))?;
    // A page for everybody is what it is for. A framework that starts it says in HOST where it will be looked for.
    let host = || {
        std::env::var("HOST")
            .ok()
            .and_then(|host| host.parse().ok())
    };
    let ip = flags
        .ip
        .or_else(host)
        .unwrap_or(IpAddr::from([127, 0, 0, 1]));
    let bind = Bind {
        ip,
        port: flags.port,
        credentials: None,
        insecure: true,
    };
    let door = bind.open().await.map_err(|error| Failure::Start {
        daemon: "hello".to_owned(),
        words: error.to_string(),
    })?;
    say(&format!("hello is at http://{}\n", door.addr())).map_err(machine("writing"))?;
    let stop = Stop::new();
    ending.stops(stop.clone());
    mezzo_door::serve(door, routes(flags.name), stop).await;
    say("hello has ended\n").map_err(machine("writing"))
}

fn routes(name: String) -> Router {
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| String::from("-"));
    let page = Arc::new(Page {
        name,
        task: variable("MESOS_TASK_ID"),
        host: variable("HOST"),
        visits: AtomicU64::new(0),
    });
    Router::new()
        .route("/", get(greet))
        .route("/health", get(|| async { "ok\n" }))
        .with_state(page)
}

async fn greet(State(page): State<Arc<Page>>) -> Html<String> {
    let visits = page
        .visits
        .fetch_add(1, Ordering::Relaxed)
        .saturating_add(1);
    let process = std::process::id();
    let [name, task, host] = [&page.name, &page.task, &page.host].map(|text| escape(text));
    Html(format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Hello</title>\n\
         <style>body{{font:1.1rem/1.5 system-ui,sans-serif;margin:4rem auto;max-width:40rem;padding:0 1rem}}\
         td{{padding:.1rem 1rem .1rem 0}}</style></head>\n\
         <body><h1>Hello, {name}!</h1>\n<p>This page comes from a task that Mezzo runs.</p>\n\
         <table><tr><td>task</td><td>{task}</td></tr><tr><td>host</td><td>{host}</td></tr>\
         <tr><td>process</td><td>{process}</td></tr><tr><td>visits</td><td>{visits}</td></tr></table>\n\
         </body></html>\n"
    ))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_greets_and_is_healthy() {
        let door = Bind::loopback(0).open().await.expect("a port");
        let (addr, stop) = (door.addr(), Stop::new());
        let served = tokio::spawn(mezzo_door::serve(
            door,
            routes("<you>".to_owned()),
            stop.clone(),
        ));
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client");
        let get = |path: &str| client.get(format!("http://{addr}{path}")).send();
        assert_eq!(get("/health").await.expect("an answer").status(), 200);
        for visits in 1..3 {
            let page = get("/")
                .await
                .expect("an answer")
                .text()
                .await
                .expect("a text");
            assert!(page.contains("Hello, &lt;you&gt;!"), "{page}");
            assert!(
                page.contains(&format!("<td>visits</td><td>{visits}</td>")),
                "{page}"
            );
        }
        assert_eq!(get("/else").await.expect("an answer").status(), 404);
        stop.stop();
        served.await.expect("ends");
    }
}
