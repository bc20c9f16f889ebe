//! What drivers in other languages rely on: lines, numbers, modes, and a death that stays what it was.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that fails should stop")]

mod common;

use common::{Scene, program};
use quillet_support::Sink;
use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Duration;
use torture::{PATIENCE, Start, own_fate};

#[test]
fn it_captures_what_it_says_and_shuts_down_when_told_to() {
    let mut scene = Scene::new();
    let mut start = scene.start();
    (start.threads, start.rate, start.max) = (3, 0, Some(50));
    let victim = start.spawn();
    victim.wait_for_accepted(50);
    let said = victim.stop(PATIENCE).unwrap();
    assert!(said.is_ready && said.is_shut_down && said.status.unwrap().success(), "{said:?}");
    assert_eq!(said.accepted.iter().collect::<BTreeSet<_>>().len(), 50, "and not one more");
    scene.hear(said);
    let producers: BTreeSet<_> =
        scene.sink.stored().iter().filter_map(|event| event.property("producer").as_u64()).collect();
    assert!(producers.iter().all(|producer| *producer < 3) && !producers.is_empty());
    assert_eq!(scene.folder.files(), [] as [std::path::PathBuf; 0]);
    assert_eq!(scene.verdict().stored, 50);
}

/// Nothing but what the interface names, and that literally.
#[test]
fn its_output_is_lines_of_the_five_kinds() {
    let (scene, sink) = (Scene::new(), Sink::start());
    let output = Command::new(program())
        .env_clear()
        .env("POSTHOG_HOST", sink.host())
        .env("POSTHOG_API_KEY", "phc_other")
        .env("POSTHOG_SPOOL_DIR", scene.folder.spool())
        .env("TORTURE_SEQ_START", "3000000")
        .env("TORTURE_MAX", "2")
        .env("TORTURE_CRASH", "exit")
        .env("TORTURE_CRASH_AFTER_MS", "200")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "R\nC 3000000\nC 3000001\n");
    let mut start = Start::new(program(), sink.host(), scene.folder.spool());
    start.is_recovery = true;
    start.crash = Some(("sing", Duration::ZERO));
    let said = start.spawn().wait(PATIENCE).unwrap();
    assert_eq!(said.unsupported.as_deref(), Some("sing"));
    assert!(said.is_shut_down && said.nonsense.is_empty(), "{said:?}");
}

#[test]
fn a_recovery_without_anything_to_recover_ends_by_itself() {
    Scene::new().recover();
}

/// Each way to crash, as far as this machine has it: the process dies of it, and nothing accepted is missing afterwards. What
/// the `$exception` says is the subject of `tests/crash`.
#[test]
fn every_crash_is_its_own_death_and_loses_nothing() {
    for (name, exceptions) in [
        ("panic", 1),
        ("panic_thread", 1),
        ("panic_drop", 1),
        ("abort", 1),
        ("segv", 1),
        ("bus", 1),
        ("ill", 1),
        ("fpe", 1),
        ("stack_overflow", 1),
        ("stack_overflow_thread", 1),
        ("alloc_error", 1),
        ("exit", 0),
        ("_exit", 0),
        ("return", 0),
    ] {
        let mut scene = Scene::new();
        let mut start = scene.start();
        (start.threads, start.rate) = (2, 0);
        start.crash = Some((name, Duration::from_millis(30)));
        let said = start.spawn().wait(PATIENCE).unwrap();
        assert!(said.is_ready && !said.is_shut_down && own_fate(name, said.status.unwrap()), "{name}: {said:?}");
        assert!(!said.accepted.is_empty(), "{name}");
        scene.hear(said);
        scene.recover();
        assert_eq!(scene.verdict().exceptions, exceptions, "{name}");
    }
}
