//! The rules: one request in, everything that is wrong with it out, with the status PostHog would give it.
//!
//! A violation with a status is something the server refuses, and one such event takes its whole batch along. A
//! violation without one is something the server takes and then cuts, drops or misreads later, or something that only
//! this client promises. Order matters: the first refusal is the answer.

mod event;
mod exception;
mod text;

use super::Expectations;
use super::http::{Body, Head};
use super::record::{Event, Violation};
use flate2::read::GzDecoder;
use serde_json::{Map, Value};
use std::io::Read;
use std::sync::Arc;
use text::{Place, Scan};

/// Largest body PostHog takes on `/batch/`, compressed and decompressed, in bytes.
pub(super) const BODY_BYTES_MAX: usize = 20 * 1024 * 1024;

/// Largest event on PostHog's event bus, in bytes.
const EVENT_BYTES_MAX: usize = 1_000_000;

/// Longest project token, in bytes.
const API_KEY_BYTES_MAX: usize = 64;

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `POST /batch/`
    Batch,
    /// `POST /flags/`
    Flags,
    /// `POST /decide/`, the older one
    Decide,
    /// `GET /flags/definitions`
    Definitions,
    /// Nowhere: 404.
    Unknown,
}

/// What the rules found.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// The body, decompressed.
    pub(super) body: Vec<u8>,
    pub(super) events: Vec<Arc<Event>>,
    pub(super) violations: Vec<Violation>,
}

pub(super) fn route(expectations: &Expectations, head: &Head) -> Route {
    let path = head.path.strip_prefix(expectations.base_path.as_str());
    match (head.method.as_str(), path) {
        ("POST", Some("/batch" | "/batch/")) => Route::Batch,
        ("POST", Some("/flags" | "/flags/")) => Route::Flags,
        ("POST", Some("/decide" | "/decide/")) => Route::Decide,
        ("GET", Some("/flags/definitions" | "/flags/definitions/")) => Route::Definitions,
        _ => Route::Unknown,
    }
}

pub(super) fn judge(expectations: &Expectations, route: Route, head: &Head, body: Body) -> Verdict {
    let mut findings = Findings::default();
    if route == Route::Unknown {
        findings.refuse(404, format!("nothing is served at {} {}", head.method, head.path));
        return Verdict { body: body.bytes, violations: findings.list, ..Verdict::default() };
    }
    if route == Route::Definitions {
        judge_definitions_request(expectations, head, &mut findings);
        return Verdict { body: body.bytes, violations: findings.list, ..Verdict::default() };
    }
    judge_headers(expectations, route, head, &body, &mut findings);
    if body.over_limit {
        findings.refuse(413, format!("a body of more than {BODY_BYTES_MAX} bytes"));
        return Verdict { violations: findings.list, ..Verdict::default() };
    }
    let bytes = decompress(head, body.bytes, &mut findings);
    let events = match str::from_utf8(&bytes) {
        Ok(text) if findings.refusal().is_none() => judge_text(expectations, route, text, &mut findings),
        Ok(_) => Vec::new(),
        Err(error) => {
            findings.refuse(400, format!("not UTF-8 from byte {}", error.valid_up_to()));
            Vec::new()
        }
    };
    Verdict { body: bytes, events, violations: findings.list }
}

/// Collects what is wrong, with where it is wrong.
#[derive(Debug, Default)]
struct Findings {
    list: Vec<Violation>,
    place: String,
}

impl Findings {
    /// The server refuses the request with this status.
    fn refuse(&mut self, status: u16, text: impl AsRef<str>) {
        self.push(Some(status), text.as_ref());
    }

    /// The server takes it; nobody should send it.
    fn note(&mut self, text: impl AsRef<str>) {
        self.push(None, text.as_ref());
    }

    fn note_unless(&mut self, condition: bool, text: impl AsRef<str>) {
        if !condition {
            self.note(text);
        }
    }

    fn refusal(&self) -> Option<u16> {
        self.list.iter().find_map(|violation| violation.refusal)
    }

    fn push(&mut self, refusal: Option<u16>, text: &str) {
        let separator = if self.place.is_empty() { "" } else { ": " };
        self.list.push(Violation { refusal, text: format!("{}{separator}{text}", self.place) });
    }
}

