//! Signal handlers of the program's own, which were there before the client's.

#![allow(unsafe_code, reason = "its purpose")]

use core::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::Request;

/// What the handlers find.
pub(crate) fn before(request: &Request) {
    for (option, handler) in
        [("handles", handle as Handler), ("resets", reset), ("aborts", abort), ("exits_there", exit)]
    {
        if request.has(option) {
            install(libc::SIGSEGV, handler as usize, libc::SA_SIGINFO);
        }
    }
    if request.has("handles_plainly") {
        install(libc::SIGSEGV, count as extern "C" fn(c_int) as usize, 0);
    }
    if request.has("handles_abort") {
        install(libc::SIGABRT, count as extern "C" fn(c_int) as usize, 0);
    }
    if request.has("measure") {
        measure();
    }
    if request.has("ignores") {
        install(libc::SIGSEGV, libc::SIG_IGN, 0);
    }
    if request.has("no_stack") {
        // SAFETY: takes the alternate stack away that the standard library gave this thread.
        unsafe {
            let mut none: libc::stack_t = core::mem::zeroed();
            none.ss_flags = libc::SS_DISABLE;
            libc::sigaltstack(&raw const none, core::ptr::null_mut());
        }
    }
}

/// Bytes of the alternate stack that [`measure`] gives this thread, and what they are painted with.
const STACK_BYTES: usize = 64 * 1024;
const PAINT: u8 = 0xa5;

/// Where the painted stack begins, and where the kernel put what it tells the handler, just above the handler's frame.
static STACK: AtomicUsize = AtomicUsize::new(0);
static TOLD_AT: AtomicUsize = AtomicUsize::new(0);

/// Gives this thread a painted stack for its handlers.
fn measure() {
    let stack = vec![PAINT; STACK_BYTES].leak();
    STACK.store(stack.as_ptr().expose_provenance(), Ordering::SeqCst);
    // SAFETY: memory that is never freed.
    unsafe {
        let stack = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: STACK_BYTES };
        assert_eq!(libc::sigaltstack(&raw const stack, core::ptr::null_mut()), 0);
    }
}

/// Says how many bytes below what the kernel wrote were ever used.
pub(crate) fn report(request: &Request) {
    if request.has("measure") {
        let (stack, told_at) = (STACK.load(Ordering::SeqCst), TOLD_AT.load(Ordering::SeqCst));
        // SAFETY: the stack from above, on which no handler runs now.
        let bytes =
            unsafe { core::slice::from_raw_parts(core::ptr::with_exposed_provenance::<u8>(stack), STACK_BYTES) };
        let unused = bytes.iter().take_while(|byte| **byte == PAINT).count();
        println!("handler_stack.{}", told_at - stack - unused);
    }
}

type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

fn install(signal: c_int, handler: usize, flags: c_int) {
    // SAFETY: zeros are a valid action; the handler has the signature that the flags ask for.
    unsafe {
        let mut action: libc::sigaction = core::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = flags | libc::SA_ONSTACK;
        assert_eq!(libc::sigaction(signal, &raw const action, core::ptr::null_mut()), 0);
    }
}

fn say(text: &str) {
    // SAFETY: bytes of a text.
    unsafe { libc::write(1, text.as_ptr().cast(), text.len()) };
}

/// Deals with a write to address 0x10 by letting the program go on behind it; with one that was sent, by doing nothing.
extern "C" fn handle(_: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    say("handled.1\n");
    TOLD_AT.store(info.addr(), Ordering::SeqCst);
    // SAFETY: what the kernel passes.
    unsafe {
        if (*info).si_code > 0 {
            skip_instruction(context);
        }
    }
}

/// Goes on behind the faulting instruction, which stores one byte.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
unsafe fn skip_instruction(context: *mut c_void) {
    // SAFETY: the kernel's context, of a fault at an instruction whose length is looked up in its first bytes.
    unsafe {
        let counter = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_RIP as usize];
        let code = core::slice::from_raw_parts(*counter as *const u8, 2);
        // `mov byte [reg], imm8` or `mov byte [reg], reg8`.
        *counter += if code[0] == 0xc6 { 3 } else { 2 };
    }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
unsafe fn skip_instruction(_: *mut c_void) {
    exit_now(9);
}

/// What the standard library's handler does with a fault it does not know.
extern "C" fn reset(signal: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {
    say("reset.1\n");
    install(signal, libc::SIG_DFL, 0);
}

extern "C" fn abort(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {
    say("aborts.1\n");
    std::process::abort();
}

extern "C" fn exit(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {
    exit_now(9);
}

extern "C" fn count(_: c_int) {
    say("counted.1\n");
}

fn exit_now(code: i32) {
    // SAFETY: a number.
    unsafe { libc::_exit(code) };
}
