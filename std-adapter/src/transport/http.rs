//! Batches over HTTP, with ureq: one `POST` per call, bounded in time, its body straight out of the rings.
//!
//! Input: a [`Batch`]. Output: an [`Outcome`]. This file and the folder beside it alone name ureq, and no type of ureq's
//! is in a public signature.
//!
//! What is promised here, and not by ureq's defaults:
//!
//! - *Time.* A request ends by its timeout or the batch's deadline, whichever is first, whatever DNS, TLS or a server
//!   that sends a byte a second do. [`HttpTransport::abort`] ends it sooner.
//! - *Reuse.* A connection that the server had closed meanwhile is replaced at once, and does not count as an attempt.
//! - *Memory.* What a request needs is asked for first; where it cannot be had, that is an outcome and not an abort.
//! - *Meaning.* A 2xx counts only with a whole body behind it. "No connection" and "no answer" are told apart.

mod flags;
mod names;
mod socket;

use core::fmt::{self, Write as _};
use core::time::Duration;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use quillet_core::retry::parse_retry_after;
use quillet_core::{Answer, Batch, Clock, Outcome, Timestamp, Transport};
use ureq::config::Config;
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, header};
use ureq::{Agent, Proxy, SendBody};

use self::names::Name;
use self::socket::{Dial, Names, NotConnected, Stale};
use crate::clock::SystemClock;
use crate::config::ResolveFn;
use crate::error::BuildError;
use crate::host::{Endpoint, HostProblem};
#[cfg(feature = "gzip")]
use crate::transport::gzip::Packer;

const USER_AGENT: &str = concat!("quillet/", env!("CARGO_PKG_VERSION"));

/// Bytes of a body per write. Larger ones no longer fit the cache beside what they are copied from.
const OUTPUT_BYTES: usize = 128 * 1024;

/// Bytes per read, and the longest answer head. PostHog's are some hundred bytes.
const INPUT_BYTES: usize = 16 * 1024;

/// What TLS needs besides its own pair of the buffers above: records on their way in and out, and the handshake.
const TLS_BYTES: usize = 128 * 1024;

/// How much of an answer's body is read, so that the connection can be used again. Beyond that it is closed instead.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Longest time for a connection, TLS included; the request's own timeout may be shorter.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections kept: the flush thread's, and one for a send outside of the queue.
const IDLE_CONNECTIONS: usize = 2;

/// How long an idle connection is kept, at least and at most. Load balancers close theirs after a minute.
const IDLE_MIN: Duration = Duration::from_secs(15);
const IDLE_MAX: Duration = Duration::from_secs(55);

/// Dead pooled connections met in a row before giving up: all there can be, and one more made meanwhile.
const STALE_MAX: usize = IDLE_CONNECTIONS + 1;

/// Longest text kept about an error.
const ERROR_BYTES: usize = 200;

/// Longest value of a caller's header, in bytes.
const HEADER_BYTES_MAX: usize = 4096;

/// Headers that are part of how a request is made; a caller's own would contradict them.
const RESERVED_HEADERS: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// Posts batches to `/batch/` of the configured host.
///
/// Made by [`ClientBuilder::http_transport`](crate::ClientBuilder::http_transport), which is only needed to wrap it in a
/// transport of one's own. Clones share connections, and are aborted together.
///
/// # Limits
///
/// - It follows no redirect, stores no cookie, and never asks for a compressed answer.
/// - A TCP connect under way cannot be interrupted, only awaited: at most 10 s or the request's timeout.
/// - Connections through a SOCKS proxy are ureq's own: there, a dead pooled connection costs an attempt.
/// - Asking for memory first keeps a full memory from ending the process here in almost all cases, not in all: other
///   threads allocate too, and an operating system that overcommits says yes to everything.
pub struct HttpTransport {
    shared: Arc<Shared>,
    #[cfg(feature = "gzip")]
    packer: Packer,
    error: ErrorText,
}

/// What is the same for every request and every clone.
struct Shared {
    uri: Uri,
    /// Every header but the length and encoding of the body.
    headers: HeaderMap,
    timeout: Duration,
    sent_at: bool,
    #[cfg(feature = "gzip")]
    gzip: bool,
    /// What has to be there before a request is begun.
    bytes_needed: usize,
    config: Config,
    resolver: Option<ResolveFn>,
    endpoint: Endpoint,
    /// Counts like the client's own clock, so that a batch's deadline means the same here.
    clock: SystemClock,
    live: Mutex<Live>,
}

