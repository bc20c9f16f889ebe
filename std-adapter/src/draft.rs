//! What a `before_send` hook sees: an event before a byte of it is written.
//!
//! In: the caller's event. Out: the same event, perhaps with other properties, perhaps none. Hooks are outside the promise
//! never to allocate: what they change is kept in ordinary memory until the event is in its ring.

use quillet_core::{Event, Property, Value};

use crate::hooks::OwnedValue;

/// Most properties a hook may add to one event.
pub const DRAFT_ADDITIONS_MAX: usize = 64;

/// An event on its way into the queue, open for changes to its properties.
///
/// Name, distinct id, uuid, time and what the client itself writes cannot be changed; an event that must not leave as it
/// is can be dropped.
#[derive(Debug)]
pub struct Draft<'a> {
    event: &'a Event<'a>,
    removed: Vec<&'a str>,
    added: Vec<(String, OwnedValue)>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(event: &'a Event<'a>) -> Self {
        Self { event, removed: Vec::new(), added: Vec::new() }
    }

    /// The event's name.
    pub fn name(&self) -> &'a str {
        self.event.name()
    }

    /// The distinct id given; empty for a personless event.
    pub fn distinct_id(&self) -> &'a str {
        self.event.given_distinct_id()
    }

    /// The keys of the event's own properties, hooks' changes included. Super properties are not among them.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let given = self.event.given_properties().iter().map(Property::key).filter(|key| !self.removed.contains(key));
        given.chain(self.added.iter().map(|(key, _)| key.as_str()))
    }

    /// The value of one of the event's own properties.
    pub fn property(&self, key: &str) -> Option<Value<'_>> {
        if let Some((_, value)) = self.added.iter().find(|(name, _)| name == key) {
            return Some(value.as_value());
        }
        let given = self.event.given_properties().iter().find(|property| property.key() == key)?;
        if self.removed.contains(&key) { None } else { Some(given.value()) }
    }

    /// Sets a property, in place of one with the same key. The usual rules for keys apply when the event is captured.
    ///
    /// Returns whether it was set: a hook may add [`DRAFT_ADDITIONS_MAX`] keys.
    pub fn set(&mut self, key: &str, value: impl Into<OwnedValue>) -> bool {
        if let Some((_, old)) = self.added.iter_mut().find(|(name, _)| name == key) {
            *old = value.into();
            return true;
        }
        if self.added.len() >= DRAFT_ADDITIONS_MAX {
            return false;
        }
        self.remove(key);
        self.added.push((key.to_owned(), value.into()));
        true
    }

    /// Removes a property. Returns whether the event had it.
    pub fn remove(&mut self, key: &str) -> bool {
        let before = self.added.len();
        self.added.retain(|(name, _)| name != key);
        let mut found = self.added.len() != before;
        for property in self.event.given_properties() {
            if property.key() == key && !self.removed.contains(&key) {
                self.removed.push(property.key());
                found = true;
            }
        }
        found
    }

    /// The properties as the hooks left them; `None` if they changed nothing.
    pub(crate) fn properties(&self) -> Option<Vec<Property<'_>>> {
        if self.removed.is_empty() && self.added.is_empty() {
            return None;
        }
        let given = self.event.given_properties().iter().filter(|property| !self.removed.contains(&property.key()));
        let added = self.added.iter().map(|(key, value)| Property::new(key, value.as_value()));
        Some(given.copied().chain(added).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should stop")]
    use super::*;
    use quillet_core::props;

    #[test]
    fn changes_are_seen_and_kept() {
        let properties = props! { "email": "a@b", "plan": "pro" };
        let event = Event::new("x", "y").properties(properties);
        let mut draft = Draft::new(&event);
        assert!(draft.properties().is_none());
        assert!(draft.remove("email") && !draft.remove("email") && !draft.remove("none"));
        assert!(draft.property("email").is_none());
        assert!(draft.set("plan", "free") && draft.set("n", 1) && draft.set("n", 2));
        assert_eq!(draft.keys().collect::<Vec<_>>(), ["plan", "n"]);
        let changed = draft.properties().unwrap();
        assert_eq!(changed.len(), 2);
        assert!(matches!(draft.property("n"), Some(Value::Int(2))));
        assert!(matches!(draft.property("plan"), Some(Value::Str("free"))));
    }

    #[test]
    fn additions_are_bounded() {
        let event = Event::new("x", "y");
        let mut draft = Draft::new(&event);
        for at in 0..DRAFT_ADDITIONS_MAX {
            assert!(draft.set(&at.to_string(), at as u64));
        }
        assert!(!draft.set("one more", true));
        assert!(draft.set("0", false), "an old one may change");
    }
}
