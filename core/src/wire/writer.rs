//! Bytes into a grant: the one place where text is copied, escaped while it is copied, and never checked byte by byte.
//!
//! In: literals, strings and numbers. Out: JSON in memory that somebody granted. Every call asks once whether its
//! longest output fits and then stores without looking; where that is not certain it takes a cold path which checks
//! each piece. What does not fit sets a mark that stays, and nothing is ever written outside the memory given.
//!
//! [`Out`] has a second implementation, [`Counter`], which only adds up lengths: the encoder that writes an event is
//! also the one that measures it.

#![allow(unsafe_code, reason = "stores without bounds checks per byte; each block states the room that was asked for")]

use core::marker::PhantomData;
use core::ptr;

use super::escape;
use crate::common::BLOCK_STEP;
use crate::event::NAME_SLOT_BYTES;
use crate::property::KEY_SLOT_BYTES;
use crate::serialize::{JsonSink, SerializeError, WriteJson};
use crate::stamp::{HEAD_BYTES, HEAD_SLOT_BYTES, Stamp, UUID_AT};

/// Where the encoder writes.
pub(crate) trait Out {
    /// The first [`HEAD_BYTES`] of an event: uuid and timestamp, framed.
    fn head(&mut self, head: &[u8; HEAD_SLOT_BYTES], stamp: &Stamp);
    /// The first `len` bytes of a padded name slot.
    fn name_slot(&mut self, slot: &[u8; NAME_SLOT_BYTES], len: usize);
    /// The first `len` bytes of a padded key slot.
    fn key_slot(&mut self, slot: &[u8; KEY_SLOT_BYTES], len: usize);
    /// The first `len` bytes of a block padded to whole steps of [`BLOCK_STEP`] bytes.
    fn block(&mut self, block: &[u8], len: usize);
    /// Bytes as they are.
    fn bytes(&mut self, bytes: &[u8]);
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
    /// A value that writes itself, nested at most `depth` levels deep.
    fn typed(&mut self, value: &dyn WriteJson, depth: usize) -> Result<(), SerializeError>;
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
    memory: PhantomData<&'a mut [u8]>,
}

impl<'a> Writer<'a> {
    #[inline(always)]
    pub(crate) fn new(memory: &'a mut [u8]) -> Self {
        let range = memory.as_mut_ptr_range();
        Self { start: range.start, at: range.start, end: range.end, full: false, memory: PhantomData }
    }

    /// Bytes written, if all of them fitted.
    #[inline(always)]
    pub(crate) fn finish(self) -> Option<usize> {
        if self.full { None } else { Some(self.len()) }
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.at as usize - self.start as usize
    }

    #[inline(always)]
    fn room(&self) -> usize {
        self.end as usize - self.at as usize
    }

    /// Moves behind `len` bytes just stored.
    ///
    /// # Safety
    ///
    /// `len` bytes at the cursor lie within the memory.
    #[inline(always)]
    unsafe fn advance(&mut self, len: usize) {
        // SAFETY: the caller's promise keeps `at` at or below `end`.
        self.at = unsafe { self.at.add(len) };
    }

    #[cold]
    #[inline(never)]
    fn set_full(&mut self) {
        self.full = true;
        self.end = self.at;
    }

