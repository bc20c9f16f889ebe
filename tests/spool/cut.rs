//! Files that are cut off while a living client has its queue in them. The host lives, whatever it touches; the queue goes
//! on in memory, what is lost is counted, and nothing that is no event is sent.

use crate::common::{PATIENCE, accepted, capture, conserved, stored};
use crate::image::{LANES_AT, RINGS};
use crate::victim::{Folder, eventually, spooling};
use quillet::{CaptureError, Client, ClientBuilder, DropReason, Durability, Event, Stats};
use quillet_support::{Answer, Rule, Sink};
use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Bytes of a lane of these clients: the ring, and the page that its header begins.
const LANE: usize = 256 * 1024 + 4096;

/// What is left of the file: nothing; the middle of a page before the lanes; part of the first lane's header; part of what
/// is pending in it, by the byte and by the page; everything but the lane for crashes, and but its end.
const LENGTHS: [usize; 7] = [
    0,
    5000,
    LANES_AT + 100,
    LANES_AT + 25_000,
    LANES_AT + 6 * 4096,
    LANES_AT + (RINGS - 1) * LANE,
    LANES_AT + RINGS * LANE - 4096,
];

/// Cuts every spool file in the folder. By another process: one that opens and closes its own file loses the lock on it.
fn cut(folder: &Folder, bytes: usize) {
    for file in folder.files_with("ring") {
        let status = Command::new("truncate").arg(format!("--size={bytes}")).arg(file).status().unwrap();
        assert!(status.success());
    }
}

/// The final counters tell what the sink has seen, and no request was one that a server would have to refuse.
fn agree(stats: &Stats, accepted: u64, sink: &Sink) {
    assert!(stats.is_conserved(), "{stats:?}");
    sink.assert_clean();
    let stored: BTreeSet<_> = stored(sink).into_iter().collect();
    let lost = stats.dropped_for(DropReason::Damaged);
    assert_eq!((stats.accepted, stats.delivered, stats.rejected), (accepted, stored.len() as u64, 0), "{stats:?}");
    assert_eq!((stats.delivered + lost, stats.pending, stats.spooled), (accepted, 0, 0), "{stats:?}");
}

/// Cuts the file while 100 events wait for a server, and says how many of these are lost.
fn lost_by_a_cut(bytes: usize, build: impl FnOnce(ClientBuilder) -> Client) -> u64 {
    let (folder, sink) = (Folder::new(), Sink::start());
    let client = build(spooling(sink.host(), folder.path()));
    assert_ne!(client.durability(), Durability::Memory);
    capture(&client, "delivered before the cut", 50);
    client.flush(PATIENCE).unwrap();
    capture(&client, "pending at the cut", 100);
    cut(&folder, bytes);
    assert_eq!(client.durability(), Durability::Memory, "cut to {bytes}");
    conserved(&client);
    let mut after = 0;
    for n in 0..200 {
        // For an instant, while everything moves, there is no room.
        let captured = client.capture(Event::new("after the cut", "customer-7"));
        assert!(matches!(captured.ok(), Ok(_) | Err(CaptureError::Busy)), "cut to {bytes}: {captured:?}, the {n}th");
        after += u64::from(captured.is_accepted());
    }
    conserved(&client);
    client.flush(PATIENCE).unwrap();
    accepted(client.capture(Event::new("long after the cut", "customer-7")));
    assert_eq!(client.durability(), Durability::Memory);
    conserved(&client);
    // A cut that nobody has touched yet shows in the file's length, now and then.
    eventually("the end of the file", || client.flush(PATIENCE).is_ok() && folder.files_with("ring").is_empty());
    let report = client.shutdown();
    agree(&report.stats, 150 + after + 1, &sink);
    let names = |name: &str| sink.stored().iter().filter(|event| event.name() == name).count() as u64;
    assert_eq!((names("delivered before the cut"), names("long after the cut")), (50, 1));
    assert!(names("after the cut") + RINGS as u64 >= after, "only one in each lane can lie where the cut is");
    let lost = report.stats.dropped_for(DropReason::Damaged);
    assert_eq!(lost, 100 + after - names("pending at the cut") - names("after the cut"));
    lost
}

