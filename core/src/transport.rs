//! The seam between deciding and sending: a [`Batch`] goes out, an [`Outcome`] comes back.
//!
//! In: the batch that [`Flusher::poll`](crate::Flusher::poll) gave. Out: what was learned about it, uninterpreted; what it
//! means is decided in [`retry`](crate::retry). Implementations live outside of the core: an HTTP client, a modem, a
//! test's memory.

use crate::Batch;
use core::time::Duration;

/// Delivers batches to PostHog's `/batch/` endpoint, or pretends to.
///
/// One call is one request: retrying is the flusher's business, and so is splitting. Reconnecting because a pooled
/// connection turned out to be dead before a byte of the request was answered still counts as the same request.
pub trait Transport {
    /// Sends `batch` once and says what came of it.
    ///
    /// May block, for as long as the transport's own timeout, and not beyond [`Batch::deadline`]. Should not panic.
    fn send(&mut self, batch: &Batch<'_>) -> Outcome;
}

impl<T: Transport + ?Sized> Transport for &mut T {
    fn send(&mut self, batch: &Batch<'_>) -> Outcome {
        (**self).send(batch)
    }
}

/// What a transport learned about one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Outcome {
    /// The server answered with a complete head, whatever it said.
    Answered(Answer),
    /// A connection was made, but no usable answer came: reset, timeout, half an answer, something that is not HTTP.
    /// The server may or may not have the events.
    NoAnswer,
    /// No connection was made: no network, no such name, refused, TLS failed. The server does not have the events.
    Unreachable,
    /// The transport could not get the memory it needs; treated like [`Outcome::NoAnswer`].
    OutOfMemory,
}

impl Outcome {
    /// An answer with this status and nothing else of interest.
    pub const fn status(status: u16) -> Self {
        Self::Answered(Answer::new(status))
    }
}

/// The parts of an HTTP answer that delivery depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The `Retry-After` header as [`parse_retry_after`](crate::retry::parse_retry_after) reads it.
    pub retry_after: Option<Duration>,
    /// Whether the body looks like an HTML page. With a 2xx that is a captive portal or a proxy's page, not PostHog.
    pub html: bool,
}

impl Answer {
    /// An answer with this status and nothing else of interest.
    pub const fn new(status: u16) -> Self {
        Self { status, retry_after: None, html: false }
    }

    /// The same with a `Retry-After`.
    #[must_use]
    pub const fn with_retry_after(self, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..self }
    }
}
