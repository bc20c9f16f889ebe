//! The panic hook: a panic becomes an `$exception` in the crash lane, then the hook that was there before has its turn.
//!
//! In: what the standard library tells a hook. Out: a frame, committed before anything else happens, so that it is where
//! all other events are when the process dies of the panic.
//!
//! The standard library has formatted the message before it calls a hook, so no code of a caller's runs in here. Nothing
//! allocates: the message is borrowed, addresses go into an array on the stack, the event into the ring. Panics that are
//! caught come by here too, and nobody can tell; so they are ordinary events, and only so many of them a minute. A second
//! one in a row is [held](super::held) for a moment, as the process may be about to die of it.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::cell::Cell;
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::{panic, thread};

use quillet_core::limits::FRAMES_MAX;
use quillet_core::{CaptureError, Clock, Event, Exception, Instant, Level, Mechanism, Property};

use super::{held, stack};
use crate::inside::Inside;
use crate::scope::{self, SCOPE_PROPERTIES_MAX};
use crate::shared::Shared;

/// Panics that a client reports in a minute.
const PANICS_A_MINUTE: u64 = 20;

/// Bytes of a message that are kept. The server cuts at 10,000.
const MESSAGE_BYTES_MAX: usize = 8 * 1024;

/// What a hook is called with last when the process aborts of a panic that comes from a destructor while another one unwinds.
/// It repeats what is known: the panic that led to it was reported.
const ECHO_OF_TWO: &str = "panic in a destructor during cleanup";

/// The same of a panic that may not unwind any further for another reason.
const ECHO_OF_ONE: &str = "panic in a function that cannot unwind";

/// What a client remembers about panics.
#[derive(Debug, Default)]
pub(crate) struct Panics {
    is_installed: AtomicBool,
    /// The minute since the process began in its upper half, panics reported in it in the lower.
    reported: AtomicU64,
}

thread_local! {
    /// Panics of this thread are our own affair.
    static IS_OURS: Cell<bool> = const { Cell::new(false) };
    /// A panic of this thread was reported.
    static HAS_REPORTED: Cell<bool> = const { Cell::new(false) };
    /// When the hooks for a reported panic of this thread last returned.
    static RETURNED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// How a panic was reported.
#[derive(Clone, Copy)]
enum Reported {
    Committed,
    /// It is held until this time, or until it is known that the process lives.
    Held(Instant),
}

/// The thread whose reported panic ends in an abort, as far as a hook can know, by its process and number; 0 if there is none.
#[cfg(unix)]
static ABORTING: AtomicU64 = AtomicU64::new(0);

/// Whether the panic that this thread aborts of was reported. For a signal handler.
#[cfg(unix)]
pub(super) fn explains_abort(me: u64) -> bool {
    ABORTING.load(Ordering::Relaxed) == me
}

/// Panics of the calling thread are not reported: it is the flush thread's, and would report its own mistakes for ever.
pub(crate) fn keep_to_itself() {
    IS_OURS.set(true);
}

/// Puts a hook for this client in front of the one that is there, unless it has done so before.
pub(crate) fn install(shared: &Arc<Shared>) -> bool {
    if thread::panicking() {
        return false;
    }
    // Looked up now: it takes locks and memory that a panicking thread may lack.
    let _ = stack::images();
    if !shared.crash.panics.is_installed.swap(true, Ordering::Relaxed) {
        // Weak, because a hook lives as long as the process: it must not keep a client alive.
        let weak = Arc::downgrade(shared);
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // In a forked child the client is another one, once it captured something: a hook is no place to make it.
            let shared = weak.upgrade();
            let shared = shared.as_deref().and_then(Shared::current);
            let reported = shared.and_then(|shared| report(shared, info));
            previous(info);
            if let Some((shared, reported)) = shared.zip(reported) {
                RETURNED.set(Some(shared.clock.now()));
                if let Reported::Held(until) = reported {
                    shared.survive(until);
                }
            }
        }));
    }
    true
}

