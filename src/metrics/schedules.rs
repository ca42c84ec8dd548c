//! What became of due times.

use std::sync::atomic::AtomicU64;

use jiff::SignedDuration;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// What became of due times.
#[derive(Debug, Clone)]
pub struct ScheduleMetrics {
    lateness: Histogram,
    skipped: Counter,
    missed: Counter,
    clock_offset: Gauge<f64, AtomicU64>,
}

impl Default for ScheduleMetrics {
    fn default() -> Self {
        Self {
            // Around the second that is promised, and up to an outage of hours.
            lateness: Histogram::new([
                0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0, 14_400.0,
            ]),
            skipped: Counter::default(),
            missed: Counter::default(),
            clock_offset: Gauge::default(),
        }
    }
}

impl ScheduleMetrics {
    /// Adds all of them to the registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "prowler_operator_schedule_lateness_seconds",
            "Seconds from a due time until it was claimed, for each Provider of its schedule",
            self.lateness.clone(),
        );
        registry.register(
            "prowler_operator_schedule_slots_skipped",
            "Due times left out, for each Provider whose last scan of the schedule had not ended",
            self.skipped.clone(),
        );
        registry.register(
            "prowler_operator_schedule_due_times_missed",
            "Due times of schedules that passed without a scan",
            self.missed.clone(),
        );
        registry.register(
            "prowler_operator_clock_offset_seconds",
            "Seconds by which this machine's clock is ahead of the database's; negative where it is behind",
            self.clock_offset.clone(),
        );
    }

    /// A due time was claimed for an account, so long after it came.
    pub fn claimed(&self, late: SignedDuration) {
        // Claimed by a clock that is ahead, it is not late.
        self.lateness.observe(late.as_secs_f64().max(0.0));
    }

    /// Due times were left out.
    pub fn skipped(&self, count: u64) {
        self.skipped.inc_by(count);
    }

    /// Due times passed.
    pub fn missed(&self, count: u64) {
        self.missed.inc_by(count);
    }

    /// This machine's clock was held against the database's.
    pub fn clock_is_ahead_by(&self, offset: SignedDuration) {
        self.clock_offset.set(offset.as_secs_f64());
    }
}
