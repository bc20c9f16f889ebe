//! What `subject.rs` does, without quillet: the same measuring and telling, whose size is subtracted.

use crate::meter::{Meter, say};
use core::hint::black_box;

const CAPTURES: u32 = 8;

pub fn run(meter: &mut Meter) {
    for name in ["ring_bytes", "lane_bytes", "envelope_bytes", "event_bytes"] {
        say(name, black_box(0));
    }
    let mut clock = 1_795_000_000_000_000;
    let first = meter.measure(|| clock = capture_some(clock, 1));
    let more = meter.measure(|| clock = capture_some(clock, CAPTURES));
    say("first_ticks", first.ticks);
    say("captures", CAPTURES);
    say("captures_ticks", more.ticks);
    say("capture_stack", first.stack.max(more.stack));
    say("captured", black_box(0));
    say("captured_bytes", black_box(0));
}

#[inline(never)]
fn capture_some(mut micros: u64, count: u32) -> u64 {
    for n in 0..count {
        micros += 1_000;
        black_box((black_box("device-7f3a"), black_box(n), micros));
    }
    micros
}
