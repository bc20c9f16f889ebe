//! What is said about a program that goes wrong, by itself or by the next one.
//!
//! In: a panic, while it happens. Out: an `$exception` in the crash lane. Nothing in here decides how the program ends: what
//! was installed before is called as if nothing had been put in front of it.

mod config;
pub(crate) mod panic;
mod stack;

pub(crate) use config::CrashOptions;

use crate::client::Client;

/// What a client keeps for the worst.
#[derive(Debug)]
pub(crate) struct Crash {
    /// Distinct id of crash events; empty makes them personless.
    person: String,
    panics: panic::Panics,
}

impl Crash {
    pub(crate) fn new(options: CrashOptions) -> Self {
        Self { person: options.person, panics: panic::Panics::default() }
    }
}

impl Client {
    /// Reports panics from now on, those that are caught too: as an `$exception` with the message, the place in the source,
    /// the thread and the stack's instruction addresses, of the person set with
    /// [`crash_distinct_id`](crate::ClientBuilder::crash_distinct_id) or of nobody.
    ///
    /// The hook that was there before is called afterwards, whatever happens; so install this one last. The event is queued
    /// like any other, in a lane of its own that a full queue does not fill. The hook allocates nothing, sends nothing,
    /// waits for nothing and never changes how the program ends. At most 20 panics a minute are reported, the others
    /// counted as [`CaptureError::RateLimited`](crate::CaptureError::RateLimited), as is the echo with which the standard
    /// library announces that a second panic during unwinding aborts. `before_send` is not asked.
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
}
