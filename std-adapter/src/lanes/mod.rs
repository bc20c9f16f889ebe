//! Several rings, so that no thread ever waits for another: each capture takes a lane that nobody is in.
//!
//! In: events, from any thread. Out: committed frames in one of the lanes, which the flush thread drains in turn.
//!
//! Threads begin at lane 0 and move on only when they meet somebody: a program with one capturing thread uses one lane
//! (and one lane's memory), and a thread keeps its order as long as it is not disturbed. What is in all lanes together is
//! bounded by [`LANES`] times the limit of one; a single thread may use all of `max_queue_size`, and only threads that
//! keep meeting each other can go beyond it.

pub(crate) mod cell;
mod held;

use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use quillet_core::{CaptureError, Common, CommonError, Consumer, Event, Gauge, Lane, Producer};
use quillet_core::{Property, ShortCommon, Stamper, Timestamp, Usual, Uuid};

use crate::arena::{Ends, Held};
use crate::capture::guarded;
use crate::clock::{FastClock, System, Ticks};
use crate::sys;
use cell::{Inside, TryCell};
use held::HeldEvent;
pub(crate) use held::Settled;

/// Rings a client has. More threads than this may capture at the same moment only if some of them are refused.
pub(crate) const LANES: usize = 8;

/// The lanes and the crash lane behind them, which only panic hooks enter: a queue that is full of other events, or a
/// thread that died inside a lane, does not keep the news of it out.
pub(crate) const RINGS: usize = LANES + 1;

/// Whoever makes uuids: each ring's lane, and the place for an event that is held.
pub(crate) const SEEDS: usize = RINGS + 1;

/// How often a thread looks at all lanes before it gives up. Whoever is inside one is done within some tens of
/// nanoseconds, unless it was descheduled there; so a second look helps, and a tenth would be waiting.
const ROUNDS: usize = 2;

/// How often all lanes together are asked for before somebody is taken to stay in one.
const ENTER_TRIES: usize = 20_000;

/// The same where a deadline has come, or there will be another try soon: long enough for whoever is in a lane and has the
/// processor, and for a few turns of others.
const CLOSE_TRIES: usize = 256;

/// How often a lane tries to read the newest super properties, each time overtaken by newer ones, before it makes do with
/// those that it has.
const REFRESH_TRIES: usize = 64;

thread_local! {
    /// The lane this thread used last.
    static LANE: Cell<usize> = const { Cell::new(0) };
}

