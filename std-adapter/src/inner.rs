//! One client behind its handles: how it starts, how its callers wait, how it ends.
//!
//! In: a checked [`Config`]. Out: lanes that take events, a worker that delivers them (on a thread of its own, or pumped),
//! and answers for callers in `flush`, `shutdown` and `discard`.

use core::time::Duration;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use quillet_core::limits::EVENT_BYTES_MAX;
use quillet_core::wire::key;
use quillet_core::{
    CaptureError, Clock, Counters, DropReason, Envelope, Exhausted, Flusher, Instant, Policy, Property,
};

use crate::arena::{self, Ends};
use crate::client::{Poll, ShutdownReport};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::crash::{self, Crash, Guard, Leftovers as CrashFiles};
use crate::error::{BuildError, FlushError};
use crate::exception::Errors;
use crate::flags::Flags;
use crate::fork::WipedByte;
use crate::hooks::OwnedValue;
use crate::host::KeyProblem;
use crate::inside::{ClientId, Inside};
use crate::lanes::{LaneLimits, Lanes, OwnedCommon, RINGS, SEEDS};
use crate::log::{Log, Topic};
use crate::observers::Observers;
use crate::redactor::Redactor;
use crate::shared::{GATE_CLOSED, GATE_HOOKS, GATE_OFF, GATE_REDACTS, GATES_OPEN, Shared};
use crate::spool::{Durability, Recovery, Sending, Spool};
use crate::sys::{self, WallClock};
use crate::transport::Sender;
use crate::worker::{Control, Refuge, Step, Worker};

/// With a spool, what could not be delivered stays, and is tried again this much later.
const KEEP: Exhausted = Exhausted::Keep(Duration::from_secs(15));

/// How long a discard waits for a request that is being broken off.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// One client. Dropped with its last handle.
pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    /// The worker of a client without a thread, for whoever pumps.
    pump: Option<Mutex<Worker>>,
    /// The hooks that learn what happened.
    pub(crate) observers: Arc<Observers>,
    pub(crate) flags: Arc<Flags>,
    /// For events sent past the queue, and for breaking requests off.
    pub(crate) sender: Mutex<Sender>,
    pub(crate) envelope: Envelope,
    pub(crate) policy: Policy,
    pub(crate) super_properties: Mutex<Vec<(String, OwnedValue)>>,
    /// What the client's own options say in every event. Not `Property`, which may borrow what no other thread may see.
    pub(crate) defaults: Vec<(&'static str, bool)>,
    pub(crate) shutdown_timeout: Duration,
    /// What a forked child makes its own client of. Locked only there.
    origin: Mutex<Config>,
    /// The client of a forked child, which its handles use from its first call on.
    successor: OnceLock<Box<Inner>>,
    /// The process whose thread is making the successor, or made it.
    successor_maker: AtomicU32,
}

