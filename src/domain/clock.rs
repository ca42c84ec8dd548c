//! Time and fresh ids, given as parameters so that tests can set them.

use std::sync::Mutex;

use jiff::Timestamp;
use uuid::Uuid;

/// Where the program takes the time and new ids from.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Timestamp;
    /// A new `UUIDv7` of the present moment.
    fn uuid7(&self) -> Uuid;
    /// A number drawn evenly from 0.0 (inclusive) to 1.0 (exclusive), for jitter.
    fn jitter(&self) -> f64;
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
