//! One test's client, and what it was seen to do.
//!
//! In: what the harness says about a client and its events. Out: calls of [`Client`], and the figures of `/state`: from the
//! client's own counters, and from its `on_request` observer.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use quillet::flags::FlagGroup;
use quillet::{
    BuildError, CaptureError, Client, Event, FlagQuery, FlushError, OwnedFlagValue, Property, RequestReport, Timestamp,
    Typed, Uuid,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Ties the requests of a client to its test, at the mock server.
const TEST_ID_HEADER: &str = "X-Test-Id";

/// Longest time a flush may take. The harness waits for 300 s; the longest run of retries it provokes takes 9.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(120);

/// Ring of a lane: the smallest there is. Events of the tests are small, and dozens of idle clients stay around.
const QUEUE_BYTES: usize = 256 * 1024;

/// Requests remembered for `/state`, the latest. No test makes more than a handful.
const REQUESTS_MAX: usize = 1000;

/// Body of `/init`. What is absent (or null) is the client's own default; what is not listed is ignored.
#[derive(Debug, Deserialize)]
pub(crate) struct Options {
    api_key: String,
    host: String,
    flush_at: Option<usize>,
    flush_interval_ms: Option<u64>,
    max_retries: Option<u32>,
    enable_compression: Option<bool>,
    disable_geoip: Option<bool>,
    historical_migration: Option<bool>,
}

/// Body of `/capture`. `options`, which belong to the newer capture protocol, are ignored.
#[derive(Debug, Deserialize)]
pub(crate) struct Capture {
    distinct_id: String,
    event: String,
    properties: Option<Map<String, Value>>,
    timestamp: Option<String>,
}

/// Body of `/get_feature_flag`.
#[derive(Debug, Deserialize)]
pub(crate) struct FlagCall {
    key: String,
    distinct_id: String,
    person_properties: Option<Map<String, Value>>,
    groups: Option<Map<String, Value>>,
    group_properties: Option<Map<String, Value>>,
    disable_geoip: Option<bool>,
    force_remote: Option<bool>,
}

/// A client and its journal.
pub(crate) struct Instance {
    client: Client,
    journal: Arc<Mutex<Journal>>,
}

impl Instance {
    /// Builds a client. It makes no request before there is an event to send.
    ///
    /// # Errors
    ///
    /// What the builder says of the options.
    pub(crate) fn start(options: &Options, test_id: Option<&str>) -> Result<Self, BuildError> {
        let journal = Arc::new(Mutex::new(Journal::default()));
        let observer = Arc::clone(&journal);
        let mut builder = Client::builder(options.api_key.as_str())
            .host(options.host.as_str())
            // The mock server is beside us, whatever proxy the rest of this machine needs.
            .proxy(None)
            .queue_bytes(QUEUE_BYTES)
            .gzip(options.enable_compression.unwrap_or(false))
            .disable_geoip(options.disable_geoip.unwrap_or(false))
            .historical_migration(options.historical_migration.unwrap_or(false))
            .on_request(move |report| lock(&observer).note(report));
        if let Some(events) = options.flush_at {
            builder = builder.flush_at(events);
        }
        if let Some(interval) = options.flush_interval_ms {
            builder = builder.flush_interval(Duration::from_millis(interval));
        }
        if let Some(retries) = options.max_retries {
            builder = builder.max_retries(retries);
        }
        if let Some(id) = test_id {
            builder = builder.header(TEST_ID_HEADER, id);
        }
        Ok(Self { client: builder.build()?, journal })
    }

    /// Queues an event; its uuid is the one that is sent.
    ///
    /// # Errors
    ///
    /// Why the client did not take it, in words.
    pub(crate) fn capture(&self, capture: &Capture) -> Result<Uuid, String> {
        let none = Map::new();
        let given = Properties::new(capture.properties.as_ref().unwrap_or(&none));
        let properties = given.borrow();
        let mut event = Event::new(&capture.event, &capture.distinct_id).properties(&properties);
        if let Some(text) = &capture.timestamp {
            let timestamp = Timestamp::parse(text).ok_or_else(|| format!("timestamp {text:?} is not RFC 3339"))?;
            event = event.timestamp(timestamp);
        }
        self.client.capture(event).ok().map_err(|reason: CaptureError| reason.to_string())
    }

    /// A flag's value, `null` if it is not known. Blocks until its request is answered, retries included.
    pub(crate) fn feature_flag(&self, call: &FlagCall) -> Value {
        let none = Map::new();
        let person = Properties::new(call.person_properties.as_ref().unwrap_or(&none));
        let person = person.borrow();
        let groups = call.groups.as_ref().unwrap_or(&none);
        let keys: Vec<(&str, String)> = groups.iter().map(|(kind, key)| (kind.as_str(), text(key))).collect();
        let group_properties = call.group_properties.as_ref().unwrap_or(&none);
        let of_group = |kind: &str| group_properties.get(kind).and_then(Value::as_object).unwrap_or(&none);
        let given: Vec<_> = keys.iter().map(|(kind, _)| Properties::new(of_group(kind))).collect();
        let given: Vec<_> = given.iter().map(Properties::borrow).collect();
        let groups: Vec<_> = keys
            .iter()
            .zip(&given)
            .map(|((kind, key), properties)| FlagGroup::new(kind, key).properties(properties))
            .collect();
        let query = FlagQuery::new(&call.distinct_id)
            .person_properties(&person)
            .groups(&groups)
            .disable_geoip(call.disable_geoip.unwrap_or(false))
            .force_remote(call.force_remote.unwrap_or(false));
        match self.client.feature_flag(&call.key, query) {
            Ok(OwnedFlagValue::Bool(value)) => value.into(),
            Ok(OwnedFlagValue::Variant(variant)) => variant.into(),
            Err(_) => Value::Null,
        }
    }

    /// Sends what is queued and waits until its fate is known. Says how many events were delivered meanwhile, and if some
    /// are still undecided, why.
    pub(crate) fn flush(&self) -> (u64, Option<FlushError>) {
        let before = self.client.stats().delivered;
        let undecided = self.client.flush(FLUSH_TIMEOUT).err();
        (self.client.stats().delivered.saturating_sub(before), undecided)
    }

    /// Drops what is queued, breaks off what is out and stops. When this returns, no request can follow.
    pub(crate) fn discard(&self) {
        self.client.discard();
    }

    /// The figures of `/state`.
    pub(crate) fn state(&self) -> Value {
        let stats = self.client.stats();
        let journal = lock(&self.journal);
        json!({
            "pending_events": stats.pending,
            "total_events_captured": stats.accepted,
            "total_events_sent": stats.delivered,
            "total_retries": stats.retries,
            "last_error": journal.last_error,
            "requests_made": journal.requests,
        })
    }
}

/// What `/state` says where there is no instance.
pub(crate) fn empty_state() -> Value {
    json!({
        "pending_events": 0,
        "total_events_captured": 0,
        "total_events_sent": 0,
        "total_retries": 0,
        "last_error": null,
        "requests_made": [],
    })
}

/// An object's members, on their way into properties. The client borrows what it serialises; this keeps it.
struct Properties<'a> {
    given: &'a Map<String, Value>,
    nested: Vec<Typed<&'a Value>>,
}

