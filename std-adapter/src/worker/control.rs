//! What callers ask of the flush thread, what it tells them, and the counters that both change.
//!
//! In: orders of callers, decisions of the worker. Out: answers, and numbers that agree with each other whenever the lock is
//! free. It is held for that only: never while anything is sent, called back, read from a disk or written to one. So
//! whoever waits with a deadline can always have it.

use quillet_core::{Counters, DropReason, FlushMark, Instant};

use crate::error::FlushError;
use crate::lanes::RINGS;
use crate::spool::Recovery;

/// What callers ask of the flush thread, and what it tells them.
#[derive(Default)]
pub(crate) struct Control {
    /// Callers in `flush`, each with what became of it.
    pub(crate) flushes: Vec<Flush>,
    /// Ever growing, so that each caller finds its own.
    pub(crate) next_flush: u64,
    /// Shutting down by this time.
    pub(crate) shutdown: Option<Instant>,
    /// The worker came to its end: nothing will be sent, and the disk has what it shall have.
    pub(crate) finished: bool,
    /// What is left was counted as dropped or spooled. Nobody counts it again.
    pub(crate) counted: bool,
    /// A caller gave up what was pending and went on: a shutdown whose deadline passed, or a discard. The worker begins no
    /// further request and counts nothing that was counted; it only tells the hooks.
    pub(crate) abandoned: Option<DropReason>,
    /// What was dropped when somebody gave up, and no hook has been told.
    pub(crate) given_up: Counters,
    /// Everything decided so far, immediate captures included.
    pub(crate) counters: Counters,
    /// Events captured outside of the lanes, and how many of them nobody has decided about.
    pub(crate) immediate: u64,
    pub(crate) immediate_pending: u64,
    /// What the spool has found, what of it is loaded and undecided, and what is left in it for later.
    pub(crate) recovered: u64,
    pub(crate) replaying: u64,
    pub(crate) spooled: u64,
    /// Events still in the lanes that are counted elsewhere: as spooled, or as dropped when somebody gave up.
    pub(crate) left: u64,
    /// Events that were loaded when somebody gave up, and are counted too.
    left_loaded: u64,
    /// Events that left the lanes: delivered, rejected, dropped or spooled. What the lanes' own counts say, as long as the
    /// memory that they are in is not taken away.
    pub(crate) decided: u64,
}

/// One caller in `flush`.
pub(crate) struct Flush {
    pub(crate) id: u64,
    pub(super) mark: Option<FlushMark<RINGS>>,
    /// The caller went before the worker had seen it.
    pub(super) is_left: bool,
    pub(crate) result: Option<Result<(), FlushError>>,
}

impl Control {
    /// Registers a caller.
    pub(crate) fn ask_flush(&mut self) -> u64 {
        self.next_flush += 1;
        self.flushes.push(Flush { id: self.next_flush, mark: None, is_left: false, result: None });
        self.next_flush
    }

    /// A caller's answer, if there is one.
    pub(crate) fn flush_result(&self, id: u64) -> Option<Result<(), FlushError>> {
        self.flushes.iter().find(|flush| flush.id == id).and_then(|flush| flush.result)
    }

    /// Answers everybody who still waits: nothing more will be sent.
    pub(crate) fn close_flushes(&mut self) {
        for flush in &mut self.flushes {
            flush.result.get_or_insert(Err(FlushError::Closed));
        }
    }

    /// Counts what is left, `live` events in the lanes and whatever was loaded, as spooled if they are kept, or else as
    /// dropped for `reason`. Events that were committed while somebody counted come with a second call.
    pub(crate) fn count_rest(&mut self, live: u64, is_kept: bool, reason: DropReason) {
        self.counted = true;
        self.left = self.left.wrapping_add(live);
        // What was loaded the last time is counted, whether it is still there or not; nobody decides about it any more.
        let loaded = core::mem::take(&mut self.replaying).saturating_sub(self.left_loaded);
        self.left_loaded = self.left_loaded.wrapping_add(loaded);
        self.spooled = self.spooled.wrapping_add(loaded);
        if is_kept {
            self.spooled = self.spooled.wrapping_add(live);
        } else {
            self.count_dropped(live, reason);
        }
        if reason == DropReason::Discarded {
            self.discard_spooled();
        }
    }

