//! A device in QEMU: started with arguments, listened to, disturbed through the monitor, ended after its time.

use crate::build::{self, Program};
use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// A device that runs.
pub struct Device {
    qemu: Child,
    monitor: TcpStream,
    lines: Receiver<String>,
    heard: Vec<String>,
    ends_at: Instant,
}

impl Device {
    /// Starts a program on its board, with `name=number` arguments; what it sends arrives at `port` of the loopback.
    pub fn start(program: Program, port: u16, arguments: &[&str], seconds: u64) -> Result<Self, String> {
        let monitor = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(text)?;
        let monitor_port = monitor.local_addr().map_err(text)?.port();
        let mut qemu = Command::new(board(program));
        qemu.args(options(program, port)?).args(["-display", "none"]);
        qemu.args(["-monitor", &format!("tcp:127.0.0.1:{monitor_port}")]);
        let arguments: String = arguments.iter().map(|argument| format!(",arg={argument}")).collect();
        qemu.args(["-semihosting-config", &format!("enable=on,target=native,arg=firmware{arguments}")]);
        qemu.arg("-kernel").arg(build::file(program));
        qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut qemu = qemu.spawn().map_err(|error| format!("{}: {error}", board(program)))?;
        let (sender, lines) = mpsc::channel();
        let outputs: [Option<Box<dyn Read + Send>>; 2] =
            [qemu.stdout.take().map(|out| Box::new(out) as _), qemu.stderr.take().map(|out| Box::new(out) as _)];
        for output in outputs.into_iter().flatten() {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        let ends_at = Instant::now() + Duration::from_secs(seconds);
        let (monitor, _) = accept(&monitor, &mut qemu, ends_at)?;
        Ok(Self { qemu, monitor, lines, heard: Vec::new(), ends_at })
    }

    /// Waits for a line that begins like this.
    pub fn wait_for_line(&mut self, beginning: &str) -> Result<(), String> {
        while !self.heard.iter().any(|line| line.starts_with(beginning)) {
            let left = self.ends_at.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.heard.push(line),
                Err(_) => return Err(self.complain(&format!("never said {beginning:?}"))),
            }
        }
        Ok(())
    }

    /// Says something to QEMU: `system_reset`, `set_link net0 off`.
    pub fn monitor(&mut self, command: &str) -> Result<(), String> {
        writeln!(self.monitor, "{command}").map_err(text)
    }

    /// Waits for the end of the program and returns all it said.
    pub fn finish(mut self) -> Result<Said, String> {
        loop {
            let left = self.ends_at.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.heard.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => return Err(self.complain("did not end in its time")),
            }
        }
        let status = self.qemu.wait().map_err(text)?;
        if !status.success() {
            return Err(self.complain(&format!("ended with {status}")));
        }
        Ok(Said { lines: std::mem::take(&mut self.heard) })
    }

    fn complain(&mut self, what: &str) -> String {
        self.heard.extend(self.lines.try_iter());
        format!("the device {what}; it said:\n  {}", self.heard.join("\n  "))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// All that a device said.
#[derive(Debug)]
pub struct Said {
    lines: Vec<String>,
}

impl Said {
    /// The last value of `name=value`.
    pub fn number(&self, name: &str) -> Result<u64, String> {
        self.numbers(name).last().copied().ok_or_else(|| format!("it never said {name}; it said:\n  {}", self.text()))
    }

    /// Every value of `name=value`, in order.
    pub fn numbers(&self, name: &str) -> Vec<u64> {
        let words = self.lines.iter().flat_map(|line| line.split_whitespace());
        words.filter_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok()).collect()
    }

    /// All lines, for an error.
    pub fn text(&self) -> String {
        self.lines.join("\n  ")
    }
}

fn board(program: Program) -> &'static str {
    if program.target.starts_with("thumb") { "qemu-system-arm" } else { "qemu-system-riscv32" }
}

fn options(program: Program, port: u16) -> Result<Vec<String>, String> {
    let this = env::current_exe().map_err(text)?;
    // The guest reaches one address, and a connection there starts this program, which connects to the server.
    let network = format!("user,id=net0,restrict=on,guestfwd=tcp:10.0.2.100:8000-cmd:{} pipe {port}", this.display());
    let options: &[&str] = match program.target {
        build::M3 => &["-M", "lm3s6965evb", "-serial", "null", "-nic", &network],
        build::M0 => &["-M", "microbit", "-serial", &format!("tcp:127.0.0.1:{port}")],
        build::RV32 => &["-M", "virt", "-bios", "none", "-serial", "null", "-netdev", &network, "-device", VIRTIO],
        build::RV32_PLAIN => &[
            "-M",
            "virt",
            "-bios",
            "none",
            "-serial",
            "null",
            "-netdev",
            &network,
            "-device",
            VIRTIO,
            "-cpu",
            plain_core()?,
        ],
        _ => return Err(format!("no board for {}", program.target)),
    };
    Ok(options.iter().map(|&option| option.to_owned()).collect())
}

const VIRTIO: &str = "virtio-net-device,netdev=net0";

/// A core without the extensions A, F and D, in the words of the QEMU that is installed.
fn plain_core() -> Result<&'static str, String> {
    let known = Command::new("qemu-system-riscv32").args(["-cpu", "help"]).output().map_err(text)?;
    let has_bare_core = String::from_utf8_lossy(&known.stdout).split_whitespace().any(|name| name == "rv32i");
    let bare = "rv32i,m=true,c=true,zicsr=true,zifencei=true,pmp=true";
    Ok(if has_bare_core { bare } else { "rv32,a=false,f=false,d=false" })
}

/// The monitor's connection, unless QEMU ends before.
fn accept(
    listener: &TcpListener,
    qemu: &mut Child,
    ends_at: Instant,
) -> Result<(TcpStream, std::net::SocketAddr), String> {
    listener.set_nonblocking(true).map_err(text)?;
    loop {
        match listener.accept() {
            Ok(accepted) => return Ok(accepted),
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return Err(text(error)),
            Err(_) => {}
        }
        let ended = qemu.try_wait().map_err(text)?;
        if ended.is_some() || Instant::now() >= ends_at {
            let _ = qemu.kill();
            let mut said = String::new();
            let _ = qemu.stderr.take().map(|mut out| out.read_to_string(&mut said));
            return Err(format!("QEMU did not start: {ended:?} {said}"));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
