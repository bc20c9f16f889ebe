//! What the flusher does about each thing a server, a network, a caller or a queue can do, in simulated time.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that fails should stop")]

use super::*;
use crate::{Answer, Producer, Ring};
use std::boxed::Box;
use std::collections::VecDeque;
use std::format;
use std::vec::Vec;

const _: () = assert!(size_of::<Flusher<'static, 1>>() <= 800, "a flusher is a few hundred bytes");
const _: () = assert!(size_of::<Flusher<'static, 9>>() <= 1400, "and under 100 more per lane");

/// One request as the server saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Request {
    at_ms: u64,
    attempt: u32,
    events: Vec<usize>,
}

/// A flusher, the producers of its lanes, and a clock; time only passes when the flusher waits.
struct Scenario<const LANES: usize> {
    flusher: Flusher<'static, LANES>,
    producers: [Producer<'static>; LANES],
    now: Instant,
    captured: usize,
    requests: Vec<Request>,
    reports: Vec<Report>,
}

/// Bytes of every event's frame: `{"n":0000000017},\n`.
const FRAME_BYTES: usize = 18;

impl<const LANES: usize> Scenario<LANES> {
    fn new(policy: Policy) -> Self {
        let rings = core::array::from_fn::<_, LANES, _>(|_| {
            let memory = std::vec![0; Ring::bytes_for(1 << 16)];
            Ring::format(Box::leak(memory.into_boxed_slice())).unwrap().split()
        });
        let mut consumers = Vec::new();
        let producers = rings.map(|(producer, consumer)| {
            consumers.push(consumer);
            producer
        });
        let envelope = Envelope::new("k", false).unwrap();
        let consumers = consumers.try_into().unwrap();
        let now = Instant::from_micros(1_000_000_000);
        let flusher = Flusher::new(consumers, envelope, policy, [7, 8]);
        Self { flusher, producers, now, captured: 0, requests: Vec::new(), reports: Vec::new() }
    }

    /// Captures `count` events, numbered on from the last one.
    fn capture(&mut self, lane: usize, count: usize) {
        for _ in 0..count {
            let frame = format!("{{\"n\":{:010}}},\n", self.captured);
            assert_eq!(frame.len(), FRAME_BYTES);
            let mut grant = self.producers[lane].grant(frame.len()).unwrap();
            grant.bytes_mut().copy_from_slice(frame.as_bytes());
            grant.commit(frame.len());
            self.captured += 1;
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
    }

    /// Polls once. A batch is answered by `server`, which sees the events' numbers.
    fn step(&mut self, mut server: impl FnMut(&[usize]) -> Outcome) -> Option<Instant> {
        let until = match self.flusher.poll(self.now) {
            Action::Send(batch) => {
                let number = |frame: &[u8]| core::str::from_utf8(&frame[5..15]).unwrap().parse().unwrap();
                let events: Vec<usize> = batch.frames().map(number).collect();
                assert_eq!(events.len(), batch.events());
                let request = Request { at_ms: self.now.as_micros() / 1000, attempt: batch.attempt(), events };
                let outcome = server(&request.events);
                self.requests.push(request);
                self.reports.push(self.flusher.handle_outcome(self.now, outcome));
                Some(self.now)
            }
            Action::Wait(until) => Some(until),
            Action::Done => None,
        };
        self.check();
        until
    }

    /// Polls, sends and waits until there is nothing to do or the end has come. Says whether it was the end.
    fn run(&mut self, mut server: impl FnMut(&[usize]) -> Outcome) -> bool {
        for _ in 0..100_000 {
            match self.step(&mut server) {
                None => return true,
                Some(Instant::NEVER) => return false,
                Some(until) => self.now = self.now.max(until),
            }
        }
        panic!("no end in sight: {:?}", self.flusher);
    }

    /// Polls and sends without letting time pass.
    fn run_now(&mut self, mut server: impl FnMut(&[usize]) -> Outcome) -> Option<Instant> {
        loop {
            let until = self.step(&mut server)?;
            if until > self.now {
                return Some(until);
            }
        }
    }

    fn check(&self) {
        let counters = self.flusher.counters();
        assert_eq!(self.captured as u64, counters.settled() + self.flusher.pending() as u64, "{counters:?}");
    }

    /// Start, attempt and numbers of all requests, relative to the first one.
    fn seen(&self) -> Vec<(u64, u32, Vec<usize>)> {
        let start = self.requests.first().map_or(0, |request| request.at_ms);
        self.requests.iter().map(|r| (r.at_ms - start, r.attempt, r.events.clone())).collect()
    }

    fn events_sent(&self) -> Vec<Vec<usize>> {
        self.requests.iter().map(|request| request.events.clone()).collect()
    }
}

fn ok(_: &[usize]) -> Outcome {
    Outcome::status(200)
}

fn status(status: u16) -> impl FnMut(&[usize]) -> Outcome {
    move |_| Outcome::status(status)
}

/// Answers in order, then 200.
fn script(outcomes: &[Outcome]) -> impl FnMut(&[usize]) -> Outcome {
    let mut outcomes: VecDeque<_> = outcomes.iter().copied().collect();
    move |_| outcomes.pop_front().unwrap_or(Outcome::status(200))
}

fn numbers(range: core::ops::Range<usize>) -> Vec<usize> {
    range.collect()
}

/// A policy under which every poll sends what there is.
fn eager() -> Policy {
    Policy { flush_at: 1, ..Policy::default() }
}

// When to send.

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

// How much to send.

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

// What the server says.

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

// Splitting.

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
    assert!(s.requests.len() <= 8 * 11, "{} requests", s.requests.len());
    s.run(ok);
    assert_eq!(s.flusher.counters().delivered, 992);
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

// Overflow.

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

// Flush.

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

// The end.

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
