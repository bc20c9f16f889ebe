//! One capture: an event goes from the caller's stack into a ring.
//!
//! In: an [`Event`], the time, what is common to all events. Out: a committed frame and its uuid, or a
//! [`CaptureError`] and a ring without a trace of it. Nothing here allocates, waits, or makes a system call.

use crate::common::Common;
use crate::event::Event;
use crate::limits::FRAME_END_BYTES;
use crate::ring::Producer;
use crate::stamp::{Stamp, Stamper};
use crate::stats::CaptureError;
use crate::uuid::Uuid;
use crate::wire::event::{FRAME_TAIL, Survey, measure, stamp, survey, write};
use crate::wire::plain;
use crate::wire::timestamp::Timestamp;
use crate::wire::writer::Writer;

/// The producing end of a ring, with what it takes to capture: identity, time, limits.
///
/// One per thread, interrupt handler or lock: a capture needs it exclusively.
#[derive(Debug)]
pub struct Lane<'m> {
    producer: Producer<'m>,
    stamper: Stamper,
    events_max: usize,
    /// The count of commits at which there may be too many undecided events: as many as are allowed after what was known to
    /// be released when somebody last looked. Commits come one by one, so none passes it without having been equal to it.
    committed_end: usize,
    /// Longest frame: an event of the longest JSON, and what ends a frame.
    frame_bytes_max: usize,
}

impl<'m> Lane<'m> {
    /// A lane that keeps at most `events_max` undecided events of at most `event_bytes_max` bytes of JSON each.
    ///
    /// The size is lowered to a quarter of the ring's capacity: an event needs contiguous room, and a ring must hold
    /// several to be one.
    pub fn new(producer: Producer<'m>, stamper: Stamper, events_max: usize, event_bytes_max: usize) -> Self {
        let event_bytes_max = event_bytes_max.min(producer.capacity() / 4);
        let committed_end = producer.committed();
        Self {
            producer,
            stamper,
            events_max,
            committed_end,
            frame_bytes_max: event_bytes_max.saturating_add(FRAME_END_BYTES),
        }
    }

    /// Captures an event: on `Ok` it is in the ring, complete, with the uuid returned and a timestamp that will not change.
    ///
    /// # Errors
    ///
    /// [`CaptureError::Full`] if the ring has no room or holds `events_max` events; each other [`CaptureError`] for what
    /// it says. The ring is then as it was before.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub fn capture(&mut self, event: &Event<'_>, common: &Common<'_>, now: Timestamp) -> Result<Uuid, CaptureError> {
        match self.capture_plain(event, || *common, now) {
            Some(uuid) => Ok(uuid),
            None => self.capture_any(event, common, now),
        }
    }

    /// Captures the event if it is a usual one, about twice as fast as [`capture_any`](Lane::capture_any); runs no code of
    /// a value's own. `None` means that nothing is in the ring and nothing is counted, and says nothing about why: whoever
    /// gets it calls [`capture_any`](Lane::capture_any), as [`capture`](Lane::capture) does. The lane's next time may then be
    /// a microsecond later.
    ///
    /// Usual are a name, an id and flat properties without anything to escape, where there is room.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub fn capture_plain<'c>(
        &mut self,
        event: &Event<'_>,
        common: impl FnOnce() -> Common<'c>,
        now: Timestamp,
    ) -> Option<Uuid> {
        if !plain::IS_WORTH_IT || event.rare.is_some() {
            return None;
        }
        if self.producer.committed() == self.committed_end && !self.has_room_for_event() {
            return None;
        }
        // Whatever there is; that the frame is not too long is seen when its length is known.
        let mut grant = match self.producer.run() {
            plain::ROOM_BYTES_MIN.. => self.producer.grant_up_to(usize::MAX),
            _ => self.producer.grant(plain::ROOM_BYTES_MAX).ok()?,
        };
        let stamp = self.stamper.stamp(now);
        let len = plain::write(event, self.stamper.head(), &stamp, common, grant.bytes_mut())?;
        if len > self.frame_bytes_max {
            return None;
        }
        grant.commit(len);
        Some(self.stamper.uuid(&stamp))
    }

    /// Captures any event, or says why not.
    ///
    /// # Errors
    ///
    /// Those of [`capture`](Lane::capture).
    #[inline(never)]
    pub fn capture_any(
        &mut self,
        event: &Event<'_>,
        common: &Common<'_>,
        now: Timestamp,
    ) -> Result<Uuid, CaptureError> {
        let survey = survey(event, common)?;
        if !self.has_room_for_event() {
            return Err(CaptureError::Full);
        }
        let stamp = stamp(event, &mut self.stamper, now);
        let Ok(mut grant) = self.producer.grant(survey.bytes) else {
            return self.capture_exactly(event, &survey, &stamp, common);
        };
        let mut writer = Writer::new(grant.bytes_mut());
        write(event, &survey, &self.stamper, &stamp, common, FRAME_TAIL, &mut writer)?;
        match writer.finish() {
            Some(len) if len <= self.frame_bytes_max => {
                grant.commit(len);
                Ok(self.stamper.uuid(&stamp))
            }
            Some(_) => Err(CaptureError::TooLarge),
            None => {
                drop(grant);
                self.capture_exactly(event, &survey, &stamp, common)
            }
        }
    }

    /// Whether there may be one more undecided event. Once in `events_max` captures the answer needs a look at the other
    /// end's cache line; nothing else of a usual capture is unusual then.
    #[cold]
    #[inline(never)]
    fn has_room_for_event(&mut self) -> bool {
        let has_room = self.producer.has_room_for_event(self.events_max);
        self.committed_end = self.producer.released_at_least().wrapping_add(self.events_max);
        has_room
    }

    /// The producer, for its counts.
    pub fn producer(&self) -> &Producer<'m> {
        &self.producer
    }

    /// The estimate did not fit, or too much had to be escaped: measure, then decide.
    #[cold]
    #[inline(never)]
    fn capture_exactly(
        &mut self,
        event: &Event<'_>,
        survey: &Survey,
        stamp: &Stamp,
        common: &Common<'_>,
    ) -> Result<Uuid, CaptureError> {
        let bytes = measure(event, survey, &self.stamper, stamp, common, FRAME_TAIL)?;
        if bytes > self.frame_bytes_max {
            return Err(CaptureError::TooLarge);
        }
        let mut grant = self.producer.grant(bytes).map_err(|_| CaptureError::Full)?;
        let mut writer = Writer::new(grant.bytes_mut());
        write(event, survey, &self.stamper, stamp, common, FRAME_TAIL, &mut writer)?;
        // Only a value that writes something else each time can differ from its own measure.
        let len = writer.finish().ok_or(CaptureError::InvalidValue)?;
        grant.commit(len);
        Ok(self.stamper.uuid(stamp))
    }
}
