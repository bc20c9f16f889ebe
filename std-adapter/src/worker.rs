//! The one thread: poll, send, report, wait.
//!
//! In: frames in the lanes, and what callers ask for ([`Control`]). Out: requests, counters, answers to whoever waits. The
//! machine that decides is the core's [`Flusher`]; this file gives it time, a transport and a place to sleep.
//!
//! The lock on [`Control`] is held while a decision is made and never while anything is sent, called back or waited for, nor
//! while the disk works. A decision and its counters change under one hold of it, so the counters are exact at every moment.
//!
//! Locks are taken in this order: what looks after the spool, the right to release frames, [`Control`].

mod control;
mod end;
mod refuge;
#[cfg(all(test, unix))]
mod slow_disk;

use core::time::Duration;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::thread;

use quillet_core::{Action, Clock, Counters, FlushState, Flusher, Instant, Outcome, Report};

use crate::arena::Held;
use crate::crash;
use crate::error::FlushError;
use crate::lanes::RINGS;
use crate::log::Topic;
use crate::observers::Observers;
use crate::shared::Shared;
use crate::spool::{Replay, SEGMENT_BYTES, Sending};
use crate::transport::Sender;
pub(crate) use control::Control;
pub(crate) use refuge::Refuge;

/// How often an awake flush thread looks for events, as long as few have come since it last looked.
const TICK: Duration = Duration::from_millis(2);

/// How often it looks when events come so fast that a lane would be full soon. A look and the request that follows it take
/// some tens of microseconds, so this is still a small share of a core.
const TICK_MIN: Duration = Duration::from_micros(250);

/// With a lane this full at a look, in 256ths, the next look comes sooner. More than what a batch waits for at most, so that
/// it says that events come faster than they are looked at.
const FULLNESS_HIGH: usize = 80;

/// Up to here, the next look comes later.
const FULLNESS_LOW: usize = 32;

/// How long after the last event the flush thread stays awake, so that captures need not wake it.
const AWAKE: Duration = Duration::from_secs(1);

/// How long delivery rests after a panic of our own, which should not exist, so that it cannot become a busy loop.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// How soon to look again whether somebody who was in a lane when a shutdown began has left it.
const LANES_WAIT: Duration = Duration::from_millis(1);

/// Requests for live events after which one is for what dead processes left, even if there are more: a program that always
/// has something to send must not keep them for ever.
const SENT_IN_A_ROW_MAX: u32 = 16;

/// Drives the machine. Owned by the flush thread, or by whoever pumps.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    flusher: Held<Flusher<'static, RINGS>>,
    transport: Sender,
    observers: Arc<Observers>,
    /// How to send what dead processes left. `None`: there is nowhere to look for it.
    sending: Option<Sending>,
    /// What of that is being sent, while a request is out. Nobody has to wait for the answer to have files erased.
    replay: Option<Replay>,
    /// Where to go on if the lanes are in a file and that is cut off.
    refuge: Option<Refuge>,
    /// What of the machine's counters was added to the shared ones.
    published: Counters,
    /// When the committed count was last seen to change, and what it was then.
    last_event: Instant,
    committed: u64,
    /// Between [`TICK_MIN`] and [`TICK`].
    tick: Duration,
    /// Until when the lanes have nothing to do; the spool may have.
    idle_until: Instant,
    /// When the spool has to be looked after.
    keep_at: Instant,
    /// Requests since the lanes last had nothing to send.
    sent_in_a_row: u32,
    /// The deadline of a shutdown, once no lane takes events any more.
    closing_by: Option<Instant>,
    is_finished: bool,
}

/// What a step of the worker ended with.
pub(crate) enum Step {
    /// A request was made; there may be more to do at once.
    Sent,
    /// Nothing to do before this time, unless events come or somebody asks.
    Wait(Instant),
    /// Nothing to do ever again.
    Done,
}

