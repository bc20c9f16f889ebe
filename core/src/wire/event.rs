//! One event becomes one JSON object.
//!
//! In: an [`Event`], a stamp and what is common to all events. Out: bytes, through [`Out`], or a [`CaptureError`] before
//! anything is published. One survey over the event checks what the server would refuse the whole batch for; then everything
//! is written in one pass, which also says how much room it took or would take.
//!
//! Every frame has the same beginning, of fixed width, so that uuid and time can be found, and on a device without a
//! clock be put right, without parsing:
//!
//! ```text
//! {"uuid":"…36…","timestamp":"…27…","event":"…","distinct_id":"…","properties":{"$lib":"quillet", … }},\n
//! ```

use super::exception::write_exception;
use super::key;
use super::writer::{Out, Writer};
use crate::common::Common;
use crate::event::{EVENT_KEY, Event, ID_KEY, Name, Rare};
use crate::exception::Exception;
use crate::limits::{DEPTH_MAX, DISTINCT_ID_CHARS_MAX, EVENT_NAME_BYTES_MAX, KEY_BYTES_MAX};
use crate::property::{DOLLAR_MASK, Key, Property, Value, is_always_reserved, is_same, key_mask};
use crate::raw::RawJson;
use crate::serialize::SerializeError;
use crate::stamp::{Stamp, Stamper};
use crate::stats::CaptureError;
use crate::uuid::Uuid;
use crate::wire::timestamp::Timestamp;

/// What kind of event it is, with what only that kind has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape<'a> {
    Capture,
    Identify,
    Person,
    Alias { alias: &'a str },
    Group { group_type: &'a str, group_key: &'a str },
    Exception(&'a Exception<'a>),
}

