//! Frames to request body, without copying them: envelope, stretches of the rings, end of the envelope.
//!
//! In: the parts of the lanes that the `batcher` cut. Out: a [`Body`] of known length in chunks.
//!
//! ```text
//!  {"api_key":"phc_…","batch":[   {"uuid":…},⏎{"uuid":…},⏎   {"uuid":…}       ]}
//!  ╰──────── prefix ─────────╯    ╰──── a ring's bytes ───╯    ╰─ without its last ",⏎"     or  ],"sent_at":"…"}
//! ```

use crate::batcher::Outlet;
use crate::limits::{API_KEY_BYTES_MAX, ENVELOPE_BYTES, FRAME_END_BYTES};
use crate::wire::escape;
use crate::{Instant, Timestamp, Uuid};
use core::{fmt, str};
use heapless::Vec;

const API_KEY_OPEN: &[u8] = b"{\"api_key\":\"";
const API_KEY_CLOSE: &[u8] = b"\"";
const HISTORICAL_MIGRATION: &[u8] = b",\"historical_migration\":true";
const BATCH_OPEN: &[u8] = b",\"batch\":[";
const BATCH_CLOSE: &[u8] = b"]}";
const SENT_AT_OPEN: &[u8] = b"],\"sent_at\":\"";
const SENT_AT_CLOSE: &[u8] = b"\"}";
const SUFFIX_BYTES_MAX: usize = SENT_AT_OPEN.len() + Timestamp::TEXT_BYTES + SENT_AT_CLOSE.len();

/// Every frame begins like this; the 36 characters behind it are its uuid.
const UUID_OPEN: &[u8] = b"{\"uuid\":\"";
const UUID_BYTES: usize = 36;

const _: () = assert!(
    API_KEY_OPEN.len() + API_KEY_BYTES_MAX + API_KEY_CLOSE.len() + HISTORICAL_MIGRATION.len() + BATCH_OPEN.len()
        <= ENVELOPE_BYTES - SUFFIX_BYTES_MAX,
    "the longest API key, which is ASCII and needs no escapes, must fit the envelope"
);

/// What stands in front of the events of every request body. Rendered once; 256 bytes and a length.
#[derive(Clone)]
pub struct Envelope {
    prefix: Vec<u8, ENVELOPE_BYTES>,
}

impl Envelope {
    /// Renders the envelope for a project's API key. `historical_migration` says that all events are old data, which
    /// the server then routes apart.
    ///
    /// The key is taken as it is: trimming is the caller's, and whether the server knows it shows only there.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError`], when the server could not take the key.
    pub fn new(api_key: &str, historical_migration: bool) -> Result<Self, EnvelopeError> {
        if api_key.is_empty() {
            return Err(EnvelopeError::Empty);
        }
        if api_key.len() > API_KEY_BYTES_MAX {
            return Err(EnvelopeError::TooLong);
        }
        let mut prefix = Vec::new();
        let mut put = |bytes: &[u8]| put(&mut prefix, bytes);
        put(API_KEY_OPEN)?;
        for byte in api_key.bytes() {
            match escape::of(byte) {
                Some(escape) => put(escape.as_bytes())?,
                None => put(&[byte])?,
            }
        }
        put(API_KEY_CLOSE)?;
        if historical_migration {
            put(HISTORICAL_MIGRATION)?;
        }
        put(BATCH_OPEN)?;
        Ok(Self { prefix })
    }

    /// Bytes of a body besides its events' own, at most; the `,\n` of the last event is not sent.
    pub(crate) fn overhead(&self) -> usize {
        self.prefix.len() + SUFFIX_BYTES_MAX - FRAME_END_BYTES
    }
}

