//! One start of the victim: its environment, its process, what it says, its end.

#![allow(unsafe_code, reason = "signals to process groups, limits of a process")]

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The project that all victims capture for.
pub const API_KEY: &str = "phc_torture";

/// For what takes less than a second on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How to start the victim.
#[derive(Clone, Debug)]
pub struct Start {
    pub program: PathBuf,
    pub host: String,
    pub spool_dir: PathBuf,
    pub is_recovery: bool,
    pub seq_start: u64,
    pub threads: usize,
    pub rate: u64,
    pub max: Option<u64>,
    /// How, and how long after it is ready.
    pub crash: Option<(&'static str, Duration)>,
    /// Room of one lane, in bytes.
    pub queue_bytes: usize,
    pub clients: usize,
    pub pad_bytes: usize,
    /// What the spool may hold, in bytes and files; otherwise more than a driver captures.
    pub spool_max: Option<(u64, usize)>,
    /// Longest file that it may make.
    pub file_bytes_max: Option<u64>,
    /// User and group that it runs as.
    pub user: Option<u32>,
}

impl Start {
    pub fn new(program: &Path, host: String, spool_dir: PathBuf) -> Self {
        Self {
            program: program.to_owned(),
            host,
            spool_dir,
            is_recovery: false,
            seq_start: 0,
            threads: 1,
            rate: 2000,
            max: None,
            crash: None,
            queue_bytes: 256 * 1024,
            clients: 1,
            pad_bytes: 200,
            spool_max: None,
            file_bytes_max: None,
            user: None,
        }
    }

    /// Starts it, in a process group of its own.
    pub fn spawn(&self) -> Victim {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(std::env::vars().filter(|(name, _)| name == "PATH" || name == "LD_LIBRARY_PATH"));
        command
            .env("POSTHOG_HOST", &self.host)
            .env("POSTHOG_API_KEY", API_KEY)
            .env("POSTHOG_SPOOL_DIR", &self.spool_dir)
            .env("TORTURE_MODE", if self.is_recovery { "recover" } else { "capture" })
            .env("TORTURE_SEQ_START", self.seq_start.to_string())
            .env("TORTURE_THREADS", self.threads.to_string())
            .env("TORTURE_RATE", self.rate.to_string())
            .env("TORTURE_QUEUE_BYTES", self.queue_bytes.to_string())
            .env("TORTURE_CLIENTS", self.clients.to_string())
            .env("TORTURE_PAD", self.pad_bytes.to_string())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some((bytes, files)) = self.spool_max {
            command.env("TORTURE_SPOOL_BYTES", bytes.to_string()).env("TORTURE_SPOOL_FILES", files.to_string());
        }
        if let Some(max) = self.max {
            command.env("TORTURE_MAX", max.to_string());
        }
        if let Some((crash, after)) = self.crash {
            command.env("TORTURE_CRASH", crash).env("TORTURE_CRASH_AFTER_MS", after.as_millis().to_string());
        }
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        let file_bytes_max = self.file_bytes_max;
        let limit = move || {
            let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: `setrlimit` is async-signal-safe and the limits live until it returns.
            unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core) };
            if let Some(bytes) = file_bytes_max {
                let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
                // SAFETY: as above.
                unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) };
            }
            Ok(())
        };
        // SAFETY: the closure makes system calls only and allocates nothing.
        unsafe { command.pre_exec(limit) };
        let mut child = command.spawn().unwrap();
        let said = Arc::new((Mutex::new(Said::default()), Condvar::new()));
        let (listening, stdout) = (Arc::clone(&said), child.stdout.take().unwrap());
        let listener = thread::spawn(move || listen(stdout, &listening));
        let mut stderr = child.stderr.take().unwrap();
        let complaints = thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stderr.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Victim { child, said, threads: Some((listener, complaints)), seq_start: self.seq_start }
    }
}

/// What a victim has said so far.
#[derive(Clone, Debug, Default)]
pub struct Said {
    pub is_ready: bool,
    /// Numbers of the events that were accepted.
    pub accepted: Vec<u64>,
    pub refused: u64,
    pub unsupported: Option<String>,
    pub is_shut_down: bool,
    /// Lines that no victim should say.
    pub nonsense: Vec<String>,
    /// It and its children have closed their standard output: they have ended.
    pub is_silent: bool,
    /// Standard error; only once the victim has ended.
    pub complaints: String,
    /// How it ended, once it has.
    pub status: Option<ExitStatus>,
}

