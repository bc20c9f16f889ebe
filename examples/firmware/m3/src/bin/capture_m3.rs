//! Readings from the main loop and ticks from SysTick, delivered over Ethernet.

#![no_std]
#![no_main]

use cortex_m_rt::entry;
use device::console;
use m3::{Board, HOST, SERIAL};

#[entry]
fn main() -> ! {
    let Some(Board { link, retained }) = Board::start() else { console::exit(false) };
    device::app::run(retained, link, HOST, SERIAL)
}
