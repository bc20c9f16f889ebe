//! All sockets on one thread: accepting, reading lines, answering them, and being fair about it.
//!
//! In: readiness from the operating system. Out: turns for the [`Connection`]s, lines of datagrams for the [`Intake`],
//! answers back to the devices. Over UDP, which nobody can be made to wait on, a device that says too much is told `later`.
//! Every device has its turn before another gets a second one.
//!
//! Memory: a [`Connection`] for each device that is connected; for each UDP address its name and its rate. Where all places
//! are taken, the device that has been silent for longest makes room, if that was [`SILENCE`].

use std::collections::HashMap;
use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, UdpSocket};
use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;

use crate::connection::Connection;
use crate::intake::{Device, Intake, Reply};

/// Datagrams read, or connections accepted, before others have their turn.
const TURN_NEWCOMERS: usize = 64;

/// Most bytes of answers in one datagram. It is answered in several if need be.
const ANSWER_BYTES_MAX: usize = 32 * 1024;

/// A device that was silent for so long may have to make room for another.
const SILENCE: Duration = Duration::from_secs(60);

/// How long to wait before accepting is tried again, after the system refused.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Between two looks for connections that have been silent for too long.
const IDLE_LOOK: Duration = Duration::from_secs(1);

const SIGNALS: Token = Token(0);
const LISTENER: Token = Token(1);
const DATAGRAMS: Token = Token(2);
const FIRST_CONNECTION: usize = 3;

/// What sockets may take.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    /// Devices at a time, over TCP and over UDP each.
    pub devices: usize,
    /// TCP connections of one address.
    pub per_address: usize,
    /// A connection without a line for so long is closed.
    pub idle: Duration,
}

/// The sockets and who is behind them.
pub struct Net {
    poll: Poll,
    signals: Signals,
    listener: Option<TcpListener>,
    /// When to accept without being told that somebody is there.
    accept_at: Option<Instant>,
    datagrams: Option<UdpSocket>,
    intake: Arc<Intake>,
    places: Places,
    connections: Vec<Option<Connection>>,
    /// Places in `connections` that nobody has.
    free: Vec<usize>,
    /// Connections of each address.
    addresses: HashMap<IpAddr, usize>,
    /// Devices that speak UDP.
    senders: HashMap<SocketAddr, Device>,
    idle_look: Instant,
}

