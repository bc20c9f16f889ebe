//! Whether some bytes are a frame: one event of ours, whole.
//!
//! In: bytes from a file or from memory that outlived its process, so from nobody one may trust. Out: yes or no. What
//! passes can be sent as it is, next to any other frame: no server refuses a batch because of its shape.

use crate::limits::FRAME_END_BYTES;
use crate::raw::{RawJsonErrorKind, Validator};
use crate::uuid::Uuid;
use crate::wire::event::FRAME_TAIL;
use crate::wire::key;
use crate::wire::timestamp::Timestamp;

/// Whether `bytes` are one event as the encoder writes it: the fixed beginning with a uuid and a timestamp, a name, a
/// distinct id, an object of properties, nothing else, then a comma and the only newline. Spaces before it are allowed.
///
/// Linear in the length; allocates nothing. Strict: every string is UTF-8 without raw control bytes, every value is JSON
/// nested no deeper than [`DEPTH_MAX`](crate::limits::DEPTH_MAX), every number fits a 64-bit float.
#[must_use]
pub fn is_frame(bytes: &[u8]) -> bool {
    let start = bytes.iter().position(|&byte| byte != b' ').unwrap_or(bytes.len());
    let event = bytes.get(start..).unwrap_or_default();
    let Some(event) = event.strip_suffix(b",\n") else { return false };
    let is_text = core::str::from_utf8(event).is_ok();
    is_text && event.iter().all(|&byte| byte >= b' ') && check(event).is_ok()
}

fn check(event: &[u8]) -> Result<(), RawJsonErrorKind> {
    let mut scan = Validator::new(event);
    scan.literal(b"{\"uuid\":\"")?;
    fixed(&mut scan, event, 36, |text| Uuid::parse(text).is_some_and(|uuid| uuid.hyphenated() == *text.as_bytes()))?;
    scan.literal(b"\",\"timestamp\":\"")?;
    fixed(&mut scan, event, Timestamp::TEXT_BYTES, |text| {
        Timestamp::parse(text).is_some_and(|time| time.text() == *text.as_bytes())
    })?;
    scan.literal(b"\",\"event\":")?;
    some_string(&mut scan)?;
    scan.literal(b",\"")?;
    scan.literal(key::DISTINCT_ID.as_bytes())?;
    scan.literal(b"\":")?;
    some_string(&mut scan)?;
    scan.literal(b",\"properties\":{")?;
    // The first property is `$lib`, so there is one.
    loop {
        scan.string()?;
        scan.require(b':')?;
        scan.value()?;
        match scan.peek() {
            Some(b',') => scan.require(b',')?,
            _ => break,
        }
    }
    let (end, _) = FRAME_TAIL.split_at(FRAME_TAIL.len() - FRAME_END_BYTES);
    scan.literal(end)?;
    if scan.peek().is_none() { Ok(()) } else { Err(RawJsonErrorKind::UnexpectedByte) }
}

/// The next `len` bytes, which `is_right` has to like.
fn fixed(
    scan: &mut Validator<'_>,
    event: &[u8],
    len: usize,
    is_right: impl Fn(&str) -> bool,
) -> Result<(), RawJsonErrorKind> {
    let text = event.get(scan.at..).and_then(|rest| rest.get(..len)).and_then(|text| core::str::from_utf8(text).ok());
    if !text.is_some_and(is_right) {
        return Err(RawJsonErrorKind::UnexpectedByte);
    }
    scan.at = scan.at.saturating_add(len);
    Ok(())
}

