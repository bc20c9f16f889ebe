//! All sockets on one thread: accepting, reading lines, answering them, and being fair about it.
//!
//! In: readiness from the operating system. Out: lines for the [`Intake`], its answers back to the devices. A device that
//! says too much over TCP is not read until its rate allows the next line, so that its own connection fills up and
//! nobody else's; over UDP it is told `later`. Every device has its turn of [`TURN_LINES`] lines before another gets a
//! second one.
//!
//! Memory: for each connection one line and [`OUTPUT_BYTES_MAX`] of answers; a connection that does not read its answers
//! is not read either. For each UDP address its name and its rate.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream, UdpSocket};
use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;

use crate::intake::{Device, Intake, Reply};

/// Lines of one device before the next has its turn.
const TURN_LINES: usize = 32;

/// Bytes read from a connection at a time.
const READ_BYTES: usize = 8 * 1024;

/// Answers that may wait for one device.
const OUTPUT_BYTES_MAX: usize = 4 * 1024;

/// Datagrams read before others have their turn.
const TURN_DATAGRAMS: usize = 64;

/// A UDP device that was silent for so long may be forgotten.
const SILENCE: Duration = Duration::from_secs(60);

/// What a TCP line begins with that names its device.
const HELLO: &[u8] = b"hello ";

/// Longest name of a device, in bytes.
const NAME_BYTES_MAX: usize = 64;

const SIGNALS: Token = Token(0);
const LISTENER: Token = Token(1);
const DATAGRAMS: Token = Token(2);
const FIRST_CONNECTION: usize = 3;

/// The sockets and who is behind them.
pub struct Net {
    poll: Poll,
    signals: Signals,
    listener: Option<TcpListener>,
    datagrams: Option<UdpSocket>,
    intake: Arc<Intake>,
    devices_max: usize,
    connections: Vec<Option<Connection>>,
    open: usize,
    addresses: HashMap<SocketAddr, Device>,
}

/// What ended the gateway's waiting.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// A signal asked it to stop.
    Asked,
    /// The time is up.
    Time,
}

impl Net {
    /// Binds what there is to bind and takes over SIGTERM and SIGINT.
    pub fn bind(
        tcp: Option<SocketAddr>,
        udp: Option<SocketAddr>,
        intake: Arc<Intake>,
        devices_max: usize,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut signals = Signals::new([SIGTERM, SIGINT])?;
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
        let mut listener = tcp.map(TcpListener::bind).transpose()?;
        if let Some(listener) = &mut listener {
            poll.registry().register(listener, LISTENER, Interest::READABLE)?;
        }
        let mut datagrams = udp.map(UdpSocket::bind).transpose()?;
        if let Some(datagrams) = &mut datagrams {
            poll.registry().register(datagrams, DATAGRAMS, Interest::READABLE)?;
        }
        let (connections, addresses) = (Vec::new(), HashMap::new());
        Ok(Self { poll, signals, listener, datagrams, intake, devices_max, connections, open: 0, addresses })
    }

    /// The addresses that were bound: with port 0, the ones the system chose.
    pub fn bound(&self) -> [Option<SocketAddr>; 2] {
        let tcp = self.listener.as_ref().and_then(|listener| listener.local_addr().ok());
        [tcp, self.datagrams.as_ref().and_then(|datagrams| datagrams.local_addr().ok())]
    }

    /// Devices that are connected, or were heard of lately.
    pub fn devices(&self) -> usize {
        self.open + self.addresses.len()
    }

