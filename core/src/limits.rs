//! Every capacity and default of the core in one place, tied together by assertions that run when it compiles.

use core::time::Duration;

/// Longest serialised event a server build accepts, in bytes of final JSON. Firmware chooses its own, smaller one.
pub const EVENT_BYTES_MAX: usize = 64 * 1024;

/// Longest event name, in bytes: what the newer capture endpoint takes, and more than any sensible name needs.
pub const EVENT_NAME_BYTES_MAX: usize = 200;

/// Longest distinct id, in Unicode scalar values. The server cuts longer ones and would merge people.
pub const DISTINCT_ID_CHARS_MAX: usize = 200;

/// Longest property key, in bytes.
pub const KEY_BYTES_MAX: usize = 1024;

/// Deepest nesting of a property value, counted over our own levels and those inside [`RawJson`](crate::RawJson).
pub const DEPTH_MAX: usize = 64;

/// Most stack frames of an exception that are sent, the place in the source included. Outermost ones are left out first.
pub const FRAMES_MAX: usize = 64;

/// Most causes of an exception that are sent. The server reads 50 entries, the exception itself included.
pub const CAUSES_MAX: usize = 49;

/// Most bytes that the steps before an exception may take in its event, brackets and commas included.
pub const STEPS_BYTES_MAX: usize = 32 * 1024;

/// Longest key that a [`Redaction`](crate::Redaction) looks for, in bytes.
pub const DENIED_KEY_BYTES_MAX: usize = 128;

/// Most super properties a client keeps, those of the client itself included.
pub const SUPER_PROPERTIES_MAX: usize = 64;

/// Most frames in one request. The search for a culprit is bounded by it.
pub const BATCH_EVENTS_MAX: usize = 1000;

/// Most bytes in one request body, before compression. PostHog takes 20 MiB; 1 MiB keeps a retry cheap.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Room for everything around the events of a request body: key, flags, `sent_at`, brackets.
pub const ENVELOPE_BYTES: usize = 256;

/// Longest project token PostHog accepts, in bytes.
pub const API_KEY_BYTES_MAX: usize = 64;

/// Bytes behind every event in the ring: a comma and a newline.
pub const FRAME_END_BYTES: usize = 2;

/// Events queued that wake the flush thread.
pub const FLUSH_AT: usize = 20;

/// Longest an event waits for company before it is sent.
pub const FLUSH_INTERVAL: Duration = Duration::from_secs(10);

/// Events one lane may hold that nobody has decided about yet.
pub const QUEUE_EVENTS_MAX: usize = 1000;

/// Requests after the first one for the same frames.
pub const RETRIES_MAX: u32 = 3;

/// Wait before the first retry; it doubles with each further one.
pub const BACKOFF_BASE: Duration = Duration::from_secs(1);

/// Longest wait between two attempts, and the most of a server's `Retry-After` that is believed.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// How long delivery rests after an answer that a retry cannot change: a refused key, a redirect, a wrong address.
pub const PAUSE: Duration = Duration::from_secs(15 * 60);

/// How long a request may take when the caller sets nothing else.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// How long shutting down may take when the caller sets nothing else.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

const _: () = assert!(
    EVENT_BYTES_MAX + FRAME_END_BYTES + ENVELOPE_BYTES <= BATCH_BYTES_MAX,
    "an accepted event must fit in a batch by itself, or it could never leave"
);
const _: () =
    assert!(STEPS_BYTES_MAX <= EVENT_BYTES_MAX / 2, "the steps before an exception must leave room for the exception");
const _: () = assert!(
    API_KEY_BYTES_MAX * 6 < ENVELOPE_BYTES * 2,
    "an API key of only quotes and controls must not fill the envelope many times over"
);
const _: () = assert!(FLUSH_AT <= QUEUE_EVENTS_MAX, "a queue that cannot reach flush_at would never wake anybody");
const _: () = assert!(BACKOFF_BASE.as_millis() <= BACKOFF_MAX.as_millis());
