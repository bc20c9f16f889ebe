//! One round: a directory, a server, victims that are ended one after the other, a last recovery, a verdict.

use crate::folder::Folder;
use crate::oracle::{Findings, Oracle};
use crate::random::Random;
use crate::server::Server;
use crate::start::{API_KEY, PATIENCE, Said, Start, Victim, fate};
use quillet_support::Sink;
use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

/// Numbers that one start owns.
const NUMBERS: u64 = 1_000_000;

/// What an event takes besides its padding, in bytes.
const EVENT_BYTES: u64 = 300;

/// Ends that a victim brings about itself. With a child it goes on, and both are killed.
const OWN_ENDS: [&str; 14] = [
    "panic",
    "panic_thread",
    "panic_drop",
    "abort",
    "segv",
    "bus",
    "ill",
    "fpe",
    "stack_overflow",
    "stack_overflow_thread",
    "alloc_error",
    "exit",
    "_exit",
    "return",
];

/// Ports that the system gives to nobody by itself, so that a server can come back to the one it had.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// What a round does.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub server: Server,
    /// Starts, each of which is ended.
    pub starts: usize,
    pub threads: usize,
    pub clients: usize,
    /// Victims that are alive at the same time.
    pub siblings: usize,
    pub queue_bytes: usize,
    pub pad_bytes: usize,
    /// Events a second; 0 is as many as possible.
    pub rate: u64,
    /// Most bytes that one start captures: what all of them leave in an outage must fit the spool, and the sink's memory.
    pub start_bytes: u64,
    /// Longest life of a victim, from its start or from when it is ready.
    pub life: Duration,
    /// Whether some die of SIGTERM, of themselves or with a child; otherwise all are killed.
    pub has_other_ends: bool,
    /// Where the round's directory is made.
    pub root: PathBuf,
}

/// What a round came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Victims that were killed from outside, in any mode.
    pub kills: usize,
    /// Of these, the ones whose only work was recovery.
    pub recoveries_killed: usize,
    /// Victims that died of SIGTERM or of themselves.
    pub other_ends: usize,
    pub findings: Findings,
}

impl Plan {
    pub fn new(seed: u64, server: Server, starts: usize) -> Self {
        Self {
            seed,
            server,
            starts,
            threads: 1,
            clients: 1,
            siblings: 1,
            queue_bytes: 256 * 1024,
            pad_bytes: 200,
            rate: 10_000,
            start_bytes: 600_000,
            life: Duration::from_millis(50),
            has_other_ends: false,
            root: std::env::temp_dir(),
        }
    }

    /// Deaths in the middle of a capture, as many as can be had: nothing but captures for a few milliseconds, all of it
    /// found by the last recovery, whose counters say whether a frame was not whole.
    pub fn dense(seed: u64, starts: usize) -> Self {
        Self {
            threads: 2,
            queue_bytes: 1024 * 1024,
            rate: 0,
            start_bytes: 1_500_000,
            life: Duration::from_millis(4),
            ..Self::new(seed, Server::Refusing, starts.min(20))
        }
    }

    /// Everything that can be varied, by the seed.
    pub fn random(seed: u64, starts: usize) -> Self {
        if seed.is_multiple_of(3) {
            return Self::dense(seed, starts);
        }
        let mut random = Random::new(seed);
        let memory = Path::new("/dev/shm");
        let is_in_memory = random.once_in(2) && memory.is_dir();
        // Files of several large queues would not leave the spool room for what the dead left.
        let is_large = random.once_in(3);
        Self {
            threads: if is_large { *random.pick(&[1, 2]) } else { *random.pick(&[1, 1, 2, 2, 4]) },
            clients: if is_large { 1 } else { *random.pick(&[1, 1, 1, 2]) },
            siblings: if is_large { 1 } else { *random.pick(&[1, 1, 1, 2, 3]) },
            queue_bytes: if is_large { 1024 * 1024 } else { 256 * 1024 },
            pad_bytes: *random.pick(&[0, 200, 200, 2000]),
            rate: *random.pick(&[1000, 5000, 20_000, 20_000, 0]),
            life: Duration::from_millis(*random.pick(&[20, 50, 50, 100])),
            has_other_ends: random.once_in(2),
            root: if is_in_memory { memory.to_owned() } else { std::env::temp_dir() },
            ..Self::new(seed, *random.pick(&Server::ALL), if is_large { starts / 2 } else { starts })
        }
    }

