//! Every knob of a client: its unit, its default, and what happens at its limit.
//!
//! Input: what a caller set on a [`ClientBuilder`]. Output: a checked [`Config`], plain data that the client is made of.
//! Nothing is started here; a value that cannot work is a [`BuildError`], never a panic and never a silent default.

use core::fmt;
use core::ops::RangeInclusive;
use core::time::Duration;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use quillet_core::limits;
use quillet_core::{CaptureError, Overflow, Policy, Transport};

use crate::client::Client;
use crate::crash::CrashOptions;
use crate::draft::Draft;
use crate::error::BuildError;
use crate::exception::ErrorOptions;
use crate::flags::FlagOptions;
use crate::hooks::{Delivery, HookVerdict, Hooks, OwnedValue, RequestReport};
use crate::host::{ApiKey, Endpoint, check_key};
use crate::spool::SpoolOptions;
#[cfg(any(feature = "rustls-no-provider", feature = "native-tls"))]
use crate::transport::http::TlsOptions;
use crate::transport::http::{HttpOptions, HttpTransport, ProxyChoice, check_header};
use crate::transport::{CloneTransport, Sender};

/// Bytes of ring in each lane when the caller sets nothing else.
const QUEUE_BYTES: usize = 1024 * 1024;

/// Smallest ring of a lane: an event may take a quarter of it, so that it always finds a contiguous place.
const QUEUE_BYTES_MIN: usize = 4 * limits::EVENT_BYTES_MAX;

/// Largest ring of a lane.
const QUEUE_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// How long events gather between two batches as long as they come steadily and no lane fills. With the defaults that is a
/// request every 20 ms for ten thousand events a second, instead of one for each twenty events.
const BATCH_INTERVAL_MIN: Duration = Duration::from_millis(20);

/// Largest request body a client may be set to, before compression. PostHog takes 20 MiB.
const BATCH_BYTES_LIMIT: usize = 16 * 1024 * 1024;

/// Most events in one request a client may be set to.
const BATCH_EVENTS_LIMIT: usize = 100_000;

/// Smallest `max_batch_bytes`: an accepted event fits into a request by itself, whatever its size.
const BATCH_BYTES_MIN: usize = limits::EVENT_BYTES_MAX + limits::FRAME_END_BYTES + limits::ENVELOPE_BYTES;

/// Most extra request headers.
const HEADERS_MAX: usize = 32;

/// What every timeout may be. The upper end keeps sums of times far from overflow.
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);
const TIMEOUTS_TEXT: &str = "from 1 ms to 1 h";

/// What the flush interval may be.
const WAITS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(24 * 3600);
const WAITS_TEXT: &str = "from 1 ms to 24 h";

/// What the waits between attempts may be: a shorter one would try a network that is down in a tight loop.
const BACKOFFS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(24 * 3600);
const BACKOFFS_TEXT: &str = "from 10 ms to 24 h, the base at most the maximum";

const _: () = assert!(QUEUE_BYTES.is_power_of_two() && QUEUE_BYTES_MIN.is_power_of_two());
const _: () = assert!(QUEUE_BYTES_MIN <= QUEUE_BYTES && QUEUE_BYTES <= QUEUE_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MIN <= limits::BATCH_BYTES_MAX && limits::BATCH_BYTES_MAX <= BATCH_BYTES_LIMIT);

/// How a name becomes addresses: [`ClientBuilder::resolver`].
pub(crate) type ResolveFn = Arc<dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

