//! The usual event, written in one go: what nine captures of ten take, and what their cost is measured on.
//!
//! In: the parts of an event that says nothing [rare](crate::event::Rare), and a run of the ring. Out: a frame in the ring, of
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
        // SAFETY: what is before the limit is in the room, of which no other reference is used any more. How long that was is
        // something that nobody else wants to know, and would be one more word to put aside.
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
mod tests;
