//! What each answer, or none, does to the events of a request.

use super::*;

#[test]
fn any_2xx_delivers() {
    for code in [200, 201, 204, 299] {
        let mut s = Scenario::<1>::new(eager());
        s.capture(0, 3);
        s.run(status(code));
        assert_eq!(s.seen(), [(0, 1, numbers(0..3))]);
        assert_eq!(s.flusher.counters().delivered, 3);
    }
}

#[test]
fn errors_that_may_pass_repeat_the_same_events_until_the_retries_are_used_up() {
    let mut outcomes: Vec<_> =
        [408, 429, 500, 501, 502, 503, 504, 505, 520, 599, 100, 600, 0].map(Outcome::status).to_vec();
    outcomes.extend([Outcome::NoAnswer, Outcome::OutOfMemory]);
    outcomes.push(Outcome::Answered(Answer { html: true, ..Answer::new(200) }));
    for outcome in outcomes {
        let mut s = Scenario::<1>::new(eager());
        s.capture(0, 3);
        s.run(|_| outcome);
        let seen = s.seen();
        assert_eq!(seen.len(), 4, "one request and three retries for {outcome:?}");
        for (at, (_, attempt, events)) in seen.iter().enumerate() {
            assert_eq!((*attempt, events), (at as u32 + 1, &numbers(0..3)), "{outcome:?}");
        }
        for (waited, least) in seen.windows(2).map(|pair| pair[1].0 - pair[0].0).zip([1000, 2000, 4000]) {
            assert!(waited >= least && waited <= least * 5 / 4, "{waited} ms for {least}");
        }
        assert_eq!(s.flusher.counters().dropped[DropReason::RetriesExhausted.index()], 3);
        assert_eq!((s.flusher.counters().requests, s.flusher.counters().retries), (4, 3));
        assert_eq!(s.reports[3].dropped, 3);
        assert!(s.reports[2].retry_in.is_some());
    }
}

#[test]
fn two_errors_then_success_takes_less_than_five_seconds() {
    for seed in 0..50 {
        let mut s = Scenario::<1>::new(eager());
        s.flusher.backoff = Backoff::new(limits::BACKOFF_BASE, limits::BACKOFF_MAX, [seed, seed]);
        s.capture(0, 1);
        s.run(script(&[Outcome::status(503), Outcome::status(503)]));
        let seen = s.seen();
        assert_eq!(seen.len(), 3);
        assert!(seen[1].0 >= 1000 && seen[2].0 <= 3750, "{seen:?}");
        assert_eq!(s.flusher.counters().delivered, 1);
    }
}

#[test]
fn after_a_success_waits_are_short_again() {
    let mut s = Scenario::<1>::new(eager());
    s.capture(0, 1);
    s.run(script(&[Outcome::status(503); 3]));
    s.capture(0, 1);
    s.run(script(&[Outcome::status(503)]));
    let seen = s.seen();
    assert!(seen[5].0 - seen[4].0 <= 1250, "{seen:?}");
}

#[test]
fn without_retries_one_request_is_all() {
    let mut s = Scenario::<1>::new(Policy { max_retries: 0, ..eager() });
    s.capture(0, 1);
    s.run(status(500));
    assert_eq!(s.seen(), [(0, 1, numbers(0..1))]);
}

#[test]
fn retry_after_is_waited_for_and_believed_up_to_the_longest_backoff() {
    for (asked, least, most) in [(3, 3000, 3000), (0, 1000, 1250), (1_000_000, 30_000, 30_000)] {
        let mut s = Scenario::<1>::new(eager());
        s.capture(0, 1);
        s.run(script(&[Outcome::Answered(Answer::new(429).with_retry_after(Duration::from_secs(asked)))]));
        let waited = s.seen()[1].0;
        assert!(waited >= least && waited <= most, "{waited} ms for {asked} s");
    }
}

