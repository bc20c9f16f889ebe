//! The ring's counts, for threads that are neither of its ends: statistics, and whoever decides to wake the consumer.

use core::fmt;

use super::Ring;
use super::header::Header;

/// A view of a ring's counts that any number of threads may share.
///
/// Exact while both ends are quiet. While they are not, [`Gauge::pending`] and [`Gauge::bytes_used`] come from two loads
/// and may count what was released in between; they never count too little. Loads only: reading slows the ends down a
/// little by moving their cache lines, nothing more.
#[derive(Clone, Copy)]
pub struct Gauge<'m> {
    header: &'m Header,
    capacity: usize,
}

impl<'m> Gauge<'m> {
    pub(super) fn new(header: &'m Header, capacity: usize) -> Self {
        Self { header, capacity }
    }

    /// Events ever committed, wrapping.
    #[inline]
    pub fn committed(&self) -> usize {
        self.header.committed()
    }

    /// Events ever released, wrapping.
    #[inline]
    pub fn released(&self) -> usize {
        self.header.released()
    }

    /// Events committed and not released.
    #[inline]
    pub fn pending(&self) -> usize {
        // In this order, or a commit and a release in between would make it negative.
        let released = self.header.released();
        self.header.committed().wrapping_sub(released)
    }

    /// Bytes that pending frames take, and the gap at the end of the arena if there is one.
    #[inline]
    pub fn bytes_used(&self) -> usize {
        self.header.bytes_used().min(self.capacity)
    }

    /// Bytes of the ring, a power of two.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The two words that a release changes, as they lie [`Ring::RELEASED_AT`](crate::Ring::RELEASED_AT) bytes into the
    /// ring's memory: for whoever delivers from a copy of that memory, and writes back how far it came.
    pub fn released_words(&self) -> [u8; Ring::RELEASED_BYTES] {
        let mut words = [0; Ring::RELEASED_BYTES];
        let (tail, released) = self.header.tail_and_released();
        for (to, from) in words.iter_mut().zip(tail.to_ne_bytes().into_iter().chain(released.to_ne_bytes())) {
            *to = from;
        }
        words
    }
}

impl fmt::Debug for Gauge<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gauge").field("capacity", &self.capacity).field("pending", &self.pending()).finish()
    }
}
