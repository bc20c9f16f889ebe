//! Pages of a mapped file that are not there any more: they are replaced, and the program goes on.
//!
//! In: SIGBUS at an address inside a mapping of ours, because somebody truncated the file, the disk filled up under a
//! copy-on-write file system, or could not be read. Out: an anonymous page in its place, and a mark that the mapping is
//! degraded: what is stored in it from now on does not survive the process. The flush thread then moves the queue elsewhere.

#![allow(unsafe_code, reason = "replaces pages of a mapping from a signal handler")]

use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};

use super::signal;

/// Mappings guarded at the same time: one for each client with a spool.
const GUARDS_MAX: usize = 16;

static GUARDS: [Entry; GUARDS_MAX] = [const { Entry::none() }; GUARDS_MAX];

#[derive(Debug)]
struct Entry {
    is_taken: AtomicBool,
    /// Whose it is. A forked child has its parent's entries, and somebody else's memory at their addresses.
    process: AtomicI32,
    start: AtomicUsize,
    bytes: AtomicUsize,
    is_degraded: AtomicBool,
    page_bytes: AtomicUsize,
}

impl Entry {
    const fn none() -> Self {
        Self {
            is_taken: AtomicBool::new(false),
            process: AtomicI32::new(0),
            start: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            is_degraded: AtomicBool::new(false),
            page_bytes: AtomicUsize::new(0),
        }
    }
}

/// A mapping that is guarded as long as this lives. Drop it before the mapping.
#[derive(Debug)]
pub(crate) struct Guard {
    entry: &'static Entry,
}

/// Guards `bytes` bytes at `start`. `None` if there is no room for another mapping or the handler cannot be installed.
///
/// The handler for SIGBUS is installed by this, in front of whatever is there; a SIGBUS anywhere else goes there.
pub(crate) fn guard(start: NonNull<u8>, bytes: usize) -> Option<Guard> {
    let _one_at_a_time = signal::installing();
    let this = signal::process();
    let is_free =
        |entry: &&Entry| !entry.is_taken.swap(true, Ordering::SeqCst) || entry.process.load(Ordering::SeqCst) != this;
    let entry = GUARDS.iter().find(is_free)?;
    entry.bytes.store(0, Ordering::SeqCst);
    entry.process.store(this, Ordering::SeqCst);
    entry.is_degraded.store(false, Ordering::SeqCst);
    entry.page_bytes.store(signal::page_bytes(), Ordering::SeqCst);
    entry.start.store(start.addr().get(), Ordering::SeqCst);
    // Last: without a length nothing lies inside.
    entry.bytes.store(bytes, Ordering::SeqCst);
    let guard = Guard { entry };
    signal::take_over(libc::SIGBUS).then_some(guard)
}

impl Guard {
    /// Whether a page had to be replaced.
    pub(crate) fn is_degraded(&self) -> bool {
        self.entry.is_degraded.load(Ordering::SeqCst)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.entry.bytes.store(0, Ordering::SeqCst);
        self.entry.is_taken.store(false, Ordering::SeqCst);
    }
}

/// Replaces the page of `address` if it belongs to a guarded mapping. Async-signal-safe.
pub(super) fn repair(address: usize) -> bool {
    let is_inside = |entry: &&Entry| {
        let bytes = entry.bytes.load(Ordering::SeqCst);
        address.wrapping_sub(entry.start.load(Ordering::SeqCst)) < bytes
            && entry.process.load(Ordering::SeqCst) == signal::process()
    };
    let Some(entry) = GUARDS.iter().find(is_inside) else { return false };
    let page_bytes = entry.page_bytes.load(Ordering::SeqCst).max(1);
    let page = address - address % page_bytes;
    // First: whoever sees the zeros sees this too.
    entry.is_degraded.store(true, Ordering::SeqCst);
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_FIXED);
    // SAFETY: the page lies in a mapping that `guard` was told of and that outlives its guard; its file has nothing to
    // offer there any more. Threads that use it see zeros, as after a truncation.
    let replaced = unsafe { libc::mmap(page as *mut _, page_bytes, protection, flags, -1, 0) };
    replaced != libc::MAP_FAILED
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should stop")]
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_truncated_mapping_is_repaired_page_by_page() {
        let path = std::env::temp_dir().join(format!("quillet-guard-{}", std::process::id()));
        let file = std::fs::OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let bytes = 4 * signal::page_bytes();
        file.set_len(bytes as u64).unwrap();
        // SAFETY: a new mapping of a file that is long enough, used below by this thread only.
        let start = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(core::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        assert_ne!(start, libc::MAP_FAILED);
        let start = NonNull::new(start.cast::<u8>()).unwrap();
        let guard = super::guard(start, bytes).unwrap();
        // SAFETY: inside the mapping; what the file has lost is repaired.
        unsafe {
            start.write_volatile(7);
            assert!(!guard.is_degraded());
            file.set_len(0).unwrap();
            start.add(bytes - 1).write_volatile(9);
            assert!(guard.is_degraded());
            assert_eq!(start.add(bytes - 1).read_volatile(), 9);
            assert_eq!(start.read_volatile(), 0, "gone with the file");
        }
        assert!(!repair(start.addr().get() + bytes), "the byte behind is somebody else's");
        drop(guard);
        assert!(!repair(start.addr().get()));
        // SAFETY: mapped above and not used any more.
        unsafe { libc::munmap(start.as_ptr().cast(), bytes) };
    }
}