/// Once, and byte by byte: an envelope is made once, and the code for it is there for ever.
#[inline(never)]
fn put(prefix: &mut Vec<u8, ENVELOPE_BYTES>, bytes: &[u8]) -> Result<(), EnvelopeError> {
    bytes.iter().try_for_each(|&byte| prefix.push(byte).map_err(|_| EnvelopeError::TooLong))
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the key: it is public, but logs are where keys of the wrong kind end up.
        f.debug_struct("Envelope").field("bytes", &self.prefix.len()).finish_non_exhaustive()
    }
}

/// Why there is no [`Envelope`] for an API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum EnvelopeError {
    /// The key is empty. A client without a key should be a disabled one.
    Empty,
    /// The key is longer than [`API_KEY_BYTES_MAX`], or would be once escaped. It is no project key.
    TooLong,
}

impl fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the API key is empty",
            Self::TooLong => "the API key is too long to be one",
        })
    }
}

impl core::error::Error for EnvelopeError {}

/// The events of one request, still in the rings, and what the transport should know about them.
///
/// There is at least one. Nothing is copied and nothing allocated; the bytes stay what they are for as long as this
/// value lives, and until the flusher is told the outcome.
#[derive(Clone, Copy)]
pub struct Batch<'f> {
    envelope: &'f Envelope,
    stretches: Stretches<'f>,
    events: usize,
    bytes: usize,
    attempt: u32,
    deadline: Option<Instant>,
}

impl<'f> Batch<'f> {
    /// The parts of `lanes`, in order from lane `start`: `events` frames of `bytes` bytes in all.
    pub(crate) fn new(
        envelope: &'f Envelope,
        lanes: &'f [Outlet<'f>],
        start: usize,
        events: usize,
        bytes: usize,
        attempt: u32,
        deadline: Option<Instant>,
    ) -> Self {
        Self { envelope, stretches: Stretches { lanes, start, step: 0, copy: &[] }, events, bytes, attempt, deadline }
    }

    /// How many events it carries.
    pub fn events(&self) -> usize {
        self.events
    }

    /// Which attempt at exactly these events this is, from 1. Events that overflowed since the last one are left out
    /// without starting anew.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// When the attempt should end at the latest: the client is shutting down, or its caller has no more time.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The same batch, for an attempt that whoever sends it wants to have ended by `deadline`.
    #[must_use]
    pub fn ending_by(self, deadline: Instant) -> Self {
        Self { deadline: Some(self.deadline.map_or(deadline, |earlier| earlier.min(deadline))), ..self }
    }

    /// The bytes of its frames as they lie in the rings: whole frames, each with the `,\n` behind it.
    pub fn stretches(&self) -> impl Iterator<Item = &'f [u8]> + use<'f> {
        self.stretches
    }

    /// The same batch, its frames read from `copy`, which is what [`stretches`](Self::stretches) gave, in one piece. For
    /// rings in memory that somebody else may change: what was looked at is what is sent.
    #[must_use]
    pub fn over<'c>(&self, copy: &'c [u8]) -> Batch<'c>
    where
        'f: 'c,
    {
        let stretches = Stretches { lanes: &[], start: 0, step: 0, copy };
        Batch { stretches, bytes: copy.len(), ..*self }
    }

    /// The request body; `sent_at` is the wall time of this attempt, with which the server corrects a wrong clock.
    pub fn body(&self, sent_at: Option<Timestamp>) -> Body<'f> {
        Body {
            prefix: &self.envelope.prefix,
            stretches: self.stretches,
            frames_len: self.bytes.saturating_sub(FRAME_END_BYTES),
            suffix: Suffix::new(sent_at),
        }
    }

    /// The JSON of every event, in the order of the body, without what separates them.
    pub fn frames(&self) -> Frames<'f> {
        Frames { stretches: self.stretches, rest: &[] }
    }

    /// The uuid of every event, in the order of the body. One that is not where this crate writes it is nil.
    pub fn uuids(&self) -> impl Iterator<Item = Uuid> + use<'f> {
        self.frames().map(|frame| uuid(frame).unwrap_or(Uuid::NIL))
    }
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Counts only: the events are the users' business.
        f.debug_struct("Batch")
            .field("events", &self.events)
            .field("bytes", &self.bytes)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

