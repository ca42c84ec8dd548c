//! The queue of scans.

use jiff::SignedDuration;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Repaired {
    repair: &'static str,
}

/// What was put right of the ledger of accounts, slots and Jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Repair {
    /// A scan whose object is gone was ended, and its account freed.
    ScanWithoutObject,
    /// A schedule whose object is gone was retired.
    ScheduleWithoutObject,
    /// The Job of an attempt that has not ended is gone.
    JobLost,
    /// An attempt that was let in long ago has no Job.
    AttemptWithoutJob,
    /// A scan that ended long ago still holds its account, and no Job is left.
    AccountKept,
    /// A Job that no scan knows was deleted.
    JobWithoutScan,
}

impl Repair {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ScanWithoutObject => "scan_without_object",
            Self::ScheduleWithoutObject => "schedule_without_object",
            Self::JobLost => "job_lost",
            Self::AttemptWithoutJob => "attempt_without_job",
            Self::AccountKept => "account_kept",
            Self::JobWithoutScan => "job_without_scan",
        }
    }
}

/// The queue of scans.
#[derive(Debug, Clone)]
pub struct QueueMetrics {
    waiting: Gauge,
    active: Gauge,
    limit: Gauge,
    admitted: Counter,
    wait: Histogram,
    attempts: Family<Ended, Counter>,
    repairs: Family<Repaired, Counter>,
}

impl Default for QueueMetrics {
    fn default() -> Self {
        Self {
            waiting: Gauge::default(),
            active: Gauge::default(),
            limit: Gauge::default(),
            admitted: Counter::default(),
            // From at once to a night.
            wait: Histogram::new([
                1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0,
            ]),
            attempts: Family::default(),
            repairs: Family::default(),
        }
    }
}

impl QueueMetrics {
    /// Adds all of them to the registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "prowler_operator_scans_waiting",
            "Scans of all tenants that wait for their turn or for their next attempt",
            self.waiting.clone(),
        );
        registry.register(
            "prowler_operator_scans_active",
            "Scans of all tenants that hold an account and a place in the queue",
            self.active.clone(),
        );
        registry.register(
            "prowler_operator_scans_active_limit",
            "The most scans of all tenants that may be active at once; 0 where Kueue counts them",
            self.limit.clone(),
        );
        registry.register(
            "prowler_operator_scans_admitted",
            "Attempts of scans that were let in",
            self.admitted.clone(),
        );
        registry.register(
            "prowler_operator_scan_wait_seconds",
            "Seconds an attempt stood in line, since its scan was queued or its retry came due",
            self.wait.clone(),
        );
        registry.register(
            "prowler_operator_scan_attempts",
            "Attempts of scans that ended, by outcome: completed, failed, cancelled",
            self.attempts.clone(),
        );
        registry.register(
            "prowler_operator_ledger_repairs",
            "Differences between the rows and the cluster that were put right, by kind",
            self.repairs.clone(),
        );
    }

    /// How full the queue is.
    pub fn set(&self, waiting: i64, active: i64, limit: i64) {
        self.waiting.set(waiting);
        self.active.set(active);
        self.limit.set(limit);
    }

    /// An attempt was let in after so long.
    pub fn admitted(&self, waited: SignedDuration) {
        self.admitted.inc();
        self.wait.observe(waited.as_secs_f64().max(0.0));
    }

    /// An attempt ended.
    pub fn ended(&self, outcome: &'static str) {
        self.attempts.get_or_create(&Ended { outcome }).inc();
    }

    /// A difference was put right.
    pub fn repaired(&self, repair: Repair) {
        let repair = repair.as_str();
        self.repairs.get_or_create(&Repaired { repair }).inc();
    }
}
