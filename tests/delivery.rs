//! What becomes of events under everything a server can do, over real HTTP on the loopback.
//!
//! Each test says how the server behaves and then looks at both ends: how many requests were made, with which events,
//! what the server has stored, what the client counted. The sink sees to it that an event that comes again comes
//! unchanged, to the byte.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that fails should stop")]

mod common;

use common::{PATIENCE, capture, check, conserved, fates, quick, stored, texts, within};
use quillet::transport::fault::FaultTransport;
use quillet::{CaptureError, Client, DropReason, Event, FlushError, Property};
use quillet_support::sink::refuses;
use quillet_support::{Answer, Rule, Sink};
use std::time::{Duration, Instant};

/// One behaviour of a server towards five events that are flushed together, and what must come of it.
struct Case {
    name: &'static str,
    /// The first answers; the ones after them are 200.
    answers: Vec<Answer>,
    requests: usize,
    /// Delivered, rejected, dropped.
    fates: (u64, u64, u64),
    /// Events the server has, and acceptances beyond each event's first.
    stored: (usize, usize),
}

const EVENTS: usize = 5;
const DELIVERED: (u64, u64, u64) = (5, 0, 0);
const REJECTED: (u64, u64, u64) = (0, 5, 0);
const DROPPED: (u64, u64, u64) = (0, 0, 5);

impl Case {
    fn new(name: &'static str, answers: impl Into<Vec<Answer>>, requests: usize, fates: (u64, u64, u64)) -> Self {
        let stored = if fates == DELIVERED { (EVENTS, 0) } else { (0, 0) };
        Self { name, answers: answers.into(), requests, fates, stored }
    }

    /// The server had stored what it seemed not to answer.
    fn twice(mut self) -> Self {
        self.stored.1 = EVENTS;
        self
    }

    fn play(&self) {
        let name = self.name;
        let sink = Sink::start();
        sink.script(self.answers.clone());
        let client = quick(sink.host()).request_timeout(Duration::from_millis(400)).build().unwrap();
        let uuids = texts(&capture(&client, name, EVENTS));
        client.flush(PATIENCE).unwrap_or_else(|error| panic!("{name}: {error}"));

        let stats = check(&client, &sink);
        let (delivered, rejected, dropped, pending) = fates(&stats);
        assert_eq!((delivered, rejected, dropped), self.fates, "{name}");
        assert_eq!(pending, 0, "{name}");
        assert_eq!(stats.dropped_for(DropReason::RetriesExhausted), dropped, "{name}");
        assert_eq!((stats.requests, stats.retries), (self.requests as u64, self.requests as u64 - 1), "{name}");
        let requests = sink.requests();
        assert_eq!(requests.len(), self.requests, "{name}");
        let whole = requests.last().unwrap();
        for request in &requests {
            // A request that was cut is the beginning of the same one.
            assert!(whole.body.starts_with(&request.body), "{name}: a retry differs");
            assert!(request.events.is_empty() || request.uuids() == uuids, "{name}: other events");
        }
        assert_eq!((sink.stored().len(), sink.view(|journal| journal.duplicates())), self.stored, "{name}");
        if self.stored.0 > 0 {
            assert_eq!(stored(&sink), uuids, "{name}: order");
        }

        let report = client.shutdown();
        assert!(report.is_complete, "{name}: {report:?}");
        assert_eq!(sink.requests().len(), self.requests, "{name}: a request after everything was settled");
    }
}

