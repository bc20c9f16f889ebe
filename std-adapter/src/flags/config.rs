//! Every knob of feature flags: its unit, its default, and what happens at its limit.
//!
//! Input: what a caller set on a [`ClientBuilder`]. Output: checked [`FlagOptions`] that the client's [`Flags`] are made of.
//!
//! [`Flags`]: super::Flags

use core::ops::RangeInclusive;
use core::time::Duration;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{ClientBuilder, within};
use crate::error::BuildError;
use crate::transport::flags::FlagTransport;

use super::local::DefinitionSet;

/// How long a value counts when the caller sets nothing else.
const TTL: Duration = Duration::from_secs(60);
const TTLS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(24 * 3600);

/// What PostHog recommends for one request about flags.
const TIMEOUT: Duration = Duration::from_secs(3);
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);

/// Requests after the first one, at most.
const RETRIES_MAX: u32 = 10;

/// Answers kept.
const ENTRIES: usize = 1000;
const ENTRIES_MAX: usize = 1_000_000;

/// How often definitions are asked for.
const POLL_INTERVAL: Duration = Duration::from_secs(30);
const POLL_INTERVALS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);

/// Longest secret key, in bytes.
const SECRET_BYTES_MAX: usize = 256;

/// Where values of flags are asked for: [`ClientBuilder::flags_endpoint`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlagsEndpoint {
    /// `/flags/?v=2`
    #[default]
    Flags,
    /// `/decide/?v=3`, for self-hosted servers from before 2025. PostHog calls it deprecated.
    Decide,
}

impl FlagsEndpoint {
    pub(super) const fn target(self) -> &'static str {
        match self {
            Self::Flags => "/flags/?v=2",
            Self::Decide => "/decide/?v=3",
        }
    }
}

/// What the builder knows about flags; after the check, what the client knows.
#[derive(Clone)]
pub(crate) struct FlagOptions {
    pub(super) endpoint: FlagsEndpoint,
    pub(super) ttl: Duration,
    pub(super) timeout: Duration,
    pub(super) retries: u32,
    pub(super) entries: usize,
    pub(super) called_events: bool,
    pub(super) on_events: bool,
    pub(super) secret: Option<String>,
    pub(super) poll_interval: Duration,
    pub(super) shared_dir: Option<PathBuf>,
    pub(super) file: Option<PathBuf>,
    text: Option<String>,
    /// What `text` or `file` said when the client was built.
    pub(super) definitions: Option<Arc<DefinitionSet>>,
    pub(super) transport: Option<Arc<dyn FlagTransport>>,
}

impl Default for FlagOptions {
    fn default() -> Self {
        Self {
            endpoint: FlagsEndpoint::default(),
            ttl: TTL,
            timeout: TIMEOUT,
            retries: 1,
            entries: ENTRIES,
            called_events: true,
            on_events: false,
            secret: None,
            poll_interval: POLL_INTERVAL,
            shared_dir: None,
            file: None,
            text: None,
            definitions: None,
            transport: None,
        }
    }
}

impl FlagOptions {
    /// Checks every option, and reads definitions that are given as text or as a file.
    pub(crate) fn checked(mut self) -> Result<Self, BuildError> {
        within("feature_flag_ttl", self.ttl, TTLS, "at most 24 h")?;
        within("feature_flag_timeout", self.timeout, TIMEOUTS, "from 1 ms to 60 s")?;
        within("feature_flag_retries", self.retries, 0..=RETRIES_MAX, "at most 10")?;
        within("feature_flag_entries", self.entries, 0..=ENTRIES_MAX, "at most 1,000,000")?;
        within("flag_poll_interval", self.poll_interval, POLL_INTERVALS, "from 1 s to 24 h")?;
        self.secret = self.secret.map(|secret| secret.trim().to_owned()).filter(|secret| !secret.is_empty());
        if let Some(secret) = &self.secret {
            let is_one = secret.len() <= SECRET_BYTES_MAX && secret.bytes().all(|byte| byte.is_ascii_graphic());
            if !is_one || secret.starts_with("phc_") {
                return Err(BuildError::SecretKey);
            }
        }
        self.definitions = match (self.text.take(), &self.file) {
            (Some(text), _) => Some(DefinitionSet::parse(text).map_err(BuildError::FlagDefinitions)?),
            (None, Some(path)) => Some(DefinitionSet::read(path)?),
            (None, None) => None,
        }
        .map(Arc::new);
        Ok(self)
    }

    /// Whether there is something to look for from time to time.
    pub(super) fn has_source(&self) -> bool {
        self.secret.is_some() || self.file.is_some() || self.shared_dir.is_some()
    }
}

