//! The words ahead of the ring's bytes: where they lie, how they are written first and what is believed of them later.
//!
//! ```text
//!  memory  ░░│ magic layout capacity head watermark committed │ tail released │ bytes, a power of two      │░░
//!            ↑ aligned to LINE        the producer's line       the consumer's line
//! ```
//!
//! In: `&mut [u8]` that the caller lends. Out: the two halves of an [`arena`](super::arena).

use super::RingError;
use super::arena::{Arena, Halves};
use super::cursor::{self, Stretch};
use crate::sync::{AtomicUsize, Ordering};

/// Distance that keeps the two halves' words from sharing a cache line, and the alignment of the header.
///
/// 64-bit processors fetch lines in pairs, hence 128. 32-bit ones have lines of 32 bytes or no data cache at all.
pub(super) const LINE: usize = if cfg!(target_pointer_width = "64") { 128 } else { 32 };

/// Bytes ahead of the ring's own: the producer's line and the consumer's.
pub(super) const HEADER_BYTES: usize = 2 * LINE;

/// Smallest capacity, in bytes.
pub(super) const CAPACITY_MIN: usize = 8;

/// Read as bytes: "QUILLETR", or its first half on a 32-bit target. Written last, so a half-formatted ring is none.
pub(super) const MAGIC: usize = match b"QUILLETR".first_chunk() {
    Some(word) => usize::from_ne_bytes(*word),
    None => 0,
};

/// Version of this layout, the width of a word and of a line: whoever disagrees about one must not touch the rest.
pub(super) const LAYOUT: usize = (1 << 16) | (LINE << 8) | usize::BITS as usize;

/// The words ahead of the bytes.
#[repr(C)]
pub(super) struct Header {
    pub(super) producer: ProducerLine,
    pub(super) consumer: ConsumerLine,
}

#[repr(C)]
#[cfg_attr(target_pointer_width = "64", repr(align(128)))]
#[cfg_attr(not(target_pointer_width = "64"), repr(align(32)))]
pub(super) struct ProducerLine {
    magic: AtomicUsize,
    layout: AtomicUsize,
    capacity: AtomicUsize,
    pub(super) head: AtomicUsize,
    pub(super) watermark: AtomicUsize,
    pub(super) committed: AtomicUsize,
}

#[repr(C)]
#[cfg_attr(target_pointer_width = "64", repr(align(128)))]
#[cfg_attr(not(target_pointer_width = "64"), repr(align(32)))]
pub(super) struct ConsumerLine {
    pub(super) tail: AtomicUsize,
    pub(super) released: AtomicUsize,
}

#[cfg(loom)]
impl Header {
    /// loom's words cannot be laid over memory.
    pub(super) fn new() -> Self {
        let word = || AtomicUsize::new(0);
        let (magic, layout, capacity) = (word(), word(), word());
        let producer = ProducerLine { magic, layout, capacity, head: word(), watermark: word(), committed: word() };
        Self { producer, consumer: ConsumerLine { tail: word(), released: word() } }
    }
}

impl Header {
    /// Whether this is still a header, in memory that somebody else may take away: a file that is cut off.
    pub(super) fn is_there(&self) -> bool {
        self.producer.magic.load(Ordering::Relaxed) == MAGIC
    }

    /// Events ever committed.
    #[inline]
    pub(super) fn committed(&self) -> usize {
        self.producer.committed.load(Ordering::Relaxed)
    }

    /// Events ever released. Whoever then reads [`Header::committed`] finds at least as many there.
    #[inline]
    pub(super) fn released(&self) -> usize {
        // Acquire: pairs with the Release in ReadHalf::release, which came after the Acquire of a head whose commit had
        // counted its event before.
        self.consumer.released.load(Ordering::Acquire)
    }

    /// Tail and released count, in this order.
    pub(super) fn tail_and_released(&self) -> (usize, usize) {
        // Acquire: pairs with the Release in ReadHalf::release, which stores the count first.
        let tail = self.consumer.tail.load(Ordering::Acquire);
        (tail, self.released())
    }

    /// Bytes between tail and head, gaps included; two loads, so only an estimate while either half is at work.
    #[inline]
    pub(super) fn bytes_used(&self) -> usize {
        // Acquire: as above, so that the head is not an older one than the tail was released for.
        let tail = self.consumer.tail.load(Ordering::Acquire);
        self.producer.head.load(Ordering::Relaxed).wrapping_sub(tail)
    }
}

/// Which word is where, counted in words from the start of the header.
pub(super) mod word {
    use super::LINE;

    pub(in super::super) const MAGIC: usize = 0;
    pub(in super::super) const LAYOUT: usize = 1;
    pub(in super::super) const CAPACITY: usize = 2;
    pub(in super::super) const HEAD: usize = 3;
    pub(in super::super) const WATERMARK: usize = 4;
    pub(in super::super) const COMMITTED: usize = 5;
    pub(in super::super) const TAIL: usize = LINE / size_of::<usize>();
    pub(in super::super) const RELEASED: usize = TAIL + 1;
}

#[cfg(not(loom))]
const _: () = {
    use core::mem::offset_of;
    const fn is_at(offset: usize, word: usize) {
        assert!(offset == word * size_of::<usize>(), "a word is where attach looks for it");
    }
    assert!(size_of::<Header>() == HEADER_BYTES && align_of::<Header>() == LINE, "the header is two lines");
    is_at(offset_of!(Header, producer.magic), word::MAGIC);
    is_at(offset_of!(Header, producer.layout), word::LAYOUT);
    is_at(offset_of!(Header, producer.capacity), word::CAPACITY);
    is_at(offset_of!(Header, producer.head), word::HEAD);
    is_at(offset_of!(Header, producer.watermark), word::WATERMARK);
    is_at(offset_of!(Header, producer.committed), word::COMMITTED);
    is_at(offset_of!(Header, consumer.tail), word::TAIL);
    is_at(offset_of!(Header, consumer.released), word::RELEASED);
};

