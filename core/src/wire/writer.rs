//! Bytes into a grant: the one place where text is copied, escaped while it is copied, and never checked byte by byte.
//!
//! In: literals, strings and numbers. Out: JSON in memory that somebody granted. Every call asks once whether its
//! longest output fits and then stores without looking; where that is not certain it takes a cold path which checks
//! each piece. What does not fit sets a mark that stays, and nothing is ever written outside the memory given.
//!
//! Over no memory at all, a [`Writer`] only adds up lengths: the encoder that writes an event is also the one that measures
//! it.

#![allow(unsafe_code, reason = "stores without bounds checks per byte; each block states the room that was asked for")]

use core::marker::PhantomData;
use core::ptr;

use super::digits::{divide, eight_digits, four_digits, three_digits};
use super::{escape, float, simd};
use crate::common::BLOCK_STEP;
use crate::event::NAME_SLOT_BYTES;
use crate::property::KEY_SLOT_BYTES;
use crate::serialize::{JsonSink, SerializeError, WriteJson};
use crate::stamp::{HEAD_BYTES, HEAD_SLOT_BYTES, MICROS_AT, Stamp, UUID_LOW_AT};

/// Whether copying a whole slot, whatever its length, is faster than copying what is in it.
const WIDE: bool = cfg!(target_pointer_width = "64");

/// Copies bytes. On small processors the compiler's own `memcpy` spends more on its beginning than these short texts take.
///
/// # Safety
///
/// As for [`ptr::copy_nonoverlapping`].
#[cfg_attr(target_pointer_width = "64", inline(always))]
#[cfg_attr(not(target_pointer_width = "64"), inline(never))]
unsafe fn copy(mut from: *const u8, mut to: *mut u8, len: usize) {
    if WIDE {
        // SAFETY: the caller's promise.
        unsafe { ptr::copy_nonoverlapping(from, to, len) };
        return;
    }
    // SAFETY: the caller's promise; the steps, of which the last may overlap the one before, cover `len` bytes and no more.
    // Arrays of bytes need no alignment.
    unsafe {
        if len < 8 {
            for offset in 0..len {
                to.add(offset).write(from.add(offset).read());
            }
            return;
        }
        let (last_from, last_to) = (from.add(len - 8), to.add(len - 8));
        while (from as usize) < last_from as usize {
            to.cast::<[u8; 8]>().write(from.cast::<[u8; 8]>().read());
            (from, to) = (from.add(8), to.add(8));
        }
        last_to.cast::<[u8; 8]>().write(last_from.cast::<[u8; 8]>().read());
    }
}

/// Bytes that are copied, and looked at, at a time where there is something to escape.
const PIECE: usize = 16;

/// Where the encoder writes.
pub(crate) trait Out {
    /// The first [`HEAD_BYTES`] of an event: uuid and timestamp, framed.
    fn head(&mut self, head: &[u8; HEAD_SLOT_BYTES], stamp: &Stamp);
    /// The first `len` bytes of a padded name slot.
    fn name_slot(&mut self, slot: &[u8; NAME_SLOT_BYTES], len: SlotLen<NAME_SLOT_BYTES>);
    /// The first `len` bytes of a padded key slot.
    fn key_slot(&mut self, slot: &[u8; KEY_SLOT_BYTES], len: SlotLen<KEY_SLOT_BYTES>);
    /// The first `len` bytes of a block padded to whole steps of [`BLOCK_STEP`] bytes.
    fn block(&mut self, block: &[u8], len: usize);
    /// Bytes as they are.
    fn bytes(&mut self, bytes: &[u8]);
    /// A byte as it is.
    fn byte(&mut self, byte: u8);
    /// Text, escaped, without quotes.
    fn escaped(&mut self, text: &str);
    /// Text, escaped, in quotes.
    fn string(&mut self, text: &str);
    /// A whole number.
    fn int(&mut self, value: i64);
    /// A whole number.
    fn uint(&mut self, value: u64);
    /// A number; `null` if it is not finite.
    fn float(&mut self, value: f64);
    /// A number of single precision; `null` if it is not finite.
    fn float32(&mut self, value: f32);
    /// A value that writes itself, nested at most `depth` levels deep.
    fn typed(&mut self, value: &dyn WriteJson, depth: usize) -> Result<(), SerializeError>;
}

