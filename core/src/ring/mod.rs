//! The queue of bytes between whoever captures and whoever delivers: one producer, one consumer, no locks.
//!
//! In: frames, written in place through [`Producer::grant`]. Out: stretches of whole frames, by reference, through
//! [`Consumer`]. The ring owns no memory. It is given an arena and keeps everything in there, its positions included:
//!
//! ```text
//!  │ magic layout capacity head watermark committed │ tail released │ frame, frame, frame …               │
//!    written by the producer                          by the consumer  capacity bytes, a power of two
//! ```
//!
//! So the memory *is* the queue: in a shared file mapping it outlives the process, in RAM that a reset does not clear it
//! outlives the reset, and [`Ring::attach`] is the same function for both.
//!
//! # Commit, and what a death leaves behind
//!
//! A commit stores, in this order: the payload, the watermark (first frame of a lap only), the committed count, the
//! head. A release stores the released count, then the tail. A process can die between any two of these:
//!
//! | died after storing | the next `attach` finds |
//! |---|---|
//! | payload, or part of it | nothing of it: the head is still before it |
//! | watermark | the same; that watermark describes a lap that has not begun |
//! | committed count | one event more than frames: recounted, the count is set right |
//! | head | the event |
//! | released count | all frames again, recounted: they are delivered twice rather than never |
//! | tail | the frames are gone, as intended |
//!
//! Frames end with a newline and hold no other one, so counting them needs no header of theirs.
//!
//! # Invariants
//!
//! `tail <= head <= tail + capacity` (wrapping); a frame is contiguous; `committed - released` is the number of frames in
//! `tail..head`, or one more while a commit is under way. After power loss or from a hostile hand the *bytes* may be
//! anything: attach guarantees that they lie inside the arena, not that they are JSON.

mod arena;
mod consumer;
mod cursor;
mod gauge;
mod header;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod model;
mod producer;
mod recover;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod splice;
#[cfg(all(test, not(loom)))]
mod tests;

use core::fmt;
use core::ops::Range;

pub(crate) use header::count_frames;

pub use consumer::{Consumer, Position, Read};
pub use gauge::Gauge;
pub use producer::{Grant, GrantError, Producer, Run};
pub use recover::{Checkpoint, Recovered, Trust, crc32c};

/// A ring over memory that somebody lends for `'m`, before its two ends part.
///
/// ```
/// use quillet_core::Ring;
///
/// let mut memory = [0; Ring::bytes_for(1024)];
/// let (mut producer, mut consumer) = Ring::format(&mut memory)?.split();
///
/// let mut grant = producer.grant(64)?;
/// grant.bytes_mut()[..4].copy_from_slice(b"{},\n");
/// grant.commit(4);
///
/// let read = consumer.read();
/// assert_eq!(read.slices().0, b"{},\n");
/// read.release();
/// assert_eq!(consumer.pending(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The ends borrow the memory and cannot outlive it:
///
/// ```compile_fail,E0597
/// use quillet_core::Ring;
///
/// let mut ends = None;
/// {
///     let mut memory = [0; Ring::bytes_for(1024)];
///     ends = Some(Ring::format(&mut memory).unwrap().split());
/// }
/// ends.unwrap().0.grant(64);
/// ```
///
/// One producer has one grant at a time:
///
/// ```compile_fail,E0499
/// # let mut memory = [0; quillet_core::Ring::bytes_for(1024)];
/// # let (mut producer, _consumer) = quillet_core::Ring::format(&mut memory).unwrap().split();
/// let one = producer.grant(64);
/// let two = producer.grant(64);
/// drop(one);
/// ```
///
/// The bytes of a grant are gone once it is committed:
///
/// ```compile_fail,E0505
/// # let mut memory = [0; quillet_core::Ring::bytes_for(1024)];
/// # let (mut producer, _consumer) = quillet_core::Ring::format(&mut memory).unwrap().split();
/// let mut grant = producer.grant(64).unwrap();
/// let bytes = grant.bytes_mut();
/// grant.commit(1);
/// bytes[0] = 0;
/// ```
///
/// Bytes that are still looked at cannot be released:
///
/// ```compile_fail,E0502
/// # let mut memory = [0; quillet_core::Ring::bytes_for(1024)];
/// # let (_producer, mut consumer) = quillet_core::Ring::format(&mut memory).unwrap().split();
/// let head = consumer.head();
/// let (first, _) = consumer.slices(consumer.tail(), head);
/// consumer.release(head, 1);
/// assert_eq!(first, b"");
/// ```
///
/// Either end may move to another thread, but two threads cannot share one:
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<quillet_core::Producer<'static>>();
/// ```
pub struct Ring<'m> {
    halves: arena::Halves<'m>,
}

