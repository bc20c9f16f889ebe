//! The smallest HTTP/1.1 that delivers a batch: over any byte stream of `embedded_io`, for firmware.
//!
//! In: a [`Batch`], whose bytes go out of the ring as they lie there. Out: an [`Outcome`]. There is one request at a time
//! and one connection, which is kept for the next batch where the server allows it. TLS is a stream of its own (for
//! example `embedded-tls`) between this and the network.
//!
//! Nothing is allocated and nothing is buffered but a line of the reply; the largest thing on the stack is that reply, of
//! about 200 bytes.
//!
//! # Time
//!
//! The caller's [`Clock`] is looked at before every read and write. A stream must therefore not wait for ever: one that
//! has nothing yet returns an error of the kind [`Interrupted`](embedded_io::ErrorKind::Interrupted) after some
//! milliseconds, and is asked again until the time is up. One that has a timeout of its own may use any other kind.
//!
//! A device that has no clock learns the time from the `Date` of the server's replies: see [`Http::learn_time`].

mod reply;

use crate::{Batch, Body, Clock, Instant, Outcome, Timestamp, Transport, limits};
use core::fmt;
use core::time::Duration;
use embedded_io::{Error, ErrorKind, Read, Write};
use reply::Reply;

/// Where PostHog takes batches.
const PATH: &str = "/batch/";

/// Bytes read from the stream at a time.
const READ_BYTES: usize = 64;

/// A byte stream that can be connected, and connected again.
pub trait Link: Read + Write {
    /// Makes a new connection, giving up what is left of an earlier one; by the time given, as far as it can be kept.
    ///
    /// # Errors
    ///
    /// Whatever keeps the server from being reached. The events stay pending.
    fn open(&mut self, by: Instant) -> Result<(), Self::Error>;

    /// Gives the connection up, if there is one.
    fn close(&mut self);
}

/// [`Link`] for `embedded_io_async`.
#[cfg(feature = "embedded-io-async")]
#[allow(async_fn_in_trait, reason = "firmware's executors do not ask futures to be Send, as in embedded_io_async")]
pub trait AsyncLink: embedded_io_async::Read + embedded_io_async::Write {
    /// As [`Link::open`].
    ///
    /// # Errors
    ///
    /// Whatever keeps the server from being reached.
    async fn open(&mut self, by: Instant) -> Result<(), Self::Error>;

    /// As [`Link::close`].
    async fn close(&mut self);
}

/// A [`Transport`] over a [`Link`].
///
/// ```
/// use quillet_core::http::{Http, Link};
/// use quillet_core::{Clock, Flusher};
///
/// fn deliver<const N: usize>(flusher: &mut Flusher<'_, N>, modem: impl Link, clock: impl Clock) {
///     let Ok(mut http) = Http::new(modem, &clock, "us.i.posthog.com") else { return };
///     while let quillet_core::Action::Send(batch) = flusher.poll(clock.now()) {
///         let outcome = quillet_core::Transport::send(&mut http, &batch);
///         flusher.handle_outcome(clock.now(), outcome);
///     }
/// }
/// ```
pub struct Http<'h, L, C> {
    link: L,
    clock: C,
    host: &'h str,
    path: &'h str,
    timeout: Duration,
    /// The connection of the last request is there and can carry another one.
    is_open: bool,
    says_sent_at: bool,
    /// Wall time at [`Instant::ZERO`], in microseconds.
    wall_zero: Option<u64>,
}

impl<'h, L, C: Clock> Http<'h, L, C> {
    /// A client for `host`: what the `Host` header says, a name or an address, with a port unless it is the usual one.
    ///
    /// # Errors
    ///
    /// [`HttpError::BadHost`].
    pub fn new(link: L, clock: C, host: &'h str) -> Result<Self, HttpError> {
        if !is_plain(host) {
            return Err(HttpError::BadHost);
        }
        let timeout = limits::REQUEST_TIMEOUT;
        Ok(Self { link, clock, host, path: PATH, timeout, is_open: false, says_sent_at: false, wall_zero: None })
    }

    /// Another path than `/batch/`, for a proxy.
    ///
    /// # Errors
    ///
    /// [`HttpError::BadPath`].
    pub fn with_path(self, path: &'h str) -> Result<Self, HttpError> {
        if path.starts_with('/') && is_plain(path) { Ok(Self { path, ..self }) } else { Err(HttpError::BadPath) }
    }

    /// How long a request may take, connecting included; 15 s unless set.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Whether requests say when they were sent, as far as that is known: the server then moves the times of their events
    /// by what this device's clock differs from its own. Off unless set.
    #[must_use]
    pub fn with_sent_at(self, says_sent_at: bool) -> Self {
        Self { says_sent_at, ..self }
    }

    /// The wall time, once it was [set](Http::set_wall_time) or [learned](Http::learn_time).
    pub fn wall_time(&self) -> Option<Timestamp> {
        Some(Timestamp::from_unix_micros(self.wall_zero?.saturating_add(self.clock.now().as_micros())))
    }