impl Worker {
    pub(crate) fn new(
        shared: Arc<Shared>,
        flusher: Held<Flusher<'static, RINGS>>,
        transport: Sender,
        observers: Arc<Observers>,
        sending: Option<Sending>,
        refuge: Option<Refuge>,
    ) -> Self {
        let last_event = shared.clock.now();
        Self {
            shared,
            flusher,
            transport,
            observers,
            sending,
            replay: None,
            refuge,
            published: Counters::default(),
            last_event,
            committed: 0,
            tick: TICK,
            idle_until: Instant::ZERO,
            keep_at: Instant::NEVER,
            sent_in_a_row: 0,
            closing_by: None,
            is_finished: false,
        }
    }

    /// The flush thread's whole life.
    pub(crate) fn run(mut self) {
        crash::panic::keep_to_itself();
        loop {
            // A panic here would be a mistake of ours or of a caller's transport. Delivery goes on after it.
            match catch_unwind(AssertUnwindSafe(|| self.step(None))) {
                Ok(Step::Sent) => {}
                Ok(Step::Wait(until)) => self.park_until(until),
                Ok(Step::Done) => return,
                Err(_) => {
                    self.observers.log.warn(Topic::Panic, format_args!("the flush thread panicked; delivery goes on"));
                    self.take_nothing_for_sent();
                    thread::park_timeout(AFTER_PANIC);
                }
            }
        }
    }

    /// After a panic: were a batch still taken to be on its way, no other would ever be sent.
    fn take_nothing_for_sent(&mut self) {
        let shared = Arc::clone(&self.shared);
        let now = shared.clock.now();
        if let Some(mut replay) = self.replay.take() {
            replay.handle_outcome(now, Outcome::NoAnswer);
            if let Some(recovery) = &mut *shared.keeper() {
                recovery.put_back(replay);
            }
        }
        let _releasing = shared.crash.releasing();
        let mut control = shared.control();
        if control.abandoned.is_none() {
            self.flusher.handle_outcome(now, Outcome::NoAnswer);
            self.publish(&mut control);
        }
    }

    /// One decision, and the request it may ask for, which ends by `deadline` if there is one.
    pub(crate) fn step(&mut self, deadline: Option<Instant>) -> Step {
        if self.is_finished {
            return Step::Done;
        }
        if let Some(step) = self.take_refuge() {
            return step;
        }
        let held_until = self.shared.commit_due();
        self.keep_safe();
        match self.decide(deadline) {
            Step::Wait(until) => Step::Wait(until.min(self.keep_at).min(held_until)),
            step => step,
        }
    }

    /// Puts what has to make room into the spool, and brings its checkpoints up to date. The lock is held for counting
    /// only: nobody else touches the reading ends.
    fn keep_safe(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut keeper = shared.keeper();
        let Some(recovery) = &mut *keeper else { return };
        let (now, wall) = (shared.clock.now(), shared.wall_clock.now());
        let mut decided = Counters::default();
        while let Some(surplus) = self.flusher.surplus(SEGMENT_BYTES).filter(|_| recovery.is_keeping()) {
            let random = getrandom::u64().unwrap_or_default();
            let bytes = surplus.frames.0.len() + surplus.frames.1.len();
            let (lane, events) = (surplus.lane, surplus.events);
            if surplus.frames.0.contains(&0) || surplus.frames.1.contains(&0) {
                shared.crash.set_spool_degraded();
                break;
            }
            let is_kept = recovery.keep(surplus.frames, events, wall, random);
            let _releasing = shared.crash.releasing();
            let mut control = shared.control();
            if control.abandoned.is_some() {
                if is_kept {
                    // Counted already, and now in a file: not left in the lanes too, or they would be sent twice.
                    self.flusher.hand_over(lane, bytes, events);
                    control.left = control.left.wrapping_sub(events as u64);
                    control.decided = control.decided.wrapping_add(events as u64);
                }
                break;
            }
            if is_kept {
                self.flusher.hand_over(lane, bytes, events);
                count(&self.flusher, &mut self.published, &mut control);
            }
            // Older events may have had to go for these.
            decided.add(&control.settle_spool(recovery));
            if !is_kept {
                break;
            }
        }
        self.keep_at = recovery.cover(now, wall, &self.flusher, false);
        drop(keeper);
        self.observers.tell(&decided, None);
    }

