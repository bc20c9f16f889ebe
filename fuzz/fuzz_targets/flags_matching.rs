//! A property against an operand, by every operator: nothing panics, and opposites are opposite.

#![no_main]

#[path = "flags/bodies.rs"]
#[allow(dead_code, reason = "each target uses one of them")]
mod bodies;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|texts: (&str, &str)| bodies::matching(texts.0, texts.1));
