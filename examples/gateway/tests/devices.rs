//! The gateway as its devices see it: a thousand of them, a server that is away for a while, and a gateway that is killed.
//!
//! In: the gateway's binary and a strict sink. Out: what each device was told, against what arrived. A device waits for each
//! answer, sends again what was not answered, and connects again when the gateway is gone, as a device should.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that fails should stop")]
#![allow(unsafe_code, reason = "kill")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use quillet::Uuid;
use quillet_support::{Answer, Rule, Sink};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long the server is away.
const OUTAGE: Duration = Duration::from_secs(10);

/// A running gateway.
struct Gateway {
    child: Child,
    tcp: Option<SocketAddr>,
    udp: Option<SocketAddr>,
}

impl Gateway {
    fn start(sink: &Sink, options: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_gateway"))
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
        let stdout = child.stdout.take().unwrap();
        let mut lines = BufReader::new(stdout).lines();
        for line in lines.by_ref().take(wanted) {
            let line = line.unwrap();
            let (kind, address) = line.strip_prefix("listening on ").unwrap().split_once(' ').unwrap();
            let place = if kind == "tcp" { &mut tcp } else { &mut udp };
            *place = Some(address.parse().unwrap());
        }
        Self { child, tcp, udp }
    }

    fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).unwrap();
        // SAFETY: sends a signal to a child that was not waited for, so the number is still its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    fn stop(mut self, signal: i32) -> ExitStatus {
        self.signal(signal);
        self.child.wait().unwrap()
    }

    /// Most memory that was ever resident, in KiB.
    fn peak_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }
}

/// A directory of this test's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// One device: a name, what it still has to say, and its connection, if it has one.
struct Device {
    number: usize,
    next: usize,
    connection: Option<BufReader<TcpStream>>,
}

/// What happened to a device when it tried.
enum Step {
    Answered,
    Wait,
    Gone,
}

const DEVICES: usize = 1000;
const FRAMES: usize = 100;

/// Every hundredth frame is malformed, each device's at another place.
fn is_malformed(device: usize, frame: usize) -> bool {
    (device + frame).is_multiple_of(100)
}

fn uuid(device: usize, frame: usize) -> Uuid {
    // Spread out, because six of the bits are not the caller's.
    Uuid::v4(
        [device as u64 + 1, (frame as u64 + 1) << 32 | device as u64].map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
    )
}

fn line(device: usize, frame: usize) -> String {
    if is_malformed(device, frame) {
        return format!("{{\"event\":\"reading\",\"n\":{frame}\n");
    }
    let (uuid, time) = (uuid(device, frame), 1_772_366_405_000 + frame);
    if device.is_multiple_of(2) {
        return format!("reading sensor-{device} #{uuid} @{time} n={frame} room=server%20room\n");
    }
    let time = quillet::Timestamp::from_unix_ms(time as u64);
    format!(
        "{{\"event\":\"reading\",\"distinct_id\":\"sensor-{device}\",\"uuid\":\"{uuid}\",\"timestamp\":\"{time}\",\
         \"properties\":{{\"n\":{frame},\"$lib\":\"quillet\"}}}},\n"
    )
}

impl Device {
    /// Sends the next frame and waits for its answer.
    fn step(&mut self, gateway: SocketAddr) -> Step {
        let Some(connection) = &mut self.connection else {
            let Ok(stream) = TcpStream::connect(gateway) else { return Step::Gone };
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut stream = BufReader::new(stream);
            if stream.get_mut().write_all(format!("hello device-{}\n", self.number).as_bytes()).is_err() {
                return Step::Gone;
            }
            self.connection = Some(stream);
            return Step::Answered;
        };
        let mut answer = String::new();
        let sent = connection.get_mut().write_all(line(self.number, self.next).as_bytes());
        if sent.is_err() || connection.read_line(&mut answer).unwrap_or(0) == 0 {
            self.connection = None;
            return Step::Gone;
        }
        let malformed = is_malformed(self.number, self.next);
        match answer.trim_end().split_once(' ') {
            Some(("ok", id)) if !malformed => assert_eq!(Uuid::parse(id), Some(uuid(self.number, self.next))),
            Some(("no", "not_json")) if malformed => {}
            Some(("later", _)) => return Step::Wait,
            _ => panic!("device {} frame {}: {answer:?}", self.number, self.next),
        }
        self.next += 1;
        Step::Answered
    }
}

