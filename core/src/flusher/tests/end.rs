//! Shutdown, discard, and policies nobody should have.

use super::*;

#[test]
fn a_shutdown_sends_what_is_left_and_then_it_is_over() {
    let mut s = Scenario::<2>::new(Policy { max_batch_events: 2, ..Policy::default() });
    s.capture(0, 3);
    let deadline = s.now.after(Duration::from_secs(5));
    s.flusher.shutdown(deadline);
    match s.flusher.poll(s.now) {
        Action::Send(batch) => assert_eq!(batch.deadline(), Some(deadline)),
        other => panic!("{other:?}"),
    }
    s.flusher.handle_outcome(s.now, Outcome::status(200));
    assert!(s.run(ok));
    assert_eq!((s.flusher.counters().delivered, s.now < deadline), (3, true));
    assert!(s.run(ok), "and stays over");
}

#[test]
fn a_shutdown_without_events_is_over_at_once() {
    let mut s = Scenario::<1>::new(Policy::default());
    s.flusher.shutdown(s.now.after(Duration::from_secs(5)));
    assert_eq!(s.step(ok), None);
}

#[test]
fn a_shutdown_retries_up_to_its_deadline_and_drops_the_rest_then() {
    for failure in [Outcome::status(503), Outcome::Unreachable, Outcome::NoAnswer] {
        let mut s = Scenario::<1>::new(Policy { max_batch_events: 2, ..Policy::default() });
        s.capture(0, 3);
        let deadline = s.now.after(Duration::from_secs(5));
        s.flusher.shutdown(deadline);
        assert!(s.run(|_| failure));
        assert_eq!(s.now, deadline, "no wait goes beyond it");
        assert_eq!(s.requests.len(), 3, "after 0, 1 and 3 seconds");
        assert_eq!(s.flusher.counters().dropped[DropReason::Shutdown.index()], 3);
    }
}

#[test]
fn a_shutdown_does_not_wait_for_an_outcome_beyond_its_deadline() {
    let mut s = Scenario::<1>::new(eager());
    s.capture(0, 1);
    assert!(matches!(s.flusher.poll(s.now), Action::Send(_)));
    let deadline = s.now.after(Duration::from_secs(5));
    s.flusher.shutdown(deadline);
    s.flusher.shutdown(deadline.after(Duration::from_secs(5)));
    assert!(matches!(s.flusher.poll(s.now), Action::Wait(until) if until == deadline), "the first deadline holds");
    assert!(matches!(s.flusher.poll(deadline), Action::Done));
    assert_eq!(s.flusher.handle_outcome(deadline, Outcome::status(200)), Report::default());
    assert_eq!(s.flusher.counters().dropped[DropReason::Shutdown.index()], 1);
}

#[test]
fn an_outcome_known_after_the_deadline_still_counts() {
    let mut s = Scenario::<1>::new(eager());
    s.capture(0, 1);
    s.flusher.shutdown(s.now.after(Duration::from_secs(5)));
    assert!(matches!(s.flusher.poll(s.now), Action::Send(_)));
    s.capture(0, 1);
    s.pass(Duration::from_secs(6));
    s.flusher.handle_outcome(s.now, Outcome::status(200));
    assert!(s.run(ok));
    assert_eq!((s.flusher.counters().delivered, s.flusher.counters().dropped_total()), (1, 1));
}

#[test]
fn a_shutdown_in_a_pause_is_over_at_once() {
    let mut s = Scenario::<1>::new(eager());
    s.capture(0, 1);
    s.run_now(status(401));
    s.capture(0, 4);
    s.flusher.shutdown(s.now.after(Duration::from_secs(5)));
    assert_eq!(s.step(ok), None);
    assert_eq!(s.flusher.counters().dropped[DropReason::Shutdown.index()], 4);
}

#[test]
fn a_shutdown_with_a_spool_leaves_the_rest_in_it() {
    let keep = Exhausted::Keep(Duration::from_secs(15));
    for failure in [Outcome::status(503), Outcome::Unreachable, Outcome::status(403)] {
        let mut s = Scenario::<1>::new(Policy { exhausted: keep, ..eager() });
        s.capture(0, 3);
        let mark = s.flusher.flush();
        s.flusher.shutdown(s.now.after(Duration::from_secs(5)));
        assert!(s.run(|_| failure));
        assert_eq!((s.flusher.pending(), s.flusher.counters().settled()), (3, 0));
        assert_ne!(s.flusher.flush_state(&mark), FlushState::Pending);
    }
}