/// What belongs to this process: sockets and threads.
struct Live {
    /// A child made by `fork` finds another number here than its own, and must not write into its parent's connections.
    pid: u32,
    agent: Agent,
    names: Names,
    aborted: bool,
}

/// What the builder knows about HTTP.
pub(crate) struct HttpOptions {
    pub(crate) endpoint: Endpoint,
    pub(crate) request_timeout: Duration,
    pub(crate) flush_interval: Duration,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) sent_at: bool,
    #[cfg(feature = "gzip")]
    pub(crate) gzip: bool,
    pub(crate) proxy: ProxyChoice,
    pub(crate) resolver: Option<ResolveFn>,
    #[cfg(any(feature = "rustls-no-provider", feature = "native-tls"))]
    pub(crate) tls: TlsOptions,
}

/// What the builder knows about TLS.
#[cfg(any(feature = "rustls-no-provider", feature = "native-tls"))]
#[derive(Clone, Default)]
pub(crate) struct TlsOptions {
    pub(crate) root_certs_pem: Option<Vec<u8>>,
    pub(crate) platform_verifier: bool,
    pub(crate) native_tls: bool,
}

/// Where the proxy comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ProxyChoice {
    /// The environment's variables, at the time of building.
    Environment,
    /// No proxy, whatever the environment says.
    Off,
    /// This one.
    Url(String),
}

impl HttpTransport {
    /// Checks what can be checked without a connection. Opens none.
    pub(crate) fn new(options: HttpOptions) -> Result<Self, BuildError> {
        let malformed = BuildError::Host(HostProblem::Malformed);
        let uri: Uri = options.endpoint.batch_url().parse().map_err(|_| malformed)?;
        let proxy = match &options.proxy {
            ProxyChoice::Environment => Proxy::try_from_env(),
            ProxyChoice::Off => None,
            ProxyChoice::Url(url) => Some(Proxy::new(url).map_err(|_| BuildError::Proxy)?),
        };
        let tls = options.endpoint.is_https()
            || proxy.as_ref().is_some_and(|proxy| proxy.protocol() == ureq::ProxyProtocol::Https);
        let config = config(&options, proxy, tls)?;
        let buffers = (OUTPUT_BYTES + INPUT_BYTES) * if tls { 2 } else { 1 };
        let live = Live::new(&options.endpoint, &uri, &config, options.resolver.clone());
        Ok(Self::from_shared(Arc::new(Shared {
            headers: headers(&options.headers)?,
            uri,
            timeout: options.request_timeout,
            sent_at: options.sent_at,
            #[cfg(feature = "gzip")]
            gzip: options.gzip,
            bytes_needed: buffers + if tls { TLS_BYTES } else { 0 },
            config,
            resolver: options.resolver,
            endpoint: options.endpoint,
            clock: SystemClock::new(),
            live: Mutex::new(live),
        })))
    }

    /// Ends the requests that are under way, of this transport and all its clones, and makes later ones fail at once.
    ///
    /// A blocked read or write returns immediately, and so does a name lookup; a TCP connect under way ends by its
    /// timeout.
    pub fn abort(&self) {
        let mut live = self.shared.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.aborted = true;
        live.names.close();
        live.agent.clone().shutdown();
    }

    /// Why the last request had no answer, in words for a log; `None` if there was one.
    pub fn last_error(&self) -> Option<&str> {
        Some(self.error.as_str()).filter(|text| !text.is_empty())
    }

    /// Throws away what a panic may have left half done.
    pub(crate) fn after_panic(&mut self) {
        *self = Self::from_shared(Arc::clone(&self.shared));
        self.error.set(format_args!("the transport panicked"));
    }

    /// One like this with connections and a lock of its own, for a forked child.
    pub(crate) fn renewed(&self) -> Self {
        let old = &*self.shared;
        Self::from_shared(Arc::new(Shared {
            uri: old.uri.clone(),
            headers: old.headers.clone(),
            config: old.config.clone(),
            resolver: old.resolver.clone(),
            endpoint: old.endpoint.clone(),
            live: Mutex::new(Live::new(&old.endpoint, &old.uri, &old.config, old.resolver.clone())),
            ..*old
        }))
    }