/// How much of a slot of `N` bytes is in use: less than all of it. What stores a slot relies on that, so nothing else can
/// make one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlotLen<const N: usize>(u8);

impl<const N: usize> SlotLen<N> {
    /// Nothing at all, which is how a text that does not fit is remembered.
    pub(crate) const EMPTY: Self = Self(0);

    /// # Panics
    ///
    /// At compile time only, unless `len < N`.
    pub(crate) const fn new(len: usize) -> Self {
        assert!(len < N && N <= 256, "a slot is longer than what it holds");
        Self(len as u8)
    }

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) const fn get(self) -> usize {
        self.0 as usize
    }

    /// `None` unless `len < N`, and for what no byte can say.
    pub(crate) const fn checked(len: usize) -> Option<Self> {
        if len < N && len <= u8::MAX as usize { Some(Self(len as u8)) } else { None }
    }
}

/// A cursor over granted memory.
///
/// Invariant: `start ≤ at ≤ end`, all inside or one past the end of the slice it was made from. Once something did not
/// fit, `full` stays set and `end` equals `at`, so that nothing shorter slips in behind the hole.
pub(crate) struct Writer<'a> {
    start: *mut u8,
    at: *mut u8,
    end: *mut u8,
    full: bool,
    /// Whether values that write themselves are left to somebody else: their code may panic.
    no_typed: bool,
    /// Bytes that did not fit. Nothing but their number is kept.
    missing: usize,
    memory: PhantomData<&'a mut [u8]>,
}

