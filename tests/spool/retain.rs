//! How much the spool may take, and what is said about those who left something in it.

use crate::common::{PATIENCE, capture, stored};
use crate::victim::{Folder, Victim, become_one_if_asked, eventually, found, spooling};
use quillet::DropReason;
use quillet_support::sink::refuses;
use quillet_support::{Answer, Rule, Sink};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::time::Duration;

/// Where a ring's file says when its process last looked after it.
const LAST_SEEN_AT: u64 = 4096 + 8;

/// Renames the one ring: its name says when it was made.
fn made_in_2001(folder: &Folder) -> PathBuf {
    let ring = folder.files_with("ring").pop().unwrap();
    let rest = ring.file_name().unwrap().to_str().unwrap().split_once('-').unwrap().1;
    let renamed = ring.with_file_name(format!("1000000000000-{rest}"));
    fs::rename(&ring, &renamed).unwrap();
    renamed
}

#[test]
fn events_that_waited_too_long_are_dropped_and_counted() {
    become_one_if_asked();
    let (folder, sink) = (Folder::new(), Sink::start());
    let test = "retain::events_that_waited_too_long_are_dropped_and_counted";
    Victim::start(test, &sink.host(), folder.path(), 7).kill();
    let ring = made_in_2001(&folder);
    // Its header says when the process last looked after it: then too.
    let file = fs::File::options().write(true).open(&ring).unwrap();
    file.write_all_at(&1_000_000_100_000_000_u64.to_le_bytes(), LAST_SEEN_AT).unwrap();
    drop(file);
    let report = spooling(sink.host(), folder.path()).build().unwrap().shutdown();
    assert_eq!((report.stats.recovered, report.stats.dropped_for(DropReason::Expired)), (7, 7));
    assert_eq!((folder.files().len(), sink.requests().len()), (0, 0));
}

/// A service runs for weeks; that it started long ago says nothing about its last events.
#[test]
fn what_a_process_left_that_lived_for_long_is_not_old() {
    become_one_if_asked();
    let (folder, sink) = (Folder::new(), Sink::start());
    let test = "retain::what_a_process_left_that_lived_for_long_is_not_old";
    let victim = Victim::start(test, &sink.host(), folder.path(), 7);
    // Its flush thread may not have had a core yet.
    eventually("a look of the process's", || {
        let mut seen = [0; 8];
        let ring = fs::File::open(folder.files_with("ring").pop().unwrap()).unwrap();
        ring.read_exact_at(&mut seen, LAST_SEEN_AT).is_ok() && seen != [0; 8]
    });
    victim.kill();
    made_in_2001(&folder);
    let client = spooling(sink.host(), folder.path()).build().unwrap();
    assert!(sink.wait_for_events(7, PATIENCE));
    let stats = client.shutdown().stats;
    assert_eq!((stats.recovered, stats.delivered, stats.dropped_total()), (7, 7, 0));
}

#[test]
fn a_crash_loop_of_a_hundred_starts_stays_within_the_limits() {
    let (folder, sink) = (Folder::new(), Sink::start());
    sink.rule(Rule::Always(Answer::status(503)));
    let builder = || spooling(sink.host(), folder.path()).spool_files_max(20).spool_bytes_max(8 * 1024 * 1024);
    let mut left = 0_i64;
    for start in 0..100 {
        let client = builder().build().unwrap();
        capture(&client, "before the crash", 3);
        let stats = client.shutdown_within(Duration::ZERO).stats;
        assert!(stats.is_conserved(), "{start}: {stats:?}");
        // A client may drop what earlier ones left.
        left += 3 - stats.dropped_total() as i64;
        drop(client);
        let files = folder.files();
        let bytes: u64 = files.iter().map(|path| fs::metadata(path).unwrap().blocks() * 512).sum();
        assert!(files.len() <= 20 && bytes <= 8 * 1024 * 1024, "{start}: {} files, {bytes} bytes", files.len());
    }
    sink.clear_answers();
    let client = builder().build().unwrap();
    eventually("the end of all", || {
        let stats = client.stats();
        stats.delivered >= 3 && (stats.delivered + stats.dropped_total()) as i64 == left
    });
    assert!(client.shutdown().is_complete);
    assert_eq!(folder.files().len(), 0);
}

