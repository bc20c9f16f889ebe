//! A ring in memory whose writer is gone: what of it can still be sent.
//!
//! In: memory that outlived its process or a reset, as it was found, and how far to believe it. Out: the same ring, in
//! which nothing is left but whole events of ours. Nothing moves: what is no event becomes blanks, which JSON allows
//! between events, so that positions in a copy are positions in the original too.
//!
//! After the death of a *process* the positions are exact (see the table in [`ring`](super)), and parsing every frame
//! only guards against a hostile or a failing disk. After the death of a *kernel* they are not: pages reach the disk in
//! any order, and the head may be there without what it points to. Then only [`Checkpoint`]s count: checksums over
//! stretches, made while the process lived. Whatever does not match them is blanked as well.

use core::ops::Range;

use super::RingError;
use super::arena::{Arena, Halves};
use super::cursor::{self, Stretch};
use super::header::{HEADER_BYTES, LAYOUT, MAGIC, aligned, set_word, word, word_at};
use crate::frame::is_frame;

/// Most checkpoints that are looked at.
const CHECKPOINTS_MAX: usize = u128::BITS as usize;

/// How far to believe what is found.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'c> {
    /// The memory is as the writer left it: a process died, a microcontroller was reset. Positions are believed.
    Positions,
    /// Parts of the memory may be older than others: the power failed, or a file system lost pages. Only bytes that one of
    /// these vouches for are believed; positions only as far as to know what was released before. The first 128 count.
    Checkpoints(&'c [Checkpoint]),
}

/// A checksum over a stretch of whole frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The position the stretch begins at, as [`Consumer::stretches_since`](crate::Consumer::stretches_since) says.
    pub from: usize,
    /// Its length in bytes.
    pub bytes: usize,
    /// [`crc32c`] of these bytes, continued from the four bytes of `from` and `0`.
    pub crc: u32,
}

impl Checkpoint {
    /// A checkpoint over `stretch`, which begins at position `from`.
    #[must_use]
    pub fn of(from: usize, stretch: &[u8]) -> Self {
        Self { from, bytes: 0, crc: Self::seed(from) }.extended(stretch)
    }

    /// The same checkpoint, longer by the bytes that follow it.
    #[must_use]
    pub fn extended(self, more: &[u8]) -> Self {
        Self { bytes: self.bytes.wrapping_add(more.len()), crc: crc32c(self.crc, more), ..self }
    }

    /// The position takes part, or the same bytes a lap later, long since delivered, would verify as well.
    fn seed(from: usize) -> u32 {
        crc32c(0, &from.to_le_bytes())
    }
}

/// What [`Ring::recover`](crate::Ring::recover) found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Recovered {
    /// Whole events, now pending.
    pub events: usize,
    /// Stretches between newlines that were none, and are blanks now. After power loss an estimate: nobody knows how many
    /// events the missing bytes were.
    pub damaged: usize,
}

/// See [`Ring::recover`](crate::Ring::recover).
pub(super) fn recover<'m>(memory: &'m mut [u8], trust: Trust<'_>) -> Result<(Halves<'m>, Recovered), RingError> {
    let memory = aligned(memory).ok_or(RingError::NotARing)?;
    let read = |index| word_at(memory, index).ok_or(RingError::NotARing);
    if read(word::MAGIC)? != MAGIC {
        return Err(RingError::NotARing);
    }
    if read(word::LAYOUT)? != LAYOUT {
        return Err(RingError::OtherLayout);
    }
    let (capacity, released, tail) = (read(word::CAPACITY)?, read(word::RELEASED)?, read(word::TAIL)?);
    let (head, watermark) = (read(word::HEAD)?, read(word::WATERMARK)?);
    if !Arena::fits(memory, capacity) {
        return Err(RingError::Damaged);
    }
    let is_valid = cursor::is_valid(tail, head, watermark, capacity);
    let bytes = memory.get_mut(HEADER_BYTES..).and_then(|bytes| bytes.get_mut(..capacity)).unwrap_or_default();
    let mut found = Found { bytes, tail, recovered: Recovered::default() };
    let (head, watermark) = match trust {
        Trust::Positions if !is_valid => return Err(RingError::Damaged),
        Trust::Positions => {
            for stretch in cursor::stretches(tail, head, watermark, capacity) {
                found.scrub(stretch);
            }
            (head, watermark)
        }
        Trust::Checkpoints(checkpoints) => {
            let end = found.believe(checkpoints);
            // What lies between the last frame of a lap and the next lap is blank now, so there is no gap.
            (end, end.wrapping_sub(cursor::offset(end, capacity)))
        }
    };
    let recovered = found.recovered;
    set_word(memory, word::WATERMARK, watermark);
    set_word(memory, word::COMMITTED, released.wrapping_add(recovered.events));
    set_word(memory, word::HEAD, head);
    let arena = Arena::over(memory, capacity).ok_or(RingError::Damaged)?;
    Ok((arena.halves(), recovered))
}

