//! One capture: an event goes from the caller's stack into a ring.
//!
//! In: an [`Event`], the time, what is common to all events. Out: a committed frame and its uuid, or a
//! [`CaptureError`] and a ring without a trace of it. Nothing here allocates, waits, or makes a system call.

use crate::common::{Common, ShortCommon};
use crate::event::{Event, Usual};
use crate::frame::is_frame;
use crate::limits::FRAME_END_BYTES;
use crate::ring::Producer;
use crate::stamp::Stamper;
use crate::stats::CaptureError;
use crate::uuid::Uuid;
use crate::wire::event::{FRAME_TAIL, stamp, survey, write};
use crate::wire::plain;
use crate::wire::timestamp::Timestamp;
use crate::wire::writer::{Out, Writer, put_head};

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
        let plain = |event| self.capture_plain(event, &ShortCommon::NONE, || *common, now);
        match event.usual().and_then(plain) {
            Some(uuid) => Ok(uuid),
            None => self.capture_any(event, common, now),
        }
    }

    /// Captures an event that says nothing but a name, an id and properties, if there is room and nothing odd about it: about
    /// twice as fast as [`capture_any`](Lane::capture_any); runs no code of a value's own. `None` means that nothing has
    /// happened, and says nothing about why: whoever gets it calls [`capture_any`](Lane::capture_any), as
    /// [`capture`](Lane::capture) does.
    ///
    /// `short` is what `common` gives, if that [is short](Common::short); `now` is asked for the time when all else is written.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub fn capture_plain<'c, T>(
        &mut self,
        event: Usual<'_>,
        short: &ShortCommon,
        common: impl Fn() -> Common<'c>,
        now: T,
    ) -> Option<Uuid>
    where
        Timestamp: From<T>,
    {
        if !plain::IS_WORTH_IT {
            return None;
        }
        if self.producer.committed() == self.committed_end && !self.has_room_for_event() {
            return None;
        }
        // No more than a frame may have, so that none gets longer.
        let mut most = self.producer.run().min(self.frame_bytes_max);
        if most < plain::ROOM_BYTES_MIN {
            // Where no frame may have as much, a run of it would be of no use, and what it leaves out of a lap would be lost.
            if self.frame_bytes_max < plain::ROOM_BYTES_MIN {
                return None;
            }
            self.producer.find_run(plain::ROOM_BYTES_MAX.min(self.frame_bytes_max));
            most = self.producer.run().min(self.frame_bytes_max);
            if most < plain::ROOM_BYTES_MIN {
                return None;
            }
        }
        let stamper = &mut self.stamper;
        plain::write(event, short, common, self.producer.grant_run(), most, |head| {
            let stamp = stamper.stamp(Timestamp::from(now));
            put_head(stamper.head(), &stamp, head);
            stamper.uuid(&stamp)
        })
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
        let may_hide = survey(event, common)?;
        if !self.has_room_for_event() {
            return Err(CaptureError::Full);
        }
        let stamp = stamp(event, &mut self.stamper, now);
        // Whatever there is in one piece. Where that was too little, writing has measured how much is wanted.
        let mut wanted = 0;
        loop {
            let mut grant = match wanted {
                0 => self.producer.grant_most(self.frame_bytes_max),
                bytes => self.producer.grant(bytes).map_err(|_| CaptureError::Full)?,
            };
            let mut writer = Writer::new(grant.bytes_mut());
            write(event, may_hide, &self.stamper, &stamp, common, &mut writer)?;
            writer.bytes(FRAME_TAIL);
            let bytes = writer.wanted();
            if bytes > self.frame_bytes_max {
                return Err(CaptureError::TooLarge);
            }
            if writer.finish().is_some() {
                grant.commit(bytes);
                return Ok(self.stamper.uuid(&stamp));
            }
            // Only a value that writes something else each time can differ from its own measure.
            if wanted != 0 {
                return Err(CaptureError::InvalidValue);
            }
            wanted = bytes;
        }
    }

    /// Takes a frame that another lane has captured, byte for byte: its uuid and time stay what they are.
    ///
    /// # Errors
    ///
    /// [`CaptureError::Full`] as for [`capture`](Lane::capture), [`CaptureError::TooLarge`] if it is longer than this lane's
    /// frames may be, [`CaptureError::InvalidValue`] if it is no frame.
    pub fn adopt(&mut self, frame: &[u8]) -> Result<(), CaptureError> {
        if frame.len() > self.frame_bytes_max {
            return Err(CaptureError::TooLarge);
        }
        if !is_frame(frame) {
            return Err(CaptureError::InvalidValue);
        }
        if !self.has_room_for_event() {
            return Err(CaptureError::Full);
        }
        let mut grant = self.producer.grant(frame.len()).map_err(|_| CaptureError::Full)?;
        grant.bytes_mut().copy_from_slice(frame);
        grant.commit(frame.len());
        Ok(())
    }

    /// Whether there may be one more undecided event. Once in `events_max` captures the answer needs a look at the other
    /// end's cache line; nothing else of a usual capture is unusual then.
    #[cfg_attr(target_pointer_width = "64", cold, inline(never))]
    fn has_room_for_event(&mut self) -> bool {
        let has_room = self.producer.has_room_for_event(self.events_max);
        self.committed_end = self.producer.released_at_least().wrapping_add(self.events_max);
        has_room
    }

    /// The producer, for its counts.
    pub fn producer(&self) -> &Producer<'m> {
        &self.producer
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should stop")]
    use super::*;
    use crate::ring::{Consumer, Ring};
    use std::vec;
    use std::vec::Vec;

    fn bytes(consumer: &Consumer<'_>) -> Vec<u8> {
        let (first, second) = consumer.slices(consumer.tail(), consumer.head());
        [first, second].concat()
    }

    #[test]
    fn a_frame_of_another_lane_is_taken_as_it_is_or_not_at_all() {
        let (mut one, mut other) = (vec![0; Ring::bytes_for(4096)], vec![0; Ring::bytes_for(4096)]);
        let (producer, mut from) = Ring::format(&mut one).unwrap().split();
        let mut lane = Lane::new(producer, Stamper::new([1, 2]), 8, 1000);
        let now = Timestamp::from_unix_micros(1_700_000_000_000_000);
        lane.capture(&Event::new("moved", "somebody"), &Common::default(), now).unwrap();
        let frame = bytes(&from);

        let (producer, mut to) = Ring::format(&mut other).unwrap().split();
        let mut lane = Lane::new(producer, Stamper::new([3, 4]), 2, frame.len() - FRAME_END_BYTES);
        let (half, _) = frame.split_at(frame.len() / 2);
        assert_eq!(lane.adopt(half), Err(CaptureError::InvalidValue));
        assert_eq!(lane.adopt(&[&frame[..], b"\n"].concat()), Err(CaptureError::TooLarge));
        assert!(to.read().is_empty());
        assert_eq!((lane.adopt(&frame), lane.adopt(&frame)), (Ok(()), Ok(())));
        assert_eq!(lane.adopt(&frame), Err(CaptureError::Full));
        assert_eq!((to.pending(), bytes(&to)), (2, [&frame[..], &frame].concat()));

        from.erase();
        assert_eq!((from.pending(), from.released()), (0, 1));
        assert!(!one.windows(5).any(|bytes| bytes == b"moved"), "nothing of it stays");
    }
}
