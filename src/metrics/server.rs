//! What the server counts. No label ever names an object, a namespace or a tenant.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InPart {
    part: &'static str,
}

type Seconds = Counter<f64, AtomicU64>;

/// The server's metrics.
#[derive(Debug, Clone)]
pub struct ServerMetrics {
    /// Findings published.
    pub findings: Counter,
    /// Records set aside.
    pub set_aside: Counter,
    /// Seconds from the whole body to the commit.
    pub publication_seconds: Histogram,
    /// Seconds in which files were read, not counting those in which the database was waited for.
    pub reading_seconds: Seconds,
    /// Bytes in the spool.
    pub spool_bytes: Gauge,
    /// Bodies being received.
    pub receiving: Gauge,
    /// Files being published.
    pub publishing: Gauge,
    uploads: Family<Answered, Counter>,
    spent: Family<InPart, Seconds>,
}

impl Default for ServerMetrics {
    fn default() -> Self {
        Self {
            findings: Counter::default(),
            set_aside: Counter::default(),
            publication_seconds: Histogram::new(exponential_buckets(0.01, 4.0, 8)),
            reading_seconds: Counter::default(),
            spool_bytes: Gauge::default(),
            receiving: Gauge::default(),
            publishing: Gauge::default(),
            uploads: Family::default(),
            spent: Family::default(),
        }
    }
}

impl ServerMetrics {
    /// Adds all of them to the registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "prowler_operator_ingest_findings",
            "Findings published",
            self.findings.clone(),
        );
        registry.register(
            "prowler_operator_ingest_records_set_aside",
            "Records of published files that could not be kept",
            self.set_aside.clone(),
        );
        registry.register(
            "prowler_operator_ingest_publication_duration_seconds",
            "Seconds from the last byte of a body to the commit of its findings",
            self.publication_seconds.clone(),
        );
        registry.register(
            "prowler_operator_ingest_publication_part_seconds",
            "Seconds of publications, by the part in which the database was; reading: it waited for the file",
            self.spent.clone(),
        );
        registry.register(
            "prowler_operator_ingest_reading_seconds",
            "Seconds in which files were read, without those in which the database was waited for",
            self.reading_seconds.clone(),
        );
        registry.register(
            "prowler_operator_ingest_spool_bytes",
            "Bytes of bodies in the spool",
            self.spool_bytes.clone(),
        );
        registry.register(
            "prowler_operator_ingest_receiving",
            "Bodies being received",
            self.receiving.clone(),
        );
        registry.register(
            "prowler_operator_ingest_publishing",
            "Files being published",
            self.publishing.clone(),
        );
        registry.register(
            "prowler_operator_ingest_uploads",
            "Answers to uploads, by the reason they gave",
            self.uploads.clone(),
        );
    }

    /// A publication was in this part for so long.
    pub fn spent(&self, part: &'static str, time: Duration) {
        self.spent
            .get_or_create(&InPart { part })
            .inc_by(time.as_secs_f64());
    }

    /// An upload was answered; `outcome` is the answer's reason.
    pub fn answered(&self, outcome: &'static str) {
        self.uploads.get_or_create(&Answered { outcome }).inc();
    }
}
