//! A server's answer about flags, owned: what the cache keeps and what snapshots are made of.
//!
//! In: the text of an answer. Out: an [`Answer`], a map by key. The text is read by the core's parser and then let go.

use core::fmt;
use std::collections::BTreeMap;

use quillet_core::RawJson;
use quillet_core::flags::{FlagValue, FlagsReply, Json, LocalFlag, ReplyFlag};

use super::error::FlagError;

/// A flag's value: on, off, or a variant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum OwnedFlagValue {
    /// On or off.
    Bool(bool),
    /// On, with this variant.
    Variant(String),
}

impl OwnedFlagValue {
    /// Whether it is on: `true`, or any variant.
    pub const fn is_enabled(&self) -> bool {
        matches!(self, Self::Bool(true) | Self::Variant(_))
    }

    /// The variant's name, if it is one.
    pub fn as_variant(&self) -> Option<&str> {
        if let Self::Variant(name) = self { Some(name) } else { None }
    }

    /// The same, borrowed.
    pub(super) fn as_value(&self) -> FlagValue<'_> {
        match self {
            Self::Bool(value) => FlagValue::Bool(*value),
            Self::Variant(name) => FlagValue::variant(name),
        }
    }
}

impl From<bool> for OwnedFlagValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<&str> for OwnedFlagValue {
    fn from(variant: &str) -> Self {
        Self::Variant(variant.to_owned())
    }
}

impl From<String> for OwnedFlagValue {
    fn from(variant: String) -> Self {
        Self::Variant(variant)
    }
}

impl From<FlagValue<'_>> for OwnedFlagValue {
    fn from(value: FlagValue<'_>) -> Self {
        match value {
            FlagValue::Bool(value) => Self::Bool(value),
            FlagValue::Variant(name) => Self::Variant(name.to_string()),
        }
    }
}

impl PartialEq<bool> for OwnedFlagValue {
    fn eq(&self, other: &bool) -> bool {
        *self == Self::Bool(*other)
    }
}

impl PartialEq<&str> for OwnedFlagValue {
    fn eq(&self, other: &&str) -> bool {
        self.as_variant() == Some(*other)
    }
}

impl fmt::Display for OwnedFlagValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Variant(name) => f.write_str(name),
        }
    }
}

/// One flag, and what `$feature_flag_called` tells about it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Detail {
    pub(super) value: OwnedFlagValue,
    /// Evaluating it failed on the server: the value means nothing.
    pub(super) failed: bool,
    /// Valid JSON.
    pub(super) payload: Option<Box<str>>,
    pub(super) id: Option<u64>,
    pub(super) version: Option<u64>,
    pub(super) has_experiment: Option<bool>,
    pub(super) reason: Option<Box<str>>,
    pub(super) local: bool,
}

impl Detail {
    fn of_reply(flag: &ReplyFlag<'_>, payload: Option<Json<'_>>) -> Self {
        Self {
            value: flag.value().into(),
            failed: flag.failed(),
            payload: payload.map(decoded),
            id: flag.id(),
            version: flag.version(),
            has_experiment: flag.has_experiment(),
            reason: flag.reason().map(|reason| reason.to_string().into()),
            local: false,
        }
    }

    pub(super) fn of_local(flag: &LocalFlag<'_>) -> Self {
        Self {
            value: flag.value().into(),
            failed: false,
            payload: flag.payload().map(decoded),
            id: flag.id().map(u64::from),
            version: flag.version().map(u64::from),
            has_experiment: flag.has_experiment(),
            reason: Some(EVALUATED_LOCALLY.into()),
            local: true,
        }
    }
}

/// The reason given for a flag that no server was asked about.
const EVALUATED_LOCALLY: &str = "Evaluated locally";

/// A payload as JSON. It travels as a string with JSON in it; one that holds something else is that string.
pub(super) fn decoded(payload: Json<'_>) -> Box<str> {
    if let Some(text) = payload.as_text() {
        let inner = text.to_string();
        if RawJson::parse(&inner).is_ok() {
            return inner.into();
        }
    }
    payload.as_str().into()
}

/// What came with all flags of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) request_id: Option<Box<str>>,
    pub(super) evaluated_at_ms: Option<u64>,
    /// Some flags could not be computed.
    pub(super) is_partial: bool,
    /// Whether `$feature_flag_called` is wanted in its minimal form.
    pub(super) minimal: bool,
}

/// An answer about flags.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    pub(super) flags: BTreeMap<Box<str>, Detail>,
    pub(super) origin: Origin,
    pub(super) is_quota_limited: bool,
    /// About what it takes in memory.
    pub(super) bytes: usize,
}

