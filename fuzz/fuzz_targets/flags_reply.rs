//! Answers about flags, in every shape, against serde_json's reading of them.

#![no_main]

#[path = "flags/bodies.rs"]
#[allow(dead_code, reason = "each target uses one of them")]
mod bodies;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| bodies::reply(text));
