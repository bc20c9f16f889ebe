//! What tests, examples and benches share: the world around the client, as instruments.
//!
//! ```text
//!  client ── HTTP on the loopback ──▶ Sink: judges by PostHog's rules, answers by script, records everything
//!         ── a load of events ──────▶ FastSink: counts and says 200, for benches
//!         ── connect ───────────────▶ NeverAccepts, refuses(): addresses where nobody answers
//!         ── malloc ────────────────▶ CountingAllocator: counts by thread, fails on request
//!         ── now ───────────────────▶ ManualClock: moves when told
//! ```
//!
//! For benches, also [`reference`](mod@reference), the event that every figure speaks of, and [`measure`], which takes
//! time, instructions and allocations.
//!
//! Nothing here is part of the library, and nothing here knows how the library works: the rules are PostHog's, the JSON
//! and the gzip are somebody else's, so that an error of ours is not judged by the same error.
//!
//! ```
//! use quillet_support::sink::{Answer, Sink};
//! use std::time::Duration;
//!
//! let sink = Sink::start();
//! sink.script([Answer::status(503), Answer::status_after(429, "1")]);
//! // … point a client at `sink.host()`, capture, then:
//! assert!(!sink.wait_for_events(1, Duration::from_millis(1)));
//! sink.assert_clean();
//! ```

pub mod alloc;
pub mod clock;
pub mod measure;
pub mod reference;
pub mod sink;

pub use alloc::CountingAllocator;
pub use clock::ManualClock;
pub use sink::{Answer, FastSink, Rule, Sink};
