//! The panic hook: a panic becomes an `$exception` in the crash lane, then the hook that was there before has its turn.
//!
//! In: what the standard library tells a hook. Out: a frame, committed before anything else happens, so that it is where
//! all other events are when the process dies of the panic.
//!
//! The standard library has formatted the message before it calls a hook, so no code of a caller's runs in here. Nothing
//! allocates: the message is borrowed, addresses go into an array on the stack, the event into the ring. Panics that are
//! caught come by here too, and nobody can tell; so they are ordinary events, and only so many of them a minute.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::cell::Cell;
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::{panic, thread};

use quillet_core::limits::FRAMES_MAX;
use quillet_core::{CaptureError, Clock, Event, Exception, Level, Mechanism, Property};

use super::stack;
use crate::inside::Inside;
use crate::scope::{self, SCOPE_PROPERTIES_MAX};
use crate::shared::Shared;

/// Panics that a client reports in a minute.
const PANICS_A_MINUTE: u64 = 20;

/// Bytes of a message that are kept. The server cuts at 10,000.
const MESSAGE_BYTES_MAX: usize = 8 * 1024;

/// What a hook is called with last when the process aborts of a panic that may not unwind any further. It repeats what is
/// known: the panic that led to it was reported.
const ECHOES: [&str; 2] = ["panic in a destructor during cleanup", "panic in a function that cannot unwind"];

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
            if let Some(shared) = shared.as_deref().and_then(Shared::current) {
                report(shared, info);
            }
            previous(info);
        }));
    }
    true
}

/// Not inlined, so that its frame is the one the stack is cut at.
#[inline(never)]
fn report(shared: &Shared, info: &PanicHookInfo<'_>) {
    if IS_OURS.get() || Inside::is_inside(shared.client) {
        return;
    }
    let message = message(info);
    if HAS_REPORTED.get() && ECHOES.iter().any(|echo| message.starts_with(echo)) {
        aborts();
        shared.refuse(CaptureError::RateLimited);
        return;
    }
    let admit = |()| shared.crash.panics.admit(shared.clock.now().as_micros() / 60_000_000);
    let captured = shared.admits().and_then(admit).and_then(|()| capture(shared, info, message));
    // Of this panic, not of an earlier one: the echo of one that was not reported must be.
    HAS_REPORTED.set(captured.is_ok());
    match captured {
        Ok(()) => {
            if cfg!(panic = "abort") {
                aborts();
            }
            shared.crash.write_file();
            if shared.asleep.load(Ordering::Relaxed) {
                shared.wake_if_due();
            }
        }
        Err(reason) => {
            shared.refuse(reason);
        }
    }
}

/// This thread will abort, and its panic was reported.
fn aborts() {
    #[cfg(unix)]
    ABORTING.store(super::signal::me(), Ordering::Relaxed);
}

fn capture(shared: &Shared, info: &PanicHookInfo<'_>, message: &str) -> Result<(), CaptureError> {
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
    let commit = |person: &str| {
        shared.errors.with_steps(|steps| {
            let exception = exception.steps(steps);
            let event = Event::exception(person, &exception).properties(&properties);
            shared.errors.redactor.apply(&event, |event| shared.lanes.capture_crash(event, now).map(drop))
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
