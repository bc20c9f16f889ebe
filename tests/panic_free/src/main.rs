//! Capture, as firmware links it, from a ring's formatting to a committed frame: an ELF in which scripts/check-panic-free
//! looks for panics.
//!
//! In: nothing that a compiler could know: lane, event and time come from outside. Out: two functions, which are all that
//! the linker is told to keep. Whatever they can reach is in the ELF, and nothing else is.

#![no_std]
#![no_main]

use core::panic::PanicInfo;

use quillet_core::{Common, Event, Lane, Ring, Stamper, Timestamp};

/// Any event, with any properties, into any lane.
///
/// `planted` says in which byte of a text to look: with the feature of that name, one beyond its end is a panic.
#[unsafe(no_mangle)]
pub extern "C" fn capture(
    lane: &mut Lane<'_>,
    event: &Event<'_>,
    common: &Common<'_>,
    micros: u64,
    planted: usize,
) -> bool {
    #[cfg(feature = "planted")]
    if common.as_block()[planted] == 0 {
        return false;
    }
    let _ = planted;
    lane.capture(event, common, Timestamp::from_unix_micros(micros)).is_ok()
}

/// A ring over any memory, and a lane over that; what the caller does with it is its affair.
#[unsafe(no_mangle)]
pub extern "C" fn begin(memory: &'static mut &'static mut [u8], seed: u64, keep: extern "C" fn(&mut Lane<'static>)) {
    if let Ok(ring) = Ring::format(memory) {
        let (producer, _) = ring.split();
        keep(&mut Lane::new(producer, Stamper::new([seed, !seed]), 32, 512));
    }
}

#[panic_handler]
fn panicked(_: &PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
