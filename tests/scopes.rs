//! Scopes over threads and tasks: whose an event is, and what it says without being told.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that fails should stop")]

mod common;

use common::{PATIENCE, accepted, quick};
use quillet::transport::memory::{MemoryTransport, SentEvent};
use quillet::{CaptureError, Client, ErrorReport, Event, HookVerdict, Property, Scope, event};
use quillet_support::alloc::{CountingAllocator, Counts, allocations_in};
use serde_json::json;
use std::fmt;
use std::sync::Barrier;
use std::thread;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

fn memory_client() -> (MemoryTransport, Client) {
    let memory = MemoryTransport::new();
    let builder = quick("http://127.0.0.1:9").transport(memory.clone()).super_property("service", "shop");
    (memory, builder.build().unwrap())
}

fn sent(client: &Client, memory: &MemoryTransport) -> Vec<SentEvent> {
    client.flush(PATIENCE).unwrap();
    memory.sent()
}

#[test]
fn events_take_from_a_scope_what_they_lack() {
    let (memory, client) = memory_client();
    let scope = Scope::new().distinct_id("ada").session_id("s-1").property("route", "/checkout").property("n", 1);
    let guard = scope.property("service", "checkout").enter();
    accepted(client.capture(event!("lacking", "", { "n": 2 })));
    accepted(client.capture(event!("of another", "bob")));
    accepted(client.capture(Event::personless("of nobody")));
    accepted(client.capture(Event::group_identify("company", "acme").set(&[Property::new("seats", 3)])));
    accepted(client.capture_error(&fmt::Error));
    accepted(client.capture_exception(&ErrorReport::new(&fmt::Error).distinct_id("bob")));
    accepted(client.capture_exception(&ErrorReport::new(&fmt::Error).personless()));
    accepted(client.identify("", &[Property::new("plan", "pro")]));
    client.capture_immediate(event!("at once", ""), PATIENCE).unwrap();
    drop(guard);
    assert_eq!(client.capture(event!("outside", "")).ok(), Err(CaptureError::EmptyDistinctId));
    accepted(client.capture(event!("outside", "eve")));
    let sent = sent(&client, &memory);
    let ids: Vec<_> = sent.iter().filter(|event| event.name != "at once").map(|e| e.distinct_id.as_str()).collect();
    let nobody = |at: usize| sent.iter().filter(|event| event.name != "at once").nth(at).unwrap().uuid.to_string();
    assert_eq!(ids, ["ada", "bob", &nobody(2), "$company_acme", "ada", "bob", &nobody(6), "ada", "eve"]);
    for event in sent.iter().filter(|event| event.name != "outside") {
        event.assert_property("$session_id", "s-1").assert_property("route", "/checkout");
        event.assert_property("service", "checkout");
    }
    memory.assert_sent("lacking").assert_property("n", 2);
    memory.assert_sent("at once").assert_distinct_id("ada");
    memory.assert_sent("outside").assert_no_property("route").assert_property("service", "shop");
}

#[test]
fn hooks_see_what_the_scope_says() {
    let memory = MemoryTransport::new();
    let builder = quick("http://127.0.0.1:9").transport(memory.clone()).before_send(|draft| {
        assert_eq!((draft.distinct_id(), draft.keys().count()), ("ada", 1));
        assert!(draft.set("route", "changed"));
        // Entering one while an event is on its way is nobody's harm.
        Scope::new().distinct_id("of the hook").run(|| HookVerdict::Send)
    });
    let client = builder.build().unwrap();
    Scope::new().distinct_id("ada").property("route", "/").run(|| accepted(client.capture(event!("e", ""))));
    sent(&client, &memory);
    memory.assert_sent("e").assert_distinct_id("ada").assert_property("route", "changed");
}

#[test]
fn threads_do_not_share_a_scope() {
    let (memory, client) = memory_client();
    let start = Barrier::new(4);
    thread::scope(|threads| {
        for n in 0..4 {
            let (client, start) = (&client, &start);
            threads.spawn(move || {
                let id = format!("customer-{n}");
                let _inside = (n > 0).then(|| Scope::new().distinct_id(id.as_str()).enter());
                start.wait();
                for _ in 0..50 {
                    let captured =
                        client.capture(Event::new("e", "").properties(&[Property::new("expected", id.as_str())]));
                    assert!(captured.is_accepted() == (n > 0) || captured.ok() == Err(CaptureError::Busy));
                }
            });
        }
    });
    let sent = sent(&client, &memory);
    assert!(sent.len() > 100);
    for event in sent {
        event.assert_property("expected", event.distinct_id.as_str());
    }
}

#[test]
fn a_wrapped_future_keeps_its_scope_over_threads_and_awaits() {
    let (memory, client) = memory_client();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..8)
            .map(|n| {
                let (client, id) = (client.clone(), format!("customer-{n}"));
                let scope = Scope::new().distinct_id(id.as_str()).property("expected", id);
                tokio::spawn(scope.wrap(async move {
                    for _ in 0..10 {
                        tokio::task::yield_now().await;
                        assert!(client.capture(event!("e", "")).is_accepted());
                        let inner = Scope::new().property("inner", true);
                        inner.wrap(async { tokio::task::yield_now().await }).await;
                    }
                    // What a task hands on by itself.
                    let here = Scope::current();
                    tokio::task::spawn_blocking(move || here.run(|| client.capture(event!("e", "")).is_accepted()))
                        .await
                }))
            })
            .collect();
        for task in tasks {
            assert!(task.await.unwrap().unwrap());
        }
    });
    assert_eq!(client.capture(event!("outside", "")).ok(), Err(CaptureError::EmptyDistinctId));
    let sent = sent(&client, &memory);
    assert_eq!(sent.len(), 88);
    for event in sent {
        event.assert_property("expected", event.distinct_id.as_str()).assert_no_property("inner");
    }
}

#[test]
fn a_capture_in_a_scope_allocates_nothing() {
    let (_memory, client) = memory_client();
    let scope = Scope::new().distinct_id("ada").property("route", "/checkout").property("n", 3.5);
    let _inside = scope.enter();
    let (counts, captured) = allocations_in(|| client.capture(event!("e", "", { "total": 12.5 })).is_accepted());
    assert_eq!((counts, captured), (Counts::default(), true));
}

#[test]
fn more_properties_than_fit_on_the_stack_arrive_too() {
    let (memory, client) = memory_client();
    let keys: Vec<_> = (0..200).map(|n| format!("key-{n}")).collect();
    let properties: Vec<_> = keys.iter().map(|key| Property::new(key, 1)).collect();
    let scope = Scope::new().distinct_id("ada").property("key-7", 2).property("own", 3);
    scope.run(|| accepted(client.capture(Event::new("e", "").properties(&properties))));
    sent(&client, &memory);
    let event = memory.assert_sent("e");
    event.assert_property("key-7", 1).assert_property("own", 3).assert_property("key-199", json!(1));
}