/// The producing ends of a client's rings.
pub(crate) struct Lanes {
    /// The crash lane is the last.
    lanes: [TryCell<State>; RINGS],
    /// Elsewhere, so that the lanes stay at the beginning: finding one takes a step less.
    held: Box<HeldEvent>,
    gauges: [Held<Gauge<'static>>; RINGS],
    /// Since the lanes have other rings than those they began with.
    moved: OnceLock<Moved>,
    common: SharedCommon,
}

/// Where the lanes are now.
struct Moved {
    gauges: [Held<Gauge<'static>>; RINGS],
    /// Events that were committed and decided about before the move; the new rings' counts do not have them.
    before: u64,
}

/// What a lane may hold: events, and bytes of each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneLimits {
    pub(crate) events_max: usize,
    pub(crate) event_bytes_max: usize,
}

impl LaneLimits {
    fn lane(self, producer: Held<Producer<'static>>, seed: [u64; 2]) -> Held<Lane<'static>> {
        producer.map(|producer| Lane::new(producer, Stamper::new(seed), self.events_max, self.event_bytes_max))
    }
}

/// What a capture needs exclusively.
struct State {
    lane: Held<Lane<'static>>,
    clock: FastClock<System>,
    /// The super properties as this lane saw them last, once more where they are short, and which edition that was.
    short: ShortCommon,
    common: Arc<OwnedCommon>,
    edition: u64,
}

impl Lanes {
    /// Lanes over the producing ends given; returns them and the consuming ends.
    pub(crate) fn new(
        ends: [Ends; RINGS],
        seeds: [[u64; 2]; SEEDS],
        limits: LaneLimits,
        common: OwnedCommon,
    ) -> Option<(Self, Held<[quillet_core::Consumer<'static>; RINGS]>)> {
        let common = Arc::new(common);
        let [seeds @ .., held_seed] = seeds;
        let (mut lanes, mut gauges, mut consumers) = (Vec::new(), Vec::new(), Vec::new());
        for (ends, seed) in ends.into_iter().zip(seeds) {
            lanes.push(TryCell::new(State::new(limits.lane(ends.producer, seed), &common)));
            gauges.push(ends.gauge);
            consumers.push(ends.consumer);
        }
        let lanes = Self {
            lanes: lanes.try_into().ok()?,
            held: Box::new(HeldEvent::new(held_seed, &common)?),
            gauges: gauges.try_into().ok()?,
            moved: OnceLock::new(),
            common: SharedCommon::new(&common),
        };
        Some((lanes, Held::join::<RINGS>(consumers.try_into().ok()?)?))
    }

    /// Captures a usual event in the lane this thread used last, if nobody is in it, nothing has changed and there is room.
    /// `None` means that nothing has happened; [`capture`](Lanes::capture) is for the rest.
    #[inline(always)]
    pub(crate) fn capture_plain(&self, event: Usual<'_>) -> Option<Uuid> {
        // First: the counter takes as long as a third of all the rest, unless there is something to wait for meanwhile. There
        // is: an exchange is not done before the stores of the capture before it are.
        let count = sys::ticks();
        let mut state = self.lanes.get(LANE.get() % LANES)?.try_enter()?;
        let State { lane, clock, short, common, edition } = &mut *state;
        if self.common.is_newer_than(*edition) {
            return None;
        }
        lane.capture_plain(event, short, || common.as_common(), Ticks { clock, count })
    }

    /// Captures an event in the first free lane, beginning with the one this thread used last: whoever finds it taken moves
    /// on, and stays where there is room.
    ///
    /// A panic of a value's own code is caught here, and the event refused as invalid.
    #[cold]
    #[inline(never)]
    pub(crate) fn capture(&self, event: &Event<'_>) -> Result<Uuid, CaptureError> {
        let home = LANE.get();
        for _ in 0..ROUNDS {
            for step in 0..LANES {
                let at = (home + step) % LANES;
                if let Some(mut state) = self.lanes.get(at).and_then(TryCell::try_enter) {
                    LANE.set(at);
                    return state.capture(event, &self.common);
                }
            }
        }
        Err(CaptureError::Busy)
    }

    /// Captures the news of a panic: in the crash lane, or if somebody is in there in any other, and looks at each once.
    /// Runs no code of a caller's, provided the event holds none.
    pub(crate) fn capture_crash(&self, event: &Event<'_>, now: Timestamp) -> Result<Uuid, CaptureError> {
        let mut state = self.lanes.iter().rev().find_map(TryCell::try_enter).ok_or(CaptureError::Busy)?;
        state.refresh(&self.common);
        let State { lane, common, .. } = &mut *state;
        lane.capture_any(event, &common.as_common(), now)
    }

    /// Views of every ring's counts and of what is pending in it.
    pub(crate) fn gauges(&self) -> [Held<Gauge<'static>>; RINGS] {
        self.gauges.clone()
    }

    /// The same with other super properties than the lanes', for the rare event that must not say them all.
    #[cold]
    pub(crate) fn capture_with(
        &self,
        event: &Event<'_>,
        common: &Common<'_>,
        now: Timestamp,
    ) -> Result<Uuid, CaptureError> {
        let home = LANE.get();
        for step in 0..=ROUNDS * LANES {
            if let Some(mut state) = self.lanes.get((home + step) % LANES).and_then(TryCell::try_enter) {
                return state.lane.capture(event, common, now);
            }
        }
        Err(CaptureError::Busy)
    }

    /// Frames committed and released so far, over all lanes: `(committed, released)`.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let mut counts = (0u64, 0u64);
        let moved = self.moved.get();
        for gauge in moved.map_or(&self.gauges, |moved| &moved.gauges) {
            // Released first: what is released was committed before, so the difference is never negative. Unless somebody
            // has shortened the file that the rings are in; then there is nothing in them.
            let (released, committed) = (gauge.released(), gauge.committed());
            let is_right = committed.wrapping_sub(released) <= gauge.capacity();
            counts.1 = counts.1.wrapping_add(released as u64);
            counts.0 = counts.0.wrapping_add(if is_right { committed } else { released } as u64);
        }
        let before = moved.map_or(0, |moved| moved.before);
        (counts.0.wrapping_add(before), counts.1.wrapping_add(before))
    }

