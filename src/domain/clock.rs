//! Time and fresh ids, given as parameters so that tests can set them.

use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

/// Where the program takes the time and new ids from.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Timestamp;
    /// Bytes that nobody was given before.
    fn random(&self) -> [u8; 10];
    /// A new `UUIDv7` of the present moment. (`Uuid::now_v7` remembers the latest moment it was called
    /// at, and keeps to it when the clock is put right.)
    fn uuid7(&self) -> Uuid {
        let millis = u64::try_from(self.now().as_millisecond()).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &self.random()).into_uuid()
    }
    /// A number drawn evenly from 0.0 (inclusive) to 1.0 (exclusive), for jitter.
    fn jitter(&self) -> f64;
    /// Time that passed since some moment, which no setting of the clock changes; while the machine
    /// sleeps it may stand still.
    fn passed(&self) -> Duration;
    /// By how much this clock is ahead of another, which was asked just now and showed `theirs`;
    /// negative where it is behind. The answer `took` so long.
    fn compare(&self, theirs: Timestamp, took: Duration) -> SignedDuration {
        self.now().duration_since(later(theirs, took / 2))
    }
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
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

    fn random(&self) -> [u8; 10] {
        rand::random()
    }

    fn jitter(&self) -> f64 {
        rand::random_range(0.0..1.0)
    }

    fn passed(&self) -> Duration {
        static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
        BEGAN.elapsed()
    }
}

/// A clock that stands still until it is moved; its ids differ by a counter.
#[derive(Debug)]
pub struct ManualClock {
    state: Mutex<Manual>,
}

#[derive(Debug)]
struct Manual {
    now: Timestamp,
    ids: u64,
    passed: Duration,
}

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: Timestamp) -> Self {
        Self {
            state: Mutex::new(Manual {
                now,
                ids: 0,
                passed: Duration::ZERO,
            }),
        }
    }

    /// Sets the time shown from here on.
    pub fn set(&self, now: Timestamp) {
        self.lock().now = now;
    }

    /// Lets time pass.
    pub fn pass(&self, time: Duration) {
        let mut state = self.lock();
        state.now = later(state.now, time);
        state.passed += time;
    }

    fn lock(&self) -> MutexGuard<'_, Manual> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.lock().now
    }

    fn random(&self) -> [u8; 10] {
        let mut state = self.lock();
        state.ids += 1;
        let mut random = [0; 10];
        random[2..].copy_from_slice(&state.ids.to_be_bytes());
        random
    }

    fn jitter(&self) -> f64 {
        0.5
    }

    fn passed(&self) -> Duration {
        self.lock().passed
    }
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }

    fn random(&self) -> [u8; 10] {
        (**self).random()
    }

    fn jitter(&self) -> f64 {
        (**self).jitter()
    }

    fn passed(&self) -> Duration {
        (**self).passed()
    }

    fn compare(&self, theirs: Timestamp, took: Duration) -> SignedDuration {
        (**self).compare(theirs, took)
    }
}

/// Clocks that differ by less are taken to agree: answers take their time, and machines that ask the
/// same servers for theirs differ by milliseconds.
pub const TOLERANCE: SignedDuration = SignedDuration::from_secs(10);

/// A clock that is not believed alone: once it was compared with another, it shows no later time than
/// that one does by now, but for [`TOLERANCE`], even if it is set to another year in between. What is
/// decided of a time stays decided, so a machine that is a year ahead for a minute would otherwise
/// stop every schedule for a year.
#[derive(Debug, Default)]
pub struct CheckedClock<C> {
    inner: C,
    /// What the other clock showed, and when.
    shown: Mutex<Option<(Timestamp, Duration)>>,
}

impl<C: Clock> CheckedClock<C> {
    /// A clock that agrees with all others so far.
    pub const fn new(inner: C) -> Self {
        Self {
            inner,
            shown: Mutex::new(None),
        }
    }

    fn shown(&self) -> MutexGuard<'_, Option<(Timestamp, Duration)>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the other clock shows by now, if this machine's is ahead of it.
    fn corrected(&self) -> Option<Timestamp> {
        let (theirs, at) = (*self.shown())?;
        let theirs = later(theirs, self.inner.passed().saturating_sub(at));
        let ahead = self.inner.now().duration_since(theirs);
        (ahead > TOLERANCE).then_some(theirs)
    }
}

impl<C: Clock> Clock for CheckedClock<C> {
    fn now(&self) -> Timestamp {
        self.corrected().unwrap_or_else(|| self.inner.now())
    }

    fn random(&self) -> [u8; 10] {
        self.inner.random()
    }

    fn jitter(&self) -> f64 {
        self.inner.jitter()
    }

    fn passed(&self) -> Duration {
        self.inner.passed()
    }

    fn compare(&self, theirs: Timestamp, took: Duration) -> SignedDuration {
        *self.shown() = Some((later(theirs, took / 2), self.inner.passed()));
        self.inner.compare(theirs, took)
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
        // It goes on from there, and whatever it is set to before it is compared again.
        machine.pass(Duration::from_mins(3));
        let now = at("2026-11-27T10:03:00Z");
        assert_eq!(clock.now(), now);
        machine.set(at("2030-01-01T00:00:00Z"));
        assert_eq!(clock.now(), now);
        let id = clock.uuid7();
        assert_eq!(id.get_version_num(), 7);
        let (seconds, _) = id.get_timestamp().unwrap().to_unix();
        assert_eq!(i64::try_from(seconds).unwrap(), now.as_second());
        assert_ne!(id, clock.uuid7());
        // Put right, it is believed at once.
        machine.set(now - SignedDuration::from_secs(3));
        assert_eq!(clock.now(), machine.now());
        assert_eq!(clock.compare(now, Duration::ZERO).as_secs(), -3);
        assert_eq!(clock.now(), machine.now());
    }

    #[test]
    fn an_id_is_of_the_moment_that_the_clock_shows() {
        let clock = CheckedClock::new(SystemClock);
        let now = clock.now();
        clock.compare(now - SignedDuration::from_hours(24), Duration::ZERO);
        let ids = [clock.uuid7(), SystemClock.uuid7()];
        let moment = |id: Uuid| i64::try_from(id.get_timestamp().unwrap().to_unix().0).unwrap();
        let [corrected, right] = ids.map(moment);
        assert!((-60..60).contains(&(right - now.as_second())));
        assert!((-60..60).contains(&(corrected + 24 * 3600 - now.as_second())));
        clock.compare(clock.inner.now(), Duration::ZERO);
        assert!((-60..60).contains(&(moment(clock.uuid7()) - now.as_second())));
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
