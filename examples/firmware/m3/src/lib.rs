//! The board: a timer, an Ethernet controller, and RAM that a reset does not clear.

#![no_std]

mod stellaris;

use cortex_m::Peripherals;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::{ExceptionFrame, exception};
use device::net::{Buffers, Net};
use device::once::{Once, retained};
use stellaris::Mac;

/// Ticks of the core's clock, 12.5 MHz after a reset, in a millisecond.
const TICKS_PER_MS: u32 = 12_500;

/// The device's address on its network; locally administered.
const MAC: [u8; 6] = [0x02, 0x71, 0x75, 0x69, 0x6c, 0x6c];

/// Where the firmware delivers to: an address of QEMU's network behind which the host puts a server.
pub const SERVER: ([u8; 4], u16) = ([10, 0, 2, 100], 8000);
/// The same, for the `Host` header.
pub const HOST: &str = "10.0.2.100:8000";

/// What makes this device's uuids its own: on a real board, the chip's unique number.
pub const SERIAL: u64 = 0x0003_7f3a;

/// What a program needs of the board.
pub struct Board {
    /// Connects to [`SERVER`].
    pub link: Net<Mac>,
    /// RAM that a reset does not clear.
    pub retained: &'static mut [u8],
}

impl Board {
    /// Starts the timer and the network. `None` the second time.
    pub fn start() -> Option<Self> {
        static BUFFERS: Once<Buffers> = Once::new(Buffers::new());
        let mut core = Peripherals::take()?;
        core.SYST.set_clock_source(SystClkSource::Core);
        core.SYST.set_reload(TICKS_PER_MS - 1);
        core.SYST.clear_current();
        core.SYST.enable_counter();
        core.SYST.enable_interrupt();
        Some(Self { link: Net::new(Mac::start(MAC), MAC, SERVER, BUFFERS.take()?), retained: retained()? })
    }
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
