//! Feature flags with an operating system underneath: requests, memory of answers, a thread for definitions.
//!
//! ```text
//!  is_feature_enabled ─┬─▶ local: definitions ──────────────────────────┬─▶ called: `$feature_flag_called`, once
//!  feature_flag, …     └─▶ remote: cache ─▶ one request ─▶ answer ──────┘
//!                           poller: server, file, other processes ─▶ definitions
//! ```
//!
//! In: a flag's key, and a [`FlagQuery`]. Out: a value, or a [`FlagError`] that says why not. Parsing, hashing and
//! evaluation are the core's; nothing here knows what a flag is made of.
//!
//! A call blocks its own thread, for as long as its requests may take, and nobody else: captures meet none of its locks, and
//! no lock is held while a request is out. Nothing panics, whatever a server or a transport does.

mod answer;
mod cache;
mod called;
mod config;
mod error;
mod local;
mod poller;
mod query;
mod remote;
mod share;
mod snapshot;
#[cfg(test)]
mod tests;

use core::time::Duration;
use std::hash::RandomState;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};

use quillet_core::limits::DISTINCT_ID_CHARS_MAX;
use quillet_core::wire::key;
use quillet_core::{CaptureError, Clock};

pub use quillet_core::flags::*;

pub use answer::OwnedFlagValue;
pub(crate) use config::FlagOptions;
pub use config::FlagsEndpoint;
pub use error::FlagError;
pub use query::FlagQuery;
pub use snapshot::FeatureFlags;

use self::answer::{Answer, Detail, decoded};
use self::cache::Cache;
use self::called::{Called, Reading};
use self::local::DefinitionSet;
use self::poller::Rounds;
use crate::client::Client;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::draft::Draft;
use crate::error::BuildError;
use crate::hooks::OwnedValue;
use crate::inner::Inner;
use crate::log::Log;
use crate::redactor::Redactor;
use crate::sys::WallClock;
use crate::transport::FlagSender;

/// Most flags that the option `send_feature_flags` puts on an event; hooks need some of a draft's room too.
const ON_EVENT_MAX: usize = 32;

