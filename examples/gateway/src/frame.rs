//! One line of a device, and what it may say.
//!
//! In: a line of bytes, without its newline. Out: a [`Frame`] that borrows from it, or a [`Fault`] that says what is wrong.
//! Nothing is captured here, and nothing of a line that is wrong in one place is used.
//!
//! A line is JSON, or compact, which a device can write with `printf`:
//!
//! ```text
//! {"event":"door opened","distinct_id":"door-7","uuid":"…","timestamp":"2026-03-01T12:00:05Z","properties":{"battery":3.71}}
//! door_opened door-7 #0198c0de-0000-7000-8000-000000000001 @1772366405000 battery=3.71 room=server%20room
//! ```
//!
//! Only the event is required. `distinct_id` is the device's name if it is missing or `-`; a uuid makes it safe to send
//! the line again; a time (RFC 3339, or after `@` milliseconds since 1970) is the device's, otherwise the arrival's.
//! A compact name is letters, digits, `_`, `-`, `.`, `/` and `$`, or anything else as `%20`: what some other program says to an
//! open port, `Host: localhost`, is no event. A uuid of zeros is none: devices without randomness all have it.
//! What quillet's own encoder wrote on a microcontroller is such a JSON line, the comma at its end included.

use std::borrow::Cow;
use std::collections::BTreeMap;

use quillet::{RawJson, Timestamp, Uuid, Value};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Most properties of one frame.
pub const PROPERTIES_MAX: usize = 128;

/// What a device said.
#[derive(Debug)]
pub struct Frame<'a> {
    pub event: Cow<'a, str>,
    pub distinct_id: Option<Cow<'a, str>>,
    pub uuid: Option<Uuid>,
    pub timestamp: Option<Timestamp>,
    pub properties: Vec<(Cow<'a, str>, Content<'a>)>,
}

/// What a property is.
#[derive(Debug, PartialEq)]
pub enum Content<'a> {
    Text(Cow<'a, str>),
    Int(i64),
    Float(f64),
    Bool(bool),
    /// JSON as it came, checked.
    Json(&'a str),
}

impl Content<'_> {
    /// The same as a property's value.
    pub fn value(&self) -> Value<'_> {
        match self {
            Self::Text(text) => Value::Str(text),
            Self::Int(int) => Value::Int(*int),
            Self::Float(float) => Value::Float(*float),
            Self::Bool(bool) => Value::Bool(*bool),
            Self::Json(text) => RawJson::parse(text).map_or(Value::Null, Value::Raw),
        }
    }
}

/// What is wrong with a line. Its text is what the device is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    NotUtf8,
    NotJson,
    NoEvent,
    BadEvent,
    BadUuid,
    BadTime,
    BadProperty,
    TooManyProperties,
}

impl Fault {
    /// One word for the device and the statistics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotUtf8 => "not_utf8",
            Self::NotJson => "not_json",
            Self::NoEvent => "no_event",
            Self::BadEvent => "bad_event",
            Self::BadUuid => "bad_uuid",
            Self::BadTime => "bad_time",
            Self::BadProperty => "bad_property",
            Self::TooManyProperties => "too_many_properties",
        }
    }
}

/// Reads one line. Blanks around it do not matter.
pub fn parse(line: &[u8]) -> Result<Frame<'_>, Fault> {
    let line = core::str::from_utf8(line).map_err(|_| Fault::NotUtf8)?.trim();
    if line.starts_with('{') { parse_json(line.trim_end_matches(',')) } else { parse_compact(line) }
}

/// The shape of a JSON line. Another field is a fault: what nobody reads would be lost without a word.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    distinct_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    uuid: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    timestamp: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    properties: BTreeMap<String, &'a RawValue>,
}