fn judge_headers(expectations: &Expectations, route: Route, head: &Head, body: &Body, findings: &mut Findings) {
    let count = |name: &str| head.headers.iter().filter(|(key, _)| key == name).count();
    for name in ["host", "content-type", "content-length", "content-encoding", "user-agent"] {
        findings.note_unless(count(name) <= 1, format!("header {name} more than once"));
    }
    findings.note_unless(head.header("host").is_some(), "no Host header");
    let content_type = head.header("content-type").unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    findings.note_unless(media_type == "application/json", format!("Content-Type is {content_type:?}"));
    findings.note_unless(!body.chunked, "no Content-Length: the body came in chunks");
    findings.note_unless(body.chunked || head.header("content-length").is_some(), "no Content-Length");
    findings.note_unless(head.header("authorization").is_none(), "an Authorization header");
    let user_agent = format!("{}/{}", expectations.library, expectations.version);
    let sent = head.header("user-agent").unwrap_or_default();
    findings.note_unless(sent == user_agent, format!("User-Agent is {sent:?} instead of {user_agent:?}"));
    if let Some(encoding) = head.header("content-encoding") {
        findings.note_unless(encoding == "gzip", format!("Content-Encoding is {encoding:?}"));
    }
    findings.note_unless(head.path.ends_with('/'), format!("no slash at the end of {}", head.path));
    match route {
        Route::Flags => findings.note_unless(head.query == "v=2", format!("query {:?} instead of v=2", head.query)),
        Route::Decide => findings.note_unless(head.query == "v=3", format!("query {:?} instead of v=3", head.query)),
        Route::Batch | Route::Definitions | Route::Unknown => {
            findings.note_unless(head.query.is_empty(), format!("query {:?}", head.query))
        }
    }
}

/// Undoes gzip as the server does: the header says it, or the magic bytes do. Other encodings are read as text.
fn decompress(head: &Head, bytes: Vec<u8>, findings: &mut Findings) -> Vec<u8> {
    let declared = head.header("content-encoding") == Some("gzip");
    if !declared && bytes.starts_with(&[0x1f, 0x8b]) {
        findings.note("gzip without Content-Encoding");
    } else if !declared {
        return bytes;
    }
    let mut plain = Vec::new();
    // One byte above the limit tells "full" from "too long".
    let read = GzDecoder::new(bytes.as_slice()).take(BODY_BYTES_MAX as u64 + 1).read_to_end(&mut plain);
    if let Err(error) = read {
        findings.refuse(400, format!("corrupt gzip: {error}"));
        return Vec::new();
    }
    if plain.len() > BODY_BYTES_MAX {
        findings.refuse(413, format!("more than {BODY_BYTES_MAX} bytes when decompressed"));
        return Vec::new();
    }
    plain
}

fn judge_text(expectations: &Expectations, route: Route, text: &str, findings: &mut Findings) -> Vec<Arc<Event>> {
    // serde_json is the judge of what is JSON: raw control bytes, NaN, lone surrogates and numbers beyond f64 fail here.
    let root = match serde_json::from_str::<Value>(text) {
        Ok(root) => root,
        Err(error) => {
            findings.refuse(400, format!("not JSON: {error}"));
            return Vec::new();
        }
    };
    let Value::Object(root) = root else {
        findings.refuse(400, "the body is no object");
        return Vec::new();
    };
    let scan = Scan::of(text);
    judge_duplicates(&scan, findings);
    for (event, escape) in &scan.escapes {
        findings.note(format!("{}: {escape} is escaped needlessly", at(*event)));
    }
    for event in &scan.newlines {
        findings.note(format!("{}: a raw newline between its tokens", at(Some(*event))));
    }
    match route {
        Route::Flags | Route::Decide => {
            let token = if route == Route::Flags { "token" } else { "api_key" };
            judge_flags_request(expectations, token, &root, findings);
            Vec::new()
        }
        Route::Batch | Route::Definitions | Route::Unknown => {
            judge_envelope(expectations, text, &root, &scan, findings)
        }
    }
}

/// A key written twice. In the envelope and in an event that is a parse error; in properties the last one wins.
fn judge_duplicates(scan: &Scan, findings: &mut Findings) {
    for duplicate in &scan.duplicates {
        let text = format!("{}: key {:?} twice", at(duplicate.event), duplicate.key);
        match duplicate.place {
            Place::Root | Place::Event => findings.refuse(400, text),
            Place::Properties => findings.note(text),
            // The caller's own objects are the caller's own business.
            Place::Batch | Place::Deep => {}
        }
    }
}

fn judge_envelope(
    expectations: &Expectations,
    text: &str,
    root: &Map<String, Value>,
    scan: &Scan,
    findings: &mut Findings,
) -> Vec<Arc<Event>> {
    for key in root.keys() {
        let known = matches!(key.as_str(), "api_key" | "batch" | "historical_migration" | "sent_at");
        findings.note_unless(known, format!("unknown key {key:?} in the envelope"));
    }
    match root.get("historical_migration") {
        None | Some(Value::Bool(true)) => {}
        Some(Value::Bool(false)) => findings.note("historical_migration is sent although it is false"),
        Some(_) => findings.refuse(400, "historical_migration is no boolean"),
    }
    judge_sent_at(expectations, root.get("sent_at"), findings);
    judge_api_key(expectations, root, findings);
    let batch = match root.get("batch") {
        Some(Value::Array(batch)) if !batch.is_empty() => batch,
        Some(Value::Array(_)) => {
            findings.refuse(400, "request holds no event");
            return Vec::new();
        }
        _ => {
            findings.refuse(400, "batch is no array");
            return Vec::new();
        }
    };
    let mut events = Vec::with_capacity(batch.len());
    for (index, (value, span)) in batch.iter().zip(&scan.events).enumerate() {
        let text = text.get(span.clone()).unwrap_or_default().to_owned();
        let event = Event { value: value.clone(), text, span: span.clone() };
        findings.place = format!("batch[{index}] {:?}", event.name());
        if event.text.len() > EVENT_BYTES_MAX {
            findings.refuse(413, format!("an event of {} bytes", event.text.len()));
        }
        event::judge(expectations, &event, findings);
        events.push(Arc::new(event));
    }
    findings.place.clear();
    judge_repeated_uuids(&events, findings);
    events
}

