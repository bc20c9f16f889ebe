//! Delivery against a model, in simulated time: random captures, faults, flushes, shutdowns and crashes over several lanes.
//!
//! After every step: nothing was lost or invented (the conservation law), what left a ring is what the report said, every
//! batch is the front of every lane in its order, and no event is acknowledged twice within the life of a process.
//!
//! `QUILLET_SEED=17` repeats one seed, which a failure prints; `QUILLET_STEPS` sets the steps of every seed.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    reason = "a test that fails should stop"
)]

use quillet_core::{
    Action, Answer, Batch, Counters, DropReason, Envelope, Exhausted, FlushMark, FlushState, Flusher, Instant, Outcome,
    Overflow, Policy, Producer, Report, Ring,
};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const SEEDS: u64 = 40;
const STEPS: u64 = if cfg!(debug_assertions) { 2_000 } else { 30_000 };

#[test]
fn one_lane_keeps_every_promise_whatever_happens() {
    simulate::<1>();
}

#[test]
fn three_lanes_keep_every_promise_whatever_happens() {
    simulate::<3>();
}

#[test]
fn nine_lanes_keep_every_promise_whatever_happens() {
    simulate::<9>();
}

/// Real threads commit while batches are cut, sent and refused: counting never sees half a commit.
#[test]
fn events_of_other_threads_are_delivered_once_and_in_order() {
    const EVENTS: u64 = if cfg!(debug_assertions) { 20_000 } else { 400_000 };
    let mut memory = [(); 2].map(|()| vec![0; Ring::bytes_for(1 << 14)]);
    let rings = memory.each_mut().map(|memory| Ring::format_at(memory, usize::MAX - 5_000).unwrap().split());
    let [(one, consumer_one), (two, consumer_two)] = rings;
    let policy = Policy { flush_at: 1, max_batch_events: 64, ..Policy::default() };
    let envelope = Envelope::new("phc_simulated", false).unwrap();
    let mut flusher = Flusher::new([consumer_one, consumer_two], envelope, policy, [1, 2]);
    let mut random = Random(99);
    let mut next = [0; 2];
    let is_over = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (lane, mut producer) in [one, two].into_iter().enumerate() {
            scope.spawn(move || {
                for seq in 0..EVENTS {
                    let text = frame(lane, seq, seq as usize % 40);
                    while !commit(&mut producer, &text) {
                        if is_over.load(Ordering::Relaxed) {
                            return;
                        }
                        std::thread::yield_now();
                    }
                }
            });
        }
        // Or a failure here would leave the others waiting for room.
        let _guard = SetOnDrop(is_over);
        let mut now = Instant::ZERO;
        while next != [EVENTS; 2] {
            now = now.after(Duration::from_secs(31));
            let Action::Send(batch) = flusher.poll(now) else { continue };
            // One in eight is refused, but never often enough to use up the retries.
            let delivered = batch.attempt() > 2 || random.below(8) > 0;
            if delivered {
                for (lane, seq) in batch.frames().map(parse) {
                    assert_eq!(seq, next[lane], "lane {lane}");
                    next[lane] += 1;
                }
            }
            let events = batch.events();
            let report = flusher.handle_outcome(now, Outcome::status(if delivered { 200 } else { 503 }));
            assert_eq!((report.events, report.delivered), (events, if delivered { events } else { 0 }));
        }
    });
    assert_eq!((flusher.pending(), flusher.counters().delivered), (0, 2 * EVENTS));
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn simulate<const LANES: usize>() {
    let from_env = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds = from_env("QUILLET_SEED").map_or(0..SEEDS, |seed| seed..seed + 1);
    let steps = from_env("QUILLET_STEPS").unwrap_or(STEPS);
    let (start, count) = (std::time::Instant::now(), seeds.end - seeds.start);
    let mut requests = 0;
    for seed in seeds {
        // Captured, and shown when the test fails.
        println!("QUILLET_SEED={seed} QUILLET_STEPS={steps}, {LANES} lanes");
        let mut world = World::<LANES>::new(seed);
        while world.steps < steps {
            world.live();
        }
        requests += world.requests;
    }
    let rate = (steps * count) as f64 / start.elapsed().as_secs_f64();
    println!("{} steps, {requests} requests, {:.2} M steps/s", steps * count, rate / 1e6);
}

