//! The usual event, written in one go: what nine captures of ten take, and what their cost is measured on.
//!
//! In: what an event says that says nothing [rare](crate::event::Rare), and a run of the ring. Out: a frame in the ring, of
//! exactly the bytes that [`event`](super::event) would write, the head written last; or nothing: an event that is wrong in any
//! way, that has a value with code of its own, or for which the room is not plainly enough, is left to that module, which
//! looks at it from the beginning and says what is wrong. So nothing here decides anything.
//!
//! What makes it short: no survey ahead, but room for a few properties of short texts from the start, and a question only
//! about what is longer; no branch per text, but one question at the end whether any byte of any text needed an escape; a
//! cursor that no function call ever sees the address of, so that it stays in registers. What is less usual has functions
//! of its own: values of many are written by the writer that everything else uses, and an event with something to escape
//! once more by that writer.

#![allow(unsafe_code, reason = "stores without bounds checks per byte; each block states the room that was asked for")]

use core::{ptr, slice};

use super::digits::{by_hundred, pair};
use super::event::{FRAME_TAIL, write_usual, write_value};
use super::float;
use super::simd::Seen;
use super::writer::{SlotLen, Writer};
use crate::common::{BLOCK_BYTES_MIN, Common, ShortCommon};
use crate::event::{EVENT_KEY, Event, ID_KEY, NAME_SLOT_BYTES, Name, Usual};
use crate::limits::{DEPTH_MAX, DISTINCT_ID_CHARS_MAX, EVENT_NAME_BYTES_MAX, KEY_BYTES_MAX};
use crate::property::{KEY_SLOT_BYTES, Key, Property, Value, is_special, key_mask};
use crate::ring::Run;
use crate::stamp::HEAD_BYTES;

/// Whether this target takes the short way. A small processor would rather have the flash.
pub(crate) const IS_WORTH_IT: bool = cfg!(target_pointer_width = "64");

/// Longest text that nobody asks about: for as long a key and as long a value of each property there is room from the start.
const SHORT_TEXT_BYTES_MAX: usize = 32;

/// Longest number that is written: a sign and the digits of a `u64`, or what a float may take.
const NUMBER_BYTES_MAX: usize = 32;

/// What a property takes at most if its texts are short, or have been asked about: a comma and quotes and a colon around the
/// key, quotes around the value.
const PROPERTY_BYTES: usize = (1 + 2 + SHORT_TEXT_BYTES_MAX + 1) + (2 + SHORT_TEXT_BYTES_MAX);

/// As many properties as most events have: for these there has to be room, whether they are there or not.
const PROPERTIES_FEW: usize = 8;

/// Bytes behind all properties: for the tail, and for what slots are longer than what is in them.
const MARGIN: usize = 64;

/// Whole numbers from here on are not the usual ones, and have more digits than are written from a table.
const NUMBER_END: u64 = 100_000_000;

/// From the start to the first property, at most, as long as the super properties' block is of the shortest.
const PRELUDE_BYTES_MAX: usize =
    HEAD_BYTES + EVENT_KEY.len() + EVENT_NAME_BYTES_MAX + ID_KEY.len() + DISTINCT_ID_CHARS_MAX + BLOCK_BYTES_MIN;

/// The least room that is worth a try.
pub(crate) const ROOM_BYTES_MIN: usize = PRELUDE_BYTES_MAX + PROPERTIES_FEW * PROPERTY_BYTES + MARGIN;

/// Room to ask for where less than that is left in one piece: enough for nearly all usual events.
pub(crate) const ROOM_BYTES_MAX: usize = 4 * 1024;

const _: () = assert!(
    HEAD_BYTES + NAME_SLOT_BYTES + DISTINCT_ID_CHARS_MAX + BLOCK_BYTES_MIN <= PRELUDE_BYTES_MAX,
    "a name from its slot takes less than the longest from its text"
);
const _: () = assert!(SHORT_TEXT_BYTES_MAX <= KEY_BYTES_MAX, "a short key is not too long");
const _: () = assert!(
    KEY_SLOT_BYTES + 1 + NUMBER_BYTES_MAX <= PROPERTY_BYTES && FRAME_TAIL.len() + KEY_SLOT_BYTES <= MARGIN,
    "a property with a key from its slot, or a number, takes less than one of texts"
);

