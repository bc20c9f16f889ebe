//! What was learned about people's flags, for a while: so many answers, so many bytes, each with a date of expiry.
//!
//! In: keys (fingerprints of what was asked), answers, and the time now. Out: an answer that still counts, or who is to
//! fetch it: the first who misses it leads, whoever comes meanwhile waits for the leader. Nothing here reads a clock.

use core::time::Duration;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use quillet_core::{Clock, Instant};

use super::answer::Answer;
use super::error::FlagError;

/// What all answers may take together, in bytes.
const BYTES_MAX: usize = 32 * 1024 * 1024;

/// How long a failure counts, at most: long enough that many threads do not each wait for a server that is down.
const FAILURE_TTL: Duration = Duration::from_secs(1);

/// What an entry takes besides its answer.
const ENTRY_BYTES: usize = 256;

/// A fingerprint of what was asked.
pub(super) type Key = u128;

/// What came of asking.
pub(super) type Outcome = Result<Arc<Answer>, FlagError>;

/// Answers by what was asked.
pub(super) struct Cache {
    ttl: Duration,
    entries_max: usize,
    known: HashMap<Key, Known>,
    /// The keys by age, the oldest first.
    by_age: BTreeMap<u64, Key>,
    /// The latest answer about a person, however it was asked for.
    by_person: HashMap<u64, Key>,
    /// Who is fetching what.
    flights: HashMap<Key, Arc<Flight>>,
    next_age: u64,
    bytes: usize,
}

struct Known {
    outcome: Outcome,
    /// Behind a failure, the answer from before.
    earlier: Option<Arc<Answer>>,
    expires: Instant,
    age: u64,
    person: u64,
    bytes: usize,
}

/// What somebody finds who asks the cache.
pub(super) enum Found {
    /// An answer that counts.
    Known(Outcome),
    /// Nobody knows; whoever got this has to find out, and to [land](Cache::land). With the expired answer, if there is one.
    Lead(Arc<Flight>, Option<Arc<Answer>>),
    /// Somebody is finding out.
    Wait(Arc<Flight>),
}

impl Cache {
    pub(super) fn new(ttl: Duration, entries_max: usize) -> Self {
        Self {
            ttl,
            entries_max,
            known: HashMap::new(),
            by_age: BTreeMap::new(),
            by_person: HashMap::new(),
            flights: HashMap::new(),
            next_age: 0,
            bytes: 0,
        }
    }

    /// The first of `keys` that is known counts; the last one is what would be asked.
    pub(super) fn find(&mut self, now: Instant, keys: &[Key]) -> Found {
        for key in keys {
            if let Some(known) = self.fresh(now, *key) {
                return Found::Known(known.outcome.clone());
            }
        }
        let asked = keys.last().copied().unwrap_or_default();
        if let Some(flight) = keys.iter().find_map(|key| self.flights.get(key)) {
            return Found::Wait(Arc::clone(flight));
        }
        let flight = Arc::new(Flight::default());
        self.flights.insert(asked, Arc::clone(&flight));
        Found::Lead(flight, self.expired(asked))
    }

    /// What was once known, expired or not.
    pub(super) fn expired(&self, key: Key) -> Option<Arc<Answer>> {
        self.known.get(&key).and_then(|known| known.outcome.as_ref().ok().or(known.earlier.as_ref()).cloned())
    }

    /// The latest answer about a person that still counts.
    pub(super) fn of_person(&self, now: Instant, person: u64) -> Option<Arc<Answer>> {
        let known = self.fresh(now, *self.by_person.get(&person)?)?;
        known.outcome.as_ref().ok().cloned()
    }

    /// Ends a flight: whoever waits is told, and what came of it is kept if it is worth keeping.
    pub(super) fn land(&mut self, now: Instant, key: Key, person: u64, flight: &Arc<Flight>, landing: Landing) {
        if self.flights.get(&key).is_some_and(|known| Arc::ptr_eq(known, flight)) {
            self.flights.remove(&key);
        }
        if landing.keep {
            self.keep(now, key, person, landing.outcome.clone());
        }
        flight.end(landing.outcome);
    }

    /// Keeps an answer that nobody waited for.
    pub(super) fn keep(&mut self, now: Instant, key: Key, person: u64, outcome: Outcome) {
        let ttl = if outcome.is_ok() { self.ttl } else { self.ttl.min(FAILURE_TTL) };
        // An answer stays behind a failure, for what a later one may fail to find out.
        let earlier = if outcome.is_err() { self.expired(key) } else { None };
        let bytes = ENTRY_BYTES + outcome.as_ref().ok().or(earlier.as_ref()).map_or(0, |answer| answer.bytes);
        self.remove(key);
        if ttl.is_zero() || self.entries_max == 0 || bytes > BYTES_MAX {
            return;
        }
        while self.known.len() >= self.entries_max || self.bytes + bytes > BYTES_MAX {
            let Some((_, oldest)) = self.by_age.pop_first() else { break };
            self.remove(oldest);
        }
        let age = self.next_age;
        self.next_age += 1;
        self.by_age.insert(age, key);
        self.by_person.insert(person, key);
        self.bytes += bytes;
        self.known.insert(key, Known { outcome, earlier, expires: now.after(ttl), age, person, bytes });
    }

    fn fresh(&self, now: Instant, key: Key) -> Option<&Known> {
        self.known.get(&key).filter(|known| now < known.expires)
    }

