//! Delivery as a state machine: [`poll`](Flusher::poll) says what to do, [`handle_outcome`](Flusher::handle_outcome) is told
//! what came of it. No clock, no socket, no thread, no allocation.
//!
//! In: the time, the rings, the outcomes of requests, and what callers want (flush, shutdown, discard). Out: batches to
//! send, times to wait until, and counters.
//!
//! ```text
//!                  due: flush_at, interval, half full,              ┌──────────◀─────────┐ settled, more of the batch
//!                       flush, shutdown                             ▼                    │ or split in two
//!            ┌──────┐                        ┌────────┐  Send  ┌─────────┐  outcome  ┌───┴────┐
//!  poll ───▶ │ idle │ ─────── freeze ──────▶ │ frozen │ ─────▶ │ on wire │ ────────▶ │ judged │
//!            └──────┘                        └────────┘        └─────────┘           └───┬────┘
//!               ▲                                 ▲  time's up  ┌─────────┐   retry      │
//!               │                                 └──────────── │ backoff │ ◀────────────┤
//!               │           batch settled                       │ pause   │   paused     │
//!               └─────────────────────────◀─────────────────────└─────────┘──────◀───────┘
//! ```
//!
//! `poll` decides in this order:
//!
//! 1. Closed, or the deadline of a shutdown has come, or delivery is paused and a shutdown began: drop (or leave to the
//!    spool) what is left; [`Action::Done`].
//! 2. A batch is on the wire: wait for its outcome. The same batch is not given twice.
//! 3. Nothing is pending: wait for events, without end; [`Action::Done`] in a shutdown.
//! 4. Paused, or in a backoff: wait for its end. With [`Overflow::DropOldest`], make room meanwhile.
//! 5. A frozen batch has frames left: send its next part.
//! 6. A threshold is reached, a flush wants it, or a shutdown began: freeze a batch and send it.
//! 7. Wait until the oldest event has waited for `flush_interval`.
//!
//! One batch is out at a time, so the order within a lane is kept, and what is captured meanwhile is not touched.
//!
//! # Splitting
//!
//! A batch is a frozen range per lane, settled strictly from its front (see [`batcher`](crate::batcher)). When the server
//! refuses a part of more than one frame with 400, a culprit is in it: its first half is sent next. Where that is taken,
//! the culprit is in the other half, and so on: a binary search with one request per halving. A single frame refused is
//! the culprit, is rejected, and all the rest is tried at once. For 413 the bytes are halved instead, and later batches
//! stay below what was refused, until a single frame turns out to be too large by itself, which explains it.
//!
//! A server that refuses everything would have that search begin anew for every frame. So as long as nothing of a batch was
//! taken, what follows a culprit is sent one frame at a time: if one is taken the rest goes at once, and if
//! [several in a row](REFUSED_IN_A_ROW_MAX) are not, it is the server, and delivery rests. After such a rest the first
//! request is a single frame too.

use crate::batcher::{Batcher, Surplus};
use crate::limits;
use crate::retry::{Backoff, Verdict, classify};
use crate::uptime::{Boots, Settled};
use crate::wire::batch::{Batch, Envelope};
use crate::{Consumer, Counters, DropReason, Instant, Outcome, log};
use core::fmt;
use core::time::Duration;

/// Single frames refused in a row, with nothing delivered between them, after which the fault is not the frames'.
const REFUSED_IN_A_ROW_MAX: usize = 8;

/// First pause after a server refused everything; doubles with every further one, up to [`Policy::pause`].
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// How full a lane may get, in 256ths, before a batch does not wait for [`Policy::batch_interval_min`].
const GATHERED_MAX: usize = 64;

/// How often room is made while nothing can be delivered.
const MAKE_ROOM_INTERVAL: Duration = Duration::from_millis(100);

/// How soon to look again for an event whose commit was under way.
const COMMIT_WAIT: Duration = Duration::from_millis(1);