impl<'a> Writer<'a> {
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) fn new(memory: &'a mut [u8]) -> Self {
        let range = memory.as_mut_ptr_range();
        let (start, end) = (range.start, range.end);
        Self { start, at: start, end, full: false, no_typed: false, missing: 0, memory: PhantomData }
    }

    /// One that refuses values which write themselves.
    pub(crate) fn without_typed(memory: &'a mut [u8]) -> Self {
        Self { no_typed: true, ..Self::new(memory) }
    }

    /// Bytes written and bytes that did not fit: without any memory, what all of it takes.
    pub(crate) fn wanted(&self) -> usize {
        self.len().saturating_add(self.missing)
    }

    /// Bytes written, if all of them fitted.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) fn finish(self) -> Option<usize> {
        if self.full { None } else { Some(self.len()) }
    }

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn len(&self) -> usize {
        self.at as usize - self.start as usize
    }

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn room(&self) -> usize {
        self.end as usize - self.at as usize
    }

    /// Moves behind `len` bytes just stored.
    ///
    /// # Safety
    ///
    /// `len` bytes at the cursor lie within the memory.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    unsafe fn advance(&mut self, len: usize) {
        // SAFETY: the caller's promise keeps `at` at or below `end`.
        self.at = unsafe { self.at.add(len) };
    }

    #[cold]
    #[inline(never)]
    fn set_full(&mut self, missing: usize) {
        self.full = true;
        self.end = self.at;
        self.missing = self.missing.saturating_add(missing);
    }

    /// The careful way to write anything: all of it or nothing.
    #[cold]
    #[cfg_attr(target_pointer_width = "64", inline(never))]
    fn exact(&mut self, bytes: &[u8]) {
        self.long(bytes);
    }

    /// The first `len` bytes of a slot of `N`, stored as all `N` where there is room for them.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn slot<const N: usize>(&mut self, slot: &[u8; N], len: SlotLen<N>) {
        let len = len.get();
        if !WIDE {
            self.long(slot.get(..len).unwrap_or_default());
        } else if self.room() >= N {
            // SAFETY: `N` bytes fit, and fewer of them are kept.
            unsafe {
                copy(slot.as_ptr(), self.at, N);
                self.advance(len);
            }
        } else {
            self.exact(slot.get(..len).unwrap_or_default());
        }
    }

    /// Escapes of which there is at least one, or a text for which there may be no room.
    #[cold]
    #[inline(never)]
    fn escaped_slow(&mut self, text: &[u8]) {
        let mut rest = text;
        while !rest.is_empty() {
            // Pieces with nothing to escape as they are; then one, of which that cannot be said, byte by byte.
            while rest.len() >= PIECE && self.room() >= PIECE {
                // SAFETY: both are at least as long as a piece.
                if unsafe { simd::copy_16(rest.as_ptr(), self.at) } {
                    break;
                }
                // SAFETY: the piece was just stored.
                unsafe { self.advance(PIECE) };
                rest = rest.get(PIECE..).unwrap_or_default();
            }
            let (piece, behind) = rest.split_at_checked(PIECE).unwrap_or((rest, &[]));
            if self.room() >= PIECE * escape::WORD_BYTES {
                let mut at = self.at;
                for &byte in piece {
                    // By one store from a table, whatever the byte is, and no question about it.
                    let (word, len) = escape::word(byte);
                    // SAFETY: there is room for as many whole words as a piece has bytes, and no more than a word is kept
                    // of each.
                    at = unsafe {
                        at.cast::<u64>().write_unaligned(word.to_le());
                        at.add(len)
                    };
                }
                self.at = at;
            } else {
                for &byte in piece {
                    let (word, len) = escape::word(byte);
                    self.exact(word.to_le_bytes().get(..len).unwrap_or_default());
                }
            }
            rest = behind;
        }
    }

    /// Any text, byte by byte and without tables: for processors that would rather have the flash.
    #[inline(never)]
    fn escaped_small(&mut self, text: &[u8]) {
        let mut rest = text;
        loop {
            // What there is room for, until there is something to escape.
            let mut at = self.at;
            for &byte in rest.get(..self.room()).unwrap_or(rest) {
                if escape::is_due(byte) {
                    break;
                }
                // SAFETY: no more bytes than there is room for.
                at = unsafe {
                    at.write(byte);
                    at.add(1)
                };
            }
            let count = at as usize - self.at as usize;
            self.at = at;
            let Some((&byte, behind)) = rest.get(count..).unwrap_or_default().split_first() else { return };
            match escape::of(byte) {
                Some(escape) => self.long(escape.as_bytes()),
                None => self.byte(byte),
            }
            rest = behind;
        }
    }

    /// A run of any length, checked once.
    #[cfg_attr(target_pointer_width = "64", inline)]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn long(&mut self, bytes: &[u8]) {
        if bytes.len() > self.room() {
            self.set_full(bytes.len());
            return;
        }
        let to = self.at;
        // SAFETY: the room was just compared; a `&[u8]` and memory borrowed mutably cannot overlap.
        unsafe {
            self.advance(bytes.len());
            copy(bytes.as_ptr(), to, bytes.len());
        }
    }

    /// Copies `text` to the cursor while looking for a byte that needs an escape. Returns whether there was none; then
    /// `text.len()` bytes were stored, else some of them, and the cursor has not moved.
    ///
    /// Texts are read in overlapping pieces (the last 16, 8, 4 bytes of what there is), never past their ends.
    ///
    /// # Safety
    ///
    /// `text.len()` bytes at the cursor lie within the memory.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    unsafe fn copy_plain(&mut self, text: &[u8]) -> bool {
        let (from, to, len) = (text.as_ptr(), self.at, text.len());
        // SAFETY: each offset below plus the width of its access is at most `len`, which bounds both the text read and,
        // by this function's contract, the memory written. All accesses are unaligned ones.
        unsafe {
            if len >= 16 {
                let mut offset = 0;
                while offset + 16 < len {
                    if simd::copy_16(from.add(offset), to.add(offset)) {
                        return false;
                    }
                    offset += 16;
                }
                !simd::copy_16(from.add(len - 16), to.add(len - 16))
            } else if len >= 8 {
                let low = from.cast::<u64>().read_unaligned();
                let high = from.add(len - 8).cast::<u64>().read_unaligned();
                to.cast::<u64>().write_unaligned(low);
                to.add(len - 8).cast::<u64>().write_unaligned(high);
                !simd::pair_needs_escape(low, high)
            } else if len >= 4 {
                let low = from.cast::<u32>().read_unaligned();
                let high = from.add(len - 4).cast::<u32>().read_unaligned();
                to.cast::<u32>().write_unaligned(low);
                to.add(len - 4).cast::<u32>().write_unaligned(high);
                !escape::word_needs_escape(u64::from(low) | u64::from(high) << 32)
            } else if len > 0 {
                let (first, middle, last) = (*from, *from.add(len / 2), *from.add(len - 1));
                *to = first;
                *to.add(len / 2) = middle;
                *to.add(len - 1) = last;
                let word = u32::from_le_bytes([first, middle, last, last]);
                !escape::word_needs_escape(u64::from(word) | u64::from(word) << 32)
            } else {
                true
            }
        }
    }
}

