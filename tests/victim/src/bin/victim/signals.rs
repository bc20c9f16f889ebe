//! `SIGTERM`, waited for instead of handled: no handler of this program's own stands between the client and a signal.

#![allow(unsafe_code, reason = "signal sets and sigtimedwait")]

use std::time::{Duration, Instant};

/// Longest single wait.
const LONG: Duration = Duration::from_secs(60);

/// What a wait ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// `SIGTERM` came.
    ToStop,
    /// The time was up.
    Nothing,
}

/// Keeps `SIGTERM` pending for this thread and all that it will start.
pub fn hold_back_sigterm() {
    let set = sigterm();
    // SAFETY: `set` is an initialised signal set.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, core::ptr::null_mut()) };
}

/// Waits for `SIGTERM`, for ever or until a time.
pub fn wait_for_sigterm(until: Option<Instant>) -> Told {
    let set = sigterm();
    loop {
        let left = until.map_or(LONG, |until| until.saturating_duration_since(Instant::now()).min(LONG));
        let time = libc::timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos().into() };
        // SAFETY: both are initialised and live until the call returns; nobody wants to know more of the signal.
        if unsafe { libc::sigtimedwait(&raw const set, core::ptr::null_mut(), &raw const time) } == libc::SIGTERM {
            return Told::ToStop;
        }
        if until.is_some_and(|until| until <= Instant::now()) {
            return Told::Nothing;
        }
    }
}

fn sigterm() -> libc::sigset_t {
    let mut set = core::mem::MaybeUninit::uninit();
    // SAFETY: `sigemptyset` initialises the set before `sigaddset` uses it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
        set.assume_init()
    }
}
