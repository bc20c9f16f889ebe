//! How much to send, and which bytes: the reading ends of all lanes, and the stretch of each that is in the batch.
//!
//! In: what producers commit to the rings. Out: a *frozen* range per lane, and the *part* of it that one request carries;
//! then releases, strictly from the front. When to do either is decided in [`flusher`](crate::flusher).
//!
//! ```text
//!  lane 0   ░░░░░░│▓▓▓▓▓▓▓▓▓▓▓▓▓▓│░░░░      The batch is the frozen ranges one after the other, beginning with the lane
//!                 tail           frozen     after the one that gave last, so that a busy lane cannot starve the rest.
//!                                = part     The part is a prefix of the batch: whole ranges, then the beginning of one.
//!  lane 1   ░░│▓▓▓▓▓▓▓▓▓▒▒▒▒▒▒▒▒▒▒▒▒│░░     Frames are settled part by part, so what is settled is always a prefix of
//!             tail      part        frozen  every lane, and can be released at once: no bit per frame is needed.
//!  lane 2   ░░░░░│▒▒▒▒▒▒▒│                  What is committed while a request is out lies behind `frozen`, untouched.
//!                tail    frozen = head
//! ```
//!
//! Invariant, for every lane: `tail ≤ part ≤ frozen ≤ head`, and `events` of both are the frames from the tail up to there.

use crate::ring::count_frames;
use crate::{Consumer, Position};

/// The end of a stretch of frames that begins at a lane's tail, and how many frames it has.
#[derive(Clone, Copy)]
struct Stretch {
    end: Position,
    events: usize,
}

/// One ring's reading end, and how much of it is in the batch.
pub(crate) struct Outlet<'m> {
    consumer: Consumer<'m>,
    frozen: Stretch,
    part: Stretch,
    /// Count of committed events up to which a flush wants this lane sent; equal to the released count if none does.
    flush_to: usize,
}

impl<'m> Outlet<'m> {
    fn new(consumer: Consumer<'m>) -> Self {
        let empty = Stretch { end: consumer.tail(), events: 0 };
        let flush_to = consumer.released();
        Self { consumer, frozen: empty, part: empty, flush_to }
    }

    /// The bytes of this lane that the request carries; one of them is empty unless the part wraps around.
    pub(crate) fn part(&self) -> (&[u8], &[u8]) {
        self.slices(self.part)
    }

    fn slices(&self, stretch: Stretch) -> (&[u8], &[u8]) {
        if stretch.events == 0 { (&[], &[]) } else { self.consumer.slices(self.consumer.tail(), stretch.end) }
    }

    fn bytes(&self, stretch: Stretch) -> usize {
        if stretch.events == 0 { 0 } else { self.consumer.bytes_between(self.consumer.tail(), stretch.end) }
    }

    /// Everything committed and not released.
    fn committed(&self) -> Stretch {
        let end = self.consumer.head();
        let (first, second) = self.consumer.slices(self.consumer.tail(), end);
        Stretch { end, events: count_frames(first) + count_frames(second) }
    }

    /// As much of what is committed as there is room for, in whole frames; at least one if nothing was taken yet.
    ///
    /// Frames are counted in their bytes, not taken from the ring's counts: those are ahead by one while a commit is under
    /// way. Counting runs at more than 10 GB/s and stops at the limits, and the transport reads the same bytes next.
    fn take_committed(&self, room: &mut Room) -> Stretch {
        self.take_frames(self.consumer.head(), room)
    }

    /// As much of the frozen range as there is room for, under the same rules.
    fn take_frozen(&self, room: &mut Room) -> Stretch {
        let bytes = self.bytes(self.frozen);
        if self.frozen.events <= room.events && bytes <= room.bytes {
            room.take(self.frozen.events, bytes);
            return self.frozen;
        }
        self.take_frames(self.frozen.end, room)
    }

