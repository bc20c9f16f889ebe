//! `$feature_flag_called`: telling PostHog which value of a flag the program has read, once.
//!
//! In: what a call found out. Out: an event in the queue, unless the same was told before. What was told is remembered as
//! fingerprints, so many of them: then the oldest is forgotten, and might be told again.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use quillet_core::flags::{FlagValue, LocalFlag};
use quillet_core::wire::key;
use quillet_core::{Event, Property, RawJson, Value};

use super::answer::{Detail, Origin, OwnedFlagValue};
use super::error::FlagError;
use super::query::FlagQuery;
use crate::inner::Inner;

/// Combinations of person, flag, value and groups that are remembered. 1 MB when full.
const REMEMBERED_MAX: usize = 50_000;

/// What the minimal form of the event keeps.
const MINIMAL_KEYS: &[&str] = &[
    key::FEATURE_FLAG,
    key::FEATURE_FLAG_RESPONSE,
    key::FEATURE_FLAG_HAS_EXPERIMENT,
    key::FEATURE_FLAG_ID,
    key::FEATURE_FLAG_VERSION,
    key::FEATURE_FLAG_REASON,
    key::FEATURE_FLAG_REQUEST_ID,
    key::FEATURE_FLAG_EVALUATED_AT,
    key::FEATURE_FLAG_ERROR,
    key::LOCALLY_EVALUATED,
    key::GROUPS,
    key::PROCESS_PERSON_PROFILE,
    key::GEOIP_DISABLE,
    key::SESSION_ID,
    key::WINDOW_ID,
    key::DEVICE_ID,
    key::LIB,
    key::LIB_VERSION,
    key::IS_SERVER,
    key::OS,
    key::OS_VERSION,
];

/// What was told already.
pub(super) struct Called {
    told: HashSet<u64>,
    by_age: VecDeque<u64>,
    capacity: usize,
}

impl Called {
    pub(super) fn new() -> Self {
        Self { told: HashSet::new(), by_age: VecDeque::new(), capacity: REMEMBERED_MAX }
    }

    /// Whether this is new; then it is remembered.
    fn is_new(&mut self, fingerprint: u64) -> bool {
        if !self.told.insert(fingerprint) {
            return false;
        }
        if self.by_age.len() >= self.capacity
            && let Some(oldest) = self.by_age.pop_front()
        {
            self.told.remove(&oldest);
        }
        self.by_age.push_back(fingerprint);
        true
    }
}

/// What a call found out about a flag.
#[derive(Clone, Copy)]
pub(super) enum Reading<'a> {
    /// By definitions; and whether they want the minimal event.
    Local(&'a LocalFlag<'a>, bool),
    /// In an answer or a snapshot.
    Known(&'a Detail, &'a Origin),
    /// Nothing; with what came along, if there was an answer.
    Unknown(FlagError, Option<&'a Origin>),
}

impl Reading<'_> {
    pub(super) fn value(&self) -> Option<FlagValue<'_>> {
        match self {
            Self::Local(flag, _) => Some(flag.value()),
            Self::Known(detail, _) => Some(detail.value.as_value()),
            Self::Unknown(..) => None,
        }
    }
}

/// A fingerprint of person, flag, value and groups. Allocates nothing unless a variant's name has escapes.
pub(super) fn fingerprint(hasher: &RandomState, key: &str, query: &FlagQuery<'_>, value: Option<FlagValue<'_>>) -> u64 {
    let mut state = hasher.build_hasher();
    query.subject.given_distinct_id().hash(&mut state);
    key.hash(&mut state);
    match value {
        None => 0_u8.hash(&mut state),
        Some(FlagValue::Bool(value)) => (1_u8, value).hash(&mut state),
        Some(FlagValue::Variant(name)) => {
            2_u8.hash(&mut state);
            match name.as_plain() {
                Some(plain) => plain.hash(&mut state),
                None => name.to_string().hash(&mut state),
            }
        }
    }
    // In any order: a sum has none.
    let groups = query.subject.given_groups().iter();
    let groups = groups.map(|group| hasher.hash_one((group.group_type(), group.group_key())));
    groups.fold(0_u64, u64::wrapping_add).hash(&mut state);
    state.finish()
}

impl Inner {
    /// Captures `$feature_flag_called`, if it is wanted and new.
    pub(super) fn tell_called(&self, key: &str, query: &FlagQuery<'_>, reading: Reading<'_>) {
        let flags = &self.flags;
        if !flags.options.called_events {
            return;
        }
        let error = match reading {
            Reading::Unknown(error, _) => match error.word() {
                Some(word) => Some(word),
                None => return,
            },
            _ => None,
        };
        let print = fingerprint(&flags.hashers[0], key, query, reading.value());
        if flags.lock_called().is_new(print) {
            self.capture_called(key, query, reading, error);
        }
    }