#[test]
fn after_the_retries_are_used_up_the_next_batch_waits_for_its_backoff_and_then_goes_on() {
    let mut s = Scenario::<1>::new(Policy { max_batch_events: 2, max_retries: 1, ..eager() });
    s.capture(0, 4);
    s.run(script(&[Outcome::status(503), Outcome::status(503)]));
    let seen = s.seen();
    assert_eq!(s.events_sent(), [numbers(0..2), numbers(0..2), numbers(2..4)]);
    assert_eq!(seen[2].1, 1, "a new batch has attempts of its own");
    assert!(seen[2].0 - seen[1].0 >= 2000, "the server is the same: {seen:?}");
    assert_eq!((s.flusher.counters().delivered, s.flusher.counters().dropped_total()), (2, 2));
}

#[test]
fn answers_that_refuse_the_request_reject_it_and_the_next_one_goes_at_once() {
    for code in [402, 406, 409, 410, 415, 422, 431, 451, 499] {
        let mut s = Scenario::<1>::new(Policy { max_batch_events: 2, ..eager() });
        s.capture(0, 3);
        s.run(script(&[Outcome::status(code)]));
        assert_eq!(s.seen(), [(0, 1, numbers(0..2)), (0, 1, numbers(2..3))], "{code}");
        assert_eq!((s.flusher.counters().rejected, s.flusher.counters().delivered), (2, 1));
    }
}

#[test]
fn answers_that_refuse_everything_pause_delivery() {
    for code in [401, 403, 404, 405, 407, 301, 302, 308] {
        let mut s = Scenario::<1>::new(eager());
        s.capture(0, 2);
        assert_eq!(s.run_now(status(code)), Some(Instant::NEVER), "nothing is left to wait for");
        assert_eq!(s.reports[0].paused_for, Some(limits::PAUSE));
        assert_eq!((s.requests.len(), s.flusher.counters().rejected), (1, 2));

        let resumes = s.now.after(limits::PAUSE);
        s.capture(0, 3);
        let mark = s.flusher.flush();
        assert_eq!(s.run_now(ok), Some(resumes));
        assert_eq!(s.flusher.flush_state(&mark), FlushState::Paused);
        assert_eq!((s.requests.len(), s.flusher.pending()), (1, 3), "new events wait");

        s.run(ok);
        assert_eq!(s.seen()[1], (limits::PAUSE.as_millis() as u64, 1, numbers(2..5)));
        assert_eq!(s.flusher.flush_state(&mark), FlushState::Done);
    }
}

#[test]
fn a_spool_keeps_what_a_pause_would_reject() {
    let mut s = Scenario::<1>::new(Policy { exhausted: Exhausted::Keep(Duration::from_secs(15)), ..eager() });
    s.capture(0, 2);
    s.run(script(&[Outcome::status(401)]));
    assert_eq!(s.seen(), [(0, 1, numbers(0..2)), (900_000, 1, numbers(0..2))]);
    assert_eq!((s.flusher.counters().rejected, s.flusher.counters().delivered), (0, 2));
}

#[test]
fn a_spool_keeps_what_the_retries_could_not_deliver_and_tries_it_once_in_a_while() {
    let keep = Duration::from_secs(60);
    let mut s = Scenario::<1>::new(Policy { exhausted: Exhausted::Keep(keep), ..eager() });
    s.capture(0, 2);
    let mark = s.flusher.flush();
    for requests in 1..=4 {
        let until = s.run_now(status(503)).unwrap();
        assert_eq!(s.requests.len(), requests);
        let expected = if requests < 4 { FlushState::Pending } else { FlushState::Unreachable };
        assert_eq!(s.flusher.flush_state(&mark), expected, "after {requests} requests");
        s.now = until;
    }
    for _ in 0..3 {
        let until = s.run_now(status(503)).unwrap();
        let gap = s.requests.last().unwrap().at_ms - s.requests[s.requests.len() - 2].at_ms;
        assert_eq!(gap, 60_000);
        let late_mark = s.flusher.flush();
        assert_eq!(s.flusher.flush_state(&late_mark), FlushState::Unreachable, "a flush does not wait for it");
        assert_eq!(s.step(ok), Some(until), "nor does it shorten the wait");
        s.now = until;
    }
    s.run_now(|_| Outcome::Unreachable);
    let mark = s.flusher.flush();
    assert_eq!(s.flusher.flush_state(&mark), FlushState::Pending, "another fault, with a budget of its own");
    s.run(ok);
    assert_eq!((s.flusher.counters().delivered, s.flusher.counters().dropped_total()), (2, 0));
    assert!(s.events_sent().iter().all(|events| *events == numbers(0..2)));
}