#[test]
fn an_answer_is_a_success_whatever_else_it_says() {
    let empty_json = Answer::status_with_body(200, "{}");
    let text = Answer::status_with_body(200, "thanks, all good");
    let quota = Answer::status_with_body(200, r#"{"status":1,"quota_limited":["recordings"]}"#);
    let slow = Answer::SlowDrip(Duration::from_millis(1));
    for case in [
        Case::new("200", [], 1, DELIVERED),
        Case::new("204", [Answer::status(204)], 1, DELIVERED),
        Case::new("202", [Answer::status(202)], 1, DELIVERED),
        Case::new("200 and an empty object", [empty_json], 1, DELIVERED),
        Case::new("200 and a text", [text], 1, DELIVERED),
        Case::new("200 over quota", [quota], 1, DELIVERED),
        Case::new("200, a byte a millisecond", [slow], 1, DELIVERED),
        Case::new("200, then an unannounced close", [Answer::CloseWithoutSayingSo], 1, DELIVERED),
    ] {
        case.play();
    }
}

#[test]
fn what_may_pass_is_tried_again_until_it_does() {
    let too_slow = Answer::SlowDrip(Duration::from_millis(20));
    for case in [
        Case::new("408", [Answer::status(408)], 2, DELIVERED),
        Case::new("429", [Answer::status(429)], 2, DELIVERED),
        Case::new("500", [Answer::status(500)], 2, DELIVERED),
        Case::new("502", [Answer::status(502)], 2, DELIVERED),
        Case::new("503", [Answer::status(503)], 2, DELIVERED),
        Case::new("504", [Answer::status(504)], 2, DELIVERED),
        Case::new("599", [Answer::status(599)], 2, DELIVERED),
        Case::new("503 three times", [503; 3].map(Answer::status), 4, DELIVERED),
        Case::new("one of each", [408, 429, 500].map(Answer::status), 4, DELIVERED),
        Case::new("200 and a page", [Answer::Html200], 2, DELIVERED),
        Case::new("200 and markup", [Answer::status_with_body(200, " \n<html>")], 2, DELIVERED).twice(),
        Case::new("reset in the body", [Answer::ResetMidBody], 2, DELIVERED),
        Case::new("reset in the body, twice", [Answer::ResetMidBody, Answer::ResetMidBody], 3, DELIVERED),
        Case::new("reset after storing", [Answer::ResetAfterStoring], 2, DELIVERED).twice(),
        Case::new("no answer", [Answer::NoAnswer], 2, DELIVERED),
        Case::new("a drip too slow", [too_slow], 2, DELIVERED).twice(),
        Case::new("half an answer", [Answer::HalfAnswer], 2, DELIVERED).twice(),
        Case::new("garbage", [Answer::Garbage], 2, DELIVERED),
        Case::new("a close instead of an answer", [Answer::CloseBeforeAnswer], 2, DELIVERED),
    ] {
        case.play();
    }
}

#[test]
fn retries_end_and_what_is_left_is_dropped_and_counted() {
    for case in [
        Case::new("503 for ever", [503; 4].map(Answer::status), 4, DROPPED),
        Case::new("429 for ever", [429; 4].map(Answer::status), 4, DROPPED),
        Case::new("garbage for ever", [const { Answer::Garbage }; 4], 4, DROPPED),
        Case::new("a captive portal for ever", [const { Answer::Html200 }; 4], 4, DROPPED),
        Case::new("resets for ever", [const { Answer::ResetMidBody }; 4], 4, DROPPED),
    ] {
        case.play();
    }
}

#[test]
fn what_will_never_pass_is_not_tried_again() {
    for case in [
        Case::new("402", [Answer::status(402)], 1, REJECTED),
        Case::new("415", [Answer::status(415)], 1, REJECTED),
        Case::new("406", [Answer::status(406)], 1, REJECTED),
        Case::new("422", [Answer::status(422)], 1, REJECTED),
    ] {
        case.play();
    }
}

#[test]
fn no_retries_means_one_request() {
    let sink = Sink::start();
    sink.script([Answer::status(503)]);
    let client = quick(sink.host()).max_retries(0).build().unwrap();
    capture(&client, "only once", 3);
    client.flush(PATIENCE).unwrap();
    assert_eq!(fates(&check(&client, &sink)), (0, 0, 3, 0));
    assert_eq!(sink.requests().len(), 1);
}

/// The key is wrong, or the address: one request, then silence. What was not in it stays, and a shutdown does not try.
#[test]
fn a_refused_key_or_a_wrong_address_pauses_delivery_after_one_request() {
    for status in [301, 302, 307, 308, 401, 403, 404, 405, 407] {
        let sink = Sink::start();
        sink.rule(Rule::Always(Answer::status(status)));
        let client = quick(sink.host()).build().unwrap();
        capture(&client, "first", 3);
        client.flush(PATIENCE).unwrap();
        assert_eq!(fates(&check(&client, &sink)), (0, 3, 0, 0), "HTTP {status}");

        capture(&client, "second", 4);
        assert_eq!(client.flush(PATIENCE), Err(FlushError::Paused), "HTTP {status}");
        assert_eq!(fates(&check(&client, &sink)), (0, 3, 0, 4), "HTTP {status}");

        let report = client.shutdown();
        assert!(!report.is_complete, "HTTP {status}");
        let stats = check(&client, &sink);
        assert_eq!(fates(&stats), (0, 3, 4, 0), "HTTP {status}");
        assert_eq!(stats.dropped_for(DropReason::Shutdown), 4, "HTTP {status}");
        assert_eq!(sink.requests().len(), 1, "HTTP {status}");
    }
}

/// Requests that a binary search for one culprit takes, the first and the one with all the rest included.
fn requests_to_isolate(events: usize, culprit: usize) -> usize {
    let (mut from, mut to, mut requests) = (0, events, 1);
    let mut alone = events == 1;
    while to - from > 1 {
        let middle = from + (to - from) / 2;
        requests += 1;
        alone = culprit < middle && middle - from == 1;
        if culprit < middle { to = middle } else { from = middle }
    }
    // Nothing was taken before the first: then one more goes ahead of all the rest.
    let ahead = usize::from(culprit == 0 && events > 2);
    requests + usize::from(!alone) + ahead + usize::from(culprit + 1 < events)
}

#[test]
fn one_malformed_event_does_not_take_its_neighbours_along() {
    for (events, culprit) in [(1, 0), (2, 0), (2, 1), (3, 1), (64, 0), (64, 31), (64, 32), (64, 63), (100, 70)] {
        let sink = Sink::start();
        sink.rule(Rule::poisoned_by("poison"));
        let client = quick(sink.host()).without_thread().build().unwrap();
        let mut uuids = texts(&capture(&client, "good", culprit));
        capture(&client, "poison", 1);
        uuids.extend(texts(&capture(&client, "good", events - culprit - 1)));
        client.flush(PATIENCE).unwrap();

        let stats = check(&client, &sink);
        assert_eq!(fates(&stats), (events as u64 - 1, 1, 0, 0), "{culprit} of {events}");
        assert_eq!(stored(&sink), uuids, "{culprit} of {events}");
        let requests = sink.requests().len();
        assert_eq!(requests, requests_to_isolate(events, culprit), "{culprit} of {events}");
        assert_eq!(stats.retries, 0, "{culprit} of {events}");
        assert_eq!(sink.view(|journal| journal.repeats_of_refused_batches()), 0, "{culprit} of {events}");
    }
}

#[test]
fn several_malformed_events_are_all_found() {
    let sink = Sink::start();
    sink.rule(Rule::poisoned_by("poison"));
    let client = quick(sink.host()).without_thread().build().unwrap();
    let mut uuids = Vec::new();
    for count in [0, 7, 1, 20, 33] {
        uuids.extend(texts(&capture(&client, "good", count)));
        capture(&client, "poison", 1);
    }
    client.flush(PATIENCE).unwrap();
    assert_eq!(fates(&check(&client, &sink)), (61, 5, 0, 0));
    assert_eq!(stored(&sink), uuids);
    let requests = sink.requests().len();
    assert!(requests <= 5 * 9, "{requests} requests for 5 culprits of 66");
}

/// One request per event would be an attack on a server that takes nothing.
#[test]
fn a_server_that_refuses_everything_is_left_alone_soon() {
    let sink = Sink::start();
    sink.rule(Rule::Always(Answer::status(400)));
    let client = quick(sink.host()).without_thread().build().unwrap();
    capture(&client, "any", 500);
    assert_eq!(client.flush(PATIENCE), Err(FlushError::Paused));
    assert_eq!(fates(&check(&client, &sink)), (0, 8, 0, 492));
    // The first by halving 500, and seven more one by one.
    assert_eq!(sink.requests().len(), 9 + 7);
}

#[test]
fn a_body_too_large_is_halved_until_it_passes() {
    const LIMIT: usize = 16 * 1024;
    let sink = Sink::start();
    sink.rule(Rule::RefuseOver(LIMIT));
    let client = quick(sink.host()).without_thread().build().unwrap();
    let text = "x".repeat(3000);
    for n in 0..20 {
        let properties = [Property::new("n", n), Property::new("text", text.as_str())];
        assert!(client.capture(Event::new("large", "customer-7").properties(&properties)).is_accepted());
    }
    client.flush(PATIENCE).unwrap();

    let stats = check(&client, &sink);
    assert_eq!((fates(&stats), stats.retries), ((20, 0, 0, 0), 0));
    let requests = sink.requests();
    let refused = requests.iter().filter(|request| request.status == Some(413)).count();
    // 64 KiB, 32 KiB; the next half is below the limit and is remembered: four events fit each of five requests.
    assert_eq!((refused, requests.len()), (2, 7));
    let order: Vec<_> = sink.stored().iter().map(|event| event.property("n").as_u64().unwrap()).collect();
    assert_eq!(order, (0..20).collect::<Vec<_>>());
}

#[test]
fn an_event_too_large_by_itself_is_rejected_alone() {
    let sink = Sink::start();
    sink.rule(Rule::RefuseOver(16 * 1024));
    let client = quick(sink.host()).without_thread().build().unwrap();
    capture(&client, "small", 3);
    let text = "x".repeat(40_000);
    let properties = [Property::new("text", text.as_str())];
    assert!(client.capture(Event::new("huge", "customer-7").properties(&properties)).is_accepted());
    capture(&client, "small", 3);
    client.flush(PATIENCE).unwrap();
    assert_eq!(fates(&check(&client, &sink)), (6, 1, 0, 0));
    assert!(sink.stored().iter().all(|event| event.name() == "small"));

    capture(&client, "later", 50);
    let before = sink.requests().len();
    client.flush(PATIENCE).unwrap();
    assert_eq!(sink.requests().len(), before + 1, "one event explains the refusals: later batches are not kept small");
}

#[test]
fn a_server_out_of_reach_costs_no_event() {
    let host = refuses().unwrap();
    let client = quick(host.clone()).build().unwrap();
    let uuids = texts(&capture(&client, "patient", 5));
    assert_eq!(client.flush(PATIENCE), Err(FlushError::Unreachable));
    let stats = conserved(&client);
    assert_eq!(fates(&stats), (0, 0, 0, 5));
    assert!(stats.requests >= 4, "{stats:?}");

    let port = host.rsplit_once(':').unwrap().1.parse().unwrap();
    let sink = Sink::builder().port(port).start().unwrap();
    assert!(sink.wait_for_events(5, PATIENCE), "nobody has to ask: it comes when the server is back");
    client.flush(PATIENCE).unwrap();
    assert_eq!(fates(&check(&client, &sink)), (5, 0, 0, 0));
    assert_eq!(stored(&sink), uuids);
    assert_eq!(sink.requests().len(), 1);
}

#[test]
fn a_name_that_cannot_be_resolved_is_a_server_out_of_reach() {
    let sink = Sink::start();
    let (addr, calls) = (sink.addr(), std::sync::atomic::AtomicUsize::new(0));
    let client = quick(format!("http://posthog.invalid:{}", addr.port()))
        .resolver(move |name, port| {
            assert_eq!((name, port), ("posthog.invalid", addr.port()));
            match calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
                0..4 => Err(std::io::ErrorKind::NotFound.into()),
                _ => Ok(vec![addr]),
            }
        })
        .build()
        .unwrap();
    capture(&client, "patient", 2);
    assert_eq!(client.flush(PATIENCE), Err(FlushError::Unreachable));
    assert!(sink.wait_for_events(2, PATIENCE));
    client.flush(PATIENCE).unwrap();
    assert_eq!(fates(&check(&client, &sink)), (2, 0, 0, 0));
    assert_eq!(sink.requests()[0].header("host"), Some(format!("posthog.invalid:{}", addr.port()).as_str()));
}

