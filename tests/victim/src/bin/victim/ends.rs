//! The ways to crash. Each is the real thing where the machine can be made to do it.

#![allow(unsafe_code, reason = "its purpose")]

use std::alloc::Layout;
use std::hint::black_box;
use std::{process, thread};

/// All that [`end`] knows.
const KNOWN: [&str; 15] = [
    "panic",
    "panic_thread",
    "panic_drop",
    "abort",
    "segv",
    "bus",
    "ill",
    "fpe",
    "stack_overflow",
    "stack_overflow_thread",
    "alloc_error",
    "exit",
    "_exit",
    "return",
    "fork",
];

/// Exit status of the ends that choose one.
const STATUS: i32 = 7;

/// How the process goes on after an end that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survived {
    /// As before: there is no such end here, or this is the parent of a child.
    AsItWas,
    /// As the child.
    AsChild,
    /// By returning from `main`.
    ToReturn,
}

pub fn is_known(name: &str) -> bool {
    KNOWN.contains(&name)
}

/// Ends as asked, if there is such an end. On the thread that calls, which is the first one.
pub fn end(name: &str) -> Survived {
    match name {
        "panic" => panic!("the victim panics"),
        "panic_thread" => {
            // As a program does that takes the death of a thread for its own.
            let _ = thread::spawn(|| panic!("a thread of the victim panics")).join();
            process::exit(STATUS);
        }
        "panic_drop" => {
            let _second = PanicsInDrop;
            panic!("the victim panics, and its destructor will");
        }
        "abort" => process::abort(),
        "segv" => segv(),
        "bus" => bus(),
        "ill" => ill(),
        "fpe" => fpe(),
        "stack_overflow" => drop(black_box(overflow_the_stack(1))),
        "stack_overflow_thread" => drop(thread::spawn(|| black_box(overflow_the_stack(1))).join()),
        "alloc_error" => std::alloc::handle_alloc_error(Layout::new::<[u8; 1 << 20]>()),
        "exit" => process::exit(STATUS),
        // SAFETY: always allowed.
        "_exit" => unsafe { libc::_exit(STATUS) },
        "return" => return Survived::ToReturn,
        "fork" => return fork(),
        _ => {}
    }
    Survived::AsItWas
}

struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic!("the victim's destructor panics");
    }
}

/// Writes to a page that nobody has.
fn segv() {
    // SAFETY: it is not: the first page is never mapped, and the write ends the process, which is asked for.
    unsafe { core::ptr::without_provenance_mut::<u8>(16).write_volatile(1) };
}

/// Reads a mapped file behind its end.
fn bus() {
    // SAFETY: a mapping of our own of an empty file; the read raises SIGBUS, which is asked for.
    unsafe {
        let file = empty_file();
        let page = libc::mmap(core::ptr::null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, file, 0);
        black_box(page.cast::<u8>().read_volatile());
    }
}

/// Nothing on any disk where that can be: a driver may have filled all of them.
unsafe fn empty_file() -> i32 {
    #[cfg(target_os = "linux")]
    // SAFETY: a name that ends in a zero, and numbers.
    unsafe {
        libc::memfd_create(c"victim".as_ptr(), 0)
    }
    #[cfg(not(target_os = "linux"))]
    // SAFETY: always allowed.
    unsafe {
        libc::fileno(libc::tmpfile())
    }
}

/// An instruction that no processor has.
fn ill() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: raises SIGILL, which is asked for.
    unsafe {
        core::arch::asm!("ud2")
    };
    #[cfg(not(target_arch = "x86_64"))]
    raise(libc::SIGILL);
}

/// A division by zero, where the processor minds.
fn fpe() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: raises SIGFPE, which is asked for.
    unsafe {
        core::arch::asm!("div {zero:e}", zero = in(reg) 0, inout("eax") 1 => _, inout("edx") 0 => _)
    };
    #[cfg(not(target_arch = "x86_64"))]
    raise(libc::SIGFPE);
}

#[cfg(not(target_arch = "x86_64"))]
fn raise(signal: i32) {
    // SAFETY: always allowed.
    unsafe { libc::raise(signal) };
}

#[allow(unconditional_recursion, reason = "asked for")]
fn overflow_the_stack(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    overflow_the_stack(depth + 1) + frame.iter().sum::<u64>()
}

/// Two processes go on. Neither waits for the other: both are killed from outside.
fn fork() -> Survived {
    // SAFETY: the child goes on with this thread only; what it starts and captures needs no lock that another thread of the
    // parent may hold, except the allocator's, which the C library hands on.
    if unsafe { libc::fork() } == 0 { Survived::AsChild } else { Survived::AsItWas }
}