/// How what few events say is checked and written: by way of pointers which only such an event holds, so that a program
/// which never makes one does not link the code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RareEncoding {
    survey: fn(&Event<'_>, &Rare<'_>) -> Result<(), CaptureError>,
    stamp: fn(&Rare<'_>, &mut Stamper, Timestamp) -> Stamp,
    id: fn(&Event<'_>, &Rare<'_>, &Uuid, &mut Writer<'_>),
    properties: fn(&Event<'_>, &Rare<'_>, &mut Writer<'_>) -> Result<(), CaptureError>,
    is_reserved: fn(&Rare<'_>, &str) -> bool,
    hides: fn(&Rare<'_>, &[u8]) -> bool,
}

pub(crate) static RARE_ENCODING: RareEncoding = RareEncoding {
    survey: survey_rare,
    stamp: stamp_rare,
    id: write_rare_id,
    properties: write_rare,
    is_reserved,
    hides: hides_rare,
};

/// What ends an event in the ring; without the last two bytes, anywhere else.
pub(crate) const FRAME_TAIL: &[u8; 4] = b"}},\n";
pub(crate) const EVENT_TAIL: &[u8; 2] = b"}}";

impl Event<'_> {
    /// Writes the event into `out` as one JSON object, for users with a queue or transport of their own.
    ///
    /// `stamper` gives it a uuid and a time unless the event brings its own. Nothing is allocated.
    ///
    /// # Errors
    ///
    /// Each [`CaptureError`] that concerns the event itself; [`CaptureError::TooLarge`] if `out` is too small, in which case
    /// the first bytes of `out` are of no use.
    ///
    /// ```
    /// use quillet_core::{Common, Event, Stamper, Timestamp, props};
    ///
    /// let mut stamper = Stamper::new([17, 4]);
    /// let now = Timestamp::from_unix_ms(1_795_000_000_000);
    /// let mut out = [0; 256];
    /// let encoded = Event::new("door opened", "hall")
    ///     .properties(props! { "by": "key" })
    ///     .encode(&mut stamper, &Common::default(), now, &mut out)?;
    /// assert!(out[..encoded.len].ends_with(b"\"by\":\"key\"}}"));
    /// # Ok::<(), quillet_core::CaptureError>(())
    /// ```
    pub fn encode(
        &self,
        stamper: &mut Stamper,
        common: &Common<'_>,
        now: Timestamp,
        out: &mut [u8],
    ) -> Result<Encoded, CaptureError> {
        let may_hide = survey(self, common)?;
        let stamp = stamp(self, stamper, now);
        let mut writer = Writer::new(out);
        write(self, may_hide, stamper, &stamp, common, &mut writer)?;
        writer.bytes(EVENT_TAIL);
        let len = writer.finish().ok_or(CaptureError::TooLarge)?;
        Ok(Encoded { len, uuid: stamper.uuid(&stamp) })
    }

    /// The same into a `heapless::Vec`, behind what it holds already.
    ///
    /// # Errors
    ///
    /// As [`encode`](Event::encode); the vector is then as it was before.
    pub fn encode_into<const N: usize>(
        &self,
        stamper: &mut Stamper,
        common: &Common<'_>,
        now: Timestamp,
        out: &mut heapless::Vec<u8, N>,
    ) -> Result<Encoded, CaptureError> {
        let before = out.len();
        // Filled with zeros first: the encoder writes into initialised bytes, and a vector has no others.
        let _ = out.resize(N, 0);
        let encoded = self.encode(stamper, common, now, out.get_mut(before..).unwrap_or_default());
        out.truncate(before + encoded.map_or(0, |encoded| encoded.len));
        encoded
    }
}

/// An event that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Encoded {
    /// Bytes of JSON.
    pub len: usize,
    /// The uuid it carries.
    pub uuid: Uuid,
}

/// Checks what can be checked before anything is written. Returns whether a key may be that of a super property.
#[cfg_attr(target_pointer_width = "64", inline(always))]
pub(crate) fn survey(event: &Event<'_>, common: &Common<'_>) -> Result<bool, CaptureError> {
    let mut mask = 0;
    if let Name::Text(name) = event.name {
        let len = name.len();
        if len.wrapping_sub(1) >= EVENT_NAME_BYTES_MAX {
            return Err(if len == 0 { CaptureError::EmptyEventName } else { CaptureError::EventNameTooLong });
        }
    }
    for property in event.properties {
        match property.key {
            Key::Literal(literal) => mask |= literal.mask,
            Key::Text(key) => {
                let key = key.as_bytes();
                if key.len().wrapping_sub(1) >= KEY_BYTES_MAX {
                    return Err(if key.is_empty() { CaptureError::EmptyKey } else { CaptureError::KeyTooLong });
                }
                mask |= key_mask(key);
            }
        }
    }
    check_id(event)?;
    if let Some(rare) = event.odd() {
        (rare.encoding.survey)(event, rare)?;
    }
    if mask & DOLLAR_MASK != 0 {
        check_dollar_keys(event)?;
    }
    Ok(mask & common.mask() != 0)
}

/// The event's uuid and time.
#[cfg_attr(target_pointer_width = "64", inline(always))]
pub(crate) fn stamp(event: &Event<'_>, stamper: &mut Stamper, now: Timestamp) -> Stamp {
    match &event.rare {
        Some(rare) if rare.uuid.is_some() || rare.timestamp.is_some() => (rare.encoding.stamp)(rare, stamper, now),
        _ => stamper.stamp(now),
    }
}

/// Writes the event but for what ends it; `may_hide` is what its survey said. Fails only for values: nested too deeply, or
/// not JSON.
#[cfg_attr(target_pointer_width = "64", inline(always))]
#[cfg_attr(not(target_pointer_width = "64"), inline(never))]
pub(crate) fn write(
    event: &Event<'_>,
    may_hide: bool,
    stamper: &Stamper,
    stamp: &Stamp,
    common: &Common<'_>,
    out: &mut Writer<'_>,
) -> Result<(), CaptureError> {
    out.head(stamper.head(), stamp);
    write_name(event, out);
    let odd = event.odd();
    match odd {
        Some(rare) => (rare.encoding.id)(event, rare, &stamper.uuid(stamp), out),
        None => out.escaped(event.distinct_id),
    }
    // Both only matter where there are super properties, and neither is common.
    match common.without() {
        Some(write_without) if may_hide || odd.is_some() => write_without(common, event, out),
        _ => common.write(out),
    }
    if let Some(rare) = odd {
        (rare.encoding.properties)(event, rare, out)?;
    }
    for property in event.properties {
        write_property(out, property, DEPTH_MAX)?;
    }
    Ok(())
}

/// Writes, behind its head, an event that says nothing rare and has none of the common names, and that was checked.
#[cold]
#[inline(never)]
pub(crate) fn write_usual(event: &Event<'_>, common: &Common<'_>, out: &mut Writer<'_>) -> Result<(), CaptureError> {
    write_name(event, out);
    out.escaped(event.distinct_id);
    common.write(out);
    for property in event.properties {
        write_property(out, property, DEPTH_MAX)?;
    }
    out.bytes(FRAME_TAIL);
    Ok(())
}

/// The name, up to where the id goes.
#[inline(always)]
fn write_name(event: &Event<'_>, out: &mut Writer<'_>) {
    match event.name {
        Name::Literal(literal) => out.name_slot(&literal.slot, literal.len),
        Name::Text(name) => {
            out.bytes(EVENT_KEY);
            out.escaped(name);
            out.bytes(ID_KEY);
        }
    }
}

/// Bytes one value takes exactly.
pub(crate) fn measure_value(value: &Value<'_>) -> Result<usize, CaptureError> {
    let mut writer = Writer::new(&mut []);
    write_value(&mut writer, value, DEPTH_MAX)?;
    Ok(writer.wanted())
}

/// A comma, the key, a colon, the value.
#[cfg_attr(target_pointer_width = "64", inline(always))]
fn write_property<O: Out>(out: &mut O, property: &Property<'_>, depth: usize) -> Result<(), CaptureError> {
    match property.key {
        Key::Literal(literal) => out.key_slot(&literal.slot, literal.len),
        Key::Text(key) => {
            out.byte(b',');
            out.string(key);
            out.byte(b':');
        }
    }
    if !cfg!(target_pointer_width = "64") {
        return write_value(out, &property.value, depth);
    }
    // The usual ones here, inlined into the one caller.
    match property.value {
        Value::Str(text) => out.string(text),
        Value::Int(value) => out.int(value),
        Value::Uint(value) => out.uint(value),
        Value::Bool(value) => out.bytes(if value { b"true" } else { b"false" }),
        ref other => return write_value(out, other, depth),
    }
    Ok(())
}

/// Any value, nested at most `depth` levels deep.
pub(crate) fn write_value<O: Out>(out: &mut O, value: &Value<'_>, depth: usize) -> Result<(), CaptureError> {
    match value {
        Value::Null => out.bytes(b"null"),
        Value::Bool(value) => out.bytes(if *value { b"true" } else { b"false" }),
        Value::Int(value) => out.int(*value),
        Value::Uint(value) => out.uint(*value),
        Value::Float(value) => out.float(*value),
        Value::Float32(value) => out.float32(*value),
        Value::Str(text) => out.string(text),
        Value::Array(values) => {
            let depth = depth.checked_sub(1).ok_or(CaptureError::TooDeep)?;
            out.byte(b'[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    out.byte(b',');
                }
                write_value(out, value, depth)?;
            }
            out.byte(b']');
        }
        Value::Object(properties) => write_object(out, properties, depth)?,
        Value::Raw(raw) => write_raw(out, raw, depth)?,
        Value::Typed(value) => out.typed(*value, depth).map_err(|error| match error {
            SerializeError::TooDeep => CaptureError::TooDeep,
            _ => CaptureError::InvalidValue,
        })?,
    }
    Ok(())
}

fn write_object<O: Out>(out: &mut O, properties: &[Property<'_>], depth: usize) -> Result<(), CaptureError> {
    let depth = depth.checked_sub(1).ok_or(CaptureError::TooDeep)?;
    out.byte(b'{');
    for (at, property) in properties.iter().enumerate() {
        if at > 0 {
            out.byte(b',');
        }
        out.string(property.key());
        out.byte(b':');
        write_value(out, &property.value, depth)?;
    }
    out.byte(b'}');
    Ok(())
}

fn write_raw<O: Out>(out: &mut O, raw: &RawJson<'_>, depth: usize) -> Result<(), CaptureError> {
    if !cfg!(target_pointer_width = "64") {
        return write_raw_small(out, raw.as_str().as_bytes(), depth);
    }
    // A value of the event's own may be as deep as any that was checked; only inside others is its depth looked for.
    if depth < DEPTH_MAX && raw.depth() > depth {
        return Err(CaptureError::TooDeep);
    }
    raw.write_minified(&mut |run: &[u8]| out.bytes(run));
    Ok(())
}

/// The same byte by byte, in one go: for processors that would rather have the flash.
fn write_raw_small<O: Out>(out: &mut O, json: &[u8], depth: usize) -> Result<(), CaptureError> {
    let (mut open, mut in_string, mut is_escaped) = (0usize, false, false);
    for &byte in json {
        if in_string {
            in_string = is_escaped || byte != b'"';
            is_escaped = !is_escaped && byte == b'\\';
        } else {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' => continue,
                b'"' => in_string = true,
                b'{' | b'[' => open += 1,
                b'}' | b']' => open = open.saturating_sub(1),
                _ => {}
            }
            if open > depth {
                return Err(CaptureError::TooDeep);
            }
        }
        out.byte(byte);
    }
    Ok(())
}

/// Whether the distinct id is one that the server takes as it is.
#[cfg_attr(target_pointer_width = "64", inline(always))]
fn check_id(event: &Event<'_>) -> Result<(), CaptureError> {
    let id = event.distinct_id.as_bytes();
    match id.first() {
        Some(b'!'..=b'~') if id.len() <= DISTINCT_ID_CHARS_MAX => Ok(()),
        _ => check_odd_id(event),
    }
}

/// Blank, long or foreign beginnings: rare enough to be slow.
#[cold]
#[inline(never)]
fn check_odd_id(event: &Event<'_>) -> Result<(), CaptureError> {
    let id = event.distinct_id;
    let stands_in = event.odd().is_some_and(|rare| rare.anonymous || matches!(rare.shape, Shape::Group { .. }));
    if id.is_empty() && stands_in {
        return Ok(());
    }
    let (mut count, mut is_blank) = (0, true);
    for c in id.chars() {
        (count, is_blank) = (count + 1, is_blank && is_white_space(c));
    }
    match () {
        () if is_blank => Err(CaptureError::EmptyDistinctId),
        () if count > DISTINCT_ID_CHARS_MAX => Err(CaptureError::DistinctIdTooLong),
        () => Ok(()),
    }
}

/// As [`char::is_whitespace`], with a smaller table: in firmware nothing else would need that one.
fn is_white_space(c: char) -> bool {
    /// First and last of each group.
    const GROUPS: [[u16; 2]; 10] = [
        [0x09, 0x0d],
        [0x20, 0x20],
        [0x85, 0x85],
        [0xa0, 0xa0],
        [0x1680, 0x1680],
        [0x2000, 0x200a],
        [0x2028, 0x2029],
        [0x202f, 0x202f],
        [0x205f, 0x205f],
        [0x3000, 0x3000],
    ];
    let c = u32::from(c);
    GROUPS.iter().any(|&[first, last]| (u32::from(first)..=u32::from(last)).contains(&c))
}

/// Checks of what few events say.
#[cold]
#[inline(never)]
fn survey_rare(event: &Event<'_>, rare: &Rare<'_>) -> Result<(), CaptureError> {
    for property in [rare.set, rare.set_once].into_iter().flatten() {
        if property.key().is_empty() {
            return Err(CaptureError::EmptyKey);
        }
        if property.key().len() > KEY_BYTES_MAX {
            return Err(CaptureError::KeyTooLong);
        }
    }
    for (kind, name) in rare.groups {
        if kind.is_empty() || name.is_empty() {
            return Err(CaptureError::MissingField);
        }
    }
    let no_person = rare.person_profile == Some(false) || rare.anonymous;
    match rare.shape {
        // The server drops these without a word when no person may be made of them.
        Shape::Identify | Shape::Person | Shape::Alias { .. } | Shape::Group { .. } if no_person => {
            return Err(CaptureError::Personless);
        }
        Shape::Alias { alias } => {
            if alias.trim().is_empty() {
                return Err(CaptureError::MissingField);
            }
            if alias.chars().nth(DISTINCT_ID_CHARS_MAX).is_some() {
                return Err(CaptureError::DistinctIdTooLong);
            }
            if event.properties.iter().any(|property| is_alias_key(property.key().as_bytes())) {
                return Err(CaptureError::ReservedKey);
            }
        }
        Shape::Group { group_type, group_key } => {
            if group_type.trim().is_empty() || group_key.trim().is_empty() {
                return Err(CaptureError::MissingField);
            }
            if event.distinct_id.is_empty()
                && group_type.chars().count().saturating_add(group_key.chars().count()) > DISTINCT_ID_CHARS_MAX - 2
            {
                return Err(CaptureError::DistinctIdTooLong);
            }
        }
        Shape::Capture | Shape::Identify | Shape::Person | Shape::Exception(_) => {}
    }
    Ok(())
}

/// Properties with names of PostHog's own: most are the caller's good right.
#[cold]
#[inline(never)]
fn check_dollar_keys(event: &Event<'_>) -> Result<(), CaptureError> {
    for property in event.properties {
        let is_reserved = match &event.rare {
            Some(rare) => (rare.encoding.is_reserved)(rare, property.key()),
            None => is_always_reserved(property.key().as_bytes()),
        };
        if is_reserved {
            return Err(CaptureError::ReservedKey);
        }
        if is_same(property.key().as_bytes(), key::COOKIELESS_MODE.as_bytes())
            && !matches!(property.value, Value::Bool(_))
        {
            return Err(CaptureError::InvalidValue);
        }
    }
    Ok(())
}

/// Whether the event would get this key twice if the caller wrote it as a property.
#[cold]
#[inline(never)]
fn is_reserved(rare: &Rare<'_>, name: &str) -> bool {
    if is_always_reserved(name.as_bytes()) {
        return true;
    }
    match name {
        key::SET => !rare.set.is_empty() || matches!(rare.shape, Shape::Identify),
        key::SET_ONCE => !rare.set_once.is_empty(),
        key::UNSET => !rare.unset.is_empty(),
        key::GROUPS => !rare.groups.is_empty(),
        key::PROCESS_PERSON_PROFILE => {
            // What is there to change a person is dropped by the server where no person may be made; a property must not
            // bring that about behind the survey's back.
            let needs_person = !matches!(rare.shape, Shape::Capture | Shape::Exception(_));
            rare.person_profile.is_some() || rare.anonymous || needs_person
        }
        key::GEOIP_DISABLE => rare.disable_geoip.is_some(),
        key::GROUP_TYPE | key::GROUP_KEY | key::GROUP_SET => matches!(rare.shape, Shape::Group { .. }),
        // Its own steps stand in for those that the exception was given.
        key::EXCEPTION_STEPS => false,
        _ => {
            matches!(rare.shape, Shape::Exception(_)) && (name.starts_with(key::EXCEPTION) || name == key::DEBUG_IMAGES)
        }
    }
}

/// Whether the event says this super property itself.
#[cold]
#[inline(never)]
pub(crate) fn hides(event: &Event<'_>, name: &[u8]) -> bool {
    if is_always_reserved(name) {
        return false;
    }
    event.properties.iter().any(|property| property.key().as_bytes() == name)
        || event.odd().is_some_and(|rare| (rare.encoding.hides)(rare, name))
}

/// Whether what few events say includes this super property.
fn hides_rare(rare: &Rare<'_>, name: &[u8]) -> bool {
    core::str::from_utf8(name).is_ok_and(|name| is_reserved(rare, name))
        || (matches!(rare.shape, Shape::Alias { .. }) && is_alias_key(name))
}

fn stamp_rare(rare: &Rare<'_>, stamper: &mut Stamper, now: Timestamp) -> Stamp {
    stamper.stamp_given(now, rare.uuid, rare.timestamp)
}

fn is_alias_key(name: &[u8]) -> bool {
    name == key::ALIAS.as_bytes() || name == key::DISTINCT_ID.as_bytes()
}

/// The distinct id of an event that has none of its own.
#[cold]
#[inline(never)]
fn write_rare_id(event: &Event<'_>, rare: &Rare<'_>, uuid: &Uuid, out: &mut Writer<'_>) {
    match rare.shape {
        _ if !event.distinct_id.is_empty() => out.escaped(event.distinct_id),
        Shape::Group { group_type, group_key } => {
            out.bytes(b"$");
            out.escaped(group_type);
            out.bytes(b"_");
            out.escaped(group_key);
        }
        _ => out.bytes(&uuid.hyphenated()),
    }
}

/// What few events say, each property behind a comma.
#[cold]
#[inline(never)]
fn write_rare(event: &Event<'_>, rare: &Rare<'_>, out: &mut Writer<'_>) -> Result<(), CaptureError> {
    let anonymous = rare.anonymous && event.distinct_id.is_empty();
    // Groups need person processing; an event without a person that names groups gets it, as PostHog's own SDKs do.
    let profile = rare.person_profile.or(if anonymous { Some(!rare.groups.is_empty()) } else { None });
    if let Some(process) = profile {
        write_key(out, key::PROCESS_PERSON_PROFILE);
        out.bytes(if process { b"true" } else { b"false" });
    }
    if let Some(disable) = rare.disable_geoip {
        write_key(out, key::GEOIP_DISABLE);
        out.bytes(if disable { b"true" } else { b"false" });
    }
    if let Shape::Group { group_type, group_key } = rare.shape {
        write_key(out, key::GROUP_TYPE);
        out.string(group_type);
        write_key(out, key::GROUP_KEY);
        out.string(group_key);
        write_key(out, key::GROUP_SET);
        write_object(out, rare.set, DEPTH_MAX)?;
    } else if !rare.set.is_empty() || matches!(rare.shape, Shape::Identify) {
        write_key(out, key::SET);
        write_object(out, rare.set, DEPTH_MAX)?;
    }
    if !rare.set_once.is_empty() {
        write_key(out, key::SET_ONCE);
        write_object(out, rare.set_once, DEPTH_MAX)?;
    }
    if !rare.unset.is_empty() {
        write_key(out, key::UNSET);
        write_strings(out, rare.unset);
    }
    if !rare.groups.is_empty() {
        write_key(out, key::GROUPS);
        let mut before: &[u8] = b"{";
        for (kind, name) in rare.groups {
            out.bytes(before);
            out.string(kind);
            out.bytes(b":");
            out.string(name);
            before = b",";
        }
        out.bytes(b"}");
    }
    match rare.shape {
        Shape::Alias { alias } => {
            write_key(out, key::ALIAS);
            out.string(alias);
            write_key(out, key::DISTINCT_ID);
            out.string(event.distinct_id);
        }
        Shape::Exception(exception) => {
            let own_steps = event.properties.iter().any(|property| property.key() == key::EXCEPTION_STEPS);
            write_exception(out, exception, !own_steps);
        }
        _ => {}
    }
    Ok(())
}

/// An array of at least one string.
pub(crate) fn write_strings<O: Out>(out: &mut O, texts: &[&str]) {
    let mut before: &[u8] = b"[";
    for text in texts {
        out.bytes(before);
        out.string(text);
        before = b",";
    }
    out.bytes(b"]");
}

pub(crate) fn write_key<O: Out>(out: &mut O, name: &str) {
    out.bytes(b",");
    out.string(name);
    out.bytes(b":");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]
    use super::*;
    use proptest::prelude::*;

    /// What the writer for small processors makes of a text, and what that for all others makes of it.
    fn both_ways(json: &str, depth: usize) -> [Result<std::vec::Vec<u8>, CaptureError>; 2] {
        let raw = RawJson::parse(json).unwrap();
        let (mut small, mut large) = ([0; 512], [0; 512]);
        let mut out = Writer::new(&mut small);
        let written = write_raw_small(&mut out, json.as_bytes(), depth);
        let len = out.finish().unwrap();
        let mut out = Writer::new(&mut large);
        let expected = write_raw(&mut out, &raw, depth);
        let expected_len = out.finish().unwrap();
        [written.map(|()| small[..len].to_vec()), expected.map(|()| large[..expected_len].to_vec())]
    }

    #[test]
    fn json_is_minified_and_bounded_byte_by_byte_as_in_runs() {
        for json in ["null", " [ 1 , 2.5e3 ]\n", "\"a \\\" [ b\\\\\"", "{ \"a b\" : [ { } , \"]]\\\\\" ] }", "[[[]]]"] {
            for depth in 0..5 {
                let [small, large] = both_ways(json, depth);
                assert_eq!(small, large, "{json} {depth}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_json_is_written_the_same_both_ways(
            texts in proptest::collection::vec(r#"[ -~é]{0,6}"#, 0..5),
            blank in "[ \t\n\r]{0,3}",
            depth in 0..4usize,
        ) {
            let list = serde_json::to_string_pretty(&texts).unwrap().replace(',', &std::format!(",{blank}"));
            prop_assume!(RawJson::parse(&list).is_ok());
            let [small, large] = both_ways(&list, depth);
            prop_assert_eq!(small, large);
        }
    }

    #[test]
    fn white_space_is_what_the_standard_library_says_it_is() {
        for c in '\0'..=char::MAX {
            assert_eq!(is_white_space(c), c.is_whitespace(), "{c:?}");
        }
    }
}