impl<'m> Ring<'m> {
    /// Alignment, in bytes, at which no byte of the memory is lost. Anything less aligned works too: the ring starts at
    /// the first aligned byte. To [attach](Ring::attach) bytes that were copied elsewhere, align both places to this.
    pub const ALIGN: usize = header::LINE;

    /// Bytes of memory that hold a ring of `capacity`, rounded up to a power of two, wherever the memory starts.
    /// `usize::MAX` if there can be none.
    ///
    /// It is the header, the capacity, and up to [`ALIGN`](Ring::ALIGN) − 1 bytes to align them, which memory that is
    /// aligned already does not need.
    #[must_use]
    pub const fn bytes_for(capacity: usize) -> usize {
        let capacity = if capacity < header::CAPACITY_MIN { header::CAPACITY_MIN } else { capacity };
        match capacity.checked_next_power_of_two() {
            Some(capacity) => capacity.saturating_add(header::HEADER_BYTES + header::LINE - 1),
            None => usize::MAX,
        }
    }

    /// An empty ring with the largest capacity that fits. What was in the memory is forgotten.
    ///
    /// # Errors
    ///
    /// [`RingError::TooSmall`].
    pub fn format(memory: &'m mut [u8]) -> Result<Self, RingError> {
        Self::format_at(memory, 0)
    }

    /// [`Ring::format`] with positions that start at `position`, for tests: near `usize::MAX` the wrap comes soon.
    #[doc(hidden)]
    pub fn format_at(memory: &'m mut [u8], position: usize) -> Result<Self, RingError> {
        header::format(memory, position).map(|halves| Self { halves })
    }

    /// The ring that was [formatted](Ring::format) in this memory, with all that was committed and not released, however
    /// its process ended. The memory may be longer than it was then, not shorter.
    ///
    /// The bytes may be anything: nothing in them makes this panic or reach beyond `memory`. Reads every pending byte,
    /// to count the frames; changes at most one count.
    ///
    /// # Errors
    ///
    /// [`RingError::NotARing`], [`RingError::OtherLayout`], [`RingError::Damaged`]; the memory is then as it was.
    pub fn attach(memory: &'m mut [u8]) -> Result<Self, RingError> {
        header::attach(memory).map(|halves| Self { halves })
    }

    /// Where the words of [`Gauge::released_words`] lie, in bytes from the ring's first aligned one.
    pub const RELEASED_AT: usize = header::word::TAIL * size_of::<usize>();

    /// How many bytes those words have.
    pub const RELEASED_BYTES: usize = 2 * size_of::<usize>();

    /// Bytes ahead of the frames, from the ring's first aligned byte on.
    pub const HEADER_BYTES: usize = header::HEADER_BYTES;

    /// The header of a ring of `capacity` (a power of two) whose first `bytes` bytes are `events` frames, none of them
    /// released: for whoever writes a ring into a file front to back, without having the memory.
    pub fn header_of(capacity: usize, bytes: usize, events: usize) -> [u8; header::HEADER_BYTES] {
        header::image(capacity, bytes, events)
    }

    /// Events committed and not released according to the header alone, which nobody vouches for; `None` where there is
    /// no header. For estimates over files that are not read.
    pub fn pending_in(header: &[u8]) -> Option<usize> {
        header::pending_in(header)
    }

    /// Which bytes [`Ring::recover`] with the same trust would look at besides the header, of a ring whose header alone is
    /// given: `tell` hears of each range of them, counted from the ring's first aligned byte. All others may be anything.
    /// For whoever wants the rest of a file's blocks back, or reads no more of it than it takes.
    ///
    /// # Errors
    ///
    /// As [`Ring::recover`], as far as the header shows it; whether the ring's capacity fits its memory is for the caller to
    /// look at. Nothing is told then.
    pub fn pending_ranges(header: &[u8], trust: Trust<'_>, tell: impl FnMut(Range<usize>)) -> Result<(), RingError> {
        recover::pending_ranges(header, trust, tell)
    }

