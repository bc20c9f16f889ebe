//! Time of the system, as the core counts it: monotonic for waiting, wall time for events.
//!
//! In: the system's clocks, and the processor's tick counter where it can be trusted. Out: an [`Instant`], or a
//! [`Timestamp`] that is at most [`WINDOW_MICROS`] of counting away from a reading of the real clock.

use core::time::Duration;
use std::sync::OnceLock;

use quillet_core::{Clock, Instant, Timestamp};

use crate::sys;

/// When the first clock of this process was made. One for all: a deadline by one clock is compared with another.
static START: OnceLock<std::time::Instant> = OnceLock::new();

/// The system's monotonic clock, in microseconds since this process first made one. All of them show the same time.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    /// The process's clock.
    pub fn new() -> Self {
        Self { start: *START.get_or_init(std::time::Instant::now) }
    }

    /// How long until `then`; zero if it has passed.
    pub(crate) fn until(&self, then: Instant) -> Duration {
        then.since(self.now())
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX - 1))
    }
}

/// How far a reading of the real clock is carried on by counting ticks: what a step of that clock may go unnoticed for, so
/// less than the 5 ms that timestamps may be away from it. A reading touches memory that the kernel writes, and code that
/// other captures do not: the fewer there are, the fewer captures take longer than the rest.
const WINDOW_MICROS: u64 = 4_000;

/// How long ticks and time are compared before their ratio is believed, at least and at most, in microseconds.
const MEASURE_MICROS: core::ops::Range<u64> = 500..1_000_000;

/// Beyond this many microseconds between two readings nothing is concluded from them.
const COMPARED_MICROS_MAX: u64 = 10_000_000;

/// Ticks in a microsecond that a counter may have, at most: what is faster was measured wrongly.
const TICKS_PER_MICRO_MAX: u64 = 10_000;

/// Where a [`FastClock`] reads.
pub(crate) trait Source {
    /// Wall time.
    fn wall(&self) -> Timestamp;
    /// A counter that advances evenly. Says whatever it likes where [`is_steady`](Source::is_steady) is false.
    fn ticks(&self) -> u64;
    /// Whether the processor promises that.
    fn is_steady(&self) -> bool;
}

/// Where a client's clocks read: the system's wall clock, the processor's counter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct System;

impl Source for System {
    #[inline(always)]
    fn wall(&self) -> Timestamp {
        sys::WallClock.now()
    }

    #[inline(always)]
    fn ticks(&self) -> u64 {
        sys::ticks()
    }

    fn is_steady(&self) -> bool {
        sys::has_steady_ticks()
    }
}

/// Wall time for a lane, which reads the real clock once in four milliseconds when it is asked often, and every time when
/// not.
///
/// Between two readings the processor's counter is scaled, which takes a third of the time. The real clock is the judge: a
/// reading is carried on for [`WINDOW_MICROS`] of counting and no further, so nothing can drift. The counter's rate is
/// measured, twice with the same result before it is believed, and compared at every reading from then on; once it
/// disagrees (a virtual machine that moved, a processor that slept) it starts again as unknown, and unknown means the real
/// clock. A counter that went backwards, or stopped so long that it is outside the window, means the real clock too.
///
/// What remains is what a thread that was put to sleep between reading the clock and using it sees as well: for the rest of
/// a window, a step of the wall clock is not noticed.
#[derive(Debug)]
pub(crate) struct FastClock<S> {
    /// The counter at the last reading that counting goes on from, and what the real clock said right after.
    base_ticks: u64,
    base: Timestamp,
    /// Ticks from there for which `scale` is used; 0 as long as the rate is not known.
    window: u64,
    /// Microseconds per tick, in units of 2⁻³².
    scale: u64,
    /// The rate as measured once, waiting to be confirmed; 0 if there is none.
    candidate: u64,
    is_steady: bool,
    source: S,
}

impl<S: Source> FastClock<S> {
    pub(crate) fn new(source: S) -> Self {
        let is_steady = source.is_steady();
        Self { base_ticks: 0, base: Timestamp::default(), window: 0, scale: 0, candidate: 0, is_steady, source }
    }

    /// The time now.
    pub(crate) fn now(&mut self) -> Timestamp {
        let ticks = self.source.ticks();
        self.at(ticks)
    }

    /// The time when the counter showed `ticks`, a moment ago: whoever has something else to wait for meanwhile asks the
    /// counter first.
    #[inline(always)]
    fn at(&mut self, ticks: u64) -> Timestamp {
        let since = ticks.wrapping_sub(self.base_ticks);
        if since < self.window {
            // No overflow: the window is four milliseconds' ticks, so the product is below 2³² · 4000 and a little.
            self.base.carried_on(since.wrapping_mul(self.scale) >> 32)
        } else {
            self.read()
        }
    }

    /// Reads the real clock, and the counter once more: the caller may have counted before it was put to sleep, or before
    /// somebody else read the clock. A thread put to sleep between the two below finds itself outside of the window, or at
    /// worst ahead by what is left of it.
    #[cold]
    #[inline(never)]
    fn read(&mut self) -> Timestamp {
        if !self.is_steady {
            return self.source.wall();
        }
        let (ticks, now) = (self.source.ticks(), self.source.wall());
        self.learn(ticks, now);
        now
    }

