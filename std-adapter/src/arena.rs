//! The bytes that the lanes' rings live in, and who keeps them alive.
//!
//! In: a size, or a mapped file. Out: rings over memory that is given back when the last [`Held`] end of them is gone. The
//! memory is asked for once, when a client is built. From the heap it comes zeroed and untouched: a lane that no thread
//! ever enters costs address space, not memory. Only the first lane, where every thread begins, is touched at once: else
//! one capture in fourteen of its first round would wait for a page, ten times as long as it takes. A mapped file is all
//! there from the beginning, for the same reason.

#![allow(unsafe_code, reason = "an allocation lent to rings of lifetime 'static, kept alive beside each of their ends")]

use core::ops::{Deref, DerefMut};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::Arc;

use quillet_core::{Consumer, Gauge, Producer, Ring};
#[cfg(unix)]
use quillet_core::{Recovered, RingError, Trust};

use crate::spool::Mapping;

/// Pages begin at multiples of this; so do lanes, so that none shares a page or a cache line with its neighbour.
const PAGE_BYTES: usize = 4096;

/// How much of the first lane is touched at most. A larger queue is there for outages; most of it may never be used.
const TOUCHED_BYTES_MAX: usize = 16 << 20;

/// What keeps the bytes.
enum Memory {
    /// One allocation. Freed on drop.
    Heap { start: NonNull<u8>, layout: Layout },
    /// A file that outlives the process. Only ever dropped.
    Mapped { _mapping: Arc<Mapping> },
}

// SAFETY: the memory is plain bytes; every access to it goes through the rings' ends, which are `Send` and each used by one
// thread at a time.
unsafe impl Send for Memory {}
// SAFETY: nothing can be done with a shared `Memory` but drop it.
unsafe impl Sync for Memory {}

impl Memory {
    /// `bytes` zeroed bytes from the heap, and where the first page in them begins. A page more is asked for than needed.
    ///
    /// NB: asked for with a small alignment. For a large one the standard library zeroes the memory itself and so touches
    /// every page (measured: 2,050 resident pages of 8 MiB instead of one).
    fn heap(bytes: usize) -> Option<(Self, NonNull<u8>)> {
        let layout = Layout::from_size_align(bytes.checked_add(PAGE_BYTES)?, align_of::<u64>()).ok()?;
        // SAFETY: the layout's size is not zero.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        let memory = Self::Heap { start, layout };
        let skip = start.addr().get().checked_next_multiple_of(PAGE_BYTES)? - start.addr().get();
        // SAFETY: less than the page that was added.
        Some((memory, unsafe { start.add(skip) }))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Self::Heap { start, layout } = self {
            // SAFETY: allocated in `heap` with this layout, and the last `Arc` is gone, so no ring over it is left.
            unsafe { dealloc(start.as_ptr(), *layout) };
        }
    }
}

/// Something that uses the memory, and a share of its ownership. The field order drops the user first.
pub(crate) struct Held<T> {
    user: T,
    memory: Arc<Memory>,
}

impl<T: Clone> Clone for Held<T> {
    fn clone(&self) -> Self {
        Self { user: self.user.clone(), memory: Arc::clone(&self.memory) }
    }
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

/// The ends of one ring.
pub(crate) struct Ends {
    pub(crate) producer: Held<Producer<'static>>,
    pub(crate) consumer: Held<Consumer<'static>>,
    pub(crate) gauge: Held<Gauge<'static>>,
}

impl Ends {
    /// Formats an empty ring in the `bytes` bytes at `start`. Before that, has the system find memory for the pages of the
    /// first `touched` of them.
    ///
    /// # Safety
    ///
    /// They are initialised, kept by `memory`, and lent here and nowhere else.
    unsafe fn format(memory: &Arc<Memory>, start: NonNull<u8>, bytes: usize, touched: usize) -> Option<Self> {
        // SAFETY: the caller's promise. The lifetime 'static is one that `Held` keeps: each end of the ring sits beside a
        // share of the memory and is dropped before it.
        let bytes: &'static mut [u8] = unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), bytes) };
        for first in bytes.iter_mut().take(touched).step_by(PAGE_BYTES) {
            // Kept from seeing that the memory is zero already.
            *core::hint::black_box(first) = 0;
        }
        Some(Self::of(memory, Ring::format(bytes).ok()?))
    }

    fn of(memory: &Arc<Memory>, ring: Ring<'static>) -> Self {
        let (producer, consumer) = ring.split();
        let gauge = producer.gauge();
        Self {
            producer: Held { user: producer, memory: Arc::clone(memory) },
            consumer: Held { user: consumer, memory: Arc::clone(memory) },
            gauge: Held { user: gauge, memory: Arc::clone(memory) },
        }
    }
}

/// Rings of `capacity` bytes each for `N` lanes, in one allocation. `None` if the system has no memory for them.
pub(crate) fn lanes<const N: usize>(capacity: usize) -> Option<[Ends; N]> {
    let lane = Ring::bytes_for(capacity).checked_next_multiple_of(PAGE_BYTES)?;
    let (memory, first) = Memory::heap(lane.checked_mul(N)?)?;
    let memory = Arc::new(memory);
    let mut ends = Vec::with_capacity(N);
    for at in 0..N {
        let touched = if at == 0 { TOUCHED_BYTES_MAX } else { 0 };
        // SAFETY: lane `at` is `lane` bytes of the `N * lane` that were allocated, zeroed and so initialised; no other turn
        // of the loop lends them.
        ends.push(unsafe { Ends::format(&memory, first.add(at * lane), lane, touched) }?);
    }
    ends.try_into().ok()
}

/// One ring of `capacity` bytes, of which no page is touched. `None` if the system has no memory for it.
pub(crate) fn untouched(capacity: usize) -> Option<Ends> {
    let bytes = Ring::bytes_for(capacity);
    let (memory, start) = Memory::heap(bytes)?;
    // SAFETY: `bytes` bytes behind `start` were allocated above, zeroed and so initialised, and are lent here only.
    unsafe { Ends::format(&Arc::new(memory), start, bytes, 0) }
}

/// Rings for `N` lanes in a mapped file. `None` if it was made for fewer.
pub(crate) fn mapped_lanes<const N: usize>(mapping: &Arc<Mapping>) -> Option<[Ends; N]> {
    let memory = Arc::new(Memory::Mapped { _mapping: Arc::clone(mapping) });
    let mut ends = Vec::with_capacity(N);
    for at in 0..N {
        let (start, bytes) = mapping.take_lane(at)?;
        // SAFETY: `take_lane` gives each lane's bytes out once, all of them mapped, and so initialised, as long as `memory`.
        ends.push(unsafe { Ends::format(&memory, start, bytes, 0) }?);
    }
    ends.try_into().ok()
}

/// A ring in a copy of memory that outlived its process: `fill` writes the copy of `bytes` bytes. What is in it that is no
/// event is gone afterwards; the positions are those of the original.
#[cfg(unix)]
pub(crate) fn adopt<E: From<RingError>>(
    bytes: usize,
    trust: Trust<'_>,
    fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
) -> Result<(Ends, Recovered), E> {
    let (memory, first) = Memory::heap(bytes).ok_or(RingError::TooSmall)?;
    let memory = Arc::new(memory);
    // SAFETY: `bytes` bytes behind `first` were allocated above, zeroed, and are lent here only; for 'static see `format`.
    let copy: &'static mut [u8] = unsafe { std::slice::from_raw_parts_mut(first.as_ptr(), bytes) };
    fill(copy)?;
    let (ring, recovered) = Ring::recover(copy, trust)?;
    Ok((Ends::of(&memory, ring), recovered))
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
