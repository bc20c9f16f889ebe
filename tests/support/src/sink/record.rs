//! What the sink remembers: every request, every event that was stored, every rule that was broken.
//!
//! Everything is bounded. What no longer fits is counted and reported as a violation, so a test that outgrows the sink
//! fails instead of passing on half the evidence; throughput is [`FastSink`](super::FastSink)'s business.

use serde_json::Value;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Requests remembered.
pub const REQUESTS_MAX: usize = 100_000;
/// Events remembered.
pub const EVENTS_MAX: usize = 300_000;
/// Bytes of bodies remembered; later requests are recorded with an empty body.
pub const BODY_BYTES_KEPT_MAX: usize = 128 * 1024 * 1024;
/// Violations remembered.
pub const VIOLATIONS_MAX: usize = 10_000;

/// One event as it arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The event, parsed by serde_json.
    pub value: Value,
    /// The event's own bytes.
    pub text: String,
    /// Where these bytes stood in the request's body.
    pub span: Range<usize>,
}

impl Event {
    /// The event's name, empty if it has none.
    pub fn name(&self) -> &str {
        self.string("event")
    }

    /// The distinct id at the event's root, empty if there is none.
    pub fn distinct_id(&self) -> &str {
        self.string("distinct_id")
    }

    /// The uuid as text, empty if there is none.
    pub fn uuid(&self) -> &str {
        self.string("uuid")
    }

    /// The timestamp as text, empty if there is none.
    pub fn timestamp(&self) -> &str {
        self.string("timestamp")
    }

    /// A property of this name; `Null` if there is none.
    pub fn property(&self, key: &str) -> &Value {
        self.value.get("properties").and_then(|properties| properties.get(key)).unwrap_or(&Value::Null)
    }

    fn string(&self, key: &str) -> &str {
        self.value.get(key).and_then(Value::as_str).unwrap_or_default()
    }
}

/// A rule that a request broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The status PostHog refuses the request with; `None` if it would accept it, and do something nobody wants.
    pub refusal: Option<u16>,
    /// Which rule, where.
    pub text: String,
}

/// One request as it arrived and as it was answered.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its number in order of arrival, from 0.
    pub number: usize,
    /// The number of its connection in order of arrival, from 0: equal numbers mean that it was kept alive.
    pub connection: u64,
    /// When its head had arrived, on the monotonic clock.
    pub arrived: Instant,
    /// The same on the wall clock.
    pub arrived_at: SystemTime,
    /// `POST`.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The query without its `?`, empty if there is none.
    pub query: String,
    /// Header names in lower case, in the order they came.
    pub headers: Vec<(String, String)>,
    /// The body, decompressed; half of it if the request was cut by [`Answer::ResetMidBody`](super::Answer).
    pub body: Vec<u8>,
    /// Bytes of the body as sent: compressed, without chunk headers.
    pub wire_len: usize,
    /// The events of a batch, in its order. Empty if the body is no batch.
    pub events: Vec<Arc<Event>>,
    /// The status the client was given; `None` if it was given no whole answer.
    pub status: Option<u16>,
    /// Whether the events count as accepted.
    pub stored: bool,
    /// The rules it broke.
    pub violations: Vec<Violation>,
}

impl Request {
    /// The value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether it went to the capture endpoint.
    pub fn is_batch(&self) -> bool {
        self.path.trim_end_matches('/').ends_with("/batch")
    }

    /// Whether it asks for the values of flags.
    pub fn is_flags(&self) -> bool {
        matches!(self.path.trim_end_matches('/').rsplit('/').next(), Some("flags" | "decide"))
    }

    /// Whether it asks for the definitions of flags.
    pub fn is_definitions(&self) -> bool {
        self.path.trim_end_matches('/').ends_with("/flags/definitions")
    }

    /// The body as JSON; `Null` if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The uuids of its events, in the order of the batch.
    pub fn uuids(&self) -> Vec<&str> {
        self.events.iter().map(|event| event.uuid()).collect()
    }
}

/// Everything that has happened so far.
#[derive(Debug, Default)]
pub struct Journal {
    requests: Vec<Arc<Request>>,
    /// Stored events in the order they were first stored.
    stored: Vec<Arc<Event>>,
    /// How often each uuid was stored.
    times_stored: HashMap<String, usize>,
    /// The first sight of each uuid, stored or not.
    first_seen: HashMap<String, Arc<Event>>,
    violations: Vec<String>,
    body_bytes: usize,
    arrived: usize,
    under_way: usize,
    most_under_way: usize,
}

impl Journal {
    /// Every request, in the order in which they were completely read.
    pub fn requests(&self) -> &[Arc<Request>] {
        &self.requests
    }

    /// The requests to the capture endpoint.
    pub fn batches(&self) -> impl Iterator<Item = &Arc<Request>> {
        self.requests.iter().filter(|request| request.is_batch())
    }

