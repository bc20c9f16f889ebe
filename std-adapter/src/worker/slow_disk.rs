//! Tests: whoever waits for the client with a deadline is answered by then, though nothing comes back from the disk.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails should stop")]

use core::time::Duration;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;

use quillet_core::{Event, Outcome};

use crate::spool::faults::{self, Command};
use crate::transport::memory::MemoryTransport;
use crate::{Client, ClientBuilder, Durability, FlushError};

/// For what takes milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a caller gives it, and what it may take on a busy machine.
const DEADLINE: Duration = Duration::from_millis(200);
const LIMIT: Duration = Duration::from_secs(5);

/// A directory on a disk that the test commands. The disk goes on, and the directory goes, when this does.
struct Folder(PathBuf, Command);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("quillet-disk-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let command = faults::command(&path);
        Self(path, command)
    }

    fn client(&self, transport: &MemoryTransport, options: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Client {
        let builder = Client::builder("phc_test").spool_dir(&self.0).queue_bytes(64 * 1024).enable_logging(false);
        let client = options(builder.transport(transport.clone()).flush_interval(PATIENCE)).build().unwrap();
        assert_ne!(client.durability(), Durability::Memory);
        client
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.1.go_on();
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What `work` answers on a thread of its own, which must not take longer than the limit. A thread that does stays behind.
#[track_caller]
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (answer, answered) = channel();
    thread::spawn(move || answer.send(work()));
    answered.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("no answer within {LIMIT:?}"))
}

#[track_caller]
fn capture(client: &Client, events: usize) {
    for _ in 0..events {
        assert!(client.capture(Event::new("e", "somebody")).is_accepted());
    }
}

#[test]
fn a_shutdown_ends_by_its_deadline_while_the_disk_stands_still() {
    let (folder, transport) = (Folder::new(), MemoryTransport::new());
    let client = folder.client(&transport, |builder| builder);
    capture(&client, 3);
    client.flush(PATIENCE).unwrap();
    folder.1.stand_still();
    // Everything is delivered; what is left to do is to say so in the file, and to remove it.
    let ended = client.clone();
    let report = in_time(move || ended.shutdown_within(DEADLINE));
    assert!(folder.1.is_waited_for(PATIENCE), "the worker is at the disk");
    assert!(report.is_complete && report.stats.is_conserved(), "{report:?}");
    let asked = client.clone();
    assert!(in_time(move || asked.stats()).is_conserved());
    let asked = client.clone();
    assert_eq!(in_time(move || asked.flush(DEADLINE)), Err(FlushError::Closed));
    in_time(move || drop(client));
}

#[test]
fn what_is_left_is_counted_once_by_whoever_comes_first() {
    let (folder, transport) = (Folder::new(), MemoryTransport::new());
    transport.answer_otherwise(Outcome::status(503));
    let client = folder.client(&transport, |builder| builder.flush_at(1));
    capture(&client, 5);
    assert!(transport.wait_for_requests(1, PATIENCE));
    folder.1.stand_still();
    for _ in 0..2 {
        let ended = client.clone();
        let report = in_time(move || ended.shutdown_within(DEADLINE));
        assert_eq!((report.stats.spooled, report.stats.pending), (5, 0), "{report:?}");
        assert!(!report.is_complete && report.stats.is_conserved(), "{report:?}");
    }
    folder.1.go_on();
    let after = client.shutdown_within(PATIENCE).stats;
    assert_eq!((after.spooled, after.pending), (5, 0), "{after:?}");
}

/// The interval has the worker wait for the disk again and again.
#[test]
fn flush_and_shutdown_end_by_their_deadlines_while_checkpoints_wait_for_the_disk() {
    let (folder, transport) = (Folder::new(), MemoryTransport::new());
    let client = folder.client(&transport, |builder| builder.power_cut_interval(Duration::from_millis(1)));
    folder.1.stand_still();
    capture(&client, 2);
    assert!(folder.1.is_waited_for(PATIENCE), "the worker is at the disk");
    let asked = client.clone();
    assert_eq!(in_time(move || asked.flush(DEADLINE)), Err(FlushError::TimedOut));
    let ended = client.clone();
    let report = in_time(move || ended.shutdown_within(DEADLINE));
    assert_eq!((report.stats.spooled, report.stats.pending), (2, 0), "{report:?}");
    in_time(move || drop(client));
}

/// Somebody changes his mind while the worker is still leaving everything for the next start.
#[test]
fn a_discard_after_a_shutdown_has_the_last_word() {
    let (folder, transport) = (Folder::new(), MemoryTransport::new());
    transport.answer_otherwise(Outcome::status(503));
    let client = folder.client(&transport, |builder| builder.flush_at(1));
    capture(&client, 5);
    assert!(transport.wait_for_requests(1, PATIENCE));
    folder.1.stand_still();
    client.shutdown_within(Duration::ZERO);
    assert!(folder.1.is_waited_for(PATIENCE), "the worker is at the disk");
    let discarded = client.clone();
    let discard = thread::spawn(move || discarded.discard());
    let seen = client.clone();
    in_time(move || {
        while seen.stats().spooled > 0 {
            thread::yield_now();
        }
    });
    folder.1.go_on();
    discard.join().unwrap();
    let stats = client.stats();
    assert!(stats.is_conserved() && stats.dropped_total() == 5, "{stats:?}");
    assert!(files(&folder.0).is_empty(), "{:?}", files(&folder.0));
}

fn files(path: &PathBuf) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
