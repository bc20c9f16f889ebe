//! An allocator that counts, and that fails when told to.
//!
//! A test binary installs it and asks how much a stretch of code allocated, on this thread or on all of them:
//!
//! ```
//! use quillet_support::alloc::{CountingAllocator, allocations_in};
//!
//! #[global_allocator]
//! static ALLOCATOR: CountingAllocator = CountingAllocator::new();
//!
//! let (counts, sum) = allocations_in(|| 1 + 1);
//! assert_eq!(sum, 2);
//! assert_eq!(counts.allocations, 0);
//! ```
//!
//! Concurrency: per-thread counters are plain cells, the overall ones relaxed atomics. The overall numbers are exact
//! whenever no other thread is inside the allocator.
#![allow(unsafe_code, reason = "GlobalAlloc is an unsafe trait; everything is forwarded to the system's allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::Sub;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The system's allocator with counters in front, to be installed with `#[global_allocator]`.
#[derive(Debug, Default)]
pub struct CountingAllocator;

impl CountingAllocator {
    /// The one there is; all counters are global.
    pub const fn new() -> Self {
        Self
    }
}

// SAFETY: every pointer comes from `System` and goes back to it with the layout the caller gave; `null` is the allowed
// answer of an allocation that failed. The counters neither allocate nor unwind: `LocalKey::try_with` on a cell that
// is initialised in a const and needs no drop does no work at first use.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !admit(layout.size()) {
            return null_mut();
        }
        // SAFETY: the caller's layout, unchanged; its non-zero size is the caller's duty under the same trait.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !admit(layout.size()) {
            return null_mut();
        }
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        if !admit(bytes) {
            return null_mut();
        }
        // SAFETY: `memory` came from this allocator, hence from `System`, with this layout.
        unsafe { System.realloc(memory, layout, bytes) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        note_free();
        // SAFETY: `memory` came from this allocator, hence from `System`, with this layout.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// What was asked of the allocator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that asked for memory: new, zeroed or resized. Those that were made to fail are among them.
    pub allocations: u64,
    /// Bytes these calls asked for; a resize counts its whole new size.
    pub bytes: u64,
    /// Calls that gave memory back.
    pub frees: u64,
    /// Calls that were made to fail by [`fail_on`].
    pub failed: u64,
}

impl Counts {
    const ZERO: Self = Self { allocations: 0, bytes: 0, frees: 0, failed: 0 };
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            allocations: self.allocations.wrapping_sub(earlier.allocations),
            bytes: self.bytes.wrapping_sub(earlier.bytes),
            frees: self.frees.wrapping_sub(earlier.frees),
            failed: self.failed.wrapping_sub(earlier.failed),
        }
    }
}

/// What this thread asked for since it began.
pub fn thread_counts() -> Counts {
    COUNTS.try_with(Cell::get).unwrap_or_default()
}

/// What all threads asked for since the process began.
pub fn total_counts() -> Counts {
    Counts {
        allocations: ALLOCATIONS.load(Ordering::Relaxed),
        bytes: BYTES.load(Ordering::Relaxed),
        frees: FREES.load(Ordering::Relaxed),
        failed: FAILED.load(Ordering::Relaxed),
    }
}

/// Runs `work` and answers what this thread asked for meanwhile.
pub fn allocations_in<T>(work: impl FnOnce() -> T) -> (Counts, T) {
    let before = thread_counts();
    let result = work();
    (thread_counts() - before, result)
}

/// Whose allocations fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// The calling thread's.
    This,
    /// Everybody's but the calling thread's: the flush thread's, seen from a test.
    Others,
    /// Everybody's.
    All,
}

/// Makes every allocation of at least `bytes` bytes on `threads` fail until the answer is dropped.
///
/// [`Threads::Others`] and [`Threads::All`] share one switch for the whole process: the last call wins, and the first
/// drop turns it off. Tests that use them run one at a time.
#[must_use = "dropping it ends the failures"]
pub fn fail_on(threads: Threads, bytes: usize) -> Failing {
    match threads {
        Threads::This => {
            let _ = FAIL_HERE.try_with(|limit| limit.set(bytes));
        }
        Threads::Others => {
            EXEMPT.store(thread_token(), Ordering::SeqCst);
            FAIL_EVERYWHERE.store(bytes, Ordering::SeqCst);
        }
        Threads::All => {
            EXEMPT.store(0, Ordering::SeqCst);
            FAIL_EVERYWHERE.store(bytes, Ordering::SeqCst);
        }
    }
    Failing { threads }
}

/// Allocations fail while this lives; see [`fail_on`].
#[derive(Debug)]
pub struct Failing {
    threads: Threads,
}

