//! Kills while the server is anything but well. When it is well again, all is there but what it refuses for good.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails should stop")]

mod common;

use common::{Scene, clean};
use std::time::Duration;
use torture::{PATIENCE, Plan, Server};

/// Starts and ends with each kind of server.
const STARTS: usize = 6;

fn kills_with(servers: &[Server]) {
    for (seed, server) in (100..).zip(servers) {
        clean(&Plan { threads: 2, life: Duration::from_millis(60), ..Plan::new(seed, *server, STARTS) });
    }
}

#[test]
fn nobody_there() {
    kills_with(&[Server::Refusing, Server::Hangs]);
}

#[test]
fn answers_that_put_off() {
    kills_with(&[
        Server::Status(500),
        Server::Status(503),
        Server::Status(429),
        Server::StatusAfter(503),
        Server::StatusAfter(429),
    ]);
}

#[test]
fn answers_that_send_away() {
    kills_with(&[Server::Status(401), Server::Status(403), Server::Status(404), Server::Status(302)]);
}

#[test]
fn connections_that_break() {
    kills_with(&[
        Server::ResetsMidBody,
        Server::ResetsAfterStoring,
        Server::HalfAnswers,
        Server::ClosesEarly,
        Server::ClosesLate,
    ]);
}

#[test]
fn answers_that_are_none() {
    kills_with(&[Server::Garbage, Server::LoginPage, Server::Drips]);
}

#[test]
fn batches_refused_for_their_size_or_for_one_event() {
    kills_with(&[Server::Small, Server::Poisoned]);
}

#[test]
fn all_of_it_by_chance() {
    for seed in 200..204 {
        clean(&Plan { has_other_ends: true, ..Plan::new(seed, Server::Mixed, STARTS) });
    }
}

/// As much as there can be, for longer than a queue lasts, and more of it than a client keeps by default.
#[test]
fn an_outage_that_fills_the_disk_with_more_than_a_queue_is_delivered_whole() {
    let mut scene = Scene::new();
    Server::Status(503).play(&scene.sink, 0);
    for _ in 0..2 {
        let mut start = scene.start();
        (start.threads, start.rate, start.max, start.pad_bytes) = (2, 0, Some(2600), 30_000);
        let victim = start.spawn();
        let is_over = victim.wait_until(|said| said.accepted.len() as u64 + said.refused >= 2600, PATIENCE);
        let said = scene.hear(victim.kill());
        assert!(is_over && said.accepted.len() > 2000, "{} accepted, {} refused", said.accepted.len(), said.refused);
    }
    assert!(scene.folder.disk_bytes() > 64 << 20, "{}", scene.folder.disk_bytes());
    scene.sink.clear_answers();
    scene.recover();
    scene.verdict();
}

/// SIGTERM in an outage: the end comes by its deadline, and what could not be sent is there at the next start.
#[test]
fn a_shutdown_in_an_outage_ends_in_time_and_keeps_the_rest() {
    for (seed, server) in (300..).zip([Server::Hangs, Server::Status(503), Server::StatusAfter(429)]) {
        let mut scene = Scene::new();
        server.play(&scene.sink, seed);
        let victim = scene.start().spawn();
        victim.wait_for_accepted(50);
        let said = victim.stop(PATIENCE).unwrap();
        let said = scene.hear(said);
        assert!(said.is_shut_down && said.status.unwrap().success(), "{said:?}");
        assert_eq!(scene.folder.readable_by_others(), [] as [std::path::PathBuf; 0]);
        server.recover(&scene.sink);
        scene.recover();
        assert!(scene.verdict().stored >= 50);
    }
}
