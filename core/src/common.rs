//! What every event of a client says: the library's name and version, and the super properties, rendered once.
//!
//! In: properties, when a client is built or changes them. Out: a [`Common`], a padded block of bytes which the encoder
//! copies into each event without looking at it, unless the event has a key of the same name.

use core::fmt;

use crate::event::Event;
use crate::limits::{DEPTH_MAX, SUPER_PROPERTIES_MAX};
use crate::property::{DOLLAR_MASK, Property, Value, is_always_reserved, is_special, key_mask};
use crate::raw::RawJson;
use crate::stats::CaptureError;
use crate::wire::event::{hides, write_value};
use crate::wire::plain::IS_WORTH_IT;
use crate::wire::writer::{Out, SlotLen, Writer};
use crate::wire::{LIB_NAME, LIB_VERSION, escape, key};

/// Blocks are copied in steps of this many bytes and padded to whole ones.
pub(crate) const BLOCK_STEP: usize = 16;

/// Shortest block, padding included: where captures are counted in nanoseconds, as much as one writes without looking.
/// What a server's client says by default fits.
pub(crate) const BLOCK_BYTES_MIN: usize = if cfg!(target_pointer_width = "64") { 96 } else { BLOCK_STEP };

/// Bytes of the block for text of this length.
const fn block_bytes(len: usize) -> usize {
    let padded = len.next_multiple_of(BLOCK_STEP);
    if padded < BLOCK_BYTES_MIN { BLOCK_BYTES_MIN } else { padded }
}

/// What closes the distinct id and opens the properties.
const OPEN: &str = "\",\"properties\":{";

/// Properties that every event of a client carries, rendered.
///
/// A property of the event's own wins over one of these with the same key.
#[derive(Clone, Copy)]
pub struct Common<'a> {
    block: &'a [u8],
    len: usize,
    mask: u64,
    /// How the block is written for an event that may have a key of the same name. Only where there are super properties:
    /// a program which has none does not link that.
    without: Option<WriteWithout>,
    /// Whether some property is none of the [special](is_special) ones: then any key of an event's may be the same. Only the
    /// short way asks.
    has_names: bool,
}

