//! The same program built with `panic = "abort"`: every panic is the end, and the next start tells of it once.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that fails should stop")]

mod common;

use common::{Folder, exceptions, message, recover, run};
use quillet_support::Sink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Events that the crasher captures before its end.
const EVENTS: usize = 5;

const ABRT: i32 = 6;

/// The program, built with the profile `aborting`, all of its libraries too.
fn program() -> PathBuf {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--offline", "--profile", "aborting", "--features", "abort"])
        .args(["--package", "quillet-crash", "--bin", "crasher_abort"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .unwrap();
    assert!(built.success());
    // <target>/<profile>/crasher is the one that unwinds.
    let target = Path::new(env!("CARGO_BIN_EXE_crasher")).parent().and_then(Path::parent).unwrap();
    target.join("aborting").join("crasher_abort")
}

#[test]
fn every_panic_is_the_end_and_is_told_with_its_message() {
    let program = program();
    for (words, spool) in
        [(&["hook"][..], ""), (&["hook", "signals"], ""), (&["hook"], "spool"), (&["hook", "signals"], "spool")]
    {
        for (end, text) in [("panic", "the bank broke"), ("panic_in_drop", "in drop"), ("double_panic", "first")] {
            for thread in ["main", "std", "c"] {
                let (sink, folder) = (Sink::start(), Folder::new());
                let all = [&[end, thread, spool], words].concat();
                let ended = run(&program, &sink, Some(&folder.path), &all);
                assert_eq!(ended.status.signal(), Some(ABRT), "{all:?}: {ended:?}");
                assert!(ended.err.contains(text), "the standard library's message is printed: {ended:?}");
                let next = recover(&folder, &sink, EVENTS + 1, &all);
                assert_eq!(next.number("recovered"), EVENTS as u64 + 1, "{all:?}");
                let told = exceptions(&sink);
                let [event] = &told[..] else { panic!("{all:?}: {} exceptions", told.len()) };
                assert_eq!(message(event), text, "{all:?}");
                assert_eq!(event.property("$exception_level"), "fatal");
                assert_eq!(event.property("$exception_list")[0]["mechanism"]["handled"], false);
                assert_eq!(event.property("release"), "1.2.3");
                sink.assert_clean();
            }
        }
    }
}
