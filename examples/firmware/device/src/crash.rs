//! What a device does when its program fails: one more event, then a reset. The next boot delivers it with the others.

use crate::{console, say, uptime};
use core::fmt::{self, Write as _};
use heapless::String;
use quillet_core::{Common, Event, Exception, Level, SharedLane};

/// The lane nothing else captures into: a panic in the middle of a capture finds the other one in use.
pub static CRASHES: SharedLane = SharedLane::new();

/// Records what happened and resets the device.
pub fn crash(kind: &str, what: fmt::Arguments<'_>, place: fmt::Arguments<'_>) -> ! {
    let (mut message, mut stack) = (String::<96>::new(), String::<64>::new());
    // What does not fit is cut off.
    let _ = (message.write_fmt(what), stack.write_fmt(place));
    let exception = Exception::new(kind, &message).level(Level::Fatal).handled(false).stack_text(&stack);
    let told =
        CRASHES.capture(&Event::exception(crate::app::DEVICE, &exception), &Common::default(), uptime::timestamp());
    match told {
        Ok(_) => say!("{kind}: {message}"),
        Err(error) => say!("{kind}: {message}; not recorded: {error}"),
    }
    reset()
}

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    match info.location() {
        Some(place) => crash("panic", format_args!("{}", info.message()), format_args!("{place}")),
        None => crash("panic", format_args!("{}", info.message()), format_args!("?")),
    }
}

/// Does what no processor can.
pub fn fault() {
    #[cfg(target_arch = "arm")]
    cortex_m::asm::udf();
    #[cfg(target_arch = "riscv32")]
    // SAFETY: an instruction that is none; the processor goes on in its fault handler.
    unsafe {
        core::arch::asm!("unimp");
    }
}

/// A warm reset: RAM keeps what it holds.
pub fn reset() -> ! {
    #[cfg(target_arch = "arm")]
    cortex_m::peripheral::SCB::sys_reset();
    #[cfg(target_arch = "riscv32")]
    {
        // The `virt` board's test device: this value means a reset.
        const FINISHER: *mut u32 = 0x10_0000 as *mut u32;
        // SAFETY: a device register of the board.
        unsafe { FINISHER.write_volatile(0x7777) };
    }
    #[allow(unreachable_code)]
    console::exit(false)
}
