//! What must not leave the program: properties by their names, and the ends of long texts. Before a byte is written.
//!
//! In: keys that a caller denies, and how long a text may be. Out: a [`Redaction`], which judges single keys and texts, and
//! [`Redacted`], a value that leaves out what is denied while it writes itself, however deep it lies: in objects of ours, in
//! checked JSON text, and in what a foreign `Serialize` says. Nothing is copied but one key at a time.

use crate::event::Event;
use crate::limits::{DENIED_KEY_BYTES_MAX, DEPTH_MAX};
use crate::property::{Property, Value};
use crate::serialize::{JsonSink, SerializeError, WriteJson};
use crate::wire::escape;
use crate::wire::event::{Shape, write_value};
use crate::wire::writer::Writer;

/// What is left out of values.
///
/// ```
/// use quillet_core::{Redaction, props};
///
/// let redaction = Redaction::new(&["password", "email"], 256);
/// assert!(redaction.denies("Password") && !redaction.denies("password_age"));
/// assert_eq!(redaction.cut("short"), "short");
/// ```
#[derive(Debug)]
pub struct Redaction<'a, K = &'a str> {
    denied: &'a [K],
    text_bytes_max: usize,
}

/// Whatever `K` is: it is borrowed.
impl<K> Clone for Redaction<'_, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Redaction<'_, K> {}

impl<'a, K: AsRef<str>> Redaction<'a, K> {
    /// Leaves out properties whose key is one of `denied`, whole keys without regard to the case of ASCII letters, and cuts
    /// texts after `text_bytes_max` bytes. Keys longer than [`DENIED_KEY_BYTES_MAX`] are found at the top only.
    pub const fn new(denied: &'a [K], text_bytes_max: usize) -> Self {
        Self { denied, text_bytes_max }
    }

    /// Whether a property of this name must not be written.
    pub fn denies(&self, key: &str) -> bool {
        self.denied.iter().any(|denied| denied.as_ref().eq_ignore_ascii_case(key))
    }

    /// The beginning of `text` that may be written.
    pub fn cut<'t>(&self, text: &'t str) -> &'t str {
        if text.len() <= self.text_bytes_max {
            return text;
        }
        let end = (0..=self.text_bytes_max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.get(..end).unwrap_or_default()
    }
}

/// A value that writes itself without what a [`Redaction`] denies: pass it on as [`Value::Typed`].
///
/// In JSON text and serialised values a text is cut where its escaped form passes the limit, never inside an escape.
#[derive(Debug)]
pub struct Redacted<'a, K = &'a str> {
    value: Value<'a>,
    redaction: Redaction<'a, K>,
}

impl<'a, K: AsRef<str>> Redacted<'a, K> {
    /// `value`, less what `redaction` denies.
    pub const fn new(value: Value<'a>, redaction: Redaction<'a, K>) -> Self {
        Self { value, redaction }
    }
}

/// What an event says about persons, for whoever fills it in or redacts it.
impl<'a> Event<'a> {
    /// Whether it is about a person and does not say which: refused as it is, or if it is an error, personless. An event
    /// that is personless on purpose lacks nothing, nor does one about a group.
    pub const fn lacks_distinct_id(&self) -> bool {
        let wants_one = match self.rare().shape {
            Shape::Exception(_) => true,
            Shape::Group { .. } => false,
            _ => !self.rare().anonymous,
        };
        self.distinct_id.is_empty() && wants_one && !matches!(self.rare().person_profile, Some(false))
    }

    /// The person properties to overwrite, or the group's.
    pub const fn given_set(&self) -> &'a [Property<'a>] {
        self.rare().set
    }

    /// The person properties to set where the person lacks them.
    pub const fn given_set_once(&self) -> &'a [Property<'a>] {
        self.rare().set_once
    }
}

impl<K: AsRef<str>> WriteJson for Redacted<'_, K> {
    fn write_json(&self, sink: &mut dyn JsonSink) -> Result<(), SerializeError> {
        let depth = sink.depth_max();
        write(sink, &self.value, self.redaction, depth)
    }
}