    fn take_frames(&self, end: Position, room: &mut Room) -> Stretch {
        let tail = self.consumer.tail();
        let slices = self.consumer.slices(tail, end);
        let mut run = fit(slices, room.events, room.bytes);
        if run.events == 0 && room.untouched {
            // A frame larger than a batch may be could otherwise never leave.
            run = cover(slices, 1, 0);
        }
        room.take(run.events, run.bytes);
        room.full |= run.bytes < slices.0.len() + slices.1.len();
        Stretch { end: self.consumer.position_after(tail, run.bytes), events: run.events }
    }

    fn release(&mut self, stretch: Stretch) {
        if stretch.events == 0 {
            return;
        }
        self.consumer.release(stretch.end, stretch.events);
        let empty = Stretch { end: self.consumer.tail(), events: 0 };
        for kept in [&mut self.frozen, &mut self.part] {
            // Both begin at the tail, so the shorter one is gone with the longer.
            let events = kept.events.saturating_sub(stretch.events);
            *kept = if events == 0 { empty } else { Stretch { events, ..*kept } };
        }
        if !self.is_flushing() {
            // Follows the tail, or 2³¹ events later the wrapped difference would look like a flush.
            self.flush_to = self.consumer.released();
        }
    }

    fn is_flushing(&self) -> bool {
        is_ahead(self.flush_to, self.consumer.released())
    }
}

/// Whether one wrapping count is past another; right while they are less than half the range apart.
fn is_ahead(count: usize, of: usize) -> bool {
    count.wrapping_sub(of) as isize > 0
}

/// What a batch, or a part of one, may still take.
struct Room {
    events: usize,
    bytes: usize,
    /// Nothing was taken yet.
    untouched: bool,
    /// Something did not fit; nothing else may be taken, or lanes would overtake each other.
    full: bool,
}

impl Room {
    fn new(events: usize, bytes: usize) -> Self {
        Self { events, bytes, untouched: true, full: false }
    }

    fn take(&mut self, events: usize, bytes: usize) {
        self.events = self.events.saturating_sub(events);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.untouched &= events == 0;
    }
}

/// The oldest frames of a lane that is filling up.
#[derive(Clone, Copy, Debug)]
pub struct Surplus<'a> {
    /// Which lane.
    pub lane: usize,
    /// The frames, whole ones, in order: the second slice follows the first.
    pub frames: (&'a [u8], &'a [u8]),
    /// How many.
    pub events: usize,
}

/// The lanes, the batch frozen over them, and the part of it that goes into the next request.
pub(crate) struct Batcher<'m, const LANES: usize> {
    lanes: [Outlet<'m>; LANES],
    /// The lane the batch begins with.
    start: usize,
    /// The lane the next batch begins with.
    next_start: usize,
    /// Frames in the batch that are not settled.
    frozen: usize,
    /// Frames of them in the part; zero when it must be cut first.
    part: usize,
}

