//! Documents of flag definitions: indexed and evaluated, whatever is in them.

#![no_main]

#[path = "flags/bodies.rs"]
#[allow(dead_code, reason = "each target uses one of them")]
mod bodies;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| bodies::definitions(text));
