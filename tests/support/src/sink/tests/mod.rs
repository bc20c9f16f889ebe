//! The sink tested from outside: raw HTTP over a socket in, answers and records out.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod exceptions;
mod rules;
mod script;

use super::*;
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

const TIMEOUT: Duration = Duration::from_secs(10);
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A client that sends exactly what it is told to.
struct Client {
    stream: TcpStream,
}

#[derive(Debug, PartialEq, Eq)]
struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Client {
    fn of(sink: &Sink) -> Self {
        let stream = TcpStream::connect(sink.addr()).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        Self { stream }
    }

    /// A request in perfect order, around this body.
    fn post(&mut self, body: impl AsRef<[u8]>) -> io::Result<Reply> {
        self.post_with("/batch/", &[], body)
    }

    /// The same with other headers: a name alone removes a header, others replace or add.
    fn post_with(&mut self, target: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> io::Result<Reply> {
        let (length, user_agent) = (body.as_ref().len().to_string(), format!("quillet/{VERSION}"));
        let standard = [
            ("Host", "localhost"),
            ("Content-Type", "application/json"),
            ("User-Agent", user_agent.as_str()),
            ("Content-Length", length.as_str()),
        ];
        let replaced = |name: &str| headers.iter().any(|(other, _)| *other == name);
        let kept = standard.into_iter().filter(|(name, _)| !replaced(name));
        let mut head = format!("POST {target} HTTP/1.1\r\n");
        for (name, value) in kept.chain(headers.iter().copied().filter(|(_, value)| !value.is_empty())) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        self.send([head.as_bytes(), b"\r\n", body.as_ref()].concat())?;
        self.reply()
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    fn reply(&mut self) -> io::Result<Reply> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            head.extend(byte);
        }
        let head = String::from_utf8(head).map_err(|_| ErrorKind::InvalidData)?;
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest[..3].parse().ok());
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        self.stream.read_exact(&mut body)?;
        Ok(Reply { status: status.ok_or(ErrorKind::InvalidData)?, head, body: String::from_utf8(body).unwrap() })
    }
}

/// An event that breaks no rule, with a uuid made of `number`.
fn event(number: u64) -> Value {
    json!({
        "uuid": format!("0195506e-1f00-7c3a-9a55-{number:012x}"),
        "timestamp": "2026-03-01T12:00:01.250000Z",
        "event": "order placed",
        "distinct_id": "customer-7",
        "properties": {"$lib": "quillet", "$lib_version": VERSION, "total": 12.5},
    })
}