/// See [`Ring::pending_ranges`](crate::Ring::pending_ranges).
pub(super) fn pending_ranges(
    header: &[u8],
    trust: Trust<'_>,
    mut tell: impl FnMut(Range<usize>),
) -> Result<(), RingError> {
    let read = |index| word_at(header, index).ok_or(RingError::NotARing);
    if read(word::MAGIC)? != MAGIC {
        return Err(RingError::NotARing);
    }
    if read(word::LAYOUT)? != LAYOUT {
        return Err(RingError::OtherLayout);
    }
    let (capacity, tail) = (read(word::CAPACITY)?, read(word::TAIL)?);
    let (head, watermark) = (read(word::HEAD)?, read(word::WATERMARK)?);
    if !capacity.is_power_of_two() || capacity.checked_add(HEADER_BYTES).is_none() {
        return Err(RingError::Damaged);
    }
    let mut tell = |Stretch { offset, len }: Stretch| {
        if len > 0 {
            tell(HEADER_BYTES.wrapping_add(offset)..HEADER_BYTES.wrapping_add(offset).wrapping_add(len));
        }
    };
    match trust {
        Trust::Positions if !cursor::is_valid(tail, head, watermark, capacity) => return Err(RingError::Damaged),
        Trust::Positions => cursor::stretches(tail, head, watermark, capacity).into_iter().for_each(tell),
        // Whether their checksums are right shows only when the bytes are read.
        Trust::Checkpoints(checkpoints) => {
            for checkpoint in checkpoints.iter().take(CHECKPOINTS_MAX) {
                let to = checkpoint.from.wrapping_add(checkpoint.bytes).wrapping_sub(tail);
                let offset = cursor::offset(checkpoint.from, capacity);
                if (1..=capacity).contains(&to) && checkpoint.bytes <= capacity.wrapping_sub(offset) {
                    tell(Stretch { offset, len: checkpoint.bytes });
                }
            }
        }
    }
    Ok(())
}

/// The bytes of a ring, as they were found.
struct Found<'m> {
    /// A capacity of them.
    bytes: &'m mut [u8],
    tail: usize,
    recovered: Recovered,
}