    fn remove(&mut self, key: Key) {
        if let Some(known) = self.known.remove(&key) {
            self.by_age.remove(&known.age);
            self.bytes -= known.bytes;
            if self.by_person.get(&known.person) == Some(&key) {
                self.by_person.remove(&known.person);
            }
        }
    }
}

/// What a flight brought.
pub(super) struct Landing {
    pub(super) outcome: Outcome,
    /// Not what a caller's own impatience made of it.
    pub(super) keep: bool,
}

/// One request that several threads wait for.
#[derive(Default)]
pub(super) struct Flight {
    outcome: Mutex<Option<Outcome>>,
    ended: Condvar,
}

impl Flight {
    /// Waits for the leader; `None` if `deadline` came first.
    pub(super) fn wait(&self, clock: &dyn Clock, deadline: Instant) -> Option<Outcome> {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(outcome) = &*outcome {
                return Some(outcome.clone());
            }
            let left = deadline.since(clock.now());
            if left.is_zero() {
                return None;
            }
            outcome = self.ended.wait_timeout(outcome, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn end(&self, outcome: Outcome) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        self.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "a test that fails should stop")]

    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    fn answer(bytes: usize) -> Outcome {
        Ok(Arc::new(Answer { bytes, ..Answer::default() }))
    }

    fn is_known(cache: &mut Cache, now: Instant, key: Key) -> bool {
        match cache.find(now, &[key]) {
            Found::Known(_) => true,
            Found::Lead(flight, _) => {
                let landing = Landing { outcome: Err(FlagError::Timeout), keep: false };
                cache.land(now, key, 0, &flight, landing);
                false
            }
            Found::Wait(_) => panic!("nobody is on the way"),
        }
    }

    #[test]
    fn an_answer_counts_until_it_expires() {
        let mut cache = Cache::new(TTL, 10);
        assert!(!is_known(&mut cache, at(0), 1));
        cache.keep(at(0), 1, 7, answer(1));
        assert!(is_known(&mut cache, at(0), 1) && is_known(&mut cache, at(59), 1) && !is_known(&mut cache, at(60), 1));
        assert!(cache.of_person(at(59), 7).is_some() && cache.of_person(at(60), 7).is_none());
        assert!(cache.expired(1).is_some(), "an expired answer is there for what a later one fails to find out");
    }

    #[test]
    fn failures_count_for_a_second_and_spoil_no_answer() {
        let mut cache = Cache::new(TTL, 10);
        cache.keep(at(0), 1, 0, Err(FlagError::Timeout));
        let soon = Instant::from_micros(999_999);
        assert!(is_known(&mut cache, soon, 1) && !is_known(&mut cache, at(1), 1));
        cache.keep(at(1), 1, 0, answer(1));
        cache.keep(at(61), 1, 0, Err(FlagError::Timeout));
        assert!(is_known(&mut cache, at(61), 1), "the failure counts");
        assert!(cache.expired(1).is_some(), "and the answer is still there");
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let mut cache = Cache::new(TTL, 3);
        for key in 0..3 {
            cache.keep(at(0), key, 0, answer(1));
        }
        cache.keep(at(1), 0, 0, answer(1)); // refreshed, so 1 is the oldest now
        cache.keep(at(2), 3, 0, answer(1));
        let known: Vec<_> = (0..4).map(|key| is_known(&mut cache, at(3), key)).collect();
        assert_eq!(known, [true, false, true, true]);
        assert_eq!((cache.known.len(), cache.by_age.len()), (3, 3));
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut cache = Cache::new(TTL, 1_000_000);
        for key in 0..100 {
            cache.keep(at(0), key, 0, answer(BYTES_MAX / 10));
            assert!(cache.bytes <= BYTES_MAX);
        }
        assert_eq!(cache.known.len(), 9);
        cache.keep(at(0), 99, 0, answer(BYTES_MAX));
        assert!(
            !is_known(&mut cache, at(0), 99) && cache.known.len() == 8,
            "one that could never fit pushes nothing out"
        );
    }

    #[test]
    fn without_room_or_time_nothing_is_kept() {
        for mut cache in [Cache::new(TTL, 0), Cache::new(Duration::ZERO, 10)] {
            cache.keep(at(0), 1, 0, answer(1));
            assert!(!is_known(&mut cache, at(0), 1) && cache.bytes == 0);
        }
    }

    #[test]
    fn the_first_leads_and_the_others_wait() {
        let mut cache = Cache::new(TTL, 10);
        let Found::Lead(flight, None) = cache.find(at(0), &[1, 2]) else { panic!("the first leads") };
        assert!(matches!(cache.find(at(0), &[1, 2]), Found::Wait(_)));
        assert!(matches!(cache.find(at(0), &[2]), Found::Wait(_)));
        // Somebody who asks for more is not served by it.
        let Found::Lead(other, None) = cache.find(at(0), &[1]) else { panic!("asks for more") };
        cache.land(at(0), 2, 0, &flight, Landing { outcome: answer(1), keep: true });
        assert!(matches!(cache.find(at(0), &[2]), Found::Known(Ok(_))));
        assert!(matches!(cache.find(at(0), &[1]), Found::Wait(_)));
        cache.land(at(0), 1, 0, &other, Landing { outcome: answer(1), keep: true });
        assert!(cache.flights.is_empty());
    }
}