/// Not inlined, so that its frame is the one the stack is cut at.
#[inline(never)]
fn report(shared: &Shared, info: &PanicHookInfo<'_>) -> Option<Reported> {
    if IS_OURS.get() || Inside::is_inside(shared.client) {
        return None;
    }
    let message = message(info);
    let is_echo = |echo: &str| HAS_REPORTED.get() && message.starts_with(echo);
    if is_echo(ECHO_OF_TWO) || is_echo(ECHO_OF_ONE) {
        aborts();
        if is_echo(ECHO_OF_TWO) {
            shared.fold_held_of(this_thread());
        } else {
            // One panic was enough for this, so it is the cause.
            shared.commit_held_of(this_thread());
        }
        shared.refuse(CaptureError::RateLimited);
        return None;
    }
    let now = shared.clock.now();
    // In a forked child, the one before may have been its parent's, who reported it.
    let is_soon = held::is_soon(RETURNED.get(), now) && shared.crash.panics.has_reported();
    let admit = |()| shared.crash.panics.admit(now.as_micros() / 60_000_000);
    let captured = shared.admits().and_then(admit).and_then(|()| capture(shared, info, message, is_soon));
    // Of this panic, not of an earlier one: the echo of one that was not reported must be.
    HAS_REPORTED.set(captured.is_ok());
    match captured {
        Ok(Reported::Committed) => {
            if cfg!(panic = "abort") {
                aborts();
            }
            shared.crash.write_file();
            if shared.asleep.load(Ordering::Relaxed) {
                shared.wake_if_due();
            }
        }
        Ok(Reported::Held(_)) => {}
        Err(reason) => {
            shared.refuse(shared.why_refused(reason));
        }
    }
    captured.ok()
}

/// A number that no other living thread has.
fn this_thread() -> usize {
    IS_OURS.with(|place| core::ptr::from_ref(place).addr())
}

/// This thread will abort, and its panic was reported.
fn aborts() {
    #[cfg(unix)]
    ABORTING.store(super::signal::me(), Ordering::Relaxed);
}

/// Commits an event that says so, or if the panic comes soon after another one holds it, where that can be done.
fn capture(shared: &Shared, info: &PanicHookInfo<'_>, message: &str, is_soon: bool) -> Result<Reported, CaptureError> {
    let mut addresses = [0; FRAMES_MAX];
    let here = core::ptr::from_ref(&addresses).addr();
    let addresses = stack::addresses(&mut addresses, here);
    let mut name = [0; stack::NAME_BYTES];
    let name = stack::thread_name(&mut name);
    let mut exception = Exception::new("Panic", message)
        .mechanism(Mechanism::Panic)
        .source("rust.panic_hook")
        .thread(stack::thread_id(), name)
        .stack(addresses, stack::images());
    exception = if cfg!(panic = "abort") {
        exception.level(Level::Fatal).handled(false)
    } else {
        exception.level(Level::Error)
    };
    if let Some(place) = info.location() {
        exception = exception.location(place.file(), place.line(), place.column());
    }
    let now = shared.wall_clock.now();
    let scope = scope::current();
    let person = scope.as_deref().map(|scope| scope.distinct_id.as_str()).filter(|person| !person.is_empty());
    let person = person.unwrap_or(&shared.crash.person);
    let mut properties = heapless::Vec::<Property<'_>, SCOPE_PROPERTIES_MAX>::new();
    for property in scope.iter().flat_map(|scope| scope.properties()) {
        let _ = properties.push(property);
    }
    let commit_or_hold = |event: &Event<'_>| {
        let held = is_soon.then(|| shared.hold(this_thread(), event, now)).and_then(Result::ok);
        match held {
            Some(until) => Ok(Reported::Held(until)),
            None => shared.lanes.capture_crash(event, now).map(|_| Reported::Committed),
        }
    };
    let commit = |person: &str| {
        shared.errors.with_steps(|steps| {
            let exception = exception.steps(steps);
            let event = Event::exception(person, &exception).properties(&properties);
            shared.errors.redactor.apply(&event, commit_or_hold)
        })
    };
    match commit(person) {
        // A person that the server would not take must not cost the report.
        Err(CaptureError::EmptyDistinctId | CaptureError::DistinctIdTooLong) => commit(""),
        captured => captured,
    }
}

/// What the panic said, as far as it fits. A payload that is no text has none.
fn message<'a>(info: &'a PanicHookInfo<'_>) -> &'a str {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("(a payload that is no text)");
    // MSRV: `floor_char_boundary` is younger.
    let end = (0..=MESSAGE_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

impl Panics {
    /// Whether a panic was ever admitted.
    fn has_reported(&self) -> bool {
        self.reported.load(Ordering::Relaxed) != 0
    }

    /// Counts one more panic in this minute, if it may be reported.
    fn admit(&self, minute: u64) -> Result<(), CaptureError> {
        let count = |word: u64| if word >> 32 == minute { word & 0xffff_ffff } else { 0 };
        let next = |word: u64| (count(word) < PANICS_A_MINUTE).then(|| minute << 32 | (count(word) + 1));
        // One word, which only says how many: nothing is published by it.
        let admitted = self.reported.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        admitted.map(drop).map_err(|_| CaptureError::RateLimited)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should stop")]
    use super::*;

    #[test]
    fn twenty_panics_a_minute_are_admitted() {
        let panics = Panics::default();
        for minute in [0, 1, 7] {
            for _ in 0..PANICS_A_MINUTE {
                panics.admit(minute).unwrap();
            }
            assert_eq!(panics.admit(minute), Err(CaptureError::RateLimited));
        }
    }
}
