//! The sink's threads: one accepts, one serves each connection, from its first request to its close.

use super::Expectations;
use super::http::{Body, Connection, Head};
use super::record::{Journal, Request, Violation};
use super::rules::{self, Route};
use super::script::{self, After, Answer, Judged, Rule};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// Connections served at the same time; more are closed at once, and that is a violation.
const CONNECTIONS_MAX: usize = 512;

/// The accepting thread and everything it started. Dropping it ends them all.
#[derive(Debug)]
pub(super) struct Server {
    shared: Arc<Shared>,
    addr: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(expectations: Expectations, port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            expectations,
            state: Mutex::default(),
            changed: Condvar::new(),
            stopping: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        let acceptor =
            std::thread::Builder::new().name("sink-accept".to_owned()).spawn(move || accept(&accepting, &listener))?;
        Ok(Self { shared, addr, acceptor: Some(acceptor) })
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        {
            let state = self.shared.lock();
            self.shared.stopping.store(true, Ordering::SeqCst);
            for stream in state.connections.values() {
                // It may be gone already, which is as good.
                let _ = stream.shutdown(Shutdown::Both);
            }
            self.shared.changed.notify_all();
        }
        // Accepting has no timeout: a last connection wakes it.
        let _ = TcpStream::connect(self.addr);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// What the threads and the test share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) expectations: Expectations,
    state: Mutex<State>,
    /// Told after every request, and when the sink goes away.
    changed: Condvar,
    stopping: AtomicBool,
}

/// What changes while the sink runs.
#[derive(Debug)]
pub(super) struct State {
    pub(super) journal: Journal,
    pub(super) script: VecDeque<Answer>,
    pub(super) rules: Vec<Rule>,
    pub(super) flags_answer: String,
    /// The document of flag definitions and its `ETag`.
    pub(super) definitions: (String, String),
    connections: HashMap<u64, Arc<TcpStream>>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            journal: Journal::default(),
            script: VecDeque::new(),
            rules: Vec::new(),
            flags_answer: r#"{"featureFlags":{},"featureFlagPayloads":{},"errorsWhileComputingFlags":false}"#
                .to_owned(),
            definitions: (r#"{"flags":[]}"#.to_owned(), "W/\"0\"".to_owned()),
            connections: HashMap::new(),
        }
    }
}

impl Shared {
    /// The state; a test that panicked while looking at it does not take the sink down.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wait_for(&self, mut condition: impl FnMut(&Journal) -> bool, timeout: Duration) -> bool {
        let (state, waited) = self
            .changed
            .wait_timeout_while(self.lock(), timeout, |state| !condition(&state.journal))
            .unwrap_or_else(PoisonError::into_inner);
        drop(state);
        !waited.timed_out()
    }

    /// Lets time pass; `false` if the sink went away meanwhile.
    fn pause(&self, duration: Duration) -> bool {
        let running = |_: &mut State| !self.stopping.load(Ordering::SeqCst);
        let (state, _) =
            self.changed.wait_timeout_while(self.lock(), duration, running).unwrap_or_else(PoisonError::into_inner);
        drop(state);
        !self.stopping.load(Ordering::SeqCst)
    }
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    let mut number = 0_u64;
    loop {
        let accepted = listener.accept();
        threads.retain(|thread| !thread.is_finished());
        let mut state = shared.lock();
        if shared.stopping.load(Ordering::SeqCst) {
            break;
        }
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => {
                state.journal.note(format!("no more connections: {error}"));
                break;
            }
        };
        if threads.len() >= CONNECTIONS_MAX {
            state.journal.note(format!("more than {CONNECTIONS_MAX} connections at once"));
            continue;
        }
        let stream = Arc::new(stream);
        state.connections.insert(number, Arc::clone(&stream));
        drop(state);
        let serving = Arc::clone(shared);
        let thread = std::thread::Builder::new().name(format!("sink-{number}"));
        match thread.spawn(move || serve(&serving, stream, number)) {
            Ok(thread) => threads.push(thread),
            Err(error) => shared.lock().journal.note(format!("no thread for a connection: {error}")),
        }
        number = number.wrapping_add(1);
    }
    for thread in threads {
        let _ = thread.join();
    }
}

fn serve(shared: &Shared, stream: Arc<TcpStream>, number: u64) {
    // The answer is one small segment and the client waits for it.
    let _ = stream.set_nodelay(true);
    let mut connection = Connection::new(stream);
    // NB: declared behind the connection, so gone before it: then dropping the connection is what closes the socket. A
    // close with unread bytes is a reset, and it shall happen now, also when a rule of the test panics.
    let _registered = Registered { shared, number };
    loop {
        match serve_one(shared, &mut connection, number) {
            Ok(After::Keep) => {}
            Ok(After::Close) => break,
            Err(error) => {
                // A client may close or reset whenever it likes; what is not HTTP is another matter.
                if error.kind() == io::ErrorKind::InvalidData {
                    shared.lock().journal.note(format!("connection {number}: {error}"));
                    let judged = Judged::new(400, "not HTTP".to_owned());
                    let _ = script::play(&mut connection, &Answer::AsJudged, &judged, &|_| true);
                }
                break;
            }
        }
    }
}

