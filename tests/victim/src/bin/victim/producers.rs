//! The threads that capture.

use crate::lines;
use crate::options::Options;
use quillet::{Client, event};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Numbers that one start owns.
const NUMBERS: u64 = 1_000_000;

/// Where the numbers of a forked child begin.
pub const CHILD_OFFSET: u64 = 250_000;

/// Longest sleep without a look at whether to stop.
const NAP: Duration = Duration::from_millis(5);

/// Pause after a refusal, so that a full queue is not answered with nothing but refusals.
const AFTER_REFUSAL: Duration = Duration::from_millis(1);

/// What the producers share.
struct Shared {
    stop: AtomicBool,
    alive: AtomicUsize,
    /// Numbers given out.
    taken: AtomicU64,
}

/// The producers of this process.
pub struct Producers {
    shared: Arc<Shared>,
}

impl Producers {
    /// Nobody.
    pub fn none() -> Self {
        let (stop, alive) = (AtomicBool::new(true), AtomicUsize::new(0));
        Self { shared: Arc::new(Shared { stop, alive, taken: AtomicU64::new(0) }) }
    }

    /// Starts the threads; their numbers begin `offset` after those of the start.
    pub fn start(clients: &'static [Client], options: &Options, offset: u64) -> Self {
        let producers = Self::none();
        producers.shared.stop.store(false, Ordering::Relaxed);
        let end = if options.crash.as_deref() == Some("fork") && offset == 0 { CHILD_OFFSET } else { NUMBERS };
        let limit = options.max.min(end - offset);
        let interval = match options.rate {
            0 => Duration::ZERO,
            rate => Duration::from_nanos(1_000_000_000 * options.threads / rate),
        };
        for (number, client) in (0..options.threads).zip(clients.iter().cycle()) {
            let producer = Producer {
                shared: Arc::clone(&producers.shared),
                client,
                number,
                first: options.seq_start + offset,
                limit,
                interval,
                pad_bytes: options.pad_bytes,
            };
            producers.shared.alive.fetch_add(1, Ordering::Relaxed);
            thread::Builder::new().name(format!("producer-{number}")).spawn(move || producer.run()).unwrap();
        }
        producers
    }

    /// Tells the threads to stop and waits until they have, or for so long.
    pub fn stop(&self, patience: Duration) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let until = Instant::now() + patience;
        while self.shared.alive.load(Ordering::Acquire) > 0 && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// One thread.
struct Producer {
    shared: Arc<Shared>,
    client: &'static Client,
    number: u64,
    first: u64,
    limit: u64,
    /// Between two events of this thread.
    interval: Duration,
    pad_bytes: usize,
}

impl Producer {
    fn run(self) {
        let mut due = Instant::now();
        let mut pad = String::new();
        while self.sleep_until(due) {
            due += self.interval;
            let taken = self.shared.taken.fetch_add(1, Ordering::Relaxed);
            if taken >= self.limit {
                break;
            }
            let seq = self.first + taken;
            torture::pad(seq, self.pad_bytes, &mut pad);
            let captured = self.client.capture(event!("torture", "victim", {
                "seq": seq,
                "producer": self.number,
                "pad": pad.as_str(),
            }));
            if captured.is_accepted() {
                lines::accepted(seq);
            } else {
                lines::refused(seq);
                thread::sleep(AFTER_REFUSAL);
            }
        }
        self.shared.alive.fetch_sub(1, Ordering::Release);
    }

    /// Whether to go on.
    fn sleep_until(&self, due: Instant) -> bool {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let left = due.saturating_duration_since(Instant::now());
            if self.interval.is_zero() || left.is_zero() {
                return true;
            }
            thread::sleep(left.min(NAP));
        }
        false
    }
}