fn parse_json(line: &str) -> Result<Frame<'_>, Fault> {
    let line: Line<'_> = serde_json::from_str(line).map_err(|_| Fault::NotJson)?;
    if line.properties.len() > PROPERTIES_MAX {
        return Err(Fault::TooManyProperties);
    }
    let mut properties = Vec::with_capacity(line.properties.len());
    for (key, value) in line.properties {
        // serde_json takes what PostHog refuses a batch for: lone surrogates, numbers beyond f64.
        RawJson::parse(value.get()).map_err(|_| Fault::BadProperty)?;
        properties.push((own_key(key), Content::Json(value.get())));
    }
    Ok(Frame {
        event: line.event.filter(|event| !event.is_empty()).ok_or(Fault::NoEvent)?,
        distinct_id: line.distinct_id.filter(|id| id != "-"),
        uuid: line.uuid.map(|uuid| parse_uuid(&uuid)).transpose()?,
        timestamp: line.timestamp.map(|time| Timestamp::parse(&time).ok_or(Fault::BadTime)).transpose()?,
        properties,
    })
}

fn parse_compact(line: &str) -> Result<Frame<'_>, Fault> {
    let mut words = line.split_ascii_whitespace();
    let event = words.next().ok_or(Fault::NoEvent)?;
    if !event.chars().all(|char| char.is_alphanumeric() || "_-./$%".contains(char)) {
        return Err(Fault::BadEvent);
    }
    let event = decode(event)?;
    let mut frame = Frame { event, distinct_id: None, uuid: None, timestamp: None, properties: Vec::new() };
    for (at, word) in words.enumerate() {
        if let Some(uuid) = word.strip_prefix('#') {
            frame.uuid = Some(parse_uuid(uuid)?);
        } else if let Some(time) = word.strip_prefix('@') {
            frame.timestamp = Some(Timestamp::from_unix_ms(time.parse().map_err(|_| Fault::BadTime)?));
        } else if let Some((key, value)) = word.split_once('=') {
            if frame.properties.len() == PROPERTIES_MAX {
                return Err(Fault::TooManyProperties);
            }
            frame.properties.push((own_key(decode(key)?.into_owned()), content(value)?));
        } else if at == 0 {
            frame.distinct_id = Some(decode(word)?).filter(|id| id != "-");
        } else {
            return Err(Fault::BadProperty);
        }
    }
    Ok(frame)
}

fn parse_uuid(text: &str) -> Result<Uuid, Fault> {
    Uuid::parse(text).filter(|uuid| uuid.as_bytes() != &[0; 16]).ok_or(Fault::BadUuid)
}

/// What a compact value looks like is what it is; `%74rue` is the text.
fn content(value: &str) -> Result<Content<'_>, Fault> {
    Ok(match value {
        "true" => Content::Bool(true),
        "false" => Content::Bool(false),
        value => {
            let is_number = value.starts_with(|first: char| first.is_ascii_digit() || first == '-');
            match (value.parse(), value.parse()) {
                (Ok(int), _) if is_number => Content::Int(int),
                (_, Ok(float)) if is_number => Content::Float(float),
                _ => Content::Text(decode(value)?),
            }
        }
    })
}

/// The library that wrote the frame is the device's; the gateway's client says which one sent it.
fn own_key(key: String) -> Cow<'static, str> {
    match key.as_str() {
        "$lib" => Cow::Borrowed("device_lib"),
        "$lib_version" => Cow::Borrowed("device_lib_version"),
        _ => Cow::Owned(key),
    }
}

