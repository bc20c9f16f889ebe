//! The memory of a ring and who may touch which part of it. All of the ring's `unsafe` is here.
//!
//! In: `&mut [u8]` that the caller lends for `'m`. Out: a [`WriteHalf`] and a [`ReadHalf`] over the same bytes.
//!
//! Who may touch what (the *halves invariant*, kept by this file's private fields):
//! - the header is only ever touched through atomics, and once there are halves only they store to it;
//! - the write half makes references only into `head .. tail + capacity`, the read half only into `tail .. head`;
//! - only the write half moves `head`, by a `Release` store after the bytes are written; only the read half moves
//!   `tail`, by a `Release` store after its references are gone (`&mut self` proves that). Each reads the other's
//!   position with `Acquire` and keeps its own one in a private field, so that bytes changed behind our back in a shared
//!   file cannot lead either half out of bounds.

#![allow(unsafe_code, reason = "the one file of the ring that turns positions into references")]

use core::marker::PhantomData;
use core::ptr::NonNull;
use core::slice;

use super::cursor::{self, Stretch};
use super::header::{CAPACITY_MIN, HEADER_BYTES, Header, LINE};
use super::producer::Run;
use crate::sync::Ordering;

/// Memory of a ring whose size is known when it compiles, aligned so that not a byte is lost.
#[repr(C)]
#[cfg_attr(target_pointer_width = "64", repr(align(128)))]
#[cfg_attr(not(target_pointer_width = "64"), repr(align(32)))]
pub(super) struct Storage<const CAPACITY: usize> {
    header: [u8; HEADER_BYTES],
    bytes: [u8; CAPACITY],
}

impl<const CAPACITY: usize> Storage<CAPACITY> {
    pub(super) const fn new() -> Self {
        const { assert!(CAPACITY.is_power_of_two() && CAPACITY >= CAPACITY_MIN, "a power of two, 8 or more") }
        Self { header: [0; HEADER_BYTES], bytes: [0; CAPACITY] }
    }

    /// All of it, header and bytes.
    pub(super) fn memory(&mut self) -> &mut [u8] {
        let first = (&raw mut *self).cast::<u8>();
        // SAFETY: two arrays of u8 in a repr(C) struct follow each other without padding, so these are HEADER_BYTES +
        // CAPACITY initialised bytes of one object; the result borrows `self` mutably.
        unsafe { slice::from_raw_parts_mut(first, HEADER_BYTES + CAPACITY) }
    }

    /// All of it as an arena.
    pub(super) fn arena(&mut self) -> Arena<'_> {
        Arena::new(self.memory(), CAPACITY)
    }
}

/// Where header and bytes are, before the two halves part or inside one of them.
///
/// `first` is aligned to [`LINE`] and has `HEADER_BYTES` bytes before it and a capacity of `mask + 1` behind it, all
/// initialised and lent exclusively for `'m`. The capacity is a power of two.
pub(super) struct Arena<'m> {
    /// The ring's first byte; the header ends there.
    first: NonNull<u8>,
    mask: usize,
    memory: PhantomData<&'m mut [u8]>,
    #[cfg(loom)]
    tracked: &'m tracked::Tracked,
}

// SAFETY: an arena is an address. The header behind it is atomic, and the two halves that hold copies of it keep to
// disjoint bytes (the halves invariant), so it does not matter which threads they are on.
unsafe impl Send for Arena<'_> {}

impl<'m> Arena<'m> {
    /// The start of `memory` as an arena, if it is aligned and a ring of this capacity fits.
    pub(super) fn over(memory: &'m mut [u8], capacity: usize) -> Option<Self> {
        if Self::fits(memory, capacity) { Some(Self::new(memory, capacity)) } else { None }
    }

    pub(super) fn fits(memory: &[u8], capacity: usize) -> bool {
        let room = memory.len().saturating_sub(HEADER_BYTES);
        let is_aligned = memory.as_ptr().addr().is_multiple_of(LINE);
        is_aligned && capacity.is_power_of_two() && (CAPACITY_MIN..=room).contains(&capacity)
    }

