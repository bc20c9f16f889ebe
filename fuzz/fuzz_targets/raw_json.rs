//! The check of the caller's own JSON against serde_json: what we let into a frame must parse there, as the same value.

#![no_main]

use libfuzzer_sys::fuzz_target;
use quillet_core::limits::DEPTH_MAX;
use quillet_core::{RawJson, RawJsonErrorKind};
use serde_json::Value;

fuzz_target!(|text: &str| {
    let theirs = serde_json::from_str::<Value>(text);
    let ours = match RawJson::parse(text) {
        Ok(ours) => ours,
        // Here alone ours is the stricter one.
        Err(error) if error.kind == RawJsonErrorKind::TooDeep => {
            assert!(text.matches(['[', '{']).count() > DEPTH_MAX, "too few brackets to be too deep");
            return;
        }
        Err(error) => return assert!(theirs.is_err(), "refused, though serde_json takes it: {error}"),
    };
    let theirs = theirs.expect("let through, though serde_json refuses it");
    assert!(depth(&theirs) <= ours.depth() && ours.depth() <= DEPTH_MAX);

    let mut minified = Vec::new();
    ours.write_minified(&mut |run| minified.extend_from_slice(run));
    assert_eq!(minified.len(), ours.minified_len());
    assert!(minified.len() <= text.len());
    assert!(minified.iter().all(|&byte| byte >= 0x20), "a raw control byte would tear the frame");
    assert_eq!(serde_json::from_slice::<Value>(&minified).unwrap(), theirs);
    let minified = std::str::from_utf8(&minified).expect("whole characters");
    assert_eq!(needless_escape(minified), None);
});

/// The first escape of a character that needs none.
fn needless_escape(minified: &str) -> Option<&str> {
    let mut rest = minified;
    while let Some(at) = rest.find('\\') {
        let escape = &rest[at..];
        let len = match escape.as_bytes() {
            [_, b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            [_, b'u', b'0', b'0', b'0' | b'1', _, ..] => 6,
            _ => return Some(escape),
        };
        rest = &escape[len..];
    }
    None
}

/// Levels of arrays and objects. May be less than what the text has: of equal keys, serde_json keeps one.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Value::Object(properties) => 1 + properties.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
