//! Panics in a row: a panic of a destructor while another one unwinds is a part of that; all that are caught are told.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that fails should stop")]

mod common;

use common::{Folder, crash, exceptions, message, recover, run_in};
use quillet_support::Sink;
use std::os::unix::process::ExitStatusExt;

/// Events that the crasher captures before its end.
const EVENTS: usize = 5;

const ABRT: i32 = 6;
const KILL: i32 = 9;

/// The messages of the panics that arrived, in order.
fn messages(sink: &Sink) -> Vec<String> {
    let mut messages: Vec<_> = exceptions(sink).iter().map(|event| message(event).to_owned()).collect();
    messages.sort();
    messages
}

/// What `caught` says, so many times.
fn caught(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("caught {n}")).collect()
}

#[test]
fn a_double_panic_is_told_once_by_its_first_message_whatever_keeps_it() {
    for words in [&["hook"][..], &["hook", "spool"], &["hook", "signals"], &["hook", "signals", "spool"]] {
        for thread in ["main", "std", "c"] {
            let (sink, folder) = (Sink::start(), Folder::new());
            let ended = run_in(&folder, &sink, &[&["double_panic", thread], words].concat());
            assert_eq!(ended.status.signal(), Some(ABRT), "{ended:?}");
            let next = recover(&folder, &sink, EVENTS + 1, words);
            assert_eq!(next.number("recovered"), EVENTS as u64 + 1, "{thread} {words:?}");
            assert_eq!(messages(&sink), ["first"], "{thread} {words:?}");
            assert!(folder.files().is_empty());
            sink.assert_clean();
        }
    }
}

#[test]
fn of_an_abort_everything_before_it_is_told_and_what_caused_it() {
    for (end, expected) in [("caught_then_double", ["caught 0", "first"]), ("caught_then_c", ["caught 0", "into C"])] {
        for words in [&["hook", "signals"][..], &["hook", "signals", "spool"]] {
            let (sink, folder) = (Sink::start(), Folder::new());
            let ended = run_in(&folder, &sink, &[&[end, "std"], words].concat());
            assert_eq!(ended.status.signal(), Some(ABRT), "{ended:?}");
            recover(&folder, &sink, EVENTS + 2, words);
            assert_eq!(messages(&sink), expected, "{end} {words:?}");
            sink.assert_clean();
        }
    }
}

#[test]
fn panics_that_are_caught_in_a_row_are_all_told() {
    for words in [&["main", "hook"][..], &["std", "hook"], &["c", "hook"], &["std", "hook", "pumped"]] {
        let sink = Sink::start();
        let ended = crash(&sink, &[&["caught_five"], words].concat());
        assert_eq!((ended.status.code(), ended.number("rate_limited")), (Some(0), 0), "{ended:?}");
        assert_eq!(messages(&sink), caught(5), "{words:?}");
        sink.assert_clean();
    }
    // By each of two clients.
    let sink = Sink::start();
    crash(&sink, &["caught_five", "std", "hook", "two_clients"]);
    let twice: Vec<_> = caught(5).into_iter().flat_map(|message| [message.clone(), message]).collect();
    assert_eq!(messages(&sink), twice);
    // A panic that is held costs nothing that another one does not.
    let sink = Sink::start();
    let ended = crash(&sink, &["caught_five", "std", "hook", "own_hook"]);
    assert_eq!((ended.number("allocations"), exceptions(&sink).len()), (0, 5));
}

