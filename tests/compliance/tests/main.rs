//! The adapter as the harness meets it: the real program, spoken to over HTTP, with a mock PostHog server behind it.
//!
//! In: the calls that PostHog's compliance harness makes. Out: what its assertions ask of the requests that arrive. The
//! harness itself is not needed, nor any network but the loopback.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails should stop"
)]

mod calls;
mod capture_v0;
mod flags;
mod harness;
mod sequential;
