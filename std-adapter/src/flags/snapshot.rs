//! All flags of somebody at one moment: read together, and attached to events as they were.
//!
//! In: what definitions and at most one request said. Out: values that do not change any more, so that an event says what
//! the code that captured it has acted on.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use quillet_core::flags::FlagGroup;
use quillet_core::wire::key;
use quillet_core::{CaptureError, Event, Property, RawJson, Value};

use super::answer::{Detail, Origin, OwnedFlagValue};
use super::called::{Reading, as_value};
use super::error::FlagError;
use super::query::FlagQuery;
use crate::client::Captured;
use crate::hooks::OwnedJson;
use crate::inner::Inner;

/// The flags of somebody, as [`Client::feature_flags`](crate::Client::feature_flags) found them.
///
/// Reading one tells PostHog so, once, as [`Client::feature_flag`](crate::Client::feature_flag) does; payloads, keys and
/// iteration are silent. The values stay what they were, and a snapshot keeps no client alive.
pub struct FeatureFlags {
    client: Weak<Inner>,
    distinct_id: String,
    groups: Vec<(String, String)>,
    flags: BTreeMap<Box<str>, Detail>,
    origin: Arc<Origin>,
    error: Option<FlagError>,
    accessed: Arc<Mutex<BTreeSet<Box<str>>>>,
}

impl FeatureFlags {
    pub(super) fn new(client: Weak<Inner>, query: &FlagQuery<'_>, error: Option<FlagError>) -> Self {
        let groups = query.subject.given_groups().iter();
        Self {
            client,
            distinct_id: query.subject.given_distinct_id().to_owned(),
            groups: groups.map(|group| (group.group_type().to_owned(), group.group_key().to_owned())).collect(),
            flags: BTreeMap::new(),
            origin: Arc::default(),
            error,
            accessed: Arc::default(),
        }
    }