/// Commits the event as a frame of at most `most` bytes of the run; `put_head` is called when all but the head is written.
/// `None` if that is for somebody else to do; then nothing has happened.
#[inline(always)]
pub(crate) fn write<'c, T>(
    event: Usual<'_>,
    short: &ShortCommon,
    common: impl Fn() -> Common<'c>,
    mut run: Run<'_, '_>,
    most: usize,
    put_head: impl FnOnce(&mut [u8; HEAD_BYTES]) -> T,
) -> Option<T> {
    let room = run.bytes_mut().get_mut(..most)?;
    let end = write_body(event, short, common, room)?;
    // Last, so that neither time nor uuid takes up registers while the rest is written.
    let head = put_head(room.first_chunk_mut()?);
    // SAFETY: the frame that ends there begins with the room, which is the run's beginning, and is longer than a head.
    unsafe { run.commit_to(end) };
    Some(head)
}

/// Writes the event at the start of `room` as a frame whose head is missing, and returns where in it the frame ends. `None` if
/// that is for somebody else to do; what `room` holds then is of no use.
#[inline(always)]
fn write_body<'c>(
    event: Usual<'_>,
    short: &ShortCommon,
    common: impl Fn() -> Common<'c>,
    room: &mut [u8],
) -> Option<*mut u8> {
    let id = event.distinct_id.as_bytes();
    // As in `event::check_id`; ids that begin otherwise, or might have too many characters, are looked at there. Signed, so
    // that what begins beyond ASCII is below the space too.
    if id.len().wrapping_sub(1) >= DISTINCT_ID_CHARS_MAX || id.first().is_none_or(|first| *first as i8 <= b' ' as i8) {
        return None;
    }
    if room.len() < ROOM_BYTES_MIN {
        return None;
    }
    let start = room.as_mut_ptr();
    let before = room.len() - (PROPERTIES_FEW * PROPERTY_BYTES + MARGIN);
    // SAFETY: the prelude ends before the limit, and what all properties take and the margin are behind it in the room.
    let (at, mut limit) = unsafe { (start.add(HEAD_BYTES), start.add(before)) };
    if event.properties.len() > PROPERTIES_FEW {
        let before = room_before(event.properties.len(), room.len())?;
        // SAFETY: as above.
        limit = unsafe { start.add(before) };
    }
    let mut pen = Pen { at, limit, seen: Seen::nothing() };
    // SAFETY: head, name, id and the beginning of the block take `PRELUDE_BYTES_MAX` bytes at most, name and id being
    // checked to be within their limits; so what is stored, slots included, lies before the limit or in the margin.
    unsafe {
        // The id is there twice so that it is the first that is noted where nothing was before.
        match event.name {
            Name::Literal(literal) => {
                pen.slot(&literal.slot, literal.len);
                pen.text::<true>(id)?;
            }
            Name::Text(name) => {
                if name.len().wrapping_sub(1) >= EVENT_NAME_BYTES_MAX {
                    return None;
                }
                pen.fixed(EVENT_KEY);
                pen.text::<true>(name.as_bytes())?;
                pen.fixed(ID_KEY);
                pen.text::<true>(id)?;
            }
        }
        if short.len.get() != 0 {
            pen.slot(&short.block, short.len);
        } else {
            pen.common(event.properties, &common())?;
        }
    }
    for property in event.properties {
        pen.property(property)?;
    }
    if pen.seen.needs_escape() {
        // SAFETY: what is before the limit is in the room, of which there is no other reference any more. As long as it was is
        // something that nobody else wants to know, and would be one more thing to remember.
        let room = unsafe { slice::from_raw_parts_mut(start, pen.limit as usize - start as usize) };
        return write_escaped(&event.into(), &common(), room);
    }
    // SAFETY: behind the properties the margin has room for the tail.
    unsafe { pen.fixed(FRAME_TAIL) };
    Some(pen.at)
}

/// What so many properties leave of the room, if the prelude fits there.
#[cold]
#[inline(never)]
fn room_before(properties: usize, room: usize) -> Option<usize> {
    let before = room.checked_sub(MARGIN)?.checked_sub(properties.checked_mul(PROPERTY_BYTES)?)?;
    if before < PRELUDE_BYTES_MAX { None } else { Some(before) }
}

