//! Fatal signals of real processes: how they end, and what the next start tells about it.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that fails should stop")]

mod common;

use common::{Ended, Folder, exceptions, message, recover, run_in};
use quillet_support::Sink;
use quillet_support::sink::Event;
use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;

const SEGV: i32 = 11;
const BUS: i32 = 7;
const ILL: i32 = 4;
const FPE: i32 = 8;
const ABRT: i32 = 6;
const TRAP: i32 = 5;

/// Events that the crasher captures before its end.
const EVENTS: usize = 5;

/// Crashes with these words, once with a crash file and once with a spool; has the next start deliver, and gives what is
/// told about the end, which is the same both times.
#[track_caller]
fn crash_and_recover(words: &[&str], found: usize) -> (Ended, Vec<Arc<Event>>) {
    let (_, with_file) = crash_and_recover_once(words, found);
    let (ended, with_spool) = crash_and_recover_once(&[words, &["spool"]].concat(), found);
    let types = |told: &[Arc<Event>]| {
        told.iter().map(|event| event.property("$exception_list")[0]["type"].to_string()).collect::<BTreeSet<_>>()
    };
    assert_eq!(types(&with_file), types(&with_spool), "{words:?}");
    (ended, with_spool)
}

#[track_caller]
fn crash_and_recover_once(words: &[&str], found: usize) -> (Ended, Vec<Arc<Event>>) {
    let (sink, folder) = (Sink::start(), Folder::new());
    let ended = run_in(&folder, &sink, words);
    assert!(sink.stored().is_empty(), "nothing was sent before the end: {words:?}");
    let next = recover(&folder, &sink, found, words);
    assert_eq!(next.number("recovered"), found as u64, "{words:?}: {ended:?} {next:?}");
    let before_the_end = sink.stored().iter().filter(|event| event.name() == "before the end").count();
    assert_eq!(before_the_end, EVENTS, "{words:?}: {ended:?}");
    assert!(folder.files().is_empty(), "{words:?}: {:?}", folder.files());
    sink.assert_clean();
    (ended, exceptions(&sink))
}

#[test]
fn every_fatal_signal_on_every_kind_of_thread_is_told_once() {
    for (end, signal, name, text) in [
        ("segv", SEGV, "SIGSEGV", "invalid memory reference at 0x10 (address not mapped)"),
        ("bus", BUS, "SIGBUS", "(nothing behind the mapping)"),
        ("ill", ILL, "SIGILL", "illegal instruction"),
        ("fpe", FPE, "SIGFPE", "arithmetic error (division by zero)"),
        ("trap", TRAP, "SIGTRAP", "trap"),
        ("abort", ABRT, "SIGABRT", "aborted"),
        ("alloc_error", ABRT, "SIGABRT", "aborted"),
        ("raise_segv", SEGV, "SIGSEGV", "(sent by a process)"),
        ("raise_bus", BUS, "SIGBUS", "(sent by a process)"),
        ("raise_abrt", ABRT, "SIGABRT", "aborted"),
        ("raise_trap", TRAP, "SIGTRAP", "(sent by a process)"),
    ] {
        for thread in ["main", "std", "c"] {
            let (ended, told) = crash_and_recover(&[end, thread, "signals"], EVENTS + 1);
            assert_eq!(ended.status.signal(), Some(signal), "{end} on {thread}: {ended:?}");
            let [event] = &told[..] else { panic!("{end} on {thread}: {} exceptions", told.len()) };
            let entry = &event.property("$exception_list")[0];
            assert_eq!(entry["type"], name, "{end} on {thread}");
            assert!(message(event).contains(text), "{end} on {thread}: {}", message(event));
            assert_eq!(entry["mechanism"]["type"], "signal");
            assert_eq!(entry["mechanism"]["handled"], false);
            assert_eq!(event.property("$exception_level"), "fatal");
            assert_eq!(event.property("$exception_source"), "os.signal");
            assert_eq!(event.property("release"), "1.2.3", "the dead process's, not the next one's");
            let expected = match thread {
                "main" => "main",
                "std" => "worker",
                _ => "crasher",
            };
            assert_eq!(event.property("$exception_thread_name"), expected);
            frames_lie_in_the_program(event);
        }
    }
}

