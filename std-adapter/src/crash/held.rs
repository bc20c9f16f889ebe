//! The second panic in a row, which waits until it is known whether the process survives it.
//!
//! In: a panic that comes right after a reported one of the same thread. Out: an `$exception` like any other, a tenth of a
//! second later; or, if the process dies of it, nothing: then it came from a destructor while the first one unwound, and the
//! first one, which is reported, is the cause.
//!
//! A hook cannot tell the two apart: the standard library says that a thread panics, not whether an earlier panic of its was
//! caught. Only what happens next tells. So the event is written at once, and held beside the lanes.

use core::time::Duration;
use std::sync::atomic::{Ordering, fence};

use quillet_core::{CaptureError, Clock, Event, Instant, Timestamp};

use crate::lanes::Settled;
use crate::shared::Shared;

/// How soon after the hooks for one panic the next of the same thread is held: unwinding begins when they return, and
/// reaches the first destructors within some microseconds. A thread that has no processor may be late.
const SOON: Duration = Duration::from_millis(100);

/// How long a process must have lived on after the hooks for a panic to have survived it. One that does not is ended by the
/// standard library within some microseconds.
const SURVIVED: Duration = Duration::from_millis(100);

/// How long the hooks may take that come after ours. They may look up the symbols of a large program, for a backtrace.
const HOOKS: Duration = Duration::from_secs(5);

/// How soon to look again at what is due while somebody is there.
const AGAIN: Duration = Duration::from_millis(1);

/// How often somebody who may wait looks whether a thread that is there has gone.
const TRIES: usize = 100;

/// Whether a panic at `now` is so soon after one for which the hooks returned at `before` that it may come of its unwinding. A
/// process that aborts of every panic has no such thing.
pub(super) fn is_soon(before: Option<Instant>, now: Instant) -> bool {
    !cfg!(panic = "abort") && before.is_some_and(|before| now < before.after(SOON))
}

impl Shared {
    /// Holds the news of a panic of `thread`, and commits the one of the same thread that is held, of which nobody can say any
    /// more that it was the last. Returns until when, at most: [`survive`](Self::survive) will want to know. Like all of the
    /// hook it waits for nothing and allocates nothing.
    pub(super) fn hold(&self, thread: usize, event: &Event<'_>, time: Timestamp) -> Result<Instant, CaptureError> {
        self.commit_held_of(thread);
        let until = self.clock.now().after(HOOKS);
        self.lanes.hold(thread, event, time, until)?;
        // With the look at the gates behind it: of a shutdown and a hook that meet, one sees the other.
        fence(Ordering::SeqCst);
        if self.is_closing() {
            self.commit_held_of(thread);
        }
        if self.asleep.swap(false, Ordering::Relaxed) {
            self.wake();
        }
        Ok(until)
    }

    /// The hooks for what is held `until` then have returned: from now on it shows whether the process lives.
    pub(super) fn survive(&self, until: Instant) {
        self.lanes.hold_until(until, self.clock.now().after(SURVIVED));
    }

    /// Commits what is held of `thread`, now.
    pub(super) fn commit_held_of(&self, thread: usize) {
        let settled = self.lanes.settle_held(|owner| owner == thread);
        self.tell_of_held(settled);
    }

    /// The process dies of what is held of `thread`: takes it for a part of the one before.
    pub(super) fn fold_held_of(&self, thread: usize) {
        if self.lanes.forget_held(|owner| owner == thread) {
            self.refuse(CaptureError::RateLimited);
        }
    }

    /// Commits what is held, if the process has survived it. Returns when to come back. For the worker, without its locks.
    pub(crate) fn commit_due(&self) -> Instant {
        let (due, now) = (self.lanes.held_due(), self.clock.now());
        if now < due {
            return due;
        }
        let settled = self.lanes.settle_held(|_| true);
        self.tell_of_held(settled);
        if settled == Settled::Busy { now.after(AGAIN) } else { Instant::NEVER }
    }

    /// Commits what is held: whoever calls this lives, and wants to have everything delivered.
    pub(crate) fn commit_held(&self) {
        for _ in 0..TRIES {
            match self.lanes.settle_held(|_| true) {
                Settled::Busy => std::thread::yield_now(),
                settled => return self.count_held(settled),
            }
        }
    }

    /// The same without waiting for anybody who is there. Async-signal-safe.
    pub(super) fn try_commit_held(&self) {
        self.count_held(self.lanes.settle_held(|_| true));
    }

    /// Forgets what is held: nobody shall have it.
    pub(crate) fn erase_held(&self) {
        if self.lanes.forget_held(|_| true) {
            self.refuse(CaptureError::Closed);
        }
    }

    /// Commits what is held, then lets nobody into a lane any more; says whether all of that was possible.
    pub(crate) fn close_lanes(&self) -> bool {
        let settled = self.lanes.close_held();
        if let Some(settled) = settled {
            self.count_held(settled);
        }
        self.lanes.close() && settled.is_some()
    }

    /// Counts it, and has it in the crash file as every panic.
    fn tell_of_held(&self, settled: Settled) {
        self.count_held(settled);
        if settled == Settled::Committed {
            self.crash.write_file();
        }
    }

    fn count_held(&self, settled: Settled) {
        if let Settled::Refused(reason) = settled {
            self.refuse(reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_within_a_tenth_of_a_second_is_soon() {
        let before = Instant::from_micros(1_000_000);
        assert!(!is_soon(None, before));
        for (micros, expected) in [(0, true), (99_999, true), (100_000, false), (10_000_000, false)] {
            assert_eq!(is_soon(Some(before), before.after(Duration::from_micros(micros))), expected, "{micros}");
        }
    }
}