/// The milliseconds between the first two requests of a client that was answered `first` once.
fn wait_after(first: Answer, build: impl FnOnce(String) -> Client) -> u128 {
    let sink = Sink::start();
    sink.script([first]);
    let client = build(sink.host());
    capture(&client, "again", 1);
    client.flush(PATIENCE).unwrap();
    assert_eq!(fates(&check(&client, &sink)), (1, 0, 0, 0));
    sink.view(|journal| journal.gaps())[0].as_millis()
}

#[test]
fn retry_after_is_the_least_wait() {
    let waited = wait_after(Answer::status_after(429, "1"), |host| {
        quick(host).backoff(Duration::from_millis(20), Duration::from_secs(30)).build().unwrap()
    });
    assert!((1000..2000).contains(&waited), "{waited} ms");
}

#[test]
fn retry_after_is_believed_up_to_the_longest_wait() {
    let waited = wait_after(Answer::status_after(503, "86400"), |host| {
        quick(host).backoff(Duration::from_millis(20), Duration::from_millis(300)).build().unwrap()
    });
    assert!((300..1500).contains(&waited), "{waited} ms");
}

#[test]
fn the_default_wait_is_a_second_and_at_most_a_quarter_more() {
    let waited = wait_after(Answer::status(503), |host| {
        Client::builder(common::API_KEY).host(host).proxy(None).enable_logging(false).build().unwrap()
    });
    assert!((1000..2200).contains(&waited), "{waited} ms");
}

