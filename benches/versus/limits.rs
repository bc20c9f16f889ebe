//! What a capture cannot do without.
//!
//! In: finished bytes, or nothing. Out: cases.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use quillet_support::measure::Case;

use crate::cases::{RING_BYTES, leaked};

pub const COPY: &str = "copy limit";
pub const CLOCK: &str = "the clock";

/// What is copied: a little more than the reference event, so that the limit is no closer than it is.
const BYTES: usize = 300;

/// One after the other into as much memory as every queue here has, each published by a store.
pub fn copy() -> Case<'static> {
    let (memory, head): (_, &'static AtomicUsize) = (leaked(RING_BYTES), Box::leak(Box::default()));
    let source: &'static [u8] = leaked(BYTES);
    let mut at = 0;
    Case::new(COPY, BYTES, move |count| {
        for _ in 0..count {
            let source: &[u8; BYTES] = black_box(source).try_into().unwrap();
            at = if at + BYTES > memory.len() { 0 } else { at };
            memory[at..at + BYTES].copy_from_slice(source);
            at += BYTES;
            head.store(at, Ordering::Release);
        }
    })
}

/// The wall clock at full precision, which timestamps are promised to keep to within 5 ms.
pub fn clock() -> Case<'static> {
    Case::new(CLOCK, 0, |count| {
        for _ in 0..count {
            black_box(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros());
        }
    })
}
