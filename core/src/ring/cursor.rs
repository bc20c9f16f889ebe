//! Where things are in the ring: from positions to offsets. Pure arithmetic, no pointers, no atomics.
//!
//! A *position* counts every byte the ring has ever moved, gaps included, and wraps around with `usize`. The capacity is
//! a power of two, so a position's low bits are its *offset* in the arena, also across that wrap. A *lap* starts where
//! the offset is 0. A frame never crosses the end of a lap: when it does not fit in the rest, it starts the next lap,
//! and the watermark is the position where the lap before it ended. The bytes between the two are a *gap*.
//!
//! ```text
//!  lap 6                                  lap 7
//!  │· · · · ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒░░░░░░░░░░░│▒▒▒▒▒▒▒▒▒▒· · · ·
//!           ↑ tail             ↑ watermark (then a gap)   ↑ head
//! ```
//!
//! Invariant everywhere: `head - tail <= capacity` (wrapping), hence at most one lap starts inside `tail..head`.

/// A contiguous part of the arena. `offset + len <= capacity` holds for all that this module hands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) offset: usize,
    pub(super) len: usize,
}

/// The offset of `position` in the arena.
#[cfg_attr(target_pointer_width = "64", inline(always))]
pub(super) const fn offset(position: usize, capacity: usize) -> usize {
    position & capacity.wrapping_sub(1)
}

/// The longest grant that an empty ring can always give, whatever the offset of its head.
///
/// An empty ring has `capacity - offset` contiguous bytes before the end of the lap and `offset` after it (the gap takes
/// the rest). The larger one is never less than half.
#[cfg_attr(target_pointer_width = "64", inline(always))]
pub(super) const fn grant_max(capacity: usize) -> usize {
    capacity >> 1
}

/// Contiguous free bytes from `head` on, at most [`grant_max`]: any grant up to that can start at `head`.
pub(super) const fn run(tail: usize, head: usize, capacity: usize) -> usize {
    let lap_left = capacity.wrapping_sub(offset(head, capacity));
    let free = capacity.saturating_sub(head.wrapping_sub(tail));
    min(min(lap_left, free), grant_max(capacity))
}

/// The position at which `bytes` contiguous free bytes start: at `head`, or at the next lap. `None` if there is no room
/// before `tail` comes around, and for more than [`grant_max`].
pub(super) const fn place(tail: usize, head: usize, bytes: usize, capacity: usize) -> Option<usize> {
    if bytes > grant_max(capacity) {
        return None;
    }
    let lap_left = capacity.wrapping_sub(offset(head, capacity));
    let gap = if bytes <= lap_left { 0 } else { lap_left };
    let start = head.wrapping_add(gap);
    // No overflow hides here: used <= capacity, gap < bytes, bytes <= capacity / 2.
    if start.wrapping_add(bytes).wrapping_sub(tail) <= capacity { Some(start) } else { None }
}

/// Whether `position` lies in `tail..=head`.
#[cfg_attr(target_pointer_width = "64", inline(always))]
pub(super) const fn is_within(tail: usize, head: usize, position: usize) -> bool {
    position.wrapping_sub(tail) <= head.wrapping_sub(tail)
}

/// The one or two stretches that hold `from..to`, in order, without the gap. Requires `to - from <= capacity`.
///
/// `watermark` matters only if a lap starts inside the range; one that cannot be right gives an empty first stretch.
#[inline]
pub(super) const fn stretches(from: usize, to: usize, watermark: usize, capacity: usize) -> [Stretch; 2] {
    let len = to.wrapping_sub(from);
    let lap_left = capacity.wrapping_sub(offset(from, capacity));
    let first = Stretch { offset: offset(from, capacity), len };
    if len <= lap_left {
        return [first, Stretch { offset: 0, len: 0 }];
    }
    let gap = gap_before(to, watermark, capacity);
    [Stretch { len: lap_left.saturating_sub(gap), ..first }, Stretch { offset: 0, len: offset(to, capacity) }]
}

/// The position `bytes` bytes after `from`, not counting a gap; `to` if there are fewer before it. Requires
/// `to - from <= capacity`.
///
/// The end of a lap's last byte is the watermark, not the next lap: the end of a frame is always the very position that
/// the head had after its commit.
#[inline]
pub(super) const fn advance(from: usize, to: usize, watermark: usize, bytes: usize, capacity: usize) -> usize {
    let [first, second] = stretches(from, to, watermark, capacity);
    if bytes <= first.len {
        from.wrapping_add(bytes)
    } else if bytes.wrapping_sub(first.len) < second.len {
        to.wrapping_sub(second.len).wrapping_add(bytes.wrapping_sub(first.len))
    } else {
        to
    }
}

/// Whether these positions, found in memory nobody vouches for, describe a ring of this capacity.
pub(super) const fn is_valid(tail: usize, head: usize, watermark: usize, capacity: usize) -> bool {
    let len = head.wrapping_sub(tail);
    let lap_left = capacity.wrapping_sub(offset(tail, capacity));
    len <= capacity && (len <= lap_left || gap_before(head, watermark, capacity) <= lap_left)
}

/// Bytes between the watermark and the start of the lap that `to` is in.
const fn gap_before(to: usize, watermark: usize, capacity: usize) -> usize {
    to.wrapping_sub(offset(to, capacity)).wrapping_sub(watermark)
}

