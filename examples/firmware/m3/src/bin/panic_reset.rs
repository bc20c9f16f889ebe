//! A device that fails in the middle of capturing, and tells about it after its reset.

#![no_std]
#![no_main]

use cortex_m_rt::entry;
use device::console;
use m3::{Board, HOST, SERIAL};

#[entry]
fn main() -> ! {
    let Some(Board { link, retained }) = Board::start() else { console::exit(false) };
    device::app::fail_once(retained, link, HOST, SERIAL)
}
