//! The other kind of request: one that is asked and answered, for feature flags.
//!
//! In: a [`FlagRequest`], a path with a body or without. Out: a [`FlagResponse`], or why there is none. One call is one
//! request; what an answer means, and whether to ask again, is decided elsewhere. Unlike a [`Transport`] it is shared: many
//! threads may ask at the same time.
//!
//! [`Transport`]: quillet_core::Transport

use core::fmt;
use core::time::Duration;
use std::error::Error;

/// Asks PostHog about flags, or pretends to: [`ClientBuilder::flag_transport`](crate::ClientBuilder::flag_transport).
pub trait FlagTransport: Send + Sync {
    /// Makes one request. Ends by [`FlagRequest::timeout`], and should not panic.
    ///
    /// # Errors
    ///
    /// Why there is no answer.
    fn ask(&self, request: &FlagRequest<'_>) -> Result<FlagResponse, FlagFailure>;
}

/// A request about flags. Its `Debug` form shows neither the secret nor the query, which holds the token.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct FlagRequest<'a> {
    /// Path and query, such as `/flags/?v=2`, to append to the host and its base path.
    pub target: &'a str,
    /// The JSON to post; `None` is a `GET`.
    pub body: Option<&'a [u8]>,
    /// The secret for an `Authorization: Bearer` header. Requests for values have none, those for definitions do.
    pub secret: Option<&'a str>,
    /// The `If-None-Match` header.
    pub etag: Option<&'a str>,
    /// Longest time for all of it.
    pub timeout: Duration,
    /// Longest body of an answer, in bytes.
    pub answer_bytes_max: usize,
}

impl<'a> FlagRequest<'a> {
    /// A request for the values of flags.
    pub(crate) fn values(target: &'a str, body: &'a [u8], timeout: Duration, answer_bytes_max: usize) -> Self {
        Self { target, body: Some(body), secret: None, etag: None, timeout, answer_bytes_max }
    }

    /// A request for the definitions of flags.
    pub(crate) fn definitions(
        target: &'a str,
        secret: &'a str,
        etag: Option<&'a str>,
        timeout: Duration,
        answer_bytes_max: usize,
    ) -> Self {
        Self { target, body: None, secret: Some(secret), etag, timeout, answer_bytes_max }
    }

    /// The path without its query.
    pub fn path(&self) -> &'a str {
        self.target.split_once('?').map_or(self.target, |(path, _)| path)
    }
}

impl fmt::Debug for FlagRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlagRequest")
            .field("path", &self.path())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// An answer, whatever it says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlagResponse {
    /// The HTTP status.
    pub status: u16,
    /// The `ETag` header as it came.
    pub etag: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

impl FlagResponse {
    /// An answer with this status and body.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, etag: None, body: body.into() }
    }

    /// The same with an `ETag`.
    #[must_use]
    pub fn with_etag(self, etag: impl Into<String>) -> Self {
        Self { etag: Some(etag.into()), ..self }
    }
}

/// Why a request about flags had no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FlagFailure {
    /// The time was over first.
    Timeout,
    /// No connection, or one that broke before there was a whole answer.
    Connection,
    /// An answer longer than was asked for.
    TooLong,
}

impl fmt::Display for FlagFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "the request timed out",
            Self::Connection => "there was no connection, or it broke",
            Self::TooLong => "the answer is too long",
        })
    }
}

impl Error for FlagFailure {}
