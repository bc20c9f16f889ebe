//! What a caller hands in and is called with, what it may change while the client runs, and the two ways of sending that
//! do not wait for the flush thread.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that fails should stop")]

mod common;

use common::{PATIENCE, accepted, capture, check, conserved, fates, quick, stored, texts, within};
use quillet::transport::fault::{Fault, FaultTransport};
use quillet::transport::memory::MemoryTransport;
use quillet::{
    Batch, CaptureError, Client, Delivery, DropReason, Event, FlushError, HookVerdict, ImmediateError, Outcome,
    OwnedValue, Poll, Property, Transport, Uuid, Value, event, props,
};
use quillet_support::sink::refuses;
use quillet_support::{Answer, Rule, Sink};
use serde_json::json;
use std::panic::panic_any;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

#[test]
fn before_send_sees_an_event_once_and_may_drop_it() {
    let sink = Sink::start();
    sink.script([Answer::status(503)]);
    let (seen, last) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counter, last_counter) = (Arc::clone(&seen), Arc::clone(&last));
    let client = quick(sink.host())
        .before_send(move |draft| {
            counter.fetch_add(1, Ordering::SeqCst);
            if draft.name() == "secret" { HookVerdict::Drop } else { HookVerdict::Send }
        })
        .before_send(move |_| {
            last_counter.fetch_add(1, Ordering::SeqCst);
            HookVerdict::Send
        })
        .build()
        .unwrap();
    accepted(client.capture(Event::new("public", "customer-7")));
    assert_eq!(client.capture(Event::new("secret", "customer-7")).ok(), Err(CaptureError::DroppedByHook));
    client.flush(PATIENCE).unwrap();
    let stats = check(&client, &sink);
    assert_eq!((stats.delivered, stats.refused_for(CaptureError::DroppedByHook)), (1, 1));
    assert_eq!((seen.load(Ordering::SeqCst), last.load(Ordering::SeqCst)), (2, 1), "a retry is not seen again");
}

#[test]
fn before_send_may_change_properties_and_later_hooks_see_it() {
    let sink = Sink::start();
    let client = quick(sink.host())
        .before_send(|draft| {
            assert_eq!((draft.name(), draft.distinct_id()), ("order placed", "customer-7"));
            assert_eq!(draft.keys().collect::<Vec<_>>(), ["email", "total", "items"]);
            assert!(draft.remove("email") && !draft.remove("service"));
            assert!(draft.set("total", 99.5) && draft.set("checked", OwnedValue::json("[true]").unwrap()));
            HookVerdict::Send
        })
        .before_send(|draft| {
            assert!(draft.property("email").is_none());
            assert!(matches!(draft.property("total"), Some(Value::Float(total)) if total == 99.5));
            assert!(matches!(draft.property("items"), Some(Value::Array(items)) if items.len() == 2));
            HookVerdict::Send
        })
        .super_property("service", "checkout")
        .build()
        .unwrap();
    accepted(client.capture(event!("order placed", "customer-7", { "email": "a@b.c", "total": 1, "items": [1, "x"] })));
    client.flush(PATIENCE).unwrap();
    check(&client, &sink);
    let event = &sink.stored()[0];
    assert!(event.property("email").is_null() && !event.text.contains("email"));
    assert_eq!(event.property("total"), &json!(99.5));
    assert_eq!(event.property("checked"), &json!([true]));
    assert_eq!(event.property("items"), &json!([1, "x"]));
    assert_eq!(event.property("service"), &json!("checkout"));
}

#[test]
fn what_a_hook_sets_is_judged_like_everything_else() {
    for (key, value, error) in [
        ("", OwnedValue::Null, CaptureError::EmptyKey),
        ("$lib", OwnedValue::from("mine"), CaptureError::ReservedKey),
        (&"k".repeat(2000), OwnedValue::Null, CaptureError::KeyTooLong),
        ("text", OwnedValue::from("x".repeat(70_000)), CaptureError::TooLarge),
    ] {
        let name = key.to_owned();
        let client = quick("http://127.0.0.1:9")
            .without_thread()
            .transport(MemoryTransport::new())
            .before_send(move |draft| {
                assert!(draft.set(&name, value.clone()));
                HookVerdict::Send
            })
            .build()
            .unwrap();
        assert_eq!(client.capture(Event::new("x", "customer-7")).ok(), Err(error));
        assert_eq!(conserved(&client).refused_for(error), 1);
    }
}

