//! What a caller calls.
//!
//! In: events, from any thread, at any time. Out: [`Captured`], at once; batches, later, from the flush thread. This file
//! is the front of three machines: the lanes that take events, the worker that delivers them, and the few calls that wait.

use core::fmt;
use core::time::Duration;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};

use quillet_core::limits::EVENT_BYTES_MAX;
use quillet_core::wire::key;
use quillet_core::{
    Action, CaptureError, Clock, Counters, DropReason, Envelope, Event, Exception, Flusher, Instant, Lane, Outcome,
    Policy, Property, Ring, Stamper, Stats, Transport, Uuid,
};

use crate::arena;
use crate::clock::SystemClock;
use crate::config::{ApiKey, ClientBuilder, Config};
use crate::draft::Draft;
use crate::error::{BuildError, FlushError, ImmediateError};
use crate::hooks::{BeforeSend, HookVerdict, OwnedValue};
use crate::lanes::{LANES, Lanes, OwnedCommon};
use crate::log::Log;
use crate::sys::{self, WallClock};
use crate::transport::Sender;
use crate::worker::{Control, Step, Worker, add};

/// A PostHog client.
///
/// Clones are handles to the same client: they share its queue, its flush thread and its counters. The last one to be
/// dropped shuts the client down, within the configured `shutdown_timeout`.
///
/// Capturing never allocates, never waits, makes no system call and never panics, except that at most one capture wakes the
/// flush thread when that sleeps deeply, that a `before_send` hook may do what it likes, and that `serde` values run their
/// own code. It works on any thread, inside an async runtime or outside.
#[derive(Clone)]
pub struct Client {
    inner: Option<Arc<Inner>>,
}

