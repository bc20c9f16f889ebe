//! Fatal signals: one record into a slot, then whoever was asked before has his turn, and the process ends as it would have.
//!
//! In: SEGV, BUS, ILL, FPE, ABRT and TRAP, on any thread. Out: a record in the pages of every client that asked for it,
//! *provisional* while the handlers of others run, then *committed* if none of them dealt with the signal, or gone if one
//! did. The event is made of it later, in a healthy process.
//!
//! ```text
//!  signal ─▶ owner? ─▶ record, provisional ─▶ the action before ours
//!                                               ├ default ─────────────▶ committed; default action; again, or re-fault
//!                                               └ a function: call it
//!                                                   ├ it reset the signal ─▶ as above (the standard library's does)
//!                                                   ├ it changed nothing ──▶ dealt with: empty, go on
//!                                                   └ it aborts ───────────▶ SIGABRT comes in here: the first record stays
//! ```
//!
//! Restoring the former action and raising the signal again, the usual way, leaves a process alive whose signal was sent by
//! somebody: the standard library's handler then resets the action and returns, and there is no fault to repeat.
//!
//! In the handler: loads and stores, and the raw system calls for time, ids, name, signals and, on Linux, for reading memory
//! that may not be there. No allocation, no lock that can be held by the thread it interrupted, less than 2 KiB of stack in
//! an optimised build: threads of the standard library have 8 KiB, of which the kernel may take half.

#![allow(unsafe_code, reason = "signal handlers are system calls, C functions and shared memory")]

use core::cell::UnsafeCell;
use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, Ordering};
use std::sync::Arc;

use super::file::CrashFile;
use super::slots::{self, Slots, State};
use super::turn::{Turn, Users};
use super::{panic, stack, turn};
use crate::sys::WallClock;

/// What handlers are installed for.
const SIGNALS: [c_int; 6] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT, libc::SIGTRAP];

/// Clients of one process that can be told of a signal.
const CLIENTS_MAX: usize = 8;

/// Bytes of the alternate stack for a thread that has none.
const STACK_BYTES: usize = 64 * 1024;

/// Who is told.
static TARGETS: [Target; CLIENTS_MAX] = [const { Target::none() }; CLIENTS_MAX];

/// What was there before, for each of [`SIGNALS`].
static PREVIOUS: [Previous; SIGNALS.len()] = [const { Previous::none() }; SIGNALS.len()];

/// Handlers that are using a target's memory at this moment.
static USING: Users = Users::none();

/// A handler that was there before dealt with a signal once.
static ARE_HANDLED: AtomicBool = AtomicBool::new(false);

/// Installing is done by one thread at a time. No handler takes it.
static INSTALLING: AtomicI32 = AtomicI32::new(0);

struct Target {
    pages: AtomicPtr<u8>,
    /// The crash file of the client, if it has one.
    file: AtomicPtr<CrashFile>,
    /// The process they belong to: a forked child may not have them.
    process: AtomicI32,
}

impl Target {
    const fn none() -> Self {
        Self {
            pages: AtomicPtr::new(ptr::null_mut()),
            file: AtomicPtr::new(ptr::null_mut()),
            process: AtomicI32::new(0),
        }
    }
}

struct Previous {
    is_set: AtomicBool,
    /// Our handler is in front of it, or was at a time.
    is_replaced: AtomicBool,
    action: UnsafeCell<MaybeUninit<libc::sigaction>>,
}

// SAFETY: the action is written under `INSTALLING`, before `is_set` says so and our handler, which reads it, is there.
unsafe impl Sync for Previous {}