fn batch(events: &[Value]) -> String {
    let events: Vec<String> = events.iter().map(Value::to_string).collect();
    format!(r#"{{"api_key":"phc_test","batch":[{}]}}"#, events.join(",\n"))
}

/// A change to an event in order.
type Change = fn(&mut Value);

fn changed(change: Change) -> Value {
    let mut event = event(1);
    change(&mut event);
    event
}

fn remove(object: &mut Value, key: &str) {
    object.as_object_mut().unwrap().remove(key);
}

/// Sends one body and answers the status and the violations.
fn judge(body: impl AsRef<[u8]>) -> (u16, Vec<String>) {
    let sink = Sink::start();
    let status = Client::of(&sink).post(body).unwrap().status;
    (status, sink.violations())
}

#[track_caller]
fn assert_accepted(body: impl AsRef<[u8]>, what: &str) {
    assert_eq!(judge(body), (200, Vec::new()), "{what}");
}

/// Exactly one violation, with `text` in it.
#[track_caller]
fn assert_violation(body: impl AsRef<[u8]>, status: u16, text: &str) {
    let (answered, violations) = judge(body);
    assert!(violations.len() == 1 && violations[0].contains(text), "{text:?} is not the only one of {violations:?}");
    assert_eq!(answered, status, "{violations:?}");
}

#[test]
fn a_batch_in_order_is_stored_and_recorded() {
    let sink = Sink::start();
    let mut client = Client::of(&sink);
    let body = batch(&[event(1), event(2)]);
    let reply = client.post(&body).unwrap();
    assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"status":1}"#));
    client.post(batch(&[event(3)])).unwrap();
    sink.assert_clean();
    let requests = sink.requests();
    assert_eq!(requests.iter().map(|request| request.number).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(requests[0].connection, requests[1].connection);
    assert!(requests[0].arrived <= requests[1].arrived);
    let first = &requests[0];
    assert_eq!((first.status, first.stored, first.wire_len), (Some(200), true, body.len()));
    assert_eq!((first.path.as_str(), first.query.as_str(), first.method.as_str()), ("/batch/", "", "POST"));
    assert_eq!(first.header("content-type"), Some("application/json"));
    assert_eq!(first.body, body.as_bytes());
    assert_eq!(first.events[1].text, event(2).to_string());
    assert_eq!(&body[first.events[1].span.clone()], first.events[1].text);
    assert_eq!(first.events[1].value, event(2));
    assert_eq!(first.events[0].property("total"), &json!(12.5));
    assert_eq!(sink.stored().len(), 3);
    sink.view(|journal| {
        assert_eq!((journal.duplicates(), journal.most_at_once(), journal.gaps().len()), (0, 1, 1));
    });
    sink.forget();
    assert!(sink.requests().is_empty() && sink.stored().is_empty());
}

#[test]
fn chunked_and_compressed_bodies_are_read() {
    let sink = Sink::start();
    let mut client = Client::of(&sink);
    let body = batch(&[event(1)]);
    let (one, two) = body.split_at(7);
    let chunks = format!("7;ext=1\r\n{one}\r\n{:X}\r\n{two}\r\n0\r\n\r\n", two.len());
    let headers = [("Content-Length", ""), ("Transfer-Encoding", "chunked")];
    assert_eq!(client.post_with("/batch/", &headers, chunks).unwrap().status, 200);
    assert_eq!(sink.violations(), ["request 0: no Content-Length: the body came in chunks"]);
    assert_eq!(sink.requests()[0].body, body.as_bytes());
    sink.forget();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body.as_bytes()).unwrap();
    let gzip = encoder.finish().unwrap();
    assert_eq!(client.post_with("/batch/", &[("Content-Encoding", "gzip")], &gzip).unwrap().status, 200);
    sink.assert_clean();
    let requests = sink.requests();
    assert_eq!((requests[0].body.as_slice(), requests[0].wire_len), (body.as_bytes(), gzip.len()));
    let headers = [("Content-Encoding", "gzip"), ("Expect", "100-continue")];
    assert_eq!(client.post_with("/batch/", &headers, &gzip).unwrap().status, 100);
    assert_eq!(client.reply().unwrap().status, 200);
}

#[test]
fn a_head_that_comes_byte_by_byte_is_read() {
    let sink = Sink::start();
    let mut client = Client::of(&sink);
    client.stream.set_nodelay(true).unwrap();
    let body = batch(&[event(1)]);
    let head = format!(
        "POST /batch/ HTTP/1.1\r\nHost: x\r\nContent-Type: application/json; charset=utf-8\r\nUser-Agent: \
         quillet/{VERSION}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    for byte in head.bytes().chain(body.bytes()) {
        client.send([byte]).unwrap();
    }
    assert_eq!(client.reply().unwrap().status, 200);
    sink.assert_clean();
}

#[test]
fn waiting_ends_with_the_event_or_with_the_timeout() {
    let sink = Sink::start();
    assert!(!sink.wait_for_requests(1, Duration::from_millis(1)));
    std::thread::scope(|scope| {
        scope.spawn(|| Client::of(&sink).post(batch(&[event(1), event(2)])).unwrap());
        assert!(sink.wait_for_events(2, TIMEOUT));
        assert!(sink.wait_for_requests(1, TIMEOUT));
        assert!(sink.wait_for(|journal| journal.times_stored(event(1)["uuid"].as_str().unwrap()) == 1, TIMEOUT));
    });
}

