//! What a server answers about flags: `/flags/?v=2`, `/decide/?v=3` and everything older, read where it lies.
//!
//! In: the text of an answer. Out: a [`FlagsReply`] over it, which finds a flag or lists all of them. One pass checks the
//! text; nothing is copied, nothing allocated, and no answer makes it panic or recurse.
//!
//! Which shape an answer has is decided by the answer, not by the address that gave it: servers, proxies and test servers
//! differ. Facts about the shapes are PostHog's public API as of 2026-08.

use core::fmt;

use super::json::{Elements, Json, Members, Text};
use super::value::FlagValue;
use crate::raw::RawJsonError;

/// Longest answer that is looked at, in bytes. A project with a thousand flags and payloads needs a tenth.
pub const REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What `quotaLimited` says when it is about flags.
const FEATURE_FLAGS: &str = "feature_flags";

/// An answer about flags.
///
/// ```
/// use quillet_core::flags::{FlagValue, FlagsReply};
///
/// let reply = FlagsReply::parse(r#"{"flags": {"new-checkout": {"enabled": true, "variant": "blue"}}}"#)?;
/// let flag = reply.find("new-checkout").ok_or("no such flag")?;
/// assert!(flag.value() == FlagValue::variant("blue"));
///
/// // The older shape, from the older endpoint or from an older server.
/// let reply = FlagsReply::parse(r#"{"featureFlags": {"old-ui": false}}"#)?;
/// assert!(reply.find("old-ui").is_some_and(|flag| flag.value() == FlagValue::Bool(false)));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct FlagsReply<'a> {
    shape: Shape<'a>,
    errors_while_computing: bool,
    quota_limited: bool,
    request_id: Option<Text<'a>>,
    evaluated_at: Option<u64>,
    minimal_called_events: bool,
}

/// How the answer says which flags there are.
#[derive(Clone, Copy, Debug)]
enum Shape<'a> {
    /// `flags`: an object for each.
    Detailed(Json<'a>),
    /// `featureFlags`: a value for each; payloads apart.
    Values { flags: Json<'a>, payloads: Option<Json<'a>> },
    /// `featureFlags`: the keys of those that are on.
    Enabled(Json<'a>),
    /// Nothing about flags.
    None,
}

impl<'a> FlagsReply<'a> {
    /// Reads an answer. Linear in its length.
    ///
    /// # Errors
    ///
    /// [`ReplyError`]: it is not an answer about flags at all. Fields of an unexpected type count as absent.
    pub fn parse(text: &'a str) -> Result<Self, ReplyError> {
        if text.len() > REPLY_BYTES_MAX {
            return Err(ReplyError::TooLong);
        }
        let root = Json::parse(text).map_err(ReplyError::Json)?;
        if !root.is_object() {
            return Err(ReplyError::NotAnObject);
        }
        let mut reply = Self {
            shape: Shape::None,
            errors_while_computing: false,
            quota_limited: false,
            request_id: None,
            evaluated_at: None,
            minimal_called_events: false,
        };
        let (mut detailed, mut older, mut payloads) = (None, None, None);
        for (key, value) in root.members() {
            match key.as_plain() {
                Some("flags") => detailed = Some(value).filter(|value| value.is_object()),
                Some("featureFlags") => older = Some(value),
                Some("featureFlagPayloads") => payloads = Some(value).filter(|value| value.is_object()),
                Some("errorsWhileComputingFlags") => reply.errors_while_computing = value.as_bool() == Some(true),
                Some("quotaLimited") => reply.quota_limited = is_quota_limited(value),
                Some("requestId") => reply.request_id = value.as_text(),
                Some("evaluatedAt") => reply.evaluated_at = value.as_u64(),
                Some("minimalFlagCalledEvents") => reply.minimal_called_events = value.as_bool() == Some(true),
                _ => {}
            }
        }
        reply.shape = match (detailed, older) {
            (Some(flags), _) => Shape::Detailed(flags),
            (None, Some(flags)) if flags.is_object() => Shape::Values { flags, payloads },
            (None, Some(keys)) if keys.is_array() => Shape::Enabled(keys),
            _ => Shape::None,
        };
        Ok(reply)
    }

    /// The flag with this key; `None` if the answer does not speak of it. One pass over the flags.
    pub fn find(&self, key: &str) -> Option<ReplyFlag<'a>> {
        // Of equal keys the last one counts, as everywhere in JSON.
        self.flags().filter(|flag| flag.key == *key).last()
    }

    /// Every flag, in the order of the answer.
    pub fn flags(&self) -> ReplyFlags<'a> {
        let (kind, payloads) = match self.shape {
            Shape::Detailed(flags) => (Entries::Detailed(flags.members()), None),
            Shape::Values { flags, payloads } => (Entries::Values(flags.members()), payloads),
            Shape::Enabled(keys) => (Entries::Enabled(keys.elements()), None),
            Shape::None => (Entries::None, None),
        };
        ReplyFlags { entries: kind, payloads }
    }

    /// The payloads by key, where the answer has them apart from the flags: for whoever wants all of them in one pass.
    pub fn separate_payloads(&self) -> Option<Members<'a>> {
        match self.shape {
            Shape::Values { payloads, .. } => payloads.map(Json::members),
            _ => None,
        }
    }

    /// Whether some flags could not be computed, and are missing or say so.
    pub const fn errors_while_computing(&self) -> bool {
        self.errors_while_computing
    }

    /// Whether the project is over its quota: then there are no flags, and that says nothing about them.
    pub const fn is_quota_limited(&self) -> bool {
        self.quota_limited
    }

    /// The server's name for this answer.
    pub const fn request_id(&self) -> Option<Text<'a>> {
        self.request_id
    }

    /// When the server evaluated, in milliseconds since 1970.
    pub const fn evaluated_at_ms(&self) -> Option<u64> {
        self.evaluated_at
    }

    /// Whether the server wants the minimal form of `$feature_flag_called` for flags without an experiment.
    pub const fn minimal_called_events(&self) -> bool {
        self.minimal_called_events
    }
}

