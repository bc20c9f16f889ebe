//! Many threads capture at once: nothing is lost, torn or twice, a thread's events keep their order within a lane, and the
//! queue's bound is what it says.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that fails should stop")]

mod common;

use common::{PATIENCE, accepted, conserved, fates, quick};
use quillet::transport::memory::MemoryTransport;
use quillet::{CaptureError, Client, Event, Property, Typed, Uuid, Value, props};
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::sync::Barrier;
use std::thread;

/// Lanes that a client has.
const LANES: usize = 8;

/// What one thread did: the uuids of its accepted events, in order, and how many were refused.
struct Done {
    uuids: Vec<Uuid>,
    full: u64,
    busy: u64,
}

/// Has so many threads capture so many events each, all at once; each event names its thread and its number.
fn run(client: &Client, threads: usize, events: usize) -> Vec<Done> {
    let start = Barrier::new(threads);
    thread::scope(|scope| {
        let capture = |name: usize| {
            let start = &start;
            move || {
                let mut done = Done { uuids: Vec::new(), full: 0, busy: 0 };
                let text = format!("thread {name} ").repeat(name % 7);
                start.wait();
                while done.uuids.len() < events {
                    let properties = props! { "thread": name, "n": done.uuids.len(), "text": text.as_str() };
                    match client.capture(Event::new("racing", "customer-7").properties(properties)).ok() {
                        Ok(uuid) => done.uuids.push(uuid),
                        Err(CaptureError::Full) => {
                            done.full += 1;
                            thread::yield_now();
                        }
                        Err(CaptureError::Busy) => done.busy += 1,
                        Err(other) => panic!("{other}"),
                    }
                }
                done
            }
        };
        let threads: Vec<_> = (0..threads).map(|name| scope.spawn(capture(name))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// An event as it arrived.
struct Arrived {
    thread: usize,
    n: usize,
    uuid: String,
}

fn arrived(memory: &MemoryTransport) -> Vec<Arrived> {
    let read = |text: &String| {
        let event: serde_json::Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let properties = &event["properties"];
        let thread = properties["thread"].as_u64().unwrap() as usize;
        assert_eq!(properties["text"], format!("thread {thread} ").repeat(thread % 7));
        let uuid = event["uuid"].as_str().unwrap().to_owned();
        Arrived { thread, n: properties["n"].as_u64().unwrap() as usize, uuid }
    };
    memory.events().iter().map(read).collect()
}

#[test]
fn more_threads_than_lanes_lose_nothing_and_tear_nothing() {
    const EVENTS: usize = 2000;
    for threads in [1, 2, 8, 12, 20] {
        let memory = MemoryTransport::new();
        // A small queue, so that it wraps and is full all the time.
        let client = quick("http://127.0.0.1:9")
            .max_queue_size(500)
            .queue_bytes(256 * 1024)
            .flush_at(1)
            .transport(memory.clone())
            .build()
            .unwrap();
        let done = run(&client, threads, EVENTS);
        assert!(client.shutdown().is_complete);

        let stats = conserved(&client);
        assert_eq!(fates(&stats), ((threads * EVENTS) as u64, 0, 0, 0));
        let refused = done.iter().fold((0, 0), |sum, done| (sum.0 + done.full, sum.1 + done.busy));
        assert_eq!((stats.refused_for(CaptureError::Full), stats.refused_for(CaptureError::Busy)), refused);
        let arrived = arrived(&memory);
        assert_eq!(arrived.len(), threads * EVENTS, "each once");
        assert_eq!(arrived.iter().map(|event| &event.uuid).collect::<HashSet<_>>().len(), threads * EVENTS);
        for event in &arrived {
            assert_eq!(done[event.thread].uuids[event.n].to_string(), event.uuid, "{}: {}", event.thread, event.n);
        }
        if threads == 1 {
            assert!(arrived.iter().map(|event| event.n).eq(0..EVENTS), "one thread keeps its order over all batches");
        }
    }
}

/// A batch is the lanes one after the other. So within a batch a thread's numbers may fall back once for every lane that
/// it changed into, and not more often; undisturbed, they do not fall back at all.
#[test]
fn a_thread_keeps_its_order_within_a_lane() {
    for threads in [2, 4, 12] {
        let memory = MemoryTransport::new();
        let client = quick("http://127.0.0.1:9")
            .max_queue_size(10_000)
            .queue_bytes(4 << 20)
            .max_batch_events(100_000)
            .max_batch_bytes(16 << 20)
            .without_thread()
            .transport(memory.clone())
            .build()
            .unwrap();
        run(&client, threads, 500);
        client.flush(PATIENCE).unwrap();
        assert_eq!(memory.requests().len(), 1);
        let mut last: HashMap<usize, usize> = HashMap::new();
        let mut falls: HashMap<usize, usize> = HashMap::new();
        for event in arrived(&memory) {
            if last.insert(event.thread, event.n).is_some_and(|before| before > event.n) {
                *falls.entry(event.thread).or_default() += 1;
            }
        }
        assert!(falls.values().all(|falls| *falls < LANES), "{falls:?}");
        conserved(&client);
    }
}

#[test]
fn one_thread_may_use_exactly_max_queue_size() {
    for size in [1, 7, 1000] {
        let memory = MemoryTransport::new();
        let builder = quick("http://127.0.0.1:9").max_queue_size(size).without_thread().transport(memory.clone());
        let client = builder.build().unwrap();
        for round in 1..=2 {
            for _ in 0..size {
                accepted(client.capture(Event::new("fits", "customer-7")));
            }
            for _ in 0..3 {
                assert_eq!(client.capture(Event::new("does not", "customer-7")).ok(), Err(CaptureError::Full));
            }
            assert_eq!(conserved(&client).pending, size as u64);
            client.flush(PATIENCE).unwrap();
            assert_eq!(memory.events().len(), round * size);
        }
        // Another thread that meets nobody uses the same lane.
        thread::scope(|scope| {
            for _ in 0..3 {
                let capture = || (0..size).filter(|_| client.capture(Event::new("more", "x")).is_accepted()).count();
                scope.spawn(capture).join().unwrap();
            }
        });
        assert_eq!(conserved(&client).pending, size as u64);
    }
}

#[test]
fn several_threads_may_use_eight_times_that_and_no_more() {
    const SIZE: usize = 200;
    let memory = MemoryTransport::new();
    let client =
        quick("http://127.0.0.1:9").max_queue_size(SIZE).without_thread().transport(memory.clone()).build().unwrap();
    let start = Barrier::new(16);
    let total: usize = thread::scope(|scope| {
        let capture = || {
            start.wait();
            (0..2000).filter(|_| client.capture(Event::new("racing", "customer-7")).is_accepted()).count()
        };
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(capture)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert!((SIZE..=LANES * SIZE).contains(&total), "{total}");
    assert_eq!(conserved(&client).pending, total as u64);

    // The bound is met, not only kept: captures inside of captures are in one lane after the other.
    let client =
        quick("http://127.0.0.1:9").max_queue_size(SIZE).without_thread().transport(memory.clone()).build().unwrap();
    for _ in 0..2 * SIZE {
        nested(&client, LANES);
    }
    assert_eq!(conserved(&client).pending, (LANES * SIZE) as u64);
    memory.clear();
    client.flush(PATIENCE).unwrap();
    assert_eq!(memory.events().len(), LANES * SIZE);
    conserved(&client);
}

/// Captures an event whose value captures an event whose value … `levels` in all, each in a lane of its own.
///
/// A value that writes itself is asked twice where its size is not known, so each captures only the first time.
fn nested(client: &Client, levels: usize) {
    struct Inner<'a>(&'a Client, Cell<usize>);
    impl serde::Serialize for Inner<'_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let levels = self.1.take();
            if levels > 0 {
                nested(self.0, levels);
            }
            serializer.serialize_unit()
        }
    }
    let inner = Typed(Inner(client, Cell::new(levels - 1)));
    let properties = [Property::new("inner", Value::Typed(&inner))];
    let _ = client.capture(Event::new("nested", "customer-7").properties(&properties));
}

#[test]
fn a_panic_inside_a_capture_gives_its_lane_back() {
    struct Panics;
    impl serde::Serialize for Panics {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            std::panic::panic_any("inside a lane")
        }
    }
    let memory = MemoryTransport::new();
    let client =
        quick("http://127.0.0.1:9").max_queue_size(10).without_thread().transport(memory.clone()).build().unwrap();
    for n in 0..10 {
        let (before, panics) = (client.capture(Event::new("before", "customer-7")), Typed(Panics));
        assert!(before.is_accepted(), "{n}: the same lane all the time, or the ninth would find none");
        let properties = [Property::new("panics", Value::Typed(&panics))];
        let captured = client.capture(Event::new("torn", "customer-7").properties(&properties));
        assert!(matches!(captured.ok(), Err(CaptureError::InvalidValue | CaptureError::Full)));
    }
    assert_eq!(
        client.capture(Event::new("full", "customer-7")).ok(),
        Err(CaptureError::Full),
        "one lane, and it is full"
    );
    client.flush(PATIENCE).unwrap();
    assert!(memory.events().iter().all(|text| text.contains("\"event\":\"before\"")));
    assert_eq!(fates(&conserved(&client)), (10, 0, 0, 0));
}

#[test]
fn large_events_of_many_threads_are_bounded_by_bytes() {
    let memory = MemoryTransport::new();
    let client = quick("http://127.0.0.1:9")
        .max_queue_size(100_000)
        .queue_bytes(256 * 1024)
        .without_thread()
        .transport(memory.clone())
        .build()
        .unwrap();
    let text = "t".repeat(60_000);
    let start = Barrier::new(10);
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                let properties = props! { "text": text.as_str() };
                start.wait();
                for _ in 0..50 {
                    client.capture(Event::new("large", "customer-7").properties(properties));
                }
            });
        }
    });
    let stats = conserved(&client);
    assert!((4..=4 * LANES as u64).contains(&stats.pending), "{stats:?}");
    client.flush(PATIENCE).unwrap();
    assert_eq!(memory.events().len() as u64, stats.pending);
    assert!(memory.events().iter().all(|event| event.len() > 60_000 && event.ends_with("}}")));
}