    /// Whether [`move_into`](Lanes::move_into) was done.
    pub(crate) fn are_moved(&self) -> bool {
        self.moved.get().is_some()
    }

    /// Gives every lane another ring, while nobody is in any of them: a capture that comes meanwhile is refused as busy.
    /// `fill` is told how many events were ever committed, moves what it can into the new rings, and says how many
    /// events that was. Returns the reading ends of the new rings, or `None` if somebody stays in a lane, or if this was
    /// done before; then nothing has happened.
    pub(crate) fn move_into(
        &self,
        mut ends: [Ends; RINGS],
        seeds: [[u64; 2]; RINGS],
        limits: LaneLimits,
        fill: impl FnOnce(u64, &mut [Ends; RINGS]) -> u64,
    ) -> Option<Held<[Consumer<'static>; RINGS]>> {
        let mut inside = self.enter_all().filter(|_| !self.are_moved())?;
        let committed = committed(&inside);
        let kept = fill(committed, &mut ends);
        let (mut gauges, mut consumers) = (Vec::new(), Vec::new());
        for ((entered, ends), seed) in inside.iter_mut().zip(ends).zip(seeds) {
            entered.inside.as_mut()?.lane = limits.lane(ends.producer, seed);
            gauges.push(ends.gauge);
            consumers.push(ends.consumer);
        }
        let before = committed.wrapping_sub(kept);
        let _ = self.moved.set(Moved { gauges: gauges.try_into().ok()?, before });
        Held::join::<RINGS>(consumers.try_into().ok()?)
    }

    /// Events ever committed as the lanes themselves remember it, whatever became of their rings' memory. `None` if
    /// somebody stays in a lane.
    pub(crate) fn committed(&self) -> Option<u64> {
        self.enter_all().map(|inside| committed(&inside))
    }

    /// Lets nobody into a lane any more: whoever comes later finds all of them busy. Whether each is closed now; not one
    /// in which somebody stays. Captures have looked at the gates some time before they enter a lane, and only this tells
    /// for certain that no more events come. It costs them nothing, as it uses the flag that they take anyway.
    pub(crate) fn close(&self) -> bool {
        let mut tries = CLOSE_TRIES;
        let mut close = |cell: &TryCell<State>| loop {
            match cell.try_enter() {
                Some(inside) => inside.close(),
                None if cell.is_closed() => {}
                None if tries == 0 => return false,
                None => {
                    wait_a_little(&mut tries);
                    continue;
                }
            }
            return true;
        };
        // Each of them, also those behind one that somebody stays in.
        self.lanes.iter().filter(|cell| !close(cell)).count() == 0
    }

    /// All lanes at once, as soon as each is free. Whoever is in one is done in an instant, or is waiting for the caller.
    fn enter_all(&self) -> Option<Vec<Entered<'_>>> {
        let mut tries = ENTER_TRIES;
        self.lanes.iter().map(|cell| Entered::enter(cell, &mut tries)).collect()
    }

    /// Frames nobody has decided about, over all lanes.
    pub(crate) fn pending(&self) -> u64 {
        let (committed, released) = self.counts();
        committed.wrapping_sub(released)
    }

