//! No runtime is needed and none is in the way: the same calls inside tokio, outside of it, while a thread is torn down,
//! and while a panic unwinds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails should stop")]

mod common;

use common::{PATIENCE, accepted, capture, check, fates, quick, stored, texts};
use quillet::{Client, Event, Uuid};
use quillet_support::{Answer, Sink};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::{Arc, Mutex};
use std::thread;
use tokio::runtime::{Builder, Runtime};

fn runtimes() -> [(&'static str, Runtime); 3] {
    [
        ("current thread", Builder::new_current_thread().build().unwrap()),
        ("one worker", Builder::new_multi_thread().worker_threads(1).build().unwrap()),
        ("two workers", Builder::new_multi_thread().worker_threads(2).build().unwrap()),
    ]
}

#[test]
fn every_call_works_inside_a_runtime() {
    for (name, runtime) in runtimes() {
        let sink = Sink::start();
        sink.script([Answer::status(503)]);
        runtime.block_on(async {
            let client = quick(sink.host()).build().unwrap();
            let mut uuids = texts(&capture(&client, "in block_on", 3));
            client.flush(PATIENCE).unwrap();
            let now = client.capture_immediate(Event::new("now", "customer-7"), PATIENCE).unwrap();
            uuids.push(now.to_string());
            uuids.extend(texts(&capture(&client, "in block_on", 2)));
            let report = client.shutdown();
            assert!(report.is_complete, "{name}: {report:?}");
            assert_eq!(fates(&check(&client, &sink)), (6, 0, 0, 0), "{name}");
            assert_eq!(stored(&sink), uuids, "{name}");
        });
    }
}

#[test]
fn tasks_capture_and_the_last_one_to_drop_the_client_delivers() {
    for (name, runtime) in runtimes() {
        let sink = Sink::start();
        let client = quick(sink.host()).build().unwrap();
        let mut uuids = runtime.block_on(async {
            let tasks: Vec<_> = (0..20)
                .map(|_| {
                    let client = client.clone();
                    tokio::spawn(async move {
                        let first = accepted(client.capture(Event::new("in a task", "customer-7")));
                        tokio::task::yield_now().await;
                        let second = accepted(client.capture(Event::new("in a task", "customer-7")));
                        [first, second]
                    })
                })
                .collect();
            let mut uuids = Vec::new();
            for task in tasks {
                uuids.extend(task.await.unwrap());
            }
            // The last handle goes in a task: its drop waits there, and the flush thread needs no runtime to end that.
            tokio::spawn(async move { drop(client) }).await.unwrap();
            texts(&uuids)
        });
        let mut arrived = stored(&sink);
        uuids.sort();
        arrived.sort();
        assert_eq!(arrived, uuids, "{name}");
        sink.assert_clean();
    }
}

#[test]
fn a_runtime_that_goes_away_with_the_client_in_a_task_delivers() {
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    let runtime = Builder::new_current_thread().build().unwrap();
    let uuid = accepted(client.capture(Event::new("before", "customer-7")));
    runtime.spawn(async move {
        let _client = client;
        std::future::pending::<()>().await;
    });
    drop(runtime);
    assert_eq!(stored(&sink), texts(&[uuid]));
    sink.assert_clean();
}

#[test]
fn a_pumped_client_works_inside_a_runtime() {
    for (name, runtime) in runtimes() {
        let sink = Sink::start();
        runtime.block_on(async {
            let client = quick(sink.host()).without_thread().flush_at(1).build().unwrap();
            capture(&client, "pumped", 3);
            assert_eq!(client.poll(), quillet::Poll::Sent, "{name}");
            capture(&client, "pumped", 3);
            client.flush(PATIENCE).unwrap();
            capture(&client, "pumped", 3);
            assert!(client.shutdown().is_complete, "{name}");
            assert_eq!(fates(&check(&client, &sink)), (9, 0, 0, 0), "{name}");
        });
    }
}

/// Captures, flushes and lets go of the client when it is dropped, wherever that may be.
struct LastWords {
    client: Option<Client>,
    said: Arc<Mutex<Vec<Uuid>>>,
}

impl LastWords {
    fn new(client: Client) -> (Self, Arc<Mutex<Vec<Uuid>>>) {
        let said = Arc::default();
        (Self { client: Some(client), said: Arc::clone(&said) }, said)
    }
}

impl Drop for LastWords {
    fn drop(&mut self) {
        let client = self.client.take().unwrap();
        let mut said = self.said.lock().unwrap();
        said.push(accepted(client.capture(Event::new("last words", "customer-7"))));
        client.flush(PATIENCE).unwrap();
        said.push(accepted(client.capture(Event::new("very last words", "customer-7"))));
        drop(client);
    }
}

thread_local! {
    static FIRST: RefCell<Option<LastWords>> = const { RefCell::new(None) };
    static SECOND: RefCell<Option<LastWords>> = const { RefCell::new(None) };
}

#[test]
fn a_thread_local_destructor_may_capture_flush_and_drop_the_last_handle() {
    // Whether the thread used the client before or not: its own thread-locals may be there already, or may not.
    for used in [false, true] {
        let sink = Sink::start();
        let client = quick(sink.host()).build().unwrap();
        let (words, said) = LastWords::new(client.clone());
        let (more_words, said_more) = LastWords::new(client.clone());
        let thread = thread::spawn(move || {
            FIRST.set(Some(words));
            if used {
                accepted(client.capture(Event::new("used", "customer-7")));
                client.flush(PATIENCE).unwrap();
            }
            SECOND.set(Some(more_words));
        });
        thread.join().unwrap();
        // A thread is joined when its destructors have run.
        let mut uuids = texts(&[said.lock().unwrap().clone(), said_more.lock().unwrap().clone()].concat());
        assert_eq!(uuids.len(), 4);
        let mut arrived: Vec<_> =
            sink.stored().iter().filter(|event| event.name() != "used").map(|event| event.uuid().to_owned()).collect();
        uuids.sort();
        arrived.sort();
        assert_eq!(arrived, uuids);
        sink.assert_clean();
    }
}

#[test]
fn a_drop_during_unwinding_captures_flushes_and_delivers() {
    let sink = Sink::start();
    let (words, said) = LastWords::new(quick(sink.host()).build().unwrap());
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _words = words;
        panic_any("out of here");
    }));
    assert!(panicked.is_err());
    assert_eq!(stored(&sink), texts(&said.lock().unwrap()));
    sink.assert_clean();
}

#[test]
fn a_thread_that_panics_with_the_last_handle_delivers() {
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    let uuids = Arc::new(Mutex::new(Vec::new()));
    let captured = Arc::clone(&uuids);
    let thread = thread::spawn(move || {
        captured.lock().unwrap().extend(capture(&client, "before the end", 3));
        let _client = client;
        panic_any("out of here");
    });
    assert!(thread.join().is_err());
    assert_eq!(stored(&sink), texts(&uuids.lock().unwrap()));
    sink.assert_clean();
}