/// At least where it happened is known, and which image that is.
fn frames_lie_in_the_program(event: &Event) {
    let frames = event.property("$exception_list")[0]["stacktrace"]["frames"].as_array().unwrap();
    let last = frames.last().unwrap();
    assert!(last["instruction_addr"].is_string() && last["image_addr"].is_string(), "{last}");
    assert!(event.property("$debug_images").is_array());
}

#[test]
fn an_overflowing_stack_is_told_of_where_threads_have_another_one() {
    for thread in ["main", "std"] {
        let (ended, told) = crash_and_recover(&["stack_overflow", thread, "signals"], EVENTS + 1);
        assert_eq!(ended.status.signal(), Some(ABRT), "the standard library aborts: {ended:?}");
        assert!(ended.err.contains("has overflowed its stack"), "{ended:?}");
        let [event] = &told[..] else { panic!("{} exceptions", told.len()) };
        assert_eq!(event.property("$exception_list")[0]["type"], "SIGSEGV");
        assert!(message(event).contains("probably a stack overflow"), "{}", message(event));
    }
    // On a thread made by C there is none: the end is not told, and costs no event.
    let (sink, folder) = (Sink::start(), Folder::new());
    let ended = run_in(&folder, &sink, &["stack_overflow", "c", "signals", "spool"]);
    assert_eq!(ended.status.signal(), Some(SEGV), "{ended:?}");
    let next = recover(&folder, &sink, EVENTS, &["spool"]);
    assert_eq!((next.number("recovered"), exceptions(&sink).len()), (EVENTS as u64, 0));
    sink.assert_clean();
    // The calling thread is given one if it has none.
    let (ended, told) = crash_and_recover(&["stack_overflow", "main", "signals", "no_stack"], EVENTS + 1);
    assert!(ended.status.signal().is_some(), "{ended:?}");
    assert_eq!(told.len(), 1);
}

#[test]
fn what_a_program_does_with_its_signals_is_respected() {
    // Dealt with: nothing happened.
    for words in [
        &["segv", "main", "signals", "handles"][..],
        &["raise_segv", "main", "signals", "handles"],
        &["segv", "c", "signals", "handles"],
        &["segv", "std", "signals", "handles_on_own_stack"],
        &["segv", "c", "signals", "handles_nested"],
        &["segv", "main", "signals", "handles_once"],
        &["raise_segv", "std", "signals", "handles_plainly"],
        &["raise_segv", "main", "signals", "ignores"],
    ] {
        let (sink, folder) = (Sink::start(), Folder::new());
        let ended = run_in(&folder, &sink, words);
        assert_eq!(ended.status.code(), Some(0), "{words:?}: {ended:?}");
        assert_eq!(sink.stored().len(), EVENTS);
        assert_eq!(exceptions(&sink).len(), 0, "{words:?}");
        assert!(folder.files().is_empty(), "{words:?}: {:?}", folder.files());
    }
    // Reset, aborted, ended otherwise: each as it would have been.
    for (words, signal) in [
        (&["segv", "std", "signals", "resets"][..], SEGV),
        (&["raise_segv", "main", "signals", "resets"], SEGV),
        (&["segv", "c", "signals", "aborts"], ABRT),
        (&["segv", "main", "signals", "forwards"], SEGV),
        (&["raise_segv", "c", "signals", "forwards"], SEGV),
        (&["segv", "std", "signals", "in_front"], SEGV),
        (&["raise_segv", "c", "signals", "in_front"], SEGV),
        (&["segv", "main", "signals", "ignores"], SEGV),
        (&["abort", "main", "signals", "handles_abort"], ABRT),
    ] {
        let (ended, told) = crash_and_recover(words, EVENTS + 1);
        assert_eq!(ended.status.signal(), Some(signal), "{words:?}: {ended:?}");
        assert_eq!(told.len(), 1, "{words:?}");
    }
    let (ended, told) = crash_and_recover(&["segv", "main", "signals", "exits_there"], EVENTS + 1);
    assert_eq!((ended.status.code(), told.len()), (Some(9), 1), "{ended:?}");
}

