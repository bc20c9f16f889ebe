//! What the official harness is, as far as these tests need it: a running adapter, a mock server, and a test's view of both.
//!
//! In: a test's steps. Out: the requests that the client made for this test.
//!
//! Tests with an id share one adapter and one mock server, as in the harness's parallel mode, for as long as any of them
//! runs; a test without one ([`Test::alone`]) has both for itself.

pub(crate) mod adapter;
pub(crate) mod http;
pub(crate) mod mock;
pub(crate) mod parallel;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use serde_json::{Value, json};

use adapter::Adapter;
use mock::{Answer, Mock, Recorded};

/// The project token of a test that does not care.
pub(crate) const API_KEY: &str = "phc_test_key";

/// How long the harness waits before it believes that nothing more is coming.
const QUIET: Duration = Duration::from_secs(2);

/// Both servers. Dropping it ends them.
pub(crate) struct Servers {
    // In this order: a client that loses its server would try again.
    pub(crate) adapter: Adapter,
    pub(crate) mock: Mock,
}

impl Servers {
    fn start() -> Self {
        Self { adapter: Adapter::start(), mock: Mock::start() }
    }

    /// Those of the parallel mode, started if nobody uses them at this moment.
    fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Servers>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let servers = Arc::new(Self::start());
            *shared = Arc::downgrade(&servers);
            servers
        })
    }
}

/// One test: its servers, and its id at both.
#[derive(Clone)]
pub(crate) struct Test {
    pub(crate) servers: Arc<Servers>,
    id: Option<String>,
}

impl Test {
    /// A test of the parallel mode.
    pub(crate) fn parallel(name: &str) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self::begin(Servers::shared(), Some(format!("t-{name}-{number}")))
    }

    /// A test of the sequential mode, which has no id.
    pub(crate) fn alone() -> Self {
        Self::begin(Arc::new(Servers::start()), None)
    }

    fn begin(servers: Arc<Servers>, id: Option<String>) -> Self {
        let test = Self { servers, id };
        test.reset();
        test
    }

    /// What the mock server answers to this test's next requests; then 200 again.
    pub(crate) fn script(&self, answers: impl IntoIterator<Item = impl Into<Answer>>) {
        self.servers.mock.script(self.id.as_deref(), answers.into_iter().map(Into::into));
    }

    /// `POST /init` with these options besides token and host.
    pub(crate) fn init(&self, options: Value) {
        let mut body = json!({ "api_key": API_KEY, "host": self.servers.mock.url() });
        body.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        assert_eq!(self.post("/init", Some(&body)), json!({ "success": true }));
    }

    /// `POST /capture` as the harness words it when a test gives neither properties nor a time. Returns the uuid.
    pub(crate) fn capture(&self, event: &str) -> String {
        self.capture_with(event, Value::Null, Value::Null)
    }

    pub(crate) fn capture_with(&self, event: &str, properties: Value, timestamp: Value) -> String {
        let body = json!({
            "distinct_id": "test_user",
            "event": event,
            "properties": properties,
            "timestamp": timestamp,
        });
        let answer = self.post("/capture", Some(&body));
        assert_eq!(answer["success"], true);
        answer["uuid"].as_str().expect("a uuid").to_owned()
    }

    /// Events called `test_event_0`, `test_event_1` and so on.
    pub(crate) fn capture_many(&self, count: usize) -> Vec<String> {
        (0..count).map(|at| self.capture(&format!("test_event_{at}"))).collect()
    }

    /// `POST /flush`; returns how many events it says were delivered.
    pub(crate) fn flush(&self) -> u64 {
        let answer = self.post("/flush", None);
        assert_eq!(answer["success"], true);
        answer["events_flushed"].as_u64().expect("a number")
    }

    /// `POST /get_feature_flag` as the harness words it, with these further fields; returns the value.
    pub(crate) fn feature_flag(&self, key: &str, more: Value) -> Value {
        let mut body = json!({ "key": key, "distinct_id": "test_user", "force_remote": true });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = self.post("/get_feature_flag", Some(&body));
        assert_eq!(answer["success"], true);
        answer["value"].clone()
    }

    pub(crate) fn state(&self) -> Value {
        self.servers.adapter.call("GET", &self.path("/state"), None).expect_ok()
    }

    pub(crate) fn reset(&self) {
        assert_eq!(self.post("/reset", None), json!({ "success": true }));
    }

    /// Empties the mock server: what arrives from now on counts for the next test.
    pub(crate) fn forget(&self) {
        self.servers.mock.forget(self.id.as_deref());
    }

    /// This test's requests at the mock server so far.
    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.servers.mock.requests(self.id.as_deref())
    }

    /// The requests, of which there must be so many, also after a while: nothing is left that could still be sent.
    pub(crate) fn exactly(&self, count: usize) -> Vec<Recorded> {
        assert_eq!(self.state()["pending_events"], 0);
        std::thread::sleep(QUIET);
        let requests = self.requests();
        assert_eq!(requests.len(), count, "requests");
        requests
    }

    /// Waits for the mock server to have received so many requests.
    pub(crate) fn wait_for_requests(&self, count: usize, timeout: Duration) {
        let deadline = std::time::Instant::now() + timeout;
        while self.requests().len() < count {
            assert!(std::time::Instant::now() < deadline, "{count} requests within {timeout:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn post(&self, path: &str, body: Option<&Value>) -> Value {
        self.servers.adapter.call("POST", &self.path(path), body).expect_ok()
    }

    /// With the test's id, if it has one.
    pub(crate) fn path(&self, path: &str) -> String {
        match &self.id {
            Some(id) => format!("{path}?test_id={id}"),
            None => path.to_owned(),
        }
    }
}
