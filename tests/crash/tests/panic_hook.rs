//! Panics of real processes: what is reported of them, what it costs, and that nothing else changes.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that fails should stop")]

mod common;

use common::{Folder, crash, exceptions, message, run_in};
use quillet_support::Sink;
use quillet_support::sink::Event;
use std::os::unix::process::ExitStatusExt;

/// Exit status of a program whose first thread panicked.
const PANICKED: Option<i32> = Some(101);

#[test]
fn a_panic_is_reported_with_place_thread_and_stack() {
    for (thread, name, code) in [("main", "main", PANICKED), ("std", "worker", Some(0))] {
        let sink = Sink::start();
        let ended = crash(&sink, &["panic", thread, "hook"]);
        assert_eq!(ended.status.code(), code, "{ended:?}");
        assert!(ended.err.contains("the bank broke"), "the standard library's message is printed: {ended:?}");
        let [event] = &exceptions(&sink)[..] else { panic!("not one exception: {ended:?}") };
        let entry = &event.property("$exception_list")[0];
        assert_eq!((&entry["type"], &entry["value"]), (&"Panic".into(), &"the bank broke".into()));
        assert_eq!(entry["mechanism"]["type"], "panic");
        assert_eq!(event.property("$exception_source"), "rust.panic_hook");
        assert_eq!(event.property("$exception_level"), "error", "nobody knows yet whether it is caught");
        assert!(entry["mechanism"].get("handled").is_none());
        assert_eq!(event.property("$exception_thread_name"), name);
        assert!(event.property("$exception_panic_file").as_str().unwrap().ends_with("src/end.rs"));
        assert!(event.property("$exception_panic_line").as_u64().unwrap() > 1);
        assert_eq!(event.property("$process_person_profile"), false);
        assert_eq!(event.distinct_id(), event.uuid());
        assert_eq!(event.property("release"), "1.2.3");
        stack_leads_into_the_program(event);
        assert_eq!(sink.stored().len(), 6, "what was captured before is there too");
        sink.assert_clean();
    }
}

/// On its way the panic drops the last handle, which shuts down as ever.
#[test]
fn a_panic_that_unwinds_past_the_last_handle_delivers_everything() {
    for words in [&["panic", "main", "hook"][..], &["panic", "main", "hook", "spool"]] {
        let (sink, folder) = (Sink::start(), Folder::new());
        let ended = run_in(&folder, &sink, words);
        assert_eq!(ended.status.code(), PANICKED, "{ended:?}");
        assert_eq!((sink.stored().len(), exceptions(&sink).len()), (6, 1), "{words:?}");
        assert!(folder.files().is_empty(), "{words:?}: {:?}", folder.files());
        sink.assert_clean();
    }
}

/// Frames with addresses inside the program's image, whose build id is known, and the place in the source at the end.
fn stack_leads_into_the_program(event: &Event) {
    let frames = event.property("$exception_list")[0]["stacktrace"]["frames"].as_array().unwrap();
    let (place, calls) = frames.split_last().unwrap();
    assert!(place["filename"].as_str().unwrap().ends_with("src/end.rs"));
    assert!(calls.len() > 3, "{frames:?}");
    assert!(calls.iter().all(|frame| frame["instruction_addr"].is_string()));
    if cfg!(target_os = "linux") {
        assert!(calls.iter().any(|frame| frame["in_app"] == true), "{frames:?}");
        assert!(calls.iter().all(|frame| frame["image_addr"].is_string()), "{frames:?}");
        let images = event.property("$debug_images").as_array().unwrap();
        assert!(images.iter().any(|image| image["code_file"].as_str().unwrap().ends_with("crasher")), "{images:?}");
    }
}

#[test]
fn a_panic_is_of_the_person_set_for_it() {
    let sink = Sink::start();
    crash(&sink, &["panic", "std", "hook", "person"]);
    let [event] = &exceptions(&sink)[..] else { panic!("not one exception") };
    assert_eq!(event.distinct_id(), "somebody");
    assert!(event.property("$process_person_profile").is_null());

    let sink = Sink::start();
    crash(&sink, &["panic", "std", "hook", "bad_person"]);
    let [event] = &exceptions(&sink)[..] else { panic!("not one exception") };
    assert_eq!(event.distinct_id(), event.uuid(), "an id the server would not take counts as none");
    sink.assert_clean();
}