    /// Private: [`Arena::fits`] holds.
    fn new(memory: &'m mut [u8], capacity: usize) -> Self {
        // SAFETY: HEADER_BYTES is less than the memory has (Arena::fits).
        let first = unsafe { NonNull::from(memory).cast().add(HEADER_BYTES) };
        Self {
            first,
            mask: capacity.wrapping_sub(1),
            memory: PhantomData,
            #[cfg(loom)]
            tracked: tracked::Tracked::leak(capacity),
        }
    }

    /// Both ends of the ring that the header describes. Consumes the only arena over this memory, so there is one pair.
    pub(super) fn halves(self) -> Halves<'m> {
        let Header { producer, consumer } = self.header();
        let (head, tail) = (producer.head.load(Ordering::Relaxed), consumer.tail.load(Ordering::Relaxed));
        // Whoever called has checked that already; the halves must be sound on their own.
        let tail = if head.wrapping_sub(tail) <= self.capacity() { tail } else { head };
        let (committed, released) = (producer.committed.load(Ordering::Relaxed), self.header().released());
        let at = self.place_of(head);
        Halves {
            read: ReadHalf { arena: Arena { ..self }, tail, released },
            write: WriteHalf { arena: self, at, run_end: at, bias: head.wrapping_sub(at.addr()), tail, committed },
        }
    }

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn capacity(&self) -> usize {
        self.mask.wrapping_add(1)
    }

    /// A view from the side.
    pub(super) fn side(&self) -> Side<'m> {
        Side { first: self.first, mask: self.mask, header: self.header() }
    }

    #[cfg(not(loom))]
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn header(&self) -> &'m Header {
        // SAFETY: the HEADER_BYTES before `first` are aligned for a header and initialised, any bits being a valid word,
        // for 'm (Arena). Nothing but this function makes references into them once there is an arena.
        unsafe { self.first.byte_sub(HEADER_BYTES).cast().as_ref() }
    }

    #[cfg(loom)]
    pub(super) fn header(&self) -> &'m Header {
        &self.tracked.header
    }

    /// The address of the byte at `position`.
    fn place_of(&self, position: usize) -> *mut u8 {
        self.byte(cursor::offset(position, self.capacity()))
    }

    /// The address of the byte at `offset`, which is at most the capacity (cursor masks it).
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn byte(&self, offset: usize) -> *mut u8 {
        // SAFETY: the capacity's bytes follow `first` in one allocation (Arena), offset <= capacity.
        unsafe { self.first.as_ptr().add(offset) }
    }
}

/// Where a ring is, for looking at it from the side: of no use without a promise of the two ends.
#[derive(Clone, Copy)]
pub(super) struct Side<'m> {
    first: NonNull<u8>,
    mask: usize,
    header: &'m Header,
}

// SAFETY: an address and shared atomics; the one method that reads through the address asks for what it needs.
unsafe impl Send for Side<'_> {}
// SAFETY: as above.
unsafe impl Sync for Side<'_> {}

impl<'m> Side<'m> {
    #[inline]
    pub(super) fn header(&self) -> &'m Header {
        self.header
    }

    #[inline]
    pub(super) fn capacity(&self) -> usize {
        self.mask.wrapping_add(1)
    }

    /// What is committed and not released.
    ///
    /// # Safety
    ///
    /// The read half releases nothing and corrects nothing as long as the result is used.
    pub(super) unsafe fn pending(&self) -> (&'m [u8], &'m [u8]) {
        let Header { producer, consumer } = self.header;
        // Acquire: pairs with the Release of each half's commit and release.
        let (tail, head) = (consumer.tail.load(Ordering::Acquire), producer.head.load(Ordering::Acquire));
        let watermark = producer.watermark.load(Ordering::Relaxed);
        if !cursor::is_valid(tail, head, watermark, self.capacity()) {
            return (&[], &[]);
        }
        let [first, second] =
            cursor::stretches(tail, head, watermark, self.capacity()).map(|Stretch { offset, len }| {
                // SAFETY: offset + len <= capacity (cursor::stretches), initialised, and between a tail that does not move
                // (the caller's promise) and a head seen by an Acquire, where the write half does not write, nor does the
                // read half (the same promise).
                unsafe { slice::from_raw_parts(self.first.as_ptr().add(offset), len) }
            });
        (first, second)
    }
}

