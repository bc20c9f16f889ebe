//! Several processes and several clients on one directory: each keeps to its own file until another one is dead.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails should stop")]

mod common;

use common::{Scene, clean};
use std::time::{Duration, Instant};
use torture::{PATIENCE, Plan, Server};

/// What a directory may hold by default.
const SPOOL_BYTES: u64 = 64 * 1024 * 1024;
const SPOOL_FILES: usize = 100;

#[test]
fn three_processes() {
    clean(&Plan { siblings: 3, ..Plan::new(1, Server::Healthy, 15) });
    clean(&Plan { siblings: 3, has_other_ends: true, ..Plan::new(2, Server::Mixed, 15) });
}

#[test]
fn two_clients_of_each_process() {
    clean(&Plan { clients: 2, threads: 2, ..Plan::new(3, Server::Healthy, 10) });
    clean(&Plan { clients: 2, threads: 2, siblings: 2, ..Plan::new(4, Server::Mixed, 10) });
}

/// While one lives, what the other left arrives: nobody has to be started for it.
#[test]
fn a_living_process_delivers_what_a_dead_one_left() {
    let mut scene = Scene::new();
    let survivor = scene.start().spawn();
    survivor.wait_for_accepted(1);
    Server::Hangs.play(&scene.sink, 0);
    let dead = scene.start().spawn();
    dead.wait_for_accepted(100);
    let dead = scene.hear(dead.kill());
    scene.sink.clear_answers();
    let is_dead = |seq: Option<u64>| seq.is_some_and(|seq| seq >= 1_000_000);
    let all_there = scene.sink.wait_for(
        |journal| {
            let stored = journal.stored();
            stored.iter().filter(|event| is_dead(event.property("seq").as_u64())).count() >= dead.accepted.len()
        },
        PATIENCE,
    );
    assert!(all_there, "a minute has passed");
    let said = survivor.stop(PATIENCE).unwrap();
    scene.hear(said);
    scene.recover();
    scene.verdict();
}

/// The child captures under numbers and uuids of its own; both are killed.
#[test]
fn a_forked_child() {
    let mut scene = Scene::new();
    for after in [0, 10, 50] {
        let mut start = scene.start();
        start.threads = 2;
        start.crash = Some(("fork", Duration::from_millis(after)));
        let victim = start.spawn();
        let first_of_child = start.seq_start + 250_000;
        let has_child = victim.wait_until(
            |said| {
                let of_child = said.accepted.iter().filter(|seq| **seq >= first_of_child).count();
                of_child >= 20 && said.accepted.len() - of_child >= 20
            },
            PATIENCE,
        );
        assert!(has_child, "parent and child both capture");
        let said = victim.kill();
        scene.hear(said);
    }
    scene.recover();
    let findings = scene.verdict();
    assert!(findings.accepted >= 120, "{findings}");
}

/// A program that dies in its first moments is started again and again, while nobody takes what it has to say.
#[test]
fn a_hundred_starts_in_a_crash_loop_stay_within_the_limits() {
    let mut scene = Scene::new();
    Server::Status(503).play(&scene.sink, 0);
    let began = Instant::now();
    // The last recovery is the hundredth.
    for _ in 1..SPOOL_FILES {
        let mut start = scene.start();
        start.max = Some(20);
        start.spool_max = Some((SPOOL_BYTES, SPOOL_FILES));
        start.crash = Some(("abort", Duration::from_millis(5)));
        let said = start.spawn().wait(PATIENCE).unwrap();
        scene.hear(said);
        let (files, bytes) = (scene.folder.files().len(), scene.folder.disk_bytes());
        assert!(files <= SPOOL_FILES && bytes <= SPOOL_BYTES, "{files} files, {bytes} bytes");
    }
    assert!(began.elapsed() < 2 * PATIENCE);
    scene.sink.clear_answers();
    scene.recover();
    let findings = scene.verdict();
    assert!(findings.exceptions >= 90, "an abort each: {findings}");
}