    /// The careful way to write anything: all of it or nothing.
    #[cold]
    #[inline(never)]
    fn exact(&mut self, bytes: &[u8]) {
        if bytes.len() > self.room() {
            self.set_full();
            return;
        }
        // SAFETY: the room was just compared; a `&[u8]` and memory borrowed mutably cannot overlap.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), self.at, bytes.len());
            self.advance(bytes.len());
        }
    }

    /// The first `len` bytes of a slot of `N`, stored as all `N` where there is room for them.
    #[inline(always)]
    fn slot<const N: usize>(&mut self, slot: &[u8; N], len: usize) {
        if self.room() >= N && len <= N {
            // SAFETY: `N` bytes fit, and `len ≤ N` of them are kept.
            unsafe {
                ptr::copy_nonoverlapping(slot.as_ptr(), self.at, N);
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
        loop {
            let (run, escape) = escape::next_run(rest);
            self.long(rest.get(..run).unwrap_or_default());
            let Some(escape) = escape else { return };
            self.exact(escape);
            rest = rest.get(run + 1..).unwrap_or_default();
        }
    }

    /// A run of any length, checked once.
    #[inline]
    fn long(&mut self, bytes: &[u8]) {
        if bytes.len() > self.room() {
            self.set_full();
            return;
        }
        // SAFETY: the room was just compared; a `&[u8]` and memory borrowed mutably cannot overlap.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), self.at, bytes.len());
            self.advance(bytes.len());
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
    #[inline(always)]
    unsafe fn copy_plain(&mut self, text: &[u8]) -> bool {
        let (from, to, len) = (text.as_ptr(), self.at, text.len());
        // SAFETY: each offset below plus the width of its access is at most `len`, which bounds both the text read and,
        // by this function's contract, the memory written. All accesses are unaligned ones.
        unsafe {
            if len >= 16 {
                let mut offset = 0;
                while offset + 16 < len {
                    if lanes::copy_16(from.add(offset), to.add(offset)) {
                        return false;
                    }
                    offset += 16;
                }
                !lanes::copy_16(from.add(len - 16), to.add(len - 16))
            } else if len >= 8 {
                let low = from.cast::<u64>().read_unaligned();
                let high = from.add(len - 8).cast::<u64>().read_unaligned();
                to.cast::<u64>().write_unaligned(low);
                to.add(len - 8).cast::<u64>().write_unaligned(high);
                !lanes::pair_needs_escape(low, high)
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
    #[inline(always)]
    fn head(&mut self, head: &[u8; HEAD_SLOT_BYTES], stamp: &Stamp) {
        if self.room() < HEAD_SLOT_BYTES {
            let mut text = *head;
            let mut local = Writer::new(&mut text);
            // SAFETY: `text` is as long as the whole slot.
            unsafe { local.stamp(stamp) };
            self.exact(text.get(..HEAD_BYTES).unwrap_or_default());
            return;
        }
        // SAFETY: the whole slot fits.
        unsafe {
            ptr::copy_nonoverlapping(head.as_ptr(), self.at, HEAD_SLOT_BYTES);
            self.stamp(stamp);
            self.advance(HEAD_BYTES);
        }
    }

    #[inline(always)]
    fn name_slot(&mut self, slot: &[u8; NAME_SLOT_BYTES], len: usize) {
        self.slot(slot, len);
    }

    #[inline(always)]
    fn key_slot(&mut self, slot: &[u8; KEY_SLOT_BYTES], len: usize) {
        self.slot(slot, len);
    }

    #[inline(always)]
    fn block(&mut self, block: &[u8], len: usize) {
        if self.room() >= block.len() && len <= block.len() && block.len().is_multiple_of(BLOCK_STEP) {
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

    #[inline(always)]
    fn bytes(&mut self, bytes: &[u8]) {
        self.long(bytes);
    }

    #[inline(always)]
    fn escaped(&mut self, text: &str) {
        let bytes = text.as_bytes();
        // SAFETY: `copy_plain` is called only where there is room for the whole text, which is what `advance` skips.
        unsafe {
            if bytes.len() <= self.room() && self.copy_plain(bytes) {
                self.advance(bytes.len());
            } else {
                self.escaped_slow(bytes);
            }
        }
    }

    #[inline(always)]
    fn string(&mut self, text: &str) {
        let bytes = text.as_bytes();
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

    #[inline(always)]
    fn int(&mut self, value: i64) {
        let negative = value < 0;
        if negative {
            self.long(b"-");
        }
        self.uint(value.unsigned_abs());
    }

    #[inline(always)]
    fn uint(&mut self, value: u64) {
        if value < 100_000_000 && self.room() >= 8 {
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

    #[inline]
    fn float(&mut self, value: f64) {
        if value.is_finite() {
            let mut buffer = zmij::Buffer::new();
            self.long(buffer.format_finite(value).as_bytes());
        } else {
            self.long(b"null");
        }
    }

    fn typed(&mut self, value: &dyn WriteJson, depth: usize) -> Result<(), SerializeError> {
        match value.write_json(&mut Nested { sink: self, depth }) {
            // The mark is set; whoever asks for the length learns of it there, as for everything else that did not fit.
            Err(SerializeError::Full) if self.full => Ok(()),
            written => written,
        }
    }
}

impl Writer<'_> {
    #[cold]
    #[inline(never)]
    fn uint_long(&mut self, value: u64) {
        let mut buffer = itoa::Buffer::new();
        self.long(buffer.format(value).as_bytes());
    }

    /// Puts a stamp's uuid and fraction of a second over a head's place-holders at the cursor.
    ///
    /// # Safety
    ///
    /// [`HEAD_BYTES`] bytes at the cursor lie within the memory.
    #[inline(always)]
    unsafe fn stamp(&mut self, stamp: &Stamp) {
        // SAFETY: `UUID_AT + 36` and `FRACTION_AT + 6` are below `HEAD_BYTES`, as an assertion in `stamp.rs` says.
        unsafe {
            lanes::put_uuid(stamp.uuid_words, self.at.add(UUID_AT));
            let fraction = self.at.add(crate::stamp::FRACTION_AT);
            let (low, high) = crate::stamp::six_digits(stamp.micros);
            fraction.cast::<u32>().write_unaligned(low.to_le());
            fraction.add(4).cast::<u16>().write_unaligned(high.to_le());
        }
    }
}

impl JsonSink for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SerializeError> {
        self.long(bytes);
        if self.full { Err(SerializeError::Full) } else { Ok(()) }
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

/// Adds up what a [`Writer`] would have written.
#[derive(Default)]
pub(crate) struct Counter {
    len: usize,
}

impl Counter {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn add(&mut self, len: usize) {
        self.len = self.len.saturating_add(len);
    }
}

impl Out for Counter {
    fn head(&mut self, _: &[u8; HEAD_SLOT_BYTES], _: &Stamp) {
        self.add(HEAD_BYTES);
    }

    fn name_slot(&mut self, _: &[u8; NAME_SLOT_BYTES], len: usize) {
        self.add(len);
    }

    fn key_slot(&mut self, _: &[u8; KEY_SLOT_BYTES], len: usize) {
        self.add(len);
    }

    fn block(&mut self, _: &[u8], len: usize) {
        self.add(len);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.add(bytes.len());
    }

    fn escaped(&mut self, text: &str) {
        self.add(escape::escaped_len(text));
    }

    fn string(&mut self, text: &str) {
        self.add(escape::escaped_len(text).saturating_add(2));
    }

    fn int(&mut self, value: i64) {
        self.add(usize::from(value < 0));
        self.uint(value.unsigned_abs());
    }

    fn uint(&mut self, value: u64) {
        self.add(value.checked_ilog10().map_or(1, |log| log as usize + 1));
    }

    fn float(&mut self, value: f64) {
        self.add(if value.is_finite() { zmij::Buffer::new().format_finite(value).len() } else { 4 });
    }

    fn typed(&mut self, value: &dyn WriteJson, depth: usize) -> Result<(), SerializeError> {
        value.write_json(&mut Nested { sink: self, depth })
    }
}

impl JsonSink for Counter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SerializeError> {
        self.add(bytes.len());
        Ok(())
    }
}

/// The decimal digits of a number below 10⁸, most significant in the lowest byte, and how many there are.
///
/// Divides all of it at once: two halves of four digits, four quarters of two, eight digits, by multiplying with
/// reciprocals inside one word.
#[inline(always)]
fn eight_digits(value: u32) -> (u64, usize) {
    let halves = u64::from(value / 10_000) | u64::from(value % 10_000) << 32;
    let hundreds = ((halves * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let quarters = hundreds | (halves - 100 * hundreds) << 16;
    let tens = ((quarters * 103) >> 10) & 0x000f_000f_000f_000f;
    let digits = tens | (quarters - 10 * tens) << 8;
    let leading = (digits | 1 << 56).trailing_zeros() as usize / 8;
    ((digits + 0x3030_3030_3030_3030) >> (leading * 8), 8 - leading)
}

/// Sixteen bytes at a time, by target: what differs between them.
#[cfg(target_arch = "x86_64")]
mod lanes {
    use core::arch::x86_64::*;

    /// Copies 16 bytes; returns whether one of them needs an escape.
    ///
    /// # Safety
    ///
    /// 16 bytes can be read at `from` and written at `to`.
    #[inline(always)]
    pub(super) unsafe fn copy_16(from: *const u8, to: *mut u8) -> bool {
        // SAFETY: the caller's promise; SSE2 is part of x86-64.
        unsafe {
            let bytes = _mm_loadu_si128(from.cast());
            _mm_storeu_si128(to.cast(), bytes);
            needs_escape(bytes)
        }
    }

    /// Whether a byte of two words needs an escape.
    #[inline(always)]
    pub(super) fn pair_needs_escape(low: u64, high: u64) -> bool {
        // SAFETY: SSE2 is part of x86-64.
        unsafe { needs_escape(_mm_set_epi64x(high as i64, low as i64)) }
    }

    /// # Safety
    ///
    /// SSE2, which every x86-64 has.
    #[inline(always)]
    #[allow(unused_unsafe, reason = "these intrinsics became safe in newer compilers")]
    unsafe fn needs_escape(bytes: __m128i) -> bool {
        // SAFETY: as this function's contract.
        unsafe {
            let control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
            let quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"' as i8));
            let backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8));
            _mm_movemask_epi8(_mm_or_si128(control, _mm_or_si128(quote, backslash))) != 0
        }
    }

    /// Writes the 32 hexadecimal digits of a uuid at `to` in groups of 8, 4, 4, 4, 12, leaving the places of the dashes.
    ///
    /// # Safety
    ///
    /// 36 bytes can be written at `to`.
    #[inline(always)]
    #[allow(unused_unsafe, reason = "these intrinsics became safe in newer compilers")]
    pub(super) unsafe fn put_uuid(words: [u64; 2], to: *mut u8) {
        let [high, low] = words;
        // SAFETY: every store ends at or before offset 36; SSE2 is part of x86-64.
        unsafe {
            let bytes = _mm_set_epi64x(low.swap_bytes() as i64, high.swap_bytes() as i64);
            let mask = _mm_set1_epi8(0x0f);
            let upper = _mm_and_si128(_mm_srli_epi16(bytes, 4), mask);
            let lower = _mm_and_si128(bytes, mask);
            let first = hex(_mm_unpacklo_epi8(upper, lower));
            let second = hex(_mm_unpackhi_epi8(upper, lower));
            _mm_storel_epi64(to.cast(), first);
            let tail = _mm_cvtsi128_si64(_mm_unpackhi_epi64(first, first)) as u64;
            to.add(9).cast::<u32>().write_unaligned(tail as u32);
            to.add(14).cast::<u32>().write_unaligned((tail >> 32) as u32);
            let node = _mm_cvtsi128_si64(second) as u64;
            to.add(19).cast::<u32>().write_unaligned(node as u32);
            to.add(24).cast::<u32>().write_unaligned((node >> 32) as u32);
            _mm_storel_epi64(to.add(28).cast(), _mm_unpackhi_epi64(second, second));
        }
    }

    /// # Safety
    ///
    /// SSE2, which every x86-64 has.
    #[inline(always)]
    #[allow(unused_unsafe, reason = "these intrinsics became safe in newer compilers")]
    unsafe fn hex(nibbles: __m128i) -> __m128i {
        // SAFETY: as this function's contract.
        unsafe {
            let letters = _mm_and_si128(_mm_cmpgt_epi8(nibbles, _mm_set1_epi8(9)), _mm_set1_epi8(39));
            _mm_add_epi8(_mm_add_epi8(nibbles, _mm_set1_epi8(b'0' as i8)), letters)
        }
    }
}

/// Two words at a time, for every other target.
#[cfg(not(target_arch = "x86_64"))]
use portable as lanes;

#[cfg(any(not(target_arch = "x86_64"), test))]
mod portable {
    use super::super::escape::word_needs_escape;

    /// Copies 16 bytes; returns whether one of them needs an escape.
    ///
    /// # Safety
    ///
    /// 16 bytes can be read at `from` and written at `to`.
    #[inline(always)]
    pub(super) unsafe fn copy_16(from: *const u8, to: *mut u8) -> bool {
        // SAFETY: the caller's promise.
        unsafe {
            let low = from.cast::<u64>().read_unaligned();
            let high = from.add(8).cast::<u64>().read_unaligned();
            to.cast::<u64>().write_unaligned(low);
            to.add(8).cast::<u64>().write_unaligned(high);
            pair_needs_escape(low, high)
        }
    }

    /// Whether a byte of two words needs an escape.
    #[inline(always)]
    pub(super) fn pair_needs_escape(low: u64, high: u64) -> bool {
        word_needs_escape(low) | word_needs_escape(high)
    }

    /// Writes the 32 hexadecimal digits of a uuid at `to` in groups of 8, 4, 4, 4, 12, leaving the places of the dashes.
    ///
    /// # Safety
    ///
    /// 36 bytes can be written at `to`.
    #[inline(always)]
    pub(super) unsafe fn put_uuid(words: [u64; 2], to: *mut u8) {
        let [high, low] = words;
        // SAFETY: the offsets and widths below end at 36.
        unsafe {
            to.cast::<u64>().write_unaligned(hex((high >> 32) as u32));
            let middle = hex(high as u32);
            to.add(9).cast::<u32>().write_unaligned(middle as u32);
            to.add(14).cast::<u32>().write_unaligned((middle >> 32) as u32);
            let node = hex((low >> 32) as u32);
            to.add(19).cast::<u32>().write_unaligned(node as u32);
            to.add(24).cast::<u32>().write_unaligned((node >> 32) as u32);
            to.add(28).cast::<u64>().write_unaligned(hex(low as u32));
        }
    }

    /// Eight hexadecimal digits, in the order they are stored in memory on this target.
    #[inline(always)]
    fn hex(value: u32) -> u64 {
        // One nibble a byte, the most significant in the lowest byte.
        let spread = u64::from(value.swap_bytes());
        let spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
        let spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
        let nibbles = (spread >> 4 & 0x000f_000f_000f_000f) | (spread & 0x000f_000f_000f_000f) << 8;
        let letters = (nibbles + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
        (nibbles + 0x3030_3030_3030_3030 + letters * 39).to_le()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]
    use super::*;
    use crate::uuid::{Prng, Uuid};

    #[test]
    fn both_halves_write_the_same_uuid() {
        let mut prng = Prng::new([5, 6]);
        for _ in 0..10_000 {
            let words = [prng.next(), prng.next()];
            let (mut fast, mut plain) = ([b'-'; 36], [b'-'; 36]);
            // SAFETY: both are 36 bytes long.
            unsafe {
                lanes::put_uuid(words, fast.as_mut_ptr());
                portable::put_uuid(words, plain.as_mut_ptr());
            }
            assert_eq!(fast, plain);
            assert_eq!(fast, Uuid::from_words(words[0], words[1]).hyphenated());
        }
    }

    #[test]
    fn both_halves_copy_and_judge_alike() {
        for byte in 0..=255u8 {
            for at in 0..16 {
                let mut text = [b'a'; 16];
                text[at] = byte;
                let (mut fast, mut plain) = ([0; 16], [0; 16]);
                // SAFETY: each is 16 bytes long.
                let found = unsafe {
                    (
                        lanes::copy_16(text.as_ptr(), fast.as_mut_ptr()),
                        portable::copy_16(text.as_ptr(), plain.as_mut_ptr()),
                    )
                };
                let expected = escape::of(byte).is_some();
                assert_eq!((found, fast, plain), ((expected, expected), text, text), "{byte:#x} at {at}");
            }
        }
    }
}
