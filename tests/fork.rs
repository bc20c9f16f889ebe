//! A process that forks: parent and child both go on capturing with the handles they have, as two clients.
//!
//! Forking a process with several threads is what a pre-fork server does, and what a test harness is; so these children only
//! do what such a child may, and end with `_exit`.

#![cfg(unix)]
#![allow(unsafe_code, reason = "fork, waitpid and _exit")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that fails should stop")]

mod common;

use common::{PATIENCE, accepted, capture, check, conserved, quick};
use quillet::{CaptureError, Client, Event, HookVerdict, Uuid};
use quillet_support::Sink;
use std::collections::HashSet;
use std::panic::{catch_unwind, panic_any};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// One test at a time: a raw `clone` does not wait until nobody holds the allocator's lock, as `fork` does.
static TURN: Mutex<()> = Mutex::new(());

/// Runs `child` in a forked child, which must return true there, and waits for the child's end.
fn in_a_child(child: impl FnOnce() -> bool) {
    // SAFETY: the child runs `child` and ends; it never returns into the harness, whose threads it does not have.
    wait_for(match unsafe { libc::fork() } {
        0 => end(child()),
        pid => pid,
    });
}

/// Ends a child without running what belongs to its parent.
fn end(success: bool) -> ! {
    // SAFETY: always allowed.
    unsafe { libc::_exit(i32::from(!success)) }
}

#[track_caller]
fn wait_for(pid: libc::pid_t) {
    let mut status = 0;
    // SAFETY: `status` is a valid place for an int, and `pid` a child of this process.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "the child said {status:#x}");
}

/// What a child does with a client it inherited.
fn capture_and_flush(client: &Client, name: &str) -> bool {
    (0..5).all(|_| client.capture(Event::new(name, "customer-7")).is_accepted())
        && client.flush(PATIENCE).is_ok()
        && client.stats().delivered == 5
        && client.stats().is_conserved()
}

fn names(sink: &Sink, name: &str) -> usize {
    sink.stored().iter().filter(|event| event.name() == name).count()
}

#[test]
fn both_sides_capture_and_no_uuid_is_given_twice() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    for pumped in [false, true] {
        let sink = Sink::start();
        let hooks = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&hooks);
        let builder = quick(sink.host()).super_property("service", "checkout").before_send(move |_| {
            seen.fetch_add(1, Ordering::Relaxed);
            HookVerdict::Send
        });
        let client = if pumped { builder.without_thread() } else { builder }.build().unwrap();
        capture(&client, "parent", 3);
        assert!(client.set_super_property("zone", "a"));
        in_a_child(|| {
            let delivered = capture_and_flush(&client, "child") && hooks.load(Ordering::Relaxed) == 8;
            in_a_child(|| capture_and_flush(&client, "grandchild"));
            drop(client.clone());
            delivered
        });
        capture(&client, "parent", 3);
        client.flush(PATIENCE).unwrap();
        assert_eq!((client.stats().accepted, client.stats().delivered), (6, 6));
        check(&client, &sink);
        assert_eq!((names(&sink, "parent"), names(&sink, "child"), names(&sink, "grandchild")), (6, 5, 5));
        let stored = sink.stored();
        let uuids: HashSet<_> = stored.iter().map(|event| event.uuid().to_owned()).collect();
        assert_eq!(uuids.len(), stored.len());
        let of_children = stored.iter().filter(|event| event.name() != "parent");
        assert!(
            of_children
                .into_iter()
                .all(|event| event.property("zone") == "a" && event.property("service") == "checkout")
        );
    }
}

/// Whatever lock another thread holds at the moment of the fork, it is held for ever in the child.
#[test]
fn a_fork_in_the_middle_of_everything_leaves_a_working_child() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let sink = Sink::start();
    let client = quick(sink.host()).max_queue_size(100_000).flush_at(50).build().unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = client.capture(Event::new("busy", "customer-7"));
                client.set_super_property("n", 1);
                client.stats();
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = client.flush(PATIENCE);
            }
        });
        for _ in 0..20 {
            in_a_child(|| capture_and_flush(&client, "child"));
        }
        stop.store(true, Ordering::Relaxed);
    });
    client.flush(PATIENCE).unwrap();
    conserved(&client);
    sink.assert_clean();
    assert_eq!(names(&sink, "child"), 100);
}

