//! The bytes that the lanes' rings live in, and who keeps them alive.
//!
//! In: a size. Out: rings over memory that is freed when the last [`Held`] end of them is gone. The memory is asked for
//! once, when a client is built, and comes zeroed from the system without having been touched: a lane that no thread ever
//! enters costs address space, not memory.

#![allow(unsafe_code, reason = "an allocation lent to rings of lifetime 'static, kept alive beside each of their ends")]

use core::ops::{Deref, DerefMut};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::Arc;

use quillet_core::{Consumer, Gauge, Producer, Ring};

/// Pages begin at multiples of this; so do lanes, so that none shares a page or a cache line with its neighbour.
const PAGE_BYTES: usize = 4096;

/// One allocation. Freed on drop.
struct Memory {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the memory is plain bytes; every access to it goes through the rings' ends, which are `Send` and each used by one
// thread at a time.
unsafe impl Send for Memory {}
// SAFETY: nothing can be done with a shared `Memory` but drop it.
unsafe impl Sync for Memory {}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated in `lanes` with this layout, and the last `Arc` is gone, so no ring over it is left.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// Something that uses the memory, and a share of its ownership. The field order drops the user first.
pub(crate) struct Held<T> {
    user: T,
    memory: Arc<Memory>,
}

impl<T> Held<T> {
    /// The same share for what `make` builds from the user. It must not let the user escape.
    pub(crate) fn map<U>(self, make: impl FnOnce(T) -> U) -> Held<U> {
        let Held { user, memory } = self;
        Held { user: make(user), memory }
    }

    /// One share for `N` users of the same memory.
    pub(crate) fn join<const N: usize>(all: [Self; N]) -> Option<Held<[T; N]>> {
        let memory = Arc::clone(&all.first()?.memory);
        Some(Held { user: all.map(|held| held.user), memory })
    }
}

impl<T> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.user
    }
}

impl<T> DerefMut for Held<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.user
    }
}

/// The ends of one lane's ring.
pub(crate) struct Ends {
    pub(crate) producer: Held<Producer<'static>>,
    pub(crate) consumer: Held<Consumer<'static>>,
    pub(crate) gauge: Held<Gauge<'static>>,
}

/// Rings of `capacity` bytes each for `N` lanes, in one allocation. `None` if the system has no memory for them.
pub(crate) fn lanes<const N: usize>(capacity: usize) -> Option<[Ends; N]> {
    let lane = Ring::bytes_for(capacity).checked_next_multiple_of(PAGE_BYTES)?;
    // NB: asked for with a small alignment and a page to spare. For a large one the standard library zeroes the memory
    // itself and so touches every page (measured: 2,050 resident pages of 8 MiB instead of one).
    let bytes = lane.checked_mul(N)?.checked_add(PAGE_BYTES)?;
    let layout = Layout::from_size_align(bytes, align_of::<u64>()).ok()?;
    // SAFETY: the layout's size is not zero.
    let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
    let memory = Arc::new(Memory { start, layout });
    let first = start.addr().get().checked_next_multiple_of(PAGE_BYTES)? - start.addr().get();
    let mut ends = Vec::with_capacity(N);
    for at in 0..N {
        // SAFETY: lane `at` is `lane` bytes at `first + at * lane`; `first` is less than the page added to `N * lane` bytes
        // when the memory was allocated. It is zeroed, so initialised, and lent here and nowhere else. The lifetime 'static
        // is a promise kept by `Held`: each end of the ring sits beside a share of the memory and is dropped before it.
        let bytes: &'static mut [u8] =
            unsafe { std::slice::from_raw_parts_mut(memory.start.as_ptr().add(first + at * lane), lane) };
        let (producer, consumer) = Ring::format(bytes).ok()?.split();
        let gauge = producer.gauge();
        let lane_ends = Ends {
            producer: Held { user: producer, memory: Arc::clone(&memory) },
            consumer: Held { user: consumer, memory: Arc::clone(&memory) },
            gauge: Held { user: gauge, memory: Arc::clone(&memory) },
        };
        ends.push(lane_ends);
    }
    ends.try_into().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]
    use super::*;

    #[test]
    fn each_lane_has_the_capacity_asked_for_and_memory_of_its_own() {
        let mut ends: [Ends; 3] = lanes(1 << 16).unwrap();
        for (at, lane) in ends.iter_mut().enumerate() {
            assert_eq!(lane.producer.capacity(), 1 << 16);
            let mut grant = lane.producer.grant(4).unwrap();
            grant.bytes_mut()[..4].copy_from_slice(&[b'0' + at as u8, b'}', b',', b'\n']);
            grant.commit(4);
        }
        for (at, lane) in ends.iter().enumerate() {
            let (bytes, _) = lane.consumer.slices(lane.consumer.tail(), lane.consumer.head());
            assert_eq!(bytes, [b'0' + at as u8, b'}', b',', b'\n']);
        }
    }

    #[test]
    fn one_end_keeps_the_memory_when_all_others_are_gone() {
        let [ends]: [Ends; 1] = lanes(1 << 16).unwrap();
        let Ends { mut producer, consumer, gauge } = ends;
        drop((consumer, gauge));
        producer.grant(8).unwrap().bytes_mut().fill(7);
    }
}
