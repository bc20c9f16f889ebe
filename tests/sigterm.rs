//! `examples/sigterm.rs` as a process of its own, with real signals: what it captured has to arrive.
//!
//! The process is this test binary, started again for the one test that needs it. So nothing has to be built first, and
//! what runs is the example's own code.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails should stop")]

use quillet_support::{Answer, Sink};
use std::collections::BTreeSet;
use std::env;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

#[allow(dead_code, reason = "its main() chooses between a project and a sink; here it is always the sink of the test")]
#[path = "../examples/sigterm.rs"]
mod service;

/// Set in the process that is the service: the host it delivers to.
const HOST: &str = "QUILLET_TEST_SIGTERM_HOST";

/// For things that take milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn everything_captured_before_a_sigterm_is_delivered() {
    become_the_service_if_asked();
    let sink = Sink::start();
    let service = Service::start("everything_captured_before_a_sigterm_is_delivered", &sink);
    assert!(sink.wait_for_requests(2, PATIENCE));
    assert_eq!(service.stop("TERM").code(), Some(0));
    check(&sink);
}

#[test]
fn everything_captured_before_a_sigint_is_delivered() {
    become_the_service_if_asked();
    let sink = Sink::start();
    let service = Service::start("everything_captured_before_a_sigint_is_delivered", &sink);
    assert!(sink.wait_for_requests(1, PATIENCE));
    assert_eq!(service.stop("INT").code(), Some(0));
    check(&sink);
}

#[test]
fn a_sigterm_in_a_back_off_waits_for_the_retry() {
    become_the_service_if_asked();
    let sink = Sink::start();
    sink.script([Answer::status(503)]);
    let service = Service::start("a_sigterm_in_a_back_off_waits_for_the_retry", &sink);
    assert!(sink.wait_for_requests(1, PATIENCE));
    assert_eq!(service.stop("TERM").code(), Some(0));
    check(&sink);
    assert_eq!(sink.view(|journal| journal.batches().filter(|batch| batch.status == Some(503)).count()), 1);
}

/// Every request that the service counted is there once, and its last word.
#[track_caller]
fn check(sink: &Sink) {
    let stored = sink.stored();
    let last_words: Vec<_> = stored.iter().filter(|event| event.name() == "service stopped").collect();
    let [last_word] = last_words.as_slice() else { panic!("{} last words", last_words.len()) };
    let requests = last_word.property("requests").as_u64().unwrap();
    let numbers: BTreeSet<u64> = stored.iter().filter_map(|event| event.property("number").as_u64()).collect();
    assert_eq!(numbers, (0..requests).collect());
    assert_eq!(stored.len() as u64, requests + 1);
    assert_eq!(sink.view(|journal| journal.duplicates()), 0);
    sink.assert_clean();
}

/// Runs the service and does not return, in the process that was started for it.
fn become_the_service_if_asked() {
    if let Ok(host) = env::var(HOST) {
        let client = quillet::Client::builder("phc_sigterm").host(host).proxy(None).build().unwrap();
        let report = service::run(client).unwrap();
        std::process::exit(if report.is_complete { 0 } else { 3 });
    }
}

/// The running service. Killed if the test ends without stopping it.
struct Service {
    process: Child,
}

impl Service {
    /// `test` is the caller's own name: the process goes straight there.
    fn start(test: &str, sink: &Sink) -> Self {
        let process = Command::new(env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(HOST, sink.host())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { process }
    }

    /// Sends the signal and waits for the end.
    fn stop(mut self, signal: &str) -> ExitStatus {
        // A shell has `kill` built in, and no unsafe code is needed for it.
        let kill = format!("kill -{signal} {}", self.process.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        let started = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "the service did not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
