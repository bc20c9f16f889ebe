//! What a piece of work costs, by every measure there is: time, instructions, allocations, bytes.
//!
//! In: [`Case`]s. Out: a [`Row`] for each. The cases take turns, burst by burst, so that whatever disturbs the machine
//! disturbs all of them alike: the figures of one run can be compared, those of two runs only by their ratios.
//!
//! Instructions are counted by valgrind, in a child process: the same program, told by `--probe` to run one case. They
//! repeat to the instruction, whatever else the machine does. Two things they leave out: what the kernel does, and the
//! clock, because valgrind hides the kernel's shared page from the program, and reading the time becomes a system call.

mod instructions;
mod row;

use std::time::Instant;

pub use instructions::{Counted, PROBE, count, probe};
pub use row::{Row, from_json, svg, table, to_json};

use crate::alloc::allocations_in;

/// Calls in a burst: short enough for every ring here, long enough to hide the two looks at the clock around it.
pub const BURST: u64 = 500;

/// Bursts of each case. The median of so many is steady on a busy machine too.
const ROUNDS: usize = 201;

/// Something to measure.
pub struct Case<'a> {
    name: &'static str,
    bytes: usize,
    warm_up: u64,
    work: Box<dyn FnMut(u64) + 'a>,
    rest: Box<dyn FnMut() + 'a>,
}

impl<'a> Case<'a> {
    /// `work` does it as often as it is told. `bytes` is what one time produces.
    pub fn new(name: &'static str, bytes: usize, work: impl FnMut(u64) + 'a) -> Self {
        Self { name, bytes, warm_up: 1, work: Box::new(work), rest: Box::new(|| {}) }
    }

    /// `rest` runs after each burst, off the clock: it empties what the burst filled.
    #[must_use]
    pub fn with_rest(self, rest: impl FnMut() + 'a) -> Self {
        Self { rest: Box::new(rest), ..self }
    }

    /// Before instructions are counted, `rounds` bursts: for what takes some real time to become what it stays, as a clock
    /// that learns the rate of the processor's counter.
    #[must_use]
    pub fn with_warm_up(self, rounds: u64) -> Self {
        Self { warm_up: rounds, ..self }
    }

    /// What it is called.
    pub fn name(&self) -> &'static str {
        self.name
    }

    fn burst(&mut self) {
        (self.work)(BURST);
        (self.rest)();
    }
}

/// Measures everything but instructions, which [`count`] adds.
///
/// Allocations are counted if the program runs under [`CountingAllocator`](crate::CountingAllocator).
pub fn measure(cases: &mut [Case<'_>]) -> Vec<Row> {
    let mut times: Vec<Vec<f64>> = cases.iter().map(|_| Vec::with_capacity(ROUNDS)).collect();
    cases.iter_mut().for_each(Case::burst);
    for _ in 0..ROUNDS {
        for (case, times) in cases.iter_mut().zip(&mut times) {
            // Once for the caches, which the case before has filled with its own.
            case.burst();
            let started = Instant::now();
            (case.work)(BURST);
            times.push(started.elapsed().as_nanos() as f64 / BURST as f64);
            (case.rest)();
        }
    }
    let rows = cases.iter_mut().zip(times).map(|(case, mut times)| {
        times.sort_unstable_by(f64::total_cmp);
        let (counts, ()) = allocations_in(|| (case.work)(BURST));
        (case.rest)();
        Row {
            name: case.name.to_owned(),
            ns: times.get(times.len() / 2).copied().unwrap_or(f64::NAN),
            instructions: None,
            allocations: counts.allocations as f64 / BURST as f64,
            bytes: case.bytes,
        }
    });
    rows.collect()
}

/// A number for people, its thousands set apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