impl Said {
    /// One line, without its end.
    fn take_line(&mut self, line: &str) {
        let (kind, rest) = line.split_at_checked(1).unwrap_or((line, ""));
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        match (kind, rest.split_once('-').unwrap_or((rest, rest))) {
            ("R", ("", _)) => self.is_ready = true,
            ("S", ("", _)) => self.is_shut_down = true,
            ("U", _) => self.unsupported = Some(rest.to_owned()),
            ("C", (first, last)) => match (first.parse::<u64>(), last.parse::<u64>()) {
                (Ok(first), Ok(last)) => self.accepted.extend(first..=last),
                _ => self.nonsense.push(line.to_owned()),
            },
            ("D", _) if rest.parse::<u64>().is_ok() => self.refused += 1,
            _ => self.nonsense.push(line.to_owned()),
        }
    }
}

/// A victim that was started. Dropping it kills it.
#[derive(Debug)]
pub struct Victim {
    child: Child,
    said: Arc<(Mutex<Said>, Condvar)>,
    threads: Option<(JoinHandle<()>, JoinHandle<String>)>,
    pub seq_start: u64,
}

impl Victim {
    /// Waits until what it said satisfies `condition`, or it has ended, or for so long; says whether it does.
    pub fn wait_until(&self, condition: impl Fn(&Said) -> bool, patience: Duration) -> bool {
        let (said, changed) = &*self.said;
        let is_over = |said: &mut Said| said.is_silent || condition(said);
        let (said, _) = changed.wait_timeout_while(said.lock().unwrap(), patience, |said| !is_over(said)).unwrap();
        condition(&said)
    }

    pub fn said_so_far(&self) -> Said {
        self.said.0.lock().unwrap().clone()
    }

    /// Whether it gets ready.
    pub fn is_ready(&self) -> bool {
        self.wait_until(|said| said.is_ready, PATIENCE)
    }

    /// Waits for so many accepted events.
    #[track_caller]
    pub fn wait_for_accepted(&self, events: usize) {
        let enough = |said: &Said| said.accepted.len() >= events;
        assert!(self.wait_until(enough, PATIENCE), "the victim does not get on");
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A signal to it alone.
    pub fn signal(&self, signal: i32) {
        self.send(libc::pid_t::try_from(self.child.id()).unwrap(), signal);
    }

    /// `SIGKILL` to it and its children; all that it ever said.
    pub fn kill(mut self) -> Said {
        self.kill_group();
        let status = self.child.wait().unwrap();
        self.last_words(status)
    }

    /// `SIGTERM`, and its end awaited.
    ///
    /// # Errors
    ///
    /// It hangs.
    pub fn stop(self, patience: Duration) -> Result<Said, String> {
        self.signal(libc::SIGTERM);
        self.wait(patience)
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// It hangs; it is killed then.
    pub fn wait(mut self, patience: Duration) -> Result<Said, String> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Ok(self.last_words(status));
            }
            if started.elapsed() > patience {
                let said = self.kill();
                return Err(format!("hangs for {patience:?}, having said {:?}", said.complaints));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn last_words(mut self, status: ExitStatus) -> Said {
        // Children that hold the pipe open would make this wait for ever.
        self.kill_group();
        let complaints = self.threads.take().map(|(listener, complaints)| {
            listener.join().unwrap();
            complaints.join().unwrap()
        });
        let mut said = self.said.0.lock().unwrap().clone();
        said.complaints = complaints.unwrap_or_default();
        said.status = Some(status);
        said
    }

    fn kill_group(&self) {
        self.send(-libc::pid_t::try_from(self.child.id()).unwrap(), libc::SIGKILL);
    }

    fn send(&self, target: libc::pid_t, signal: i32) {
        // SAFETY: always allowed; a process that is gone already is as good.
        unsafe { libc::kill(target, signal) };
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.kill_group();
        let _ = self.child.wait();
    }
}

/// Reads to the end of standard output, which a death may bring at any moment, but never inside a line.
fn listen(stdout: ChildStdout, said: &(Mutex<Said>, Condvar)) {
    let mut reader = BufReader::with_capacity(64 * 1024, stdout);
    let mut line = String::new();
    loop {
        line.clear();
        let end = reader.read_line(&mut line).unwrap_or_default() == 0;
        let mut words = said.0.lock().unwrap();
        match line.strip_suffix('\n') {
            Some(line) => words.take_line(line),
            None if end => words.is_silent = true,
            None => words.nonsense.push(format!("{line} (without an end)")),
        }
        said.1.notify_all();
        if end {
            return;
        }
    }
}

/// How a process ended, for people.
pub(crate) fn fate(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "nothing known".to_owned(),
    }
}