    /// Compares counter and clock with what they were at the last reading.
    fn learn(&mut self, ticks: u64, now: Timestamp) {
        // Either may have gone backwards; a counter that did is then beyond any bound below.
        let elapsed_ticks = ticks.wrapping_sub(self.base_ticks);
        let elapsed = now.as_unix_micros().checked_sub(self.base.as_unix_micros());
        if self.window != 0 {
            let is_as_expected = match elapsed {
                Some(elapsed) if elapsed <= COMPARED_MICROS_MAX => {
                    let counted = (u128::from(elapsed_ticks) * u128::from(self.scale)) >> 32;
                    counted.abs_diff(u128::from(elapsed)) <= u128::from(100 + elapsed / 32)
                }
                Some(_) => true,
                None => false,
            };
            if !is_as_expected {
                (self.window, self.scale, self.candidate) = (0, 0, 0);
            }
        } else {
            match elapsed {
                // Too early to tell; the old base stays for a longer comparison.
                Some(elapsed) if elapsed < MEASURE_MICROS.start => return,
                Some(elapsed) if MEASURE_MICROS.contains(&elapsed) => self.measure(elapsed_ticks, elapsed),
                _ => self.candidate = 0,
            }
        }
        (self.base_ticks, self.base) = (ticks, now);
    }

    /// Takes a measured rate for the true one if it was measured before.
    fn measure(&mut self, elapsed_ticks: u64, elapsed: u64) {
        let is_plausible = (elapsed..elapsed.saturating_mul(TICKS_PER_MICRO_MAX)).contains(&elapsed_ticks);
        let scale = if is_plausible { (elapsed << 32) / elapsed_ticks } else { 0 };
        let is_confirmed = scale != 0 && scale.abs_diff(self.candidate) <= scale / 64;
        self.candidate = scale;
        if is_confirmed {
            self.scale = scale;
            self.window = (WINDOW_MICROS << 32) / scale;
        }
    }
}

/// A count of the processor's, and the clock that knows which time that was: a lane asks for it last.
pub(crate) struct Ticks<'a> {
    pub(crate) clock: &'a mut FastClock<System>,
    pub(crate) count: u64,
}

