//! The ring beside an oracle: whatever the operations, both hold the same frames. For tests and fuzz targets.
//!
//! The oracle thinks in offsets and a queue of byte strings; it shares no arithmetic with the ring.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a model finds mistakes by panicking")]

extern crate std;

use std::collections::VecDeque;
use std::vec;
use std::vec::Vec;

use super::{Consumer, GrantError, Position, Producer, Ring};

/// One thing that can be done to a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Take a grant and commit a frame of `len` bytes, clipped to what was granted.
    Commit {
        /// Bytes asked for.
        granted: usize,
        /// Bytes committed.
        len: usize,
    },
    /// Take a grant, scribble over all of it, drop it.
    Abort {
        /// Bytes asked for.
        granted: usize,
    },
    /// Release the oldest frames, as many as there are at most.
    Release {
        /// How many.
        frames: usize,
    },
    /// Read everything and release it.
    ReadAll,
    /// Read everything and keep it.
    Keep,
    /// Drop both ends and find the ring again in its memory.
    Reattach,
}

impl Op {
    /// Operations from arbitrary bytes, for a ring of `capacity`.
    pub fn decode(bytes: &[u8], capacity: usize) -> impl Iterator<Item = Self> {
        bytes.chunks_exact(3).map(move |chunk| {
            let [kind, a, b] = [chunk.first(), chunk.get(1), chunk.get(2)].map(|byte| usize::from(*byte.unwrap()));
            // Mostly small frames, sometimes up to a little beyond what can ever be granted.
            let granted = if kind & 64 == 0 { a % 32 } else { a * (capacity / 2 + 2) / 255 };
            match kind % 16 {
                0..8 => Self::Commit { granted, len: granted - (b % 8).min(granted) },
                8 => Self::Abort { granted },
                9..13 => Self::Release { frames: a % 8 },
                13 => Self::ReadAll,
                14 => Self::Keep,
                _ => Self::Reattach,
            }
        })
    }
}

/// What a ring of `capacity` bytes must hold.
#[derive(Clone, Debug)]
pub struct Oracle {
    capacity: usize,
    head_offset: usize,
    frames: VecDeque<Frame>,
    committed: usize,
}

#[derive(Clone, Debug)]
struct Frame {
    bytes: Vec<u8>,
    /// Bytes at the end of the arena that were left out to put this frame at its start.
    gap: usize,
}

impl Oracle {
    /// An empty ring whose next byte goes to `head_offset`.
    #[must_use]
    pub fn new(capacity: usize, head_offset: usize) -> Self {
        Self { capacity, head_offset, frames: VecDeque::new(), committed: 0 }
    }

    /// Lengths of frames and gaps: all that decides what happens next.
    #[must_use]
    pub fn shape(&self) -> (usize, Vec<(usize, usize)>) {
        (self.head_offset, self.frames.iter().map(|frame| (frame.gap, frame.bytes.len())).collect())
    }

    fn used(&self) -> usize {
        self.frames.iter().map(|frame| frame.gap + frame.bytes.len()).sum()
    }

    fn bytes(&self) -> Vec<u8> {
        self.frames.iter().flat_map(|frame| frame.bytes.iter().copied()).collect()
    }

    /// The gap before a grant, or why there is none.
    fn grant(&self, bytes: usize) -> Result<usize, GrantError> {
        if bytes > self.capacity / 2 {
            return Err(GrantError::TooLarge);
        }
        let gap = if self.head_offset + bytes <= self.capacity { 0 } else { self.capacity - self.head_offset };
        if self.used() + gap + bytes <= self.capacity { Ok(gap) } else { Err(GrantError::Full) }
    }