    /// [`Ring::attach`], believing nobody: what the positions (or checkpoints) point to is parsed frame by frame, and
    /// whatever is not a whole event of ours is blanked out, so that all that is left can be sent.
    ///
    /// The same for a file that a dead process left and for memory that a reset has not cleared. Blanks stay in the ring
    /// as the white space that JSON allows between events.
    ///
    /// # Errors
    ///
    /// As [`Ring::attach`]; the memory is then as it was.
    pub fn recover(memory: &'m mut [u8], trust: Trust<'_>) -> Result<(Self, Recovered), RingError> {
        recover::recover(memory, trust).map(|(halves, recovered)| (Self { halves }, recovered))
    }

    /// Events that are committed and not released; after [`Ring::attach`], those that were recovered.
    pub fn pending(&self) -> usize {
        self.halves.write.committed().wrapping_sub(self.halves.read.released())
    }

    /// Bytes of the ring, a power of two. The longest grant is half of it.
    pub fn capacity(&self) -> usize {
        self.halves.write.capacity()
    }

    /// The two ends, each for a thread of its own.
    pub fn split(self) -> (Producer<'m>, Consumer<'m>) {
        (Producer::new(self.halves.write), Consumer::new(self.halves.read))
    }
}

impl fmt::Debug for Ring<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("capacity", &self.capacity()).field("pending", &self.pending()).finish()
    }
}

/// Memory for a ring of `CAPACITY` bytes (a power of two, checked when it compiles), for a `static` or a field.
///
/// It takes exactly the header and the capacity. Safe code gets its `&'static mut` once, from whatever the target offers
/// for that: a `StaticCell`, `cortex_m::singleton!`, the statics of an entry function, or `Box::leak`:
///
/// ```
/// use quillet_core::StaticRing;
///
/// let ring: &'static mut StaticRing<4096> = Box::leak(Box::new(StaticRing::new()));
/// let (mut producer, consumer) = ring.split();
/// # producer.grant(1)?.commit(1);
/// # assert_eq!((consumer.pending(), consumer.capacity()), (1, 4096));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct StaticRing<const CAPACITY: usize> {
    storage: arena::Storage<CAPACITY>,
}

impl<const CAPACITY: usize> StaticRing<CAPACITY> {
    /// Memory without a ring in it yet; all zeros, so it costs no flash.
    #[must_use]
    pub const fn new() -> Self {
        Self { storage: arena::Storage::new() }
    }

    /// Formats an empty ring and gives its two ends.
    pub fn split(&mut self) -> (Producer<'_>, Consumer<'_>) {
        Ring { halves: header::format_arena(self.storage.arena(), 0) }.split()
    }

    /// The memory itself, for [`Ring::attach`] or [`Ring::format`].
    pub fn memory(&mut self) -> &mut [u8] {
        self.storage.memory()
    }
}

impl<const CAPACITY: usize> Default for StaticRing<CAPACITY> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const CAPACITY: usize> fmt::Debug for StaticRing<CAPACITY> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticRing").field("capacity", &CAPACITY).finish_non_exhaustive()
    }
}

/// Why there is no ring in this memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum RingError {
    /// Not even the smallest ring fits. [`Ring::bytes_for`] says what is needed.
    TooSmall,
    /// Nothing was ever formatted here, or formatting was cut short: nothing is lost by formatting it now.
    NotARing,
    /// A ring of another version or another kind of machine. Leave it to whoever made it.
    OtherLayout,
    /// A ring whose capacity or positions contradict each other or the memory. Its frames cannot be found by them.
    Damaged,
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooSmall => "the memory is too small for a ring",
            Self::NotARing => "there is no ring in this memory",
            Self::OtherLayout => "the ring has another version or word size",
            Self::Damaged => "the ring's positions contradict each other",
        })
    }
}

impl core::error::Error for RingError {}