/// Writes the same event once more, by the writer that escapes.
#[cold]
#[inline(never)]
fn write_escaped(event: &Event<'_>, common: &Common<'_>, room: &mut [u8]) -> Option<*mut u8> {
    let body = room.get_mut(HEAD_BYTES..)?;
    let mut writer = Writer::without_typed(body);
    write_usual(event, common, &mut writer).ok()?;
    let len = writer.finish()?;
    Some(body.get_mut(..len)?.as_mut_ptr_range().end)
}

/// A cursor that asks only about what is long.
///
/// Invariant: what lies from its start to [`PROPERTY_BYTES`] for each property and [`MARGIN`] bytes behind `limit` is granted.
/// `at` is behind the limit by no more than that many bytes for each property begun; whatever would make it more asks
/// [`reaches`](Pen::reaches) first, and then ends before the limit.
struct Pen {
    at: *mut u8,
    limit: *mut u8,
    seen: Seen,
}

impl Pen {
    /// Whether `len` bytes more end before the limit.
    #[inline(always)]
    fn reaches(&self, len: usize) -> bool {
        // Two addresses of one allocation are at most `isize::MAX` apart, wherever it lies, and no slice is longer than that.
        // Negative where the pen is behind its limit.
        (self.limit as isize).wrapping_sub(self.at as isize) >= len as isize
    }

    /// A comma, the key, a colon, the value. A quote is stored behind the colon in any case, because most values begin with
    /// one; other values are written over it.
    #[inline(always)]
    fn property(&mut self, property: &Property<'_>) -> Option<()> {
        match property.key {
            Key::Literal(literal) => {
                // SAFETY: what of the slot is kept is the property's; what it is longer lies in the margin at worst.
                unsafe { self.key_slot(&literal.slot, literal.len) };
            }
            Key::Text(key) => {
                let key = key.as_bytes();
                // A name of PostHog's may be one that the client writes itself.
                if key.first().is_none_or(|first| *first == b'$' && is_odd(key)) {
                    return None;
                }
                if key.len() > KEY_BYTES_MAX {
                    return None;
                }
                // SAFETY: there is room for what surrounds the key in any case, as for a short one.
                unsafe {
                    self.fixed(b",\"");
                    self.text::<false>(key)?;
                    self.fixed(b"\":\"");
                    self.at = self.at.sub(1);
                }
            }
        }
        if let Value::Str(text) = property.value {
            // SAFETY: there is room for the quotes in any case, as for a short text. The first one is there already.
            unsafe {
                self.advance(1);
                self.text::<false>(text.as_bytes())?;
                self.fixed(b"\"");
            }
            return Some(());
        }
        match property.value {
            // Negative ones are beyond the end.
            Value::Int(value) if (value as u64) < NUMBER_END => self.number(value as u32),
            Value::Uint(value) if value < NUMBER_END => self.number(value as u32),
            // SAFETY: the longest word is less than what is left of the property's bytes; up to the limit everything is
            // granted, and what is written there ends before it.
            ref other => unsafe {
                let len = put_other(other, self.at, (self.limit as usize).saturating_sub(self.at as usize));
                if len == 0 {
                    return None;
                }
                self.advance(len);
            },
        }
        Some(())
    }

    /// A whole number below [`NUMBER_END`], as a property's value.
    #[inline(always)]
    fn number(&mut self, value: u32) {
        // Two digits at a time from a table, straight to their places: half of what arithmetic on all of them takes.
        // SAFETY: eight bytes are less than what is left of the property's.
        unsafe {
            if value < 10_000 {
                let (hundreds, ones) = by_hundred(value);
                if value >= 1_000 {
                    self.fixed(pair(hundreds));
                    self.fixed(pair(ones));
                } else if value >= 100 {
                    self.digit(hundreds);
                    self.fixed(pair(ones));
                } else {
                    self.first(ones);
                }
                return;
            }
            let (upper, lower) = (value / 10_000, value % 10_000);
            if upper < 10 {
                self.digit(upper);
            } else {
                let (millions, ten_thousands) = by_hundred(upper);
                if millions != 0 {
                    self.first(millions);
                    self.fixed(pair(ten_thousands));
                } else {
                    self.fixed(pair(ten_thousands));
                }
            }
            let (hundreds, ones) = by_hundred(lower);
            self.fixed(pair(hundreds));
            self.fixed(pair(ones));
        }
    }

