//! A gateway to test, and what it is asked.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use quillet_support::Sink;

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_gateway");

/// A running gateway.
pub struct Gateway {
    pub child: Child,
    pub tcp: Option<SocketAddr>,
    pub udp: Option<SocketAddr>,
    /// Answers to lines on standard input.
    pub stdout: BufReader<ChildStdout>,
}

impl Gateway {
    pub fn start(sink: &Sink, options: &[&str]) -> Self {
        Self::start_by(&mut Command::new(PROGRAM), sink, options)
    }

    /// By a command that runs the program with the arguments it gets.
    pub fn start_by(command: &mut Command, sink: &Sink, options: &[&str]) -> Self {
        let mut child = command
            .args(["--key", "phc_gateway", "--host", &sink.host(), "--name", "test"])
            .args(options)
            .env_remove("POSTHOG_API_KEY")
            .env_remove("POSTHOG_HOST")
            .env("NO_PROXY", "127.0.0.1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let wanted = options.iter().filter(|option| matches!(**option, "--tcp" | "--udp")).count();
        let (mut tcp, mut udp) = (None, None);
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        for _ in 0..wanted {
            let line = answer(&mut stdout);
            let (kind, address) = line.strip_prefix("listening on ").unwrap().split_once(' ').unwrap();
            let place = if kind == "tcp" { &mut tcp } else { &mut udp };
            *place = Some(address.parse().unwrap());
        }
        Self { child, tcp, udp, stdout }
    }

    /// A connection to it.
    pub fn connect(&self) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(self.tcp.unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        BufReader::new(stream)
    }

    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).unwrap();
        // SAFETY: sends a signal to a child that was not waited for, so the number is still its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    pub fn stop(mut self, signal: i32) -> ExitStatus {
        self.signal(signal);
        self.child.wait().unwrap()
    }

    /// Waits for an end that nobody asked for.
    pub fn wait(mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "the gateway did not end");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Most memory that was ever resident, in KiB.
    pub fn peak_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The answer to a line, without its newline.
pub fn ask(device: &mut BufReader<TcpStream>, line: &str) -> String {
    device.get_mut().write_all(line.as_bytes()).unwrap();
    answer(device)
}

/// The next answer; nothing if the connection is at its end.
pub fn answer(device: &mut impl BufRead) -> String {
    let mut answer = String::new();
    device.read_line(&mut answer).unwrap();
    answer.trim_end().to_owned()
}

/// A directory of this test's own, removed at its end.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    pub fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
