//! What several test binaries need: clients that lose no time, and the law that holds after everything they do.
//!
//! In: the address of a sink. Out: a [`ClientBuilder`] whose waits are short, and checks that say what went wrong.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails should stop")]

use quillet::{Captured, Client, ClientBuilder, Event, Stats, Uuid};
use quillet_support::Sink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// For things that take milliseconds on an idle machine: long enough for a busy one, and no test waits for its end.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The key that every test uses.
pub const API_KEY: &str = "phc_integration_tests";

/// A builder for a client of `host`: short waits between attempts, no proxy of this machine's, no log.
///
/// The interval is long and `flush_at` beyond the queue, so that nothing leaves unless a test flushes, fills the queue or
/// says otherwise.
pub fn quick(host: impl Into<String>) -> ClientBuilder {
    Client::builder(API_KEY)
        .host(host)
        .backoff(Duration::from_millis(20), Duration::from_millis(100))
        .flush_interval(Duration::from_secs(600))
        .flush_at(usize::MAX)
        .shutdown_timeout(PATIENCE)
        .proxy(None)
        .enable_logging(false)
}

/// Captures `count` events called `name`, numbered by the property `n`, and answers their uuids.
#[track_caller]
pub fn capture(client: &Client, name: &str, count: usize) -> Vec<Uuid> {
    let numbered = |n: usize| client.capture(Event::new(name, "customer-7").properties(quillet::props! { "n": n }));
    (0..count).map(|n| accepted(numbered(n))).collect()
}

/// The uuid of an event that must have been accepted.
#[track_caller]
pub fn accepted(captured: Captured) -> Uuid {
    match captured.ok() {
        Ok(uuid) => uuid,
        Err(error) => panic!("refused: {error}"),
    }
}

/// The law, which holds at any moment.
#[track_caller]
pub fn conserved(client: &Client) -> Stats {
    let stats = client.stats();
    assert!(stats.is_conserved(), "{stats:?}");
    stats
}

/// The law, a sink without complaints, and one request at a time.
#[track_caller]
pub fn check(client: &Client, sink: &Sink) -> Stats {
    sink.assert_clean();
    let most = sink.view(|journal| journal.most_at_once());
    assert!(most <= 1, "{most} requests at the same time");
    conserved(client)
}

/// Delivered, rejected, dropped and pending, for comparisons that show all four.
pub fn fates(stats: &Stats) -> (u64, u64, u64, u64) {
    (stats.delivered, stats.rejected, stats.dropped_total(), stats.pending)
}

/// The uuids of what the sink has stored, in its order.
pub fn stored(sink: &Sink) -> Vec<String> {
    sink.stored().iter().map(|event| event.uuid().to_owned()).collect()
}

/// Uuids as the sink spells them.
pub fn texts(uuids: &[Uuid]) -> Vec<String> {
    uuids.iter().map(Uuid::to_string).collect()
}

/// Runs `work` and how long it took, which must not be longer than `limit`.
#[track_caller]
pub fn within<T>(limit: Duration, work: impl FnOnce() -> T) -> (Duration, T) {
    let started = Instant::now();
    let result = work();
    let elapsed = started.elapsed();
    assert!(elapsed <= limit, "took {elapsed:?}, which is more than {limit:?}");
    (elapsed, result)
}

/// Watches one client's flush thread, to know when it sleeps deeply: its ticks have stopped.
///
/// There is no other sign of it, and there should be none: on Linux the kernel counts how often a thread went to sleep.
#[cfg(target_os = "linux")]
pub struct Sleeper {
    /// The thread's folder in `/proc`, once it has made a request.
    thread: Arc<OnceLock<PathBuf>>,
}

#[cfg(target_os = "linux")]
impl Sleeper {
    /// Watches the client that the builder will make.
    pub fn watch(builder: ClientBuilder) -> (ClientBuilder, Self) {
        let thread = Arc::new(OnceLock::new());
        let seen = Arc::clone(&thread);
        let builder = builder.on_request(move |_| {
            seen.get_or_init(|| Path::new("/proc").join(std::fs::read_link("/proc/thread-self").unwrap()));
        });
        (builder, Self { thread })
    }

    /// Waits for the deep sleep, which comes a second after the last event. The sink must have seen a request.
    pub fn wait(&self) {
        let started = Instant::now();
        self.thread.wait();
        let (mut sleeps, mut since) = (self.sleeps(), Instant::now());
        // A tick is 2 ms; a busy machine may stretch it, hardly a hundredfold.
        while since.elapsed() < Duration::from_millis(200) {
            assert!(started.elapsed() < PATIENCE, "the flush thread does not come to rest");
            std::thread::sleep(Duration::from_millis(10));
            let now = self.sleeps();
            if now != sleeps {
                (sleeps, since) = (now, Instant::now());
            }
        }
    }

    /// How often the thread went to sleep so far.
    fn sleeps(&self) -> u64 {
        let status = std::fs::read_to_string(self.thread.get().unwrap().join("status")).unwrap();
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.unwrap().trim().parse().unwrap()
    }
}
