//! The highest rate at which nothing is lost.
//!
//! In: options. Out: a line per try on the error output, and the report of the best. Doubles while all goes well, then
//! halves the interval until it is narrow. A rate counts if it was *held*: nothing lost, nothing left behind that would
//! have grown, and the producers themselves kept to their schedule.

use crate::args::Args;
use crate::report;
use crate::run::{self, Shot};
use crate::ticks::Scale;
use crate::{Failure, usage};

/// Where to stop: the best rate is known to this share of itself.
const PRECISION: f64 = 0.03;

/// What may still be queued at the end, as a share of the run's length. More means that delivery fell behind.
const BACKLOG: f64 = 0.05;

/// Tries of one rate. Other programs, and a machine's own turbulence, may spoil one.
const TRIES: usize = 2;

pub(crate) fn highest(args: &Args, scale: Scale) -> Result<(), Failure> {
    eprintln!(
        "{:>12}  {:>12}  {:>10}  {:>9}  held  (load {})",
        "asked for",
        "delivered",
        "lost",
        "drained",
        usage::load()
    );
    let (mut good, mut bad) = (0, None);
    let mut best = None;
    let mut rate = if args.rate == 0 { 1_000_000 } else { args.rate };
    while bad.is_none_or(|bad: u64| ((bad - good) as f64) > PRECISION * bad as f64) && rate > 0 {
        match held(args, scale, rate)? {
            Some(shot) => (good, best) = (rate, Some((rate, shot))),
            None => bad = Some(rate),
        }
        rate = bad.map_or(good * 2, |bad| good.midpoint(bad));
    }
    let Some((rate, shot)) = best else { return Err("no rate was held".into()) };
    eprintln!();
    report::print(&Args { rate, ..args.clone() }, scale, &shot);
    Ok(())
}

fn held(args: &Args, scale: Scale, rate: u64) -> Result<Option<Shot>, Failure> {
    for _ in 0..TRIES {
        let shot = run::once(&Args { rate, ..args.clone() }, scale)?;
        let (firing, draining) = (shot.firing.as_secs_f64(), shot.draining.as_secs_f64());
        let in_time = firing <= args.seconds * (1.0 + BACKLOG) && draining <= args.seconds * BACKLOG;
        let is_held = shot.is_lossless() && in_time;
        eprintln!(
            "{:>10}/s  {:>10}/s  {:>10}  {:>6.1} ms  {}",
            report::millions(rate as f64),
            report::millions(shot.delivered_per_second()),
            shot.offered.saturating_sub(shot.stats.delivered),
            draining * 1e3,
            if is_held { "yes" } else { "no" },
        );
        if is_held {
            return Ok(Some(shot));
        }
    }
    Ok(None)
}
