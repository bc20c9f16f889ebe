//! Ends by signals: real faults where the processor makes them, sent ones where it does not.

#![allow(unsafe_code, reason = "its purpose")]

use std::hint::black_box;

/// Ends by the signal asked for. `false` if that is none of these ends.
pub(crate) fn end(name: &str) -> bool {
    match name {
        "segv" => write_nowhere(),
        "bus" => write_behind_a_file(),
        "ill" => illegal_instruction(),
        "fpe" => divide_by_zero(),
        "trap" => breakpoint(),
        "stack_overflow" => {
            black_box(recurse(black_box(1)));
        }
        "alloc_error" => std::alloc::handle_alloc_error(std::alloc::Layout::new::<[u8; 1 << 20]>()),
        "raise_segv" => raise(libc::SIGSEGV),
        "raise_bus" => raise(libc::SIGBUS),
        "raise_abrt" => raise(libc::SIGABRT),
        "raise_trap" => raise(libc::SIGTRAP),
        "kill" => raise(libc::SIGKILL),
        "many_threads" => many_threads(),
        _ => return false,
    }
    true
}

#[inline(never)]
fn write_nowhere() {
    // SAFETY: none; it ends the process.
    unsafe { black_box(core::ptr::without_provenance_mut::<u8>(0x10)).write_volatile(1) };
}

/// Maps a page of an empty file.
fn write_behind_a_file() {
    use std::os::fd::AsRawFd;
    let path = std::env::temp_dir().join(format!("crasher-{}", std::process::id()));
    let file = std::fs::OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    // SAFETY: none; what is mapped here has nothing behind it.
    unsafe {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let page = libc::mmap(core::ptr::null_mut(), 4096, protection, libc::MAP_SHARED, file.as_raw_fd(), 0);
        page.cast::<u8>().write_volatile(1);
    }
}

fn illegal_instruction() {
    // SAFETY: none; it ends the process.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!("ud2");
    }
    #[cfg(not(target_arch = "x86_64"))]
    raise(libc::SIGILL);
}

fn divide_by_zero() {
    // SAFETY: none; it ends the process.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!("xor edx, edx", "xor ecx, ecx", "mov eax, 1", "div ecx", out("edx") _, out("ecx") _, out("eax") _);
    }
    #[cfg(not(target_arch = "x86_64"))]
    raise(libc::SIGFPE);
}

fn breakpoint() {
    // SAFETY: none; it ends the process.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!("int3");
    }
    #[cfg(not(target_arch = "x86_64"))]
    raise(libc::SIGTRAP);
}

fn raise(signal: i32) {
    // SAFETY: a number.
    unsafe { libc::raise(signal) };
}

#[inline(never)]
#[allow(unconditional_recursion, reason = "its purpose")]
fn recurse(depth: u64) -> u64 {
    let room = black_box([depth; 64]);
    recurse(depth + 1) + room[1]
}

/// Raises a signal by which a handler may unwind.
pub(crate) fn raise_and_unwind() {
    unsafe extern "C-unwind" {
        fn raise(signal: i32) -> i32;
    }
    // SAFETY: the library's own function, which the signal's handler may unwind through.
    unsafe { raise(libc::SIGSEGV) };
}

/// Four threads get a signal at the same time.
fn many_threads() {
    let barrier = std::sync::Barrier::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                barrier.wait();
                write_nowhere();
            });
        }
    });
}

/// Runs `work` in a forked child, which does not come back from it; the signal that the child ended by.
pub(crate) fn in_child(work: impl FnOnce()) -> i32 {
    // SAFETY: the child uses what works in a forked child, and nothing else of this program.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            work();
            libc::_exit(1);
        }
        let mut status = 0;
        libc::waitpid(child, &raw mut status, 0);
        libc::WTERMSIG(status)
    }
}