impl Previous {
    const fn none() -> Self {
        Self {
            is_set: AtomicBool::new(false),
            is_replaced: AtomicBool::new(false),
            action: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    fn of(signal: c_int) -> Option<&'static libc::sigaction> {
        let (_, previous) = SIGNALS.iter().zip(&PREVIOUS).find(|(known, _)| **known == signal)?;
        // Acquire: pairs with the Release in `take_over`.
        if !previous.is_set.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: set, as was just seen, and not written again once our handler was installed.
        Some(unsafe { (*previous.action.get()).assume_init_ref() })
    }
}

/// Pages that are told of signals as long as this lives.
#[derive(Debug)]
pub(crate) struct Registration {
    kept: Option<(Arc<Slots>, Option<Arc<CrashFile>>)>,
}

/// Installs the handlers, once for the process, and has the pages told, and the file written. `None` if there is no room
/// for another client, or the system refuses.
pub(crate) fn install(slots: Arc<Slots>, file: Option<Arc<CrashFile>>) -> Option<Registration> {
    // Looked up now; the handler only reads it.
    let _ = stack::images();
    let _one_at_a_time = installing();
    let this = process();
    let is_free = |target: &&Target| {
        target.pages.load(Ordering::SeqCst).is_null() || target.process.load(Ordering::SeqCst) != this
    };
    let target = TARGETS.iter().find(is_free)?;
    target.pages.store(ptr::null_mut(), Ordering::SeqCst);
    target.process.store(this, Ordering::SeqCst);
    target.file.store(file.as_ref().map_or(ptr::null(), Arc::as_ptr).cast_mut(), Ordering::SeqCst);
    // Last: a target without pages is none.
    target.pages.store(slots.start().as_ptr(), Ordering::SeqCst);
    let registration = Registration { kept: Some((slots, file)) };
    give_this_thread_a_stack();
    SIGNALS.iter().all(|signal| take_over(*signal)).then_some(registration)
}

impl Drop for Registration {
    fn drop(&mut self) {
        let Some((slots, file)) = self.kept.take() else { return };
        for target in &TARGETS {
            let _ = target.pages.compare_exchange(
                slots.start().as_ptr(),
                ptr::null_mut(),
                Ordering::SeqCst,
                Ordering::SeqCst,
            );
        }
        // A handler that saw the pages a moment ago is done within microseconds, or the process is.
        for _ in 0..10_000 {
            if !USING.are_there() {
                return;
            }
            std::thread::yield_now();
        }
        // Rather keep some memory for ever than write into what somebody else was given.
        core::mem::forget((slots, file));
    }
}

/// Puts our handler in front of the one for `signal`, unless it is there or was at a time: whoever put another one in front
/// of it since may call it, and must not be called by it. INSTALLING is held.
pub(super) fn take_over(signal: c_int) -> bool {
    let Some((_, previous)) = SIGNALS.iter().zip(&PREVIOUS).find(|(known, _)| **known == signal) else { return false };
    if previous.is_replaced.load(Ordering::Relaxed) {
        return true;
    }
    let Some(before) = current(signal) else { return false };
    // It is already there where a process forked just after the next two steps.
    if before.sa_sigaction != ours() {
        // SAFETY: only our handler reads it, which is not there; and INSTALLING keeps others from writing.
        unsafe { (*previous.action.get()).write(before) };
        // Release: pairs with the Acquire in `Previous::of`. Before the handler is there, which needs it at once.
        previous.is_set.store(true, Ordering::Release);
        if !set_ours(signal) {
            return false;
        }
    }
    previous.is_replaced.store(true, Ordering::Relaxed);
    true
}

/// Held while handlers are installed.
pub(super) struct Installing;

/// Waits until no other thread of this process installs handlers. A lock of its own kind, because a forked child must not
/// wait for a thread that only its parent has: what another process holds is nobody's.
pub(super) fn installing() -> Installing {
    let this = process();
    loop {
        let holder = INSTALLING.load(Ordering::Relaxed);
        // Acquire: pairs with the Release in `Installing::drop`.
        if holder != this && INSTALLING.compare_exchange(holder, this, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            return Installing;
        }
        std::thread::yield_now();
    }
}

impl Drop for Installing {
    fn drop(&mut self) {
        INSTALLING.store(0, Ordering::Release);
    }
}

/// The calling thread gets an alternate stack for its handlers unless it has one. It is never taken away: nobody knows
/// when the thread's last signal has come.
pub(crate) fn give_this_thread_a_stack() -> bool {
    // SAFETY: a place for the answer, and memory of which one page at the low end is never touched, so that an overflow of
    // this stack too ends the process instead of writing into something.
    unsafe {
        let mut stack: libc::stack_t = core::mem::zeroed();
        if libc::sigaltstack(ptr::null(), &raw mut stack) == 0 && stack.ss_flags & libc::SS_DISABLE == 0 {
            return true;
        }
        let guard = page_bytes();
        let flags = libc::MAP_PRIVATE | libc::MAP_ANON;
        let memory = libc::mmap(ptr::null_mut(), guard + STACK_BYTES, libc::PROT_NONE, flags, -1, 0);
        if memory == libc::MAP_FAILED {
            return false;
        }
        let start = memory.byte_add(guard);
        stack.ss_sp = start;
        stack.ss_size = STACK_BYTES;
        stack.ss_flags = 0;
        libc::mprotect(start, STACK_BYTES, libc::PROT_READ | libc::PROT_WRITE) == 0
            && libc::sigaltstack(&raw const stack, ptr::null_mut()) == 0
    }
}

/// Some runtimes unwind out of a handler. Nothing in ours has to be cleaned up then.
type Handler = extern "C-unwind" fn(c_int, *mut libc::siginfo_t, *mut c_void);

extern "C-unwind" fn handle(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let errno = errno();
    // SAFETY: the kernel passes a valid description.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    if signal == libc::SIGBUS && !is_sent(code) && super::guard::repair(address) {
        set_errno(errno);
        return;
    }
    let me = me();
    let here = core::ptr::from_ref(&me).addr();
    // A panic that is about to abort was reported by the hook, with its message: that says more than "aborted".
    let is_explained = signal == libc::SIGABRT && panic::explains_abort(me);
    let mut turn =
        if is_explained { Turn::Never } else { Turn::claim(me, here, |owner_at| is_inside(context, owner_at)) };
    if turn == Turn::First {
        bring_abort_back();
        for_targets(|pages| {
            write(pages, signal, code, address, context);
            // SAFETY: pages of a target that is in use.
            unsafe { slots::set_state(pages, State::Provisional) };
        });
    }
    // The standard library's handler resets the signal for all threads. A second one that gets it then is the end, at
    // once; so the file is written before, until handlers have shown that there are signals they deal with.
    let is_written = turn != Turn::Never && !ARE_HANDLED.load(Ordering::Relaxed) && !turn::are_left();
    if is_written && turn == Turn::First {
        for_files(CrashFile::write);
    }
    turn.go_away(me);
    let end = chain(signal, info, context);
    turn.come_back(me);
    match end {
        End::Fatal => {
            if turn != Turn::Never {
                // SAFETY: as above.
                for_targets(|pages| unsafe { slots::set_state(pages, State::Committed) });
            }
            if !is_written {
                for_files(CrashFile::write);
            }
            self::end(signal, code);
        }
        // `abort` ends the process after a handler has returned; `raise` does not. The record stays in doubt.
        End::Handled if signal == libc::SIGABRT => {
            if !is_written {
                for_files(CrashFile::write);
            }
            turn.end(me);
        }
        End::Handled => {
            ARE_HANDLED.store(true, Ordering::Relaxed);
            if turn == Turn::First {
                // SAFETY: as above.
                for_targets(|pages| unsafe { slots::set_state(pages, State::Empty) });
                if is_written {
                    for_files(CrashFile::clear);
                }
            }
            turn.end(me);
        }
        End::Unknown => turn.end(me),
    }
    set_errno(errno);
}