impl<'m, const LANES: usize> Batcher<'m, LANES> {
    pub(crate) fn new(consumers: [Consumer<'m>; LANES]) -> Self {
        const { assert!(LANES > 0, "a flusher without lanes has nothing to flush") };
        Self { lanes: consumers.map(Outlet::new), start: 0, next_start: 0, frozen: 0, part: 0 }
    }

    /// Freezes a new batch from the tails, within limits for the number of frames and the sum of their bytes.
    ///
    /// Takes one frame at least if any is committed, whatever the limits. The whole batch is its part. Says whether
    /// everything committed was taken.
    pub(crate) fn freeze(&mut self, events_max: usize, bytes_max: usize) -> bool {
        self.thaw();
        self.start = self.next_start;
        let mut room = Room::new(events_max, bytes_max);
        for at in order::<LANES>(self.start) {
            let Some(lane) = self.lanes.get_mut(at) else { continue };
            if room.full {
                break;
            }
            lane.frozen = lane.take_committed(&mut room);
            lane.part = lane.frozen;
            if lane.frozen.events > 0 {
                self.frozen += lane.frozen.events;
                self.next_start = if at + 1 < LANES { at + 1 } else { 0 };
            }
        }
        self.part = self.frozen;
        !room.full
    }

    /// Cuts the part anew: as much of the batch's front as the limits allow, at least one frame.
    pub(crate) fn cut(&mut self, events_max: usize, bytes_max: usize) {
        self.uncut();
        let mut room = Room::new(events_max, bytes_max);
        for at in order::<LANES>(self.start) {
            let Some(lane) = self.lanes.get_mut(at) else { continue };
            if room.full {
                break;
            }
            if lane.frozen.events == 0 {
                continue;
            }
            lane.part = lane.take_frozen(&mut room);
            self.part += lane.part.events;
        }
    }

    /// Takes the part back; the batch stays.
    pub(crate) fn uncut(&mut self) {
        for lane in &mut self.lanes {
            lane.part = Stretch { end: lane.consumer.tail(), events: 0 };
        }
        self.part = 0;
    }

    /// Takes the batch back; its frames are pending like any others.
    pub(crate) fn thaw(&mut self) {
        self.uncut();
        for lane in &mut self.lanes {
            lane.frozen = lane.part;
        }
        self.frozen = 0;
    }

    /// Releases the part: the fate of its frames is known. Says how many there were.
    pub(crate) fn settle(&mut self) -> usize {
        let settled = self.part;
        for lane in &mut self.lanes {
            lane.release(lane.part);
        }
        self.frozen -= settled;
        self.part = 0;
        settled
    }

    /// Releases everything committed by now, batch or not. Says how many frames that were.
    pub(crate) fn release_all(&mut self) -> usize {
        let mut released = 0;
        for lane in &mut self.lanes {
            let all = lane.committed();
            lane.release(all);
            released += all.events;
        }
        self.thaw();
        released
    }

    /// Releases the oldest frames of every lane that is more than half full, in bytes or in events, until it is not.
    /// Says how many frames that were; if there were any, the batch is shorter by those it had, and must be cut.
    pub(crate) fn make_room(&mut self, lane_events_max: usize) -> usize {
        let mut released = 0;
        for lane in &mut self.lanes {
            let all = lane.committed();
            let events_over = all.events.saturating_sub(lane_events_max / 2);
            let bytes_over = lane.bytes(all).saturating_sub(lane.consumer.capacity() / 2);
            if events_over == 0 && bytes_over == 0 {
                continue;
            }
            let run = cover(lane.slices(all), events_over, bytes_over);
            let end = lane.consumer.position_after(lane.consumer.tail(), run.bytes);
            lane.release(Stretch { end, events: run.events });
            released += run.events;
        }
        if released > 0 {
            self.uncut();
            self.frozen = self.lanes.iter().map(|lane| lane.frozen.events).sum();
        }
        released
    }

    /// The oldest frames of a lane that is more than half full, in bytes or in events, as many as it takes to leave it a
    /// quarter full, and at most `bytes_max` bytes (but one frame at least). `None` if every lane has room.
    pub(crate) fn surplus(&self, lane_events_max: usize, bytes_max: usize) -> Option<Surplus<'_>> {
        self.lanes.iter().enumerate().find_map(|(at, lane)| {
            let all = lane.committed();
            let (bytes, capacity) = (lane.bytes(all), lane.consumer.capacity());
            if all.events <= lane_events_max / 2 && bytes <= capacity / 2 {
                return None;
            }
            let events_over = all.events.saturating_sub(lane_events_max / 4);
            let slices = lane.slices(all);
            let mut run = cover(slices, events_over, bytes.saturating_sub(capacity / 4));
            if run.bytes > bytes_max {
                run = fit(slices, usize::MAX, bytes_max);
            }
            if run.events == 0 {
                run = cover(slices, 1, 0);
            }
            let (first, second) = slices;
            let in_first = run.bytes.min(first.len());
            let frames =
                (first.get(..in_first).unwrap_or_default(), second.get(..run.bytes - in_first).unwrap_or_default());
            Some(Surplus { lane: at, frames, events: run.events })
        })
    }