/// `Ord::min`, which is not const.
const fn min(a: usize, b: usize) -> usize {
    if a < b { a } else { b }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panicking")]

    extern crate std;

    use std::vec::Vec;

    use super::*;

    /// Calls `check` with every tail (around the wrap of positions) and every head that a ring of 8 and of 16 can have.
    fn for_all_positions(mut check: impl FnMut(usize, usize, usize)) {
        for capacity in [8, 16_usize] {
            for tail in (0..3 * capacity).map(|step| (2 * capacity).wrapping_neg().wrapping_add(step)) {
                (0..=capacity).for_each(|len| check(tail, tail.wrapping_add(len), capacity));
            }
        }
    }

    /// The start of the lap strictly between two positions, if one lies there, found by walking.
    fn lap_between(from: usize, to: usize, capacity: usize) -> Option<usize> {
        let len = to.wrapping_sub(from);
        (1..len).map(|step| from.wrapping_add(step)).find(|position| position % capacity == 0)
    }

    #[test]
    fn a_grant_is_contiguous_and_starts_at_the_first_place_that_is_free() {
        for_all_positions(|tail, head, capacity| {
            let free = |position: usize| position.wrapping_sub(tail) < capacity;
            for bytes in 0..=capacity + 2 {
                // Every start that could be: the head, and each later one with offset 0.
                let starts = (0..capacity).map(|gap| head.wrapping_add(gap));
                let is_good = |start: &usize| {
                    (*start == head || start.is_multiple_of(capacity))
                        && start % capacity + bytes <= capacity
                        && (0..bytes).all(|step| free(start.wrapping_add(step)))
                        && start.wrapping_sub(tail) <= capacity
                };
                let expected = starts.into_iter().find(is_good).filter(|_| bytes <= capacity / 2);
                assert_eq!(place(tail, head, bytes, capacity), expected, "{tail}..{head} of {capacity}, {bytes}");
            }
        });
    }

    #[test]
    fn a_run_holds_exactly_the_grants_that_start_at_the_head() {
        for_all_positions(|tail, head, capacity| {
            let run = run(tail, head, capacity);
            for bytes in 0..=capacity {
                let at_head = place(tail, head, bytes, capacity) == Some(head);
                assert_eq!(bytes <= run, at_head, "{tail}..{head} of {capacity}, {bytes}");
            }
        });
    }

    #[test]
    fn an_empty_ring_gives_half_of_itself_at_every_offset() {
        for capacity in [8, 16, 1024_usize] {
            for head in (0..2 * capacity).map(|step| capacity.wrapping_neg().wrapping_add(step)) {
                assert!(place(head, head, capacity / 2, capacity).is_some());
                assert!(place(head, head, capacity / 2 + 1, capacity).is_none());
            }
        }
    }

    #[test]
    fn stretches_are_the_bytes_one_by_one_without_the_gap() {
        for_all_positions(|from, to, capacity| {
            let lap = lap_between(from, to, capacity);
            for gap in 0..=lap.map_or(0, |lap| lap.wrapping_sub(from)) {
                let watermark = lap.unwrap_or(to).wrapping_sub(gap);
                let in_gap = |position: usize| lap.is_some_and(|lap| lap.wrapping_sub(position).wrapping_sub(1) < gap);
                let positions = (0..to.wrapping_sub(from)).map(|step| from.wrapping_add(step));
                let expected: Vec<_> = positions.filter(|&p| !in_gap(p)).map(|p| p % capacity).collect();
                let [first, second] = stretches(from, to, watermark, capacity);
                let found: Vec<_> =
                    [first, second].iter().flat_map(|part| part.offset..part.offset + part.len).collect();
                assert_eq!(found, expected, "{from}..{to} of {capacity}, watermark {watermark}");
                assert!(is_valid(from, to, watermark, capacity));

                // Walking on from the start counts the same bytes and never stops inside the gap.
                for bytes in 0..=expected.len() + 2 {
                    let position = advance(from, to, watermark, bytes, capacity);
                    let walked = stretches(from, position, watermark, capacity);
                    if bytes <= expected.len() {
                        assert_eq!(walked[0].len + walked[1].len, bytes);
                        assert!(bytes == expected.len() || position == watermark || !in_gap(position));
                    } else {
                        assert_eq!(position, to);
                    }
                }
            }
        });
    }

    #[test]
    fn nothing_that_an_arena_can_say_leads_out_of_it() {
        let interesting = [0, 1, 7, 8, 9, 15, 16, usize::MAX, usize::MAX - 7, usize::MAX - 8, usize::MAX / 2];
        for_all_positions(|from, to, capacity| {
            for watermark in interesting.into_iter().chain((0..40).map(|step| from.wrapping_add(step).wrapping_sub(20)))
            {
                for part in stretches(from, to, watermark, capacity) {
                    assert!(part.offset + part.len <= capacity);
                }
                let all = stretches(from, to, watermark, capacity);
                let position = advance(from, to, watermark, all[0].len, capacity);
                assert!(is_within(from, to, position));
            }
        });
        for capacity in [8, 16] {
            for (tail, head) in interesting.into_iter().flat_map(|tail| interesting.map(|head| (tail, head))) {
                for watermark in interesting {
                    let valid = is_valid(tail, head, watermark, capacity);
                    let lap = lap_between(tail, head, capacity).filter(|_| head.wrapping_sub(tail) <= capacity);
                    let is_watermark = lap.is_none_or(|lap| lap.wrapping_sub(watermark) <= lap.wrapping_sub(tail));
                    assert_eq!(valid, head.wrapping_sub(tail) <= capacity && is_watermark);
                }
            }
        }
    }
}