#[test]
fn a_panic_in_before_send_drops_that_event_and_no_other() {
    let sink = Sink::start();
    let client = quick(sink.host())
        .before_send(|draft| if draft.name() == "bad" { panic_any("in a hook") } else { HookVerdict::Send })
        .build()
        .unwrap();
    for _ in 0..3 {
        capture(&client, "good", 1);
        assert_eq!(client.capture(Event::new("bad", "customer-7")).ok(), Err(CaptureError::HookPanicked));
        let immediate = client.capture_immediate(Event::new("bad", "customer-7"), PATIENCE);
        assert_eq!(immediate, Err(ImmediateError::Refused(CaptureError::HookPanicked)));
    }
    client.flush(PATIENCE).unwrap();
    let stats = check(&client, &sink);
    assert_eq!((fates(&stats), stats.refused_for(CaptureError::HookPanicked)), ((3, 0, 0, 0), 6));
}

/// That way lies no end, so a hook's own events pass it by, whichever way it sends them.
#[test]
fn an_event_that_a_hook_captures_passes_the_hooks_and_there_it_ends() {
    for immediate in [false, true] {
        let sink = Sink::start();
        let (known, seen): (Arc<OnceLock<Client>>, _) = (Arc::default(), Arc::new(AtomicUsize::new(0)));
        let (knows, sees) = (Arc::clone(&known), Arc::clone(&seen));
        let outcomes: Arc<Mutex<Vec<_>>> = Arc::default();
        let knows_outcomes = Arc::clone(&outcomes);
        let client = quick(sink.host())
            .before_send(move |_| {
                // A limit, so that this test fails instead of running out of stack.
                if sees.fetch_add(1, Ordering::SeqCst) < 5 {
                    let (client, event) = (knows.get().unwrap(), Event::new("from the hook", "customer-7"));
                    let captured = if immediate {
                        client.capture_immediate(event, PATIENCE).map_err(|error| match error {
                            ImmediateError::Refused(reason) => reason,
                            other => panic!("{other}"),
                        })
                    } else {
                        client.capture(event).ok()
                    };
                    knows_outcomes.lock().unwrap().push(captured.map(|_| ()));
                }
                HookVerdict::Send
            })
            .build()
            .unwrap();
        known.set(client.clone()).unwrap();
        accepted(client.capture(Event::new("seen", "customer-7")));
        client.flush(PATIENCE).unwrap();
        assert_eq!(seen.load(Ordering::SeqCst), 2);
        assert_eq!(*outcomes.lock().unwrap(), [Err(CaptureError::DroppedByHook), Ok(())]);
        let stats = conserved(&client);
        assert_eq!((stats.delivered, stats.refused_for(CaptureError::DroppedByHook)), (2, 1));
        client.shutdown();
    }
}

/// What a shutdown has not seen is not accepted after it, however long a hook took.
#[test]
fn an_event_that_a_hook_held_up_beyond_the_shutdown_is_refused() {
    for immediate in [false, true] {
        let sink = Sink::start();
        let (entered, has_entered) = channel::<()>();
        let (go, may_go) = channel::<()>();
        let may_go = Mutex::new(may_go);
        let client = quick(sink.host())
            .before_send(move |_| {
                entered.send(()).unwrap();
                may_go.lock().unwrap().recv().unwrap();
                HookVerdict::Send
            })
            .build()
            .unwrap();
        thread::scope(|scope| {
            let late = scope.spawn(|| {
                let event = Event::new("late", "customer-7");
                if immediate {
                    client.capture_immediate(event, PATIENCE)
                } else {
                    client.capture(event).ok().map_err(ImmediateError::Refused)
                }
            });
            has_entered.recv().unwrap();
            assert!(client.shutdown().is_complete);
            go.send(()).unwrap();
            assert_eq!(late.join().unwrap(), Err(ImmediateError::Refused(CaptureError::Closed)));
        });
        let stats = conserved(&client);
        assert_eq!((stats.accepted, stats.refused_for(CaptureError::Closed)), (0, 1));
    }
}