    /// Releases the oldest frames of a lane, `bytes` bytes that are `events` events.
    pub(crate) fn release_oldest(&mut self, lane: usize, bytes: usize, events: usize) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            let end = lane.consumer.position_after(lane.consumer.tail(), bytes);
            lane.release(Stretch { end, events });
        }
        self.uncut();
        self.frozen = self.lanes.iter().map(|lane| lane.frozen.events).sum();
    }

    /// A lane's reading end.
    pub(crate) fn consumer(&self, lane: usize) -> Option<&Consumer<'m>> {
        self.lanes.get(lane).map(|lane| &lane.consumer)
    }

    /// Lets every frame that is committed and in no batch be changed in place: those that were never given out.
    pub(crate) fn for_each_waiting(&mut self, mut change: impl FnMut(&mut [u8])) {
        for lane in &mut self.lanes {
            let from = if lane.frozen.events == 0 { lane.consumer.tail() } else { lane.frozen.end };
            let to = lane.consumer.head();
            let (first, second) = lane.consumer.slices_mut(from, to);
            for frame in [first, second].into_iter().flat_map(|slice| slice.split_inclusive_mut(|&byte| byte == b'\n'))
            {
                change(frame);
            }
        }
    }

    /// Wants everything committed by now to be sent, and says what that is: a committed count per lane.
    pub(crate) fn flush(&mut self) -> [usize; LANES] {
        for lane in &mut self.lanes {
            lane.flush_to = lane.consumer.committed();
        }
        core::array::from_fn(|at| self.lanes.get(at).map_or(0, |lane| lane.flush_to))
    }

    /// Whether a flush wants more than was released.
    pub(crate) fn is_flushing(&self) -> bool {
        self.lanes.iter().any(Outlet::is_flushing)
    }

    /// Whether everything up to these counts was released.
    pub(crate) fn has_released(&self, counts: &[usize; LANES]) -> bool {
        self.lanes.iter().zip(counts).all(|(lane, &count)| !is_ahead(count, lane.consumer.released()))
    }

    /// Whether the bytes of a lane reach half its capacity: time to send, however few the events are.
    pub(crate) fn is_half_full(&self) -> bool {
        self.lanes.iter().any(|lane| {
            let bytes = lane.consumer.bytes_between(lane.consumer.tail(), lane.consumer.head());
            bytes >= lane.consumer.capacity() / 2
        })
    }

    /// How full the fullest lane is, in 256ths of its capacity or of `lane_events_max`, whichever is closer.
    pub(crate) fn fullness(&self, lane_events_max: usize) -> usize {
        let of = |used: usize, limit: usize| used.saturating_mul(256) / limit.max(1);
        let lanes = self.lanes.iter().map(|Outlet { consumer, .. }| {
            let bytes = consumer.bytes_between(consumer.tail(), consumer.head());
            of(bytes, consumer.capacity()).max(of(consumer.pending(), lane_events_max))
        });
        lanes.max().unwrap_or(0)
    }

    /// Frames committed and not released, over all lanes.
    pub(crate) fn pending(&self) -> usize {
        self.lanes.iter().map(|lane| lane.consumer.pending()).sum()
    }

    /// Frames in the batch that are not settled.
    pub(crate) fn frozen(&self) -> usize {
        self.frozen
    }

    /// Frames in the part.
    pub(crate) fn part(&self) -> usize {
        self.part
    }

    /// Sum of the bytes of the part's frames, each with its `,\n`.
    pub(crate) fn part_bytes(&self) -> usize {
        self.lanes.iter().map(|lane| lane.bytes(lane.part)).sum()
    }

    /// The lanes, and which of them the batch begins with.
    pub(crate) fn lanes(&self) -> (&[Outlet<'m>], usize) {
        (&self.lanes, self.start)
    }

    /// Checks what the module's first lines promise. Costs nothing in a release build.
    pub(crate) fn check(&self) {
        debug_assert_eq!(self.frozen, self.lanes.iter().map(|lane| lane.frozen.events).sum::<usize>());
        debug_assert_eq!(self.part, self.lanes.iter().map(|lane| lane.part.events).sum::<usize>());
        debug_assert!(self.lanes.iter().all(|lane| lane.part.events <= lane.frozen.events));
        let mut lanes = self.lanes.iter().filter(|lane| lane.consumer.is_there());
        debug_assert!(lanes.all(|lane| lane.bytes(lane.part) <= lane.bytes(lane.frozen) || !lane.consumer.is_there()));
    }
}

