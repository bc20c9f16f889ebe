//! What is said about a program that goes wrong, by itself or by the next one.
//!
//! In: a panic, while it happens. Out: an `$exception` in the crash lane. Nothing in here decides how the program ends: what
//! was installed before is called as if nothing had been put in front of it.

#[cfg(not(unix))]
mod absent;
mod config;
#[cfg(unix)]
mod file;
#[cfg(unix)]
mod guard;
mod held;
#[cfg(unix)]
mod leftover;
pub(crate) mod panic;
#[cfg(unix)]
mod render;
#[cfg(unix)]
mod signal;
#[cfg(unix)]
mod slots;
pub(crate) mod stack;
#[cfg(unix)]
mod turn;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

#[cfg(unix)]
use quillet_core::Common;
use quillet_core::Uuid;

#[cfg(not(unix))]
use absent::{CrashFile, Registration, Releasing, Slots, install};
#[cfg(not(unix))]
pub(crate) use absent::{Guard, Leftovers, guard};
pub(crate) use config::CrashOptions;
#[cfg(unix)]
use {
    file::{CrashFile, Releasing},
    signal::{Registration, install},
    slots::Slots,
};
#[cfg(unix)]
pub(crate) use {
    guard::{Guard, guard},
    leftover::Leftovers,
};

use crate::client::Client;
use crate::lanes::{Lanes, OwnedCommon};
use crate::log::{Log, Topic};
use crate::spool::Mapping;
use crate::sys;

/// What a client keeps for the worst.
#[derive(Debug)]
pub(crate) struct Crash {
    /// Distinct id of crash events; empty makes them personless.
    person: String,
    panics: panic::Panics,
    /// What replaces pages of the spool's file that are not there any more. Before the mapping, to be dropped before it.
    guard: Option<Guard>,
    /// The spool's file, which needs no writing at the last moment and has room for a record.
    mapping: Option<Arc<Mapping>>,
    /// Part of that file is gone, and no page had to be replaced yet.
    is_cut: AtomicBool,
    /// Without it, where everything goes at the last moment.
    file: Option<Arc<CrashFile>>,
    /// Somebody asked for signal handlers; a forked child wants them too.
    wants_signals: AtomicBool,
    signals: Mutex<Option<Registration>>,
}

impl Crash {
    pub(crate) fn new(
        options: &CrashOptions,
        owner: u128,
        (guard, mapping): (Option<Guard>, Option<Arc<Mapping>>),
        common: &OwnedCommon,
        lanes: &Lanes,
        log: &Log,
    ) -> Self {
        let dir = options.dir.as_deref().filter(|_| mapping.is_none());
        let file = dir.and_then(|dir| {
            let [random] = sys::entropy::<1>()?;
            let name = Uuid::v7(sys::WallClock.now().as_unix_micros() / 1_000, random);
            let created = CrashFile::create(dir, name, (owner, &options.person), common, lanes.gauges());
            created
                .inspect_err(|error| {
                    log.warn(Topic::Spool, format_args!("no crash file, a crash loses what is queued: {error}"));
                })
                .ok()
        });
        Self {
            person: options.person.clone(),
            panics: panic::Panics::default(),
            guard,
            mapping,
            is_cut: AtomicBool::new(false),
            file: file.map(Arc::new),
            wants_signals: AtomicBool::new(false),
            signals: Mutex::new(None),
        }
    }

    /// What keeps the crash file from being written as long as it lives. Whoever releases frames holds it.
    pub(crate) fn releasing(&self) -> Option<Releasing<'_>> {
        self.file.as_deref().map(CrashFile::releasing)
    }

    /// Nothing more will be sent: removes the crash file, unless something in it was not answered and shall be kept.
    pub(crate) fn close(&self, is_discarded: bool) {
        if let Some(file) = &self.file {
            file.close(is_discarded);
        }
    }

    /// Whether part of the spool's file is gone, and memory of this process in its place.
    pub(crate) fn is_spool_degraded(&self) -> bool {
        self.guard.as_ref().is_some_and(Guard::is_degraded) || self.is_cut.load(Ordering::SeqCst)
    }

    /// Says so, having looked at the file.
    pub(crate) fn set_spool_degraded(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
    }

    /// What every event says from now on.
    pub(crate) fn set_common(&self, common: &OwnedCommon) {
        if let Some(file) = &self.file {
            file.set_common(common);
        }
    }

    /// Writes the crash file, if one is needed. Async-signal-safe. Whether the queue outlives the process.
    pub(crate) fn write_file(&self) -> bool {
        let is_in_file = self.mapping.is_some() && !self.is_spool_degraded();
        is_in_file || self.file.as_ref().is_some_and(|file| file.write())
    }

    /// Has the signal handlers tell this client, from the first time on that it is asked to.
    fn install_handlers(&self) -> bool {
        let mut signals = self.signals.lock().unwrap_or_else(PoisonError::into_inner);
        if signals.is_none()
            && let Some(slots) = self.slots().map(Arc::new)
        {
            *signals = install(Arc::clone(&slots), self.file.clone());
            if let Some(file) = self.file.as_ref().filter(|_| signals.is_some()) {
                file.set_slots(slots);
            }
            self.wants_signals.store(signals.is_some(), Ordering::Relaxed);
        }
        signals.is_some()
    }

    /// Does for a forked child's own client what was done for its parent's.
    pub(crate) fn hand_on(&self, child: &Self) {
        if self.wants_signals.load(Ordering::Relaxed) {
            child.install_handlers();
        }
    }

    /// Pages for a record, with an identity of its own: in the spool, or beside the crash file.
    fn slots(&self) -> Option<Slots> {
        let [identity] = sys::entropy::<1>()?;
        match (&self.mapping, &self.file) {
            (Some(mapping), _) => Slots::in_spool(mapping, identity, stack::images()),
            (None, Some(_)) => Slots::anonymous(identity, stack::images()),
            (None, None) => None,
        }
    }
}