type WriteWithout = fn(&Common<'_>, &Event<'_>, &mut Writer<'_>);

impl<'a> Common<'a> {
    /// Bytes that [`render`](Common::render) needs for `properties`, at most.
    pub fn bytes_for(properties: &[Property<'_>]) -> usize {
        let own = OPEN.len() + key::LIB.len() + LIB_NAME.len() + key::LIB_VERSION.len() + LIB_VERSION.len() + 12;
        block_bytes(properties.iter().fold(own, |sum, property| {
            let value = crate::wire::event::measure_value(&property.value).unwrap_or(0);
            sum.saturating_add(property.key().len()).saturating_add(value).saturating_add(4)
        }))
    }

    /// Renders `$lib`, `$lib_version` and `properties` into `memory`.
    ///
    /// # Errors
    ///
    /// [`CommonError`]; what `memory` holds then is of no use.
    pub fn render(memory: &'a mut [u8], properties: &[Property<'_>]) -> Result<Self, CommonError> {
        if properties.len() > SUPER_PROPERTIES_MAX {
            return Err(CommonError::TooMany);
        }
        let (mut mask, mut has_names) = (0, false);
        let mut out = Writer::new(memory);
        out.bytes(OPEN.as_bytes());
        out.string(key::LIB);
        out.bytes(b":");
        out.string(LIB_NAME);
        out.bytes(b",");
        out.string(key::LIB_VERSION);
        out.bytes(b":");
        out.string(LIB_VERSION);
        for (at, property) in properties.iter().enumerate() {
            let name = property.key();
            let twice = properties.iter().take(at).any(|earlier| earlier.key() == name);
            // `$exception…` belongs to single events: a client-wide one would speak for every error.
            if name.starts_with(key::EXCEPTION) {
                return Err(CommonError::BadKey);
            }
            if name.is_empty()
                || twice
                || is_always_reserved(name.as_bytes())
                || escape::next_run(name.as_bytes()).1.is_some()
            {
                return Err(CommonError::BadKey);
            }
            if name == key::COOKIELESS_MODE && !matches!(property.value, Value::Bool(_)) {
                return Err(CommonError::BadValue);
            }
            mask |= key_mask(name.as_bytes());
            has_names |= IS_WORTH_IT && !is_special(name.as_bytes());
            out.bytes(b",");
            out.string(name);
            out.bytes(b":");
            write_value(&mut out, &property.value, DEPTH_MAX).map_err(|_| CommonError::BadValue)?;
        }
        let len = out.finish().ok_or(CommonError::NoRoom)?;
        let block = memory.get_mut(..block_bytes(len)).ok_or(CommonError::NoRoom)?;
        block.iter_mut().skip(len).for_each(|pad| *pad = b' ');
        let without: Option<WriteWithout> = if properties.is_empty() { None } else { Some(write_without) };
        Ok(Self { block, len, mask, without, has_names })
    }

    /// The same snapshot over another copy of its bytes, for owners that keep them beside it.
    ///
    /// `block` must be a copy of [`as_block`](Common::as_block); anything else makes events that are not JSON.
    #[must_use]
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub fn over<'b>(&self, block: &'b [u8]) -> Common<'b> {
        Common { block, ..*self }
    }

    /// The properties as JSON, without the braces around them.
    pub fn members(&self) -> &'a str {
        let members = self.block.get(OPEN.len()..self.len).unwrap_or_default();
        core::str::from_utf8(members).unwrap_or_default()
    }

    /// Takes over the [`members`](Common::members) that another process rendered and that nobody vouches for: `None` unless
    /// they are JSON, begin with `$lib`, and have only keys that a client may have rendered.
    ///
    /// `memory` must have room for them and 96 bytes.
    pub fn adopt(memory: &'a mut [u8], members: &str) -> Option<Self> {
        let (mut mask, mut has_names) = (0, false);
        let mut out = Writer::new(memory);
        out.bytes(b"{");
        out.bytes(members.as_bytes());
        out.bytes(b"}");
        let object = out.finish()?;
        RawJson::parse(core::str::from_utf8(memory.get(..object)?).ok()?).ok()?;
        // White space that no client renders: a newline would end a frame in its middle.
        if members.bytes().any(|byte| byte < b' ') {
            return None;
        }
        let (mut rest, mut count) = (members.as_bytes(), 0);
        while !rest.is_empty() {
            let (name, len) = first_property(rest);
            let is_ours = is_always_reserved(name);
            // Those that a client writes into every event come first, and nowhere else.
            let is_in_place = is_ours == (count < 2) && (count > 0 || name == key::LIB.as_bytes());
            let is_allowed = !name.is_empty() && !name.starts_with(key::EXCEPTION.as_bytes());
            if !is_in_place || !is_allowed || escape::next_run(name).1.is_some() || count >= SUPER_PROPERTIES_MAX + 2 {
                return None;
            }
            mask |= if is_ours { 0 } else { key_mask(name) };
            has_names |= IS_WORTH_IT && !is_special(name);
            count += 1;
            rest = rest.get(len..)?;
        }
        let mut out = Writer::new(memory);
        out.bytes(OPEN.as_bytes());
        out.bytes(members.as_bytes());
        let len = out.finish().filter(|_| count >= 2)?;
        let block = memory.get_mut(..block_bytes(len))?;
        block.iter_mut().skip(len).for_each(|pad| *pad = b' ');
        let without: Option<WriteWithout> = if count == 2 { None } else { Some(write_without) };
        Some(Self { block, len, mask, without, has_names })
    }

    /// The rendered bytes, padding included.
    pub fn as_block(&self) -> &'a [u8] {
        self.block
    }

    /// The same, if captures can copy it without asking: a block of the shortest, and no name in it that an event's key is
    /// likely to be.
    #[must_use]
    pub fn short(&self) -> ShortCommon {
        let block = self.block.try_into().ok().filter(|_| !self.has_names);
        block.zip(SlotLen::checked(self.len)).map_or(ShortCommon::NONE, |(block, len)| ShortCommon { block, len })
    }

    /// Union of the keys' masks.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) fn mask(&self) -> u64 {
        self.mask & !DOLLAR_MASK
    }

    /// Whether some property is none of the [special](is_special) ones: then any key of an event's may be the same.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) fn has_names(&self) -> bool {
        self.has_names
    }

    /// Writes all but what an event says itself; `None` if none can say the same, so that the block is written as it is.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) fn without(&self) -> Option<WriteWithout> {
        self.without
    }

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) fn block(&self) -> &'a [u8] {
        self.block
    }

    /// Bytes of the block that are text.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) fn write(&self, out: &mut impl Out) {
        out.block(self.block, self.len);
    }
}

