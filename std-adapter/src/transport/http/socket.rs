//! The connection under a request: where it comes from, and what it knows that ureq does not tell.
//!
//! Input: ureq's wish for a connection. Output: a transport of ureq's, TCP or TLS over it. Three things are different
//! from ureq's own connector:
//!
//! - Everything that fails before a connection stands comes back as [`NotConnected`], so that "the server cannot be
//!   reached" and "the server did not answer" are told apart by type, not by guessing from error kinds. Names are looked
//!   up here as well: ureq would look them up for every request, also for those that use a pooled connection.
//! - A write ends by its deadline even if the server takes a byte now and then. (`write_all` under a socket timeout
//!   begins a new timeout with every byte.)
//! - A write that fails is not the end: a server that says 413 may close before it has read all of the body, and its
//!   answer is already here. Writing on is pretended, and the answer read.
//!
//! NB: the traits are in ureq's `unversioned` module; `Cargo.toml` holds ureq to one minor version because of it.

use core::fmt;
use core::time::Duration;
use std::error::Error as StdError;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Weak};
use std::time::Instant;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::http::uri::Authority;
use ureq::unversioned::resolver::{ArrayVec, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, ShutdownHandle,
    SocksConnector, Transport, time,
};
use ureq::{Error, Timeout};

use super::names::Name;

/// Longest lookup of a name; the request's own timeout may be shorter.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Socket timeouts are rounded up to this, so that a body of many writes needs few `setsockopt` calls.
const TIMEOUT_STEP: Duration = Duration::from_millis(100);

/// Shortest time an address of several is given to connect.
const CONNECT_SHARE_MIN: Duration = Duration::from_millis(10);

/// The request failed before there was a connection: name, route, refusal, proxy, or TLS handshake.
#[derive(Debug)]
pub(super) struct NotConnected(pub(super) Error);

/// A connection from the pool was found closed before a byte of an answer came.
#[derive(Debug)]
pub(super) struct Stale;

impl fmt::Display for NotConnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not connected: {}", self.0)
    }
}

impl StdError for NotConnected {}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server had closed the connection")
    }
}

impl StdError for Stale {}

/// The names a transport may need: the host's, and its proxy's.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// The host's, as it stands in the request; a URL without one does not get this far.
    pub(super) authority: Option<Authority>,
    pub(super) host: Name,
    pub(super) proxy: Option<Name>,
}

impl Names {
    fn is_host(&self, uri: &Uri) -> bool {
        uri.authority() == self.authority.as_ref()
    }

    pub(super) fn close(&self) {
        self.host.close();
        if let Some(proxy) = &self.proxy {
            proxy.close();
        }
    }
}

/// ureq asks for addresses before it looks into its pool. The host's are therefore looked up only when a connection is
/// made; a proxy's are asked for at that time anyway.
impl Resolver for Names {
    fn resolve(&self, uri: &Uri, _: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        match &self.proxy {
            Some(proxy) if !self.is_host(uri) => look_up(proxy, *timeout.after),
            _ => Ok(addresses([SocketAddr::from(([0, 0, 0, 0], 0))])),
        }
    }
}

/// Makes every connection of a transport, proxied or not.
#[derive(Debug)]
pub(super) struct Dial {
    names: Names,
    chain: Box<dyn Connector<(), Out = Box<dyn Transport>>>,
}

impl Dial {
    pub(super) fn new(names: Names) -> Self {
        let chain = ().chain(SocksConnector::default()).chain(ConnectProxyConnector::default()).chain(Tcp);
        #[cfg(feature = "rustls-no-provider")]
        let chain = chain.chain(ureq::unversioned::transport::RustlsConnector::default());
        #[cfg(feature = "native-tls")]
        let chain = chain.chain(ureq::unversioned::transport::NativeTlsConnector::default());
        Self { names, chain: Box::new(chain.chain(Boxing)) }
    }