/// `pthread_atfork` does not run for it.
#[cfg(target_os = "linux")]
#[test]
fn a_raw_clone_is_noticed_too() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    let first = accepted(client.capture(Event::new("parent", "customer-7")));
    // SAFETY: with no flags but the signal, `clone` is `fork` without the library's handlers; the child only captures, which
    // needs no lock of the library's that another thread could hold, and ends.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
    if pid == 0 {
        let uuid: Option<Uuid> = client.capture(Event::new("child", "customer-7")).uuid();
        end(uuid.is_some_and(|uuid| uuid != first) && client.stats().accepted == 1);
    }
    wait_for(libc::pid_t::try_from(pid).unwrap());
    client.flush(PATIENCE).unwrap();
    assert_eq!(check(&client, &sink).accepted, 1);
}

/// The parent's pages are not there in the child, whoever made it; what the child accepts is in a file of the child's.
#[cfg(target_os = "linux")]
#[test]
fn a_raw_clone_beside_a_spool_has_a_file_of_its_own() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let sink = Sink::start();
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fork-{}", std::process::id()));
    let start = || quick(sink.host()).queue_bytes(256 * 1024).spool_dir(&folder).build().unwrap();
    let client = start();
    assert_ne!(client.durability(), quillet::Durability::Memory);
    capture(&client, "parent", 3);
    // SAFETY: as above; making a file needs no lock of the library's but the allocator's, which nobody else is in: `TURN`.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
    if pid == 0 {
        let accepted = (0..4).all(|_| client.capture(Event::new("child", "customer-7")).is_accepted());
        end(accepted && client.durability() != quillet::Durability::Memory && client.stats().accepted == 4);
    }
    wait_for(libc::pid_t::try_from(pid).unwrap());
    assert_eq!((client.stats().accepted, client.stats().pending), (3, 3), "nothing of it is the parent's");
    assert!(client.shutdown().is_complete);
    drop(client);
    assert!(start().shutdown().is_complete);
    assert_eq!((names(&sink, "parent"), names(&sink, "child")), (3, 4));
    let uuids: HashSet<_> = sink.stored().iter().map(|event| event.uuid().to_owned()).collect();
    assert_eq!(uuids.len(), 7);
    sink.assert_clean();
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_was_switched_off_or_shut_down_stays_so_in_a_child() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    let refused = |client: &Client| client.capture(Event::new("x", "customer-7")).ok().err();
    client.set_enabled(false);
    in_a_child(|| {
        let was_off = refused(&client) == Some(CaptureError::Disabled) && !client.is_enabled();
        client.set_enabled(true);
        was_off && capture_and_flush(&client, "child")
    });
    assert_eq!(refused(&client), Some(CaptureError::Disabled), "the child's switch is its own");
    client.shutdown();
    in_a_child(|| refused(&client) == Some(CaptureError::Closed) && client.shutdown().is_complete);
    assert_eq!(names(&sink, "child"), 5);
}

#[test]
fn a_child_reports_its_panics_to_its_own_client() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let sink = Sink::start();
    let client = quick(sink.host()).build().unwrap();
    assert!(client.install_panic_hook());
    in_a_child(|| {
        let panicked = || catch_unwind(|| panic_any("on purpose")).is_err();
        let unreported = panicked() && client.stats().accepted == 0;
        let captured = client.capture(Event::new("child", "customer-7")).is_accepted();
        unreported && captured && panicked() && client.stats().accepted == 2 && client.flush(PATIENCE).is_ok()
    });
    assert_eq!(client.stats().accepted, 0);
    assert_eq!((names(&sink, "child"), names(&sink, "$exception")), (1, 1));
}
