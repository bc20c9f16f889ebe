//! A small PostHog on the loopback: HTTP in, judgement, a scripted answer and a record out.
//!
//! ```text
//!  socket ─▶ http: head, body ─▶ rules: what PostHog would say ─▶ script: what is said instead ─▶ socket
//!                                                       └──────────▶ record: everything, for the test to ask
//! ```
//!
//! It serves `POST /batch/`, `/flags/` and `/decide/`, and `GET /flags/definitions` (with or without the final slash, below
//! a base path if one is set); anything else is 404. It is stricter than PostHog: what the server would silently repair, cut
//! or drop is a *violation* too, although the answer stays what the server would give. [`Sink::assert_clean`] at the end of
//! a test shows them all.
//!
//! Concurrency: a thread accepts, a thread serves each connection, one mutex holds script and record. A request is in
//! the record before its answer is sent. Dropping the sink ends all threads.

mod fast;
mod http;
mod nowhere;
mod record;
mod rules;
mod script;
mod server;
#[cfg(test)]
mod tests;

pub use fast::{Count, FastSink, Totals};
pub use nowhere::{NeverAccepts, never_accepts, refuses};
pub use record::{BODY_BYTES_KEPT_MAX, EVENTS_MAX, Event, Journal, REQUESTS_MAX, Request, VIOLATIONS_MAX, Violation};
pub use script::{Answer, Decide, IsPoison, Rule, SILENCE};

use server::{Server, Shared};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A PostHog-compatible server for one test. Dropping it closes every connection and ends its threads.
#[derive(Debug)]
pub struct Sink {
    server: Server,
}

impl Sink {
    /// A strict sink on a free port of the loopback.
    ///
    /// # Panics
    ///
    /// When the loopback has no free port; [`SinkBuilder::start`] reports it instead.
    #[allow(clippy::panic, reason = "a test without its server has nothing to go on with")]
    pub fn start() -> Self {
        Self::builder().start().unwrap_or_else(|error| panic!("no sink on the loopback: {error}"))
    }

    /// A sink with a base path, a port of its own or other expectations.
    pub fn builder() -> SinkBuilder {
        SinkBuilder { expectations: Expectations::default(), port: 0 }
    }

    /// Counts and answers 200, for loads that a judging sink could not take: see [`FastSink`].
    ///
    /// # Panics
    ///
    /// When the loopback has no free port.
    #[allow(clippy::panic, reason = "a test without its server has nothing to go on with")]
    pub fn fast() -> FastSink {
        FastSink::start(Count::Lines).unwrap_or_else(|error| panic!("no sink on the loopback: {error}"))
    }

    /// What a client is given as its host: `http://127.0.0.1:<port>` and the base path.
    pub fn host(&self) -> String {
        format!("http://{}{}", self.addr(), self.shared().expectations.base_path)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Appends answers, to be used up by requests in the order of their arrival; afterwards rules, then judgement.
    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared().lock().script.extend(answers);
    }

    /// Scripted answers that no request has used up yet.
    pub fn script_left(&self) -> usize {
        self.shared().lock().script.len()
    }

    /// Adds a standing rule behind those there are.
    pub fn rule(&self, rule: Rule) {
        self.shared().lock().rules.push(rule);
    }

    /// Drops all rules and all scripted answers.
    pub fn clear_answers(&self) {
        let mut state = self.shared().lock();
        state.script.clear();
        state.rules.clear();
    }

    /// Replaces the document of flag definitions and its `ETag`, which is sent back with 304 to whoever has it.
    pub fn definitions(&self, document: impl Into<String>, etag: impl Into<String>) {
        self.shared().lock().definitions = (document.into(), etag.into());
    }

    /// Replaces the body of the answers to `/flags/` and `/decide/`.
    pub fn flags_answer(&self, body: impl Into<String>) {
        self.shared().lock().flags_answer = body.into();
    }

