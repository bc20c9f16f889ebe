//! The fence: any `T: serde::Serialize` in, JSON for a frame out, whatever that `T` does.
//!
//! Foreign code decides what is serialised, so nothing here trusts it: values JSON cannot say are errors and not
//! panics, and an error that foreign code swallows is found again. What ends with `Ok` is one valid JSON value, without
//! a raw control byte, no deeper than the sink allows.
//!
//! The traits are there without the feature `serde` too, so that it changes no other type of this crate.

use core::fmt;

use crate::limits::DEPTH_MAX;

/// Takes the JSON of one value, piece by piece.
///
/// Pieces are cut anywhere, also within a character. After an error nothing more is written; the bytes before it are
/// part of a value at most, and it is for the sink's owner to throw them away (dropping a grant does that).
pub trait JsonSink {
    /// Takes the next bytes, all of them or none.
    ///
    /// # Errors
    ///
    /// [`SerializeError::Full`] when there is no room for them.
    fn write(&mut self, bytes: &[u8]) -> Result<(), SerializeError>;

    /// How many arrays and objects the value may have within each other: [`DEPTH_MAX`] less what already encloses it.
    fn depth_max(&self) -> usize {
        DEPTH_MAX
    }
}

impl<const N: usize> JsonSink for heapless::Vec<u8, N> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SerializeError> {
        self.extend_from_slice(bytes).map_err(|_| SerializeError::Full)
    }
}

/// A value that writes itself as JSON. How a serialised value travels inside a `Value` that knows nothing of serde.
///
/// Meant to be used through `Typed`. An implementation of one's own must write exactly one valid JSON value
/// without raw control bytes, the same one each time: it is trusted, and one bad value costs its whole batch.
pub trait WriteJson {
    /// Writes the value to `sink`.
    ///
    /// # Errors
    ///
    /// Those of the sink, and whatever keeps the value from being JSON. Bytes may have been written by then.
    fn write_json(&self, sink: &mut dyn JsonSink) -> Result<(), SerializeError>;
}

/// Why a value was not serialised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SerializeError {
    /// The sink has no room for it.
    Full,
    /// More arrays and objects within each other than [`DEPTH_MAX`] leaves room for.
    TooDeep,
    /// JSON has no way to say it: an integer beyond 64 bits, a key that is not text, a key without its value.
    NotJson,
    /// The type's own `Serialize` refused, for a reason only it knows (a path that is no UTF-8, a time before 1970).
    Custom,
}

impl fmt::Display for SerializeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "no room for the serialised value",
            Self::TooDeep => "value nested too deeply",
            Self::NotJson => "value cannot be said in JSON",
            Self::Custom => "value refused to be serialised",
        })
    }
}

impl core::error::Error for SerializeError {}

#[cfg(feature = "serde")]
pub use fence::{Typed, to_sink};

#[cfg(feature = "serde")]
mod fence;

#[cfg(all(test, feature = "serde"))]
mod tests;