/// Both ends of a ring before they part.
pub(super) struct Halves<'m> {
    pub(super) write: WriteHalf<'m>,
    pub(super) read: ReadHalf<'m>,
}

/// Whether frames are published in the run without a look at where they begin.
const HAS_RUNS: bool = crate::wire::plain::IS_WORTH_IT;

/// The end that may write `head .. tail + capacity`.
///
/// What it knows of the head are addresses: within a lap, where a frame goes and where its position is differ by a constant.
///
/// `at .. run_end` lies in the arena's bytes, is free and in one piece (the *run*: what [`cursor::run`] said, less what was
/// committed since). Where [`HAS_RUNS`], it is empty while the head is at the beginning of a lap that has not
/// [begun](WriteHalf::skip_to): a frame there has more to be published.
pub(super) struct WriteHalf<'m> {
    arena: Arena<'m>,
    /// Where the head's byte is, or one past the last byte if the head is at the end of a lap.
    at: *mut u8,
    run_end: *mut u8,
    /// What makes a position of an address of the head's lap: `at + bias` is what the header's `head` is; nobody else moves
    /// it.
    bias: usize,
    /// What the header's `tail` was when last looked at; the real one can only be further.
    tail: usize,
    /// What the header's `committed` is.
    committed: usize,
}

// SAFETY: as of an arena: besides numbers there are addresses inside of it, which are used for what this half may touch.
unsafe impl Send for WriteHalf<'_> {}