    fn decide(&mut self, deadline: Option<Instant>) -> Step {
        let shared = Arc::clone(&self.shared);
        // These before the lock: they may have to wait for a turn of somebody's, and for a disk if the crash file is written.
        let is_closed = shared.is_closing() && shared.close_lanes();
        let releasing = shared.crash.releasing();
        let mut control = shared.control();
        if control.abandoned.is_some() {
            drop((control, releasing));
            return self.finish();
        }
        let is_ready = self.take_orders(&mut control, is_closed);
        let action = self.flusher.poll(shared.clock.now());
        match action {
            Action::Send(batch) => {
                drop((control, releasing));
                let mut batch = deadline.map_or(batch, |deadline| batch.ending_by(deadline));
                if let Some(refuge) = &mut self.refuge {
                    let Some(copy) = refuge.copy_of(&batch).filter(|_| !shared.crash.is_spool_degraded()) else {
                        // The next step sees to it; this batch stays where it is.
                        shared.crash.set_spool_degraded();
                        return Step::Sent;
                    };
                    batch = batch.over(copy);
                }
                let (outcome, status) = self.observers.send(&shared.clock, &mut self.transport, &batch);
                let releasing = shared.crash.releasing();
                let mut control = shared.control();
                if control.abandoned.is_some() {
                    drop((control, releasing));
                    return self.finish();
                }
                let report = self.flusher.handle_outcome(shared.clock.now(), outcome);
                let decided = self.publish(&mut control);
                drop((control, releasing));
                self.describe(&report);
                self.observers.tell(&decided, status);
                self.sent_in_a_row += 1;
                if self.sent_in_a_row < SENT_IN_A_ROW_MAX {
                    return Step::Sent;
                }
                self.sent_in_a_row = 0;
                if let Step::Done = self.step_spool(Instant::NEVER, deadline) { Step::Done } else { Step::Sent }
            }
            Action::Wait(until) => {
                self.sent_in_a_row = 0;
                let decided = self.publish(&mut control);
                drop((control, releasing));
                self.observers.tell(&decided, None);
                self.idle_until = until;
                let until = if is_ready { until } else { until.min(shared.clock.now().after(LANES_WAIT)) };
                self.step_spool(until, deadline)
            }
            Action::Done => {
                let end = control.shutdown;
                let decided = self.publish(&mut control);
                drop((control, releasing));
                self.observers.tell(&decided, None);
                // What was found is sent while there is time, unless the server has just failed to answer for our own.
                let is_time_left = end.is_some_and(|end| shared.clock.now() < end);
                if is_time_left && matches!(self.step_spool(Instant::NEVER, deadline), Step::Sent) {
                    return Step::Sent;
                }
                self.finish()
            }
        }
    }

    /// The same for what dead processes left, when the lanes have nothing to send: live events go first, and while they
    /// fail nothing else is tried.
    fn step_spool(&mut self, until: Instant, deadline: Option<Instant>) -> Step {
        let Some(sending) = self.sending.as_ref().filter(|_| !self.flusher.is_failing()) else {
            return Step::Wait(until);
        };
        let shared = Arc::clone(&self.shared);
        let mut keeper = shared.keeper();
        let Some(recovery) = &mut *keeper else { return Step::Wait(until) };
        if let Some(deadline) = self.closing_by {
            recovery.shutdown(deadline);
        }
        let again = recovery.work(shared.clock.now(), shared.wall_clock.now(), sending);
        let mut control = shared.control();
        if control.abandoned.is_some() {
            drop(control);
            drop(keeper);
            return self.finish();
        }
        let mut decided = control.settle_spool(recovery);
        self.replay = recovery.take_out();
        let action = self.replay.as_mut().map_or(Action::Wait(Instant::NEVER), |out| out.poll(shared.clock.now()));
        let step = match action {
            Action::Send(batch) => {
                // In this order: who has abandoned the client after this finds the spool free to be erased.
                drop(keeper);
                drop(control);
                let batch = deadline.map_or(batch, |deadline| batch.ending_by(deadline));
                let (outcome, status) = self.observers.send(&shared.clock, &mut self.transport, &batch);
                return self.judge_replay(outcome, status, &mut decided);
            }
            Action::Wait(retry) => Step::Wait(until.min(retry).min(again)),
            Action::Done => Step::Wait(until),
        };
        if let Some(replay) = self.replay.take() {
            recovery.put_back(replay);
        }
        drop(control);
        drop(keeper);
        self.observers.tell(&decided, None);
        step
    }