/// Everything that is said of a panic, but for what differs from run to run: addresses, images, numbers of threads, lines.
#[test]
fn a_panic_says_exactly_this() {
    let sink = Sink::start();
    crash(&sink, &["panic", "std", "hook"]);
    let [event] = &exceptions(&sink)[..] else { panic!("not one exception") };
    let mut properties = event.value["properties"].clone();
    properties.as_object_mut().unwrap().remove("$debug_images");
    properties["$exception_panic_line"] = 0.into();
    properties["$exception_panic_column"] = 0.into();
    let entry = &mut properties["$exception_list"][0];
    if cfg!(target_os = "linux") {
        assert!(entry["thread_id"].is_i64());
        entry.as_object_mut().unwrap().remove("thread_id");
    }
    let frames = entry["stacktrace"]["frames"].as_array_mut().unwrap();
    frames.retain(|frame| frame.get("instruction_addr").is_none());
    frames[0]["lineno"] = 0.into();
    frames[0]["colno"] = 0.into();
    let file = "tests/crash/src/end.rs";
    let golden = serde_json::json!({
        "$lib": "quillet", "$lib_version": env!("CARGO_PKG_VERSION"), "$is_server": true, "release": "1.2.3",
        "$process_person_profile": false,
        "$exception_level": "error",
        "$exception_source": "rust.panic_hook",
        "$exception_list": [{
            "type": "Panic", "value": "the bank broke",
            "mechanism": {"type": "panic", "exception_id": 0},
            "stacktrace": {"type": "raw", "frames": [
                {"platform": "native", "lang": "rust", "filename": file, "lineno": 0, "colno": 0, "in_app": true},
            ]},
        }],
        "$exception_panic_file": file, "$exception_panic_line": 0, "$exception_panic_column": 0,
        "$exception_thread_name": "worker",
    });
    assert_eq!(properties, golden);
}

#[test]
fn a_panic_takes_the_person_and_properties_of_its_scope_and_the_steps_before_it() {
    for thread in ["main", "std", "c"] {
        let sink = Sink::start();
        let ended = crash(&sink, &["scoped", thread, "hook", "person", "deny", "own_hook"]);
        assert_eq!(ended.number("allocations"), 0, "on {thread}");
        let [event] = &exceptions(&sink)[..] else { panic!("not one exception") };
        assert_eq!((event.distinct_id(), event.property("route")), ("ada", &"/checkout".into()));
        let steps = event.property("$exception_steps").as_array().unwrap();
        let messages: Vec<_> = steps.iter().map(|step| step["$message"].as_str().unwrap()).collect();
        assert_eq!(messages, ["before", "card entered", "of the same scope"]);
        assert!(!event.text.contains("hunter2"), "{}", event.text);
        sink.assert_clean();
    }
}

#[test]
fn every_kind_of_message_is_taken_and_long_ones_are_cut() {
    for (end, expected) in [
        ("panic_static", "broke".to_owned()),
        ("panic_payload", "(a payload that is no text)".to_owned()),
        ("panic_long", "ä".repeat(4096)),
        ("panic_in_drop", "in drop".to_owned()),
    ] {
        let sink = Sink::start();
        crash(&sink, &[end, "std", "hook"]);
        let [event] = &exceptions(&sink)[..] else { panic!("{end}: not one exception") };
        assert_eq!(message(event), expected, "{end}");
        sink.assert_clean();
    }
}

#[test]
fn the_hook_allocates_nothing_and_calls_the_one_before_it() {
    for thread in ["main", "std", "c"] {
        let sink = Sink::start();
        let ended = crash(&sink, &["caught", thread, "hook", "own_hook"]);
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        assert_eq!(ended.number("hook_calls"), 30);
        assert_eq!(ended.number("allocations"), 0, "on {thread}");
    }
}

#[test]
fn caught_panics_are_reported_twenty_times_a_minute_and_counted_beyond() {
    let sink = Sink::start();
    let ended = crash(&sink, &["caught", "std", "hook"]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let reported = exceptions(&sink);
    // A minute may end meanwhile, and another one begin.
    assert!((20..=30).contains(&reported.len()), "{}", reported.len());
    assert_eq!(reported.len() as u64 + ended.number("rate_limited"), 30);
    assert_eq!(message(&reported[0]), "caught 0");
    sink.assert_clean();
}

#[test]
fn a_full_queue_still_takes_the_news_of_a_panic() {
    let sink = Sink::start();
    crash(&sink, &["full_queue", "main", "hook"]);
    let [event] = &exceptions(&sink)[..] else { panic!("not one exception") };
    assert_eq!(message(event), "caught 0");
    assert!(sink.stored().len() > 900);
}

#[test]
fn without_the_hook_nothing_is_reported() {
    let sink = Sink::start();
    let ended = crash(&sink, &["panic", "main"]);
    assert_eq!(ended.status.code(), PANICKED);
    assert_eq!(exceptions(&sink).len(), 0);
}

#[test]
fn two_clients_report_each_panic_each() {
    let sink = Sink::start();
    crash(&sink, &["panic", "std", "hook", "two_clients"]);
    let events = exceptions(&sink);
    assert_eq!(events.len(), 2);
    assert_eq!(events.iter().filter(|event| event.property("client") == 2).count(), 1);
    assert_ne!(events[0].uuid(), events[1].uuid());
}

#[test]
fn a_panic_that_aborts_ends_as_it_would_without_the_hook() {
    const ABORTED: Option<i32> = Some(6);
    for end in ["double_panic", "extern_c"] {
        for thread in ["main", "std"] {
            let sink = Sink::start();
            let with = crash(&sink, &[end, thread, "hook"]);
            let without = crash(&sink, &[end, thread]);
            assert_eq!((with.status.signal(), without.status.signal()), (ABORTED, ABORTED), "{with:?}");
            let panics = |text: &str| text.lines().filter(|line| line.contains("panicked at")).count();
            assert_eq!(panics(&with.err), panics(&without.err));
        }
    }
}