/// Steele, Lea, Flood: SplitMix64. Small, and every seed is a good one.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// What the server, or the network before it, is up to for a while.
#[derive(Clone, Copy, Debug)]
enum Mood {
    Fine,
    /// Any outcome, at random.
    Flaky,
    /// Errors that may pass, now and then with a wish.
    Overloaded,
    Unreachable,
    /// Refuses every request that holds an event whose number is a multiple of this.
    Picky(u64),
    /// Refuses bodies longer than this.
    Narrow(usize),
    RefusesAll(u16),
}

/// What outlives a process: the rings' memory, the server, and the model of both.
struct World<const LANES: usize> {
    random: Random,
    memory: [Vec<u8>; LANES],
    /// Whether the memory holds rings to attach to.
    is_formatted: bool,
    now: Instant,
    mood: Mood,
    /// What is in every ring, by number, oldest first.
    pending: [VecDeque<u64>; LANES],
    /// The number of every lane's next event.
    next: [u64; LANES],
    /// Per lane and number, whether the server acknowledged it.
    acknowledged: [Vec<bool>; LANES],
    steps: u64,
    requests: u64,
}

impl<const LANES: usize> World<LANES> {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let capacity = 1 << (9 + random.below(6));
        Self {
            memory: core::array::from_fn(|_| vec![0; Ring::bytes_for(capacity)]),
            random,
            is_formatted: false,
            now: Instant::from_micros(1),
            mood: Mood::Fine,
            pending: core::array::from_fn(|_| VecDeque::new()),
            next: [0; LANES],
            acknowledged: core::array::from_fn(|_| Vec::new()),
            steps: 0,
            requests: 0,
        }
    }

    fn random_policy(&mut self) -> Policy {
        let random = &mut self.random;
        let keep = Exhausted::Keep(Duration::from_secs(15));
        Policy {
            flush_at: random.pick(&[1, 3, 20, 100]),
            flush_interval: Duration::from_millis(random.pick(&[0, 500, 10_000])),
            batch_interval_min: Duration::from_millis(random.pick(&[0, 20, 1_000])),
            max_batch_events: random.pick(&[1, 2, 7, 50, 1000]),
            max_batch_bytes: random.pick(&[0, 300, 1000, 1 << 20]),
            max_retries: random.pick(&[0, 1, 3, 10]),
            backoff_base: Duration::from_millis(random.pick(&[0, 100, 1000])),
            backoff_max: Duration::from_secs(random.pick(&[1, 30])),
            pause: Duration::from_secs(random.pick(&[1, 60, 900])),
            queue_events_max: random.pick(&[1, 10, 1000]),
            overflow: random.pick(&[Overflow::DropNewest, Overflow::DropOldest]),
            exhausted: random.pick(&[Exhausted::Drop, Exhausted::Drop, keep]),
        }
    }

    /// The life of one process: from start to shutdown, discard or crash.
    fn live(&mut self) {
        let policy = self.random_policy();
        let mut memory = core::mem::replace(&mut self.memory, [const { Vec::new() }; LANES]);
        let mut consumers = Vec::new();
        let producers = memory.each_mut().map(|memory| {
            let position = self.random.pick(&[0, usize::MAX - 1000, usize::MAX / 2]);
            let ring = if self.is_formatted { Ring::attach(memory) } else { Ring::format_at(memory, position) };
            let (producer, consumer) = ring.unwrap().split();
            consumers.push(consumer);
            producer
        });
        self.is_formatted = true;
        let seed = [self.random.next(), self.random.next()];
        let envelope = Envelope::new("phc_simulated", self.random.once_in(2)).unwrap();
        let flusher = Flusher::new(consumers.try_into().unwrap(), envelope, policy, seed);
        let accepted = self.pending.iter().map(|lane| lane.len() as u64).sum();
        let mut process =
            Process { world: self, flusher, producers, policy, accepted, is_busy: true, known: Known::default() };
        process.run();
        self.memory = memory;
    }
}

/// What must hold for the next batch, from what happened before.
struct Known<const LANES: usize> {
    /// No request before this, if so.
    not_before: Instant,
    /// Attempt and events of a request that is to be repeated.
    repeats: Option<(u32, Vec<(usize, u64)>)>,
    /// Flushes under way, with the number of each lane's next event when they began.
    marks: Vec<(FlushMark<LANES>, [u64; LANES])>,
    deadline: Option<Instant>,
}

impl<const LANES: usize> Default for Known<LANES> {
    fn default() -> Self {
        Self { not_before: Instant::ZERO, repeats: None, marks: Vec::new(), deadline: None }
    }
}