/// All lanes, beginning with `start`.
fn order<const LANES: usize>(start: usize) -> impl Iterator<Item = usize> {
    (start..LANES).chain(0..start.min(LANES))
}

/// A run of whole frames from the beginning of some bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Run {
    events: usize,
    bytes: usize,
}

/// Bytes counted at a time: long enough for the fast counter, short enough to walk once one by one.
const BLOCK_BYTES: usize = 1024;

/// The longest run of at most so many frames and bytes.
///
/// A frame never lies across both slices: producers write contiguously.
fn fit(slices: (&[u8], &[u8]), events_max: usize, bytes_max: usize) -> Run {
    let first = fit_slice(slices.0, events_max, bytes_max);
    if first.bytes < slices.0.len() {
        return first;
    }
    let second = fit_slice(slices.1, events_max - first.events, bytes_max - first.bytes);
    Run { events: first.events + second.events, bytes: first.bytes + second.bytes }
}

fn fit_slice(slice: &[u8], events_max: usize, bytes_max: usize) -> Run {
    let mut within = slice.get(..bytes_max).unwrap_or(slice);
    let mut run = Run::default();
    for block in within.chunks(BLOCK_BYTES) {
        let (events, events_left) = (count_frames(block), events_max - run.events);
        if events > events_left {
            // The last frame that is allowed ends in this block, or before it if none is left.
            run.events = events_max;
            within = within.get(..run.bytes + frame_end(block, events_left)).unwrap_or(within);
            break;
        }
        run = Run { events: run.events + events, bytes: run.bytes + block.len() };
    }
    // What follows the last newline is the beginning of a frame that goes beyond a limit.
    let bytes = within.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    Run { bytes, ..run }
}

/// The shortest run of at least so many frames and bytes; everything, if there is not as much.
fn cover(slices: (&[u8], &[u8]), events_min: usize, bytes_min: usize) -> Run {
    let first = cover_slice(slices.0, events_min, bytes_min);
    if first.events >= events_min && first.bytes >= bytes_min {
        return first;
    }
    let second = cover_slice(slices.1, events_min.saturating_sub(first.events), bytes_min.saturating_sub(first.bytes));
    Run { events: first.events + second.events, bytes: first.bytes + second.bytes }
}

fn cover_slice(slice: &[u8], events_min: usize, bytes_min: usize) -> Run {
    let by_events = frame_end(slice, events_min);
    // The end of the frame that the last wanted byte belongs to.
    let before = bytes_min.saturating_sub(1).min(slice.len());
    let by_bytes = if bytes_min == 0 { 0 } else { before + frame_end(slice.get(before..).unwrap_or(&[]), 1) };
    let bytes = by_events.max(by_bytes);
    Run { events: count_frames(slice.get(..bytes).unwrap_or(slice)), bytes }
}