/// Feature flags.
///
/// Every one of these calls may block for as long as its requests may take; none panics. On a disabled client they return at
/// once, with the default or an error. Inside an async runtime, call them where blocking is allowed.
impl Client {
    /// Whether the flag `key` is on (`true`, or any variant); `default` if that cannot be known.
    ///
    /// ```
    /// # let client = quillet::Client::disabled();
    /// if client.is_feature_enabled("new-checkout", "customer-7", false) {
    ///     // …
    /// }
    /// ```
    pub fn is_feature_enabled<'a>(&self, key: &str, who: impl Into<FlagQuery<'a>>, default: bool) -> bool {
        let enabled = |reading: Reading<'_>| reading.value().map(|value| value.is_enabled());
        self.read_flag(key, &who.into(), true, enabled).ok().flatten().unwrap_or(default)
    }

    /// The value of the flag `key`. Where there is a sensible default, [`feature_flag_or`](Self::feature_flag_or) is shorter.
    ///
    /// # Errors
    ///
    /// [`FlagError`] says why the value is not known.
    pub fn feature_flag<'a>(&self, key: &str, who: impl Into<FlagQuery<'a>>) -> Result<OwnedFlagValue, FlagError> {
        self.read_flag(key, &who.into(), true, |reading| match reading {
            Reading::Local(flag, _) => Ok(flag.value().into()),
            Reading::Known(detail, _) => Ok(detail.value.clone()),
            Reading::Unknown(error, _) => Err(error),
        })?
    }

    /// The value of the flag `key`, or `default` if it is not known.
    ///
    /// ```
    /// # let client = quillet::Client::disabled();
    /// let colour = client.feature_flag_or("button-colour", "customer-7", "blue");
    /// assert!(colour == "blue");
    /// ```
    pub fn feature_flag_or<'a>(
        &self,
        key: &str,
        who: impl Into<FlagQuery<'a>>,
        default: impl Into<OwnedFlagValue>,
    ) -> OwnedFlagValue {
        self.feature_flag(key, who).unwrap_or_else(|_| default.into())
    }

    /// The payload of the flag's value, as JSON text; `None` if it has none. Tells PostHog nothing.
    ///
    /// # Errors
    ///
    /// [`FlagError`] says why it is not known.
    pub fn feature_flag_payload<'a>(
        &self,
        key: &str,
        who: impl Into<FlagQuery<'a>>,
    ) -> Result<Option<String>, FlagError> {
        self.read_flag(key, &who.into(), false, |reading| match reading {
            Reading::Local(flag, _) => Ok(flag.payload().map(|payload| decoded(payload).into())),
            Reading::Known(detail, _) => Ok(detail.payload.as_deref().map(str::to_owned)),
            Reading::Unknown(error, _) => Err(error),
        })?
    }

    /// The payload of the flag's value as a type of yours; `None` if it has none, or one that is no such thing.
    ///
    /// # Errors
    ///
    /// [`FlagError`] says why it is not known.
    #[cfg(feature = "serde")]
    pub fn feature_flag_payload_as<'a, T: serde::de::DeserializeOwned>(
        &self,
        key: &str,
        who: impl Into<FlagQuery<'a>>,
    ) -> Result<Option<T>, FlagError> {
        let payload = self.feature_flag_payload(key, who)?;
        Ok(payload.and_then(|payload| serde_json::from_str(&payload).ok()))
    }

    /// All flags, or those that the query [names](FlagQuery::keys), at this moment. At most one request; what definitions
    /// decide is not overwritten by it.
    ///
    /// Never fails: what is not known is not in it, and [`FeatureFlags::error`] says why.
    pub fn feature_flags<'a>(&self, who: impl Into<FlagQuery<'a>>) -> FeatureFlags {
        let query = who.into();
        match self.current() {
            Some(inner) => {
                let found = inner.open_for(&query).map(|()| inner.flags.all(&query));
                let (local, remote) = match found {
                    Ok(found) => found,
                    Err(error) => (Vec::new(), Err(error)),
                };
                let mut snapshot = FeatureFlags::new(self.downgrade(), &query, remote.as_ref().err().copied());
                snapshot.add(local.iter().map(|(key, detail)| (&**key, detail.clone())));
                if let Ok(Some(answer)) = &remote {
                    let named = |key: &str| query.keys.is_empty() || query.keys.contains(&key);
                    let known = answer.flags.iter().filter(|(key, _)| named(key));
                    snapshot.add(known.map(|(key, detail)| (&**key, detail.clone())));
                    snapshot.set_origin(answer.origin.clone());
                } else if let Some(definitions) = inner.flags.definitions() {
                    let minimal = definitions.as_definitions().minimal_called_events();
                    snapshot.set_origin(answer::Origin { minimal, ..answer::Origin::default() });
                }
                snapshot
            }
            None => FeatureFlags::new(self.downgrade(), &query, Some(FlagError::Disabled)),
        }
    }

    /// Fetches definitions now, or reads their file, and waits for it, for at most `timeout`. So a program that has just
    /// started can be sure that flags are evaluated locally.
    ///
    /// # Errors
    ///
    /// [`FlagError`] says why there are no newer ones. Those that there are stay in use.
    pub fn reload_feature_flags(&self, timeout: Duration) -> Result<(), FlagError> {
        let inner = self.current().ok_or(FlagError::Disabled)?;
        inner.open()?;
        if !inner.flags.options.has_source() {
            return Err(FlagError::NoTransport);
        }
        inner.flags.round(inner.flags.clock.now().after(timeout), true)
    }

    /// Finds out about one flag, tells PostHog if `expose` says so, and has `use_it` look at what was found.
    fn read_flag<T>(
        &self,
        key: &str,
        query: &FlagQuery<'_>,
        expose: bool,
        use_it: impl FnOnce(Reading<'_>) -> T,
    ) -> Result<T, FlagError> {
        let inner = self.current().ok_or(FlagError::Disabled)?;
        inner.open_for(query)?;
        let use_it = |reading: Reading<'_>| {
            if expose {
                inner.tell_called(key, query, reading);
            }
            use_it(reading)
        };
        let flags = &*inner.flags;
        let definitions = flags.definitions().filter(|_| query.only_local || !query.force_remote);
        let local = definitions.as_deref().map(|set| (set, flags.evaluate(set, key, query)));
        match local {
            Some((set, Ok(flag))) => return Ok(use_it(Reading::Local(&flag, set.is_minimal()))),
            Some((_, Err(reason))) if query.only_local => return Err(FlagError::Inconclusive(reason)),
            None if query.only_local => return Err(FlagError::Inconclusive(Inconclusive::UnknownFlag)),
            _ => {}
        }
        Ok(match flags.remote(query, &[key]) {
            Ok(answer) => match answer.flags.get(key) {
                Some(detail) if detail.failed => use_it(Reading::Unknown(FlagError::Failed, Some(&answer.origin))),
                Some(detail) => use_it(Reading::Known(detail, &answer.origin)),
                None => use_it(Reading::Unknown(FlagError::Missing, Some(&answer.origin))),
            },
            Err(error) => use_it(Reading::Unknown(error, None)),
        })
    }
}

