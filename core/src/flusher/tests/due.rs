//! When a batch is due, how much it takes, and that there is one at a time.

use super::*;

#[test]
fn without_events_there_is_nothing_to_do() {
    let mut s = Scenario::<3>::new(Policy::default());
    assert_eq!(s.step(ok), Some(Instant::NEVER));
    let mark = s.flusher.flush();
    assert_eq!(s.flusher.flush_state(&mark), FlushState::Done);
    assert_eq!(s.step(ok), Some(Instant::NEVER));
    assert!(s.requests.is_empty() && s.flusher.is_idle());
}

#[test]
fn flush_at_events_over_all_lanes_are_sent_at_once_and_fewer_wait_for_the_interval() {
    let mut s = Scenario::<3>::new(Policy { flush_at: 5, ..Policy::default() });
    s.capture(0, 2);
    s.capture(2, 2);
    let interval_ends = s.now.after(Duration::from_secs(10));
    assert_eq!(s.step(ok), Some(interval_ends));
    s.pass(Duration::from_secs(4));
    assert_eq!(s.step(ok), Some(interval_ends), "counted from when the oldest was seen");
    s.capture(1, 1);
    assert_eq!(s.run_now(ok), Some(Instant::NEVER));
    assert_eq!(s.events_sent(), [[0, 1, 4, 2, 3]]);

    s.capture(0, 1);
    s.run(ok);
    assert_eq!(s.requests[1].at_ms - s.requests[0].at_ms, 10_000);
}

#[test]
fn events_that_come_steadily_are_gathered_until_a_lane_fills() {
    let gather = Duration::from_millis(10);
    let policy = Policy { flush_at: 5, queue_events_max: 64, batch_interval_min: gather, ..Policy::default() };
    let mut s = Scenario::<2>::new(policy);
    s.capture(0, 5);
    s.run_now(ok);
    let next_at = s.now.after(gather);
    s.capture(0, 6);
    assert_eq!(s.step(ok), Some(next_at), "the first batch did not wait, this one does");
    s.pass(Duration::from_millis(4));
    s.capture(1, 9);
    assert_eq!(s.step(ok), Some(next_at));
    s.pass(Duration::from_millis(6));
    s.run_now(ok);
    assert_eq!(s.requests.len(), 2);

    s.capture(1, 15);
    assert!(s.step(ok) > Some(s.now));
    s.capture(1, 1);
    s.run_now(ok);
    assert_eq!(s.requests.len(), 3, "a quarter of a lane is full");

    s.capture(0, 1);
    s.flusher.flush();
    s.run_now(ok);
    assert_eq!(s.requests.len(), 4, "a flush does not wait");
}

#[test]
fn a_lane_half_full_of_bytes_is_sent_however_few_its_events_are() {
    let many = 1_000_000;
    let policy = Policy { flush_at: many, queue_events_max: many, max_batch_events: many, ..Policy::default() };
    let mut s = Scenario::<1>::new(policy);
    let half = (1 << 15) / FRAME_BYTES;
    s.capture(0, half);
    assert!(matches!(s.step(ok), Some(until) if until > s.now));
    s.capture(0, 1);
    s.run_now(ok);
    assert_eq!(s.events_sent(), [numbers(0..half + 1)]);
}

#[test]
fn the_fullest_lane_counts_by_events_or_by_bytes() {
    let mut s = Scenario::<3>::new(Policy { queue_events_max: 64, ..Policy::default() });
    assert_eq!(s.flusher.fullness(), 0);
    s.capture(0, 4);
    s.capture(1, 16);
    assert_eq!(s.flusher.fullness(), 64, "a quarter of the events");
    s.capture(1, 48);
    assert_eq!(s.flusher.fullness(), 256);

    let mut s = Scenario::<1>::new(Policy { queue_events_max: 1_000_000, ..Policy::default() });
    s.capture(0, (1 << 15) / FRAME_BYTES);
    assert!((127..=128).contains(&s.flusher.fullness()), "half of the bytes");
}

#[test]
fn flush_at_beyond_the_queue_means_a_full_queue() {
    let mut s = Scenario::<1>::new(Policy { flush_at: 100, queue_events_max: 4, ..Policy::default() });
    s.capture(0, 4);
    s.run_now(ok);
    assert_eq!(s.events_sent(), [numbers(0..4)]);
}

