//! The end of a client, as the worker sees it.
//!
//! In: a machine that has nothing more to send, or a caller who has given up. Out: everything counted, told to the hooks,
//! and left, removed or erased on the disk; then, and only then, [`Control::finished`].
//!
//! ```text
//!  close the lanes ─▶ count what is left ─▶ files: leave or remove, or erase ─▶ finished
//!                     with the lock          without it: callers whose           ▲    │ a discard came meanwhile
//!                                            deadline passes go on               └────┘ erase
//! ```

use std::sync::Arc;

use quillet_core::{Clock, DropReason};

use super::{Control, Step, Worker};
use crate::shared::Shared;

impl Worker {
    /// Comes to the end. What is left is the spool's, if there is one. Nothing happens the second time.
    pub(super) fn finish(&mut self) -> Step {
        if self.is_finished {
            return Step::Done;
        }
        self.is_finished = true;
        let shared = Arc::clone(&self.shared);
        let is_closed = shared.close_lanes();
        let is_cut_off = self.is_cut_off();
        let mut keeper = shared.keeper();
        let is_kept = keeper.as_ref().is_some_and(|recovery| !is_cut_off && recovery.is_keeping());
        let mut control = shared.control();
        if is_cut_off {
            self.lose_what_is_cut_off(&mut control);
        }
        if let Some(recovery) = &mut *keeper {
            control.settle_spool(recovery);
        }
        let reason = control.abandoned.unwrap_or(DropReason::Shutdown);
        let rest = undecided(&shared, &control);
        control.count_rest(rest, is_kept && reason == DropReason::Shutdown, reason);
        control.close_flushes();
        shared.changed.notify_all();
        loop {
            let is_discarded = control.abandoned == Some(DropReason::Discarded);
            let is_left = control.left > 0 || !is_closed;
            drop(control);
            if let Some(recovery) = &mut *keeper {
                if is_cut_off {
                    recovery.give_up();
                }
                if is_discarded {
                    recovery.erase();
                } else {
                    if is_left {
                        recovery.cover(shared.clock.now(), shared.wall_clock.now(), &self.flusher, true);
                    }
                    recovery.close(is_left);
                }
            }
            shared.crash.close(is_discarded);
            control = shared.control();
            if is_discarded && self.refuge.is_none() {
                self.erase_memory(&mut control);
            }
            if is_discarded == (control.abandoned == Some(DropReason::Discarded)) {
                break;
            }
        }
        control.finished = true;
        let told = core::mem::take(&mut control.given_up);
        shared.changed.notify_all();
        drop(control);
        drop(keeper);
        self.observers.tell(&told, None);
        Step::Done
    }

    /// Nothing of what was discarded stays in memory of this process's own. A file's was overwritten with the file.
    fn erase_memory(&mut self, control: &mut Control) {
        let before = self.flusher.counters().dropped_total();
        self.flusher.erase();
        let released = self.flusher.counters().dropped_total().wrapping_sub(before);
        control.left = control.left.wrapping_sub(released);
        control.decided = control.decided.wrapping_add(released);
    }
}

/// Events in the lanes that nobody has counted.
fn undecided(shared: &Shared, control: &Control) -> u64 {
    shared.undecided(control).saturating_sub(control.left)
}
