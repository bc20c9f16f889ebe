//! What a dead process left is delivered, once and as it was.

use crate::common::{PATIENCE, capture, conserved, fates, stored, texts};
use crate::victim::{Folder, Victim, become_one_if_asked, eventually, found, spooling};
use quillet_support::sink::refuses;
use quillet_support::{Answer, Sink};
use std::collections::BTreeSet;
use std::time::Duration;

#[test]
fn events_of_a_killed_process_are_delivered_by_the_next_start() {
    become_one_if_asked();
    let (folder, sink) = (Folder::new(), Sink::start());
    let test = "recovery::events_of_a_killed_process_are_delivered_by_the_next_start";
    let uuids = Victim::start(test, &sink.host(), folder.path(), 500).kill();
    assert_eq!(folder.files_with("ring").len(), 1);
    assert_eq!(sink.requests().len(), 0, "it had no time to send anything");

    let client = spooling(sink.host(), folder.path()).build().unwrap();
    assert!(sink.wait_for_events(500, PATIENCE));
    assert_eq!(stored(&sink), uuids, "all of them, in their order");
    eventually("the dead file's end", || folder.files_with("ring").len() == 1);
    let stats = conserved(&client);
    assert_eq!((stats.recovered, stats.delivered, stats.pending, stats.spooled), (500, 500, 0, 0));
    let report = client.shutdown();
    assert!(report.is_complete, "{report:?}");
    assert_eq!(folder.files(), [] as [std::path::PathBuf; 0], "everything was answered for");
    assert_eq!(sink.view(|journal| journal.duplicates()), 0);
    sink.assert_clean();
}

#[test]
fn a_living_sibling_delivers_what_a_killed_one_left() {
    become_one_if_asked();
    let (folder, sink) = (Folder::new(), Sink::start());
    let client = spooling(sink.host(), folder.path()).build().unwrap();
    let test = "recovery::a_living_sibling_delivers_what_a_killed_one_left";
    let victim = Victim::start(test, &sink.host(), folder.path(), 20);
    let own = texts(&capture(&client, "from the living", 3));
    client.flush(PATIENCE).unwrap();
    assert_eq!(stored(&sink), own, "the other one lives, and its events are its own");
    let uuids = victim.kill();
    assert!(sink.wait_for_events(23, PATIENCE), "looks again after 1, 5 and 30 s");
    assert_eq!(stored(&sink)[3..], uuids);
    assert_eq!(conserved(&client).recovered, 20);
}

#[test]
fn a_living_process_keeps_its_file_and_disturbs_nobody() {
    become_one_if_asked();
    let (folder, sink) = (Folder::new(), Sink::start());
    let test = "recovery::a_living_process_keeps_its_file_and_disturbs_nobody";
    let victim = Victim::start(test, &sink.host(), folder.path(), 5);
    // Each of these meets the living one's file when it makes room, and when it looks for others.
    for _ in 0..3 {
        let client = spooling(sink.host(), folder.path()).build().unwrap();
        capture(&client, "of another process", 2);
        client.flush(PATIENCE).unwrap();
        let report = client.shutdown();
        assert_eq!((report.stats.delivered, report.stats.recovered, report.is_complete), (2, 0, true));
    }
    assert_eq!(folder.files_with("ring").len(), 1);
    let uuids = victim.kill();
    let report = spooling(sink.host(), folder.path()).build().unwrap().shutdown();
    assert_eq!((report.stats.recovered, report.is_complete), (5, true));
    assert_eq!(stored(&sink)[6..], uuids);
}

#[test]
fn a_shutdown_in_an_outage_leaves_the_rest_for_the_next_start() {
    let folder = Folder::new();
    let sink = Sink::start();
    sink.script(vec![Answer::status(503); 1000]);
    let client = spooling(sink.host(), folder.path()).build().unwrap();
    let uuids = texts(&capture(&client, "left", 50));
    let report = client.shutdown_within(Duration::from_millis(300));
    assert!(!report.is_complete);
    assert_eq!((report.stats.spooled, fates(&report.stats)), (50, (0, 0, 0, 0)));
    conserved(&client);
    drop(client);
    assert_eq!(folder.files_with("ring").len(), 1);

    sink.clear_answers();
    let client = spooling(sink.host(), folder.path()).build().unwrap();
    found(&client, 50);
    let report = client.shutdown();
    assert!(report.is_complete, "{report:?}");
    assert_eq!((report.stats.recovered, report.stats.delivered), (50, 50));
    assert_eq!(stored(&sink), uuids);
    assert_eq!(folder.files(), [] as [std::path::PathBuf; 0]);
    sink.assert_clean();
}

#[test]
fn two_clients_of_one_process_share_a_directory() {
    let (folder, sink) = (Folder::new(), Sink::start());
    let one = spooling(sink.host(), folder.path()).build().unwrap();
    let two = spooling(sink.host(), folder.path()).build().unwrap();
    assert_eq!(folder.files_with("ring").len(), 2);
    let mut uuids: BTreeSet<String> = texts(&capture(&one, "of the first", 10)).into_iter().collect();
    uuids.extend(texts(&capture(&two, "of the second", 10)));
    assert!(one.shutdown().is_complete);
    assert!(two.shutdown().is_complete);
    assert_eq!(stored(&sink).into_iter().collect::<BTreeSet<_>>(), uuids);
    for client in [&one, &two] {
        let stats = conserved(client);
        assert_eq!((stats.accepted, stats.delivered, stats.recovered), (10, 10, 0));
    }
    assert_eq!(folder.files(), [] as [std::path::PathBuf; 0]);
    sink.assert_clean();
}

#[test]
fn events_for_one_project_are_never_sent_to_another() {
    become_one_if_asked();
    let (folder, sink) = (Folder::new(), Sink::builder().api_key("phc_another").start().unwrap());
    let test = "recovery::events_for_one_project_are_never_sent_to_another";
    Victim::start(test, &sink.host(), folder.path(), 5).kill();
    for builder in
        [spooling(refuses().unwrap(), folder.path()), spooling(sink.host(), folder.path()).api_key("phc_another")]
    {
        let report = builder.build().unwrap().shutdown();
        assert_eq!((report.stats.recovered, report.is_complete), (0, true));
    }
    assert_eq!(folder.files_with("ring").len(), 1);
    assert_eq!(sink.requests().len(), 0);
}

#[test]
fn a_discard_erases_what_is_in_the_spool() {
    become_one_if_asked();
    let (folder, sink) = (Folder::new(), Sink::start());
    let test = "recovery::a_discard_erases_what_is_in_the_spool";
    Victim::start(test, &refuses().unwrap(), folder.path(), 5).kill();
    let client = spooling(sink.host(), folder.path()).build().unwrap();
    capture(&client, "unwanted", 5);
    client.discard();
    let stats = conserved(&client);
    assert_eq!((stats.dropped_total(), stats.pending, stats.spooled), (5, 0, 0));
    let others = folder.files_with("ring");
    assert_eq!(others.len(), 1, "another host's events are not ours to erase");
    assert_eq!(sink.requests().len(), 0);
}
