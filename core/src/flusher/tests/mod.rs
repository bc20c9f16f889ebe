//! What the flusher does about each thing a server, a network, a caller or a queue can do, in simulated time.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that fails should stop")]

mod answers;
mod due;
mod end;
mod flush;
mod overflow;
mod splitting;

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
        let elsewhere = counters.settled() + counters.spooled;
        assert_eq!(self.captured as u64, elsewhere + self.flusher.pending() as u64, "{counters:?}");
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
