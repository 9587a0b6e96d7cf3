//! What `/metrics` shows of a master.

use mezzo_door::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::mpsc::error::TrySendError;

use crate::core::Core;

/// The numbers of a master.
#[derive(Clone, Debug, Default)]
pub struct Meters {
    elected: Gauge,
    frameworks_connected: Gauge,
    frameworks_disconnected: Gauge,
    agents_connected: Gauge,
    agents_disconnected: Gauge,
    agents_awaited: Gauge,
    agents_unreachable: Gauge,
    offers: Gauge,
    tasks: Gauge,
    filters: Gauge,
    slow_readers: Counter,
}

impl Meters {
    /// Registers them.
    pub fn register(metrics: &Metrics) -> Self {
        let gauge = |name, help| metrics.register(name, help, Gauge::default());
        Self {
            elected: gauge("elected", "1 while this master leads"),
            frameworks_connected: gauge("frameworks_connected", "Frameworks with an open stream"),
            frameworks_disconnected: gauge(
                "frameworks_disconnected",
                "Frameworks that may come back within their failover timeout",
            ),
            agents_connected: gauge("agents_connected", "Agents whose link is up"),
            agents_disconnected: gauge("agents_disconnected", "Agents that may come back"),
            agents_awaited: gauge("agents_awaited", "Agents of the registry that are not back yet"),
            agents_unreachable: gauge("agents_unreachable", "Agents that did not come back"),
            offers: gauge("offers_outstanding", "Offers that are not answered"),
            tasks: gauge("tasks_live", "Tasks that have not ended, or whose end is not acknowledged"),
            filters: gauge("offer_filters", "Declined resources that are not offered again yet"),
            slow_readers: metrics.register(
                "slow_readers_cut",
                "Streams that were cut because their other end did not keep up",
                Counter::default(),
            ),
        }
    }

    /// Shows a core's numbers.
    pub fn show(&self, core: &Core) {
        let now = core.gauges();
        self.elected.set(1);
        for (gauge, value) in [
            (&self.frameworks_connected, now.frameworks_connected),
            (&self.frameworks_disconnected, now.frameworks_disconnected),
            (&self.agents_connected, now.agents_connected),
            (&self.agents_disconnected, now.agents_disconnected),
            (&self.agents_awaited, now.agents_awaited),
            (&self.agents_unreachable, now.agents_unreachable),
            (&self.offers, now.offers),
            (&self.tasks, now.tasks),
            (&self.filters, now.filters),
        ] {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }

    /// The term is over.
    pub fn end(&self) {
        for gauge in [
            &self.elected,
            &self.frameworks_connected,
            &self.frameworks_disconnected,
            &self.agents_connected,
            &self.agents_disconnected,
            &self.agents_awaited,
            &self.agents_unreachable,
            &self.offers,
            &self.tasks,
            &self.filters,
        ] {
            gauge.set(0);
        }
    }

    /// Somebody was cut; who left by itself does not count.
    pub fn cut<T>(&self, error: &TrySendError<T>) {
        if matches!(error, TrySendError::Full(_)) {
            self.slow_readers.inc();
        }
    }
}
