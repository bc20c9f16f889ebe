//! Errors of a real program: chains of causes, stacks, steps, burst limits, reports of `anyhow` and `eyre`, all of it judged
//! by the sink's rules.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that fails should stop")]

mod common;

use common::{PATIENCE, accepted, check, conserved, quick};
use quillet::transport::memory::MemoryTransport;
use quillet::{CaptureError, Client, ErrorReport, Level, Mechanism, Scope, props};
use quillet_support::Sink;
use quillet_support::alloc::{CountingAllocator, Counts, allocations_in};
use quillet_support::sink::Event;
use serde_json::{Value, json};
use std::backtrace::Backtrace;
use std::error::Error;
use std::fmt;
use std::num::ParseIntError;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

/// The card was refused, because of an answer, because of a number in it.
#[derive(Debug)]
struct ChargeError {
    cause: AnswerError,
}

#[derive(Debug)]
enum AnswerError {
    Malformed(ParseIntError),
}

impl fmt::Display for ChargeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("card refused")
    }
}

impl fmt::Display for AnswerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bank's answer is malformed")
    }
}

impl Error for ChargeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cause)
    }
}

impl Error for AnswerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let Self::Malformed(cause) = self;
        Some(cause)
    }
}

fn charge() -> Result<(), ChargeError> {
    let parsed = "12a".parse::<i32>().map(drop);
    parsed.map_err(|error| ChargeError { cause: AnswerError::Malformed(error) })
}

/// Flushes, and answers the exceptions that the sink has.
fn exceptions(client: &Client, sink: &Sink) -> Vec<Arc<Event>> {
    client.flush(PATIENCE).unwrap();
    check(client, sink);
    sink.stored().into_iter().filter(|event| event.name() == "$exception").collect()
}

/// The list with what differs from run to run replaced: addresses gone, this file's lines zero.
fn normalised(event: &Event) -> Value {
    let mut list = event.property("$exception_list").clone();
    for entry in list.as_array_mut().unwrap() {
        if let Some(frames) = entry.pointer_mut("/stacktrace/frames").and_then(Value::as_array_mut) {
            frames.retain(|frame| frame.get("instruction_addr").is_none());
            for frame in frames {
                frame["lineno"] = 0.into();
                frame["colno"] = 0.into();
            }
        }
    }
    list
}

#[test]
fn a_chain_of_causes_is_sent_with_types_messages_and_links() {
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    let error = charge().unwrap_err();
    accepted(client.capture_error(&error));
    let known = quick(sink.host()).known_error::<AnswerError>().build().unwrap();
    accepted(known.capture_error(&error));
    known.flush(PATIENCE).unwrap();
    let events = exceptions(&client, &sink);
    for (event, cause) in events.iter().zip(["errors::AnswerError", "Malformed"]) {
        let golden = json!([
            {
                "type": "errors::ChargeError", "value": "card refused",
                "mechanism": {"type": "generic", "synthetic": true, "exception_id": 0},
                "stacktrace": {"type": "raw", "frames": [
                    {"platform": "native", "lang": "rust", "filename": "tests/errors.rs", "lineno": 0, "colno": 0,
                        "in_app": true},
                ]},
            },
            {
                "type": cause, "value": "the bank's answer is malformed",
                "mechanism": {"type": "chained", "source": "cause", "exception_id": 1, "parent_id": 0},
            },
            {
                "type": "std::num::ParseIntError", "value": "invalid digit found in string",
                "mechanism": {"type": "chained", "source": "cause", "exception_id": 2, "parent_id": 1},
            },
        ]);
        assert_eq!(normalised(event), golden);
        assert_eq!(event.property("$exception_level"), "error");
        assert_eq!(event.distinct_id(), event.uuid(), "nobody's");
        for absent in ["$exception_source", "$exception_panic_file", "$exception_steps", "$exception_suppressed_count"]
        {
            assert!(event.property(absent).is_null(), "{absent}");
        }
    }
}