/// An array that names flags; some clients type it as a bool.
fn is_quota_limited(value: Json<'_>) -> bool {
    let names_flags = |name: Json<'_>| name.as_text().is_some_and(|name| name == FEATURE_FLAGS);
    value.as_bool() == Some(true) || value.elements().any(names_flags)
}

/// Iterator over the flags of an answer; see [`FlagsReply::flags`].
#[derive(Clone, Debug)]
pub struct ReplyFlags<'a> {
    entries: Entries<'a>,
    payloads: Option<Json<'a>>,
}

#[derive(Clone, Debug)]
enum Entries<'a> {
    Detailed(Members<'a>),
    Values(Members<'a>),
    Enabled(Elements<'a>),
    None,
}

impl<'a> Iterator for ReplyFlags<'a> {
    type Item = ReplyFlag<'a>;

    fn next(&mut self) -> Option<ReplyFlag<'a>> {
        loop {
            let flag = match &mut self.entries {
                Entries::Detailed(members) => {
                    let (key, value) = members.next()?;
                    ReplyFlag::detailed(key, value)
                }
                Entries::Values(members) => {
                    let (key, value) = members.next()?;
                    ReplyFlag::older(key, value, self.payloads)
                }
                Entries::Enabled(keys) => keys.next()?.as_text().map(|key| ReplyFlag::new(key, FlagValue::Bool(true))),
                Entries::None => return None,
            };
            // What is neither on nor off nor a variant is as good as absent.
            if flag.is_some() {
                return flag;
            }
        }
    }
}

/// One flag of an answer.
#[derive(Clone, Copy, Debug)]
pub struct ReplyFlag<'a> {
    key: Text<'a>,
    value: FlagValue<'a>,
    failed: bool,
    payload: Payload<'a>,
    id: Option<u64>,
    version: Option<u64>,
    has_experiment: Option<bool>,
    reason_code: Option<Text<'a>>,
    reason: Option<Text<'a>>,
    condition_index: Option<u64>,
}