/// Files are as large as their lanes, and the dead leave little in them: room is what counts, and no event goes for air.
#[test]
fn what_holds_no_event_goes_before_any_event_does() {
    become_one_if_asked();
    let (folder, sink) = (Folder::new(), Sink::start());
    let test = "retain::what_holds_no_event_goes_before_any_event_does";
    // Or each of them would deliver what those before it left.
    sink.rule(Rule::Always(Answer::status(503)));
    let mut uuids = Vec::new();
    for _ in 0..8 {
        uuids.extend(Victim::start(test, &sink.host(), folder.path(), 7).kill());
    }
    // What a process leaves that is killed while it makes its file: room, and nothing in it.
    for (ring, digit) in folder.files_with("ring").iter().zip(b'0'..=b'9') {
        let name = ring.file_name().unwrap().to_str().unwrap();
        let (start, end) = name.split_at(name.len() - ".ring".len() - 1);
        let digit = if end.as_bytes()[0] == digit { b'f' } else { digit };
        let unfinished = ring.with_file_name(format!("{start}{}{}", char::from(digit), &end[1..]));
        std::fs::write(unfinished, vec![0; 2 << 20]).unwrap();
    }
    sink.clear_answers();
    // The client's own file takes 2.4 MiB of this, and the lanes in which the dead left something as much.
    let client = spooling(sink.host(), folder.path()).spool_bytes_max(4 << 20).build().unwrap();
    assert_ne!(client.durability(), quillet::Durability::Memory);
    found(&client, 56);
    let report = client.shutdown();
    assert_eq!((report.stats.delivered, report.stats.dropped_total()), (56, 0), "{:?}", report.stats);
    let mut stored = stored(&sink);
    stored.sort();
    uuids.sort();
    assert_eq!(stored, uuids);
    sink.assert_clean();
}

#[test]
fn a_process_that_was_killed_is_reported_if_that_is_wanted() {
    become_one_if_asked();
    let (folder, sink) = (Folder::new(), Sink::start());
    let test = "retain::a_process_that_was_killed_is_reported_if_that_is_wanted";
    let uuids = Victim::start(test, &sink.host(), folder.path(), 3).kill();
    // The first recovery is cut short: what it says must be what the second one says.
    let copy = fs::read(folder.files_with("ring").pop().unwrap()).unwrap();
    let name = folder.files_with("ring").pop().unwrap();
    let recover = || {
        let client = spooling(sink.host(), folder.path()).report_unclean_end(true).build().unwrap();
        client.shutdown()
    };
    assert_eq!(recover().stats.recovered, 4);
    fs::write(&name, copy).unwrap();
    assert_eq!(recover().stats.recovered, 4);
    let reports: Vec<_> =
        sink.stored().into_iter().filter(|event| event.name() == "process ended without shutdown").collect();
    assert_eq!(reports.len(), 1, "the same event twice is one");
    assert_eq!(reports[0].property("release"), "of the dead", "its own properties, not those of whoever speaks of it");
    assert_eq!(stored(&sink).len(), uuids.len() + 1);
    assert_eq!(sink.view(|journal| journal.duplicates()), 4);
    sink.assert_clean();
}

#[test]
fn a_process_that_shut_down_is_not_reported() {
    let (folder, host) = (Folder::new(), refuses().unwrap());
    let client = spooling(&host, folder.path()).build().unwrap();
    capture(&client, "left behind", 2);
    client.shutdown_within(Duration::ZERO);
    drop(client);
    let client = spooling(&host, folder.path()).report_unclean_end(true).build().unwrap();
    found(&client, 2);
    assert_eq!(client.shutdown_within(Duration::from_millis(200)).stats.recovered, 2);
}
