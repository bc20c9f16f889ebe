//! What the environment asks for.
//!
//! Beyond what every driver may set, the drivers of this repository know `TORTURE_QUEUE_BYTES` (room of one lane),
//! `TORTURE_CLIENTS` (clients in this process, all on one directory), `TORTURE_PAD` (most bytes of an event's padding), and
//! `TORTURE_SPOOL_BYTES` and `TORTURE_SPOOL_FILES` (what the spool may hold).

use std::env;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Small, so that laps are short.
const QUEUE_BYTES: usize = 256 * 1024;

/// More than drivers capture: at its limits a spool drops its oldest events, which are counted, but were accepted. With as
/// many captures as possible, an outage of seconds is more than the 64 MiB that a client keeps by default, and every start
/// that is killed in one leaves a file.
const SPOOL_BYTES: u64 = 4 * 1024 * 1024 * 1024;
const SPOOL_FILES: usize = 10_000;

/// Padding of an event, by default, in bytes.
const PAD_BYTES: usize = 200;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Capture until told to stop.
    Capture,
    /// Deliver what is found, and stop.
    Recover,
}

/// The environment, read once.
#[derive(Debug)]
pub struct Options {
    pub host: String,
    pub api_key: String,
    pub spool_dir: Option<PathBuf>,
    pub mode: Mode,
    pub seq_start: u64,
    pub threads: u64,
    pub rate: u64,
    pub max: u64,
    pub crash: Option<String>,
    pub crash_after: Option<Duration>,
    pub queue_bytes: usize,
    pub clients: usize,
    pub pad_bytes: usize,
    pub spool_bytes: u64,
    pub spool_files: usize,
}

impl Options {
    /// # Panics
    ///
    /// With what is wrong, for a number that is none and a mode that does not exist.
    pub fn from_env() -> Self {
        let crash = text("TORTURE_CRASH").filter(|crash| crash != "none");
        let mode = match text("TORTURE_MODE").as_deref() {
            None | Some("capture") => Mode::Capture,
            Some("recover") => Mode::Recover,
            Some(other) => panic!("TORTURE_MODE={other}"),
        };
        Self {
            host: text("POSTHOG_HOST").unwrap_or_default(),
            api_key: text("POSTHOG_API_KEY").unwrap_or_default(),
            spool_dir: text("POSTHOG_SPOOL_DIR").map(PathBuf::from),
            mode,
            seq_start: number("TORTURE_SEQ_START", 0),
            threads: number("TORTURE_THREADS", 1_u64).max(1),
            rate: number("TORTURE_RATE", 0),
            max: number("TORTURE_MAX", u64::MAX),
            crash_after: crash.is_some().then(|| Duration::from_millis(number("TORTURE_CRASH_AFTER_MS", 0))),
            crash,
            queue_bytes: number("TORTURE_QUEUE_BYTES", QUEUE_BYTES),
            clients: number("TORTURE_CLIENTS", 1_usize).max(1),
            pad_bytes: number("TORTURE_PAD", PAD_BYTES),
            spool_bytes: number("TORTURE_SPOOL_BYTES", SPOOL_BYTES),
            spool_files: number("TORTURE_SPOOL_FILES", SPOOL_FILES),
        }
    }
}

/// An empty variable is none.
fn text(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn number<T: FromStr>(name: &str, default: T) -> T {
    text(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no such number")))
}
