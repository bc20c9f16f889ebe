//! The harness's mock PostHog server, rebuilt: what it answers, what it records, and how it treats connections.
//!
//! In: the client's requests. Out: for each test, what arrived, in order.
//!
//! Like the original it files requests and takes scripted answers by the header `X-Test-Id`, answers 200 `{"status":1}`
//! when nothing is scripted, unpacks gzip if the header says so, and closes the connection after each answer without
//! saying so first: a client that keeps connections finds a dead one at its next request.

use std::collections::{HashMap, VecDeque};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use serde_json::Value;

use super::http::Message;

/// A scripted answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    status: u16,
    retry_after: Option<&'static str>,
    body: Option<&'static str>,
}

impl Answer {
    pub(crate) fn with_retry_after(status: u16, seconds: &'static str) -> Self {
        Self { status, retry_after: Some(seconds), body: None }
    }

    /// 200 with this body.
    pub(crate) fn with_body(body: &'static str) -> Self {
        Self { status: 200, retry_after: None, body: Some(body) }
    }
}

impl From<u16> for Answer {
    fn from(status: u16) -> Self {
        Self { status, retry_after: None, body: None }
    }
}

/// A request to a path that exists.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) at: Instant,
    pub(crate) path: String,
    /// Without its `?`.
    pub(crate) query: String,
    pub(crate) authorization: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) content_encoding: Option<String>,
    pub(crate) body: Value,
    /// What it was answered with.
    pub(crate) status: u16,
}

impl Recorded {
    /// Whether it asks for flags.
    pub(crate) fn is_flags(&self) -> bool {
        self.path.trim_end_matches('/') == "/flags"
    }

    /// The events of the request, however many.
    pub(crate) fn events(&self) -> &[Value] {
        self.body["batch"].as_array().expect("a batch")
    }

    /// One field of every event.
    pub(crate) fn all(&self, field: &str) -> Vec<&str> {
        self.events().iter().map(|event| event[field].as_str().expect(field)).collect()
    }
}

/// A running mock server. Dropping it ends it.
pub(crate) struct Mock {
    shared: Arc<Shared>,
    address: SocketAddr,
}

struct Shared {
    partitions: Mutex<HashMap<Option<String>, Partition>>,
    stopping: AtomicBool,
}

/// What belongs to one test, or with `None`, to the sequential mode.
#[derive(Default)]
struct Partition {
    script: VecDeque<Answer>,
    requests: Vec<Recorded>,
}

impl Mock {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { partitions: Mutex::default(), stopping: AtomicBool::new(false) });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.stopping.load(Ordering::SeqCst) {
                    return;
                }
                let (stream, shared) = (stream.unwrap(), Arc::clone(&accepting));
                thread::spawn(move || shared.serve(&stream));
            }
        });
        Self { shared, address }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn script(&self, id: Option<&str>, answers: impl Iterator<Item = Answer>) {
        self.shared.lock().entry(id.map(str::to_owned)).or_default().script.extend(answers);
    }

    pub(crate) fn forget(&self, id: Option<&str>) {
        self.shared.lock().remove(&id.map(str::to_owned));
    }

    pub(crate) fn requests(&self, id: Option<&str>) -> Vec<Recorded> {
        let partitions = self.shared.lock();
        partitions.get(&id.map(str::to_owned)).map(|partition| partition.requests.clone()).unwrap_or_default()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<Option<String>, Partition>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One request, one answer, and the end of the connection.
    fn serve(&self, mut stream: &TcpStream) {
        let Some(request) = Message::read(stream) else { return };
        let at = Instant::now();
        let answer = self.record(&request, at);
        let retry_after = answer.retry_after.map(|seconds| format!("Retry-After: {seconds}\r\n")).unwrap_or_default();
        let is_flags = request.first_line.starts_with("POST /flags");
        let body = match answer.body {
            Some(body) => body,
            None if answer.status >= 400 => r#"{"error":"Server error"}"#,
            None if is_flags => r#"{"featureFlags":{},"featureFlagPayloads":{},"errorsWhileComputingFlags":false}"#,
            None => r#"{"status":1}"#,
        };
        let answer = format!(
            "HTTP/1.1 {} X\r\nContent-Type: application/json\r\n{retry_after}Content-Length: {}\r\n\r\n{body}",
            answer.status,
            body.len()
        );
        let _ = stream.write_all(answer.as_bytes());
    }

    fn record(&self, request: &Message, at: Instant) -> Answer {
        let target = request.first_line.strip_prefix("POST ").and_then(|line| line.strip_suffix(" HTTP/1.1"));
        let (path, query) = target.map(|target| target.split_once('?').unwrap_or((target, ""))).unwrap_or_default();
        if !matches!(path, "/batch" | "/batch/" | "/flags" | "/flags/") {
            return Answer::from(404);
        }
        let content_encoding = request.header("content-encoding").map(str::to_owned);
        let mut text = Vec::new();
        match content_encoding.as_deref() {
            Some("gzip") => {
                flate2::read::GzDecoder::new(&request.body[..]).read_to_end(&mut text).unwrap();
            }
            _ => text.extend_from_slice(&request.body),
        }
        let body = serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{error}: {:?}", request.body));
        let mut partitions = self.lock();
        let partition = partitions.entry(request.header("x-test-id").map(str::to_owned)).or_default();
        let answer = partition.script.pop_front().unwrap_or(Answer::from(200));
        let content_type = request.header("content-type").map(str::to_owned);
        partition.requests.push(Recorded {
            at,
            path: path.to_owned(),
            query: query.to_owned(),
            authorization: request.header("authorization").map(str::to_owned),
            content_type,
            content_encoding,
            body,
            status: answer.status,
        });
        answer
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Accepting has no timeout: a last connection wakes it.
        let _ = TcpStream::connect(self.address);
    }
}