/// The sink's own handle on a connection, for its last day.
struct Registered<'s> {
    shared: &'s Shared,
    number: u64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.shared.lock().connections.remove(&self.number);
    }
}

/// Reads, judges, records and answers one request.
fn serve_one(shared: &Shared, connection: &mut Connection, number: u64) -> io::Result<After> {
    let Some(head) = connection.read_head()? else { return Ok(After::Close) };
    if head.method == "HEAD" {
        // From a device that wants to know the time: nothing to judge, nothing to record.
        connection.write(&script::time())?;
        return Ok(After::Keep);
    }
    let arrival = Arrival::note(shared, &head, number);
    if arrival.scripted == Some(Answer::ResetMidBody) {
        let body = connection.read_half_a_body(&head, rules::BODY_BYTES_MAX)?;
        let mut request = arrival.request(&head, &body);
        request.body = body.bytes;
        shared.lock().journal.remember(request);
        shared.changed.notify_all();
        return Ok(After::Close);
    }
    let body = connection.read_body(&head, rules::BODY_BYTES_MAX)?;
    let (answer, judged) = decide(shared, &arrival, &head, body);
    // From here on the client may rightly begin its next batch, on another connection if it likes.
    drop(arrival);
    let after = script::play(connection, &answer, &judged, &|time| shared.pause(time))?;
    Ok(if head.closes() { After::Close } else { after })
}

/// Judges the request, chooses the answer and records both.
fn decide(shared: &Shared, arrival: &Arrival<'_>, head: &Head, body: Body) -> (Answer, Judged) {
    let mut request = arrival.request(head, &body);
    let verdict = rules::judge(&shared.expectations, arrival.route, head, body);
    request.body = verdict.body;
    request.events = verdict.events;
    request.violations = verdict.violations;
    let mut state = shared.lock();
    let state = &mut *state;
    let changed = state.journal.compare_with_first_sight(&request.events);
    request.violations.extend(changed);
    let judged = match request.violations.iter().find_map(refusal) {
        Some(refusal) => refusal,
        None => match arrival.route {
            Route::Flags | Route::Decide => Judged::new(200, state.flags_answer.clone()),
            Route::Definitions => {
                let (document, etag) = state.definitions.clone();
                let is_known = head.header("if-none-match") == Some(etag.as_str());
                Judged { etag: Some(etag), ..Judged::new(if is_known { 304 } else { 200 }, document) }
            }
            Route::Batch | Route::Unknown => Judged::new(200, r#"{"status":1}"#.to_owned()),
        },
    };
    let by_rule = |rules: &mut Vec<Rule>| rules.iter_mut().find_map(|rule| rule.answer(&request));
    let answer = arrival.scripted.clone().or_else(|| by_rule(&mut state.rules)).unwrap_or_default();
    request.status = answer.seen_status(judged.status);
    request.stored = arrival.route == Route::Batch && answer.stores(judged.status);
    state.journal.remember(request);
    shared.changed.notify_all();
    (answer, judged)
}

fn refusal(violation: &Violation) -> Option<Judged> {
    let status = violation.refusal?;
    Some(Judged::new(status, violation.text.clone()))
}

/// A request whose head is known and whose answer is not: until this is dropped, it is under way.
struct Arrival<'s> {
    shared: &'s Shared,
    route: Route,
    number: usize,
    connection: u64,
    arrived: Instant,
    arrived_at: SystemTime,
    scripted: Option<Answer>,
}

impl<'s> Arrival<'s> {
    fn note(shared: &'s Shared, head: &Head, connection: u64) -> Self {
        let (arrived, arrived_at) = (Instant::now(), SystemTime::now());
        let route = rules::route(&shared.expectations, head);
        let mut state = shared.lock();
        let number = state.journal.arrive(route == Route::Batch);
        let scripted = state.script.pop_front();
        Self { shared, route, number, connection, arrived, arrived_at, scripted }
    }

    fn request(&self, head: &Head, body: &Body) -> Request {
        Request {
            number: self.number,
            connection: self.connection,
            arrived: self.arrived,
            arrived_at: self.arrived_at,
            method: head.method.clone(),
            path: head.path.clone(),
            query: head.query.clone(),
            headers: head.headers.clone(),
            body: Vec::new(),
            wire_len: body.wire_len,
            events: Vec::new(),
            status: None,
            stored: false,
            violations: Vec::new(),
        }
    }
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        if self.route == Route::Batch {
            self.shared.lock().journal.leave();
        }
    }
}
