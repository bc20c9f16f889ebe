//! What arrived, as the sink saw it.
//!
//! In: the sink's record. Out: a line for each request, a line for each event in it, and a verdict at the end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use quillet::Uuid;
use quillet_support::Sink;
use quillet_support::measure::grouped;
use quillet_support::sink::{Event, Request};
use serde_json::Value;

use crate::show::{Screen, Style, WIDTH, cut, fit};
use crate::{SERVICE, story};

/// Properties that every event carries: not worth a column.
const EVERYWHERE: [&str; 4] = ["$lib", "$lib_version", "$is_server", SERVICE.0];

/// Names of events that must have arrived, one of each kind.
const KINDS: [&str; 7] =
    ["order placed", "page viewed", "$identify", "$set", "$create_alias", "$groupidentify", "$exception"];

/// Reads the sink's record on.
pub struct Arrivals<'s> {
    sink: &'s Sink,
    /// Requests shown already.
    shown: usize,
    last: Option<Instant>,
}

impl<'s> Arrivals<'s> {
    pub fn new(sink: &'s Sink) -> Self {
        Self { sink, shown: 0, last: None }
    }

    /// Shows the requests that have come since the last call.
    pub fn show(&mut self, screen: &Screen) {
        let requests = self.sink.requests();
        for request in requests.iter().skip(self.shown) {
            self.show_request(screen, request, &requests);
        }
        self.shown = requests.len();
    }

    /// Whether the sink has what the client says it has delivered: `accepted`, each once and by the rules.
    pub fn check(&self, screen: &Screen, accepted: &[Uuid]) -> bool {
        let stored = self.sink.stored();
        let stored_uuids: BTreeSet<Option<Uuid>> = stored.iter().map(|event| Uuid::parse(event.uuid())).collect();
        let accepted_uuids: BTreeSet<Option<Uuid>> = accepted.iter().copied().map(Some).collect();
        let once = stored_uuids == accepted_uuids && self.sink.view(|journal| journal.duplicates()) == 0;
        let mut holds = screen.check(once, "what was accepted arrived, each event once, and nothing else");

        let names: BTreeSet<&str> = stored.iter().map(|event| event.name()).collect();
        let missing: Vec<&str> = KINDS.into_iter().filter(|name| !names.contains(name)).collect();
        holds &= screen.check(missing.is_empty(), "every kind of event was among them");
        if !missing.is_empty() {
            screen.line(format_args!("      missing: {}", missing.join(", ")));
        }

        let requests = self.sink.requests();
        let again = requests.iter().find(|request| request.status == Some(503)).is_some_and(|refused| {
            requests.iter().any(|later| later.number > refused.number && later.body == refused.body && later.stored)
        });
        holds &= screen.check(again, "the batch that met a 503 came again, byte for byte");

        let scrubbed = stored.iter().all(|event| !event.text.contains(story::SECRET));
        let served = stored.iter().all(|event| event.property(SERVICE.0) == SERVICE.1);
        holds &= screen.check(scrubbed && served, "the hook and the super property worked on every event");

        let violations = self.sink.violations();
        holds &= screen.check(violations.is_empty(), "no request broke a rule of PostHog's");
        for violation in violations {
            screen.line(format_args!("      {}", cut(&violation, WIDTH - 6)));
        }
        holds
    }

    fn show_request(&mut self, screen: &Screen, request: &Request, all: &[Arc<Request>]) {
        let is_same = |other: &&Arc<Request>| other.number < request.number && other.body == request.body;
        let attempt = 1 + all.iter().filter(is_same).count();
        let status = request.status.map_or("no answer".to_owned(), |status| format!("HTTP {status}"));
        let status = screen.paint(if request.stored { Style::Good } else { Style::Warning }, &status);
        let gzip = match request.header("content-encoding") {
            Some(encoding) => format!("{} as {encoding}", grouped(request.wire_len as u64)),
            None => String::new(),
        };
        let waited = match self.last.replace(request.arrived) {
            Some(before) if attempt > 1 => format!("after {} ms", request.arrived.duration_since(before).as_millis()),
            _ => String::new(),
        };
        let events = format!("{} {}", request.events.len(), if request.events.len() == 1 { "event" } else { "events" });
        screen.line(format_args!(
            "  ▶ {} {} {} {} {} {status}",
            fit(&format!("request {}: attempt {attempt}", request.number + 1), 22),
            fit(&waited, 13),
            fit(&events, 10),
            fit(&format!("{} bytes", grouped(request.body.len() as u64)), 12),
            fit(&gzip, 14),
        ));
        if request.stored {
            for event in &request.events {
                show_event(screen, event);
            }
        }
    }
}

/// Name, distinct id, the end of the uuid, and the properties that are its own.
fn show_event(screen: &Screen, event: &Event) {
    let uuid = event.uuid();
    let id = if event.distinct_id() == uuid { "(its own uuid)" } else { event.distinct_id() };
    screen.line(format_args!(
        "    {} {} {} {}",
        screen.paint(Style::Name, &fit(event.name(), 15)),
        fit(id, 16),
        screen.paint(Style::Aside, uuid.rsplit('-').next().unwrap_or_default()),
        cut(&properties(event), 49),
    ));
}

/// `key=value`, PostHog's own keys first.
fn properties(event: &Event) -> String {
    let Some(properties) = event.value.get("properties").and_then(Value::as_object) else { return String::new() };
    let own = properties.iter().filter(|(key, _)| !EVERYWHERE.contains(&key.as_str()));
    let texts: Vec<String> = own.map(|(key, value)| format!("{key}={value}")).collect();
    texts.join(" ")
}