/// What became of a signal.
enum End {
    /// The default action comes next.
    Fatal,
    /// Somebody dealt with it.
    Handled,
    /// Somebody put another handler in place, who will see it next.
    Unknown,
}

/// The turn of whoever was there before.
fn chain(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) -> End {
    let Some(previous) = Previous::of(signal) else { return End::Fatal };
    // SAFETY: the kernel passes a valid description.
    let code = unsafe { (*info).si_code };
    match previous.sa_sigaction {
        libc::SIG_DFL => return End::Fatal,
        // A signal that the processor raised is not ignored, whatever was asked for.
        libc::SIG_IGN => return if !is_sent(code) && signal != libc::SIGABRT { End::Fatal } else { End::Handled },
        _ => {}
    }
    // What it calls may abort, as the standard library does when a stack overflows. Where nobody else waits for that signal
    // the process ends of it directly: the record is there, and a second handler on the same small stack may not fit.
    let is_abort_ours = signal != libc::SIGABRT
        && !turn::are_left()
        && Previous::of(libc::SIGABRT).is_some_and(|action| action.sa_sigaction == libc::SIG_DFL)
        && current(libc::SIGABRT).is_some_and(|action| action.sa_sigaction == ours());
    if is_abort_ours {
        set_default(libc::SIGABRT);
    }
    let mask = block_as(previous, signal);
    if previous.sa_flags & libc::SA_SIGINFO != 0 {
        // SAFETY: whoever installed it with SA_SIGINFO promised this signature.
        let function: Handler = unsafe { core::mem::transmute(previous.sa_sigaction) };
        function(signal, info, context);
    } else {
        // SAFETY: whoever installed it without SA_SIGINFO promised this one.
        let function: extern "C-unwind" fn(c_int) = unsafe { core::mem::transmute(previous.sa_sigaction) };
        function(signal);
    }
    // SAFETY: a mask that the system gave.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const mask, ptr::null_mut()) };
    if is_abort_ours {
        set_ours(libc::SIGABRT);
    }
    // The kernel would have reset it before the call.
    let is_reset = previous.sa_flags & libc::SA_RESETHAND != 0;
    match current(signal).map(|action| action.sa_sigaction) {
        Some(libc::SIG_DFL) | None => End::Fatal,
        Some(action) if action == ours() => {
            if is_reset {
                set_default(signal);
                End::Unknown
            } else {
                End::Handled
            }
        }
        Some(_) => End::Unknown,
    }
}