#[test]
fn waits_double_up_to_the_longest() {
    let sink = Sink::start();
    sink.script([503; 4].map(Answer::status));
    let client = quick(sink.host())
        .backoff(Duration::from_millis(100), Duration::from_millis(250))
        .max_retries(4)
        .build()
        .unwrap();
    capture(&client, "again", 1);
    client.flush(PATIENCE).unwrap();
    let gaps: Vec<_> = sink.view(|journal| journal.gaps()).iter().map(Duration::as_millis).collect();
    assert_eq!(gaps.len(), 4);
    for (gap, least) in gaps.iter().zip([100, 200, 250, 250]) {
        assert!((least..least + 500).contains(gap), "{gaps:?}");
    }
}

#[test]
fn answers_do_not_shorten_the_wait_that_a_server_asked_for_and_neither_does_a_flush() {
    let sink = Sink::start();
    sink.script([Answer::status_after(429, "1")]);
    let client =
        quick(sink.host()).backoff(Duration::from_millis(20), Duration::from_secs(30)).flush_at(1).build().unwrap();
    capture(&client, "again", 1);
    assert!(sink.wait_for_requests(1, PATIENCE));
    client.flush(PATIENCE).unwrap();
    let waited = sink.view(|journal| journal.gaps())[0].as_millis();
    assert!(waited >= 1000, "{waited} ms");
    check(&client, &sink);
}