    /// Runs it with this victim.
    pub fn run(&self, program: &Path) -> Outcome {
        let mut round = Round::new(self, program);
        round.end_victims();
        round.recover();
        round.finish()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {}: {:?}, {} starts, {} at once, {} clients, {} threads, {} events/s, \
             lanes of {} KiB, pad {}, life {:?}, {}, {}",
            self.seed,
            self.server,
            self.starts,
            self.siblings,
            self.clients,
            self.threads,
            self.rate,
            self.queue_bytes / 1024,
            self.pad_bytes,
            self.life,
            if self.has_other_ends { "all ends" } else { "SIGKILL" },
            self.root.display()
        )
    }
}

/// A round under way.
struct Round<'p> {
    plan: &'p Plan,
    program: &'p Path,
    random: Random,
    folder: Folder,
    port: u16,
    sink: Option<Sink>,
    /// With the end that each was started for.
    alive: Vec<(Victim, End)>,
    starts: u64,
    oracle: Oracle,
    outcome: Outcome,
}

/// How a victim is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Killed { in_recovery: bool },
    Stopped,
    ByItself(&'static str),
}

impl<'p> Round<'p> {
    fn new(plan: &'p Plan, program: &'p Path) -> Self {
        let mut random = Random::new(plan.seed ^ 0x5eed);
        let sink = listen_somewhere(&mut random);
        let port = sink.addr().port();
        let sink = if plan.server == Server::Refusing {
            drop(sink);
            None
        } else {
            plan.server.play(&sink, plan.seed);
            Some(sink)
        };
        Self {
            plan,
            program,
            random,
            folder: Folder::below(&plan.root),
            port,
            sink,
            alive: Vec::new(),
            starts: 0,
            oracle: Oracle::default(),
            outcome: Outcome::default(),
        }
    }

    /// Starts and ends as many as planned.
    fn end_victims(&mut self) {
        for _ in 0..self.plan.starts {
            let started = self.start();
            self.alive.push(started);
            if self.random.once_in(4) {
                self.look_at_rights();
            }
            if self.alive.len() >= self.plan.siblings {
                let at = self.random.below(self.alive.len());
                let (victim, end) = self.alive.swap_remove(at);
                self.end(victim, end);
            }
        }
        for (victim, end) in core::mem::take(&mut self.alive) {
            self.end(victim, end);
        }
    }

    fn start(&mut self) -> (Victim, End) {
        let end = match self.random.below(10) {
            0 | 1 if self.starts > 0 => End::Killed { in_recovery: true },
            2 if self.plan.has_other_ends => End::Stopped,
            3..=5 if self.plan.has_other_ends => End::ByItself(self.random.pick::<&str>(&OWN_ENDS)),
            _ => End::Killed { in_recovery: false },
        };
        let mut start = self.bare_start();
        start.is_recovery = end == End::Killed { in_recovery: true };
        start.crash = match end {
            End::ByItself(name) => Some((name, self.random.moment(self.plan.life))),
            End::Killed { in_recovery: false } if self.plan.has_other_ends && self.random.once_in(5) => {
                Some(("fork", self.random.moment(self.plan.life)))
            }
            _ => None,
        };
        (start.spawn(), end)
    }

    fn bare_start(&mut self) -> Start {
        let host = format!("http://127.0.0.1:{}", self.port);
        let mut start = Start::new(self.program, host, self.folder.spool());
        start.seq_start = self.starts * NUMBERS;
        self.starts += 1;
        start.threads = self.plan.threads;
        start.clients = self.plan.clients;
        start.rate = self.plan.rate;
        start.max = Some(self.plan.start_bytes / (EVENT_BYTES + self.plan.pad_bytes as u64 / 2));
        start.queue_bytes = self.plan.queue_bytes;
        start.pad_bytes = self.plan.pad_bytes;
        start
    }