#[test]
fn no_event_gets_past_before_send_because_of_a_hook_of_another_kind_or_client() {
    let sink = Sink::start();
    let scrubbed: Arc<Mutex<Vec<String>>> = Arc::default();
    let scrubs = Arc::clone(&scrubbed);
    let client = quick(sink.host())
        .before_send(move |draft| {
            scrubs.lock().unwrap().push(draft.name().to_owned());
            draft.remove("email");
            HookVerdict::Send
        })
        .build()
        .unwrap();
    let capture = |client: &Client, name: &'static str| {
        accepted(client.capture(Event::new(name, "customer-7").properties(props! { "email": "a@b.example" })));
    };
    // Three hooks of another client, which capture here what they should not.
    let (first, second, third) = (client.clone(), client.clone(), client.clone());
    let other = quick(sink.host())
        .before_send(move |_| {
            capture(&first, "in before_send");
            HookVerdict::Send
        })
        .on_request(move |_| capture(&second, "in on_request"))
        .on_deliver(move |_| capture(&third, "in on_deliver"))
        .build()
        .unwrap();
    accepted(other.capture(Event::new("elsewhere", "customer-7")));
    other.shutdown();
    client.shutdown();
    let mut names = scrubbed.lock().unwrap().clone();
    names.sort();
    assert_eq!(names, ["in before_send", "in on_deliver", "in on_request"]);
    let events = sink.stored();
    assert_eq!(events.len(), 4);
    assert!(events.iter().all(|event| event.property("email").is_null()));
}

#[test]
fn what_on_deliver_is_told_adds_up_to_the_stats() {
    let told: Arc<Mutex<Vec<Delivery>>> = Arc::default();
    let tell = Arc::clone(&told);
    let requests = Arc::new(AtomicUsize::new(0));
    let requested = Arc::clone(&requests);
    let sink = Sink::start();
    let client = quick(sink.host())
        .max_retries(1)
        .without_thread()
        .on_request(move |_| {
            requested.fetch_add(1, Ordering::SeqCst);
        })
        .on_deliver(move |delivery| tell.lock().unwrap().push(*delivery))
        .build()
        .unwrap();
    for (answers, count) in [(vec![200], 3), (vec![402], 4), (vec![503, 503], 5), (vec![500, 204], 6), (vec![401], 7)] {
        sink.script(answers.into_iter().map(Answer::status));
        capture(&client, "told", count);
        client.flush(PATIENCE).unwrap();
    }
    sink.script([Answer::status(503), Answer::status(200)]);
    client.capture_immediate(Event::new("at once", "customer-7"), PATIENCE).unwrap();
    capture(&client, "too late", 8);
    assert!(!client.shutdown().is_complete);
    let stats = check(&client, &sink);
    assert_eq!(requests.load(Ordering::SeqCst) as u64, stats.requests, "immediate captures included");
    let told = told.lock().unwrap();
    let texts: Vec<_> = told
        .iter()
        .map(|delivery| match *delivery {
            Delivery::Delivered { events, .. } => format!("{events} delivered"),
            Delivery::Rejected { events, status, .. } => format!("{events} rejected {status:?}"),
            Delivery::Dropped { events, reason, .. } => format!("{events} dropped {reason}"),
            _ => panic!("{delivery:?}"),
        })
        .collect();
    assert_eq!(
        texts,
        [
            "3 delivered",
            "4 rejected Some(402)",
            "5 dropped retries_exhausted",
            "6 delivered",
            "7 rejected Some(401)",
            "1 delivered",
            "8 dropped shutdown",
        ]
    );
    assert_eq!(fates(&stats), (10, 11, 13, 0));
    assert_eq!(stats.dropped_for(DropReason::Shutdown), 8);
}

#[test]
fn on_request_sees_every_request_with_its_attempt_and_its_events() {
    let (told, tells) = channel();
    let sink = Sink::start();
    sink.script([Answer::status(503), Answer::NoAnswer, Answer::AsJudged, Answer::status(402)]);
    let client = quick(sink.host())
        .request_timeout(Duration::from_millis(200))
        .on_request(move |request| {
            let uuids: Vec<Uuid> = request.uuids().collect();
            assert_eq!(uuids.len(), request.events);
            assert_eq!(request.error.is_some(), request.status.is_none(), "{request:?}");
            assert!(request.started.elapsed().unwrap() >= request.elapsed / 2);
            told.send((request.status, request.attempt, uuids, request.elapsed)).unwrap();
        })
        .build()
        .unwrap();
    let first = capture(&client, "first", 3);
    client.flush(PATIENCE).unwrap();
    let second = capture(&client, "second", 1);
    client.flush(PATIENCE).unwrap();
    for (status, attempt, uuids) in
        [(Some(503), 1, &first), (None, 2, &first), (Some(200), 3, &first), (Some(402), 1, &second)]
    {
        let (seen, seen_attempt, seen_uuids, elapsed) = tells.recv_timeout(PATIENCE).unwrap();
        assert_eq!((seen, seen_attempt, &seen_uuids), (status, attempt, uuids));
        assert_eq!(elapsed >= Duration::from_millis(200), status.is_none(), "{elapsed:?}");
    }
    check(&client, &sink);
}