    /// What came of a request for events of dead processes.
    fn judge_replay(&mut self, outcome: Outcome, status: Option<u16>, decided: &mut Counters) -> Step {
        let shared = Arc::clone(&self.shared);
        let mut keeper = shared.keeper();
        let mut control = shared.control();
        let (None, Some(mut replay), Some(recovery)) = (control.abandoned, self.replay.take(), &mut *keeper) else {
            drop(control);
            drop(keeper);
            return self.finish();
        };
        let report = replay.handle_outcome(shared.clock.now(), outcome);
        recovery.put_back(replay);
        decided.add(&control.settle_spool(recovery));
        drop(control);
        recovery.acknowledge();
        drop(keeper);
        self.describe(&report);
        self.observers.tell(decided, status);
        Step::Sent
    }

    /// Passes on what callers have asked for since the last step. `false` if a shutdown has to wait, as not all lanes are
    /// closed.
    fn take_orders(&mut self, control: &mut Control, is_closed: bool) -> bool {
        let mut is_ready = true;
        if let Some(deadline) = control.shutdown {
            // Whoever passed the gates before they were shut is in a lane for an instant more, or as long as a `Serialize`
            // of the caller's takes. What comes of that is delivered too, so until then this is no end, but a flush.
            is_ready = is_closed || deadline <= self.shared.clock.now();
            if is_ready {
                self.flusher.shutdown(deadline);
                self.closing_by = Some(deadline);
            } else {
                let _ = self.flusher.flush();
            }
        }
        for flush in control.flushes.iter_mut().filter(|flush| flush.mark.is_none()) {
            flush.mark = Some(self.flusher.flush());
        }
        control.flushes.retain(|flush| !flush.is_left);
        is_ready
    }

    /// Adds what the machine decided to the shared counters and answers the callers it concerns. Returns what is new.
    fn publish(&mut self, control: &mut MutexGuard<'_, Control>) -> Counters {
        let new = count(&self.flusher, &mut self.published, control);
        let mut answered = false;
        for flush in control.flushes.iter_mut().filter(|flush| flush.result.is_none()) {
            let Some(mark) = &flush.mark else { continue };
            flush.result = match self.flusher.flush_state(mark) {
                FlushState::Done => Some(Ok(())),
                FlushState::Unreachable => Some(Err(FlushError::Unreachable)),
                FlushState::Paused => Some(Err(FlushError::Paused)),
                _ => None,
            };
            answered |= flush.result.is_some();
        }
        if answered {
            self.shared.changed.notify_all();
        }
        new
    }

    /// Says in the log what an operator would want to know about an answer.
    fn describe(&self, report: &Report) {
        let status = report.status.map_or("no answer".to_owned(), |status| format!("HTTP {status}"));
        let why = self.transport.last_error().filter(|_| report.status.is_none()).unwrap_or_default();
        if report.paused_for.is_some() {
            self.observers
                .log
                .warn(Topic::Paused, format_args!("{status}: delivery pauses; check the API key and the host"));
        } else if let Some(wait) = report.retry_in {
            self.observers
                .log
                .warn(Topic::Retry, format_args!("{status} {why}: next attempt in {} ms", wait.as_millis()));
        }
        if report.rejected > 0 {
            self.observers
                .log
                .warn(Topic::Rejected, format_args!("{status}: the server refused {} events", report.rejected));
        }
        if report.dropped > 0 {
            self.observers.log.warn(Topic::Dropped, format_args!("{status}: {} events dropped", report.dropped));
        }
    }

