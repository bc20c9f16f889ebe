//! The options about errors, and about what must not leave the program.
//!
//! In: what a caller set on a [`ClientBuilder`]. Out: [`ErrorOptions`].

use core::error::Error;
use core::time::Duration;

use quillet_core::limits::{DENIED_KEY_BYTES_MAX, STEPS_BYTES_MAX};

use super::burst::BurstLimit;
use super::chain::{Recognise, recognise};
use crate::config::ClientBuilder;
use crate::redactor::Redactor;

/// Bytes of steps when the caller sets nothing else.
const STEPS_BYTES: usize = 8 * 1024;

/// How errors are reported, and what is left out of all events. Plain data.
#[derive(Clone, Debug)]
pub(crate) struct ErrorOptions {
    pub(crate) limit: BurstLimit,
    pub(crate) steps_bytes: usize,
    pub(crate) resolve_symbols: bool,
    pub(crate) known: Vec<Recognise>,
    pub(crate) redactor: Redactor,
}

impl Default for ErrorOptions {
    fn default() -> Self {
        let redactor = Redactor::default();
        Self {
            limit: BurstLimit::default(),
            steps_bytes: STEPS_BYTES,
            resolve_symbols: false,
            known: Vec::new(),
            redactor,
        }
    }
}

impl ClientBuilder {
    /// How many errors of one kind (type and place, or fingerprint) are sent at once, and after which time one more may be.
    /// Default: 10, and one every 10 s. A `burst` of 0 switches the limit off.
    ///
    /// What is held back is counted as [`RateLimited`](quillet_core::CaptureError::RateLimited), and the next one sent says
    /// how many they were. 64 kinds are told apart at a time; further ones share a limit. Panics have their own.
    pub fn exception_limit(mut self, burst: u32, interval: Duration) -> Self {
        self.errors.limit = BurstLimit { burst, interval };
        self
    }

    /// Bytes of JSON for what happened before an error ([`Client::add_exception_step`](crate::Client::add_exception_step)).
    /// Default: 8 KiB; at most 32 KiB, larger values become this; 0 for none. At the limit the oldest are forgotten. Twice
    /// as much is allocated when the client is built.
    pub fn exception_steps_bytes(mut self, bytes: usize) -> Self {
        self.errors.steps_bytes = bytes.min(STEPS_BYTES_MAX);
        self
    }

    /// Whether the functions, files and lines of an error's stack are looked up here, when it is captured, for programs whose
    /// symbols are not uploaded to PostHog. Default: `false`, addresses and build ids are sent, and the server looks them up.
    ///
    /// It takes milliseconds on the thread that captures the error, the first time tens of them, and memory. What a burst
    /// limit holds back costs nothing. Panic hooks and signal handlers never do it.
    pub fn resolve_symbols(mut self, resolve: bool) -> Self {
        self.errors.resolve_symbols = resolve;
        self
    }

    /// Has the client recognise errors of type `E` where their type cannot be seen any more, as causes and behind `dyn
    /// Error`. Without it such an error is called what its derived `Debug` begins with, or `Error`.
    pub fn known_error<E: Error + 'static>(mut self) -> Self {
        self.errors.known.push(recognise::<E>());
        self
    }

    /// Leaves properties of these names out of everything that is written: events, person and group properties, super
    /// properties, scopes, steps, panics; at any depth, also inside JSON and serialised values. Default: none; a further
    /// call adds to the list.
    ///
    /// Whole keys are compared, without regard to the case of ASCII letters, so that `token` does not catch
    /// `token_count`. What the client writes itself is not affected. Keys longer than 128 bytes are left out of the list.
    /// Works after `before_send`, so a hook cannot bring back what is denied. Costs each capture a look at its keys, and an
    /// event with nested values or texts over the limit a second pass over those.
    pub fn deny_keys<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        let keys = keys.into_iter().map(Into::into).filter(|key: &String| key.len() <= DENIED_KEY_BYTES_MAX);
        self.errors.redactor.denied.extend(keys);
        self
    }

    /// Cuts texts in properties after so many bytes, at the end of a character, wherever [`deny_keys`](Self::deny_keys)
    /// looks. Default: no limit but that of an event.
    pub fn max_text_bytes(mut self, bytes: usize) -> Self {
        self.errors.redactor.text_bytes_max = bytes;
        self
    }
}
