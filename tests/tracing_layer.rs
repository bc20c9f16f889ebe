//! The layer for `tracing`, under a real subscriber with real spans, and records of `log` as they come by there.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that fails should stop")]

mod common;

use common::{PATIENCE, check, quick};
use quillet::{CaptureError, Client, Scope, TracingLayer};
use quillet_support::Sink;
use quillet_support::sink::Event;
use serde_json::{Value, json};
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use tracing::{Level, debug, error, error_span, info, info_span, warn};
use tracing_subscriber::layer::SubscriberExt;

#[derive(Debug)]
struct Refused(fmt::Error);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("card refused")
    }
}

impl Error for Refused {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// Runs `work` under the layer, and answers what the sink has.
fn under(layer: impl Fn(TracingLayer) -> TracingLayer, work: impl FnOnce(&Client)) -> Vec<Arc<Event>> {
    let sink = Sink::start();
    let client = quick(sink.host()).deny_keys(["password"]).build().unwrap();
    let subscriber = tracing_subscriber::registry().with(layer(client.tracing_layer()));
    tracing::subscriber::with_default(subscriber, || work(&client));
    client.flush(PATIENCE).unwrap();
    check(&client, &sink);
    sink.stored()
}

#[test]
fn an_error_in_spans_is_an_exception_with_their_fields() {
    let events = under(
        |layer| layer,
        |_| {
            let outer = info_span!("request", route = "/checkout", customer = 7, late = tracing::field::Empty);
            let _outer = outer.enter();
            let inner = error_span!("charge", customer = 8, ok = false, ratio = 0.5, password = "hunter2");
            let _inner = inner.enter();
            outer.record("late", 3u64);
            let refused = Refused(fmt::Error);
            error!(error = &refused as &(dyn Error + 'static), attempt = 2, card = ?Some(1), "charging {}", "failed");
        },
    );
    let [event] = &events[..] else { panic!("not one: {}", events.len()) };
    let list = event.property("$exception_list");
    let mechanism = json!({"type": "logger", "handled": true, "synthetic": true, "exception_id": 0});
    assert_eq!((&list[0]["type"], &list[0]["value"]), (&json!("Refused"), &json!("card refused")));
    assert_eq!(list[0]["mechanism"], mechanism);
    assert_eq!((&list[1]["type"], list.as_array().unwrap().len()), (&json!("std::fmt::Error"), 2));
    let frames = list[0]["stacktrace"]["frames"].as_array().unwrap();
    assert_eq!(frames.last().unwrap()["filename"], "tests/tracing_layer.rs");
    assert!(frames.len() > 3);
    for (key, value) in [
        ("$exception_level", json!("error")),
        ("$exception_source", json!("rust.tracing")),
        ("message", json!("charging failed")),
        ("route", json!("/checkout")),
        ("customer", json!(8)),
        ("late", json!(3)),
        ("ok", json!(false)),
        ("ratio", json!(0.5)),
        ("attempt", json!(2)),
        ("card", json!("Some(1)")),
        ("password", Value::Null),
    ] {
        assert_eq!(event.property(key), &value, "{key}");
    }
}

#[test]
fn what_holds_no_error_is_named_by_its_target() {
    let events = under(|layer| layer, |_| error!(target: "shop::billing", "the bank is closed"));
    let entry = &events[0].property("$exception_list")[0];
    assert_eq!((&entry["type"], &entry["value"]), (&json!("shop::billing"), &json!("the bank is closed")));
}

#[test]
fn lesser_events_are_steps_unless_another_level_is_set() {
    let say = |_: &Client| {
        debug!("not said");
        info!(n = 1, "began");
        warn!("slow");
        error!("broke");
    };
    let messages = |event: &Event| -> Vec<Value> {
        let steps = event.property("$exception_steps").as_array().cloned().unwrap_or_default();
        steps.iter().map(|step| step["$message"].clone()).collect()
    };
    let events = under(|layer| layer, say);
    assert_eq!(events.len(), 1);
    assert_eq!(messages(&events[0]), ["began", "slow"]);
    assert_eq!(events[0].property("$exception_steps")[0]["n"], 1);

    let events = under(|layer| layer.exceptions(Level::WARN).steps(tracing_subscriber::filter::LevelFilter::OFF), say);
    let levels: Vec<_> = events.iter().map(|event| event.property("$exception_level").clone()).collect();
    assert_eq!(levels, ["warning", "error"]);
    assert_eq!(messages(&events[1]), Vec::<Value>::new());
}

#[test]
fn what_sends_the_events_does_not_feed_itself() {
    let events = under(
        |layer| layer,
        |_| {
            error!(target: "quillet", "x");
            error!(target: "quillet::worker", "x");
            error!(target: "ureq::run", "x");
            error!(target: "ureq_proto", "x");
            error!(target: "rustls::conn", "x");
            // As `tracing-log` hands on what `ureq` says.
            log_as(log::Record::builder().target("ureq::unit").level(log::Level::Error).args(format_args!("y")));
            error!(target: "quillet_shop", "its own crate");
            let mut record = log::Record::builder();
            let record = record.target("shop").level(log::Level::Error).file(Some("src/shop.rs")).line(Some(7));
            log_as(record.module_path(Some("shop")).args(format_args!("x")));
        },
    );
    let types: Vec<_> = events.iter().map(|event| event.property("$exception_list")[0]["type"].clone()).collect();
    assert_eq!(types, ["quillet_shop", "shop"]);
    let frames = events[1].property("$exception_list")[0]["stacktrace"]["frames"].as_array().unwrap();
    let place = frames.last().unwrap();
    assert_eq!((&place["filename"], &place["lineno"]), (&json!("src/shop.rs"), &json!(7)));
    assert!(events[1].property("log.module_path").is_null());
}

/// A record of `log`, handed on as a logger of `tracing-log` does.
fn log_as(record: &mut log::RecordBuilder<'_>) {
    tracing_log::format_trace(&record.build()).unwrap();
}

/// An error whose text is a reason for another.
#[derive(Debug)]
struct Talks;

impl fmt::Display for Talks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        error!("while saying so");
        f.write_str("talks")
    }
}

impl Error for Talks {}

struct Panics;

impl fmt::Debug for Panics {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("in a field")
    }
}

