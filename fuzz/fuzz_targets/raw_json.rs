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
    assert!(minified.iter().all(|&byte| byte >= 0x20), "a raw control byte would tear the frame");
    assert_eq!(serde_json::from_slice::<Value>(&minified).unwrap(), theirs);
});

/// Levels of arrays and objects. May be less than what the text has: of equal keys, serde_json keeps one.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Value::Object(properties) => 1 + properties.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