/// Writes `value`, nested at most `depth` levels deep.
fn write<K: AsRef<str>>(
    sink: &mut dyn JsonSink,
    value: &Value<'_>,
    redaction: Redaction<'_, K>,
    depth: usize,
) -> Result<(), SerializeError> {
    match value {
        Value::Str(text) => write_text(sink, redaction.cut(text)),
        Value::Array(values) => {
            let depth = depth.checked_sub(1).ok_or(SerializeError::TooDeep)?;
            let mut before: &[u8] = b"[";
            for value in *values {
                sink.write(before)?;
                write(sink, value, redaction, depth)?;
                before = b",";
            }
            sink.write(if values.is_empty() { b"[]" } else { b"]" })
        }
        Value::Object(properties) => write_object(sink, properties, redaction, depth),
        Value::Raw(raw) => {
            if raw.depth() > depth {
                return Err(SerializeError::TooDeep);
            }
            let mut filter = Filter::new(sink, redaction, depth);
            let mut result = Ok(());
            raw.write_minified(&mut |run: &[u8]| {
                if result.is_ok() {
                    result = filter.write(run);
                }
            });
            result?;
            filter.finish()
        }
        Value::Typed(typed) => {
            let mut filter = Filter::new(sink, redaction, depth);
            typed.write_json(&mut filter)?;
            filter.finish()
        }
        // Null, booleans and numbers: the longest of them takes 24 bytes.
        scalar => {
            let mut room = [0; 40];
            let mut out = Writer::new(&mut room);
            write_value(&mut out, scalar, 1).map_err(|_| SerializeError::NotJson)?;
            let len = out.finish().ok_or(SerializeError::Full)?;
            sink.write(room.get(..len).unwrap_or_default())
        }
    }
}

fn write_object<K: AsRef<str>>(
    sink: &mut dyn JsonSink,
    properties: &[Property<'_>],
    redaction: Redaction<'_, K>,
    depth: usize,
) -> Result<(), SerializeError> {
    let depth = depth.checked_sub(1).ok_or(SerializeError::TooDeep)?;
    let mut before: &[u8] = b"{";
    for property in properties.iter().filter(|property| !redaction.denies(property.key())) {
        sink.write(before)?;
        write_text(sink, property.key())?;
        sink.write(b":")?;
        write(sink, &property.value(), redaction, depth)?;
        before = b",";
    }
    sink.write(if before == b"{" { b"{}" } else { b"}" })
}

/// Text in quotes.
fn write_text(sink: &mut dyn JsonSink, text: &str) -> Result<(), SerializeError> {
    sink.write(b"\"")?;
    let mut rest = text.as_bytes();
    loop {
        let (run, escape) = escape::next_run(rest);
        sink.write(rest.get(..run).unwrap_or_default())?;
        let Some(escape) = escape else { break };
        sink.write(escape.as_bytes())?;
        rest = rest.get(run + 1..).unwrap_or_default();
    }
    sink.write(b"\"")
}

/// Longest key in JSON text that is compared: one that is denied, with every letter escaped.
const RAW_KEY_BYTES_MAX: usize = 6 * DENIED_KEY_BYTES_MAX;

/// Levels that a filter tells apart.
const LEVELS_MAX: usize = 127;
const _: () = assert!(DEPTH_MAX <= LEVELS_MAX);

/// A sink before a sink: takes valid minified JSON in pieces cut anywhere, and hands on what is not denied.
///
/// Commas of objects are not handed on but written anew, since the member before one may be left out.
struct Filter<'s, 'a, K> {
    sink: &'s mut dyn JsonSink,
    redaction: Redaction<'a, K>,
    depth_max: usize,
    at: At,
    /// Arrays and objects that are open; bit `n` of the two words belongs to level `n`.
    level: usize,
    is_object: u128,
    /// A member was handed on.
    has_member: u128,
    /// The level whose denied member is just being left out.
    denied_level: Option<usize>,
    key: heapless::Vec<u8, RAW_KEY_BYTES_MAX>,
    /// The piece of a text that must stay whole: a character, an escape, a pair of surrogates.
    unit: heapless::Vec<u8, 12>,
    /// Bytes of the present text handed on; no more once it was cut.
    text_bytes: usize,
    is_cut: bool,
    /// On its way to the sink.
    out: heapless::Vec<u8, 128>,
}

/// Where in the JSON a filter is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// Between tokens, or in a number or word.
    Between,
    /// In an object, where a key comes next.
    BeforeKey,
    /// In a key; with the byte behind a backslash next.
    Key { escaped: bool },
    /// In a key too long to be a denied one.
    LongKey { escaped: bool },
    /// In a text.
    Text,
    /// In a text that is left out with its member; with the byte behind a backslash next.
    DeniedText { escaped: bool },
}