    fn end(&mut self, victim: Victim, end: End) {
        // Half of them die in their first steps, which are a recovery of what the ones before left.
        if (self.random.once_in(2) || end == End::Stopped) && !victim.is_ready() {
            let said = victim.kill();
            self.oracle.object(format!("{end:?}: not ready, {:?}; {}", said.status, said.complaints));
            return self.oracle.listen(&said);
        }
        let ended = match end {
            End::Killed { in_recovery } => {
                thread::sleep(self.random.moment(self.plan.life));
                self.outcome.kills += 1;
                self.outcome.recoveries_killed += usize::from(in_recovery);
                Ok(victim.kill())
            }
            End::Stopped => {
                thread::sleep(self.random.moment(self.plan.life));
                self.outcome.other_ends += 1;
                victim.stop(PATIENCE)
            }
            End::ByItself(_) => {
                self.outcome.other_ends += 1;
                victim.wait(PATIENCE)
            }
        };
        match ended {
            Ok(said) => {
                if let Err(wrong) = died_as_it_should(&said, end) {
                    self.oracle.object(format!("{end:?}: {wrong}; {}", said.complaints));
                }
                self.oracle.listen(&said);
            }
            Err(hangs) => self.oracle.object(format!("{end:?}: {hangs}")),
        }
    }

    /// What a well server gets in the end.
    fn recover(&mut self) {
        let sink = match self.sink.take() {
            Some(sink) => {
                self.plan.server.recover(&sink);
                sink
            }
            None => listen_at(self.port),
        };
        let mut start = self.bare_start();
        start.is_recovery = true;
        match start.spawn().wait(PATIENCE) {
            Ok(said) => {
                if !said.is_shut_down || said.status.and_then(|status| status.code()) != Some(0) {
                    self.oracle.object(format!("the last recovery ended with {:?}: {}", said.status, said.complaints));
                }
                self.oracle.listen(&said);
            }
            Err(hangs) => self.oracle.object(format!("the last recovery {hangs}")),
        }
        self.sink = Some(sink);
    }

    fn finish(mut self) -> Outcome {
        self.look_at_rights();
        for path in self.folder.files() {
            self.oracle.object(format!("left behind: {}", path.display()));
        }
        if let Some(sink) = &self.sink {
            self.oracle.look(sink);
        }
        self.outcome.findings = self.oracle.finish(|seq| self.plan.server.refuses(seq));
        self.outcome
    }

    fn look_at_rights(&mut self) {
        for path in self.folder.readable_by_others() {
            self.oracle.object(format!("others can read {}", path.display()));
        }
    }
}

/// Whether a victim died of what it was to die of, and said goodbye only if it could.
fn died_as_it_should(said: &Said, end: End) -> Result<(), String> {
    let status = said.status.ok_or("no status")?;
    let is_right = match end {
        End::Killed { in_recovery } => {
            // Recovered before it was killed.
            let is_done = in_recovery && said.is_shut_down && status.code() == Some(0);
            is_done || (status.signal() == Some(libc::SIGKILL) && (in_recovery || !said.is_shut_down))
        }
        End::Stopped => status.code() == Some(0) && said.is_shut_down,
        End::ByItself(name) => said.unsupported.is_some() || (own_fate(name, status) && !said.is_shut_down),
    };
    if is_right { Ok(()) } else { Err(format!("{}, shut down: {}", fate(status), said.is_shut_down)) }
}

/// Whether a victim that crashed itself like this ended as such a crash ends.
pub fn own_fate(name: &str, status: ExitStatus) -> bool {
    match name {
        "panic" => status.code() == Some(101),
        "panic_thread" | "exit" | "_exit" => status.code() == Some(7),
        "return" => status.code() == Some(0),
        "segv" => status.signal() == Some(libc::SIGSEGV),
        "bus" => status.signal() == Some(libc::SIGBUS),
        "ill" => status.signal() == Some(libc::SIGILL),
        "fpe" => status.signal() == Some(libc::SIGFPE),
        "panic_drop" | "abort" | "stack_overflow" | "stack_overflow_thread" | "alloc_error" => {
            status.signal() == Some(libc::SIGABRT)
        }
        _ => false,
    }
}

fn listen_somewhere(random: &mut Random) -> Sink {
    for _ in 0..1000 {
        let port = PORTS.start + u16::try_from(random.below(PORTS.len())).unwrap_or_default();
        if let Ok(sink) = Sink::builder().api_key(API_KEY).port(port).start() {
            return sink;
        }
    }
    panic!("no port between {PORTS:?}");
}

fn listen_at(port: u16) -> Sink {
    let started = Instant::now();
    loop {
        match Sink::builder().api_key(API_KEY).port(port).start() {
            Ok(sink) => return sink,
            Err(error) => assert!(started.elapsed() < PATIENCE, "port {port}: {error}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
}