#[test]
fn the_stack_begins_at_the_caller_and_leads_to_main() {
    #[inline(never)]
    fn reporting(client: &Client, error: &ChargeError) -> u32 {
        accepted(client.capture_error(error));
        line!() - 1
    }
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    let line = reporting(&client, &charge().unwrap_err());
    let [event] = &exceptions(&client, &sink)[..] else { panic!("not one") };
    let frames = event.property("$exception_list")[0]["stacktrace"]["frames"].as_array().unwrap();
    let (place, calls) = frames.split_last().unwrap();
    assert_eq!((&place["filename"], &place["lineno"]), (&"tests/errors.rs".into(), &line.into()));
    if cfg!(target_os = "linux") {
        assert!(calls.len() > 3, "{frames:?}");
        let address = |frame: &Value| {
            let text = frame["instruction_addr"].as_str().unwrap();
            u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
        };
        let innermost = address(calls.last().unwrap());
        let start = reporting as fn(&Client, &ChargeError) -> u32 as usize as u64;
        assert!((start..start + 4096).contains(&innermost), "the innermost call is not the reporter's");
        let images = event.property("$debug_images").as_array().unwrap();
        assert!(images.iter().any(|image| image["code_file"].as_str().unwrap().contains("errors")), "{images:?}");
        assert!(calls.iter().any(|frame| frame["in_app"] == false), "the C library is not the application");
    }
}

#[test]
fn a_report_says_what_its_reporter_knows() {
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    let error = charge().unwrap_err();
    let properties = props! { "order": 7, "$issue_name": "Charges fail" };
    let report = ErrorReport::from_dyn(&error)
        .distinct_id("customer-7")
        .handled(false)
        .level(Level::Fatal)
        .mechanism(Mechanism::Task)
        .source("rust.worker")
        .fingerprint("charge")
        .groups(&[("company", "acme")])
        .properties(properties)
        .without_stack();
    accepted(client.capture_exception(&report));
    accepted(client.capture_exception(&report.type_name("Charge").personless()));
    let events = exceptions(&client, &sink);
    let event = &events[0];
    assert_eq!(event.distinct_id(), "customer-7");
    let entry = &event.property("$exception_list")[0];
    assert_eq!(entry["type"], "ChargeError", "what a derived Debug says");
    let mechanism = json!({"type": "task", "handled": false, "synthetic": true, "exception_id": 0});
    assert_eq!(entry["mechanism"], mechanism);
    assert_eq!(entry["stacktrace"]["frames"].as_array().unwrap().len(), 1, "the place alone");
    for (key, value) in [
        ("$exception_level", json!("fatal")),
        ("$exception_source", json!("rust.worker")),
        ("$exception_fingerprint", json!("charge")),
        ("$groups", json!({"company": "acme"})),
        ("order", json!(7)),
        ("$issue_name", json!("Charges fail")),
    ] {
        assert_eq!(event.property(key), &value, "{key}");
    }
    assert_eq!(events[1].property("$exception_list")[0]["type"], "Charge");
    assert_eq!(events[1].distinct_id(), events[1].uuid());
}

#[test]
fn a_storm_of_errors_is_a_burst_and_a_number() {
    let sink = Sink::start();
    let client = quick(sink.host()).exception_limit(3, Duration::from_secs(600)).build().unwrap();
    let error = charge().unwrap_err();
    assert_eq!((0..50).filter(|_| client.capture_error(&error).is_accepted()).count(), 3);
    accepted(client.capture_error(&error.cause));
    accepted(client.capture_error(&error));
    for (name, expected) in [("one for all", true), ("one for all", true), ("another", true), ("one for all", true)] {
        let report = ErrorReport::new(&error).fingerprint(name);
        assert_eq!(client.capture_exception(&report).is_accepted(), expected);
    }
    let report = ErrorReport::new(&error).fingerprint("one for all");
    assert_eq!(client.capture_exception(&report).ok(), Err(CaptureError::RateLimited), "whatever the place");
    assert_eq!(exceptions(&client, &sink).len(), 9);
    assert_eq!(conserved(&client).refused_for(CaptureError::RateLimited), 48);
}

#[test]
fn the_next_error_sent_says_how_many_were_held_back() {
    let sink = Sink::start();
    let client = quick(sink.host()).exception_limit(1, Duration::from_millis(300)).build().unwrap();
    let report = || client.capture_error(&fmt::Error).is_accepted();
    assert!(report());
    let started = Instant::now();
    let mut held_back = 0;
    while !report() {
        held_back += 1;
        assert!(started.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(5));
    }
    let events = exceptions(&client, &sink);
    assert!(events[0].property("$exception_suppressed_count").is_null());
    let told = events[1].property("$exception_suppressed_count");
    assert_eq!(told.as_u64().unwrap_or(0), held_back);
    assert_eq!(conserved(&client).refused_for(CaptureError::RateLimited), held_back);
}

