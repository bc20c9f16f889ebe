//! The end of the ring that events go into: grant, write, commit.

use core::fmt;

use super::arena::{Reserved, ReservedRun, WriteHalf};
use super::{Gauge, cursor};

/// The writing end of a ring: one thread (or interrupt) at a time, `Send`.
///
/// What the other end can do meanwhile: make room. It never takes any, so a grant that would fit once fits for as long as
/// this end commits nothing.
pub struct Producer<'m> {
    half: WriteHalf<'m>,
    /// The released count as last seen; the real one can only be higher.
    released: usize,
}

impl<'m> Producer<'m> {
    pub(super) fn new(half: WriteHalf<'m>) -> Self {
        let released = half.header().released();
        Self { half, released }
    }

    /// Exclusive use of `bytes` contiguous bytes, for a frame of at most that length.
    ///
    /// What they hold is unspecified, but initialised. Never allocates, never waits. Looks at the other end's cache line
    /// only when there seems to be no room.
    ///
    /// # Errors
    ///
    /// [`GrantError::TooLarge`] for more than half of the capacity, [`GrantError::Full`] when there is no room now.
    #[inline]
    pub fn grant(&mut self, bytes: usize) -> Result<Grant<'_, 'm>, GrantError> {
        let capacity = self.half.capacity();
        match self.half.reserve(bytes) {
            Some(reserved) => Ok(Grant { reserved }),
            None if bytes > cursor::grant_max(capacity) => Err(GrantError::TooLarge),
            None => Err(GrantError::Full),
        }
    }

    /// Exclusive use of whatever is known to be free in one piece where the next frame would begin.
    ///
    /// May be little or nothing: at either end of a lap, and when the other end was last looked at long ago.
    /// [`find_run`](Producer::find_run) looks again.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub fn grant_run(&mut self) -> Run<'_, 'm> {
        Run { reserved: self.half.reserve_run() }
    }

    /// Has the next frame begin where so many bytes are free in one piece, if they are: in the next lap if need be, the rest
    /// of this one being left out.
    #[inline]
    pub fn find_run(&mut self, bytes: usize) {
        self.half.find_run(bytes);
    }

    /// Exclusive use of what is left of the run, at most `bytes`.
    fn grant_up_to(&mut self, bytes: usize) -> Grant<'_, 'm> {
        Grant { reserved: self.half.reserve_up_to(bytes) }
    }

    /// How many bytes are known to be free in one piece where the next frame would begin.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) fn run(&self) -> usize {
        self.half.run()
    }

    /// As much as is free in one piece, at most `bytes`; the other end is looked at where less is known to be free. Little
    /// only near the end of a lap, or where there is no more.
    pub(crate) fn grant_most(&mut self, bytes: usize) -> Grant<'_, 'm> {
        self.half.look_for(bytes);
        self.grant_up_to(bytes)
    }

    /// Whether fewer than `limit` events are pending. Looks at the other end's cache line only when the count as last
    /// seen says no.
    #[inline]
    pub fn has_room_for_event(&mut self, limit: usize) -> bool {
        self.half.committed().wrapping_sub(self.released) < limit || self.has_room_for_event_now(limit)
    }

    /// Events released, as last seen; by now there may be more.
    pub(crate) fn released_at_least(&self) -> usize {
        self.released
    }

    #[cold]
    #[inline(never)]
    fn has_room_for_event_now(&mut self, limit: usize) -> bool {
        self.released = self.half.header().released();
        self.half.committed().wrapping_sub(self.released) < limit
    }

    /// Events ever committed to this memory since it was formatted, as far as an attach could know. Wraps around.
    #[inline]
    pub fn committed(&self) -> usize {
        self.half.committed()
    }

    /// Events committed and not released yet. The other end may release more at any moment, never fewer.
    #[inline]
    pub fn pending(&self) -> usize {
        self.half.committed().wrapping_sub(self.half.header().released())
    }

    /// Bytes of the ring, a power of two. The longest grant is half of it.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.half.capacity()
    }

    /// A view of the ring's counts for any other thread.
    pub fn gauge(&self) -> Gauge<'m> {
        Gauge::new(self.half.side())
    }
}

impl fmt::Debug for Producer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("capacity", &self.capacity()).field("pending", &self.pending()).finish()
    }
}

/// Exclusive use of a contiguous stretch of the ring.
///
/// Dropping it aborts: the consumer never sees a byte of it, and the same bytes are granted again.
#[must_use = "an uncommitted grant is thrown away"]
pub struct Grant<'a, 'm> {
    reserved: Reserved<'a, 'm>,
}

impl Grant<'_, '_> {
    /// The bytes, as many as were asked for. Unspecified content until written.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.reserved.bytes_mut()
    }

    /// Publishes the first `len` bytes as one event; the rest goes back. Once this returns the event survives the
    /// process, if the memory does.
    ///
    /// The bytes must be one frame: they end with a newline and hold no other one. The ring never looks at them while it
    /// runs, but [`Ring::attach`](super::Ring::attach) and [`Read::events`](super::Read::events) count newlines.
    ///
    /// A `len` of 0 or beyond the grant is a mistake and publishes nothing (debug builds panic on the latter).
    #[inline]
    pub fn commit(self, len: usize) {
        debug_assert!(len <= self.reserved.len(), "committed more than was granted");
        self.reserved.publish(len);
    }
}

/// A [`Grant`] of as much as can be had without looking for more.
#[must_use = "an uncommitted grant is thrown away"]
pub struct Run<'a, 'm> {
    pub(super) reserved: ReservedRun<'a, 'm>,
}

impl Run<'_, '_> {
    /// The bytes, as many as there are. Unspecified content until written.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.reserved.bytes_mut()
    }

    /// Publishes the first `len` bytes as one event, as [`Grant::commit`] does.
    #[inline]
    pub fn commit(mut self, len: usize) {
        let end = self.bytes_mut().get_mut(..len).map(|frame| frame.as_mut_ptr_range().end);
        debug_assert!(end.is_some(), "committed more than was granted");
        if let Some(end) = end {
            self.reserved.publish_to(end);
        }
    }
}

impl fmt::Debug for Grant<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant").field("len", &self.reserved.len()).finish()
    }
}

impl fmt::Debug for Run<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("len", &self.reserved.len()).finish()
    }
}

/// Why there is no grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum GrantError {
    /// No room right now: the consumer is behind. Releasing makes room.
    Full,
    /// More than half of the capacity, so that even an empty ring could not promise it in one piece. Waiting does not
    /// help.
    TooLarge,
}

impl fmt::Display for GrantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the ring has no room right now",
            Self::TooLarge => "the grant is larger than half of the ring",
        })
    }
}

impl core::error::Error for GrantError {}
