//! A service that is told to stop: what it captured is delivered before the process ends.
//!
//! ```text
//! cargo run --release --example sigterm      # then press Ctrl-C, or `kill` the process it names
//! ```
//!
//! An orchestrator sends SIGTERM, waits for its grace period, and sends SIGKILL. So the deadline of the shutdown has to
//! be shorter than that period: here 5 seconds, where Kubernetes gives 30 and Docker 10. The exit status is the
//! service's own: analytics never changes it, delivered or not.
//!
//! With `POSTHOG_API_KEY` the events go to PostHog, or to `POSTHOG_HOST`; without, into a sink in this process.
//! `tests/sigterm.rs` runs this file as a process of its own and sends it real signals.

use std::env;
use std::error::Error;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use quillet::{Client, ShutdownReport, event};
use quillet_support::Sink;
use signal_hook::consts::TERM_SIGNALS;
use signal_hook::flag;

/// Longest the shutdown may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// Who captures.
const SERVICE: &str = "sigterm-example";

fn main() -> Result<(), Box<dyn Error>> {
    let key = env::var("POSTHOG_API_KEY").ok().filter(|key| !key.trim().is_empty());
    let Some(key) = key else {
        let sink = Sink::start();
        let report = run(Client::builder("phc_sigterm").host(sink.host()).proxy(None).build()?)?;
        let (arrived, accepted) = (sink.stored().len(), report.stats.accepted);
        println!("the sink has {arrived} of {accepted} events");
        return if arrived as u64 == accepted { Ok(()) } else { Err("events are missing".into()) };
    };
    let host = env::var("POSTHOG_HOST").unwrap_or_default();
    run(Client::builder(key).host(host).build()?).map(drop)
}

/// The life of a service, from its start to the end of its shutdown.
pub fn run(client: Client) -> Result<ShutdownReport, Box<dyn Error>> {
    let stop = stop_on_signals()?;
    println!("serving as process {}; Ctrl-C or `kill {0}` ends it", process::id());
    let served = serve(&client, &stop);
    client.capture(event!("service stopped", SERVICE, { "requests": served }));

    println!("told to stop after {served} requests; {} events are queued", client.stats().pending);
    let report = client.shutdown_within(DEADLINE);
    let stats = &report.stats;
    println!("delivered {} of {} events in {} requests", stats.delivered, stats.accepted, stats.requests);
    Ok(report)
}

/// Serves until told to stop; says how many requests that were. Each takes 2 ms and is captured.
fn serve(client: &Client, stop: &AtomicBool) -> u64 {
    let mut served = 0;
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(2));
        client.capture(event!("request served", SERVICE, { "number": served, "path": "/orders" }));
        served += 1;
    }
    served
}

/// A flag that SIGTERM, SIGINT and SIGQUIT set. A second signal ends the process at once, for people in a hurry.
fn stop_on_signals() -> Result<Arc<AtomicBool>, Box<dyn Error>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in TERM_SIGNALS {
        // In this order: the first signal finds the flag unset, and sets it only then.
        flag::register_conditional_shutdown(*signal, 1, Arc::clone(&stop))?;
        flag::register(*signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}
