//! Every call into the operating system that is not a mapping, a signal, or the standard library's business.
//!
//! In: nothing. Out: the wall clock's reading, cheaply; the processor's tick counter, more cheaply; random bytes, once.

#![allow(unsafe_code, reason = "libc's clock_gettime and the processor's tick counter, and nothing else")]

use quillet_core::Timestamp;

/// The wall clock, as a capture reads it: on Linux without entering the kernel.
///
/// Linux also keeps a coarse clock at its timer tick, read in a quarter of the time. It was tried and left: on a virtual
/// machine it was seen 7 ms behind, and timestamps are promised to be within 5 ms (2026-11).
#[derive(Clone, Copy, Debug)]
pub(crate) struct WallClock;

impl WallClock {
    /// The time now; 1970 if the clock shows something before it.
    #[cfg(unix)]
    #[inline]
    pub(crate) fn now(self) -> Timestamp {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is a valid place for a timespec. Should the call fail, `time` is still zero.
        unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut time) };
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        Timestamp::from_unix_micros(seconds.saturating_mul(1_000_000).saturating_add(time.tv_nsec as u64 / 1_000))
    }

    /// The time now; 1970 if the clock shows something before it.
    #[cfg(not(unix))]
    #[inline]
    pub(crate) fn now(self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_unix_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }
}

/// The processor's tick counter; 0 where [`has_steady_ticks`] is never true.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
pub(crate) fn ticks() -> u64 {
    let ticks: u64;
    // SAFETY: RDTSC is part of x86-64, and Linux, macOS and Windows let programs use it. A process that has been forbidden
    // to (prctl PR_SET_TSC) could not read the system's clock without the kernel either. Two registers and the flags are
    // all that is changed; the two halves are joined here, so that whoever puts the count aside has one word and not two.
    unsafe {
        core::arch::asm!("rdtsc", "shl rdx, 32", "or rax, rdx", out("rax") ticks, out("rdx") _, options(nomem, nostack));
    }
    ticks
}

/// The processor's tick counter; 0 where [`has_steady_ticks`] is never true.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
#[inline(always)]
pub(crate) fn ticks() -> u64 {
    0
}

/// Whether the counter runs evenly, whatever the processor does to save power: the bit "invariant TSC" of the vendors'
/// manuals. A virtual machine shows it if it keeps that promise itself.
#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(crate) fn has_steady_ticks() -> bool {
    const POWER: u32 = 0x8000_0007;
    const INVARIANT_TSC: u32 = 1 << 8;
    #[allow(unused_unsafe, reason = "CPUID became safe in newer compilers")]
    // SAFETY: CPUID is part of x86-64; the second leaf is asked for only where the first says that there is one.
    unsafe {
        core::arch::x86_64::__cpuid(0x8000_0000).eax >= POWER
            && core::arch::x86_64::__cpuid(POWER).edx & INVARIANT_TSC != 0
    }
}

/// Whether the counter runs evenly: not known of this target's.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
pub(crate) fn has_steady_ticks() -> bool {
    false
}

/// Random words from the system. One system call, when a client is built; `None` if it has none to give.
pub(crate) fn entropy<const N: usize>() -> Option<[[u64; 2]; N]> {
    let mut seeds = [[0u64; 2]; N];
    for seed in seeds.iter_mut().flatten() {
        *seed = getrandom::u64().ok()?;
    }
    Some(seeds)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]
    use super::*;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    #[test]
    fn the_clock_is_within_five_milliseconds_of_the_exact_one() {
        let clock = WallClock;
        // Other programs may take the processor between two readings, so the best of many counts.
        let best = (0..1000)
            .map(|_| {
                let exact = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                exact.abs_diff(Duration::from_micros(clock.now().as_unix_micros()))
            })
            .min()
            .unwrap();
        assert!(best <= Duration::from_millis(5), "{best:?}");
    }

    #[test]
    fn seeds_differ() {
        let seeds = entropy::<8>().unwrap();
        for (at, seed) in seeds.iter().enumerate() {
            assert!(!seeds[..at].contains(seed));
        }
    }
}
