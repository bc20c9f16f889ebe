//! A transport that keeps what it is given, and answers what it is told to.
//!
//! Input: batches and requests about flags, and scripts of answers. Output: the recorded requests. For tests, of this crate
//! and of yours.

#[cfg(feature = "test-util")]
mod sent;

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use quillet_core::{Batch, Outcome, Transport, Uuid};

#[cfg(feature = "test-util")]
pub use self::sent::SentEvent;
use crate::transport::flags::{FlagFailure, FlagRequest, FlagResponse, FlagTransport};

/// Records every request in memory instead of sending it. Clones share one record and one script.
///
/// Without a script every request is answered with 200. It keeps everything until [`clear`](Self::clear) is called, so
/// its memory is bounded by the test alone.
///
/// ```
/// use quillet::transport::memory::MemoryTransport;
///
/// let memory = MemoryTransport::new();
/// let builder = quillet::ClientBuilder::new("phc_test").transport(memory.clone());
/// # drop(builder);
/// assert!(memory.events().is_empty());
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryTransport(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    requests: Vec<RecordedRequest>,
    script: VecDeque<Outcome>,
    otherwise: Outcome,
    flag_requests: Vec<RecordedFlagRequest>,
    flag_script: VecDeque<Result<FlagResponse, FlagFailure>>,
    flag_answer: FlagResponse,
}

/// One request as it would have gone out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordedRequest {
    /// The whole body, without `sent_at`.
    pub body: Vec<u8>,
    /// The JSON of each event in it.
    pub events: Vec<String>,
    /// The uuid of each event in it.
    pub uuids: Vec<Uuid>,
    /// Which attempt at these events it was, from 1.
    pub attempt: u32,
    /// What it was answered with.
    pub outcome: Outcome,
}

/// One request about flags as it would have gone out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordedFlagRequest {
    /// Path and query.
    pub target: String,
    /// The body; `None` for a `GET`.
    pub body: Option<String>,
    /// The secret it was made with.
    pub secret: Option<String>,
    /// The `If-None-Match` header.
    pub etag: Option<String>,
}

impl MemoryTransport {
    /// An empty record; every request is answered with 200.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `outcome` to the script: each one answers one request, in the order in which they were added.
    pub fn answer(&self, outcome: Outcome) {
        self.lock().script.push_back(outcome);
    }

    /// What answers requests once the script is used up. 200 unless set.
    pub fn answer_otherwise(&self, outcome: Outcome) {
        self.lock().otherwise = outcome;
    }

    /// The body that answers requests about flags, with status 200. Unless set, there are no flags.
    ///
    /// It answers those of a client that was given a clone of this as its
    /// [`flag_transport`](crate::ClientBuilder::flag_transport).
    pub fn answer_flags(&self, body: impl Into<String>) {
        self.lock().flag_answer = FlagResponse::new(200, body.into());
    }

    /// Adds to the script for requests about flags: each answer is used once, before what [`answer_flags`](Self::answer_flags)
    /// said.
    pub fn answer_flags_once(&self, answer: Result<FlagResponse, FlagFailure>) {
        self.lock().flag_script.push_back(answer);
    }

    /// Every request about flags so far.
    pub fn flag_requests(&self) -> Vec<RecordedFlagRequest> {
        self.lock().flag_requests.clone()
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.lock().requests.clone()
    }

    /// The JSON of every event in a request that was answered with 2xx: what PostHog would have. An event that was
    /// sent twice stands here twice.
    pub fn events(&self) -> Vec<String> {
        let state = self.lock();
        state.delivered().flat_map(|request| request.events.iter().cloned()).collect()
    }

    /// The uuids of the same events.
    pub fn uuids(&self) -> Vec<Uuid> {
        let state = self.lock();
        state.delivered().flat_map(|request| request.uuids.iter().copied()).collect()
    }

    /// Waits until [`events`](Self::events) would return `events` or more. `false` if `timeout` was over first.
    pub fn wait_for_events(&self, events: usize, timeout: Duration) -> bool {
        self.wait(timeout, |state| state.delivered().map(|request| request.events.len()).sum::<usize>() >= events)
    }

