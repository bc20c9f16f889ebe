//! What can go wrong outside of capturing: building a client, and waiting for it.
//!
//! Why one event was not accepted is the core's [`CaptureError`]; nothing here is about a single event.

use core::fmt;
use std::error::Error;
use std::io;

use quillet_core::CaptureError;
use quillet_core::flags::DefinitionsError;

use crate::host::{HostProblem, KeyProblem};

/// Why a client could not be built. Nothing was started, allocated or sent.
///
/// No variant carries the API key, and no text shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// The API key is one that the server refuses with 401, whatever else is right.
    ApiKey(KeyProblem),
    /// The host is no address that events can be posted to.
    Host(HostProblem),
    /// The host (or its proxy) says `https`, and no feature with TLS was compiled in. Enable `rustls`, `native-tls` or
    /// `rustls-no-provider`, or name an `http` host.
    TlsNotCompiledIn,
    /// The feature `rustls-no-provider` is on and `rustls` is not, so the application has to install a process-wide
    /// `rustls::crypto::CryptoProvider` before it builds a client.
    NoCryptoProvider,
    /// The certificates given as PEM could not be read, or there is none among them.
    RootCerts,
    /// The proxy's address could not be read.
    Proxy,
    /// An option is outside of what it may be.
    OutOfRange {
        /// The option, as the builder's method is called.
        option: &'static str,
        /// What it may be, in words.
        allowed: &'static str,
    },
    /// An extra request header cannot be sent as it is.
    Header {
        /// The header's name.
        name: String,
        /// What is wrong with it, in words.
        problem: &'static str,
    },
    /// A super property that no event could carry.
    SuperProperty {
        /// The property's key.
        key: String,
        /// What an event with this property would be refused for.
        problem: CaptureError,
    },
    /// The personal API key or project secret key is none: too long, not printable ASCII, or a project token.
    SecretKey,
    /// The flag definitions given could not be read.
    FlagDefinitions(DefinitionsError),
    /// The file with flag definitions could not be opened or read.
    FlagDefinitionsFile(io::ErrorKind),
    /// There is no memory for the queue.
    OutOfMemory,
    /// The operating system gave no random bytes, so uuids could not be made unique.
    Entropy,
    /// The flush thread could not be started.
    Thread(io::ErrorKind),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ApiKey(problem) => write!(f, "the API key {problem}"),
            Self::Host(problem) => write!(f, "the host {problem}"),
            Self::TlsNotCompiledIn => f.write_str("the host says https, and no feature with TLS was compiled in"),
            Self::NoCryptoProvider => f.write_str("no rustls CryptoProvider was installed before building the client"),
            Self::RootCerts => f.write_str("the root certificates are no PEM with at least one certificate"),
            Self::Proxy => f.write_str("the proxy is no URL of an http, https or socks proxy"),
            Self::OutOfRange { option, allowed } => write!(f, "{option} must be {allowed}"),
            Self::Header { name, problem } => write!(f, "the request header {name:?} {problem}"),
            Self::SuperProperty { key, problem } => write!(f, "the super property {key:?}: {problem}"),
            Self::SecretKey => f.write_str("the personal API key is none; it begins with phx_ or phs_"),
            Self::FlagDefinitions(error) => write!(f, "{error}"),
            Self::FlagDefinitionsFile(kind) => write!(f, "the file with flag definitions cannot be read: {kind}"),
            Self::OutOfMemory => f.write_str("there is no memory for the queue"),
            Self::Entropy => f.write_str("the operating system gave no random bytes"),
            Self::Thread(kind) => write!(f, "the flush thread could not be started: {kind}"),
        }
    }
}

impl Error for BuildError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::ApiKey(problem) => Some(problem),
            Self::Host(problem) => Some(problem),
            Self::SuperProperty { problem, .. } => Some(problem),
            Self::FlagDefinitions(error) => Some(error),
            _ => None,
        }
    }
}

/// Why a flush returned before everything it was asked for had been decided.
///
/// The events are not lost by it: they stay queued as long as the queue has room, and delivery goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FlushError {
    /// The time given to the flush ran out.
    TimedOut,
    /// The server could not be reached within the retries of one batch.
    Unreachable,
    /// Delivery rests after an answer that a retry cannot change, such as a refused key. Waiting does not help.
    Paused,
    /// The client was shut down.
    Closed,
    /// Called from one of the client's own hooks, where waiting would be waiting for itself.
    FromHook,
}

impl fmt::Display for FlushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TimedOut => "the flush did not end in time",
            Self::Unreachable => "the server could not be reached",
            Self::Paused => "delivery is paused after an answer that a retry cannot change",
            Self::Closed => "the client was shut down",
            Self::FromHook => "a hook of the client must not wait for the client",
        })
    }
}

impl Error for FlushError {}

/// Why an event sent past the queue was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImmediateError {
    /// It was refused before anything was sent.
    Refused(CaptureError),
    /// The server refused it for good.
    #[non_exhaustive]
    Rejected {
        /// The HTTP status that said so.
        status: Option<u16>,
    },
    /// It was not delivered in time, or retries ran out. The server may have it all the same if an answer was lost.
    #[non_exhaustive]
    NotDelivered {
        /// The last HTTP status, if there was an answer.
        status: Option<u16>,
    },
    /// There was no memory, or no randomness, to send it with.
    OutOfMemory,
}

impl fmt::Display for ImmediateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) => write!(f, "the event was refused: {reason}"),
            Self::Rejected { status: Some(status) } => write!(f, "the server refused the event with HTTP {status}"),
            Self::Rejected { status: None } => f.write_str("the server refused the event"),
            Self::NotDelivered { status: Some(status) } => {
                write!(f, "the event was not delivered; the last answer was HTTP {status}")
            }
            Self::NotDelivered { status: None } => f.write_str("the event was not delivered; there was no answer"),
            Self::OutOfMemory => f.write_str("there is no memory to send the event with"),
        }
    }
}

impl Error for ImmediateError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        if let Self::Refused(reason) = self { Some(reason) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_says_something_and_none_ends_in_a_full_stop() {
        let errors = [
            BuildError::ApiKey(KeyProblem::TooLong),
            BuildError::Host(HostProblem::Scheme),
            BuildError::TlsNotCompiledIn,
            BuildError::NoCryptoProvider,
            BuildError::RootCerts,
            BuildError::Proxy,
            BuildError::OutOfRange { option: "flush_at", allowed: "at least 1" },
            BuildError::Header { name: "X\n".to_owned(), problem: "is no token" },
            BuildError::SecretKey,
            BuildError::FlagDefinitions(DefinitionsError::NoFlags),
            BuildError::FlagDefinitionsFile(io::ErrorKind::NotFound),
            BuildError::OutOfMemory,
            BuildError::Entropy,
            BuildError::Thread(io::ErrorKind::WouldBlock),
        ];
        for error in errors {
            let text = error.to_string();
            assert!(!text.is_empty() && !text.ends_with('.') && !text.contains('\n'), "{text:?}");
        }
    }
}