/// The largest empty ring that fits, its positions starting at `position`.
pub(super) fn format(memory: &mut [u8], position: usize) -> Result<Halves<'_>, RingError> {
    let memory = aligned(memory).ok_or(RingError::TooSmall)?;
    let room = memory.len().saturating_sub(HEADER_BYTES);
    let capacity = room.checked_ilog2().map_or(0, |log2| 1 << log2);
    let arena = Arena::over(memory, capacity).ok_or(RingError::TooSmall)?;
    Ok(format_arena(arena, position))
}

/// Writes the header of an empty ring.
pub(super) fn format_arena(arena: Arena<'_>, position: usize) -> Halves<'_> {
    let Header { producer, consumer } = arena.header();
    // Release, all of them, keeps the stores in this order: whenever the process dies, a header with its magic word is
    // a whole one.
    producer.magic.store(0, Ordering::Release);
    producer.layout.store(LAYOUT, Ordering::Release);
    producer.capacity.store(arena.capacity(), Ordering::Release);
    producer.watermark.store(position, Ordering::Release);
    producer.committed.store(0, Ordering::Release);
    producer.head.store(position, Ordering::Release);
    consumer.released.store(0, Ordering::Release);
    consumer.tail.store(position, Ordering::Release);
    producer.magic.store(MAGIC, Ordering::Release);
    arena.halves()
}

/// The ring that was formatted here. Checks everything, then counts the frames and sets the committed count right.
pub(super) fn attach(memory: &mut [u8]) -> Result<Halves<'_>, RingError> {
    let memory = aligned(memory).ok_or(RingError::NotARing)?;
    let word = |index| word_at(memory, index).ok_or(RingError::NotARing);
    if word(word::MAGIC)? != MAGIC {
        return Err(RingError::NotARing);
    }
    if word(word::LAYOUT)? != LAYOUT {
        return Err(RingError::OtherLayout);
    }
    let (capacity, released) = (word(word::CAPACITY)?, word(word::RELEASED)?);
    let (tail, head, watermark) = (word(word::TAIL)?, word(word::HEAD)?, word(word::WATERMARK)?);
    if !Arena::fits(memory, capacity) || !cursor::is_valid(tail, head, watermark, capacity) {
        return Err(RingError::Damaged);
    }
    let bytes = memory.get(HEADER_BYTES..).unwrap_or_default();
    let frames = cursor::stretches(tail, head, watermark, capacity).map(|Stretch { offset, len }| {
        let stretch = bytes.get(offset..).and_then(|bytes| bytes.get(..len));
        count_frames(stretch.unwrap_or_default())
    });
    let arena = Arena::over(memory, capacity).ok_or(RingError::Damaged)?;
    let committed = frames.into_iter().fold(released, usize::wrapping_add);
    arena.header().producer.committed.store(committed, Ordering::Release);
    Ok(arena.halves())
}

/// See [`Ring::header_of`](super::Ring::header_of).
pub(super) fn image(capacity: usize, bytes: usize, events: usize) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let words = [
        (word::MAGIC, MAGIC),
        (word::LAYOUT, LAYOUT),
        (word::CAPACITY, capacity),
        (word::HEAD, bytes),
        (word::COMMITTED, events),
    ];
    for (index, value) in words {
        set_word(&mut header, index, value);
    }
    header
}

/// See [`Ring::pending_in`](super::Ring::pending_in).
pub(super) fn pending_in(header: &[u8]) -> Option<usize> {
    let is_ours = word_at(header, word::MAGIC)? == MAGIC && word_at(header, word::LAYOUT)? == LAYOUT;
    let pending = word_at(header, word::COMMITTED)?.wrapping_sub(word_at(header, word::RELEASED)?);
    // A frame has two bytes at least.
    if is_ours && pending <= word_at(header, word::CAPACITY)? { Some(pending) } else { None }
}

pub(super) fn set_word(memory: &mut [u8], index: usize, value: usize) {
    let place = memory.get_mut(index * size_of::<usize>()..).and_then(|rest| rest.first_chunk_mut());
    if let Some(place) = place {
        *place = value.to_ne_bytes();
    }
}

/// `memory` from its first aligned byte on.
pub(super) fn aligned(memory: &mut [u8]) -> Option<&mut [u8]> {
    let skip = memory.as_ptr().addr().wrapping_neg() % LINE;
    memory.get_mut(skip..)
}

pub(super) fn word_at(memory: &[u8], index: usize) -> Option<usize> {
    memory.get(index * size_of::<usize>()..).and_then(|rest| rest.first_chunk()).map(|word| usize::from_ne_bytes(*word))
}

/// Frames that end in `bytes`: a raw newline occurs nowhere else in one.
#[cfg_attr(not(target_pointer_width = "64"), inline(never))]
pub(crate) fn count_frames(bytes: &[u8]) -> usize {
    if !cfg!(target_pointer_width = "64") {
        return bytes.iter().filter(|&&byte| byte == b'\n').count();
    }
    // Sums of at most 255 fit a byte, which lets the compiler count sixteen and more bytes at a time.
    let count = |chunk: &[u8]| chunk.iter().fold(0_u8, |n, &byte| n.wrapping_add(u8::from(byte == b'\n')));
    bytes.chunks(u8::MAX as usize - 15).map(|chunk| usize::from(count(chunk))).sum()
}
