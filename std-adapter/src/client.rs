//! What a caller calls.
//!
//! In: events, from any thread, at any time. Out: [`Captured`], at once; batches, later, from the flush thread. This file
//! is the front of three machines: the lanes that take events, the worker that delivers them, and the few calls that wait.

use core::fmt;
use core::time::Duration;
use std::sync::{Arc, Weak};

use quillet_core::{CaptureError, Event, Property, Stats, Uuid};

use crate::config::{ClientBuilder, Config};
use crate::error::{BuildError, FlushError, ImmediateError};
use crate::hooks::OwnedValue;
use crate::host::ApiKey;
use crate::inner::Inner;
use crate::shared::GATE_OFF;
use crate::spool::Durability;

/// A PostHog client.
///
/// Clones are handles to the same client: they share its queue, its flush thread and its counters. The last one to be
/// dropped shuts the client down, within the configured `shutdown_timeout`.
///
/// Capturing never allocates, never waits, makes no system call and never panics, except that at most one capture wakes the
/// flush thread when that sleeps deeply, that a `before_send` hook may do what it likes, and that `serde` values run their
/// own code. It works on any thread, inside an async runtime or outside.
///
/// After a `fork` the child's handles are another client with the same options, super properties and hooks: its first call
/// makes rings, counters, connections and a flush thread of its own, with allocations and system calls. What the parent had
/// queued stays the parent's. A child of `vfork` must not capture.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Option<Arc<Inner>>,
}

/// What came of one capture. Need not be looked at: a refusal is also counted in [`Client::stats`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captured {
    result: Result<Uuid, CaptureError>,
}

impl From<Result<Uuid, CaptureError>> for Captured {
    fn from(result: Result<Uuid, CaptureError>) -> Self {
        Self { result }
    }
}

impl Captured {
    /// Whether the event is in the queue.
    pub fn is_accepted(&self) -> bool {
        self.result.is_ok()
    }

    /// The event's uuid, if it was accepted.
    pub fn uuid(&self) -> Option<Uuid> {
        self.result.ok()
    }

    /// The uuid, or why the event was refused.
    ///
    /// # Errors
    ///
    /// The reason, which is also counted.
    pub fn ok(self) -> Result<Uuid, CaptureError> {
        self.result
    }
}

/// What a shutdown left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Whether every event was delivered or refused by the server before the deadline.
    pub is_complete: bool,
    /// The final counters.
    pub stats: Stats,
}

/// What one call of [`Client::poll`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Poll {
    /// A request was made; poll again, there may be more.
    Sent,
    /// Nothing to do for this long, unless events are captured meanwhile.
    Wait(Duration),
    /// The client was shut down, or is disabled.
    Done,
    /// Another thread is polling at this moment, or the client has a flush thread of its own.
    Busy,
}

impl Client {
    /// A client with default options.
    ///
    /// `None` or an empty key makes a disabled client: every call does nothing.
    ///
    /// # Errors
    ///
    /// [`BuildError`], for a key of a shape that PostHog refuses, or when the system gives no memory, thread or randomness.
    pub fn new(api_key: impl Into<ApiKey>) -> Result<Self, BuildError> {
        Self::builder(api_key).build()
    }

    /// Options first, then [`build`](ClientBuilder::build).
    pub fn builder(api_key: impl Into<ApiKey>) -> ClientBuilder {
        ClientBuilder::new(api_key)
    }

    /// A client that does nothing: for programs whose user did not ask for analytics.
    pub const fn disabled() -> Self {
        Self { inner: None }
    }

    /// Captures an event: in the queue when this returns, with a uuid and a timestamp that will not change.
    ///
    /// ```
    /// use quillet::{Client, event};
    ///
    /// let client = Client::disabled();
    /// client.capture(event!("order placed", "customer-7", { "total": 12.5, "currency": "EUR" }));
    /// ```
    #[inline(always)]
    pub fn capture(&self, event: Event<'_>) -> Captured {
        // Each arm is the whole answer, so that it is written where the caller wants it and not copied there.
        match &self.inner {
            Some(inner) => Captured { result: inner.capture(&event) },
            None => Captured { result: Err(CaptureError::Disabled) },
        }
    }