impl Inner {
    /// Whether flags may be asked about at all.
    fn open(&self) -> Result<(), FlagError> {
        self.shared.admits().map_err(|reason| match reason {
            CaptureError::Closed => FlagError::Closed,
            _ => FlagError::Disabled,
        })
    }

    fn open_for(&self, query: &FlagQuery<'_>) -> Result<(), FlagError> {
        self.open()?;
        let id = query.subject.given_distinct_id();
        let is_one =
            !id.trim().is_empty() && (id.len() <= DISTINCT_ID_CHARS_MAX || id.chars().count() <= DISTINCT_ID_CHARS_MAX);
        if is_one { Ok(()) } else { Err(FlagError::DistinctId) }
    }
}

/// What a client knows about flags, and how it finds out more.
pub(crate) struct Flags {
    options: FlagOptions,
    token: String,
    /// What no request may say either.
    redactor: Redactor,
    sender: FlagSender,
    clock: Box<dyn Clock + Send + Sync>,
    wall_clock: WallClock,
    /// Two, for fingerprints that nobody can guess, nor make collide.
    hashers: [RandomState; 2],
    cache: Mutex<Cache>,
    called: Mutex<Called>,
    definitions: RwLock<Option<Arc<DefinitionSet>>>,
    definitions_target: String,
    rounds: Rounds,
    closed: Mutex<bool>,
    /// Signalled when the client closes.
    closing: Condvar,
    log: Log,
}

impl Flags {
    /// What the config says; and the thread, if there is something to look for and threads are allowed.
    pub(crate) fn start(config: &Config) -> Result<Arc<Self>, BuildError> {
        let sender = FlagSender::new(config.flags.transport.clone(), config.sender.as_ref());
        let token = config.api_key.clone().unwrap_or_default();
        let log = Log::new(config.enable_logging);
        let mut flags = Self::new(config.flags.clone(), token, sender, Box::new(SystemClock::new()), log);
        flags.redactor = config.errors.redactor.clone();
        let flags = Arc::new(flags);
        if config.thread {
            flags.start_poller()?;
        }
        Ok(flags)
    }

    fn new(
        options: FlagOptions,
        token: String,
        sender: FlagSender,
        clock: Box<dyn Clock + Send + Sync>,
        log: Log,
    ) -> Self {
        Self {
            definitions_target: format!("/flags/definitions?token={}&send_cohorts", percent_encoded(&token)),
            cache: Mutex::new(Cache::new(options.ttl, options.entries)),
            called: Mutex::new(Called::new()),
            definitions: RwLock::new(options.definitions.clone()),
            options,
            token,
            redactor: Redactor::default(),
            sender,
            clock,
            wall_clock: WallClock,
            hashers: [RandomState::new(), RandomState::new()],
            rounds: Rounds::default(),
            closed: Mutex::new(false),
            closing: Condvar::new(),
            log,
        }
    }

