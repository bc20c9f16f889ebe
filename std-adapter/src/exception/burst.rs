//! How many errors of one kind are sent: a burst of them, then one now and then.
//!
//! In: a kind of error (its type and its place) and the time. Out: whether this one may be sent, and how many like it were
//! not since the last. A fixed table of atomics, so nobody waits; threads that meet may admit one more or less.

use core::time::Duration;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use quillet_core::Instant;

/// Kinds of errors told apart. All further ones share one more place.
const KINDS: usize = 64;

/// Places that are looked at for a kind.
const PROBES: usize = 8;

/// How long the number of errors held back is kept for the next one that is sent.
const MEMORY: Duration = Duration::from_secs(3600);

/// What a client remembers about the errors it has sent.
pub(crate) struct Bursts {
    limit: BurstLimit,
    /// The shared place is the last.
    kinds: [Kind; KINDS + 1],
}

/// How many errors of one kind may be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BurstLimit {
    /// At once. Zero: any number, at any time.
    pub(crate) burst: u32,
    /// For each further one.
    pub(crate) interval: Duration,
}

impl Default for BurstLimit {
    fn default() -> Self {
        Self { burst: 10, interval: Duration::from_secs(10) }
    }
}

struct Kind {
    /// Which, or zero.
    key: AtomicU64,
    /// When the whole burst may be sent again, in microseconds. Each error sent moves it by one interval.
    full_at: AtomicU64,
    suppressed: AtomicU32,
}

/// An error that may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Admitted {
    /// How many like it were held back since the last that was sent.
    pub(crate) suppressed: u32,
    at: usize,
}

impl Bursts {
    pub(crate) fn new(limit: BurstLimit) -> Self {
        let kind = || Kind { key: AtomicU64::new(0), full_at: AtomicU64::new(0), suppressed: AtomicU32::new(0) };
        Self { limit, kinds: core::array::from_fn(|_| kind()) }
    }

    /// `None` if an error of this kind must not be sent now; it is counted for the next one.
    pub(crate) fn admit(&self, key: u64, now: Instant) -> Option<Admitted> {
        if self.limit.burst == 0 {
            return Some(Admitted { suppressed: 0, at: KINDS });
        }
        let interval = micros(self.limit.interval);
        let now = now.as_micros();
        let at = self.place(key | 1, now);
        let kind = self.kinds.get(at)?;
        let most = interval.saturating_mul(u64::from(self.limit.burst));
        let next = |full_at: u64| {
            let full_at = full_at.max(now).saturating_add(interval);
            (full_at - now <= most).then_some(full_at)
        };
        // Nothing is published by it but itself.
        match kind.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(_) => Some(Admitted { suppressed: kind.suppressed.swap(0, Ordering::Relaxed), at }),
            Err(_) => {
                kind.suppressed.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }

    /// An error that was admitted has not been sent after all: what it would have said is left to the next one.
    pub(crate) fn give_back(&self, admitted: Admitted) {
        if let Some(kind) = self.kinds.get(admitted.at) {
            kind.suppressed.fetch_add(admitted.suppressed, Ordering::Relaxed);
        }
    }

    /// Where a kind is remembered. One that was not seen for so long that it makes no difference is forgotten for another.
    fn place(&self, key: u64, now: u64) -> usize {
        let probes = || (0..PROBES).map(|step| (key as usize >> 1).wrapping_add(step) % KINDS);
        let known = probes().find(|at| self.kinds.get(*at).is_some_and(|kind| kind.key.load(Ordering::Relaxed) == key));
        let taken = || {
            probes().find(|at| {
                self.kinds.get(*at).is_some_and(|kind| {
                    let before = kind.key.load(Ordering::Relaxed);
                    kind.is_forgettable(now)
                        && kind.key.compare_exchange(before, key, Ordering::Relaxed, Ordering::Relaxed).is_ok()
                })
            })
        };
        known.or_else(taken).unwrap_or(KINDS)
    }
}

impl Kind {
    fn is_forgettable(&self, now: u64) -> bool {
        let full_at = self.full_at.load(Ordering::Relaxed);
        let forgotten = full_at.saturating_add(micros(MEMORY)) <= now;
        let forgettable = full_at <= now && self.suppressed.load(Ordering::Relaxed) == 0;
        if forgotten {
            self.suppressed.store(0, Ordering::Relaxed);
        }
        self.key.load(Ordering::Relaxed) == 0 || forgotten || forgettable
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should stop")]
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    fn suppressed(admitted: Option<Admitted>) -> Option<u32> {
        admitted.map(|admitted| admitted.suppressed)
    }

    #[test]
    fn a_burst_then_one_per_interval_with_the_number_held_back() {
        let bursts = Bursts::new(BurstLimit::default());
        for _ in 0..10 {
            assert_eq!(suppressed(bursts.admit(7, at(100))), Some(0));
        }
        for _ in 0..5 {
            assert_eq!(bursts.admit(7, at(100)), None);
        }
        assert_eq!(suppressed(bursts.admit(8, at(100))), Some(0), "another kind is not affected");
        assert_eq!(bursts.admit(7, at(109)), None);
        assert_eq!(suppressed(bursts.admit(7, at(110))), Some(6));
        assert_eq!(bursts.admit(7, at(110)), None);
        assert_eq!(suppressed(bursts.admit(7, at(125))), Some(1));
        for n in 0..10 {
            assert_eq!(suppressed(bursts.admit(7, at(1000))), Some(0), "{n}");
        }
        assert_eq!(bursts.admit(7, at(1000)), None);
    }

    #[test]
    fn what_was_not_sent_after_all_is_left_to_the_next() {
        let bursts = Bursts::new(BurstLimit { burst: 1, interval: Duration::from_secs(1) });
        assert_eq!(suppressed(bursts.admit(7, at(1))), Some(0));
        assert_eq!(bursts.admit(7, at(1)), None);
        let admitted = bursts.admit(7, at(2)).unwrap();
        assert_eq!(admitted.suppressed, 1);
        bursts.give_back(admitted);
        assert_eq!(suppressed(bursts.admit(7, at(3))), Some(1));
    }

    #[test]
    fn ever_new_kinds_share_what_is_left() {
        let bursts = Bursts::new(BurstLimit::default());
        let admitted = (0..100_000u64).filter(|n| bursts.admit(n.wrapping_mul(0x9e37_79b9_7f4a_7c15), at(5)).is_some());
        // Each of the kinds that were remembered once, and ten in the place that all others share.
        let admitted = admitted.count();
        assert!((KINDS..=KINDS + 10).contains(&admitted), "{admitted}");
        // Once nobody remembers them, others are told apart.
        assert_eq!(suppressed(bursts.admit(77, at(10_000))), Some(0));
    }

    #[test]
    fn no_limit_is_none() {
        let bursts = Bursts::new(BurstLimit { burst: 0, interval: Duration::ZERO });
        assert!((0..1000).all(|_| bursts.admit(1, at(0)).is_some()));
        let bursts = Bursts::new(BurstLimit { burst: u32::MAX, interval: Duration::MAX });
        assert!(bursts.admit(1, at(0)).is_some());
    }
}
