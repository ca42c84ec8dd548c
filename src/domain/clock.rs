//! Time and fresh ids, given as parameters so that tests can set them.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

/// Where the program takes the time and new ids from.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Timestamp;
    /// A new `UUIDv7` of the present moment.
    fn uuid7(&self) -> Uuid;
    /// A number drawn evenly from 0.0 (inclusive) to 1.0 (exclusive), for jitter.
    fn jitter(&self) -> f64;
    /// By how much this clock is ahead of another, which was asked just now and showed `theirs`;
    /// negative where it is behind. The answer `took` so long.
    fn compare(&self, theirs: Timestamp, took: Duration) -> SignedDuration {
        let half = SignedDuration::try_from(took / 2).unwrap_or_default();
        self.now().duration_since(theirs) - half
    }
}

/// The machine's clock and random numbers.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that asks the machine"
)]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn uuid7(&self) -> Uuid {
        Uuid::now_v7()
    }

    fn jitter(&self) -> f64 {
        rand::random_range(0.0..1.0)
    }
}

/// A clock that stands still until it is moved; its ids differ by a counter.
#[derive(Debug)]
pub struct ManualClock {
    state: Mutex<(Timestamp, u64)>,
}

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: Timestamp) -> Self {
        Self {
            state: Mutex::new((now, 0)),
        }
    }

    /// Sets the time shown from here on.
    pub fn set(&self, now: Timestamp) {
        self.lock().0 = now;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Timestamp, u64)> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.lock().0
    }

    fn uuid7(&self) -> Uuid {
        let mut state = self.lock();
        state.1 += 1;
        let millis = u64::try_from(state.0.as_millisecond()).unwrap_or(0);
        let mut random = [0_u8; 10];
        random[2..].copy_from_slice(&state.1.to_be_bytes());
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }

    fn jitter(&self) -> f64 {
        0.5
    }
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }

    fn uuid7(&self) -> Uuid {
        (**self).uuid7()
    }

    fn jitter(&self) -> f64 {
        (**self).jitter()
    }

    fn compare(&self, theirs: Timestamp, took: Duration) -> SignedDuration {
        (**self).compare(theirs, took)
    }
}

/// Clocks that differ by less are taken to agree: answers take their time, and machines that ask the
/// same servers for theirs differ by milliseconds.
pub const TOLERANCE: SignedDuration = SignedDuration::from_secs(10);

/// A clock that is not believed alone: where it was ahead when it was last compared with another, it
/// shows the time of that. What is decided of a time stays decided, so a machine that is a year ahead for a
/// minute would otherwise stop every schedule for a year.
#[derive(Debug, Default)]
pub struct CheckedClock<C> {
    inner: C,
    /// Milliseconds by which it is ahead.
    ahead: AtomicI64,
}

impl<C: Clock> CheckedClock<C> {
    /// A clock that agrees with all others so far.
    pub const fn new(inner: C) -> Self {
        Self {
            inner,
            ahead: AtomicI64::new(0),
        }
    }

    fn ahead(&self) -> SignedDuration {
        SignedDuration::from_millis(self.ahead.load(Ordering::Relaxed))
    }
}

impl<C: Clock> Clock for CheckedClock<C> {
    fn now(&self) -> Timestamp {
        let now = self.inner.now();
        now.checked_sub(self.ahead()).unwrap_or(now)
    }

    fn uuid7(&self) -> Uuid {
        let id = self.inner.uuid7();
        if self.ahead().is_zero() {
            return id;
        }
        let millis = u64::try_from(self.now().as_millisecond()).unwrap_or(0);
        let mut random = [0; 10];
        random.copy_from_slice(&id.as_bytes()[6..]);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }

    fn jitter(&self) -> f64 {
        self.inner.jitter()
    }

    fn compare(&self, theirs: Timestamp, took: Duration) -> SignedDuration {
        let offset = self.inner.compare(theirs, took);
        let ahead = if offset > TOLERANCE {
            i64::try_from(offset.as_millis()).unwrap_or(i64::MAX)
        } else {
            0
        };
        self.ahead.store(ahead, Ordering::Relaxed);
        offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_clock_that_is_ahead_shows_the_time_of_the_other() {
        let theirs = at("2026-11-27T10:00:00Z");
        let machine = Arc::new(ManualClock::new(at("2027-11-27T10:00:00Z")));
        let clock = CheckedClock::new(machine.clone());
        assert_eq!(clock.now(), machine.now());
        let offset = clock.compare(theirs, Duration::ZERO);
        assert_eq!(offset.as_hours(), 365 * 24);
        assert_eq!(clock.now(), theirs);
        // It goes on from there.
        machine.set(machine.now() + SignedDuration::from_mins(3));
        let now = at("2026-11-27T10:03:00Z");
        assert_eq!(clock.now(), now);
        let id = clock.uuid7();
        assert_eq!(id.get_version_num(), 7);
        let (seconds, _) = id.get_timestamp().unwrap().to_unix();
        assert_eq!(i64::try_from(seconds).unwrap(), now.as_second());
        assert_ne!(id, clock.uuid7());
        // Put right, it is believed again.
        machine.set(now);
        assert!(clock.compare(now, Duration::ZERO).is_zero());
        assert_eq!(clock.now(), now);
    }

    #[test]
    fn a_clock_that_is_behind_or_hardly_ahead_is_believed() {
        let machine = Arc::new(ManualClock::new(at("2026-11-27T10:00:00Z")));
        let clock = CheckedClock::new(machine.clone());
        for (theirs, took, offset) in [
            ("2027-11-27T10:00:00Z", 0, -365 * 24 * 3600),
            ("2026-11-27T09:59:51Z", 0, 9),
            ("2026-11-27T09:59:50Z", 0, 10),
            // It was read half a minute ago.
            ("2026-11-27T09:59:25Z", 60, 5),
        ] {
            let told = clock.compare(at(theirs), Duration::from_secs(took));
            assert_eq!(told.as_secs(), offset, "{theirs}");
            assert_eq!(clock.now(), machine.now(), "{theirs}");
        }
    }
}