#[test]
fn steps_go_out_with_errors_of_their_scope() {
    let sink = Sink::start();
    let client = quick(sink.host()).exception_steps_bytes(1000).build().unwrap();
    assert!(client.add_exception_step("started", props! { "n": 1 }));
    assert!(!client.add_exception_step("", &[]) && !client.add_exception_step(&"x".repeat(2000), &[]));
    let (ada, bob) = (Scope::new().distinct_id("ada"), Scope::new().distinct_id("bob"));
    ada.run(|| assert!(client.add_exception_step("card entered", &[])));
    bob.run(|| {
        assert!(client.add_exception_step("logged in", &[]));
        Scope::new().property("deeper", true).run(|| assert!(client.add_exception_step("paid", &[])));
        accepted(client.capture_error(&fmt::Error));
    });
    accepted(client.capture_error(&fmt::Error));
    let own = props! { "$exception_steps": [{ "$message": "mine", "$timestamp": "2026-03-01T12:00:05Z" }] };
    accepted(client.capture_exception(&ErrorReport::new(&fmt::Error).properties(own)));
    for n in 0..200 {
        assert!(client.add_exception_step("again", props! { "n": n }));
    }
    accepted(client.capture_error(&fmt::Error));
    let steps: Vec<Vec<_>> = exceptions(&client, &sink)
        .iter()
        .map(|event| event.property("$exception_steps").as_array().unwrap().clone())
        .collect();
    let messages = |steps: &[Value]| steps.iter().map(|step| step["$message"].clone()).collect::<Vec<_>>();
    assert_eq!(messages(&steps[0]), ["started", "logged in", "paid"], "not the other customer's");
    assert_eq!(messages(&steps[1]), ["started"]);
    assert_eq!(messages(&steps[2]), ["mine"]);
    assert!(steps[3].len() > 5 && steps[3].last().unwrap()["n"] == 199);
    assert!(Value::from(steps[3].clone()).to_string().len() <= 1000);
}

#[test]
fn reports_of_anyhow_and_eyre_are_chains() {
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    let error =
        anyhow::Context::context(charge(), "while paying").map_err(|error| error.context("in checkout")).unwrap_err();
    accepted(client.capture_anyhow(&error));
    accepted(client.capture_anyhow(&anyhow::Error::new(charge().unwrap_err())));
    accepted(client.capture_anyhow(&anyhow::anyhow!("just words")));
    accepted(client.capture_eyre(&eyre::WrapErr::wrap_err(charge(), "while paying").unwrap_err()));
    let lists: Vec<_> = exceptions(&client, &sink)
        .iter()
        .map(|event| {
            let list = event.property("$exception_list").as_array().unwrap();
            list.iter()
                .map(|entry| format!("{}: {}", entry["type"], entry["value"]).replace('"', ""))
                .collect::<Vec<_>>()
        })
        .collect();
    let causes = [
        "ChargeError: card refused",
        "Malformed: the bank's answer is malformed",
        "std::num::ParseIntError: invalid digit found in string",
    ];
    let with = |first: &[&str]| [first, &causes].concat().into_iter().map(str::to_owned).collect::<Vec<_>>();
    let expected: [Vec<String>; 4] = [
        with(&["Error: in checkout", "Error: while paying"]),
        with(&[]),
        vec!["Error: just words".to_owned()],
        with(&["Error: while paying"]),
    ];
    assert_eq!(lists, expected);
}

#[test]
fn an_errors_own_backtrace_is_its_stack() {
    #[inline(never)]
    fn where_it_arose() -> Backtrace {
        Backtrace::force_capture()
    }
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    let backtrace = where_it_arose();
    accepted(client.capture_exception(&ErrorReport::new(&fmt::Error).backtrace(&backtrace)));
    let [event] = &exceptions(&client, &sink)[..] else { panic!("not one") };
    let entry = &event.property("$exception_list")[0];
    assert_eq!(entry["mechanism"]["synthetic"], false);
    let frames = entry["stacktrace"]["frames"].as_array().unwrap();
    let innermost = frames.last().unwrap();
    assert!(innermost["function"].as_str().unwrap().contains("where_it_arose"), "{frames:?}");
    assert_eq!((&innermost["in_app"], &innermost["client_resolved"]), (&true.into(), &true.into()));
    assert!(innermost["filename"].as_str().unwrap().ends_with("tests/errors.rs"));
    assert!(frames.iter().any(|frame| frame["in_app"] == false));
    assert!(event.property("$debug_images").is_null());
}

