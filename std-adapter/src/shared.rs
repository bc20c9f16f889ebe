//! What the capturing threads, the flush thread and the callers who wait share, and how they wake each other.

use core::time::Duration;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread::Thread;

use quillet_core::{CaptureError, Stats};

use crate::clock::SystemClock;
use crate::crash::Crash;
use crate::exception::Errors;
use crate::fork::WipedByte;
use crate::inside::ClientId;
use crate::lanes::Lanes;
use crate::spool::{Durability, Recovery, Spool};
use crate::sys::WallClock;
use crate::worker::Control;

/// The process is the one that built the client. A forked child finds it missing, with everything else in the word.
pub(crate) const GATE_OURS: u8 = 128;
/// What the word of gates is while nothing takes a capture off its shortest way.
pub(crate) const GATES_OPEN: u8 = GATE_OURS;
/// The client was shut down.
pub(crate) const GATE_CLOSED: u8 = 1;
/// Capturing is switched off.
pub(crate) const GATE_OFF: u8 = 2;
/// There are `before_send` hooks.
pub(crate) const GATE_HOOKS: u8 = 4;
/// There is something that no event may say.
pub(crate) const GATE_REDACTS: u8 = 8;

/// What the capturing threads, the flush thread and the waiting callers share.
pub(crate) struct Shared {
    pub(crate) lanes: Lanes,
    /// Everything that takes a capture off its shortest way, in one word: usually [`GATES_OPEN`].
    pub(crate) gates: WipedByte,
    /// The same, for a forked child to know what its parent's word was.
    pub(crate) gates_copy: AtomicU8,
    /// The same of a forked child's own client, once there is one.
    pub(crate) successor: OnceLock<Arc<Shared>>,
    pub(crate) client: ClientId,
    /// The flush thread sleeps until its interval; whoever fills the queue to `flush_at` wakes it.
    pub(crate) asleep: AtomicBool,
    pub(crate) refused: [AtomicU64; CaptureError::COUNT],
    pub(crate) control: Mutex<Control>,
    /// What looks after the spool, while it is no request's: the worker's, who may be at the disk with it. Others take it
    /// only if it is free.
    pub(crate) keeper: Mutex<Option<Recovery>>,
    /// Signalled when a flush was answered or the worker came to its end.
    pub(crate) changed: Condvar,
    /// The flush thread, once it runs.
    pub(crate) thread: OnceLock<Thread>,
    pub(crate) clock: SystemClock,
    pub(crate) wall_clock: WallClock,
    pub(crate) flush_at: u64,
    pub(crate) flush_interval: Duration,
    pub(crate) crash: Crash,
    pub(crate) spool: Option<Spool>,
    pub(crate) errors: Errors,
}

impl Shared {
    pub(crate) fn control(&self) -> MutexGuard<'_, Control> {
        // Nothing panics while it holds this lock; should it happen all the same, the counters are still counters.
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What looks after the spool, if there is one. For the worker: it may take as long as the disk does.
    pub(crate) fn keeper(&self) -> MutexGuard<'_, Option<Recovery>> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Erases everything on the disk that no other living process has, unless the worker is at it: then that does so, having
    /// been told. In either case nothing here waits for a request.
    pub(crate) fn erase_spool(&self) {
        let keeper = match self.keeper.try_lock() {
            Err(TryLockError::WouldBlock) => return,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Ok(keeper) => keeper,
        };
        if let Some(recovery) = { keeper }.as_mut() {
            recovery.erase();
        }
    }

    /// What takes a capture off its shortest way at this moment; [`GATES_OPEN`] if nothing does.
    #[inline(always)]
    pub(crate) fn gates(&self) -> u8 {
        self.gates.get().load(Ordering::Relaxed)
    }

    /// Whether this process built the client, and is no copy of the one that did.
    pub(crate) fn is_ours(&self) -> bool {
        self.gates() & GATE_OURS != 0
    }

    /// What this process uses: these, or in a forked child those of its own client, if it has one yet.
    pub(crate) fn current(&self) -> Option<&Self> {
        if self.is_ours() { Some(self) } else { self.successor.get()?.current() }
    }

    pub(crate) fn set_gate(&self, gate: u8, set: bool) {
        for word in [self.gates.get(), &self.gates_copy] {
            if set {
                word.fetch_or(gate, Ordering::Relaxed);
            } else {
                word.fetch_and(!gate, Ordering::Relaxed);
            }
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

    /// Whether no event will ever be taken any more, but for those of captures that looked before.
    pub(crate) fn is_closing(&self) -> bool {
        self.gates() & GATE_CLOSED != 0
    }

    /// Whether events are taken at all: not after a shutdown, nor while capturing is switched off.
    pub(crate) fn admits(&self) -> Result<(), CaptureError> {
        match self.gates() {
            gates if gates & GATE_CLOSED != 0 => Err(CaptureError::Closed),
            gates if gates & GATE_OFF != 0 => Err(CaptureError::Disabled),
            _ => Ok(()),
        }
    }

    /// The reason for a refusal, where a shutdown that came between a look at the gates and one at the lanes has closed these.
    #[cold]
    pub(crate) fn why_refused(&self, reason: CaptureError) -> CaptureError {
        if reason == CaptureError::Busy { self.admits().err().unwrap_or(reason) } else { reason }
    }

    /// What accepted events survive.
    pub(crate) fn durability(&self) -> Durability {
        let spool = self.spool.as_ref().filter(|_| !self.crash.is_spool_degraded());
        spool.map_or(Durability::Memory, Spool::durability)
    }

    /// Whether the file that the lanes are in was cut off under them: what their counts say is nothing to go by.
    pub(crate) fn is_cut(&self) -> bool {
        self.crash.is_spool_degraded() && !self.lanes.are_moved()
    }

    /// Events in the lanes that nobody has decided about, by the lanes' counts or, where these are gone, by what is known
    /// besides.
    pub(crate) fn undecided(&self, control: &Control) -> u64 {
        let pending = self.lanes.pending();
        if !self.is_cut() {
            return pending;
        }
        self.lanes.committed().map_or(0, |committed| committed.wrapping_sub(control.decided))
    }

    pub(crate) fn stats(&self) -> Stats {
        let control = self.control();
        let (mut committed, mut released) = self.lanes.counts();
        if self.is_cut() {
            // For a moment: the flush thread counts what is lost.
            self.wake();
            (committed, released) = (control.decided.wrapping_add(control.left), control.decided);
        }
        let mut stats = Stats::default();
        stats.add(&control.counters);
        stats.accepted = committed.wrapping_add(control.immediate);
        stats.recovered = control.recovered;
        stats.spooled = control.spooled;
        stats.pending = committed.wrapping_sub(released).wrapping_sub(control.left);
        stats.pending = stats.pending.wrapping_add(control.immediate_pending).wrapping_add(control.replaying);
        for (total, counter) in stats.refused.iter_mut().zip(&self.refused) {
            *total = counter.load(Ordering::Relaxed);
        }
        stats
    }
}