#[test]
fn a_queue_whose_file_is_cut_off_goes_on_in_memory() {
    for bytes in LENGTHS {
        // In threads of their own, which begin in the first lane: this one may have been moved on while everything moved.
        let lost = thread::spawn(move || lost_by_a_cut(bytes, |builder| builder.build().unwrap()));
        let lost = lost.join().unwrap();
        let pumped = thread::spawn(move || lost_by_a_cut(bytes, |builder| builder.without_thread().build().unwrap()));
        let pumped = pumped.join().unwrap();
        println!("cut to {bytes}: lost {lost}, without a thread {pumped}");
        for lost in [lost, pumped] {
            match bytes {
                0..=5000 => assert!((100..=101).contains(&lost), "{lost}"),
                _ if bytes > LANES_AT + LANE => assert_eq!(lost, 0),
                _ if bytes > LANES_AT + 4096 => assert!((1..100).contains(&lost), "{lost}"),
                _ => assert!((1..=101).contains(&lost), "{lost}"),
            }
        }
    }
}

#[test]
fn a_cut_while_threads_capture_and_requests_are_out_is_survived_at_any_moment() {
    for (round, bytes) in LENGTHS.into_iter().enumerate() {
        let (folder, sink) = (Folder::new(), Sink::start());
        let client = spooling(sink.host(), folder.path()).flush_at(50).build().unwrap();
        let (is_over, captured) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        let is_accepted = client.capture(Event::new("all the time", "customer-7")).is_accepted();
                        captured.fetch_add(u64::from(is_accepted), Ordering::Relaxed);
                        std::thread::sleep(Duration::from_micros(50));
                    }
                });
            }
            eventually("some deliveries", || conserved(&client).delivered > 200 + 50 * round as u64);
            cut(&folder, bytes);
            let at_the_cut = captured.load(Ordering::Relaxed);
            eventually("captures after the cut", || captured.load(Ordering::Relaxed) > at_the_cut + 500);
            eventually("deliveries after the cut", || {
                let stats = conserved(&client);
                stats.delivered + stats.dropped_total() > at_the_cut + 100
            });
            is_over.store(true, Ordering::Relaxed);
        });
        assert_eq!(client.durability(), Durability::Memory);
        agree(&client.shutdown().stats, captured.into_inner(), &sink);
    }
}

#[test]
fn whoever_waits_for_a_queue_that_is_cut_off_is_answered_in_time() {
    for bytes in [0, LANES_AT + 25_000] {
        for is_discarded in [false, true] {
            let (folder, sink) = (Folder::new(), Sink::start());
            sink.rule(Rule::Always(Answer::status(503)));
            let client = spooling(sink.host(), folder.path()).build().unwrap();
            capture(&client, "never delivered", 150);
            let _ = client.flush(Duration::from_millis(50));
            cut(&folder, bytes);
            let _ = client.flush(Duration::from_millis(50));
            if is_discarded {
                client.discard();
            }
            let stats = client.shutdown_within(Duration::from_millis(50)).stats;
            assert!(stats.is_conserved(), "{stats:?}");
            assert_eq!((stats.accepted, stats.dropped_total(), stats.pending, stats.spooled), (150, 150, 0, 0));
            drop(client);
            eventually("the end of the file", || folder.files_with("ring").is_empty());
            sink.assert_clean();
        }
    }
}

/// Neither a fault nor the length tells of this, nor of the end of the page that a cut goes through.
#[test]
fn zeros_in_the_place_of_events_are_not_sent() {
    for is_pumped in [false, true] {
        let (folder, sink) = (Folder::new(), Sink::start());
        let builder = spooling(sink.host(), folder.path());
        let client = if is_pumped { builder.without_thread() } else { builder }.build().unwrap();
        capture(&client, "pending", 100);
        let file = format!("of={}", folder.files_with("ring")[0].display());
        let place = format!("seek={}", LANES_AT + 10_000);
        let zeros = ["if=/dev/zero", &file, "bs=1", &place, "count=2000", "conv=notrunc", "status=none"];
        assert!(Command::new("dd").args(zeros).status().unwrap().success());
        client.flush(PATIENCE).unwrap();
        assert_eq!(client.durability(), Durability::Memory);
        let stats = client.shutdown().stats;
        agree(&stats, 100, &sink);
        assert!((2..50).contains(&stats.dropped_for(DropReason::Damaged)), "{stats:?}");
    }
}
