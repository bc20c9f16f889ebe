//! What became of every event: counters by reason, and the law that ties them together.
//!
//! In: decisions, of capture (accepted, or refused and why) and of the [`Flusher`](crate::Flusher) (delivered, rejected,
//! dropped and why). Out: numbers that add up. Nothing here is shared between threads; whoever counts owns the counters.

use core::fmt;

/// Why an event was not accepted. Every refusal is also counted, in [`Stats::refused`].
///
/// Capturing never panics and never waits; ignoring this value is fine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum CaptureError {
    /// The client has no API key or was switched off: every call does nothing. Configure it, or leave it so.
    Disabled,
    /// The client was shut down. Capture earlier, or shut down later.
    Closed,
    /// The event has no name. The server would refuse the whole batch it is in.
    EmptyEventName,
    /// The event's name is longer than [`EVENT_NAME_BYTES_MAX`](crate::limits::EVENT_NAME_BYTES_MAX). Put what varies
    /// into a property.
    EventNameTooLong,
    /// The distinct id is empty or only white space. Leave it out to capture without a person, or name one.
    EmptyDistinctId,
    /// The distinct id is longer than [`DISTINCT_ID_CHARS_MAX`](crate::limits::DISTINCT_ID_CHARS_MAX). The server would
    /// cut it, and people whose ids begin alike would become one. Hash it.
    DistinctIdTooLong,
    /// A property has an empty key. Name it.
    EmptyKey,
    /// A property's key is longer than [`KEY_BYTES_MAX`](crate::limits::KEY_BYTES_MAX). Keys that carry data belong into
    /// values.
    KeyTooLong,
    /// A property has a key that the client writes itself. Use the method or option that sets it.
    ReservedKey,
    /// A value is nested deeper than [`DEPTH_MAX`](crate::limits::DEPTH_MAX). Flatten it.
    TooDeep,
    /// Longer than the event limit once serialised. Waiting does not help; send less in one event.
    TooLarge,
    /// A serialised value says what JSON cannot: a map key that is no string, a number beyond 64 bits, or an error of
    /// its own. Convert it first.
    InvalidValue,
    /// No room right now: delivery is behind. Later events may fit; a larger queue helps against bursts.
    Full,
    /// Every lane was in use by another thread at this moment. Try again, or configure more lanes.
    Busy,
    /// A `before_send` hook said so.
    DroppedByHook,
    /// A `before_send` hook panicked. The event as it was before the hook is never sent. Repair the hook.
    HookPanicked,
    /// A group without type or key, or an alias without the other id. Name both.
    MissingField,
    /// The call would create or change a person or a group, and the event or the client is personless. Capture it with
    /// person processing.
    Personless,
    /// An error beyond the burst of its kind, or a panic beyond the number of them that a client reports in a minute, or the
    /// echo of one that it has reported.
    RateLimited,
}

impl CaptureError {
    /// Every reason, each at its [`index`](Self::index).
    pub const ALL: [Self; 19] = [
        Self::Disabled,
        Self::Closed,
        Self::EmptyEventName,
        Self::EventNameTooLong,
        Self::EmptyDistinctId,
        Self::DistinctIdTooLong,
        Self::EmptyKey,
        Self::KeyTooLong,
        Self::ReservedKey,
        Self::TooDeep,
        Self::TooLarge,
        Self::InvalidValue,
        Self::Full,
        Self::Busy,
        Self::DroppedByHook,
        Self::HookPanicked,
        Self::MissingField,
        Self::Personless,
        Self::RateLimited,
    ];

    /// How many reasons there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Its place in [`Stats::refused`], below [`COUNT`](Self::COUNT).
    pub const fn index(self) -> usize {
        self as usize
    }

    /// A short name for logs and metrics, in snake case. Never changes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Closed => "closed",
            Self::EmptyEventName => "empty_event_name",
            Self::EventNameTooLong => "event_name_too_long",
            Self::EmptyDistinctId => "empty_distinct_id",
            Self::DistinctIdTooLong => "distinct_id_too_long",
            Self::EmptyKey => "empty_key",
            Self::KeyTooLong => "key_too_long",
            Self::ReservedKey => "reserved_key",
            Self::TooDeep => "too_deep",
            Self::TooLarge => "too_large",
            Self::InvalidValue => "invalid_value",
            Self::Full => "full",
            Self::Busy => "busy",
            Self::DroppedByHook => "dropped_by_hook",
            Self::HookPanicked => "hook_panicked",
            Self::MissingField => "missing_field",
            Self::Personless => "personless",
            Self::RateLimited => "rate_limited",
        }
    }
}

