//! Pages of a mapped file that are not there any more: they are replaced, and the program goes on.
//!
//! In: SIGBUS at an address inside a mapping of ours, because somebody truncated the file, the disk filled up under a
//! copy-on-write file system, or could not be read. Out: an anonymous page in its place, and a mark that the mapping is
//! degraded: what is stored in it from now on does not survive the process. The flush thread then moves the queue elsewhere.

#![allow(unsafe_code, reason = "replaces pages of a mapping from a signal handler")]

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, Ordering};

use super::signal;

/// Every entry there ever was, newest first. The handler walks along them; none is ever taken out of the chain or freed, but
/// each is used again, so there are as many as there were guarded mappings at one time.
static NEWEST: AtomicPtr<Entry> = AtomicPtr::new(ptr::null_mut());

#[derive(Debug)]
struct Entry {
    next: Option<&'static Entry>,
    is_taken: AtomicBool,
    /// Odd while the words below change. An entry whose mapping is in use does not change.
    changes: AtomicUsize,
    /// Whose it is. A forked child has its parent's entries, and somebody else's memory at their addresses.
    process: AtomicI32,
    start: AtomicUsize,
    bytes: AtomicUsize,
    page_bytes: AtomicUsize,
    is_degraded: AtomicBool,
}

/// A mapping that is guarded as long as this lives. Drop it before the mapping.
#[derive(Debug)]
pub(crate) struct Guard {
    entry: &'static Entry,
}

/// Guards `bytes` bytes at `start`. `None` if the handler cannot be installed: then nobody may use the mapping.
///
/// The handler for SIGBUS is installed by this, in front of whatever is there; a SIGBUS anywhere else goes there. A handler
/// that the program puts in front of ours later, and that does not pass the signal on, leaves all mappings unguarded.
pub(crate) fn guard(start: NonNull<u8>, bytes: usize) -> Option<Guard> {
    let _one_at_a_time = signal::installing();
    if !signal::take_over(libc::SIGBUS) {
        return None;
    }
    let entry = Entry::take();
    entry.set(start.addr().get(), bytes);
    Some(Guard { entry })
}

impl Guard {
    /// Whether a page had to be replaced.
    pub(crate) fn is_degraded(&self) -> bool {
        self.entry.is_degraded.load(Ordering::SeqCst)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.entry.set(0, 0);
        self.entry.is_taken.store(false, Ordering::SeqCst);
    }
}

impl Entry {
    /// One that no mapping of this process has. Called by one thread at a time.
    fn take() -> &'static Self {
        let this = signal::process();
        let is_free = |entry: &&Self| {
            !entry.is_taken.swap(true, Ordering::SeqCst) || entry.process.load(Ordering::SeqCst) != this
        };
        if let Some(entry) = all().find(is_free) {
            return entry;
        }
        let entry: &'static Self = Box::leak(Box::new(Self {
            next: all().next(),
            is_taken: AtomicBool::new(true),
            changes: AtomicUsize::new(0),
            process: AtomicI32::new(this),
            start: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            page_bytes: AtomicUsize::new(signal::page_bytes()),
            is_degraded: AtomicBool::new(false),
        }));
        // Release: pairs with the Acquire in `all`. Nobody else adds one at the same time.
        NEWEST.store(ptr::from_ref(entry).cast_mut(), Ordering::Release);
        entry
    }

    fn set(&self, start: usize, bytes: usize) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.process.store(signal::process(), Ordering::SeqCst);
        self.start.store(start, Ordering::SeqCst);
        self.bytes.store(bytes, Ordering::SeqCst);
        self.is_degraded.store(false, Ordering::SeqCst);
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether the address belongs to its mapping. No while it changes hands: whose it was then is not in use any more, and
    /// whose it will be not yet.
    fn has(&self, address: usize) -> bool {
        let before = self.changes.load(Ordering::SeqCst);
        let offset = address.wrapping_sub(self.start.load(Ordering::SeqCst));
        let is_inside =
            offset < self.bytes.load(Ordering::SeqCst) && self.process.load(Ordering::SeqCst) == signal::process();
        is_inside && before.is_multiple_of(2) && self.changes.load(Ordering::SeqCst) == before
    }
}

/// Every entry there is.
fn all() -> impl Iterator<Item = &'static Entry> {
    // SAFETY: null, or an entry that was leaked. Acquire: pairs with the Release in `take`.
    let newest: Option<&'static Entry> = unsafe { NEWEST.load(Ordering::Acquire).as_ref() };
    core::iter::successors(newest, |entry| entry.next)
}

/// Replaces the page of `address` if it belongs to a guarded mapping. Async-signal-safe.
pub(super) fn repair(address: usize) -> bool {
    let Some(entry) = all().find(|entry| entry.has(address)) else { return false };
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
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]
    use super::*;
    use std::fs::File;
    use std::os::fd::AsRawFd;

    /// A mapped file without a name.
    struct Mapped {
        file: File,
        start: NonNull<u8>,
        bytes: usize,
    }

    impl Mapped {
        fn new(name: &str, pages: usize) -> Self {
            let path = std::env::temp_dir().join(format!("quillet-guard-{}-{name}", std::process::id()));
            let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            let bytes = pages * signal::page_bytes();
            file.set_len(bytes as u64).unwrap();
            // SAFETY: a new mapping of a file that is long enough, used by one thread only.
            let start = unsafe {
                let protection = libc::PROT_READ | libc::PROT_WRITE;
                libc::mmap(ptr::null_mut(), bytes, protection, libc::MAP_SHARED, file.as_raw_fd(), 0)
            };
            assert_ne!(start, libc::MAP_FAILED);
            Self { file, start: NonNull::new(start.cast()).unwrap(), bytes }
        }
    }

    impl Drop for Mapped {
        fn drop(&mut self) {
            // SAFETY: mapped above and not used any more.
            unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
        }
    }

    #[test]
    fn a_truncated_mapping_is_repaired_page_by_page() {
        let mapped = Mapped::new("one", 4);
        let (start, bytes) = (mapped.start, mapped.bytes);
        let guard = super::guard(start, bytes).unwrap();
        // SAFETY: inside the mapping; what the file has lost is repaired.
        unsafe {
            start.write_volatile(7);
            assert!(!guard.is_degraded());
            mapped.file.set_len(0).unwrap();
            start.add(bytes - 1).write_volatile(9);
            assert!(guard.is_degraded());
            assert_eq!(start.add(bytes - 1).read_volatile(), 9);
            assert_eq!(start.read_volatile(), 0, "gone with the file");
        }
        assert!(!repair(start.addr().get() + bytes), "the byte behind is somebody else's");
        drop(guard);
        assert!(!repair(start.addr().get()));
    }

    #[test]
    fn there_is_no_mapping_too_many() {
        let names: Vec<_> = (0..100).map(|n| n.to_string()).collect();
        let mapped: Vec<_> = names.iter().map(|name| Mapped::new(name, 1)).collect();
        let mut guards: Vec<_> = mapped.iter().map(|mapped| guard(mapped.start, mapped.bytes).unwrap()).collect();
        let entries = all().count();
        for n in [3, 50, 99] {
            guards[n] = guard(mapped[n].start, mapped[n].bytes).unwrap();
        }
        assert!(all().count() <= entries + 1, "entries are used again");
        for (mapped, guard) in mapped.iter().zip(&guards) {
            mapped.file.set_len(0).unwrap();
            // SAFETY: inside the mapping.
            unsafe { mapped.start.write_volatile(1) };
            assert!(guard.is_degraded());
        }
    }
}