/// When to send, how much, and what to do when it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Policy {
    /// Events pending over all lanes that make a batch due. Never more than `queue_events_max`, or a single lane could not
    /// reach it.
    pub flush_at: usize,
    /// Longest an event waits for company, counted from the first poll that saw it.
    pub flush_interval: Duration,
    /// Shortest time from one batch to the next as long as it is only `flush_at` that asks for it and no lane is a quarter
    /// full: events that come steadily are gathered, instead of `flush_at` of them in each request.
    pub batch_interval_min: Duration,
    /// Most events in one request; at least one.
    pub max_batch_events: usize,
    /// Most bytes of one request body. A single event that needs more is sent by itself.
    pub max_batch_bytes: usize,
    /// Requests after the first one for the same events, when the server answers with errors that may pass.
    pub max_retries: u32,
    /// Wait before the first retry; doubles with each further one. At least 10 ms.
    pub backoff_base: Duration,
    /// Longest wait between attempts, without the jitter of up to a quarter, and the most of a `Retry-After` that is
    /// believed.
    pub backoff_max: Duration,
    /// How long delivery rests after an answer that no retry can change. At least `backoff_base`.
    pub pause: Duration,
    /// Events one lane holds at most; whoever captures must keep to it. Half of it is what [`Overflow::DropOldest`] leaves.
    pub queue_events_max: usize,
    /// Who gives way when events come faster than they can be delivered.
    pub overflow: Overflow,
    /// What happens to events that could not be delivered.
    pub exhausted: Exhausted,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            flush_at: limits::FLUSH_AT,
            flush_interval: limits::FLUSH_INTERVAL,
            batch_interval_min: Duration::ZERO,
            max_batch_events: limits::BATCH_EVENTS_MAX,
            max_batch_bytes: limits::BATCH_BYTES_MAX,
            max_retries: limits::RETRIES_MAX,
            backoff_base: limits::BACKOFF_BASE,
            backoff_max: limits::BACKOFF_MAX,
            pause: limits::PAUSE,
            queue_events_max: limits::QUEUE_EVENTS_MAX,
            overflow: Overflow::DropNewest,
            exhausted: Exhausted::Drop,
        }
    }
}

/// Who gives way when a lane is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Overflow {
    /// The event that finds no room is refused, where it is captured.
    #[default]
    DropNewest,
    /// While nothing can be delivered, [`Flusher::poll`] releases the oldest events of lanes more than half full until they
    /// are half full. A burst can still find no room between two polls.
    DropOldest,
}

/// What happens to events when the retries are used up, the server refuses the key, or the shutdown's deadline comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Exhausted {
    /// They are dropped, or rejected, and counted.
    #[default]
    Drop,
    /// They stay in the rings, whose memory outlives the process: a spool. Out of retries, the same batch is tried once
    /// each time this long has passed; in a pause it waits for the end of it; after a shutdown it is pending for the next
    /// start.
    Keep(Duration),
}

/// Turns what is in the rings of `LANES` lanes into batches to send.
///
/// Whoever drives it repeats three steps, in a thread, in a firmware's main loop, or in a test with simulated time:
///
/// ```
/// use quillet_core::{Action, Clock, Flusher, Instant, Transport};
///
/// fn pump<const N: usize>(
///     flusher: &mut Flusher<'_, N>,
///     transport: &mut impl Transport,
///     clock: &impl Clock,
/// ) -> Instant {
///     loop {
///         match flusher.poll(clock.now()) {
///             Action::Send(batch) => {
///                 let outcome = transport.send(&batch);
///                 flusher.handle_outcome(clock.now(), outcome);
///             }
///             Action::Wait(until) => return until,
///             Action::Done => return Instant::NEVER,
///         }
///     }
/// }
/// ```
///
/// Time must not go backwards between calls. Nothing here allocates, and nothing panics.
pub struct Flusher<'m, const LANES: usize> {
    batcher: Batcher<'m, LANES>,
    envelope: Envelope,
    policy: Policy,
    backoff: Backoff,
    counters: Counters,

    /// The part was given out and its outcome is not known.
    on_wire: bool,
    /// Times the part was given out.
    attempt: u32,
    /// Errors the server answered to the part.
    failures: u32,
    /// Frames at the batch's front that hold one the server refuses; 0 if none is known.
    suspects: usize,
    /// Whether a frame of the batch met another fate than being refused by itself, and how many were.
    batch_has_passed: bool,
    batch_refused: usize,

    /// No request before this.
    retry_at: Instant,
    /// What a flush may shorten `retry_at` to.
    retry_soonest: Instant,
    paused_until: Option<Instant>,
    /// Consecutive outcomes without a connection.
    unreachable: u32,
    /// The retries of the part are used up, and it is kept.
    is_kept: bool,
    /// Single frames refused since something was delivered or delivery was paused for it.
    refused_in_a_row: usize,
    /// Pauses because everything was refused, since something was delivered.
    refused_pauses: u32,
    /// Half of the bytes that were too many for one body: what is tried next, and until when it is remembered.
    body_bytes_max: Option<(usize, Instant)>,

    /// When a poll first saw the oldest pending event, or an older one.
    oldest_seen: Option<Instant>,
    /// When the next batch may begin that only `flush_at` asks for.
    next_batch_at: Instant,
    deadline: Option<Instant>,
    closed: Option<DropReason>,
}