fn uuid(frame: &[u8]) -> Option<Uuid> {
    let text = frame.strip_prefix(UUID_OPEN)?.get(..UUID_BYTES)?;
    Uuid::parse(str::from_utf8(text).ok()?)
}

/// The bytes of the lanes' parts: up to two slices a lane, none of them empty.
#[derive(Clone, Copy)]
struct Stretches<'f> {
    lanes: &'f [Outlet<'f>],
    start: usize,
    /// Two steps a lane.
    step: usize,
    /// The same in one piece, and then no lanes.
    copy: &'f [u8],
}

impl<'f> Iterator for Stretches<'f> {
    type Item = &'f [u8];

    fn next(&mut self) -> Option<&'f [u8]> {
        if !self.copy.is_empty() {
            return Some(core::mem::take(&mut self.copy));
        }
        while self.step < self.lanes.len() * 2 {
            let at = self.start + self.step / 2;
            let lane = self.lanes.get(if at < self.lanes.len() { at } else { at - self.lanes.len() })?;
            let (first, second) = lane.part();
            let slice = if self.step.is_multiple_of(2) { first } else { second };
            self.step += 1;
            if !slice.is_empty() {
                return Some(slice);
            }
        }
        None
    }
}

/// Iterator over the JSON of the events of a [`Batch`].
#[derive(Clone)]
pub struct Frames<'f> {
    stretches: Stretches<'f>,
    rest: &'f [u8],
}

impl<'f> Iterator for Frames<'f> {
    type Item = &'f [u8];

    fn next(&mut self) -> Option<&'f [u8]> {
        if self.rest.is_empty() {
            self.rest = self.stretches.next()?;
        }
        let end = self.rest.iter().position(|&byte| byte == b'\n').unwrap_or(self.rest.len());
        let (frame, behind) = self.rest.split_at_checked(end)?;
        self.rest = behind.get(1..).unwrap_or_default();
        Some(frame.strip_suffix(b",").unwrap_or(frame))
    }
}

/// A request body as bytes to be written one after the other.
#[derive(Clone)]
pub struct Body<'b> {
    prefix: &'b [u8],
    stretches: Stretches<'b>,
    /// Bytes of all frames but for the last two, which would be a trailing comma.
    frames_len: usize,
    suffix: Suffix,
}

impl Body<'_> {
    /// Its exact length in bytes.
    #[allow(clippy::len_without_is_empty, reason = "a body is never empty")]
    pub fn len(&self) -> usize {
        self.prefix.len() + self.frames_len + self.suffix.as_bytes().len()
    }

    /// Its bytes in order, in `2 + 2 · lanes` chunks at most, none of them empty.
    pub fn chunks(&self) -> Chunks<'_> {
        Chunks {
            prefix: Some(self.prefix),
            stretches: self.stretches,
            frames_left: self.frames_len,
            suffix: Some(self.suffix.as_bytes()),
        }
    }
}

impl fmt::Debug for Body<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Iterator over the bytes of a [`Body`].
#[derive(Clone)]
pub struct Chunks<'b> {
    prefix: Option<&'b [u8]>,
    stretches: Stretches<'b>,
    frames_left: usize,
    suffix: Option<&'b [u8]>,
}

impl<'b> Iterator for Chunks<'b> {
    type Item = &'b [u8];

    fn next(&mut self) -> Option<&'b [u8]> {
        if let Some(prefix) = self.prefix.take() {
            return Some(prefix);
        }
        if self.frames_left > 0
            && let Some(slice) = self.stretches.next()
        {
            let slice = slice.get(..self.frames_left).unwrap_or(slice);
            self.frames_left -= slice.len();
            return Some(slice);
        }
        self.suffix.take()
    }
}

