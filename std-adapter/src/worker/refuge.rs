//! When the file under the queue is taken away: the queue goes on in memory.
//!
//! In: a spool file that somebody has cut off, or a disk that does not give pages back, noticed by the guard of the mapping,
//! by the file's length, or by zeros where frames should be. Out: lanes over memory of the process, with every whole event
//! that could still be read in them; the others counted as [`DropReason::Damaged`]. Capturing goes on through the same
//! handles, and its shortest way knows nothing of this.
//!
//! Two things are not believed from the moment on that a queue is in a file: its bytes, so that every batch is copied and
//! looked at before it is sent; and, once part of the file is gone, its counts, which the lanes remember themselves.

use core::time::Duration;
use std::sync::Arc;

use quillet_core::{
    Batch, Clock, Consumer, Counters, DropReason, Envelope, Flusher, Instant, Policy, Producer, is_frame,
};

use super::{Control, Step, Worker, count};
use crate::arena;
use crate::lanes::{LaneLimits, RINGS};
use crate::log::Topic;
use crate::spool::Mapping;
use crate::sys;

/// How often the file's length is asked for. A page that is missed is noticed at once.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How soon to try again while somebody stays in a lane, or there is no memory.
const TRY_INTERVAL: Duration = Duration::from_millis(2);

/// What it takes to go on in memory.
pub(crate) struct Refuge {
    mapping: Arc<Mapping>,
    ring_bytes: usize,
    limits: LaneLimits,
    sending: (Envelope, Policy, [u64; 2]),
    next_look: Instant,
    /// The batch that is being sent.
    copy: Vec<u8>,
}

impl Refuge {
    /// For lanes that are in `mapping` now: rings of `ring_bytes` within the limits, and how to send from there.
    pub(crate) fn new(
        mapping: Arc<Mapping>,
        ring_bytes: usize,
        limits: LaneLimits,
        sending: (Envelope, Policy, [u64; 2]),
    ) -> Self {
        // Costs addresses, and memory as far as batches are so long.
        let (mut copy, longest) = (Vec::new(), sending.1.max_batch_bytes.max(limits.event_bytes_max));
        let _ = copy.try_reserve_exact(longest.min(ring_bytes.saturating_mul(RINGS)));
        Self { mapping, ring_bytes, limits, sending, next_look: Instant::ZERO, copy }
    }

    /// The bytes of a batch, which nobody can change any more. `None` if they are not as many frames as they should be, or
    /// there are zeros among them, which no frame has and a page that is gone consists of; or if there is no memory.
    pub(super) fn copy_of(&mut self, batch: &Batch<'_>) -> Option<&[u8]> {
        self.copy.clear();
        for stretch in batch.stretches() {
            self.copy.try_reserve(stretch.len()).ok()?;
            self.copy.extend_from_slice(stretch);
        }
        let is_right = newlines_and_zeros(&self.copy) == (batch.events(), 0) && self.copy.ends_with(b",\n");
        is_right.then_some(&self.copy)
    }

    fn is_cut(&mut self, now: Instant) -> bool {
        if now < self.next_look {
            return false;
        }
        self.next_look = now.after(LOOK_INTERVAL);
        !self.mapping.is_whole()
    }
}

impl Worker {
    /// Moves the lanes into memory if the file they are in is cut off. `None` if all is well, before or since; else what
    /// this step ends with: nothing may be sent as long as somebody stays in a lane.
    pub(super) fn take_refuge(&mut self) -> Option<Step> {
        let (refuge, now) = (self.refuge.as_mut()?, self.shared.clock.now());
        if !self.shared.crash.is_spool_degraded() {
            if !refuge.is_cut(now) {
                return None;
            }
            self.shared.crash.set_spool_degraded();
        }
        let shared = Arc::clone(&self.shared);
        let mut control = shared.control();
        if control.abandoned.is_some() {
            drop(control);
            return Some(self.finish());
        }
        let mut decided = count(&self.flusher, &mut self.published, &mut control);
        let Some(lost) = self.move_lanes(&mut control) else {
            if control.shutdown.is_none_or(|deadline| now < deadline) {
                return Some(Step::Wait(now.after(TRY_INTERVAL)));
            }
            drop(control);
            return Some(self.finish());
        };
        decided.add(&damaged(lost));
        drop(control);
        if let Some(recovery) = &mut *shared.keeper() {
            recovery.give_up();
        }
        let log = &self.observers.log;
        log.warn(
            Topic::Spool,
            format_args!("the spool file is cut off: {lost} events lost, the queue is in memory now"),
        );
        self.observers.tell(&decided, None);
        None
    }