    /// Serves until `until`, or until a signal asks for the end.
    pub fn serve(&mut self, until: Instant) -> io::Result<Ended> {
        let mut events = Events::with_capacity(1024);
        loop {
            let now = Instant::now();
            if now >= until {
                return Ok(Ended::Time);
            }
            // Connections with more to read, or with a rate to wait for, need no readiness to go on.
            let next_turn = self.connections.iter().flatten().filter_map(|connection| connection.next_turn).min();
            let wake = next_turn.map_or(until, |turn| turn.min(until));
            match self.poll.poll(&mut events, Some(wake.saturating_duration_since(now))) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                done => done?,
            }
            for event in &events {
                match event.token() {
                    SIGNALS if self.signals.pending().next().is_some() => return Ok(Ended::Asked),
                    SIGNALS => {}
                    LISTENER => self.accept(),
                    DATAGRAMS => self.receive(),
                    Token(at) => {
                        if let Some(Some(connection)) = self.connections.get_mut(at - FIRST_CONNECTION) {
                            connection.next_turn.get_or_insert(now);
                        }
                    }
                }
            }
            self.take_turns();
        }
    }

    /// Lets everybody who has something to say say a little of it.
    fn take_turns(&mut self) {
        let now = Instant::now();
        for at in 0..self.connections.len() {
            let Some(place) = self.connections.get_mut(at) else { continue };
            let Some(connection) = place.as_mut().filter(|it| it.next_turn.is_some_and(|turn| turn <= now)) else {
                continue;
            };
            if connection.turn(&self.intake, now).is_err() {
                let _ = self.poll.registry().deregister(&mut connection.stream);
                *place = None;
                self.open -= 1;
            }
        }
        if self.datagrams.is_some() && self.addresses.len() > self.devices_max / 2 {
            self.addresses.retain(|_, device| now.duration_since(device.last_heard()) < SILENCE);
        }
    }

    fn accept(&mut self) {
        while let Some(Ok((mut stream, address))) = self.listener.as_ref().map(TcpListener::accept) {
            if self.open >= self.devices_max {
                let _ = stream.write(b"later 10000 too_many_devices\n");
                continue;
            }
            let at = match self.connections.iter().position(Option::is_none) {
                Some(at) => at,
                None => {
                    self.connections.push(None);
                    self.connections.len() - 1
                }
            };
            let interest = Interest::READABLE | Interest::WRITABLE;
            if self.poll.registry().register(&mut stream, Token(FIRST_CONNECTION + at), interest).is_err() {
                continue;
            }
            let _ = stream.set_nodelay(true);
            let device = Device::new(address.to_string(), &self.intake.limits, Instant::now());
            if let Some(place) = self.connections.get_mut(at) {
                *place = Some(Connection::new(stream, device));
                self.open += 1;
            }
        }
    }

    /// Datagrams, each with one line or more; what does not fit a datagram does not come.
    fn receive(&mut self) {
        let Some(socket) = &self.datagrams else { return };
        let mut bytes = [0; 65_536];
        let now = Instant::now();
        for _ in 0..TURN_DATAGRAMS {
            let Ok((len, address)) = socket.recv_from(&mut bytes) else { return };
            if !self.addresses.contains_key(&address) && self.addresses.len() >= self.devices_max {
                let _ = socket.send_to(b"later 10000 too_many_devices\n", address);
                continue;
            }
            let limits = &self.intake.limits;
            let device = self.addresses.entry(address).or_insert_with(|| Device::new(address.to_string(), limits, now));
            let lines = bytes.get(..len).unwrap_or_default().split(|byte| *byte == b'\n');
            let mut answers = String::new();
            for line in lines.filter(|line| !line.trim_ascii().is_empty()) {
                let reply = match device.admit(limits, now) {
                    Err(wait) => self.intake.too_fast(wait),
                    Ok(()) if line.len() > limits.line_bytes => self.intake.too_long(),
                    Ok(()) => self.intake.take(&device.name, line),
                };
                answers.push_str(&reply.to_string());
            }
            let _ = socket.send_to(answers.as_bytes(), address);
        }
        // mio tells of readiness once; what is left is read after the others had their turn.
        if let Some(datagrams) = &mut self.datagrams {
            let _ = self.poll.registry().reregister(datagrams, DATAGRAMS, Interest::READABLE);
        }
    }
}