/// A copy of a [`Common`] that is [short](Common::short), for whoever captures often to keep at hand.
#[derive(Clone, Copy)]
pub struct ShortCommon {
    pub(crate) block: [u8; BLOCK_BYTES_MIN],
    /// Bytes of it that are text; none if this is no copy of anything.
    pub(crate) len: SlotLen<BLOCK_BYTES_MIN>,
}

impl ShortCommon {
    /// In place of one that is not short.
    pub const NONE: Self = Self { block: [b' '; BLOCK_BYTES_MIN], len: SlotLen::EMPTY };
}

impl fmt::Debug for ShortCommon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ShortCommon").field(&self.len.get()).finish()
    }
}

impl fmt::Debug for Common<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.block.get(OPEN.len()..self.len).and_then(|text| core::str::from_utf8(text).ok());
        f.debug_tuple("Common").field(&text).finish()
    }
}

/// `$lib` and `$lib_version` alone, for events encoded without a client.
///
/// Rendered once per call into the caller's memory would be waste, so it is rendered at compile time.
impl Default for Common<'static> {
    fn default() -> Self {
        const TEXT: &str =
            concat!("\",\"properties\":{\"$lib\":\"quillet\",\"$lib_version\":\"", env!("CARGO_PKG_VERSION"), "\"");
        const BLOCK: [u8; block_bytes(TEXT.len())] = {
            let mut block = [b' '; block_bytes(TEXT.len())];
            let (head, _) = block.split_at_mut(TEXT.len());
            head.copy_from_slice(TEXT.as_bytes());
            block
        };
        Common { block: &BLOCK, len: TEXT.len(), mask: 0, without: None, has_names: false }
    }
}

/// Why super properties could not be rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum CommonError {
    /// More than [`SUPER_PROPERTIES_MAX`] of them.
    TooMany,
    /// A key that is empty, appears twice, needs escapes, is `$lib` or `$lib_version`, or begins with `$exception`.
    BadKey,
    /// A value that JSON cannot say, or nested too deeply.
    BadValue,
    /// The memory given is too small; [`Common::bytes_for`] says how much is enough.
    NoRoom,
}

impl fmt::Display for CommonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CommonError::TooMany => "too many super properties",
            CommonError::BadKey => "the key of a super property is empty, repeated, reserved, or needs escapes",
            CommonError::BadValue => "the value of a super property is not JSON or nested too deeply",
            CommonError::NoRoom => "no room for the super properties",
        })
    }
}

impl core::error::Error for CommonError {}

impl From<CommonError> for CaptureError {
    fn from(_: CommonError) -> Self {
        CaptureError::InvalidValue
    }
}

/// Writes what the event does not say itself.
#[cold]
#[inline(never)]
fn write_without(common: &Common<'_>, event: &Event<'_>, out: &mut Writer<'_>) {
    let text = common.block.get(..common.len).unwrap_or_default();
    let mut rest = text.get(OPEN.len()..).unwrap_or_default();
    out.bytes(OPEN.as_bytes());
    // `$lib` comes first and nothing hides it, so every later property may begin with its comma.
    while !rest.is_empty() {
        let (name, len) = first_property(rest);
        let (property, behind) = rest.split_at_checked(len).unwrap_or((rest, &[]));
        if !hides(event, name) {
            out.bytes(property);
        }
        rest = behind;
    }
}