    /// Whether a sleeping flush thread should be woken: `flush_at` events are waiting, or half of a lane is in use by fewer
    /// but larger ones.
    pub(crate) fn is_worth_waking(&self, flush_at: u64) -> bool {
        let gauges = self.moved.get().map_or(&self.gauges, |moved| &moved.gauges);
        self.pending() >= flush_at || gauges.iter().any(|gauge| gauge.bytes_used() > gauge.capacity() / 2)
    }

    /// Replaces the super properties. Captures that run meanwhile see the old ones or the new ones, never a mixture.
    pub(crate) fn set_common(&self, common: OwnedCommon) {
        self.common.replace(common);
    }
}

/// One more of a number of tries.
fn wait_a_little(tries: &mut usize) {
    *tries = tries.saturating_sub(1);
    if tries.is_multiple_of(64) { std::thread::yield_now() } else { core::hint::spin_loop() }
}

/// Events ever committed to these.
fn committed(lanes: &[Entered<'_>]) -> u64 {
    let states = lanes.iter().filter_map(|lane| lane.inside.as_ref());
    states.fold(0, |sum, state| sum.wrapping_add(state.lane.producer().committed() as u64))
}

/// Exclusive use of a lane, open or closed. It is afterwards what it was before.
struct Entered<'a> {
    /// `None` only while being dropped.
    inside: Option<Inside<'a, State>>,
    was_closed: bool,
}

impl<'a> Entered<'a> {
    fn enter(cell: &'a TryCell<State>, tries: &mut usize) -> Option<Self> {
        loop {
            let closed = || cell.reopen().map(|inside| (inside, true));
            match cell.try_enter().map(|inside| (inside, false)).or_else(closed) {
                Some((inside, was_closed)) => return Some(Self { inside: Some(inside), was_closed }),
                None if *tries == 0 => return None,
                None => wait_a_little(tries),
            }
        }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if let Some(inside) = self.inside.take().filter(|_| self.was_closed) {
            inside.close();
        }
    }
}

impl State {
    fn new(lane: Held<Lane<'static>>, common: &Arc<OwnedCommon>) -> Self {
        let short = common.as_common().short();
        Self { lane, clock: FastClock::new(System), short, common: Arc::clone(common), edition: 0 }
    }

    fn capture(&mut self, event: &Event<'_>, shared: &SharedCommon) -> Result<Uuid, CaptureError> {
        self.refresh(shared);
        let now = self.clock.now();
        // A `Serialize` of the caller's may panic; then the grant is given back on the way here.
        guarded(|| self.lane.capture_any(event, &self.common.as_common(), now))
    }

    fn refresh(&mut self, shared: &SharedCommon) {
        if shared.is_newer_than(self.edition) {
            shared.refresh(&mut self.common, &mut self.edition);
            self.short = self.common.as_common().short();
        }
    }
}

/// The editions of the super properties, numbered in order.
struct SharedCommon {
    /// The newest.
    edition: AtomicU64,
    /// Each edition in the place that its number's lowest bit says, so that the newest is never in the one being replaced.
    places: [RwLock<(u64, Arc<OwnedCommon>)>; 2],
    /// Those that a place or a lane still has, so that no capture ever frees one. Held by whoever replaces.
    kept: Mutex<Vec<Arc<OwnedCommon>>>,
}

impl SharedCommon {
    fn new(first: &Arc<OwnedCommon>) -> Self {
        let place = || RwLock::new((0, Arc::clone(first)));
        Self { edition: AtomicU64::new(0), places: [place(), place()], kept: Mutex::new(vec![Arc::clone(first)]) }
    }

    #[inline(always)]
    fn is_newer_than(&self, edition: u64) -> bool {
        // Acquire: pairs with the Release in `replace`. Only a hint; the editions themselves are behind their locks.
        self.edition.load(Ordering::Acquire) > edition
    }

    fn place(&self, edition: u64) -> &RwLock<(u64, Arc<OwnedCommon>)> {
        let [even, odd] = &self.places;
        if edition.is_multiple_of(2) { even } else { odd }
    }