    fn from_shared(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            #[cfg(feature = "gzip")]
            packer: Packer::default(),
            error: ErrorText::new(),
        }
    }

    /// One request, with as many connections as it takes to find one that is not dead.
    fn post<'c, C>(&mut self, len: usize, gzip: bool, chunks: impl Fn() -> C, deadline: Instant) -> Outcome
    where
        C: Iterator<Item = &'c [u8]>,
    {
        let agent = self.shared.agent();
        for _ in 0..=STALE_MAX {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut reader = ChunkReader { chunks: chunks(), rest: &[] };
            let mut request = Request::new(SendBody::from_reader(&mut reader));
            *request.method_mut() = ureq::http::Method::POST;
            *request.uri_mut() = self.shared.uri.clone();
            *request.headers_mut() = self.shared.headers.clone();
            // With a length of its own, a body from a reader is sent as it is; without, it would be chunked.
            request.headers_mut().insert(header::CONTENT_LENGTH, len.into());
            if gzip {
                request.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
            let request = agent.configure_request(request).timeout_global(Some(left)).build();
            match agent.run(request) {
                Ok(response) => return self.read(response),
                Err(error) if is_stale(&error) => {}
                Err(error) => {
                    match &error {
                        // ureq would call it "other".
                        ureq::Error::Other(inner) => self.error.set(format_args!("{inner}")),
                        error => self.error.set(format_args!("{error}")),
                    }
                    return outcome(&error);
                }
            }
        }
        self.error.set(format_args!("{Stale}"));
        Outcome::NoAnswer
    }

    /// The head of an answer, and enough of its body to know what it is and to free the connection.
    fn read(&mut self, response: Response<ureq::Body>) -> Outcome {
        let (head, mut body) = response.into_parts();
        let status = head.status.as_u16();
        let retry_after = head.headers.get(header::RETRY_AFTER);
        let mut answer = Answer::new(status);
        answer.retry_after = retry_after.and_then(|value| parse_retry_after(value.as_bytes(), wall_time()));
        answer.html = head.headers.get(header::CONTENT_TYPE).is_some_and(|value| is_html_type(value.as_bytes()));
        match drain(&mut body.as_reader()) {
            Ok(markup) => answer.html |= markup,
            // Of a refusal, the status says it all. A 2xx cut short may be a proxy's whose server died behind it.
            Err(error) if head.status.is_success() => {
                self.error.set(format_args!("status {status}, then half a body: {error}"));
                return Outcome::NoAnswer;
            }
            Err(_) => {}
        }
        Outcome::Answered(answer)
    }
}

impl Transport for HttpTransport {
    fn send(&mut self, batch: &Batch<'_>) -> Outcome {
        self.error.clear();
        let shared = Arc::clone(&self.shared);
        let timeout = match batch.deadline() {
            Some(deadline) => shared.timeout.min(deadline.since(shared.clock.now())),
            None => shared.timeout,
        };
        if timeout.is_zero() {
            self.error.set(format_args!("no time left"));
            return Outcome::Unreachable;
        }
        let deadline = Instant::now() + timeout;
        if Vec::<u8>::new().try_reserve_exact(shared.bytes_needed).is_err() {
            self.error.set(format_args!("no memory"));
            return Outcome::OutOfMemory;
        }
        let body = batch.body(if shared.sent_at { wall_time() } else { None });
        #[cfg(feature = "gzip")]
        if shared.gzip {
            // Small bodies too, though there is little to save: PostHog's compliance harness asks for it with one event.
            // Taken out for the time of the request, whose other half needs `self`.
            let mut packer = core::mem::take(&mut self.packer);
            let outcome = match packer.pack(body.chunks()) {
                Ok(packed) => self.post(packed.len(), true, || core::iter::once(packed), deadline),
                Err(_) => {
                    self.error.set(format_args!("no memory to compress"));
                    Outcome::OutOfMemory
                }
            };
            self.packer = packer;
            return outcome;
        }
        self.post(body.len(), false, || body.chunks(), deadline)
    }
}

impl Clone for HttpTransport {
    fn clone(&self) -> Self {
        Self::from_shared(Arc::clone(&self.shared))
    }
}

impl fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTransport").field("endpoint", &self.shared.endpoint).finish_non_exhaustive()
    }
}

