//! A place beside the lanes for one event that is not to be sent yet, and perhaps never.
//!
//! In: an event and its owner, a number that tells one from another. Out: its frame in a lane, byte for byte as it was
//! written when it was put here, or no trace of it. Until then nobody counts it as accepted.
//!
//! It is written like any other event, in a ring of its own in memory of its own, behind the same kind of flag as a lane. So
//! holding one neither allocates nor waits, and what is committed later has the uuid, the time, the scope and the steps of
//! the moment at which it happened.

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use quillet_core::limits::EVENT_BYTES_MAX;
use quillet_core::{CaptureError, Consumer, Event, Instant, Timestamp};

use super::cell::{Inside, TryCell};
use super::{CLOSE_TRIES, LaneLimits, Lanes, OwnedCommon, State, wait_a_little};
use crate::arena::{self, Held};

/// Bytes of the ring. What is longer than a quarter of it is not held.
const HELD_BYTES: usize = 128 * 1024;

/// The place. Its owner is a number of the caller's.
pub(super) struct HeldEvent {
    place: TryCell<Place>,
    /// When it shall be committed, in microseconds of the process's clock; [`Instant::NEVER`] while there is none.
    due: AtomicU64,
}

struct Place {
    state: State,
    consumer: Held<Consumer<'static>>,
    owner: usize,
}

/// What became of the event that was held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a refusal has to be counted"]
pub(crate) enum Settled {
    /// There was none, or it was not meant.
    Nothing,
    /// It is in a lane.
    Committed,
    /// No lane takes it. It is gone.
    Refused(CaptureError),
    /// Somebody is there or in every lane; it stays.
    Busy,
}

impl HeldEvent {
    /// `None` if there is no memory for it.
    pub(super) fn new(seed: [u64; 2], common: &Arc<OwnedCommon>) -> Option<Self> {
        let ends = arena::untouched(HELD_BYTES)?;
        let limits = LaneLimits { events_max: 1, event_bytes_max: EVENT_BYTES_MAX };
        let state = State::new(limits.lane(ends.producer, seed), common);
        let place = Place { state, consumer: ends.consumer, owner: 0 };
        Some(Self { place: TryCell::new(place), due: AtomicU64::new(Instant::NEVER.as_micros()) })
    }

    /// Leaves nothing in it.
    fn clear(&self, place: &mut Place) {
        place.consumer.erase();
        // Relaxed: it only says when to look; what is there is behind the flag.
        self.due.store(Instant::NEVER.as_micros(), Ordering::Relaxed);
    }
}

impl Lanes {
    /// Holds an event of `owner` until it is [settled](Self::settle_held), which shall be at `due`. Like a capture of the news
    /// of a panic it runs no code of a caller's, waits for nobody and allocates nothing.
    ///
    /// # Errors
    ///
    /// [`CaptureError::Busy`] if somebody is there or nothing is held any more, [`CaptureError::Full`] if an event is, and what
    /// [`capture_crash`](Self::capture_crash) says.
    pub(crate) fn hold(
        &self,
        owner: usize,
        event: &Event<'_>,
        now: Timestamp,
        due: Instant,
    ) -> Result<(), CaptureError> {
        let mut place = self.held.place.try_enter().ok_or(CaptureError::Busy)?;
        place.state.refresh(&self.common);
        let State { lane, common, .. } = &mut place.state;
        lane.capture_any(event, &common.as_common(), now)?;
        place.owner = owner;
        self.held.due.store(due.as_micros(), Ordering::Relaxed);
        Ok(())
    }

    /// When what is held shall be committed; never if there is nothing.
    pub(crate) fn held_due(&self) -> Instant {
        Instant::from_micros(self.held.due.load(Ordering::Relaxed))
    }

