//! A transport that keeps what it is given, and answers what it is told to.
//!
//! Input: batches, and a script of outcomes. Output: the recorded requests. For tests, of this crate and of yours.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use quillet_core::{Batch, Outcome, Transport, Uuid};

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
        self.lock().requests.clear();
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
        Self { requests: Vec::new(), script: VecDeque::new(), otherwise: Outcome::status(200) }
    }
}
