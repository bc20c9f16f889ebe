//! Who gives way while nothing can be delivered.

use super::*;

#[test]
fn drop_oldest_makes_room_only_while_delivery_fails_and_only_down_to_half() {
    let policy = Policy { overflow: Overflow::DropOldest, queue_events_max: 100, ..eager() };
    for failure in [Outcome::status(503), Outcome::Unreachable, Outcome::status(401)] {
        let mut s = Scenario::<2>::new(policy);
        s.capture(0, 10);
        s.run_now(script(&[failure]));
        let first = s.flusher.pending();
        s.capture(0, 90);
        s.capture(1, 50);
        let until = s.run_now(ok).unwrap();
        assert_eq!(until, s.now.after(MAKE_ROOM_INTERVAL));
        assert_eq!(s.flusher.pending(), 100, "half of lane 0, all of lane 1");
        let dropped = s.flusher.counters().dropped[DropReason::Overflow.index()];
        assert_eq!(dropped, first as u64 + 40);
        s.run(ok);
        let mut delivered = s.events_sent()[1..].concat();
        delivered.sort_unstable();
        assert_eq!(delivered, numbers(50..150), "the newest");
    }
}

#[test]
fn drop_oldest_also_looks_at_the_bytes() {
    let policy = Policy { overflow: Overflow::DropOldest, queue_events_max: 1_000_000, ..eager() };
    let mut s = Scenario::<1>::new(policy);
    s.capture(0, 1);
    s.run_now(script(&[Outcome::Unreachable]));
    s.capture(0, 3000);
    s.run_now(ok);
    assert_eq!(s.flusher.pending(), (1 << 15) / FRAME_BYTES);
}

#[test]
fn a_batch_shortened_by_overflow_goes_on_with_what_is_left_of_it() {
    let policy = Policy { overflow: Overflow::DropOldest, queue_events_max: 20, ..eager() };
    let mut s = Scenario::<2>::new(policy);
    s.capture(0, 6);
    s.capture(1, 6);
    s.run_now(script(&[Outcome::status(503)]));
    s.capture(0, 8);
    s.run_now(ok);
    assert_eq!(s.flusher.pending(), 16, "4 of the batch were dropped");
    s.run(ok);
    assert_eq!(s.seen()[1].1, 2, "still an attempt at the same batch");
    assert_eq!(s.events_sent()[1..], [numbers(4..12), numbers(12..20)]);
}

#[test]
fn overflow_does_not_give_a_batch_new_retries() {
    let policy = Policy { overflow: Overflow::DropOldest, queue_events_max: 100, ..eager() };
    let mut s = Scenario::<1>::new(policy);
    s.capture(0, 50);
    while s.flusher.counters().dropped[DropReason::RetriesExhausted.index()] == 0 {
        s.now = s.run_now(status(503)).unwrap();
        s.capture(0, usize::from(s.captured < 80));
    }
    let attempts: Vec<_> = s.requests.iter().map(|request| request.attempt).collect();
    assert_eq!(attempts, [1, 2, 3, 4]);
    assert_eq!(s.requests[3].events, numbers(30..50), "what was captured since is not added to the batch");
}

#[test]
fn drop_newest_leaves_the_rings_alone() {
    let mut s = Scenario::<1>::new(Policy { queue_events_max: 10, ..eager() });
    s.capture(0, 10);
    s.run_now(|_| Outcome::Unreachable);
    assert_eq!((s.flusher.pending(), s.flusher.counters().dropped_total()), (10, 0));
}

/// Moves everything elsewhere that the flusher would have moved; returns the bytes.
fn move_surplus<const LANES: usize>(s: &mut Scenario<LANES>, bytes_max: usize) -> Vec<u8> {
    let mut moved = Vec::new();
    while let Some(surplus) = s.flusher.surplus(bytes_max) {
        let (lane, events, bytes) = (surplus.lane, surplus.events, [surplus.frames.0, surplus.frames.1].concat());
        assert_eq!(bytes.iter().filter(|&&byte| byte == b'\n').count(), events);
        assert!(bytes.len() <= bytes_max || events == 1);
        s.flusher.hand_over(lane, bytes.len(), events);
        s.check();
        moved.extend(bytes);
    }
    moved
}

#[test]
fn what_has_to_make_room_in_an_outage_can_be_put_elsewhere() {
    let policy = Policy { queue_events_max: 100, max_retries: 100, ..eager() };
    for failure in [Outcome::status(503), Outcome::Unreachable] {
        // One by one only down to half, where nothing has to go any more; all at once down to a quarter.
        for (bytes_max, left) in [(1, 50), (10 * FRAME_BYTES, 50), (usize::MAX, 25)] {
            let mut s = Scenario::<2>::new(policy);
            s.capture(0, 100);
            assert!(s.flusher.surplus(bytes_max).is_none(), "while delivery may work, everything stays");
            s.run_now(script(&[failure]));
            let moved = move_surplus(&mut s, bytes_max);
            let expected: Vec<u8> =
                (0..100 - left).flat_map(|n| format!("{{\"n\":{n:010}}},\n").into_bytes()).collect();
            assert_eq!(moved, expected, "the oldest");
            assert_eq!((s.flusher.counters().spooled, s.flusher.pending()), (100 - left as u64, left));
            s.run(ok);
            let delivered: Vec<usize> = s.events_sent()[1..].concat();
            assert_eq!(delivered, numbers(100 - left..100), "what is left of the batch goes on");
        }
    }
}

#[test]
fn a_lane_half_full_of_bytes_has_to_make_room_too() {
    let mut s = Scenario::<1>::new(Policy { queue_events_max: 1_000_000, ..eager() });
    s.capture(0, 1);
    s.run_now(script(&[Outcome::Unreachable]));
    s.capture(0, 3000);
    let moved = move_surplus(&mut s, usize::MAX);
    assert_eq!(s.flusher.pending(), (1 << 14) / FRAME_BYTES, "{} bytes moved", moved.len());
}

#[test]
fn nothing_is_put_elsewhere_while_its_fate_is_not_known() {
    let mut s = Scenario::<1>::new(Policy { queue_events_max: 10, ..eager() });
    s.capture(0, 8);
    s.run_now(script(&[Outcome::status(503)]));
    s.pass(Duration::from_secs(60));
    assert!(matches!(s.flusher.poll(s.now), Action::Send(_)));
    assert!(s.flusher.surplus(usize::MAX).is_none());
    s.flusher.hand_over(0, FRAME_BYTES, 1);
    assert_eq!((s.flusher.pending(), s.flusher.counters().spooled), (8, 0));
}
