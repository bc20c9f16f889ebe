//! Keeping definitions up to date: from the server, from another process's file, or from a file of the caller's.
//!
//! In: where to look, and how often. Out: a [`DefinitionSet`] in its place, replaced at once. What goes wrong leaves the
//! last good one where it is; only a server that says that this project must pay first takes it away.
//!
//! Concurrency: one round at a time, in the thread `quillet-flags` or in a call of `reload_feature_flags`.

use core::time::Duration;
use std::hash::BuildHasher;
use std::path::Path;
use std::sync::{Arc, Mutex, TryLockError};
use std::thread;
use std::time::SystemTime;

use quillet_core::Instant;

use super::Flags;
use super::error::FlagError;
use super::local::{DOCUMENT_BYTES_MAX, DefinitionSet, read_text};
use super::share::SharedFile;
use crate::error::BuildError;
use crate::log::Topic;
use crate::transport::flags::FlagRequest;

/// Longest time of one request for definitions, which may be large.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How often somebody looks who waits for another round to end.
const TICK: Duration = Duration::from_millis(5);

/// Slower by this, after an answer that asks for patience or that only a person can change.
const REFUSED_FACTOR: u32 = 10;
const PATIENCE_FACTOR: u32 = 2;

/// What the rounds remember.
#[derive(Default)]
pub(super) struct Rounds {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Of the document in use.
    etag: Option<String>,
    /// Of the caller's file.
    stamp: Option<(SystemTime, u64)>,
    /// The document in use, for the other processes.
    document: Option<Arc<str>>,
    rounds: u64,
}

/// What one round found.
enum Found {
    /// Something new.
    New(DefinitionSet),
    /// That what there is still counts.
    Same,
    /// That there must be none.
    Cleared,
}

impl Flags {
    /// Starts the thread, if there is something to look for.
    pub(super) fn start_poller(self: &Arc<Self>) -> Result<(), BuildError> {
        if !self.options.has_source() {
            return Ok(());
        }
        let flags = Arc::clone(self);
        let thread = thread::Builder::new().name("quillet-flags".to_owned());
        thread.spawn(move || flags.poll()).map(drop).map_err(|error| BuildError::Thread(error.kind()))
    }

    fn poll(&self) {
        while !self.is_closed() {
            let result = self.round(self.clock.now().after(TIMEOUT), false);
            let factor = match result {
                Err(FlagError::Status(401 | 403)) => REFUSED_FACTOR,
                Err(FlagError::Status(429)) => PATIENCE_FACTOR,
                _ => 1,
            };
            if !self.pause(self.jittered(self.options.poll_interval * factor)) {
                return;
            }
        }
    }

    /// Looks once, wherever there is to look. `force`: also where another process has just looked.
    pub(super) fn round(&self, deadline: Instant, force: bool) -> Result<(), FlagError> {
        let mut state = loop {
            match self.rounds.state.try_lock() {
                Ok(state) => break state,
                Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if deadline.since(self.clock.now()).is_zero() => {
                    return Err(FlagError::Timeout);
                }
                Err(TryLockError::WouldBlock) => {
                    if !self.pause(TICK) {
                        return Err(FlagError::Closed);
                    }
                }
            }
        };
        state.rounds = state.rounds.wrapping_add(1);
        let found = match (&self.options.secret, &self.options.file) {
            (Some(secret), _) => self.ask_server(&mut state, secret, deadline, force),
            (None, Some(path)) => look_at_file(&mut state, path),
            (None, None) => self.look_at_others(&mut state),
        };
        match found {
            Ok(Found::New(set)) => self.install(Some(set)),
            Ok(Found::Same) => {}
            Ok(Found::Cleared) => self.install(None),
            Err(error) => {
                self.log.warn(Topic::Definitions, format_args!("flag definitions: {error}; the last good ones count"));
                return Err(error);
            }
        }
        Ok(())
    }