/// Undoes percent-encoding.
fn decode(word: &str) -> Result<Cow<'_, str>, Fault> {
    if !word.contains('%') {
        return Ok(Cow::Borrowed(word));
    }
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let decoded = match (byte, after) {
            (b'%', [high, low, after @ ..]) => {
                rest = after;
                hex(*high).zip(hex(*low)).map(|(high, low)| high * 16 + low)
            }
            (b'%', _) => None,
            (byte, _) => Some(byte),
        };
        bytes.push(decoded.ok_or(Fault::BadProperty)?);
    }
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| Fault::NotUtf8)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that fails should stop")]
    use super::*;

    const ID: &str = "0198c0de-0000-7000-8000-000000000001";

    #[test]
    fn both_forms_say_the_same() {
        let json = format!(
            r#"{{"event":"door opened","distinct_id":"door-7","uuid":"{ID}","timestamp":"2026-03-01T12:00:05Z",{}}},"#,
            r#""properties":{"battery":3.71,"n":-3,"open":true,"room":"server room"}"#,
        );
        let compact =
            format!("door%20opened door-7 #{ID} @1772366405000 battery=3.71 n=-3 open=true room=server%20room\r");
        let frames = [parse(json.as_bytes()).unwrap(), parse(compact.as_bytes()).unwrap()];
        for frame in &frames {
            assert_eq!((&*frame.event, frame.distinct_id.as_deref()), ("door opened", Some("door-7")));
            assert_eq!((frame.uuid, frame.timestamp.unwrap().as_unix_ms()), (Uuid::parse(ID), 1_772_366_405_000));
            assert_eq!(frame.properties.len(), 4);
        }
        let [_, compact] = frames;
        let contents: Vec<_> = compact.properties.into_iter().map(|(_, content)| content).collect();
        let text = Content::Text("server room".into());
        assert_eq!(contents, [Content::Float(3.71), Content::Int(-3), Content::Bool(true), text]);
    }

    #[test]
    fn an_event_alone_is_enough_and_a_dash_is_nobody() {
        for line in ["x", "x -", r#"{"event":"x"}"#, r#" {"event":"x","distinct_id":"-"} "#] {
            let frame = parse(line.as_bytes()).unwrap();
            assert_eq!((&*frame.event, frame.distinct_id, frame.uuid), ("x", None, None), "{line}");
        }
    }

    #[test]
    fn the_name_of_the_devices_library_is_kept_under_another_key() {
        let frame = parse(br#"{"event":"x","properties":{"$lib":"quillet","$lib_version":"0.1.0"}},"#).unwrap();
        let keys: Vec<_> = frame.properties.iter().map(|(key, _)| &**key).collect();
        assert_eq!(keys, ["device_lib", "device_lib_version"]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let many = format!("x - {}", "a=1 ".repeat(PROPERTIES_MAX + 1));
        for (line, fault) in [
            (&b"\xff"[..], Fault::NotUtf8),
            (b"", Fault::NoEvent),
            (b"{}", Fault::NoEvent),
            (br#"{"event":""}"#, Fault::NoEvent),
            (br#"{"event":7}"#, Fault::NotJson),
            (br#"{"event":"x""#, Fault::NotJson),
            (br#"{"event":"x","user":"y"}"#, Fault::NotJson),
            (br#"{"event":"x","uuid":"7"}"#, Fault::BadUuid),
            (br#"{"event":"x","timestamp":"yesterday"}"#, Fault::BadTime),
            (br#"{"event":"x","properties":{"a":1e999}}"#, Fault::BadProperty),
            (br#"{"event":"x","properties":{"a":"\ud800"}}"#, Fault::BadProperty),
            (b"Host: localhost", Fault::BadEvent),
            (b"[1,2,3]", Fault::BadEvent),
            (b"\0", Fault::BadEvent),
            (b"x - #00000000-0000-0000-0000-000000000000", Fault::BadUuid),
            (br#"{"event":"x","uuid":"00000000-0000-0000-0000-000000000000"}"#, Fault::BadUuid),
            (b"x - #7", Fault::BadUuid),
            (b"x - @-1", Fault::BadTime),
            (b"x - y", Fault::BadProperty),
            (b"x - y=%zz", Fault::BadProperty),
            (b"x - y=%ff", Fault::NotUtf8),
            (many.as_bytes(), Fault::TooManyProperties),
        ] {
            assert_eq!(parse(line).unwrap_err(), fault, "{}", String::from_utf8_lossy(line));
        }
    }
}
