//! The harness's sequential mode: no test ids, one client after the other, and nothing of one test in the next.
//!
//! In: calls without `test_id`. Out: what reaches the mock server, which counts every request for whichever test is running.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::Test;

/// Within this everything happens that is going to happen at once.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn reset_discards_what_is_queued() {
    let test = Test::alone();
    test.init(json!({ "flush_at": 100, "flush_interval_ms": 300 }));
    test.capture_many(3);
    test.reset();
    assert_eq!(test.state()["total_events_captured"], 0, "the counters are forgotten too");
    thread::sleep(Duration::from_millis(700));
    assert_eq!(test.requests().len(), 0, "neither the interval nor the end of the client sent them");

    test.init(json!({}));
    test.capture("next");
    assert_eq!(test.flush(), 1);
    let requests = test.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].all("event"), ["next"]);
}

#[test]
fn reset_ends_a_retry_and_whoever_waits_for_it() {
    let test = Test::alone();
    test.script([503]);
    test.init(json!({}));
    test.capture("test_event");
    let waiting = flush_meanwhile(&test);
    let began = Instant::now();
    test.reset();
    assert_eq!(waiting.join().unwrap(), 0);
    assert!(began.elapsed() < Duration::from_secs(1), "neither waited for the retry: {:?}", began.elapsed());
    thread::sleep(Duration::from_millis(1800));
    assert_eq!(test.requests().len(), 1, "the retry, due after at most 1.25 s, never came");
}

#[test]
fn a_second_init_discards_like_a_reset() {
    let test = Test::alone();
    test.init(json!({}));
    test.capture_many(2);
    test.init(json!({}));
    assert_eq!(test.flush(), 0);
    test.capture("next");
    assert_eq!(test.flush(), 1);
    assert_eq!(test.requests().len(), 1);
}

#[test]
fn each_flush_is_a_request_of_its_own_whatever_became_of_the_connection() {
    let test = Test::alone();
    test.init(json!({}));
    for round in 1..=3 {
        test.capture("test_event");
        assert_eq!(test.flush(), 1);
        assert_eq!(test.requests().len(), round);
    }
    assert_eq!(test.state()["total_retries"], 0, "a dead pooled connection is no failed attempt");
}

#[test]
fn nothing_is_sent_before_there_is_an_event() {
    let test = Test::alone();
    test.init(json!({ "flush_interval_ms": 50 }));
    thread::sleep(Duration::from_millis(500));
    assert_eq!(test.requests().len(), 0);
}

#[test]
fn a_call_that_waits_holds_up_no_other() {
    let test = Test::alone();
    test.script([503]);
    test.init(json!({}));
    test.capture("test_event");
    let waiting = flush_meanwhile(&test);
    assert_eq!(test.servers.adapter.call("GET", "/health", None).status, 200);
    assert_eq!(test.servers.adapter.call("POST", "/reset?test_id=another", None).status, 200);
    let state = test.state();
    assert_eq!(state["pending_events"], 1, "in the middle of it: {state}");
    assert_eq!(waiting.join().unwrap(), 1);
    assert_eq!(test.state()["last_error"], "HTTP 503: attempt 1 at 1 event(s)");
}

#[test]
fn the_state_before_init_is_all_zeros() {
    let expected = json!({
        "pending_events": 0,
        "total_events_captured": 0,
        "total_events_sent": 0,
        "total_retries": 0,
        "last_error": Value::Null,
        "requests_made": [],
    });
    assert_eq!(Test::alone().state(), expected);
}

/// A flush on a thread of its own, whose first request has been made.
fn flush_meanwhile(test: &Test) -> JoinHandle<u64> {
    let waiting = thread::spawn({
        let test = test.clone();
        move || test.flush()
    });
    test.wait_for_requests(1, SOON);
    waiting
}
