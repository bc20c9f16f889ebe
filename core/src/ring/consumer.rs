//! The end of the ring that frames leave by: read, then release or keep. Reading consumes nothing.

use core::fmt;

use super::Gauge;
use super::arena::ReadHalf;
use super::header::count_frames;

/// A place in a ring, between two bytes: how far the head or the tail has ever come. Wraps around.
///
/// The end of a frame is always the head that its commit published, so two positions are equal exactly if the same
/// frames lie before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position(usize);

impl Position {
    /// Whether this place is at or after `mark`, for two positions of one ring less than `usize::MAX / 2` bytes apart.
    #[inline]
    #[must_use]
    pub const fn has_reached(self, mark: Self) -> bool {
        self.0.wrapping_sub(mark.0) <= usize::MAX / 2
    }
}

/// The reading end of a ring: one thread at a time, `Send`.
///
/// What the other end can do meanwhile: add frames after the head. It never touches what lies between tail and head.
///
/// Two ways to use it: [`Consumer::read`] for everything that is there, or positions for whoever keeps several stretches
/// in flight.
pub struct Consumer<'m> {
    half: ReadHalf<'m>,
}

impl<'m> Consumer<'m> {
    pub(super) fn new(half: ReadHalf<'m>) -> Self {
        Self { half }
    }

    /// Everything committed so far, to be released or kept as a whole.
    pub fn read(&mut self) -> Read<'_, 'm> {
        Read { to: self.head(), consumer: self }
    }

    /// Where the oldest byte not yet released is.
    #[inline]
    pub fn tail(&self) -> Position {
        Position(self.half.tail())
    }

    /// Where the next frame will be committed. The other end may move it on at any moment, never back.
    #[inline]
    pub fn head(&self) -> Position {
        Position(self.half.head())
    }

    /// The bytes committed between two positions, in order; the second slice is empty unless they go around the end of
    /// the arena, which never happens inside a frame.
    ///
    /// Empty unless `tail <= from <= to <= head`.
    #[inline]
    pub fn slices(&self, from: Position, to: Position) -> (&[u8], &[u8]) {
        self.half.slices(from.0, to.0)
    }

    /// [`Consumer::slices`], for corrections in place that keep every frame's length and its newline.
    pub(crate) fn slices_mut(&mut self, from: Position, to: Position) -> (&mut [u8], &mut [u8]) {
        self.half.slices_mut(from.0, to.0)
    }

    /// Number of bytes that [`Consumer::slices`] would give.
    #[inline]
    pub fn bytes_between(&self, from: Position, to: Position) -> usize {
        let [first, second] = self.half.stretches(from.0, to.0);
        first.len.wrapping_add(second.len)
    }

    /// What was committed since the position `since`, or since the tail if that is further: contiguous stretches, each with
    /// the position it begins at. They are whole frames if `since` is where an earlier call's last one ended.
    pub fn stretches_since(&self, since: usize) -> [(usize, &[u8]); 2] {
        let (tail, head) = (self.tail(), self.head());
        let is_inside = since.wrapping_sub(tail.0) <= head.0.wrapping_sub(tail.0);
        let from = if is_inside { since } else { tail.0 };
        let (first, second) = self.half.slices(from, head.0);
        [(from, first), (head.0.wrapping_sub(second.len()), second)]
    }

    /// The position `bytes` committed bytes after `from`, at most the head. Returns `from` if it is not in
    /// `tail..=head`.
    #[inline]
    pub fn position_after(&self, from: Position, bytes: usize) -> Position {
        Position(self.half.advance(from.0, bytes))
    }

    /// Gives the room of everything before `to` back and counts `events` as released.
    ///
    /// A position outside of `tail..=head` is a mistake and releases nothing (debug builds panic). `events` beyond what is
    /// pending count as what is pending.
    #[inline]
    pub fn release(&mut self, to: Position, events: usize) {
        let done = self.half.release(to.0, events);
        debug_assert!(done || !self.is_there(), "released a position that is not between tail and head");
    }

    /// Whether the ring's memory still holds a ring. Only memory that others can reach, such as a file that is cut off
    /// while it is mapped, ever stops to: then nothing more is pending here, whatever was.
    pub(crate) fn is_there(&self) -> bool {
        self.half.header().is_there()
    }

    /// Events ever committed, wrapping. The other end may commit more at any moment.
    #[inline]
    pub fn committed(&self) -> usize {
        self.half.header().committed()
    }

    /// Events ever released, wrapping.
    #[inline]
    pub fn released(&self) -> usize {
        self.half.released()
    }

    /// Events committed and not released. For a moment this can be one more than the frames before the head: a commit
    /// counts its event just before it publishes it. Counts that contradict each other, in memory that somebody else has
    /// written to, are taken for none.
    #[inline]
    pub fn pending(&self) -> usize {
        let pending = self.committed().wrapping_sub(self.released());
        if pending <= self.capacity() { pending } else { 0 }
    }

    /// Overwrites everything committed so far and releases it: nothing of it stays in the ring's memory.
    pub fn erase(&mut self) {
        let read = self.read();
        let (to, events) = (read.to, read.events());
        let (first, second) = self.slices_mut(self.tail(), to);
        first.fill(b' ');
        second.fill(b' ');
        self.release(to, events);
    }

    /// Bytes of the ring, a power of two.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.half.capacity()
    }

    /// A view of the ring's counts for any other thread.
    pub fn gauge(&self) -> Gauge<'m> {
        Gauge::new(self.half.side())
    }
}

impl fmt::Debug for Consumer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("capacity", &self.capacity()).field("pending", &self.pending()).finish()
    }
}

/// Everything that was committed when [`Consumer::read`] was called. Dropping it keeps everything.
#[must_use = "reading consumes nothing: release the frames once their fate is known"]
pub struct Read<'a, 'm> {
    consumer: &'a mut Consumer<'m>,
    to: Position,
}

impl Read<'_, '_> {
    /// The frames' bytes, in order. See [`Consumer::slices`].
    pub fn slices(&self) -> (&[u8], &[u8]) {
        self.consumer.slices(self.consumer.tail(), self.to)
    }

    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.consumer.tail() == self.to
    }

    /// Number of frames, counted by their newlines: linear in the bytes.
    pub fn events(&self) -> usize {
        let (first, second) = self.slices();
        count_frames(first).wrapping_add(count_frames(second))
    }

    /// Frees the room of all of it.
    pub fn release(self) {
        let events = self.events();
        self.consumer.release(self.to, events);
    }

    /// Leaves everything where it is, for another try. The same as dropping, said aloud.
    pub fn keep(self) {}
}

impl fmt::Debug for Read<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.consumer.bytes_between(self.consumer.tail(), self.to);
        f.debug_struct("Read").field("bytes", &bytes).finish()
    }
}