impl Out for Writer<'_> {
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn head(&mut self, head: &[u8; HEAD_SLOT_BYTES], stamp: &Stamp) {
        if !WIDE {
            let at = self.at;
            self.long(head.get(..HEAD_BYTES).unwrap_or_default());
            if !self.full {
                // SAFETY: a whole head was just written there.
                unsafe { put_own(stamp, at) };
            }
            return;
        }
        if self.room() < HEAD_SLOT_BYTES {
            let mut text = *head;
            // SAFETY: `text` is as long as the whole slot.
            unsafe { put_stamp(head, stamp, text.as_mut_ptr()) };
            self.exact(text.get(..HEAD_BYTES).unwrap_or_default());
            return;
        }
        // SAFETY: the whole slot fits.
        unsafe {
            put_stamp(head, stamp, self.at);
            self.advance(HEAD_BYTES);
        }
    }

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn name_slot(&mut self, slot: &[u8; NAME_SLOT_BYTES], len: SlotLen<NAME_SLOT_BYTES>) {
        self.slot(slot, len);
    }

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn key_slot(&mut self, slot: &[u8; KEY_SLOT_BYTES], len: SlotLen<KEY_SLOT_BYTES>) {
        self.slot(slot, len);
    }

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn block(&mut self, block: &[u8], len: usize) {
        if !WIDE {
            self.long(block.get(..len).unwrap_or_default());
        } else if self.room() >= block.len() && len <= block.len() && block.len().is_multiple_of(BLOCK_STEP) {
            let mut offset = 0;
            while offset < block.len() {
                // SAFETY: `offset + BLOCK_STEP ≤ block.len() ≤ room`, since the length is a multiple of the step.
                unsafe { ptr::copy_nonoverlapping(block.as_ptr().add(offset), self.at.add(offset), BLOCK_STEP) };
                offset += BLOCK_STEP;
            }
            // SAFETY: `len ≤ block.len()`, which fitted.
            unsafe { self.advance(len) };
        } else {
            self.exact(block.get(..len).unwrap_or_default());
        }
    }

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn bytes(&mut self, bytes: &[u8]) {
        self.long(bytes);
    }

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn byte(&mut self, byte: u8) {
        if self.room() == 0 {
            self.set_full(1);
            return;
        }
        // SAFETY: there is room for one.
        unsafe {
            *self.at = byte;
            self.advance(1);
        }
    }

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn escaped(&mut self, text: &str) {
        let bytes = text.as_bytes();
        if !WIDE {
            return self.escaped_small(bytes);
        }
        // SAFETY: `copy_plain` is called only where there is room for the whole text, which is what `advance` skips.
        unsafe {
            if bytes.len() <= self.room() && self.copy_plain(bytes) {
                self.advance(bytes.len());
            } else {
                self.escaped_slow(bytes);
            }
        }
    }

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn string(&mut self, text: &str) {
        let bytes = text.as_bytes();
        if !WIDE {
            self.byte(b'"');
            self.escaped_small(bytes);
            return self.byte(b'"');
        }
        if self.room() < bytes.len() + 2 {
            self.exact(b"\"");
            self.escaped_slow(bytes);
            self.exact(b"\"");
            return;
        }
        // SAFETY: two quotes and the whole text fit.
        unsafe {
            *self.at = b'"';
            self.advance(1);
            if self.copy_plain(bytes) {
                *self.at.add(bytes.len()) = b'"';
                self.advance(bytes.len() + 1);
            } else {
                self.escaped_slow(bytes);
                self.exact(b"\"");
            }
        }
    }

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn int(&mut self, value: i64) {
        let negative = value < 0;
        if negative {
            self.long(b"-");
        }
        self.uint(value.unsigned_abs());
    }

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn uint(&mut self, value: u64) {
        if !WIDE {
            self.uint_small(value);
        } else if value < 100_000_000 && self.room() >= 8 {
            let (digits, len) = eight_digits(value as u32);
            // SAFETY: eight bytes fit and `len ≤ 8`.
            unsafe {
                self.at.cast::<u64>().write_unaligned(digits.to_le());
                self.advance(len);
            }
        } else {
            self.uint_long(value);
        }
    }

    #[cfg_attr(target_pointer_width = "64", inline)]
    fn float(&mut self, value: f64) {
        if value.is_finite() {
            let mut buffer = float::Buffer::new();
            self.long(buffer.format_finite(value).as_bytes());
        } else {
            self.long(b"null");
        }
    }

    fn float32(&mut self, value: f32) {
        if value.is_finite() {
            let mut buffer = float::Buffer::new();
            self.long(buffer.format_finite(value).as_bytes());
        } else {
            self.long(b"null");
        }
    }

    fn typed(&mut self, value: &dyn WriteJson, depth: usize) -> Result<(), SerializeError> {
        if WIDE && self.no_typed {
            return Err(SerializeError::Custom);
        }
        value.write_json(&mut Nested { sink: self, depth })
    }
}