    fn connect_to(&self, details: &ConnectionDetails<'_>) -> Result<Option<Box<dyn Transport>>, Error> {
        let proxy = details.config.proxy().filter(|proxy| !proxy.is_no_proxy(details.uri));
        let local_name = proxy.is_none_or(ureq::Proxy::resolve_target);
        if !local_name || !self.names.is_host(details.uri) {
            return self.chain.connect(details, None);
        }
        let started = Instant::now();
        let addrs = look_up(&self.names.host, *details.timeout.after)?;
        let mut timeout = details.timeout;
        if !timeout.after.is_not_happening() {
            timeout.after = timeout.after.saturating_sub(started.elapsed()).into();
        }
        let details = ConnectionDetails {
            addrs,
            timeout,
            now: time::Instant::now(),
            uri: details.uri,
            config: details.config,
            request_level: details.request_level,
            resolver: details.resolver,
            current_time: details.current_time.clone(),
            run_connector: details.run_connector.clone(),
            register_shutdown: details.register_shutdown.clone(),
        };
        self.chain.connect(&details, None)
    }
}

impl Connector<()> for Dial {
    type Out = Box<dyn Transport>;

    fn connect(&self, details: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<Self::Out>, Error> {
        self.connect_to(details).map_err(|error| Error::Other(Box::new(NotConnected(error))))
    }
}

/// The end of a chain: erases its type.
#[derive(Debug)]
struct Boxing;

impl<In: Transport> Connector<In> for Boxing {
    type Out = Box<dyn Transport>;

    fn connect(&self, _: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(|transport| Box::new(transport) as Box<dyn Transport>))
    }
}

/// Opens a [`Socket`], unless a proxy's connection is there already.
#[derive(Debug)]
struct Tcp;

impl<In: Transport> Connector<In> for Tcp {
    type Out = Either<In, Socket>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        if let Some(chained) = chained {
            return Ok(Some(Either::A(chained)));
        }
        let socket = Socket::new(open(&details.addrs, details.timeout)?, details.config)?;
        // Fails after an abort, so that a connection made at that moment does not escape it.
        (details.register_shutdown)(socket.shutdown_handle())?;
        Ok(Some(Either::B(socket)))
    }
}

/// Connects to the first address that answers; each gets an equal share of the time that is left.
fn open(addrs: &[SocketAddr], timeout: NextTimeout) -> Result<TcpStream, Error> {
    let deadline = Deadline::new(timeout);
    let mut failed = Error::HostNotFound;
    for (tried, addr) in addrs.iter().enumerate() {
        let left = deadline.left()?;
        let addresses_left = u32::try_from(addrs.len() - tried).unwrap_or(u32::MAX);
        let share = (left / addresses_left).max(CONNECT_SHARE_MIN);
        match TcpStream::connect_timeout(addr, share) {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => failed = Error::Timeout(Timeout::Connect),
            Err(error) => failed = error.into(),
        }
    }
    Err(failed)
}

/// A TCP connection with ureq's buffers.
struct Socket {
    /// Shared with the handle that an abort shuts it down by.
    stream: Arc<TcpStream>,
    buffers: LazyBuffers,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    /// A whole exchange went over it before the one at hand.
    reused: bool,
    /// A byte came since the request at hand began.
    answered: bool,
    /// Writing failed. The answer may be here all the same; the connection is not used again.
    broken: Option<io::Error>,
}

impl Socket {
    fn new(stream: TcpStream, config: &Config) -> Result<Self, Error> {
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: Arc::new(stream),
            buffers: LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size()),
            read_timeout: None,
            write_timeout: None,
            reused: false,
            answered: false,
            broken: None,
        })
    }

    fn shutdown_handle(&self) -> Weak<dyn ShutdownHandle> {
        // A variable of its own, because the pointer is unsized only when it is returned.
        let handle: Weak<TcpStream> = Arc::downgrade(&self.stream);
        handle
    }

    /// The end of the connection as the request at hand should see it.
    fn lost(&mut self, error: io::Error) -> Error {
        if self.reused && !self.answered { Error::Other(Box::new(Stale)) } else { error.into() }
    }

    fn write_some(&mut self, from: usize, to: usize, deadline: &Deadline) -> Result<io::Result<usize>, Error> {
        let left = coarse(deadline.left()?);
        if self.write_timeout != Some(left) {
            if let Err(error) = self.stream.set_write_timeout(Some(left)) {
                return Ok(Err(error));
            }
            self.write_timeout = Some(left);
        }
        let bytes = self.buffers.output().get(from..to).unwrap_or_default();
        Ok((&*self.stream).write(bytes))
    }
}

