//! The statistics: three lines that stay where they are on a terminal, one line now and then in a log.
//!
//! In: the counters of the intake and the client. Out: text on standard error.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quillet::Stats;

use crate::intake::{Intake, Tally};

/// Between two lines in a log.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// What was shown, and where.
pub struct Status {
    on_terminal: bool,
    shown: Instant,
    accepted: u64,
    delivered: u64,
    is_first: bool,
}

impl Status {
    pub fn new() -> Self {
        let on_terminal = io::stderr().is_terminal();
        Self { on_terminal, shown: Instant::now(), accepted: 0, delivered: 0, is_first: true }
    }

    /// Shows how things are: on a terminal always, in a log if the time has come or it is the last time.
    pub fn show(&mut self, intake: &Intake, devices: usize, is_last: bool) {
        let since = self.shown.elapsed();
        if !self.on_terminal && !is_last && since < LOG_INTERVAL {
            return;
        }
        let (stats, tally) = (intake.client().stats(), &intake.tally);
        let accepted = tally.accepted.load(Ordering::Relaxed);
        let rates = [accepted - self.accepted, stats.delivered.saturating_sub(self.delivered)]
            .map(|count| per_second(count, since));
        (self.shown, self.accepted, self.delivered) = (Instant::now(), accepted, stats.delivered);
        let lines = lines(devices, tally, &stats, rates);
        if !self.on_terminal {
            return eprintln!("{}", lines.join(" | "));
        }
        // Up to the first of the lines from before, and over them.
        let up = if self.is_first { String::new() } else { format!("\x1b[{}A", lines.len()) };
        self.is_first = false;
        eprintln!("{up}\x1b[2K{}", lines.join("\n\x1b[2K"));
    }
}

fn per_second(count: u64, since: Duration) -> f64 {
    count as f64 / since.as_secs_f64().max(0.001)
}

/// Each shorter than a terminal is wide, as long as the counts are.
fn lines(devices: usize, tally: &Tally, stats: &Stats, [accepted, delivered]: [f64; 2]) -> [String; 3] {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    [
        format!("{devices} devices, {accepted:.0} accepted/s, {delivered:.0} delivered/s"),
        format!(
            "in: accepted {} repeated {} malformed {} refused {} later {}",
            count(&tally.accepted),
            count(&tally.repeated),
            count(&tally.malformed),
            count(&tally.refused),
            count(&tally.later)
        ),
        format!(
            "out: delivered {} rejected {} dropped {} pending {} spooled {} recovered {}",
            stats.delivered,
            stats.rejected,
            stats.dropped_total(),
            stats.pending,
            stats.spooled,
            stats.recovered
        ),
    ]
}
