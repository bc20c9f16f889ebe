//! The usual event, written in one go: what nine captures of ten take, and what their cost is measured on.
//!
//! In: an [`Event`] that says nothing [rare](crate::event::Rare), and a stamp. Out: exactly the bytes that
//! [`event`](super::event) would write, or nothing: an event that is unusual in any way, wrong in any way, or for which the
//! room is not plainly enough, is left to that module, which looks at it from the beginning and says what is wrong. So
//! nothing here decides anything.
//!
//! What makes it short: no survey ahead, but one comparison per value with the room that is left, everything of fixed size
//! being covered by a [margin](MARGIN); no branch per text, but one question at the end whether any byte of any text
//! needed an escape; a cursor that no function call ever sees the address of, so that it stays in registers.

#![allow(unsafe_code, reason = "stores without bounds checks per byte; each block states the room that was asked for")]

use core::ptr;

use super::digits::{by_hundred, pair};
use super::event::FRAME_TAIL;
use super::float;
use super::simd::Seen;
use super::writer::{SlotLen, put_stamp};
use crate::common::{BLOCK_BYTES_MIN, Common};
use crate::event::{EVENT_KEY, Event, ID_KEY, NAME_SLOT_BYTES, Name};
use crate::limits::{DISTINCT_ID_CHARS_MAX, EVENT_NAME_BYTES_MAX, KEY_BYTES_MAX};
use crate::property::{KEY_SLOT_BYTES, Key, Property, Value, key_mask};
use crate::stamp::{HEAD_BYTES, HEAD_SLOT_BYTES, Stamp};

/// Whether this target takes the short way. A small processor would rather have the flash.
pub(crate) const IS_WORTH_IT: bool = cfg!(target_pointer_width = "64");

/// Bytes behind the limit that are granted too: for a key's slot, quotes, a number, the tail.
const MARGIN: usize = 128;

/// Longest number that is written: a sign and the digits of a `u64`, or what a float may take.
const NUMBER_BYTES_MAX: usize = 32;

/// Whole numbers from here on are not the usual ones, and have more digits than are written from a table.
const NUMBER_END: u64 = 100_000_000;

/// From the start to the first property, at most, as long as the super properties' block is of the shortest.
const PRELUDE_BYTES_MAX: usize =
    HEAD_SLOT_BYTES + EVENT_KEY.len() + EVENT_NAME_BYTES_MAX + ID_KEY.len() + DISTINCT_ID_CHARS_MAX + BLOCK_BYTES_MIN;

/// The least room that is worth a try.
pub(crate) const ROOM_BYTES_MIN: usize = PRELUDE_BYTES_MAX + MARGIN;

/// Room to ask for where less than that is left in one piece: enough for nearly all usual events.
pub(crate) const ROOM_BYTES_MAX: usize = 4 * 1024;

const _: () = assert!(
    HEAD_BYTES + NAME_SLOT_BYTES + DISTINCT_ID_CHARS_MAX + BLOCK_BYTES_MIN <= PRELUDE_BYTES_MAX,
    "a name from its slot takes less than the longest from its text"
);
const _: () = assert!(
    1 + NUMBER_BYTES_MAX + KEY_SLOT_BYTES + 1 + NUMBER_BYTES_MAX + FRAME_TAIL.len() <= MARGIN,
    "what is written between two comparisons fits behind the limit"
);

/// Writes the event as a frame at the start of `room` and returns its length. `None` if that is for somebody else to do;
/// what `room` holds then is of no use.
#[inline(always)]
pub(crate) fn write<'c>(
    event: &Event<'_>,
    head: &[u8; HEAD_SLOT_BYTES],
    stamp: &Stamp,
    common: impl FnOnce() -> Common<'c>,
    room: &mut [u8],
) -> Option<usize> {
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
    // SAFETY: the room is longer than the margin, so the limit lies within it.
    let limit = unsafe { start.add(room.len() - MARGIN) };
    let mut pen = Pen { at: start, limit, seen: Seen::nothing() };
    // SAFETY: head, name, id and the beginning of the block take `PRELUDE_BYTES_MAX` bytes at most, name and id being
    // checked to be within their limits; so what is stored, slots included, lies before the limit or in the margin.
    unsafe {
        put_stamp(head, stamp, pen.at);
        pen.advance(HEAD_BYTES);
        match event.name {
            Name::Literal(literal) => pen.slot(&literal.slot, literal.len),
            Name::Text(name) => {
                if name.len().wrapping_sub(1) >= EVENT_NAME_BYTES_MAX {
                    return None;
                }
                pen.fixed(EVENT_KEY);
                pen.text(name.as_bytes());
                pen.fixed(ID_KEY);
            }
        }
        pen.text(id);
        let common = common();
        if common.has_names() && may_hide(event, &common) {
            return None;
        }
        pen.block(common.block(), common.len())?;
    }
    for property in event.properties {
        pen.property(property)?;
    }
    if pen.seen.needs_escape() {
        return None;
    }
    // SAFETY: behind a value the margin has room for the tail.
    unsafe { pen.fixed(FRAME_TAIL) };
    Some(pen.at as usize - start as usize)
}

