//! `SIGTERM`, waited for instead of handled: no handler of this program's own stands between the client and a signal.

#![allow(unsafe_code, reason = "signal sets and sigwait")]

use std::sync::mpsc::{self, Receiver};
use std::thread;
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

/// Hears of `SIGTERM`. A forked child needs one of its own.
#[derive(Debug)]
pub struct Sigterm(Receiver<()>);

impl Sigterm {
    /// Keeps the signal pending for this thread and all that it will start, but for the one that waits for it.
    pub fn hold_back() -> Self {
        let set = sigterm();
        // SAFETY: `set` is an initialised signal set.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, core::ptr::null_mut()) };
        let (sender, receiver) = mpsc::channel();
        let wait = move || {
            let mut signal = 0;
            // SAFETY: `set` is an initialised signal set, and `signal` a place for the answer.
            while unsafe { libc::sigwait(&raw const set, &raw mut signal) } != 0 {}
            let _ = sender.send(());
        };
        thread::Builder::new().name("sigterm".to_owned()).spawn(wait).unwrap();
        Self(receiver)
    }

    /// Waits for the signal, for ever or until a time.
    pub fn wait(&self, until: Option<Instant>) -> Told {
        loop {
            let left = until.map_or(LONG, |until| until.saturating_duration_since(Instant::now()).min(LONG));
            if self.0.recv_timeout(left).is_ok() {
                return Told::ToStop;
            }
            if until.is_some_and(|until| until <= Instant::now()) {
                return Told::Nothing;
            }
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