    /// Sleeps until `until`, an event, or an order, whichever the present state of wakefulness notices first.
    ///
    /// Waking a thread costs the one who wakes it several microseconds, which no capture should pay. So for a second after
    /// the last event this thread looks for itself, every [`TICK`] or, where that would let the queue overflow, more often;
    /// then it says that it sleeps and does so until its interval, and only in that state does a capture that fills the
    /// queue to `flush_at` wake it.
    fn park_until(&mut self, until: Instant) {
        let now = self.shared.clock.now();
        let (committed, _) = self.shared.lanes.counts();
        if committed != self.committed {
            (self.committed, self.last_event) = (committed, now);
        }
        if now.since(self.last_event) < AWAKE {
            thread::park_timeout(self.shared.clock.until(until).min(self.tick));
            self.tick = next_tick(self.tick, self.flusher.fullness());
            return;
        }
        if let Some(recovery) = &mut *self.shared.keeper() {
            recovery.cover(now, self.shared.wall_clock.now(), &self.flusher, true);
        }
        self.shared.asleep.store(true, Ordering::SeqCst);
        // A capture that read `asleep` a moment too early has published its event a moment later at most: one more look
        // after a tick finds it, without making every capture pay for a fence between the two.
        thread::park_timeout(self.shared.clock.until(until).min(TICK));
        if self.shared.lanes.counts().0 == self.committed && !self.has_orders() {
            thread::park_timeout(self.shared.clock.until(until).min(self.shared.flush_interval));
            if self.idle_until == Instant::NEVER && self.shared.lanes.counts().0 != self.committed {
                // Nobody saw when these events came; at worst they have waited for the whole interval already.
                let _ = self.flusher.flush();
            }
        }
        self.shared.asleep.store(false, Ordering::SeqCst);
    }

    /// Whether somebody asked for something that no step has seen yet, or a panic is held back. The wake-up that came with it
    /// may have been used up by the look before a deep sleep.
    fn has_orders(&self) -> bool {
        let control = self.shared.control();
        self.shared.lanes.held_due() != Instant::NEVER
            || control.shutdown.is_some()
            || control.abandoned.is_some()
            || control.flushes.iter().any(|flush| flush.mark.is_none())
    }
}

impl Drop for Worker {
    /// However the worker ends, nobody waits for it in vain.
    fn drop(&mut self) {
        // Except in a forked child, where this is a copy of a worker, and the lock may be held for ever.
        if self.shared.is_ours() {
            self.finish();
            // Should a mistake of ours have broken that off, at this point nobody else will say so.
            let mut control = self.shared.control();
            control.finished = true;
            control.close_flushes();
            self.shared.changed.notify_all();
        }
    }
}

/// Adds what the machine has decided since it was published to the shared counters. Returns what is new.
fn count(flusher: &Flusher<'_, RINGS>, published: &mut Counters, control: &mut Control) -> Counters {
    let mut new = flusher.counters().since(published);
    *published = *flusher.counters();
    // Events that were put elsewhere may be taken up again, so they are counted where that is.
    control.decided = control.decided.wrapping_add(new.settled()).wrapping_add(new.spooled);
    control.spooled = control.spooled.wrapping_add(core::mem::take(&mut new.spooled));
    control.counters.add(&new);
    new
}

/// Looks more often if the fullest lane was rather full, by its 256ths, and less often if it was not.
fn next_tick(tick: Duration, fullness: usize) -> Duration {
    let next = match fullness {
        FULLNESS_HIGH.. => tick / 2,
        FULLNESS_LOW.. => tick,
        _ => tick * 2,
    };
    next.clamp(TICK_MIN, TICK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worker_looks_more_often_while_a_lane_fills_and_less_often_when_it_does_not() {
        let mut tick = TICK;
        for fullness in [0, FULLNESS_LOW - 1, FULLNESS_LOW, FULLNESS_HIGH - 1] {
            tick = next_tick(tick, fullness);
            assert_eq!(tick, TICK, "{fullness}");
        }
        for expected in [TICK / 2, TICK / 4, TICK_MIN, TICK_MIN] {
            tick = next_tick(tick, FULLNESS_HIGH);
            assert_eq!(tick, expected);
        }
        assert_eq!(next_tick(tick, FULLNESS_LOW), TICK_MIN);
        assert_eq!(next_tick(next_tick(tick, 0), 0), TICK_MIN * 4);
    }
}
