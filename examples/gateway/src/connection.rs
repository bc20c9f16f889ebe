//! One device over TCP: bytes become lines, lines become answers, a little of both at a time.
//!
//! In: readiness of a socket, or its turn. Out: lines for the [`Intake`], answers to the device. A device that says too much
//! is not read until its rate allows the next line, so that its own connection fills up and nobody else's; one that does
//! not read its answers is not read either.
//!
//! Memory: one line and [`READ_BYTES`], and [`OUTPUT_BYTES_MAX`] of answers and one more.

use std::io::{ErrorKind, Read, Write};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use crate::intake::{Device, Intake, Reply};

/// Lines of one device before the next has its turn.
const TURN_LINES: usize = 32;

/// Bytes of one device before the next has its turn: what is no line takes time too.
const TURN_BYTES: usize = 32 * 1024;

/// Bytes read from a connection at a time.
const READ_BYTES: usize = 8 * 1024;

/// Answers that may wait for one device.
const OUTPUT_BYTES_MAX: usize = 4 * 1024;

/// What a line begins with that names its device.
const HELLO: &[u8] = b"hello ";

/// Longest name of a device, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// A connection and what is on its way on it.
pub struct Connection {
    pub stream: TcpStream,
    pub address: IpAddr,
    /// When it may go on; `None` until it is ready again.
    pub next_turn: Option<Instant>,
    /// When it last said a whole line, or came.
    pub heard: Instant,
    device: Device,
    input: Vec<u8>,
    output: Vec<u8>,
    /// The rest of a line that was too long is on its way.
    is_skipping: bool,
    /// The device has said its last word.
    is_ended: bool,
}

/// The connection is over.
pub struct Over;

impl Connection {
    pub fn new(stream: TcpStream, address: IpAddr, device: Device, now: Instant) -> Self {
        Self {
            stream,
            address,
            next_turn: None,
            heard: now,
            device,
            input: Vec::new(),
            output: Vec::new(),
            is_skipping: false,
            is_ended: false,
        }
    }

    /// Answers what can be answered, then takes lines until there are none, the turn is over, or the rate is used up.
    pub fn turn(&mut self, intake: &Intake, now: Instant) -> Result<(), Over> {
        self.next_turn = None;
        let (mut lines, mut bytes) = (0, 0);
        loop {
            self.write()?;
            if self.output.len() >= OUTPUT_BYTES_MAX {
                return Ok(()); // until it is writable
            }
            if lines >= TURN_LINES || bytes >= TURN_BYTES {
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
                None if self.is_ended => {
                    self.say_what_was_cut_off(intake);
                    return Err(Over);
                }
                None => {
                    self.drop_if_too_long(intake);
                    match self.read(intake.limits.line_bytes)? {
                        0 => return Ok(()), // until it is readable
                        len => bytes += len,
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
            // No name is no reason to forget the one it has.
            if !name.trim_ascii().is_empty() {
                self.device.name = String::from_utf8_lossy(name).trim().to_owned();
            }
        } else if line.len() > intake.limits.line_bytes {
            self.device.admit(&intake.limits, now)?;
            self.output.extend_from_slice(intake.too_long().to_string().as_bytes());
        } else if !line.trim_ascii().is_empty() {
            self.device.admit(&intake.limits, now)?;
            let reply: Reply = intake.take(&self.device.name, line);
            self.output.extend_from_slice(reply.to_string().as_bytes());
        }
        self.heard = now;
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

    /// A line without its end is not taken: `n=12` may have been going to be `n=123`, and the whole of it comes again.
    fn say_what_was_cut_off(&mut self, intake: &Intake) {
        if !self.is_skipping && !self.input.trim_ascii().is_empty() {
            self.output.extend_from_slice(intake.cut_off().to_string().as_bytes());
            let _ = self.write();
        }
    }

    /// Reads once, and says how much came; 0 if there is nothing now. At its end a connection goes on without.
    fn read(&mut self, line_bytes: usize) -> Result<usize, Over> {
        let mut bytes = [0; READ_BYTES];
        // At most one line and a newline are kept beyond what was read.
        let most = (line_bytes + 1).saturating_sub(self.input.len()).clamp(1, READ_BYTES);
        match self.stream.read(bytes.get_mut(..most).unwrap_or_default()) {
            Ok(0) => {
                self.is_ended = true;
                Ok(1)
            }
            Ok(len) => {
                self.input.extend_from_slice(bytes.get(..len).unwrap_or_default());
                Ok(len)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(1),
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
