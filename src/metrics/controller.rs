//! What the controller counts. No label ever names an object, a namespace or a tenant.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::canary::CanaryMetrics;
use super::queue::QueueMetrics;
use super::schedules::ScheduleMetrics;
use crate::domain::reason::Reason;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Pass {
    kind: String,
    result: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Why {
    reason: String,
}

/// The controller's metrics.
#[derive(Debug, Clone)]
pub struct ControllerMetrics {
    passes: Family<Pass, Counter>,
    seconds: Family<Kind, Histogram>,
    waiting: Family<Kind, Gauge>,
    watch_errors: Family<Kind, Counter>,
    failed_attempts: Family<Why, Counter>,
    given_up: Counter,
    leader: Gauge,
    /// What the isolation canary found.
    pub canary: CanaryMetrics,
    /// What became of due times.
    pub schedules: ScheduleMetrics,
    /// The queue of scans.
    pub queue: QueueMetrics,
}

impl Default for ControllerMetrics {
    fn default() -> Self {
        Self {
            passes: Family::default(),
            seconds: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.001, 4.0, 8))
            }),
            waiting: Family::default(),
            watch_errors: Family::default(),
            failed_attempts: Family::default(),
            given_up: Counter::default(),
            leader: Gauge::default(),
            canary: CanaryMetrics::default(),
            schedules: ScheduleMetrics::default(),
            queue: QueueMetrics::default(),
        }
    }
}

impl ControllerMetrics {
    /// Adds all of them to the registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "prowler_operator_reconciles",
            "Passes over objects, by kind and result",
            self.passes.clone(),
        );
        registry.register(
            "prowler_operator_reconcile_duration_seconds",
            "Seconds a pass took, by kind",
            self.seconds.clone(),
        );
        registry.register(
            "prowler_operator_reconcile_queue_depth",
            "Objects called for a pass that has not begun, by kind",
            self.waiting.clone(),
        );
        registry.register(
            "prowler_operator_watch_errors",
            "Watches that failed and began anew, by kind",
            self.watch_errors.clone(),
        );
        registry.register(
            "prowler_operator_scan_attempts_failed",
            "Attempts of scans that ended without findings, by reason",
            self.failed_attempts.clone(),
        );
        registry.register(
            "prowler_operator_scan_pods_given_up",
            "Pods of scans whose end nobody told in time, as of a lost node, and whose accounts were freed",
            self.given_up.clone(),
        );
        registry.register(
            "prowler_operator_leader",
            "1 while this controller holds the lease",
            self.leader.clone(),
        );
        self.canary.register(registry);
        self.schedules.register(registry);
        self.queue.register(registry);
    }

    /// A pass ended.
    pub fn reconciled(&self, kind: &str, result: &str, took: Duration) {
        let pass = Pass {
            kind: kind.to_owned(),
            result: result.to_owned(),
        };
        self.passes.get_or_create(&pass).inc();
        self.seconds
            .get_or_create(&Kind {
                kind: kind.to_owned(),
            })
            .observe(took.as_secs_f64());
    }

    /// How many objects of a kind are called for a pass that has not begun; to be set by whoever
    /// calls them.
    pub fn queue_depth(&self, kind: &str) -> Gauge {
        let kind = kind.to_owned();
        self.waiting.get_or_create(&Kind { kind }).clone()
    }

    /// A watch failed.
    pub fn watch_failed(&self, kind: &str) {
        self.watch_errors
            .get_or_create(&Kind {
                kind: kind.to_owned(),
            })
            .inc();
    }

    /// An attempt of a scan ended without findings.
    pub fn attempt_failed(&self, reason: Reason) {
        self.queue.ended("failed");
        self.failed_attempts
            .get_or_create(&Why {
                reason: reason.to_string(),
            })
            .inc();
    }

    /// The account of a pod was freed whose end nobody told in time.
    pub fn pod_given_up(&self) {
        self.given_up.inc();
    }

    /// Whether this controller holds the lease.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }
}