    /// A frame that differs from its neighbours.
    fn next_frame(&self, len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..len).map(|i| b'a' + ((self.committed + i) % 26) as u8).collect();
        if let Some(last) = bytes.last_mut() {
            *last = b'\n';
        }
        bytes
    }

    /// Does `op` to both and compares everything that can be seen.
    pub fn apply(&mut self, op: Op, producer: &mut Producer<'_>, consumer: &mut Consumer<'_>) {
        match op {
            Op::Commit { granted, len } => self.commit(granted, len.min(granted), producer, consumer),
            Op::Abort { granted } => {
                let expected = self.grant(granted).map(|_| ());
                let found = producer.grant(granted).map(|mut grant| {
                    assert_eq!(grant.bytes_mut().len(), granted);
                    grant.bytes_mut().fill(b'\n');
                });
                assert_eq!(found, expected, "{op:?}");
            }
            Op::Release { frames } => {
                let released: Vec<Frame> = self.frames.drain(..frames.min(self.frames.len())).collect();
                let bytes = released.iter().map(|frame| frame.bytes.len()).sum();
                let to = consumer.position_after(consumer.tail(), bytes);
                consumer.release(to, released.len());
            }
            Op::ReadAll => {
                consumer.read().release();
                self.frames.clear();
            }
            Op::Keep => consumer.read().keep(),
            Op::Reattach => {}
        }
        self.check(producer, consumer);
    }

    fn commit(&mut self, granted: usize, len: usize, producer: &mut Producer<'_>, consumer: &mut Consumer<'_>) {
        // What the consumer looks at meanwhile must not change.
        let (tail, head) = (consumer.tail(), consumer.head());
        let seen = consumer.slices(tail, head);
        let frame = self.next_frame(len);
        match (producer.grant(granted), self.grant(granted)) {
            (Ok(mut grant), Ok(gap)) => {
                assert_eq!(grant.bytes_mut().len(), granted);
                grant.bytes_mut().fill(b'\n');
                grant.bytes_mut().get_mut(..len).unwrap().copy_from_slice(&frame);
                grant.commit(len);
                assert_eq!([seen.0, seen.1].concat(), self.bytes(), "a commit changed bytes that were being read");
                if len > 0 {
                    let start = if gap > 0 { 0 } else { self.head_offset };
                    self.head_offset = (start + len) % self.capacity;
                    self.frames.push_back(Frame { bytes: frame, gap });
                    self.committed += 1;
                }
            }
            (found, expected) => assert_eq!(found.map(|_| ()).err(), expected.err(), "a grant of {granted}"),
        }
    }

    /// Compares all that can be seen from outside.
    fn check(&self, producer: &mut Producer<'_>, consumer: &mut Consumer<'_>) {
        let (pending, gauge) = (self.frames.len(), producer.gauge());
        assert_eq!([consumer.pending(), producer.pending(), gauge.pending()], [pending; 3]);
        assert_eq!(producer.committed(), self.committed);
        assert_eq!([consumer.committed(), gauge.committed()], [self.committed; 2]);
        assert_eq!([consumer.released(), gauge.released()], [self.committed - pending; 2]);
        assert_eq!(gauge.bytes_used(), self.used());
        assert!(producer.has_room_for_event(pending + 1) && !producer.has_room_for_event(pending));

        // The whole, and every frame found by walking from the tail.
        let (tail, head) = (consumer.tail(), consumer.head());
        let (first, second) = consumer.slices(tail, head);
        assert_eq!([first, second].concat(), self.bytes());
        assert!(first.is_empty() || first.ends_with(b"\n"), "a frame goes around the end of the arena");
        let mut from: Position = tail;
        for frame in &self.frames {
            let to = consumer.position_after(from, frame.bytes.len());
            assert_eq!(consumer.bytes_between(from, to), frame.bytes.len());
            let (first, second) = consumer.slices(from, to);
            assert!(first.is_empty() || second.is_empty(), "a frame is contiguous");
            assert_eq!([first, second].concat(), frame.bytes);
            assert!(head.has_reached(to) && to.has_reached(from) && !from.has_reached(to));
            from = to;
        }
        assert_eq!(from, head, "the last frame ends at the head");
        assert_eq!(consumer.read().events(), pending);
        assert_eq!(consumer.read().is_empty(), pending == 0);
    }
}

/// Does all `ops` to a new ring of `capacity` whose positions start at `position`.
pub fn run(capacity: usize, position: usize, ops: impl IntoIterator<Item = Op>) {
    let mut memory = vec![0; Ring::bytes_for(capacity)];
    // Exactly as much as is needed: the slack for alignment would make a tiny ring a larger one.
    let skip = memory.as_ptr().align_offset(Ring::ALIGN);
    let memory = memory.get_mut(skip..skip + Ring::bytes_for(capacity) - (Ring::ALIGN - 1)).unwrap();
    let mut oracle = Oracle::new(capacity, position % capacity);
    let mut ring = Ring::format_at(memory, position).unwrap();
    let mut ops = ops.into_iter();
    loop {
        assert_eq!((ring.capacity(), ring.pending()), (capacity, oracle.frames.len()));
        let (mut producer, mut consumer) = ring.split();
        oracle.check(&mut producer, &mut consumer);
        loop {
            match ops.next() {
                Some(Op::Reattach) => break,
                Some(op) => oracle.apply(op, &mut producer, &mut consumer),
                None => return,
            }
        }
        ring = Ring::attach(memory).unwrap();
    }
}