/// Lets all devices say everything. `progress` counts what was answered.
fn run_devices(gateway: &(dyn Fn() -> SocketAddr + Sync), progress: &AtomicUsize) {
    const THREADS: usize = 8;
    thread::scope(|scope| {
        for at in 0..THREADS {
            scope.spawn(move || {
                let numbers = (0..DEVICES).filter(|number| number % THREADS == at);
                let mut devices: Vec<_> = numbers.map(|number| Device { number, next: 0, connection: None }).collect();
                let started = Instant::now();
                while !devices.is_empty() {
                    assert!(started.elapsed() < PATIENCE, "{} devices are not done", devices.len());
                    let mut is_stuck = true;
                    for device in &mut devices {
                        let before = device.next;
                        match device.step(gateway()) {
                            Step::Answered => is_stuck = false,
                            Step::Wait | Step::Gone => {}
                        }
                        progress.fetch_add(device.next - before, Ordering::Relaxed);
                    }
                    devices.retain(|device| device.next < FRAMES);
                    if is_stuck {
                        // What a device does that was told to come later, or found nobody.
                        thread::sleep(Duration::from_millis(100));
                    }
                }
            });
        }
    });
}

#[test]
fn what_was_acknowledged_arrives_once_through_an_outage_and_a_kill() {
    let folder = Folder::new("gateway-kill");
    let sink = Sink::start();
    let is_away = Arc::new(AtomicBool::new(false));
    let away = Arc::clone(&is_away);
    sink.rule(Rule::custom(move |_| away.load(Ordering::SeqCst).then(|| Answer::status(503))));
    let options = |tcp: &str| {
        ["--tcp", tcp, "--spool", folder.path(), "--queue", "40000", "--rate", "100000", "--burst", "100000"]
            .map(str::to_owned)
    };
    let start = |tcp: &str| {
        let options = options(tcp);
        Gateway::start(&sink, &options.each_ref().map(String::as_str))
    };
    let first = start("127.0.0.1:0");
    let address = first.tcp.unwrap();
    let progress = AtomicUsize::new(0);
    let all = DEVICES * FRAMES;
    let reached = |part: usize| {
        let started = Instant::now();
        while progress.load(Ordering::Relaxed) < part {
            assert!(started.elapsed() < PATIENCE, "{} of {part}", progress.load(Ordering::Relaxed));
            thread::sleep(Duration::from_millis(5));
        }
    };

    let (second, peak) = thread::scope(|scope| {
        scope.spawn(|| run_devices(&|| address, &progress));
        reached(all / 5);
        is_away.store(true, Ordering::SeqCst);
        let back = Instant::now() + OUTAGE;
        reached(all * 2 / 5);
        let peak = first.peak_kib();
        first.stop(libc::SIGKILL);
        let second = start(&address.to_string());
        thread::sleep(back.saturating_duration_since(Instant::now()));
        is_away.store(false, Ordering::SeqCst);
        reached(all);
        (second, peak)
    });

    let expected: HashMap<String, (usize, usize)> = (0..DEVICES)
        .flat_map(|device| (0..FRAMES).map(move |frame| (device, frame)))
        .filter(|(device, frame)| !is_malformed(*device, *frame))
        .map(|(device, frame)| (uuid(device, frame).to_string(), (device, frame)))
        .collect();
    assert_eq!(expected.len(), all - all / 100);
    sink.wait_for(
        |journal| {
            journal.stored().len() >= expected.len() && journal.stored().len() - journal.duplicates() >= expected.len()
        },
        PATIENCE,
    );
    let peak = peak.max(second.peak_kib());
    assert!(second.stop(libc::SIGTERM).success());

    // Each once by its uuid, and the same whenever it came twice; a kill may repeat one batch.
    let mut arrived: HashMap<String, String> = HashMap::new();
    for event in sink.stored() {
        let (device, frame) = expected[event.uuid()];
        assert_eq!((event.name(), event.distinct_id()), ("reading", format!("sensor-{device}").as_str()));
        assert_eq!(event.property("n"), frame, "{event:?}");
        assert_eq!(event.property("device"), &format!("device-{device}"));
        assert_eq!(event.property("gateway"), "test");
        let identity = format!("{} {} {}", event.name(), event.distinct_id(), event.timestamp());
        assert_eq!(*arrived.entry(event.uuid().to_owned()).or_insert_with(|| identity.clone()), identity);
    }
    assert_eq!(arrived.len(), expected.len(), "not everything acknowledged has arrived");
    sink.assert_clean();
    println!(
        "{} frames acknowledged, {} arrived, {} twice; peak {peak} KiB",
        expected.len(),
        arrived.len(),
        sink.stored().len() - arrived.len(),
    );
    assert!(peak < 96 * 1024, "{peak} KiB");
}

