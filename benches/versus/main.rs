//! quillet's capture beside its limit and its peers, on the same event, in one run.
//!
//! ```text
//! cargo bench --bench versus                        # a minute; a table, and target/versus.svg
//! cargo bench --bench versus -- --build-peers       # compiles posthog-rs and sentry first: some minutes, once
//! cargo bench --bench versus -- --json figures.json # the same as JSON
//! ```
//!
//! The limit is what nobody can go below who puts 300 bytes where another thread finds them: copying them, and one store
//! that publishes them. Then, from less work to more: reading the clock; moving the finished bytes through other queues;
//! making the bytes with other serialisers, given the texts of uuid and timestamp; quillet doing all of it; other clients
//! doing all of it. What is measured, and how: `quillet_support::measure`.
//!
//! posthog-rs and sentry are in a workspace of their own, `benches/peers`, whose program is run as a child if it is there.

#![allow(missing_docs, reason = "a bench has no API")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a bench that fails should stop")]

#[path = "../cases/mod.rs"]
mod cases;
mod limits;
mod queues;
mod serialisers;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use quillet_support::measure::{self, Case, Counted, PROBE, Row};

#[global_allocator]
static ALLOCATOR: quillet_support::CountingAllocator = quillet_support::CountingAllocator::new();

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    let value_of = |option: &str| {
        let at = arguments.iter().position(|argument| argument == option)?;
        arguments.get(at + 1).map(String::as_str)
    };
    let mut cases = all_cases();
    if let Some(name) = value_of(PROBE) {
        return if measure::probe(&mut cases, name) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if arguments.iter().any(|argument| argument == "--build-peers") && !build_peers() {
        return ExitCode::FAILURE;
    }

    let mut rows = measure::measure(&mut cases);
    count_instructions(&mut rows);
    rows.extend(peers());
    println!("{}", measure::table(&rows, limits::COPY));
    print_verdict(&rows);
    let picture = target().join("versus.svg");
    fs::write(&picture, measure::svg(&rows, "One event, from the caller to the queue: nanoseconds", "quillet"))
        .unwrap();
    eprintln!("drawn: {}", picture.display());
    if let Some(file) = value_of("--json") {
        fs::write(file, measure::to_json(&rows)).unwrap_or_else(|error| panic!("{file}: {error}"));
    }
    ExitCode::SUCCESS
}

fn all_cases() -> Vec<Case<'static>> {
    vec![
        limits::copy(),
        limits::clock(),
        cases::ring("quillet ring, finished bytes"),
        queues::bbqueue(),
        queues::rtrb(),
        queues::tracing_appender(),
        serialisers::serde_json(),
        serialisers::serde_json_core(),
        cases::capture_literal_keys(),
        cases::capture_run_time_keys(),
        cases::capture_with_spool(),
    ]
}

fn count_instructions(rows: &mut [Row]) {
    let program = env::current_exe().unwrap();
    for row in rows {
        // What valgrind counts there is a system call that only valgrind makes.
        if row.name == limits::CLOCK {
            continue;
        }
        match measure::count(&program, &row.name) {
            Counted::Instructions(count) => row.instructions = Some(count),
            Counted::NoValgrind => {
                eprintln!("no instructions: valgrind is not installed");
                return;
            }
            Counted::Failed(why) => eprintln!("{}: {why}", row.name),
        }
    }
}

/// What the numbers say, in words.
fn print_verdict(rows: &[Row]) {
    let find = |name: &str| rows.iter().find(|row| row.name.starts_with(name));
    let (Some(limit), Some(literal)) = (find(limits::COPY), find(cases::LITERAL_KEYS)) else { return };
    println!("capture with literal keys: {:.1} times the copy limit", literal.ns / limit.ns);
    if let Some(peer) = find("posthog-rs") {
        let instructions = peer.instructions.zip(literal.instructions).map(|(a, b)| a as f64 / b as f64);
        let fewer = instructions.map_or_else(|| "?".to_owned(), |ratio| format!("{ratio:.1}"));
        println!("posthog-rs: {:.1} times the time, {fewer} times the instructions", peer.ns / literal.ns);
    }
}

/// Rows of the program in `benches/peers`, none if it was not built.
fn peers() -> Vec<Row> {
    let program = peers_folder().join("release/peers");
    if !program.exists() {
        eprintln!("without posthog-rs and sentry: `cargo bench --bench versus -- --build-peers` compiles them\n");
        return Vec::new();
    }
    match Command::new(&program).output() {
        Ok(output) if output.status.success() => {
            eprint!("{}", String::from_utf8_lossy(&output.stderr));
            measure::from_json(&String::from_utf8_lossy(&output.stdout)).unwrap()
        }
        Ok(output) => panic!("{}: {}", program.display(), String::from_utf8_lossy(&output.stderr)),
        Err(error) => panic!("{}: {error}", program.display()),
    }
}

fn build_peers() -> bool {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/Cargo.toml");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--release", "--locked", "--target-dir"]).arg(peers_folder());
    let built = cargo.arg("--manifest-path").arg(manifest).status();
    built.is_ok_and(|status| status.success())
}

fn peers_folder() -> PathBuf {
    target().join("peers")
}

/// The target folder: this program is `release/deps/versus-…` in it.
fn target() -> PathBuf {
    env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned()
}
