//! What `/metrics` shows of a master. The core counts; the shell puts its numbers here now and then; a scrape reads them.

use std::sync::{Arc, Mutex, PoisonError};

use mezzo_door::Metrics;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::core::{Counters, Gauges};

/// The numbers of one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Numbers {
    pub is_leading: bool,
    pub epoch: u64,
    pub counters: Counters,
    pub gauges: Gauges,
    pub slow_readers_cut: u64,
}

/// The latest numbers, shared with the collector.
#[derive(Clone, Debug, Default)]
pub(super) struct Board(Arc<Mutex<Numbers>>);

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
}

impl Collector for Board {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let numbers = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gauges = numbers.gauges;
        for (name, help, value) in [
            (
                "elected",
                "1 while this master leads",
                usize::from(numbers.is_leading),
            ),
            (
                "frameworks_connected",
                "Frameworks whose stream is open",
                gauges.frameworks_connected,
            ),
            (
                "frameworks_disconnected",
                "Frameworks that may come back",
                gauges.frameworks_disconnected,
            ),
            (
                "agents_connected",
                "Agents whose link is up",
                gauges.agents_connected,
            ),
            (
                "agents_disconnected",
                "Agents whose link is down",
                gauges.agents_disconnected,
            ),
            (
                "agents_awaited",
                "Agents of the registry that have not come back since the election",
                gauges.agents_awaited,
            ),
            (
                "agents_unreachable",
                "Agents that were not heard of for too long",
                gauges.agents_unreachable,
            ),
            (
                "offers_outstanding",
                "Offers that are not answered",
                gauges.offers,
            ),
            ("tasks_live", "Tasks in the books", gauges.tasks),
            ("allocator_filters", "Refusals in force", gauges.filters),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        let epoch = ConstGauge::new(i64::try_from(numbers.epoch).unwrap_or(i64::MAX));
        let metric = encoder.encode_descriptor(
            "epoch",
            "The counter of the term",
            None,
            epoch.metric_type(),
        )?;
        epoch.encode(metric)?;
        let counters = numbers.counters;
        for (name, help, value) in [
            ("inputs", "Inputs of the core", counters.inputs),
            ("offers_made", "Offers sent", counters.offers_made),
            (
                "offers_accepted",
                "Offers accepted",
                counters.offers_accepted,
            ),
            (
                "offers_declined",
                "Offers declined",
                counters.offers_declined,
            ),
            (
                "offers_rescinded",
                "Offers taken back",
                counters.offers_rescinded,
            ),
            (
                "offers_timed_out",
                "Offers taken back because nobody answered",
                counters.offers_timed_out,
            ),
            (
                "tasks_launched",
                "Tasks sent to agents",
                counters.tasks_launched,
            ),
            ("tasks_refused", "Tasks refused", counters.tasks_refused),
            ("tasks_ended", "Tasks that ended", counters.tasks_ended),
            (
                "updates_received",
                "Statuses from agents",
                counters.updates_received,
            ),
            (
                "updates_forwarded",
                "Statuses sent to frameworks",
                counters.updates_forwarded,
            ),
            (
                "acknowledgements",
                "Statuses acknowledged",
                counters.acknowledgements,
            ),
            (
                "reconciliations",
                "Reconciliations asked for",
                counters.reconciliations,
            ),
            (
                "calls_refused",
                "Calls of schedulers that were refused",
                counters.calls_refused,
            ),
            (
                "subscriptions",
                "Frameworks that subscribed",
                counters.subscriptions,
            ),
            (
                "failovers",
                "Frameworks whose newer stream superseded an open one",
                counters.failovers,
            ),
            (
                "frameworks_removed",
                "Frameworks removed",
                counters.frameworks_removed,
            ),
            (
                "agents_registered",
                "Agents registered for the first time",
                counters.agents_registered,
            ),
            (
                "agents_reregistered",
                "Agents that came back",
                counters.agents_reregistered,
            ),
            (
                "agents_lost",
                "Agents declared unreachable",
                counters.agents_unreachable,
            ),
            (
                "agents_removed",
                "Agents that left",
                counters.agents_removed,
            ),
            ("agents_refused", "Agents refused", counters.agents_refused),
            (
                "registry_commits",
                "Writes of the registry begun",
                counters.commits,
            ),
            (
                "registry_commit_failures",
                "Writes of the registry that failed",
                counters.commit_failures,
            ),
            (
                "slow_readers_cut",
                "Streams cut because they were not read",
                numbers.slow_readers_cut,
            ),
        ] {
            let counter = ConstCounter::new(value);
            let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(metric)?;
        }
        Ok(())
    }
}
