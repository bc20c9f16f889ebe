//! Capturing never asks for memory and never gives any back: not for any kind of event, not when it is refused, not when
//! the ring is full, on one thread or on four. And when the process has no memory left, delivery survives it.
//!
//! The whole binary runs under an allocator that counts by thread. Its tests take turns, because one of them makes
//! everybody's large allocations fail.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that fails should stop")]

mod common;

use common::{PATIENCE, capture, check, conserved, fates, quick};
use quillet::flags::{Definitions, FlagSubject, FlagsReply, Slot};
use quillet::transport::memory::MemoryTransport;
use quillet::{
    CaptureError, Captured, Client, Event, Exception, FlagQuery, Level, Property, RawJson, Timestamp, Typed, Uuid,
    Value, event, props,
};
use quillet_support::alloc::{CountingAllocator, Counts, Threads, allocations_in, fail_on};
use quillet_support::{Answer, Sink};
use std::sync::mpsc::channel;
use std::sync::{Barrier, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

static TURN: Mutex<()> = Mutex::new(());

fn take_turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Room for everything that one test captures.
fn client() -> Client {
    quick("http://127.0.0.1:9")
        .max_queue_size(100_000)
        .queue_bytes(16 << 20)
        .transport(MemoryTransport::new())
        .without_thread()
        .build()
        .unwrap()
}

/// One call, and what it must say.
struct Call<'a> {
    name: &'static str,
    make: Box<dyn Fn(&Client) -> Captured + Sync + 'a>,
    expected: Result<(), CaptureError>,
}

impl<'a> Call<'a> {
    fn new(name: &'static str, make: impl Fn(&Client) -> Captured + Sync + 'a) -> Self {
        Self { name, make: Box::new(make), expected: Ok(()) }
    }

    fn refused(name: &'static str, error: CaptureError, make: impl Fn(&Client) -> Captured + Sync + 'a) -> Self {
        Self { expected: Err(error), ..Self::new(name, make) }
    }

    /// Makes the call and sees to it that it neither took nor gave memory.
    #[track_caller]
    fn measure(&self, client: &Client) {
        let (counts, captured) = allocations_in(|| (self.make)(client));
        assert_eq!(counts, Counts::default(), "{}", self.name);
        assert_eq!(captured.ok().map(|_| ()), self.expected, "{}", self.name);
    }
}

#[derive(serde::Serialize)]
struct Order<'a> {
    id: u64,
    currency: &'a str,
    lines: [Line; 2],
    note: Option<&'a str>,
    tag: char,
}

#[derive(serde::Serialize)]
enum Line {
    Product { sku: u32, price: f64 },
    Shipping(i8, i8),
}

/// Strings that the calls borrow: made before anything is measured.
struct Texts {
    plain: String,
    quotes: String,
    controls: String,
    too_large: String,
    too_many_quotes: String,
    long_name: String,
    long_id: String,
    long_key: String,
}

impl Texts {
    fn new() -> Self {
        Self {
            plain: "p".repeat(64 * 1024 - 600),
            quotes: "\"".repeat(31 * 1024),
            controls: "\u{1}\n\t\\".repeat(4 * 1024),
            too_large: "p".repeat(64 * 1024),
            too_many_quotes: "\"".repeat(33 * 1024),
            long_name: "n".repeat(201),
            long_id: "ü".repeat(201),
            long_key: "k".repeat(1025),
        }
    }
}

const ORDER: Order<'_> = Order {
    id: 7,
    currency: "EUR",
    lines: [Line::Product { sku: 1, price: 9.5 }, Line::Shipping(1, -2)],
    note: None,
    tag: '"',
};