impl<'s, 'a, K: AsRef<str>> Filter<'s, 'a, K> {
    fn new(sink: &'s mut dyn JsonSink, redaction: Redaction<'a, K>, depth_max: usize) -> Self {
        Self {
            sink,
            redaction,
            depth_max,
            at: At::Between,
            level: 0,
            is_object: 0,
            has_member: 0,
            denied_level: None,
            key: heapless::Vec::new(),
            unit: heapless::Vec::new(),
            text_bytes: 0,
            is_cut: false,
            out: heapless::Vec::new(),
        }
    }

    fn finish(mut self) -> Result<(), SerializeError> {
        self.flush()
    }

    fn flush(&mut self) -> Result<(), SerializeError> {
        self.sink.write(&self.out)?;
        self.out.clear();
        Ok(())
    }

    fn emit(&mut self, bytes: &[u8]) -> Result<(), SerializeError> {
        if self.out.extend_from_slice(bytes).is_ok() {
            return Ok(());
        }
        self.flush()?;
        match self.out.extend_from_slice(bytes) {
            Ok(()) => Ok(()),
            Err(_) => self.sink.write(bytes),
        }
    }

    fn take(&mut self, byte: u8) -> Result<(), SerializeError> {
        match self.at {
            At::Between if self.denied_level.is_some() => self.leave_out(byte),
            At::Between => self.take_structure(byte),
            At::BeforeKey => self.take_before_key(byte),
            At::Key { escaped } => self.take_key(byte, escaped),
            At::LongKey { escaped } => {
                self.at = match byte {
                    b'"' if !escaped => At::Between,
                    byte => At::LongKey { escaped: byte == b'\\' && !escaped },
                };
                self.emit(&[byte])
            }
            At::Text => self.take_text(byte),
            At::DeniedText { escaped } => {
                self.at = match byte {
                    b'"' if !escaped => At::Between,
                    byte => At::DeniedText { escaped: byte == b'\\' && !escaped },
                };
                Ok(())
            }
        }
    }

    fn take_structure(&mut self, byte: u8) -> Result<(), SerializeError> {
        match byte {
            b'"' => {
                (self.text_bytes, self.is_cut) = (0, false);
                self.at = At::Text;
            }
            b'{' | b'[' => self.open(byte == b'{')?,
            b'}' | b']' => self.level = self.level.saturating_sub(1),
            b',' if self.is_in_object() => {
                self.at = At::BeforeKey;
                return Ok(());
            }
            _ => {}
        }
        self.emit(&[byte])
    }

    /// Part of a denied member, which ends with a comma or a bracket of its own object.
    fn leave_out(&mut self, byte: u8) -> Result<(), SerializeError> {
        match byte {
            b'"' => self.at = At::DeniedText { escaped: false },
            b'{' | b'[' => self.open(byte == b'{')?,
            b',' | b'}' if self.denied_level == Some(self.level) => {
                self.denied_level = None;
                return self.take_structure(byte);
            }
            b'}' | b']' => self.level = self.level.saturating_sub(1),
            _ => {}
        }
        // Inside of what is left out nothing is asked about keys.
        if self.at == At::BeforeKey {
            self.at = At::Between;
        }
        Ok(())
    }

    fn take_before_key(&mut self, byte: u8) -> Result<(), SerializeError> {
        match byte {
            b'"' => {
                self.key.clear();
                self.at = At::Key { escaped: false };
                return Ok(());
            }
            b' ' => return Ok(()),
            _ => {}
        }
        // An object without members.
        self.at = At::Between;
        self.take_structure(byte)
    }

    fn take_key(&mut self, byte: u8, escaped: bool) -> Result<(), SerializeError> {
        if byte == b'"' && !escaped {
            self.at = At::Between;
            if self.is_denied() {
                self.denied_level = Some(self.level);
                return Ok(());
            }
            return self.emit_key(b"\"");
        }
        self.at = At::Key { escaped: byte == b'\\' && !escaped };
        if self.key.push(byte).is_err() {
            self.at = At::LongKey { escaped: byte == b'\\' && !escaped };
            return self.emit_key(&[byte]);
        }
        Ok(())
    }