/// One device over TCP.
struct Connection {
    stream: TcpStream,
    device: Device,
    input: Vec<u8>,
    /// The rest of a line that was too long is on its way.
    is_skipping: bool,
    output: Vec<u8>,
    /// When it may go on; `None` until it is ready again.
    next_turn: Option<Instant>,
    /// The device has said its last word.
    is_ended: bool,
}

/// The connection is over.
struct Over;

impl Connection {
    fn new(stream: TcpStream, device: Device) -> Self {
        let (input, output) = (Vec::new(), Vec::new());
        Self { stream, device, input, is_skipping: false, output, next_turn: None, is_ended: false }
    }

    /// Answers what can be answered, then takes lines until there are none, the turn is over, or the rate is used up.
    fn turn(&mut self, intake: &Intake, now: Instant) -> Result<(), Over> {
        self.next_turn = None;
        let mut lines = 0;
        loop {
            self.write()?;
            if self.output.len() >= OUTPUT_BYTES_MAX {
                return Ok(()); // until it is writable
            }
            if lines >= TURN_LINES {
                self.next_turn = Some(now);
                return Ok(());
            }
            match self.input.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    if let Err(wait) = self.line(intake, end, now) {
                        self.next_turn = Some(now + wait);
                        return Ok(());
                    }
                    lines += 1;
                }
                None if self.is_ended => return Err(Over),
                None => {
                    self.drop_if_too_long(intake);
                    if !self.read(intake.limits.line_bytes)? {
                        return Ok(()); // until it is readable
                    }
                }
            }
        }
    }

    /// Takes the line that ends at `end`; `Err` says how long its device has to wait, and leaves it.
    fn line(&mut self, intake: &Intake, end: usize, now: Instant) -> Result<(), Duration> {
        let line = self.input.get(..end).unwrap_or_default();
        if self.is_skipping {
            self.is_skipping = false;
        } else if let Some(name) = line.strip_prefix(HELLO) {
            let name = name.get(..name.len().min(NAME_BYTES_MAX)).unwrap_or_default();
            self.device.name = String::from_utf8_lossy(name).trim().to_owned();
        } else if line.len() > intake.limits.line_bytes {
            self.device.admit(&intake.limits, now)?;
            self.output.extend_from_slice(intake.too_long().to_string().as_bytes());
        } else if !line.trim_ascii().is_empty() {
            self.device.admit(&intake.limits, now)?;
            let reply: Reply = intake.take(&self.device.name, line);
            self.output.extend_from_slice(reply.to_string().as_bytes());
        }
        self.input.drain(..=end);
        Ok(())
    }

    /// What has no end within the bound of a line is no line; the rest of it is read past.
    fn drop_if_too_long(&mut self, intake: &Intake) {
        if self.input.len() > intake.limits.line_bytes {
            self.input.clear();
            if !self.is_skipping {
                self.is_skipping = true;
                self.output.extend_from_slice(intake.too_long().to_string().as_bytes());
            }
        }
    }

    /// Reads once. `false` if there is nothing now.
    fn read(&mut self, line_bytes: usize) -> Result<bool, Over> {
        let mut bytes = [0; READ_BYTES];
        // At most one line and a newline are kept beyond what was read.
        let most = (line_bytes + 1).saturating_sub(self.input.len()).clamp(1, READ_BYTES);
        match self.stream.read(bytes.get_mut(..most).unwrap_or_default()) {
            Ok(0) => {
                self.is_ended = true;
                self.input.push(b'\n'); // a last line without an end
                Ok(true)
            }
            Ok(len) => {
                self.input.extend_from_slice(bytes.get(..len).unwrap_or_default());
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(_) => Err(Over),
        }
    }

    /// Writes what the device has room for.
    fn write(&mut self) -> Result<(), Over> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(0) => return Err(Over),
                Ok(len) => drop(self.output.drain(..len)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Over),
            }
        }
        Ok(())
    }
}