/// Where a flag's payload is.
#[derive(Clone, Copy, Debug)]
enum Payload<'a> {
    None,
    Here(Json<'a>),
    /// Under the flag's key. Looked for only when somebody asks: an answer may have many flags and many payloads.
    Among(Json<'a>),
}

impl<'a> ReplyFlag<'a> {
    /// The flag's key.
    pub const fn key(&self) -> Text<'a> {
        self.key
    }

    /// The flag's value. Of no meaning if it [failed](Self::failed).
    pub const fn value(&self) -> FlagValue<'a> {
        self.value
    }

    /// Whether evaluating this flag failed on the server: its value is unknown, and an older one still counts.
    pub const fn failed(&self) -> bool {
        self.failed
    }

    /// The payload of this value: usually a string with JSON in it. Never `null`. In the older shape one pass over all
    /// payloads.
    pub fn payload(&self) -> Option<Json<'a>> {
        let payload = match self.payload {
            Payload::None => None,
            Payload::Here(payload) => Some(payload),
            Payload::Among(payloads) => {
                payloads.members().filter(|(key, _)| *key == self.key).last().map(|(_, payload)| payload)
            }
        };
        payload.filter(|payload| !payload.is_null())
    }

    /// The flag's number, if known.
    pub const fn id(&self) -> Option<u64> {
        self.id
    }

    /// The flag's version, if known. Never 0.
    pub const fn version(&self) -> Option<u64> {
        self.version
    }

    /// Whether an experiment uses the flag, if known.
    pub const fn has_experiment(&self) -> Option<bool> {
        self.has_experiment
    }

    /// Why it has this value, in a word of an open set such as `condition_match`.
    pub const fn reason_code(&self) -> Option<Text<'a>> {
        self.reason_code
    }

    /// Why it has this value, for people to read; the code if there is nothing else.
    pub fn reason(&self) -> Option<Text<'a>> {
        self.reason.or(self.reason_code)
    }

    /// Which condition matched, from 0.
    pub const fn condition_index(&self) -> Option<u64> {
        self.condition_index
    }

    const fn new(key: Text<'a>, value: FlagValue<'a>) -> Self {
        Self {
            key,
            value,
            failed: false,
            payload: Payload::None,
            id: None,
            version: None,
            has_experiment: None,
            reason_code: None,
            reason: None,
            condition_index: None,
        }
    }

    fn detailed(key: Text<'a>, value: Json<'a>) -> Option<Self> {
        let mut flag = Self::new(key, FlagValue::Bool(false));
        let (mut enabled, mut variant) = (None, None);
        for (name, value) in value.members() {
            match name.as_plain() {
                Some("enabled") => enabled = value.as_bool(),
                Some("variant") => variant = value.as_text(),
                Some("failed") => flag.failed = value.as_bool() == Some(true),
                Some("reason") => flag.read_reason(value),
                Some("metadata") => flag.read_metadata(value),
                _ => {}
            }
        }
        // A failed flag is listed even when it says nothing else: that it failed is what there is to know.
        if enabled.is_none() && !flag.failed {
            return None;
        }
        flag.value = match (enabled, variant) {
            (Some(true), Some(variant)) => FlagValue::Variant(variant),
            (enabled, _) => FlagValue::Bool(enabled == Some(true)),
        };
        Some(flag)
    }

    fn older(key: Text<'a>, value: Json<'a>, payloads: Option<Json<'a>>) -> Option<Self> {
        let value = match (value.as_bool(), value.as_text()) {
            (Some(value), _) => FlagValue::Bool(value),
            (None, Some(variant)) => FlagValue::Variant(variant),
            (None, None) => return None,
        };
        let mut flag = Self::new(key, value);
        flag.payload = payloads.map_or(Payload::None, Payload::Among);
        Some(flag)
    }

    fn read_reason(&mut self, reason: Json<'a>) {
        for (name, value) in reason.members() {
            match name.as_plain() {
                Some("code") => self.reason_code = value.as_text(),
                Some("description") => self.reason = value.as_text().filter(|text| !text.is_empty()),
                Some("condition_index") => self.condition_index = value.as_u64(),
                _ => {}
            }
        }
    }

    fn read_metadata(&mut self, metadata: Json<'a>) {
        for (name, value) in metadata.members() {
            match name.as_plain() {
                Some("id") => self.id = value.as_u64(),
                Some("version") => self.version = value.as_u64().filter(|version| *version > 0),
                Some("payload") => self.payload = Payload::Here(value),
                Some("has_experiment") => self.has_experiment = value.as_bool(),
                _ => {}
            }
        }
    }
}

/// Why a text is no answer about flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplyError {
    /// Longer than [`REPLY_BYTES_MAX`]; not looked at.
    TooLong,
    /// Not JSON, nested too deep, or with half a surrogate pair in it.
    Json(RawJsonError),
    /// JSON, but no object.
    NotAnObject,
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => f.write_str("answer about flags is too long"),
            Self::Json(error) => write!(f, "answer about flags: {error}"),
            Self::NotAnObject => f.write_str("answer about flags is no JSON object"),
        }
    }
}

impl core::error::Error for ReplyError {}