#[test]
fn a_batch_on_the_wire_is_not_given_twice() {
    let mut s = Scenario::<1>::new(eager());
    s.capture(0, 1);
    assert!(matches!(s.flusher.poll(s.now), Action::Send(_)));
    assert!(matches!(s.flusher.poll(s.now), Action::Wait(Instant::NEVER)));
    s.pass(Duration::from_secs(3600));
    assert!(matches!(s.flusher.poll(s.now), Action::Wait(Instant::NEVER)));
    assert!(!s.flusher.is_idle());
    let report = s.flusher.handle_outcome(s.now, Outcome::status(200));
    assert_eq!((report.delivered, report.attempt, report.status), (1, 1, Some(200)));
    assert!(s.flusher.is_idle());
}

#[test]
fn an_outcome_nobody_waits_for_changes_nothing() {
    let mut s = Scenario::<1>::new(eager());
    s.capture(0, 1);
    assert_eq!(s.flusher.handle_outcome(s.now, Outcome::status(200)), Report::default());
    s.run(ok);
    assert_eq!(s.flusher.handle_outcome(s.now, Outcome::status(500)), Report::default());
    assert_eq!((s.flusher.counters().delivered, s.flusher.counters().requests), (1, 1));
}

#[test]
fn what_is_captured_during_a_send_is_not_part_of_it() {
    let mut s = Scenario::<2>::new(eager());
    s.capture(0, 2);
    assert!(matches!(s.flusher.poll(s.now), Action::Send(batch) if batch.events() == 2));
    s.capture(0, 1);
    s.capture(1, 1);
    let report = s.flusher.handle_outcome(s.now, Outcome::status(503));
    assert_eq!((report.events, report.delivered), (2, 0));
    s.run(ok);
    let expected: &[&[usize]] = &[&[0, 1], &[3, 2]];
    assert_eq!(s.events_sent(), expected, "the retry, then the new ones, beginning with the other lane");
}

#[test]
fn what_is_captured_during_a_send_waits_for_an_interval_of_its_own() {
    let mut s = Scenario::<1>::new(Policy::default());
    s.capture(0, 1);
    s.now = s.step(ok).unwrap();
    assert!(matches!(s.flusher.poll(s.now), Action::Send(_)));
    s.capture(0, 1);
    s.flusher.handle_outcome(s.now, Outcome::status(200));
    assert_eq!(s.step(ok), Some(s.now.after(limits::FLUSH_INTERVAL)));
}

#[test]
fn a_batch_filled_to_its_limit_leaves_nothing_older_behind() {
    let mut s = Scenario::<2>::new(Policy { max_batch_events: 2, ..Policy::default() });
    s.capture(0, 2);
    s.now = s.step(ok).unwrap();
    assert!(matches!(s.flusher.poll(s.now), Action::Send(batch) if batch.events() == 2));
    s.capture(1, 1);
    s.flusher.handle_outcome(s.now, Outcome::status(200));
    assert_eq!(s.step(ok), Some(s.now.after(limits::FLUSH_INTERVAL)));
}

#[test]
fn batches_keep_to_the_number_of_events() {
    let mut s = Scenario::<1>::new(Policy { max_batch_events: 4, ..eager() });
    s.capture(0, 10);
    s.run_now(ok);
    assert_eq!(s.events_sent(), [numbers(0..4), numbers(4..8), numbers(8..10)]);
}

#[test]
fn batches_keep_to_the_bytes_of_the_whole_body() {
    let overhead = Envelope::new("k", false).unwrap().overhead();
    for (bytes, events) in [(3 * FRAME_BYTES - 1, 2), (3 * FRAME_BYTES, 3), (4 * FRAME_BYTES - 1, 3), (0, 1)] {
        let mut s = Scenario::<2>::new(Policy { max_batch_bytes: overhead + bytes, ..eager() });
        s.capture(0, 7);
        s.run_now(ok);
        assert_eq!(s.requests[0].events, numbers(0..events), "{bytes} bytes");
        assert_eq!(s.events_sent().concat(), numbers(0..7));
    }
}

#[test]
fn a_busy_lane_does_not_starve_the_others() {
    let mut s = Scenario::<3>::new(Policy { max_batch_events: 4, ..eager() });
    s.capture(0, 20);
    s.capture(2, 1);
    s.capture(1, 5);
    s.run_now(ok);
    let sent = s.events_sent();
    assert_eq!(sent[0], numbers(0..4), "lane 0 fills the first batch");
    assert_eq!(sent[1], numbers(21..25), "lane 1 the second");
    assert_eq!(sent[2], [20, 4, 5, 6], "then lane 2, and lane 0 again");
    let (mut all, mut lane_0) = (sent.concat(), sent.concat());
    lane_0.retain(|&event| event < 20);
    assert_eq!(lane_0, numbers(0..20), "in order");
    all.sort_unstable();
    assert_eq!(all, numbers(0..26));
}