/// The end of the envelope.
#[derive(Clone)]
struct Suffix {
    bytes: Vec<u8, SUFFIX_BYTES_MAX>,
}

impl Suffix {
    fn new(sent_at: Option<Timestamp>) -> Self {
        let mut bytes = Vec::new();
        // The capacity is the sum of these lengths, so none of the three can fail.
        let _ = match sent_at {
            None => bytes.extend_from_slice(BATCH_CLOSE),
            Some(time) => bytes
                .extend_from_slice(SENT_AT_OPEN)
                .and_then(|()| bytes.extend_from_slice(&time.text()))
                .and_then(|()| bytes.extend_from_slice(SENT_AT_CLOSE)),
        };
        Self { bytes }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that fails should stop")]
    use super::*;
    use crate::{Action, Consumer, Flusher, Policy, Producer, Ring};
    use std::boxed::Box;
    use std::format;
    use std::string::String;
    use std::vec::Vec;

    fn ring(capacity: usize) -> (Producer<'static>, Consumer<'static>) {
        let memory = std::vec![0; Ring::bytes_for(capacity)];
        Ring::format(Box::leak(memory.into_boxed_slice())).unwrap().split()
    }

    fn event(n: u8) -> String {
        format!(r#"{{"uuid":"{}","n":{n}}}"#, Uuid::from_bytes([n; 16]))
    }

    fn commit(producer: &mut Producer<'_>, json: &str) {
        let frame = format!("{json},\n");
        let mut grant = producer.grant(frame.len()).unwrap();
        grant.bytes_mut().copy_from_slice(frame.as_bytes());
        grant.commit(frame.len());
    }

    fn read<const LANES: usize>(flusher: &mut Flusher<'_, LANES>, look: impl FnOnce(&Batch<'_>)) {
        flusher.flush();
        match flusher.poll(Instant::ZERO) {
            Action::Send(batch) => look(&batch),
            other => panic!("{other:?}"),
        }
        flusher.handle_outcome(Instant::ZERO, crate::Outcome::status(200));
    }

    fn joined(body: &Body<'_>) -> String {
        let chunks: Vec<_> = body.chunks().collect();
        assert!(chunks.iter().all(|chunk| !chunk.is_empty()));
        let bytes = chunks.concat();
        assert_eq!(bytes.len(), body.len(), "the length is told before the bytes are sent");
        String::from_utf8(bytes).unwrap()
    }

    fn flusher<const LANES: usize>(consumers: [Consumer<'static>; LANES], historical: bool) -> Flusher<'static, LANES> {
        Flusher::new(consumers, Envelope::new("phc_key", historical).unwrap(), Policy::default(), [1, 2])
    }

    #[test]
    fn a_body_is_the_envelope_around_the_frames_to_the_byte() {
        let (mut producer, consumer) = ring(1024);
        let mut flusher = flusher([consumer], false);
        commit(&mut producer, &event(1));
        commit(&mut producer, &event(2));
        let sent_at = Timestamp::parse("2026-03-01T12:00:05.25Z").unwrap();
        read(&mut flusher, |batch| {
            let events = format!("{},\n{}", event(1), event(2));
            let plain = format!(r#"{{"api_key":"phc_key","batch":[{events}]}}"#);
            assert_eq!(joined(&batch.body(None)), plain);
            let timed =
                format!(r#"{{"api_key":"phc_key","batch":[{events}],"sent_at":"2026-03-01T12:00:05.250000Z"}}"#);
            assert_eq!(joined(&batch.body(Some(sent_at))), timed);
            assert_eq!((batch.events(), batch.attempt(), batch.deadline()), (2, 1, None));
        });
    }

    #[test]
    fn historical_migration_is_said_only_when_true() {
        let (mut producer, consumer) = ring(1024);
        let mut flusher = flusher([consumer], true);
        commit(&mut producer, "{}");
        read(&mut flusher, |batch| {
            let expected = r#"{"api_key":"phc_key","historical_migration":true,"batch":[{}]}"#;
            assert_eq!(joined(&batch.body(None)), expected);
        });
    }

    #[test]
    fn bodies_stay_valid_around_the_end_of_the_ring_and_over_several_lanes() {
        let ((mut one, consumer_one), (mut two, consumer_two)) = (ring(512), ring(512));
        let mut flusher = flusher([consumer_one, consumer_two], false);
        for n in 0..200_u8 {
            let events: Vec<_> = (0..1 + n % 6).map(|k| event(n.wrapping_mul(6).wrapping_add(k))).collect();
            for (k, event) in events.iter().enumerate() {
                commit(if k % 3 == 0 { &mut two } else { &mut one }, event);
            }
            read(&mut flusher, |batch| {
                let frames: Vec<_> = batch.frames().map(|frame| String::from_utf8(frame.to_vec()).unwrap()).collect();
                let sorted = |list: &[String]| {
                    let mut list = list.to_vec();
                    list.sort();
                    list
                };
                assert_eq!(sorted(&frames), sorted(&events));
                let body: serde_json::Value = serde_json::from_str(&joined(&batch.body(None))).unwrap();
                let batched = body["batch"].as_array().unwrap();
                assert_eq!(batched.len(), batch.events());
                let uuids: Vec<_> = batched.iter().map(|event| event["uuid"].as_str().unwrap()).collect();
                let told: Vec<_> = batch.uuids().map(|uuid| format!("{uuid}")).collect();
                assert_eq!(uuids, told, "in the order of the body");
            });
        }
        assert_eq!(flusher.pending(), 0);
    }

    #[test]
    fn frames_that_are_not_ours_have_the_nil_uuid_and_break_nothing() {
        let (mut producer, consumer) = ring(1024);
        let mut flusher = flusher([consumer], false);
        for json in ["", "{}", r#"{"uuid":"short"}"#, "\u{fffd}", r#"{"uuid":"zzzzzzzz-zzzz-zzzz-zzzz-zzzzzzzzzzzz"}"#]
        {
            commit(&mut producer, json);
        }
        read(&mut flusher, |batch| {
            assert_eq!(batch.events(), 5);
            assert_eq!(batch.uuids().filter(Uuid::is_nil).count(), 5);
            assert_eq!(joined(&batch.body(None)).len(), batch.body(None).len());
        });
    }

    #[test]
    fn keys_are_escaped_and_bounded() {
        assert_eq!(Envelope::new("", false).unwrap_err(), EnvelopeError::Empty);
        assert_eq!(Envelope::new(&"k".repeat(65), false).unwrap_err(), EnvelopeError::TooLong);
        assert_eq!(Envelope::new(&"\u{1}".repeat(64), false).unwrap_err(), EnvelopeError::TooLong);
        for key in ["phc_x", "a\"b\\c\nd", &"k".repeat(64), "\"", "ключ", "\u{1}\u{2}"] {
            for historical in [false, true] {
                let envelope = Envelope::new(key, historical).unwrap();
                let text = format!("{}]}}", core::str::from_utf8(&envelope.prefix).unwrap());
                let body: serde_json::Value = serde_json::from_str(&text).unwrap();
                assert_eq!(body["api_key"], key);
                assert_eq!(body.get("historical_migration").is_some(), historical);
            }
        }
    }

    #[test]
    fn no_body_is_longer_than_its_frames_and_the_overhead() {
        let (mut producer, consumer) = ring(1024);
        let mut flusher = flusher([consumer], true);
        let overhead = Envelope::new("phc_key", true).unwrap().overhead();
        commit(&mut producer, "{}");
        read(&mut flusher, |batch| {
            assert_eq!(batch.body(Some(Timestamp::MAX)).len(), overhead + "{},\n".len());
            assert!(batch.body(None).len() <= overhead + "{},\n".len());
        });
    }
}