/// A wrapped transport is made before its client; what a deadline means must not depend on how long before.
#[test]
fn a_transport_made_long_before_its_client_keeps_the_clients_deadlines() {
    let sink = Sink::start();
    let builder = quick(sink.host());
    let transport = FaultTransport::scripted(builder.http_transport().unwrap(), []);
    // Time has to pass here; there is no event to wait for.
    std::thread::sleep(Duration::from_millis(600));
    let client = builder.transport(transport).build().unwrap();
    capture(&client, "in time", 3);
    let report = client.shutdown_within(Duration::from_millis(500));
    assert!(report.is_complete, "{report:?}");
    assert_eq!(fates(&check(&client, &sink)), (3, 0, 0, 0));
}

#[test]
fn five_events_are_one_request_and_nothing_is_none() {
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    within(Duration::from_secs(1), || client.flush(PATIENCE).unwrap());
    assert_eq!(sink.requests().len(), 0);
    let uuids = texts(&capture(&client, "together", 5));
    client.flush(PATIENCE).unwrap();
    client.flush(PATIENCE).unwrap();
    assert!(client.shutdown().is_complete);
    assert_eq!(sink.requests().len(), 1);
    assert_eq!(stored(&sink), uuids);
    check(&client, &sink);
}

/// Asking without waiting is asking all the same.
#[test]
fn a_flush_of_no_time_at_all_is_a_flush() {
    for pumped in [false, true] {
        let sink = Sink::start();
        let builder = quick(sink.host());
        let client = if pumped { builder.without_thread() } else { builder }.build().unwrap();
        capture(&client, "asked for", 3);
        for _ in 0..3 {
            let _ = client.flush(Duration::ZERO);
        }
        if pumped {
            assert_eq!(client.poll(), quillet::Poll::Sent);
        }
        assert!(sink.wait_for_events(3, PATIENCE));
        client.flush(PATIENCE).unwrap();
        assert_eq!(sink.requests().len(), 1);
        check(&client, &sink);
    }
}

