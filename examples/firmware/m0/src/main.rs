//! Readings from the main loop and ticks from SysTick, delivered over a UART: 16 KB of RAM, no compare-and-swap.

#![no_std]
#![no_main]

mod uart;

use cortex_m::Peripherals;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::{ExceptionFrame, entry, exception};
use device::{console, once};
use uart::Uart;

/// Ticks of the core's clock, 16 MHz, in a millisecond.
const TICKS_PER_MS: u32 = 16_000;

/// What the server at the other end of the wire is called.
const HOST: &str = "localhost";

/// What makes this device's uuids its own: on a real board, the chip's unique number.
const SERIAL: u64 = 0x0000_7f3a;

#[entry]
fn main() -> ! {
    let (Some(mut core), Some(retained)) = (Peripherals::take(), once::retained()) else { console::exit(false) };
    core.SYST.set_clock_source(SystClkSource::Core);
    core.SYST.set_reload(TICKS_PER_MS - 1);
    core.SYST.clear_current();
    core.SYST.enable_counter();
    core.SYST.enable_interrupt();
    device::app::run(retained, Uart::start(), HOST, SERIAL)
}

#[exception]
fn SysTick() {
    device::app::on_timer();
}

#[exception]
#[allow(unsafe_code, reason = "the attribute asks for it; nothing unsafe happens here")]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    let place = format_args!("pc {:#010x}, lr {:#010x}", frame.pc(), frame.lr());
    device::crash::crash("HardFault", format_args!("the processor could not go on"), place)
}