    fn ask_server(&self, state: &mut State, secret: &str, deadline: Instant, force: bool) -> Result<Found, FlagError> {
        let shared = self.options.shared_dir.as_ref().map(|folder| SharedFile::new(folder, &self.token));
        if let Some(shared) = shared.as_ref().filter(|_| !force)
            && let Ok(found) = self.look_at_shared(state, shared, self.options.poll_interval)
        {
            return Ok(found);
        }
        let timeout = TIMEOUT.min(deadline.since(self.clock.now()));
        let etag = state.etag.as_deref().filter(|_| self.definitions().is_some());
        let request = FlagRequest::definitions(&self.definitions_target, secret, etag, timeout, DOCUMENT_BYTES_MAX);
        let answer = self.ask(&request)?;
        if self.is_closed() {
            return Err(FlagError::Closed);
        }
        match answer.status {
            200 => {
                let document = String::from_utf8(answer.body).map_err(|_| FlagError::BadAnswer)?;
                let set = DefinitionSet::parse(document.as_str()).map_err(|_| FlagError::BadAnswer)?;
                // Only with its document in place: an ETag without one would keep it away for ever.
                state.etag = answer.etag;
                if let Some(shared) = &shared {
                    self.share(shared, state.etag.as_deref(), &document);
                    state.document = Some(document.into());
                }
                Ok(Found::New(set))
            }
            304 => {
                if let (Some(shared), Some(document)) = (&shared, &state.document) {
                    self.share(shared, state.etag.as_deref(), document);
                }
                Ok(Found::Same)
            }
            402 => {
                self.log
                    .warn(Topic::Definitions, format_args!("flag definitions: over quota, local evaluation is off"));
                state.etag = None;
                Ok(Found::Cleared)
            }
            status => Err(FlagError::Status(status)),
        }
    }

    /// Without a key of its own a process lives by what others fetched, however old.
    fn look_at_others(&self, state: &mut State) -> Result<Found, FlagError> {
        let folder = self.options.shared_dir.as_ref().ok_or(FlagError::NoTransport)?;
        self.look_at_shared(state, &SharedFile::new(folder, &self.token), Duration::MAX)
    }

    fn look_at_shared(&self, state: &mut State, shared: &SharedFile, age: Duration) -> Result<Found, FlagError> {
        let read = shared.read_fresh(age).ok_or(FlagError::Missing)?;
        if state.document.as_deref() == Some(read.document.as_str()) && self.definitions().is_some() {
            return Ok(Found::Same);
        }
        let set = DefinitionSet::parse(read.document.as_str()).map_err(|_| FlagError::BadAnswer)?;
        state.etag = read.etag.filter(|etag| !etag.is_empty());
        state.document = Some(read.document.into());
        Ok(Found::New(set))
    }

    fn share(&self, shared: &SharedFile, etag: Option<&str>, document: &str) {
        if let Err(error) = shared.write(etag, document) {
            self.log.warn(Topic::Definitions, format_args!("flag definitions cannot be shared: {error}"));
        }
    }

    fn install(&self, set: Option<DefinitionSet>) {
        let set = set.map(Arc::new);
        *self.definitions.write().unwrap_or_else(std::sync::PoisonError::into_inner) = set;
    }

    /// Up to a tenth longer.
    fn jittered(&self, interval: Duration) -> Duration {
        let draw = self.hashers[1].hash_one(self.clock.now().as_micros()) % 1000;
        interval + interval / 10 * u32::try_from(draw).unwrap_or(0) / 1000
    }
}

fn look_at_file(state: &mut State, path: &Path) -> Result<Found, FlagError> {
    let stamp = || {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    let stamp = stamp().ok_or(FlagError::Missing)?;
    if state.stamp == Some(stamp) {
        return Ok(Found::Same);
    }
    let text = read_text(path).map_err(|_| FlagError::BadAnswer)?;
    let set = DefinitionSet::parse(text).map_err(|_| FlagError::BadAnswer)?;
    state.stamp = Some(stamp);
    Ok(Found::New(set))
}
