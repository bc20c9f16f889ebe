//! The victim: links the client, captures, and is ended in unkind ways by drivers in any language.
//!
//! ```text
//!  environment ─▶ options ─▶ producers ─▶ Client::capture ─▶ lines: one write(1) each, what was accepted
//!                    └─────▶ main: waits for SIGTERM, for the end of a recovery, or for the moment to crash
//! ```
//!
//! | environment variable | meaning |
//! | --- | --- |
//! | `POSTHOG_HOST`, `POSTHOG_API_KEY`, `POSTHOG_SPOOL_DIR` | where to send, with which key, where the spool lives |
//! | `TORTURE_MODE` | `capture` (default) or `recover` |
//! | `TORTURE_SEQ_START` | first sequence number; each start owns 1,000,000 numbers |
//! | `TORTURE_THREADS` | producer threads, 1 by default |
//! | `TORTURE_RATE` | events a second over all threads; 0, the default, is as fast as possible |
//! | `TORTURE_MAX` | stop capturing after this many events, and stay alive |
//! | `TORTURE_CRASH`, `TORTURE_CRASH_AFTER_MS` | `none`, or how to crash oneself, that long after `R` |
//!
//! What it writes to standard output is in `lines.rs`, how it crashes in `ends.rs`. On standard error it says which
//! durability was reached, and at the end its counters. Five more variables, which only the drivers of this repository
//! use, are in `options.rs`.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test program may")]

mod drained;
mod ends;
mod lines;
mod options;
mod producers;
mod signals;

use drained::Found;
use options::{Mode, Options};
use producers::Producers;
use quillet::{Client, ClientBuilder};
use signals::{Sigterm, Told};
use std::io::Write as _;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How often a recovery looks whether it is done.
const LOOK: Duration = Duration::from_millis(5);

/// Longest wait for producers, one of which may hang in a pipe that nobody reads.
const PRODUCERS_END: Duration = Duration::from_secs(1);

/// Never dropped, so that no end but the orderly one shuts a client down.
static CLIENTS: OnceLock<Vec<Client>> = OnceLock::new();

fn main() {
    // Before there are other threads, so that they all leave the signal alone.
    let mut sigterm = Sigterm::hold_back();
    let options = Options::from_env();
    let found = Found::below(options.spool_dir.as_deref());
    let clients = CLIENTS.get_or_init(|| (0..options.clients).map(|_| start(&options)).collect());
    if let Some(crash) = options.crash.as_deref().filter(|crash| !ends::is_known(crash)) {
        lines::unsupported(crash);
    }
    lines::ready();
    let mut producers = match options.mode {
        Mode::Capture => Producers::start(clients, &options, 0),
        Mode::Recover => Producers::none(),
    };
    let mut crash = options.crash_after.map(|after| Instant::now() + after);
    loop {
        let look = (options.mode == Mode::Recover).then(|| Instant::now() + LOOK);
        match sigterm.wait([crash, look].into_iter().flatten().min()) {
            Told::ToStop => break,
            Told::Nothing if crash.is_some_and(|at| at <= Instant::now()) => {
                crash = None;
                match ends::end(options.crash.as_deref().unwrap_or_default()) {
                    ends::Survived::AsItWas => {}
                    ends::Survived::AsChild => {
                        sigterm = Sigterm::hold_back();
                        producers = Producers::start(clients, &options, producers::CHILD_OFFSET);
                    }
                    ends::Survived::ToReturn => return,
                }
            }
            Told::Nothing => {
                if options.mode == Mode::Recover && found.is_drained(clients) {
                    break;
                }
            }
        }
    }
    producers.stop(PRODUCERS_END);
    for client in clients {
        let report = client.shutdown();
        // In one piece: a kill in the middle of it must not look like a law that was broken.
        let line = format!("conserved={} {:?}\n", report.stats.is_conserved(), report.stats);
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
    lines::shut_down();
}

fn start(options: &Options) -> Client {
    let client = builder(options).build().unwrap();
    client.install_panic_hook();
    client.install_signal_handlers();
    eprintln!("durability={:?}", client.durability());
    client
}

/// Quick to send and to try again, so that a kill hits every stage of an event's life.
fn builder(options: &Options) -> ClientBuilder {
    let builder = Client::builder(options.api_key.as_str())
        .host(options.host.as_str())
        .proxy(None)
        .flush_interval(Duration::from_millis(100))
        .queue_bytes(options.queue_bytes)
        .max_queue_size(10_000)
        .backoff(Duration::from_millis(50), Duration::from_secs(2))
        .request_timeout(Duration::from_secs(5));
    match &options.spool_dir {
        Some(dir) => builder.spool_dir(dir).spool_bytes_max(options.spool_bytes).spool_files_max(options.spool_files),
        None => builder,
    }
}
