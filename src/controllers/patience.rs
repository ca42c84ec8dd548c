//! Patience with servers that are away: ending instead would cost the pod's growing pauses between
//! restarts, and whoever looks at it the reason.

use std::fmt::Display;
use std::future::Future;

use super::driver::is_not_found;
use super::error::backoff;
use crate::domain::clock::{Clock, SystemClock};

/// After so many failures the pauses grow no more: whoever came back is noticed within 20 s.
const STEPS: u32 = 4;

/// Tries until it succeeds or fails in a way that no waiting cures, which `passes` tells.
///
/// `complaint` says what is missing as long as it fails.
pub(super) async fn patiently<T, E, F, R>(
    complaint: &str,
    passes: impl Fn(&E) -> bool,
    mut act: F,
) -> Result<T, E>
where
    E: Display,
    F: FnMut() -> R,
    R: Future<Output = Result<T, E>>,
{
    let mut attempt = 0;
    loop {
        match act().await {
            Err(error) if passes(&error) => {
                tracing::warn!(%error, "{complaint}; trying again");
                tokio::time::sleep(backoff(attempt, SystemClock.jitter())).await;
                attempt = (attempt + 1).min(STEPS);
            }
            result => return result,
        }
    }
}

/// Whether the API server may answer otherwise later, or answer at all. One that has just come up may
/// not know anybody's rights yet; what is not there is for somebody to make.
pub(super) fn may_pass(error: &kube::Error) -> bool {
    !is_not_found(error)
}
