//! A server that takes nothing for a long time: the queue is not all there is.

use crate::common::{PATIENCE, check, conserved, stored};
use crate::victim::{Folder, eventually, found, spooling};
use quillet::{CaptureError, Client, Event};
use quillet_support::{Answer, Rule, Sink};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

/// More than a queue of 1000 holds.
const EVENTS: usize = 5000;

fn patient(sink: &Sink, dir: &Path) -> Client {
    // Retries without end, so that no test has to sit through the rest after the last one.
    spooling(sink.host(), dir).max_retries(u32::MAX).build().unwrap()
}

/// Captures that many, waiting where the flush thread is behind.
fn capture_all(client: &Client, count: usize) -> BTreeSet<String> {
    let started = Instant::now();
    let mut uuids = BTreeSet::new();
    for n in 0..count {
        loop {
            let properties = quillet::props! { "n": n };
            match client.capture(Event::new("in an outage", "customer-7").properties(properties)).ok() {
                Ok(uuid) => {
                    uuids.insert(uuid.to_string());
                    break;
                }
                Err(CaptureError::Full) => std::thread::sleep(Duration::from_millis(1)),
                Err(error) => panic!("{error}"),
            }
            assert!(started.elapsed() < PATIENCE, "no room was made");
        }
    }
    uuids
}

fn first_failure(client: &Client) {
    crate::common::capture(client, "in an outage", 1);
    // Comes back when the first answer is known, or does not wait for it; either way the outage is known then.
    let _ = client.flush(Duration::from_millis(100));
}

#[test]
fn an_outage_goes_to_the_disk_and_is_delivered_afterwards() {
    let (folder, sink) = (Folder::new(), Sink::start());
    sink.rule(Rule::Always(Answer::status(503)));
    let client = patient(&sink, folder.path());
    first_failure(&client);
    let uuids = capture_all(&client, EVENTS);
    let stats = conserved(&client);
    assert_eq!(stats.accepted, EVENTS as u64 + 1);
    assert!(stats.spooled > EVENTS as u64 / 2 && stats.dropped_total() == 0, "{stats:?}");
    assert!(!folder.files_with("seg").is_empty());

    sink.clear_answers();
    client.flush(PATIENCE).unwrap();
    eventually("delivery", || conserved(&client).delivered == EVENTS as u64 + 1);
    let stats = check(&client, &sink);
    assert_eq!((stats.recovered, stats.spooled, stats.pending), (0, 0, 0), "its own events are not found, but kept");
    let stored: BTreeSet<String> = stored(&sink).into_iter().collect();
    assert!(uuids.is_subset(&stored) && stored.len() == EVENTS + 1);
    assert!(client.shutdown().is_complete);
    assert_eq!(folder.files().len(), 0);
}

#[test]
fn what_an_outage_left_on_the_disk_is_the_next_starts_to_deliver() {
    let (folder, sink) = (Folder::new(), Sink::start());
    sink.rule(Rule::Always(Answer::status(503)));
    let client = patient(&sink, folder.path());
    first_failure(&client);
    let uuids = capture_all(&client, EVENTS);
    let report = client.shutdown_within(Duration::from_millis(100));
    assert_eq!((report.stats.spooled, report.stats.pending), (EVENTS as u64 + 1, 0), "{report:?}");
    assert!(!report.is_complete && report.stats.is_conserved());
    drop(client);

    sink.clear_answers();
    let client = patient(&sink, folder.path());
    found(&client, EVENTS as u64 + 1);
    let report = client.shutdown();
    assert!(report.is_complete && report.stats.is_conserved(), "{report:?}");
    assert_eq!((report.stats.recovered, report.stats.delivered), (EVENTS as u64 + 1, EVENTS as u64 + 1));
    let stored: BTreeSet<String> = stored(&sink).into_iter().collect();
    assert!(uuids.is_subset(&stored) && stored.len() == EVENTS + 1);
    assert_eq!(folder.files().len(), 0);
    sink.assert_clean();
}

#[test]
fn the_quota_holds_and_what_it_costs_is_counted() {
    let (folder, sink) = (Folder::new(), Sink::start());
    sink.rule(Rule::Always(Answer::status(503)));
    let quota = 4 * 1024 * 1024;
    let client = spooling(sink.host(), folder.path()).max_retries(u32::MAX).spool_bytes_max(quota).build().unwrap();
    first_failure(&client);
    let filler = "x".repeat(2000);
    let (started, mut accepted) = (Instant::now(), 1);
    while conserved(&client).dropped_total() == 0 {
        let properties = quillet::props! { "filler": filler.as_str() };
        accepted += u64::from(client.capture(Event::new("large", "customer-7").properties(properties)).is_accepted());
        assert!(started.elapsed() < PATIENCE, "{:?} {:?}", client.stats(), folder.files());
    }
    let stats = conserved(&client);
    assert_eq!(stats.accepted, accepted);
    assert_eq!(stats.dropped_for(quillet::DropReason::SpoolFull), stats.dropped_total(), "{stats:?}");
    let on_disk: u64 =
        folder.files().iter().map(|path| std::os::unix::fs::MetadataExt::blocks(&path.metadata().unwrap())).sum();
    assert!(on_disk * 512 <= quota, "{} of {quota} bytes", on_disk * 512);

    sink.clear_answers();
    client.flush(PATIENCE).unwrap();
    eventually("delivery", || conserved(&client).pending == 0 && conserved(&client).spooled == 0);
    let stats = check(&client, &sink);
    assert_eq!(stats.delivered + stats.dropped_total(), accepted);
    assert_eq!(stored(&sink).len() as u64, stats.delivered);
    assert_eq!(stats.recovered, 0);
}

#[test]
fn a_refused_key_does_not_empty_the_spool() {
    let (folder, sink) = (Folder::new(), Sink::start());
    sink.rule(Rule::Always(Answer::status(401)));
    let client = patient(&sink, folder.path());
    first_failure(&client);
    capture_all(&client, EVENTS);
    let stats = conserved(&client);
    assert_eq!((stats.rejected, stats.dropped_total(), stats.delivered), (0, 0, 0));
    assert_eq!(sink.requests().len(), 1, "one request, then a pause");
    let report = client.shutdown();
    assert_eq!(report.stats.spooled, EVENTS as u64 + 1);
}

#[test]
fn a_poisoned_event_takes_nobody_along_on_its_way_through_the_spool() {
    let (folder, sink) = (Folder::new(), Sink::start());
    sink.rule(Rule::Always(Answer::status(503)));
    let client = patient(&sink, folder.path());
    first_failure(&client);
    let uuids = capture_all(&client, EVENTS / 2);
    crate::common::capture(&client, "poison", 2);
    client.shutdown_within(Duration::from_millis(100));
    drop(client);

    sink.clear_answers();
    sink.rule(Rule::poisoned_by("poison"));
    let client = patient(&sink, folder.path());
    found(&client, EVENTS as u64 / 2 + 3);
    let report = client.shutdown();
    assert_eq!((report.stats.rejected, report.stats.delivered), (2, EVENTS as u64 / 2 + 1), "{report:?}");
    let stored: BTreeSet<String> = stored(&sink).into_iter().collect();
    assert!(uuids.is_subset(&stored));
    assert_eq!(folder.files().len(), 0);
}
