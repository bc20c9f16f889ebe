//! The core of quillet, an unofficial PostHog client: events in, batches out, and nothing underneath.
//!
//! `no_std`, no allocator, no clock, no thread, no socket: the same code captures in a server's hot loop and on a
//! Cortex-M0. The crate `quillet` adds threads, HTTP, time and files; firmware adds what its board has.
//!
//! ```text
//!  caller ─▶ Event ─▶ wire::event ─▶ Producer ══▶ Consumer ─▶ batcher ─▶ wire::batch ─▶ Transport ─▶
//!            borrowed  JSON, straight  grant ·       read ·      when,      envelope       your own
//!            values    into the grant  commit        release     how much   around slices
//!                                                       ▲                                    │
//!                                                       └── retry: release, keep or drop ◀───┘
//! ```
//!
//! # A whole program
//!
//! ```
//! use quillet_core::{
//!     Action, Batch, Common, Envelope, Flusher, Instant, Lane, Outcome, Policy, Ring, Stamper, Timestamp, Transport, event,
//! };
//!
//! struct Radio;
//!
//! impl Transport for Radio {
//!     fn send(&mut self, batch: &Batch<'_>) -> Outcome {
//!         for chunk in batch.body(None).chunks() {
//!             // Write each chunk to the connection: together they are the body of `POST /batch/`.
//!             assert!(!chunk.is_empty());
//!         }
//!         Outcome::status(200)
//!     }
//! }
//!
//! let mut memory = [0; Ring::bytes_for(4096)];
//! let (producer, consumer) = Ring::format(&mut memory)?.split();
//! let mut lane = Lane::new(producer, Stamper::new([0x5eed, 42]), 64, 1024);
//! let wall = Timestamp::from_unix_ms(1_795_000_000_000);
//! lane.capture(&event!("door opened", "hall", { "by": "key", "n": 3 }), &Common::default(), wall)?;
//!
//! let envelope = Envelope::new("phc_example", false)?;
//! let mut flusher = Flusher::new([consumer], envelope, Policy::default(), [1, 2]);
//! let now = Instant::ZERO;
//! flusher.flush();
//! while let Action::Send(batch) = flusher.poll(now) {
//!     let outcome = Radio.send(&batch);
//!     flusher.handle_outcome(now, outcome);
//! }
//! assert_eq!(flusher.counters().delivered, 1);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! # What holds
//!
//! * [`Lane::capture`] allocates nothing, waits for nothing and makes no system call. On `Ok` the event is in the ring,
//!   complete, with a uuid and a timestamp that will not change; on `Err` the ring is as it was.
//! * What the server would refuse a whole batch for is refused when it is captured, each with its own [`CaptureError`].
//! * [`Flusher`] is told the time and what came of each request; it reads no clock and opens no socket. It retries,
//!   splits refused batches until the culprits are alone, pauses, and accounts for every event in [`Counters`].
//! * Bad input, from a caller, a server, or the memory a ring is attached to, is an error or a counted drop.
//!
//! # Feature flags
//!
//! [`flags`] reads a server's answers and evaluates flags by their definitions, over text and memory of yours. It renders the
//! request too; sending it is up to you.
//!
//! # Memory
//!
//! A ring of capacity `C` (a power of two) takes [`Ring::bytes_for`]`(C)` bytes: `C`, two lines of header, and slack to
//! align them. Lane, flusher and envelope live where you put them; [`size_of`] says how large they
//! are on your target. Nothing grows.
//!
//! # Features
//!
//! Each only adds.
//!
//! * `float` (default): floats with all their digits. Without it, nine significant ones, and 15 KB of flash less.
//! * `serde`: any `T: Serialize` as a property value, through a serialiser of this crate's own which reports what JSON
//!   cannot say instead of panicking.
//! * `critical-section`: `SharedLane`, one lane for the main loop and interrupt handlers.
//! * `embedded-io`: the client `http::Http` over any blocking stream, and `Body::write_to`. `embedded-io-async`: the same
//!   client over asynchronous streams.
//! * `defmt`: `defmt::Format` for errors, outcomes, reports and counters; a line for each request.
//!
//! Why it is built this way: [`design`].

#![no_std]

#[cfg(test)]
extern crate std;

mod batcher;
mod capture;
mod clock;
mod common;
mod crash;
mod crash_file;
mod decimal;
mod event;
mod exception;
pub mod flags;
mod flusher;
mod frame;
#[cfg(feature = "embedded-io")]
pub mod http;
pub mod limits;
mod log;
mod property;
mod raw;
mod redact;
pub mod retry;
mod ring;
mod serialize;
#[cfg(feature = "critical-section")]
mod shared;
mod stamp;
mod stats;
mod steps;
mod sync;
mod transport;
pub mod uptime;
mod uuid;
pub mod wire;

#[doc = include_str!("../docs/design.md")]
pub mod design {}

#[cfg(fuzzing)]
#[doc(hidden)]
pub use ring::{model as ring_model, splice as ring_splice};

// In the order of the data's path.
pub use decimal::Decimal;
pub use event::{Event, LiteralName, Usual};
#[doc(hidden)]
pub use event::{Name, RenderedName};
pub use exception::{Cause, Exception, Frame, Image, Level, Mechanism};
#[doc(hidden)]
pub use property::Key;
pub use property::{LiteralKey, Property, Value};
pub use raw::{RawJson, RawJsonError, RawJsonErrorKind};
pub use serialize::{JsonSink, SerializeError, WriteJson};
#[cfg(feature = "serde")]
pub use serialize::{Typed, to_sink};

pub use redact::{Redacted, Redaction};
pub use steps::{Steps, StepsRead};

pub use common::{Common, CommonError, ShortCommon};
pub use stamp::Stamper;
pub use uuid::{Prng, Uuid, UuidError};
pub use wire::event::Encoded;
pub use wire::timestamp::Timestamp;

pub use capture::Lane;
pub use frame::is_frame;
pub use ring::{
    Checkpoint, Consumer, Gauge, Grant, GrantError, Position, Producer, Read, Recovered, Ring, RingError, Run,
    StaticRing, Trust, crc32c,
};
#[cfg(feature = "critical-section")]
pub use shared::SharedLane;
pub use stats::{CaptureError, Counters, DropReason, Stats};

pub use crash::{CRASH_RECORD_BYTES, CrashRecord, CrashWriter};
pub use crash_file::{CrashFile, CrashHead, CrashKind, crash_pages_bytes, write_crash_pages};

pub use batcher::Surplus;
pub use clock::{Clock, Instant};
pub use flusher::{Action, Exhausted, FlushMark, FlushState, Flusher, Overflow, Policy, Report};
pub use transport::{Answer, Outcome, Transport};
pub use wire::batch::{Batch, Body, Envelope, EnvelopeError};