fn judge_sent_at(expectations: &Expectations, sent_at: Option<&Value>, findings: &mut Findings) {
    match (sent_at, expectations.sent_at) {
        (None, false) => {}
        (None, true) => findings.note("sent_at is missing"),
        (Some(_), false) => findings.note("sent_at is sent although it is off"),
        (Some(Value::String(text)), true) if event::is_utc_timestamp(text) => {}
        (Some(other), true) => findings.note(format!("sent_at is {other}")),
    }
}

fn judge_api_key(expectations: &Expectations, root: &Map<String, Value>, findings: &mut Findings) {
    let key = match root.get("api_key") {
        Some(Value::String(key)) => key,
        Some(_) => return findings.refuse(400, "api_key is no string"),
        None => return findings.refuse(401, "api_key is missing"),
    };
    let trimmed = key.trim();
    if trimmed.is_empty() {
        findings.refuse(401, "api_key is empty");
    } else if trimmed.len() > API_KEY_BYTES_MAX {
        findings.refuse(401, format!("api_key has {} bytes", trimmed.len()));
    } else if !trimmed.is_ascii() || trimmed.contains('\0') {
        findings.refuse(401, "api_key is not printable ASCII");
    } else if trimmed.starts_with("phx_") {
        findings.refuse(401, "api_key is a personal one, which is a secret");
    }
    // Only the newest servers trim.
    findings.note_unless(trimmed.len() == key.len(), "api_key has white space around it");
    if let Some(expected) = &expectations.api_key {
        findings.note_unless(expected == key, format!("api_key is {key:?} instead of {expected:?}"));
    }
}

fn judge_repeated_uuids(events: &[Arc<Event>], findings: &mut Findings) {
    let mut uuids: Vec<&str> = events.iter().map(|event| event.uuid()).filter(|uuid| !uuid.is_empty()).collect();
    uuids.sort_unstable();
    for (one, next) in uuids.iter().zip(uuids.iter().skip(1)) {
        findings.note_unless(one != next, format!("uuid {one} twice in a batch"));
    }
}

/// A secret in the header, the token in the query, and nothing else.
fn judge_definitions_request(expectations: &Expectations, head: &Head, findings: &mut Findings) {
    let secret = head.header("authorization").and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    if !secret.starts_with("phs_") && !secret.starts_with("phx_") {
        findings.refuse(401, "no secret key in the Authorization header");
    }
    let mut query = head.query.split('&');
    match query.next().and_then(|first| first.strip_prefix("token=")) {
        Some(token) => {
            let wrong = expectations.api_key.as_ref().is_some_and(|expected| expected != token);
            findings.note_unless(!wrong, format!("token is {token:?}"));
        }
        None => findings.refuse(401, "no token in the query"),
    }
    findings.note_unless(query.next() == Some("send_cohorts"), "the query does not ask for cohorts");
    findings.note_unless(head.header("content-type").is_none(), "a Content-Type without content");
}

fn judge_flags_request(
    expectations: &Expectations,
    token_key: &str,
    root: &Map<String, Value>,
    findings: &mut Findings,
) {
    match root.get(token_key) {
        Some(Value::String(token)) => {
            let wrong = expectations.api_key.as_ref().is_some_and(|expected| expected != token);
            findings.note_unless(!wrong, format!("token is {token:?}"));
            if token.trim().is_empty() {
                findings.refuse(401, "token is empty");
            }
        }
        _ => findings.refuse(401, format!("{token_key} is no string")),
    }
    match root.get("distinct_id") {
        Some(Value::String(id)) => findings.note_unless(!id.trim().is_empty(), "distinct_id is blank"),
        _ => findings.refuse(400, "distinct_id is no string"),
    }
    for key in ["groups", "group_properties"] {
        findings.note_unless(root.get(key).is_some_and(Value::is_object), format!("{key} is no object"));
    }
    let geoip = root.get("geoip_disable").is_some_and(Value::is_boolean);
    findings.note_unless(geoip, "geoip_disable is no boolean");
    findings.note_unless(!root.contains_key("disable_geoip"), "disable_geoip: the server ignores that spelling");
}

fn at(event: Option<usize>) -> String {
    event.map_or_else(|| "envelope".to_owned(), |index| format!("batch[{index}]"))
}
