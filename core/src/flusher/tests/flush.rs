//! Flushes: marks, thresholds, and load that does not end.

use super::*;

#[test]
fn a_flush_sends_fewer_than_flush_at() {
    let mut s = Scenario::<2>::new(Policy::default());
    s.capture(1, 3);
    let mark = s.flusher.flush();
    assert_eq!(s.flusher.flush_state(&mark), FlushState::Pending);
    assert_eq!(s.run_now(ok), Some(Instant::NEVER));
    assert_eq!(s.flusher.flush_state(&mark), FlushState::Done);
    s.capture(1, 3);
    assert!(s.run_now(ok).unwrap() < Instant::NEVER);
    assert_eq!(s.requests.len(), 1, "what came after it waits for company again");
}

#[test]
fn several_flushes_end_each_with_its_own_events() {
    let mut s = Scenario::<2>::new(Policy { max_batch_events: 2, ..Policy::default() });
    s.capture(0, 2);
    let first = s.flusher.flush();
    s.capture(1, 2);
    let second = s.flusher.flush();
    s.step(ok);
    assert_eq!(s.flusher.flush_state(&first), FlushState::Done);
    assert_eq!(s.flusher.flush_state(&second), FlushState::Pending);
    s.step(ok);
    assert_eq!(s.flusher.flush_state(&second), FlushState::Done);
}

#[test]
fn a_flush_ends_under_a_load_that_does_not() {
    let mut s = Scenario::<3>::new(Policy { max_batch_events: 10, ..eager() });
    s.capture(0, 100);
    s.capture(1, 1);
    let mark = s.flusher.flush();
    let mut batches = 0;
    while s.flusher.flush_state(&mark) == FlushState::Pending {
        s.capture(0, 10);
        s.capture(1, 10);
        s.capture(2, 10);
        s.step(ok);
        batches += 1;
    }
    assert!(batches <= 3 * 11, "{batches} batches");
}

#[test]
fn a_flush_of_events_that_are_then_refused_is_done() {
    let mut s = Scenario::<1>::new(Policy::default());
    s.capture(0, 2);
    let mark = s.flusher.flush();
    s.run_now(status(401));
    assert_eq!(s.flusher.flush_state(&mark), FlushState::Done);
}
