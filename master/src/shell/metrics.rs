//! What `/metrics` shows of a master. The core counts; the shell puts its numbers here now and then; a scrape
//! reads them.

use std::sync::{Arc, Mutex, PoisonError};

use mezzo_door::Metrics;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::core::{Counters, Gauges};

/// The numbers of one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Numbers {
    pub is_leading: bool,
    pub epoch: u64,
    pub counters: Counters,
    pub gauges: Gauges,
    pub slow_readers_cut: u64,
}

/// The latest numbers, shared with the collector.
#[derive(Clone, Debug, Default)]
pub(crate) struct Board(Arc<Mutex<Numbers>>);

impl Board {
    /// A board that `/metrics` shows.
    pub fn register(metrics: &Metrics) -> Self {
        let board = Self::default();
        metrics.register_collector(Box::new(board.clone()));
        board
    }

    pub fn change(&self, change: impl FnOnce(&mut Numbers)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The latest numbers.
    pub fn now(&self) -> Numbers {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Row = (&'static str, &'static str, fn(&Numbers) -> u64);

const GAUGES: &[Row] = &[
    ("elected", "1 while this master leads", |n| {
        u64::from(n.is_leading)
    }),
    ("epoch", "The counter of the term", |n| n.epoch),
    (
        "frameworks_connected",
        "Frameworks whose stream is open",
        |n| count(n.gauges.frameworks_connected),
    ),
    (
        "frameworks_disconnected",
        "Frameworks that may come back",
        |n| count(n.gauges.frameworks_disconnected),
    ),
    ("agents_connected", "Agents whose link is up", |n| {
        count(n.gauges.agents_connected)
    }),
    ("agents_disconnected", "Agents whose link is down", |n| {
        count(n.gauges.agents_disconnected)
    }),
    (
        "agents_awaited",
        "Agents that have not come back since the election",
        |n| count(n.gauges.agents_awaited),
    ),
    (
        "agents_unreachable",
        "Agents not heard of for too long",
        |n| count(n.gauges.agents_unreachable),
    ),
    ("offers_outstanding", "Offers that are not answered", |n| {
        count(n.gauges.offers)
    }),
    ("tasks_live", "Tasks in the books", |n| {
        count(n.gauges.tasks)
    }),
    ("allocator_filters", "Refusals in force", |n| {
        count(n.gauges.filters)
    }),
];

const COUNTERS: &[Row] = &[
    ("inputs", "Inputs of the core", |n| n.counters.inputs),
    ("offers_made", "Offers sent", |n| n.counters.offers_made),
    ("offers_accepted", "Offers accepted", |n| {
        n.counters.offers_accepted
    }),
    ("offers_declined", "Offers declined", |n| {
        n.counters.offers_declined
    }),
    ("offers_rescinded", "Offers taken back", |n| {
        n.counters.offers_rescinded
    }),
    ("offers_timed_out", "Offers that nobody answered", |n| {
        n.counters.offers_timed_out
    }),
    ("tasks_launched", "Tasks sent to agents", |n| {
        n.counters.tasks_launched
    }),
    ("tasks_refused", "Tasks refused", |n| {
        n.counters.tasks_refused
    }),
    ("tasks_ended", "Tasks that ended", |n| {
        n.counters.tasks_ended
    }),
    ("updates_received", "Statuses from agents", |n| {
        n.counters.updates_received
    }),
    ("updates_forwarded", "Statuses sent to frameworks", |n| {
        n.counters.updates_forwarded
    }),
    ("acknowledgements", "Statuses acknowledged", |n| {
        n.counters.acknowledgements
    }),
    ("reconciliations", "Reconciliations asked for", |n| {
        n.counters.reconciliations
    }),
    ("calls_refused", "Calls of schedulers refused", |n| {
        n.counters.calls_refused
    }),
    ("subscriptions", "Frameworks that subscribed", |n| {
        n.counters.subscriptions
    }),
    (
        "failovers",
        "Open streams that a newer one superseded",
        |n| n.counters.failovers,
    ),
    ("frameworks_removed", "Frameworks removed", |n| {
        n.counters.frameworks_removed
    }),
    (
        "agents_registered",
        "Agents registered for the first time",
        |n| n.counters.agents_registered,
    ),
    ("agents_reregistered", "Agents that came back", |n| {
        n.counters.agents_reregistered
    }),
    ("agents_lost", "Agents declared unreachable", |n| {
        n.counters.agents_unreachable
    }),
    ("agents_removed", "Agents that left", |n| {
        n.counters.agents_removed
    }),
    ("agents_refused", "Agents refused", |n| {
        n.counters.agents_refused
    }),
    ("registry_commits", "Writes of the registry begun", |n| {
        n.counters.commits
    }),
    (
        "registry_commit_failures",
        "Writes of the registry that failed",
        |n| n.counters.commit_failures,
    ),
    (
        "slow_readers_cut",
        "Streams cut because they were not read",
        |n| n.slow_readers_cut,
    ),
];

fn count(number: usize) -> u64 {
    number as u64
}

impl Collector for Board {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let numbers = self.now();
        for (name, help, of) in GAUGES {
            let gauge = ConstGauge::new(i64::try_from(of(&numbers)).unwrap_or(i64::MAX));
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        for (name, help, of) in COUNTERS {
            let counter = ConstCounter::new(of(&numbers));
            let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(metric)?;
        }
        Ok(())
    }
}
