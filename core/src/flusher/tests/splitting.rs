//! 400 and 413: who is the culprit, and when is it the server.

use super::*;

/// A server that refuses every request with one of `culprits` in it.
fn refusing(culprits: &[usize], code: u16) -> impl FnMut(&[usize]) -> Outcome {
    move |events| Outcome::status(if events.iter().any(|event| culprits.contains(event)) { code } else { 200 })
}

fn assert_only_culprits_are_rejected(events: usize, culprits: &[usize]) {
    let mut s = Scenario::<3>::new(eager());
    // Spread over lanes of different lengths, so that halves begin and end inside and at the edges of lanes.
    for (lane, count) in [(0, events / 2), (2, events / 3), (1, events - events / 2 - events / 3)] {
        s.capture(lane, count);
    }
    let mut server = refusing(culprits, 400);
    let mut delivered = Vec::new();
    s.run_now(|events| {
        let outcome = server(events);
        if outcome == Outcome::status(200) {
            delivered.extend_from_slice(events);
        }
        outcome
    });
    let counters = *s.flusher.counters();
    if s.flusher.pending() == 0 {
        assert_eq!(counters.rejected, culprits.len() as u64, "{events} events, culprits {culprits:?}");
        delivered.sort_unstable();
        let innocent: Vec<_> = (0..events).filter(|event| !culprits.contains(event)).collect();
        assert_eq!(delivered, innocent, "each once");
    }
    let halvings = events.next_power_of_two().trailing_zeros() as usize;
    let bound = 1 + culprits.len() * (halvings + 2);
    assert!(s.requests.len() <= bound, "{} requests for {events} events, culprits {culprits:?}", s.requests.len());
}

#[test]
fn a_malformed_event_is_found_and_only_it_is_rejected() {
    for events in 1..=33 {
        for culprit in 0..events {
            assert_only_culprits_are_rejected(events, &[culprit]);
        }
    }
}

#[test]
fn two_malformed_events_are_found_and_only_they_are_rejected() {
    for events in 2..=33 {
        for one in 0..events {
            for other in one + 1..events {
                assert_only_culprits_are_rejected(events, &[one, other]);
            }
        }
    }
}

#[test]
fn the_search_for_a_malformed_event_halves_what_is_known_to_hold_it() {
    let mut s = Scenario::<1>::new(eager());
    s.capture(0, 8);
    s.run_now(refusing(&[5], 400));
    let expected: &[&[usize]] = &[&[0, 1, 2, 3, 4, 5, 6, 7], &[0, 1, 2, 3], &[4, 5], &[4], &[5], &[6, 7]];
    assert_eq!(s.events_sent(), expected);
    assert!(s.requests.iter().all(|request| request.attempt == 1));
    assert_eq!(s.flusher.counters().retries, 0);
}

#[test]
fn once_a_culprit_is_found_all_the_rest_is_tried_at_once() {
    let mut s = Scenario::<1>::new(eager());
    s.capture(0, 6);
    s.run_now(refusing(&[3], 400));
    let expected: &[&[usize]] = &[&[0, 1, 2, 3, 4, 5], &[0, 1, 2], &[3], &[4, 5]];
    assert_eq!(s.events_sent(), expected);
}

#[test]
fn where_nothing_was_taken_before_a_culprit_one_event_is_tried_and_then_the_rest() {
    let mut s = Scenario::<1>::new(eager());
    s.capture(0, 6);
    s.run_now(refusing(&[0, 1], 400));
    let expected: &[&[usize]] = &[&[0, 1, 2, 3, 4, 5], &[0, 1, 2], &[0], &[1], &[2], &[3, 4, 5]];
    assert_eq!(s.events_sent(), expected);
    assert_eq!((s.flusher.counters().delivered, s.flusher.counters().rejected), (4, 2));
}

#[test]
fn a_batch_of_which_something_was_taken_is_no_reason_to_pause() {
    let mut s = Scenario::<1>::new(eager());
    s.capture(0, 3);
    s.run_now(refusing(&[1, 2], 400));
    assert_eq!((s.flusher.counters().delivered, s.flusher.counters().rejected), (1, 2));
    assert!(s.reports.iter().all(|report| report.paused_for.is_none()));
}

#[test]
fn retries_inside_a_split_repeat_the_part_and_count_from_one() {
    let mut s = Scenario::<1>::new(Policy { max_retries: 1, ..eager() });
    s.capture(0, 4);
    let answers = [400, 503, 200, 400, 503, 503].map(Outcome::status);
    s.run(script(&answers));
    let seen: Vec<_> = s.seen().into_iter().map(|(_, attempt, events)| (attempt, events)).collect();
    let expected: &[(u32, &[usize])] = &[
        (1, &[0, 1, 2, 3]),
        (1, &[0, 1]),
        (2, &[0, 1]),
        (1, &[2]), // a culprit is in 2..4
        (1, &[3]), // 2 was it, the rest is tried
        (2, &[3]),
    ];
    assert_eq!(seen.len(), expected.len());
    for (seen, expected) in seen.iter().zip(expected) {
        assert_eq!((seen.0, &seen.1[..]), *expected);
    }
    let counters = s.flusher.counters();
    assert_eq!((counters.delivered, counters.rejected, counters.dropped_total()), (2, 1, 1));
}