/// Builds a [`Client`]. Every setter takes the builder and returns it; the last call of a setter counts.
///
/// ```
/// use std::time::Duration;
/// use quillet::ClientBuilder;
///
/// # fn main() -> Result<(), quillet::BuildError> {
/// // Without a key the client is disabled: every call is a no-op, and there is neither thread nor socket.
/// let key = std::env::var("QUILLET_DOCTEST_KEY_THAT_IS_NOT_SET").ok();
/// let client = ClientBuilder::new(key)
///     .host("https://eu.i.posthog.com")
///     .flush_interval(Duration::from_secs(5))
///     .super_property("service", "checkout")
///     .build()?;
/// # drop(client);
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing until build() is called"]
pub struct ClientBuilder {
    api_key: ApiKey,
    host: String,
    enable_logging: bool,
    policy: Policy,
    max_queue_size: usize,
    queue_bytes: usize,
    request_timeout: Duration,
    shutdown_timeout: Duration,
    historical_migration: bool,
    sent_at: bool,
    disable_geoip: bool,
    is_server: bool,
    super_properties: Vec<(String, OwnedValue)>,
    headers: Vec<(String, String)>,
    hooks: Hooks,
    pub(crate) flags: FlagOptions,
    transport: Option<Box<dyn CloneTransport>>,
    resolver: Option<ResolveFn>,
    proxy: ProxyChoice,
    #[cfg(any(feature = "rustls-no-provider", feature = "native-tls"))]
    tls: TlsOptions,
    #[cfg(feature = "gzip")]
    gzip: bool,
    thread: bool,
    pub(crate) crash: CrashOptions,
    pub(crate) spool: SpoolOptions,
    pub(crate) errors: ErrorOptions,
}

impl ClientBuilder {
    /// A builder with every default.
    ///
    /// `api_key` is the project token (`phc_…`). `None`, or one that is empty after trimming, builds a *disabled*
    /// client: every call is a cheap no-op, nothing is started and nothing is sent.
    pub fn new(api_key: impl Into<ApiKey>) -> Self {
        Self {
            api_key: api_key.into(),
            host: String::new(),
            enable_logging: true,
            policy: Policy { batch_interval_min: BATCH_INTERVAL_MIN, ..Policy::default() },
            max_queue_size: limits::QUEUE_EVENTS_MAX,
            queue_bytes: QUEUE_BYTES,
            request_timeout: limits::REQUEST_TIMEOUT,
            shutdown_timeout: limits::SHUTDOWN_TIMEOUT,
            historical_migration: false,
            sent_at: false,
            disable_geoip: false,
            is_server: true,
            super_properties: Vec::new(),
            headers: Vec::new(),
            hooks: Hooks::default(),
            flags: FlagOptions::default(),
            transport: None,
            resolver: None,
            proxy: ProxyChoice::Environment,
            #[cfg(any(feature = "rustls-no-provider", feature = "native-tls"))]
            tls: TlsOptions::default(),
            #[cfg(feature = "gzip")]
            gzip: false,
            thread: true,
            crash: CrashOptions::default(),
            spool: SpoolOptions::default(),
            errors: ErrorOptions::default(),
        }
    }

    /// Another project token than the one [`new`](Self::new) was given; see there.
    pub fn api_key(mut self, api_key: impl Into<ApiKey>) -> Self {
        self.api_key = api_key.into();
        self
    }

