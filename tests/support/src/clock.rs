//! A clock that moves when a test says so.

use quillet_core::{Clock, Instant};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Monotonic time by hand. Clones show the same time, so a test keeps one and gives another away.
///
/// Starts at one hour, not at zero: code that subtracts an interval from "now" is then wrong visibly or not at all,
/// instead of being saved by a saturating zero.
#[derive(Clone, Debug)]
pub struct ManualClock {
    micros: Arc<AtomicU64>,
}

impl ManualClock {
    /// A clock that stands still at one hour.
    pub fn new() -> Self {
        Self { micros: Arc::new(AtomicU64::new(3_600_000_000)) }
    }

    /// Moves the time on by `by`, stopping at the end of time. Answers the new time.
    pub fn advance(&self, by: Duration) -> Instant {
        self.advance_to(self.now().after(by))
    }

    /// Moves the time on to `to`. An earlier `to` changes nothing: a [`Clock`] never runs backwards.
    pub fn advance_to(&self, to: Instant) -> Instant {
        let before = self.micros.fetch_max(to.as_micros(), Ordering::SeqCst);
        Instant::from_micros(before.max(to.as_micros()))
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        Instant::from_micros(self.micros.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_show_the_same_time() {
        let clock = ManualClock::new();
        let other = clock.clone();
        let before = other.now();
        clock.advance(Duration::from_millis(5));
        assert_eq!(other.now().since(before), Duration::from_millis(5));
    }

    #[test]
    fn it_never_runs_backwards() {
        let clock = ManualClock::new();
        let before = clock.now();
        assert_eq!(clock.advance_to(Instant::ZERO), before);
        assert_eq!(clock.now(), before);
    }
}