struct Process<'w, 'm, const LANES: usize> {
    world: &'w mut World<LANES>,
    flusher: Flusher<'m, LANES>,
    producers: [Producer<'m>; LANES],
    policy: Policy,
    /// Found at the start, or committed since.
    accepted: u64,
    /// Whether events are captured while a request is out.
    is_busy: bool,
    known: Known<LANES>,
}

impl<const LANES: usize> Process<'_, '_, LANES> {
    fn run(&mut self) {
        let steps = 50 + self.world.random.below(3000);
        for _ in 0..steps {
            self.world.steps += 1;
            match self.world.random.below(16) {
                0..=6 => self.capture(),
                7..=13 => {
                    if !self.poll() {
                        return;
                    }
                }
                14 => self.flush(),
                _ => self.change(),
            }
            self.check_marks();
        }
        match self.world.random.below(4) {
            0 => self.crash(),
            1 => self.discard(),
            2 => self.shut_down(),
            _ => self.recover(),
        }
    }

    /// Commits a few events to one lane, as far as there is room.
    fn capture(&mut self) {
        let lane = self.world.random.below(LANES as u64) as usize;
        let count = if self.world.random.once_in(20) { 100 } else { self.world.random.below(5) };
        for _ in 0..count {
            if !self.producers[lane].has_room_for_event(self.policy.queue_events_max) {
                break;
            }
            let seq = self.world.next[lane];
            let padding = self.world.random.below(if seq.is_multiple_of(50) { 90 } else { 12 });
            if !commit(&mut self.producers[lane], &frame(lane, seq, padding as usize)) {
                break;
            }
            self.world.next[lane] += 1;
            self.world.pending[lane].push_back(seq);
            self.world.acknowledged[lane].push(false);
            self.accepted += 1;
        }
        self.check_law();
    }

    fn flush(&mut self) {
        let mark = self.flusher.flush();
        self.known.marks.push((mark, self.world.next));
        // A flush may shorten a wait for an unreachable server.
        self.known.not_before = Instant::ZERO;
        if self.known.marks.len() > 4 {
            self.known.marks.remove(0);
        }
    }

    /// Lets time pass, or changes the server's mood.
    fn change(&mut self) {
        let random = &mut self.world.random;
        if random.once_in(2) {
            let ms = random.pick(&[0, 1, 100, 1000, 30_000]);
            self.world.now = self.world.now.after(Duration::from_millis(ms));
        } else {
            self.world.mood = match random.below(10) {
                0 => Mood::Flaky,
                1 => Mood::Overloaded,
                2 => Mood::Unreachable,
                3 => Mood::Picky(1 + random.below(30)),
                4 => Mood::Narrow(random.pick(&[100, 200, 1000, 5000])),
                5 => Mood::RefusesAll(random.pick(&[400, 401, 402, 404, 413, 415, 302])),
                _ => Mood::Fine,
            };
        }
    }

    /// One turn of the loop that drives a flusher. Says whether it goes on.
    fn poll(&mut self) -> bool {
        let now = self.world.now;
        let before = *self.flusher.counters();
        match self.flusher.poll(now) {
            Action::Done => {
                assert!(self.known.deadline.is_some(), "nobody shut it down");
                self.check_dropped(before, &[DropReason::Shutdown]);
                return false;
            }
            Action::Wait(until) => {
                assert!(until > now, "a wait that has ended already would spin");
                assert!(self.known.deadline.is_none_or(|deadline| until <= deadline));
                if until == Instant::NEVER {
                    assert_eq!(self.flusher.pending(), 0, "something to do and no time to do it");
                } else if self.world.random.once_in(2) {
                    self.world.now = until;
                }
                self.check_dropped(before, &[DropReason::Overflow]);
            }
            Action::Send(batch) => {
                let events: Vec<_> = batch.frames().map(parse).collect();
                check_batch(&batch, &events, &self.policy);
                check_order(&events, &self.world.pending);
                if let Some((attempt, repeated)) = self.known.repeats.take() {
                    assert_eq!((batch.attempt(), &events), (attempt, &repeated), "a retry repeats the request");
                }
                assert!(now >= self.known.not_before, "sent too early");
                assert_eq!(batch.deadline(), self.known.deadline);

                let outcome = answer(&mut self.world.random, self.world.mood, &events, batch.body(None).len());
                let attempt = batch.attempt();
                if self.world.random.once_in(4) {
                    let sent: Vec<_> = batch.body(None).chunks().map(<[u8]>::to_vec).collect();
                    assert_eq!(sent.concat().len(), batch.body(None).len());
                }
                self.world.now = now.after(Duration::from_millis(self.world.random.below(200)));
                if self.is_busy && self.world.random.once_in(3) {
                    self.capture();
                }
                self.world.requests += 1;
                if acknowledges(outcome) {
                    for &(lane, seq) in &events {
                        let acknowledged = &mut self.world.acknowledged[lane][seq as usize];
                        assert!(!*acknowledged, "delivered twice: lane {lane}, number {seq}");
                        *acknowledged = true;
                    }
                }
                if self.known.deadline.is_none() && self.world.random.once_in(100) {
                    let again = self.flusher.poll(self.world.now);
                    assert!(matches!(again, Action::Wait(Instant::NEVER)), "given twice");
                }
                let before = *self.flusher.counters();
                let report = self.flusher.handle_outcome(self.world.now, outcome);
                self.judge(before, report, outcome, attempt, events);
            }
        }
        self.check_law();
        true
    }