/// Every kind of event, and every shape a property may have.
fn accepted(texts: &Texts) -> Vec<Call<'_>> {
    let text = |key: &'static str, text: &'static str| Property::new(key, text);
    vec![
        Call::new("literal name", |client| client.capture(event!("heartbeat", "customer-7"))),
        Call::new("literal keys", |client| {
            client
                .capture(event!("order placed", "customer-7", { "total": 12.5, "currency": "EUR", "n": 3, "x": null }))
        }),
        Call::new("keys at run time", move |client| {
            let properties = [text("plan", "pro"), text("quo\"ted", "a\nb"), Property::new("n", u64::MAX)];
            client.capture(Event::new("run time", "customer-7").properties(&properties))
        }),
        Call::new("identify", |client| client.identify("customer-7", props! { "plan": "pro" })),
        Call::new("set and set_once and unset", |client| {
            let (set, once) = (props! { "plan": "pro" }, props! { "first": "free" });
            client.capture(Event::person("customer-7").set(set).set_once(once).unset(&["trial"]))
        }),
        Call::new("alias", |client| client.alias("customer-7", "cookie-1")),
        Call::new("group_identify", |client| client.group_identify("company", "acme", props! { "seats": 3 })),
        Call::new("groups", |client| {
            client.capture(Event::new("grouped", "customer-7").groups(&[("company", "acme"), ("team", "a\"b")]))
        }),
        Call::new("exception", |client| {
            let error = Exception::new("billing::Error", "card\nrefused").handled(false).level(Level::Fatal);
            let error = error.fingerprint("card").stack_text("0: main\n1: charge");
            client.capture(Event::exception("customer-7", &error).properties(props! { "amount": 3 }))
        }),
        Call::new("personless exception", |client| client.capture(Event::exception("", &Exception::new("", "")))),
        Call::new("personless", |client| client.capture(Event::personless("seen"))),
        Call::new("switches", |client| {
            client.capture(Event::new("switched", "customer-7").person_profile(false).disable_geoip(true))
        }),
        Call::new("own uuid and time", |client| {
            let uuid = Uuid::from_bytes([0x40; 16]);
            client.capture(Event::new("given", "x").uuid(uuid).timestamp(Timestamp::from_unix_ms(1_700_000_000_000)))
        }),
        Call::new("nested values", |client| {
            client.capture(event!("nested", "customer-7", {
                "team": { "name": "ops", "tags": ["a", "b", null, { "deep": [1, 2.5, true] }] },
                "none": {}, "empty": [],
            }))
        }),
        Call::new("numbers of all kinds", |client| {
            let numbers =
                props! { "nan": f64::NAN, "inf": f64::INFINITY, "tiny": 5e-324, "big": f64::MAX, "min": i64::MIN };
            client.capture(Event::new("numbers", "customer-7").properties(numbers))
        }),
        Call::new("raw JSON", |client| {
            let raw = RawJson::parse("{ \"a\" : [ 1, 2 , {\"b\":\"\\u00e9\"} ] }").unwrap();
            client.capture(Event::new("raw", "customer-7").properties(&[Property::new("raw", raw)]))
        }),
        Call::new("a serialised type", |client| {
            let typed = Typed(&ORDER);
            client.capture(Event::new("typed", "customer-7").properties(&[Property::new("o", Value::Typed(&typed))]))
        }),
        Call::new("a super property that the event has too", |client| {
            client.capture(event!("overridden", "customer-7", { "service": "mine", "$is_server": false }))
        }),
        Call::new("64 KiB of letters", |client| {
            let properties = [Property::new("text", texts.plain.as_str())];
            client.capture(Event::new("large", "customer-7").properties(&properties))
        }),
        Call::new("62 KiB once escaped", |client| {
            let properties = [Property::new("text", texts.quotes.as_str())];
            client.capture(Event::new("quotes", "customer-7").properties(&properties))
        }),
        Call::new("control characters", |client| {
            let properties = [Property::new("text", texts.controls.as_str())];
            client.capture(Event::new("controls", "customer-7").properties(&properties))
        }),
    ]
}

