//! The spool with real files, real processes that are really killed, and real HTTP on the loopback.
//!
//! The process that dies is this test binary, started again for the one test that needs it; see [`victim`].

#![cfg(any(target_os = "linux", target_os = "macos"))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that fails should stop")]

#[path = "../common/mod.rs"]
mod common;
mod image;
mod victim;

mod cut;
mod damage;
mod golden;
mod opt_out;
mod outage;
mod recovery;
mod retain;
mod safety;
