//! Memory that is given away once.

#![allow(unsafe_code, reason = "a static that becomes a unique reference, and memory that only the linker knows of")]

use core::cell::{Cell, UnsafeCell};
use critical_section::Mutex;

/// A value in a `static` that can be taken once.
pub struct Once<T> {
    value: UnsafeCell<T>,
    taken: Mutex<Cell<bool>>,
}

// SAFETY: `take` makes the only reference there ever is to the value, for one caller.
unsafe impl<T: Send> Sync for Once<T> {}

impl<T> Once<T> {
    /// For a `static`.
    pub const fn new(value: T) -> Self {
        Self { value: UnsafeCell::new(value), taken: Mutex::new(Cell::new(false)) }
    }

    /// The value, the first time.
    #[allow(clippy::mut_from_ref, reason = "the flag sees to it that there is one reference")]
    pub fn take(&'static self) -> Option<&'static mut T> {
        let taken = critical_section::with(|token| self.taken.borrow(token).replace(true));
        // SAFETY: the flag was not set before, so nobody else has or will have a reference.
        if taken { None } else { Some(unsafe { &mut *self.value.get() }) }
    }
}

/// The RAM that a reset does not clear: what the linker script calls `_retained`. `None` the second time.
#[cfg(target_os = "none")]
pub fn retained() -> Option<&'static mut [u8]> {
    static TAKEN: Once<()> = Once::new(());
    unsafe extern "C" {
        static mut _retained: u8;
        static _retained_bytes: u8;
    }
    TAKEN.take()?;
    // SAFETY: the linker script keeps this memory out of every section, and it is given away once. Its bytes are whatever
    // they are: every value is one of a `u8`.
    Some(unsafe { core::slice::from_raw_parts_mut(&raw mut _retained, (&raw const _retained_bytes).addr()) })
}
