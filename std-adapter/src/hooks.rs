//! What a caller hands to the client to be called back with, and what it is called with.
//!
//! `before_send` runs on the capturing thread, before a byte is committed. `on_deliver` and `on_request` run after every
//! request, on the thread that made it: the flush thread, whoever pumps a client without one, or a caller of
//! `capture_immediate`. All of them are called under `catch_unwind`: a panic in one is counted or reported, never passed
//! on. None may call back into `flush` or `shutdown` of its own client; that refuses instead of waiting for itself.

use core::fmt;
use core::time::Duration;
use std::time::SystemTime;

use quillet_core::{Batch, DropReason, RawJson, RawJsonError, Uuid, Value};

use crate::draft::Draft;

/// A hook that sees an event before it is written: [`ClientBuilder::before_send`](crate::ClientBuilder::before_send).
pub(crate) type BeforeSend = Box<dyn Fn(&mut Draft<'_>) -> HookVerdict + Send + Sync>;

/// A hook that learns what became of events: [`ClientBuilder::on_deliver`](crate::ClientBuilder::on_deliver).
pub(crate) type OnDeliver = Box<dyn Fn(&Delivery) + Send + Sync>;

/// A hook that sees every request: [`ClientBuilder::on_request`](crate::ClientBuilder::on_request).
pub(crate) type OnRequest = Box<dyn Fn(&RequestReport<'_>) + Send + Sync>;

/// The hooks of one client, each kind in the order in which it runs.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) before_send: Vec<BeforeSend>,
    pub(crate) on_deliver: Vec<OnDeliver>,
    pub(crate) on_request: Vec<OnRequest>,
}

/// What a `before_send` hook decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HookVerdict {
    /// Go on: the next hook, or the ring. Changes made to the draft are kept.
    Send,
    /// Refuse the event. It is counted as refused by a hook, and hooks further down do not see it.
    Drop,
}

/// What became of accepted events, told to `on_deliver` with their number.
///
/// Over the life of a client the numbers add up to those of `Client::stats()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// The server took them.
    #[non_exhaustive]
    Delivered {
        /// How many.
        events: u64,
    },
    /// The server refused them for good; sending them again would not help.
    #[non_exhaustive]
    Rejected {
        /// How many.
        events: u64,
        /// The HTTP status that said so.
        status: Option<u16>,
    },
    /// The client gave them up.
    #[non_exhaustive]
    Dropped {
        /// How many.
        events: u64,
        /// Why.
        reason: DropReason,
    },
}

impl Delivery {
    /// How many events this is about.
    pub fn events(&self) -> u64 {
        match *self {
            Self::Delivered { events } | Self::Rejected { events, .. } | Self::Dropped { events, .. } => events,
        }
    }
}

/// One request, after it ended: told to `on_request`.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct RequestReport<'a> {
    /// Wall time at which the request began.
    pub started: SystemTime,
    /// From its beginning to its outcome, name resolution and connecting included.
    pub elapsed: Duration,
    /// The HTTP status, if there was a whole answer.
    pub status: Option<u16>,
    /// Attempts at exactly these events so far, this one included; the first is 1.
    pub attempt: u32,
    /// Events in the request.
    pub events: usize,
    /// Why there was no answer, in words for a log. The wording may change in any release.
    pub error: Option<&'a str>,
    batch: Batch<'a>,
}

impl<'a> RequestReport<'a> {
    /// The report of one request that carried `batch`.
    pub(crate) fn new(
        batch: &Batch<'a>,
        started: SystemTime,
        elapsed: Duration,
        status: Option<u16>,
        error: Option<&'a str>,
    ) -> Self {
        Self { started, elapsed, status, attempt: batch.attempt(), events: batch.events(), error, batch: *batch }
    }

    /// The uuids of the request's events, in the order in which they were sent.
    ///
    /// Read from the bytes of the request as the iterator goes: costs nothing unless used, and allocates nothing.
    pub fn uuids(&self) -> impl Iterator<Item = Uuid> + use<'a> {
        self.batch.uuids()
    }
}

impl fmt::Debug for RequestReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestReport")
            .field("started", &self.started)
            .field("elapsed", &self.elapsed)
            .field("status", &self.status)
            .field("attempt", &self.attempt)
            .field("events", &self.events)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

/// A property value that owns its text: what a super property or a hook keeps longer than one call.
///
/// ```
/// use quillet::OwnedValue;
///
/// assert_eq!(OwnedValue::from("eu-1"), OwnedValue::Text("eu-1".to_owned()));
/// assert_eq!(OwnedValue::from(3), OwnedValue::Int(3));
/// assert!(OwnedValue::json(r#"{"zone": ["a", "b"]}"#).is_ok());
/// assert!(OwnedValue::json("{zone}").is_err());
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum OwnedValue {
    /// JSON `null`.
    Null,
    /// JSON `true` or `false`.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An unsigned integer.
    Uint(u64),
    /// A floating-point number; one that is not finite is written as `null`.
    Float(f64),
    /// A string.
    Text(String),
    /// JSON text that was checked: an array, an object, or any other value.
    Json(OwnedJson),
}

impl OwnedValue {
    /// Checked JSON text as a value.
    ///
    /// # Errors
    ///
    /// What [`RawJson::parse`] refuses: text that is not JSON, nested too deep, or with numbers no `f64` can hold.
    pub fn json(text: impl Into<String>) -> Result<Self, RawJsonError> {
        OwnedJson::parse(text).map(Self::Json)
    }

    /// The same value, borrowed. Allocates nothing; JSON text is checked once more, in one pass.
    pub fn as_value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => Value::Int(*value),
            Self::Uint(value) => Value::Uint(*value),
            Self::Float(value) => Value::Float(*value),
            Self::Text(text) => Value::Str(text),
            Self::Json(json) => json.as_raw().map_or(Value::Null, Value::Raw),
        }
    }
}

/// JSON text that was checked when it was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedJson(String);

impl OwnedJson {
    /// Checks and keeps `text`.
    ///
    /// # Errors
    ///
    /// What [`RawJson::parse`] refuses.
    pub fn parse(text: impl Into<String>) -> Result<Self, RawJsonError> {
        let text = text.into();
        RawJson::parse(&text)?;
        Ok(Self(text))
    }

    /// The text as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text as the core's checked type. `Some` always: it was parsed once, and has not changed since.
    fn as_raw(&self) -> Option<RawJson<'_>> {
        RawJson::parse(&self.0).ok()
    }
}

impl From<&str> for OwnedValue {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for OwnedValue {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<bool> for OwnedValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i32> for OwnedValue {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

impl From<i64> for OwnedValue {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<u32> for OwnedValue {
    fn from(value: u32) -> Self {
        Self::Uint(value.into())
    }
}

impl From<u64> for OwnedValue {
    fn from(value: u64) -> Self {
        Self::Uint(value)
    }
}

impl From<f64> for OwnedValue {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<OwnedJson> for OwnedValue {
    fn from(value: OwnedJson) -> Self {
        Self::Json(value)
    }
}

impl<T: Into<OwnedValue>> From<Option<T>> for OwnedValue {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