impl Shared {
    /// This process's agent. In a child made by `fork` a new one, without its parent's connections.
    fn agent(&self) -> Agent {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if live.pid != std::process::id() {
            let aborted = live.aborted;
            *live = Live::new(&self.endpoint, &self.uri, &self.config, self.resolver.clone());
            if aborted {
                live.aborted = true;
                live.names.close();
                live.agent.clone().shutdown();
            }
        }
        live.agent.clone()
    }
}

impl Live {
    fn new(endpoint: &Endpoint, uri: &Uri, config: &Config, resolver: Option<ResolveFn>) -> Self {
        let names = Names {
            authority: uri.authority().cloned(),
            host: Name::new(endpoint.name(), endpoint.port(), resolver.clone()),
            proxy: config.proxy().map(|proxy| Name::new(unbracketed(proxy.host()), proxy.port(), resolver)),
        };
        let agent = Agent::with_parts(config.clone(), Dial::new(names.clone()), names.clone());
        Self { pid: std::process::id(), agent, names, aborted: false }
    }
}

/// Why there was no answer: a bounded text in memory that is allocated once.
struct ErrorText(String);

impl ErrorText {
    fn new() -> Self {
        Self(String::with_capacity(ERROR_BYTES))
    }

    fn as_str(&self) -> &str {
        &self.0
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn set(&mut self, text: fmt::Arguments<'_>) {
        self.clear();
        // It never fails: what does not fit is left out.
        let _ = self.write_fmt(text);
    }
}

impl fmt::Write for ErrorText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fitting = text.chars().scan(ERROR_BYTES - self.0.len(), |room, char| {
            *room = room.checked_sub(char.len_utf8())?;
            Some(char)
        });
        self.0.extend(fitting);
        Ok(())
    }
}

/// A body in pieces as one stream. Every read fills its buffer across pieces, because every read becomes a write.
struct ChunkReader<'c, C> {
    chunks: C,
    rest: &'c [u8],
}

impl<'c, C: Iterator<Item = &'c [u8]>> Read for ChunkReader<'c, C> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(free) = buf.get_mut(filled..).filter(|free| !free.is_empty()) {
            if self.rest.is_empty() {
                match self.chunks.next() {
                    Some(chunk) => self.rest = chunk,
                    None => break,
                }
            }
            filled += self.rest.read(free)?;
        }
        Ok(filled)
    }
}

/// What is wrong with a caller's header, if anything.
pub(crate) fn check_header(name: &str, value: &str) -> Result<(), &'static str> {
    if HeaderName::from_bytes(name.as_bytes()).is_err() {
        return Err("has a name that is none");
    }
    if RESERVED_HEADERS.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
        return Err("is written by the client itself");
    }
    if value.len() > HEADER_BYTES_MAX {
        return Err("has a value of more than 4096 bytes");
    }
    if !value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)) {
        return Err("has a value with something else than visible ASCII, spaces and tabs");
    }
    Ok(())
}

fn headers(own: &[(String, String)]) -> Result<HeaderMap, BuildError> {
    let mut headers = HeaderMap::with_capacity(own.len() + 4);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in own {
        let refused = |problem| BuildError::Header { name: name.clone(), problem };
        check_header(name, value).map_err(refused)?;
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| refused("has a name that is none"))?;
        let mut value = HeaderValue::from_str(value).map_err(|_| refused("has a value that cannot be sent"))?;
        // Keeps it out of debug output.
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    Ok(headers)
}

fn config(options: &HttpOptions, proxy: Option<Proxy>, tls: bool) -> Result<Config, BuildError> {
    let timeout = Some(options.request_timeout);
    let idle = options.flush_interval.saturating_mul(2).clamp(IDLE_MIN, IDLE_MAX);
    let builder = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(proxy)
        .user_agent(USER_AGENT)
        // Another crate of the same build may have compiled decompression into ureq.
        .accept_encoding("")
        .timeout_global(timeout)
        .timeout_resolve(timeout)
        .timeout_connect(Some(options.request_timeout.min(CONNECT_TIMEOUT)))
        .timeout_send_request(timeout)
        .timeout_send_body(timeout)
        .timeout_recv_response(timeout)
        .timeout_recv_body(timeout)
        .max_response_header_size(INPUT_BYTES)
        .input_buffer_size(INPUT_BYTES)
        .output_buffer_size(OUTPUT_BYTES)
        .max_idle_connections(IDLE_CONNECTIONS)
        .max_idle_connections_per_host(IDLE_CONNECTIONS)
        .max_idle_age(idle);
    #[cfg(any(feature = "rustls-no-provider", feature = "native-tls"))]
    let builder = builder.tls_config(self::tls::config(&options.tls, tls)?);
    #[cfg(not(any(feature = "rustls-no-provider", feature = "native-tls")))]
    if tls {
        return Err(BuildError::TlsNotCompiledIn);
    }
    Ok(builder.build())
}