/// A server that takes bodies of at most so many frames' bytes.
fn taking_at_most(frames: usize) -> impl FnMut(&[usize]) -> Outcome {
    move |events| Outcome::status(if events.len() > frames { 413 } else { 200 })
}

#[test]
fn a_body_too_large_is_halved_by_bytes_and_later_ones_stay_below_until_the_pause_is_over() {
    let mut s = Scenario::<2>::new(eager());
    s.capture(0, 60);
    s.capture(1, 40);
    s.run_now(taking_at_most(30));
    let lens: Vec<_> = s.requests.iter().map(|request| request.events.len()).collect();
    assert_eq!(lens[0], 100);
    let refused = lens.iter().filter(|&&len| len > 30).count();
    assert!(refused <= 3, "{lens:?}");
    assert_eq!((s.flusher.counters().delivered, s.flusher.counters().rejected), (100, 0));

    let before = s.requests.len();
    s.capture(0, 100);
    s.run_now(taking_at_most(30));
    assert!(s.requests[before..].iter().all(|request| request.events.len() <= 30), "learned");

    s.pass(limits::PAUSE);
    let before = s.requests.len();
    s.capture(0, 100);
    s.run_now(ok);
    assert_eq!(s.requests[before..].len(), 1, "and forgotten");
}

#[test]
fn one_event_too_large_by_itself_is_one_request_and_no_lesson() {
    let mut s = Scenario::<1>::new(eager());
    s.capture(0, 1);
    s.run_now(status(413));
    assert_eq!((s.requests.len(), s.flusher.counters().rejected), (1, 1));
    s.capture(0, 500);
    s.run_now(ok);
    assert_eq!(s.requests.len(), 2);
}

#[test]
fn an_event_too_large_among_others_is_found_and_then_batches_are_large_again() {
    for culprit in 0..64 {
        let mut s = Scenario::<1>::new(eager());
        s.capture(0, 64);
        s.run_now(refusing(&[culprit], 413));
        assert_eq!((s.flusher.counters().delivered, s.flusher.counters().rejected), (63, 1));
        let before = s.requests.len();
        s.capture(0, 500);
        s.run_now(ok);
        assert_eq!(s.requests.len(), before + 1);
    }
}

#[test]
fn a_server_refusing_every_single_event_is_left_alone_for_longer_and_longer() {
    let mut s = Scenario::<1>::new(eager());
    s.capture(0, 3);
    s.run_now(status(400));
    assert_eq!(s.reports.last().unwrap().paused_for, Some(Duration::from_secs(30)));
    assert_eq!(s.flusher.counters().rejected, 3);
    for expected in [60, 120, 240, 480, 900, 900] {
        s.capture(0, 3);
        s.run(status(400));
        assert_eq!(s.reports.last().unwrap().paused_for, Some(Duration::from_secs(expected)));
    }
    s.capture(0, 1);
    s.run(ok);
    s.capture(0, 2);
    s.run_now(status(400));
    assert_eq!(s.reports.last().unwrap().paused_for, Some(Duration::from_secs(30)), "something was delivered between");
}

#[test]
fn a_large_batch_of_which_nothing_is_taken_is_not_sent_event_by_event() {
    let mut s = Scenario::<1>::new(eager());
    s.capture(0, 1000);
    let until = s.run_now(status(400)).unwrap();
    assert_eq!(until, s.now.after(Duration::from_secs(30)));
    assert_eq!((s.flusher.counters().rejected, s.flusher.pending()), (8, 992));
    // The whole, nine halves of halves down to the first event, and the seven behind it.
    assert_eq!(s.requests.len(), 17, "{:?}", s.events_sent());

    // Still the same after the pause: no search, nothing but one event at a time.
    s.now = until;
    let until = s.run_now(status(400)).unwrap();
    assert_eq!(until, s.now.after(Duration::from_secs(60)));
    assert_eq!((s.requests.len(), s.flusher.pending()), (17 + 8, 984));

    // And when it is over, one event finds out and all others follow.
    s.run(ok);
    assert_eq!((s.requests.len(), s.flusher.counters().delivered), (17 + 8 + 2, 984));
}

/// Good ones are never given up for bad neighbours, however many of these there are.
#[test]
fn a_long_row_of_malformed_events_costs_a_pause_and_none_of_the_others() {
    let mut s = Scenario::<1>::new(eager());
    s.capture(0, 100);
    let culprits: Vec<_> = (0..20).collect();
    s.run(refusing(&culprits, 400));
    assert_eq!((s.flusher.counters().rejected, s.flusher.counters().delivered), (20, 80));
    assert_eq!(s.flusher.pending(), 0);
}

#[test]
fn one_event_at_a_time_refused_again_and_again_pauses_too() {
    let mut s = Scenario::<1>::new(eager());
    for n in 1..=8 {
        s.capture(0, 1);
        s.run_now(status(400));
        assert_eq!(s.reports.last().unwrap().paused_for.is_some(), n == 8);
    }
}
