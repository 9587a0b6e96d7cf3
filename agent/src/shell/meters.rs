//! What `/metrics` shows of an agent.

use std::sync::{Arc, Mutex, PoisonError};

use mezzo_door::Metrics;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::core::{Counters, Gauges};

/// The last numbers of the core, read when somebody asks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meters(Arc<Mutex<(Counters, Gauges)>>);

impl Meters {
    /// Meters that the registry shows.
    pub fn register(metrics: &Metrics) -> Self {
        let meters = Self::default();
        metrics.register_collector(Box::new(meters.clone()));
        meters
    }

    /// Takes new numbers.
    pub fn set(&self, counters: Counters, gauges: Gauges) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (counters, gauges);
    }
}

impl Collector for Meters {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (counters, gauges) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let now = [
            (
                "tasks_live",
                "Tasks that have not ended",
                count(gauges.tasks_live),
            ),
            (
                "tasks_known",
                "Tasks that are not forgotten",
                count(gauges.tasks_known),
            ),
            (
                "containers",
                "Containers that have not ended",
                count(gauges.containers),
            ),
            (
                "sandboxes",
                "Sandboxes of ended containers",
                count(gauges.sandboxes),
            ),
            (
                "registered",
                "1 if a master has welcomed the agent",
                i64::from(gauges.registered),
            ),
        ];
        for (name, help, value) in now {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let ever = [
            ("tasks_taken", "Tasks that were taken", counters.tasks_taken),
            (
                "tasks_finished",
                "Tasks that ended well",
                counters.tasks_finished,
            ),
            (
                "tasks_failed",
                "Tasks that ended badly or were lost",
                counters.tasks_failed,
            ),
            (
                "tasks_killed",
                "Tasks that were ended on request",
                counters.tasks_killed,
            ),
            (
                "containers_launched",
                "Containers that were launched",
                counters.containers_launched,
            ),
            (
                "containers_failed",
                "Containers that could not be launched",
                counters.containers_failed,
            ),
            (
                "updates_taken",
                "Status updates taken from executors",
                counters.updates_taken,
            ),
            (
                "updates_refused",
                "Status updates refused",
                counters.updates_refused,
            ),
            (
                "registrations",
                "Welcomes by a master",
                counters.registrations,
            ),
            (
                "stale_orders",
                "Orders of a leader that leads no more",
                counters.stale_orders,
            ),
        ];
        for (name, help, value) in ever {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(
                name,
                help,
                None,
                counter.metric_type(),
            )?)?;
        }
        Ok(())
    }
}
