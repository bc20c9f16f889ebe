//! Readings from the main loop and ticks from the timer's interrupt, delivered over virtio: the same program as on a
//! Cortex-M3, with another board.

#![no_std]
#![no_main]

mod virtio;

use device::net::{Buffers, Net};
use device::once::{self, Once};
use device::{console, crash};
use riscv::interrupt::Interrupt;
use riscv_rt::entry;
use virtio::Nic;

/// Where the firmware delivers to: an address of QEMU's network behind which the host puts a server.
const SERVER: ([u8; 4], u16) = ([10, 0, 2, 100], 8000);
/// The same, for the `Host` header.
const HOST: &str = "10.0.2.100:8000";

/// What makes this device's uuids its own: on a real board, the chip's unique number.
const SERIAL: u64 = 0x0032_7f3a;

#[entry]
fn main() -> ! {
    static BUFFERS: Once<Buffers> = Once::new(Buffers::new());
    let (Some(retained), Some(buffers), Some(nic)) = (once::retained(), BUFFERS.take(), Nic::find()) else {
        device::say!("error: the board lacks something");
        console::exit(false)
    };
    let mac = nic.mac();
    timer::start();
    device::app::run(retained, Net::new(nic, mac, SERVER, buffers), HOST, SERIAL)
}

#[riscv_rt::core_interrupt(Interrupt::MachineTimer)]
fn on_timer() {
    timer::next();
    device::app::on_timer();
}

#[unsafe(export_name = "ExceptionHandler")]
#[allow(unsafe_code, reason = "a name that riscv-rt looks for")]
fn on_exception(_: &riscv_rt::TrapFrame) -> ! {
    let (cause, pc) = (riscv::register::mcause::read().code(), riscv::register::mepc::read());
    let place = format_args!("pc {pc:#010x}, cause {cause}");
    crash::crash("Exception", format_args!("the processor could not go on"), place)
}

mod timer {
    //! The CLINT's timer: an interrupt every millisecond.

    #![allow(unsafe_code, reason = "a device's registers are memory that only its manual knows of")]

    const COMPARE: *mut u32 = 0x0200_4000 as *mut u32;
    const TIME: *const u32 = 0x0200_bff8 as *const u32;
    /// At 10 MHz.
    const TICKS_PER_MS: u64 = 10_000;

    pub fn start() {
        next();
        // SAFETY: the handler is in place, being linked in.
        unsafe {
            riscv::register::mie::set_mtimer();
            riscv::interrupt::enable();
        }
    }

    /// Asks for the next interrupt, a millisecond from now.
    pub fn next() {
        let at = now().wrapping_add(TICKS_PER_MS);
        // SAFETY: registers of the board. First as late as possible, so that no half of the new value is in the past.
        unsafe {
            COMPARE.add(1).write_volatile(u32::MAX);
            COMPARE.write_volatile(at as u32);
            COMPARE.add(1).write_volatile((at >> 32) as u32);
        }
    }

    fn now() -> u64 {
        loop {
            // SAFETY: registers of the board. Read again if the lower half ran over in between.
            let (high, low, again) =
                unsafe { (TIME.add(1).read_volatile(), TIME.read_volatile(), TIME.add(1).read_volatile()) };
            if high == again {
                return u64::from(high) << 32 | u64::from(low);
            }
        }
    }
}
