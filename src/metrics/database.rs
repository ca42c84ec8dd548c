//! What every part counts of its database.
//!
//! One for the process: failures are counted where the driver's errors become the store's, which
//! happens in hundreds of places that have nothing but the error.

use std::fmt;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Those of this process.
pub static DATABASE: LazyLock<DatabaseMetrics> = LazyLock::new(DatabaseMetrics::default);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failed {
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Pool {
    pool: &'static str,
}

/// The metrics of the database's clients.
#[derive(Debug)]
pub struct DatabaseMetrics {
    errors: Family<Failed, Counter>,
    waits: Family<Pool, Histogram>,
}

impl Default for DatabaseMetrics {
    fn default() -> Self {
        Self {
            errors: Family::default(),
            waits: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.0005, 5.0, 7))
            }),
        }
    }
}

impl DatabaseMetrics {
    /// Adds all of them to the registry, and the pools' as well.
    pub fn register(&self, pools: &Pools, registry: &mut Registry) {
        registry.register(
            "prowler_operator_database_errors",
            "Errors of the database or of the way to it, by class",
            self.errors.clone(),
        );
        registry.register(
            "prowler_operator_database_pool_wait_duration_seconds",
            "Seconds a transaction waited for a connection, by pool",
            self.waits.clone(),
        );
        registry.register_collector(Box::new(pools.clone()));
    }

    /// The database, or the driver, did not do what was asked.
    pub fn failed(&self, class: &'static str) {
        self.errors.get_or_create(&Failed { class }).inc();
    }

    /// A transaction got its connection.
    pub fn waited(&self, pool: &'static str, time: Duration) {
        self.waits
            .get_or_create(&Pool { pool })
            .observe(time.as_secs_f64());
    }
}

/// Connections of a pool at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// Open and used by nobody.
    pub idle: u32,
    /// Lent out.
    pub in_use: u32,
    /// The most there may be.
    pub limit: u32,
}

type Look = Box<dyn Fn() -> Connections + Send + Sync>;

/// The pools to look at when somebody asks. Cheap to clone; all clones are the same.
#[derive(Clone, Default)]
pub struct Pools(std::sync::Arc<Mutex<Vec<(&'static str, Look)>>>);

impl fmt::Debug for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pools(…)")
    }
}

impl Pools {
    /// From now on this pool is looked at. One of the same name is looked at no more.
    pub fn watch(
        &self,
        name: &'static str,
        look: impl Fn() -> Connections + Send + Sync + 'static,
    ) {
        let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|(known, _)| *known != name);
        pools.push((name, Box::new(look)));
    }
}

impl Collector for Pools {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pools.is_empty() {
            return Ok(());
        }
        let seen: Vec<_> = pools.iter().map(|(name, look)| (*name, look())).collect();
        let mut all = encoder.encode_descriptor(
            "prowler_operator_database_pool_connections",
            "Connections that are open, by pool and by whether they are idle or in use",
            None,
            MetricType::Gauge,
        )?;
        for (name, connections) in &seen {
            gauge(
                &mut all,
                &[("pool", *name), ("state", "idle")],
                connections.idle,
            )?;
            gauge(
                &mut all,
                &[("pool", *name), ("state", "in_use")],
                connections.in_use,
            )?;
        }
        let mut limits = encoder.encode_descriptor(
            "prowler_operator_database_pool_connections_limit",
            "The most connections a pool may open, by pool",
            None,
            MetricType::Gauge,
        )?;
        for (name, connections) in &seen {
            gauge(&mut limits, &[("pool", *name)], connections.limit)?;
        }
        Ok(())
    }
}

fn gauge<const N: usize>(
    encoder: &mut MetricEncoder,
    labels: &[(&'static str, &'static str); N],
    value: u32,
) -> Result<(), fmt::Error> {
    let metric = encoder.encode_family(labels)?;
    ConstGauge::new(i64::from(value)).encode(metric)
}
