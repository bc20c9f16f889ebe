//! Asking the server: cache, one request for many threads, retries, and a deadline over all of it.
//!
//! In: a query and a scope, one flag or all. Out: an answer that counts, or why there is none. The caller's thread makes
//! the request; the cache's lock is never held meanwhile.

use core::time::Duration;
use std::hash::BuildHasher;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use quillet_core::flags::{FlagGroup, FlagSubject, FlagsRequest, REPLY_BYTES_MAX};
use quillet_core::{CaptureError, Instant};

use super::Flags;
use super::answer::Answer;
use super::cache::{Flight, Found, Key, Landing, Outcome};
use super::config::FlagsEndpoint;
use super::error::FlagError;
use super::query::FlagQuery;
use crate::redactor::Redactor;
use crate::transport::flags::{FlagFailure, FlagRequest, FlagResponse, FlagTransport};

/// The wait before the first retry; it doubles with each further one.
const RETRY_WAIT: Duration = Duration::from_millis(300);

impl Flags {
    /// What the server says about `keys`, none being all; from memory if it said so lately.
    pub(super) fn remote(&self, query: &FlagQuery<'_>, keys: &[&str]) -> Outcome {
        if self.sender.is_nobody() {
            return Err(FlagError::NoTransport);
        }
        let deadline = self.clock.now().after(query.timeout.unwrap_or_else(|| self.longest()));
        let all = self.body(query, &[])?;
        let all_key = self.fingerprint(&all);
        let (asked, body) = if keys.is_empty() {
            (all_key, all)
        } else {
            let body = self.body(query, keys)?;
            (self.fingerprint(&body), body)
        };
        let person = self.person(query.subject.given_distinct_id());
        if query.force_remote {
            let outcome = self.fetch(&body, deadline, self.lock_cache().expired(asked));
            self.lock_cache().keep(self.clock.now(), asked, person, outcome.clone());
            return outcome;
        }
        loop {
            let found = self.lock_cache().find(self.clock.now(), &[all_key, asked]);
            match found {
                Found::Known(outcome) => return outcome,
                Found::Lead(flight, earlier) => {
                    let mut guard = Leader { flags: self, flight: &flight, asked, person, outcome: None, keep: true };
                    let outcome = self.fetch(&body, deadline, earlier);
                    // A caller in a hurry finds out nothing about the server.
                    guard.keep = query.timeout.is_none() || !matches!(outcome, Err(FlagError::Timeout));
                    guard.outcome = Some(outcome.clone());
                    return outcome;
                }
                Found::Wait(flight) => match flight.wait(&*self.clock, deadline) {
                    // The leader may have had less time than there is left here.
                    Some(Err(FlagError::Timeout)) if !deadline.since(self.clock.now()).is_zero() => {}
                    Some(outcome) => return outcome,
                    None => return Err(FlagError::Timeout),
                },
            }
        }
    }

    /// One request and its retries.
    fn fetch(&self, body: &[u8], deadline: Instant, earlier: Option<Arc<Answer>>) -> Outcome {
        let mut wait = RETRY_WAIT;
        for retries_left in (0..=self.options.retries).rev() {
            let left = deadline.since(self.clock.now());
            if left.is_zero() {
                return Err(FlagError::Timeout);
            }
            let timeout = self.options.timeout.min(left);
            let request = FlagRequest::values(self.options.endpoint.target(), body, timeout, REPLY_BYTES_MAX);
            let answer = self.ask(&request);
            if self.is_closed() {
                return Err(FlagError::Closed);
            }
            let error = match answer {
                Ok(answer) if (200..300).contains(&answer.status) => {
                    let mut answer = Answer::parse(&answer.body)?;
                    if answer.is_quota_limited {
                        return Err(FlagError::QuotaLimited);
                    }
                    if let Some(earlier) = earlier {
                        answer.keep_known(&earlier);
                    }
                    return Ok(Arc::new(answer));
                }
                Ok(answer) if !matches!(answer.status, 502 | 504) => return Err(FlagError::Status(answer.status)),
                Ok(answer) => FlagError::Status(answer.status),
                Err(FlagFailure::TooLong) => return Err(FlagError::BadAnswer),
                Err(failure) => FlagError::from(failure),
            };
            if retries_left == 0 || deadline.since(self.clock.now()) <= wait {
                return Err(error);
            }
            if !self.pause(wait) {
                return Err(FlagError::Closed);
            }
            wait *= 2;
        }
        Err(FlagError::Timeout)
    }