#[test]
fn what_is_committed_after_the_end_is_counted_too() {
    let mut s = Scenario::<1>::new(eager());
    s.flusher.shutdown(s.now);
    assert_eq!(s.step(ok), None);
    s.capture(0, 2);
    assert_eq!(s.step(ok), None);
    assert_eq!((s.flusher.pending(), s.flusher.counters().dropped[DropReason::Shutdown.index()]), (0, 2));
}

#[test]
fn discarding_drops_everything_even_what_is_on_the_wire() {
    let mut s = Scenario::<2>::new(eager());
    s.capture(0, 2);
    assert!(matches!(s.flusher.poll(s.now), Action::Send(_)));
    s.capture(1, 3);
    let mark = s.flusher.flush();
    s.flusher.discard();
    assert_eq!(s.flusher.flush_state(&mark), FlushState::Done);
    assert_eq!(s.flusher.handle_outcome(s.now, Outcome::status(200)), Report::default());
    assert_eq!(s.step(ok), None);
    assert_eq!(s.flusher.counters().dropped[DropReason::Discarded.index()], 5);
    assert!(s.flusher.is_idle());
}

#[test]
fn the_senseless_policy_makes_no_tight_loop_and_no_panic() {
    let zero = Policy {
        flush_at: 0,
        flush_interval: Duration::ZERO,
        batch_interval_min: Duration::ZERO,
        max_batch_events: 0,
        max_batch_bytes: 0,
        max_retries: 0,
        backoff_base: Duration::ZERO,
        backoff_max: Duration::ZERO,
        pause: Duration::ZERO,
        queue_events_max: 0,
        overflow: Overflow::DropOldest,
        exhausted: Exhausted::Keep(Duration::ZERO),
    };
    let huge = Policy {
        flush_at: usize::MAX,
        flush_interval: Duration::MAX,
        batch_interval_min: Duration::MAX,
        max_batch_events: usize::MAX,
        max_batch_bytes: usize::MAX,
        max_retries: u32::MAX,
        backoff_base: Duration::MAX,
        backoff_max: Duration::MAX,
        pause: Duration::MAX,
        queue_events_max: usize::MAX,
        overflow: Overflow::DropOldest,
        exhausted: Exhausted::Keep(Duration::MAX),
    };
    for policy in [zero, huge] {
        for outcome in [Outcome::Unreachable, Outcome::NoAnswer, Outcome::status(401), Outcome::status(400)] {
            let mut s = Scenario::<2>::new(policy);
            for _ in 0..20 {
                s.capture(0, 3);
                s.capture(1, 1);
                s.flusher.flush();
                let until = s.run_now(|_| outcome).unwrap();
                assert!(until.since(s.now) >= Duration::from_millis(10), "{outcome:?} {until:?}");
                s.now = if until == Instant::NEVER { s.now.after(Duration::from_secs(1)) } else { until };
            }
            s.flusher.shutdown(s.now.after(Duration::from_secs(1)));
            assert!(s.run(|_| outcome));
        }
    }
}

#[test]
fn nothing_of_what_is_erased_can_be_read_in_memory() {
    let mut memory = std::vec![0; Ring::bytes_for(4096)];
    let frame = br#"{"event":"secret"},"#;
    let commit = |producer: &mut Producer<'_>| {
        let mut grant = producer.grant(frame.len() + 1).unwrap();
        grant.bytes_mut()[..frame.len()].copy_from_slice(frame);
        grant.bytes_mut()[frame.len()] = b'\n';
        grant.commit(frame.len() + 1);
    };
    let (mut producer, consumer) = Ring::format(&mut memory).unwrap().split();
    commit(&mut producer);
    let mut flusher = Flusher::new([consumer], Envelope::new("phc_test", false).unwrap(), eager(), [1, 2]);
    assert!(matches!(flusher.poll(Instant::ZERO), Action::Send(_)));
    commit(&mut producer);
    flusher.erase();
    assert_eq!((flusher.pending(), flusher.counters().dropped[DropReason::Discarded.index()]), (0, 2));
    assert!(matches!(flusher.poll(Instant::ZERO), Action::Done));
    drop((flusher, producer));
    assert!(!memory.windows(6).any(|bytes| bytes == b"secret"));
}