impl Found<'_> {
    fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Blanks whatever in the stretch is no frame, and counts.
    fn scrub(&mut self, Stretch { offset, len }: Stretch) {
        let mut rest = self.bytes.get_mut(offset..).and_then(|bytes| bytes.get_mut(..len)).unwrap_or_default();
        while !rest.is_empty() {
            let end = rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |newline| newline + 1);
            let (frame, behind) = rest.split_at_mut_checked(end).unwrap_or_default();
            if is_frame(frame) {
                self.recovered.events += 1;
            } else if frame.iter().any(|&byte| byte != b' ') {
                frame.fill(b' ');
                self.recovered.damaged += 1;
            }
            rest = behind;
        }
    }

    /// Blanks whatever no checkpoint vouches for, and in the rest what is no frame. Says where the last good stretch ends.
    fn believe(&mut self, checkpoints: &[Checkpoint]) -> usize {
        let checkpoints = checkpoints.get(..CHECKPOINTS_MAX).unwrap_or(checkpoints);
        let verified = checkpoints.iter().enumerate().fold(0_u128, |verified, (at, checkpoint)| {
            if self.is_verified(checkpoint) { verified | 1 << at } else { verified }
        });
        let mut end = self.tail;
        loop {
            // Whichever goes on soonest behind what was looked at; all distances are from the tail, so they do not wrap.
            let done = end.wrapping_sub(self.tail);
            let all = checkpoints.iter().enumerate().filter(|(at, _)| verified >> at & 1 == 1);
            let ahead = all.map(|(_, checkpoint)| self.distances(checkpoint)).filter(|&(_, to)| to > done);
            let Some((from, to)) = ahead.map(|(from, to)| (from.max(done), to)).min() else { return end };
            self.blank(end, from.wrapping_sub(done));
            let start = self.tail.wrapping_add(from);
            self.scrub(Stretch { offset: cursor::offset(start, self.capacity()), len: to.wrapping_sub(from) });
            end = self.tail.wrapping_add(to);
        }
    }

    /// How far behind the tail a checkpoint begins and ends; it may begin before it.
    fn distances(&self, checkpoint: &Checkpoint) -> (usize, usize) {
        let to = checkpoint.from.wrapping_add(checkpoint.bytes).wrapping_sub(self.tail);
        (to.saturating_sub(checkpoint.bytes), to)
    }

    fn is_verified(&self, checkpoint: &Checkpoint) -> bool {
        let capacity = self.capacity();
        let offset = cursor::offset(checkpoint.from, capacity);
        let (_, to) = self.distances(checkpoint);
        // Ends behind the tail, at most a capacity away from it, and in the lap it began in.
        let is_ahead = (1..=capacity).contains(&to);
        let stretch = self.bytes.get(offset..).and_then(|bytes| bytes.get(..checkpoint.bytes));
        is_ahead && stretch.is_some_and(|stretch| Checkpoint::of(checkpoint.from, stretch).crc == checkpoint.crc)
    }

    fn blank(&mut self, from: usize, len: usize) {
        let capacity = self.capacity();
        let mut was_used = false;
        for step in 0..len {
            let place = self.bytes.get_mut(cursor::offset(from.wrapping_add(step), capacity));
            was_used |= place.as_ref().is_some_and(|byte| **byte == b'\n');
            place.into_iter().for_each(|byte| *byte = b' ');
        }
        self.recovered.damaged += usize::from(was_used);
    }
}

/// CRC-32C (Castagnoli) of `bytes`, continuing from that of what came before them; 0 to begin.
#[must_use]
pub fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    /// Eight bytes at a time where there is memory for 8 KiB of tables, a bit at a time elsewhere.
    #[cfg(target_pointer_width = "64")]
    static TABLES: [[u32; 256]; 8] = tables();
    #[cfg(target_pointer_width = "64")]
    const fn tables() -> [[u32; 256]; 8] {
        let mut tables = [[0; 256]; 8];
        let mut index = 0;
        while index < 256 {
            let mut crc = index as u32;
            let mut table = 0;
            while table < 8 {
                let mut bit = 0;
                while bit < 8 {
                    crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
                    bit += 1;
                }
                #[allow(clippy::indexing_slicing, reason = "evaluated when it compiles")]
                {
                    tables[table][index] = crc;
                }
                table += 1;
            }
            index += 1;
        }
        tables
    }

    let mut crc = !crc;
    #[cfg(target_pointer_width = "64")]
    {
        let look = |table: usize, byte: u8| {
            TABLES.get(table).and_then(|table| table.get(usize::from(byte))).copied().unwrap_or_default()
        };
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            let word = (u64::from_le_bytes(*word) ^ u64::from(crc)).to_le_bytes();
            let [a, b, c, d, e, f, g, h] = word;
            crc = look(7, a) ^ look(6, b) ^ look(5, c) ^ look(4, d);
            crc ^= look(3, e) ^ look(2, f) ^ look(1, g) ^ look(0, h);
        }
        for &byte in rest {
            crc = crc >> 8 ^ look(0, crc as u8 ^ byte);
        }
    }
    #[cfg(not(target_pointer_width = "64"))]
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
        }
    }
    !crc
}
