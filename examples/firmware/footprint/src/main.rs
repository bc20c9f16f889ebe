//! What capturing costs a microcontroller: the program that `firmware-tests footprint` measures.
//!
//! Three programs in one, by feature: nothing, capture, and capture with delivery. Each runs what it has under the core's
//! own counter and on a painted stack, and tells both over semihosting; the size of the file says the rest.

#![no_std]
#![no_main]
// A raw look at the stack, and the one instruction that talks to the debugger.
#![allow(unsafe_code)]

mod meter;
#[cfg_attr(not(feature = "capture"), path = "nothing.rs")]
mod subject;

use cortex_m_rt::entry;
use meter::{Meter, say};

#[entry]
fn main() -> ! {
    let mut meter = Meter::new();
    // What measuring itself costs, to be subtracted.
    let nothing = meter.measure(|| ());
    say("overhead_ticks", nothing.ticks);
    say("overhead_stack", nothing.stack);
    subject::run(&mut meter);
    meter::end()
}

/// Never reached; the test looks for panicking code that could get here.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    meter::end()
}