impl Writer<'_> {
    #[cold]
    #[inline(never)]
    fn uint_long(&mut self, value: u64) {
        self.long(itoa::Buffer::new().format(value).as_bytes());
    }

    /// Any number, without a table and without a division of 64 bits.
    #[inline(never)]
    fn uint_small(&mut self, value: u64) {
        if value < 10 {
            return self.byte(b'0' + value as u8);
        }
        // Four digits at a time, those in front first: five levels deep at most.
        let (mut four, mut zeros) = (value as u32, 0);
        if value >= 10_000 {
            let (front, last) = divide(value, 10_000);
            self.uint_small(front);
            four = last;
        } else {
            zeros = usize::from(four < 100) + usize::from(four < 1000);
        }
        self.long(four_digits(four).get(zeros..).unwrap_or_default());
    }
}

/// A frame's beginning at `to`: the head's slot, and what is the stamp's own over its place-holders.
///
/// # Safety
///
/// [`HEAD_SLOT_BYTES`] bytes can be written at `to`.
#[cfg_attr(target_pointer_width = "64", inline(always))]
unsafe fn put_stamp(head: &[u8; HEAD_SLOT_BYTES], stamp: &Stamp, to: *mut u8) {
    const REST: usize = (HEAD_BYTES - UUID_LOW_END).next_multiple_of(16);
    const { assert!(UUID_LOW_END + REST <= HEAD_SLOT_BYTES, "whole vectors around the stamp's own") };
    let from = head.as_ptr();
    // SAFETY: everything ends within the slot, as the assertion says, and the head is shorter than that.
    unsafe {
        copy(from, to, UUID_LOW_COVER);
        copy(from.add(UUID_LOW_END), to.add(UUID_LOW_END), REST);
        put_own(stamp, to);
    }
}

/// A frame's beginning, behind which everything else stands already.
#[cfg_attr(target_pointer_width = "64", inline(always))]
pub(crate) fn put_head(head: &[u8; HEAD_SLOT_BYTES], stamp: &Stamp, to: &mut [u8; HEAD_BYTES]) {
    let (from, to) = (head.as_ptr(), to.as_mut_ptr());
    // SAFETY: the copies around the stamp's own end at or before `HEAD_BYTES`, as does what is written between and over them;
    // `put_stamp` says the same of the longer ones.
    unsafe {
        copy(from, to, UUID_LOW_COVER);
        copy(from.add(UUID_LOW_END), to.add(UUID_LOW_END), HEAD_BYTES - UUID_LOW_END);
        put_own(stamp, to);
    }
}

