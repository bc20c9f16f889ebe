//! placeholder front page
#![no_std]

#[cfg(test)]
extern crate std;

mod batcher;
mod capture;
mod clock;
mod common;
mod event;
mod flusher;
pub mod limits;
mod property;
mod raw;
pub mod retry;
mod ring;
mod serialize;
mod stamp;
mod stats;
mod sync;
mod transport;
mod uuid;
pub mod wire;

// In the order of the data's path.
pub use event::{Event, Exception, Level, LiteralName};
#[doc(hidden)]
pub use property::Key;
pub use property::{LiteralKey, Property, Value};
pub use raw::{RawJson, RawJsonError, RawJsonErrorKind};
pub use serialize::{JsonSink, SerializeError, WriteJson};
#[cfg(feature = "serde")]
pub use serialize::{Typed, to_sink};

pub use common::{Common, CommonError};
pub use stamp::Stamper;
pub use uuid::{Prng, Uuid, UuidError};
pub use wire::event::Encoded;
pub use wire::timestamp::Timestamp;

pub use capture::Lane;
pub use ring::{Consumer, Gauge, Grant, GrantError, Position, Producer, Read, Ring, RingError, StaticRing};
pub use stats::{CaptureError, Counters, DropReason, Stats};

pub use clock::{Clock, Instant};
pub use flusher::{Action, Exhausted, FlushMark, FlushState, Flusher, Overflow, Policy, Report};
pub use transport::{Answer, Outcome, Transport};
pub use wire::batch::{Batch, Body, Envelope, EnvelopeError};
