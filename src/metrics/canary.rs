//! What the isolation canary found.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    result: &'static str,
}

/// What the isolation canary found.
#[derive(Debug, Clone)]
pub struct CanaryMetrics {
    broken: Broken,
    runs: Family<Ended, Counter>,
    last: Gauge<f64, AtomicU64>,
    seconds: Histogram,
}

/// Not there before the first run that came to its end: neither 0 nor 1 would be true.
#[derive(Debug, Clone, Default)]
struct Broken(Arc<Mutex<Option<bool>>>);

impl Collector for Broken {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let Some(broken) = *self.0.lock().unwrap_or_else(PoisonError::into_inner) else {
            return Ok(());
        };
        let gauge = ConstGauge::new(i64::from(broken));
        let metric = encoder.encode_descriptor(
            "prowler_operator_isolation_canary_broken",
            "1 while the last run that came to its end reached another tenant's rows",
            None,
            prometheus_client::metrics::MetricType::Gauge,
        )?;
        gauge.encode(metric)
    }
}

impl Default for CanaryMetrics {
    fn default() -> Self {
        Self {
            broken: Broken::default(),
            runs: Family::default(),
            last: Gauge::default(),
            seconds: Histogram::new(exponential_buckets(0.01, 4.0, 7)),
        }
    }
}

impl CanaryMetrics {
    /// Adds all of them to the registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.broken.clone()));
        registry.register(
            "prowler_operator_isolation_canary_runs",
            "Runs of the isolation canary, by result: held, broken, or failed to come to an end",
            self.runs.clone(),
        );
        registry.register(
            "prowler_operator_isolation_canary_last_run_timestamp_seconds",
            "When the last run that came to its end ended, in seconds since 1970; 0 before the first",
            self.last.clone(),
        );
        registry.register(
            "prowler_operator_isolation_canary_duration_seconds",
            "Seconds a run took that came to its end",
            self.seconds.clone(),
        );
    }

    /// A run came to its end at this time, in seconds since 1970.
    pub fn ended(&self, broken: bool, at: f64, took: Duration) {
        let result = if broken { "broken" } else { "held" };
        self.runs.get_or_create(&Ended { result }).inc();
        *self.broken.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(broken);
        self.last.set(at);
        self.seconds.observe(took.as_secs_f64());
    }

    /// A run did not come to its end. What is known stays, and gets older.
    pub fn failed(&self) {
        self.runs.get_or_create(&Ended { result: "failed" }).inc();
    }
}
