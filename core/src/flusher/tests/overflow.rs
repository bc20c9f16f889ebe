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
