//! Monotonic time of the system, as the core counts it.

use core::time::Duration;
use std::sync::OnceLock;

use quillet_core::{Clock, Instant};

/// When the first clock of this process was made. One for all: a deadline by one clock is compared with another.
static START: OnceLock<std::time::Instant> = OnceLock::new();

/// The system's monotonic clock, in microseconds since this process first made one. All of them show the same time.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    /// The process's clock.
    pub fn new() -> Self {
        Self { start: *START.get_or_init(std::time::Instant::now) }
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
