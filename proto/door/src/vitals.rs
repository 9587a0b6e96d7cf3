//! `/health` and `/metrics`, the two pages that every daemon has.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use prometheus_client::encoding::text;
use prometheus_client::registry::{Metric, Registry};
use tokio::sync::watch;

/// A registry of metrics that belongs to one daemon, so that several daemons in one process do not mix their numbers.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// A registry whose metrics all begin with `prefix_`, such as `mezzo_master`.
    pub fn with_prefix(prefix: &str) -> Self {
        Self(Arc::new(Mutex::new(Registry::with_prefix(prefix))))
    }

    /// Registers a metric and gives it back, ready to be counted.
    pub fn register<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        let mut registry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register(name, help, metric.clone());
        metric
    }

    /// Registers a collector that is asked at each scrape.
    pub fn register_collector(&self, collector: Box<dyn prometheus_client::collector::Collector>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .register_collector(collector);
    }

    /// The page, in OpenMetrics text form.
    pub fn render(&self) -> String {
        let mut page = String::new();
        let registry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match text::encode(&mut page, &registry) {
            Ok(()) => page,
            Err(fmt::Error) => String::from("# EOF\n"),
        }
    }
}

/// Whether a daemon can serve, told by its shell and asked by `/health`.
#[derive(Clone, Debug)]
pub struct Health(Arc<watch::Sender<Result<(), String>>>);

impl Default for Health {
    fn default() -> Self {
        Self::starting()
    }
}

impl Health {
    /// Not able to serve yet.
    pub fn starting() -> Self {
        Self(Arc::new(watch::Sender::new(Err(String::from("starting")))))
    }

    /// Able to serve.
    pub fn good(&self) {
        drop(self.0.send_replace(Ok(())));
    }

    /// Not able to serve, in words for a person.
    pub fn bad(&self, why: impl Into<String>) {
        drop(self.0.send_replace(Err(why.into())));
    }

    /// The last word.
    pub fn now(&self) -> Result<(), String> {
        self.0.borrow().clone()
    }

    /// Completes once the daemon can serve.
    pub async fn until_good(&self) {
        let mut told = self.0.subscribe();
        // The sender lives in `self`, so waiting cannot end otherwise.
        let _ = told.wait_for(Result::is_ok).await;
    }
}

/// The two pages together.
#[derive(Clone, Debug)]
pub struct Vitals {
    /// What `/health` says.
    pub health: Health,
    /// What `/metrics` shows.
    pub metrics: Metrics,
}

impl Vitals {
    /// Vitals of a daemon that starts; metric names begin with `prefix_`.
    pub fn new(prefix: &str) -> Self {
        Self {
            health: Health::starting(),
            metrics: Metrics::with_prefix(prefix),
        }
    }

    /// The routes `/health` (200, or 503 with the reason) and `/metrics`.
    pub fn routes(&self) -> Router {
        let health = self.health.clone();
        let metrics = self.metrics.clone();
        Router::new()
            .route(
                "/health",
                get(move || std::future::ready(health_page(&health))),
            )
            .route(
                "/metrics",
                get(move || std::future::ready(metrics_page(&metrics))),
            )
    }
}

fn health_page(health: &Health) -> Response {
    match health.now() {
        Ok(()) => StatusCode::OK.into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why).into_response(),
    }
}

fn metrics_page(metrics: &Metrics) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, OPEN_METRICS)], metrics.render()).into_response()
}