    /// Where events are posted: `http://` or `https://`, a name or an address, a port, a base path.
    ///
    /// Default: `https://us.i.posthog.com`. Whitespace around it and slashes at its end are removed, an empty host is
    /// the default, and the addresses of PostHog's apps (`https://app.posthog.com`, `us.` and `eu.posthog.com`) become
    /// those that take events. A base path is kept: `https://example.com/ingest` posts to `/ingest/batch/`.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = host.into();
        self
    }

    /// Whether the client speaks through the `log` crate, target `quillet`. Default: `true`.
    ///
    /// It reports what somebody should act on (refused keys, drops, an unreachable server), at most a few lines a
    /// minute, and never event contents or the API key.
    pub fn enable_logging(mut self, enable: bool) -> Self {
        self.enable_logging = enable;
        self
    }

    /// Longest time an event waits for company before it is sent. Default: 10 s; from 1 ms to 24 h.
    pub fn flush_interval(mut self, interval: Duration) -> Self {
        self.policy.flush_interval = interval;
        self
    }

    /// Queued events that wake the flush thread before its interval is over. Default: 20; at least 1.
    ///
    /// Events that come steadily gather for 20 ms from one request to the next, unless they fill a quarter of a queue sooner.
    ///
    /// A value over [`max_queue_size`](Self::max_queue_size) counts as that: a full queue always wakes the thread.
    pub fn flush_at(mut self, events: usize) -> Self {
        self.policy.flush_at = events;
        self
    }

    /// Events that may wait in the queue. Default: 1000; at least 1. At the limit, [`overflow`](Self::overflow) decides.
    ///
    /// One thread may use all of it. Threads that capture at the same instant each count for themselves, so that the
    /// true number can exceed the limit by a bounded amount; [`queue_bytes`](Self::queue_bytes) is what bounds memory.
    pub fn max_queue_size(mut self, events: usize) -> Self {
        self.max_queue_size = events;
        self
    }

    /// Bytes of ring in each lane. Default: 1 MiB; rounded up to a power of two, from 256 KiB (four times the largest
    /// event; smaller values become this) to 1 GiB.
    ///
    /// All of it is allocated when the client is built, and nothing after that. A lane without room is full, whatever
    /// `max_queue_size` says. Room for what is captured while the flush thread is off the processor, a few
    /// milliseconds, keeps bursts from overflowing.
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// Requests after the first one for the same events, when the server answered and a later try may succeed.
    /// Default: 3. Then the events are dropped and counted, or with a [spool](Self::spool_dir) kept and tried again later.
    ///
    /// A server that cannot be reached at all uses this up for `flush` only, which then returns; the events stay as
    /// long as the queue has room.
    pub fn max_retries(mut self, retries: u32) -> Self {
        self.policy.max_retries = retries;
        self
    }

    /// The wait before the first retry, which doubles with each further one, and the longest such wait. Default: 1 s
    /// and 30 s; from 10 ms to 24 h, `base` at most `max`. Jitter adds 0–25 %.
    ///
    /// A server's `Retry-After` is a minimum for the wait, and is believed up to `max`.
    pub fn backoff(mut self, base: Duration, max: Duration) -> Self {
        self.policy.backoff_base = base;
        self.policy.backoff_max = max;
        self
    }

    /// Most events in one request. Default: 1000; from 1 to 100,000. The rest follows in the next one.
    pub fn max_batch_events(mut self, events: usize) -> Self {
        self.policy.max_batch_events = events;
        self
    }

    /// Most bytes in one request body, before compression. Default: 1 MiB; from 64 KiB and an envelope, so that every
    /// accepted event fits, to 16 MiB. The rest follows in the next request.
    pub fn max_batch_bytes(mut self, bytes: usize) -> Self {
        self.policy.max_batch_bytes = bytes;
        self
    }

    /// Longest time one request may take, from looking up the name to the end of the answer. Default: 15 s; from 1 ms
    /// to 1 h. At the limit the connection is cut, and the request counts as unanswered.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Longest time dropping the client, or `shutdown` without a deadline, may take. Default: 5 s; from 1 ms to 1 h.
    /// What is not delivered by then stays in the spool, or without one is dropped and counted.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = timeout;
        self
    }

    /// Which events go when the queue is full. Default: [`Overflow::DropNewest`], so that `capture` says `Full`.
    ///
    /// [`Overflow::DropOldest`] makes room in the flush thread, a moment later: a burst faster than that thread can
    /// still find the queue full.
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.policy.overflow = overflow;
        self
    }

    /// Whether request bodies are compressed, small ones too. Default: `false`.
    ///
    /// Costs about 1 ms of the flush thread per MiB of events and some 300 KiB of memory, and saves four fifths of the
    /// traffic.
    #[cfg(feature = "gzip")]
    pub fn gzip(mut self, enable: bool) -> Self {
        self.gzip = enable;
        self
    }

    /// Whether everything this client sends is old data, which the server takes on its slower path. Default: `false`.
    pub fn historical_migration(mut self, historical: bool) -> Self {
        self.historical_migration = historical;
        self
    }

    /// Whether each request says when it was sent, so that the server corrects for a wrong clock. Default: `false`.
    ///
    /// Meant for devices without a good clock. Off, a re-sent request is byte for byte the one before.
    pub fn sent_at(mut self, enable: bool) -> Self {
        self.sent_at = enable;
        self
    }

    /// Whether every event gets `$geoip_disable: true`, so that the server does not look up the sender's address.
    /// Default: `false`. Set it where the address is a data centre's, not the person's.
    pub fn disable_geoip(mut self, disable: bool) -> Self {
        self.disable_geoip = disable;
        self
    }

    /// Whether every event gets `$is_server: true`. Default: `true`.
    pub fn is_server(mut self, is_server: bool) -> Self {
        self.is_server = is_server;
        self
    }

    /// A property of every event. An event's own property of the same key is used instead; a later call with the same
    /// key replaces the value.
    ///
    /// At most [`SUPER_PROPERTIES_MAX`](limits::SUPER_PROPERTIES_MAX), those of the client itself included; a key is
    /// 1 to [`KEY_BYTES_MAX`](limits::KEY_BYTES_MAX) bytes and none that the client writes itself.
    pub fn super_property(mut self, key: impl Into<String>, value: impl Into<OwnedValue>) -> Self {
        let (key, value) = (key.into(), value.into());
        match self.super_properties.iter_mut().find(|(known, _)| *known == key) {
            Some((_, known)) => *known = value,
            None => self.super_properties.push((key, value)),
        }
        self
    }

    /// A constant header of every request, for a proxy in between. At most 32, values of at most 4096 bytes of visible
    /// ASCII, spaces and tabs; headers the client writes itself are refused. A later call with the same name replaces.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let (name, value) = (name.into(), value.into());
        match self.headers.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(&name)) {
            Some((_, known)) => *known = value,
            None => self.headers.push((name, value)),
        }
        self
    }

    /// Adds a hook that sees every event once, at capture, on the capturing thread, before a byte is written. Default:
    /// none. Hooks run in the order in which they were added.
    ///
    /// It may change properties within bounds, or drop the event. A panic in it drops the event; both are counted.
    /// What the hook costs is added to what `capture` costs: it should neither block nor allocate.
    ///
    /// No event gets past the hooks. One that a hook captures itself passes all of them too, so a hook that captures must
    /// know its own events; what is captured while those pass is refused, or there would be no end.
    pub fn before_send(mut self, hook: impl Fn(&mut Draft<'_>) -> HookVerdict + Send + Sync + 'static) -> Self {
        self.hooks.before_send.push(Box::new(hook));
        self
    }

    /// Adds a hook that is told what became of events, from the flush thread, or from the thread that captures
    /// immediately. Default: none. A panic in it is swallowed.
    ///
    /// Delivery waits for it. It must not call `flush` or `shutdown`; they would refuse.
    pub fn on_deliver(mut self, hook: impl Fn(&Delivery) + Send + Sync + 'static) -> Self {
        self.hooks.on_deliver.push(Box::new(hook));
        self
    }

    /// Adds an observer of every request after it ended, from the thread that made it; the same rules as for
    /// [`on_deliver`](Self::on_deliver). For diagnostics and tests.
    pub fn on_request(mut self, hook: impl Fn(&RequestReport<'_>) + Send + Sync + 'static) -> Self {
        self.hooks.on_request.push(Box::new(hook));
        self
    }

    /// Delivers through `transport` instead of HTTP. Default: [`HttpTransport`].
    ///
    /// It is cloned for sending one event outside of the queue, so a clone should share whatever is worth sharing.
    /// Host, proxy, headers, certificates, resolver, `sent_at` and compression are then the transport's own business.
    pub fn transport<T: Transport + Clone + Send + 'static>(mut self, transport: T) -> Self {
        self.transport = Some(Box::new(transport));
        self
    }

    /// Looks names up with `resolve(name, port)` instead of the operating system: for tests and pinned addresses.
    ///
    /// It runs on a thread of its own and may block; a lookup that takes too long is abandoned, not interrupted. Up to
    /// 16 addresses are used, in order, and remembered for a minute.
    pub fn resolver(
        mut self,
        resolve: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        self.resolver = Some(Arc::new(resolve));
        self
    }

    /// The proxy: the URL of an `http`, `https`, `socks4`, `socks4a` or `socks5` proxy, or `None` for none at all.
    /// Default: what `ALL_PROXY`, `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` say when the client is built.
    pub fn proxy(mut self, proxy: Option<&str>) -> Self {
        self.proxy = match proxy {
            Some(url) => ProxyChoice::Url(url.to_owned()),
            None => ProxyChoice::Off,
        };
        self
    }

    /// Trusts exactly the certificates in this PEM text, and no others. Default: Mozilla's roots, or what
    /// `platform_verifier` or `native_tls` say.
    #[cfg(any(feature = "rustls-no-provider", feature = "native-tls"))]
    pub fn root_certs_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.tls.root_certs_pem = Some(pem.into());
        self
    }

    /// Whether rustls asks the operating system which certificates to trust, instead of Mozilla's list. Default:
    /// `false`.
    #[cfg(feature = "platform-verifier")]
    pub fn platform_verifier(mut self, enable: bool) -> Self {
        self.tls.platform_verifier = enable;
        self
    }

    /// Whether the operating system's TLS is used even though rustls is compiled in too and has a crypto provider.
    /// Default: `false`.
    #[cfg(feature = "native-tls")]
    pub fn native_tls(mut self, enable: bool) -> Self {
        self.tls.native_tls = enable;
        self
    }

    /// Starts no thread: the caller delivers by calling `poll`, `flush` or `shutdown`. Default: a thread.
    ///
    /// For programs that must not have threads of others, and for hosts that pump everything from one loop.
    pub fn without_thread(mut self) -> Self {
        self.thread = false;
        // Who polls has decided when.
        self.policy.batch_interval_min = Duration::ZERO;
        self
    }

    /// The HTTP transport that these options describe, for a transport of your own that wraps it.
    ///
    /// # Errors
    ///
    /// What [`build`](Self::build) would say about host, proxy, headers, certificates, TLS and timeouts.
    pub fn http_transport(&self) -> Result<HttpTransport, BuildError> {
        within("request_timeout", self.request_timeout, TIMEOUTS, TIMEOUTS_TEXT)?;
        if self.headers.len() > HEADERS_MAX {
            return Err(BuildError::OutOfRange { option: "header", allowed: "set at most 32 times" });
        }
        for (name, value) in &self.headers {
            check_header(name, value).map_err(|problem| BuildError::Header { name: name.clone(), problem })?;
        }
        HttpTransport::new(HttpOptions {
            endpoint: Endpoint::parse(&self.host).map_err(BuildError::Host)?,
            request_timeout: self.request_timeout,
            flush_interval: self.policy.flush_interval,
            headers: self.headers.clone(),
            sent_at: self.sent_at,
            #[cfg(feature = "gzip")]
            gzip: self.gzip,
            proxy: self.proxy.clone(),
            resolver: self.resolver.clone(),
            #[cfg(any(feature = "rustls-no-provider", feature = "native-tls"))]
            tls: self.tls.clone(),
        })
    }

    /// Checks every option, allocates the queue, and starts the flush thread.
    ///
    /// This is the only call of a client's life that may fail for reasons outside of the program: afterwards there is
    /// nothing left to allocate or to set up. A disabled client starts and allocates nothing, but its host, its times
    /// and its sizes are checked all the same.
    ///
    /// # Errors
    ///
    /// [`BuildError`] names the option and what it may be. Nothing was started then.
    pub fn build(self) -> Result<Client, BuildError> {
        Client::from_config(self.into_config()?)
    }

    /// Checks and clamps: everything [`build`](Self::build) does that neither allocates a queue nor starts a thread.
    pub(crate) fn into_config(mut self) -> Result<Config, BuildError> {
        self.check_policy()?;
        within("request_timeout", self.request_timeout, TIMEOUTS, TIMEOUTS_TEXT)?;
        within("shutdown_timeout", self.shutdown_timeout, TIMEOUTS, TIMEOUTS_TEXT)?;
        within("max_queue_size", self.max_queue_size, 1..=usize::MAX / 4, "at least 1")?;
        within("queue_bytes", self.queue_bytes, 0..=QUEUE_BYTES_MAX, "at most 1 GiB")?;
        self.check_super_properties()?;

        let key = self.api_key.as_deref().unwrap_or_default();
        let api_key = check_key(key).map_err(BuildError::ApiKey)?.map(str::to_owned);
        let sender = match (self.transport.take(), &api_key) {
            (Some(transport), _) => Some(Sender::Own(transport)),
            (None, Some(_)) => Some(Sender::Http(Box::new(self.http_transport()?))),
            (None, None) => {
                Endpoint::parse(&self.host).map_err(BuildError::Host)?;
                None
            }
        };
        self.policy.queue_events_max = self.max_queue_size;
        self.policy.flush_at = self.policy.flush_at.min(self.max_queue_size);
        Ok(Config {
            api_key,
            sender,
            policy: self.policy,
            max_queue_size: self.max_queue_size,
            queue_bytes: self.queue_bytes.max(QUEUE_BYTES_MIN).next_power_of_two(),
            enable_logging: self.enable_logging,
            shutdown_timeout: self.shutdown_timeout,
            historical_migration: self.historical_migration,
            disable_geoip: self.disable_geoip,
            is_server: self.is_server,
            super_properties: self.super_properties,
            hooks: Arc::new(self.hooks),
            flags: self.flags.checked()?,
            thread: self.thread,
            crash: self.crash,
            url: Endpoint::parse(&self.host).map_err(BuildError::Host)?.batch_url(),
            spool: self.spool,
            errors: self.errors,
        })
    }

    fn check_policy(&self) -> Result<(), BuildError> {
        let policy = &self.policy;
        within("flush_interval", policy.flush_interval, WAITS, WAITS_TEXT)?;
        within("flush_at", policy.flush_at, 1..=usize::MAX, "at least 1")?;
        within("backoff", policy.backoff_max, BACKOFFS, BACKOFFS_TEXT)?;
        within("backoff", policy.backoff_base, *BACKOFFS.start()..=policy.backoff_max, BACKOFFS_TEXT)?;
        within("max_batch_events", policy.max_batch_events, 1..=BATCH_EVENTS_LIMIT, "from 1 to 100000")?;
        let bytes = BATCH_BYTES_MIN..=BATCH_BYTES_LIMIT;
        within("max_batch_bytes", policy.max_batch_bytes, bytes, "from 64 KiB and an envelope (65794) to 16 MiB")
    }

    /// What can be said here about super properties; the client refuses the keys that it writes itself.
    fn check_super_properties(&self) -> Result<(), BuildError> {
        if self.super_properties.len() > limits::SUPER_PROPERTIES_MAX {
            return Err(BuildError::OutOfRange { option: "super_property", allowed: "set for at most 64 keys" });
        }
        for (key, _) in &self.super_properties {
            let problem = match key.len() {
                0 => CaptureError::EmptyKey,
                1..=limits::KEY_BYTES_MAX => continue,
                _ => CaptureError::KeyTooLong,
            };
            return Err(BuildError::SuperProperty { key: key.clone(), problem });
        }
        Ok(())
    }
}

