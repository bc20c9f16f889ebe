//! Programs without a spool: what is pending at the end is in a file, and the next start delivers it, once.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that fails should stop")]

mod common;

use common::{Folder, exceptions, message, recover, run, run_in};
use quillet_support::Sink;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

/// Events that the crasher captures before its end.
const EVENTS: usize = 5;

/// The exit status that its ends by `exit` have.
const EXITED: Option<i32> = Some(7);

#[test]
fn what_was_written_is_delivered_by_the_next_start_and_only_by_that() {
    for (words, more) in [
        (&["write", "main"][..], 0),
        (&["fatal", "std"], 1),
        (&["panic", "std", "hook", "exits"], 1),
        (&["caught_once", "c", "hook", "exits", "person"], 1),
    ] {
        let (sink, folder) = (Sink::start(), Folder::new());
        let ended = run_in(&folder, &sink, words);
        assert_eq!(ended.status.code(), EXITED, "{ended:?}");
        assert!(sink.requests().is_empty(), "nothing was sent before the end");
        let next = recover(&folder, &sink, EVENTS + more, words);
        assert_eq!(next.number("recovered"), (EVENTS + more) as u64);
        assert!(folder.files().is_empty());
        let stored = sink.stored();
        assert_eq!(stored.len(), EVENTS + more);
        assert!(stored.iter().all(|event| event.property("release") == "1.2.3"));
        assert_eq!(exceptions(&sink).len(), more);
        let again = recover(&folder, &sink, 0, words);
        assert_eq!(again.number("recovered"), 0);
        assert_eq!(sink.stored().len(), EVENTS + more);
        assert_eq!(sink.view(|journal| journal.duplicates()), 0);
        sink.assert_clean();
    }
}

#[test]
fn a_panic_that_aborts_is_in_the_file() {
    for (end, first) in [("double_panic", "first"), ("extern_c", "into C")] {
        for thread in ["main", "std", "c"] {
            let (sink, folder) = (Sink::start(), Folder::new());
            let ended = run_in(&folder, &sink, &[end, thread, "hook"]);
            assert_eq!(ended.status.signal(), Some(6), "{ended:?}");
            recover(&folder, &sink, EVENTS + 1, &[]);
            let [event] = &exceptions(&sink)[..] else { panic!("{end}: not one exception") };
            assert_eq!(message(event), first);
            sink.assert_clean();
        }
    }
}

#[test]
fn without_a_reason_nothing_is_written_and_the_empty_file_goes() {
    let (sink, folder) = (Sink::start(), Folder::new());
    let ended = run_in(&folder, &sink, &["exit", "main"]);
    assert_eq!(ended.status.code(), EXITED);
    let files = folder.files();
    let [file] = &files[..] else { panic!("{files:?}") };
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("quillet-crash-") && name.ends_with(".jsonl"), "{name}");
    let metadata = file.metadata().unwrap();
    assert_eq!((metadata.len(), metadata.permissions().mode() & 0o777), (0, 0o600));
    // A moment ago somebody may have made it, who is about to say that it is his.
    folder.age();
    recover(&folder, &sink, 0, &["looks"]);
    assert!(folder.files().is_empty());
    assert!(sink.requests().is_empty());
}