#[test]
fn symbols_are_looked_up_where_the_client_was_asked_to() {
    #[inline(never)]
    fn reporting(client: &Client, error: &ChargeError) {
        accepted(client.capture_error(error));
        accepted(client.capture_exception(&ErrorReport::new(error).without_stack()));
    }
    let sink = Sink::start();
    let client = quick(sink.host()).resolve_symbols(true).build().unwrap();
    reporting(&client, &charge().unwrap_err());
    let events = exceptions(&client, &sink);
    let entry = &events[0].property("$exception_list")[0];
    assert_eq!(entry["mechanism"]["synthetic"], true, "the reporter's stack, not the error's");
    let frames = entry["stacktrace"]["frames"].as_array().unwrap();
    let innermost = frames.last().unwrap();
    assert!(innermost["function"].as_str().unwrap().contains("reporting"), "{frames:?}");
    assert!(innermost["filename"].as_str().unwrap().ends_with("tests/errors.rs") && innermost["lineno"].is_u64());
    assert_eq!((&innermost["in_app"], &innermost["client_resolved"]), (&true.into(), &true.into()));
    assert!(frames.iter().any(|frame| frame["in_app"] == false), "the standard library is not the application");
    assert!(frames.iter().all(|frame| frame["instruction_addr"].is_null()));
    assert!(events[0].property("$debug_images").is_null());
    let without = &events[1].property("$exception_list")[0]["stacktrace"]["frames"];
    assert_eq!(without.as_array().unwrap().len(), 1, "the place alone");
}

/// Does in a test what no error should.
struct Hostile(fn(&mut fmt::Formatter<'_>) -> fmt::Result);

impl fmt::Display for Hostile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.0)(f)
    }
}

impl fmt::Debug for Hostile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.0)(f)
    }
}

impl Error for Hostile {}

#[test]
fn hostile_errors_harm_nobody() {
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    let report = |error: &Hostile| client.capture_exception(&ErrorReport::from_dyn(error).type_name("E"));
    let failing = Hostile(|f| {
        f.write_str("before ")?;
        Err(fmt::Error)
    });
    accepted(report(&failing));
    accepted(client.capture_exception(&ErrorReport::from_dyn(&failing)));
    accepted(report(&Hostile(|f| (0..10_000).try_for_each(|_| f.write_str("ä\u{0}\n")))));
    let panicking = Hostile(|_| panic!("in an error's Display"));
    assert_eq!(report(&panicking).ok(), Err(CaptureError::InvalidValue));
    assert_eq!(client.capture_exception(&ErrorReport::from_dyn(&panicking)).ok(), Err(CaptureError::InvalidValue));
    let events = exceptions(&client, &sink);
    let entry = |at: usize| &events[at].property("$exception_list")[0];
    assert_eq!((&entry(0)["type"], &entry(0)["value"]), (&"E".into(), &"before ".into()));
    assert_eq!(entry(1)["type"], "Error");
    assert!(entry(2)["value"].as_str().unwrap().len() > 8000);
    assert_eq!(Client::disabled().capture_error(&fmt::Error).ok(), Err(CaptureError::Disabled));
    client.shutdown();
    assert_eq!(client.capture_error(&fmt::Error).ok(), Err(CaptureError::Closed));
    assert!(!client.add_exception_step("late", &[]));
}

/// An error whose own code does not allocate, with one whose type has to be asked for.
#[test]
fn reporting_an_error_allocates_nothing_of_ours() {
    let client = quick("http://127.0.0.1:9")
        .transport(MemoryTransport::new())
        .exception_limit(2, Duration::from_secs(600))
        .without_thread()
        .build()
        .unwrap();
    let error = charge().unwrap_err();
    let report = || client.capture_error(&error).ok().map(drop);
    // The list of images is made once in a process.
    report().unwrap();
    let scope = Scope::new().distinct_id("ada").property("route", "/checkout");
    let _inside = scope.enter();
    let (counts, outcomes) = allocations_in(|| {
        assert!(client.add_exception_step("card entered", props! { "brand": "visa" }));
        [report(), report(), report()]
    });
    assert_eq!(counts, Counts::default());
    assert_eq!(outcomes, [Ok(()), Err(CaptureError::RateLimited), Err(CaptureError::RateLimited)]);
}