/// The key of the first property of `text` and the length of all of it: an optional comma, the key, a colon, the value.
///
/// `text` was rendered above, so it is JSON, and no key holds an escape.
fn first_property(text: &[u8]) -> (&[u8], usize) {
    let mut quotes = text.iter().enumerate().filter(|(_, byte)| **byte == b'"').map(|(at, _)| at);
    let (Some(open), Some(close)) = (quotes.next(), quotes.next()) else { return (&[], text.len()) };
    let name = text.get(open + 1..close).unwrap_or_default();
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    // As in `RawJson::depth`, with the comma in the same match: this is on the way of events with `$` keys, and a walk that
    // both shared cost those 170 instructions more.
    for (at, &byte) in text.iter().enumerate().skip(close + 1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => return (name, at),
            _ => {}
        }
    }
    (name, text.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]
    use super::*;
    use crate::Value;

    #[test]
    fn properties_are_found_again_in_what_was_rendered() {
        let nested = [Property::new("x", "},\"\\"), Property::new("y", 2)];
        let list = [Value::Int(1), Value::Object(&nested)];
        let properties = [
            Property::new("a", Value::Object(&nested)),
            Property::new("b", Value::Array(&list)),
            Property::new("c", 1.5),
        ];
        let mut memory = [0; 512];
        let common = Common::render(&mut memory, &properties).unwrap();
        let mut text = &common.block[OPEN.len()..common.len];
        let mut names = std::vec::Vec::new();
        while !text.is_empty() {
            let (name, len) = first_property(text);
            names.push(std::str::from_utf8(name).unwrap());
            text = &text[len..];
        }
        assert_eq!(names, ["$lib", "$lib_version", "a", "b", "c"]);
    }

    #[test]
    fn what_the_event_says_itself_is_left_out_whatever_it_is_called() {
        for name in ["plan", "$app_version"] {
            let mut memory = [0; 256];
            let (supers, own) =
                ([Property::new(name, "theirs"), Property::new("x", 1)], [Property::new(name, "its own")]);
            for (common, expected) in [
                (&supers[..], std::format!("\"x\":1,\"{name}\":\"its own\"}}}}")),
                (&supers[..1], std::format!(",\"{name}\":\"its own\"}}}}")),
            ] {
                let common = Common::render(&mut memory, common).unwrap();
                let mut adopted = [0; 256];
                let adopted = Common::adopt(&mut adopted, common.members()).unwrap();
                for common in [common, adopted] {
                    let mut out = [0; 512];
                    let event = Event::new("event", "id").properties(&own);
                    let mut stamper = crate::Stamper::new([1, 2]);
                    let written = event.encode(&mut stamper, &common, crate::Timestamp::default(), &mut out).unwrap();
                    let text = std::str::from_utf8(&out[..written.len]).unwrap();
                    assert!(text.ends_with(&expected), "{text}");
                    assert_eq!(text.matches(name).count(), 1, "{text}");
                }
            }
        }
    }

    #[test]
    fn what_one_process_rendered_another_can_take_over() {
        let properties = [Property::new("release", "1.2.3"), Property::new("n", 4)];
        let mut memory = [0; 256];
        let common = Common::render(&mut memory, &properties).unwrap();
        let mut taken = [0; 256];
        let adopted = Common::adopt(&mut taken, common.members()).unwrap();
        assert_eq!((adopted.as_block(), adopted.len, adopted.mask), (common.as_block(), common.len, common.mask));
        let own = "\"$lib\":\"quillet\",\"$lib_version\":\"0\"";
        for bad in [
            "",
            "\"$lib\":\"quillet\"",
            "\"a\":1",
            &std::format!("{own},"),
            &std::format!("{own},\"a\":1}}, {{"),
            &std::format!("{own},\"$lib\":1"),
            &std::format!("{own},\"$exception_list\":[]"),
            &std::format!("{own},\"a\\n\":1"),
            &std::format!("{own},\n\"a\":1"),
            &std::format!("{own},\"a\":[1,\n2]"),
        ] {
            assert!(Common::adopt(&mut [0; 256], bad).is_none(), "{bad}");
        }
        assert!(Common::adopt(&mut [0; 256], own).is_some());
        assert!(Common::adopt(&mut [0; 40], own).is_none());
    }

    #[test]
    fn the_default_is_what_rendering_nothing_gives() {
        let mut memory = [0; 128];
        let rendered = Common::render(&mut memory, &[]).unwrap();
        let default = Common::default();
        assert_eq!((rendered.as_block(), rendered.len), (default.as_block(), default.len));
    }

    #[test]
    fn bytes_for_is_enough_and_one_step_less_is_not() {
        let properties =
            [Property::new("name", "a \"quoted\" one"), Property::new("n", i64::MIN), Property::new("f", 0.1)];
        let enough = Common::bytes_for(&properties);
        let mut memory = std::vec![0; enough];
        assert!(Common::render(&mut memory, &properties).is_ok());
        let mut memory = std::vec![0; enough - 2 * BLOCK_STEP];
        assert_eq!(Common::render(&mut memory, &properties).unwrap_err(), CommonError::NoRoom);
    }

    #[test]
    fn keys_that_would_clash_are_refused() {
        for bad in [
            &[Property::new("$lib", 1)][..],
            &[Property::new("", 1)],
            &[Property::new("a\"b", 1)],
            &[Property::new("$exception_list", 1)],
        ] {
            assert_eq!(Common::render(&mut [0; 256], bad).unwrap_err(), CommonError::BadKey);
        }
        let twice = [Property::new("a", 1), Property::new("a", 2)];
        assert_eq!(Common::render(&mut [0; 256], &twice).unwrap_err(), CommonError::BadKey);
    }
}