#[test]
fn a_connection_is_kept_and_one_that_died_unnoticed_costs_no_attempt() {
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    let send = |answer: Answer| {
        sink.script([answer]);
        capture(&client, "kept", 1);
        client.flush(PATIENCE).unwrap();
        sink.requests().last().unwrap().connection
    };
    let first = send(Answer::AsJudged);
    assert_eq!(send(Answer::status(204)), first);
    assert_eq!(send(Answer::CloseWithoutSayingSo), first);
    assert_ne!(send(Answer::AsJudged), first);
    let stats = check(&client, &sink);
    assert_eq!((stats.delivered, stats.requests, stats.retries), (4, 4, 0));
    assert_eq!(sink.requests().len(), 4);
}

#[test]
fn flush_at_sends_without_being_asked() {
    let sink = Sink::start();
    let client = quick(sink.host()).flush_at(7).build().unwrap();
    capture(&client, "waits", 6);
    assert!(!sink.wait_for_requests(1, Duration::from_millis(100)));
    capture(&client, "is enough", 1);
    assert!(sink.wait_for_events(7, Duration::from_secs(1)));
    assert_eq!(sink.requests().len(), 1);
    check(&client, &sink);
}

#[test]
fn twenty_events_are_enough_by_default() {
    let sink = Sink::start();
    let client = Client::builder(common::API_KEY).host(sink.host()).proxy(None).enable_logging(false).build().unwrap();
    capture(&client, "waits", 19);
    assert!(!sink.wait_for_requests(1, Duration::from_millis(100)));
    capture(&client, "is enough", 1);
    assert!(sink.wait_for_events(20, Duration::from_secs(1)));
    assert_eq!(sink.requests().len(), 1);
    check(&client, &sink);
}

/// Were a request made for every `flush_at` of them, there would be one with each look: ten times as many.
#[test]
fn events_that_come_steadily_are_gathered() {
    let sink = Sink::start();
    let client = quick(sink.host()).flush_at(5).build().unwrap();
    let started = Instant::now();
    for _ in 0..300 {
        capture(&client, "steady", 5);
        std::thread::sleep(Duration::from_millis(1));
    }
    let looked = started.elapsed();
    client.flush(PATIENCE).unwrap();
    let requests = check(&client, &sink).requests;
    let intervals = u64::try_from(looked.as_millis()).unwrap() / 20;
    assert!(requests <= intervals + 3, "{requests} requests in {looked:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn flush_at_wakes_a_thread_that_sleeps_deeply() {
    let sink = Sink::start();
    let (builder, sleeper) = common::Sleeper::watch(quick(sink.host()).flush_at(7));
    let client = builder.build().unwrap();
    capture(&client, "first", 7);
    assert!(sink.wait_for_events(7, PATIENCE));
    sleeper.wait();
    capture(&client, "waits", 6);
    assert!(!sink.wait_for_requests(2, Duration::from_millis(100)));
    capture(&client, "is enough", 1);
    assert!(sink.wait_for_events(14, Duration::from_secs(1)));
    assert_eq!(sink.requests().len(), 2);
    check(&client, &sink);
}

#[test]
fn the_interval_sends_without_being_asked() {
    let sink = Sink::start();
    let client = quick(sink.host()).flush_interval(Duration::from_millis(300)).build().unwrap();
    let started = Instant::now();
    capture(&client, "alone", 1);
    assert!(sink.wait_for_events(1, PATIENCE));
    let waited = started.elapsed().as_millis();
    assert!((300..1300).contains(&waited), "{waited} ms");
    check(&client, &sink);
}

/// The interval is a promise to an event, not to the thread: one that comes while it sleeps does not wait for two of them.
#[cfg(target_os = "linux")]
#[test]
fn the_interval_holds_for_an_event_that_comes_in_the_deep_sleep() {
    let sink = Sink::start();
    let interval = Duration::from_secs(2);
    let (builder, sleeper) = common::Sleeper::watch(quick(sink.host()).flush_interval(interval));
    let client = builder.build().unwrap();
    capture(&client, "first", 1);
    client.flush(PATIENCE).unwrap();
    sleeper.wait();
    let started = Instant::now();
    capture(&client, "alone", 1);
    assert!(sink.wait_for_events(2, PATIENCE));
    let waited = started.elapsed();
    assert!(waited < interval + Duration::from_millis(700), "{waited:?}");
    check(&client, &sink);
}

#[test]
fn a_burst_is_cut_at_max_batch_events() {
    let sink = Sink::start();
    let client = quick(sink.host()).max_queue_size(10_000).queue_bytes(4 << 20).without_thread().build().unwrap();
    let uuids = texts(&capture(&client, "burst", 2500));
    client.flush(PATIENCE).unwrap();
    check(&client, &sink);
    let sizes: Vec<_> = sink.requests().iter().map(|request| request.events.len()).collect();
    assert_eq!(sizes, [1000, 1000, 500]);
    assert_eq!(stored(&sink), uuids);

    let sink = Sink::start();
    let client = quick(sink.host()).max_batch_events(40).flush_at(1).build().unwrap();
    let uuids = texts(&capture(&client, "burst", 1000));
    client.flush(PATIENCE).unwrap();
    check(&client, &sink);
    assert!(sink.requests().iter().all(|request| request.events.len() <= 40));
    assert_eq!(stored(&sink), uuids);
}

#[test]
fn a_burst_is_cut_at_max_batch_bytes() {
    const MIB: usize = 1024 * 1024;
    let sink = Sink::start();
    let client = quick(sink.host()).queue_bytes(8 * MIB).without_thread().build().unwrap();
    let text = "y".repeat(60 * 1024);
    for n in 0..60 {
        let properties = [Property::new("n", n), Property::new("text", text.as_str())];
        assert!(client.capture(Event::new("large", "customer-7").properties(&properties)).is_accepted());
    }
    client.flush(PATIENCE).unwrap();
    assert_eq!(fates(&check(&client, &sink)), (60, 0, 0, 0));
    let sizes: Vec<_> = sink.requests().iter().map(|request| request.wire_len).collect();
    assert_eq!(sizes.len(), 4, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size <= MIB) && sizes[0] > MIB - 64 * 1024, "{sizes:?}");
    assert_eq!(sink.stored().len(), 60);
}