    /// Holds the report against the server's answer, the counters and the rings.
    fn judge(&mut self, before: Counters, report: Report, outcome: Outcome, attempt: u32, events: Vec<(usize, u64)>) {
        let after = *self.flusher.counters();
        let settled = report.delivered + report.rejected + report.dropped;
        assert_eq!((report.events, report.attempt), (events.len(), attempt));
        assert!(settled == 0 || settled == events.len(), "a request is settled as a whole: {report:?}");
        assert_eq!(after.delivered - before.delivered, report.delivered as u64);
        assert_eq!(after.rejected - before.rejected, report.rejected as u64);
        assert_eq!(after.dropped_total() - before.dropped_total(), report.dropped as u64);
        assert_eq!(after.requests, before.requests + 1);
        assert_eq!(report.delivered > 0, acknowledges(outcome), "delivered is what was acknowledged");
        if report.status == Some(400) || report.status == Some(413) {
            assert_eq!(settled > 0, events.len() == 1, "several events refused are split, one is rejected");
        }
        if outcome == Outcome::Unreachable {
            assert_eq!(settled, 0, "nothing is lost because there is no network");
        }
        if settled > 0 {
            for &(lane, seq) in &events {
                assert_eq!(self.world.pending[lane].pop_front(), Some(seq));
            }
        }
        if let Some(wait) = report.retry_in {
            self.known.not_before = self.world.now.after(wait);
            let is_whole = self.policy.overflow == Overflow::DropNewest;
            self.known.repeats = (settled == 0 && is_whole).then_some((attempt + 1, events));
        }
    }

    /// The law, and that every ring holds exactly what the model says.
    fn check_law(&self) {
        let counters = self.flusher.counters();
        assert_eq!(self.accepted, counters.settled() + self.flusher.pending() as u64, "{counters:?}");
        for (producer, pending) in self.producers.iter().zip(&self.world.pending) {
            assert_eq!(producer.pending(), pending.len());
        }
    }

    /// Takes note of what a poll dropped: the oldest of any lane, for one of these reasons.
    fn check_dropped(&mut self, before: Counters, reasons: &[DropReason]) {
        let after = *self.flusher.counters();
        let mut dropped = 0;
        for (producer, pending) in self.producers.iter().zip(&mut self.world.pending) {
            while pending.len() > producer.pending() {
                pending.pop_front();
                dropped += 1;
            }
        }
        let told: u64 = reasons.iter().map(|r| after.dropped[r.index()] - before.dropped[r.index()]).sum();
        assert_eq!((dropped, after.settled() - before.settled()), (told, told), "gone for another reason");
    }

    fn check_marks(&mut self) {
        let front = |lane: usize| self.world.pending[lane].front().copied().unwrap_or(self.world.next[lane]);
        let marks = &mut self.known.marks;
        marks.retain(|(mark, next)| {
            let is_done = (0..LANES).all(|lane| front(lane) >= next[lane]);
            assert_eq!(self.flusher.flush_state(mark) == FlushState::Done, is_done);
            !is_done
        });
    }

    /// The process dies. What is pending may have been acknowledged, and will be sent again.
    fn crash(&mut self) {
        for (lane, pending) in self.world.pending.iter().enumerate() {
            for &seq in pending {
                self.world.acknowledged[lane][seq as usize] = false;
            }
        }
    }

    fn discard(&mut self) {
        let before = *self.flusher.counters();
        self.flusher.discard();
        assert!(matches!(self.flusher.poll(self.world.now), Action::Done));
        self.check_dropped(before, &[DropReason::Discarded]);
        assert_eq!(self.flusher.pending(), 0);
        self.check_law();
    }

