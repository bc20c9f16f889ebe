//! Monotonic time of the system, as the core counts it.

use core::time::Duration;
use quillet_core::{Clock, Instant};

/// The system's monotonic clock, in microseconds since this value was made.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    /// A clock that shows zero now.
    pub fn new() -> Self {
        Self { start: std::time::Instant::now() }
    }

    /// How long until `then`; zero if it has passed.
    pub(crate) fn until(&self, then: Instant) -> Duration {
        then.since(self.now())
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX - 1))
    }
}
