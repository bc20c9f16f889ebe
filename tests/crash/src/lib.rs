//! A program that captures a few events and then ends as it is told, in every way a program can end.
//!
//! ```text
//! crasher <way to end> <thread> [option …]
//! ```
//!
//! In: `CRASHER_HOST`, and for the options that need one a folder in `CRASHER_DIR`. Out: events to the host, `events.<n>` on
//! standard output once they are captured, and what the options print. It exits as its way to end says: the tests look at
//! that too.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "its purpose")]

mod end;
mod handlers;
mod hooks;
mod logs;
mod rows;
mod signals;
mod threads;

use std::env;
use std::time::{Duration, Instant};

use quillet::{Client, ClientBuilder, event};
use quillet_support::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

/// Events captured before the end.
const EVENTS: usize = 5;

/// Who captures.
const SOMEBODY: &str = "crasher";

/// What was asked for on the command line.
pub(crate) struct Request {
    end: String,
    thread: String,
    options: Vec<String>,
}

impl Request {
    fn from_args() -> Self {
        let mut args = env::args().skip(1);
        let end = args.next().expect("a way to end");
        Self { end, thread: args.next().unwrap_or_else(|| "main".to_owned()), options: args.collect() }
    }

    /// Whether an option was given.
    fn has(&self, option: &str) -> bool {
        self.options.iter().any(|given| given == option)
    }
}

/// The whole program.
pub fn main() {
    let request = Request::from_args();
    if request.end == "recover" {
        return recover(&request);
    }
    hooks::before(&request);
    logs::print();
    handlers::before(&request);
    let client = builder(&request).build().unwrap();
    let second = request.has("two_clients").then(|| builder(&request).super_property("client", 2).build().unwrap());
    if request.has("hook") {
        assert!(client.install_panic_hook());
        assert!(client.install_panic_hook(), "a second call says the same");
    }
    if let Some(second) = &second {
        assert!(second.install_panic_hook());
    }
    if request.has("signals") {
        assert!(client.install_signal_handlers());
        assert!(client.install_signal_handlers(), "a second call says the same");
    }
    hooks::after(&request);
    handlers::after(&request);
    for n in 0..EVENTS {
        let captured = client.capture(event!("before the end", SOMEBODY, { "n": n }));
        assert!(captured.is_accepted());
    }
    println!("events.{EVENTS}");
    if request.has("flushed") {
        client.flush(Duration::from_secs(30)).unwrap();
    }
    threads::run(&request, &client);
    hooks::report(&request, &client);
    handlers::report(&request);
    if request.has("exits") {
        std::process::exit(7);
    }
    // The ways to end that this line is reached after are those that a program survives.
    client.shutdown();
    drop(second);
}

/// The next start: delivers what is found until nothing is found any more, or nothing is expected any more.
fn recover(request: &Request) {
    let expected: u64 = request.thread.parse().expect("a number of events");
    let client = builder(request).build().unwrap();
    let started = Instant::now();
    while (client.stats().delivered < expected || request.has("looks")) && started.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(2));
        if request.has("looks") && started.elapsed() > Duration::from_millis(300) {
            break;
        }
    }
    let report = client.shutdown();
    assert!(report.stats.is_conserved(), "{report:?}");
    println!("recovered.{}", report.stats.recovered);
    println!("delivered.{}", report.stats.delivered);
}

fn builder(request: &Request) -> ClientBuilder {
    let key = env::var("CRASHER_KEY").unwrap_or_else(|_| "phc_crash_tests".to_owned());
    let mut builder = Client::builder(key)
        .host(env::var("CRASHER_HOST").expect("CRASHER_HOST"))
        .proxy(None)
        .enable_logging(request.has("logs"))
        .super_property("release", env::var("CRASHER_RELEASE").unwrap_or_default())
        .flush_interval(Duration::from_secs(600))
        .flush_at(usize::MAX)
        .backoff(Duration::from_millis(20), Duration::from_millis(100))
        .shutdown_timeout(Duration::from_secs(30));
    if let Some(dir) = env::var_os("CRASHER_DIR") {
        builder = if request.has("spool") { builder.spool_dir(dir) } else { builder.crash_dir(dir) };
    }
    if request.has("pumped") {
        builder = builder.without_thread();
    }
    if request.has("many_clients") {
        builder = builder.spool_bytes_max(1 << 30);
    }
    if request.has("person") {
        builder = builder.crash_distinct_id("somebody");
    }
    if request.has("deny") {
        builder = builder.deny_keys(["password"]);
    }
    if request.has("bad_person") {
        builder = builder.crash_distinct_id("x".repeat(300));
    }
    builder
}