    #[cold]
    fn capture_called(&self, flag_key: &str, query: &FlagQuery<'_>, reading: Reading<'_>, error: Option<String>) {
        let local;
        let (detail, origin) = match reading {
            Reading::Local(flag, minimal) => {
                local = (Detail::of_local(flag), Origin { minimal, ..Origin::default() });
                (Some(&local.0), Some(&local.1))
            }
            Reading::Known(detail, origin) => (Some(detail), Some(origin)),
            Reading::Unknown(_, origin) => (None, origin),
        };
        let feature_key = format!("{}{flag_key}", key::FEATURE_PREFIX);
        let response = detail.map_or(Value::Null, |detail| as_value(&detail.value));
        let is_local = detail.is_some_and(|detail| detail.local);
        let mut properties = vec![
            Property::new(key::FEATURE_FLAG, flag_key),
            Property::new(key::FEATURE_FLAG_RESPONSE, response),
            Property::new(&feature_key, response),
            Property::new(key::LOCALLY_EVALUATED, is_local),
        ];
        if let Some(detail) = detail {
            let payload = detail.payload.as_deref().and_then(|payload| RawJson::parse(payload).ok());
            properties.extend(payload.map(|payload| Property::new(key::FEATURE_FLAG_PAYLOAD, payload)));
            let experiment = detail.has_experiment;
            properties.extend(experiment.map(|known| Property::new(key::FEATURE_FLAG_HAS_EXPERIMENT, known)));
            properties.extend(detail.id.map(|id| Property::new(key::FEATURE_FLAG_ID, id)));
            properties.extend(detail.version.map(|version| Property::new(key::FEATURE_FLAG_VERSION, version)));
            let reason = detail.reason.as_deref();
            properties.extend(reason.map(|reason| Property::new(key::FEATURE_FLAG_REASON, reason)));
        }
        let mut words: Vec<&str> = Vec::new();
        if let Some(origin) = origin.filter(|_| !is_local) {
            let request_id = origin.request_id.as_deref();
            properties.extend(request_id.map(|id| Property::new(key::FEATURE_FLAG_REQUEST_ID, id)));
            let evaluated_at = origin.evaluated_at_ms;
            properties.extend(evaluated_at.map(|ms| Property::new(key::FEATURE_FLAG_EVALUATED_AT, ms)));
            words.extend(origin.is_partial.then_some("errors_while_computing_flags"));
        }
        if let Some(word) = error.as_deref().filter(|word| !words.contains(word)) {
            words.push(word);
        }
        let words = words.join(",");
        if !words.is_empty() {
            properties.push(Property::new(key::FEATURE_FLAG_ERROR, words.as_str()));
        }
        let groups = query.subject.given_groups();
        let groups: Vec<_> = groups.iter().map(|group| (group.group_type(), group.group_key())).collect();
        let event = Event::new(key::FEATURE_FLAG_CALLED, query.subject.given_distinct_id());
        let event = event.properties(&properties).groups(&groups);
        let is_minimal = origin.is_some_and(|origin| origin.minimal)
            && detail.is_some_and(|detail| detail.has_experiment == Some(false));
        // A refusal is counted; there is nobody here to tell.
        let _ = if is_minimal {
            self.capture_only(&event, |key| MINIMAL_KEYS.contains(&key))
        } else {
            self.capture(&event)
        };
    }
}

/// A flag's value as a property.
pub(super) fn as_value(value: &OwnedFlagValue) -> Value<'_> {
    match value {
        OwnedFlagValue::Bool(value) => Value::Bool(*value),
        OwnedFlagValue::Variant(name) => Value::Str(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_the_oldest_is_forgotten_first() {
        let mut called = Called { capacity: 3, ..Called::new() };
        assert!((0..4).all(|print| called.is_new(print)));
        assert!(!called.is_new(3) && !called.is_new(1) && called.is_new(0), "0 was the oldest");
        assert_eq!((called.told.len(), called.by_age.len()), (3, 3));
    }

    #[test]
    fn the_order_of_groups_does_not_matter_and_everything_else_does() {
        use quillet_core::flags::FlagGroup;
        let hasher = RandomState::new();
        let (a, b) = (FlagGroup::new("company", "acme"), FlagGroup::new("project", "x"));
        let (ab, ba) = ([a, b], [b, a]);
        let query = FlagQuery::new("x");
        let print = |key, query: FlagQuery<'_>, value| fingerprint(&hasher, key, &query, value);
        let on = Some(FlagValue::Bool(true));
        assert_eq!(print("f", query.groups(&ab), on), print("f", query.groups(&ba), on));
        let all = [
            print("f", query, on),
            print("g", query, on),
            print("f", query, None),
            print("f", query, Some(FlagValue::Bool(false))),
            print("f", query, Some(FlagValue::variant("true"))),
            print("f", query.groups(&ab), on),
            print("f", FlagQuery::new("y"), on),
        ];
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    }
}