    /// Waits until there were `requests` or more, however they were answered. `false` if `timeout` was over first.
    pub fn wait_for_requests(&self, requests: usize, timeout: Duration) -> bool {
        self.wait(timeout, |state| state.requests.len() >= requests)
    }

    /// Forgets the requests. The script stays.
    pub fn clear(&self) {
        let mut state = self.lock();
        state.requests.clear();
        state.flag_requests.clear();
    }

    fn wait(&self, timeout: Duration, reached: impl Fn(&State) -> bool) -> bool {
        let started = Instant::now();
        let mut state = self.lock();
        while !reached(&state) {
            let Some(left) = timeout.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) else {
                return false;
            };
            state = self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// A test that failed while it held the lock has left a state that is whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transport for MemoryTransport {
    fn send(&mut self, batch: &Batch<'_>) -> Outcome {
        let mut state = self.lock();
        let outcome = state.script.pop_front().unwrap_or(state.otherwise);
        state.requests.push(RecordedRequest {
            body: batch.body(None).chunks().flatten().copied().collect(),
            events: batch.frames().map(|frame| String::from_utf8_lossy(frame).into_owned()).collect(),
            uuids: batch.uuids().collect(),
            attempt: batch.attempt(),
            outcome,
        });
        drop(state);
        self.0.changed.notify_all();
        outcome
    }
}

impl FlagTransport for MemoryTransport {
    fn ask(&self, request: &FlagRequest<'_>) -> Result<FlagResponse, FlagFailure> {
        let mut state = self.lock();
        state.flag_requests.push(RecordedFlagRequest {
            target: request.target.to_owned(),
            body: request.body.map(|body| String::from_utf8_lossy(body).into_owned()),
            secret: request.secret.map(str::to_owned),
            etag: request.etag.map(str::to_owned),
        });
        let answer = state.flag_script.pop_front().unwrap_or_else(|| Ok(state.flag_answer.clone()));
        drop(state);
        self.0.changed.notify_all();
        answer
    }
}

impl State {
    fn delivered(&self) -> impl Iterator<Item = &RecordedRequest> {
        self.requests.iter().filter(|request| match &request.outcome {
            Outcome::Answered(answer) => (200..300).contains(&answer.status) && !answer.html,
            _ => false,
        })
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            requests: Vec::new(),
            script: VecDeque::new(),
            otherwise: Outcome::status(200),
            flag_requests: Vec::new(),
            flag_script: VecDeque::new(),
            flag_answer: FlagResponse::new(200, r#"{"flags":{}}"#),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

    use std::thread;

    use super::*;
    use crate::transport::testing::{body_of, event, with_batch};

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn a_script_is_followed_and_only_deliveries_count_as_delivered() {
        let mut memory = MemoryTransport::new();
        memory.answer(Outcome::NoAnswer);
        memory.answer(Outcome::status(503));
        memory.answer_otherwise(Outcome::status(204));
        let outcomes = [1, 2, 3].map(|events| with_batch(events, 200, None, |batch| memory.send(batch)));
        assert_eq!(outcomes, [Outcome::NoAnswer, Outcome::status(503), Outcome::status(204)]);

        assert_eq!(memory.events(), [event(0, 200), event(1, 200), event(2, 200)]);
        assert_eq!(memory.uuids().len(), 3);
        let requests = memory.requests();
        assert_eq!(requests.iter().map(|request| request.events.len()).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(requests[2].body, body_of(3, 200));
        assert_eq!((requests[2].attempt, requests[2].outcome), (1, Outcome::status(204)));
        memory.clear();
        assert!(memory.requests().is_empty());
    }

    #[test]
    fn waiting_ends_when_the_events_are_there_or_the_time_is_over() {
        let memory = MemoryTransport::new();
        assert!(!memory.wait_for_events(1, Duration::from_millis(1)));
        assert!(memory.wait_for_events(0, Duration::ZERO));
        let mut sender = memory.clone();
        let sending = thread::spawn(move || with_batch(4, 100, None, |batch| sender.send(batch)));
        assert!(memory.wait_for_events(4, LONG) && memory.wait_for_requests(1, LONG));
        sending.join().unwrap();
    }
}
