//! A clock cheap enough to read twice around a capture: the processor's counter where there is one.
//!
//! In: nothing. Out: ticks, how long one is, and what reading them costs, which every figure taken with it contains once.

#![allow(unsafe_code, reason = "reading the counter is an intrinsic")]

use std::time::{Duration, Instant};

/// Some number that grows at a steady rate.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has this instruction, and user programs may use it on the systems that Rust supports.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Some number that grows at a steady rate.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(crate) fn ticks() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// What ticks mean on this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    ns_per_tick: f64,
    /// Ticks between two readings with nothing between them: the median of many.
    cost: u64,
}

impl Scale {
    pub(crate) fn measure() -> Self {
        let (began, first) = (Instant::now(), ticks());
        while began.elapsed() < Duration::from_millis(50) {
            std::hint::spin_loop();
        }
        let (taken, last) = (began.elapsed(), ticks());
        let ns_per_tick = taken.as_nanos() as f64 / last.wrapping_sub(first).max(1) as f64;
        let mut costs: Vec<u64> = (0..10_001)
            .map(|_| {
                let before = ticks();
                ticks().wrapping_sub(before)
            })
            .collect();
        costs.sort_unstable();
        Self { ns_per_tick, cost: costs.get(costs.len() / 2).copied().unwrap_or(0) }
    }

    pub(crate) fn ns(self, ticks: u64) -> f64 {
        ticks as f64 * self.ns_per_tick
    }

    /// What two readings around nothing show, in nanoseconds.
    pub(crate) fn cost_ns(self) -> f64 {
        self.ns(self.cost)
    }

    pub(crate) fn per_second(self) -> f64 {
        1e9 / self.ns_per_tick
    }
}
