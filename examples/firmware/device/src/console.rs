//! Text to, and arguments from, whoever runs the device: by semihosting, which an emulator or a debug probe answers.

#![allow(unsafe_code, reason = "semihosting is one instruction")]

use core::arch::asm;
use core::fmt;
use heapless::String;

/// Longest line.
const LINE_BYTES: usize = 160;

const SYS_WRITE0: usize = 0x04;
const SYS_GET_CMDLINE: usize = 0x15;
const SYS_EXIT: usize = 0x18;
const APPLICATION_EXIT: usize = 0x20026;
const RUN_TIME_ERROR: usize = 0x20023;

/// Prints a line.
pub fn line(text: fmt::Arguments<'_>) {
    let mut line = String::<LINE_BYTES>::new();
    // What does not fit is cut off: a console is no place to fail.
    let _ = fmt::write(&mut line, text);
    while line.len() > LINE_BYTES - 2 {
        line.pop();
    }
    let _ = line.push_str("\n\0");
    call(SYS_WRITE0, line.as_ptr() as usize);
}

/// The number that was passed as `name=number` when the device was started.
pub fn argument(name: &str) -> Option<u32> {
    let mut text = [0_u8; LINE_BYTES];
    let mut block = [text.as_mut_ptr() as usize, text.len()];
    if call(SYS_GET_CMDLINE, block.as_mut_ptr() as usize) != 0 {
        return None;
    }
    let len = text.iter().position(|&byte| byte == 0)?;
    let words = core::str::from_utf8(text.get(..len)?).ok()?;
    let mut values = words.split(' ').filter_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    values.next()?.parse().ok()
}

/// Ends the run.
pub fn exit(ok: bool) -> ! {
    loop {
        call(SYS_EXIT, if ok { APPLICATION_EXIT } else { RUN_TIME_ERROR });
    }
}

#[cfg(target_arch = "arm")]
fn call(operation: usize, argument: usize) -> usize {
    let result;
    // SAFETY: this breakpoint is a call to the debugger, which reads and writes what the argument points to.
    unsafe { asm!("bkpt #0xab", inout("r0") operation => result, in("r1") argument) };
    result
}

#[cfg(target_arch = "riscv32")]
fn call(operation: usize, argument: usize) -> usize {
    let result;
    // SAFETY: as above; the two shifts around the breakpoint say that it is such a call, and must be uncompressed.
    unsafe {
        asm!(
            ".balign 16", ".option push", ".option norvc",
            "slli x0, x0, 0x1f", "ebreak", "srai x0, x0, 7",
            ".option pop",
            inout("a0") operation => result, in("a1") argument
        );
    };
    result
}

#[cfg(not(any(target_arch = "arm", target_arch = "riscv32")))]
fn call(_: usize, _: usize) -> usize {
    usize::MAX
}

#[macro_export]
/// Prints a line, as `println!` does where there is a standard library.
macro_rules! say {
    ($($text:tt)*) => { $crate::console::line(format_args!($($text)*)) };
}
