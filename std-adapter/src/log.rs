//! What an operator may want to know, said through `log` and not too often.
//!
//! In: remarks from the flush thread. Out: at most one log line per topic and ten seconds, with the number left unsaid
//! since the one before. Captures never log: what they refuse is counted.

use core::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The least time between two lines about the same topic.
const QUIET: Duration = Duration::from_secs(10);

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    Retry,
    Paused,
    Rejected,
    Dropped,
    Panic,
    Spool,
    Definitions,
}

const TOPICS: usize = 7;

/// A rate limiter in front of `log`. Nothing is said while its lock is held.
#[derive(Debug)]
pub(crate) struct Log {
    enabled: bool,
    /// Per topic, when it was spoken of last and how often it was not since.
    last: Mutex<[(Option<Instant>, u32); TOPICS]>,
}

impl Log {
    pub(crate) fn new(enabled: bool) -> Self {
        Self { enabled, last: Mutex::new([(None, 0); TOPICS]) }
    }

    /// Says `text`, unless the same topic was just spoken of.
    pub(crate) fn warn(&self, topic: Topic, text: fmt::Arguments<'_>) {
        if let Some(unsaid) = self.admit(topic, Instant::now()) {
            match unsaid {
                0 => log::warn!(target: "quillet", "{text}"),
                more => log::warn!(target: "quillet", "{text} ({more} like it since the last line)"),
            }
        }
    }

    /// How many remarks were swallowed since the last one, if this one may be said.
    fn admit(&self, topic: Topic, now: Instant) -> Option<u32> {
        if !self.enabled {
            return None;
        }
        let mut topics = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, unsaid) = topics.get_mut(topic as usize)?;
        if last.is_some_and(|last| now.duration_since(last) < QUIET) {
            *unsaid = unsaid.saturating_add(1);
            return None;
        }
        *last = Some(now);
        Some(core::mem::take(unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_topic_and_ten_seconds() {
        let log = Log::new(true);
        let start = Instant::now();
        assert_eq!(log.admit(Topic::Retry, start), Some(0));
        assert_eq!(log.admit(Topic::Retry, start + Duration::from_secs(9)), None);
        assert_eq!(log.admit(Topic::Paused, start), Some(0), "another topic is not affected");
        assert_eq!(log.admit(Topic::Retry, start + Duration::from_secs(10)), Some(1));
        assert_eq!(Log::new(false).admit(Topic::Retry, start), None);
    }
}