impl fmt::Display for CaptureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disabled => "the client is disabled",
            Self::Closed => "the client was shut down",
            Self::EmptyEventName => "the event has no name",
            Self::EventNameTooLong => "the event's name is too long",
            Self::EmptyDistinctId => "the distinct id is empty",
            Self::DistinctIdTooLong => "the distinct id is too long",
            Self::EmptyKey => "a property has an empty key",
            Self::KeyTooLong => "a property's key is too long",
            Self::ReservedKey => "a property has a key that the client writes itself",
            Self::TooDeep => "a value is nested too deeply",
            Self::TooLarge => "the event is too large",
            Self::InvalidValue => "a value cannot be said in JSON",
            Self::Full => "the queue is full",
            Self::Busy => "every lane is in use",
            Self::DroppedByHook => "a hook dropped the event",
            Self::HookPanicked => "a hook panicked",
            Self::MissingField => "a group or alias lacks one of its two names",
            Self::Personless => "the event would need person processing, which is off",
            Self::RateLimited => "too many errors of a kind",
        })
    }
}

impl core::error::Error for CaptureError {}

/// Why an accepted event left without having been delivered or refused by the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum DropReason {
    /// The server answered every attempt with an error that a retry may cure, and none did.
    RetriesExhausted,
    /// The deadline of a shutdown came first, or delivery was paused when the shutdown began.
    Shutdown,
    /// Newer events needed the room while nothing could be delivered; see [`Overflow`](crate::Overflow).
    Overflow,
    /// The caller asked for it; see [`Flusher::discard`](crate::Flusher::discard).
    Discarded,
    /// The spool's quota was used up, and newer events needed its room.
    SpoolFull,
    /// Found in a spool after it had waited there for longer than is allowed.
    Expired,
    /// Found in a spool, and no event any more: the disk, a power cut or somebody else has changed it.
    Damaged,
}

impl DropReason {
    /// Every reason, each at its [`index`](Self::index).
    pub const ALL: [Self; 7] = [
        Self::RetriesExhausted,
        Self::Shutdown,
        Self::Overflow,
        Self::Discarded,
        Self::SpoolFull,
        Self::Expired,
        Self::Damaged,
    ];

    /// How many reasons there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Its place in [`Counters::dropped`] and [`Stats::dropped`], below [`COUNT`](Self::COUNT).
    pub const fn index(self) -> usize {
        self as usize
    }

    /// A short name for logs and metrics, in snake case. Never changes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RetriesExhausted => "retries_exhausted",
            Self::Shutdown => "shutdown",
            Self::Overflow => "overflow",
            Self::Discarded => "discarded",
            Self::SpoolFull => "spool_full",
            Self::Expired => "expired",
            Self::Damaged => "damaged",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a [`Flusher`](crate::Flusher) has decided so far, in events unless said otherwise. Wraps after 2⁶⁴.
///
/// The law, for the rings it was given and since it was given them:
/// `committed == delivered + rejected + dropped_total() + spooled + pending`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Counters {
    /// In a request that was answered with 2xx.
    pub delivered: u64,
    /// Refused by the server for a reason that a retry cannot cure.
    pub rejected: u64,
    /// Left on purpose, by [`DropReason::index`].
    pub dropped: [u64; DropReason::COUNT],
    /// Moved elsewhere, to be delivered later; see [`Flusher::hand_over`](crate::Flusher::hand_over).
    pub spooled: u64,
    /// Requests whose outcome is known, those without an answer included.
    pub requests: u64,
    /// Requests among them that repeated the one before.
    pub retries: u64,
}

impl Counters {
    /// Events dropped for any reason.
    pub fn dropped_total(&self) -> u64 {
        sum(&self.dropped)
    }

    /// Events whose fate is known here: delivered, rejected and dropped.
    pub fn settled(&self) -> u64 {
        self.delivered.wrapping_add(self.rejected).wrapping_add(self.dropped_total())
    }

    /// Adds what another flusher decided, or what this one decided since.
    pub fn add(&mut self, new: &Self) {
        self.each(new, u64::wrapping_add);
    }