/// A string that is not empty: the server refuses a whole batch for an event without a name or an id.
fn some_string(scan: &mut Validator<'_>) -> Result<(), RawJsonErrorKind> {
    let start = scan.at;
    scan.string()?;
    if scan.at.saturating_sub(start) > 2 { Ok(()) } else { Err(RawJsonErrorKind::UnexpectedByte) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]

    use std::vec::Vec;

    use super::*;
    use crate::{Common, Event, Exception, Property, Stamper, Value, limits, props};

    fn frame(event: &Event<'_>) -> Vec<u8> {
        let mut bytes = std::vec![0; 4096];
        let now = Timestamp::from_unix_ms(1_795_000_000_000);
        let encoded = event.encode(&mut Stamper::new([7, 8]), &Common::default(), now, &mut bytes).unwrap();
        bytes.truncate(encoded.len);
        bytes.extend_from_slice(b",\n");
        bytes
    }

    #[test]
    fn whatever_the_encoder_writes_is_a_frame() {
        let inner = [Value::from(1)];
        let deep = Value::Array(&inner);
        let properties = [Property::new("deep", deep), Property::new("text", "\n\t\"\\ \u{2028} é 😀")];
        let exception = Exception::new("Error", "it \"broke\"\n");
        for event in [
            Event::new("e", "d"),
            Event::new("name \"quoted\" \u{0}", "id \\ ü").properties(&properties),
            Event::identify("d").set(props! { "plan": "pro", "nothing": Value::Null }),
            Event::alias("d", "other"),
            Event::group_identify("company", "acme").set(props! { "n": -1.5e-300 }),
            Event::exception("", &exception),
            Event::new("big", "d").properties(props! { "n": u64::MAX }),
        ] {
            let bytes = frame(&event);
            assert!(is_frame(&bytes), "{}", std::string::String::from_utf8_lossy(&bytes));
            let blank = [b"    ".as_slice(), &bytes].concat();
            assert!(is_frame(&blank), "blanks before it");
        }
    }

    #[test]
    fn the_deepest_value_the_encoder_takes_is_taken_back() {
        let mut text = std::string::String::new();
        (0..limits::DEPTH_MAX).for_each(|_| text.push('['));
        (0..limits::DEPTH_MAX).for_each(|_| text.push(']'));
        let raw = crate::RawJson::parse(&text).unwrap();
        assert!(is_frame(&frame(&Event::new("e", "d").properties(&[Property::new("deep", Value::Raw(raw))]))));
    }

    #[test]
    fn a_frame_with_any_byte_missing_is_none() {
        let whole = frame(&Event::new("name", "id").properties(props! { "a": "b" }));
        for len in 0..whole.len() {
            assert!(!is_frame(&whole[..len]), "cut to {len}");
            assert!(!is_frame(&whole[len + 1..]), "begun at {}", len + 1);
            // A byte less in a name, a key or a value gives another event; anywhere else it gives none.
            let mut less = whole.clone();
            let gone = less.remove(len);
            assert!(!is_frame(&less) || len > 87 && (gone.is_ascii_alphanumeric() || b".$_".contains(&gone)), "{len}");
        }
    }

    #[test]
    fn a_frame_with_a_byte_that_no_text_has_is_none() {
        let whole = frame(&Event::new("name", "id").properties(props! { "a": "b" }));
        for at in 0..whole.len() {
            for byte in [0, b'\n', 0x1f, 0x80, 0xff, b'"'] {
                let mut damaged = whole.clone();
                damaged[at] = byte;
                assert!(damaged == whole || !is_frame(&damaged), "{byte} at {at}");
            }
        }
    }

    #[test]
    fn what_a_server_would_refuse_a_batch_for_is_none() {
        let whole = std::string::String::from_utf8(frame(&Event::new("name", "id"))).unwrap();
        for (from, to) in [
            ("\"name\"", "\"\""),
            ("\"id\"", "\"\""),
            ("\"id\"", "7"),
            ("\"name\"", "null"),
            ("}},\n", "},\"event\":\"other\"},\n"),
            ("}},\n", "}}{},\n"),
            ("}},\n", "}}},\n"),
            ("}},\n", "}},"),
            ("}},\n", ",\"a\":1e999}},\n"),
            ("}},\n", ",\"a\":}},\n"),
            ("}},\n", ",}},\n"),
            ("2026", "2026-"),
            ("{\"uuid\":\"", "{\"uuid\":\"g"),
        ] {
            assert!(whole.contains(from), "{from}");
            assert!(!is_frame(whole.replace(from, to).as_bytes()), "{from} → {to}");
        }
    }
}
