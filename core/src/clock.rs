//! Monotonic time as a number. Nothing in the core reads a clock; every function that needs the time is told it.

use core::time::Duration;

/// A point of monotonic time, in microseconds since any fixed start (boot, process start).
///
/// Only differences mean anything. Wall time is a [`Timestamp`](crate::Timestamp).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The start of time.
    pub const ZERO: Self = Self(0);
    /// A point that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// The point `micros` microseconds after the start.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the start.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The point `by` later; stops at [`Instant::NEVER`].
    pub const fn after(self, by: Duration) -> Self {
        let micros = by.as_micros();
        if micros > (u64::MAX - self.0) as u128 { Self::NEVER } else { Self(self.0 + micros as u64) }
    }

    /// Time from `earlier` to here, zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// A source of monotonic time, for whoever drives a [`Flusher`](crate::Flusher).
pub trait Clock {
    /// The time now. Never earlier than an answer given before.
    fn now(&self) -> Instant;
}

impl<C: Clock + ?Sized> Clock for &C {
    fn now(&self) -> Instant {
        (**self).now()
    }
}
