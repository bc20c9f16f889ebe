//! A user who opts out is erased from the disk at once, whoever is still waiting for a server.

use crate::common::{PATIENCE, accepted, capture, conserved, fates, quick, within};
use crate::victim::{Folder, eventually, spooling};
use quillet::{Batch, Client, ClientBuilder, DropReason, Outcome, Transport, event};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Occurs in every event of these tests.
const SECRET: &str = "hunter2";

/// A transport of the caller's own, which nobody can interrupt: it fails until it is told to get stuck.
#[derive(Clone)]
struct Stuck {
    is_stuck: Arc<AtomicBool>,
    entered: Sender<()>,
    leave: Arc<Mutex<Receiver<()>>>,
}

impl Transport for Stuck {
    fn send(&mut self, _: &Batch<'_>) -> Outcome {
        if self.is_stuck.load(Ordering::SeqCst) {
            let _ = self.entered.send(());
            let _ = self.leave.lock().unwrap().recv_timeout(PATIENCE);
        }
        Outcome::status(503)
    }
}

/// The transport, what is told when it is stuck, and what ends that.
fn stuck() -> (Stuck, Receiver<()>, Sender<()>) {
    let ((entered, was_entered), (leave, left)) = (channel(), channel());
    let is_stuck = Arc::new(AtomicBool::new(false));
    (Stuck { is_stuck, entered, leave: Arc::new(Mutex::new(left)) }, was_entered, leave)
}

const HOST: &str = "http://127.0.0.1:9";

fn client(folder: &Folder, transport: &Stuck, options: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Client {
    let builder = spooling(HOST, folder.path()).transport(transport.clone()).max_retries(u32::MAX);
    options(builder.backoff(Duration::from_millis(10), Duration::from_millis(10))).build().unwrap()
}

fn capture_secrets(client: &Client, count: usize) {
    for _ in 0..count {
        accepted(client.capture(event!("before", "ada", { "secret": SECRET })));
    }
}

/// Whether any file under the folder holds it.
fn is_on_disk(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).any(|path| {
        if path.is_dir() {
            return is_on_disk(&path);
        }
        // Not of this process's own: to close it would be to give up the lock on it.
        let output = std::process::Command::new("grep").args(["-c", SECRET]).arg(&path).output().unwrap();
        output.status.success()
    })
}

/// A client before this one, whose events wait for the next start.
fn leave_some(folder: &Folder, transport: &Stuck) {
    let before = client(folder, transport, |builder| builder);
    capture_secrets(&before, 3);
    assert_eq!(before.shutdown_within(Duration::ZERO).stats.spooled, 3);
    // By then its worker has let go of the file.
    within(PATIENCE, || drop(before));
}

#[test]
fn opting_out_erases_the_disk_while_a_request_is_stuck() {
    let folder = Folder::new();
    let (transport, was_entered, leave) = stuck();
    leave_some(&folder, &transport);
    let client = client(&folder, &transport, |builder| builder.flush_at(1));
    // An outage, in which the older events make room.
    let filler = "x".repeat(2000);
    eventually("a segment", || {
        client.capture(event!("before", "ada", { "secret": SECRET, "filler": filler.as_str() }));
        !folder.files_with("seg").is_empty()
    });
    transport.is_stuck.store(true, Ordering::SeqCst);
    was_entered.recv_timeout(PATIENCE).unwrap();
    assert!(is_on_disk(folder.path()));

    within(Duration::from_secs(10), || client.opt_out());
    assert!(!is_on_disk(folder.path()));
    assert!(folder.files().is_empty(), "{:?}", folder.files());
    let stats = conserved(&client);
    assert_eq!((stats.pending, stats.spooled), (0, 0), "{stats:?}");
    assert_eq!(stats.dropped_for(DropReason::Discarded), stats.dropped_total(), "{stats:?}");

    leave.send(()).unwrap();
    client.shutdown();
    assert_eq!(conserved(&client), stats, "nothing is counted again when the request comes back");
    assert!(folder.files().is_empty(), "{:?}", folder.files());
}

/// What is on its way is what a dead process left.
#[test]
fn opting_out_erases_what_is_being_recovered() {
    let folder = Folder::new();
    let (transport, was_entered, leave) = stuck();
    leave_some(&folder, &transport);
    transport.is_stuck.store(true, Ordering::SeqCst);
    let client = client(&folder, &transport, |builder| builder);
    was_entered.recv_timeout(PATIENCE).unwrap();
    assert!(is_on_disk(folder.path()));
    within(Duration::from_secs(10), || client.opt_out());
    assert!(folder.files().is_empty(), "{:?}", folder.files());
    let stats = conserved(&client);
    assert_eq!((stats.recovered, stats.dropped_for(DropReason::Discarded), stats.pending), (3, 3, 0), "{stats:?}");
    leave.send(()).unwrap();
    client.shutdown();
    assert_eq!(conserved(&client), stats);
}

#[test]
fn opting_out_after_a_shutdown_erases_what_that_left() {
    let folder = Folder::new();
    let (transport, _, _leave) = stuck();
    let client = client(&folder, &transport, |builder| builder);
    capture_secrets(&client, 3);
    let report = client.shutdown_within(Duration::from_millis(100));
    assert_eq!(report.stats.spooled, 3);
    assert!(is_on_disk(folder.path()));
    client.opt_out();
    assert!(folder.files().is_empty(), "{:?}", folder.files());
    let stats = conserved(&client);
    assert_eq!((stats.spooled, stats.dropped_for(DropReason::Discarded)), (0, 3), "{stats:?}");
}

/// Without a spool there is a file only if somebody had it written.
#[test]
fn opting_out_erases_crash_files_while_a_request_is_stuck() {
    let folder = Folder::new();
    let (transport, was_entered, leave) = stuck();
    transport.is_stuck.store(true, Ordering::SeqCst);
    let client = quick(HOST).transport(transport.clone()).flush_at(1).crash_dir(folder.path()).build().unwrap();
    capture(&client, SECRET, 3);
    was_entered.recv_timeout(PATIENCE).unwrap();
    assert!(client.write_crash_file() && is_on_disk(folder.path()));
    within(Duration::from_secs(10), || client.opt_out());
    assert!(folder.files().is_empty(), "{:?}", folder.files());
    assert_eq!(fates(&conserved(&client)), (0, 0, 3, 0));
    leave.send(()).unwrap();
}