    /// Gives up: nothing will be sent any more, and `live` events in the lanes are left. A discard gives up what is in the
    /// spool too, also when everything was counted before. Whether there is news for the worker.
    pub(crate) fn abandon(&mut self, live: u64, is_kept: bool, reason: DropReason) -> bool {
        let is_discard = reason == DropReason::Discarded;
        if self.abandoned == Some(reason) || (self.counted && !is_discard) {
            return false;
        }
        self.abandoned = Some(reason);
        if !self.counted {
            self.count_rest(live, is_kept, reason);
        }
        if is_discard {
            self.discard_spooled();
        }
        self.close_flushes();
        true
    }

    fn discard_spooled(&mut self) {
        let spooled = core::mem::take(&mut self.spooled);
        self.count_dropped(spooled, DropReason::Discarded);
    }

    fn count_dropped(&mut self, events: u64, reason: DropReason) {
        for counters in [&mut self.counters, &mut self.given_up] {
            if let Some(counter) = counters.dropped.get_mut(reason.index()) {
                *counter = counter.wrapping_add(events);
            }
        }
    }

    /// Counts what the spool has done since the last time; says what became of events.
    pub(crate) fn settle_spool(&mut self, recovery: &mut Recovery) -> Counters {
        let (ledger, pending) = recovery.settle();
        let mut decided = ledger.counters;
        for (sum, dropped) in decided.dropped.iter_mut().zip(ledger.dropped) {
            *sum = sum.wrapping_add(dropped);
        }
        self.recovered = self.recovered.wrapping_add(ledger.recovered);
        self.spooled = self.spooled.wrapping_sub(ledger.resumed);
        self.replaying = pending;
        self.counters.add(&decided);
        decided
    }

    /// Forgets a caller, but not an order that the worker has not seen yet: somebody who would not wait at all asked for
    /// a flush nonetheless. One such order is enough.
    pub(crate) fn end_flush(&mut self, id: u64) {
        let is_ordered = self.flushes.iter().any(|flush| flush.is_left);
        self.flushes.retain_mut(|flush| {
            if flush.id != id {
                return true;
            }
            flush.is_left = flush.mark.is_none() && flush.result.is_none() && !is_ordered;
            flush.is_left
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dropped at a shutdown, dropped by a discard, spooled, left in the lanes.
    fn fates(control: &Control) -> (u64, u64, u64, u64) {
        let dropped = |reason: DropReason| control.counters.dropped.get(reason.index()).copied().unwrap_or_default();
        let [shutdown, discarded] = [DropReason::Shutdown, DropReason::Discarded].map(dropped);
        (shutdown, discarded, control.spooled, control.left)
    }

    #[test]
    fn what_is_left_is_counted_once_however_often_somebody_gives_up() {
        let mut control = Control { replaying: 3, ..Control::default() };
        assert!(control.abandon(5, true, DropReason::Shutdown));
        assert!(!control.abandon(5, true, DropReason::Shutdown), "no news");
        assert_eq!(fates(&control), (0, 0, 8, 5));
        // The worker comes back: what was loaded is still there, and two events were committed while somebody counted.
        control.replaying = 3;
        control.count_rest(2, true, DropReason::Shutdown);
        assert_eq!(fates(&control), (0, 0, 10, 7));
        assert!(control.abandon(7, false, DropReason::Discarded));
        assert_eq!(fates(&control), (0, 10, 0, 7));
        assert!(!control.abandon(7, false, DropReason::Discarded) && !control.abandon(7, false, DropReason::Shutdown));
        assert_eq!(fates(&control), (0, 10, 0, 7));
    }

    #[test]
    fn a_discard_counts_what_the_worker_loaded_meanwhile() {
        let mut control = Control { spooled: 4, ..Control::default() };
        assert!(control.abandon(1, false, DropReason::Discarded));
        assert_eq!(fates(&control), (0, 5, 0, 1));
        // Two of the four were taken up again at that moment, and six were found.
        control.spooled = control.spooled.wrapping_sub(2);
        control.replaying = 8;
        control.count_rest(0, false, DropReason::Discarded);
        assert_eq!(fates(&control), (0, 11, 0, 1), "six more");
    }

    #[test]
    fn the_hooks_are_told_of_what_was_dropped_and_of_nothing_that_is_kept() {
        let mut control = Control::default();
        control.abandon(2, false, DropReason::Shutdown);
        assert_eq!(control.given_up.dropped_total(), 2);
        let mut control = Control::default();
        control.abandon(2, true, DropReason::Shutdown);
        assert_eq!(control.given_up.dropped_total(), 0);
    }
}
