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