#[test]
fn hooks_that_panic_are_harmless() {
    for pumped in [false, true] {
        let sink = Sink::start();
        sink.script([Answer::status(503)]);
        let builder = quick(sink.host())
            .on_deliver(|_| panic_any("in on_deliver"))
            .on_request(|_| panic_any("in on_request"))
            .on_deliver(|_| panic_any(7));
        let client = if pumped { builder.without_thread() } else { builder }.build().unwrap();
        for _ in 0..3 {
            capture(&client, "unharmed", 5);
            client.flush(PATIENCE).unwrap();
        }
        assert!(client.shutdown().is_complete);
        assert_eq!(fates(&check(&client, &sink)), (15, 0, 0, 0));
    }
}

#[test]
fn a_transport_that_panics_is_a_request_without_an_answer() {
    let memory = MemoryTransport::new();
    let transport = FaultTransport::scripted(memory.clone(), [Fault::Panic, Fault::Panic, Fault::None, Fault::Panic]);
    let client = quick("http://127.0.0.1:9").transport(transport).build().unwrap();
    let uuids = capture(&client, "again", 3);
    client.flush(PATIENCE).unwrap();
    assert_eq!(memory.uuids(), uuids);
    client.capture_immediate(Event::new("now", "customer-7"), PATIENCE).unwrap();
    let stats = conserved(&client);
    assert_eq!((fates(&stats), stats.requests, stats.retries), ((4, 0, 0, 0), 5, 3));
}

#[test]
fn super_properties_are_in_every_later_event_and_the_events_own_win() {
    let sink = Sink::start();
    let client =
        quick(sink.host()).super_property("service", "one").super_property("service", "checkout").build().unwrap();
    let send = |properties: &[Property<'_>]| {
        accepted(client.capture(Event::new("x", "customer-7").properties(properties)));
        client.flush(PATIENCE).unwrap();
        sink.stored().last().unwrap().value["properties"].clone()
    };
    let own = |mut properties: serde_json::Value| {
        let object = properties.as_object_mut().unwrap();
        for key in ["$lib", "$lib_version", "$is_server"] {
            object.remove(key).unwrap();
        }
        properties
    };
    assert_eq!(own(send(&[])), json!({ "service": "checkout" }));
    assert_eq!(own(send(props! { "service": "mine" })), json!({ "service": "mine" }));
    assert!(client.set_super_property("zone", OwnedValue::json(" { \"a\" : [ 1 ] } ").unwrap()));
    assert!(client.set_super_property("none", None::<i32>));
    assert_eq!(own(send(&[])), json!({ "service": "checkout", "zone": { "a": [1] }, "none": null }));
    assert!(client.set_super_property("service", "a \"new\" one"));
    assert!(client.remove_super_property("zone") && !client.remove_super_property("zone"));
    assert_eq!(own(send(&[])), json!({ "service": "a \"new\" one", "none": null }));
    assert!(client.set_super_property("$is_server", false), "the caller's own word beats a default");
    assert_eq!(send(&[])["$is_server"], json!(false));
    assert!(client.remove_super_property("$is_server"));
    assert_eq!(send(&[])["$is_server"], json!(true));
    check(&client, &sink);
}

#[test]
fn super_properties_are_bounded() {
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    let set = (0..100).filter(|n| client.set_super_property(&format!("key {n}"), "v".repeat(100))).count();
    // One of them is the client's own.
    assert_eq!(set, quillet::limits::SUPER_PROPERTIES_MAX - 1);
    accepted(client.capture(Event::new("x", "customer-7")));
    client.flush(PATIENCE).unwrap();
    check(&client, &sink);
    assert_eq!(sink.stored()[0].property("key 62").as_str().unwrap().len(), 100);
}

