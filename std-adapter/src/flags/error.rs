//! Why a flag's value is not known.

use core::fmt;
use std::error::Error;

use quillet_core::CaptureError;
use quillet_core::flags::Inconclusive;

use crate::transport::flags::FlagFailure;

/// Why the value of a flag is not known. Take a default; asking again at once does not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FlagError {
    /// The client has no API key, or was switched off.
    Disabled,
    /// The client was shut down.
    Closed,
    /// The distinct id is empty, or longer than 200 characters.
    DistinctId,
    /// A property cannot be sent, for this reason.
    Property(CaptureError),
    /// There is no such flag.
    Missing,
    /// The server could not evaluate this flag.
    Failed,
    /// The project is over its quota of requests about flags.
    QuotaLimited,
    /// The server refused the request with this status.
    Status(u16),
    /// There was no answer in time.
    Timeout,
    /// There was no connection, or it broke.
    Connection,
    /// The answer was none about flags.
    BadAnswer,
    /// It cannot be found out without the server, and the call said not to ask.
    Inconclusive(Inconclusive),
    /// There is nothing to ask with: a transport of the program's own, and none for flags.
    NoTransport,
}

impl FlagError {
    /// The word for it in `$feature_flag_error`; `None` where there is nobody to tell.
    pub(super) fn word(self) -> Option<String> {
        Some(match self {
            Self::Disabled | Self::Closed | Self::DistinctId => return None,
            Self::Missing => "flag_missing".to_owned(),
            Self::Failed => "errors_while_computing_flags".to_owned(),
            Self::QuotaLimited => "quota_limited".to_owned(),
            Self::Status(status) => format!("api_error_{status}"),
            Self::Timeout => "timeout".to_owned(),
            Self::Connection | Self::NoTransport => "connection_error".to_owned(),
            Self::BadAnswer | Self::Property(_) | Self::Inconclusive(_) => "unknown_error".to_owned(),
        })
    }
}

impl From<FlagFailure> for FlagError {
    fn from(failure: FlagFailure) -> Self {
        match failure {
            FlagFailure::Timeout => Self::Timeout,
            FlagFailure::Connection => Self::Connection,
            FlagFailure::TooLong => Self::BadAnswer,
        }
    }
}

impl fmt::Display for FlagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => f.write_str("the client is disabled"),
            Self::Closed => f.write_str("the client was shut down"),
            Self::DistinctId => f.write_str("the distinct id is empty or too long"),
            Self::Property(problem) => write!(f, "a property cannot be sent: {problem}"),
            Self::Missing => f.write_str("there is no such flag"),
            Self::Failed => f.write_str("the server could not evaluate the flag"),
            Self::QuotaLimited => f.write_str("the project is over its quota of flag requests"),
            Self::Status(status) => write!(f, "the server refused with HTTP {status}"),
            Self::Timeout => f.write_str("there was no answer in time"),
            Self::Connection => f.write_str("there was no connection, or it broke"),
            Self::BadAnswer => f.write_str("the answer was none about flags"),
            Self::Inconclusive(reason) => write!(f, "cannot be evaluated locally: {reason}"),
            Self::NoTransport => f.write_str("there is nothing to ask with"),
        }
    }
}

impl Error for FlagError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Property(problem) => Some(problem),
            Self::Inconclusive(reason) => Some(reason),
            _ => None,
        }
    }
}