/// A handler that did not come back may have left SIGABRT as [`chain`] sets it meanwhile.
fn bring_abort_back() {
    let is_default = |action: &libc::sigaction| action.sa_sigaction == libc::SIG_DFL;
    if turn::are_left()
        && Previous::of(libc::SIGABRT).is_some()
        && current(libc::SIGABRT).is_some_and(|now| is_default(&now))
    {
        set_ours(libc::SIGABRT);
    }
}

/// Blocks for this thread what the kernel would have blocked for that action's handler: what the action names, and the
/// signal itself unless the action says otherwise. What was blocked before.
fn block_as(action: &libc::sigaction, signal: c_int) -> libc::sigset_t {
    // SAFETY: places for the answers, and masks that the system gave or made empty.
    unsafe {
        let mut before = core::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const action.sa_mask, &raw mut before);
        if action.sa_flags & libc::SA_NODEFER != 0 {
            let mut own = core::mem::zeroed();
            libc::sigemptyset(&raw mut own);
            libc::sigaddset(&raw mut own, signal);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const own, ptr::null_mut());
        }
        before
    }
}

/// Lets the default action happen: when the faulting instruction is repeated, or by the signal sent again, where there is
/// none to repeat. It waits until the handler has returned.
fn end(signal: c_int, code: c_int) {
    set_default(signal);
    // Beyond a breakpoint, execution goes on behind it.
    if is_sent(code) || signal == libc::SIGABRT || signal == libc::SIGTRAP {
        // Asked anew: a handler from before may have forked, and this be the child.
        send(signal, thread());
    }
}

/// Whether somebody sent the signal, rather than the processor raise it. Linux says so by codes up to zero, others by those
/// beyond 65,536.
pub(super) fn is_sent(code: c_int) -> bool {
    code <= 0 || code > 0x1_0000
}

/// Writes the record. Made valid before the stack is walked: should that go wrong, there is one without it.
fn write(pages: NonNull<u8>, signal: c_int, code: c_int, address: usize, context: *mut c_void) {
    // SAFETY: the owner writes, nobody else does, and USING keeps the pages.
    let Some(mut record) = (unsafe { slots::record(pages) }) else { return };
    record.signal(signal as u32, code);
    if !is_sent(code) {
        record.address(address as u64);
    }
    record.time(WallClock.now());
    let mut name = [0; stack::NAME_BYTES];
    record.thread(thread(), stack::thread_name(&mut name).as_bytes());
    let [pc, sp, fp] = registers(context);
    record.registers(pc, sp, fp);
    record.finish();
    stack::walk_frames(sp, fp, |address| record.frame(address));
    record.finish();
}

/// Whether a signal interrupted what a handler called that is at this place of the thread's stack and was called for the
/// signal before. Where nobody can tell, it did.
fn is_inside(context: *mut c_void, owner_at: usize) -> bool {
    let [_, interrupted, _] = registers(context);
    let interrupted = interrupted as usize;
    // SAFETY: a place for the answer; without a new stack nothing changes.
    let (low, bytes) = unsafe {
        let mut stack: libc::stack_t = core::mem::zeroed();
        let is_known = libc::sigaltstack(ptr::null(), &raw mut stack) == 0 && stack.ss_flags & libc::SS_DISABLE == 0;
        if is_known { (stack.ss_sp.addr(), stack.ss_size) } else { (0, 0) }
    };
    let is_on_other_stack = bytes > 0 && interrupted.wrapping_sub(low) > bytes;
    interrupted == 0 || (!is_on_other_stack && interrupted < owner_at)
}

/// Calls `use_file` for the crash file of every client that has one.
fn for_files<T>(use_file: impl Fn(&CrashFile) -> T) {
    for_all(|_, file| {
        // SAFETY: a file that its registration keeps as long as USING says that it is in use.
        if let Some(file) = unsafe { file.as_ref() } {
            use_file(file);
        }
    });
}

/// Calls `use_pages` for those of every client of this process.
fn for_targets(use_pages: impl Fn(NonNull<u8>)) {
    for_all(|pages, _| use_pages(pages));
}

fn for_all(visit: impl Fn(NonNull<u8>, *const CrashFile)) {
    // Before the pages are looked up, so that whoever takes them away afterwards sees that they are in use.
    USING.enter();
    let this = process();
    for target in &TARGETS {
        if let Some(pages) = NonNull::new(target.pages.load(Ordering::SeqCst))
            && target.process.load(Ordering::SeqCst) == this
        {
            visit(pages, target.file.load(Ordering::SeqCst));
        }
    }
    USING.leave();
}