#[test]
fn a_program_that_ends_in_order_leaves_no_file() {
    let (sink, folder) = (Sink::start(), Folder::new());
    let ended = run_in(&folder, &sink, &["return", "main", "hook", "signals"]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(sink.stored().len(), EVENTS);
    assert!(folder.files().is_empty());
}

#[test]
fn what_is_delivered_after_all_does_not_stay_in_the_file() {
    let (sink, folder) = (Sink::start(), Folder::new());
    let ended = run_in(&folder, &sink, &["write_and_flush", "main"]);
    assert_eq!(ended.status.code(), EXITED, "{ended:?}");
    assert_eq!(sink.stored().len(), EVENTS);
    folder.age();
    recover(&folder, &sink, 0, &["looks"]);
    // Had the file been emptied a moment too late, the server would know the events again.
    assert_eq!(sink.stored().len(), EVENTS);
    assert!(folder.files().is_empty());

    let (sink, folder) = (Sink::start(), Folder::new());
    run_in(&folder, &sink, &["write_twice", "main"]);
    let next = recover(&folder, &sink, 1, &[]);
    assert_eq!(next.number("recovered"), 1, "of the longer file before, nothing is read");
    assert_eq!(sink.stored().len(), EVENTS + 1);
    assert_eq!(sink.view(|journal| journal.duplicates()), 0);
    sink.assert_clean();
}

#[test]
fn a_file_written_while_all_threads_work_holds_whole_events_only() {
    for _ in 0..3 {
        let (sink, folder) = (Sink::start(), Folder::new());
        let ended = run_in(&folder, &sink, &["write_while_working", "main", "signals"]);
        assert_eq!(ended.status.signal(), Some(6), "{ended:?}");
        let next = recover(&folder, &sink, 1, &[]);
        assert!(next.number("recovered") > 0);
        assert_eq!(exceptions(&sink).len(), 1);
        sink.assert_clean();
    }
}

#[test]
fn a_file_is_delivered_to_its_own_project_only() {
    let (sink, folder) = (Sink::start(), Folder::new());
    run_in(&folder, &sink, &["write", "main"]);
    let before = folder.files();
    let other = Sink::start();
    recover(&folder, &other, 0, &["looks"]);
    assert!(other.requests().is_empty());
    assert_eq!(folder.files(), before);
    recover(&folder, &sink, EVENTS, &[]);
    assert!(folder.files().is_empty());
}

#[test]
fn whatever_lies_in_the_directory_does_no_harm() {
    let (sink, folder) = (Sink::start(), Folder::new());
    run_in(&folder, &sink, &["write", "main"]);
    let good = std::fs::read(&folder.files()[0]).unwrap();
    let name = |what: &str| folder.path.join(format!("quillet-crash-{what}.jsonl"));
    std::fs::write(name("garbage"), [0xff; 10_000]).unwrap();
    std::fs::write(name("half"), &good[..good.len() - 10]).unwrap();
    std::fs::write(name("head"), &good[..20]).unwrap();
    std::fs::create_dir(name("folder")).unwrap();
    let elsewhere = Folder::new();
    std::fs::write(elsewhere.path.join("secret"), &good).unwrap();
    symlink(elsewhere.path.join("secret"), name("link")).unwrap();
    let next = recover(&folder, &sink, 2 * EVENTS - 1, &[]);
    assert_eq!(
        next.number("recovered"),
        2 * EVENTS as u64 - 1,
        "the whole file, and the half one without its last line"
    );
    assert_eq!(sink.stored().len(), EVENTS, "the same events, and the server knows them again");
    assert!(elsewhere.path.join("secret").exists());
    let left: Vec<_> = folder.files().into_iter().filter(|file| file.extension().unwrap() == "jsonl").collect();
    assert_eq!(left, [name("link")], "what cannot be read was put aside");
    sink.assert_clean();
}

#[test]
fn a_directory_that_cannot_be_used_costs_the_file_and_nothing_else() {
    let sink = Sink::start();
    let crasher = Path::new(env!("CARGO_BIN_EXE_crasher"));
    let ended = run(crasher, &sink, Some(Path::new("/proc/nowhere")), &["panic", "std", "hook"]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(sink.stored().len(), EVENTS + 1);

    // Where files may not be as long as the queue, a write would kill.
    let (sink, folder) = (Sink::start(), Folder::new());
    let limited = ["-c", "ulimit -f 8; exec \"$0\" panic std hook exits", crasher.to_str().unwrap()];
    let ended = run(Path::new("sh"), &sink, Some(&folder.path), &limited);
    assert_eq!(ended.status.code(), EXITED, "{ended:?}");
    assert!(folder.files().is_empty());
}

#[test]
fn whoever_opts_out_leaves_nothing_behind() {
    let (sink, folder) = (Sink::start(), Folder::new());
    for name in ["aside.bad", "garbage.jsonl"] {
        std::fs::write(folder.path.join(format!("quillet-crash-{name}")), [0xff; 1000]).unwrap();
    }
    let ended = run_in(&folder, &sink, &["opt_out", "main"]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(folder.files().is_empty(), "{:?}", folder.files());
    assert!(sink.requests().is_empty());
}

#[test]
fn other_projects_files_are_in_nobodys_way() {
    let (sink, folder) = (Sink::start(), Folder::new());
    run_in(&folder, &sink, &["write", "main"]);
    let ours = std::fs::read_to_string(&folder.files()[0]).unwrap();
    let (before, after) = ours.split_once("\"owner\":\"").unwrap();
    let theirs = format!("{before}\"owner\":\"{}{}", "0".repeat(32), &after[32..]);
    for n in 0..40 {
        std::fs::write(folder.path.join(format!("quillet-crash-ffffffff-{n:02}.jsonl")), &theirs).unwrap();
    }
    let next = recover(&folder, &sink, EVENTS, &[]);
    assert_eq!((next.number("recovered"), next.number("delivered")), (EVENTS as u64, EVENTS as u64));
    assert_eq!(folder.files().len(), 40);
}

#[test]
fn a_program_that_crashes_again_and_again_keeps_its_last_files() {
    let (sink, folder) = (Sink::start(), Folder::new());
    run_in(&folder, &sink, &["write", "main"]);
    let one = std::fs::read(&folder.files()[0]).unwrap();
    for n in 0..40 {
        std::fs::write(folder.path.join(format!("quillet-crash-00000000-0000-7000-8000-0000000000{n:02}.jsonl")), &one)
            .unwrap();
    }
    // Sixteen at once, and the others at the second look.
    let next = recover(&folder, &sink, 32 * EVENTS, &[]);
    assert_eq!(next.number("recovered"), 41 * EVENTS as u64);
    assert_eq!(next.number("delivered"), 32 * EVENTS as u64);
    assert!(folder.files().is_empty());
}