/// Feature flags.
impl ClientBuilder {
    /// How long a flag's value counts before it is asked for again. Default: 60 s; at most 24 h, and 0 asks every time.
    ///
    /// Kept per distinct id and what else was said about the person; an answer that knows no such flag counts as long.
    pub fn feature_flag_ttl(mut self, ttl: Duration) -> Self {
        self.flags.ttl = ttl;
        self
    }

    /// Answers about flags that are kept. Default: 1000; at most 1,000,000, and 0 keeps none. At the limit the oldest goes.
    ///
    /// What they take together is bounded as well, by 32 MiB.
    pub fn feature_flag_entries(mut self, entries: usize) -> Self {
        self.flags.entries = entries;
        self
    }

    /// Longest time of one request about flags. Default: 3 s; from 1 ms to 60 s.
    ///
    /// A call can take as long as all of its requests and the waits between them: with one retry at most twice this, and
    /// 0.3 s. [`FlagQuery::timeout`](crate::FlagQuery::timeout) bounds a single call.
    pub fn feature_flag_timeout(mut self, timeout: Duration) -> Self {
        self.flags.timeout = timeout;
        self
    }

    /// Requests after the first one, where there was no answer, or one with status 502 or 504. Default: 1; at most 10. The
    /// first waits 0.3 s, each further one twice as long.
    pub fn feature_flag_retries(mut self, retries: u32) -> Self {
        self.flags.retries = retries;
        self
    }

    /// Where the values of flags are asked for. Default: [`FlagsEndpoint::Flags`].
    pub fn flags_endpoint(mut self, endpoint: FlagsEndpoint) -> Self {
        self.flags.endpoint = endpoint;
        self
    }

    /// Whether reading a flag captures the event `$feature_flag_called`, which experiments count by. Default: `true`.
    ///
    /// Once per distinct id, flag, value and groups, as far as the client remembers: the last 50,000 of them.
    pub fn feature_flag_called_events(mut self, enable: bool) -> Self {
        self.flags.called_events = enable;
        self
    }

    /// Whether every event says which flags its person has: `$feature/<key>` and `$active_feature_flags`. Default: `false`.
    ///
    /// Only what is known without asking: the values that this client got from the server within the last
    /// [`feature_flag_ttl`](Self::feature_flag_ttl), at most 32 of them. Such captures allocate, and an event goes without
    /// when another thread is just changing what is known. To choose the flags of an event, use
    /// [`FeatureFlags::capture`](crate::FeatureFlags::capture) instead.
    pub fn send_feature_flags(mut self, enable: bool) -> Self {
        self.flags.on_events = enable;
        self
    }

    /// A personal API key (`phx_…`) or a project secret key (`phs_…`), with which the client fetches the definitions of all
    /// flags and evaluates them itself. Default: none; an empty key is none. It is a secret: not for programs you give away.
    ///
    /// A flag that cannot be decided here is asked for remotely, unless the call says otherwise.
    pub fn personal_api_key(mut self, key: impl Into<String>) -> Self {
        self.flags.secret = Some(key.into());
        self
    }

    /// How often definitions are fetched, or their file is looked at. Default: 30 s; from 1 s to 24 h. A tenth at most is
    /// added by chance, so that many processes do not ask at once.
    ///
    /// A client [`without_thread`](Self::without_thread) does so only in
    /// [`reload_feature_flags`](crate::Client::reload_feature_flags).
    pub fn flag_poll_interval(mut self, interval: Duration) -> Self {
        self.flags.poll_interval = interval;
        self
    }

    /// Evaluates flags by this document, as `/flags/definitions` gives it, from the first call on. Without a
    /// [`personal_api_key`](Self::personal_api_key) it is never replaced.
    pub fn flag_definitions(mut self, json: impl Into<String>) -> Self {
        self.flags.text = Some(json.into());
        self
    }

    /// The same from a file, which has to be there when the client is built, and is read again when it changes.
    pub fn flag_definitions_file(mut self, path: impl AsRef<Path>) -> Self {
        self.flags.file = Some(path.as_ref().to_owned());
        self
    }

    /// A folder through which several processes share fetched definitions, so that one request serves all of them. It has to
    /// be there, and only be writable for those who may decide what the flags are.
    pub fn flag_definitions_dir(mut self, path: impl AsRef<Path>) -> Self {
        self.flags.shared_dir = Some(path.as_ref().to_owned());
        self
    }

    /// Asks about flags through `transport` instead of HTTP. Default: HTTP, unless [`transport`](Self::transport) replaced
    /// it: then there is nobody to ask, and only definitions count.
    pub fn flag_transport(mut self, transport: impl FlagTransport + 'static) -> Self {
        self.flags.transport = Some(Arc::new(transport));
        self
    }
}