/// What came of one capture. Need not be looked at: a refusal is also counted in [`Client::stats`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captured {
    result: Result<Uuid, CaptureError>,
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
    #[inline]
    pub fn capture(&self, event: Event<'_>) -> Captured {
        let result = match &self.inner {
            Some(inner) => inner.capture(&event),
            None => Err(CaptureError::Disabled),
        };
        Captured { result }
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

    /// Captures an error: an [`Event::exception`]. An empty `distinct_id` makes it personless.
    pub fn capture_exception(
        &self,
        distinct_id: &str,
        exception: &Exception<'_>,
        properties: &[Property<'_>],
    ) -> Captured {
        self.capture(Event::exception(distinct_id, exception).properties(properties))
    }

    /// Sends one event now, past the queue, and says what came of it. Blocks, for at most `timeout`; retries meanwhile as
    /// the queue does. Allocates, and makes system calls.
    ///
    /// # Errors
    ///
    /// [`ImmediateError`]: the event was refused here, refused by the server, or not delivered in time.
    pub fn capture_immediate(&self, event: Event<'_>, timeout: Duration) -> Result<Uuid, ImmediateError> {
        match &self.inner {
            Some(inner) => inner.capture_immediate(&event, timeout),
            None => Err(ImmediateError::Refused(CaptureError::Disabled)),
        }
    }

    /// Sets a property that every later event carries, unless it has one of the same name itself.
    ///
    /// Returns whether it was set: not if the key is empty, needs escapes, begins with `$exception`, or is one the client
    /// writes itself, nor beyond 64 of them. Allocates; captures that run meanwhile see the old properties or the new ones.
    pub fn set_super_property(&self, key: &str, value: impl Into<OwnedValue>) -> bool {
        self.inner.as_ref().is_some_and(|inner| {
            let value = value.into();
            inner.change_super_properties(|properties| match properties.iter_mut().find(|(name, _)| name == key) {
                Some((_, old)) => *old = value,
                None => properties.push((key.to_owned(), value)),
            })
        })
    }

    /// Removes a super property. Returns whether there was one.
    pub fn remove_super_property(&self, key: &str) -> bool {
        self.inner.as_ref().is_some_and(|inner| {
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
    /// requests in this call and cannot break one off: it may then take a `request_timeout` longer.
    ///
    /// # Errors
    ///
    /// [`FlushError`] says why something is still undecided. Nothing is lost by it: delivery goes on.
    pub fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        self.inner.as_ref().map_or(Ok(()), |inner| inner.flush(timeout))
    }

    /// Refuses further events, delivers what is queued, and ends the flush thread, by the configured `shutdown_timeout`.
    ///
    /// What could not be delivered by then is dropped and counted. Later calls return the same counters at once.
    pub fn shutdown(&self) -> ShutdownReport {
        match &self.inner {
            Some(inner) => inner.shutdown(inner.shutdown_timeout),
            None => ShutdownReport { is_complete: true, stats: Stats::default() },
        }
    }

    /// [`shutdown`](Client::shutdown) with another timeout.
    pub fn shutdown_within(&self, timeout: Duration) -> ShutdownReport {
        match &self.inner {
            Some(inner) => inner.shutdown(timeout),
            None => ShutdownReport { is_complete: true, stats: Stats::default() },
        }
    }

    /// Stops at once: everything queued is dropped and counted, a request that is out is broken off, and no request begins
    /// after this returns. Waits for that, 2 seconds at most, and only for a transport that cannot be interrupted.
    pub fn discard(&self) {
        if let Some(inner) = &self.inner {
            inner.discard();
        }
    }

    /// Switches capturing off or on again. Off, every event is refused, and what was queued before is still delivered.
    pub fn set_enabled(&self, enabled: bool) {
        if let Some(inner) = &self.inner {
            inner.shared.set_gate(GATE_OFF, !enabled);
        }
    }

    /// Whether a capture could be accepted: the client has a key, was not switched off and not shut down.
    pub fn is_enabled(&self) -> bool {
        self.inner
            .as_ref()
            .is_some_and(|inner| inner.shared.gates.load(Ordering::Relaxed) & (GATE_OFF | GATE_CLOSED) == 0)
    }

    /// Counters over the client's life. They obey [`Stats::is_conserved`] at any moment.
    pub fn stats(&self) -> Stats {
        self.inner.as_ref().map_or_else(Stats::default, |inner| inner.shared.stats())
    }

    /// Makes at most one request: for a client built [`without_thread`](ClientBuilder::without_thread), whose owner calls
    /// this from a loop of its own. Blocks while the request runs.
    pub fn poll(&self) -> Poll {
        self.inner.as_ref().map_or(Poll::Done, |inner| inner.poll())
    }

    pub(crate) fn from_config(mut config: Config) -> Result<Self, BuildError> {
        let (Some(api_key), Some(sender)) = (config.api_key.take(), config.sender.take()) else {
            return Ok(Self::disabled());
        };
        let envelope = Envelope::new(&api_key, config.historical_migration)
            .map_err(|_| BuildError::ApiKey(crate::host::KeyProblem::TooLong))?;
        Inner::start(config, envelope, sender).map(|inner| Self { inner: Some(Arc::new(inner)) })
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

/// How long a discard waits for a request that is being broken off.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// The client was shut down.
const GATE_CLOSED: u8 = 1;
/// Capturing is switched off.
const GATE_OFF: u8 = 2;
/// There are `before_send` hooks.
const GATE_HOOKS: u8 = 4;

/// What the capturing threads, the flush thread and the waiting callers share.
pub(crate) struct Shared {
    pub(crate) lanes: Lanes,
    /// Everything that takes a capture off its shortest way, in one word: usually zero.
    gates: AtomicU8,
    /// The flush thread sleeps until its interval; whoever fills the queue to `flush_at` wakes it.
    pub(crate) asleep: AtomicBool,
    refused: [AtomicU64; CaptureError::COUNT],
    control: Mutex<Control>,
    /// Signalled when a flush was answered or the worker came to its end.
    pub(crate) changed: Condvar,
    /// The flush thread, once it runs.
    thread: OnceLock<Thread>,
    pub(crate) clock: SystemClock,
    wall_clock: WallClock,
    flush_at: u64,
    pub(crate) flush_interval: Duration,
}

impl Shared {
    pub(crate) fn control(&self) -> MutexGuard<'_, Control> {
        // Nothing panics while it holds this lock; should it happen all the same, the counters are still counters.
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_gate(&self, gate: u8, set: bool) {
        if set {
            self.gates.fetch_or(gate, Ordering::Relaxed);
        } else {
            self.gates.fetch_and(!gate, Ordering::Relaxed);
        }
    }

    #[cold]
    #[inline(never)]
    fn refuse(&self, reason: CaptureError) -> CaptureError {
        if let Some(counter) = self.refused.get(reason.index()) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        // Full of few large events, perhaps, while nobody is awake to see it.
        if reason == CaptureError::Full && self.asleep.swap(false, Ordering::Relaxed) {
            self.wake();
        }
        reason
    }

    /// After a commit while the flush thread sleeps: wakes it if there is enough to do. The one system call a capture may
    /// make, and only the capture that finds `asleep` set makes it.
    #[cold]
    #[inline(never)]
    fn wake_if_due(&self) {
        if self.lanes.is_worth_waking(self.flush_at) && self.asleep.swap(false, Ordering::Relaxed) {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn stats(&self) -> Stats {
        let control = self.control();
        let (committed, released) = self.lanes.counts();
        let mut stats = Stats::default();
        stats.add(&control.counters);
        stats.accepted = committed.wrapping_add(control.immediate);
        stats.pending =
            committed.wrapping_sub(released).wrapping_sub(control.abandoned.map_or(0, |(events, _)| events));
        stats.pending = stats.pending.wrapping_add(control.immediate_pending);
        for (total, counter) in stats.refused.iter_mut().zip(&self.refused) {
            *total = counter.load(Ordering::Relaxed);
        }
        stats
    }
}

/// One client. Dropped with its last handle.
struct Inner {
    shared: Arc<Shared>,
    before_send: Vec<BeforeSend>,
    /// The worker of a client without a thread, for whoever pumps.
    pump: Option<Mutex<Worker>>,
    /// For events sent past the queue, and for breaking requests off.
    sender: Mutex<Sender>,
    envelope: Envelope,
    policy: Policy,
    super_properties: Mutex<Vec<(String, OwnedValue)>>,
    /// What the client's own options say in every event. Not `Property`, which may borrow what no other thread may see.
    defaults: Vec<(&'static str, bool)>,
    shutdown_timeout: Duration,
}

impl Inner {
    fn start(config: Config, envelope: Envelope, sender: Sender) -> Result<Self, BuildError> {
        let mut defaults = vec![(key::IS_SERVER, config.is_server)];
        if config.disable_geoip {
            defaults.push((key::GEOIP_DISABLE, true));
        }
        let common = render(&defaults, &config.super_properties)
            .map_err(|key| BuildError::SuperProperty { key, problem: CaptureError::ReservedKey })?;
        let ends = arena::lanes::<LANES>(config.queue_bytes).ok_or(BuildError::OutOfMemory)?;
        let seeds = sys::entropy::<LANES>().ok_or(BuildError::Entropy)?;
        let [flusher_seed] = sys::entropy::<1>().ok_or(BuildError::Entropy)?;
        let (lanes, consumers) =
            Lanes::new(ends, seeds, config.max_queue_size, EVENT_BYTES_MAX, common).ok_or(BuildError::OutOfMemory)?;

        let policy = config.policy;
        let flusher_envelope = envelope.clone();
        let flusher = consumers.map(|lanes| Flusher::new(lanes, flusher_envelope, policy, flusher_seed));
        let shared = Arc::new(Shared {
            lanes,
            gates: AtomicU8::new(if config.before_send.is_empty() { 0 } else { GATE_HOOKS }),
            asleep: AtomicBool::new(false),
            refused: [const { AtomicU64::new(0) }; CaptureError::COUNT],
            control: Mutex::new(Control::default()),
            changed: Condvar::new(),
            thread: OnceLock::new(),
            clock: SystemClock::new(),
            wall_clock: WallClock,
            flush_at: policy.flush_at as u64,
            flush_interval: policy.flush_interval,
        });
        let log = Log::new(config.enable_logging);
        let worker =
            Worker::new(Arc::clone(&shared), flusher, sender.clone(), config.on_deliver, config.on_request, log);
        let pump = if config.thread {
            let thread = thread::Builder::new()
                .name("quillet".to_owned())
                .spawn(move || worker.run())
                .map_err(|error| BuildError::Thread(error.kind()))?;
            let _ = shared.thread.set(thread.thread().clone());
            None
        } else {
            Some(Mutex::new(worker))
        };
        Ok(Self {
            shared,
            before_send: config.before_send,
            pump,
            sender: Mutex::new(sender),
            envelope,
            policy,
            super_properties: Mutex::new(config.super_properties),
            defaults,
            shutdown_timeout: config.shutdown_timeout,
        })
    }

    #[inline(never)]
    fn capture(&self, event: &Event<'_>) -> Result<Uuid, CaptureError> {
        let gates = self.shared.gates.load(Ordering::Relaxed);
        if gates != 0 {
            return self.capture_gated(event, gates);
        }
        self.commit(event)
    }

    #[inline(always)]
    fn commit(&self, event: &Event<'_>) -> Result<Uuid, CaptureError> {
        let shared = &*self.shared;
        let now = shared.wall_clock.now();
        // A `Serialize` of the caller's may panic; then the grant and the lane are given back on the way out.
        let captured = catch_unwind(AssertUnwindSafe(|| shared.lanes.capture(event, now)));
        match captured.unwrap_or(Err(CaptureError::InvalidValue)) {
            Ok(uuid) => {
                if shared.asleep.load(Ordering::Relaxed) {
                    shared.wake_if_due();
                }
                Ok(uuid)
            }
            Err(reason) => Err(shared.refuse(reason)),
        }
    }

    /// A capture on which somebody has an opinion.
    #[cold]
    #[inline(never)]
    fn capture_gated(&self, event: &Event<'_>, gates: u8) -> Result<Uuid, CaptureError> {
        if gates & GATE_CLOSED != 0 {
            return Err(self.shared.refuse(CaptureError::Closed));
        }
        if gates & GATE_OFF != 0 {
            return Err(self.shared.refuse(CaptureError::Disabled));
        }
        // A hook that captures does not see its own events: that way lies no end.
        let Some(_inside) = InHook::enter_once() else { return self.commit(event) };
        let mut draft = Draft::new(event);
        let verdict = catch_unwind(AssertUnwindSafe(|| {
            let all = self.before_send.iter().all(|hook| hook(&mut draft) == HookVerdict::Send);
            if all { HookVerdict::Send } else { HookVerdict::Drop }
        }));
        match verdict {
            Err(_) => Err(self.shared.refuse(CaptureError::HookPanicked)),
            Ok(HookVerdict::Drop) => Err(self.shared.refuse(CaptureError::DroppedByHook)),
            Ok(HookVerdict::Send) => match draft.properties() {
                Some(properties) => self.commit(&event.properties(&properties)),
                None => self.commit(event),
            },
        }
    }

    fn change_super_properties(&self, change: impl FnOnce(&mut Vec<(String, OwnedValue)>)) -> bool {
        let mut properties = self.super_properties.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = properties.clone();
        change(&mut changed);
        match render(&self.defaults, &changed) {
            Ok(common) => {
                *properties = changed;
                self.shared.lanes.set_common(common);
                true
            }
            Err(_) => false,
        }
    }

    fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        if InHook::is_inside() {
            return Err(FlushError::FromHook);
        }
        let deadline = self.shared.clock.now().after(timeout);
        let mut control = self.shared.control();
        if control.finished || control.abandoned.is_some() {
            return Err(FlushError::Closed);
        }
        let id = control.ask_flush();
        let result = self.wait(control, deadline, |control| control.flush_result(id));
        self.shared.control().end_flush(id);
        result.unwrap_or(Err(FlushError::TimedOut))
    }

    fn shutdown(&self, timeout: Duration) -> ShutdownReport {
        self.shared.set_gate(GATE_CLOSED, true);
        let deadline = self.shared.clock.now().after(timeout);
        let mut control = self.shared.control();
        control.shutdown = Some(control.shutdown.map_or(deadline, |earlier| earlier.min(deadline)));
        if InHook::is_inside() {
            // The flush thread cannot wait for itself; it will see the order when the hook is done.
            drop(control);
            return ShutdownReport { is_complete: false, stats: self.shared.stats() };
        }
        // Everything was counted when the worker came to its end, or when somebody gave up waiting for it.
        let counted = |control: &Control| (control.finished || control.abandoned.is_some()).then_some(());
        if self.wait(control, deadline, counted).is_none() {
            self.abandon(DropReason::Shutdown);
        }
        let stats = self.shared.stats();
        let given_up = stats.dropped_for(DropReason::Shutdown) + stats.dropped_for(DropReason::Discarded);
        ShutdownReport { is_complete: given_up == 0 && stats.pending == 0, stats }
    }

    fn discard(&self) {
        self.shared.set_gate(GATE_CLOSED, true);
        self.abandon(DropReason::Discarded);
        if !InHook::is_inside() {
            // Until the request that is just being broken off has ended, or has not begun.
            let deadline = self.shared.clock.now().after(DISCARD_TIMEOUT);
            self.wait(self.shared.control(), deadline, |control| control.finished.then_some(()));
        }
    }

    /// Counts what is pending as dropped, unless the worker has come to its end, and has the worker stop. From here on it
    /// begins no request and counts nothing.
    fn abandon(&self, reason: DropReason) {
        let mut control = self.shared.control();
        if !control.finished && control.abandoned.is_none() {
            let pending = self.shared.lanes.pending();
            control.abandoned = Some((pending, reason));
            if let Some(counter) = control.counters.dropped.get_mut(reason.index()) {
                *counter = counter.wrapping_add(pending);
            }
            control.close_flushes();
            self.shared.changed.notify_all();
            drop(control);
            self.sender.lock().unwrap_or_else(PoisonError::into_inner).abort();
            if let Some(Ok(mut worker)) = self.pump.as_ref().map(Mutex::try_lock) {
                // Nobody else may ever pump again; this step ends the worker and tells the hooks.
                worker.step();
            }
        }
    }

    /// Has the worker look at its orders and waits until `answer` has one, for as long as `deadline` allows. Without a
    /// thread the caller is the worker.
    fn wait<'s, T>(
        &'s self,
        mut control: MutexGuard<'s, Control>,
        deadline: Instant,
        answer: impl Fn(&Control) -> Option<T>,
    ) -> Option<T> {
        self.shared.wake();
        loop {
            if let Some(answer) = answer(&control) {
                return Some(answer);
            }
            let left = self.shared.clock.until(deadline);
            if left.is_zero() {
                return None;
            }
            let sleep = match self.pump.as_ref().map(Mutex::try_lock) {
                Some(Ok(mut worker)) => {
                    drop(control);
                    let step = worker.step();
                    control = self.shared.control();
                    match step {
                        Step::Wait(until) if answer(&control).is_none() => self.shared.clock.until(until).min(left),
                        _ => continue,
                    }
                }
                // Another thread pumps; its steps bring the answer, or its end the next turn.
                Some(Err(_)) => left.min(Duration::from_millis(5)),
                None => left,
            };
            control = self.shared.changed.wait_timeout(control, sleep).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn poll(&self) -> Poll {
        match self.pump.as_ref().map(Mutex::try_lock) {
            Some(Ok(mut worker)) => match worker.step() {
                Step::Sent => Poll::Sent,
                Step::Wait(until) => Poll::Wait(self.shared.clock.until(until).min(self.shared.flush_interval)),
                Step::Done => Poll::Done,
            },
            _ => Poll::Busy,
        }
    }

    /// A ring, a lane and a machine for one event, driven to its end on the caller's thread.
    fn capture_immediate(&self, event: &Event<'_>, timeout: Duration) -> Result<Uuid, ImmediateError> {
        let refuse = |reason| ImmediateError::Refused(self.shared.refuse(reason));
        let gates = self.shared.gates.load(Ordering::Relaxed);
        if gates & (GATE_CLOSED | GATE_OFF) != 0 {
            let closed = gates & GATE_CLOSED != 0;
            return Err(refuse(if closed { CaptureError::Closed } else { CaptureError::Disabled }));
        }
        let deadline = self.shared.clock.now().after(timeout);
        let [lane_seed, flusher_seed] = sys::entropy::<2>().ok_or(ImmediateError::OutOfMemory)?;
        let bytes = Ring::bytes_for(4 * EVENT_BYTES_MAX);
        let mut memory = Vec::new();
        memory.try_reserve_exact(bytes).map_err(|_| ImmediateError::OutOfMemory)?;
        memory.resize(bytes, 0u8);
        let (producer, consumer) = Ring::format(&mut memory).map_err(|_| ImmediateError::OutOfMemory)?.split();
        let mut lane = Lane::new(producer, Stamper::new(lane_seed), 1, EVENT_BYTES_MAX);
        let uuid = self.capture_into(&mut lane, event).map_err(refuse)?;
        {
            let mut control = self.shared.control();
            control.immediate += 1;
            control.immediate_pending += 1;
        }

        let mut flusher = Flusher::new([consumer], self.envelope.clone(), self.policy, flusher_seed);
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).clone();
        flusher.shutdown(deadline);
        let mut status = None;
        loop {
            match flusher.poll(self.shared.clock.now()) {
                Action::Send(batch) => {
                    let outcome = sender.send(&batch);
                    if let Outcome::Answered(answer) = outcome {
                        status = Some(answer.status);
                    }
                    flusher.handle_outcome(self.shared.clock.now(), outcome);
                }
                Action::Wait(until) => {
                    let control = self.shared.control();
                    if control.finished || control.abandoned.is_some() {
                        drop(control);
                        flusher.discard();
                        continue;
                    }
                    let sleep = self.shared.clock.until(until);
                    let _ = self.shared.changed.wait_timeout(control, sleep).unwrap_or_else(PoisonError::into_inner);
                }
                Action::Done => break,
            }
        }
        let counters: Counters = *flusher.counters();
        {
            let mut control = self.shared.control();
            add(&mut control.counters, &counters);
            control.immediate_pending -= 1;
        }
        match (counters.delivered, counters.rejected) {
            (1.., _) => Ok(uuid),
            (0, 1..) => Err(ImmediateError::Rejected { status }),
            (0, 0) => Err(ImmediateError::NotDelivered { status }),
        }
    }

    /// The hooks and the encoder, for a lane that is not one of the client's.
    fn capture_into(&self, lane: &mut Lane<'_>, event: &Event<'_>) -> Result<Uuid, CaptureError> {
        let now = self.shared.wall_clock.now();
        let common = {
            let properties = self.super_properties.lock().unwrap_or_else(PoisonError::into_inner);
            render(&self.defaults, &properties).map_err(|_| CaptureError::InvalidValue)?
        };
        let mut draft = Draft::new(event);
        // As in `capture_gated`: a hook that captures does not see its own events.
        let inside = InHook::enter_once();
        let captured = catch_unwind(AssertUnwindSafe(|| {
            if inside.is_some() && !self.before_send.iter().all(|hook| hook(&mut draft) == HookVerdict::Send) {
                return Err(CaptureError::DroppedByHook);
            }
            match draft.properties() {
                Some(properties) => lane.capture(&event.properties(&properties), &common.as_common(), now),
                None => lane.capture(event, &common.as_common(), now),
            }
        }));
        captured.unwrap_or(Err(CaptureError::HookPanicked))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shutdown(self.shutdown_timeout);
    }
}

/// Renders the client's own defaults and the caller's super properties; the caller's win. `Err` names the key that cannot
/// be one.
fn render(defaults: &[(&'static str, bool)], properties: &[(String, OwnedValue)]) -> Result<OwnedCommon, String> {
    let is_overridden = |default: &str| properties.iter().any(|(key, _)| key == default);
    let kept = defaults.iter().filter(|(key, _)| !is_overridden(key));
    let mut all: Vec<Property<'_>> = kept.map(|(key, value)| Property::new(key, *value)).collect();
    all.extend(properties.iter().map(|(key, value)| Property::new(key, value.as_value())));
    OwnedCommon::render(&all).map_err(|_| {
        let alone = properties
            .iter()
            .find(|(key, value)| OwnedCommon::render(&[Property::new(key, value.as_value())]).is_err());
        alone.or(properties.last()).map(|(key, _)| key.clone()).unwrap_or_default()
    })
}

thread_local! {
    /// Whether a hook of some client is running on this thread.
    static IN_HOOK: Cell<bool> = const { Cell::new(false) };
}

/// Says, as long as it lives, that a hook runs on this thread.
pub(crate) struct InHook {
    before: bool,
}

impl InHook {
    pub(crate) fn enter() -> Self {
        Self { before: IN_HOOK.replace(true) }
    }

    /// `None` if a hook is running already.
    fn enter_once() -> Option<Self> {
        if IN_HOOK.get() { None } else { Some(Self::enter()) }
    }

    fn is_inside() -> bool {
        IN_HOOK.get()
    }
}

impl Drop for InHook {
    fn drop(&mut self) {
        IN_HOOK.set(self.before);
    }
}
