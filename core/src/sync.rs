//! The atomics of the ring: core's, or loom's where every interleaving is explored (`--cfg loom`).
//!
//! Only loads and stores are ever used, so the same code runs on targets without compare-and-swap.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicUsize, Ordering};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicUsize, Ordering};