#[test]
fn a_handler_that_waits_for_ever_does_not_hide_the_end() {
    let (ended, told) = crash_and_recover(&["parked_handler", "main", "signals", "waits"], EVENTS + 1);
    assert_eq!(ended.status.signal(), Some(ILL), "{ended:?}");
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].property("$exception_list")[0]["type"], "SIGILL", "what ended it, not what did not");
    assert_eq!(told[0].property("$exception_thread_name"), "main");
}

#[test]
fn a_runtime_may_unwind_out_of_its_handler() {
    for thread in ["main", "std"] {
        let (sink, folder) = (Sink::start(), Folder::new());
        let ended = run_in(&folder, &sink, &["unwound_handler", thread, "signals", "unwinds"]);
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        assert_eq!(ended.out.matches("unwinds.1").count(), 3);
        assert_eq!((sink.stored().len(), exceptions(&sink).len()), (EVENTS, 0), "{ended:?}");
        assert!(folder.files().is_empty());
        // What comes then is told, and is told of as itself.
        let words = ["unwound_handler", thread, "signals", "unwinds", "then_ill"];
        let (ended, told) = crash_and_recover(&words, EVENTS + 1);
        assert_eq!(ended.status.signal(), Some(ILL), "{ended:?}");
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].property("$exception_list")[0]["type"], "SIGILL");
    }
}

#[test]
fn a_handler_from_before_runs_with_the_mask_it_asked_for() {
    let (sink, folder) = (Sink::start(), Folder::new());
    let ended = run_in(&folder, &sink, &["raise_segv", "main", "signals", "masks"]);
    assert_eq!((ended.status.code(), ended.number("mask")), (Some(0), 1), "{ended:?}");
}

#[test]
fn threads_that_crash_together_are_told_of_once() {
    let (ended, told) = crash_and_recover(&["many_threads", "main", "signals"], EVENTS + 1);
    assert_eq!(ended.status.signal(), Some(SEGV), "{ended:?}");
    assert_eq!(told.len(), 1);
}

#[test]
fn the_panic_that_began_an_abort_is_told_once_and_nothing_that_came_of_it() {
    for (end, expected) in [("double_panic", "first"), ("extern_c", "into C")] {
        let (ended, told) = crash_and_recover(&[end, "std", "signals", "hook"], EVENTS + 1);
        assert_eq!(ended.status.signal(), Some(ABRT), "{ended:?}");
        let [event] = &told[..] else { panic!("{end}: {} exceptions", told.len()) };
        assert_eq!(event.property("$exception_list")[0]["type"], "Panic");
        // Neither the panic in its unwinding, nor what the standard library says about that, nor SIGABRT.
        assert_eq!(message(event), expected);
        assert_eq!(event.property("$exception_level"), "error");
    }
    // Without the hook there is nobody else to tell.
    let (_, told) = crash_and_recover(&["double_panic", "std", "signals"], EVENTS + 1);
    assert_eq!(told[0].property("$exception_list")[0]["type"], "SIGABRT");
}