impl Inner {
    pub(crate) fn start(config: Config) -> Result<Self, BuildError> {
        let (api_key, sender) = config.api_key.as_ref().zip(config.sender.as_ref()).ok_or(BuildError::OutOfMemory)?;
        let too_long = BuildError::ApiKey(KeyProblem::TooLong);
        let envelope = Envelope::new(api_key, config.historical_migration).map_err(|_| too_long)?;
        let sender = sender.clone();
        let mut defaults = vec![(key::IS_SERVER, config.is_server)];
        if config.disable_geoip {
            defaults.push((key::GEOIP_DISABLE, true));
        }
        let common = render(&defaults, &config.super_properties, &config.errors.redactor)
            .map_err(|key| BuildError::SuperProperty { key, problem: CaptureError::ReservedKey })?;
        let log = Log::new(config.enable_logging);
        let (spool, recovery, ends, guard) = queue(&config, api_key, &log)?;
        let seeds = sys::entropy::<SEEDS>().ok_or(BuildError::Entropy)?;
        let [flusher_seed] = sys::entropy::<1>().ok_or(BuildError::Entropy)?;
        if let Some(spool) = &spool {
            spool.set_common(common.as_common().members());
            spool.set_person(&config.crash.person);
        }
        let limits = LaneLimits { events_max: config.max_queue_size, event_bytes_max: EVENT_BYTES_MAX };
        let (lanes, consumers) = Lanes::new(ends, seeds, limits, common).ok_or(BuildError::OutOfMemory)?;

        let owner = crash::owner(&config.url, api_key);
        let mapping = spool.as_ref().and_then(Spool::mapping).cloned();
        let crash = match render(&defaults, &config.super_properties, &config.errors.redactor) {
            Ok(common) => Crash::new(&config.crash, owner, (guard, mapping), &common, &lanes, &log),
            Err(key) => return Err(BuildError::SuperProperty { key, problem: CaptureError::ReservedKey }),
        };

        let flags = Flags::start(&config)?;
        let (policy, client) = (config.policy, ClientId::new());
        let mut gates = GATES_OPEN;
        let looks_at_events = !config.hooks.before_send.is_empty() || flags.are_on_events();
        for (gate, is_set) in [(GATE_HOOKS, looks_at_events), (GATE_REDACTS, config.errors.redactor.is_needed())] {
            gates |= if is_set { gate } else { 0 };
        }
        let flusher_envelope = envelope.clone();
        let kept = Policy { exhausted: KEEP, ..policy };
        let mapping = spool.as_ref().and_then(Spool::mapping).cloned();
        let live = if mapping.is_some() { kept } else { policy };
        let refuge = mapping
            .map(|mapping| Refuge::new(mapping, config.queue_bytes, limits, (envelope.clone(), policy, flusher_seed)));
        let flusher = consumers.map(|lanes| Flusher::new(lanes, flusher_envelope, live, flusher_seed));
        let sending = Sending { envelope: envelope.clone(), policy: kept, seed: flusher_seed };
        let mut recovery = Recovery::with_crash_files(recovery, CrashFiles::of(&config.crash, owner));
        let mut control = Control::default();
        let sending = recovery.as_mut().map(|recovery| {
            // Making room for the new file may have cost old events.
            control.settle_spool(recovery);
            sending
        });
        let shared = Arc::new(Shared {
            lanes,
            gates: WipedByte::new(gates).ok_or(BuildError::OutOfMemory)?,
            gates_copy: AtomicU8::new(gates),
            successor: OnceLock::new(),
            client,
            asleep: AtomicBool::new(false),
            refused: [const { AtomicU64::new(0) }; CaptureError::COUNT],
            control: Mutex::new(control),
            keeper: Mutex::new(recovery),
            changed: Condvar::new(),
            thread: OnceLock::new(),
            clock: SystemClock::new(),
            wall_clock: WallClock,
            flush_at: policy.flush_at as u64,
            flush_interval: policy.flush_interval,
            crash,
            spool,
            errors: Errors::new(&config.errors).ok_or(BuildError::OutOfMemory)?,
        });
        let observers = Arc::new(Observers { client, hooks: Arc::clone(&config.hooks), log });
        let worker = Worker::new(Arc::clone(&shared), flusher, sender.clone(), Arc::clone(&observers), sending, refuge);
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
            pump,
            observers,
            flags,
            sender: Mutex::new(sender),
            envelope,
            policy,
            super_properties: Mutex::new(config.super_properties.clone()),
            defaults,
            shutdown_timeout: config.shutdown_timeout,
            origin: Mutex::new(config),
            successor: OnceLock::new(),
            successor_maker: AtomicU32::new(0),
        })
    }

    /// The client that this process uses instead, being a forked child: the same options, super properties and hooks, but
    /// rings, counters, connections and a flush thread of its own. Made at the first call; that one allocates and makes
    /// system calls, on whichever path it came.
    ///
    /// # Errors
    ///
    /// [`CaptureError::Closed`] if the client was shut down before the fork or cannot be made, [`CaptureError::Busy`] while
    /// another thread makes it.
    #[cold]
    pub(crate) fn successor(&self) -> Result<&Inner, CaptureError> {
        let gates = self.shared.gates_copy.load(Ordering::Relaxed);
        if gates & GATE_CLOSED != 0 {
            return Err(CaptureError::Closed);
        }
        if self.successor.get().is_none() {
            // Nobody waits for a thread that may exist only in the parent, so this is a number and no lock.
            let (pid, maker) = (std::process::id(), self.successor_maker.load(Ordering::Relaxed));
            let is_ours =
                |maker| self.successor_maker.compare_exchange(maker, pid, Ordering::Relaxed, Ordering::Relaxed).is_ok();
            if maker == pid || !is_ours(maker) {
                return self.made_successor(CaptureError::Busy);
            }
            let mut config = self.origin.lock().unwrap_or_else(PoisonError::into_inner).clone();
            config.sender = config.sender.map(|sender| sender.renewed());
            if let Ok(properties) = self.super_properties.try_lock() {
                config.super_properties.clone_from(&properties);
            }
            if let Ok(successor) = Self::start(config) {
                successor.shared.set_gate(GATE_OFF, gates & GATE_OFF != 0);
                self.shared.crash.hand_on(&successor.shared.crash);
                let _ = self.shared.successor.set(Arc::clone(&successor.shared));
                let _ = self.successor.set(Box::new(successor));
            }
        }
        self.made_successor(CaptureError::Closed)
    }

    /// The client of this process: this one, or a forked child's. `None` if that one cannot be had.
    pub(crate) fn current(&self) -> Option<&Self> {
        if self.shared.is_ours() { Some(self) } else { self.successor().ok() }
    }

    /// The successor, or in a child of the child that one's.
    fn made_successor(&self, otherwise: CaptureError) -> Result<&Inner, CaptureError> {
        let successor = self.successor.get().ok_or(otherwise)?;
        if successor.shared.is_ours() { Ok(successor) } else { successor.successor() }
    }

    pub(crate) fn change_super_properties(&self, change: impl FnOnce(&mut Vec<(String, OwnedValue)>)) -> bool {
        let mut properties = self.super_properties.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = properties.clone();
        change(&mut changed);
        match render(&self.defaults, &changed, &self.shared.errors.redactor) {
            Ok(common) => {
                *properties = changed;
                if let Some(spool) = &self.shared.spool {
                    spool.set_common(common.as_common().members());
                }
                self.shared.crash.set_common(&common);
                self.shared.lanes.set_common(common);
                true
            }
            Err(_) => false,
        }
    }

    pub(crate) fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        if Inside::is_inside(self.observers.client) {
            return Err(FlushError::FromHook);
        }
        let deadline = self.shared.clock.now().after(timeout);
        self.shared.commit_held();
        let mut control = self.shared.control();
        if control.finished || control.counted {
            return Err(FlushError::Closed);
        }
        let id = control.ask_flush();
        let result = self.wait(control, deadline, |control| control.flush_result(id));
        self.shared.control().end_flush(id);
        result.unwrap_or(Err(FlushError::TimedOut))
    }

    pub(crate) fn shutdown(&self, timeout: Duration) -> ShutdownReport {
        self.shared.set_gate(GATE_CLOSED, true);
        self.flags.close();
        let deadline = self.shared.clock.now().after(timeout);
        let mut control = self.shared.control();
        // Whoever comes later waits no longer than the first one.
        let deadline = control.shutdown.map_or(deadline, |earlier| earlier.min(deadline));
        control.shutdown = Some(deadline);
        if Inside::is_inside(self.observers.client) {
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
        ShutdownReport { is_complete: given_up == 0 && stats.pending == 0 && stats.spooled == 0, stats }
    }

    pub(crate) fn discard(&self) {
        self.shared.set_gate(GATE_CLOSED, true);
        self.flags.close();
        self.abandon(DropReason::Discarded);
        if !Inside::is_inside(self.observers.client) {
            // Until the request that is just being broken off has ended, or has not begun.
            let deadline = self.shared.clock.now().after(DISCARD_TIMEOUT);
            let end = self.wait(self.shared.control(), deadline, |control| control.finished.then_some(()));
            if end.is_none() {
                // What the request holds is left to the worker, when it comes back.
                self.shared.crash.close(true);
            }
        }
    }

    /// Counts what is pending as dropped, unless the worker has done so, and has the worker stop. From here on it begins no
    /// request and counts nothing that is counted here. What is discarded is erased on the disk, if the worker is not there.
    fn abandon(&self, reason: DropReason) {
        // Asks the disk, so not under the lock.
        let is_kept = reason == DropReason::Shutdown && self.shared.durability() != Durability::Memory;
        if reason == DropReason::Discarded {
            self.shared.erase_held();
        }
        self.shared.close_lanes();
        let mut control = self.shared.control();
        let undecided = self.shared.undecided(&control);
        if !control.abandon(undecided, is_kept, reason) {
            return;
        }
        // A worker that came to its end before tells nobody any more.
        let (is_over, mut told) = (control.finished, Counters::default());
        if is_over {
            told = core::mem::take(&mut control.given_up);
        }
        self.shared.changed.notify_all();
        drop(control);
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).abort();
        if reason == DropReason::Discarded {
            self.shared.erase_spool();
            if is_over {
                self.shared.crash.close(true);
            }
        }
        if let Some(Ok(mut worker)) = self.pump.as_ref().map(Mutex::try_lock) {
            // Nobody else may ever pump again; this step ends the worker and tells the hooks.
            worker.step(None);
        }
        self.observers.tell(&told, None);
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
                    let step = worker.step(Some(deadline));
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

    pub(crate) fn poll(&self) -> Poll {
        match self.pump.as_ref().map(Mutex::try_lock) {
            Some(Ok(mut worker)) => match worker.step(None) {
                Step::Sent => Poll::Sent,
                Step::Wait(until) => Poll::Wait(self.shared.clock.until(until).min(self.shared.flush_interval)),
                Step::Done => Poll::Done,
            },
            _ => Poll::Busy,
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !self.shared.is_ours() {
            // A forked child. The rings may be a mapping that it does not have, at addresses which are somebody else's by
            // now, and the locks may be held for ever: leave everything as it is.
            core::mem::forget(Arc::clone(&self.shared));
            return;
        }
        self.shutdown(self.shutdown_timeout);
    }
}

/// The spool, what delivers its files, the lanes' rings, and what keeps their file from ending the process.
type Queue = (Option<Spool>, Option<Recovery>, [Ends; RINGS], Option<Guard>);

/// The memory of the lanes: a file in the spool, if one is wanted and can be had.
fn queue(config: &Config, api_key: &str, log: &Log) -> Result<Queue, BuildError> {
    let heap = || arena::lanes::<RINGS>(config.queue_bytes).ok_or(BuildError::OutOfMemory);
    if config.spool.dir.is_none() {
        return Ok((None, None, heap()?, None));
    }
    let refused = |error: std::io::Error| {
        log.warn(Topic::Spool, format_args!("no spool, events are kept in memory only: {error}"));
    };
    let random = || getrandom::u64().unwrap_or_default();
    let (whose, sizes) = ((config.url.as_str(), api_key), (RINGS, config.queue_bytes));
    let opened = Spool::open(&config.spool, whose, sizes, WallClock.now(), random);
    let (mut spool, mut recovery, created) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            refused(error);
            return Ok((None, None, heap()?, None));
        }
    };
    created.unwrap_or_else(refused);
    // Before anything is stored there: a page that the disk has no room for would end the process.
    let guard = spool.mapping().map(|mapping| mapping.range()).and_then(|(start, bytes)| crash::guard(start, bytes));
    if guard.is_none() && spool.mapping().is_some() {
        refused(std::io::Error::other("SIGBUS cannot be handled, so a file cut off would end the process"));
    }
    let mapped = guard.and_then(|guard| Some((guard, arena::mapped_lanes::<RINGS>(spool.mapping()?)?)));
    match mapped.filter(|_| spool.publish()) {
        Some((guard, ends)) => Ok((Some(spool), Some(recovery), ends, Some(guard))),
        None => {
            spool.give_up();
            recovery.give_up();
            Ok((Some(spool), Some(recovery), heap()?, None))
        }
    }
}

/// Renders the client's own defaults and the caller's super properties, less what is denied; the caller's win. `Err` names
/// the key that cannot be one.
pub(crate) fn render(
    defaults: &[(&'static str, bool)],
    properties: &[(String, OwnedValue)],
    redactor: &Redactor,
) -> Result<OwnedCommon, String> {
    let is_overridden = |default: &str| properties.iter().any(|(key, _)| key == default);
    let kept = defaults.iter().filter(|(key, _)| !is_overridden(key));
    let mut all: Vec<Property<'_>> = kept.map(|(key, value)| Property::new(key, *value)).collect();
    all.extend(properties.iter().map(|(key, value)| Property::new(key, value.as_value())));
    redactor.list(&all, OwnedCommon::render).map_err(|_| {
        let alone = properties
            .iter()
            .find(|(key, value)| OwnedCommon::render(&[Property::new(key, value.as_value())]).is_err());
        alone.or(properties.last()).map(|(key, _)| key.clone()).unwrap_or_default()
    })
}