/// What to do next.
#[derive(Debug)]
#[must_use = "a batch that is not sent blocks all others until its outcome is told"]
pub enum Action<'f> {
    /// Send this batch once, then call [`Flusher::handle_outcome`].
    Send(Batch<'f>),
    /// Nothing until this time, unless events arrive or somebody flushes. [`Instant::NEVER`] when nothing is pending, and
    /// while an outcome is awaited.
    Wait(Instant),
    /// The shutdown has ended: nothing will be sent any more.
    Done,
}

/// What [`Flusher::handle_outcome`] made of an outcome, for diagnostics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Report {
    /// What the outcome was taken for; `None` if no batch was out.
    pub verdict: Option<Verdict>,
    /// The status, if there was an answer.
    pub status: Option<u16>,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// Events in the request.
    pub events: usize,
    /// Events that were delivered by it.
    pub delivered: usize,
    /// Events that were rejected because of it.
    pub rejected: usize,
    /// Events that were dropped because of it, the retries being used up.
    pub dropped: usize,
    /// How long until the next request, if there is a wait.
    pub retry_in: Option<Duration>,
    /// How long delivery rests, if it does.
    pub paused_for: Option<Duration>,
}

/// What was pending when [`Flusher::flush`] was called.
#[derive(Clone, Copy, Debug)]
pub struct FlushMark<const LANES: usize> {
    /// Per lane, how many events had ever been committed.
    committed: [usize; LANES],
    /// How many requests were done.
    requests: u64,
}

/// What became of what was pending at a [`FlushMark`], as of the last poll or outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum FlushState {
    /// Some of it is still to be sent.
    Pending,
    /// All of it is settled: delivered, rejected or dropped.
    Done,
    /// The server could not be reached as often as retries are allowed, at least once since the flush; or it failed as
    /// often, and the events are kept. They stay pending and are tried again later.
    Unreachable,
    /// Delivery rests after an answer that no retry can change. The events stay pending.
    Paused,
}

impl<'m, const LANES: usize> Flusher<'m, LANES> {
    /// Takes the reading ends of all lanes. `seed` is for the jitter of the waits; different devices should have different
    /// ones.
    ///
    /// What is pending in the rings already, recovered perhaps, is delivered like anything else.
    pub fn new(lanes: [Consumer<'m>; LANES], envelope: Envelope, policy: Policy, seed: [u64; 2]) -> Self {
        Self {
            batcher: Batcher::new(lanes),
            envelope,
            policy,
            backoff: Backoff::new(policy.backoff_base, policy.backoff_max, seed),
            counters: Counters::default(),
            on_wire: false,
            attempt: 0,
            failures: 0,
            suspects: 0,
            batch_has_passed: false,
            batch_refused: 0,
            retry_at: Instant::ZERO,
            retry_soonest: Instant::ZERO,
            paused_until: None,
            unreachable: 0,
            is_kept: false,
            refused_in_a_row: 0,
            refused_pauses: 0,
            body_bytes_max: None,
            oldest_seen: None,
            next_batch_at: Instant::ZERO,
            deadline: None,
            closed: None,
        }
    }

    /// Says what to do now. The order of its decisions is in the module's documentation.
    ///
    /// Cheap when there is nothing to do: a few loads per lane.
    pub fn poll(&mut self, now: Instant) -> Action<'_> {
        let step = self.decide(now);
        self.check();
        match step {
            Step::Send => {
                self.on_wire = true;
                self.attempt = self.attempt.saturating_add(1);
                Action::Send(self.batch())
            }
            Step::Wait(until) => Action::Wait(self.deadline.map_or(until, |deadline| until.min(deadline))),
            Step::Done => Action::Done,
        }
    }