impl Drop for Failing {
    fn drop(&mut self) {
        if self.threads == Threads::This {
            let _ = FAIL_HERE.try_with(|limit| limit.set(NEVER));
        } else {
            FAIL_EVERYWHERE.store(NEVER, Ordering::SeqCst);
        }
    }
}

/// No allocation is that large.
const NEVER: usize = usize::MAX;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);
static FREES: AtomicU64 = AtomicU64::new(0);
static FAILED: AtomicU64 = AtomicU64::new(0);

static FAIL_EVERYWHERE: AtomicUsize = AtomicUsize::new(NEVER);
/// The token of the thread that [`FAIL_EVERYWHERE`] spares; 0 spares none.
static EXEMPT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static COUNTS: Cell<Counts> = const { Cell::new(Counts::ZERO) };
    static FAIL_HERE: Cell<usize> = const { Cell::new(NEVER) };
}

/// Counts one request for memory; `false` if it must fail.
fn admit(bytes: usize) -> bool {
    let fails = bytes >= FAIL_HERE.try_with(Cell::get).unwrap_or(NEVER)
        || (bytes >= FAIL_EVERYWHERE.load(Ordering::Relaxed) && EXEMPT.load(Ordering::Relaxed) != thread_token());
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
    FAILED.fetch_add(u64::from(fails), Ordering::Relaxed);
    update(|counts| {
        counts.allocations = counts.allocations.wrapping_add(1);
        counts.bytes = counts.bytes.wrapping_add(bytes as u64);
        counts.failed = counts.failed.wrapping_add(u64::from(fails));
    });
    !fails
}

fn note_free() {
    FREES.fetch_add(1, Ordering::Relaxed);
    update(|counts| counts.frees = counts.frees.wrapping_add(1));
}

/// A thread that is being torn down has no counters any more; only the overall ones see it.
fn update(change: impl FnOnce(&mut Counts)) {
    let _ = COUNTS.try_with(|cell| {
        let mut counts = cell.get();
        change(&mut counts);
        cell.set(counts);
    });
}

/// A number that no other living thread has: the address of its counters. Never 0, except while it is torn down.
fn thread_token() -> usize {
    COUNTS.try_with(|cell| std::ptr::from_ref(cell).addr()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use std::sync::Mutex;
    use std::sync::mpsc::channel;

    #[global_allocator]
    static ALLOCATOR: CountingAllocator = CountingAllocator::new();

    /// The process-wide switch has one user at a time.
    static SWITCH: Mutex<()> = Mutex::new(());

    /// Asks for memory in the one way that reports failure.
    fn reserve(bytes: usize) -> bool {
        let mut memory = Vec::<u8>::new();
        memory.try_reserve_exact(bytes).is_ok()
    }

    #[test]
    fn allocations_of_this_thread_are_counted() {
        let (counts, kept) = allocations_in(|| reserve(1000));
        assert!(kept);
        assert_eq!(counts, Counts { allocations: 1, bytes: 1000, frees: 1, failed: 0 });
        let (counts, ()) = allocations_in(|| ());
        assert_eq!(counts, Counts::ZERO);
    }

    #[test]
    fn another_threads_allocations_count_in_the_total_only() {
        let (ask, asked) = channel::<()>();
        let (tell, told) = channel::<bool>();
        let other = std::thread::spawn(move || {
            asked.recv().unwrap();
            tell.send(reserve(12_345)).unwrap();
        });
        let before = total_counts();
        ask.send(()).unwrap();
        assert!(told.recv().unwrap());
        other.join().unwrap();
        let here = thread_counts();
        let (counts, ()) = allocations_in(|| ());
        assert_eq!(counts.allocations, 0);
        assert!(total_counts().bytes - before.bytes >= 12_345);
        assert!(total_counts().bytes >= here.bytes);
    }

    #[test]
    fn large_allocations_of_this_thread_fail_on_request_and_only_then() {
        let failing = fail_on(Threads::This, 100_000);
        assert!(!reserve(100_000));
        assert!(reserve(99_999));
        assert!(std::thread::spawn(|| reserve(100_000)).join().unwrap());
        drop(failing);
        assert!(reserve(100_000));
        assert!(thread_counts().failed >= 1);
    }

    #[test]
    fn a_test_can_starve_all_the_others() {
        let _one_at_a_time = SWITCH.lock().unwrap();
        // Larger than anything the other tests of this binary ask for at the same time.
        const BYTES: usize = 512 * 1024 * 1024;
        let failing = fail_on(Threads::Others, BYTES);
        assert!(reserve(BYTES));
        assert!(!std::thread::spawn(|| reserve(BYTES)).join().unwrap());
        drop(failing);
        let failing = fail_on(Threads::All, BYTES);
        assert!(!reserve(BYTES));
        drop(failing);
        assert!(reserve(BYTES));
    }
}