/// Why [`Net::serve`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        places: Places,
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
        Ok(Self {
            poll,
            signals,
            listener,
            accept_at: None,
            datagrams,
            intake,
            places,
            connections: Vec::new(),
            free: Vec::new(),
            addresses: HashMap::new(),
            senders: HashMap::new(),
            idle_look: Instant::now(),
        })
    }

    /// The addresses that were bound: with port 0, the ones the system chose.
    pub fn bound(&self) -> [Option<SocketAddr>; 2] {
        let tcp = self.listener.as_ref().and_then(|listener| listener.local_addr().ok());
        [tcp, self.datagrams.as_ref().and_then(|datagrams| datagrams.local_addr().ok())]
    }

    /// Devices that are connected, or were heard of lately.
    pub fn devices(&self) -> usize {
        self.open() + self.senders.len()
    }

    fn open(&self) -> usize {
        self.connections.len() - self.free.len()
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
            let turns = self.connections.iter().flatten().filter_map(|connection| connection.next_turn);
            let wake = turns.chain(self.accept_at).min().map_or(until, |turn| turn.min(until));
            match self.poll.poll(&mut events, Some(wake.saturating_duration_since(now))) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                done => done?,
            }
            for event in &events {
                match event.token() {
                    SIGNALS if self.signals.pending().next().is_some() => return Ok(Ended::Asked),
                    SIGNALS => {}
                    LISTENER => self.accept_at = Some(now),
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
        if self.accept_at.is_some_and(|at| at <= now) {
            self.accept(now);
        }
        for at in 0..self.connections.len() {
            let Some(Some(connection)) = self.connections.get_mut(at) else { continue };
            let is_next = connection.next_turn.is_some_and(|turn| turn <= now);
            if is_next && connection.turn(&self.intake, now).is_err() {
                self.close(at);
            }
        }
        if now.duration_since(self.idle_look) >= IDLE_LOOK {
            self.idle_look = now;
            self.close_idle(now);
            self.senders.retain(|_, device| now.duration_since(device.last_heard()) < self.places.idle);
        }
    }

    fn close_idle(&mut self, now: Instant) {
        for at in 0..self.connections.len() {
            let silence = |connection: &Connection| now.duration_since(connection.heard);
            if self.connections.get(at).is_some_and(|place| place.as_ref().map(silence) >= Some(self.places.idle)) {
                self.close(at);
            }
        }
    }

    fn close(&mut self, at: usize) {
        let Some(mut connection) = self.connections.get_mut(at).and_then(Option::take) else { return };
        let _ = self.poll.registry().deregister(&mut connection.stream);
        self.free.push(at);
        if let Some(count) = self.addresses.get_mut(&connection.address) {
            *count -= 1;
            if *count == 0 {
                self.addresses.remove(&connection.address);
            }
        }
    }

    /// Takes those in who wait at the door, or a part of them: the others have their turn, too.
    fn accept(&mut self, now: Instant) {
        let Some(listener) = self.listener.take() else { return };
        self.accept_at = Some(now); // until there is nobody
        for _ in 0..TURN_NEWCOMERS {
            match listener.accept() {
                Ok((stream, address)) => self.welcome(stream, address.ip(), now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.accept_at = None;
                    break;
                }
                // Gone before it was accepted.
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                // No descriptor, no memory. The system will not tell again of those who wait already.
                Err(_) => {
                    self.accept_at = Some(now + ACCEPT_AGAIN);
                    self.close_most_silent(now);
                    break;
                }
            }
        }
        self.listener = Some(listener);
    }

    fn welcome(&mut self, mut stream: mio::net::TcpStream, address: IpAddr, now: Instant) {
        let of_address = self.addresses.get(&address).copied().unwrap_or(0);
        let is_full = self.open() >= self.places.devices && !self.close_most_silent(now);
        if is_full || of_address >= self.places.per_address {
            let _ = stream.write(Reply::NO_PLACE.to_string().as_bytes());
            return;
        }
        let at = self.free.pop().unwrap_or(self.connections.len());
        if at == self.connections.len() {
            self.connections.push(None);
        }
        let interest = Interest::READABLE | Interest::WRITABLE;
        if self.poll.registry().register(&mut stream, Token(FIRST_CONNECTION + at), interest).is_err() {
            self.free.push(at);
            return;
        }
        let _ = stream.set_nodelay(true);
        let device = Device::new(address.to_string(), &self.intake.limits, now);
        if let Some(place) = self.connections.get_mut(at) {
            *place = Some(Connection::new(stream, address, device, now));
            *self.addresses.entry(address).or_insert(0) += 1;
        }
    }

    /// Closes the connection that has said no line for longest, if that is long enough. Whether there was one.
    fn close_most_silent(&mut self, now: Instant) -> bool {
        let places = self.connections.iter().enumerate();
        let heard = places.filter_map(|(at, place)| place.as_ref().map(|connection| (connection.heard, at)));
        let silent = heard.min().filter(|(heard, _)| now.duration_since(*heard) >= SILENCE);
        if let Some((_, at)) = silent {
            self.close(at);
        }
        silent.is_some()
    }

    /// Datagrams, each with one line or more; what does not fit a datagram does not come.
    fn receive(&mut self) {
        let Some(socket) = &self.datagrams else { return };
        let mut bytes = [0; 65_536];
        let now = Instant::now();
        for _ in 0..TURN_NEWCOMERS {
            let Ok((len, address)) = socket.recv_from(&mut bytes) else { return };
            if !self.senders.contains_key(&address) && self.senders.len() >= self.places.devices {
                self.senders.retain(|_, device| now.duration_since(device.last_heard()) < SILENCE);
                if self.senders.len() >= self.places.devices {
                    let _ = socket.send_to(Reply::NO_PLACE.to_string().as_bytes(), address);
                    continue;
                }
            }
            let name = || address.ip().to_string();
            let device = self.senders.entry(address).or_insert_with(|| Device::new(name(), &self.intake.limits, now));
            answer(&self.intake, device, bytes.get(..len).unwrap_or_default(), now, &mut |answers| {
                let _ = socket.send_to(answers.as_bytes(), address);
            });
        }
        // mio tells of readiness once; what is left is read after the others had their turn.
        if let Some(datagrams) = &mut self.datagrams {
            let _ = self.poll.registry().reregister(datagrams, DATAGRAMS, Interest::READABLE);
        }
    }
}

/// Takes the lines of a datagram. Where the rate is used up, one `later` is the answer to that line and all behind it.
fn answer(intake: &Intake, device: &mut Device, datagram: &[u8], now: Instant, send: &mut impl FnMut(&str)) {
    let mut answers = String::new();
    for line in datagram.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        let admitted = device.admit(&intake.limits, now);
        let reply = match admitted {
            Err(wait) => intake.too_fast(wait),
            Ok(()) if line.len() > intake.limits.line_bytes => intake.too_long(),
            Ok(()) => intake.take(&device.name, line),
        };
        answers.push_str(&reply.to_string());
        if answers.len() > ANSWER_BYTES_MAX {
            send(&answers);
            answers.clear();
        }
        if admitted.is_err() {
            break;
        }
    }
    if !answers.is_empty() {
        send(&answers);
    }
}
