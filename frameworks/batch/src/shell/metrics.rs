//! The numbers of `/metrics`.

use std::sync::atomic::AtomicU64;

use mezzo_door::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::core::Totals;

/// Gauges and counters that follow a core's totals.
#[derive(Clone, Debug)]
pub struct Gauges {
    jobs: Gauge,
    active_runs: Gauge,
    queued_runs: Gauge,
    leading: Gauge,
    launched: Counter<u64, AtomicU64>,
    succeeded: Counter<u64, AtomicU64>,
    failed: Counter<u64, AtomicU64>,
    commits: Counter<u64, AtomicU64>,
    offers: Counter<u64, AtomicU64>,
    before: Totals,
}

impl Gauges {
    /// Registers them.
    pub fn register(metrics: &Metrics) -> Self {
        Self {
            jobs: metrics.register("jobs", "Jobs", Gauge::default()),
            active_runs: metrics.register(
                "active_runs",
                "Runs that have not ended",
                Gauge::default(),
            ),
            queued_runs: metrics.register(
                "queued_runs",
                "Runs that wait for an offer",
                Gauge::default(),
            ),
            leading: metrics.register("leading", "1 if this process leads", Gauge::default()),
            launched: metrics.register(
                "launched",
                "Attempts that were launched",
                Counter::default(),
            ),
            succeeded: metrics.register("succeeded", "Runs that ended well", Counter::default()),
            failed: metrics.register("failed", "Runs that ended badly", Counter::default()),
            commits: metrics.register(
                "commits",
                "Transactions handed to the store",
                Counter::default(),
            ),
            offers: metrics.register("offers", "Offers that came in", Counter::default()),
            before: Totals::default(),
        }
    }

    /// Another core, which counts from zero.
    pub fn begin(&mut self) {
        self.before = Totals::default();
        self.leading.set(1);
    }

    /// No core.
    pub fn end(&mut self) {
        self.show(&Totals::default());
        self.leading.set(0);
    }

    /// Shows the totals as they are now.
    pub fn show(&mut self, now: &Totals) {
        let size = |size: usize| i64::try_from(size).unwrap_or(i64::MAX);
        self.jobs.set(size(now.jobs));
        self.active_runs.set(size(now.active_runs));
        self.queued_runs.set(size(now.queued_runs));
        for (counter, now, before) in [
            (&self.launched, now.launched, self.before.launched),
            (&self.succeeded, now.succeeded, self.before.succeeded),
            (&self.failed, now.failed, self.before.failed),
            (&self.commits, now.commits, self.before.commits),
            (&self.offers, now.offers, self.before.offers),
        ] {
            counter.inc_by(now.saturating_sub(before));
        }
        self.before = *now;
    }
}
