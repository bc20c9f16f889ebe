//! What must not leave the program does not, whichever way an event takes; and a user who opts out is gone.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that fails should stop")]

mod common;

use common::{PATIENCE, accepted, capture, check, conserved, fates, quick};
use quillet::transport::memory::MemoryTransport;
use quillet::{
    CaptureError, Client, ClientBuilder, DropReason, ErrorReport, Event, HookVerdict, OwnedValue, Property, RawJson,
    Scope, Typed, Value, event, props,
};
use quillet_support::alloc::{CountingAllocator, Counts, allocations_in};
use quillet_support::{Answer, Sink};
use serde_json::json;
use std::fmt;
use std::time::Duration;
#[cfg(target_os = "linux")]
use std::{fs, path::Path};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

/// Occurs in nothing that may be written.
const SECRET: &str = "hunter2";

#[derive(serde::Serialize)]
struct Login<'a> {
    name: &'a str,
    #[serde(rename = "Password")]
    password: &'a str,
}

const LOGIN: Login<'_> = Login { name: "ada", password: SECRET };

fn denying(builder: ClientBuilder) -> ClientBuilder {
    builder.deny_keys(["password", "E-Mail"]).max_text_bytes(20)
}

/// Says the secret in every way there is.
fn say_everything(client: &Client) {
    let raw = RawJson::parse(r#"{ "user": [ { "passw\u006frd": "hunter2", "n": 1 } ] }"#).unwrap();
    let typed = Typed(&LOGIN);
    let long = format!("{}{SECRET}", "x".repeat(20));
    let nested = props! { "deep": [1, { "password": SECRET, "kept": true }] };
    let properties = [
        Property::new("PASSWORD", SECRET),
        Property::new("raw", raw),
        Property::new("typed", Value::Typed(&typed)),
        Property::new("nested", Value::Object(nested)),
        Property::new("long", long.as_str()),
        Property::new("password_age", 3),
    ];
    accepted(client.capture(Event::new("everything", "ada").properties(&properties)));
    let person = props! { "e-mail": SECRET, "plan": "pro" };
    accepted(client.capture(Event::identify("ada").set(person).set_once(person).properties(&properties)));
    accepted(client.group_identify("company", "acme", person));
    assert!(client.add_exception_step(&long, &properties));
    accepted(client.capture_exception(&ErrorReport::new(&fmt::Error).properties(&properties)));
    let scope = Scope::new().distinct_id("ada").property("password", SECRET).property("kept", "yes");
    scope.run(|| accepted(client.capture(event!("in a scope", ""))));
    client.capture_immediate(Event::new("at once", "ada").properties(&properties), PATIENCE).unwrap();
    let many: Vec<_> = (0..100).map(|_| Property::new("password", SECRET)).chain(properties).collect();
    accepted(client.capture(Event::new("many", "ada").properties(&many)));
}

#[test]
fn denied_keys_and_the_ends_of_long_texts_are_never_written() {
    let sink = Sink::start();
    let builder = denying(quick(sink.host())).super_property("password", SECRET).super_property("region", "eu");
    let client = builder.super_property("login", OwnedValue::json(r#"{"password":"hunter2","a":1}"#).unwrap());
    let client = client.before_send(|draft| {
        draft.set("e-mail", SECRET);
        HookVerdict::Send
    });
    let client = client.build().unwrap();
    assert!(client.set_super_property("E-MAIL", SECRET));
    say_everything(&client);
    client.flush(PATIENCE).unwrap();
    check(&client, &sink);
    let stored = sink.stored();
    assert_eq!(stored.len(), 7);
    for event in &stored {
        assert!(!event.text.contains(SECRET), "{}", event.text);
        assert_eq!((event.property("region"), event.property("login")), (&json!("eu"), &json!({"a": 1})));
    }
    for event in stored.iter().filter(|event| ["everything", "many", "at once", "$exception"].contains(&event.name())) {
        assert_eq!(event.property("raw"), &json!({"user": [{"n": 1}]}));
        assert_eq!(event.property("typed"), &json!({"name": "ada"}));
        assert_eq!(event.property("nested"), &json!({"deep": [1, {"kept": true}]}));
        assert_eq!((event.property("long"), event.property("password_age")), (&json!("x".repeat(20)), &json!(3)));
    }
    let by_name = |name: &str| stored.iter().find(|event| event.name() == name).unwrap();
    assert_eq!(by_name("$identify").property("$set_once"), &json!({"plan": "pro"}));
    assert_eq!(by_name("$groupidentify").property("$group_set"), &json!({"plan": "pro"}));
    assert_eq!(by_name("in a scope").property("kept"), &json!("yes"));
    let step = &by_name("$exception").property("$exception_steps")[0];
    assert_eq!((&step["$message"], &step["typed"]), (&json!("x".repeat(20)), &json!({"name": "ada"})));
}

#[test]
fn redaction_allocates_nothing() {
    let builder = denying(quick("http://127.0.0.1:9")).transport(MemoryTransport::new()).without_thread();
    let client = builder.build().unwrap();
    let typed = Typed(&LOGIN);
    let properties = [Property::new("typed", Value::Typed(&typed)), Property::new("password", SECRET)];
    let event = || Event::new("e", "ada").properties(&properties);
    let (counts, captured) = allocations_in(|| client.capture(event()).is_accepted());
    assert_eq!((counts, captured), (Counts::default(), true));
}

#[test]
fn without_rules_everything_is_written() {
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    say_everything(&client);
    client.flush(PATIENCE).unwrap();
    conserved(&client);
    assert!(sink.stored().iter().all(|event| event.text.contains(SECRET)));
}

#[test]
fn opting_out_erases_what_waits_and_refuses_what_comes() {
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    capture(&client, "before", 20);
    assert!(client.add_exception_step("before", &[]));
    client.opt_out();
    assert_eq!(client.capture(event!("after", "ada")).ok(), Err(CaptureError::Closed));
    assert!(!client.add_exception_step("after", &[]) && !client.is_enabled());
    client.set_enabled(true);
    assert_eq!(client.capture_error(&fmt::Error).ok(), Err(CaptureError::Closed), "for good");
    let stats = conserved(&client);
    assert_eq!((fates(&stats), stats.dropped_for(DropReason::Discarded)), ((0, 0, 20, 0), 20));
    client.shutdown();
    assert_eq!(sink.stored().len(), 0);
    Client::disabled().opt_out();
}

#[test]
fn opting_out_breaks_off_a_request() {
    let sink = Sink::start();
    sink.script([Answer::NoAnswer]);
    let client = quick(sink.host()).build().unwrap();
    capture(&client, "before", 3);
    assert!(client.flush(Duration::from_millis(100)).is_err());
    common::within(PATIENCE, || client.opt_out());
    let stats = conserved(&client);
    assert_eq!(stats.pending, 0);
}

/// The bytes under a folder, all files together.
#[cfg(target_os = "linux")]
fn bytes_under(folder: &Path) -> Vec<u8> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { bytes_under(&path) } else { fs::read(path).unwrap() }).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn opting_out_leaves_nothing_in_the_spool() {
    let folder = std::env::temp_dir().join(format!("quillet-opt-out-{}", std::process::id()));
    let holds_it = || bytes_under(&folder).windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
    let client = quick("http://127.0.0.1:9").spool_dir(&folder).build().unwrap();
    accepted(client.capture(event!("before", "ada", { "secret": SECRET })));
    assert!(holds_it());
    client.opt_out();
    assert!(!holds_it());
    drop(client);
    fs::remove_dir_all(&folder).unwrap();
}