#[test]
fn a_capture_sees_the_old_super_properties_or_the_new_ones_and_never_a_mixture() {
    let memory = MemoryTransport::new();
    let client = quick("http://127.0.0.1:9").transport(memory.clone()).flush_at(1).build().unwrap();
    let set = |n: usize| {
        let text = format!(r#"{{"first":{n},"text":"{}","last":{n}}}"#, "x".repeat(n % 50));
        assert!(client.set_super_property("pair", OwnedValue::json(text).unwrap()));
    };
    set(0);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    client.capture(event!("x", "customer-7"));
                }
            });
        }
        for n in 1..40 {
            let seen = client.stats().accepted;
            set(n);
            while client.stats().accepted < seen + 10 {
                thread::yield_now();
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    client.flush(PATIENCE).unwrap();
    let (mut seen, events) = (std::collections::BTreeSet::new(), memory.events());
    for text in &events {
        let event: serde_json::Value = serde_json::from_str(text).unwrap();
        let pair = &event["properties"]["pair"];
        assert_eq!(pair["first"], pair["last"]);
        seen.insert(pair["first"].as_u64().unwrap());
    }
    assert!(seen.len() > 20, "{} editions in {} events", seen.len(), events.len());
    conserved(&client);
}

#[test]
fn switched_off_nothing_is_captured_and_what_was_queued_is_delivered() {
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    let other = client.clone();
    let mut uuids = capture(&client, "before", 2);
    other.set_enabled(false);
    assert!(!client.is_enabled());
    assert_eq!(client.capture(Event::new("off", "customer-7")).ok(), Err(CaptureError::Disabled));
    let immediate = client.capture_immediate(Event::new("off", "customer-7"), PATIENCE);
    assert_eq!(immediate, Err(ImmediateError::Refused(CaptureError::Disabled)));
    client.flush(PATIENCE).unwrap();
    assert_eq!(stored(&sink), texts(&uuids));
    client.set_enabled(true);
    assert!(other.is_enabled());
    uuids.extend(capture(&client, "after", 1));
    client.flush(PATIENCE).unwrap();
    let stats = check(&client, &sink);
    assert_eq!((stats.delivered, stats.refused_for(CaptureError::Disabled)), (3, 2));
    assert_eq!(stored(&sink), texts(&uuids));
}

#[test]
fn an_immediate_capture_says_what_became_of_the_event() {
    for (answers, expected) in [
        (vec![], Ok(())),
        (vec![503, 429, 204], Ok(())),
        (vec![400], Err(Said::Rejected(Some(400)))),
        (vec![413], Err(Said::Rejected(Some(413)))),
        (vec![402], Err(Said::Rejected(Some(402)))),
        (vec![401], Err(Said::Rejected(Some(401)))),
        (vec![503; 4], Err(Said::NotDelivered(Some(503)))),
    ] {
        let sink = Sink::start();
        let requests = answers.len().max(1);
        sink.script(answers.into_iter().map(Answer::status));
        let client = quick(sink.host()).super_property("service", "checkout").build().unwrap();
        let result = client.capture_immediate(event!("now", "customer-7", { "n": 1 }), PATIENCE);
        assert_eq!(result.map(|_| ()).map_err(Said::from), expected);
        assert_eq!(sink.requests().len(), requests);
        let stats = check(&client, &sink);
        assert_eq!((stats.accepted, stats.pending, stats.requests), (1, 0, requests as u64));
        if let Ok(uuid) = result {
            assert_eq!(stored(&sink), texts(&[uuid]));
            assert_eq!(sink.stored()[0].property("service"), "checkout");
        }
    }
}

/// [`ImmediateError`] without what a test cannot make.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Rejected(Option<u16>),
    NotDelivered(Option<u16>),
    Other(ImmediateError),
}

impl From<ImmediateError> for Said {
    fn from(error: ImmediateError) -> Self {
        match error {
            ImmediateError::Rejected { status, .. } => Self::Rejected(status),
            ImmediateError::NotDelivered { status, .. } => Self::NotDelivered(status),
            other => Self::Other(other),
        }
    }
}

#[test]
fn an_immediate_capture_ends_in_time_and_by_a_shutdown() {
    let timeout = Duration::from_millis(300);
    let limit = Duration::from_millis(1500);
    let now = || Event::new("now", "customer-7");
    let client = quick(refuses().unwrap()).build().unwrap();
    let result = within(limit, || client.capture_immediate(now(), timeout)).1;
    assert_eq!(result.map_err(Said::from), Err(Said::NotDelivered(None)));
    assert_eq!(fates(&conserved(&client)), (0, 0, 1, 0));

    let sink = Sink::start();
    sink.rule(Rule::Always(Answer::NoAnswer));
    let client = quick(sink.host()).request_timeout(PATIENCE).build().unwrap();
    let result = within(limit, || client.capture_immediate(now(), timeout)).1;
    assert_eq!(result.map_err(Said::from), Err(Said::NotDelivered(None)));
    assert_eq!(fates(&conserved(&client)), (0, 0, 1, 0));

    let sending = {
        let client = client.clone();
        thread::spawn(move || client.capture_immediate(Event::new("now", "customer-7"), PATIENCE))
    };
    assert!(sink.wait_for_requests(2, PATIENCE));
    assert_eq!(fates(&conserved(&client)), (0, 0, 1, 1), "an event that is under way is pending");
    within(limit, || client.discard());
    let result = within(limit, || sending.join().unwrap()).1;
    assert_eq!(result.map_err(Said::from), Err(Said::NotDelivered(None)));
    let stats = conserved(&client);
    assert_eq!(fates(&stats), (0, 0, 2, 0));
}