    /// Tells what the wall time is now.
    pub fn set_wall_time(&mut self, now: Timestamp) {
        self.wall_zero = Some(now.as_unix_micros().saturating_sub(self.clock.now().as_micros()));
    }

    /// The stream.
    pub fn link_mut(&mut self) -> &mut L {
        &mut self.link
    }

    /// When the request that begins now must have ended.
    fn ends_at(&self, deadline: Option<Instant>) -> Instant {
        let timeout = self.clock.now().after(self.timeout);
        deadline.map_or(timeout, |deadline| deadline.min(timeout))
    }

    fn sent_at(&self) -> Option<Timestamp> {
        if self.says_sent_at { self.wall_time() } else { None }
    }

    /// The time on the server's clock, if the reply says it. Its second may be up to one old, and so may the reply.
    fn take_time(&mut self, reply: &Reply) -> Option<Timestamp> {
        let now = reply.date()?;
        self.set_wall_time(now);
        Some(now)
    }

    fn outcome(&self, reply: &Reply) -> Outcome {
        reply.answer(self.wall_time()).map_or(Outcome::NoAnswer, Outcome::Answered)
    }
}

impl<L: Link, C: Clock> Http<'_, L, C> {
    /// Asks the server for its time, by a request without a body: for a device without a clock, before it delivers.
    ///
    /// The time is exact to about a second. `None` if no answer came or it has no `Date`.
    pub fn learn_time(&mut self) -> Option<Timestamp> {
        let ends_at = self.ends_at(None);
        let reply = self.request(&Request::new(self.host, self.path, None), ends_at).ok()?;
        self.take_time(&reply)
    }

    /// One request and its reply, on a new connection if there is none.
    fn request(&mut self, request: &Request<'_>, ends_at: Instant) -> Result<Reply, Outcome> {
        loop {
            let was_open = self.is_open;
            if !was_open && self.link.open(ends_at).is_err() {
                self.link.close();
                return Err(Outcome::Unreachable);
            }
            let reply = exchange(&mut self.link, &self.clock, request, ends_at);
            self.is_open = reply.is_reusable();
            if !self.is_open {
                self.link.close();
            }
            // A server closes a connection that was idle for long, and nobody is told: that is no attempt yet.
            if reply.answer(None).is_some() || !was_open || reply.has_begun() || self.clock.now() >= ends_at {
                return Ok(reply);
            }
        }
    }
}

impl<L: Link, C: Clock> Transport for Http<'_, L, C> {
    fn send(&mut self, batch: &Batch<'_>) -> Outcome {
        let ends_at = self.ends_at(batch.deadline());
        let body = batch.body(self.sent_at());
        let request = Request::new(self.host, self.path, Some(&body));
        match self.request(&request, ends_at) {
            Ok(reply) => self.outcome(&reply),
            Err(outcome) => outcome,
        }
    }
}

/// Writes the request and reads the reply, as much of it as there is.
fn exchange<L: Link>(link: &mut L, clock: &impl Clock, request: &Request<'_>, ends_at: Instant) -> Reply {
    let mut reply = Reply::new(request.body.is_none());
    // A server may answer, and close, before it has read all: its answer counts, however the writing ended.
    let _ = request.pieces().all(|piece| write_all(link, clock, piece, ends_at)) && link.flush().is_ok();
    let mut bytes = [0; READ_BYTES];
    while !reply.is_complete() && clock.now() < ends_at {
        let read = link.read(&mut bytes);
        if !goes_on(&mut reply, &bytes, read) {
            break;
        }
    }
    reply
}

/// Feeds the reply with what was read. Whether there may be more to read.
fn goes_on<E: Error>(reply: &mut Reply, bytes: &[u8], read: Result<usize, E>) -> bool {
    match read {
        Ok(0) => false,
        Ok(len) => reply.feed(bytes.get(..len).unwrap_or_default()).is_ok(),
        Err(error) => error.kind() == ErrorKind::Interrupted,
    }
}