    /// Adds what is not known yet. What was found out locally is never overwritten.
    pub(super) fn add<'a>(&mut self, flags: impl IntoIterator<Item = (&'a str, Detail)>) {
        for (key, detail) in flags.into_iter().filter(|(_, detail)| !detail.failed) {
            self.flags.entry(key.into()).or_insert(detail);
        }
    }

    pub(super) fn set_origin(&mut self, origin: Origin) {
        self.origin = Arc::new(origin);
    }

    /// Whether a flag is on; `default` if it is not known.
    pub fn is_enabled(&self, key: &str, default: bool) -> bool {
        self.flag(key).map_or(default, OwnedFlagValue::is_enabled)
    }

    /// A flag's value; `None` if it is not known.
    pub fn flag(&self, key: &str) -> Option<&OwnedFlagValue> {
        let detail = self.flags.get(key);
        self.accessed.lock().unwrap_or_else(PoisonError::into_inner).insert(key.into());
        if let Some(inner) = self.client.upgrade() {
            let error = self.error.unwrap_or(FlagError::Missing);
            let reading = match detail {
                Some(detail) => Reading::Known(detail, &self.origin),
                None => Reading::Unknown(error, Some(&*self.origin)),
            };
            let groups: Vec<_> = self.groups.iter().map(|(kind, key)| FlagGroup::new(kind, key)).collect();
            if let Some(inner) = inner.current() {
                inner.tell_called(key, &FlagQuery::new(&self.distinct_id).groups(&groups), reading);
            }
        }
        detail.map(|detail| &detail.value)
    }

    /// The payload of a flag's value, as JSON; `None` if there is none.
    pub fn payload(&self, key: &str) -> Option<&str> {
        self.flags.get(key)?.payload.as_deref()
    }

    /// The keys of all flags that are known, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.flags.keys().map(|key| &**key)
    }

    /// Keys and values, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &OwnedFlagValue)> {
        self.flags.iter().map(|(key, detail)| (&**key, &detail.value))
    }

    /// How many flags are known.
    pub fn len(&self) -> usize {
        self.flags.len()
    }

    /// Whether no flag is known.
    pub fn is_empty(&self) -> bool {
        self.flags.is_empty()
    }

    /// Why some flags may be missing. What resolved is there all the same.
    pub fn error(&self) -> Option<FlagError> {
        self.error
    }

    /// The same with these flags only, as far as they are known: for events that should not say everything.
    #[must_use]
    pub fn only(&self, keys: &[&str]) -> Self {
        self.filtered(|key| keys.contains(&key))
    }

    /// The same with the flags that were read by [`is_enabled`](Self::is_enabled) or [`flag`](Self::flag) so far.
    #[must_use]
    pub fn only_accessed(&self) -> Self {
        let accessed = self.accessed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.filtered(|key| accessed.contains(key))
    }

    /// Captures `event` with these flags: `$feature/<key>` for each, and `$active_feature_flags`. A property of the event's
    /// own with such a key wins. Allocates.
    pub fn capture(&self, event: Event<'_>) -> Captured {
        let Some(inner) = self.client.upgrade() else { return Captured::from(Err(CaptureError::Closed)) };
        let keys: Vec<String> = self.flags.keys().map(|key| format!("{}{key}", key::FEATURE_PREFIX)).collect();
        let active = self.active();
        let given = event.given_properties();
        let is_new = |key: &str| !given.iter().any(|property| property.key() == key);
        let mut properties = given.to_vec();
        let values = self.flags.values().map(|detail| as_value(&detail.value));
        let own = keys.iter().zip(values).filter(|(key, _)| is_new(key));
        properties.extend(own.map(|(key, value)| Property::new(key, value)));
        let active = active.as_ref().filter(|_| is_new(key::ACTIVE_FEATURE_FLAGS));
        if let Some(active) = active.and_then(|active| RawJson::parse(active.as_str()).ok()) {
            properties.push(Property::new(key::ACTIVE_FEATURE_FLAGS, Value::Raw(active)));
        }
        match inner.current() {
            Some(inner) => Captured::from(inner.capture(&event.properties(&properties))),
            None => Captured::from(Err(CaptureError::Closed)),
        }
    }

    fn active(&self) -> Option<OwnedJson> {
        active_keys(self.flags.iter().map(|(key, detail)| (&**key, detail)))
    }

    fn filtered(&self, keep: impl Fn(&str) -> bool) -> Self {
        let kept = self.flags.iter().filter(|(key, _)| keep(key));
        Self {
            client: Weak::clone(&self.client),
            distinct_id: self.distinct_id.clone(),
            groups: self.groups.clone(),
            flags: kept.map(|(key, detail)| (key.clone(), detail.clone())).collect(),
            origin: Arc::clone(&self.origin),
            error: self.error,
            accessed: Arc::clone(&self.accessed),
        }
    }
}

impl fmt::Debug for FeatureFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// A JSON array with the keys of the flags that are on.
pub(super) fn active_keys<'a>(flags: impl Iterator<Item = (&'a str, &'a Detail)>) -> Option<OwnedJson> {
    let mut json = String::from("[");
    for (key, _) in flags.filter(|(_, detail)| !detail.failed && detail.value.is_enabled()) {
        json.push_str(if json.len() > 1 { ",\"" } else { "\"" });
        for char in key.chars() {
            match char {
                '"' | '\\' => json.extend(['\\', char]),
                '\0'..'\u{20}' => json.push_str(&format!("\\u{:04x}", u32::from(char))),
                char => json.push(char),
            }
        }
        json.push('"');
    }
    json.push(']');
    OwnedJson::parse(json).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should stop")]

    use super::super::answer::Answer;
    use super::*;

    #[test]
    fn keys_of_any_kind_become_json() {
        let answer = Answer::parse(br#"{"featureFlags":{"a\"b\\c\n":true,"off":false,"\u00e9":"variant"}}"#).unwrap();
        let active = active_keys(answer.flags.iter().map(|(key, detail)| (&**key, detail))).unwrap();
        assert_eq!(active.as_str(), "[\"a\\\"b\\\\c\\u000a\",\"é\"]");
        assert_eq!(active_keys(core::iter::empty()).unwrap().as_str(), "[]");
    }
}
