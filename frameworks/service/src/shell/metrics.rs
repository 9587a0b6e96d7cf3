//! The numbers of `/metrics`.

use std::sync::atomic::AtomicU64;

use mezzo_door::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::core::Counters;

type Total = Counter<u64, AtomicU64>;

/// Reads one number of the core.
type Read = fn(&Counters) -> u64;

const GAUGES: [(&str, &str, Read); 7] = [
    ("apps", "Apps", |c| c.apps),
    ("deployments", "Deployments under way", |c| {
        c.deployments_active
    }),
    ("instances_running", "Instances that run", |c| {
        c.instances_running
    }),
    (
        "instances_staged",
        "Instances that were launched and do not run yet",
        |c| c.instances_staged,
    ),
    (
        "instances_waiting",
        "Instances that wait for an offer",
        |c| c.instances_waiting,
    ),
    (
        "instances_unreachable",
        "Instances whose agent cannot be reached",
        |c| c.instances_unreachable,
    ),
    (
        "quarantined_tasks",
        "Tasks of ours that no record knows, left alone",
        |c| c.quarantined_tasks,
    ),
];

const TOTALS: [(&str, &str, Read); 10] = [
    ("tasks_launched", "Tasks that were launched", |c| {
        c.tasks_launched
    }),
    ("offers_received", "Offers that came in", |c| {
        c.offers_received
    }),
    ("offers_used", "Offers that were used", |c| c.offers_used),
    ("offers_declined", "Offers that were given back", |c| {
        c.offers_declined
    }),
    ("revives", "Requests for offers", |c| c.revives),
    ("suppresses", "Requests for no offers", |c| c.suppresses),
    ("updates", "Statuses of tasks that came in", |c| c.updates),
    ("kills", "Kills that were sent", |c| c.kills),
    ("deployments_started", "Deployments that began", |c| {
        c.deployments_started
    }),
    (
        "deployments_finished",
        "Deployments that were carried out",
        |c| c.deployments_finished,
    ),
];

/// Gauges and counters that follow a core's numbers.
#[derive(Clone, Debug)]
pub struct Gauges {
    leading: Gauge,
    gauges: Vec<(Gauge, Read)>,
    totals: Vec<(Total, Read)>,
    before: Counters,
}

impl Gauges {
    /// Registers them.
    pub fn register(metrics: &Metrics) -> Self {
        let leading = metrics.register("leading", "1 if this process leads", Gauge::default());
        let gauges = GAUGES
            .iter()
            .map(|(name, help, read)| (metrics.register(name, help, Gauge::default()), *read));
        let totals = TOTALS
            .iter()
            .map(|(name, help, read)| (metrics.register(name, help, Total::default()), *read));
        Self {
            leading,
            gauges: gauges.collect(),
            totals: totals.collect(),
            before: Counters::default(),
        }
    }

    /// Another core, which counts from zero.
    pub fn begin(&mut self) {
        self.before = Counters::default();
        self.leading.set(1);
    }

    /// No core.
    pub fn end(&mut self) {
        self.leading.set(0);
        for (gauge, _) in &self.gauges {
            gauge.set(0);
        }
    }

    /// Shows the numbers as they are now.
    pub fn show(&mut self, now: &Counters) {
        for (gauge, read) in &self.gauges {
            gauge.set(i64::try_from(read(now)).unwrap_or(i64::MAX));
        }
        for (total, read) in &self.totals {
            total.inc_by(read(now).saturating_sub(read(&self.before)));
        }
        self.before = *now;
    }
}