/// Which TLS, and whom it trusts. ureq panics, when it connects, about what is missing; here that is an error.
#[cfg(any(feature = "rustls-no-provider", feature = "native-tls"))]
mod tls {
    use ureq::tls::{PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

    use super::TlsOptions;
    use crate::error::BuildError;

    pub(super) fn config(options: &TlsOptions, needed: bool) -> Result<TlsConfig, BuildError> {
        let native = cfg!(feature = "native-tls") && (options.native_tls || !has_provider());
        if needed && !native && !has_provider() {
            return Err(BuildError::NoCryptoProvider);
        }
        let roots = match &options.root_certs_pem {
            Some(pem) => certificates(pem)?,
            None if native || options.platform_verifier => RootCerts::PlatformVerifier,
            None => RootCerts::WebPki,
        };
        let provider = if native { TlsProvider::NativeTls } else { TlsProvider::Rustls };
        Ok(TlsConfig::builder().provider(provider).root_certs(roots).build())
    }

    /// Whether rustls has the cryptography it needs: compiled in, or installed by the application.
    fn has_provider() -> bool {
        #[cfg(feature = "rustls-no-provider")]
        let installed = rustls::crypto::CryptoProvider::get_default().is_some();
        #[cfg(not(feature = "rustls-no-provider"))]
        let installed = false;
        cfg!(feature = "rustls") || installed
    }

    fn certificates(pem: &[u8]) -> Result<RootCerts, BuildError> {
        let mut certificates = Vec::new();
        for item in parse_pem(pem) {
            match item.map_err(|_| BuildError::RootCerts)? {
                PemItem::Certificate(certificate) => certificates.push(certificate),
                _ => return Err(BuildError::RootCerts),
            }
        }
        if certificates.is_empty() { Err(BuildError::RootCerts) } else { Ok(certificates.into()) }
    }
}

fn is_stale(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::Other(inner) if inner.is::<Stale>())
}

/// What a failed request means. Everything that fails before a connection stands is marked as such where it happens.
fn outcome(error: &ureq::Error) -> Outcome {
    match error {
        ureq::Error::Other(inner) => match inner.downcast_ref() {
            Some(NotConnected(inner)) if is_memory(inner) => Outcome::OutOfMemory,
            Some(NotConnected(_)) => Outcome::Unreachable,
            None => Outcome::NoAnswer,
        },
        error if is_memory(error) => Outcome::OutOfMemory,
        // The pool's own refusal after an abort.
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::NotConnected => Outcome::Unreachable,
        ureq::Error::BadUri(_)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::TlsRequired => Outcome::Unreachable,
        _ => Outcome::NoAnswer,
    }
}

fn is_memory(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::Io(error) if error.kind() == io::ErrorKind::OutOfMemory)
}

/// Reads a body to its end, or to where it is not worth it. Says whether it begins like markup.
fn drain(body: &mut impl Read) -> io::Result<bool> {
    let mut buf = [0; 4096];
    let (mut seen, mut markup, mut blank) = (0, false, true);
    while seen < ANSWER_BYTES_MAX {
        let read = match body.read(&mut buf) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let bytes = buf.get(..read).unwrap_or_default();
        if blank {
            // A byte order mark counts as white space.
            let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace() && !b"\xef\xbb\xbf".contains(byte));
            blank = first.is_none();
            markup = first == Some(&b'<');
        }
        seen += read;
    }
    Ok(markup)
}

fn is_html_type(value: &[u8]) -> bool {
    let media = value.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    media.eq_ignore_ascii_case(b"text/html") || media.eq_ignore_ascii_case(b"application/xhtml+xml")
}

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// The wall time, if the clock is set to anything after 1970.
fn wall_time() -> Option<Timestamp> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_micros()).ok().map(Timestamp::from_unix_micros)
}

#[cfg(test)]
mod tests;