/// What capture refuses because of the event itself.
fn refused(texts: &Texts) -> Vec<Call<'_>> {
    let event = || Event::new("bad", "customer-7");
    let one =
        move |client: &Client, key: &str, value: &str| client.capture(event().properties(&[Property::new(key, value)]));
    vec![
        Call::refused("no name", CaptureError::EmptyEventName, |client| client.capture(Event::new("", "x"))),
        Call::refused("a long name", CaptureError::EventNameTooLong, |client| {
            client.capture(Event::new(&texts.long_name, "x"))
        }),
        Call::refused("no id", CaptureError::EmptyDistinctId, |client| client.capture(Event::new("x", " \n"))),
        Call::refused("a long id", CaptureError::DistinctIdTooLong, |client| {
            client.capture(Event::new("x", &texts.long_id))
        }),
        Call::refused("an empty key", CaptureError::EmptyKey, move |client| one(client, "", "x")),
        Call::refused("a long key", CaptureError::KeyTooLong, move |client| one(client, &texts.long_key, "x")),
        Call::refused("a reserved key", CaptureError::ReservedKey, move |client| one(client, "$lib", "x")),
        Call::refused("too large", CaptureError::TooLarge, move |client| one(client, "t", &texts.too_large)),
        Call::refused("too large once escaped", CaptureError::TooLarge, move |client| {
            one(client, "t", &texts.too_many_quotes)
        }),
        Call::refused("not JSON", CaptureError::InvalidValue, move |client| {
            let typed = Typed(u128::MAX);
            client.capture(event().properties(&[Property::new("n", Value::Typed(&typed))]))
        }),
        Call::refused("an alias of nothing", CaptureError::MissingField, |client| client.alias("customer-7", "")),
        Call::refused("a person without one", CaptureError::Personless, |client| {
            client.capture(Event::identify("customer-7").person_profile(false))
        }),
        Call::refused("too deep", CaptureError::TooDeep, |client| nest(client, &[], 65)),
    ]
}

/// A chain of arrays on the stack.
fn nest(client: &Client, inner: &[Value<'_>], levels: usize) -> Captured {
    if levels > 1 {
        nest(client, &[Value::Array(inner)], levels - 1)
    } else {
        client.capture(Event::new("deep", "customer-7").properties(&[Property::new("deep", Value::Array(inner))]))
    }
}

#[test]
fn no_kind_of_event_allocates() {
    let _turn = take_turn();
    let texts = Texts::new();
    let client = client();
    for call in accepted(&texts) {
        // The first time, too.
        for _ in 0..3 {
            call.measure(&client);
        }
    }
    client.flush(PATIENCE).unwrap();
    assert_eq!(conserved(&client).delivered, 3 * accepted(&texts).len() as u64);
}

#[test]
fn no_refusal_allocates() {
    let _turn = take_turn();
    let texts = Texts::new();
    let client = client();
    for call in refused(&texts) {
        call.measure(&client);
        call.measure(&client);
    }
    assert_eq!(conserved(&client).refused_total(), 2 * refused(&texts).len() as u64);

    client.set_enabled(false);
    Call::refused("off", CaptureError::Disabled, |client| client.capture(event!("off", "x"))).measure(&client);
    client.shutdown();
    Call::refused("closed", CaptureError::Closed, |client| client.capture(event!("late", "x"))).measure(&client);
    let disabled = Client::disabled();
    Call::refused("disabled", CaptureError::Disabled, |client| client.capture(event!("no", "x"))).measure(&disabled);
}

#[test]
fn a_full_ring_does_not_allocate() {
    let _turn = take_turn();
    let texts = Texts::new();
    let few = quick("http://127.0.0.1:9").max_queue_size(5).transport(MemoryTransport::new());
    let small = quick("http://127.0.0.1:9").queue_bytes(256 * 1024).transport(MemoryTransport::new());
    for (builder, text) in [(few, "short"), (small, texts.plain.as_str())] {
        let client = builder.without_thread().build().unwrap();
        let full = |client: &Client| client.capture(Event::new("full", "x").properties(&[Property::new("t", text)]));
        let (counts, captured) = allocations_in(|| (0..100).filter(|_| full(&client).is_accepted()).count());
        assert_eq!(counts, Counts::default());
        assert!((3..=5).contains(&captured), "{captured}");
        Call::refused("full", CaptureError::Full, full).measure(&client);
        assert_eq!(conserved(&client).refused_for(CaptureError::Full), 101 - captured as u64);
    }
}

#[test]
fn super_properties_and_their_changes_cost_the_capturing_thread_nothing() {
    let _turn = take_turn();
    let texts = Texts::new();
    let client = client();
    for round in 0..4 {
        assert!(client.set_super_property("service", format!("checkout \"{round}\"")));
        assert!(client.set_super_property("zone", 7));
        if round == 2 {
            assert!(client.remove_super_property("zone"));
        }
        for call in accepted(&texts) {
            call.measure(&client);
        }
    }
    client.flush(PATIENCE).unwrap();
    conserved(&client);
}

#[test]
fn neither_one_thread_nor_two_nor_four_allocate_while_a_flush_thread_delivers() {
    let _turn = take_turn();
    let texts = Texts::new();
    for threads in [1, 2, 4] {
        let memory = MemoryTransport::new();
        let client = quick("http://127.0.0.1:9").queue_bytes(4 << 20).transport(memory.clone()).build().unwrap();
        let start = Barrier::new(threads);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let calls: Vec<_> = accepted(&texts).into_iter().chain(refused(&texts)).collect();
                    start.wait();
                    for call in calls.iter().cycle().take(20 * calls.len()) {
                        let (counts, captured) = allocations_in(|| (call.make)(&client));
                        assert_eq!(counts, Counts::default(), "{} with {threads} threads", call.name);
                        let outcome = captured.ok().map(|_| ());
                        let at_its_limit = matches!(outcome, Err(CaptureError::Full | CaptureError::Busy));
                        assert!(outcome == call.expected || at_its_limit, "{}: {outcome:?}", call.name);
                    }
                });
            }
        });
        client.flush(PATIENCE).unwrap();
        let stats = conserved(&client);
        assert_eq!(memory.uuids().len() as u64, stats.delivered, "{stats:?}");
        assert!(stats.delivered >= 100);
    }
}