    fn emit_key(&mut self, end: &[u8]) -> Result<(), SerializeError> {
        let bit = self.bit();
        let comma: &[u8] = if self.has_member & bit != 0 { b",\"" } else { b"\"" };
        self.has_member |= bit;
        self.emit(comma)?;
        let key = core::mem::take(&mut self.key);
        self.emit(&key)?;
        self.emit(end)
    }

    fn is_denied(&self) -> bool {
        let is_same = |denied: &str| {
            let mut left = denied.chars();
            let mut all_same = true;
            for c in unescaped(&self.key) {
                all_same &= left.next().is_some_and(|denied| denied.eq_ignore_ascii_case(&c));
            }
            all_same && left.next().is_none()
        };
        self.redaction.denied.iter().any(|denied| is_same(denied.as_ref()))
    }

    fn take_text(&mut self, byte: u8) -> Result<(), SerializeError> {
        if byte == b'"' && self.unit.is_empty() {
            self.at = At::Between;
            return self.emit(b"\"");
        }
        // Valid JSON has no longer unit; what is not valid is not made worse.
        let _ = self.unit.push(byte);
        if !is_whole(&self.unit) {
            return Ok(());
        }
        let unit = core::mem::take(&mut self.unit);
        self.is_cut |= self.text_bytes + unit.len() > self.redaction.text_bytes_max;
        if self.is_cut {
            return Ok(());
        }
        self.text_bytes += unit.len();
        self.emit(&unit)
    }

    fn open(&mut self, is_object: bool) -> Result<(), SerializeError> {
        self.level += 1;
        if self.level > self.depth_max || self.level > LEVELS_MAX {
            return Err(SerializeError::TooDeep);
        }
        let bit = self.bit();
        self.has_member &= !bit;
        if is_object {
            self.is_object |= bit;
            self.at = At::BeforeKey;
        } else {
            self.is_object &= !bit;
        }
        Ok(())
    }

    fn is_in_object(&self) -> bool {
        self.level > 0 && self.is_object & self.bit() != 0
    }

    fn bit(&self) -> u128 {
        1 << self.level.min(LEVELS_MAX)
    }
}

impl<K: AsRef<str>> JsonSink for Filter<'_, '_, K> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SerializeError> {
        bytes.iter().try_for_each(|byte| self.take(*byte))
    }

    fn depth_max(&self) -> usize {
        self.depth_max
    }
}

/// Whether a piece of a text may be followed by its end: not half a character, half an escape, or half of a pair.
fn is_whole(unit: &[u8]) -> bool {
    match unit {
        [b'\\', b'u', digits @ ..] => match digits {
            [_, _, _, _] => !matches!(hex(digits), Some(0xd800..=0xdbff)),
            _ => digits.len() >= 10,
        },
        [b'\\', rest @ ..] => !rest.is_empty(),
        [first, ..] => unit.len() >= char_bytes(*first),
        [] => true,
    }
}

/// Bytes of the character that begins with this one.
fn char_bytes(first: u8) -> usize {
    match first {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    }
}

/// The characters of a key as JSON text has it. Something else for what is none: nothing is denied by that.
fn unescaped(mut raw: &[u8]) -> impl Iterator<Item = char> {
    core::iter::from_fn(move || {
        let (len, c) = match raw {
            [] => return None,
            [b'\\', b'u', rest @ ..] => (6, rest.get(..4).and_then(hex).and_then(char::from_u32)),
            [b'\\', escape, ..] => {
                let c = match escape {
                    b'n' => '\n',
                    b't' => '\t',
                    b'r' => '\r',
                    b'b' => '\u{8}',
                    b'f' => '\u{c}',
                    other => char::from(*other),
                };
                (2, Some(c))
            }
            [first, ..] => {
                let len = char_bytes(*first);
                (len, raw.get(..len).and_then(|c| core::str::from_utf8(c).ok()).and_then(|c| c.chars().next()))
            }
        };
        raw = raw.get(len..).unwrap_or_default();
        Some(c.unwrap_or(char::REPLACEMENT_CHARACTER))
    })
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| Some(number << 4 | char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests;