#[test]
fn a_base_path_is_part_of_the_host_and_of_the_routes() {
    let sink = Sink::builder().base_path("/ingest/").api_key("phc_test").start().unwrap();
    assert!(sink.host().ends_with("/ingest"));
    let mut client = Client::of(&sink);
    assert_eq!(client.post_with("/ingest/batch/", &[], batch(&[event(1)])).unwrap().status, 200);
    sink.assert_clean();
    assert_eq!(client.post(batch(&[event(1)])).unwrap().status, 404);
    assert_eq!(sink.violations(), ["request 1: nothing is served at POST /batch/ (404)"]);
}

#[test]
fn flags_are_answered() {
    let sink = Sink::start();
    let mut client = Client::of(&sink);
    let body = r#"{"token":"phc_test","distinct_id":"a","groups":{},"group_properties":{},"geoip_disable":false}"#;
    let reply = client.post_with("/flags/?v=2", &[], body).unwrap();
    assert_eq!((reply.status, reply.body.starts_with(r#"{"featureFlags":{}"#)), (200, true));
    sink.flags_answer(r#"{"flags":{}}"#);
    assert_eq!(client.post_with("/flags/?v=2", &[], body).unwrap().body, r#"{"flags":{}}"#);
    sink.assert_clean();
    let wrong = r#"{"distinct_id":"a","groups":null,"disable_geoip":true}"#;
    assert_eq!(client.post_with("/flags/", &[("Authorization", "Bearer x")], wrong).unwrap().status, 401);
    assert_eq!(sink.violations().len(), 7);
}

#[test]
fn the_older_endpoint_knows_the_token_by_another_name() {
    let sink = Sink::builder().api_key("phc_test").start().unwrap();
    let mut client = Client::of(&sink);
    let body = r#"{"api_key":"phc_test","distinct_id":"a","groups":{},"group_properties":{},"geoip_disable":false}"#;
    assert_eq!(client.post_with("/decide/?v=3", &[], body).unwrap().status, 200);
    sink.assert_clean();
    assert_eq!(client.post_with("/decide/?v=2", &[], body.replace("api_key", "token")).unwrap().status, 401);
    assert_eq!(sink.violations().len(), 2);
    assert!(sink.requests().iter().all(|request| request.is_flags() && !request.is_definitions()));
}

#[test]
fn what_is_not_http_is_answered_and_noted() {
    for nonsense in ["\r\n\r\n", "GET / HTTP/1.0\r\n\r\n", "POST /batch/ HTTP/1.1\r\nno colon\r\n\r\n"] {
        let sink = Sink::start();
        let mut client = Client::of(&sink);
        client.send(nonsense).unwrap();
        assert_eq!(client.reply().unwrap().status, 400, "{nonsense:?}");
        assert_eq!(sink.violations().len(), 1);
    }
}

#[test]
fn dropping_the_sink_ends_open_connections() {
    let sink = Sink::start();
    sink.script([Answer::NoAnswer]);
    let mut idle = Client::of(&sink);
    let mut unanswered = Client::of(&sink);
    let body = batch(&[event(1)]);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| unanswered.post(&body));
        assert!(sink.wait_for_requests(1, TIMEOUT));
        drop(sink);
        assert!(waiting.join().unwrap().is_err());
    });
    assert!(idle.post(&body).is_err());
}

#[test]
fn a_sink_can_come_back_where_it_was() {
    let sink = Sink::start();
    let port = sink.addr().port();
    Client::of(&sink).post(batch(&[event(1)])).unwrap();
    drop(sink);
    let sink = Sink::builder().port(port).start().unwrap();
    assert_eq!(Client::of(&sink).post(batch(&[event(1)])).unwrap().status, 200);
}