    /// One digit.
    ///
    /// # Safety
    ///
    /// A byte at the cursor is granted.
    #[inline(always)]
    unsafe fn digit(&mut self, value: u32) {
        // SAFETY: the caller's promise.
        unsafe { self.fixed(&[b'0' + value as u8]) };
    }

    /// One or two digits.
    ///
    /// # Safety
    ///
    /// Two bytes at the cursor are granted.
    #[inline(always)]
    unsafe fn first(&mut self, value: u32) {
        // SAFETY: the caller's promise.
        unsafe {
            if value < 10 {
                self.digit(value);
            } else {
                self.fixed(pair(value));
            }
        }
    }

    /// # Safety
    ///
    /// `len` bytes at the cursor are granted.
    #[inline(always)]
    unsafe fn advance(&mut self, len: usize) {
        // SAFETY: the caller's promise.
        self.at = unsafe { self.at.add(len) };
    }

    /// # Safety
    ///
    /// `N` bytes at the cursor are granted.
    #[inline(always)]
    unsafe fn fixed<const N: usize>(&mut self, bytes: &[u8; N]) {
        // SAFETY: the caller's promise.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), self.at, N);
            self.advance(N);
        }
    }

    /// What of a slot is in use, stored as all of it.
    ///
    /// # Safety
    ///
    /// `N` bytes at the cursor are granted.
    #[inline(always)]
    unsafe fn slot<const N: usize>(&mut self, slot: &[u8; N], len: SlotLen<N>) {
        // SAFETY: the caller's promise; less than `N` bytes are kept.
        unsafe {
            ptr::copy_nonoverlapping(slot.as_ptr(), self.at, N);
            self.advance(len.get());
        }
    }

    /// A [`slot`](Pen::slot) of which most use half: the other half costs more to store than to ask about. Behind what is in
    /// use there is one byte more that counts, the quote that text begins with.
    ///
    /// # Safety
    ///
    /// [`KEY_SLOT_BYTES`] bytes at the cursor are granted.
    #[inline(always)]
    unsafe fn key_slot(&mut self, slot: &[u8; KEY_SLOT_BYTES], len: SlotLen<KEY_SLOT_BYTES>) {
        const HALF: usize = KEY_SLOT_BYTES / 2;
        // SAFETY: the caller's promise; both halves are in the slot, of which less than all is kept.
        unsafe {
            ptr::copy_nonoverlapping(slot.as_ptr(), self.at, HALF);
            if len.get() >= HALF {
                ptr::copy_nonoverlapping(slot.as_ptr().add(HALF), self.at.add(HALF), HALF);
            }
            self.advance(len.get());
        }
    }

    /// Super properties that are not short, or have names.
    ///
    /// # Safety
    ///
    /// [`BLOCK_BYTES_MIN`] bytes at the cursor are granted.
    #[inline(always)]
    unsafe fn common(&mut self, properties: &[Property<'_>], common: &Common<'_>) -> Option<()> {
        if common.has_names() && may_hide(properties, common) {
            return None;
        }
        let (block, len) = (common.block(), common.len());
        if let Ok(block) = <&[u8; BLOCK_BYTES_MIN]>::try_from(block) {
            // SAFETY: the caller's promise.
            unsafe { ptr::copy_nonoverlapping(block.as_ptr(), self.at, BLOCK_BYTES_MIN) };
        } else if self.reaches(block.len()) {
            // SAFETY: the block ends before the limit.
            unsafe { copy_long(block, self.at) };
        } else {
            return None;
        }
        if len > block.len() {
            return None;
        }
        // SAFETY: `len` is at most the block's, which was granted.
        unsafe { self.advance(len) };
        Some(())
    }

    /// Text as it is, in pieces that overlap and are never read past its end; whether a byte of it needed an escape is asked
    /// at the end. `None` if it is not short, does not end before the limit, and was not granted.
    ///
    /// # Safety
    ///
    /// [`SHORT_TEXT_BYTES_MAX`] bytes at the cursor are granted, or `text.len()` if that is less or the text `IS_GRANTED`.
    #[inline(always)]
    unsafe fn text<const IS_GRANTED: bool>(&mut self, text: &[u8]) -> Option<()> {
        let (from, to, len) = (text.as_ptr(), self.at, text.len());
        // SAFETY: each offset below plus the width of its access is at most `len`, which bounds both the text read and the
        // memory written: that is granted by this function's contract up to 32 bytes, and beyond by the same or because it
        // ends before the limit. All accesses are unaligned ones.
        unsafe {
            if len >= 16 {
                let last = len - 16;
                if last <= SHORT_TEXT_BYTES_MAX - 16 {
                    self.seen.copy_both_16(from, to, last);
                } else if !IS_GRANTED && !self.reaches(len) {
                    return None;
                } else {
                    let mut offset = 0;
                    while offset < last {
                        self.seen.copy_16(from.add(offset), to.add(offset));
                        offset += 16;
                    }
                    self.seen.copy_16(from.add(last), to.add(last));
                }
            } else if len >= 8 {
                self.seen.copy_8_to_16(from, to, len);
            } else if len >= 4 {
                self.seen.copy_4_to_8(from, to, len);
            } else if len >= 2 {
                let first = from.cast::<u16>().read_unaligned();
                let last = from.add(len - 2).cast::<u16>().read_unaligned();
                to.cast::<u16>().write_unaligned(first);
                to.add(len - 2).cast::<u16>().write_unaligned(last);
                self.seen.add_4(u32::from(first) | u32::from(last) << 16);
            } else if len == 1 {
                *to = *from;
                self.seen.add_4(u32::from(*from) * 0x0101_0101);
            }
            self.advance(len);
        }
        Some(())
    }
}