/// Behind the second half of the uuid's text.
const UUID_LOW_END: usize = UUID_LOW_AT + 17;

/// What is before the second half of the uuid's text, and enough of it for a whole number of vectors.
const UUID_LOW_COVER: usize = UUID_LOW_AT.next_multiple_of(16);

const _: () = assert!(UUID_LOW_COVER <= UUID_LOW_END && UUID_LOW_END < HEAD_BYTES);

/// What is the stamp's own, over its place-holders.
///
/// # Safety
///
/// [`HEAD_BYTES`] bytes can be written at `to`.
#[cfg_attr(target_pointer_width = "64", inline(always))]
unsafe fn put_own(stamp: &Stamp, to: *mut u8) {
    let [a, b, c] = three_digits(stamp.micros);
    // SAFETY: `UUID_LOW_END` and `MICROS_AT + 4` are at most `HEAD_BYTES`, as an assertion above says and one in `stamp.rs`.
    unsafe {
        simd::put_uuid_low(stamp.low, to.add(UUID_LOW_AT));
        // With what stands behind them, as one store: an exchange waits for each.
        to.add(MICROS_AT).cast::<[u8; 4]>().write_unaligned([a, b, c, b'Z']);
    }
}

impl JsonSink for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SerializeError> {
        // Where it does not fit, its length is still of interest: a value goes on to its end.
        self.long(bytes);
        Ok(())
    }
}

/// A sink inside containers that are open already: what writes itself may only nest as deep as is left.
struct Nested<'a, S> {
    sink: &'a mut S,
    depth: usize,
}

impl<S: JsonSink> JsonSink for Nested<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SerializeError> {
        self.sink.write(bytes)
    }

    fn depth_max(&self) -> usize {
        self.depth
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::string::String;
    use std::vec::Vec;

    /// What two ways of writing make of so much room: the bytes if all fitted, and how many are wanted.
    fn both(room: usize, ways: [&dyn Fn(&mut Writer<'_>); 2]) -> [(Option<Vec<u8>>, usize); 2] {
        ways.map(|way| {
            let mut memory = std::vec![0xee; room];
            let mut out = Writer::new(&mut memory);
            way(&mut out);
            let (wanted, len) = (out.wanted(), out.finish());
            (len.and_then(|len| memory.get(..len).map(Vec::from)), wanted)
        })
    }

    #[test]
    fn text_is_written_the_same_with_and_without_tables() {
        let all: String = (0..0x180u32).filter_map(char::from_u32).collect();
        for text in ["", "plain", "a\"b", "\\", "\u{1}\n\u{1f}é", "\"\"\"\"", "ends in \"", &all] {
            for room in (0..40).chain([600, 800, 4096]) {
                let [tables, none] = both(room, [&|out| out.escaped(text), &|out| out.escaped_small(text.as_bytes())]);
                assert_eq!(tables, none, "{text:?} in {room}");
            }
        }
    }

    #[test]
    fn numbers_are_written_the_same_with_and_without_tables() {
        let edges = (0..20).flat_map(|power| [10u64.pow(power) - 1, 10u64.pow(power), 10u64.pow(power) + 1]);
        for value in edges.chain(0..1_000).chain([10_203, 1_000_200_030_004, u64::MAX - 1, u64::MAX]) {
            let text = format!("{value}");
            for room in [0, text.len() - 1, text.len(), 32] {
                let [tables, none] = both(room, [&|out| out.uint(value), &|out| out.uint_small(value)]);
                assert_eq!(tables, none, "{value} in {room}");
                let expected = (room >= text.len()).then(|| text.clone().into_bytes());
                assert_eq!(none, (expected, text.len()), "{value} in {room}");
            }
        }
    }
}
