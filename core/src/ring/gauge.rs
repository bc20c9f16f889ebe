//! The ring's counts, for threads that are neither of its ends: statistics, and whoever decides to wake the consumer.

use core::fmt;

use super::Ring;
use super::arena::Side;

/// A view of a ring's counts that any number of threads may share.
///
/// Exact while both ends are quiet. While they are not, [`Gauge::pending`] and [`Gauge::bytes_used`] come from two loads
/// and may count what was released in between; they never count too little. Loads only: reading slows the ends down a
/// little by moving their cache lines, nothing more.
#[derive(Clone, Copy)]
pub struct Gauge<'m> {
    side: Side<'m>,
}

impl<'m> Gauge<'m> {
    pub(super) fn new(side: Side<'m>) -> Self {
        Self { side }
    }

    /// Events ever committed, wrapping.
    #[inline]
    pub fn committed(&self) -> usize {
        self.side.header().committed()
    }

    /// Events ever released, wrapping.
    #[inline]
    pub fn released(&self) -> usize {
        self.side.header().released()
    }

    /// Events committed and not released.
    #[inline]
    pub fn pending(&self) -> usize {
        // In this order, or a commit and a release in between would make it negative.
        let released = self.side.header().released();
        self.side.header().committed().wrapping_sub(released)
    }

    /// Bytes that pending frames take, and the gap at the end of the arena if there is one.
    #[inline]
    pub fn bytes_used(&self) -> usize {
        self.side.header().bytes_used().min(self.side.capacity())
    }

    /// The bytes of everything that is committed and not released, in order: two slices where they go around the end of the
    /// arena. For a program that is going down, in whose last moments nobody asks the ring's ends any more.
    ///
    /// # Safety
    ///
    /// As long as the slices are used, nothing is released (its room would be written to) and nothing is corrected in place
    /// ([`Flusher::settle_times`](crate::Flusher::settle_times)), by whoever owns the ring's reading end.
    #[allow(unsafe_code, reason = "only the caller knows what the consumer does")]
    pub unsafe fn pending_bytes(&self) -> (&'m [u8], &'m [u8]) {
        // SAFETY: the caller's promise.
        unsafe { self.side.pending() }
    }

    /// Bytes of the ring, a power of two.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.side.capacity()
    }

    /// The two words that a release changes, as they lie [`Ring::RELEASED_AT`](crate::Ring::RELEASED_AT) bytes into the
    /// ring's memory: for whoever delivers from a copy of that memory, and writes back how far it came.
    pub fn released_words(&self) -> [u8; Ring::RELEASED_BYTES] {
        let mut words = [0; Ring::RELEASED_BYTES];
        let (tail, released) = self.side.header().tail_and_released();
        for (to, from) in words.iter_mut().zip(tail.to_ne_bytes().into_iter().chain(released.to_ne_bytes())) {
            *to = from;
        }
        words
    }
}

impl fmt::Debug for Gauge<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gauge").field("capacity", &self.capacity()).field("pending", &self.pending()).finish()
    }
}