/// A cursor that writes first and asks once.
///
/// Invariant: what lies from its start to [`MARGIN`] bytes behind `limit` is granted. `at` is at most `limit` where
/// [`reaches`](Pen::reaches) has just said so, and not further behind it than the stores since then.
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
    /// one; other values are written over it. Begins at most `1 + NUMBER_BYTES_MAX` bytes behind the
    /// limit, and ends so.
    #[inline(always)]
    fn property(&mut self, property: &Property<'_>) -> Option<()> {
        match property.key {
            Key::Literal(literal) => {
                // SAFETY: the slot fits into the margin behind whatever the last value took of it.
                unsafe { self.slot(&literal.slot, literal.len) };
            }
            Key::Text(key) => {
                let key = key.as_bytes();
                // A name of PostHog's may be one that the client writes itself.
                let is_ours = key.first().is_none_or(|first| *first == b'$');
                if is_ours || key.len() > KEY_BYTES_MAX || !self.reaches(key.len()) {
                    return None;
                }
                // SAFETY: the key ends before the limit, what surrounds it is in the margin.
                unsafe {
                    self.fixed(b",\"");
                    self.text(key);
                    self.fixed(b"\":\"");
                    self.at = self.at.sub(1);
                }
            }
        }
        if let Value::Str(text) = property.value {
            if !self.reaches(text.len()) {
                return None;
            }
            // SAFETY: the text ends before the limit, the quotes are in the margin. The first one is there already.
            unsafe {
                self.advance(1);
                self.text(text.as_bytes());
                self.fixed(b"\"");
            }
            return Some(());
        }
        // Asked here for all kinds that are left, which also keeps the compiler from making one jump table of them all.
        if self.at > self.limit {
            return None;
        }
        match property.value {
            Value::Int(value) if (value as u64) < NUMBER_END => self.number(value as u32),
            Value::Uint(value) if value < NUMBER_END => self.number(value as u32),
            // SAFETY: the cursor is not behind the limit, so the longest word fits into the margin.
            ref other => unsafe {
                let len = put_word(other, self.at);
                if len == 0 {
                    return None;
                }
                self.advance(len);
            },
        }
        Some(())
    }

    /// A whole number below [`NUMBER_END`]. The cursor is not behind the limit.
    #[inline(always)]
    fn number(&mut self, value: u32) {
        // Two digits at a time from a table, straight to their places: half of what arithmetic on all of them takes.
        let (upper, lower) = (value / 10_000, value % 10_000);
        let (thousands, ones) = by_hundred(lower);
        // SAFETY: the cursor is not behind the limit, so the eight bytes fit into the margin.
        unsafe {
            if upper != 0 {
                let (millions, ten_thousands) = by_hundred(upper);
                if millions != 0 {
                    self.first(millions);
                    self.fixed(pair(ten_thousands));
                } else {
                    self.first(ten_thousands);
                }
                self.fixed(pair(thousands));
                self.fixed(pair(ones));
            } else if thousands != 0 {
                self.first(thousands);
                self.fixed(pair(ones));
            } else {
                self.first(ones);
            }
        }
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
                self.fixed(&[b'0' + value as u8]);
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

    /// The first `len` bytes of a block of whole steps, the shortest of which the prelude has room for.
    ///
    /// # Safety
    ///
    /// [`BLOCK_BYTES_MIN`] bytes at the cursor are granted.
    #[inline(always)]
    unsafe fn block(&mut self, block: &[u8], len: usize) -> Option<()> {
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
    /// at the end.
    ///
    /// # Safety
    ///
    /// `text.len()` bytes at the cursor are granted.
    #[inline(always)]
    unsafe fn text(&mut self, text: &[u8]) {
        let (from, to, len) = (text.as_ptr(), self.at, text.len());
        // SAFETY: each offset below plus the width of its access is at most `len`, which bounds both the text read and, by
        // this function's contract, the memory written. All accesses are unaligned ones.
        unsafe {
            if len >= 16 {
                let last = len - 16;
                if last <= 16 {
                    self.seen.copy_both_16(from, to, last);
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
                let first = from.cast::<u32>().read_unaligned();
                let last = from.add(len - 4).cast::<u32>().read_unaligned();
                to.cast::<u32>().write_unaligned(first);
                to.add(len - 4).cast::<u32>().write_unaligned(last);
                self.seen.add_8(u64::from(first) | u64::from(last) << 32);
            } else if len > 0 {
                let (first, middle, last) = (*from, *from.add(len / 2), *from.add(len - 1));
                *to = first;
                *to.add(len / 2) = middle;
                *to.add(len - 1) = last;
                let word = u64::from(u32::from_le_bytes([first, middle, last, last]));
                self.seen.add_8(word | word << 32);
            }
            self.advance(len);
        }
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
fn may_hide(event: &Event<'_>, common: &Common<'_>) -> bool {
    let mask = event.properties.iter().fold(0, |mask, property| {
        mask | match property.key {
            Key::Literal(literal) => literal.mask,
            Key::Text(key) => key_mask(key.as_bytes()),
        }
    });
    mask & common.mask() != 0
}

/// Writes a value of another kind, if it is a single word of JSON; returns how many bytes that took, 0 for none. Not part of
/// the function above, whose registers it would take.
///
/// # Safety
///
/// [`NUMBER_BYTES_MAX`] bytes can be written at `to`.
#[cold]
#[inline(never)]
unsafe fn put_word(value: &Value<'_>, to: *mut u8) -> usize {
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
        _ => return 0,
    };
    if word.len() > NUMBER_BYTES_MAX {
        return 0;
    }
    // SAFETY: the caller's promise; the length was just compared.
    unsafe { ptr::copy_nonoverlapping(word.as_ptr(), to, word.len()) };
    word.len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]
    use std::string::String;
    use std::vec::Vec;
    use std::{format, vec};

    use proptest::prelude::*;

    use super::*;
    use crate::capture::Lane;
    use crate::ring::Ring;
    use crate::stamp::Stamper;
    use crate::wire::event as encoder;
    use crate::wire::timestamp::Timestamp;
    use crate::wire::writer::{Out, Writer};
    use crate::{event, props};

    const NOW: Timestamp = Timestamp::from_unix_ms(1_795_424_400_250);

    /// What this module makes of an event in so much room, after a check that it stayed inside.
    fn plain(event: &Event<'_>, common: &Common<'_>, room: usize) -> Option<Vec<u8>> {
        let mut stamper = Stamper::new([1, 2]);
        let mut memory = vec![0xee; room + 256];
        let stamp = stamper.stamp(NOW);
        let len = write(event, stamper.head(), &stamp, || *common, &mut memory[..room]);
        assert!(memory[room..].iter().all(|byte| *byte == 0xee), "written beyond the room");
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
        let nested = [Value::Int(1)];
        for (event, common) in [
            (Event::new("", "i"), common),
            (Event::new("n", ""), common),
            (Event::new("n", " "), common),
            (Event::new("n", "é"), common),
            (Event::new("n\n", "i"), common),
            (Event::new("n", "i\""), common),
            (event!("n", "i", { "k": "\\" }), common),
            (event!("n", "i", { "k": "twenty bytes and a \u{1f} control" }), common),
            (event!("n", "i", { "$ip": 1 }), common),
            (event!("n", "i", { "plan": 1 }), named),
            (Event::new("n", "i").properties(&[Property::new("", 1)]), common),
            (Event::new("n", "i").properties(&[Property::new("$lib", 1)]), common),
            (Event::new("n", "i").properties(&[Property::new("plan", 1)]), named),
            (Event::new("n", "i").properties(&[Property::new("k", &nested)]), common),
            (Event::new("n", "i").properties(&[Property::new("k", f64::NAN)]), common),
        ] {
            assert_eq!(plain(&event, &common, 1 << 16), None, "{event:?}");
        }
        // Nothing hidden, and a block longer than most.
        let properties = props! { "flat": 1 };
        let event = event!("n", "i").properties(properties);
        assert_eq!(plain(&event, &named, 1 << 16).unwrap(), general(&event, &named).unwrap());
    }

    /// Also one that is rare in name only, whose encoding another module decides about.
    #[test]
    fn what_is_rare_is_left_alone_by_the_lane() {
        let memory = vec![0; Ring::bytes_for(4096)].leak();
        let (producer, consumer) = Ring::format(memory).unwrap().split();
        let mut lane = Lane::new(producer, Stamper::new([1, 2]), 8, 1024);
        let event = Event::new("n", "i");
        // The first ones of a lane go the long way, which is where the number of events and the room are looked up.
        for _ in 0..2 {
            lane.capture(&event, &Common::default(), NOW).unwrap();
        }
        for rare in [event.set(&[]), event.groups(&[]), Event::personless("n"), Event::identify("i")] {
            assert_eq!(lane.capture_plain(&rare, Common::default, NOW), None);
        }
        assert_eq!(consumer.pending(), 2);
        assert!(lane.capture_plain(&event, Common::default, NOW).is_some());
        assert_eq!(consumer.pending(), 3);
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
            }
        }
    }

    proptest! {
        /// In any room, also too little, the short way writes nothing or what the long way writes.
        #[test]
        fn both_ways_write_the_same(
            name in "[ -~é]{0,210}",
            id in "[ -~é]{0,210}",
            data in prop::collection::vec(("[$a-z\"é]{0,20}", value()), 0..8),
            room in prop_oneof![0..1500usize, Just(1 << 16)],
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