    /// Sets person properties of `distinct_id`: an [`Event::identify`] with [`Event::set`].
    pub fn identify(&self, distinct_id: &str, properties: &[Property<'_>]) -> Captured {
        self.capture(Event::identify(distinct_id).set(properties))
    }

    /// Makes `alias` another id of the person `distinct_id`: an [`Event::alias`].
    pub fn alias(&self, distinct_id: &str, alias: &str) -> Captured {
        self.capture(Event::alias(distinct_id, alias))
    }

    /// Sets properties of a group: an [`Event::group_identify`] with [`Event::set`].
    pub fn group_identify(&self, group_type: &str, group_key: &str, properties: &[Property<'_>]) -> Captured {
        self.capture(Event::group_identify(group_type, group_key).set(properties))
    }

    /// Sends one event now, past the queue, and says what came of it. Blocks, for at most `timeout`; retries meanwhile as
    /// the queue does. Allocates, and makes system calls.
    ///
    /// # Errors
    ///
    /// [`ImmediateError`]: the event was refused here, refused by the server, or not delivered in time.
    pub fn capture_immediate(&self, event: Event<'_>, timeout: Duration) -> Result<Uuid, ImmediateError> {
        match self.current() {
            Some(inner) => inner.capture_immediate(&event, timeout),
            None => Err(ImmediateError::Refused(CaptureError::Disabled)),
        }
    }

    /// Sets a property that every later event carries, unless it has one of the same name itself.
    ///
    /// Returns whether it was set: not if the key is empty, needs escapes, begins with `$exception`, or is one the client
    /// writes itself, nor beyond 64 of them. Allocates; captures that run meanwhile see the old properties or the new ones.
    pub fn set_super_property(&self, key: &str, value: impl Into<OwnedValue>) -> bool {
        self.current().is_some_and(|inner| {
            let value = value.into();
            inner.change_super_properties(|properties| match properties.iter_mut().find(|(name, _)| name == key) {
                Some((_, old)) => *old = value,
                None => properties.push((key.to_owned(), value)),
            })
        })
    }

    /// Removes a super property. Returns whether there was one.
    pub fn remove_super_property(&self, key: &str) -> bool {
        self.current().is_some_and(|inner| {
            let mut found = false;
            let changed = inner.change_super_properties(|properties| {
                let before = properties.len();
                properties.retain(|(name, _)| name != key);
                found = properties.len() != before;
            });
            found && changed
        })
    }

    /// Sends everything captured so far without waiting for company, and waits until its fate is known, for at most
    /// `timeout`. Without anything queued it returns at once and makes no request. A client without a thread makes its
    /// requests in this call; one that is out when the time is up is given up, and its events stay queued.
    ///
    /// # Errors
    ///
    /// [`FlushError`] says why something is still undecided. Nothing is lost by it: delivery goes on.
    pub fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        self.current().map_or(Ok(()), |inner| inner.flush(timeout))
    }

    /// Refuses further events, delivers what is queued, and ends the flush thread, by the configured `shutdown_timeout`.
    ///
    /// What could not be delivered by then stays in the spool, or is dropped and counted. Later calls return the same counters
    /// at once. The deadline holds whatever the network or the disk are doing; only a client without a thread, which does its
    /// work in this call, waits for its disk. Captures that are under way are waited for, and delivered.
    pub fn shutdown(&self) -> ShutdownReport {
        match self.current() {
            Some(inner) => inner.shutdown(inner.shutdown_timeout),
            None => ShutdownReport { is_complete: true, stats: Stats::default() },
        }
    }

    /// [`shutdown`](Client::shutdown) with another timeout.
    pub fn shutdown_within(&self, timeout: Duration) -> ShutdownReport {
        match self.current() {
            Some(inner) => inner.shutdown(timeout),
            None => ShutdownReport { is_complete: true, stats: Stats::default() },
        }
    }

    /// Stops at once: everything queued is dropped and counted, a request that is out is broken off, and no request begins
    /// after this returns. What this host and key have in the spool and in the crash directory is overwritten and removed,
    /// except for files of other living clients; after a shutdown, too. Takes as long as the disk does, and waits for a
    /// transport that cannot be interrupted, 2 seconds at most.
    ///
    /// What a request that is out has sent cannot be recalled. If it is still out when this returns, its copy of the events
    /// stays in this process's memory until it ends, as does the queue of a client without a spool; the flush thread
    /// overwrites that then. Nothing is left on the disk by then, unless the disk refuses, or is so slow that the flush thread,
    /// if that was there first, is still at it.
    pub fn discard(&self) {
        if let Some(inner) = self.current() {
            inner.discard();
        }
    }

    /// The user does not want this: refuses every further event, and erases what is not delivered yet, in memory, in the
    /// spool and in crash files, the steps before errors too. For good; another client may be built should they change their
    /// mind. What it waits for, and what it cannot recall, is that of a [`discard`](Self::discard).
    pub fn opt_out(&self) {
        if let Some(inner) = self.current() {
            inner.shared.set_gate(GATE_OFF, true);
            inner.shared.errors.erase();
            inner.discard();
        }
    }

    /// Switches capturing off or on again. Off, every event is refused, and what was queued before is still delivered.
    pub fn set_enabled(&self, enabled: bool) {
        if let Some(inner) = self.current() {
            inner.shared.set_gate(GATE_OFF, !enabled);
        }
    }

    /// Whether a capture could be accepted: the client has a key, was not switched off and not shut down.
    pub fn is_enabled(&self) -> bool {
        self.current().is_some_and(|inner| inner.shared.admits().is_ok())
    }

    /// Counters over the client's life. They obey [`Stats::is_conserved`] at any moment.
    pub fn stats(&self) -> Stats {
        self.current().map_or_else(Stats::default, |inner| inner.shared.stats())
    }

    /// What accepted events survive: what was reached, which may be less than what was asked for.
    pub fn durability(&self) -> Durability {
        self.current().map_or(Durability::Memory, |inner| inner.shared.durability())
    }

    /// Makes at most one request: for a client built [`without_thread`](ClientBuilder::without_thread), whose owner calls
    /// this from a loop of its own. Blocks while the request runs.
    pub fn poll(&self) -> Poll {
        self.current().map_or(Poll::Done, |inner| inner.poll())
    }

    pub(crate) fn from_config(config: Config) -> Result<Self, BuildError> {
        if config.api_key.is_none() || config.sender.is_none() {
            return Ok(Self::disabled());
        }
        Inner::start(config).map(|inner| Self { inner: Some(Arc::new(inner)) })
    }

    /// The client behind this handle in this process: in a forked child another than in its parent.
    pub(crate) fn current(&self) -> Option<&Inner> {
        self.inner.as_deref()?.current()
    }

    /// A reference that keeps nothing alive.
    pub(crate) fn downgrade(&self) -> Weak<Inner> {
        self.inner.as_ref().map_or_else(Weak::new, Arc::downgrade)
    }
}

const _: () = {
    const fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<Client>();
};

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("enabled", &self.is_enabled()).finish_non_exhaustive()
    }
}