/// Without the file there is no promise to keep; better not to begin.
#[test]
fn a_spool_that_cannot_be_had_ends_the_gateway() {
    let child = Command::new(env!("CARGO_BIN_EXE_gateway"))
        .args(["--key", "phc_gateway", "--tcp", "127.0.0.1:0", "--spool", "/dev/null"])
        .output()
        .unwrap();
    assert_eq!(child.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&child.stderr).contains("spool directory"));
}

#[test]
fn a_babbling_device_waits_and_the_others_do_not() {
    let sink = Sink::start();
    let gateway =
        Gateway::start(&sink, &["--tcp", "127.0.0.1:0", "--rate", "50", "--burst", "50", "--line-bytes", "256"]);
    let connect = || {
        let stream = TcpStream::connect(gateway.tcp.unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        BufReader::new(stream)
    };
    let mut babbling = connect();
    let started = Instant::now();
    // Far more than its rate, in one breath.
    babbling.get_mut().write_all("babble\n".repeat(100).as_bytes()).unwrap();
    let mut quiet = connect();
    let mut answer = String::new();
    for line in ["quiet device-1 n=1\n".to_owned(), format!("{}\n", "x".repeat(5000)), "quiet - n=2\n".to_owned()] {
        quiet.get_mut().write_all(line.as_bytes()).unwrap();
        quiet.read_line(&mut answer).unwrap();
    }
    let words: Vec<_> = answer.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(words, ["ok", "no", "ok"]);
    let quiet_took = started.elapsed();
    for _ in 0..100 {
        answer.clear();
        babbling.read_line(&mut answer).unwrap();
        assert!(answer.starts_with("ok "), "{answer}");
    }
    // Fifty at once, fifty at fifty a second.
    assert!(started.elapsed() > Duration::from_millis(900), "{:?}", started.elapsed());
    assert!(quiet_took < started.elapsed());
    assert!(gateway.stop(libc::SIGTERM).success());
    assert_eq!(sink.stored().len(), 102);
    sink.assert_clean();
}

#[test]
fn datagrams_and_standard_input_are_heard_too() {
    let sink = Sink::start();
    let mut gateway = Gateway::start(&sink, &["--udp", "127.0.0.1:0", "--stdin", "--rate", "5", "--burst", "5"]);
    let device = UdpSocket::bind("127.0.0.1:0").unwrap();
    device.set_read_timeout(Some(PATIENCE)).unwrap();
    device.send_to("tick - n=1\n\n{\ntick - n=2".as_bytes(), gateway.udp.unwrap()).unwrap();
    let mut bytes = [0; 1024];
    let (len, _) = device.recv_from(&mut bytes).unwrap();
    let answers = String::from_utf8_lossy(&bytes[..len]).into_owned();
    let words: Vec<_> = answers.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(words, ["ok", "no", "ok"]);
    device.send_to(b"tick\ntick\ntick\ntick", gateway.udp.unwrap()).unwrap();
    let (len, _) = device.recv_from(&mut bytes).unwrap();
    assert!(String::from_utf8_lossy(&bytes[..len]).contains("too_fast"));
    gateway.child.stdin.take().unwrap().write_all(b"from stdin").unwrap();
    assert!(sink.wait_for(|journal| journal.stored().iter().any(|event| event.name() == "from"), PATIENCE));
    assert!(gateway.stop(libc::SIGTERM).success());
    sink.assert_clean();
}