    fn shut_down(&mut self) {
        let deadline = self.world.now.after(Duration::from_millis(self.world.random.pick(&[0, 1, 5000])));
        self.flusher.shutdown(deadline);
        self.known.deadline = Some(deadline);
        for turn in 0.. {
            assert!(turn < 100_000, "a shutdown must end");
            self.world.steps += 1;
            let due = self.world.now >= deadline;
            if !self.poll() {
                break;
            }
            assert!(!due, "the deadline has passed");
        }
        let is_kept = matches!(self.policy.exhausted, Exhausted::Keep(_));
        assert!(is_kept || self.flusher.pending() == 0);
        self.check_law();
    }

    /// The server is well again: everything that is left gets there.
    fn recover(&mut self) {
        self.world.mood = Mood::Fine;
        self.is_busy = false;
        let mark = self.flusher.flush();
        self.known.not_before = Instant::ZERO;
        let before = *self.flusher.counters();
        for turn in 0.. {
            assert!(turn < 10_000, "a flush must end: {:?}", self.flusher);
            self.world.steps += 1;
            self.poll();
            self.world.now = self.world.now.after(Duration::from_secs(1));
            if self.flusher.pending() == 0 {
                break;
            }
        }
        assert_eq!(self.flusher.flush_state(&mark), FlushState::Done);
        let after = *self.flusher.counters();
        assert_eq!(before.rejected, after.rejected);
        self.check_marks();
    }
}

fn check_batch(batch: &Batch<'_>, events: &[(usize, u64)], policy: &Policy) {
    assert_eq!(batch.events(), events.len());
    assert!(!events.is_empty() && events.len() <= policy.max_batch_events.max(1));
    assert!(events.len() == 1 || batch.body(None).len() <= policy.max_batch_bytes);
}

/// A batch is the front of every lane, oldest first, one lane after the other.
fn check_order<const LANES: usize>(events: &[(usize, u64)], pending: &[VecDeque<u64>; LANES]) {
    let mut seen = [false; LANES];
    for run in events.chunk_by(|one, other| one.0 == other.0) {
        let lane = run[0].0;
        assert!(!seen[lane], "a lane comes up once");
        seen[lane] = true;
        assert!(run.iter().map(|event| &event.1).eq(pending[lane].iter().take(run.len())), "lane {lane}");
    }
}

fn answer(random: &mut Random, mood: Mood, events: &[(usize, u64)], body_bytes: usize) -> Outcome {
    let passing = [408, 429, 500, 502, 503, 504];
    match mood {
        Mood::Fine => Outcome::status(200),
        Mood::Unreachable => Outcome::Unreachable,
        Mood::RefusesAll(status) => Outcome::status(status),
        Mood::Picky(n) => Outcome::status(if events.iter().any(|event| event.1 % n == 0) { 400 } else { 200 }),
        Mood::Narrow(bytes) => Outcome::status(if body_bytes > bytes { 413 } else { 200 }),
        Mood::Overloaded if random.once_in(3) => {
            let wish = Duration::from_secs(random.below(100));
            Outcome::Answered(Answer::new(random.pick(&passing)).with_retry_after(wish))
        }
        Mood::Overloaded => Outcome::status(random.pick(&passing)),
        Mood::Flaky => match random.below(8) {
            0 => Outcome::NoAnswer,
            1 => Outcome::Unreachable,
            2 => Outcome::OutOfMemory,
            3 => Outcome::Answered(Answer { html: true, ..Answer::new(200) }),
            4 => Outcome::status(random.below(700) as u16),
            _ => Outcome::status(200),
        },
    }
}

/// Whether the server took the events, as its answer says.
fn acknowledges(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Answered(Answer { status: 200..=299, html: false, .. }))
}

/// Where the number begins in a frame, and its hexadecimal digits: two for the lane, the rest for the number in it.
const NUMBER_AT: usize = 6;
const NUMBER_DIGITS: usize = 16;

fn frame(lane: usize, seq: u64, padding: usize) -> Vec<u8> {
    format!("{{\"n\":\"{lane:02x}{seq:014x}{:padding$}\"}},\n", "").into_bytes()
}

fn parse(frame: &[u8]) -> (usize, u64) {
    let digits = &frame[NUMBER_AT..NUMBER_AT + NUMBER_DIGITS];
    let number = digits.iter().fold(0, |n, &digit| n << 4 | u64::from((digit as char).to_digit(16).unwrap()));
    ((number >> 56) as usize, number & (u64::MAX >> 8))
}

fn commit(producer: &mut Producer<'_>, frame: &[u8]) -> bool {
    match producer.grant(frame.len()) {
        Ok(mut grant) => {
            grant.bytes_mut().copy_from_slice(frame);
            grant.commit(frame.len());
            true
        }
        Err(_) => false,
    }
}
