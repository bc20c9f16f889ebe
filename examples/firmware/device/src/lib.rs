//! What the example devices have in common: everything but the board.
//!
//! ```text
//!  main loop ──────┐                                     ┌─▶ the server's time ─▶ Boots ─▶ settle_times
//!  timer interrupt ┼─▶ SharedLane ══▶ ring ══▶ Flusher ──┴─▶ Http ─▶ the board's link
//!  panic, fault ───┴─▶ crash lane ══▶ ring ══▶    ┘
//!                      both rings in RAM that a reset does not clear
//! ```
//!
//! A board file brings a timer that calls [`uptime::tick`], a [`Link`](quillet_core::http::Link), and memory that the linker
//! left alone; [`app::run`] is the rest.

#![no_std]

pub mod app;
pub mod console;
pub mod crash;
#[cfg(feature = "network")]
pub mod net;
pub mod once;
pub mod retained;
pub mod uptime;