    /// One request. A panic in a transport is one more way of having no answer.
    pub(super) fn ask(&self, request: &FlagRequest<'_>) -> Result<FlagResponse, FlagFailure> {
        catch_unwind(AssertUnwindSafe(|| self.sender.ask(request))).unwrap_or(Err(FlagFailure::Connection))
    }

    /// The longest that a call may take if it does not say so itself: every request as long as it may, and the waits.
    fn longest(&self) -> Duration {
        let waits = RETRY_WAIT * (2_u32.saturating_pow(self.options.retries) - 1);
        self.options.timeout * (self.options.retries + 1) + waits
    }

    fn body(&self, query: &FlagQuery<'_>, keys: &[&str]) -> Result<Vec<u8>, FlagError> {
        let encode = |subject: &FlagSubject<'_>| {
            let request = FlagsRequest::new(&self.token, subject)
                .keys(keys)
                .disable_geoip(query.disable_geoip)
                .for_decide(self.options.endpoint == FlagsEndpoint::Decide);
            let mut body = Vec::new();
            let bytes = request.bytes()?;
            body.try_reserve_exact(bytes).map_err(|_| CaptureError::TooLarge)?;
            body.resize(bytes, 0);
            let len = request.encode(&mut body)?;
            body.truncate(len);
            Ok(body)
        };
        // A `Serialize` of the caller's may panic.
        let encoded = catch_unwind(AssertUnwindSafe(|| {
            if !self.redactor.is_needed() {
                return encode(&query.subject);
            }
            let groups = query.subject.given_groups();
            if groups.len() > REDACTED_GROUPS_MAX {
                return Err(CaptureError::TooLarge);
            }
            self.redactor.list(query.subject.given_properties(), |person| {
                redacted_groups(&self.redactor, groups, &[], &|groups| {
                    let subject = query.subject;
                    encode(&subject.person_properties(person).groups(groups))
                })
            })
        }));
        encoded.unwrap_or(Err(CaptureError::InvalidValue)).map_err(FlagError::Property)
    }

    fn fingerprint(&self, body: &[u8]) -> Key {
        let half = |hasher: &std::hash::RandomState| u128::from(hasher.hash_one(body));
        half(&self.hashers[0]) << 64 | half(&self.hashers[1])
    }

    /// A fingerprint of a distinct id.
    pub(super) fn person(&self, distinct_id: &str) -> u64 {
        self.hashers[0].hash_one(distinct_id)
    }
}

/// Groups in a query of a client that denies keys: each takes a level of the stack. PostHog knows five types of groups.
const REDACTED_GROUPS_MAX: usize = 16;

/// Hands on the groups without what is denied, `done` being those before `rest`.
fn redacted_groups<T>(
    redactor: &Redactor,
    rest: &[FlagGroup<'_>],
    done: &[FlagGroup<'_>],
    then: &dyn Fn(&[FlagGroup<'_>]) -> T,
) -> T {
    let Some((group, rest)) = rest.split_first() else { return then(done) };
    redactor.list(group.given_properties(), |properties| {
        let mut done = done.to_vec();
        done.push(FlagGroup::new(group.group_type(), group.group_key()).properties(properties));
        redacted_groups(redactor, rest, &done, then)
    })
}

/// Whoever leads a flight ends it, also when something panics on the way.
struct Leader<'a> {
    flags: &'a Flags,
    flight: &'a Arc<Flight>,
    asked: Key,
    person: u64,
    outcome: Option<Outcome>,
    keep: bool,
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        let keep = self.keep && self.outcome.is_some();
        let landing = Landing { outcome: self.outcome.take().unwrap_or(Err(FlagError::Connection)), keep };
        self.flags.lock_cache().land(self.flags.clock.now(), self.asked, self.person, self.flight, landing);
    }
}
