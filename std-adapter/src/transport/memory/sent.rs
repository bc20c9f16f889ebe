//! What a [`MemoryTransport`] was given, as values to assert on. For users' own tests, behind the feature `test-util`.
//!
//! In: the recorded requests. Out: [`SentEvent`]s, and assertions that say what there is instead.

#![allow(clippy::panic, reason = "an assertion of a test has to fail it")]

use quillet_core::{Timestamp, Uuid};
use serde_json::{Map, Value};

use super::MemoryTransport;

/// One event as PostHog would have it.
///
/// ```
/// use quillet::transport::memory::MemoryTransport;
/// use quillet::{Client, event};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let memory = MemoryTransport::new();
/// let client = Client::builder("phc_test").transport(memory.clone()).build()?;
/// client.capture(event!("order placed", "customer-7", { "total": 12.5, "currency": "EUR" }));
/// client.flush(Duration::from_secs(5))?;
///
/// let order = memory.assert_sent("order placed");
/// order.assert_distinct_id("customer-7").assert_property("total", 12.5).assert_no_property("password");
/// memory.assert_not_sent("order refused");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SentEvent {
    /// What happened.
    pub name: String,
    /// To whom; the uuid of an event without a person.
    pub distinct_id: String,
    /// Which event it is.
    pub uuid: Uuid,
    /// When it happened.
    pub timestamp: Timestamp,
    /// Everything else, super properties and the client's own included.
    pub properties: Map<String, Value>,
}

impl MemoryTransport {
    /// Every event in a request that was answered with 2xx, once, in the order in which they were first sent.
    ///
    /// # Panics
    ///
    /// Should an event not be JSON of the shape that PostHog takes, which no client makes.
    #[track_caller]
    pub fn sent(&self) -> Vec<SentEvent> {
        let mut sent: Vec<SentEvent> = Vec::new();
        for text in self.events() {
            let Some(event) = SentEvent::parse(&text) else { panic!("not an event: {text}") };
            if !sent.iter().any(|known| known.uuid == event.uuid) {
                sent.push(event);
            }
        }
        sent
    }

    /// Those of [`sent`](Self::sent) that have this name.
    #[track_caller]
    pub fn sent_named(&self, name: &str) -> Vec<SentEvent> {
        self.sent().into_iter().filter(|event| event.name == name).collect()
    }

    /// The one event of this name.
    ///
    /// # Panics
    ///
    /// If there is none, or more than one; it names what was sent.
    #[track_caller]
    pub fn assert_sent(&self, name: &str) -> SentEvent {
        match <[SentEvent; 1]>::try_from(self.sent_named(name)) {
            Ok([event]) => event,
            Err(events) => panic!("{} events are called {name:?}, in {:?}", events.len(), self.names()),
        }
    }

    /// Sees to it that no event has this name.
    ///
    /// # Panics
    ///
    /// If one has.
    #[track_caller]
    pub fn assert_not_sent(&self, name: &str) {
        let events = self.sent_named(name);
        assert!(events.is_empty(), "events are called {name:?}: {events:?}");
    }

    fn names(&self) -> Vec<String> {
        self.sent().into_iter().map(|event| event.name).collect()
    }
}

impl SentEvent {
    /// A property, if the event has it.
    pub fn property(&self, key: &str) -> Option<&Value> {
        self.properties.get(key)
    }

    /// Sees to it that a property has this value. Numbers are compared by value: 3 is 3.0.
    ///
    /// # Panics
    ///
    /// If it has not.
    #[track_caller]
    pub fn assert_property(&self, key: &str, value: impl Into<Value>) -> &Self {
        let (found, expected) = (self.property(key), value.into());
        let is_same = match (found, &expected) {
            (Some(Value::Number(found)), Value::Number(expected)) => {
                found == expected || found.as_f64() == expected.as_f64()
            }
            (found, expected) => found == Some(expected),
        };
        assert!(is_same, "{:?}: property {key:?} is {found:?}, not {expected}", self.name);
        self
    }

    /// Sees to it that there is no such property, not even one that is `null`.
    ///
    /// # Panics
    ///
    /// If there is.
    #[track_caller]
    pub fn assert_no_property(&self, key: &str) -> &Self {
        let found = self.property(key);
        assert!(found.is_none(), "{:?}: property {key:?} is {found:?}", self.name);
        self
    }

    /// Sees to it whose event this is.
    ///
    /// # Panics
    ///
    /// If it is another one's.
    #[track_caller]
    pub fn assert_distinct_id(&self, distinct_id: &str) -> &Self {
        assert!(self.distinct_id == distinct_id, "{:?} is of {:?}, not {distinct_id:?}", self.name, self.distinct_id);
        self
    }

    fn parse(text: &str) -> Option<Self> {
        let Value::Object(mut event) = serde_json::from_str(text).ok()? else { return None };
        let Value::Object(properties) = event.remove("properties")? else { return None };
        let text = |key: &str| event.get(key)?.as_str();
        Some(Self {
            name: text("event")?.to_owned(),
            distinct_id: text("distinct_id")?.to_owned(),
            uuid: Uuid::parse(text("uuid")?)?,
            timestamp: Timestamp::parse(text("timestamp")?)?,
            properties,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should stop")]
    use super::*;
    use crate::{Client, Outcome, Transport, event};
    use core::time::Duration;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn fails(work: impl FnOnce()) -> bool {
        catch_unwind(AssertUnwindSafe(work)).is_err()
    }

    #[test]
    fn assertions_hold_or_fail() {
        let memory = MemoryTransport::new();
        memory.answer(Outcome::status(503));
        let client = Client::builder("phc_test").transport(memory.clone()).without_thread();
        let client = client.backoff(Duration::from_millis(10), Duration::from_millis(20)).build().unwrap();
        let uuid = client.capture(event!("one", "ada", { "n": 3, "list": [1, null] })).uuid().unwrap();
        client.capture(event!("two", "ada"));
        client.capture(event!("two", "bob"));
        client.flush(Duration::from_secs(30)).unwrap();
        assert_eq!((memory.requests().len(), memory.sent().len()), (2, 3));
        let one = memory.assert_sent("one");
        assert_eq!(one.uuid, uuid);
        one.assert_distinct_id("ada").assert_property("n", 3.0).assert_no_property("m");
        one.assert_property("list", serde_json::json!([1, null]));
        memory.assert_not_sent("three");
        assert!(fails(|| drop(memory.assert_sent("two"))) && fails(|| drop(memory.assert_sent("three"))));
        assert!(fails(|| memory.assert_not_sent("one")));
        assert!(
            fails(|| drop(one.assert_property("n", 4).clone())) && fails(|| drop(one.assert_no_property("n").clone()))
        );
        assert!(fails(|| drop(one.assert_distinct_id("bob").clone())));
    }

    #[test]
    fn what_is_no_event_is_said_to_be_none() {
        let mut memory = MemoryTransport::new();
        crate::transport::testing::with_batch(1, 100, None, |batch| memory.send(batch));
        assert!(fails(|| drop(memory.sent())));
    }
}