impl<'m> WriteHalf<'m> {
    pub(super) fn side(&self) -> Side<'m> {
        self.arena.side()
    }

    #[inline]
    pub(super) fn header(&self) -> &'m Header {
        self.arena.header()
    }

    #[inline]
    pub(super) fn capacity(&self) -> usize {
        self.arena.capacity()
    }

    #[inline]
    pub(super) fn committed(&self) -> usize {
        self.committed
    }

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn head(&self) -> usize {
        self.at.addr().wrapping_add(self.bias)
    }

    /// Bytes of the run.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn run(&self) -> usize {
        self.run_end.addr().wrapping_sub(self.at.addr())
    }

    /// Takes `bytes` contiguous free bytes. Looks at the read half's line only if there seems to be no room.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn reserve(&mut self, bytes: usize) -> Option<Reserved<'_, 'm>> {
        let in_run = bytes <= self.run();
        let start = if in_run { self.head() } else { self.place(bytes)? };
        Some(Reserved { half: self, start, len: bytes })
    }

    /// Takes what is left of the run, at most `bytes`.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn reserve_up_to(&mut self, bytes: usize) -> Reserved<'_, 'm> {
        let (start, len) = (self.head(), self.run().min(bytes));
        Reserved { half: self, start, len }
    }

    /// Takes the run.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn reserve_run(&mut self) -> ReservedRun<'_, 'm> {
        ReservedRun { half: self }
    }

    /// Counts an event that ends at `at`, in the lap that the bias is for. The order of these stores is the protocol (see the
    /// module doc of `ring`); head makes the rest count.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn publish(&mut self, at: *mut u8) {
        let producer = &self.arena.header().producer;
        self.committed = self.committed.wrapping_add(1);
        producer.committed.store(self.committed, Ordering::Relaxed);
        self.at = at;
        // Release: pairs with the Acquire in ReadHalf::head. Payload, watermark and count come with it.
        producer.head.store(self.head(), Ordering::Release);
    }

    /// Looks how long the run is by now, unless it is known to have `bytes` left.
    pub(super) fn look_for(&mut self, bytes: usize) {
        if bytes > self.run() {
            self.place(bytes);
            if HAS_RUNS && cursor::offset(self.head(), self.capacity()) == 0 {
                self.skip_to(self.head());
            }
        }
    }

    /// Makes the run one of `bytes`, if there is as much room: in the next lap if need be.
    #[cold]
    #[inline(never)]
    pub(super) fn find_run(&mut self, bytes: usize) {
        if let Some(start) = self.place(bytes).filter(|start| cursor::offset(*start, self.capacity()) == 0) {
            self.skip_to(start);
        }
    }

    /// Begins the lap at `start` before there is a frame in it. What is published already ended the lap before, and goes on
    /// doing so: whoever reads looks at the watermark only when the head is beyond it, and nothing is published any more in
    /// the lap before.
    fn skip_to(&mut self, start: usize) {
        let producer = &self.arena.header().producer;
        producer.watermark.store(producer.head.load(Ordering::Relaxed), Ordering::Relaxed);
        self.at = self.arena.byte(0);
        self.bias = start.wrapping_sub(self.at.addr());
        self.run_end = self.arena.byte(cursor::run(self.tail, start, self.arena.capacity()));
    }

    /// A frame that ends at `end` begins a lap: the one before ended at the head, with or without a gap. The lap whose
    /// watermark this overwrites is behind the tail, or there would not have been room.
    #[cold]
    #[inline(never)]
    fn begin_lap(&mut self, end: *mut u8) {
        let producer = &self.arena.header().producer;
        // Not this half's own head, which may be in the new lap already (`skip_to`).
        producer.watermark.store(producer.head.load(Ordering::Relaxed), Ordering::Relaxed);
        // The run was that of the lap before.
        self.run_end = end;
    }

    /// The rest of [`WriteHalf::reserve`], needed about three times a lap while there is room.
    #[cold]
    #[inline(never)]
    fn place(&mut self, bytes: usize) -> Option<usize> {
        let (capacity, head) = (self.arena.capacity(), self.head());
        let mut start = cursor::place(self.tail, head, bytes, capacity);
        if start.is_none() {
            // Acquire: pairs with the Release in ReadHalf::release; the reader's last look at those bytes is over.
            let tail = self.header().consumer.tail.load(Ordering::Acquire);
            // A tail outside of last one..=head was not written by a ReadHalf; do not believe it.
            if cursor::is_within(self.tail, head, tail) {
                self.tail = tail;
            }
            start = cursor::place(self.tail, head, bytes, capacity);
        }
        let offset = cursor::offset(head, capacity);
        let run = cursor::run(self.tail, head, capacity);
        if offset != 0 {
            self.run_end = self.arena.byte(offset.wrapping_add(run));
        } else if HAS_RUNS {
            // A lap that has not begun has none, and `at` may be the end of the arena.
            self.run_end = self.at;
        } else {
            self.at = self.arena.byte(0);
            self.bias = head.wrapping_sub(self.at.addr());
            self.run_end = self.arena.byte(run);
        }
        start
    }
}

/// Exclusive use of `start .. start + len`, free and contiguous by [`cursor::run`] or [`cursor::place`].
pub(super) struct Reserved<'a, 'm> {
    half: &'a mut WriteHalf<'m>,
    start: usize,
    len: usize,
}

impl Reserved<'_, '_> {
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        let arena = &self.half.arena;
        let offset = cursor::offset(self.start, arena.capacity());
        #[cfg(loom)]
        arena.tracked.write(Stretch { offset, len: self.len });
        // SAFETY: start .. start + len lies in head .. tail + capacity and in one lap (cursor::run and cursor::place, in
        // WriteHalf::reserve), so offset + len <= capacity, and by the halves invariant no other reference to these
        // bytes exists: the read half stays below head, and this one borrows the write half mutably. They are
        // initialised, the arena having been a `&mut [u8]`.
        unsafe { slice::from_raw_parts_mut(arena.byte(offset), self.len) }
    }

    /// Publishes the first `len` bytes, `0 < len <= self.len()`, as one event. Anything else publishes nothing.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn publish(self, len: usize) {
        if len == 0 || len > self.len {
            return;
        }
        let half = self.half;
        let offset = cursor::offset(self.start, half.arena.capacity());
        // Not beyond the capacity: `bytes_mut` says why.
        let end = half.arena.byte(offset.wrapping_add(len));
        if offset == 0 {
            half.begin_lap(end);
        }
        half.bias = self.start.wrapping_add(len).wrapping_sub(end.addr());
        half.publish(end);
    }
}

