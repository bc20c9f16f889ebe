//! The small parsers of text that strangers write: timestamps, uuids, `Retry-After`.
//!
//! None panics, and what one of them takes, it prints in a form that it reads as the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use quillet_core::retry::parse_retry_after;
use quillet_core::{Timestamp, Uuid};

fuzz_target!(|bytes: &[u8]| {
    let now = Timestamp::from_unix_ms(1_795_000_000_000);
    let relative = parse_retry_after(bytes, None);
    assert!(relative.is_none() || relative == parse_retry_after(bytes, Some(now)), "seconds need no clock");

    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Some(timestamp) = Timestamp::parse(text) {
        let printed = timestamp.text();
        assert_eq!(Timestamp::parse(str::from_utf8(&printed).unwrap()), Some(timestamp));
        assert!(timestamp <= Timestamp::MAX);
    }
    if let Some(uuid) = Uuid::parse(text) {
        let printed = uuid.hyphenated();
        assert_eq!(Uuid::parse(str::from_utf8(&printed).unwrap()), Some(uuid));
        assert!(text.eq_ignore_ascii_case(str::from_utf8(&printed).unwrap()) || text.len() == 32);
    }
});
