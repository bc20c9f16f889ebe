//! Drivers: they start the victim, end it in unkind ways, and compare what it said with what a sink received.
//!
//! ```text
//!  Plan ──▶ Round: Start ─▶ Victim ──lines──▶ Said ─┐
//!             │       ▲        │                    ├─▶ Oracle ─▶ Findings: lost, torn, two uuids, changed, others
//!             └──▶ Server ─▶ Sink ◀───HTTP──┘ ──────┘
//! ```
//!
//! They know the victim by its environment, its output and its exit status only, as drivers in other languages do.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a driver that cannot go on should stop"
)]

mod folder;
mod oracle;
mod pad;
mod random;
mod round;
mod server;
mod start;

pub use folder::Folder;
pub use oracle::{Findings, Oracle};
pub use pad::pad;
pub use random::Random;
pub use round::{Outcome, Plan, own_fate};
pub use server::Server;
pub use start::{API_KEY, PATIENCE, Said, Start, Victim};