#[test]
fn without_a_connection_nothing_is_dropped_and_waits_grow_to_the_limit() {
    let mut s = Scenario::<1>::new(eager());
    s.capture(0, 2);
    let mut left = 40;
    s.run(|_| {
        left -= 1;
        if left > 0 { Outcome::Unreachable } else { Outcome::status(200) }
    });
    let seen = s.seen();
    assert_eq!((seen.len(), s.flusher.counters().delivered), (40, 2));
    assert!(seen.iter().all(|(_, _, events)| *events == numbers(0..2)));
    let last_wait = seen[39].0 - seen[38].0;
    assert!((30_000..=37_500).contains(&last_wait), "{last_wait}");
}

#[test]
fn attempts_without_a_connection_do_not_use_up_the_retries() {
    let mut s = Scenario::<1>::new(eager());
    s.capture(0, 1);
    let unreachable = [Outcome::Unreachable; 5];
    s.run(script(&[&unreachable[..], &[Outcome::status(503); 3]].concat()));
    assert_eq!((s.requests.len(), s.flusher.counters().delivered), (9, 1));
}

#[test]
fn a_flush_gives_up_on_an_unreachable_server_when_its_budget_is_used_up() {
    let mut s = Scenario::<1>::new(eager());
    s.capture(0, 1);
    let mark = s.flusher.flush();
    for attempt in 1..=4 {
        assert_eq!(s.flusher.flush_state(&mark), FlushState::Pending, "before attempt {attempt}");
        let until = s.run_now(|_| Outcome::Unreachable).unwrap();
        if attempt < 4 {
            s.now = until;
        }
    }
    assert_eq!(s.flusher.flush_state(&mark), FlushState::Unreachable);
    assert_eq!(s.flusher.pending(), 1, "the event stays");
}

#[test]
fn any_answer_gives_a_flush_its_whole_budget_back() {
    let mut s = Scenario::<1>::new(eager());
    s.capture(0, 1);
    let mark = s.flusher.flush();
    let mut answers = [Outcome::Unreachable; 7];
    answers[3] = Outcome::status(503);
    let mut server = script(&answers);
    while s.requests.len() < 7 {
        s.now = s.run_now(&mut server).unwrap();
        assert_eq!(s.flusher.flush_state(&mark), FlushState::Pending);
    }
}

#[test]
fn a_flush_in_an_outage_tries_once_soon_and_then_says_so() {
    let mut s = Scenario::<1>::new(eager());
    s.capture(0, 1);
    for _ in 0..10 {
        let until = s.run_now(|_| Outcome::Unreachable).unwrap();
        s.now = until;
    }
    s.run_now(|_| Outcome::Unreachable);
    let (tried, failed_at) = (s.requests.len(), s.now);
    let mark = s.flusher.flush();
    assert_eq!(s.flusher.flush_state(&mark), FlushState::Pending);
    s.now = s.run_now(|_| Outcome::Unreachable).unwrap();
    assert_eq!(s.now, failed_at.after(limits::BACKOFF_BASE), "not at once, so that flushes do not hammer");
    s.run_now(|_| Outcome::Unreachable);
    assert_eq!(s.requests.len(), tried + 1);
    assert_eq!(s.flusher.flush_state(&mark), FlushState::Unreachable);

    let mark = s.flusher.flush();
    s.now = s.run_now(ok).unwrap();
    s.run_now(ok);
    assert_eq!(s.flusher.flush_state(&mark), FlushState::Done, "the network is back");
}

#[test]
fn a_flush_does_not_shorten_a_wait_that_the_server_asked_for() {
    let mut s = Scenario::<1>::new(eager());
    s.capture(0, 1);
    let asked = Outcome::Answered(Answer::new(503).with_retry_after(Duration::from_secs(20)));
    let until = s.run_now(script(&[asked]));
    s.flusher.flush();
    assert_eq!(s.run_now(ok), until);
}