/// Whose files these are: events go to no other project.
pub(crate) fn owner(url: &str, api_key: &str) -> u128 {
    #[cfg(unix)]
    return crate::spool::fnv(&[url.as_bytes(), api_key.as_bytes()]);
    #[cfg(not(unix))]
    return (url.len() + api_key.len()) as u128;
}

/// The frame for the signal that a process died of, from the pages it left and what is known of it: its super properties
/// as JSON without braces, and the distinct id of its crash events. `None` if there was none.
#[cfg(unix)]
pub(crate) fn crash_frame(pages: &[u8], (common, person): (&str, &str), is_clean: bool) -> Option<Vec<u8>> {
    let mut memory = vec![0; common.len() + 96];
    let nothing = Common::default();
    let common = Common::adopt(&mut memory, common).unwrap_or(nothing);
    render::frame(pages, &render::Dead { common, person, is_clean })
}

impl Client {
    /// Reports panics from now on, those that are caught too: as an `$exception` with the message, the place in the source,
    /// the thread and the stack's instruction addresses, of the person set with
    /// [`crash_distinct_id`](crate::ClientBuilder::crash_distinct_id) or of nobody.
    ///
    /// The hook that was there before is called afterwards, whatever happens; so install this one last. The event is queued
    /// like any other, in a lane of its own that a full queue does not fill. The hook allocates nothing, sends nothing,
    /// waits for nothing and never changes how the program ends. At most 20 panics a minute are reported, the others
    /// counted as [`CaptureError::RateLimited`](crate::CaptureError::RateLimited). `before_send` is not asked.
    ///
    /// A destructor that panics while a panic unwinds aborts, and the hook is called three times. That is one event, of the
    /// panic that began it: the second one, and the third call, with which the standard library announces the abort, are
    /// folded into it, and counted in the same way. As a hook cannot know whether the first one was caught before the second,
    /// a panic that comes within 100 ms after another one of its thread is held back, one at a time, until the process has
    /// lived on for 100 ms, or until there is another one on the same thread, a flush, a shutdown, or a call of
    /// [`write_crash_file`](Self::write_crash_file). Then it is queued as it was. So a loop that catches panics has them all
    /// reported; a process that ends in another way within that time has the last of them reported only if it was the first.
    ///
    /// Under `panic = "abort"` the level is `fatal`, and the panic is called unhandled. Otherwise nobody knows yet whether
    /// somebody catches it: the level is `error`, and nothing is said about handling.
    ///
    /// A second call changes nothing. Several clients that call it each report every panic, in their own project. Not
    /// reported: panics of the flush thread and of hooks that the client calls. Returns whether panics are reported: not by
    /// a disabled client, and not on a thread that is panicking, where a hook cannot be set.
    pub fn install_panic_hook(&self) -> bool {
        self.inner.as_ref().is_some_and(|inner| panic::install(&inner.shared))
    }

    /// Records fatal signals from now on: SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT and SIGTRAP, on every thread. The next
    /// start makes an `$exception` of the record, with the signal's name, the thread, the stack's addresses as far as code
    /// was built with frame pointers, and the time at which it happened.
    ///
    /// Handlers that were there before are called first, and the signal is recorded only if none of them dealt with it. They
    /// run with the signals blocked that they asked for, and may unwind or jump away; but on the thread's alternate stack,
    /// also those that did not ask for it. So install after a runtime that uses such signals for its own work.
    ///
    /// In the end the default action is taken: the exit status is what it was, a core is dumped as before. The standard
    /// library's message about an overflowing stack is printed. A panic that aborts is reported by the panic hook, if there
    /// is one, and not once more as SIGABRT.
    ///
    /// On a thread that C made a handler has the thread's own stack, and cannot run if that overflows; the calling thread
    /// and those of the standard library have another one.
    ///
    /// Needs a place that outlives the process: a spool, or a [`crash_dir`](crate::ClientBuilder::crash_dir). Returns whether
    /// signals are recorded. A second call changes nothing; up to 8 clients can ask for it. Unix only.
    pub fn install_signal_handlers(&self) -> bool {
        let current = self.inner.as_ref().and_then(|inner| inner.current());
        current.is_some_and(|inner| inner.shared.crash.install_handlers())
    }

    /// Writes everything that is pending into the crash file, in one write, for a program that is about to end in a way of
    /// its own. Async-signal-safe: it neither allocates nor locks. What is delivered after all is delivered twice only if
    /// the process dies before its flush thread has emptied the file, and then with the same uuid and time.
    ///
    /// Returns whether the queue is where the next start finds it: the file is written, or there is a spool, which needs no
    /// writing.
    pub fn write_crash_file(&self) -> bool {
        let current = self.inner.as_ref().and_then(|inner| inner.shared.current());
        current.is_some_and(|shared| {
            shared.try_commit_held();
            shared.crash.write_file()
        })
    }
}
