//! Counts instructions and the bytes of stack that a call takes.
//!
//! SysTick counts the emulated core's clock, which QEMU ties to the number of instructions (`-icount`). The stack is painted
//! before the call; what was painted over afterwards is what the call has used.

use core::arch::asm;
use core::ptr::{read_volatile, write_volatile};
use cortex_m::Peripherals;
use cortex_m::peripheral::{SYST, syst::SystClkSource};

/// Depth to which the stack is painted: more than anything here may use.
const PAINTED_BYTES: usize = 4096;
/// A word that no program writes by chance.
const PAINT: u32 = 0xc5c5_5c5c;
/// Between the painter's own frame and the paint.
const MARGIN_BYTES: usize = 64;

/// What one call took.
#[derive(Clone, Copy)]
pub struct Cost {
    /// Ticks of the core's clock.
    pub ticks: u32,
    /// Bytes of stack below the caller's.
    pub stack: u32,
}

pub struct Meter;

impl Meter {
    pub fn new() -> Self {
        if let Some(mut board) = Peripherals::take() {
            board.SYST.set_clock_source(SystClkSource::Core);
            board.SYST.set_reload(0x00ff_ffff);
            board.SYST.clear_current();
            board.SYST.enable_counter();
        }
        Self
    }

    #[inline(never)]
    pub fn measure(&mut self, call: impl FnOnce()) -> Cost {
        let top = paint();
        let before = SYST::get_current();
        apart(call);
        let after = SYST::get_current();
        // The counter has 24 bits and runs down.
        Cost { ticks: before.wrapping_sub(after) & 0x00ff_ffff, stack: depth(top) }
    }
}

/// Its frame lies below the paint's end, whatever is inlined into it.
#[inline(never)]
fn apart(call: impl FnOnce()) {
    call();
}

fn stack_pointer() -> usize {
    let pointer: usize;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, sp", out(reg) pointer) };
    pointer
}

/// Paints the free stack; returns where the paint ends.
#[inline(always)]
fn paint() -> usize {
    let top = stack_pointer() - MARGIN_BYTES;
    for address in (top - PAINTED_BYTES..top).step_by(4) {
        // SAFETY: free RAM below the stack pointer; nothing but an interrupt would use it, and none is enabled.
        unsafe { write_volatile(address as *mut u32, PAINT) };
    }
    top
}

/// Bytes below the caller that are no longer painted.
#[inline(always)]
fn depth(top: usize) -> u32 {
    let mut lowest = top - PAINTED_BYTES;
    // SAFETY: as above.
    while lowest < top && unsafe { read_volatile(lowest as *const u32) } == PAINT {
        lowest += 4;
    }
    (top + MARGIN_BYTES - lowest) as u32
}

/// `name=number`, on a line of its own.
pub fn say(name: &str, number: u32) {
    for byte in name.bytes() {
        put(byte);
    }
    put(b'=');
    let mut digits = [0; 10];
    let (mut rest, mut count) = (number, 0);
    for slot in &mut digits {
        *slot = b'0' + (rest % 10) as u8;
        (rest, count) = (rest / 10, count + 1);
        if rest == 0 {
            break;
        }
    }
    for &digit in digits.iter().take(count).rev() {
        put(digit);
    }
    put(b'\n');
}

/// SYS_WRITEC.
fn put(byte: u8) {
    semihosting(3, &raw const byte as usize);
}

/// SYS_EXIT: the application ended.
pub fn end() -> ! {
    semihosting(0x18, 0x20026);
    loop {
        cortex_m::asm::nop();
    }
}

fn semihosting(operation: usize, argument: usize) {
    // SAFETY: the breakpoint with this number is a call to the debugger, which reads what the argument says.
    unsafe { asm!("bkpt #0xab", inout("r0") operation => _, in("r1") argument) };
}