#[test]
fn a_spool_that_is_cut_off_does_not_take_the_program_with_it() {
    for signals in [
        &["truncated", "std", "spool", "exits"][..],
        &["truncated", "main", "spool", "signals", "hook", "exits"],
        &["truncated", "main", "spool", "exits", "many_clients"],
    ] {
        let (sink, folder) = (Sink::start(), Folder::new());
        let ended = run_in(&folder, &sink, signals);
        assert_eq!(ended.status.code(), Some(7), "{ended:?}");
        assert_eq!((ended.number("alive"), ended.number("durability"), ended.number("conserved")), (1, 0, 1));
        // At the cut, the events from before the end were waiting.
        assert!(ended.number("damaged") >= EVENTS as u64, "{ended:?}");
        assert_eq!(ended.number("delivered"), sink.stored().len() as u64, "{ended:?}");
        assert!(sink.stored().iter().any(|event| event.name() == "long after the cut"));
        assert_eq!(exceptions(&sink).len(), usize::from(signals.contains(&"hook")));
        sink.assert_clean();
    }
    // A fault of the same kind elsewhere is what it always was.
    let (sink, folder) = (Sink::start(), Folder::new());
    let ended = run_in(&folder, &sink, &["bus", "std", "spool"]);
    assert_eq!(ended.status.signal(), Some(BUS), "{ended:?}");
}

#[test]
fn a_client_that_cannot_be_guarded_keeps_its_queue_in_memory_and_says_so() {
    let (sink, folder) = (Sink::start(), Folder::new());
    let ended = run_in(&folder, &sink, &["durability", "main", "spool", "unguarded", "logs", "two_clients"]);
    assert_eq!((ended.status.code(), ended.number("durability")), (Some(0), 0), "{ended:?}");
    let lines = ended.out.lines().filter(|line| line.starts_with("log: ") && line.contains("SIGBUS")).count();
    assert_eq!(lines, 2, "one for each client: {ended:?}");
    assert_eq!(sink.stored().len(), EVENTS);
    assert!(folder.files().is_empty(), "{:?}", folder.files());
}

#[test]
fn the_handlers_need_little_stack() {
    // What an optimised build may use. The standard library's threads have 8 KiB for handlers; the kernel takes up to half.
    let most = if cfg!(debug_assertions) { 12 * 1024 } else { 2 * 1024 };
    for place in ["spool", "crash file"] {
        let (sink, folder) = (Sink::start(), Folder::new());
        let ended = run_in(&folder, &sink, &["raise_segv", "main", "signals", "handles", "measure", place]);
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        let used = ended.number("handler_stack");
        println!("{used} bytes with a {place}");
        assert!((100..=most).contains(&used), "{used} bytes with a {place}");
    }
}

#[test]
fn a_forked_child_is_told_of_once_it_is_a_client_of_its_own() {
    for (end, place, found) in [
        // Its own event and its own end; what the parent had is lost with the parent, which gives no reason to write.
        ("forked_capture", "crash file", 2),
        ("forked_capture", "spool", EVENTS + 2),
        // A child that never captured has no pages: its parent's are not its own to write to.
        ("forked", "spool", EVENTS),
    ] {
        let (sink, folder) = (Sink::start(), Folder::new());
        let ended = run_in(&folder, &sink, &[end, "main", "signals", place]);
        assert_eq!((ended.status.code(), ended.number("child_signal")), (Some(7), SEGV as u64), "{ended:?}");
        let next = recover(&folder, &sink, found, &[place]);
        assert_eq!(next.number("recovered"), found as u64, "{end} with a {place}: {next:?}");
        assert_eq!(exceptions(&sink).len(), usize::from(end == "forked_capture"));
        sink.assert_clean();
    }
}

/// While one thread is in a handler from before, another one forks: the child has neither.
#[test]
fn a_child_forked_in_the_middle_of_a_handler_is_told_of() {
    for (place, found) in [("crash file", 2), ("spool", EVENTS + 2)] {
        let (sink, folder) = (Sink::start(), Folder::new());
        let ended = run_in(&folder, &sink, &["forked_in_handler", "main", "signals", "waits", place]);
        assert_eq!((ended.status.code(), ended.number("child_signal")), (Some(7), ILL as u64), "{ended:?}");
        let next = recover(&folder, &sink, found, &[place]);
        assert_eq!(next.number("recovered"), found as u64, "with a {place}: {next:?}");
        let told = exceptions(&sink);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].property("$exception_list")[0]["type"], "SIGILL");
        sink.assert_clean();
    }
}
