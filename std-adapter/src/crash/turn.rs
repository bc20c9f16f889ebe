//! Whose signal it is, when several threads have one, or one thread has several, or the handlers from before are never done.
//!
//! In: threads inside the signal handler. Out: at most one of them that writes a record, the others waiting or passing by.
//! Only atomics, so that a handler may use it; and nothing that a forked child finds here keeps it waiting for a thread that
//! only its parent has.

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::signal::{self, let_others_run, seconds};

/// How long a thread that gets a signal while another one has one waits for that one's end, in seconds.
const OTHERS_SECONDS: libc::time_t = 1;

/// Whose signal is being dealt with, as [`me`] says; 0 if there is none. A forked child finds an owner that is not of its
/// process: a thread that it does not have.
static OWNER: AtomicU64 = AtomicU64::new(0);

/// Where on the stack the owner's handler is. Whatever it calls is below.
static OWNER_AT: AtomicUsize = AtomicUsize::new(0);

/// Said of an owner while the handlers from before have their turn. They may never come back.
const IS_AWAY: u64 = 1 << 63;

/// A handler that was there before did not come back once.
static ARE_LEFT: AtomicBool = AtomicBool::new(false);

/// Whether a handler that was there before did not come back once: by a jump, or because it waits for ever.
pub(super) fn are_left() -> bool {
    ARE_LEFT.load(Ordering::Relaxed)
}

/// How a thread with a signal stands to those that were there before.
#[derive(PartialEq, Eq)]
pub(super) enum Turn {
    /// Nobody was: it writes the record.
    First,
    /// It was there itself, and a handler it called ran into another signal: the first record stays.
    Again,
    /// Another thread is, and does not end.
    Never,
}

impl Turn {
    /// The thread's turn, waited for if another one is at it: that one usually ends the process. `here` is an address in the
    /// handler's frame; `is_inside` says whether the signal interrupted what a handler with that address called.
    pub(super) fn claim(me: u64, here: usize, is_inside: impl Fn(usize) -> bool) -> Self {
        let started = seconds();
        let mut owner = OWNER.load(Ordering::Acquire);
        loop {
            let is_free = owner == 0 || owner >> 32 & !(IS_AWAY >> 32) != me >> 32;
            let is_away = owner & IS_AWAY != 0;
            if owner & !IS_AWAY == me {
                if is_inside(OWNER_AT.load(Ordering::Relaxed)) {
                    return Self::Again;
                }
                // The handler that it called has not returned: a jump led out of it.
                ARE_LEFT.store(true, Ordering::Relaxed);
            } else if !is_free {
                let is_over = seconds() - started > OTHERS_SECONDS;
                if is_over && !is_away {
                    return Self::Never;
                }
                if is_over {
                    ARE_LEFT.store(true, Ordering::Relaxed);
                } else if !(is_away && ARE_LEFT.load(Ordering::Relaxed)) {
                    let_others_run();
                    owner = OWNER.load(Ordering::Acquire);
                    continue;
                }
            }
            // Acquire and Release: the pages are handed over from owner to owner.
            match OWNER.compare_exchange(owner, me, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    OWNER_AT.store(here, Ordering::Relaxed);
                    return Self::First;
                }
                Err(changed) => owner = changed,
            }
        }
    }

    /// Before handlers that may not come back.
    pub(super) fn go_away(&self, me: u64) {
        if *self == Self::First {
            let _ = OWNER.compare_exchange(me, me | IS_AWAY, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// Behind them. If another thread did not wait, its record is in the pages by now.
    pub(super) fn come_back(&mut self, me: u64) {
        if *self == Self::First
            && OWNER.compare_exchange(me | IS_AWAY, me, Ordering::AcqRel, Ordering::Relaxed).is_err()
        {
            *self = Self::Never;
        }
    }

    /// The next signal, on whatever thread, is a new one. Only whoever began says so: a signal inside of a handler ends
    /// before the one that the handler was called for.
    pub(super) fn end(self, me: u64) {
        if self == Self::First {
            let _ = OWNER.compare_exchange(me, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }
}

/// The lower half of a count's word.
const COUNT: u64 = 0xffff_ffff;

/// How many threads of this process are using something. What a forked child finds counts its parent's, and so as none.
pub(super) struct Users(AtomicU64);

impl Users {
    pub(super) const fn none() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The process in the upper half, how many in the lower.
    fn change(&self, change: impl Fn(u32) -> u32) {
        let this = signal::process_word();
        let count = |word: u64| if word & !COUNT == this { (word & COUNT) as u32 } else { 0 };
        // Neither fails nor blocks: somebody else's success is the only reason to try again.
        let _ =
            self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |word| Some(this | u64::from(change(count(word)))));
    }

    pub(super) fn enter(&self) {
        self.change(|count| count.wrapping_add(1));
    }

    /// In a child forked in between, nobody has entered.
    pub(super) fn leave(&self) {
        self.change(|count| count.saturating_sub(1));
    }

    pub(super) fn are_there(&self) -> bool {
        let word = self.0.load(Ordering::SeqCst);
        word & !COUNT == signal::process_word() && word & COUNT != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forked_child_counts_its_own_threads_only() {
        // What a child finds whose parent had three in there.
        let users = Users(AtomicU64::new((signal::process_word() ^ 1 << 32) | 3));
        assert!(!users.are_there());
        // It was itself between the two.
        users.leave();
        assert!(!users.are_there());
        users.enter();
        users.enter();
        users.leave();
        assert!(users.are_there());
        users.leave();
        assert!(!users.are_there());
    }

    #[test]
    fn an_owner_of_another_process_or_one_that_is_gone_is_no_owner() {
        let (me, here) = (signal::me(), core::ptr::from_ref(&0).addr());
        let first = |is_inside: bool| {
            let mut turn = Turn::claim(me, here, |_| is_inside);
            let is_first = turn == Turn::First;
            turn.go_away(me);
            turn.come_back(me);
            turn.end(me);
            is_first
        };
        assert!(first(true), "nobody was there");
        OWNER.store(me ^ 1 << 32, Ordering::SeqCst);
        assert!(first(true), "the parent was, in which this one has another number");
        OWNER.store(me | IS_AWAY, Ordering::SeqCst);
        assert!(!first(true) && !are_left(), "this thread was, and is in a handler that it called");
        assert!(first(false) && are_left(), "and out of it again, by a jump");
        OWNER.store((me ^ 1) | IS_AWAY, Ordering::SeqCst);
        assert!(first(true), "another thread, in a handler that may not come back either");
        assert_eq!(OWNER.load(Ordering::SeqCst), 0);
    }
}