/// Exclusive use of the run.
pub(super) struct ReservedRun<'a, 'm> {
    half: &'a mut WriteHalf<'m>,
}

impl ReservedRun<'_, '_> {
    pub(super) fn len(&self) -> usize {
        self.half.run()
    }

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        let (at, len) = (self.half.at, self.half.run());
        #[cfg(loom)]
        self.half.arena.tracked.write(Stretch { offset: at.addr() - self.half.arena.first.as_ptr().addr(), len });
        // SAFETY: the run lies in the arena's bytes and in head .. tail + capacity (WriteHalf); so by the halves invariant no
        // other reference to these bytes exists, as this one borrows the write half mutably. They are initialised, the arena
        // having been a `&mut [u8]`.
        unsafe { slice::from_raw_parts_mut(at, len) }
    }

    /// Publishes what is before `end` as one event. An `end` that is not in the run, behind its first byte, publishes nothing.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn publish_to(self, end: *mut u8) {
        if self.half.at < end && end <= self.half.run_end {
            // SAFETY: just compared.
            unsafe { self.publish_to_unchecked(end) };
        }
    }

    /// The same without asking.
    ///
    /// # Safety
    ///
    /// `end` is the address of a byte of the run that is not its first one, or of the byte behind its last.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    unsafe fn publish_to_unchecked(self, end: *mut u8) {
        let half = self.half;
        debug_assert!(half.at < end && end <= half.run_end, "the caller's promise");
        // What is in the run is in the head's lap. That has begun, or this is its first frame.
        if !HAS_RUNS && half.at == half.arena.byte(0) {
            half.begin_lap(end);
        }
        half.publish(half.at.with_addr(end.addr()));
    }
}

impl Run<'_, '_> {
    /// Publishes the bytes before `end` as one event.
    ///
    /// # Safety
    ///
    /// `end` is the address of one of [`bytes_mut`](Run::bytes_mut) that is not the first one, or of the byte behind the last.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) unsafe fn commit_to(self, end: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { self.reserved.publish_to_unchecked(end) };
    }
}

/// The end that may read `tail .. head`.
pub(super) struct ReadHalf<'m> {
    arena: Arena<'m>,
    /// What the header's `tail` is; nobody else moves it.
    tail: usize,
    /// What the header's `released` is.
    released: usize,
}

