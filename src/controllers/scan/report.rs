//! What a Scan's status says of its row.

use jiff::Timestamp;
use k8s_controller::conditions::{self, ConditionStatus};

use crate::api::common::{Time, condition};
use crate::api::scan::{
    FailedAttempt, FindingCounts, ScanState, ScanStatus, SeverityCounts, Stage,
};
use crate::controllers::driver::Outcome;
use crate::controllers::scan_schedule::seconds;
use crate::controllers::status::{self, Readiness};
use crate::controllers::tenancy::TenantView;
use crate::domain::quantity;
use crate::domain::reason::Reason;
use crate::store::scans::{Failure, ScanRow, State};

/// Failed attempts that a status shows.
const SHOWN_ATTEMPTS: usize = 3;

/// The conditions of a scan that has ended.
pub fn ended(row: &ScanRow) -> Outcome {
    let message = row.message.clone().unwrap_or_default();
    match row.state {
        State::Completed => {
            let counts = row.counts.unwrap_or_default();
            completed(counts.total, counts.fail)
        }
        _ => stopped(
            row.reason.as_deref(),
            row.state == State::Cancelled,
            message,
        ),
    }
}

/// The same from what the status says, for a scan whose row is gone.
pub fn told(status: &ScanStatus) -> Outcome {
    let message = status.message.clone().unwrap_or_default();
    let cancelled = status.state == Some(ScanState::Cancelled);
    match status.state {
        Some(ScanState::Completed) => {
            let findings = status.findings.unwrap_or_default();
            completed(findings.total, findings.fail)
        }
        _ => stopped(status.reason.as_deref(), cancelled, message),
    }
}

fn completed(total: i64, fail: i64) -> Outcome {
    Outcome {
        readiness: Readiness::Ready {
            reason: Reason::Completed,
            message: format!("{total} findings, {fail} of them failed."),
        },
        again_in: None,
    }
}

fn stopped(reason: Option<&str>, cancelled: bool, message: String) -> Outcome {
    let otherwise = if cancelled {
        Reason::Cancelled
    } else {
        Reason::ScanFailed
    };
    let reason = reason.and_then(Reason::from_name).unwrap_or(otherwise);
    Outcome::stalled(reason, message)
}

/// Says of a scan that was never finished, and that has no row or no longer one, that it has ended.
pub fn cancelled(status: &mut ScanStatus, reason: Reason, why: &str, now: Timestamp) {
    status.state = Some(ScanState::Cancelled);
    status.stage = Some(Stage::Done);
    status.reason = Some(reason.as_str().to_owned());
    status.message = Some(why.to_owned());
    let now = seconds(now);
    let run = status
        .started_at
        .as_ref()
        .map(|at| now.duration_since(at.0));
    status.duration_seconds = run.map(|run| run.as_secs().max(0));
    status.completed_at = Some(Time(now));
}

/// Tells the row.
pub fn describe(status: &mut ScanStatus, row: &ScanRow, tenant: &TenantView) {
    // A row from before they were kept has none.
    if !row.failures.is_empty() {
        let beyond = row.failures.len().saturating_sub(SHOWN_ATTEMPTS);
        status.attempts = row.failures[beyond..].iter().map(shown).collect();
    }
    status.scan_id = Some(row.id.to_string());
    status.tenant = Some(tenant.name.clone());
    status.provider = Some(row.provider_type.clone());
    status.uid = Some(row.provider_uid.clone());
    status.state = row.state.as_str().parse().ok();
    status.stage = match row.state {
        State::Available => Some(Stage::Queued),
        State::Executing => status
            .stage
            .filter(|stage| *stage != Stage::Queued)
            .or(Some(Stage::Starting)),
        _ => Some(Stage::Done),
    };
    status.attempt = Some(row.attempt);
    status.job_name = row.job.as_ref().map(|job| job.name.name.clone());
    status.started_at = row.started_at.map(seconds).map(Time);
    status.completed_at = row.completed_at.map(seconds).map(Time);
    status.duration_seconds = row.duration.map(i64::from);
    status.memory = row.memory_bytes.map(quantity::shown);
    status.reason = match row.state {
        State::Completed => Some(Reason::Completed.as_str().to_owned()),
        // What the attempt before failed of is in `attempts`.
        State::Executing => None,
        _ => row.reason.clone(),
    };
    status.message = row
        .message
        .clone()
        .filter(|_| row.state != State::Executing);
    if let Some(c) = row.counts {
        status.findings = Some(FindingCounts {
            total: c.total,
            pass: c.pass,
            fail: c.fail,
            manual: c.manual,
            muted: c.muted,
            new: c.new,
            changed: c.changed,
        });
        status.failed_by_severity = Some(SeverityCounts {
            critical: c.critical,
            high: c.high,
            medium: c.medium,
            low: c.low,
            informational: c.informational,
        });
        status.resources = Some(i64::from(row.resources));
        status.quarantined = Some(i64::from(row.quarantined));
    }
}

/// Says whether records were set aside, and where to look for them.
pub fn quarantined(status: &mut ScanStatus, generation: Option<i64>, row: &ScanRow) {
    let kind = condition::RECORDS_QUARANTINED;
    if row.quarantined == 0 {
        conditions::remove(&mut status.conditions, kind);
        return;
    }
    status.quarantined = Some(i64::from(row.quarantined));
    let message = format!(
        "{} records of the file could not be kept. The table quarantined_findings has why, under scan_id {}.",
        row.quarantined, row.id
    );
    status::set(
        &mut status.conditions,
        generation,
        kind,
        ConditionStatus::True,
        Reason::RecordsQuarantined,
        &message,
    );
}

fn shown(failure: &Failure) -> FailedAttempt {
    FailedAttempt {
        attempt: failure.attempt,
        reason: failure.reason.clone(),
        at: Time(seconds(failure.at)),
    }
}