#[test]
fn an_immediate_capture_passes_the_queue() {
    let sink = Sink::start();
    let client = quick(sink.host()).max_queue_size(2).without_thread().build().unwrap();
    let queued = capture(&client, "queued", 2);
    assert_eq!(client.capture(Event::new("queued", "customer-7")).ok(), Err(CaptureError::Full));
    let now = client.capture_immediate(Event::new("now", "customer-7"), PATIENCE).unwrap();
    assert_eq!(stored(&sink), texts(&[now]));
    assert_eq!(fates(&conserved(&client)), (1, 0, 0, 2));
    client.flush(PATIENCE).unwrap();
    assert_eq!(stored(&sink), texts(&[vec![now], queued].concat()));
    check(&client, &sink);
}

#[test]
fn a_pumped_client_sends_when_it_is_polled_and_only_then() {
    let sink = Sink::start();
    let interval = Duration::from_secs(600);
    let client = quick(sink.host()).without_thread().flush_interval(interval).flush_at(3).build().unwrap();
    assert!(matches!(client.poll(), Poll::Wait(wait) if wait == interval));
    let uuids = capture(&client, "pumped", 2);
    assert!(matches!(client.poll(), Poll::Wait(wait) if wait <= interval && wait > interval / 2));
    let uuids = [uuids, capture(&client, "pumped", 1)].concat();
    assert!(!sink.wait_for_requests(1, Duration::from_millis(50)));
    assert_eq!(client.poll(), Poll::Sent);
    assert_eq!(stored(&sink), texts(&uuids));
    assert!(matches!(client.poll(), Poll::Wait(_)));
    sink.script([Answer::status(503)]);
    capture(&client, "pumped", 3);
    assert_eq!(client.poll(), Poll::Sent);
    assert!(matches!(client.poll(), Poll::Wait(wait) if wait <= Duration::from_millis(25)), "a back-off");
    capture(&client, "pumped", 1);
    assert!(client.shutdown().is_complete);
    assert_eq!(client.poll(), Poll::Done);
    assert_eq!(fates(&check(&client, &sink)), (7, 0, 0, 0));
}

/// Waits in `send` until it is told to go on.
#[derive(Clone)]
struct Gate {
    entered: Sender<()>,
    open: Arc<Mutex<Receiver<()>>>,
}

impl Transport for Gate {
    fn send(&mut self, _: &Batch<'_>) -> Outcome {
        self.entered.send(()).unwrap();
        self.open.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        Outcome::status(200)
    }
}

#[test]
fn one_thread_pumps_at_a_time_and_the_others_are_told_so() {
    let (entered, was_entered) = channel();
    let (opener, open) = channel();
    let gate = Gate { entered, open: Arc::new(Mutex::new(open)) };
    let client = quick("http://127.0.0.1:9").without_thread().flush_at(1).transport(gate).build().unwrap();
    capture(&client, "pumped", 1);
    thread::scope(|scope| {
        let pumping = scope.spawn(|| client.poll());
        was_entered.recv_timeout(PATIENCE).unwrap();
        assert_eq!(client.poll(), Poll::Busy);
        let flush = within(Duration::from_secs(1), || client.flush(Duration::from_millis(50))).1;
        assert_eq!(flush, Err(FlushError::TimedOut));
        let flushing = scope.spawn(|| client.flush(PATIENCE));
        opener.send(()).unwrap();
        assert_eq!(pumping.join().unwrap(), Poll::Sent);
        assert_eq!(flushing.join().unwrap(), Ok(()), "whoever pumps, the flush is answered");
    });
    assert_eq!(fates(&conserved(&client)), (1, 0, 0, 0));

    let with_thread = quick("http://127.0.0.1:9").transport(MemoryTransport::new()).build().unwrap();
    assert_eq!(with_thread.poll(), Poll::Busy);
}
