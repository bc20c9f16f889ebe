//! Panics that follow each other quickly: some are caught, some are the end.

use std::time::{Duration, Instant};

use quillet::{Client, event};

use crate::end::{PATIENCE, caught, double_panic, panics_in_c};
use crate::{Request, SOMEBODY, signals};

/// Longer than a flush thread looks for events by itself.
const IDLE: Duration = Duration::from_millis(1_300);

/// Ends as asked, if it is one of these. Returns where a program survives it.
pub(crate) fn end(name: &str, request: &Request, client: &Client) -> bool {
    match name {
        "caught_five" => caught(5),
        "caught_five_and_lives" => {
            if request.has("idle") {
                std::thread::sleep(IDLE);
            }
            let before = client.stats().accepted;
            caught(5);
            live_until(request, client, before + 5);
            if !request.has("spool") {
                // Accepted first, and then written.
                wait_for_file("caught 4");
            }
            // Without a shutdown.
            std::process::exit(7);
        }
        "caught_on_threads" => std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| caught(5));
            }
        }),
        "caught_and_killed" => {
            caught(2);
            signals::end("kill");
        }
        "caught_and_written" => {
            caught(2);
            client.write_crash_file();
            std::process::exit(7);
        }
        "caught_and_flushed" => {
            caught(2);
            assert!(client.flush(PATIENCE).is_ok());
            std::process::exit(7);
        }
        "caught_and_opted_out" => {
            caught(2);
            client.opt_out();
            let stats = client.stats();
            assert!(stats.is_conserved() && stats.pending == 0, "{stats:?}");
        }
        "caught_then_double" => {
            caught(1);
            double_panic();
        }
        "caught_then_c" => {
            caught(1);
            panics_in_c();
        }
        "caught_and_forked" => {
            caught(2);
            signals::in_child(|| {
                assert!(client.capture(event!("in the child", SOMEBODY)).is_accepted());
                caught(1);
                assert!(client.flush(PATIENCE).is_ok());
                signals::end("kill");
            });
        }
        "caught_while_closing" => caught_while_closing(request, client),
        _ => return false,
    }
    true
}

/// Until so many events were accepted, or for as long as patience lasts.
fn live_until(request: &Request, client: &Client, accepted: u64) {
    let started = Instant::now();
    while client.stats().accepted < accepted && started.elapsed() < PATIENCE {
        if request.has("pumped") {
            client.poll();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let stats = client.stats();
    assert!(stats.accepted == accepted && stats.is_conserved(), "{stats:?}");
}

/// Until a crash file says this, or for as long as patience lasts.
fn wait_for_file(text: &str) {
    let dir = std::env::var_os("CRASHER_DIR").unwrap();
    let started = Instant::now();
    let says = |path: &std::path::Path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).contains(text);
    while !std::fs::read_dir(&dir).unwrap().any(|entry| says(&entry.unwrap().path())) {
        assert!(started.elapsed() < PATIENCE, "no file says {text}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Four threads have five panics each while the client ends.
fn caught_while_closing(request: &Request, client: &Client) {
    let before = client.stats().accepted;
    let barrier = std::sync::Barrier::new(5);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                barrier.wait();
                caught(5);
            });
        }
        barrier.wait();
        std::thread::sleep(Duration::from_micros(u64::from(std::process::id()) % 2_000));
        if request.has("discards") {
            client.discard();
        } else {
            client.shutdown();
        }
    });
    let stats = client.stats();
    assert!(stats.is_conserved() && stats.pending == 0, "{stats:?}");
    let accepted = stats.accepted - before;
    println!("accepted.{accepted}");
    println!("accounted_for.{}", accepted + stats.refused.iter().sum::<u64>());
}
