//! Runs the crasher and collects what is left of it.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails should stop")]

use quillet_support::Sink;
use quillet_support::sink::Event;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// For things that take milliseconds on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How the crasher ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
}

impl Ended {
    /// The number printed behind `name` and a dot; the last one.
    #[track_caller]
    pub fn number(&self, name: &str) -> u64 {
        let line = |line: &str| line.strip_prefix(name)?.strip_prefix('.')?.parse().ok();
        self.out.lines().rev().find_map(line).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }
}

/// Runs `program` with these words and waits for its end, for as long as [`PATIENCE`] lasts.
#[track_caller]
pub fn run(program: &Path, sink: &Sink, dir: Option<&Path>, words: &[&str]) -> Ended {
    let mut command = Command::new(program);
    command
        .args(words)
        .env("CRASHER_HOST", sink.host())
        .env("CRASHER_RELEASE", "1.2.3")
        .env_remove("RUST_BACKTRACE")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(dir) = dir {
        command.env("CRASHER_DIR", dir);
    }
    let mut child = command.spawn().unwrap();
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    // Read while it runs: nobody may wait for a full pipe.
    let out = std::thread::spawn(move || read(&mut stdout));
    let err = std::thread::spawn(move || read(&mut stderr));
    let status = wait(&mut child, words);
    Ended { status, out: out.join().unwrap(), err: err.join().unwrap() }
}

/// The crasher with unwinding panics.
#[track_caller]
pub fn crash(sink: &Sink, words: &[&str]) -> Ended {
    run(Path::new(env!("CARGO_BIN_EXE_crasher")), sink, None, words)
}

/// The crasher in this folder, which it uses for its crash file.
#[track_caller]
pub fn run_in(folder: &Folder, sink: &Sink, words: &[&str]) -> Ended {
    run(Path::new(env!("CARGO_BIN_EXE_crasher")), sink, Some(&folder.path), words)
}

/// The next start in this folder, which lasts until so many events were delivered.
#[track_caller]
pub fn recover(folder: &Folder, sink: &Sink, events: usize, words: &[&str]) -> Ended {
    let events = events.to_string();
    let mut all = vec!["recover", &events];
    all.extend(words.iter().filter(|word| **word == "spool"));
    let ended = run_in(folder, sink, &all);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    ended
}

/// A folder of one test's own, which goes with it.
#[derive(Debug)]
pub struct Folder {
    pub path: PathBuf,
}

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("quillet-crash-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self { path }
    }

    /// Makes every file look as if it had been written a minute ago.
    pub fn age(&self) {
        for path in self.files() {
            let file = std::fs::File::options().write(true).open(path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
        }
    }

    /// Every file in it and below.
    pub fn files(&self) -> Vec<PathBuf> {
        let (mut files, mut folders) = (Vec::new(), vec![self.path.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        files
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// The `$exception` events that arrived.
pub fn exceptions(sink: &Sink) -> Vec<Arc<Event>> {
    sink.stored().into_iter().filter(|event| event.name() == "$exception").collect()
}

/// The message of the first entry.
pub fn message(event: &Event) -> &str {
    event.property("$exception_list")[0]["value"].as_str().unwrap()
}

fn wait(child: &mut Child, words: &[&str]) -> ExitStatus {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if started.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the crasher did not end: {words:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn read(from: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    let _ = from.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}