    /// Says how many events were lost; `None` if nothing could be done yet.
    fn move_lanes(&mut self, control: &mut Control) -> Option<u64> {
        let refuge = self.refuge.as_ref()?;
        let ends = arena::lanes::<RINGS>(refuge.ring_bytes)?;
        let (seeds, flusher, gone) = (sys::entropy::<RINGS>()?, &self.flusher, control.decided);
        let mut lost = 0;
        let consumers = self.shared.lanes.move_into(ends, seeds, refuge.limits, |committed, ends| {
            let pending = committed.wrapping_sub(gone);
            let mut saved = 0;
            for (at, ends) in ends.iter_mut().enumerate() {
                if let Some(lane) = flusher.lane(at) {
                    saved += save(lane, &mut ends.producer, pending - saved);
                }
            }
            lost = pending - saved;
            saved
        })?;
        let (envelope, policy, seed) = self.refuge.take()?.sending;
        self.flusher = consumers.map(|consumers| Flusher::new(consumers, envelope, policy, seed));
        self.published = Counters::default();
        control.counters.add(&damaged(lost));
        for flush in control.flushes.iter_mut().filter(|flush| flush.result.is_none()) {
            // What was lost is decided. For the rest, they ask anew.
            flush.mark = None;
        }
        Some(lost)
    }

    /// At the end there is nowhere to go any more: whether the file is cut off, and what was in it cannot be counted on.
    pub(super) fn is_cut_off(&mut self) -> bool {
        let Some(refuge) = &self.refuge else { return false };
        if !self.shared.crash.is_spool_degraded() {
            if refuge.mapping.is_whole() {
                return false;
            }
            self.shared.crash.set_spool_degraded();
        }
        true
    }

    /// Counts what is lost with it, unless somebody has.
    pub(super) fn lose_what_is_cut_off(&mut self, control: &mut Control) {
        if control.abandoned.is_none() {
            count(&self.flusher, &mut self.published, control);
            let lost = self.shared.undecided(control);
            control.decided = control.decided.wrapping_add(lost);
            control.counters.add(&damaged(lost));
        }
    }
}

/// Newlines and zeros among these bytes.
fn newlines_and_zeros(bytes: &[u8]) -> (usize, usize) {
    // Sums that fit a byte, which lets the compiler count many at a time.
    bytes.chunks(240).fold((0, 0), |(newlines, zeros), chunk| {
        let add = |(n, z): (u8, u8), &byte: &u8| (n + u8::from(byte == b'\n'), z + u8::from(byte == 0));
        let (n, z) = chunk.iter().fold((0, 0), add);
        (newlines + usize::from(n), zeros + usize::from(z))
    })
}

fn damaged(events: u64) -> Counters {
    let mut counters = Counters::default();
    if let Some(damaged) = counters.dropped.get_mut(DropReason::Damaged.index()) {
        *damaged = events;
    }
    counters
}

/// Copies the whole events of a lane, at most `events_max`, and says how many there were. Nothing of the lane is believed:
/// its file may be cut off once more at this moment, so what is looked at is the copy.
fn save(lane: &Consumer<'_>, to: &mut Producer<'_>, events_max: u64) -> u64 {
    let (first, second) = lane.slices(lane.tail(), lane.head());
    let mut saved = 0;
    for piece in [first, second].into_iter().flat_map(|slice| slice.split_inclusive(|&byte| byte == b'\n')) {
        // Behind the zeros of pages that are gone may be an event that was captured since.
        let start = piece.iter().rposition(|&byte| byte == 0).map_or(0, |zero| zero + 1);
        let event = piece.get(start..).unwrap_or_default();
        if saved == events_max {
            break;
        }
        let Ok(mut grant) = to.grant(event.len()) else { continue };
        grant.bytes_mut().copy_from_slice(event);
        if is_frame(grant.bytes_mut()) {
            grant.commit(event.len());
            saved += 1;
        }
    }
    saved
}
