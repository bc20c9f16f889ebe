//! What the capturing threads, the flush thread and the callers who wait share, and how they wake each other.

use core::time::Duration;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;

use quillet_core::{CaptureError, Stats};

use crate::clock::SystemClock;
use crate::crash::Crash;
use crate::lanes::Lanes;
use crate::sys::WallClock;
use crate::worker::Control;

/// The client was shut down.
pub(crate) const GATE_CLOSED: u8 = 1;
/// Capturing is switched off.
pub(crate) const GATE_OFF: u8 = 2;
/// There are `before_send` hooks.
pub(crate) const GATE_HOOKS: u8 = 4;

/// What the capturing threads, the flush thread and the waiting callers share.
pub(crate) struct Shared {
    pub(crate) lanes: Lanes,
    /// Everything that takes a capture off its shortest way, in one word: usually zero.
    pub(crate) gates: AtomicU8,
    /// The flush thread sleeps until its interval; whoever fills the queue to `flush_at` wakes it.
    pub(crate) asleep: AtomicBool,
    pub(crate) refused: [AtomicU64; CaptureError::COUNT],
    pub(crate) control: Mutex<Control>,
    /// Signalled when a flush was answered or the worker came to its end.
    pub(crate) changed: Condvar,
    /// The flush thread, once it runs.
    pub(crate) thread: OnceLock<Thread>,
    pub(crate) clock: SystemClock,
    pub(crate) wall_clock: WallClock,
    pub(crate) flush_at: u64,
    pub(crate) flush_interval: Duration,
    pub(crate) crash: Crash,
}

impl Shared {
    pub(crate) fn control(&self) -> MutexGuard<'_, Control> {
        // Nothing panics while it holds this lock; should it happen all the same, the counters are still counters.
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What takes a capture off its shortest way at this moment; zero if nothing does.
    #[inline(always)]
    pub(crate) fn gates(&self) -> u8 {
        self.gates.load(Ordering::Relaxed)
    }

    pub(crate) fn set_gate(&self, gate: u8, set: bool) {
        if set {
            self.gates.fetch_or(gate, Ordering::Relaxed);
        } else {
            self.gates.fetch_and(!gate, Ordering::Relaxed);
        }
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn refuse(&self, reason: CaptureError) -> CaptureError {
        if let Some(counter) = self.refused.get(reason.index()) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        // Full of few large events, perhaps, while nobody is awake to see it.
        if reason == CaptureError::Full && self.asleep.swap(false, Ordering::Relaxed) {
            self.wake();
        }
        reason
    }

    /// After a commit while the flush thread sleeps: wakes it if there is enough to do. The one system call a capture may
    /// make, and only the capture that finds `asleep` set makes it.
    #[cold]
    #[inline(never)]
    pub(crate) fn wake_if_due(&self) {
        if self.lanes.is_worth_waking(self.flush_at) && self.asleep.swap(false, Ordering::Relaxed) {
            self.wake();
        }
    }

    pub(crate) fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let control = self.control();
        let (committed, released) = self.lanes.counts();
        let mut stats = Stats::default();
        stats.add(&control.counters);
        stats.accepted = committed.wrapping_add(control.immediate);
        stats.pending =
            committed.wrapping_sub(released).wrapping_sub(control.abandoned.map_or(0, |(events, _)| events));
        stats.pending = stats.pending.wrapping_add(control.immediate_pending);
        for (total, counter) in stats.refused.iter_mut().zip(&self.refused) {
            *total = counter.load(Ordering::Relaxed);
        }
        stats
    }
}