impl Transport for Socket {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let deadline = Deadline::new(timeout);
        let mut written = 0;
        while written < amount && self.broken.is_none() {
            match self.write_some(written, amount, &deadline)? {
                Ok(0) => self.broken = Some(io::ErrorKind::WriteZero.into()),
                Ok(more) => written += more,
                Err(error) if is_pause(&error) => {}
                Err(error) => self.broken = Some(error),
            }
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let deadline = Deadline::new(timeout);
        loop {
            let left = coarse(deadline.left()?);
            if self.read_timeout != Some(left) {
                // Some systems refuse this once the peer has closed; what was sent can be read all the same.
                let _ = self.stream.set_read_timeout(Some(left));
                self.read_timeout = Some(left);
            }
            match (&*self.stream).read(self.buffers.input_append_buf()) {
                Ok(0) => {
                    return match self.broken.take() {
                        Some(error) => Err(self.lost(error)),
                        None if self.reused && !self.answered => Err(self.lost(io::ErrorKind::UnexpectedEof.into())),
                        None => Ok(false),
                    };
                }
                Ok(read) => {
                    self.answered = true;
                    self.buffers.input_appended(read);
                    return Ok(true);
                }
                Err(error) if is_pause(&error) => {}
                Err(error) => return Err(self.lost(error)),
            }
        }
    }

    /// ureq asks when it puts the connection into its pool and when it takes it out: between two requests.
    fn is_open(&mut self) -> bool {
        self.reused = true;
        self.answered = false;
        // Anything to read is wrong here: an end, or bytes nobody asked for.
        let quiet = || {
            self.stream.set_nonblocking(true)?;
            let peeked = self.stream.peek(&mut [0]);
            self.stream.set_nonblocking(false)?;
            peeked
        };
        self.broken.is_none() && quiet().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("peer", &self.stream.peer_addr().ok()).finish_non_exhaustive()
    }
}

/// When a step has to have ended, and what to call it if it has not.
struct Deadline {
    at: Option<Instant>,
    reason: Timeout,
}

impl Deadline {
    fn new(timeout: NextTimeout) -> Self {
        let at = if timeout.after.is_not_happening() { None } else { Instant::now().checked_add(*timeout.after) };
        Self { at, reason: timeout.reason }
    }

    /// What is left, never zero. A transport has timeouts for everything, so "no deadline" is only a figure of speech.
    fn left(&self) -> Result<Duration, Error> {
        let Some(at) = self.at else { return Ok(Duration::from_secs(3600)) };
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(Error::Timeout(self.reason)) } else { Ok(left) }
    }
}

/// A socket timeout for `left`: rounded up, except near the end. Never zero, which would mean no timeout.
fn coarse(left: Duration) -> Duration {
    if left < TIMEOUT_STEP {
        return left.max(Duration::from_millis(1));
    }
    let steps = left.as_millis().div_ceil(TIMEOUT_STEP.as_millis());
    TIMEOUT_STEP * u32::try_from(steps).unwrap_or(u32::MAX)
}

/// The call came back without having done or learned anything; whether there is time for another is the deadline's.
fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn look_up(name: &Name, left: Duration) -> Result<ResolvedSocketAddrs, Error> {
    let found = name.addresses(left.min(RESOLVE_TIMEOUT));
    found.map(addresses).map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => Error::Timeout(Timeout::Resolve),
        io::ErrorKind::NotFound => Error::HostNotFound,
        _ => Error::Io(error),
    })
}

/// ureq's fixed list; what does not fit is left out.
fn addresses(from: impl IntoIterator<Item = SocketAddr>) -> ResolvedSocketAddrs {
    let mut list = ArrayVec::from_fn(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
    for addr in from {
        if list.try_push(addr).is_err() {
            break;
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_timeouts_are_rounded_up_and_never_zero() {
        for (left, given) in [(0, 1), (1, 1), (99, 99), (100, 100), (101, 200), (14_999, 15_000)] {
            assert_eq!(coarse(Duration::from_millis(left)), Duration::from_millis(given));
        }
        assert_eq!(coarse(Duration::from_nanos(1)), Duration::from_millis(1));
    }
}