impl<'m> ReadHalf<'m> {
    pub(super) fn side(&self) -> Side<'m> {
        self.arena.side()
    }

    #[inline]
    pub(super) fn header(&self) -> &'m Header {
        self.arena.header()
    }

    #[inline]
    pub(super) fn capacity(&self) -> usize {
        self.arena.capacity()
    }

    #[inline]
    pub(super) fn tail(&self) -> usize {
        self.tail
    }

    #[inline]
    pub(super) fn released(&self) -> usize {
        self.released
    }

    /// The head now. The bytes before it may be read.
    #[inline]
    pub(super) fn head(&self) -> usize {
        // Acquire: pairs with the Release in Reserved::publish.
        let head = self.header().producer.head.load(Ordering::Acquire);
        // A head further away was not written by a WriteHalf; then there is nothing to read.
        if head.wrapping_sub(self.tail) <= self.arena.capacity() { head } else { self.tail }
    }

    /// Where the lap before the head's ended. Meaningful only to a caller that has loaded the head before.
    fn watermark(&self) -> usize {
        // Relaxed: came with the Acquire of the head; a newer one cannot be there while the tail is in the old lap.
        self.header().producer.watermark.load(Ordering::Relaxed)
    }

    /// The bytes of `from..to`; empty unless `tail <= from <= to <= head`.
    #[inline]
    pub(super) fn slices(&self, from: usize, to: usize) -> (&[u8], &[u8]) {
        let [first, second] = self.stretches(from, to);
        (self.slice(first), self.slice(second))
    }

    /// [`ReadHalf::slices`], to be changed in place. For as long as they are borrowed, so is this half.
    pub(super) fn slices_mut(&mut self, from: usize, to: usize) -> (&mut [u8], &mut [u8]) {
        let stretches = self.stretches(from, to);
        #[cfg(loom)]
        stretches.iter().for_each(|&stretch| self.arena.tracked.write(stretch));
        let [first, second] = stretches.map(|Stretch { offset, len }| (self.arena.byte(offset), len));
        // SAFETY: as in ReadHalf::slice; besides, the two are disjoint (the second is what goes around the arena's end, at
        // most up to the tail), and this half, the only one that makes references into tail..head, is borrowed mutably.
        unsafe { (slice::from_raw_parts_mut(first.0, first.1), slice::from_raw_parts_mut(second.0, second.1)) }
    }

    /// The stretches of `from..to`, all inside `tail..head`.
    #[inline]
    pub(super) fn stretches(&self, from: usize, to: usize) -> [Stretch; 2] {
        if !cursor::is_within(self.tail, self.head(), to) || !cursor::is_within(self.tail, to, from) {
            return [Stretch { offset: 0, len: 0 }; 2];
        }
        cursor::stretches(from, to, self.watermark(), self.arena.capacity())
    }

    /// The position `bytes` bytes after `from`, but not after the head; `from` itself if it is not in `tail..=head`.
    #[inline]
    pub(super) fn advance(&self, from: usize, bytes: usize) -> usize {
        let head = self.head();
        if !cursor::is_within(self.tail, head, from) {
            return from;
        }
        cursor::advance(from, head, self.watermark(), bytes, self.arena.capacity())
    }

    /// Private: only for stretches from [`ReadHalf::stretches`].
    #[inline]
    fn slice(&self, stretch: Stretch) -> &[u8] {
        #[cfg(loom)]
        self.arena.tracked.read(stretch);
        // SAFETY: offset + len <= capacity (cursor::stretches), and the bytes lie in tail..head as seen by an Acquire,
        // which the write half leaves alone until the tail moves; that takes `&mut self`. They are initialised.
        unsafe { slice::from_raw_parts(self.arena.byte(stretch.offset), stretch.len) }
    }

    /// Gives everything before `to` back to the write half and counts `events` as released. `false`, and nothing is
    /// done, unless `tail <= to <= head`.
    pub(super) fn release(&mut self, to: usize, events: usize) -> bool {
        if !cursor::is_within(self.tail, self.head(), to) {
            return false;
        }
        let consumer = &self.arena.header().consumer;
        // Never more than were committed, whatever the caller counted: pending must not wrap.
        let pending = self.header().committed().wrapping_sub(self.released);
        self.released = self.released.wrapping_add(events.min(pending));
        // Release: pairs with the Acquire in Header::released.
        consumer.released.store(self.released, Ordering::Release);
        self.tail = to;
        // Release: pairs with the Acquire in WriteHalf::place; our reads of these bytes are over.
        consumer.tail.store(to, Ordering::Release);
        true
    }
}

/// loom's atomics are no words in memory and it cannot see accesses to plain bytes. So the header is a separate object
/// here (attach finds no ring), and beside every byte is a cell that tells loom who touches it. Leaked: models are short.
#[cfg(loom)]
mod tracked {
    extern crate std;

    use std::boxed::Box;

    use loom::cell::UnsafeCell;

    use super::{Header, Stretch};

    pub(super) struct Tracked {
        pub(super) header: Header,
        cells: Box<[UnsafeCell<()>]>,
    }

    impl Tracked {
        pub(super) fn leak(capacity: usize) -> &'static Self {
            Box::leak(Box::new(Self {
                header: Header::new(),
                cells: (0..capacity).map(|_| UnsafeCell::new(())).collect(),
            }))
        }

        pub(super) fn write(&self, Stretch { offset, len }: Stretch) {
            self.cells.iter().skip(offset).take(len).for_each(|cell| cell.with_mut(|_| ()));
        }

        pub(super) fn read(&self, Stretch { offset, len }: Stretch) {
            self.cells.iter().skip(offset).take(len).for_each(|cell| cell.with(|_| ()));
        }
    }
}