    fn replace(&self, common: OwnedCommon) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|edition| Arc::strong_count(edition) > 1);
        let (next, common) = (self.edition.load(Ordering::Relaxed).wrapping_add(1), Arc::new(common));
        kept.push(Arc::clone(&common));
        *self.place(next).write().unwrap_or_else(PoisonError::into_inner) = (next, common);
        // Release: pairs with the Acquire in `is_newer_than`.
        self.edition.store(next, Ordering::Release);
    }

    /// Brings a lane up to date. What is newest now is in a place that nobody writes to before another one is the newest,
    /// so a try that fails has been overtaken.
    #[cold]
    #[inline(never)]
    fn refresh(&self, common: &mut Arc<OwnedCommon>, edition: &mut u64) {
        for _ in 0..REFRESH_TRIES {
            let Ok(place) = self.place(self.edition.load(Ordering::Acquire)).try_read() else { continue };
            if place.0 > *edition {
                (*edition, *common) = (place.0, Arc::clone(&place.1));
            }
            return;
        }
    }
}

/// Rendered super properties that own their bytes.
pub(crate) struct OwnedCommon {
    block: Box<[u8]>,
    layout: Common<'static>,
}

impl OwnedCommon {
    /// Renders `properties` behind `$lib` and `$lib_version`.
    pub(crate) fn render(properties: &[Property<'_>]) -> Result<Self, CommonError> {
        let mut memory = vec![0; Common::bytes_for(properties)];
        let common = Common::render(&mut memory, properties)?;
        let (len, layout) = (common.as_block().len(), common.over(&[]));
        memory.truncate(len);
        Ok(Self { block: memory.into_boxed_slice(), layout })
    }

    #[inline(always)]
    pub(crate) fn as_common(&self) -> Common<'_> {
        self.layout.over(&self.block)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should stop")]

    use super::*;
    use quillet_core::Value;

    fn edition(n: u64) -> OwnedCommon {
        OwnedCommon::render(&[Property::new("n", Value::Uint(n))]).unwrap()
    }

    fn says(common: &OwnedCommon, n: u64) -> bool {
        let text = String::from_utf8_lossy(&common.block).into_owned();
        text.contains(&format!("\"n\":{n}"))
    }

    #[test]
    fn a_lane_far_behind_sees_the_newest_edition_while_the_next_one_is_written() {
        let first = Arc::new(edition(0));
        let shared = SharedCommon::new(&first);
        let (mut common, mut number) = (Arc::clone(&first), 0);
        for n in 1..6 {
            shared.replace(edition(n));
            let _replacing = shared.kept.lock().unwrap();
            let _written = shared.place(n + 1).write().unwrap();
            if n % 2 == 1 {
                shared.refresh(&mut common, &mut number);
                assert!(says(&common, n) && number == n, "{n} {number}");
            }
        }
    }

    #[test]
    fn editions_are_freed_once_nobody_uses_them_and_never_by_a_lane() {
        let first = Arc::new(edition(0));
        let shared = SharedCommon::new(&first);
        let (mut common, mut number) = (Arc::clone(&first), 0);
        for n in 1..20 {
            shared.replace(edition(n));
            let before = Arc::downgrade(&common);
            shared.refresh(&mut common, &mut number);
            assert!(before.upgrade().is_some(), "the lane's own was not the last");
        }
        assert!(shared.kept.lock().unwrap().len() <= 4);
    }

    #[test]
    fn no_thread_ever_goes_back_to_an_older_edition() {
        let first = Arc::new(edition(0));
        let shared = SharedCommon::new(&first);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let (mut common, mut number) = (Arc::clone(&first), 0);
                    while number < 2_000 {
                        let before = number;
                        shared.refresh(&mut common, &mut number);
                        assert!(number >= before && says(&common, number), "{before} {number}");
                    }
                });
            }
            for n in 1..=2_000 {
                shared.replace(edition(n));
            }
        });
    }
}
