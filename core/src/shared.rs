//! One lane for the main loop and its interrupt handlers, on processors with a single core.
//!
//! In: captures from anywhere. Out: frames in one ring, in the order they were captured in. The lane lies behind
//! `critical_section`, which is the target's word for "nobody interrupts me now": it works without compare-and-swap, and
//! also where two cores share a lock. A handler that must not wait for a capture in the main loop gets a [`Lane`] and a
//! ring of its own instead; a flusher takes several.

use crate::capture::Lane;
use crate::common::Common;
use crate::event::Event;
use crate::stats::CaptureError;
use crate::uuid::Uuid;
use crate::wire::timestamp::Timestamp;
use core::cell::RefCell;
use critical_section::Mutex;

/// A [`Lane`] in a `static`, for whoever captures.
///
/// ```
/// use quillet_core::{Common, Lane, SharedLane, Stamper, StaticRing, Timestamp, event};
///
/// static EVENTS: SharedLane = SharedLane::new();
///
/// fn on_button(now: Timestamp) {
///     // From an interrupt handler as well as from main.
///     let _ = EVENTS.capture(&event!("button pressed", "device-7"), &Common::default(), now);
/// }
///
/// let ring: &'static mut StaticRing<4096> = Box::leak(Box::new(StaticRing::new()));
/// let (producer, consumer) = ring.split();
/// EVENTS.put(Lane::new(producer, Stamper::new([17, 4]), 32, 512));
/// on_button(Timestamp::from_unix_ms(1_795_000_000_000));
/// assert_eq!(consumer.pending(), 1);
/// ```
#[derive(Debug)]
pub struct SharedLane {
    lane: Mutex<RefCell<Option<Lane<'static>>>>,
}

impl SharedLane {
    /// A place for a lane, without one yet: captures are refused as [`CaptureError::Disabled`].
    #[must_use]
    pub const fn new() -> Self {
        Self { lane: Mutex::new(RefCell::new(None)) }
    }

    /// Puts the lane in place and gives back the one that was there.
    pub fn put(&self, lane: Lane<'static>) -> Option<Lane<'static>> {
        critical_section::with(|token| {
            self.lane.borrow(token).try_borrow_mut().ok().and_then(|mut slot| slot.replace(lane))
        })
    }

    /// [`Lane::capture`], with interrupts off for as long as it takes: some thousand instructions.
    ///
    /// # Errors
    ///
    /// Those of the lane; [`CaptureError::Disabled`] before there is one; [`CaptureError::Busy`] from within a capture, that
    /// is from a value that captures while it is written, or from a fault handler that interrupted one.
    pub fn capture(&self, event: &Event<'_>, common: &Common<'_>, now: Timestamp) -> Result<Uuid, CaptureError> {
        critical_section::with(|token| {
            let mut slot = self.lane.borrow(token).try_borrow_mut().map_err(|_| CaptureError::Busy)?;
            slot.as_mut().ok_or(CaptureError::Disabled)?.capture(event, common, now)
        })
    }

    /// Events ever committed to the ring, as [`Producer::committed`](crate::Producer::committed) counts them; 0 without a
    /// lane.
    pub fn committed(&self) -> usize {
        critical_section::with(|token| {
            let slot = self.lane.borrow(token).try_borrow();
            slot.ok().and_then(|slot| slot.as_ref().map(|lane| lane.producer().committed())).unwrap_or(0)
        })
    }
}

impl Default for SharedLane {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should stop")]
    use super::*;
    use crate::{JsonSink, SerializeError, Stamper, StaticRing, Value, WriteJson, props};
    use std::boxed::Box;
    use std::thread;

    fn lane(capacity: &'static mut StaticRing<4096>) -> (Lane<'static>, crate::Consumer<'static>) {
        let (producer, consumer) = capacity.split();
        (Lane::new(producer, Stamper::new([3, 4]), 1000, 512), consumer)
    }

    const NOW: Timestamp = Timestamp::from_unix_ms(1_795_000_000_000);

    #[test]
    fn captures_are_refused_until_there_is_a_lane() {
        static EVENTS: SharedLane = SharedLane::new();
        let capture = || EVENTS.capture(&Event::new("a", "b"), &Common::default(), NOW);
        assert_eq!((capture(), EVENTS.committed()), (Err(CaptureError::Disabled), 0));
        let (lane, consumer) = lane(Box::leak(Box::default()));
        assert!(EVENTS.put(lane).is_none());
        capture().unwrap();
        assert_eq!((consumer.pending(), EVENTS.committed()), (1, 1));
    }

    #[test]
    fn several_at_once_lose_nothing_and_mix_nothing() {
        static EVENTS: SharedLane = SharedLane::new();
        let (lane, mut consumer) = lane(Box::leak(Box::default()));
        EVENTS.put(lane);
        let capture = || {
            (0..8)
                .filter(|&n| {
                    let properties = props! { "n": n };
                    let event = Event::new("counted", "device").properties(properties);
                    EVENTS.capture(&event, &Common::default(), NOW).is_ok()
                })
                .count()
        };
        let accepted: usize = thread::scope(|scope| {
            let threads: std::vec::Vec<_> = (0..2).map(|_| scope.spawn(capture)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        let read = consumer.read();
        assert_eq!((accepted, read.events()), (16, 16));
        for line in read.slices().0.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            serde_json::from_slice::<serde_json::Value>(line.strip_suffix(b",").unwrap()).unwrap();
        }
        read.release();
    }

    static REENTRANT: SharedLane = SharedLane::new();

    struct Captures;

    impl WriteJson for Captures {
        fn write_json(&self, sink: &mut dyn JsonSink) -> Result<(), SerializeError> {
            let inner = REENTRANT.capture(&Event::new("inner", "device"), &Common::default(), NOW);
            assert_eq!(inner, Err(CaptureError::Busy));
            sink.write(b"1")
        }
    }

    #[test]
    fn a_capture_within_a_capture_is_refused() {
        let (lane, consumer) = lane(Box::leak(Box::default()));
        REENTRANT.put(lane);
        let properties = props! { "x": Value::Typed(&Captures) };
        let event = Event::new("outer", "device").properties(properties);
        REENTRANT.capture(&event, &Common::default(), NOW).unwrap();
        assert_eq!(consumer.pending(), 1);
    }
}
