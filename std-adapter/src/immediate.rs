//! One event past the queue: encoded, sent and answered on the caller's thread.
//!
//! In: an event and the time its caller has. Out: its uuid once the server took it, or why not. It has a ring, a lane and a
//! [`Flusher`] of its own, so nothing queued can hold it up, and it is counted and observed like everything else.

use core::time::Duration;
use std::sync::PoisonError;

use quillet_core::limits::EVENT_BYTES_MAX;
use quillet_core::{Action, CaptureError, Clock, Counters, Event, Flusher, Instant, Lane, Ring, Stamper, Uuid};

use crate::capture::guarded;
use crate::error::ImmediateError;
use crate::inner::{Inner, render};
use crate::sys;

impl Inner {
    /// See [`Client::capture_immediate`](crate::Client::capture_immediate).
    pub(crate) fn capture_immediate(&self, event: &Event<'_>, timeout: Duration) -> Result<Uuid, ImmediateError> {
        let refuse = |reason| ImmediateError::Refused(self.shared.refuse(reason));
        self.refused_by_gate().map_err(ImmediateError::Refused)?;
        let deadline = self.shared.clock.now().after(timeout);
        let [lane_seed, flusher_seed] = sys::entropy::<2>().ok_or(ImmediateError::OutOfMemory)?;
        let bytes = Ring::bytes_for(4 * EVENT_BYTES_MAX);
        let mut memory = Vec::new();
        memory.try_reserve_exact(bytes).map_err(|_| ImmediateError::OutOfMemory)?;
        memory.resize(bytes, 0u8);
        let (producer, consumer) = Ring::format(&mut memory).map_err(|_| ImmediateError::OutOfMemory)?.split();
        let mut lane = Lane::new(producer, Stamper::new(lane_seed), 1, EVENT_BYTES_MAX);
        let uuid = self.prepare(event, |event| self.capture_into(&mut lane, event)).map_err(refuse)?;
        {
            let mut control = self.shared.control();
            control.immediate += 1;
            control.immediate_pending += 1;
        }
        let flusher = Flusher::new([consumer], self.envelope.clone(), self.policy, flusher_seed);
        let (counters, status) = self.deliver(flusher, deadline);
        {
            let mut control = self.shared.control();
            control.counters.add(&counters);
            control.immediate_pending -= 1;
        }
        self.observers.tell(&counters, status);
        match (counters.delivered, counters.rejected) {
            (1.., _) => Ok(uuid),
            (0, 1..) => Err(ImmediateError::Rejected { status }),
            (0, 0) => Err(ImmediateError::NotDelivered { status }),
        }
    }

    /// The encoder, for a lane that is not one of the client's.
    fn capture_into(&self, lane: &mut Lane<'_>, event: &Event<'_>) -> Result<Uuid, CaptureError> {
        let common = {
            let properties = self.super_properties.lock().unwrap_or_else(PoisonError::into_inner);
            render(&self.defaults, &properties, &self.shared.errors.redactor).map_err(|_| CaptureError::InvalidValue)?
        };
        let now = self.shared.wall_clock.now();
        guarded(|| lane.capture(event, &common.as_common(), now))
    }

    /// Drives a machine to its end: everything in it delivered, refused, or given up at the deadline or with the client.
    /// Returns what it decided and the last status.
    fn deliver(&self, mut flusher: Flusher<'_, 1>, deadline: Instant) -> (Counters, Option<u16>) {
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut last_status = None;
        flusher.shutdown(deadline);
        loop {
            match flusher.poll(self.shared.clock.now()) {
                Action::Send(batch) => {
                    let (outcome, status) = self.observers.send(&self.shared.clock, &mut sender, &batch);
                    last_status = status.or(last_status);
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
                Action::Done => return (*flusher.counters(), last_status),
            }
        }
    }
}
