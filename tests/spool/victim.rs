//! A process that captures and does not get to do anything else: this test binary, started again.
//!
//! In: a directory, a host, and how many events. Out: the uuids of those that were accepted, and a dead process.

use crate::common::{API_KEY, PATIENCE, accepted};
use quillet::{Client, ClientBuilder, Durability, Event};
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const DIR: &str = "QUILLET_TEST_SPOOL_DIR";
const HOST: &str = "QUILLET_TEST_SPOOL_HOST";
const EVENTS: &str = "QUILLET_TEST_SPOOL_EVENTS";

/// A directory of one test's own, removed when the test is over.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        Self::below(Path::new(env!("CARGO_TARGET_TMPDIR")))
    }

    pub fn below(parent: &Path) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("spool-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Every file below it, with its name's extension.
    pub fn files(&self) -> Vec<PathBuf> {
        files_below(&self.0)
    }

    pub fn files_with(&self, extension: &str) -> Vec<PathBuf> {
        self.files().into_iter().filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn files_below(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

/// A builder for a client of `host` with its spool in `dir`.
pub fn spooling(host: impl Into<String>, dir: &Path) -> ClientBuilder {
    crate::common::quick(host).queue_bytes(256 * 1024).spool_dir(dir)
}

/// Waits for something that no event announces.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until a client has found so many events. At once, unless the thread of a client before it in this process, which
/// nobody waits for, still has the file; then it is found by the next look into the directory.
pub fn found(client: &Client, events: u64) {
    eventually("recovery", || client.stats().recovered == events);
}

/// A process that has captured its events and waits to be killed.
pub struct Victim {
    process: Child,
    pub uuids: Vec<String>,
}

impl Victim {
    /// Starts the process and waits until it has captured. `test` is the caller's own name.
    pub fn start(test: &str, host: &str, dir: &Path, events: usize) -> Self {
        let mut process = Command::new(env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .envs([(HOST, host), (DIR, dir.to_str().unwrap()), (EVENTS, &events.to_string())])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
        let accepted =
            lines.take_while(|line| line != "R").filter_map(|line| line.strip_prefix("C ").map(str::to_owned));
        let uuids: Vec<String> = accepted.collect();
        assert_eq!(uuids.len(), events, "the victim did not get so far");
        Self { process, uuids }
    }

    /// `SIGKILL`, and its end awaited.
    pub fn kill(mut self) -> Vec<String> {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        std::mem::take(&mut self.uuids)
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// In the process that was started to die: captures, says so, and waits. Elsewhere: nothing.
pub fn become_one_if_asked() {
    let Ok(host) = env::var(HOST) else { return };
    let (dir, events) = (env::var(DIR).unwrap(), env::var(EVENTS).unwrap().parse::<u64>().unwrap());
    let client =
        spooling(host, Path::new(&dir)).api_key(API_KEY).super_property("release", "of the dead").build().unwrap();
    assert_ne!(client.durability(), Durability::Memory);
    let mut out = std::io::stdout();
    writeln!(out).unwrap();
    for number in 0..events {
        let properties = quillet::props! { "seq": number };
        let captured = client.capture(Event::new("from the dead", "victim").properties(properties));
        writeln!(out, "C {}", accepted(captured)).unwrap();
    }
    writeln!(out, "R").unwrap();
    out.flush().unwrap();
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}