/// A reset in the middle of a large body, and refusals that a server sends before it has read all of it.
#[test]
fn a_large_body_that_is_cut_off_is_sent_again_whole() {
    let sink = Sink::start();
    sink.script([Answer::ResetMidBody, Answer::ResetMidBody, Answer::status(503)]);
    let client = quick(sink.host()).queue_bytes(4 << 20).without_thread().build().unwrap();
    let text = "z".repeat(60 * 1024);
    for _ in 0..16 {
        let properties = [Property::new("text", text.as_str())];
        assert!(client.capture(Event::new("large", "customer-7").properties(&properties)).is_accepted());
    }
    client.flush(PATIENCE).unwrap();
    assert_eq!(fates(&check(&client, &sink)), (16, 0, 0, 0));
    let requests = sink.requests();
    assert_eq!(requests.len(), 4);
    assert!(requests.iter().all(|request| requests[3].body.starts_with(&request.body)));
    assert!(requests[0].body.len() > 400_000);
}

#[test]
fn gzip_compresses_every_body_and_repeats_the_same_bytes() {
    let sink = Sink::start();
    sink.script([Answer::status(503)]);
    let client = quick(sink.host()).gzip(true).build().unwrap();
    let uuids = texts(&capture(&client, "packed", 100));
    client.flush(PATIENCE).unwrap();
    capture(&client, "small", 1);
    client.flush(PATIENCE).unwrap();
    assert_eq!(fates(&check(&client, &sink)), (101, 0, 0, 0));
    let requests = sink.requests();
    assert_eq!(requests.len(), 3);
    for request in &requests[..2] {
        assert_eq!(request.header("content-encoding"), Some("gzip"));
        assert!(request.wire_len * 4 < request.body.len(), "{} of {}", request.wire_len, request.body.len());
        assert_eq!(request.uuids(), uuids);
        assert_eq!(request.body, requests[0].body);
    }
    assert_eq!(requests[2].header("content-encoding"), Some("gzip"), "a small one too");
}

#[test]
fn without_gzip_nothing_is_compressed() {
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    capture(&client, "plain", 100);
    client.flush(PATIENCE).unwrap();
    check(&client, &sink);
    let requests = sink.requests();
    assert_eq!(requests[0].header("content-encoding"), None);
    assert_eq!(requests[0].wire_len, requests[0].body.len());
}