#[test]
fn panics_of_several_threads_do_not_get_into_each_others_way() {
    let sink = Sink::start();
    let ended = crash(&sink, &["caught_on_threads", "main", "hook"]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let expected: Vec<_> = caught(5).into_iter().flat_map(|message| std::iter::repeat_n(message, 4)).collect();
    assert_eq!(messages(&sink), expected);
    sink.assert_clean();
}

/// Nobody asks for a flush or ends the client: time alone has the last one queued, and in the file.
#[test]
fn a_process_that_lives_on_has_the_last_one_queued() {
    for words in [
        &["std", "hook", "spool"][..],
        &["std", "hook"],
        &["main", "hook", "spool", "idle"],
        &["main", "hook", "spool", "pumped"],
    ] {
        let (sink, folder) = (Sink::start(), Folder::new());
        let ended = run_in(&folder, &sink, &[&["caught_five_and_lives"], words].concat());
        assert_eq!(ended.status.code(), Some(7), "{ended:?}");
        assert!(sink.requests().is_empty(), "nothing was sent before the end");
        recover(&folder, &sink, EVENTS + 5, words);
        assert_eq!(messages(&sink), caught(5), "{words:?}");
        sink.assert_clean();
    }
}

#[test]
fn a_process_that_is_killed_has_told_all_but_the_last() {
    let (sink, folder) = (Sink::start(), Folder::new());
    let ended = run_in(&folder, &sink, &["caught_and_killed", "std", "hook", "spool"]);
    assert_eq!(ended.status.signal(), Some(KILL), "{ended:?}");
    recover(&folder, &sink, EVENTS + 1, &["spool"]);
    let messages = messages(&sink);
    // The second one too if it took a tenth of a second to kill it.
    assert!(messages == caught(1) || messages == caught(2), "{messages:?}");
    sink.assert_clean();
}

#[test]
fn whoever_wants_everything_out_gets_the_last_one_too() {
    let (sink, folder) = (Sink::start(), Folder::new());
    let ended = run_in(&folder, &sink, &["caught_and_written", "std", "hook"]);
    assert_eq!(ended.status.code(), Some(7), "{ended:?}");
    recover(&folder, &sink, EVENTS + 2, &[]);
    assert_eq!(messages(&sink), caught(2));
    for pumped in ["pumped", "threaded"] {
        let sink = Sink::start();
        let ended = crash(&sink, &["caught_and_flushed", "std", "hook", pumped]);
        assert_eq!(ended.status.code(), Some(7), "{ended:?}");
        assert_eq!(messages(&sink), caught(2));
        sink.assert_clean();
    }
}

#[test]
fn what_is_erased_is_not_told() {
    for words in [&["caught_and_opted_out", "std", "hook"][..], &["caught_and_opted_out", "std", "hook", "spool"]] {
        let (sink, folder) = (Sink::start(), Folder::new());
        let ended = run_in(&folder, &sink, words);
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        assert!(sink.stored().is_empty() && folder.files().is_empty(), "{:?}", folder.files());
    }
}

#[test]
fn whatever_ends_the_client_meanwhile_each_panic_is_accepted_or_refused_once() {
    for how in ["shuts_down", "discards", "pumped", "spool"] {
        for _ in 0..5 {
            let (sink, folder) = (Sink::start(), Folder::new());
            let ended = run_in(&folder, &sink, &["caught_while_closing", "main", "hook", how]);
            assert_eq!(ended.status.code(), Some(0), "{ended:?}");
            assert_eq!(ended.number("accounted_for"), 20, "{how}: {ended:?}");
            if how != "discards" {
                assert_eq!(exceptions(&sink).len() as u64, ended.number("accepted"), "{how}: {ended:?}");
            }
            sink.assert_clean();
        }
    }
}

#[test]
fn a_forked_child_tells_its_own_panics_only() {
    for words in [&["std", "hook"][..], &["std", "hook", "spool"]] {
        let (sink, folder) = (Sink::start(), Folder::new());
        let ended = run_in(&folder, &sink, &[&["caught_and_forked"], words].concat());
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        assert!(sink.stored().iter().any(|event| event.name() == "in the child"));
        // The child's one, and both of its parent's.
        assert_eq!(messages(&sink), ["caught 0", "caught 0", "caught 1"], "{words:?}");
        sink.assert_clean();
    }
}