/// Whether the stream took all of it in time.
fn write_all<W: Write>(link: &mut W, clock: &impl Clock, mut bytes: &[u8], ends_at: Instant) -> bool {
    while !bytes.is_empty() && clock.now() < ends_at {
        match link.write(bytes) {
            Ok(len @ 1..) => bytes = bytes.get(len..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => break,
        }
    }
    bytes.is_empty()
}

#[cfg(feature = "embedded-io-async")]
impl<L: AsyncLink, C: Clock> Http<'_, L, C> {
    /// [`Transport::send`] over an asynchronous stream.
    ///
    /// The clock is looked at between reads and writes only: a stream that may wait for ever needs a timeout of its own,
    /// or the caller drops this future. The flusher is then told [`Outcome::NoAnswer`].
    pub async fn send_async(&mut self, batch: &Batch<'_>) -> Outcome {
        let ends_at = self.ends_at(batch.deadline());
        let body = batch.body(self.sent_at());
        let request = Request::new(self.host, self.path, Some(&body));
        match self.request_async(&request, ends_at).await {
            Ok(reply) => self.outcome(&reply),
            Err(outcome) => outcome,
        }
    }

    /// [`Http::learn_time`] over an asynchronous stream.
    pub async fn learn_time_async(&mut self) -> Option<Timestamp> {
        let ends_at = self.ends_at(None);
        let reply = self.request_async(&Request::new(self.host, self.path, None), ends_at).await.ok()?;
        self.take_time(&reply)
    }

    async fn request_async(&mut self, request: &Request<'_>, ends_at: Instant) -> Result<Reply, Outcome> {
        loop {
            // Taken first: a future that is dropped half-way leaves a connection nobody can use.
            let was_open = core::mem::take(&mut self.is_open);
            if !was_open && self.link.open(ends_at).await.is_err() {
                self.link.close().await;
                return Err(Outcome::Unreachable);
            }
            let reply = exchange_async(&mut self.link, &self.clock, request, ends_at).await;
            self.is_open = reply.is_reusable();
            if !self.is_open {
                self.link.close().await;
            }
            if reply.answer(None).is_some() || !was_open || reply.has_begun() || self.clock.now() >= ends_at {
                return Ok(reply);
            }
        }
    }
}

/// [`exchange`], awaited.
#[cfg(feature = "embedded-io-async")]
async fn exchange_async<L: AsyncLink>(
    link: &mut L,
    clock: &impl Clock,
    request: &Request<'_>,
    ends_at: Instant,
) -> Reply {
    let mut reply = Reply::new(request.body.is_none());
    for piece in request.pieces() {
        if !write_all_async(link, clock, piece, ends_at).await {
            break;
        }
    }
    let _ = link.flush().await;
    let mut bytes = [0; READ_BYTES];
    while !reply.is_complete() && clock.now() < ends_at {
        let read = link.read(&mut bytes).await;
        if !goes_on(&mut reply, &bytes, read) {
            break;
        }
    }
    reply
}

/// [`write_all`], awaited.
#[cfg(feature = "embedded-io-async")]
async fn write_all_async<W: embedded_io_async::Write>(
    link: &mut W,
    clock: &impl Clock,
    mut bytes: &[u8],
    ends_at: Instant,
) -> bool {
    while !bytes.is_empty() && clock.now() < ends_at {
        match link.write(bytes).await {
            Ok(len @ 1..) => bytes = bytes.get(len..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => break,
        }
    }
    bytes.is_empty()
}

/// What goes out: a POST of a body, or a HEAD of nothing.
struct Request<'r> {
    host: &'r str,
    path: &'r str,
    body: Option<&'r Body<'r>>,
    /// The body's length in decimal digits.
    length: heapless::Vec<u8, 20>,
}

impl<'r> Request<'r> {
    fn new(host: &'r str, path: &'r str, body: Option<&'r Body<'r>>) -> Self {
        let mut length = heapless::Vec::new();
        // 20 digits are enough for 64 bits, so this cannot fail.
        let _ = length.extend_from_slice(itoa::Buffer::new().format(body.map_or(0, Body::len)).as_bytes());
        Self { host, path, body, length }
    }

    /// All of it, in order.
    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let (method, kind, length) = match self.body {
            Some(_) => ("POST ", "\r\nContent-Type: application/json\r\nContent-Length: ", self.length.as_slice()),
            None => ("HEAD ", "", [].as_slice()),
        };
        let head = [method, self.path, " HTTP/1.1\r\nHost: ", self.host, USER_AGENT, kind].map(str::as_bytes);
        head.into_iter().chain([length, b"\r\n\r\n"]).chain(self.body.into_iter().flat_map(Body::chunks))
    }
}

const USER_AGENT: &str = concat!("\r\nUser-Agent: quillet/", env!("CARGO_PKG_VERSION"));

impl Body<'_> {
    /// Writes all of it into `sink`.
    ///
    /// # Errors
    ///
    /// The sink's own; what was written by then is part of a body.
    pub fn write_to<W: Write>(&self, sink: &mut W) -> Result<(), W::Error> {
        self.chunks().try_for_each(|chunk| sink.write_all(chunk))
    }
}

/// Whether a text can stand in the head of a request: no space, nothing that ends a line.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'!'..=b'~'))
}

impl<L, C> fmt::Debug for Http<'_, L, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("host", &self.host).field("is_open", &self.is_open).finish_non_exhaustive()
    }
}

/// Why there is no [`Http`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum HttpError {
    /// The host is empty or holds what cannot stand in a request's head.
    BadHost,
    /// The path does not begin with a slash or holds what cannot stand in a request's head.
    BadPath,
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadHost => "the host is empty or cannot stand in a request",
            Self::BadPath => "the path has no slash at its beginning or cannot stand in a request",
        })
    }
}

impl core::error::Error for HttpError {}

#[cfg(test)]
mod tests;