#[test]
fn key_base_path_and_own_headers_are_in_every_request() {
    let sink = Sink::builder().base_path("/ingest/eu").api_key(common::API_KEY).start().unwrap();
    sink.script([Answer::status(503)]);
    let client = quick(format!("  {}// ", sink.host()))
        .api_key(format!(" {}\n", common::API_KEY))
        .header("X-Route", "first")
        .header("x-route", "second; a=\"b\"")
        .header("X-Other", "")
        .build()
        .unwrap();
    capture(&client, "routed", 1);
    client.flush(PATIENCE).unwrap();
    check(&client, &sink);
    let requests = sink.requests();
    assert_eq!(requests.len(), 2);
    for request in requests {
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/ingest/eu/batch/"));
        assert_eq!(request.header("x-route"), Some("second; a=\"b\""));
        assert_eq!(request.header("x-other"), Some(""));
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert_eq!(request.header("user-agent"), Some(concat!("quillet/", env!("CARGO_PKG_VERSION"))));
    }
}

#[test]
fn historical_migration_is_said_when_it_is_so_and_only_then() {
    for historical in [true, false] {
        let sink = Sink::start();
        let client = quick(sink.host()).historical_migration(historical).build().unwrap();
        capture(&client, "old", 1);
        client.flush(PATIENCE).unwrap();
        check(&client, &sink);
        let body: serde_json::Value = serde_json::from_slice(&sink.requests()[0].body).unwrap();
        let said = body.get("historical_migration");
        assert_eq!(said, historical.then_some(&serde_json::Value::Bool(true)));
    }
}

#[test]
fn sent_at_is_that_of_the_attempt_and_the_events_stay_what_they_were() {
    let sink = Sink::builder().sent_at().start().unwrap();
    sink.script([Answer::status(503)]);
    let client = quick(sink.host()).sent_at(true).build().unwrap();
    let uuids = texts(&capture(&client, "dated", 3));
    client.flush(PATIENCE).unwrap();
    check(&client, &sink);
    let requests = sink.requests();
    let sent_at = |at: usize| {
        let body: serde_json::Value = serde_json::from_slice(&requests[at].body).unwrap();
        body["sent_at"].as_str().unwrap().to_owned()
    };
    assert_eq!(requests.len(), 2);
    assert!(sent_at(0) < sent_at(1), "{} {}", sent_at(0), sent_at(1));
    assert!(requests.iter().all(|request| request.uuids() == uuids));
}

#[test]
fn the_switches_for_places_and_servers_are_in_every_event() {
    for (geoip, server) in [(true, true), (false, false)] {
        let sink = Sink::start();
        let client = quick(sink.host()).disable_geoip(geoip).is_server(server).build().unwrap();
        capture(&client, "switched", 1);
        client.flush(PATIENCE).unwrap();
        check(&client, &sink);
        let event = &sink.stored()[0];
        assert_eq!(event.property("$is_server").as_bool(), Some(server));
        assert_eq!(event.property("$geoip_disable").as_bool(), geoip.then_some(true));
    }
}

/// An hour of 503 in a second: the queue fills, refuses, and nobody is unaccounted for.
#[test]
fn a_long_outage_fills_the_queue_and_every_event_is_accounted_for() {
    let sink = Sink::start();
    sink.rule(Rule::Always(Answer::status(503)));
    let client = quick(sink.host()).max_queue_size(100).max_retries(1).flush_at(1).build().unwrap();
    let mut offered = 0;
    while sink.requests().len() < 12 {
        offered += 1;
        client.capture(Event::new("lost", "customer-7"));
        conserved(&client);
    }
    sink.clear_answers();
    while !client.capture(Event::new("saved", "customer-7")).is_accepted() {
        offered += 1;
    }
    offered += 1;
    assert!(sink.wait_for(|journal| journal.stored().iter().any(|event| event.name() == "saved"), PATIENCE));
    client.flush(PATIENCE).unwrap();
    let stats = check(&client, &sink);
    assert_eq!(stats.accepted + stats.refused_for(CaptureError::Full), offered);
    assert_eq!(stats.pending, 0);
    assert_eq!(stats.dropped_total(), stats.dropped_for(DropReason::RetriesExhausted));
    assert!(stats.dropped_total() > 0 && stats.delivered > 0, "{stats:?}");
    assert_eq!(sink.stored().len() as u64, stats.delivered);
}