#[test]
fn what_is_said_while_the_layer_works_is_not_heard_and_panics_stay_inside() {
    let events = under(
        |layer| layer,
        |_| {
            error!(error = &Talks as &(dyn Error + 'static));
            error!(field = ?Panics, "lost");
            error!("and on");
        },
    );
    let values: Vec<_> = events.iter().map(|event| event.property("$exception_list")[0]["value"].clone()).collect();
    assert_eq!(values, ["talks", "and on"]);
}

#[test]
fn bursts_are_limited_by_place_and_scopes_hold() {
    let events = under(
        |layer| layer,
        |client| {
            let scope = Scope::new().distinct_id("ada");
            scope.run(|| (0..25).for_each(|n| error!(n, "number {n}")));
            assert_eq!(client.stats().refused_for(CaptureError::RateLimited), 15);
            error!("elsewhere");
        },
    );
    assert_eq!(events.len(), 11);
    assert!(events[..10].iter().all(|event| event.distinct_id() == "ada"));
    assert_eq!(events[10].distinct_id(), events[10].uuid());
}

#[test]
fn a_layer_does_not_keep_its_client_alive() {
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    let subscriber = tracing_subscriber::registry().with(client.tracing_layer());
    tracing::subscriber::with_default(subscriber, || {
        error!("before");
        drop(client);
        assert_eq!(sink.stored().len(), 1, "the last handle delivered and ended it");
        error!("after");
    });
    assert_eq!(sink.stored().len(), 1);
    sink.assert_clean();
}