    /// Has what is held until `from` committed at another time.
    pub(crate) fn hold_until(&self, from: Instant, to: Instant) {
        let (from, to) = (from.as_micros(), to.as_micros());
        let _ = self.held.due.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Commits what is held, if its owner is one that is meant. Waits for nobody and allocates nothing.
    pub(crate) fn settle_held(&self, is_meant: impl FnOnce(usize) -> bool) -> Settled {
        let Some(mut place) = self.held.place.try_enter() else {
            return if self.held.place.is_closed() { Settled::Nothing } else { Settled::Busy };
        };
        if is_meant(place.owner) { self.move_on(&mut place) } else { Settled::Nothing }
    }

    /// Forgets what is held, if its owner is one that is meant. Whether there was something.
    pub(crate) fn forget_held(&self, is_meant: impl FnOnce(usize) -> bool) -> bool {
        let Some(mut place) = self.held.place.try_enter() else { return false };
        let is_there = place.consumer.pending() > 0 && is_meant(place.owner);
        if is_there {
            self.held.clear(&mut place);
        }
        is_there
    }

    /// Commits what is held, and holds nothing any more. `None` if somebody stays there, or in every lane.
    pub(crate) fn close_held(&self) -> Option<Settled> {
        let mut tries = CLOSE_TRIES;
        loop {
            match self.held.place.try_enter() {
                Some(mut place) => {
                    let settled = self.move_on(&mut place);
                    if settled != Settled::Busy {
                        place.close();
                        return Some(settled);
                    }
                }
                None if self.held.place.is_closed() => return Some(Settled::Nothing),
                None => {}
            }
            if tries == 0 {
                return None;
            }
            wait_a_little(&mut tries);
        }
    }

    /// The frame goes into the crash lane, or if somebody is in there into any other.
    fn move_on(&self, place: &mut Inside<'_, Place>) -> Settled {
        let (tail, head) = (place.consumer.tail(), place.consumer.head());
        if tail == head {
            return Settled::Nothing;
        }
        let Some(mut state) = self.lanes.iter().rev().find_map(TryCell::try_enter) else {
            if !self.lanes.iter().all(TryCell::is_closed) {
                return Settled::Busy;
            }
            self.held.clear(place);
            return Settled::Refused(CaptureError::Closed);
        };
        // One frame is one slice, whichever.
        let (first, second) = place.consumer.slices(tail, head);
        let adopted = state.lane.adopt(if first.is_empty() { second } else { first });
        drop(state);
        self.held.clear(place);
        adopted.map_or_else(Settled::Refused, |()| Settled::Committed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should stop")]
    use super::super::RINGS;
    use super::*;
    use quillet_core::Property;

    const NOW: Timestamp = Timestamp::from_unix_micros(1_700_000_000_000_000);

    fn lanes() -> (Lanes, Held<[Consumer<'static>; RINGS]>) {
        let seeds = core::array::from_fn(|at| [at as u64, 7]);
        let limits = LaneLimits { events_max: 3, event_bytes_max: EVENT_BYTES_MAX };
        Lanes::new(arena::lanes(1 << 16).unwrap(), seeds, limits, OwnedCommon::render(&[]).unwrap()).unwrap()
    }

    fn hold(lanes: &Lanes, owner: usize, name: &str, due: u64) -> Result<(), CaptureError> {
        lanes.hold(owner, &Event::new(name, "somebody"), NOW, Instant::from_micros(due))
    }

    /// All that is in the lanes.
    fn text(consumers: &mut [Consumer<'static>; RINGS]) -> String {
        let read = |lane: &mut Consumer<'static>| {
            let read = lane.read();
            let (first, second) = read.slices();
            [first, second].concat()
        };
        String::from_utf8(consumers.iter_mut().flat_map(read).collect()).unwrap()
    }

    #[test]
    fn what_is_held_is_in_no_lane_until_it_is_settled_and_then_once() {
        let (lanes, mut consumers) = lanes();
        assert_eq!((lanes.settle_held(|_| true), lanes.held_due()), (Settled::Nothing, Instant::NEVER));
        hold(&lanes, 1, "one", 5).unwrap();
        assert_eq!(hold(&lanes, 2, "two", 6), Err(CaptureError::Full));
        assert_eq!((lanes.counts(), lanes.held_due()), ((0, 0), Instant::from_micros(5)));
        assert_eq!(lanes.settle_held(|owner| owner == 2), Settled::Nothing, "another one's");
        assert_eq!(lanes.settle_held(|owner| owner == 1), Settled::Committed);
        assert_eq!((lanes.counts(), lanes.held_due()), ((1, 0), Instant::NEVER));
        assert_eq!(lanes.settle_held(|_| true), Settled::Nothing);
        let text = text(&mut consumers);
        assert_eq!(text.matches(r#""event":"one""#).count(), 1, "{text}");
        assert!(text.contains("2023-11-14T22:13:20"), "its own time: {text}");
    }

    #[test]
    fn what_is_forgotten_was_never_there() {
        let (lanes, mut consumers) = lanes();
        hold(&lanes, 1, "one", 5).unwrap();
        assert!(!lanes.forget_held(|owner| owner == 2) && lanes.forget_held(|owner| owner == 1));
        assert!(!lanes.forget_held(|_| true));
        assert_eq!((lanes.settle_held(|_| true), lanes.held_due()), (Settled::Nothing, Instant::NEVER));
        hold(&lanes, 2, "two", 6).unwrap();
        assert_eq!(lanes.settle_held(|_| true), Settled::Committed);
        assert!(!text(&mut consumers).contains("one"));
    }

    #[test]
    fn as_many_are_held_one_after_the_other_as_come() {
        let (lanes, mut consumers) = lanes();
        let long = "x".repeat(9_000);
        let properties = [Property::new("text", long.as_str())];
        for owner in 0..100 {
            let long = Event::new("long", "somebody").properties(&properties);
            let event = if owner % 3 == 0 { Event::new("short", "somebody") } else { long };
            lanes.hold(owner, &event, NOW, Instant::from_micros(1)).unwrap();
            assert_eq!(lanes.settle_held(|it| it == owner), Settled::Committed);
            let text = text(&mut consumers);
            assert_eq!(text.len() > 9_000, owner % 3 != 0);
            assert!(quillet_core::is_frame(text.as_bytes()), "{text}");
            consumers.iter_mut().for_each(Consumer::erase);
        }
    }

    #[test]
    fn only_the_time_that_was_set_can_be_changed() {
        let (lanes, _consumers) = lanes();
        hold(&lanes, 1, "one", 5).unwrap();
        lanes.hold_until(Instant::from_micros(4), Instant::from_micros(9));
        assert_eq!(lanes.held_due(), Instant::from_micros(5));
        lanes.hold_until(Instant::from_micros(5), Instant::from_micros(9));
        assert_eq!(lanes.held_due(), Instant::from_micros(9));
    }

    #[test]
    fn a_full_lane_refuses_it_and_busy_ones_leave_it_where_it_is() {
        let (lanes, _consumers) = lanes();
        for _ in 0..3 {
            lanes.capture_crash(&Event::new("filler", "somebody"), NOW).unwrap();
        }
        hold(&lanes, 1, "one", 5).unwrap();
        {
            let _inside: Vec<_> = lanes.lanes.iter().map(|lane| lane.try_enter().unwrap()).collect();
            assert_eq!((lanes.settle_held(|_| true), lanes.close_held()), (Settled::Busy, None));
        }
        assert_eq!(lanes.settle_held(|_| true), Settled::Refused(CaptureError::Full));
        assert_eq!(lanes.settle_held(|_| true), Settled::Nothing);
    }

    #[test]
    fn once_it_is_closed_nothing_is_held_any_more() {
        let (lanes, _consumers) = lanes();
        hold(&lanes, 1, "one", 5).unwrap();
        {
            let _inside = lanes.held.place.try_enter().unwrap();
            assert_eq!((lanes.close_held(), lanes.settle_held(|_| true)), (None, Settled::Busy));
            assert_eq!(hold(&lanes, 2, "two", 5), Err(CaptureError::Busy), "not even the same thread");
        }
        assert_eq!(lanes.close_held(), Some(Settled::Committed));
        assert_eq!(lanes.close_held(), Some(Settled::Nothing));
        assert_eq!(hold(&lanes, 2, "two", 5), Err(CaptureError::Busy));
        assert_eq!(lanes.settle_held(|_| true), Settled::Nothing);
        assert_eq!(lanes.counts().0, 1);
    }

    #[test]
    fn lanes_that_are_closed_refuse_it() {
        let (lanes, _consumers) = lanes();
        assert!(lanes.close());
        hold(&lanes, 1, "one", 5).unwrap();
        assert_eq!(lanes.settle_held(|_| true), Settled::Refused(CaptureError::Closed));
        assert_eq!(lanes.held_due(), Instant::NEVER);
    }
}