/// Copies what is longer than most.
///
/// # Safety
///
/// `bytes.len()` bytes can be written at `to`.
#[cold]
#[inline(never)]
unsafe fn copy_long(bytes: &[u8], to: *mut u8) {
    // SAFETY: the caller's promise; a slice and memory granted to be written do not overlap.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
}

/// Whether a property may have the name of a super property, which then must not be written.
#[cold]
#[inline(never)]
fn may_hide(properties: &[Property<'_>], common: &Common<'_>) -> bool {
    let mask = properties.iter().fold(0, |mask, property| {
        mask | match property.key {
            Key::Literal(literal) => literal.mask,
            Key::Text(key) => key_mask(key.as_bytes()),
        }
    });
    mask & common.mask() != 0
}

/// Writes a value of another kind; returns how many bytes that took, 0 for nothing. Not part of the function above, whose
/// registers it would take.
///
/// # Safety
///
/// [`NUMBER_BYTES_MAX`] bytes can be written at `to`, and `room` bytes.
#[cold]
#[inline(never)]
unsafe fn put_other(value: &Value<'_>, to: *mut u8, room: usize) -> usize {
    let mut itoa = itoa::Buffer::new();
    let mut digits = float::Buffer::new();
    let word = match value {
        Value::Null => "null",
        Value::Bool(true) => "true",
        Value::Bool(false) => "false",
        Value::Int(value) => itoa.format(*value),
        Value::Uint(value) => itoa.format(*value),
        Value::Float(value) if value.is_finite() => digits.format_finite(*value),
        Value::Float32(value) if value.is_finite() => digits.format_finite(*value),
        Value::Array(_) | Value::Object(_) | Value::Raw(_) => {
            // SAFETY: the caller's promise; what a ring grants is initialised.
            let room = unsafe { slice::from_raw_parts_mut(to, room) };
            return put_nested(value, room).unwrap_or(0);
        }
        _ => return 0,
    };
    if word.len() > NUMBER_BYTES_MAX {
        return 0;
    }
    // SAFETY: the caller's promise; the length was just compared.
    unsafe { ptr::copy_nonoverlapping(word.as_ptr(), to, word.len()) };
    word.len()
}

/// Writes a value of many, if it fits, is nowhere too deep, and runs no code of its own.
fn put_nested(value: &Value<'_>, room: &mut [u8]) -> Option<usize> {
    let mut writer = Writer::without_typed(room);
    write_value(&mut writer, value, DEPTH_MAX).ok()?;
    writer.finish()
}

/// Whether a key with a `$` has to be looked at.
#[cold]
#[inline(never)]
fn is_odd(key: &[u8]) -> bool {
    is_special(key)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]
    use std::boxed::Box;
    use std::string::String;
    use std::vec::Vec;
    use std::{format, vec};

    use proptest::prelude::*;

    use super::*;
    use crate::capture::Lane;
    use crate::event::LiteralName;
    use crate::property::LiteralKey;
    use crate::raw::RawJson;
    use crate::ring::Ring;
    use crate::stamp::Stamper;
    use crate::wire::event as encoder;
    use crate::wire::timestamp::Timestamp;
    use crate::wire::writer::{Out, Writer, put_head};
    use crate::{event, props};

    const NOW: Timestamp = Timestamp::from_unix_ms(1_795_424_400_250);

    /// What this module makes of an event in so much room, after a check that it stayed inside.
    fn plain(event: &Event<'_>, common: &Common<'_>, room: usize) -> Option<Vec<u8>> {
        let mut stamper = Stamper::new([1, 2]);
        let mut memory = vec![0xee; room + 256];
        let stamp = stamper.stamp(NOW);
        let start = memory.as_ptr().addr();
        let usual = event.usual()?;
        let len = write_body(usual, &common.short(), || *common, &mut memory[..room]).map(|end| end.addr() - start);
        assert!(memory[room..].iter().all(|byte| *byte == 0xee), "written beyond the room");
        let long = write_body(usual, &ShortCommon::NONE, || *common, &mut memory[..room]).map(|end| end.addr() - start);
        assert_eq!(len, long, "a short block is a block");
        put_head(stamper.head(), &stamp, memory.first_chunk_mut().unwrap());
        memory.truncate(len?);
        Some(memory)
    }

    /// What the encoder for everything makes of it.
    fn general(event: &Event<'_>, common: &Common<'_>) -> Option<Vec<u8>> {
        let may_hide = encoder::survey(event, common).ok()?;
        let mut stamper = Stamper::new([1, 2]);
        let stamp = stamper.stamp(NOW);
        let mut memory = vec![0; 1 << 20];
        let mut writer = Writer::new(&mut memory);
        encoder::write(event, may_hide, &stamper, &stamp, common, &mut writer).ok()?;
        writer.bytes(FRAME_TAIL);
        let len = writer.finish()?;
        memory.truncate(len);
        Some(memory)
    }

    #[test]
    fn usual_events_are_taken() {
        let common = Common::default();
        let long = "x".repeat(20_000);
        let all_lengths: Vec<String> = (0..70).map(|len| "é".repeat(len / 2) + &"a".repeat(len % 2)).collect();
        for text in &all_lengths {
            let properties = props! { "text": text.as_str(), "after": 1 };
            let event = event!("name", "customer-7").properties(properties);
            assert_eq!(plain(&event, &common, 4096), general(&event, &common));
            assert!(plain(&event, &common, 4096).is_some(), "{text}");
        }
        let properties = props! {
            "text": long.as_str(), "yes": true, "no": false, "null": null, "f": 0.1, "f32": 0.1f32, "int": -5,
            "max": u64::MAX, "min": i64::MIN, "a_key_that_is_longer_than_the_slot_of_a_literal_key": 1,
        };
        let event = Event::new("a name at run time", "customer-7").properties(properties);
        assert_eq!(plain(&event, &common, 1 << 16).unwrap(), general(&event, &common).unwrap());
    }

    #[test]
    fn literal_keys_and_names_of_every_length_are_written() {
        let common = Common::default();
        let text = |len| -> &'static str { "x".repeat(len).leak() };
        for len in 1..=KEY_SLOT_BYTES.max(NAME_SLOT_BYTES) {
            let key: &'static LiteralKey = Box::leak(Box::new(LiteralKey::new(text(len))));
            let name: &'static LiteralName = Box::leak(Box::new(LiteralName::new(text(len))));
            let values = [Value::Str("text"), Value::Str(""), Value::Int(1), Value::Null, Value::Object(&[])];
            let properties = values.map(|value| Property::literal(key, value));
            let event = Event::literal(name, "customer-7").properties(&properties);
            assert_eq!(plain(&event, &common, 8192).unwrap(), general(&event, &common).unwrap(), "{len}");
        }
    }

    #[test]
    fn every_number_of_digits_is_written() {
        let common = Common::default();
        let numbers = (0..=20).flat_map(|power| {
            let ten = 10u64.checked_pow(power).unwrap_or(u64::MAX);
            [ten - 1, ten, ten.saturating_add(1), ten.saturating_mul(7).saturating_add(3)]
        });
        for number in numbers.chain([u64::MAX]) {
            let properties = [
                Property::new("u", number),
                Property::new("i", number as i64),
                Property::new("n", (number as i64).wrapping_neg()),
            ];
            let event = Event::new("n", "i").properties(&properties);
            let written = String::from_utf8(plain(&event, &common, 4096).unwrap()).unwrap();
            let (i, n) = (number as i64, (number as i64).wrapping_neg());
            assert!(written.ends_with(&format!(",\"u\":{number},\"i\":{i},\"n\":{n}}}}},\n")), "{written}");
        }
    }

    #[test]
    fn what_is_unusual_is_left_alone() {
        let common = Common::default();
        let mut memory = [0; 512];
        let region = "a rather long one, ".repeat(4);
        let super_properties = [Property::new("plan", "pro"), Property::new("region", region.as_str())];
        let named = Common::render(&mut memory, &super_properties).unwrap();
        let mut deep: &[Value<'_>] = &[];
        for _ in 0..DEPTH_MAX {
            deep = vec![Value::Array(deep)].leak();
        }
        for (event, common) in [
            (Event::new("", "i"), common),
            (Event::new("n", ""), common),
            (Event::new("n", " "), common),
            (Event::new("n", "é"), common),
            (event!("n", "i", { "$is_server": false }), common),
            (event!("n", "i", { "$cookieless_mode": "on" }), common),
            (event!("n", "i", { "plan": 1 }), named),
            (Event::new("n", "i").properties(&[Property::new("", 1)]), common),
            (Event::new("n", "i").properties(&[Property::new("$lib", 1)]), common),
            (Event::new("n", "i").properties(&[Property::new("plan", 1)]), named),
            (Event::new("n", "i").properties(&[Property::new("$geoip_disable", true)]), common),
            (Event::new("n", "i").properties(&[Property::new("$is_server", true)]), common),
            (Event::new("n", "i").properties(&[Property::new("k", deep)]), common),
            (Event::new("n", "i").properties(&[Property::new("k", f64::NAN)]), common),
        ] {
            assert_eq!(plain(&event, &common, 1 << 16), None, "{event:?}");
        }
        // Nothing hidden, and a block longer than most.
        let properties = props! { "flat": 1 };
        let event = event!("n", "i").properties(properties);
        assert_eq!(plain(&event, &named, 1 << 16).unwrap(), general(&event, &named).unwrap());
    }

    #[test]
    fn escapes_dollars_and_values_of_many_are_taken() {
        let common = Common::default();
        let (list, object) = ([Value::Int(1), Value::Str("\"")], [Property::new("a\n", "b"), Property::new("c", 0.5)]);
        let raw = RawJson::parse("{\"a\": [1, 2]}").unwrap();
        for event in [
            Event::new("n\n", "i"),
            Event::new("n", "i\""),
            event!("n", "i\\", { "k": 1 }),
            event!("n", "i", { "k": "\\" }),
            event!("n", "i", { "k": "twenty bytes and a \u{1f} control", "l": "\"", "m": 3 }),
            event!("n", "i", { "$ip": 1, "$current_url": "https://example.com/\"" }),
            Event::new("n", "i").properties(&[Property::new("$ip", 1), Property::new("$feature/\"", true)]),
            Event::new("n", "i").properties(&[Property::new("k", &list), Property::new("\t", &object)]),
            Event::new("n", "i").properties(&[Property::new("k", raw), Property::new("l", &[] as &[Value<'_>])]),
        ] {
            assert_eq!(plain(&event, &common, 4096).unwrap(), general(&event, &common).unwrap(), "{event:?}");
        }
    }

    /// Rare is also what is so in name only, whose encoding another module decides about.
    #[test]
    fn what_is_rare_is_not_usual_and_the_rest_is_taken_by_the_lane() {
        let memory = vec![0; Ring::bytes_for(16_384)].leak();
        let (producer, consumer) = Ring::format(memory).unwrap().split();
        let mut lane = Lane::new(producer, Stamper::new([1, 2]), 8, 4096);
        let event = Event::new("n", "i");
        // The first ones of a lane go the long way, which is where the number of events and the room are looked up.
        for _ in 0..2 {
            lane.capture(&event, &Common::default(), NOW).unwrap();
        }
        for rare in [event.set(&[]), event.groups(&[]), Event::personless("n"), Event::identify("i")] {
            assert!(rare.usual().is_none());
        }
        let usual = event.usual().unwrap();
        assert!(lane.capture_plain(usual, &ShortCommon::NONE, Common::default, NOW).is_some());
        assert_eq!(consumer.pending(), 3);
    }

    /// Room that the short way could use is not left out at the end of a lap for frames that never take that way.
    #[test]
    fn a_lane_of_small_events_holds_as_many_wherever_it_begins() {
        let event = Event::new("n", "i");
        for before in 0..50 {
            let [short, long] = [true, false].map(|is_short| {
                let mut memory = vec![0; Ring::bytes_for(8192)];
                let (producer, mut consumer) = Ring::format(&mut memory).unwrap().split();
                let mut lane = Lane::new(producer, Stamper::new([1, 2]), 1000, ROOM_BYTES_MIN / 2);
                let mut capture = || match is_short {
                    true => lane.capture(&event, &Common::default(), NOW).is_ok(),
                    false => lane.capture_any(&event, &Common::default(), NOW).is_ok(),
                };
                for _ in 0..before {
                    assert!(capture());
                    consumer.read().release();
                }
                (0..1000).take_while(|_| capture()).count()
            });
            assert_eq!(short, long, "{before} before");
        }
    }

    fn value() -> impl Strategy<Value = Datum> {
        prop_oneof![
            "[a-z \\\\\"é\u{0}-\u{1f}]{0,40}".prop_map(Datum::Text),
            "[ -~]{0,80}".prop_map(Datum::Text),
            "[a-z]{0,20}".prop_map(Datum::Text),
            any::<i64>().prop_map(Datum::Int),
            (-100_000..100_000i64).prop_map(Datum::Int),
            any::<u64>().prop_map(Datum::Uint),
            any::<f64>().prop_map(Datum::Float),
            any::<f32>().prop_map(Datum::Float32),
            any::<Option<bool>>().prop_map(Datum::Bool),
            prop::collection::vec("[a-z\"]{0,20}", 0..30).prop_map(Datum::List),
        ]
    }

    #[derive(Clone, Debug)]
    enum Datum {
        Text(String),
        Int(i64),
        Uint(u64),
        Float(f64),
        Float32(f32),
        Bool(Option<bool>),
        List(Vec<String>),
    }

    impl Datum {
        fn as_value(&self) -> Value<'_> {
            match self {
                Self::Text(text) => Value::Str(text),
                Self::Int(value) => Value::Int(*value),
                Self::Uint(value) => Value::Uint(*value),
                Self::Float(value) => Value::Float(*value),
                Self::Float32(value) => Value::Float32(*value),
                Self::Bool(value) => Value::from(*value),
                Self::List(texts) => Value::Array(texts.iter().map(|text| Value::Str(text)).collect::<Vec<_>>().leak()),
            }
        }
    }

    proptest! {
        /// In any room, also too little, the short way writes nothing or what the long way writes.
        #[test]
        fn both_ways_write_the_same(
            name in "[ -~é]{0,210}",
            id in "[ -~é]{0,210}",
            data in prop::collection::vec(("[$a-z\"é]{0,40}", value()), 0..20),
            room in prop_oneof![0..4000usize, Just(1 << 16)],
            with_names: bool,
        ) {
            let common_data = [Property::new("region", "eu"), Property::new("aé", 1)];
            let mut memory = [0; 256];
            let common = if with_names { Common::render(&mut memory, &common_data).unwrap() } else { Common::default() };
            let properties: Vec<_> = data.iter().map(|(key, value)| Property::new(key, value.as_value())).collect();
            let event = Event::new(&name, &id).properties(&properties);
            if let Some(written) = plain(&event, &common, room) {
                prop_assert!(written.len() <= room);
                prop_assert_eq!(Some(written), general(&event, &common));
            }
        }
    }
}