impl Answer {
    /// Reads the body of an answer with status 200.
    pub(super) fn parse(body: &[u8]) -> Result<Self, FlagError> {
        let text = core::str::from_utf8(body).map_err(|_| FlagError::BadAnswer)?;
        let reply = FlagsReply::parse(text).map_err(|_| FlagError::BadAnswer)?;
        let apart: Option<BTreeMap<String, Json<'_>>> =
            reply.separate_payloads().map(|payloads| payloads.map(|(key, value)| (key.to_string(), value)).collect());
        let mut flags = BTreeMap::new();
        for flag in reply.flags() {
            let key = flag.key().to_string();
            let payload = match &apart {
                Some(payloads) => payloads.get(&key).copied().filter(|payload| !payload.is_null()),
                None => flag.payload(),
            };
            flags.insert(key.into_boxed_str(), Detail::of_reply(&flag, payload));
        }
        let origin = Origin {
            request_id: reply.request_id().map(|id| id.to_string().into()),
            evaluated_at_ms: reply.evaluated_at_ms(),
            is_partial: reply.errors_while_computing(),
            minimal: reply.minimal_called_events(),
        };
        // Every flag takes a map entry besides the text that it came as.
        let bytes = body.len() + flags.len() * size_of::<(Box<str>, Detail)>();
        Ok(Self { flags, origin, is_quota_limited: reply.is_quota_limited(), bytes })
    }

    /// Takes over from an earlier answer what this one failed to find out.
    pub(super) fn keep_known(&mut self, earlier: &Self) {
        for (key, detail) in self.flags.iter_mut().filter(|(_, detail)| detail.failed) {
            if let Some(known) = earlier.flags.get(key).filter(|known| !known.failed) {
                detail.clone_from(known);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should stop")]

    use super::*;

    #[test]
    fn payloads_are_json_whatever_they_were() {
        let answer = Answer::parse(
            br#"{"flags":{"object":{"enabled":true,"metadata":{"payload":"{\"copy\": \"Hi\"}"}},
                "text":{"enabled":true,"metadata":{"payload":"\"text\""}},
                "number":{"enabled":true,"metadata":{"payload":"42"}},
                "broken":{"enabled":true,"metadata":{"payload":"{copy"}},
                "bare":{"enabled":true,"metadata":{"payload":{"a":[1]}}},
                "none":{"enabled":true,"metadata":{"payload":null}}}}"#,
        )
        .unwrap();
        let payload = |key: &str| answer.flags.get(key).unwrap().payload.as_deref();
        assert_eq!(payload("object"), Some(r#"{"copy": "Hi"}"#));
        assert_eq!(payload("text"), Some(r#""text""#));
        assert_eq!(payload("number"), Some("42"));
        assert_eq!(payload("broken"), Some(r#""{copy""#));
        assert_eq!(payload("bare"), Some(r#"{"a":[1]}"#));
        assert_eq!(payload("none"), None);
    }

    #[test]
    fn the_older_shape_is_read_in_one_pass() {
        let answer = Answer::parse(
            br#"{"featureFlags":{"a":"blue","b":true,"c":false},"featureFlagPayloads":{"a":"{\"x\":1}","b":null}}"#,
        )
        .unwrap();
        let payload = |key: &str| answer.flags.get(key).unwrap().payload.as_deref();
        assert_eq!((payload("a"), payload("b"), payload("c")), (Some(r#"{"x":1}"#), None, None));
        assert!(answer.flags.get("a").unwrap().value == "blue" && answer.flags.get("c").unwrap().value == false);
    }

    #[test]
    fn a_failed_flag_keeps_what_was_known() {
        let earlier =
            Answer::parse(br#"{"flags":{"a":{"enabled":true,"variant":"blue"},"b":{"failed":true}}}"#).unwrap();
        let mut now =
            Answer::parse(br#"{"flags":{"a":{"failed":true},"b":{"failed":true},"c":{"enabled":true}}}"#).unwrap();
        now.keep_known(&earlier);
        assert!(now.flags.get("a").unwrap().value == "blue" && !now.flags.get("a").unwrap().failed);
        assert!(now.flags.get("b").unwrap().failed && now.flags.len() == 3);
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for body in [&b"<html>"[..], b"", b"[]", b"\xff\xfe", b"{\"flags\":"] {
            assert_eq!(Answer::parse(body).unwrap_err(), FlagError::BadAnswer);
        }
    }
}