/// Where the `nth` frame (from 1) ends, behind its newline; the end of the slice if there are fewer.
fn frame_end(slice: &[u8], nth: usize) -> usize {
    let Some(before) = nth.checked_sub(1) else { return 0 };
    let newlines = slice.iter().enumerate().filter(|&(_, &byte)| byte == b'\n');
    newlines.map(|(at, _)| at + 1).nth(before).unwrap_or(slice.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]
    use super::*;
    use std::vec::Vec;

    /// Frames of different lengths, 3 to 7 bytes, split into two slices after `first` frames.
    fn frames(count: usize, first: usize) -> (Vec<u8>, Vec<u8>) {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for n in 0..count {
            let slice = if n < first { &mut a } else { &mut b };
            slice.extend(std::iter::repeat_n(b'x', 1 + n * 3 % 5));
            slice.extend(b",\n");
        }
        (a, b)
    }

    /// Ends of all frames, the slow way.
    fn ends(slices: (&[u8], &[u8])) -> Vec<usize> {
        let all = [slices.0, slices.1].concat();
        (0..all.len()).filter(|&at| all[at] == b'\n').map(|at| at + 1).collect()
    }

    #[test]
    fn a_fit_is_the_longest_run_within_both_limits() {
        for (count, first) in [(0, 0), (1, 0), (1, 1), (9, 4), (9, 9), (9, 0)] {
            let (a, b) = frames(count, first);
            let slices = (&a[..], &b[..]);
            let ends = ends(slices);
            for events_max in 0..=count + 1 {
                for bytes_max in 0..=a.len() + b.len() + 1 {
                    let events = ends.iter().take(events_max).filter(|&&end| end <= bytes_max).count();
                    let bytes = if events == 0 { 0 } else { ends[events - 1] };
                    let expected = Run { events, bytes };
                    assert_eq!(fit(slices, events_max, bytes_max), expected, "{events_max} {bytes_max}");
                }
            }
        }
    }

    #[test]
    fn a_cover_is_the_shortest_run_that_reaches_both_limits() {
        for (count, first) in [(0, 0), (1, 0), (1, 1), (9, 4), (9, 9), (9, 0)] {
            let (a, b) = frames(count, first);
            let slices = (&a[..], &b[..]);
            let ends = ends(slices);
            for events_min in 0..=count + 1 {
                for bytes_min in 0..=a.len() + b.len() + 1 {
                    let enough = |events: usize| {
                        let bytes = if events == 0 { 0 } else { ends[events - 1] };
                        events >= events_min && bytes >= bytes_min
                    };
                    let events = (0..=count).find(|&events| enough(events)).unwrap_or(count);
                    let bytes = if events == 0 { 0 } else { ends[events - 1] };
                    let expected = Run { events, bytes };
                    assert_eq!(cover(slices, events_min, bytes_min), expected, "{events_min} {bytes_min}");
                }
            }
        }
    }

    #[test]
    fn long_runs_are_counted_and_cut_exactly() {
        for length in [1, 2, 15, 239, 240, 241, 255, 256, 1023, 1024, 1025, 5000] {
            let all_newlines = std::vec![b'\n'; length];
            assert_eq!(count_frames(&all_newlines), length);
            let expected = Run { events: length - 1, bytes: length - 1 };
            assert_eq!(fit((&all_newlines, &[]), length - 1, usize::MAX), expected);
        }
        let (a, b) = frames(3000, 2000);
        let ends = ends((&a, &b));
        // Every number of events, so that some end exactly with a block.
        for events in 1..=3000 {
            let expected = Run { events, bytes: ends[events - 1] };
            assert_eq!(fit((&a, &b), events, usize::MAX), expected);
            assert_eq!(fit((&a, &b), usize::MAX, ends[events - 1]), expected);
            assert_eq!(fit((&a, &b), usize::MAX, ends[events - 1] + 1), expected);
        }
    }

    #[test]
    fn the_order_visits_every_lane_once() {
        for start in 0..4 {
            let mut lanes: Vec<_> = order::<4>(start).collect();
            assert_eq!(lanes[0], start);
            lanes.sort_unstable();
            assert_eq!(lanes, [0, 1, 2, 3]);
        }
    }

    #[test]
    fn counts_are_compared_across_the_wrap() {
        assert!(is_ahead(1, 0) && is_ahead(0, usize::MAX) && is_ahead(5, usize::MAX - 5));
        assert!(!is_ahead(0, 0) && !is_ahead(0, 1) && !is_ahead(usize::MAX, 0));
    }
}