    /// Ends whatever waits or asks. Later calls fail at once.
    pub(crate) fn close(&self) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.closing.notify_all();
        self.sender.abort();
    }

    /// Whether events get the flags of their person.
    pub(crate) fn are_on_events(&self) -> bool {
        self.options.on_events
    }

    /// Puts the flags of an event's person on it, as far as they are known. Asks nobody and waits for nobody.
    pub(crate) fn decorate(&self, draft: &mut Draft<'_>) {
        if !self.options.on_events || draft.name() == key::FEATURE_FLAG_CALLED || draft.distinct_id().is_empty() {
            return;
        }
        let Ok(cache) = self.cache.try_lock() else { return };
        let known = cache.of_person(self.clock.now(), self.person(draft.distinct_id()));
        drop(cache);
        let Some(answer) = known else { return };
        let flags = || answer.flags.iter().filter(|(_, detail)| !detail.failed).take(ON_EVENT_MAX);
        for (flag, detail) in flags() {
            let name = format!("{}{flag}", key::FEATURE_PREFIX);
            if draft.property(&name).is_none() {
                draft.set(
                    &name,
                    match &detail.value {
                        OwnedFlagValue::Bool(value) => OwnedValue::Bool(*value),
                        OwnedFlagValue::Variant(variant) => OwnedValue::Text(variant.clone()),
                    },
                );
            }
        }
        let active = snapshot::active_keys(flags().map(|(key, detail)| (&**key, detail)));
        if let Some(active) = active.filter(|_| draft.property(key::ACTIVE_FEATURE_FLAGS).is_none()) {
            draft.set(key::ACTIVE_FEATURE_FLAGS, active);
        }
    }

    fn evaluate<'d>(
        &self,
        set: &'d DefinitionSet,
        key: &str,
        query: &FlagQuery<'_>,
    ) -> Result<LocalFlag<'d>, Inconclusive> {
        set.evaluate(key, &query.subject, self.wall_clock.now())
    }

    /// Everything there is to know: what definitions decide, and what the server says, if anything is left to ask.
    #[allow(clippy::type_complexity, reason = "both halves are used by one caller only")]
    fn all(&self, query: &FlagQuery<'_>) -> (Vec<(Box<str>, Detail)>, Result<Option<Arc<Answer>>, FlagError>) {
        let mut local = Vec::new();
        let mut left: Option<FlagError> = None;
        let definitions = self.definitions().filter(|_| query.only_local || !query.force_remote);
        match &definitions {
            Some(set) => {
                let named = query.keys.iter().map(|key| (*key).to_owned());
                let keys: Vec<String> = if query.keys.is_empty() {
                    set.as_definitions().keys().map(|key| key.to_string()).collect()
                } else {
                    named.collect()
                };
                for key in keys {
                    match self.evaluate(set, &key, query) {
                        Ok(flag) => local.push((key.into_boxed_str(), Detail::of_local(&flag))),
                        Err(reason) => left = left.or(Some(FlagError::Inconclusive(reason))),
                    }
                }
            }
            None => left = Some(FlagError::Inconclusive(Inconclusive::UnknownFlag)),
        }
        let remote = match left {
            None => Ok(None),
            Some(error) if query.only_local => Err(error),
            Some(_) => self.remote(query, query.keys).map(Some),
        };
        (local, remote)
    }

    fn definitions(&self) -> Option<Arc<DefinitionSet>> {
        self.definitions.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn lock_cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_called(&self) -> MutexGuard<'_, Called> {
        self.called.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_closed(&self) -> bool {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets time pass; `false` if the client closed meanwhile.
    fn pause(&self, time: Duration) -> bool {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.closing.wait_timeout_while(closed, time, |closed| !*closed);
        !*waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// For a query: letters, digits and what else needs no escape stay.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