/// The one thing that a capture does besides: waking a thread that sleeps deeply.
#[cfg(target_os = "linux")]
#[test]
fn waking_the_flush_thread_does_not_allocate() {
    let _turn = take_turn();
    let sink = Sink::start();
    let (builder, sleeper) = common::Sleeper::watch(quick(sink.host()).flush_at(3));
    let client = builder.build().unwrap();
    capture(&client, "first", 3);
    assert!(sink.wait_for_events(3, PATIENCE));
    sleeper.wait();
    for _ in 0..3 {
        Call::new("waking", |client| client.capture(event!("waking", "customer-7"))).measure(&client);
    }
    assert!(sink.wait_for_events(6, Duration::from_secs(1)));
    client.flush(PATIENCE).unwrap();
    check(&client, &sink);
}

/// Every kind of filter that is decided without an engine for patterns, cohorts and other flags among them.
const DEFINITIONS: &str = r#"{"flags":[
    {"key":"three","active":true,"filters":{"groups":[
        {"properties":[{"key":"plan","value":["team","enterprise"]}],"rollout_percentage":100},
        {"properties":[{"key":"email","operator":"ends_with","value":"@example.org"},{"key":"n","operator":"gt","value":1}]},
        {"properties":[{"key":"n","operator":"lte","value":"7"},{"key":"version","operator":"semver_caret","value":"1.2"},
            {"key":"since","operator":"is_date_after","value":"-30d"},{"type":"cohort","key":"id","value":1},
            {"type":"flag","key":"on","operator":"flag_evaluates_to","value":true,"dependency_chain":["on"]}],
         "rollout_percentage":99.9}],
      "multivariate":{"variants":[{"key":"a\"b","rollout_percentage":100}]},"payloads":{"a\"b":"{\"x\":1}"}}},
    {"key":"on","active":true,"filters":{"groups":[{}]}}],
  "cohorts":{"1":{"type":"OR","values":[{"key":"email","operator":"icontains","value":"EXAMPLE"}]}}}"#;

#[test]
fn evaluating_a_flag_locally_asks_for_no_memory() {
    let _turn = take_turn();
    let known = props! {
        "plan": "pro", "email": "ada@example.com", "n": 7, "version": "1.10.0", "since": "2026-11-20T00:00:00Z", "x": [1, "y"],
    };
    let subject = FlagSubject::new("customer-7").person_properties(known);
    let now = Timestamp::from_unix_ms(1_795_424_400_000);
    let mut slots = vec![Slot::EMPTY; Definitions::slots_for(DEFINITIONS)];
    let (counts, definitions) = allocations_in(|| Definitions::index(DEFINITIONS, &mut slots).unwrap());
    assert_eq!(counts, Counts::default(), "building the index");
    let (counts, flag) = allocations_in(|| definitions.evaluate("three", &subject, now).unwrap());
    assert_eq!(counts, Counts::default(), "evaluating");
    let (counts, payload) = allocations_in(|| (flag.value().as_variant().unwrap() == "a\"b", flag.payload().is_some()));
    assert_eq!((counts, payload), (Counts::default(), (true, true)));

    let reply = r#"{"flags":{"a":{"enabled":true,"variant":"\u0062","metadata":{"payload":"1"}}},"requestId":"r"}"#;
    let (counts, found) = allocations_in(|| {
        let reply = FlagsReply::parse(reply).unwrap();
        reply.find("a").is_some_and(|flag| flag.value().as_variant().unwrap() == "b" && flag.payload().is_some())
    });
    assert_eq!((counts, found), (Counts::default(), true), "reading an answer");
}

