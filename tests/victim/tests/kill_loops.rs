//! SIGKILL at any moment, again and again: nothing that was accepted is missing, nothing is torn, nothing is there twice
//! under two names. Thousands more: `scripts/torture`.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails should stop")]

mod common;

use common::clean;
use std::path::Path;
use std::time::Duration;
use torture::{Plan, Server};

/// Starts of one round.
const STARTS: usize = 25;

#[test]
fn one_thread_and_small_lanes() {
    let findings = clean(&Plan::new(1, Server::Healthy, STARTS));
    assert!(findings.accepted > 100, "{findings}");
}

#[test]
fn two_threads_and_large_lanes() {
    let findings =
        clean(&Plan { threads: 2, queue_bytes: 1024 * 1024, pad_bytes: 2000, ..Plan::new(2, Server::Healthy, STARTS) });
    assert!(findings.accepted > 100, "{findings}");
}

#[test]
fn as_fast_as_it_can() {
    let findings = clean(&Plan { threads: 2, rate: 0, pad_bytes: 0, ..Plan::new(3, Server::Healthy, STARTS) });
    assert!(findings.accepted > 1000, "{findings}");
}

#[test]
fn in_the_middle_of_a_capture() {
    let findings = clean(&Plan::dense(7, STARTS));
    assert!(findings.accepted > 100, "{findings}");
}

/// A server so slow that the dead leave faster than the living recover: most kills interrupt a recovery.
#[test]
fn kills_during_recovery() {
    let life = Duration::from_millis(30);
    let findings = clean(&Plan { life, rate: 2000, ..Plan::new(4, Server::Drips, STARTS) });
    assert!(findings.accepted > 100, "{findings}");
}

#[test]
fn in_a_file_system_in_memory() {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        clean(&Plan { root: memory.to_owned(), threads: 2, ..Plan::new(5, Server::Mixed, STARTS) });
    }
}

#[test]
fn every_end_in_one_directory() {
    let findings = clean(&Plan { has_other_ends: true, clients: 2, ..Plan::new(6, Server::Healthy, STARTS) });
    assert!(findings.exceptions > 0, "{findings}");
}