impl From<Ticks<'_>> for Timestamp {
    #[inline(always)]
    fn from(Ticks { clock, count }: Ticks<'_>) -> Self {
        clock.at(count)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should stop")]
    use core::cell::Cell;
    use std::rc::Rc;
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    /// 2026-11-23T09:00:00Z, in microseconds.
    const NOW: u64 = 1_795_424_400_000_000;

    /// A machine whose clocks do as they are told.
    #[derive(Clone)]
    struct Machine {
        wall: Rc<Cell<u64>>,
        ticks: Rc<Cell<u64>>,
        per_micro: Rc<Cell<u64>>,
        readings: Rc<Cell<u64>>,
        is_steady: bool,
    }

    impl Source for Machine {
        fn wall(&self) -> Timestamp {
            self.readings.set(self.readings.get() + 1);
            Timestamp::from_unix_micros(self.wall.get())
        }

        fn ticks(&self) -> u64 {
            self.ticks.get()
        }

        fn is_steady(&self) -> bool {
            self.is_steady
        }
    }

    impl Machine {
        fn new(per_micro: u64) -> Self {
            let cell = |value| Rc::new(Cell::new(value));
            // The counter wraps around soon, which must not matter.
            let ticks = u64::MAX - 5_000 * per_micro;
            Self { wall: cell(NOW), ticks: cell(ticks), per_micro: cell(per_micro), readings: cell(0), is_steady: true }
        }

        fn pass(&self, micros: u64) {
            self.wall.set(self.wall.get() + micros);
            self.ticks.set(self.ticks.get().wrapping_add(micros * self.per_micro.get()));
        }

        /// Asks `times` times, `micros` apart; returns the largest error seen.
        fn ask(&self, clock: &mut FastClock<Machine>, times: u64, micros: u64) -> u64 {
            (0..times)
                .map(|_| {
                    self.pass(micros);
                    clock.now().as_unix_micros().abs_diff(self.wall.get())
                })
                .max()
                .unwrap()
        }

        fn readings_in(&self, clock: &mut FastClock<Machine>, times: u64, micros: u64) -> u64 {
            let before = self.readings.get();
            assert!(self.ask(clock, times, micros) <= 1_000);
            self.readings.get() - before
        }
    }

    #[test]
    fn a_busy_lane_reads_the_clock_once_in_four_milliseconds() {
        for per_micro in [1, 24, 1_000, 2_750, 5_000] {
            let machine = Machine::new(per_micro);
            let mut clock = FastClock::new(machine.clone());
            assert_eq!(machine.ask(&mut clock, 1_000, 1), 0, "exact while it learns");
            assert!(machine.ask(&mut clock, 100_000, 1) <= 2, "{per_micro} ticks per µs");
            let readings = machine.readings_in(&mut clock, 100_000, 1);
            assert!((24..=27).contains(&readings), "{per_micro} ticks per µs: {readings}");
        }
    }

    #[test]
    fn an_idle_lane_is_always_exact() {
        let machine = Machine::new(3_000);
        let mut clock = FastClock::new(machine.clone());
        machine.ask(&mut clock, 5_000, 1);
        assert_eq!(machine.ask(&mut clock, 1_000, 4_400), 0);
        assert_eq!(machine.readings_in(&mut clock, 100, 60_000_000), 100);
    }

    /// Threads count before they enter a lane, and may be put to sleep before they do.
    #[test]
    fn a_count_that_was_taken_long_ago_says_nothing_about_the_rate_or_later_times() {
        let machine = Machine::new(3_000);
        let mut clock = FastClock::new(machine.clone());
        machine.ask(&mut clock, 5_000, 1);
        for late in [1, 100, 1_000, 3_999, 1_000_000] {
            // Another thread reads the clock meanwhile.
            machine.pass(5_000);
            let count = machine.ticks.get();
            machine.pass(late);
            clock.now();
            assert_eq!(clock.at(count).as_unix_micros(), machine.wall.get(), "{late} µs late");
            assert!(machine.readings_in(&mut clock, 1_000, 1) <= 1, "{late} µs late: the rate is still known");
            // Nobody does.
            machine.pass(5_000);
            let count = machine.ticks.get();
            machine.pass(late);
            assert_eq!(clock.at(count).as_unix_micros(), machine.wall.get(), "{late} µs late");
            assert!(machine.ask(&mut clock, 1_000, 1) <= 2, "{late} µs late");
        }
    }

    #[test]
    fn without_a_steady_counter_every_answer_is_a_reading() {
        let machine = Machine { is_steady: false, ..Machine::new(3_000) };
        let mut clock = FastClock::new(machine.clone());
        assert_eq!(machine.readings_in(&mut clock, 10_000, 1), 10_000);
    }

    #[test]
    fn a_counter_that_stands_still_or_runs_backwards_is_not_used() {
        for per_micro in [0, u64::MAX, u64::MAX - 3_000] {
            let machine = Machine::new(3_000);
            machine.per_micro.set(1);
            let mut clock = FastClock::new(machine.clone());
            for _ in 0..10_000 {
                machine.wall.set(machine.wall.get() + 1);
                machine.ticks.set(machine.ticks.get().wrapping_add(per_micro));
                assert_eq!(clock.now().as_unix_micros(), machine.wall.get());
            }
        }
    }

    /// A virtual machine that moves to another processor, one that is put aside, a wall clock that is set.
    #[test]
    fn whatever_happens_is_noticed_within_two_windows() {
        type Change = fn(&Machine);
        let changes: [(&str, Change); 8] = [
            ("twice as fast", |machine| machine.per_micro.set(6_000)),
            ("half as fast", |machine| machine.per_micro.set(1_500)),
            ("a counter set to zero", |machine| machine.ticks.set(0)),
            ("a counter set back a little", |machine| machine.ticks.set(machine.ticks.get().wrapping_sub(90_000))),
            ("a counter set ahead", |machine| machine.ticks.set(machine.ticks.get().wrapping_add(1 << 40))),
            ("an hour's sleep that the counter missed", |machine| machine.wall.set(machine.wall.get() + 3_600_000_000)),
            ("a wall clock set back", |machine| machine.wall.set(machine.wall.get() - 3_600_000_000)),
            ("a wall clock set ahead by 20 ms", |machine| machine.wall.set(machine.wall.get() + 20_000)),
        ];
        for (name, change) in changes {
            let machine = Machine::new(3_000);
            let mut clock = FastClock::new(machine.clone());
            machine.ask(&mut clock, 5_000, 1);
            change(&machine);
            // What is left of a window may be too little to notice in; the next one, eight milliseconds at half the rate, is
            // not.
            machine.ask(&mut clock, 16_000, 1);
            assert!(machine.ask(&mut clock, 20_000, 1) <= 40, "{name}");
            let readings = machine.readings_in(&mut clock, 100_000, 1);
            assert!(readings <= 27, "{name}: fast again, {readings} readings");
        }
    }

    #[test]
    fn rates_that_two_measurements_disagree_about_are_not_believed() {
        let machine = Machine::new(3_000);
        let mut clock = FastClock::new(machine.clone());
        for step in 0..50_000 {
            // Another rate each time that a measurement ends.
            machine.per_micro.set(if step / 500 % 2 == 0 { 1_000 } else { 3_000 });
            assert_eq!(machine.ask(&mut clock, 1, 1), 0);
        }
    }

    #[test]
    fn the_real_one_is_within_five_milliseconds_of_the_exact_one() {
        let mut clock = FastClock::new(System);
        // Long enough to learn the counter's rate, where there is a counter.
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_millis(10) {
            clock.now();
        }
        // Other programs may take the processor between two readings, so the best of many counts.
        let error = || {
            let exact = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            exact.abs_diff(Duration::from_micros(clock.now().as_unix_micros()))
        };
        let best = core::iter::repeat_with(error).take(10_000).min().unwrap();
        assert!(best <= Duration::from_millis(5), "{best:?}");
    }
}
