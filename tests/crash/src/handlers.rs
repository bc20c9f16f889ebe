//! Signal handlers of the program's own, which were there before the client's.

#![allow(unsafe_code, reason = "its purpose")]

use core::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

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
    if request.has("waits") {
        install(libc::SIGSEGV, wait as Handler as usize, libc::SA_SIGINFO);
    }
    if request.has("unwinds") {
        install(libc::SIGSEGV, unwind as extern "C-unwind" fn(c_int) as usize, 0);
    }
    if request.has("masks") {
        install(libc::SIGSEGV, look_at_mask as extern "C" fn(c_int) as usize, libc::SA_NODEFER);
    }
    if request.has("unguarded") {
        forbid_handlers_of_sigbus();
    }
    if request.has("handles_plainly") {
        install(libc::SIGSEGV, count as extern "C" fn(c_int) as usize, 0);
    }
    for (option, flags) in [
        // As a runtime installs it that knows nothing of alternate stacks, that has its own nested, that wants one call.
        ("handles_on_own_stack", libc::SA_SIGINFO),
        ("handles_nested", libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER | libc::SA_RESTART),
        ("handles_once", libc::SA_SIGINFO | libc::SA_RESETHAND),
    ] {
        if request.has(option) {
            install_with(libc::SIGSEGV, handle as Handler as usize, flags);
        }
    }
    if request.has("forwards") {
        // As Go does with a signal that is none of its own: it found nobody before it, resets, and sends it again.
        install(libc::SIGSEGV, forward as Handler as usize, libc::SA_SIGINFO | libc::SA_RESTART);
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

/// Gives this thread a painted stack for its handlers, which has room for much.
pub(crate) fn measure() {
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
    install_with(signal, handler, flags | libc::SA_ONSTACK);
}

fn install_with(signal: c_int, handler: usize, flags: c_int) {
    // SAFETY: zeros are a valid action; the handler has the signature that the flags ask for.
    unsafe {
        let mut action: libc::sigaction = core::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        libc::sigaddset(&raw mut action.sa_mask, libc::SIGUSR2);
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

/// Resets the signal, and sends it once more to the thread it came to.
extern "C" fn forward(signal: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {
    say("forwarded.1\n");
    install(signal, libc::SIG_DFL, 0);
    // SAFETY: a number.
    unsafe { libc::raise(signal) };
}

/// Installed after the client's: deals with nothing and calls the one it found, as a handler should.
extern "C" fn call_the_one_before(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    say("in_front.1\n");
    let found = FOUND.load(Ordering::SeqCst);
    // SAFETY: the client's handler, which was installed with SA_SIGINFO.
    let found: Handler = unsafe { core::mem::transmute(found) };
    found(signal, info, context);
}

/// What [`call_the_one_before`] calls.
static FOUND: AtomicUsize = AtomicUsize::new(0);

/// Handlers that come after the client's.
pub(crate) fn after(request: &Request) {
    if request.has("in_front") {
        // SAFETY: a place for the answer.
        unsafe {
            let mut found: libc::sigaction = core::mem::zeroed();
            assert_eq!(libc::sigaction(libc::SIGSEGV, core::ptr::null(), &raw mut found), 0);
            assert_ne!(found.sa_flags & libc::SA_SIGINFO, 0);
            FOUND.store(found.sa_sigaction, Ordering::SeqCst);
        }
        install(libc::SIGSEGV, call_the_one_before as Handler as usize, libc::SA_SIGINFO);
    }
}

extern "C" fn abort(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {
    say("aborts.1\n");
    std::process::abort();
}

extern "C" fn exit(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {
    exit_now(9);
}

/// Somebody is in [`wait`], and may leave it.
static IS_ENTERED: AtomicBool = AtomicBool::new(false);
static MAY_LEAVE: AtomicBool = AtomicBool::new(false);

/// Takes its time, or for ever.
extern "C" fn wait(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {
    IS_ENTERED.store(true, Ordering::SeqCst);
    while !MAY_LEAVE.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
}

/// Until a thread is in the handler.
pub(crate) fn wait_until_entered() {
    while !IS_ENTERED.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
}

/// Ends the handler.
pub(crate) fn let_go() {
    MAY_LEAVE.store(true, Ordering::SeqCst);
}

/// Throws, as the runtimes of some languages do that make errors of signals.
extern "C-unwind" fn unwind(signal: c_int) {
    say("unwinds.1\n");
    // SAFETY: a mask of this thread's own. Nobody returns from this handler, so nobody else unblocks the signal.
    unsafe {
        let mut mask: libc::sigset_t = core::mem::zeroed();
        libc::sigaddset(&raw mut mask, signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const mask, core::ptr::null_mut());
    }
    std::panic::resume_unwind(Box::new(signal));
}

/// Says what is blocked while it runs: what it asked for, and not its own signal.
extern "C" fn look_at_mask(signal: c_int) {
    // SAFETY: a place for the answer.
    let (own, asked) = unsafe {
        let mut mask: libc::sigset_t = core::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, core::ptr::null(), &raw mut mask);
        (libc::sigismember(&raw const mask, signal), libc::sigismember(&raw const mask, libc::SIGUSR2))
    };
    say(if (own, asked) == (0, 1) { "mask.1\n" } else { "mask.0\n" });
}

/// From here on the kernel refuses new handlers for SIGBUS, as a sandbox may.
#[cfg(target_os = "linux")]
fn forbid_handlers_of_sigbus() {
    const LOAD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const ANSWER: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    const REFUSE: u32 = 0x0005_0000 | libc::EPERM as u32;
    /// Where in what the filter sees the number and the lower halves of the first two arguments are.
    const NUMBER: u32 = 0;
    const FIRST: u32 = if cfg!(target_endian = "little") { 16 } else { 20 };
    const SECOND: u32 = FIRST + 8;
    let step = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let mut steps = [
        step(LOAD, NUMBER, 0, 0),
        step(JUMP_IF_EQUAL, libc::SYS_rt_sigaction as u32, 0, 5),
        step(LOAD, FIRST, 0, 0),
        step(JUMP_IF_EQUAL, libc::SIGBUS as u32, 0, 3),
        // Without a new action it is only a question.
        step(LOAD, SECOND, 0, 0),
        step(JUMP_IF_EQUAL, 0, 1, 0),
        step(ANSWER, REFUSE, 0, 0),
        step(ANSWER, ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: a program of so many steps, which the kernel checks and copies.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}

#[cfg(not(target_os = "linux"))]
fn forbid_handlers_of_sigbus() {}

extern "C" fn count(_: c_int) {
    say("counted.1\n");
}

fn exit_now(code: i32) {
    // SAFETY: a number.
    unsafe { libc::_exit(code) };
}