/// What happens at `signal` now.
fn current(signal: c_int) -> Option<libc::sigaction> {
    // SAFETY: a place for the answer; without a new action nothing changes.
    unsafe {
        let mut action = core::mem::zeroed();
        (libc::sigaction(signal, ptr::null(), &raw mut action) == 0).then_some(action)
    }
}

/// Our handler, as an action names it.
fn ours() -> libc::sighandler_t {
    handle as Handler as libc::sighandler_t
}

fn set_ours(signal: c_int) -> bool {
    // SAFETY: all zeros is a valid action, and the handler has the signature that SA_SIGINFO asks for.
    unsafe {
        let mut ours: libc::sigaction = core::mem::zeroed();
        ours.sa_sigaction = self::ours();
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigaction(signal, &raw const ours, ptr::null_mut()) == 0
    }
}

fn set_default(signal: c_int) {
    // SAFETY: all zeros is the default action without flags.
    unsafe {
        let action: libc::sigaction = core::mem::zeroed();
        libc::sigaction(signal, &raw const action, ptr::null_mut());
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn send(signal: c_int, thread: i32) {
    // SAFETY: numbers only.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, signal) };
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn send(signal: c_int, _: i32) {
    // SAFETY: a number and the calling thread.
    unsafe { libc::pthread_kill(libc::pthread_self(), signal) };
}

/// A number that no other living thread of this process has.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn thread() -> i32 {
    stack::thread_id().unwrap_or(-1)
}

/// A number that no other living thread of this process has: half of its address, which is as good as all of it within
/// one process.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn thread() -> i32 {
    // SAFETY: a call without arguments.
    ((unsafe { libc::pthread_self() } as usize >> 4) as i32).max(1)
}

/// The calling thread: its process in the upper half, its number in the lower. Never 0, nor with the highest bit.
pub(super) fn me() -> u64 {
    process_word() | u64::from(thread() as u32)
}

pub(super) fn process_word() -> u64 {
    u64::from(process() as u32 & 0x7fff_ffff) << 32
}

pub(super) fn process() -> i32 {
    // SAFETY: a call without arguments.
    unsafe { libc::getpid() }
}

pub(super) fn page_bytes() -> usize {
    // SAFETY: a number.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

pub(super) fn let_others_run() {
    // SAFETY: a system call without arguments.
    unsafe { libc::sched_yield() };
}

pub(super) fn seconds() -> libc::time_t {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec
}

fn errno() -> c_int {
    // SAFETY: null or the calling thread's own.
    unsafe { errno_place().as_ref() }.copied().unwrap_or(0)
}

fn set_errno(errno: c_int) {
    // SAFETY: null or the calling thread's own, of which nobody else has a reference.
    if let Some(place) = unsafe { errno_place().as_mut() } {
        *place = errno;
    }
}

#[cfg(any(target_os = "linux", target_os = "dragonfly"))]
fn errno_place() -> *mut c_int {
    // SAFETY: a call without arguments.
    unsafe { libc::__errno_location() }
}

#[cfg(any(target_os = "android", target_os = "netbsd", target_os = "openbsd"))]
fn errno_place() -> *mut c_int {
    // SAFETY: a call without arguments.
    unsafe { libc::__errno() }
}

#[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
fn errno_place() -> *mut c_int {
    // SAFETY: a call without arguments.
    unsafe { libc::__error() }
}

/// Not known.
#[cfg(not(any(
    target_vendor = "apple",
    target_os = "linux",
    target_os = "android",
    target_os = "dragonfly",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd"
)))]
fn errno_place() -> *mut c_int {
    ptr::null_mut()
}

/// Program counter, stack pointer and frame pointer of what was interrupted; zeros where this is not known.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn registers(context: *mut c_void) -> [u64; 3] {
    // SAFETY: the kernel passes a valid context.
    let registers = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    [libc::REG_RIP, libc::REG_RSP, libc::REG_RBP]
        .map(|name| registers.get(name as usize).map_or(0, |value| *value as u64))
}

/// Program counter, stack pointer and frame pointer of what was interrupted; zeros where this is not known.
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
fn registers(context: *mut c_void) -> [u64; 3] {
    // SAFETY: the kernel passes a valid context.
    let machine = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext };
    [machine.pc, machine.sp, machine.regs.get(29).copied().unwrap_or(0)]
}

/// Program counter, stack pointer and frame pointer of what was interrupted; zeros where this is not known.
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
fn registers(_: *mut c_void) -> [u64; 3] {
    [0; 3]
}