    /// Every event that was accepted, once, in the order of its first acceptance.
    pub fn stored(&self) -> &[Arc<Event>] {
        &self.stored
    }

    /// How often the event with this uuid was accepted.
    pub fn times_stored(&self, uuid: &str) -> usize {
        self.times_stored.get(uuid).copied().unwrap_or(0)
    }

    /// Acceptances beyond each event's first.
    pub fn duplicates(&self) -> usize {
        self.times_stored.values().map(|times| times.saturating_sub(1)).sum()
    }

    /// Every broken rule as text, with the request's number.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// The most batches that were ever under way at the same moment, each from its head to the moment its answer is
    /// decided: 1 for a client that sends one at a time, whatever becomes of the answers.
    pub fn most_at_once(&self) -> usize {
        self.most_under_way
    }

    /// The times between the arrivals of successive batches: one less than there are batches.
    pub fn gaps(&self) -> Vec<Duration> {
        let arrivals: Vec<Instant> = self.batches().map(|request| request.arrived).collect();
        arrivals.iter().zip(arrivals.iter().skip(1)).map(|(one, next)| next.duration_since(*one)).collect()
    }

    /// Batches that repeat, uuid by uuid, one that had been refused for good (400, 402, 413 or 415).
    ///
    /// Not a violation by itself: a process that is killed before it notes the refusal repeats it on its next start.
    pub fn repeats_of_refused_batches(&self) -> usize {
        let is_final = |request: &&Arc<Request>| matches!(request.status, Some(400 | 402 | 413 | 415));
        let refused: Vec<&Arc<Request>> = self.batches().filter(is_final).collect();
        let repeats = |request: &&Arc<Request>| {
            refused.iter().any(|earlier| earlier.number < request.number && earlier.uuids() == request.uuids())
        };
        self.batches().filter(repeats).count()
    }

    /// A new request's number.
    pub(super) fn arrive(&mut self, is_batch: bool) -> usize {
        let number = self.arrived;
        self.arrived = self.arrived.saturating_add(1);
        if is_batch {
            self.under_way = self.under_way.saturating_add(1);
            self.most_under_way = self.most_under_way.max(self.under_way);
        }
        number
    }

    /// The end of a batch whose arrival was noted.
    pub(super) fn leave(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Rules that only memory can judge: an event that comes again must come unchanged.
    pub(super) fn compare_with_first_sight(&self, events: &[Arc<Event>]) -> Vec<Violation> {
        let mut violations = Vec::new();
        for event in events {
            let Some(first) = self.first_seen.get(event.uuid()) else { continue };
            if let Some(difference) = difference(first, event) {
                let text = format!("uuid {} came again with another {difference}", event.uuid());
                violations.push(Violation { refusal: None, text });
            }
        }
        violations
    }

    /// Remembers a request whose answer is decided.
    pub(super) fn remember(&mut self, mut request: Request) {
        for violation in &request.violations {
            let refusal = violation.refusal.map(|status| format!(" ({status})")).unwrap_or_default();
            let line = format!("request {}: {}{refusal}", request.number, violation.text);
            self.note(line);
        }
        for event in &request.events {
            if event.uuid().is_empty() {
                continue;
            }
            if !self.first_seen.contains_key(event.uuid()) {
                if self.first_seen.len() >= EVENTS_MAX {
                    self.note(format!("the sink remembers {EVENTS_MAX} events at most; use FastSink"));
                    break;
                }
                self.first_seen.insert(event.uuid().to_owned(), Arc::clone(event));
            }
            if request.stored {
                let times = self.times_stored.entry(event.uuid().to_owned()).or_insert(0);
                *times = times.saturating_add(1);
                if *times == 1 {
                    self.stored.push(Arc::clone(event));
                }
            }
        }
        self.body_bytes = self.body_bytes.saturating_add(request.body.len());
        if self.body_bytes > BODY_BYTES_KEPT_MAX {
            request.body = Vec::new();
        }
        if self.requests.len() < REQUESTS_MAX {
            self.requests.push(Arc::new(request));
        } else {
            self.note(format!("the sink remembers {REQUESTS_MAX} requests at most; use FastSink"));
        }
    }

    /// Records a violation that belongs to no request.
    pub(super) fn note(&mut self, text: String) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(text);
        }
    }

    /// Forgets everything but the requests under way.
    pub(super) fn clear(&mut self) {
        let (under_way, arrived) = (self.under_way, self.arrived);
        *self = Self { under_way, arrived, most_under_way: under_way, ..Self::default() };
    }
}

/// The first thing in which two appearances of an event differ.
fn difference(first: &Event, again: &Event) -> Option<&'static str> {
    if first.name() != again.name() {
        Some("event name")
    } else if first.distinct_id() != again.distinct_id() {
        Some("distinct_id")
    } else if first.timestamp() != again.timestamp() {
        Some("timestamp")
    } else if first.text != again.text {
        Some("JSON text")
    } else {
        None
    }
}