impl<'a> Properties<'a> {
    fn new(given: &'a Map<String, Value>) -> Self {
        Self { given, nested: given.values().map(Typed).collect() }
    }

    fn borrow(&self) -> Vec<Property<'_>> {
        let members = self.given.iter().zip(&self.nested);
        members.map(|((key, value), nested)| property(key, value, nested)).collect()
    }
}

/// A group's key, which may be a number.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A property: scalars as the client's own values, the rest through its serialiser.
fn property<'a>(key: &'a str, value: &'a Value, nested: &'a Typed<&'a Value>) -> Property<'a> {
    match value {
        Value::Null => Property::new(key, quillet::Value::Null),
        Value::Bool(value) => Property::new(key, *value),
        Value::String(text) => Property::new(key, text.as_str()),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Property::new(key, value),
            (None, Some(value)) => Property::new(key, value),
            (None, None) => Property::new(key, number.as_f64()),
        },
        Value::Array(_) | Value::Object(_) => Property::new(key, quillet::Value::Typed(nested)),
    }
}

/// Every request of one client.
#[derive(Default)]
struct Journal {
    requests: VecDeque<Value>,
    last_error: Option<String>,
}

impl Journal {
    /// Called from the client's flush thread, before whoever waits in a flush hears of the answer.
    fn note(&mut self, report: &RequestReport<'_>) {
        let started = report.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        if self.requests.len() >= REQUESTS_MAX {
            self.requests.pop_front();
        }
        self.requests.push_back(json!({
            "timestamp_ms": u64::try_from(started).unwrap_or(u64::MAX),
            // 0 for "no answer": the field is an integer.
            "status_code": report.status.unwrap_or(0),
            "retry_attempt": report.attempt.saturating_sub(1),
            "event_count": report.events,
            "uuid_list": report.uuids().map(|uuid| uuid.to_string()).collect::<Vec<_>>(),
        }));
        match report.status {
            Some(200..=299) => {}
            Some(status) => {
                let (attempt, events) = (report.attempt, report.events);
                self.last_error = Some(format!("HTTP {status}: attempt {attempt} at {events} event(s)"));
            }
            None => self.last_error = Some(report.error.unwrap_or("no answer").to_owned()),
        }
    }
}

fn lock(journal: &Mutex<Journal>) -> MutexGuard<'_, Journal> {
    // At worst an entry is missing.
    journal.lock().unwrap_or_else(PoisonError::into_inner)
}
