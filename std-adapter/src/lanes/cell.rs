//! A value that one thread at a time may use, and that nobody ever waits for.
//!
//! In: a value. Out: exclusive use of it, or the news that somebody else is inside. A mutex whose `lock` does not exist:
//! taking it is one atomic exchange, giving it back one store.

#![allow(unsafe_code, reason = "shared memory behind a flag: the one thing the lanes cannot be built without")]

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};

/// A value behind a flag. Aligned so that no two share a cache line, or a pair of lines fetched together.
#[repr(align(128))]
pub(crate) struct TryCell<T> {
    busy: AtomicBool,
    /// Busy for good, as whoever was inside last has left nobody to follow: there is no guard, and any thread may have it.
    closed: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `try_enter` lets one thread at a time reach the value, and hands it over with Acquire and Release; so sharing the
// cell is sending the value back and forth.
unsafe impl<T: Send> Sync for TryCell<T> {}

impl<T> TryCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { busy: AtomicBool::new(false), closed: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Exclusive use of the value, unless somebody has it now. Re-entrant calls are refused like any other.
    #[inline(always)]
    pub(crate) fn try_enter(&self) -> Option<Inside<'_, T>> {
        // Acquire: pairs with the Release in `Inside::drop`, so that what the last visitor did is seen.
        if self.busy.swap(true, Ordering::Acquire) { None } else { Some(Inside { cell: self }) }
    }

    /// Whether somebody [closed](Inside::close) it.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Exclusive use of a value that was closed: the guard that whoever closed it did not drop. Open again after it.
    pub(crate) fn reopen(&self) -> Option<Inside<'_, T>> {
        // Acquire: pairs with the Release in `Inside::close`. Of several threads one finds it set.
        if self.closed.swap(false, Ordering::Acquire) { Some(Inside { cell: self }) } else { None }
    }
}

/// Exclusive use of a [`TryCell`]'s value. Given back on drop, also while unwinding.
pub(crate) struct Inside<'a, T> {
    cell: &'a TryCell<T>,
}

impl<T> Inside<'_, T> {
    /// Leaves, and lets nobody in any more.
    pub(crate) fn close(self) {
        // Release: pairs with the Acquire in `reopen`.
        self.cell.closed.store(true, Ordering::Release);
        core::mem::forget(self);
    }
}

impl<T> Deref for Inside<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: `busy` was false and is true since this guard was made; nobody else gets one before it is dropped.
        unsafe { &*self.cell.value.get() }
    }
}

impl<T> DerefMut for Inside<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`; and the guard itself is borrowed mutably.
        unsafe { &mut *self.cell.value.get() }
    }
}

impl<T> Drop for Inside<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `try_enter`.
        self.cell.busy.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails should stop")]
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn one_visitor_at_a_time() {
        let cell = TryCell::new(1);
        let inside = cell.try_enter().unwrap();
        assert!(cell.try_enter().is_none(), "not even the same thread");
        drop(inside);
        *cell.try_enter().unwrap() += 1;
        assert_eq!(*cell.try_enter().unwrap(), 2);
    }

    #[test]
    fn what_is_closed_is_entered_by_nobody_before_it_is_reopened() {
        let cell = TryCell::new(1);
        assert!(cell.reopen().is_none(), "it is open");
        cell.try_enter().unwrap().close();
        assert!(cell.is_closed() && cell.try_enter().is_none());
        let inside = cell.reopen().unwrap();
        assert!(!cell.is_closed() && cell.reopen().is_none() && cell.try_enter().is_none(), "one visitor at a time");
        drop(inside);
        assert!(cell.try_enter().is_some());
    }

    #[test]
    fn unwinding_gives_it_back() {
        let cell = TryCell::new(());
        let result = catch_unwind(AssertUnwindSafe(|| {
            let _inside = cell.try_enter().unwrap();
            panic!("while inside");
        }));
        assert!(result.is_err());
        assert!(cell.try_enter().is_some());
    }

    #[test]
    fn visits_of_many_threads_never_overlap() {
        let cell = TryCell::new((0u64, 0u64));
        let done: u64 = std::thread::scope(|scope| {
            let visitors: [_; 4] = core::array::from_fn(|_| {
                scope.spawn(|| {
                    let mut visits = 0;
                    for _ in 0..50_000 {
                        if let Some(mut inside) = cell.try_enter() {
                            inside.0 += 1;
                            inside.1 += 1;
                            assert_eq!(inside.0, inside.1);
                            visits += 1;
                        }
                    }
                    visits
                })
            });
            visitors.into_iter().map(|visitor| visitor.join().unwrap()).sum()
        });
        assert_eq!(cell.try_enter().unwrap().0, done);
    }
}