    /// What was decided since `earlier`, an older copy of these counters.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut new = *self;
        new.each(earlier, u64::wrapping_sub);
        new
    }

    fn each(&mut self, other: &Self, combine: impl Fn(u64, u64) -> u64) {
        let Self { delivered, rejected, dropped, spooled, requests, retries } = other;
        self.delivered = combine(self.delivered, *delivered);
        self.rejected = combine(self.rejected, *rejected);
        for (dropped, other) in self.dropped.iter_mut().zip(dropped) {
            *dropped = combine(*dropped, *other);
        }
        self.spooled = combine(self.spooled, *spooled);
        self.requests = combine(self.requests, *requests);
        self.retries = combine(self.retries, *retries);
    }

    pub(crate) fn count_dropped(&mut self, reason: DropReason, events: usize) {
        if let Some(counter) = self.dropped.get_mut(reason.index()) {
            *counter = counter.wrapping_add(events as u64);
        }
    }
}

/// Everything a client knows about the fate of its events. Exact whenever the client is quiet: no capture is running
/// and no request is out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Stats {
    /// Committed to a ring by a capture of this client.
    pub accepted: u64,
    /// Found in the memory or the files of a process that ended before.
    pub recovered: u64,
    /// In a request that was answered with 2xx.
    pub delivered: u64,
    /// Refused by the server for a reason that a retry cannot cure.
    pub rejected: u64,
    /// Left on purpose, by [`DropReason::index`].
    pub dropped: [u64; DropReason::COUNT],
    /// Left in a spool, for better times or for the next start.
    pub spooled: u64,
    /// In the rings, not decided about. Counted there, not derived from the other numbers.
    pub pending: u64,
    /// Never accepted, by [`CaptureError::index`]. Outside the law.
    pub refused: [u64; CaptureError::COUNT],
    /// Requests whose outcome is known, those without an answer included.
    pub requests: u64,
    /// Requests among them that repeated the one before.
    pub retries: u64,
}

impl Stats {
    /// Adds what one flusher decided; a client may have several.
    pub fn add(&mut self, counters: &Counters) {
        self.delivered = self.delivered.wrapping_add(counters.delivered);
        self.rejected = self.rejected.wrapping_add(counters.rejected);
        for (total, dropped) in self.dropped.iter_mut().zip(counters.dropped) {
            *total = total.wrapping_add(dropped);
        }
        self.spooled = self.spooled.wrapping_add(counters.spooled);
        self.requests = self.requests.wrapping_add(counters.requests);
        self.retries = self.retries.wrapping_add(counters.retries);
    }

    /// Events dropped for any reason.
    pub fn dropped_total(&self) -> u64 {
        sum(&self.dropped)
    }

    /// Events dropped for one reason.
    pub fn dropped_for(&self, reason: DropReason) -> u64 {
        self.dropped.get(reason.index()).copied().unwrap_or(0)
    }

    /// Events refused for any reason.
    pub fn refused_total(&self) -> u64 {
        sum(&self.refused)
    }

    /// Events refused for one reason.
    pub fn refused_for(&self, reason: CaptureError) -> u64 {
        self.refused.get(reason.index()).copied().unwrap_or(0)
    }

    /// The conservation law: `accepted + recovered == delivered + rejected + dropped_total() + spooled + pending`.
    pub fn is_conserved(&self) -> bool {
        let came = self.accepted.wrapping_add(self.recovered);
        let went = [self.delivered, self.rejected, self.dropped_total(), self.spooled, self.pending];
        came == sum(&went)
    }
}

fn sum(counts: &[u64]) -> u64 {
    counts.iter().fold(0, |total, &count| total.wrapping_add(count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::string::ToString;

    #[test]
    fn every_reason_stands_at_its_index_under_its_own_name() {
        for (at, reason) in CaptureError::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), at);
        }
        for (at, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), at);
        }
        let names: BTreeSet<_> = CaptureError::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names.len(), CaptureError::COUNT);
        let texts: BTreeSet<_> = CaptureError::ALL.iter().map(|reason| reason.to_string()).collect();
        assert_eq!(texts.len(), CaptureError::COUNT);
        let names: BTreeSet<_> = DropReason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names.len(), DropReason::COUNT);
    }

    #[test]
    fn the_law_notices_a_single_missing_event() {
        let mut counters = Counters { delivered: 5, rejected: 2, requests: 4, retries: 1, ..Counters::default() };
        counters.count_dropped(DropReason::Overflow, 3);
        let mut stats = Stats { accepted: 12, recovered: 1, pending: 2, spooled: 1, ..Stats::default() };
        stats.add(&counters);
        assert!(stats.is_conserved(), "{stats:?}");
        assert_eq!((stats.dropped_for(DropReason::Overflow), stats.dropped_total()), (3, 3));
        stats.pending -= 1;
        assert!(!stats.is_conserved());
    }
}
