//! How a client notices that its process is a copy.
//!
//! In: a byte. Out: the same byte, but zero in every child that `fork` or a raw `clone` makes. A child must not touch what it
//! inherited: its parent's rings may be mapped from a file, its locks may be held by threads that it does not have, and its
//! generators of uuids would repeat the parent's. Reading the byte is one load, which every capture makes anyway.

#![allow(unsafe_code, reason = "a page that the kernel wipes in a child")]

use core::ptr::NonNull;
use std::sync::atomic::AtomicU8;

/// A byte that a forked child finds zero.
pub(crate) struct WipedByte {
    byte: NonNull<AtomicU8>,
}

// SAFETY: all there is to share is an atomic.
unsafe impl Send for WipedByte {}
// SAFETY: as above.
unsafe impl Sync for WipedByte {}

impl WipedByte {
    /// `None` if the system has no page to give. Where the kernel cannot wipe one, the byte is cleared by
    /// `pthread_atfork`, which a child made by a raw `clone` escapes.
    pub(crate) fn new(value: u8) -> Option<Self> {
        let byte = Self { byte: system::page()? };
        system::wipe_in_children(byte.byte)?;
        byte.get().store(value, std::sync::atomic::Ordering::Relaxed);
        Some(byte)
    }

    #[inline(always)]
    pub(crate) fn get(&self) -> &AtomicU8 {
        // SAFETY: `page` gave memory that is valid until `drop`, zeroed, and aligned to more than a byte needs.
        unsafe { self.byte.as_ref() }
    }
}

impl Drop for WipedByte {
    fn drop(&mut self) {
        // SAFETY: this is the page that `new` was given, and nobody can have a reference into it any more.
        unsafe { system::give_back(self.byte) };
    }
}

#[cfg(unix)]
mod system {
    use super::{AtomicU8, NonNull};
    use std::ptr;
    use std::sync::Once;
    use std::sync::atomic::{AtomicPtr, Ordering};

    /// The kernel rounds up to its own pages.
    const PAGE_BYTES: usize = 4096;

    /// Bytes that `pthread_atfork` has to clear, on systems without wiped pages. As many clients can be told apart.
    static LISTED: [AtomicPtr<AtomicU8>; 64] = [const { AtomicPtr::new(ptr::null_mut()) }; 64];

    pub(super) fn page() -> Option<NonNull<AtomicU8>> {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANON);
        // SAFETY: a new anonymous mapping touches nothing that exists.
        let page = unsafe { libc::mmap(ptr::null_mut(), PAGE_BYTES, protection, flags, -1, 0) };
        if page == libc::MAP_FAILED { None } else { NonNull::new(page.cast()) }
    }

    pub(super) fn wipe_in_children(byte: NonNull<AtomicU8>) -> Option<()> {
        #[cfg(target_os = "linux")]
        {
            // SAFETY: the page is ours, private and anonymous, which is what this advice asks for.
            if unsafe { libc::madvise(byte.as_ptr().cast(), PAGE_BYTES, libc::MADV_WIPEONFORK) } == 0 {
                return Some(());
            }
        }
        list(byte)
    }

    /// Has a handler of ours clear the byte in a child.
    pub(super) fn list(byte: NonNull<AtomicU8>) -> Option<()> {
        static REGISTER: Once = Once::new();
        REGISTER.call_once(|| {
            // SAFETY: `clear` only stores to memory that is listed, which a child may do.
            unsafe { libc::pthread_atfork(None, None, Some(clear)) };
        });
        let free = |place: &&AtomicPtr<_>| {
            place.compare_exchange(ptr::null_mut(), byte.as_ptr(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        LISTED.iter().find(free).map(|_| ())
    }

    extern "C" fn clear() {
        for place in &LISTED {
            if let Some(byte) = NonNull::new(place.load(Ordering::Acquire)) {
                // SAFETY: `give_back` takes a byte off the list before its page goes away.
                unsafe { byte.as_ref() }.store(0, Ordering::Relaxed);
            }
        }
    }

    /// # Safety
    ///
    /// `byte` came from `page` and is not used any more.
    pub(super) unsafe fn give_back(byte: NonNull<AtomicU8>) {
        for place in &LISTED {
            let _ = place.compare_exchange(byte.as_ptr(), ptr::null_mut(), Ordering::AcqRel, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise.
        unsafe { libc::munmap(byte.as_ptr().cast(), PAGE_BYTES) };
    }
}

/// Without `fork` a byte is a byte.
#[cfg(not(unix))]
mod system {
    use super::{AtomicU8, NonNull};

    pub(super) fn page() -> Option<NonNull<AtomicU8>> {
        NonNull::new(Box::into_raw(Box::new(AtomicU8::new(0))))
    }

    pub(super) fn wipe_in_children(_byte: NonNull<AtomicU8>) -> Option<()> {
        Some(())
    }

    /// # Safety
    ///
    /// `byte` came from `page` and is not used any more.
    pub(super) unsafe fn give_back(byte: NonNull<AtomicU8>) {
        // SAFETY: the caller's promise; it was a box.
        drop(unsafe { Box::from_raw(byte.as_ptr()) });
    }
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should stop")]
    use super::*;
    use std::sync::atomic::Ordering;

    /// Forks, and returns what the child saw in the byte.
    fn seen_by_a_child(byte: &WipedByte) -> u8 {
        // SAFETY: the child makes no call but `_exit`.
        match unsafe { libc::fork() } {
            // SAFETY: ends the child at once, without running what belongs to the parent.
            0 => unsafe { libc::_exit(byte.get().load(Ordering::Relaxed).into()) },
            child => {
                let mut status = 0;
                // SAFETY: `status` is a valid place for an int.
                assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                assert!(libc::WIFEXITED(status));
                libc::WEXITSTATUS(status) as u8
            }
        }
    }

    #[test]
    fn a_child_finds_zero_and_the_parent_its_value() {
        let byte = WipedByte::new(7).unwrap();
        assert_eq!(seen_by_a_child(&byte), 0);
        assert_eq!(byte.get().load(Ordering::Relaxed), 7);
    }

    #[test]
    fn without_wiped_pages_the_handler_clears_it() {
        let byte = WipedByte { byte: system::page().unwrap() };
        byte.get().store(7, Ordering::Relaxed);
        assert_eq!(seen_by_a_child(&byte), 7, "nobody was told");
        system::list(byte.byte).unwrap();
        assert_eq!(seen_by_a_child(&byte), 0);
        assert_eq!(byte.get().load(Ordering::Relaxed), 7);
    }
}
