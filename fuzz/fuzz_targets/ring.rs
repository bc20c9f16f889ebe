//! The ring against its oracle: any operations, at any place of the positions, the wrap of `usize` included.

#![no_main]

use libfuzzer_sys::fuzz_target;
use quillet_core::ring_model::{Op, run};

fuzz_target!(|story: (u8, usize, &[u8])| {
    let (size, position, operations) = story;
    // Small rings wrap often. Below 128 bytes, what is there to align a ring may double its capacity.
    let capacity = 128 << (size % 5);
    run(capacity, position, Op::decode(operations, capacity));
});