    /// Takes note of what came of the batch that [`poll`](Self::poll) gave last.
    ///
    /// Without such a batch, or after it was dropped by the end of a shutdown, nothing happens and the report is empty.
    pub fn handle_outcome(&mut self, now: Instant, outcome: Outcome) -> Report {
        if !self.on_wire {
            return Report::default();
        }
        self.on_wire = false;
        self.counters.requests = self.counters.requests.wrapping_add(1);
        self.counters.retries = self.counters.retries.wrapping_add(u64::from(self.attempt > 1));
        let status = if let Outcome::Answered(answer) = &outcome { Some(answer.status) } else { None };
        let verdict = classify(&outcome);
        let mut report = Report {
            verdict: Some(verdict),
            status,
            attempt: self.attempt,
            events: self.batcher.part(),
            ..Report::default()
        };
        self.unreachable = if verdict == Verdict::Unreachable { self.unreachable.saturating_add(1) } else { 0 };
        self.is_kept = false;
        if !matches!(verdict, Verdict::Unreachable | Verdict::Retry { .. }) {
            // However unwelcome: an answer, and no sign that the server is overloaded.
            self.backoff.reset();
        }
        match verdict {
            Verdict::Delivered => self.deliver(&mut report),
            Verdict::Rejected => self.reject(&mut report),
            Verdict::Split { too_large } => self.split(now, too_large, &mut report),
            Verdict::Paused => self.refuse_all(now, &mut report),
            Verdict::Retry { after } => self.retry(now, after, &mut report),
            Verdict::Unreachable => self.wait(now, None, &mut report),
        }
        if verdict == Verdict::Delivered {
            log::debug!("{}", report);
        } else {
            log::warning!("{}", report);
        }
        self.check();
        report
    }

    /// Wants everything committed by now to be sent without waiting for a threshold. Several flushes may be under way; each
    /// ends, whatever is captured meanwhile.
    ///
    /// A backoff because the server could not be reached is shortened to its first length; one that the server asked for is
    /// not, nor is a pause.
    pub fn flush(&mut self) -> FlushMark<LANES> {
        self.retry_at = self.retry_at.min(self.retry_soonest);
        FlushMark { committed: self.batcher.flush(), requests: self.counters.requests }
    }

    /// What became of what was pending when `mark` was made.
    pub fn flush_state(&self, mark: &FlushMark<LANES>) -> FlushState {
        let gave_up = self.unreachable > self.policy.max_retries && self.counters.requests != mark.requests;
        if self.batcher.has_released(&mark.committed) {
            FlushState::Done
        } else if self.paused_until.is_some() {
            FlushState::Paused
        } else if gave_up || self.is_kept || self.closed.is_some() {
            FlushState::Unreachable
        } else {
            FlushState::Pending
        }
    }

    /// Sends what is pending, without waiting for thresholds, until `deadline`; then drops the rest (or leaves it in the
    /// rings, see [`Exhausted::Keep`]), and polls say [`Action::Done`]. In a pause that is at once.
    ///
    /// Waits between attempts go on, up to the deadline. A second call can only bring the deadline forward. Captures should
    /// have ended: what is committed later is still sent while there is time.
    pub fn shutdown(&mut self, deadline: Instant) {
        self.deadline = Some(self.deadline.map_or(deadline, |earlier| earlier.min(deadline)));
    }

    /// Drops everything, the batch on the wire included; polls say [`Action::Done`] from now on. Whether the server has the
    /// batch on the wire will not be known.
    pub fn discard(&mut self) {
        self.close(DropReason::Discarded);
    }

    /// [`discard`](Self::discard), and nothing of what was pending can be read in the rings' memory any more: it is blank.
    /// For a user who does not want to be known; costs a pass over what is pending.
    pub fn erase(&mut self) {
        self.batcher.thaw();
        // Not the newlines, by which frames are counted when they are released.
        self.batcher.for_each_waiting(|frame| {
            for byte in frame.iter_mut().filter(|byte| **byte != b'\n') {
                *byte = b' ';
            }
        });
        self.discard();
    }

