//! The object of a scan that is over: what it says without a row, and until when it stays.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::Resource as _;

use super::{PROVIDER_DELETED, is_over, report};
use crate::api::Scan;
use crate::api::scan::ScanStatus;
use crate::controllers::driver::{Outcome, is_not_found};
use crate::controllers::error::Error;
use crate::controllers::{Context, HasApi, name_of, only};
use crate::domain::reason::Reason;

/// A Scan that no schedule made goes this long after its end.
const DEFAULT_TTL: i64 = 7 * 24 * 3600;

impl Scan {
    /// Cancelled before it was ever queued, because of `why`: it may have waited for what never comes.
    pub(super) async fn never(
        &self,
        status: &mut ScanStatus,
        why: &str,
        cx: &Context,
    ) -> Result<Outcome, Error> {
        if !is_over(status) {
            report::cancelled(status, Reason::Cancelled, why, cx.clock.now());
        }
        self.outlive(status, cx).await
    }

    /// Its row is gone with the account: says how it went as long as it lives.
    pub(super) async fn outlive(
        &self,
        status: &mut ScanStatus,
        cx: &Context,
    ) -> Result<Outcome, Error> {
        if !is_over(status) {
            let (why, now) = (PROVIDER_DELETED, cx.clock.now());
            report::cancelled(status, Reason::ProviderDeleted, why, now);
        }
        let completed_at = status.completed_at.as_ref().map(|time| time.0);
        // No schedule counts a Scan without a row.
        let ttl = self.ttl().unwrap_or(DEFAULT_TTL);
        self.expire(report::told(status), completed_at, Some(ttl), cx)
            .await
    }

    /// Goes `ttl` seconds after its end.
    pub(super) async fn expire(
        &self,
        outcome: Outcome,
        completed_at: Option<Timestamp>,
        ttl: Option<i64>,
        cx: &Context,
    ) -> Result<Outcome, Error> {
        let (Some(ttl), Some(completed_at)) = (ttl, completed_at) else {
            return Ok(outcome);
        };
        let left = completed_at
            .checked_add(SignedDuration::from_secs(ttl))
            .map_or(SignedDuration::MAX, |at| at.duration_since(cx.clock.now()));
        if left.is_positive() {
            let pause = Duration::try_from(left)
                .unwrap_or_default()
                .min(Duration::from_hours(1));
            return Ok(outcome.again_in(pause));
        }
        let api = Self::api(cx, self.meta().namespace.as_deref());
        let params = only(self.meta().uid.clone());
        match api.delete(&name_of(self).name, &params).await {
            Ok(_) => Ok(outcome),
            Err(error) if is_not_found(&error) => Ok(outcome),
            Err(error) => Err(error.into()),
        }
    }

    /// Seconds after its end; none for a Scan of a schedule, which keeps its own history.
    pub(super) fn ttl(&self) -> Option<i64> {
        let scheduled = self
            .meta()
            .owner_references
            .iter()
            .flatten()
            .any(|o| o.kind == "ScanSchedule");
        match self.spec.ttl_seconds_after_finished {
            Some(ttl) => Some(ttl),
            None => (!scheduled).then_some(DEFAULT_TTL),
        }
    }
}