/// The best of many, so that a machine with other things to do passes too. Only of optimised code anything is promised.
#[cfg(not(debug_assertions))]
#[test]
fn evaluating_a_flag_with_three_conditions_takes_less_than_a_microsecond() {
    let _turn = take_turn();
    let since = "2026-11-20T00:00:00Z";
    let known = props! { "plan": "pro", "email": "ada@example.com", "n": 7, "version": "1.10.0", "since": since };
    let subject = FlagSubject::new("customer-7").person_properties(known);
    let now = Timestamp::from_unix_ms(1_795_424_400_000);
    let document = DEFINITIONS.replace("-30d", "2026-01-01T00:00:00Z");
    let mut slots = vec![Slot::EMPTY; Definitions::slots_for(&document)];
    let definitions = Definitions::index(&document, &mut slots).unwrap();
    let batch = |_| {
        let started = std::time::Instant::now();
        for _ in 0..20 {
            std::hint::black_box(definitions.evaluate("three", std::hint::black_box(&subject), now).unwrap());
        }
        started.elapsed() / 20
    };
    let best = (0..500).map(batch).min().unwrap();
    assert!(best <= Duration::from_micros(1), "{best:?}");
}

/// Once PostHog has been told; before that, an event is made.
#[test]
fn asking_a_client_again_for_a_flag_it_can_evaluate_asks_for_no_memory() {
    let _turn = take_turn();
    let builder = quick("http://127.0.0.1:9").flag_definitions(DEFINITIONS).transport(MemoryTransport::new());
    let client = builder.without_thread().build().unwrap();
    let known = props! { "plan": "team" };
    let who = FlagQuery::new("customer-7").person_properties(known);
    assert!(client.is_feature_enabled("on", who, false));
    let (counts, enabled) = allocations_in(|| client.is_feature_enabled("on", who, false));
    assert_eq!((counts, enabled), (Counts::default(), true));
    assert_eq!(conserved(&client).accepted, 1);
}

#[test]
fn a_process_without_memory_for_a_request_tries_again_until_it_has_some() {
    let _turn = take_turn();
    for gzip in [false, true] {
        let sink = Sink::start();
        let (told, tells) = channel();
        let client = quick(sink.host())
            .gzip(gzip)
            .max_retries(1000)
            .on_request(move |request| told.send((request.status, request.attempt)).unwrap())
            .build()
            .unwrap();
        let uuids = common::texts(&capture(&client, "patient", 20));
        // What a request asks for at once; the sink's own buffers are smaller.
        let starving = fail_on(Threads::Others, 128 * 1024);
        assert_eq!(client.flush(Duration::ZERO), Err(quillet::FlushError::TimedOut));
        for attempt in 1..=3 {
            assert_eq!(tells.recv_timeout(PATIENCE).unwrap(), (None, attempt));
        }
        assert_eq!(fates(&conserved(&client)), (0, 0, 0, 20));
        drop(starving);
        client.flush(PATIENCE).unwrap();
        let stats = check(&client, &sink);
        assert_eq!(fates(&stats), (20, 0, 0, 0));
        assert!(stats.retries >= 3, "{stats:?}");
        assert_eq!(common::stored(&sink), uuids);
        assert_eq!(sink.requests().len(), 1);
    }
}

/// Without memory to tell whoever asked, there is still an outcome.
#[test]
fn an_immediate_capture_without_memory_says_so() {
    let _turn = take_turn();
    let sink = Sink::start();
    sink.script([Answer::AsJudged]);
    let client = quick(sink.host()).build().unwrap();
    let starving = fail_on(Threads::This, 128 * 1024);
    let result = client.capture_immediate(Event::new("now", "customer-7"), PATIENCE);
    drop(starving);
    assert_eq!(result, Err(quillet::ImmediateError::OutOfMemory));
    assert_eq!(fates(&conserved(&client)), (0, 0, 0, 0));
    client.capture_immediate(Event::new("now", "customer-7"), PATIENCE).unwrap();
    assert_eq!(fates(&check(&client, &sink)), (1, 0, 0, 0));
}