    /// Gives the events captured without a clock their true times, once `boots` knows the time; see
    /// [`uptime`](crate::uptime).
    ///
    /// Only those that were never given out are touched, so that no event is sent with two times. Call it between the
    /// moment the time becomes known and the next poll; until then, do not poll, or events leave with their uptimes.
    /// Reads every pending byte. Calling it again changes nothing but what was captured without a clock since.
    pub fn settle_times(&mut self, boots: &Boots<'_>) -> Settled {
        let mut settled = Settled::default();
        self.batcher.for_each_waiting(|frame| settled.settle(frame, boots));
        settled
    }

    /// What was decided so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Events committed and not settled, over all lanes, counted from the rings. While a capture is under way this can be
    /// one more per lane.
    pub fn pending(&self) -> usize {
        self.batcher.pending()
    }

    /// Whether the last requests failed, or delivery rests: nothing that can be sent elsewhere should be sent now either.
    pub fn is_failing(&self) -> bool {
        self.paused_until.is_some() || self.backoff.failures() > 0
    }

    /// Frames that should be moved elsewhere before their lane is full: nothing can be delivered now, and they are more than
    /// half of what it holds. At most `bytes_max` bytes, but one frame at least. Whoever has put them in a safe place calls
    /// [`hand_over`](Self::hand_over).
    pub fn surplus(&self, bytes_max: usize) -> Option<Surplus<'_>> {
        if self.on_wire || !self.is_failing() {
            return None;
        }
        self.batcher.surplus(self.policy.queue_events_max, bytes_max)
    }

    /// Releases what [`surplus`](Self::surplus) has just given, which is somebody else's now: `bytes` bytes of `lane` that
    /// are `events` events. They count as spooled.
    pub fn hand_over(&mut self, lane: usize, bytes: usize, events: usize) {
        if self.on_wire {
            return;
        }
        self.batcher.release_oldest(lane, bytes, events);
        self.counters.spooled = self.counters.spooled.wrapping_add(events as u64);
        // Perhaps the culprit was among them.
        self.suspects = 0;
        self.check();
    }

    /// A lane's reading end, for whoever keeps [checkpoints](crate::Checkpoint) of it. `None` if there is no such lane.
    pub fn lane(&self, lane: usize) -> Option<&Consumer<'m>> {
        self.batcher.consumer(lane)
    }

    /// How full the fullest lane is, in 256ths of what it may hold, by events or by bytes, whichever is more. By this,
    /// somebody who looks for events now and then sees whether that is often enough.
    pub fn fullness(&self) -> usize {
        self.batcher.fullness(self.policy.queue_events_max)
    }

    /// Whether nothing is pending and no outcome is awaited.
    pub fn is_idle(&self) -> bool {
        !self.on_wire && self.pending() == 0
    }

    /// Checks the invariants. Costs nothing in a release build.
    fn check(&self) {
        self.batcher.check();
        debug_assert!(self.suspects <= self.batcher.frozen());
        debug_assert!(!self.on_wire || self.batcher.part() > 0);
    }

    fn decide(&mut self, now: Instant) -> Step {
        if let Some(reason) = self.closed {
            // For what was committed since.
            self.drop_pending(reason);
            return Step::Done;
        }
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
        if self.deadline.is_some_and(|deadline| deadline <= now || self.paused_until.is_some()) {
            self.close(DropReason::Shutdown);
            return Step::Done;
        }
        if self.on_wire {
            return Step::Wait(Instant::NEVER);
        }
        let pending = self.batcher.pending();
        if pending == 0 {
            self.oldest_seen = None;
            if self.deadline.is_some() {
                self.close(DropReason::Shutdown);
                return Step::Done;
            }
            return Step::Wait(Instant::NEVER);
        }
        let oldest_seen = *self.oldest_seen.get_or_insert(now);
        let resumes_at = self.paused_until.unwrap_or(self.retry_at);
        if resumes_at > now {
            return Step::Wait(self.make_room(now).min(resumes_at));
        }
        if self.batcher.frozen() == 0 {
            let due_at = self.due_at(pending).min(oldest_seen.after(self.policy.flush_interval));
            if due_at > now {
                return Step::Wait(due_at);
            }
            self.freeze(now);
            if self.doubts_server() && self.batcher.part() > 1 {
                self.cut(now);
            }
        } else if self.batcher.part() == 0 {
            self.cut(now);
        }
        // None of the counted events is visible yet: its producer is between two stores.
        if self.batcher.part() == 0 { Step::Wait(now.after(COMMIT_WAIT)) } else { Step::Send }
    }

    /// When to send, apart from when the interval has passed.
    fn due_at(&self, pending: usize) -> Instant {
        if self.deadline.is_some() || self.batcher.is_flushing() || self.batcher.is_half_full() {
            Instant::ZERO
        } else if pending < self.policy.flush_at.min(self.policy.queue_events_max) {
            Instant::NEVER
        } else if self.fullness() >= GATHERED_MAX {
            Instant::ZERO
        } else {
            self.next_batch_at
        }
    }

    fn freeze(&mut self, now: Instant) {
        let bytes_max = self.frames_bytes_max(now);
        let took_everything = self.batcher.freeze(self.policy.max_batch_events.max(1), bytes_max);
        if took_everything {
            // Whatever comes now is younger than this.
            self.oldest_seen = None;
        }
        self.next_batch_at = now.after(self.policy.batch_interval_min);
        self.suspects = 0;
        self.batch_refused = 0;
        self.batch_has_passed = false;
        self.renew_budget();
    }

    fn cut(&mut self, now: Instant) {
        let bytes_max = self.frames_bytes_max(now);
        let events_max = match self.suspects {
            0 if self.doubts_server() => 1,
            0 => usize::MAX,
            1 => 1,
            several => several / 2,
        };
        self.batcher.cut(events_max, bytes_max);
    }

    /// Whether frames were refused, one by one, of this batch or of those before it, and none met another fate in this one:
    /// as likely as not, all of them will be refused.
    fn doubts_server(&self) -> bool {
        !self.batch_has_passed && (self.batch_refused > 0 || self.refused_pauses > 0)
    }

    /// What is sent next was not sent before: its attempts and its retries begin anew.
    fn renew_budget(&mut self) {
        self.attempt = 0;
        self.failures = 0;
    }

    /// Most bytes the frames of a request may have.
    fn frames_bytes_max(&mut self, now: Instant) -> usize {
        if self.body_bytes_max.is_some_and(|(_, until)| until <= now) {
            self.body_bytes_max = None;
        }
        let learned = self.body_bytes_max.map_or(usize::MAX, |(bytes, _)| bytes);
        self.policy.max_batch_bytes.min(learned).saturating_sub(self.envelope.overhead())
    }

    fn batch(&self) -> Batch<'_> {
        let (lanes, start) = self.batcher.lanes();
        let (events, bytes) = (self.batcher.part(), self.batcher.part_bytes());
        Batch::new(&self.envelope, lanes, start, events, bytes, self.attempt, self.deadline)
    }

    fn deliver(&mut self, report: &mut Report) {
        self.refused_in_a_row = 0;
        self.refused_pauses = 0;
        self.batch_has_passed = true;
        report.delivered = self.settle();
        self.counters.delivered = self.counters.delivered.wrapping_add(report.delivered as u64);
    }

    fn reject(&mut self, report: &mut Report) {
        self.batch_has_passed = true;
        report.rejected = self.settle();
        self.counters.rejected = self.counters.rejected.wrapping_add(report.rejected as u64);
    }

    /// The part is refused as a whole: look for the reason in a smaller one.
    fn split(&mut self, now: Instant, too_large: bool, report: &mut Report) {
        if self.batcher.part() == 1 {
            return self.reject_culprit(now, too_large, report);
        }
        if too_large {
            let body_bytes = self.batcher.part_bytes().saturating_add(self.envelope.overhead());
            self.body_bytes_max = Some((body_bytes / 2, now.after(self.pause())));
        } else {
            self.suspects = self.batcher.part();
        }
        self.batcher.uncut();
        self.renew_budget();
    }

    fn reject_culprit(&mut self, now: Instant, too_large: bool, report: &mut Report) {
        if too_large {
            // One frame by itself explains why the larger bodies were refused.
            self.body_bytes_max = None;
        }
        report.rejected = self.settle();
        self.counters.rejected = self.counters.rejected.wrapping_add(report.rejected as u64);
        self.suspects = 0;
        self.batch_refused = self.batch_refused.saturating_add(1);
        self.refused_in_a_row = self.refused_in_a_row.saturating_add(1);
        let whole_batch = self.batcher.frozen() == 0 && self.batch_refused >= 2 && !self.batch_has_passed;
        if whole_batch || self.refused_in_a_row >= REFUSED_IN_A_ROW_MAX {
            // Not these events: the server refuses everything, and one request per event would be an attack on it.
            let doubled = REFUSED_PAUSE.saturating_mul(1 << self.refused_pauses.min(16));
            self.refused_in_a_row = 0;
            self.refused_pauses = self.refused_pauses.saturating_add(1);
            self.pause_for(doubled.min(self.pause()), now, report);
        }
    }

    /// The key or the address is wrong. Nothing else will be taken either, so only this part is given up, if at all.
    fn refuse_all(&mut self, now: Instant, report: &mut Report) {
        match self.policy.exhausted {
            Exhausted::Drop => self.reject(report),
            Exhausted::Keep(_) => self.renew_budget(),
        }
        self.pause_for(self.pause(), now, report);
    }

    fn retry(&mut self, now: Instant, after: Option<Duration>, report: &mut Report) {
        self.failures = self.failures.saturating_add(1);
        if self.failures > self.policy.max_retries {
            match self.policy.exhausted {
                Exhausted::Drop => {
                    self.batch_has_passed = true;
                    report.dropped = self.settle();
                    self.counters.count_dropped(DropReason::RetriesExhausted, report.dropped);
                }
                Exhausted::Keep(wait) => {
                    self.is_kept = true;
                    return self.wait_at_least(wait, now, after, report);
                }
            }
        }
        // Out of retries too: what comes next meets the same server.
        self.wait_at_least(Duration::ZERO, now, after, report);
    }

    fn wait(&mut self, now: Instant, after: Option<Duration>, report: &mut Report) {
        self.wait_at_least(Duration::ZERO, now, after, report);
        self.retry_soonest = self.retry_at.min(now.after(self.backoff.base()));
    }

    fn wait_at_least(&mut self, least: Duration, now: Instant, after: Option<Duration>, report: &mut Report) {
        let wait = self.backoff.fail(after).max(least);
        self.retry_at = now.after(wait);
        self.retry_soonest = self.retry_at;
        report.retry_in = Some(wait);
    }

    fn pause_for(&mut self, pause: Duration, now: Instant, report: &mut Report) {
        self.paused_until = Some(now.after(pause));
        report.paused_for = Some(pause);
    }

    fn pause(&self) -> Duration {
        // Without any rest, a kept batch and a refused key would make a tight loop.
        self.policy.pause.max(self.backoff.base())
    }

    /// The fate of the part is known. Says how many frames that were.
    fn settle(&mut self) -> usize {
        let settled = self.batcher.settle();
        self.suspects = self.suspects.saturating_sub(settled);
        self.renew_budget();
        settled
    }

    /// Drops the oldest events where the policy says so; says when to look again.
    fn make_room(&mut self, now: Instant) -> Instant {
        if self.policy.overflow != Overflow::DropOldest {
            return Instant::NEVER;
        }
        let dropped = self.batcher.make_room(self.policy.queue_events_max);
        if dropped > 0 {
            self.counters.count_dropped(DropReason::Overflow, dropped);
            // Perhaps the culprit was among them.
            self.suspects = 0;
        }
        now.after(MAKE_ROOM_INTERVAL)
    }

    fn close(&mut self, reason: DropReason) {
        self.closed = Some(reason);
        self.on_wire = false;
        self.suspects = 0;
        self.batcher.thaw();
        self.drop_pending(reason);
    }

    fn drop_pending(&mut self, reason: DropReason) {
        if reason == DropReason::Shutdown && matches!(self.policy.exhausted, Exhausted::Keep(_)) {
            return;
        }
        let dropped = self.batcher.release_all();
        self.counters.count_dropped(reason, dropped);
    }
}

impl<const LANES: usize> fmt::Debug for Flusher<'_, LANES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flusher")
            .field("pending", &self.pending())
            .field("frozen", &self.batcher.frozen())
            .field("on_wire", &self.on_wire)
            .field("attempt", &self.attempt)
            .field("retry_at", &self.retry_at)
            .field("paused_until", &self.paused_until)
            .field("closed", &self.closed)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

/// What to do next, before the borrow of a batch is taken.
enum Step {
    Send,
    Wait(Instant),
    Done,
}

#[cfg(test)]
mod tests;