    /// Looks at the record; the sink waits meanwhile.
    pub fn view<T>(&self, look: impl FnOnce(&Journal) -> T) -> T {
        look(&self.shared().lock().journal)
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Arc<Request>> {
        self.view(|journal| journal.requests().to_vec())
    }

    /// Every event accepted so far, once.
    pub fn stored(&self) -> Vec<Arc<Event>> {
        self.view(|journal| journal.stored().to_vec())
    }

    /// Every broken rule so far.
    pub fn violations(&self) -> Vec<String> {
        self.view(|journal| journal.violations().to_vec())
    }

    /// Ends the test if a rule was broken.
    ///
    /// # Panics
    ///
    /// With all violations, one a line.
    #[track_caller]
    pub fn assert_clean(&self) {
        let violations = self.violations();
        assert!(violations.is_empty(), "the sink saw {} violations:\n{}", violations.len(), violations.join("\n"));
    }

    /// Forgets all requests, events and violations, not the script.
    pub fn forget(&self) {
        self.shared().lock().journal.clear();
    }

    /// Waits until `condition` holds for the record, asked after every request; `false` if `timeout` passed first.
    pub fn wait_for(&self, condition: impl FnMut(&Journal) -> bool, timeout: Duration) -> bool {
        self.shared().wait_for(condition, timeout)
    }

    /// Waits until so many requests, to any path, have been recorded.
    pub fn wait_for_requests(&self, count: usize, timeout: Duration) -> bool {
        self.wait_for(|journal| journal.requests().len() >= count, timeout)
    }

    /// Waits until so many different events have been accepted.
    pub fn wait_for_events(&self, count: usize, timeout: Duration) -> bool {
        self.wait_for(|journal| journal.stored().len() >= count, timeout)
    }

    fn shared(&self) -> &Shared {
        self.server.shared()
    }
}

/// What a sink expects beyond the protocol.
#[derive(Debug)]
pub struct SinkBuilder {
    expectations: Expectations,
    port: u16,
}

impl SinkBuilder {
    /// Serves below this path, such as `/ingest`, as a reverse proxy would. Trailing slashes are cut.
    pub fn base_path(mut self, path: &str) -> Self {
        let path = path.trim_matches('/');
        self.expectations.base_path = if path.is_empty() { String::new() } else { format!("/{path}") };
        self
    }

    /// Makes any other project token a violation. Without it, any token of a valid shape is right.
    pub fn api_key(mut self, api_key: impl Into<String>) -> Self {
        self.expectations.api_key = Some(api_key.into());
        self
    }

    /// Whether batches carry `sent_at`. They must not, unless this was called; then they must.
    pub fn sent_at(mut self) -> Self {
        self.expectations.sent_at = true;
        self
    }

    /// Name and version in `User-Agent`, `$lib` and `$lib_version`; by default `quillet` and the workspace's version.
    pub fn library(mut self, name: impl Into<String>, version: impl Into<String>) -> Self {
        self.expectations.library = name.into();
        self.expectations.version = version.into();
        self
    }

    /// Accepts any `$lib_version`, for events that an older build left behind. `User-Agent` stays checked.
    pub fn any_lib_version(mut self) -> Self {
        self.expectations.any_lib_version = true;
        self
    }

    /// A port of your choice instead of a free one, to come back where an earlier sink was.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Starts listening.
    ///
    /// # Errors
    ///
    /// What the socket says, such as a port in use.
    pub fn start(self) -> io::Result<Sink> {
        Ok(Sink { server: Server::start(self.expectations, self.port)? })
    }
}

/// What the rules need to know about this test.
#[derive(Debug)]
pub(crate) struct Expectations {
    base_path: String,
    api_key: Option<String>,
    sent_at: bool,
    library: String,
    version: String,
    any_lib_version: bool,
}

impl Default for Expectations {
    fn default() -> Self {
        Self {
            base_path: String::new(),
            api_key: None,
            sent_at: false,
            library: "quillet".to_owned(),
            // The whole workspace has one version.
            version: env!("CARGO_PKG_VERSION").to_owned(),
            any_lib_version: false,
        }
    }
}