impl fmt::Debug for ClientBuilder {
    /// Neither the API key nor header values, which may be secrets too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("api_key", &self.api_key)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

/// What a client is made of: every option checked, clamped and rounded.
#[derive(Clone)]
pub(crate) struct Config {
    /// The project token, trimmed and of a shape the server takes. `None`: build a disabled client.
    pub(crate) api_key: Option<String>,
    /// How batches leave. `None` only for a disabled client.
    pub(crate) sender: Option<Sender>,
    /// What the flusher is told: thresholds, batch limits, retries, overflow. Its `queue_events_max` is
    /// `max_queue_size`, and its `flush_at` at most that.
    pub(crate) policy: Policy,
    /// Events that may wait, at least 1.
    pub(crate) max_queue_size: usize,
    /// Bytes of one lane's ring: a power of two.
    pub(crate) queue_bytes: usize,
    /// Whether to speak through `log`.
    pub(crate) enable_logging: bool,
    /// Longest time of a shutdown that was given no deadline.
    pub(crate) shutdown_timeout: Duration,
    /// For the envelope.
    pub(crate) historical_migration: bool,
    /// Whether events get `$geoip_disable: true`.
    pub(crate) disable_geoip: bool,
    /// Whether events get `$is_server: true`.
    pub(crate) is_server: bool,
    /// The caller's super properties: keys of the right length, each once.
    pub(crate) super_properties: Vec<(String, OwnedValue)>,
    /// The caller's hooks.
    pub(crate) hooks: Arc<Hooks>,
    /// How feature flags are found out.
    pub(crate) flags: FlagOptions,
    /// Whether to start the flush thread.
    pub(crate) thread: bool,
    /// What is done at a crash.
    pub(crate) crash: CrashOptions,
    /// Where events go, as far as this client knows: names the spool.
    pub(crate) url: String,
    /// Whether and how the queue outlives the process.
    pub(crate) spool: SpoolOptions,
    /// How errors are reported, and what no event may say.
    pub(crate) errors: ErrorOptions,
}

/// `value` is within `range`, or an error that says what `option` may be.
pub(crate) fn within<T: PartialOrd>(
    option: &'static str,
    value: T,
    range: RangeInclusive<T>,
    allowed: &'static str,
) -> Result<(), BuildError> {
    if range.contains(&value) { Ok(()) } else { Err(BuildError::OutOfRange { option, allowed }) }
}

#[cfg(test)]
mod tests;
